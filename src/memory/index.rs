//! From text to vectors: dense ones by the embedder, sparse ones by ourselves, for both backends.
//!
//! A sparse vector holds a text's words and the concepts that they name (see `lexicon`), both
//! weighted as in BM25; the backend multiplies by how rare they are.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use qdrant_edge::bm25_embed::{EdgeBm25, EdgeBm25Config};
use qdrant_edge::external::ordered_float::NotNan;
use rustc_hash::FxHashMap;

use crate::domain::id::Digest;
use crate::memory::MemoryError;
use crate::memory::chunk::Chunk;
use crate::memory::lexicon::{self, split_names};
use crate::memory::point::{Level, Point, Stored, WordIndex, Words, stable_id};
use crate::memory::rank::Query;
use crate::ports::{EmbedError, Embedder};

/// What BM25 takes as the usual length: words after stop words, and concepts.
const CHUNK: Usual = Usual { words: 70.0, concepts: 35.0 };
const DOCUMENT: Usual = Usual { words: 150.0, concepts: 75.0 };

/// Okapi BM25's usual constants; Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009).
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// A new one means that everything is indexed anew, whatever the texts say.
const READING: u32 = 2;

/// Documents that are worth a thread of their own.
const SHARE: usize = 16;

/// Beyond this a question is a log dump; its head says what it is about.
const QUESTION_CHARS: usize = 4_000;

pub(crate) struct Indexer {
    embedder: Arc<dyn Embedder>,
    chunk_words: EdgeBm25,
    document_words: EdgeBm25,
}

struct Usual {
    words: f64,
    concepts: f32,
}

/// A query in the form in which backends are asked.
pub(crate) struct Question {
    pub dense: Vec<f32>,
    pub words: Words,
    pub spelled: WordIndex,
    /// The concepts that it names, by id.
    pub concepts: FxHashMap<u32, &'static str>,
}

impl Indexer {
    pub fn new(embedder: Arc<dyn Embedder>) -> Result<Self, MemoryError> {
        Ok(Self { embedder, chunk_words: bm25(CHUNK.words)?, document_words: bm25(DOCUMENT.words)? })
    }

    pub fn embedder(&self) -> &dyn Embedder {
        self.embedder.as_ref()
    }

    /// The points of several documents, in their order.
    pub fn points_of_all(&self, mut documents: Vec<Vec<Chunk>>) -> Result<Vec<Point>, EmbedError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let share = documents.len().div_ceil(cores).max(SHARE);
        let one_share = |documents: Vec<Vec<Chunk>>| -> Result<Vec<Point>, EmbedError> {
            let points = documents.into_iter().map(|group| self.points(group)).collect::<Result<Vec<_>, _>>()?;
            Ok(points.into_iter().flatten().collect())
        };
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            while documents.len() > share {
                let last = documents.split_off(documents.len() - share);
                others.push(scope.spawn(move || one_share(last)));
            }
            let mut points = one_share(documents)?;
            for other in others.into_iter().rev() {
                points.extend(other.join().unwrap_or_else(|_| Err(self.broken_off()))?);
            }
            Ok(points)
        })
    }

    fn broken_off(&self) -> EmbedError {
        EmbedError::Failed { model: self.embedder.name().to_owned(), problem: "the work was broken off".into() }
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
                Level::Chunk | Level::Ballot => {
                    let nth = same_heading.entry(chunk.heading.clone()).or_default();
                    *nth += 1;
                    (self.sparse(text, Level::Chunk), *nth)
                }
                Level::Document => (self.sparse(text, Level::Document), 0),
            };
            points.push(Point {
                id: stable_id(&chunk.tenant, &chunk.doc, level, &chunk.heading, nth),
                dense,
                words,
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

    /// What a vote was given for: found again by questions like the one that was asked then.
    pub fn ballot(&self, ballot: Chunk) -> Result<Point, EmbedError> {
        let text: String = ballot.text.chars().take(QUESTION_CHARS).collect();
        let dense = self.embedder.embed(&[&text])?.pop().unwrap_or_default();
        Ok(Point {
            id: stable_id(&ballot.tenant, &ballot.doc, Level::Ballot, &ballot.heading, 0),
            dense,
            words: self.sparse(&text, Level::Ballot),
            stored: Stored {
                chunk: ballot,
                level: Level::Ballot,
                part: 0,
                digest: String::new(),
                embedder: self.embedder.name().to_owned(),
            },
        })
    }

    pub fn question(&self, query: &Query) -> Result<Question, EmbedError> {
        let text: String = query.spoken().chars().take(QUESTION_CHARS).collect();
        let dense = self.embedder.embed(&[&text])?.pop().unwrap_or_default();
        let split = split_names(&text);
        let mut sparse = self.chunk_words.embed_query(&split);
        let mut spelled = WordIndex::default();
        for word in split.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            for index in self.chunk_words.embed_query(word).indices {
                spelled.entry(index).or_insert_with(|| word.to_lowercase());
            }
        }
        // Words and concepts speak with one voice each, however many they are.
        let share = 1.0 / sparse.indices.len().max(1) as f32;
        sparse.values.iter_mut().for_each(|value| *value *= share);
        let concepts = lexicon::named(&text);
        for named in &concepts {
            sparse.indices.push(named.concept.id());
            sparse.values.push(named.weight / concepts.len() as f32);
        }
        Ok(Question {
            dense,
            words: Words { indices: sparse.indices, values: sparse.values },
            spelled,
            concepts: concepts.iter().map(|named| (named.concept.id(), named.concept.name())).collect(),
        })
    }

    fn sparse(&self, text: &str, level: Level) -> Words {
        let (bm25, usual) = match level {
            Level::Chunk | Level::Ballot => (&self.chunk_words, CHUNK.concepts),
            Level::Document => (&self.document_words, DOCUMENT.concepts),
        };
        let sparse = bm25.embed_document(&split_names(text));
        let mut words = Words { indices: sparse.indices, values: sparse.values };
        let concepts = lexicon::concepts(text);
        let length = concepts.len() as f32;
        let mut counted: BTreeMap<u32, f32> = BTreeMap::new();
        for concept in concepts {
            *counted.entry(concept.id()).or_default() += 1.0;
        }
        for (id, times) in counted {
            words.indices.push(id);
            words.values.push(times * (K1 + 1.0) / (times + K1 * (1.0 - B + B * length / usual)));
        }
        words
    }
}

/// Changes when anything that is indexed or shown of the document changes, and when texts are read
/// in another way; votes are not part of it.
pub(crate) fn digest_of(group: &[Chunk]) -> String {
    let unvoted: Vec<Chunk> = group.iter().map(|chunk| Chunk { votes: 0, ..chunk.clone() }).collect();
    Digest::of_json(&(READING, lexicon::version(), unvoted)).as_str().to_owned()
}

/// How texts are read: another number means that the vectors must be made anew.
pub(crate) fn reading() -> u32 {
    READING ^ lexicon::version()
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
