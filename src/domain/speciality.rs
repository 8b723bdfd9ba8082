//! What a specialist of an investigation looks after; a tool says whose it is.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speciality {
    Kubernetes,
    Database,
    Network,
    Application,
}

impl Speciality {
    pub const ALL: [Self; 4] = [Self::Kubernetes, Self::Database, Self::Network, Self::Application];
}
