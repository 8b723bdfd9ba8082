//! Who may instruct the watch (S3, S5): the static list of the policy and the user groups that it names.
//!
//! Invariants: the person is the one that the transport proved; a look-up that fails is a refusal; what
//! was looked up counts for a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::desk::{Desk, FlowError};
use crate::domain::id::PersonId;
use crate::ports::{Directory, DirectoryError, Person, Standing};

const COUNTS_FOR: Duration = Duration::from_secs(60);
/// People whose standing is remembered at most.
const MOST_KNOWN: usize = 10_000;

#[derive(Default)]
pub struct Authority {
    directory: Option<Arc<dyn Directory>>,
    groups: Mutex<HashMap<String, (Instant, Vec<PersonId>)>>,
    standings: Mutex<HashMap<PersonId, (Instant, Standing)>>,
}

impl Authority {
    pub fn new(directory: Option<Arc<dyn Directory>>) -> Self {
        Self { directory, ..Self::default() }
    }

    pub fn directory(&self) -> Option<&Arc<dyn Directory>> {
        self.directory.as_ref()
    }

    async fn members(&self, directory: &dyn Directory, group: &str) -> Result<Vec<PersonId>, DirectoryError> {
        // Held over the look-up: fifty clicks at once ask once.
        let mut known = self.groups.lock().await;
        if let Some((at, members)) = known.get(group)
            && at.elapsed() < COUNTS_FOR
        {
            return Ok(members.clone());
        }
        let members = directory.members(group).await?;
        known.insert(group.to_owned(), (Instant::now(), members.clone()));
        Ok(members)
    }

    async fn standing(&self, directory: &dyn Directory, person: &PersonId) -> Result<Standing, DirectoryError> {
        let mut known = self.standings.lock().await;
        if let Some((at, standing)) = known.get(person)
            && at.elapsed() < COUNTS_FOR
        {
            return Ok(*standing);
        }
        let standing = directory.standing(person).await?;
        known.retain(|_, (at, _)| at.elapsed() < COUNTS_FOR);
        if known.len() < MOST_KNOWN {
            known.insert(person.clone(), (Instant::now(), standing));
        }
        Ok(standing)
    }
}

impl Desk {
    /// `Err` says why not, for people and the audit trail.
    pub async fn authority_of(&self, person: &PersonId) -> Result<(), String> {
        let listed = self.policy.names(person.as_str());
        if self.policy.groups.is_empty() {
            return match listed {
                true => Ok(()),
                false => Err(format!("policy.approvers does not name {person}")),
            };
        }
        let team = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
        let ours = self.policy.groups.iter().any(|group| team(group) == team(person.as_str()));
        if !ours {
            // Not of a team that the directory knows: only the list can name such a person.
            return match listed {
                true => Ok(()),
                false => Err(format!("{person} is of a team that neither policy.approvers nor policy.groups names")),
            };
        }
        let Some(directory) = &self.authority.directory else {
            return Err("policy.groups cannot be looked up: no chat with user groups is configured".into());
        };
        let failed = |failure: DirectoryError| {
            warn!(%person, %failure, "refused, because it cannot be looked up");
            format!("whether {person} may cannot be looked up now, so it counts as no ({failure})")
        };
        match self.authority.standing(directory.as_ref(), person).await.map_err(failed)? {
            Standing::Member => {}
            other => return Err(format!("{person} is {}", other.word())),
        }
        if listed {
            return Ok(());
        }
        for group in &self.policy.groups {
            if self.authority.members(directory.as_ref(), group).await.map_err(failed)?.contains(person) {
                return Ok(());
            }
        }
        Err(format!("neither policy.approvers nor a group in policy.groups names {person}"))
    }

    /// Refuses, and keeps in the audit trail that it did.
    pub async fn must_have_authority(&self, by: &Person, what: &str) -> Result<(), FlowError> {
        let Err(because) = self.authority_of(&by.id).await else { return Ok(()) };
        let body = serde_json::json!({"by": by.id, "what": what, "because": because});
        self.audit("instruction.refused", by.id.as_str(), body).await?;
        Err(FlowError::Refused(format!("{} may not {what}: {because}", by.name)))
    }
}
