//! Listens to the logs while nothing is wrong, so that what is news is known before anybody asks.
//!
//! Once a minute of event time the newest lines that speak of trouble are read and counted by
//! template and service ([`Rates`]). News is kept for a day, goes into the evidence of incidents that
//! concern its service, and is never an alert: a template may be new without harm.
//!
//! Invariants: no more than one query a minute, and a few at the start that read up the last hour;
//! what is kept is bounded; time whose lines were cut short or could not be read does not pass for the
//! counts, because silence that nobody heard is no silence.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{debug, warn};

use super::desk::{Desk, FlowError};
use crate::domain::alert::Labels;
use crate::domain::log_template::novelty::Novelty;
use crate::domain::log_template::rates::{News, Rates};
use crate::domain::redact::redact;
use crate::domain::time::Timestamp;
use crate::ports::{LogLine, Signals};

/// Words by which common stacks complain. Asking for all lines would cost the log store more than the
/// answer is worth.
pub const TROUBLE: &str = "(?i)(error|fatal|exception|panic|timeout|refused|exhausted|expired|denied|no space|killed|unavailable|slow|reset|lag|failed|rejected)";
const EVERY: Duration = Duration::from_secs(60);
/// Lines arrive late at a log store.
const SETTLED: Duration = Duration::from_secs(15);
const LINES: usize = 5_000;
/// Read up at the start, in so many parts, so that a restart forgets nothing that the logs still hold.
const BEFORE: Duration = Duration::from_secs(3600);
const PARTS: u32 = 12;
/// A longer gap is not read up: too many lines for one answer.
const GAP: Duration = Duration::from_secs(180);
const KEPT: usize = 500;
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// How often templates that have fallen silent are looked for, in minutes.
const SILENCE_EVERY: u64 = 5;

/// One thing that the log of a service said anew, or no longer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogNews {
    pub service: String,
    /// As its stream says, where `signals.log_cluster_label` says how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
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
        let Self { service, cluster, at, kind, template, count, usual } = self;
        let of = cluster.as_ref().map(|cluster| format!(" of {cluster}")).unwrap_or_default();
        write!(f, "{} {service}{of}: ", at.clock_time())?;
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
    /// How long nobody listened, or not to all of it: the counts' clock stands still meanwhile.
    unheard: Duration,
}

impl Ear {
    fn with<T>(&self, act: impl FnOnce(&mut Heard) -> T) -> T {
        act(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is news from `from` on, oldest first.
    pub fn news(&self, of: impl Fn(&LogNews) -> bool, from: Timestamp) -> Vec<LogNews> {
        self.with(|heard| heard.news.iter().filter(|news| news.at >= from && of(news)).cloned().collect())
    }

    /// Minutes listened to, and minutes that were cut short.
    pub fn minutes(&self) -> (u64, u64) {
        self.with(|heard| (heard.minutes, heard.cut))
    }
}

/// The labels of streams that say whose they are.
#[derive(Clone, Copy)]
struct Names<'a> {
    service: &'a str,
    cluster: Option<&'a str>,
}

/// Between the service and its cluster; no label has it.
const BETWEEN: char = '\u{1f}';

impl Names<'_> {
    /// What is counted together: a service, of one cluster where they are told apart.
    fn counted(&self, labels: &Labels) -> Option<String> {
        let service = labels.get(self.service)?;
        Some(match self.cluster.and_then(|label| labels.get(label)) {
            Some(cluster) => format!("{service}{BETWEEN}{cluster}"),
            None => service.clone(),
        })
    }
}

/// Lines were read from `start` to `end`; what was written since `from` before them was not.
#[derive(Clone, Copy)]
struct Span {
    from: Timestamp,
    start: Timestamp,
    end: Timestamp,
}

