//! The console's routes. Pages are one shell; what they show comes as JSON and is put in as text.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::acts::Known;
use super::guard::{ACT_HEADER, Refusal, keep_out_strangers};
use super::view::{EvidenceItem, IncidentPage, IncidentRow, StatusView};
use super::{Author, Console, Metric, NotSaid, Room, StoredMessage, funnel_svg, metric_svg, topology_svg};
use crate::domain::card::{ButtonAction, Card};
use crate::domain::command::Hint;
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;
use crate::ports::{ChatError, FromPeople, Inbox, MessageRef, Person, Place};

/// What the pages show, read from the one log. Errors say that the log cannot be read: a page that showed
/// nothing then would look like a quiet night.
#[async_trait]
pub trait Pages: Send + Sync + 'static {
    /// Open incidents first, each group newest first.
    async fn incidents(&self) -> anyhow::Result<Vec<IncidentRow>>;
    async fn incident(&self, id: &str) -> anyhow::Result<Option<IncidentPage>>;
    async fn evidence(&self, id: &str) -> anyhow::Result<Option<EvidenceItem>>;
    /// An SVG document; `path` is what follows `/picture/`.
    async fn picture(&self, path: &str) -> anyhow::Result<Option<String>>;
    async fn status(&self) -> anyhow::Result<StatusView>;
    /// How a command that is being typed can go on.
    async fn hints(&self, text: &str) -> Vec<Hint>;
}

const MOST_WORDS: usize = 4000;
const MOST_REASON: usize = 1000;
const MOST_BODY: usize = 32 * 1024;
const MOST_LISTED: usize = 200;

/// Pictures hold their own styles and must not run anything when opened by themselves.
const PICTURE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

#[derive(Clone)]
struct Desk {
    console: Arc<Console>,
    inbox: Arc<dyn Inbox>,
    pages: Arc<dyn Pages>,
}

pub fn router(console: Arc<Console>, inbox: Arc<dyn Inbox>, pages: Arc<dyn Pages>) -> Router {
    let hosts = console.settings.hosts.clone();
    Router::new()
        .route("/", get(shell))
        .route("/watch", get(shell))
        .route("/incident/{id}", get(shell))
        .route("/evidence/{id}", get(shell))
        .route("/assets/{name}", get(asset))
        .route("/favicon.ico", get(|| asset(Path("mark.svg".into()))))
        .route("/incident/{id}/topology.svg", get(topology_picture))
        .route("/incident/{id}/funnel.svg", get(funnel_picture))
        .route("/evidence/{id}/graph.svg", get(evidence_picture))
        .route("/watch/funnel.svg", get(watch_funnel_picture))
        .route("/picture/{*path}", get(picture))
        .route("/api/channels", get(channels))
        .route("/api/messages", get(messages))
        .route("/api/thread", get(thread))
        .route("/api/stream", get(stream))
        .route("/api/act", post(act))
        .route("/api/forms", get(forms))
        .route("/api/incidents", get(incidents))
        .route("/api/incidents/{id}", get(incident))
        .route("/api/evidence/{id}", get(evidence))
        .route("/api/status", get(status))
        .route("/api/hints", get(hints))
        .fallback(async || nothing("page", "the address", "go to /"))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(axum::middleware::from_fn_with_state(hosts, keep_out_strangers))
        .with_state(Desk { console, inbox, pages })
}

async fn shell() -> Response {
    typed("text/html; charset=utf-8", include_str!("index.html"))
}

async fn asset(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "app.js" => typed("text/javascript; charset=utf-8", include_str!("app.js")),
        "page.js" => typed("text/javascript; charset=utf-8", include_str!("page.js")),
        "acts.js" => typed("text/javascript; charset=utf-8", include_str!("acts.js")),
        "cards.js" => typed("text/javascript; charset=utf-8", include_str!("cards.js")),
        "composer.js" => typed("text/javascript; charset=utf-8", include_str!("composer.js")),
        "dom.js" => typed("text/javascript; charset=utf-8", include_str!("dom.js")),
        "style.css" => typed("text/css; charset=utf-8", include_str!("style.css")),
        "mark.svg" => svg(include_str!("mark.svg").to_owned()),
        _ => nothing("asset", &name, "reload the page").into_response(),
    }
}

