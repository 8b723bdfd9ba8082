//! The three typed mutations as patches, tried on the server before they are written.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::read::{REVISION, REVISION_HISTORY, canonical, owned_sets, template_of};
use super::{reading, writing};
use crate::domain::action::{Action, Target};
use crate::domain::time::Timestamp;
use crate::ports::{Applied, ClusterError, DryRun};

const FIELD_MANAGER: &str = "midwatch";
/// kubectl's own annotation, so that `kubectl rollout` and people recognise the restart.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// In place of the time of the write in a dry run: two dry runs of one plan must be equal (S4).
const AT_THE_WRITE: &str = "(time of the write)";

pub(super) async fn dry_run(client: &Client, action: &Action) -> Result<DryRun, ClusterError> {
    let target = action.target();
    let api = api(client, target)?;
    let now = current(&api, target).await?;
    let resource_version = now.metadata.resource_version.clone().unwrap_or_default();
    let patch = prepare(client, action, &now, &resource_version).await?;
    let tried = reading(&target.to_string(), patch.send(&api, target, true)).await?;
    let (before, after) = (touched(action, &now), touched(action, &tried));
    let after = match action {
        Action::Restart { .. } => json!({ RESTARTED_AT: AT_THE_WRITE }),
        Action::Scale { .. } | Action::RollBack { .. } => after,
    };
    Ok(DryRun {
        uid: now.metadata.uid.unwrap_or_default(),
        resource_version,
        diff: diff(&before, &after),
        before,
        after,
    })
}

pub(super) async fn apply(client: &Client, action: &Action, resource_version: &str) -> Result<Applied, ClusterError> {
    let target = action.target();
    let api = api(client, target)?;
    let now = current(&api, target).await?;
    let found = now.metadata.resource_version.clone().unwrap_or_default();
    if found != resource_version {
        return Err(ClusterError::Conflict(format!("{target} was written in between ({resource_version} -> {found})")));
    }
    // The server checks the version again: the patch carries it.
    let patch = prepare(client, action, &now, resource_version).await?;
    let written = writing(&target.to_string(), patch.send(&api, target, false)).await?;
    Ok(Applied {
        resource_version: written.metadata.resource_version.unwrap_or_default(),
        // The scale subresource carries no generation; one write raises it by one.
        generation: written
            .metadata
            .generation
            .unwrap_or_else(|| now.metadata.generation.map_or(0, |generation| generation + 1)),
    })
}

fn api(client: &Client, target: &Target) -> Result<Api<DynamicObject>, ClusterError> {
    let resource = match target.kind.as_str() {
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        other => return Err(ClusterError::Refused(format!("no action of ours touches a {other}"))),
    };
    Ok(Api::namespaced_with(client.clone(), &target.namespace, &resource))
}

async fn current(api: &Api<DynamicObject>, target: &Target) -> Result<DynamicObject, ClusterError> {
    let object = reading(&target.to_string(), api.get(&target.name)).await?;
    if object.metadata.uid.as_deref() != Some(target.uid.as_str()) {
        return Err(ClusterError::Conflict(format!("another object has taken the name of {target}")));
    }
    Ok(object)
}

/// A patch and how it must travel.
enum Prepared {
    Strategic(Value),
    Scale(Value),
    Json(Value),
}

impl Prepared {
    async fn send(&self, api: &Api<DynamicObject>, target: &Target, dry_run: bool) -> kube::Result<DynamicObject> {
        let params = PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match self {
            Self::Strategic(body) => api.patch(&target.name, &params, &Patch::Strategic(body)).await,
            Self::Scale(body) => api.patch_subresource("scale", &target.name, &params, &Patch::Merge(body)).await,
            Self::Json(steps) => {
                let steps = serde_json::from_value(steps.clone()).map_err(kube::Error::SerdeError)?;
                api.patch(&target.name, &params, &Patch::<()>::Json(steps)).await
            }
        }
    }
}

async fn prepare(
    client: &Client,
    action: &Action,
    now: &DynamicObject,
    resource_version: &str,
) -> Result<Prepared, ClusterError> {
    let target = action.target();
    let guard = json!({ "uid": target.uid, "resourceVersion": resource_version });
    Ok(match action {
        Action::Restart { .. } => Prepared::Strategic(json!({
            "metadata": guard,
            "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: restart_time()}}}},
        })),
        Action::Scale { to, .. } => Prepared::Scale(json!({ "metadata": guard, "spec": {"replicas": to} })),
        Action::RollBack { from_revision, to_revision, .. } => {
            let sets = owned_sets(client, &target.namespace, &target.uid).await?;
            refuse_if_moved_on(target, now, &sets, *from_revision)?;
            let set = sets.iter().find(|set| bears(set, *to_revision)).ok_or_else(|| {
                ClusterError::NotFound(format!("revision {to_revision} of {target} (pruned by revisionHistoryLimit?)"))
            })?;
            Prepared::Json(json!([
                {"op": "test", "path": "/metadata/uid", "value": target.uid},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
                {"op": "replace", "path": "/spec/template", "value": template_of(set)},
            ]))
        }
    })
}

/// The wall clock is read here and nowhere before: the value is for people, nothing is decided on it.
fn restart_time() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since_epoch.as_secs() as i64).to_datetime().to_rfc3339()
}

/// When a rollback reuses a ReplicaSet, the controller gives it the next number and keeps the old
/// ones in its history. `undo` names the old number, so both are looked at.
fn bears(set: &DynamicObject, revision: i64) -> bool {
    let annotations = set.metadata.annotations.as_ref();
    let get = |key: &str| annotations.and_then(|map| map.get(key)).map(String::as_str).unwrap_or_default();
    let wanted = revision.to_string();
    get(REVISION) == wanted || get(REVISION_HISTORY).split(',').any(|old| old.trim() == wanted)
}

/// Somebody rolled forward or back since the plan was made: `from` still exists, but does not run.
/// A `from` that nobody bears any more was renumbered by the controller (an undo); the template in
/// the plan's digest then tells whether it is the one that was meant.
fn refuse_if_moved_on(
    target: &Target,
    now: &DynamicObject,
    sets: &[DynamicObject],
    from: i64,
) -> Result<(), ClusterError> {
    let running = now.metadata.annotations.as_ref().and_then(|map| map.get(REVISION)).cloned().unwrap_or_default();
    let running_set = running.parse().ok().and_then(|number| sets.iter().find(|set| bears(set, number)));
    let meant = sets.iter().any(|set| bears(set, from));
    if meant && !running_set.is_some_and(|set| bears(set, from)) {
        return Err(ClusterError::Conflict(format!("{target} runs revision {running} by now, not {from}")));
    }
    Ok(())
}

/// Only what the action touches: drift elsewhere must not void an approval (S4).
fn touched(action: &Action, object: &DynamicObject) -> Value {
    let at = |path: &str| object.data.pointer(path).cloned().unwrap_or_default();
    match action {
        Action::Restart { .. } => {
            let annotations = at("/spec/template/metadata/annotations");
            json!({ RESTARTED_AT: annotations.get(RESTARTED_AT).cloned().unwrap_or_default() })
        }
        Action::Scale { .. } => json!({ "replicas": at("/spec/replicas") }),
        Action::RollBack { .. } => canonical(at("/spec/template")),
    }
}

fn diff(before: &Value, after: &Value) -> String {
    let text = |value: &Value| serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string());
    let (before, after) = (text(before), text(after));
    similar::TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(3)
        .header("before", "after")
        .to_string()
}
