//! One service in several clusters: what is deployed, configured or bought once fails everywhere
//! at once.

use std::collections::BTreeSet;

use super::super::alert::{Fingerprint, Reading};
use super::super::time::Timestamp;
use super::voices::{Link, SOON, Said};
use super::{Correlator, cluster_of};

/// What counts that the same service has just fallen ill elsewhere. What it needs here and is ill counts more.
const ELSEWHERE: f64 = 0.6;
/// It has something there that explains it, which may be of that place only. Not enough by itself.
const EXPLAINED: f64 = 0.45;

impl Correlator {
    /// What speaks for the incident of the same service elsewhere.
    pub(super) fn hear_twins(&self, node: u32, alert: &Reading<'_>, cause: bool, heard: &mut Vec<Said>) {
        let at = alert.starts_at;
        for twin in self.graph.twins(node) {
            if self.graph.at(twin).first_at.abs_diff(at) <= SOON
                && let Some(key) = self.active(twin, at)
            {
                let there = self.graph.at(twin);
                let root = self.open.get(&key).is_some_and(|open| open.roots.contains(&twin));
                // Two that are broken in themselves, each in its way, are two faults.
                let alike = !(cause && there.cause) || &*there.name == alert.name();
                let strength = if root && alike { ELSEWHERE } else { EXPLAINED };
                heard.push(Said::pattern(key, Link::Elsewhere, twin, strength, self.time_voice(twin, at)));
            }
        }
    }

    /// The cluster of a member of an incident that began in another.
    pub fn elsewhere(&self, fingerprint: Fingerprint) -> BTreeSet<String> {
        let place = self.member.get(&fingerprint);
        let open = place.and_then(|place| self.open.get(&self.resolve(place.key)));
        let first = open.and_then(|open| open.nodes.first());
        let Some((place, first)) = place.zip(first) else { return BTreeSet::new() };
        if self.graph.at(place.node).scope == self.graph.at(*first).scope {
            return BTreeSet::new();
        }
        BTreeSet::from([cluster_of(self.graph.scope_of(place.node)).to_owned()])
    }

    /// A service that nothing explains here, and nothing there, is ill for one reason.
    pub(super) fn merge_twins(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let mut key = key;
        let unexplained =
            |of: &Self, key: u32, node: u32| of.open.get(&key).is_some_and(|open| open.roots.contains(&node));
        let twins: Vec<u32> = self.graph.twins(node).collect();
        if twins.is_empty() || !unexplained(self, key, node) {
            return key;
        }
        for twin in twins {
            let Some(other) = self.active(twin, at).filter(|other| *other != key) else { continue };
            if self.graph.at(twin).first_at.abs_diff(at) > SOON || !unexplained(self, other, twin) {
                continue;
            }
            let place = |node: u32| cluster_of(self.graph.scope_of(node)).to_owned();
            let because = format!("{} is ill in {} and in {}", self.graph.at(node).subject, place(twin), place(node));
            let older = self.older(key, other);
            self.merge(if older == key { other } else { key }, older, because);
            key = self.resolve(key);
        }
        key
    }
}
