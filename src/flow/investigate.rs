//! Open incident -> evidence, ranking, diagnosis, and a plan if a typed action can help.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, error, info, info_span, warn};

use super::deliver::Effect;
use super::desk::{Decision, Desk, FlowError};
use super::draft::{Wanted, draft};
use super::escalate::{self, Called};
use super::live::{say, waited};
use super::observe::{self, Dossier};
use super::regroup::ASKED;
use super::{back, reach, reason, remember};
use crate::domain::action::{Action, ActionKind};
use crate::domain::diagnosis::{Diagnosis, Remedy, Verdict};
use crate::domain::evidence::Evidence;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, Outcome, State};
use crate::domain::judge::proofs;
use crate::domain::plan::{self, Direction, Plan, SuccessCheck};
use crate::domain::policy::Ruling;
use crate::domain::root_cause::{Picture, SignalClass, Worse, conclude, focus, rank};
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, Drawing, Wish, Workload};

/// Candidates for the next look; more are read when these are done.
const LOOKED_AT: i64 = 256;

/// Incidents are looked at one after the other, the most severe first: their evidence must not
/// race for the same backends.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut first_seen: HashMap<IncidentId, Timestamp> = HashMap::new();
    let mut failed: HashMap<IncidentId, (u32, Instant)> = HashMap::new();
    while !desk.stopping() {
        let event_now = desk.clock.event_now();
        let open = desk.store.to_investigate(LOOKED_AT).await?;
        first_seen.retain(|id, _| open.iter().any(|(open, _)| open == id));
        failed.retain(|id, _| open.iter().any(|(open, _)| open == id));
        let settle = Duration::from_secs(desk.config.investigation.settle_seconds);
        let due = open.into_iter().find(|(id, state)| {
            // The others are not kept from being looked at by one that cannot be.
            if failed.get(id).is_some_and(|(times, at)| at.elapsed() < rest_after(*times)) {
                return false;
            }
            let seen = *first_seen.entry(id.clone()).or_insert(event_now);
            // Interrupted investigations need no second settling; nor does what was diagnosed when the
            // process ended, before anything was proposed.
            state != State::Open.word() || event_now.since(seen) >= settle
        });
        match due {
            Some((incident, _)) => {
                let span = info_span!(
                    "invoke_agent",
                    otel.name = "invoke_agent midwatch",
                    gen_ai.operation.name = "invoke_agent",
                    gen_ai.agent.name = "midwatch",
                    gen_ai.conversation.id = %incident,
                );
                if let Err(failure) = investigate(&desk, &incident).instrument(span).await {
                    let (times, at) = failed.entry(incident.clone()).or_insert((0, Instant::now()));
                    (*times, *at) = (*times + 1, Instant::now());
                    let rest = rest_after(*times).as_secs();
                    error!(%incident, error = %failure, times, rest, "the investigation stopped and is tried again");
                    if *times >= TRIES {
                        give_up(&desk, &incident, &failure).await;
                    }
                }
            }
            None => desk.wait(&desk.bells.incidents, Duration::from_millis(100)).await,
        }
    }
    Ok(())
}

/// So many times in a row, and people take over.
const TRIES: u32 = 6;
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Each try reads the estate and keeps what it saw: the next ones come at growing distances.
fn rest_after(times: u32) -> Duration {
    Duration::from_secs(1 << times.min(9)).min(LONGEST_REST)
}

/// Whom a note about what the watch cannot do itself is for.
async fn asked(desk: &Desk, id: &IncidentId) -> Vec<Called> {
    match desk.store.incident(id).await {
        Ok(Some(incident)) => escalate::who_is_asked(desk, &incident).await,
        Ok(None) | Err(_) => vec![],
    }
}

