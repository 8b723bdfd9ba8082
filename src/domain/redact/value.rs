//! Where a value ends, and whether it can be a secret.

use std::sync::LazyLock;

use regex::Regex;

use super::keyed::{Key, SECRET, is_ideographic};
use super::words::{self, Sense};
use super::{Found, compiled, shape};

/// How a value was joined to its key: the looser, the more it must look like a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Quoted,
    /// `key=value`
    Sign,
    /// `key: value`, which is also prose.
    Colon,
    /// `--key value`
    Flag,
    /// `key%3Dvalue`
    Encoded,
    /// Of a header.
    Token,
    NextLine {
        deeper: bool,
    },
}

/// What follows a key in prose and is no secret, though the key is a strong one.
const PROSE: &str = "\
    a an and are as at auth authentication authorization bad be been both but by can cannot check closed could \
    created deleted denied does doesn empty error err exists expected expired expires failed failure for found \
    from get given got has have if in incorrect invalid is it its length login malformed manual mismatch missing \
    must need needs new no not nothing of ok old only optional or our please present provided read received \
    refresh refused required requested reset revoked rotate rotated see set should some string succeeded success \
    than that the their then there this to too type unable unauthorized unexpected unknown unset updated use \
    used user using valid wait was we were when which will with wrong you your und oder ist nicht falsch wurde \
    der die das el la le les est es incorrecta eof int bool str bytes object";

/// The value's span, or nothing where there is none.
pub fn read(text: &str, start: usize, quote: Option<&str>, written: Written) -> Option<(usize, usize)> {
    if near(text, start, 1).starts_with(super::shadow::BLANK) {
        return None;
    }
    let end = match quote {
        Some(quote) => quoted(text, start, quote),
        None => start + bare(near(text, start, WORD), written),
    };
    (end > start).then_some((start, end))
}

/// How far the end of a value is looked for, in bytes: keys and tokens have some KiB.
pub const REACH: usize = 8192;

/// How much of a word is judged, in bytes. A line of nothing but keys costs that much for each.
pub const WORD: usize = 512;

/// What follows, but not all of a line without an end, that many keys in it take no time squared.
pub fn near(text: &str, start: usize, bytes: usize) -> &str {
    let end = start.saturating_add(bytes).min(text.len());
    (end..=text.len()).find_map(|end| text.get(start..end)).unwrap_or_default()
}

