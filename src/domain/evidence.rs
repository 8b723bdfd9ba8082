//! An observed fact with its provenance. Claims point here or are dropped.

use serde::{Deserialize, Serialize};

use super::alert::Labels;
use super::id::{Digest, EvidenceId, IncidentId};
use super::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub id: EvidenceId,
    pub incident: IncidentId,
    pub kind: EvidenceKind,
    /// Which system answered: `prometheus`, `loki`, `kubernetes`, `memory`, `ledger`.
    pub source: String,
    /// What was asked, so that a person can ask it again.
    pub query: String,
    /// One line for people, written by code from the answer.
    pub summary: String,
    /// The answer, redacted, as text.
    pub body: String,
    pub series: Vec<Series>,
    /// Of the body: what the audit trail holds when the body is forgotten.
    pub digest: Digest,
    pub observed_at: Timestamp,
    pub taint: Taint,
    /// Whether anything was found. An empty answer shows nothing: a wrong name gives one, too.
    #[serde(default = "found")]
    pub found: bool,
}

/// Of what was kept before empty answers were told apart.
fn found() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    Metric,
    Log,
    Kubernetes,
    Change,
    Topology,
    Runbook,
    PastIncident,
    Alert,
    Trace,
    Database,
    Probe,
    /// A tool of the user's own, or of an MCP server.
    Outside,
}

/// Who can write what the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taint {
    /// Numbers and states that our own adapters observed.
    Observed,
    /// Text that applications, pipelines or people wrote (S2).
    UserWritable,
}

/// One labelled time series; gaps are absent points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub labels: Labels,
    pub points: Vec<(Timestamp, f64)>,
}

impl Series {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, value)| *value)
    }

    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite())
    }
}
