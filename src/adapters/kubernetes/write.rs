//! Typed mutations as requests, tried on the server before they are written.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::history::{Kept, bearer, canonical, kept_of, note_going_back, running};
use super::jobs;
use super::kinds::{api, api_of};
use super::precheck::precheck;
use super::release;
use super::{reading, writing};
use crate::domain::action::{Action, Target};
use crate::domain::time::Timestamp;
use crate::ports::{Applied, ClusterError, DryRun};

pub(super) const FIELD_MANAGER: &str = "midwatch";
/// kubectl's own annotation, so that `kubectl rollout` and people recognise the restart.
pub(super) const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Which plan wrote: tells after a lost answer whether the write took effect.
pub(super) const MARK: &str = "midwatch.io/plan";
/// In place of the time of the write in a dry run: two dry runs of one plan must be equal (S4).
const AT_THE_WRITE: &str = "(time of the write)";

pub(super) async fn dry_run(client: &Client, action: &Action) -> Result<DryRun, ClusterError> {
    let target = action.target();
    let api = api_of(client, target)?;
    let now = current(&api, target).await?;
    may_be_done(client, action, &now).await?;
    let resource_version = now.metadata.resource_version.clone().unwrap_or_default();
    let request = prepare(client, action, &now, &resource_version, "dry-run").await?;
    let tried = reading(&target.to_string(), request.send(client, &api, target, Travel::DryRun)).await?;
    let (before, after) = (touched(action, &now), after(action, &now, tried.as_ref()));
    Ok(DryRun {
        uid: now.metadata.uid.unwrap_or_default(),
        resource_version,
        diff: diff(&before, &after),
        before,
        after,
    })
}

pub(super) async fn apply(
    client: &Client,
    action: &Action,
    resource_version: &str,
    mark: &str,
) -> Result<Applied, ClusterError> {
    let target = action.target();
    let api = api_of(client, target)?;
    let now = current(&api, target).await?;
    let found = now.metadata.resource_version.clone().unwrap_or_default();
    if found != resource_version {
        return Err(ClusterError::Conflict(format!("{target} was written in between ({resource_version} -> {found})")));
    }
    may_be_done(client, action, &now).await?;
    // The server checks the version again: the request carries it.
    let request = prepare(client, action, &now, resource_version, mark).await?;
    let written = writing(&target.to_string(), request.send(client, &api, target, Travel::ForReal)).await?;
    let meta = written.map(|written| written.metadata).unwrap_or_default();
    Ok(Applied {
        resource_version: meta.resource_version.unwrap_or_default(),
        // Subresources and deletions carry no generation; one write raises it by one.
        generation: meta.generation.unwrap_or_else(|| now.metadata.generation.map_or(0, |generation| generation + 1)),
    })
}

async fn may_be_done(client: &Client, action: &Action, now: &DynamicObject) -> Result<(), ClusterError> {
    precheck(action, now)?;
    if let Action::RunJob { target, .. } = action {
        jobs::none_runs(client, target).await?;
    }
    Ok(())
}

