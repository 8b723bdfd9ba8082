//! What runs where, what the cluster says happened, and what a container said before it died.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, schema, window};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, NodeState, PodLogs, PodState, ToolSchema, Workload};

const MAX_LOG_LINES: i64 = 5_000;
const NOTHING: &str = "nothing found";

pub struct Objects;
pub struct Events;
pub struct LogsOfPod;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectArguments {
    service: Option<String>,
    namespace: Option<String>,
}

#[async_trait]
impl Tool for Objects {
    fn schema(&self) -> ToolSchema {
        schema(
            "kube_objects",
            "Workloads, pods (restarts, why a container waits or died, node) and nodes with trouble. Without \
             arguments: everything that is not as it should be.",
            json!({
                "service": {"type": "string"},
                "namespace": {"type": "string"},
            }),
            &[],
        )
    }

    fn terms(&self) -> Terms {
        Terms::of(Backend::Cluster, &[Speciality::Kubernetes, Speciality::Network])
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let ObjectArguments { service, namespace } = arguments(value)?;
        let cluster = cluster(context)?;
        let (workloads, pods, nodes) =
            tokio::try_join!(cluster.workloads(), cluster.pods(namespace.as_deref()), cluster.nodes())?;
        let wanted = |of_service: &str, of_namespace: &str, troubled: bool| {
            service.as_deref().is_none_or(|service| service == of_service)
                && namespace.as_deref().is_none_or(|namespace| namespace == of_namespace)
                && (troubled || service.is_some() || namespace.is_some())
        };
        let workloads: Vec<_> = workloads
            .iter()
            .filter(|one| wanted(&one.service, &one.namespace, one.ready < one.replicas || !one.rolled_out))
            .collect();
        let pods: Vec<_> = pods.iter().filter(|one| wanted(&one.service, &one.namespace, is_troubled(one))).collect();
        let troubled = pods.iter().filter(|pod| is_troubled(pod)).count();
        let bad_nodes: Vec<_> = nodes.iter().filter(|node| !node.ready || !node.troubles.is_empty()).collect();
        let summary = format!(
            "{} workloads, {} pods ({troubled} with trouble), {} of {} nodes with trouble",
            workloads.len(),
            pods.len(),
            bad_nodes.len(),
            nodes.len()
        );
        let lines = workloads
            .into_iter()
            .map(workload_line)
            .chain(bad_nodes.into_iter().map(node_line))
            .chain(pods.into_iter().map(|pod| pod_line(pod, context.event_now)));
        let query = format!("objects service={} namespace={}", or_all(&service), or_all(&namespace));
        Ok(draft(query, summary, rows(lines), Taint::Observed))
    }
}

fn is_troubled(pod: &PodState) -> bool {
    !(pod.ready || pod.phase == "Succeeded") || pod.restarts > 0 || pod.reason.is_some()
}

fn workload_line(one: &Workload) -> String {
    let revision = one.revision.map(|number| format!(" revision={number}")).unwrap_or_default();
    let rollout = if one.rolled_out { "rolled out" } else { "ROLLING OUT" };
    format!(
        "{} {}/{} service={} replicas={} ready={} updated={}{revision} {rollout}",
        one.kind.to_lowercase(),
        one.namespace,
        one.name,
        one.service,
        one.replicas,
        one.ready,
        one.updated
    )
}

fn pod_line(pod: &PodState, event_now: Timestamp) -> String {
    format!(
        "pod {}/{} service={} phase={} ready={} restarts={} node={} started={}{}{}",
        pod.namespace,
        pod.name,
        pod.service,
        pod.phase,
        pod.ready,
        pod.restarts,
        pod.node.as_deref().unwrap_or("none"),
        // Weeks may lie between: the time of day alone would say that it was today.
        pod.started_at.map_or_else(|| "-".to_owned(), |at| at.clock_near(event_now)),
        pod.reason.as_ref().map(|reason| format!(" reason={reason}")).unwrap_or_default(),
        pod.ended_at.map(|at| format!(" ended={at}")).unwrap_or_default()
    )
}

