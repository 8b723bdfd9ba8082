//! What an investigation may cost, and what it has cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::time::{Timestamp, spoken};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Model replies, the conclusion included.
    pub steps: u32,
    pub tool_calls: u32,
    /// In and out together.
    pub tokens: u64,
    /// In the currency of the price table; 0: no limit, or no prices are known.
    #[serde(default)]
    pub cost: f64,
    #[serde(default)]
    pub prices: Prices,
    /// Of one reply, thoughts included.
    #[serde(default = "reply_tokens")]
    pub reply_tokens: u32,
    /// On the clock whose instants the driver passes in.
    pub deadline: Timestamp,
}

/// A reply longer than this is rambling, and every word is a person's waiting time.
pub const fn reply_tokens() -> u32 {
    2_000
}

/// What the model's provider takes for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    pub input: f64,
    pub output: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    pub steps: u32,
    pub tool_calls: u32,
    pub tokens: u64,
    #[serde(default)]
    pub cost: f64,
    pub repairs: u32,
    /// Calls of unknown tools or with unreadable arguments; the first one is free.
    pub bad_calls: u32,
}

impl Prices {
    pub fn of(&self, tokens_in: u64, tokens_out: u64) -> f64 {
        (tokens_in as f64 * self.input + tokens_out as f64 * self.output) / 1e6
    }
}

impl Spent {
    pub(super) fn pay(&mut self, tokens_in: u64, tokens_out: u64, prices: &Prices) {
        self.tokens += tokens_in + tokens_out;
        self.cost += prices.of(tokens_in, tokens_out);
    }
}

impl Limits {
    /// SAFETY.md S17: 4 minutes and 25 tool calls an incident.
    pub fn standard(started: Timestamp) -> Self {
        let deadline = started + Duration::from_secs(240);
        let (cost, prices, reply_tokens) = (0.0, Prices::default(), reply_tokens());
        Self { steps: 12, tool_calls: 25, tokens: 60_000, cost, prices, reply_tokens, deadline }
    }

    /// The limit that ends the investigation, in words.
    pub(super) fn exceeded_by(&self, spent: &Spent) -> Option<String> {
        if spent.steps >= self.steps {
            return Some(format!("no conclusion within {} steps", self.steps));
        }
        if self.cost > 0.0 && spent.cost >= self.cost {
            return Some(format!("no conclusion within a cost of {:.2}", self.cost));
        }
        (spent.tokens >= self.tokens).then(|| format!("no conclusion within {} tokens", self.tokens))
    }

    /// Whether there is room for one more reply only.
    pub(super) fn are_nearly_reached(&self, spent: &Spent) -> bool {
        spent.steps + 1 >= self.steps
            || spent.tool_calls >= self.tool_calls
            || spent.tokens >= self.tokens / 5 * 4
            || (self.cost > 0.0 && spent.cost >= self.cost * 0.8)
    }

    /// For the model: it plans better when it knows what is left.
    pub(super) fn left(&self, spent: &Spent, now: Timestamp) -> String {
        let money = match self.cost {
            limit if limit > 0.0 => format!(", {:.2} of {limit:.2} in money", (limit - spent.cost).max(0.0)),
            _ => String::new(),
        };
        format!(
            "Left: {} replies, {} tool calls, {} tokens, {}{money}.",
            self.steps.saturating_sub(spent.steps),
            self.tool_calls.saturating_sub(spent.tool_calls),
            self.tokens.saturating_sub(spent.tokens),
            spoken(self.deadline.since(now))
        )
    }
}
