//! The resources the API server knows.

/// A resource by its place in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Whether its objects count their spec's generations.
    pub generation: bool,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The name error messages use, such as `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

const fn core(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource { group: "", version: "v1", plural, kind, namespaced, generation: false }
}

const fn grouped(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version, plural, kind, namespaced: true, generation: true }
}

pub(super) const NODES: Resource = core("nodes", "Node", false);
pub(super) const NAMESPACES: Resource = core("namespaces", "Namespace", false);
pub(super) const PODS: Resource = core("pods", "Pod", true);
pub(super) const SERVICES: Resource = core("services", "Service", true);
pub(super) const EVENTS: Resource = core("events", "Event", true);
pub(super) const CONFIG_MAPS: Resource = core("configmaps", "ConfigMap", true);
pub(super) const CLAIMS: Resource = core("persistentvolumeclaims", "PersistentVolumeClaim", true);
pub(super) const DEPLOYMENTS: Resource = grouped("apps", "v1", "deployments", "Deployment");
pub(super) const REPLICA_SETS: Resource = grouped("apps", "v1", "replicasets", "ReplicaSet");
pub(super) const STATEFUL_SETS: Resource = grouped("apps", "v1", "statefulsets", "StatefulSet");
pub(super) const DAEMON_SETS: Resource = grouped("apps", "v1", "daemonsets", "DaemonSet");
pub(super) const REVISIONS: Resource =
    Resource { generation: false, ..grouped("apps", "v1", "controllerrevisions", "ControllerRevision") };
pub(super) const BUDGETS: Resource = grouped("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget");
pub(super) const AUTOSCALERS: Resource = Resource {
    generation: false,
    ..grouped("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
};

pub(super) const QUOTAS: Resource = core("resourcequotas", "ResourceQuota", true);
pub(super) const JOBS: Resource = grouped("batch", "v1", "jobs", "Job");
pub(super) const CRON_JOBS: Resource = grouped("batch", "v1", "cronjobs", "CronJob");
/// Custom resources: no strategic merge, and nothing here acts on them.
pub(super) const APPLICATIONS: Resource = grouped("argoproj.io", "v1alpha1", "applications", "Application");
pub(super) const KUSTOMIZATIONS: Resource =
    grouped("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization");
pub(super) const HELM_RELEASES: Resource = grouped("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease");
pub(super) const GIT_REPOSITORIES: Resource =
    grouped("source.toolkit.fluxcd.io", "v1", "gitrepositories", "GitRepository");

/// Which requests besides `get` and `list` the server serves.
pub(super) fn verbs(kind: &str) -> &'static [&'static str] {
    match kind {
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "Node"
        | "ConfigMap"
        | "HorizontalPodAutoscaler"
        | "CronJob"
        | "Application"
        | "Kustomization"
        | "HelmRelease"
        | "GitRepository" => &["get", "list", "patch", "update"],
        "Job" => &["get", "list", "create", "delete"],
        "Pod" => &["get", "list", "delete"],
        _ => &["get", "list"],
    }
}

/// Whether the kind is a custom resource.
pub(super) fn is_custom(resource: Resource) -> bool {
    [APPLICATIONS, KUSTOMIZATIONS, HELM_RELEASES, GIT_REPOSITORIES].contains(&resource)
}

pub(super) const ALL: [Resource; 21] = [
    NODES,
    NAMESPACES,
    PODS,
    SERVICES,
    EVENTS,
    CONFIG_MAPS,
    CLAIMS,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    DAEMON_SETS,
    REVISIONS,
    BUDGETS,
    AUTOSCALERS,
    QUOTAS,
    JOBS,
    CRON_JOBS,
    APPLICATIONS,
    KUSTOMIZATIONS,
    HELM_RELEASES,
    GIT_REPOSITORIES,
];
