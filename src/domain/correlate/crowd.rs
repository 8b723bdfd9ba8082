//! One kind of trouble in many places at once: the same alert about several subjects of a cluster within a
//! minute has one reason, whoever calls whom. A zone, a network or a setting is seldom in a topology.
//!
//! Measured on storms of five generators: of four subjects and more that broke in the same way within a
//! minute, 91 to 100 % were about one fault; where they may only suffer, it takes twice as many.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;
use super::Correlator;
use super::voices::{Link, Said};

/// What happens to several at once happens within this time.
const AT_ONCE: Duration = Duration::from_secs(60);
/// So many are no chance: of what is broken in itself, and of what may suffer from several others.
const BROKEN: usize = 4;
const SUFFERING: usize = 8;
/// How much it counts. Calls count more.
const IN_A_CROWD: f64 = 0.6;
/// Kinds and places that are remembered, and subjects of each.
const MAX_KINDS: usize = 20_000;
const MAX_SUBJECTS: usize = 16;
/// Roots of an incident that are looked at.
const NEWEST: usize = 4 * MAX_SUBJECTS;

/// Whom an alert has lately been about, by scope and the number of its name.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    seen: FxHashMap<(u32, u32), VecDeque<(u32, Timestamp)>>,
}

impl Crowds {
    pub fn note(&mut self, scope: u32, kind: u32, node: u32, at: Timestamp) {
        if self.seen.len() >= MAX_KINDS {
            self.seen.retain(|_, seen| seen.back().is_some_and(|(_, last)| at.since(*last) <= AT_ONCE));
            // Names that are all different are of no kind.
            if self.seen.len() >= MAX_KINDS {
                self.seen.clear();
            }
        }
        let seen = self.seen.entry((scope, kind)).or_default();
        if let Some((_, last)) = seen.iter_mut().find(|(one, _)| *one == node) {
            *last = at.max(*last);
            return;
        }
        while seen.len() >= MAX_SUBJECTS || seen.front().is_some_and(|(_, then)| at.since(*then) > AT_ONCE) {
            seen.pop_front();
        }
        seen.push_back((node, at));
    }

    /// The others, within a minute.
    fn around(&self, scope: u32, kind: u32, node: u32, at: Timestamp) -> impl Iterator<Item = u32> + '_ {
        let seen = self.seen.get(&(scope, kind)).into_iter().flatten();
        seen.filter(move |(one, then)| *one != node && then.abs_diff(at) <= AT_ONCE).map(|(one, _)| *one)
    }
}

impl Correlator {
    /// What speaks for the incidents of others that fell ill in the same way at the same time.
    pub(super) fn hear_crowd(&self, node: u32, at: Timestamp, heard: &mut Vec<Said>) {
        let known = self.graph.at(node);
        let (mut count, mut told) = (1, vec![]);
        for other in self.crowds.around(known.scope, known.kind.number, node, at) {
            let Some(key) = self.active(other, at) else {
                count += 1;
                continue;
            };
            // Who suffers from something known is no sign of something unknown. Who is new is near the end.
            let new = self.graph.at(other).first_at.abs_diff(at) <= AT_ONCE;
            let mut roots = self.open.get(&key).into_iter().flat_map(|open| open.roots.iter().rev().take(NEWEST));
            if new && roots.any(|root| *root == other) {
                count += 1;
                told.push((key, other));
            }
        }
        if count >= if known.kind.cause { BROKEN } else { SUFFERING } {
            told.dedup_by_key(|(key, _)| *key);
            heard.extend(told.iter().map(|(key, other)| Said::pattern(*key, Link::Crowd, *other, IN_A_CROWD, 1.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_of_a_minute_and_bounded() {
        let mut crowds = Crowds::default();
        let at = |second: i64| Timestamp::from_secs(second);
        for node in 0..3 {
            crowds.note(0, 1, node, at(i64::from(node)));
        }
        crowds.note(0, 2, 7, at(2));
        crowds.note(1, 1, 8, at(2));
        let around = |crowds: &Crowds, second| crowds.around(0, 1, 0, at(second)).collect::<Vec<_>>();
        assert_eq!(around(&crowds, 30), [1, 2]);
        assert_eq!(around(&crowds, 62), [2]);
        // One that goes on is one.
        crowds.note(0, 1, 1, at(40));
        assert_eq!(around(&crowds, 62), [1, 2]);
        for node in 0..1_000 {
            crowds.note(0, 1, node, at(50));
        }
        assert_eq!(around(&crowds, 50).len(), MAX_SUBJECTS);
        for kind in 0..3 * MAX_KINDS as u32 {
            crowds.note(0, kind, 1, at(i64::from(kind)));
        }
        assert!(crowds.seen.len() <= MAX_KINDS);
        for kind in 0..3 * MAX_KINDS as u32 {
            crowds.note(0, kind, 1, at(100_000));
        }
        assert!(crowds.seen.len() <= MAX_KINDS);
    }
}
