//! Approved plans: check again, preserve evidence, claim, write once, verify, undo if it did not help.
//!
//! Invariant (P5): a plan is claimed by a primary key before the write. After a crash between claim
//! and answer the cluster is read; nothing is written blindly a second time.

mod contested;
mod ends;
mod facts;
mod hands;
mod needed;
mod preserve;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use contested::{NotNow, Permission};
use ends::{fail, left_after, not_needed, void};
use facts::neighbour_works;
pub(super) use facts::{About, facts};
use hands::is_gone;
pub(super) use hands::{Hands, patiently};
use needed::{Need, need};
use preserve::preserve;
use verify::{Watched, compensate, verify};

use super::assess::close_when_over;
use super::command::pause;
use super::deliver::Effect;
use super::desk::{Counters, Decision, Desk, FlowError};
use super::{draft, escalate};
use crate::domain::action::{Action, Target};
use crate::domain::id::{IncidentId, PersonId, PlanId};
use crate::domain::incident::{Incident, IncidentEvent, Left, Outcome, PlanRecord};
use crate::domain::plan::{self, Plan};
use crate::domain::policy::{Ruling, Sought, Stage};
use crate::domain::time::Timestamp;
use crate::ports::{ClusterError, DryRun, Took, crash};
use crate::store::{Claim, ExecutionRow, StoreError};

/// Drives every plan that is approved or was interrupted, one step after the other. While one waits for
/// its effect another may begin, unless the two are connected (S14).
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut watched = Watched::default();
    while !desk.stopping() {
        let due = due(&desk).await?;
        watched.forget_all_but(&due);
        let mut wait = true;
        for (incident, plan) in due {
            match drive(&desk, &incident, &plan, &mut watched).await {
                Ok(Step::Waits) => {}
                Ok(Step::Taken) => wait = false,
                Err(failure) => {
                    error!(%incident, %plan, error = %failure, "execution step failed");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
        }
        if wait {
            let next = watched.next(desk.clock.steady_now());
            tokio::select! {
                () = desk.clock.sleep_event(next.unwrap_or(LONGEST_REST)) => {}
                () = desk.wait(&desk.bells.execution, Duration::from_millis(500)) => {}
            }
        }
    }
    Ok(())
}

/// Of the driver, when nothing is under way; the bell wakes it earlier.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Whether there is more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Taken,
    Waits,
}

async fn due(desk: &Desk) -> Result<Vec<(IncidentId, PlanId)>, FlowError> {
    let incidents = desk.store.incidents_in(["executing", "verifying"]).await?;
    let due = incidents.into_iter().filter_map(|incident| {
        let plan = incident.state.plan_under_way()?;
        let is_open = matches!(
            incident.plan(plan)?.outcome,
            Outcome::Approved | Outcome::Started | Outcome::Written | Outcome::NotVerified
        );
        is_open.then(|| (incident.id.clone(), plan.clone()))
    });
    Ok(due.collect())
}

async fn drive(desk: &Desk, id: &IncidentId, plan_id: &PlanId, watched: &mut Watched) -> Result<Step, FlowError> {
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let Some(record) = incident.plan(plan_id).cloned() else { return Ok(Step::Waits) };
    let hands = Hands::of(desk);
    if hands.cluster.is_none() && !matches!(record.plan.action, Action::CallHook { .. }) {
        let left = match record.outcome {
            Outcome::Approved => Some(Left::Nothing),
            Outcome::Started => Some(Left::Unknown),
            // What was written comes to its end as one whose effect cannot be seen.
            Outcome::Written | Outcome::NotVerified => None,
            Outcome::Proposed
            | Outcome::Rejected
            | Outcome::Expired
            | Outcome::Voided { .. }
            | Outcome::Failed { .. }
            | Outcome::Verified
            | Outcome::Undone
            | Outcome::NotUndone { .. }
            | Outcome::Overruled { .. }
            | Outcome::Recurred => None,
        };
        if let Some(left) = left {
            fail(desk, id, plan_id, "no cluster is configured (key: kubernetes)", left).await?;
            return Ok(Step::Taken);
        }
    }
    match record.outcome {
        Outcome::Approved => return start(desk, &incident, &record, &hands).await,
        Outcome::Started => recover(desk, &incident, &record, &hands).await?,
        Outcome::Written => return verify(desk, id, &record, &hands, watched).await,
        Outcome::NotVerified => compensate(desk, id, &record, &hands).await?,
        Outcome::Proposed
        | Outcome::Rejected
        | Outcome::Expired
        | Outcome::Voided { .. }
        | Outcome::Failed { .. }
        | Outcome::Verified
        | Outcome::Undone
        | Outcome::NotUndone { .. }
        | Outcome::Recurred
        | Outcome::Overruled { .. } => {}
    }
    Ok(Step::Taken)
}

