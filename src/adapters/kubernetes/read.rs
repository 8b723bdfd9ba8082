//! What the cluster is and was: workloads, pods, nodes, events, rollout history, logs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, Event, Node, ObjectReference, Pod, PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::reading;
use crate::domain::time::Timestamp;
use crate::ports::{ClusterError, ClusterEvent, NodeState, PodLogs, PodState, Workload};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const PAGE: u32 = 500;
/// 20,000 objects: more than one team's estate, and a bound on memory.
pub(super) const MAX_PAGES: usize = 40;
const MAX_LOG_BYTES: i64 = 1024 * 1024;

/// All of them, or none: half a list would say of the other half that it is not there.
pub(super) async fn list<K>(what: &str, api: Api<K>) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match pages(what, api).await? {
        (items, true) => Ok(items),
        (_, false) => Err(ClusterError::Refused(format!("there are more than {} {what}", PAGE as usize * MAX_PAGES))),
    }
}

/// Of what says something each by itself: the first of too many are better than none.
async fn list_some<K>(what: &str, api: Api<K>) -> Result<Vec<K>, ClusterError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (items, are_all) = pages(what, api).await?;
    if !are_all {
        tracing::warn!(what, read = items.len(), "there are more than are read");
    }
    Ok(items)
}

/// And whether they are all.
async fn pages<K>(what: &str, api: Api<K>) -> Result<(Vec<K>, bool), ClusterError>
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
            None => return Ok((items, true)),
        }
    }
    Ok((items, false))
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
    workloads_in(client, None).await
}

/// Of one namespace, or of all.
pub(super) async fn workloads_in(client: &Client, namespace: Option<&str>) -> Result<Vec<Workload>, ClusterError> {
    let (deployments, stateful_sets, daemon_sets) = tokio::try_join!(
        list::<Deployment>("deployments", scoped(client, namespace)),
        list::<StatefulSet>("statefulsets", scoped(client, namespace)),
        daemon_sets(client, namespace),
    )?;
    let mut workloads: Vec<_> = deployments.into_iter().map(of_deployment).collect();
    workloads.extend(stateful_sets.into_iter().map(of_stateful_set));
    workloads.extend(daemon_sets.into_iter().map(of_daemon_set));
    workloads.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(workloads)
}

/// A role from before they were read does not grant it. Then they are not known, as they were not before:
/// without all the other workloads nothing could be diagnosed. `check --kubernetes` names the right.
async fn daemon_sets(client: &Client, namespace: Option<&str>) -> Result<Vec<DaemonSet>, ClusterError> {
    static TOLD: std::sync::Once = std::sync::Once::new();
    match list::<DaemonSet>("daemonsets", scoped(client, namespace)).await {
        Err(ClusterError::Forbidden(why)) => {
            TOLD.call_once(|| tracing::warn!(why, "DaemonSets may not be listed and are not known"));
            Ok(vec![])
        }
        answer => answer,
    }
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
    let ready = status.ready_replicas.unwrap_or(0);
    let revision = number(&deployment.metadata, REVISION);
    let progress = Rollout { replicas, ready, updated, rolled_out, revision, controller_revision: None };
    workload("Deployment", deployment.metadata, &spec.template, progress)
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
    let controller_revision = status.update_revision;
    let progress = Rollout { replicas, ready, updated, rolled_out, revision: None, controller_revision };
    workload("StatefulSet", set.metadata, &spec.template, progress)
}

fn of_daemon_set(set: DaemonSet) -> Workload {
    let spec = set.spec;
    let status = set.status.unwrap_or_default();
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    // As `kubectl rollout status` has it.
    let rolled_out = status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0)
        && updated >= wanted
        && status.number_available.unwrap_or(0) >= wanted;
    let ready = status.number_ready;
    let progress = Rollout { replicas: wanted, ready, updated, rolled_out, revision: None, controller_revision: None };
    workload("DaemonSet", set.metadata, &spec.template, progress)
}

/// How far one is, which each kind says in fields of its own.
struct Rollout {
    replicas: i32,
    ready: i32,
    updated: i32,
    rolled_out: bool,
    revision: Option<i64>,
    controller_revision: Option<String>,
}

