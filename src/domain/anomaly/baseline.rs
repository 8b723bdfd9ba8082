//! Robust summaries of one series.

use serde::{Deserialize, Serialize};

/// What is normal for one series, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    pub median: f64,
    /// Scaled median absolute deviation: the standard deviation of a normal sample.
    pub spread: f64,
    pub low: f64,
    pub high: f64,
    pub samples: usize,
}

/// Median absolute deviation to standard deviation, for normal data (1 / Φ⁻¹(3/4)).
const MAD_TO_SIGMA: f64 = 1.4826;

impl Baseline {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let median = quantile(&values, 0.5);
        let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        distances.sort_by(f64::total_cmp);
        Some(Self {
            median,
            spread: quantile(&distances, 0.5) * MAD_TO_SIGMA,
            low: quantile(&values, 0.01),
            high: quantile(&values, 0.99),
            samples: values.len(),
        })
    }

    /// Robust z-score beyond the band that was seen: 0 inside [low, high].
    ///
    /// `floor` is the smallest difference that matters in the series' unit, so that a series that
    /// never moved does not make the first ripple infinite.
    pub fn deviation(&self, value: f64, floor: f64) -> f64 {
        let scale = self.spread.max((self.high - self.low) / 4.0).max(floor);
        if value > self.high {
            (value - self.high) / scale
        } else if value < self.low {
            (value - self.low) / scale
        } else {
            0.0
        }
    }
}

/// Linear interpolation between order statistics; `sorted` is not empty.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_zero_inside_the_band() {
        let baseline = Baseline::of((0..100).map(f64::from)).expect("values");
        assert_eq!(baseline.deviation(50.0, 1.0), 0.0);
        assert!(baseline.deviation(200.0, 1.0) > 2.0);
        assert!(baseline.deviation(-200.0, 1.0) < -2.0);
    }
}