/// A message of its own each time: an edit of the first one would stand far up, and wake nobody.
fn tell_handed_over(change: &mut Decision<'_>, who: &[Called], text: &str) {
    let incident = change.incident();
    let who: &[Called] = if incident.state.is_over() { &[] } else { who };
    let key = format!("note/handed-over/{}", incident.version);
    change.tell(&key, &Effect::Note { card: escalate::note_to(who, text) });
}

async fn give_up(desk: &Desk, id: &IncidentId, failure: &FlowError) {
    let who = asked(desk, id).await;
    let because = format!("it could not be investigated, {TRIES} times in a row: {failure}");
    let told = desk
        .change(id, |change| {
            change.record(IncidentEvent::HandedOver { because: because.clone() })?;
            change.batch.settings.push(reason::spent(id));
            change.tell("root", &Effect::Root);
            tell_handed_over(change, &who, &format!("This needs a person: {because}."));
            Ok(())
        })
        .await;
    if let Err(failure) = told {
        error!(incident = %id, error = %failure, "nor can it be handed over");
    }
}

pub async fn investigate(desk: &Desk, id: &IncidentId) -> Result<(), FlowError> {
    let started = Instant::now();
    let reasoner = desk.reasoner_name();
    let (incident, ()) = desk
        .change(id, |change| {
            if matches!(change.incident().state, State::Open | State::HandedOver { .. } | State::Diagnosed) {
                let because = "the storm has settled enough to be looked at".to_owned();
                change.record(IncidentEvent::InvestigationStarted { reasoner: reasoner.clone(), because })?;
                change.tell("root", &Effect::Root);
            }
            Ok(())
        })
        .await?;
    let mut dossier = Dossier::new(&incident);
    let (picture, waited) = waited(observe::picture(desk, &incident, &mut dossier)).await;
    say("Ranking what could be the cause.");
    let ranking = focus(&picture, rank(&picture));
    say("Looking for runbooks and similar incidents.");
    let lead = ranking.first().map(|candidate| candidate.node.clone());
    let recalled = remember::recall(desk, &incident, lead.as_deref()).await;
    let (past, runbooks) = recalled.unwrap_or_default();
    remember_evidence(&past, &runbooks, &mut dossier, desk.clock.event_now());
    let evidence = std::mem::take(&mut dossier.evidence);
    let (incident, ()) = desk
        .change(id, |change| {
            keep(change, &evidence)?;
            if !past.is_empty() || !runbooks.is_empty() {
                let titles = distinct(runbooks.iter().map(|one| one.chunk.title.clone()));
                change.record(IncidentEvent::Recalled { past: past.clone(), runbooks: titles })?;
            }
            change.record(IncidentEvent::Ranked { candidates: ranking.iter().take(8).cloned().collect() })?;
            change.tell("root", &Effect::Root);
            Ok(())
        })
        .await?;
    if incident.state.is_over() {
        return Ok(());
    }
    let baseline = conclude(&picture, &ranking);
    let mut diagnosis = match &desk.model {
        None => baseline,
        Some(model) => reason::with_model(desk, model, &incident, &picture, &ranking, &runbooks, baseline).await?,
    };
    diagnosis.proofs = proofs(&diagnosis.claims, &desk.store.evidence_of(id).await?);
    info!(
        service = diagnosis.service.as_deref().unwrap_or("not known"),
        change = diagnosis.change.as_deref().unwrap_or("none"),
        verdict = diagnosis.verdict.word(),
        confidence = diagnosis.confidence,
        ms = started.elapsed().as_millis() as u64,
        // Of these, for the answers of the estate: what is slow may be theirs.
        waited_ms = waited.as_millis() as u64,
        "diagnosed"
    );
    let (incident, ()) = desk
        .change(id, |change| {
            // A person has closed it while it was looked at.
            if change.incident().state.is_over() {
                return Ok(());
            }
            change.record(IncidentEvent::Diagnosed { diagnosis: diagnosis.clone() })?;
            change.batch.settings.push(reason::spent(id));
            let key = change.incident().diagnosis_key();
            change.tell(&key, &Effect::Diagnosis);
            for (name, what) in [("signals", Drawing::Signals), ("topology", Drawing::Topology)] {
                change.tell(&format!("picture/{name}/v{}", change.incident().version), &Effect::Picture { what });
            }
            change.tell("root", &Effect::Root);
            Ok(())
        })
        .await?;
    if incident.state.is_over() || super::regroup::join_same_cause(desk, &incident, &diagnosis).await? {
        return Ok(());
    }
    propose(desk, id, &picture, &diagnosis).await
}

