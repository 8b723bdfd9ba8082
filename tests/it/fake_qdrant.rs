//! A Qdrant server for tests: the real gRPC interface, served over Qdrant Edge.
//!
//! It understands what midwatch asks (named dense and sparse vectors, filters by keyword and id,
//! prefetch with weighted sums of scores) and answers `unimplemented` to everything else, so that
//! a new kind of call is noticed here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use qdrant_client::Payload;
use qdrant_client::qdrant as q;
use qdrant_edge as edge;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

/// Serves until it is dropped.
pub struct FakeQdrant {
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

impl FakeQdrant {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collections = Collections::default();
        let server = tonic::transport::Server::builder()
            .add_service(q::points_server::PointsServer::new(collections.clone()))
            .add_service(q::collections_server::CollectionsServer::new(collections));
        let task = tokio::spawn(async move {
            server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { url, task }
    }
}

impl Drop for FakeQdrant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Default)]
struct Collections(Arc<Mutex<HashMap<String, Arc<Collection>>>>);

struct Collection {
    shard: edge::EdgeShard,
    size: u64,
    _dir: tempfile::TempDir,
}

impl Collections {
    fn open(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let collections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        collections.get(name).cloned().ok_or_else(|| Status::not_found(format!("Collection `{name}` doesn't exist!")))
    }
}

macro_rules! unsupported {
    ($($name:ident($request:ident) -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: Request<q::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<q::$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented(concat!("the test server has no ", stringify!($name)))) })
        }
    )*};
}

#[tonic::async_trait]
impl q::collections_server::Collections for Collections {
    async fn create(
        &self,
        request: Request<q::CreateCollection>,
    ) -> Result<Response<q::CollectionOperationResponse>, Status> {
        let request = request.into_inner();
        let Some(q::vectors_config::Config::ParamsMap(dense)) = request.vectors_config.and_then(|c| c.config) else {
            return Err(Status::unimplemented("unnamed vectors"));
        };
        let mut config = edge::EdgeConfigBuilder::new();
        let mut size = 0;
        for (name, params) in dense.map {
            size = params.size;
            config = config
                .vector(name, edge::EdgeVectorParamsBuilder::new(params.size as usize, edge::Distance::Cosine).build());
        }
        for (name, params) in request.sparse_vectors_config.unwrap_or_default().map {
            assert_eq!(params.modifier(), q::Modifier::Idf, "BM25 needs the server's IDF");
            let params = edge::EdgeSparseVectorParamsBuilder::new().modifier(edge::Modifier::Idf).build();
            config = config.sparse_vector(name, params);
        }
        let dir = tempfile::tempdir()?;
        let shard = edge::EdgeShard::new(dir.path(), config.build()).map_err(invalid)?;
        let mut collections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if collections.contains_key(&request.collection_name) {
            return Err(Status::already_exists("the collection exists"));
        }
        collections.insert(request.collection_name, Arc::new(Collection { shard, size, _dir: dir }));
        Ok(Response::new(q::CollectionOperationResponse { result: true, time: 0.0 }))
    }

    async fn collection_exists(
        &self,
        request: Request<q::CollectionExistsRequest>,
    ) -> Result<Response<q::CollectionExistsResponse>, Status> {
        let exists = self.open(&request.into_inner().collection_name).is_ok();
        Ok(Response::new(q::CollectionExistsResponse { result: Some(q::CollectionExists { exists }), time: 0.0 }))
    }

    async fn get(
        &self,
        request: Request<q::GetCollectionInfoRequest>,
    ) -> Result<Response<q::GetCollectionInfoResponse>, Status> {
        let collection = self.open(&request.into_inner().collection_name)?;
        let mut vectors = q::VectorsConfigBuilder::default();
        vectors.add_named_vector_params("dense", q::VectorParamsBuilder::new(collection.size, q::Distance::Cosine));
        let params = q::CollectionParams { vectors_config: Some(vectors.into()), ..Default::default() };
        let config = q::CollectionConfig { params: Some(params), ..Default::default() };
        let result = Some(q::CollectionInfo { config: Some(config), ..Default::default() });
        Ok(Response::new(q::GetCollectionInfoResponse { result, time: 0.0 }))
    }

