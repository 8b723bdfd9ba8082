//! A supported cause, or the honest absence of one. Every claim cites stored evidence.

use serde::{Deserialize, Serialize};

use super::id::EvidenceId;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The node of the topology at fault; `None`: not known.
    pub service: Option<String>,
    /// The change to blame, by id; `None`: no change is to blame.
    pub change: Option<String>,
    /// Leak, saturation, bad release, ... in a few words, written by code or model.
    pub mechanism: String,
    pub verdict: Verdict,
    /// 0 to 1, from the margin between the candidates and what supports the first.
    pub confidence: f64,
    pub claims: Vec<Claim>,
    /// What was considered and why it is not the cause.
    pub ruled_out: Vec<Claim>,
    /// What would fix it, if any typed action can.
    pub remedy: Remedy,
    /// `none` for the deterministic reasoner, else the model's name.
    pub reasoner: String,
    /// What the model claimed and code did not keep, with the reason.
    #[serde(default)]
    pub dropped: Vec<Dropped>,
    /// What is missing to be surer, in the reasoner's words.
    #[serde(default)]
    pub needs: Option<String>,
    /// Where in its evidence each claim stands.
    #[serde(default)]
    pub proofs: Vec<Proof>,
    /// The other reading, where the model and the fixed rules do not agree: whose, what and how sure.
    #[serde(default)]
    pub otherwise: Option<String>,
}

#[cfg(test)]
impl Diagnosis {
    /// Nothing is known: a test says what it is about.
    pub fn blank() -> Self {
        Self {
            service: None,
            change: None,
            mechanism: "not known".into(),
            verdict: Verdict::Inconclusive,
            confidence: 0.0,
            claims: vec![],
            ruled_out: vec![],
            remedy: Remedy::HandOver { why: "not known".into() },
            reasoner: "none".into(),
            dropped: vec![],
            needs: None,
            proofs: vec![],
            otherwise: None,
        }
    }
}

/// A claim that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub text: String,
    pub why: String,
}

/// Lines of the evidence's body, counted from 1, that say what the claim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Position in `claims`.
    pub claim: usize,
    pub evidence: EvidenceId,
    pub from_line: usize,
    pub to_line: usize,
}

/// Decided by code from the evidence, not by the tone of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    Confirmed,
    Likely,
    Inconclusive,
}

impl Verdict {
    /// By how much evidence carries it: a greater one is stronger.
    pub fn strength(self) -> u8 {
        match self {
            Self::Inconclusive => 0,
            Self::Likely => 1,
            Self::Confirmed => 2,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Likely => "likely",
            Self::Inconclusive => "not known",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub text: String,
    pub evidence: Vec<EvidenceId>,
}

/// What is proposed: a kind of action on a service, made concrete by `plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "remedy", rename_all = "snake_case")]
pub enum Remedy {
    RollBack {
        service: String,
    },
    Restart {
        service: String,
    },
    ScaleUp {
        service: String,
    },
    /// No action of the catalogue fits; a person must act.
    HandOver {
        why: String,
    },
}