/// How long an eviction waits for room in a disruption budget before people are told.
const BUDGET_PATIENCE: Duration = Duration::from_secs(300);
const BUDGET_PAUSE: Duration = Duration::from_secs(2);

/// Everything that must hold at this moment, not only when the card was made.
async fn start(desk: &Desk, incident: &Incident, record: &PlanRecord, hands: &Hands) -> Result<Step, FlowError> {
    if desk.clock.wall_now() < record.plan.expires_at + BUDGET_PATIENCE
        && neighbour_works(desk, incident, record).await?
    {
        return Ok(Step::Waits);
    }
    begin(desk, incident, record, hands).await.map(|()| Step::Taken)
}

async fn begin(desk: &Desk, incident: &Incident, record: &PlanRecord, hands: &Hands) -> Result<(), FlowError> {
    let (id, plan) = (&incident.id, &record.plan);
    crash::point("execute.start");
    let pauses = pause::names_for(&plan.action, Some(&plan.service), plan.blast.extent.as_ref());
    if let Some(why) = desk.pause_of(&pauses).await? {
        return void(desk, id, plan, &format!("midwatch is paused: {why}")).await;
    }
    if desk.clock.wall_now() >= plan.expires_at + BUDGET_PATIENCE {
        // It stood behind others, or this process was away: what people saw is too long ago.
        return void(desk, id, plan, "it could not be begun in time after its approval; a new card is needed").await;
    }
    match may_run(desk, incident, plan, hands).await? {
        MayRun::Yes => {}
        MayRun::No(because) | MayRun::Unread(because) => return void(desk, id, plan, &because).await,
    }
    let dry_run = match hands.rehearse(&plan.action).await {
        Ok(dry_run) => dry_run,
        Err(ClusterError::Budget(why)) if desk.clock.wall_now() < plan.expires_at + BUDGET_PATIENCE => {
            info!(incident = %id, plan = %plan.id, why, "waits for the disruption budget");
            tokio::time::sleep(BUDGET_PAUSE).await;
            return Ok(());
        }
        Err(error) => return void(desk, id, plan, &format!("the dry run fails now: {error}")).await,
    };
    if !is_as_approved(desk, plan, &dry_run) {
        return void(desk, id, plan, "the target has changed since the approval; a new card is needed").await;
    }
    crash::point("execute.rehearsed");
    let outset = match need(desk, incident, plan).await? {
        Need::Is(outset) => outset,
        Need::Gone(because) => return not_needed(desk, id, plan, &because).await,
    };
    match preserve(desk, id, plan, hands).await {
        Ok(()) => {}
        Err(FlowError::Refused(why)) => return void(desk, id, plan, &why).await,
        Err(failure) => return Err(failure),
    }
    let intent = format!("{} (digest {})", plan.action, plan.digest.short());
    // Kept with the claim, before anybody is called by it: whoever comes back knows it from there.
    let mark = format!("{}-{:016x}", plan.id, rand::random::<u64>());
    let deadline = desk.clock.event_now() + Duration::from_secs(desk.config.investigation.verify_seconds);
    let claimed = desk
        .change(id, |change| {
            change.record(IncidentEvent::ExecutionStarted {
                plan: plan.id.clone(),
                intent: intent.clone(),
                outset,
                mark: Some(mark.clone()),
            })?;
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
    crash::point("execute.claimed");
    info!(incident = %id, plan = %plan.id, action = %plan.action, "execution starts");
    Counters::add(&desk.counters.executions, 1);
    write(desk, incident, plan, hands, &dry_run, &mark).await
}

/// The rules, the votes and the kill switch as they are at that moment.
struct Approved<'a> {
    desk: &'a Desk,
    incident: &'a Incident,
    plan: &'a Plan,
    hands: &'a Hands,
}

#[async_trait]
impl Permission for Approved<'_> {
    async fn by_policy(&self) -> Result<(), NotNow> {
        let Self { desk, incident, plan, hands } = self;
        match may_run(desk, incident, plan, hands).await {
            Ok(MayRun::Yes) => Ok(()),
            Ok(MayRun::No(because)) => Err(NotNow::Withheld(because)),
            Ok(MayRun::Unread(why)) => Err(NotNow::Unread(why)),
            Err(error) => Err(NotNow::Unread(error.to_string())),
        }
    }

    async fn by_kill_switch(&self) -> Result<(), NotNow> {
        let (plan, extent) = (self.plan, self.plan.blast.extent.as_ref());
        let pauses = pause::names_for(&plan.action, Some(&plan.service), extent);
        match self.desk.pause_of(&pauses).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(NotNow::Withheld(format!("midwatch was paused before anything was written: {why}"))),
            Err(error) => Err(NotNow::Unread(error.to_string())),
        }
    }
}

