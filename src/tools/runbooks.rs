//! What people wrote down for such a case.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Draft, RecallKind, RecallQuery, TellModel, Tool, ToolContext, arguments, schema};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::ports::ToolSchema;

const LIMIT: usize = 4;

pub struct Runbooks;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    query: String,
}

#[async_trait]
impl Tool for Runbooks {
    fn schema(&self) -> ToolSchema {
        schema(
            "search_runbooks",
            "Guidance of this team for such symptoms. Tells where to look; it proves nothing about today.",
            json!({"query": {"type": "string", "description": "symptoms in plain words"}}),
            &["query"],
        )
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let Arguments { query } = arguments(value)?;
        recall(query, RecallKind::Runbook, context).await
    }
}

pub(super) async fn recall(text: String, kind: RecallKind, context: &ToolContext) -> Result<Draft, TellModel> {
    let (evidence, what) = match kind {
        RecallKind::Runbook => (EvidenceKind::Runbook, "runbook sections"),
        RecallKind::PastIncident => (EvidenceKind::PastIncident, "past incidents"),
    };
    let recall = context.recall.as_ref().ok_or_else(|| TellModel("memory is not available now".to_owned()))?;
    let query = RecallQuery { text: text.chars().take(500).collect(), kind, limit: LIMIT };
    let found = recall(query).await.map_err(|why| TellModel(format!("memory is not available now: {why}")))?;
    let sections = found.iter().map(|one| format!("## {} / {} ({})\n{}", one.title, one.heading, one.doc, one.text));
    let summary = match found.first() {
        None => format!("no {what} fit"),
        Some(first) => format!("{} {what}; best: {} / {}", found.len(), first.title, first.heading),
    };
    let body = sections.collect::<Vec<_>>().join("\n\n");
    Ok(Draft {
        kind: evidence,
        source: "memory",
        query: text,
        body: if body.is_empty() { summary.clone() } else { body },
        summary,
        shown: None,
        series: vec![],
        taint: Taint::UserWritable,
        found: !found.is_empty(),
    })
}
