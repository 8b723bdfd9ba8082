//! Somebody edits a ConfigMap in place: no rollout tells of it, and the watch knows it all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::harness::serve;
use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, router};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use crate::seeded::now;
use crate::talking::Talking;

async fn estate() -> String {
    let mut state = KubeState::new(3);
    let long_ago = now().millis() - 3 * 86_400_000;
    state.add_node("node-1", 8, long_ago);
    let data =
        [("pool.max", "20"), ("DB_PASSWORD", "hush-hush-one"), ("app.yaml", "cache:\n  ttl: 60s\n  size: 100\n")];
    let web = DeploymentSpec {
        namespace: "shop".into(),
        name: "web".into(),
        replicas: 1,
        image: "registry/web:1".into(),
        cpu_limit: "500m".into(),
        mem_limit: "512Mi".into(),
        change_cause: "first".into(),
        config_map: Some((
            "web-config".into(),
            data.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        )),
        ..DeploymentSpec::default()
    };
    state.add_deployment(&web, long_ago);
    state.step(long_ago + 60_000, &mut |_| PodHealth::Ready);
    let app = router(Arc::new(Mutex::new(state)), Arc::new(|| now().millis()));
    serve(app).await
}

async fn edit(talking: &Talking, estate: &str, manager: &str, data: serde_json::Value) {
    let path = format!("{estate}/api/v1/namespaces/shop/configmaps/web-config?fieldManager={manager}");
    let request = talking.http.patch(path).bearer_auth("all").header("content-type", "application/merge-patch+json");
    let answer = request.body(json!({"data": data}).to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

/// What is remembered of it, once that holds these words. Beside the running watch.
async fn kept(talking: &Talking, wanted: &str) -> String {
    let path = format!("sqlite://{}?mode=ro", talking.data().join("midwatch.db").display());
    let look = "SELECT value FROM setting WHERE name='config_map_seen/shop/web-config'";
    talking
        .until(wanted, async || {
            let mut store = SqliteConnection::connect(&path).await.ok()?;
            let row: Option<String> = sqlx::query_scalar(look).fetch_optional(&mut store).await.ok()?;
            store.close().await.ok()?;
            row.filter(|row| row.contains(wanted))
        })
        .await
}

#[tokio::test]
async fn an_edit_in_place_is_a_change_of_the_service_that_reads_it() {
    let estate = estate().await;
    let more =
        format!("[kubernetes]\ncluster = \"c\"\nurl = \"{estate}\"\ntoken = \"all\"\nconfig_map_seconds = 0.1\n");
    let talking = Talking::start(&more).await;
    kept(&talking, "\"pool.max\":\"20\"").await;
    let said = talking.says("ops", None, "what changed in the last hour?", "What changed in the last").await;
    assert!(!said.contains("ConfigMap"), "its first sight is no change: {said}");

    let file = "cache:\n  ttl: 1s\n  size: 100\n";
    edit(&talking, &estate, "kubectl-edit", json!({"pool.max": "2", "DB_PASSWORD": "hush-hush-two", "app.yaml": file}))
        .await;
    let row = kept(&talking, "\"pool.max\":\"2\"").await;
    assert!(!row.contains("hush-hush"), "{row}");
    let said = talking.says("ops", None, "what changed in the last hour?", "What changed in the last").await;
    for part in ["ConfigMap shop/web-config at ", "pool.max: 20 -> 2", "ttl: 60s -> 1s", "kubectl-edit"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hush-hush") && !said.contains("size"), "{said}");

    // What we wrote ourselves is not a change to blame.
    edit(&talking, &estate, "midwatch", json!({"pool.max": "21"})).await;
    kept(&talking, "\"pool.max\":\"21\"").await;
    let said = talking.says("ops", None, "what changed in the last hour?", "What changed in the last").await;
    assert!(!said.contains("2 -> 21"), "{said}");
}

#[tokio::test]
async fn an_edit_from_before_the_watch_began_is_told_with_its_time_and_author() {
    let estate = estate().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let more =
        format!("[kubernetes]\ncluster = \"c\"\nurl = \"{estate}\"\ntoken = \"all\"\nconfig_map_seconds = 0.1\n");
    let before = Talking::start("").await;
    edit(&before, &estate, "kubectl-edit", json!({"pool.max": "3"})).await;
    let talking = Talking::start(&more).await;
    kept(&talking, "\"pool.max\":\"3\"").await;
    let said = talking.says("ops", None, "what changed in the last hour?", "What changed in the last").await;
    assert!(said.contains("its data was written; what it held before was not seen"), "{said}");
}
