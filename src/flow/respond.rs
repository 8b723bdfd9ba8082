//! What people do and ask: clicks, slash commands, mentions.

mod answers;
mod mention;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tracing::error;

use mention::{Answer as Said, converse, mention};

use super::deliver::{Effect, Stage};
use super::desk::{Desk, FlowError};
use super::live::{Patience, shown};
use super::{approve, command, label, silence};
use crate::domain::card::{ButtonAction, Card, Span, Tone};
use crate::domain::command::{Verb, parse};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Decision, Incident, IncidentEvent};
use crate::domain::narrative::{Answer, answer, note};
use crate::ports::{FromPeople, Person, Place, crash};
use crate::store::{Batch, InboxRow, NewEffect};

/// Free questions that are answered at the same time; the others wait their turn.
const AT_ONCE: usize = 4;
/// Beyond so many the fixed set has to do (P11).
const MOST_OPEN: usize = 24;

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    // What somebody asked for: everything else is answered meanwhile.
    let asked: Arc<Mutex<HashSet<i64>>> = Arc::default();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let ended: Arc<Mutex<Vec<i64>>> = Arc::default();
    // What is under way ends with the driver: whoever leads next takes it up again.
    let mut questions = JoinSet::new();
    while !desk.stopping() {
        // Only what had ended before the rows are read may be taken up again: it failed. What ends later
        // stands among them as open, though it is not.
        let over = std::mem::take(&mut *ended.lock().await);
        let rows = match desk.store.inbox_open("people", 32 + MOST_OPEN as i64).await {
            Ok(rows) => rows,
            Err(failure) => {
                error!(error = %failure, "the inbox cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        asked.lock().await.retain(|id| !over.contains(id));
        while questions.try_join_next().is_some() {}
        let mut answered = false;
        for row in &rows {
            if asked.lock().await.contains(&row.id) {
                continue;
            }
            answered = true;
            // A click never waits for what somebody else asked: it may be an approval that expires.
            if asked.lock().await.len() >= MOST_OPEN || !takes_a_while(row) {
                answer_row(&desk, row, Room::Full).await?;
                continue;
            }
            asked.lock().await.insert(row.id);
            let (desk, ended, turns, row) = (desk.clone(), ended.clone(), turns.clone(), row.clone());
            questions.spawn(async move {
                let answered = match answer_row(&desk, &row, Room::Free).await {
                    Ok(Some(question)) => {
                        // Closed never: the semaphore lives as long as we do.
                        let _turn = turns.acquire().await;
                        answer_question(&desk, &row, question).await
                    }
                    Ok(None) => Ok(()),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = answered {
                    error!(inbox = row.id, error = %failure, "a question is asked again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                ended.lock().await.push(row.id);
            });
        }
        if !answered {
            desk.wait(&desk.bells.people, Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

/// Commands and questions look at the estate; clicks, pages and what is decided by a command do not.
fn takes_a_while(row: &InboxRow) -> bool {
    match serde_json::from_str::<FromPeople>(&row.body) {
        // What stops everything waits for no question, whether it is a command or said to us.
        Ok(FromPeople::Command { text, .. } | FromPeople::Mention { text, .. }) => {
            let verb = parse(&text).map(|command| command.verb());
            !matches!(verb, Ok(Verb::Pause | Verb::Resume | Verb::Approve | Verb::Reject))
        }
        Ok(FromPeople::Click { .. } | FromPeople::Home { .. }) | Err(_) => false,
    }
}

/// Whether one more free question can be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    Full,
}

/// A question that takes a while.
struct Open {
    by: Person,
    place: Place,
    text: String,
    incident: Option<Incident>,
    instead: Card,
}

/// Answers and closes the row; or says that it looks, and gives back the question that keeps it open.
async fn answer_row(desk: &Arc<Desk>, row: &InboxRow, room: Room) -> Result<Option<Open>, FlowError> {
    crash::point("respond.read");
    // `source` is the chat's name; the body is what its adapter proved.
    let effect = match serde_json::from_str::<FromPeople>(&row.body) {
        Err(unreadable) => {
            error!(inbox = row.id, error = %unreadable, "an act of a person cannot be read");
            None
        }
        Ok(act) => match reacted(desk, row, &act).await {
            Ok(Reaction::Done(effect)) => effect.map(|effect| *effect),
            Ok(Reaction::Asked(question)) if room == Room::Full => Some(replied(row, question.place, question.instead)),
            Ok(Reaction::Asked(question)) => return Ok(Some(*question)),
            Err(FlowError::Refused(why)) => Some(whisper(&row.source, &act, note(&why, Tone::Neutral))),
            Err(failure) => {
                error!(inbox = row.id, error = %failure, "an act of a person failed");
                let text = format!("That did not work: {failure}. Nothing was changed.");
                Some(whisper(&row.source, &act, note(&text, Tone::Alarm)))
            }
        },
    };
    finish(desk, row, effect, vec![row.id]).await?;
    Ok(None)
}

/// A quick reaction needs no sign; a slow one shows that it is at work.
async fn reacted(desk: &Arc<Desk>, row: &InboxRow, act: &FromPeople) -> Result<Reaction, FlowError> {
    let reaction = react(desk, &row.source, act);
    match act {
        FromPeople::Command { place, by, .. } | FromPeople::Mention { place, by, .. } => {
            shown(desk, &row.source, &answer_key(row), (place, &by.id), Patience::Some, reaction).await
        }
        FromPeople::Click { .. } | FromPeople::Home { .. } => reaction.await,
    }
}

fn replied(row: &InboxRow, place: Place, card: Card) -> Effect {
    Effect::Reply { chat: row.source.clone(), place, card, stage: Stage::Final }
}

fn answer_key(row: &InboxRow) -> String {
    format!("answer/{}", row.id)
}

async fn answer_question(desk: &Arc<Desk>, row: &InboxRow, open: Open) -> Result<(), FlowError> {
    let Open { by, place, text, incident, instead } = open;
    let conversing = converse(desk, &by, &text, incident, row.id, instead);
    let card = shown(desk, &row.source, &answer_key(row), (&place, &by.id), Patience::None, conversing).await;
    let card = match card {
        Ok(card) => card,
        Err(failure) => {
            error!(inbox = row.id, error = %failure, "a question could not be answered");
            note(&format!("That did not work: {failure}."), Tone::Alarm)
        }
    };
    let effect = replied(row, place, card);
    finish(desk, row, Some(effect), vec![row.id]).await
}

/// The same key for all that is said to one act: a later word takes the place of an earlier one.
async fn finish(desk: &Desk, row: &InboxRow, effect: Option<Effect>, done: Vec<i64>) -> Result<(), FlowError> {
    crash::point("respond.reacted");
    let mut batch = Batch { inbox_done: done, ..Batch::default() };
    if let Some(effect) = effect {
        batch.effects.push(NewEffect {
            key: answer_key(row),
            incident: None,
            body: serde_json::to_string(&effect).unwrap_or_default(),
        });
    }
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    crash::point("respond.answered");
    desk.bells.outbox.notify_one();
    Ok(())
}

enum Reaction {
    Done(Option<Box<Effect>>),
    Asked(Box<Open>),
}

fn place_of(act: &FromPeople) -> (&Place, &Person) {
    match act {
        FromPeople::Click { place, by, .. }
        | FromPeople::Command { place, by, .. }
        | FromPeople::Mention { place, by, .. }
        | FromPeople::Home { place, by } => (place, by),
    }
}

fn whisper(chat: &str, act: &FromPeople, card: Card) -> Effect {
    let (place, by) = place_of(act);
    Effect::Whisper { chat: chat.into(), place: place.clone(), to: by.id.clone(), card }
}

async fn react(desk: &Arc<Desk>, chat: &str, act: &FromPeople) -> Result<Reaction, FlowError> {
    let reply =
        |place: &Place, card| Effect::Reply { chat: chat.into(), place: place.clone(), card, stage: Stage::Final };
    Ok(match act {
        FromPeople::Click { place, by, action, value, reason } => {
            let told = click(desk, by, *action, value, reason.clone()).await?;
            Reaction::Done(told.map(|card| {
                Box::new(Effect::Whisper { chat: chat.into(), place: place.clone(), to: by.id.clone(), card })
            }))
        }
        FromPeople::Command { place, by, text } => {
            let (_, card) = command::run(desk, by, text).await?;
            Reaction::Done(Some(Box::new(reply(place, card))))
        }
        FromPeople::Mention { place, by, text } => match mention(desk, chat, place, by, text).await? {
            Said::Now(card) => Reaction::Done(Some(Box::new(reply(place, card)))),
            Said::Asked { incident, instead } => Reaction::Asked(Box::new(Open {
                by: by.clone(),
                place: place.clone(),
                text: text.clone(),
                incident: incident.map(|incident| *incident),
                instead,
            })),
        },
        FromPeople::Home { by, .. } => {
            Reaction::Done(Some(Box::new(Effect::Home { chat: chat.into(), to: by.id.clone() })))
        }
    })
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
            let told = approve::ask_more(desk, value, by, reason).await?;
            Ok(Some(note(&told, Tone::Working)))
        }
        ButtonAction::Acknowledge => {
            // It ends the calls and teaches the prefilter: not for everybody who can see the channel.
            let id = incident_id(value)?;
            if !command::was_handed(desk, by, &id).await? {
                desk.must_have_authority(by, "acknowledge incidents").await?;
            }
            command::take(desk, by, &id).await?;
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
        ButtonAction::Silence => match reason.filter(|words| !words.trim().is_empty()) {
            Some(words) => {
                let silences = silence::of_incident(desk, &incident_id(value)?, words).await?;
                let commands: Vec<String> = silences.iter().map(|words| format!("silence {words}")).collect();
                Ok(Some(command::run_all(desk, by, &commands).await?.1))
            }
            None => {
                let example = Verb::Silence.spec().examples[0];
                Err(FlowError::Refused(format!("silences are set by command: /ops {example}")))
            }
        },
        ButtonAction::Merge => {
            let words = reason.unwrap_or_default();
            let into = words.trim().strip_prefix("into ").unwrap_or(words.trim());
            Ok(Some(ordered(desk, by, "merge", &format!("{} into {into}", incident_id(value)?)).await?))
        }
        ButtonAction::Split => {
            let words = reason.unwrap_or_default();
            Ok(Some(ordered(desk, by, "split", &format!("{} {words}", incident_id(value)?)).await?))
        }
        ButtonAction::NotAnIncident => {
            let because = reason.unwrap_or_default();
            Ok(Some(ordered(desk, by, "noise", &format!("{} because {because}", incident_id(value)?)).await?))
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
                    let key = change.incident().diagnosis_key();
                    change.tell(&key, &Effect::Diagnosis);
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

async fn runbook(desk: &Desk, id: &IncidentId) -> Result<Card, FlowError> {
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    command::runbook_for(desk, &super::remember::symptoms(&incident)).await
}

/// The words of a dialog, read by the same grammar as a command.
async fn ordered(desk: &Arc<Desk>, by: &Person, verb: &str, rest: &str) -> Result<Card, FlowError> {
    let (_, card) = command::run(desk, by, &format!("{verb} {rest}")).await?;
    Ok(card)
}
