//! `midwatch eval retrieval`: how often the memory finds the document that answers a question.
//!
//! Invariant: what is measured is the product's own memory, from the files to the order of the
//! answers; only the plain BM25 beside it lives here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EvalError;
use crate::memory::{Memory, MemoryConfig, Query, Tenant};
use crate::ports::Embedder;

/// Okapi BM25 as in Lucene and most papers.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// A percentile of few answers says little, so questions are asked again until there are enough of
/// them, or until this much time has gone.
const TIMED: usize = 1_000;
const TIME: Duration = Duration::from_secs(10);

/// How many documents of an answer are looked at.
const DEPTH: usize = 100;

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Case {
    #[serde(default)]
    pub id: Value,
    pub text: String,
    /// Paths relative to the folder of documents; any of them is right.
    pub relevant: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    /// Share of questions whose first answer is right, and of those with a right one among five.
    pub r1: f64,
    pub r5: f64,
    /// Mean of 1 / place of the first right answer, 0 where there is none among a hundred.
    pub mrr: f64,
    /// From the question's text to the answer, its embedding included.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Reading, embedding and indexing all documents.
    pub index_s: f64,
    pub bm25_r1: f64,
    pub bm25_r5: f64,
    pub bm25_mrr: f64,
    pub asked: usize,
    pub documents: usize,
    pub embedder: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Answer>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub id: Value,
    pub text: String,
    /// Place of the first right document, from 1.
    pub place: Option<usize>,
    pub bm25_place: Option<usize>,
    /// The first five, best first.
    pub found: Vec<String>,
    /// Why the first one is there.
    pub why: String,
    pub relevant: Vec<String>,
}

/// A folder of documents and the questions about it.
#[derive(Debug)]
pub struct Library {
    docs: PathBuf,
    /// By path relative to the folder.
    texts: BTreeMap<String, String>,
    cases: Vec<Case>,
}

/// Reads both; every path that a question names must be among the documents.
pub fn load(docs: &Path, queries: &Path) -> Result<Library, EvalError> {
    let mut texts = BTreeMap::new();
    read_folder(docs, docs, &mut texts)?;
    if texts.is_empty() {
        return Err(EvalError::file(docs, "no *.md file in this folder"));
    }
    let mut cases = Vec::new();
    // Editors on Windows begin a file with a byte-order mark.
    for (number, line) in super::read(queries)?.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |reason: String| EvalError::line(queries, number as u64 + 1, reason);
        let mut case: Case = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if case.text.trim().is_empty() {
            return Err(wrong("`text` is empty".into()));
        }
        if case.relevant.is_empty() {
            return Err(wrong("`relevant` names no document".into()));
        }
        for path in &mut case.relevant {
            let plain = path.trim_start_matches("./").to_owned();
            if !texts.contains_key(&plain) {
                return Err(wrong(format!("relevant: {path} is not a document in {}", docs.display())));
            }
            *path = plain;
        }
        if case.id.is_null() {
            case.id = Value::from((number + 1).to_string());
        }
        cases.push(case);
    }
    if cases.is_empty() {
        return Err(EvalError::file(queries, "no questions"));
    }
    Ok(Library { docs: docs.to_owned(), texts, cases })
}

