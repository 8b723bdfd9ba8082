//! What a text is about, in the words of no one in particular.
//!
//! People in an incident say "the pods keep dying", the runbook says `CrashLoopBackOff`. A list of
//! concepts names what is said in many ways; a text carries the concepts that its phrases belong
//! to, as a second kind of word beside its own. Both sides of a search are read the same way, so
//! that a concept weighs by how rare it is among the documents.
//!
//! Invariant: the id of a concept never meets the id of a word (see `Concept::id`).

use std::collections::HashMap;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

/// One concept a line: `name: phrase, phrase`. It holds language of operations in general.
const OPERATIONS: &str = include_str!("lexicon/operations.txt");

/// Two words that stand together are less often an accident than one.
const PHRASE_WEIGHT: f32 = 1.5;

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::read(OPERATIONS));

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Concept(u16);

/// A concept that a question names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Named {
    pub concept: Concept,
    pub weight: f32,
}

/// The concepts of a text, once for each time that it names them.
pub(crate) fn concepts(text: &str) -> Vec<Concept> {
    LEXICON.find(text).into_iter().map(|found| found.concept).collect()
}

/// The concepts of a question, each once. A phrase within a longer one that was meant does not count.
pub(crate) fn named(question: &str) -> Vec<Named> {
    let found = LEXICON.find(question);
    let mut named: Vec<Named> = Vec::new();
    for one in &found {
        let within = |other: &Found| {
            other.start <= one.start && one.end <= other.end && other.end - other.start > one.end - one.start
        };
        if found.iter().any(within) {
            continue;
        }
        let weight = if one.end - one.start > 1 { PHRASE_WEIGHT } else { 1.0 };
        match named.iter_mut().find(|known| known.concept == one.concept) {
            Some(known) => known.weight = known.weight.max(weight),
            None => named.push(Named { concept: one.concept, weight }),
        }
    }
    named
}

/// Changes when the lexicon does, so that what was indexed with another one is indexed anew.
pub(crate) fn version() -> u32 {
    fnv1a(OPERATIONS)
}

impl Concept {
    /// Words are hashed to 31 bits (Qdrant's BM25 takes the absolute value of a signed hash);
    /// a concept has the bit above. Stable while the concept keeps its name.
    pub fn id(self) -> u32 {
        LEXICON.names.get(usize::from(self.0)).map_or(u32::MAX, |name| fnv1a(name) | 0x8000_0001)
    }

    pub fn name(self) -> &'static str {
        LEXICON.names.get(usize::from(self.0)).map_or("", String::as_str)
    }
}

/// FNV-1a, 32 bits: Fowler, Noll, Vo.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

struct Found {
    concept: Concept,
    /// In words of the text.
    start: usize,
    end: usize,
}

struct Phrase {
    stems: Vec<u32>,
    concept: Concept,
}

struct Lexicon {
    names: Vec<String>,
    /// Every stem that a phrase holds, by number.
    stems: HashMap<String, u32>,
    /// By their first stem.
    phrases: HashMap<u32, Vec<Phrase>>,
}

impl Lexicon {
    fn read(text: &str) -> Self {
        let stemmer = Stemmer::create(Algorithm::English);
        let mut lexicon = Self { names: Vec::new(), stems: HashMap::new(), phrases: HashMap::new() };
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((name, phrases)) = line.split_once(':') else { continue };
            let Ok(number) = u16::try_from(lexicon.names.len()) else { break };
            lexicon.names.push(name.trim().to_owned());
            for phrase in phrases.split(',') {
                let stems: Vec<u32> = words(phrase).map(|word| lexicon.number(&stemmer.stem(&word))).collect();
                let Some(first) = stems.first().copied() else { continue };
                let known = lexicon.phrases.entry(first).or_default();
                if !known.iter().any(|known| known.stems == stems && known.concept == Concept(number)) {
                    known.push(Phrase { stems, concept: Concept(number) });
                }
            }
        }
        lexicon
    }

    fn number(&mut self, stem: &str) -> u32 {
        let next = self.stems.len() as u32;
        *self.stems.entry(stem.to_owned()).or_insert(next)
    }

    fn find(&self, text: &str) -> Vec<Found> {
        let stemmer = Stemmer::create(Algorithm::English);
        let stems: Vec<Option<u32>> =
            words(&split_names(text)).map(|word| self.stems.get(stemmer.stem(&word).as_ref()).copied()).collect();
        let mut found = Vec::new();
        for start in 0..stems.len() {
            let rest = stems.get(start..).unwrap_or_default();
            let Some(Some(first)) = rest.first() else { continue };
            for phrase in self.phrases.get(first).into_iter().flatten() {
                let long = phrase.stems.len();
                if rest.len() >= long && phrase.stems.iter().zip(rest).all(|(wanted, is)| Some(*wanted) == *is) {
                    found.push(Found { concept: phrase.concept, start, end: start + long });
                }
            }
        }
        found
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// `KubePodOOMKilled` -> `Kube Pod OOM Killed`
pub(crate) fn split_names(text: &str) -> String {
    let mut split = String::with_capacity(text.len() + 16);
    let mut before: Option<char> = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let starts = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_uppercase() && letters.peek().is_some_and(|after| after.is_lowercase()))
            });
        if starts {
            split.push(' ');
        }
        split.push(if letter == '_' { ' ' } else { letter });
        before = Some(letter);
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(question: &str) -> Vec<&'static str> {
        named(question).into_iter().map(|named| named.concept.name()).collect()
    }

    #[test]
    fn names_are_said_as_words() {
        assert_eq!(split_names("KubePodOOMKilled"), "Kube Pod OOM Killed");
        assert_eq!(split_names("HTTPErrors_high on node-7"), "HTTP Errors high on node-7");
    }

    #[test]
    fn one_thing_said_in_two_ways_is_one_concept() {
        for (said, written) in [
            ("the pods keep dying", "CrashLoopBackOff"),
            ("killed, out of memory", "OOMKilled"),
            ("no space left on device", "filesystem is full"),
            ("our cert runs out on monday", "x509: certificate has expired"),
        ] {
            let (said, written) = (names(said), names(written));
            assert!(said.iter().any(|name| written.contains(name)), "{said:?} {written:?}");
        }
    }

    #[test]
    fn a_longer_phrase_is_meant_rather_than_a_word_of_it() {
        assert!(names("it is out of memory").contains(&"oom"));
        assert!(!names("it is out of memory").contains(&"memory"));
        assert!(names("memory").contains(&"memory"));
    }

    #[test]
    fn every_concept_has_an_id_of_its_own_beside_all_words() {
        let mut ids: Vec<u32> = (0..LEXICON.names.len()).map(|number| Concept(number as u16).id()).collect();
        assert!(ids.len() > 100 && ids.iter().all(|id| *id > 0x8000_0000));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), LEXICON.names.len());
    }
}
