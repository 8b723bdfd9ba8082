//! Finds which of many sets of matchers may match an alert without trying each.
//!
//! Invariant: every set that matches is among the candidates, and no candidate is given twice.

use std::collections::{BTreeSet, HashMap};

use super::super::alert::Labels;
use super::matcher::{Matchers, Op};

/// Each set is filed once: under a value that a label must have, or under the start of a value that
/// an expression demands, else in the list that every alert is tried against.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    labels: HashMap<String, Shelf>,
    rest: Vec<u32>,
}

#[derive(Debug, Clone, Default)]
struct Shelf {
    by_value: HashMap<String, Vec<u32>>,
    /// Sets with an expression on this label, by the text that the value must start with. The
    /// expression itself is left to the caller, whose cheaper matchers often spare it.
    by_prefix: HashMap<String, Vec<u32>>,
    /// Bytes of the keys of `by_prefix`: only so many starts of a value are looked up.
    prefix_lengths: BTreeSet<usize>,
}

impl Index {
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a Matchers>) -> Self {
        let mut index = Self::default();
        for (slot, matchers) in (0..).zip(sets) {
            index.insert(slot, matchers);
        }
        index
    }

    /// `slot` is the caller's number for the set.
    pub fn insert(&mut self, slot: u32, matchers: &Matchers) {
        // The least crowded place: `severity="critical"` says less than `service="pay"`, and once many
        // sets share it, less than `instance=~"db-.+"`.
        let exact = matchers
            .iter()
            .filter_map(|matcher| Some((matcher.name(), matcher.exact_values()?)))
            .map(|(name, values)| (self.crowd(name, &values), name, values))
            .min();
        let prefix = matchers
            .iter()
            .filter(|matcher| matcher.op() == Op::Regex && !matcher.accepts(""))
            .map(|matcher| (matcher.name(), matcher.literal_start()))
            .map(|(name, start)| (self.prefix_crowd(name, start), name, start))
            .min();
        match (exact, prefix) {
            (Some((crowd, name, mut values)), prefix) if prefix.is_none_or(|(other, ..)| crowd <= other) => {
                values.sort_unstable();
                values.dedup();
                let shelf = self.labels.entry(name.to_owned()).or_default();
                for value in values {
                    shelf.by_value.entry(value.to_owned()).or_default().push(slot);
                }
            }
            (_, Some((_, name, start))) => {
                let shelf = self.labels.entry(name.to_owned()).or_default();
                shelf.by_prefix.entry(start.to_owned()).or_default().push(slot);
                shelf.prefix_lengths.insert(start.len());
            }
            (_, None) => self.rest.push(slot),
        }
    }

    /// Visits the slots whose set may match, in no order.
    pub fn candidates(&self, labels: &Labels, mut visit: impl FnMut(u32)) {
        if !self.labels.is_empty() {
            for (name, value) in labels {
                let Some(shelf) = self.labels.get(name) else { continue };
                shelf.by_value.get(value).into_iter().flatten().copied().for_each(&mut visit);
                // A length beyond the value or inside a character starts nothing.
                let starts = shelf.prefix_lengths.iter().filter_map(|length| value.get(..*length));
                starts.filter_map(|start| shelf.by_prefix.get(start)).flatten().copied().for_each(&mut visit);
            }
        }
        self.rest.iter().copied().for_each(visit);
    }

    fn crowd(&self, name: &str, values: &[&str]) -> usize {
        let Some(shelf) = self.labels.get(name) else { return 0 };
        values.iter().filter_map(|value| shelf.by_value.get(*value)).map(Vec::len).sum()
    }

    fn prefix_crowd(&self, name: &str, start: &str) -> usize {
        self.labels.get(name).and_then(|shelf| shelf.by_prefix.get(start)).map_or(0, Vec::len)
    }
}
