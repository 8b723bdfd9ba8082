//! A tool that the configuration brings, in the tool box: its answers are treated like all others.

use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

use super::{Draft, TellModel, Terms, Tool, ToolContext};
use crate::ports::{Instrument, InstrumentError, ToolSchema};

pub struct Outside(pub Arc<dyn Instrument>);

impl From<InstrumentError> for TellModel {
    fn from(error: InstrumentError) -> Self {
        Self(error.to_string())
    }
}

#[async_trait]
impl Tool for Outside {
    fn schema(&self) -> ToolSchema {
        self.0.schema()
    }

    fn terms(&self) -> Terms {
        let handling = self.0.handling();
        Terms {
            timeout: handling.timeout,
            shown: handling.shown,
            specialities: handling.specialities,
            ..Terms::default()
        }
    }

    async fn call(&self, value: Value, _context: &ToolContext) -> Result<Draft, TellModel> {
        let handling = self.0.handling();
        let seen = self.0.ask(value).await?;
        // As the looks into databases say it.
        let found = !matches!(seen.body.trim(), "" | "no rows");
        Ok(Draft {
            kind: handling.kind,
            source: handling.source,
            query: seen.query,
            summary: seen.summary,
            body: seen.body,
            shown: None,
            series: vec![],
            taint: seen.taint,
            found,
        })
    }
}
