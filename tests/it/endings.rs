//! Incidents that end, and what comes after: the same alert again, merges of what has ended, rows that
//! nobody can read.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::harness::{alert, run, serve, text};
use crate::talking::Talking;

fn ended(mut alert: Value) -> Value {
    alert["status"] = json!("resolved");
    alert["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    alert
}

#[tokio::test]
async fn what_fires_again_after_its_incident_is_over_is_another_incident() {
    let talking = Talking::start("[investigation]\nsettle_seconds = 3\n").await;
    let first = alert("HighErrorRate", "checkout");
    talking.send(std::slice::from_ref(&first)).await;
    talking.incident("INC-1", |incident| incident["alerts"] == 1).await;
    talking.send(&[ended(first)]).await;
    // By the investigation, which finds nothing firing any more: no alert closes it.
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    talking.send(&[alert("HighErrorRate", "checkout")]).await;
    talking.incident("INC-2", |incident| incident["title"] == "checkout: HighErrorRate").await;
    let resolved = talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert_eq!(resolved["alerts"], 1, "{resolved}");
}

/// As Prometheus posts it: without a status, and with how long that counts.
fn posted(mut alert: Value, seconds: i64) -> Value {
    alert.as_object_mut().unwrap().remove("status");
    alert["endsAt"] = json!((chrono::Utc::now() + chrono::Duration::seconds(seconds)).to_rfc3339());
    alert
}

#[tokio::test]
async fn what_prometheus_does_not_post_any_more_has_ended() {
    let mut talking = Talking::start("[investigation]\nsettle_seconds = 0\n").await;
    let (dropped, kept) = (alert("HighErrorRate", "checkout"), alert("QueueFull", "mailer"));
    talking.send(&[posted(dropped, 4), posted(kept.clone(), 600)]).await;
    talking.incident("INC-1", |incident| incident["alerts"] == 1).await;
    talking.incident("INC-2", |incident| incident["alerts"] == 1).await;
    let handed = |incident: &Value| incident["state"] == "handed_over";
    talking.incident("INC-1", handed).await;
    talking
        .until("an end that nobody sent", async || {
            talking.send(&[posted(kept.clone(), 600)]).await;
            let of = talking.page("/api/incidents/INC-1").await;
            of.contains("the last one without a word: its sender stood for it until").then_some(of)
        })
        .await;
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    let other = talking.incident("INC-2", |_| true).await;
    assert_ne!(other["state"], "resolved", "{other}");
    let explained = talking.rows("SELECT explanation FROM alert WHERE verdict='resolve'").await;
    assert_eq!(explained.len(), 1, "{explained:?}");
    assert!(explained[0].ends_with("has not repeated it, while it goes on to speak of others"), "{explained:?}");
}

#[tokio::test]
async fn what_had_ended_before_a_merge_has_ended_after_it_and_its_owner_stays() {
    let talking = Talking::start("[investigation]\nsettle_seconds = 3600\n").await;
    talking.fire("search").await;
    talking.incident("INC-1", |incident| incident["alerts"] == 1).await;
    let (errors, slow) = (alert("HighErrorRate", "cart"), alert("HighLatency", "cart"));
    talking.send(std::slice::from_ref(&errors)).await;
    talking.incident("INC-2", |incident| incident["alerts"] == 1).await;
    talking.send(std::slice::from_ref(&slow)).await;
    talking.incident("INC-2", |incident| incident["alerts"] == 2).await;
    talking.send(&[ended(slow)]).await;
    let card = talking.with_button("acknowledge", "INC-2").await;
    talking.press(&card, "acknowledge", "INC-2", None).await;
    talking.incident("INC-2", |incident| incident["owner"] == "local/you").await;
    // The resolver explains what would have been an incident of its own a moment before.
    let dns = alert("CoreDNSDown", "coredns");
    talking.send(std::slice::from_ref(&dns)).await;
    talking.incident("INC-2", |incident| incident["state"] == "merged").await;
    let merged = talking.incident("INC-1", |incident| incident["alerts"] == 4).await;
    assert_eq!(merged["owner"], "local/you", "{merged}");
    let page: Value = serde_json::from_str(&talking.page("/api/incidents/INC-1").await).unwrap();
    let of = |name: &str| page["alerts"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert!(of("HighLatency")["reason"].as_str().unwrap().contains("0 still firing"), "{page}");
    assert!(of("HighErrorRate")["reason"].as_str().unwrap().contains("1 still firing"), "{page}");
    run(["audit", "verify", "--data-dir", text(&talking.data())]).expect(0);
}

#[tokio::test]
async fn to_pause_does_not_wait_behind_questions() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = asked.clone();
    let never = async move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::pending::<()>().await
    };
    let url = serve(Router::new().route("/v1/chat/completions", post(never))).await + "/v1";
    let talking = Talking::start(&format!("[model]\nname = \"silent\"\nbase_url = {url:?}\n")).await;
    for number in 0..6 {
        talking.mention(&format!("tell me all about estate {number}")).await;
    }
    talking
        .until("four questions at the model", async || {
            (asked.load(std::sync::atomic::Ordering::SeqCst) >= 4).then_some(())
        })
        .await;
    let began = Instant::now();
    let said = talking.asks("pause all drill").await;
    assert!(said.contains("PAUSED"), "{said}");
    // A question is given up after a minute and a half at the earliest.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(talking.get("/metrics").await.contains("midwatch_paused 1"));
}

