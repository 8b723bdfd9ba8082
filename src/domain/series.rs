//! Is a service's latest row unusual? A streaming detector for one or several values a row.
//!
//! Every value is compared with what is normal for its column at that hour, with yesterday and last
//! week at the same time, and with its recent level. A seasonal deviation counts as far as no
//! season explains it; one that lasts weighs more than one that flickers; and a small one that keeps
//! its sign for hours is a drift (a leak). The row's score is made of all its columns.
//!
//! Invariants: a row is judged by earlier rows alone; memory is bounded by the width of a row, not by
//! the number of rows; the same rows give the same verdicts.

mod history;
mod reason;

use history::{Baseline, History};
pub use reason::{Reason, Reference, Shape};

/// Scores at or below it are flagged, as with scikit-learn's `offset_`.
pub const THRESHOLD: f64 = -0.5;

/// Spreads beyond which further is not worse: one wild column must not drown the others.
const CAP: f64 = 10.0;
/// Half-lives, in seconds, of the mean deviation that tells lasting from flickering, and of the
/// signed one that tells drifting from noise (EWMA control chart: Roberts 1959).
const LASTING: f64 = 2.0 * 3_600.0;
const DRIFTING: f64 = 6.0 * 3_600.0;
/// Share of the newest row in its level; the rest is what lasts. A single wild row is still seen.
const NEWEST: f64 = 0.25;
/// Mean signed deviations up to this are the wander of any series, and what a drift adds beyond it.
const DRIFT_SLACK: f64 = 1.0;
const DRIFT_WEIGHT: f64 = 0.5;
/// Level of a row, in spreads, at which its score reaches the threshold.
const FLAG_AT: f64 = 2.5;

/// What a row was found to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// In [-1, 0]: lower is more anomalous; at or below `THRESHOLD` the row is flagged.
    pub score: f64,
    /// The column that stands out most and against what; `None` while nothing is known yet.
    pub reason: Option<Reason>,
    /// Of that column.
    pub distances: Distances,
}

/// How far a value is from each of its baselines; what is not known yet is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distances {
    /// In spreads (robust z-scores), positive above the median, at most ten either way.
    pub usual: Option<f64>,
    pub yesterday: Option<f64>,
    pub last_week: Option<f64>,
    pub recent: Option<f64>,
    /// Interquartile ranges outside the recent quartiles, positive above them, 0 between (Tukey,
    /// "Exploratory Data Analysis", 1977).
    pub fence: Option<f64>,
    /// Running mean of the distance from the usual.
    pub drift: f64,
}

impl Verdict {
    pub fn is_flagged(&self) -> bool {
        self.score <= THRESHOLD
    }
}

#[derive(Debug, Clone)]
pub struct Detector {
    columns: Vec<Column>,
    last_at: Option<i64>,
    /// Typical distance between rows in seconds; 0 until two rows were seen.
    step: f64,
    /// Running mean of the rows' deviations.
    lasting: f64,
}

#[derive(Debug, Clone, Default)]
struct Column {
    history: History,
    /// Running mean of the signed deviation from the usual.
    drift: f64,
}

/// How far one value is from what was expected, in spreads, and from what.
struct Reading {
    deviation: f64,
    reason: Reason,
    distances: Distances,
}

impl Detector {
    /// For rows of `width` values.
    pub fn new(width: usize) -> Self {
        Self { columns: vec![Column::default(); width], last_at: None, step: 0.0, lasting: 0.0 }
    }

