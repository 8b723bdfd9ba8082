//! How long it takes from a decision to the first write into the cluster.

use std::sync::{Arc, Mutex};

use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, router};
use serde_json::{Value, json};

use crate::crash::stored;
use crate::harness::{alert, serve};
use crate::seeded::{now, people};
use crate::talking::Talking;

async fn plan(talking: &Talking) -> Option<Value> {
    stored(&talking.data()).await.first()?["plans"].as_array()?.last().cloned()
}

#[tokio::test]
async fn the_write_follows_the_decision_at_once_with_its_evidence_before_it() {
    let mut state = KubeState::new(9);
    let then = now().millis() - 86_400_000;
    state.add_node("node-1", 16, then);
    let web = DeploymentSpec {
        namespace: "shop".into(),
        name: "web".into(),
        replicas: 3,
        image: "registry/web:1".into(),
        cpu_limit: "100m".into(),
        mem_limit: "64Mi".into(),
        change_cause: "first".into(),
        ..DeploymentSpec::default()
    };
    state.add_deployment(&web, then);
    state.step(then + 60_000, &mut |_| PodHealth::Ready);
    let state = Arc::new(Mutex::new(state));
    let app = router(state.clone(), Arc::new(|| now().millis()));
    let url = serve(app).await;
    let more = format!(
        "{}[kubernetes]\ncluster = \"default\"\nurl = \"{url}\"\ntoken = \"r\"\nwrite_token = \"w\"\n\
         [investigation]\nsettle_seconds = 0\n",
        people(&["T1/ann", "T1/bob"])
    );
    let mut talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
    talking.send(&[alert("Down", "web")]).await;
    talking
        .until("an incident in people's hands", async || {
            (stored(&talking.data()).await.first()?["state"]["state"] == "handed_over").then_some(())
        })
        .await;
    talking.ordered("ann", "act INC-1 scale shop/web 5").await;
    let proposed = talking.until("a plan", async || plan(&talking).await).await;
    let value = format!("INC-1.P1.{}", &proposed["plan"]["digest"].as_str().unwrap()[..12]);
    talking.ordered("bob", &format!("approve {value}")).await;
    talking.until("the write", async || (plan(&talking).await?["outcome"]["outcome"] == "written").then_some(())).await;
    let write = state.lock().unwrap().writes().into_iter().find(|write| write.status < 300).unwrap();
    assert_eq!(write.body.pointer("/spec/replicas"), Some(&json!(5)));
    let decided = talking.rows("SELECT CAST(at AS TEXT) FROM incident_event WHERE kind='plan_approved'").await;
    let kept = talking.rows("SELECT CAST(MAX(at) AS TEXT) FROM incident_event WHERE kind='evidence_stored'").await;
    let (decided, kept): (i64, i64) = (decided[0].parse().unwrap(), kept[0].parse().unwrap());
    println!(
        "from the decision to the first write: {} ms, evidence kept {} ms after it",
        write.at - decided,
        kept - decided
    );
    assert!((decided..=write.at).contains(&kept), "evidence at {kept}, write at {}", write.at);
    assert!(write.at - decided < 1_000, "{} ms", write.at - decided);
}
