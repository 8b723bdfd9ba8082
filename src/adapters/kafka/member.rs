//! Membership in a consumer group, watched from outside. After a broker has stalled, librdkafka can wait for its
//! coordinator for ever while the broker answers everybody else (its issues 2944, 3082 and 3396 tell of such
//! states; seen here: no connection left, and none opened). Nobody sees that from the stream, which is merely silent: so it is seen from the statistics, and whoever
//! is not back in the group by then joins anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::domain::time::spoken;

/// How often librdkafka tells how it stands with the group.
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// What was told earlier says nothing of now: nobody polls while a batch waits for the store.
const FRESH: Duration = Duration::from_secs(10);
/// A coordinator is found, and asked for the group, within a second of its broker's answer.
const COORDINATOR: Duration = Duration::from_secs(20);
/// A group is balanced again once its slowest member has polled; `max.poll.interval.ms` is five minutes.
const BALANCING: Duration = Duration::from_secs(400);
/// The longest rest between two attempts: what is left behind of each keeps its threads.
const RESTS: Duration = Duration::from_secs(900);
/// The broker's answer to whoever asks it outside of the group.
const ANSWER: Duration = Duration::from_secs(5);
/// A goodbye lets the others have the partitions at once; without it they wait for the session to end.
const GOODBYE: Duration = Duration::from_secs(3);

/// How it stands with the group, for those who watch the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHealth {
    /// Why nothing can come.
    pub away: Option<String>,
    /// Messages of our partitions that are not committed yet.
    pub lag: Option<u64>,
}

/// Who is told how it stands with the group.
pub trait GroupSink: Send + Sync {
    fn heard(&self, topic: &str, health: GroupHealth);
}

pub type GroupConsumer = StreamConsumer<Standing>;

pub struct Member {
    consumer: Arc<GroupConsumer>,
    settings: ClientConfig,
    topic: String,
    /// For how long nobody may be asked.
    patience: Duration,
}

impl Member {
    pub fn join(settings: &ClientConfig, topic: &str) -> Result<Self, KafkaError> {
        Self::join_with(settings, topic, COORDINATOR)
    }

    fn join_with(settings: &ClientConfig, topic: &str, patience: Duration) -> Result<Self, KafkaError> {
        let mut settings = settings.clone();
        settings.set("statistics.interval.ms", TOLD_EVERY.as_millis().to_string());
        let consumer = GroupConsumer::from_config_and_context(&settings, Standing::default())?;
        consumer.subscribe(&[topic])?;
        Ok(Self { consumer: Arc::new(consumer), settings, topic: topic.to_owned(), patience })
    }

    pub fn consumer(&self) -> &GroupConsumer {
        &self.consumer
    }

    /// Tells how it stands, and ends when the group is lost for good, with what is known of it.
    pub async fn lost(&self, sink: &dyn GroupSink) -> String {
        loop {
            sleep(TOLD_EVERY).await;
            let (health, out) = {
                let seen = self.consumer.context().lock();
                (seen.health(Instant::now()), seen.lost(Instant::now(), self.patience))
            };
            if let Some(health) = health {
                sink.heard(&self.topic, health);
            }
            let Some(why) = out else { continue };
            // A broker that answers nobody has lost no group: it comes back with it.
            if self.broker_answers().await {
                return why;
            }
        }
    }

    /// Asked by another client: one that is stuck has no connection left, and opens none.
    async fn broker_answers(&self) -> bool {
        let (mut settings, topic) = (self.settings.clone(), self.topic.clone());
        settings.remove("group.id").remove("statistics.interval.ms");
        let asked = tokio::task::spawn_blocking(move || {
            let asks: BaseConsumer = settings.create().ok()?;
            let told = asks.fetch_metadata(Some(&topic), ANSWER).ok()?;
            told.topics().iter().find(|known| known.name() == topic).map(|known| known.partitions().len())
        });
        asked.await.ok().flatten().is_some_and(|partitions| partitions > 0)
    }

    /// In place of a member that has lost its group.
    pub async fn anew(self, why: &str) -> Result<Self, KafkaError> {
        let was_in = self.consumer.context().lock().was_in;
        let patience = if was_in { COORDINATOR } else { (self.patience * 2).min(RESTS) };
        warn!(topic = self.topic, why, "the consumer group is lost although the broker answers; it is joined anew");
        let (settings, topic) = (self.settings.clone(), self.topic.clone());
        self.leave().await;
        Self::join_with(&settings, &topic, patience)
    }

