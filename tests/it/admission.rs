//! The deployed admission policy, evaluated: it lets pass every write of the catalogue (each is put
//! before it by tests/it/catalogue.rs), and what a stolen token would try is denied with the reason.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value as Cel};
use midwatch::world::kubernetes::Write;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::catalogue::estate;

/// A write that is put before the policy.
#[derive(Debug, Clone)]
pub struct Asked {
    user: String,
    operation: &'static str,
    group: String,
    resource: String,
    sub: &'static str,
    new: Option<Value>,
    old: Option<Value>,
}

/// Kind, group, plural.
const KINDS: [(&str, &str, &str); 13] = [
    ("Deployment", "apps", "deployments"),
    ("StatefulSet", "apps", "statefulsets"),
    ("DaemonSet", "apps", "daemonsets"),
    ("HorizontalPodAutoscaler", "autoscaling", "horizontalpodautoscalers"),
    ("Pod", "", "pods"),
    ("Node", "", "nodes"),
    ("ConfigMap", "", "configmaps"),
    ("Job", "batch", "jobs"),
    ("CronJob", "batch", "cronjobs"),
    ("Application", "argoproj.io", "applications"),
    ("Kustomization", "kustomize.toolkit.fluxcd.io", "kustomizations"),
    ("HelmRelease", "helm.toolkit.fluxcd.io", "helmreleases"),
    ("GitRepository", "source.toolkit.fluxcd.io", "gitrepositories"),
];

const OURS: &str = "system:serviceaccount:midwatch:midwatch-remediation";

impl Asked {
    fn new(kind: &str, operation: &'static str, old: Option<Value>, new: Option<Value>) -> Self {
        let known = KINDS.iter().find(|(known, ..)| *known == kind);
        let (_, group, resource) = *known.unwrap_or_else(|| panic!("{kind} is written, and nothing here knows it"));
        Self { user: OURS.into(), operation, group: group.into(), resource: resource.into(), sub: "", new, old }
    }

    /// The request that an API server would put before the policy for this write.
    pub fn of(write: &Write, old: Option<Value>, new: Option<Value>) -> Self {
        match (write.kind.as_str(), write.verb.as_str()) {
            ("Scale", _) => Self {
                sub: "scale",
                ..Self::new("Deployment", "UPDATE", Some(json!({"metadata": {}})), Some(write.body.clone()))
            },
            ("Eviction", _) => Self { sub: "eviction", ..Self::new("Pod", "CREATE", None, Some(write.body.clone())) },
            (kind, "create") => Self::new(kind, "CREATE", None, Some(write.body.clone())),
            (kind, "delete") => Self::new(kind, "DELETE", old, None),
            (kind, _) => Self::new(kind, "UPDATE", old, new),
        }
    }

    /// As the API server tells it (`AdmissionRequest` of k8s.io/api/admission/v1; objects are not in it): what is
    /// `omitempty` there and empty is not there.
    fn request(&self) -> Value {
        let metadata = self.new.as_ref().or(self.old.as_ref()).map(|object| &object["metadata"]);
        let text = |key: &str| metadata.and_then(|metadata| metadata[key].as_str()).unwrap_or_default();
        let mut request = json!({
            "uid": "", "operation": self.operation, "userInfo": {}, "dryRun": false,
            "resource": {"group": self.group, "version": "v1", "resource": self.resource},
        });
        for (key, value) in [("subResource", self.sub), ("name", text("name")), ("namespace", text("namespace"))] {
            if !value.is_empty() {
                request[key] = json!(value);
            }
        }
        if !self.user.is_empty() {
            request["userInfo"]["username"] = json!(self.user);
        }
        request
    }
}

pub struct Admission {
    conditions: Vec<Program>,
    variables: Vec<(String, Program)>,
    /// Message and expression.
    validations: Vec<(String, Program)>,
}

