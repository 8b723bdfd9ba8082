//! Readiness, and metrics in Prometheus' text format: what this process counts and what the store holds.
//!
//! Invariant: an answer comes within `PATIENCE`, whatever the store does. What it does not tell until then is
//! shown as it was last known, and `midwatch_store_up` says so.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use tracing::warn;

use super::{people, problem};
use crate::flow::Desk;
use crate::flow::desk::FlowError;

/// Those who ask wait for a second, as Kubernetes does by default, or a few.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let refused = match timeout(PATIENCE, desk.store.ping()).await {
        // Both are ready: whoever stands by takes in what comes and lets people decide.
        Ok(Ok(())) if desk.leads.load(Ordering::Acquire) => return "ready, leads\n".into_response(),
        Ok(Ok(())) => return "ready, stands by\n".into_response(),
        Ok(Err(refused)) => refused.to_string(),
        Err(_) => "the store does not answer".into(),
    };
    problem(StatusCode::SERVICE_UNAVAILABLE, &refused, "the store must answer first")
}

/// What is read from the store, and what is left of it when that does not answer.
#[derive(Debug, Clone, Copy)]
enum Series {
    Waiting,
    Judged,
    Funnel,
}

impl Series {
    /// The quickest first.
    const ALL: [Self; 3] = [Self::Waiting, Self::Judged, Self::Funnel];

    async fn read(self, desk: &Desk) -> Result<String, FlowError> {
        match self {
            Self::Waiting => waiting(desk).await,
            Self::Judged => judged(desk).await,
            Self::Funnel => people::funnel_series(desk).await,
        }
    }
}

/// The series of the store as they were read the last time.
#[derive(Default)]
pub(super) struct LastKnown(Mutex<[String; Series::ALL.len()]>);

