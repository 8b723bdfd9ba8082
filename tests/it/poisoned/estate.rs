//! What stands around the watch: backends that answer with the poison, a cluster, a chat, a model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::serve;
use axum::extract::{Form, State};
use axum::routing::{any, get};
use axum::{Json, Router};
use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, TemplateChange};
use serde_json::{Value, json};

use super::{BATCH, Poison};
use crate::seeded::now;

/// What the backends of the estate answer with: the poison of the services that alert now.
#[derive(Default)]
pub struct Estate {
    pub now: BTreeMap<String, Poison>,
}

pub type Shared = Arc<Mutex<Estate>>;

/// A rise ten minutes ago in whatever is asked of the services that alert now; one query of a range.
async fn range(State(estate): State<Shared>, Form(asked): Form<BTreeMap<String, String>>) -> Json<Value> {
    let number = |name: &str| asked.get(name).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let (start, end, step) = (number("start"), number("end"), number("step").max(1.0));
    let onset = now().millis() as f64 / 1000.0 - 600.0;
    let points = ((end - start) / step).floor().max(0.0) as usize + 1;
    let values: Vec<Value> = (0..points)
        .map(|at| start + at as f64 * step)
        .map(|at| json!([at, if at > onset { "0.93".to_owned() } else { format!("0.0{}", 1 + at as u64 % 3) }]))
        .collect();
    let query = asked.get("query").cloned().unwrap_or_default();
    let estate = estate.lock().unwrap();
    let named: Vec<&String> = estate.now.keys().filter(|service| query.contains(*service)).collect();
    let told = if named.is_empty() { estate.now.keys().take(BATCH).collect() } else { named };
    let series: Vec<Value> =
        told.iter().map(|service| json!({"metric": {"service": service}, "values": values})).collect();
    Json(json!({"status": "success", "data": {"resultType": "matrix", "result": series}}))
}

async fn logs(State(estate): State<Shared>, Form(asked): Form<BTreeMap<String, String>>) -> Json<Value> {
    let query = asked.get("query").cloned().unwrap_or_default();
    let at = (now().millis() - 60_000).to_string() + "000000";
    let estate = estate.lock().unwrap();
    let streams: Vec<Value> = estate
        .now
        .iter()
        .filter(|(service, poison)| query.contains(*service) && matches!(poison.place.as_str(), "log" | "trace"))
        .map(|(service, poison)| json!({"stream": {"app": service}, "values": [[at, poison.text]]}))
        .collect();
    Json(json!({"status": "success", "data": {"resultType": "streams", "result": streams}}))
}

/// Slack's API as far as posting goes; everything that it was sent.
pub async fn slack(sent: Arc<Mutex<Vec<String>>>) -> String {
    let counter = Arc::new(AtomicU64::new(1));
    let answer = move |uri: axum::http::Uri, body: String| {
        let (sent, counter) = (sent.clone(), counter.clone());
        async move {
            sent.lock().unwrap().push(format!("{} {body}", uri.path()));
            let ts = format!("1760000000.{:06}", counter.fetch_add(1, Ordering::SeqCst));
            Json(json!({"ok": true, "ts": ts, "channel": "C1", "team_id": "T1", "user_id": "U0", "bot_id": "B0",
                        "team": "t", "user": "u", "url": "https://t.slack.com/", "messages": [], "has_more": false,
                        "message": {"ts": ts, "text": ""}, "response_metadata": {"next_cursor": ""}}))
        }
    };
    serve(Router::new().fallback(any(answer))).await
}

/// The deployments of the services that alert now, each with a rollout of a quarter of an hour ago.
pub fn cluster(services: &[usize]) -> KubeState {
    let mut state = KubeState::new(5);
    let then = now().millis() - 86_400_000;
    for node in 1..=12 {
        state.add_node(&format!("node-{node}"), 64, then);
    }
    for at in services {
        let spec = DeploymentSpec {
            namespace: namespace(*at),
            name: service(*at),
            replicas: 1,
            image: "registry/app:1".into(),
            cpu_limit: "100m".into(),
            mem_limit: "64Mi".into(),
            change_cause: "first".into(),
            ..DeploymentSpec::default()
        };
        state.add_deployment(&spec, then);
    }
    state.step(then + 60_000, &mut |_| PodHealth::Ready);
    let change =
        TemplateChange { image: Some("registry/app:2".into()), cause: "second".into(), ..TemplateChange::default() };
    for at in services {
        state.roll_out(&namespace(*at), &service(*at), &change, now().millis() - 900_000).unwrap();
    }
    for minute in 1..4 {
        state.step(now().millis() - 900_000 + minute * 60_000, &mut |_| PodHealth::Ready);
    }
    state
}

pub fn namespace(at: usize) -> String {
    format!("team-{at:04}")
}

pub fn service(at: usize) -> String {
    format!("svc-{at:04}")
}

/// Prometheus and Loki.
pub fn backend(estate: Shared) -> Router {
    let nothing = async || Json(json!({"status": "success", "data": {"resultType": "vector", "result": []}}));
    Router::new()
        .route("/api/v1/query_range", get(range).post(range))
        .route("/api/v1/query", any(nothing))
        .route("/loki/api/v1/query_range", get(logs).post(logs))
        .with_state(estate)
}
