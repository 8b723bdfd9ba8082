//! A tool that the configuration brings: a command, an HTTP request, a tool of an MCP server, a
//! probe, a look into a database.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::ToolSchema;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;

/// Reads and never writes. What the model sets is in the schema; everything else is fixed.
#[async_trait]
pub trait Instrument: Send + Sync + 'static {
    fn schema(&self) -> ToolSchema;
    fn handling(&self) -> Handling;
    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError>;
    /// Whether what it needs is there: one line for `midwatch check`.
    async fn check(&self) -> Result<String, InstrumentError>;
}

/// How the answers are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handling {
    /// Where they come from, as evidence names it.
    pub source: &'static str,
    pub kind: EvidenceKind,
    pub timeout: Duration,
    /// What the model reads of one, in characters.
    pub shown: usize,
    pub specialities: Vec<Speciality>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was asked, so that a person can ask it again.
    pub query: String,
    pub summary: String,
    pub body: String,
    pub taint: Taint,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstrumentError {
    /// The arguments do not fit; says what would.
    #[error("{0}")]
    Refused(String),
    #[error("not available now: {0}")]
    Unavailable(String),
}
