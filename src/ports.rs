//! What the watch needs of the outside world, as traits. Adapters implement, the app wires.

pub mod crash;
mod hooks;
mod instrument;
mod outlets;
mod people;
mod remedy;
mod traces;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::action::{Action, Right, Target};
use crate::domain::alert::Labels;
use crate::domain::card::{ButtonAction, Card};
use crate::domain::evidence::Series;
use crate::domain::id::{IncidentId, PersonId};
pub use crate::domain::investigation::{ModelError, ModelMessage, ModelReply, ModelRequest, ToolCall, ToolSchema};
use crate::domain::plan::Surroundings;
use crate::domain::signal_scope::NotScoped;
use crate::domain::time::Timestamp;

pub use hooks::{DeclaredHook, Hooks};
pub use instrument::{Handling, Instrument, InstrumentError, Observation};
pub use outlets::{Attempt, Channels, Outlet, OutletError, Queue};
pub use people::{Directory, DirectoryError, OnCall, Rota, RotaError, Standing};
pub use remedy::{DeclaredJob, Grant, Identity, Progress, Settled, Took, Wish};
pub use traces::{Dependency, Outcomes, TraceQuery, Traces};

/// The kinds of time. Production reads the system clock; the simulated estate has its own, faster one for
/// event time.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Drives baselines, windows and correlation.
    fn event_now(&self) -> Timestamp;
    /// For people, expiry and audit.
    fn wall_now(&self) -> Timestamp;
    /// As fast as event time, and set by nobody: for how long something takes within this process.
    fn steady_now(&self) -> Timestamp;
    /// Waits until `span` of event time has passed.
    async fn sleep_event(&self, span: Duration);
}

/// The clock of production: event time is wall time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn event_now(&self) -> Timestamp {
        self.wall_now()
    }

    fn wall_now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(since_epoch.as_millis() as i64)
    }

    fn steady_now(&self) -> Timestamp {
        static BEGAN: OnceLock<(Instant, Timestamp)> = OnceLock::new();
        let (began, at) = BEGAN.get_or_init(|| (Instant::now(), self.wall_now()));
        *at + began.elapsed()
    }

    async fn sleep_event(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// Everything that comes in from people. Alerts come in as raw payloads beside it; both are kept
/// in the durable inbox before anything else happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "inbound", rename_all = "snake_case")]
pub enum FromPeople {
    /// A button. `value` is what the card's button carried.
    Click { place: Place, by: Person, action: ButtonAction, value: String, reason: Option<String> },
    /// `/ops diagnose checkout`: `text` is what follows the command's name.
    Command { place: Place, by: Person, text: String },
    /// The bot was mentioned, or written to directly.
    Mention { place: Place, by: Person, text: String },
    /// The watch's own page in the chat was opened: it is drawn anew for this person.
    Home { place: Place, by: Person },
}

/// Who, as the transport proved it (signature or socket), never as a payload's text claims it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
}

/// Where in the chat: a channel, and the thread's root message when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub channel: String,
    pub thread: Option<MessageRef>,
    /// The message that carried the button, when it was a click.
    pub message: Option<MessageRef>,
    /// Names the slash command that is answered here, for chats that have a way of their own to answer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// A posted message, as the transport names it (Slack: channel and ts).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageRef {
    pub channel: String,
    pub ts: String,
}

/// How often a chat lets itself be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Between two posts into one channel, in the long run.
    pub post_every: Duration,
    /// Posts into one channel that may come at once.
    pub post_burst: u32,
    /// Between two edits anywhere, in the long run.
    pub edit_every: Duration,
    /// Edits that may come at once.
    pub edit_burst: u32,
}

/// A picture for people who read on a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Without a folder: `topology.png`.
    pub name: String,
    pub title: String,
    /// For those who cannot see it.
    pub alt: String,
    pub png: Vec<u8>,
}

/// What can be drawn of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawing {
    /// What left its usual band, around the onset.
    Signals,
    /// Who calls whom, with the blast radius coloured.
    Topology,
}

/// Draws incidents for chats that cannot draw by themselves.
#[async_trait]
pub trait Artist: Send + Sync + 'static {
    /// `None` where there is nothing to show.
    async fn draw(&self, incident: &IncidentId, what: Drawing) -> Option<Picture>;
}

