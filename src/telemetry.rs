//! Logs for people and machines on stderr (stdout belongs to results), and spans for a collector.
//!
//! Spans are exported over OTLP (HTTP, protobuf) where OpenTelemetry's own variables name a collector:
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, with the headers, time limit,
//! sampler, service name and resource attributes of the same family. An investigation, each call of a
//! model and of a tool are spans with the names of the semantic conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>). What was said is never in a span: it may
//! hold what nobody wants in a trace store.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Where a collector is, by the specification; without either nothing is exported.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    Text,
    Json,
}

/// Spans that were not sent yet are sent when it is dropped.
#[must_use]
pub struct Exported(Option<SdkTracerProvider>);

impl Drop for Exported {
    fn drop(&mut self) {
        if let Some(Err(failure)) = self.0.take().map(|provider| provider.shutdown()) {
            tracing::warn!(error = %failure, "the last spans were not exported");
        }
    }
}

/// Called once, before anything is logged. `RUST_LOG` overrides `default_filter`. Spans are sent on the
/// runtime behind `handle`, which must outlive what is given back.
pub fn init(form: LogForm, default_filter: &str, handle: &Handle) -> anyhow::Result<Exported> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let provider = provider(handle)?;
    let spans = provider.as_ref().map(|provider| {
        // Lines of the log tell what was said; they would become events of the spans.
        let ours =
            filter_fn(|meta| meta.is_span() && meta.target().starts_with("midwatch") && *meta.level() <= Level::INFO);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("midwatch")).with_location(false).with_filter(ours)
    });
    // Colours are for eyes: in a file their codes are noise.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(spans);
    // A second call (tests in one process) keeps the first subscriber.
    let _ = match form {
        LogForm::Text => registry.with(lines.with_filter(filter)).try_init(),
        LogForm::Json => registry.with(lines.json().with_filter(filter)).try_init(),
    };
    Ok(Exported(provider))
}

fn provider(handle: &Handle) -> anyhow::Result<Option<SdkTracerProvider>> {
    let named = |name: &str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    if !ENDPOINTS.iter().any(|name| named(name)) {
        return Ok(None);
    }
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let client = Sender { client, handle: handle.clone(), away: AtomicBool::new(false) };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build().map_err(|failure| {
        anyhow::anyhow!("spans cannot be exported: {failure}; correct or unset {}", ENDPOINTS.join(" and "))
    })?;
    let resource = Resource::builder();
    let resource = if named(SERVICE_NAME) { resource } else { resource.with_service_name("midwatch") };
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build()))
}

/// The exporter waits on a thread of its own, where no reactor runs: what it sends goes over ours.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    handle: Handle,
    /// It was said that nothing arrives; said again only after something did.
    away: AtomicBool,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let request = self
            .client
            .request(request.method().clone(), request.uri().to_string())
            .headers(request.headers().clone())
            .body(request.into_body());
        let sent = self.handle.spawn(async move {
            let answer = request.send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut whole = http::Response::new(answer.bytes().await?);
            (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(whole)
        });
        let outcome = sent.await?;
        let trouble = match &outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        match trouble {
            Some(trouble) if !self.away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(trouble, "the collector takes no spans; they are dropped until it does");
            }
            Some(_) => {}
            None => self.away.store(false, Ordering::Relaxed),
        }
        Ok(outcome?)
    }
}