/// What the rules say at this moment.
enum MayRun {
    Yes,
    No(String),
    /// What they need to know cannot be read now.
    Unread(String),
}

/// The rules as they are now, and the votes that count now.
async fn may_run(desk: &Desk, incident: &Incident, plan: &Plan, hands: &Hands) -> Result<MayRun, FlowError> {
    let topology = desk.topology().await;
    let blast = match draft::blast(hands, &topology, &plan.service, &plan.action).await {
        Ok(blast) => blast,
        Err(error) => return Ok(MayRun::Unread(format!("its reach cannot be told now: {error}"))),
    };
    // What was not on the card was not approved; of a plan from before this was kept nothing is known.
    if let (Some(seen), Some(now)) = (&plan.blast.extent, &blast.extent)
        && !seen.covers(now)
    {
        return Ok(MayRun::No("it would change more by now than its card said; a new card is needed".into()));
    }
    let (service, action, requester) = (plan.service.as_str(), &plan.action, plan.requester.as_deref());
    let about = About { incident, service, action, blast, requester, own: Some(&plan.id) };
    let facts = facts(desk, about, Stage::Execute).await?;
    let (votes, ruling) = (desk.store.votes(plan.id.as_str()).await?, desk.policy.rule(&plan.action, &facts));
    let approvals = match &ruling {
        Ruling::NeedsApproval { approvals, .. } => plan.approvals_needed.max(*approvals),
        Ruling::Refused { .. } | Ruling::Unattended { .. } => plan.approvals_needed,
    };
    let sought = Sought { approvals, ..plan.sought() };
    let mut valid = 0;
    for (person, _) in votes.iter().filter(|(_, decision)| decision == "approve") {
        // Who asked for the plan does not count (S6), whatever the table of votes holds.
        let counts = plan.requester.as_ref() != Some(person) && desk.policy.uncounted(person, &sought).is_none();
        valid += usize::from(counts && desk.authority_of(&PersonId::new(person.clone())).await.is_ok());
    }
    Ok(match ruling {
        Ruling::Refused { because, .. } => MayRun::No(because),
        Ruling::Unattended { .. } => MayRun::Yes,
        Ruling::NeedsApproval { approvals, .. } if valid >= approvals => MayRun::Yes,
        Ruling::NeedsApproval { approvals, because } => {
            MayRun::No(format!("{valid} of {approvals} approvals are valid now ({because})"))
        }
    })
}

async fn write(
    desk: &Desk,
    incident: &Incident,
    plan: &Plan,
    hands: &Hands,
    dry_run: &DryRun,
    mark: &str,
) -> Result<(), FlowError> {
    let id = &incident.id;
    let approved = |now: &DryRun| is_as_approved(desk, plan, now);
    crash::point("execute.before_write");
    let permission = Approved { desk, incident, plan, hands };
    let ended = contested::apply(hands, &plan.action, &dry_run.resource_version, mark, approved, &permission).await;
    crash::point("execute.after_write");
    match ended {
        Ok(Ok(applied)) => finish(desk, id, plan, hands, &format!("generation {}", applied.generation)).await,
        Ok(Err(why)) => void(desk, id, plan, &why).await,
        Err(ClusterError::Unknown(why)) => {
            // The next round reads the cluster (`recover`).
            warn!(incident = %id, plan = %plan.id, why, "the result of the write is unknown");
            Ok(())
        }
        Err(error) => fail(desk, id, &plan.id, &error.to_string(), left_after(&plan.action, &error)).await,
    }
}