impl LastKnown {
    fn keep(&self, series: Series, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[series as usize] = text;
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    /// Reads all of them anew; one that cannot be read does not keep the others from it.
    async fn refresh(&self, desk: &Desk) -> Result<(), FlowError> {
        let mut outcome = Ok(());
        for series in Series::ALL {
            match series.read(desk).await {
                Ok(text) => self.keep(series, text),
                Err(failure) => outcome = Err(failure),
            }
        }
        outcome
    }
}

pub(super) async fn metrics(desk: &Desk, known: &LastKnown) -> Response {
    let (read, pinged, paused) = tokio::join!(
        timeout(PATIENCE, known.refresh(desk)),
        timeout(PATIENCE, desk.store.ping()),
        timeout(PATIENCE, desk.paused()),
    );
    let told = match read {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure.to_string()),
        Err(_) => Some("the store does not answer in time".to_owned()),
    };
    if let Some(why) = &told {
        warn!(why, "some metrics are shown as they were last known");
    }
    let mut text = counters(desk);
    text += &known.text();
    let (minutes, cut) = desk.ear.minutes();
    write_one(&mut text, "counter", "midwatch_log_minutes_total", "Minutes of logs that were listened to", minutes);
    let help = "Those of them with more lines than are read; their rates are not known";
    write_one(&mut text, "counter", "midwatch_log_minutes_cut_total", help, cut);
    // What cannot be read is a pause.
    let paused = u8::from(!matches!(paused, Ok(None)));
    write_one(&mut text, "gauge", "midwatch_paused", "Whether executions are paused", paused);
    let help = "Incidents that were left out since the start: of another version?";
    write_one(&mut text, "gauge", "midwatch_incidents_unreadable", help, desk.store.unreadable().len());
    let leads = u8::from(desk.leads.load(Ordering::Acquire));
    write_one(&mut text, "gauge", "midwatch_leads", "Whether this process surely leads the watch", leads);
    let help = "Messages in the partitions of this process that are not committed yet";
    write_each(&mut text, "midwatch_kafka_lag", "topic", help, desk.neighbours.lags());
    let help = "Whether those that the watch asks answered when they were asked last";
    write_each(&mut text, "midwatch_neighbour_up", "name", help, desk.neighbours.up());
    let last = desk.counters.last_alert_at.load(Ordering::Relaxed);
    if last > 0 {
        let help = "When the newest alert was judged by this process";
        write_one(&mut text, "gauge", "midwatch_last_alert_timestamp_seconds", help, last);
    }
    let up = u8::from(matches!(pinged, Ok(Ok(()))) && told.is_none());
    let help = "Whether the store takes writes; otherwise what it holds is shown as it was last known";
    write_one(&mut text, "gauge", "midwatch_store_up", help, up);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn counters(desk: &Desk) -> String {
    let mut text = String::new();
    let counters = &desk.counters;
    for (name, help, counter) in [
        ("midwatch_alerts_received_total", "Alerts judged", &counters.alerts_received),
        ("midwatch_alerts_refused_total", "Alerts that could not be read", &counters.alerts_rejected),
        ("midwatch_payloads_refused_total", "Webhook bodies refused with 400", &counters.payloads_rejected),
        ("midwatch_incidents_opened_total", "Incidents opened", &counters.incidents_opened),
        ("midwatch_chat_posts_total", "Messages posted", &counters.posts),
        ("midwatch_chat_edits_total", "Messages edited", &counters.edits),
        ("midwatch_chat_errors_total", "Deliveries that failed and were postponed", &counters.post_errors),
        ("midwatch_model_calls_total", "Calls of the model", &counters.model_calls),
        ("midwatch_model_tokens_total", "Tokens in and out", &counters.model_tokens),
        ("midwatch_executions_total", "Executions begun", &counters.executions),
    ] {
        write_one(&mut text, "counter", name, help, counter.load(Ordering::Relaxed));
    }
    text
}

async fn waiting(desk: &Desk) -> Result<String, FlowError> {
    let mut text = String::new();
    let (inbox, outbox) = (desk.store.inbox_depth().await?, desk.store.outbox_depth().await?);
    write_one(&mut text, "gauge", "midwatch_inbox_open", "Inbox rows that wait", inbox);
    write_one(&mut text, "gauge", "midwatch_outbox_open", "Messages that wait", outbox);
    Ok(text)
}

async fn judged(desk: &Desk) -> Result<String, FlowError> {
    let name = "midwatch_alerts_judged";
    let mut text = format!("# HELP {name} Alerts in the ledger by verdict and reason.\n# TYPE {name} gauge\n");
    for count in desk.store.funnel().await? {
        let (verdict, reason) = (count.verdict, count.reason);
        let _ = writeln!(text, "{name}{{verdict=\"{verdict}\",reason=\"{reason}\"}} {}", count.count);
    }
    Ok(text)
}

/// One family of gauges; nothing is known yet where it is empty.
fn write_each<L: std::fmt::Display, V: std::fmt::Display>(
    text: &mut String,
    name: &str,
    label: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, V)>,
) {
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
    for (of, value) in values {
        let _ = writeln!(text, "{name}{{{label}=\"{of}\"}} {value}");
    }
}

/// A series of one value.
pub(super) fn write_one(text: &mut String, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_anew_stays_as_it_was() {
        let known = LastKnown::default();
        assert_eq!(known.text(), "");
        known.keep(Series::Judged, "judged 1\n".into());
        known.keep(Series::Waiting, "waiting 7\n".into());
        known.keep(Series::Waiting, "waiting 8\n".into());
        assert_eq!(known.text(), "waiting 8\njudged 1\n");
    }

    #[test]
    fn a_series_is_told_as_prometheus_reads_it() {
        let mut text = String::new();
        write_one(&mut text, "gauge", "midwatch_store_up", "Whether", 0);
        assert_eq!(text, "# HELP midwatch_store_up Whether.\n# TYPE midwatch_store_up gauge\nmidwatch_store_up 0\n");
    }
}
