//! From an action to a plan that people can decide on: rehearsed, with its reach, under a ruling.

use std::time::Duration;

use super::desk::Desk;
use super::execute::{About, Hands, facts, patiently};
use super::reach;
use crate::domain::action::Action;
use crate::domain::id::EvidenceId;
use crate::domain::incident::Incident;
use crate::domain::plan::{self, BlastRadius, Plan, SuccessCheck, Surroundings};
use crate::domain::policy::{Ruling, Stage};
use crate::domain::signal_scope::SignalScope;
use crate::domain::topology::Topology;
use crate::ports::ClusterError;

pub(super) struct Wanted<'a> {
    pub incident: &'a Incident,
    pub service: &'a str,
    pub action: Action,
    pub because: String,
    pub checks: Vec<SuccessCheck>,
    pub evidence: Vec<EvidenceId>,
    pub requester: Option<String>,
}

pub(super) async fn draft(desk: &Desk, topology: &Topology, wanted: Wanted<'_>) -> Result<(Plan, Ruling), String> {
    let Wanted { incident, service, action, because, checks, evidence, requester } = wanted;
    let checks = scoped(&reach::scope(desk, incident), checks)?;
    let hands = Hands::of(desk);
    let blast = blast(&hands, topology, service, &action).await.map_err(|error| error.to_string())?;
    let (blast_now, requester_now) = (blast.clone(), requester.as_deref());
    let about = About { incident, service, action: &action, blast: blast_now, requester: requester_now, own: None };
    let facts = facts(desk, about, Stage::Propose).await.map_err(|error| error.to_string())?;
    let ruling = desk.policy.rule(&action, &facts);
    let approvals_needed = match &ruling {
        Ruling::Refused { because, .. } => return Err(format!("policy refuses {action}: {because}")),
        Ruling::NeedsApproval { approvals, .. } => *approvals,
        Ruling::Unattended { .. } => 0,
    };
    let tried = hands.rehearse(&action).await.map_err(|error| format!("the dry run of {action} fails: {error}"))?;
    if tried.before == tried.after {
        return Err(format!("{action} would change nothing"));
    }
    let undo = action.undo();
    let plan = Plan {
        id: incident.id.plan(incident.plans.len() + 1),
        service: service.to_owned(),
        digest: plan::digest(
            &action,
            blast.extent.as_ref(),
            &tried.before,
            &tried.after,
            &undo,
            &desk.policy.version(),
        ),
        tier: action.tier(),
        because,
        blast,
        diff: tried.diff,
        undo,
        checks,
        evidence,
        expires_at: desk.clock.wall_now() + Duration::from_secs(desk.config.policy.approval_seconds),
        approvals_needed,
        requester,
        action,
    };
    Ok((plan, ruling))
}

/// Another cluster's service of that name, if it is well, would say that ours is.
fn scoped(scope: &SignalScope, checks: Vec<SuccessCheck>) -> Result<Vec<SuccessCheck>, String> {
    let scoped = |check: SuccessCheck| match scope.promql(&check.query) {
        Ok(query) => Ok(SuccessCheck { query, ..check }),
        Err(refused) => Err(format!("the check {} of {} cannot be read: {refused}", check.signal, check.service)),
    };
    checks.into_iter().map(scoped).collect()
}

pub(super) async fn blast(
    hands: &Hands,
    topology: &Topology,
    service: &str,
    action: &Action,
) -> Result<BlastRadius, ClusterError> {
    let around = match action {
        Action::CallHook { .. } => Surroundings::default(),
        other => {
            let cluster = hands.cluster()?;
            patiently(|| cluster.surroundings(other)).await?
        }
    };
    Ok(BlastRadius::of(service, action, &around, topology))
}
