//! What other systems hear of an incident: a few facts at one moment, in an order that holds.

use serde::{Deserialize, Serialize};

use super::card::Card;
use super::incident::{Incident, IncidentEvent, MACHINE, Sev, UNDONE};
use super::narrative;
use super::redact::redact;
use super::time::Timestamp;

/// Services that are named at most.
const NAMED: usize = 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub phase: Phase,
    pub incident: String,
    /// The same for everything about one incident, and for no other.
    pub dedup_key: String,
    /// Counts what happened to the incident; grows.
    pub version: i64,
    pub severity: Sev,
    pub title: String,
    pub cluster: String,
    pub team: String,
    pub services: Vec<String>,
    /// Event time of the first alert.
    pub since: Timestamp,
    /// Wall time of what is told.
    pub at: Timestamp,
    pub state: String,
    pub alerts: usize,
    pub firing: usize,
    /// The service that is blamed, once it is known.
    pub cause: Option<String>,
    /// What happened, as a sentence.
    pub text: String,
    /// Longer than a sentence: a post-mortem.
    pub body: Option<String>,
    /// Who did it, when it was a person.
    pub by: Option<String>,
    /// The incident's page.
    pub url: String,
    /// For systems that show cards; read only.
    pub card: Card,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Opened,
    /// Its severity has changed, or it is nobody's again.
    Changed,
    Acknowledged,
    Diagnosed,
    /// A plan waits for people, or was decided on.
    Planned,
    Resolved,
    /// A task for later.
    FollowUp,
    /// The post-mortem is written.
    Reviewed,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Acknowledged => "acknowledged",
            Self::Diagnosed => "diagnosed",
            Self::Planned => "planned",
            Self::Resolved => "resolved",
            Self::FollowUp => "follow_up",
            Self::Reviewed => "reviewed",
        }
    }
}

/// What of an event others hear: the phase, a sentence, who did it.
pub fn phase_of(event: &IncidentEvent) -> Option<(Phase, String, Option<String>)> {
    use IncidentEvent as E;
    Some(match event {
        E::Opened { because, .. } => (Phase::Opened, because.clone(), None),
        E::SeverityChanged { to, because } => (Phase::Changed, format!("now {}: {because}", to.as_str()), None),
        E::Acknowledged { by } => (Phase::Acknowledged, format!("acknowledged by {by}"), Some(by.clone())),
        E::HandedTo { to, by, because, to_accept } => {
            let because = because.as_ref().map_or_else(String::new, |because| format!(": {because}"));
            let yet = if *to_accept { ", who has not accepted it yet," } else { "" };
            // Where a merge has given it to them, nobody has said that they are at it.
            let taken = (by != MACHINE && !to_accept).then(|| to.clone());
            (Phase::Acknowledged, format!("handed to {to}{yet} by {by}{because}"), taken)
        }
        E::Accepted { by } => (Phase::Acknowledged, format!("accepted by {by}"), Some(by.clone())),
        E::NotAccepted { to, by } => {
            (Phase::Changed, format!("nobody has it: {to} has not accepted it from {by}"), None)
        }
        E::Diagnosed { diagnosis } => {
            (Phase::Diagnosed, format!("{}: {}", diagnosis.verdict.word(), diagnosis.mechanism), None)
        }
        E::PlanProposed { plan, ruling } => {
            (Phase::Planned, format!("proposed: {} ({} risk; {ruling})", plan.action, plan.tier), None)
        }
        E::PlanApproved { plan, by, .. } => {
            (Phase::Planned, format!("{plan} was approved by {}", by.join(", ")), by.last().cloned())
        }
        E::PlanRejected { plan, by, reason } => {
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            (Phase::Planned, format!("{plan} was rejected by {by}{reason}"), Some(by.clone()))
        }
        E::PlanVoided { plan, because } => (Phase::Planned, format!("{plan} is void: {because}"), None),
        E::ExecutionFailed { plan, because, .. } => (Phase::Planned, format!("{plan} failed: {because}"), None),
        E::Compensated { plan, result } if result == UNDONE => {
            (Phase::Planned, format!("{plan} did not help and was undone"), None)
        }
        E::Compensated { plan, result } => {
            (Phase::Planned, format!("{plan} did not help, and was not undone: {result}"), None)
        }
        E::PlanExpired { plan } => (Phase::Planned, format!("nobody decided on {plan} in time"), None),
        E::VerificationPassed { facts, .. } => (Phase::Planned, format!("verified: {}", facts.join("; ")), None),
        E::VerificationFailed { facts, .. } => (Phase::Planned, format!("not verified: {}", facts.join("; ")), None),
        E::Overruled { because, .. } => (Phase::Planned, format!("overruled: {because}"), None),
        E::Recurred { because, .. } => (Phase::Planned, format!("it came back: {because}"), None),
        E::Resolved { because, by: Some(by), .. } => {
            (Phase::Resolved, format!("closed by {by}: {because}"), Some(by.clone()))
        }
        E::Resolved { because, by: None, .. } => (Phase::Resolved, because.clone(), None),
        E::Merged { into, because } => (Phase::Resolved, format!("went into {into}: {because}"), None),
        E::PostMortemWritten { .. } => (Phase::Reviewed, "the post-mortem is written".to_owned(), None),
        E::AlertsJoined { .. }
        | E::AlertsResolved { .. }
        | E::Retitled { .. }
        | E::Absorbed { .. }
        | E::SplitOff { .. }
        | E::CameFrom { .. }
        | E::NotAnIncident { .. }
        | E::Called { .. }
        | E::InvestigationStarted { .. }
        | E::EvidenceStored { .. }
        | E::Recalled { .. }
        | E::Ranked { .. }
        | E::Reasoned { .. }
        | E::PlanRefused { .. }
        | E::Voted { .. }
        | E::PlanReminded { .. }
        | E::ExecutionStarted { .. }
        | E::ExecutionWrote { .. }
        | E::HandedOver { .. }
        | E::Feedback { .. }
        | E::Noted { .. } => return None,
    })
}

