//! One cluster, two people who may approve, and what becomes of what they ask for.

use std::sync::{Arc, Mutex};

use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth};
use serde_json::{Value, json};

use crate::crash::stored;
use crate::harness::alert;
use crate::seeded::{now, people};
use crate::talking::Talking;

/// `web` of the namespace `shop`, three replicas, as it has been since yesterday.
pub fn web() -> Arc<Mutex<KubeState>> {
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
    Arc::new(Mutex::new(state))
}

/// Ann and Bob approve what is done to the cluster behind the address. `more` goes on in `[investigation]`.
pub async fn watch(url: &str, more: &str) -> Talking {
    let config = format!(
        "{}[kubernetes]\ncluster = \"default\"\nurl = \"{url}\"\ntoken = \"r\"\nwrite_token = \"w\"\n\
         [investigation]\nsettle_seconds = 0\n{more}",
        people(&["T1/ann", "T1/bob"])
    );
    Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &config).await
}

/// The alert, whose incident is in people's hands.
pub async fn fired(talking: &Talking, service: &str) -> Value {
    let fired = alert("Down", service);
    talking.send(std::slice::from_ref(&fired)).await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    fired
}

pub fn ended(mut fired: Value) -> Value {
    fired["status"] = json!("resolved");
    fired["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    fired
}

pub async fn plan(talking: &Talking, number: usize) -> Option<Value> {
    stored(&talking.data()).await.first()?["plans"].as_array()?.get(number - 1).cloned()
}

pub async fn outcome(talking: &Talking, number: usize, wanted: &str) -> Value {
    let has = async || plan(talking, number).await.filter(|plan| plan["outcome"]["outcome"] == wanted);
    talking.until(&format!("plan {number} that is {wanted}"), has).await
}

/// Ann asks for it, and Bob approves.
pub async fn decided(talking: &Talking, number: usize, asked: &str) {
    let told = talking.ordered("ann", &format!("act INC-1 {asked}")).await;
    assert!(told.contains(&format!("INC-1.P{number}")), "{told}");
    approved(talking, number).await;
}

pub async fn approved(talking: &Talking, number: usize) {
    let plan = plan(talking, number).await.unwrap();
    let value = format!("INC-1.P{number}.{}", &plan["plan"]["digest"].as_str().unwrap()[..12]);
    talking.ordered("bob", &format!("approve {value}")).await;
}
