//! Every action of the catalogue against the simulated API server: prepared, tried, written, found, undone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::serve;
use midwatch::adapters::kubernetes::{Access, Bearer, KubernetesCluster};
use midwatch::domain::action::{Action, ActionKind, RiskTier, Undo};
use midwatch::ports::{Cluster, ClusterError, DeclaredJob, Identity, Progress, Took, Wish};
use midwatch::world::kubernetes::{DeploymentSpec, Granted, KubeState, PodHealth, router};
use serde_json::{Value, json};

use crate::admission::{Admission, Asked};

const START: i64 = 1_760_000_000_000;

pub struct Estate {
    pub state: Arc<Mutex<KubeState>>,
    now: Arc<AtomicI64>,
    cluster: KubernetesCluster,
    url: String,
}

pub async fn estate() -> Estate {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut state = KubeState::new(7);
    for node in ["node-1", "node-2", "node-3"] {
        state.add_node(node, 8, START);
    }
    let web = DeploymentSpec {
        namespace: "shop".into(),
        name: "web".into(),
        replicas: 4,
        image: "registry/web:1".into(),
        cpu_limit: "500m".into(),
        mem_limit: "512Mi".into(),
        change_cause: "first".into(),
        ..DeploymentSpec::default()
    };
    state.add_deployment(&web, START);
    let change = midwatch::world::kubernetes::TemplateChange {
        image: Some("registry/web:2".into()),
        cause: "second".into(),
        ..Default::default()
    };
    state.add_object(node_agent("registry/agent:1"), START);
    state.step(START + 60_000, &mut |_| PodHealth::Ready);
    state.add_object(node_agent("registry/agent:2"), START + 60_000);
    state.roll_out("shop", "web", &change, START + 60_000).unwrap();
    for object in objects() {
        let kind = object["kind"].clone();
        assert!(state.add_object(object, START), "{kind} is not known");
    }
    let state = Arc::new(Mutex::new(state));
    let now = Arc::new(AtomicI64::new(START + 60_000));
    let (of_state, of_now) = (state.clone(), now.clone());
    let app = router(of_state, Arc::new(move || of_now.load(Ordering::SeqCst)));
    let url = serve(app).await;
    let access = Access::at(&url, Bearer::Token("all".into()));
    let cluster = KubernetesCluster::connect(&access, Some(&access)).await.unwrap();
    let estate = Estate { state, now, cluster, url };
    estate.pass(600_000);
    estate
}

impl Estate {
    fn pass(&self, millis: i64) {
        let until = self.now.fetch_add(millis, Ordering::SeqCst) + millis;
        self.state.lock().unwrap().step(until, &mut |_| PodHealth::Ready);
    }

    fn put(&self, object: Value) {
        self.state.lock().unwrap().add_object(object, self.now.load(Ordering::SeqCst));
    }

    fn writes(&self) -> usize {
        self.state.lock().unwrap().writes().len()
    }
}

/// A DaemonSet of the namespace `shop`.
pub fn node_agent(image: &str) -> Value {
    let labels = json!({"app": "node-agent"});
    json!({"kind": "DaemonSet", "metadata": {"namespace": "shop", "name": "node-agent"},
           "spec": {"selector": {"matchLabels": labels}, "updateStrategy": {"type": "RollingUpdate"},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "agent", "image": image}]}}}})
}

