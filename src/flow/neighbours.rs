//! Whether those that the watch asks answer: whoever is away is told before it is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use super::desk::{Desk, FlowError};
use crate::domain::time::{Timestamp, spoken};

const EVERY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of each that is configured, by the word for it.
#[derive(Debug, Default)]
pub struct Neighbours {
    health: Mutex<BTreeMap<&'static str, Health>>,
    /// Messages that wait in each topic.
    lags: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Health {
    /// Why it does not answer.
    away: Option<String>,
    /// Since when that is so.
    wall_since: Timestamp,
}

impl Neighbours {
    /// Each with 1 if it answered when it was asked last, else 0.
    pub fn up(&self) -> Vec<(&'static str, u8)> {
        self.lock().iter().map(|(name, health)| (*name, u8::from(health.away.is_none()))).collect()
    }

    /// For people: who has not answered for how long, and why.
    pub fn away(&self, wall_now: Timestamp) -> Vec<String> {
        let told = |(name, health): (&&str, &Health)| {
            let why = health.away.as_ref()?;
            Some(format!("{name} has not answered for {}: {why}", spoken(wall_now.since(health.wall_since))))
        };
        self.lock().iter().filter_map(told).collect()
    }

    /// Told once when it changes.
    fn heard(&self, name: &'static str, answer: Result<String, String>, wall_now: Timestamp) {
        let mut known = self.lock();
        let before = known.get(name);
        let was_away = before.is_some_and(|health| health.away.is_some());
        match &answer {
            Err(why) if !was_away => warn!(neighbour = name, why, "does not answer"),
            Ok(said) if was_away => info!(neighbour = name, said, "answers again"),
            Ok(_) | Err(_) => {}
        }
        let away = answer.err();
        let lasts = before.filter(|_| was_away == away.is_some());
        let wall_since = lasts.map_or(wall_now, |health| health.wall_since);
        known.insert(name, Health { away, wall_since });
    }

    /// How it stands with a consumer group: why nothing can come from the topic, and how much waits in it.
    pub fn heard_of_topic(
        &self,
        name: &'static str,
        topic: &str,
        (away, lag): (Option<String>, Option<u64>),
        wall_now: Timestamp,
    ) {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        match lag {
            Some(lag) => lags.insert(topic.to_owned(), lag),
            // Whose partitions are taken away knows of none.
            None => lags.remove(topic),
        };
        drop(lags);
        let answer = away.map_or_else(|| Ok("in the consumer group".to_owned()), Err);
        self.heard(name, answer, wall_now);
    }

    /// How a chat took what it was told.
    pub fn heard_of_chat(&self, chat: &str, answer: Result<(), String>, wall_now: Timestamp) {
        // The console is a part of the watch.
        if chat == "slack" {
            self.heard("slack", answer.map(|()| "takes messages".to_owned()), wall_now);
        }
    }

    pub fn lags(&self) -> BTreeMap<String, u64> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever does not lead asks nobody, and knows nothing; but it reads its share of the topics.
    pub fn forget(&self) {
        self.lock().retain(|name, _| name.starts_with("kafka"));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Health>> {
        // Nothing in here can be left half done.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks them every minute. The model is not among them: to ask it costs, and its breaker knows.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        ask_all(&desk).await;
        desk.wait(&Notify::new(), EVERY).await;
    }
    Ok(())
}

async fn ask_all(desk: &Desk) {
    let signals = async {
        if let Some(signals) = &desk.signals {
            ask(desk, "signals", signals.check()).await;
        }
    };
    let cluster = async {
        if let Some(cluster) = &desk.cluster {
            ask(desk, "kubernetes", cluster.check()).await;
        }
    };
    let traces = async {
        if let Some(traces) = &desk.traces {
            ask(desk, "traces", traces.check()).await;
        }
    };
    tokio::join!(signals, cluster, traces);
}

async fn ask<E: std::fmt::Display>(desk: &Desk, name: &'static str, check: impl Future<Output = Result<String, E>>) {
    let answer = match timeout(PATIENCE, check).await {
        Ok(answer) => answer.map_err(|failure| failure.to_string()),
        Err(_) => Err(format!("no answer within {}", spoken(PATIENCE))),
    };
    desk.neighbours.heard(name, answer, desk.clock.wall_now());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_away_is_told_with_the_time_since_it_is() {
        let (neighbours, at) = (Neighbours::default(), |minutes: i64| Timestamp::from_secs(60 * minutes));
        neighbours.heard("signals", Ok("well".into()), at(0));
        neighbours.heard("kubernetes", Err("401 Unauthorized".into()), at(1));
        neighbours.heard("kubernetes", Err("401 Unauthorized".into()), at(2));
        assert_eq!(neighbours.up(), [("kubernetes", 0), ("signals", 1)]);
        assert_eq!(neighbours.away(at(13)), ["kubernetes has not answered for 12 min: 401 Unauthorized"]);
        neighbours.heard("kubernetes", Ok("well".into()), at(14));
        neighbours.heard("kubernetes", Err("gone".into()), at(20));
        assert_eq!(neighbours.away(at(21)), ["kubernetes has not answered for 1 min: gone"]);
    }
}
