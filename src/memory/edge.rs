//! Memory in this process: one Qdrant Edge shard in a folder that nobody else may use.
//!
//! Edge is synchronous and has no lock of its own, so each call goes to a blocking thread and the
//! folder is locked before the shard is touched. What is written is flushed before a call returns,
//! and writers take turns: a flush does not wait for another one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs2::FileExt as _;
use qdrant_edge::{
    CreateIndex, Distance, EdgeConfigBuilder, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParamsBuilder,
    EdgeVectorParamsBuilder, Expression, FieldIndexOperations, Filter, Formula, HnswIndexConfig, Modifier, NamedQuery,
    Payload, PayloadFieldSchema, PayloadOps, PayloadSchemaType, PointId, PointInsertOperations, PointOperations,
    PointStruct, Prefetch, QueryEnum, QueryRequest, ScoredPoint, ScoringQuery, ScrollRequest, SearchParams,
    SetPayloadOp, SparseVector, UpdateOperation, Vector, VectorInternal, VectorStructInternal, Vectors, WalOptions,
    WithPayloadInterface, WithVector,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::memory::ballot::{PAGES, Standing, crowding};
use crate::memory::chunk::by_document;
use crate::memory::index::{Indexer, Question, reading};
use crate::memory::point::{ASKED, BM25, DENSE, Hit, INDEXED, Level, MEANING, Point, Select, Stored, Words};
use crate::memory::rank::{Found, Query, Wanted};
use crate::memory::{CANDIDATES, MemoryError, blocking};

/// Runbooks and post-mortems of a team are a few megabytes; the default of 32 is reserved at once.
const WAL_BYTES: usize = 4 * 1024 * 1024;
const PAGE: usize = 1_000;

/// Where so many kilobytes of vectors pass the filter, the graph of neighbours is asked instead of every one of
/// them: to look at all 20,000 documents of 100,000 chunks takes longer than the rest of a search.
const LOOKED_AT_KB: usize = 1_000;
/// Candidates that a walk through the graph keeps in view. A little more than Qdrant by itself: at 100,000 chunks
/// it then finds as many of the true neighbours as looking at every document did, within what a draw differs.
const IN_VIEW: usize = 128;

/// Points that are written before they are put away in a segment of their own. To add a point to a
/// segment that can still grow takes time in proportion to how many it holds with the same words;
/// to put away costs about as much as writing so many does.
const SHELF: usize = 5_000;
/// Segments that are put away stay as they are until `settle` makes one of all.
const SHELVES: usize = 1_000;
/// Vectors of fewer kilobytes are not worth a segment of their own.
const SHELF_KB: usize = 256;

pub struct Edge {
    held: Arc<Held>,
    indexer: Arc<Indexer>,
    turn: tokio::sync::Mutex<()>,
}

/// The shard is dropped, and with it flushed, before the lock is given back.
struct Held {
    shard: EdgeShard,
    /// Points that were written since the last ones were put away. Locked while something is written.
    loose: Mutex<usize>,
    dir: PathBuf,
    _lock: File,
}

/// The files of a shard are mapped, and have room on disk only where they were written: what does not fit ends
/// the process by a signal (SIGBUS), not with an error. Segments and the log of writes are smaller than this.
const SPARE: u64 = 64 * 1024 * 1024;

/// Refuses to write where a disk is about to be full; memory is of use, and the watch is needed.
fn has_room(dir: &Path) -> Result<(), MemoryError> {
    enough(fs2::available_space(dir).unwrap_or(u64::MAX), dir)
}

fn enough(left: u64, dir: &Path) -> Result<(), MemoryError> {
    if left >= SPARE {
        return Ok(());
    }
    let (left, spare) = (left / 1024 / 1024, SPARE / 1024 / 1024);
    let dir = dir.display();
    Err(MemoryError::Unavailable(format!("{left} MiB are left on the disk of {dir}, and it keeps {spare} MiB free")))
}

/// What the shard's vectors were made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MadeWith {
    embedder: String,
    dimension: usize,
    /// Of points and payload; a new one means that everything is indexed anew.
    layout: u32,
}