fn typed(kind: &'static str, body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

fn svg(body: String) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PICTURE_POLICY));
    ([kind, policy], body).into_response()
}

fn nothing(what: &str, which: &str, remedy: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no such {what}"), which, remedy)
}

/// Logged here, because nobody above does.
fn unreadable(why: anyhow::Error) -> Refusal {
    tracing::warn!(error = %format!("{why:#}"), "a page could not be read");
    let what = format!("what this page shows cannot be read: {why:#}");
    let remedy = "try again in a moment; /readyz and midwatch check say how the store is";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, what, "the store", remedy)
}

async fn picture(State(desk): State<Desk>, Path(path): Path<String>) -> Result<Response, Refusal> {
    let found = desk.pages.picture(&path).await.map_err(unreadable)?;
    found.map(svg).ok_or_else(|| nothing("picture", &path, "it may have expired"))
}

async fn topology_picture(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let page = find_incident(&desk, &id).await?;
    Ok(svg(topology_svg(&page.topology.nodes, &page.topology.edges)))
}

async fn funnel_picture(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let funnel = match find_incident(&desk, &id).await?.funnel {
        Some(funnel) => funnel,
        None => desk.pages.status().await.map_err(unreadable)?.funnel,
    };
    Ok(svg(funnel_svg(&funnel)))
}

async fn watch_funnel_picture(State(desk): State<Desk>) -> Result<Response, Refusal> {
    Ok(svg(funnel_svg(&desk.pages.status().await.map_err(unreadable)?.funnel)))
}

async fn evidence_picture(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let item = find_evidence(&desk, &id).await?;
    let metric = Metric {
        title: "",
        unit: &item.unit,
        series: item.series.as_deref().unwrap_or_default(),
        onset: item.onset,
        change: item.change.as_ref(),
        band: item.band,
    };
    Ok(svg(metric_svg(&metric)))
}

/// What each button asks, by its action: the same forms as Slack's dialogs.
async fn forms() -> Json<serde_json::Map<String, serde_json::Value>> {
    let form = |action: ButtonAction| Some((action.as_str().to_owned(), serde_json::to_value(action.form()?).ok()?));
    Json(ButtonAction::ALL.into_iter().filter_map(form).collect())
}

async fn incidents(State(desk): State<Desk>) -> Result<Json<Vec<IncidentRow>>, Refusal> {
    desk.pages.incidents().await.map(Json).map_err(unreadable)
}

