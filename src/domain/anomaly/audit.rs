//! A few of the suppressed alerts are shown to people all the same, so that the share of wrong
//! suppressions is measured.
//!
//! Invariant: whether an alert is drawn depends on the seed, its fingerprint and its start, so that
//! a restart or a replay draws the same ones; only the daily limit depends on the order.

use serde::{Deserialize, Serialize};

use super::binomial::upper_limit;
use super::random::SplitMix;
use crate::domain::alert::Fingerprint;
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditRules {
    /// Share of the suppressed alerts that is drawn, 0 to 1.
    pub share: f64,
    /// No more than this in one day of event time.
    pub per_day: usize,
    pub seed: u64,
}

impl Default for AuditRules {
    fn default() -> Self {
        Self { share: 0.01, per_day: 20, seed: 1 }
    }
}

#[derive(Debug, Clone)]
pub struct Audit {
    rules: AuditRules,
    so_far: AuditSoFar,
}

/// What a restart must not forget: the limit of the day, and what one audited alert stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AuditSoFar {
    /// Days since the epoch, and how many were shown on it.
    today: (i64, usize),
    suppressed: u64,
    shown: u64,
}

impl Default for AuditSoFar {
    fn default() -> Self {
        Self { today: (i64::MIN, 0), suppressed: 0, shown: 0 }
    }
}

impl Audit {
    pub fn new(rules: AuditRules) -> Self {
        Self::resume(rules, AuditSoFar::default())
    }

    pub fn resume(rules: AuditRules, so_far: AuditSoFar) -> Self {
        Self { rules, so_far }
    }

    pub fn so_far(&self) -> AuditSoFar {
        self.so_far
    }

    /// Whether this suppressed alert is to be shown. Call it once for each firing.
    pub fn draws(&mut self, fingerprint: Fingerprint, starts_at: Timestamp) -> bool {
        self.so_far.suppressed += 1;
        if !self.is_drawn(fingerprint, starts_at) {
            return false;
        }
        let day = starts_at.millis().div_euclid(86_400_000);
        // Late alerts of an earlier day count as of today; otherwise they would reset the limit.
        if day > self.so_far.today.0 {
            self.so_far.today = (day, 0);
        }
        if self.so_far.today.1 >= self.rules.per_day {
            return false;
        }
        self.so_far.today.1 += 1;
        self.so_far.shown += 1;
        true
    }

    /// The draw without the daily limit.
    fn is_drawn(&self, fingerprint: Fingerprint, starts_at: Timestamp) -> bool {
        let mut mixed = SplitMix::new(self.rules.seed);
        let mut mixed = SplitMix::new(mixed.next_u64() ^ fingerprint.bits());
        SplitMix::new(mixed.next_u64() ^ starts_at.millis() as u64).unit() < self.rules.share
    }

    /// Share of the suppressed that were shown since the start: what one audited alert stands for.
    /// The configured share until there is something to divide.
    pub fn share(&self) -> f64 {
        if self.so_far.shown == 0 { self.rules.share } else { self.so_far.shown as f64 / self.so_far.suppressed as f64 }
    }
}

/// What people's answers say about all that was suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AuditEstimate {
    pub shown: usize,
    /// Who does not answer says nothing.
    pub answered: usize,
    /// Answers that the alert should not have been suppressed.
    pub missed: usize,
    /// Missed of answered; 0 before the first answer, which `upper` tells apart.
    pub rate: f64,
    /// Upper limit of the rate (Clopper and Pearson), 1 before the first answer.
    pub upper: f64,
}

impl AuditEstimate {
    pub fn of(shown: usize, answered: usize, missed: usize, confidence: f64) -> Self {
        let missed = missed.min(answered);
        let rate = if answered == 0 { 0.0 } else { missed as f64 / answered as f64 };
        Self { shown, answered, missed, rate, upper: upper_limit(missed, answered, confidence) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Labels;

    fn fingerprint(number: usize) -> Fingerprint {
        Fingerprint::of(&Labels::from([("pod".into(), number.to_string())]))
    }

    fn drawn(rules: AuditRules, order: impl Iterator<Item = usize>, step: i64) -> Vec<usize> {
        let mut audit = Audit::new(rules);
        order.filter(|at| audit.draws(fingerprint(*at), Timestamp::from_millis(*at as i64 * step))).collect()
    }

    #[test]
    fn a_share_is_drawn_and_the_same_one_whatever_the_order() {
        let rules = AuditRules { share: 0.1, per_day: usize::MAX, seed: 4 };
        let mut there = drawn(rules, 0..5_000, 1_000);
        // 500 expected with a standard deviation of 21.
        assert!((430..570).contains(&there.len()), "{}", there.len());
        let mut back = drawn(rules, (0..5_000).rev(), 1_000);
        there.sort_unstable();
        back.sort_unstable();
        assert_eq!(there, back);
        assert_ne!(there, drawn(AuditRules { seed: 5, ..rules }, 0..5_000, 1_000));
        assert!(drawn(AuditRules { share: 0.0, ..rules }, 0..5_000, 1_000).is_empty());
    }

    #[test]
    fn a_day_has_a_limit_and_the_next_day_its_own() {
        let rules = AuditRules { share: 1.0, per_day: 3, seed: 4 };
        // Eight a day.
        assert_eq!(drawn(rules, 0..16, 3 * 3_600_000), [0, 1, 2, 8, 9, 10]);
        let mut audit = Audit::new(rules);
        for at in 0..6 {
            audit.draws(fingerprint(at), Timestamp::from_millis(at as i64));
        }
        assert_eq!(audit.share(), 0.5);
    }

    #[test]
    fn a_restart_keeps_the_limit_of_the_day() {
        let rules = AuditRules { share: 1.0, per_day: 3, seed: 4 };
        let mut audit = Audit::new(rules);
        assert!((0..2).all(|at| audit.draws(fingerprint(at), Timestamp::from_millis(5))));
        let mut again = Audit::resume(rules, audit.so_far());
        assert!(again.draws(fingerprint(2), Timestamp::from_millis(6)));
        assert!(!again.draws(fingerprint(3), Timestamp::from_millis(7)));
        assert_eq!(again.share(), 0.75);
    }

    #[test]
    fn an_estimate_has_a_limit_even_without_a_miss() {
        let none = AuditEstimate::of(40, 0, 0, 0.95);
        assert_eq!((none.rate, none.upper), (0.0, 1.0));
        let some = AuditEstimate::of(120, 100, 3, 0.95);
        assert_eq!(some.rate, 0.03);
        assert!((some.upper - 0.075_710_794).abs() < 1e-6);
    }
}