/// The steps after the first write, then the wait for their effect.
async fn finish(desk: &Desk, id: &IncidentId, plan: &Plan, hands: &Hands, how: &str) -> Result<(), FlowError> {
    match follow_up(desk, plan, hands).await? {
        Steps::Done(0) => wrote(desk, id, plan, how).await,
        Steps::Done(steps) => wrote(desk, id, plan, &format!("{how}, {steps} evicted")).await,
        Steps::Stuck(why) => fail(desk, id, &plan.id, &why, Left::Part).await,
        // Whoever leads next finds the first write and goes on with what is left.
        Steps::Left => Ok(()),
    }
}

/// Whose pods the steps are about, by uid: a pause of their service holds for each of them. What cannot
/// be read is not taken for unpaused.
async fn pods_services(plan: &Plan, hands: &Hands, steps: &[Action]) -> Result<BTreeMap<String, String>, String> {
    let evicted: BTreeSet<(&str, &str)> = steps
        .iter()
        .map(Action::target)
        .filter(|target| target.kind == "Pod")
        .map(|target| (target.namespace.as_str(), target.name.as_str()))
        .collect();
    if evicted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let whose = |error: ClusterError| format!("whose pods {} takes cannot be told now: {error}", plan.action);
    let cluster = hands.cluster().map_err(whose)?;
    let pods = patiently(|| cluster.pods(None)).await.map_err(whose)?;
    let of = |target: &Target| {
        let pod = pods.iter().find(|pod| pod.namespace == target.namespace && pod.name == target.name);
        pod.map(|pod| (target.uid.clone(), pod.service.clone()))
    };
    Ok(steps.iter().filter_map(|step| of(step.target())).collect())
}

/// How the writes after the first one ended.
enum Steps {
    Done(usize),
    Stuck(String),
    /// This process ends.
    Left,
}

/// The writes after the first one, for a drain its evictions: each names its pod by uid, so that what
/// is gone already is found gone. The kill switch and the bounds of the policy are read before each of them.
async fn follow_up(desk: &Desk, plan: &Plan, hands: &Hands) -> Result<Steps, FlowError> {
    let rest = plan.action.follow_ups();
    let of_pods = match pods_services(plan, hands, &rest).await {
        Ok(found) => found,
        Err(why) => return Ok(Steps::Stuck(why)),
    };
    let patience = desk.clock.event_now() + Duration::from_secs(desk.config.investigation.verify_seconds);
    for (at, step) in rest.iter().enumerate() {
        loop {
            if desk.stopping() {
                return Ok(Steps::Left);
            }
            // After a restart with other rules, too.
            if let Some(why) = desk.policy.out_of_bounds(step.namespaces()) {
                return Ok(Steps::Stuck(format!("{step}: {why}; {at} of {} steps are done", rest.len())));
            }
            let mut names = pause::names_for(step, Some(&plan.service), None);
            names.extend(pause::names_for(step, of_pods.get(&step.target().uid).map(String::as_str), None));
            let ready = async {
                let now = hands.rehearse(step).await?;
                hands.sure().await.map(|()| now)
            };
            let tried = match ready.await {
                // After what may have waited for the cluster and for the lease.
                Ok(now) => match desk.pause_of(&names).await? {
                    None if !hands.is_sure() => Err(ClusterError::Unavailable("the lease is late".into())),
                    None => hands.apply(step, &now.resource_version, plan.id.as_str()).await.map(drop),
                    Some(why) => {
                        let text = format!("midwatch was paused ({why}) after {at} of {} steps", rest.len());
                        return Ok(Steps::Stuck(text));
                    }
                },
                Err(error) => Err(error),
            };
            crash::point("execute.followed_up");
            match tried {
                Ok(()) => break,
                Err(error) if is_gone(&error) => break,
                // Not now; or the answer is lost, and the uid makes a second eviction harmless.
                Err(
                    ClusterError::Budget(_)
                    | ClusterError::Unavailable(_)
                    | ClusterError::Conflict(_)
                    | ClusterError::Unknown(_),
                ) if desk.clock.event_now() < patience => {
                    desk.wait(&Notify::new(), BUDGET_PAUSE).await;
                }
                Err(error) => {
                    return Ok(Steps::Stuck(format!("{step}: {error}; {at} of {} steps are done", rest.len())));
                }
            }
        }
    }
    Ok(Steps::Done(rest.len()))
}

fn is_as_approved(desk: &Desk, plan: &Plan, now: &DryRun) -> bool {
    let extent = plan.blast.extent.as_ref();
    let digest = plan::digest(&plan.action, extent, &now.before, &now.after, &plan.undo, &desk.policy.version());
    digest == plan.digest && now.uid == plan.action.target().uid
}

