//! The names under which people have acted lately, each with what they meant by it.
//!
//! Invariant: under one name counts one act. What comes again under it is a retry, or it is told that it is not.

use std::collections::{HashMap, VecDeque};

use crate::domain::id::Digest;

/// A person acts a few times a minute; a retry comes within one.
const MOST_NAMES: usize = 1_000;

#[derive(Default)]
pub struct Acts {
    by_name: HashMap<String, Digest>,
    oldest_first: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    New,
    Same,
    /// Another act had this name.
    Other,
}

impl Acts {
    pub fn begin(&mut self, name: &str, meant: &Digest) -> Known {
        match self.by_name.get(name) {
            Some(known) if known == meant => Known::Same,
            Some(_) => Known::Other,
            None => {
                self.by_name.insert(name.to_owned(), meant.clone());
                self.oldest_first.push_back(name.to_owned());
                if self.oldest_first.len() > MOST_NAMES
                    && let Some(oldest) = self.oldest_first.pop_front()
                {
                    self.by_name.remove(&oldest);
                }
                Known::New
            }
        }
    }

    /// It did not come to pass: its name is free for another.
    pub fn failed(&mut self, name: &str) {
        self.by_name.remove(name);
        self.oldest_first.retain(|known| known != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_act_until_it_fails_or_is_long_ago() {
        let mut acts = Acts::default();
        let (yes, no) = (Digest::of(b"yes"), Digest::of(b"no"));
        assert_eq!(acts.begin("a", &yes), Known::New);
        assert_eq!((acts.begin("a", &yes), acts.begin("a", &no)), (Known::Same, Known::Other));
        acts.failed("a");
        assert_eq!(acts.begin("a", &no), Known::New);
        for name in 0..MOST_NAMES {
            acts.begin(&name.to_string(), &yes);
        }
        assert_eq!(acts.by_name.len(), MOST_NAMES);
        assert_eq!(acts.begin("a", &yes), Known::New);
    }
}
