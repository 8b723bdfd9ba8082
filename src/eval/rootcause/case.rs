//! Reading one case: what was measured, who calls whom, what was changed, and the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::domain::change::{Change, ChangeKind, Touched};
use crate::domain::root_cause::{Complaint, Span, Track};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::eval::instant::{MILLIS_FROM, epoch};
use crate::eval::table::csv_text;
use crate::eval::{EvalError, read, triage};

/// One folder.
pub(super) struct Case {
    pub(super) id: String,
    pub(super) complaint: Complaint,
    pub(super) baseline: Span,
    pub(super) window: Span,
    pub(super) truth: String,
    pub(super) topology: Topology,
    pub(super) tracks: Vec<Track>,
    pub(super) changes: Vec<Change>,
}

#[derive(Deserialize)]
struct CaseFile {
    id: Option<Value>,
    symptom: Place,
    baseline: SpanFile,
    window: SpanFile,
    truth: Place,
}

#[derive(Deserialize)]
struct Place {
    service: String,
    metric: Option<String>,
}

#[derive(Deserialize)]
struct SpanFile {
    start: Value,
    end: Value,
}

impl Case {
    pub(super) fn load(folder: &Path) -> Result<Self, EvalError> {
        let path = folder.join("case.json");
        let file: CaseFile = json(&path)?;
        let (baseline, window) = (span(&path, "baseline", &file.baseline)?, span(&path, "window", &file.window)?);
        let id = match file.id {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            _ => folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        let chart = folder.join("topology.json");
        let topology = if chart.exists() { triage::load_topology(&chart)? } else { Topology::default() };
        let changes = folder.join("changes.json");
        let changes = if changes.exists() { load_changes(&changes)? } else { vec![] };
        let tracks = load_metrics(&folder.join("metrics.csv"))?;
        Ok(Self {
            id,
            complaint: Complaint { node: file.symptom.service, signal: file.symptom.metric },
            baseline,
            window,
            truth: file.truth.service,
            topology,
            tracks,
            changes,
        })
    }

    /// All that could be named.
    pub(super) fn services(&self) -> BTreeSet<&str> {
        let measured = self.tracks.iter().map(|track| track.node.as_str());
        measured.chain(self.topology.nodes().map(|(name, _)| name)).chain([self.complaint.node.as_str()]).collect()
    }
}

/// Every folder with a `case.json`, by name.
pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).map_err(|failure| EvalError::file(dir, failure))? {
        let path = entry.map_err(|failure| EvalError::file(dir, failure))?.path();
        if path.join("case.json").is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(EvalError::file(dir, "no folder with a case.json"));
    }
    found.sort();
    Ok(found)
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, EvalError> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|failure| EvalError::line(path, failure.line() as u64, failure))
}

fn span(path: &Path, name: &str, span: &SpanFile) -> Result<Span, EvalError> {
    let wrong = |what: &str, value: &Value| {
        EvalError::file(path, format!("{name}.{what}: `{value}` is neither RFC 3339 nor epoch seconds"))
    };
    let start = instant(&span.start).ok_or_else(|| wrong("start", &span.start))?;
    let end = instant(&span.end).ok_or_else(|| wrong("end", &span.end))?;
    if end < start {
        return Err(EvalError::file(path, format!("{name} ends before it starts")));
    }
    Ok(Span { start, end })
}

fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(seconds) => seconds.as_f64().and_then(from_seconds),
        Value::String(text) => instant_of(text),
        _ => None,
    }
}

fn instant_of(text: &str) -> Option<Timestamp> {
    match text.parse::<f64>() {
        Ok(seconds) => from_seconds(seconds),
        Err(_) => Timestamp::parse(text).ok().or_else(|| epoch(text).map(|(at, _)| Timestamp::from_secs(at))),
    }
}

/// What is too large for seconds are milliseconds, as in the other suites.
fn from_seconds(number: f64) -> Option<Timestamp> {
    let millis = if number.abs() < MILLIS_FROM { number * 1000.0 } else { number };
    millis.is_finite().then(|| Timestamp::from_millis(millis.round() as i64))
}

const COLUMNS: [&str; 4] = ["timestamp", "service", "metric", "value"];

