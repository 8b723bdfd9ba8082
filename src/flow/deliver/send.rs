//! One message to one chat, and the look at what a lost reply left behind (P4).

use super::super::desk::{ChatSeat, Counters, Desk};
use super::Failure;
use super::lane::Suspect;
use crate::domain::card::Card;
use crate::domain::id::IncidentId;
use crate::ports::{MessageRef, crash};
use crate::store::{Batch, NewEffect, OutboxRow, PostedRow};

/// Where and as what a card goes.
pub(super) struct Parcel<'a> {
    pub row: &'a OutboxRow,
    /// Without the chat's name; the row's own key, but for what is told beside it.
    pub key: &'a str,
    pub channel: &'a str,
    pub thread: Option<&'a MessageRef>,
    pub card: &'a Card,
    pub incident: Option<&'a IncidentId>,
    /// A post under this key may have happened.
    pub look_first: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sent {
    Edited,
    /// `twice`: it may be there a second time.
    Posted {
        message: MessageRef,
        thread: Option<MessageRef>,
        twice: bool,
    },
    /// Nothing was to be shown.
    Nothing,
}

/// Posts under the row's key, or edits what was posted under it.
pub(super) async fn send(desk: &Desk, seat: &ChatSeat, parcel: Parcel<'_>) -> Result<Sent, Failure> {
    let key = format!("{}@{}", parcel.key, seat.chat.name());
    let card = parcel.card.shown();
    if let Some(message) = desk.store.posted(&key).await.map_err(Failure::store)? {
        crash::point("deliver.before_edit");
        sure(desk).await?;
        seat.chat.edit(&message, &card).await.map_err(Failure::Chat)?;
        crash::point("deliver.edited");
        Counters::add(&desk.counters.edits, 1);
        return Ok(Sent::Edited);
    }
    let found = match parcel.look_first {
        true => seat.chat.find(parcel.channel, parcel.thread, &key).await.map_err(Failure::Chat)?,
        false => vec![],
    };
    let adopted = !found.is_empty();
    let (message, twice) = match found.into_iter().next() {
        Some(message) => (message, true),
        None => {
            if !seat.chat.is_idempotent() {
                desk.store.outbox_begun(parcel.row).await.map_err(Failure::store)?;
            }
            crash::point("deliver.before_post");
            sure(desk).await?;
            let posted = seat.chat.post(parcel.channel, parcel.thread, &key, &card).await;
            crash::point("deliver.posted");
            Counters::add(&desk.counters.posts, u64::from(posted.is_ok()));
            (posted.map_err(Failure::Chat)?, parcel.look_first)
        }
    };
    let posted = PostedRow {
        key,
        chat: seat.chat.name().to_owned(),
        channel: message.channel.clone(),
        ts: message.ts.clone(),
        thread: parcel.thread.map(|thread| thread.ts.clone()),
        incident: parcel.incident.map(ToString::to_string),
        card: card.fallback,
    };
    let row = parcel.row;
    let mut batch = Batch { posted: vec![posted], ..Batch::default() };
    if adopted {
        // It says what was so when it was posted, and an approval may have been decided since: told once more,
        // as an edit.
        let again = NewEffect { key: row.key.clone(), incident: row.incident.clone(), body: row.body.clone() };
        batch.effects.push(again);
    }
    desk.store.commit(batch, desk.clock.wall_now()).await.map_err(Failure::store)?;
    crash::point("deliver.recorded");
    Ok(Sent::Posted { message, thread: parcel.thread.cloned(), twice })
}

/// Only whoever leads tells anything.
pub(super) async fn sure(desk: &Desk) -> Result<(), Failure> {
    desk.term.sure().await.map_err(|lost| Failure::Later(lost.to_string(), None))
}

/// Takes back all but the one that edits go to. Answers how many were too many.
pub(super) async fn remove_duplicates(desk: &Desk, seat: &ChatSeat, suspect: &Suspect) -> Result<usize, Failure> {
    let found = seat.chat.find(&suspect.kept.channel, suspect.thread.as_ref(), &suspect.key).await;
    let mut removed = 0;
    for message in found.map_err(Failure::Chat)? {
        if message != suspect.kept {
            sure(desk).await?;
            seat.chat.remove(&message).await.map_err(Failure::Chat)?;
            removed += 1;
        }
    }
    Ok(removed)
}