impl Heard {
    /// Counts the lines of a span and notes what is news in them.
    fn take(&mut self, names: Names<'_>, span: Span, mut lines: Vec<LogLine>) {
        self.minutes += 1;
        self.unheard += span.start.since(span.from);
        if lines.len() >= LINES {
            self.cut += 1;
            self.unheard += span.end.since(span.start);
            return;
        }
        lines.sort_by_key(|line| line.at);
        for line in &lines {
            let Some(counted) = names.counted(&line.labels) else { continue };
            if let Some(news) = self.rates.observe(&counted, line.at - self.unheard, &line.line) {
                self.note(&counted, line.at, news);
            }
        }
        if self.minutes.is_multiple_of(SILENCE_EVERY) {
            for (counted, news) in self.rates.all_vanished(span.end - self.unheard) {
                self.note(&counted, span.end, news);
            }
        }
        while self.news.front().is_some_and(|news| span.end.since(news.at) > KEPT_FOR) {
            self.news.pop_front();
        }
    }

    fn note(&mut self, counted: &str, at: Timestamp, news: News) {
        let (service, cluster) = match counted.split_once(BETWEEN) {
            Some((service, cluster)) => (service, Some(cluster)),
            None => (counted, None),
        };
        let kind = match news.novelty {
            Novelty::New => "new",
            Novelty::MoreOften => "more_often",
            Novelty::Vanished => "vanished",
            // Not told online: in the middle of a minute every rate is low.
            Novelty::LessOften => return,
        };
        let template = redact(&news.template);
        let is_same = |one: &LogNews| one.service == service && one.cluster.as_deref() == cluster;
        let known = |one: &&LogNews| one.kind == "vanished" && one.template == template && is_same(one);
        // A silence lasts: it is told once.
        if kind == "vanished" && self.news.iter().rev().find(known).is_some() {
            return;
        }
        debug!(service, cluster, kind, template, "log news");
        if self.news.len() >= KEPT {
            self.news.pop_front();
        }
        let News { count, usual, .. } = news;
        let (service, cluster) = (service.to_owned(), cluster.map(str::to_owned));
        self.news.push_back(LogNews { service, cluster, at, kind, template, count, usual });
    }
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let watched = desk.config.signals.as_ref().filter(|signals| signals.loki_url.is_some() && signals.watch_logs);
    let (Some(signals), Some(config)) = (desk.signals.clone(), watched) else {
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(3600)).await;
        return Ok(());
    };
    // What was heard before is read up again: it must not count twice.
    desk.ear.with(|heard| *heard = Heard::default());
    let names = Names { service: &config.log_service_label, cluster: config.log_cluster_label.as_deref() };
    let query = format!("{{{}=~\".+\"}} |~ \"{TROUBLE}\"", names.service);
    let mut from = desk.clock.event_now() - SETTLED - BEFORE;
    for _ in 0..PARTS {
        let end = from + BEFORE / PARTS;
        from = hear(&desk, signals.as_ref(), &query, names, Span { from, start: from, end }).await;
        if desk.stopping() {
            return Ok(());
        }
    }
    while !desk.stopping() {
        let mut stop = desk.stop.clone();
        tokio::select! {
            () = desk.clock.sleep_event(EVERY) => {}
            _ = stop.changed() => return Ok(()),
        }
        let end = desk.clock.event_now() - SETTLED;
        from = hear(&desk, signals.as_ref(), &query, names, Span { from, start: from.max(end - GAP), end }).await;
    }
    Ok(())
}

