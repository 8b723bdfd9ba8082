//! What happened to an incident, in the words of people.

use crate::domain::incident::IncidentEvent;

/// One event as a line for people; `None` for what would only be noise in a timeline.
pub fn tell_event(event: &IncidentEvent) -> Option<String> {
    use IncidentEvent as E;
    Some(match event {
        E::Opened { because, severity, .. } => format!("opened as {}: {because}", severity.as_str()),
        E::AlertsJoined { alerts } => {
            let first = alerts.first()?;
            format!("{} alerts joined, e.g. {} about {}: {}", alerts.len(), first.name, first.subject, first.because)
        }
        E::AlertsResolved { alerts, .. } => format!("{} alerts ended", alerts.len()),
        E::SeverityChanged { to, because } => format!("now {}: {because}", to.as_str()),
        E::Retitled { .. } | E::Reasoned { .. } => return None,
        E::Merged { into, because } => format!("went into {into}: {because}"),
        E::Absorbed { from, because, .. } => format!("took {from} in: {because}"),
        E::SplitOff { into, subjects, by, because } => {
            format!("{by} split {} off as {into}: {because}", subjects.join(", "))
        }
        E::CameFrom { from, because, .. } => format!("came from {from}: {because}"),
        E::NotAnIncident { by, because } => format!("not an incident, says {by}: {because}"),
        E::Acknowledged { by } => format!("acknowledged by {by}"),
        E::HandedTo { to, by, because, to_accept } => {
            let because = because.as_ref().map_or_else(String::new, |because| format!(": {because}"));
            let yet = if *to_accept { ", who has not accepted it yet," } else { "" };
            format!("handed to {to}{yet} by {by}{because}")
        }
        E::Accepted { by } => format!("accepted by {by}"),
        E::NotAccepted { to, by } => format!("nobody has it: {to} has not accepted it from {by}"),
        E::Called { step, who, because, .. } if who.is_empty() => {
            format!("called nobody (step {}): {because}", step + 1)
        }
        E::Called { step, who, because, .. } => format!("called {} (step {}): {because}", who.join(", "), step + 1),
        E::PlanReminded { who, .. } => format!("reminded that the approval runs out: {}", who.join(", ")),
        E::InvestigationStarted { reasoner, because } => format!("investigation starts ({reasoner}): {because}"),
        E::EvidenceStored { evidence, summary, .. } => format!("[{}] {summary}", evidence.mark()),
        E::Recalled { past, runbooks } => format!(
            "remembered {} past incidents and {} runbooks{}",
            past.len(),
            runbooks.len(),
            past.first().map_or_else(String::new, |one| format!("; most alike: {}", one.incident))
        ),
        E::Ranked { candidates } => format!(
            "candidates: {}",
            candidates
                .iter()
                .take(3)
                .map(|one| format!("{} ({:.2})", one.node, one.score))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        E::Diagnosed { diagnosis } => format!("diagnosed ({}): {}", diagnosis.verdict.word(), diagnosis.mechanism),
        E::PlanProposed { plan, ruling } => format!("proposed: {} ({} risk; {ruling})", plan.action, plan.tier),
        E::PlanRefused { because } => format!("no action proposed: {because}"),
        E::Voted { by, decision, .. } => format!("{by} votes {decision:?}").to_lowercase(),
        E::PlanApproved { by, .. } => format!("approved by {}", by.join(", ")),
        E::PlanRejected { by, reason, .. } => {
            format!("rejected by {by}{}", reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")))
        }
        E::PlanExpired { .. } => "the approval ran out".into(),
        E::PlanVoided { because, .. } => format!("the plan is void: {because}"),
        E::ExecutionStarted { intent, .. } => format!("execution starts: {intent}"),
        E::ExecutionWrote { result, .. } => format!("written: {result}"),
        E::ExecutionFailed { because, left, .. } => format!("{}: {because}", left.words()),
        E::VerificationPassed { facts, .. } => format!("verified: {}", facts.join("; ")),
        E::VerificationFailed { facts, .. } => format!("not verified: {}", facts.join("; ")),
        E::Overruled { because, .. } => format!("overruled: {because}"),
        E::Compensated { result, .. } => format!("undo: {result}"),
        E::HandedOver { because } => format!("handed to people: {because}"),
        E::Recurred { because, .. } => format!("it came back: {because}"),
        E::Resolved { because, by: Some(by), .. } => format!("closed by {by}: {because}"),
        E::Resolved { because, by: None, .. } => format!("resolved: {because}"),
        E::PostMortemWritten { .. } => "post-mortem written and kept in memory".into(),
        E::Feedback { by, helpful, reason } => {
            let thumb = if *helpful { "helpful" } else { "not helpful" };
            format!("{by}: {thumb}{}", reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}")))
        }
        E::Noted { by, text } => format!("{by}: {text}"),
    })
}
