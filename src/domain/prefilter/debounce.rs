//! Alerts that people want to hear of only when they last, return, or move.
//!
//! Invariants: only an alert that would be admitted otherwise is held back; what waits for its time
//! comes up by itself when it still fires then.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer};

use super::verdict::{Because, Suppression};
use crate::domain::alert::{Alert, Fingerprint};
use crate::domain::intent::matcher::Matchers;
use crate::domain::time::Timestamp;

/// The first entry that matches an alert is the one that counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debounce {
    pub matchers: Matchers,
    /// It must fire on for so long; zero for at once.
    #[serde(rename = "for_seconds", default, deserialize_with = "seconds")]
    pub fires_for: Duration,
    /// It must begin to fire so often within `within`; 0 or 1 for every time.
    #[serde(default)]
    pub at_least: usize,
    #[serde(rename = "within_seconds", default = "an_hour", deserialize_with = "seconds")]
    pub within: Duration,
    /// Share of the value of the last told firing; a later firing within `within` whose value is
    /// no further from it is the same edge of a threshold. 0 for none.
    #[serde(default)]
    pub hysteresis: f64,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn an_hour() -> Duration {
    Duration::from_secs(3_600)
}

impl Debounce {
    /// What is wrong with an entry, for the person who wrote it.
    pub fn check(&self) -> Result<(), String> {
        let about = &self.matchers;
        if about.match_the_empty() {
            return Err(format!("the matchers {about} match alerts without any label; name one at least"));
        }
        if !(0.0..1.0).contains(&self.hysteresis) {
            return Err(format!("the hysteresis {} for {about} is outside 0..1", self.hysteresis));
        }
        if self.fires_for.is_zero() && self.at_least < 2 && self.hysteresis == 0.0 {
            return Err(format!("the entry for {about} asks for nothing; give for_seconds, at_least or hysteresis"));
        }
        if self.at_least > MAX_AT_LEAST {
            return Err(format!("{} firings for {about} are more than {MAX_AT_LEAST}", self.at_least));
        }
        Ok(())
    }
}

const MAX_AT_LEAST: usize = 1_000;

/// Fingerprints that are remembered for entries that count or compare.
const MAX_COUNTED: usize = 50_000;
/// Alerts that wait for their time; beyond it they are admitted at once.
const MAX_WAITING: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Debouncer {
    counted: FxHashMap<Fingerprint, Counted>,
    waiting: BTreeMap<(Timestamp, Fingerprint), (Alert, Because)>,
}

#[derive(Debug, Default)]
struct Counted {
    starts: Vec<Timestamp>,
    /// When and with which value it was last told.
    told: Option<(Timestamp, f64)>,
}

impl Debouncer {
    /// Why an alert that begins to fire is held back, and until when.
    pub(super) fn judge(
        &mut self,
        entries: &[Debounce],
        alert: &Alert,
        starts_at: Timestamp,
        event_now: Timestamp,
    ) -> Option<Suppression> {
        let entry = entries.iter().find(|entry| entry.matchers.matches(&alert.labels))?;
        if entry.at_least > 1 || entry.hysteresis > 0.0 {
            self.make_room(starts_at, entry.within);
            let counted = self.counted.entry(alert.fingerprint).or_default();
            counted.starts.retain(|at| starts_at.since(*at) <= entry.within);
            counted.starts.push(starts_at);
            // No more are ever looked at.
            let surplus = counted.starts.len().saturating_sub(entry.at_least.max(1));
            counted.starts.drain(..surplus);
            if counted.starts.len() < entry.at_least {
                let (wanted, within_seconds) = (entry.at_least, entry.within.as_secs());
                return Some(Suppression::TooFew { times: counted.starts.len(), wanted, within_seconds });
            }
            if let (Some(value), true) = (alert.value, entry.hysteresis > 0.0) {
                if let Some((at, before)) = counted.told
                    && starts_at.since(at) <= entry.within
                    && (value - before).abs() <= entry.hysteresis * before.abs()
                {
                    return Some(Suppression::AtTheEdge { value, before, band: entry.hysteresis });
                }
                counted.told = Some((starts_at, value));
            }
        }
        let until = starts_at + entry.fires_for;
        let waits = until > event_now && self.waiting.len() < MAX_WAITING;
        waits.then_some(Suppression::TooBrief { until, wanted_seconds: entry.fires_for.as_secs() })
    }

    /// Somebody muted it: what is not told is no value to compare with.
    pub(super) fn not_told(&mut self, fingerprint: Fingerprint) {
        if let Some(counted) = self.counted.get_mut(&fingerprint) {
            counted.told = None;
        }
    }

    pub(super) fn wait(&mut self, until: Timestamp, alert: &Alert, because: Because) {
        self.waiting.insert((until, alert.fingerprint), (alert.clone(), because));
    }

    pub(super) fn forget(&mut self, until: Timestamp, fingerprint: Fingerprint) -> Option<Because> {
        self.waiting.remove(&(until, fingerprint)).map(|(_, because)| because)
    }

    pub(super) fn is_due(&self, event_now: Timestamp) -> bool {
        self.waiting.first_key_value().is_some_and(|((until, _), _)| *until <= event_now)
    }

    /// One whose time has come.
    pub(super) fn next_due(&mut self, event_now: Timestamp) -> Option<(Alert, Because)> {
        if self.is_due(event_now) { self.waiting.pop_first().map(|(_, waited)| waited) } else { None }
    }

    fn make_room(&mut self, starts_at: Timestamp, within: Duration) {
        if self.counted.len() >= MAX_COUNTED {
            self.counted.retain(|_, counted| counted.starts.last().is_some_and(|at| starts_at.since(*at) <= within));
        }
        if self.counted.len() >= MAX_COUNTED {
            self.counted.clear();
        }
    }
}
