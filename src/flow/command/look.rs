//! Commands that only look: status, incidents, why, runbooks, the audit trail.

use std::time::Duration;

use super::pause;
use crate::domain::alert::Fingerprint;
use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::command::Which;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, PlanRecord, State};
use crate::domain::narrative::{answer, note, owner, state_words};
use crate::domain::time::Timestamp;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{label, report, timeline};
use crate::memory::{Chunk, Kind, Query, Recalled, Tenant, Trust};
use crate::ports::Person;
use crate::store::{LedgerView, Scope};

const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// Lines of an answer; what is more stands on the incident's page.
const MOST_LINES: usize = 25;

pub(super) async fn status(desk: &Desk) -> Result<Card, FlowError> {
    let open = desk.store.incidents(Scope::NotOver).await?;
    let report = report::report(desk, Some(desk.clock.wall_now() - A_DAY)).await?;
    let away = desk.neighbours.away(desk.clock.wall_now());
    let mut lines: Vec<Vec<Span>> = away.iter().map(|told| vec![Span::quoted(told.clone())]).collect();
    let (given_up, newest) = desk.store.outbox_failed(desk.clock.wall_now() - A_DAY).await?;
    if given_up > 0 {
        lines.push(vec![Span::bold(format!(
            "{given_up} messages could not be delivered in the last 24 h; the newest:"
        ))]);
        lines.extend(newest.into_iter().map(|(key, why)| vec![Span::quoted(format!("{key}: {why}"))]));
    }
    lines.push(vec![Span::plain(format!("{} open incidents", open.len()))]);
    let handed = open.iter().filter(|incident| incident.handed.is_some()).take(MOST_LINES);
    lines.extend(handed.map(|incident| {
        let mut line = vec![Span::code(incident.id.to_string()), Span::plain(": ")];
        line.extend(owner(incident));
        line
    }));
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
    let headline = match away.len() {
        0 => "The watch stands".to_owned(),
        1 => "The watch stands, and one that it asks does not answer".to_owned(),
        several => format!("The watch stands, and {several} that it asks do not answer"),
    };
    Ok(answer(&headline, lines))
}

/// Of what was not acted on, nothing older is anybody's business any more.
const MINE: Duration = Duration::from_secs(60 * 24 * 3600);

pub(super) async fn incidents(desk: &Desk, by: &Person, which: Which) -> Result<Card, FlowError> {
    let (mut found, word) = match which {
        Which::Open => (desk.store.incidents(Scope::NotOver).await?, "open"),
        Which::Mine => (desk.store.tried_or_since(desk.clock.wall_now() - MINE).await?, "of yours"),
    };
    let me = by.id.as_str();
    let mine = |incident: &Incident| {
        incident.owner.as_deref() == Some(me)
            || incident.plans.iter().any(|record| {
                record.approved_by.iter().any(|one| one == me)
                    || record.rejected_by.as_ref().is_some_and(|(one, _)| one == me)
            })
    };
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
            None => Err(FlowError::Refused(no_plan(&incident, what))),
        };
    }
    if let Some(id) = IncidentId::parse(what) {
        return match desk.store.incident(&id).await? {
            Some(incident) => explain_incident(desk, &incident).await,
            None => explain_alert(desk, what, &FlowError::NoIncident(id).to_string()).await,
        };
    }
    explain_alert(desk, what, "nothing in the ledger has that name, fingerprint or incident").await
}

/// Only what there is is given as an example: another guess would fail the same way.
fn no_plan(incident: &Incident, what: &str) -> String {
    let plans: Vec<&str> = incident.plans.iter().map(|record| record.plan.id.as_str()).collect();
    let id = &incident.id;
    match plans.as_slice() {
        [] => {
            format!("{id} has no plan {what}: nothing was proposed for it; /ops explain {id} says why it is as it is")
        }
        [first, ..] => format!("{id} has no plan {what}; it has {}: /ops explain {first}", plans.join(", ")),
    }
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
    let rows = desk.store.ledger_of(incident.id.as_str(), LOOKED_THROUGH).await?;
    lines.extend(verdicts(&rows));
    let mut card = answer(&format!("Why {} is as it is", incident.id), lines);
    let page = Span::Link { text: "all of its alerts".into(), path: format!("/incident/{}", incident.id) };
    card.blocks.push(Block::Context { spans: vec![page] });
    Ok(card)
}

