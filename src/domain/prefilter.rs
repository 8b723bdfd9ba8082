//! Alert -> admit or suppress, with the reason a person can ask for.
//!
//! Invariants: a critical alert is never suppressed as "not anomalous"; a cold start admits; what
//! is suppressed is still in the ledger; a reason is put into words only when somebody reads it.

mod debounce;
mod past;
mod seen;
#[cfg(test)]
mod tests;
mod verdict;
mod window;

use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, Fingerprint, Reading, Severity, Status};
use super::anomaly::{AuditRules, Bound, Calibration, Setting};
use super::time::Timestamp;
pub use debounce::Debounce;
use debounce::Debouncer;
use past::{Past, Place};
use seen::{Heard, Seen};
use verdict::percent;
pub use verdict::{Because, Content, Facts, Mute, Origin, Suppression, Verdict};

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
    pub debounce: Vec<Debounce>,
    /// What `Calibrated` may cost.
    pub bound: Bound,
    /// How many of the suppressed people are asked about.
    pub audit: AuditRules,
    pub seed: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            severity_floor: Severity::Warning,
            flap_transitions: 6,
            anomaly_threshold: -0.5,
            anomaly_mode: AnomalyMode::Calibrated,
            anomaly_min_history: 200,
            never_suppress: vec![],
            debounce: vec![],
            bound: Bound::default(),
            audit: AuditRules::default(),
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
    /// Suppressed as far as labelled incidents support it; shadow until there are enough of them.
    Calibrated,
}

/// The score of a firing when it was judged; of several firings, the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub score: f64,
    /// Nothing was suppressed by score at that time.
    pub openly: bool,
}

impl Scored {
    /// Of both together: open only if both were.
    pub fn lower(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(a), Some(b)) => Some(Self { score: a.score.min(b.score), openly: a.openly && b.openly }),
            (known, None) | (None, known) => known,
        }
    }
}

impl Rules {
    /// Above which score an alert is suppressed, and where that comes from.
    pub fn threshold(&self, setting: &Setting) -> Option<(f64, Origin)> {
        match self.anomaly_mode {
            AnomalyMode::Shadow => None,
            AnomalyMode::Fixed => Some((self.anomaly_threshold, Origin::Fixed)),
            AnomalyMode::Calibrated => {
                let Setting { threshold, bound, real, .. } = *setting;
                let origin = Origin::Calibrated { real, missed: bound.missed, confidence: bound.confidence };
                // Labels may support less, never more than what a person calls usual.
                threshold.map(|threshold| (threshold.max(self.anomaly_threshold), origin))
            }
        }
    }

    /// For people: what the forest may suppress now.
    pub fn mode_in_words(&self, setting: &Setting) -> String {
        match (self.anomaly_mode, self.threshold(setting)) {
            (AnomalyMode::Shadow, _) => "shadow: alerts are scored and shown, none is suppressed by its score".into(),
            (_, Some((threshold, Origin::Fixed))) => {
                format!("fixed: what scores above {threshold:.2} is suppressed, whatever that costs")
            }
            (_, Some((threshold, Origin::Calibrated { real, missed, confidence }))) => format!(
                "calibrated: threshold {threshold:.2}, at most {} % missed at {} %, from {real} labelled incidents",
                percent(missed),
                percent(confidence)
            ),
            (_, None) => {
                format!("shadow: {} labelled incidents are missing until the forest may suppress", setting.missing)
            }
        }
    }
}

pub struct Prefilter {
    rules: Rules,
    /// Each in a place of its own: a map that grows in a storm moves addresses only.
    seen: FxHashMap<Fingerprint, Box<Seen>>,
    past: Past,
    debouncer: Debouncer,
    setting: Setting,
}

/// A fingerprint that was silent for so long is forgotten; bounds memory.
const FORGET_AFTER: Duration = Duration::from_secs(48 * 3600);
const MAX_SEEN: usize = 400_000;