async fn incident(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Json<IncidentPage>, Refusal> {
    find_incident(&desk, &id).await.map(Json)
}

async fn evidence(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Json<EvidenceItem>, Refusal> {
    find_evidence(&desk, &id).await.map(Json)
}

async fn status(State(desk): State<Desk>) -> Result<Json<StatusView>, Refusal> {
    desk.pages.status().await.map(Json).map_err(unreadable)
}

#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    text: String,
}

async fn hints(
    State(desk): State<Desk>,
    query: Result<Query<Typed>, QueryRejection>,
) -> Result<Json<Vec<Hint>>, Refusal> {
    let Query(Typed { text }) = query.map_err(bad_query)?;
    Ok(Json(desk.pages.hints(&text).await))
}

async fn find_incident(desk: &Desk, id: &str) -> Result<IncidentPage, Refusal> {
    let found = desk.pages.incident(id).await.map_err(unreadable)?;
    found.ok_or_else(|| nothing("incident", id, "list them with /ops incidents"))
}

async fn find_evidence(desk: &Desk, id: &str) -> Result<EvidenceItem, Refusal> {
    let found = desk.pages.evidence(id).await.map_err(unreadable)?;
    found.ok_or_else(|| nothing("evidence", id, "open it from its incident's page"))
}

#[derive(Serialize)]
struct ChannelView {
    name: String,
    messages: usize,
    last_ts: Option<String>,
}

/// A message as the page draws it.
#[derive(Serialize)]
struct MessageView {
    channel: String,
    ts: String,
    thread: Option<String>,
    at: Timestamp,
    edited_at: Option<Timestamp>,
    author: Author,
    whisper: bool,
    card: Card,
    revision: u64,
    replies: usize,
    last_reply_at: Option<Timestamp>,
}

impl MessageView {
    fn of(message: &StoredMessage, room: &Room, reader: &Person) -> Self {
        let mut replies = room.replies_to(&message.ts).filter(|reply| reply.visible_to(&reader.id));
        let last_reply_at = replies.next_back().map(|reply| reply.posted_at);
        Self {
            channel: message.channel.clone(),
            ts: message.ts.clone(),
            thread: message.thread.clone(),
            at: message.posted_at,
            edited_at: message.edited_at,
            author: message.author.clone(),
            whisper: message.only_for.is_some(),
            card: message.card.clone(),
            revision: message.revision,
            replies: replies.count() + usize::from(last_reply_at.is_some()),
            last_reply_at,
        }
    }
}

async fn channels(State(desk): State<Desk>) -> Json<serde_json::Value> {
    let room = desk.console.room.lock().await;
    let settings = &desk.console.settings;
    let blank = |name: &String| ChannelView { name: name.clone(), messages: 0, last_ts: None };
    let mut channels: Vec<ChannelView> = settings.channels.iter().map(blank).collect();
    for message in room.messages.values().filter(|message| message.visible_to(&settings.person.id)) {
        let known = channels.iter().position(|channel| channel.name == message.channel).unwrap_or_else(|| {
            channels.push(blank(&message.channel));
            channels.len() - 1
        });
        if let Some(channel) = channels.get_mut(known) {
            channel.messages += 1;
            channel.last_ts = Some(message.ts.clone());
        }
    }
    Json(serde_json::json!({
        "person": settings.person, "channels": channels, "revision": room.revision, "instance": desk.console.instance,
    }))
}

#[derive(Deserialize)]
struct InChannel {
    channel: String,
    /// Only messages older than this ts: the way back in time.
    before: Option<String>,
}

#[derive(Serialize)]
struct Messages {
    messages: Vec<MessageView>,
    /// Whether there are older ones.
    more: bool,
    /// What the reader has now seen; the live stream goes on from here.
    revision: u64,
}

async fn messages(
    State(desk): State<Desk>,
    query: Result<Query<InChannel>, QueryRejection>,
) -> Result<Json<Messages>, Refusal> {
    let Query(InChannel { channel, before }) = query.map_err(bad_query)?;
    let room = desk.console.room.lock().await;
    let reader = &desk.console.settings.person;
    let mut newest_first = room.messages.values().rev().filter(|message| {
        message.channel == channel
            && message.thread.is_none()
            && message.visible_to(&reader.id)
            && before.as_ref().is_none_or(|before| message.ts < *before)
    });
    let mut messages: Vec<_> =
        newest_first.by_ref().take(MOST_LISTED).map(|message| MessageView::of(message, &room, reader)).collect();
    messages.reverse();
    let more = newest_first.next().is_some();
    Ok(Json(Messages { messages, more, revision: room.revision }))
}

#[derive(Deserialize)]
struct InThread {
    channel: String,
    ts: String,
}

#[derive(Serialize)]
struct Thread {
    root: MessageView,
    replies: Vec<MessageView>,
    revision: u64,
}

async fn thread(
    State(desk): State<Desk>,
    query: Result<Query<InThread>, QueryRejection>,
) -> Result<Json<Thread>, Refusal> {
    let Query(InThread { channel, ts }) = query.map_err(bad_query)?;
    let room = desk.console.room.lock().await;
    let reader = &desk.console.settings.person;
    let root = room
        .get(&MessageRef { channel, ts: ts.clone() })
        .filter(|message| message.visible_to(&reader.id))
        .ok_or_else(|| nothing("message", &ts, "reload the channel; only the newest messages are held"))?;
    let replies = room
        .replies_to(&ts)
        .filter(|reply| reply.visible_to(&reader.id))
        .map(|reply| MessageView::of(reply, &room, reader))
        .collect();
    Ok(Json(Thread { root: MessageView::of(root, &room, reader), replies, revision: room.revision }))
}

fn bad_query(why: QueryRejection) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        why.body_text(),
        "the address's query",
        "name the channel, and the thread's ts",
    )
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
    /// The instance that gave that revision; left out: this one.
    of: Option<String>,
}

