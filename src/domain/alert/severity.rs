//! How much an alert weighs in the words of its author.

use serde::{Deserialize, Serialize};

/// What the alert's author says of its weight; the incident's severity is decided later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// Reads the spellings that teams use; `None` when the word says nothing of weight.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // Most write it in small letters, and it is read several times an alert.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Self::parse(&text.to_ascii_lowercase());
        }
        match text {
            "critical" | "crit" | "page" | "emergency" | "emerg" | "fatal" | "disaster" | "error" | "high"
            | "severe" | "urgent" | "blocker" | "alert" | "alarm" | "triggered" | "p0" | "p1" | "sev0" | "sev1"
            | "sev2" | "s0" | "s1" | "s2" => Some(Self::Critical),
            // `major` stands beside `critical`, and below it.
            "warning" | "warn" | "medium" | "minor" | "major" | "p2" | "p3" | "sev3" | "s3" => Some(Self::Warning),
            "info" | "informational" | "notice" | "low" | "none" | "debug" | "p4" | "p5" | "sev4" | "sev5" | "s4"
            | "s5" => Some(Self::Info),
            // `SEV-1`, `p_2`
            _ if text.contains(['-', '_', ' ']) => Self::parse(&text.replace(['-', '_', ' '], "")),
            _ => None,
        }
    }

    /// Of the labels that may say it, the one that counts first.
    pub(super) fn said(labels: [Option<&str>; 3]) -> Self {
        // An author who gives no severity did not say that it is unimportant.
        labels.into_iter().flatten().find_map(Self::parse).unwrap_or(Self::Warning)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