fn read_folder(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) -> Result<(), EvalError> {
    for entry in std::fs::read_dir(folder).map_err(|failure| EvalError::file(folder, failure))? {
        let path = entry.map_err(|failure| EvalError::file(folder, failure))?.path();
        if path.is_dir() {
            read_folder(root, &path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            texts.insert(name, super::read(&path)?);
        }
    }
    Ok(())
}

/// Indexes the documents in a fresh memory and asks every question.
pub async fn run(library: &Library, embedder: Arc<dyn Embedder>) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let name = embedder.name().to_owned();
    let memory = Memory::open(&MemoryConfig::Edge { dir: folder.path().join("memory") }, embedder).await?;
    let began = Instant::now();
    memory.load_pages(&library.docs, &Tenant::everyone()).await?;
    let index_s = began.elapsed().as_secs_f64();

    let plain = Bm25::of(&library.texts);
    let mut answers = Vec::with_capacity(library.cases.len());
    for case in &library.cases {
        let found = memory.recall_documents(question(&case.text)).await?;
        let docs: Vec<String> = found.iter().map(|one| one.chunk.doc.clone()).collect();
        answers.push(Answer {
            id: case.id.clone(),
            text: case.text.clone(),
            place: place(&docs, &case.relevant),
            bm25_place: place(&plain.order(&case.text), &case.relevant),
            found: docs.into_iter().take(5).collect(),
            why: found.into_iter().next().map(|one| one.why).unwrap_or_default(),
            relevant: case.relevant.clone(),
        });
    }

    let mut ms = Vec::new();
    let began = Instant::now();
    while ms.len() < TIMED && began.elapsed() < TIME {
        for case in &library.cases {
            let asked = Instant::now();
            memory.recall_documents(question(&case.text)).await?;
            ms.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let ours = Scores::of(answers.iter().map(|answer| answer.place));
    let bm25 = Scores::of(answers.iter().map(|answer| answer.bm25_place));
    Ok(Report {
        r1: ours.r1,
        r5: ours.r5,
        mrr: ours.mrr,
        p50_ms: percentile(&mut ms, 0.50),
        p99_ms: percentile(&mut ms, 0.99),
        index_s,
        bm25_r1: bm25.r1,
        bm25_r5: bm25.r5,
        bm25_mrr: bm25.mrr,
        asked: library.cases.len(),
        documents: library.texts.len(),
        embedder: name,
        queries: answers,
    })
}

fn question(text: &str) -> Query {
    Query { text: text.to_owned(), limit: DEPTH, ..Query::default() }
}

fn place(found: &[String], relevant: &[String]) -> Option<usize> {
    found.iter().position(|doc| relevant.contains(doc)).map(|at| at + 1)
}

/// The smallest value that at least the given share of all values does not exceed.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

struct Scores {
    r1: f64,
    r5: f64,
    mrr: f64,
}

impl Scores {
    fn of(places: impl Iterator<Item = Option<usize>>) -> Self {
        let places: Vec<Option<usize>> = places.collect();
        let asked = places.len().max(1) as f64;
        let within = |most| places.iter().flatten().filter(|place| **place <= most).count() as f64 / asked;
        let mrr = places.iter().flatten().map(|place| 1.0 / *place as f64).sum::<f64>() / asked;
        Self { r1: within(1), r5: within(5), mrr }
    }
}

/// Plain BM25 over whole documents: lower-case words, no stemming, no stop words.
struct Bm25 {
    names: Vec<String>,
    /// Word to documents and what the word is worth in each.
    postings: HashMap<String, Vec<(usize, f64)>>,
}

impl Bm25 {
    fn of(texts: &BTreeMap<String, String>) -> Self {
        let documents: Vec<Vec<String>> = texts.values().map(|text| words(text).collect()).collect();
        let count = documents.len() as f64;
        let average = documents.iter().map(Vec::len).sum::<usize>() as f64 / count.max(1.0);
        let mut counts: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        for (at, document) in documents.iter().enumerate() {
            let mut times: BTreeMap<&str, f64> = BTreeMap::new();
            for word in document {
                *times.entry(word).or_default() += 1.0;
            }
            for (word, times) in times {
                counts.entry(word.to_owned()).or_default().push((at, times));
            }
        }
        for holders in counts.values_mut() {
            let held = holders.len() as f64;
            let idf = (1.0 + (count - held + 0.5) / (held + 0.5)).ln();
            for (at, worth) in holders {
                let length = documents.get(*at).map_or(0, Vec::len) as f64;
                *worth = idf * *worth * (K1 + 1.0) / (*worth + K1 * (1.0 - B + B * length / average));
            }
        }
        Self { names: texts.keys().cloned().collect(), postings: counts }
    }

    /// Documents that share a word, best first; equal ones by name.
    fn order(&self, question: &str) -> Vec<String> {
        let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
        for (at, worth) in words(question).filter_map(|word| self.postings.get(&word)).flatten() {
            *scores.entry(*at).or_default() += worth;
        }
        let mut order: Vec<(usize, f64)> = scores.into_iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.into_iter().filter_map(|(at, _)| self.names.get(at).cloned()).take(DEPTH).collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bm25_is_the_formula_by_hand() {
        let texts = BTreeMap::from([("a".to_owned(), "disk full disk".to_owned()), ("b".to_owned(), "cpu".to_owned())]);
        let plain = Bm25::of(&texts);
        // One of two documents holds it, twice in three words, two words on average.
        let idf = (1.0_f64 + 1.5 / 1.5).ln();
        let worth = idf * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 1.5));
        assert!((plain.postings["disk"][0].1 - worth).abs() < 1e-12);
        assert_eq!(plain.order("Disk, disk!"), ["a"]);
        assert!(plain.order("memory").is_empty());
    }

    #[test]
    fn scores_count_what_is_not_found() {
        let scores = Scores::of([Some(1), Some(4), None, Some(10)].into_iter());
        assert_eq!((scores.r1, scores.r5), (0.25, 0.5));
        assert!((scores.mrr - (1.0 + 0.25 + 0.1) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&mut values, 0.5), percentile(&mut values, 0.99)), (100.0, 198.0));
        assert_eq!(percentile(&mut [7.0], 0.99), 7.0);
    }
}
