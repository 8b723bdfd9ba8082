//! A language model behind any OpenAI-compatible chat endpoint.
//!
//! Invariants: at most two attempts a call, each at most 30 s; the API key never shows in `Debug`
//! or in an error. The library's own retries (three, with long pauses) are replaced: a person waits.

use std::fmt;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ports::{Model, ModelError, ModelMessage, ModelReply, ModelRequest, ToolCall, ToolSchema};

/// A server that asks for more patience than this is treated as away.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);
/// Far beyond what the token cap lets a model say.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

pub struct OpenAiModel {
    client: Client<OpenAIConfig>,
    model: String,
    base_url: String,
}

impl fmt::Debug for OpenAiModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiModel")
            .field("model", &self.model)
            .field("base_url", &self.base_url)
            .field("api_key", &"redacted")
            .finish()
    }
}

impl OpenAiModel {
    /// `base_url` with its version, such as `https://api.openai.com/v1` or `http://127.0.0.1:11434/v1`.
    pub fn new(base_url: &str, api_key: &str, model: &str, attempt: Duration) -> Result<Self, ModelError> {
        let http = reqwest::Client::builder()
            .timeout(attempt)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ModelError::Unavailable(format!("cannot build the HTTP client: {error}")))?;
        let base_url = base_url.trim_end_matches('/').to_owned();
        let config = OpenAIConfig::new().with_api_base(&base_url).with_api_key(api_key);
        let sender = http.clone();
        let client =
            Client::build(http, config).with_http_service(tower::service_fn(move |request: HttpRequestFactory| {
                send_with_one_retry(sender.clone(), request)
            }));
        Ok(Self { client, model: model.to_owned(), base_url })
    }

    async fn post(&self, body: Value) -> Result<Completion, ModelError> {
        self.client.chat().create_byot::<Value, Completion>(body).await.map_err(explain)
    }
}

#[async_trait]
impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.model
    }

    async fn complete(&self, request: ModelRequest) -> Result<ModelReply, ModelError> {
        let completion = self.post(body(&self.model, &request)).await?;
        let usage = completion.usage.unwrap_or_default();
        let choice = completion
            .choices
            .into_iter()
            .next()
            .ok_or_else(|| ModelError::Garbage("the reply holds no choice".to_owned()))?;
        let text = choice.message.content.map(text_of).unwrap_or_default();
        let calls: Vec<ToolCall> =
            choice.message.tool_calls.unwrap_or_default().into_iter().enumerate().map(read_call).collect();
        if text.trim().is_empty() && calls.is_empty() {
            let why = choice.finish_reason.unwrap_or_else(|| "no reason given".to_owned());
            return Err(ModelError::Garbage(format!("an empty reply ({why})")));
        }
        Ok(ModelReply { text, calls, tokens_in: usage.prompt_tokens, tokens_out: usage.completion_tokens })
    }

    async fn check(&self) -> Result<String, ModelError> {
        let question = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Answer with OK."}],
            "max_completion_tokens": 16,
            "stream": false,
        });
        self.post(question).await?;
        Ok(format!("{} answers at {}", self.model, self.base_url))
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Value>,
    tool_calls: Option<Vec<RawCall>>,
}

#[derive(Deserialize)]
struct RawCall {
    id: Option<String>,
    function: RawFunction,
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
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

fn text_of(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// Arguments that are no JSON stay text: the investigation answers them with a repair message.
fn read_call((at, raw): (usize, RawCall)) -> ToolCall {
    let arguments = match raw.function.arguments {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Value::Null => json!({}),
        other => other,
    };
    let id = raw.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{at}"));
    ToolCall { id, name: raw.function.name, arguments }
}

fn body(model: &str, request: &ModelRequest) -> Value {
    let mut body = json!({
        "model": model,
        "messages": request.messages.iter().map(message).collect::<Vec<_>>(),
        "max_completion_tokens": request.max_tokens,
        "stream": false,
    });
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
        body["tool_choice"] = json!("auto");
    }
    body
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
        ModelMessage::Assistant { text, calls } if calls.is_empty() => json!({"role": "assistant", "content": text}),
        ModelMessage::Assistant { text, calls } => {
            let content = if text.is_empty() { Value::Null } else { json!(text) };
            json!({"role": "assistant", "content": content, "tool_calls": calls.iter().map(call).collect::<Vec<_>>()})
        }
        ModelMessage::Tool { call_id, text } => json!({"role": "tool", "tool_call_id": call_id, "content": text}),
    }
}

