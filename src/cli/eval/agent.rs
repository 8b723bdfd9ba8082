//! Scenarios through the product: the same `App` that production runs, wired to the scenario's world.
//!
//! The harness plays estate, alert sender and clock, and reads what the product recorded. It never
//! asks the world what is broken.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::app::App;
use crate::config::{Config, Kubernetes, Secret, Signals, TracesConfig};
use crate::domain::action::Action;
use crate::domain::incident::{Incident, State};
use crate::domain::time::Timestamp;
use crate::eval::agent::{Case, Observed, ObservedIncident, Report, RulesWord, Scenario, load, score};
use crate::flow::Desk;
use crate::store::Scope;
use crate::world::{Estate, SimClock, WorldRules};

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Folder of scenario folders, or one of them.
    #[arg(long, value_name = "DIR")]
    scenarios: PathBuf,
    /// Another model than the configured one, at the configured endpoint.
    #[arg(long, value_name = "NAME", conflicts_with = "reasoner")]
    model: Option<String>,
    /// `none`: the deterministic reasoner, whatever is configured.
    #[arg(long, value_enum)]
    reasoner: Option<Reasoner>,
    /// How often each scenario is lived through.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// The model's brief comes without the ranked candidates.
    #[arg(long)]
    without_ranking: bool,
    /// What a million tokens cost, in any currency; without it nothing is said about cost.
    #[arg(long, value_name = "PRICE")]
    token_price: Option<f64>,
    /// Ends with 3 when fewer of the runs than this share pass.
    #[arg(long, value_name = "SHARE")]
    at_least: Option<f64>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reasoner {
    None,
}

/// Enough for a baseline with a weekday's swing in it.
const QUIET_DAYS: u32 = 2;
/// Event time that one look of the harness passes over.
const STRIDE: Duration = Duration::from_secs(15);
/// After the first incident others may follow: the harness watches so much longer, in event time.
const AFTER: Duration = Duration::from_secs(6 * 60);
/// Wall time for one run without a model: the product has long been told when this ends.
const PATIENCE: Duration = Duration::from_secs(240);

pub async fn run(mut config: Config, args: AgentArgs) -> anyhow::Result<ExitCode> {
    let scenarios = load(&args.scenarios)?;
    if let Some(Reasoner::None) = args.reasoner {
        config.model = None;
    }
    if let Some(name) = &args.model {
        config.name_model(name, &|name| std::env::var(name).ok());
    }
    config.investigation.brief_has_ranking = !args.without_ranking;
    let reasoner = config.model.as_ref().map_or_else(|| "none".to_owned(), |model| model.name.clone());
    let mut cases = vec![];
    for scenario in &scenarios {
        let mut runs = vec![];
        for _ in 0..args.runs {
            let observed =
                live(config.clone(), scenario).await.with_context(|| format!("scenario {}", scenario.name))?;
            runs.push(score(&scenario.written.expect, scenario.written.budget, &observed, args.token_price));
        }
        if !args.json {
            let passed = runs.iter().filter(|run| run.passed).count();
            eprintln!("{:<34} {passed}/{}", scenario.name, runs.len());
        }
        cases.push(Case {
            name: scenario.name.clone(),
            title: scenario.written.title.clone(),
            held_out: scenario.written.held_out,
            runs,
        });
    }
    let report = Report::of(reasoner, !args.without_ranking, cases);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => println!("{report}"),
    }
    let enough = args.at_least.is_none_or(|share| report.all.pass_rate >= share);
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

struct Stage {
    app: App,
    estate: Arc<Estate>,
    clock: SimClock,
    http: reqwest::Client,
    sent: i64,
    _data: tempfile::TempDir,
}

async fn live(config: Config, scenario: &Scenario) -> anyhow::Result<Observed> {
    let mut stage = Stage::set(config, scenario).await?;
    let outcome = stage.play(scenario).await;
    stage.app.shutdown().await;
    stage.estate.stop();
    outcome
}

