//! From text to vectors: dense ones by the embedder, BM25 ones by ourselves, for both backends.

use std::collections::HashMap;
use std::sync::Arc;

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;

use crate::domain::id::Digest;
use crate::memory::MemoryError;
use crate::memory::chunk::Chunk;
use crate::memory::point::{Level, Point, Stored, WordIndex, Words, stable_id};
use crate::memory::rank::Query;
use crate::ports::{EmbedError, Embedder};

/// Tokens that BM25 takes as the usual length, after stop words.
const CHUNK_TOKENS: f64 = 120.0;
const DOCUMENT_TOKENS: f64 = 480.0;

/// Beyond this a question is a log dump; its head says what it is about.
const QUESTION_CHARS: usize = 4_000;

pub(crate) struct Indexer {
    embedder: Arc<dyn Embedder>,
    chunk_words: EdgeBm25,
    document_words: EdgeBm25,
}

/// A query in the form in which backends are asked.
pub(crate) struct Question {
    pub dense: Vec<f32>,
    pub words: Words,
    pub spelled: WordIndex,
}

impl Indexer {
    pub fn new(embedder: Arc<dyn Embedder>) -> Result<Self, MemoryError> {
        Ok(Self { embedder, chunk_words: bm25(CHUNK_TOKENS)?, document_words: bm25(DOCUMENT_TOKENS)? })
    }

    pub fn embedder(&self) -> &dyn Embedder {
        self.embedder.as_ref()
    }

    /// The points of one document: the document itself and its chunks.
    pub fn points(&self, group: Vec<Chunk>) -> Result<Vec<Point>, EmbedError> {
        let digest = digest_of(&group);
        let mut texts: Vec<String> = group.iter().map(chunk_text).collect();
        texts.push(document_text(&group));
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = self.embedder.embed(&borrowed)?;
        let document =
            group.first().cloned().map(|first| Chunk { heading: String::new(), text: String::new(), ..first });

        let mut same_heading: HashMap<String, usize> = HashMap::new();
        let mut points = Vec::with_capacity(texts.len());
        let chunks = group.into_iter().map(|chunk| (chunk, Level::Chunk));
        let levels = chunks.chain(document.map(|document| (document, Level::Document)));
        for (part, ((chunk, level), (text, dense))) in levels.zip(texts.iter().zip(vectors)).enumerate() {
            let (words, nth) = match level {
                Level::Chunk => {
                    let nth = same_heading.entry(chunk.heading.clone()).or_default();
                    *nth += 1;
                    (&self.chunk_words, *nth)
                }
                Level::Document => (&self.document_words, 0),
            };
            let sparse = words.embed_document(text);
            points.push(Point {
                id: stable_id(&chunk.tenant, &chunk.doc, level, &chunk.heading, nth),
                dense,
                words: Words { indices: sparse.indices, values: sparse.values },
                stored: Stored {
                    chunk,
                    level,
                    part,
                    digest: digest.clone(),
                    embedder: self.embedder.name().to_owned(),
                },
            });
        }
        Ok(points)
    }

    pub fn question(&self, query: &Query) -> Result<Question, EmbedError> {
        let text: String = query.spoken().chars().take(QUESTION_CHARS).collect();
        let dense = self.embedder.embed(&[&text])?.pop().unwrap_or_default();
        let sparse = self.chunk_words.embed_query(&text);
        let mut spelled = WordIndex::new();
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            for index in self.chunk_words.embed_query(word).indices {
                spelled.entry(index).or_insert_with(|| word.to_lowercase());
            }
        }
        Ok(Question { dense, words: Words { indices: sparse.indices, values: sparse.values }, spelled })
    }
}

/// Changes when anything that is indexed or shown of the document changes; votes are not part of it.
pub(crate) fn digest_of(group: &[Chunk]) -> String {
    let unvoted: Vec<Chunk> = group.iter().map(|chunk| Chunk { votes: 0, ..chunk.clone() }).collect();
    Digest::of_json(&unvoted).as_str().to_owned()
}

fn chunk_text(chunk: &Chunk) -> String {
    format!("{}\n{}\n{}\n{}", chunk.title, chunk.about, chunk.heading, chunk.text)
}

fn document_text(group: &[Chunk]) -> String {
    let mut text = group.first().map(|first| format!("{}\n{}", first.title, first.about)).unwrap_or_default();
    for chunk in group {
        text.push('\n');
        text.push_str(&chunk.heading);
        text.push('\n');
        text.push_str(&chunk.text);
    }
    text
}

fn bm25(usual_length: f64) -> Result<EdgeBm25, MemoryError> {
    let unfit = |error: &dyn std::fmt::Display| MemoryError::Store(format!("BM25: {error}"));
    let avg_len = NotNan::new(usual_length).map_err(|error| unfit(&error))?;
    EdgeBm25::new(EdgeBm25Config { avg_len, ..EdgeBm25Config::default() }).map_err(|error| unfit(&error))
}
