//! What a topic holds, read once from its beginning to its end: no group, no commit, nobody disturbed.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::config::Kafka;
use crate::domain::time::Timestamp;

/// One message, with the time that the broker or its producer gave it.
pub struct Told {
    pub at: Option<Timestamp>,
    pub payload: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the brokers at {brokers} do not tell of the topic {topic}: {source}")]
    Unreachable { brokers: String, topic: String, source: Box<KafkaError> },
    #[error("there is no topic {topic} at {brokers}")]
    NoTopic { brokers: String, topic: String },
    #[error("the topic {topic} cannot be read to its end: {reason}")]
    CutShort { topic: String, reason: String },
}

const PATIENCE: Duration = Duration::from_secs(20);

/// All messages that the topic holds now, in the order of their times (then partition and offset).
pub fn read_topic(config: &Kafka, topic: &str) -> Result<Vec<Told>, HistoryError> {
    let unreachable = |source| HistoryError::Unreachable {
        brokers: config.brokers.clone(),
        topic: topic.into(),
        source: Box::new(source),
    };
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.brokers)
        // Never joined: partitions are assigned by hand. The client wants a name all the same.
        .set("group.id", "midwatch-replay")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    for (name, value) in &config.properties {
        settings.set(name, value);
    }
    let consumer: BaseConsumer = settings.create().map_err(unreachable)?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(unreachable)?;
    let found = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
    let partitions: Vec<i32> =
        found.map_or_else(Vec::new, |known| known.partitions().iter().map(|one| one.id()).collect());
    if partitions.is_empty() {
        return Err(HistoryError::NoTopic { brokers: config.brokers.clone(), topic: topic.into() });
    }
    let mut left = std::collections::BTreeMap::new();
    let mut wanted = TopicPartitionList::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).map_err(unreachable)?;
        if high > low {
            left.insert(partition, high);
            wanted.add_partition_offset(topic, partition, Offset::Beginning).map_err(unreachable)?;
        }
    }
    consumer.assign(&wanted).map_err(unreachable)?;
    let mut told: Vec<(i64, i32, i64, Told)> = vec![];
    let mut heard = Instant::now();
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let (partition, offset) = (message.partition(), message.offset());
                let Some(high) = left.get(&partition).copied() else { continue };
                if offset < high {
                    let at = message.timestamp().to_millis().filter(|millis| *millis > 0);
                    let payload = message.payload().unwrap_or_default().to_vec();
                    told.push((
                        at.unwrap_or_default(),
                        partition,
                        offset,
                        Told { at: at.map(Timestamp::from_millis), payload },
                    ));
                }
                if offset + 1 >= high {
                    left.remove(&partition);
                }
            }
            Some(Err(failure)) if heard.elapsed() > PATIENCE => {
                return Err(HistoryError::CutShort { topic: topic.into(), reason: failure.to_string() });
            }
            None if heard.elapsed() > PATIENCE => {
                // Compaction and transactions leave holes: the last offset may hold nothing.
                let behind = |partition: &i32, high: i64| {
                    let position = consumer.position().ok();
                    let element = position.as_ref().and_then(|all| all.find_partition(topic, *partition));
                    !element.is_some_and(|at| matches!(at.offset(), Offset::Offset(next) if next >= high))
                };
                if left.iter().any(|(partition, high)| behind(partition, *high)) {
                    let reason = format!("no message within {} s", PATIENCE.as_secs());
                    return Err(HistoryError::CutShort { topic: topic.into(), reason });
                }
                left.clear();
            }
            Some(Err(_)) | None => {}
        }
    }
    told.sort_by_key(|(at, partition, offset, _)| (*at, *partition, *offset));
    Ok(told.into_iter().map(|(.., told)| told).collect())
}
