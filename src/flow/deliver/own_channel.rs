//! The channel that one big incident has for itself: made, filled and archived through the outbox.

use tracing::warn;

use super::send::{Parcel, Sent, send, sure};
use super::{ChannelWork, Failure};
use crate::domain::card::{Card, Tone};
use crate::domain::id::{IncidentId, PersonId};
use crate::domain::incident::Incident;
use crate::domain::narrative;
use crate::flow::command::opened_key;
use crate::flow::desk::{ChatSeat, Desk};
use crate::ports::{Channels, ChatError, MessageRef};
use crate::store::{Batch, OutboxRow, PostedRow};

/// Chats allow 80 characters; names are read in a narrow column.
const LONGEST_NAME: usize = 40;

pub(super) async fn carry_out(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    work: &ChannelWork,
    look_first: bool,
) -> Result<Sent, Failure> {
    let id = IncidentId::new(row.incident.clone().unwrap_or_default());
    let incident = desk.store.incident(&id).await.map_err(Failure::store)?;
    let incident = incident.ok_or_else(|| Failure::Give(format!("{id} does not exist")))?;
    let Some(channels) = &seat.channels else { return Ok(Sent::Nothing) };
    let known = desk.store.posted(&key(&id, seat)).await.map_err(Failure::store)?;
    sure(desk).await?;
    match (work, known) {
        (ChannelWork::Open { invite }, _) => {
            let channel = match channels.open(&name(&incident)).await {
                Ok(channel) => channel,
                // A right is missing, or the name is taken: said where it was asked for, and asked for again.
                Err(ChatError::Refused(why)) => {
                    let setting = (opened_key(&id), "refused".to_owned());
                    let batch = Batch { settings: vec![setting], ..Batch::default() };
                    desk.store.commit(batch, desk.clock.wall_now()).await.map_err(Failure::store)?;
                    note(desk, seat, row, &id, &format!("No channel for {id}: {why}"), look_first).await?;
                    return Ok(Sent::Nothing);
                }
                Err(failure) => return Err(Failure::Chat(failure)),
            };
            keep(desk, seat, &id, &channel).await?;
            root(desk, seat, row, &id, &narrative::root(&incident), look_first).await?;
            let text = format!("{id} has a channel of its own: #{}", name(&incident));
            note(desk, seat, row, &id, &text, look_first).await?;
            add(desk, seat, channels.as_ref(), &channel, invite).await?;
        }
        (ChannelWork::Invite { people }, Some(known)) => {
            add(desk, seat, channels.as_ref(), &known.channel, people).await?;
        }
        (ChannelWork::Archive, Some(known)) => {
            channels.archive(&known.channel).await.map_err(Failure::Chat)?;
            forget(desk, seat, &id).await?;
        }
        // It was never made in this chat.
        (ChannelWork::Invite { .. } | ChannelWork::Archive, None) => {}
    }
    Ok(Sent::Nothing)
}

/// The root message stands in the incident's own channel, too, while it has one.
pub(super) async fn root(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    id: &IncidentId,
    card: &Card,
    look_first: bool,
) -> Result<(), Failure> {
    let Some(own) = desk.store.posted(&key(id, seat)).await.map_err(Failure::store)? else { return Ok(()) };
    if own.ts == ARCHIVED {
        return Ok(());
    }
    let (key, channel) = (format!("{id}/channel-root"), own.channel.as_str());
    let parcel = Parcel { row, key: &key, channel, thread: None, card, incident: Some(id), look_first };
    match send(desk, seat, parcel).await {
        // Somebody has archived it by hand: the incident is told where all are.
        Err(Failure::Chat(ChatError::NoChannel(why))) => {
            warn!(incident = %id, channel, why, "its own channel is closed to us");
            forget(desk, seat, id).await
        }
        Err(Failure::Chat(ChatError::NoMessage(_))) => {
            let key = format!("{key}@{}", seat.chat.name());
            desk.store.forget_message(&key).await.map_err(Failure::store)
        }
        sent => sent.map(drop),
    }
}

/// People of other chats and teams cannot be invited here.
async fn add(
    desk: &Desk,
    seat: &ChatSeat,
    channels: &dyn Channels,
    channel: &str,
    people: &[PersonId],
) -> Result<(), Failure> {
    let here = |person: &&PersonId| (seat.chat.name() == "console") == person.as_str().starts_with("local/");
    let people: Vec<PersonId> = people.iter().filter(here).cloned().collect();
    sure(desk).await?;
    match people.is_empty() {
        true => Ok(()),
        false => channels.invite(channel, &people).await.map_err(Failure::Chat),
    }
}

async fn note(
    desk: &Desk,
    seat: &ChatSeat,
    row: &OutboxRow,
    id: &IncidentId,
    text: &str,
    look_first: bool,
) -> Result<(), Failure> {
    let root = desk.store.posted(&seat.root_key(id)).await.map_err(Failure::store)?;
    let Some(root) = root else { return Ok(()) };
    let (key, card) = (format!("{}/note", row.key), narrative::note(text, Tone::Neutral));
    let (channel, thread) = (root.channel.as_str(), Some(&root));
    let parcel = Parcel { row, key: &key, channel, thread, card: &card, incident: Some(id), look_first };
    send(desk, seat, parcel).await.map(drop)
}

fn key(id: &IncidentId, seat: &ChatSeat) -> String {
    format!("{id}/channel@{}", seat.chat.name())
}

const ARCHIVED: &str = "archived";

async fn keep(desk: &Desk, seat: &ChatSeat, id: &IncidentId, channel: &str) -> Result<(), Failure> {
    write(desk, seat, id, &MessageRef { channel: channel.to_owned(), ts: "open".into() }).await
}

async fn forget(desk: &Desk, seat: &ChatSeat, id: &IncidentId) -> Result<(), Failure> {
    let known = desk.store.posted(&key(id, seat)).await.map_err(Failure::store)?;
    let Some(known) = known else { return Ok(()) };
    write(desk, seat, id, &MessageRef { ts: ARCHIVED.into(), ..known }).await
}

async fn write(desk: &Desk, seat: &ChatSeat, id: &IncidentId, at: &MessageRef) -> Result<(), Failure> {
    let posted = PostedRow {
        key: key(id, seat),
        chat: seat.chat.name().to_owned(),
        channel: at.channel.clone(),
        ts: at.ts.clone(),
        thread: None,
        incident: Some(id.to_string()),
        card: "a channel".into(),
    };
    let batch = Batch { posted: vec![posted], ..Batch::default() };
    desk.store.commit(batch, desk.clock.wall_now()).await.map_err(Failure::store)?;
    Ok(())
}

/// `inc-214-payments-5xx`: lower case, digits and dashes, as every chat allows.
fn name(incident: &Incident) -> String {
    let text = format!("{} {}", incident.id, incident.title).to_lowercase();
    let words = text.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in words {
        if name.len() + word.len() >= LONGEST_NAME {
            break;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(word);
    }
    name
}
