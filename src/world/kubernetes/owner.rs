//! What the simulation's owner does with the cluster: nodes, workloads, rollouts, time and views.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::build::{self, CAUSE, SET_HASH, TEMPLATE_HASH};
use super::controller::revision;
use super::events::Happening;
use super::kinds::{
    ALL, CLAIMS, CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICA_SETS, Resource, SERVICES, STATEFUL_SETS,
};
use super::kubelet::Stage;
use super::{
    DeploymentSpec, DeploymentView, KubeState, Name, NoSuchWorkload, PodHealth, PodView, TemplateChange, WorkloadKind,
    annotation, number, set, stamp, text, unset,
};

const TICK_MILLIS: i64 = 3_000;
/// Controllers look at everything this often; in between only at what moves.
const RESYNC_MILLIS: i64 = 600_000;
const LONGEST_CATCH_UP: i64 = 900_000;

impl KubeState {
    /// Adds a node of 8 cores and 32 GiB.
    pub fn add_node(&mut self, name: &str, cpus: u32, at: i64) {
        let index = self.list(NODES).count() + 1;
        self.add_namespace("default", at);
        self.put(NODES, build::node(name, index, cpus, at), at);
    }

    /// Takes a node's kubelet away or gives it back. Its pods turn unready at once, and are evicted after five minutes;
    /// they stay `Terminating` until the node is back.
    pub fn set_node_ready(&mut self, name: &str, ready: bool, reason: &str, at: i64) {
        let Some(mut node) = self.get(NODES, "", name).cloned() else { return };
        let unknown = reason == "NodeStatusUnknown";
        let (status, message) = match (ready, unknown) {
            (true, _) => ("True", "kubelet is posting ready status"),
            (false, true) => ("Unknown", "Kubelet stopped posting node status."),
            (false, false) => ("False", "container runtime is down"),
        };
        if let Some(conditions) = node.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            for condition in conditions.iter_mut().filter(|it| text(it, "/type") == "Ready") {
                set(condition, &["status"], json!(status));
                set(condition, &["reason"], json!(if ready { "KubeletReady" } else { reason }));
                set(condition, &["message"], json!(message));
                set(condition, &["lastTransitionTime"], json!(stamp(at)));
                set(condition, &["lastHeartbeatTime"], json!(stamp(at)));
            }
        }
        if ready {
            unset(&mut node, "/spec", "taints");
            self.nodes_down.remove(name);
        } else {
            let key = if unknown { "node.kubernetes.io/unreachable" } else { "node.kubernetes.io/not-ready" };
            let taint = |effect: &str| json!({"key": key, "effect": effect, "timeAdded": stamp(at)});
            set(&mut node, &["spec", "taints"], json!([taint("NoSchedule"), taint("NoExecute")]));
            self.nodes_down.entry(name.to_owned()).or_insert(at);
        }
        let node = self.put(NODES, node, at);
        let event = if ready { "NodeReady" } else { "NodeNotReady" };
        let message = format!("Node {name} status is now: {event}");
        let component = if ready { "kubelet" } else { "node-controller" };
        self.event(Happening { object: &node, warning: false, reason: event, message, component, host: "" }, at);
        let here: Vec<Name> =
            self.runs.iter().filter(|(_, run)| run.node == name).map(|(key, _)| key.clone()).collect();
        for key in here {
            let (Some(mut run), Some(pod)) = (self.runs.remove(&key), self.get(PODS, &key.0, &key.1).cloned()) else {
                continue;
            };
            if !ready {
                if run.ready {
                    (run.ready, run.ready_since) = (false, at);
                }
                let message = "Node is not ready".to_owned();
                let (reason, component) = ("NodeNotReady", "node-controller");
                self.event(Happening { object: &pod, warning: true, reason, message, component, host: "" }, at);
            }
            self.keep(&key, pod, run, at);
        }
        self.reconcile(at);
    }

    /// Takes a host out of scheduling, as people do before they work on it.
    pub fn cordon(&mut self, name: &str, at: i64) {
        let Some(mut node) = self.get(NODES, "", name).cloned() else { return };
        if node.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
            return;
        }
        set(&mut node, &["spec", "unschedulable"], json!(true));
        let node = self.put(NODES, node, at);
        let message = format!("Node {name} status is now: NodeNotSchedulable");
        let (reason, component) = ("NodeNotSchedulable", "kubelet");
        self.event(Happening { object: &node, warning: false, reason, message, component, host: name }, at);
    }

    /// Evicts one pod of a host, if everything else of its kind serves; false when none is left.
    pub fn drain_one(&mut self, host: &str, at: i64) -> bool {
        let here: Vec<Name> = (self.runs.iter())
            .filter(|(_, run)| run.node == host && run.deleting.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        let whole = |key: &&Name| {
            let Some(owner) = self.runs.get(*key).map(|run| &run.owner) else { return false };
            self.runs.values().filter(|run| run.owner == *owner).all(|run| run.ready || run.node == host)
        };
        if let Some(key) = here.iter().find(whole).cloned() {
            self.end_pod(&key, "Killing", at);
            self.reconcile(at);
        }
        !here.is_empty()
    }

    /// `lost` pods of a workload go, and the namespace's quota has no room for others.
    pub fn lose_to_quota(&mut self, namespace: &str, workload: &str, lost: usize, at: i64) {
        let used = self.pods_in(namespace);
        self.quotas.insert(namespace.to_owned(), used - i64::try_from(lost).unwrap_or(0));
        let mine: Vec<Name> = (self.runs.iter())
            .filter(|((space, _), _)| space == namespace)
            // A StatefulSet `cart-db` is no ReplicaSet of `cart`.
            .filter(|(_, run)| self.get(REPLICA_SETS, namespace, &run.owner).is_some())
            .filter(|(_, run)| run.owner.rsplit_once('-').is_some_and(|(name, _)| name == workload))
            .filter(|(_, run)| run.deleting.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for key in mine.iter().take(lost) {
            self.end_pod(key, "Killing", at);
        }
        self.reconcile(at);
    }

    /// Pods of a namespace that are not on their way out.
    pub(super) fn pods_in(&self, namespace: &str) -> i64 {
        let here = self.runs.iter().filter(|((space, _), run)| space == namespace && run.deleting.is_none());
        i64::try_from(here.count()).unwrap_or(i64::MAX)
    }

    pub fn is_node_ready(&self, name: &str) -> bool {
        !self.nodes_down.contains_key(name)
    }

    fn add_namespace(&mut self, name: &str, at: i64) {
        if self.get(NAMESPACES, "", name).is_none() {
            self.put(NAMESPACES, build::namespace(name), at);
        }
    }

    /// Adds a workload with its Service, ConfigMap and volume, and its first pods.
    pub fn add_deployment(&mut self, spec: &DeploymentSpec, at: i64) {
        self.add_namespace(&spec.namespace, at);
        if let Some((name, data)) = &spec.config_map {
            self.put(CONFIG_MAPS, build::config_map(&spec.namespace, name, &spec.name, data), at);
        }
        let index = self.list(SERVICES).count() + 1;
        self.put(SERVICES, build::service(spec, index), at);
        if let (Some(size), WorkloadKind::Deployment) = (&spec.pvc, spec.kind) {
            let name = format!("{}-data", spec.name);
            self.put(CLAIMS, build::claim(&spec.namespace, &name, &spec.name, size), at);
        }
        let resource = match spec.kind {
            WorkloadKind::Deployment => DEPLOYMENTS,
            WorkloadKind::StatefulSet => STATEFUL_SETS,
        };
        self.put(resource, build::workload(spec), at);
        self.reconcile(at);
    }

    /// Adds or replaces any other object by its `kind`, such as an autoscaler; false if the kind is unknown.
    pub fn add_object(&mut self, object: Value, at: i64) -> bool {
        let found = ALL.into_iter().find(|it| it.kind == text(&object, "/kind"));
        found.map(|resource| self.put(resource, object, at)).is_some()
    }

    fn workload(&self, namespace: &str, name: &str) -> Result<(Resource, Value), NoSuchWorkload> {
        [DEPLOYMENTS, STATEFUL_SETS]
            .into_iter()
            .find_map(|resource| Some((resource, self.get(resource, namespace, name)?.clone())))
            .ok_or_else(|| NoSuchWorkload { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Changes a workload's template, as a deploy would, and gives the revision that makes. It leaves no trace in the
    /// journal, which is for requests.
    pub fn roll_out(
        &mut self,
        namespace: &str,
        name: &str,
        change: &TemplateChange,
        at: i64,
    ) -> Result<i64, NoSuchWorkload> {
        let (resource, mut object) = self.workload(namespace, name)?;
        if let Some((config, data)) = &change.config_map {
            self.put(CONFIG_MAPS, build::config_map(namespace, config, name, data), at);
            if let Some(template) = object.pointer_mut("/spec/template") {
                build::set_config(template, config, data);
            }
        }
        if let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") {
            if let Some(image) = &change.image {
                set(container, &["image"], json!(image));
            }
            if let Some(env) = &change.env {
                let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                super::patch::strategic(container, &json!({"env": env}));
            }
            build::set_limits(container, change.cpu_limit.as_deref(), change.mem_limit.as_deref());
        }
        set(&mut object, &["metadata", "annotations", CAUSE], json!(change.cause));
        self.put(resource, object, at);
        self.reconcile(at);
        let (_, object) = self.workload(namespace, name)?;
        Ok(self.revision_of(&object))
    }

    /// Asks for another number of pods, as an autoscaler would.
    pub fn scale(&mut self, namespace: &str, name: &str, replicas: i64, at: i64) -> Result<(), NoSuchWorkload> {
        let (resource, mut object) = self.workload(namespace, name)?;
        set(&mut object, &["spec", "replicas"], json!(replicas.max(0)));
        self.put(resource, object, at);
        self.reconcile(at);
        Ok(())
    }

    fn revision_of(&self, object: &Value) -> i64 {
        match text(object, "/kind") {
            "StatefulSet" => self.revisions_of(object).last().map_or(0, |it| number(it, "/revision")),
            _ => revision(object),
        }
    }

    /// Brings the cluster to `now` in steps of two seconds at most; `readiness` is asked of every running or starting
    /// pod at each of them, so a crash is answered once per container: look at `started_at` and `restarts`.
    pub fn step(&mut self, now: i64, readiness: &mut dyn FnMut(&PodView) -> PodHealth) {
        let from = self.last_step.unwrap_or(now);
        let mut at = (from + TICK_MILLIS).max(now - LONGEST_CATCH_UP);
        while at < now {
            self.tick(at, readiness);
            self.last_step = Some(at);
            at += TICK_MILLIS;
        }
        self.tick(now, readiness);
        self.last_step = Some(now.max(from));
    }

    fn tick(&mut self, now: i64, readiness: &mut dyn FnMut(&PodView) -> PodHealth) {
        self.run_pods(now, readiness);
        let resync = self.last_step.is_none_or(|last| last.div_euclid(RESYNC_MILLIS) != now.div_euclid(RESYNC_MILLIS));
        if resync {
            self.reconcile(now);
            self.forget_events(now);
        } else {
            let moving: std::collections::BTreeSet<String> =
                self.runs.values().filter(|run| !run.is_settled(now)).map(|run| run.owner.clone()).collect();
            if !moving.is_empty() {
                self.reconcile_owners(&moving, now);
            }
        }
    }

    /// The pods of a service in every namespace, by name.
    pub fn pods(&self, service: &str) -> Vec<PodView> {
        self.all_pods().into_iter().filter(|pod| pod.service == service).collect()
    }

    /// Every pod there is.
    pub fn all_pods(&self) -> Vec<PodView> {
        self.runs.keys().filter_map(|key| self.view(key)).collect()
    }

    pub(super) fn view(&self, key: &Name) -> Option<PodView> {
        let run = self.runs.get(key)?;
        let pod = self.get(PODS, &key.0, &key.1)?;
        let label = |name: &str| pod.pointer("/metadata/labels").map_or("", |it| text(it, &format!("/{name}")));
        let container = pod.pointer("/spec/containers/0")?;
        let (revision, template_hash) = if run.owner_kind == "ReplicaSet" {
            (self.get(REPLICA_SETS, &key.0, &run.owner).map_or(0, revision), label(TEMPLATE_HASH))
        } else {
            let known = self.get(super::kinds::REVISIONS, &key.0, label(SET_HASH));
            (known.map_or(0, |it| number(it, "/revision")), label(SET_HASH))
        };
        let env = container.get("env").and_then(Value::as_array).into_iter().flatten();
        let env: BTreeMap<String, String> =
            env.map(|it| (text(it, "/name").to_owned(), text(it, "/value").to_owned())).collect();
        let (started_at, phase) = match run.stage {
            Stage::Running { since } => (since, "Running"),
            Stage::Backoff { .. } => (run.last.as_ref().map_or(run.created, |it| it.2), "Running"),
            _ => (run.created, "Pending"),
        };
        Some(PodView {
            name: key.1.clone(),
            namespace: key.0.clone(),
            service: label("app").to_owned(),
            node: run.node.clone(),
            revision,
            template_hash: template_hash.to_owned(),
            started_at,
            ready: run.ready,
            restarts: run.restarts,
            phase: if run.deleting.is_some() { "Terminating" } else { phase }.to_owned(),
            reason: run.waiting().map(str::to_owned),
            env,
            config: run.config.clone(),
            image: text(container, "/image").to_owned(),
            cpu_limit: text(container, "/resources/limits/cpu").to_owned(),
            mem_limit: text(container, "/resources/limits/memory").to_owned(),
        })
    }

    /// Every Deployment and StatefulSet.
    pub fn deployments(&self) -> Vec<DeploymentView> {
        let view = |object: &Value| {
            let status = |field: &str| number(object, &format!("/status/{field}"));
            let replicas = number(object, "/spec/replicas");
            let (generation, observed) = (number(object, "/metadata/generation"), status("observedGeneration"));
            DeploymentView {
                namespace: text(object, "/metadata/namespace").to_owned(),
                name: text(object, "/metadata/name").to_owned(),
                kind: match text(object, "/kind") {
                    "StatefulSet" => WorkloadKind::StatefulSet,
                    _ => WorkloadKind::Deployment,
                },
                replicas,
                updated: status("updatedReplicas"),
                ready: status("readyReplicas"),
                available: status("availableReplicas"),
                revision: self.revision_of(object),
                generation,
                observed_generation: observed,
                image: text(object, "/spec/template/spec/containers/0/image").to_owned(),
                change_cause: annotation(object, CAUSE).to_owned(),
                complete: generation == observed
                    && status("updatedReplicas") == replicas
                    && status("replicas") == replicas
                    && status("availableReplicas") == replicas,
            }
        };
        self.list(DEPLOYMENTS).chain(self.list(STATEFUL_SETS)).map(view).collect()
    }
}
