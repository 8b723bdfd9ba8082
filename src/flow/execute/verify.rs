//! Whether it helped: seen in the cluster and in the estate's own numbers, by a deadline; undone once
//! if it did not.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tracing::{info, warn};

use super::contested::{NotNow, Permission, Withheld};
use super::hands::{Hands, patiently};
use super::{Step, close_when_over, tell_plan, who_takes_over};
use crate::domain::action::{Action, Undo};
use crate::domain::card::Tone;
use crate::domain::id::{IncidentId, PlanId};
use crate::domain::incident::{IncidentEvent, PlanRecord, UNDONE};
use crate::domain::narrative;
use crate::domain::plan::{Direction, Plan, SuccessCheck};
use crate::domain::root_cause::amount;
use crate::domain::time::Timestamp;
use crate::flow::command::pause;
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{earn, escalate};
use crate::ports::{Applied, ClusterError, DryRun, Progress, Settled, Took, crash};
use crate::store::{Batch, Claim, ExecutionRow, StoreError};

/// One good look can be luck; three in a row are a recovery.
const GOOD_LOOKS: usize = 3;
/// Of an undo whose answer was lost.
const UNDO_ROUNDS: usize = 3;

/// The plans that wait for their effect, and what was seen of each so far. In memory: whoever leads next
/// looks afresh.
#[derive(Debug, Default)]
pub(super) struct Watched(HashMap<PlanId, Looks>);

#[derive(Debug)]
struct Looks {
    taken: usize,
    /// In a row, the last ones.
    good: usize,
    /// Both by the steady clock: one that is set forward cuts no effect short, and one that is set back lets
    /// nobody wait for an hour more.
    next_at: Timestamp,
    until: Timestamp,
}

impl Watched {
    pub(super) fn forget_all_but(&mut self, due: &[(IncidentId, PlanId)]) {
        self.0.retain(|plan, _| due.iter().any(|(_, one)| one == plan));
    }

    /// How long until the next look.
    pub(super) fn next(&self, steady_now: Timestamp) -> Option<Duration> {
        self.0.values().map(|looks| looks.next_at.since(steady_now)).min()
    }
}

/// Looks once at the estate's own telemetry, when it is time to, until it is well or was not in time.
pub(super) async fn verify(
    desk: &Desk,
    id: &IncidentId,
    record: &PlanRecord,
    hands: &Hands,
    watched: &mut Watched,
) -> Result<Step, FlowError> {
    let plan = &record.plan;
    let pause = Duration::from_secs_f64(desk.config.remediation.look_seconds);
    let steady_now = desk.clock.steady_now();
    if !watched.0.contains_key(&plan.id) {
        let longest = Duration::from_secs(desk.config.investigation.verify_seconds);
        let event_now = desk.clock.event_now();
        let stored = desk.store.execution(plan.id.as_str()).await?;
        let left = stored.map(|(_, _, _, deadline, _)| Timestamp::from_millis(deadline).since(event_now));
        let until = steady_now + left.map_or(longest, |left| left.min(longest));
        watched.0.insert(plan.id.clone(), Looks { taken: 0, good: 0, next_at: steady_now, until });
    }
    let Some(looks) = watched.0.get_mut(&plan.id).filter(|looks| steady_now >= looks.next_at) else {
        return Ok(Step::Waits);
    };
    crash::point("verify.look");
    let (facts, well) = match look(desk, id, record, hands).await? {
        Seen::Overruled(fact) => return overruled(desk, id, plan, &fact).await.map(|()| Step::Taken),
        Seen::Facts { facts, well } => (facts, well),
    };
    looks.taken += 1;
    looks.good = if well { looks.good + 1 } else { 0 };
    looks.next_at = desk.clock.steady_now() + pause;
    if looks.good >= GOOD_LOOKS {
        crash::point("verify.well");
        return verified(desk, id, plan, facts).await.map(|()| Step::Taken);
    }
    // A process that was away until after the deadline has seen nothing yet; and what is well by now is
    // looked at until it is sure.
    if desk.clock.steady_now() >= looks.until && looks.taken >= GOOD_LOOKS && looks.good == 0 {
        return not_verified(desk, id, plan, facts).await.map(|()| Step::Taken);
    }
    Ok(Step::Waits)
}

enum Seen {
    Facts {
        facts: Vec<String>,
        well: bool,
    },
    /// Somebody else has changed what the plan wrote; what is there instead.
    Overruled(String),
}

