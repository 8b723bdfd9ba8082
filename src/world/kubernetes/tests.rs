use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

const START: i64 = 1_760_000_000_000;

fn data(size: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("POOL_SIZE".to_owned(), size.to_owned())])
}

fn spec(name: &str, kind: WorkloadKind) -> DeploymentSpec {
    DeploymentSpec {
        namespace: "shop".into(),
        name: name.into(),
        replicas: if kind == WorkloadKind::Deployment { 4 } else { 2 },
        image: format!("registry/{name}:1.0.0"),
        env: vec![("MODE".into(), "live".into())],
        config_map: Some((format!("{name}-config-1a2b"), data("40"))),
        cpu_limit: "500m".into(),
        mem_limit: "512Mi".into(),
        kind,
        pvc: (kind == WorkloadKind::StatefulSet).then(|| "20Gi".into()),
        change_cause: "first".into(),
        ..DeploymentSpec::default()
    }
}

fn ready(_: &PodView) -> PodHealth {
    PodHealth::Ready
}

fn cluster() -> KubeState {
    let mut state = KubeState::new(7);
    for node in ["node-1", "node-2", "node-3"] {
        state.add_node(node, 8, START);
    }
    state.add_deployment(&spec("session", WorkloadKind::Deployment), START);
    state.step(START, &mut ready);
    state.step(START + 60_000, &mut ready);
    state
}

fn deployment(state: &KubeState, name: &str) -> DeploymentView {
    state.deployments().into_iter().find(|it| it.name == name).expect("the workload")
}

/// Steps in seconds until the workload is complete; gives the seconds it took.
fn settle(state: &mut KubeState, name: &str, from: i64) -> i64 {
    for second in 1..200 {
        state.step(from + second * 1000, &mut ready);
        if deployment(state, name).complete {
            return second;
        }
    }
    panic!("{name} never settles: {:?}", deployment(state, name));
}

fn reasons(state: &KubeState) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for event in state.list(kinds::EVENTS) {
        *found.entry(text(event, "/reason").to_owned()).or_default() += number(event, "/count");
    }
    found
}

#[test]
fn a_rollout_takes_its_time_and_the_way_back_reuses_the_old_set() {
    let mut state = cluster();
    assert!(deployment(&state, "session").complete);
    let first = state.pods("session").first().expect("a pod").template_hash.clone();
    let change = TemplateChange {
        config_map: Some(("session-config-9d2b".into(), data("4"))),
        cause: "smaller pool".into(),
        ..TemplateChange::default()
    };
    let at = START + 60_000;
    assert_eq!(state.roll_out("shop", "session", &change, at), Ok(2));
    assert!(!deployment(&state, "session").complete);
    let took = settle(&mut state, "session", at);
    assert!((35..=60).contains(&took), "took {took} s");
    let at = at + took * 1000 + 10_000;
    state.step(at, &mut ready);
    let pods = state.pods("session");
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| pod.revision == 2 && pod.config == data("4")));

    let old = state.list(kinds::REPLICA_SETS).find(|it| text(it, "/metadata/name").ends_with(&first)).cloned();
    let mut template = old.and_then(|it| it.pointer("/spec/template").cloned()).expect("the old template");
    unset(&mut template, "/metadata/labels", "pod-template-hash");
    let mut object = state.get(kinds::DEPLOYMENTS, "shop", "session").cloned().expect("the deployment");
    set(&mut object, &["spec", "template"], template);
    state.put(kinds::DEPLOYMENTS, object, at);
    state.reconcile(at);
    assert_eq!(deployment(&state, "session").revision, 3);
    assert_eq!(state.list(kinds::REPLICA_SETS).count(), 2);
    let took = settle(&mut state, "session", at);
    state.step(at + took * 1000 + 10_000, &mut ready);
    let pods = state.pods("session");
    assert!(pods.iter().all(|pod| pod.revision == 3 && pod.template_hash == first && pod.config == data("40")));
    let reasons = reasons(&state);
    for reason in ["ScalingReplicaSet", "Killing", "Pulled", "Created", "Started", "Scheduled"] {
        assert!(reasons.contains_key(reason), "{reason} is missing");
    }
}

