//! Addresses that the configuration declares as actions.

use async_trait::async_trait;

use super::ClusterError;
use crate::domain::action::RiskTier;
use crate::domain::plan::SuccessCheck;

/// What a person declared, without its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredHook {
    pub name: String,
    pub description: String,
    /// What it belongs to; empty: nothing in particular.
    pub service: String,
    pub tier: RiskTier,
    /// Of everything that is sent: another declaration is another target.
    pub digest: String,
    /// The hook that puts things back.
    pub undo: Option<String>,
    /// As people read it: method, address and body, without headers.
    pub sends: String,
    pub success: Option<SuccessCheck>,
}

#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    fn declared(&self) -> Vec<DeclaredHook>;
    /// Asks the hook's own check, when it has one; changes nothing.
    async fn rehearse(&self, name: &str) -> Result<String, ClusterError>;
    /// Calls it once, with the mark, which no other call has, as `Idempotency-Key`.
    async fn call(&self, name: &str, mark: &str) -> Result<String, ClusterError>;
    /// What the dump hook of a service answers; `None`: none is declared.
    async fn dump(&self, service: &str) -> Option<Result<String, ClusterError>>;
}
