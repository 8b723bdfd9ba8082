//! Memory on a Qdrant server, over gRPC. Several processes may share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qdrant_client::qdrant::vectors_config::Config as VectorsKind;
use qdrant_client::qdrant::{
    Condition, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeletePointsBuilder, Distance, Expression,
    FieldType, Filter, FormulaBuilder, Modifier, NamedVectors, PointId, PointStruct, PrefetchQueryBuilder, Query,
    QueryPointsBuilder, ScoredPoint, ScrollPointsBuilder, SetPayloadPointsBuilder, SparseVectorParamsBuilder,
    SparseVectorsConfigBuilder, UpsertPointsBuilder, Value, Vector, VectorInput, VectorParamsBuilder,
    VectorsConfigBuilder, VectorsSelector, point_id, vector_output, vectors_output,
};
use qdrant_client::{Payload, Qdrant, QdrantError};
use qdrant_edge::external::uuid::Uuid;
use tokio::sync::OnceCell;

use crate::memory::ballot::{PAGES, Standing, crowding};
use crate::memory::index::{Indexer, Question};
use crate::memory::point::{ASKED, BM25, DENSE, Hit, INDEXED, Level, MEANING, Point, Select, Stored};
use crate::memory::rank::{Found, Query as Asked, Wanted};
use crate::memory::{CANDIDATES, MemoryError, blocking};

/// An incident waits for its memories, but not longer.
const TIMEOUT: Duration = Duration::from_secs(3);
const PAGE: u32 = 1_000;
const UPSERT: usize = 256;

pub struct Server {
    client: Qdrant,
    url: String,
    collection: String,
    ready: OnceCell<()>,
    indexer: Arc<Indexer>,
    turn: tokio::sync::Mutex<()>,
}

/// Whether a Qdrant answers there, in words for `midwatch check`; nothing is made or changed.
pub async fn greet(url: &str, api_key: Option<&str>) -> Result<String, MemoryError> {
    let built = Qdrant::from_url(url).api_key(api_key).timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let client = built
        .skip_compatibility_check()
        .build()
        .map_err(|error| MemoryError::Refused(format!("{url} is not usable: {error}")))?;
    // The list needs the key, which a greeting does not.
    match tokio::time::timeout(TIMEOUT, client.list_collections()).await {
        Ok(Ok(known)) => Ok(format!("{url} answers, {} collections", known.collections.len())),
        Ok(Err(error)) => Err(MemoryError::Unavailable(format!("{url}: {error}"))),
        Err(_) => Err(MemoryError::Unavailable(format!("{url} did not answer within {TIMEOUT:?}"))),
    }
}

impl Server {
    /// Connects with the first call, not here.
    pub(super) fn connect(
        url: &str,
        api_key: Option<&str>,
        collection: &str,
        indexer: Arc<Indexer>,
    ) -> Result<Self, MemoryError> {
        let client = Qdrant::from_url(url)
            .api_key(api_key)
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            // It would print to stderr and take another round trip.
            .skip_compatibility_check()
            .build()
            .map_err(|error| MemoryError::Refused(format!("memory.url {url} is not usable: {error}")))?;
        Ok(Self {
            client,
            url: url.to_owned(),
            collection: collection.to_owned(),
            ready: OnceCell::new(),
            indexer,
            turn: tokio::sync::Mutex::new(()),
        })
    }

    pub(super) fn indexer(&self) -> &Arc<Indexer> {
        &self.indexer
    }

    pub(super) fn turn(&self) -> &tokio::sync::Mutex<()> {
        &self.turn
    }

    /// Creates the collection if it is missing; done once, and again as long as it fails.
    pub(super) async fn ensure_collection(&self) -> Result<(), MemoryError> {
        self.ready.get_or_try_init(|| self.prepare()).await.copied()
    }

    async fn prepare(&self) -> Result<(), MemoryError> {
        if self.answer(self.client.collection_exists(&self.collection)).await? {
            return self.check_embedder().await;
        }
        let dimension = self.indexer.embedder().dimension() as u64;
        let mut dense = VectorsConfigBuilder::default();
        dense.add_named_vector_params(DENSE, VectorParamsBuilder::new(dimension, Distance::Cosine));
        let mut words = SparseVectorsConfigBuilder::default();
        for name in [BM25, ASKED] {
            words.add_named_vector_params(name, SparseVectorParamsBuilder::default().modifier(Modifier::Idf));
        }
        let create = CreateCollectionBuilder::new(&self.collection).vectors_config(dense).sparse_vectors_config(words);
        if let Err(error) = self.answer(self.client.create_collection(create)).await {
            // Another replica may have been faster.
            if !self.answer(self.client.collection_exists(&self.collection)).await? {
                return Err(error);
            }
        }
        for field in INDEXED {
            let index = CreateFieldIndexCollectionBuilder::new(&self.collection, field, FieldType::Keyword);
            self.answer(self.client.create_field_index(index)).await?;
        }
        Ok(())
    }