fn distinct(titles: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    titles.filter(|title| seen.insert(title.clone())).collect()
}

pub fn keep(change: &mut super::desk::Decision<'_>, evidence: &[Evidence]) -> Result<(), FlowError> {
    for one in evidence {
        change.record(IncidentEvent::EvidenceStored {
            evidence: one.id.clone(),
            digest: one.digest.clone(),
            summary: one.summary.clone(),
        })?;
        change.batch.evidence.push(one.clone());
    }
    Ok(())
}

fn remember_evidence(
    past: &[crate::domain::incident::PastIncident],
    runbooks: &[crate::memory::Recalled],
    dossier: &mut Dossier,
    event_now: Timestamp,
) {
    use crate::domain::evidence::{EvidenceKind, Taint};
    let mut add = |kind, query: &str, summary: String, body: String| {
        dossier.add(
            observe::Exhibit {
                kind,
                source: "memory",
                query,
                summary,
                body,
                series: vec![],
                taint: Taint::UserWritable,
            },
            event_now,
        );
    };
    if let Some(first) = runbooks.first() {
        let body = runbooks
            .iter()
            .map(|one| format!("# {} / {}\n{}", one.chunk.title, one.chunk.heading, one.chunk.text))
            .collect::<Vec<_>>();
        add(
            EvidenceKind::Runbook,
            "runbooks for these symptoms",
            format!("runbook: {}", first.chunk.title),
            body.join("\n\n"),
        );
    }
    if let Some(first) = past.first() {
        let body =
            past.iter().map(|one| format!("{}: {} ({})", one.incident, one.title, one.because)).collect::<Vec<_>>();
        add(
            EvidenceKind::PastIncident,
            "past incidents with these symptoms",
            format!("{} looked like this: {}", first.incident, first.title),
            body.join("\n"),
        );
    }
}

/// Makes the remedy concrete, dry-runs it, and asks; or hands over and says why.
async fn propose(desk: &Desk, id: &IncidentId, picture: &Picture, diagnosis: &Diagnosis) -> Result<(), FlowError> {
    let refused = match &diagnosis.remedy {
        Remedy::HandOver { why } => why.clone(),
        Remedy::RollBack { service } | Remedy::Restart { service } | Remedy::ScaleUp { service } => {
            if diagnosis.verdict == Verdict::Inconclusive {
                "the cause is not known well enough to act on it".to_owned()
            } else {
                match concrete(desk, id, picture, diagnosis, service).await {
                    Ok((plan, ruling)) => return ask(desk, id, plan, ruling).await,
                    Err(why) => why,
                }
            }
        }
    };
    let event_now = desk.clock.event_now();
    let who = asked(desk, id).await;
    desk.change(id, |change| {
        // It is over, or somebody has asked for a plan meanwhile, which goes its own way.
        if !matches!(change.incident().state, State::Diagnosed) {
            return Ok(());
        }
        change.record(IncidentEvent::PlanRefused { because: refused.clone() })?;
        change.record(IncidentEvent::HandedOver { because: refused.clone() })?;
        if change.incident().firing() == 0 {
            let because = match change.incident().alerts.values().all(|group| group.name == ASKED) {
                true => "it was asked for, and is answered; nothing has alerted".to_owned(),
                false => "all its alerts had ended before anybody had to act".to_owned(),
            };
            change.record(IncidentEvent::Resolved { because, event_at: event_now, by: None })?;
        }
        change.tell("root", &Effect::Root);
        tell_handed_over(change, &who, &format!("No action is proposed: {refused}. This needs a person."));
        Ok(())
    })
    .await?;
    info!(incident = %id, because = refused, "handed to people");
    Ok(())
}

