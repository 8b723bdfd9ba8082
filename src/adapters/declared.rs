//! What all tools that people declare in the configuration have in common.

use std::time::Duration;

use crate::domain::evidence::EvidenceKind;
use crate::domain::speciality::Speciality;
use crate::domain::tool_template::{Variable, parameters};
use crate::ports::{Handling, ToolSchema};

/// What the model reads of one answer, in characters.
const SHOWN: usize = 4_000;

pub(super) fn schema(name: &str, description: &str, variables: &[Variable]) -> ToolSchema {
    ToolSchema { name: name.to_owned(), description: description.to_owned(), parameters: parameters(variables) }
}

/// The tool ends itself first, so that its end can be told.
pub(super) fn handling(source: &'static str, timeout_seconds: u64, specialities: &[Speciality]) -> Handling {
    Handling {
        source,
        kind: EvidenceKind::Outside,
        timeout: Duration::from_secs(timeout_seconds + 2),
        shown: SHOWN,
        specialities: specialities.to_vec(),
    }
}
