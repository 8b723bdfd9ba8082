//! Whether a write took effect, and whether what it makes has come about.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::{Api, Client};
use serde_json::Value;

use super::history::{bearer, kept_of, of_one, running};
use super::kinds::{api, api_of, counts};
use super::precheck::{controller, has_condition};
use super::read::{list, nodes};
use super::reading;
use super::release;
use super::write::{MARK, current, touched};
use crate::domain::action::{Action, Target};
use crate::ports::{ClusterError, Progress, Settled, Took};

pub(super) async fn took_effect(client: &Client, action: &Action, mark: &str) -> Result<Took, ClusterError> {
    let target = action.target();
    let here = api_of(client, target)?;
    match action {
        Action::EvictPod { .. } | Action::DeleteJob { .. } => Ok(match gone(&here, target).await? {
            true => Took::Yes(format!("{target} is gone")),
            false => Took::No,
        }),
        Action::RunJob { job, .. } => {
            let jobs = api(client, "Job", &target.namespace)?;
            match reading(job, jobs.get(job)).await {
                Ok(found) if annotation(&found, MARK) == mark => {
                    Ok(Took::Yes(format!("{job} carries the plan's mark")))
                }
                Ok(_) => Ok(Took::Unknown(format!("another job is named {job}"))),
                Err(ClusterError::NotFound(_)) => Ok(Took::No),
                Err(error) => Err(error),
            }
        }
        Action::Restart { .. } => {
            let now = current(&here, target).await?;
            Ok(match bears_mark(&now, mark) {
                true => Took::Yes("the template carries the plan's mark".to_owned()),
                false => Took::No,
            })
        }
        Action::RollBackRelease { to, .. } if target.kind == "Application" => {
            let now = current(&here, target).await?;
            Ok(match release::was_asked_for(&now, to) {
                true => Took::Yes("its operation names midwatch and the revision".to_owned()),
                false => Took::No,
            })
        }
        Action::Scale { .. }
        | Action::RollBack { .. }
        | Action::SetBounds { .. }
        | Action::PauseRollout { .. }
        | Action::ResumeRollout { .. }
        | Action::Cordon { .. }
        | Action::Uncordon { .. }
        | Action::SuspendCronJob { .. }
        | Action::ResumeCronJob { .. }
        | Action::RestoreConfig { .. }
        | Action::SuspendSync { .. }
        | Action::ResumeSync { .. }
        | Action::RollBackRelease { .. } => {
            let now = current(&here, target).await?;
            Ok(match is_so(action, &now) {
                Some(true) => Took::Yes(format!("{target} is as the action makes it")),
                Some(false) => Took::No,
                None => Took::Unknown("the template alone does not tell".to_owned()),
            })
        }
        Action::Drain { .. } | Action::CallHook { .. } => {
            Ok(Took::Unknown(format!("{action} is more than one object")))
        }
    }
}

/// Whether the fields are what the action makes of them; `None`: it cannot be seen in the object.
fn is_so(action: &Action, now: &DynamicObject) -> Option<bool> {
    let touched = touched(action, now);
    let is = |field: &str, wanted: Value| Some(touched.get(field).cloned().unwrap_or_default() == wanted);
    match action {
        Action::Scale { to, .. } => is("replicas", (*to).into()),
        Action::SetBounds { to, .. } => Some(touched["minReplicas"] == to.min && touched["maxReplicas"] == to.max),
        Action::PauseRollout { .. } => is("paused", true.into()),
        Action::ResumeRollout { .. } => is("paused", false.into()),
        Action::Cordon { .. } | Action::Drain { .. } => is("unschedulable", true.into()),
        Action::Uncordon { .. } => is("unschedulable", false.into()),
        Action::SuspendCronJob { .. } => is("suspend", true.into()),
        Action::ResumeCronJob { .. } => is("suspend", false.into()),
        Action::RestoreConfig { to, .. } => Some(touched == serde_json::to_value(to).unwrap_or_default()),
        Action::SuspendSync { target, .. } if target.kind == "Application" => is("automated", Value::Null),
        Action::ResumeSync { target, .. } if target.kind == "Application" => {
            is("automated", Value::Null).map(|off| !off)
        }
        Action::SuspendSync { .. } => is("suspend", true.into()),
        Action::ResumeSync { .. } => is("suspend", false.into()),
        Action::RollBackRelease { target, to, .. } => Some(touched == release::wanted(target, now, to)),
        Action::Restart { .. }
        | Action::RollBack { .. }
        | Action::EvictPod { .. }
        | Action::DeleteJob { .. }
        | Action::RunJob { .. }
        | Action::CallHook { .. } => None,
    }
}

