//! Exact binomial confidence limits, without a table and without a dependency.

use std::f64::consts::PI;

/// Lanczos, "A Precision Approximation of the Gamma Function", 1964, with g = 7 and nine terms:
/// relative error below 1e-13 for positive arguments.
const LANCZOS: [f64; 9] = [
    0.999_999_999_999_809_9,
    676.520_368_121_885_1,
    -1_259.139_216_722_402_8,
    771.323_428_777_653_1,
    -176.615_029_162_140_6,
    12.507_343_278_686_905,
    -0.138_571_095_265_720_12,
    9.984_369_578_019_572e-6,
    1.505_632_735_149_311_6e-7,
];

/// Natural logarithm of Γ(x) for x >= 0.5.
fn ln_gamma(x: f64) -> f64 {
    let x = x - 1.0;
    let sum = LANCZOS[1..].iter().zip(1..).fold(LANCZOS[0], |sum, (term, at)| sum + term / (x + f64::from(at)));
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// P(X <= k) for X binomial with `n` trials of probability `p`.
pub(super) fn at_most(k: usize, n: usize, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let (count, trials) = (k as f64, n as f64);
    let choose = ln_gamma(trials + 1.0) - ln_gamma(count + 1.0) - ln_gamma(trials - count + 1.0);
    let mut term = (choose + count * p.ln() + (trials - count) * (-p).ln_1p()).exp();
    let mut sum = term;
    // From the k-th term down to the first; each is the one above it times a ratio.
    for at in (1..=k).rev() {
        term *= at as f64 / (n - at + 1) as f64 * ((1.0 - p) / p);
        sum += term;
    }
    sum.min(1.0)
}

/// One-sided upper limit on a share of which `k` of `n` were seen, at `confidence`.
///
/// Clopper, Pearson: "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
/// Binomial", Biometrika 1934: the largest share that still gives `k` or fewer with probability
/// 1 - `confidence`. 1 when nothing was seen.
pub fn upper_limit(k: usize, n: usize, confidence: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let doubt = 1.0 - confidence;
    let (mut low, mut high) = (k as f64 / n as f64, 1.0);
    // 60 halvings are beyond the precision of an f64; `high` stays on the safe side.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if at_most(k, n, middle) > doubt {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_published_ones() {
        // scipy.stats.beta.ppf(confidence, k + 1, n - k)
        for (k, n, confidence, expected) in [
            (0, 299, 0.95, 0.009_969_16),
            (0, 298, 0.95, 0.010_002_47),
            (3, 100, 0.95, 0.075_711_75),
            (0, 1, 0.95, 0.95),
            (5, 10, 0.99, 0.849_598_23),
        ] {
            let upper = upper_limit(k, n, confidence);
            assert!((upper - expected).abs() < 1e-6, "{k} of {n}: {upper}, expected {expected}");
        }
        assert_eq!(upper_limit(0, 0, 0.95), 1.0);
        assert_eq!(upper_limit(4, 4, 0.95), 1.0);
    }

    #[test]
    fn the_tail_is_the_sum_of_its_terms() {
        // 10 tosses: 1 + 10 + 45 of 1024.
        assert!((at_most(2, 10, 0.5) - 56.0 / 1_024.0).abs() < 1e-12);
        assert!((at_most(0, 400, 0.01) - 0.99_f64.powi(400)).abs() < 1e-12);
    }
}