async fn concrete(
    desk: &Desk,
    id: &IncidentId,
    picture: &Picture,
    diagnosis: &Diagnosis,
    service: &str,
) -> Result<(Plan, Ruling), String> {
    let cluster = desk.cluster.as_ref().ok_or("no cluster is configured (key: kubernetes)")?;
    let incident = desk
        .store
        .incident(id)
        .await
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("{id} does not exist"))?;
    if let Some(why) = reach::beyond(desk, &incident) {
        return Err(why);
    }
    let workload = workload_of(cluster.as_ref(), &incident, service).await?;
    let action = action_for(cluster.as_ref(), &incident, picture, diagnosis, &workload).await?;
    back::must_not_return(desk, &incident, &action).await?;
    // Nobody is asked twice for what they said no to; what was rejected may be right after another look,
    // but then a person does it.
    let rejected =
        incident.plans.iter().find(|record| record.outcome == Outcome::Rejected && record.plan.action == action);
    if let Some(record) = rejected {
        let (by, why) = record.rejected_by.clone().unwrap_or_default();
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        return Err(format!("{action} is what I would propose again, and {by} rejected it{why}"));
    }
    let mut evidence: Vec<_> = diagnosis.claims.iter().flat_map(|claim| claim.evidence.clone()).collect();
    evidence.sort();
    evidence.dedup();
    let wanted = Wanted {
        incident: &incident,
        service,
        action,
        because: diagnosis.mechanism.clone(),
        checks: checks(desk, picture, service),
        evidence,
        requester: None,
    };
    draft(desk, &picture.topology, wanted).await
}

async fn workload_of(cluster: &dyn Cluster, incident: &Incident, service: &str) -> Result<Workload, String> {
    let workloads = cluster.workloads().await.map_err(|error| error.to_string())?;
    the_one(workloads, service, &incident.namespaces_of(service))
}

/// What bears the same name in another namespace than the alerts name, such as in staging, is something else.
fn the_one(workloads: Vec<Workload>, service: &str, named: &BTreeSet<&str>) -> Result<Workload, String> {
    let of_name = workloads.into_iter().filter(|workload| workload.service == service || workload.name == service);
    let is_here = |workload: &Workload| named.is_empty() || named.contains(workload.namespace.as_str());
    let (mut here, elsewhere): (Vec<_>, Vec<_>) = of_name.partition(is_here);
    // An agent or a job of a product bears the product's name in its labels only.
    if here.iter().filter(|workload| workload.name == service).count() == 1 {
        here.retain(|workload| workload.name == service);
    }
    let mut here = here.into_iter();
    match (here.next(), here.next()) {
        (Some(workload), None) => Ok(workload),
        (None, _) => Err(match elsewhere.first() {
            Some(other) => format!(
                "the alerts name the namespace {}, where {service} is no Deployment, StatefulSet or DaemonSet; {}/{} lies elsewhere",
                named.iter().copied().collect::<Vec<_>>().join(" or "),
                other.namespace,
                other.name
            ),
            None => format!("{service} is not a workload of this cluster"),
        }),
        (Some(one), Some(other)) if (&one.namespace, &one.name) == (&other.namespace, &other.name) => Err(format!(
            "{service} is not unique: {}/{} is a {} and a {}",
            one.namespace, one.name, one.kind, other.kind
        )),
        (Some(one), Some(other)) => Err(format!(
            "{service} is not unique: {}/{} and {}/{}",
            one.namespace, one.name, other.namespace, other.name
        )),
    }
}

