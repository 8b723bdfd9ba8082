use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};

use super::*;
use crate::ports::{ModelMessage, ToolSchema};

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
        "full" => {
            let error = json!({"message": "Too much.", "code": "context_length_exceeded"});
            (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response()
        }
        "thinks" | "forgetful" => {
            let thought = body.pointer("/messages/1/reasoning_content");
            let signature = body.pointer("/messages/1/tool_calls/0/extra_content/google/thought_signature");
            let minds = body["model"] == "forgetful" && thought.is_some();
            if minds {
                return (StatusCode::BAD_REQUEST, "property 'reasoning_content' is unsupported").into_response();
            }
            let heard = format!("{thought:?} {signature:?}");
            Json(json!({"choices": [{"finish_reason": "length", "message": {"role": "assistant", "content": heard,
                "refusal": null, "annotations": [], "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "m", "arguments": "{\"a\": 1"},
                    "extra_content": {"google": {"thought_signature": "s1g"}}}]}}]}))
            .into_response()
        }
        "down" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "upstream").into_response(),
        "wrong" => (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": "bad model"}}))).into_response(),
        "hang" => std::future::pending().await,
        "garbage" => "<html>".into_response(),
        "empty" => {
            let choice = json!({"message": {"content": null}, "finish_reason": "length"});
            Json(json!({"choices": [choice], "usage": usage})).into_response()
        }
        "old" if body.get("max_completion_tokens").is_some() => {
            let detail = json!([{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}]);
            (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": detail}))).into_response()
        }
        "new" if body.get("max_tokens").is_some() => {
            let why = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
            (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": why}}))).into_response()
        }
        "too long" => {
            let field = if body.get("max_tokens").is_some() { "max_tokens" } else { "max_completion_tokens" };
            let why = format!("the value of {field} is too large");
            (StatusCode::BAD_REQUEST, Json(json!({"error": {"message": why}}))).into_response()
        }
        _ => Json(json!({"usage": usage, "choices": [{"message": {"content": null, "tool_calls": [
            {"id": "c1", "function": {"name": "metrics", "arguments": "{\"query\":\"up\"}"}},
            {"id": "c2", "function": {"name": "logs", "arguments": "{broken"}},
        ]}}]}))
        .into_response(),
    }
}

async fn ask(model: &str, request: ModelRequest) -> (Result<ModelReply, ModelError>, usize) {
    let (model, attempts) = served(model, TokensField::default()).await;
    (model.complete(request).await, attempts.0.load(Ordering::SeqCst))
}

async fn served(model: &str, field: TokensField) -> (OpenAiModel, Attempts) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let attempts = Attempts::default();
    let app = Router::new().route("/v1/chat/completions", post(chat)).with_state(attempts.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let timeout = Duration::from_millis(300);
    let model = OpenAiModel::new(&base, "sk-secret", model, timeout, field).unwrap();
    assert!(!format!("{model:?}").contains("sk-secret"));
    (model, attempts)
}

fn request() -> ModelRequest {
    ModelRequest {
        messages: vec![
            ModelMessage::System { text: "watch".into() },
            ModelMessage::Assistant {
                text: String::new(),
                calls: vec![ToolCall { id: "c0".into(), name: "m".into(), arguments: json!("{x") }],
                carried: Carried::default(),
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

/// DeepSeek and Gemini answer 400 to a conversation in which their thoughts are missing; others to one that has them.
#[tokio::test]
async fn what_an_endpoint_adds_to_a_message_goes_back_to_it_unless_it_minds() {
    for (name, hears, attempts) in
        [("thinks", r#"Some(String("hm")) Some(String("s1g"))"#, 2), ("forgetful", "None None", 3)]
    {
        let (model, seen) = served(name, TokensField::default()).await;
        let first = model.complete(request()).await.unwrap();
        assert!(first.cut && first.carried.message.keys().eq(["reasoning_content"]), "{first:?}");
        assert_eq!(first.calls[0].arguments, json!("{\"a\": 1"));
        let mut next = request();
        next.messages[1] =
            ModelMessage::Assistant { text: first.text, calls: first.calls, carried: first.carried.clone() };
        next.messages[2] = ModelMessage::Tool { call_id: "c1".into(), text: "no".into() };
        assert_eq!(model.complete(next.clone()).await.unwrap().text, hears);
        assert_eq!(seen.0.load(Ordering::SeqCst), attempts);
        // It has learned which of the two it is.
        assert_eq!(model.complete(next).await.unwrap().text, hears);
        assert_eq!(seen.0.load(Ordering::SeqCst), attempts + 1);
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_apart_from_a_wrong_one() {
    let (reply, attempts) = ask("full", request()).await;
    assert!(matches!(reply, Err(ModelError::TooLong(_))) && attempts == 1, "{reply:?}");
}

#[tokio::test]
async fn one_retry_and_no_more() {
    let (reply, attempts) = ask("slow", request()).await;
    assert!(reply.is_ok() && attempts == 2);
    let (reply, attempts) = ask("down", request()).await;
    assert!(matches!(reply, Err(ModelError::Unavailable(_))) && attempts == 2);
    // Who has waited in vain does not wait a second time.
    let (reply, attempts) = ask("hang", request()).await;
    assert!(matches!(reply, Err(ModelError::TimedOut(_))) && attempts == 1);
    let (reply, attempts) = ask("later", request()).await;
    let minute = Duration::from_secs(60);
    assert!(matches!(reply, Err(ModelError::Later { after, .. }) if after == minute) && attempts == 1);
}

#[tokio::test]
async fn what_a_retry_cannot_mend_is_said_at_once() {
    let (reply, attempts) = ask("wrong", request()).await;
    assert_eq!((reply, attempts), (Err(ModelError::Refused("400 Bad Request: bad model".into())), 1));
    assert!(matches!(ask("garbage", request()).await.0, Err(ModelError::Garbage(_))));
    let empty = ModelError::Empty { why: "length".into(), cut: true, tokens_in: 7, tokens_out: 3 };
    assert_eq!(ask("empty", request()).await, (Err(empty), 1), "what was thought is paid for");
}

#[tokio::test]
async fn the_length_of_a_reply_is_said_in_the_field_that_the_endpoint_knows() {
    use TokensField::{MaxCompletionTokens, MaxTokens};
    for (name, field, attempts) in
        [("old", MaxCompletionTokens, 3), ("new", MaxTokens, 3), ("old", MaxTokens, 2), ("new", MaxCompletionTokens, 2)]
    {
        let (model, asked) = served(name, field).await;
        for _ in 0..2 {
            model.complete(request()).await.unwrap();
        }
        assert_eq!(asked.0.load(Ordering::SeqCst), attempts, "{name}: the choice is remembered");
    }
    // Where the name is not what it minds, the first refusal is what is told.
    let (model, _) = served("too long", MaxCompletionTokens).await;
    for _ in 0..2 {
        let refused = model.complete(request()).await;
        let why = "400 Bad Request: the value of max_completion_tokens is too large".to_owned();
        assert_eq!(refused, Err(ModelError::Refused(why)));
    }
}

#[tokio::test]
async fn user_and_assistant_take_turns_and_nothing_stands_behind_answers_of_tools() {
    let user = |text: &str| ModelMessage::User { text: text.into() };
    let mut asked = request();
    asked.messages.insert(1, user("brief"));
    asked.messages.extend([
        user("left: 3"),
        ModelMessage::Assistant { text: "hm".into(), calls: vec![], carried: Carried::default() },
        user("call a tool"),
        user("left: 2"),
    ]);
    let (reply, _) = ask("echo", asked).await;
    let sent: Value = serde_json::from_str(&reply.unwrap().text).unwrap();
    let sent: Vec<(&str, &str)> = (sent["messages"].as_array().unwrap().iter())
        .map(|one| (one["role"].as_str().unwrap(), one["content"].as_str().unwrap_or_default()))
        .collect();
    let wanted = [
        ("system", "watch"),
        ("user", "brief"),
        ("assistant", ""),
        ("tool", "no\n\nleft: 3"),
        ("assistant", "hm"),
        ("user", "call a tool\n\nleft: 2"),
    ];
    assert_eq!(sent, wanted);
}
