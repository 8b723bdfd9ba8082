//! What fires is heard of, whatever lies between: restarts, mutes that end, batches, other words.

use std::sync::atomic::{AtomicBool, Ordering};
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
    workspace_that(posted, |method, said| {
        (method == "chat.postMessage" && said["channel"] != "C1").then_some("not_in_channel")
    })
    .await
}

/// A workspace that answers some calls with an error, by method and body.
async fn workspace_that(
    posted: Arc<Mutex<Vec<Value>>>,
    error: impl Fn(&str, &Value) -> Option<&'static str> + Send + Sync + 'static,
) -> String {
    let error = Arc::new(error);
    let answer = move |uri: Uri, body: String| {
        let (posted, error) = (posted.clone(), error.clone());
        async move {
            let method = uri.path().rsplit('/').next().unwrap();
            let said: Value = serde_json::from_str(&body).unwrap_or_default();
            if let Some(error) = error(method, &said) {
                return Json(json!({"ok": false, "error": error}));
            }
            if method != "chat.postMessage" && method != "chat.update" {
                return Json(json!({"ok": true, "messages": [], "user_id": "U0WATCH", "team_id": "T1", "user": "w",
                                   "team": "t", "url": "https://t.slack.com/", "bot_id": "B1"}));
            }
            let (channel, mut posted) = (said["channel"].clone(), posted.lock().unwrap());
            let ts = match method {
                "chat.update" => said["ts"].as_str().unwrap().to_owned(),
                _ => {
                    posted.push(said);
                    format!("1795140000.{:06}", posted.len())
                }
            };
            Json(json!({"ok": true, "channel": channel, "ts": ts, "text": "said",
                        "message": {"ts": ts, "type": "message", "text": "said", "user": "U0WATCH"}}))
        }
    };
    serve(Router::new().fallback(answer)).await + "/api"
}

fn in_slack(url: &str, more: &str) -> String {
    format!(
        "[slack]\nbot_token = \"xoxb-x\"\nsigning_secrets = [\"s\"]\nchannel = \"C1\"\napi_base = {url:?}\nteam_id = \"T1\"\n\
         {more}{QUICK}"
    )
}

/// Waits for such a message, and gives it.
async fn until_posted(
    talking: &Talking,
    posted: &Mutex<Vec<Value>>,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    talking.until(what, async || posted.lock().unwrap().iter().find(|post| wanted(post)).cloned()).await
}

#[tokio::test]
async fn what_a_bad_token_kept_back_is_told_when_it_is_mended() {
    let (posted, mended): (Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>) = Default::default();
    let is_mended = mended.clone();
    let url = workspace_that(posted.clone(), move |method, _| {
        (method == "chat.postMessage" && !is_mended.load(Ordering::Relaxed)).then_some("invalid_auth")
    })
    .await;
    let talking = Talking::start(&in_slack(&url, "")).await;
    talking.send(&[alert("Down", "pay")]).await;
    in_peoples_hands(&talking, "INC-1").await;
    talking
        .until("a status that says so", async || {
            talking.ordered("", "status").await.contains("invalid_auth: the token is not valid any more").then_some(())
        })
        .await;
    mended.store(true, Ordering::Relaxed);
    until_posted(&talking, &posted, "the root", |post| post["thread_ts"].is_null()).await;
    until_posted(&talking, &posted, "its thread", |post| post.to_string().contains("This needs a person")).await;
}

#[tokio::test]
async fn a_channel_that_is_archived_later_swallows_nothing() {
    let (posted, archived): (Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>) = Default::default();
    let is_archived = archived.clone();
    let url = workspace_that(posted.clone(), move |_, said| {
        (said["channel"] == "C2" && is_archived.load(Ordering::Relaxed)).then_some("is_archived")
    })
    .await;
    let route = "[[routing.route]]\nmatchers = 'service=\"pay\"'\nchannel = \"C2\"\n";
    let talking = Talking::start(&in_slack(&url, route)).await;
    talking.send(&[alert("Down", "pay")]).await;
    in_peoples_hands(&talking, "INC-1").await;
    until_posted(&talking, &posted, "its thread", |post| post["channel"] == "C2" && post["thread_ts"].is_string())
        .await;
    archived.store(true, Ordering::Relaxed);
    let mut felt = alert("CheckoutFails", "pay");
    felt["labels"]["user_facing"] = json!("true");
    talking.send(&[felt]).await;
    let in_own = |post: &Value| post["channel"] == "C1" && post.to_string().contains("INC-1 is SEV2 now");
    let told = until_posted(&talking, &posted, "it in the chat's own channel", in_own).await;
    assert!(told["thread_ts"].is_string(), "below a root of its own: {told}");
}

#[tokio::test]
async fn a_command_from_where_the_bot_may_not_post_is_answered_by_its_own_way_back() {
    let answers: Arc<Mutex<Vec<Value>>> = Arc::default();
    let heard = answers.clone();
    let url = workspace_that(Arc::default(), move |method, said| {
        if method == "way-back" {
            heard.lock().unwrap().push(said.clone());
        }
        (method.starts_with("chat.post") && said["channel"] != "C1").then_some("not_in_channel")
    })
    .await;
    let talking = Talking::start(&in_slack(&url, "")).await;
    let command = async |text: &str, trigger: &str| {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("team_id", "T1"), ("channel_id", "C9"), ("user_id", "U0GUEST"), ("command", "/ops")])
            .extend_pairs([("text", text), ("trigger_id", trigger), ("response_url", &format!("{url}/way-back"))])
            .finish();
        let now = chrono::Utc::now().timestamp().to_string();
        let post = talking.http.post(format!("http://{}/slack/command", talking.api));
        let signed = post.header("x-slack-signature", crate::slack::sign("s", &now, &body));
        let answer = signed.header("x-slack-request-timestamp", &now).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    let answered = async |wanted: &str| {
        let has = async || answers.lock().unwrap().iter().any(|one| one.to_string().contains(wanted)).then_some(());
        talking.until(wanted, has).await;
    };
    command("status", "1.1").await;
    answered("Only you see this, since I cannot post here").await;
    // What is refused is whispered, and that is refused there, too.
    command("take INC-1", "1.2").await;
    answered("policy.approvers").await;
}

#[tokio::test]
async fn a_root_that_somebody_deleted_is_posted_anew() {
    let (posted, deleted): (Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>) = Default::default();
    let is_deleted = deleted.clone();
    let url = workspace_that(posted.clone(), move |method, said| {
        let is_root = method == "chat.update" && said["ts"] == "1795140000.000001";
        (is_root && is_deleted.load(Ordering::Relaxed)).then_some("message_not_found")
    })
    .await;
    let talking = Talking::start(&in_slack(&url, "")).await;
    talking.send(&[alert("Down", "pay")]).await;
    in_peoples_hands(&talking, "INC-1").await;
    until_posted(&talking, &posted, "its thread", |post| post["thread_ts"].is_string()).await;
    deleted.store(true, Ordering::Relaxed);
    let mut felt = alert("CheckoutFails", "pay");
    felt["labels"]["user_facing"] = json!("true");
    talking.send(&[felt]).await;
    talking
        .until("a second root", async || {
            let posted = posted.lock().unwrap();
            (posted.iter().filter(|post| post["thread_ts"].is_null()).count() == 2).then_some(())
        })
        .await;
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