#[test]
fn never_are_too_few_pods_ready_during_a_rollout() {
    let mut state = cluster();
    let change = TemplateChange { image: Some("registry/session:2".into()), ..TemplateChange::default() };
    let at = START + 60_000;
    state.roll_out("shop", "session", &change, at).expect("a revision");
    for second in 1..90 {
        state.step(at + second * 1000, &mut ready);
        let pods = state.pods("session");
        assert!(pods.iter().filter(|pod| pod.ready).count() >= 3);
        assert!(pods.iter().filter(|pod| pod.phase != "Terminating").count() <= 5);
    }
}

#[test]
fn crashes_restart_then_back_off_and_show_at_the_node() {
    let mut state = cluster();
    let mut crash = |pod: &PodView| match pod.restarts {
        0..3 => PodHealth::Crash { reason: "OOMKilled".into(), exit: 137 },
        _ => PodHealth::Ready,
    };
    state.step(START + 90_000, &mut crash);
    let pod = state.list(kinds::PODS).next().cloned().expect("a pod");
    let status = pod.pointer("/status/containerStatuses/0").expect("a status");
    assert!(number(status, "/restartCount") >= 2);
    assert_eq!(text(status, "/lastState/terminated/reason"), "OOMKilled");
    assert_eq!(number(status, "/lastState/terminated/exitCode"), 137);
    assert_eq!(text(status, "/state/waiting/reason"), "CrashLoopBackOff");
    let seen = reasons(&state);
    assert!(seen["OOMKilling"] >= 4 && seen["BackOff"] >= 4);
    let view = deployment(&state, "session");
    assert_eq!((view.ready, view.available), (0, 0));
    state.step(START + 240_000, &mut ready);
    assert!(deployment(&state, "session").complete);
}

#[test]
fn a_bad_image_never_replaces_the_good_pods() {
    let mut state = cluster();
    let at = START + 60_000;
    let change = TemplateChange { image: Some("registry/session:nope".into()), ..TemplateChange::default() };
    state.roll_out("shop", "session", &change, at).expect("a revision");
    let mut health = |pod: &PodView| match pod.image.ends_with("nope") {
        true => PodHealth::ImagePull,
        false => PodHealth::Ready,
    };
    for minute in 1..=12 {
        state.step(at + minute * 60_000, &mut health);
    }
    let pods = state.pods("session");
    assert_eq!(pods.iter().filter(|pod| pod.ready).count(), 3);
    assert!(pods.iter().any(|pod| pod.reason.as_deref() == Some("ImagePullBackOff")));
    let object = state.get(kinds::DEPLOYMENTS, "shop", "session").cloned().expect("the deployment");
    assert_eq!(text(&object, "/status/conditions/1/reason"), "ProgressDeadlineExceeded");
}

#[test]
fn a_lost_node_takes_its_pods_along_and_gives_them_up_when_it_returns() {
    let mut state = cluster();
    let at = START + 60_000;
    let lost = state.pods("session").first().expect("a pod").node.clone();
    state.set_node_ready(&lost, false, "NodeStatusUnknown", at);
    assert!(state.pods("session").iter().all(|pod| pod.ready != (pod.node == lost)));
    state.step(at + 400_000, &mut ready);
    assert!(state.pods("session").iter().any(|pod| pod.phase == "Terminating"));
    assert_eq!(deployment(&state, "session").available, 4);
    state.set_node_ready(&lost, true, "", at + 401_000);
    state.step(at + 420_000, &mut ready);
    assert!(state.pods("session").iter().all(|pod| pod.phase == "Running" && pod.ready));
    assert!(reasons(&state).contains_key("NodeNotReady"));
}

#[test]
fn pods_that_fit_nowhere_wait() {
    let mut state = cluster();
    let change = TemplateChange { mem_limit: Some("80Gi".into()), ..TemplateChange::default() };
    state.roll_out("shop", "session", &change, START + 60_000).expect("a revision");
    state.step(START + 120_000, &mut ready);
    let waiting: Vec<PodView> = state.pods("session").into_iter().filter(|pod| pod.node.is_empty()).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|pod| pod.phase == "Pending"));
    assert!(reasons(&state).contains_key("FailedScheduling"));
}

