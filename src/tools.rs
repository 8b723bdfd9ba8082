//! What the model may look at. Every tool reads; none can write, and none takes an address.
//!
//! Invariants: an answer is bounded in time and length, and says when it was cut; secrets and
//! characters that lie to the eye are gone before anything leaves this room; whatever came from the
//! estate is fenced, for it is data and never an instruction (S2).

mod changes;
pub mod kubernetes;
pub mod logs;
pub mod metrics;
pub mod past_incidents;
mod promql;
pub mod rollouts;
pub mod runbooks;
pub mod topology;

#[cfg(test)]
mod tests;

pub use changes::changes_of;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceKind, Series, Taint};
use crate::domain::id::IncidentId;
use crate::domain::redact::{fence, redact};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::ports::{Cluster, ClusterError, SignalError, Signals, ToolCall, ToolSchema};

pub const TIMEOUT: Duration = Duration::from_secs(10);
/// What the model reads of one answer, in characters; about 1,000 tokens.
pub const MAX_TEXT: usize = 4_000;
/// What is kept as evidence of one answer.
pub const MAX_BODY: usize = 64_000;
pub const MAX_SERIES: usize = 20;
/// S12: how far back a model may look, and how many queries may run at once.
pub const MAX_MINUTES: u64 = 360;
const AT_ONCE: usize = 2;

/// Everything a tool may ask, for one incident at one moment.
#[derive(Clone)]
pub struct ToolContext {
    pub signals: Option<Arc<dyn Signals>>,
    pub cluster: Option<Arc<dyn Cluster>>,
    pub topology: Arc<Topology>,
    /// Gathered by the flow with `changes_of`.
    pub changes: Arc<Vec<Change>>,
    pub measures: Arc<Vec<Measure>>,
    /// Label of log streams that names the service.
    pub log_label: String,
    /// `None`: memory is away, and the tools say so.
    pub recall: Option<Recall>,
    pub event_now: Timestamp,
    pub incident: IncidentId,
}

/// A query that measures every service at once, for `golden_signals`.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    pub name: String,
    pub promql: String,
    /// Label of the answer that names the service.
    pub label: String,
    pub unit: String,
}

/// Asks the memory; a function, because the memory is another room.
pub type Recall = Arc<dyn Fn(RecallQuery) -> BoxFuture<'static, Result<Vec<Recalled>, String>> + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallQuery {
    pub text: String,
    pub kind: RecallKind,
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecallKind {
    Runbook,
    PastIncident,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    pub doc: String,
    pub title: String,
    pub heading: String,
    pub text: String,
    pub score: f64,
}

#[async_trait]
pub trait Tool: Send + Sync {
    fn schema(&self) -> ToolSchema;
    async fn call(&self, arguments: Value, context: &ToolContext) -> Result<Draft, TellModel>;
}

/// Evidence in the making; the flow numbers and stores it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    pub kind: EvidenceKind,
    pub source: &'static str,
    pub query: String,
    /// One line, written by code from the answer.
    pub summary: String,
    pub body: String,
    pub series: Vec<Series>,
    pub taint: Taint,
}

/// Why there is no answer, in words that the model can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TellModel(pub String);

impl From<SignalError> for TellModel {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::BadQuery(why) => Self(format!("the query was refused: {why}")),
            SignalError::Unavailable(why) => Self(format!("not available now: {why}; use other evidence")),
        }
    }
}

impl From<ClusterError> for TellModel {
    fn from(error: ClusterError) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutput {
    /// For the model: summary and fenced answer.
    pub text: String,
    /// `None`: nothing was observed.
    pub evidence: Option<Draft>,
}

pub struct ToolBox {
    tools: Vec<Box<dyn Tool>>,
    at_once: Semaphore,
}

impl fmt::Debug for ToolBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schemas().iter().map(|schema| schema.name.clone())).finish()
    }
}

impl Default for ToolBox {
    fn default() -> Self {
        Self::new(vec![
            Box::new(metrics::GoldenSignals),
            Box::new(metrics::MetricsRange),
            Box::new(metrics::MetricsNow),
            Box::new(logs::Logs),
            Box::new(rollouts::ListChanges),
            Box::new(topology::Neighbours),
            Box::new(kubernetes::Objects),
            Box::new(kubernetes::Events),
            Box::new(kubernetes::LogsOfPod),
            Box::new(runbooks::Runbooks),
            Box::new(past_incidents::PastIncidents),
        ])
    }
}

impl ToolBox {
    pub fn new(tools: Vec<Box<dyn Tool>>) -> Self {
        Self { tools, at_once: Semaphore::new(AT_ONCE) }
    }

    pub fn schemas(&self) -> Vec<ToolSchema> {
        self.tools.iter().map(|tool| tool.schema()).collect()
    }

    /// Never fails: what went wrong is an answer, too.
    pub async fn run(&self, call: &ToolCall, context: &ToolContext) -> ToolOutput {
        let Some(tool) = self.tools.iter().find(|tool| tool.schema().name == call.name) else {
            return refusal(&format!("there is no tool {:?}", call.name));
        };
        let _turn = self.at_once.acquire().await;
        match tokio::time::timeout(TIMEOUT, tool.call(call.arguments.clone(), context)).await {
            Ok(Ok(draft)) => output(draft),
            Ok(Err(TellModel(why))) => refusal(&why),
            Err(_) => refusal(&format!("no answer within {} s: ask for less", TIMEOUT.as_secs())),
        }
    }
}

fn refusal(why: &str) -> ToolOutput {
    // The reason may quote a backend, hence an application.
    ToolOutput { text: format!("no answer: {}", shorten(&redact(why), 600)), evidence: None }
}

fn output(draft: Draft) -> ToolOutput {
    let mut series = draft.series;
    series.truncate(MAX_SERIES);
    for value in series.iter_mut().flat_map(|series| series.labels.values_mut()) {
        *value = redact(value);
    }
    let draft = Draft {
        summary: shorten(&redact(&draft.summary), 300),
        body: shorten(&redact(&draft.body), MAX_BODY),
        series,
        ..draft
    };
    let shown = shorten(&draft.body, MAX_TEXT);
    ToolOutput { text: format!("{}\n{}", draft.summary, fence(&shown, draft.source)), evidence: Some(draft) }
}

/// Says how much is missing, so that nobody takes a part for the whole.
fn shorten(text: &str, characters: usize) -> String {
    let total = text.chars().count();
    if total <= characters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters).collect();
    format!("{kept}\n[cut: {characters} of {total} characters; narrow the question to see the rest]")
}

/// Reads the arguments; the error names the field.
fn arguments<T: DeserializeOwned>(value: Value) -> Result<T, TellModel> {
    serde_json::from_value(value).map_err(|why| TellModel(format!("the arguments do not fit: {why}")))
}

fn schema(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolSchema {
    ToolSchema {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }),
    }
}

/// The time that a question is about, at most six hours long.
fn window(
    minutes: Option<u64>,
    until: Option<Timestamp>,
    context: &ToolContext,
) -> Result<(Timestamp, Timestamp), TellModel> {
    let minutes = minutes.unwrap_or(60);
    if !(1..=MAX_MINUTES).contains(&minutes) {
        return Err(TellModel(format!("`minutes` must be 1 to {MAX_MINUTES}; move the window with `until` instead")));
    }
    let until = until.unwrap_or(context.event_now).min(context.event_now);
    Ok((until - Duration::from_secs(minutes * 60), until))
}