    unsupported! {
        list(ListCollectionsRequest) -> ListCollectionsResponse;
        update(UpdateCollection) -> CollectionOperationResponse;
        delete(DeleteCollection) -> CollectionOperationResponse;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

#[tonic::async_trait]
impl q::points_server::Points for Collections {
    async fn create_field_index(
        &self,
        request: Request<q::CreateFieldIndexCollection>,
    ) -> Result<Response<q::PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let index = edge::CreateIndex {
            field_name: request.field_name.parse().map_err(|()| Status::invalid_argument("field name"))?,
            field_schema: Some(edge::PayloadFieldSchema::FieldType(edge::PayloadSchemaType::Keyword)),
        };
        let index = edge::FieldIndexOperations::CreateIndex(index);
        self.open(&request.collection_name)?.update(edge::UpdateOperation::FieldIndexOperation(index))
    }

    async fn upsert(&self, request: Request<q::UpsertPoints>) -> Result<Response<q::PointsOperationResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.wait, Some(true), "a write that is not waited for may be lost");
        let points = request.points.into_iter().map(point).collect::<Result<Vec<_>, _>>()?;
        let insert = edge::PointOperations::UpsertPoints(edge::PointInsertOperations::PointsList(points));
        self.open(&request.collection_name)?.update(edge::UpdateOperation::PointOperation(insert))
    }

    async fn delete(&self, request: Request<q::DeletePoints>) -> Result<Response<q::PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let delete = edge::PointOperations::DeletePointsByFilter(selected(request.points)?);
        self.open(&request.collection_name)?.update(edge::UpdateOperation::PointOperation(delete))
    }

    async fn set_payload(
        &self,
        request: Request<q::SetPayloadPoints>,
    ) -> Result<Response<q::PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let payload = serde_json::from_value(Value::from(Payload::from(request.payload))).map_err(invalid)?;
        let filter = Some(selected(request.points_selector)?);
        let set = edge::PayloadOps::SetPayload(edge::SetPayloadOp { payload, points: None, filter, key: None });
        self.open(&request.collection_name)?.update(edge::UpdateOperation::PayloadOperation(set))
    }

    async fn scroll(&self, request: Request<q::ScrollPoints>) -> Result<Response<q::ScrollResponse>, Status> {
        let request = request.into_inner();
        let page = edge::ScrollRequest {
            offset: request.offset.map(point_id).transpose()?,
            limit: request.limit.map(|limit| limit as usize),
            filter: request.filter.map(filter).transpose()?,
            with_payload: Some(edge::WithPayloadInterface::Bool(true)),
            with_vector: edge::WithVector::Bool(false),
            order_by: None,
        };
        let (records, next) = self.open(&request.collection_name)?.shard.scroll(page).map_err(invalid)?;
        let result = records
            .into_iter()
            .map(|record| q::RetrievedPoint {
                id: Some(record.id.to_string().into()),
                payload: payload(record.payload),
                ..Default::default()
            })
            .collect();
        let next_page_offset = next.map(|id| id.to_string().into());
        Ok(Response::new(q::ScrollResponse { result, next_page_offset, ..Default::default() }))
    }

    async fn query(&self, request: Request<q::QueryPoints>) -> Result<Response<q::QueryResponse>, Status> {
        let request = request.into_inner();
        let Some(q::query::Variant::Formula(formula)) = request.query.and_then(|query| query.variant) else {
            return Err(Status::unimplemented("only formulas"));
        };
        let query = edge::QueryRequest {
            prefetches: request.prefetch.into_iter().map(prefetch).collect::<Result<_, _>>()?,
            query: Some(edge::ScoringQuery::Formula(weighted_sum(formula)?.try_into().map_err(invalid)?)),
            filter: request.filter.map(filter).transpose()?,
            score_threshold: None,
            limit: request.limit.unwrap_or(10) as usize,
            offset: 0,
            params: None,
            with_vector: edge::WithVector::Bool(request.with_vectors.is_some()),
            with_payload: edge::WithPayloadInterface::Bool(request.with_payload.is_some()),
        };
        let found = self.open(&request.collection_name)?.shard.query(query).map_err(invalid)?;
        let result = found
            .into_iter()
            .map(|point| q::ScoredPoint {
                id: Some(point.id.to_string().into()),
                payload: payload(point.payload),
                score: point.score,
                vectors: point.vector.map(vectors),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(q::QueryResponse { result, ..Default::default() }))
    }

    unsupported! {
        get(GetPoints) -> GetResponse;
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        count(CountPoints) -> CountResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

impl Collection {
    fn update(&self, operation: edge::UpdateOperation) -> Result<Response<q::PointsOperationResponse>, Status> {
        self.shard.update(operation).map_err(invalid)?;
        let result = q::UpdateResult { operation_id: Some(1), status: q::UpdateStatus::Completed as i32 };
        Ok(Response::new(q::PointsOperationResponse { result: Some(result), ..Default::default() }))
    }
}

fn point(point: q::PointStruct) -> Result<edge::PointStructPersisted, Status> {
    let id = point.id.map(point_id).transpose()?.ok_or_else(|| Status::invalid_argument("a point without id"))?;
    let Some(q::vectors::VectorsOptions::Vectors(named)) = point.vectors.and_then(|v| v.vectors_options) else {
        return Err(Status::unimplemented("unnamed vectors"));
    };
    let mut vectors = HashMap::new();
    for (name, vector) in named.vectors {
        let vector = match vector.vector {
            Some(q::vector::Vector::Dense(dense)) => edge::Vector::new_dense(dense.data),
            Some(q::vector::Vector::Sparse(sparse)) => {
                edge::Vector::new_sparse(sparse.indices, sparse.values).map_err(invalid)?
            }
            _ => return Err(Status::unimplemented("only dense and sparse vectors")),
        };
        vectors.insert(name, vector);
    }
    let fields = Value::from(Payload::from(point.payload));
    Ok(edge::PointStruct::new(id, edge::Vectors::from(vectors), fields).into())
}

fn prefetch(prefetch: q::PrefetchQuery) -> Result<edge::Prefetch, Status> {
    let Some(q::query::Variant::Nearest(input)) = prefetch.query.and_then(|query| query.variant) else {
        return Err(Status::unimplemented("only nearest"));
    };
    let vector = match input.variant {
        Some(q::vector_input::Variant::Dense(dense)) => edge::VectorInternal::Dense(dense.data),
        Some(q::vector_input::Variant::Sparse(sparse)) => {
            edge::VectorInternal::Sparse(edge::SparseVector { indices: sparse.indices, values: sparse.values })
        }
        _ => return Err(Status::unimplemented("only dense and sparse vectors")),
    };
    let nearest = edge::NamedQuery::new(vector, prefetch.using.unwrap_or_default());
    Ok(edge::Prefetch {
        prefetches: Vec::new(),
        query: Some(edge::ScoringQuery::Vector(edge::QueryEnum::Nearest(nearest))),
        limit: prefetch.limit.unwrap_or(10) as usize,
        params: None,
        filter: prefetch.filter.map(filter).transpose()?,
        score_threshold: None,
    })
}

/// Sums of products of constants and scores.
fn weighted_sum(formula: q::Formula) -> Result<edge::Formula, Status> {
    let defaults = formula.defaults.into_iter().map(|(score, value)| (score, Value::from(value))).collect();
    let whole = formula.expression.ok_or_else(|| Status::invalid_argument("an empty formula"))?;
    Ok(edge::Formula { formula: expression(whole)?, defaults })
}

fn expression(one: q::Expression) -> Result<edge::Expression, Status> {
    let all = |many: Vec<q::Expression>| many.into_iter().map(expression).collect::<Result<Vec<_>, _>>();
    Ok(match one.variant {
        Some(q::expression::Variant::Constant(value)) => edge::Expression::Constant(value),
        Some(q::expression::Variant::Variable(name)) => edge::Expression::Variable(name),
        Some(q::expression::Variant::Mult(product)) => edge::Expression::Mult(all(product.mult)?),
        Some(q::expression::Variant::Sum(sum)) => edge::Expression::Sum(all(sum.sum)?),
        _ => return Err(Status::unimplemented("only sums and products")),
    })
}

fn selected(selector: Option<q::PointsSelector>) -> Result<edge::Filter, Status> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(q::points_selector::PointsSelectorOneOf::Filter(selected)) => filter(selected),
        _ => Err(Status::unimplemented("only selection by filter")),
    }
}