/// A chat that people are in. Implementations: Slack and the local console.
///
/// `key` is our own idempotency key. After an unknown result the caller asks `find` before it
/// posts again (Slack offers no idempotency, see P4).
#[async_trait]
pub trait Chat: Send + Sync + 'static {
    fn name(&self) -> &str;
    /// `None`: as fast as it answers.
    fn rates(&self) -> Option<Rates> {
        None
    }
    /// Whether a second post under the same key gives the first message again.
    fn is_idempotent(&self) -> bool {
        false
    }
    async fn post(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        card: &Card,
    ) -> Result<MessageRef, ChatError>;
    async fn edit(&self, message: &MessageRef, card: &Card) -> Result<(), ChatError>;
    /// All messages that were posted under `key`, oldest first, for read-back after a lost reply.
    async fn find(&self, channel: &str, thread: Option<&MessageRef>, key: &str) -> Result<Vec<MessageRef>, ChatError>;
    /// Takes back a message of ours; one that is gone already counts as removed.
    async fn remove(&self, message: &MessageRef) -> Result<(), ChatError>;
    /// Shown to one person only; may be dropped by the transport.
    async fn whisper(&self, place: &Place, to: &PersonId, card: &Card) -> Result<(), ChatError>;
    /// Answers the command that the place names, where nothing can be posted; only whoever gave it sees that.
    async fn answer_privately(&self, _place: &Place, _card: &Card) -> Result<(), ChatError> {
        Err(ChatError::Refused("there is no other way to answer".into()))
    }
    /// Draws the watch's own page for one person; chats without such pages have nothing to do.
    async fn home(&self, _to: &PersonId, _card: &Card) -> Result<(), ChatError> {
        Ok(())
    }
    /// Uploads into a thread. Chats whose cards show pictures by themselves have nothing to do.
    async fn picture(&self, _thread: &MessageRef, _picture: &Picture) -> Result<(), ChatError> {
        Ok(())
    }
    /// Shows that somebody's question is being worked on, until the answer comes.
    async fn working(&self, _place: &Place, _words: &str) -> Result<(), ChatError> {
        Ok(())
    }
    /// Begins an answer that grows; `None`: this chat has none such, post and edit instead.
    async fn begin(&self, _thread: &MessageRef, _to: &PersonId, _words: &str) -> Result<Option<MessageRef>, ChatError> {
        Ok(None)
    }
    /// Adds to what `begin` gave.
    async fn grow(&self, _message: &MessageRef, _words: &str) -> Result<(), ChatError> {
        Ok(())
    }
    /// Ends what `begin` gave; from then on it is edited as any message is.
    async fn end(&self, _message: &MessageRef) -> Result<(), ChatError> {
        Ok(())
    }
    /// Reads what other processes have posted; chats that keep nothing in memory have nothing to do.
    async fn catch_up(&self) -> Result<(), ChatError> {
        Ok(())
    }
    /// Checks credentials and rights: one line for `midwatch check`.
    async fn check(&self) -> Result<String, ChatError>;
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChatError {
    /// Not sent; try again after the given time.
    #[error("rate limited, retry after {0:?}")]
    RateLimited(Duration),
    /// Perhaps sent: read back before trying again.
    #[error("result unknown: {0}")]
    Unknown(String),
    /// Not sent, worth trying again: connection refused, 5xx before acceptance, and what a person mends, such
    /// as a token, a scope or a proxy.
    #[error("chat unavailable: {0}")]
    Unavailable(String),
    /// Not sent: the channel is gone or closed to us; another one would do.
    #[error("refused by the chat: {0}")]
    NoChannel(String),
    /// Not done: the message is not there any more; a new one would do.
    #[error("refused by the chat: {0}")]
    NoMessage(String),
    /// Will never work as it is (invalid blocks).
    #[error("refused by the chat: {0}")]
    Refused(String),
}

/// Where a chat hands what people did; returns only after it is durable.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// `dedupe` names the delivery (Slack: event id or envelope id), so that a second delivery of
    /// the same act is kept once.
    async fn accept(&self, dedupe: &str, act: FromPeople) -> Result<(), InboxFull>;
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the inbox does not accept at the moment: {0}")]
pub struct InboxFull(pub String);

/// Metrics and logs, read only.
#[async_trait]
pub trait Signals: Send + Sync + 'static {
    /// PromQL at one instant.
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<Series>, SignalError>;
    /// PromQL over a window; one point a step.
    async fn range(&self, query: &str, window: Window) -> Result<Vec<Series>, SignalError>;
    /// As `instant`, with what the backend warns of.
    async fn instant_warned(&self, query: &str, at: Timestamp) -> Result<Warned, SignalError> {
        Ok(Warned { series: self.instant(query, at).await?, warnings: vec![] })
    }
    /// As `range`, with what the backend warns of.
    async fn range_warned(&self, query: &str, window: Window) -> Result<Warned, SignalError> {
        Ok(Warned { series: self.range(query, window).await?, warnings: vec![] })
    }
    /// LogQL, newest first, at most `limit` lines.
    async fn logs(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, SignalError>;
    /// How many streams of logs a selector names: no line is silence only where there are some.
    async fn streams(&self, selector: &str, start: Timestamp, end: Timestamp) -> Result<usize, SignalError>;
    /// One line for `midwatch check`.
    async fn check(&self) -> Result<String, SignalError>;
}

