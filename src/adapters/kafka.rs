//! Alerts from Kafka. An offset is committed only after the batch is in the durable inbox.
//!
//! Poison (not JSON, or no alert in it) goes to the dead-letter topic with the reason, after the good
//! messages around it are stored; the partition moves on.

pub mod changes;
pub mod dead_letter;
pub mod history;
pub mod member;

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use self::dead_letter::{DeadLetter, DeadLetterSink, DeadLetters, Pause};
use self::member::{GroupSink, Member};
use crate::config::Kafka;
use crate::domain::alert::Alert;
use crate::domain::id::Digest;
use crate::domain::intake::{MAX_AGE, Mappings, NOTE_TIME, Taken, structured_event, take_bytes};
use crate::domain::time::Timestamp;

/// One polled batch, as it goes into the inbox: each payload as it came, and what was read from it.
pub struct AlertBatch {
    pub payloads: Arc<Vec<(Bytes, Taken)>>,
    /// Names the batch, so that a redelivery of exactly it is kept once.
    pub dedupe: String,
}

/// Where batches go; an error means "not durable, do not commit".
#[async_trait::async_trait]
pub trait AlertSink: DeadLetterSink + GroupSink + 'static {
    /// When what comes now happened, if it does not say so itself.
    fn received_at(&self) -> Timestamp;
    async fn accept(&self, batch: AlertBatch) -> anyhow::Result<()>;
}

pub struct AlertConsumer {
    member: Member,
    reader: Arc<Reader>,
}

/// What does not change with the membership.
struct Reader {
    dead_letters: DeadLetters,
    config: Kafka,
    mappings: Mappings,
}

/// Why a member reads no more.
enum Ended {
    Stopped,
    Lost(String),
}

/// One flush to the disk for so many messages, when so many are there.
const BATCH_MESSAGES: usize = 8_192;
const BATCH_BYTES: usize = 4 << 20;
const BATCH_WAIT: Duration = Duration::from_millis(40);
/// A larger message is poison: nothing that describes an alert needs it.
const MAX_MESSAGE: usize = 4 << 20;

impl AlertConsumer {
    pub fn connect(config: &Kafka, mappings: Mappings) -> Result<Self, KafkaError> {
        let (reads, producer) = settings(config);
        let member = Member::join(&reads, &config.topic)?;
        let dead_letters = DeadLetters::new(producer.create()?, &config.dead_letter_topic);
        Ok(Self { member, reader: Arc::new(Reader { dead_letters, config: config.clone(), mappings }) })
    }

    /// What each topic is, or what is wrong with it and what to do, for `midwatch check`.
    pub fn describe(&self) -> Result<Vec<Result<String, String>>, KafkaError> {
        let mut lines = vec![self.examine("kafka.topic", &self.reader.config.topic, "Read")?];
        lines.push(self.examine("kafka.dead_letter_topic", &self.reader.config.dead_letter_topic, "Write")?);
        if let Some(changes) = &self.reader.config.changes_topic {
            lines.push(self.examine("kafka.changes_topic", changes, "Read")?);
        }
        Ok(lines)
    }

