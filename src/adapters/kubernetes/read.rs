//! What the cluster is and was: workloads, pods, nodes, events, rollout history, logs.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{ApiResource, DynamicObject, ListParams, LogParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reading;
use crate::domain::time::Timestamp;
use crate::ports::{ClusterError, ClusterEvent, NodeState, PodLogs, PodState, Revision, Workload};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a ReplicaSet that was rolled back to: the controller gives it a new one.
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH_LABEL: &str = "pod-template-hash";
pub(super) const PAGE: u32 = 500;
/// 20,000 objects: more than one team's estate, and a bound on memory.
pub(super) const MAX_PAGES: usize = 40;
const MAX_LOG_BYTES: i64 = 1024 * 1024;

pub(super) async fn list<K>(what: &str, api: Api<K>) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut items = vec![];
    let mut params = ListParams::default().limit(PAGE);
    for _ in 0..MAX_PAGES {
        let page = reading(what, api.list(&params)).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    Ok(items)
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

pub(super) async fn workloads(client: &Client) -> Result<Vec<Workload>, ClusterError> {
    let (deployments, stateful_sets) = tokio::try_join!(
        list::<Deployment>("deployments", Api::all(client.clone())),
        list::<StatefulSet>("statefulsets", Api::all(client.clone())),
    )?;
    let mut workloads: Vec<_> =
        deployments.into_iter().map(of_deployment).chain(stateful_sets.into_iter().map(of_stateful_set)).collect();
    workloads.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(workloads)
}

fn of_deployment(deployment: Deployment) -> Workload {
    let spec = deployment.spec;
    let status = deployment.status.unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let rolled_out = status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
        && updated == replicas
        && status.replicas.unwrap_or(0) == updated
        && status.available_replicas.unwrap_or(0) >= updated;
    let template_labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    Workload {
        kind: "Deployment".to_owned(),
        service: service_of(&[deployment.metadata.labels.as_ref(), template_labels], name_of(&deployment.metadata)),
        replicas,
        ready: status.ready_replicas.unwrap_or(0),
        updated,
        rolled_out,
        revision: number(&deployment.metadata, REVISION),
        namespace: deployment.metadata.namespace.clone().unwrap_or_default(),
        name: name_of(&deployment.metadata).to_owned(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        config_maps: super::config_maps::named_in(spec.template.spec.as_ref()),
        labels: deployment.metadata.labels.unwrap_or_default(),
    }
}

fn of_stateful_set(set: StatefulSet) -> Workload {
    let spec = set.spec;
    let status = set.status.unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let ready = status.ready_replicas.unwrap_or(0);
    let rolled_out = status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0)
        && updated >= replicas
        && ready >= replicas;
    let template_labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    Workload {
        kind: "StatefulSet".to_owned(),
        service: service_of(&[set.metadata.labels.as_ref(), template_labels], name_of(&set.metadata)),
        replicas,
        ready,
        updated,
        rolled_out,
        revision: None,
        namespace: set.metadata.namespace.clone().unwrap_or_default(),
        name: name_of(&set.metadata).to_owned(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        config_maps: super::config_maps::named_in(spec.template.spec.as_ref()),
        labels: set.metadata.labels.unwrap_or_default(),
    }
}

/// The name that metrics and alerts use, from the recommended label to the oldest habit.
fn service_of(label_sets: &[Option<&BTreeMap<String, String>>], otherwise: &str) -> String {
    ["app.kubernetes.io/name", "app", "k8s-app"]
        .iter()
        .find_map(|key| label_sets.iter().flatten().find_map(|labels| labels.get(*key)))
        .filter(|name| !name.is_empty())
        .map_or_else(|| otherwise.to_owned(), Clone::clone)
}

pub(super) fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn number(meta: &ObjectMeta, annotation: &str) -> Option<i64> {
    meta.annotations.as_ref()?.get(annotation)?.parse().ok()
}

pub(super) fn instant(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

pub(super) async fn pods(client: &Client, namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
    Ok(list::<Pod>("pods", scoped(client, namespace)).await?.into_iter().map(of_pod).collect())
}

/// The service that a pod is of: by its labels, else its owner's name, else its own.
pub(super) fn service_of_pod(pod: &Pod) -> String {
    let owner = pod.metadata.owner_references.as_ref().and_then(|owners| owners.first()).map(|owner| {
        // `web-5d4f` is the ReplicaSet of the Deployment `web`.
        match owner.kind.as_str() {
            "ReplicaSet" => owner.name.rsplit_once('-').map_or(owner.name.as_str(), |(name, _)| name),
            _ => owner.name.as_str(),
        }
    });
    service_of(&[pod.metadata.labels.as_ref()], owner.unwrap_or_else(|| name_of(&pod.metadata)))
}

fn of_pod(pod: Pod) -> PodState {
    let service = service_of_pod(&pod);
    let status = pod.status.unwrap_or_default();
    // Init containers first: while one of them fails, all that the others say is that they wait for it.
    let init = status.init_container_statuses.unwrap_or_default().into_iter().filter(|step| !is_done(step));
    let containers: Vec<_> = init.chain(status.container_statuses.unwrap_or_default()).collect();
    let ready = status
        .conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let name = name_of(&pod.metadata).to_owned();
    PodState {
        service,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name,
        node: pod.spec.and_then(|spec| spec.node_name),
        phase: status.phase.unwrap_or_else(|| "Unknown".to_owned()),
        ready,
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        reason: containers.iter().find_map(reason_of).or(status.reason),
        started_at: status.start_time.as_ref().map(instant),
    }
}

/// An init container that has done its work; how often it failed before is past.
fn is_done(container: &ContainerStatus) -> bool {
    let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    ended.is_some_and(|ended| ended.exit_code == 0 || ended.reason.as_deref() == Some("Completed"))
}

/// Why a container waits or ended; how it last ended tells more than that it backs off now.
fn reason_of(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.clone());
    let ended = state.and_then(|state| state.terminated.as_ref()).and_then(|ended| ended.reason.clone());
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.and_then(|ended| ended.reason.clone()).filter(|reason| reason != "Completed");
    match (waiting, last) {
        (Some(waiting), Some(last)) => Some(format!("{waiting}, last {last}")),
        (Some(waiting), None) => Some(waiting),
        (None, last) => ended.or(last),
    }
}

pub(super) async fn nodes(client: &Client) -> Result<Vec<NodeState>, ClusterError> {
    Ok(list::<Node>("nodes", Api::all(client.clone())).await?.into_iter().map(of_node).collect())
}

fn of_node(node: Node) -> NodeState {
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut troubles: Vec<String> = conditions
        .iter()
        .filter(|condition| (condition.type_ == "Ready") != (condition.status == "True"))
        .map(|condition| {
            let since = condition.last_transition_time.as_ref().map(instant);
            let since = since.map(|at| format!(" since {}", at.hour_minute())).unwrap_or_default();
            format!("{}={}{since}", condition.type_, condition.status)
        })
        .collect();
    if node.spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        troubles.push("cordoned".to_owned());
    }
    NodeState { name: name_of(&node.metadata).to_owned(), ready, troubles }
}

pub(super) async fn events(client: &Client, namespace: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
    let mut events: Vec<_> =
        list::<Event>("events", scoped(client, namespace)).await?.into_iter().map(of_event).collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.last_at));
    Ok(events)
}

