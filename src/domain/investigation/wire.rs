//! What is said to a model and what it says back, independent of any provider.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    pub messages: Vec<ModelMessage>,
    /// Empty in text mode; on the last step only the conclusion.
    pub tools: Vec<ToolSchema>,
    pub max_tokens: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum ModelMessage {
    System {
        text: String,
    },
    User {
        text: String,
    },
    Assistant {
        text: String,
        calls: Vec<ToolCall>,
        #[serde(default, skip_serializing_if = "Carried::is_empty")]
        carried: Carried,
    },
    Tool {
        call_id: String,
        text: String,
    },
}

/// What a provider adds to the model's message and wants to see again with the answers of the tools: thoughts,
/// signatures. Nobody here reads it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carried {
    pub message: Map<String, Value>,
    /// By the id of the call.
    pub calls: BTreeMap<String, Map<String, Value>>,
}

impl Carried {
    pub fn is_empty(&self) -> bool {
        self.message.is_empty() && self.calls.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// As the model wrote them; parsed and judged by the tool.
    pub arguments: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSchema {
    pub name: String,
    pub description: String,
    pub parameters: serde_json::Value,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReply {
    pub text: String,
    pub calls: Vec<ToolCall>,
    #[serde(default)]
    pub carried: Carried,
    /// It ends where no more could be said, and not where the model wanted to end.
    #[serde(default)]
    pub cut: bool,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    #[error("model rate limited: {0}")]
    RateLimited(String),
    /// The endpoint says when it will answer again.
    #[error("model rate limited: {why}")]
    Later { why: String, after: Duration },
    #[error("model unavailable: {0}")]
    Unavailable(String),
    #[error("model refused the request: {0}")]
    Refused(String),
    /// More than the model can read at once.
    #[error("model cannot read that much at once: {0}")]
    TooLong(String),
    /// Not within the time that it had.
    #[error("model did not answer in time: {0}")]
    TimedOut(String),
    #[error("model answered with something unreadable: {0}")]
    Garbage(String),
    /// Neither words nor calls, and paid for all the same. `cut`: what it may say was used up before it
    /// said anything, as of models that think first.
    #[error("model answered with an empty reply ({why})")]
    Empty { why: String, cut: bool, tokens_in: u64, tokens_out: u64 },
}

impl ModelError {
    /// One of a few words, as a label of metrics and spans.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RateLimited(_) | Self::Later { .. } => "rate_limited",
            Self::TooLong(_) => "too_long",
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::TimedOut(_) => "timeout",
            Self::Garbage(_) => "unreadable",
            Self::Empty { .. } => "empty",
        }
    }

    /// What was read and written for it, in tokens.
    pub fn tokens(&self) -> (u64, u64) {
        match self {
            Self::Empty { tokens_in, tokens_out, .. } => (*tokens_in, *tokens_out),
            Self::RateLimited(_)
            | Self::Later { .. }
            | Self::Unavailable(_)
            | Self::Refused(_)
            | Self::TooLong(_)
            | Self::TimedOut(_)
            | Self::Garbage(_) => (0, 0),
        }
    }
}
