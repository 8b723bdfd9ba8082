//! Votes on plans, their expiry, and what the chat hears of it. Authority comes from the policy's
//! list, its user groups and the proved identity, never from what a card says.
//!
//! Invariants: one vote a plan and person, but whoever approved may still reject until it is decided; who
//! asked for the plan does not count (S6); the count is taken in the transaction that decides; what comes
//! late changes nothing and is told who was first.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::assess::close_when_over;
use super::command::story;
use super::deliver::Effect;
use super::desk::{Decision as Change, Desk, FlowError};
use super::{escalate, label};
use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::id::{IncidentId, PlanId};
use crate::domain::incident::{Decision, Incident, IncidentEvent, Outcome, PlanRecord, State};
use crate::domain::narrative;
use crate::domain::time::{Timestamp, spoken};
use crate::ports::Person;

/// Reads `plan.digest` as buttons carry it.
pub fn parse_value(value: &str) -> Option<(PlanId, &str)> {
    let (plan, digest) = value.rsplit_once('.')?;
    (!plan.is_empty() && digest.len() == 12).then(|| (PlanId::new(plan), digest))
}

fn incident_of(plan: &PlanId) -> IncidentId {
    IncidentId::new(plan.as_str().split('.').next().unwrap_or_default())
}

/// `verb`: what the person wants to do with it, as a command is called.
async fn parsed<'a>(
    desk: &Desk,
    value: &'a str,
    by: &Person,
    verb: &'static str,
) -> Result<(PlanId, &'a str), FlowError> {
    match parse_value(value) {
        Some(parsed) => Ok(parsed),
        None => Err(FlowError::Refused(whole_word(desk, value.trim(), by, verb).await?)),
    }
}

/// People type the plan and leave out the digest; they are told the word that holds both.
async fn whole_word(desk: &Desk, value: &str, by: &Person, verb: &str) -> Result<String, FlowError> {
    let plan = PlanId::new(value.to_uppercase());
    let Some(incident) = desk.store.incident(&incident_of(&plan)).await? else {
        return Ok(format!("{value:?} names no plan; open the newest card, it carries plan and digest"));
    };
    let Some(record) = incident.plan(&plan) else { return Ok(no_such_plan(&incident, &plan)) };
    if record.outcome != Outcome::Proposed {
        return why_late(desk, &incident, &plan, by.id.as_str()).await;
    }
    Ok(format!("write /ops {verb} {plan}.{}: the digest binds it to what you read", record.plan.digest.short()))
}

fn no_such_plan(incident: &Incident, plan: &PlanId) -> String {
    let known: Vec<&str> = incident.plans.iter().map(|record| record.plan.id.as_str()).collect();
    match known.is_empty() {
        true => format!("{} has no plan: nothing was proposed", incident.id),
        false => format!("{plan} does not exist; {} has {}", incident.id, known.join(", ")),
    }
}

/// What became of a vote.
enum Voted {
    Counted(String),
    /// Somebody was first, or the person has voted before: why, from the log.
    Late,
}

/// One person's vote. The answer is what that person is told.
pub async fn vote(
    desk: &Desk,
    value: &str,
    by: &Person,
    decision: Decision,
    reason: Option<String>,
) -> Result<String, FlowError> {
    let verb = match decision {
        Decision::Approve => "approve",
        Decision::Reject => "reject",
    };
    let (plan, digest) = parsed(desk, value, by, verb).await?;
    let incident_id = incident_of(&plan);
    let person = by.id.as_str().to_owned();
    if let Err(because) = desk.authority_of(&by.id).await {
        let body = serde_json::json!({"by": person, "decision": decision, "because": because});
        desk.audit("approval.refused", plan.as_str(), body).await?;
        return Err(FlowError::Refused(format!("{} may not decide on plans: {because}", by.name)));
    }
    if decision == Decision::Approve
        && let Some(because) = uncounted(desk, &plan, &person).await?
    {
        let body = serde_json::json!({"by": person, "decision": decision, "because": because});
        desk.audit("approval.refused", plan.as_str(), body).await?;
        return Err(FlowError::Refused(format!("this approval does not count: {because}")));
    }
    let reopens = desk.model.is_some() && reason.is_some();
    let (incident, voted) = desk
        .change(&incident_id, |change| {
            let Some(record) = change.incident().plan(&plan).cloned() else {
                return Err(FlowError::Refused(format!("{plan} does not exist")));
            };
            let voted_before = record.approved_by.contains(&person);
            // Whoever sees the mistake in time may still stop the plan that they approved.
            if record.outcome != Outcome::Proposed || (voted_before && decision == Decision::Approve) {
                return Ok(Voted::Late);
            }
            still_valid(desk, &record, digest, change.wall_now)?;
            if decision == Decision::Approve && record.plan.requester.as_ref() == Some(&person) {
                return Err(FlowError::Refused(format!(
                    "you asked for this plan, so somebody else must approve it ({} of {})",
                    record.approved_by.len(),
                    record.plan.approvals_needed
                )));
            }
            if !voted_before {
                change.batch.votes.push((plan.to_string(), person.clone(), format!("{decision:?}").to_lowercase()));
            }
            change.record(IncidentEvent::Voted {
                plan: plan.clone(),
                by: person.clone(),
                decision,
                reason: reason.clone(),
            })?;
            let told = match decision {
                Decision::Reject => rejected(desk, change, &plan, &person, reason.as_deref(), reopens)?,
                Decision::Approve => approved(change, &record, &person)?,
            };
            change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
            change.tell("root", &Effect::Root);
            Ok(Voted::Counted(told))
        })
        .await?;
    let Voted::Counted(told) = voted else {
        return Err(FlowError::Refused(why_late(desk, &incident, &plan, &person).await?));
    };
    info!(incident = %incident.id, %plan, by = person, ?decision, "vote counted");
    desk.bells.execution.notify_one();
    Ok(told)
}

