//! Recognisers of values that are written as one piece: numbers, addresses, instants, paths.
//!
//! Each takes the bytes of the line and a start and gives the end of what it recognised. The
//! line is read once, forwards, by hand: regular expressions cost ten times as much here.

/// Longer brackets hold sentences, not one value; bytes.
const MAX_BRACKET: usize = 512;

/// The end of a path or a run of colon-joined digits that starts at `at`.
#[inline]
pub fn whole(text: &[u8], at: usize) -> Option<usize> {
    match text[at] {
        b'/' | b'\\' => path(text, at),
        b'~' if text.get(at + 1) == Some(&b'/') => path(text, at + 1),
        byte if byte.is_ascii_alphabetic() && text.get(at + 1) == Some(&b':') && text.get(at + 2) == Some(&b'\\') => {
            Some(trimmed(text, at, run(text, at + 3)))
        }
        byte if byte.is_ascii_hexdigit() || byte == b':' => colons(text, at),
        _ => None,
    }
}

/// What the bytes of a piece are, as bits.
pub mod class {
    pub const DIGIT: u8 = 1;
    pub const LOWER: u8 = 2;
    pub const UPPER: u8 = 4;
    pub const DOT: u8 = 8;
    /// `_ - $ # ...`: inside identifiers.
    pub const JOINT: u8 = 16;
    pub const SLASH: u8 = 32;
    /// `@` and what is not ASCII.
    pub const FOREIGN: u8 = 64;
}

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => class::DIGIT,
            b'a'..=b'z' => class::LOWER,
            b'A'..=b'Z' => class::UPPER,
            b'.' => class::DOT,
            b'/' => class::SLASH,
            b'@' | 0x80.. => class::FOREIGN,
            b'_' | b'-' | b'\\' | b'#' | b'$' | b'%' | b'&' | b'*' | b'+' | b'~' | b'!' | b'?' | b'^' => class::JOINT,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

/// From here on dots only lead to what follows: `alignment......0`.
pub const LEADER: &[u8] = b"...";

/// A run of words and numbers and what joins their parts.
#[derive(Clone, Copy, Default)]
pub struct Piece {
    pub end: usize,
    /// Bits of [`class`].
    pub classes: u8,
    pub digits: u32,
}

/// The piece that starts at `at`; the caller decides what it is.
#[inline]
pub fn piece(text: &[u8], at: usize) -> Piece {
    let mut piece = Piece { end: at, ..Piece::default() };
    while let Some(byte) = text.get(piece.end) {
        let end = piece.end;
        let class = CLASSES[usize::from(*byte)];
        if class == 0 {
            let joins = match byte {
                // `host.name:80`, `12:30`, but not the label in `state:112`.
                b':' => {
                    piece.classes & (class::DIGIT | class::DOT) != 0
                        && end > at
                        && alnum(text, end - 1)
                        && digit(text, end + 1)
                }
                b',' => end > at && digit(text, end - 1) && digit(text, end + 1),
                b'\'' => end > at && alpha(text, end - 1) && alpha(text, end + 1),
                _ => false,
            };
            if !joins {
                break;
            }
        }
        if class == class::DOT && text[end..].starts_with(LEADER) {
            break;
        }
        piece.classes |= class;
        piece.digits += u32::from(class & class::DIGIT);
        piece.end += 1;
    }
    if piece.classes & class::FOREIGN == 0 { piece } else { one_script(text, at, piece) }
}

/// East Asian text knows no spaces: `用户5登录成功` is cut where it meets ASCII.
#[cold]
fn one_script(text: &[u8], at: usize, piece: Piece) -> Piece {
    match (at + 1..piece.end).find(|end| borders(text, *end)) {
        Some(end) => self::piece(&text[..end], at),
        None => piece,
    }
}

/// Whether East Asian text and ASCII meet at `at`. These scripts begin at U+3000: their letters
/// are three bytes long, the first one e3 to ef.
fn borders(text: &[u8], at: usize) -> bool {
    if text[at].is_ascii() {
        at >= 3 && !text[at - 1].is_ascii() && matches!(text[at - 3], 0xe3..=0xef)
    } else {
        matches!(text[at], 0xe3..=0xef) && text[at - 1].is_ascii()
    }
}

