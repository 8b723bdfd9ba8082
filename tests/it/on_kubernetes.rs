//! What runs midwatch on Kubernetes: every manifest is one that the API knows, the parts of the deployment fit
//! each other, and what they say of the program is true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use midwatch::config::Config;
use serde::Deserialize as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::{Watch, midwatch, run_within, text};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn manifest(name: &str) -> String {
    std::fs::read_to_string(deploy().join("manifests").join(name)).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap()).collect()
}

/// What is commented out behind a mark of its own, as it is when the marks are taken away.
fn left_out(text: &str) -> Vec<Value> {
    let commented: Vec<&str> = text.lines().skip_while(|line| *line != "# ---").collect();
    let code = commented.iter().filter_map(|line| line.strip_prefix("# "));
    let documents = documents(&code.collect::<Vec<_>>().join("\n"));
    documents.into_iter().filter(|one| !one.is_null()).collect()
}

#[track_caller]
fn one<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|one| one["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        other => panic!("one {kind}: {other:?}"),
    }
}

/// What the API does not know of the kind is lost on this way.
#[track_caller]
fn known<K: DeserializeOwned + Serialize>(document: &Value) {
    let read: K = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}\n{document}"));
    assert_eq!(&serde_json::to_value(&read).unwrap(), document);
}

#[test]
fn every_manifest_is_one_that_the_api_knows() {
    for name in ["admission.yaml", "midwatch.yaml", "rbac.yaml"] {
        let text = manifest(name);
        for document in documents(&text).iter().chain(&left_out(&text)) {
            match document["kind"].as_str().unwrap() {
                "ClusterRole" => known::<ClusterRole>(document),
                "ClusterRoleBinding" => known::<ClusterRoleBinding>(document),
                "ConfigMap" => known::<ConfigMap>(document),
                "Deployment" => known::<Deployment>(document),
                "Namespace" => known::<Namespace>(document),
                "PodDisruptionBudget" => known::<PodDisruptionBudget>(document),
                "Role" => known::<Role>(document),
                "RoleBinding" => known::<RoleBinding>(document),
                "Secret" => known::<Secret>(document),
                "Service" => known::<Service>(document),
                "ServiceAccount" => known::<ServiceAccount>(document),
                "ValidatingAdmissionPolicy" => known::<ValidatingAdmissionPolicy>(document),
                "ValidatingAdmissionPolicyBinding" => known::<ValidatingAdmissionPolicyBinding>(document),
                // Of the Prometheus operator.
                "PrometheusRule" | "ServiceMonitor" => assert_eq!(document["apiVersion"], "monitoring.coreos.com/v1"),
                other => panic!("{name} holds a {other}, and nothing here knows it"),
            }
        }
    }
}

struct Deployed {
    all: Vec<Value>,
    rights: Vec<Value>,
}

impl Deployed {
    fn read() -> Self {
        Self { all: documents(&manifest("midwatch.yaml")), rights: documents(&manifest("rbac.yaml")) }
    }