#[test]
fn a_stateful_set_rolls_pod_by_pod_and_back() {
    let mut state = cluster();
    let at = START + 60_000;
    state.add_deployment(&spec("ledger", WorkloadKind::StatefulSet), at);
    let took = settle(&mut state, "ledger", at);
    assert_eq!(state.list(kinds::CLAIMS).count(), 2);
    let at = at + took * 1000;
    let change = |image: &str| TemplateChange { image: Some(image.into()), ..TemplateChange::default() };
    assert_eq!(state.roll_out("shop", "ledger", &change("registry/ledger:2"), at), Ok(2));
    let took = settle(&mut state, "ledger", at);
    assert!(state.pods("ledger").iter().all(|pod| pod.revision == 2));
    let at = at + took * 1000;
    assert_eq!(state.roll_out("shop", "ledger", &change("registry/ledger:1.0.0"), at), Ok(3));
    settle(&mut state, "ledger", at);
    assert_eq!(state.list(kinds::REVISIONS).count(), 2);
    assert!(state.pods("ledger").iter().all(|pod| pod.revision == 3));
}

#[test]
fn the_same_seed_gives_the_same_cluster() {
    assert_eq!(cluster().objects, cluster().objects);
}

#[test]
fn json_patches_do_all_six_operations() {
    let mut object = json!({"a": {"b/c": [1, 2]}, "d": 1});
    let steps = json!([
        {"op": "test", "path": "/a/b~1c/0", "value": 1},
        {"op": "add", "path": "/a/b~1c/-", "value": 3},
        {"op": "remove", "path": "/a/b~1c/0"},
        {"op": "replace", "path": "/d", "value": 2},
        {"op": "copy", "from": "/d", "path": "/e"},
        {"op": "move", "from": "/d", "path": "/f"}
    ]);
    assert_eq!(patch::json_patch(&mut object, &steps), Ok(()));
    assert_eq!(object, json!({"a": {"b/c": [2, 3]}, "e": 2, "f": 2}));
    let failing = json!([{"op": "test", "path": "/e", "value": 9}]);
    assert!(matches!(patch::json_patch(&mut object, &failing), Err(patch::Failure::Unfit(_))));
}

#[test]
fn strategic_patches_merge_named_elements() {
    let mut object = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x"]});
    let change = json!({"env": [{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}, {"name": "C"}],
                        "args": ["y"]});
    patch::strategic(&mut object, &change);
    assert_eq!(object, json!({"env": [{"name": "B", "value": "3"}, {"name": "C"}], "args": ["y"]}));
}

#[test]
fn label_selectors_read_every_form() {
    let pod = json!({"metadata": {"labels": {"app": "session", "tier": "web"}}});
    for (selector, fits) in [
        ("app=session,tier==web", true),
        ("app in (a, session),tier", true),
        ("app notin (session)", false),
        ("app!=session", false),
        ("!canary", true),
        ("canary", false),
        ("", true),
    ] {
        assert_eq!(select::Labels::parse(selector).map(|it| it.matches(&pod)), Ok(fits), "{selector}");
    }
    assert!(select::Labels::parse("app session").is_err());
}

// Over HTTP, with the client the product uses.

fn served(state: KubeState, now: i64) -> (Arc<Mutex<KubeState>>, kube::Client) {
    let state = Arc::new(Mutex::new(state));
    let router = router(Arc::clone(&state), Arc::new(move || now));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let router = router.clone();
        async move { router.oneshot(request.map(Body::new)).await }
    });
    (state, kube::Client::new(service, "shop"))
}

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_kind_reads_back_as_its_type() {
    let mut state = cluster();
    state.add_deployment(&spec("ledger", WorkloadKind::StatefulSet), START + 60_000);
    state.step(START + 120_000, &mut |_| PodHealth::Crash { reason: "Error".into(), exit: 1 });
    let budget = json!({"kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "session"},
                        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "session"}}}});
    assert!(state.add_object(budget, START));
    assert!(state.add_object(json!({"kind": "DaemonSet", "metadata": {"namespace": "shop", "name": "agent"}}), START));
    let (_, client) = served(state, START + 120_000);
    let all = ListParams::default();
    macro_rules! some {
        ($kind:ty) => {{
            let list = Api::<$kind>::all(client.clone()).list(&all).await.expect(stringify!($kind));
            assert!(!list.items.is_empty(), stringify!($kind));
            for item in &list.items {
                assert!(item.metadata.uid.is_some() && item.metadata.resource_version.is_some());
                assert!(item.metadata.creation_timestamp.is_some() && item.metadata.managed_fields.is_none());
            }
            list.items
        }};
    }
    some!(Node);
    some!(Namespace);
    some!(Service);
    some!(Event);
    some!(ConfigMap);
    some!(PersistentVolumeClaim);
    some!(StatefulSet);
    some!(DaemonSet);
    some!(ControllerRevision);
    some!(PodDisruptionBudget);
    let deployments = some!(Deployment);
    let sets = some!(ReplicaSet);
    let owner = |meta: &kube::core::ObjectMeta| meta.owner_references.clone().and_then(|it| it.into_iter().next());
    let set = sets.first().expect("a set");
    assert_eq!(owner(&set.metadata).map(|it| it.uid), deployments.first().and_then(|it| it.metadata.uid.clone()));
    let pods = some!(Pod);
    let pod = pods.iter().find(|it| it.metadata.labels.as_ref().is_some_and(|it| it["app"] == "session"));
    assert_eq!(pod.and_then(|it| owner(&it.metadata)).map(|it| Some(it.uid)), Some(set.metadata.uid.clone()));
    assert_eq!(client.apiserver_version().await.expect("a version").major, "1");
    assert!(client.list_api_groups().await.expect("groups").groups.iter().any(|it| it.name == "apps"));
    let resources = client.list_api_group_resources("apps/v1").await.expect("resources").resources;
    assert!(resources.iter().any(|it| it.name == "deployments/scale"));
    let missing = Api::<Pod>::namespaced(client.clone(), "shop").get("none").await.map_err(code);
    assert_eq!(missing.err(), Some((404, "NotFound".into())));
}

