//! `midwatch check`: everything that can be wrong before the first alert, with its remedy.

mod measured;
mod rights;
mod round_trip;

use std::path::Path;
use std::process::ExitCode;

use crate::adapters::kafka::AlertConsumer;
use crate::adapters::mcp::McpServer;
use crate::adapters::slack::Finding;
use crate::adapters::{elsewhere, rota};
use crate::app;
use crate::config::{Config, ModelMode};
use crate::domain::runbook::Runbook;
use crate::memory::greet;
use crate::prompt::Prompts;
use crate::store::Store;

#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Only Slack: token, each missing scope and what it is for, channel, transport.
    #[arg(long)]
    slack: bool,
    /// Only the rights in the cluster: granted beside needed, missing and too much.
    #[arg(long, conflicts_with = "slack")]
    pub kubernetes: bool,
}

/// Prints one line a thing; exit code 1 when anything is not as it should be.
pub async fn run(
    file: Option<&Path>,
    environment: &dyn Fn(&str) -> Option<String>,
    args: &CheckArgs,
) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    let config = match Config::load(file, environment) {
        Ok(config) => {
            findings.good("configuration", file.map_or_else(|| "defaults".into(), |file| file.display().to_string()));
            config
        }
        Err(error) => {
            findings.bad("configuration", error.to_string());
            return Ok(findings.end());
        }
    };
    if args.slack {
        slack(&config, &mut findings).await;
        if config.slack.is_none() {
            findings.bad("slack", "not configured: give [slack] with bot_token and channel".into());
        }
        return Ok(findings.end());
    }
    match Prompts::load(config.prompts.dir.as_deref()).and_then(|prompts| prompts.check()) {
        Ok(line) => findings.good("prompts", line),
        Err(error) => findings.bad("prompts", error.to_string()),
    }
    let folder = app::runbook_folder(&config);
    let (mut count, mut errors) = (0, vec![]);
    walk(&folder, &mut |path| match std::fs::read_to_string(path) {
        Ok(text) => match Runbook::parse(&path.display().to_string(), &text) {
            Ok(_) => count += 1,
            Err(bad) => errors.push(bad.to_string()),
        },
        Err(error) => errors.push(format!("{}: {error}", path.display())),
    });
    match errors.is_empty() {
        true if count > 0 => findings.good("runbooks", format!("{count} in {}", folder.display())),
        true => findings.bad("runbooks", format!("none in {} (key: runbooks.dir)", folder.display())),
        false => errors.into_iter().for_each(|error| findings.bad("runbooks", error)),
    }
    match Store::open(&config.store_address()).await {
        Ok(store) => findings.good("store", store.kind().to_owned()),
        Err(error) => findings.bad("store", error.to_string()),
    }
    reach(&config, &mut findings).await;
    Ok(findings.end())
}

/// Only what the identities may do in the cluster.
pub async fn rights(config: &Config) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    if let Err(error) = rights::run(config, &mut findings).await {
        findings.bad("kubernetes", format!("{error} (keys: kubernetes.url, kubernetes.ca_file, kubernetes.token)"));
    }
    Ok(findings.end())
}

