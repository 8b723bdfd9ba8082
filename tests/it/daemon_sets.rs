//! A DaemonSet is put back and restarted through the program, once; one whose pods would stay is refused.

use std::sync::{Arc, Mutex};

use midwatch::world::kubernetes::{KubeState, PodHealth, router};
use serde_json::{Value, json};

use crate::catalogue::node_agent;
use crate::hands::{decided, ended, fired, outcome, watch};
use crate::harness::serve;
use crate::seeded::now;

const HOUR: i64 = 3_600_000;

/// `node-agent` runs its second image, since longer ago than a change is blamed for. The pods of `slow-agent`
/// get a template only when they are deleted.
fn cluster() -> KubeState {
    let now = now().millis();
    let mut state = KubeState::new(9);
    for node in ["node-1", "node-2"] {
        state.add_node(node, 16, now - 41 * HOUR);
    }
    let mut slow = node_agent("registry/agent:1");
    slow["metadata"]["name"] = json!("slow-agent");
    slow["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    for (object, at) in [
        (slow, now - 41 * HOUR),
        (node_agent("registry/agent:1"), now - 40 * HOUR),
        (node_agent("registry/agent:2"), now - 38 * HOUR),
    ] {
        assert!(state.add_object(object, at));
        state.step(at + HOUR, &mut |_| PodHealth::Ready);
    }
    state
}

/// Ann asks for it, and Bob approves; gives the DaemonSet as it is when that is proved.
async fn carried_out(asked: &str) -> Value {
    let state = Arc::new(Mutex::new(cluster()));
    let url = serve(router(state.clone(), Arc::new(|| now().millis()))).await;
    let talking = watch(&url, "verify_seconds = 120\n[remediation]\nlook_seconds = 0.2\n").await;
    let fired = fired(&talking, "node-agent").await;
    for refused in ["restart shop/slow-agent", "restart shop/daemonset/slow-agent"] {
        let why = talking.refused("ann", &format!("act INC-1 {refused}")).await;
        assert!(why.contains("shop/daemonset/slow-agent has the update strategy OnDelete"), "{why}");
    }
    decided(&talking, 1, asked).await;
    let written = outcome(&talking, 1, "written").await;
    assert_eq!(written["plan"]["tier"], "medium", "{written}");
    talking.send(&[ended(fired)]).await;
    outcome(&talking, 1, "verified").await;
    let state = state.lock().unwrap();
    let writes = state.writes();
    assert_eq!(writes.iter().filter(|write| write.field_manager == "midwatch").count(), 1, "{writes:?}");
    state.object("DaemonSet", "shop", "node-agent").unwrap()
}

#[tokio::test]
async fn a_daemon_set_is_put_back_once() {
    let now = carried_out("roll_back shop/node-agent").await;
    assert_eq!(now.pointer("/spec/template/spec/containers/0/image"), Some(&json!("registry/agent:1")), "{now:#}");
}

#[tokio::test]
async fn a_daemon_set_is_restarted_once() {
    let now = carried_out("restart shop/node-agent").await;
    let annotations = &now["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations["midwatch.io/plan"].as_str().is_some_and(|mark| mark.starts_with("INC-1.P1")), "{now:#}");
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "{now:#}");
}
