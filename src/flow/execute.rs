//! Approved plans: check again, preserve evidence, claim, write once, verify, undo if it did not help.
//!
//! Invariant (P5): a plan is claimed by a primary key before the write. After a crash between claim
//! and answer the cluster is read; nothing is written blindly a second time.

mod contested;

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::command::pause;
use super::deliver::Effect;
use super::desk::{Counters, Decision, Desk, FlowError};
use super::observe::{Dossier, Exhibit};
use crate::domain::action::{Action, Undo};
use crate::domain::alert::Severity;
use crate::domain::card::Tone;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::id::{IncidentId, PersonId, PlanId};
use crate::domain::incident::{Incident, IncidentEvent, Outcome, PlanRecord, State};
use crate::domain::plan::{self, Plan};
use crate::domain::root_cause::amount;
use crate::domain::{narrative, policy::Ruling};
use crate::ports::{Cluster, ClusterError, DryRun, PodLogs};
use crate::store::{Claim, ExecutionRow, StoreError};

/// Drives every plan that is approved or was interrupted; one at a time, so that two remediations
/// never work on connected services at once (S14).
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        let due = due(&desk).await?;
        if due.is_empty() {
            desk.wait(&desk.bells.execution, Duration::from_millis(500)).await;
            continue;
        }
        for (incident, plan) in due {
            if let Err(failure) = drive(&desk, &incident, &plan).await {
                error!(%incident, %plan, error = %failure, "execution step failed");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
    Ok(())
}

async fn due(desk: &Desk) -> Result<Vec<(IncidentId, PlanId)>, FlowError> {
    let incidents = desk.store.incidents_in(["executing", "verifying"]).await?;
    Ok(incidents
        .into_iter()
        .filter_map(|incident| match &incident.state {
            State::Executing { plan } | State::Verifying { plan } => {
                let open = incident.plan(plan).is_some_and(|record| {
                    matches!(
                        record.outcome,
                        Outcome::Approved | Outcome::Started | Outcome::Written | Outcome::NotVerified
                    )
                });
                open.then(|| (incident.id.clone(), plan.clone()))
            }
            State::Open
            | State::Investigating
            | State::Diagnosed
            | State::Awaiting { .. }
            | State::HandedOver { .. }
            | State::Resolved { .. }
            | State::Merged { .. } => None,
        })
        .collect())
}

async fn drive(desk: &Desk, id: &IncidentId, plan_id: &PlanId) -> Result<(), FlowError> {
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let Some(record) = incident.plan(plan_id).cloned() else { return Ok(()) };
    let Some(cluster) = desk.cluster.clone() else {
        return fail(desk, id, plan_id, "no cluster is configured (key: kubernetes)").await;
    };
    match record.outcome {
        Outcome::Approved => start(desk, &incident, &record, cluster.as_ref()).await,
        Outcome::Started => recover(desk, &incident, &record, cluster.as_ref()).await,
        Outcome::Written => verify(desk, id, &record, cluster.as_ref()).await,
        Outcome::NotVerified => compensate(desk, id, &record, cluster.as_ref()).await,
        Outcome::Proposed
        | Outcome::Rejected
        | Outcome::Expired
        | Outcome::Voided { .. }
        | Outcome::Failed { .. }
        | Outcome::Verified
        | Outcome::Undone => Ok(()),
    }
}

/// Everything that must hold at this moment, not only when the card was made.
async fn start(desk: &Desk, incident: &Incident, record: &PlanRecord, cluster: &dyn Cluster) -> Result<(), FlowError> {
    let (id, plan) = (&incident.id, &record.plan);
    let service = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.as_deref());
    let pauses = pause::names_for(&plan.action, service);
    if let Some(why) = desk.paused_by(&pauses).await {
        return void(desk, id, plan, &format!("midwatch is paused: {why}")).await;
    }
    let ruling = desk.policy.rule(&plan.action);
    let allowed = match &ruling {
        Ruling::Refused { because } => Err(because.clone()),
        Ruling::Unattended { .. } => Ok(()),
        Ruling::NeedsApproval { approvals, .. } => {
            let votes = desk.store.votes(plan.id.as_str()).await?;
            let mut valid = 0;
            for (person, _) in votes.iter().filter(|(_, decision)| decision == "approve") {
                // Who asked for the plan does not count (S6), whatever the table of votes holds.
                let counts = plan.requester.as_ref() != Some(person);
                valid += usize::from(counts && desk.authority_of(&PersonId::new(person.clone())).await.is_ok());
            }
            if valid >= *approvals { Ok(()) } else { Err(format!("{valid} of {approvals} approvals are valid now")) }
        }
    };
    if let Err(because) = allowed {
        return void(desk, id, plan, &because).await;
    }
    let dry_run = match cluster.dry_run(&plan.action).await {
        Ok(dry_run) => dry_run,
        Err(error) => return void(desk, id, plan, &format!("the dry run fails now: {error}")).await,
    };
    if !is_as_approved(desk, plan, &dry_run) {
        return void(desk, id, plan, "the target has changed since the approval; a new card is needed").await;
    }
    preserve(desk, id, plan, cluster).await?;
    let intent = format!("{} (digest {})", plan.action, plan.digest.short());
    let deadline = desk.clock.event_now() + Duration::from_secs(desk.config.investigation.verify_seconds);
    let claimed = desk
        .change(id, |change| {
            change.record(IncidentEvent::ExecutionStarted { plan: plan.id.clone(), intent: intent.clone() })?;
            change.batch.executions.push(ExecutionRow {
                plan: plan.id.to_string(),
                incident: id.to_string(),
                stage: "claimed".into(),
                digest: plan.digest.to_string(),
                before: dry_run.before.to_string(),
                result: None,
                deadline,
                claim: Claim::First,
                pauses: pauses.clone(),
            });
            tell_plan(change, plan);
            Ok(())
        })
        .await;
    match claimed {
        Ok(_) => {}
        Err(FlowError::Store(StoreError::Stale(what))) if what.contains("paused") => {
            return void(desk, id, plan, "midwatch was paused in the same moment").await;
        }
        Err(failure) => return Err(failure),
    }
    info!(incident = %id, plan = %plan.id, action = %plan.action, "execution starts");
    Counters::add(&desk.counters.executions, 1);
    write(desk, id, plan, cluster, &dry_run).await
}

