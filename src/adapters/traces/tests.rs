//! Against fake servers that answer as Jaeger 1.x and Tempo 2.x do.

use std::time::Duration;

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::adapters::signals::Credentials;
use crate::ports::Outcomes;

async fn client(backend: Backend, app: Router) -> TraceClient {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/prefix/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (credentials, headers) = (Credentials::Bearer("s3cret".into()), Default::default());
    TraceClient::new(backend, Endpoint { url, credentials, headers }).unwrap()
}

fn failing(service: &str) -> TraceQuery {
    TraceQuery {
        service: service.into(),
        operation: None,
        outcomes: Outcomes::Failing,
        longer_than: Some(Duration::from_millis(100)),
        start: Timestamp::from_secs(1_000),
        end: Timestamp::from_secs(2_000),
        limit: 20,
    }
}

async fn jaeger_traces(headers: HeaderMap, Query(asked): Query<HashMap<String, String>>) -> Response {
    assert_eq!(headers["authorization"], "Bearer s3cret");
    if asked["service"] == "nobody" {
        return axum::Json(json!({"data": null, "errors": [{"code": 500, "msg": "storage is away"}]})).into_response();
    }
    assert_eq!((asked["start"].as_str(), asked["end"].as_str()), ("1000000000", "2000000000"));
    assert_eq!((asked["minDuration"].as_str(), asked["tags"].as_str()), ("100000us", r#"{"error":"true"}"#));
    axum::Json(json!({"data": [{
        "traceID": "abc", "processes": {"p1": {"serviceName": "cart"}, "p2": {"serviceName": "pay"}},
        "spans": [
            {"traceID": "abc", "spanID": "1", "operationName": "GET /", "references": [], "startTime": 1_500_000_000,
             "duration": 900_000, "processID": "p1", "tags": [{"key": "error", "type": "bool", "value": true}]},
            {"traceID": "abc", "spanID": "2", "operationName": "SELECT",
             "references": [{"refType": "CHILD_OF", "traceID": "abc", "spanID": "1"}],
             "startTime": 1_500_010_000, "duration": 800_000, "processID": "p2",
             "tags": [{"key": "otel.status_code", "type": "string", "value": "ERROR"},
                      {"key": "otel.status_description", "value": "pool is empty"},
                      {"key": "span.kind", "value": "client"}, {"key": "db.system", "value": "postgresql"}],
             "logs": []},
        ],
    }], "errors": null}))
    .into_response()
}

#[tokio::test]
async fn jaeger_finds_traces_and_says_who_calls_whom() {
    let app = Router::new()
        .route("/prefix/api/traces", get(jaeger_traces))
        .route("/prefix/api/services", get(|| async { axum::Json(json!({"data": ["cart", "pay"]})) }))
        .route(
            "/prefix/api/dependencies",
            get(|Query(asked): Query<HashMap<String, String>>| async move {
                assert_eq!((asked["endTs"].as_str(), asked["lookback"].as_str()), ("2000000", "1000000"));
                axum::Json(json!({"data": [{"parent": "cart", "child": "pay", "callCount": 7}]}))
            }),
        );
    let client = client(Backend::Jaeger, app).await;
    let traces = client.search(&failing("cart")).await.unwrap();
    let (trace, origin) = (&traces[0], traces[0].error_origins()[0]);
    assert_eq!((trace.duration_us(), origin.error.as_deref()), (900_000, Some("pool is empty")));
    assert_eq!(origin.place().to_string(), "pay: SELECT (to postgresql)");
    assert_eq!(trace.critical_path().into_values().collect::<Vec<_>>(), [100_000, 800_000]);
    let calls = client.dependencies(Timestamp::from_secs(1_000), Timestamp::from_secs(2_000)).await.unwrap();
    assert_eq!(calls, [Dependency { caller: "cart".into(), callee: "pay".into(), calls: 7 }]);
    assert_eq!(client.check().await.unwrap(), "Jaeger answers; 2 services");
    assert_eq!(client.search(&failing("nobody")).await, Err(SignalError::Unavailable("storage is away".to_owned())));
    assert_eq!(client.trace("gone").await, Ok(None));
}

#[tokio::test]
async fn tempo_is_asked_in_traceql_and_answers_in_otlp() {
    async fn search(Query(asked): Query<HashMap<String, String>>) -> Response {
        let expected = r#"{ resource.service.name = "ca\"rt" && status = error && duration > 100ms }"#;
        if asked["q"] != expected {
            return (axum::http::StatusCode::BAD_REQUEST, format!("unexpected {}", asked["q"])).into_response();
        }
        axum::Json(json!({"traces": [{"traceID": "9f", "rootServiceName": "web"}], "metrics": {}})).into_response()
    }
    async fn one(Path(id): Path<String>) -> Response {
        let span = |id: &str, parent: &str, start: u64, end: u64, rest: serde_json::Value| {
            let mut span = json!({"traceId": "n9", "spanId": id, "parentSpanId": parent, "name": "op", "kind": "SPAN_KIND_SERVER",
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string()});
            span.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            span
        };
        let failed = json!({"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"},
            "attributes": [{"key": "peer.service", "value": {"stringValue": "bank"}}],
            "events": [{"name": "exception", "attributes": [{"key": "exception.message", "value": {"stringValue": "refused"}}]}]});
        match id.as_str() {
            "9f" => axum::Json(json!({"batches": [{
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
                "scopeSpans": [{"spans": [span("AQ==", "", 1_000_000, 9_000_000, json!({})),
                    span("Ag==", "AQ==", 2_000_000, 8_000_000, failed)]}],
            }]}))
            .into_response(),
            _ => axum::http::StatusCode::NOT_FOUND.into_response(),
        }
    }
    let app = Router::new().route("/prefix/api/search", get(search)).route("/prefix/api/traces/{id}", get(one));
    let client = client(Backend::Tempo, app).await;
    let traces = client.search(&failing("ca\"rt")).await.unwrap();
    let origin = traces[0].error_origins()[0];
    assert_eq!((origin.error.as_deref(), origin.peer.as_deref()), (Some("refused"), Some("bank")));
    assert_eq!(traces[0].critical_path().into_values().collect::<Vec<_>>(), [2_000, 6_000]);
    assert!(matches!(client.search(&failing("x")).await, Err(SignalError::BadQuery(_))));
    assert_eq!(client.trace("00").await, Ok(None));
}

#[tokio::test]
async fn one_unreadable_trace_leaves_the_others() {
    async fn search(Query(asked): Query<HashMap<String, String>>) -> Response {
        let found = if asked["q"].contains("cart") { ["good", "bad", "gone"] } else { ["bad", "worse", "gone"] };
        let found: Vec<_> = found.iter().map(|id| json!({"traceID": id})).collect();
        axum::Json(json!({"traces": found})).into_response()
    }
    async fn one(Path(id): Path<String>) -> Response {
        match id.as_str() {
            "good" => axum::Json(json!({"batches": [{"scopeSpans": [{"spans": [{"spanId": "AQ==",
                "startTimeUnixNano": "1000000", "endTimeUnixNano": "2000000"}]}]}]}))
            .into_response(),
            "gone" => axum::http::StatusCode::NOT_FOUND.into_response(),
            _ => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "trace exceeds max size").into_response(),
        }
    }
    let app = Router::new().route("/prefix/api/search", get(search)).route("/prefix/api/traces/{id}", get(one));
    let client = client(Backend::Tempo, app).await;
    let traces = client.search(&failing("cart")).await.unwrap();
    assert_eq!(traces.iter().map(|trace| trace.id.as_str()).collect::<Vec<_>>(), ["good"]);
    let none = client.search(&failing("web")).await.unwrap_err();
    assert!(none.to_string().contains("trace exceeds max size"), "{none}");
}
