//! Plans that come to no good end: what people are told, and how they put back what may be left.

use tracing::{info, warn};

use super::{tell_plan, who_takes_over};
use crate::domain::action::{Action, Undo};
use crate::domain::card::Tone;
use crate::domain::id::{IncidentId, PlanId};
use crate::domain::incident::{IncidentEvent, Left};
use crate::domain::narrative;
use crate::domain::plan::Plan;
use crate::flow::assess::close_when_over;
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{earn, escalate};
use crate::ports::ClusterError;

pub(super) async fn fail(
    desk: &Desk,
    id: &IncidentId,
    plan: &PlanId,
    because: &str,
    left: Left,
) -> Result<(), FlowError> {
    // Before the end is written: a process that dies between the two must not leave it earned.
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let Some(record) = incident.plan(plan) else { return Ok(()) };
    earn::failed(desk, &record.plan, because).await?;
    let event = IncidentEvent::ExecutionFailed { plan: plan.clone(), because: because.to_owned(), left };
    let text = told(id, &record.plan, left, because);
    hand_over(desk, id, plan, event, &handed_over_because(left, because), &text).await
}

pub(super) async fn void(desk: &Desk, id: &IncidentId, plan: &Plan, because: &str) -> Result<(), FlowError> {
    let event = IncidentEvent::PlanVoided { plan: plan.id.clone(), because: because.to_owned() };
    let text = told(id, plan, Left::Nothing, because);
    hand_over(desk, id, &plan.id, event, because, &text).await
}

/// The trouble ended before it was begun: that is no failure, and nobody has to act.
pub(super) async fn not_needed(desk: &Desk, id: &IncidentId, plan: &Plan, because: &str) -> Result<(), FlowError> {
    info!(incident = %id, plan = %plan.id, because, "the plan is not carried out");
    desk.change(id, |change| {
        // It fires again since it was looked at: the next round looks anew.
        if change.incident().firing() > 0 {
            return Ok(());
        }
        change.record(IncidentEvent::PlanVoided { plan: plan.id.clone(), because: because.to_owned() })?;
        change.record(IncidentEvent::HandedOver { because: because.to_owned() })?;
        close_when_over(change, desk.clock.event_now())?;
        tell_plan(change, plan);
        let card = narrative::note(&format!("Not carried out: {because}. Nothing was changed."), Tone::Neutral);
        change.tell(&format!("note/{}/failed", plan.id), &Effect::Note { card });
        Ok(())
    })
    .await?;
    Ok(())
}

async fn hand_over(
    desk: &Desk,
    id: &IncidentId,
    plan: &PlanId,
    event: IncidentEvent,
    because: &str,
    text: &str,
) -> Result<(), FlowError> {
    warn!(incident = %id, %plan, because, "the plan is not carried out");
    let who = who_takes_over(desk, id).await;
    desk.change(id, |change| {
        change.record(event.clone())?;
        change.record(IncidentEvent::HandedOver { because: because.to_owned() })?;
        close_when_over(change, desk.clock.event_now())?;
        change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
        change.tell("root", &Effect::Root);
        let who: &[escalate::Called] = if change.incident().state.is_over() { &[] } else { &who };
        change.tell(&format!("note/{plan}/failed"), &Effect::Note { card: escalate::note_to(who, text) });
        Ok(())
    })
    .await?;
    Ok(())
}

/// Of a first write that was answered with this error.
pub(super) fn left_after(action: &Action, error: &ClusterError) -> Left {
    match (action, error) {
        // Whoever answers that it is busy may have begun.
        (Action::CallHook { .. }, ClusterError::Conflict(_)) | (_, ClusterError::Unknown(_)) => Left::Unknown,
        (
            _,
            ClusterError::Conflict(_)
            | ClusterError::NotFound(_)
            | ClusterError::Forbidden(_)
            | ClusterError::Budget(_)
            | ClusterError::Refused(_)
            | ClusterError::Unavailable(_),
        ) => Left::Nothing,
    }
}

/// Why it is handed over.
fn handed_over_because(left: Left, why: &str) -> String {
    match left {
        Left::Nothing => why.to_owned(),
        Left::Part | Left::Unknown => format!("{}: {why}", left.words()),
    }
}

/// For the thread.
fn told(id: &IncidentId, plan: &Plan, left: Left, why: &str) -> String {
    let (word, undo) = match left {
        Left::Nothing => return format!("Not carried out: {why}. A person must take over."),
        Left::Part => ("Partly carried out", "What was done stays as it is until somebody undoes it"),
        Left::Unknown => ("Perhaps carried out", "If it was, nothing undoes it by itself"),
    };
    let target = plan.action.target();
    let how = match &plan.undo {
        Undo::None(why) => format!("there is no undo ({why})"),
        Undo::By(action) => match action.as_asked() {
            Some(words) => format!("to {action}, ask for it: /ops act {id} {words}"),
            None => format!("the undo is to {action}, by hand"),
        },
    };
    format!("{word}: {why}. Look at {target}. {undo}: {how}. The incident stays open, and a person must take over.")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::domain::plan::target;

    #[track_caller]
    fn check(action: Action, left: Left, why: &str, expected: Expect) {
        expected.assert_eq(&told(&IncidentId::numbered(1), &Plan::first(action), left, why));
    }

    #[test]
    fn what_may_be_left_is_told_with_the_command_that_undoes_it() {
        let drain = Action::Drain { target: target("c", "", "Node", "node-1", "n"), pods: vec![], was_cordoned: false };
        check(
            drain,
            Left::Part,
            "evict shop/pod/web-1: held back by a disruption budget: web-pdb; 2 of 3 steps are done",
            expect![
                "Partly carried out: evict shop/pod/web-1: held back by a disruption budget: web-pdb; 2 of 3 steps are done. Look at node/node-1. What was done stays as it is until somebody undoes it: to uncordon node/node-1, ask for it: /ops act INC-1 uncordon node-1. The incident stays open, and a person must take over."
            ],
        );
        let web = || target("c", "shop", "Deployment", "web", "u");
        let why = "whether it was written is not known (no answer); it is not repeated";
        check(
            Action::Restart { target: web() },
            Left::Unknown,
            why,
            expect![
                "Perhaps carried out: whether it was written is not known (no answer); it is not repeated. Look at shop/deployment/web. If it was, nothing undoes it by itself: there is no undo (a restart changes no specification; there is nothing to put back). The incident stays open, and a person must take over."
            ],
        );
        check(
            Action::Scale { target: web(), from: 2, to: 4 },
            Left::Nothing,
            "forbidden: needs verb patch",
            expect!["Not carried out: forbidden: needs verb patch. A person must take over."],
        );
    }

    #[test]
    fn only_a_hook_that_is_busy_may_have_begun() {
        let busy = ClusterError::Conflict("409".into());
        let hook = Action::CallHook {
            target: target("c", "", "Hook", "purge", "d"),
            tier: crate::domain::action::RiskTier::Low,
            undo: None,
        };
        assert_eq!(left_after(&hook, &busy), Left::Unknown);
        assert_eq!(
            left_after(&Action::Restart { target: target("c", "shop", "Deployment", "web", "u") }, &busy),
            Left::Nothing
        );
        assert_eq!(left_after(&hook, &ClusterError::Refused("400".into())), Left::Nothing);
    }
}
