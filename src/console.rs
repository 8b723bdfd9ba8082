//! The local chat page, for people without Slack: the same cards, the same buttons, one process.
//!
//! ```text
//! console.rs         Console: messages, edits, whispers, and who is told about them
//! console/http.rs    the routes: pages, JSON, live stream, acts of people
//! console/guard.rs   who may ask at all: loopback hosts, same origin, strict headers
//! console/acts.rs    the names of people's acts: each counts once
//! console/view.rs    what the pages show, as plain data that the app fills in
//! console/chart.rs   metric graphs and the alert funnel, drawn as SVG
//! console/topology.rs  the layered picture of who calls whom
//! ```
//!
//! Invariants: a message is stored before anyone sees it; `ts` is unique and only grows; every
//! change gets a new `revision`, so a reader that names the last revision it saw misses nothing. Each process
//! counts its own: a revision means something only with the `instance` that gave it.

mod acts;
mod channels;
pub mod chart;
mod guard;
mod http;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod topology;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::card::{Block, Card, Span};
use crate::domain::id::PersonId;
use crate::domain::time::Timestamp;
use crate::ports::{Chat, ChatError, Clock, MessageRef, Person, Place};

use acts::Acts;
pub use chart::{Metric, funnel_svg, metric_svg};
pub use http::{Pages, router};
pub use topology::topology_svg;

/// Numbers of writes that were given out and may not be seen yet when a later one is.
const UNSEEN_WRITES: i64 = 64;

/// Messages held in memory; the oldest leave first. A busy week is about 5,000.
const MOST_MESSAGES: usize = 20_000;

