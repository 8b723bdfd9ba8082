//! Outbox -> chat: in order per incident, rendered from the newest state, edited in place.
//!
//! After an unknown result the chat is read back before anything is posted again (P4).

mod own_channel;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{debug, error, warn};

use super::desk::{ChatSeat, Counters, Desk, FlowError};
use super::route;
use crate::domain::card::Card;
use crate::domain::id::{IncidentId, PersonId, PlanId};
use crate::domain::incident::{Incident, State};
use crate::domain::narrative::{self, Answer};
use crate::domain::route::{Routing, Telling};
use crate::domain::time::Timestamp;
use crate::ports::{ChatError, MessageRef, Place, crash};
use crate::store::{Batch, OutboxRow, PostedRow};

/// What is to be told. Cards of an incident are rendered when they are delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// The message in the channel.
    Root,
    /// The narrative in the thread.
    Diagnosis,
    Approval {
        plan: PlanId,
    },
    /// A line in the incident's thread.
    Note {
        card: Card,
    },
    /// Light incidents together; an empty channel is each chat's own.
    Digest {
        channel: String,
        incidents: Vec<IncidentId>,
    },
    /// On the incident's own channel.
    Channel {
        work: ChannelWork,
    },
    /// The question about a suppressed alert, in the channel.
    Asked {
        key: String,
    },
    /// An answer where somebody asked.
    Reply {
        chat: String,
        place: Place,
        card: Card,
    },
    /// To one person only; dropped when it fails.
    Whisper {
        chat: String,
        place: Place,
        to: PersonId,
        card: Card,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum ChannelWork {
    Open { invite: Vec<PersonId> },
    Invite { people: Vec<PersonId> },
    Archive,
}

const ROOT_EDIT_EVERY: Duration = Duration::from_secs(3);
/// How long what is only in a digest is not looked at again by itself.
const HELD: Duration = Duration::from_secs(24 * 3600);
// An outage may last hours; what is late is still wanted.
const MAX_ATTEMPTS: i64 = 5_000;

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut edited: HashMap<String, Instant> = HashMap::new();
    while !desk.stopping() {
        let mut rows = match desk.store.outbox_due(desk.clock.wall_now(), 64).await {
            Ok(rows) => rows,
            Err(failure) => {
                error!(error = %failure, "the outbox cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // An incident whose message could not be sent keeps its later ones waiting: order matters.
        let mut blocked: HashSet<String> = HashSet::new();
        let mut progressed = false;
        for row in &mut rows {
            // What was to be told before this start may have been told: as if it were tried once.
            if row.created_at <= desk.started_at.millis() {
                row.attempts = row.attempts.max(1);
            }
            let group = row.incident.clone().unwrap_or_else(|| row.key.clone());
            if blocked.contains(&group) || desk.stopping() {
                continue;
            }
            if too_soon(&mut edited, row) {
                continue;
            }
            match deliver(&desk, row).await {
                Ok(()) => progressed = true,
                Err(Failure::Hold(until)) => {
                    blocked.insert(group);
                    desk.store.outbox_hold(row.id, until).await?;
                }
                Err(failure) => {
                    blocked.insert(group);
                    postpone(&desk, row, &failure).await?;
                }
            }
        }
        edited.retain(|_, at| at.elapsed() < ROOT_EDIT_EVERY);
        if !progressed {
            desk.wait(&desk.bells.outbox, Duration::from_millis(if rows.is_empty() { 1000 } else { 200 })).await;
        }
    }
    Ok(())
}

/// At most one edit of a root message in three seconds; the latest state wins.
fn too_soon(edited: &mut HashMap<String, Instant>, row: &OutboxRow) -> bool {
    if !row.key.ends_with("/root") {
        return false;
    }
    if edited.get(&row.key).is_some_and(|at| at.elapsed() < ROOT_EDIT_EVERY) {
        return true;
    }
    edited.insert(row.key.clone(), Instant::now());
    false
}

async fn deliver(desk: &Desk, row: &OutboxRow) -> Result<(), Failure> {
    crash::point("deliver.read");
    let effect: Effect =
        serde_json::from_str(&row.body).map_err(|error| Failure::Give(format!("unreadable effect: {error}")))?;
    match effect {
        Effect::Reply { chat, place, card } => {
            let seat = seat(desk, &chat)?;
            let thread = place.thread.clone().or_else(|| place.message.clone());
            send(desk, seat, &row.key, row.attempts, &place.channel, thread.as_ref(), &card, None).await?;
        }
        Effect::Whisper { chat, place, to, card } => {
            let seat = seat(desk, &chat)?;
            if let Err(error) = seat.chat.whisper(&place, &to, &card).await {
                debug!(%error, "a whisper was dropped");
            }
        }
        Effect::Asked { key } => {
            let card = asked(desk, &key).await?;
            for seat in &desk.chats {
                send(desk, seat, &row.key, row.attempts, &seat.channel, None, &card, None).await?;
            }
        }
        Effect::Digest { channel, incidents } => {
            let card = route::digest_card(desk, &incidents).await.map_err(later)?;
            for seat in &desk.chats {
                let channel = match (channel.as_str(), seat.chat.name()) {
                    ("", _) => seat.channel.as_str(),
                    (channel, "console") => channel.trim_start_matches('#'),
                    (channel, _) => channel,
                };
                send(desk, seat, &row.key, row.attempts, channel, None, &card, None).await?;
            }
        }
        Effect::Channel { work } => own_channel::carry_out(desk, row, &work).await?,
        Effect::Root | Effect::Diagnosis | Effect::Approval { .. } | Effect::Note { .. } => {
            in_thread(desk, row, &effect).await?;
        }
    }
    crash::point("deliver.before_done");
    desk.store
        .outbox_done(row, desk.clock.wall_now())
        .await
        .map_err(|error| Failure::Later(error.to_string(), None))?;
    crash::point("deliver.done");
    Ok(())
}

async fn asked(desk: &Desk, key: &str) -> Result<Card, Failure> {
    let asked = desk.store.asked(key).await.map_err(later)?;
    let asked = asked.ok_or_else(|| Failure::Give(format!("nothing was asked about {key}")))?;
    let label = desk.store.label(key).await.map_err(later)?;
    let answer = |real| if real { Answer::ShouldHaveWoken } else { Answer::RightlyMuted };
    Ok(narrative::muted(&narrative::Muted {
        key,
        name: &asked.name,
        subject: &asked.subject,
        explanation: &asked.explanation,
        starts_at: Timestamp::from_millis(asked.starts_at),
        answer: label.as_ref().map(|label| (label.person.as_str(), answer(label.real))),
    }))
}

async fn in_thread(desk: &Desk, row: &OutboxRow, effect: &Effect) -> Result<(), Failure> {
    let id = IncidentId::new(row.incident.clone().unwrap_or_default());
    let incident = desk
        .store
        .incident(&id)
        .await
        .map_err(|error| Failure::Later(error.to_string(), None))?
        .ok_or_else(|| Failure::Give(format!("{id} does not exist")))?;
    let card = match effect {
        Effect::Root => narrative::root(&incident),
        Effect::Diagnosis => narrative::diagnosis(&incident),
        Effect::Approval { plan } => match incident.plan(plan) {
            Some(record) => narrative::approval(record),
            None => return Err(Failure::Give(format!("{plan} does not exist"))),
        },
        Effect::Note { card } => card.clone(),
        Effect::Asked { .. }
        | Effect::Reply { .. }
        | Effect::Whisper { .. }
        | Effect::Digest { .. }
        | Effect::Channel { .. } => return Ok(()),
    };
    if !is_due(desk, &incident).await? {
        return Ok(());
    }
    for seat in &desk.chats {
        let root_key = format!("{}@{}", format_args!("{id}/root"), seat.chat.name());
        let root = desk.store.posted(&root_key).await.map_err(|error| Failure::Later(error.to_string(), None))?;
        if *effect == Effect::Root {
            // An incident that went into another before it was ever shown needs no message.
            if root.is_none() && matches!(incident.state, State::Merged { .. }) {
                continue;
            }
            let channel = match &root {
                Some(root) => root.channel.clone(),
                None => route::channel(desk, seat, &incident).await.map_err(later)?,
            };
            send(desk, seat, &row.key, row.attempts, &channel, None, &card, Some(&id)).await?;
            if root.is_none() && desk.routing != Routing::default() {
                desk.store.outbox_release(&id).await.map_err(later)?;
            }
            own_channel::root(desk, seat, row, &id, &card).await?;
        } else if let Some(root) = root {
            send(desk, seat, &row.key, row.attempts, &root.channel.clone(), Some(&root), &card, Some(&id)).await?;
        } else if !matches!(incident.state, State::Merged { .. }) {
            return Err(Failure::Later(
                "the incident's root message is not posted yet".into(),
                Some(Duration::from_millis(50)),
            ));
        }
    }
    Ok(())
}

/// Whether the incident is told at all: `false` when it came and went within a digest. What is told
/// later is held until then.
async fn is_due(desk: &Desk, incident: &Incident) -> Result<bool, Failure> {
    if desk.routing == Routing::default() {
        return Ok(true);
    }
    for seat in &desk.chats {
        let key = format!("{}/root@{}", incident.id, seat.chat.name());
        if desk.store.posted(&key).await.map_err(later)?.is_some() {
            return Ok(true);
        }
    }
    let wall_now = desk.clock.wall_now();
    match desk.routing.telling(incident, wall_now) {
        Telling::Now => Ok(true),
        Telling::After { at } => Err(Failure::Hold(at)),
        Telling::Digest if incident.state.is_over() => Ok(false),
        // Until it is graver, or somebody is asked: that makes it due by itself.
        Telling::Digest => Err(Failure::Hold(wall_now + HELD)),
    }
}

/// Posts under the key, or edits what was posted under it.
#[allow(clippy::too_many_arguments)] // where, what and under which name: a struct would only rename the list
async fn send(
    desk: &Desk,
    seat: &ChatSeat,
    key: &str,
    attempts: i64,
    channel: &str,
    thread: Option<&MessageRef>,
    card: &Card,
    incident: Option<&IncidentId>,
) -> Result<(), Failure> {
    let key = format!("{key}@{}", seat.chat.name());
    if let Some(message) = desk.store.posted(&key).await.map_err(later)? {
        crash::point("deliver.before_edit");
        seat.chat.edit(&message, card).await.map_err(Failure::Chat)?;
        crash::point("deliver.edited");
        Counters::add(&desk.counters.edits, 1);
        return Ok(());
    }
    // Tried before with an unknown result, or by a process that has ended: perhaps it is there.
    let found = if attempts > 0 { seat.chat.find(channel, thread, &key).await.map_err(Failure::Chat)? } else { None };
    let message = match found {
        Some(message) => message,
        None => {
            crash::point("deliver.before_post");
            let message = seat.chat.post(channel, thread, &key, card).await.map_err(Failure::Chat)?;
            crash::point("deliver.posted");
            Counters::add(&desk.counters.posts, 1);
            message
        }
    };
    let posted = PostedRow {
        key,
        chat: seat.chat.name().to_owned(),
        channel: message.channel,
        ts: message.ts,
        thread: thread.map(|thread| thread.ts.clone()),
        incident: incident.map(ToString::to_string),
        card: card.fallback.clone(),
    };
    let batch = Batch { posted: vec![posted], ..Batch::default() };
    desk.store.commit(batch, desk.clock.wall_now()).await.map_err(later)?;
    crash::point("deliver.recorded");
    Ok(())
}

fn seat<'a>(desk: &'a Desk, name: &str) -> Result<&'a ChatSeat, Failure> {
    desk.chats
        .iter()
        .find(|seat| seat.chat.name() == name)
        .ok_or_else(|| Failure::Give(format!("no chat named {name} is configured any more")))
}

enum Failure {
    Chat(ChatError),
    /// Try again, perhaps after a time of our own choosing.
    Later(String, Option<Duration>),
    /// Will never work.
    Give(String),
    /// Nothing is wrong: it is to be told then.
    Hold(Timestamp),
}

fn later(error: crate::store::StoreError) -> Failure {
    Failure::Later(error.to_string(), None)
}

async fn postpone(desk: &Desk, row: &OutboxRow, failure: &Failure) -> Result<(), FlowError> {
    let backoff = Duration::from_millis(200 * (1 << row.attempts.clamp(0, 7)) as u64);
    let (text, pause, state) = match failure {
        Failure::Chat(ChatError::RateLimited(pause)) => ("rate limited".to_owned(), *pause, "due"),
        Failure::Chat(ChatError::Refused(why)) => (why.clone(), Duration::ZERO, "failed"),
        Failure::Chat(error @ (ChatError::Unknown(_) | ChatError::Unavailable(_))) => {
            (error.to_string(), backoff, "due")
        }
        Failure::Later(why, pause) => (why.clone(), pause.unwrap_or(backoff), "due"),
        Failure::Give(why) => (why.clone(), Duration::ZERO, "failed"),
        Failure::Hold(until) => ("told later".to_owned(), until.since(desk.clock.wall_now()), "due"),
    };
    let state = if row.attempts >= MAX_ATTEMPTS { "failed" } else { state };
    Counters::add(&desk.counters.post_errors, 1);
    if state == "failed" {
        error!(key = row.key, reason = text, "a message will not be delivered");
        desk.audit("delivery.failed", &row.key, serde_json::json!({"reason": text, "attempts": row.attempts})).await?;
    } else {
        warn!(key = row.key, reason = text, "delivery postponed");
    }
    desk.store.outbox_retry(row.id, desk.clock.wall_now() + pause, &text, state).await?;
    Ok(())
}
