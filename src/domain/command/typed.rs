//! What people type, as phones and chats send it: one door for all of it, before anything is read.
//!
//! Invariant: what has come through the door is not changed when it comes through again.

use super::parse::at_word;

/// Without the chat's wrappers around links, people and channels, without the marks that only format, and
/// with straight quotes.
pub fn plain(text: &str) -> String {
    let straight = text.chars().filter_map(|char| match char {
        // Phones write typographic quotes, which no matcher knows.
        '“' | '”' | '„' | '«' | '»' => Some('"'),
        '‘' | '’' | '‚' => Some('\''),
        '`' => None,
        other => Some(other),
    });
    let mut text: String = straight.collect();
    loop {
        let next = unwrapped(&text);
        // What is unwrapped is shorter, so that this ends.
        if next == text {
            return text;
        }
        text = next;
    }
}

/// `<http://shop.io|shop.io>` is what was typed as `shop.io`.
fn unwrapped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        plain.push_str(&rest[..start]);
        let behind = &rest[start + 1..];
        let end = behind.find(['<', '>', '\n']).filter(|end| behind[*end..].starts_with('>'));
        match end.and_then(|end| Some((end, label(&behind[..end])?))) {
            Some((end, label)) => {
                plain.push_str(&label);
                rest = &behind[end + 1..];
            }
            None => {
                plain.push('<');
                rest = behind;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// What stands within the angle brackets as a person would write it; `None`: no wrapper of a chat.
fn label(inside: &str) -> Option<String> {
    let (what, label) = inside.split_once('|').map_or((inside, None), |(what, label)| (what, Some(label)));
    let label = label.filter(|label| !label.trim().is_empty());
    if ["http://", "https://", "mailto:", "tel:"].iter().any(|scheme| what.starts_with(scheme)) {
        return Some(label.unwrap_or(what).to_owned());
    }
    match (what.get(..2)?, label) {
        // People stay as the chat names them: two may have one name.
        ("@U" | "@W", Some(_)) => Some(format!("<{what}>")),
        ("#C" | "#G", Some(label)) => Some(format!("#{}", label.trim_start_matches('#'))),
        _ if what.starts_with("!subteam^") => label.map(str::to_owned),
        _ => None,
    }
}

/// Without what a sentence puts behind its last word; `?` alone stays, it is a word here.
pub fn bare(word: &str) -> &str {
    match word.trim_end_matches(['.', ',', ';', ':', '!', '?']) {
        "" => word,
        bare => bare,
    }
}

/// Courtesy that belongs to no command.
const POLITE: [&str; 5] = ["please", "pls", "now", "thanks", "thx"];

/// Without courtesies and marks at the end.
pub(super) fn without_courtesy(text: &str) -> &str {
    let mut text = text.trim();
    loop {
        let at = text.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        // The blank may be wider than a byte.
        let at = (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let last = bare(&text[at..]);
        match POLITE.iter().any(|polite| last.eq_ignore_ascii_case(polite)) {
            true => text = text[..at].trim_end(),
            false => return &text[..at + last.len()],
        }
    }
}

/// What stands for the incident in whose thread it is said.
const THIS: [&str; 7] = ["", "it", "this", "this one", "that", "this incident", "the incident"];

/// `close because it works again`, `resolve this`: in the thread of an incident, the reason to close that one,
/// which may be missing.
pub fn closes_this(text: &str) -> Option<String> {
    let text = plain(text);
    let text = text.trim();
    let text = text.strip_prefix("/ops").unwrap_or(text).trim();
    let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (what, because) = at_word(rest, "because").unwrap_or((without_courtesy(rest), ""));
    let what = what.split_whitespace().map(bare).collect::<Vec<_>>().join(" ").to_lowercase();
    let is_this = THIS.contains(&what.as_str());
    (super::Verb::named(bare(verb)) == Some(super::Verb::Close) && is_this).then(|| because.to_owned())
}

/// `ack`, `mine`, `I have it`: in the thread of an incident they can only mean that one.
pub fn takes_this(text: &str) -> bool {
    // Not `got it`: that may mean that an answer was understood, and this ends all calls.
    const SAID: &str = "mine|its mine|this is mine|i have it|i have this|i have got it|ive got it|ive got this|\
                        i got this|i take it|ill take it|i will take it|on it|im on it|i am on it|i own it|\
                        im looking into it|i am looking into it";
    let text = plain(text).replace('\'', "").to_lowercase();
    let text = text.trim();
    let text = without_courtesy(text.strip_prefix("/ops").unwrap_or(text)).trim();
    let text = text.strip_prefix("please ").unwrap_or(text);
    let words = text.split_whitespace().map(bare).collect::<Vec<_>>().join(" ");
    let (verb, rest) = words.split_once(' ').unwrap_or((words.as_str(), ""));
    let is_this = THIS.contains(&rest);
    SAID.split('|').any(|said| said == words) || (super::Verb::named(verb) == Some(super::Verb::Take) && is_this)
}

/// A value in single quotes, which matchers do not know, stands in double ones.
pub(super) fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut within, mut escaped, mut before) = (text, false, false, ' ');
    while let Some(char) = rest.chars().next() {
        let behind = &rest[char.len_utf8()..];
        let value = (char == '\'' && !within && "=~".contains(before)).then(|| single_quoted(behind)).flatten();
        if let Some(value) = value {
            quoted.push('"');
            quoted.push_str(value);
            quoted.push('"');
            rest = &behind[value.len() + 1..];
            before = '"';
            continue;
        }
        match char {
            _ if escaped => escaped = false,
            '\\' if within => escaped = true,
            '"' => within = !within,
            _ => {}
        }
        quoted.push(char);
        (before, rest) = (char, behind);
    }
    quoted
}

/// Up to the closing quote, when it closes a whole value.
fn single_quoted(text: &str) -> Option<&str> {
    let (value, behind) = text.split_once('\'')?;
    let is_whole = behind.chars().next().is_none_or(|next| next.is_whitespace() || ",}".contains(next));
    (is_whole && !value.contains(['"', '\\', '\n'])).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_chats_and_phones_put_around_words_is_taken_off() {
        for (sent, typed) in [
            ("diagnose <http://mailer.shop|mailer.shop>", "diagnose mailer.shop"),
            (
                "silence instance=<http://web-1.shop.io:9100|web-1.shop.io:9100> 1h x",
                "silence instance=web-1.shop.io:9100 1h x",
            ),
            ("see <https://wiki.example/a?b=c>", "see https://wiki.example/a?b=c"),
            ("<mailto:ada@shop.io|ada@shop.io>", "ada@shop.io"),
            ("handover 1 to <@U123|ada>", "handover 1 to <@U123>"),
            ("handover 1 to <@U123>", "handover 1 to <@U123>"),
            ("in <#C1|ops>", "in #ops"),
            ("a < b and c > d <= e", "a < b and c > d <= e"),
            ("ack `INC-1`", "ack INC-1"),
            ("“a” ‘b’ it’s", "\"a\" 'b' it's"),
        ] {
            assert_eq!(plain(sent), typed);
        }
    }

    #[test]
    fn a_value_in_single_quotes_stands_in_double_ones() {
        for (text, expected) in [
            ("service='x' 1h it's late", "service=\"x\" 1h it's late"),
            ("service=~'x|y', a='b c' 1h", "service=~\"x|y\", a=\"b c\" 1h"),
            ("a=\"x='y'\" 1h", "a=\"x='y'\" 1h"),
            ("a='b\"c' 1h", "a='b\"c' 1h"),
            ("a='b", "a='b"),
        ] {
            assert_eq!(double_quoted(text), expected);
        }
    }

    #[test]
    fn who_says_that_it_is_theirs() {
        for text in [
            "ack",
            "Ack!",
            "take",
            "take it please",
            "mine",
            "I have it.",
            "I’ve got it",
            "on it",
            "/ops ack",
            "claim this",
        ] {
            assert!(takes_this(text), "{text}");
        }
        for text in
            ["take INC-2", "who has it?", "is it mine", "why?", "ack INC-1", "take a look", "got it, thanks", ""]
        {
            assert!(!takes_this(text), "{text}");
        }
        for (text, reason) in [
            ("close because it works again", Some("it works again")),
            ("Resolve this, because of the cable", Some("of the cable")),
            ("/ops close it", Some("")),
            ("close", Some("")),
            ("close please", Some("")),
            ("close INC-2 because x", None),
            ("close the valve because x", None),
            ("is it resolved?", None),
        ] {
            assert_eq!(closes_this(text).as_deref(), reason, "{text}");
        }
        assert_eq!(without_courtesy("INC-1 please, now!"), "INC-1");
        assert_eq!(without_courtesy("please"), "");
    }

    proptest! {
        #[test]
        fn twice_through_the_door_is_once(text in "\\PC{0,40}") {
            let once = plain(&text);
            prop_assert_eq!(plain(&once), once.clone());
            let quoted = double_quoted(&once);
            prop_assert_eq!(double_quoted(&quoted), quoted.clone());
            let _ = (takes_this(&text), closes_this(&text), without_courtesy(&text), bare(&text));
        }
    }
}
