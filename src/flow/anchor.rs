//! The head of the audit chain, told where its rows cannot be written (S15): whoever can write the database
//! can make a chain that fits itself, and does not reach what the chat holds.
//!
//! Invariants: one message a day in the first chat's own channel, the hours of the day in its thread; what
//! was told already is not told again.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::error;

use super::deliver::{Effect, Stage};
use super::desk::{Desk, FlowError};
use crate::domain::card::{Block, Card, Span};
use crate::domain::time::Timestamp;
use crate::ports::Place;
use crate::store::{Batch, NewEffect};

const ANCHORED: &str = "audit_anchored";
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What was told last.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Anchored {
    at: Timestamp,
    row: i64,
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let every = Duration::from_secs(desk.config.routing.anchor_seconds);
    let never = Notify::new();
    while !desk.stopping() {
        if !every.is_zero()
            && let Err(failure) = anchor_if_due(&desk, every).await
        {
            error!(error = %failure, "the audit's head could not be told");
        }
        desk.wait(&never, LOOK_EVERY.min(every.max(Duration::from_millis(100)))).await;
    }
    Ok(())
}

async fn anchor_if_due(desk: &Desk, every: Duration) -> Result<(), FlowError> {
    let Some(seat) = desk.chats.first() else { return Ok(()) };
    let wall_now = desk.clock.wall_now();
    let last = desk.store.setting(ANCHORED).await?.and_then(|text| serde_json::from_str::<Anchored>(&text).ok());
    // A watch that begins has nothing yet that is worth a message.
    let Some(last) = last else { return keep(desk, Anchored { at: wall_now, row: 0 }, vec![]).await };
    // What was told in the future was told by a clock that has been set back since.
    if last.at <= wall_now && wall_now.since(last.at) < every {
        return Ok(());
    }
    let (row, head) = desk.store.audit_head().await?;
    if row == last.row {
        return keep(desk, Anchored { at: wall_now, row }, vec![]).await;
    }
    let day = day_of(wall_now);
    let (chat, channel) = (seat.chat.name().to_owned(), seat.channel.clone());
    let root = desk.store.posted(&format!("{day}@{chat}")).await?;
    let key = if root.is_some() { format!("{day}/{row}") } else { day };
    let place = Place { channel, thread: root, message: None, command: None };
    let effect = Effect::Reply { chat, place, card: card(row, &head), stage: Stage::Final };
    let body = serde_json::to_string(&effect).unwrap_or_default();
    keep(desk, Anchored { at: wall_now, row }, vec![NewEffect { key, incident: None, body }]).await?;
    desk.bells.outbox.notify_one();
    Ok(())
}

async fn keep(desk: &Desk, anchored: Anchored, effects: Vec<NewEffect>) -> Result<(), FlowError> {
    let wall_now = anchored.at;
    let settings = vec![(ANCHORED.into(), serde_json::to_string(&anchored).unwrap_or_default())];
    desk.store.commit(Batch { settings, effects, ..Batch::default() }, wall_now).await?;
    Ok(())
}

/// The key of the day's message.
fn day_of(wall_now: Timestamp) -> String {
    let day = DateTime::from_timestamp_millis(wall_now.millis()).unwrap_or_default();
    format!("anchor/{}", day.format("%Y-%m-%d"))
}

fn card(row: i64, head: &str) -> Card {
    let what = format!("Audit: {row} rows, head {head}.");
    let spans = vec![
        Span::plain(format!("{what} Whoever doubts a copy of them compares it: ")),
        Span::code(format!("midwatch audit verify --anchor {row}:{head}")),
    ];
    Card { fallback: what, blocks: vec![Block::Context { spans }] }
}