/// Of a restart: which plan it was.
fn bears_mark(now: &DynamicObject, mark: &str) -> bool {
    let annotations = now.data.pointer("/spec/template/metadata/annotations");
    annotations.and_then(|all| all.get(MARK)).and_then(Value::as_str) == Some(mark)
}

/// What is there in place of what the action wrote, if somebody else has changed that since.
async fn overruled(client: &Client, action: &Action, mark: &str) -> Result<Option<String>, ClusterError> {
    let target = action.target();
    let now = match action {
        // What they did cannot be taken back in the object.
        Action::EvictPod { .. } | Action::DeleteJob { .. } | Action::RunJob { .. } | Action::CallHook { .. } => {
            return Ok(None);
        }
        Action::Restart { .. }
        | Action::Scale { .. }
        | Action::RollBack { .. }
        | Action::SetBounds { .. }
        | Action::PauseRollout { .. }
        | Action::ResumeRollout { .. }
        | Action::Cordon { .. }
        | Action::Uncordon { .. }
        | Action::Drain { .. }
        | Action::SuspendCronJob { .. }
        | Action::ResumeCronJob { .. }
        | Action::RestoreConfig { .. }
        | Action::SuspendSync { .. }
        | Action::ResumeSync { .. }
        | Action::RollBackRelease { .. } => current(&api_of(client, target)?, target).await?,
    };
    let (stands, instead) = match action {
        Action::Restart { .. } => {
            (bears_mark(&now, mark), format!("the template of {target} does not carry the mark of {mark} any more"))
        }
        Action::RollBack { to_revision, .. } => {
            let kept = kept_of(client, target, &now).await?;
            let wanted = bearer(&kept, *to_revision);
            let running = running(target, &now, &kept);
            let running = running.map_or_else(String::new, |number| format!("; it says revision {number}"));
            let instead = format!("{target} has another template than its revision {to_revision}{running}");
            (wanted.is_some_and(|one| one.revision.template == touched(action, &now)), instead)
        }
        Action::RollBackRelease { to, .. } if target.kind == "Application" => {
            (release::is_asked_for(&now, to), format!("the last synchronisation of {target} is not the one to {to}"))
        }
        // The data may be long, and secret.
        Action::RestoreConfig { .. } => (is_so(action, &now) != Some(false), format!("{target} has other data")),
        other => (is_so(other, &now) != Some(false), format!("{target} has {} by now", touched(other, &now))),
    };
    Ok((!stands).then_some(instead))
}

