//! From what is to be told to the card that says it, as the state is now.

use std::time::Duration;

use tracing::{debug, error, warn};

use super::super::desk::{ChatSeat, Desk};
use super::super::route;
use super::send::{Parcel, Sent, send, sure};
use super::{Effect, Failure, Stage, own_channel};
use crate::domain::card::{Block, Card, Span};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, State};
use crate::domain::narrative::{self, Answer, Home};
use crate::domain::route::{Routing, Telling};
use crate::domain::time::Timestamp;
use crate::ports::{ChatError, Drawing, MessageRef, Place, crash};
use crate::store::{AuditEntry, Batch, NewEffect, OutboxRow, Scope};

pub(super) async fn tell(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    effect: &Effect,
    look_first: bool,
) -> Result<Sent, Failure> {
    crash::point("deliver.read");
    sure(desk).await?;
    match effect {
        Effect::Reply { place, card, stage, .. } => {
            let thread = place.thread.clone().or_else(|| place.message.clone());
            let thread = thread.as_ref();
            let parcel =
                Parcel { row, key: &row.key, channel: &place.channel, thread, card, incident: None, look_first };
            match send(desk, seat, parcel).await {
                Err(Failure::Chat(ChatError::Refused(why) | ChatError::NoChannel(why))) if place.command.is_some() => {
                    reply_privately(desk, seat, (place, card, *stage), why).await
                }
                sent => sent.map_err(for_good),
            }
        }
        Effect::Whisper { place, to, card, .. } => {
            let card = card.shown();
            let mut whispered = seat.chat.whisper(place, to, &card).await;
            if whispered.is_err() && place.command.is_some() {
                whispered = seat.chat.answer_privately(place, &card).await;
            }
            if let Err(error) = whispered {
                warn!(%error, channel = place.channel, "a whisper was dropped");
            }
            Ok(Sent::Nothing)
        }
        Effect::Home { to, .. } => {
            let card = home(desk).await?;
            sure(desk).await?;
            if let Err(error) = seat.chat.home(to, &card.shown()).await {
                debug!(%error, "a home was not drawn");
            }
            Ok(Sent::Nothing)
        }
        Effect::Asked { key } => {
            let card = &asked(desk, key).await?;
            let parcel =
                Parcel { row, key: &row.key, channel: &seat.channel, thread: None, card, incident: None, look_first };
            send(desk, seat, parcel).await
        }
        Effect::Digest { channel, incidents } => {
            let card = &route::digest_card(desk, incidents).await.map_err(Failure::store)?;
            let channel = match channel.as_str() {
                "" => seat.channel.as_str(),
                channel => seat.channel_named(channel),
            };
            let parcel = Parcel { row, key: &row.key, channel, thread: None, card, incident: None, look_first };
            send_somewhere(desk, seat, parcel).await
        }
        Effect::Channel { work } => own_channel::carry_out(desk, seat, row, work, look_first).await.map_err(for_good),
        Effect::Root | Effect::Diagnosis | Effect::Approval { .. } | Effect::Note { .. } | Effect::Picture { .. } => {
            of_incident(desk, seat, row, effect, look_first).await
        }
    }
}

/// What belongs to one place only has no other to go to.
fn for_good(failure: Failure) -> Failure {
    match failure {
        Failure::Chat(ChatError::NoChannel(why)) => Failure::Give(why),
        failure => failure,
    }
}

/// Where the bot may not post, whoever gave the command is answered all the same; `why` it may not.
async fn reply_privately(
    desk: &Desk,
    seat: &ChatSeat,
    (place, card, stage): (&Place, &Card, Stage),
    why: String,
) -> Result<Sent, Failure> {
    // Few answers are taken, and the last word is the one that counts.
    if stage == Stage::Growing {
        return Ok(Sent::Nothing);
    }
    sure(desk).await?;
    let mut here = card.clone();
    let text = format!("Only you see this, since I cannot post here ({why}).");
    here.blocks.push(Block::Context { spans: vec![Span::plain(text)] });
    match seat.chat.answer_privately(place, &here.shown()).await {
        Ok(()) => Ok(Sent::Nothing),
        Err(ChatError::Refused(also)) => {
            warn!(channel = place.channel, reason = also, "a command is answered in no other way either");
            Err(Failure::Chat(ChatError::Refused(why)))
        }
        Err(later) => Err(Failure::Chat(later)),
    }
}

