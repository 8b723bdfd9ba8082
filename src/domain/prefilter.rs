//! Alert -> admit or suppress, with the reason a person can ask for.
//!
//! Invariants: a critical alert is never suppressed as "not anomalous"; a cold start admits; what
//! is suppressed is still in the ledger.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, Fingerprint, Severity, Status};
use super::anomaly::{Baseline, IsolationForest};
use super::intent::Muted;
use super::time::{Timestamp, spoken};

#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Alerts below it are kept in the ledger and shown to nobody.
    pub severity_floor: Severity,
    /// More changes of state than this within an hour is flapping.
    pub flap_transitions: usize,
    /// scikit-learn's scale; above it an alert looks like what is seen on quiet days.
    pub anomaly_threshold: f64,
    pub anomaly_mode: AnomalyMode,
    /// The forest is not asked before it has seen this many alerts.
    pub anomaly_min_history: usize,
    /// Names of alerts that nothing but identity may suppress.
    pub never_suppress: Vec<String>,
    pub seed: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            severity_floor: Severity::Warning,
            flap_transitions: 6,
            anomaly_threshold: -0.5,
            anomaly_mode: AnomalyMode::Fixed,
            anomaly_min_history: 200,
            never_suppress: vec![],
            seed: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyMode {
    /// Everything above the threshold is suppressed.
    Fixed,
    /// Scored and shown, nothing suppressed.
    Shadow,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Admit {
        because: String,
        score: Option<f64>,
    },
    Suppress {
        reason: Suppression,
    },
    /// The end of a firing; never suppressed, so that incidents can close.
    Resolve,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Suppression {
    /// The same firing was sent again.
    Duplicate {
        first_at: Timestamp,
        times: u64,
    },
    /// Older than what is known of this fingerprint: a late or re-ordered delivery.
    Stale {
        newest: Timestamp,
    },
    BelowFloor {
        severity: Severity,
        floor: Severity,
    },
    Flapping {
        transitions: usize,
    },
    /// People, or the system that sent it, said that it needs nobody now.
    Muted {
        by: Mute,
    },
    /// The forest finds it like the alerts of quiet days.
    NotAnomalous {
        score: f64,
        threshold: f64,
        because: String,
    },
}

/// Who muted an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mute", rename_all = "snake_case")]
pub enum Mute {
    Here(Muted),
    /// The sender has already decided; in its own words.
    AtTheSource {
        name: String,
        said: String,
    },
}

impl Mute {
    fn name(&self) -> &'static str {
        match self {
            Self::Here(muted) => muted.name(),
            Self::AtTheSource { .. } => "muted_at_source",
        }
    }

    fn explain(&self) -> String {
        match self {
            Self::Here(muted) => muted.explain(),
            Self::AtTheSource { name, said } => format!("{name} at the source: {said}"),
        }
    }
}

impl Suppression {
    /// The counter's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Duplicate { .. } => "duplicate",
            Self::Stale { .. } => "stale",
            Self::BelowFloor { .. } => "below_severity_floor",
            Self::Flapping { .. } => "flapping",
            Self::Muted { by } => by.name(),
            Self::NotAnomalous { .. } => "not_anomalous",
        }
    }

    pub fn explain(&self) -> String {
        match self {
            Self::Duplicate { first_at, times } => {
                format!("the same firing was first seen at {}, this is repeat {times}", first_at.clock_time())
            }
            Self::Stale { newest } => {
                format!("sent late: {} is already known of this alert", newest.clock_time())
            }
            Self::BelowFloor { severity, floor } => {
                format!("severity {} is below the floor {}", severity.as_str(), floor.as_str())
            }
            Self::Flapping { transitions } => format!("changed state {transitions} times within an hour"),
            Self::Muted { by } => by.explain(),
            Self::NotAnomalous { score, threshold, because } => {
                format!("looks like a quiet day (score {score:.2} above {threshold:.2}): {because}")
            }
        }
    }
}

/// What is remembered of one fingerprint.
#[derive(Debug, Clone)]
struct Seen {
    firing_since: Option<Timestamp>,
    newest_start: Timestamp,
    newest_end: Option<Timestamp>,
    repeats: u64,
    transitions: VecDeque<Timestamp>,
    last_at: Timestamp,
    /// Somebody muted this firing; it is judged again when it speaks again.
    held: bool,
}

/// Alerts of one name about one subject.
#[derive(Debug, Clone, Default)]
struct Family {
    values: VecDeque<f64>,
    starts: VecDeque<Timestamp>,
}

