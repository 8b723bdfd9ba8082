//! A machine that ends takes with it what ran there. Where nothing says what ran where, the burst does:
//! services that nothing else explains, all at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::alert::Fingerprint;
use super::super::time::Timestamp;
use super::names::{is_gone, is_machine_down};
use super::{Correlator, Place};

/// A service, or a machine, that became critical with nothing to explain it.
#[derive(Debug, Clone, Copy)]
struct Fall {
    key: u32,
    node: u32,
    at: Timestamp,
    machine: bool,
    /// Broken in itself: it did not fall with a machine.
    cause: bool,
}

/// The last ones, in the order in which they were heard of.
#[derive(Debug, Default)]
pub(super) struct Falls(VecDeque<Fall>);

/// Services may be noticed this long before the machine that they ran on.
const EARLY: Duration = Duration::from_secs(90);
/// And this long after it.
const LATE: Duration = Duration::from_secs(150);
/// Fewer that fall at once may do so by chance.
const BURST: usize = 3;
/// So many that are gone at once, with nothing to explain any of them, were reached over the same network.
const CHORUS: usize = 5;
const AT_ONCE: Duration = Duration::from_secs(30);
const MAX_KEPT: usize = 64;

impl Falls {
    fn add(&mut self, fall: Fall) {
        while self.0.len() >= MAX_KEPT || self.0.front().is_some_and(|first| fall.at.since(first.at) > EARLY + LATE) {
            self.0.pop_front();
        }
        self.0.push_back(fall);
    }
}

impl Correlator {
    /// A critical alert has just opened the incident. What is broken in itself did not fall with a machine.
    ///
    /// Not called for what is known after a restart: a burst that was none then is none afterwards.
    pub fn fell(&mut self, fingerprint: Fingerprint, at: Timestamp) {
        let Some(Place { key, node, .. }) = self.member.get(&fingerprint).copied() else { return };
        let key = self.explain_everybody(key, node, at);
        let known = self.graph.at(node);
        let (machine, scope) = (is_machine_down(&known.name), known.scope);
        let cause = known.cause && !machine;
        self.falls.add(Fall { key, node, at, machine, cause });
        let here: Vec<Fall> =
            self.falls.0.iter().filter(|fall| self.graph.at(fall.node).scope == scope).copied().collect();
        for gone in here.iter().filter(|fall| fall.machine) {
            let with_it = |fall: &&Fall| {
                !fall.machine && !fall.cause && gone.at.since(fall.at) <= EARLY && fall.at.since(gone.at) <= LATE
            };
            let fallen: Vec<&Fall> = here.iter().filter(with_it).collect();
            if fallen.len() < BURST {
                continue;
            }
            let because = format!(
                "{} services fell at once with {}, and nothing else explains them",
                fallen.len(),
                self.graph.at(gone.node).subject
            );
            for fall in fallen {
                self.fell_together(fall.key, gone.key, &because);
            }
        }
        if !is_gone(&self.graph.at(node).name) {
            return;
        }
        // Where nobody knows who needs whom, that nothing explains them says nothing.
        let alike = |fall: &&Fall| {
            let fallen = self.graph.at(fall.node);
            at.abs_diff(fall.at) <= AT_ONCE && fallen.charted && is_gone(&fallen.name)
        };
        let alike: Vec<&Fall> = here.iter().filter(alike).collect();
        if alike.len() < CHORUS {
            return;
        }
        let because = format!("{} subjects were gone at once, and nothing else explains them", alike.len());
        for fall in alike {
            self.fell_together(fall.key, key, &because);
        }
    }

    fn fell_together(&mut self, one: u32, other: u32, because: &str) {
        let (one, other) = (self.resolve(one), self.resolve(other));
        if one != other && self.open.contains_key(&one) && self.open.contains_key(&other) {
            let older = self.older(one, other);
            self.merge(if older == one { other } else { one }, older, because.to_owned());
        }
    }
}