#[tokio::test]
async fn lists_select_and_page() {
    let (state, client) = served(cluster(), START + 60_000);
    let node = state.lock().expect("the state").pods("session")[0].node.clone();
    let pods = Api::<Pod>::namespaced(client.clone(), "shop");
    let here = pods.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await.expect("pods");
    assert!((1..4).contains(&here.items.len()));
    let page = pods.list(&ListParams::default().labels("app in (session)").limit(3)).await.expect("pods");
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (3, Some(1)));
    let token = page.metadata.continue_.expect("a token");
    assert_eq!(pods.list(&ListParams::default().limit(3).continue_token(&token)).await.expect("pods").items.len(), 1);
    let events = Api::<Event>::namespaced(client, "shop");
    let wanted = "involvedObject.kind=Deployment,involvedObject.name=session,reason=ScalingReplicaSet,type=Normal";
    assert_eq!(events.list(&ListParams::default().fields(wanted)).await.expect("events").items.len(), 1);
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let (state, client) = served(cluster(), START + 61_000);
    let before = state.lock().expect("the state").objects.clone();
    let api = Api::<Deployment>::namespaced(client.clone(), "shop");
    let params = PatchParams { dry_run: true, ..PatchParams::apply("midwatch") };
    let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "session", "image": "registry/x:2"}]}}}});
    let would = api.patch("session", &params, &Patch::Strategic(&body)).await.expect("the would-be object");
    assert_eq!(would.metadata.generation, Some(2));
    let image = would.spec.template.spec.and_then(|it| it.containers[0].image.clone());
    assert_eq!(image.as_deref(), Some("registry/x:2"));
    let scale = json!({"spec": {"replicas": 9}});
    api.patch_scale("session", &params, &Patch::Merge(&scale)).await.expect("the would-be scale");
    let pod = state.lock().expect("the state").pods("session")[0].name.clone();
    let pods = Api::<Pod>::namespaced(client, "shop");
    pods.delete(&pod, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.expect("the pod");
    // The kube client misspells `deleteOptions`, so only the request's own dry run reaches a server.
    let post_options = PostParams { dry_run: true, ..PostParams::default() };
    let params = EvictParams { delete_options: None, post_options };
    pods.evict(&pod, &params).await.expect("a would-be eviction");
    let state = state.lock().expect("the state");
    assert!(state.objects == before, "something changed");
    assert!(state.writes().is_empty());
}

