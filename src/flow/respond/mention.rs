//! What is said to the watch in words rather than by a command.

use std::sync::Arc;

use super::{command, runbook};
use crate::domain::card::{Card, Span, Tone};
use crate::domain::incident::{Incident, IncidentEvent, State};
use crate::domain::narrative::{self, answer, note};
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::{Person, Place};

/// Talks about the incident of the thread, or about the estate.
pub(super) async fn mention(desk: &Arc<Desk>, place: &Place, by: &Person, text: &str) -> Result<Card, FlowError> {
    let incident = match &place.thread {
        Some(thread) => desk.store.incident_of_message(thread).await?,
        None => None,
    };
    let Some(id) = incident else {
        return command(desk, by, text).await;
    };
    let incident = desk.store.incident(&id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let lower = text.to_lowercase();
    let asks = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if asks(&["investigate again", "look again"])
        && matches!(incident.state, State::HandedOver { .. } | State::Diagnosed)
    {
        desk.change(&id, |change| {
            let because = format!("{} asked to look again", by.name);
            change.record(IncidentEvent::InvestigationStarted { reasoner: desk.reasoner_name(), because })?;
            change.tell("root", &Effect::Root);
            Ok(())
        })
        .await?;
        return Ok(note("Looking again; the diagnosis follows here.", Tone::Working));
    }
    if asks(&["what changed", "changes", "deploy", "rollout"]) {
        return evidence_lines(desk, &incident, crate::domain::evidence::EvidenceKind::Change, "What changed").await;
    }
    if asks(&["who approved", "approved", "who decided"]) {
        let lines = incident
            .plans
            .iter()
            .map(|record| {
                let mut spans =
                    vec![Span::plain(format!("{}: {}; ", record.plan.action, record.outcome.word().replace('_', " ")))];
                spans.extend(record.approved_by.iter().map(|by| Span::Person { id: by.clone() }));
                spans
            })
            .collect();
        return Ok(answer("Decisions on plans", lines));
    }
    if asks(&["why not", "why", "cause", "because"]) {
        let named = incident.candidates.iter().find(|candidate| lower.contains(&candidate.node.to_lowercase()));
        let lines = match named {
            Some(candidate) => candidate
                .supports
                .iter()
                .map(|claim| vec![Span::plain("for: "), Span::quoted(claim.text.clone())])
                .chain(
                    candidate
                        .contradicts
                        .iter()
                        .map(|claim| vec![Span::plain("against: "), Span::quoted(claim.text.clone())]),
                )
                .collect(),
            None => incident
                .candidates
                .iter()
                .take(4)
                .map(|one| vec![Span::code(one.node.clone()), Span::plain(format!(" score {:.2}", one.score))])
                .collect(),
        };
        return Ok(answer(&format!("How I came to it ({})", incident.confidence_word()), lines));
    }
    if asks(&["log"]) {
        return evidence_lines(desk, &incident, crate::domain::evidence::EvidenceKind::Log, "New in the logs").await;
    }
    if asks(&["runbook", "how do i", "what should"]) {
        return runbook(desk, &id).await;
    }
    if asks(&["status", "state", "how is", "fixed"]) {
        let lines = vec![vec![Span::plain(format!(
            "{}; {} of {} alerts firing",
            narrative::state_words(&incident.state),
            incident.firing(),
            incident.alert_count()
        ))]];
        return Ok(answer(&incident.title, lines));
    }
    Ok(answer(
        "Without a free conversation I answer these:",
        [
            "what changed?",
            "why not <service>?",
            "who approved this?",
            "what is in the logs?",
            "which runbook?",
            "status?",
            "look again",
        ]
        .into_iter()
        .map(|question| vec![Span::code(question)])
        .collect(),
    ))
}

async fn evidence_lines(
    desk: &Desk,
    incident: &Incident,
    kind: crate::domain::evidence::EvidenceKind,
    headline: &str,
) -> Result<Card, FlowError> {
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let mut lines = vec![];
    for one in evidence.iter().filter(|one| one.kind == kind).rev().take(4) {
        for line in one.body.lines().take(8) {
            lines.push(vec![
                Span::quoted(line.to_owned()),
                Span::plain(" "),
                Span::Evidence { id: one.id.to_string() },
            ]);
        }
    }
    if lines.is_empty() {
        lines.push(vec![Span::plain("nothing was found")]);
    }
    Ok(answer(headline, lines))
}