#[tokio::test]
async fn an_incident_that_cannot_be_read_does_not_stop_the_watch() {
    let mut talking = Talking::start("[investigation]\nsettle_seconds = 3600\n").await;
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["alerts"] == 1).await;
    talking.stop();
    // As a newer version would have written it.
    change(&talking, "UPDATE incident SET body = replace(body, '\"open\"', '\"pondering\"')").await;
    talking.again().await;
    talking.fire("search").await;
    talking.incident("INC-2", |incident| incident["title"] == "search: Down").await;
    assert!(talking.log().contains("an incident is left out"), "{}", talking.log());
    assert!(talking.get("/metrics").await.contains("midwatch_incidents_unreadable 1"));
}

#[tokio::test]
async fn a_row_that_cannot_be_unpacked_is_set_aside_and_what_is_behind_it_judged() {
    let mut talking = Talking::start("[investigation]\nsettle_seconds = 3600\n").await;
    talking.stop();
    change(
        &talking,
        "INSERT INTO inbox(source,kind,dedupe,body,received_at,packed,frames) VALUES('webhook','alerts',NULL,'',1,x'0102',1)",
    )
    .await;
    talking.again().await;
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["title"] == "pay: Down").await;
    let told = talking.rows("SELECT subject || ' ' || body FROM audit WHERE kind='inbox.unreadable'").await;
    assert!(told.len() == 1 && told[0].starts_with("inbox 1 ") && told[0].contains("webhook"), "{told:?}");
}

#[tokio::test]
async fn what_was_no_incident_and_has_ended_is_closed_by_saying_so() {
    let mut talking = Talking::start("[investigation]\nsettle_seconds = 0\n").await;
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    talking.stop();
    // All has ended while it was in people's hands, and no end is to come.
    change(&talking, "UPDATE incident SET body = replace(body, '\"resolved\":0', '\"resolved\":1')").await;
    talking.again().await;
    let said = talking.asks("noise INC-1 because a drill").await;
    assert!(said.contains("was not an incident"), "{said}");
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
}

/// Of a watch that is stopped.
async fn change(talking: &Talking, sql: &'static str) {
    let path = talking.data().join("midwatch.db");
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(sql).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_incident_that_cannot_be_investigated_does_not_keep_the_others_waiting() {
    let mut talking = Talking::start("[investigation]\nsettle_seconds = 0\n").await;
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    talking.stop();
    // As a newer version would have written it, before anybody looked at it.
    let broken = "UPDATE incident SET state = 'open', body = replace(body, '\"handed_over\"', '\"pondering\"')";
    change(&talking, broken).await;
    talking.again().await;
    talking.fire("search").await;
    talking.incident("INC-2", |incident| incident["state"] == "handed_over").await;
    let tries = talking.log().matches("is tried again").count();
    assert!((1..5).contains(&tries), "{tries} tries\n{}", talking.log());
}
