//! One Prometheus and one Loki that serve two clusters: an incident is measured in its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

use axum::extract::Form;
use axum::routing::post;
use axum::{Json, Router};
use midwatch::world::kubernetes::{PodHealth, TemplateChange, router};
use midwatch::world::prometheus;
use midwatch::world::promql::SeriesStore;
use serde_json::{Value, json};

use crate::crash::run::cluster;
use crate::harness::{alert, serve};
use crate::talking::Talking;

const MINUTE: i64 = 60_000;

/// `pay` runs in both: in us it has failed for ten minutes, in eu it is well.
fn two_clusters(now: i64) -> SeriesStore {
    let mut store = SeriesStore::new();
    for ago in (0..=26 * 60).rev() {
        for (cluster, ratio) in [("eu", 0.01), ("us", if ago <= 10 { 0.9 } else { 0.01 })] {
            store.append("error_ratio", &[("service", "pay"), ("cluster", cluster)], now - ago * MINUTE, ratio);
        }
    }
    store
}

/// Says that there are streams and no lines; keeps what it was asked.
fn loki(asked: Arc<Mutex<Vec<String>>>) -> Router {
    let streams = || async { Json(json!({"status": "success", "data": [{"app": "pay"}]})) };
    let lines = move |Form(form): Form<BTreeMap<String, String>>| {
        // Whether it answers at all is asked of nobody's logs.
        if !form["query"].contains("midwatch-check") {
            asked.lock().unwrap().push(form["query"].clone());
        }
        std::future::ready(Json(json!({"status": "success", "data": {"resultType": "streams", "result": []}})))
    };
    Router::new().route("/loki/api/v1/series", post(streams)).route("/loki/api/v1/query_range", post(lines))
}

/// The queries of the evidence that metrics gave, and all that the logs were asked, about an incident of eu or us.
async fn asked_about(cluster: &str, labels: &str) -> (Vec<String>, Vec<String>) {
    let now = || chrono::Utc::now().timestamp_millis();
    let (store, logs) = (Arc::new(RwLock::new(two_clusters(now()))), Arc::new(Mutex::new(vec![])));
    let backend = serve(prometheus::router(store, Arc::new(now)).merge(loki(logs.clone()))).await;
    let mut talking = Talking::start(&format!(
        "[investigation]\nsettle_seconds = 0\n[signals]\nprometheus_url = \"{backend}\"\nloki_url = \"{backend}\"\n\
         watch_logs = false\nbaseline_days = 1\n{labels}\
         [[signals.query]]\nname = \"errors\"\nclass = \"symptom\"\npromql = \"max by (service) (error_ratio)\"\n\
         floor = 0.02\nunit = \"ratio\"\n"
    ))
    .await;
    let mut fired = alert("Down", "pay");
    fired["labels"]["cluster"] = json!(cluster);
    talking.send(&[fired]).await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    let evidence = talking.rows("SELECT body FROM evidence ORDER BY id").await;
    let evidence = evidence.iter().map(|body| serde_json::from_str::<Value>(body).unwrap());
    let of_metrics = evidence.filter(|one| one["source"] == "prometheus");
    let queries = of_metrics.map(|one| one["query"].as_str().unwrap().to_owned()).collect();
    (queries, std::mem::take(&mut *logs.lock().unwrap()))
}

#[tokio::test]
async fn an_incident_is_measured_in_its_own_cluster() {
    const LABELS: &str = "cluster_label = \"cluster\"\nlog_cluster_label = \"cluster\"\n";
    let (metrics, logs) = asked_about("eu", LABELS).await;
    assert_eq!(metrics, [""; 0], "what fails in us is no evidence about eu");
    assert!(
        !logs.is_empty() && logs.iter().all(|query| query.starts_with(r#"{app="pay", cluster="eu"} |~"#)),
        "{logs:?}"
    );
    let (metrics, logs) = asked_about("us", LABELS).await;
    assert_eq!(metrics, [r#"max by (service) (error_ratio{cluster="us"})"#]);
    assert!(!logs.is_empty() && logs.iter().all(|query| query.contains(r#"cluster="us""#)), "{logs:?}");
    // Where nobody says how they are told apart, they are not.
    let (metrics, logs) = asked_about("eu", "").await;
    assert_eq!(metrics, ["max by (service) (error_ratio)"]);
    assert!(!logs.is_empty() && logs.iter().all(|query| query.starts_with(r#"{app="pay"} |~"#)), "{logs:?}");
}

#[tokio::test]
async fn a_look_around_that_belongs_to_no_alerts_sees_the_cluster_that_is_watched() {
    let now = || chrono::Utc::now().timestamp_millis();
    let mut state = cluster();
    let change = TemplateChange { image: Some("registry/web:2".into()), cause: "faster".into(), ..Default::default() };
    state.roll_out("shop", "web", &change, now() - 5 * MINUTE).unwrap();
    state.step(now(), &mut |_| PodHealth::Ready);
    let url = serve(router(Arc::new(Mutex::new(state)), Arc::new(now))).await;
    for name in ["", "cluster = \"eu-1\"\n"] {
        let talking = Talking::start(&format!("[kubernetes]\nurl = \"{url}\"\ntoken = \"r\"\n{name}")).await;
        let said = talking.asks("diagnose web").await;
        assert!(said.contains("revision 2") && said.contains("faster"), "{said}");
    }
}
