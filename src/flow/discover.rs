//! Who depends on whom, from what is there: the service graph, traces, the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::domain::alert::Labels;
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, EdgeSource, NodeKind, Topology};
use crate::ports::{Cluster, Route, RouteKind, Signals, Traces};

/// Calls that were not seen for longer are forgotten.
const CALLS_ARE_KEPT: Duration = Duration::from_secs(6 * 3600);
const CALLS_ARE_COUNTED: Duration = Duration::from_secs(3600);

/// Reads who depends on whom from the service graph and from traces, and what runs where from the
/// cluster. What `earlier` knew of calls stays known for a while.
pub async fn topology(
    signals: Option<&Arc<dyn Signals>>,
    traces: Option<&Arc<dyn Traces>>,
    cluster: Option<&Arc<dyn Cluster>>,
    earlier: &Topology,
    at: Timestamp,
) -> Topology {
    let mut topology = Topology::default();
    let mut ours: BTreeMap<String, NodeKind> = BTreeMap::new();
    if let Some(cluster) = cluster {
        if let Ok(workloads) = cluster.workloads().await {
            for workload in workloads {
                ours.insert(workload.service.clone(), kind_of(&workload.service, Some(&workload.labels)));
            }
        }
        if let Ok(nodes) = cluster.nodes().await {
            for node in nodes {
                topology.add_node(&node.name, NodeKind::Host);
            }
        }
        if let Ok(pods) = cluster.pods(None).await {
            for pod in pods {
                if let Some(node) = &pod.node {
                    topology.observe(&pod.service, node, EdgeKind::RunsOn, EdgeSource::Cluster, at);
                }
            }
        }
    }
    let routes = match cluster {
        Some(cluster) => cluster.routes().await.unwrap_or_else(|error| {
            warn!(%error, "Services and Ingresses could not be read");
            vec![]
        }),
        None => vec![],
    };
    for Route { from, to, kind } in routes.iter().filter(|route| route.kind != RouteKind::Allowed) {
        topology.observe(from, to, EdgeKind::Calls, EdgeSource::Cluster, at);
        ours.entry(from.clone()).or_insert(NodeKind::Service);
        if *kind == RouteKind::External {
            topology.add_node(to, NodeKind::External);
        }
    }
    if let Some(signals) = signals {
        let query = "sum by (client, server) (increase(traces_service_graph_request_total[1h])) > 0";
        match signals.instant(query, at).await {
            Ok(edges) => {
                for edge in edges {
                    if let (Some(client), Some(server)) = (edge.label("client"), edge.label("server")) {
                        topology.observe(client, server, EdgeKind::Calls, EdgeSource::ServiceGraph, at);
                    }
                }
            }
            Err(error) => warn!(%error, "the service graph could not be read"),
        }
    }
    if let Some(traces) = traces {
        match traces.dependencies(at - CALLS_ARE_COUNTED, at).await {
            Ok(calls) => {
                for call in calls.iter().filter(|call| call.calls > 0) {
                    topology.observe(&call.caller, &call.callee, EdgeKind::Calls, EdgeSource::Traces, at);
                }
            }
            Err(error) => warn!(%error, "the dependencies of the traces could not be read"),
        }
    }
    topology.remember(earlier, at, CALLS_ARE_KEPT);
    // Leave to call is no call: it is better than nothing where nobody counts calls.
    if !topology.counted_calls() {
        for route in routes.iter().filter(|route| route.kind == RouteKind::Allowed) {
            topology.observe(&route.from, &route.to, EdgeKind::Calls, EdgeSource::NetworkPolicy, at);
        }
    }
    let names: Vec<String> = topology.nodes().map(|(name, _)| name.to_owned()).collect();
    for name in names.iter().chain(ours.keys()) {
        if topology.kind(name) == Some(NodeKind::Host) {
            continue;
        }
        let kind = match ours.get(name) {
            Some(kind) => *kind,
            // Called but run by nobody here. Without a cluster nothing can be said about that.
            None if !ours.is_empty() => NodeKind::External,
            None => kind_of(name, None),
        };
        topology.add_node(name, kind);
    }
    topology
}

/// By label `component` (app.kubernetes.io/component) where given, else by the words in the name.
fn kind_of(name: &str, labels: Option<&Labels>) -> NodeKind {
    let component = labels
        .and_then(|labels| labels.get("app.kubernetes.io/component").or_else(|| labels.get("component")))
        .map_or("", String::as_str);
    let text = format!("{name} {component}").to_ascii_lowercase();
    let has = |words: &[&str]| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| words.contains(&part));
    if has(&[
        "db",
        "database",
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "mongo",
        "mongodb",
        "redis",
        "cache",
        "pg",
    ]) {
        NodeKind::Database
    } else if has(&["queue", "kafka", "rabbitmq", "nats", "broker", "mq"]) {
        NodeKind::Queue
    } else {
        NodeKind::Service
    }
}