    /// Asking makes no topic: a consumer does not.
    fn examine(&self, key: &str, topic: &str, right: &str) -> Result<Result<String, String>, KafkaError> {
        let metadata = self.member.consumer().fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let found = metadata.topics().iter().find(|known| known.name() == topic);
        let partitions = found.map_or(0, |topic| topic.partitions().len());
        let error = found.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        Ok(match error {
            None if partitions > 0 => {
                Ok(format!("{} brokers, topic {topic} with {partitions} partitions", metadata.brokers().len()))
            }
            None => Err(format!("topic {topic} has no partitions: create it (key: {key})")),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                Err(format!("there is no topic {topic}: create it, or name another one (key: {key})"))
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Err(format!("topic {topic} is not for us: grant Describe and {right} on it (key: {key})"))
            }
            Some(error) => Err(format!("topic {topic}: {error} (key: {key})")),
        })
    }

    pub async fn run(self, sink: Arc<dyn AlertSink>, mut stop: watch::Receiver<bool>) {
        let Self { mut member, reader } = self;
        info!(topic = reader.config.topic, group = reader.config.group, "kafka intake runs");
        loop {
            let shared = Arc::new(member);
            let ended = reader.clone().read(&shared, &sink, &mut stop).await;
            // Whoever read with it has ended.
            let Some(left) = Arc::into_inner(shared) else { break };
            match ended {
                Ended::Stopped => {
                    left.leave().await;
                    break;
                }
                Ended::Lost(why) => match left.anew(&why).await {
                    Ok(joined) => member = joined,
                    Err(failure) => {
                        error!(error = %failure, "kafka intake ends until the next start");
                        break;
                    }
                },
            }
        }
        info!("kafka intake stops");
    }
}

impl Reader {
    async fn read(
        self: Arc<Self>,
        member: &Arc<Member>,
        sink: &Arc<dyn AlertSink>,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let mut stream = member.consumer().stream();
        let mut lost = pin!(member.lost(sink.as_ref()));
        let mut ended = Ended::Stopped;
        // While one batch becomes durable the next one is read; offsets are committed in order all the same.
        let mut settling: Option<JoinHandle<Settled>> = None;
        'reading: while !*stop.borrow() {
            let mut batch = Pending::default();
            let mut until: Option<Instant> = None;
            // Fill a batch: as much as is there, for as short as makes a batch worth it.
            loop {
                // What is there already needs no timer.
                let message = match stream.next().now_or_never() {
                    Some(message) => Ok(message),
                    None => {
                        let wait = until
                            .map_or(Duration::from_secs(3600), |until| until.saturating_duration_since(Instant::now()));
                        tokio::select! {
                            message = tokio::time::timeout(wait, stream.next()) => message,
                            _ = stop.changed() => break,
                            why = &mut lost => {
                                ended = Ended::Lost(why);
                                break 'reading;
                            }
                        }
                    }
                };
                match message {
                    Err(_) | Ok(None) => break,
                    Ok(Some(Err(failure))) => {
                        warn!(error = %failure, "kafka");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        if until.is_none() {
                            continue;
                        }
                        break;
                    }
                    Ok(Some(Ok(message))) => {
                        until.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
                        let place = (message.topic(), message.partition(), message.offset());
                        let at = received_at(message.timestamp(), sink.received_at());
                        batch.take(place, content(&message), at);
                        if batch.raw.len() >= BATCH_MESSAGES || batch.bytes >= BATCH_BYTES {
                            break;
                        }
                    }
                }
            }
            if batch.raw.is_empty() {
                continue;
            }
            // Reading alone keeps a core busy under a storm.
            let reader = self.clone();
            let now = sink.received_at();
            let vetting = tokio::spawn(async move { batch.vetted(&reader.mappings, now) });
            if finish(&mut settling).await == Settled::No {
                // Nothing behind a batch that is not durable may be committed: both are delivered again.
                break;
            }
            let (this, member, sink, mut stop) = (self.clone(), member.clone(), sink.clone(), stop.clone());
            settling = Some(tokio::spawn(async move {
                match vetting.await {
                    Ok(batch) => this.settle(batch, &member, sink.as_ref(), &mut stop).await,
                    Err(failure) => {
                        error!(error = %failure, "a batch of alerts was not read; kafka intake ends until the next start");
                        Settled::No
                    }
                }
            }));
        }
        finish(&mut settling).await;
        ended
    }

    /// Makes the batch durable, then commits. Tries as long as it takes: an uncommitted offset
    /// costs a redelivery, a skipped alert costs the watch.
    async fn settle(
        &self,
        mut batch: Vetted,
        member: &Member,
        sink: &dyn AlertSink,
        stop: &mut watch::Receiver<bool>,
    ) -> Settled {
        let mut pause = Pause::default();
        let payloads = Arc::new(std::mem::take(&mut batch.payloads));
        // Before the poison: alerts must not wait for the dead-letter topic.
        while let Err(failure) = self.make_durable(&batch, &payloads, sink).await {
            error!(error = %failure, "alerts could not be stored; kafka intake waits");
            if pause.ends_with(stop).await {
                return Settled::No;
            }
        }
        for Poison { message: Raw { topic, partition, offset, payload, .. }, reason } in &batch.poison {
            let letter = DeadLetter { topic, partition: *partition, offset: *offset, payload, reason };
            if self.dead_letters.set_aside(&letter, sink, stop).await == Settled::No {
                return Settled::No;
            }
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), offset) in &batch.reach.last {
            if let Err(failure) = offsets.add_partition_offset(topic, *partition, Offset::Offset(offset + 1)) {
                warn!(error = %failure, "offset");
            }
        }
        if let Err(failure) = member.consumer().commit(&offsets, CommitMode::Async) {
            // Redelivered later; the inbox knows the batch and the prefilter the alerts.
            warn!(error = %failure, "commit failed");
        }
        Settled::Yes
    }

    async fn make_durable(
        &self,
        batch: &Vetted,
        payloads: &Arc<Vec<(Bytes, Taken)>>,
        sink: &dyn AlertSink,
    ) -> anyhow::Result<()> {
        if payloads.is_empty() {
            return Ok(());
        }
        let dedupe = batch
            .reach
            .last
            .iter()
            .map(|((topic, partition), last)| {
                format!("{topic}/{partition}@{}-{last}", batch.reach.first[&(topic.clone(), *partition)])
            })
            .collect::<Vec<_>>()
            .join(",");
        // Offsets begin again when a topic is made anew: the group and the content belong to the name.
        let content = Digest::of_parts(payloads.iter().map(|(payload, _)| &payload[..]));
        let dedupe = format!("kafka:{}:{}:{dedupe}", self.config.group, content.short());
        sink.accept(AlertBatch { payloads: payloads.clone(), dedupe }).await
    }
}

