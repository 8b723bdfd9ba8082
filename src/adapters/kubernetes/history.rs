//! Rollout histories: the ReplicaSets of a Deployment, the ControllerRevisions of a StatefulSet.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;

use super::kinds::api;
use super::read::{REVISION, instant, list, name_of, number};
use super::reading;
use crate::ports::{ClusterError, Revision, Workload};

/// Earlier numbers of a ReplicaSet that was rolled back to: the controller gives it a new one.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH_LABEL: &str = "pod-template-hash";
/// Kind to the API server: a hundred namespaces take a second or two.
const PARALLEL: usize = 8;

/// Histories by the uid of whose they are, each oldest first.
type ByOwner = BTreeMap<String, Vec<Revision>>;

pub(super) async fn of_one(
    client: &Client,
    kind: &str,
    namespace: &str,
    workload: &str,
) -> Result<Vec<Revision>, ClusterError> {
    let what = format!("{} {namespace}/{workload}", kind.to_lowercase());
    let object = reading(&what, api(client, kind, namespace)?.get(workload)).await?;
    let mut kept = kept_in(client, kind, namespace).await?;
    Ok(kept.remove(&object.metadata.uid.unwrap_or_default()).unwrap_or_default())
}

/// Listed once for each namespace and kind, however many workloads stand there.
pub(super) async fn of_all(client: &Client, workloads: &[Workload]) -> Vec<Result<Vec<Revision>, ClusterError>> {
    let place = |workload: &Workload| (workload.kind.clone(), workload.namespace.clone());
    let places: BTreeSet<(String, String)> = workloads.iter().map(place).collect();
    let kept: Vec<_> = futures::stream::iter(places)
        .map(|(kind, namespace)| async move {
            let kept = kept_in(client, &kind, &namespace).await;
            ((kind, namespace), kept)
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let kept: BTreeMap<(String, String), Result<ByOwner, ClusterError>> = kept.into_iter().collect();
    let history = |workload: &Workload| match kept.get(&place(workload)) {
        Some(Ok(by_owner)) => Ok(by_owner.get(&workload.uid).cloned().unwrap_or_default()),
        Some(Err(error)) => Err(error.clone()),
        None => Ok(vec![]),
    };
    workloads.iter().map(history).collect()
}

async fn kept_in(client: &Client, kind: &str, namespace: &str) -> Result<ByOwner, ClusterError> {
    let mut kept = ByOwner::new();
    match kind {
        "StatefulSet" => {
            let api = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
            for one in list(&format!("controller revisions in {namespace}"), api).await? {
                let owners = one.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
                put(&mut kept, owners, of_controller_revision(one));
            }
        }
        _ => {
            for set in replica_sets(client, namespace).await? {
                if let Some(revision) = of_replica_set(&set) {
                    put(&mut kept, controllers(&set).map(str::to_owned).collect(), revision);
                }
            }
        }
    }
    kept.values_mut().for_each(|history| history.sort_by_key(|revision| revision.number));
    Ok(kept)
}

fn put(kept: &mut ByOwner, owners: Vec<String>, revision: Revision) {
    for owner in owners {
        kept.entry(owner).or_default().push(revision.clone());
    }
}

fn of_controller_revision(one: ControllerRevision) -> Revision {
    Revision {
        number: one.revision.unwrap_or_default(),
        created_at: one.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
        kept_as: name_of(&one.metadata).to_owned(),
        cause: one.metadata.annotations.as_ref().and_then(|all| all.get(CHANGE_CAUSE)).cloned(),
        template: canonical(one.data.0.pointer("/spec/template").cloned().unwrap_or_default()),
    }
}

pub(super) async fn owned_sets(
    client: &Client,
    namespace: &str,
    uid: &str,
) -> Result<Vec<DynamicObject>, ClusterError> {
    let sets = replica_sets(client, namespace).await?;
    Ok(sets.into_iter().filter(|set| controllers(set).any(|owner| owner == uid)).collect())
}

/// Untyped, because a field of the template that this build does not know must survive a rollback.
async fn replica_sets(client: &Client, namespace: &str) -> Result<Vec<DynamicObject>, ClusterError> {
    let resource = ApiResource::erase::<ReplicaSet>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    list(&format!("replica sets in {namespace}"), api).await
}

/// Whose the set is goes by uid and not by selector: labels can be copied by anybody who may create sets.
fn controllers(set: &DynamicObject) -> impl Iterator<Item = &str> {
    let owners = set.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

fn of_replica_set(set: &DynamicObject) -> Option<Revision> {
    let annotations = set.metadata.annotations.as_ref()?;
    Some(Revision {
        number: number(&set.metadata, REVISION)?,
        created_at: set.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
        kept_as: name_of(&set.metadata).to_owned(),
        cause: annotations.get(CHANGE_CAUSE).cloned(),
        template: template_of(set),
    })
}

/// The numbers that the set had before it was rolled back to.
pub(super) fn earlier_numbers(set: &DynamicObject) -> Vec<i64> {
    let history = set.metadata.annotations.as_ref().and_then(|all| all.get(REVISION_HISTORY));
    let numbers = history.into_iter().flat_map(|history| history.split(','));
    numbers.filter_map(|old| old.trim().parse().ok()).collect()
}

/// When a rollback reuses a ReplicaSet, the controller gives it the next number and keeps the old
/// ones in its history. `undo` names the old number, so both are looked at.
pub(super) fn bears(set: &DynamicObject, revision: i64) -> bool {
    number(&set.metadata, REVISION) == Some(revision) || earlier_numbers(set).contains(&revision)
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
