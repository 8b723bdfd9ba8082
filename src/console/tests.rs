//! The console through its two doors: the `Chat` port and HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::sample::{Answering, Night, Shelf, root_card, tell};
use super::*;
use crate::domain::card::{ButtonAction, Tone};
use crate::ports::{FromPeople, SystemClock};

async fn open(shelf: &Arc<Shelf>) -> Arc<Console> {
    Console::new(Settings::default(), "one".into(), shelf.clone(), Arc::new(SystemClock)).await.unwrap()
}

async fn ask(router: &axum::Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "127.0.0.1:7717").body(Body::empty()).unwrap()
}

fn act(name: &str, body: Value) -> Request<Body> {
    Request::post("/api/act")
        .header("host", "127.0.0.1:7717")
        .header("content-type", "application/json")
        .header(guard::ACT_HEADER, name)
        .body(Body::from(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn messages_outlive_the_process_and_ts_only_grows() {
    let shelf = Arc::new(Shelf::default());
    let console = open(&shelf).await;
    let (root, plan) = tell(&console).await;
    let resolved = root_card("Resolved", Tone::Good);
    console.edit(&root, &resolved).await.unwrap();
    let again = open(&shelf).await;
    let after = again.post("ops", None, "later", &root_card("New", Tone::Alarm)).await.unwrap();
    assert!(root.ts < plan.ts && plan.ts < after.ts);
    let room = again.room.lock().await;
    assert_eq!(room.get(&root).unwrap().card, resolved);
    assert_eq!(room.replies_to(&root.ts).count(), 2);
}

#[tokio::test]
async fn a_key_posts_once_and_is_found_in_its_place_only() {
    let console = open(&Arc::default()).await;
    let (root, plan) = tell(&console).await;
    let card = root_card("x", Tone::Neutral);
    assert_eq!(console.post("ops", Some(&root), "plan", &card).await, Ok(plan.clone()));
    assert_eq!(console.find("ops", Some(&root), "plan").await, Ok(vec![plan.clone()]));
    assert_eq!(console.find("ops", None, "plan").await, Ok(vec![]));
    let reply = console.post("ops", Some(&plan), "deeper", &card).await.unwrap();
    assert_eq!(console.room.lock().await.get(&reply).unwrap().thread, Some(root.ts), "one level of threads");
    let lost = MessageRef { channel: "ops".into(), ts: "1.000000".into() };
    assert!(matches!(console.edit(&lost, &card).await, Err(ChatError::Refused(_))));
    assert!(matches!(console.post("ops", Some(&lost), "k", &card).await, Err(ChatError::Refused(_))));
}

#[tokio::test]
async fn a_double_click_counts_once_and_its_place_is_not_believed() {
    let console = open(&Arc::default()).await;
    let (root, plan) = tell(&console).await;
    let inbox = Arc::new(Answering::default());
    let router = router(console, inbox.clone(), Arc::new(Night::default()));
    let click = json!({"kind": "click", "channel": "ops", "message": plan.ts, "action": "approve", "value": "v"});
    for _ in 0..2 {
        assert_eq!(ask(&router, act("0f8fad5b-d9cb", click.clone())).await.0, StatusCode::ACCEPTED);
    }
    let acts = inbox.acts.lock().unwrap();
    let [FromPeople::Click { place, by, action: ButtonAction::Approve, .. }] = acts.as_slice() else {
        panic!("{acts:?}")
    };
    assert_eq!((place.thread.as_ref(), by.id.as_str()), (Some(&root), "local/you"));
}

#[tokio::test]
async fn wrong_acts_say_what_to_do() {
    let console = open(&Arc::default()).await;
    let (_, plan) = tell(&console).await;
    let router = router(console, Arc::new(Answering::default()), Arc::new(Night::default()));
    let reject = json!({"kind": "click", "channel": "ops", "message": plan.ts, "action": "reject", "value": "v"});
    for (body, expected) in [
        (reject, StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"kind": "mention", "channel": "ops", "text": "  "}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"kind": "mention", "channel": "ops", "text": "x".repeat(4001)}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"kind": "mention", "channel": "ops", "text": "x".repeat(40_000)}), StatusCode::PAYLOAD_TOO_LARGE),
        (json!({"kind": "mention", "channel": "ops", "thread": "9.9", "text": "x"}), StatusCode::NOT_FOUND),
        (json!({"kind": "dance"}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (status, answer) = ask(&router, act("0f8fad5b-d9cc", body)).await;
        assert_eq!(status, expected, "{answer}");
        assert!(answer["error"]["what_to_do"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn words_are_shown_once_and_can_be_replied_to() {
    let console = open(&Arc::default()).await;
    let inbox = Arc::new(Answering::default());
    let router = router(console.clone(), inbox.clone(), Arc::new(Night::default()));
    let mention = json!({"kind": "mention", "channel": "ops", "text": "why <b>?"});
    let (_, first) = ask(&router, act("0f8fad5b-aaaa", mention.clone())).await;
    let (_, second) = ask(&router, act("0f8fad5b-aaaa", mention)).await;
    assert_eq!(first["ts"], second["ts"]);
    let (_, listed) = ask(&router, get("/api/messages?channel=ops")).await;
    assert_eq!(listed["messages"].as_array().unwrap().len(), 1);
    assert_eq!(listed["messages"][0]["card"]["blocks"][0]["spans"][0]["span"], "quoted");
    assert_eq!(inbox.acts.lock().unwrap().len(), 1);
}

/// What was sent first under a name counts; whoever changed the words is told so.
#[tokio::test]
async fn an_edited_retry_is_not_taken_for_the_same() {
    const NAME: &str = "0f8fad5b-bbbb";
    let shelf = Arc::new(Shelf::default());
    let console = open(&shelf).await;
    let (root, plan) = tell(&console).await;
    let inbox = Arc::new(Answering::default());
    let doors = router(console, inbox.clone(), Arc::new(Night::default()));
    let says = |kind: &str, text: &str| json!({"kind": kind, "channel": "ops", "text": text});
    let mut elsewhere = says("mention", "/ops help");
    elsewhere["thread"] = json!(root.ts);
    let click = json!({"kind": "click", "channel": "ops", "message": plan.ts, "action": "approve", "value": "v"});
    assert_eq!(ask(&doors, act(NAME, says("mention", "/ops help"))).await.0, StatusCode::ACCEPTED);
    assert_eq!(ask(&doors, act(NAME, says("mention", "/ops help"))).await.0, StatusCode::ACCEPTED);
    for other in [says("mention", "/ops status"), says("command", "help"), elsewhere, click.clone()] {
        let (status, answer) = ask(&doors, act(NAME, other)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(answer["error"]["what_to_do"].as_str().unwrap().contains("new act"), "{answer}");
    }
    let mut rejected = click.clone();
    rejected["value"] = json!("w");
    assert_eq!(ask(&doors, act("0f8fad5b-cccc", click)).await.0, StatusCode::ACCEPTED);
    assert_eq!(ask(&doors, act("0f8fad5b-cccc", rejected)).await.0, StatusCode::CONFLICT);
    assert_eq!(inbox.acts.lock().unwrap().len(), 2);

    let again = router(open(&shelf).await, inbox, Arc::new(Night::default()));
    assert_eq!(ask(&again, act(NAME, says("mention", "/ops status"))).await.0, StatusCode::CONFLICT);
    assert_eq!(ask(&again, act(NAME, says("mention", "/ops help"))).await.0, StatusCode::ACCEPTED);
    // What was refused was not done, so its name is free.
    let nowhere = json!({"kind": "mention", "channel": "ops", "thread": "9.9", "text": "x"});
    assert_eq!(ask(&again, act("0f8fad5b-dddd", nowhere)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&again, act("0f8fad5b-dddd", says("mention", "y"))).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_whisper_is_for_one_person() {
    let console = open(&Arc::default()).await;
    let (root, _) = tell(&console).await;
    let place = Place { channel: "ops".into(), thread: Some(root.clone()), message: None, command: None };
    let card = root_card("whispered", Tone::Neutral);
    console.whisper(&place, &PersonId::new("local/you"), &card).await.unwrap();
    console.whisper(&place, &PersonId::new("local/ada"), &card).await.unwrap();
    let router = router(console, Arc::new(Answering::default()), Arc::new(Night::default()));
    let (_, thread) = ask(&router, get(&format!("/api/thread?channel=ops&ts={}", root.ts))).await;
    assert_eq!((thread["replies"].as_array().unwrap().len(), thread["root"]["replies"].as_u64()), (3, Some(3)));
}

#[tokio::test]
async fn the_stream_resumes_where_the_reader_stopped() {
    let console = open(&Arc::default()).await;
    let (root, _) = tell(&console).await;
    let seen = *console.revision.borrow();
    console.edit(&root, &root_card("Mitigated", Tone::Working)).await.unwrap();
    let router = router(console.clone(), Arc::new(Answering::default()), Arc::new(Night::default()));
    let mut request = get("/api/stream");
    request.headers_mut().insert("last-event-id", format!("one.{seen}").parse().unwrap());
    let mut body = router.clone().oneshot(request).await.unwrap().into_body().into_data_stream();
    let mut read = String::new();
    while !read.contains("Mitigated") {
        read.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    console.post("ops", Some(&root), "live", &root_card("live", Tone::Good)).await.unwrap();
    while !read.contains("live") {
        read.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(read.contains(&format!("id: one.{}", *console.revision.borrow())), "{read}");
    console.close();
    while body.next().await.is_some() {}
}

/// Whoever comes from another process counts by its numbers, which may be higher or lower than ours.
#[tokio::test]
async fn numbers_of_another_process_are_not_believed() {
    let console = open(&Arc::default()).await;
    tell(&console).await;
    let router = router(console.clone(), Arc::new(Answering::default()), Arc::new(Night::default()));
    assert_eq!(ask(&router, get("/api/channels")).await.1["instance"], "one");
    // Streams end at once, after what they begin with.
    console.close();
    for (path, last, wanted) in [
        ("/api/stream", None, "hello"),
        ("/api/stream?after=1", None, "hello"),
        ("/api/stream?after=1&of=one", None, "hello"),
        ("/api/stream?after=1&of=two", None, "reset"),
        ("/api/stream?of=two", None, "reset"),
        ("/api/stream?after=999", None, "reset"),
        ("/api/stream", Some("one.1"), "hello"),
        ("/api/stream", Some("one.999"), "reset"),
        ("/api/stream", Some("two.1"), "reset"),
        ("/api/stream", Some("1"), "reset"),
        ("/api/stream?after=1&of=one", Some("two.1"), "reset"),
    ] {
        let mut request = get(path);
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", last.parse().unwrap());
        }
        let text = axum::body::to_bytes(router.clone().oneshot(request).await.unwrap().into_body(), 1 << 20).await;
        let text = String::from_utf8(text.unwrap().to_vec()).unwrap();
        let first = text.split("\n\n").next().unwrap();
        assert!(first.contains(&format!("event: {wanted}")), "{path} {last:?}: {first}");
        assert!(first.contains(r#"data: {"instance":"one"}"#), "{path} {last:?}: {first}");
    }
}

#[tokio::test]
async fn replies_are_kept_when_their_root_is_too_old() {
    let shelf = Arc::new(Shelf::default());
    let (root, plan) = tell(&*open(&shelf).await).await;
    shelf.0.lock().unwrap().retain(|message| message.ts != root.ts);
    // Two processes have given the same number.
    shelf.0.lock().unwrap().iter_mut().for_each(|message| message.revision = 7);
    let console = open(&shelf).await;
    let card = root_card("more", Tone::Neutral);
    assert_eq!(console.post("ops", Some(&root), "plan", &card).await, Ok(plan));
    let more = console.post("ops", Some(&root), "more", &card).await.unwrap();
    {
        let room = console.room.lock().await;
        assert_eq!(room.get(&more).unwrap().thread.as_ref(), Some(&root.ts));
        assert_eq!(room.by_revision.len(), room.messages.len());
    }
    let router = router(console, Arc::new(Answering::default()), Arc::new(Night::default()));
    let (status, answer) = ask(&router, get(&format!("/api/thread?channel=ops&ts={}", root.ts))).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
}

#[tokio::test]
async fn pages_and_pictures_are_served_strictly() {
    let console = open(&Arc::default()).await;
    let router = router(console, Arc::new(Answering::default()), Arc::new(Night::default()));
    for (path, kind) in [
        ("/", "text/html"),
        ("/incident/INC-214", "text/html"),
        ("/evidence/INC-214.E1", "text/html"),
        ("/assets/app.js", "text/javascript"),
        ("/assets/style.css", "text/css"),
        ("/picture/INC-214/E1", "image/svg+xml"),
        ("/incident/INC-214/topology.svg", "image/svg+xml"),
        ("/incident/INC-214/funnel.svg", "image/svg+xml"),
        ("/evidence/INC-214.E1/graph.svg", "image/svg+xml"),
        ("/api/incidents/INC-214", "application/json"),
        ("/api/status", "application/json"),
    ] {
        let response = router.clone().oneshot(get(path)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert!(header("content-security-policy").contains("default-src 'none'"), "{path}");
    }
    let (status, answer) = ask(&router, get("/api/incidents/INC-9")).await;
    assert_eq!((status, answer["error"]["where"].as_str()), (StatusCode::NOT_FOUND, Some("INC-9")));
    let mut foreign = get("/api/channels");
    foreign.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(ask(&router, foreign).await.0, StatusCode::MISDIRECTED_REQUEST);
}

/// A page without incidents would look like a quiet night.
#[tokio::test]
async fn a_store_that_fails_is_told() {
    let console = open(&Arc::default()).await;
    let night = Night { failure: Some("the disk is full"), ..Night::default() };
    let router = router(console, Arc::new(Answering::default()), Arc::new(night));
    for path in [
        "/api/incidents",
        "/api/incidents/INC-214",
        "/api/evidence/INC-214.E1",
        "/api/status",
        "/picture/INC-214/E1",
        "/incident/INC-214/topology.svg",
        "/incident/INC-214/funnel.svg",
        "/evidence/INC-214.E1/graph.svg",
        "/watch/funnel.svg",
    ] {
        let (status, answer) = ask(&router, get(path)).await;
        assert_eq!((status, answer["error"]["where"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("the store")));
        assert!(answer["error"]["what"].as_str().unwrap().contains("the disk is full"), "{path}: {answer}");
    }
}

/// `MIDWATCH_SAMPLE_CONSOLE=127.0.0.1:7717 cargo test --lib console::tests::the_sample_night`
/// keeps the page up, for looking at it and for `tests/console.mjs`.
#[tokio::test]
async fn the_sample_night_is_served() {
    let console = open(&Arc::default()).await;
    let (root, _) = tell(&console).await;
    let inbox = Answering { console: Some(console.clone()), ..Answering::default() };
    let router = router(console, Arc::new(inbox), Arc::new(Night { root: Some(root), ..Night::default() }));
    let Ok(address) = std::env::var("MIDWATCH_SAMPLE_CONSOLE") else {
        assert_eq!(ask(&router, get("/api/channels")).await.1["channels"][0]["name"], "ops");
        return;
    };
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}
