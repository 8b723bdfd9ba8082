//! Points as both backends keep them, and the questions both can answer.

use qdrant_edge::external::uuid::Uuid;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::memory::chunk::{Chunk, Kind, Tenant, Trust};

/// Names of the vectors. A point has a dense one and one of the two sparse ones: how rare a word is
/// counts within a sparse vector of one name, and votes must not change how rare words are among
/// the documents.
pub(crate) const DENSE: &str = "dense";
pub(crate) const BM25: &str = "bm25";
pub(crate) const ASKED: &str = "asked";

/// What a cosine weighs beside the sparse score when both are added up. A weighted sum of scores
/// orders better than ranks do once its one weight has been tuned; Bruch, Gai and Ingber, "An
/// Analysis of Fusion Functions for Hybrid Retrieval" (TOIS 2023). Tuned on questions in people's words.
pub(crate) const MEANING: f32 = 2.0;

/// Payload fields that filters use, so that both backends index them.
pub(crate) const INDEXED: [&str; 8] =
    ["level", "kind", "doc", "alerts", "tenant.cluster", "tenant.team", "trust", "author"];

/// A document is found by its whole as well as by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Chunk,
    Document,
    /// A vote: the question that was asked when it was given, see `ballot`.
    Ballot,
}

impl Level {
    /// The sparse vector that its points have.
    pub fn words(self) -> &'static str {
        match self {
            Self::Chunk | Self::Document => BM25,
            Self::Ballot => ASKED,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Document => "document",
            Self::Ballot => "ballot",
        }
    }
}

/// The payload of a point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(flatten)]
    pub chunk: Chunk,
    pub level: Level,
    /// Place within the document, from 0; 0 for the document itself.
    pub part: usize,
    /// Of what the document was made of: equal when it need not be indexed again.
    pub digest: String,
    /// The model that made the dense vector.
    pub embedder: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub id: Uuid,
    pub dense: Vec<f32>,
    pub words: Words,
    pub stored: Stored,
}

/// A BM25 vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Words {
    pub indices: Vec<u32>,
    pub values: Vec<f32>,
}

/// A point that a backend found.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub id: Uuid,
    /// The sparse score and `MEANING` times the cosine. Scores of one question can be compared.
    pub fused: f32,
    pub dense: Vec<f32>,
    /// The words and concepts that the point holds.
    pub words: Vec<u32>,
    pub stored: Stored,
}

/// The same document, heading and part is the same point, whenever and wherever it is indexed.
pub(crate) fn stable_id(tenant: &Tenant, doc: &str, level: Level, heading: &str, nth: usize) -> Uuid {
    let mut hasher = Sha256::new();
    for part in [&tenant.cluster, &tenant.team, doc, level.as_str(), heading, &nth.to_string()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hasher.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    Uuid::from_bytes(bytes)
}

/// Which points.
#[derive(Debug, Clone, Default)]
pub(crate) struct Select {
    /// Any of them; all documents when empty.
    pub docs: Vec<String>,
    /// Exactly theirs, for writing.
    pub owner: Option<Tenant>,
    /// Any of them; all when empty.
    pub levels: Vec<Level>,
    /// Any of them; all kinds when empty.
    pub kinds: Vec<&'static str>,
    /// Any of them; not asked for when empty.
    pub alerts: Vec<String>,
    /// Theirs and everyone's, for reading.
    pub reader: Option<Tenant>,
    /// Any of them; however far trusted when empty.
    pub trusts: Vec<&'static str>,
    pub except: Vec<Uuid>,
    /// Authors who have been heard.
    pub silenced: Vec<String>,
}

impl Select {
    pub fn documents(owner: &Tenant, docs: Vec<String>) -> Self {
        Self { docs, owner: Some(owner.clone()), ..Self::default() }
    }

    pub fn document(owner: &Tenant, doc: &str) -> Self {
        Self::documents(owner, vec![doc.to_owned()])
    }

    pub fn visible_to(tenant: &Tenant, kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().map(|kind| kind.as_str()).collect();
        Self { reader: Some(tenant.clone()), kinds, ..Self::default() }
    }

    pub fn at(self, level: Level) -> Self {
        Self { levels: vec![level], ..self }
    }

    /// What a document is made of, without the votes on it.
    pub fn written(self) -> Self {
        Self { levels: vec![Level::Chunk, Level::Document], ..self }
    }

    pub fn trusted(self) -> Self {
        Self { trusts: vec![Trust::Curated.as_str(), Trust::Verified.as_str()], ..self }
    }

    pub fn naming(self, alerts: &[String]) -> Self {
        Self { alerts: alerts.to_vec(), ..self }
    }

    pub fn except(self, except: Vec<Uuid>) -> Self {
        Self { except, ..self }
    }

    /// The sparse vector to compare words with.
    pub fn words(&self) -> &'static str {
        self.levels.first().map_or(BM25, |level| level.words())
    }

    /// Field and accepted values; all of them must hold.
    pub fn matches(&self) -> Vec<(&'static str, Vec<String>)> {
        let mut matches = Vec::new();
        if !self.levels.is_empty() {
            matches.push(("level", self.levels.iter().map(|level| level.as_str().to_owned()).collect()));
        }
        if !self.docs.is_empty() {
            matches.push(("doc", self.docs.clone()));
        }
        if !self.kinds.is_empty() {
            matches.push(("kind", self.kinds.iter().map(|kind| (*kind).to_owned()).collect()));
        }
        if !self.trusts.is_empty() {
            matches.push(("trust", self.trusts.iter().map(|trust| (*trust).to_owned()).collect()));
        }
        if !self.alerts.is_empty() {
            matches.push(("alerts", self.alerts.clone()));
        }
        if let Some(owner) = &self.owner {
            matches.push(("tenant.cluster", vec![owner.cluster.clone()]));
            matches.push(("tenant.team", vec![owner.team.clone()]));
        }
        if let Some(tenant) = &self.reader {
            // The empty name is everyone's.
            matches.push(("tenant.cluster", vec![String::new(), tenant.cluster.clone()]));
            matches.push(("tenant.team", vec![String::new(), tenant.team.clone()]));
        }
        matches
    }

    /// Qdrant's filter as JSON, which is the same in process and on the server's REST side.
    pub fn to_json(&self) -> Value {
        let must: Vec<Value> =
            self.matches().into_iter().map(|(key, any)| json!({ "key": key, "match": { "any": any } })).collect();
        let mut must_not = Vec::new();
        if !self.except.is_empty() {
            must_not.push(json!({ "has_id": self.except }));
        }
        if !self.silenced.is_empty() {
            must_not.push(json!({ "key": "author", "match": { "any": self.silenced } }));
        }
        json!({ "must": must, "must_not": must_not })
    }
}

/// Position of each word's vector index, for telling people which words two texts share.
pub(crate) type WordIndex = FxHashMap<u32, String>;