/// Of a consumer and of a producer.
fn settings(config: &Kafka) -> (ClientConfig, ClientConfig) {
    let mut reads = ClientConfig::new();
    reads
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        // With the default of 45 s a killed process would block its partitions for that long (P12).
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1500")
        .set("fetch.message.max.bytes", "8388608");
    let mut writes = ClientConfig::new();
    writes
        .set("bootstrap.servers", &config.brokers)
        .set("message.timeout.ms", "10000")
        // Shorter, or a topic that is not there would look like a broker that is slow.
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("message.max.bytes", "8388608");
    for (name, value) in &config.properties {
        reads.set(name, value);
        writes.set(name, value);
    }
    (reads, writes)
}

/// Whether a batch is durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

async fn finish(settling: &mut Option<JoinHandle<Settled>>) -> Settled {
    let Some(before) = settling.take() else { return Settled::Yes };
    before.await.unwrap_or_else(|failure| {
        error!(error = %failure, "a batch of alerts was not stored; kafka intake ends until the next start");
        Settled::No
    })
}

/// What was polled, as it came.
#[derive(Default)]
struct Pending {
    raw: Vec<Raw>,
    bytes: usize,
    reach: Reach,
}

struct Raw {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    payload: Bytes,
    received_at: Timestamp,
}

/// From where to where a batch reaches in each partition.
#[derive(Default)]
struct Reach {
    first: HashMap<(String, i32), i64>,
    last: BTreeMap<(String, i32), i64>,
}

/// The same, read.
struct Vetted {
    payloads: Vec<(Bytes, Taken)>,
    poison: Vec<Poison>,
    reach: Reach,
}

struct Poison {
    message: Raw,
    reason: String,
}

