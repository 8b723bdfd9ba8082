//! A language model behind any OpenAI-compatible chat endpoint.
//!
//! Invariants: at most two attempts a call, and one only when it took too long; the API key never shows in
//! `Debug` or in an error. The library's own retries (three, with long pauses) are replaced: a person waits.
//! A field that the endpoint does not know is asked for under its other name, once.

mod wire;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::config::TokensField;
use crate::domain::investigation::Carried;
use crate::ports::{Model, ModelError, ModelMessage, ModelReply, ModelRequest, ToolCall};
use wire::{Completion, body, carried, read_call, text_of};

/// A server that asks for more patience than this: whoever asks knows whether there is time to wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);
/// Far beyond what the token cap lets a model say.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

pub struct OpenAiModel {
    client: Client<OpenAIConfig>,
    model: String,
    base_url: String,
    field: TokensField,
    /// The endpoint refused that field and took the other one.
    other_field: AtomicBool,
    /// The endpoint does not take back what it adds to messages.
    takes_nothing_back: AtomicBool,
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
    pub fn new(
        base_url: &str,
        api_key: &str,
        model: &str,
        attempt: Duration,
        field: TokensField,
    ) -> Result<Self, ModelError> {
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
        let (other_field, takes_nothing_back) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { client, model: model.to_owned(), base_url, field, other_field, takes_nothing_back })
    }

    /// `body` without the length that a reply may have, which is `tokens`.
    async fn post(&self, body: &Value, tokens: u32) -> Result<Completion, ModelError> {
        let swapped = self.other_field.load(Ordering::Relaxed);
        let field = if swapped { self.field.other() } else { self.field };
        let refused = match self.send(body, field, tokens).await {
            Err(ModelError::Refused(why)) if complains_of(&why, field) => ModelError::Refused(why),
            other => return other,
        };
        match self.send(body, field.other(), tokens).await {
            // It is not the name that it minds.
            Err(ModelError::Refused(_)) => Err(refused),
            other => {
                tracing::info!(
                    field = field.other().as_str(),
                    "the endpoint wants the length of a reply in this field"
                );
                self.other_field.store(!swapped, Ordering::Relaxed);
                other
            }
        }
    }

    /// With what the endpoint added to its messages, unless it minds: some send what they do not take.
    async fn told(&self, mut request: ModelRequest) -> Result<Completion, ModelError> {
        let tokens = request.max_tokens;
        let carries =
            |message: &ModelMessage| matches!(message, ModelMessage::Assistant { carried, .. } if !carried.is_empty());
        if self.takes_nothing_back.load(Ordering::Relaxed) || !request.messages.iter().any(carries) {
            forget(&mut request.messages);
            return self.post(&body(&self.model, &request), tokens).await;
        }
        let refused = match self.post(&body(&self.model, &request), tokens).await {
            Err(refused @ ModelError::Refused(_)) => refused,
            other => return other,
        };
        forget(&mut request.messages);
        match self.post(&body(&self.model, &request), tokens).await {
            Err(_) => Err(refused),
            other => {
                self.takes_nothing_back.store(true, Ordering::Relaxed);
                other
            }
        }
    }

    async fn send(&self, body: &Value, field: TokensField, tokens: u32) -> Result<Completion, ModelError> {
        let mut body = body.clone();
        body[field.as_str()] = json!(tokens);
        self.client.chat().create_byot::<Value, Completion>(body).await.map_err(explain)
    }
}

#[async_trait]
impl Model for OpenAiModel {
    fn name(&self) -> &str {
        &self.model
    }

    async fn complete(&self, request: ModelRequest) -> Result<ModelReply, ModelError> {
        let completion = self.told(request).await?;
        let usage = completion.usage.unwrap_or_default();
        let (tokens_in, tokens_out) = (usage.prompt_tokens, usage.completion_tokens);
        let empty = |why: String, cut: bool| ModelError::Empty { why, cut, tokens_in, tokens_out };
        let choice = completion
            .choices
            .into_iter()
            .next()
            .ok_or_else(|| empty("the reply holds no choice".to_owned(), false))?;
        let carried = carried(&choice.message);
        let cut = choice.finish_reason.as_deref() == Some("length");
        let text = choice.message.content.map(text_of).unwrap_or_default();
        let calls: Vec<ToolCall> =
            choice.message.tool_calls.unwrap_or_default().into_iter().enumerate().map(read_call).collect();
        if text.trim().is_empty() && calls.is_empty() {
            let why = choice.finish_reason.unwrap_or_else(|| "no reason given".to_owned());
            return Err(empty(why, cut));
        }
        Ok(ModelReply { text, calls, carried, cut, tokens_in, tokens_out })
    }

    async fn check(&self) -> Result<String, ModelError> {
        let question = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Answer with OK."}],
            "stream": false,
        });
        self.post(&question, 16).await?;
        Ok(format!("{} answers at {}", self.model, self.base_url))
    }
}

fn forget(messages: &mut [ModelMessage]) {
    for message in messages {
        if let ModelMessage::Assistant { carried, .. } = message {
            *carried = Carried::default();
        }
    }
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

/// Whether a request was refused for the name of that field.
fn complains_of(why: &str, field: TokensField) -> bool {
    ["400 ", "422 "].iter().any(|status| why.starts_with(status)) && why.contains(field.as_str())
}

struct Failure {
    error: ModelError,
    /// The pause before another attempt, when one is worth it.
    again: Option<Duration>,
}

async fn attempt(http: &reqwest::Client, request: reqwest::Request) -> Result<reqwest::Response, Failure> {
    let broken = |error: reqwest::Error| match error.is_timeout() {
        // Whoever waits has waited long enough.
        true => Failure { error: ModelError::TimedOut(error.without_url().to_string()), again: None },
        false => Failure {
            error: ModelError::Unavailable(format!("cannot be reached: {}", error.without_url())),
            again: Some(DEFAULT_PAUSE),
        },
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
    let later = |after: Duration| ModelError::Later { why: message.clone(), after: after.max(DEFAULT_PAUSE) };
    Err(match (status.as_u16(), asked) {
        (429, Some(after)) => Failure { error: later(after), again: pause },
        (503, Some(after)) if pause.is_none() => Failure { error: later(after), again: None },
        (400 | 413 | 422, _) if is_too_long(&bytes) => Failure { error: ModelError::TooLong(message), again: None },
        (429, None) => Failure { error: ModelError::RateLimited(message), again: pause },
        (408 | 500..=599, _) => Failure { error: ModelError::Unavailable(message), again: pause },
        _ => Failure { error: ModelError::Refused(message), again: None },
    })
}

/// As OpenAI, vLLM, llama.cpp, Anthropic, Gemini and Mistral say it.
fn is_too_long(bytes: &[u8]) -> bool {
    const SAID: [&str; 8] = [
        "context_length_exceeded",
        "context length",
        "context size",
        "context window",
        "prompt is too long",
        "input is too long",
        "input token count",
        "too many tokens",
    ];
    let said = String::from_utf8_lossy(bytes).to_lowercase();
    SAID.iter().any(|words| said.contains(words))
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
mod tests;