    /// Says goodbye. The client waits for the answer for as long as it takes: not in our time.
    pub async fn leave(self) {
        let (done, left) = oneshot::channel();
        let Self { consumer, topic, .. } = self;
        std::thread::spawn(move || {
            drop(consumer);
            let _ = done.send(());
        });
        if timeout(GOODBYE, left).await.is_err() {
            info!(topic, "the group did not answer the goodbye; the others have its partitions after the session");
        }
    }
}

/// What librdkafka has told last.
#[derive(Default)]
pub struct Standing(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    told_at: Option<Instant>,
    /// Since when there is no group, or no coordinator.
    out_since: Option<Instant>,
    /// Since when nobody is asked for it either: no coordinator, or no request on the way to it.
    unasked_since: Option<Instant>,
    was_in: bool,
    states: String,
    lag: Option<u64>,
}

impl Standing {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing in here can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Standing {
    fn stats_raw(&self, told: &[u8]) {
        match serde_json::from_slice(told) {
            Ok(told) => self.lock().take(&told, Instant::now()),
            Err(failure) => warn!(error = %failure, "what kafka's client tells of itself cannot be read"),
        }
    }
}

impl ConsumerContext for Standing {}

/// The part of the statistics that is asked for; their words are those of STATISTICS.md of librdkafka.
#[derive(Deserialize)]
struct Told {
    cgrp: Option<ToldGroup>,
    #[serde(default)]
    brokers: std::collections::HashMap<String, ToldBroker>,
    #[serde(default)]
    topics: std::collections::HashMap<String, ToldTopic>,
}

/// The connection to whichever broker coordinates.
const COORDINATORS_NAME: &str = "GroupCoordinator";

#[derive(Deserialize)]
struct ToldBroker {
    state: String,
    /// Requests that have no answer yet.
    waitresp_cnt: i64,
}

#[derive(Deserialize)]
struct ToldGroup {
    state: String,
    join_state: String,
}

#[derive(Deserialize)]
struct ToldTopic {
    #[serde(default)]
    partitions: std::collections::HashMap<String, ToldPartition>,
}

#[derive(Deserialize)]
struct ToldPartition {
    fetch_state: String,
    consumer_lag: i64,
}

impl Seen {
    fn take(&mut self, told: &Told, now: Instant) {
        let Some(group) = &told.cgrp else { return };
        let has_coordinator = group.state == "up";
        let is_in = has_coordinator && group.join_state == "steady";
        let asks = |broker: &ToldBroker| broker.state == "UP" && broker.waitresp_cnt > 0;
        let is_asked = has_coordinator && told.brokers.get(COORDINATORS_NAME).is_some_and(asks);
        let since = |before: Option<Instant>, is_well: bool| (!is_well).then(|| before.unwrap_or(now));
        self.told_at = Some(now);
        self.unasked_since = since(self.unasked_since, is_in || is_asked);
        self.out_since = since(self.out_since, is_in);
        self.was_in |= is_in;
        self.states = format!("{}, {}", group.state, group.join_state);
        // Less than nothing is what is not known yet.
        let ours = told.topics.values().flat_map(|topic| topic.partitions.values());
        let lags: Vec<u64> = ours
            .filter(|partition| partition.fetch_state == "active")
            .filter_map(|partition| u64::try_from(partition.consumer_lag).ok())
            .collect();
        self.lag = is_in.then(|| lags.iter().sum());
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.told_at.is_some_and(|at| now.duration_since(at) < FRESH)
    }

