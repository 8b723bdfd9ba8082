//! The Deployment and ReplicaSet controllers, as Kubernetes runs them.

use serde_json::{Value, json};

use super::build::{self, CAUSE, REVISION, TEMPLATE_HASH};
use super::events::Happening;
use super::kinds::{DEPLOYMENTS, PODS, REPLICA_SETS};
use super::kubelet::{PodRun, Stage};
use super::{KubeState, Name, annotation, number, set, text, unset};

/// A ReplicaSet's numbers while a rollout is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Size {
    name: String,
    wanted: i64,
    available: i64,
}

impl Size {
    fn usable(&self) -> i64 {
        self.available.min(self.wanted)
    }
}

/// How many pods a set has, leaving out those on their way out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub pods: i64,
    pub ready: i64,
    pub available: i64,
}

impl KubeState {
    pub(super) fn reconcile(&mut self, now: i64) {
        let names = |state: &Self, resource| -> Vec<Name> {
            let name = |it: &Value| (text(it, "/metadata/namespace").to_owned(), text(it, "/metadata/name").to_owned());
            state.list(resource).map(name).collect()
        };
        for key in names(self, DEPLOYMENTS) {
            self.reconcile_deployment(&key, now);
        }
        for key in names(self, super::kinds::STATEFUL_SETS) {
            self.reconcile_stateful_set(&key, now);
        }
        self.reconcile_daemon_sets(now);
    }

