//! An incident is the fold of its events. What people see is derived from it.

mod about;
mod alerts;
mod event;
mod handed;
mod looked;
mod record;
#[cfg(test)]
mod tests;
mod walked;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::diagnosis::{Diagnosis, Verdict};
use super::id::{Digest, EvidenceId, IncidentId, PlanId};
use super::prefilter::Scored;
use super::root_cause::Candidate;
use super::time::Timestamp;
pub use alerts::AlertGroup;
use alerts::group_key;
pub use event::{
    Decision, IncidentEvent, JoinedAlert, Left, MACHINE, Outset, PastIncident, ReasoningStep, ResolvedAlert, UNDONE,
};
pub use handed::Handed;
pub use looked::Looked;
pub use record::{Outcome, PlanRecord};
pub use walked::Walked;

/// Of an incident, for people: who should get out of bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sev {
    #[serde(rename = "SEV4")]
    Four,
    #[serde(rename = "SEV3")]
    Three,
    #[serde(rename = "SEV2")]
    Two,
    #[serde(rename = "SEV1")]
    One,
}

impl Sev {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "SEV1",
            Self::Two => "SEV2",
            Self::Three => "SEV3",
            Self::Four => "SEV4",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Open,
    Investigating,
    Diagnosed,
    Awaiting {
        plan: PlanId,
    },
    Executing {
        plan: PlanId,
    },
    Verifying {
        plan: PlanId,
    },
    HandedOver {
        because: String,
    },
    Resolved {
        because: String,
        /// Who has closed it, where it was a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    Merged {
        into: IncidentId,
    },
}

