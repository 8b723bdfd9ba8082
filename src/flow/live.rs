//! While somebody waits for an answer: a sign that it is being worked on, and, when it takes longer,
//! the answer's own message, which grows with what is being done.
//!
//! Invariant: the message stands under the answer's key and comes through the outbox as the answer does,
//! so that the answer is an edit of it and never a second message (P4). Only what a chat streams is told
//! directly: it has a way of its own to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::deliver::{Effect, Stage};
use super::desk::{ChatSeat, Desk};
use crate::domain::card::{Card, Tone};
use crate::domain::id::PersonId;
use crate::domain::narrative::note;
use crate::domain::redact::redact;
use crate::ports::{ChatError, MessageRef, Place};
use crate::store::{Batch, NewEffect, PostedRow};

/// Quicker answers need no sign.
const SIGN_AFTER: Duration = Duration::from_secs(1);
const MESSAGE_AFTER: Duration = Duration::from_secs(3);
/// Between two additions: Slack counts each as a call.
const GROW_EVERY: Duration = Duration::from_secs(1);
const FALLBACK_EVERY: Duration = Duration::from_secs(3);
/// What is not yet shown; more is of no use to a reader.
const MOST_WAITING: usize = 64;
/// The answer does not wait longer than this for the message that it replaces.
const LAST_CALL: Duration = Duration::from_secs(10);

tokio::task_local! {
    static HEARD: mpsc::Sender<String>;
}

/// Tells whoever waits what is being done. Without anybody who waits, nothing happens.
pub fn say(words: impl Into<String>) {
    let words = words.into();
    debug!(words, "said");
    // Full: the reader has enough to read.
    let _ = HEARD.try_with(|heard| heard.try_send(words));
}

/// Does the work and gives how long of it went by in waiting for others.
pub async fn waited<F: Future>(work: F) -> (F::Output, Duration) {
    let mut work = std::pin::pin!(work);
    let (began, mut busy) = (Instant::now(), Duration::ZERO);
    let done = std::future::poll_fn(|context| {
        let polled = Instant::now();
        let state = work.as_mut().poll(context);
        busy += polled.elapsed();
        state
    })
    .await;
    (done, began.elapsed().saturating_sub(busy))
}

/// How long somebody waits before there is a message to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The answer is expected to be quick.
    Some,
    /// It is known to take a while.
    None,
}

/// Does the work for whoever asked at a place; `key` is what its answer will be posted under, without
/// the chat's name.
pub async fn shown<T>(
    desk: &Arc<Desk>,
    chat: &str,
    key: &str,
    (place, to): (&Place, &PersonId),
    patience: Patience,
    work: impl Future<Output = T>,
) -> T {
    let Some(seat) = desk.chats.iter().position(|seat| seat.chat.name() == chat) else { return work.await };
    let (heard, hears) = mpsc::channel(MOST_WAITING);
    let teller = Teller {
        desk: desk.clone(),
        seat,
        place: place.clone(),
        to: to.clone(),
        key: key.to_owned(),
        patience,
        message: None,
    };
    let mut telling = tokio::spawn(teller.run(hears));
    let done = HEARD.scope(heard, work).await;
    // The work is over and with it the sender: the teller ends what it began.
    if timeout(LAST_CALL, &mut telling).await.is_err() {
        debug!(key, "a growing answer did not end in time");
        // Nothing of it may come after the answer.
        telling.abort();
        let _ = telling.await;
    }
    done
}

struct Teller {
    desk: Arc<Desk>,
    seat: usize,
    place: Place,
    to: PersonId,
    key: String,
    patience: Patience,
    message: Option<Growing>,
}

enum Growing {
    /// The chat adds to it.
    Stream(MessageRef),
    /// Told anew as a whole, with all that was said.
    Told(String),
}

impl Teller {
    fn seat(&self) -> &ChatSeat {
        &self.desk.chats[self.seat]
    }