fn call(call: &ToolCall) -> Value {
    // Servers parse what they get back, so a malformed text must travel inside an object.
    let arguments = match &call.arguments {
        Value::Object(_) => call.arguments.to_string(),
        other => json!({"malformed": other}).to_string(),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// Reads the whole answer here, so that a body that stalls counts as a failed attempt too.
async fn send_with_one_retry(
    http: reqwest::Client,
    request: HttpRequestFactory,
) -> Result<reqwest::Response, tower::BoxError> {
    let first = attempt(&http, request.build().await?).await;
    let (pause, error) = match first {
        Ok(response) => return Ok(response),
        Err(Failure { again: Some(pause), error }) => (pause, error),
        Err(Failure { again: None, error }) => return Err(error.into()),
    };
    tracing::warn!(%error, ?pause, "model call failed, one more attempt");
    tokio::time::sleep(pause).await;
    attempt(&http, request.build().await?).await.map_err(|failure| failure.error.into())
}

struct Failure {
    error: ModelError,
    /// The pause before another attempt, when one is worth it.
    again: Option<Duration>,
}

async fn attempt(http: &reqwest::Client, request: reqwest::Request) -> Result<reqwest::Response, Failure> {
    let broken = |error: reqwest::Error| {
        let what = if error.is_timeout() { "timed out" } else { "cannot be reached" };
        Failure {
            error: ModelError::Unavailable(format!("{what}: {}", error.without_url())),
            again: Some(DEFAULT_PAUSE),
        }
    };
    let mut response = http.execute(request).await.map_err(broken)?;
    let status = response.status();
    let asked = retry_after(response.headers());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(Failure { error: ModelError::Garbage("a reply of more than 8 MB".into()), again: None });
        }
        bytes.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(http::Response::new(bytes).into());
    }
    let message = format!("{status}: {}", message_of(&bytes));
    let pause = Some(asked.unwrap_or(DEFAULT_PAUSE)).filter(|pause| *pause <= MAX_RETRY_AFTER);
    Err(match status.as_u16() {
        429 => Failure { error: ModelError::RateLimited(message), again: pause },
        408 | 500..=599 => Failure { error: ModelError::Unavailable(message), again: pause },
        _ => Failure { error: ModelError::Refused(message), again: None },
    })
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn message_of(bytes: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(bytes).ok();
    let said = said.as_ref().and_then(|body| body.pointer("/error/message")).and_then(Value::as_str);
    let text = said.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), str::to_owned);
    text.trim().chars().take(300).collect()
}