    /// Others may be using the collection: it is never emptied because this process was configured
    /// with another embedder.
    async fn check_embedder(&self) -> Result<(), MemoryError> {
        let embedder = self.indexer.embedder();
        let other = |found: String| MemoryError::OtherEmbedder {
            collection: self.collection.clone(),
            found,
            wanted: format!("{} with {} dimensions", embedder.name(), embedder.dimension()),
        };
        let info = self.answer(self.client.collection_info(&self.collection)).await?;
        let params = info.result.and_then(|info| info.config).and_then(|config| config.params);
        let sparse = params.as_ref().and_then(|params| params.sparse_vectors_config.as_ref());
        if sparse.is_some_and(|sparse| !sparse.map.contains_key(ASKED)) {
            return Err(MemoryError::Refused(format!(
                "memory.collection: {} was made by an earlier version and cannot hold votes; name a new collection",
                self.collection
            )));
        }
        let vectors = params.and_then(|params| params.vectors_config).and_then(|vectors| vectors.config);
        let size = match vectors {
            Some(VectorsKind::ParamsMap(named)) => named.map.get(DENSE).map(|params| params.size),
            Some(VectorsKind::Params(_)) | None => None,
        };
        match size {
            Some(size) if size == embedder.dimension() as u64 => {}
            Some(size) => return Err(other(format!("an embedder with {size} dimensions"))),
            None => return Err(other("another program (it has no vector named dense)".into())),
        }
        let one = self.page(&Select::default().at(Level::Document), None, 1).await?.0;
        match one.first() {
            Some(stored) if stored.embedder != embedder.name() => Err(other(stored.embedder.clone())),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) async fn upsert(&self, points: Vec<Point>) -> Result<(), MemoryError> {
        self.ensure_collection().await?;
        let mut structs = Vec::with_capacity(points.len());
        for point in points {
            let fields = serde_json::to_value(&point.stored).map_err(store)?;
            let vectors = NamedVectors::default()
                .add_vector(DENSE, point.dense)
                .add_vector(point.stored.level.words(), Vector::new_sparse(point.words.indices, point.words.values));
            structs.push(PointStruct::new(point.id.to_string(), vectors, Payload::try_from(fields).map_err(store)?));
        }
        for batch in structs.chunks(UPSERT) {
            let upsert = UpsertPointsBuilder::new(&self.collection, batch.to_vec()).wait(true);
            self.answer(self.client.upsert_points(upsert)).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, select: Select) -> Result<(), MemoryError> {
        self.ensure_collection().await?;
        let delete = DeletePointsBuilder::new(&self.collection).points(filter(&select)).wait(true);
        self.answer(self.client.delete_points(delete)).await.map(|_| ())
    }

    pub(super) async fn set_payload(&self, select: Select, fields: serde_json::Value) -> Result<(), MemoryError> {
        self.ensure_collection().await?;
        let payload = Payload::try_from(fields).map_err(store)?;
        let set = SetPayloadPointsBuilder::new(&self.collection, payload).points_selector(filter(&select)).wait(true);
        self.answer(self.client.set_payload(set)).await.map(|_| ())
    }

    pub(super) async fn scroll(&self, select: Select) -> Result<Vec<Stored>, MemoryError> {
        self.ensure_collection().await?;
        let mut found = Vec::new();
        let mut offset = None;
        loop {
            let (page, next) = self.page(&select, offset, PAGE).await?;
            found.extend(page);
            match next {
                Some(_) => offset = next,
                None => return Ok(found),
            }
        }
    }

    async fn page(
        &self,
        select: &Select,
        offset: Option<PointId>,
        limit: u32,
    ) -> Result<(Vec<Stored>, Option<PointId>), MemoryError> {
        let mut page =
            ScrollPointsBuilder::new(&self.collection).filter(filter(select)).limit(limit).with_payload(true);
        if let Some(offset) = offset {
            page = page.offset(offset);
        }
        let answer = self.answer(self.client.scroll(page)).await?;
        let found = answer.result.into_iter().map(|point| stored(point.payload)).collect::<Result<_, _>>()?;
        Ok((found, answer.next_page_offset))
    }

    pub(super) async fn gather(&self, query: Asked) -> Result<(Asked, Question, Found), MemoryError> {
        let indexer = self.indexer.clone();
        let (query, asked) = blocking(move || {
            let asked = indexer.question(&query)?;
            Ok((query, asked))
        })
        .await?;
        let wanted = Wanted::by(&query);
        // On the heap: four calls of gRPC side by side are large for a thread's stack.
        let named = async |select: Option<Select>| match select {
            Some(select) => Box::pin(self.nearest(&asked, select)).await,
            None => Ok(Vec::new()),
        };
        let (ballots, chunks, documents, mut named_hits) = futures::try_join!(
            Box::pin(self.ballots(&asked, wanted.ballots.clone())),
            Box::pin(self.nearest(&asked, wanted.chunks.clone())),
            Box::pin(self.nearest(&asked, wanted.documents.clone())),
            Box::pin(named(wanted.named.clone())),
        )?;
        let standing = Standing::of(&asked, &documents, &ballots);
        named_hits.extend(named(wanted.favoured(&standing)).await?);
        Ok((query, asked, Found { chunks, documents, named: named_hits, standing }))
    }

    /// See the function of the same name in `edge`.
    async fn ballots(&self, asked: &Question, mut select: Select) -> Result<Vec<Hit>, MemoryError> {
        let mut heard = Vec::new();
        for _ in 0..PAGES {
            let page = self.nearest(asked, select.clone()).await?;
            let crowding = crowding(&page);
            heard.extend(page);
            if crowding.is_empty() {
                break;
            }
            select.silenced.extend(crowding);
        }
        Ok(heard)
    }

    async fn nearest(&self, asked: &Question, select: Select) -> Result<Vec<Hit>, MemoryError> {
        self.ensure_collection().await?;
        let filter = filter(&select);
        let ranking = |vector: VectorInput, name: &str| {
            PrefetchQueryBuilder::default()
                .query(Query::new_nearest(vector))
                .using(name)
                .filter(filter.clone())
                .limit(CANDIDATES as u64)
        };
        let mut prefetches = vec![(MEANING, ranking(VectorInput::new_dense(asked.dense.clone()), DENSE))];
        if !asked.words.indices.is_empty() {
            let words = VectorInput::new_sparse(asked.words.indices.clone(), asked.words.values.clone());
            prefetches.push((1.0, ranking(words, select.words())));
        }
        let mut query = QueryPointsBuilder::new(&self.collection);
        let (mut sum, mut missing) = (Vec::new(), Vec::new());
        for (place, (weight, prefetch)) in prefetches.into_iter().enumerate() {
            query = query.add_prefetch(prefetch);
            sum.push(Expression::mult_with([Expression::constant(weight), Expression::score_idx(place)]));
            missing.push(format!("$score[{place}]"));
        }
        // What one of the two rankings does not hold scores nothing there.
        let formula = missing
            .into_iter()
            .fold(FormulaBuilder::new(Expression::sum_with(sum)), |formula, score| formula.add_default(score, 0.0));
        let query = query
            .query(Query::new_formula(formula))
            .limit(CANDIDATES as u64)
            .with_payload(true)
            .with_vectors(VectorsSelector { names: vec![DENSE.into(), select.words().into()] });
        self.answer(self.client.query(query)).await?.result.into_iter().map(hit).collect()
    }

    /// The client's own timeout covers a call on a living connection; this one covers all else.
    async fn answer<T>(&self, call: impl Future<Output = Result<T, QdrantError>>) -> Result<T, MemoryError> {
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| self.explain(error)),
            Err(_) => Err(MemoryError::Unavailable(format!("{} did not answer within {TIMEOUT:?}", self.url))),
        }
    }

