//! Listens to the logs while nothing is wrong, so that what is news is known before anybody asks.
//!
//! Once a minute of event time the newest lines that speak of trouble are read and counted by
//! template and service ([`Rates`]). News is kept for a day, goes into the evidence of incidents that
//! concern its service, and is never an alert: a template may be new without harm.
//!
//! Invariants: no more than one query a minute; what is kept is bounded; a minute whose lines were
//! cut short is not counted, because its rates would be lies.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{debug, warn};

use super::desk::{Desk, FlowError};
use crate::domain::log_template::novelty::Novelty;
use crate::domain::log_template::rates::{News, Rates};
use crate::domain::redact::redact;
use crate::domain::time::Timestamp;

/// Words by which common stacks complain. Asking for all lines would cost the log store more than the
/// answer is worth.
pub const TROUBLE: &str = "(?i)(error|fatal|exception|panic|timeout|refused|exhausted|expired|denied|no space|killed|unavailable|slow|reset|lag|failed|rejected)";
const EVERY: Duration = Duration::from_secs(60);
/// Lines arrive late at a log store.
const SETTLED: Duration = Duration::from_secs(15);
const LINES: usize = 5_000;
const KEPT: usize = 500;
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// How often templates that have fallen silent are looked for, in minutes.
const SILENCE_EVERY: u64 = 5;

/// One thing that the log of a service said anew, or no longer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogNews {
    pub service: String,
    /// Event time of the line, or when the silence was noticed.
    pub at: Timestamp,
    /// `new`, `more_often` or `vanished`
    pub kind: &'static str,
    pub template: String,
    /// Lines in that minute; of a vanished template the minutes of silence.
    pub count: u32,
    /// Lines a minute before.
    pub usual: f64,
}

impl fmt::Display for LogNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, at, kind, template, count, usual } = self;
        write!(f, "{} {service}: ", at.clock_time())?;
        match *kind {
            "vanished" => write!(f, "silent for {count} min, usually {usual:.1} lines a minute: {template}"),
            "more_often" => write!(f, "{count} lines in a minute, usually {usual:.1}: {template}"),
            _ => write!(f, "never written before: {template}"),
        }
    }
}

/// What has been heard so far; rebuilt by listening after a restart.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    rates: Rates,
    news: VecDeque<LogNews>,
    minutes: u64,
    /// Minutes that had more lines than are read.
    cut: u64,
}

impl Ear {
    fn with<T>(&self, act: impl FnOnce(&mut Heard) -> T) -> T {
        act(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// News of these services from `from` on, oldest first.
    pub fn news(&self, of: impl Fn(&str) -> bool, from: Timestamp) -> Vec<LogNews> {
        self.with(|heard| heard.news.iter().filter(|news| news.at >= from && of(&news.service)).cloned().collect())
    }

    /// Minutes listened to, and minutes that were cut short.
    pub fn minutes(&self) -> (u64, u64) {
        self.with(|heard| (heard.minutes, heard.cut))
    }
}

impl Heard {
    fn note(&mut self, service: &str, at: Timestamp, news: News) {
        let kind = match news.novelty {
            Novelty::New => "new",
            Novelty::MoreOften => "more_often",
            Novelty::Vanished => "vanished",
            // Not told online: in the middle of a minute every rate is low.
            Novelty::LessOften => return,
        };
        let template = redact(&news.template);
        let known = |one: &&LogNews| one.kind == "vanished" && one.template == template && one.service == service;
        // A silence lasts: it is told once.
        if kind == "vanished" && self.news.iter().rev().find(known).is_some() {
            return;
        }
        debug!(service, kind, template, "log news");
        if self.news.len() >= KEPT {
            self.news.pop_front();
        }
        let News { count, usual, .. } = news;
        self.news.push_back(LogNews { service: service.to_owned(), at, kind, template, count, usual });
    }
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let watched = desk.config.signals.as_ref().filter(|signals| signals.loki_url.is_some() && signals.watch_logs);
    let (Some(signals), Some(config)) = (desk.signals.clone(), watched) else {
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(3600)).await;
        return Ok(());
    };
    let label = config.log_service_label.clone();
    let query = format!("{{{label}=~\".+\"}} |~ \"{TROUBLE}\"");
    let mut from = desk.clock.event_now() - SETTLED;
    while !desk.stopping() {
        let mut stop = desk.stop.clone();
        tokio::select! {
            () = desk.clock.sleep_event(EVERY) => {}
            _ = stop.changed() => return Ok(()),
        }
        let to = desk.clock.event_now() - SETTLED;
        // After a long pause the past is not read up: it would look like one busy minute.
        let start = from.max(to - EVERY * 3);
        match signals.logs(&query, start, to, LINES).await {
            Ok(mut lines) => {
                from = to;
                let cut = lines.len() >= LINES;
                lines.sort_by_key(|line| line.at);
                desk.ear.with(|heard| {
                    heard.minutes += 1;
                    if cut {
                        heard.cut += 1;
                        return;
                    }
                    for line in &lines {
                        let Some(service) = line.labels.get(&label) else { continue };
                        if let Some(news) = heard.rates.observe(service, line.at, &line.line) {
                            heard.note(service, line.at, news);
                        }
                    }
                    if heard.minutes.is_multiple_of(SILENCE_EVERY) {
                        for (service, news) in heard.rates.all_vanished(to) {
                            heard.note(&service, to, news);
                        }
                    }
                    while heard.news.front().is_some_and(|news| to.since(news.at) > KEPT_FOR) {
                        heard.news.pop_front();
                    }
                });
            }
            // Said once a minute at most; the incident's own look at the logs says it to people.
            Err(failure) => warn!(error = %failure, "the logs could not be listened to"),
        }
    }
    Ok(())
}
