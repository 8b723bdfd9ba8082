//! How an investigation ends, as the model says it. `judge` decides what of it holds.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{CONCLUDE, ToolSchema};
use crate::domain::id::EvidenceId;
use crate::domain::redact::redact_json;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "conclusion", rename_all = "snake_case")]
pub enum Conclusion {
    Found(Finding),
    /// A limit or a fault ended it. What was seen is worth reading all the same.
    Partial {
        why: String,
        seen: Vec<EvidenceId>,
        last_thought: Option<String>,
    },
}

/// Unproved: every field is what a model wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    #[serde(default, deserialize_with = "name")]
    pub service: Option<String>,
    #[serde(default, deserialize_with = "name")]
    pub change: Option<String>,
    pub mechanism: String,
    #[serde(default)]
    pub remedy: ProposedRemedy,
    #[serde(default)]
    pub claims: Vec<Cited>,
    #[serde(default)]
    pub ruled_out: Vec<Cited>,
    #[serde(default, deserialize_with = "share")]
    pub confidence: f64,
    /// What is missing to be surer.
    #[serde(default)]
    pub needs: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposedRemedy {
    #[serde(alias = "rollback")]
    RollBack,
    Restart,
    #[serde(alias = "scale")]
    ScaleUp,
    #[default]
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cited {
    pub text: String,
    /// Marks such as `E3`.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// The words of the evidence that show it; what is quoted must stand there.
    #[serde(default)]
    pub quote: Option<String>,
}

/// Models write "unknown" where null is meant.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let said = |text: &String| !matches!(text.to_ascii_lowercase().as_str(), "" | "null" | "none" | "unknown" | "n/a");
    Ok(text.map(|text| text.trim().to_owned()).filter(said))
}

/// Accepts 0.8 and 80; anything else that is no share of one is no confidence.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    Ok(match number {
        number if (0.0..=1.0).contains(&number) => number,
        number if (1.0..=100.0).contains(&number) => number / 100.0,
        _ => 0.0,
    })
}

impl Finding {
    /// The error is a sentence that the model can act on.
    pub fn read(value: &Value) -> Result<Self, String> {
        let mut value = value.clone();
        // It is kept, shown and remembered, so no secret that the model saw somewhere may stand in it.
        redact_json(&mut value);
        serde_json::from_value(value).map_err(|why| {
            format!(
                "The conclusion does not have the required form ({why}). It needs: service, change, mechanism, \
                 remedy (roll_back, restart, scale_up or none), claims, ruled_out, confidence."
            )
        })
    }
}

/// A conclusion written as text: the last JSON object that has a mechanism. `None`: there is none.
pub(super) fn find(text: &str) -> Option<Result<Finding, String>> {
    let mut found = None;
    let mut at = 0;
    while let Some(offset) = text[at..].find('{') {
        let start = at + offset;
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                if value.get("mechanism").is_some() {
                    found = Some(Finding::read(&value));
                }
                at = start + values.byte_offset().max(1);
            }
            Some(Err(_)) | None => at = start + 1,
        }
    }
    let promised = || text.contains("Final Answer:") || text.contains("\"mechanism\"");
    found.or_else(|| promised().then(|| Err("The conclusion is not one valid JSON object.".to_owned())))
}

pub fn conclude_schema() -> ToolSchema {
    let cited = json!({"type": "array", "items": {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "one sentence; numbers and names exactly as in the evidence"},
            "evidence": {"type": "array", "items": {"type": "string"}, "description": "marks such as E3"},
            "quote": {"type": "string", "description": "the words there that show it, verbatim"},
        },
        "required": ["text", "evidence"],
    }});
    ToolSchema {
        name: CONCLUDE.to_owned(),
        description: "End the investigation. Claims without evidence are deleted by code; leave service and change \
                      null when the evidence does not show them: that is a valid and honest answer."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "service": {"type": ["string", "null"], "description": "the component at fault, as the topology names it"},
                "change": {"type": ["string", "null"], "description": "id of the change to blame, from list_changes"},
                "mechanism": {"type": "string", "description": "how the cause makes the symptoms, in one sentence"},
                "remedy": {"type": "string", "enum": ["roll_back", "restart", "scale_up", "none"]},
                "claims": cited,
                "ruled_out": cited,
                "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                "needs": {"type": ["string", "null"], "description": "what is missing to be surer"},
            },
            "required": ["service", "change", "mechanism", "remedy", "claims", "ruled_out", "confidence"],
        }),
    }
}
