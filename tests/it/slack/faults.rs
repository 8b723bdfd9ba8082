//! What each fault of Slack becomes: the outbox decides by these whether it may post again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{self, get};
use midwatch::adapters::slack::{SlackChat, SlackConfig};
use midwatch::domain::card::{Block, Card, Span};
use midwatch::ports::{Chat, ChatError, MessageRef};
use serde_json::json;

use super::support::root_card;

/// Status, headers, body.
type Answer = (u16, Vec<(&'static str, &'static str)>, serde_json::Value);

/// A server that answers everything alike; `None` reads the request and hangs up.
async fn server(answer: Option<Answer>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api", listener.local_addr().unwrap());
    match answer {
        Some((status, headers, body)) => {
            let reply = move || async move {
                let mut response = (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response();
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                response
            };
            tokio::spawn(async move { axum::serve(listener, Router::new().fallback(reply)).await });
        }
        None => {
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut buffer = [0; 4096];
                    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
                }
            });
        }
    }
    base
}

fn chat(base: &str) -> SlackChat {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = SlackConfig::new("xoxb-test", "C1");
    config.api_base = Some(base.into());
    // Known, so that it need not be asked for.
    config.team_id = Some("T1".into());
    SlackChat::new(config).unwrap()
}

#[tokio::test]
async fn a_team_that_is_not_configured_is_asked_for_before_the_first_post() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let posted: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = posted.clone();
    let hear = move |body: String| async move {
        heard.lock().unwrap().push(body);
        axum::Json(json!({"ok": true, "channel": "C1", "ts": "1.1", "message": {"ts": "1.1", "text": "x"}}))
    };
    let who = || async { axum::Json(json!({"ok": true, "team_id": "T1", "user_id": "UB", "bot_id": "BB"})) };
    let router = Router::new().route("/api/auth.test", get(who)).route("/api/chat.postMessage", routing::post(hear));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SlackConfig::new("xoxb-test", "C1");
    config.api_base = Some(format!("http://{}/api", listener.local_addr().unwrap()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let spans = vec![Span::Person { id: "T1/UA".into() }];
    let card = Card { fallback: "x".into(), blocks: vec![Block::Text { spans }] };
    // How well the answer fits the library's model is not what this is about.
    let _ = SlackChat::new(config).unwrap().post("C1", None, "k", &card).await;
    let posted = posted.lock().unwrap().join("\n");
    assert!(posted.contains(r#"{"type":"user","user_id":"UA"}"#), "{posted}");
}

async fn post(base: &str) -> ChatError {
    chat(base).post("C1", None, "k", &root_card("x")).await.unwrap_err()
}

async fn edit(base: &str) -> ChatError {
    let message = MessageRef { channel: "C1".into(), ts: "1.1".into() };
    chat(base).edit(&message, &root_card("x")).await.unwrap_err()
}

#[tokio::test]
async fn each_fault_says_whether_the_post_may_have_happened() {
    let limited = server(Some((429, vec![("retry-after", "7")], json!({"ok": false, "error": "ratelimited"})))).await;
    assert_eq!(post(&limited).await, ChatError::RateLimited(Duration::from_secs(7)));

    let broken = server(Some((503, vec![], json!({})))).await;
    assert!(matches!(post(&broken).await, ChatError::Unknown(_)));
    assert!(matches!(edit(&broken).await, ChatError::Unavailable(_)));

    let cut = server(None).await;
    let error = post(&cut).await;
    assert!(matches!(error, ChatError::Unknown(_)), "{error}");

    let error = post("http://127.0.0.1:1/api").await;
    assert!(matches!(error, ChatError::Unavailable(_)), "{error}");

    let needed = json!({"ok": false, "error": "missing_scope", "needed": "chat:write", "provided": "commands"});
    let scopeless = server(Some((200, vec![], needed))).await;
    let ChatError::Unavailable(words) = post(&scopeless).await else { panic!("lost for good") };
    assert!(words.contains("chat:write"), "{words}");

    // A proxy on the way says no: nothing of it is Slack's word.
    for status in [403, 407] {
        let proxy = server(Some((status, vec![], json!("denied")))).await;
        assert!(matches!(post(&proxy).await, ChatError::Unavailable(_)), "{status}");
        assert!(matches!(edit(&proxy).await, ChatError::Unavailable(_)), "{status}");
    }
}

#[tokio::test]
async fn check_names_the_missing_scopes() {
    let identity = json!({"ok": true, "user": "midwatch", "user_id": "U1", "team": "T", "team_id": "T1"});
    let base = server(Some((200, vec![("x-oauth-scopes", "chat:write,commands")], identity))).await;
    let ChatError::Refused(words) = chat(&base).check().await.unwrap_err() else { panic!("not refused") };
    assert!(words.contains("app_mentions:read") && !words.contains("chat:write"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_names_each_missing_scope_and_what_it_is_for() {
    let identity = json!({
        "ok": true, "user": "midwatch", "user_id": "U1", "team": "Night Watch", "team_id": "T1",
        "channel": {"name": "incidents", "is_member": false}, "url": "wss://example.test",
    });
    let scopes = "chat:write,commands,app_mentions:read,im:history,users:read,channels:read";
    let base = server(Some((200, vec![("x-oauth-scopes", scopes)], identity))).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("midwatch.toml");
    let text = format!(
        "[slack]\nbot_token = \"xoxb-x\"\napp_token = \"xapp-x\"\nchannel = \"C1\"\nteam_id = \"T1\"\napi_base = \"{base}\"\n\
         [store]\ndata_dir = {:?}\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text).unwrap();
    let words = ["check", "--slack", "--config", config.to_str().unwrap()].map(str::to_owned);
    let said = tokio::task::spawn_blocking(move || crate::harness::run(words)).await.unwrap().expect(1).stdout;
    let bad: Vec<&str> = said.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(bad.len(), 3, "{said}");
    assert!(bad[0].contains("channels:history") && bad[0].contains("posted twice"), "{said}");
    assert!(bad[1].contains("usergroups:read"), "{said}");
    assert!(bad[2].contains("/invite @midwatch"), "{said}");
    assert!(said.contains("files:write") && said.contains("Socket Mode, 2 sockets"), "{said}");
    assert!(!said.contains("runbooks"), "only Slack: {said}");
}
