//! Causal order learned from the past: after whom does who alert?

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;

/// How often one subject's first alert came within a few minutes after another's.
#[derive(Debug, Default)]
pub(super) struct Order {
    recent: VecDeque<(u32, Timestamp)>,
    times: FxHashMap<u32, u32>,
    followed: FxHashMap<(u32, u32), u32>,
}

const FOLLOWS: Duration = Duration::from_secs(300);
const RECENT: usize = 32;
const MAX_PAIRS: usize = 100_000;
/// Fewer observations than this say nothing.
const MIN_TIMES: u32 = 3;

impl Order {
    pub fn activated(&mut self, node: u32, at: Timestamp) {
        while self.recent.len() >= RECENT || self.recent.front().is_some_and(|(_, then)| at.since(*then) > FOLLOWS) {
            self.recent.pop_front();
        }
        for (before, then) in &self.recent {
            if *before != node && *then <= at {
                *self.followed.entry((*before, node)).or_default() += 1;
            }
        }
        *self.times.entry(node).or_default() += 1;
        self.recent.push_back((node, at));
        if self.followed.len() > MAX_PAIRS {
            self.followed.retain(|_, times| *times > 1);
        }
    }

    /// The share of `before`'s alerts that `after` followed, once there are enough of them; and how many.
    pub fn share(&self, before: u32, after: u32) -> Option<(f64, u32)> {
        let followed = *self.followed.get(&(before, after))?;
        let times = *self.times.get(&before)?;
        (followed >= MIN_TIMES).then(|| ((f64::from(followed) / f64::from(times.max(1))).min(1.0), followed))
    }

    /// Subjects that have just begun to alert, newest first.
    pub fn recent(&self, at: Timestamp) -> impl Iterator<Item = u32> + '_ {
        self.recent.iter().rev().filter(move |(_, then)| at.abs_diff(*then) <= FOLLOWS).map(|(node, _)| *node)
    }
}
