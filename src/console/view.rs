//! What the pages show. Plain data: the app fills it in from the store, the page draws it.
//!
//! Invariant: no field is markup. Text that midwatch did not write reaches the page as text.

use serde::Serialize;

use crate::domain::card::Span;
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IncidentRow {
    /// `INC-214`
    pub id: String,
    pub title: String,
    /// `SEV1` to `SEV4`
    pub severity: String,
    /// The state's word, e.g. `Investigating`; the page colours `Resolved` and `Closed` calmly.
    pub state: String,
    pub service: String,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub alerts: usize,
    /// Whether somebody has to act: an approval waits, or nobody owns it.
    pub needs_you: bool,
    /// Where the conversation is, so that the page can open it.
    pub channel: Option<String>,
    pub ts: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IncidentPage {
    pub row: IncidentRow,
    pub owner: Option<String>,
    pub confidence: Option<Confidence>,
    pub root_cause: Option<RootCause>,
    pub summary: Vec<Span>,
    pub timeline: Vec<TimelineItem>,
    pub candidates: Vec<Candidate>,
    pub evidence: Vec<EvidenceItem>,
    pub alerts: Vec<AlertRow>,
    pub plan: Option<PlanView>,
    pub topology: Topology,
    pub transcript: Vec<TranscriptStep>,
    pub reasoning: Option<Reasoning>,
    /// Markdown: headings, lists, tables, `code` and **bold** are shown as such.
    pub post_mortem: Option<String>,
    /// Of this incident's alerts; the page shows the whole watch's funnel when there is none.
    pub funnel: Option<Funnel>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Confidence {
    /// `likely`
    pub word: String,
    /// 0 to 1.
    pub number: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RootCause {
    pub service: String,
    pub change: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TimelineItem {
    pub at: Timestamp,
    /// One word: `alert`, `change`, `finding`, `decision`, `action`, `verified`, `person`.
    pub kind: String,
    /// Shown when there are no spans.
    pub text: String,
    pub spans: Vec<Span>,
    /// Evidence ids: `INC-214.E3`.
    pub evidence: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Candidate {
    pub rank: usize,
    pub node: String,
    /// 0 to 1.
    pub score: f64,
    #[serde(rename = "for")]
    pub supports: Vec<String>,
    pub against: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    #[default]
    Metric,
    Log,
    Kubernetes,
    Change,
    Runbook,
    Incident,
    Topology,
    Trace,
    /// Of a tool: a database, a probe, one of the user's own.
    Answer,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EvidenceItem {
    /// `INC-214.E3`
    pub id: String,
    /// `E3`
    pub mark: String,
    pub kind: EvidenceKind,
    /// Which system said so, e.g. `prometheus`.
    pub source: String,
    pub query: String,
    pub summary: String,
    /// Of the stored answer.
    pub digest: String,
    pub at: Timestamp,
    /// The answer as text. Untrusted.
    pub body: String,
    pub series: Option<Vec<Series>>,
    pub unit: String,
    pub onset: Option<Timestamp>,
    pub change: Option<ChangeMark>,
    pub band: Option<Band>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    pub name: String,
    /// In time order. A value that is not finite is a gap.
    pub points: Vec<(Timestamp, f64)>,
}

/// A change that is drawn into a graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChangeMark {
    pub at: Timestamp,
    pub label: String,
}

/// What is normal, in the graph's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Band {
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AlertRow {
    pub name: String,
    pub subject: String,
    pub severity: String,
    pub count: usize,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The newest: `opened`, `joined`, `muted`, `resolved`
    pub verdict: String,
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanView {
    pub id: String,
    pub action: String,
    pub target: String,
    pub uid: String,
    /// `low`, `medium`, `high`
    pub tier: String,
    pub blast_radius: String,
    pub diff: String,
    pub undo: String,
    pub success_check: String,
    pub digest: String,
    pub expires_at: Option<Timestamp>,
    /// One line per person: `ada approved 02:21`.
    pub votes: Vec<String>,
    pub state: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Topology {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Node {
    pub id: String,
    pub kind: String,
    pub state: NodeState,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Cause,
    Affected,
    #[default]
    Ok,
}

/// `from` calls `to`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Edge {
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TranscriptStep {
    pub step: usize,
    /// Member of the team.
    pub who: String,
    pub thought: String,
    pub tool: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
    pub observation_digest: String,
    pub evidence: Option<String>,
    pub ms: u64,
    pub tokens: u64,
    /// In the currency of the price table; 0: no price is known.
    pub cost: f64,
}

/// What stands beside the diagnosis: who made it, what was set aside, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reasoning {
    pub reasoner: String,
    /// Each claim with the places in its evidence, such as `E3 lines 4-6`.
    pub claims: Vec<Reasoned>,
    pub ruled_out: Vec<Reasoned>,
    /// What a model claimed and code did not keep; `note` says why.
    pub dropped: Vec<Reasoned>,
    pub needs: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reasoned {
    pub text: String,
    pub note: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StatusView {
    pub version: String,
    /// Empty when the watch goes on without one.
    pub model: String,
    /// Why remediation is paused, when it is.
    pub paused: Option<String>,
    pub open_incidents: usize,
    pub pending_approvals: usize,
    /// Anything else worth a line: `kafka lag` = `0`.
    pub facts: Vec<Fact>,
    pub funnel: Funnel,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// Raw, unique, admitted, incidents, notified: each stage with what was left out before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Funnel {
    pub stages: Vec<FunnelStage>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FunnelStage {
    pub name: String,
    pub count: u64,
    /// Why the previous stage's others did not get here.
    pub left_out: Vec<LeftOut>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LeftOut {
    pub reason: String,
    pub count: u64,
}
