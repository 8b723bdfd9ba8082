//! What the watch remembers: runbooks, post-mortems and notes, found by meaning and by words.
//!
//! Invariants: a document is replaced as a whole; every chunk carries its tenant, its author and
//! how far it is trusted; votes move a rank within bounds, for questions like the one that they were
//! given for, and never lift what nobody has verified above what was curated; every recalled chunk
//! says why it was recalled.
//!
//! Two backends hold the same points: Qdrant in this process (`Edge`, also the test double) and a
//! Qdrant server. What is asked and how answers are ranked is the same code for both.

mod ballot;
mod chunk;
mod edge;
mod index;
mod lexicon;
mod library;
mod page;
mod point;
mod rank;
mod server;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use ballot::Vote;
pub use chunk::{Chunk, Kind, Tenant, Trust};
pub use library::{Loaded, Reading};
pub use rank::{Query, Recalled};
pub use server::greet;

use crate::memory::edge::Edge;
use crate::memory::index::Indexer;
use crate::memory::point::{Level, Point, Select, Stored};
use crate::memory::server::Server;
use crate::ports::{EmbedError, Embedder};

/// How many points each of the rankings hands to the fusion.
const CANDIDATES: usize = 50;

/// Below this a past incident is another story; see `rank::relevance` for the scale.
const SIMILAR_ENOUGH: f32 = 0.5;

pub enum Memory {
    Edge(Edge),
    Server(Box<Server>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryConfig {
    /// In this process, in a folder that no other process may use at the same time.
    Edge { dir: PathBuf },
    /// A Qdrant server over gRPC (port 6334 by default).
    Server { url: String, api_key: Option<String>, collection: String },
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("memory.dir: {} is in use by another process; stop it, or give this one a folder of its own", .dir.display())]
    Held { dir: PathBuf },
    #[error("memory.dir: {}: {problem}", .dir.display())]
    Folder { dir: PathBuf, problem: String },
    /// Worth trying again later; the watch goes on without memory meanwhile.
    #[error("memory unavailable: {0}")]
    Unavailable(String),
    /// Will never work as it is configured.
    #[error("refused by the memory server: {0}")]
    Refused(String),
    #[error(
        "memory.collection: {collection} was filled by {found}, but memory.embedder is {wanted}; \
         name a new collection, or go back to the former embedder"
    )]
    OtherEmbedder { collection: String, found: String, wanted: String },
    #[error("the vector store failed: {0}")]
    Store(String),
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

impl MemoryError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Held { .. }
            | Self::Folder { .. }
            | Self::Refused(_)
            | Self::OtherEmbedder { .. }
            | Self::Store(_)
            | Self::Embed(_) => false,
        }
    }
}

impl Memory {
    /// Opens or creates. A folder that another embedder has filled is indexed anew. A server that
    /// does not answer is no error here: it is asked again with each call.
    pub async fn open(config: &MemoryConfig, embedder: Arc<dyn Embedder>) -> Result<Self, MemoryError> {
        let indexer = Arc::new(Indexer::new(embedder)?);
        match config {
            MemoryConfig::Edge { dir } => Ok(Self::Edge(Edge::open(dir.clone(), indexer).await?)),
            MemoryConfig::Server { url, api_key, collection } => {
                let server = Server::connect(url, api_key.as_deref(), collection, indexer)?;
                match server.ensure_collection().await {
                    Err(error) if error.is_passing() => {
                        tracing::warn!(url, %error, "memory server does not answer; going on without memory");
                    }
                    other => other?,
                }
                Ok(Self::Server(Box::new(server)))
            }
        }
    }

    /// Keeps the chunks. They replace whatever was kept of the documents they belong to, except
    /// for the votes, which stay. Doing it again changes nothing.
    pub async fn remember(&self, chunks: Vec<Chunk>) -> Result<(), MemoryError> {
        let _turn = self.turn().lock().await;
        for (owner, mut documents) in chunk::by_document(chunks) {
            let docs = documents.iter().filter_map(|group| Some(group.first()?.doc.clone())).collect();
            let kept = Select::documents(&owner, docs).written();
            let known = self.scroll(kept.clone().at(Level::Document)).await?;
            let votes: HashMap<&str, i64> =
                known.iter().map(|stored| (stored.chunk.doc.as_str(), stored.chunk.votes)).collect();
            for chunk in documents.iter_mut().flatten() {
                chunk.votes = votes.get(chunk.doc.as_str()).copied().unwrap_or(chunk.votes);
            }
            let points = self.points_of(documents).await?;
            let stale = kept.except(points.iter().map(|point| point.id).collect());
            // New points first: a crash in between leaves too much, never too little.
            self.upsert(points).await?;
            if !known.is_empty() {
                self.delete(stale).await?;
            }
        }
        Ok(())
    }

    /// Purges a document with everything that was kept of it.
    pub async fn forget(&self, owner: &Tenant, doc: &str) -> Result<(), MemoryError> {
        let _turn = self.turn().lock().await;
        self.delete(Select::document(owner, doc)).await
    }

    /// The chunks that answer best: two of the best document, one of each other while others are left.
    pub async fn recall(&self, query: Query) -> Result<Vec<Recalled>, MemoryError> {
        let limit = query.limit;
        Ok(rank::pick(self.ranked(query).await?, limit))
    }

    /// The documents that answer best, each with its best chunk.
    pub async fn recall_documents(&self, query: Query) -> Result<Vec<Recalled>, MemoryError> {
        let limit = query.limit;
        Ok(rank::one_a_document(self.ranked(query).await?, limit))
    }