/// What the reader has seen already.
enum Seen {
    Here(u64),
    /// Numbers of another process say nothing about ours.
    Elsewhere,
}

/// `INSTANCE.REVISION`, as our events are numbered.
fn resumed(id: &str, instance: &str) -> Seen {
    let ours = id.rsplit_once('.').filter(|(of, _)| *of == instance);
    ours.and_then(|(_, revision)| revision.parse().ok()).map_or(Seen::Elsewhere, Seen::Here)
}

/// Everything that changed after the revision the reader names, then whatever changes from now on.
async fn stream(
    State(desk): State<Desk>,
    headers: HeaderMap,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let Query(After { after, of }) = query.map_err(bad_query)?;
    let instance = desk.console.instance.clone();
    let changes = desk.console.revision.subscribe();
    let now = *changes.borrow();
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let seen = match (last, after) {
        (Some(id), _) => resumed(id, &instance),
        (None, _) if of.as_ref().is_some_and(|of| *of != instance) => Seen::Elsewhere,
        (None, after) => Seen::Here(after.unwrap_or(now)),
    };
    let hello = serde_json::json!({"instance": instance}).to_string();
    let (first, seen) = match seen {
        Seen::Here(seen) if seen <= now => (Event::default().event("hello").data(hello), seen),
        // It counts by another process, or saw more than we have: it has to read everything again.
        Seen::Here(_) | Seen::Elsewhere => {
            (Event::default().event("reset").id(format!("{instance}.{now}")).data(hello), now)
        }
    };
    let follow = Follow { console: desk.console, changes, seen, ready: [first].into() };
    let events = futures::stream::unfold(follow, async |mut follow| Some((Ok(follow.next().await?), follow)));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

struct Follow {
    console: Arc<Console>,
    changes: watch::Receiver<u64>,
    seen: u64,
    ready: std::collections::VecDeque<Event>,
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.read().await;
            if self.ready.is_empty() {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    () = self.console.closing.cancelled() => return None,
                }
            }
        }
    }

    async fn read(&mut self) {
        let room = self.console.room.lock().await;
        let reader = &self.console.settings.person;
        for (revision, ts) in room.by_revision.range(self.seen + 1..) {
            let Some(message) = room.messages.get(ts).filter(|message| message.visible_to(&reader.id)) else {
                continue;
            };
            // A reply changes its root's count, so the root goes out with it, and first: only the
            // message itself carries the id, or a connection cut in between would lose it.
            if let Some(root) = message.thread.as_ref().and_then(|root| room.messages.get(root)) {
                let view = MessageView::of(root, &room, reader);
                self.ready.extend(Event::default().event("message").json_data(&view).ok());
            }
            let view = MessageView::of(message, &room, reader);
            let event = Event::default().event("message").id(format!("{}.{revision}", self.console.instance));
            self.ready.extend(event.json_data(&view).ok());
        }
        self.seen = self.seen.max(room.revision);
    }
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Act {
    Click { channel: String, message: String, action: ButtonAction, value: String, reason: Option<String> },
    Command { channel: String, thread: Option<String>, text: String },
    Mention { channel: String, thread: Option<String>, text: String },
}

#[derive(Serialize)]
struct Accepted {
    accepted: bool,
    /// The person's own message, when the act is words.
    ts: Option<String>,
}

