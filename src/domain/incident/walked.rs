//! How far an incident has come on the escalation paths that fitted it so far.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Incident;

/// On one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// Steps that were taken, or passed over.
    pub steps: usize,
    /// Who was called.
    pub who: BTreeSet<String>,
}

impl Incident {
    /// Steps of the path of that name that are behind it.
    pub fn steps_on(&self, path: &str) -> usize {
        match self.walked.get(path) {
            Some(walked) => walked.steps,
            // An older version has called, and did not keep on which path.
            None if self.walked.is_empty() => self.called,
            None => 0,
        }
    }

    /// Whether another path has called them already.
    pub fn called_elsewhere(&self, path: &str, person: &str) -> bool {
        self.walked.iter().any(|(other, walked)| other != path && walked.who.contains(person))
    }
}
