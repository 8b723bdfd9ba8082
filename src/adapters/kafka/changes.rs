//! Changes from a topic. An offset is committed after the change is durable; what cannot be read goes
//! to the dead-letter topic with the reason.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::dead_letter::{DeadLetter, DeadLetterSink, DeadLetters, Pause};
use super::member::{GroupSink, Member};
use super::{Ended, Settled, settings};
use crate::config::Kafka;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    Changes(usize),
    /// It can never become a change; says why.
    Refused(String),
}

/// Where changes go; an error means "not durable, do not commit".
#[async_trait::async_trait]
pub trait ChangeSink: DeadLetterSink + GroupSink + 'static {
    async fn accept(&self, payload: &[u8]) -> anyhow::Result<Kept>;
}

pub struct ChangeConsumer {
    member: Member,
    dead_letters: DeadLetters,
    topic: String,
}

impl ChangeConsumer {
    pub fn connect(config: &Kafka, topic: &str) -> Result<Self, KafkaError> {
        let (mut reads, writes): (ClientConfig, ClientConfig) = settings(config);
        // Its own group: a group whose members read different topics is balanced again for each.
        reads.set("group.id", format!("{}-changes", config.group));
        let member = Member::join(&reads, topic)?;
        let dead_letters = DeadLetters::new(writes.create()?, &config.dead_letter_topic);
        Ok(Self { member, dead_letters, topic: topic.to_owned() })
    }

    pub async fn run(mut self, sink: Arc<dyn ChangeSink>, mut stop: watch::Receiver<bool>) {
        info!(topic = self.topic, "changes are read from kafka");
        while let Ended::Lost(why) = self.read(sink.as_ref(), &mut stop).await {
            match self.member.anew(&why).await {
                Ok(member) => self.member = member,
                Err(failure) => {
                    error!(error = %failure, "changes are not read from kafka until the next start");
                    return;
                }
            }
        }
        self.member.leave().await;
    }

    async fn read(&self, sink: &dyn ChangeSink, stop: &mut watch::Receiver<bool>) -> Ended {
        let mut lost = pin!(self.member.lost(sink));
        while !*stop.borrow() {
            let message = tokio::select! {
                message = self.member.consumer().recv() => message,
                why = &mut lost => return Ended::Lost(why),
                _ = stop.changed() => break,
            };
            let message = match message {
                Ok(message) => message,
                Err(failure) => {
                    warn!(error = %failure, "kafka");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let payload = message.payload().unwrap_or_default();
            let place = (message.partition(), message.offset());
            if self.settle(payload, place, sink, stop).await == Settled::No {
                break;
            }
            if let Err(failure) = self.member.consumer().commit_message(&message, CommitMode::Async) {
                // Delivered again later: a change of one key is kept once.
                warn!(error = %failure, "commit failed");
            }
        }
        Ended::Stopped
    }

    /// Tries as long as it takes: what comes behind waits on the broker.
    async fn settle(
        &self,
        payload: &[u8],
        (partition, offset): (i32, i64),
        sink: &dyn ChangeSink,
        stop: &mut watch::Receiver<bool>,
    ) -> Settled {
        let mut pause = Pause::default();
        let kept = loop {
            match sink.accept(payload).await {
                Ok(kept) => break kept,
                Err(failure) => {
                    error!(error = %failure, "a change could not be stored; it is tried again");
                    if pause.ends_with(stop).await {
                        return Settled::No;
                    }
                }
            }
        };
        let Kept::Refused(reason) = kept else { return Settled::Yes };
        let letter = DeadLetter { topic: &self.topic, partition, offset, payload, reason: &reason };
        self.dead_letters.set_aside(&letter, sink, stop).await
    }
}
