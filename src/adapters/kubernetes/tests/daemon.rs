//! DaemonSets: their nodes, their history by ControllerRevisions, and what becomes of a rollback.

use super::*;
use crate::domain::action::ActionKind;

const EARLY: &str = "2026-11-21T02:00:00Z";
const LATE: &str = "2026-11-21T03:00:00Z";

fn agent(image: &str) -> Value {
    json!({"metadata": {"creationTimestamp": null, "labels": {"app": "agent"}},
        "spec": {"containers": [{"name": "agent", "image": image, "fieldOfTomorrow": 1}]}})
}

fn daemon_set(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "prod", "uid": "d1", "resourceVersion": "5", "generation": 3,
            "annotations": {"deprecated.daemonset.template.generation": "3"}},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": agent(image),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%", "maxSurge": 0}}},
        "status": {"observedGeneration": 3, "currentNumberScheduled": 12, "desiredNumberScheduled": 12,
            "updatedNumberScheduled": 12, "numberReady": 11, "numberAvailable": 11, "numberUnavailable": 1,
            "numberMisscheduled": 0}})
}

/// As midwatch leaves it behind when it goes back.
fn noted(image: &str) -> Value {
    let mut set = daemon_set(image);
    set["metadata"]["annotations"]["midwatch.io/went-back-to"] = json!("1 agent-a");
    set
}

fn kept(number: i64, name: &str, at: &str, image: &str) -> Value {
    let mut template = agent(image);
    template["$patch"] = json!("replace");
    json!({"metadata": {"name": name, "namespace": "prod", "creationTimestamp": at,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "d1", "controller": true}]},
        "revision": number, "data": {"spec": {"template": template}}})
}

fn history() -> Vec<Value> {
    vec![kept(2, "agent-b", LATE, "agent:2"), kept(1, "agent-a", EARLY, "agent:1")]
}

/// As the controller leaves it when the first template is gone back to.
fn renumbered() -> Vec<Value> {
    vec![kept(2, "agent-b", LATE, "agent:2"), kept(3, "agent-a", EARLY, "agent:1")]
}

async fn cluster(set: Value, kept: Vec<Value>) -> (KubernetesCluster, Seen) {
    with(set, kept, Router::new()).await
}

async fn with(set: Value, kept: Vec<Value>, more: Router<Seen>) -> (KubernetesCluster, Seen) {
    let seen = Seen::default();
    let (one, listed) = (set.clone(), set.clone());
    let patched = move |State(seen): State<Seen>,
                        Query(query): Query<HashMap<String, String>>,
                        headers: HeaderMap,
                        body: Bytes| async move {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        seen.lock().unwrap().push((kind, query.contains_key("dryRun"), body.clone()));
        let mut object = set;
        if let Some(template) = body.pointer("/2/value") {
            object["spec"]["template"] = template.clone();
        }
        Json(object)
    };
    let app = Router::new()
        .route("/apis/apps/v1/daemonsets", get(|| async move { list(vec![listed]) }))
        .route("/apis/apps/v1/namespaces/prod/daemonsets/agent", get(|| async move { Json(one) }).patch(patched))
        .route("/apis/apps/v1/namespaces/prod/controllerrevisions", get(|| async move { list(kept) }))
        .merge(more)
        .fallback(|| async { list(vec![]) })
        .with_state(seen.clone());
    let access = serve(app).await;
    (KubernetesCluster::connect(&access, Some(&access)).await.unwrap(), seen)
}

fn of_agent() -> Target {
    Target { kind: "DaemonSet".into(), name: "agent".into(), ..target("d1") }
}

fn back(from_revision: i64, to_revision: i64) -> Action {
    Action::RollBack { target: of_agent(), from_revision, to_revision }
}

fn wish(action: ActionKind) -> Wish {
    Wish {
        action,
        cluster: "default".into(),
        namespace: "prod".into(),
        kind: "daemonset".into(),
        name: "agent".into(),
        to: None,
        data: None,
        declared: None,
    }
}

#[tokio::test]
async fn a_daemon_set_is_a_workload_of_its_nodes_with_a_history() {
    let (cluster, _) = cluster(daemon_set("agent:2"), history()).await;
    let workload = cluster.workloads().await.unwrap().remove(0);
    assert_eq!((workload.kind.as_str(), workload.service.as_str()), ("DaemonSet", "agent"));
    assert_eq!((workload.replicas, workload.ready, workload.updated, workload.rolled_out), (12, 11, 12, false));
    let revisions = cluster.revisions("DaemonSet", "prod", "agent").await.unwrap();
    let told: Vec<_> = revisions.iter().map(|one| (one.number, workload.runs(one, &revisions))).collect();
    assert_eq!(told, [(1, false), (2, true)]);
    assert_eq!(revisions[0].template["spec"]["containers"][0]["fieldOfTomorrow"], 1);
    assert_eq!(revisions[0].template.get("$patch"), None);
    let around = cluster.surroundings(&Action::Restart { target: of_agent() }).await.unwrap();
    assert_eq!((around.replicas, around.ready, around.max_unavailable), (12, 11, 2), "its shares round up");
    assert!(around.extent.unwrap().services.contains("agent"));
}