/// An answer, and why it may be a part of the whole: a store of Thanos that is away, a shard that timed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Warned {
    pub series: Vec<Series>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    pub step: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub labels: Labels,
    pub line: String,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SignalError {
    /// The backend understood us and said no: a malformed query, too many points.
    #[error("query refused: {0}")]
    BadQuery(String),
    #[error("{0}")]
    Unavailable(String),
}

impl From<NotScoped> for SignalError {
    fn from(refused: NotScoped) -> Self {
        Self::BadQuery(refused.to_string())
    }
}

/// The orchestrator: Kubernetes, real or simulated behind its real API.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    async fn workloads(&self) -> Result<Vec<Workload>, ClusterError>;
    async fn pods(&self, namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError>;
    async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError>;
    /// Who stands before whom by the cluster's objects; empty where they say nothing.
    async fn routes(&self) -> Result<Vec<Route>, ClusterError> {
        Ok(vec![])
    }
    /// Events of the namespace (all when `None`), newest first.
    async fn events(&self, namespace: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError>;
    /// Rollout history of a workload, oldest first; one of another kind may bear the same name.
    async fn revisions(&self, kind: &str, namespace: &str, workload: &str) -> Result<Vec<Revision>, ClusterError>;
    /// The same of many at once, in their order.
    async fn histories(&self, workloads: &[Workload]) -> Vec<Result<Vec<Revision>, ClusterError>> {
        let mut histories = vec![];
        for workload in workloads {
            histories.push(self.revisions(&workload.kind, &workload.namespace, &workload.name).await);
        }
        histories
    }
    async fn pod_logs(&self, namespace: &str, pod: &str, previous: PodLogs, lines: i64)
    -> Result<String, ClusterError>;
    /// Fills a wish in with what is there: uid, present values, history. Refuses what cannot be.
    async fn prepare(&self, wish: &Wish) -> Result<Action, ClusterError>;
    /// Checks what the action asks of its target, then asks the API server what it would change;
    /// nothing is written.
    async fn dry_run(&self, action: &Action) -> Result<DryRun, ClusterError>;
    /// Writes. The caller has proved that it may (see `flow::execute`). `mark` names the plan in what
    /// is written, where the object has a place for it.
    async fn apply(&self, action: &Action, resource_version: &str, mark: &str) -> Result<Applied, ClusterError>;
    /// Reads whether a write with that mark, whose answer was lost, took effect.
    async fn took_effect(&self, action: &Action, mark: &str) -> Result<Took, ClusterError>;
    /// Whether what the action wrote with that mark still stands, and what it makes has come about.
    async fn settled(&self, action: &Action, mark: &str) -> Result<Settled, ClusterError>;
    /// What stands around the target: budgets, quotas, autoscaler.
    async fn surroundings(&self, action: &Action) -> Result<Surroundings, ClusterError>;
    /// The target as it is, as YAML without `managedFields`: evidence before a write.
    async fn manifest(&self, target: &Target) -> Result<String, ClusterError>;
    /// Every ConfigMap, without data. Empty where the cluster cannot tell.
    async fn config_maps(&self) -> Result<Vec<ConfigMapState>, ClusterError> {
        Ok(vec![])
    }
    /// The data of a ConfigMap.
    async fn config_data(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, ClusterError>;
    /// What the API server says of these rights, namespaced ones for each of the namespaces.
    async fn grants(
        &self,
        identity: Identity,
        namespaces: &[String],
        rights: &[Right],
    ) -> Result<Vec<Grant>, ClusterError>;
    async fn check(&self) -> Result<String, ClusterError>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLogs {
    Current,
    /// Of the container that ran before the last restart.
    Previous,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    /// `Deployment`, `StatefulSet` or `DaemonSet`
    pub kind: String,
    pub uid: String,
    /// The name that metrics and alerts use for it (label `app` or its recommended successors).
    pub service: String,
    pub replicas: i32,
    pub ready: i32,
    pub updated: i32,
    /// The rollout that the last change of the template started has ended.
    pub rolled_out: bool,
    /// Number of the revision that runs or is rolled out, where it says it: a Deployment does.
    pub revision: Option<i64>,
    /// What keeps that revision of a StatefulSet, by name.
    pub controller_revision: Option<String>,
    pub labels: Labels,
    /// Names of the ConfigMaps that its pod template refers to, sorted.
    pub config_maps: Vec<String>,
}

#[cfg(test)]
impl Workload {
    /// As most tests want one: it runs one replica, and all of it is rolled out.
    pub fn running(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            kind: kind.into(),
            uid: name.into(),
            service: name.into(),
            replicas: 1,
            ready: 1,
            updated: 1,
            rolled_out: true,
            revision: None,
            controller_revision: None,
            labels: Labels::new(),
            config_maps: vec![],
        }
    }
}

impl Workload {
    /// Whether the revision, one of those kept (oldest first), is the one that runs or is rolled out.
    pub fn runs(&self, revision: &Revision, kept: &[Revision]) -> bool {
        match (self.revision, &self.controller_revision) {
            (Some(number), _) => number == revision.number,
            (None, Some(name)) => *name == revision.kept_as,
            // What says nothing of it, or was not looked at by its controller yet, goes to the newest.
            (None, None) => kept.last().is_some_and(|newest| newest.number == revision.number),
        }
    }
}

/// A ConfigMap by its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapState {
    pub namespace: String,
    pub name: String,
    pub resource_version: String,
    pub created_at: Timestamp,
    /// When its data was last written, and by which field manager (`kubectl-edit`); `None`: not recorded.
    pub written: Option<(Timestamp, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodState {
    pub namespace: String,
    pub name: String,
    pub service: String,
    pub node: Option<String>,
    pub phase: String,
    pub ready: bool,
    pub restarts: i32,
    /// Such as `OOMKilled` or `CrashLoopBackOff`.
    pub reason: Option<String>,
    /// When the container ended that `reason` tells of; `None`: it waits, so that it is so now.
    pub ended_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    pub name: String,
    pub ready: bool,
    /// Conditions that are not as they should be, e.g. `Ready=Unknown since 2026-11-21 02:15:00Z`.
    pub troubles: Vec<String>,
}

/// One names, calls or may call the other. Names are those of services, of Kubernetes' Services where
/// they differ, and of the hosts that an Ingress answers for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub from: String,
    pub to: String,
    pub kind: RouteKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    Service,
    Ingress,
    /// To a host outside of the cluster.
    External,
    /// A NetworkPolicy gives leave; nobody has seen a call.
    Allowed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterEvent {
    pub namespace: String,
    pub object: String,
    pub kind: String,
    pub reason: String,
    pub message: String,
    /// Who says it, in its own words; empty: it did not say.
    pub component: String,
    pub count: i32,
    pub last_at: Timestamp,
    pub warning: bool,
}

/// One entry of a workload's rollout history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub number: i64,
    pub created_at: Timestamp,
    /// Name of the ReplicaSet or ControllerRevision.
    pub kept_as: String,
    /// Of `kubernetes.io/change-cause`, written by people and pipelines: untrusted text.
    pub cause: Option<String>,
    /// The pod template as canonical JSON, without the hash label that the controller adds.
    pub template: serde_json::Value,
}

/// What an action would do, as the API server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DryRun {
    /// The target as it is now; an action is void when another object has taken its name.
    pub uid: String,
    pub resource_version: String,
    /// Unified diff of the fields that the action touches, before and after.
    pub diff: String,
    /// The touched fields before, for the digest and for the undo.
    pub before: serde_json::Value,
    pub after: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub resource_version: String,
    pub generation: i64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClusterError {
    #[error("{0} was not found in the cluster")]
    NotFound(String),
    /// Somebody wrote in between; read again and compare.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// A disruption budget has no room at the moment; nothing was done, and later it may.
    #[error("held back by a disruption budget: {0}")]
    Budget(String),
    #[error("refused by the API server: {0}")]
    Refused(String),
    /// Perhaps written: read the cluster before anything else.
    #[error("result unknown: {0}")]
    Unknown(String),
    #[error("cluster unavailable: {0}")]
    Unavailable(String),
}

/// A language model behind an OpenAI-compatible endpoint.
#[async_trait]
pub trait Model: Send + Sync + 'static {
    fn name(&self) -> &str;
    async fn complete(&self, request: ModelRequest) -> Result<ModelReply, ModelError>;
    async fn check(&self) -> Result<String, ModelError>;
}

/// Turns texts into vectors of one length. Synchronous CPU work: call it where blocking is allowed.
pub trait Embedder: Send + Sync + 'static {
    /// Names the model, so that vectors of another one are never compared with its own.
    fn name(&self) -> &str;
    fn dimension(&self) -> usize;
    /// One vector a text, in the order of the texts.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmbedError {
    /// A configured file is missing or unfit: says which key and what to do.
    #[error("{key}: {problem}; {remedy}")]
    Setup { key: &'static str, problem: String, remedy: String },
    #[error("the embedding model {model} failed: {problem}")]
    Failed { model: String, problem: String },
}
