//! What a subject says that is ill since long ago: the rest of an old story, or the beginning of a new one.

use std::time::Duration;

use super::super::alert::{Fingerprint, Reading};
use super::{Correlator, names};

/// What is still ill explains what is noticed of it so long after the last news.
const LINGERS: Duration = Duration::from_secs(20 * 60);

impl Correlator {
    /// The incident of a subject that is ill since then, for what nothing newer explains. A promise to users
    /// is measured over a long window and is found broken long after what broke it; and what has warned all
    /// the time goes on to. What is broken in itself is news.
    pub(super) fn lingers(&self, node: u32, alert: &Reading<'_>, cause: bool) -> Option<u32> {
        let known = self.graph.at(node);
        let key = self.resolve(known.incident?);
        let more_of_it = names::is_slow(alert.name()) || !known.critical && !cause;
        let ill = known.firing > 0 && self.open.contains_key(&key);
        (more_of_it && ill && alert.starts_at.since(known.last_at) <= LINGERS).then_some(key)
    }

    /// Counts for its subject whether a member fires.
    pub(super) fn fires(&mut self, fingerprint: Fingerprint, firing: bool) {
        let Some(place) = self.member.get_mut(&fingerprint).filter(|place| place.firing != firing) else { return };
        place.firing = firing;
        let count = &mut self.graph.at_mut(place.node).firing;
        *count = if firing { count.saturating_add(1) } else { count.saturating_sub(1) };
    }
}
