//! What an action changes beside the object that it writes: whose pods an autoscaler, a ConfigMap, a node or
//! a GitOps object stands for. Read from the objects, never from names.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::config_maps::named_in;
use super::kinds::{api, api_of};
use super::read::{list, name_of, service_of, service_of_pod, workloads_in};
use super::reading;
use super::write::current;
use crate::domain::action::{Action, Target};
use crate::domain::plan::Extent;
use crate::ports::{ClusterError, Workload};

/// Kustomizations or HelmReleases that follow one GitRepository.
const MOST_FOLLOWERS: u32 = 500;

/// `unknown`: what may not be read; the card says so, and nothing runs unattended on it.
pub(super) async fn extent(
    client: &Client,
    action: &Action,
    unknown: &mut Vec<String>,
) -> Result<Extent, ClusterError> {
    let target = action.target();
    let mut extent = Extent::default();
    extent.namespaces.extend(action.namespaces().into_iter().filter(|name| !name.is_empty()).map(str::to_owned));
    match target.kind.as_str() {
        "Node" => extent.services = of_drained(client, action).await?,
        "ConfigMap" => extent.services = users(client, &target.namespace, &target.name).await?,
        "Application" | "Kustomization" | "HelmRelease" => {
            let now = current(&api_of(client, target)?, target).await?;
            let workloads = workloads_in(client, None).await?;
            extent.applied_by(&target.kind, &target.namespace, &now, &workloads);
        }
        "GitRepository" => {
            let mut followers = vec![];
            for kind in ["Kustomization", "HelmRelease"] {
                followers.extend(followers_of(client, kind, target, unknown).await?.into_iter().map(|one| (kind, one)));
            }
            let workloads = workloads_in(client, None).await?;
            for (kind, follower) in &followers {
                extent.applied_by(kind, &target.namespace, follower, &workloads);
            }
        }
        "HorizontalPodAutoscaler" => {
            let now = current(&api_of(client, target)?, target).await?;
            extent.services.extend(scaled(client, &target.namespace, &now).await?);
        }
        "Pod" => {
            let api = Api::<Pod>::namespaced(client.clone(), &target.namespace);
            extent.services.insert(service_of_pod(&reading(&target.to_string(), api.get(&target.name)).await?));
        }
        _ => {
            extent.services.insert(service_of_object(&current(&api_of(client, target)?, target).await?));
        }
    }
    Ok(extent)
}

