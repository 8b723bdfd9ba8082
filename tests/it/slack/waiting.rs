//! What people see who wait: an answer that grows in one message, and the app's home.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};

use super::emulator::{CHANNEL, Emulator, WORKSPACE};
use super::proxy::{Fault, Proxy};
use super::storm::{config, in_a_night};
use crate::harness::{Watch, alert, group, serve};

/// A Prometheus that takes its time and knows nothing.
async fn slow_prometheus() -> String {
    let reply = || async {
        tokio::time::sleep(Duration::from_millis(4500)).await;
        axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": []}}))
    };
    serve(Router::new().fallback(reply)).await
}

#[test]
fn a_slow_answer_grows_in_one_message() {
    in_a_night(async {
        for streams in [Fault::None, Fault::Streams] {
            grows(streams).await;
        }
    });
}

async fn grows(streams: Fault) {
    let _alone = WORKSPACE.lock().await;
    let Some(emulator) = Emulator::fresh().await else { return };
    let proxy = Proxy::before(&emulator.base).await;
    proxy.script(move |method, _| match method {
        "chat.startStream" | "chat.appendStream" | "chat.stopStream" => streams,
        _ => Fault::None,
    });
    let signals = format!("[signals]\nprometheus_url = \"{}\"\n", slow_prometheus().await);
    let watch = Watch::start(&format!("{}{signals}", config(&proxy.base))).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while proxy.sockets() < 1 {
        assert!(std::time::Instant::now() < deadline, "a socket");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let said = json!({"channel": CHANNEL, "user": "U01ANN", "text": "<@U0WATCH> diagnose checkout"});
    emulator.control("message", said).await;
    let answers = async || -> Vec<Value> {
        let messages = emulator.messages().await;
        messages.into_iter().filter(|message| message["user"] == "U0WATCH" || message["bot_id"].is_string()).collect()
    };
    watch
        .eventually("a sign of work", async || {
            answers()
                .await
                .iter()
                .any(|one| one["text"].as_str().is_some_and(|text| text.contains("I look into it")))
                .then_some(())
        })
        .await;
    watch
        .eventually("the answer", async || {
            answers()
                .await
                .iter()
                .any(|one| one["text"].as_str().is_some_and(|text| text.contains("checkout now")))
                .then_some(())
        })
        .await;
    // The command opens an incident, which has messages of its own.
    let of_incident = |one: &Value| one["text"].as_str().is_some_and(|text| text.starts_with("[SEV"));
    let roots: Vec<Value> = answers().await.into_iter().filter(of_incident).map(|root| root["ts"].clone()).collect();
    let told: Vec<Value> =
        answers().await.into_iter().filter(|one| !of_incident(one) && !roots.contains(&one["thread_ts"])).collect();
    assert_eq!(told.len(), 1, "the answer takes the place of what grew: {told:#?}");
    let calls = proxy.calls();
    let count = |method: &str| calls.iter().filter(|call| call.method == method).count();
    let grown = calls.iter().filter(|call| call.method == "chat.postMessage" && call.body.contains("I look into it"));
    let grown = grown.count();
    println!(
        "{streams:?}: startStream {}, appendStream {}, stopStream {}, postMessage {}, update {}, setStatus {}",
        count("chat.startStream"),
        count("chat.appendStream"),
        count("chat.stopStream"),
        grown,
        count("chat.update"),
        count("assistant.threads.setStatus")
    );
    assert!(count("assistant.threads.setStatus") >= 1);
    assert_eq!(count("chat.startStream"), 1, "asked once, and then known");
    let streamed = usize::from(streams == Fault::Streams);
    assert_eq!((count("chat.stopStream"), grown), (streamed, 1 - streamed));
}

#[test]
fn the_home_shows_what_is_open() {
    in_a_night(async {
        let _alone = WORKSPACE.lock().await;
        let Some(emulator) = Emulator::fresh().await else { return };
        let proxy = Proxy::before(&emulator.base).await;
        let watch = Watch::start(&config(&proxy.base)).await;
        assert_eq!(watch.post(group(&[alert("ServiceDown", "checkout")])).await.0, 202);
        watch.incident("checkout").await;
        watch
            .eventually("a home", async || {
                emulator.open_home("U01ANN").await;
                let calls = proxy.calls();
                let drawn = calls.iter().rev().find(|call| call.method == "views.publish")?;
                let body: Value = serde_json::from_str(&drawn.body).unwrap();
                assert_eq!((&body["user_id"], &body["view"]["type"]), (&json!("U01ANN"), &json!("home")));
                let blocks = body["view"]["blocks"].to_string();
                let whole = ["INC-1", "Open incidents", "What may run by itself", "audit chain"];
                whole.iter().all(|words| blocks.contains(words)).then_some(())
            })
            .await;
    });
}