pub(super) async fn current(api: &Api<DynamicObject>, target: &Target) -> Result<DynamicObject, ClusterError> {
    let object = reading(&target.to_string(), api.get(&target.name)).await?;
    if object.metadata.uid.as_deref() != Some(target.uid.as_str()) {
        return Err(ClusterError::Conflict(format!("another object has taken the name of {target}")));
    }
    Ok(object)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Travel {
    DryRun,
    ForReal,
}

/// A request and how it must travel.
enum Prepared {
    Strategic(Value),
    Scale(Value),
    Json(Value),
    /// Custom resources know no strategic merge.
    Merge(Value),
    Evict(Value),
    Delete {
        resource_version: String,
    },
    /// Another object than the target, of this kind.
    Create {
        kind: &'static str,
        body: Value,
    },
}

impl Prepared {
    async fn send(
        &self,
        client: &Client,
        api: &Api<DynamicObject>,
        target: &Target,
        travel: Travel,
    ) -> kube::Result<Option<DynamicObject>> {
        let dry_run = travel == Travel::DryRun;
        let manager = Some(FIELD_MANAGER.to_owned());
        let params = PatchParams { dry_run, field_manager: manager.clone(), ..PatchParams::default() };
        let post = PostParams { dry_run, field_manager: manager };
        let name = target.name.as_str();
        match self {
            Self::Strategic(body) => api.patch(name, &params, &Patch::Strategic(body)).await.map(Some),
            Self::Merge(body) => api.patch(name, &params, &Patch::Merge(body)).await.map(Some),
            Self::Scale(body) => api.patch_subresource("scale", name, &params, &Patch::Merge(body)).await.map(Some),
            Self::Json(steps) => {
                let steps = serde_json::from_value(steps.clone()).map_err(kube::Error::SerdeError)?;
                api.patch(name, &params, &Patch::<()>::Json(steps)).await.map(Some)
            }
            Self::Evict(body) => {
                let mut body = body.clone();
                if dry_run {
                    body["deleteOptions"]["dryRun"] = json!(["All"]);
                }
                let _answer: Value = api.create_subresource("eviction", name, &post, &body).await?;
                Ok(None)
            }
            Self::Delete { resource_version } => {
                let params = DeleteParams {
                    dry_run,
                    // The API's default for jobs has changed over its versions: never left to it.
                    propagation_policy: Some(PropagationPolicy::Background),
                    preconditions: Some(Preconditions {
                        uid: Some(target.uid.clone()),
                        resource_version: Some(resource_version.clone()),
                    }),
                    ..DeleteParams::default()
                };
                api.delete(name, &params).await.map(|_| None)
            }
            Self::Create { kind, body } => {
                let others = self::api(client, kind, &target.namespace)
                    .map_err(|why| kube::Error::Service(why.to_string().into()))?;
                let object = serde_json::from_value(body.clone()).map_err(kube::Error::SerdeError)?;
                others.create(&post, &object).await.map(Some)
            }
        }
    }
}

async fn prepare(
    client: &Client,
    action: &Action,
    now: &DynamicObject,
    resource_version: &str,
    mark: &str,
) -> Result<Prepared, ClusterError> {
    let target = action.target();
    let guard = json!({ "uid": target.uid, "resourceVersion": resource_version });
    let guarded = |steps: Vec<Value>| {
        let mut all = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version}),
        ];
        all.extend(steps);
        Prepared::Json(Value::Array(all))
    };
    let spec = |spec: Value| json!({ "metadata": guard, "spec": spec });
    Ok(match action {
        Action::Restart { .. } => Prepared::Strategic(spec(
            json!({"template": {"metadata": {"annotations": {RESTARTED_AT: restart_time(), MARK: mark}}}}),
        )),
        Action::Scale { to, .. } => Prepared::Scale(spec(json!({"replicas": to}))),
        Action::RollBack { from_revision, to_revision, .. } => {
            let kept = kept_of(client, target, now).await?;
            refuse_if_moved_on(target, now, &kept, (*from_revision, *to_revision))?;
            let wanted = bearer(&kept, *to_revision).ok_or_else(|| {
                ClusterError::NotFound(format!("revision {to_revision} of {target} (pruned by revisionHistoryLimit?)"))
            })?;
            let mut steps = vec![json!({"op": "replace", "path": "/spec/template", "value": wanted.revision.template})];
            if target.kind == "DaemonSet" {
                steps.extend(note_going_back(now, *to_revision, wanted));
            }
            guarded(steps)
        }
        Action::SetBounds { to, .. } => Prepared::Merge(spec(json!({"minReplicas": to.min, "maxReplicas": to.max}))),
        Action::PauseRollout { .. } => Prepared::Strategic(spec(json!({"paused": true}))),
        Action::ResumeRollout { .. } => Prepared::Strategic(spec(json!({"paused": false}))),
        Action::EvictPod { .. } => Prepared::Evict(json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": target.name, "namespace": target.namespace},
            // The pod's status moves all the time; its uid is what was approved.
            "deleteOptions": {"preconditions": {"uid": target.uid}},
        })),
        // The first write of a drain; its evictions follow one by one.
        Action::Cordon { .. } | Action::Drain { .. } => Prepared::Strategic(spec(json!({"unschedulable": true}))),
        Action::Uncordon { .. } => Prepared::Strategic(spec(json!({"unschedulable": false}))),
        Action::DeleteJob { .. } => Prepared::Delete { resource_version: resource_version.to_owned() },
        Action::SuspendCronJob { .. } => Prepared::Strategic(spec(json!({"suspend": true}))),
        Action::ResumeCronJob { .. } => Prepared::Strategic(spec(json!({"suspend": false}))),
        Action::RestoreConfig { to, .. } => guarded(vec![json!({"op": "add", "path": "/data", "value": to})]),
        Action::SuspendSync { .. } if target.kind == "Application" => {
            Prepared::Merge(spec(json!({"syncPolicy": {"automated": null}})))
        }
        Action::ResumeSync { automated, .. } if target.kind == "Application" => {
            let automated: Value =
                automated.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            Prepared::Merge(spec(json!({"syncPolicy": {"automated": automated}})))
        }
        Action::SuspendSync { .. } => Prepared::Merge(spec(json!({"suspend": true}))),
        Action::ResumeSync { .. } => Prepared::Merge(spec(json!({"suspend": false}))),
        Action::RollBackRelease { to, .. } => {
            let mut body = release::patch(target, now, to)?;
            body["metadata"] = guard;
            Prepared::Merge(body)
        }
        Action::RunJob { job, .. } => Prepared::Create { kind: "Job", body: job_of(target, now, job, mark) },
        Action::CallHook { .. } => {
            return Err(ClusterError::Refused(format!("{action} is no request to the API server")));
        }
    })
}

