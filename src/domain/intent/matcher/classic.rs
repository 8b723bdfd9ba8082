//! The classic syntax of Alertmanager 0.26 and before, tolerances included, so that a file that
//! Alertmanager accepts means the same here: braces may be missing on one side, a bare value may
//! hold spaces, a backslash before an ordinary character is itself.

use super::{BadMatcher, Matcher, Op};

/// RE2's `\s`.
const SPACE: [char; 5] = ['\t', '\n', '\x0c', '\r', ' '];

pub(super) fn parse(text: &str) -> Result<Vec<Matcher>, BadMatcher> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let mut matchers = vec![];
    for token in split(text) {
        matchers.push(matcher(token)?);
    }
    Ok(matchers)
}

/// Cuts at commas outside double quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let mut tokens = vec![];
    for (at, letter) in text.char_indices() {
        match letter {
            ',' if !quoted => {
                tokens.push(&text[start..at]);
                start = at + 1;
            }
            // Alertmanager leaves the escape pending here.
            ',' => {}
            '"' if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        tokens.push(last);
    }
    tokens
}

fn matcher(token: &str) -> Result<Matcher, BadMatcher> {
    const SHAPE: &str = "write it as name=\"value\"";
    let token = token.trim_matches(SPACE);
    let end = token.find(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)));
    let (name, rest) = token.split_at(end.unwrap_or(token.len()));
    let rest = rest.trim_start_matches(SPACE);
    let named = name.chars().next().is_some_and(|letter| !letter.is_ascii_digit());
    // The two-character operators first, or `=~` would be read as `=` and a value.
    let op = [Op::Regex, Op::NotEqual, Op::NotRegex, Op::Equal].into_iter().find(|op| rest.starts_with(op.as_str()));
    match op {
        Some(op) if named => {
            let raw = rest[op.as_str().len()..].trim_start_matches(SPACE);
            Matcher::new(name, op, &unescape(raw)?)
        }
        _ => Err(BadMatcher::new("not a classic matcher", SHAPE)),
    }
}

/// OpenMetrics escapes; any other backslash is literal.
fn unescape(raw: &str) -> Result<String, BadMatcher> {
    let fault = || BadMatcher::new("a double quote inside a value", "write it as \\\"");
    let (body, mut open) = match raw.strip_prefix('"') {
        Some(body) => (body, true),
        None => (raw, false),
    };
    let mut value = String::with_capacity(body.len());
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('n')) => {
                value.push('\n');
                letters.next();
            }
            ('\\', Some(next @ ('"' | '\\'))) => {
                value.push(*next);
                letters.next();
            }
            ('"', None) if open => open = false,
            ('"', _) => return Err(fault()),
            (other, _) => value.push(other),
        }
    }
    if open { Err(fault()) } else { Ok(value) }
}
