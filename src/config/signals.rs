//! What is measured of each service. The defaults speak to common exporters: HTTP server metrics and
//! metrics of spans, cAdvisor and kube-state-metrics, OpenTelemetry's database client and service
//! graph, the PostgreSQL and MySQL exporters, the blackbox exporter.

mod http;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::domain::root_cause::{SignalClass, Worse};
use crate::domain::signal_scope::SignalScope;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignalQuery {
    pub name: String,
    pub class: SignalClass,
    pub promql: String,
    /// Label of the answer that names the node of the topology.
    #[serde(default = "service")]
    pub label: String,
    /// The smallest difference that matters, in the query's unit.
    pub floor: f64,
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub worse: Worse,
    /// Beyond it things are wrong whatever the baseline says.
    #[serde(default)]
    pub limit: Option<f64>,
}

fn service() -> String {
    "service".into()
}

/// A query whose answer has the labels `client` and `server`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeQuery {
    pub name: String,
    pub promql: String,
    pub floor: f64,
    #[serde(default)]
    pub unit: String,
}

/// Services that measure others: operators of Prometheus (kube-prometheus-stack) label with them what they scrape
/// from kube-state-metrics and the kubelet, and plain scrapes label it with none.
const MEASURERS: &str = ".*(kubelet|kube-state-metrics|cadvisor)|";
/// What Kubernetes makes names of: `k8s.io/apimachinery/pkg/util/rand`.
const GENERATED: &str = "bcdfghjklmnpqrstvwxz2456789";

/// `of` measured for each service, by the label `service` where it tells of whom, else by the object that is
/// measured.
fn by_service(aggregate: &str, of: impl Fn(&str) -> String, object: &str) -> String {
    let named = |expression: String, (label, pattern): (&str, String)| {
        format!("label_replace({expression}, \"service\", \"$1\", \"{label}\", \"{pattern}\")")
    };
    let measured = of(&format!("service=~\"{MEASURERS}\""));
    let whole = named(measured, (object, "(.+)".into()));
    // A later one wins where it fits: a pod of a DaemonSet, a StatefulSet, a Deployment.
    let patterns = match object {
        "pod" => vec![
            format!("(.+)-[{GENERATED}]{{5}}"),
            "(.+)-[0-9]{1,4}".to_owned(),
            format!("(.+)-[{GENERATED}]{{6,10}}-[{GENERATED}]{{5}}"),
        ],
        // A StatefulSet names them after their template and the pod.
        "persistentvolumeclaim" => vec!["(?:data-)?(.+?)(?:-[0-9]{1,4})?".to_owned()],
        _ => vec![],
    };
    let measured = patterns.into_iter().fold(whole, |expression, pattern| named(expression, (object, pattern)));
    format!("{aggregate} by (service) ({} or {measured})", of(&format!("service!~\"{MEASURERS}\"")))
}

/// `of` measured for each node, by the label `node`, else by the name that the machine gives itself.
fn by_node(of: impl Fn(&str) -> String) -> String {
    format!(
        "max by (node) ({} or label_replace(({}) * on (instance) group_left (nodename) \
         max by (instance, nodename) (node_uname_info), \"node\", \"$1\", \"nodename\", \"(.+)\"))",
        of("node!=\"\""),
        of("node=\"\"")
    )
}

/// Of each container; two kube-state-metrics beside each other say the same.
fn share_of_limit(used: impl Fn(&str) -> String, resource: &str) -> String {
    by_service(
        "max",
        |which| {
            format!(
                "{} / on (namespace, pod, container) group_left () max by (namespace, pod, container) \
                 (kube_pod_container_resource_limits{{resource=\"{resource}\"}})",
                used(which)
            )
        },
        "pod",
    )
}

/// Of each pool, whatever else its labels say: OpenTelemetry's database client before and since 1.26, HikariCP. Used
/// and idle ones stand beside each other, the maximum has no state.
fn pool() -> String {
    let used = |metric: &str, state: &str| format!("sum without ({state}) ({metric}{{{state}!=\"idle\"}})");
    let shares = [
        format!("{} / db_client_connections_max", used("db_client_connections_usage", "state")),
        format!("{} / db_client_connection_max", used("db_client_connection_count", "db_client_connection_state")),
        "hikaricp_connections_active / hikaricp_connections_max".to_owned(),
    ];
    format!(
        "max by (service) (label_replace({}, \"service\", \"$1\", \"service_name\", \"(.+)\"))",
        shares.join(" or ")
    )
}

