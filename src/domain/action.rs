//! Typed mutations. There is no other way to write to the estate.
//!
//! Invariants: an action names one object by uid, carries everything that it will write, and knows
//! its undo or why there is none. What it needs and leaves behind stands in `kind`.

mod asked;
mod kind;
#[cfg(test)]
pub(in crate::domain) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use kind::{ActionKind, EvidenceWanted, Right};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Replaces the pods one by one with the same template.
    Restart {
        target: Target,
    },
    /// Changes the number of replicas.
    Scale {
        target: Target,
        from: i32,
        to: i32,
    },
    /// Puts an earlier template of the same workload back.
    RollBack {
        target: Target,
        from_revision: i64,
        to_revision: i64,
    },
    /// Moves the bounds of a HorizontalPodAutoscaler.
    SetBounds {
        target: Target,
        from: Bounds,
        to: Bounds,
    },
    /// Stops a Deployment's rollout where it is.
    PauseRollout {
        target: Target,
    },
    ResumeRollout {
        target: Target,
    },
    /// Asks for the pod's eviction, which its disruption budgets may refuse. `owner` is the kind of
    /// its controller, `owner_name` the controller's; empty in what was kept before it was asked for.
    EvictPod {
        target: Target,
        owner: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner_name: String,
    },
    /// Takes a node out of scheduling.
    Cordon {
        target: Target,
    },
    Uncordon {
        target: Target,
    },
    /// Cordons a node and evicts these pods one after the other; no others. `was_cordoned`: before it
    /// began, so that its undo leaves it so.
    Drain {
        target: Target,
        pods: Vec<Target>,
        #[serde(default, skip_serializing_if = "is_false")]
        was_cordoned: bool,
    },
    /// Deletes a Job that does not come to an end, with its pods.
    DeleteJob {
        target: Target,
    },
    SuspendCronJob {
        target: Target,
    },
    ResumeCronJob {
        target: Target,
    },
    /// Puts the data that a ConfigMap had before back; both stand here in full.
    RestoreConfig {
        target: Target,
        from: BTreeMap<String, String>,
        to: BTreeMap<String, String>,
    },
    /// Keeps a GitOps controller from putting its own state back. `automated`: what Argo CD's
    /// `spec.syncPolicy.automated` was, as JSON.
    SuspendSync {
        target: Target,
        automated: Option<String>,
    },
    ResumeSync {
        target: Target,
        automated: Option<String>,
    },
    /// Puts an earlier release back: an id of Argo CD's history, a commit of a Flux GitRepository, a
    /// chart version of a Flux HelmRelease.
    RollBackRelease {
        target: Target,
        from: String,
        to: String,
    },
    /// Runs a CronJob's template once, under this name, as `kubectl create job --from` does.
    RunJob {
        target: Target,
        job: String,
        declared: String,
        tier: RiskTier,
    },
    /// Calls an address that the configuration declares. The target's uid is the digest of the
    /// declaration: another declaration under the same name is another target.
    CallHook {
        target: Target,
        tier: RiskTier,
        undo: Option<Box<Target>>,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's own signature
fn is_false(value: &bool) -> bool {
    !*value
}

/// Of an autoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds {
    pub min: i32,
    pub max: i32,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// One object, by uid: another object under the same name is another target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub cluster: String,
    /// Empty for what belongs to no namespace, such as a node.
    pub namespace: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

/// What may go wrong by doing it (SAFETY.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskTier {
    Low,
    Medium,
    High,
}

impl RiskTier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for RiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Beyond these a scale-up is no longer a low risk: it eats the quota of others.
pub const SCALE_FACTOR_CAP: i32 = 3;
pub const SCALE_REPLICAS_CAP: i32 = 20;

fn is_modest(from: i32, to: i32) -> bool {
    to >= from && to <= from.saturating_mul(SCALE_FACTOR_CAP) && to <= SCALE_REPLICAS_CAP.max(from)
}