impl Stage {
    async fn set(mut config: Config, scenario: &Scenario) -> anyhow::Result<Self> {
        let rules = match scenario.written.rules {
            RulesWord::World => WorldRules::On,
            RulesWord::AlertsOnly => WorldRules::Off,
        };
        let estate = Arc::new(Estate::serve_world(scenario.world.clone(), QUIET_DAYS, rules).await?);
        let data = tempfile::Builder::new().prefix("midwatch-eval-").tempdir()?;
        data.path().clone_into(&mut config.store.data_dir);
        config.store.url = None;
        config.kafka = None;
        config.slack = None;
        config.memory.qdrant_url = None;
        config.signals = Some(Signals {
            baseline_days: u64::from(QUIET_DAYS),
            ..Signals::of(estate.prometheus_url(), Some(estate.loki_url()))
        });
        config.traces = Some(TracesConfig::jaeger(estate.jaeger_url()));
        config.kubernetes = Some(Kubernetes {
            cluster: Some(estate.cluster()),
            url: Some(estate.kubernetes_url().to_owned()),
            token: Secret::new("eval-read"),
            write_token: Secret::new("eval-write"),
            ..Kubernetes::default()
        });
        config.console.enabled = false;
        config.server.listen = "127.0.0.1:0".into();
        config.server.webhook_token = Secret::default();
        config.policy.approvers.push("local/you".into());
        let clock = estate.clock().clone();
        let app = App::start(config, Arc::new(clock.clone())).await?;
        let stage = Self { app, estate, clock, http: reqwest::Client::new(), sent: 0, _data: data };
        stage.mute(scenario).await?;
        Ok(stage)
    }

    async fn mute(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let start = scenario.world.start();
        for mute in &scenario.written.silences {
            let matchers: Vec<Value> = (mute.labels.iter())
                .map(|(name, value)| json!({"name": name, "value": value, "isRegex": false, "isEqual": true}))
                .collect();
            let ends = start + Duration::from_secs(u64::from(mute.minutes) * 60);
            let silence = json!({"matchers": matchers, "startsAt": start.to_string(), "endsAt": ends.to_string(),
                "createdBy": "eval", "comment": mute.because, "confirmed": true});
            let answer = self.http.post(format!("{}/api/v1/silences", self.app.api_url)).json(&silence).send().await?;
            let status = answer.status();
            anyhow::ensure!(status.is_success(), "the silence is refused: {status} {}", answer.text().await?);
        }
        Ok(())
    }

    /// Event time goes on in strides until everything that came up has been looked at.
    async fn play(&mut self, scenario: &Scenario) -> anyhow::Result<Observed> {
        let start = scenario.world.start();
        let last = start + Duration::from_secs(u64::from(scenario.written.minutes) * 60);
        let mut alerts = scenario.alerts.iter().peekable();
        let mut first: Option<(Timestamp, Instant)> = None;
        let thinks = self.app.desk.model.is_some();
        let patience = match thinks {
            true => Duration::from_secs(scenario.written.budget.seconds * 2),
            false => PATIENCE,
        };
        loop {
            let event_now = self.clock.event_now();
            let incidents = self.incidents().await?;
            if first.is_none() && !incidents.is_empty() {
                first = Some((event_now, Instant::now()));
                crate::app::refresh_topology(&self.app.desk).await;
            }
            let over = match first {
                None => event_now >= last,
                Some((at, since)) => {
                    let told = incidents.iter().all(is_told);
                    (told && event_now >= at + AFTER) || since.elapsed() > patience
                }
            };
            if over {
                let seconds = first.map_or(0.0, |(_, since)| since.elapsed().as_secs_f64());
                return self.observed(&incidents, seconds).await;
            }
            // While the model thinks, the estate does not run away from it.
            let thinking = thinks && incidents.iter().any(|incident| incident.state == State::Investigating);
            if !thinking {
                self.clock.jump_to(event_now + STRIDE);
                let estate = self.estate.clone();
                tokio::task::spawn_blocking(move || estate.advance()).await?;
                let mut due = self.estate.due_alerts();
                let event_now = self.clock.event_now();
                while let Some((_, alert)) = alerts.next_if(|(at, _)| *at <= event_now) {
                    due.push(alert.clone());
                }
                self.send(due).await?;
            }
            if first.is_some() || self.sent > 0 {
                // The drivers of the watch look ten times a second.
                tokio::time::sleep(Duration::from_millis(if first.is_some() { 60 } else { 15 })).await;
            }
        }
    }

