//! Events, interactions and commands over HTTP, for workspaces that cannot use Socket Mode.
//!
//! Invariant: nothing of a body is read before its signature was checked over the raw bytes.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::Sha256;
use slack_morphism::prelude::{SlackCommandEvent, SlackInteractionEvent, SlackPushEvent};

use crate::domain::time::Timestamp;
use crate::ports::{Clock, InboxFull};

use super::Intake;

/// Slack's own window: older requests may be replays.
const WINDOW_SECONDS: u64 = 300;
const BODY_LIMIT: usize = 1 << 20;
const RETRY_AFTER_SECONDS: &str = "5";

/// Why a request is not believed. The words go to whoever sent it, so they say nothing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    #[error("no signing secret is configured")]
    NoSecret,
    #[error("the header x-slack-request-timestamp is missing or not a number")]
    NoTimestamp,
    #[error("the timestamp is more than 300 s away from our clock")]
    OutsideWindow,
    #[error("the header x-slack-signature is missing or not v0=<64 hex digits>")]
    NoSignature,
    #[error("the signature does not match the body")]
    Mismatch,
}

struct Door {
    intake: Intake,
    secrets: Vec<String>,
    clock: Arc<dyn Clock>,
}

/// `/slack/events`, `/slack/interact` and `/slack/command`.
pub fn router(intake: Intake, signing_secrets: Vec<String>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/slack/events", post(on_event))
        .route("/slack/interact", post(on_interaction))
        .route("/slack/command", post(on_command))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(Door { intake, secrets: signing_secrets, clock }))
}

/// Checks `v0:timestamp:body` against each secret; two during a rotation.
pub fn verify(
    secrets: &[String],
    timestamp: Option<&str>,
    signature: Option<&str>,
    body: &[u8],
    wall_now: Timestamp,
) -> Result<(), NotSigned> {
    let usable = || secrets.iter().filter(|secret| !secret.is_empty());
    if usable().next().is_none() {
        return Err(NotSigned::NoSecret);
    }
    let timestamp = timestamp.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let timestamp = timestamp.ok_or(NotSigned::NoTimestamp)?;
    let sent: i64 = timestamp.parse().map_err(|_| NotSigned::NoTimestamp)?;
    if wall_now.millis().div_euclid(1000).abs_diff(sent) > WINDOW_SECONDS {
        return Err(NotSigned::OutsideWindow);
    }
    let signature =
        signature.and_then(|text| text.strip_prefix("v0=")).and_then(from_hex).ok_or(NotSigned::NoSignature)?;
    let matches = |secret: &String| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            return false;
        };
        mac.update(b"v0:");
        mac.update(timestamp.as_bytes());
        mac.update(b":");
        mac.update(body);
        // Constant time.
        mac.verify_slice(&signature).is_ok()
    };
    if usable().any(matches) { Ok(()) } else { Err(NotSigned::Mismatch) }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

async fn on_event(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(reason) = door.check(&headers, &body) {
        return unauthorized(reason);
    }
    match serde_json::from_slice::<SlackPushEvent>(&body) {
        Ok(SlackPushEvent::UrlVerification(check)) => axum::Json(json!({"challenge": check.challenge})).into_response(),
        Ok(SlackPushEvent::EventCallback(event)) => answer(door.intake.push(event).await),
        Ok(SlackPushEvent::AppRateLimited(limit)) => {
            tracing::warn!(minute = ?limit.minute_rate_limited, "slack drops events of this app for a minute");
            StatusCode::OK.into_response()
        }
        Err(error) => unreadable(&error.to_string()),
    }
}

async fn on_interaction(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(reason) = door.check(&headers, &body) {
        return unauthorized(reason);
    }
    let payload = url::form_urlencoded::parse(&body).find(|(name, _)| name == "payload").map(|(_, value)| value);
    let Some(payload) = payload else {
        return unreadable("no payload field");
    };
    match serde_json::from_str::<SlackInteractionEvent>(&payload) {
        Ok(event) => answer(door.intake.interaction(event).await),
        Err(error) => unreadable(&error.to_string()),
    }
}

async fn on_command(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(reason) = door.check(&headers, &body) {
        return unauthorized(reason);
    }
    match from_form::<SlackCommandEvent>(&body) {
        Ok(event) => match door.intake.command(event).await {
            Ok(()) => axum::Json(json!({"response_type": "ephemeral", "text": "Got it."})).into_response(),
            Err(full) => answer(Err(full)),
        },
        Err(error) => unreadable(&error.to_string()),
    }
}

fn from_form<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let fields =
        url::form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::from(value.as_ref())));
    serde_json::from_value(Value::Object(fields.collect()))
}

impl Door {
    fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), NotSigned> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (timestamp, signature) = (text("x-slack-request-timestamp"), text("x-slack-signature"));
        verify(&self.secrets, timestamp, signature, body, self.clock.wall_now())
    }
}

fn answer(kept: Result<(), InboxFull>) -> Response {
    match kept {
        Ok(()) => StatusCode::OK.into_response(),
        Err(full) => {
            tracing::error!(error = %full, "slack delivery refused");
            let body = axum::Json(json!({"error": "the inbox does not accept at the moment"}));
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)], body).into_response()
        }
    }
}

fn unauthorized(reason: NotSigned) -> Response {
    tracing::warn!(%reason, "slack request not believed");
    (StatusCode::UNAUTHORIZED, axum::Json(json!({"error": reason.to_string()}))).into_response()
}

fn unreadable(reason: &str) -> Response {
    tracing::warn!(reason, "slack request not understood");
    (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "not a payload that midwatch reads"}))).into_response()
}
