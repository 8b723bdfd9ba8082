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

/// What tells one release from another, of an entry of the history or of a synchronisation that is asked
/// for. Not the id: going back appends an entry under a new one.
fn same_release(one: &Value, other: &Value) -> bool {
    same_revision(one, other)
        && ["source", "sources"].iter().all(|field| present_in(one, field) == present_in(other, field))
}

fn same_revision(one: &Value, other: &Value) -> bool {
    ["revision", "revisions"].iter().all(|field| present_in(one, field) == present_in(other, field))
}

/// Several sources leave the field of the one empty, and the other way about.
fn present_in<'a>(of: &'a Value, field: &str) -> Option<&'a Value> {
    of.get(field).filter(|value| !value.is_null() && **value != json!("") && **value != json!([]))
}

/// The operations that Argo CD knows of, the one that came last first: what is asked for and runs until it
/// is taken out, then what ran last.
fn argo_operations(now: &DynamicObject) -> impl Iterator<Item = &Value> {
    let asked = now.data.get("operation").filter(|operation| !operation.is_null());
    asked.into_iter().chain(now.data.pointer("/status/operationState/operation"))
}

/// Whether midwatch asked for that entry with the operation.
fn asks_for(operation: &Value, entry: &Value) -> bool {
    let by_us = operation.pointer("/initiatedBy/username") == Some(&"midwatch".into());
    by_us && operation.get("sync").is_some_and(|sync| same_release(sync, entry))
}

/// Whether midwatch has asked for that release, whatever came after it.
pub(super) fn was_asked_for(now: &DynamicObject, to: &str) -> bool {
    argo_entry(now, to).is_some_and(|entry| argo_operations(now).any(|operation| asks_for(operation, entry)))
}

/// Whether nobody has asked for another one since. An entry that the history has forgotten was there
/// when it was asked for.
pub(super) fn is_asked_for(now: &DynamicObject, to: &str) -> bool {
    let entry = argo_entry(now, to);
    argo_operations(now).next().is_some_and(|last| match (entry, last.get("sync")) {
        (Some(entry), _) => asks_for(last, entry),
        (None, Some(sync)) => asks_for(last, sync),
        (None, None) => false,
    })
}

/// Whether it runs that entry, under whatever id; or was brought to it by midwatch, well or not.
pub(super) fn argo_runs(now: &DynamicObject, id: &str) -> bool {
    let running = argo_running(now);
    let entry = |id: &str| argo_entry(now, id);
    match running.as_deref() {
        None => true,
        Some(running) if running == id => true,
        Some(running) => {
            is_asked_for(now, id) || entry(running).zip(entry(id)).is_some_and(|(one, other)| same_release(one, other))
        }
    }
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
            let phase = text("/status/operationState/phase");
            let pending = now.data.get("operation").is_some_and(|operation| !operation.is_null());
            // Not `status.sync.revision`: it stays at the tip of the branch, with which it is compared.
            let asked = now.data.pointer("/status/operationState/operation/sync");
            let result = now.data.pointer("/status/operationState/syncResult");
            let came_to_it = asked.zip(result).is_some_and(|(asked, result)| same_revision(asked, result));
            let done = !pending && phase == "Succeeded" && came_to_it && is_asked_for(now, to);
            let revision = |field| result.and_then(|result| present_in(result, field)).map(ToString::to_string);
            let revision =
                revision("revision").or_else(|| revision("revisions")).unwrap_or_else(|| "nothing yet".into());
            (
                done,
                format!(
                    "the operation is {}, synchronised to {revision}",
                    if phase.is_empty() { "pending" } else { &phase }
                ),
            )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::target;

    fn source() -> Value {
        json!({"repoURL": "https://git", "path": "shop"})
    }

    /// As Argo CD leaves it after midwatch went back from 4 to 3: a new entry of the old revision, and
    /// the tip of the branch as what it compares with.
    fn gone_back(by: &str) -> Value {
        let sync = json!({"revision": "aaa", "source": source(), "syncStrategy": {"hook": {}}});
        json!({
            "metadata": {"name": "shop", "namespace": "argocd"},
            "status": {
                "sync": {"status": "OutOfSync", "revision": "bbb"},
                "history": [{"id": 3, "revision": "aaa", "source": source()},
                            {"id": 4, "revision": "bbb", "source": source()},
                            {"id": 5, "revision": "aaa", "source": source()}],
                "operationState": {"phase": "Succeeded", "operation": {"initiatedBy": {"username": by}, "sync": sync},
                                   "syncResult": {"revision": "aaa", "source": source()}},
            },
        })
    }

    fn read(now: &Value) -> DynamicObject {
        serde_json::from_value(now.clone()).unwrap()
    }

    #[test]
    fn a_rollback_of_argo_is_seen_in_its_operation_and_its_undo_starts_from_it() {
        let shop = target("c", "argocd", "Application", "shop", "u");
        let now = read(&gone_back("midwatch"));
        let (done, fact) = is_applied(&shop, &now, "3");
        assert!(done && fact.contains("synchronised to \"aaa\""), "{fact}");
        assert!(is_asked_for(&now, "3") && !is_asked_for(&now, "4"));
        // The undo goes from 3 to 4, and the same release runs as entry 5.
        assert!(argo_runs(&now, "3") && argo_runs(&now, "5") && !argo_runs(&now, "4"));
        assert!(was_asked_for(&now, "3") && !was_asked_for(&now, "4"));
    }

    #[test]
    fn the_release_of_another_source_is_another_and_several_sources_count_together() {
        let mut moved = gone_back("midwatch");
        moved["status"]["history"][2]["source"]["path"] = json!("other");
        moved["status"]["operationState"]["operation"]["sync"]["source"]["path"] = json!("other");
        let moved = read(&moved);
        assert!(!argo_runs(&moved, "3") && !is_asked_for(&moved, "3"));
        let of = |revisions: Value| json!({"revision": "", "revisions": revisions, "sources": [source(), source()]});
        let (one, other) = (of(json!(["a", "b"])), of(json!(["a", "c"])));
        assert!(same_release(&one, &one) && !same_release(&one, &other));
        assert!(same_release(&json!({"revision": "a", "sources": []}), &json!({"revision": "a", "revisions": null})));
    }

    #[test]
    fn what_did_not_end_well_is_not_applied_and_who_synchronises_after_us_overrules_us() {
        let shop = target("c", "argocd", "Application", "shop", "u");
        let mut failed = gone_back("midwatch");
        failed["status"]["operationState"]["phase"] = json!("Failed");
        // It never came to an entry of its own; the undo still starts from what midwatch asked for.
        failed["status"]["history"].as_array_mut().unwrap().pop();
        let failed = read(&failed);
        assert!(!is_applied(&shop, &failed, "3").0 && is_asked_for(&failed, "3") && argo_runs(&failed, "3"));
        let others = read(&gone_back("ann"));
        assert!(!is_asked_for(&others, "3") && !is_applied(&shop, &others, "3").0);
        let mut asked = gone_back("midwatch");
        asked["operation"] = json!({"initiatedBy": {"username": "ann"}, "sync": {"revision": "bbb"}});
        let asked = read(&asked);
        assert!(!is_asked_for(&asked, "3") && was_asked_for(&asked, "3") && !is_applied(&shop, &asked, "3").0);
    }
}
