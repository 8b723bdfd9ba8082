//! What may be named as a cause.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Finding;

/// Names that our own adapters observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub services: BTreeSet<String>,
    pub changes: Vec<String>,
}

impl Known {
    /// A misspelt name is worth a second try: the judge would drop the whole conclusion for it.
    pub(super) fn objection(&self, finding: &Finding) -> Option<String> {
        const SHOWN: usize = 30;
        let list = |names: Vec<&str>| {
            names.into_iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
        };
        let is = |name: &str, known: &str| known.eq_ignore_ascii_case(name.trim());
        if let Some(service) = &finding.service
            && !self.services.is_empty()
            && !self.services.iter().any(|known| is(service, known))
        {
            let names = list(self.services.iter().map(String::as_str).collect());
            return Some(format!("Nothing that was observed is called {service:?}. Services are: {names}."));
        }
        if let Some(change) = &finding.change
            && !self.services.is_empty()
            && !self.changes.iter().any(|known| is(change, known))
        {
            let names = list(self.changes.iter().map(String::as_str).collect());
            let known = if names.is_empty() { "none was observed; use null".to_owned() } else { names };
            return Some(format!("There is no change with the id {change:?}. Ids of changes: {known}."));
        }
        None
    }
}