    /// Only the workloads whose pods are on the move; owners are ReplicaSets and StatefulSets.
    pub(super) fn reconcile_owners(&mut self, owners: &std::collections::BTreeSet<String>, now: i64) {
        let concerned = |name: &str| {
            owners
                .iter()
                .any(|owner| owner == name || owner.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')))
        };
        let keys = |state: &Self, resource| -> Vec<Name> {
            let name = |it: &Value| (text(it, "/metadata/namespace").to_owned(), text(it, "/metadata/name").to_owned());
            state.list(resource).filter(|it| concerned(text(it, "/metadata/name"))).map(name).collect()
        };
        for key in keys(self, DEPLOYMENTS) {
            self.reconcile_deployment(&key, now);
        }
        for key in keys(self, super::kinds::STATEFUL_SETS) {
            self.reconcile_stateful_set(&key, now);
        }
    }

    fn reconcile_deployment(&mut self, key: &Name, now: i64) {
        let Some(mut deployment) = self.get(DEPLOYMENTS, &key.0, &key.1).cloned() else { return };
        let paused = deployment.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or(false);
        let template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
        let sets = self.sets_of(&deployment);
        let newest = sets.iter().map(revision).max().unwrap_or(0);
        let found = sets.iter().find(|set| same_template(set, &template)).cloned();
        let Some(current) = (match found {
            Some(set) => Some(self.revive(&deployment, set, newest, now)),
            None if paused => sets.last().cloned(),
            None => Some(self.create_set(&deployment, template, newest + 1, now)),
        }) else {
            return;
        };
        let current_name = text(&current, "/metadata/name").to_owned();
        set(&mut deployment, &["metadata", "annotations", REVISION], json!(revision(&current).to_string()));
        self.put(DEPLOYMENTS, deployment.clone(), now);

        let minimum = number(&deployment, "/spec/minReadySeconds") * 1000;
        let mut sizes: Vec<Size> = Vec::new();
        for object in self.sets_of(&deployment) {
            let name = text(&object, "/metadata/name").to_owned();
            let counts = self.counts(&key.0, &name, minimum, now);
            sizes.push(Size { name, wanted: number(&object, "/spec/replicas"), available: counts.available });
        }
        let desired = number(&deployment, "/spec/replicas");
        let (surge, unavailable) = allowances(&deployment, desired);
        let scalings = if paused && sizes.len() > 1 {
            Vec::new()
        } else {
            let (new, old): (Vec<Size>, Vec<Size>) = sizes.into_iter().partition(|size| size.name == current_name);
            new.into_iter().next().map(|new| plan(desired, surge, unavailable, new, old)).unwrap_or_default()
        };
        for (name, to) in scalings {
            self.scale_set(&deployment, &name, to, desired, now);
        }
        for object in self.sets_of(&deployment) {
            self.reconcile_set(&object, minimum, now);
        }
        self.forget_sets(&deployment);
        self.write_deployment_status(key, &current_name, minimum, now);
    }

    /// The Deployment's ReplicaSets, oldest revision first.
    pub(super) fn sets_of(&self, deployment: &Value) -> Vec<Value> {
        let uid = text(deployment, "/metadata/uid");
        let owned = |set: &&Value| text(set, "/metadata/ownerReferences/0/uid") == uid;
        let mut sets: Vec<Value> = self.list(REPLICA_SETS).filter(owned).cloned().collect();
        sets.sort_by_key(revision);
        sets
    }

    /// Makes a known ReplicaSet the current one: going back gives it the next revision number.
    fn revive(&mut self, deployment: &Value, mut found: Value, newest: i64, now: i64) -> Value {
        let old = revision(&found);
        if old < newest {
            const HISTORY: &str = "deployment.kubernetes.io/revision-history";
            let history = match annotation(&found, HISTORY) {
                "" => old.to_string(),
                history => format!("{history},{old}"),
            };
            set(&mut found, &["metadata", "annotations", HISTORY], json!(history));
            set(&mut found, &["metadata", "annotations", REVISION], json!((newest + 1).to_string()));
        }
        let cause = annotation(deployment, CAUSE);
        if !cause.is_empty() {
            set(&mut found, &["metadata", "annotations", CAUSE], json!(cause));
        }
        self.put(REPLICA_SETS, found, now)
    }

    fn create_set(&mut self, deployment: &Value, mut template: Value, revision: i64, now: i64) -> Value {
        let name = text(deployment, "/metadata/name");
        let hash = self.suffix(&format!("{name}/{}", canonical(&template)), 10);
        set(&mut template, &["metadata", "labels", TEMPLATE_HASH], json!(hash));
        let mut selector = deployment.pointer("/spec/selector").cloned().unwrap_or_default();
        set(&mut selector, &["matchLabels", TEMPLATE_HASH], json!(hash));
        let mut annotations = deployment.pointer("/metadata/annotations").cloned().unwrap_or_default();
        set(&mut annotations, &[REVISION], json!(revision.to_string()));
        let object = json!({
            "metadata": {"namespace": text(deployment, "/metadata/namespace"), "name": format!("{name}-{hash}"),
                "labels": template.pointer("/metadata/labels"), "annotations": annotations,
                "ownerReferences": build::owner(deployment, "apps/v1", "Deployment")},
            "spec": {"replicas": 0, "minReadySeconds": number(deployment, "/spec/minReadySeconds"),
                     "selector": selector, "template": template},
            "status": {"replicas": 0}
        });
        self.put(REPLICA_SETS, object, now)
    }

    fn scale_set(&mut self, deployment: &Value, name: &str, to: i64, desired: i64, now: i64) {
        let namespace = text(deployment, "/metadata/namespace");
        let Some(mut object) = self.get(REPLICA_SETS, namespace, name).cloned() else { return };
        let from = number(&object, "/spec/replicas");
        set(&mut object, &["spec", "replicas"], json!(to));
        set(
            &mut object,
            &["metadata", "annotations", "deployment.kubernetes.io/desired-replicas"],
            json!(desired.to_string()),
        );
        self.put(REPLICA_SETS, object, now);
        let way = if to > from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {from} to {to}");
        let (reason, component) = ("ScalingReplicaSet", "deployment-controller");
        self.event(Happening { object: deployment, warning: false, reason, message, component, host: "" }, now);
    }

    pub(super) fn counts(&self, namespace: &str, owner: &str, minimum: i64, now: i64) -> Counts {
        let mut counts = Counts::default();
        for ((_, _), run) in self.runs.iter().filter(|((ns, _), run)| ns == namespace && run.owner == owner) {
            if run.deleting.is_none() {
                counts.pods += 1;
                counts.ready += i64::from(run.ready);
                counts.available += i64::from(run.ready && now - run.ready_since >= minimum);
            }
        }
        counts
    }

    /// The ReplicaSet controller: as many pods as wanted, and the status.
    fn reconcile_set(&mut self, object: &Value, minimum: i64, now: i64) {
        let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let wanted = number(object, "/spec/replicas");
        let mut mine: Vec<(Name, PodRun)> = (self.runs.iter())
            .filter(|((ns, _), run)| ns == namespace && run.owner == name && run.deleting.is_none())
            .map(|(key, run)| (key.clone(), run.clone()))
            .collect();
        // Unscheduled and unready pods go first, then the youngest.
        mine.sort_by_key(|(_, run)| (run.ready, run.stage != Stage::Unscheduled, -run.created));
        let have = i64::try_from(mine.len()).unwrap_or(i64::MAX);
        for _ in have..wanted {
            let used = self.pods_in(namespace);
            if let Some(limit) = self.quotas.get(namespace).copied().filter(|limit| used >= *limit) {
                let message = format!(
                    "Error creating: pods \"{name}-{}\" is forbidden: exceeded quota: compute-quota, requested: \
                     pods=1, used: pods={used}, limited: pods={limit}",
                    self.suffix(&format!("{name}/{used}/{limit}"), 5)
                );
                let (reason, component) = ("FailedCreate", "replicaset-controller");
                self.event(Happening { object, warning: true, reason, message, component, host: "" }, now);
                break;
            }
            let pod = self.create_pod(object, "ReplicaSet", None, now);
            self.set_event(object, "SuccessfulCreate", format!("Created pod: {pod}"), now);
        }
        for (key, _) in mine.iter().take(usize::try_from(have - wanted).unwrap_or(0)) {
            self.end_pod(key, "Killing", now);
            self.set_event(object, "SuccessfulDelete", format!("Deleted pod: {}", key.1), now);
        }
        let counts = self.counts(namespace, name, minimum, now);
        let mut object = object.clone();
        let status = json!({"replicas": counts.pods, "fullyLabeledReplicas": counts.pods, "readyReplicas": counts.ready,
            "availableReplicas": counts.available, "observedGeneration": number(&object, "/metadata/generation")});
        set(&mut object, &["status"], status);
        self.put(REPLICA_SETS, object, now);
    }

    fn set_event(&mut self, object: &Value, reason: &str, message: String, now: i64) {
        let component = "replicaset-controller";
        self.event(Happening { object, warning: false, reason, message, component, host: "" }, now);
    }

    /// Creates and schedules a pod; a StatefulSet gives its name and its template.
    pub(super) fn create_pod(
        &mut self,
        object: &Value,
        kind: &'static str,
        named: Option<(&str, &Value)>,
        now: i64,
    ) -> String {
        let owner = text(object, "/metadata/name").to_owned();
        let fresh = self.next();
        let suffix = self.suffix(&format!("{owner}/{fresh}"), 5);
        let own = object.pointer("/spec/template").cloned().unwrap_or_default();
        let (name, template) = match named {
            Some((name, template)) => (name.to_owned(), template),
            None => (format!("{owner}-{suffix}"), &own),
        };
        let pod = self.put(PODS, build::pod(template, object, kind, &name), now);
        let jitter = self.digest(&name).first().copied().unwrap_or(0);
        let mut run = PodRun {
            owner,
            owner_kind: kind,
            node: String::new(),
            created: now,
            stage: Stage::Unscheduled,
            restarts: 0,
            crashes: 0,
            last: None,
            ready: false,
            ready_since: now,
            deleting: None,
            told: 0,
            warmup: 12_000 + i64::from(jitter) * 16,
            config: Default::default(),
        };
        self.schedule(&pod, &mut run, now);
        let key = (text(object, "/metadata/namespace").to_owned(), name.clone());
        self.keep(&key, pod, run, now);
        name
    }

    /// Old ReplicaSets beyond the history limit go.
    fn forget_sets(&mut self, deployment: &Value) {
        let limit = deployment.pointer("/spec/revisionHistoryLimit").and_then(Value::as_u64).unwrap_or(10);
        let idle: Vec<Value> = (self.sets_of(deployment).into_iter())
            .filter(|it| number(it, "/spec/replicas") == 0 && number(it, "/status/replicas") == 0)
            .filter(|it| annotation(it, REVISION) != annotation(deployment, REVISION))
            .collect();
        let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for object in idle.iter().take(surplus) {
            self.remove(REPLICA_SETS, text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        }
    }
}

pub(super) fn revision(object: &Value) -> i64 {
    annotation(object, REVISION).parse().unwrap_or(0)
}

fn same_template(object: &Value, template: &Value) -> bool {
    let mut own = object.pointer("/spec/template").cloned().unwrap_or_default();
    unset(&mut own, "/metadata/labels", TEMPLATE_HASH);
    own == *template
}

/// The value as text, whatever order its fields came in.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut parts: Vec<String> = fields.iter().map(|(key, it)| format!("{key:?}:{}", canonical(it))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// How many pods may be too many and how many may be missing.
pub(super) fn allowances(deployment: &Value, desired: i64) -> (i64, i64) {
    if text(deployment, "/spec/strategy/type") == "Recreate" {
        return (0, desired);
    }
    let read = |field: &str, up: bool| {
        let value = deployment.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
        match value.and_then(Value::as_str).map(|it| it.trim_end_matches('%').parse::<i64>().unwrap_or(25)) {
            Some(percent) => (desired * percent + if up { 99 } else { 0 }) / 100,
            None => value.and_then(Value::as_i64).unwrap_or((desired + if up { 3 } else { 0 }) / 4),
        }
    };
    match (read("maxSurge", true), read("maxUnavailable", false)) {
        (0, 0) => (0, 1),
        both => both,
    }
}

/// The rolling update's scalings that are due now, in the order the controller makes them.
fn plan(desired: i64, surge: i64, unavailable: i64, mut new: Size, mut old: Vec<Size>) -> Vec<(String, i64)> {
    let mut scalings = Vec::new();
    for _ in 0..64 {
        let others: i64 = old.iter().map(|it| it.wanted).sum();
        let total = new.wanted + others;
        let room = desired + surge - total;
        if new.wanted > desired || (new.wanted < desired && room > 0) {
            new.wanted = desired.min(new.wanted + room.max(0));
            scalings.push((new.name.clone(), new.wanted));
            continue;
        }
        let least = desired - unavailable;
        let mut budget = total - least - (new.wanted - new.usable());
        if others == 0 || budget <= 0 {
            break;
        }
        let before = scalings.len();
        for it in &mut old {
            let cut = (it.wanted - it.usable()).min(budget);
            if cut > 0 {
                it.wanted -= cut;
                budget -= cut;
                scalings.push((it.name.clone(), it.wanted));
            }
        }
        let mut spare = new.usable() + old.iter().map(Size::usable).sum::<i64>() - least;
        for it in &mut old {
            let cut = it.wanted.min(spare);
            if cut > 0 {
                it.wanted -= cut;
                spare -= cut;
                scalings.push((it.name.clone(), it.wanted));
            }
        }
        if scalings.len() == before {
            break;
        }
    }
    scalings
}