#[tokio::test]
async fn writes_conflict_when_stale_and_are_journalled() {
    let (state, client) = served(cluster(), START + 61_000);
    let api = Api::<Deployment>::namespaced(client, "shop");
    let params = PatchParams { field_manager: Some("midwatch".into()), ..PatchParams::default() };
    let version = api.get("session").await.expect("it").metadata.resource_version.expect("a version");
    let body = |version: &str, image: &str| {
        json!({"metadata": {"resourceVersion": version}, "spec": {"template": {"spec": {"containers": [
            {"name": "session", "image": image}]}}}})
    };
    api.patch("session", &params, &Patch::Strategic(body(&version, "registry/x:2"))).await.expect("fresh");
    let stale = api.patch("session", &params, &Patch::Strategic(body(&version, "registry/x:3"))).await;
    assert_eq!(stale.map_err(code).err(), Some((409, "Conflict".into())));
    let test = json!([{"op": "test", "path": "/spec/replicas", "value": 99}]);
    let request = http::Request::patch("/apis/apps/v1/namespaces/shop/deployments/session?fieldManager=midwatch")
        .header("content-type", "application/json-patch+json")
        .header("user-agent", "test")
        .body(Body::from(test.to_string()));
    let router = router(Arc::clone(&state), Arc::new(|| START + 62_000));
    let answer = router.oneshot(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 422);
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let status: Value = serde_json::from_slice(&body).expect("a status");
    assert_eq!((text(&status, "/kind"), text(&status, "/reason")), ("Status", "Invalid"));
    let negative = api.patch_scale("session", &params, &Patch::Merge(json!({"spec": {"replicas": -1}}))).await;
    assert_eq!(negative.map_err(code).err(), Some((422, "Invalid".into())));
    let state = state.lock().expect("the state");
    assert_eq!(deployment(&state, "session").revision, 2);
    let writes: Vec<(u16, String, String)> =
        state.writes().into_iter().map(|it| (it.status, it.kind, it.field_manager)).collect();
    let line = |status: u16, kind: &str| (status, kind.to_owned(), "midwatch".to_owned());
    let (made, refused) = (line(200, "Deployment"), line(409, "Deployment"));
    assert_eq!(writes, [made, refused, line(422, "Deployment"), line(422, "Scale")]);
}

#[tokio::test]
async fn scaling_goes_both_ways() {
    let (state, client) = served(cluster(), START + 61_000);
    let api = Api::<Deployment>::namespaced(client, "shop");
    let scale: Scale = api.get_scale("session").await.expect("a scale");
    assert_eq!(scale.status.as_ref().and_then(|it| it.selector.clone()).as_deref(), Some("app=session"));
    for (to, at) in [(6, START + 120_000), (2, START + 200_000)] {
        let body = json!({"spec": {"replicas": to}});
        let scale = api.patch_scale("session", &PatchParams::default(), &Patch::Merge(&body)).await.expect("a scale");
        assert_eq!(scale.spec.and_then(|it| it.replicas), Some(to));
        let mut state = state.lock().expect("the state");
        state.step(at, &mut ready);
        let view = deployment(&state, "session");
        assert!(view.complete && view.available == i64::from(to) && view.revision == 1, "{view:?}");
    }
}

#[tokio::test]
async fn logs_eviction_and_deletion_work_on_pods() {
    let mut state = cluster();
    let budget = json!({"kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "session"},
                        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "session"}}}});
    assert!(state.add_object(budget, START));
    state.set_logs(Arc::new(|ns, pod, previous, tail| format!("{ns}/{pod} {previous} {tail}")));
    let (state, client) = served(state, START + 61_000);
    let names: Vec<String> = state.lock().expect("the state").pods("session").into_iter().map(|pod| pod.name).collect();
    let pods = Api::<Pod>::namespaced(client, "shop");
    let params = LogParams { tail_lines: Some(5), ..LogParams::default() };
    let log = pods.logs(&names[0], &params).await.expect("a log");
    assert_eq!(log, format!("shop/{} false 5", names[0]));
    let previous = pods.logs(&names[0], &LogParams { previous: true, ..LogParams::default() }).await;
    assert_eq!(previous.map_err(code).err().map(|it| it.0), Some(400));
    pods.evict(&names[0], &EvictParams::default()).await.expect("within the budget");
    let second = pods.evict(&names[1], &EvictParams::default()).await;
    assert_eq!(second.map_err(code).err(), Some((429, "TooManyRequests".into())));
    pods.delete(&names[1], &DeleteParams::default()).await.expect("a pod");
    let mut state = state.lock().expect("the state");
    state.step(START + 120_000, &mut ready);
    assert!(deployment(&state, "session").complete);
    assert!(state.pods("session").iter().all(|pod| pod.name != names[0] && pod.name != names[1]));
    assert_eq!(state.writes().len(), 3);
}
