//! Rollout histories: the ReplicaSets of a Deployment, the ControllerRevisions of a StatefulSet or DaemonSet.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::kinds::api;
use super::read::{REVISION, instant, list, name_of, number};
use super::reading;
use crate::domain::action::Target;
use crate::ports::{ClusterError, Revision, Workload};

/// Earlier numbers of a ReplicaSet that was rolled back to: the controller gives it a new one.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const HASH_LABEL: &str = "pod-template-hash";
/// On a DaemonSet: the number and the name of the ControllerRevision that midwatch went back to last.
const WENT_BACK_TO: &str = "midwatch.io/went-back-to";
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
        "StatefulSet" | "DaemonSet" => {
            for one in controller_revisions(client, namespace).await? {
                let owners = one.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
                put(&mut kept, owners, of_controller_revision(one));
            }
        }
        _ => {
            for set in replica_sets(client, namespace).await? {
                if let Some(of_set) = of_replica_set(&set) {
                    put(&mut kept, controllers(&set.metadata).map(str::to_owned).collect(), of_set.revision);
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
    let mut template = one.data.0.pointer("/spec/template").cloned().unwrap_or_default();
    // It is kept as a patch that replaces the whole template.
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove("$patch");
    }
    Revision {
        number: one.revision.unwrap_or_default(),
        created_at: one.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
        kept_as: name_of(&one.metadata).to_owned(),
        cause: one.metadata.annotations.as_ref().and_then(|all| all.get(CHANGE_CAUSE)).cloned(),
        template: canonical(template),
    }
}

/// A template that a workload can be put back to.
pub(super) struct Kept {
    pub revision: Revision,
    /// The numbers that it had before it was gone back to: the controller gives it the next one then.
    pub earlier: Vec<i64>,
}

impl Kept {
    /// `undo` names the old number, so both are looked at.
    pub fn bears(&self, number: i64) -> bool {
        self.revision.number == number || self.earlier.contains(&number)
    }
}

pub(super) fn bearer(kept: &[Kept], number: i64) -> Option<&Kept> {
    let by_own = kept.iter().find(|one| one.revision.number == number);
    by_own.or_else(|| kept.iter().find(|one| one.bears(number)))
}

pub(super) async fn kept_of(client: &Client, target: &Target, now: &DynamicObject) -> Result<Vec<Kept>, ClusterError> {
    let is_own = |meta: &ObjectMeta| controllers(meta).any(|owner| owner == target.uid);
    if target.kind != "DaemonSet" {
        let sets = replica_sets(client, &target.namespace).await?;
        return Ok(sets.iter().filter(|set| is_own(&set.metadata)).filter_map(of_replica_set).collect());
    }
    let gone_back_to = gone_back_to(now);
    let kept = controller_revisions(client, &target.namespace).await?;
    let kept = kept.into_iter().filter(|one| is_own(&one.metadata)).map(|one| {
        let revision = of_controller_revision(one);
        let earlier = gone_back_to.iter().filter(|(_, name)| *name == revision.kept_as).map(|(number, _)| *number);
        Kept { earlier: earlier.collect(), revision }
    });
    Ok(kept.collect())
}

/// The number of what the target runs or rolls out. A Deployment says it; of a DaemonSet its template tells, and
/// nothing does while its controller has not recorded that.
pub(super) fn running(target: &Target, now: &DynamicObject, kept: &[Kept]) -> Option<i64> {
    if target.kind != "DaemonSet" {
        return number(&now.metadata, REVISION);
    }
    let template = canonical(now.data.pointer("/spec/template").cloned().unwrap_or_default());
    kept.iter().filter(|one| one.revision.template == template).map(|one| one.revision.number).max()
}

/// Which number a ControllerRevision had when midwatch went back to it, and its name.
fn gone_back_to(now: &DynamicObject) -> Option<(i64, &str)> {
    let (number, name) = now.metadata.annotations.as_ref()?.get(WENT_BACK_TO)?.split_once(' ')?;
    Some((number.parse().ok()?, name))
}

/// Steps of a JSON patch that leave behind what a DaemonSet is put back to: its controller renumbers that and
/// keeps no earlier number, so that neither a lost answer nor a change by somebody else could be told later.
pub(super) fn note_going_back(now: &DynamicObject, to: i64, wanted: &Kept) -> Vec<Value> {
    let path = format!("/metadata/annotations/{}", WENT_BACK_TO.replace('/', "~1"));
    let note = json!({"op": "add", "path": path, "value": format!("{to} {}", wanted.revision.kept_as)});
    match now.metadata.annotations {
        Some(_) => vec![note],
        None => vec![json!({"op": "add", "path": "/metadata/annotations", "value": {}}), note],
    }
}

/// Untyped, because a field of the template that this build does not know must survive a rollback.
async fn replica_sets(client: &Client, namespace: &str) -> Result<Vec<DynamicObject>, ClusterError> {
    let resource = ApiResource::erase::<ReplicaSet>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    list(&format!("replica sets in {namespace}"), api).await
}

/// What they keep is untyped by itself.
async fn controller_revisions(client: &Client, namespace: &str) -> Result<Vec<ControllerRevision>, ClusterError> {
    let api = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    list(&format!("controller revisions in {namespace}"), api).await
}

/// Whose it is goes by uid and not by selector: labels can be copied by anybody who may create sets.
fn controllers(meta: &ObjectMeta) -> impl Iterator<Item = &str> {
    let owners = meta.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

fn of_replica_set(set: &DynamicObject) -> Option<Kept> {
    let annotations = set.metadata.annotations.as_ref()?;
    let history = annotations.get(REVISION_HISTORY).into_iter().flat_map(|history| history.split(','));
    Some(Kept {
        revision: Revision {
            number: number(&set.metadata, REVISION)?,
            created_at: set.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
            kept_as: name_of(&set.metadata).to_owned(),
            cause: annotations.get(CHANGE_CAUSE).cloned(),
            template: template_of(set),
        },
        earlier: history.filter_map(|old| old.trim().parse().ok()).collect(),
    })
}

/// The pod template as the Deployment had it: without the label that the controller added.
fn template_of(set: &DynamicObject) -> Value {
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
