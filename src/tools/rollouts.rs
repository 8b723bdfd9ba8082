//! What people and pipelines changed lately.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Draft, TellModel, Tool, ToolContext, arguments, schema};
use crate::domain::change::Change;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::ports::ToolSchema;

/// A day: what changed earlier has proved itself by now.
const MAX_HOURS: u64 = 24;
const MAX_ROWS: usize = 30;
const MAX_TOUCHED: usize = 8;

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
        let lines: Vec<_> = changes.iter().take(MAX_ROWS).map(|change| line(change)).collect();
        Ok(Draft {
            kind: EvidenceKind::Change,
            source: "kubernetes",
            query: format!("changes service={} hours={hours}", service.as_deref().unwrap_or("*")),
            body: if lines.is_empty() { summary.clone() } else { lines.join("\n") },
            summary,
            series: vec![],
            // That and when it changed is observed; the words in it are other people's.
            taint: Taint::UserWritable,
        })
    }
}

fn line(change: &Change) -> String {
    let touched: Vec<_> =
        change.touched.iter().take(MAX_TOUCHED).map(|one| format!("  {}: {}", one.what.as_str(), one.detail)).collect();
    let more = change.touched.len().saturating_sub(MAX_TOUCHED);
    let more = if more > 0 { format!("\n  [{more} more differences]") } else { String::new() };
    let from = change.from_revision.map(|from| format!(" (from revision {from})")).unwrap_or_default();
    let state = if change.current { "runs now" } else { "does not run any more" };
    let cause = change.cause.as_ref().map(|cause| format!(" reason given: {cause:?}")).unwrap_or_default();
    format!(
        "{} {:?}{from} service={} namespace={} {state}{cause}\n{}{more}",
        change.at.clock_time(),
        change.id,
        change.service,
        change.namespace,
        touched.join("\n")
    )
}
