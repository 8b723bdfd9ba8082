//! A model behind the OpenAI wire, played from a script: what an investigation costs, and what a
//! model that misbehaves does to it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::harness::{NIGHT, midwatch, one_night_at_a_time, run_within};
use crate::watch::is_the_night_of_the_readme;

/// What the endpoint does with one request.
#[derive(Clone)]
pub enum Reply {
    /// Calls of tools, natively.
    Calls(Vec<(&'static str, Value)>),
    Text(&'static str),
    /// A status with a body; `Retry-After` in seconds.
    Fails(u16, &'static str, Option<u32>),
    /// Raw bytes of a 200, such as half a JSON document.
    Raw(String),
}

struct Played {
    script: Vec<Reply>,
    asked: Vec<Value>,
}

/// An endpoint that answers by its script; when that is at its end, with the last reply again.
pub struct Scripted {
    pub url: String,
    played: Arc<Mutex<Played>>,
}

impl Scripted {
    pub async fn start(script: Vec<Reply>) -> Self {
        let played = Arc::new(Mutex::new(Played { script, asked: vec![] }));
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(played.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(
            async move { axum::serve(listener, router.layer(axum::extract::DefaultBodyLimit::disable())).await },
        );
        Self { url, played }
    }

    pub fn asked(&self) -> Vec<Value> {
        self.played.lock().unwrap().asked.clone()
    }
}

async fn answer(State(played): State<Arc<Mutex<Played>>>, Json(request): Json<Value>) -> Response {
    let (reply, number) = {
        let mut played = played.lock().unwrap();
        let number = played.asked.len();
        played.asked.push(request);
        (played.script[number.min(played.script.len() - 1)].clone(), number)
    };
    let message = match reply {
        Reply::Fails(status, body, after) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, body).into_response();
            if let Some(seconds) = after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            return response;
        }
        Reply::Raw(body) => return ([("content-type", "application/json")], body).into_response(),
        Reply::Text(text) => json!({"role": "assistant", "content": text}),
        Reply::Calls(calls) => {
            let calls = calls.into_iter().enumerate().map(|(at, (name, arguments))| {
                // Text by the specification; a string stands for arguments that are no JSON.
                let arguments = match arguments {
                    Value::String(broken) => broken,
                    other => other.to_string(),
                };
                let function = json!({"name": name, "arguments": arguments});
                json!({"id": format!("call-{number}-{at}"), "type": "function", "function": function})
            });
            json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()})
        }
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100});
    let whole = json!({"id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
                       "choices": [choice], "usage": usage});
    Json(whole).into_response()
}

/// As OpenAI counts: every string that the model reads, by the tokenizer of its newer models.
fn tokens_of(request: &Value) -> usize {
    let tokenizer = tiktoken_rs::o200k_base().unwrap();
    let mut text = String::new();
    for message in request["messages"].as_array().unwrap() {
        text.push_str(message["role"].as_str().unwrap_or_default());
        text.push('\n');
        match &message["content"] {
            Value::String(content) => text.push_str(content),
            Value::Null => {}
            other => text.push_str(&other.to_string()),
        }
        if message["tool_calls"].is_array() {
            text.push_str(&message["tool_calls"].to_string());
        }
        text.push('\n');
    }
    if request["tools"].is_array() {
        text.push_str(&request["tools"].to_string());
    }
    tokenizer.encode_with_special_tokens(&text).len()
}

/// Seven rounds of looking, each at something else, then the truth with evidence.
fn eight_steps() -> Vec<Reply> {
    vec![
        Reply::Calls(vec![
            ("todo", json!({"items": [{"text": "session: what changed, what leaks", "done": false}]})),
            ("golden_signals", json!({"service": "session"})),
            ("list_changes", json!({})),
        ]),
        Reply::Calls(vec![
            ("logs", json!({"service": "session", "minutes": 30})),
            ("topology", json!({"service": "session"})),
        ]),
        Reply::Calls(vec![(
            "metrics_range",
            json!({"query": "max by (service) (db_client_connections_usage / db_client_connections_max)"}),
        )]),
        Reply::Calls(vec![("kube_objects", json!({"kind": "pods", "namespace": "shop"}))]),
        Reply::Calls(vec![
            ("kube_events", json!({"namespace": "shop"})),
            ("golden_signals", json!({"service": "authentication"})),
        ]),
        Reply::Calls(vec![("search_runbooks", json!({"query": "connection pool leak after a config rollout"}))]),
        Reply::Calls(vec![("search_past_incidents", json!({"query": "session leaks connections"}))]),
        Reply::Calls(vec![(
            "conclude",
            json!({
                "service": "session", "change": "session revision 3",
                "mechanism": "a configuration change leaks connections", "remedy": "roll_back",
                "claims": [{"text": "session was changed before the first symptom", "evidence": ["E2", "E3", "E4", "E5"]}],
                "ruled_out": [], "confidence": 0.9, "needs": null,
            }),
        )]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_steps_of_one_agent_read_less_than_25_000_tokens() {
    let _alone = tokio::task::block_in_place(one_night_at_a_time);
    let model = Scripted::start(eight_steps()).await;
    let url = model.url.clone();
    let report = tokio::task::spawn_blocking(move || {
        let mut command = midwatch();
        command.args(["demo", "--headless", "--json", "--approve", "--seed", "1"]);
        command.env("MIDWATCH_MODEL", "scripted").env("OPENAI_BASE_URL", url).env("OPENAI_API_KEY", "none");
        run_within(command, NIGHT).expect(0).report()
    })
    .await
    .unwrap();
    is_the_night_of_the_readme(&report);
    let asked = model.asked();
    let steps: Vec<usize> = asked.iter().map(tokens_of).collect();
    let total: usize = steps.iter().sum();
    println!("input tokens of {} requests: {steps:?}, together {total}", steps.len());
    assert_eq!(asked.len(), 8, "the script has eight steps");
    assert!(total < 25_000, "{total} tokens were read: {steps:?}");
}
