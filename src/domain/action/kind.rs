//! The catalogue: what each kind of action needs, keeps and proves.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    Restart,
    Scale,
    RollBack,
    SetBounds,
    PauseRollout,
    ResumeRollout,
    EvictPod,
    Cordon,
    Uncordon,
    Drain,
    DeleteJob,
    SuspendCronJob,
    ResumeCronJob,
    RestoreConfig,
    SuspendSync,
    ResumeSync,
    RollBackRelease,
    RunJob,
    CallHook,
}

/// What is stored before the write, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceWanted {
    /// The target as the API server has it, without `managedFields`.
    Manifest,
    Logs,
    /// Of the containers that ran before the last restart.
    PreviousLogs,
    Events,
    /// The numbers that its success is judged by, over the hour before.
    Metrics,
    /// A thread or heap dump, where one is declared for the service.
    Dump,
}

/// One verb on one resource, as RBAC names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// Empty: the core group.
    pub group: &'static str,
    /// With its subresource, e.g. `pods/eviction`.
    pub resource: &'static str,
    pub verb: &'static str,
    /// Whether it is granted by a namespace's Role.
    pub namespaced: bool,
}

const fn right(group: &'static str, resource: &'static str, verb: &'static str) -> Right {
    Right { group, resource, verb, namespaced: true }
}

const fn of_cluster(group: &'static str, resource: &'static str, verb: &'static str) -> Right {
    Right { group, resource, verb, namespaced: false }
}

