//! Prometheus' HTTP API over a `SeriesStore`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::promql::{self, Answer, Labels, Point, PromError, SeriesStore, StoredSeries};

/// Tells the time in milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Seconds a parameter may carry, so that sums of times cannot overflow.
const FAR_SECONDS: f64 = 1e11;

#[derive(Clone)]
struct Api {
    store: Arc<RwLock<SeriesStore>>,
    now: Clock,
}

/// The API's routes. Samples after `now` are not shown.
pub fn router(store: Arc<RwLock<SeriesStore>>, now: Clock) -> Router {
    Router::new()
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/status/buildinfo", get(buildinfo))
        .route("/-/healthy", get(|| async { "Prometheus Server is Healthy.\n" }))
        .route("/-/ready", get(|| async { "Prometheus Server is Ready.\n" }))
        .with_state(Api { store, now })
}

/// Parameters from the address and, for a form, from the body.
struct Params(Vec<(String, String)>);

impl Params {
    fn read(query: Option<String>, headers: &HeaderMap, body: &[u8]) -> Self {
        let form = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let body = if form.is_some_and(|v| v.starts_with("application/x-www-form-urlencoded")) { body } else { &[] };
        let query = query.unwrap_or_default();
        let pairs = [body, query.as_bytes()].into_iter().flat_map(url::form_urlencoded::parse);
        Self(pairs.map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    fn time(&self, name: &str) -> Result<Option<i64>, PromError> {
        self.get(name).map(|text| time(name, text)).transpose()
    }

    fn needed_time(&self, name: &str) -> Result<i64, PromError> {
        time(name, self.get(name).unwrap_or(""))
    }

    fn limit(&self) -> Result<usize, PromError> {
        match self.get("limit") {
            None | Some("0") => Ok(usize::MAX),
            Some(text) => text
                .parse()
                .map_err(|_| PromError::BadData(format!("invalid parameter \"limit\": cannot parse {text:?}"))),
        }
    }
}

fn time(name: &str, text: &str) -> Result<i64, PromError> {
    let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite() && s.abs() <= FAR_SECONDS);
    let parsed = match seconds {
        Some(s) => Some((s * 1000.0).round() as i64),
        None => chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis()),
    };
    parsed.ok_or_else(|| {
        PromError::BadData(format!("invalid parameter \"{name}\": cannot parse {text:?} to a valid timestamp"))
    })
}

/// `15s`, `1h30m` or seconds, in milliseconds.
fn duration(name: &str, text: &str) -> Result<i64, PromError> {
    if let Some(s) = text.parse::<f64>().ok().filter(|s| s.is_finite() && s.abs() <= FAR_SECONDS) {
        return Ok((s * 1000.0) as i64);
    }
    // Numbers were taken above; what reads as one here is out of range, and the parser would panic.
    let parsed = if text.parse::<f64>().is_ok() { None } else { promql_parser::util::parse_duration(text).ok() };
    parsed.and_then(|d| i64::try_from(d.as_millis()).ok()).filter(|ms| *ms <= (FAR_SECONDS * 1000.0) as i64).ok_or_else(
        || PromError::BadData(format!("invalid parameter \"{name}\": cannot parse {text:?} to a valid duration")),
    )
}

fn raw(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn fault(status: StatusCode, kind: &str, text: &str) -> Response {
    raw(status, json!({"status": "error", "errorType": kind, "error": text}).to_string())
}

fn respond(result: Result<String, PromError>) -> Response {
    match result {
        Ok(data) => raw(StatusCode::OK, format!("{{\"status\":\"success\",\"data\":{data}}}")),
        Err(PromError::BadData(text)) => fault(StatusCode::BAD_REQUEST, "bad_data", &text),
        Err(PromError::Execution(text)) => fault(StatusCode::UNPROCESSABLE_ENTITY, "execution", &text),
    }
}

/// Runs `work` on the store off the async threads; a long query must not hold up the others.
async fn on_store<F>(api: Api, work: F) -> Response
where
    F: FnOnce(&SeriesStore, i64) -> Result<String, PromError> + Send + 'static,
{
    let job = move || {
        let now = (api.now)();
        let store = api.store.read().unwrap_or_else(PoisonError::into_inner);
        work(&store, now)
    };
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => respond(result),
        Err(e) => fault(StatusCode::INTERNAL_SERVER_ERROR, "internal", &e.to_string()),
    }
}