async fn of_incident(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    effect: &Effect,
    look_first: bool,
) -> Result<Sent, Failure> {
    let id = IncidentId::new(row.incident.clone().unwrap_or_default());
    let incident = desk.store.incident(&id).await.map_err(Failure::store)?;
    let incident = incident.ok_or_else(|| Failure::Give(format!("{id} does not exist")))?;
    let root = desk.store.posted(&seat.root_key(&id)).await.map_err(Failure::store)?;
    if !is_due(desk, &incident).await? {
        return Ok(Sent::Nothing);
    }
    let sent = show(desk, seat, row, effect, &incident, root.as_ref(), look_first).await;
    match (sent, root) {
        (Err(Failure::Chat(ChatError::NoChannel(why))), Some(root)) => {
            Err(anew(desk, seat, row, &incident, &root, why).await?)
        }
        (Err(Failure::Chat(ChatError::NoMessage(why))), Some(root)) => {
            let key = format!("{}@{}", row.key, seat.chat.name());
            match desk.store.posted(&key).await.map_err(Failure::store)? {
                // The reply itself was to be edited.
                Some(message) if message != root => {
                    desk.store.forget_message(&key).await.map_err(Failure::store)?;
                    Err(Failure::Anew(why))
                }
                Some(_) | None => Err(anew(desk, seat, row, &incident, &root, why).await?),
            }
        }
        (sent, _) => sent,
    }
}

/// The root is deleted, or its channel closed to us: what was posted there is forgotten, and root, diagnosis
/// and an open question are told anew, where it is possible now.
async fn anew(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    incident: &Incident,
    root: &MessageRef,
    why: String,
) -> Result<Failure, Failure> {
    let id = &incident.id;
    error!(incident = %id, channel = root.channel, reason = why, "its message cannot be reached any more: told anew");
    desk.store.forget_thread(&seat.root_key(id), root).await.map_err(Failure::store)?;
    let mut wanted = vec![("root".to_owned(), Effect::Root)];
    if incident.diagnosis.is_some() {
        wanted.push((incident.diagnosis_key(), Effect::Diagnosis));
    }
    if let State::Awaiting { plan } = &incident.state {
        wanted.push((format!("plan/{plan}"), Effect::Approval { plan: plan.clone() }));
    }
    let effects = wanted.into_iter().map(|(key, effect)| NewEffect {
        key: format!("{id}/{key}"),
        incident: Some(id.to_string()),
        body: serde_json::to_string(&effect).unwrap_or_default(),
    });
    let effects = effects.filter(|effect| effect.key != row.key).collect();
    let body = serde_json::json!({"chat": seat.chat.name(), "channel": root.channel, "reason": why});
    let audit = vec![AuditEntry { kind: "delivery.anew".into(), subject: row.key.clone(), body }];
    let batch = Batch { effects, audit, ..Batch::default() };
    desk.store.commit(batch, desk.clock.wall_now()).await.map_err(Failure::store)?;
    Ok(Failure::Anew(why))
}

async fn show(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    effect: &Effect,
    incident: &Incident,
    root: Option<&MessageRef>,
    look_first: bool,
) -> Result<Sent, Failure> {
    let id = &incident.id;
    let merged = matches!(incident.state, State::Merged { .. });
    let card = match effect {
        Effect::Root => {
            // An incident that went into another before it was ever shown needs no message.
            if root.is_none() && merged {
                return Ok(Sent::Nothing);
            }
            let card = &narrative::root(incident);
            let channel = match root {
                Some(root) => root.channel.clone(),
                None => route::channel(desk, seat, incident).await.map_err(Failure::store)?,
            };
            let (key, channel) = (row.key.as_str(), channel.as_str());
            let parcel = Parcel { row, key, channel, thread: None, card, incident: Some(id), look_first };
            let sent = match root {
                Some(_) => send(desk, seat, parcel).await?,
                None => send_somewhere(desk, seat, parcel).await?,
            };
            if root.is_none() && desk.routing != Routing::default() {
                desk.store.outbox_release(id).await.map_err(Failure::store)?;
            }
            own_channel::root(desk, seat, row, id, card, look_first).await?;
            return Ok(sent);
        }
        Effect::Diagnosis => narrative::diagnosis(incident),
        Effect::Approval { plan } => match incident.plan(plan) {
            Some(record) => narrative::approval(record),
            None => return Err(Failure::Give(format!("{plan} does not exist"))),
        },
        Effect::Note { card } => card.clone(),
        Effect::Picture { .. } if merged => return Ok(Sent::Nothing),
        Effect::Picture { what } => return picture(desk, seat, id, *what, root).await,
        Effect::Asked { .. } | Effect::Reply { .. } | Effect::Whisper { .. } | Effect::Home { .. } => {
            return Ok(Sent::Nothing);
        }
        Effect::Digest { .. } | Effect::Channel { .. } => return Ok(Sent::Nothing),
    };
    match root {
        Some(root) => {
            let channel = &root.channel;
            let parcel =
                Parcel { row, key: &row.key, channel, thread: Some(root), card: &card, incident: Some(id), look_first };
            send(desk, seat, parcel).await
        }
        None if merged => Ok(Sent::Nothing),
        None => Err(Failure::Later("the incident's root message is not posted yet".into(), None)),
    }
}

