//! A person ends an incident, in their own name.
//!
//! Invariants: nothing is closed while a plan of it is carried out; what fires on, and what a plan may have left
//! in the estate, is told to whoever closes it; it says nothing of how good a plan, or a mute, would have been.

use std::time::Duration;

use crate::domain::alert::Severity;
use crate::domain::card::{Block, Card, Span};
use crate::domain::id::IncidentId;
use crate::domain::incident::{AlertGroup, Incident, IncidentEvent, Left, Outcome, State};
use crate::domain::narrative::{answer, by_gravity};
use crate::domain::time::spoken;
use crate::flow::command::story;
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::Person;

pub(super) async fn close(desk: &Desk, by: &Person, id: &IncidentId, because: &str) -> Result<Card, FlowError> {
    let event_now = desk.clock.event_now();
    let outlast = Duration::from_secs(desk.config.remediation.outlast_seconds);
    let (incident, lines) = desk
        .change(id, |change| {
            if change.incident().state.is_over() {
                return Ok(None);
            }
            if let Some(why) = is_under_way(change.incident()) {
                return Err(FlowError::Refused(why));
            }
            let mut lines = vec![];
            if let State::Awaiting { plan } = change.incident().state.clone() {
                let because = format!("{} closed {id}: {because}", by.name);
                change.record(IncidentEvent::PlanVoided { plan: plan.clone(), because })?;
                lines.push(vec![Span::plain(format!(
                    "{plan}, which waited for a decision, is void; nothing was changed"
                ))]);
                change.tell(&format!("plan/{plan}"), &Effect::Approval { plan });
            }
            change.record(IncidentEvent::Resolved {
                because: because.to_owned(),
                event_at: event_now,
                by: Some(by.id.to_string()),
            })?;
            lines.extend(remains(change.incident(), outlast));
            change.tell("root", &Effect::Root);
            let card = told(by, because, &lines);
            change.tell(&format!("note/closed/{}", change.incident().version), &Effect::Note { card });
            Ok(Some(lines))
        })
        .await?;
    match lines {
        Some(lines) => Ok(answer(&format!("{id} is closed in your name: {because}"), lines)),
        None => Err(FlowError::Refused(ended_before(desk, &incident).await?)),
    }
}

/// Why a plan of it must come to its end first.
fn is_under_way(incident: &Incident) -> Option<String> {
    let id = &incident.id;
    match &incident.state {
        State::Executing { plan } => Some(format!("{plan} is being carried out; close {id} when it has ended")),
        State::Verifying { plan } => {
            Some(format!("{plan} was carried out, and its effect is looked at; close {id} when that has ended"))
        }
        State::Open | State::Investigating | State::Diagnosed | State::Awaiting { .. } => None,
        State::HandedOver { .. } | State::Resolved { .. } | State::Merged { .. } => None,
    }
}

/// Since when it is over, and by whom.
async fn ended_before(desk: &Desk, incident: &Incident) -> Result<String, FlowError> {
    let events = story(desk, &incident.id).await?;
    let is_end = |event: &IncidentEvent| matches!(event, IncidentEvent::Resolved { .. } | IncidentEvent::Merged { .. });
    let at = events.iter().rev().find(|(_, event)| is_end(event)).map(|(at, _)| *at);
    let since = at.map_or_else(String::new, |at| format!(" since {}", at.clock_near(desk.clock.wall_now())));
    let id = &incident.id;
    Ok(match &incident.state {
        State::Resolved { because, by: Some(by) } => format!("{id} is over{since}: {by} closed it: {because}"),
        State::Resolved { because, by: None } => format!("{id} is over{since}: {because}"),
        State::Merged { into } => format!("{id} is part of {into}{since}; close that one"),
        State::Open | State::Investigating | State::Diagnosed | State::Awaiting { .. } => format!("{id} is not over"),
        State::Executing { .. } | State::Verifying { .. } | State::HandedOver { .. } => format!("{id} is not over"),
    })
}

/// For the thread.
fn told(by: &Person, because: &str, lines: &[Vec<Span>]) -> Card {
    let spans = vec![
        Span::bold("Closed by "),
        Span::Person { id: by.id.to_string() },
        Span::plain(": "),
        Span::quoted(because),
    ];
    let mut blocks = vec![Block::Text { spans }];
    if !lines.is_empty() {
        blocks.push(Block::List { items: lines.to_vec() });
    }
    Card { fallback: format!("Closed by {}: {because}", by.name), blocks }
}

/// What fires on, what becomes of it, and what a plan may have left.
fn remains(incident: &Incident, outlast: Duration) -> Vec<Vec<Span>> {
    let mut lines: Vec<Vec<Span>> = fires_on(incident, outlast).into_iter().collect();
    for record in &incident.plans {
        let (word, because) = match &record.outcome {
            Outcome::Failed { left: left @ (Left::Part | Left::Unknown), because } => (left.words(), because),
            Outcome::NotUndone { because } => ("carried out and not undone", because),
            Outcome::Failed { left: Left::Nothing, .. }
            | Outcome::Proposed
            | Outcome::Approved
            | Outcome::Rejected
            | Outcome::Expired
            | Outcome::Voided { .. }
            | Outcome::Started
            | Outcome::Written
            | Outcome::Verified
            | Outcome::NotVerified
            | Outcome::Undone
            | Outcome::Recurred
            | Outcome::Overruled { .. } => continue,
        };
        lines.push(vec![
            Span::plain(format!("{} was {word}, and what it has left stays as it is: ", record.plan.id)),
            Span::quoted(format!("{} ({because})", record.plan.action)),
            Span::plain("; look at "),
            Span::code(record.plan.action.target().to_string()),
        ]);
    }
    lines
}