#[tokio::test]
async fn without_the_right_to_list_them_the_other_workloads_are_known() {
    let app = Router::new()
        .route("/apis/apps/v1/deployments", get(|| async { list(vec![deployment()]) }))
        .route("/apis/apps/v1/statefulsets", get(|| async { list(vec![]) }))
        .route("/apis/apps/v1/daemonsets", get(|| async { status(403, "cannot list daemonsets") }));
    let cluster = KubernetesCluster::connect(&serve(app).await, None).await.unwrap();
    let names: Vec<_> = cluster.workloads().await.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["web-api"]);
}

#[tokio::test]
async fn a_rollback_puts_the_whole_template_back_and_notes_which_it_was() {
    let (cluster, seen) = cluster(daemon_set("agent:2"), history()).await;
    let action = cluster.prepare(&wish(ActionKind::RollBack)).await.unwrap();
    assert_eq!(action, back(2, 1));
    let tried = cluster.dry_run(&action).await.unwrap();
    assert!(tried.diff.contains("-    image: agent:2\n+    image: agent:1\n"), "{}", tried.diff);
    assert_eq!(cluster.dry_run(&action).await.unwrap(), tried);
    cluster.apply(&action, "5", "P").await.unwrap();
    assert!(matches!(cluster.apply(&action, "4", "P").await, Err(ClusterError::Conflict(_))));
    let seen = seen.lock().unwrap();
    let (kind, dry, steps) = seen.last().unwrap();
    assert_eq!((kind.as_str(), *dry, seen.len()), ("application/json-patch+json", false, 3));
    assert_eq!(steps[0], json!({"op": "test", "path": "/metadata/uid", "value": "d1"}));
    assert_eq!(steps[1]["value"], "5");
    let wanted = json!({"metadata": {"labels": {"app": "agent"}}, "spec": agent("agent:1")["spec"]});
    assert_eq!(steps[2], json!({"op": "replace", "path": "/spec/template", "value": wanted}));
    let note = json!({"op": "add", "path": "/metadata/annotations/midwatch.io~1went-back-to", "value": "1 agent-a"});
    assert_eq!(steps[3], note);
}

#[tokio::test]
async fn what_was_gone_back_to_is_found_under_its_new_number() {
    let (ours, _) = cluster(noted("agent:1"), renumbered()).await;
    let found = ours.dry_run(&back(2, 1)).await.unwrap();
    assert_eq!(found.before, found.after, "it has been done");
    assert_eq!(ours.settled(&back(2, 1), "P").await.unwrap().progress, Progress::UnderWay);
    let undo = ours.dry_run(&back(1, 2)).await.unwrap();
    assert!(undo.diff.contains("+    image: agent:2"), "{}", undo.diff);
    // Before its controller has looked at it.
    let (fresh, _) = cluster(noted("agent:1"), history()).await;
    assert_ne!(fresh.settled(&back(2, 1), "P").await.unwrap().progress, Progress::Overruled);
    for undo in [back(1, 2), back(2, 2)] {
        assert!(fresh.dry_run(&undo).await.unwrap().diff.contains("+    image: agent:2"), "{undo}");
    }
    // Somebody else goes back with kubectl, which leaves no note: nothing says that this was revision 1.
    let (theirs, _) = cluster(daemon_set("agent:1"), renumbered()).await;
    let moved = theirs.dry_run(&back(2, 1)).await.unwrap_err().to_string();
    assert!(moved.contains("runs revision 3 by now, not 2"), "{moved}");
    // By number the bad one stands before the one that runs.
    for cluster in [ours, theirs] {
        let unclear = cluster.prepare(&wish(ActionKind::RollBack)).await.unwrap_err().to_string();
        assert!(unclear.contains("away from revision 2") && unclear.contains("(kept are 2)"), "{unclear}");
    }
}