async fn action_for(
    cluster: &dyn Cluster,
    incident: &Incident,
    picture: &Picture,
    diagnosis: &Diagnosis,
    workload: &Workload,
) -> Result<Action, String> {
    let target = plan::target(&incident.cluster, &workload.namespace, &workload.kind, &workload.name, &workload.uid);
    match &diagnosis.remedy {
        Remedy::Restart { .. } => Ok(Action::Restart { target }),
        Remedy::ScaleUp { .. } if workload.kind == "DaemonSet" => {
            Err(format!("{target} is short of capacity, and it has one pod on each node: there is no number to raise"))
        }
        Remedy::ScaleUp { service } => {
            let ratio = picture
                .signal(service, "requests")
                .filter(|load| load.baseline.median > 0.0)
                .map_or(1.5, |load| load.worst / load.baseline.median);
            let to = plan::scaled_replicas(workload.replicas, ratio);
            let action = Action::Scale { target, from: workload.replicas, to };
            // Where an autoscaler owns the number, its bounds are what can be moved.
            let around = cluster.surroundings(&action).await.map_err(|error| error.to_string())?;
            if around.autoscaler.is_none() && !around.unknown.is_empty() {
                let unknown = around.unknown.join("; ");
                return Err(format!(
                    "whether an autoscaler owns {target} cannot be told: {unknown}",
                    target = action.target()
                ));
            }
            match around.autoscaler {
                None => Ok(action),
                Some(scaler) => {
                    let wish = Wish {
                        action: ActionKind::SetBounds,
                        cluster: incident.cluster.clone(),
                        namespace: workload.namespace.clone(),
                        kind: String::new(),
                        name: scaler.name,
                        to: Some(format!(
                            "{}..{}",
                            scaler.bounds.min.max(to.min(scaler.bounds.max)),
                            scaler.bounds.max.max(to)
                        )),
                        data: None,
                        declared: None,
                    };
                    cluster.prepare(&wish).await.map_err(|error| error.to_string())
                }
            }
        }
        Remedy::RollBack { .. } if !matches!(workload.kind.as_str(), "Deployment" | "DaemonSet") => Err(format!(
            "{target} would have to go back, and no action of mine rolls a {} back: its controller waits for pods \
             that never get ready",
            workload.kind
        )),
        Remedy::RollBack { .. } => {
            let change = picture
                .changes
                .iter()
                .find(|change| Some(&change.id) == diagnosis.change.as_ref())
                .ok_or("the change to roll back is not in the rollout history")?;
            let revisions = cluster.revisions(&workload.kind, &workload.namespace, &workload.name).await;
            let revisions = revisions.map_err(|error| error.to_string())?;
            let to = change.from_revision.ok_or("there is no earlier revision")?;
            if !revisions.iter().any(|revision| revision.number == to) {
                return Err(format!("revision {to} of {} is not kept any more", workload.name));
            }
            Ok(Action::RollBack { target, from_revision: change.to_revision, to_revision: to })
        }
        Remedy::HandOver { why } => Err(why.clone()),
    }
}

const MAX_CHECKS: usize = 6;

/// What must be back in its band: what users suffer first, then what the cause itself shows.
fn checks(desk: &Desk, picture: &Picture, service: &str) -> Vec<SuccessCheck> {
    let Some(config) = &desk.config.signals else { return vec![] };
    let mut odd: Vec<_> = picture
        .readings
        .iter()
        .filter(|reading| reading.deviation >= 2.0)
        .filter(|reading| match reading.class {
            SignalClass::Symptom => true,
            SignalClass::Resource => reading.node == service,
            SignalClass::Health | SignalClass::Load | SignalClass::Outward => false,
        })
        .collect();
    odd.sort_by(|one, other| {
        let own = |reading: &&crate::domain::root_cause::Reading| reading.node != service;
        own(one).cmp(&own(other)).then(other.deviation.total_cmp(&one.deviation))
    });
    odd.iter()
        .filter_map(|reading| {
            let query = config.query.iter().find(|query| query.name == reading.signal)?;
            let scale =
                reading.baseline.spread.max((reading.baseline.high - reading.baseline.low) / 4.0).max(query.floor);
            let (bound, direction) = match query.worse {
                Worse::Higher => (reading.baseline.high + scale, Direction::AtMost),
                Worse::Lower => (reading.baseline.low - scale, Direction::AtLeast),
            };
            Some(SuccessCheck {
                service: reading.node.clone(),
                signal: reading.signal.clone(),
                query: query.promql.clone(),
                label: query.label.clone(),
                bound,
                direction,
                unit: query.unit.clone(),
            })
        })
        .take(MAX_CHECKS)
        .collect()
}

