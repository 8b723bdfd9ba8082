//! Wrong input at the doors: clocks that lie, labels that are none, order that is none.

use chrono::{Duration, Utc};
use serde_json::{Value, json};

use crate::harness::{Watch, alert, group};

fn at(offset: Duration) -> String {
    (Utc::now() + offset).to_rfc3339()
}

fn with(name: &str, service: &str, changes: &[(&str, Value)]) -> Value {
    let mut alert = alert(name, service);
    for (field, value) in changes {
        alert[*field] = value.clone();
    }
    alert
}

async fn taken(watch: &Watch, alerts: &[Value]) {
    let (status, text) = watch.post(group(alerts)).await;
    assert_eq!(status, 202, "{text}");
}

/// Waits until so many alerts have been judged.
async fn judged(watch: &Watch, count: f64) {
    watch
        .eventually(&format!("{count} judged alerts"), async || {
            (watch.metric("midwatch_alerts_received_total").await >= count).then_some(())
        })
        .await;
}

/// Seconds between now and what the incident says of its beginning.
fn age(incident: &Value) -> i64 {
    let since = incident["since"].as_i64().map(|millis| millis / 1000).unwrap_or_else(|| {
        chrono::DateTime::parse_from_rfc3339(incident["since"].as_str().unwrap()).unwrap().timestamp()
    });
    Utc::now().timestamp() - since
}

#[tokio::test]
async fn a_clock_that_cannot_be_right_is_not_believed_and_the_alert_is_kept() {
    let watch = Watch::start("").await;
    let future = with("Down", "from-the-future", &[("startsAt", json!("2099-01-01T00:00:00Z"))]);
    let past = with("Down", "from-the-past", &[("startsAt", json!("1971-01-01T00:00:00Z"))]);
    taken(&watch, &[future, past]).await;
    let incident = watch.incident("from-the-future").await;
    assert!(age(&incident).abs() < 60, "{incident}");
    // What is sent again must have the same beginning: the oldest day that is believed.
    let incident = watch.incident("from-the-past").await;
    assert!((399..402).contains(&(age(&incident) / 86_400)), "{incident}");
}

#[tokio::test]
async fn an_alert_that_has_fired_for_a_week_keeps_its_beginning() {
    let watch = Watch::start("").await;
    taken(&watch, &[with("Down", "old-friend", &[("startsAt", json!(at(Duration::days(-7))))])]).await;
    let incident = watch.incident("old-friend").await;
    assert!((age(&incident) - 7 * 86_400).abs() < 60, "{incident}");
}

#[tokio::test]
async fn sources_with_different_clocks_speak_of_one_incident() {
    let watch = Watch::start("").await;
    for (minutes, name) in [(9, "ErrorsSeenByTheProbe"), (-2, "ErrorsSeenByTheService"), (0, "Down")] {
        taken(&watch, &[with(name, "skewed", &[("startsAt", json!(at(Duration::minutes(minutes))))])]).await;
        judged(&watch, 1.0).await;
    }
    judged(&watch, 3.0).await;
    let incident = watch.eventually("all three in one incident", async || {
        let incident = watch.incidents().await.into_iter().find(|one| one.to_string().contains("skewed"))?;
        (incident["alerts"] == 3).then_some(incident)
    });
    incident.await;
    assert_eq!(watch.incidents().await.len(), 1, "{:?}", watch.incidents().await);
}

#[tokio::test]
async fn labels_that_are_none_are_refused_by_name_and_empty_ones_are_absent() {
    let watch = Watch::start("").await;
    let (status, text) = watch.post(json!([{"labels": {}, "startsAt": at(Duration::zero())}]).to_string()).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("labels"), "{text}");
    let nameless = json!([{"labels": {"service": "x"}, "startsAt": at(Duration::zero())}]);
    let (status, text) = watch.post(nameless.to_string()).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("alertname"), "{text}");

    // In Prometheus an empty label is an absent one: the two are one alert.
    let mut empty = alert("Down", "empty-label");
    empty["labels"]["zone"] = json!("");
    taken(&watch, &[empty]).await;
    watch.incident("empty-label").await;
    taken(&watch, &[alert("Down", "empty-label")]).await;
    judged(&watch, 2.0).await;
    let incident = watch.incident("empty-label").await;
    assert_eq!(incident["alerts"], 1, "{incident}");
}

#[tokio::test]
async fn ten_thousand_labels_are_refused_with_the_limit_and_the_group_goes_on() {
    let watch = Watch::start("").await;
    let mut wide = alert("Wide", "wide");
    for number in 0..10_000 {
        wide["labels"][format!("label_{number}")] = json!("x");
    }
    let (status, text) = watch.post(json!([wide]).to_string()).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("10004 labels") && text.contains("128"), "{text}");

    taken(&watch, &[wide, alert("Down", "beside-it")]).await;
    watch.incident("beside-it").await;
    assert_eq!(watch.metric("midwatch_alerts_refused_total").await, 1.0);
}

#[tokio::test]
async fn every_script_and_control_character_comes_through() {
    let watch = Watch::start("").await;
    let services = ["платежи", "支払い", "قائمة", "e\u{301}clair", "🛒-cart", "a\u{202e}b", "tab\tand\nline"];
    let alerts: Vec<Value> = services.iter().map(|service| alert("Down", service)).collect();
    taken(&watch, &alerts).await;
    watch
        .eventually("one incident for each", async || (watch.incidents().await.len() == services.len()).then_some(()))
        .await;
    let said = watch.incidents().await.iter().map(|one| one["title"].to_string()).collect::<String>();
    for service in &services[..5] {
        assert!(said.contains(service), "{service}: {said}");
    }
}

#[tokio::test]
async fn the_same_alert_with_other_words_is_the_same_alert() {
    let watch = Watch::start("").await;
    for (words, value) in [("first words", 1.0), ("other words", 2.0), ("words again", 3.0)] {
        let changes = [("annotations", json!({"summary": words})), ("value", json!(value))];
        taken(&watch, &[with("Down", "wordy", &changes)]).await;
    }
    judged(&watch, 3.0).await;
    let incident = watch.incident("wordy").await;
    assert_eq!((&incident["alerts"], watch.incidents().await.len()), (&json!(1), 1), "{incident}");
}

#[tokio::test]
async fn an_end_that_overtakes_its_beginning_leaves_nothing_open() {
    let watch = Watch::start("").await;
    let begun = json!(at(Duration::seconds(-120)));
    let ended =
        [("status", json!("resolved")), ("startsAt", begun.clone()), ("endsAt", json!(at(Duration::seconds(-20))))];
    taken(&watch, &[with("Down", "overtaken", &ended)]).await;
    judged(&watch, 1.0).await;
    // The beginning comes late: what it tells of is over.
    taken(&watch, &[with("Down", "overtaken", &[("startsAt", begun)])]).await;
    judged(&watch, 2.0).await;
    taken(&watch, &[alert("Down", "really-down")]).await;
    watch.incident("really-down").await;
    let known = watch.incidents().await;
    assert!(!known.iter().any(|one| one.to_string().contains("overtaken")), "{known:?}");
    // Fired anew it counts.
    taken(&watch, &[alert("Down", "overtaken")]).await;
    watch.incident("overtaken").await;
}

#[tokio::test]
async fn an_end_without_a_beginning_is_taken_and_changes_nothing() {
    let watch = Watch::start("").await;
    taken(
        &watch,
        &[with("Down", "never-seen", &[("status", json!("resolved")), ("endsAt", json!(at(Duration::zero())))])],
    )
    .await;
    judged(&watch, 1.0).await;
    assert!(watch.incidents().await.is_empty());
}
