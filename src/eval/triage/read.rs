//! Alerts of a file, one payload a line, in the order of their arrival.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::{EvalError, read};
use crate::domain::alert::{Alert, Fingerprint, Status, read_payload};
use crate::domain::intake::{Mappings, NOTE_TIME, take_bytes};
use crate::domain::time::{Timestamp, spoken};
use crate::domain::topology::{EdgeKind, NodeKind, Topology};

/// One alert of a file with what it truly belongs to.
#[derive(Debug, Clone)]
pub struct Case {
    pub alert: Alert,
    pub truth: Option<String>,
    /// How bad what it belongs to truly is, `SEV1` to `SEV4`, where the file says so.
    pub severity_truth: Option<String>,
    /// When it arrives.
    pub at: Timestamp,
    /// Of the file it stands in, counted from 1; of a topic or cold files, the number of the alert.
    pub line: usize,
}

/// What a line may hold.
#[derive(Debug, Clone, Copy)]
pub enum Shapes<'a> {
    /// The shapes of Alertmanager, as the evaluation formats say.
    Alertmanager,
    /// Those, and whatever the watch takes in with these mappings. What the watch believes of a sender's
    /// clock is measured from `read_at`.
    Any { mappings: &'a Mappings, read_at: Timestamp },
}

pub fn load(path: &Path, shapes: Shapes<'_>) -> Result<Vec<Case>, EvalError> {
    let file = std::fs::File::open(path).map_err(|failure| EvalError::file(path, failure))?;
    let (mut cases, mut order): (Vec<Case>, Order) = (vec![], Order::default());
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let wrong = |reason: String| EvalError::line(path, index as u64 + 1, reason);
        let line = line.map_err(|source| wrong(source.to_string()))?;
        // Editors on Windows begin a file with a byte-order mark.
        let text = if index == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        if text.trim().is_empty() {
            continue;
        }
        let last = cases.last().map(|last| last.at);
        let told = read_line(text, index + 1, shapes, last).map_err(wrong)?;
        order.see(&told);
        // Repeats arrive later than they started; the order of the file is the order of arrival.
        for case in told {
            let at = cases.last().map_or(case.at, |last| last.at.max(case.at));
            cases.push(Case { at, ..case });
        }
    }
    if cases.is_empty() {
        let wanted = "no alerts; write one a line, as {\"labels\": {..}, \"startsAt\": \"2026-11-21T02:17:00Z\"}";
        return Err(EvalError::file(path, wanted));
    }
    match order.backwards() {
        Some((line, reason)) => Err(EvalError::line(path, line as u64, reason)),
        None => Ok(cases),
    }
}

fn read_line(text: &str, line: usize, shapes: Shapes<'_>, last: Option<Timestamp>) -> Result<Vec<Case>, String> {
    let value: Value = serde_json::from_str(text).map_err(|failure| failure.to_string())?;
    let truth = match value.get("truth") {
        None | Some(Value::Null) => None,
        Some(Value::String(truth)) => Some(truth.clone()),
        Some(other) => Some(other.to_string()),
    };
    let severity_truth = value.get("severity_truth").and_then(Value::as_str).map(str::to_owned);
    let value = with_name(value);
    let known = read_payload(&value).and_then(|alerts| alerts.into_iter().collect::<Result<Vec<Alert>, _>>());
    let alerts = match (known, shapes) {
        // Without a status a line tells of a whole firing: it arrives at its start and is over at its
        // end, without a line of its own.
        (Ok(alerts), _) if !says_status(&value) => {
            alerts.into_iter().map(|alert| Alert { status: Status::Firing, ..alert }).collect()
        }
        (Ok(alerts), _) => alerts,
        (Err(bad), Shapes::Alertmanager) => return Err(bad.to_string()),
        (Err(_), Shapes::Any { mappings, read_at }) => take(text, mappings, read_at, last)?,
    };
    let case = |alert: Alert| Case {
        at: match alert.status {
            Status::Firing => alert.starts_at,
            Status::Resolved => alert.ends_at.unwrap_or(alert.starts_at),
        },
        truth: truth.clone(),
        severity_truth: severity_truth.clone(),
        line,
        alert,
    };
    Ok(alerts.into_iter().map(case).collect())
}

fn says_status(value: &Value) -> bool {
    let inner = value.get("alerts").unwrap_or(value).as_array();
    inner.into_iter().flatten().chain([value]).any(|one| one.get("status").is_some())
}

