//! The JSON of Jaeger's query service (`/api/traces`, `/api/dependencies`), as its own page uses it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_SPANS, TraceClient};
use crate::domain::time::Timestamp;
use crate::domain::trace::{Span, Trace};
use crate::ports::{Dependency, Outcomes, SignalError, TraceQuery};

#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    #[serde(default)]
    errors: Option<Vec<Problem>>,
}

#[derive(Deserialize)]
struct Problem {
    code: Option<u16>,
    msg: Option<String>,
}

#[derive(Deserialize)]
struct TraceRow {
    #[serde(rename = "traceID")]
    id: String,
    #[serde(default)]
    spans: Vec<SpanRow>,
    #[serde(default)]
    processes: HashMap<String, Process>,
}

#[derive(Deserialize)]
struct Process {
    #[serde(rename = "serviceName", default)]
    service: String,
}

#[derive(Deserialize)]
struct SpanRow {
    #[serde(rename = "spanID")]
    id: String,
    #[serde(rename = "operationName", default)]
    operation: String,
    #[serde(default)]
    references: Vec<Reference>,
    /// Microseconds since 1970.
    #[serde(rename = "startTime", default)]
    start: i64,
    #[serde(default)]
    duration: i64,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(rename = "processID", default)]
    process: String,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "refType", default)]
    kind: String,
    #[serde(rename = "traceID", default)]
    trace: String,
    #[serde(rename = "spanID")]
    span: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Log {
    #[serde(default)]
    fields: Vec<Tag>,
}

#[derive(Deserialize)]
struct DependencyRow {
    parent: String,
    child: String,
    #[serde(rename = "callCount", default)]
    calls: u64,
}

pub(super) async fn search(client: &TraceClient, query: &TraceQuery) -> Result<Vec<Trace>, SignalError> {
    let mut asked = vec![
        ("service", query.service.clone()),
        ("start", (query.start.millis() * 1_000).to_string()),
        ("end", (query.end.millis() * 1_000).to_string()),
        ("limit", query.limit.to_string()),
    ];
    if let Some(operation) = &query.operation {
        asked.push(("operation", operation.clone()));
    }
    if let Some(longer) = query.longer_than {
        asked.push(("minDuration", format!("{}us", longer.as_micros())));
    }
    if query.outcomes == Outcomes::Failing {
        asked.push(("tags", r#"{"error":"true"}"#.to_owned()));
    }
    let rows: Vec<TraceRow> = read(client.get("/api/traces", &asked).await?)?.unwrap_or_default();
    Ok(rows.into_iter().take(query.limit).map(trace_of).collect())
}

pub(super) async fn trace(client: &TraceClient, id: &str) -> Result<Option<Trace>, SignalError> {
    let rows: Vec<TraceRow> = read(client.get(&format!("/api/traces/{id}"), &[]).await?)?.unwrap_or_default();
    Ok(rows.into_iter().next().map(trace_of))
}

pub(super) async fn dependencies(
    client: &TraceClient,
    start: Timestamp,
    end: Timestamp,
) -> Result<Vec<Dependency>, SignalError> {
    let asked = [("endTs", end.millis().to_string()), ("lookback", end.since(start).as_millis().to_string())];
    let rows: Vec<DependencyRow> = read(client.get("/api/dependencies", &asked).await?)?.unwrap_or_default();
    Ok(rows.into_iter().map(|row| Dependency { caller: row.parent, callee: row.child, calls: row.calls }).collect())
}

pub(super) async fn check(client: &TraceClient) -> Result<String, SignalError> {
    let services: Vec<String> = read(client.get("/api/services", &[]).await?)?
        .ok_or_else(|| SignalError::Unavailable("there is no Jaeger query API at this address".to_owned()))?;
    Ok(format!("Jaeger answers; {} services", services.len()))
}

/// Jaeger says within a good answer that it could not read a trace.
fn read<T>(envelope: Option<Envelope<T>>) -> Result<Option<T>, SignalError> {
    let Some(envelope) = envelope else { return Ok(None) };
    if let (None, Some(problem)) = (&envelope.data, envelope.errors.iter().flatten().next()) {
        let why = problem.msg.clone().unwrap_or_else(|| "no reason given".to_owned());
        return match problem.code {
            Some(404) => Ok(None),
            Some(400..500) => Err(SignalError::BadQuery(why)),
            _ => Err(SignalError::Unavailable(why)),
        };
    }
    Ok(envelope.data)
}

fn trace_of(row: TraceRow) -> Trace {
    let TraceRow { id, mut spans, processes } = row;
    spans.truncate(MAX_SPANS);
    let spans = spans
        .into_iter()
        .map(|span| Span {
            parent: parent_of(&span, &id),
            error: error_of(&span),
            peer: peer_of(&span),
            service: processes.get(&span.process).map(|process| process.service.clone()).unwrap_or_default(),
            id: span.id,
            operation: span.operation,
            start_us: span.start,
            duration_us: span.duration,
        })
        .collect();
    Trace { id, spans }
}

/// A span of another trace is a link, not a caller.
fn parent_of(span: &SpanRow, trace: &str) -> Option<String> {
    let own = |reference: &&Reference| reference.trace.is_empty() || reference.trace == trace;
    let child_of = span.references.iter().filter(own).find(|reference| reference.kind != "FOLLOWS_FROM");
    child_of.or_else(|| span.references.iter().find(own)).map(|reference| reference.span.clone())
}

fn error_of(span: &SpanRow) -> Option<String> {
    let tag = |name: &str| span.tags.iter().find(|tag| tag.key == name).map(|tag| text(&tag.value));
    let failed = tag("error").is_some_and(|value| value == "true")
        || tag("otel.status_code").is_some_and(|value| value == "ERROR");
    let field = |name: &str| {
        span.logs.iter().flat_map(|log| &log.fields).find(|field| field.key == name).map(|field| text(&field.value))
    };
    failed.then(|| {
        tag("otel.status_description")
            .or_else(|| field("exception.message"))
            .or_else(|| field("error.object"))
            .or_else(|| field("message"))
            .unwrap_or_default()
    })
}

/// Only of a caller: a server names its caller as its peer.
fn peer_of(span: &SpanRow) -> Option<String> {
    let tag = |name: &str| span.tags.iter().find(|tag| tag.key == name).map(|tag| text(&tag.value));
    if !matches!(tag("span.kind").as_deref(), Some("client" | "producer")) {
        return None;
    }
    super::tempo::PEERS.iter().find_map(|name| tag(name)).filter(|peer| !peer.is_empty())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
