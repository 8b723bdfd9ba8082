//! Traces over HTTP: Jaeger's query API and Tempo's, behind `ports::Traces`.
//!
//! Invariants: every request has a time limit and a cap on the answer; redirects are not followed;
//! credentials never show in `Debug`.

mod jaeger;
mod tempo;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use super::egress::why;
use super::signals::{Endpoint, MAX_ANSWER, client, join};
use crate::domain::time::Timestamp;
use crate::domain::trace::Trace;
use crate::ports::{Dependency, SignalError, TraceQuery, Traces};

/// A longer trace is read so far; what is missing looks like a caller's own time.
const MAX_SPANS: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Jaeger,
    Tempo,
}

#[derive(Debug, Clone)]
pub struct TraceClient {
    http: reqwest::Client,
    endpoint: Endpoint,
    backend: Backend,
}

impl TraceClient {
    pub fn new(backend: Backend, endpoint: Endpoint) -> Result<Self, SignalError> {
        Ok(Self { http: client()?, endpoint, backend })
    }

    /// `None`: the backend knows nothing of the kind (404).
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<Option<T>, SignalError> {
        let host = self.endpoint.url.host_str().unwrap_or("backend").to_owned();
        let unavailable = |error| SignalError::Unavailable(format!("{host}: {}", why(error)));
        let request = self.http.get(join(&self.endpoint.url, path)).query(query);
        let request = self.endpoint.sign(request.header("accept", "application/json"));
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(SignalError::BadQuery("the answer is larger than 32 MB: ask for fewer traces".into()));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let why: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(match status {
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => SignalError::BadQuery(why),
                _ => SignalError::Unavailable(format!("{host} answered {status}: {why}")),
            });
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|why| SignalError::Unavailable(format!("{host} gave an unreadable answer: {why}")))
    }
}

#[async_trait]
impl Traces for TraceClient {
    fn name(&self) -> &'static str {
        match self.backend {
            Backend::Jaeger => "jaeger",
            Backend::Tempo => "tempo",
        }
    }

    async fn search(&self, query: &TraceQuery) -> Result<Vec<Trace>, SignalError> {
        match self.backend {
            Backend::Jaeger => jaeger::search(self, query).await,
            Backend::Tempo => tempo::search(self, query).await,
        }
    }

    async fn trace(&self, id: &str) -> Result<Option<Trace>, SignalError> {
        match self.backend {
            Backend::Jaeger => jaeger::trace(self, id).await,
            Backend::Tempo => tempo::trace(self, id).await,
        }
    }

    async fn dependencies(&self, start: Timestamp, end: Timestamp) -> Result<Vec<Dependency>, SignalError> {
        match self.backend {
            Backend::Jaeger => jaeger::dependencies(self, start, end).await,
            // Its metrics generator writes them to Prometheus, where they are read.
            Backend::Tempo => Ok(vec![]),
        }
    }

    async fn check(&self) -> Result<String, SignalError> {
        match self.backend {
            Backend::Jaeger => jaeger::check(self).await,
            Backend::Tempo => tempo::check(self).await,
        }
    }
}

#[cfg(test)]
mod tests;
