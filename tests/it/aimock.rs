//! The OpenAI wire against a server that nobody here wrote (npm `@copilotkit/aimock`), and what is told
//! a collector of spans meanwhile.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Of;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

use crate::harness::{Running, free_address, real, serve};
use crate::talking::Talking;

struct Aimock {
    _process: Running,
    _folder: tempfile::TempDir,
    url: String,
    http: reqwest::Client,
}

impl Aimock {
    /// `None` where it is not installed.
    async fn start(fixtures: Value) -> Option<Self> {
        let program = real("MIDWATCH_TEST_AIMOCK")?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("fixtures.json"), folder.path().join("aimock.json"));
        std::fs::write(&file, json!({"fixtures": fixtures}).to_string()).unwrap();
        std::fs::write(&config, json!({"llm": {"fixtures": file}}).to_string()).unwrap();
        let address = free_address();
        let port = address.rsplit(':').next().unwrap();
        let mut command = Command::new("node");
        command.arg(program).arg("--config").arg(&config).args(["--port", port]);
        let process = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("node starts"));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while http.get(format!("{url}/__aimock/journal")).send().await.is_err() {
            assert!(Instant::now() < deadline, "aimock does not answer at {url}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self { _process: process, _folder: folder, url, http })
    }

    async fn chaos(&self, rates: &Value) {
        let request = self.http.post(format!("{}/__aimock/chaos", self.url));
        let answer = request.header("content-type", "application/json").body(rates.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Requests of ours, oldest first, with what became of them.
    async fn journal(&self) -> Vec<Value> {
        let text = self.http.get(format!("{}/__aimock/journal", self.url)).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn config(&self) -> String {
        format!(
            "[investigation]\nsettle_seconds = 0\nmax_steps = 4\n[model]\nname = \"gpt-mock\"\nbase_url = \"{}/v1\"\n\
             reply_seconds = 5\n",
            self.url
        )
    }
}

/// The page of the incident after its investigation ended.
async fn diagnosed(talking: &Talking) -> Value {
    talking.fire("pay").await;
    let ended = talking
        .until("an end of the investigation", async || {
            talking.incidents().await.into_iter().find(|one| one["state"] == "handed_over")
        })
        .await;
    let id = ended["id"].as_str().unwrap();
    serde_json::from_str(&talking.page(&format!("/api/incidents/{id}")).await).unwrap()
}

fn conclusion() -> Value {
    json!({
        "service": null, "change": null, "mechanism": "nothing here shows why", "remedy": "none", "ruled_out": [],
        "claims": [{"text": "pay alerts", "evidence": ["E1"]}], "confidence": 0.2, "needs": "the metrics of pay",
    })
}

fn two_calls_then(conclusion: &Value) -> Value {
    let calls = json!([{"name": "list_changes", "arguments": {"service": "pay"}},
                       {"name": "search_runbooks", "arguments": {"query": "pay is down"}}]);
    json!([
        {"match": {"turnIndex": 0}, "response": {"toolCalls": calls}},
        {"match": {"turnIndex": 1}, "response": {"toolCalls": [{"name": "conclude", "arguments": conclusion}]}},
    ])
}

#[tokio::test]
async fn a_foreign_server_of_the_wire_leads_an_investigation_to_its_end() {
    let Some(aimock) = Aimock::start(two_calls_then(&conclusion())).await else { return };
    let talking = Talking::start(&aimock.config()).await;
    let page = diagnosed(&talking).await;
    assert_eq!(page["reasoning"]["needs"], "the metrics of pay", "{page:#}");
    let journal = aimock.journal().await;
    assert_eq!(journal.len(), 2, "{journal:#?}");
    let messages = journal[1]["body"]["messages"].as_array().unwrap();
    let answered: Vec<&Value> = messages.iter().filter(|message| message["role"] == "tool").collect();
    let called = messages.iter().find(|message| message["tool_calls"].is_array()).unwrap();
    let ids = |of: &Value| of["tool_calls"].as_array().unwrap().iter().map(|call| call["id"].clone()).collect();
    let called: Vec<Value> = ids(called);
    // Both calls ran, each answer under the id that the server had given.
    assert_eq!(answered.iter().map(|answer| answer["tool_call_id"].clone()).collect::<Vec<_>>(), called);
    assert!(journal.iter().all(|entry| entry["response"]["status"] == 200));
}

#[tokio::test]
async fn a_model_without_native_calls_is_understood_as_text() {
    let action = format!("Thought: nothing to see here.\nAction: conclude\nAction Input: {}", conclusion());
    let first = "Thought: what changed?\nAction: list_changes\nAction Input: {\"service\": \"pay\"}";
    let fixtures = json!([
        {"match": {"turnIndex": 0}, "response": {"content": first}},
        {"match": {"turnIndex": 1}, "response": {"content": action}},
    ]);
    let Some(aimock) = Aimock::start(fixtures).await else { return };
    let talking = Talking::start(&format!("{}mode = \"text\"\n", aimock.config())).await;
    let page = diagnosed(&talking).await;
    assert_eq!(page["reasoning"]["needs"], "the metrics of pay", "{page:#}");
    assert_eq!(aimock.journal().await.len(), 2);
}

#[tokio::test]
async fn whatever_the_server_does_the_watch_concludes_and_says_so() {
    for (chaos, asked) in [
        (json!({"dropRate": 1}), 2..=6),
        (json!({"malformedRate": 1}), 1..=6),
        (json!({"disconnectRate": 1}), 1..=6),
        // It says when it answers again, which is waited for.
        (json!({"rateLimitRate": 1}), 2..=8),
    ] {
        let Some(aimock) = Aimock::start(two_calls_then(&conclusion())).await else { return };
        aimock.chaos(&chaos).await;
        let talking = Talking::start(&aimock.config()).await;
        let text = diagnosed(&talking).await.to_string();
        assert!(text.contains("gpt-mock did not conclude") || text.contains("without a conclusion"), "{chaos}: {text}");
        let times = aimock.journal().await.len();
        assert!(asked.contains(&times), "{chaos}: asked {times} times");
    }
}

/// A collector of spans (OTLP over HTTP, protobuf).
async fn collector() -> (String, Arc<Mutex<Vec<Span>>>) {
    let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
    let kept = spans.clone();
    let take = async move |headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["x-tenant"], "night watch");
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let resources = request.resource_spans.into_iter();
        kept.lock().unwrap().extend(resources.flat_map(|of| of.scope_spans).flat_map(|scope| scope.spans));
        ExportTraceServiceResponse::default().encode_to_vec()
    };
    let router = Router::new().route("/v1/traces", post(take));
    let url = serve(router).await;
    (url, spans)
}

fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|one| one.key == key).and_then(|one| one.value.clone()?.value);
    match value {
        Some(Of::StringValue(text)) => text,
        Some(Of::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn an_investigation_is_exported_as_spans_of_generative_ai() {
    let Some(aimock) = Aimock::start(two_calls_then(&conclusion())).await else { return };
    let (url, spans) = collector().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=night%20watch"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let talking = Talking::with_environment(&aimock.config(), &environment).await;
    diagnosed(&talking).await;
    let whole = talking
        .until("the spans of an investigation", async || {
            let spans = spans.lock().unwrap().clone();
            spans.iter().any(|span| span.name == "invoke_agent midwatch").then_some(spans)
        })
        .await;
    let named = |name: &str| whole.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let agent = named("invoke_agent midwatch")[0];
    let chats = named("chat gpt-mock");
    assert_eq!(chats.len(), 2, "{whole:#?}");
    for chat in &chats {
        assert_eq!(attribute(chat, "gen_ai.operation.name"), "chat");
        assert_eq!(attribute(chat, "gen_ai.request.model"), "gpt-mock");
        assert_ne!(attribute(chat, "gen_ai.usage.input_tokens"), "None");
        assert_eq!((chat.trace_id.clone(), chat.kind), (agent.trace_id.clone(), 3), "of one trace, as a client");
    }
    for tool in ["execute_tool list_changes", "execute_tool search_runbooks"] {
        let spans = named(tool);
        assert_eq!(spans.len(), 1, "{tool}");
        assert_eq!(attribute(spans[0], "gen_ai.tool.name"), tool.rsplit(' ').next().unwrap());
    }
    let told = format!("{whole:?}");
    assert!(!told.contains("nothing here shows why"), "what is said stays out of the spans");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_a_warning() {
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let talking = Talking::with_environment("[investigation]\nsettle_seconds = 0\n", &environment).await;
    assert!(diagnosed(&talking).await["reasoning"].is_object());
    let warned = async || talking.log().contains("the collector takes no spans").then_some(());
    talking.until("a word about the collector", warned).await;
}