fn filter(filter: q::Filter) -> Result<edge::Filter, Status> {
    if !filter.should.is_empty() || filter.min_should.is_some() {
        return Err(Status::unimplemented("only must and must_not"));
    }
    let all = |conditions: Vec<q::Condition>| conditions.into_iter().map(condition).collect::<Result<Vec<_>, _>>();
    let filter = json!({ "must": all(filter.must)?, "must_not": all(filter.must_not)? });
    serde_json::from_value(filter).map_err(invalid)
}

fn condition(condition: q::Condition) -> Result<Value, Status> {
    match condition.condition_one_of {
        Some(q::condition::ConditionOneOf::Field(field)) => match field.r#match.and_then(|m| m.match_value) {
            Some(q::r#match::MatchValue::Keywords(any)) => {
                Ok(json!({ "key": field.key, "match": { "any": any.strings } }))
            }
            _ => Err(Status::unimplemented("only keywords")),
        },
        Some(q::condition::ConditionOneOf::HasId(has)) => {
            let ids = has.has_id.into_iter().map(|id| point_id(id).map(|id| id.to_string()));
            Ok(json!({ "has_id": ids.collect::<Result<Vec<_>, _>>()? }))
        }
        _ => Err(Status::unimplemented("only fields and ids")),
    }
}

