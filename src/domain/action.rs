//! Typed mutations. There is no other way to write to the estate.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Replaces the pods one by one with the same template.
    Restart { target: Target },
    /// Changes the number of replicas.
    Scale { target: Target, from: i32, to: i32 },
    /// Puts an earlier template of the same workload back.
    RollBack { target: Target, from_revision: i64, to_revision: i64 },
}

/// One object, by uid: another object under the same name is another target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub cluster: String,
    pub namespace: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind.to_lowercase(), self.name)
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

impl fmt::Display for RiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// Beyond these a scale-up is no longer a low risk: it eats the quota of others.
pub const SCALE_FACTOR_CAP: i32 = 3;
pub const SCALE_REPLICAS_CAP: i32 = 20;

impl Action {
    pub fn target(&self) -> &Target {
        match self {
            Self::Restart { target } | Self::Scale { target, .. } | Self::RollBack { target, .. } => target,
        }
    }

    pub fn verb(&self) -> &'static str {
        match self {
            Self::Restart { .. } => "restart",
            Self::Scale { .. } => "scale",
            Self::RollBack { .. } => "roll_back",
        }
    }

    pub fn tier(&self) -> RiskTier {
        // Whatever runs as a StatefulSet keeps state of its own.
        if self.target().kind == "StatefulSet" {
            return RiskTier::High;
        }
        match self {
            Self::Restart { .. } => RiskTier::Low,
            Self::Scale { from, to, .. }
                if to > from && *to <= from * SCALE_FACTOR_CAP && *to <= SCALE_REPLICAS_CAP =>
            {
                RiskTier::Low
            }
            // Scaling down takes capacity away; scaling far up takes it from others.
            Self::Scale { .. } => RiskTier::High,
            Self::RollBack { .. } => RiskTier::Medium,
        }
    }

    /// What puts things back, or why nothing can.
    pub fn undo(&self) -> Undo {
        match self {
            Self::Restart { .. } => {
                Undo::None("a restart changes no specification; there is nothing to put back".into())
            }
            Self::Scale { target, from, to } => {
                Undo::By(Box::new(Self::Scale { target: target.clone(), from: *to, to: *from }))
            }
            Self::RollBack { target, from_revision, to_revision } => Undo::By(Box::new(Self::RollBack {
                target: target.clone(),
                from_revision: *to_revision,
                to_revision: *from_revision,
            })),
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
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    By(Box<Action>),
    None(String),
}
