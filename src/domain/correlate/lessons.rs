//! What people's clicks have taught: who belongs together, and who does not.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};
use serde::{Deserialize, Serialize};

/// Alerts of one name about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kind {
    pub cluster: String,
    pub subject: String,
    pub name: String,
}

/// One click of a person, as it is stored and told again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "lesson", rename_all = "snake_case")]
pub enum Lesson {
    /// Two incidents were one.
    Together { a: Kind, b: Kind },
    /// One incident was two.
    Apart { a: Kind, b: Kind },
}

/// Clicks by pair; a click is a vote, and the newest votes of a pair weigh as much as the oldest.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    votes: FxHashMap<u64, i8>,
}

/// Pairs that are remembered; beyond that, those with a single vote are forgotten first.
const MAX_PAIRS: usize = 50_000;
/// More votes than this change nothing: two clicks of the other kind must be able to turn a habit.
const MOST: i8 = 3;

/// Two subjects of one cluster, in either order.
fn pair(cluster: &str, one: &str, other: &str) -> u64 {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let mut hasher = FxHasher::default();
    (cluster, first, second).hash(&mut hasher);
    hasher.finish()
}

impl Lessons {
    pub fn learn(&mut self, lesson: &Lesson) {
        let (a, b, vote) = match lesson {
            Lesson::Together { a, b } => (a, b, 1),
            Lesson::Apart { a, b } => (a, b, -1),
        };
        if a.cluster != b.cluster || a.subject == b.subject {
            return;
        }
        let votes = self.votes.entry(pair(&a.cluster, &a.subject, &b.subject)).or_default();
        *votes = (*votes + vote).clamp(-MOST, MOST);
        if self.votes.len() > MAX_PAIRS {
            self.votes.retain(|_, votes| votes.abs() > 1);
        }
        if self.votes.len() > MAX_PAIRS {
            self.votes.clear();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }

    /// -1 (people keep them apart) to 1 (people put them together); 0 when nobody has said anything.
    /// One click already speaks: people click seldom, and see what they click on.
    pub fn say(&self, cluster: &str, one: &str, other: &str) -> f64 {
        match self.votes.get(&pair(cluster, one, other)).copied().unwrap_or(0) {
            0 => 0.0,
            votes => f64::from(votes.signum()) * (1.0 - 0.3_f64.powi(i32::from(votes.abs()))),
        }
    }
}
