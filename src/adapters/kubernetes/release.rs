//! Earlier releases of GitOps controllers: Argo CD's history, a Flux source's commit, a chart's version.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::domain::action::Target;
use crate::ports::ClusterError;

/// The entry of `status.history` with that id.
fn argo_entry<'a>(now: &'a DynamicObject, id: &str) -> Option<&'a Value> {
    let history = now.data.pointer("/status/history").and_then(Value::as_array)?;
    history.iter().find(|entry| entry.get("id").and_then(Value::as_i64).is_some_and(|found| id.parse() == Ok(found)))
}

/// The id of the newest entry: what runs.
pub(super) fn argo_running(now: &DynamicObject) -> Option<String> {
    let history = now.data.pointer("/status/history").and_then(Value::as_array)?;
    history.iter().filter_map(|entry| entry.get("id")?.as_i64()).max().map(|id| id.to_string())
}

pub(super) fn argo_previous(now: &DynamicObject) -> Option<String> {
    let history = now.data.pointer("/status/history").and_then(Value::as_array)?;
    let mut ids: Vec<i64> = history.iter().filter_map(|entry| entry.get("id")?.as_i64()).collect();
    ids.sort_unstable();
    ids.len().checked_sub(2).and_then(|at| ids.get(at)).map(ToString::to_string)
}

/// As Argo CD's own `Rollback` call builds its operation (server/application, `Rollback`): the
/// source and revision of the history's entry, no pruning. `argocd app rollback` refuses where
/// automatic synchronisation is on; `precheck` does so too.
pub(super) fn patch(target: &Target, now: &DynamicObject, to: &str) -> Result<Value, ClusterError> {
    match target.kind.as_str() {
        "Application" => {
            let entry = argo_entry(now, to)
                .ok_or_else(|| ClusterError::NotFound(format!("release {to} in the history of {target}")))?;
            let mut sync = json!({"revision": entry.get("revision"), "prune": false, "syncStrategy": {"hook": {}}});
            for field in ["source", "sources", "revisions"] {
                if let Some(value) = entry.get(field) {
                    sync[field] = value.clone();
                }
            }
            Ok(json!({"operation": {"initiatedBy": {"username": "midwatch"}, "sync": sync}}))
        }
        // A commit goes before branch and tag; without one the branch counts again.
        "GitRepository" => {
            Ok(json!({"spec": {"ref": {"commit": if to.is_empty() { Value::Null } else { json!(to) }}}}))
        }
        "HelmRelease" => Ok(json!({"spec": {"chart": {"spec": {"version": to}}}})),
        other => Err(ClusterError::Refused(format!("a {other} keeps no releases"))),
    }
}

/// The commit or chart version that a Flux object asks for; empty where it asks for none.
pub(super) fn declared(target: &Target, now: &DynamicObject) -> String {
    let path = if target.kind == "GitRepository" { "/spec/ref/commit" } else { "/spec/chart/spec/version" };
    now.data.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What is released now.
pub(super) fn present(target: &Target, now: &DynamicObject) -> Value {
    let at = |path: &str| now.data.pointer(path).cloned().unwrap_or_default();
    match target.kind.as_str() {
        "Application" => {
            let running = argo_running(now);
            let entry = running.as_deref().and_then(|id| argo_entry(now, id));
            json!({"release": running, "revision": entry.and_then(|entry| entry.get("revision"))})
        }
        "GitRepository" => json!({"commit": at("/spec/ref/commit")}),
        _ => json!({"version": at("/spec/chart/spec/version")}),
    }
}

/// What will be released.
pub(super) fn wanted(target: &Target, now: &DynamicObject, to: &str) -> Value {
    match target.kind.as_str() {
        "Application" => {
            json!({"release": to, "revision": argo_entry(now, to).and_then(|entry| entry.get("revision"))})
        }
        "GitRepository" => json!({"commit": if to.is_empty() { Value::Null } else { json!(to) }}),
        _ => json!({"version": to}),
    }
}

/// Whether the controller reports it as applied, and what it says.
pub(super) fn is_applied(target: &Target, now: &DynamicObject, to: &str) -> (bool, String) {
    let text = |path: &str| now.data.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    match target.kind.as_str() {
        "Application" => {
            let revision = argo_entry(now, to).and_then(|entry| entry.get("revision")?.as_str().map(str::to_owned));
            let (phase, synced) = (text("/status/operationState/phase"), text("/status/sync/revision"));
            let pending = now.data.get("operation").is_some_and(|operation| !operation.is_null());
            // The history may have moved on: the revision that it synchronised to is what counts.
            let done = !pending && phase == "Succeeded" && revision.is_none_or(|revision| revision == synced);
            (done, format!("the operation is {phase}, synchronised to {synced}"))
        }
        "GitRepository" => {
            let revision = text("/status/artifact/revision");
            (is_ready(now) && revision.contains(to), format!("its artifact is {revision}"))
        }
        _ => {
            let version = text("/status/history/0/chartVersion");
            (is_ready(now) && version == to, format!("chart version {version} is installed"))
        }
    }
}

/// Flux's `Ready` condition, of this generation.
fn is_ready(now: &DynamicObject) -> bool {
    let observed = now.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
    let conditions = now.data.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
    ready && observed == now.metadata.generation
}
