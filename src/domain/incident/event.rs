//! What happens to an incident: appended, chained, never changed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AlertGroup, Sev};
use crate::domain::alert::{Fingerprint, Severity};
use crate::domain::diagnosis::Diagnosis;
use crate::domain::id::{Digest, EvidenceId, IncidentId, PlanId};
use crate::domain::plan::Plan;
use crate::domain::prefilter::Scored;
use crate::domain::root_cause::Candidate;
use crate::domain::severity::Said;
use crate::domain::time::Timestamp;

/// Everything that happens to an incident. Appended, never changed.
/// The result of an undo that was written.
pub const UNDONE: &str = "undone";
/// Who has done something, where it was no person.
pub const MACHINE: &str = "midwatch";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum IncidentEvent {
    Opened {
        cluster: String,
        team: String,
        title: String,
        severity: Sev,
        because: String,
        event_at: Timestamp,
    },
    AlertsJoined {
        alerts: Vec<JoinedAlert>,
    },
    AlertsResolved {
        alerts: Vec<ResolvedAlert>,
        event_at: Timestamp,
    },
    SeverityChanged {
        to: Sev,
        because: String,
    },
    Retitled {
        title: String,
    },
    Merged {
        into: IncidentId,
        because: String,
    },
    /// `groups`: the alerts that came with it, when a person merged; otherwise they join one by one.
    Absorbed {
        from: IncidentId,
        because: String,
        #[serde(default)]
        groups: Vec<AlertGroup>,
    },
    /// A person says that the alerts about these subjects are another incident.
    SplitOff {
        into: IncidentId,
        subjects: Vec<String>,
        by: String,
        because: String,
    },
    /// The other side of `SplitOff`.
    CameFrom {
        from: IncidentId,
        groups: Vec<AlertGroup>,
        by: String,
        because: String,
    },
    NotAnIncident {
        by: String,
        because: String,
    },
    Acknowledged {
        by: String,
    },
    /// A person gave it to another one, who owns it from now on.
    HandedTo {
        to: String,
        by: String,
        because: Option<String>,
        /// Until they have accepted it, others are called; absent in what older versions have written.
        #[serde(default, skip_serializing_if = "is_false")]
        to_accept: bool,
    },
    /// Whoever it was handed to has had a word about it.
    Accepted {
        by: String,
    },
    /// Whoever it was handed to has not accepted it in time, and nobody is left to call: nobody has it. `by`
    /// had handed it over.
    NotAccepted {
        to: String,
        by: String,
    },
    /// A step of the escalation path: whom the watch has called.
    Called {
        step: usize,
        who: Vec<String>,
        because: String,
        /// Its name; `None`: written by an older version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    InvestigationStarted {
        reasoner: String,
        because: String,
    },
    EvidenceStored {
        evidence: EvidenceId,
        digest: Digest,
        summary: String,
    },
    Recalled {
        past: Vec<PastIncident>,
        runbooks: Vec<String>,
    },
    Ranked {
        candidates: Vec<Candidate>,
    },
    Reasoned {
        step: ReasoningStep,
    },
    Diagnosed {
        diagnosis: Diagnosis,
    },
    PlanProposed {
        plan: Box<Plan>,
        ruling: String,
    },
    PlanRefused {
        because: String,
    },
    Voted {
        plan: PlanId,
        by: String,
        decision: Decision,
        reason: Option<String>,
    },
    PlanApproved {
        plan: PlanId,
        by: Vec<String>,
        digest: Digest,
    },
    PlanRejected {
        plan: PlanId,
        by: String,
        reason: Option<String>,
    },
    PlanExpired {
        plan: PlanId,
    },
    /// Its time is nearly over, and these people were told.
    PlanReminded {
        plan: PlanId,
        who: Vec<String>,
    },
    PlanVoided {
        plan: PlanId,
        because: String,
    },
    ExecutionStarted {
        plan: PlanId,
        intent: String,
        #[serde(default, skip_serializing_if = "Outset::is_ill")]
        outset: Outset,
        /// What names this execution outside: absent in those that were named by their plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<String>,
    },
    ExecutionWrote {
        plan: PlanId,
        result: String,
    },
    ExecutionFailed {
        plan: PlanId,
        because: String,
        #[serde(default, skip_serializing_if = "Left::is_nothing")]
        left: Left,
    },
    VerificationPassed {
        plan: PlanId,
        facts: Vec<String>,
    },
    VerificationFailed {
        plan: PlanId,
        facts: Vec<String>,
    },
    /// Before its effect was verified, somebody else changed what it had written.
    Overruled {
        plan: PlanId,
        because: String,
    },
    Compensated {
        plan: PlanId,
        /// `UNDONE`, or why it was not.
        result: String,
    },
    /// The alert came back soon after the plan's effect was verified: it did not help.
    Recurred {
        plan: PlanId,
        because: String,
    },
    HandedOver {
        because: String,
    },
    Resolved {
        because: String,
        event_at: Timestamp,
        /// Who has closed it, where it was a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    PostMortemWritten {
        document: String,
        digest: Digest,
    },
    Feedback {
        by: String,
        helpful: bool,
        reason: Option<String>,
    },
    Noted {
        by: String,
        text: String,
    },
}

impl IncidentEvent {
    /// The tag, for queries and for people who read the audit trail.
    pub fn kind(&self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|value| value.get("event").and_then(|tag| tag.as_str().map(str::to_owned)))
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinedAlert {
    pub fingerprint: Fingerprint,
    pub name: String,
    pub subject: String,
    pub severity: Severity,
    pub starts_at: Timestamp,
    pub because: String,
    /// It was part of this incident before, ended, and fires again.
    pub again: bool,
    /// The end before was lost, or not counted: it fires on as far as this incident knows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub still: bool,
    /// What its labels said of users and environment.
    #[serde(default)]
    pub said: Said,
    /// How unusual it was when it was judged; absent when the forest could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Scored>,
    /// Clusters that it came from, where they are not the incident's.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub elsewhere: BTreeSet<String>,
    /// That its labels name; empty also in what was stored before they were kept.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub namespaces: BTreeSet<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's own signature
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedAlert {
    pub fingerprint: Fingerprint,
    pub name: String,
    pub subject: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastIncident {
    pub incident: String,
    pub title: String,
    pub score: f64,
    pub because: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReasoningStep {
    pub number: usize,
    /// Which member of the team; absent in investigations of one before there were teams.
    #[serde(default)]
    pub who: Option<String>,
    pub thought: String,
    pub tool: Option<String>,
    pub arguments: Option<String>,
    pub evidence: Option<EvidenceId>,
    pub ms: u64,
    pub tokens: u64,
    /// In the currency of the price table.
    #[serde(default)]
    pub cost: f64,
}

/// What was seen of the trouble just before a plan was carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outset {
    /// Something fired, or a number that was to come back was away. So it was taken to be before it was looked at.
    #[default]
    Ill,
    /// Nothing fired any more, and not all numbers could be read.
    Unclear,
    /// All was well already: that it was well afterwards, too, proves nothing.
    Well,
}

impl Outset {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's own signature
    pub fn is_ill(&self) -> bool {
        *self == Self::Ill
    }
}

/// What an execution that came to no end has left behind in the estate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Nothing was written, or so it was taken to be before it was told apart.
    #[default]
    Nothing,
    /// Some of its writes, and not the others.
    Part,
    /// Nobody knows whether it was written.
    Unknown,
}

impl Left {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's own signature
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "execution failed",
            Self::Part => "partly carried out",
            Self::Unknown => "perhaps carried out",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Approve,
    Reject,
}
