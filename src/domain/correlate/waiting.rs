//! Warnings that wait for company, found by fingerprint and by node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::alert::Fingerprint;
use super::super::severity::Said;
use super::super::time::Timestamp;

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub fingerprint: Fingerprint,
    pub node: u32,
    pub name: Arc<str>,
    pub at: Timestamp,
    pub said: Said,
    pub namespaces: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    known: FxHashMap<Fingerprint, Waiting>,
    by_node: FxHashMap<u32, Vec<Fingerprint>>,
    /// The one that began first in front: a sender whose clock runs ahead holds nobody up.
    queue: BTreeSet<(Timestamp, Fingerprint)>,
}

/// Warnings that wait; the oldest give way.
const MAX_WAITING: usize = 10_000;

impl WaitingRoom {
    pub fn add(&mut self, one: Waiting) {
        if self.known.contains_key(&one.fingerprint) {
            return;
        }
        self.queue.insert((one.at, one.fingerprint));
        self.by_node.entry(one.node).or_default().push(one.fingerprint);
        self.known.insert(one.fingerprint, one);
        while self.known.len() > MAX_WAITING {
            let Some((_, oldest)) = self.queue.first().copied() else { break };
            self.remove(oldest);
        }
    }

    pub fn get(&self, fingerprint: Fingerprint) -> Option<&Waiting> {
        self.known.get(&fingerprint)
    }

    pub fn about(&self, node: u32) -> impl Iterator<Item = &Waiting> {
        self.by_node.get(&node).into_iter().flatten().filter_map(|fingerprint| self.known.get(fingerprint))
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn remove(&mut self, fingerprint: Fingerprint) {
        let Some(gone) = self.known.remove(&fingerprint) else { return };
        self.queue.remove(&(gone.at, fingerprint));
        if let Some(here) = self.by_node.get_mut(&gone.node) {
            here.retain(|one| *one != fingerprint);
            if here.is_empty() {
                self.by_node.remove(&gone.node);
            }
        }
    }

    pub fn is_overdue(&self, now: Timestamp, after: Duration) -> bool {
        self.queue.first().is_some_and(|(since, _)| now.since(*since) >= after)
    }

    /// Who has waited so long, the one that began first in front.
    pub fn overdue(&self, now: Timestamp, after: Duration) -> Vec<Fingerprint> {
        self.queue.iter().take_while(|(since, _)| now.since(*since) >= after).map(|(_, one)| *one).collect()
    }
}
