//! Traces, read only.

use std::time::Duration;

use async_trait::async_trait;

use super::SignalError;
use crate::domain::time::Timestamp;
use crate::domain::trace::Trace;

#[async_trait]
pub trait Traces: Send + Sync + 'static {
    /// Which system answers, as evidence names it.
    fn name(&self) -> &'static str;
    /// Whole traces in which the service takes part, at most `limit`, in the backend's order.
    async fn search(&self, query: &TraceQuery) -> Result<Vec<Trace>, SignalError>;
    async fn trace(&self, id: &str) -> Result<Option<Trace>, SignalError>;
    /// Who called whom within the time; empty where the backend counts no calls.
    async fn dependencies(&self, start: Timestamp, end: Timestamp) -> Result<Vec<Dependency>, SignalError>;
    /// One line for `midwatch check`.
    async fn check(&self) -> Result<String, SignalError>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct TraceQuery {
    pub service: String,
    pub operation: Option<String>,
    pub outcomes: Outcomes,
    pub longer_than: Option<Duration>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcomes {
    Any,
    /// A span of the service failed.
    Failing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub caller: String,
    pub callee: String,
    pub calls: u64,
}