fn deployed() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/manifests/admission.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documents = serde_yaml_ng::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
    documents.find(|one| one["kind"] == "ValidatingAdmissionPolicy").unwrap()
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl Admission {
    pub fn deployed() -> &'static Self {
        static DEPLOYED: LazyLock<Admission> = LazyLock::new(|| {
            let policy = deployed();
            let part = |part: &str, name: &str| -> Vec<(String, Program)> {
                let all = policy["spec"][part].as_array().unwrap().iter();
                all.map(|one| {
                    let expression = one["expression"].as_str().unwrap();
                    let program = ENV.compile(expression).unwrap_or_else(|error| panic!("{expression}\n{error}"));
                    (one[name].as_str().unwrap().to_owned(), program)
                })
                .collect()
            };
            Admission {
                conditions: part("matchConditions", "name").into_iter().map(|(_, program)| program).collect(),
                variables: part("variables", "name"),
                validations: part("validations", "message"),
            }
        });
        &DEPLOYED
    }

    /// Why it is denied; empty: it is admitted. An error of evaluation denies (`failurePolicy: Fail`).
    pub fn refused(&self, asked: &Asked) -> Vec<String> {
        let mut context = Context::with_env(ENV.clone());
        context.add_variable("request", asked.request()).unwrap();
        context.add_variable("object", asked.new.clone()).unwrap();
        context.add_variable("oldObject", asked.old.clone()).unwrap();
        let truth = |program: &Program, context: &Context<'_, '_>| match program.execute(context) {
            Ok(Cel::Bool(truth)) => Ok(truth),
            other => Err(format!("{other:?}")),
        };
        if !self.conditions.iter().all(|condition| truth(condition, &context).unwrap()) {
            return vec![];
        }
        let mut variables = serde_json::Map::new();
        for (name, program) in &self.variables {
            let value = match program.execute(&context) {
                Ok(Cel::Bool(truth)) => json!(truth),
                Ok(Cel::String(text)) => json!(text.to_string()),
                other => panic!("the variable {name} of {asked:?}: {other:?}"),
            };
            variables.insert(name.clone(), value);
            context.add_variable("variables", Value::Object(variables.clone())).unwrap();
        }
        let mut refused = vec![];
        for (message, program) in &self.validations {
            match truth(program, &context) {
                Ok(true) => {}
                Ok(false) => refused.push(message.clone()),
                Err(error) => refused.push(format!("{message}: {error}")),
            }
        }
        refused
    }
}

/// What an API server refuses before it evaluates anything (`validateRuleWithOperations` of its validation of
/// admissionregistration): a wildcard beside what it contains.
#[test]
fn the_rule_of_what_is_matched_is_one_that_an_api_server_takes() {
    let policy = deployed();
    for rule in policy["spec"]["matchConstraints"]["resourceRules"].as_array().unwrap() {
        let words = |key: &str| -> Vec<&str> {
            rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
        };
        for (key, all) in [("apiGroups", "*"), ("apiVersions", "*"), ("operations", "*"), ("resources", "*/*")] {
            let words = words(key);
            assert!(!words.is_empty() && (words.len() == 1 || !words.contains(&all)), "{key}: {words:?}");
        }
        let resources = words("resources");
        let has_plain = resources.iter().any(|word| *word != "*" && !word.contains('/'));
        assert!(!(resources.contains(&"*") && has_plain), "{resources:?}");
    }
}

type Mutation = fn(&mut Value);

