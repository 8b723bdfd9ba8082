//! How far one series is from where it was, in robust deviations of its own past.

use super::metric::Direction;
use crate::domain::anomaly::{Baseline, quantile};
use crate::domain::time::Timestamp;

/// Where a series was, and how much it moved about there; in its own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub(super) median: f64,
    pub(super) spread: f64,
    /// How many values say so.
    pub(super) values: usize,
}

/// The spread of a few values is shrunk towards what the same metric usually has elsewhere, as if
/// that had been seen in so many values: ten quiet values must not make the eleventh a sensation.
/// (Empirical Bayes for variances, Smyth 2004; here it only ever widens.)
const PRIOR_VALUES: f64 = 4.0;

/// What spread is usual for a metric, over all nodes that have it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Floor {
    pub(super) usual: f64,
    /// The smallest step that counts where no past ever moved.
    pub(super) step: f64,
}

impl Floor {
    /// The smallest spread of a series of so many values.
    fn among(&self, values: usize) -> f64 {
        if self.usual > 0.0 { self.usual * (PRIOR_VALUES / (PRIOR_VALUES + values as f64)).sqrt() } else { self.step }
    }
}

/// Interquartile range to the standard deviation of normal data.
const IQR_TO_SIGMA: f64 = 1.0 / 1.349;
/// The band between the 1st and the 99th percentile, as in `Baseline::deviation`.
const BAND_TO_SIGMA: f64 = 0.25;
/// Below this many values two halves cannot be told apart.
const HALVES: usize = 6;
/// A difference below this share of the level is no difference: instruments round.
const RELATIVE_FLOOR: f64 = 0.01;
/// Values this far out count as unusual: three standard deviations.
pub(super) const UNUSUAL: f64 = 3.0;

impl Level {
    /// The larger of three spreads: the median absolute deviation is zero for a series that rests
    /// most of the time, the quartiles see some of the rest, the band where it was seen the whole.
    fn of(values: &[f64]) -> Option<Self> {
        let seen = Baseline::of(values.iter().copied())?;
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quartiles = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        let spread = seen.spread.max(quartiles * IQR_TO_SIGMA).max((seen.high - seen.low) * BAND_TO_SIGMA);
        Some(Self { median: seen.median, spread, values: values.len() })
    }

    /// The level before an incident. A past that moved to another level on its way (an earlier
    /// incident that ended) counts from where it moved to; `floor` is what
    /// spread is usual elsewhere.
    pub(super) fn before(past: &[f64], floor: Floor) -> Option<Self> {
        let whole = Self::of(past)?;
        if past.len() < HALVES {
            return Some(whole);
        }
        let (earlier, later) = past.split_at(past.len() / 2);
        let (Some(earlier), Some(later)) = (Self::of(earlier), Self::of(later)) else { return Some(whole) };
        let moved = (earlier.median - later.median).abs() > UNUSUAL * later.scale(floor);
        Some(if moved && later.spread < whole.spread { later } else { whole })
    }

    pub(super) fn scale(&self, floor: Floor) -> f64 {
        self.spread.max(RELATIVE_FLOOR * self.median.abs()).max(floor.among(self.values))
    }
}

/// The excursion of one series in the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Excursion {
    /// In robust standard deviations, positive is worse. The worst that was sustained.
    pub(super) deviations: f64,
    /// The value at which it was reached.
    pub(super) value: f64,
    /// First of two unusual values in a row.
    pub(super) onset: Option<Timestamp>,
}

/// A single value is a blip, and a fault shows in a part of the window at least: what the second
/// worst value and a quarter of the window reach is sustained. A lone value counts half.
pub(super) fn excursion(
    level: Level,
    floor: Floor,
    window: &[(Timestamp, f64)],
    worse: Direction,
) -> Option<Excursion> {
    let scale = level.scale(floor);
    let by = |value: f64| match (scale > 0.0, worse) {
        (false, _) => 0.0,
        (true, Direction::Up) => (value - level.median) / scale,
        (true, Direction::Down) => (level.median - value) / scale,
        (true, Direction::Either) => (value - level.median).abs() / scale,
    };
    let mut ranked: Vec<(f64, f64)> = window.iter().map(|(_, value)| (by(*value), *value)).collect();
    ranked.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.total_cmp(&other.1)));
    let sustained = ranked.len().div_ceil(4).max(2).min(ranked.len());
    let (deviations, value) = *ranked.get(sustained.checked_sub(1)?)?;
    let deviations = if ranked.len() == 1 { deviations / 2.0 } else { deviations };
    let unusual = |at: usize| window.get(at).is_none_or(|(_, value)| by(*value) >= UNUSUAL);
    let onset = (0..window.len()).find(|at| unusual(*at) && unusual(at + 1)).map(|at| window[at].0);
    Some(Excursion { deviations, value, onset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(past: &[f64], window: &[f64], worse: Direction, expected: &str) {
        let level = Level::before(past, Floor::default()).expect("a past");
        let window: Vec<_> =
            window.iter().enumerate().map(|(at, value)| (Timestamp::from_secs(at as i64), *value)).collect();
        let found = excursion(level, Floor::default(), &window, worse).expect("a window");
        assert_eq!(format!("{:.1} at {}", found.deviations, found.value), expected);
    }

    #[test]
    fn what_lasts_counts_and_a_blip_does_not() {
        let past = [9.0, 10.0, 11.0, 9.0, 10.0, 11.0];
        check(&past, &[10.0, 10.0, 500.0, 10.0], Direction::Up, "0.0 at 10");
        check(&past, &[10.0, 30.0, 500.0, 10.0], Direction::Up, "13.5 at 30");
        check(&past, &[10.0, 1.0, 1.0, 10.0], Direction::Up, "0.0 at 10");
        check(&past, &[10.0, 1.0, 1.0, 10.0], Direction::Down, "6.1 at 1");
        check(&past, &[1.0, 19.0], Direction::Either, "6.1 at 19");
    }

    #[test]
    fn the_past_counts_from_where_it_settled() {
        let recovered = [100.0, 90.0, 100.0, 10.0, 11.0, 9.0, 10.0];
        check(&recovered, &[100.0, 100.0], Direction::Up, "121.4 at 100");
    }

    #[test]
    fn a_constant_is_not_anomalous() {
        check(&[0.0; 8], &[0.0; 4], Direction::Either, "0.0 at 0");
        check(&[7.0; 8], &[7.0; 4], Direction::Up, "0.0 at 7");
    }
}