    /// Takes a row as known to be past, without judging it. `at` is in seconds since the Unix epoch.
    pub fn learn(&mut self, at: i64, values: &[f64]) {
        self.pace(at);
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.history.push(at, *value);
        }
    }

    /// Judges a row by the rows before it, then learns it.
    ///
    /// `at` is in seconds since the Unix epoch and does not decrease; a value that is not finite is
    /// missing: it is not judged and not learnt.
    pub fn observe(&mut self, at: i64, values: &[f64]) -> Verdict {
        let elapsed = self.pace(at);
        let (mut sum, mut count, mut worst) = (0.0, 0u32, None::<Reading>);
        for (index, (column, value)) in self.columns.iter_mut().zip(values).enumerate() {
            let Some(reading) = column.read(index, at, *value, elapsed, self.step) else { continue };
            sum += reading.deviation;
            count += 1;
            if worst.as_ref().is_none_or(|it| reading.deviation > it.deviation) {
                worst = Some(reading);
            }
        }
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.history.push(at, *value);
        }
        let Some(Reading { mut reason, distances, .. }) = worst else {
            // Of what is missing nothing is known, but what was so far.
            let level = (1.0 - NEWEST) * self.lasting;
            return Verdict { score: -level / (level + FLAG_AT), reason: None, distances: Distances::default() };
        };
        let now = sum / f64::from(count);
        self.lasting += (now - self.lasting) * weight(elapsed, LASTING.max(2.0 * self.step));
        let level = NEWEST * now + (1.0 - NEWEST) * self.lasting;
        if self.lasting > now {
            reason.shape = Shape::Collective;
        }
        Verdict { score: -level / (level + FLAG_AT), reason: Some(reason), distances }
    }

    /// Seconds since the last row; keeps the typical step.
    fn pace(&mut self, at: i64) -> f64 {
        let Some(last) = self.last_at.replace(at) else { return self.step };
        let elapsed = at.saturating_sub(last).max(0) as f64;
        if elapsed > 0.0 {
            // Down at once, up slowly: a gap is longer than the step, nothing is shorter.
            let known = self.step > 0.0 && elapsed > self.step;
            self.step = if known { self.step + (elapsed - self.step) / 64.0 } else { elapsed };
        }
        elapsed
    }
}

/// Weight of the newest value in a running mean that halves in `half_life` seconds.
fn weight(elapsed: f64, half_life: f64) -> f64 {
    1.0 - (-elapsed / half_life).exp2()
}

impl Column {
    /// `None` when the value is missing or nothing is known to compare it with.
    fn read(&mut self, column: usize, at: i64, value: f64, elapsed: f64, step: f64) -> Option<Reading> {
        if !value.is_finite() {
            return None;
        }
        let known = self.history.baselines(at, step);
        let recent = known.recent?;
        let against = |baseline: Baseline| baseline.deviation(value).clamp(-CAP, CAP);
        let from_usual = known.usual.map_or(0.0, against);
        self.drift += (from_usual - self.drift) * weight(elapsed, DRIFTING.max(8.0 * step));
        let drift = DRIFT_WEIGHT * (self.drift.abs() - DRIFT_SLACK).max(0.0);

        let seasons = [
            (Reference::Usual, known.usual),
            (Reference::Minute, known.minute),
            (Reference::Yesterday, known.yesterday),
            (Reference::LastWeek, known.last_week),
        ];
        // What one season explains is not unusual, whatever the others say. Without any, the recent
        // past has to do.
        let from_recent = against(recent);
        let (season, baseline, from_season) = seasons
            .into_iter()
            .filter_map(|(reference, baseline)| baseline.map(|it| (reference, it, against(it))))
            .min_by(|a, b| a.2.abs().total_cmp(&b.2.abs()))
            .unwrap_or((Reference::Recent, recent, from_recent));

        let (reference, baseline, spreads, shape) = match known.usual {
            Some(usual) if drift > from_season.abs().max(from_recent.abs()) => {
                (Reference::Usual, usual, self.drift, Shape::Collective)
            }
            _ if from_recent.abs() >= from_season.abs() => (Reference::Recent, recent, from_recent, Shape::Point),
            _ => (season, baseline, from_season, Shape::Contextual),
        };
        let (low, high) = baseline.expected();
        let distances = Distances {
            usual: known.usual.map(against),
            yesterday: known.yesterday.map(against),
            last_week: known.last_week.map(against),
            recent: Some(from_recent),
            fence: Some(recent.outside_quartiles(value).clamp(-CAP, CAP)),
            drift: self.drift,
        };
        Some(Reading {
            distances,
            deviation: (from_season.abs() + from_recent.abs()) / 2.0 + drift,
            reason: Reason { column, value, reference, low, high, spreads, shape },
        })
    }
}

#[cfg(test)]
mod tests;
