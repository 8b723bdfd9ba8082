//! Metrics and logs over HTTP: the one client behind `ports::Signals`.
//!
//! Invariants: every request has a time limit and a cap on the answer; redirects are not followed
//! (an answer must come from where the configuration points); credentials never show in `Debug`.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, redirect};
use url::Url;

use super::egress::why;
use super::{loki, prometheus};
use crate::config::{BackendAccess, Secret};
use crate::domain::evidence::Series;
use crate::domain::time::Timestamp;
use crate::ports::{LogLine, SignalError, Signals, Warned, Window};

pub const TIMEOUT: Duration = Duration::from_secs(10);
/// A range answer of 10,000 series at 500 points is about 100 MB: such a query is a mistake, and
/// reading it would take the memory that the watch needs.
pub const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Where a backend is and how we say who we are.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub url: Url,
    pub credentials: Credentials,
    /// Their values never show in `Debug`.
    pub headers: HeaderMap,
}

impl Endpoint {
    /// `shared` counts where `access` says nothing of who we are. Errors name the key below that of `access`.
    pub fn new(url: &str, access: &BackendAccess, shared: &Secret) -> Result<Self, String> {
        let url = url.parse::<Url>().map_err(|error| format!("the address {url:?}: {error}"))?;
        let own = access.bearer_token.reveal();
        let credentials = match (&access.user, own) {
            (Some(_), Some(_)) => return Err("`user` and `bearer_token` exclude each other".into()),
            (Some(user), None) => Credentials::Basic {
                user: user.clone(),
                password: access.password.reveal().unwrap_or_default().to_owned(),
            },
            (None, _) if access.password.reveal().is_some() => {
                return Err("`password` is of no use without `user`".into());
            }
            (None, own) => {
                own.or(shared.reveal()).map_or(Credentials::None, |token| Credentials::Bearer(token.to_owned()))
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &access.headers {
            // The value may be a secret, so that no error repeats it.
            let unfit = |what| format!("`headers`: {what} {name:?} does not fit into a header");
            let key = HeaderName::try_from(name.as_str()).map_err(|_| unfit("the name"))?;
            let mut value =
                HeaderValue::from_str(value.reveal().unwrap_or_default()).map_err(|_| unfit("the value of"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Self { url, credentials, headers })
    }

    pub(super) fn sign(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = request.headers(self.headers.clone());
        match self.credentials.header() {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }
}

#[derive(Clone, Default)]
pub enum Credentials {
    #[default]
    None,
    Bearer(String),
    Basic {
        user: String,
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(redacted)",
            Self::Basic { .. } => "Basic(redacted)",
        })
    }
}

impl Credentials {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        use base64::Engine as _;
        let text = match self {
            Self::None => return None,
            Self::Bearer(token) => format!("Bearer {token}"),
            Self::Basic { user, password } => {
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
            }
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[derive(Debug, Clone)]
pub struct SignalsClient {
    http: reqwest::Client,
    prometheus: Option<Endpoint>,
    loki: Option<Endpoint>,
}

/// A raw answer of a backend, whatever its status.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

/// For backends that are read only: no redirects (S11), and nobody waits long.
pub(super) fn client() -> Result<reqwest::Client, SignalError> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(3))
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| SignalError::Unavailable(format!("cannot build the HTTP client: {error}")))
}

impl SignalsClient {
    /// A missing backend is said when it is asked, so that the watch works with one of the two.
    pub fn new(prometheus: Option<Endpoint>, loki: Option<Endpoint>) -> Result<Self, SignalError> {
        Ok(Self { http: client()?, prometheus, loki })
    }

    fn prometheus(&self) -> Result<&Endpoint, SignalError> {
        self.prometheus
            .as_ref()
            .ok_or_else(|| SignalError::Unavailable("no Prometheus configured: set signals.prometheus_url".to_owned()))
    }

    fn loki(&self) -> Result<&Endpoint, SignalError> {
        self.loki
            .as_ref()
            .ok_or_else(|| SignalError::Unavailable("no Loki configured: set signals.loki_url".to_owned()))
    }

    async fn post(&self, endpoint: &Endpoint, path: &str, form: &[(&str, String)]) -> Result<Answer, SignalError> {
        let url = join(&endpoint.url, path);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let request = endpoint.sign(request);
        let host = endpoint.url.host_str().unwrap_or("backend").to_owned();
        let unavailable = |error| SignalError::Unavailable(format!("{host}: {}", why(error)));
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(SignalError::Unavailable(format!("{host} redirects ({status}); set the final URL instead")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(SignalError::BadQuery("the answer is larger than 32 MB: aggregate or narrow it".into()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

/// Keeps a path prefix such as `/prometheus`, which `Url::join` would drop.
pub(super) fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

#[async_trait]
impl Signals for SignalsClient {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<Series>, SignalError> {
        Ok(self.instant_warned(query, at).await?.series)
    }

    async fn range(&self, query: &str, window: Window) -> Result<Vec<Series>, SignalError> {
        Ok(self.range_warned(query, window).await?.series)
    }

    async fn instant_warned(&self, query: &str, at: Timestamp) -> Result<Warned, SignalError> {
        let form = [("query", query.to_owned()), ("time", seconds(at))];
        prometheus::read(&self.post(self.prometheus()?, "/api/v1/query", &form).await?)
    }

    async fn range_warned(&self, query: &str, window: Window) -> Result<Warned, SignalError> {
        let form = [
            ("query", query.to_owned()),
            ("start", seconds(window.start)),
            ("end", seconds(window.end)),
            ("step", format!("{:.3}", window.step.as_secs_f64())),
        ];
        prometheus::read(&self.post(self.prometheus()?, "/api/v1/query_range", &form).await?)
    }

    async fn logs(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, SignalError> {
        let form = [
            ("query", query.to_owned()),
            ("start", loki::nanoseconds(start)),
            ("end", loki::nanoseconds(end)),
            ("limit", limit.to_string()),
            ("direction", "backward".to_owned()),
        ];
        loki::read(&self.post(self.loki()?, "/loki/api/v1/query_range", &form).await?, limit)
    }

    async fn streams(&self, selector: &str, start: Timestamp, end: Timestamp) -> Result<usize, SignalError> {
        let form =
            [("match[]", selector.to_owned()), ("start", loki::nanoseconds(start)), ("end", loki::nanoseconds(end))];
        loki::count(&self.post(self.loki()?, "/loki/api/v1/series", &form).await?)
    }

    async fn check(&self) -> Result<String, SignalError> {
        let form = [("query", "vector(1)".to_owned())];
        prometheus::read(&self.post(self.prometheus()?, "/api/v1/query", &form).await?)?;
        let Ok(endpoint) = self.loki() else {
            return Ok("Prometheus answers; no Loki configured (log tools are off)".to_owned());
        };
        let form = [("query", r#"{app="midwatch-check"}"#.to_owned()), ("limit", "1".to_owned())];
        loki::read(&self.post(endpoint, "/loki/api/v1/query_range", &form).await?, 1)?;
        Ok("Prometheus and Loki answer".to_owned())
    }
}

fn seconds(at: Timestamp) -> String {
    format!("{:.3}", at.secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use axum::Form;
    use axum::Router;
    use axum::response::{IntoResponse, Redirect, Response};
    use axum::routing::post;
    use serde_json::json;

    use super::*;

    async fn serve(app: Router) -> Url {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    fn client(prometheus: Option<Url>, loki: Option<Url>) -> SignalsClient {
        let endpoint =
            |url| Endpoint { url, credentials: Credentials::Bearer("s3cret".into()), headers: HeaderMap::new() };
        SignalsClient::new(prometheus.map(endpoint), loki.map(endpoint)).unwrap()
    }

    async fn prometheus(headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
        assert_eq!(headers["authorization"], "Bearer s3cret");
        if form["query"] == "up{" {
            let body = json!({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end"});
            return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
        }
        axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "pod": form["time"]}, "value": [1763691420.5, "0.25"]},
            {"metric": {}, "value": [1763691420.5, "NaN"]},
        ]}}))
        .into_response()
    }

    #[tokio::test]
    async fn instant_query_sends_credentials_and_reads_samples() {
        let url = serve(Router::new().route("/prefix/api/v1/query", post(prometheus))).await;
        let series = client(Some(url), None).instant("up", Timestamp::from_millis(1_763_691_420_500)).await.unwrap();
        assert_eq!(series[0].label("pod"), Some("1763691420.500"));
        assert_eq!(series[0].points, vec![(Timestamp::from_millis(1_763_691_420_500), 0.25)]);
        assert!(series[1].points.is_empty(), "a gap is an absent point");
    }

    /// Mimir, Loki and Tempo of several tenants, and Grafana Cloud, want more than one token for all.
    #[tokio::test]
    async fn each_backend_is_told_who_we_are_in_its_own_way() {
        async fn asked(headers: HeaderMap) -> Response {
            let told = format!(
                "{} {}",
                headers["authorization"].to_str().unwrap(),
                headers["x-scope-orgid"].to_str().unwrap()
            );
            (StatusCode::BAD_REQUEST, told).into_response()
        }
        let url = serve(Router::new().route("/prefix/loki/api/v1/query_range", post(asked))).await;
        let access: BackendAccess =
            toml::from_str("user = \"7\"\npassword = \"s3cret\"\nheaders = { X-Scope-OrgID = \"shop\" }").unwrap();
        let endpoint = Endpoint::new(url.as_str(), &access, &Secret::new("shared")).unwrap();
        assert!(!format!("{endpoint:?}").contains("shop") && !format!("{endpoint:?}").contains("s3cret"));
        let client = SignalsClient::new(None, Some(endpoint)).unwrap();
        let now = Timestamp::from_secs(1);
        assert_eq!(
            client.logs("{}", now, now, 1).await,
            Err(SignalError::BadQuery("Basic NzpzM2NyZXQ= shop".to_owned()))
        );
        let wrong = |text: &str| {
            let access: BackendAccess = toml::from_str(text).unwrap();
            Endpoint::new("http://loki", &access, &Secret::default()).unwrap_err()
        };
        assert!(wrong("user = \"7\"\nbearer_token = \"x\"").contains("exclude each other"));
        assert!(wrong("password = \"x\"").contains("without `user`"));
        assert!(wrong("headers = { \"a b\" = \"x\" }").contains("the name \"a b\""));
    }

    #[tokio::test]
    async fn a_malformed_query_is_told_apart_from_a_broken_backend() {
        let url = serve(
            Router::new()
                .route("/prefix/api/v1/query", post(prometheus))
                .route("/prefix/api/v1/query_range", post(|| async { (StatusCode::BAD_GATEWAY, "no upstream") })),
        )
        .await;
        let client = client(Some(url), None);
        let now = Timestamp::from_secs(1_000);
        assert_eq!(
            client.instant("up{", now).await,
            Err(SignalError::BadQuery("parse error: unexpected end".to_owned()))
        );
        let window = Window { start: now, end: now, step: Duration::from_secs(15) };
        assert!(matches!(client.range("up", window).await, Err(SignalError::Unavailable(_))));
    }

    /// For `midwatch check`: what to do differs.
    #[tokio::test]
    async fn a_failed_connection_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let error = client(Some(closed), None).instant("up", Timestamp::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.starts_with("127.0.0.1: no connection: ") && error.contains("refused"), "{error}");
        let plain = serve(Router::new()).await.as_str().replace("http:", "https:").parse().unwrap();
        let error = client(Some(plain), None).instant("up", Timestamp::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.starts_with("127.0.0.1: no connection: ") && !error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let app = Router::new()
            .route("/prefix/api/v1/query", post(|| async { Redirect::temporary("http://169.254.169.254/latest") }));
        let client = client(Some(serve(app).await), None);
        let error = client.instant("up", Timestamp::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().contains("redirects"), "{error}");
    }

    #[tokio::test]
    async fn logs_come_newest_first_with_their_labels() {
        async fn loki(Form(form): Form<HashMap<String, String>>) -> Response {
            if form["query"] == "{" {
                return (StatusCode::BAD_REQUEST, "parse error at line 1, col 2").into_response();
            }
            assert_eq!(form["start"], "1000000000000");
            axum::Json(json!({"status": "success", "data": {"resultType": "streams", "result": [
                {"stream": {"app": "cart"}, "values": [["1001000000000", "older"], ["1003000000000", "newest"]]},
                {"stream": {"app": "web"}, "values": [["1002000000000", "middle"]]},
            ]}}))
            .into_response()
        }
        let url = serve(Router::new().route("/prefix/loki/api/v1/query_range", post(loki))).await;
        let client = client(None, Some(url));
        let (start, end) = (Timestamp::from_secs(1_000), Timestamp::from_secs(2_000));
        let lines = client.logs(r#"{app=~".+"}"#, start, end, 2).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.line.as_str()).collect::<Vec<_>>(), ["newest", "middle"]);
        assert_eq!(lines[1].labels["app"], "web");
        assert!(matches!(client.logs("{", start, end, 2).await, Err(SignalError::BadQuery(_))));
    }

    #[tokio::test]
    async fn streams_are_counted_where_lines_are_not() {
        async fn series(Form(form): Form<HashMap<String, String>>) -> Response {
            assert_eq!((form["start"].as_str(), form["end"].as_str()), ("1000000000000", "2000000000000"));
            match form["match[]"].as_str() {
                r#"{app="cart"}"# => axum::Json(json!({"status": "success", "data": [{"app": "cart", "pod": "a"}]})),
                _ => axum::Json(json!({"status": "success", "data": null})),
            }
            .into_response()
        }
        let url = serve(Router::new().route("/prefix/loki/api/v1/series", post(series))).await;
        let client = client(None, Some(url));
        let (start, end) = (Timestamp::from_secs(1_000), Timestamp::from_secs(2_000));
        assert_eq!(client.streams(r#"{app="cart"}"#, start, end).await, Ok(1));
        assert_eq!(client.streams(r#"{app="nosuchthing"}"#, start, end).await, Ok(0));
    }

    #[tokio::test]
    async fn a_missing_backend_names_the_key_to_set() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = client(None, None);
        let now = Timestamp::from_secs(1);
        assert_eq!(
            client.logs("{}", now, now, 1).await,
            Err(SignalError::Unavailable("no Loki configured: set signals.loki_url".to_owned()))
        );
        assert!(!format!("{:?}", Credentials::Bearer("s3cret".into())).contains("s3cret"));
    }
}
