//! Where other systems announce what they changed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{admitted, later, problem};
use crate::adapters::kafka::changes::{ChangeSink, Kept};
use crate::adapters::kafka::dead_letter::{DeadLetter, DeadLetterSink, Resting};
use crate::adapters::kafka::member::{GroupHealth, GroupSink};
use crate::domain::change::announced;
use crate::flow::Desk;

#[derive(Deserialize)]
pub(super) struct Asked {
    /// For senders that name none, or by another name than the topology.
    service: Option<String>,
}

/// 202 when what was announced is durable.
pub(super) async fn announce(
    State(desk): State<Arc<Desk>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match admitted(&desk, &headers, body, "send less at once") {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    match keep(&desk, &body, asked.service.as_deref()).await {
        Ok(Kept::Changes(count)) => {
            (StatusCode::ACCEPTED, Json(json!({"status": "accepted", "changes": count}))).into_response()
        }
        Ok(Kept::Refused(why)) => {
            problem(StatusCode::BAD_REQUEST, &why, "see the README for the shapes that are understood")
        }
        Err(failure) => later(&failure.to_string()),
    }
}

async fn keep(desk: &Desk, body: &[u8], service: Option<&str>) -> anyhow::Result<Kept> {
    let event_now = desk.clock.event_now();
    let read = serde_json::from_slice(body)
        .map_err(|why| format!("this is not JSON: {why}"))
        .and_then(|payload| announced::read(&payload, service, event_now));
    match read {
        Ok(changes) => {
            desk.store.announce(&changes, event_now).await?;
            Ok(Kept::Changes(changes.len()))
        }
        Err(why) => Ok(Kept::Refused(why)),
    }
}

/// The same door for a topic of Kafka.
pub struct DeskChanges(pub Arc<Desk>);

#[async_trait::async_trait]
impl ChangeSink for DeskChanges {
    async fn accept(&self, payload: &[u8]) -> anyhow::Result<Kept> {
        keep(&self.0, payload, None).await
    }
}

impl GroupSink for DeskChanges {
    fn heard(&self, topic: &str, health: GroupHealth) {
        self.0.neighbours.heard_of_topic("kafka_changes", topic, (health.away, health.lag), self.0.clock.wall_now());
    }
}

#[async_trait::async_trait]
impl DeadLetterSink for DeskChanges {
    async fn dead_letter(&self, letter: &DeadLetter<'_>, resting: &Resting) -> anyhow::Result<()> {
        Ok(self.0.audit("change.dead_letter", &letter.origin(), letter.told(resting)).await?)
    }
}
