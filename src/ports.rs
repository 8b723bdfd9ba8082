//! What the watch needs of the outside world, as traits. Adapters implement, the app wires.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::card::{ButtonAction, Card};
use crate::domain::id::PersonId;
use crate::domain::time::Timestamp;

/// The three kinds of time. Production reads the system clock for all of them; the simulated
/// estate has its own, faster one for event time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Drives baselines, windows and correlation.
    fn event_now(&self) -> Timestamp;
    /// For people, expiry and audit.
    fn wall_now(&self) -> Timestamp;
    /// Waits until `span` of event time has passed.
    async fn sleep_event(&self, span: Duration);
}

/// The clock of production: event time is wall time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn event_now(&self) -> Timestamp {
        self.wall_now()
    }

    fn wall_now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(since_epoch.as_millis() as i64)
    }

    async fn sleep_event(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// Everything that comes in from people. Alerts come in as raw payloads beside it; both are kept
/// in the durable inbox before anything else happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "inbound", rename_all = "snake_case")]
pub enum FromPeople {
    /// A button. `value` is what the card's button carried.
    Click { place: Place, by: Person, action: ButtonAction, value: String, reason: Option<String> },
    /// `/ops diagnose checkout`: `text` is what follows the command's name.
    Command { place: Place, by: Person, text: String },
    /// The bot was mentioned, or written to directly.
    Mention { place: Place, by: Person, text: String },
}

/// Who, as the transport proved it (signature or socket), never as a payload's text claims it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
}

/// Where in the chat: a channel, and the thread's root message when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub channel: String,
    pub thread: Option<MessageRef>,
    /// The message that carried the button, when it was a click.
    pub message: Option<MessageRef>,
}

/// A posted message, as the transport names it (Slack: channel and ts).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageRef {
    pub channel: String,
    pub ts: String,
}

/// A chat that people are in. Implementations: Slack and the local console.
///
/// `key` is our own idempotency key. After an unknown result the caller asks `find` before it
/// posts again (Slack offers no idempotency, see P4).
#[async_trait]
pub trait Chat: Send + Sync + 'static {
    fn name(&self) -> &str;
    async fn post(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        card: &Card,
    ) -> Result<MessageRef, ChatError>;
    async fn edit(&self, message: &MessageRef, card: &Card) -> Result<(), ChatError>;
    /// Finds a message that was posted under `key`, for read-back after a lost reply.
    async fn find(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
    ) -> Result<Option<MessageRef>, ChatError>;
    /// Shown to one person only; may be dropped by the transport.
    async fn whisper(&self, place: &Place, to: &PersonId, card: &Card) -> Result<(), ChatError>;
    /// Checks credentials and rights: one line for `midwatch check`.
    async fn check(&self) -> Result<String, ChatError>;
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// Not sent; try again after the given time.
    #[error("rate limited, retry after {0:?}")]
    RateLimited(Duration),
    /// Perhaps sent: read back before trying again.
    #[error("result unknown: {0}")]
    Unknown(String),
    /// Not sent, worth trying again (5xx before acceptance, connection refused).
    #[error("chat unavailable: {0}")]
    Unavailable(String),
    /// Will never work as it is (missing scope, unknown channel, invalid blocks).
    #[error("refused by the chat: {0}")]
    Refused(String),
}

/// Where a chat hands what people did; returns only after it is durable.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// `dedupe` names the delivery (Slack: event id or envelope id), so that a second delivery of
    /// the same act is kept once.
    async fn accept(&self, dedupe: &str, act: FromPeople) -> Result<(), InboxFull>;
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the inbox does not accept at the moment: {0}")]
pub struct InboxFull(pub String);