    fn pod(&self) -> &Value {
        &one(&self.all, "Deployment")["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    fn volume(&self, name: &str) -> &Value {
        self.pod()["volumes"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()
    }

    fn mounted(&self, name: &str) -> &str {
        let mut mounts = self.container()["volumeMounts"].as_array().unwrap().iter();
        mounts.find(|one| one["name"] == name).unwrap()["mountPath"].as_str().unwrap()
    }

    fn toml(&self) -> &str {
        one(&self.all, "ConfigMap")["data"]["midwatch.toml"].as_str().unwrap()
    }

    fn secrets(&self) -> BTreeMap<String, String> {
        serde_json::from_value(one(&self.all, "Secret")["stringData"].clone()).unwrap()
    }

    fn config(&self, toml: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("midwatch.toml");
        std::fs::write(&file, toml).unwrap();
        let secrets = self.secrets();
        let slack = |name: &str| name.starts_with("SLACK_").then(|| "x".to_owned());
        Config::load(Some(&file), &|name| secrets.get(name).cloned().or_else(|| slack(name))).unwrap()
    }
}

#[test]
fn the_parts_of_the_deployment_fit_each_other() {
    let deployed = Deployed::read();
    let (all, pod, container) = (&deployed.all, deployed.pod(), deployed.container());
    let (rights, service) = (&deployed.rights, one(all, "Service"));
    assert_eq!(one(all, "Namespace"), one(rights, "Namespace"));
    let ours = &one(all, "Namespace")["metadata"]["name"];
    assert!(all.iter().filter(|one| one["kind"] != "Namespace").all(|one| one["metadata"]["namespace"] == *ours));

    // Its Service, its budget and its spread mean its pods.
    let labels = &one(all, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    for selector in [&one(all, "Deployment")["spec"]["selector"], &one(all, "PodDisruptionBudget")["spec"]["selector"]]
        .into_iter()
        .chain(pod["topologySpreadConstraints"].as_array().unwrap().iter().map(|spread| &spread["labelSelector"]))
    {
        assert_eq!(&selector["matchLabels"], labels);
    }

    // It listens where it is probed and sent to.
    let config = deployed.config(deployed.toml());
    let listen: std::net::SocketAddr = config.server.listen.parse().unwrap();
    assert!(listen.ip().is_unspecified(), "{listen}");
    let port = &container["ports"][0];
    assert_eq!(port["containerPort"], listen.port());
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{probe}");
    }

    // Every volume is mounted, and every mount is there; what they hold is deployed.
    let names = |list: &Value| -> BTreeSet<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&pod["volumes"]), names(&container["volumeMounts"]));
    assert_eq!(deployed.volume("config")["configMap"]["name"], one(all, "ConfigMap")["metadata"]["name"]);
    assert_eq!(container["args"][2], format!("{}/midwatch.toml", deployed.mounted("config")));
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], one(all, "Secret")["metadata"]["name"]);
    assert_eq!(config.store.data_dir, Path::new(deployed.mounted("data")));

    // It reads as the account that may read, and its token to write is that of the one that may write.
    let accounts = names(&json!(
        rights.iter().filter(|one| one["kind"] == "ServiceAccount").map(|one| &one["metadata"]).collect::<Vec<_>>()
    ));
    let reads = &one(rights, "ClusterRoleBinding")["subjects"][0]["name"];
    let writes = &one(rights, "RoleBinding")["subjects"][0]["name"];
    assert!([reads, writes].iter().all(|name| accounts.contains(name.as_str().unwrap())), "{accounts:?}");
    assert_eq!(&pod["serviceAccountName"], reads);
    let token = &one(rights, "Secret")["metadata"];
    assert_eq!(deployed.volume("write-token")["secret"]["secretName"], token["name"]);
    assert_eq!(&token["annotations"]["kubernetes.io/service-account.name"], writes);

    // It runs as the user of the image.
    let image = std::fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let context = &pod["securityContext"];
    let user = format!("\nUSER {}:{}\n", context["runAsUser"], context["runAsGroup"]);
    assert!(image.contains(&user), "{user}");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
}

#[test]
fn its_configuration_is_good_and_stays_so_when_the_marks_are_taken_away() {
    let deployed = Deployed::read();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("midwatch.toml");
    std::fs::write(&file, deployed.toml()).unwrap();
    let mut check = midwatch();
    // Of Slack, which is not in it: nothing outside is asked.
    check.args(["check", "--slack", "--config", text(&file)]).envs(deployed.secrets());
    let ended = run_within(check, std::time::Duration::from_secs(40));
    assert!(ended.stdout.contains("ok    configuration: "), "{}\n{}", ended.stdout, ended.stderr);

    let is_code =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let bare = deployed.toml().lines().map(|line| line.strip_prefix("# ").filter(|rest| is_code(rest)).unwrap_or(line));
    let config = deployed.config(&bare.collect::<Vec<_>>().join("\n"));
    assert!(config.slack.is_some() && config.kubernetes.as_ref().unwrap().cluster.is_some());
    let item = &deployed.volume("write-token")["secret"]["items"][0];
    assert_eq!(item["key"], "token");
    let path = Path::new(deployed.mounted("write-token")).join(item["path"].as_str().unwrap());
    assert_eq!(config.kubernetes.unwrap().write_token_file, Some(path));
}

#[tokio::test]
async fn its_probes_are_answered_and_its_alerts_ask_for_metrics_that_there_are() {
    let watch = Watch::start("").await;
    let deployed = Deployed::read();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = deployed.container()[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(watch.get(path).await.0, 200, "{probe}");
    }
    let watched = left_out(&manifest("midwatch.yaml"));
    let scraped = &one(&watched, "ServiceMonitor")["spec"];
    assert_eq!(scraped["selector"]["matchLabels"], one(&deployed.all, "Service")["metadata"]["labels"]);
    assert_eq!(scraped["endpoints"][0]["port"], one(&deployed.all, "Service")["spec"]["ports"][0]["name"]);
    let (_, metrics) = watch.get(scraped["endpoints"][0]["path"].as_str().unwrap()).await;
    let alerts = one(&watched, "PrometheusRule")["spec"]["groups"][0]["rules"].as_array().unwrap();
    assert!(alerts.len() > 4);
    for alert in alerts {
        let query = alert["expr"].as_str().unwrap();
        promql_parser::parser::parse(query).unwrap_or_else(|error| panic!("{error}\n{query}"));
        let words = query.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        for name in words.filter(|word| word.starts_with("midwatch_")) {
            assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} of {} is not measured", alert["alert"]);
        }
    }
}
