//! Against an API server faked at HTTP level, with the answers and refusals of a real one.

mod daemon;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;
use crate::domain::action::Target;
use crate::ports::Progress;

/// What the fake was sent: (content type, dry run, body).
type Seen = Arc<Mutex<Vec<(String, bool, Value)>>>;

fn template(image: &str) -> Value {
    json!({"metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image, "fieldOfTomorrow": 1}]}})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web-api", "namespace": "prod", "uid": "u1", "resourceVersion": "5", "generation": 3,
            "labels": {"app": "web"}, "annotations": {"deployment.kubernetes.io/revision": "7"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:7")},
        "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 2}})
}

fn replica_set(revision: &str, history: &str, image: &str) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!("abc");
    json!({"metadata": {"name": format!("web-api-{revision}"), "namespace": "prod", "uid": format!("rs{revision}"),
            "creationTimestamp": "2026-11-21T02:00:00Z",
            "annotations": {"deployment.kubernetes.io/revision": revision, "deployment.kubernetes.io/revision-history": history,
                "kubernetes.io/change-cause": "release"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-api", "uid": "u1", "controller": true}]},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

fn status(code: u16, message: &str) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    let body = json!({"kind": "Status", "status": "Failure", "message": message, "code": code.as_u16()});
    (code, Json(body)).into_response()
}

fn list(items: Vec<Value>) -> Json<Value> {
    Json(json!({"kind": "List", "metadata": {"resourceVersion": "9"}, "items": items}))
}

async fn patch(
    State(seen): State<Seen>,
    Path(path): Path<HashMap<String, String>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let kind = headers["content-type"].to_str().unwrap().to_owned();
    seen.lock().unwrap().push((kind, query.contains_key("dryRun"), body.clone()));
    let mut object = deployment();
    object["metadata"]["resourceVersion"] = json!("6");
    object["metadata"]["generation"] = json!(4);
    if path.contains_key("sub") {
        if body["spec"]["replicas"] == 13 {
            return status(504, "timeout");
        }
        return Json(json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "web-api", "resourceVersion": "6"}, "spec": body["spec"]}))
        .into_response();
    }
    if let Some(steps) = body.as_array() {
        if steps[1]["value"] != "5" {
            return status(409, "the object has been modified");
        }
        object["spec"]["template"] = steps[2]["value"].clone();
    }
    Json(object).into_response()
}

fn stateful_set() -> Value {
    json!({"metadata": {"name": "db", "namespace": "prod", "uid": "s1"},
        "spec": {"selector": {}, "serviceName": "db", "template": {"metadata": {}, "spec": {"containers": []}}},
        "status": {"replicas": 1, "currentRevision": "db-1", "updateRevision": "db-2"}})
}

fn controller_revision(number: i64, image: &str, owner: &str) -> Value {
    json!({"metadata": {"name": format!("db-{number}"), "namespace": "prod",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": owner}]},
        "revision": number,
        "data": {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": image}]}, "$patch": "replace"}}}})
}

async fn cluster(writer: bool) -> (KubernetesCluster, Seen) {
    let seen = Seen::default();
    let pod = json!({"metadata": {"name": "web-1", "namespace": "prod", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "web"}, {"name": "proxy"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "web", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}});
    let single = pod.clone();
    // Its first step is done (after one failure), its second fails, its container waits for both.
    let initialising = json!({"metadata": {"name": "web-2", "namespace": "init", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}]},
        "status": {"phase": "Pending",
            "initContainerStatuses": [
                {"name": "prepare", "image": "i", "imageID": "", "ready": true, "restartCount": 1,
                    "state": {"terminated": {"reason": "Completed", "exitCode": 0}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}},
                {"name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 6,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}}],
            "containerStatuses": [{"name": "web", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}}}]}});
    let logs = |Query(query): Query<HashMap<String, String>>| async move {
        match query.get("container") {
            None => status(400, "a container name must be specified for pod web-1"),
            Some(name) => format!("{name} {} {}", query["previous"], query["tailLines"]).into_response(),
        }
    };
    let sets = vec![replica_set("8", "4, 6", "web:6"), replica_set("7", "", "web:7"), replica_set("5", "", "web:5")];
    let app = Router::new()
        .route("/apis/apps/v1/deployments", get(|| async { list(vec![deployment()]) }))
        .route("/apis/apps/v1/statefulsets", get(|| async { list(vec![stateful_set()]) }))
        .route("/apis/apps/v1/daemonsets", get(|| async { list(vec![]) }))
        .route("/apis/apps/v1/namespaces/prod/deployments/web-api", get(|| async { Json(deployment()) }).patch(patch))
        .route("/apis/apps/v1/namespaces/prod/deployments/web-api/{sub}", axum::routing::patch(patch))
        .route("/apis/apps/v1/namespaces/prod/deployments/gone", get(|| async { status(404, "not found") }))
        .route("/apis/apps/v1/namespaces/prod/deployments/secret", get(|| async { status(403, "needs verb get") }))
        .route("/apis/apps/v1/namespaces/prod/replicasets", get(|| async move { list(sets) }))
        // Another one of the same name.
        .route("/apis/apps/v1/namespaces/prod/deployments/db", get(|| async { Json(deployment()) }))
        .route("/apis/apps/v1/namespaces/prod/statefulsets/db", get(|| async { Json(stateful_set()) }))
        .route(
            "/apis/apps/v1/namespaces/prod/controllerrevisions",
            get(|| async {
                list(vec![
                    controller_revision(2, "db:2", "s1"),
                    controller_revision(1, "db:1", "s1"),
                    controller_revision(9, "x", "s2"),
                ])
            }),
        )
        .route("/api/v1/namespaces/prod/pods", get(|| async move { list(vec![pod]) }))
        .route("/api/v1/namespaces/init/pods", get(|| async move { list(vec![initialising]) }))
        .route("/api/v1/namespaces/prod/pods/web-1", get(|| async move { Json(single) }))
        .route("/api/v1/namespaces/prod/pods/web-1/log", get(logs))
        .with_state(seen.clone());
    let access = serve(app).await;
    (KubernetesCluster::connect(&access, writer.then_some(&access)).await.unwrap(), seen)
}

async fn serve(app: Router) -> Access {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let access = Access::at(&format!("http://{}", listener.local_addr().unwrap()), Bearer::Own);
    tokio::spawn(async move { axum::serve(listener, app).await });
    access
}

fn target(uid: &str) -> Target {
    Target {
        cluster: "default".into(),
        namespace: "prod".into(),
        kind: "Deployment".into(),
        name: "web-api".into(),
        uid: uid.into(),
    }
}

#[tokio::test]
async fn workloads_pods_and_history_are_read() {
    let (cluster, _) = cluster(false).await;
    let mut workloads = cluster.workloads().await.unwrap();
    let (workload, set) = (workloads.remove(1), workloads.remove(0));
    assert_eq!((workload.service.as_str(), workload.revision, workload.rolled_out), ("web", Some(7), true));
    let pod = cluster.pods(Some("prod")).await.unwrap().remove(0);
    assert_eq!((pod.restarts, pod.reason.as_deref()), (4, Some("CrashLoopBackOff, last OOMKilled")));
    assert_eq!(pod.ended_at, None, "it is so now");
    let failing = cluster.pods(Some("init")).await.unwrap().remove(0);
    assert_eq!((failing.restarts, failing.reason.as_deref()), (6, Some("CrashLoopBackOff, last Error")));
    let revisions = cluster.revisions("Deployment", "prod", "web-api").await.unwrap();
    assert_eq!(revisions.iter().map(|revision| revision.number).collect::<Vec<_>>(), [5, 7, 8]);
    assert_eq!(revisions[0].template["metadata"]["labels"], json!({"app": "web"}));
    let of_set = cluster.revisions("StatefulSet", "prod", "db").await.unwrap();
    let images: Vec<_> = of_set.iter().map(|one| one.template.pointer("/spec/containers/0/image").unwrap()).collect();
    assert_eq!(images, ["db:1", "db:2"], "only what belongs to it");
    assert_eq!(of_set.iter().map(|one| set.runs(one, &of_set)).collect::<Vec<_>>(), [false, true]);
    assert_eq!(revisions.iter().map(|one| workload.runs(one, &revisions)).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(cluster.pod_logs("prod", "web-1", PodLogs::Previous, 20).await.unwrap(), "web true 20");
}

#[tokio::test]
async fn histories_are_listed_once_for_each_namespace() {
    let listed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = listed.clone();
    let sets = move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { list(vec![replica_set("7", "", "web:7"), replica_set("5", "", "web:5")]) }
    };
    let revisions = || async { list(vec![controller_revision(1, "db:1", "s1"), controller_revision(9, "x", "s2")]) };
    let app = Router::new()
        .route("/apis/apps/v1/namespaces/prod/replicasets", get(sets))
        .route("/apis/apps/v1/namespaces/prod/controllerrevisions", get(revisions))
        .route("/apis/apps/v1/namespaces/shut/replicasets", get(|| async { status(403, "needs verb list") }));
    let cluster = KubernetesCluster::connect(&serve(app).await, None).await.unwrap();
    let of = Workload::running;
    let workloads = [
        of("Deployment", "prod", "u1"),
        of("Deployment", "prod", "u2"),
        of("Deployment", "shut", "u3"),
        of("StatefulSet", "prod", "s1"),
    ];
    let told: Vec<_> = cluster
        .histories(&workloads)
        .await
        .into_iter()
        .map(|history| history.map(|kept| kept.iter().map(|revision| revision.number).collect::<Vec<_>>()))
        .collect();
    assert_eq!(told[..2], [Ok(vec![5, 7]), Ok(vec![])]);
    assert!(matches!(told[2], Err(ClusterError::Forbidden(_))));
    assert_eq!(told[3], Ok(vec![1]));
    assert_eq!(listed.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn how_a_container_ended_is_told_with_its_time_and_what_is_so_now_comes_first() {
    let container = |name: &str, state: Value, last: Value| {
        json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 1, "state": state,
            "lastState": last})
    };
    let ended = |reason: &str, at: &str| json!({"terminated": {"reason": reason, "exitCode": 1, "finishedAt": at}});
    let running = json!({"running": {}});
    let (long_ago, lately) = ("2026-11-01T02:00:00Z", "2026-11-21T02:00:00Z");
    let pod = |name: &str, phase: &str, containers: Vec<Value>| {
        json!({"metadata": {"name": name, "namespace": "prod"}, "spec": {"containers": []},
            "status": {"phase": phase, "containerStatuses": containers}})
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let pods = vec![
        pod(
            "well-since",
            "Running",
            vec![
                container("proxy", running.clone(), ended("Error", long_ago)),
                container("web", running.clone(), ended("OOMKilled", lately)),
            ],
        ),
        pod(
            "down-now",
            "Running",
            vec![
                container("proxy", running.clone(), ended("OOMKilled", long_ago)),
                container("web", waiting, ended("Error", lately)),
            ],
        ),
        pod("nightly", "Failed", vec![container("job", ended("Error", long_ago), json!({}))]),
        pod("done", "Succeeded", vec![container("job", ended("Completed", lately), json!({}))]),
    ];
    let app = Router::new().route("/api/v1/pods", get(move || async move { list(pods) }));
    let cluster = KubernetesCluster::connect(&serve(app).await, None).await.unwrap();
    let told: Vec<_> = cluster
        .pods(None)
        .await
        .unwrap()
        .into_iter()
        .map(|pod| {
            let at = pod.ended_at.map_or_else(|| "now".to_owned(), |at| at.to_string());
            format!("{}: {} {at}", pod.name, pod.reason.unwrap_or_default())
        })
        .collect();
    expect_test::expect![[r#"
        well-since: OOMKilled 2026-11-21T02:00:00.000Z
        down-now: CrashLoopBackOff, last Error now
        nightly: Error 2026-11-01T02:00:00.000Z
        done: Completed 2026-11-21T02:00:00.000Z"#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn what_is_no_name_is_not_asked_for_and_half_a_list_is_no_list() {
    let endless = || async { Json(json!({"kind": "List", "metadata": {"continue": "more"}, "items": []})) };
    let access = serve(Router::new().route("/api/v1/nodes", get(endless))).await;
    let cluster = KubernetesCluster::connect(&access, None).await.unwrap();
    let path = "prod/configmaps/flags?x=";
    let wish = |namespace: &str, name: &str| Wish {
        action: crate::domain::action::ActionKind::Restart,
        cluster: "default".into(),
        namespace: namespace.into(),
        kind: String::new(),
        name: name.into(),
        to: None,
        data: None,
        declared: None,
    };
    let said = [
        cluster.pod_logs(path, "p", PodLogs::Current, 1).await.unwrap_err(),
        cluster.pod_logs("prod", "../p", PodLogs::Current, 1).await.unwrap_err(),
        cluster.pods(Some(path)).await.unwrap_err(),
        cluster.events(Some(path)).await.unwrap_err(),
        cluster.revisions("Deployment", "prod", path).await.unwrap_err(),
        cluster.config_data(path, "flags").await.unwrap_err(),
        cluster.prepare(&wish(path, "web")).await.unwrap_err(),
        cluster.prepare(&wish("prod", "web/scale")).await.unwrap_err(),
    ];
    for (said, field) in
        said.iter().zip(["namespace", "pod", "namespace", "namespace", "workload", "namespace", "namespace", "name"])
    {
        assert!(said.to_string().contains(&format!("the {field} ")), "{said}");
        assert!(said.to_string().contains("is no name that Kubernetes allows"), "{said}");
    }
    let cut = cluster.nodes().await.unwrap_err();
    assert!(cut.to_string().contains("there are more than 20000 nodes"), "{cut}");
}

#[tokio::test]
async fn a_dry_run_shows_only_what_the_action_touches_and_repeats_itself() {
    let (cluster, seen) = cluster(true).await;
    let action = Action::RollBack { target: target("u1"), from_revision: 7, to_revision: 5 };
    let tried = cluster.dry_run(&action).await.unwrap();
    assert_eq!((tried.uid.as_str(), tried.resource_version.as_str()), ("u1", "5"));
    expect_test::expect![[r#"
        --- before
        +++ after
        @@ -4,5 +4,5 @@
         spec:
           containers:
           - fieldOfTomorrow: 1
        -    image: web:7
        +    image: web:5
             name: web
    "#]]
    .assert_eq(&tried.diff);
    let restart = Action::Restart { target: target("u1") };
    assert_eq!(cluster.dry_run(&restart).await, cluster.dry_run(&restart).await);
    let scale = Action::Scale { target: target("u1"), from: 2, to: 4 };
    assert_eq!(cluster.dry_run(&scale).await.unwrap().after, json!({"replicas": 4}));
    assert!(seen.lock().unwrap().iter().all(|(_, dry, _)| *dry), "a dry run wrote");
}

#[tokio::test]
async fn an_undo_finds_the_renumbered_revision() {
    let (cluster, _) = cluster(true).await;
    let action = Action::RollBack { target: target("u1"), from_revision: 7, to_revision: 6 };
    assert!(cluster.dry_run(&action).await.unwrap().diff.contains("+    image: web:6"));
    let action = Action::RollBack { target: target("u1"), from_revision: 7, to_revision: 3 };
    assert!(matches!(cluster.dry_run(&action).await, Err(ClusterError::NotFound(_))));
    // Revision 5 is still there and does not run: somebody moved on.
    let action = Action::RollBack { target: target("u1"), from_revision: 5, to_revision: 6 };
    assert!(matches!(cluster.dry_run(&action).await, Err(ClusterError::Conflict(_))));
    // Unless it runs what it was to go back to: then it has been done.
    let done = Action::RollBack { target: target("u1"), from_revision: 5, to_revision: 7 };
    let tried = cluster.dry_run(&done).await.unwrap();
    assert_eq!(tried.before, tried.after);
}

#[tokio::test]
async fn what_was_written_no_longer_stands_when_somebody_has_changed_it() {
    let (cluster, _) = cluster(true).await;
    let standing = async |action: Action| cluster.settled(&action, "INC-1.P1").await.unwrap();
    // One of two replicas is ready: under way, as long as the field is what was written.
    let scale = |to| Action::Scale { target: target("u1"), from: 1, to };
    assert_eq!(standing(scale(2)).await.progress, Progress::UnderWay);
    let other = standing(scale(4)).await;
    assert_eq!(other.progress, Progress::Overruled);
    assert!(other.fact.contains("{\"replicas\":2} by now"), "{}", other.fact);
    // Revision 7 runs; what was once revision 6 does not.
    let back = |to_revision| Action::RollBack { target: target("u1"), from_revision: 9, to_revision };
    assert_eq!(standing(back(7)).await.progress, Progress::UnderWay);
    let other = standing(back(6)).await;
    assert_eq!(other.progress, Progress::Overruled);
    assert!(other.fact.contains("has another template than its revision 6; it says revision 7"), "{}", other.fact);
    let restart = standing(Action::Restart { target: target("u1") }).await;
    assert_eq!(restart.progress, Progress::Overruled, "the template carries no mark");
}

#[tokio::test]
async fn a_write_names_the_uid_and_the_version_that_it_was_decided_on() {
    let (cluster, seen) = cluster(true).await;
    let applied = cluster.apply(&Action::Restart { target: target("u1") }, "5", "P").await.unwrap();
    assert_eq!((applied.resource_version.as_str(), applied.generation), ("6", 4));
    let (kind, dry, body) = seen.lock().unwrap()[0].clone();
    assert_eq!((kind.as_str(), dry), ("application/strategic-merge-patch+json", false));
    assert_eq!(body["metadata"], json!({"uid": "u1", "resourceVersion": "5"}));
    let scale = Action::Scale { target: target("u1"), from: 2, to: 4 };
    assert_eq!(cluster.apply(&scale, "5", "P").await.unwrap().generation, 4);
    assert!(matches!(cluster.apply(&scale, "4", "P").await, Err(ClusterError::Conflict(_))));
    let stranger = Action::Restart { target: target("u2") };
    assert!(matches!(cluster.apply(&stranger, "5", "P").await, Err(ClusterError::Conflict(_))));
}

#[tokio::test]
async fn a_lost_answer_of_a_write_is_unknown_and_a_missing_identity_forbids() {
    let (with_writer, _) = cluster(true).await;
    let scale = Action::Scale { target: target("u1"), from: 2, to: 13 };
    assert!(matches!(with_writer.apply(&scale, "5", "P").await, Err(ClusterError::Unknown(_))));
    assert!(matches!(with_writer.dry_run(&scale).await, Err(ClusterError::Unavailable(_))));
    let (reader, seen) = cluster(false).await;
    assert!(matches!(reader.apply(&scale, "5", "P").await, Err(ClusterError::Forbidden(_))));
    assert!(seen.lock().unwrap().is_empty());
    assert!(matches!(reader.revisions("Deployment", "prod", "gone").await, Err(ClusterError::NotFound(_))));
    assert!(matches!(reader.revisions("Deployment", "prod", "secret").await, Err(ClusterError::Forbidden(_))));
    let nobody = Access::at("http://127.0.0.1:9", Bearer::Own);
    let away = KubernetesCluster::connect(&nobody, Some(&nobody)).await.unwrap();
    assert!(matches!(away.apply(&scale, "5", "P").await, Err(ClusterError::Unavailable(_))));
}

/// A kubeconfig whose user has a token and a certificate of its own.
fn kubeconfig(folder: &std::path::Path) -> String {
    let path = folder.join("config");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
        clusters: [{name: c, cluster: {server: \"https://10.0.0.1:6443\"}}]\n\
        users: [{name: u, user: {token: theirs, client-certificate-data: Y2VydA==, client-key-data: a2V5}}]\n\
        contexts: [{name: here, context: {cluster: c, user: u}}]\n";
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_token_replaces_whom_the_kubeconfig_names_and_leaves_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::Kubeconfig { path: kubeconfig(folder.path()), context: None };
    let access = |identity| Access { server: server.clone(), identity };
    let own = access(Bearer::Own).config().await.unwrap();
    assert!(own.auth_info.token.is_some() && own.auth_info.client_certificate_data.is_some());
    let token = access(Bearer::Token("ours".into())).config().await.unwrap();
    assert_eq!(token.cluster_url, own.cluster_url);
    assert!(token.auth_info.token.is_some() && token.auth_info.client_certificate_data.is_none());
    let file = access(Bearer::File("/var/run/token".into())).config().await.unwrap();
    assert_eq!(file.auth_info.token_file.as_deref(), Some("/var/run/token"));
    assert!(file.auth_info.token.is_none() && file.auth_info.client_certificate_data.is_none());
}

#[tokio::test]
async fn a_ca_file_that_is_not_there_is_named() {
    let server = Server::Url { url: "https://10.0.0.1:6443".into(), ca_file: Some("/nowhere/ca.crt".into()) };
    let access = Access { server, identity: Bearer::Token("r".into()) };
    let Err(ClusterError::Unavailable(why)) = KubernetesCluster::connect(&access, None).await else {
        panic!("it connects without its CA")
    };
    assert!(why.contains("kubernetes.ca_file /nowhere/ca.crt"), "{why}");
}