/// Reads and counts one span; gives until when the logs are known now.
async fn hear(desk: &Desk, signals: &dyn Signals, query: &str, names: Names<'_>, span: Span) -> Timestamp {
    match signals.logs(query, span.start, span.end, LINES).await {
        Ok(lines) => {
            desk.ear.with(|heard| heard.take(names, span, lines));
            span.end
        }
        // Said once a minute at most; the incident's own look at the logs says it to people.
        Err(failure) => {
            warn!(error = %failure, "the logs could not be listened to");
            span.from
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const APP: Names<'static> = Names { service: "app", cluster: None };

    /// Minute after minute: so many lines of each text, of the service `pay`.
    fn feed(heard: &mut Heard, minutes: std::ops::Range<u32>, texts: &[(&str, u32)]) {
        for minute in minutes {
            let start = START + MINUTE * minute;
            let lines = texts.iter().flat_map(|(text, count)| (0..*count).map(move |at| (*text, at)));
            let lines = lines.map(|(text, at)| LogLine {
                at: start + Duration::from_millis(u64::from(at) * 10),
                labels: Labels::from([("app".into(), "pay".into())]),
                line: text.to_owned(),
            });
            heard.take(APP, Span { from: start, start, end: start + MINUTE }, lines.collect());
        }
    }

    fn told(heard: &Heard) -> Vec<(&'static str, &str)> {
        heard.news.iter().map(|news| (news.kind, news.template.as_str())).collect()
    }

    #[test]
    fn what_is_new_more_often_or_silent_is_news_with_its_time() {
        let mut heard = Heard::default();
        let usual = [("error: slow answer of ledger", 12)];
        feed(&mut heard, 0..40, &usual);
        assert_eq!(told(&heard), []);
        feed(&mut heard, 40..41, &[("error: slow answer of ledger", 90), ("fatal: key store unavailable", 2)]);
        let (more, new) = ("error: slow answer of ledger", "fatal: key store unavailable");
        assert_eq!(told(&heard), [("new", new), ("more_often", more)]);
        assert_eq!(heard.news[0].at, START + MINUTE * 40);
        feed(&mut heard, 41..60, &[("error: another", 1)]);
        assert!(told(&heard).contains(&("vanished", more)), "{:?}", told(&heard));
        let silent = told(&heard).iter().filter(|one| one.0 == "vanished").count();
        assert_eq!(silent, 1, "a silence is told once");
    }

    #[test]
    fn a_silence_that_nobody_heard_is_none() {
        let mut heard = Heard::default();
        let usual = [("error: slow answer of ledger", 12)];
        feed(&mut heard, 0..40, &usual);
        // Half an hour with more lines than are read, then half an hour in which the logs were away.
        feed(&mut heard, 40..70, &[("error: slow answer of ledger", LINES as u32)]);
        let (from, start) = (START + MINUTE * 70, START + MINUTE * 100);
        heard.take(APP, Span { from, start, end: start + MINUTE }, vec![]);
        feed(&mut heard, 101..110, &usual);
        assert_eq!(told(&heard), []);
        assert_eq!((heard.cut, heard.unheard), (30, MINUTE * 60));
    }

    #[test]
    fn a_service_of_another_cluster_is_counted_and_told_apart() {
        let names = Names { cluster: Some("cluster"), ..APP };
        let mut heard = Heard::default();
        let mut minute = |at: u32, texts: &[(&str, &str, u32)]| {
            let start = START + MINUTE * at;
            let line = |(cluster, text, count): &(&str, &str, u32)| {
                let labels = Labels::from([("app".into(), "pay".into()), ("cluster".into(), (*cluster).into())]);
                let at = move |number: u32| start + Duration::from_millis(u64::from(number) * 10);
                let line = (*text).to_owned();
                (0..*count).map(move |number| LogLine { at: at(number), labels: labels.clone(), line: line.clone() })
            };
            let lines = texts.iter().flat_map(line).collect();
            heard.take(names, Span { from: start, start, end: start + MINUTE }, lines);
        };
        for at in 0..40 {
            minute(at, &[("eu", "error: slow answer of ledger", 12), ("us", "error: no route to bank", 12)]);
        }
        // Known in us, and new in eu.
        minute(40, &[("eu", "error: no route to bank", 2), ("us", "error: no route to bank", 12)]);
        let told: Vec<String> = heard.news.iter().map(LogNews::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(" pay of eu: never written before: error: no route to bank"), "{told:?}");
        assert_eq!(serde_json::to_value(&heard.news[0]).unwrap()["cluster"], "eu");
    }
}