async fn write(
    desk: &Desk,
    id: &IncidentId,
    plan: &Plan,
    cluster: &dyn Cluster,
    dry_run: &DryRun,
) -> Result<(), FlowError> {
    let approved = |now: &DryRun| is_as_approved(desk, plan, now);
    match contested::apply(cluster, &plan.action, &dry_run.resource_version, approved).await {
        Ok(applied) => wrote(desk, id, plan, &format!("generation {}", applied.generation)).await,
        Err(ClusterError::Unknown(why)) => {
            // The next round reads the cluster (`recover`).
            warn!(incident = %id, plan = %plan.id, why, "the result of the write is unknown");
            Ok(())
        }
        Err(error) => fail(desk, id, &plan.id, &error.to_string()).await,
    }
}

fn is_as_approved(desk: &Desk, plan: &Plan, now: &DryRun) -> bool {
    let digest = plan::digest(&plan.action, &now.before, &now.after, &plan.undo, &desk.policy.version());
    digest == plan.digest && now.uid == plan.action.target().uid
}

/// Claimed before, answer never seen: the cluster knows whether the write took effect.
async fn recover(
    desk: &Desk,
    incident: &Incident,
    record: &PlanRecord,
    cluster: &dyn Cluster,
) -> Result<(), FlowError> {
    let plan = &record.plan;
    match cluster.dry_run(&plan.action).await {
        // The object already is what the action makes of it.
        Ok(now) if now.before == now.after => {
            wrote(desk, &incident.id, plan, "found in the cluster after an unknown answer").await
        }
        Ok(_) => match &plan.action {
            // A restart leaves a mark that a second dry run would only renew.
            Action::Restart { .. } => {
                fail(desk, &incident.id, &plan.id, "whether the restart was written is not known; it is not repeated")
                    .await
            }
            Action::Scale { .. } | Action::RollBack { .. } => {
                fail(desk, &incident.id, &plan.id, "the write did not take effect and is not repeated").await
            }
        },
        Err(ClusterError::Unavailable(_) | ClusterError::Unknown(_)) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
        // A revision that is gone because going back renumbered it: the write took effect.
        Err(ClusterError::NotFound(what)) if what.contains("revision") => {
            wrote(desk, &incident.id, plan, "the revision became the current one").await
        }
        Err(error) => fail(desk, &incident.id, &plan.id, &error.to_string()).await,
    }
}

