//! One file plus environment; parsed and validated once. Errors name the key, the line and the remedy.

mod access;
mod console;
mod kafka;
mod kubernetes;
mod people;
mod policy;
mod prefilter;
mod reasoning;
mod remediation;
mod routing;
mod secret;
mod signals;
#[cfg(test)]
mod tests;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::domain::correlate;
use crate::domain::escalation::Path;
use crate::domain::intake::{Mapping, Mappings};
use crate::domain::intent::Intent;
use crate::domain::intent::alertmanager::Alertmanager;
use crate::domain::intent::inhibit::{InhibitRule, Limits};
use crate::domain::intent::silence::Silences;
use crate::domain::intent::window::{Window, Windows};
use crate::domain::investigation::{Prices, reply_tokens};
use crate::domain::triage;

pub use access::BackendAccess;
pub use console::{ConsoleConfig, host_of, is_loopback, is_named, is_ours};
pub use kafka::Kafka;
pub use kubernetes::Kubernetes;
pub use people::{OnCallConfig, PersonConfig, RotaConfig};
pub use policy::PolicyConfig;
pub use prefilter::PrefilterConfig;
pub use reasoning::{InvestigationConfig, ModelConfig, ModelMode, SmallModel, TokensField};
pub use remediation::{AutonomyConfig, DumpConfig, HookConfig, JobConfig, RemediationConfig, SuccessConfig};
pub use routing::{ElsewhereConfig, JiraConfig, PagerDutyConfig, RoutingConfig, TeamsConfig, Wanted, WebhookConfig};
pub use secret::Secret;
pub use signals::{EdgeQuery, SignalQuery};
pub use tools::{
    CommandConfig, DatabaseConfig, HttpConfig, McpConfig, ProbeConfig, ToolsConfig, TraceKind, TracesConfig, networks,
    variables,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Config {
    pub server: Server,
    pub console: ConsoleConfig,
    pub store: StoreConfig,
    pub kafka: Option<Kafka>,
    pub kubernetes: Option<Kubernetes>,
    pub signals: Option<Signals>,
    pub traces: Option<TracesConfig>,
    pub tools: ToolsConfig,
    pub model: Option<ModelConfig>,
    pub memory: MemorySection,
    pub embedder: EmbedderConfig,
    pub slack: Option<Slack>,
    pub prefilter: PrefilterConfig,
    pub correlation: Correlation,
    pub intent: IntentConfig,
    pub intake: IntakeConfig,
    pub policy: PolicyConfig,
    pub remediation: RemediationConfig,
    pub people: Vec<PersonConfig>,
    pub oncall: OnCallConfig,
    /// The first path that fits counts.
    pub escalation: Vec<Path>,
    pub routing: RoutingConfig,
    pub elsewhere: ElsewhereConfig,
    pub investigation: InvestigationConfig,
    pub prompts: Prompts,
    pub runbooks: Runbooks,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Health, metrics, webhook intake and, with Slack over HTTP, its callbacks.
    pub listen: String,
    /// Callers of the webhook send it as `Authorization: Bearer ...`; empty: no check.
    pub webhook_token: Secret,
    pub max_body_bytes: usize,
    /// More open inbox rows than this and intake says "later" (P11).
    pub max_inbox: i64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            webhook_token: Secret::default(),
            max_body_bytes: 4 << 20,
            max_inbox: 20_000,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Where everything that midwatch knows lives.
    pub data_dir: PathBuf,
    /// `postgres://...`; empty: SQLite in the data folder.
    pub url: Option<String>,
    /// Judged alerts stay in the store so long, then go to compressed files in `data_dir/cold`.
    pub hot_days: u64,
    /// How long those files stay.
    pub cold_days: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("midwatch-data"), url: None, hot_days: 15, cold_days: 365 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signals {
    pub prometheus_url: String,
    #[serde(default)]
    pub loki_url: Option<String>,
    /// For both, where they have none of their own.
    #[serde(default)]
    pub bearer_token: Secret,
    #[serde(default)]
    pub prometheus: BackendAccess,
    #[serde(default)]
    pub loki: BackendAccess,
    /// Label of log streams that names the service.
    #[serde(default = "default_log_label")]
    pub log_service_label: String,
    /// Label of series that names the cluster, where one Prometheus serves several: what is asked about an incident
    /// is asked of its clusters alone.
    #[serde(default)]
    pub cluster_label: Option<String>,
    /// The same of log streams.
    #[serde(default)]
    pub log_cluster_label: Option<String>,
    /// Whether the logs are listened to while nothing is wrong: one query a minute.
    #[serde(default = "yes")]
    pub watch_logs: bool,
    /// How far back baselines look.
    #[serde(default = "default_baseline_days")]
    pub baseline_days: u64,
    /// What is measured of each service; the default fits common exporters.
    #[serde(default = "signals::defaults")]
    pub query: Vec<SignalQuery>,
    #[serde(default = "signals::default_edges")]
    pub edges: Vec<EdgeQuery>,
}

fn a_post_a_second() -> u32 {
    1
}
fn yes() -> bool {
    true
}
fn default_log_label() -> String {
    "app".into()
}
fn default_baseline_days() -> u64 {
    7
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySection {
    /// Qdrant server over gRPC; empty: Qdrant Edge in the data folder.
    pub qdrant_url: Option<String>,
    pub api_key: Secret,
    pub collection: Option<String>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedderConfig {
    /// `libonnxruntime.so` 1.24 or newer; with `model_dir` it selects fastembed.
    pub onnx_runtime: Option<PathBuf>,
    pub model_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    pub bot_token: Secret,
    /// With it Socket Mode, without it the HTTP Events API.
    #[serde(default)]
    pub app_token: Secret,
    #[serde(default)]
    pub signing_secrets: Vec<Secret>,
    #[serde(default)]
    pub api_base: Option<String>,
    #[serde(default)]
    pub team_id: Option<String>,
    pub channel: String,
    #[serde(default = "a_post_a_second")]
    pub posts_per_second: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    pub window_seconds: u64,
    pub reach: usize,
    pub warnings_open: usize,
}

impl Default for Correlation {
    fn default() -> Self {
        let rules = correlate::Rules::default();
        Self { window_seconds: rules.window.as_secs(), reach: rules.reach, warnings_open: rules.warnings_open }
    }
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Prompts {
    /// Overrides the built-in templates of the same name.
    pub dir: Option<PathBuf>,
}

/// Which alerts need nobody, said ahead.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct IntentConfig {
    /// An Alertmanager configuration whose inhibition rules, time intervals and routes count here too.
    pub alertmanager: Option<PathBuf>,
    /// Maintenance and change windows.
    pub window: Vec<Window>,
    /// In Alertmanager's words: `source_matchers`, `target_matchers`, `equal`.
    pub inhibit: Vec<InhibitRule>,
}

/// Formats of alerts beyond those that are known.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    pub mapping: Vec<Mapping>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Runbooks {
    /// Empty: the runbooks that midwatch carries.
    pub dir: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "cannot read the configuration {0}: {1}. Give an existing file with --config or MIDWATCH_CONFIG; deploy/midwatch.example.toml is a start"
    )]
    Unreadable(PathBuf, std::io::Error),
    #[error("{file}:{line}: {reason}")]
    Invalid { file: PathBuf, line: usize, reason: String },
    #[error("`{key}`: {reason}. {remedy}")]
    Value { key: &'static str, reason: String, remedy: &'static str },
}

impl Config {
    /// Reads the file (defaults without one) and lays the environment over it.
    pub fn load(
        file: Option<&std::path::Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut config = match file {
            None => Self::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
                Self::parse(&text, path, environment)?
            }
        };
        config.overlay(environment);
        config.validate()?;
        Ok(config)
    }

    fn parse(
        text: &str,
        path: &std::path::Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let text = expand(text, path, environment)?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            ConfigError::Invalid { file: path.to_owned(), line, reason: error.message().trim().replace('\n', "; ") }
        })
    }

    /// What a model costs; one that is not in the file costs nothing that is known.
    pub fn prices_of(&self, model: &str) -> Prices {
        let Some(config) = &self.model else { return Prices::default() };
        match &config.triage {
            Some(small) if small.name == model => small.prices,
            _ if config.name == model => config.prices,
            _ => Prices::default(),
        }
    }

    /// Takes another model than the configured one, at the same endpoint.
    pub fn name_model(&mut self, name: &str, environment: &dyn Fn(&str) -> Option<String>) {
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        let known = self.model.take();
        self.model = Some(ModelConfig {
            base_url: get("OPENAI_BASE_URL").or_else(|| known.as_ref()?.base_url.clone()),
            api_key: match get("OPENAI_API_KEY") {
                Some(key) => Secret::new(key),
                None => known.as_ref().map(|model| model.api_key.clone()).unwrap_or_default(),
            },
            mode: known.as_ref().map(|model| model.mode).unwrap_or_default(),
            prices: known.as_ref().map(|model| model.prices).unwrap_or_default(),
            triage: known.as_ref().and_then(|model| model.triage.clone()),
            reply_tokens: known.as_ref().map_or_else(reply_tokens, |model| model.reply_tokens),
            reply_tokens_field: known.as_ref().map(|model| model.reply_tokens_field).unwrap_or_default(),
            reply_seconds: known.map_or_else(reasoning::reply_seconds, |model| model.reply_seconds),
            name: name.to_owned(),
        });
    }

    fn overlay(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        let name = get("MIDWATCH_MODEL").or_else(|| self.model.as_ref().map(|model| model.name.clone()));
        if let Some(name) = name {
            self.name_model(&name, environment);
        }
        if let Some(url) = get("MIDWATCH_STORE_URL") {
            self.store.url = Some(url);
        }
        if let Some(listen) = get("MIDWATCH_LISTEN") {
            self.server.listen = listen;
        }
    }

    /// What people have said ahead: windows, inhibition rules, an Alertmanager's configuration.
    pub fn intent(&self) -> Result<Intent, ConfigError> {
        let wrong = |key, reason: String, remedy| ConfigError::Value { key, reason, remedy };
        let mut alertmanager = match &self.intent.alertmanager {
            None => Alertmanager::default(),
            Some(path) => {
                let fail = |reason: String| {
                    let remedy = "Give a file that `amtool check-config` accepts, or leave the key out.";
                    wrong("intent.alertmanager", format!("{}: {reason}", path.display()), remedy)
                };
                let text = std::fs::read_to_string(path).map_err(|failure| fail(failure.to_string()))?;
                Alertmanager::read(&text).map_err(|failure| fail(failure.to_string()))?
            }
        };
        alertmanager.inhibit_rules.extend(self.intent.inhibit.iter().cloned());
        let windows = Windows::new(self.intent.window.clone())
            .map_err(|bad| wrong("intent.window", bad.to_string(), "See deploy/midwatch.example.toml."))?;
        Ok(Intent::new(Silences::default(), windows, alertmanager, Limits::default()))
    }

    pub fn mappings(&self) -> Result<Mappings, ConfigError> {
        Mappings::compile(self.intake.mapping.clone()).map_err(|bad| ConfigError::Value {
            key: "intake.mapping",
            reason: bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            remedy: "See deploy/midwatch.example.toml for a mapping that works.",
        })
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.intent()?;
        self.mappings()?;
        let value = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
        for (key, listen) in [("server.listen", &self.server.listen), ("console.listen", &self.console.listen)] {
            if listen.parse::<std::net::SocketAddr>().is_err() {
                return value(
                    key,
                    format!("{listen:?} is not an address"),
                    "Give IP:PORT, for example 127.0.0.1:8080.",
                );
            }
        }
        if self.console.enabled && self.server.listen == self.console.listen && !self.server.listen.ends_with(":0") {
            return value(
                "console.listen",
                format!("{} is server.listen, too", self.console.listen),
                "Give each its own port.",
            );
        }
        if self.server.max_inbox < 1 || self.server.max_body_bytes == 0 {
            return value(
                "server",
                format!(
                    "max_inbox = {} and max_body_bytes = {} would take nothing in",
                    self.server.max_inbox, self.server.max_body_bytes
                ),
                "Leave them out for the defaults.",
            );
        }
        if self.embedder.onnx_runtime.is_some() != self.embedder.model_dir.is_some() {
            return value(
                "embedder",
                "onnx_runtime and model_dir belong together, and one is missing".into(),
                "Give both for fastembed, none for the built-in embedder.",
            );
        }
        if let Some(dir) = &self.prompts.dir
            && !dir.is_dir()
        {
            return value(
                "prompts.dir",
                format!("{} is no folder", dir.display()),
                "Give the folder of your own templates, or leave it out for the built-in ones.",
            );
        }
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.validate()?;
        }
        if let Some(url) = &self.store.url
            && !url.starts_with("postgres://")
            && !url.starts_with("postgresql://")
        {
            return value(
                "store.url",
                "is neither empty nor a postgres:// address".into(),
                "Leave it out for SQLite in store.data_dir.",
            );
        }
        for (key, url) in [
            ("signals.prometheus_url", self.signals.as_ref().map(|signals| &signals.prometheus_url)),
            ("signals.loki_url", self.signals.as_ref().and_then(|signals| signals.loki_url.as_ref())),
            ("model.base_url", self.model.as_ref().and_then(|model| model.base_url.as_ref())),
            ("memory.qdrant_url", self.memory.qdrant_url.as_ref()),
            ("kubernetes.url", self.kubernetes.as_ref().and_then(|kubernetes| kubernetes.url.as_ref())),
        ] {
            if let Some(url) = url
                && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
            {
                return value(
                    key,
                    format!("{url:?} is not an http(s) address"),
                    "Give for example http://prometheus:9090.",
                );
            }
        }
        if let Some(signals) = &self.signals {
            signals.validate(&self.remediation)?;
        }
        self.console.validate()?;
        self.prefilter.validate()?;
        self.tools.validate()?;
        self.remediation.validate()?;
        self.policy.policy()?;
        if let Some(traces) = &self.traces {
            traces.validate()?;
        }
        if self.policy.approval_seconds > 300 {
            return value(
                "policy.approval_seconds",
                format!("{} is more than the five minutes that a medium risk may wait", self.policy.approval_seconds),
                "Give 30 to 300.",
            );
        }
        if let Some(person) = self.policy.approvers.iter().find(|person| !person.contains('/')) {
            return value(
                "policy.approvers",
                format!("{person:?} names no team"),
                "Give TEAM/USER, e.g. T024BE7LD/U012AB3CD, or local/you.",
            );
        }
        people::validate(&self.people)?;
        routing::validate(&self.routing, &self.elsewhere, &self.escalation, &self.oncall)?;
        if let Some(group) = self.policy.groups.iter().find(|group| !group.contains('/')) {
            return value(
                "policy.groups",
                format!("{group:?} names no team"),
                "Give TEAM/GROUP, e.g. T024BE7LD/S0614TZR7.",
            );
        }
        if let Some(slack) = &self.slack
            && !(1..=100).contains(&slack.posts_per_second)
        {
            return value(
                "slack.posts_per_second",
                format!("{} is not between 1 and 100", slack.posts_per_second),
                "Leave it out: Slack takes one post a second into a channel.",
            );
        }
        if let Some(slack) = &self.slack
            && slack.app_token.reveal().is_none()
            && slack.signing_secrets.is_empty()
        {
            return value(
                "slack.app_token",
                "neither an app token (Socket Mode) nor a signing secret (HTTP) is given".into(),
                "Give slack.app_token = \"xapp-...\" or slack.signing_secrets = [\"...\"].",
            );
        }
        Ok(())
    }

    pub fn prefilter_rules(&self) -> crate::domain::prefilter::Rules {
        self.prefilter.rules()
    }

    pub fn triage_rules(&self) -> Result<triage::Rules, ConfigError> {
        Ok(triage::Rules {
            prefilter: self.prefilter_rules(),
            correlation: self.correlation_rules(),
            intent: self.intent()?,
        })
    }

    pub fn correlation_rules(&self) -> correlate::Rules {
        correlate::Rules {
            window: Duration::from_secs(self.correlation.window_seconds),
            reach: self.correlation.reach,
            warnings_open: self.correlation.warnings_open,
            ..correlate::Rules::default()
        }
    }

    pub fn store_address(&self) -> String {
        self.store.url.clone().unwrap_or_else(|| self.store.data_dir.join("midwatch.db").display().to_string())
    }

    pub fn console_url(&self) -> String {
        self.console.public_url.clone().unwrap_or_else(|| format!("http://{}", self.console.listen))
    }
}

/// Replaces `${NAME}` by the environment, so that secrets stay out of the file.
fn expand(
    text: &str,
    path: &std::path::Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let mut expanded = String::with_capacity(text.len());
    for (number, line) in text.lines().enumerate() {
        let mut rest = if line.trim_start().starts_with('#') { "" } else { line };
        while let Some(start) = rest.find("${") {
            let Some(end) = rest[start..].find('}').map(|end| start + end) else { break };
            let name = &rest[start + 2..end];
            expanded.push_str(&rest[..start]);
            expanded.push_str(&environment(name).ok_or_else(|| ConfigError::Invalid {
                file: path.to_owned(),
                line: number + 1,
                reason: format!("the environment variable {name} is not set; export it or write the value here"),
            })?);
            rest = &rest[end + 1..];
        }
        expanded.push_str(rest);
        expanded.push('\n');
    }
    Ok(expanded)
}