/// Of an object with a pod template, as of a workload that is read whole.
fn service_of_object(object: &DynamicObject) -> String {
    let template: Option<BTreeMap<String, String>> = object
        .data
        .pointer("/spec/template/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok());
    service_of(&[object.metadata.labels.as_ref(), template.as_ref()], name_of(&object.metadata))
}

/// Services of the pods that a drain evicts. One that is gone by now is not evicted.
async fn of_drained(client: &Client, action: &Action) -> Result<BTreeSet<String>, ClusterError> {
    let Action::Drain { target, pods, .. } = action else { return Ok(BTreeSet::new()) };
    let meant: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
    let here = ListParams::default().fields(&format!("spec.nodeName={}", target.name));
    let found = reading(&format!("pods of {target}"), Api::<Pod>::all(client.clone()).list(&here)).await?;
    let meant = |pod: &&Pod| pod.metadata.uid.as_deref().is_some_and(|uid| meant.contains(uid));
    Ok(found.items.iter().filter(meant).map(service_of_pod).collect())
}

/// Whose pods read the ConfigMap: by the templates, for what has no pods now, and by the pods, for whatever
/// made them.
async fn users(client: &Client, namespace: &str, name: &str) -> Result<BTreeSet<String>, ClusterError> {
    let workloads = workloads_in(client, Some(namespace)).await?;
    let pods = list::<Pod>("pods", Api::namespaced(client.clone(), namespace)).await?;
    let reads = |names: &[String]| names.iter().any(|one| one == name);
    let by_template = workloads.into_iter().filter(|one| reads(&one.config_maps)).map(|one| one.service);
    let by_pod = pods.iter().filter(|pod| reads(&named_in(pod.spec.as_ref()))).map(service_of_pod);
    Ok(by_template.chain(by_pod).collect())
}

/// The service whose replicas an autoscaler sets; what is no workload of ours to read goes by its name.
async fn scaled(client: &Client, namespace: &str, scaler: &DynamicObject) -> Result<Option<String>, ClusterError> {
    let text = |path: &str| scaler.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/spec/scaleTargetRef/kind"), text("/spec/scaleTargetRef/name"));
    if name.is_empty() {
        return Ok(None);
    }
    if !matches!(kind, "Deployment" | "StatefulSet" | "ReplicaSet") {
        return Ok(Some(name.to_owned()));
    }
    match reading(name, api(client, kind, namespace)?.get(name)).await {
        Ok(workload) => Ok(Some(service_of_object(&workload))),
        Err(ClusterError::NotFound(_)) => Ok(Some(name.to_owned())),
        Err(error) => Err(error),
    }
}

/// What applies the content of a GitRepository. Without the right to list it the card says so.
async fn followers_of(
    client: &Client,
    kind: &str,
    repository: &Target,
    unknown: &mut Vec<String>,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let what = format!("what follows {repository}");
    let (objects, few) = (api(client, kind, &repository.namespace)?, ListParams::default().limit(MOST_FOLLOWERS));
    match reading(&what, objects.list(&few)).await {
        Ok(found) => {
            if found.metadata.continue_.is_some_and(|more| !more.is_empty()) {
                unknown.push(format!("there are more than {MOST_FOLLOWERS} of kind {kind}"));
            }
            Ok(found.items.into_iter().filter(|one| follows(one, repository)).collect())
        }
        // The kind is not installed here.
        Err(ClusterError::NotFound(_)) => Ok(vec![]),
        Err(ClusterError::Forbidden(why)) => {
            unknown.push(why);
            Ok(vec![])
        }
        Err(error) => Err(error),
    }
}

fn follows(object: &DynamicObject, repository: &Target) -> bool {
    ["/spec/sourceRef", "/spec/chart/spec/sourceRef"].iter().any(|path| {
        let text = |key: &str| object.data.pointer(path).and_then(|source| source.get(key)?.as_str());
        text("kind") == Some(repository.kind.as_str())
            && text("name") == Some(repository.name.as_str())
            && text("namespace").is_none_or(|namespace| namespace == repository.namespace)
    })
}

impl Extent {
    /// Where a GitOps object puts things by its specification, and which workloads are known to be its own.
    fn applied_by(&mut self, kind: &str, namespace: &str, object: &DynamicObject, workloads: &[Workload]) {
        let at = |path: &str| object.data.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let named = at("/spec/destination/namespace").or_else(|| at("/spec/targetNamespace"));
        self.namespaces.insert(namespace.to_owned());
        self.namespaces.extend(named.map(str::to_owned));
        // Argo CD says what it applies, wherever that lies.
        let resources = object.data.pointer("/status/resources").and_then(Value::as_array);
        let resources: Vec<&Value> = resources.into_iter().flatten().collect();
        let inside = resources.iter().filter_map(|one| one.get("namespace")?.as_str());
        self.namespaces.extend(inside.filter(|name| !name.is_empty()).map(str::to_owned));
        // Flux does so for a Kustomization: `namespace_name_group_kind`.
        let inventory = object.data.pointer("/status/inventory/entries").and_then(Value::as_array);
        let inside = inventory.into_iter().flatten().filter_map(|one| one.get("id")?.as_str()?.split_once('_'));
        self.namespaces.extend(inside.map(|(namespace, _)| namespace.to_owned()).filter(|name| !name.is_empty()));
        let name = name_of(&object.metadata);
        let labelled = |workload: &Workload, with: &str| {
            let label = |key: &str| workload.labels.get(&format!("{with}/{key}")).map(String::as_str);
            label("name") == Some(name) && label("namespace") == Some(namespace)
        };
        let is_own = |workload: &&Workload| match kind {
            "Application" => resources.iter().any(|one| {
                one["kind"] == workload.kind && one["namespace"] == workload.namespace && one["name"] == workload.name
            }),
            "Kustomization" => labelled(workload, "kustomize.toolkit.fluxcd.io"),
            _ => labelled(workload, "helm.toolkit.fluxcd.io"),
        };
        for workload in workloads.iter().filter(is_own) {
            self.namespaces.insert(workload.namespace.clone());
            self.services.insert(workload.service.clone());
        }
    }
}
