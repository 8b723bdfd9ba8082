//! Votes on plans, their expiry, and what the chat hears of it. Authority comes from the policy's
//! list and the proved identity, never from what a card says.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::deliver::Effect;
use super::desk::{Desk, FlowError};
use super::label;
use crate::domain::card::Tone;
use crate::domain::id::PlanId;
use crate::domain::incident::{Decision, IncidentEvent, Outcome, State};
use crate::domain::narrative;
use crate::ports::Person;

/// Reads `plan.digest` as buttons carry it.
pub fn parse_value(value: &str) -> Option<(PlanId, &str)> {
    let (plan, digest) = value.rsplit_once('.')?;
    (!plan.is_empty() && digest.len() == 12).then(|| (PlanId::new(plan), digest))
}

/// One person's vote. The answer is what that person is told.
pub async fn vote(
    desk: &Desk,
    value: &str,
    by: &Person,
    decision: Decision,
    reason: Option<String>,
) -> Result<String, FlowError> {
    let Some((plan, digest)) = parse_value(value) else {
        return Err(FlowError::Refused("this button is not one of mine; open the newest card".into()));
    };
    let incident_id = crate::domain::id::IncidentId::new(plan.as_str().split('.').next().unwrap_or_default());
    let person = by.id.as_str().to_owned();
    if decision == Decision::Approve && !desk.policy.may_approve(&person) {
        desk.audit(
            "approval.refused",
            plan.as_str(),
            serde_json::json!({"by": person, "because": "not in policy.approvers"}),
        )
        .await?;
        return Err(FlowError::Refused(format!(
            "{} may not approve: policy.approvers does not name {person}",
            by.name
        )));
    }
    let (incident, told) = desk
        .change(&incident_id, |change| {
            let wall_now = change.wall_now;
            let Some(record) = change.incident().plan(&plan).cloned() else {
                return Err(FlowError::Refused(format!("{plan} does not exist")));
            };
            if record.plan.digest.short() != digest {
                return Err(FlowError::Refused(
                    "the plan has changed since this card was made; use the newest card".into(),
                ));
            }
            if record.outcome != Outcome::Proposed {
                return Err(FlowError::Refused(already(&record)));
            }
            // A clock that stepped back must not revive a card: what was issued later than "now"
            // counts as expired.
            let issued = record.plan.expires_at - Duration::from_secs(desk.config.policy.approval_seconds);
            if wall_now >= record.plan.expires_at || wall_now + Duration::from_secs(1) < issued {
                return Err(FlowError::Refused("the card has expired; it was handed to people".into()));
            }
            if decision == Decision::Approve
                && (record.approved_by.contains(&person) || record.plan.requester.as_ref() == Some(&person))
            {
                return Err(FlowError::Refused(format!(
                    "your vote is already counted ({} of {})",
                    record.approved_by.len(),
                    record.plan.approvals_needed
                )));
            }
            change.batch.votes.push((plan.to_string(), person.clone(), format!("{decision:?}").to_lowercase()));
            change.record(IncidentEvent::Voted {
                plan: plan.clone(),
                by: person.clone(),
                decision,
                reason: reason.clone(),
            })?;
            let told = match decision {
                Decision::Reject => {
                    change.record(IncidentEvent::PlanRejected {
                        plan: plan.clone(),
                        by: person.clone(),
                        reason: reason.clone(),
                    })?;
                    let because = format!(
                        "the plan was rejected{}",
                        reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
                    );
                    change.record(IncidentEvent::HandedOver { because: because.clone() })?;
                    change.tell(
                        &format!("note/{plan}/rejected"),
                        &Effect::Note {
                            card: narrative::note(
                                "Rejected. The incident is in people's hands; nothing was changed.",
                                Tone::Neutral,
                            ),
                        },
                    );
                    "rejected; nothing will be changed".to_owned()
                }
                Decision::Approve => {
                    let votes = change.incident().plan(&plan).map_or(0, |record| record.approved_by.len());
                    let needed = record.plan.approvals_needed;
                    if votes >= needed {
                        let by =
                            change.incident().plan(&plan).map(|record| record.approved_by.clone()).unwrap_or_default();
                        label::real(change, &person, "approved a plan of it");
                        change.record(IncidentEvent::PlanApproved {
                            plan: plan.clone(),
                            by,
                            digest: record.plan.digest.clone(),
                        })?;
                        "approved; it runs now".to_owned()
                    } else {
                        format!("your vote counts: {votes} of {needed}")
                    }
                }
            };
            change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
            change.tell("root", &Effect::Root);
            Ok(told)
        })
        .await?;
    info!(incident = %incident.id, %plan, by = person, ?decision, "vote counted");
    desk.bells.execution.notify_one();
    Ok(told)
}

fn already(record: &crate::domain::incident::PlanRecord) -> String {
    let who = record
        .rejected_by
        .as_ref()
        .map(|(by, _)| by.clone())
        .or_else(|| record.approved_by.last().cloned())
        .map_or_else(String::new, |by| format!(" by @{}", by.rsplit('/').next().unwrap_or(&by)));
    format!("too late: the plan is already {}{who}", record.outcome.word().replace('_', " "))
}

/// Cards that nobody answered go to people when their time is over.
pub async fn run_expiry(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(1)).await;
        let wall_now = desk.clock.wall_now();
        for incident in desk.store.incidents_in(["awaiting_approval", "awaiting_approval"]).await? {
            let State::Awaiting { plan } = &incident.state else { continue };
            let plan = plan.clone();
            if incident.plan(&plan).is_none_or(|record| record.plan.expires_at > wall_now) {
                continue;
            }
            let expired = desk
                .change(&incident.id, |change| {
                    change.record(IncidentEvent::PlanExpired { plan: plan.clone() })?;
                    change
                        .record(IncidentEvent::HandedOver { because: "nobody decided on the plan in time".into() })?;
                    change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
                    change.tell("root", &Effect::Root);
                    let text = "Nobody decided in time. The incident is in people's hands; nothing was changed.";
                    change.tell(
                        &format!("note/{plan}/expired"),
                        &Effect::Note { card: narrative::note(text, Tone::Alarm) },
                    );
                    Ok(())
                })
                .await;
            match expired {
                Ok(_) => info!(incident = %incident.id, %plan, "plan expired"),
                // Decided in the same moment: that decision stands.
                Err(FlowError::Store(crate::store::StoreError::Illegal(_))) => {}
                Err(failure) => error!(incident = %incident.id, error = %failure, "expiry failed"),
            }
        }
    }
    Ok(())
}