pub(super) async fn settled(client: &Client, action: &Action, mark: &str) -> Result<Settled, ClusterError> {
    let target = action.target();
    let here = api_of(client, target)?;
    let settled = |done: bool, fact: String| {
        Ok(Settled { progress: if done { Progress::Done } else { Progress::UnderWay }, fact })
    };
    if let Some(fact) = overruled(client, action, mark).await? {
        return Ok(Settled { progress: Progress::Overruled, fact });
    }
    match action {
        Action::Restart { .. } | Action::Scale { .. } | Action::RollBack { .. } | Action::ResumeRollout { .. } => {
            let workloads = super::read::workloads(client).await?;
            let Some(workload) = workloads.iter().find(|workload| workload.uid == target.uid) else {
                return settled(false, format!("{target} is gone"));
            };
            let done = workload.rolled_out && workload.ready >= workload.replicas;
            let but_for_lost = !done && target.kind == "DaemonSet" && reached_ready_nodes(client, target).await?;
            let how = match (done, but_for_lost) {
                (true, _) => "complete",
                (false, true) => "complete on every node that is ready",
                (false, false) => "not complete",
            };
            let (ready, replicas) = (workload.ready, workload.replicas);
            let fact = format!("rollout of {} {how}: {ready} of {replicas} replicas ready", workload.name);
            settled(done || but_for_lost, fact)
        }
        Action::EvictPod { owner, owner_name, .. } => {
            // A ReplicaSet replaces a pod that is on its way out and does not count it as ready; others do.
            let is_gone = match owner.as_str() {
                "ReplicaSet" => gone(&here, target).await?,
                _ => vanished(&here, target).await?,
            };
            if !is_gone {
                return settled(false, format!("{target} is still there"));
            }
            let (done, fact) = is_replaced(client, &target.namespace, owner, owner_name).await?;
            settled(done, format!("{target} is gone; {fact}"))
        }
        Action::Drain { pods, .. } => {
            let mut left = 0;
            for pod in pods {
                if !gone(&api_of(client, pod)?, pod).await? {
                    left += 1;
                }
            }
            settled(left == 0, format!("{target} is cordoned; {left} of {} pods are left on it", pods.len()))
        }
        Action::DeleteJob { .. } => {
            let done = vanished(&here, target).await?;
            settled(done, format!("{target} is {}", if done { "gone" } else { "still there" }))
        }
        Action::RunJob { job, .. } => {
            let found = reading(job, api(client, "Job", &target.namespace)?.get(job)).await?;
            let (complete, failed) = (has_condition(&found, "Complete"), has_condition(&found, "Failed"));
            let word = if complete {
                "complete"
            } else if failed {
                "failed"
            } else {
                "running"
            };
            settled(complete, format!("job {job} is {word}"))
        }
        Action::RollBackRelease { to, .. } => {
            let now = current(&here, target).await?;
            let (done, fact) = release::is_applied(target, &now, to);
            settled(done, format!("{target}: {fact}"))
        }
        Action::SetBounds { to, .. } => {
            let now = current(&here, target).await?;
            let replicas = now.data.pointer("/status/currentReplicas").and_then(Value::as_i64);
            let within = replicas.is_some_and(|many| (i64::from(to.min)..=i64::from(to.max)).contains(&many));
            let many = replicas.map_or_else(|| "an unknown number of".to_owned(), |many| many.to_string());
            settled(within, format!("{target} has the bounds {to} and {many} replicas"))
        }
        Action::PauseRollout { .. }
        | Action::Cordon { .. }
        | Action::Uncordon { .. }
        | Action::SuspendCronJob { .. }
        | Action::ResumeCronJob { .. }
        | Action::RestoreConfig { .. }
        | Action::SuspendSync { .. }
        | Action::ResumeSync { .. } => settled(true, format!("{target} is as the action makes it")),
        Action::CallHook { .. } => settled(true, format!("{target} is not an object of the cluster")),
    }
}

/// Whether a rollout has come to every node but those that were away before it came to them: there the pod is an
/// earlier one, and putting the earlier template back would not help it. A node that went away with its new pod is
/// no excuse: the rollout may have taken it down.
async fn reached_ready_nodes(client: &Client, set: &Target) -> Result<bool, ClusterError> {
    let now = current(&api_of(client, set)?, set).await?;
    let count = |field: &str| now.data.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or(0);
    if count("observedGeneration") < now.metadata.generation.unwrap_or(0) {
        return Ok(false);
    }
    let away = nodes_away(client).await?;
    let revisions = of_one(client, "DaemonSet", &set.namespace, &set.name).await?;
    let newest = revisions.last().and_then(|newest| newest.kept_as.strip_prefix(&set.name)?.strip_prefix('-'));
    let (false, Some(newest)) = (away.is_empty(), newest) else { return Ok(false) };
    let (mut reached, mut excused) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods_of(client, &set.namespace, &set.uid).await? {
        let Some(node) = node_of(&pod) else { continue };
        let is_new = pod.metadata.labels.as_ref().and_then(|all| all.get(REVISION_HASH)).is_some_and(|it| it == newest);
        match (away.contains(node), is_new) {
            (false, true) if is_ready(&pod) => reached.insert(node.to_owned()),
            (true, false) => excused.insert(node.to_owned()),
            (false, _) | (true, true) => continue,
        };
    }
    let seen = i64::try_from(reached.len() + excused.len()).unwrap_or_default();
    Ok(!reached.is_empty() && seen >= count("desiredNumberScheduled"))
}