/// Of an owner by uid, on a node, from a revision.
fn pod(owner: &str, node: &str, hash: &str, ready: &str) -> Value {
    json!({"metadata": {"name": format!("agent-{node}"), "namespace": "prod",
            "labels": {"controller-revision-hash": hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": owner}]},
        "spec": {"nodeName": node, "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}})
}

/// Twelve nodes: eleven have a pod of the newest revision, `a`, that is ready.
fn twelve(last_node: &str, last: Value) -> Router<Seen> {
    let node = |name: &str, ready: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let names: Vec<String> = (1..12).map(|number| format!("n{number}")).collect();
    let mut nodes: Vec<Value> = names.iter().map(|name| node(name, "True")).collect();
    let mut pods: Vec<Value> = names.iter().map(|name| pod("d1", name, "a", "True")).collect();
    nodes.push(node("last", last_node));
    pods.push(last);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "gone",
        "reason": "NotFound", "code": 404});
    Router::new()
        .route("/api/v1/nodes", get(|| async move { list(nodes) }))
        .route("/api/v1/namespaces/prod/pods", get(|| async move { list(pods) }))
        .route(
            "/api/v1/namespaces/prod/pods/agent-n1",
            get(|| async move { (axum::http::StatusCode::NOT_FOUND, Json(gone)) }),
        )
}

#[tokio::test]
async fn a_node_that_was_away_holds_nothing_up_and_one_that_the_rollout_took_down_does() {
    let settled = async |set: Value, node: &str, last: Value| {
        with(set, renumbered(), twelve(node, last)).await.0.settled(&back(2, 1), "P").await.unwrap()
    };
    let old = pod("d1", "last", "b", "False");
    let away = settled(noted("agent:1"), "Unknown", old.clone()).await;
    assert_eq!(away.progress, Progress::Done);
    assert_eq!(away.fact, "rollout of agent complete on every node that is ready: 11 of 12 replicas ready");
    for (node, last) in [
        ("True", old.clone()),
        // The rollout may have taken it down.
        ("Unknown", pod("d1", "last", "a", "False")),
        ("Unknown", pod("another", "last", "b", "False")),
    ] {
        assert_eq!(settled(noted("agent:1"), node, last).await.progress, Progress::UnderWay);
    }
    let mut unseen = noted("agent:1");
    unseen["status"]["observedGeneration"] = json!(2);
    assert_eq!(settled(unseen, "Unknown", old).await.progress, Progress::UnderWay);
}

#[tokio::test]
async fn an_eviction_is_replaced_although_another_node_is_away() {
    let evicted = Action::EvictPod {
        target: Target { kind: "Pod".into(), name: "agent-n1".into(), ..target("p1") },
        owner: "DaemonSet".into(),
        owner_name: "agent".into(),
    };
    for (node, expected) in [("Unknown", Progress::Done), ("True", Progress::UnderWay)] {
        let more = twelve(node, pod("d1", "last", "b", "False"));
        let settled = with(daemon_set("agent:2"), history(), more).await.0.settled(&evicted, "P").await.unwrap();
        assert_eq!(settled.progress, expected, "{}", settled.fact);
        assert!(settled.fact.ends_with("is gone; daemonset/agent has 11 of 12 replicas ready"), "{}", settled.fact);
    }
}

#[tokio::test]
async fn another_template_since_the_rollback_is_somebody_elses() {
    let mut kept_since = renumbered();
    kept_since.push(kept(4, "agent-c", "2026-11-21T04:00:00Z", "agent:3"));
    let (moved_on, _) = cluster(noted("agent:3"), kept_since).await;
    let settled = moved_on.settled(&back(2, 1), "P").await.unwrap();
    assert_eq!(settled.progress, Progress::Overruled);
    let fact = settled.fact;
    assert!(fact.contains("has another template than its revision 1; it says revision 4"), "{fact}");
    let undo = moved_on.dry_run(&back(1, 2)).await.unwrap_err();
    assert!(matches!(&undo, ClusterError::Conflict(why) if why.contains("runs revision 4 by now, not 1")), "{undo:?}");
    // Its controller has not recorded it yet.
    let (at_once, _) = cluster(noted("agent:4"), renumbered()).await;
    assert_eq!(at_once.settled(&back(2, 1), "P").await.unwrap().progress, Progress::Overruled);
    let undo = at_once.dry_run(&back(1, 2)).await.unwrap_err().to_string();
    assert!(undo.contains("runs by now what its history does not hold yet, not revision 1"), "{undo}");
    let unnamed = at_once.prepare(&wish(ActionKind::RollBack)).await.unwrap_err().to_string();
    assert!(unnamed.contains("runs what its history does not hold as a revision"), "{unnamed}");
}

#[tokio::test]
async fn what_would_change_no_pod_or_does_not_fit_is_refused_with_its_reason() {
    let mut on_delete = daemon_set("agent:2");
    on_delete["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let (cluster, seen) = cluster(on_delete, history()).await;
    for (action, why) in [
        (Action::Restart { target: of_agent() }, "another template changes no pod that runs"),
        (back(2, 1), "another template changes no pod that runs"),
        (Action::Scale { target: of_agent(), from: 12, to: 13 }, "has no number of replicas"),
        (Action::PauseRollout { target: of_agent() }, "is not a Deployment"),
        (Action::ResumeRollout { target: of_agent() }, "is not a Deployment"),
    ] {
        let tried = cluster.dry_run(&action).await.unwrap_err().to_string();
        assert!(tried.contains(why), "{action}: {tried}");
        let written = cluster.apply(&action, "5", "P").await.unwrap_err().to_string();
        assert!(written.contains(why), "{action}: {written}");
    }
    for action in [ActionKind::Scale, ActionKind::SetBounds, ActionKind::PauseRollout, ActionKind::ResumeRollout] {
        let refused = cluster.prepare(&wish(action)).await.unwrap_err().to_string();
        assert!(refused.contains("does not work on a daemonset"), "{refused}");
    }
    let around = cluster.surroundings(&Action::Restart { target: of_agent() }).await.unwrap();
    assert_eq!(around.max_unavailable, 0);
    assert!(seen.lock().unwrap().is_empty());
}