async fn reach(config: &Config, findings: &mut Findings) {
    match (&config.memory.qdrant_url, &config.store.url) {
        (Some(url), _) => match greet(url, config.memory.api_key.reveal()).await {
            Ok(line) => findings.good("memory", line),
            Err(error) => findings.bad("memory", format!("{error} (keys: memory.qdrant_url, memory.api_key)")),
        },
        (None, Some(_)) => findings.note(
            "memory",
            "is kept in store.data_dir: each of several processes has its own; memory.qdrant_url makes it one",
        ),
        (None, None) => findings.good("memory", "in store.data_dir".into()),
    }
    match &config.kafka {
        None => findings.note("kafka", "not configured; alerts come by webhook only"),
        Some(kafka) => match AlertConsumer::connect(kafka, config.mappings().unwrap_or_default())
            .and_then(|consumer| consumer.describe())
        {
            Ok(lines) => {
                for line in lines {
                    match line {
                        Ok(line) => findings.good("kafka", line),
                        Err(line) => findings.bad("kafka", line),
                    }
                }
            }
            Err(error) => findings.bad(
                "kafka",
                format!(
                    "{error} (key: kafka.brokers = {:?}; TLS and SCRAM need a build with --features kafka-tls)",
                    kafka.brokers
                ),
            ),
        },
    }
    match app::signals(config) {
        Ok(None) => findings.note("signals", "not configured; no metrics and logs are read"),
        Ok(Some(signals)) => match signals.check().await {
            Ok(line) => {
                findings.good("signals", line);
                measured::run(config, signals.as_ref(), findings).await;
            }
            Err(error) => {
                let url = config.signals.as_ref().map_or("", |signals| signals.prometheus_url.as_str());
                findings.bad("signals", format!("{error} (keys: signals.prometheus_url = {url:?}, signals.loki_url)"));
            }
        },
        Err(error) => findings.bad("signals", format!("{error:#}")),
    }
    tools(config, findings).await;
    match app::cluster(config).await {
        Ok(None) => findings.note("kubernetes", "not configured; no remediation is possible"),
        Ok(Some(cluster)) => match cluster.check().await {
            Ok(line) => findings.good("kubernetes", line),
            Err(error) => findings
                .bad("kubernetes", format!("{error} (keys: kubernetes.url, kubernetes.ca_file, kubernetes.token)")),
        },
        Err(error) => findings.bad("kubernetes", format!("{error:#}")),
    }
    match app::model(config) {
        Ok(None) => findings.note("model", "no model configured; the watch reasons deterministically"),
        Ok(Some(model)) => match model.check().await {
            Ok(line) => {
                findings.good("model", line);
                if config.model.as_ref().is_some_and(|model| model.mode == ModelMode::Native) {
                    match round_trip::run(model.as_ref()).await {
                        Ok(Ok(line)) => findings.good("model", line),
                        Ok(Err(line)) => findings.note("model", &line),
                        Err(line) => findings.bad("model", line),
                    }
                }
            }
            Err(error) => findings.bad("model", format!("{error} (keys: model.base_url, model.name, OPENAI_API_KEY)")),
        },
        Err(error) => findings.bad("model", format!("{error:#}")),
    }
    slack(config, findings).await;
    neighbours(config, findings).await;
    match config.intent() {
        Ok(intent) => {
            let rules = intent.alertmanager().inhibit_rules.len();
            findings.good("intent", format!("{} windows, {rules} inhibition rules", intent.windows().list().len()));
            for what in &intent.alertmanager().unsupported {
                findings.note("intent.alertmanager", &format!("{what} is not honoured"));
            }
            if let Some(said) = intent.alertmanager().groups_and_waits() {
                findings.note("intent.alertmanager", &said);
            }
        }
        Err(error) => findings.bad("intent", error.to_string()),
    }
    if config.policy.policy().is_ok_and(|policy| policy.mixes_in_anybody()) {
        findings.note(
            "policy",
            "policy.approvers names local/you beside people who are known: the chat page asks nobody who they are, so \
             its approval is not one of two, not for high risk, and not for what somebody asked for",
        );
    }
    let (people, groups) = (config.policy.approvers.len(), config.policy.groups.len());
    match (people, groups) {
        (0, 0) => findings.note(
            "policy",
            "policy.approvers and policy.groups are empty: nobody can approve, every plan goes to people",
        ),
        (_, 1..) if config.slack.is_none() => {
            findings.bad("policy", "policy.groups needs a chat with user groups ([slack])".into());
        }
        (people, groups) => findings.good("policy", format!("{people} approvers, {groups} groups")),
    }
}

/// Pagers, trackers, other chats; schedules of people on call.
async fn neighbours(config: &Config, findings: &mut Findings) {
    match elsewhere::outlets(config) {
        Ok(outlets) => {
            for outlet in outlets {
                let what = format!("elsewhere {}", outlet.name());
                match outlet.check().await {
                    Ok(line) => findings.good(&what, line),
                    Err(error) => findings.bad(&what, error.to_string()),
                }
            }
        }
        Err(error) => findings.bad("elsewhere", error),
    }
    match rota::rotas(config) {
        Ok(rotas) => {
            for rota in rotas {
                let what = format!("oncall.{}", rota.name());
                match rota.check().await {
                    Ok(line) => findings.good(&what, line),
                    Err(error) => findings.bad(&what, error.to_string()),
                }
            }
        }
        Err(error) => findings.bad("oncall", error),
    }
}

async fn slack(config: &Config, findings: &mut Findings) {
    match app::slack_chat(config) {
        Ok(None) => findings.note("slack", "not configured; the console is the chat"),
        Ok(Some(chat)) => {
            for finding in chat.examine().await {
                match finding {
                    Finding::Good(line) => findings.good("slack", line),
                    Finding::Note(line) => findings.note("slack", &line),
                    Finding::Bad(line) => findings.bad("slack", line),
                }
            }
        }
        Err(error) => findings.bad("slack", format!("{error:#}")),
    }
}

async fn tools(config: &Config, findings: &mut Findings) {
    match app::traces(config) {
        Ok(None) => findings.note("traces", "not configured; no traces are read"),
        Ok(Some(traces)) => match traces.check().await {
            Ok(line) => findings.good("traces", line),
            Err(error) => findings.bad("traces", format!("{error} (keys: traces.kind, traces.url)")),
        },
        Err(error) => findings.bad("traces", format!("{error:#}")),
    }
    match app::own_tools(config) {
        Ok(own) => {
            for (key, tool) in own {
                match tool.check().await {
                    Ok(line) => findings.good(&key, line),
                    Err(error) => findings.bad(&key, error.to_string()),
                }
            }
        }
        Err(error) => findings.bad("tools", format!("{error:#}")),
    }
    for server in &config.tools.mcp {
        match McpServer::new(server).check().await {
            Ok(line) => findings.good(&format!("tools.mcp {}", server.name), line),
            Err(error) => findings.bad(&format!("tools.mcp {}", server.name), error.to_string()),
        }
    }
    if let Err(error) = app::toolbox(config).await {
        findings.bad("tools", format!("{error:#}"));
    }
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            visit(&path);
        }
    }
}

#[derive(Default)]
struct Findings {
    bad: usize,
}

impl Findings {
    fn good(&mut self, what: &str, line: String) {
        println!("ok    {what}: {line}");
    }
    fn note(&mut self, what: &str, line: &str) {
        println!("--    {what}: {line}");
    }
    fn bad(&mut self, what: &str, line: String) {
        self.bad += 1;
        println!("FAIL  {what}: {line}");
    }
    fn end(self) -> ExitCode {
        if self.bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}
