//! Commands that only look: status, incidents, why, runbooks, the audit trail.

use std::time::Duration;

use super::pause;
use crate::domain::alert::Fingerprint;
use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::command::{Which, Wrong};
use crate::domain::id::{IncidentId, PlanId};
use crate::domain::incident::{Incident, IncidentEvent, PlanRecord};
use crate::domain::narrative::{answer, note, state_words};
use crate::domain::time::Timestamp;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{label, report, timeline};
use crate::memory::{Kind, Query, Recalled, Tenant, Trust};
use crate::ports::Person;
use crate::store::Scope;

const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// Lines of an answer; what is more stands on the incident's page.
const MOST_LINES: usize = 25;

pub(super) async fn status(desk: &Desk) -> Result<Card, FlowError> {
    let open = desk.store.incidents(Scope::NotOver).await?;
    let report = report::report(desk, Some(desk.clock.wall_now() - A_DAY)).await?;
    let mut lines = vec![vec![Span::plain(format!("{} open incidents", open.len()))]];
    let words = report.funnel.in_words();
    lines.extend(words.into_iter().map(|line| vec![Span::plain(format!("last 24 h: {line}"))]));
    lines.push(vec![Span::plain(format!("prefilter {}", report.prefilter.mode))]);
    lines.push(vec![Span::plain(label::in_words(&report.audit))]);
    lines.push(vec![Span::plain(match &desk.model {
        Some(model) => format!("model {}", model.name()),
        None => "no model configured: deterministic reasoning".into(),
    })]);
    let pauses = pause::holding(desk).await?;
    if pauses.is_empty() {
        lines.push(vec![Span::plain("not paused")]);
    }
    for (scope, why) in pauses {
        lines.push(vec![Span::quoted(format!("PAUSED ({scope}): {why}"))]);
    }
    Ok(answer("The watch stands", lines))
}

pub(super) async fn incidents(desk: &Desk, by: &Person, which: Which) -> Result<Card, FlowError> {
    let (scope, word) = match which {
        Which::Open => (Scope::NotOver, "open"),
        Which::Mine => (Scope::All, "of yours"),
    };
    let me = by.id.as_str();
    let mine = |incident: &Incident| {
        incident.owner.as_deref() == Some(me)
            || incident.plans.iter().any(|record| {
                record.approved_by.iter().any(|one| one == me)
                    || record.rejected_by.as_ref().is_some_and(|(one, _)| one == me)
            })
    };
    let mut found = desk.store.incidents(scope).await?;
    found.retain(|incident| which == Which::Open || mine(incident));
    let count = found.len();
    let lines = found
        .iter()
        .rev()
        .take(MOST_LINES)
        .map(|incident| {
            vec![
                Span::Link { text: incident.id.to_string(), path: format!("/incident/{}", incident.id) },
                Span::plain(format!(" {} ", incident.severity.as_str())),
                Span::quoted(incident.title.clone()),
                Span::plain(format!(": {}", state_words(&incident.state))),
            ]
        })
        .collect();
    Ok(answer(&format!("{count} incidents {word}").replace("incidents open", "open incidents"), lines))
}

pub(super) async fn explain(desk: &Desk, what: &str) -> Result<Card, FlowError> {
    if let Some((incident, _)) = what.split_once(".P")
        && let Some(id) = IncidentId::parse(incident)
        && let Some(incident) = desk.store.incident(&id).await?
    {
        // A card's value names plan and digest; people copy either.
        let asked = what.to_uppercase();
        let named = |record: &&PlanRecord| {
            asked.trim_start_matches(|char: char| !char.is_ascii_digit())
                == record.plan.id.as_str().trim_start_matches("INC-")
                || what.starts_with(&format!("{}.", record.plan.id))
        };
        return match incident.plans.iter().find(named) {
            Some(record) => explain_plan(desk, &incident, record).await,
            None => {
                let plans: Vec<String> = incident.plans.iter().map(|record| record.plan.id.to_string()).collect();
                Ok(unknown(&format!("{id} has no plan {what}"), plans.first().map_or("explain INC-1.P1", |one| one)))
            }
        };
    }
    let looks_like_one = what.to_uppercase().starts_with("INC") || what.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_one
        && let Some(id) = IncidentId::parse(what)
        && let Some(incident) = desk.store.incident(&id).await?
    {
        return explain_incident(desk, &incident).await;
    }
    explain_alert(desk, what).await
}

