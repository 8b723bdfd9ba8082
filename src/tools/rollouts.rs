//! What people and pipelines changed: lately, and in the whole history of one workload.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, changes, schema};
use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;
use crate::ports::ToolSchema;

/// A day: what changed earlier has proved itself by now.
const MAX_HOURS: u64 = 24;
const MAX_ROWS: usize = 30;
const MAX_TOUCHED: usize = 8;
const MAX_WORKLOADS: usize = 5;

pub struct ListChanges;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    service: Option<String>,
    hours: Option<u64>,
}

#[async_trait]
impl Tool for ListChanges {
    fn schema(&self) -> ToolSchema {
        schema(
            "list_changes",
            "Rollouts, newest first: id (use it to name the change), time, what it touched before and after, and \
             whether it still runs. A change is a suspect only if it came before the first symptom.",
            json!({
                "service": {"type": "string", "description": "as the topology names it; default all"},
                "hours": {"type": "integer", "minimum": 1, "maximum": MAX_HOURS, "description": "default 6"},
            }),
            &[],
        )
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let Arguments { service, hours } = arguments(value)?;
        let hours = hours.unwrap_or(6).clamp(1, MAX_HOURS);
        let since = context.event_now - Duration::from_secs(hours * 3600);
        let mut changes: Vec<&Change> = context
            .changes
            .iter()
            .filter(|change| change.at >= since)
            .filter(|change| service.as_deref().is_none_or(|service| service == change.service))
            .collect();
        changes.sort_by_key(|change| std::cmp::Reverse(change.at));
        let of = service.as_deref().unwrap_or("all services");
        let summary = match changes.first() {
            None => format!("no change of {of} in {hours} h"),
            Some(newest) => format!("{} changes of {of} in {hours} h; newest: {}", changes.len(), newest.id),
        };
        let lines: Vec<_> = changes.iter().map(|change| line(change, usize::MAX, context.event_now)).collect();
        let few: Vec<_> =
            changes.iter().take(MAX_ROWS).map(|change| line(change, MAX_TOUCHED, context.event_now)).collect();
        Ok(Draft {
            kind: EvidenceKind::Change,
            source: "kubernetes",
            query: format!("changes service={} hours={hours}", service.as_deref().unwrap_or("*")),
            body: if lines.is_empty() { summary.clone() } else { lines.join("\n") },
            summary,
            shown: (!few.is_empty()).then(|| few.join("\n")),
            series: vec![],
            // That and when it changed is observed; the words in it are other people's.
            taint: Taint::UserWritable,
            found: !changes.is_empty(),
        })
    }
}

pub struct History;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryArguments {
    service: String,
    namespace: Option<String>,
}

#[async_trait]
impl Tool for History {
    fn schema(&self) -> ToolSchema {
        schema(
            "kube_rollout_history",
            "Every revision of a workload that the cluster still keeps, newest first, each with what differs from the \
             one before: image, environment, configuration (references and hashes), resources. What is in a \
             ConfigMap is not versioned by the cluster: list_changes tells its edits.",
            json!({
                "service": {"type": "string", "description": "as the topology names it, or the workload's own name"},
                "namespace": {"type": "string"},
            }),
            &["service"],
        )
    }

    fn terms(&self) -> Terms {
        Terms::of(Backend::Cluster, &[Speciality::Kubernetes, Speciality::Application])
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let HistoryArguments { service, namespace } = arguments(value)?;
        let cluster = context.cluster.as_ref().ok_or_else(|| TellModel("no cluster is configured".to_owned()))?;
        let mut workloads = cluster.workloads().await?;
        workloads.retain(|one| {
            (one.service == service || one.name == service)
                && namespace.as_deref().is_none_or(|namespace| namespace == one.namespace)
        });
        if workloads.is_empty() {
            return Err(TellModel(format!("no workload is called {service:?}; kube_objects lists them")));
        }
        let (mut body, mut count, mut refused) = (String::new(), 0, vec![]);
        for workload in workloads.iter().take(MAX_WORKLOADS) {
            match cluster.revisions(&workload.kind, &workload.namespace, &workload.name).await {
                Ok(revisions) => {
                    let mut history = changes::changes_in(workload, &revisions);
                    history.reverse();
                    count += history.len();
                    let kind = workload.kind.to_lowercase();
                    body.push_str(&format!("{kind} {}/{}:\n", workload.namespace, workload.name));
                    for change in &history {
                        body.push_str(&format!("{}\n", line(change, usize::MAX, context.event_now)));
                    }
                }
                Err(error) => refused.push(format!("{}/{}: {error}", workload.namespace, workload.name)),
            }
        }
        if count == 0 && !refused.is_empty() {
            return Err(TellModel(refused.join("; ")));
        }
        refused.iter().for_each(|why| body.push_str(&format!("not readable: {why}\n")));
        let summary = format!("{count} revisions of {service} in {} workloads", workloads.len().min(MAX_WORKLOADS));
        Ok(Draft {
            kind: EvidenceKind::Change,
            source: "kubernetes",
            query: format!("rollout history of {service}, namespace {}", namespace.as_deref().unwrap_or("*")),
            summary,
            body,
            shown: None,
            series: vec![],
            taint: Taint::UserWritable,
            found: count > 0,
        })
    }
}

/// Revisions are kept for months: `event_now` tells which of them need their date.
fn line(change: &Change, most: usize, event_now: Timestamp) -> String {
    let touched: Vec<_> =
        change.touched.iter().take(most).map(|one| format!("  {}: {}", one.what.as_str(), one.detail)).collect();
    let more = change.touched.len().saturating_sub(most);
    let more = if more > 0 { format!("\n  [{more} more differences]") } else { String::new() };
    let from = change.from_revision.map(|from| format!(" (from revision {from})")).unwrap_or_default();
    let state = if change.current { "runs now" } else { "does not run any more" };
    let cause = change.cause.as_ref().map(|cause| format!(" reason given: {cause:?}")).unwrap_or_default();
    format!(
        "{} {:?}{from} service={} namespace={} {state}{cause}\n{}{more}",
        change.at.clock_near(event_now),
        change.id,
        change.service,
        change.namespace,
        touched.join("\n")
    )
}