impl Action {
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Restart { .. } => ActionKind::Restart,
            Self::Scale { .. } => ActionKind::Scale,
            Self::RollBack { .. } => ActionKind::RollBack,
            Self::SetBounds { .. } => ActionKind::SetBounds,
            Self::PauseRollout { .. } => ActionKind::PauseRollout,
            Self::ResumeRollout { .. } => ActionKind::ResumeRollout,
            Self::EvictPod { .. } => ActionKind::EvictPod,
            Self::Cordon { .. } => ActionKind::Cordon,
            Self::Uncordon { .. } => ActionKind::Uncordon,
            Self::Drain { .. } => ActionKind::Drain,
            Self::DeleteJob { .. } => ActionKind::DeleteJob,
            Self::SuspendCronJob { .. } => ActionKind::SuspendCronJob,
            Self::ResumeCronJob { .. } => ActionKind::ResumeCronJob,
            Self::RestoreConfig { .. } => ActionKind::RestoreConfig,
            Self::SuspendSync { .. } => ActionKind::SuspendSync,
            Self::ResumeSync { .. } => ActionKind::ResumeSync,
            Self::RollBackRelease { .. } => ActionKind::RollBackRelease,
            Self::RunJob { .. } => ActionKind::RunJob,
            Self::CallHook { .. } => ActionKind::CallHook,
        }
    }

    pub fn target(&self) -> &Target {
        match self {
            Self::Restart { target }
            | Self::Scale { target, .. }
            | Self::RollBack { target, .. }
            | Self::SetBounds { target, .. }
            | Self::PauseRollout { target }
            | Self::ResumeRollout { target }
            | Self::EvictPod { target, .. }
            | Self::Cordon { target }
            | Self::Uncordon { target }
            | Self::Drain { target, .. }
            | Self::DeleteJob { target }
            | Self::SuspendCronJob { target }
            | Self::ResumeCronJob { target }
            | Self::RestoreConfig { target, .. }
            | Self::SuspendSync { target, .. }
            | Self::ResumeSync { target, .. }
            | Self::RollBackRelease { target, .. }
            | Self::RunJob { target, .. }
            | Self::CallHook { target, .. } => target,
        }
    }

    /// Namespaces of the objects that it writes, for a drain those of its pods, too. The empty name is that of
    /// what belongs to none.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        let pods: &[Target] = match self {
            Self::Drain { pods, .. } => pods,
            _ => &[],
        };
        std::iter::once(self.target()).chain(pods).map(|object| object.namespace.as_str()).collect()
    }

    pub fn verb(&self) -> &'static str {
        self.kind().as_str()
    }

    pub fn tier(&self) -> RiskTier {
        // Whatever runs as a StatefulSet keeps state of its own.
        if self.target().kind == "StatefulSet" {
            return RiskTier::High;
        }
        match self {
            // It is on every node: what goes wrong with it goes wrong everywhere. Never unattended.
            Self::Restart { target } if target.kind == "DaemonSet" => RiskTier::Medium,
            Self::Restart { .. } | Self::PauseRollout { .. } => RiskTier::Low,
            Self::Scale { from, to, .. } if to > from && is_modest(*from, *to) => RiskTier::Low,
            Self::SetBounds { from, to, .. }
                if is_modest(from.min, to.min) && is_modest(from.max, to.max) && from != to =>
            {
                RiskTier::Low
            }
            // Scaling down takes capacity away; scaling far up takes it from others.
            Self::Scale { .. } | Self::SetBounds { .. } => RiskTier::High,
            Self::EvictPod { owner, .. } if owner == "StatefulSet" => RiskTier::High,
            Self::EvictPod { .. } => RiskTier::Low,
            // A node carries the workloads of many.
            Self::Drain { .. } => RiskTier::High,
            Self::RollBack { .. }
            | Self::ResumeRollout { .. }
            | Self::Cordon { .. }
            | Self::Uncordon { .. }
            | Self::DeleteJob { .. }
            | Self::SuspendCronJob { .. }
            | Self::ResumeCronJob { .. }
            | Self::RestoreConfig { .. }
            | Self::SuspendSync { .. }
            | Self::ResumeSync { .. }
            | Self::RollBackRelease { .. } => RiskTier::Medium,
            Self::RunJob { tier, .. } | Self::CallHook { tier, .. } => *tier,
        }
    }

    /// What puts things back, or why nothing can.
    pub fn undo(&self) -> Undo {
        let none = |why: &str| Undo::None(why.to_owned());
        let by = |action: Self| Undo::By(Box::new(action));
        match self.clone() {
            Self::Restart { .. } => none("a restart changes no specification; there is nothing to put back"),
            Self::Scale { target, from, to } => by(Self::Scale { target, from: to, to: from }),
            Self::RollBack { target, from_revision, to_revision } => {
                by(Self::RollBack { target, from_revision: to_revision, to_revision: from_revision })
            }
            Self::SetBounds { target, from, to } => by(Self::SetBounds { target, from: to, to: from }),
            Self::PauseRollout { target } => by(Self::ResumeRollout { target }),
            Self::ResumeRollout { target } => by(Self::PauseRollout { target }),
            Self::EvictPod { .. } => none("an evicted pod is gone; its controller makes another one"),
            Self::Cordon { target } => by(Self::Uncordon { target }),
            Self::Uncordon { target } => by(Self::Cordon { target }),
            Self::Drain { was_cordoned: true, .. } => {
                none("the pods live elsewhere by now, and the node was cordoned before it began")
            }
            // The pods live elsewhere by now; only the node can be given back.
            Self::Drain { target, .. } => by(Self::Uncordon { target }),
            Self::DeleteJob { .. } => none("a deleted job does not come back; its manifest is kept as evidence"),
            Self::SuspendCronJob { target } => by(Self::ResumeCronJob { target }),
            Self::ResumeCronJob { target } => by(Self::SuspendCronJob { target }),
            Self::RestoreConfig { target, from, to } => by(Self::RestoreConfig { target, from: to, to: from }),
            Self::SuspendSync { target, automated } => by(Self::ResumeSync { target, automated }),
            Self::ResumeSync { target, automated } => by(Self::SuspendSync { target, automated }),
            Self::RollBackRelease { target, from, to } => by(Self::RollBackRelease { target, from: to, to: from }),
            Self::RunJob { .. } => none("what a job has done is not undone by ending it"),
            Self::CallHook { tier, undo: Some(undo), .. } => by(Self::CallHook { target: *undo, tier, undo: None }),
            Self::CallHook { .. } => none("its declaration names no hook that would undo it"),
        }
    }

    /// The writes behind the first one, in order. Each names its object by uid and is safe to find
    /// already done.
    pub fn follow_ups(&self) -> Vec<Self> {
        match self {
            Self::Drain { pods, .. } => {
                let evict = |pod: &Target| Self::EvictPod {
                    target: pod.clone(),
                    owner: String::new(),
                    owner_name: String::new(),
                };
                pods.iter().map(evict).collect()
            }
            _ => vec![],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { target } => write!(f, "restart {target}"),
            Self::Scale { target, from, to } => write!(f, "scale {target} from {from} to {to} replicas"),
            Self::RollBack { target, from_revision, to_revision } => {
                write!(f, "roll back {target} from revision {from_revision} to revision {to_revision}")
            }
            Self::SetBounds { target, from, to } => {
                write!(f, "set the bounds of {target} from {from} to {to} replicas")
            }
            Self::PauseRollout { target } => write!(f, "pause the rollout of {target}"),
            Self::ResumeRollout { target } => write!(f, "resume the rollout of {target}"),
            Self::EvictPod { target, .. } => write!(f, "evict {target}"),
            Self::Cordon { target } => write!(f, "cordon {target}"),
            Self::Uncordon { target } => write!(f, "uncordon {target}"),
            Self::Drain { target, pods, .. } => write!(f, "drain {target} of {} pods", pods.len()),
            Self::DeleteJob { target } => write!(f, "delete {target}"),
            Self::SuspendCronJob { target } => write!(f, "suspend {target}"),
            Self::ResumeCronJob { target } => write!(f, "resume {target}"),
            Self::RestoreConfig { target, .. } => write!(f, "put the earlier data of {target} back"),
            Self::SuspendSync { target, .. } => write!(f, "suspend the synchronisation of {target}"),
            Self::ResumeSync { target, .. } => write!(f, "resume the synchronisation of {target}"),
            Self::RollBackRelease { target, from, to } => write!(f, "roll back {target} from {from} to {to}"),
            Self::RunJob { target, declared, .. } => write!(f, "run {declared} from {target}"),
            Self::CallHook { target, .. } => write!(f, "call {target}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    By(Box<Action>),
    None(String),
}