/// Up to the closing quote, which is escaped as the opening one is; an open quote ends with its line.
pub fn quoted(text: &str, start: usize, quote: &str) -> usize {
    let rest = near(text, start, REACH);
    let limit =
        if quote.len() >= 3 && !quote.contains('\\') { rest.len() } else { rest.find('\n').unwrap_or(rest.len()) };
    let mut from = 0;
    while let Some(at) = rest.get(from..limit).and_then(|rest| rest.find(quote)) {
        let slashes = rest[..from + at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        // Escaped once more within a string that is itself escaped: `\"a\\\"b\"`.
        if slashes == 0 || slashes % 2 == 0 && !quote.starts_with('\\') {
            return start + from + at;
        }
        from += at + quote.len();
    }
    start + bare(&rest[..limit], Written::Sign)
}

/// What was judged by its beginning goes on to the end of the word; only a secret is read so far, and
/// none of it twice.
pub fn whole(text: &str, start: usize, end: usize) -> usize {
    // What stands at the cut may have been trimmed.
    if end - start + 16 < WORD {
        return end;
    }
    let ends = |char: char| char.is_whitespace() || char == super::shadow::BLANK || "\"'`<>,;&)]}\\".contains(char);
    let rest = text.get(end..).unwrap_or_default();
    end + rest.find(ends).unwrap_or(rest.len())
}

pub fn bare(rest: &str, written: Written) -> usize {
    static ANOTHER: LazyLock<Option<Regex>> =
        LazyLock::new(|| compiled(r#"^[,;&|][ \t]*(?:["'`]?[A-Za-z_][\w. -]{0,40}["'`]?[=:]|$|[\s"'`)}\]])"#));
    let closes = |at: usize| {
        rest[at + 1..].chars().next().is_none_or(|next| next.is_whitespace() || ",;:.)}]'\"`<\\".contains(next))
    };
    for (at, char) in rest.char_indices() {
        let ends = match char {
            _ if char.is_whitespace() || char == super::shadow::BLANK => true,
            '"' | '\'' | '`' => written != Written::Flag || at > 0,
            '<' => rest[at..].starts_with("</") || written == Written::Token,
            '\\' => rest[at + 1..].starts_with(['n', 'r', 't', '"', '\'', '\\', 'u']),
            '%' => {
                written == Written::Encoded
                    && ["%26", "%22", "%2C", "%7D", "%20"].iter().any(|end| rest[at..].starts_with(end))
            }
            ')' | ']' | '}' => closes(at),
            ',' | ';' | '&' => ANOTHER.as_ref().is_some_and(|another| another.is_match(&rest[at..])),
            '。' | '，' | '；' | '）' => true,
            _ => is_ideographic(char),
        };
        if ends {
            return rest[..at].trim_end_matches(['.', ',', ';', ':']).len();
        }
    }
    rest.trim_end_matches(['.', ',', ';', ':']).len()
}

/// The lines of a YAML block that are deeper than their key.
pub fn block(text: &str, key: usize, at: usize) -> Option<(usize, usize)> {
    let outer = indent(text, key);
    let mut end = at;
    for line in text.get(at..)?.split_inclusive('\n') {
        let inner = line.len() - line.trim_start_matches([' ', '\t', '+']).len();
        if !line.trim().is_empty() && inner <= outer {
            break;
        }
        end += line.len();
    }
    let block = text.get(at..end)?;
    let start = at + block.len() - block.trim_start().len();
    let end = at + block.trim_end().len();
    (start < end && !text[start..].starts_with(super::shadow::BLANK)).then_some((start, end))
}

/// Of the line up to here.
pub fn indent(text: &str, at: usize) -> usize {
    let line = text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
    line.len() - line.trim_start_matches([' ', '\t', '+']).len()
}

pub fn deeper(text: &str, key: usize, value: usize) -> bool {
    indent(text, value) > indent(text, key)
}

pub fn holds(value: &str, sense: Sense, written: Written) -> bool {
    let value = value.trim();
    if value.is_empty() || shape::is_placeholder(value) {
        return false;
    }
    let lower = value.to_lowercase();
    let word = lower.trim_end_matches(|char: char| !char.is_alphanumeric());
    if words::is_in(PROSE, word) || written != Written::Quoted && value.ends_with('(') {
        return false;
    }
    let number = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/' | b'%'));
    let pair = || value.len() >= 8 && shape::decoded(value).is_some_and(|plain| plain.contains(':'));
    let looks = |at_least| {
        pair() || shape::is_random(value, at_least) || shape::is_hex(value, 16) || shape::is_gibberish(value)
    };
    if let Written::NextLine { deeper } = written
        && !(deeper && !value.contains(['=', ':']) || looks(6))
    {
        return false;
    }
    match sense {
        Sense::Hint => looks(8) && !shape::is_uuid(value),
        Sense::Secret | Sense::Header | Sense::Cookie => {
            // Secrets are also files, objects and addresses.
            let named = (value.contains('/') || value.starts_with('.'))
                && shape::is_harmless(value)
                && !shape::is_hex(value, 16)
                || value.contains("://");
            let plain =
                written == Written::Colon && value.len() <= 24 && value.bytes().all(|byte| byte.is_ascii_alphabetic());
            let short = value.len() < if number { 6 } else { 4 };
            !(short || named || plain)
        }
        Sense::Password => {
            let path = value.starts_with('/') && value[1..].contains('/') && shape::is_harmless(value);
            let short = value.len() < if number { 4 } else { 3 };
            !(short || path || value.starts_with("://"))
        }
    }
}

/// `old -> new`
pub fn replaced_by(text: &str, at: usize) -> Option<(usize, usize)> {
    static ARROW: LazyLock<Option<Regex>> =
        LazyLock::new(|| compiled(r#"^\\*["'`]?[ \t]*(?:->|=>|→|\bto\b)[ \t]*(?P<quote>\\*["'`])?"#));
    let rest = text.get(at..)?;
    let arrow = ARROW.as_ref()?.captures(rest)?;
    let quote = arrow.name("quote").map(|quote| quote.as_str());
    let start = at + arrow.get(0)?.end();
    let (start, end) = read(text, start, quote, Written::Sign)?;
    holds(&text[start..end], Sense::Password, Written::Colon).then_some((start, end))
}

/// Prose: `the password for the admin is Foo12bar`, `use token x`, `密码是x`.
pub fn told(text: &str, key: &Key, found: &mut Vec<Found>) {
    const WORDS: usize = 8;
    const VERBS: &[&str] = &[
        "is", "are", "was", "be", "to", "now", "ist", "lautet", "sind", "war", "es", "est", "e", "jest", "ar", "är",
        "=", ":", "->", "=>", "from", "von", "auf", "with", "mit", "este", "é", "è", "это", "son", "sono", "becomes",
        "wurde", "as",
    ];
    let rest = near(text, key.end, 600);
    if key.sense == Sense::Hint && !has_long_word(rest) {
        return;
    }
    if key.touches
        && let Some((start, end)) = touching(rest)
    {
        if holds(&rest[start..end], key.sense.max(Sense::Secret), Written::Sign) {
            found.push(Found { start: key.end + start, end: key.end + end, mark: SECRET });
        }
        return;
    }
    let (mut told, mut verb) = (false, false);
    let mut at = 0;
    for (number, word) in rest.split_inclusive([' ', '\t', '\n']).take(WORDS).enumerate() {
        let start = at;
        // Over the end of a line only from `the password is`.
        if number > 0 && !verb && rest[..at].ends_with('\n') {
            break;
        }
        at += word.len();
        let trimmed = word.trim_end();
        let core = trimmed.trim_matches(|char: char| "\"'`()[]{}<>,;:!?*“”".contains(char)).trim_end_matches('.');
        if core.contains(super::shadow::BLANK) {
            break;
        }
        let quoted =
            core.len() >= 3 && trimmed.len() > core.len() + 1 && trimmed.starts_with(['"', '\'', '`', '<', '*']);
        let worth = quoted || core.len() >= 5 && core.bytes().any(|byte| !byte.is_ascii_alphabetic());
        if number > 0 && worth && is_told(core, key.sense, told, quoted, verb) {
            let from = key.end + start + trimmed.find(core).unwrap_or_default();
            // An exclamation mark may end a password as well as a sentence.
            let to = from
                + core.len()
                + trimmed[trimmed.find(core).unwrap_or_default() + core.len()..]
                    .bytes()
                    .take_while(|byte| *byte == b'!')
                    .count();
            found.push(Found { start: from, end: to, mark: SECRET });
            continue;
        }
        verb = VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(trimmed));
        told |= verb || trimmed.ends_with([':', '=']);
        let sentence = trimmed.ends_with(['.', ';', '!', '?']) && number > 0;
        if sentence {
            break;
        }
    }
}

/// A hint needs a value of 12 characters with a digit; most lines have none.
fn has_long_word(rest: &str) -> bool {
    let near = &rest.as_bytes()[..rest.len().min(200)];
    near.split(u8::is_ascii_whitespace).any(|word| word.len() >= 12 && word.iter().any(u8::is_ascii_digit))
}

fn is_told(core: &str, sense: Sense, told: bool, quoted: bool, verb: bool) -> bool {
    if core.starts_with(super::shadow::BLANK)
        || shape::is_placeholder(core)
        || core.contains("://")
        || core.contains(['"', '[', ']', '(', ')', '{', '<', '`'])
        || core.contains('=') && !core.ends_with('=')
    {
        return false;
    }
    match sense {
        Sense::Hint => {
            shape::is_gibberish(core) || told && shape::is_random(core, 12) || verb && shape::is_hex(core, 32)
        }
        _ => {
            let digits = core.bytes().any(|byte| byte.is_ascii_digit());
            let harmless = shape::is_harmless(core);
            shape::is_random(core, 8)
                || shape::is_hex(core, if told { 16 } else { 32 })
                || told
                    && sense == Sense::Password
                    && (digits && !harmless && core.len() >= 5 || quoted && !words::is_in(PROSE, &core.to_lowercase()))
                || verb && shape::is_uuid(core)
        }
    }
}

/// `密码是x`, `パスワードはxです`: particles, then what is not of the script.
fn touching(rest: &str) -> Option<(usize, usize)> {
    static PARTICLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| compiled(r#"^[是为為はがをにの는은이가를을\s:=]{0,6}["'「(]{0,2}"#));
    let start = PARTICLE.as_ref()?.find(rest)?.end();
    let tail = rest.get(start..)?;
    let length = tail.find(|char: char| !char.is_ascii_graphic() || matches!(char, '"' | '\'')).unwrap_or(tail.len());
    let length = tail[..length].trim_end_matches(['.', ',', ';', ')', ':']).len();
    (length >= 4).then_some((start, start + length))
}