fn unknown(why: &str, example: &str) -> Card {
    let example = if example.starts_with("explain") { example.to_owned() } else { format!("explain {example}") };
    super::say_what_is_right(&Wrong { why: why.to_owned(), did_you_mean: None, example })
}

async fn explain_incident(desk: &Desk, incident: &Incident) -> Result<Card, FlowError> {
    let mut lines = vec![vec![Span::plain(format!("{}: {}", incident.severity.as_str(), incident.severity_because))]];
    for candidate in incident.candidates.iter().take(4) {
        let why = candidate.supports.first().map(|claim| claim.text.clone()).unwrap_or_default();
        let against =
            candidate.contradicts.first().map(|claim| format!("; against it: {}", claim.text)).unwrap_or_default();
        lines.push(vec![
            Span::code(candidate.node.clone()),
            Span::plain(format!(" score {:.2}: ", candidate.score)),
            Span::quoted(format!("{why}{against}")),
        ]);
    }
    for row in desk.store.ledger_of(incident.id.as_str(), 4).await? {
        lines.push(vec![
            Span::quoted(format!("{} {}", row.name, row.subject)),
            Span::plain(format!(" {}: ", row.reason)),
            Span::quoted(row.explanation),
        ]);
    }
    Ok(answer(&format!("Why {} is as it is", incident.id), lines))
}

async fn explain_plan(desk: &Desk, incident: &Incident, record: &PlanRecord) -> Result<Card, FlowError> {
    let plan = &record.plan;
    let mut lines = vec![
        vec![Span::plain("because "), Span::quoted(plan.because.clone())],
        vec![Span::plain(format!("{} risk: {}; {}", plan.tier, record.ruling, plan.blast.text))],
    ];
    if !plan.evidence.is_empty() {
        let mut spans = vec![Span::plain("evidence ")];
        spans.extend(plan.evidence.iter().map(|id| Span::Evidence { id: id.to_string() }));
        lines.push(spans);
    }
    if let Some(diagnosis) = &incident.diagnosis {
        lines.extend(
            diagnosis
                .ruled_out
                .iter()
                .take(3)
                .map(|claim| vec![Span::plain("ruled out: "), Span::quoted(claim.text.clone())]),
        );
    }
    for (at, event) in story(desk, &incident.id).await? {
        if concerns(&event, &plan.id)
            && let Some(text) = timeline::tell_event(&event)
        {
            lines.push(vec![Span::plain(format!("{} ", at.hour_minute())), Span::quoted(text)]);
        }
    }
    let word = record.outcome.word().replace('_', " ");
    Ok(answer(&format!("{}: {} ({word}, digest {})", plan.id, plan.action, plan.digest.short()), lines))
}

async fn explain_alert(desk: &Desk, what: &str) -> Result<Card, FlowError> {
    let rows = desk.store.ledger_of(what, 6).await?;
    if rows.is_empty() {
        return Ok(unknown("nothing in the ledger has that name, fingerprint or incident", "explain HighErrorRate"));
    }
    let newest = rows.first().and_then(|row| Fingerprint::parse(&row.fingerprint));
    let mut lines: Vec<Vec<Span>> = rows
        .into_iter()
        .map(|row| {
            vec![
                Span::quoted(format!("{} {}", row.name, row.subject)),
                Span::plain(format!(" {} ({}): ", row.verdict, row.reason.replace('_', " "))),
                Span::quoted(row.explanation),
            ]
        })
        .collect();
    if let Some(fingerprint) = newest {
        let again = desk.store.sent_again(fingerprint, desk.clock.wall_now() - A_DAY).await?;
        if let Some(last_at) = again.last_at {
            let text = format!("sent {} times more within a day, last at {}", again.times, last_at.clock_time());
            lines.push(vec![Span::plain(text)]);
        }
    }
    Ok(answer("What was decided, and why", lines))
}