impl State {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Investigating => "investigating",
            Self::Diagnosed => "diagnosed",
            Self::Awaiting { .. } => "awaiting_approval",
            Self::Executing { .. } => "executing",
            Self::Verifying { .. } => "verifying",
            Self::HandedOver { .. } => "handed_over",
            Self::Resolved { .. } => "resolved",
            Self::Merged { .. } => "merged",
        }
    }

    /// Whether the incident may still go into another one: nobody was asked to decide on it yet.
    pub fn is_movable(&self) -> bool {
        matches!(self, Self::Open | Self::Investigating | Self::Diagnosed)
    }

    /// Whether people may merge or split it: no plan of it is being decided on or carried out.
    pub fn is_regroupable(&self) -> bool {
        self.is_movable() || matches!(self, Self::HandedOver { .. })
    }

    pub fn is_over(&self) -> bool {
        matches!(self, Self::Resolved { .. } | Self::Merged { .. })
    }

    /// The plan that is carried out or waits for its effect.
    pub fn plan_under_way(&self) -> Option<&PlanId> {
        match self {
            Self::Executing { plan } | Self::Verifying { plan } => Some(plan),
            Self::Open | Self::Investigating | Self::Diagnosed | Self::Awaiting { .. } => None,
            Self::HandedOver { .. } | Self::Resolved { .. } | Self::Merged { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub version: i64,
    pub head: Digest,
    pub cluster: String,
    pub team: String,
    pub title: String,
    pub severity: Sev,
    pub severity_because: String,
    pub state: State,
    /// Event time of the first alert.
    pub since: Timestamp,
    /// Wall time of the opening.
    pub opened_at: Timestamp,
    pub updated_at: Timestamp,
    /// By name and subject: a storm has thousands of alerts but few kinds, and the fold stays small.
    pub alerts: BTreeMap<String, AlertGroup>,
    pub evidence: Vec<EvidenceId>,
    pub candidates: Vec<Candidate>,
    pub recalled: Vec<PastIncident>,
    pub runbooks: Vec<String>,
    pub diagnosis: Option<Diagnosis>,
    pub plans: Vec<PlanRecord>,
    pub owner: Option<String>,
    /// By whom and when it was handed to its owner, who has not accepted it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed: Option<Handed>,
    pub helpful: BTreeMap<String, bool>,
    pub post_mortem: Option<String>,
    pub resolved_at: Option<Timestamp>,
    pub reasoner: Option<String>,
    /// People have said that it is not part of that one.
    #[serde(default)]
    pub split_from: Option<IncidentId>,
    /// Who says that this is noise, and why.
    #[serde(default)]
    pub noise: Option<(String, String)>,
    /// The plan of whose end people were reminded.
    #[serde(default)]
    pub reminded: Option<PlanId>,
    /// Steps that were taken of the escalation path which fitted last, and the wall time of the last call.
    #[serde(default)]
    pub called: usize,
    /// By the name of the path; empty in what older versions have written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub walked: BTreeMap<String, Walked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Looked>,
    /// Diagnoses so far; those of older versions are not counted.
    #[serde(default)]
    pub diagnosed: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible while the incident is {state}")]
pub struct IllegalTransition {
    pub event: String,
    pub state: String,
}

impl Incident {
    /// The state before the first event.
    pub fn blank(id: IncidentId) -> Self {
        Self {
            id,
            version: 0,
            head: Digest::genesis(),
            cluster: String::new(),
            team: String::new(),
            title: String::new(),
            severity: Sev::Four,
            severity_because: String::new(),
            state: State::Open,
            since: Timestamp::default(),
            opened_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            alerts: BTreeMap::new(),
            evidence: vec![],
            candidates: vec![],
            recalled: vec![],
            runbooks: vec![],
            diagnosis: None,
            plans: vec![],
            owner: None,
            handed: None,
            helpful: BTreeMap::new(),
            post_mortem: None,
            resolved_at: None,
            reasoner: None,
            split_from: None,
            noise: None,
            reminded: None,
            called: 0,
            walked: BTreeMap::new(),
            called_at: None,
            looked: None,
            diagnosed: 0,
        }
    }

    /// Folds one event in, or refuses it. `wall_at` is when it was appended.
    pub fn apply(&mut self, event: &IncidentEvent, wall_at: Timestamp) -> Result<(), IllegalTransition> {
        use IncidentEvent as E;
        self.permit(event)?;
        match event {
            E::Opened { cluster, team, title, severity, because, event_at } => {
                self.cluster.clone_from(cluster);
                self.team.clone_from(team);
                self.title.clone_from(title);
                self.severity = *severity;
                self.severity_because.clone_from(because);
                self.since = *event_at;
                self.opened_at = wall_at;
            }
            E::AlertsJoined { alerts } => {
                for alert in alerts {
                    self.since = self.since.min(alert.starts_at);
                    let group =
                        self.alerts.entry(group_key(&alert.name, &alert.subject)).or_insert_with(|| AlertGroup {
                            said: alert.said,
                            ..AlertGroup::new(&alert.name, &alert.subject, alert.severity, alert.starts_at)
                        });
                    group.elsewhere.extend(alert.elsewhere.iter().filter(|name| **name != self.cluster).cloned());
                    group.namespaces.extend(alert.namespaces.iter().cloned());
                    group.score = Scored::lower(group.score, alert.score);
                    group.severity = group.severity.max(alert.severity);
                    group.said.users = group.said.users.max(alert.said.users);
                    group.said.production |= alert.said.production;
                    group.first_at = group.first_at.min(alert.starts_at);
                    group.last_at = group.last_at.max(alert.starts_at);
                    match (alert.again, alert.still) {
                        (true, false) => group.resolved = group.resolved.saturating_sub(1),
                        (true, true) => {}
                        (false, _) => group.count += 1,
                    }
                }
            }
            E::AlertsResolved { alerts, .. } => {
                for alert in alerts {
                    if let Some(group) = self.alerts.get_mut(&group_key(&alert.name, &alert.subject)) {
                        group.resolved = (group.resolved + 1).min(group.count);
                    }
                }
            }
            E::SeverityChanged { to, because } => {
                self.severity = *to;
                self.severity_because.clone_from(because);
            }
            E::Retitled { title } => self.title.clone_from(title),
            E::Merged { into, .. } => {
                self.state = State::Merged { into: into.clone() };
                self.handed = None;
            }
            E::Absorbed { groups, .. } => self.take_in(groups),
            E::SplitOff { subjects, .. } => self.alerts.retain(|_, group| !subjects.contains(&group.subject)),
            E::CameFrom { from, groups, .. } => {
                self.split_from = Some(from.clone());
                self.take_in(groups);
            }
            E::NotAnIncident { by, because } => self.noise = Some((by.clone(), because.clone())),
            E::Acknowledged { by } => {
                self.owner = Some(by.clone());
                self.handed = None;
                self.noise = None;
            }
            E::HandedTo { to, by, to_accept, .. } => {
                self.owner = Some(to.clone());
                self.handed = to_accept.then(|| Handed { by: by.clone(), at: wall_at });
            }
            E::Accepted { .. } => self.handed = None,
            // Everybody has been called, and may have gone to bed since: the path begins again.
            E::NotAccepted { .. } => {
                (self.owner, self.handed, self.called) = (None, None, 0);
                self.walked.clear();
            }
            // Who was not there is not waited for: the next step is as due as this one was.
            E::Called { step, who, path, .. } => {
                self.called = step + 1;
                if let Some(path) = path {
                    let walked = self.walked.entry(path.clone()).or_default();
                    walked.steps = step + 1;
                    walked.who.extend(who.iter().cloned());
                }
                if !who.is_empty() {
                    self.called_at = Some(wall_at);
                }
            }
            E::PlanReminded { plan, .. } => self.reminded = Some(plan.clone()),
            E::InvestigationStarted { reasoner, .. } => {
                self.look();
                self.state = State::Investigating;
                self.reasoner = Some(reasoner.clone());
            }
            E::EvidenceStored { evidence, .. } => self.evidence.push(evidence.clone()),
            E::Recalled { past, runbooks } => {
                self.recalled.clone_from(past);
                self.runbooks.clone_from(runbooks);
            }
            E::Ranked { candidates } => self.candidates.clone_from(candidates),
            E::Reasoned { .. } => {}
            E::Diagnosed { diagnosis } => {
                // One that an older version has written counts as the first.
                self.diagnosed = self.diagnosed.max(u32::from(self.diagnosis.is_some())) + 1;
                self.diagnosis = Some(diagnosis.clone());
                self.state = State::Diagnosed;
            }
            E::PlanProposed { plan, ruling } => {
                self.state = State::Awaiting { plan: plan.id.clone() };
                self.plans.push(PlanRecord::of((**plan).clone(), ruling.clone()));
            }
            E::PlanRefused { .. } => {}
            E::Voted { plan, by, decision, .. } => {
                if *decision == Decision::Approve
                    && let Some(record) = self.plan_mut(plan)
                    && !record.approved_by.contains(by)
                {
                    record.approved_by.push(by.clone());
                }
            }
            E::PlanApproved { plan, .. } => {
                self.state = State::Executing { plan: plan.clone() };
                self.noise = None;
                self.set_outcome(plan, Outcome::Approved, &[], wall_at);
            }
            E::PlanRejected { plan, by, reason } => {
                if let Some(record) = self.plan_mut(plan) {
                    record.rejected_by = Some((by.clone(), reason.clone()));
                }
                self.set_outcome(plan, Outcome::Rejected, &[], wall_at);
            }
            E::PlanExpired { plan } => self.set_outcome(plan, Outcome::Expired, &[], wall_at),
            E::PlanVoided { plan, because } => {
                self.set_outcome(plan, Outcome::Voided { because: because.clone() }, &[], wall_at)
            }
            E::ExecutionStarted { plan, outset, mark, .. } => {
                self.state = State::Executing { plan: plan.clone() };
                if let Some(record) = self.plan_mut(plan) {
                    record.outset = *outset;
                    record.mark.clone_from(mark);
                }
                self.set_outcome(plan, Outcome::Started, &[], wall_at);
            }
            E::ExecutionWrote { plan, .. } => {
                self.state = State::Verifying { plan: plan.clone() };
                self.set_outcome(plan, Outcome::Written, &[], wall_at);
            }
            E::ExecutionFailed { plan, because, left } => {
                self.set_outcome(plan, Outcome::Failed { because: because.clone(), left: *left }, &[], wall_at)
            }
            E::VerificationPassed { plan, facts } => self.set_outcome(plan, Outcome::Verified, facts, wall_at),
            E::VerificationFailed { plan, facts } => self.set_outcome(plan, Outcome::NotVerified, facts, wall_at),
            E::Overruled { plan, because } => {
                self.set_outcome(plan, Outcome::Overruled { because: because.clone() }, &[], wall_at);
            }
            E::Compensated { plan, result } if result == UNDONE => {
                self.set_outcome(plan, Outcome::Undone, &[], wall_at);
            }
            E::Compensated { plan, result } => {
                self.set_outcome(plan, Outcome::NotUndone { because: result.clone() }, &[], wall_at);
            }
            E::Recurred { plan, because } => {
                self.set_outcome(plan, Outcome::Recurred, std::slice::from_ref(because), wall_at);
            }
            E::HandedOver { because } => self.state = State::HandedOver { because: because.clone() },
            E::Resolved { because, event_at, by } => {
                self.state = State::Resolved { because: because.clone(), by: by.clone() };
                self.resolved_at = Some(*event_at);
                self.handed = None;
            }
            E::PostMortemWritten { document, .. } => self.post_mortem = Some(document.clone()),
            E::Feedback { by, helpful, .. } => {
                self.helpful.insert(by.clone(), *helpful);
            }
            E::Noted { .. } => {}
        }
        self.version += 1;
        self.updated_at = wall_at;
        Ok(())
    }

    /// Which events a state refuses. Facts (alerts, evidence, notes, feedback) are always welcome;
    /// decisions are not.
    fn permit(&self, event: &IncidentEvent) -> Result<(), IllegalTransition> {
        use IncidentEvent as E;
        let legal = match event {
            E::Opened { .. } => self.version == 0,
            E::AlertsJoined { .. }
            | E::AlertsResolved { .. }
            | E::EvidenceStored { .. }
            | E::Recalled { .. }
            | E::Ranked { .. }
            | E::Reasoned { .. }
            | E::Retitled { .. }
            | E::SeverityChanged { .. }
            | E::NotAnIncident { .. }
            | E::Acknowledged { .. }
            | E::HandedTo { .. }
            | E::PostMortemWritten { .. }
            | E::Feedback { .. }
            | E::PlanRefused { .. }
            | E::Noted { .. } => true,
            E::Accepted { by } => self.handed.is_some() && self.owner.as_ref() == Some(by) && !self.state.is_over(),
            E::NotAccepted { .. } => self.handed.is_some() && !self.state.is_over(),
            E::Merged { .. } => self.state.is_regroupable(),
            E::Absorbed { .. } | E::CameFrom { .. } => !self.state.is_over(),
            E::SplitOff { subjects, .. } => {
                self.state.is_regroupable() && self.alerts.values().any(|group| !subjects.contains(&group.subject))
            }
            E::InvestigationStarted { .. } => {
                matches!(self.state, State::Open | State::Investigating | State::Diagnosed | State::HandedOver { .. })
            }
            E::Diagnosed { .. } => matches!(self.state, State::Investigating),
            // People may ask for an action when the incident is in their hands.
            E::PlanProposed { .. } => matches!(self.state, State::Diagnosed | State::HandedOver { .. }),
            E::Voted { plan, .. }
            | E::PlanApproved { plan, .. }
            | E::PlanRejected { plan, .. }
            | E::PlanReminded { plan, .. }
            | E::PlanExpired { plan } => {
                matches!(&self.state, State::Awaiting { plan: current } if current == plan)
                    && self.outcome(plan) == Some(&Outcome::Proposed)
            }
            // Of a claimed one: it was withheld before anything was written.
            E::PlanVoided { plan, .. } => {
                matches!(self.outcome(plan), Some(Outcome::Proposed | Outcome::Approved | Outcome::Started))
            }
            E::ExecutionStarted { plan, .. } => self.outcome(plan) == Some(&Outcome::Approved),
            E::ExecutionWrote { plan, .. } => self.outcome(plan) == Some(&Outcome::Started),
            E::ExecutionFailed { plan, .. } => {
                matches!(self.outcome(plan), Some(Outcome::Started | Outcome::Approved))
            }
            E::VerificationPassed { plan, .. } | E::VerificationFailed { plan, .. } | E::Overruled { plan, .. } => {
                self.outcome(plan) == Some(&Outcome::Written)
            }
            E::Compensated { plan, .. } => self.outcome(plan) == Some(&Outcome::NotVerified),
            E::Recurred { plan, .. } => self.outcome(plan) == Some(&Outcome::Verified),
            E::Called { step, path, .. } => {
                let is_next = match path {
                    // Steps that another path has taken already are left out.
                    Some(path) => *step >= self.steps_on(path),
                    None => *step == self.called,
                };
                !self.state.is_over() && is_next
            }
            // The end of its plan closes it; people wait for that.
            E::Resolved { by: Some(_), .. } => !self.state.is_over() && self.state.plan_under_way().is_none(),
            E::HandedOver { .. } | E::Resolved { by: None, .. } => !self.state.is_over(),
        };
        if legal && (self.version > 0 || matches!(event, E::Opened { .. })) {
            Ok(())
        } else {
            Err(IllegalTransition { event: event.kind(), state: self.state.word().into() })
        }
    }

    pub fn plan(&self, id: &PlanId) -> Option<&PlanRecord> {
        self.plans.iter().find(|record| &record.plan.id == id)
    }

    /// The first plan that may have left the estate between before and after.
    pub fn half_done(&self) -> Option<&PlanRecord> {
        self.plans
            .iter()
            .find(|record| matches!(record.outcome, Outcome::Failed { left: Left::Part | Left::Unknown, .. }))
    }

    fn take_in(&mut self, groups: &[AlertGroup]) {
        for group in groups {
            self.since = self.since.min(group.first_at);
            match self.alerts.get_mut(&group_key(&group.name, &group.subject)) {
                None => {
                    let mut group = group.clone();
                    group.elsewhere.remove(&self.cluster);
                    self.alerts.insert(group_key(&group.name, &group.subject), group);
                }
                Some(known) => {
                    known.namespaces.extend(group.namespaces.iter().cloned());
                    known.elsewhere.extend(group.elsewhere.iter().filter(|name| **name != self.cluster).cloned());
                    known.severity = known.severity.max(group.severity);
                    known.said.users = known.said.users.max(group.said.users);
                    known.said.production |= group.said.production;
                    known.count += group.count;
                    known.resolved += group.resolved;
                    known.first_at = known.first_at.min(group.first_at);
                    known.last_at = known.last_at.max(group.last_at);
                    known.score = Scored::lower(known.score, group.score);
                }
            }
        }
    }

    fn outcome(&self, id: &PlanId) -> Option<&Outcome> {
        self.plan(id).map(|record| &record.outcome)
    }

    fn plan_mut(&mut self, id: &PlanId) -> Option<&mut PlanRecord> {
        self.plans.iter_mut().find(|record| &record.plan.id == id)
    }

    fn set_outcome(&mut self, id: &PlanId, outcome: Outcome, facts: &[String], wall_at: Timestamp) {
        if let Some(record) = self.plan_mut(id) {
            match &outcome {
                Outcome::Approved | Outcome::Rejected | Outcome::Expired | Outcome::Voided { .. } => {
                    record.decided_at = Some(wall_at)
                }
                Outcome::Proposed | Outcome::Started | Outcome::Written => record.told_at = Some(wall_at),
                Outcome::Failed { .. }
                | Outcome::Verified
                | Outcome::NotVerified
                | Outcome::Undone
                | Outcome::NotUndone { .. }
                | Outcome::Recurred
                | Outcome::Overruled { .. } => record.told_at = Some(wall_at),
            }
            record.outcome = outcome;
            record.facts.extend_from_slice(facts);
        }
    }

    /// Under which its newest diagnosis is told: another one is a message of its own, not a silent edit far up.
    pub fn diagnosis_key(&self) -> String {
        match self.diagnosed {
            0 | 1 => "diagnosis".to_owned(),
            later => format!("diagnosis/{later}"),
        }
    }

    pub fn confidence_word(&self) -> &'static str {
        self.diagnosis.as_ref().map_or(Verdict::Inconclusive.word(), |diagnosis| diagnosis.verdict.word())
    }
}
