//! From a wish to a concrete action: uid, present values and history are read, never assumed.

use kube::Client;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;

use super::history::Kept;
use super::kinds::api;
use super::precheck::{bounds, controller};
use super::{history, names, reading, release};
use crate::domain::action::{Action, ActionKind, Bounds, Target};
use crate::ports::{ClusterError, Wish};

pub(super) async fn prepare(client: &Client, wish: &Wish) -> Result<Action, ClusterError> {
    let kinds = possible_kinds(wish)?;
    names::object("name", &wish.name)?;
    let mut missing = ClusterError::NotFound(wish.name.clone());
    for kind in &kinds {
        let what = format!("{} {}/{}", kind.to_lowercase(), wish.namespace, wish.name);
        let found = match api(client, kind, &wish.namespace) {
            Ok(api) => reading(&what, api.get(&wish.name)).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(object) => return concrete(client, wish, kind, &object).await,
            // A kind that is not installed here, or not of this name.
            Err(error @ ClusterError::NotFound(_)) => missing = error,
            Err(error) => return Err(error),
        }
    }
    Err(missing)
}

fn possible_kinds(wish: &Wish) -> Result<Vec<&str>, ClusterError> {
    let usual: &[&str] = match wish.action {
        ActionKind::Restart => &["Deployment", "StatefulSet", "DaemonSet"],
        ActionKind::Scale => &["Deployment", "StatefulSet"],
        ActionKind::RollBack => &["Deployment", "DaemonSet"],
        ActionKind::PauseRollout | ActionKind::ResumeRollout => &["Deployment"],
        ActionKind::SetBounds => &["HorizontalPodAutoscaler"],
        ActionKind::EvictPod => &["Pod"],
        ActionKind::Cordon | ActionKind::Uncordon | ActionKind::Drain => &["Node"],
        ActionKind::DeleteJob => &["Job"],
        ActionKind::SuspendCronJob | ActionKind::ResumeCronJob | ActionKind::RunJob => &["CronJob"],
        ActionKind::RestoreConfig => &["ConfigMap"],
        ActionKind::SuspendSync | ActionKind::ResumeSync => &["Application", "Kustomization", "HelmRelease"],
        ActionKind::RollBackRelease => &["Application", "HelmRelease", "GitRepository"],
        ActionKind::CallHook => return Err(ClusterError::Refused("a hook is not an object of the cluster".into())),
    };
    if wish.kind.is_empty() {
        return Ok(usual.to_vec());
    }
    let named: Vec<&str> = usual.iter().copied().filter(|kind| kind.eq_ignore_ascii_case(&wish.kind)).collect();
    if named.is_empty() {
        return Err(ClusterError::Refused(format!("{} does not work on a {}", wish.action.as_str(), wish.kind)));
    }
    Ok(named)
}

