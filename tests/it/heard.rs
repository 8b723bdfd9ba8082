//! What fires is heard of, whatever lies between: restarts, mutes that end, batches, other words.

use std::sync::{Arc, Mutex};

use axum::http::Uri;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::crash::stored;
use crate::harness::{alert, serve};
use crate::talking::Talking;

fn ended(alert: &Value) -> Value {
    let mut ended = alert.clone();
    ended["status"] = json!("resolved");
    ended["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    ended
}

fn began(alert: &Value, seconds_ago: i64) -> Value {
    let mut began = alert.clone();
    began["startsAt"] = json!((chrono::Utc::now() - chrono::TimeDelta::seconds(seconds_ago)).to_rfc3339());
    began
}

const QUICK: &str = "[investigation]\nsettle_seconds = 0\n";

async fn in_peoples_hands(talking: &Talking, id: &str) {
    talking.incident(id, |incident| incident["state"] == "handed_over").await;
}

async fn over(talking: &Talking, id: &str) {
    talking.incident(id, |incident| incident["state"] == "resolved").await;
}

#[tokio::test]
async fn what_fires_anew_after_a_restart_is_no_repeat_and_an_end_counts_once() {
    let mut talking = Talking::start(QUICK).await;
    let (one, two) = (began(&alert("Down", "pay"), 100), began(&alert("Down", "cart"), 100));
    let mut other = two.clone();
    other["labels"]["pod"] = json!("cart-1");
    talking.send(&[one.clone(), two.clone(), other.clone()]).await;
    for id in ["INC-1", "INC-2"] {
        in_peoples_hands(&talking, id).await;
    }
    let end = ended(&two);
    talking.send(&[ended(&one), end.clone()]).await;
    over(&talking, "INC-1").await;
    talking.again().await;
    // Kafka delivers twice around a restart; the other pod fires on.
    talking.send(&[end, began(&one, 0)]).await;
    let new = talking.incident("INC-3", |_| true).await;
    assert_eq!(new["title"], "pay: Down");
    talking.send(&[ended(&other)]).await;
    over(&talking, "INC-2").await;
    assert_eq!(talking.incidents().await.len(), 3);
}

#[tokio::test]
async fn an_end_and_a_beginning_in_one_message_leave_it_firing() {
    let talking = Talking::start(QUICK).await;
    let fired = alert("Down", "pay");
    let first = began(&fired, 120);
    talking.send(&[first.clone(), ended(&first), began(&fired, 1)]).await;
    in_peoples_hands(&talking, "INC-1").await;
    let message = [ended(&fired), began(&fired, 0)];
    talking.send(&message).await;
    talking.send(&[alert("Down", "cart")]).await;
    in_peoples_hands(&talking, "INC-2").await;
    assert_eq!(talking.incident("INC-1", |_| true).await["state"], "handed_over");
    talking.send(&[ended(&fired)]).await;
    over(&talking, "INC-1").await;
}

#[tokio::test]
async fn what_was_muted_is_told_when_that_ends_also_after_a_restart() {
    let mut talking = Talking::start(QUICK).await;
    talking.ops("silence service=\"pay\" for 25s because a drill").await;
    talking.until("the silence", async || talking.get("/api/v1/silences").await.contains("S1").then_some(())).await;
    let mut fired = alert("Down", "pay");
    fired["labels"]["team"] = json!("payments");
    talking.send(&[fired.clone()]).await;
    talking
        .until("its verdict", async || talking.get("/api/v1/alerts/Down").await.contains("silenced").then_some(()))
        .await;
    talking.again().await;
    talking.incident("INC-1", |_| true).await;
    let told = stored(&talking.data()).await.remove(0);
    assert_eq!((&told["title"], &told["team"]), (&json!("pay: Down"), &json!("payments")), "{told}");
    // It is a member, and stays the only one.
    talking.again().await;
    talking.send(&[ended(&fired)]).await;
    over(&talking, "INC-1").await;
    assert_eq!(talking.incidents().await.len(), 1);
}

#[tokio::test]
async fn what_had_to_fire_for_a_while_is_one_incident_over_restarts() {
    let more = format!("{QUICK}[[prefilter.debounce]]\nmatchers = \"alertname=Slow\"\nfor_seconds = 3\n");
    let mut talking = Talking::start(&more).await;
    let fired = alert("Slow", "pay");
    talking.send(std::slice::from_ref(&fired)).await;
    in_peoples_hands(&talking, "INC-1").await;
    talking.again().await;
    talking.send(&[alert("Down", "cart")]).await;
    in_peoples_hands(&talking, "INC-2").await;
    talking.send(&[ended(&fired)]).await;
    over(&talking, "INC-1").await;
    assert_eq!(talking.incidents().await.len(), 2);
}

#[tokio::test]
async fn what_gets_graver_under_the_senders_own_name_is_told() {
    let talking = Talking::start(QUICK).await;
    let event = |severity: &str| {
        json!({"routing_key": "R", "event_action": "trigger", "dedup_key": "disk-db-77",
               "payload": {"summary": "/var fills", "source": "db-77", "severity": severity}})
    };
    for severity in ["info", "critical"] {
        let address = format!("http://{}/webhooks/pagerduty", talking.api);
        let request = talking.http.post(address);
        let request = request.header("content-type", "application/json").body(event(severity).to_string());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    let told = talking.incident("INC-1", |_| true).await;
    assert_ne!(told["severity"], "SEV4", "{told}");
}

#[tokio::test]
async fn what_becomes_grave_is_said_and_not_only_edited() {
    let talking = Talking::start(QUICK).await;
    talking.send(&[alert("Down", "pay")]).await;
    in_peoples_hands(&talking, "INC-1").await;
    let mut felt = alert("CheckoutFails", "pay");
    felt["labels"]["user_facing"] = json!("true");
    talking.send(&[felt]).await;
    talking.in_thread("INC-1", "INC-1 is SEV2 now").await;
}

/// A workspace that has the bot in one channel only; gives what was posted, and where.
async fn workspace(posted: Arc<Mutex<Vec<Value>>>) -> String {
    let answer = move |uri: Uri, body: String| {
        let posted = posted.clone();
        async move {
            if !uri.path().ends_with("chat.postMessage") {
                return Json(json!({"ok": true, "messages": [], "user_id": "U0WATCH", "team_id": "T1", "user": "w",
                                   "team": "t", "url": "https://t.slack.com/", "bot_id": "B1"}));
            }
            let said: Value = serde_json::from_str(&body).unwrap();
            let (channel, mut posted) = (said["channel"].clone(), posted.lock().unwrap());
            if channel != "C1" {
                return Json(json!({"ok": false, "error": "not_in_channel"}));
            }
            posted.push(said);
            let ts = format!("1795140000.{:06}", posted.len());
            Json(json!({"ok": true, "channel": channel, "ts": ts,
                        "message": {"ts": ts, "type": "message", "text": "said", "user": "U0WATCH"}}))
        }
    };
    serve(Router::new().fallback(answer)).await + "/api"
}

#[tokio::test]
async fn a_route_into_a_channel_that_is_gone_is_told_in_the_chats_own() {
    let posted: Arc<Mutex<Vec<Value>>> = Arc::default();
    let url = workspace(posted.clone()).await;
    let more = format!(
        "[slack]\nbot_token = \"xoxb-x\"\nsigning_secrets = [\"s\"]\nchannel = \"C1\"\napi_base = {url:?}\nteam_id = \"T1\"\n\
         [[routing.route]]\nmatchers = 'service=\"pay\"'\nchannel = \"C0GONE\"\n{QUICK}"
    );
    let talking = Talking::start(&more).await;
    talking.send(&[alert("Down", "pay")]).await;
    let told = talking
        .until("a post in the chat's own channel", async || {
            posted.lock().unwrap().iter().find(|post| post.to_string().contains("INC-1")).cloned()
        })
        .await;
    assert!(told.to_string().contains("its route's channel C0GONE cannot be written to"), "{told}");
    // What stands in its thread follows it there.
    talking
        .until("its thread", async || {
            posted.lock().unwrap().iter().any(|post| post["thread_ts"] == "1795140000.000001").then_some(())
        })
        .await;
}