async fn query(State(api): State<Api>, RawQuery(q): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = Params::read(q, &headers, &body);
    on_store(api, move |store, now| {
        let at = params.time("time")?.unwrap_or(now);
        Ok(write(&promql::instant(store, params.get("query").unwrap_or(""), at, now)?))
    })
    .await
}

async fn query_range(State(api): State<Api>, RawQuery(q): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = Params::read(q, &headers, &body);
    on_store(api, move |store, now| {
        let (start, end) = (params.needed_time("start")?, params.needed_time("end")?);
        let step = duration("step", params.get("step").unwrap_or(""))?;
        Ok(write(&promql::range(store, params.get("query").unwrap_or(""), start, end, step, now)?))
    })
    .await
}

/// The series `match[]` names, or all, with a sample between `start` and `end`.
fn matched<'a>(store: &'a SeriesStore, params: &Params, now: i64) -> Result<Vec<&'a StoredSeries>, PromError> {
    let from = params.time("start")?.unwrap_or(i64::MIN);
    let to = params.time("end")?.unwrap_or(now).min(now);
    let selectors = params.0.iter().filter(|(k, _)| k == "match[]");
    let selectors = selectors.map(|(_, v)| promql::selector(v)).collect::<Result<Vec<_>, _>>()?;
    if selectors.is_empty() {
        return Ok(store.seen(from, to));
    }
    let mut found: Vec<&StoredSeries> =
        selectors.iter().flat_map(|s| store.select_seen(s.name.as_deref(), &s.matchers, from, to)).collect();
    found.sort_by(|a, b| a.labels.cmp(&b.labels));
    found.dedup_by(|a, b| a.labels == b.labels);
    Ok(found)
}

async fn labels(State(api): State<Api>, RawQuery(q): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = Params::read(q, &headers, &body);
    on_store(api, move |store, now| {
        let found = matched(store, &params, now)?;
        let names: BTreeSet<&String> = found.iter().flat_map(|s| s.labels.keys()).collect();
        Ok(json!(names.into_iter().take(params.limit()?).collect::<Vec<_>>()).to_string())
    })
    .await
}

async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(q): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::read(q, &headers, &[]);
    on_store(api, move |store, now| {
        let found = matched(store, &params, now)?;
        let values: BTreeSet<&String> = found.iter().filter_map(|s| s.labels.get(&name)).collect();
        Ok(json!(values.into_iter().take(params.limit()?).collect::<Vec<_>>()).to_string())
    })
    .await
}

async fn series(State(api): State<Api>, RawQuery(q): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = Params::read(q, &headers, &body);
    on_store(api, move |store, now| {
        if !params.0.iter().any(|(k, _)| k == "match[]") {
            return Err(PromError::BadData("no match[] parameter provided".into()));
        }
        let found = matched(store, &params, now)?;
        Ok(json!(found.iter().map(|s| s.labels.as_ref()).take(params.limit()?).collect::<Vec<_>>()).to_string())
    })
    .await
}

async fn buildinfo() -> Response {
    let data: Value = json!({
        "version": "3.5.0", "revision": "", "branch": "HEAD",
        "buildUser": "", "buildDate": "", "goVersion": "go1.24.4",
    });
    respond(Ok(data.to_string()))
}

fn pair((at, value): &Point) -> String {
    format!("[{},\"{}\"]", stamp(*at), promql::number(*value))
}

fn stamp(at: i64) -> String {
    match at % 1000 {
        0 => (at / 1000).to_string(),
        _ => (at as f64 / 1000.0).to_string(),
    }
}

fn metric(labels: &Labels) -> String {
    json!(labels.as_ref()).to_string()
}

fn rows<T>(rows: &[(Labels, T)], key: &str, value: impl Fn(&T) -> String) -> String {
    let mut out = String::new();
    for (i, (labels, v)) in rows.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}{{\"metric\":{},\"{key}\":{}}}", metric(labels), value(v));
    }
    out
}

