//! As much of Slack as remembers what was posted: an observer that outlives the watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::any;
use axum::{Json, Router};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

pub const SECRET: &str = "crash-secret";

#[derive(Default)]
pub struct Kept {
    pub messages: Vec<Message>,
}

#[derive(Clone)]
pub struct Message {
    pub ts: String,
    pub thread: Option<String>,
    pub key: String,
    pub content: Value,
}

pub type Chat = Arc<Mutex<Kept>>;

/// Below `/api`.
pub fn router() -> (Chat, Router) {
    let chat = Chat::default();
    (chat.clone(), Router::new().route("/api/{method}", any(answer)).with_state(chat))
}

async fn answer(
    State(chat): State<Chat>,
    Path(method): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Json<Value> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut kept = chat.lock().unwrap();
    Json(match method.as_str() {
        "auth.test" => {
            json!({"ok": true, "user": "midwatch", "user_id": "UB", "bot_id": "B1", "team": "T", "team_id": "T1"})
        }
        "chat.postMessage" => {
            let ts = format!("1700000000.{:06}", kept.messages.len() + 1);
            let key = body["metadata"]["event_payload"]["key"].as_str().unwrap_or_default().to_owned();
            let thread = body["thread_ts"].as_str().map(str::to_owned);
            kept.messages.push(Message { ts: ts.clone(), thread, key, content: body.clone() });
            json!({"ok": true, "channel": "C1", "ts": ts, "message": {"ts": ts, "text": body["text"]}})
        }
        "chat.update" => {
            let ts = body["ts"].as_str().unwrap_or_default().to_owned();
            match kept.messages.iter_mut().find(|message| message.ts == ts) {
                Some(message) => {
                    message.content = body.clone();
                    json!({"ok": true, "channel": "C1", "ts": ts, "text": body["text"], "message": {"ts": ts}})
                }
                None => json!({"ok": false, "error": "message_not_found"}),
            }
        }
        "conversations.history" | "conversations.replies" => {
            let root = query.get("ts").cloned();
            let messages = kept.messages.iter().filter(|message| match &root {
                Some(root) => message.thread.as_ref() == Some(root) || message.ts == *root,
                None => message.thread.is_none(),
            });
            let messages = messages.map(|message| {
                json!({"ts": message.ts, "user": "UB", "bot_id": "B1",
                       "metadata": {"event_type": message.content["metadata"]["event_type"].as_str().unwrap_or("midwatch"),
                                    "event_payload": {"key": message.key}}})
            });
            json!({"ok": true, "messages": messages.collect::<Vec<_>>(), "has_more": false})
        }
        "users.info" => {
            let id = query.get("user").cloned().unwrap_or_default();
            json!({"ok": true, "user": {"id": id, "team_id": "T1", "name": id, "is_bot": false, "deleted": false}})
        }
        _ => json!({"ok": true}),
    })
}

pub fn sign(timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