    /// Past incidents that resemble the question; none when none does.
    pub async fn similar_incidents(&self, query: Query) -> Result<Vec<Recalled>, MemoryError> {
        let mut similar = self.recall_documents(Query { kinds: vec![Kind::PostMortem], ..query }).await?;
        similar.retain(|recalled| recalled.relevance >= SIMILAR_ENOUGH);
        Ok(similar)
    }

    /// Keeps a vote on a document; `false` when there is no such document to vote on (yet).
    pub async fn vote(&self, owner: &Tenant, doc: &str, vote: Vote) -> Result<bool, MemoryError> {
        let _turn = self.turn().lock().await;
        let select = Select::document(owner, doc);
        let kept = self.scroll(select.clone().at(Level::Document)).await?;
        let Some(stored) = kept.into_iter().next() else { return Ok(false) };
        let shown = stored.chunk.votes;
        let ballot = Chunk {
            title: String::new(),
            heading: format!("{}: {}", vote.by, vote.occasion),
            about: String::new(),
            text: vote.asked,
            alerts: Vec::new(),
            advises: Vec::new(),
            author: vote.by,
            trust: vote.trust,
            at: vote.at,
            votes: if vote.helpful { 1 } else { -1 },
            ..stored.chunk
        };
        let indexer = self.indexer().clone();
        let point = blocking(move || Ok(indexer.ballot(ballot)?)).await?;
        self.upsert(vec![point]).await?;
        let ballots = self.scroll(select.clone().at(Level::Ballot)).await?;
        let votes = ballot::net(ballots.iter().map(|stored| &stored.chunk));
        if votes != shown {
            self.set_payload(select.written(), serde_json::json!({ "votes": votes })).await?;
        }
        Ok(true)
    }

    /// A person has looked at a document: lifts it out of quarantine, or puts it there.
    pub async fn set_trust(&self, owner: &Tenant, doc: &str, trust: Trust) -> Result<(), MemoryError> {
        self.set_payload(Select::document(owner, doc).written(), serde_json::json!({ "trust": trust })).await
    }

    /// Everything that is kept of a document, in its order.
    pub async fn document(&self, owner: &Tenant, doc: &str) -> Result<Vec<Chunk>, MemoryError> {
        let mut stored = self.scroll(Select::document(owner, doc).at(Level::Chunk)).await?;
        stored.sort_by_key(|stored| stored.part);
        Ok(stored.into_iter().map(|stored| stored.chunk).collect())
    }

    /// Indexes what was written since the last time, so that questions stay fast however much there
    /// is. Takes seconds for ten thousands of chunks; a server does it by itself.
    pub async fn settle(&self) -> Result<(), MemoryError> {
        match self {
            Self::Edge(edge) => edge.settle().await,
            Self::Server(_) => Ok(()),
        }
    }

    /// Brings the memory in line with a folder of runbooks; only changed ones are indexed.
    pub async fn load_runbooks(&self, dir: &Path, tenant: &Tenant) -> Result<Loaded, MemoryError> {
        library::load(self, dir, tenant, Reading::Runbooks).await
    }

    /// The same for any Markdown: what is no runbook of ours is read as a page.
    pub async fn load_pages(&self, dir: &Path, tenant: &Tenant) -> Result<Loaded, MemoryError> {
        library::load(self, dir, tenant, Reading::Pages).await
    }

    async fn ranked(&self, query: Query) -> Result<Vec<Recalled>, MemoryError> {
        let (query, asked, found) = match self {
            Self::Edge(edge) => edge.gather(query).await?,
            Self::Server(server) => Box::pin(server.gather(query)).await?,
        };
        Ok(rank::rank(&query, &asked, found))
    }

    async fn points_of(&self, documents: Vec<Vec<Chunk>>) -> Result<Vec<Point>, MemoryError> {
        let indexer = self.indexer().clone();
        blocking(move || Ok(indexer.points_of_all(documents)?)).await
    }

    /// Writers of this process take turns, so that what one has read is still so when it writes.
    fn turn(&self) -> &tokio::sync::Mutex<()> {
        match self {
            Self::Edge(edge) => edge.turn(),
            Self::Server(server) => server.turn(),
        }
    }

    fn indexer(&self) -> &Arc<Indexer> {
        match self {
            Self::Edge(edge) => edge.indexer(),
            Self::Server(server) => server.indexer(),
        }
    }

    async fn upsert(&self, points: Vec<Point>) -> Result<(), MemoryError> {
        match self {
            Self::Edge(edge) => edge.upsert(points).await,
            Self::Server(server) => server.upsert(points).await,
        }
    }

    async fn delete(&self, select: Select) -> Result<(), MemoryError> {
        match self {
            Self::Edge(edge) => edge.delete(select).await,
            Self::Server(server) => server.delete(select).await,
        }
    }

    async fn set_payload(&self, select: Select, fields: serde_json::Value) -> Result<(), MemoryError> {
        match self {
            Self::Edge(edge) => edge.set_payload(select, fields).await,
            Self::Server(server) => server.set_payload(select, fields).await,
        }
    }

    async fn scroll(&self, select: Select) -> Result<Vec<Stored>, MemoryError> {
        match self {
            Self::Edge(edge) => edge.scroll(select).await,
            Self::Server(server) => server.scroll(select).await,
        }
    }
}

/// CPU and disk work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static,
) -> Result<T, MemoryError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| Err(MemoryError::Store(format!("the work was broken off: {stopped}"))))
}