/// A route's channel that is gone, or that the bot is not in, must not keep an incident from everybody: the
/// chat's own channel is told, and why.
async fn send_somewhere(desk: &Desk, seat: &ChatSeat, parcel: Parcel<'_>) -> Result<Sent, Failure> {
    let Parcel { row, key, channel, thread, card, incident, look_first } = parcel;
    let sent = send(desk, seat, Parcel { row, key, channel, thread, card, incident, look_first }).await;
    let why = match sent {
        Err(Failure::Chat(ChatError::NoChannel(why) | ChatError::Refused(why))) if channel != seat.channel => why,
        sent => return sent,
    };
    error!(key, channel, reason = why, "a route's channel cannot be told: the chat's own is");
    let text = format!("Told here, because its route's channel {channel} cannot be written to: {why}");
    let mut here = card.clone();
    here.blocks.push(Block::Text { spans: vec![Span::plain(text)] });
    send(desk, seat, Parcel { row, key, channel: &seat.channel, thread, card: &here, incident, look_first }).await
}

/// How long what is only in a digest is not looked at again by itself.
const HELD: Duration = Duration::from_secs(24 * 3600);

/// Whether the incident is told at all: `false` when it came and went within a digest. What is told
/// later is held until then.
async fn is_due(desk: &Desk, incident: &Incident) -> Result<bool, Failure> {
    if desk.routing == Routing::default() {
        return Ok(true);
    }
    for seat in desk.chats.iter() {
        if desk.store.posted(&seat.root_key(&incident.id)).await.map_err(Failure::store)?.is_some() {
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

/// Shown at most once: a lost reply leaves perhaps no picture, and the card links to it anyway.
async fn picture(
    desk: &Desk,
    seat: &ChatSeat,
    id: &IncidentId,
    what: Drawing,
    root: Option<&MessageRef>,
) -> Result<Sent, Failure> {
    let (Some(root), Some(artist)) = (root, desk.artist.get()) else { return Ok(Sent::Nothing) };
    let Some(picture) = artist.draw(id, what).await else { return Ok(Sent::Nothing) };
    sure(desk).await?;
    // Not tried again: the approval card that stands behind it in the thread must not wait for a picture.
    if let Err(error) = seat.chat.picture(root, &picture).await {
        debug!(incident = %id, %error, "a picture was dropped");
    }
    Ok(Sent::Nothing)
}

async fn asked(desk: &Desk, key: &str) -> Result<Card, Failure> {
    let asked = desk.store.asked(key).await.map_err(Failure::store)?;
    let asked = asked.ok_or_else(|| Failure::Give(format!("nothing was asked about {key}")))?;
    let label = desk.store.label(key).await.map_err(Failure::store)?;
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

async fn home(desk: &Desk) -> Result<Card, Failure> {
    let open = desk.store.incidents(Scope::NotOver).await.map_err(Failure::store)?;
    let (row, head) = desk.store.audit_head().await.map_err(Failure::store)?;
    let paused = desk.paused().await;
    Ok(narrative::home(&Home {
        open: &open,
        paused: paused.as_deref(),
        policy: &desk.policy,
        services: desk.topology().await.nodes().count(),
        audit_head: (row, &head),
        wall_now: desk.clock.wall_now(),
    }))
}
