//! The memory alone, filled with many chunks: what a question costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::Row;
use crate::domain::time::Timestamp;
use crate::eval::retrieval::percentile;
use crate::memory::{Chunk, Kind, Memory, MemoryConfig, Query, Tenant, Trust};
use crate::ports::Embedder;

const CHUNKS_A_DOCUMENT: usize = 5;
const QUESTIONS: usize = 1_000;
/// Documents that are written together.
const BATCH: usize = 200;
/// The promise of issue C.
const P99_MS: f64 = 20.0;

/// Draws documents whose words are as frequent as they are in the runbooks, with names of their
/// own in each, fills a fresh memory with them and asks.
pub async fn measure(runbooks: &Path, chunks: usize, embedder: Arc<dyn Embedder>) -> anyhow::Result<Vec<Row>> {
    let words = words_of(runbooks)?;
    let mut random = SmallRng::seed_from_u64(7);
    let folder = tempfile::tempdir()?;
    let memory = Memory::open(&MemoryConfig::Edge { dir: folder.path().join("memory") }, embedder).await?;
    let documents = chunks.div_ceil(CHUNKS_A_DOCUMENT);
    let began = Instant::now();
    for first in (0..documents).step_by(BATCH) {
        let batch = first..(first + BATCH).min(documents);
        memory.remember(batch.flat_map(|number| document(number, &words, &mut random)).collect()).await?;
    }
    let written = began.elapsed().as_secs_f64();
    memory.settle().await?;
    let settled = began.elapsed().as_secs_f64();
    let mut ms = Vec::with_capacity(QUESTIONS);
    for round in 0..QUESTIONS + 20 {
        let long = random.random_range(5..25);
        let query = Query {
            text: format!("{} svc-{}", phrase(long, &words, &mut random), random.random_range(0..documents)),
            limit: 5,
            ..Query::default()
        };
        let asked = Instant::now();
        let found = memory.recall_documents(query).await?;
        anyhow::ensure!(!found.is_empty(), "the memory answers nothing");
        // The first ones read the index from the disk.
        if round >= 20 {
            ms.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(vec![
        ("memory: chunks", (documents * CHUNKS_A_DOCUMENT) as f64, "", None),
        ("memory: embedded and written", written, "s", None),
        ("memory: written and indexed", settled, "s", None),
        ("memory: question to answer, p50, in microseconds", percentile(&mut ms, 0.50) * 1000.0, "us", None),
        (
            "memory: question to answer, p99, in microseconds",
            percentile(&mut ms, 0.99) * 1000.0,
            "us",
            Some(P99_MS * 1000.0),
        ),
    ])
}

fn words_of(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path)?;
                words.extend(text.split_whitespace().map(str::to_owned));
            }
        }
    }
    anyhow::ensure!(!words.is_empty(), "{} holds no Markdown to draw words from", folder.display());
    words.sort();
    Ok(words)
}

fn document(number: usize, words: &[String], random: &mut SmallRng) -> Vec<Chunk> {
    let title = phrase(5, words, random);
    (0..CHUNKS_A_DOCUMENT)
        .map(|part| {
            let long = random.random_range(50..110);
            Chunk {
                kind: Kind::PostMortem,
                doc: format!("drawn/{number}"),
                title: title.clone(),
                heading: format!("part {part}"),
                about: format!("svc-{number} on node-{}", number % 997),
                text: phrase(long, words, random),
                alerts: vec![format!("Alert{}", number % 500)],
                advises: vec![],
                tenant: Tenant::everyone(),
                service: Some(format!("svc-{number}")),
                incident: None,
                author: "bench".into(),
                trust: Trust::Verified,
                votes: 0,
                at: Timestamp::from_secs(1_790_000_000),
            }
        })
        .collect()
}

fn phrase(long: usize, words: &[String], random: &mut SmallRng) -> String {
    let drawn: Vec<&str> =
        (0..long).filter_map(|_| words.get(random.random_range(0..words.len()))).map(String::as_str).collect();
    drawn.join(" ")
}
