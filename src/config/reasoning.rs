//! Which model reasons, and what an investigation may cost.

use serde::Deserialize;

use super::Secret;
use crate::domain::investigation::{Prices, reply_tokens};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    #[serde(default)]
    pub base_url: Option<String>,
    pub name: String,
    #[serde(default)]
    pub api_key: Secret,
    #[serde(default)]
    pub mode: ModelMode,
    /// For one reply, a second attempt included; self-hosted models may think for minutes.
    #[serde(default = "reply_seconds")]
    pub reply_seconds: u64,
    /// What one reply may be long, thoughts included.
    #[serde(default = "reply_tokens")]
    pub reply_tokens: u32,
    /// How the endpoint wants to be told that.
    #[serde(default)]
    pub reply_tokens_field: TokensField,
    /// What a million tokens cost, for budgets and transcripts; the currency is yours.
    #[serde(default)]
    pub prices: Prices,
    /// A smaller model at the same endpoint that sorts incidents for the team.
    #[serde(default)]
    pub triage: Option<SmallModel>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallModel {
    pub name: String,
    #[serde(default)]
    pub prices: Prices,
}

/// Whoever waits for a diagnosis waits for it, and so does everybody behind them.
pub(super) fn reply_seconds() -> u64 {
    30
}

/// The field of a request that says how long its reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum TokensField {
    #[default]
    MaxCompletionTokens,
    /// Older servers and Ollama know this one only; Ollama takes no notice of the other.
    MaxTokens,
}

impl TokensField {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::MaxCompletionTokens => Self::MaxTokens,
            Self::MaxTokens => Self::MaxCompletionTokens,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ModelMode {
    /// The endpoint understands `tools`.
    #[default]
    Native,
    /// Thought, Action, Observation as text, for models without tool calls.
    Text,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InvestigationConfig {
    /// Event time between the opening and the first look, so that the storm has shown its shape.
    pub settle_seconds: u64,
    pub max_steps: usize,
    pub max_tool_calls: usize,
    pub max_tokens: u64,
    pub max_seconds: u64,
    /// For one incident, in the currency of `model.prices`; 0: no limit.
    pub max_cost: f64,
    /// For all incidents of a day (UTC); 0: no limit. Beyond it the watch goes on without a model.
    pub max_tokens_a_day: u64,
    pub max_cost_a_day: f64,
    /// Triage, specialists at the same time, and a lead that concludes, instead of one investigator.
    pub team: bool,
    /// Event time within which a remediation must show its effect.
    pub verify_seconds: u64,
    /// Whether a model is told the ranked candidates; the evaluation turns it off to measure the bare model.
    pub brief_has_ranking: bool,
}

impl Default for InvestigationConfig {
    fn default() -> Self {
        Self {
            settle_seconds: 60,
            max_steps: 12,
            max_tool_calls: 25,
            max_tokens: 60_000,
            max_seconds: 240,
            max_cost: 0.0,
            max_tokens_a_day: 0,
            max_cost_a_day: 0.0,
            team: false,
            verify_seconds: 900,
            brief_has_ranking: true,
        }
    }
}
