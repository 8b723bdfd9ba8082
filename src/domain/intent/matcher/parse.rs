//! The UTF-8 syntax of Alertmanager 0.27: names and values bare or in double quotes with Go's
//! escapes, braces in pairs or not at all.

use super::{BadMatcher, Matcher, Op};

/// Characters that a bare name or value may not hold.
pub(super) fn is_reserved(letter: char) -> bool {
    letter.is_whitespace() || "{}!=~,\\\"'`".contains(letter)
}

const QUOTE_IT: &str = "put the text in double quotes";
const WHOLE: &str = "write matchers as {service=\"pay\", severity=~\"warning|critical\"}";

pub(super) fn utf8(text: &str) -> Result<Vec<Matcher>, BadMatcher> {
    let mut parser = Parser { letters: text.chars().collect(), at: 0 };
    let mut matchers = vec![];
    let braced = parser.take('{');
    loop {
        match parser.peek() {
            None => break,
            Some('}') => break,
            Some(_) => matchers.push(parser.matcher()?),
        }
        if !parser.take(',') && !matches!(parser.peek(), None | Some('}')) {
            return Err(parser.unexpected("a comma or the closing brace", QUOTE_IT));
        }
    }
    match (braced, parser.take('}')) {
        (true, false) => return Err(parser.unexpected("the closing brace", "add } or remove {")),
        (false, true) => return Err(parser.fault("} closes nothing", "add { at the start or remove }")),
        (true, true) | (false, false) => {}
    }
    match parser.peek() {
        None => Ok(matchers),
        Some(_) => Err(parser.unexpected("the end", WHOLE)),
    }
}

struct Parser {
    letters: Vec<char>,
    at: usize,
}

impl Parser {
    fn matcher(&mut self) -> Result<Matcher, BadMatcher> {
        let name = self.word("a label name")?;
        let op = self.operator()?;
        self.peek();
        let start = self.at;
        let value = self.word("a label value")?;
        Matcher::new(&name, op, &value).map_err(|fault| fault.at(start + 1))
    }

    fn operator(&mut self) -> Result<Op, BadMatcher> {
        let first = self.peek();
        let op = match (first, self.letters.get(self.at + 1)) {
            (Some('='), Some('~')) => Op::Regex,
            (Some('='), _) => Op::Equal,
            (Some('!'), Some('=')) => Op::NotEqual,
            (Some('!'), Some('~')) => Op::NotRegex,
            _ => return Err(self.unexpected("an operator", "use one of = != =~ !~")),
        };
        self.at += op.as_str().len();
        Ok(op)
    }

    fn word(&mut self, wanted: &'static str) -> Result<String, BadMatcher> {
        match self.peek() {
            Some('"') => self.quoted(),
            Some(letter) if !is_reserved(letter) => {
                let start = self.at;
                while self.letters.get(self.at).is_some_and(|letter| !is_reserved(*letter)) {
                    self.at += 1;
                }
                Ok(self.letters[start..self.at].iter().collect())
            }
            _ => Err(self.unexpected(wanted, QUOTE_IT)),
        }
    }

    /// Go's interpreted string literal.
    fn quoted(&mut self) -> Result<String, BadMatcher> {
        let start = self.at;
        self.at += 1;
        // Bytes, because \x and octal escapes may spell one character together.
        let mut bytes = vec![];
        loop {
            let Some(letter) = self.letters.get(self.at).copied() else {
                self.at = start;
                return Err(self.fault("this double quote is never closed", "close it with \""));
            };
            self.at += 1;
            match letter {
                '"' => break,
                '\\' => self.escape(&mut bytes)?,
                '\n' => {
                    self.at -= 1;
                    return Err(self.fault("a line break inside double quotes", "write it as \\n"));
                }
                other => bytes.extend(other.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        String::from_utf8(bytes).map_err(|_| {
            self.at = start;
            self.fault("the escapes do not spell UTF-8 text", "write the characters themselves")
        })
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), BadMatcher> {
        const REMEDY: &str = "write a backslash as \\\\";
        let letter = self.letters.get(self.at).copied();
        self.at += 1;
        let simple = match letter {
            Some('a') => Some(0x07),
            Some('b') => Some(0x08),
            Some('f') => Some(0x0c),
            Some('n') => Some(b'\n'),
            Some('r') => Some(b'\r'),
            Some('t') => Some(b'\t'),
            Some('v') => Some(0x0b),
            Some('\\') => Some(b'\\'),
            Some('"') => Some(b'"'),
            _ => None,
        };
        if let Some(byte) = simple {
            bytes.push(byte);
            return Ok(());
        }
        let (skip, digits, radix) = match letter {
            Some('x') => (0, 2, 16),
            Some('u') => (0, 4, 16),
            Some('U') => (0, 8, 16),
            Some('0'..='7') => (1, 3, 8),
            _ => {
                self.at -= 2;
                return Err(self.fault("an escape that is not known", REMEDY));
            }
        };
        let start = self.at - skip;
        let spelled: String = self.letters.iter().skip(start).take(digits).collect();
        // `from_str_radix` would also take a sign.
        let code = (spelled.len() == digits && spelled.chars().all(|digit| digit.is_digit(radix)))
            .then(|| u32::from_str_radix(&spelled, radix).ok())
            .flatten();
        self.at = start + digits;
        match (letter, code) {
            (Some('u' | 'U'), Some(code)) if char::from_u32(code).is_some() => {
                let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
                Ok(())
            }
            (Some('x' | '0'..='7'), Some(code)) if code <= 0xff => {
                bytes.push(code as u8);
                Ok(())
            }
            _ => {
                self.at = start.saturating_sub(2 - skip);
                Err(self.fault("an escape with wrong digits", REMEDY))
            }
        }
    }

    /// The next character after white space.
    fn peek(&mut self) -> Option<char> {
        while self.letters.get(self.at).is_some_and(|letter| letter.is_whitespace()) {
            self.at += 1;
        }
        self.letters.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += 1;
        }
        found
    }

    fn unexpected(&mut self, wanted: &str, remedy: &'static str) -> BadMatcher {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |letter| format!("{letter:?}"));
        self.fault(format!("expected {wanted}, found {found}"), remedy)
    }

    fn fault(&self, problem: impl Into<String>, remedy: &'static str) -> BadMatcher {
        BadMatcher::new(problem, remedy).at(self.at + 1)
    }
}
