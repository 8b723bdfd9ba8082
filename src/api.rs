//! Health, metrics, webhook intake, and what people and their tools ask. A 2xx means: durable (P1).

mod changes;
mod guard;
mod metrics;
mod ops;
mod people;

pub use changes::DeskChanges;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::adapters::kafka::dead_letter::{DeadLetter, DeadLetterSink, Resting};
use crate::adapters::kafka::member::{GroupHealth, GroupSink};
use crate::adapters::kafka::{AlertBatch, AlertSink, vet};
use crate::domain::intake::structured_event;
use crate::flow::Desk;
use crate::flow::desk::Counters;
use crate::flow::gate::Arrival;
use crate::ports::{FromPeople, Inbox, InboxFull};
use crate::store::{Ended, ListedIncident};

/// Incidents that are over in the list, when nobody says how many.
const OVER: i64 = 200;
const MOST_OVER: i64 = 5_000;

pub fn router(desk: Arc<Desk>) -> Router {
    let limit = desk.config.server.max_body_bytes;
    let door = Arc::new(guard::Door::of(&desk.config));
    let known = Arc::new(metrics::LastKnown::default());
    let told = move |State(desk): State<Arc<Desk>>| {
        let known = known.clone();
        async move { metrics::metrics(&desk, &known).await }
    };
    // Whoever looks after the process may ask by any name.
    let health = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(metrics::ready))
        .route("/metrics", get(told));
    Router::new()
        // The format is told by the content; the last word of the path is for people who read logs.
        .route("/webhooks/{source}", post(webhook))
        .route("/webhooks/changes", post(changes::announce))
        // Where Prometheus sends its alerts: midwatch can be named in its `alerting` section.
        .route("/api/v2/alerts", post(alertmanager_api))
        .route("/api/v1/silences", get(silences).post(people::silence))
        .route("/api/v1/silences/{id}", delete(people::unsilence))
        .route("/api/v1/funnel", get(people::funnel))
        .route("/api/v1/log-news", get(people::log_news))
        .route("/api/v1/alerts/{what}", get(people::alert))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/ops", get(ops::help).post(ops::order))
        .route_layer(axum::middleware::from_fn_with_state(door, guard::keep_out_pages))
        .merge(health)
        .layer(DefaultBodyLimit::max(limit))
        .with_state(desk)
}

/// An Alertmanager webhook (v4), an array of alerts, or one alert.
async fn webhook(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    match take_in(&desk, &headers, body).await {
        Ok(Some(key)) => {
            // In PagerDuty's words, whose clients end the alert by this key.
            let said = json!({"status": "success", "message": "Event processed", "dedup_key": key});
            (StatusCode::ACCEPTED, Json(said)).into_response()
        }
        Ok(None) => (StatusCode::ACCEPTED, Json(json!({"status": "accepted"}))).into_response(),
        Err(refused) => refused,
    }
}

/// The same door in the words of Alertmanager's API, whose clients want 200.
async fn alertmanager_api(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match take_in(&desk, &headers, body).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(refused) => refused,
    }
}

/// Returns when what was sent is durable, with the key of the alert when its sender wants it back.
async fn take_in(
    desk: &Desk,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Option<String>, Response> {
    admit(desk, headers)?;
    let body = match body {
        Ok(body) => body,
        Err(refused) => {
            Counters::add(&desk.counters.payloads_rejected, 1);
            let limit = desk.config.server.max_body_bytes;
            let what = format!("the body cannot be read: {refused}; the limit is {limit} bytes");
            return Err(problem(refused.status(), &what, "send smaller groups, or raise server.max_body_bytes"));
        }
    };
    let bytes = in_binary_mode(headers, body);
    let taken = vet(&bytes, &desk.mappings, desk.clock.event_now()).map_err(|reason| {
        Counters::add(&desk.counters.payloads_rejected, 1);
        problem(StatusCode::BAD_REQUEST, &reason, "see the README for the shapes that are understood")
    })?;
    let depth = desk.gate.depth();
    if depth >= desk.config.server.max_inbox {
        return Err(later(&format!("{depth} batches wait")));
    }
    let key = taken.dedup_key().map(str::to_owned);
    let arrival = Arrival { source: "webhook", dedupe: None, frames: Arc::new(vec![(bytes, taken)]) };
    desk.gate.enter(arrival).await.map_err(|failure| later(&failure.to_string()))?;
    Ok(key)
}

/// The body of whoever may write here.
#[allow(clippy::result_large_err)] // an answer that its caller passes on as it is
fn admitted(
    desk: &Desk,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    remedy: &str,
) -> Result<Bytes, Response> {
    admit(desk, headers)?;
    body.map_err(|refused| problem(refused.status(), &refused.to_string(), remedy))
}

/// Who writes shows the token, when there is one.
#[allow(clippy::result_large_err)] // an answer that its caller passes on as it is
fn admit(desk: &Desk, headers: &HeaderMap) -> Result<(), Response> {
    let Some(token) = desk.config.server.webhook_token.reveal() else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if same(given.as_bytes(), format!("Bearer {token}").as_bytes()) || is_password(given, token) {
        return Ok(());
    }
    let mut refused = problem(
        StatusCode::UNAUTHORIZED,
        "the bearer token is missing or wrong",
        "send Authorization: Bearer <server.webhook_token>",
    );
    // Amazon SNS sends the credentials of its URL only after it was asked for them.
    let asks = header::HeaderValue::from_static(r#"Basic realm="midwatch""#);
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
    Err(refused)
}

/// Whether the body is said to be JSON. A browser sends that from another site's page only after asking, and
/// is not answered.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/json")
}

/// Senders that can only put credentials into their URL (Amazon SNS) give the token as a password.
fn is_password(given: &str, token: &str) -> bool {
    use base64::Engine as _;
    let decoded = given.strip_prefix("Basic ").and_then(|text| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
        String::from_utf8(bytes).ok()
    });
    decoded.is_some_and(|pair| pair.split_once(':').is_some_and(|(_, given)| same(given.as_bytes(), token.as_bytes())))
}