fn point_id(id: q::PointId) -> Result<edge::PointId, Status> {
    match id.point_id_options {
        Some(q::point_id::PointIdOptions::Uuid(uuid)) => uuid.parse().map(edge::PointId::Uuid).map_err(invalid),
        Some(q::point_id::PointIdOptions::Num(number)) => Ok(edge::PointId::NumId(number)),
        None => Err(Status::invalid_argument("an empty id")),
    }
}

fn payload(payload: Option<edge::Payload>) -> HashMap<String, q::Value> {
    Payload::from(payload.map(|payload| payload.0).unwrap_or_default()).into()
}

fn vectors(vectors: edge::VectorStructInternal) -> q::VectorsOutput {
    let edge::VectorStructInternal::Named(named) = vectors else { return q::VectorsOutput::default() };
    let vectors = named.into_iter().filter_map(|(name, vector)| {
        let vector = match vector {
            edge::VectorInternal::Dense(data) => q::vector_output::Vector::Dense(q::DenseVector { data }),
            edge::VectorInternal::Sparse(sparse) => {
                q::vector_output::Vector::Sparse(q::SparseVector { indices: sparse.indices, values: sparse.values })
            }
            edge::VectorInternal::MultiDense(_) => return None,
        };
        Some((name.to_string(), q::VectorOutput { vector: Some(vector), ..Default::default() }))
    });
    let named = q::NamedVectorsOutput { vectors: vectors.collect() };
    q::VectorsOutput { vectors_options: Some(q::vectors_output::VectorsOptions::Vectors(named)) }
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}