async fn wrote(desk: &Desk, id: &IncidentId, plan: &Plan, result: &str) -> Result<(), FlowError> {
    desk.change(id, |change| {
        change.record(IncidentEvent::ExecutionWrote { plan: plan.id.clone(), result: result.to_owned() })?;
        tell_plan(change, plan);
        Ok(())
    })
    .await?;
    Ok(())
}

/// What a restart would wipe is kept before anything is written (S18).
async fn preserve(desk: &Desk, id: &IncidentId, plan: &Plan, cluster: &dyn Cluster) -> Result<(), FlowError> {
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let mut dossier = Dossier::new(&incident);
    let event_now = desk.clock.event_now();
    let target = plan.action.target();
    let pods = cluster.pods(Some(&target.namespace)).await.unwrap_or_default();
    let mut body = String::new();
    for pod in pods.iter().filter(|pod| pod.name.starts_with(&target.name)).take(3) {
        for which in [PodLogs::Current, PodLogs::Previous] {
            if which == PodLogs::Previous && pod.restarts == 0 {
                continue;
            }
            if let Ok(logs) = cluster.pod_logs(&target.namespace, &pod.name, which, 200).await {
                body.push_str(&format!("== {} {which:?}\n{logs}\n", pod.name));
            }
        }
    }
    if let Ok(events) = cluster.events(Some(&target.namespace)).await {
        let about = events.iter().filter(|event| event.object.starts_with(&target.name)).take(40);
        body.push_str("== events\n");
        for event in about {
            body.push_str(&format!("{} {} {}: {}\n", event.last_at, event.reason, event.object, event.message));
        }
    }
    let exhibit = Exhibit {
        kind: EvidenceKind::Kubernetes,
        source: "kubernetes",
        query: "logs and events before the action",
        summary: format!("logs and events of {target}, kept before {}", plan.action.verb().replace('_', " ")),
        body,
        series: vec![],
        taint: Taint::UserWritable,
    };
    dossier.add(exhibit, event_now);
    desk.change(id, |change| {
        for evidence in &dossier.evidence {
            change.record(IncidentEvent::EvidenceStored {
                evidence: evidence.id.clone(),
                digest: evidence.digest.clone(),
                summary: evidence.summary.clone(),
            })?;
            change.batch.evidence.push(evidence.clone());
        }
        Ok(())
    })
    .await?;
    Ok(())
}

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// One good look can be luck; three in a row are a recovery.
const GOOD_LOOKS: usize = 3;

/// Looks at the estate's own telemetry until it is well or the deadline has passed.
async fn verify(desk: &Desk, id: &IncidentId, record: &PlanRecord, cluster: &dyn Cluster) -> Result<(), FlowError> {
    let plan = &record.plan;
    let deadline = desk.store.execution(plan.id.as_str()).await?.map_or_else(
        || desk.clock.event_now() + Duration::from_secs(desk.config.investigation.verify_seconds),
        |(_, _, _, deadline, _)| crate::domain::time::Timestamp::from_millis(deadline),
    );
    let mut good = 0;
    loop {
        if desk.stopping() {
            return Ok(());
        }
        let (facts, well) = look(desk, id, plan, cluster).await?;
        good = if well { good + 1 } else { 0 };
        if good >= GOOD_LOOKS {
            return verified(desk, id, plan, facts).await;
        }
        if desk.clock.event_now() >= deadline {
            return not_verified(desk, id, plan, facts).await;
        }
        desk.clock.sleep_event(LOOK_EVERY).await;
    }
}

