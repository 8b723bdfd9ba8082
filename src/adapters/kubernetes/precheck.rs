//! What must hold of a target before it is touched; asked before the card and again before the write.

use kube::api::DynamicObject;
use serde_json::Value;

use super::release;
use crate::domain::action::{Action, Bounds};
use crate::ports::ClusterError;

pub(super) fn precheck(action: &Action, now: &DynamicObject) -> Result<(), ClusterError> {
    let at = |path: &str| now.data.pointer(path);
    let flag = |path: &str| at(path).and_then(Value::as_bool).unwrap_or(false);
    let target = action.target();
    let refuse = |why: &str| Err(ClusterError::Refused(format!("{target} {why}")));
    if now.metadata.deletion_timestamp.is_some() {
        return refuse("is being deleted");
    }
    let wanted_kind = match action {
        Action::PauseRollout { .. } | Action::ResumeRollout { .. } => Some("Deployment"),
        Action::SetBounds { .. } => Some("HorizontalPodAutoscaler"),
        Action::EvictPod { .. } => Some("Pod"),
        Action::Cordon { .. } | Action::Uncordon { .. } | Action::Drain { .. } => Some("Node"),
        Action::DeleteJob { .. } => Some("Job"),
        Action::SuspendCronJob { .. } | Action::ResumeCronJob { .. } | Action::RunJob { .. } => Some("CronJob"),
        Action::RestoreConfig { .. } => Some("ConfigMap"),
        Action::Restart { .. }
        | Action::Scale { .. }
        | Action::RollBack { .. }
        | Action::SuspendSync { .. }
        | Action::ResumeSync { .. }
        | Action::RollBackRelease { .. }
        | Action::CallHook { .. } => None,
    };
    if wanted_kind.is_some_and(|kind| kind != target.kind) {
        return refuse(&format!("is not a {}", wanted_kind.unwrap_or_default()));
    }
    match action {
        // As kubectl: a paused Deployment would only remember it.
        Action::Restart { .. } | Action::RollBack { .. } if flag("/spec/paused") => {
            refuse("is paused; resume its rollout first")
        }
        Action::Restart { .. } | Action::RollBack { .. }
            if at("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete") =>
        {
            refuse(
                "has the update strategy OnDelete: another template changes no pod that runs, until somebody deletes it",
            )
        }
        Action::Restart { .. } | Action::RollBack { .. } if partition(now) > 0 => refuse(&format!(
            "has an update strategy with the partition {}: pods of a lower number would stay as they are",
            partition(now)
        )),
        Action::Scale { .. } if target.kind == "DaemonSet" => {
            refuse("has one pod on each node that fits; it has no number of replicas")
        }
        Action::Scale { from, .. } if at("/spec/replicas").and_then(Value::as_i64).unwrap_or(1) != i64::from(*from) => {
            Err(ClusterError::Conflict(format!("{target} does not have {from} replicas any more")))
        }
        Action::SetBounds { to, .. } if to.min > to.max || to.min < 1 => {
            refuse(&format!("cannot have the bounds {to}: the lower is above the upper, or below 1"))
        }
        Action::SetBounds { from, .. } if bounds(now) != *from => {
            Err(ClusterError::Conflict(format!("{target} has the bounds {} by now, not {from}", bounds(now))))
        }
        Action::PauseRollout { .. } if flag("/spec/paused") => refuse("is paused already"),
        Action::ResumeRollout { .. } if !flag("/spec/paused") => refuse("is not paused"),
        Action::EvictPod { .. } if controller(now).is_none() => refuse("has no controller: nothing would replace it"),
        Action::Cordon { .. } if flag("/spec/unschedulable") => refuse("is cordoned already"),
        Action::Uncordon { .. } if !flag("/spec/unschedulable") => refuse("is not cordoned"),
        // Its undo hangs on it.
        Action::Drain { was_cordoned, .. } if flag("/spec/unschedulable") != *was_cordoned => {
            let word = if *was_cordoned { "uncordoned" } else { "cordoned" };
            Err(ClusterError::Conflict(format!("{target} was {word} meanwhile")))
        }
        Action::Uncordon { .. } if !has_condition(now, "Ready") => refuse("is not ready"),
        Action::DeleteJob { .. } if has_condition(now, "Complete") => refuse("is complete: there is nothing to end"),
        Action::DeleteJob { .. } if flag("/spec/suspend") => refuse("is suspended: somebody holds it on purpose"),
        Action::SuspendCronJob { .. } if flag("/spec/suspend") => refuse("is suspended already"),
        Action::ResumeCronJob { .. } if !flag("/spec/suspend") => refuse("is not suspended"),
        Action::RunJob { .. }
            if at("/status/active").and_then(Value::as_array).is_some_and(|jobs| !jobs.is_empty()) =>
        {
            refuse("has a job that runs")
        }
        Action::RestoreConfig { .. } if flag("/immutable") => refuse("is immutable"),
        Action::RestoreConfig { .. } if controller(now).is_some() => {
            refuse("is owned by a controller, which would write its own data back")
        }
        Action::RestoreConfig { from, .. } => {
            let data: std::collections::BTreeMap<String, String> =
                at("/data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default();
            if data == *from {
                Ok(())
            } else {
                Err(ClusterError::Conflict(format!("the data of {target} has changed meanwhile")))
            }
        }
        Action::SuspendSync { .. } | Action::ResumeSync { .. } => {
            let off = match target.kind.as_str() {
                "Application" => at("/spec/syncPolicy/automated").is_none_or(Value::is_null),
                _ => flag("/spec/suspend"),
            };
            match (action, off) {
                (Action::SuspendSync { .. }, true) => refuse("is not synchronised by itself"),
                (Action::ResumeSync { .. }, false) => refuse("is synchronised already"),
                _ => Ok(()),
            }
        }
        Action::RollBackRelease { from, .. } if target.kind == "Application" => {
            if at("/spec/syncPolicy/automated").is_some_and(|automated| !automated.is_null()) {
                return refuse("is synchronised by itself, which would undo a rollback; suspend it first");
            }
            if at("/operation").is_some_and(|operation| !operation.is_null()) {
                return refuse("has an operation in progress");
            }
            if release::argo_runs(now, from) {
                return Ok(());
            }
            let running = release::argo_running(now).unwrap_or_default();
            Err(ClusterError::Conflict(format!("{target} runs release {running} by now, not {from}")))
        }
        Action::RollBackRelease { .. } if flag("/spec/suspend") => refuse("is suspended and would not apply it"),
        Action::RollBackRelease { from, .. } if release::declared(target, now) != *from => {
            let declared = release::declared(target, now);
            Err(ClusterError::Conflict(format!("{target} has release {declared:?} by now, not {from:?}")))
        }
        Action::Restart { .. }
        | Action::Scale { .. }
        | Action::RollBack { .. }
        | Action::SetBounds { .. }
        | Action::PauseRollout { .. }
        | Action::ResumeRollout { .. }
        | Action::EvictPod { .. }
        | Action::Cordon { .. }
        | Action::Uncordon { .. }
        | Action::Drain { .. }
        | Action::DeleteJob { .. }
        | Action::SuspendCronJob { .. }
        | Action::ResumeCronJob { .. }
        | Action::RollBackRelease { .. }
        | Action::RunJob { .. }
        | Action::CallHook { .. } => Ok(()),
    }
}

/// Of a StatefulSet: its pods below this number are not updated.
fn partition(now: &DynamicObject) -> i64 {
    now.data.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or(0)
}

/// Of an autoscaler; the API server fills in 1 where no lower bound is given.
pub(super) fn bounds(now: &DynamicObject) -> Bounds {
    let number = |path: &str| {
        let found = now.data.pointer(path).and_then(Value::as_i64);
        found.and_then(|found| i32::try_from(found).ok()).unwrap_or(1)
    };
    Bounds { min: number("/spec/minReplicas"), max: number("/spec/maxReplicas") }
}

/// Kind and name of the controller.
pub(super) fn controller(object: &DynamicObject) -> Option<(String, String)> {
    let owners = object.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    controllers.next().map(|owner| (owner.kind.clone(), owner.name.clone()))
}

pub(super) fn has_condition(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::plan::target;

    #[track_caller]
    fn check(action: Action, now: Value, expected: Option<&str>) {
        let now: DynamicObject = serde_json::from_value(now).unwrap();
        let told = precheck(&action, &now).err().map(|error| error.to_string());
        match (told, expected) {
            (None, None) => {}
            (Some(told), Some(expected)) if told.contains(expected) => {}
            (told, expected) => panic!("{action}: {told:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn what_the_action_starts_from_is_what_is_there() {
        let bounds = |min, max| Bounds { min, max };
        let set = |from| Action::SetBounds {
            target: target("c", "shop", "HorizontalPodAutoscaler", "web", "u"),
            from,
            to: bounds(3, 8),
        };
        let scaler = |spec: Value| json!({"metadata": {"name": "web"}, "spec": spec});
        check(set(bounds(2, 4)), scaler(json!({"minReplicas": 2, "maxReplicas": 4})), None);
        check(set(bounds(1, 4)), scaler(json!({"maxReplicas": 4})), None);
        let moved = scaler(json!({"minReplicas": 2, "maxReplicas": 9}));
        check(set(bounds(2, 4)), moved, Some("has the bounds 2 to 9 by now, not 2 to 4"));
        let back = |kind: &str, from: &str| Action::RollBackRelease {
            target: target("c", "flux", kind, "it", "u"),
            from: from.into(),
            to: "1.2.0".into(),
        };
        let chart = json!({"metadata": {"name": "it"}, "spec": {"chart": {"spec": {"version": "1.4.0"}}}});
        check(back("HelmRelease", "1.4.0"), chart.clone(), None);
        check(back("HelmRelease", "1.3.0"), chart, Some("has release \"1.4.0\" by now, not \"1.3.0\""));
        let source = json!({"metadata": {"name": "it"}, "spec": {"ref": {"branch": "main"}}});
        check(back("GitRepository", ""), source.clone(), None);
        check(back("GitRepository", "0123abc"), source, Some("has release \"\" by now"));
    }

    #[test]
    fn a_restart_that_reaches_not_all_pods_is_refused() {
        let restart = || Action::Restart { target: target("c", "shop", "StatefulSet", "db", "u") };
        let set = |strategy: Value| json!({"metadata": {"name": "db"}, "spec": {"updateStrategy": strategy}});
        check(restart(), set(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})), None);
        check(restart(), set(json!({"type": "OnDelete"})), Some("has the update strategy OnDelete"));
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        check(restart(), set(partition), Some("the partition 2: pods of a lower number would stay"));
    }

    #[test]
    fn a_drain_is_of_a_node_that_is_cordoned_or_not_as_it_was() {
        let drain =
            |was_cordoned| Action::Drain { target: target("c", "", "Node", "n", "u"), pods: vec![], was_cordoned };
        let node = |cordoned: bool| json!({"metadata": {"name": "n"}, "spec": {"unschedulable": cordoned}});
        check(drain(false), node(false), None);
        check(drain(true), node(true), None);
        check(drain(false), node(true), Some("was cordoned meanwhile"));
        check(drain(true), node(false), Some("was uncordoned meanwhile"));
    }
}