/// Columns in any order, more are ignored; an empty value or `NaN` is a gap.
fn load_metrics(path: &Path) -> Result<Vec<Track>, EvalError> {
    let text = csv_text(path)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let bad = |failure: csv::Error| match failure.position() {
        Some(at) => EvalError::line(path, at.line(), &failure),
        None => EvalError::file(path, &failure),
    };
    let header = reader.headers().map_err(bad)?;
    let mut places = [0; 4];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        *place = header
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| EvalError::line(path, 1, format!("no column `{column}`")))?;
    }
    let mut tracks: Vec<Track> = vec![];
    let mut at: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(bad)? {
        let line = record.position().map_or(0, csv::Position::line);
        let [when, service, metric, value] = places.map(|place| record.get(place).unwrap_or(""));
        let when = instant_of(when).ok_or_else(|| {
            EvalError::line(path, line, format!("timestamp `{when}` is neither RFC 3339 nor epoch seconds"))
        })?;
        if service.is_empty() || metric.is_empty() {
            return Err(EvalError::line(path, line, "no service or no metric"));
        }
        let value: f64 = match value {
            "" => f64::NAN,
            text => text.parse().map_err(|_| EvalError::line(path, line, format!("value `{text}` is not a number")))?,
        };
        let known = at.get(service).and_then(|metrics| metrics.get(metric)).copied();
        let index = known.unwrap_or_else(|| {
            tracks.push(Track { node: service.to_owned(), metric: metric.to_owned(), points: vec![] });
            at.entry(service.to_owned()).or_default().insert(metric.to_owned(), tracks.len() - 1);
            tracks.len() - 1
        });
        tracks[index].points.push((when, value));
    }
    Ok(tracks)
}

/// A list, or an object with the list `changes`; each with a service and an instant under one of the
/// names that tools use.
fn load_changes(path: &Path) -> Result<Vec<Change>, EvalError> {
    let value: Value = json(path)?;
    let list = value.as_array().or_else(|| value["changes"].as_array());
    let list = list.ok_or_else(|| EvalError::file(path, "neither a list nor an object with the list `changes`"))?;
    list.iter()
        .enumerate()
        .map(|(at, change)| {
            load_change(change, at + 1).map_err(|reason| EvalError::file(path, format!("change {}: {reason}", at + 1)))
        })
        .collect()
}

fn load_change(change: &Value, number: usize) -> Result<Change, String> {
    let text = |names: &[&str]| names.iter().find_map(|name| change[*name].as_str()).map(str::to_owned);
    let service = text(&["service", "node", "workload", "subject"]).ok_or("no `service`")?;
    let at = ["at", "timestamp", "time", "start"].iter().map(|name| &change[*name]).find(|value| !value.is_null());
    let at = at.ok_or("no `timestamp`")?;
    let at = instant(at).ok_or_else(|| format!("`{at}` is neither RFC 3339 nor epoch seconds"))?;
    let what = text(&["kind", "type", "what"]).unwrap_or_default();
    let lower = what.to_ascii_lowercase();
    let kind = [
        ("image", ChangeKind::Image),
        ("deploy", ChangeKind::Image),
        ("rollout", ChangeKind::Image),
        ("env", ChangeKind::Environment),
        ("config", ChangeKind::Configuration),
        ("flag", ChangeKind::Configuration),
        ("resource", ChangeKind::Resources),
    ]
    .into_iter()
    .find(|(word, _)| lower.contains(word))
    .map_or(ChangeKind::Other, |(_, kind)| kind);
    let detail = text(&["detail", "description", "summary", "diff"]).unwrap_or(what);
    Ok(Change {
        id: text(&["id", "name"]).unwrap_or_else(|| format!("{service} change {number}")),
        namespace: text(&["namespace"]).unwrap_or_default(),
        workload: text(&["workload"]).unwrap_or_else(|| service.clone()),
        from_revision: change["from_revision"].as_i64(),
        to_revision: change["to_revision"].as_i64().unwrap_or(0),
        touched: vec![Touched { what: kind, detail }],
        cause: text(&["cause"]),
        current: change["current"].as_bool().unwrap_or(true),
        put_back: false,
        service,
        at,
    })
}