async fn look(
    desk: &Desk,
    id: &IncidentId,
    plan: &Plan,
    cluster: &dyn Cluster,
) -> Result<(Vec<String>, bool), FlowError> {
    let mut facts = vec![];
    let mut well = true;
    let target = plan.action.target();
    match cluster.workloads().await {
        Ok(workloads) => match workloads.iter().find(|workload| workload.uid == target.uid) {
            Some(workload) => {
                let done = workload.rolled_out && workload.ready >= workload.replicas;
                well &= done;
                facts.push(format!(
                    "rollout of {} {}: {} of {} replicas ready",
                    workload.name,
                    if done { "complete" } else { "not complete" },
                    workload.ready,
                    workload.replicas
                ));
            }
            None => {
                well = false;
                facts.push(format!("{target} is gone"));
            }
        },
        Err(error) => {
            well = false;
            facts.push(error.to_string());
        }
    }
    if let Some(signals) = &desk.signals {
        for check in &plan.checks {
            match signals.instant(&check.query, desk.clock.event_now()).await {
                Ok(series) => {
                    let value = series
                        .iter()
                        .find(|one| one.label(&check.label) == Some(check.service.as_str()))
                        .and_then(|one| one.last());
                    // Silence is no proof: what has no samples is not verified.
                    let passes = value.is_some_and(|value| check.passes(value));
                    well &= passes;
                    facts.push(format!(
                        "{} {} {} (wanted at most {}){}",
                        check.service,
                        check.signal.replace('_', " "),
                        value.map_or_else(|| "has no samples".into(), |value| amount(value, &check.unit)),
                        amount(check.bound, &check.unit),
                        if passes { "" } else { ", not yet" }
                    ));
                }
                Err(error) => {
                    well = false;
                    facts.push(format!("{} {}: {error}", check.service, check.signal));
                }
            }
        }
    }
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let critical: usize = incident
        .alerts
        .values()
        .filter(|group| group.severity == Severity::Critical)
        .map(|group| group.count - group.resolved)
        .sum();
    if critical > 0 && plan.checks.is_empty() {
        // Without signals to look at, the alerts themselves are the measure.
        well = false;
    }
    facts.push(format!("{critical} critical alerts still firing"));
    Ok((facts, well))
}

async fn verified(desk: &Desk, id: &IncidentId, plan: &Plan, facts: Vec<String>) -> Result<(), FlowError> {
    let event_now = desk.clock.event_now();
    desk.change(id, |change| {
        change.record(IncidentEvent::VerificationPassed { plan: plan.id.clone(), facts: facts.clone() })?;
        let because = format!("{} helped; verified from telemetry", plan.action);
        change.record(IncidentEvent::Resolved { because: because.clone(), event_at: event_now })?;
        tell_plan(change, plan);
        change.tell(
            &format!("note/{}/verified", plan.id),
            &Effect::Note { card: narrative::note(&format!("Resolved: {because}."), Tone::Good) },
        );
        Ok(())
    })
    .await?;
    info!(incident = %id, plan = %plan.id, "verified and resolved");
    Ok(())
}

async fn not_verified(desk: &Desk, id: &IncidentId, plan: &Plan, facts: Vec<String>) -> Result<(), FlowError> {
    desk.change(id, |change| {
        change.record(IncidentEvent::VerificationFailed { plan: plan.id.clone(), facts: facts.clone() })?;
        tell_plan(change, plan);
        Ok(())
    })
    .await?;
    warn!(incident = %id, plan = %plan.id, "the remediation did not show its effect in time");
    Ok(())
}

