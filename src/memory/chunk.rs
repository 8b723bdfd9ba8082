//! What is kept: pieces of documents, with where they come from and how far they are trusted.

use serde::{Deserialize, Serialize};

use crate::domain::id::IncidentId;
use crate::domain::time::Timestamp;

/// A piece of a document under one heading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    pub kind: Kind,
    /// Names the document: a runbook's path, an incident's post-mortem, a note's id.
    pub doc: String,
    pub title: String,
    pub heading: String,
    /// What the document is about (symptoms, alert names), indexed with every chunk of it.
    #[serde(default)]
    pub about: String,
    pub text: String,
    /// Names of alerts that the document answers.
    #[serde(default)]
    pub alerts: Vec<String>,
    /// What the document advises to do, in the verbs of `RunbookAction`.
    #[serde(default)]
    pub advises: Vec<String>,
    pub tenant: Tenant,
    pub service: Option<String>,
    pub incident: Option<IncidentId>,
    pub author: String,
    pub trust: Trust,
    /// Ups minus downs, each voter once, for people to see; kept by the memory, ignored when a known
    /// document is remembered again. Ranks are moved by the votes themselves, see `ballot`.
    #[serde(default)]
    pub votes: i64,
    /// When it was written or last reviewed.
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Runbook,
    PostMortem,
    Note,
}

/// How far a text may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Written and reviewed by the owners, in version control.
    Curated,
    /// Came in through chat or a model; nobody has looked at it.
    Quarantined,
    /// Came in the same way; a person has confirmed it.
    Verified,
}

/// Whose knowledge it is. An empty name means every cluster, or every team.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Tenant {
    pub cluster: String,
    pub team: String,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runbook => "runbook",
            Self::PostMortem => "post_mortem",
            Self::Note => "note",
        }
    }
}

impl Trust {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Curated => "curated",
            Self::Quarantined => "quarantined",
            Self::Verified => "verified",
        }
    }
}

impl Tenant {
    pub fn everyone() -> Self {
        Self::default()
    }

    pub fn new(cluster: impl Into<String>, team: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), team: team.into() }
    }
}

/// Groups chunks by owner and document, all in the order in which they came.
pub(crate) fn by_document(chunks: Vec<Chunk>) -> Vec<(Tenant, Vec<Vec<Chunk>>)> {
    let mut owners: Vec<(Tenant, Vec<Vec<Chunk>>)> = Vec::new();
    for chunk in chunks {
        let at = owners.iter().position(|(owner, _)| *owner == chunk.tenant).unwrap_or_else(|| {
            owners.push((chunk.tenant.clone(), Vec::new()));
            owners.len() - 1
        });
        let Some((_, documents)) = owners.get_mut(at) else { continue };
        match documents.iter_mut().rev().find(|group| group.first().is_some_and(|first| first.doc == chunk.doc)) {
            Some(group) => group.push(chunk),
            None => documents.push(vec![chunk]),
        }
    }
    owners
}
