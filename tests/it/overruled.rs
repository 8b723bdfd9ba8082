//! Somebody else changes what a plan has written while its effect is waited for.

use std::sync::Arc;

use midwatch::world::kubernetes::router;
use serde_json::json;

use crate::hands::{decided, fired, outcome, plan, watch, web};
use crate::harness::serve;
use crate::seeded::now;

#[tokio::test]
async fn what_somebody_else_has_changed_is_neither_a_success_nor_undone() {
    let state = web();
    // Nobody turns its clock: the pods that are added never get ready.
    let url = serve(router(state.clone(), Arc::new(|| now().millis()))).await;
    let talking = watch(&url, "verify_seconds = 120\n[remediation]\nlook_seconds = 0.2\n").await;
    fired(&talking, "web").await;
    decided(&talking, 1, "scale shop/web 5").await;
    outcome(&talking, 1, "written").await;
    let scale = format!("{url}/apis/apps/v1/namespaces/shop/deployments/web/scale?fieldManager=kubectl");
    let theirs = talking.http.patch(scale).header("content-type", "application/merge-patch+json").bearer_auth("w");
    let answer = theirs.body(json!({"spec": {"replicas": 2}}).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let ended = talking
        .until("the end of the plan", async || {
            plan(&talking, 1).await.filter(|plan| plan["outcome"]["outcome"] != "written")
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