    async fn send(&mut self, alerts: Vec<Value>) -> anyhow::Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        self.sent += alerts.len() as i64;
        let answer = self.http.post(format!("{}/api/v2/alerts", self.app.api_url)).json(&alerts).send().await?;
        let status = answer.status();
        anyhow::ensure!(status.is_success(), "the watch refuses alerts: {status} {}", answer.text().await?);
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let judged: i64 = self.app.desk.store.funnel().await?.iter().map(|count| count.count).sum();
            if judged >= self.sent {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < patience, "only {judged} of {} alerts were judged in 20 s", self.sent);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        let all = self.app.desk.store.incidents(Scope::All).await?;
        Ok(all.into_iter().filter(|incident| !matches!(incident.state, State::Merged { .. })).collect())
    }

    async fn observed(&self, incidents: &[Incident], seconds: f64) -> anyhow::Result<Observed> {
        let desk = &self.app.desk;
        let mut observed = Observed {
            tokens: desk.counters.model_tokens.load(std::sync::atomic::Ordering::Relaxed),
            seconds,
            ..Observed::default()
        };
        for incident in incidents {
            observed.tool_calls += tool_calls(desk, incident).await?;
            observed.incidents.push(seen(desk, incident).await?);
        }
        Ok(observed)
    }
}

async fn tool_calls(desk: &Desk, incident: &Incident) -> anyhow::Result<u64> {
    let events = desk.store.events(&incident.id).await?;
    let reasoned = events.iter().filter(|event| event.kind == "reasoned");
    let called = reasoned.filter(|event| {
        let body: Value = serde_json::from_str(&event.body).unwrap_or_default();
        body.pointer("/step/tool").is_some_and(|tool| !tool.is_null())
    });
    Ok(called.count() as u64)
}

async fn seen(desk: &Desk, incident: &Incident) -> anyhow::Result<ObservedIncident> {
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let claimed: BTreeSet<_> = (incident.diagnosis.iter())
        .flat_map(|diagnosis| diagnosis.claims.iter().flat_map(|claim| claim.evidence.clone()))
        .collect();
    Ok(ObservedIncident {
        id: incident.id.to_string(),
        state: incident.state.word().to_owned(),
        diagnosis: incident.diagnosis.clone(),
        proposed: incident.plans.iter().map(|record| proposed(&record.plan.action)).collect(),
        leads: (incident.candidates.iter().take(4))
            .map(|candidate| (candidate.node.clone(), (candidate.score * 100.0).round() / 100.0))
            .collect(),
        cited: evidence.iter().filter(|one| claimed.contains(&one.id)).map(|one| one.kind).collect(),
    })
}

/// In the words of `scenario.yaml`.
fn proposed(action: &Action) -> String {
    let verb = match action {
        Action::RollBack { .. } => "rollback",
        other => other.verb(),
    };
    format!("{verb} {}", action.target().name)
}

/// It has been looked at, and nothing more happens to it without a person.
fn is_told(incident: &Incident) -> bool {
    match &incident.state {
        State::Resolved { .. } | State::HandedOver { .. } | State::Awaiting { .. } => true,
        State::Open
        | State::Investigating
        | State::Diagnosed
        | State::Executing { .. }
        | State::Verifying { .. }
        | State::Merged { .. } => false,
    }
}
