//! Somebody else changes what a plan has written while its effect is waited for.

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
async fn what_somebody_else_has_changed_is_neither_a_success_nor_undone() {
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
    // Nobody turns its clock: the pods that are added never get ready.
    let url = serve(router(state.clone(), Arc::new(|| now().millis()))).await;
    let more = format!(
        "{}[kubernetes]\ncluster = \"default\"\nurl = \"{url}\"\ntoken = \"r\"\nwrite_token = \"w\"\n\
         [investigation]\nsettle_seconds = 0\nverify_seconds = 120\n[remediation]\nlook_seconds = 0.2\n",
        people(&["T1/ann", "T1/bob"])
    );
    let talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
    talking.send(&[alert("Down", "web")]).await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    talking.ordered("ann", "act INC-1 scale shop/web 5").await;
    let proposed = talking.until("a plan", async || plan(&talking).await).await;
    let value = format!("INC-1.P1.{}", &proposed["plan"]["digest"].as_str().unwrap()[..12]);
    talking.ordered("bob", &format!("approve {value}")).await;
    talking.until("the write", async || (plan(&talking).await?["outcome"]["outcome"] == "written").then_some(())).await;
    let scale = format!("{url}/apis/apps/v1/namespaces/shop/deployments/web/scale?fieldManager=kubectl");
    let theirs = talking.http.patch(scale).header("content-type", "application/merge-patch+json").bearer_auth("w");
    let answer = theirs.body(json!({"spec": {"replicas": 2}}).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let ended = talking
        .until("the end of the plan", async || {
            plan(&talking).await.filter(|plan| plan["outcome"]["outcome"] != "written")
        })
        .await;
    assert_eq!(ended["outcome"]["outcome"], "overruled", "{ended}");
    assert!(ended["outcome"]["because"].as_str().unwrap().contains("{\"replicas\":2} by now"), "{ended}");
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    talking.in_thread("INC-1", "was overruled by somebody else").await;
    let writes = state.lock().unwrap().writes();
    let ours = writes.iter().filter(|write| write.status < 300 && write.field_manager == "midwatch");
    assert_eq!(ours.count(), 1, "{writes:?}");
    let now = state.lock().unwrap().object("Deployment", "shop", "web").unwrap();
    assert_eq!(now.pointer("/spec/replicas"), Some(&json!(2)));
}