/// A CloudEvent in binary mode has its attributes in headers: it is put into the structured form, so
/// that the inbox holds all of it.
fn in_binary_mode(headers: &HeaderMap, body: Bytes) -> Bytes {
    let attributes: BTreeMap<String, String> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    structured_event(&attributes, &body).map_or(body, Bytes::from)
}

async fn silences(State(desk): State<Arc<Desk>>) -> Response {
    match crate::flow::silence::all(&desk).await {
        Ok(silences) => Json(json!(silences.list().collect::<Vec<_>>())).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), "try again"),
    }
}

/// Compares without telling by its time how much was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn later(why: &str) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, why, "nothing was taken in; send it again");
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
    response
}

fn problem(status: StatusCode, what: &str, remedy: &str) -> Response {
    (status, Json(json!({"error": what, "remedy": remedy}))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    over: Option<i64>,
}

/// `GET /api/v1/incidents?over=50`: all that are open and the newest that are over, oldest first.
async fn incidents(State(desk): State<Arc<Desk>>, Query(Listing { over }): Query<Listing>) -> Response {
    let over = over.unwrap_or(OVER);
    if !(0..=MOST_OVER).contains(&over) {
        let what = format!("over is {over}, which is no number of incidents that are listed");
        return problem(StatusCode::BAD_REQUEST, &what, &format!("give over=0 to over={MOST_OVER}"));
    }
    match desk.store.listed_incidents(Ended::All, over).await {
        Ok(mut listed) => {
            listed.sort_by_key(|one| one.number);
            Json(json!({"incidents": listed.iter().map(incident_row).collect::<Vec<_>>()})).into_response()
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), "try again"),
    }
}

fn incident_row(listed: &ListedIncident) -> serde_json::Value {
    match listed.incident() {
        Ok(incident) => json!({
            "id": incident.id, "title": incident.title, "severity": incident.severity,
            "severity_because": incident.severity_because,
            "state": incident.state.word(), "since": incident.since, "alerts": incident.alert_count(),
            "service": incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone()),
            "owner": incident.owner, "accepted": incident.owner.as_ref().map(|_| incident.is_taken()),
        }),
        // It does not hide the others.
        Err(why) => json!({
            "id": listed.id, "title": format!("cannot be read: {why}"), "severity": null, "severity_because": "",
            "state": listed.state, "since": listed.opened_at(), "alerts": 0, "service": null, "owner": null,
            "accepted": null,
        }),
    }
}

/// The durable inbox behind chats and sources.
pub struct DeskInbox {
    pub desk: Arc<Desk>,
    /// Name of the chat, so that answers go back to it.
    pub chat: String,
}

#[async_trait]
impl Inbox for DeskInbox {
    async fn accept(&self, dedupe: &str, act: FromPeople) -> Result<(), InboxFull> {
        let body = serde_json::to_string(&act).map_err(|error| InboxFull(error.to_string()))?;
        let dedupe = format!("{}:{dedupe}", self.chat);
        self.desk
            .store
            .take_in(&self.chat, "people", Some(&dedupe), &body, self.desk.clock.wall_now())
            .await
            .map_err(|error| InboxFull(error.to_string()))?;
        self.desk.bells.people.notify_one();
        Ok(())
    }
}

#[async_trait]
impl AlertSink for DeskInbox {
    fn received_at(&self) -> crate::domain::time::Timestamp {
        self.desk.clock.event_now()
    }

    async fn accept(&self, batch: AlertBatch) -> anyhow::Result<()> {
        // P11: more than this waiting, and Kafka keeps what comes.
        while self.desk.gate.depth() >= self.desk.config.server.max_inbox && !self.desk.stopping() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let arrival = Arrival { source: "kafka", dedupe: Some(batch.dedupe), frames: batch.payloads };
        Ok(self.desk.gate.enter(arrival).await?)
    }
}

impl GroupSink for DeskInbox {
    fn heard(&self, topic: &str, health: GroupHealth) {
        self.desk.neighbours.heard_of_topic("kafka", topic, (health.away, health.lag), self.desk.clock.wall_now());
    }
}

#[async_trait]
impl DeadLetterSink for DeskInbox {
    async fn dead_letter(&self, letter: &DeadLetter<'_>, resting: &Resting) -> anyhow::Result<()> {
        Ok(self.desk.audit("alert.dead_letter", &letter.origin(), letter.told(resting)).await?)
    }
}
