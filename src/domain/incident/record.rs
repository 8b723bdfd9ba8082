//! What became of a plan.

use serde::{Deserialize, Serialize};

use super::{Left, Outset};
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub plan: Plan,
    pub ruling: String,
    pub approved_by: Vec<String>,
    pub rejected_by: Option<(String, Option<String>)>,
    pub outcome: Outcome,
    /// What was seen of the trouble when it was begun.
    #[serde(default, skip_serializing_if = "Outset::is_ill")]
    pub outset: Outset,
    /// See `mark()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub facts: Vec<String>,
    /// Wall time of the decision, or of the moment from which nobody could decide any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Wall time of the last thing that became known about the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
}

impl PlanRecord {
    /// Of a plan that was just made.
    pub fn of(plan: Plan, ruling: String) -> Self {
        Self {
            plan,
            ruling,
            approved_by: vec![],
            rejected_by: None,
            outcome: Outcome::Proposed,
            outset: Outset::default(),
            mark: None,
            facts: vec![],
            decided_at: None,
            told_at: None,
        }
    }

    /// What names its execution in the estate and to hooks: the plan, and what no other store has drawn. Two
    /// installations, and one before and after its store was restored, have plans of the same name.
    pub fn mark(&self) -> &str {
        self.mark.as_deref().unwrap_or_else(|| self.plan.id.as_str())
    }

    /// Its effect was seen, and there was something for it to mend.
    pub fn has_helped(&self) -> bool {
        self.outcome == Outcome::Verified && self.outset == Outset::Ill
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Proposed,
    Approved,
    Rejected,
    Expired,
    Voided {
        because: String,
    },
    Started,
    Written,
    Failed {
        because: String,
        #[serde(default, skip_serializing_if = "Left::is_nothing")]
        left: Left,
    },
    Verified,
    NotVerified,
    Undone,
    /// It did not help, and what it changed is still there or was changed by somebody else.
    NotUndone {
        because: String,
    },
    /// It was verified, and its alert came back soon after.
    Recurred,
    /// Somebody else changed what it had written before its effect was verified: neither helped nor failed.
    Overruled {
        because: String,
    },
}

impl Outcome {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Voided { .. } => "voided",
            Self::Started => "started",
            Self::Written => "written",
            Self::Failed { .. } => "failed",
            Self::Verified => "verified",
            Self::NotVerified => "not_verified",
            Self::Undone => "undone",
            Self::NotUndone { .. } => "not_undone",
            Self::Recurred => "recurred",
            Self::Overruled { .. } => "overruled",
        }
    }
}
