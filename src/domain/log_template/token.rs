//! A line of log as tokens: words, marks and values, each with its place in the line.

use super::scan::{self, class};
use super::words::{self, Grip, Place};

/// Lines are cut here: what follows is one value. Stack traces and dumps say nothing new.
const MAX_TOKENS: usize = 96;
/// A longer word, or a longer value that is known by its position, is data; bytes.
const MAX_TEXT: usize = 256;

/// A part of the line, as byte offsets.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: Kind,
    /// Of the text; equal text, equal hash.
    pub hash: u64,
    pub start: u32,
    pub end: u32,
    /// White space stands before it.
    pub spaced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Word(Grip),
    /// Punctuation.
    Mark,
    /// A value for certain: it carries digits, or is a path, an address, an instant.
    Value,
    /// A value by its position (`user=root`, `"main"`, `true`): shown until a second one is seen.
    Held,
}

/// Cuts `line` into `tokens` (emptied first).
pub fn tokenize(line: &str, tokens: &mut Vec<Token>) {
    tokens.clear();
    Lexer { text: line.as_bytes(), at: 0, spaced: false, assigned: Assigned::No, closing: usize::MAX, tokens }.run();
}

/// Equal for equal text; the same on every machine, so that ids and tests are stable.
#[inline]
pub fn hash_of(text: &[u8]) -> u64 {
    let mut hash = text.len() as u64;
    if text.len() > 16 {
        let mut chunks = text.chunks_exact(8);
        for chunk in &mut chunks {
            let (word, _) = ends(chunk);
            hash = mix(hash, word);
        }
    }
    let (front, back) = ends(text);
    mix(mix(hash, front), back)
}

/// [`hash_of`] one byte.
#[inline]
pub const fn mark_hash(byte: u8) -> u64 {
    mix(mix(1, byte as u64), 0)
}

/// The first and the last eight bytes of `text`, which overlap if it is shorter than sixteen.
#[inline]
pub const fn ends(text: &[u8]) -> (u64, u64) {
    if let (Some(front), Some(back)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        return (u64::from_le_bytes(*front), u64::from_le_bytes(*back));
    }
    if let (Some(front), Some(back)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return (u32::from_le_bytes(*front) as u64, u32::from_le_bytes(*back) as u64);
    }
    match text {
        [] => (0, 0),
        [one] => (*one as u64, 0),
        [one, two] => (*one as u64, *two as u64),
        [one, two, .., three] => ((*one as u64) << 8 | *two as u64, *three as u64),
    }
}