/// On pods of a DaemonSet: the end of the name of the ControllerRevision that they were made from.
const REVISION_HASH: &str = "controller-revision-hash";

async fn nodes_away(client: &Client) -> Result<BTreeSet<String>, ClusterError> {
    Ok(nodes(client).await?.into_iter().filter(|node| !node.ready).map(|node| node.name).collect())
}

async fn pods_of(client: &Client, namespace: &str, owner: &str) -> Result<Vec<Pod>, ClusterError> {
    let mut pods = list::<Pod>("pods", Api::namespaced(client.clone(), namespace)).await?;
    pods.retain(|pod| pod.metadata.owner_references.iter().flatten().any(|one| one.uid == owner));
    Ok(pods)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut ready = conditions.into_iter().flatten().filter(|one| one.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|one| one.status == "True")
}

/// Gone, replaced by another under its name, or on its way out.
async fn gone(api: &Api<DynamicObject>, target: &Target) -> Result<bool, ClusterError> {
    Ok(still(api, target).await?.is_none_or(|object| object.metadata.deletion_timestamp.is_some()))
}

/// Gone, or replaced by another under its name.
async fn vanished(api: &Api<DynamicObject>, target: &Target) -> Result<bool, ClusterError> {
    Ok(still(api, target).await?.is_none())
}

async fn still(api: &Api<DynamicObject>, target: &Target) -> Result<Option<DynamicObject>, ClusterError> {
    match reading(&target.to_string(), api.get(&target.name)).await {
        Ok(object) => Ok(Some(object).filter(|object| object.metadata.uid.as_deref() == Some(target.uid.as_str()))),
        Err(ClusterError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the controller of a pod that is gone has as many ready as it wants.
async fn is_replaced(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<(bool, String), ClusterError> {
    let by_controller = || Ok((true, "its controller replaces it".to_owned()));
    if !matches!(kind, "ReplicaSet" | "StatefulSet" | "DaemonSet") || name.is_empty() {
        return by_controller();
    }
    let word = kind.to_lowercase();
    match reading(name, api(client, kind, namespace)?.get(name)).await {
        Ok(owner) => {
            let (wanted, ready) = counts(kind, &owner);
            let mut away = 0;
            // What stands on a node that is away is not ready either, and says nothing of the pod that was evicted.
            if kind == "DaemonSet" && ready < wanted {
                let nodes = nodes_away(client).await?;
                let pods = pods_of(client, namespace, owner.metadata.uid.as_deref().unwrap_or_default()).await?;
                let stands = pods.iter().filter(|pod| node_of(pod).is_some_and(|node| nodes.contains(node)));
                away = i64::try_from(stands.count()).unwrap_or_default();
            }
            Ok((ready + away >= wanted, format!("{word}/{name} has {ready} of {wanted} replicas ready")))
        }
        // A role from before DaemonSets were read.
        Err(ClusterError::Forbidden(_)) if kind == "DaemonSet" => by_controller(),
        // Of an earlier revision, and pruned since.
        Err(ClusterError::NotFound(_)) => Ok((true, format!("{word}/{name} is gone, too"))),
        Err(error) => Err(error),
    }
}

fn annotation<'a>(object: &'a DynamicObject, name: &str) -> &'a str {
    object.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
}

/// The workload that a pod belongs to: through its ReplicaSet to the Deployment.
pub(super) async fn owner_of(client: &Client, pod: &Target) -> Result<Option<(String, String)>, ClusterError> {
    let object = current(&api_of(client, pod)?, pod).await?;
    let Some((kind, name)) = controller(&object) else { return Ok(None) };
    if kind != "ReplicaSet" {
        return Ok(Some((kind, name)));
    }
    let set = reading(&name, api(client, "ReplicaSet", &pod.namespace)?.get(&name)).await?;
    Ok(Some(controller(&set).unwrap_or((kind, name))))
}
