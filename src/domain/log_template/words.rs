//! How likely a word of a log line is to have been written by the programmer.
//!
//! Invariant: English grammar and the look of identifiers decide, never the vocabulary of one
//! program. A wrong guess costs evidence (more lines are asked for), not correctness.

use super::scan::class;
use super::token::{ends, mix};

/// How firmly a word holds its place, firmest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Grip {
    /// Function words (`from`, `not`) and keys of key=value: never a value.
    Glue,
    /// Verb forms and opposites: what happened.
    Firm,
    /// In capitals: a keyword, or a state where a name is expected (`from NEW to READY`).
    Capital,
    /// Any other word.
    Plain,
    /// Written as in a program: `mixedCase`, `snake_case`.
    Mixed,
    /// Looks like the name of one of many: dotted, hyphenated.
    Loose,
    /// A unit behind an amount: it goes with the value.
    Unit,
}

/// Where in the line a word stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    First,
    Later,
    /// In the message of a structured line, whose values have keys of their own.
    Message,
}

/// What the dictionary knows of a word, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense(u8);

impl Sense {
    const NONE: Self = Self(0);
    const GLUE: Self = Self(1);
    const OPPOSITE: Self = Self(2);
    const INTRODUCTION: Self = Self(4);
    const UNIT: Self = Self(8);
    const MESSAGE: Self = Self(16);
    const PAYLOAD: Self = Self(32);
    const STATE: Self = Self(64);

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_unit(self) -> bool {
        self.has(Self::UNIT)
    }

    pub fn is_state(self) -> bool {
        self.has(Self::STATE)
    }

    pub fn is_message_key(self) -> bool {
        self.has(Self::MESSAGE)
    }

    pub fn is_payload_label(self) -> bool {
        self.has(Self::PAYLOAD)
    }

    /// Whether the next word is likely to be a name.
    pub fn introduces_name(self) -> bool {
        self.has(Self::INTRODUCTION)
    }
}

/// Articles, prepositions, conjunctions, auxiliary verbs, negations.
const GLUE: [&str; 67] = [
    "a", "after", "all", "already", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before", "but",
    "by", "can", "can't", "cannot", "could", "did", "do", "does", "doesn't", "don't", "due", "during", "for", "from",
    "had", "has", "have", "if", "in", "into", "is", "it", "its", "longer", "more", "no", "non", "not", "of", "on",
    "only", "or", "over", "should", "than", "that", "the", "then", "this", "to", "too", "under", "until", "via", "was",
    "were", "when", "which", "while", "will", "with", "without",
];

/// Words of opposite pairs: two lines that differ in one of them say different things.
const OPPOSITES: [&str; 66] = [
    "add",
    "allow",
    "bad",
    "begin",
    "close",
    "connect",
    "connection",
    "create",
    "delete",
    "deny",
    "destination",
    "disable",
    "disconnect",
    "down",
    "enable",
    "end",
    "enter",
    "error",
    "exit",
    "fail",
    "failure",
    "first",
    "get",
    "good",
    "high",
    "input",
    "inside",
    "join",
    "last",
    "leave",
    "left",
    "load",
    "local",
    "lock",
    "login",
    "logout",
    "low",
    "max",
    "min",
    "off",
    "offline",
    "ok",
    "online",
    "open",
    "out",
    "output",
    "pause",
    "put",
    "read",
    "receive",
    "remote",
    "remove",
    "resume",
    "right",
    "send",
    "set",
    "source",
    "start",
    "stop",
    "success",
    "successful",
    "unlock",
    "up",
    "update",
    "warning",
    "write",
];

/// Behind these a name is expected: `for root`, `user root`.
const INTRODUCTIONS: [&str; 31] = [
    "account",
    "as",
    "at",
    "by",
    "called",
    "class",
    "client",
    "device",
    "domain",
    "driver",
    "file",
    "for",
    "from",
    "group",
    "host",
    "hostname",
    "id",
    "in",
    "interface",
    "job",
    "module",
    "name",
    "named",
    "node",
    "of",
    "on",
    "service",
    "task",
    "to",
    "user",
    "username",
];