const LAYOUT: u32 = 3;
const MADE_WITH: &str = "made_with.json";

impl Edge {
    pub(super) async fn open(dir: PathBuf, indexer: Arc<Indexer>) -> Result<Self, MemoryError> {
        let by = indexer.clone();
        let held = blocking(move || Held::open(&dir, &by)).await?;
        Ok(Self { held: Arc::new(held), indexer, turn: tokio::sync::Mutex::new(()) })
    }

    pub(super) fn indexer(&self) -> &Arc<Indexer> {
        &self.indexer
    }

    pub(super) fn turn(&self) -> &tokio::sync::Mutex<()> {
        &self.turn
    }

    pub(super) async fn upsert(&self, points: Vec<Point>) -> Result<(), MemoryError> {
        self.write(move |shard, loose| upsert(shard, loose, points)).await
    }

    pub(super) async fn delete(&self, select: Select) -> Result<(), MemoryError> {
        self.write(move |shard, _| {
            let delete = PointOperations::DeletePointsByFilter(filter(&select)?);
            shard.update(UpdateOperation::PointOperation(delete)).map_err(store)
        })
        .await
    }

    pub(super) async fn set_payload(&self, select: Select, fields: Value) -> Result<(), MemoryError> {
        self.write(move |shard, _| {
            let payload = serde_json::from_value::<Payload>(fields).map_err(store)?;
            let set = SetPayloadOp { payload, points: None, filter: Some(filter(&select)?), key: None };
            shard.update(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set))).map_err(store)
        })
        .await
    }

    pub(super) async fn settle(&self) -> Result<(), MemoryError> {
        self.write(|shard, loose| {
            *loose = 0;
            optimize(shard, EdgeOptimizersConfig::default())
        })
        .await
    }

    pub(super) async fn scroll(&self, select: Select) -> Result<Vec<Stored>, MemoryError> {
        self.on_shard(move |shard| scroll(shard, &select)).await
    }

    /// Two threads, one for each kind of answer, that stay with it: each change of thread costs more
    /// than a search among few.
    pub(super) async fn gather(&self, query: Query) -> Result<(Query, Question, Found), MemoryError> {
        let indexer = self.indexer.clone();
        self.on_shard(move |shard| {
            let asked = indexer.question(&query)?;
            let wanted = Wanted::by(&query);
            let (of_documents, of_chunks) = std::thread::scope(|scope| {
                let documents = scope.spawn(|| -> Result<_, MemoryError> {
                    let documents = nearest(shard, &asked, &wanted.documents)?;
                    let standing = Standing::of(&asked, &documents, &ballots(shard, &asked, wanted.ballots.clone())?);
                    Ok((documents, standing))
                });
                let chunks = || -> Result<_, MemoryError> {
                    let chunks = nearest(shard, &asked, &wanted.chunks)?;
                    let named = wanted.named.as_ref().map(|select| nearest(shard, &asked, select)).transpose()?;
                    Ok((chunks, named.unwrap_or_default()))
                };
                let chunks = chunks();
                (documents.join().unwrap_or_else(|_| Err(store("a search was broken off"))), chunks)
            });
            let ((documents, standing), (chunks, mut named)) = (of_documents?, of_chunks?);
            if let Some(select) = wanted.favoured(&standing) {
                named.extend(nearest(shard, &asked, &select)?);
            }
            Ok((query, asked, Found { chunks, documents, named, standing }))
        })
        .await
    }

    async fn write(
        &self,
        work: impl FnOnce(&EdgeShard, &mut usize) -> Result<(), MemoryError> + Send + 'static,
    ) -> Result<(), MemoryError> {
        let held = self.held.clone();
        blocking(move || {
            has_room(&held.dir)?;
            let mut loose = held.loose.lock().unwrap_or_else(PoisonError::into_inner);
            work(&held.shard, &mut loose)?;
            held.shard.flush();
            Ok(())
        })
        .await
    }

    async fn on_shard<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EdgeShard) -> Result<T, MemoryError> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let held = self.held.clone();
        blocking(move || work(&held.shard)).await
    }
}

