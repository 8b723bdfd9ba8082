//! Questions to what was observed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::strength::is_own;
use super::{ANOMALOUS, CHANGE_BEFORE, EdgeReading, Picture, Reading, SKEW, SignalClass};
use crate::domain::change::Change;
use crate::domain::time::Timestamp;
use crate::domain::topology::NodeKind;

impl Picture {
    pub fn of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Reading> + 'a {
        self.readings.iter().filter(move |reading| reading.node == node)
    }

    pub fn signal(&self, node: &str, signal: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.node == node && reading.signal == signal)
    }

    /// What is wrong with the node itself: resources and health, worst first.
    pub(super) fn own<'a>(&'a self, node: &'a str) -> Vec<&'a Reading> {
        let mut own: Vec<&Reading> =
            self.of_node(node).filter(|reading| is_own(reading) && reading.deviation >= ANOMALOUS).collect();
        own.sort_by(|one, other| other.deviation.total_cmp(&one.deviation));
        own
    }

    pub(super) fn symptoms<'a>(&'a self, node: &'a str) -> Vec<&'a Reading> {
        self.of_node(node)
            .filter(|reading| reading.class == SignalClass::Symptom && reading.deviation >= ANOMALOUS)
            .collect()
    }

    /// How its callers find it.
    pub(super) fn seen_by_callers<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a EdgeReading> + 'a {
        self.edges.iter().filter(move |edge| edge.server == node && edge.deviation >= ANOMALOUS)
    }

    /// How it finds what it calls.
    pub(super) fn sees_failing<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a EdgeReading> + 'a {
        self.edges.iter().filter(move |edge| edge.client == node && edge.deviation >= ANOMALOUS)
    }

    /// When the node first showed anything, by whatever signal.
    pub fn onset(&self, node: &str) -> Option<Timestamp> {
        self.of_node(node)
            .filter(|reading| reading.deviation >= ANOMALOUS && shows_trouble(reading))
            .filter_map(|reading| reading.onset)
            .chain(self.seen_by_callers(node).filter_map(|edge| edge.onset))
            .chain(self.signs.iter().filter(|sign| sign.node == node).filter_map(|sign| sign.at))
            .min()
    }

    /// Nodes with anything wrong.
    pub fn anomalous(&self) -> BTreeSet<&str> {
        self.readings
            .iter()
            .filter(|reading| reading.deviation >= ANOMALOUS && shows_trouble(reading))
            .map(|reading| reading.node.as_str())
            .chain(self.edges.iter().filter(|edge| edge.deviation >= ANOMALOUS).map(|edge| edge.server.as_str()))
            .chain(self.signs.iter().filter(|sign| sign.kind.weight() > 0.0).map(|sign| sign.node.as_str()))
            .collect()
    }

    /// What a fault of `node` can explain: its dependents, and through a shared dependency that it
    /// overloads (connections, volume) that dependency and its other clients.
    pub fn explains(&self, node: &str) -> BTreeSet<String> {
        let mut reached: BTreeSet<String> = self.topology.blast_radius(node).into_iter().collect();
        let early = self.own(node).iter().filter_map(|reading| reading.onset).min();
        if let Some(early) = early {
            for shared in self.topology.callees(node) {
                let kind = self.topology.kind(shared);
                let later = self.onset(shared).is_some_and(|onset| onset + SKEW >= early);
                if later && matches!(kind, Some(NodeKind::Database | NodeKind::Queue)) {
                    reached.insert(shared.to_owned());
                    reached.extend(self.topology.blast_radius(shared));
                }
            }
        }
        reached.remove(node);
        reached
    }

    /// Whether the node was perhaps changed where nobody could look.
    pub(super) fn may_have_changed(&self, node: &str) -> bool {
        self.unread_changes.iter().any(|unread| unread.is_of(node))
    }

    /// The latest change of the node that is early enough to be the cause. What put an earlier template back
    /// is not offered: it went away from something, and who undoes it goes there again.
    pub(super) fn fitting_change(&self, node: &str) -> Option<(&Change, Duration)> {
        let onset = self.onset(node).unwrap_or(self.since);
        self.changes
            .iter()
            .filter(|change| change.service == node && change.current && !change.put_back)
            .filter(|change| change.at <= onset + SKEW && onset.since(change.at) <= CHANGE_BEFORE)
            .max_by_key(|change| change.at)
            .map(|change| (change, onset.since(change.at)))
    }
}

/// Load is asked of a node, and what it suffers as a client is others' trouble.
fn shows_trouble(reading: &Reading) -> bool {
    match reading.class {
        SignalClass::Symptom | SignalClass::Resource | SignalClass::Health => true,
        SignalClass::Load | SignalClass::Outward => false,
    }
}
