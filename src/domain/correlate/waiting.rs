//! Warnings that wait for company, found by fingerprint and by node.

use std::collections::VecDeque;
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
}

#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    known: FxHashMap<Fingerprint, Waiting>,
    by_node: FxHashMap<u32, Vec<Fingerprint>>,
    /// In the order of arrival; who is no longer known has left.
    queue: VecDeque<(Fingerprint, Timestamp)>,
}

/// Warnings that wait; the oldest give way.
const MAX_WAITING: usize = 10_000;

impl WaitingRoom {
    pub fn add(&mut self, one: Waiting) {
        if self.known.contains_key(&one.fingerprint) {
            return;
        }
        self.queue.push_back((one.fingerprint, one.at));
        self.by_node.entry(one.node).or_default().push(one.fingerprint);
        self.known.insert(one.fingerprint, one);
        while self.queue.len() > MAX_WAITING {
            self.drop_oldest();
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
        if let Some(here) = self.by_node.get_mut(&gone.node) {
            here.retain(|one| *one != fingerprint);
            if here.is_empty() {
                self.by_node.remove(&gone.node);
            }
        }
    }

    pub fn expire(&mut self, at: Timestamp, after: Duration) {
        while self.queue.front().is_some_and(|(_, since)| at.since(*since) > after) {
            self.drop_oldest();
        }
    }

    pub fn is_overdue(&self, now: Timestamp, after: Duration) -> bool {
        self.queue.front().is_some_and(|(_, since)| now.since(*since) >= after)
    }

    /// Who has waited so long; in the order of arrival.
    pub fn overdue(&mut self, now: Timestamp, after: Duration) -> Vec<Fingerprint> {
        while self.queue.front().is_some_and(|(one, _)| !self.is_current(*one)) {
            self.queue.pop_front();
        }
        let due = self.queue.iter().take_while(|(_, since)| now.since(*since) >= after);
        due.filter(|(one, _)| self.is_current(*one)).map(|(one, _)| *one).collect()
    }

    fn is_current(&self, one: Fingerprint) -> bool {
        self.known.contains_key(&one)
    }

    /// A fingerprint that left and came again is in the queue twice; its older place says nothing.
    fn drop_oldest(&mut self) {
        if let Some((gone, since)) = self.queue.pop_front()
            && self.known.get(&gone).is_some_and(|one| one.at <= since)
        {
            self.remove(gone);
        }
    }
}