pub(in crate::flow) async fn runbook_for(desk: &Desk, words: &str) -> Result<Card, FlowError> {
    let Some(memory) = &desk.memory else {
        return Ok(note("No memory is open; runbooks cannot be searched.", Tone::Neutral));
    };
    let query = Query {
        text: words.to_owned(),
        kinds: vec![Kind::Runbook, Kind::Note],
        limit: 4,
        tenant: Tenant::everyone(),
        ..Query::default()
    };
    match memory.recall(query).await {
        Ok(found) => Ok(runbook_card(&found)),
        Err(failure) => Ok(note(&format!("Memory does not answer: {failure}"), Tone::Alarm)),
    }
}

fn runbook_card(found: &[Recalled]) -> Card {
    let Some(first) = found.first() else {
        return note("No runbook fits.", Tone::Neutral);
    };
    let of = |one: &Recalled| {
        let heading = match (one.chunk.kind, one.chunk.trust) {
            (Kind::Note, Trust::Quarantined) => format!("note of {}, not verified: ", one.chunk.author),
            (Kind::Note, Trust::Verified | Trust::Curated) => format!("note of {}: ", one.chunk.author),
            (Kind::Runbook | Kind::PostMortem, _) => format!("{}: ", one.chunk.heading),
        };
        vec![Span::bold(heading), Span::quoted(one.chunk.text.chars().take(700).collect::<String>())]
    };
    let mut card = answer(&first.chunk.title, found.iter().map(of).collect());
    card.blocks.push(Block::Context { spans: vec![Span::plain(first.why.clone())] });
    card
}

pub(super) async fn audit(desk: &Desk) -> Result<Card, FlowError> {
    let (text, whole) = verified(desk).await?;
    Ok(note(&text, if whole { Tone::Good } else { Tone::Alarm }))
}

async fn verified(desk: &Desk) -> Result<(String, bool), FlowError> {
    let report = desk.store.verify_audit().await?;
    Ok(match &report.fault {
        None => {
            let text = format!(
                "The audit chain is whole: {} rows, {} events of {} incidents, head {}",
                report.rows,
                report.events,
                report.incidents,
                &report.head[..12]
            );
            (text, true)
        }
        Some(fault) => (format!("The audit chain is BROKEN at {}: {}", fault.row, fault.what), false),
    })
}

/// What was decided about one incident, by whom, and whether the chain behind it is whole.
pub(super) async fn audit_of(desk: &Desk, id: &IncidentId) -> Result<Card, FlowError> {
    let Some(incident) = desk.store.incident(id).await? else {
        return Err(FlowError::NoIncident(id.clone()));
    };
    let events = story(desk, id).await?;
    let count = events.len();
    let told: Vec<Vec<Span>> = events
        .into_iter()
        .filter(|(_, event)| is_decision(event))
        .filter_map(|(at, event)| {
            let text = timeline::tell_event(&event)?;
            Some(vec![Span::plain(format!("{} ", at.clock_time())), Span::quoted(text)])
        })
        .collect();
    let hidden = told.len().saturating_sub(MOST_LINES);
    let mut lines: Vec<Vec<Span>> = told.into_iter().skip(hidden).collect();
    if hidden > 0 {
        lines.insert(0, vec![Span::plain(format!("{hidden} earlier decisions are on the incident's page"))]);
    }
    let (text, whole) = verified(desk).await?;
    let mut card = answer(&format!("{id}: {count} events, head {}", incident.head.short()), lines);
    let chain = if whole { Span::plain(text) } else { Span::bold(text) };
    let page = Span::Link { text: "all of it".into(), path: format!("/incident/{id}") };
    card.blocks.push(Block::Context { spans: vec![chain, Span::plain(" "), page] });
    Ok(card)
}