fn explain(error: OpenAIError) -> ModelError {
    match error {
        OpenAIError::Boxed(inner) => match inner.downcast::<ModelError>() {
            Ok(error) => *error,
            Err(other) => ModelError::Unavailable(other.to_string()),
        },
        OpenAIError::JSONDeserialize(why, _) => ModelError::Garbage(why.to_string()),
        OpenAIError::Reqwest(why) => ModelError::Unavailable(why.without_url().to_string()),
        OpenAIError::ApiError(why) => ModelError::Refused(why.to_string()),
        other => ModelError::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::post;
    use axum::{Json, Router};

    use super::*;

    #[derive(Clone, Default)]
    struct Attempts(Arc<AtomicUsize>);

    async fn chat(State(attempts): State<Attempts>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
        let attempt = attempts.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(headers["authorization"], "Bearer sk-secret");
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
        match body["model"].as_str().unwrap() {
            "echo" => Json(json!({"choices": [{"message": {"content": body.to_string()}}]})).into_response(),
            "slow" if attempt == 0 => {
                (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0.05")], "slow down").into_response()
            }
            "later" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")], "tomorrow").into_response(),
            "down" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "upstream").into_response(),
            "wrong" => (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": "bad model"}}))).into_response(),
            "hang" => std::future::pending().await,
            "garbage" => "<html>".into_response(),
            "empty" => {
                Json(json!({"choices": [{"message": {"content": ""}, "finish_reason": "length"}]})).into_response()
            }
            _ => Json(json!({"usage": usage, "choices": [{"message": {"content": null, "tool_calls": [
                {"id": "c1", "function": {"name": "metrics", "arguments": "{\"query\":\"up\"}"}},
                {"id": "c2", "function": {"name": "logs", "arguments": "{broken"}},
            ]}}]}))
            .into_response(),
        }
    }

    async fn ask(model: &str, request: ModelRequest) -> (Result<ModelReply, ModelError>, usize) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let attempts = Attempts::default();
        let app = Router::new().route("/v1/chat/completions", post(chat)).with_state(attempts.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let timeout = Duration::from_millis(300);
        let model = OpenAiModel::new(&base, "sk-secret", model, timeout).unwrap();
        assert!(!format!("{model:?}").contains("sk-secret"));
        (model.complete(request).await, attempts.0.load(Ordering::SeqCst))
    }

    fn request() -> ModelRequest {
        ModelRequest {
            messages: vec![
                ModelMessage::System { text: "watch".into() },
                ModelMessage::Assistant {
                    text: String::new(),
                    calls: vec![ToolCall { id: "c0".into(), name: "m".into(), arguments: json!("{x") }],
                },
                ModelMessage::Tool { call_id: "c0".into(), text: "no".into() },
            ],
            tools: vec![ToolSchema { name: "m".into(), description: "d".into(), parameters: json!({}) }],
            max_tokens: 64,
        }
    }

    #[tokio::test]
    async fn tool_calls_and_usage_are_read_and_broken_arguments_kept_as_text() {
        let (reply, _) = ask("good", request()).await;
        let reply = reply.unwrap();
        assert_eq!((reply.tokens_in, reply.tokens_out), (7, 3));
        assert_eq!(reply.calls[0].arguments, json!({"query": "up"}));
        assert_eq!(reply.calls[1].arguments, json!("{broken"));
    }

    #[tokio::test]
    async fn the_wire_format_is_what_servers_expect() {
        let (reply, _) = ask("echo", request()).await;
        let sent: Value = serde_json::from_str(&reply.unwrap().text).unwrap();
        assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], r#"{"malformed":"{x"}"#);
        assert_eq!(sent["messages"][2]["tool_call_id"], "c0");
        assert_eq!(sent["tools"][0]["function"]["name"], "m");
        assert_eq!(sent["max_completion_tokens"], 64);
    }

    #[tokio::test]
    async fn one_retry_and_no_more() {
        let (reply, attempts) = ask("slow", request()).await;
        assert!(reply.is_ok() && attempts == 2);
        let (reply, attempts) = ask("down", request()).await;
        assert!(matches!(reply, Err(ModelError::Unavailable(_))) && attempts == 2);
        let (reply, attempts) = ask("hang", request()).await;
        assert!(matches!(reply, Err(ModelError::Unavailable(_))) && attempts == 2);
        let (reply, attempts) = ask("later", request()).await;
        assert!(matches!(reply, Err(ModelError::RateLimited(_))) && attempts == 1);
    }

    #[tokio::test]
    async fn what_a_retry_cannot_mend_is_said_at_once() {
        let (reply, attempts) = ask("wrong", request()).await;
        assert_eq!((reply, attempts), (Err(ModelError::Refused("400 Bad Request: bad model".into())), 1));
        assert!(matches!(ask("garbage", request()).await.0, Err(ModelError::Garbage(_))));
        assert!(matches!(ask("empty", request()).await.0, Err(ModelError::Garbage(_))));
    }
}
