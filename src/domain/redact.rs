//! What must not reach a model, a chat, memory or a log: secrets, and characters that lie to the eye.
//!
//! Three readers look at the text: `formats` for credentials with a known form, `keyed` for values with
//! a telling key, `loose` for long tokens drawn by chance. They read a folded copy (`shadow`); what they
//! find is replaced in the text itself by a mark with the secret's kind, so that a reader knows what was
//! there. Marks are never read again: `redact(redact(x)) == redact(x)`.

mod formats;
mod keyed;
mod loose;
mod shadow;
mod shape;
mod value;
mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::id::Digest;
use shadow::Shadow;

/// A secret in the folded text, in bytes, and its kind.
struct Found {
    start: usize,
    end: usize,
    mark: &'static str,
}

/// What may stand in a mark, so that nobody hides a secret in one of his own.
static MARKS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut marks: Vec<&'static str> = formats::marks().collect();
    marks.extend([keyed::SECRET, keyed::CREDENTIAL, keyed::COOKIE, loose::MARK]);
    marks.sort_unstable();
    marks.dedup();
    marks
});

/// Bytes for the states of the patterns that read every text: with less they are built over and over.
const CACHE: usize = 16 << 20;

/// Classes of all of Unicode make patterns a hundred times the size, and the text is folded.
fn ascii(pattern: &str) -> String {
    pattern
        .replace(r"\w", "[0-9A-Za-z_]")
        .replace(r"\d", "[0-9]")
        .replace(r"\s", r"[ \t\r\n]")
        .replace(r"\b", r"(?-u:\b)")
}

fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(&ascii(pattern)).ok()
}

/// Text that may be shown and stored.
pub fn redact(text: &str) -> String {
    // What stands beside a secret can only be read once it is gone; each round leaves less to read.
    const ROUNDS: usize = 8;
    let mut text = strip(text);
    for _ in 0..ROUNDS {
        match without_secrets(&text) {
            Some(changed) => text = changed,
            None => break,
        }
    }
    text
}

/// The same with every string in it; keys stay as they are.
pub fn redact_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(all) => all.iter_mut().for_each(redact_json),
        Value::Object(map) => map.values_mut().for_each(redact_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn without_secrets(text: &str) -> Option<String> {
    let shadow = Shadow::of(text);
    let mut found = vec![];
    formats::find(&shadow.text, &mut found);
    keyed::find(&shadow.text, &mut found);
    loose::find(&shadow.text, &mut found);
    let found = merged(&shadow.text, found);
    if found.is_empty() {
        return None;
    }
    let mut safe = String::with_capacity(text.len());
    let mut shown = 0;
    for secret in found {
        let (start, end) = (shadow.origin(secret.start), shadow.origin(secret.end));
        // What cannot be cut there is left out rather than shown.
        safe.push_str(text.get(shown..start).unwrap_or_default());
        safe.push_str(&format!("[{} redacted]", secret.mark));
        shown = end;
    }
    safe.push_str(text.get(shown..).unwrap_or_default());
    Some(safe)
}

/// In order and apart. Of what overlaps, the whole is replaced, with the mark that was found first;
/// what is already a mark stays.
fn merged(text: &str, mut found: Vec<Found>) -> Vec<Found> {
    // Stable: readers that know more come first.
    let mut ranked: Vec<(usize, Found)> = found
        .drain(..)
        .filter(|secret| secret.start < secret.end)
        .enumerate()
        .map(|(rank, secret)| (if secret.mark == formats::BEARER { usize::MAX } else { rank }, secret))
        .collect();
    ranked.sort_by_key(|(_, secret)| secret.start);
    let mut apart: Vec<(usize, Found)> = vec![];
    for (rank, secret) in ranked {
        match apart.last_mut() {
            Some((before, last)) if secret.start < last.end => {
                last.end = last.end.max(secret.end);
                if rank < *before {
                    *before = rank;
                    last.mark = secret.mark;
                }
            }
            _ => apart.push((rank, secret)),
        }
    }
    apart.into_iter().flat_map(|(_, secret)| around_marks(text, secret)).collect()
}

fn around_marks(text: &str, secret: Found) -> Vec<Found> {
    let mut parts = vec![];
    let mut start = secret.start;
    for piece in text[secret.start..secret.end].split_inclusive(shadow::BLANK) {
        let kept = piece.trim_end_matches(shadow::BLANK);
        if kept.bytes().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
            parts.push(Found { start, end: start + kept.len(), mark: secret.mark });
        }
        start += piece.len();
    }
    parts
}

/// Drops control characters, terminal escapes, and characters that reorder or hide text; line ends
/// and tabs stay.
pub fn strip(text: &str) -> String {
    static ESCAPES: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("\x1b(?:\\[[0-9;?]*[ -/]*[@-~]|[@-Z\\\\-_])").ok());
    let dropped = |c: char| !matches!(c, '\n' | '\t') && (c.is_control() || is_invisible(c));
    let plain = text.bytes().all(|byte| !byte.is_ascii() || matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    if plain && (text.is_ascii() || !text.chars().any(|c| !c.is_ascii() && dropped(c))) {
        return text.to_owned();
    }
    let text = match ESCAPES.as_ref() {
        Some(escapes) if text.contains('\x1b') => escapes.replace_all(text, ""),
        _ => Cow::Borrowed(text),
    };
    text.chars().filter(|c| !dropped(*c)).collect()
}

/// Puts text of the estate between marks that it cannot contain, for they carry its digest.
pub fn fence(text: &str, source: &str) -> String {
    let digest = Digest::of(text.as_bytes());
    let mark = digest.short();
    format!("<data {mark} from {source}>\n{}\n</data {mark}>", text.trim_end())
}

/// Bidirectional controls (CVE-2021-42574), zero-width characters, and the tag block in which
/// instructions can be written that only a model reads.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}
