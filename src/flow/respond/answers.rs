//! Answers that need no model: a fixed set of questions, from what is stored and what is measured now.

use std::time::Duration;

use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::conversation::{Names, Question, read};
use crate::domain::diagnosis::{Claim, Diagnosis, Verdict};
use crate::domain::evidence::{EvidenceKind, Series};
use crate::domain::incident::{Incident, IncidentEvent, State};
use crate::domain::narrative::{answer, by_gravity, note, owner, state_words};
use crate::domain::root_cause::{Candidate, amount};
use crate::domain::time::spoken;
use crate::domain::topology::NodeKind;
use crate::flow::command::{runbook_for, story};
use crate::flow::desk::{Desk, FlowError};
use crate::flow::observe::recent_changes;
use crate::flow::{escalate, reach, remember};
use crate::ports::Window;

const AN_HOUR: Duration = Duration::from_secs(3600);
/// What began an incident changed within these hours before it, as a rule.
const BEFORE: Duration = Duration::from_secs(6 * 3600);
const SHOWN_FOR: Duration = Duration::from_secs(30 * 60);
const STEP: Duration = Duration::from_secs(30);
const MOST_LINES: usize = 12;

/// What may be named in a question.
pub(super) async fn names(desk: &Desk, incident: Option<&Incident>) -> Names {
    let topology = desk.topology().await;
    let looks_like_one = |name: &str| {
        let name = name.to_lowercase();
        ["db", "database", "postgres", "mysql"].iter().any(|part| name.split(['-', '_', '.']).any(|word| word == *part))
    };
    let mut services: Vec<(String, bool)> = topology
        .nodes()
        .map(|(name, kind)| (name.to_owned(), kind == NodeKind::Database || looks_like_one(name)))
        .collect();
    let candidates = incident.into_iter().flat_map(|incident| incident.candidates.iter().map(|one| one.node.as_str()));
    for subject in incident.into_iter().flat_map(Incident::subjects).chain(candidates) {
        if !services.iter().any(|(name, _)| name == subject) {
            services.push((subject.to_owned(), looks_like_one(subject)));
        }
    }
    // In an incident "the database" is one of those that it is about.
    if let Some(incident) = incident {
        let near = |name: &str| {
            incident.subjects().contains(name) || incident.candidates.iter().any(|candidate| candidate.node == name)
        };
        if services.iter().any(|(name, database)| *database && near(name)) {
            services.iter_mut().for_each(|(name, database)| *database &= near(name));
        }
    }
    let signals = desk.config.signals.iter().flat_map(|signals| &signals.query).map(|query| query.name.clone());
    Names { services, signals: signals.collect() }
}

/// The names of what is usually measured, as far as questions tell them apart.
const USUALLY: [&str; 10] =
    ["latency_p99", "errors", "requests", "memory", "cpu", "restarts", "connections", "queue", "volume", "replicas"];

/// Whoever asks for a signal where no metrics are configured is told just that.
pub(super) fn unmeasured(desk: &Desk, text: &str, known: Names) -> Option<Card> {
    if desk.signals.is_some() {
        return None;
    }
    let usual = USUALLY.map(str::to_owned).to_vec();
    let Some(Question::Show { signal, service }) = read(text, &Names { signals: usual, ..known }) else {
        return None;
    };
    let of = service.map_or_else(String::new, |service| format!(" of {service}"));
    let text =
        format!("No metrics are configured ([signals]), so the {}{of} cannot be shown.", signal.replace('_', " "));
    Some(note(&text, Tone::Neutral))
}

