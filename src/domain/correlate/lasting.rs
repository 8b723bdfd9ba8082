//! Warnings that last without company: what they belong to when they may speak for themselves.

use std::time::Duration;

use super::super::alert::Fingerprint;
use super::super::id::IncidentId;
use super::super::time::Timestamp;
use super::waiting::Waiting;
use super::{COMPANY, Correlator, Open, Place, names};

/// A chore elsewhere is the same message for so long,
const CHORE_LASTS: Duration = Duration::from_secs(3600);
/// and about so many.
const MOST_CHORES: usize = 50;
const MAX_CHORES: usize = 1_000;

impl Correlator {
    /// Warnings that have waited so long that company no longer matters. They wait no more; whether
    /// they still fire is for the caller to know.
    pub fn overdue(&mut self, event_now: Timestamp) -> Vec<Fingerprint> {
        self.waiting.overdue(event_now, self.rules.persists)
    }

    /// The incident that a waiting alert would belong to now: its subject's, that of who calls it, or that
    /// of a neighbour which warns as long.
    pub fn home(&self, fingerprint: Fingerprint) -> Option<(IncidentId, &'static str)> {
        let found = self.waiting.get(fingerprint)?;
        let at = self.graph.at(found.node).last_at.max(found.at);
        let near = self.active(found.node, at).or_else(|| self.downstream(found.node, at).map(|(key, _)| key));
        let near = near.or_else(|| self.resolution_of(found));
        let near = near.map(|key| (key, "near this incident"));
        let chore = || self.chore(found).map(|key| (key, "as others do of what comes about over days"));
        let fellow = || self.fellow(found).map(|key| (key, "near this incident"));
        let (key, why) = near.or_else(chore).or_else(fellow)?;
        self.open.get(&key).map(|open| (open.id.clone(), why))
    }

    /// The incident of the same chore elsewhere: certificates that expire are one message, not twenty.
    fn chore(&self, found: &Waiting) -> Option<u32> {
        let key = self.resolve(*self.chores.get(&(self.graph.at(found.node).scope, found.name.clone()))?);
        let open = self.open.get(&key)?;
        let recent = found.at.abs_diff(open.opened_at) <= CHORE_LASTS && open.nodes.len() < MOST_CHORES;
        (self.warns_only(open) && recent && !open.pinned).then_some(key)
    }

    /// A lasting warning has opened the incident.
    pub fn lasts(&mut self, incident: &IncidentId, fingerprint: Fingerprint) {
        let Some(key) = self.keys.get(incident).copied() else { return };
        let Some(Place { node, .. }) = self.member.get(&fingerprint) else { return };
        let known = self.graph.at(*node);
        if !names::is_chore(&known.name) {
            return;
        }
        if self.chores.len() >= MAX_CHORES {
            self.chores.retain(|_, key| self.open.contains_key(key));
        }
        self.chores.insert((known.scope, known.name.clone()), key);
    }

    /// The incident of a neighbour that began to warn at about the same time and never did more: neither
    /// passed, so they are about one thing.
    fn fellow(&self, found: &Waiting) -> Option<u32> {
        let began_with_it = |other: &u32| {
            let other = self.graph.at(*other);
            !other.critical && !other.host && other.first_at.abs_diff(found.at) <= COMPANY
        };
        let mut around = self.graph.callees(found.node).chain(self.graph.callers(found.node)).filter(began_with_it);
        around.find_map(|other| {
            let key = self.active(other, self.graph.at(other).last_at.max(found.at))?;
            // What something critical opened has had its time to reach this one.
            self.open.get(&key).is_some_and(|open| self.warns_only(open)).then_some(key)
        })
    }

    fn warns_only(&self, open: &Open) -> bool {
        open.nodes.iter().all(|node| !self.graph.at(*node).critical)
    }

    /// An open incident of a caller that is critical, for a queue: it fills because those who empty it
    /// fail. Other warnings below an incident may be faults of their own.
    pub(super) fn downstream(&self, node: u32, at: Timestamp) -> Option<(u32, u32)> {
        if !self.graph.at(node).queue {
            return None;
        }
        let mut callers = self.graph.callers(node).filter(|caller| self.graph.at(*caller).critical);
        callers.find_map(|caller| Some((self.active(caller, at)?, caller)))
    }

    pub fn is_overdue(&self, event_now: Timestamp) -> bool {
        self.waiting.is_overdue(event_now, self.rules.persists)
    }
}
