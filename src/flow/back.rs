//! What a rollback must not go back to unasked: a revision that we have gone away from before.

use std::time::Duration;

use super::desk::Desk;
use crate::domain::action::{Action, Target};
use crate::domain::incident::{Incident, Outcome};

/// How long what we have done is looked back upon.
const LOOK_BACK: Duration = Duration::from_secs(60 * 24 * 3600);

/// Says no to a rollback whose revision nobody has named, where an earlier plan of ours went away from that
/// revision or the diagnosis blames it.
pub(super) async fn must_not_return(desk: &Desk, incident: &Incident, action: &Action) -> Result<(), String> {
    let Action::RollBack { target, to_revision, .. } = action else { return Ok(()) };
    let acted = desk.store.acted_on(desk.clock.wall_now() - LOOK_BACK).await.map_err(|error| {
        format!("which revisions of {target} were gone away from cannot be told ({error}); name the revision")
    })?;
    match against(std::iter::once(incident).chain(&acted), incident, target, *to_revision) {
        Some(why) => Err(format!("{action} is not proposed: {why}; if it is right all the same, name the revision")),
        None => Ok(()),
    }
}

fn against<'a>(
    acted: impl Iterator<Item = &'a Incident>,
    incident: &Incident,
    target: &Target,
    to: i64,
) -> Option<String> {
    let mut plans = acted.flat_map(|one| &one.plans);
    let left = plans.find(|record| {
        let away = matches!(&record.plan.action, Action::RollBack { target: of, from_revision, .. }
            if of.uid == target.uid && *from_revision == to);
        away && may_stand(&record.outcome)
    });
    if let Some(record) = left {
        return Some(format!("{} rolled back from revision {to}", record.plan.id));
    }
    let blamed = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.change.as_deref());
    let plain = format!("{} revision {to}", target.name);
    // What shares its name with others is named with its namespace or kind before it.
    let is_blamed = blamed.is_some_and(|id| id == plain || id.ends_with(&format!("/{plain}")));
    is_blamed.then(|| format!("the diagnosis blames revision {to}"))
}

/// Whether what the plan made may still be there: what was undone stands where it stood before.
fn may_stand(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Proposed
        | Outcome::Approved
        | Outcome::Rejected
        | Outcome::Expired
        | Outcome::Voided { .. }
        | Outcome::Undone => false,
        Outcome::Started
        | Outcome::Written
        | Outcome::Verified
        | Outcome::NotVerified
        | Outcome::NotUndone { .. }
        | Outcome::Overruled { .. }
        | Outcome::Recurred
        // One of older versions may have been written, and nobody knew.
        | Outcome::Failed { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Diagnosis;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::{Left, PlanRecord};
    use crate::domain::plan::{Plan, target};

    fn incident(outcome: Outcome) -> Incident {
        let of = target("default", "shop", "Deployment", "web", "u1");
        let plan = Plan::first(Action::RollBack { target: of, from_revision: 3, to_revision: 2 });
        let record = PlanRecord { outcome, ..PlanRecord::of(plan, String::new()) };
        Incident { plans: vec![record], ..Incident::blank(IncidentId::numbered(1)) }
    }

    #[track_caller]
    fn check(outcome: Outcome, uid: &str, to: i64, expected: Option<&str>) {
        let incident = incident(outcome);
        let of = target("default", "shop", "Deployment", "web", uid);
        assert_eq!(against(std::iter::once(&incident), &incident, &of, to).as_deref(), expected);
    }

    #[test]
    fn what_a_plan_of_ours_went_away_from_is_not_proposed_again() {
        let away = Some("INC-1.P1 rolled back from revision 3");
        check(Outcome::Verified, "u1", 3, away);
        check(Outcome::Failed { because: "the answer was lost".into(), left: Left::Unknown }, "u1", 3, away);
        check(Outcome::Verified, "u1", 1, None);
        check(Outcome::Verified, "another of that name", 3, None);
        let blamed = |change: &str, to: i64| {
            let of = target("default", "shop", "Deployment", "web", "u1");
            let diagnosis = Some(Diagnosis { change: Some(change.into()), ..Diagnosis::blank() });
            let incident = Incident { diagnosis, ..Incident::blank(IncidentId::numbered(1)) };
            against(std::iter::empty(), &incident, &of, to).is_some()
        };
        assert!(blamed("web revision 3", 3) && blamed("shop/deployment/web revision 3", 3));
        assert!(!blamed("web revision 3", 2) && !blamed("shop/my-web revision 3", 3));
        for outcome in [Outcome::Rejected, Outcome::Undone, Outcome::Voided { because: String::new() }] {
            check(outcome, "u1", 3, None);
        }
    }
}