/// `None`: what the question needs is not here, so that a model may try.
pub(super) async fn reply(
    desk: &Desk,
    incident: Option<&Incident>,
    question: &Question,
) -> Result<Option<Card>, FlowError> {
    Ok(match (question, incident) {
        (Question::Act, _) => Some(note(
            "Words decide nothing here: plans are decided with the buttons of their card, or /ops approve and \
             /ops reject; everything else is a command (/ops help).",
            Tone::Neutral,
        )),
        // Of another cluster only that is known which was told when it was looked at.
        (Question::Changed { .. }, Some(incident)) if reach::out_of_sight(desk, incident).is_some() => {
            Some(evidence_lines(desk, incident, EvidenceKind::Change, "What had changed when it was looked at").await?)
        }
        (Question::Changed { within, service }, incident) => {
            let usual = incident.map_or(AN_HOUR, |incident| desk.clock.event_now().since(incident.since) + BEFORE);
            Some(changed(desk, within.unwrap_or(usual), service.as_deref()).await?)
        }
        (Question::Why { about }, Some(incident)) => Some(why(incident, about.as_deref())),
        (Question::Why { .. }, None) => None,
        (Question::Decided, Some(incident)) => Some(decided(desk, incident).await?),
        (Question::Decided, None) => None,
        (Question::Show { signal, service }, _) => show(desk, incident, signal, service.as_deref()).await,
        (Question::Logs, Some(incident)) => {
            Some(evidence_lines(desk, incident, EvidenceKind::Log, "New in the logs").await?)
        }
        (Question::Logs, None) => None,
        (Question::Alerts, Some(incident)) => Some(alerts(incident)),
        (Question::Alerts, None) => None,
        (Question::Runbook, Some(incident)) => Some(what_to_do(desk, incident).await?),
        (Question::Runbook, None) => None,
        (Question::Status, Some(incident)) => Some(status(incident)),
        (Question::Status, None) => None,
        (Question::OnCall, incident) => Some(on_call(desk, incident).await),
        (Question::Neighbours { service }, _) => neighbours(desk, service.as_deref(), incident).await,
        (Question::LookAgain | Question::Investigate { .. }, _) => None,
    })
}

/// The set, for whoever asks outside it.
pub(super) fn fixed_set(why: &str) -> Card {
    answer(
        &format!("{why} I answer these:"),
        [
            "what changed in the last hour?",
            "why not <service>?",
            "who approved this?",
            "show me p99 for <service>",
            "which alerts?",
            "what is in the logs?",
            "what needs <service>?",
            "which runbook?",
            "who is on call?",
            "status?",
            "look again",
            "investigate <service>",
            "/ops help",
        ]
        .into_iter()
        .map(|question| vec![Span::code(question)])
        .collect(),
    )
}

async fn changed(desk: &Desk, within: Duration, service: Option<&str>) -> Result<Card, FlowError> {
    let event_now = desk.clock.event_now();
    let headline = format!("What changed in the last {}, asked at {}", spoken(within), event_now.dated());
    let Some(mut changes) = recent_changes(desk, event_now - within).await else {
        return Ok(answer(&headline, vec![vec![Span::plain("no rollouts can be read and nothing was announced")]]));
    };
    changes.retain(|change| service.is_none_or(|service| change.service == service));
    changes.sort_by_key(|change| std::cmp::Reverse(change.at));
    let mut lines: Vec<Vec<Span>> = changes
        .iter()
        .take(MOST_LINES)
        .map(|change| {
            let touched: Vec<String> =
                change.touched.iter().take(3).map(|one| format!("{}: {}", one.what.as_str(), one.detail)).collect();
            vec![
                Span::plain(format!("{} ago: ", spoken(event_now.since(change.at)))),
                Span::code(change.id.clone()),
                Span::plain(" "),
                Span::quoted(touched.join("; ")),
                Span::plain(" "),
                Span::quoted(change.cause.clone().unwrap_or_default()),
            ]
        })
        .collect();
    if changes.len() > MOST_LINES {
        lines.push(vec![Span::plain(format!("{} older ones", changes.len() - MOST_LINES))]);
    }
    if lines.is_empty() {
        lines.push(vec![Span::plain("nothing that is known")]);
    }
    Ok(answer(&headline, lines))
}

