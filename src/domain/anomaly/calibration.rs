//! How much may be suppressed by score, so that few real incidents are missed: from labels.
//!
//! An incident is missed when all its alerts score above the threshold, that is when its lowest score
//! does. The lower the threshold, the more is missed: the family of thresholds is nested. Testing it
//! from the strictest on, each time at the full confidence, and stopping at the first that fails is
//! fixed-sequence testing (Angelopoulos, Bates, Candès, Jordan, Lei: "Learn then Test", 2021); since
//! misses only grow along the way, the last that passes is found directly. The test is the exact
//! one-sided limit of Clopper and Pearson (1934).
//!
//! Invariants: what holds of the past holds of the future as far as both are alike (exchangeable);
//! a label that could only be seen because its score was low never loosens the threshold, because
//! those that were hidden are not beside it.

use std::collections::BTreeMap;

use super::binomial::upper_limit;

/// What people accept: at most this share of real incidents missed, with this confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    pub missed: f64,
    pub confidence: f64,
}

impl Default for Bound {
    fn default() -> Self {
        Self { missed: 0.01, confidence: 0.95 }
    }
}

impl Bound {
    /// Real incidents without a single miss that it takes at least.
    pub fn needs(&self) -> usize {
        // (1 - missed)^n <= 1 - confidence, solved for n; the tolerance is for rounding.
        let n = (1.0 - self.confidence).ln() / (-self.missed).ln_1p();
        if n.is_finite() { (n - 1e-9).ceil().max(1.0) as usize } else { usize::MAX }
    }

    /// Misses that `real` incidents may hold at most; `None` when they are too few for any.
    fn allows(&self, real: usize) -> Option<usize> {
        let fits = |misses: usize| upper_limit(misses, real, self.confidence) <= self.missed;
        if !fits(0) {
            return None;
        }
        // The share itself is above the bound from here on.
        let (mut fit, mut unfit) = (0, (real as f64 * self.missed) as usize + 1);
        while unfit - fit > 1 {
            let middle = fit.midpoint(unfit);
            if fits(middle) { fit = middle } else { unfit = middle }
        }
        Some(fit)
    }
}

/// Under which circumstances a labelled score could be seen at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// It was judged while nothing was suppressed by score: whatever the score, it would be here.
    Openly,
    /// It was judged while higher scores were suppressed, and was admitted.
    Admitted,
    /// It was suppressed and shown to people at random; `share` of the suppressed are.
    Audited { share: f64 },
}

/// What people, or the outcome of an incident, said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The id of the incident, or of the audited alert.
    pub key: String,
    /// The lowest, most anomalous, score that any of its alerts had when it was judged.
    pub score: f64,
    pub real: bool,
    pub seen: Seen,
}

/// What the labels allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Scores above it may be suppressed; `None` while the labels carry no threshold.
    pub threshold: Option<f64>,
    pub bound: Bound,
    /// Real incidents that count, those judged while nothing was suppressed.
    pub real: usize,
    /// Real incidents that are missing until a threshold can be given.
    pub missing: usize,
    /// Of the real ones, how many the threshold would have missed.
    pub misses: usize,
    /// Upper limit on the share of real incidents missed, at the bound's confidence.
    pub upper: f64,
    /// Labels that said noise, and how many of them the threshold would have suppressed.
    pub noise: usize,
    pub suppressed: usize,
}

#[derive(Debug, Clone)]
pub struct Calibration {
    bound: Bound,
    labels: BTreeMap<String, Labelled>,
}

impl Calibration {
    pub fn new(bound: Bound) -> Self {
        Self { bound, labels: BTreeMap::new() }
    }

    /// A later label of the same key replaces the earlier. A score that is no number says nothing.
    pub fn learn(&mut self, label: Labelled) {
        if label.score.is_finite() {
            self.labels.insert(label.key.clone(), label);
        }
    }