/// The exporters count by database, user and state, and give the maximum once: labels never match one to one.
const DATABASE_CONNECTIONS: &str = "max by (service) (\
    sum by (service, instance) (pg_stat_activity_count) / max by (service, instance) (pg_settings_max_connections) \
    or max by (service, instance) (mysql_global_status_threads_connected) / \
    max by (service, instance) (mysql_global_variables_max_connections))";

pub fn defaults() -> Vec<SignalQuery> {
    use SignalClass::{Health, Load, Resource, Symptom};
    let signal = |name: &str, class, promql: &str, floor, unit: &str| SignalQuery {
        name: name.into(),
        class,
        promql: promql.into(),
        label: service(),
        floor,
        unit: unit.into(),
        worse: Worse::Higher,
        limit: None,
    };
    vec![
        signal("errors", Symptom, &http::errors(), 0.02, "ratio"),
        signal("latency_p99", Symptom, &http::latency_p99(), 0.1, "s"),
        signal("requests", Load, &http::requests(), 2.0, "1/s"),
        signal(
            "memory",
            Resource,
            &share_of_limit(|which| format!("container_memory_working_set_bytes{{{which}}}"), "memory"),
            0.08,
            "of limit",
        ),
        signal(
            "cpu",
            Resource,
            &share_of_limit(|which| format!("rate(container_cpu_usage_seconds_total{{{which}}}[2m])"), "cpu"),
            0.15,
            "of limit",
        ),
        signal(
            "restarts",
            Health,
            &by_service(
                "sum",
                |which| format!("increase(kube_pod_container_status_restarts_total{{{which}}}[10m])"),
                "pod",
            ),
            1.0,
            "restarts",
        ),
        signal(
            "replicas_missing",
            Health,
            &by_service(
                "max",
                |which| {
                    format!(
                        "(kube_deployment_spec_replicas{{{which}}} - kube_deployment_status_replicas_available{{{which}}})"
                    )
                },
                "deployment",
            ),
            0.9,
            "replicas",
        ),
        signal("pool", Resource, &pool(), 0.15, "of pool"),
        signal("threads", Resource, "max by (service) (process_threads_busy / process_threads_max)", 0.2, "of threads"),
        signal("db_connections", Resource, DATABASE_CONNECTIONS, 0.15, "of max"),
        signal("db_statement", Resource, "max by (service) (pg_stat_statements_mean_exec_time_seconds)", 0.05, "s"),
        signal(
            "volume",
            Resource,
            &by_service(
                "max",
                |which| {
                    format!(
                        "(1 - kubelet_volume_stats_available_bytes{{{which}}} / kubelet_volume_stats_capacity_bytes{{{which}}})"
                    )
                },
                "persistentvolumeclaim",
            ),
            0.1,
            "full",
        ),
        signal("replica_lag", Resource, "max by (service) (pg_replication_lag_seconds)", 10.0, "s behind"),
        signal(
            "autoscaler",
            Load,
            &by_service(
                "max",
                |which| {
                    format!(
                        "(kube_horizontalpodautoscaler_status_current_replicas{{{which}}} / \
                         kube_horizontalpodautoscaler_spec_max_replicas{{{which}}})"
                    )
                },
                "horizontalpodautoscaler",
            ),
            0.2,
            "of maximum",
        ),
        signal("queue", Symptom, "max by (service) (queue_messages_ready)", 200.0, "messages"),
        signal("probe", Symptom, "max by (service) (1 - probe_success)", 0.5, "failing"),
        SignalQuery {
            worse: Worse::Lower,
            limit: Some(0.0),
            ..signal("certificate", Health, "min by (service) (probe_ssl_earliest_cert_expiry - time())", 1e9, "s left")
        },
        SignalQuery {
            label: "node".into(),
            ..signal(
                "not_ready",
                Health,
                "max by (node) (1 - kube_node_status_condition{condition=\"Ready\",status=\"true\"})",
                0.5,
                "not ready",
            )
        },
        SignalQuery {
            // Hosts are filled on purpose: only next to nothing left is wrong.
            limit: Some(0.92),
            label: "node".into(),
            ..signal(
                "host_cpu",
                Resource,
                &by_node(|which| {
                    let rates = |mode: &str| {
                        format!("sum by (node, instance) (rate(node_cpu_seconds_total{{{which}{mode}}}[2m]))")
                    };
                    format!("1 - {} / {}", rates(",mode=\"idle\""), rates(""))
                }),
                0.6,
                "of host",
            )
        },
        SignalQuery {
            label: "node".into(),
            ..signal(
                "clock",
                Health,
                &by_node(|which| format!("abs(node_timex_offset_seconds{{{which}}})")),
                0.5,
                "s off",
            )
        },
        SignalQuery {
            label: "node".into(),
            ..signal(
                "filesystem",
                Resource,
                &by_node(|which| {
                    format!("1 - node_filesystem_avail_bytes{{{which}}} / node_filesystem_size_bytes{{{which}}}")
                }),
                0.1,
                "full",
            )
        },
    ]
}