/// The diagnosis first: it is what was concluded; the ranking is only how the search went.
fn why(incident: &Incident, about: Option<&str>) -> Card {
    let diagnosis = incident.diagnosis.as_ref();
    let is_blamed =
        about.is_some_and(|about| diagnosis.is_some_and(|diagnosis| diagnosis.service.as_deref() == Some(about)));
    let mut lines = match diagnosis {
        Some(diagnosis) => concluded(diagnosis, about.is_none() || is_blamed),
        None => vec![vec![Span::plain("There is no diagnosis yet.")]],
    };
    let named = about.and_then(|about| incident.candidates.iter().find(|candidate| candidate.node == about));
    match (about, named) {
        (_, Some(candidate)) => {
            lines.push(ranked(candidate));
            lines.extend(candidate.supports.iter().map(|one| claimed("for", one)));
            lines.extend(candidate.contradicts.iter().map(|one| claimed("against", one)));
        }
        (Some(_), None) if is_blamed => {}
        (Some(about), None) => lines.push(vec![
            Span::code(about.to_owned()),
            Span::plain(" is no candidate: nothing that was seen speaks for it"),
        ]),
        (None, None) => lines.extend(incident.candidates.iter().take(4).map(ranked)),
    }
    answer(&format!("How I came to it ({})", incident.confidence_word()), lines)
}

/// The verdict; with its reasons where they are asked for.
fn concluded(diagnosis: &Diagnosis, in_full: bool) -> Vec<Vec<Span>> {
    let what = match (&diagnosis.verdict, &diagnosis.service) {
        (Verdict::Inconclusive, Some(lead)) => format!("The cause is not known; the strongest lead is {lead}: "),
        (Verdict::Inconclusive, None) => "The cause is not known: ".to_owned(),
        (verdict, Some(service)) => format!("The cause is {} in {service}: ", verdict.word()),
        (_, None) => "Nothing is to blame: ".to_owned(),
    };
    let mut lines = vec![vec![Span::bold(what), Span::quoted(diagnosis.mechanism.clone())]];
    if in_full {
        let change = diagnosis.change.iter();
        lines.extend(change.map(|change| vec![Span::plain("the change to blame: "), Span::code(change.clone())]));
        lines.extend(diagnosis.claims.iter().take(MOST_LINES).map(|one| claimed("because", one)));
        lines.extend(diagnosis.ruled_out.iter().take(4).map(|one| claimed("ruled out", one)));
    }
    lines
}

fn ranked(candidate: &Candidate) -> Vec<Span> {
    vec![Span::code(candidate.node.clone()), Span::plain(format!(" score {:.2}", candidate.score))]
}

fn claimed(word: &str, claim: &Claim) -> Vec<Span> {
    let mut spans = vec![Span::plain(format!("{word}: ")), Span::quoted(claim.text.clone())];
    for id in &claim.evidence {
        spans.push(Span::plain(" "));
        spans.push(Span::Evidence { id: id.to_string() });
    }
    spans
}

async fn decided(desk: &Desk, incident: &Incident) -> Result<Card, FlowError> {
    let mut lines = vec![];
    for record in &incident.plans {
        let word = record.outcome.word().replace('_', " ");
        lines.push(vec![Span::plain(format!("{}: {}; {word}", record.plan.id, record.plan.action))]);
    }
    for (at, event) in story(desk, &incident.id).await? {
        let (by, what) = match &event {
            IncidentEvent::Voted { plan, by, decision, reason } => {
                let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                (by, format!(" voted {} on {plan}{reason}", format!("{decision:?}").to_lowercase()))
            }
            IncidentEvent::Acknowledged { by } => (by, " acknowledged it".to_owned()),
            IncidentEvent::HandedTo { to, by, .. } => (by, format!(" handed it to {to}")),
            IncidentEvent::Accepted { by } => (by, " accepted it".to_owned()),
            _ => continue,
        };
        lines.push(vec![
            Span::plain(format!("{} ", at.hour_minute())),
            Span::Person { id: by.clone() },
            Span::quoted(what),
        ]);
    }
    if lines.is_empty() {
        lines.push(vec![Span::plain("nobody has decided anything yet")]);
    }
    Ok(answer("Decisions", lines))
}