    /// Why the group is lost, if it has been away for longer than it can take.
    fn lost(&self, now: Instant, patience: Duration) -> Option<String> {
        let longer = |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) > limit);
        let is_lost = longer(self.unasked_since, patience) || longer(self.out_since, BALANCING.max(patience));
        (self.is_fresh(now) && is_lost).then(|| self.told(now))
    }

    fn health(&self, now: Instant) -> Option<GroupHealth> {
        if !self.is_fresh(now) {
            return None;
        }
        // Shorter than that is how each start and each change of the group looks.
        let is_away = self.out_since.is_some_and(|since| now.duration_since(since) > COORDINATOR / 2);
        Some(GroupHealth { away: is_away.then(|| self.told(now)), lag: self.lag })
    }

    fn told(&self, now: Instant) -> String {
        let out = self.out_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        format!("not in the consumer group for {} ({})", spoken(out), self.states)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[derive(Default)]
    struct Ear(Mutex<Option<GroupHealth>>);

    impl GroupSink for Ear {
        fn heard(&self, topic: &str, health: GroupHealth) {
            assert_eq!(topic, "alerts");
            *self.0.lock().unwrap() = Some(health);
        }
    }

    /// Until its client has told that it is in the group and what waits there.
    async fn is_in(member: &Member) {
        let ear = Ear::default();
        let read = async {
            while ear.0.lock().unwrap().as_ref().is_none_or(|health| health.lag.is_none()) {
                let _ = timeout(Duration::from_millis(100), member.consumer().recv()).await;
            }
        };
        tokio::select! {
            in_time = timeout(Duration::from_secs(60), read) => in_time.expect("it joins"),
            why = member.lost(&ear) => panic!("{why}"),
        }
        assert_eq!(*ear.0.lock().unwrap(), Some(GroupHealth { away: None, lag: Some(0) }));
        let told = member.consumer().context().lock().states.clone();
        assert_eq!(told, "up, steady");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_joins_anew_is_in_the_group_as_the_client_tells_it() {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic("alerts", 1, 1).unwrap();
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "watch");
        let member = Member::join(&settings, "alerts").unwrap();
        is_in(&member).await;
        assert!(member.broker_answers().await);
        let member = member.anew("tried").await.unwrap();
        is_in(&member).await;
        member.leave().await;
    }

    /// With so many requests on their way to the coordinator.
    fn told(state: &str, join_state: &str, asked: u8) -> Told {
        let partitions = r#"{"0": {"fetch_state": "active", "consumer_lag": 7},
            "1": {"fetch_state": "none", "consumer_lag": 900}, "2": {"fetch_state": "active", "consumer_lag": -1}}"#;
        serde_json::from_str(&format!(
            r#"{{"name": "rdkafka#consumer-1", "cgrp": {{"state": "{state}", "join_state": "{join_state}"}},
                "brokers": {{"GroupCoordinator": {{"state": "UP", "waitresp_cnt": {asked}}}}},
                "topics": {{"alerts": {{"partitions": {partitions}}}}}}}"#
        ))
        .unwrap()
    }

    /// What is lost after so many seconds of one state, told every two.
    fn lost_after(seconds: u64, what: &Told, patience: Duration) -> Option<String> {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        seen.take(&told("up", "steady", 1), begin);
        for second in (2..=seconds).step_by(2) {
            seen.take(what, begin + Duration::from_secs(second));
        }
        seen.lost(begin + Duration::from_secs(seconds), patience)
    }

    #[test]
    fn a_group_is_lost_when_nobody_is_asked_for_it_and_not_while_it_is_balanced() {
        assert_eq!(lost_after(4_000, &told("up", "steady", 0), COORDINATOR), None);
        let (away, waits, forgot) =
            (told("wait-coord", "init", 0), told("up", "wait-join", 1), told("up", "wait-join", 0));
        assert_eq!(lost_after(20, &away, COORDINATOR), None);
        let why = "not in the consumer group for 22 s (wait-coord, init)";
        assert_eq!(lost_after(24, &away, COORDINATOR).as_deref(), Some(why));
        assert_eq!(lost_after(24, &away, 2 * COORDINATOR), None);
        // As seen after a broker had stalled for 20 s: joining, and no request on its way.
        assert!(lost_after(24, &forgot, COORDINATOR).is_some());
        assert_eq!(lost_after(300, &waits, COORDINATOR), None);
        assert!(lost_after(410, &waits, COORDINATOR).is_some());
    }

    #[test]
    fn what_was_told_long_ago_says_nothing_of_now() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        assert_eq!(seen.health(begin), None);
        let later = |seconds| begin + Duration::from_secs(seconds);
        seen.take(&told("up", "steady", 1), begin);
        assert_eq!(seen.health(begin), Some(GroupHealth { away: None, lag: Some(7) }));
        seen.take(&told("query-coord", "init", 0), later(2));
        seen.take(&told("query-coord", "init", 0), later(30));
        let away = Some("not in the consumer group for 28 s (query-coord, init)".to_owned());
        assert_eq!(seen.health(later(30)), Some(GroupHealth { away, lag: None }));
        // A batch waits for the store, and nobody polls.
        assert_eq!((seen.health(later(60)), seen.lost(later(60), COORDINATOR)), (None, None));
    }
}