async fn look(desk: &Desk, id: &IncidentId, record: &PlanRecord, hands: &Hands) -> Result<Seen, FlowError> {
    let plan = &record.plan;
    let mut facts = vec![];
    let mut well = true;
    match hands.settled(&plan.action, record.mark()).await {
        Ok(Settled { progress: Progress::Overruled, fact }) => return Ok(Seen::Overruled(fact)),
        Ok(settled) => {
            well &= settled.progress == Progress::Done;
            facts.push(settled.fact);
        }
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
                        "{} {} {} (wanted {}){}",
                        check.service,
                        check.signal.replace('_', " "),
                        value.map_or_else(|| "has no samples".into(), |value| amount(value, &check.unit)),
                        wanted(check),
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
    if desk.signals.is_none() && !plan.checks.is_empty() {
        // They were there when the plan was made. What cannot be read is not well.
        well = false;
        facts.push("no signals are configured any more, so its checks cannot be read (key: signals)".to_owned());
    }
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let firing = incident.firing();
    if firing > 0 && plan.checks.is_empty() {
        // Without signals to look at, the alerts themselves are the measure, of whatever severity.
        well = false;
    }
    facts.push(format!("{firing} alerts still firing"));
    Ok(Seen::Facts { facts, well })
}

fn wanted(check: &SuccessCheck) -> String {
    let bound = amount(check.bound, &check.unit);
    match check.direction {
        Direction::AtMost => format!("at most {bound}"),
        Direction::AtLeast => format!("at least {bound}"),
    }
}

async fn verified(desk: &Desk, id: &IncidentId, plan: &Plan, facts: Vec<String>) -> Result<(), FlowError> {
    let event_now = desk.clock.event_now();
    desk.change(id, |change| {
        change.record(IncidentEvent::VerificationPassed { plan: plan.id.clone(), facts: facts.clone() })?;
        let by = if plan.checks.is_empty() { "its end in the cluster and its alerts" } else { "telemetry" };
        let because = match change.incident().plan(&plan.id).is_some_and(PlanRecord::has_helped) {
            true => format!("{} helped; verified from {by}", plan.action),
            false => {
                format!("{} is done, and nothing was seen to be wrong when it began; verified from {by}", plan.action)
            }
        };
        change.record(IncidentEvent::Resolved { because: because.clone(), event_at: event_now, by: None })?;
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

/// Whether it would have helped is not known, and what somebody else has written is not ours to undo.
async fn overruled(desk: &Desk, id: &IncidentId, plan: &Plan, fact: &str) -> Result<(), FlowError> {
    let event_now = desk.clock.event_now();
    let text = format!("{} was overruled by somebody else ({fact}); nothing was undone", plan.action);
    let who = who_takes_over(desk, id).await;
    desk.change(id, |change| {
        change.record(IncidentEvent::Overruled { plan: plan.id.clone(), because: fact.to_owned() })?;
        change.record(IncidentEvent::HandedOver { because: text.clone() })?;
        tell_plan(change, plan);
        close_when_over(change, event_now)?;
        let text = format!("{text}. A person must take over.");
        let who: &[escalate::Called] = if change.incident().state.is_over() { &[] } else { &who };
        change.tell(&format!("note/{}/overruled", plan.id), &Effect::Note { card: escalate::note_to(who, &text) });
        Ok(())
    })
    .await?;
    warn!(incident = %id, plan = %plan.id, fact, "the remediation was overruled by somebody else");
    Ok(())
}

/// Puts things back once, then people take over.
pub(super) async fn compensate(
    desk: &Desk,
    id: &IncidentId,
    record: &PlanRecord,
    hands: &Hands,
) -> Result<(), FlowError> {
    let plan = &record.plan;
    let result = match &plan.undo {
        Undo::None(why) => format!("no undo: {why}"),
        Undo::By(action) => match compensated(desk, id, record, action, hands).await? {
            Some(result) => result,
            // Paused in the same moment: the next round says so.
            None => return Ok(()),
        },
    };
    crash::point("undo.done");
    // Before the end is written: a process that dies between the two must not leave it earned.
    earn::failed(desk, plan, "it did not help").await?;
    let event_now = desk.clock.event_now();
    let who = who_takes_over(desk, id).await;
    desk.change(id, |change| {
        change.record(IncidentEvent::Compensated { plan: plan.id.clone(), result: result.clone() })?;
        change.record(IncidentEvent::HandedOver { because: format!("{} did not help; {result}", plan.action) })?;
        tell_plan(change, plan);
        // Nothing of it is left, and no later end of an alert will close it. Where the undo failed, people look.
        if result == UNDONE || matches!(plan.undo, Undo::None(_)) {
            close_when_over(change, event_now)?;
        }
        let text = format!("{} did not help; {result}. A person must take over.", plan.action);
        let who: &[escalate::Called] = if change.incident().state.is_over() { &[] } else { &who };
        change.tell(&format!("note/{}/undone", plan.id), &Effect::Note { card: escalate::note_to(who, &text) });
        Ok(())
    })
    .await?;
    Ok(())
}

const PAUSED: &str = "not undone: midwatch is paused";

/// How the undo ended; `None`: it could not be claimed.
async fn compensated(
    desk: &Desk,
    id: &IncidentId,
    record: &PlanRecord,
    action: &Action,
    hands: &Hands,
) -> Result<Option<String>, FlowError> {
    let plan = &record.plan;
    let (key, mark) = (format!("{}-undo", plan.id), format!("{}-undo", record.mark()));
    let pauses = pause::names_for(action, Some(&plan.service), plan.blast.extent.as_ref());
    // What was begun is looked for before anything is said of it, paused or not.
    let begun = desk.store.execution(&key).await?.is_some();
    if let Some(found) = interrupted(hands, action, &mark, begun).await {
        return Ok(Some(found));
    }
    if desk.pause_of(&pauses).await?.is_some() {
        return Ok(Some(PAUSED.to_owned()));
    }
    if !begun {
        let claim = ExecutionRow {
            plan: key.clone(),
            incident: id.to_string(),
            stage: "claimed".into(),
            digest: plan.digest.to_string(),
            before: "null".into(),
            result: None,
            deadline: desk.clock.event_now(),
            claim: Claim::First,
            pauses: pauses.clone(),
        };
        crash::point("undo.before_claim");
        let batch = Batch { executions: vec![claim], ..Batch::default() };
        match desk.store.commit(batch, desk.clock.wall_now()).await {
            Ok(_) => {}
            Err(StoreError::Stale(what)) if what.contains("paused") => return Ok(None),
            Err(failure) => return Err(failure.into()),
        }
        crash::point("undo.claimed");
    }
    Ok(Some(undo(hands, record, action, &mark, &Switch { desk, pauses }).await))
}

/// An undo needs nobody's leave but that of the kill switch.
struct Switch<'a> {
    desk: &'a Desk,
    pauses: Vec<String>,
}

#[async_trait]
impl Permission for Switch<'_> {
    async fn by_policy(&self) -> Result<(), NotNow> {
        Ok(())
    }

    async fn by_kill_switch(&self) -> Result<(), NotNow> {
        match self.desk.pause_of(&self.pauses).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(NotNow::Withheld(PAUSED.to_owned())),
            Err(error) => Err(NotNow::Unread(format!("whether midwatch is paused cannot be read: {error}"))),
        }
    }
}

/// An undo that was begun before this process: the cluster is read, and only what certainly was not
/// written is written now.
async fn interrupted(hands: &Hands, action: &Action, mark: &str, begun: bool) -> Option<String> {
    if !begun {
        return None;
    }
    let unclear = |why: String| Some(format!("whether the undo was written is not known ({why}); check the target"));
    if let Action::RollBack { .. } = action {
        let back = match restorable(hands, action).await {
            Ok(Some(back)) => back,
            Ok(None) => return unclear("the revision is gone".to_owned()),
            Err(error) => return unclear(error.to_string()),
        };
        return match hands.rehearse(&back).await {
            Ok(now) if now.before == now.after => Some(UNDONE.into()),
            Ok(_) => None,
            Err(error) => unclear(error.to_string()),
        };
    }
    match hands.took_effect(action, mark).await {
        Ok(Took::Yes(_)) => Some(UNDONE.into()),
        Ok(Took::No) => None,
        Ok(Took::Unknown(why)) => unclear(why),
        Err(error) => unclear(error.to_string()),
    }
}

/// Once: a round after the first writes only what the cluster says was not written, and a request of
/// an earlier round that arrives late finds another version there.
async fn undo(hands: &Hands, record: &PlanRecord, action: &Action, mark: &str, permission: &dyn Permission) -> String {
    let mut unknown = String::new();
    for round in 0..UNDO_ROUNDS {
        if round > 0
            && let Some(found) = interrupted(hands, action, mark, true).await
        {
            return found;
        }
        match put_back(hands, record, action, mark, permission).await {
            Ok(Ok(_)) => return UNDONE.into(),
            Ok(Err(withheld)) => return withheld,
            Err(ClusterError::Unknown(why)) => unknown = why,
            Err(error) => return format!("the undo failed: {error}"),
        }
    }
    format!("whether the undo was written is not known: {unknown}")
}

/// Only what the plan itself wrote: what somebody else has made of it since is theirs.
async fn put_back(
    hands: &Hands,
    record: &PlanRecord,
    action: &Action,
    mark: &str,
    permission: &dyn Permission,
) -> Result<Result<Applied, Withheld>, ClusterError> {
    let rehearsed = rehearse(hands, action).await;
    // After the rehearsal: whoever writes from here on leaves another version than the one that is written to.
    let settled = patiently(|| hands.settled(&record.plan.action, record.mark())).await?;
    if settled.progress == Progress::Overruled {
        return Ok(Err(format!("not undone: changed meanwhile by somebody else ({})", settled.fact)));
    }
    let (action, now) = rehearsed?;
    crash::point("undo.before_write");
    // Status writers come between as in the action itself; the fields it touches must stay as they are.
    let same = |fresh: &DryRun| fresh.before == now.before && fresh.after == now.after;
    let ended = super::contested::apply(hands, &action, &now.resource_version, mark, same, permission).await;
    crash::point("undo.after_write");
    ended
}

/// The undo as it is to be written, and what it would change.
async fn rehearse(hands: &Hands, undo: &Action) -> Result<(Action, DryRun), ClusterError> {
    let action = match undo {
        Action::RollBack { target, .. } => restorable(hands, undo)
            .await?
            .ok_or_else(|| ClusterError::NotFound(format!("the revision of {target} that ran before the rollback")))?,
        other => other.clone(),
    };
    let now = hands.rehearse(&action).await?;
    Ok((action, now))
}

/// The controller renumbers a revision that it goes back to; the one that was current before the
/// rollback is now the newest but one. Whether what is current was made by us is not asked here.
async fn restorable(hands: &Hands, action: &Action) -> Result<Option<Action>, ClusterError> {
    let Action::RollBack { target, to_revision, .. } = action else { return Ok(None) };
    let cluster = hands.cluster()?;
    // One lost answer must not leave standing what did not help.
    let revisions = patiently(|| cluster.revisions(&target.kind, &target.namespace, &target.name)).await?;
    let wanted = revisions.iter().find(|revision| revision.number == *to_revision);
    Ok(revisions.last().zip(wanted).map(|(current, wanted)| Action::RollBack {
        target: target.clone(),
        from_revision: current.number,
        to_revision: wanted.number,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::contested::tests::{Always, Contested, somewhere};
    use super::*;
    use crate::flow::lead::Term;

    fn scaled_up() -> PlanRecord {
        let action = Action::Scale { target: somewhere("Deployment"), from: 2, to: 5 };
        PlanRecord::of(Plan::first(action), String::new())
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_has_changed_meanwhile_is_not_undone() {
        let theirs = "not undone: changed meanwhile by somebody else (it has 3 replicas)";
        for (cluster, expected, writes) in [(Contested::default(), UNDONE, 1), (Contested::overruled(), theirs, 0)] {
            let cluster = Arc::new(cluster);
            let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term: Term::endless() };
            let record = scaled_up();
            let Undo::By(back) = &record.plan.undo else { panic!("a scaling is undone") };
            let said = undo(&hands, &record, back, "INC-1.P1-undo", &Always).await;
            assert_eq!((said.as_str(), cluster.writes()), (expected, writes));
        }
    }

    #[test]
    fn a_check_says_on_which_side_of_its_bound_things_are_well() {
        for (direction, expected) in [(Direction::AtMost, "at most 20.0 %"), (Direction::AtLeast, "at least 20.0 %")] {
            let check = SuccessCheck {
                service: "cart".into(),
                signal: "ready_share".into(),
                query: String::new(),
                label: "app".into(),
                bound: 0.2,
                direction,
                unit: "ratio".into(),
            };
            assert_eq!(wanted(&check), expected);
        }
    }
}