/// `None` without metrics.
async fn show(desk: &Desk, incident: Option<&Incident>, signal: &str, service: Option<&str>) -> Option<Card> {
    let (signals, config) = desk.signals.as_ref().zip(desk.config.signals.as_ref())?;
    let query = config.query.iter().find(|query| query.name == signal)?;
    let event_now = desk.clock.event_now();
    let window = Window { start: event_now - SHOWN_FOR, end: event_now, step: STEP };
    let scope = incident.map(|incident| reach::scope(desk, incident)).unwrap_or_default();
    let asked = match scope.promql(&query.promql) {
        Ok(promql) => signals.range(&promql, window).await,
        Err(refused) => Err(refused.into()),
    };
    let series = match asked {
        Ok(series) => series,
        Err(failure) => return Some(note(&format!("{signal} cannot be read now: {failure}"), Tone::Alarm)),
    };
    let name = |one: &Series| one.label(&query.label).unwrap_or_default().to_owned();
    let wanted = |one: &&Series| match (service, incident) {
        (Some(service), _) => name(one) == service,
        (None, Some(incident)) => incident.subjects().contains(name(one).as_str()),
        (None, None) => true,
    };
    let mut found: Vec<&Series> = series.iter().filter(wanted).collect();
    found.sort_by(|one, other| other.last().unwrap_or(0.0).total_cmp(&one.last().unwrap_or(0.0)));
    let lines: Vec<Vec<Span>> = found
        .iter()
        .take(MOST_LINES)
        .filter_map(|one| {
            let (last_at, last) = one.points.iter().rfind(|(_, value)| value.is_finite())?;
            let when = match event_now.since(*last_at) > 2 * STEP {
                true => format!("at {}, and nothing since", last_at.clock_time()),
                false => "now".to_owned(),
            };
            let values = || one.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            Some(vec![
                Span::code(name(one)),
                Span::plain(format!(
                    " {} {when}; between {} and {} in the last {}",
                    amount(*last, &query.unit),
                    amount(low, &query.unit),
                    amount(high, &query.unit),
                    spoken(SHOWN_FOR)
                )),
            ])
        })
        .collect();
    let of = service.map_or_else(String::new, |service| format!(" of {service}"));
    Some(match lines.is_empty() {
        true => note(&format!("Nothing is measured as {signal}{of}."), Tone::Neutral),
        false => answer(&format!("{}{of}", signal.replace('_', " ")), lines),
    })
}

/// A plan that waits for a decision comes before all that could be read up.
async fn what_to_do(desk: &Desk, incident: &Incident) -> Result<Card, FlowError> {
    let mut card = runbook_for(desk, &remember::symptoms(incident)).await?;
    if let State::Awaiting { plan } = &incident.state
        && let Some(record) = incident.plan(plan)
    {
        let value = format!("{plan}.{}", record.plan.digest.short());
        let mut spans = vec![Span::bold("First: a plan waits for your decision. ")];
        spans.push(Span::quoted(record.plan.action.to_string()));
        spans.push(Span::plain(format!(
            " Use the buttons of its card, or write /ops approve {value} or /ops reject {value} because <reason>."
        )));
        card.blocks.insert(0, Block::Text { spans });
        card.fallback = format!("A plan waits for your decision: {plan}");
    }
    Ok(card)
}

fn alerts(incident: &Incident) -> Card {
    let mut groups: Vec<_> = incident.alerts.values().collect();
    groups.sort_by(|one, other| by_gravity(one, other));
    let lines = groups
        .iter()
        .take(MOST_LINES)
        .map(|group| {
            vec![
                Span::quoted(format!("{} about {}", group.name, group.subject)),
                Span::plain(format!(
                    ": {} of {} firing, since {}",
                    group.count - group.resolved,
                    group.count,
                    group.first_at.hour_minute()
                )),
            ]
        })
        .collect();
    answer(&format!("{} alerts, {} firing", incident.alert_count(), incident.firing()), lines)
}

fn status(incident: &Incident) -> Card {
    let mut lines = vec![vec![Span::plain(format!(
        "{}; {} of {} alerts firing",
        state_words(&incident.state),
        incident.firing(),
        incident.alert_count()
    ))]];
    if incident.handed.is_some() {
        lines.push(owner(incident));
    }
    answer(&incident.title, lines)
}