/// As `kubectl create job --from=cronjob/...` makes it: an owner reference that is no controller's,
/// which would ask for a right on `cronjobs/finalizers`.
fn job_of(target: &Target, cron_job: &DynamicObject, name: &str, mark: &str) -> Value {
    let at = |path: &str| cron_job.data.pointer(path).cloned().filter(|value| !value.is_null());
    let mut annotations = at("/spec/jobTemplate/metadata/annotations").unwrap_or_else(|| json!({}));
    annotations["cronjob.kubernetes.io/instantiate"] = json!("manual");
    annotations[MARK] = json!(mark);
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": target.namespace,
            "labels": at("/spec/jobTemplate/metadata/labels").unwrap_or_else(|| json!({})),
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": target.name, "uid": target.uid}],
        },
        "spec": at("/spec/jobTemplate/spec").unwrap_or_else(|| json!({})),
    })
}

/// The wall clock is read here and nowhere before: the value is for people, nothing is decided on it.
fn restart_time() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_secs(since_epoch.as_secs() as i64).to_datetime().to_rfc3339()
}

/// Somebody rolled forward or back since the plan was made: `from` still exists, but does not run.
/// A `from` that nobody bears any more was renumbered by the controller (an undo); the template in
/// the plan's digest then tells whether it is the one that was meant. What runs the wanted revision
/// already has not moved on: that is how a write whose answer was lost is found.
fn refuse_if_moved_on(
    target: &Target,
    now: &DynamicObject,
    kept: &[Kept],
    (from, to): (i64, i64),
) -> Result<(), ClusterError> {
    // An undo, before the controller of a DaemonSet has renumbered what was gone back to.
    if target.kind == "DaemonSet" && from == to {
        return Ok(());
    }
    let running = running(target, now, kept);
    let runs = running.and_then(|number| bearer(kept, number));
    let meant = bearer(kept, from).is_some();
    if meant && !runs.is_some_and(|one| one.bears(from) || one.bears(to)) {
        return Err(ClusterError::Conflict(match running {
            Some(number) => format!("{target} runs revision {number} by now, not {from}"),
            None => format!("{target} runs by now what its history does not hold yet, not revision {from}"),
        }));
    }
    Ok(())
}

/// Only what the action touches: drift elsewhere must not void an approval (S4).
pub(super) fn touched(action: &Action, object: &DynamicObject) -> Value {
    let at = |path: &str| object.data.pointer(path).cloned().unwrap_or_default();
    let flag = |path: &str| at(path).as_bool().unwrap_or(false);
    match action {
        Action::Restart { .. } => {
            let annotations = at("/spec/template/metadata/annotations");
            json!({ RESTARTED_AT: annotations.get(RESTARTED_AT).cloned().unwrap_or_default() })
        }
        Action::Scale { .. } => json!({ "replicas": at("/spec/replicas") }),
        Action::RollBack { .. } => canonical(at("/spec/template")),
        Action::SetBounds { .. } => {
            // The API server fills in 1 where no lower bound is given.
            json!({ "minReplicas": at("/spec/minReplicas").as_i64().unwrap_or(1), "maxReplicas": at("/spec/maxReplicas") })
        }
        Action::PauseRollout { .. } | Action::ResumeRollout { .. } => json!({ "paused": flag("/spec/paused") }),
        Action::EvictPod { .. } | Action::DeleteJob { .. } => {
            json!({ object.metadata.name.clone().unwrap_or_default(): object.metadata.uid })
        }
        Action::Cordon { .. } | Action::Uncordon { .. } | Action::Drain { .. } => {
            json!({ "unschedulable": flag("/spec/unschedulable") })
        }
        Action::SuspendCronJob { .. } | Action::ResumeCronJob { .. } => json!({ "suspend": flag("/spec/suspend") }),
        Action::RestoreConfig { .. } => canonical(at("/data")),
        Action::SuspendSync { target, .. } | Action::ResumeSync { target, .. } if target.kind == "Application" => {
            json!({ "automated": canonical(at("/spec/syncPolicy/automated")) })
        }
        Action::SuspendSync { .. } | Action::ResumeSync { .. } => json!({ "suspend": flag("/spec/suspend") }),
        Action::RollBackRelease { target, .. } => release::present(target, object),
        Action::RunJob { .. } | Action::CallHook { .. } => Value::Null,
    }
}

/// What the tried write left, with what two tries may differ in taken out.
fn after(action: &Action, now: &DynamicObject, tried: Option<&DynamicObject>) -> Value {
    match (action, tried) {
        (Action::Restart { .. }, _) => json!({ RESTARTED_AT: AT_THE_WRITE }),
        (Action::RollBackRelease { target, to, .. }, _) => release::wanted(target, now, to),
        (Action::RunJob { .. }, _) => {
            canonical(now.data.pointer("/spec/jobTemplate/spec").cloned().unwrap_or_default())
        }
        (_, Some(tried)) => touched(action, tried),
        (_, None) => Value::Null,
    }
}

pub(super) fn diff(before: &Value, after: &Value) -> String {
    let text = |value: &Value| serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string());
    let (before, after) = (text(before), text(after));
    similar::TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(3)
        .header("before", "after")
        .to_string()
}