async fn ask(desk: &Desk, id: &IncidentId, plan: Plan, ruling: Ruling) -> Result<(), FlowError> {
    let words = ruling.because().to_owned();
    let unattended = matches!(ruling, Ruling::Unattended { .. });
    if unattended && let Some(why) = desk.paused().await {
        warn!(incident = %id, why, "paused: the plan waits for people");
    }
    let who = if unattended { vec![] } else { asked(desk, id).await };
    desk.change(id, |change| {
        if change.incident().state.is_over() {
            return Ok(());
        }
        change.record(IncidentEvent::PlanProposed { plan: Box::new(plan.clone()), ruling: words.clone() })?;
        if unattended {
            change.record(IncidentEvent::PlanApproved {
                plan: plan.id.clone(),
                by: vec!["policy".into()],
                digest: plan.digest.clone(),
            })?;
        }
        change.tell(&format!("plan/{}", plan.id), &Effect::Approval { plan: plan.id.clone() });
        change.tell("root", &Effect::Root);
        escalate::ask_for_decision(change, &plan, &who);
        Ok(())
    })
    .await?;
    info!(incident = %id, plan = %plan.id, action = %plan.action, tier = %plan.tier, ruling = words, "plan proposed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bears_the_name_in_another_namespace_is_not_touched() {
        let workloads = |namespaces: &[&str]| -> Vec<Workload> {
            let of = |namespace: &&str| Workload::running("Deployment", namespace, "web");
            namespaces.iter().map(of).collect()
        };
        let found = |there: &[&str], named: &[&str]| {
            the_one(workloads(there), "web", &named.iter().copied().collect()).map(|workload| workload.namespace)
        };
        assert_eq!(found(&["prod"], &["prod"]), Ok("prod".to_owned()));
        // In production it is a Rollout, which is not among the workloads.
        let refused = found(&["staging"], &["prod"]).unwrap_err();
        assert_eq!(
            refused,
            "the alerts name the namespace prod, where web is no Deployment, StatefulSet or DaemonSet; staging/web lies elsewhere"
        );
        assert_eq!(found(&["prod", "staging"], &["prod", "monitoring"]), Ok("prod".to_owned()));
        assert_eq!(found(&["staging"], &[]), Ok("staging".to_owned()), "the alerts name none");
        assert_eq!(found(&["prod", "staging"], &[]).unwrap_err(), "web is not unique: prod/web and staging/web");
        assert_eq!(found(&[], &["prod"]).unwrap_err(), "web is not a workload of this cluster");
        let of_two_kinds = ["Deployment", "DaemonSet"].map(|kind| Workload::running(kind, "prod", "web"));
        let refused = the_one(of_two_kinds.into(), "web", &BTreeSet::new()).unwrap_err();
        assert_eq!(refused, "web is not unique: prod/web is a Deployment and a DaemonSet");
        // The agent of a product has its name in a label.
        let agent = Workload { service: "web".into(), ..Workload::running("DaemonSet", "prod", "node-agent") };
        let found = the_one(vec![agent, Workload::running("Deployment", "prod", "web")], "web", &BTreeSet::new());
        assert_eq!(found.unwrap().name, "web");
    }
}