/// Units of time and size.
const UNITS: [&str; 33] = [
    "b",
    "byte",
    "bytes",
    "day",
    "days",
    "gb",
    "gib",
    "h",
    "hour",
    "hours",
    "hrs",
    "kb",
    "kib",
    "m",
    "mb",
    "mib",
    "microseconds",
    "millis",
    "milliseconds",
    "min",
    "mins",
    "minute",
    "minutes",
    "ms",
    "msec",
    "ns",
    "s",
    "sec",
    "second",
    "seconds",
    "secs",
    "tb",
    "us",
];

/// Keys whose value is the message itself, by the conventions of logfmt and JSON loggers.
const MESSAGES: [&str; 6] = ["event", "log", "message", "msg", "short_message", "text"];

/// Labels before text that a person or another program wrote: `statement: select 1`.
const PAYLOADS: [&str; 9] =
    ["cmd", "cmdline", "command", "expression", "payload", "query", "sql", "stacktrace", "statement"];

/// What a switch, a line or a part can be.
const STATES: [&str; 15] = [
    "active", "closed", "disabled", "down", "enabled", "inactive", "no", "off", "offline", "ok", "on", "online",
    "open", "up", "yes",
];

/// Names of months and weekdays, as `strftime` shortens them.
const DATES: [&str; 19] = [
    "Apr", "Aug", "Dec", "Feb", "Fri", "Jan", "Jul", "Jun", "Mar", "May", "Mon", "Nov", "Oct", "Sat", "Sep", "Sun",
    "Thu", "Tue", "Wed",
];

/// The longest word of the dictionary.
const LONGEST: usize = 13;
/// Slots of the dictionary: a power of two, less than half of them taken.
const SLOTS: usize = 1024;

static DICTIONARY: [(u64, Sense); SLOTS] = dictionary();

