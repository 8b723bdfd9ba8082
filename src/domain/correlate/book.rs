//! Numbers by scope and name.
//!
//! Found by a hash that is kept, so that a book that grows reads no name again: thousands of new names
//! come within a second of a storm. Names of one hash are compared one after the other.

use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use super::pages::Pages;

#[derive(Debug, Default)]
pub(super) struct Book {
    /// By the hash of scope and name, the newest entry.
    newest: FxHashMap<u64, u32>,
    entries: Pages<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    scope: u32,
    number: u32,
    /// The one before it with the same hash.
    before: Option<u32>,
}

/// Of a name in any scope.
pub(super) fn hash(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn key(scope: u32, name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(hash(name));
    hasher.write_u32(scope);
    hasher.finish()
}

impl Book {
    pub fn find(&self, scope: u32, name: &str) -> Option<u32> {
        let mut at = self.newest.get(&key(scope, name)).copied();
        while let Some(entry) = at.map(|at| self.entries.at(at)) {
            if entry.scope == scope && *entry.name == *name {
                return Some(entry.number);
            }
            at = entry.before;
        }
        None
    }

    /// The name is not in the book yet.
    pub fn add(&mut self, scope: u32, name: Arc<str>, number: u32) {
        let before = self.newest.insert(key(scope, &name), self.entries.len() as u32);
        self.entries.push(Entry { name, scope, number, before });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_in_two_scopes_are_two() {
        let mut book = Book::default();
        for (scope, name, number) in [(0, "pay", 3), (1, "pay", 4), (0, "cart", 5)] {
            assert_eq!(book.find(scope, name), None);
            book.add(scope, name.into(), number);
        }
        assert_eq!((book.find(0, "pay"), book.find(1, "pay"), book.find(1, "cart")), (Some(3), Some(4), None));
    }

    #[test]
    fn names_of_one_hash_are_told_apart() {
        let mut book = Book::default();
        for (name, number) in [("pay", 1), ("cart", 2)] {
            book.add(0, name.into(), number);
        }
        // As if both had the hash of `cart`.
        book.entries.at_mut(1).before = Some(0);
        book.newest.insert(key(0, "pay"), 1);
        assert_eq!((book.find(0, "pay"), book.find(0, "cart")), (Some(1), Some(2)));
    }
}
