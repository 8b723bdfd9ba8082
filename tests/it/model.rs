//! A model behind the OpenAI wire, played from a script: what an investigation costs, and what a
//! model that misbehaves does to it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::harness::{NIGHT, midwatch, one_night_at_a_time, run_within, serve};
use crate::talking::Talking;
use crate::watch::{is_the_night_of_the_readme, main_incident};

/// What the endpoint does with one request.
#[derive(Clone)]
pub enum Reply {
    /// Calls of tools, natively.
    Calls(Vec<(&'static str, Value)>),
    Text(&'static str),
    /// A status with a body; `Retry-After` in seconds.
    Fails(u16, &'static str, Option<u32>),
    /// Raw bytes of a 200, such as half a JSON document.
    Raw(String),
    /// Takes the request and says nothing more.
    Hangs,
}

/// What to answer to a request that is the so-manieth.
type Script = Box<dyn Fn(&Value, usize) -> Reply + Send>;

struct Played {
    script: Script,
    asked: Vec<Value>,
}

pub struct Scripted {
    pub url: String,
    played: Arc<Mutex<Played>>,
}

impl Scripted {
    /// Answers in order; at the end of the script, with the last reply again.
    pub async fn start(replies: Vec<Reply>) -> Self {
        Self::playing(Box::new(move |_, number| replies[number.min(replies.len() - 1)].clone())).await
    }

    pub async fn playing(script: Script) -> Self {
        let played = Arc::new(Mutex::new(Played { script, asked: vec![] }));
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(played.clone());
        let url = serve(router.layer(axum::extract::DefaultBodyLimit::disable())).await + "/v1";
        Self { url, played }
    }

    pub fn asked(&self) -> Vec<Value> {
        self.played.lock().unwrap().asked.clone()
    }
}

async fn answer(State(played): State<Arc<Mutex<Played>>>, Json(request): Json<Value>) -> Response {
    let (reply, number) = {
        let mut played = played.lock().unwrap();
        let number = played.asked.len();
        let reply = (played.script)(&request, number);
        played.asked.push(request);
        (reply, number)
    };
    let message = match reply {
        Reply::Fails(status, body, after) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, body).into_response();
            if let Some(seconds) = after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            return response;
        }
        Reply::Hangs => std::future::pending().await,
        Reply::Raw(body) => return ([("content-type", "application/json")], body).into_response(),
        Reply::Text(text) => json!({"role": "assistant", "content": text}),
        Reply::Calls(calls) => {
            let calls = calls.into_iter().enumerate().map(|(at, (name, arguments))| {
                // Text by the specification; a string stands for arguments that are no JSON.
                let arguments = match arguments {
                    Value::String(broken) => broken,
                    other => other.to_string(),
                };
                let function = json!({"name": name, "arguments": arguments});
                json!({"id": format!("call-{number}-{at}"), "type": "function", "function": function})
            });
            json!({"role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>()})
        }
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100});
    let whole = json!({"id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
                       "choices": [choice], "usage": usage});
    Json(whole).into_response()
}

/// As OpenAI counts: every string that the model reads, by the tokenizer of its newer models.
fn tokens_of(request: &Value) -> usize {
    let tokenizer = tiktoken_rs::o200k_base().unwrap();
    let mut text = String::new();
    for message in request["messages"].as_array().unwrap() {
        text.push_str(message["role"].as_str().unwrap_or_default());
        text.push('\n');
        match &message["content"] {
            Value::String(content) => text.push_str(content),
            Value::Null => {}
            other => text.push_str(&other.to_string()),
        }
        if message["tool_calls"].is_array() {
            text.push_str(&message["tool_calls"].to_string());
        }
        text.push('\n');
    }
    if request["tools"].is_array() {
        text.push_str(&request["tools"].to_string());
    }
    tokenizer.encode_with_special_tokens(&text).len()
}

/// Seven rounds of looking, each at something else, then the truth with evidence.
fn eight_steps() -> Vec<Reply> {
    vec![
        Reply::Calls(vec![
            ("todo", json!({"items": [{"text": "session: what changed, what leaks", "done": false}]})),
            ("golden_signals", json!({"service": "session"})),
            ("list_changes", json!({})),
        ]),
        Reply::Calls(vec![
            ("logs", json!({"service": "session", "minutes": 30})),
            ("topology", json!({"service": "session"})),
        ]),
        Reply::Calls(vec![(
            "metrics_range",
            json!({"query": "max by (service) (db_client_connections_usage / db_client_connections_max)"}),
        )]),
        Reply::Calls(vec![("kube_objects", json!({"kind": "pods", "namespace": "shop"}))]),
        Reply::Calls(vec![
            ("kube_events", json!({"namespace": "shop"})),
            ("golden_signals", json!({"service": "authentication"})),
        ]),
        Reply::Calls(vec![("search_runbooks", json!({"query": "connection pool leak after a config rollout"}))]),
        Reply::Calls(vec![("search_past_incidents", json!({"query": "session leaks connections"}))]),
        Reply::Calls(vec![(
            "conclude",
            json!({
                "service": "session", "change": "session revision 3",
                "mechanism": "a configuration change leaks connections", "remedy": "roll_back",
                "claims": [{"text": "session was changed before the first symptom", "evidence": ["E2", "E3", "E4", "E5"]}],
                "ruled_out": [], "confidence": 0.9, "needs": null,
            }),
        )]),
    ]
}

/// The night of seed 1 with a model; gives its report. The endpoint goes on answering meanwhile.
fn night_with(model: &Scripted, config: &str) -> Value {
    tokio::task::block_in_place(|| {
        let _alone = one_night_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("midwatch.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = midwatch();
        command.arg("--config").arg(file).args(["demo", "--headless", "--json", "--approve", "--seed", "1"]);
        command.env("MIDWATCH_MODEL", "scripted").env("OPENAI_BASE_URL", &model.url).env("OPENAI_API_KEY", "none");
        run_within(command, NIGHT).expect(0).report()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_steps_of_one_agent_read_less_than_25_000_tokens() {
    let model = Scripted::start(eight_steps()).await;
    let report = night_with(&model, "");
    is_the_night_of_the_readme(&report);
    // In the model's words, not in those of the deterministic reasoner.
    assert_eq!(main_incident(&report)["root_cause"]["mechanism"], "a configuration change leaks connections");
    let asked = model.asked();
    let steps: Vec<usize> = asked.iter().map(tokens_of).collect();
    let total: usize = steps.iter().sum();
    println!("one agent, input tokens of {} requests: {steps:?}, together {total}", steps.len());
    assert_eq!(asked.len(), 8, "the script has eight steps");
    assert!(total < 25_000, "{total} tokens were read: {steps:?}");
}

fn is_of(request: &Value, word: &str) -> bool {
    request["messages"][0]["content"].as_str().is_some_and(|system| system.contains(word))
}

/// How many replies this member has given already.
fn steps_so_far(request: &Value) -> usize {
    request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant").count()
}

/// Triage names two fields; each specialist looks twice and reports, the lead looks once more and concludes.
fn a_team(request: &Value, _: usize) -> Reply {
    if is_of(request, "You sort incidents") {
        return Reply::Calls(vec![(
            "assign",
            json!({"specialists": [{"speciality": "database", "question": "who uses the connections up?"},
                                   {"speciality": "application", "question": "what changed in session?"}]}),
        )]);
    }
    let conclusion = |ruled_out: Value| {
        let claim =
            json!({"text": "session was changed before the first symptom", "evidence": ["E2", "E3", "E4", "E5"]});
        let conclusion = json!({
            "service": "session", "change": "session revision 3", "mechanism": "a configuration change leaks connections",
            "remedy": "roll_back", "claims": [claim], "ruled_out": ruled_out, "confidence": 0.9, "needs": null,
        });
        Reply::Calls(vec![("conclude", conclusion)])
    };
    let ruled_out = json!([{"text": "the disk is well", "evidence": ["E2"]}]);
    match (is_of(request, "database specialist"), is_of(request, "application specialist"), steps_so_far(request)) {
        (true, _, 0) => Reply::Calls(vec![("golden_signals", json!({"service": "accounts-db"}))]),
        (true, _, 1) => Reply::Calls(vec![("logs", json!({"service": "accounts-db", "minutes": 30}))]),
        (_, true, 0) => {
            Reply::Calls(vec![("list_changes", json!({})), ("golden_signals", json!({"service": "session"}))])
        }
        (_, true, 1) => Reply::Calls(vec![("logs", json!({"service": "session", "minutes": 30}))]),
        (false, false, 0) => Reply::Calls(vec![("topology", json!({"node": "session"}))]),
        (false, false, _) => conclusion(json!([])),
        _ => conclusion(ruled_out),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_reads_less_than_60_000_tokens_and_cures_the_night() {
    let model = Scripted::playing(Box::new(a_team)).await;
    let report = night_with(&model, "[investigation]\nteam = true\n");
    is_the_night_of_the_readme(&report);
    // In the model's words, not in those of the deterministic reasoner.
    assert_eq!(main_incident(&report)["root_cause"]["mechanism"], "a configuration change leaks connections");
    let asked = model.asked();
    let total: usize = asked.iter().map(tokens_of).sum();
    println!("a team, input tokens of {} requests: {total}", asked.len());
    let of = |word: &str| asked.iter().filter(|request| is_of(request, word)).count();
    assert_eq!((of("You sort incidents"), of("database specialist"), of("application specialist")), (1, 3, 3));
    assert_eq!(asked.len(), 9, "and two of the lead");
    let lead = asked.last().unwrap()["messages"][1]["content"].as_str().unwrap();
    assert!(lead.contains("The database specialist") && lead.contains("the disk is well"), "{lead}");
    assert!(total < 60_000, "{total} tokens were read");
}

/// What an incident without any backend says of its diagnosis when the model behaves like this.
async fn diagnosed_with(replies: Vec<Reply>, more: &str) -> (Value, usize) {
    let model = Scripted::start(replies).await;
    let config = format!(
        "{more}\n[investigation]\nsettle_seconds = 0\nmax_steps = 4\n[model]\nname = \"scripted\"\nbase_url = {:?}\n\
         reply_seconds = 2\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    talking.fire("pay").await;
    let handed_over = talking
        .until("an end of the investigation", async || {
            talking.incidents().await.into_iter().find(|one| one["state"] == "handed_over")
        })
        .await;
    let id = handed_over["id"].as_str().unwrap();
    let page: Value = serde_json::from_str(&talking.page(&format!("/api/incidents/{id}")).await).unwrap();
    (page, model.asked().len())
}

#[tokio::test]
async fn whatever_a_model_does_the_watch_concludes_and_says_so() {
    let usage = r#"{"id":"x","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"length"}]}"#;
    let cases: [(&str, Vec<Reply>); 8] = [
        ("a cut reply", vec![Reply::Raw("{\"id\":\"x\",\"choices\":[{\"index\":0,\"mess".into())]),
        ("an empty reply", vec![Reply::Raw(usage.into())]),
        ("nothing but words", vec![Reply::Text("I would look at the database.")]),
        ("arguments that are no JSON", vec![Reply::Calls(vec![("list_changes", json!("{\"service\": "))])]),
        ("tools that do not exist", vec![Reply::Calls(vec![("run_shell", json!({"command": "reboot"}))])]),
        ("the same call for ever", vec![Reply::Calls(vec![("list_changes", json!({}))])]),
        ("too many requests", vec![Reply::Fails(429, "slow down", Some(1))]),
        ("a broken server", vec![Reply::Fails(503, "no", None)]),
    ];
    for (what, replies) in cases {
        let (page, asked) = diagnosed_with(replies, "").await;
        let text = page.to_string();
        assert!((1..=8).contains(&asked), "{what}: asked {asked} times");
        assert!(text.contains("scripted did not conclude") || text.contains("without a conclusion"), "{what}: {text}");
    }
}

/// A minute of quota does not end an investigation of four.
#[tokio::test]
async fn an_endpoint_that_says_when_it_answers_again_is_waited_for() {
    let conclusion = json!({
        "service": null, "change": null, "mechanism": "not known", "remedy": "none", "ruled_out": [],
        "claims": [{"text": "pay alerts", "evidence": ["E1"]}], "confidence": 0.9, "needs": "metrics of pay",
    });
    let replies = vec![Reply::Fails(429, "slow down", Some(6)), Reply::Calls(vec![("conclude", conclusion)])];
    let (page, asked) = diagnosed_with(replies, "").await;
    assert_eq!((page["reasoning"]["needs"].as_str(), asked), (Some("metrics of pay"), 2), "{}", page["reasoning"]);
}

#[tokio::test]
async fn what_was_not_kept_of_a_models_word_is_shown_with_the_reason() {
    let conclusion = json!({
        "service": null, "change": null, "mechanism": "not known", "remedy": "none", "ruled_out": [],
        "claims": [{"text": "pay fails 97 % of requests", "evidence": ["E1"]},
                   {"text": "pay alerts", "evidence": ["E1"], "quote": "pay is on fire"}],
        "confidence": 0.9, "needs": "metrics of pay",
    });
    let (page, _) = diagnosed_with(vec![Reply::Calls(vec![("conclude", conclusion)])], "").await;
    let reasoning = &page["reasoning"];
    let dropped: Vec<&str> =
        reasoning["dropped"].as_array().unwrap().iter().map(|one| one["note"].as_str().unwrap()).collect();
    assert_eq!(
        dropped,
        [
            "97 does not occur in the evidence that is cited",
            "the words \"pay is on fire\" do not stand in what it cites"
        ]
    );
    assert_eq!(reasoning["needs"], "metrics of pay", "{reasoning}");
}

/// The page of the incident about `service`, once it is in people's hands.
async fn handed_over(talking: &Talking, service: &str) -> Value {
    talking.fire(service).await;
    let ended = talking
        .until("an end of the investigation", async || {
            let is_it = |one: &Value| {
                one["state"] == "handed_over" && one["title"].as_str().is_some_and(|title| title.starts_with(service))
            };
            talking.incidents().await.into_iter().find(is_it)
        })
        .await;
    let id = ended["id"].as_str().unwrap();
    serde_json::from_str(&talking.page(&format!("/api/incidents/{id}")).await).unwrap()
}

#[tokio::test]
async fn a_model_that_hangs_costs_one_incident_its_time_and_the_next_ones_nothing() {
    let model = Scripted::start(vec![Reply::Hangs]).await;
    let config = format!(
        "[investigation]\nsettle_seconds = 0\n[model]\nname = \"scripted\"\nbase_url = {:?}\nreply_seconds = 1\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    let first = handed_over(&talking, "pay").await.to_string();
    assert!(first.contains("without a conclusion: model did not answer in time"), "{first}");
    let second = handed_over(&talking, "cart").await.to_string();
    assert!(second.contains("scripted was not asked, because it did not answer lately"), "{second}");
    assert_eq!(model.asked().len(), 1, "neither again nor for the next one");
}

#[tokio::test]
async fn no_reply_is_waited_for_longer_than_the_investigation_may_take() {
    let model = Scripted::start(vec![Reply::Hangs]).await;
    let config = format!(
        "[investigation]\nsettle_seconds = 0\nmax_seconds = 2\n[model]\nname = \"scripted\"\nbase_url = {:?}\n\
         reply_seconds = 3600\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    let page = handed_over(&talking, "pay").await.to_string();
    assert!(page.contains("scripted ended without a conclusion"), "{page}");
    // Nor longer than an answer may take: the person is told.
    talking.says("ops", None, "which pods sit on node 7?", "scripted did not get to an answer").await;
}

#[tokio::test]
async fn what_a_model_only_thought_counts_against_the_day() {
    let thought = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": null}, "finish_reason": "length"}],
                         "usage": {"prompt_tokens": 1000, "completion_tokens": 2000}});
    let model = Scripted::start(vec![Reply::Raw(thought.to_string())]).await;
    let config = format!(
        "[investigation]\nsettle_seconds = 0\nmax_tokens_a_day = 5000\n[model]\nname = \"scripted\"\nbase_url = {:?}\n\
         reply_tokens = 500\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    handed_over(&talking, "pay").await;
    let asked = model.asked();
    let room: Vec<_> = asked.iter().map(|request| request["max_completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(room, [500, 1000, 1000, 1000], "once with more room, then it counts as a failure");
    let second = handed_over(&talking, "cart").await.to_string();
    assert!(second.contains("12000 tokens were spent today, of 5000"), "{second}");
    assert_eq!(model.asked().len(), asked.len());
}

/// What Mistral's and Gemma's templates refuse.
#[tokio::test]
async fn every_request_keeps_the_turns_that_strict_templates_want() {
    let tool = || Reply::Calls(vec![("list_changes", json!({}))]);
    let model =
        Scripted::start(vec![tool(), Reply::Text("I would look at it."), Reply::Raw("{\"id\":".into()), tool()]).await;
    let config = format!(
        "[investigation]\nsettle_seconds = 0\nmax_steps = 6\n[model]\nname = \"scripted\"\nbase_url = {:?}\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    handed_over(&talking, "pay").await;
    let asked = model.asked();
    assert!(asked.len() >= 4, "asked {} times", asked.len());
    for request in asked {
        let roles: Vec<&str> =
            request["messages"].as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
        let fits = |pair: &[&str]| {
            matches!(
                pair,
                ["system" | "assistant", "user"]
                    | ["user", "assistant"]
                    | ["assistant" | "tool", "tool"]
                    | ["tool", "assistant"]
            )
        };
        assert!(roles.windows(2).all(fits), "{roles:?}");
    }
}

#[tokio::test]
async fn a_day_without_budget_is_a_day_without_a_model() {
    // The first reply costs more than the day has.
    let answer = json!({"service": null, "change": null, "mechanism": "not known", "remedy": "none", "claims": [],
                        "ruled_out": [], "confidence": 0.1, "needs": "metrics"});
    let model = Scripted::start(vec![Reply::Calls(vec![("conclude", answer)])]).await;
    let config = format!(
        "[investigation]\nsettle_seconds = 0\nmax_tokens_a_day = 1000\n[model]\nname = \"scripted\"\nbase_url = {:?}\n",
        model.url
    );
    let talking = Talking::start(&config).await;
    for (service, asked) in [("pay", 1), ("cart", 1)] {
        talking.fire(service).await;
        talking
            .until("an end of the investigation", async || {
                talking
                    .incidents()
                    .await
                    .into_iter()
                    .find(|one| one["state"] == "handed_over" && one["title"].as_str().unwrap().starts_with(service))
            })
            .await;
        assert_eq!(model.asked().len(), asked, "{service}");
    }
    let page = talking.page("/api/incidents/INC-2").await;
    assert!(page.contains("1100 tokens were spent today, of 1000"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_evaluation_measures_the_model_behind_the_endpoint() {
    let conclusion = json!({
        "service": null, "change": null, "mechanism": "not known", "remedy": "none", "ruled_out": [],
        "claims": [{"text": "there are alerts", "evidence": ["E1"]}], "confidence": 0.2, "needs": "more time",
    });
    let model = Scripted::start(vec![
        Reply::Calls(vec![("list_changes", json!({}))]),
        Reply::Calls(vec![("conclude", conclusion)]),
    ])
    .await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/scenarios/seen-from-outside");
    let mut command = midwatch();
    command.args(["eval", "agent", "--json", "--without-ranking", "--model", "scripted", "--token-price", "2"]);
    command.arg("--scenarios").arg(folder).env("OPENAI_BASE_URL", &model.url).env("OPENAI_API_KEY", "k");
    let report = tokio::task::spawn_blocking(move || {
        let _night = one_night_at_a_time();
        run_within(command, NIGHT).expect(0).report()
    })
    .await
    .unwrap();
    assert_eq!((&report["reasoner"], &report["ranking"]), (&json!("scripted"), &json!(false)), "{report:#}");
    let run = &report["cases"][0]["runs"][0];
    assert_eq!(run["passed"], true, "not to know is right here: {run:#}");
    assert_eq!(
        (&run["tokens"], &run["cost"], &run["tool_calls"]),
        (&json!(2200), &json!(0.0044), &json!(1)),
        "{run:#}"
    );
    let brief = model.asked()[0]["messages"].to_string();
    assert!(!brief.contains("score"), "without the ranking nothing is said of candidates: {brief}");
}