async fn concrete(client: &Client, wish: &Wish, kind: &str, now: &DynamicObject) -> Result<Action, ClusterError> {
    let target = Target {
        cluster: wish.cluster.clone(),
        namespace: wish.namespace.clone(),
        kind: kind.to_owned(),
        name: wish.name.clone(),
        uid: now.metadata.uid.clone().unwrap_or_default(),
    };
    let at = |path: &str| now.data.pointer(path);
    let number = |path: &str, otherwise: i32| {
        at(path).and_then(Value::as_i64).and_then(|found| i32::try_from(found).ok()).unwrap_or(otherwise)
    };
    let refused = |why: String| ClusterError::Refused(why);
    Ok(match wish.action {
        ActionKind::Restart => Action::Restart { target },
        ActionKind::Scale => {
            let to = wish.to.as_deref().and_then(|to| to.parse().ok());
            let to = to.ok_or_else(|| refused("scale needs a number of replicas".into()))?;
            Action::Scale { from: number("/spec/replicas", 1), target, to }
        }
        ActionKind::RollBack => {
            let kept = history::kept_of(client, &target, now).await?;
            let running = history::running(&target, now, &kept);
            let from_revision = running
                .ok_or_else(|| refused(format!("{target} runs what its history does not hold as a revision")))?;
            let to_revision = match wish.to.as_deref().map(str::parse::<i64>) {
                Some(Ok(wanted)) => kept.iter().map(|one| one.revision.number).find(|number| *number == wanted),
                Some(Err(_)) => return Err(refused("a revision is a number".into())),
                None => previous(&target, &kept, from_revision)?,
            };
            let to_revision =
                to_revision.ok_or_else(|| ClusterError::NotFound(format!("an earlier revision of {target}")))?;
            Action::RollBack { target, from_revision, to_revision }
        }
        ActionKind::SetBounds => {
            let from = bounds(now);
            let to = wish.to.as_deref().and_then(|to| {
                let (min, max) = to.split_once("..")?;
                Some(Bounds { min: min.trim().parse().ok()?, max: max.trim().parse().ok()? })
            });
            let to = to.ok_or_else(|| refused("set_bounds needs bounds such as 3..12".into()))?;
            Action::SetBounds { target, from, to }
        }
        ActionKind::PauseRollout => Action::PauseRollout { target },
        ActionKind::ResumeRollout => Action::ResumeRollout { target },
        ActionKind::EvictPod => {
            let owner = controller(now);
            let (owner, owner_name) = owner.ok_or_else(|| refused(format!("{target} has no controller")))?;
            Action::EvictPod { target, owner, owner_name }
        }
        ActionKind::Cordon => Action::Cordon { target },
        ActionKind::Uncordon => Action::Uncordon { target },
        ActionKind::Drain => {
            let pods = evictable(client, &wish.cluster, &wish.name).await?;
            let was_cordoned = at("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
            Action::Drain { target, pods, was_cordoned }
        }
        ActionKind::DeleteJob => Action::DeleteJob { target },
        ActionKind::SuspendCronJob => Action::SuspendCronJob { target },
        ActionKind::ResumeCronJob => Action::ResumeCronJob { target },
        ActionKind::RestoreConfig => {
            let to = wish.data.clone().ok_or_else(|| refused(format!("no earlier data of {target} is known")))?;
            let from = at("/data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default();
            Action::RestoreConfig { target, from, to }
        }
        ActionKind::SuspendSync | ActionKind::ResumeSync => {
            let automated = at("/spec/syncPolicy/automated").filter(|value| !value.is_null()).map(ToString::to_string);
            match wish.action {
                ActionKind::SuspendSync => Action::SuspendSync { target, automated },
                // How it was synchronised before stands in the plan that suspended it.
                _ => Action::ResumeSync { target, automated: wish.to.clone() },
            }
        }
        ActionKind::RollBackRelease => {
            let text = |path: &str| at(path).and_then(Value::as_str).map(str::to_owned);
            let (from, previous) = match kind {
                "Application" => (release::argo_running(now), release::argo_previous(now)),
                "GitRepository" => (Some(release::declared(&target, now)), None),
                _ => (text("/spec/chart/spec/version"), text("/status/history/1/chartVersion")),
            };
            let from = from.ok_or_else(|| refused(format!("{target} says nothing of what it has released")))?;
            let to = wish.to.clone().or(previous);
            let to = to.ok_or_else(|| refused(format!("name the release that {target} is to go back to")))?;
            Action::RollBackRelease { target, from, to }
        }
        ActionKind::RunJob => {
            let declared = wish.declared.clone();
            let declared =
                declared.ok_or_else(|| refused("only jobs that the configuration declares are run".into()))?;
            Action::RunJob { target, job: declared.job, declared: declared.name, tier: declared.tier }
        }
        ActionKind::CallHook => return Err(refused("a hook is not an object of the cluster".into())),
    })
}

/// The revision before the one that runs, where that is clear: one that runs because it was put back
/// has, by number, before it what it was put back in place of.
fn previous(target: &Target, kept: &[Kept], running: i64) -> Result<Option<i64>, ClusterError> {
    let earlier = kept.iter().filter(|one| one.revision.number < running);
    let Some(before) = earlier.max_by_key(|one| one.revision.number).map(|one| &one.revision) else { return Ok(None) };
    let current = kept.iter().find(|one| one.revision.number == running);
    let is_clear = current.is_none_or(|current| match current.earlier.iter().max() {
        Some(left_at) => before.number < *left_at,
        // A ControllerRevision keeps no earlier number; what is older than the one before it was put back.
        None => before.created_at <= current.revision.created_at,
    });
    if is_clear {
        return Ok(Some(before.number));
    }
    let before = before.number;
    let mut others: Vec<i64> = kept.iter().map(|one| one.revision.number).filter(|number| *number != running).collect();
    others.sort_unstable();
    let kept = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(ClusterError::Refused(format!(
        "{target} was rolled back before, away from revision {before}; which one it is to go back to from {running} \
         is not clear, so name it (kept are {kept})"
    )))
}

/// The pods that a drain evicts, as kubectl's drain filters them: those of a DaemonSet and mirror
/// pods stay, those that have ended need no eviction; one without a controller or with local data
/// makes the drain impossible, because kubectl would ask for `--force` or `--delete-emptydir-data`.
async fn evictable(client: &Client, cluster: &str, node: &str) -> Result<Vec<Target>, ClusterError> {
    let (resource, _) = super::kinds::resource("Pod")?;
    let pods = kube::Api::<DynamicObject>::all_with(client.clone(), &resource);
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let mut found = vec![];
    for pod in reading(&format!("pods of {node}"), pods.list(&here)).await?.items {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let annotations = pod.metadata.annotations.as_ref();
        let is_mirror = annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
        let phase = pod.data.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        let owner = controller(&pod);
        let of_daemon_set = owner.as_ref().is_some_and(|(kind, _)| kind == "DaemonSet");
        if is_mirror || of_daemon_set || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if !matches!(phase, "Succeeded" | "Failed") {
            if owner.is_none() {
                return Err(ClusterError::Refused(format!(
                    "{namespace}/{name} has no controller: nothing would replace it"
                )));
            }
            let volumes = pod.data.pointer("/spec/volumes").and_then(Value::as_array);
            if volumes.into_iter().flatten().any(|volume| volume.get("emptyDir").is_some()) {
                return Err(ClusterError::Refused(format!(
                    "{namespace}/{name} has local data (emptyDir) that would be lost"
                )));
            }
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        found.push(Target { cluster: cluster.to_owned(), namespace, kind: "Pod".to_owned(), name, uid });
    }
    found.sort();
    Ok(found)
}