/// An answer in the API's own shape.
fn write(answer: &Answer) -> String {
    let (kind, result) = match answer {
        Answer::Scalar(point) => ("scalar", pair(point)),
        Answer::Text(at, text) => ("string", format!("[{},{}]", stamp(*at), json!(text))),
        Answer::Vector(v) => ("vector", format!("[{}]", rows(v, "value", pair))),
        Answer::Matrix(m) => {
            let list = |points: &Vec<Point>| format!("[{}]", points.iter().map(pair).collect::<Vec<_>>().join(","));
            ("matrix", format!("[{}]", rows(m, "values", list)))
        }
    };
    format!("{{\"resultType\":\"{kind}\",\"result\":{result}}}")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    fn store() -> SeriesStore {
        let mut store = SeriesStore::new();
        for minute in 0..=11_i64 {
            store.append("up", &[("job", "api")], minute * 60_000, 1.0);
        }
        store.append("odd", &[("kind", "a\"b")], 600_000, f64::INFINITY);
        store
    }

    /// Sends `GET target`, or a form when there is one, and compares status and body.
    async fn check(cases: &[(&str, Option<&'static str>, u16, &str)]) {
        let app = router(Arc::new(RwLock::new(store())), Arc::new(|| 600_000));
        let mut wrong = Vec::new();
        for (target, form, status, expected) in cases {
            let request = Request::builder().uri(*target);
            let request = match form {
                None => request.body(Body::empty()),
                Some(form) => request
                    .method("POST")
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(Body::from(*form)),
            };
            let response = app.clone().oneshot(request.unwrap()).await.unwrap();
            let got = response.status().as_u16();
            let body = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
            if got != *status || body != *expected {
                wrong.push(format!("{target} {form:?}\n  want {status} {expected}\n  got  {got} {body}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[tokio::test]
    async fn answers_in_the_real_shapes() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"api"},"value":[600,"1"]}]}}"#;
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"api"},"values":[[570,"1"],[585,"1"],[600,"1"]]}]}}"#;
        check(&[
            ("/api/v1/query?query=up", None, 200, vector),
            ("/api/v1/query", Some("query=up"), 200, vector),
            ("/api/v1/query?query=up&time=1970-01-01T00:10:00Z", None, 200, vector),
            ("/api/v1/query?query=1&time=1.5", None, 200, r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"1"]}}"#),
            ("/api/v1/query?query=0/0", None, 200, r#"{"status":"success","data":{"resultType":"scalar","result":[600,"NaN"]}}"#),
            (
                "/api/v1/query?query=odd",
                None,
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"odd","kind":"a\"b"},"value":[600,"+Inf"]}]}}"#,
            ),
            ("/api/v1/query_range?query=up&start=570&end=660&step=15s", None, 200, matrix),
            ("/api/v1/query_range", Some("query=up&start=570&end=600&step=15"), 200, matrix),
            ("/api/v1/labels", None, 200, r#"{"status":"success","data":["__name__","job","kind"]}"#),
            ("/api/v1/labels?match%5B%5D=up", None, 200, r#"{"status":"success","data":["__name__","job"]}"#),
            ("/api/v1/label/job/values", None, 200, r#"{"status":"success","data":["api"]}"#),
            ("/api/v1/label/__name__/values?end=60", None, 200, r#"{"status":"success","data":["up"]}"#),
            ("/api/v1/label/nope/values", None, 200, r#"{"status":"success","data":[]}"#),
            ("/api/v1/series", Some("match[]=up&match[]=%7Bjob%3D%22api%22%7D"), 200, r#"{"status":"success","data":[{"__name__":"up","job":"api"}]}"#),
            ("/-/healthy", None, 200, "Prometheus Server is Healthy.\n"),
            ("/-/ready", None, 200, "Prometheus Server is Ready.\n"),
        ])
        .await;
    }

    #[tokio::test]
    async fn refuses_in_the_real_shape() {
        let bad = |text: &str| json!({"status": "error", "errorType": "bad_data", "error": text}).to_string();
        let time = |name: &str, text: &str| {
            bad(&format!("invalid parameter \"{name}\": cannot parse {text:?} to a valid timestamp"))
        };
        let step = |text: &str| bad(&format!("invalid parameter \"step\": cannot parse {text:?} to a valid duration"));
        check(&[
            (
                "/api/v1/query?query=hour()",
                None,
                400,
                &bad("invalid parameter \"query\": unsupported function \"hour\""),
            ),
            ("/api/v1/query?query=up&time=noon", None, 400, &time("time", "noon")),
            ("/api/v1/query?query=up&time=1e300", None, 400, &time("time", "1e300")),
            ("/api/v1/query_range?query=up&end=1&step=1", None, 400, &time("start", "")),
            ("/api/v1/query_range?query=up&start=0&end=1&step=x", None, 400, &step("x")),
            ("/api/v1/query_range?query=up&start=0&end=1&step=1e300", None, 400, &step("1e300")),
            ("/api/v1/query_range?query=up&start=0&end=1&step=-inf", None, 400, &step("-inf")),
            ("/api/v1/series", None, 400, &bad("no match[] parameter provided")),
        ])
        .await;
    }
}
