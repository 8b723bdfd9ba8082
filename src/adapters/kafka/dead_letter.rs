//! Where a message goes that can never become an alert or a change.
//!
//! Invariants: such a message never stops what comes behind it. What does not fit the dead-letter topic is
//! shortened; what the topic does not take at all (there is none, or no right to write) is kept in the
//! audit alone. Only errors that pass by themselves are waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{error, warn};

use super::Settled;
use crate::domain::id::Digest;
use crate::domain::redact::redact;

/// How much of a message is tried, one after the other, when the topic says that it is too large. A broker
/// takes 1 MB unless it is told otherwise, headers included.
const SIZES: [usize; 4] = [super::MAX_MESSAGE, 256 << 10, 16 << 10, 1 << 10];
/// Of a message that is on no topic, in the audit.
const HEAD: usize = 1 << 10;
/// A topic that takes nothing is not asked again for each message: to find out costs seconds.
const CLOSED: Duration = Duration::from_secs(60);

/// A message with the reason why it is set aside.
pub struct DeadLetter<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub payload: &'a [u8],
    pub reason: &'a str,
}

/// Where its content is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resting {
    /// On the dead-letter topic: so many bytes of it.
    Topic(usize),
    /// Nowhere but in the audit; says why the topic does not take it.
    Audit(String),
}

/// Keeps that a message was set aside; an error means "not durable".
#[async_trait::async_trait]
pub trait DeadLetterSink: Send + Sync {
    async fn dead_letter(&self, letter: &DeadLetter<'_>, resting: &Resting) -> anyhow::Result<()>;
}

impl DeadLetter<'_> {
    /// `topic/partition@offset`
    pub fn origin(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    /// For the audit: with its first bytes where they are nowhere else.
    pub fn told(&self, resting: &Resting) -> Value {
        let mut told = json!({
            "reason": self.reason,
            "bytes": self.payload.len(),
            "sha256": Digest::of(self.payload).as_str(),
        });
        match resting {
            Resting::Topic(bytes) if *bytes < self.payload.len() => told["shortened_to"] = json!(bytes),
            Resting::Topic(_) => {}
            Resting::Audit(why) => {
                told["not_sent"] = json!(why);
                let head = &self.payload[..self.payload.len().min(HEAD)];
                told["head"] = json!(redact(&String::from_utf8_lossy(head)));
            }
        }
        told
    }
}

pub struct DeadLetters {
    producer: FutureProducer,
    topic: String,
    /// Until when the topic is not asked again, and why it took nothing.
    closed: Mutex<Option<(Instant, String)>>,
}

impl DeadLetters {
    pub fn new(producer: FutureProducer, topic: &str) -> Self {
        Self { producer, topic: topic.to_owned(), closed: Mutex::default() }
    }

    /// Sends it and keeps that in the audit, each once; tries as long as it takes.
    pub(super) async fn set_aside(
        &self,
        letter: &DeadLetter<'_>,
        sink: &dyn DeadLetterSink,
        stop: &mut watch::Receiver<bool>,
    ) -> Settled {
        let mut pause = Pause::default();
        let resting = loop {
            match self.send(letter).await {
                Ok(resting) => break resting,
                Err(failure) => {
                    error!(error = %failure, "a message could not be set aside; it is tried again");
                    if pause.ends_with(stop).await {
                        return Settled::No;
                    }
                }
            }
        };
        let (origin, reason) = (letter.origin(), letter.reason);
        match &resting {
            Resting::Topic(bytes) => warn!(origin, reason, bytes, "poison message set aside"),
            Resting::Audit(why) => warn!(origin, reason, why, "poison message kept in the audit alone"),
        }
        while let Err(failure) = sink.dead_letter(letter, &resting).await {
            error!(error = %failure, "a message that was set aside could not be recorded; it is tried again");
            if pause.ends_with(stop).await {
                return Settled::No;
            }
        }
        Settled::Yes
    }

    /// Err: it may pass by itself.
    async fn send(&self, letter: &DeadLetter<'_>) -> anyhow::Result<Resting> {
        if let Some(why) = self.is_closed() {
            return Ok(Resting::Audit(why));
        }
        let whole = letter.payload.len();
        let mut tried = None;
        for most in SIZES {
            let bytes = whole.min(most);
            if tried == Some(bytes) {
                continue;
            }
            tried = Some(bytes);
            let Err(failure) = self.try_send(letter, bytes).await else { return Ok(Resting::Topic(bytes)) };
            let said = format!("dead-letter topic {}: {failure}", self.topic);
            match Refusal::of(&failure) {
                Refusal::TooLarge => {}
                Refusal::ThisOne => return Ok(Resting::Audit(said)),
                Refusal::Everything => {
                    *self.closed.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((Instant::now() + CLOSED, said.clone()));
                    return Ok(Resting::Audit(said));
                }
                Refusal::ForNow => anyhow::bail!(said),
            }
        }
        let least = tried.unwrap_or(whole);
        Ok(Resting::Audit(format!("dead-letter topic {}: not even {least} bytes of it fit", self.topic)))
    }