/// Kinds of alert that are named.
const NAMED: usize = 5;

fn fires_on(incident: &Incident, outlast: Duration) -> Option<Vec<Span>> {
    let mut firing: Vec<&AlertGroup> = incident.alerts.values().filter(|group| group.count > group.resolved).collect();
    firing.sort_by(|one, other| by_gravity(one, other));
    let critical = firing.iter().filter(|group| group.severity == Severity::Critical).count();
    let count = incident.firing();
    let after = spoken(outlast);
    let then = match (critical, count) {
        (_, 0) => return None,
        _ if outlast.is_zero() => {
            "no new incident is opened while they fire on (remediation.outlast_seconds)".to_owned()
        }
        (0, _) => "nothing of it is critical, so that no new incident is opened while it fires on".to_owned(),
        (_, 1) => format!("it is told as an incident again if it fires on for {after}, unless it is muted"),
        (_, _) => format!("what is critical and not muted is told as an incident again if it fires on for {after}"),
    };
    let mut names: Vec<String> =
        firing.iter().take(NAMED).map(|group| format!("{} about {}", group.name, group.subject)).collect();
    if firing.len() > NAMED {
        names.push(format!("and {} more kinds", firing.len() - NAMED));
    }
    let lead = if count == 1 {
        "1 of its alerts still fires: ".to_owned()
    } else {
        format!("{count} of its alerts still fire: ")
    };
    Some(vec![Span::plain(lead), Span::quoted(names.join(", ")), Span::plain(format!("; {then}"))])
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::domain::action::Action;
    use crate::domain::card::plain;
    use crate::domain::incident::PlanRecord;
    use crate::domain::plan::{Plan, target};
    use crate::domain::time::Timestamp;

    /// Name, severity, how many and how many of them have ended.
    fn incident(alerts: &[(&str, Severity, usize, usize)]) -> Incident {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        for (name, severity, count, resolved) in alerts {
            let group = AlertGroup {
                count: *count,
                resolved: *resolved,
                ..AlertGroup::new(name, "pay", *severity, Timestamp::default())
            };
            incident.alerts.insert((*name).into(), group);
        }
        incident
    }

    #[track_caller]
    fn check(incident: &Incident, outlast: u64, expected: Expect) {
        let lines = remains(incident, Duration::from_secs(outlast));
        expected.assert_eq(&lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn what_fires_on_and_what_becomes_of_it_is_told() {
        use Severity::{Critical, Warning};
        check(&incident(&[("Down", Critical, 2, 2)]), 1800, expect![""]);
        check(
            &incident(&[("Down", Critical, 2, 1)]),
            1800,
            expect![
                "1 of its alerts still fires: Down about pay; it is told as an incident again if it fires on for 30 min, unless it is muted"
            ],
        );
        check(
            &incident(&[("Down", Critical, 2, 0)]),
            90,
            expect![
                "2 of its alerts still fire: Down about pay; what is critical and not muted is told as an incident again if it fires on for 1 min 30 s"
            ],
        );
        check(
            &incident(&[("Down", Critical, 1, 0), ("Slow", Warning, 3, 1)]),
            1800,
            expect![
                "3 of its alerts still fire: Down about pay, Slow about pay; what is critical and not muted is told as an incident again if it fires on for 30 min"
            ],
        );
        check(
            &incident(&[("Slow", Warning, 1, 0)]),
            1800,
            expect![
                "1 of its alerts still fires: Slow about pay; nothing of it is critical, so that no new incident is opened while it fires on"
            ],
        );
        check(
            &incident(&[("Down", Critical, 2, 0)]),
            0,
            expect![
                "2 of its alerts still fire: Down about pay; no new incident is opened while they fire on (remediation.outlast_seconds)"
            ],
        );
    }

    #[test]
    fn what_a_plan_may_have_left_is_named() {
        let action = Action::Restart { target: target("default", "shop", "Deployment", "pay", "u1") };
        let mut incident = incident(&[]);
        let because = "the answer was lost".to_owned();
        for outcome in [
            Outcome::Failed { because: because.clone(), left: Left::Nothing },
            Outcome::Failed { because: because.clone(), left: Left::Unknown },
            Outcome::Verified,
        ] {
            incident.plans.push(PlanRecord { outcome, ..PlanRecord::of(Plan::first(action.clone()), "r".into()) });
        }
        let lines = remains(&incident, Duration::ZERO);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let said = plain(line);
        assert!(said.starts_with("INC-1.P1 was perhaps carried out, and what it has left stays as it is: "), "{said}");
        assert!(said.contains("(the answer was lost); look at ") && said.contains("pay"), "{said}");
    }

    #[test]
    fn what_is_being_carried_out_comes_to_its_end_first() {
        let mut incident = incident(&[]);
        let plan = incident.id.plan(1);
        assert_eq!(is_under_way(&incident), None);
        incident.state = State::Executing { plan: plan.clone() };
        let why = "INC-1.P1 is being carried out; close INC-1 when it has ended";
        assert_eq!(is_under_way(&incident).as_deref(), Some(why));
        incident.state = State::Verifying { plan: plan.clone() };
        assert!(is_under_way(&incident).is_some_and(|why| why.contains("its effect is looked at")));
        incident.state = State::Awaiting { plan };
        assert_eq!(is_under_way(&incident), None);
    }
}
