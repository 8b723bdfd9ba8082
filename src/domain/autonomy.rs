//! What the watch has earned: a track record per service and action, and what follows from it.
//!
//! Invariants: a promotion is only ever proposed, with its numbers, and made by a person; a failure
//! demotes at once, without one.

use serde::{Deserialize, Serialize};

use super::action::{ActionKind, RiskTier};
use super::anomaly::upper_limit;
use super::incident::{Outcome, PlanRecord};
use super::policy::Autonomy;

/// Of one action on one service of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    pub cluster: String,
    pub service: String,
    pub action: ActionKind,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRecord {
    pub approved: usize,
    pub rejected: usize,
    /// Executed, and the effect was verified.
    pub verified: usize,
    /// Executed, and it failed or was undone.
    pub failed: usize,
    /// Verified, and the alert returned within the hour: it did not help after all.
    pub recurred: usize,
}

/// Of a service, over the last 60 days: what people said of its diagnoses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnoses {
    pub confirmed: usize,
    pub judged: usize,
}

/// What a promotion needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Criteria {
    /// Of the lower limit of the success share, at `confidence`.
    pub lower_bound: f64,
    pub confidence: f64,
    /// The field's entry criterion: share of the service's diagnoses that people confirmed.
    pub confirmed_diagnoses: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Keep {
        because: String,
    },
    /// For a person to decide.
    ProposePromotion {
        to: Autonomy,
        because: String,
    },
    Demote {
        to: Autonomy,
        because: String,
    },
}

/// What one plan adds to the record; nothing while it is still under way.
impl TrackRecord {
    pub fn count(&mut self, record: &PlanRecord) {
        let by_people = usize::from(!record.approved_by.is_empty());
        match &record.outcome {
            Outcome::Rejected => self.rejected += 1,
            // What was well before it is no proof that it helps.
            Outcome::Verified if !record.has_helped() => {}
            Outcome::Verified => {
                self.approved += by_people;
                self.verified += 1;
            }
            Outcome::NotVerified | Outcome::Undone | Outcome::NotUndone { .. } | Outcome::Failed { .. } => {
                self.approved += by_people;
                self.failed += 1;
            }
            Outcome::Recurred => {
                self.approved += by_people;
                self.recurred += 1;
            }
            // Nobody said anything of the action itself.
            Outcome::Proposed
            | Outcome::Approved
            | Outcome::Expired
            | Outcome::Voided { .. }
            | Outcome::Started
            | Outcome::Written
            | Outcome::Overruled { .. } => {}
        }
    }

    pub fn successes(&self) -> usize {
        self.verified
    }

    /// A rejection counts as a failure: people would not have had it done.
    pub fn failures(&self) -> usize {
        self.failed + self.recurred + self.rejected
    }

    /// One-sided lower limit of the success share, after Clopper and Pearson: the mirror image of the
    /// upper limit of the failure share. 0 while nothing was done.
    pub fn lower_bound(&self, confidence: f64) -> f64 {
        let trials = self.successes() + self.failures();
        if trials == 0 { 0.0 } else { 1.0 - upper_limit(self.failures(), trials, confidence) }
    }

    pub fn in_words(&self, confidence: f64) -> String {
        format!(
            "{} verified, {} failed or undone, {} came back within the hour, {} rejected; the success share is at \
             least {:.0} % with {:.0} % confidence",
            self.verified,
            self.failed,
            self.recurred,
            self.rejected,
            (self.lower_bound(confidence) * 100.0).floor(),
            confidence * 100.0
        )
    }
}

impl Diagnoses {
    pub fn share(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.confirmed as f64 / self.judged as f64)
    }
}

/// What follows of a record. `mode` is what holds now, `tier` the risk of the action as it was last
/// proposed: only a low risk may ever run by itself.
pub fn judge(
    mode: Autonomy,
    tier: RiskTier,
    record: &TrackRecord,
    diagnoses: &Diagnoses,
    criteria: &Criteria,
) -> Verdict {
    let keep = |because: String| Verdict::Keep { because };
    let Some(to) = mode.above() else { return keep("there is no higher mode".into()) };
    if to == Autonomy::Automatic && tier != RiskTier::Low {
        return keep(format!("{tier} risk always waits for people"));
    }
    let lower = record.lower_bound(criteria.confidence);
    if lower < criteria.lower_bound {
        return keep(format!(
            "{}; {:.0} % are asked for",
            record.in_words(criteria.confidence),
            criteria.lower_bound * 100.0
        ));
    }
    match diagnoses.share() {
        Some(share) if share >= criteria.confirmed_diagnoses => Verdict::ProposePromotion {
            to,
            because: format!(
                "{}; {} of {} judged diagnoses of the service were confirmed in 60 days",
                record.in_words(criteria.confidence),
                diagnoses.confirmed,
                diagnoses.judged
            ),
        },
        Some(_) | None => keep(format!(
            "{} of {} judged diagnoses of the service were confirmed in 60 days; {:.0} % are asked for",
            diagnoses.confirmed,
            diagnoses.judged,
            criteria.confirmed_diagnoses * 100.0
        )),
    }
}