impl Notice {
    /// `incident` as it is after the event. `source` tells installations apart; `console` is the address
    /// of the pages.
    /// Without secrets: it leaves the program.
    pub fn of(
        incident: &Incident,
        (phase, text, by): (Phase, String, Option<String>),
        at: Timestamp,
        source: &str,
        console: &str,
    ) -> Self {
        let body = (phase == Phase::Reviewed).then(|| incident.post_mortem.clone()).flatten();
        Self {
            phase,
            incident: incident.id.to_string(),
            dedup_key: format!("{source}/{}", incident.id),
            version: incident.version,
            severity: incident.severity,
            title: redact(&incident.title),
            cluster: incident.cluster.clone(),
            team: incident.team.clone(),
            services: incident.subjects().into_iter().take(NAMED).map(str::to_owned).collect(),
            since: incident.since,
            at,
            state: incident.state.word().to_owned(),
            alerts: incident.alert_count(),
            firing: incident.firing(),
            cause: incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone()),
            text: redact(&text),
            body: body.as_deref().map(redact),
            by,
            url: format!("{}/incident/{}", console.trim_end_matches('/'), incident.id),
            card: (match phase {
                Phase::Diagnosed => narrative::diagnosis(incident),
                Phase::Planned => incident.plans.last().map_or_else(|| narrative::root(incident), narrative::approval),
                Phase::Opened
                | Phase::Changed
                | Phase::Acknowledged
                | Phase::Resolved
                | Phase::FollowUp
                | Phase::Reviewed => narrative::root(incident),
            })
            .shown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PlanId;
    use crate::domain::incident::Left;

    #[test]
    fn what_a_merge_gives_to_somebody_is_no_word_of_theirs() {
        let by = |by: &str, to_accept: bool| {
            let event = IncidentEvent::HandedTo { to: "t/ada".into(), by: by.into(), because: None, to_accept };
            phase_of(&event).and_then(|(_, _, by)| by)
        };
        assert_eq!(by(MACHINE, false), None);
        assert_eq!(by("t/bob", false).as_deref(), Some("t/ada"));
        assert_eq!(by("t/bob", true), None, "a pager goes on until it is accepted");
        let accepted = phase_of(&IncidentEvent::Accepted { by: "t/ada".into() });
        assert_eq!(accepted, Some((Phase::Acknowledged, "accepted by t/ada".into(), Some("t/ada".into()))));
    }

    #[test]
    fn others_hear_how_a_plan_has_failed() {
        let plan = PlanId::new("INC-1.P1".to_owned());
        let (because, result) = ("the target has changed".to_owned(), UNDONE.to_owned());
        for (event, text) in [
            (
                IncidentEvent::PlanVoided { plan: plan.clone(), because: because.clone() },
                "INC-1.P1 is void: the target has changed",
            ),
            (
                IncidentEvent::ExecutionFailed { plan: plan.clone(), because, left: Left::Nothing },
                "INC-1.P1 failed: the target has changed",
            ),
            (IncidentEvent::Compensated { plan, result }, "INC-1.P1 did not help and was undone"),
        ] {
            assert_eq!(phase_of(&event), Some((Phase::Planned, text.to_owned(), None)));
        }
    }
}
