//! What earlier incidents like this one turned out to be.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::runbooks::recall;
use super::{Draft, RecallKind, TellModel, Tool, ToolContext, arguments, schema};
use crate::ports::ToolSchema;

pub struct PastIncidents;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    query: String,
}

#[async_trait]
impl Tool for PastIncidents {
    fn schema(&self) -> ToolSchema {
        schema(
            "search_past_incidents",
            "Reviews of earlier incidents: cause, what helped. A likeness is a hypothesis to test, not evidence.",
            json!({"query": {"type": "string", "description": "symptoms in plain words"}}),
            &["query"],
        )
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let Arguments { query } = arguments(value)?;
        recall(query, RecallKind::PastIncident, context).await
    }
}