fn objects() -> Vec<Value> {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "clean", "image": "busybox"}]}});
    vec![
        json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "other"},
               "spec": {"minReplicas": 2, "maxReplicas": 4,
                        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}}}),
        json!({"kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "web-pdb"},
               "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}}),
        json!({"kind": "ResourceQuota", "metadata": {"namespace": "shop", "name": "pods"},
               "spec": {"hard": {"pods": "10"}}, "status": {"hard": {"pods": "10"}, "used": {"pods": "4"}}}),
        json!({"kind": "Job", "metadata": {"namespace": "shop", "name": "stuck"},
               "spec": {"template": template}, "status": {"active": 1}}),
        json!({"kind": "CronJob", "metadata": {"namespace": "shop", "name": "cleanup"},
               "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}}),
        json!({"kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "flags"}, "data": {"new-checkout": "on"}}),
        json!({"kind": "Application", "metadata": {"namespace": "argocd", "name": "shop"},
               "spec": {"project": "default", "destination": {"namespace": "shop"}, "source": {"repoURL": "https://git"},
                        "syncPolicy": {"automated": {"prune": true}}},
               "status": {"history": [{"id": 3, "revision": "aaa", "source": {"repoURL": "https://git"}},
                                      {"id": 4, "revision": "bbb", "source": {"repoURL": "https://git"}}]}}),
        json!({"kind": "Kustomization", "metadata": {"namespace": "flux", "name": "shop"},
               "spec": {"path": "./shop", "sourceRef": {"kind": "GitRepository", "name": "estate"}}}),
        json!({"kind": "GitRepository", "metadata": {"namespace": "flux", "name": "estate"},
               "spec": {"url": "https://git", "ref": {"branch": "main"}}}),
        json!({"kind": "HelmRelease", "metadata": {"namespace": "flux", "name": "cart"},
               "spec": {"chart": {"spec": {"chart": "cart", "version": "1.3.0"}}},
               "status": {"history": [{"chartVersion": "1.3.0"}, {"chartVersion": "1.2.0"}]}}),
    ]
}

fn wish(action: ActionKind, namespace: &str, name: &str, to: Option<&str>) -> Wish {
    Wish {
        action,
        cluster: "c".into(),
        namespace: namespace.into(),
        kind: String::new(),
        name: name.into(),
        to: to.map(str::to_owned),
        data: None,
        declared: None,
    }
}

/// Writes what the deployed admission policy must let pass.
async fn admitted(estate: &Estate, action: &Action, version: &str, mark: &str) {
    let target = action.target();
    let old = estate.state.lock().unwrap().object(&target.kind, &target.namespace, &target.name);
    estate.cluster.apply(action, version, mark).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    let state = estate.state.lock().unwrap();
    let write = state.writes().last().cloned().unwrap();
    let new = state.object(&target.kind, &target.namespace, &target.name);
    let asked = Asked::of(&write, old, new);
    assert_eq!(Admission::deployed().refused(&asked), Vec::<String>::new(), "{action}: {asked:?}");
}

/// Prepares, tries, writes and finds it; then undoes it where that is possible.
async fn through(estate: &Estate, wish: &Wish) -> Action {
    let cluster = &estate.cluster;
    let action = cluster.prepare(wish).await.unwrap_or_else(|error| panic!("{wish:?}: {error}"));
    let before = estate.writes();
    let tried = cluster.dry_run(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    let again = cluster.dry_run(&action).await.unwrap();
    assert_eq!((&tried.before, &tried.after), (&again.before, &again.after), "{action}: two tries agree (S4)");
    assert_eq!(estate.writes(), before, "{action}: a dry run wrote");
    assert_ne!(tried.before, tried.after, "{action}");
    let restart_or_back = matches!(action, Action::RollBack { .. });
    if !restart_or_back {
        assert_eq!(cluster.took_effect(&action, "INC-1.P1").await.unwrap(), Took::No, "{action}");
    }
    let stale = cluster.apply(&action, "1", "INC-1.P1").await;
    assert!(matches!(stale, Err(ClusterError::Conflict(_))), "{action}: an old version is refused: {stale:?}");
    admitted(estate, &action, &tried.resource_version, "INC-1.P1").await;
    let written = estate.state.lock().unwrap().writes().last().cloned().unwrap();
    assert!(written.status < 300, "{action}: {written:?}");
    assert!(written.verb == "delete" || written.field_manager == "midwatch", "{action}: {written:?}");
    if !restart_or_back {
        let took = cluster.took_effect(&action, "INC-1.P1").await.unwrap();
        assert!(matches!(took, Took::Yes(_)), "{action}: {took:?}");
    }
    estate.pass(600_000);
    if let Undo::By(undo) = action.undo() {
        let tried = cluster.dry_run(&undo).await.unwrap_or_else(|error| panic!("{undo}: {error}"));
        admitted(estate, &undo, &tried.resource_version, "INC-1.P1-undo").await;
        estate.pass(600_000);
    }
    action
}

async fn progress(estate: &Estate, action: &Action) -> Progress {
    estate.cluster.settled(action, "INC-1.P1").await.unwrap().progress
}

#[tokio::test]
async fn every_action_is_tried_written_found_and_undone() {
    let estate = estate().await;
    let restart = through(&estate, &wish(ActionKind::Restart, "shop", "web", None)).await;
    assert_eq!(progress(&estate, &restart).await, Progress::Done);
    let back = through(&estate, &wish(ActionKind::RollBack, "shop", "node-agent", None)).await;
    assert_eq!(back.to_string(), "roll back shop/daemonset/node-agent from revision 2 to revision 1");
    let restart = through(&estate, &wish(ActionKind::Restart, "shop", "node-agent", None)).await;
    assert_eq!(progress(&estate, &restart).await, Progress::Done);
    through(&estate, &wish(ActionKind::Scale, "shop", "web", Some("6"))).await;
    through(&estate, &wish(ActionKind::SetBounds, "shop", "other", Some("3..8"))).await;
    through(&estate, &wish(ActionKind::PauseRollout, "shop", "web", None)).await;
    through(&estate, &wish(ActionKind::Cordon, "", "node-1", None)).await;
    through(&estate, &wish(ActionKind::SuspendCronJob, "shop", "cleanup", None)).await;
    through(&estate, &wish(ActionKind::DeleteJob, "shop", "stuck", None)).await;
    let back = BTreeMap::from([("new-checkout".to_owned(), "off".to_owned())]);
    let restore = Wish { data: Some(back), ..wish(ActionKind::RestoreConfig, "shop", "flags", None) };
    through(&estate, &restore).await;
    through(&estate, &wish(ActionKind::SuspendSync, "argocd", "shop", None)).await;
    through(&estate, &wish(ActionKind::SuspendSync, "flux", "shop", None)).await;
    through(&estate, &wish(ActionKind::RollBackRelease, "flux", "cart", None)).await;
    through(&estate, &wish(ActionKind::RollBackRelease, "flux", "estate", Some("0123abc"))).await;
    let pod = estate.state.lock().unwrap().pods("web").first().unwrap().name.clone();
    let evicted = through(&estate, &wish(ActionKind::EvictPod, "shop", &pod, None)).await;
    assert!(matches!(&evicted, Action::EvictPod { owner, .. } if owner == "ReplicaSet"));
    assert_eq!(progress(&estate, &evicted).await, Progress::Done);
    let declared = DeclaredJob { name: "clean-disk".into(), tier: RiskTier::Medium, job: "midwatch-inc-1-p1".into() };
    let run = Wish { declared: Some(declared), ..wish(ActionKind::RunJob, "shop", "cleanup", None) };
    let run = through(&estate, &run).await;
    assert_eq!(progress(&estate, &run).await, Progress::UnderWay, "the job runs");
    // The CronJob's status does not name it, since its controller did not make it.
    let twice = estate.cluster.dry_run(&run).await.unwrap_err().to_string();
    assert!(twice.contains("has a job that runs: midwatch-inc-1-p1 is neither"), "{twice}");
    let again = DeclaredJob { name: "clean-disk".into(), tier: RiskTier::Medium, job: "midwatch-inc-2-p1".into() };
    let again = Wish { declared: Some(again), ..wish(ActionKind::RunJob, "shop", "cleanup", None) };
    let again = estate.cluster.prepare(&again).await.unwrap();
    assert!(matches!(estate.cluster.dry_run(&again).await, Err(ClusterError::Refused(_))), "nor another plan's");
    let mut ended = estate.state.lock().unwrap().object("Job", "shop", "midwatch-inc-1-p1").unwrap();
    ended["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    estate.put(ended);
    estate.cluster.dry_run(&again).await.unwrap();
    // The same plan a second time is refused by the API server itself.
    assert!(matches!(estate.cluster.dry_run(&run).await, Err(ClusterError::Conflict(_))));
}

/// Its answer may have been lost: what runs then bears another number.
#[tokio::test]
async fn a_rollback_is_found_under_its_new_number_and_the_next_one_asks_for_a_revision() {
    let estate = estate().await;
    let cluster = &estate.cluster;
    let back = cluster.prepare(&wish(ActionKind::RollBack, "shop", "web", None)).await.unwrap();
    assert_eq!(back.to_string(), "roll back shop/deployment/web from revision 2 to revision 1");
    let tried = cluster.dry_run(&back).await.unwrap();
    cluster.apply(&back, &tried.resource_version, "INC-1.P1").await.unwrap();
    for _ in 0..2 {
        let found = cluster.dry_run(&back).await.unwrap();
        assert_eq!((&found.before, &found.after), (&tried.after, &tried.after), "it has been done");
        estate.pass(600_000);
    }
    // By number the bad one stands before the one that runs.
    let unclear = cluster.prepare(&wish(ActionKind::RollBack, "shop", "web", None)).await.unwrap_err().to_string();
    assert!(unclear.contains("away from revision 2") && unclear.contains("(kept are 2)"), "{unclear}");
    let named = cluster.prepare(&wish(ActionKind::RollBack, "shop", "web", Some("2"))).await.unwrap();
    assert_eq!(named.to_string(), "roll back shop/deployment/web from revision 3 to revision 2");
    // Somebody goes on: then the revision before is the one that ran before.
    let change = midwatch::world::kubernetes::TemplateChange {
        image: Some("registry/web:3".into()),
        cause: "third".into(),
        ..Default::default()
    };
    let now = estate.now.load(Ordering::SeqCst);
    estate.state.lock().unwrap().roll_out("shop", "web", &change, now).unwrap();
    estate.pass(600_000);
    let moved_on = cluster.dry_run(&back).await.unwrap_err();
    assert!(matches!(&moved_on, ClusterError::Conflict(why) if why.contains("runs revision 4 by now")), "{moved_on:?}");
    let again = cluster.prepare(&wish(ActionKind::RollBack, "shop", "web", None)).await.unwrap();
    assert_eq!(again.to_string(), "roll back shop/deployment/web from revision 4 to revision 3");
}

#[tokio::test]
async fn a_daemon_set_that_was_put_back_is_found_so_until_somebody_else_changes_it() {
    let estate = estate().await;
    let cluster = &estate.cluster;
    let back = cluster.prepare(&wish(ActionKind::RollBack, "shop", "node-agent", None)).await.unwrap();
    let tried = cluster.dry_run(&back).await.unwrap();
    cluster.apply(&back, &tried.resource_version, "INC-1.P1").await.unwrap();
    for _ in 0..2 {
        let found = cluster.dry_run(&back).await.unwrap();
        assert_eq!((&found.before, &found.after), (&tried.after, &tried.after), "it has been done");
        assert_eq!(progress(&estate, &back).await, Progress::Done);
        estate.pass(600_000);
    }
    let mut theirs = estate.state.lock().unwrap().object("DaemonSet", "shop", "node-agent").unwrap();
    theirs["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry/agent:3");
    estate.put(theirs);
    assert_eq!(progress(&estate, &back).await, Progress::Overruled);
}

#[tokio::test]
async fn argo_rolls_back_only_when_nothing_synchronises_meanwhile() {
    let estate = estate().await;
    let cluster = &estate.cluster;
    let back = cluster.prepare(&wish(ActionKind::RollBackRelease, "argocd", "shop", None)).await.unwrap();
    assert_eq!(back.to_string(), "roll back argocd/application/shop from 4 to 3");
    let refused = cluster.dry_run(&back).await.unwrap_err().to_string();
    assert!(refused.contains("suspend it first"), "{refused}");
    let off = cluster.prepare(&wish(ActionKind::SuspendSync, "argocd", "shop", None)).await.unwrap();
    let tried = cluster.dry_run(&off).await.unwrap();
    cluster.apply(&off, &tried.resource_version, "P").await.unwrap();
    let tried = cluster.dry_run(&back).await.unwrap();
    assert!(tried.diff.contains("+revision: aaa"), "{}", tried.diff);
    cluster.apply(&back, &tried.resource_version, "P").await.unwrap();
    assert!(matches!(cluster.took_effect(&back, "P").await.unwrap(), Took::Yes(_)));
    assert_eq!(progress(&estate, &back).await, Progress::UnderWay, "asked for is not applied");
    assert!(cluster.dry_run(&back).await.unwrap_err().to_string().contains("operation in progress"));
}

#[tokio::test]
async fn a_disruption_budget_holds_an_eviction_back_and_the_card_says_so() {
    let estate = estate().await;
    estate.put(json!({"kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "web-pdb"},
        "spec": {"minAvailable": "100%", "selector": {"matchLabels": {"app": "web"}}}}));
    let pod = estate.state.lock().unwrap().pods("web").first().unwrap().name.clone();
    let evict = estate.cluster.prepare(&wish(ActionKind::EvictPod, "shop", &pod, None)).await.unwrap();
    let held = estate.cluster.dry_run(&evict).await.unwrap_err();
    assert!(matches!(&held, ClusterError::Budget(why) if why.contains("web-pdb")), "{held:?}");
    let around = estate.cluster.surroundings(&evict).await.unwrap();
    assert_eq!((around.replicas, around.budgets[0].allowed, around.quotas[0].hard), (4, 0, 10));
    estate.put(json!({"kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "second"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}));
    let two = estate.cluster.apply(&evict, &version(&estate, &pod).await, "P").await.unwrap_err();
    assert!(matches!(&two, ClusterError::Unknown(why) if why.contains("more than one PodDisruptionBudget")), "{two:?}");
}

async fn version(estate: &Estate, pod: &str) -> String {
    let text =
        reqwest::get(format!("{}/api/v1/namespaces/shop/pods/{pod}", estate.url)).await.unwrap().text().await.unwrap();
    let pod: Value = serde_json::from_str(&text).unwrap();
    pod["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_autoscaler_owns_the_replicas_and_what_cannot_be_is_refused_with_its_reason() {
    let estate = estate().await;
    estate.put(json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "web-hpa"},
        "spec": {"minReplicas": 2, "maxReplicas": 4,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}));
    let said = async |wish: &Wish| match estate.cluster.prepare(wish).await {
        Err(error) => error.to_string(),
        Ok(action) => estate.cluster.dry_run(&action).await.unwrap_err().to_string(),
    };
    let scale = said(&wish(ActionKind::Scale, "shop", "web", Some("6"))).await;
    assert!(scale.contains("shop/web-hpa owns the replicas"), "{scale}");
    // Put there after the card: asked again before the write.
    estate.put(json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "web-hpa"},
        "spec": {"maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "away"}}}));
    let scale = estate.cluster.prepare(&wish(ActionKind::Scale, "shop", "web", Some("6"))).await.unwrap();
    let version = estate.cluster.dry_run(&scale).await.unwrap().resource_version;
    estate.put(json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "web-hpa"},
        "spec": {"minReplicas": 2, "maxReplicas": 4,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}));
    for refused in [
        estate.cluster.dry_run(&scale).await.map(|_| ()).unwrap_err(),
        estate.cluster.apply(&scale, &version, "P").await.map(|_| ()).unwrap_err(),
    ] {
        assert!(refused.to_string().contains("shop/web-hpa owns the replicas"), "{refused}");
    }
    for (wish, expected) in [
        (wish(ActionKind::SetBounds, "shop", "web-hpa", Some("9..3")), "the lower is above the upper"),
        (wish(ActionKind::ResumeRollout, "shop", "web", None), "is not paused"),
        (wish(ActionKind::Uncordon, "", "node-2", None), "is not cordoned"),
        (wish(ActionKind::ResumeCronJob, "shop", "cleanup", None), "is not suspended"),
        (wish(ActionKind::RestoreConfig, "shop", "flags", None), "no earlier data"),
        (wish(ActionKind::RunJob, "shop", "cleanup", None), "only jobs that the configuration declares"),
        (wish(ActionKind::Restart, "shop", "nobody", None), "not found"),
        (wish(ActionKind::Cordon, "shop", "node-2", None), "is in no namespace"),
    ] {
        let said = said(&wish).await;
        assert!(said.contains(expected), "{wish:?}: {said}");
    }
    estate.put(json!({"kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "fixed"}, "immutable": true, "data": {"a": "1"}}));
    let fixed = Wish { data: Some(BTreeMap::new()), ..wish(ActionKind::RestoreConfig, "shop", "fixed", None) };
    assert!(said(&fixed).await.contains("is immutable"));
}

#[tokio::test]
async fn a_drain_names_its_pods_and_refuses_what_would_be_lost() {
    let estate = estate().await;
    let drain = estate.cluster.prepare(&wish(ActionKind::Drain, "", "node-1", None)).await.unwrap();
    let Action::Drain { pods, .. } = &drain else { panic!("{drain:?}") };
    let here = estate.state.lock().unwrap().all_pods().into_iter().filter(|pod| pod.node == "node-1").count();
    assert_eq!(pods.len(), here);
    assert!(here > 0);
    assert_eq!(drain.follow_ups().len(), here);
    estate.put(json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": "naked"},
        "spec": {"nodeName": "node-1", "containers": []}, "status": {"phase": "Running"}}));
    let refused = estate.cluster.prepare(&wish(ActionKind::Drain, "", "node-1", None)).await.unwrap_err().to_string();
    assert!(refused.contains("shop/naked has no controller"), "{refused}");
}

/// Namespaces and services that the action changes, as the card and the digest have them.
async fn extent(estate: &Estate, wish: &Wish) -> (Vec<String>, Vec<String>) {
    let action = estate.cluster.prepare(wish).await.unwrap_or_else(|error| panic!("{wish:?}: {error}"));
    let extent = estate.cluster.surroundings(&action).await.unwrap().extent.unwrap();
    (extent.namespaces.into_iter().collect(), extent.services.into_iter().collect())
}

#[tokio::test]
async fn what_an_action_changes_is_read_from_the_objects_and_not_from_names() {
    let estate = estate().await;
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let checkout = DeploymentSpec {
        namespace: "shop".into(),
        name: "checkout-v2".into(),
        labels: BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "checkout".to_owned()),
            ("kustomize.toolkit.fluxcd.io/name".to_owned(), "shop".to_owned()),
            ("kustomize.toolkit.fluxcd.io/namespace".to_owned(), "flux".to_owned()),
        ]),
        replicas: 1,
        image: "registry/checkout:1".into(),
        config_map: Some(("app-config".into(), BTreeMap::from([("a".to_owned(), "1".to_owned())]))),
        cpu_limit: "500m".into(),
        mem_limit: "512Mi".into(),
        ..DeploymentSpec::default()
    };
    estate.state.lock().unwrap().add_deployment(&checkout, START + 660_000);
    estate.put(json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": "agent-1", "labels": {"app": "agent"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "app-config"}}]}]},
        "status": {"phase": "Running"}}));
    estate.put(json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "hpa-1"},
        "spec": {"minReplicas": 2, "maxReplicas": 4,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout-v2"}}}));
    estate.put(json!({"kind": "HelmRelease", "metadata": {"namespace": "flux", "name": "pay"},
        "spec": {"targetNamespace": "pay", "chart": {"spec": {"chart": "pay", "version": "1.3.0",
                 "sourceRef": {"kind": "GitRepository", "name": "estate"}}}},
        "status": {"history": [{"chartVersion": "1.3.0"}, {"chartVersion": "1.2.0"}]}}));
    let bounds = extent(&estate, &wish(ActionKind::SetBounds, "shop", "hpa-1", Some("3..8"))).await;
    assert_eq!(bounds, (names(&["shop"]), names(&["checkout"])));
    let restore = Wish { data: Some(BTreeMap::new()), ..wish(ActionKind::RestoreConfig, "shop", "app-config", None) };
    assert_eq!(extent(&estate, &restore).await, (names(&["shop"]), names(&["agent", "checkout"])));
    let application = extent(&estate, &wish(ActionKind::SuspendSync, "argocd", "shop", None)).await;
    assert_eq!(application, (names(&["argocd", "shop"]), vec![]));
    let kustomization = Wish { kind: "Kustomization".into(), ..wish(ActionKind::SuspendSync, "flux", "shop", None) };
    assert_eq!(extent(&estate, &kustomization).await, (names(&["flux", "shop"]), names(&["checkout"])));
    estate.put(json!({"kind": "Kustomization", "metadata": {"namespace": "flux", "name": "flags"}, "spec": {"path": "./flags"},
        "status": {"inventory": {"entries": [{"id": "till_flags__ConfigMap", "v": "v1"}, {"id": "_till__Namespace", "v": "v1"}]}}}));
    let flags = extent(&estate, &wish(ActionKind::SuspendSync, "flux", "flags", None)).await;
    assert_eq!(flags, (names(&["flux", "till"]), vec![]));
    let release = extent(&estate, &wish(ActionKind::RollBackRelease, "flux", "pay", None)).await;
    assert_eq!(release, (names(&["flux", "pay"]), vec![]));
    // Whatever follows the repository.
    let repository = extent(&estate, &wish(ActionKind::RollBackRelease, "flux", "estate", Some("0123abc"))).await;
    assert_eq!(repository, (names(&["flux", "pay", "shop"]), names(&["checkout"])));
    let restart = extent(&estate, &wish(ActionKind::Restart, "shop", "web", None)).await;
    assert_eq!(restart, (names(&["shop"]), names(&["web"])));
}

#[tokio::test]
async fn an_eviction_is_done_when_what_was_evicted_is_replaced() {
    let estate = estate().await;
    let pod = estate.state.lock().unwrap().pods("web").first().unwrap().name.clone();
    let evict = estate.cluster.prepare(&wish(ActionKind::EvictPod, "shop", &pod, None)).await.unwrap();
    estate.cluster.apply(&evict, &version(&estate, &pod).await, "P").await.unwrap();
    assert_eq!(progress(&estate, &evict).await, Progress::UnderWay, "its replacement is not ready");
    estate.pass(600_000);
    assert_eq!(progress(&estate, &evict).await, Progress::Done);
}

#[tokio::test]
async fn bounds_are_done_when_the_replicas_are_within() {
    let estate = estate().await;
    let put = |replicas: i64| {
        estate.put(json!({"kind": "HorizontalPodAutoscaler", "metadata": {"namespace": "shop", "name": "scaler"},
            "spec": {"minReplicas": 3, "maxReplicas": 8,
                     "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}},
            "status": {"currentReplicas": replicas, "desiredReplicas": 3}}));
    };
    put(2);
    let set = estate.cluster.prepare(&wish(ActionKind::SetBounds, "shop", "scaler", Some("3..8"))).await.unwrap();
    assert_eq!(progress(&estate, &set).await, Progress::UnderWay);
    put(3);
    let set = estate.cluster.prepare(&wish(ActionKind::SetBounds, "shop", "scaler", Some("3..8"))).await.unwrap();
    assert_eq!(progress(&estate, &set).await, Progress::Done);
}

#[tokio::test]
async fn a_drain_of_a_cordoned_node_leaves_it_cordoned() {
    let estate = estate().await;
    let cordon = estate.cluster.prepare(&wish(ActionKind::Cordon, "", "node-1", None)).await.unwrap();
    let tried = estate.cluster.dry_run(&cordon).await.unwrap();
    estate.cluster.apply(&cordon, &tried.resource_version, "P").await.unwrap();
    let drain = estate.cluster.prepare(&wish(ActionKind::Drain, "", "node-1", None)).await.unwrap();
    assert!(matches!(drain.undo(), Undo::None(_)), "{drain:?}");
    estate.cluster.dry_run(&drain).await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_named_by_its_verb() {
    let estate = estate().await;
    let granted = |resource: &str, verb: &str| Granted {
        group: "apps".into(),
        resource: resource.into(),
        verb: verb.into(),
        namespace: "shop".into(),
    };
    estate.state.lock().unwrap().grant("narrow", vec![granted("deployments", "get")]);
    let reader = Access::at(&estate.url, Bearer::Token("all".into()));
    let writer = Access::at(&estate.url, Bearer::Token("narrow".into()));
    let cluster = KubernetesCluster::connect(&reader, Some(&writer)).await.unwrap();
    let restart = cluster.prepare(&wish(ActionKind::Restart, "shop", "web", None)).await.unwrap();
    let refused = cluster.dry_run(&restart).await.unwrap_err();
    assert!(
        matches!(&refused, ClusterError::Forbidden(why) if why.contains("cannot patch resource \"deployments\"") && why.contains("\"shop\"")),
        "{refused:?}"
    );
    let rights = ActionKind::Restart.rights();
    let grants = cluster.grants(Identity::Writer, &["shop".into(), "pay".into()], &rights).await.unwrap();
    let allowed: Vec<(&str, &str, bool)> =
        grants.iter().map(|grant| (grant.right.verb, grant.namespace.as_str(), grant.allowed)).collect();
    assert_eq!(
        allowed,
        [("get", "shop", true), ("get", "pay", false), ("patch", "shop", false), ("patch", "pay", false)]
    );
}