    fn is_closed(&self) -> Option<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, why)| why.clone())
    }

    async fn try_send(&self, letter: &DeadLetter<'_>, bytes: usize) -> Result<(), KafkaError> {
        let (origin, whole) = (letter.origin(), letter.payload.len().to_string());
        let digest = Digest::of(letter.payload);
        let headers = OwnedHeaders::new()
            .insert(Header { key: "midwatch-reason", value: Some(letter.reason) })
            .insert(Header { key: "midwatch-origin", value: Some(origin.as_str()) })
            .insert(Header { key: "midwatch-bytes", value: Some(whole.as_str()) })
            .insert(Header { key: "midwatch-sha256", value: Some(digest.as_str()) });
        let key = format!("{}-{}", letter.partition, letter.offset);
        let record = FutureRecord::to(&self.topic).key(&key).payload(&letter.payload[..bytes]).headers(headers);
        self.producer.send(record, Duration::from_secs(10)).await.map(|_| ()).map_err(|(failure, _)| failure)
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        // What was set aside must be on the broker before the process ends.
        let _ = self.producer.flush(Duration::from_secs(2));
    }
}

/// What a failure says of the next attempt.
enum Refusal {
    TooLarge,
    /// This message never, others perhaps.
    ThisOne,
    /// No message, until a person does something.
    Everything,
    ForNow,
}

impl Refusal {
    fn of(failure: &KafkaError) -> Self {
        match failure.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge) => Self::TooLarge,
            Some(Code::InvalidRecord | Code::PolicyViolation) => Self::ThisOne,
            Some(
                Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::UnknownTopicId
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Self::Everything,
            Some(_) | None => Self::ForNow,
        }
    }
}

/// Between attempts, longer each time.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Pause {
    /// Waits; whether the watch ends meanwhile.
    pub(super) async fn ends_with(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        tokio::select! {
            () = tokio::time::sleep(self.0) => {
                self.0 = (self.0 * 2).min(Duration::from_secs(10));
                false
            }
            _ = stop.changed() => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::super::{history, settings};
    use super::*;
    use crate::config::Kafka;

    const TOPIC: &str = "alerts.dead";

    fn configured(brokers: String) -> Kafka {
        Kafka {
            brokers,
            topic: "alerts".into(),
            dead_letter_topic: TOPIC.into(),
            changes_topic: None,
            group: "midwatch".into(),
            properties: BTreeMap::new(),
        }
    }

    fn letters(config: &Kafka) -> DeadLetters {
        DeadLetters::new(settings(config).1.create().unwrap(), TOPIC)
    }

    fn letter(payload: &[u8]) -> DeadLetter<'_> {
        DeadLetter { topic: "alerts", partition: 2, offset: 41, payload, reason: "not JSON" }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_fit_is_shortened_and_says_what_it_was() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(TOPIC, 1, 1).unwrap();
        let config = configured(mock.bootstrap_servers());
        mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        let payload = vec![b'x'; 300 << 10];
        let letter = letter(&payload);
        let resting = letters(&config).send(&letter).await.unwrap();
        assert_eq!(resting, Resting::Topic(256 << 10));
        let told = letter.told(&resting);
        assert_eq!((&told["bytes"], &told["shortened_to"]), (&json!(300 << 10), &json!(256 << 10)));
        assert!(told.get("head").is_none(), "{told}");
        let kept = tokio::task::spawn_blocking(move || history::read_topic(&config, TOPIC)).await.unwrap().unwrap();
        assert_eq!(kept.iter().map(|one| one.payload.len()).collect::<Vec<_>>(), [256 << 10]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_never_fits_stays_in_the_audit() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(TOPIC, 1, 1).unwrap();
        let letters = letters(&configured(mock.bootstrap_servers()));
        mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        let resting = letters.send(&letter(b"garbage")).await.unwrap();
        assert!(matches!(&resting, Resting::Audit(why) if why.contains("not even 7 bytes")), "{resting:?}");
        // It was this message's fault: the next one is sent.
        assert_eq!(letters.send(&letter(b"more")).await.unwrap(), Resting::Topic(4));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_takes_nothing_holds_nobody_up() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(TOPIC, 1, 1).unwrap();
        mock.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
        let letters = letters(&configured(mock.bootstrap_servers()));
        let letter = letter(b"garbage");
        let resting = letters.send(&letter).await.unwrap();
        assert!(matches!(&resting, Resting::Audit(why) if why.contains(TOPIC)), "{resting:?}");
        let told = letter.told(&resting);
        assert_eq!(
            (&told["reason"], &told["head"], &told["bytes"]),
            (&json!("not JSON"), &json!("garbage"), &json!(7))
        );
        assert_eq!(told["sha256"], json!(Digest::of(b"garbage").as_str()));
        // The next one does not ask again.
        drop(mock);
        assert_eq!(letters.send(&letter).await.unwrap(), resting);
    }
}
