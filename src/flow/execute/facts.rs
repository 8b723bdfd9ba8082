//! What the rules are told at this moment: blast radius, what was done lately, what is under way.

use std::time::Duration;

use crate::domain::action::Action;
use crate::domain::autonomy::Subject;
use crate::domain::id::PlanId;
use crate::domain::incident::{Incident, Outcome, PlanRecord};
use crate::domain::judge::is_proven;
use crate::domain::plan::{BlastRadius, Plan};
use crate::domain::policy::{Facts, Stage};
use crate::domain::topology::Topology;
use crate::flow::command::pause;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::earn;

/// S14: the same action on the same target twice within it means people only.
const LATELY: Duration = Duration::from_secs(30 * 60);
/// How long one that did not help sends the next one to people.
const FAILED_LATELY: Duration = Duration::from_secs(24 * 3600);
const AN_HOUR: Duration = Duration::from_secs(3600);

pub(in crate::flow) struct About<'a> {
    pub incident: &'a Incident,
    pub service: &'a str,
    pub action: &'a Action,
    pub blast: BlastRadius,
    pub requester: Option<&'a str>,
    /// Of a plan that is begun: it is no earlier one that it would have to wait for.
    pub own: Option<&'a PlanId>,
}

/// Whether a plan of another incident that is connected to this one's has been begun and has not ended (S14).
pub(super) async fn neighbour_works(desk: &Desk, incident: &Incident, record: &PlanRecord) -> Result<bool, FlowError> {
    let topology = desk.topology().await;
    let (service, action) = (record.plan.service.as_str(), &record.plan.action);
    // What is approved and not begun waits itself.
    let began = |other: &PlanRecord| other.outcome != Outcome::Approved;
    let under_way = under_way(desk, incident).await?;
    Ok(under_way.iter().any(|other| began(other) && are_connected(&topology, &other.plan, service, action)))
}

/// The plans of other incidents that are carried out or wait for their effect.
async fn under_way(desk: &Desk, incident: &Incident) -> Result<Vec<PlanRecord>, FlowError> {
    let others = desk.store.incidents_in(["executing", "verifying"]).await?;
    let others = others.iter().filter(|other| other.id != incident.id);
    Ok(others.filter_map(|other| other.plan(other.state.plan_under_way()?).cloned()).collect())
}

fn are_connected(topology: &Topology, other: &Plan, service: &str, action: &Action) -> bool {
    other.action.target().uid == action.target().uid
        || other.service == service
        || topology.distance(&other.service, service).is_some()
}

pub(in crate::flow) async fn facts(desk: &Desk, about: About<'_>, stage: Stage) -> Result<Facts, FlowError> {
    let wall_now = desk.clock.wall_now();
    let begun = desk.store.executions_since(wall_now - FAILED_LATELY).await?;
    let acted = desk.store.acted_on(wall_now - FAILED_LATELY).await?;
    let done = |within: Duration| {
        let records = begun.iter().filter(move |(_, _, at)| wall_now.since(*at) < within);
        records.filter_map(|(plan, incident, _)| {
            let plans = &acted.iter().find(|one| one.id.as_str() == incident)?.plans;
            let record = plans.iter().find(|one| one.plan.id.as_str() == plan)?;
            // What was withheld before anything was written was not done.
            let was_done = about.own != Some(&record.plan.id) && !matches!(record.outcome, Outcome::Voided { .. });
            was_done.then_some(record)
        })
    };
    let is_same = |record: &&PlanRecord| {
        let other = &record.plan.action;
        other.kind() == about.action.kind() && other.target().uid == about.action.target().uid
    };
    let did_not_help = |record: &PlanRecord| {
        matches!(
            record.outcome,
            Outcome::NotVerified
                | Outcome::Undone
                | Outcome::NotUndone { .. }
                | Outcome::Recurred
                | Outcome::Failed { .. }
        )
    };
    let breaker_open = done(LATELY).any(|record| is_same(&record))
        || done(FAILED_LATELY).any(|one| is_same(&one) && did_not_help(one));
    let unattended_last_hour = done(AN_HOUR).filter(|record| record.plan.approvals_needed == 0).count();
    let topology = desk.topology().await;
    let under_way = under_way(desk, about.incident).await?;
    let neighbour_busy =
        under_way.iter().any(|other| are_connected(&topology, &other.plan, about.service, about.action));
    let subject = Subject {
        cluster: about.action.target().cluster.clone(),
        service: about.service.to_owned(),
        action: about.action.kind(),
    };
    // Another look may have found less than what it was proposed on.
    let proven = match &about.incident.diagnosis {
        Some(diagnosis) => {
            let evidence = desk.store.evidence_of(&about.incident.id).await?;
            is_proven(diagnosis, &about.incident.candidates, &evidence)
        }
        None => false,
    };
    let production = about.incident.alerts.values().any(|group| group.said.production);
    Ok(Facts {
        stage,
        requester: about.requester.map(str::to_owned),
        service: about.service.to_owned(),
        environment: if production { "production".to_owned() } else { String::new() },
        earned: earn::mode(desk, &subject).await?,
        paused: desk.paused_by(&pause::names_for(about.action, Some(about.service))).await.is_some(),
        wall_now,
        blast: about.blast,
        breaker_open,
        neighbour_busy,
        unattended_last_hour,
        proven,
    })
}