impl Held {
    fn open(dir: &Path, indexer: &Indexer) -> Result<Self, MemoryError> {
        let folder =
            |problem: std::io::Error| MemoryError::Folder { dir: dir.to_owned(), problem: problem.to_string() };
        fs::create_dir_all(dir).map_err(folder)?;
        has_room(dir)?;
        let lock = File::create(dir.join("lock")).map_err(folder)?;
        lock.try_lock_exclusive().map_err(|_| MemoryError::Held { dir: dir.to_owned() })?;

        let (current, former) = (dir.join("shard"), dir.join("shard.former"));
        if !current.exists() && former.exists() {
            // A re-indexing was broken off between its two renames.
            fs::rename(&former, &current).map_err(folder)?;
        }
        let wanted = MadeWith {
            embedder: indexer.embedder().name().to_owned(),
            dimension: indexer.embedder().dimension(),
            layout: LAYOUT.wrapping_add(reading()),
        };
        let shard = match made_with(&current) {
            None => create(&current, &wanted)?,
            Some(found) if found == wanted => load(&current)?,
            Some(found) => {
                tracing::info!(from = found.embedder, to = wanted.embedder, "indexing the memory anew");
                index_anew(dir, &wanted, indexer)?
            }
        };
        Ok(Self { shard, loose: Mutex::new(0), dir: dir.to_owned(), _lock: lock })
    }
}

/// What was built with another graph is built anew when the shard next settles.
fn load(at: &Path) -> Result<EdgeShard, MemoryError> {
    let shard = EdgeShard::load(at, None).map_err(store)?;
    if shard.config().hnsw_config != graph() {
        shard.set_hnsw_config(graph()).map_err(store)?;
    }
    Ok(shard)
}

fn graph() -> HnswIndexConfig {
    HnswIndexConfig { full_scan_threshold: LOOKED_AT_KB, ..HnswIndexConfig::default() }
}

fn made_with(shard: &Path) -> Option<MadeWith> {
    serde_json::from_slice(&fs::read(shard.join(MADE_WITH)).ok()?).ok()
}

/// Creates an empty shard. What lies there without its note was broken off while it was created.
fn create(at: &Path, made_with: &MadeWith) -> Result<EdgeShard, MemoryError> {
    let folder = |problem: std::io::Error| MemoryError::Folder { dir: at.to_owned(), problem: problem.to_string() };
    if at.exists() {
        fs::remove_dir_all(at).map_err(folder)?;
    }
    fs::create_dir_all(at).map_err(folder)?;
    let config = EdgeConfigBuilder::new()
        .vector(DENSE, EdgeVectorParamsBuilder::new(made_with.dimension, Distance::Cosine).build())
        .sparse_vector(BM25, EdgeSparseVectorParamsBuilder::new().modifier(Modifier::Idf).build())
        .sparse_vector(ASKED, EdgeSparseVectorParamsBuilder::new().modifier(Modifier::Idf).build())
        .hnsw_config(graph())
        .wal_options(WalOptions { segment_capacity: WAL_BYTES, ..WalOptions::default() })
        .build();
    let shard = EdgeShard::new(at, config).map_err(store)?;
    for field in INDEXED {
        let index = CreateIndex {
            field_name: field.parse().map_err(|()| MemoryError::Store(format!("{field} is no field")))?,
            field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)),
        };
        shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index))).map_err(store)?;
    }
    shard.flush();
    let note = serde_json::to_vec(made_with).map_err(store)?;
    fs::write(at.join(MADE_WITH), note).map_err(folder)?;
    Ok(shard)
}

