//! Cutting and defusing text for Slack.
//!
//! Slack counts characters as its web client does, in UTF-16 units; counting so is never too
//! generous for an interface that counts code points.

use crate::domain::redact::is_invisible;

/// Ends text that was cut.
pub(super) const CUT: &str = "… [cut]";

/// At most `limit` UTF-16 units, with a visible mark when something was left out.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if units(text) <= limit {
        return text.to_string();
    }
    let room = limit.saturating_sub(units(CUT));
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        used += letter.len_utf16();
        if used > room {
            break;
        }
        kept.push(letter);
    }
    kept.push_str(CUT);
    kept
}

pub(super) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Drops what could hide or reorder text on the screen: control, bidirectional and tag characters.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .filter(|letter| match letter {
            '\n' | '\t' => true,
            '\u{2028}' | '\u{2029}' => false,
            other => !other.is_control() && !is_invisible(*other),
        })
        .collect()
}

/// For places where mrkdwn cannot be avoided: nothing in the result is markup, a mention, a link
/// or an address that a client would turn into a link by itself.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    let mut rest = clean(text).replace("://", ":\u{2060}//");
    rest = rest.replace("www.", "www\u{2024}");
    for letter in rest.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // Looks alike and closes nothing.
            '`' => safe.push('\u{02cb}'),
            '*' => safe.push('\u{2217}'),
            '@' => safe.push_str("@\u{2060}"),
            other => safe.push(other),
        }
    }
    safe
}

/// `escape`, cut so that the escaped form keeps the limit and no entity is cut in two.
pub(super) fn escape_within(text: &str, limit: usize) -> String {
    let whole = escape(text);
    if units(&whole) <= limit {
        return whole;
    }
    let room = limit.saturating_sub(units(CUT));
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let piece = escape(letter.encode_utf8(&mut [0; 4]));
        used += units(&piece);
        if used > room {
            break;
        }
        kept.push_str(&piece);
    }
    // Letter by letter, an address is not seen; break it afterwards at no cost in entities.
    kept = kept.replace("://", ":∕∕").replace("www.", "www\u{2024}");
    kept.push_str(CUT);
    kept
}

/// What a person typed, as they typed it: Slack delivers `& < >` as entities.
pub(super) fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_loses_its_markup() {
        let safe = escape("<!channel> <@U1> @here `x` *b* https://evil.test/?a&b \u{202e}drow www.evil.test");
        for markup in ["<", ">", "`", "*", "@here", "://", "\u{202e}", "www."] {
            assert!(!safe.contains(markup), "{markup} in {safe}");
        }
    }

    #[test]
    fn cutting_keeps_the_limit_and_entities_whole() {
        for limit in 8..40 {
            let safe = escape_within(&"a<&😀".repeat(30), limit);
            assert!(units(&safe) <= limit, "{limit}: {safe}");
            assert!(!safe.trim_end_matches(CUT).ends_with("&l"), "{safe}");
            assert!(units(&cut(&"😀".repeat(30), limit)) <= limit);
        }
    }
}
