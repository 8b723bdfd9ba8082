//! What an action needs of the cluster beside the write itself.

use std::collections::BTreeMap;

use crate::domain::action::{ActionKind, Right, RiskTier};

/// What somebody wants done, before the cluster was asked what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub action: ActionKind,
    pub cluster: String,
    /// Empty for a node.
    pub namespace: String,
    /// Where the action leaves a choice: `StatefulSet`, `HelmRelease`. Empty: what it usually works on.
    pub kind: String,
    pub name: String,
    /// The wanted number of replicas, `min..max`, revision, history id, commit or chart version.
    pub to: Option<String>,
    /// Of `restore_config`: what the data was before.
    pub data: Option<BTreeMap<String, String>>,
    /// Of `run_job`: what the declaration says.
    pub declared: Option<DeclaredJob>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredJob {
    pub name: String,
    pub tier: RiskTier,
    /// The name that the Job gets: one a plan, so that a second one is refused by the API server.
    pub job: String,
}

/// Whether a write whose answer was lost took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Took {
    /// And what shows it.
    Yes(String),
    No,
    /// The cluster cannot tell.
    Unknown(String),
}

/// Whether what the action makes has come about, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub progress: Progress,
    pub fact: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// What was written stands; its effect has not come about yet.
    UnderWay,
    /// The fields that it wrote are not what it made of them any more.
    Overruled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Reader,
    Writer,
}

/// What the API server says of one right (SelfSubjectAccessReview).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub right: Right,
    /// Empty: in the whole cluster.
    pub namespace: String,
    pub allowed: bool,
}
