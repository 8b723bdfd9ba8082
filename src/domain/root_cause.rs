//! Ranked candidates for the cause, from cheap and explainable signals, no model needed.

use serde::{Deserialize, Serialize};

/// A candidate with what speaks for and against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Node of the topology.
    pub node: String,
    /// Higher is more likely; comparable within one ranking only.
    pub score: f64,
    /// The change that fits, by id.
    pub change: Option<String>,
    pub supports: Vec<String>,
    pub contradicts: Vec<String>,
}