fn node_line(node: &NodeState) -> String {
    format!("node {} ready={} {}", node.name, node.ready, node.troubles.join(", "))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventArguments {
    namespace: Option<String>,
    object: Option<String>,
    minutes: Option<u64>,
}

#[async_trait]
impl Tool for Events {
    fn schema(&self) -> ToolSchema {
        schema(
            "kube_events",
            "Events of the cluster, newest first: scheduling, probes, OOM kills, evictions, image pulls, scaling.",
            json!({
                "namespace": {"type": "string"},
                "object": {"type": "string", "description": "name, or beginning of a name, of the object"},
                "minutes": {"type": "integer", "description": "default 60"},
            }),
            &[],
        )
    }

    fn terms(&self) -> Terms {
        Terms::of(Backend::Cluster, &[Speciality::Kubernetes, Speciality::Network])
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let EventArguments { namespace, object, minutes } = arguments(value)?;
        let (start, end) = window(minutes, None, context)?;
        // Event time and the cluster's own clock may differ by some seconds.
        let end = end + Duration::from_secs(60);
        let mut events = cluster(context)?.events(namespace.as_deref()).await?;
        events.retain(|event| {
            event.last_at >= start
                && event.last_at <= end
                && object.as_deref().is_none_or(|object| event.object.starts_with(object))
        });
        let warnings = events.iter().filter(|event| event.warning).count();
        let lines = events.iter().map(|event| {
            format!(
                "{} {} {}/{} {} x{}: {}",
                event.last_at.clock_time(),
                if event.warning { "WARNING" } else { "normal" },
                event.namespace,
                event.object,
                event.reason,
                event.count,
                event.message.replace('\n', " ")
            )
        });
        let summary = format!("{} events, {warnings} warnings, since {}", events.len(), start.hour_minute());
        let query = format!("events namespace={} object={}", or_all(&namespace), or_all(&object));
        // Components write events, but so may any pod with the right to: their text is not ours.
        Ok(draft(query, summary, rows(lines), Taint::UserWritable))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogArguments {
    namespace: String,
    pod: String,
    previous: Option<bool>,
    lines: Option<i64>,
}

#[async_trait]
impl Tool for LogsOfPod {
    fn schema(&self) -> ToolSchema {
        schema(
            "kube_pod_logs",
            "The last lines of one pod; with previous=true those of the container before its last restart, which \
             is where the reason of a crash stands.",
            json!({
                "namespace": {"type": "string"},
                "pod": {"type": "string"},
                "previous": {"type": "boolean"},
                "lines": {"type": "integer", "minimum": 1, "maximum": MAX_LOG_LINES, "description": "default 200; what is too long to be shown is kept"},
            }),
            &["namespace", "pod"],
        )
    }

    fn terms(&self) -> Terms {
        Terms::of(Backend::Cluster, &[Speciality::Kubernetes, Speciality::Application])
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let LogArguments { namespace, pod, previous, lines } = arguments(value)?;
        let which = if previous.unwrap_or(false) { PodLogs::Previous } else { PodLogs::Current };
        let lines = lines.unwrap_or(200).clamp(1, MAX_LOG_LINES);
        let text = cluster(context)?.pod_logs(&namespace, &pod, which, lines).await?;
        let which = match which {
            PodLogs::Current => "current",
            PodLogs::Previous => "previous",
        };
        let summary = format!("{} lines of the {which} container of {namespace}/{pod}", text.lines().count());
        let query = format!("logs of {namespace}/{pod} ({which})");
        let found = !text.trim().is_empty();
        Ok(Draft { kind: EvidenceKind::Log, found, ..draft(query, summary, text, Taint::UserWritable) })
    }
}

fn cluster(context: &ToolContext) -> Result<&dyn Cluster, TellModel> {
    context.cluster.as_deref().ok_or_else(|| TellModel("no cluster is configured".to_owned()))
}

fn draft(query: String, summary: String, body: String, taint: Taint) -> Draft {
    let (kind, source) = (EvidenceKind::Kubernetes, "kubernetes");
    let found = body != NOTHING;
    Draft { kind, source, query, summary, body, shown: None, series: vec![], taint, found }
}

fn rows(lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { NOTHING.to_owned() } else { lines.join("\n") }
}

fn or_all(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("*")
}