    fn explain(&self, error: QdrantError) -> MemoryError {
        use tonic::Code;
        let QdrantError::ResponseError { status } = &error else {
            return match error {
                QdrantError::ResourceExhaustedError { .. } | QdrantError::Io(_) => {
                    MemoryError::Unavailable(format!("{}: {error}", self.url))
                }
                other => MemoryError::Refused(other.to_string()),
            };
        };
        let said = format!("{}: {}", self.url, status.message());
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                MemoryError::Refused(format!("{said}; check memory.api_key"))
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => MemoryError::Refused(said),
            // `Internal` is also how the client reports that it could not connect.
            _ => MemoryError::Unavailable(said),
        }
    }
}

fn filter(select: &Select) -> Filter {
    let must = select.matches().into_iter().map(|(field, any)| Condition::matches(field, any));
    let mut filter = Filter::must(must);
    if !select.except.is_empty() {
        let ids = select.except.iter().map(|id| PointId::from(id.to_string()));
        filter.must_not.push(Condition::has_id(ids));
    }
    if !select.silenced.is_empty() {
        filter.must_not.push(Condition::matches("author", select.silenced.clone()));
    }
    filter
}

fn hit(point: ScoredPoint) -> Result<Hit, MemoryError> {
    let id = match point.id.and_then(|id| id.point_id_options) {
        Some(point_id::PointIdOptions::Uuid(id)) => Uuid::parse_str(&id).map_err(store)?,
        Some(point_id::PointIdOptions::Num(id)) => {
            return Err(MemoryError::Store(format!("point {id} is not one of ours")));
        }
        None => return Err(MemoryError::Store("a point without an id".into())),
    };
    let (mut dense, mut words) = (Vec::new(), Vec::new());
    if let Some(vectors_output::VectorsOptions::Vectors(named)) =
        point.vectors.and_then(|vectors| vectors.vectors_options)
    {
        for vector in named.vectors.into_values() {
            match vector.into_vector() {
                vector_output::Vector::Dense(values) => dense = values.data,
                vector_output::Vector::Sparse(sparse) => words = sparse.indices,
                vector_output::Vector::MultiDense(_) => {}
            }
        }
    }
    Ok(Hit { id, fused: point.score, dense, words, stored: stored(point.payload)? })
}

fn stored(payload: HashMap<String, Value>) -> Result<Stored, MemoryError> {
    serde_json::from_value(serde_json::Value::from(Payload::from(payload))).map_err(store)
}

fn store(error: impl std::fmt::Display) -> MemoryError {
    MemoryError::Store(error.to_string())
}
