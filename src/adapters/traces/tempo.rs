//! Tempo: TraceQL finds ids, each trace is then read as OpenTelemetry's JSON.

use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::{MAX_SPANS, TraceClient};
use crate::domain::trace::{Span, Trace};
use crate::ports::{Outcomes, SignalError, TraceQuery};

/// One request a trace.
const MOST: usize = 40;
const PARALLEL: usize = 8;
/// Who is at the other end, by OpenTelemetry's conventions, present and past, the most telling first.
pub(super) const PEERS: [&str; 8] = [
    "peer.service",
    "db.namespace",
    "db.name",
    "db.system.name",
    "db.system",
    "messaging.destination.name",
    "server.address",
    "net.peer.name",
];

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    traces: Vec<FoundTrace>,
}

#[derive(Deserialize)]
struct FoundTrace {
    #[serde(rename = "traceID")]
    id: String,
}

/// `batches` before version 2 of the API, `resourceSpans` in OTLP, and within `trace` in version 2.
#[derive(Deserialize)]
struct Otlp {
    #[serde(default, alias = "resourceSpans")]
    batches: Vec<Resource>,
    #[serde(default)]
    trace: Option<Box<Otlp>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    resource: Attributes,
    #[serde(default, rename = "scopeSpans", alias = "instrumentationLibrarySpans")]
    scopes: Vec<Scope>,
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(default)]
    spans: Vec<SpanRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanRow {
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: Value,
    start_time_unix_nano: Value,
    end_time_unix_nano: Value,
    #[serde(default)]
    attributes: Vec<Attribute>,
    #[serde(default)]
    events: Vec<Attributes>,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: String,
}

pub(super) async fn search(client: &TraceClient, query: &TraceQuery) -> Result<Vec<Trace>, SignalError> {
    let limit = query.limit.min(MOST);
    let asked = [
        ("q", traceql(query)),
        ("start", (query.start.millis() / 1_000).to_string()),
        // Whole seconds, and at least one of them.
        ("end", (query.end.millis() / 1_000 + 1).to_string()),
        ("limit", limit.to_string()),
    ];
    let found: Option<Found> = client.get("/api/search", &asked).await?;
    let ids = found.map(|found| found.traces).unwrap_or_default().into_iter().take(limit).map(|one| one.id);
    let answers: Vec<_> =
        futures::stream::iter(ids).map(|id| async move { trace(client, &id).await }).buffered(PARALLEL).collect().await;
    let mut failures = vec![];
    let mut traces: Vec<Trace> = vec![];
    for answer in answers {
        match answer {
            Ok(trace) => traces.extend(trace),
            Err(failure) => failures.push(failure),
        }
    }
    match failures.pop() {
        Some(failure) if traces.is_empty() => Err(failure),
        // One that is too large or half written must not hide what the others show.
        Some(failure) => {
            let (read, left_out) = (traces.len(), failures.len() + 1);
            warn!(read, left_out, error = %failure, "some traces could not be read");
            Ok(traces)
        }
        None => Ok(traces),
    }
}

/// Our own query; names of the model are quoted, so that they cannot end the string.
fn traceql(query: &TraceQuery) -> String {
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    let mut parts = vec![format!("resource.service.name = {}", quoted(&query.service))];
    if let Some(operation) = &query.operation {
        parts.push(format!("name = {}", quoted(operation)));
    }
    if query.outcomes == Outcomes::Failing {
        parts.push("status = error".to_owned());
    }
    if let Some(longer) = query.longer_than {
        parts.push(format!("duration > {}ms", longer.as_millis()));
    }
    format!("{{ {} }}", parts.join(" && "))
}

pub(super) async fn trace(client: &TraceClient, id: &str) -> Result<Option<Trace>, SignalError> {
    let answer: Option<Otlp> = client.get(&format!("/api/traces/{id}"), &[]).await?;
    Ok(answer.map(|otlp| trace_of(id, otlp)))
}

pub(super) async fn check(client: &TraceClient) -> Result<String, SignalError> {
    let found: Option<Found> = client.get("/api/search", &[("q", "{}".to_owned()), ("limit", "1".to_owned())]).await?;
    match found {
        Some(_) => Ok("Tempo answers".to_owned()),
        None => Err(SignalError::Unavailable("there is no Tempo query API at this address".to_owned())),
    }
}

fn trace_of(id: &str, otlp: Otlp) -> Trace {
    let batches = otlp.trace.map_or(otlp.batches, |trace| trace.batches);
    let mut spans = vec![];
    for batch in batches {
        let service = attribute(&batch.resource.attributes, "service.name").unwrap_or_default();
        for row in batch.scopes.into_iter().flat_map(|scope| scope.spans) {
            if spans.len() < MAX_SPANS {
                spans.push(span_of(&service, row));
            }
        }
    }
    Trace { id: id.to_owned(), spans }
}

fn span_of(service: &str, row: SpanRow) -> Span {
    let (start, end) = (micros(&row.start_time_unix_nano), micros(&row.end_time_unix_nano));
    let failed = row.status.code == 2 || row.status.code == "STATUS_CODE_ERROR";
    let exception = || row.events.iter().find_map(|event| attribute(&event.attributes, "exception.message"));
    let error = failed.then(|| match row.status.message.is_empty() {
        true => exception().unwrap_or_default(),
        false => row.status.message.clone(),
    });
    let calls = row.kind == 3 || row.kind == 4 || row.kind == "SPAN_KIND_CLIENT" || row.kind == "SPAN_KIND_PRODUCER";
    let peer = calls.then(|| PEERS.iter().find_map(|name| attribute(&row.attributes, name))).flatten();
    Span {
        id: row.span_id,
        parent: (!row.parent_span_id.is_empty()).then_some(row.parent_span_id),
        service: service.to_owned(),
        operation: row.name,
        start_us: start,
        duration_us: end.saturating_sub(start).max(0),
        error,
        peer,
    }
}

/// Protobuf's JSON writes 64 bits as text; some exporters write numbers.
fn micros(nanoseconds: &Value) -> i64 {
    let number = nanoseconds.as_i64().or_else(|| nanoseconds.as_str().and_then(|text| text.parse().ok()));
    number.unwrap_or_default() / 1_000
}

fn attribute(attributes: &[Attribute], name: &str) -> Option<String> {
    let value = &attributes.iter().find(|attribute| attribute.key == name)?.value;
    let inner = value.as_object()?.values().next()?;
    let text = inner.as_str().map_or_else(|| inner.to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}
