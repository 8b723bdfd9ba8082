//! What the model may look at. Every tool reads; none can write, and none takes an address.
//!
//! Invariants: an answer is bounded in time and length, and says when it was cut; what is too long
//! to be shown is kept whole as evidence, and the model reads a digest and can look into it; secrets
//! and characters that lie to the eye are gone before anything leaves this room; whatever came from
//! the estate is fenced, for it is data and never an instruction (S2).

mod changes;
mod digest;
pub mod evidence;
pub mod instrument;
pub mod kubernetes;
pub mod logs;
pub mod metrics;
pub mod past_incidents;
mod promql;
pub mod rollouts;
pub mod runbooks;
pub mod topology;
pub mod traces;

#[cfg(test)]
mod tests;

pub use changes::{Rollouts, changes_of};

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
use crate::domain::signal_scope::{NotScoped, SignalScope};
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::ports::{Cluster, ClusterError, Instrument, SignalError, Signals, ToolCall, ToolSchema, Traces};
use crate::store::Store;

pub const TIMEOUT: Duration = Duration::from_secs(10);
/// What the model reads of one answer, in characters; about 1,000 tokens.
pub const MAX_TEXT: usize = 4_000;
/// What is kept as evidence of one answer, in characters: 300,000 tokens. Longer answers are a
/// mistake of the question.
pub const MAX_BODY: usize = 1_200_000;
pub const MAX_SERIES: usize = 20;
/// S12: how far back a model may look, and how many queries may run at once.
pub const MAX_MINUTES: u64 = 360;
const AT_ONCE: usize = 2;

/// Everything a tool may ask, for one incident at one moment.
#[derive(Clone)]
pub struct ToolContext {
    pub signals: Option<Arc<dyn Signals>>,
    pub cluster: Option<Arc<dyn Cluster>>,
    pub traces: Option<Arc<dyn Traces>>,
    /// Where the evidence of this incident is kept.
    pub store: Arc<Store>,
    pub topology: Arc<Topology>,
    /// Gathered by the flow with `changes_of`.
    pub changes: Arc<Vec<Change>>,
    pub measures: Arc<Vec<Measure>>,
    /// Label of log streams that names the service.
    pub log_label: String,
    /// Of what metrics and logs are asked.
    pub scope: SignalScope,
    /// `None`: memory is away, and the tools say so.
    pub recall: Option<Recall>,
    pub event_now: Timestamp,
    pub incident: IncidentId,
    /// In a conversation: its name, and the number behind which marks are its own.
    pub talk: Option<(IncidentId, usize)>,
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
    fn terms(&self) -> Terms {
        Terms::default()
    }
    async fn call(&self, arguments: Value, context: &ToolContext) -> Result<Draft, TellModel>;
}

/// What a tool does to the world, what one call of it may cost, and whose tool it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub effect: Effect,
    pub timeout: Duration,
    /// What the model reads of one answer, in characters.
    pub shown: usize,
    pub keep: Keep,
    pub asks: Backend,
    pub specialities: Vec<Speciality>,
}

/// Who answers. A tool whose backend is not configured would cost words in every request and answer
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// What the watch knows itself, or brings with the tool.
    Own,
    Signals,
    Traces,
    Cluster,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            effect: Effect::Read,
            timeout: TIMEOUT,
            shown: MAX_TEXT,
            keep: Keep::AsEvidence,
            asks: Backend::Own,
            specialities: Speciality::ALL.to_vec(),
        }
    }
}

impl Terms {
    fn asking(asks: Backend) -> Self {
        Self { asks, ..Self::default() }
    }