fn of_event(event: Event) -> ClusterEvent {
    let ObjectReference { kind, name, .. } = event.involved_object;
    // The newer events API counts in `series` and leaves the older fields empty.
    let series = event.series.as_ref();
    let last_at = series
        .and_then(|series| series.last_observed_time.as_ref())
        .map(|time| time.0)
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    ClusterEvent {
        namespace: event.metadata.namespace.unwrap_or_default(),
        object: name.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        last_at: last_at.map(|at| Timestamp::from_millis(at.as_millisecond())).unwrap_or_default(),
        warning: event.type_.as_deref() == Some("Warning"),
    }
}

pub(super) async fn revisions(client: &Client, namespace: &str, workload: &str) -> Result<Vec<Revision>, ClusterError> {
    let what = format!("deployment {namespace}/{workload}");
    let deployment = match reading(&what, Api::<Deployment>::namespaced(client.clone(), namespace).get(workload)).await
    {
        Err(ClusterError::NotFound(_)) => return revisions_of_set(client, namespace, workload).await,
        answer => answer?,
    };
    let uid = deployment.metadata.uid.unwrap_or_default();
    let mut revisions: Vec<_> = owned_sets(client, namespace, &uid).await?.iter().filter_map(of_replica_set).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

/// A StatefulSet keeps its templates as ControllerRevisions.
async fn revisions_of_set(client: &Client, namespace: &str, workload: &str) -> Result<Vec<Revision>, ClusterError> {
    let what = format!("deployment or statefulset {namespace}/{workload}");
    let set = reading(&what, Api::<StatefulSet>::namespaced(client.clone(), namespace).get(workload)).await?;
    let kept = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    let kept = list(&format!("controller revisions of {namespace}"), kept).await?;
    let owned = |meta: &ObjectMeta| {
        meta.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
    };
    let mut revisions: Vec<_> = kept
        .into_iter()
        .filter(|one| owned(&one.metadata))
        .map(|one| Revision {
            number: one.revision.unwrap_or_default(),
            created_at: one.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
            replica_set: name_of(&one.metadata).to_owned(),
            cause: one.metadata.annotations.as_ref().and_then(|all| all.get(CHANGE_CAUSE)).cloned(),
            template: canonical(one.data.0.pointer("/spec/template").cloned().unwrap_or_default()),
        })
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

/// By uid of the owner, not by selector: labels can be copied by anybody who may create sets.
/// Untyped, because a field of the template that this build does not know must survive a rollback.
pub(super) async fn owned_sets(
    client: &Client,
    namespace: &str,
    uid: &str,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let resource = ApiResource::erase::<ReplicaSet>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let sets = list(&format!("replica sets of {namespace}"), api).await?;
    let owned = |set: &DynamicObject| {
        set.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
    };
    Ok(sets.into_iter().filter(owned).collect())
}

fn of_replica_set(set: &DynamicObject) -> Option<Revision> {
    let annotations = set.metadata.annotations.as_ref()?;
    Some(Revision {
        number: number(&set.metadata, REVISION)?,
        created_at: set.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
        replica_set: name_of(&set.metadata).to_owned(),
        cause: annotations.get(CHANGE_CAUSE).cloned(),
        template: template_of(set),
    })
}

/// The pod template as the Deployment had it: without the label that the controller added.
pub(super) fn template_of(set: &DynamicObject) -> Value {
    let mut template = set.data.pointer("/spec/template").cloned().unwrap_or_default();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(HASH_LABEL);
    }
    canonical(template)
}

/// Sorted keys, and no `creationTimestamp: null` as the API server writes it into templates, so
/// that equal templates are equal text.
pub(super) fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map
                .into_iter()
                .filter(|(key, value)| !(key == "creationTimestamp" && value.is_null()))
                .map(|(key, value)| (key, canonical(value)))
                .collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}

pub(super) async fn pod_logs(
    client: &Client,
    namespace: &str,
    pod: &str,
    which: PodLogs,
    lines: i64,
) -> Result<String, ClusterError> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let what = format!("logs of pod {namespace}/{pod}");
    let mut params = LogParams {
        previous: which == PodLogs::Previous,
        tail_lines: Some(lines),
        limit_bytes: Some(MAX_LOG_BYTES),
        ..LogParams::default()
    };
    match reading(&what, api.logs(pod, &params)).await {
        // Several containers: the API server asks which; people mean the one kubectl would take.
        Err(ClusterError::Refused(why)) if why.contains("container") => {
            let object = reading(&what, api.get(pod)).await?;
            let default = object.metadata.annotations.as_ref();
            let default = default.and_then(|map| map.get("kubectl.kubernetes.io/default-container").cloned());
            let first = object.spec.and_then(|spec| spec.containers.into_iter().next()).map(|first| first.name);
            params.container = Some(default.or(first).ok_or(ClusterError::Refused(why))?);
            reading(&what, api.logs(pod, &params)).await
        }
        answer => answer,
    }
}