impl Reach {
    fn note(&mut self, topic: &str, partition: i32, offset: i64) {
        // One run of messages comes from one partition: the name is copied once.
        match self.last.iter_mut().find(|((known, number), _)| *number == partition && known == topic) {
            Some((_, last)) => *last = offset,
            None => {
                self.first.insert((topic.to_owned(), partition), offset);
                self.last.insert((topic.to_owned(), partition), offset);
            }
        }
    }
}

impl Pending {
    fn take(&mut self, (topic, partition, offset): (&str, i32, i64), payload: Bytes, received_at: Timestamp) {
        self.reach.note(topic, partition, offset);
        let topic = match self.raw.last() {
            Some(last) if *last.topic == *topic => last.topic.clone(),
            Some(_) | None => topic.into(),
        };
        self.bytes += payload.len();
        self.raw.push(Raw { topic, partition, offset, payload, received_at });
    }

    fn vetted(self, mappings: &Mappings, now: Timestamp) -> Vetted {
        let (mut payloads, mut poison) = (Vec::with_capacity(self.raw.len()), vec![]);
        for message in self.raw {
            let fits = within_limit(&message.payload);
            match fits.and_then(|()| read_as_of(&message.payload, mappings, message.received_at, now)) {
                Ok(taken) => payloads.push((message.payload, taken)),
                Err(reason) => poison.push(Poison { message, reason }),
            }
        }
        Vetted { payloads, poison, reach: self.reach }
    }
}

/// The message as the inbox keeps it, which knows no headers: those of a CloudEvent are put into the body.
fn content(message: &impl Message) -> Bytes {
    let body = message.payload().unwrap_or_default();
    let of_event = |key: &str| key.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ce_"));
    let headers: BTreeMap<String, String> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .filter(|header| of_event(header.key))
        .filter_map(|header| Some((header.key.to_owned(), std::str::from_utf8(header.value?).ok()?.to_owned())))
        .collect();
    structured_event(&headers, body).map_or_else(|| Bytes::copy_from_slice(body), Bytes::from)
}

/// When the message came to the broker: after an outage of ours that is long ago, and what was said of the
/// time after it (`endsAt` in some minutes) has to be read as it was then.
fn received_at(sent: rdkafka::Timestamp, now: Timestamp) -> Timestamp {
    let sent = sent.to_millis().filter(|millis| *millis > 0).map(Timestamp::from_millis);
    // What is older is a wrong unit or an unset clock.
    sent.filter(|sent| (now - MAX_AGE..now).contains(sent)).unwrap_or(now)
}

fn within_limit(payload: &[u8]) -> Result<(), String> {
    if payload.len() > MAX_MESSAGE {
        return Err(format!("{} bytes; the limit is {MAX_MESSAGE}", payload.len()));
    }
    Ok(())
}

/// As it was when it came to the broker; but a producer whose clock is behind would make each beginning lie in
/// the future, and is not believed.
fn read_as_of(payload: &[u8], mappings: &Mappings, sent: Timestamp, now: Timestamp) -> Result<Taken, String> {
    let taken = vet(payload, mappings, sent)?;
    let corrected = |alert: &Alert| alert.annotations.contains_key(NOTE_TIME);
    if sent < now && taken.alerts.iter().any(corrected) { vet(payload, mappings, now) } else { Ok(taken) }
}