/// Rows of the ledger that are read for one answer, and kinds of verdicts that it shows.
const LOOKED_THROUGH: i64 = 500;
const MOST_VERDICTS: usize = 8;

/// What was decided alike is one line with a count; the newest first, as the ledger gives it.
fn verdicts(rows: &[LedgerView]) -> Vec<Vec<Span>> {
    let mut kinds: Vec<(&LedgerView, usize)> = vec![];
    for row in rows {
        let alike = |one: &LedgerView| {
            (&one.name, &one.subject, &one.verdict, &one.reason) == (&row.name, &row.subject, &row.verdict, &row.reason)
        };
        match kinds.iter_mut().find(|(one, _)| alike(one)) {
            Some((_, times)) => *times += 1,
            None => kinds.push((row, 1)),
        }
    }
    let mut lines: Vec<Vec<Span>> =
        kinds.iter().take(MOST_VERDICTS).map(|(newest, times)| verdict(newest, *times)).collect();
    let hidden = kinds.iter().skip(MOST_VERDICTS);
    let (more, alerts) = (hidden.clone().count(), hidden.map(|(_, times)| times).sum::<usize>());
    if more > 0 {
        let least = if rows.len() as i64 >= LOOKED_THROUGH { "at least " } else { "" };
        lines.push(vec![Span::plain(format!("and {least}{alerts} more alerts of {more} other kinds"))]);
    }
    lines
}

fn verdict(newest: &LedgerView, times: usize) -> Vec<Span> {
    let at = Timestamp::from_millis(newest.judged_at).hour_minute();
    let often = if times > 1 { format!(", {times} times, last at {at}") } else { format!(", at {at}") };
    vec![
        Span::quoted(format!("{} {}", newest.name, newest.subject)),
        Span::plain(format!(" {} ({}){often}: ", newest.verdict, newest.reason.replace('_', " "))),
        Span::quoted(in_plain_words(&newest.explanation)),
    ]
}

/// The ledger keeps how it was reckoned; people are told what it means.
fn in_plain_words(explanation: &str) -> String {
    let mut text = explanation.replace("before the forest may speak", "before anything may be muted for being usual");
    if let Some(start) = text.find(" (time ")
        && let Some(length) = text[start..].find(')')
    {
        text.replace_range(start..=start + length, "");
    }
    text
}

/// Where the alert is now: its incident may have gone into another.
async fn whereabouts(desk: &Desk, id: &str) -> Result<Option<Vec<Span>>, FlowError> {
    // Merges follow each other, but never in a circle; a bound costs nothing.
    const MOST_MERGES: usize = 8;
    let mut next = IncidentId::parse(id);
    for _ in 0..MOST_MERGES {
        let Some(id) = next else { return Ok(None) };
        let Some(incident) = desk.store.incident(&id).await? else { return Ok(None) };
        if let State::Merged { into } = &incident.state {
            next = Some(into.clone());
            continue;
        }
        return Ok(Some(vec![
            Span::plain("the newest is part of "),
            Span::Link { text: id.to_string(), path: format!("/incident/{id}") },
            Span::plain(format!(" {} ", incident.severity.as_str())),
            Span::quoted(incident.title.clone()),
            Span::plain(format!(": {}", state_words(&incident.state))),
        ]));
    }
    Ok(None)
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
        if event.plan() == Some(&plan.id)
            && let Some(text) = timeline::tell_event(&event)
        {
            lines.push(vec![Span::plain(format!("{} ", at.hour_minute())), Span::quoted(text)]);
        }
    }
    let word = record.outcome.word().replace('_', " ");
    Ok(answer(&format!("{}: {} ({word}, digest {})", plan.id, plan.action, plan.digest.short()), lines))
}