pub fn default_edges() -> Vec<EdgeQuery> {
    vec![
        EdgeQuery {
            name: "call_errors".into(),
            promql: "sum by (client, server) (rate(traces_service_graph_request_failed_total[2m])) / \
                     sum by (client, server) (rate(traces_service_graph_request_total[2m]))"
                .into(),
            floor: 0.02,
            unit: "ratio".into(),
        },
        EdgeQuery {
            name: "call_seconds".into(),
            promql: "sum by (client, server) (rate(traces_service_graph_request_server_seconds_sum[2m])) / \
                     sum by (client, server) (rate(traces_service_graph_request_server_seconds_count[2m]))"
                .into(),
            floor: 0.05,
            unit: "s".into(),
        },
    ]
}

impl super::Signals {
    /// The defaults against given addresses.
    pub fn of(prometheus_url: &str, loki_url: Option<&str>) -> Self {
        Self {
            prometheus_url: prometheus_url.to_owned(),
            loki_url: loki_url.map(str::to_owned),
            bearer_token: super::Secret::default(),
            prometheus: super::BackendAccess::default(),
            loki: super::BackendAccess::default(),
            log_service_label: super::default_log_label(),
            cluster_label: None,
            log_cluster_label: None,
            watch_logs: true,
            baseline_days: super::default_baseline_days(),
            query: defaults(),
            edges: default_edges(),
        }
    }

    /// Of what metrics and logs are asked about these clusters; about none in particular: of everything.
    pub fn scope(&self, clusters: &BTreeSet<&str>) -> SignalScope {
        SignalScope::of(self.cluster_label.as_deref(), self.log_cluster_label.as_deref(), clusters)
    }

    /// `remediation`: what its success is measured by is asked about an incident, too.
    pub(super) fn validate(&self, remediation: &super::RemediationConfig) -> Result<(), ConfigError> {
        let wrong = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
        let (metrics, logs) = (self.cluster_label.as_deref(), self.log_cluster_label.as_deref());
        for (key, label) in [("signals.cluster_label", metrics), ("signals.log_cluster_label", logs)] {
            if let Some(label) = label.filter(|label| !is_label(label)) {
                let reason = format!("{label:?} is no name of a label: letters, digits and _, no digit first");
                return wrong(
                    key,
                    reason,
                    "Give for example \"cluster\", or leave it out to ask of all clusters at once.",
                );
            }
        }
        if logs == Some(self.log_service_label.as_str()) {
            let reason = format!("{:?} is signals.log_service_label, which names the service", self.log_service_label);
            return wrong("signals.log_cluster_label", reason, "Give the label of streams that names the cluster.");
        }
        let queries = self.query.iter().map(|query| ("signals.query", query.name.as_str(), &query.promql));
        let edges = self.edges.iter().map(|edge| ("signals.edges", edge.name.as_str(), &edge.promql));
        let scope = SignalScope::of_any(metrics, logs);
        for (key, name, promql) in queries.chain(edges).chain(remediation.success_queries()) {
            if let Err(refused) = scope.promql(promql) {
                let remedy = "With signals.cluster_label each query must be PromQL that midwatch can read.";
                return wrong(key, format!("{name}: {refused}"), remedy);
            }
        }
        Ok(())
    }
}

/// As Prometheus and Loki have always allowed them; metrics alone may have others.
fn is_label(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_')
}