/// The events of an incident with their wall times; what cannot be read any more is left out.
pub(in crate::flow) async fn story(desk: &Desk, id: &IncidentId) -> Result<Vec<(Timestamp, IncidentEvent)>, FlowError> {
    let rows = desk.store.events(id).await?;
    let read = |row: crate::store::EventRow| {
        Some((Timestamp::from_millis(row.at), serde_json::from_str::<IncidentEvent>(&row.body).ok()?))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

fn concerns(event: &IncidentEvent, id: &PlanId) -> bool {
    use IncidentEvent as E;
    match event {
        E::PlanProposed { plan, .. } => &plan.id == id,
        E::Voted { plan, .. }
        | E::PlanApproved { plan, .. }
        | E::PlanRejected { plan, .. }
        | E::PlanExpired { plan }
        | E::PlanReminded { plan, .. }
        | E::PlanVoided { plan, .. }
        | E::ExecutionStarted { plan, .. }
        | E::ExecutionWrote { plan, .. }
        | E::ExecutionFailed { plan, .. }
        | E::VerificationPassed { plan, .. }
        | E::VerificationFailed { plan, .. }
        | E::Compensated { plan, .. }
        | E::Recurred { plan, .. } => plan == id,
        E::Opened { .. }
        | E::AlertsJoined { .. }
        | E::AlertsResolved { .. }
        | E::SeverityChanged { .. }
        | E::Retitled { .. }
        | E::Merged { .. }
        | E::Absorbed { .. }
        | E::SplitOff { .. }
        | E::CameFrom { .. }
        | E::NotAnIncident { .. }
        | E::Acknowledged { .. }
        | E::HandedTo { .. }
        | E::Called { .. }
        | E::InvestigationStarted { .. }
        | E::EvidenceStored { .. }
        | E::Recalled { .. }
        | E::Ranked { .. }
        | E::Reasoned { .. }
        | E::Diagnosed { .. }
        | E::PlanRefused { .. }
        | E::HandedOver { .. }
        | E::Resolved { .. }
        | E::PostMortemWritten { .. }
        | E::Feedback { .. }
        | E::Noted { .. } => false,
    }
}

/// What somebody, or the watch, decided; the rest is what was seen and thought.
fn is_decision(event: &IncidentEvent) -> bool {
    use IncidentEvent as E;
    match event {
        E::AlertsJoined { .. }
        | E::AlertsResolved { .. }
        | E::Retitled { .. }
        | E::EvidenceStored { .. }
        | E::Recalled { .. }
        | E::Ranked { .. }
        | E::Reasoned { .. } => false,
        E::Opened { .. }
        | E::SeverityChanged { .. }
        | E::Merged { .. }
        | E::Absorbed { .. }
        | E::SplitOff { .. }
        | E::CameFrom { .. }
        | E::NotAnIncident { .. }
        | E::Acknowledged { .. }
        | E::HandedTo { .. }
        | E::Called { .. }
        | E::InvestigationStarted { .. }
        | E::Diagnosed { .. }
        | E::PlanProposed { .. }
        | E::PlanRefused { .. }
        | E::Voted { .. }
        | E::PlanApproved { .. }
        | E::PlanRejected { .. }
        | E::PlanExpired { .. }
        | E::PlanReminded { .. }
        | E::PlanVoided { .. }
        | E::ExecutionStarted { .. }
        | E::ExecutionWrote { .. }
        | E::ExecutionFailed { .. }
        | E::VerificationPassed { .. }
        | E::VerificationFailed { .. }
        | E::Compensated { .. }
        | E::Recurred { .. }
        | E::HandedOver { .. }
        | E::Resolved { .. }
        | E::PostMortemWritten { .. }
        | E::Feedback { .. }
        | E::Noted { .. } => true,
    }
}