pub struct Prefilter {
    rules: Rules,
    seen: FxHashMap<Fingerprint, Seen>,
    families: FxHashMap<(String, String), Family>,
    recent: VecDeque<Timestamp>,
    history: VecDeque<Vec<f64>>,
    since_fit: usize,
    forest: Option<IsolationForest>,
}

const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// Alertmanager's default of the same name: who says nothing for so long has ended.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);
const RATE_WINDOW: Duration = Duration::from_secs(300);
const FAMILY_MEMORY: usize = 256;
const HISTORY: usize = 4096;
/// A fingerprint that was silent for so long is forgotten; bounds memory (P11).
const FORGET_AFTER: Duration = Duration::from_secs(48 * 3600);
const MAX_SEEN: usize = 400_000;
const REFIT_EVERY: usize = 100;

impl Prefilter {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            seen: FxHashMap::default(),
            families: FxHashMap::default(),
            recent: VecDeque::new(),
            history: VecDeque::new(),
            since_fit: 0,
            forest: None,
        }
    }

    pub fn is_firing(&self, fingerprint: Fingerprint) -> bool {
        self.seen.get(&fingerprint).is_some_and(|seen| seen.firing_since.is_some())
    }

    /// The firing was muted: its next notification is no duplicate, since nobody was told of it.
    pub fn hold(&mut self, fingerprint: Fingerprint) {
        if let Some(seen) = self.seen.get_mut(&fingerprint) {
            seen.held = true;
        }
    }

    /// Rows that the forest has learned from so far.
    pub fn learned(&self) -> usize {
        self.history.len()
    }

    pub fn judge(&mut self, alert: &Alert, event_now: Timestamp) -> Verdict {
        if self.seen.len() > MAX_SEEN {
            self.forget(event_now);
        }
        match alert.status {
            Status::Resolved => self.resolve(alert, event_now),
            Status::Firing => self.fire(alert, event_now),
        }
    }

    fn resolve(&mut self, alert: &Alert, event_now: Timestamp) -> Verdict {
        let end = alert.ends_at.unwrap_or(event_now);
        let Some(seen) = self.seen.get_mut(&alert.fingerprint) else {
            return Verdict::Resolve;
        };
        if seen.newest_end.is_some_and(|newest| newest >= end) || seen.newest_start > end {
            return Verdict::Suppress { reason: Suppression::Stale { newest: seen.newest_start } };
        }
        seen.newest_end = Some(end);
        if seen.firing_since.take().is_some() {
            seen.transitions.push_back(end);
        }
        seen.last_at = event_now;
        Verdict::Resolve
    }

    fn fire(&mut self, alert: &Alert, event_now: Timestamp) -> Verdict {
        let starts_at = alert.starts_at;
        if let Some(seen) = self.seen.get_mut(&alert.fingerprint) {
            let silent = event_now.since(seen.last_at);
            seen.last_at = event_now;
            if seen.firing_since.is_some() && std::mem::take(&mut seen.held) {
                return Verdict::Admit { because: "it still fires and was muted before".into(), score: None };
            }
            if let Some(first_at) = seen.firing_since {
                // A later start is a new firing whose end before was lost, unless the sender has no
                // memory of starts and simply speaks again.
                if starts_at <= seen.newest_start || silent <= RESOLVE_TIMEOUT {
                    seen.repeats += 1;
                    return Verdict::Suppress { reason: Suppression::Duplicate { first_at, times: seen.repeats } };
                }
                seen.transitions.push_back(starts_at);
            }
            if seen.newest_end.is_some_and(|end| starts_at < end) && starts_at <= seen.newest_start {
                return Verdict::Suppress { reason: Suppression::Stale { newest: seen.newest_start } };
            }
        }
        let seen = self.seen.entry(alert.fingerprint).or_insert_with(|| Seen {
            firing_since: None,
            newest_start: starts_at,
            newest_end: None,
            repeats: 0,
            transitions: VecDeque::new(),
            last_at: event_now,
            held: false,
        });
        seen.firing_since = Some(starts_at);
        seen.newest_start = seen.newest_start.max(starts_at);
        seen.repeats = 0;
        seen.transitions.push_back(starts_at);
        while seen.transitions.front().is_some_and(|at| starts_at.since(*at) > FLAP_WINDOW) {
            seen.transitions.pop_front();
        }
        let transitions = seen.transitions.len();

        let (features, because) = self.features(alert, starts_at);
        let severity = alert.severity();
        let protected =
            severity == Severity::Critical || self.rules.never_suppress.iter().any(|name| name == alert.name());
        let score = self.forest.as_ref().map(|forest| forest.score(&features));
        self.learn(features);

        if severity < self.rules.severity_floor {
            let floor = self.rules.severity_floor;
            return Verdict::Suppress { reason: Suppression::BelowFloor { severity, floor } };
        }
        if protected {
            return Verdict::Admit { because: "critical alerts are always admitted".into(), score };
        }
        if transitions > self.rules.flap_transitions {
            return Verdict::Suppress { reason: Suppression::Flapping { transitions } };
        }
        match score {
            Some(score) if score > self.rules.anomaly_threshold && self.rules.anomaly_mode == AnomalyMode::Fixed => {
                let threshold = self.rules.anomaly_threshold;
                Verdict::Suppress { reason: Suppression::NotAnomalous { score, threshold, because } }
            }
            Some(_) => Verdict::Admit { because, score },
            None => Verdict::Admit {
                because: format!(
                    "cold start: {} of {} alerts seen before the forest may speak",
                    self.history.len(),
                    self.rules.anomaly_min_history
                ),
                score,
            },
        }
    }

    /// Numbers about this alert against its own past; and what they say in words.
    fn features(&mut self, alert: &Alert, event_at: Timestamp) -> (Vec<f64>, String) {
        self.recent.push_back(event_at);
        while self.recent.front().is_some_and(|at| event_at.since(*at) > RATE_WINDOW) {
            self.recent.pop_front();
        }
        let key = (alert.name().to_owned(), alert.subject().unwrap_or_default().to_owned());
        let family = self.families.entry(key).or_default();
        let z = match (alert.value, Baseline::of(family.values.iter().copied())) {
            (Some(value), Some(baseline)) if baseline.samples >= 4 => {
                let floor = (baseline.median.abs() * 0.05).max(1e-9);
                ((value - baseline.median) / baseline.spread.max(floor)).clamp(-50.0, 50.0)
            }
            _ => 0.0,
        };
        let seen_before = family.starts.len();
        let gap = family.starts.back().map_or(f64::from(48 * 60), |last| event_at.since(*last).as_secs_f64() / 60.0);
        if let Some(value) = alert.value {
            family.values.push_back(value);
        }
        family.starts.push_back(event_at);
        if family.values.len() > FAMILY_MEMORY {
            family.values.pop_front();
        }
        if family.starts.len() > FAMILY_MEMORY {
            family.starts.pop_front();
        }
        let seconds = event_at.millis().div_euclid(1000);
        let hour = (seconds.rem_euclid(86_400)) as f64 / 3600.0;
        // 1970-01-01 was a Thursday; 0 is Monday here.
        let weekday = ((seconds.div_euclid(86_400) + 3).rem_euclid(7)) as f64;
        let angle = hour / 24.0 * std::f64::consts::TAU;
        let row = vec![
            z,
            (seen_before as f64).ln_1p(),
            gap.min(48.0 * 60.0).ln_1p(),
            (self.recent.len() as f64).ln_1p(),
            angle.sin(),
            angle.cos(),
            if weekday >= 5.0 { 1.0 } else { 0.0 },
        ];
        let because = format!(
            "seen {seen_before} times before, value {z:+.1} robust deviations from its own usual, {} alerts in {}",
            self.recent.len(),
            spoken(RATE_WINDOW)
        );
        (row, because)
    }

    fn learn(&mut self, row: Vec<f64>) {
        self.history.push_back(row);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.since_fit += 1;
        let ready = self.history.len() >= self.rules.anomaly_min_history;
        // A storm must not teach the forest that storms are normal: refits get rarer with speed.
        let pace = if self.recent.len() > 50 { HISTORY } else { REFIT_EVERY };
        if ready && (self.forest.is_none() || self.since_fit >= pace) {
            let rows: Vec<Vec<f64>> = self.history.iter().cloned().collect();
            self.forest = IsolationForest::fit(&rows, self.rules.seed);
            self.since_fit = 0;
        }
    }

    fn forget(&mut self, event_now: Timestamp) {
        self.seen.retain(|_, seen| event_now.since(seen.last_at) < FORGET_AFTER);
        if self.seen.len() > MAX_SEEN {
            let mut ages: Vec<Timestamp> = self.seen.values().map(|seen| seen.last_at).collect();
            ages.sort_unstable();
            let cut = ages[ages.len() / 2];
            self.seen.retain(|_, seen| seen.firing_since.is_some() && seen.last_at >= cut);
        }
    }
}
