//! Channels for one incident on the page: a name is a channel as soon as something stands in it.

use async_trait::async_trait;

use super::Console;
use crate::domain::card::Tone;
use crate::domain::id::PersonId;
use crate::domain::narrative::note;
use crate::ports::{Channels, Chat, ChatError};

#[async_trait]
impl Channels for Console {
    async fn open(&self, name: &str) -> Result<String, ChatError> {
        Ok(name.to_owned())
    }

    /// Whoever sits at the page sees every channel.
    async fn invite(&self, _channel: &str, _people: &[PersonId]) -> Result<(), ChatError> {
        Ok(())
    }

    async fn archive(&self, channel: &str) -> Result<(), ChatError> {
        let card = note("This channel is archived; the incident's thread goes on.", Tone::Neutral);
        self.post(channel, None, &format!("{channel}/archived"), &card).await.map(drop)
    }
}