fn workload(kind: &str, metadata: ObjectMeta, template: &PodTemplateSpec, rollout: Rollout) -> Workload {
    let Rollout { replicas, ready, updated, rolled_out, revision, controller_revision } = rollout;
    let template_labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    Workload {
        kind: kind.to_owned(),
        service: service_of(&[metadata.labels.as_ref(), template_labels], name_of(&metadata)),
        replicas,
        ready,
        updated,
        rolled_out,
        revision,
        controller_revision,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: name_of(&metadata).to_owned(),
        uid: metadata.uid.clone().unwrap_or_default(),
        config_maps: super::config_maps::named_in(template.spec.as_ref()),
        labels: metadata.labels.unwrap_or_default(),
    }
}

/// The name that metrics and alerts use, from the recommended label to the oldest habit.
pub(super) fn service_of(label_sets: &[Option<&BTreeMap<String, String>>], otherwise: &str) -> String {
    ["app.kubernetes.io/name", "app", "k8s-app"]
        .iter()
        .find_map(|key| label_sets.iter().flatten().find_map(|labels| labels.get(*key)))
        .filter(|name| !name.is_empty())
        .map_or_else(|| otherwise.to_owned(), Clone::clone)
}

pub(super) fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(super) fn number(meta: &ObjectMeta, annotation: &str) -> Option<i64> {
    meta.annotations.as_ref()?.get(annotation)?.parse().ok()
}

pub(super) fn instant(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

pub(super) async fn pods(client: &Client, namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
    Ok(list_some::<Pod>("pods", scoped(client, namespace)).await?.into_iter().map(of_pod).collect())
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
    let told = containers.iter().filter_map(told_by).min_by_key(|told| told.order());
    PodState {
        service,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name,
        node: pod.spec.and_then(|spec| spec.node_name),
        phase: status.phase.unwrap_or_else(|| "Unknown".to_owned()),
        ready,
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        reason: told.as_ref().map(|told| told.reason.clone()).or(status.reason),
        ended_at: told.and_then(|told| told.ended_at),
        started_at: status.start_time.as_ref().map(instant),
    }
}

/// An init container that has done its work; how often it failed before is past.
fn is_done(container: &ContainerStatus) -> bool {
    let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    ended.is_some_and(|ended| ended.exit_code == 0 || ended.reason.as_deref() == Some("Completed"))
}

/// What one container tells of its pod.
struct Told {
    standing: Standing,
    reason: String,
    /// `None`: it waits.
    ended_at: Option<Timestamp>,
}

impl Told {
    /// Of what is past the latest; else the first, as the containers stand.
    fn order(&self) -> (Standing, Reverse<Option<Timestamp>>) {
        let at = self.ended_at.filter(|_| self.standing == Standing::Past);
        (self.standing, Reverse(at))
    }
}

/// What is so now says more than what is past, and either more than that work is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Now,
    Past,
    Done,
}

/// Why a container waits or ended; how it last ended tells more than that it backs off now. The API server
/// repeats the last end for as long as the pod lives, however well the container has run since.
fn told_by(container: &ContainerStatus) -> Option<Told> {
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.clone());
    let ended = state.and_then(|state| state.terminated.as_ref()).filter(|ended| ended.reason.is_some());
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.filter(|last| last.reason.as_deref().is_some_and(|reason| reason != "Completed"));
    let of = |standing, end: &ContainerStateTerminated| {
        let ended_at = end.finished_at.as_ref().map(instant);
        Some(Told { standing, reason: end.reason.clone()?, ended_at })
    };
    match (waiting, ended, last) {
        (Some(waiting), _, last) => {
            let reason = match last.and_then(|last| last.reason.as_ref()) {
                Some(last) => format!("{waiting}, last {last}"),
                None => waiting,
            };
            Some(Told { standing: Standing::Now, reason, ended_at: None })
        }
        (None, Some(ended), _) if ended.reason.as_deref() == Some("Completed") => of(Standing::Done, ended),
        (None, Some(ended), _) => of(Standing::Now, ended),
        (None, None, Some(last)) => of(Standing::Past, last),
        (None, None, None) => None,
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
            // It may have been so for months.
            let since = since.map(|at| format!(" since {}", at.dated())).unwrap_or_default();
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
        list_some::<Event>("events", scoped(client, namespace)).await?.into_iter().map(of_event).collect();
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
    // The newer events API has a field of its own for it.
    let component = event.reporting_component.filter(|name| !name.is_empty());
    ClusterEvent {
        namespace: event.metadata.namespace.unwrap_or_default(),
        object: name.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        component: component.or(event.source.and_then(|source| source.component)).unwrap_or_default(),
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        last_at: last_at.map(|at| Timestamp::from_millis(at.as_millisecond())).unwrap_or_default(),
        warning: event.type_.as_deref() == Some("Warning"),
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