    /// The lowest threshold that keeps the bound.
    pub fn setting(&self) -> Setting {
        let scores = |seen: fn(&Seen) -> bool| {
            self.labels.values().filter(move |label| label.real && seen(&label.seen)).map(|label| label.score)
        };
        let mut open: Vec<f64> = scores(|seen| *seen == Seen::Openly).collect();
        let real = open.len();
        let needs = self.bound.needs();
        let allowed = self.bound.allows(real);

        // Each audited miss stands for those that were not shown.
        let audited = self.labels.values().filter(|label| label.real).filter_map(|label| match label.seen {
            Seen::Audited { share } => Some((label.score, (1.0 / share.clamp(1e-6, 1.0)).ceil() as usize)),
            Seen::Openly | Seen::Admitted => None,
        });
        let mut costs: Vec<(f64, usize)> = open.drain(..).map(|score| (score, 1)).chain(audited).collect();
        costs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let threshold = allowed.map(|allowed| lowest_threshold(&costs, allowed));

        let above = |threshold: f64, costs: &[(f64, usize)]| {
            costs.iter().filter(|(score, _)| *score > threshold).map(|(_, weight)| *weight).sum::<usize>()
        };
        let misses = threshold.map_or(0, |threshold| above(threshold, &costs));
        let noise: Vec<(f64, usize)> =
            self.labels.values().filter(|label| !label.real).map(|label| (label.score, 1)).collect();
        Setting {
            threshold,
            bound: self.bound,
            real,
            missing: if allowed.is_some() { 0 } else { needs.saturating_sub(real).max(1) },
            misses,
            upper: upper_limit(misses, real, self.bound.confidence),
            noise: noise.len(),
            suppressed: threshold.map_or(0, |threshold| above(threshold, &noise)),
        }
    }
}

/// The lowest of the scores, from the highest on, above which no more than `allowed` misses lie.
fn lowest_threshold(costs: &[(f64, usize)], allowed: usize) -> f64 {
    let mut missed = 0;
    for (score, weight) in costs {
        // Below this score it would be missed as well.
        missed += weight;
        if missed > allowed {
            return *score;
        }
    }
    // Not reached with a bound below 1: the number of misses allowed is below that of incidents.
    costs.last().map_or(0.0, |(score, _)| *score)
}

#[cfg(test)]
mod tests {
    use super::super::SplitMix;
    use super::super::binomial::at_most;
    use super::*;

    fn label(key: usize, score: f64, real: bool, seen: Seen) -> Labelled {
        Labelled { key: format!("INC-{key}"), score, real, seen }
    }

    fn open(scores: impl IntoIterator<Item = f64>) -> Calibration {
        let mut calibration = Calibration::new(Bound::default());
        for (key, score) in scores.into_iter().enumerate() {
            calibration.learn(label(key, score, true, Seen::Openly));
        }
        calibration
    }

    #[test]
    fn it_takes_299_real_incidents_for_one_percent() {
        assert_eq!(Bound::default().needs(), 299);
        let few = open((0..298).map(|at| -0.9 + f64::from(at) * 1e-3)).setting();
        assert_eq!((few.threshold, few.real, few.missing), (None, 298, 1));
        let enough = open((0..299).map(|at| -0.9 + f64::from(at) * 1e-3)).setting();
        // The highest score of a real incident: none is missed.
        assert_eq!(enough.threshold, Some(-0.9 + 298.0 * 1e-3));
        assert_eq!((enough.missing, enough.misses), (0, 0));
        assert!((enough.upper - 0.009_969_16).abs() < 1e-6);
    }

    #[test]
    fn more_incidents_carry_a_miss() {
        // 0 of 299, 1 of 473 and 2 of 628: the known sample sizes of 95 % / 1 %.
        for (real, misses) in [(472, 0), (473, 1), (627, 1), (628, 2)] {
            let setting = open((0..real).map(|at| -1.0 + f64::from(at) * 1e-3)).setting();
            assert_eq!(setting.misses, misses, "{real}");
            assert!(setting.upper <= 0.01);
        }
    }

    #[test]
    fn scores_that_are_alike_are_missed_together_or_not_at_all() {
        let setting = open((0..700).map(|at| if at < 5 { -0.3 } else { -0.7 })).setting();
        assert_eq!((setting.threshold, setting.misses), (Some(-0.3), 0));
    }