/// As the watch takes it in. What says no instant came when the line before it came.
fn take(text: &str, mappings: &Mappings, read_at: Timestamp, last: Option<Timestamp>) -> Result<Vec<Alert>, String> {
    let taken = take_bytes(text.trim().as_bytes(), mappings, read_at).map_err(|bad| bad.to_string())?;
    if let Some(bad) = taken.refused.first() {
        return Err(bad.to_string());
    }
    let placed = taken.alerts.into_iter().map(|mut alert| {
        // It would be ordered by its receipt, which a file does not know.
        if let Some(note) = alert.annotations.get(NOTE_TIME) {
            return Err(note.clone());
        }
        let started = Some(alert.starts_at).filter(|at| *at != read_at);
        let came = last.or(started);
        let came = came.ok_or("says no instant, and no line before it does: it cannot be placed in time")?;
        alert.starts_at = started.unwrap_or(came);
        alert.ends_at = alert.ends_at.map(|end| if end == read_at { came.max(alert.starts_at) } else { end });
        Ok(alert)
    });
    placed.collect()
}

/// Whether the lines stand in the order of time. Single ones may not: a repeat may tell of a firing that
/// began before the file did, and messages overtake each other.
#[derive(Debug, Default)]
struct Order {
    seen: HashSet<(Fingerprint, Timestamp)>,
    last: Option<Timestamp>,
    later: usize,
    earlier: usize,
    /// The first line that is earlier than the one above, and both instants.
    first: Option<(usize, Timestamp, Timestamp)>,
}

/// A single line that is so much earlier is no longer one that was overtaken.
const OVERTAKEN: Duration = Duration::from_secs(300);

impl Order {
    /// The alerts of a line at their own instants.
    fn see(&mut self, told: &[Case]) {
        let fresh = told.iter().filter(|case| self.seen.insert((case.alert.fingerprint, case.at)));
        let Some((line, at)) = fresh.map(|case| (case.line, case.at)).max_by_key(|(_, at)| *at) else { return };
        if let Some(last) = self.last.replace(at) {
            self.later += usize::from(at > last);
            self.earlier += usize::from(at < last);
            if at < last {
                self.first.get_or_insert((line, at, last));
            }
        }
    }

    fn backwards(&self) -> Option<(usize, String)> {
        let (line, at, above) = self.first?;
        let overtaken = self.earlier == 1 && above.since(at) <= OVERTAKEN;
        (self.earlier > self.later && !overtaken).then(|| {
            let by = spoken(above.since(at));
            (line, format!("{at} is {by} before the line above, and most lines run backwards; sort the file by time"))
        })
    }
}

/// Senders other than Prometheus name their rules in other labels; an alert without any name is called
/// by what it says.
fn with_name(mut value: Value) -> Value {
    const NAMES: [&str; 15] = [
        "monitor",
        "rule",
        "rule_name",
        "alert",
        "check",
        "name",
        "title",
        "event",
        "alert_name",
        "alarm",
        "alarm_name",
        "trigger",
        "trigger_name",
        "problem",
        "event_name",
    ];
    let named = value["labels"]["alertname"].as_str().is_some_and(|name| !name.is_empty());
    if named || !value["labels"].is_object() || value.get("alerts").is_some() {
        return value;
    }
    let label = NAMES.iter().find_map(|name| value["labels"][*name].as_str());
    let texts = ["summary", "message", "title", "description", "text"];
    let said = || texts.iter().find_map(|name| value["annotations"][*name].as_str());
    if let Some(name) = label.or_else(said).map(str::to_owned) {
        value["labels"]["alertname"] = Value::from(name);
    }
    value
}

#[derive(Debug, Deserialize)]
struct ChartFile {
    #[serde(default)]
    nodes: Vec<Value>,
    #[serde(default)]
    edges: Vec<ChartEdge>,
}

#[derive(Debug, Deserialize)]
struct ChartEdge {
    from: String,
    to: String,
}

pub fn load_topology(path: &Path) -> Result<Topology, EvalError> {
    let file: ChartFile = serde_json::from_str(&read(path)?).map_err(|failure| EvalError::file(path, failure))?;
    let mut topology = Topology::default();
    for node in &file.nodes {
        let name = node.as_str().or_else(|| node["id"].as_str()).or_else(|| node["name"].as_str());
        let name = name.ok_or_else(|| {
            EvalError::file(path, format!("node {node} is neither a name nor an object with `id` or `name`"))
        })?;
        let kind = match node["kind"].as_str().unwrap_or_default() {
            "host" | "node" => NodeKind::Host,
            "database" => NodeKind::Database,
            "queue" => NodeKind::Queue,
            "external" => NodeKind::External,
            _ => NodeKind::Service,
        };
        topology.add_node(name, kind);
    }
    for edge in &file.edges {
        let host = topology.kind(&edge.to) == Some(NodeKind::Host);
        topology.add_edge(&edge.from, &edge.to, if host { EdgeKind::RunsOn } else { EdgeKind::Calls });
    }
    Ok(topology)
}