async fn act(
    State(desk): State<Desk>,
    headers: HeaderMap,
    body: Result<Json<Act>, JsonRejection>,
) -> Result<(StatusCode, Json<Accepted>), Refusal> {
    let Json(act) = body.map_err(|why| {
        Refusal::new(
            why.status(),
            why.body_text(),
            "the request's body",
            "send a click, a command or a mention as JSON",
        )
    })?;
    let name = headers.get(ACT_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let known = desk.console.acts.lock().await.begin(name, &Digest::of_json(&act));
    if known == Known::Other {
        return Err(other_act());
    }
    let done = hand_on(&desk, &format!("console:{name}"), act).await;
    if done.is_err() && known == Known::New {
        desk.console.acts.lock().await.failed(name);
    }
    done.map(|said| (StatusCode::ACCEPTED, Json(Accepted { accepted: true, ts: said.map(|message| message.ts) })))
}

/// What was sent first under the name counts, so whoever changed the words must not believe that these do.
fn other_act() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "something else was sent under this name before, and counts",
        format!("{ACT_HEADER} header"),
        "look at what was sent, and send what you want now as a new act, under a name of its own",
    )
}

/// Gives the person's own message, when the act is words.
async fn hand_on(desk: &Desk, dedupe: &str, act: Act) -> Result<Option<MessageRef>, Refusal> {
    let by = desk.console.settings.person.clone();
    let (said, act) = match act {
        Act::Click { channel, message, action, value, reason } => {
            (None, click(desk, channel, message, by, action, value, reason).await?)
        }
        Act::Command { channel, thread, text } => {
            let text = words(&text, MOST_WORDS)?;
            let place = said_at(desk, channel, thread, dedupe, &format!("/ops {text}")).await?;
            (place.message.clone(), FromPeople::Command { place, by, text })
        }
        Act::Mention { channel, thread, text } => {
            let text = words(&text, MOST_WORDS)?;
            let place = said_at(desk, channel, thread, dedupe, &text).await?;
            (place.message.clone(), FromPeople::Mention { place, by, text })
        }
    };
    desk.inbox.accept(dedupe, act).await.map_err(|full| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string(), "the inbox", "try again in a moment")
    })?;
    Ok(said)
}

async fn click(
    desk: &Desk,
    channel: String,
    ts: String,
    by: Person,
    action: ButtonAction,
    value: String,
    reason: Option<String>,
) -> Result<FromPeople, Refusal> {
    let reason =
        reason.filter(|reason| !reason.trim().is_empty()).map(|reason| words(&reason, MOST_REASON)).transpose()?;
    if action.asks_for_reason() && reason.is_none() {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{} needs a reason", action.as_str()),
            "reason",
            "say in a few words why",
        ));
    }
    let message = MessageRef { channel: channel.clone(), ts };
    let room = desk.console.room.lock().await;
    let known = room.get(&message).ok_or_else(|| nothing("message", &message.ts, "reload the channel"))?;
    // Where the click was made is read from the message, not from what the page claims.
    let thread = known.thread.clone().map(|ts| MessageRef { channel: channel.clone(), ts });
    let place = Place { channel, thread, message: Some(message), command: None };
    Ok(FromPeople::Click { place, by, action, value, reason })
}

/// Shows the person's words before they are handed on, so that an answer has something to reply to.
async fn said_at(
    desk: &Desk,
    channel: String,
    thread: Option<String>,
    dedupe: &str,
    text: &str,
) -> Result<Place, Refusal> {
    if channel.is_empty() || channel.len() > 80 {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "a channel has 1 to 80 bytes",
            "channel",
            "pick one",
        ));
    }
    let thread = thread.map(|ts| MessageRef { channel: channel.clone(), ts });
    let message = desk.console.say(&channel, thread.as_ref(), dedupe, text).await.map_err(|why| {
        let why = match why {
            NotSaid::OtherWords => return other_act(),
            NotSaid::Chat(why) => why,
        };
        let status = match why {
            ChatError::Refused(_) | ChatError::NoChannel(_) | ChatError::NoMessage(_) => StatusCode::NOT_FOUND,
            ChatError::RateLimited(_) | ChatError::Unknown(_) | ChatError::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Refusal::new(status, why.to_string(), "the conversation", "reload the page and try again")
    })?;
    Ok(Place { channel, thread, message: Some(message), command: None })
}

fn words(text: &str, most: usize) -> Result<String, Refusal> {
    let text = text.trim();
    let length = text.chars().count();
    if (1..=most).contains(&length) {
        return Ok(text.to_owned());
    }
    let what = format!("the text has {length} characters");
    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, what, "text", format!("write 1 to {most} characters")))
}