    async fn run(mut self, mut hears: mpsc::Receiver<String>) {
        let began = Instant::now();
        let mut tick = interval(Duration::from_millis(250));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut waiting, mut signed, mut last) = (vec![], false, began);
        loop {
            let due = match (&self.message, self.patience) {
                (None, Patience::None) => true,
                (None, Patience::Some) => began.elapsed() >= MESSAGE_AFTER,
                (Some(Growing::Stream(_)), _) => !waiting.is_empty() && last.elapsed() >= GROW_EVERY,
                (Some(Growing::Told(_)), _) => !waiting.is_empty() && last.elapsed() >= FALLBACK_EVERY,
            };
            if due {
                let words = redact(&std::mem::take(&mut waiting).join("\n"));
                if let Err(error) = self.tell(&words).await {
                    debug!(key = self.key, %error, "a growing answer was not shown");
                    // The answer itself comes all the same; this was only to shorten the wait.
                    while hears.recv().await.is_some() {}
                    break;
                }
                last = Instant::now();
            }
            tokio::select! {
                words = hears.recv() => match words {
                    Some(words) => waiting.push(words),
                    None => break,
                },
                _ = tick.tick() => {}
            }
            if !signed && began.elapsed() >= SIGN_AFTER {
                signed = true;
                self.logged(self.seat().chat.working(&self.place, "is looking into it").await);
            }
        }
        if let Some(Growing::Stream(message)) = &self.message {
            self.logged(self.seat().chat.end(message).await);
        }
    }

    async fn tell(&mut self, words: &str) -> Result<(), ChatError> {
        self.desk.term.sure().await.map_err(|lost| ChatError::Unavailable(lost.to_string()))?;
        match &mut self.message {
            Some(Growing::Stream(message)) => {
                let message = message.clone();
                self.seat().chat.grow(&message, &format!("{words}\n")).await
            }
            Some(Growing::Told(said)) => {
                said.push('\n');
                said.push_str(words);
                let card = note(said, Tone::Working);
                self.put(card).await
            }
            None => self.begin(words).await,
        }
    }

    async fn begin(&mut self, words: &str) -> Result<(), ChatError> {
        let first = format!("I look into it; the answer follows here.\n{words}").trim().to_owned();
        let thread = self.place.thread.clone().or_else(|| self.place.message.clone());
        let begun = match &thread {
            Some(thread) => self.seat().chat.begin(thread, &self.to, &first).await?,
            None => None,
        };
        let Some(message) = begun else {
            let card = note(&first, Tone::Working);
            self.message = Some(Growing::Told(first));
            return self.put(card).await;
        };
        let posted = PostedRow {
            key: format!("{}@{}", self.key, self.seat().chat.name()),
            chat: self.seat().chat.name().to_owned(),
            channel: message.channel.clone(),
            ts: message.ts.clone(),
            thread: thread.map(|thread| thread.ts),
            incident: None,
            card: first,
        };
        if let Err(error) = self.keep(Batch { posted: vec![posted], ..Batch::default() }).await {
            // Nobody would know it for the answer's own message, and a second one would follow.
            self.logged(self.seat().chat.remove(&message).await);
            return Err(error);
        }
        self.message = Some(Growing::Stream(message));
        Ok(())
    }

    /// Into the outbox, under the answer's key.
    async fn put(&self, card: Card) -> Result<(), ChatError> {
        let chat = self.seat().chat.name().to_owned();
        let effect = Effect::Reply { chat, place: self.place.clone(), card, stage: Stage::Growing };
        let body = serde_json::to_string(&effect).unwrap_or_default();
        let effect = NewEffect { key: self.key.clone(), incident: None, body };
        self.keep(Batch { effects: vec![effect], ..Batch::default() }).await?;
        self.desk.bells.outbox.notify_one();
        Ok(())
    }

    async fn keep(&self, batch: Batch) -> Result<(), ChatError> {
        let kept = self.desk.store.commit(batch, self.desk.clock.wall_now()).await;
        kept.map(drop).map_err(|error| ChatError::Unavailable(error.to_string()))
    }

    fn logged(&self, result: Result<(), ChatError>) {
        if let Err(error) = result {
            debug!(key = self.key, %error, "a sign of work was not shown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_is_not_waited_for() {
        let work = async {
            // The clock moves while the work is at it.
            tokio::time::advance(Duration::from_millis(20)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            7
        };
        assert_eq!(waited(work).await, (7, Duration::from_millis(50)));
    }
}
