//! What goes over the wire and what comes back, as OpenAI's chat completions have it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::investigation::Carried;
use crate::ports::{ModelMessage, ModelRequest, ToolCall, ToolSchema};

#[derive(Deserialize)]
pub(super) struct Completion {
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) message: Message,
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Message {
    pub(super) content: Option<Value>,
    pub(super) tool_calls: Option<Vec<RawCall>>,
    /// `reasoning_content` of DeepSeek, and what else an endpoint adds.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

#[derive(Deserialize)]
pub(super) struct RawCall {
    id: Option<String>,
    function: RawFunction,
    /// `extra_content` of Gemini: the signature of the thought behind the call.
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawFunction {
    name: String,
    /// Text that holds JSON by the specification; some servers send the object itself.
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

pub(super) fn text_of(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// What we say in our own way each time.
const OURS: [&str; 4] = ["role", "type", "index", "function_call"];

/// What came beside words and calls; nothing of it that is empty, because not all endpoints take back what they send.
pub(super) fn carried(message: &Message) -> Carried {
    let told = |more: &Map<String, Value>| {
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        let kept = more.iter().filter(|(name, value)| !OURS.contains(&name.as_str()) && !is_empty(value));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()
    };
    let calls = message.tool_calls.iter().flatten().enumerate();
    Carried {
        message: told(&message.more),
        calls: calls
            .map(|(at, call)| (id_of(at, call), told(&call.more)))
            .filter(|(_, more)| !more.is_empty())
            .collect(),
    }
}

fn id_of(at: usize, raw: &RawCall) -> String {
    raw.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{at}"))
}

/// Arguments that are no JSON stay text: the investigation answers them with a repair message.
pub(super) fn read_call((at, raw): (usize, RawCall)) -> ToolCall {
    let id = id_of(at, &raw);
    let arguments = match raw.function.arguments {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Value::Null => json!({}),
        other => other,
    };
    ToolCall { id, name: raw.function.name, arguments }
}

/// Without the length that the reply may have.
pub(super) fn body(model: &str, request: &ModelRequest) -> Value {
    let mut body = json!({
        "model": model,
        "messages": in_turn(&request.messages).iter().map(message).collect::<Vec<_>>(),
        "stream": false,
    });
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
        body["tool_choice"] = json!("auto");
    }
    body
}

/// As the strictest templates want it (Mistral's, Gemma's): user and assistant take turns, and nothing is said
/// between the answers of tools and the assistant. What we say then stands behind the last answer.
fn in_turn(messages: &[ModelMessage]) -> Vec<ModelMessage> {
    let mut turns: Vec<ModelMessage> = Vec::with_capacity(messages.len());
    for message in messages {
        if let ModelMessage::User { text: more } = message
            && let Some(ModelMessage::User { text } | ModelMessage::Tool { text, .. }) = turns.last_mut()
        {
            text.push_str("\n\n");
            text.push_str(more);
        } else {
            turns.push(message.clone());
        }
    }
    turns
}

fn tool(schema: &ToolSchema) -> Value {
    json!({"type": "function", "function": {
        "name": schema.name, "description": schema.description, "parameters": schema.parameters,
    }})
}

fn message(message: &ModelMessage) -> Value {
    match message {
        ModelMessage::System { text } => json!({"role": "system", "content": text}),
        ModelMessage::User { text } => json!({"role": "user", "content": text}),
        // Without calls the thoughts are over: older models of DeepSeek refuse to see them again.
        ModelMessage::Assistant { text, calls, .. } if calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        ModelMessage::Assistant { text, calls, carried } => {
            let content = if text.is_empty() { Value::Null } else { json!(text) };
            let calls: Vec<_> = calls.iter().map(|one| with(call(one), carried.calls.get(&one.id))).collect();
            let message = json!({"role": "assistant", "content": content, "tool_calls": calls});
            with(message, Some(&carried.message))
        }
        ModelMessage::Tool { call_id, text } => json!({"role": "tool", "tool_call_id": call_id, "content": text}),
    }
}

/// What we say ourselves stands.
fn with(mut said: Value, more: Option<&Map<String, Value>>) -> Value {
    for (name, value) in more.into_iter().flatten() {
        if said.get(name).is_none() {
            said[name.as_str()] = value.clone();
        }
    }
    said
}

fn call(call: &ToolCall) -> Value {
    // Servers parse what they get back, so a malformed text must travel inside an object.
    let arguments = match &call.arguments {
        Value::Object(_) => call.arguments.to_string(),
        other => json!({"malformed": other}).to_string(),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