async fn on_call(desk: &Desk, incident: Option<&Incident>) -> Card {
    let Some(incident) = incident else {
        let lines = escalate::told(desk, None).await;
        return match lines.is_empty() {
            true => note("No escalation path is configured ([[escalation]]).", Tone::Neutral),
            false => answer("Called, one after the other:", lines),
        };
    };
    let who = escalate::who_has_it(desk, incident).await;
    let lines = who.iter().map(|one| vec![one.span()]).collect::<Vec<_>>();
    match (lines.is_empty(), &incident.owner) {
        (true, _) => note("Nobody has it, and no escalation path fits.", Tone::Neutral),
        (false, Some(_)) if incident.is_taken() => answer("It is owned by", lines),
        (false, Some(_)) => answer("It was handed over and is not accepted yet; asked is", lines),
        (false, None) => answer("Nobody has taken it; on call is", lines),
    }
}

async fn neighbours(desk: &Desk, service: Option<&str>, incident: Option<&Incident>) -> Option<Card> {
    let blamed = || incident.and_then(|incident| incident.diagnosis.as_ref()?.service.clone());
    let service = service.map(str::to_owned).or_else(blamed)?;
    let topology = desk.topology().await;
    let list = |names: Vec<&str>| if names.is_empty() { "nothing that is known".to_owned() } else { names.join(", ") };
    let reach = topology.blast_radius(&service);
    let lines = vec![
        vec![Span::plain("needs "), Span::quoted(list(topology.callees(&service).collect()))],
        vec![Span::plain("is needed by "), Span::quoted(list(topology.dependents(&service).collect()))],
        vec![Span::plain(format!("if it fails, {} others feel it", reach.len()))],
    ];
    Some(answer(&service, lines))
}

async fn evidence_lines(
    desk: &Desk,
    incident: &Incident,
    kind: EvidenceKind,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Remedy;
    use crate::domain::id::IncidentId;

    fn incident() -> Incident {
        let id = IncidentId::numbered(1);
        let claim = |text: &str| Claim { text: text.into(), evidence: vec![id.evidence(3)] };
        let mut incident = Incident::blank(id.clone());
        incident.diagnosis = Some(Diagnosis {
            service: Some("session".into()),
            change: Some("session@7".into()),
            mechanism: "its memory leaks".into(),
            verdict: Verdict::Likely,
            confidence: 0.7,
            claims: vec![claim("session was killed for memory")],
            ruled_out: vec![claim("the disk is well")],
            remedy: Remedy::Restart { service: "session".into() },
            ..Diagnosis::blank()
        });
        incident.candidates = vec![Candidate {
            node: "cart".into(),
            change: None,
            score: 1.5,
            supports: vec![claim("cart fails")],
            contradicts: vec![claim("cart only calls session")],
        }];
        incident
    }

    fn position(card: &Card, words: &str) -> usize {
        let text = card.plain_text();
        text.find(words).unwrap_or_else(|| panic!("no {words:?} in {text}"))
    }

    #[test]
    fn why_begins_with_the_diagnosis_and_its_evidence() {
        let card = why(&incident(), None);
        let said =
            ["likely in session", "its memory leaks", "session@7", "because: session was killed", "cart score 1.50"];
        assert!(said.map(|words| position(&card, words)).is_sorted(), "{}", card.plain_text());
        assert!(format!("{card:?}").contains("INC-1.E3"), "{card:?}");
    }

    #[test]
    fn what_the_diagnosis_blames_is_never_said_to_have_nothing_for_it() {
        let text = why(&incident(), Some("session")).plain_text();
        assert!(text.contains("because: session was killed") && !text.contains("is no candidate"), "{text}");
        let text = why(&incident(), Some("cart")).plain_text();
        assert!(text.contains("against: cart only calls session") && !text.contains("because: session"), "{text}");
        assert!(why(&incident(), Some("search")).plain_text().contains("search is no candidate"));
        let mut unknown = incident();
        unknown.diagnosis = None;
        assert!(why(&unknown, None).plain_text().contains("There is no diagnosis yet"));
    }
}