/// Another embedder than the one that filled the shard: the texts are there, so the vectors are
/// made again. Beside the old shard, which is replaced when the new one is complete.
fn index_anew(dir: &Path, wanted: &MadeWith, indexer: &Indexer) -> Result<EdgeShard, MemoryError> {
    let folder = |problem: std::io::Error| MemoryError::Folder { dir: dir.to_owned(), problem: problem.to_string() };
    let (current, next, former) = (dir.join("shard"), dir.join("shard.next"), dir.join("shard.former"));
    let (mut kept, ballots) = {
        let shard = EdgeShard::load(&current, None).map_err(store)?;
        let of = |level| scroll(&shard, &Select::default().at(level));
        (of(Level::Chunk)?, of(Level::Ballot)?)
    };
    kept.sort_by(|a, b| (&a.chunk.doc, a.part).cmp(&(&b.chunk.doc, b.part)));
    {
        let shard = create(&next, wanted)?;
        let mut loose = 0;
        for (_, documents) in by_document(kept.into_iter().map(|stored| stored.chunk).collect()) {
            for group in documents {
                upsert(&shard, &mut loose, indexer.points(group)?)?;
            }
        }
        for ballot in ballots {
            upsert(&shard, &mut loose, vec![indexer.ballot(ballot.chunk)?])?;
        }
    }
    if former.exists() {
        fs::remove_dir_all(&former).map_err(folder)?;
    }
    fs::rename(&current, &former).map_err(folder)?;
    fs::rename(&next, &current).map_err(folder)?;
    fs::remove_dir_all(&former).map_err(folder)?;
    load(&current)
}

fn upsert(shard: &EdgeShard, loose: &mut usize, points: Vec<Point>) -> Result<(), MemoryError> {
    let many = points.len();
    let mut persisted = Vec::with_capacity(points.len());
    for point in points {
        let payload = serde_json::to_value(&point.stored).map_err(store)?;
        let words = Vector::new_sparse(point.words.indices, point.words.values).map_err(store)?;
        let vectors =
            Vectors::new_named([(DENSE, Vector::new_dense(point.dense)), (point.stored.level.words(), words)]);
        persisted.push(PointStruct::new(PointId::Uuid(point.id), vectors, payload).into());
    }
    if persisted.is_empty() {
        return Ok(());
    }
    let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(persisted));
    shard.update(UpdateOperation::PointOperation(insert)).map_err(store)?;
    *loose += many;
    if *loose >= SHELF {
        put_away(shard)?;
        *loose = 0;
    }
    Ok(())
}

/// Makes a segment of the points that were written last, which searches read from an index and
/// which no longer grows.
fn put_away(shard: &EdgeShard) -> Result<(), MemoryError> {
    let shelves = EdgeOptimizersConfig {
        default_segment_number: Some(SHELVES),
        indexing_threshold: Some(SHELF_KB),
        ..EdgeOptimizersConfig::default()
    };
    optimize(shard, shelves)
}

fn optimize(shard: &EdgeShard, how: EdgeOptimizersConfig) -> Result<(), MemoryError> {
    shard.set_optimizers_config(how).map_err(store)?;
    shard.optimize().map(|_| ()).map_err(store)
}

fn scroll(shard: &EdgeShard, select: &Select) -> Result<Vec<Stored>, MemoryError> {
    let mut found = Vec::new();
    let mut offset = None;
    loop {
        let page = ScrollRequest {
            offset,
            limit: Some(PAGE),
            filter: Some(filter(select)?),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(false),
            order_by: None,
        };
        let (records, next) = shard.scroll(page).map_err(store)?;
        for record in records {
            found.push(stored(record.payload)?);
        }
        match next {
            Some(_) => offset = next,
            None => return Ok(found),
        }
    }
}

