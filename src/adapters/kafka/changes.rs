//! Changes from a topic. An offset is committed after the change is durable; what cannot be read goes
//! to the dead-letter topic with the reason.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::settings;
use crate::config::Kafka;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    Changes(usize),
    /// It can never become a change; says why.
    Refused(String),
}

/// Where changes go; an error means "not durable, do not commit".
#[async_trait::async_trait]
pub trait ChangeSink: Send + Sync + 'static {
    async fn accept(&self, payload: &[u8]) -> anyhow::Result<Kept>;
}

pub struct ChangeConsumer {
    consumer: StreamConsumer,
    producer: FutureProducer,
    topic: String,
    dead_letter_topic: String,
}

impl ChangeConsumer {
    pub fn connect(config: &Kafka, topic: &str) -> Result<Self, KafkaError> {
        let (mut reads, writes): (ClientConfig, ClientConfig) = settings(config);
        // Its own group: a group whose members read different topics is balanced again for each.
        reads.set("group.id", format!("{}-changes", config.group));
        let consumer: StreamConsumer = reads.create()?;
        consumer.subscribe(&[topic])?;
        let dead_letter_topic = config.dead_letter_topic.clone();
        Ok(Self { consumer, producer: writes.create()?, topic: topic.to_owned(), dead_letter_topic })
    }

    pub async fn run(self, sink: Arc<dyn ChangeSink>, mut stop: watch::Receiver<bool>) {
        info!(topic = self.topic, "changes are read from kafka");
        while !*stop.borrow() {
            let message = tokio::select! {
                message = self.consumer.recv() => message,
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
            let mut pause = Duration::from_millis(100);
            // Tries as long as it takes: what comes behind waits on the broker.
            while let Err(failure) = self.settle(payload, message.offset(), sink.as_ref()).await {
                error!(error = %failure, "a change could not be stored; it is tried again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                    _ = stop.changed() => return,
                }
            }
            if let Err(failure) = self.consumer.commit_message(&message, CommitMode::Async) {
                // Delivered again later: a change of one key is kept once.
                warn!(error = %failure, "commit failed");
            }
        }
    }

    async fn settle(&self, payload: &[u8], offset: i64, sink: &dyn ChangeSink) -> anyhow::Result<()> {
        let Kept::Refused(why) = sink.accept(payload).await? else { return Ok(()) };
        warn!(topic = self.topic, offset, reason = why, "a message is no change and is set aside");
        let headers = OwnedHeaders::new().insert(Header { key: "midwatch-reason", value: Some(why.as_str()) });
        let key = offset.to_string();
        let record = FutureRecord::to(&self.dead_letter_topic).key(&key).payload(payload).headers(headers);
        let sent = self.producer.send(record, Duration::from_secs(10)).await;
        sent.map_err(|(failure, _)| anyhow::anyhow!("dead-letter topic {}: {failure}", self.dead_letter_topic))?;
        Ok(())
    }
}
