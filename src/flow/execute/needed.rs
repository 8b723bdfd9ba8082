//! Whether there is still something to mend when a plan is begun.
//!
//! Invariant: what nobody has asked for since the trouble ended is not done after its end.

use crate::domain::action::Undo;
use crate::domain::incident::{Incident, IncidentEvent, Outcome, Outset};
use crate::domain::plan::{Plan, SuccessCheck};
use crate::flow::command::story;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::regroup::ASKED;
use crate::ports::Signals;

#[derive(Debug)]
pub(super) enum Need {
    /// It may be begun; and what was seen then.
    Is(Outset),
    /// Why not.
    Gone(String),
}

pub(super) async fn need(desk: &Desk, incident: &Incident, plan: &Plan) -> Result<Need, FlowError> {
    // As it is now: it may have waited since it was read.
    let incident =
        desk.store.incident(&incident.id).await?.ok_or_else(|| FlowError::NoIncident(incident.id.clone()))?;
    let passes = match incident.firing() {
        0 => looked(desk, &plan.checks).await,
        _ => vec![],
    };
    let seen = outset(&incident, &passes);
    if seen != Outset::Well || is_to_be_cleaned_up(&incident) || was_asked_since(desk, &incident, plan).await? {
        return Ok(Need::Is(seen));
    }
    let checks = match plan.checks.len() {
        0 => String::new(),
        1 => ", and the check of the plan passes already".to_owned(),
        count => format!(", and the {count} checks of the plan pass already"),
    };
    Ok(Need::Gone(format!("no longer needed: nothing of {} fires any more{checks}", incident.id)))
}

/// Whether each of them passes; `None`: it cannot be told.
async fn looked(desk: &Desk, checks: &[SuccessCheck]) -> Vec<Option<bool>> {
    let Some(signals) = &desk.signals else { return vec![None; checks.len()] };
    let mut passes = vec![];
    for check in checks {
        passes.push(value(desk, signals.as_ref(), check).await.map(|value| check.passes(value)));
    }
    passes
}

/// Silence is no proof, neither way.
async fn value(desk: &Desk, signals: &dyn Signals, check: &SuccessCheck) -> Option<f64> {
    let series = signals.instant(&check.query, desk.clock.event_now()).await.ok()?;
    series.iter().find(|one| one.label(&check.label) == Some(check.service.as_str()))?.last()
}

fn outset(incident: &Incident, passes: &[Option<bool>]) -> Outset {
    if incident.firing() > 0 || passes.contains(&Some(false)) {
        return Outset::Ill;
    }
    // What a person asked about has no alert whose end would say anything.
    let has_alerted = incident.alerts.values().any(|group| group.name != ASKED);
    match passes.contains(&None) || (passes.is_empty() && !has_alerted) {
        true => Outset::Unclear,
        false => Outset::Well,
    }
}

/// Something that we changed is still there: what is asked for then may be what puts it back.
fn is_to_be_cleaned_up(incident: &Incident) -> bool {
    let stays = incident
        .plans
        .iter()
        .any(|record| matches!(record.outcome, Outcome::NotUndone { .. }) && matches!(record.plan.undo, Undo::By(_)));
    stays || incident.half_done().is_some()
}

/// Whether a person asked for it when all had ended, and so means it.
async fn was_asked_since(desk: &Desk, incident: &Incident, plan: &Plan) -> Result<bool, FlowError> {
    if plan.requester.is_none() {
        return Ok(false);
    }
    let events = story(desk, &incident.id).await?;
    let is_proposal =
        |event: &IncidentEvent| matches!(event, IncidentEvent::PlanProposed { plan: of, .. } if of.id == plan.id);
    let mut since = events.iter().map(|(_, event)| event).skip_while(|event| !is_proposal(event));
    Ok(since.next().is_some() && !since.any(|event| matches!(event, IncidentEvent::AlertsResolved { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Severity;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::AlertGroup;
    use crate::domain::time::Timestamp;

    #[track_caller]
    fn check(name: &str, resolved: usize, passes: &[Option<bool>], expected: Outset) {
        let group =
            AlertGroup { count: 2, resolved, ..AlertGroup::new(name, "web", Severity::Critical, Timestamp::default()) };
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.alerts.insert("it".into(), group);
        assert_eq!(outset(&incident, passes), expected);
    }

    #[test]
    fn the_trouble_is_over_only_when_everything_says_so() {
        check("Down", 1, &[], Outset::Ill);
        check("Down", 2, &[], Outset::Well);
        check("Down", 2, &[Some(true), Some(true)], Outset::Well);
        check("Down", 2, &[Some(true), Some(false)], Outset::Ill);
        check("Down", 2, &[None, Some(false)], Outset::Ill);
        check("Down", 2, &[Some(true), None], Outset::Unclear);
        check(ASKED, 2, &[], Outset::Unclear);
        check(ASKED, 2, &[Some(true)], Outset::Well);
    }
}