/// The votes that were given for questions like this one, without those of one voter crowding out
/// the others'.
fn ballots(shard: &EdgeShard, asked: &Question, mut select: Select) -> Result<Vec<Hit>, MemoryError> {
    let mut heard = Vec::new();
    for _ in 0..PAGES {
        let page = nearest(shard, asked, &select)?;
        let crowding = crowding(&page);
        heard.extend(page);
        if crowding.is_empty() {
            break;
        }
        select.silenced.extend(crowding);
    }
    Ok(heard)
}

fn nearest(shard: &EdgeShard, asked: &Question, select: &Select) -> Result<Vec<Hit>, MemoryError> {
    let filter = filter(select)?;
    let ranking = |vector: VectorInternal, name: &str| Prefetch {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, name)))),
        limit: CANDIDATES,
        params: Some(SearchParams { hnsw_ef: Some(IN_VIEW), ..SearchParams::default() }),
        filter: Some(filter.clone()),
        score_threshold: None,
    };
    let mut prefetches = vec![(MEANING, ranking(VectorInternal::Dense(asked.dense.clone()), DENSE))];
    if !asked.words.indices.is_empty() {
        let words = SparseVector { indices: asked.words.indices.clone(), values: asked.words.values.clone() };
        prefetches.push((1.0, ranking(VectorInternal::Sparse(words), select.words())));
    }
    let score = |place: usize| format!("$score[{place}]");
    let weighed = |(place, (weight, _)): (usize, &(f32, Prefetch))| {
        Expression::Mult(vec![Expression::Constant(*weight), Expression::Variable(score(place))])
    };
    let formula = Formula {
        formula: Expression::Sum(prefetches.iter().enumerate().map(weighed).collect()),
        // What one of the two rankings does not hold scores nothing there.
        defaults: (0..prefetches.len()).map(|place| (score(place), 0.0.into())).collect(),
    };
    let request = QueryRequest {
        prefetches: prefetches.into_iter().map(|(_, prefetch)| prefetch).collect(),
        query: Some(ScoringQuery::Formula(formula.try_into().map_err(store)?)),
        filter: None,
        score_threshold: None,
        limit: CANDIDATES,
        offset: 0,
        params: None,
        with_vector: WithVector::Selector(vec![DENSE.into(), select.words().into()]),
        with_payload: WithPayloadInterface::Bool(true),
    };
    shard.query(request).map_err(store)?.into_iter().map(hit).collect()
}

fn hit(point: ScoredPoint) -> Result<Hit, MemoryError> {
    let PointId::Uuid(id) = point.id else {
        return Err(MemoryError::Store(format!("point {:?} is not one of ours", point.id)));
    };
    let (mut dense, mut words) = (Vec::new(), Words::default());
    if let Some(VectorStructInternal::Named(named)) = point.vector {
        for vector in named.into_values() {
            match vector {
                VectorInternal::Dense(values) => dense = values,
                VectorInternal::Sparse(sparse) => {
                    words = Words { indices: sparse.indices, values: sparse.values };
                }
                VectorInternal::MultiDense(_) => {}
            }
        }
    }
    Ok(Hit { id, fused: point.score, dense, words: words.indices, stored: stored(point.payload)? })
}

fn stored(payload: Option<Payload>) -> Result<Stored, MemoryError> {
    let fields = payload.map(|payload| payload.0).unwrap_or_default();
    serde_json::from_value(Value::Object(fields)).map_err(store)
}

fn filter(select: &Select) -> Result<Filter, MemoryError> {
    serde_json::from_value(select.to_json()).map_err(store)
}

fn store(error: impl std::fmt::Display) -> MemoryError {
    MemoryError::Store(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_not_written_to() {
        let dir = Path::new("/data/memory");
        assert!(enough(SPARE, dir).is_ok());
        let refused = enough(10 << 20, dir).unwrap_err();
        assert!(refused.is_passing());
        assert!(refused.to_string().contains("10 MiB are left on the disk of /data/memory, and it keeps 64 MiB free"));
    }
}
