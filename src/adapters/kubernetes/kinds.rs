//! The kinds of objects that actions work on, and where the API keeps them.

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;

use super::names;
use crate::domain::action::Target;
use crate::ports::ClusterError;

/// Kind, group, version, plural, and whether a namespace holds it. Custom resources in the versions
/// that their projects call stable: Argo CD `v1alpha1` (there is no other), Flux 2.3 and later.
const KINDS: [(&str, &str, &str, &str, bool); 15] = [
    ("Deployment", "apps", "v1", "deployments", true),
    ("StatefulSet", "apps", "v1", "statefulsets", true),
    ("DaemonSet", "apps", "v1", "daemonsets", true),
    ("ReplicaSet", "apps", "v1", "replicasets", true),
    ("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", true),
    ("Pod", "", "v1", "pods", true),
    ("Node", "", "v1", "nodes", false),
    ("ConfigMap", "", "v1", "configmaps", true),
    ("Job", "batch", "v1", "jobs", true),
    ("CronJob", "batch", "v1", "cronjobs", true),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", true),
    ("Application", "argoproj.io", "v1alpha1", "applications", true),
    ("Kustomization", "kustomize.toolkit.fluxcd.io", "v1", "kustomizations", true),
    ("HelmRelease", "helm.toolkit.fluxcd.io", "v2", "helmreleases", true),
    ("GitRepository", "source.toolkit.fluxcd.io", "v1", "gitrepositories", true),
];

pub(super) fn resource(kind: &str) -> Result<(ApiResource, bool), ClusterError> {
    let found = KINDS.iter().find(|(known, ..)| *known == kind);
    let (kind, group, version, plural, namespaced) =
        *found.ok_or_else(|| ClusterError::Refused(format!("no action of ours touches a {kind}")))?;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    Ok((resource, namespaced))
}

/// How many pods a workload wants, and how many of them are ready. A DaemonSet wants one for each node that fits.
pub(super) fn counts(kind: &str, workload: &DynamicObject) -> (i64, i64) {
    let count = |path: &str, otherwise| workload.data.pointer(path).and_then(Value::as_i64).unwrap_or(otherwise);
    match kind {
        "DaemonSet" => (count("/status/desiredNumberScheduled", 0), count("/status/numberReady", 0)),
        _ => (count("/spec/replicas", 1), count("/status/readyReplicas", 0)),
    }
}

pub(super) fn api(client: &Client, kind: &str, namespace: &str) -> Result<Api<DynamicObject>, ClusterError> {
    let (resource, namespaced) = resource(kind)?;
    match (namespaced, namespace.is_empty()) {
        (true, false) => {
            names::namespace(namespace)?;
            Ok(Api::namespaced_with(client.clone(), namespace, &resource))
        }
        (false, true) => Ok(Api::all_with(client.clone(), &resource)),
        (true, true) => Err(ClusterError::Refused(format!("a {kind} is in a namespace; name it"))),
        (false, false) => Err(ClusterError::Refused(format!("a {kind} is in no namespace"))),
    }
}

pub(super) fn api_of(client: &Client, target: &Target) -> Result<Api<DynamicObject>, ClusterError> {
    api(client, &target.kind, &target.namespace)
}