/// Folded multiplication, as in wyhash: one multiplication mixes 64 bits.
#[inline]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let product = ((hash ^ word ^ 0xa076_1d64_78bd_642f) as u128) * 0xe703_7ed1_a0b4_28db_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// What the last `=` or `:` was for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Assigned {
    No,
    Value,
    Message,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    spaced: bool,
    assigned: Assigned,
    /// The quote that ends the message we are inside of.
    closing: usize,
    tokens: &'a mut Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) {
        while self.at < self.text.len() {
            if self.tokens.len() >= MAX_TOKENS {
                self.value(self.text.len());
                return;
            }
            match self.text[self.at] {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    self.spaced = true;
                    self.assigned = Assigned::No;
                    self.at += 1;
                }
                b'"' | b'\'' | b'`' => self.quote(),
                b'=' => self.equals(),
                b'<' | b'>' if self.digit(self.at + 1) => self.bound(),
                b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',' | b';' | b'|' => self.mark(self.at + 1),
                b':' => self.colon(),
                _ => self.atom(),
            }
        }
    }

    fn quote(&mut self) {
        let at = self.at;
        if at == self.closing {
            self.closing = usize::MAX;
            return self.mark(at + 1);
        }
        let apostrophe = self.text[at] == b'\'' && at > 0 && self.text[at - 1].is_ascii_alphanumeric();
        let Some(end) = (if apostrophe { None } else { scan::closing(self.text, at) }) else {
            return self.mark(at + 1);
        };
        let inner = &self.text[at + 1..end];
        if self.assigned == Assigned::Message {
            self.assigned = Assigned::No;
            self.closing = end;
            return self.mark(at + 1);
        }
        let behind_equals =
            self.assigned == Assigned::Value && self.tokens.last().is_some_and(|last| self.is(last, b"="));
        if behind_equals {
            // Loggers quote values only where they must: `file=a.yml`, `file="a b.yml"`.
            self.assigned = Assigned::No;
            return self.push(Kind::Held, end + 1);
        }
        if at == 0 && end + 1 == self.text.len() {
            return self.mark(at + 1);
        }
        let key = self.text[at] == b'"'
            && self.text.get(end + 1) == Some(&b':')
            && self.tokens.last().is_some_and(|last| self.is(last, b"{") || self.is(last, b","));
        self.mark(at + 1);
        if key {
            self.push(Kind::Word(Grip::Glue), end);
        } else if let Some(keyword) = keyword(inner) {
            // A quoted request or statement: its verb tells it from others.
            self.push(Kind::Word(Grip::Firm), at + 1 + keyword);
            self.spaced = true;
            self.at += 1;
            self.value(end);
        } else {
            self.push(Kind::Held, end);
        }
        self.mark(end + 1);
        if key {
            let message = words::sense(inner).is_message_key();
            self.mark(end + 2);
            self.skip_space();
            self.assigned = if message { Assigned::Message } else { Assigned::Value };
        } else {
            self.assigned = Assigned::No;
        }
    }

    fn equals(&mut self) {
        let next = self.text.get(self.at + 1).copied();
        let before = self.tokens.last().copied();
        let key = before.filter(|last| !self.spaced && matches!(last.kind, Kind::Word(_)));
        self.mark(self.at + 1);
        let Some(key) = key else { return };
        if matches!(next, Some(b'=' | b'>' | b'~')) {
            return;
        }
        let slot = self.tokens.len() - 2;
        self.tokens[slot].kind = Kind::Word(Grip::Glue);
        let message = words::sense(&self.text[key.start as usize..key.end as usize]).is_message_key();
        match next {
            None | Some(b' ' | b'\t' | b',' | b';' | b')' | b']' | b'}') => self.push(Kind::Held, self.at),
            Some(b'"' | b'\'' | b'`') => self.assigned = if message { Assigned::Message } else { Assigned::Value },
            Some(b'<') => {}
            Some(_) if message => {}
            Some(_) => {
                let end = scan::value(self.text, self.at);
                if end == self.at {
                    return;
                }
                if self.text[self.at..end].iter().any(u8::is_ascii_digit) {
                    self.value(end);
                } else {
                    self.push(Kind::Held, end);
                }
            }
        }
    }

    fn colon(&mut self) {
        if let Some(end) = scan::whole(self.text, self.at) {
            return self.value(end);
        }
        let label = self.tokens.last().copied().filter(|last| !self.spaced && matches!(last.kind, Kind::Word(_)));
        self.mark(self.at + 1);
        let payload = label
            .is_some_and(|label| words::sense(&self.text[label.start as usize..label.end as usize]).is_payload_label());
        if payload && self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.skip_space();
            if self.at < self.text.len() {
                self.value(self.text.len());
            }
        }
    }

    /// `<1 sec`, `>500 ms`: an amount with a bound is one value, with its unit.
    fn bound(&mut self) {
        let mut end = scan::piece(self.text, self.at + 1).end;
        if self.text.get(end) == Some(&b'>') {
            // `Switch<0>` is a bracket.
            return self.mark(self.at + 1);
        }
        if self.text.get(end) == Some(&b' ') {
            let unit = scan::piece(self.text, end + 1).end;
            if words::sense(&self.text[end + 1..unit]).is_unit() {
                end = unit;
            }
        }
        self.value(end);
    }

    fn atom(&mut self) {
        if let Some(end) = scan::whole(self.text, self.at) {
            return self.value(end);
        }
        if self.text[self.at..].starts_with(scan::LEADER) {
            let dots = self.text[self.at..].iter().take_while(|byte| **byte == b'.').count();
            return self.mark(self.at + dots);
        }
        let piece = scan::piece(self.text, self.at);
        let end = piece.end;
        if end == self.at {
            return self.mark(self.at + char_len(self.text[self.at]));
        }
        if let Some(end) = scan::url(self.text, self.at, end) {
            return self.value(end);
        }
        let mut core = end;
        while core > self.at && matches!(self.text[core - 1], b'.' | b'!' | b'?' | b'-' | b'+' | b'*' | b'/') {
            core -= 1;
        }
        if core == self.at {
            return self.mark(end);
        }
        let mut classes = piece.classes;
        if core < end && self.is_direction(end) {
            core = end;
        } else if core < end {
            // What was cut off does not count.
            classes = scan::piece(&self.text[..core], self.at).classes;
        }
        match self.judge(core, classes, piece.digits) {
            Kind::Value => self.value(core),
            kind => self.push(kind, core),
        }
        if core < end {
            self.mark(end);
        }
    }

    /// `x+`: its sign does not end a sentence.
    fn is_direction(&self, end: usize) -> bool {
        matches!(self.text[self.at..end], [axis, b'+' | b'-'] if axis.is_ascii_alphabetic())
    }

    fn judge(&self, end: usize, classes: u8, digits: u32) -> Kind {
        let piece = &self.text[self.at..end];
        if digits > 0 {
            return if piece[0].is_ascii_alphabetic() && is_name(piece, digits as usize) {
                Kind::Held
            } else {
                Kind::Value
            };
        }
        if classes & (class::SLASH | class::FOREIGN) != 0 {
            let slashes = piece.iter().filter(|byte| **byte == b'/').count();
            let mail = piece[1..].iter().rev().skip(1).any(|byte| *byte == b'@');
            if slashes >= 2 || (slashes == 1 && classes & class::DOT != 0) || mail {
                return Kind::Value;
            }
        }
        if piece.len() <= 5 && words::is_literal(piece) {
            return Kind::Held;
        }
        if words::is_date_name(piece) && self.dated(end) {
            return Kind::Value;
        }
        if self.tokens.last().is_some_and(|last| last.kind == Kind::Value) && words::sense(piece).is_unit() {
            return Kind::Word(Grip::Unit);
        }
        let place = match (self.closing, self.tokens.is_empty()) {
            (usize::MAX, true) => Place::First,
            (usize::MAX, false) => Place::Later,
            _ => Place::Message,
        };
        Kind::Word(words::grip(piece, classes, place))
    }

    /// A name of a month or weekday is part of a date if a number or another such name is next to it.
    fn dated(&self, end: usize) -> bool {
        let rest = self.text.get(end..).unwrap_or_default();
        let gap = rest.iter().position(|byte| !matches!(byte, b' ' | b',' | b'-' | b'/')).unwrap_or(rest.len());
        let next = &rest[gap..];
        self.tokens.last().is_some_and(|last| last.kind == Kind::Value)
            || next.first().is_some_and(u8::is_ascii_digit)
            || next.get(..3).is_some_and(words::is_date_name)
    }

    fn mark(&mut self, end: usize) {
        self.push(Kind::Mark, end);
    }

    /// Values in a row, and lists of values, are one value: their number varies too.
    fn value(&mut self, end: usize) {
        let extended = match self.tokens.as_slice() {
            [.., last] if last.kind == Kind::Value => Some(0),
            [.., before, last] if before.kind == Kind::Value && last.kind == Kind::Mark && self.joins(last) => Some(1),
            _ => None,
        };
        let Some(extra) = extended else { return self.push(Kind::Value, end) };
        self.tokens.truncate(self.tokens.len() - extra);
        if let Some(last) = self.tokens.last_mut() {
            last.end = end as u32;
        }
        self.at = end;
        self.spaced = false;
    }

    fn joins(&self, mark: &Token) -> bool {
        matches!(&self.text[mark.start as usize..mark.end as usize], b"," | b":" | b"/" | b"-" | b"+" | b"." | b"*")
    }

    fn is(&self, token: &Token, text: &[u8]) -> bool {
        &self.text[token.start as usize..token.end as usize] == text
    }

    #[inline]
    fn push(&mut self, kind: Kind, end: usize) {
        let kind = if end - self.at > MAX_TEXT { Kind::Value } else { kind };
        let hash = match kind {
            Kind::Value => 0,
            Kind::Word(_) | Kind::Mark | Kind::Held => hash_of(&self.text[self.at..end]),
        };
        self.tokens.push(Token { kind, hash, start: self.at as u32, end: end as u32, spaced: self.spaced });
        self.at = end;
        self.spaced = false;
    }

    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
            self.spaced = true;
        }
    }

    fn digit(&self, at: usize) -> bool {
        self.text.get(at).is_some_and(u8::is_ascii_digit)
    }
}

/// Names keep their digit: `x509`, `ssh2`, `jk2_init`; `node-3` and `core.2275` are one of many.
fn is_name(piece: &[u8], digits: usize) -> bool {
    let letters = piece.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let underscores = piece.iter().filter(|byte| **byte == b'_').count();
    piece[0].is_ascii_alphabetic()
        && letters + digits + underscores == piece.len()
        && ((piece.len() <= 5 && underscores == 0) || (digits == 1 && letters >= 4))
}

/// The length of the upper-case word that a quoted text of several words begins with.
fn keyword(inner: &[u8]) -> Option<usize> {
    let length = inner.iter().position(|byte| *byte == b' ')?;
    (length >= 3 && inner[..length].iter().all(u8::is_ascii_uppercase)).then_some(length)
}

fn char_len(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}