    #[test]
    fn a_later_label_replaces_and_noise_does_not_count() {
        let mut calibration = open((0..299).map(|_| -0.6));
        calibration.learn(label(7, -0.6, false, Seen::Openly));
        calibration.learn(label(7, f64::NAN, true, Seen::Openly));
        let setting = calibration.setting();
        assert_eq!((setting.real, setting.missing, setting.noise), (298, 1, 1));
        calibration.learn(label(7, -0.6, true, Seen::Openly));
        calibration.learn(label(900, -0.4, false, Seen::Openly));
        let setting = calibration.setting();
        assert_eq!((setting.threshold, setting.noise, setting.suppressed), (Some(-0.6), 1, 1));
    }

    #[test]
    fn an_audited_miss_tightens_and_an_admitted_incident_does_not_loosen() {
        let mut calibration = open((0..299).map(|_| -0.6));
        for key in 1_000..3_000 {
            calibration.learn(label(key, -0.9, true, Seen::Admitted));
        }
        assert_eq!(calibration.setting().threshold, Some(-0.6));
        calibration.learn(label(9_000, -0.45, true, Seen::Audited { share: 0.01 }));
        assert_eq!(calibration.setting().threshold, Some(-0.45));
    }

    /// Uniform scores in [-1, 0]: the true share missed at a threshold is its distance to 0.
    fn share_of_broken(runs: u64, bound: Bound, history: impl Fn(&mut SplitMix, Bound) -> Option<f64>) -> (u64, u64) {
        let mut broken = 0;
        for seed in 0..runs {
            let threshold = history(&mut SplitMix::new(seed), bound);
            broken += u64::from(threshold.is_some_and(|threshold| -threshold > bound.missed));
        }
        // As many as doubt and chance allow: beyond this only once in a thousand such tests.
        let doubt = 1.0 - bound.confidence;
        let tolerated = (0..runs).find(|k| at_most(*k as usize, runs as usize, doubt) > 0.999).unwrap_or(runs);
        (broken, tolerated)
    }

    #[test]
    fn the_bound_is_kept_in_as_many_histories_as_it_says() {
        for bound in [Bound::default(), Bound { missed: 0.05, confidence: 0.9 }] {
            let (broken, tolerated) = share_of_broken(1_000, bound, |random, bound| {
                let mut calibration = Calibration::new(bound);
                let real = bound.needs() + random.below(4 * bound.needs());
                for key in 0..real {
                    calibration.learn(label(key, random.unit() - 1.0, true, Seen::Openly));
                }
                calibration.setting().threshold
            });
            assert!(broken <= tolerated, "{broken} of 1000, {tolerated} tolerated, {bound:?}");
            // The bound is used, not only kept: exact limits are broken nearly as often as they may.
            assert!(broken >= tolerated / 8, "{broken} of 1000");
        }
    }

    #[test]
    fn what_it_hides_itself_does_not_teach_it_to_hide_more() {
        let bound = Bound { missed: 0.05, confidence: 0.9 };
        let (broken, tolerated) = share_of_broken(200, bound, |random, bound| {
            let mut calibration = Calibration::new(bound);
            for key in 0..1_500 {
                let score = random.unit() - 1.0;
                // The watch of before the next incident decides whether it is seen.
                let threshold = if key < 60 { None } else { calibration.setting().threshold };
                match threshold {
                    None => calibration.learn(label(key, score, true, Seen::Openly)),
                    Some(threshold) if score <= threshold => {
                        if key % 20 == 0 {
                            calibration.learn(label(key, score, true, Seen::Admitted));
                        }
                    }
                    Some(_) if random.below(20) == 0 => {
                        calibration.learn(label(key, score, true, Seen::Audited { share: 0.05 }));
                    }
                    Some(_) => {}
                }
            }
            calibration.setting().threshold
        });
        assert!(broken <= tolerated, "{broken} of 200, {tolerated} tolerated");
    }
}