/// What the payload holds, or why it is poison: nothing in it can ever become an alert. How large it may be
/// is for the door to say through which it came.
pub fn vet(payload: &[u8], mappings: &Mappings, received_at: Timestamp) -> Result<Taken, String> {
    std::str::from_utf8(payload).map_err(|_| "the message is not UTF-8".to_owned())?;
    let taken = take_bytes(payload, mappings, received_at).map_err(|bad| bad.to_string())?;
    let understood = taken.alerts.len() + taken.knowledge.len() + taken.remarks.len();
    match taken.refused.first() {
        // A group with some good alerts goes on; its bad ones are refused one by one, with the reason.
        Some(bad) if understood == 0 => Err(bad.to_string()),
        None if understood == 0 => Err("the message holds no alert".to_owned()),
        _ => Ok(taken),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    const NOW: i64 = 1_795_227_420_000;

    fn message(payload: Option<&[u8]>, headers: &[(&str, &str)]) -> OwnedMessage {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
        let at = rdkafka::Timestamp::CreateTime(NOW);
        OwnedMessage::new(payload.map(<[u8]>::to_vec), None, "alerts".into(), at, 0, 0, Some(headers))
    }

    fn read(payload: &[u8], at: Timestamp) -> Taken {
        vet(payload, &Mappings::default(), at).expect("a payload")
    }

    #[test]
    fn a_cloud_event_in_headers_can_be_read_again_from_the_inbox() {
        let attributes = [("ce_specversion", "1.0"), ("ce_type", "disk.full"), ("ce_source", "/db"), ("trace", "x")];
        let kept = content(&message(Some(br#"{"service": "pay"}"#), &attributes));
        let taken = read(&kept, Timestamp::from_millis(NOW));
        assert_eq!((taken.alerts[0].name(), taken.alerts[0].label("service")), ("disk.full", Some("pay")));
        let empty = content(&message(None, &attributes));
        assert_eq!(read(&empty, Timestamp::from_millis(NOW)).alerts[0].name(), "disk.full");
        // Any other message is kept as it came.
        let plain = br#" [{"labels": {"alertname": "A"}}] "#;
        assert_eq!(&content(&message(Some(plain), &[("trace", "x"), ("é", "y"), ("ce", "z")]))[..], plain);
    }

    #[test]
    fn what_waited_for_us_is_read_as_it_was_then() {
        let (now, hour) = (Timestamp::from_millis(NOW), 3_600_000);
        let at = |sent: i64| received_at(rdkafka::Timestamp::CreateTime(sent), now).millis();
        assert_eq!([at(NOW - hour), at(NOW + hour), at(NOW / 1_000), at(0), at(-1)], [NOW - hour, NOW, NOW, NOW, NOW]);
        assert_eq!(received_at(rdkafka::Timestamp::NotAvailable, now), now);
        // An hour ago Prometheus stood for it until four minutes later.
        let ends = Timestamp::from_millis(NOW - hour + 240_000);
        let payload = format!(r#"[{{"labels": {{"alertname": "A"}}, "endsAt": "{ends}"}}]"#);
        let status = |at: i64| read(payload.as_bytes(), Timestamp::from_millis(at)).alerts[0].status;
        use crate::domain::alert::Status;
        // What has begun since has a producer whose clock is behind.
        let begun = Timestamp::from_millis(NOW - 60_000);
        let payload = format!(r#"[{{"labels": {{"alertname": "A"}}, "startsAt": "{begun}"}}]"#);
        let read = read_as_of(payload.as_bytes(), &Mappings::default(), Timestamp::from_millis(NOW - hour), now);
        let alert = read.unwrap().alerts.remove(0);
        assert_eq!((alert.starts_at, alert.annotations.contains_key(NOTE_TIME)), (begun, false));
        assert_eq!([status(at(NOW - hour)), status(NOW)], [Status::Firing, Status::Resolved]);
    }

    #[test]
    fn a_message_that_is_too_large_is_poison_and_a_body_of_that_size_is_not() {
        let padding = " ".repeat(MAX_MESSAGE);
        let payload = Bytes::from(format!(r#"{padding}[{{"labels": {{"alertname": "A"}}}}]"#));
        let now = Timestamp::from_millis(NOW);
        assert_eq!(read(&payload, now).alerts.len(), 1);
        let mut pending = Pending::default();
        pending.take(("alerts", 0, 7), payload, now);
        let vetted = pending.vetted(&Mappings::default(), Timestamp::from_millis(NOW));
        assert!(vetted.payloads.is_empty() && vetted.poison[0].reason.ends_with("the limit is 4194304"));
    }
}