/// Why the approval of somebody who may approve is none for this plan. Whoever comes late hears that instead.
async fn uncounted(desk: &Desk, plan: &PlanId, person: &str) -> Result<Option<&'static str>, FlowError> {
    let incident = desk.store.incident(&incident_of(plan)).await?;
    let record = incident.as_ref().and_then(|incident| incident.plan(plan));
    let proposed = record.filter(|record| record.outcome == Outcome::Proposed).map(|record| &record.plan);
    Ok(proposed.and_then(|plan| desk.policy.uncounted(person, &plan.sought())))
}

fn still_valid(desk: &Desk, record: &PlanRecord, digest: &str, wall_now: Timestamp) -> Result<(), FlowError> {
    if record.plan.digest.short() != digest {
        return Err(FlowError::Refused("the plan has changed since this card was made; use the newest card".into()));
    }
    // A clock that stepped back must not revive a card: what was issued later than "now" counts as
    // expired.
    if is_over(desk, record, wall_now) {
        return Err(FlowError::Refused("the card has expired; it was handed to people".into()));
    }
    Ok(())
}

fn approved(change: &mut Change<'_>, record: &PlanRecord, person: &str) -> Result<String, FlowError> {
    let plan = &record.plan.id;
    let by = change.incident().plan(plan).map(|record| record.approved_by.clone()).unwrap_or_default();
    let needed = record.plan.approvals_needed;
    if by.len() < needed {
        return Ok(format!("your vote counts: {} of {needed}: {}", by.len(), names(&by)));
    }
    label::real(change, person, "approved a plan of it");
    change.record(IncidentEvent::PlanApproved { plan: plan.clone(), by, digest: record.plan.digest.clone() })?;
    Ok("approved; it runs now".to_owned())
}

/// With a model the investigation goes on with the reason; without one people have it.
fn rejected(
    desk: &Desk,
    change: &mut Change<'_>,
    plan: &PlanId,
    person: &str,
    reason: Option<&str>,
    reopens: bool,
) -> Result<String, FlowError> {
    change.record(IncidentEvent::PlanRejected {
        plan: plan.clone(),
        by: person.to_owned(),
        reason: reason.map(str::to_owned),
    })?;
    let because = format!("the plan was rejected{}", reason.map_or_else(String::new, |reason| format!(": {reason}")));
    change.record(IncidentEvent::HandedOver { because: because.clone() })?;
    let text = if reopens {
        change.record(IncidentEvent::InvestigationStarted { reasoner: desk.reasoner_name(), because })?;
        "Rejected; nothing was changed. I look again with what was said."
    } else {
        "Rejected. The incident is in people's hands; nothing was changed."
    };
    if !reopens {
        close_when_over(change, desk.clock.event_now())?;
    }
    let card = narrative::note(text, Tone::Neutral);
    change.tell(&format!("note/{plan}/rejected"), &Effect::Note { card });
    Ok(match reopens {
        true => "rejected; nothing will be changed, and the reason is read by the next look".to_owned(),
        false => "rejected; nothing will be changed".to_owned(),
    })
}