/// What the dictionary knows of `word`, in any case of letters.
#[inline]
pub fn sense(word: &[u8]) -> Sense {
    if word.len() > LONGEST {
        return Sense::NONE;
    }
    let key = key(word);
    let mut slot = key as usize % SLOTS;
    loop {
        let (known, sense) = DICTIONARY[slot];
        if known == key {
            return sense;
        }
        if known == 0 {
            return Sense::NONE;
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[inline]
pub fn grip(word: &[u8], classes: u8, place: Place) -> Grip {
    let sense = sense(word);
    if sense.has(Sense::GLUE) {
        return Grip::Glue;
    }
    let dots = classes & class::DOT != 0;
    // Letters that are not ASCII are letters; `@` joins names.
    let foreign = classes & class::FOREIGN != 0 && word.contains(&b'@');
    let pure = classes & !(class::LOWER | class::UPPER | class::FOREIGN) == 0 && !foreign;
    match place {
        // The first word is the name of a function or of a part far more often than a value.
        Place::First if foreign || (dots && word.iter().filter(|byte| **byte == b'.').count() >= 2) => {
            return Grip::Loose;
        }
        Place::Message if dots || foreign => return Grip::Loose,
        Place::Message => return Grip::Firm,
        Place::Later if !pure && !word.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'_') => {
            return Grip::Loose;
        }
        Place::Later if !pure || has_hump(word, classes) => return Grip::Mixed,
        Place::First | Place::Later => {}
    }
    if classes == class::UPPER && word.len() >= 2 {
        return Grip::Capital;
    }
    let verb = word.len() >= 5 && (word.ends_with(b"ed") || word.ends_with(b"ing"));
    // A unit that is not behind an amount says what is spoken of: `stored as bytes`.
    let unit = word.len() >= 4 && sense.has(Sense::UNIT);
    if verb || unit || sense.has(Sense::OPPOSITE) { Grip::Firm } else { Grip::Plain }
}

#[inline]
pub fn is_date_name(word: &[u8]) -> bool {
    word.len() == 3 && DATES.iter().any(|name| name.as_bytes() == word)
}

/// What programming languages write for truth and absence.
#[inline]
pub fn is_literal(word: &[u8]) -> bool {
    matches!(word, b"true" | b"false" | b"True" | b"False" | b"TRUE" | b"FALSE" | b"null" | b"NULL" | b"nil" | b"None")
}

/// `mixedCase`
fn has_hump(word: &[u8], classes: u8) -> bool {
    classes == class::LOWER | class::UPPER
        && word.windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

/// Equal for words that differ in case only; never 0. Two words of the dictionary never share a
/// key (a test looks each one up), another word takes the key of one of them once in 2^64.
#[inline]
const fn key(word: &[u8]) -> u64 {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let (front, back) = ends(word);
    mix(mix(word.len() as u64, front | LOWER), back | LOWER) | 1
}

const fn dictionary() -> [(u64, Sense); SLOTS] {
    let mut slots = [(0, Sense::NONE); SLOTS];
    slots = entered(slots, &GLUE, Sense::GLUE);
    slots = entered(slots, &OPPOSITES, Sense::OPPOSITE);
    slots = entered(slots, &INTRODUCTIONS, Sense::INTRODUCTION);
    slots = entered(slots, &UNITS, Sense::UNIT);
    slots = entered(slots, &MESSAGES, Sense::MESSAGE);
    slots = entered(slots, &PAYLOADS, Sense::PAYLOAD);
    entered(slots, &STATES, Sense::STATE)
}

const fn entered(mut slots: [(u64, Sense); SLOTS], words: &[&str], sense: Sense) -> [(u64, Sense); SLOTS] {
    let mut at = 0;
    while at < words.len() {
        let key = key(words[at].as_bytes());
        let mut slot = key as usize % SLOTS;
        while slots[slot].0 != 0 && slots[slot].0 != key {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = (key, slots[slot].1.with(sense));
        at += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::{GLUE, Grip, MESSAGES, OPPOSITES, PAYLOADS, Place, STATES, Sense, UNITS, grip, is_date_name, sense};
    use crate::domain::log_template::scan;

    #[test]
    fn each_word_of_the_dictionary_is_found() {
        let lists: [(&[&str], Sense); 6] = [
            (&GLUE, Sense::GLUE),
            (&OPPOSITES, Sense::OPPOSITE),
            (&UNITS, Sense::UNIT),
            (&MESSAGES, Sense::MESSAGE),
            (&PAYLOADS, Sense::PAYLOAD),
            (&STATES, Sense::STATE),
        ];
        for (words, expected) in lists {
            for word in words {
                assert!(word.len() <= super::LONGEST, "{word}");
                assert!(sense(word.as_bytes()).has(expected), "{word}");
                assert!(sense(word.to_uppercase().as_bytes()).has(expected), "{word}");
            }
        }
        assert_eq!(sense(b"zebra"), Sense::NONE);
    }

    #[test]
    fn words_hold_their_place_by_their_look() {
        let check = |word: &str, place: Place, expected: Grip| {
            let classes = scan::piece(word.as_bytes(), 0).classes;
            assert_eq!(grip(word.as_bytes(), classes, place), expected, "{word}");
        };
        check("from", Place::Later, Grip::Glue);
        check("Started", Place::Later, Grip::Firm);
        check("bytes", Place::Later, Grip::Firm);
        check("READY", Place::Later, Grip::Capital);
        check("cyrus", Place::Later, Grip::Plain);
        check("my-host", Place::Later, Grip::Loose);
        check("mixedCase", Place::Later, Grip::Mixed);
        check("mixedCase", Place::First, Grip::Plain);
        check("a.b.example", Place::First, Grip::Loose);
        check("lease", Place::Message, Grip::Firm);
        assert!(is_date_name(b"Jun") && !is_date_name(b"June"));
    }
}
