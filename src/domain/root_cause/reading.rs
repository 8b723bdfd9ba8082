//! From numbers over time to "usual" or "since when, and how far".

use super::Worse;
use crate::domain::anomaly::Baseline;
use crate::domain::time::Timestamp;

/// How a signal is to be judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    /// The smallest difference that matters, in the signal's unit.
    pub floor: f64,
    pub worse: Worse,
    /// Beyond it things are wrong whatever the baseline says.
    pub limit: Option<f64>,
}

/// (baseline, worst value, deviation, onset) of recent points against the past.
pub fn read(
    past: &[f64],
    recent: &[(Timestamp, f64)],
    gauge: Gauge,
) -> Option<(Baseline, f64, f64, Option<Timestamp>)> {
    let finite: Vec<(Timestamp, f64)> = recent.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (_, last) = *finite.last()?;
    // Without a past the first recent points stand in for it.
    let baseline = Baseline::of(past.iter().copied())
        .or_else(|| Baseline::of(finite.iter().take(finite.len() / 3).map(|(_, value)| *value)))?;
    let worse_by = |value: f64| {
        let past_limit = gauge.limit.is_some_and(|limit| match gauge.worse {
            Worse::Higher => value > limit,
            Worse::Lower => value < limit,
        });
        if past_limit {
            return 20.0;
        }
        let deviation = baseline.deviation(value, gauge.floor);
        match gauge.worse {
            Worse::Higher => deviation,
            Worse::Lower => -deviation,
        }
    };
    let scored: Vec<(Timestamp, f64, f64)> = finite.iter().map(|(at, value)| (*at, *value, worse_by(*value))).collect();
    let Some(onset_index) = onset_index(&scored) else {
        return Some((baseline, last, 0.0, None));
    };
    if is_blip(&scored[onset_index..]) {
        return Some((baseline, last, 0.0, None));
    }
    let (_, worst, deviation) = scored[onset_index..]
        .iter()
        .copied()
        .max_by(|one, other| one.2.total_cmp(&other.2))
        .unwrap_or((Timestamp::default(), last, 0.0));
    Some((baseline, worst, deviation.min(40.0), Some(scored[onset_index].0)))
}

/// Deviation at which a point counts as out of band for the onset: lower than what counts as an
/// anomaly, so that a slow climb is dated to its beginning.
const OUT: f64 = 0.35;
const ANOMALOUS: f64 = super::ANOMALOUS;

/// The start of the last stretch that reaches an anomaly and in which most points are out of band.
fn onset_index(scored: &[(Timestamp, f64, f64)]) -> Option<usize> {
    let peak = scored.iter().rposition(|(_, _, deviation)| *deviation >= ANOMALOUS)?;
    let mut start = peak;
    let mut calm = 0;
    for at in (0..peak).rev() {
        if scored[at].2 >= OUT {
            start = at;
            calm = 0;
        } else {
            calm += 1;
            // Three usual points in a row end the stretch.
            if calm > 2 {
                break;
            }
        }
    }
    Some(start)
}

/// Left its band for a moment and has been back since: a rollout, a batch, nothing to explain an
/// incident that goes on.
fn is_blip(since_onset: &[(Timestamp, f64, f64)]) -> bool {
    let out = since_onset.iter().filter(|(_, _, deviation)| *deviation >= OUT).count();
    let back = since_onset.iter().rev().take_while(|(_, _, deviation)| *deviation < OUT).count();
    back >= 4 && out <= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recent: &[f64], worse: Worse, expected: &str) {
        let past: Vec<f64> = (0..200).map(|at| 10.0 + f64::from(at % 5)).collect();
        let points: Vec<_> =
            recent.iter().enumerate().map(|(at, value)| (Timestamp::from_secs(at as i64 * 30), *value)).collect();
        let (_, worst, deviation, onset) =
            read(&past, &points, Gauge { floor: 1.0, worse, limit: None }).expect("points");
        let said = format!("{worst:.0} {} {:?}", deviation >= ANOMALOUS, onset.map(|at| at.millis() / 30_000));
        assert_eq!(said, expected);
    }

    #[test]
    fn an_onset_is_where_it_left_to_stay_out() {
        check(&[12.0, 11.0, 13.0, 12.0], Worse::Higher, "12 false None");
        check(&[12.0, 11.0, 15.0, 18.0, 25.0, 40.0], Worse::Higher, "40 true Some(2)");
        check(&[12.0, 11.0, 30.0, 12.0, 11.0, 12.0, 25.0, 40.0], Worse::Higher, "40 true Some(6)");
        check(&[12.0, 30.0, 31.0, 12.0, 11.0, 12.0, 13.0], Worse::Higher, "13 false None");
        check(&[12.0, 11.0, 2.0, 1.0], Worse::Lower, "1 true Some(2)");
        check(&[12.0, 11.0, 2.0, 1.0], Worse::Higher, "1 false None");
    }
}