/// Puts things back once, then people take over.
async fn compensate(desk: &Desk, id: &IncidentId, record: &PlanRecord, cluster: &dyn Cluster) -> Result<(), FlowError> {
    let plan = &record.plan;
    let key = format!("{}-undo", plan.id);
    let result = match &plan.undo {
        Undo::None(why) => format!("no undo: {why}"),
        Undo::By(action) if desk.paused_by(&pause::names_for(action, None)).await.is_some() => {
            "not undone: midwatch is paused".to_owned()
        }
        Undo::By(_) if desk.store.execution(&key).await?.is_some() => {
            "the undo was begun before and is not repeated; check the target".to_owned()
        }
        Undo::By(action) => {
            let claim = ExecutionRow {
                plan: key,
                incident: id.to_string(),
                stage: "claimed".into(),
                digest: plan.digest.to_string(),
                before: "null".into(),
                result: None,
                deadline: desk.clock.event_now(),
                claim: Claim::First,
                pauses: pause::names_for(action, None),
            };
            let batch = crate::store::Batch { executions: vec![claim], ..Default::default() };
            desk.store.commit(batch, desk.clock.wall_now()).await?;
            undo(cluster, action).await
        }
    };
    desk.change(id, |change| {
        change.record(IncidentEvent::Compensated { plan: plan.id.clone(), result: result.clone() })?;
        change.record(IncidentEvent::HandedOver { because: format!("{} did not help; {result}", plan.action) })?;
        tell_plan(change, plan);
        let text = format!("{} did not help; {result}. A person must take over.", plan.action);
        change.tell(&format!("note/{}/undone", plan.id), &Effect::Note { card: narrative::note(&text, Tone::Alarm) });
        Ok(())
    })
    .await?;
    Ok(())
}

async fn undo(cluster: &dyn Cluster, action: &Action) -> String {
    let action = match action {
        Action::RollBack { target, .. } => match restorable(cluster, action).await {
            Some(action) => action,
            None => return format!("could not be undone: the earlier revision of {target} is not found any more"),
        },
        Action::Restart { .. } | Action::Scale { .. } => action.clone(),
    };
    match cluster.dry_run(&action).await {
        Ok(now) => match cluster.apply(&action, &now.resource_version).await {
            Ok(_) => "undone".into(),
            Err(error) => format!("the undo failed: {error}"),
        },
        Err(error) => format!("the undo failed: {error}"),
    }
}

/// The controller renumbers a revision that it goes back to; the one that was current before the
/// rollback is now the newest but one.
async fn restorable(cluster: &dyn Cluster, action: &Action) -> Option<Action> {
    let Action::RollBack { target, to_revision, .. } = action else { return None };
    let revisions = cluster.revisions(&target.namespace, &target.name).await.ok()?;
    let current = revisions.last()?.number;
    let wanted = revisions.iter().find(|revision| revision.number == *to_revision)?.number;
    Some(Action::RollBack { target: target.clone(), from_revision: current, to_revision: wanted })
}

async fn fail(desk: &Desk, id: &IncidentId, plan: &PlanId, because: &str) -> Result<(), FlowError> {
    hand_over(
        desk,
        id,
        plan,
        IncidentEvent::ExecutionFailed { plan: plan.clone(), because: because.to_owned() },
        because,
    )
    .await
}

async fn void(desk: &Desk, id: &IncidentId, plan: &Plan, because: &str) -> Result<(), FlowError> {
    let event = IncidentEvent::PlanVoided { plan: plan.id.clone(), because: because.to_owned() };
    hand_over(desk, id, &plan.id, event, because).await
}

async fn hand_over(
    desk: &Desk,
    id: &IncidentId,
    plan: &PlanId,
    event: IncidentEvent,
    because: &str,
) -> Result<(), FlowError> {
    warn!(incident = %id, %plan, because, "the plan is not carried out");
    desk.change(id, |change| {
        change.record(event.clone())?;
        change.record(IncidentEvent::HandedOver { because: because.to_owned() })?;
        change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
        change.tell("root", &Effect::Root);
        let text = format!("Not carried out: {because}. A person must take over.");
        change.tell(&format!("note/{plan}/failed"), &Effect::Note { card: narrative::note(&text, Tone::Alarm) });
        Ok(())
    })
    .await?;
    Ok(())
}

fn tell_plan(change: &mut Decision<'_>, plan: &Plan) {
    change.tell(&format!("plan/{}", plan.id), &Effect::Approval { plan: plan.id.clone() });
    change.tell("root", &Effect::Root);
}