/// What a stolen token would change in what is there: kind, name, change, and words of the reason.
const STOLEN: [(&str, &str, &str, Mutation, &str); 48] = [
    ("Deployment", "shop", "web", |o| o["spec"]["replicas"] = json!(0), "only its template"),
    ("Deployment", "shop", "web", |o| o["spec"]["selector"]["matchLabels"]["app"] = json!("x"), "only its template"),
    ("Deployment", "shop", "web", |o| o["spec"]["strategy"] = json!({"type": "Recreate"}), "only its template"),
    ("Deployment", "shop", "web", |o| o["spec"]["revisionHistoryLimit"] = json!(0), "only its template"),
    ("Deployment", "shop", "web", |o| pod(o)["hostNetwork"] = json!(true), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["hostPID"] = json!(true), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["hostIPC"] = json!(true), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["nodeName"] = json!("node-1"), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["serviceAccountName"] = json!("admin"), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["automountServiceAccountToken"] = json!(true), "power over its host"),
    ("Deployment", "shop", "web", |o| pod(o)["securityContext"] = json!({"runAsUser": 0}), "power over its host"),
    (
        "Deployment",
        "shop",
        "web",
        |o| pod(o)["volumes"] = json!([{"name": "root", "hostPath": {"path": "/"}}]),
        "power over its host",
    ),
    (
        "Deployment",
        "shop",
        "web",
        |o| pod(o)["containers"][0]["securityContext"] = json!({"privileged": true}),
        "security context",
    ),
    (
        "Deployment",
        "shop",
        "web",
        |o| pod(o)["containers"][0]["securityContext"] = json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
        "security context",
    ),
    (
        "Deployment",
        "shop",
        "web",
        |o| {
            pod(o)["initContainers"] =
                json!([{"name": "i", "image": "x", "securityContext": {"allowPrivilegeEscalation": true}}]);
        },
        "security context",
    ),
    ("Deployment", "shop", "web", |o| o["metadata"]["labels"]["team"] = json!("mine"), "labels, owners"),
    ("Deployment", "shop", "web", |o| o["metadata"]["finalizers"] = json!(["x/y"]), "labels, owners"),
    (
        "Deployment",
        "shop",
        "web",
        |o| o["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "x"}]),
        "labels, owners",
    ),
    (
        "DaemonSet",
        "shop",
        "node-agent",
        |o| o["spec"]["updateStrategy"]["type"] = json!("OnDelete"),
        "only its template",
    ),
    ("DaemonSet", "shop", "node-agent", |o| o["metadata"]["labels"] = json!({"team": "mine"}), "labels, owners"),
    ("DaemonSet", "shop", "node-agent", |o| pod(o)["hostNetwork"] = json!(true), "power over its host"),
    (
        "DaemonSet",
        "shop",
        "node-agent",
        |o| pod(o)["containers"][0]["securityContext"] = json!({"privileged": true}),
        "security context",
    ),
    ("HorizontalPodAutoscaler", "shop", "other", |o| o["spec"]["scaleTargetRef"]["name"] = json!("web"), "its bounds"),
    ("HorizontalPodAutoscaler", "shop", "other", |o| o["spec"]["metrics"] = json!([]), "its bounds"),
    ("HorizontalPodAutoscaler", "shop", "other", |o| o["spec"]["behavior"] = json!({}), "its bounds"),
    ("Node", "", "node-1", |o| o["spec"]["taints"] = json!([{"key": "x", "effect": "NoExecute"}]), "takes pods"),
    ("Node", "", "node-1", |o| o["metadata"]["annotations"] = json!({"x": "y"}), "takes pods"),
    ("Node", "", "node-1", |o| o["metadata"]["labels"]["pool"] = json!("mine"), "labels, owners"),
    ("Node", "", "node-1", |o| o["spec"]["podCIDR"] = json!("10.0.0.0/8"), "takes pods"),
    ("CronJob", "shop", "cleanup", |o| o["spec"]["schedule"] = json!("* * * * *"), "is suspended"),
    ("CronJob", "shop", "cleanup", |o| o["spec"]["jobTemplate"]["spec"]["backoffLimit"] = json!(9), "is suspended"),
    ("CronJob", "shop", "cleanup", |o| o["spec"]["concurrencyPolicy"] = json!("Replace"), "is suspended"),
    ("Pod", "shop", "", |o| o["metadata"]["annotations"] = json!({"x": "y"}), "only evicted"),
    ("Job", "shop", "stuck", |o| o["spec"]["suspend"] = json!(true), "only evicted"),
    ("ConfigMap", "shop", "flags", |o| o["immutable"] = json!(true), "only its data"),
    ("ConfigMap", "shop", "flags", |o| o["binaryData"] = json!({"x": "eA=="}), "only its data"),
    ("Application", "argocd", "shop", |o| o["spec"]["destination"]["namespace"] = json!("kube-system"), "points to"),
    ("Application", "argocd", "shop", |o| o["spec"]["project"] = json!("admin"), "points to"),
    ("Application", "argocd", "shop", |o| o["spec"]["source"]["repoURL"] = json!("https://evil"), "points to"),
    (
        "Application",
        "argocd",
        "shop",
        |o| o["operation"] = json!({"sync": {"revision": "aaa", "source": {"repoURL": "https://evil"}}}),
        "has or had",
    ),
    (
        "Application",
        "argocd",
        "shop",
        |o| o["operation"] = json!({"sync": {"revision": "aaa", "manifests": ["kind: Secret"]}}),
        "has or had",
    ),
    (
        "Application",
        "argocd",
        "shop",
        |o| o["status"]["history"][0]["source"] = json!({"repoURL": "https://evil"}),
        "has or had",
    ),
    ("Kustomization", "flux", "shop", |o| o["spec"]["path"] = json!("./evil"), "only suspension"),
    ("Kustomization", "flux", "shop", |o| o["spec"]["sourceRef"]["name"] = json!("evil"), "only suspension"),
    ("Kustomization", "flux", "shop", |o| o["spec"]["patches"] = json!([{"patch": "x"}]), "only suspension"),
    ("GitRepository", "flux", "estate", |o| o["spec"]["url"] = json!("https://evil"), "the release"),
    ("HelmRelease", "flux", "cart", |o| o["spec"]["values"] = json!({"image": "evil"}), "version of its chart"),
    ("HelmRelease", "flux", "cart", |o| o["spec"]["chart"]["spec"]["chart"] = json!("evil"), "version of its chart"),
];

fn pod(object: &mut Value) -> &mut Value {
    &mut object["spec"]["template"]["spec"]
}

#[tokio::test]
async fn what_a_stolen_token_would_change_is_denied_with_the_reason() {
    let estate = estate().await;
    let policy = Admission::deployed();
    let first = estate.state.lock().unwrap().pods("web").first().unwrap().name.clone();
    for (kind, namespace, name, change, reason) in STOLEN {
        let name = if name.is_empty() { first.as_str() } else { name };
        let old = estate.state.lock().unwrap().object(kind, namespace, name);
        let old = old.unwrap_or_else(|| panic!("{kind} {name} is not there"));
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(old, new, "{kind} {name}: {reason}");
        let asked = Asked::new(kind, "UPDATE", Some(old), Some(new));
        let refused = policy.refused(&asked);
        assert!(refused.iter().any(|message| message.contains(reason)), "{reason}: {refused:?}\n{asked:?}");
        // The policy is about our identity; whoever else writes is not its business.
        for user in ["kubernetes-admin", ""] {
            assert!(policy.refused(&Asked { user: user.into(), ..asked.clone() }).is_empty());
        }
    }
}

#[test]
fn what_no_action_of_the_catalogue_creates_or_deletes_is_denied() {
    let policy = Admission::deployed();
    let asked = |operation: &'static str, group: &str, resource: &str, sub: &'static str, new: Value| Asked {
        user: OURS.into(),
        operation,
        group: group.into(),
        resource: resource.into(),
        sub,
        new: Some(new),
        old: None,
    };
    let bare = || json!({"metadata": {"name": "x"}, "spec": {}});
    let mut job = bare();
    job["metadata"]["ownerReferences"] = json!([{"kind": "CronJob", "name": "cleanup"}]);
    let rbac = "rbac.authorization.k8s.io";
    for asked in [
        asked("CREATE", "", "secrets", "", bare()),
        asked("UPDATE", "", "secrets", "", bare()),
        asked("CREATE", "", "configmaps", "", bare()),
        asked("CREATE", "", "pods", "", bare()),
        asked("CONNECT", "", "pods", "exec", bare()),
        asked("CONNECT", "", "pods", "attach", bare()),
        asked("CONNECT", "", "pods", "portforward", bare()),
        asked("UPDATE", "", "pods", "ephemeralcontainers", bare()),
        asked("CREATE", "", "pods", "binding", bare()),
        asked("UPDATE", "apps", "deployments", "status", bare()),
        asked("CREATE", "apps", "deployments", "", bare()),
        asked("CREATE", "apps", "daemonsets", "", bare()),
        asked("UPDATE", "apps", "daemonsets", "scale", bare()),
        asked("DELETE", "apps", "daemonsets", "", bare()),
        asked("CREATE", rbac, "rolebindings", "", bare()),
        asked("UPDATE", rbac, "clusterroles", "", bare()),
        asked("CREATE", "", "serviceaccounts", "token", bare()),
        asked("CREATE", "batch", "jobs", "", bare()),
        asked("CREATE", "batch", "jobs", "", job),
        asked("CREATE", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", bare()),
        asked("DELETE", "", "pods", "", bare()),
        asked("DELETE", "", "namespaces", "", bare()),
        asked("DELETE", "apps", "deployments", "", bare()),
        asked("DELETE", "batch", "cronjobs", "", bare()),
        asked("DELETE", "admissionregistration.k8s.io", "validatingadmissionpolicies", "", bare()),
    ] {
        assert!(!policy.refused(&asked).is_empty(), "{asked:?}");
    }
    // Asking what one may do writes nothing.
    assert!(
        policy.refused(&asked("CREATE", "authorization.k8s.io", "selfsubjectaccessreviews", "", bare())).is_empty()
    );
}
