//! Answers that grow, and the sign that somebody is at work
//! (https://docs.slack.dev/reference/methods/chat.startStream, `assistant.threads.setStatus`).
//!
//! Where the workspace or a server does not know a method it is not tried again: people then see a
//! message that is edited.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::domain::id::PersonId;
use crate::ports::{ChatError, MessageRef, Place};

use super::SlackChat;
use super::chat::Effect;
use super::text::escape_within;

/// What `markdown_text` takes.
const MOST_WORDS: usize = 12_000;

/// What this server was found not to know.
#[derive(Debug, Default)]
pub(super) struct Unable {
    streams: AtomicBool,
    status: AtomicBool,
}

/// Answers that will not change by trying again.
fn is_lasting(error: &ChatError) -> bool {
    let (ChatError::Refused(why) | ChatError::Unavailable(why)) = error else { return false };
    ["unknown_method", "method_deprecated", "missing_scope", "not_allowed", "feature_not_enabled", "Slack answered 404"]
        .iter()
        .any(|word| why.contains(word))
}

impl SlackChat {
    pub(super) async fn start_stream(
        &self,
        thread: &MessageRef,
        to: &PersonId,
        words: &str,
    ) -> Result<Option<MessageRef>, ChatError> {
        if self.unable.streams.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (team, user) = to.as_str().split_once('/').unwrap_or(("", to.as_str()));
        let body = json!({
            "channel": thread.channel, "thread_ts": thread.ts,
            "recipient_team_id": team, "recipient_user_id": user,
            "markdown_text": escape_within(words, MOST_WORDS),
        });
        match self.write("chat.startStream", &body, Effect::Creates).await {
            Ok(begun) => {
                let ts = begun["ts"].as_str().ok_or_else(|| ChatError::Unknown("a stream without its ts".into()))?;
                Ok(Some(MessageRef { channel: thread.channel.clone(), ts: ts.to_owned() }))
            }
            Err(error) if is_lasting(&error) => {
                self.unable.streams.store(true, Ordering::Relaxed);
                tracing::info!(%error, "answers do not stream here; they are posted and edited");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn append_stream(&self, message: &MessageRef, words: &str) -> Result<(), ChatError> {
        let body = json!({
            "channel": message.channel, "ts": message.ts, "markdown_text": escape_within(words, MOST_WORDS),
        });
        self.write("chat.appendStream", &body, Effect::Creates).await.map(drop)
    }

    pub(super) async fn stop_stream(&self, message: &MessageRef) -> Result<(), ChatError> {
        let body = json!({"channel": message.channel, "ts": message.ts});
        self.write("chat.stopStream", &body, Effect::Idempotent).await.map(drop)
    }

    pub(super) async fn set_status(&self, place: &Place, words: &str) -> Result<(), ChatError> {
        let Some(thread) = place.thread.as_ref().or(place.message.as_ref()) else { return Ok(()) };
        if self.unable.status.load(Ordering::Relaxed) {
            return Ok(());
        }
        let body = json!({"channel_id": thread.channel, "thread_ts": thread.ts, "status": words});
        match self.write("assistant.threads.setStatus", &body, Effect::Idempotent).await {
            Err(error) if is_lasting(&error) => {
                self.unable.status.store(true, Ordering::Relaxed);
                tracing::info!(%error, "no status is shown here while somebody waits");
                Ok(())
            }
            other => other.map(drop),
        }
    }
}
