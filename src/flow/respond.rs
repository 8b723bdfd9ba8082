//! What people do and ask: clicks, slash commands, mentions.

mod mention;

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use mention::mention;

use super::deliver::Effect;
use super::desk::{Desk, FlowError};
use super::{act, approve, earn, label, regroup, report};
use crate::domain::alert::Fingerprint;
use crate::domain::card::{ButtonAction, Card, Span, Tone};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Decision, Incident, IncidentEvent};
use crate::domain::narrative::{self, Answer, answer, note};
use crate::domain::time::spoken;
use crate::memory::{Kind, Query, Tenant};
use crate::ports::{FromPeople, Person, Place, crash};
use crate::store::{AuditEntry, Batch, InboxRow, NewEffect, Scope};

const A_DAY: Duration = Duration::from_secs(24 * 3600);

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        let rows = match desk.store.inbox_open("people", 32).await {
            Ok(rows) => rows,
            Err(failure) => {
                error!(error = %failure, "the inbox cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        for row in &rows {
            answer_row(&desk, row).await?;
        }
        if rows.is_empty() {
            desk.wait(&desk.bells.people, Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

async fn answer_row(desk: &Arc<Desk>, row: &InboxRow) -> Result<(), FlowError> {
    crash::point("respond.read");
    // `source` is the chat's name; the body is what its adapter proved.
    let effect = match serde_json::from_str::<FromPeople>(&row.body) {
        Err(unreadable) => {
            error!(inbox = row.id, error = %unreadable, "an act of a person cannot be read");
            None
        }
        Ok(act) => match react(desk, &row.source, &act).await {
            Ok(effect) => effect,
            Err(FlowError::Refused(why)) => Some(whisper(&row.source, &act, note(&why, Tone::Neutral))),
            Err(failure) => {
                error!(inbox = row.id, error = %failure, "an act of a person failed");
                let text = format!("That did not work: {failure}. Nothing was changed.");
                Some(whisper(&row.source, &act, note(&text, Tone::Alarm)))
            }
        },
    };
    crash::point("respond.reacted");
    let mut batch = Batch { inbox_done: vec![row.id], ..Batch::default() };
    if let Some(effect) = effect {
        batch.effects.push(NewEffect {
            key: format!("answer/{}", row.id),
            incident: None,
            body: serde_json::to_string(&effect).unwrap_or_default(),
        });
    }
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    crash::point("respond.answered");
    desk.bells.outbox.notify_one();
    Ok(())
}

fn place_of(act: &FromPeople) -> (&Place, &Person) {
    match act {
        FromPeople::Click { place, by, .. }
        | FromPeople::Command { place, by, .. }
        | FromPeople::Mention { place, by, .. } => (place, by),
    }
}

fn whisper(chat: &str, act: &FromPeople, card: Card) -> Effect {
    let (place, by) = place_of(act);
    Effect::Whisper { chat: chat.into(), place: place.clone(), to: by.id.clone(), card }
}

async fn react(desk: &Arc<Desk>, chat: &str, act: &FromPeople) -> Result<Option<Effect>, FlowError> {
    match act {
        FromPeople::Click { place, by, action, value, reason } => {
            let told = click(desk, by, *action, value, reason.clone()).await?;
            Ok(told.map(|card| Effect::Whisper { chat: chat.into(), place: place.clone(), to: by.id.clone(), card }))
        }
        FromPeople::Command { place, by, text } => {
            let card = command(desk, by, text).await?;
            Ok(Some(Effect::Reply { chat: chat.into(), place: place.clone(), card }))
        }
        FromPeople::Mention { place, by, text } => {
            let card = mention(desk, place, by, text).await?;
            Ok(Some(Effect::Reply { chat: chat.into(), place: place.clone(), card }))
        }
    }
}

async fn click(
    desk: &Arc<Desk>,
    by: &Person,
    action: ButtonAction,
    value: &str,
    reason: Option<String>,
) -> Result<Option<Card>, FlowError> {
    let person = by.id.as_str().to_owned();
    match action {
        ButtonAction::Approve => {
            let told = approve::vote(desk, value, by, Decision::Approve, None).await?;
            Ok(Some(note(&told, Tone::Good)))
        }
        ButtonAction::Reject => {
            let told = approve::vote(desk, value, by, Decision::Reject, reason).await?;
            Ok(Some(note(&told, Tone::Neutral)))
        }
        ButtonAction::AskMore => {
            let Some((plan, _)) = approve::parse_value(value) else {
                return Err(FlowError::Refused("this button is not one of mine".into()));
            };
            let id = IncidentId::new(plan.as_str().split('.').next().unwrap_or_default());
            desk.change(&id, |change| {
                change.record(IncidentEvent::PlanVoided {
                    plan: plan.clone(),
                    because: format!("{} asked for more", by.name),
                })?;
                change.record(IncidentEvent::HandedOver { because: "more was asked; looking again".into() })?;
                change.record(IncidentEvent::InvestigationStarted {
                    reasoner: desk.reasoner_name(),
                    because: format!("{} asked for more", by.name),
                })?;
                change.tell(&format!("plan/{plan}"), &Effect::Approval { plan: plan.clone() });
                change.tell("root", &Effect::Root);
                Ok(())
            })
            .await?;
            Ok(Some(note("Looking again; a new diagnosis follows in the thread.", Tone::Working)))
        }
        ButtonAction::Acknowledge => {
            let id = incident_id(value)?;
            desk.change(&id, |change| {
                change.record(IncidentEvent::Acknowledged { by: person.clone() })?;
                label::real(change, &person, "acknowledged it");
                change.tell("root", &Effect::Root);
                Ok(())
            })
            .await?;
            Ok(None)
        }
        ButtonAction::Runbook => Ok(Some(runbook(desk, &incident_id(value)?).await?)),
        ButtonAction::Dashboard => {
            let id = incident_id(value)?;
            Ok(Some(answer(
                &format!("{id}: timeline, evidence, graphs"),
                vec![vec![Span::Link { text: "open the incident's page".into(), path: format!("/incident/{id}") }]],
            )))
        }
        ButtonAction::Silence => {
            Err(FlowError::Refused(format!("silences are set by command: /ops {}", super::silence::USAGE)))
        }
        ButtonAction::Merge => {
            let (wanted, because) = regroup::parse_merge(&reason.unwrap_or_default(), Some(&incident_id(value)?))?;
            Ok(Some(regroup::order(desk, by, wanted, because).await?))
        }
        ButtonAction::Split => {
            let (wanted, because) = regroup::parse_split(&reason.unwrap_or_default(), Some(&incident_id(value)?))?;
            Ok(Some(regroup::order(desk, by, wanted, because).await?))
        }
        ButtonAction::NotAnIncident => {
            let id = incident_id(value)?;
            let because = reason.ok_or_else(|| {
                FlowError::Refused(format!("noise needs a reason: write /ops noise {id} because <reason>"))
            })?;
            Ok(Some(label::noise(desk, by, &id, &because).await?))
        }
        ButtonAction::RightlyMuted => Ok(Some(label::answer(desk, by, value, Answer::RightlyMuted).await?)),
        ButtonAction::ShouldHaveWoken => Ok(Some(label::answer(desk, by, value, Answer::ShouldHaveWoken).await?)),
        ButtonAction::ThumbsUp | ButtonAction::ThumbsDown => {
            let id = incident_id(value)?;
            let helpful = action == ButtonAction::ThumbsUp;
            let (incident, ()) = desk
                .change(&id, |change| {
                    change.record(IncidentEvent::Feedback { by: person.clone(), helpful, reason: reason.clone() })?;
                    if helpful {
                        label::real(change, &person, "found its diagnosis helpful");
                    }
                    Ok(())
                })
                .await?;
            super::learn::thumb(desk, &incident, &person, helpful).await;
            Ok(Some(note("Thank you; it is kept with the incident as feedback.", Tone::Neutral)))
        }
    }
}

fn incident_id(value: &str) -> Result<IncidentId, FlowError> {
    IncidentId::parse(value).ok_or_else(|| FlowError::Refused(format!("{value:?} names no incident; try INC-1")))
}

pub const COMMANDS: [(&str, &str); 20] = [
    ("diagnose", "diagnose <service>: what its signals, changes and neighbours say now"),
    ("status", "status: open incidents, the noise funnel, what the prefilter may suppress, model, pause state"),
    ("incidents", "incidents: the open ones"),
    ("explain", "explain <INC-1 | alert name | fingerprint>: why it was joined, muted or ranked so"),
    ("runbook", "runbook <words>: the best runbook for them"),
    ("audit", "audit: verify the chain of decisions"),
    (
        "silence",
        "silence <matchers> for <time> because <reason>: mutes alerts, e.g. silence service=checkout for 2h because load test",
    ),
    ("silences", "silences: what is muted now, and until when"),
    ("unsilence", "unsilence <id>: ends a silence"),
    ("merge", "merge <INC-2> into <INC-1> because <reason>: the two are one incident"),
    ("split", "split <INC-1> <services or hosts> because <reason>: their alerts become an incident of their own"),
    ("noise", "noise <INC-7> because <reason>: nobody had to wake up for it"),
    ("actions", "actions: what can be asked for, with its conditions"),
    ("act", act::USAGE),
    ("autonomy", "autonomy: what has been done on which service, and what may run by itself"),
    ("promote", "promote <service> <action>: lets it run with less asking, as far as its record supports"),
    ("demote", "demote <service> <action>: it waits for people from now on"),
    ("pause", "pause <reason>: nothing is executed until resume"),
    ("resume", "resume: executions are possible again"),
    ("help", "help: this list"),
];

/// `/ops ...`, from Slack, the console and the command line alike.
pub async fn command(desk: &Arc<Desk>, by: &Person, text: &str) -> Result<Card, FlowError> {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or("help").to_lowercase();
    let rest = words.collect::<Vec<_>>().join(" ");
    match verb.as_str() {
        "help" | "?" => Ok(help()),
        "status" => status(desk).await,
        "incidents" => incidents(desk).await,
        "diagnose" if !rest.is_empty() => diagnose(desk, rest.split_whitespace().next().unwrap_or_default()).await,
        "explain" if !rest.is_empty() => explain(desk, &rest).await,
        "runbook" if !rest.is_empty() => runbook_for(desk, &rest).await,
        "audit" => audit(desk).await,
        "silence" if rest.is_empty() => super::silence::list(desk).await,
        "silence" => super::silence::create(desk, by, &rest).await,
        "silences" => super::silence::list(desk).await,
        "unsilence" => super::silence::expire(desk, by, &rest).await,
        "merge" => {
            let (wanted, because) = regroup::parse_merge(&rest, None)?;
            regroup::order(desk, by, wanted, because).await
        }
        "split" => {
            let (wanted, because) = regroup::parse_split(&rest, None)?;
            regroup::order(desk, by, wanted, because).await
        }
        "noise" => label::noise_command(desk, by, &rest).await,
        "actions" => Ok(act::list(desk)),
        "act" => act::request(desk, by, &rest).await,
        "autonomy" => earn::show(desk).await,
        "promote" => earn::promote(desk, by, &rest).await,
        "demote" => earn::take_back(desk, by, &rest).await,
        "pause" if rest.is_empty() => Ok(wrong("pause needs a reason", "pause config push in progress")),
        "pause" => pause(desk, by, Some(rest)).await,
        "resume" => pause(desk, by, None).await,
        "diagnose" => Ok(wrong("diagnose needs a service", "diagnose checkout")),
        "explain" => Ok(wrong("explain needs something to explain", "explain INC-1")),
        "runbook" => Ok(wrong("runbook needs words to look for", "runbook connection pool exhausted")),
        other => {
            let nearest =
                COMMANDS.iter().map(|(name, _)| *name).min_by_key(|name| edits(name, other)).unwrap_or("help");
            Ok(wrong(&format!("I don't know {other:?}; did you mean {nearest}?"), nearest))
        }
    }
}

fn wrong(what: &str, example: &str) -> Card {
    answer(what, vec![vec![Span::plain("Example: "), Span::code(format!("/ops {example}"))]])
}

fn help() -> Card {
    answer(
        "I stand the watch. Ask me:",
        COMMANDS.iter().map(|(_, usage)| vec![Span::code(format!("/ops {usage}"))]).collect(),
    )
}

/// Levenshtein distance; commands are short.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substitute = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

async fn status(desk: &Desk) -> Result<Card, FlowError> {
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
    lines.push(vec![match desk.paused().await {
        Some(why) => Span::quoted(format!("PAUSED: {why}")),
        None => Span::plain("not paused"),
    }]);
    Ok(answer("The watch stands", lines))
}

async fn incidents(desk: &Desk) -> Result<Card, FlowError> {
    let open = desk.store.incidents(Scope::NotOver).await?;
    let lines = open
        .iter()
        .map(|incident| {
            vec![
                Span::Link { text: incident.id.to_string(), path: format!("/incident/{}", incident.id) },
                Span::plain(format!(" {} ", incident.severity.as_str())),
                Span::quoted(incident.title.clone()),
                Span::plain(format!(": {}", narrative::state_words(&incident.state))),
            ]
        })
        .collect();
    Ok(answer(&format!("{} open incidents", open.len()), lines))
}

/// A look at one service without an incident: the same eyes, nothing stored.
async fn diagnose(desk: &Desk, service: &str) -> Result<Card, FlowError> {
    let topology = desk.topology().await;
    if !topology.is_empty() && !topology.contains(service) {
        let nearest =
            topology.nodes().map(|(name, _)| name).min_by_key(|name| edits(name, service)).unwrap_or_default();
        return Ok(wrong(
            &format!("I don't know a service {service:?}; did you mean {nearest}?"),
            &format!("diagnose {nearest}"),
        ));
    }
    let mut blank = Incident::blank(IncidentId::numbered(0));
    blank.since = desk.clock.event_now();
    let mut dossier = super::observe::Dossier::new(&blank);
    let picture = super::observe::picture(desk, &blank, &mut dossier).await;
    let mut lines: Vec<Vec<Span>> = picture
        .of_node(service)
        .filter(|reading| reading.deviation >= 1.0)
        .map(|reading| vec![Span::plain(crate::domain::root_cause::say(reading))])
        .collect();
    if lines.is_empty() {
        lines.push(vec![Span::plain("every signal is in its usual band")]);
    }
    for callee in topology.callees(service) {
        let odd = picture.of_node(callee).filter(|reading| reading.deviation >= 1.0).count();
        if odd > 0 {
            lines.push(vec![Span::plain(format!("it calls {callee}, of which {odd} signals deviate"))]);
        }
    }
    for change in picture.changes.iter().filter(|change| change.service == service).take(3) {
        lines.push(vec![
            Span::plain(format!("{} ago: ", spoken(blank.since.since(change.at)))),
            Span::code(change.id.clone()),
            Span::plain(" "),
            Span::quoted(change.cause.clone().unwrap_or_default()),
        ]);
    }
    let ranking = crate::domain::root_cause::rank(&picture);
    if let Some(first) = ranking.first().filter(|first| first.node != service) {
        lines.push(vec![Span::plain(format!("the strongest lead in the estate is {}", first.node))]);
    }
    Ok(answer(&format!("{service} now"), lines))
}

async fn explain(desk: &Desk, what: &str) -> Result<Card, FlowError> {
    if let Some(id) = IncidentId::parse(what)
        && let Some(incident) = desk.store.incident(&id).await?
    {
        let mut lines =
            vec![vec![Span::plain(format!("{}: {}", incident.severity.as_str(), incident.severity_because))]];
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
        for row in desk.store.ledger_of(id.as_str(), 4).await? {
            lines.push(vec![
                Span::quoted(format!("{} {}", row.name, row.subject)),
                Span::plain(format!(" {}: ", row.reason)),
                Span::quoted(row.explanation),
            ]);
        }
        return Ok(answer(&format!("Why {id} is as it is"), lines));
    }
    let rows = desk.store.ledger_of(what, 6).await?;
    if rows.is_empty() {
        return Ok(wrong("nothing in the ledger has that name, fingerprint or incident", "explain HighErrorRate"));
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

async fn runbook_for(desk: &Desk, words: &str) -> Result<Card, FlowError> {
    let Some(memory) = &desk.memory else {
        return Ok(note("No memory is open; runbooks cannot be searched.", Tone::Neutral));
    };
    let query = Query {
        text: words.to_owned(),
        kinds: vec![Kind::Runbook],
        limit: 4,
        tenant: Tenant::everyone(),
        ..Query::default()
    };
    match memory.recall(query).await {
        Ok(found) => Ok(runbook_card(&found)),
        Err(failure) => Ok(note(&format!("Memory does not answer: {failure}"), Tone::Alarm)),
    }
}

async fn runbook(desk: &Desk, id: &IncidentId) -> Result<Card, FlowError> {
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    runbook_for(desk, &super::remember::symptoms(&incident)).await
}

fn runbook_card(found: &[crate::memory::Recalled]) -> Card {
    let Some(first) = found.first() else {
        return note("No runbook fits.", Tone::Neutral);
    };
    let mut card = answer(
        &first.chunk.title,
        found
            .iter()
            .map(|one| {
                vec![
                    Span::bold(format!("{}: ", one.chunk.heading)),
                    Span::quoted(one.chunk.text.chars().take(700).collect::<String>()),
                ]
            })
            .collect(),
    );
    card.blocks.push(crate::domain::card::Block::Context { spans: vec![Span::plain(first.why.clone())] });
    card
}

async fn audit(desk: &Desk) -> Result<Card, FlowError> {
    let report = desk.store.verify_audit().await?;
    let text = match &report.fault {
        None => format!(
            "The audit chain is whole: {} rows, {} events of {} incidents, head {}",
            report.rows,
            report.events,
            report.incidents,
            &report.head[..12]
        ),
        Some(fault) => format!("The audit chain is BROKEN at {}: {}", fault.row, fault.what),
    };
    Ok(note(&text, if report.fault.is_none() { Tone::Good } else { Tone::Alarm }))
}

async fn pause(desk: &Desk, by: &Person, reason: Option<String>) -> Result<Card, FlowError> {
    // Anybody may stop it; starting it again needs the authority to approve.
    if reason.is_none() && !desk.policy.may_approve(by.id.as_str()) {
        return Err(FlowError::Refused("resume needs somebody whom policy.approvers names".into()));
    }
    let value =
        serde_json::to_string(&reason.as_ref().map(|reason| format!("{reason} ({})", by.name))).unwrap_or_default();
    let batch = Batch {
        settings: vec![("paused".into(), value)],
        audit: vec![AuditEntry {
            kind: if reason.is_some() { "paused".into() } else { "resumed".into() },
            subject: by.id.to_string(),
            body: serde_json::json!({"reason": reason}),
        }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(match reason {
        Some(reason) => note(&format!("PAUSED: nothing will be executed. Reason: {reason}"), Tone::Alarm),
        None => note("Resumed: approved plans are executed again.", Tone::Good),
    })
}