/// Claimed before, answer never seen: the cluster knows whether the write took effect.
async fn recover(desk: &Desk, incident: &Incident, record: &PlanRecord, hands: &Hands) -> Result<(), FlowError> {
    let plan = &record.plan;
    crash::point("execute.recover");
    let took = match &plan.action {
        Action::RollBack { .. } => took_back(desk, plan, hands).await,
        other => hands.took_effect(other, record.mark()).await,
    };
    match took {
        Ok(Took::Yes(how)) => {
            let how = format!("found in the cluster after an unknown answer: {how}");
            finish(desk, &incident.id, plan, hands, &how).await
        }
        Ok(Took::No) => {
            let text = "the write did not take effect and is not repeated";
            fail(desk, &incident.id, &plan.id, text, Left::Nothing).await
        }
        Ok(Took::Unknown(why)) => {
            let text = format!("whether it was written is not known ({why}); it is not repeated");
            fail(desk, &incident.id, &plan.id, &text, Left::Unknown).await
        }
        Err(error @ (ClusterError::Unavailable(_) | ClusterError::Unknown(_) | ClusterError::Budget(_))) => {
            let stored = desk.store.execution(plan.id.as_str()).await?;
            let deadline = stored.map(|(_, _, _, deadline, _)| Timestamp::from_millis(deadline));
            if deadline.is_some_and(|deadline| desk.clock.event_now() >= deadline) {
                // People are told rather than left to watch it run; all other plans wait behind it.
                let text = format!(
                    "whether it was written is not known, the cluster does not say ({error}); it is not repeated"
                );
                return fail(desk, &incident.id, &plan.id, &text, Left::Unknown).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
        // What the cluster refuses to say now says nothing of what was written then.
        Err(error) => {
            let text = format!("whether it was written is not known ({error}); it is not repeated");
            fail(desk, &incident.id, &plan.id, &text, Left::Unknown).await
        }
    }
}

/// A rollback leaves no mark of its own: the template says whether it is the wanted one, also after the
/// controller has given its revision another number.
async fn took_back(desk: &Desk, plan: &Plan, hands: &Hands) -> Result<Took, ClusterError> {
    match hands.rehearse(&plan.action).await {
        // The object already is what the action makes of it.
        Ok(now) if now.before == now.after => Ok(Took::Yes("the template is the earlier one".to_owned())),
        Ok(now) if is_as_approved(desk, plan, &now) => Ok(Took::No),
        Ok(_) => Ok(Took::Unknown("the template is neither the one before nor the wanted one".to_owned())),
        // Going back renumbers a StatefulSet's revision. Others are followed through their earlier numbers:
        // when one is gone it was pruned, and whether the write came before that is not known.
        Err(ClusterError::NotFound(what)) if what.contains("revision") => {
            Ok(match plan.action.target().kind == "StatefulSet" {
                true => Took::Yes("the revision became the current one".to_owned()),
                false => Took::Unknown(format!("{what} is gone")),
            })
        }
        Err(error) => Err(error),
    }
}

async fn wrote(desk: &Desk, id: &IncidentId, plan: &Plan, result: &str) -> Result<(), FlowError> {
    // From now on: the steps of a drain may have taken as long as the wait for their effect.
    let deadline = desk.clock.event_now() + Duration::from_secs(desk.config.investigation.verify_seconds);
    desk.change(id, |change| {
        change.record(IncidentEvent::ExecutionWrote { plan: plan.id.clone(), result: result.to_owned() })?;
        change.batch.executions.push(ExecutionRow {
            plan: plan.id.to_string(),
            incident: id.to_string(),
            stage: "written".into(),
            digest: plan.digest.to_string(),
            before: String::new(),
            result: Some(result.to_owned()),
            deadline,
            claim: Claim::Progress,
            pauses: vec![],
        });
        tell_plan(change, plan);
        Ok(())
    })
    .await?;
    Ok(())
}

/// Nobody where it cannot be read: the note is told all the same.
async fn who_takes_over(desk: &Desk, id: &IncidentId) -> Vec<escalate::Called> {
    match desk.store.incident(id).await {
        Ok(Some(incident)) => escalate::who_is_asked(desk, &incident).await,
        Ok(None) | Err(_) => vec![],
    }
}

fn tell_plan(change: &mut Decision<'_>, plan: &Plan) {
    change.tell(&format!("plan/{}", plan.id), &Effect::Approval { plan: plan.id.clone() });
    change.tell("root", &Effect::Root);
}