/// Sends the investigation back with a question; the card is void, since its answer may change the plan.
pub async fn ask_more(desk: &Desk, value: &str, by: &Person, question: Option<String>) -> Result<String, FlowError> {
    let (plan, digest) = parsed(desk, value, by, "ask").await?;
    desk.must_have_authority(by, "ask for more about plans").await?;
    let asked = question.as_deref().map_or_else(|| "more".to_owned(), |question| format!("about it: {question}"));
    let (incident, late) = desk
        .change(&incident_of(&plan), |change| {
            let Some(record) = change.incident().plan(&plan).cloned() else {
                return Err(FlowError::Refused(format!("{plan} does not exist")));
            };
            if record.outcome != Outcome::Proposed {
                return Ok(true);
            }
            still_valid(desk, &record, digest, change.wall_now)?;
            let because = format!("{} asked {asked}", by.name);
            if let Some(question) = &question {
                let text = format!("{QUESTION}{plan}: {question}");
                change.record(IncidentEvent::Noted { by: by.id.to_string(), text })?;
            }
            change.record(IncidentEvent::PlanVoided { plan: plan.clone(), because: because.clone() })?;
            change.record(IncidentEvent::HandedOver { because: "more was asked; looking again".into() })?;
            change.record(IncidentEvent::InvestigationStarted { reasoner: desk.reasoner_name(), because })?;
            change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
            change.tell("root", &Effect::Root);
            Ok(false)
        })
        .await?;
    if late {
        return Err(FlowError::Refused(why_late(desk, &incident, &plan, by.id.as_str()).await?));
    }
    Ok(match desk.model {
        Some(_) => "Looking again with your question; a new diagnosis follows in the thread.".to_owned(),
        None => "Looking again; a new diagnosis follows in the thread. No model is configured, so the question \
                 itself is kept for people and not weighed."
            .to_owned(),
    })
}

/// How questions about a plan begin in the log.
const QUESTION: &str = "asked about ";

/// What people on call have said so far: reasons of rejections, questions, and what was wrong, oldest first.
pub(super) fn said(events: &[(Timestamp, IncidentEvent)]) -> Vec<(String, String)> {
    events
        .iter()
        .filter_map(|(_, event)| match event {
            IncidentEvent::PlanRejected { plan, by, reason: Some(reason) } => {
                Some((by.clone(), format!("{plan} was rejected: {reason}")))
            }
            IncidentEvent::Feedback { by, helpful: false, reason: Some(reason) } => {
                Some((by.clone(), format!("the diagnosis was called wrong: {reason}")))
            }
            IncidentEvent::Noted { by, text } if text.starts_with(QUESTION) => Some((by.clone(), text.clone())),
            _ => None,
        })
        .collect()
}

/// "already approved by @a 10:04": who was first, and when.
async fn why_late(desk: &Desk, incident: &Incident, plan: &PlanId, person: &str) -> Result<String, FlowError> {
    let events = story(desk, &incident.id).await?;
    let at = |found: &dyn Fn(&IncidentEvent) -> bool| {
        let event = events.iter().rev().find(|(_, event)| found(event));
        event.map_or_else(String::new, |(at, _)| format!(" {}", at.hour_minute()))
    };
    let Some(record) = incident.plan(plan) else { return Ok(format!("{plan} does not exist")) };
    let of = |other: &PlanId| other == plan;
    Ok(match &record.outcome {
        Outcome::Proposed => {
            let voted = at(&|event| matches!(event, IncidentEvent::Voted { plan, by, .. } if of(plan) && by == person));
            format!(
                "your vote is already counted{voted} ({} of {}: {})",
                record.approved_by.len(),
                record.plan.approvals_needed,
                names(&record.approved_by)
            )
        }
        Outcome::Rejected => {
            let by = record.rejected_by.as_ref().map_or("", |(by, _)| by.as_str());
            let why = record.rejected_by.as_ref().and_then(|(_, why)| why.as_ref());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let at = at(&|event| matches!(event, IncidentEvent::PlanRejected { plan, .. } if of(plan)));
            format!("already rejected by {}{at}{why}", names(&[by.to_owned()]))
        }
        Outcome::Expired => {
            let at = at(&|event| matches!(event, IncidentEvent::PlanExpired { plan } if of(plan)));
            format!("too late: it expired{at} and was handed to people")
        }
        Outcome::Voided { because } => {
            let at = at(&|event| matches!(event, IncidentEvent::PlanVoided { plan, .. } if of(plan)));
            format!("too late: it is void{at}: {because}")
        }
        done @ (Outcome::Approved
        | Outcome::Started
        | Outcome::Written
        | Outcome::Failed { .. }
        | Outcome::Verified
        | Outcome::NotVerified
        | Outcome::Undone
        | Outcome::NotUndone { .. }
        | Outcome::Recurred
        | Outcome::Overruled { .. }) => {
            let at = at(&|event| matches!(event, IncidentEvent::PlanApproved { plan, .. } if of(plan)));
            let who = if record.approved_by.is_empty() { "the policy".to_owned() } else { names(&record.approved_by) };
            let word = done.word().replace('_', " ");
            let now = if *done == Outcome::Approved { String::new() } else { format!("; it is {word} now") };
            format!("already approved by {who}{at}{now}")
        }
    })
}