/// The value behind `key=`: everything up to a separator; brackets that close are part of it.
#[inline]
pub fn value(text: &[u8], at: usize) -> usize {
    if let Some(end) = whole(text, at) {
        return end;
    }
    let scheme = piece(text, at).end;
    if let Some(end) = url(text, at, scheme) {
        return end;
    }
    let mut end = at;
    while end < text.len() {
        match text[end] {
            b',' if end > at && digit(text, end - 1) && digit(text, end + 1) => {}
            b'(' | b'[' | b'{' => match bracket(text, end) {
                Some(close) => end = close,
                None => break,
            },
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b';' | b')' | b']' | b'}' | b'|' | b'"' | b'<' | b'>' | b'=' => break,
            _ => {}
        }
        end += 1;
    }
    end
}

/// The bracket that closes the one at `at`.
fn bracket(text: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (place, byte) in text.iter().enumerate().skip(at).take(MAX_BRACKET) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

/// The closing quote that belongs to the quote at `at`, on the same line.
pub fn closing(text: &[u8], at: usize) -> Option<usize> {
    let open = text[at];
    let mut end = at + 1;
    while end < text.len() {
        if let Some(eight) = text[end..].first_chunk::<8>()
            && !holds(*eight, open)
        {
            end += 8;
            continue;
        }
        match text[end] {
            b'\\' => end += 1,
            b'\'' if open != b'"' && !alnum(text, end + 1) => return Some(end),
            byte if byte == open && (open == b'"' || !alnum(text, end + 1)) => return Some(end),
            _ => {}
        }
        end += 1;
    }
    None
}

/// Whether any of eight bytes may end a text that the quote `open` began, or escape the next.
///
/// Mycroft's test for a zero byte in a word; see Warren, "Hacker's Delight", 6-1.
#[inline]
fn holds(eight: [u8; 8], open: u8) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(eight);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let equal = |byte: u8| zero(word ^ (ONES * u64::from(byte)));
    (equal(open) | equal(b'\'') | equal(b'\\')) & TOPS != 0
}

/// The end of the URL whose scheme lies between `at` and `colon`.
#[inline]
pub fn url(text: &[u8], at: usize, colon: usize) -> Option<usize> {
    text[colon..].starts_with(b"://").then(|| trimmed(text, at, run(text, colon + 3)))
}

fn path(text: &[u8], at: usize) -> Option<usize> {
    let next = *text.get(at + 1)?;
    let starts = match text[at] {
        b'\\' => next == b'\\' || next.is_ascii_alphabetic(),
        _ => next.is_ascii_alphanumeric() || matches!(next, b'_' | b'.' | b'-' | b'~' | b'%' | b'@' | b'$'),
    };
    starts.then(|| trimmed(text, at, run(text, at + 1)))
}

/// Up to what cannot be part of a path; the query of a URL may hold `=` and `&`.
fn run(text: &[u8], at: usize) -> usize {
    let mut end = at;
    let mut query = false;
    while end < text.len() {
        match text[end] {
            b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'\'' | b'`' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{'
            | b'}' | b'|' | b';' => break,
            b',' | b':' if !alnum(text, end + 1) && text.get(end + 1) != Some(&b'/') => break,
            b',' if !digit(text, end + 1) => break,
            b'=' if !query => break,
            b'?' => query = true,
            _ => {}
        }
        end += 1;
    }
    end
}

/// Times, MAC and IPv6 addresses, chip ids: groups of hexadecimal digits joined by colons.
fn colons(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    let mut groups = 0;
    let mut decimal = true;
    let mut empty = false;
    loop {
        let from = end;
        while end < text.len() && text[end].is_ascii_hexdigit() && end - from < 5 {
            decimal &= text[end].is_ascii_digit();
            end += 1;
        }
        if end == from {
            if empty || groups == 0 && text.get(end + 1) != Some(&b':') {
                break;
            }
            empty = true;
        } else {
            groups += 1;
        }
        if end - from > 4 || text.get(end) != Some(&b':') {
            break;
        }
        let more = text.get(end + 1).is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':');
        if !more {
            break;
        }
        end += 1;
    }
    let address = groups >= 3 || (empty && groups >= 1) || (decimal && groups >= 2);
    if !address || alpha(text, end) {
        return None;
    }
    // Fractions of a second, a zone, a prefix length.
    while end < text.len()
        && (matches!(text[end], b'.' | b',' | b'/' | b'-' | b'+') && digit(text, end + 1) || digit(text, end))
    {
        end += 1;
    }
    Some(end)
}

fn trimmed(text: &[u8], at: usize, mut end: usize) -> usize {
    while end > at + 1 && matches!(text[end - 1], b'.' | b',' | b':' | b'!' | b'?') {
        end -= 1;
    }
    end
}

#[inline]
fn digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

#[inline]
fn alpha(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_alphabetic)
}

#[inline]
fn alnum(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}
