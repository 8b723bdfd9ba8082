//! Incidents that turn out to have one explanation become one.

use super::super::id::IncidentId;
use super::super::time::Timestamp;
use super::{Correlator, Merge, voices};

impl Correlator {
    pub(super) fn active_callee_in(&self, node: u32, key: u32, at: Timestamp) -> bool {
        self.graph.callees(node).any(|callee| self.active(callee, at) == Some(key))
    }

    /// `node` explains the roots that need it: they are roots no longer, and an incident all of
    /// whose roots it explains is the same incident.
    pub(super) fn explain_callers(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        // What runs on a machine that only works hard is not ill by that.
        if self.graph.at(node).host && !self.graph.at(node).gone {
            return key;
        }
        let callers: Vec<u32> =
            self.graph.callers(node).filter(|caller| self.graph.at(*caller).incident.is_some()).collect();
        let mut touched: Vec<u32> = callers.iter().filter_map(|caller| self.active(*caller, at)).collect();
        // What is broken in itself is explained by nobody but the machine that it ran on.
        let machine = self.graph.at(node).host;
        let explicable = |caller: &u32| self.could_cause(at, *caller) && (machine || !self.graph.at(*caller).cause);
        let timely: Vec<u32> = callers.iter().copied().filter(explicable).collect();
        touched.sort_unstable();
        touched.dedup();
        for other in touched {
            let Some(open) = self.open.get_mut(&other) else { continue };
            let explained = |root: &u32| *root != node && callers.contains(root) && timely.contains(root);
            let all = open.roots.iter().all(explained);
            if other == key {
                // Itself stays, if nothing below it alerts.
                open.roots.retain(|root| !explained(root));
            } else if all && !open.roots.is_empty() {
                let root = open.roots.first().map(|root| self.graph.at(*root).subject.clone());
                let because =
                    format!("{} explains {}, which needs it", self.graph.at(node).subject, root.unwrap_or_default());
                let older = self.older(key, other);
                let younger = if older == key { other } else { key };
                self.merge(younger, older, because);
                let key = self.resolve(key);
                if let Some(open) = self.open.get_mut(&key) {
                    open.roots.retain(|root| !(*root != node && timely.contains(root)));
                }
            }
        }
        self.resolve(key)
    }

    /// What hides behind several roots has come to light: they are one story.
    pub(super) fn merge_common(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let silent: Vec<u32> = self.graph.callees(node).filter(|callee| !self.graph.at(*callee).host).collect();
        let mut key = key;
        for silent in silent {
            if self.active(silent, at).is_some() {
                continue;
            }
            let callers: Vec<u32> = self.graph.callers(silent).collect();
            let mut others: Vec<u32> = callers.iter().filter_map(|caller| self.active(*caller, at)).collect();
            others.sort_unstable();
            others.dedup();
            others.retain(|other| {
                let together = |root: &u32| self.graph.at(*root).first_at.abs_diff(at) <= voices::SOON;
                let blames = |root: &u32| callers.contains(root) && together(root) && !self.graph.at(*root).cause;
                *other != key && self.open.get(other).is_some_and(|open| open.roots.iter().all(blames))
            });
            for other in others {
                let because = format!("all of it needs {}, which says nothing itself", self.graph.at(silent).subject);
                let older = self.older(key, other);
                self.merge(if older == key { other } else { key }, older, because);
                key = self.resolve(key);
            }
        }
        key
    }

    pub(super) fn older(&self, one: u32, other: u32) -> u32 {
        let age = |key: u32| self.open.get(&key).map(|open| (open.opened_at, key));
        if age(one) <= age(other) { one } else { other }
    }

    pub(super) fn merge(&mut self, from: u32, into: u32, because: String) {
        let pinned = |key: u32| self.open.get(&key).is_none_or(|open| open.pinned);
        let (from, into) = match (pinned(from), pinned(into)) {
            (true, true) => return,
            (true, false) => (into, from),
            (false, _) => (from, into),
        };
        // People have said that they are two.
        if self.open.get(&from).is_some_and(|open| open.apart.iter().any(|key| self.resolve(*key) == into)) {
            return;
        }
        if let Some((from, into)) = self.unite(from, into) {
            self.merges.push(Merge { from, into, because });
        }
    }

    /// All of `from` becomes part of `into`. Their names.
    pub(super) fn unite(&mut self, from: u32, into: u32) -> Option<(IncidentId, IncidentId)> {
        if from == into || !self.open.contains_key(&into) {
            return None;
        }
        let gone = self.open.remove(&from)?;
        for node in &gone.nodes {
            // It may have become part of another since.
            if self.graph.at(*node).incident.is_some_and(|now| self.resolve(now) == from) {
                self.graph.at_mut(*node).incident = Some(into);
            }
        }
        let open = self.open.get_mut(&into)?;
        open.last_at = open.last_at.max(gone.last_at);
        open.nodes.extend(gone.nodes);
        open.roots.extend(gone.roots);
        open.members.extend(gone.members);
        open.absorbed.push(from);
        open.absorbed.extend(gone.absorbed);
        open.apart.extend(gone.apart);
        open.apart.retain(|key| *key != from && *key != into);
        self.redirect.insert(from, into);
        // What opened it may still have gathered others, which come here by its name.
        open.aliases.push(gone.id.clone());
        open.aliases.extend(gone.aliases);
        Some((gone.id, open.id.clone()))
    }
}
