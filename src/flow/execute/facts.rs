//! What the rules are told at this moment: blast radius, what was done lately, what is under way.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::action::Action;
use crate::domain::id::PlanId;
use crate::domain::incident::{Incident, Outcome, PlanRecord};
use crate::domain::judge::is_proven;
use crate::domain::plan::{BlastRadius, Extent, Plan};
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
    let reach = Reach::of(&record.plan);
    // What is approved and not begun waits itself.
    let began = |other: &PlanRecord| other.outcome != Outcome::Approved;
    let under_way = under_way(desk, incident).await?;
    Ok(under_way.iter().any(|other| began(other) && are_connected(&topology, &other.plan, &reach)))
}

/// The plans of other incidents that are carried out or wait for their effect.
async fn under_way(desk: &Desk, incident: &Incident) -> Result<Vec<PlanRecord>, FlowError> {
    let others = desk.store.incidents_in(["executing", "verifying"]).await?;
    let others = others.iter().filter(|other| other.id != incident.id);
    Ok(others.filter_map(|other| other.plan(other.state.plan_under_way()?).cloned()).collect())
}

/// What one of two remediations is about.
struct Reach<'a> {
    service: &'a str,
    action: &'a Action,
    extent: Option<&'a Extent>,
}

impl<'a> Reach<'a> {
    fn of(plan: &'a Plan) -> Self {
        Self { service: &plan.service, action: &plan.action, extent: plan.blast.extent.as_ref() }
    }

    fn services(&self) -> BTreeSet<&'a str> {
        let more = self.extent.iter().flat_map(|extent| extent.services.iter().map(String::as_str));
        std::iter::once(self.service).chain(more).collect()
    }

    fn namespaces(&self) -> BTreeSet<&'a str> {
        let more = self.extent.iter().flat_map(|extent| extent.namespaces.iter().map(String::as_str));
        self.action.namespaces().into_iter().chain(more).filter(|name| !name.is_empty()).collect()
    }

    /// What GitOps applies is not all known by service: all that lies there may change.
    fn applies_to(&self, other: &Self) -> bool {
        let kind = self.action.target().kind.as_str();
        matches!(kind, "Application" | "Kustomization" | "HelmRelease" | "GitRepository")
            && !self.namespaces().is_disjoint(&other.namespaces())
    }
}

fn are_connected(topology: &Topology, other: &Plan, reach: &Reach<'_>) -> bool {
    are_near(topology, &Reach::of(other), reach)
}

fn are_near(topology: &Topology, other: &Reach<'_>, reach: &Reach<'_>) -> bool {
    let (theirs, ours) = (other.services(), reach.services());
    other.action.target().uid == reach.action.target().uid
        || other.applies_to(reach)
        || reach.applies_to(other)
        || !theirs.is_disjoint(&ours)
        || theirs.iter().any(|their| ours.iter().any(|our| topology.distance(their, our).is_some()))
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
                // Whoever changed it back may do so again.
                | Outcome::Overruled { .. }
        )
    };
    let breaker_open = done(LATELY).any(|record| is_same(&record))
        || done(FAILED_LATELY).any(|one| is_same(&one) && did_not_help(one));
    let unattended_last_hour = done(AN_HOUR).filter(|record| record.plan.approvals_needed == 0).count();
    let topology = desk.topology().await;
    let under_way = under_way(desk, about.incident).await?;
    let extent = about.blast.extent.as_ref();
    let reach = Reach { service: about.service, action: about.action, extent };
    let neighbour_busy = under_way.iter().any(|other| are_connected(&topology, &other.plan, &reach));
    let pauses = pause::names_for(about.action, Some(about.service), extent);
    let subject = earn::subject(desk, about.action, about.service);
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
        earned: earn::mode(desk, &subject, about.action.tier()).await?,
        paused: desk.paused_by(&pauses).await.is_some(),
        wall_now,
        blast: about.blast,
        breaker_open,
        neighbour_busy,
        unattended_last_hour,
        proven,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Bounds;
    use crate::domain::plan::target;

    fn extent(namespaces: &[&str], services: &[&str]) -> Extent {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Extent { namespaces: names(namespaces), services: names(services) }
    }

    #[track_caller]
    fn check(one: (&str, &Action, &Extent), other: (&str, &Action, &Extent), connected: bool) {
        let of = |(service, action, extent)| Reach { service, action, extent: Some(extent) };
        assert_eq!(are_near(&Topology::default(), &of(one), &of(other)), connected);
        assert_eq!(are_near(&Topology::default(), &of(other), &of(one)), connected);
    }

    #[test]
    fn two_remediations_of_one_workload_are_connected_whatever_object_they_write() {
        let bounds = Bounds { min: 1, max: 2 };
        let scaler = target("c", "shop", "HorizontalPodAutoscaler", "hpa-checkout", "h");
        let scaler = Action::SetBounds { target: scaler, from: bounds, to: bounds };
        let restart = |name: &str| Action::Restart { target: target("c", "shop", "Deployment", name, name) };
        let (checkout, web) = (restart("checkout"), restart("web"));
        let scales = ("hpa-checkout", &scaler, &extent(&["shop"], &["checkout"]));
        check(scales, ("checkout", &checkout, &extent(&["shop"], &["checkout"])), true);
        check(scales, ("web", &web, &extent(&["shop"], &["web"])), false);
        let application = target("c", "argocd", "Application", "estate", "a");
        let release = Action::RollBackRelease { target: application, from: "2".into(), to: "1".into() };
        let applies = ("estate", &release, &extent(&["argocd", "shop"], &[]));
        check(applies, ("web", &web, &extent(&["shop"], &["web"])), true);
        let elsewhere = Action::Restart { target: target("c", "pay", "Deployment", "ledger", "l") };
        check(applies, ("ledger", &elsewhere, &extent(&["pay"], &["ledger"])), false);
    }
}