impl Prefilter {
    pub fn new(rules: Rules) -> Self {
        Self {
            seen: FxHashMap::default(),
            past: Past::new(),
            debouncer: Debouncer::default(),
            setting: Calibration::new(rules.bound).setting(),
            rules,
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
        self.debouncer.not_told(fingerprint);
    }

    /// The incident that it was part of has ended, although it fires.
    pub fn over(&mut self, fingerprint: Fingerprint) {
        if let Some(seen) = self.seen.get_mut(&fingerprint) {
            seen.over = true;
        }
    }

    /// How long firings like this one last, when any has ended.
    pub fn usual_length(&self, fingerprint: Fingerprint) -> Option<Duration> {
        self.past.usual_length(self.seen.get(&fingerprint)?.place)
    }

    /// It is told now, without another word of its sender; whether it fires on at all.
    pub fn release(&mut self, fingerprint: Fingerprint, event_now: Timestamp) -> bool {
        let Some(seen) = self.seen.get_mut(&fingerprint) else { return false };
        seen.held = false;
        seen.quiet = None;
        if seen.doubted.is_some() {
            seen.believe(event_now);
        }
        seen.firing_since.is_some()
    }

    /// Whether it was said to fire long after its end.
    pub fn is_doubted(&self, fingerprint: Fingerprint) -> bool {
        self.seen.get(&fingerprint).is_some_and(|seen| seen.doubted.is_some())
    }

    /// Whether it is late news of a firing that has ended.
    pub fn is_late(&self, alert: &Alert, event_now: Timestamp) -> bool {
        self.seen.get(&alert.fingerprint).is_some_and(|seen| seen.is_late(alert, event_now))
    }

    /// What the labels allow from now on.
    pub fn calibrate(&mut self, setting: Setting) {
        self.setting = setting;
    }

    /// What the labels allowed at the last `calibrate`.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The score that the firing had when it was judged, for the label of its incident.
    pub fn scored(&self, fingerprint: Fingerprint) -> Option<Scored> {
        self.seen.get(&fingerprint)?.scored
    }

    /// Above which score an alert is suppressed now, and where that comes from.
    pub fn threshold(&self) -> Option<(f64, Origin)> {
        self.rules.threshold(&self.setting)
    }

    /// Rows that the forest of all alerts has learned from so far.
    pub fn learned(&self) -> usize {
        self.past.rows()
    }

    /// Whether `next_due` has something to say.
    pub fn is_due(&self, event_now: Timestamp) -> bool {
        self.debouncer.is_due(event_now)
    }

    /// An alert that had to fire for a while, and did.
    pub fn next_due(&mut self, event_now: Timestamp) -> Option<(Alert, Because)> {
        while let Some((alert, because)) = self.debouncer.next_due(event_now) {
            if let Some(seen) = self.seen.get_mut(&alert.fingerprint)
                && seen.firing_since.is_some()
            {
                seen.due = None;
                return Some((alert, because));
            }
        }
        None
    }

    pub fn judge(&mut self, alert: &Reading<'_>, event_now: Timestamp) -> Verdict {
        if self.seen.len() > MAX_SEEN {
            self.forget(event_now);
        }
        match alert.status {
            Status::Resolved => self.resolve(alert, event_now),
            Status::Firing => self.fire(alert, event_now),
        }
    }

    fn resolve(&mut self, alert: &Reading<'_>, event_now: Timestamp) -> Verdict {
        let Some(seen) = self.seen.get_mut(&alert.fingerprint) else {
            let mut seen = Seen::new(alert, Place::of(alert), event_now);
            seen.resolved_unseen(alert, event_now);
            self.seen.insert(alert.fingerprint, Box::new(seen));
            return Verdict::Resolve;
        };
        let due = seen.due;
        match seen.resolve(alert, event_now) {
            Err(reason) => return Verdict::Suppress { reason },
            Ok(Some(lasted)) => self.past.end(seen.place, lasted),
            Ok(None) => {}
        }
        if let Some(due) = due {
            self.debouncer.forget(due, alert.fingerprint);
        }
        Verdict::Resolve
    }

    fn fire(&mut self, alert: &Reading<'_>, event_now: Timestamp) -> Verdict {
        let threshold = self.threshold();
        let mut starts_at = None;
        if let Some(seen) = self.seen.get_mut(&alert.fingerprint) {
            let due = seen.due;
            match seen.hear(alert, event_now) {
                Heard::Repeat(reason) => {
                    return self.rises(alert, &reason, event_now).unwrap_or(Verdict::Suppress { reason });
                }
                Heard::Graver if alert.severity() >= self.rules.severity_floor => {
                    seen.due = None;
                    if let Some(due) = due {
                        self.debouncer.forget(due, alert.fingerprint);
                    }
                    let because = Because::Said(format!("it fires on and is {} now", alert.severity().as_str()));
                    return Verdict::Admit { because, score: seen.scored.map(|scored| scored.score) };
                }
                Heard::Graver => {
                    let (severity, floor) = (alert.severity(), self.rules.severity_floor);
                    return Verdict::Suppress { reason: Suppression::BelowFloor { severity, floor } };
                }
                Heard::Again => {
                    let waited = due.and_then(|due| self.debouncer.forget(due, alert.fingerprint));
                    let because = waited.unwrap_or(Because::StillFires);
                    return Verdict::Admit { because, score: seen.scored.map(|scored| scored.score) };
                }
                Heard::News(at) => {
                    // Its end was lost: it does not go on.
                    if seen.firing_since.is_some() {
                        self.past.end(seen.place, at.since(seen.firing_since.unwrap_or(at)));
                    }
                    if let Some(due) = due {
                        self.debouncer.forget(due, alert.fingerprint);
                    }
                    starts_at = Some(at);
                }
            }
        }
        let entry = self.seen.entry(alert.fingerprint);
        let seen = entry.or_insert_with(|| Box::new(Seen::new(alert, Place::of(alert), event_now)));
        let starts_at = starts_at.unwrap_or_else(|| seen.newest_start());
        let transitions = seen.fire(alert, starts_at);
        let place = seen.place;
        let (row, facts) = self.past.begin(place, alert.value, starts_at);
        let severity = alert.severity();
        let floor = self.rules.severity_floor;
        let score = if severity < floor { None } else { self.past.score(place, &row) };
        self.past.learn(place, &row, starts_at, self.rules.anomaly_min_history, self.rules.seed);
        seen.scored = score.map(|score| Scored { score, openly: threshold.is_none() });

        if self.rules.never_suppress.iter().any(|name| name == alert.name()) {
            return Verdict::Admit { because: Because::Listed, score };
        }
        if severity < floor {
            return Verdict::Suppress { reason: Suppression::BelowFloor { severity, floor } };
        }
        let because = if severity == Severity::Critical {
            Because::Critical
        } else if transitions > self.rules.flap_transitions {
            return Verdict::Suppress { reason: Suppression::Flapping { transitions } };
        } else {
            match (score, threshold) {
                (Some(score), Some((threshold, origin))) if score > threshold => {
                    if let Some(seen) = self.seen.get_mut(&alert.fingerprint) {
                        seen.quiet = Some(Box::new(row));
                    }
                    let because = Because::Facts(facts);
                    let reason = Suppression::NotAnomalous { score, threshold, origin, because };
                    return Verdict::Suppress { reason };
                }
                (Some(_), None) if self.rules.anomaly_mode == AnomalyMode::Calibrated => {
                    Because::Shadow { missing: self.setting.missing, facts }
                }
                (Some(_), _) => Because::Facts(facts),
                (None, _) => Because::ColdStart { seen: self.past.rows(), wanted: self.rules.anomaly_min_history },
            }
        };
        match self.debouncer.judge(&self.rules.debounce, alert, starts_at, event_now) {
            None => Verdict::Admit { because, score },
            Some(reason) => {
                if let Suppression::TooBrief { until, .. } = reason {
                    self.debouncer.wait(until, alert, because);
                    if let Some(seen) = self.seen.get_mut(&alert.fingerprint) {
                        seen.due = Some(until);
                    }
                }
                Verdict::Suppress { reason }
            }
        }
    }

    /// A firing that was suppressed as a usual one is repeated with a value that is not usual any more.
    fn rises(&mut self, alert: &Reading<'_>, reason: &Suppression, event_now: Timestamp) -> Option<Verdict> {
        let Suppression::Duplicate { content: Content::Changed { value: Some(value), was }, .. } = reason else {
            return None;
        };
        let (value, threshold) = (*value, self.threshold());
        let seen = self.seen.get_mut(&alert.fingerprint)?;
        if *was == Some(value) || !value.is_finite() {
            return None;
        }
        let (row, facts) = self.past.moved(seen.place, seen.quiet.as_deref()?, value, event_now)?;
        let score = self.past.score(seen.place, &row)?;
        if threshold.is_some_and(|(threshold, _)| score > threshold) {
            return None;
        }
        seen.quiet = None;
        seen.scored = Scored::lower(seen.scored, Some(Scored { score, openly: threshold.is_none() }));
        let because = Because::Said(format!("it was suppressed as a usual one, and is not any more: {facts}"));
        Some(Verdict::Admit { because, score: Some(score) })
    }

    fn forget(&mut self, event_now: Timestamp) {
        self.seen.retain(|_, seen| event_now.since(seen.last_at) < FORGET_AFTER);
        if self.seen.len() > MAX_SEEN {
            let mut ages: Vec<Timestamp> = self.seen.values().map(|seen| seen.last_at).collect();
            let half = ages.len() / 2;
            let cut = *ages.select_nth_unstable(half).1;
            self.seen.retain(|_, seen| seen.firing_since.is_some() && seen.last_at >= cut);
            // A storm within one instant has no older half.
            if self.seen.len() > MAX_SEEN {
                self.seen.clear();
            }
        }
    }
}