fn names(people: &[String]) -> String {
    let short = |person: &String| format!("@{}", person.rsplit('/').next().unwrap_or(person));
    people.iter().map(short).collect::<Vec<_>>().join(", ")
}

/// Cards that nobody answers: people are reminded when a third of the time is left, and have it when
/// the time is over.
pub async fn run_expiry(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(1)).await;
        let wall_now = desk.clock.wall_now();
        for incident in desk.store.incidents_in(["awaiting_approval", "awaiting_approval"]).await? {
            let State::Awaiting { plan } = &incident.state else { continue };
            let Some(record) = incident.plan(plan) else { continue };
            let outcome = if is_over(&desk, record, wall_now) {
                expire(&desk, &incident, plan).await
            } else if incident.reminded.as_ref() != Some(plan) && reminder_at(&desk, record) <= wall_now {
                remind(&desk, &incident, record, wall_now).await
            } else {
                continue;
            };
            match outcome {
                Ok(()) => {}
                // Decided in the same moment: that decision stands.
                Err(FlowError::Store(crate::store::StoreError::Illegal(_))) => {}
                Err(failure) => error!(incident = %incident.id, error = %failure, "expiry failed"),
            }
        }
    }
    Ok(())
}

/// Whether nobody can decide any more. A clock that stands before the moment in which the plan was made
/// has been turned back, and then nobody knows how long it has waited.
fn is_over(desk: &Desk, record: &PlanRecord, wall_now: Timestamp) -> bool {
    let issued = record.plan.expires_at - Duration::from_secs(desk.config.policy.approval_seconds);
    wall_now >= record.plan.expires_at || wall_now + Duration::from_secs(1) < issued
}

fn reminder_at(desk: &Desk, record: &PlanRecord) -> Timestamp {
    record.plan.expires_at - Duration::from_secs(desk.config.policy.approval_seconds / 3)
}

async fn remind(desk: &Desk, incident: &Incident, record: &PlanRecord, wall_now: Timestamp) -> Result<(), FlowError> {
    let plan = &record.plan;
    let called = escalate::who_has_it(desk, incident).await;
    let who: Vec<_> = called.into_iter().filter(|one| !record.approved_by.contains(&one.id_or_name())).collect();
    let given = record.approved_by.len();
    let text = format!(
        "The approval of {} runs out in {}: {given} of {} given. ",
        plan.id,
        spoken(plan.expires_at.since(wall_now)),
        plan.approvals_needed
    );
    let mut spans = vec![Span::bold(text.clone())];
    for one in &who {
        spans.push(one.span());
        spans.push(Span::plain(" "));
    }
    let card = Card { fallback: text, blocks: vec![Block::Text { spans }] };
    desk.change(&incident.id, |change| {
        let who = who.iter().map(escalate::Called::id_or_name).collect();
        change.record(IncidentEvent::PlanReminded { plan: plan.id.clone(), who })?;
        change.tell(&format!("note/{}/reminder", plan.id), &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    info!(incident = %incident.id, plan = %plan.id, "people were reminded of the plan");
    Ok(())
}

async fn expire(desk: &Desk, incident: &Incident, plan: &PlanId) -> Result<(), FlowError> {
    let who = escalate::who_has_it(desk, incident).await;
    let text = "Nobody decided in time. The incident is in people's hands; nothing was changed. ";
    let mut spans = vec![Span::bold(text)];
    for one in &who {
        spans.push(one.span());
        spans.push(Span::plain(" "));
    }
    let card = Card { fallback: text.trim().to_owned(), blocks: vec![Block::Text { spans }] };
    desk.change(&incident.id, |change| {
        change.record(IncidentEvent::PlanExpired { plan: plan.clone() })?;
        change.record(IncidentEvent::HandedOver { because: "nobody decided on the plan in time".into() })?;
        close_when_over(change, desk.clock.event_now())?;
        change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
        change.tell("root", &Effect::Root);
        change.tell(&format!("note/{plan}/expired"), &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    info!(incident = %incident.id, %plan, "plan expired");
    Ok(())
}