/// After a failure: one step down, never below waiting for people (who then see what it would do).
pub fn demote(mode: Autonomy, why: &str) -> Option<Verdict> {
    match mode {
        Autonomy::Automatic => Some(Verdict::Demote { to: Autonomy::Approve, because: why.to_owned() }),
        Autonomy::Approve | Autonomy::Suggest => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CRITERIA: Criteria = Criteria { lower_bound: 0.7, confidence: 0.95, confirmed_diagnoses: 0.7 };
    const WELL: Diagnoses = Diagnoses { confirmed: 8, judged: 10 };

    fn record(verified: usize, failed: usize) -> TrackRecord {
        TrackRecord { verified, failed, ..TrackRecord::default() }
    }

    #[test]
    fn a_promotion_takes_nine_successes_in_a_row_and_confirmed_diagnoses() {
        // 0.05^(1/n) >= 0.7 first holds for n = 9 (scipy.stats.beta.ppf(0.05, 9, 1) = 0.7169).
        let judged =
            |record: &TrackRecord, diagnoses| judge(Autonomy::Approve, RiskTier::Low, record, diagnoses, &CRITERIA);
        assert!(matches!(judged(&record(8, 0), &WELL), Verdict::Keep { .. }));
        let Verdict::ProposePromotion { to, because } = judged(&record(9, 0), &WELL) else { panic!() };
        assert_eq!(to, Autonomy::Automatic);
        assert!(because.contains("9 verified") && because.contains("71 %") && because.contains("8 of 10"), "{because}");
        assert!(matches!(judged(&record(9, 1), &WELL), Verdict::Keep { .. }));
        // scipy.stats.beta.ppf(0.05, 14, 2) = 0.7206
        assert!((record(14, 1).lower_bound(0.95) - 0.7206).abs() < 5e-4, "{}", record(14, 1).lower_bound(0.95));
        let rejected = TrackRecord { rejected: 1, ..record(9, 0) };
        assert!(matches!(judged(&rejected, &WELL), Verdict::Keep { .. }));
        assert!(matches!(judged(&record(99, 0), &Diagnoses { confirmed: 6, judged: 10 }), Verdict::Keep { .. }));
        assert!(matches!(judged(&record(99, 0), &Diagnoses::default()), Verdict::Keep { .. }), "nobody judged: no");
    }

    #[test]
    fn only_low_risk_ever_runs_by_itself_and_a_failure_demotes_at_once() {
        let best = record(1_000, 0);
        for tier in [RiskTier::Medium, RiskTier::High] {
            assert!(matches!(judge(Autonomy::Approve, tier, &best, &WELL, &CRITERIA), Verdict::Keep { .. }));
            let up = judge(Autonomy::Suggest, tier, &best, &WELL, &CRITERIA);
            assert!(matches!(up, Verdict::ProposePromotion { to: Autonomy::Approve, .. }));
        }
        assert!(matches!(demote(Autonomy::Automatic, "it"), Some(Verdict::Demote { to: Autonomy::Approve, .. })));
        assert_eq!(demote(Autonomy::Approve, "it"), None);
    }

    #[test]
    fn what_was_well_before_it_was_done_is_no_success() {
        use crate::domain::action::Action;
        use crate::domain::incident::Outset;
        use crate::domain::plan::{Plan, target};

        let restart = Action::Restart { target: target("c", "shop", "Deployment", "web", "u") };
        let of = |outcome, outset| PlanRecord {
            outcome,
            outset,
            ..PlanRecord::of(Plan::first(restart.clone()), String::new())
        };
        let mut counted = TrackRecord::default();
        for outset in [Outset::Ill, Outset::Unclear, Outset::Well] {
            counted.count(&of(Outcome::Verified, outset));
        }
        assert_eq!(counted, record(1, 0));
        // That it came back counts whatever was seen before.
        counted.count(&of(Outcome::Recurred, Outset::Well));
        assert_eq!(counted.recurred, 1);
    }

    proptest! {
        #[test]
        fn another_failure_never_raises_the_bound(verified in 0..60usize, failed in 0..20usize) {
            let before = record(verified, failed).lower_bound(0.95);
            prop_assert!(record(verified, failed + 1).lower_bound(0.95) <= before + 1e-9);
            prop_assert!(before <= verified as f64 / (verified + failed).max(1) as f64 + 1e-9);
        }
    }
}