    fn of(asks: Backend, specialities: &[Speciality]) -> Self {
        Self { asks, specialities: specialities.to_vec(), ..Self::default() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Read,
    /// Never offered: a model writes through typed actions, policy and approval only (S1).
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    AsEvidence,
    /// The answer is a part of what is kept already.
    NotAgain,
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
    /// What the model reads in place of the body; `None`: the body, or a digest of a long one.
    pub shown: Option<String>,
    pub series: Vec<Series>,
    pub taint: Taint,
    /// Whether anything was found; an empty answer proves nothing.
    pub found: bool,
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

impl From<NotScoped> for TellModel {
    fn from(refused: NotScoped) -> Self {
        Self(format!("the query was refused: {refused}"))
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

#[derive(Clone)]
pub struct ToolBox {
    tools: Vec<Arc<dyn Tool>>,
    /// Shared by the boxes of all specialists: they ask the same backends.
    at_once: Arc<Semaphore>,
}

impl fmt::Debug for ToolBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Default for ToolBox {
    fn default() -> Self {
        Self::new(vec![
            Arc::new(metrics::GoldenSignals),
            Arc::new(metrics::MetricsRange),
            Arc::new(metrics::MetricsNow),
            Arc::new(logs::Logs),
            Arc::new(traces::FindTraces),
            Arc::new(rollouts::ListChanges),
            Arc::new(topology::Neighbours),
            Arc::new(kubernetes::Objects),
            Arc::new(kubernetes::Events),
            Arc::new(kubernetes::LogsOfPod),
            Arc::new(rollouts::History),
            Arc::new(runbooks::Runbooks),
            Arc::new(past_incidents::PastIncidents),
            Arc::new(evidence::Grep),
            Arc::new(evidence::Page),
        ])
    }
}

impl ToolBox {
    /// Tools that write are left out, whoever brings them.
    pub fn new(tools: Vec<Arc<dyn Tool>>) -> Self {
        let tools = tools.into_iter().filter(|tool| tool.terms().effect == Effect::Read).collect();
        Self { tools, at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Adds what the configuration brings. A second tool of one name is refused: a call must mean
    /// one thing, and a name that is known must not change its meaning.
    pub fn with(mut self, instruments: Vec<Arc<dyn Instrument>>) -> Result<Self, SameName> {
        for instrument in instruments {
            let name = instrument.schema().name;
            if self.names().contains(&name) {
                return Err(SameName(name));
            }
            self.tools.push(Arc::new(instrument::Outside(instrument)));
        }
        Ok(self)
    }

    /// The tools of one specialist; what all need is in every box.
    pub fn of(&self, speciality: Speciality) -> Self {
        let tools = self.tools.iter().filter(|tool| tool.terms().specialities.contains(&speciality)).cloned().collect();
        Self { tools, at_once: self.at_once.clone() }
    }

    /// The tools that these can answer.
    pub fn answered_by(&self, backends: &[Backend]) -> Self {
        let answered = |tool: &&Arc<dyn Tool>| backends.contains(&tool.terms().asks);
        Self { tools: self.tools.iter().filter(answered).cloned().collect(), at_once: self.at_once.clone() }
    }

    pub fn schemas(&self) -> Vec<ToolSchema> {
        self.tools.iter().map(|tool| tool.schema()).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.schema().name).collect()
    }

    /// Never fails: what went wrong is an answer, too.
    pub async fn run(&self, call: &ToolCall, context: &ToolContext) -> ToolOutput {
        let Some(tool) = self.tools.iter().find(|tool| tool.schema().name == call.name) else {
            return refusal(&format!("there is no tool {:?}; there are {}", call.name, self.names().join(", ")));
        };
        let _turn = self.at_once.acquire().await;
        let terms = tool.terms();
        match tokio::time::timeout(terms.timeout, tool.call(call.arguments.clone(), context)).await {
            Ok(Ok(draft)) => output(draft, &terms),
            Ok(Err(TellModel(why))) => refusal(&why),
            Err(_) => refusal(&format!("no answer within {} s: ask for less", terms.timeout.as_secs())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two tools are called {0:?}")]
pub struct SameName(pub String);

fn refusal(why: &str) -> ToolOutput {
    // The reason may quote a backend, hence an application.
    ToolOutput { text: format!("no answer: {}", shorten(&redact(why), 600)), evidence: None }
}

fn output(draft: Draft, terms: &Terms) -> ToolOutput {
    let mut series = draft.series;
    series.truncate(MAX_SERIES);
    for value in series.iter_mut().flat_map(|series| series.labels.values_mut()) {
        *value = redact(value);
    }
    let body = match terms.keep {
        Keep::AsEvidence => digest::on_lines(redact(&shorten(&draft.body, MAX_BODY))),
        Keep::NotAgain => redact(&draft.body),
    };
    let shown = match (draft.shown, terms.keep) {
        (Some(shown), _) => shorten(&redact(&shown), terms.shown),
        (None, Keep::AsEvidence) => digest::of(&body, terms.shown),
        (None, Keep::NotAgain) => shorten(&body, terms.shown),
    };
    let summary = shorten(&redact(&draft.summary), 300);
    let text = format!("{summary}\n{}", fence(&shown, draft.source));
    let draft = Draft { summary, body, shown: Some(shown), series, ..draft };
    ToolOutput { text, evidence: (terms.keep == Keep::AsEvidence).then_some(draft) }
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

/// Said first in a summary of what was asked: the model need not have written it. Not that nothing else was
/// asked: a selector may name another cluster.
fn confined(of: Option<String>, query: &str) -> String {
    of.filter(|of| query.contains(of.as_str())).map_or_else(String::new, |of| format!("with {of}: "))
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
