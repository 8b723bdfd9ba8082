//! Regular expressions with the meaning that RE2 as used by Go gives them, and cheap forms of the
//! common ones.

use regex::{Regex, RegexBuilder};

use super::BadMatcher;

/// Bytes of one expression. Alertmanager has no bound; a person who needs more wants a label.
const MAX_PATTERN: usize = 4_096;
/// Bytes of the compiled program: `\pL{500}` is short to write and large to run.
const MAX_PROGRAM: usize = 512 * 1024;
/// Bytes of the lazily built automaton, so that a thousand expressions stay within memory.
const MAX_AUTOMATON: usize = 1024 * 1024;

#[derive(Clone)]
pub(super) enum Pattern {
    /// `a|b|c`, which is most of what people write: compared, not run.
    OneOf(Vec<String>),
    Regex {
        /// Every match starts with it; rejects most values without running the expression.
        prefix: String,
        regex: Regex,
    },
}

impl Pattern {
    pub(super) fn compile(text: &str) -> Result<Self, BadMatcher> {
        if text.len() > MAX_PATTERN {
            return Err(BadMatcher::new(
                format!("a regular expression of {} bytes, the limit is {MAX_PATTERN}", text.len()),
                "match a shorter form or another label",
            ));
        }
        if let Some(values) = literals(text) {
            return Ok(Self::OneOf(values));
        }
        let Translated { text: translated, alternates } = translate(text);
        let regex = RegexBuilder::new(&format!("^(?:{translated})$"))
            .size_limit(MAX_PROGRAM)
            .dfa_size_limit(MAX_AUTOMATON)
            .build()
            .map_err(|error| refusal(text, &error))?;
        let prefix = if alternates { String::new() } else { prefix(text) };
        Ok(Self::Regex { prefix, regex })
    }

    pub(super) fn accepts(&self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|known| known == value),
            Self::Regex { prefix, regex } => value.starts_with(prefix.as_str()) && regex.is_match(value),
        }
    }

    pub(super) fn one_of(&self) -> Option<&[String]> {
        match self {
            Self::OneOf(values) => Some(values),
            Self::Regex { .. } => None,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::OneOf(_) => "",
            Self::Regex { prefix, .. } => prefix,
        }
    }
}

fn refusal(text: &str, error: &regex::Error) -> BadMatcher {
    let shown: String = text.chars().take(80).collect();
    match error {
        regex::Error::CompiledTooBig(limit) => BadMatcher::new(
            format!("the regular expression {shown:?} compiles to more than {limit} bytes"),
            "lower its repetition counts",
        ),
        other => {
            let message = other.to_string();
            let cause = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            BadMatcher::new(
                format!("the regular expression {shown:?} does not parse: {cause}"),
                "give RE2 syntax; escape a literal character with a backslash",
            )
        }
    }
}

const META: &str = ".+*?()|[]{}^$\\";

/// The values of an expression that only lists them: `a|b`, `(a|b)`, `^(?:a|b\.c)$`.
fn literals(text: &str) -> Option<Vec<String>> {
    // The whole is anchored anyway, so outer anchors say nothing.
    let text = text.strip_prefix('^').unwrap_or(text);
    let text = text.strip_suffix('$').filter(|rest| !rest.ends_with('\\')).unwrap_or(text);
    let text = text
        .strip_prefix("(?:")
        .or_else(|| text.strip_prefix('('))
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(text);
    let mut values = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '|' => {
                values.push(String::new());
                continue;
            }
            '\\' => letters.next().filter(char::is_ascii_punctuation)?,
            other if META.contains(other) => return None,
            other => other,
        };
        values.last_mut()?.push(literal);
    }
    Some(values)
}

/// The literal start of an expression that has no alternative at its top level.
fn prefix(text: &str) -> String {
    let mut prefix = String::new();
    let mut letters = text.strip_prefix('^').unwrap_or(text).chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next().filter(char::is_ascii_punctuation) {
                Some(literal) => prefix.push(literal),
                None => break,
            },
            // The last character may be absent.
            '*' | '?' | '{' => {
                prefix.pop();
                break;
            }
            other if META.contains(other) => break,
            other => prefix.push(other),
        }
    }
    prefix
}

struct Translated {
    text: String,
    /// `|` outside every group.
    alternates: bool,
}

/// Where this engine and RE2 read the same text differently, writes what RE2 means: ASCII classes,
/// `\Q..\E`, braces that are no repetition, and set operators that are ordinary characters to RE2.
fn translate(text: &str) -> Translated {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 16);
    let (mut at, mut depth, mut in_class, mut alternates) = (0, 0_i32, false, false);
    while let Some(letter) = letters.get(at).copied() {
        at += 1;
        match letter {
            '\\' => at = escape(&letters, at, in_class, &mut out),
            '[' if in_class => match posix(&letters, at) {
                Some(end) => {
                    out.push('[');
                    out.extend(&letters[at..end]);
                    at = end;
                }
                None => out.push_str("\\["),
            },
            '[' => {
                in_class = true;
                out.push('[');
                if letters.get(at) == Some(&'^') {
                    out.push('^');
                    at += 1;
                }
                // First in a class, these two are themselves.
                if let Some(first @ (']' | '-')) = letters.get(at) {
                    out.extend(['\\', *first]);
                    at += 1;
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', letter]),
            // The end of a range such as `+--`, which would be read as a difference of sets.
            '-' if in_class && out.ends_with('-') && !out.ends_with("\\-") => out.push_str("\\-"),
            '{' if !in_class && !repeats(&letters, at) => out.push_str("\\{"),
            '(' | ')' | '|' if !in_class => {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                // Below zero the text closes our own group: trust nothing about its start.
                alternates |= depth < 0 || (letter == '|' && depth == 0);
                out.push(letter);
            }
            other => out.push(other),
        }
    }
    Translated { text: out, alternates }
}

/// `at` is after the backslash; gives the position after the escape.
fn escape(letters: &[char], at: usize, in_class: bool, out: &mut String) -> usize {
    let Some(letter) = letters.get(at).copied() else {
        out.push('\\');
        return at;
    };
    match letter {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\x0c\\r ]"),
        'S' => out.push_str("[^\\t\\n\\x0c\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        // Word boundaries to this engine.
        '<' | '>' => out.push(letter),
        'Q' if !in_class => {
            let rest = &letters[at + 1..];
            let end = rest.windows(2).position(|pair| pair == ['\\', 'E']);
            let literal: String = rest[..end.unwrap_or(rest.len())].iter().collect();
            out.push_str(&regex::escape(&literal));
            return end.map_or(letters.len(), |end| at + 1 + end + 2);
        }
        other => out.extend(['\\', other]),
    }
    at + 1
}

/// The end of `[:alpha:]` when one opens at `at`, which is after its bracket.
fn posix(letters: &[char], at: usize) -> Option<usize> {
    let rest = letters.get(at..).filter(|rest| rest.first() == Some(&':'))?;
    rest.windows(2).skip(1).position(|pair| pair == [':', ']']).map(|end| at + 1 + end + 2)
}

/// Whether `{2}`, `{2,}` or `{2,3}` opens at `at`, which is after its brace.
fn repeats(letters: &[char], at: usize) -> bool {
    let inside: String = letters[at..].iter().take_while(|letter| **letter != '}').collect();
    let closed = letters.get(at + inside.chars().count()) == Some(&'}');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The braces of \x{..} and \p{..} follow a letter that `escape` has copied.
    let named = at >= 3 && letters[at - 3] == '\\' && "xpP".contains(letters[at - 2]);
    named
        || closed
            && match inside.split_once(',') {
                Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
                None => digits(&inside),
            }
}