/// Who sits at the console and under which names it may be reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The person that every act of this page counts for.
    pub person: Person,
    /// Shown even before the first message; the first one opens by default.
    pub channels: Vec<String>,
    /// Host names beside loopback under which the page is served (without port).
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            person: Person { id: PersonId::new("local/you"), name: "you".into() },
            channels: vec!["ops".into()],
            hosts: vec![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredMessage {
    pub channel: String,
    /// Unique over all channels: `1732155425.000100`.
    pub ts: String,
    /// The root message's ts when this is a reply.
    pub thread: Option<String>,
    /// The poster's idempotency key; empty when there is none.
    pub key: String,
    pub author: Author,
    /// Set for a whisper: nobody else sees it.
    pub only_for: Option<PersonId>,
    pub card: Card,
    /// Grows with every post and edit, over all messages.
    pub revision: u64,
    pub posted_at: Timestamp,
    pub edited_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Author {
    Watch,
    Person { id: PersonId, name: String },
}

/// Where messages outlive the process.
#[async_trait]
pub trait ConsoleStore: Send + Sync + 'static {
    /// Keeps the message; one with the same channel and ts is replaced.
    async fn save_message(&self, message: &StoredMessage) -> anyhow::Result<()>;
    /// The newest by their time, at most so many, and the number of a write after which nothing was missed.
    async fn newest_messages(&self, most: usize) -> anyhow::Result<(Vec<StoredMessage>, i64)>;
    /// Messages that were written at this number or later, each with its own, in order. Whoever writes
    /// at the same time may get the same number.
    async fn messages_from(&self, written: i64) -> anyhow::Result<Vec<(StoredMessage, i64)>>;
}

pub struct Console {
    settings: Settings,
    /// Whose revisions these are; no other process has the same.
    instance: String,
    store: Arc<dyn ConsoleStore>,
    clock: Arc<dyn Clock>,
    room: Mutex<Room>,
    acts: Mutex<Acts>,
    revision: watch::Sender<u64>,
    closing: CancellationToken,
}

/// Why words were not shown.
#[derive(Debug)]
enum NotSaid {
    /// Under this key something else has been said.
    OtherWords,
    Chat(ChatError),
}

impl Console {
    /// `instance` is new with every start, of letters and digits.
    pub async fn new(
        settings: Settings,
        instance: String,
        store: Arc<dyn ConsoleStore>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Arc<Self>> {
        let mut room = Room::default();
        let (mut messages, written) = store.newest_messages(MOST_MESSAGES).await?;
        room.written = written;
        messages.sort_by_key(|message| message.revision);
        for message in messages {
            // Two processes may have given the same.
            let revision = message.revision.max(room.revision + 1);
            room.keep(StoredMessage { revision, ..message });
        }
        let (revision, _) = watch::channel(room.revision);
        Ok(Arc::new(Self {
            settings,
            instance,
            store,
            clock,
            room: Mutex::new(room),
            acts: Mutex::default(),
            revision,
            closing: CancellationToken::new(),
        }))
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Ends the live streams, so that the server's graceful shutdown does not wait for browsers.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Shows what the person wrote. The same key is shown once, and stands for the same words in the same place.
    async fn say(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        text: &str,
    ) -> Result<MessageRef, NotSaid> {
        let Person { id, name } = self.settings.person.clone();
        let card = Card {
            fallback: text.chars().take(200).collect(),
            blocks: vec![Block::Text { spans: vec![Span::quoted(text)] }],
        };
        let mut room = self.room.lock().await;
        if let Some(known) = room.messages.values().rev().find(|message| message.key == key) {
            let root = thread.and_then(|root| room.root_of(root));
            let is_same = known.channel == channel && known.thread == root && known.card == card;
            return if is_same { Ok(known.place()) } else { Err(NotSaid::OtherWords) };
        }
        let author = Author::Person { id, name };
        let draft = Draft { channel, thread, key, author, only_for: None, card: &card };
        self.add_to(&mut room, draft).await.map_err(NotSaid::Chat)
    }

    async fn add(&self, draft: Draft<'_>) -> Result<MessageRef, ChatError> {
        let mut room = self.room.lock().await;
        self.add_to(&mut room, draft).await
    }

    async fn add_to(&self, room: &mut Room, draft: Draft<'_>) -> Result<MessageRef, ChatError> {
        let thread = match draft.thread {
            None => None,
            Some(root) => Some(room.root_of(root).ok_or_else(|| {
                ChatError::Refused(format!("no message {} in #{} to reply to", root.ts, root.channel))
            })?),
        };
        if let Some(known) = room.find(draft.channel, thread.as_deref(), draft.key) {
            return Ok(known);
        }
        let now = self.clock.wall_now();
        let message = StoredMessage {
            channel: draft.channel.to_owned(),
            ts: room.next_ts(now),
            thread,
            key: draft.key.to_owned(),
            author: draft.author,
            only_for: draft.only_for,
            card: draft.card.clone(),
            revision: room.revision + 1,
            posted_at: now,
            edited_at: None,
        };
        self.publish(room, message).await
    }

    /// Stored first, then shown: what a reader saw is there after a restart.
    async fn publish(&self, room: &mut Room, message: StoredMessage) -> Result<MessageRef, ChatError> {
        self.store
            .save_message(&message)
            .await
            .map_err(|why| ChatError::Unavailable(format!("the console could not store the message: {why:#}")))?;
        let place = message.place();
        room.keep(message);
        self.revision.send_replace(room.revision);
        Ok(place)
    }
}

struct Draft<'a> {
    channel: &'a str,
    thread: Option<&'a MessageRef>,
    key: &'a str,
    author: Author,
    only_for: Option<PersonId>,
    card: &'a Card,
}

#[async_trait]
impl Chat for Console {
    fn name(&self) -> &str {
        "console"
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn post(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        card: &Card,
    ) -> Result<MessageRef, ChatError> {
        self.add(Draft { channel, thread, key, author: Author::Watch, only_for: None, card }).await
    }

    async fn edit(&self, message: &MessageRef, card: &Card) -> Result<(), ChatError> {
        let mut room = self.room.lock().await;
        let Some(before) = room.get(message) else {
            return Err(ChatError::Refused(format!("no message {} in #{} to edit", message.ts, message.channel)));
        };
        if before.card == *card {
            return Ok(());
        }
        let edited = StoredMessage {
            card: card.clone(),
            revision: room.revision + 1,
            edited_at: Some(self.clock.wall_now()),
            ..before.clone()
        };
        self.publish(&mut room, edited).await.map(drop)
    }

    async fn find(&self, channel: &str, thread: Option<&MessageRef>, key: &str) -> Result<Vec<MessageRef>, ChatError> {
        let room = self.room.lock().await;
        let thread = thread.and_then(|root| room.root_of(root));
        Ok(room.find(channel, thread.as_deref(), key).into_iter().collect())
    }

    /// Nothing is ever posted twice here, so nothing has to be taken back.
    async fn remove(&self, message: &MessageRef) -> Result<(), ChatError> {
        let what = format!("message {} in #{} stays: the console keeps each key once", message.ts, message.channel);
        Err(ChatError::Refused(what))
    }

    async fn whisper(&self, place: &Place, to: &PersonId, card: &Card) -> Result<(), ChatError> {
        let draft = Draft {
            channel: &place.channel,
            thread: place.thread.as_ref(),
            key: "",
            author: Author::Watch,
            only_for: Some(to.clone()),
            card,
        };
        self.add(draft).await.map(drop)
    }

    /// What another process has posted or edited gets a revision of this one, so that readers here see it.
    async fn catch_up(&self) -> Result<(), ChatError> {
        let mut room = self.room.lock().await;
        let from = (room.written - UNSEEN_WRITES).max(0);
        let messages = self.store.messages_from(from).await;
        for (message, written) in messages.map_err(|why| ChatError::Unavailable(format!("{why:#}")))? {
            room.written = room.written.max(written);
            let known = room.messages.get(&message.ts);
            if known.is_some_and(|known| known.card == message.card && known.edited_at == message.edited_at) {
                continue;
            }
            let revision = room.revision + 1;
            room.keep(StoredMessage { revision, ..message });
        }
        self.revision.send_if_modified(|shown| std::mem::replace(shown, room.revision) != room.revision);
        Ok(())
    }

    async fn check(&self) -> Result<String, ChatError> {
        let room = self.room.lock().await;
        Ok(format!("console: {} messages, {} at the desk", room.messages.len(), self.settings.person.name))
    }
}

impl StoredMessage {
    fn place(&self) -> MessageRef {
        MessageRef { channel: self.channel.clone(), ts: self.ts.clone() }
    }

    fn visible_to(&self, person: &PersonId) -> bool {
        self.only_for.as_ref().is_none_or(|only| only == person)
    }
}

/// What is held in memory: the messages by ts, and the indexes that answer the page's questions.
#[derive(Default)]
struct Room {
    messages: BTreeMap<String, StoredMessage>,
    by_key: HashMap<(String, Option<String>, String), String>,
    by_revision: BTreeMap<u64, String>,
    replies: HashMap<String, Vec<String>>,
    revision: u64,
    /// The number of the newest write of the store that was read.
    written: i64,
    last_micros: i64,
}

impl Room {
    fn keep(&mut self, message: StoredMessage) {
        self.revision = self.revision.max(message.revision);
        self.last_micros = self.last_micros.max(micros_of(&message.ts));
        if let Some(before) = self.messages.get(&message.ts) {
            self.by_revision.remove(&before.revision);
        } else if let Some(root) = &message.thread {
            // What is read back comes in the order of its changes.
            let siblings = self.replies.entry(root.clone()).or_default();
            siblings.insert(siblings.partition_point(|reply| *reply < message.ts), message.ts.clone());
        }
        if !message.key.is_empty() {
            self.by_key
                .insert((message.channel.clone(), message.thread.clone(), message.key.clone()), message.ts.clone());
        }
        self.by_revision.insert(message.revision, message.ts.clone());
        self.messages.insert(message.ts.clone(), message);
        while self.messages.len() > MOST_MESSAGES {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((ts, message)) = self.messages.pop_first() else { return };
        self.by_revision.remove(&message.revision);
        self.by_key.remove(&(message.channel, message.thread.clone(), message.key));
        if let Some(root) = message.thread
            && let Some(siblings) = self.replies.get_mut(&root)
        {
            siblings.retain(|reply| *reply != ts);
            if siblings.is_empty() {
                self.replies.remove(&root);
            }
        }
    }

    fn get(&self, at: &MessageRef) -> Option<&StoredMessage> {
        self.messages.get(&at.ts).filter(|message| message.channel == at.channel)
    }

    /// A reply to a reply belongs to the same thread, as in Slack. A root that is too old to be held is known by
    /// its replies.
    fn root_of(&self, at: &MessageRef) -> Option<String> {
        let root = self.get(at).map(|message| message.thread.clone().unwrap_or_else(|| message.ts.clone()));
        root.or_else(|| {
            let is_here = self.replies_to(&at.ts).next().is_some_and(|reply| reply.channel == at.channel);
            is_here.then(|| at.ts.clone())
        })
    }

    fn find(&self, channel: &str, thread: Option<&str>, key: &str) -> Option<MessageRef> {
        let ts = self.by_key.get(&(channel.to_owned(), thread.map(str::to_owned), key.to_owned()))?;
        Some(MessageRef { channel: channel.to_owned(), ts: ts.clone() })
    }

    fn replies_to(&self, root: &str) -> impl DoubleEndedIterator<Item = &StoredMessage> {
        self.replies.get(root).into_iter().flatten().filter_map(|ts| self.messages.get(ts))
    }

    fn next_ts(&mut self, now: Timestamp) -> String {
        self.last_micros = now.millis().saturating_mul(1000).max(self.last_micros + 1);
        format!("{:010}.{:06}", self.last_micros / 1_000_000, self.last_micros % 1_000_000)
    }
}

fn micros_of(ts: &str) -> i64 {
    let (secs, micros) = ts.split_once('.').unwrap_or((ts, "0"));
    secs.parse::<i64>().unwrap_or(0).saturating_mul(1_000_000).saturating_add(micros.parse().unwrap_or(0))
}