impl ActionKind {
    pub const ALL: [Self; 19] = [
        Self::Restart,
        Self::Scale,
        Self::RollBack,
        Self::SetBounds,
        Self::PauseRollout,
        Self::ResumeRollout,
        Self::EvictPod,
        Self::Cordon,
        Self::Uncordon,
        Self::Drain,
        Self::DeleteJob,
        Self::SuspendCronJob,
        Self::ResumeCronJob,
        Self::RestoreConfig,
        Self::SuspendSync,
        Self::ResumeSync,
        Self::RollBackRelease,
        Self::RunJob,
        Self::CallHook,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::RollBack => "roll_back",
            Self::SetBounds => "set_bounds",
            Self::PauseRollout => "pause_rollout",
            Self::ResumeRollout => "resume_rollout",
            Self::EvictPod => "evict_pod",
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Drain => "drain",
            Self::DeleteJob => "delete_job",
            Self::SuspendCronJob => "suspend_cron_job",
            Self::ResumeCronJob => "resume_cron_job",
            Self::RestoreConfig => "restore_config",
            Self::SuspendSync => "suspend_sync",
            Self::ResumeSync => "resume_sync",
            Self::RollBackRelease => "roll_back_release",
            Self::RunJob => "run_job",
            Self::CallHook => "call_hook",
        }
    }

    /// Accepts what people type: `roll-back`, `roll back` and `roll_back` alike.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.trim().to_lowercase().replace(['-', ' '], "_");
        Self::ALL.into_iter().find(|kind| kind.as_str() == plain || kind.as_str().replace('_', "") == plain)
    }

    /// What must hold of the target, checked before the card and again before the write.
    pub fn precheck(self) -> &'static str {
        match self {
            Self::Restart => "its rollout is not paused, and its update strategy replaces all of its pods",
            Self::Scale => "no autoscaler owns the number of replicas",
            Self::RollBack => {
                "the revision is one that this workload really had, and its rollout is neither paused nor OnDelete"
            }
            Self::SetBounds => "the bounds are what they were, and the lower is not above the upper",
            Self::PauseRollout => "it is a Deployment that is not paused",
            Self::ResumeRollout => "it is paused",
            Self::EvictPod => "a controller owns the pod, and its budgets allow the loss",
            Self::Cordon => "the node takes pods",
            Self::Uncordon => "the node is cordoned and ready",
            Self::Drain => "every pod has a controller and no local data; pods of a DaemonSet stay",
            Self::DeleteJob => "the job is neither complete nor suspended",
            Self::SuspendCronJob => "it is not suspended",
            Self::ResumeCronJob => "it is suspended",
            Self::RestoreConfig => "it is not immutable, no controller owns it, and its data is what it was",
            Self::SuspendSync => "it is not suspended",
            Self::ResumeSync => "it is suspended",
            Self::RollBackRelease => {
                "it has the release that it had, Argo CD's history has the other, and nothing synchronises it meanwhile"
            }
            Self::RunJob => "the CronJob is there, and none of its jobs runs",
            Self::CallHook => "its address may be reached, and its own check answers well",
        }
    }

    /// How it is known that the change itself has come about, before any number is looked at. That what was
    /// written still stands is asked of all of them.
    pub fn success(self) -> &'static str {
        match self {
            Self::Restart | Self::RollBack => {
                "the rollout is complete and every replica ready (of a DaemonSet: on every node that is ready)"
            }
            Self::Scale => "the rollout is complete and every replica ready",
            Self::SetBounds => "the autoscaler has the bounds, and its replicas are within",
            Self::PauseRollout => "the Deployment is paused",
            Self::ResumeRollout => "the rollout is complete and every replica ready",
            Self::EvictPod => {
                "the pod is gone, and the ReplicaSet, StatefulSet or DaemonSet that owned it has all replicas ready"
            }
            Self::Cordon => "the node takes no pods",
            Self::Uncordon => "the node takes pods again",
            Self::Drain => "the node takes no pods, and the named ones are gone or on their way out",
            Self::DeleteJob => "the job is gone",
            Self::SuspendCronJob => "it is suspended",
            Self::ResumeCronJob => "it is not suspended",
            Self::RestoreConfig => "its data is what it was before",
            Self::SuspendSync => "it is suspended",
            Self::ResumeSync => "it is not suspended",
            Self::RollBackRelease => "the controller reports the release as applied",
            Self::RunJob => "the job is complete",
            Self::CallHook => "it answered with a status of 2xx",
        }
    }

    pub fn evidence(self) -> &'static [EvidenceWanted] {
        use EvidenceWanted::{Dump, Events, Logs, Manifest, Metrics, PreviousLogs};
        match self {
            // The pods go: what they know goes with them.
            Self::Restart | Self::RollBack | Self::Scale | Self::EvictPod | Self::Drain | Self::DeleteJob => {
                &[Manifest, Logs, PreviousLogs, Events, Metrics, Dump]
            }
            Self::RestoreConfig | Self::RollBackRelease | Self::ResumeRollout | Self::RunJob | Self::CallHook => {
                &[Manifest, Logs, PreviousLogs, Events, Metrics]
            }
            Self::SetBounds
            | Self::PauseRollout
            | Self::Cordon
            | Self::Uncordon
            | Self::SuspendCronJob
            | Self::ResumeCronJob
            | Self::SuspendSync
            | Self::ResumeSync => &[Manifest, Events, Metrics],
        }
    }

    /// What the remediation identity needs for it; nothing else is to be granted.
    pub fn rights(self) -> Vec<Right> {
        match self {
            Self::Restart | Self::PauseRollout | Self::ResumeRollout => {
                vec![right("apps", "deployments", "get"), right("apps", "deployments", "patch")]
            }
            Self::Scale => vec![
                right("apps", "deployments", "get"),
                right("apps", "deployments/scale", "patch"),
                right("autoscaling", "horizontalpodautoscalers", "list"),
            ],
            Self::RollBack => vec![
                right("apps", "deployments", "get"),
                right("apps", "deployments", "patch"),
                right("apps", "replicasets", "list"),
            ],
            Self::SetBounds => vec![
                right("autoscaling", "horizontalpodautoscalers", "get"),
                right("autoscaling", "horizontalpodautoscalers", "patch"),
            ],
            Self::EvictPod => vec![right("", "pods", "get"), right("", "pods/eviction", "create")],
            Self::Cordon | Self::Uncordon => vec![of_cluster("", "nodes", "get"), of_cluster("", "nodes", "patch")],
            Self::Drain => vec![
                of_cluster("", "nodes", "get"),
                of_cluster("", "nodes", "patch"),
                right("", "pods", "get"),
                right("", "pods/eviction", "create"),
            ],
            Self::DeleteJob => vec![right("batch", "jobs", "get"), right("batch", "jobs", "delete")],
            Self::SuspendCronJob | Self::ResumeCronJob => {
                vec![right("batch", "cronjobs", "get"), right("batch", "cronjobs", "patch")]
            }
            Self::RestoreConfig => vec![right("", "configmaps", "get"), right("", "configmaps", "patch")],
            // Either controller; `check --kubernetes` asks for the one that is installed.
            Self::SuspendSync | Self::ResumeSync => vec![
                right("argoproj.io", "applications", "get"),
                right("argoproj.io", "applications", "patch"),
                right("kustomize.toolkit.fluxcd.io", "kustomizations", "get"),
                right("kustomize.toolkit.fluxcd.io", "kustomizations", "patch"),
                right("helm.toolkit.fluxcd.io", "helmreleases", "get"),
                right("helm.toolkit.fluxcd.io", "helmreleases", "patch"),
            ],
            Self::RollBackRelease => vec![
                right("argoproj.io", "applications", "get"),
                right("argoproj.io", "applications", "patch"),
                right("source.toolkit.fluxcd.io", "gitrepositories", "get"),
                right("source.toolkit.fluxcd.io", "gitrepositories", "patch"),
                right("helm.toolkit.fluxcd.io", "helmreleases", "get"),
                right("helm.toolkit.fluxcd.io", "helmreleases", "patch"),
            ],
            Self::RunJob => vec![
                right("batch", "cronjobs", "get"),
                right("batch", "jobs", "get"),
                right("batch", "jobs", "list"),
                right("batch", "jobs", "create"),
            ],
            Self::CallHook => vec![],
        }
    }
}
