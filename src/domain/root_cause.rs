//! Ranked candidates for the cause, from cheap and explainable signals, no model needed.
//!
//! Four questions are asked of every node: what is wrong with itself (not with what it calls)?
//! How much of the rest does it explain? Was it early? What changed on it just before?
//! Each answer is a claim with evidence; the score is their weighted sum.

mod conclude;
mod level;
mod metric;
mod picture;
mod reading;
mod say;
mod strength;
mod survey;
mod weigh;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::anomaly::Baseline;
use super::change::{Change, Unread};
use super::diagnosis::Claim;
use super::id::EvidenceId;
use super::time::Timestamp;
use super::topology::Topology;
use super::trace::Blame;

pub use conclude::{NAMED, conclude, confidence, focus};
pub use reading::{Gauge, read};
pub use say::{amount, say};
pub use survey::{Span, Track, survey};
pub use weigh::rank;

/// A candidate with what speaks for and against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Node of the topology.
    pub node: String,
    /// Higher is more likely; comparable within one ranking only.
    pub score: f64,
    /// The change that fits, by id.
    pub change: Option<String>,
    pub supports: Vec<Claim>,
    pub contradicts: Vec<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalClass {
    /// What callers suffer: may be inherited from a dependency.
    Symptom,
    /// What the node itself runs out of.
    Resource,
    /// State of the node's own pods, hosts, certificates.
    Health,
    /// How much is asked of it.
    Load,
    /// What it suffers as a client: points at what it calls, not at itself.
    Outward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    #[default]
    Higher,
    Lower,
}

/// One signal of one node, against its own baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub node: String,
    pub signal: String,
    pub class: SignalClass,
    pub unit: String,
    pub baseline: Baseline,
    /// The worst value since the onset (or the last one when there is none).
    pub worst: f64,
    /// Robust deviations beyond the baseline band, positive is worse; 0 when usual.
    pub deviation: f64,
    /// Event time at which it left the band to stay out.
    pub onset: Option<Timestamp>,
    /// 0 to 1: how far it moves together with what the complaint is about; `None` where that was not
    /// looked at.
    pub alike: Option<f64>,
    pub evidence: Option<EvidenceId>,
}

/// One signal of one call edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeReading {
    pub client: String,
    pub server: String,
    pub signal: String,
    pub worst: f64,
    pub usual: f64,
    pub deviation: f64,
    pub onset: Option<Timestamp>,
    pub evidence: Option<EvidenceId>,
}

/// A fact that names its own cause: an event of the cluster or a telling log template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sign {
    pub node: String,
    pub kind: SignKind,
    pub text: String,
    pub at: Option<Timestamp>,
    pub evidence: Option<EvidenceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignKind {
    OutOfMemory,
    CrashLoop,
    ImagePull,
    HostDown,
    CertificateExpired,
    DiskFull,
    ConnectionsExhausted,
    /// Its pods may not be made: the quota of its namespace is used up.
    QuotaExceeded,
    /// It follows another database and is behind.
    ReplicaBehind,
    /// One message comes back again and again.
    PoisonMessage,
    /// It answers lookups of names, and cannot.
    NamesUnanswered,
    /// Its lookups of names fail.
    NameLookup,
    /// Connections on the way to others break.
    ConnectionsBreak,
    /// What others sign seems to come from another time.
    ClockOff,
    /// The node's own code or configuration complains, naming no dependency.
    OwnError,
    /// The node complains about something that it calls.
    DependencyError,
}

impl SignKind {
    /// Whether such a sign points at the node that shows it.
    fn weight(self) -> f64 {
        match self {
            Self::CertificateExpired
            | Self::DiskFull
            | Self::HostDown
            | Self::ImagePull
            | Self::QuotaExceeded
            | Self::NamesUnanswered => 1.6,
            Self::ReplicaBehind | Self::PoisonMessage => 1.2,
            Self::OutOfMemory | Self::CrashLoop => 1.0,
            Self::OwnError => 0.5,
            Self::ConnectionsExhausted | Self::ClockOff => 0.2,
            Self::DependencyError | Self::NameLookup | Self::ConnectionsBreak => -0.3,
        }
    }
}

/// What traced requests say of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    pub blame: Blame,
    pub evidence: Option<EvidenceId>,
}

/// Everything that was observed.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub topology: Topology,
    pub readings: Vec<Reading>,
    pub edges: Vec<EdgeReading>,
    pub signs: Vec<Sign>,
    /// Where requests were traced: at most one a node.
    pub witnesses: Vec<Witness>,
    pub changes: Vec<Change>,
    /// What of the changes could not be read.
    pub unread_changes: Vec<Unread>,
    /// Evidence that holds the list of changes.
    pub changes_evidence: Option<EvidenceId>,
    /// Event time of the first alert about a node, and how many.
    pub alerts: BTreeMap<String, (Timestamp, usize)>,
    pub alerts_evidence: Option<EvidenceId>,
    pub topology_evidence: Option<EvidenceId>,
    /// When the incident's first alert fired.
    pub since: Timestamp,
    /// Where somebody suffers, when it is one place that a cause must be able to reach.
    pub complaint: Option<Complaint>,
}

/// What people complain about: a node, and perhaps one of its signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub node: String,
    pub signal: Option<String>,
}

/// Deviations at which a signal counts as anomalous.
pub const ANOMALOUS: f64 = 1.0;
/// A change can show its effect this late: leaks are slow.
pub const CHANGE_BEFORE: Duration = Duration::from_secs(50 * 60);
/// Clocks and sampling differ: an onset may seem to precede its cause by this much.
pub const SKEW: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests;