async fn explain_alert(desk: &Desk, what: &str, unknown: &str) -> Result<Card, FlowError> {
    let rows = desk.store.ledger_of(what, LOOKED_THROUGH).await?;
    let Some(newest) = rows.first() else {
        let example = "write the name of an alert, a fingerprint or an incident, e.g. /ops explain HighErrorRate";
        return Err(FlowError::Refused(format!("{unknown}; {example}")));
    };
    let mut lines = vec![];
    if let Some(id) = &newest.incident {
        lines.extend(whereabouts(desk, id).await?);
    }
    lines.extend(verdicts(&rows));
    if let Some(fingerprint) = Fingerprint::parse(&newest.fingerprint) {
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
    let found = match memory.recall(query).await {
        Ok(found) => found,
        Err(failure) => return Ok(note(&format!("Memory does not answer: {failure}"), Tone::Alarm)),
    };
    let Some(first) = found.first() else {
        return Ok(note("No runbook fits.", Tone::Neutral));
    };
    // Sections of several runbooks under one title are no guidance: the best one is shown as a whole.
    let whole = match memory.document(&first.chunk.tenant, &first.chunk.doc).await {
        Ok(whole) if !whole.is_empty() => whole,
        Ok(_) | Err(_) => vec![first.chunk.clone()],
    };
    Ok(runbook_card(&found, first, whole))
}

/// Characters of a runbook that one answer holds, and of a note.
const MOST_OF_RUNBOOK: usize = 5_000;
const MOST_OF_NOTE: usize = 700;
/// Less than this of a section says nothing.
const LEAST_OF_SECTION: usize = 200;
/// The sections of a runbook by which one acts.
const ACTING: [&str; 3] = ["Confirm", "Fix", "Verify"];

fn runbook_card(found: &[Recalled], first: &Recalled, whole: Vec<Chunk>) -> Card {
    let mut lines = sections(whole);
    let others = found.iter().filter(|one| one.chunk.doc != first.chunk.doc);
    let (notes, others): (Vec<_>, Vec<_>) = others.partition(|one| one.chunk.kind == Kind::Note);
    lines.extend(notes.iter().map(|one| {
        let (text, _) = whole_lines(&one.chunk.text, MOST_OF_NOTE);
        vec![Span::bold(heading(&one.chunk)), Span::quoted(text)]
    }));
    let mut titles: Vec<&str> = others.iter().map(|one| one.chunk.title.as_str()).collect();
    titles.dedup();
    if !titles.is_empty() {
        lines.push(vec![Span::bold("Other runbooks: "), Span::quoted(titles.join("; "))]);
    }
    let mut card = answer(&first.chunk.title, lines);
    card.blocks.push(Block::Context { spans: vec![Span::plain(first.why.clone())] });
    card
}

/// In the runbook's order, but what one acts by before what one reads up. Each acting section gets its share,
/// so that a long check does not push out the fix.
fn sections(mut whole: Vec<Chunk>) -> Vec<Vec<Span>> {
    let acts = |chunk: &Chunk| {
        chunk.heading.split(" / ").any(|one| ACTING.iter().any(|name| one.trim().eq_ignore_ascii_case(name)))
    };
    whole.sort_by_key(|chunk| !acts(chunk));
    let mut acting = whole.iter().filter(|chunk| acts(chunk)).count();
    let (mut left, mut lines, mut hidden) = (MOST_OF_RUNBOOK, vec![], vec![]);
    for chunk in &whole {
        let share = left / acting.max(1);
        acting = acting.saturating_sub(1);
        if share < LEAST_OF_SECTION {
            hidden.push(chunk.heading.as_str());
            continue;
        }
        let (text, is_whole) = whole_lines(&chunk.text, share);
        left = left.saturating_sub(text.chars().count());
        let more = if is_whole { "" } else { "\n(the section goes on in the runbook)" };
        lines.push(vec![Span::bold(heading(chunk)), Span::quoted(format!("{text}{more}"))]);
    }
    hidden.dedup();
    if !hidden.is_empty() {
        lines.push(vec![Span::plain("not shown: "), Span::quoted(hidden.join(", "))]);
    }
    lines
}

fn heading(chunk: &Chunk) -> String {
    match (chunk.kind, chunk.trust) {
        (Kind::Note, Trust::Quarantined) => format!("note of {}, not verified: ", chunk.author),
        (Kind::Note, Trust::Verified | Trust::Curated) => format!("note of {}: ", chunk.author),
        (Kind::Runbook | Kind::PostMortem, _) if chunk.heading.is_empty() => String::new(),
        (Kind::Runbook | Kind::PostMortem, _) => format!("{}: ", chunk.heading),
    }
}

/// As many lines as fit, of one that is longer as many words; and whether that is all.
fn whole_lines(text: &str, most: usize) -> (String, bool) {
    let text = text.trim_end();
    let Some((end, next)) = text.char_indices().nth(most) else { return (text.to_owned(), true) };
    let fits = &text[..end];
    let last = |of: char| if next == of { Some(end) } else { fits.rfind(of) };
    let cut = last('\n').or_else(|| last(' ')).unwrap_or(end);
    (fits[..cut].trim_end().to_owned(), false)
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
        .filter(|(_, event)| event.is_decision())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::card::plain;

    fn row(name: &str, reason: &str, explanation: &str) -> LedgerView {
        LedgerView {
            fingerprint: String::new(),
            name: name.into(),
            subject: "cart".into(),
            severity: "critical".into(),
            status: "firing".into(),
            starts_at: 0,
            verdict: "admitted".into(),
            reason: reason.into(),
            explanation: explanation.into(),
            incident: None,
            judged_at: 7_200_000,
        }
    }

    #[test]
    fn equal_verdicts_are_one_line_and_what_is_not_shown_is_counted() {
        let mut rows = vec![row("Slow", "near", "cart needs db; 40 s apart (time 1.00, topology 0.97: together 0.97)")];
        rows.extend(
            (0..3).map(|_| row("Down", "cold_start", "cold start: 1 of 9 alerts seen before the forest may speak")),
        );
        let said: Vec<String> = verdicts(&rows).iter().map(|line| plain(line)).collect();
        let expected = [
            "Slow cart admitted (near), at 02:00: cart needs db; 40 s apart",
            "Down cart admitted (cold start), 3 times, last at 02:00: cold start: 1 of 9 alerts seen before anything may \
             be muted for being usual",
        ];
        assert_eq!(said, expected);
        rows.extend((0..9).map(|number| row(&format!("Other{number}"), "near", "it is near")));
        let said: Vec<String> = verdicts(&rows).iter().map(|line| plain(line)).collect();
        assert_eq!((said.len(), said.last().map(String::as_str)), (9, Some("and 3 more alerts of 3 other kinds")));
    }

    #[test]
    fn the_fix_is_shown_however_long_the_rest_is() {
        let chunk = |heading: &str, text: &str| Chunk {
            kind: Kind::Runbook,
            doc: "db/leak.md".into(),
            title: "A leak".into(),
            heading: heading.into(),
            about: String::new(),
            text: text.into(),
            alerts: vec![],
            advises: vec![],
            tenant: Tenant::everyone(),
            service: None,
            incident: None,
            author: "dba".into(),
            trust: Trust::Curated,
            votes: 0,
            at: Timestamp::from_secs(0),
        };
        let long = "one more line of it\n".repeat(900);
        let whole = vec![
            chunk("What it looks like", &long),
            chunk("Confirm", &long),
            chunk("Fix", "1. restart it"),
            chunk("Verify / If it does not help", "it is well"),
        ];
        let said: Vec<String> = sections(whole).iter().map(|line| plain(line)).collect();
        assert!(said[0].starts_with("Confirm: one more"), "{}", said[0]);
        assert!(said[0].ends_with("one more line of it\n(the section goes on in the runbook)"), "{}", said[0]);
        assert_eq!(&said[1..3], ["Fix: 1. restart it", "Verify / If it does not help: it is well"]);
        assert!(said[3].starts_with("What it looks like: one more"), "{}", said[3]);
        assert_eq!(whole_lines("a b c", 3), ("a b".into(), false));
        assert_eq!(whole_lines("first\nsecond", 99), ("first\nsecond".into(), true));
    }
}
