//! What may be done beyond the built-in actions, and how remediations are watched.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConfigError, Secret, networks};
use crate::domain::action::RiskTier;
use crate::domain::plan::{Direction, SuccessCheck};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemediationConfig {
    /// Between two looks at whether an action helped, in seconds of event time.
    pub look_seconds: f64,
    /// An alert of the incident that returns within this time means that the action did not help.
    pub recurrence_seconds: u64,
    /// A critical alert that fires on for longer after its incident was resolved is news again; 0: never.
    pub outlast_seconds: u64,
    /// ConfigMaps (`namespace/name`) whose earlier data is remembered, so that it can be put back.
    pub config_maps: Vec<String>,
    pub job: Vec<JobConfig>,
    pub hook: Vec<HookConfig>,
    pub dump: Vec<DumpConfig>,
    pub autonomy: AutonomyConfig,
}

impl Default for RemediationConfig {
    fn default() -> Self {
        Self {
            look_seconds: 15.0,
            recurrence_seconds: 3600,
            outlast_seconds: 1800,
            config_maps: vec![],
            job: vec![],
            hook: vec![],
            dump: vec![],
            autonomy: AutonomyConfig::default(),
        }
    }
}

/// A CronJob of the cluster (it may be suspended) whose template is run once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    pub name: String,
    pub description: String,
    pub namespace: String,
    pub cron_job: String,
    #[serde(default = "medium")]
    pub tier: RiskTier,
    #[serde(default)]
    pub service: String,
    #[serde(default)]
    pub success: Option<SuccessConfig>,
}

/// An address that is called: a cache purge, the reset of a connection pool, a flag.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    pub name: String,
    pub description: String,
    pub url: String,
    #[serde(default)]
    pub method: HookMethod,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    #[serde(default)]
    pub body: String,
    /// Private networks that the host may be in.
    #[serde(default)]
    pub networks: Vec<String>,
    /// A GET that must answer with 2xx before the card and before the call.
    #[serde(default)]
    pub check_url: Option<String>,
    /// Another hook that puts things back; left out: there is no undo.
    #[serde(default)]
    pub undo: Option<String>,
    #[serde(default = "medium")]
    pub tier: RiskTier,
    #[serde(default)]
    pub service: String,
    #[serde(default = "ten_seconds")]
    pub timeout_seconds: u64,
    #[serde(default)]
    pub success: Option<SuccessConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub enum HookMethod {
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl HookMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A number that must be well again afterwards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessConfig {
    pub query: String,
    /// The label of the answer that names the service.
    pub label: String,
    pub bound: f64,
    #[serde(default = "at_most")]
    pub direction: Direction,
    #[serde(default)]
    pub unit: String,
}

impl SuccessConfig {
    pub fn check(&self, service: &str) -> SuccessCheck {
        SuccessCheck {
            service: service.to_owned(),
            signal: "declared".to_owned(),
            query: self.query.clone(),
            label: self.label.clone(),
            bound: self.bound,
            direction: self.direction,
            unit: self.unit.clone(),
        }
    }
}

/// Asked by GET before pods of the service are touched; the answer is kept as evidence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpConfig {
    pub service: String,
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default = "ten_seconds")]
    pub timeout_seconds: u64,
}

/// When a promotion of one action on one service is proposed. It never happens without a person.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutonomyConfig {
    /// Of the success share, with the confidence below, before a promotion is proposed.
    pub lower_bound: f64,
    pub confidence: f64,
    /// Share of the service's diagnoses that people confirmed within the last 60 days.
    pub confirmed_diagnoses: f64,
}

impl Default for AutonomyConfig {
    fn default() -> Self {
        Self { lower_bound: 0.7, confidence: 0.95, confirmed_diagnoses: 0.7 }
    }
}

fn medium() -> RiskTier {
    RiskTier::Medium
}

fn ten_seconds() -> u64 {
    10
}

fn at_most() -> Direction {
    Direction::AtMost
}

impl RemediationConfig {
    /// Key, name and query.
    pub(super) fn success_queries(&self) -> impl Iterator<Item = (&'static str, &str, &String)> {
        let jobs = self.job.iter().map(|job| ("remediation.job", job.name.as_str(), &job.success));
        let hooks = self.hook.iter().map(|hook| ("remediation.hook", hook.name.as_str(), &hook.success));
        jobs.chain(hooks).filter_map(|(key, name, success)| Some((key, name, &success.as_ref()?.query)))
    }

    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
        if !(0.05..=300.0).contains(&self.look_seconds) {
            return wrong(
                "remediation.look_seconds",
                format!("{} is not between 0.05 and 300", self.look_seconds),
                "Give 15.",
            );
        }
        for share in [self.autonomy.lower_bound, self.autonomy.confidence, self.autonomy.confirmed_diagnoses] {
            if !(share > 0.0 && share < 1.0) {
                return wrong(
                    "remediation.autonomy",
                    format!("{share} is not between 0 and 1"),
                    "Give 0.7, for example.",
                );
            }
        }
        if let Some(bad) =
            self.config_maps.iter().find(|name| name.split('/').filter(|part| !part.is_empty()).count() != 2)
        {
            return wrong(
                "remediation.config_maps",
                format!("{bad:?} is not namespace/name"),
                "Give shop/checkout-flags.",
            );
        }
        let mut names: Vec<&str> = self
            .job
            .iter()
            .map(|job| job.name.as_str())
            .chain(self.hook.iter().map(|hook| hook.name.as_str()))
            .collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let bad = names.iter().copied().find(|name| {
            name.is_empty()
                || name.len() > 40
                || !name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
        });
        if let Some(name) = twice.or(bad) {
            let remedy = "Lower-case letters, digits and dashes, each name once.";
            return wrong("remediation.hook", format!("{name:?} is no name for an action, or stands twice"), remedy);
        }
        for hook in &self.hook {
            for url in std::iter::once(&hook.url).chain(&hook.check_url) {
                is_address("remediation.hook", url)?;
            }
            networks_of("remediation.hook", &hook.networks)?;
            if let Some(undo) = &hook.undo
                && !self.hook.iter().any(|other| other.name == *undo)
            {
                return wrong(
                    "remediation.hook",
                    format!("{} names the undo {undo:?}, which is none", hook.name),
                    "Declare it as a hook.",
                );
            }
        }
        for dump in &self.dump {
            is_address("remediation.dump", &dump.url)?;
            networks_of("remediation.dump", &dump.networks)?;
        }
        Ok(())
    }
}

fn networks_of(key: &'static str, of: &[String]) -> Result<(), ConfigError> {
    let remedy = "Give CIDR blocks.";
    networks(of).map(|_| ()).map_err(|reason| ConfigError::Value { key, reason, remedy })
}

fn is_address(key: &'static str, url: &str) -> Result<(), ConfigError> {
    match url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        true => Ok(()),
        false => Err(ConfigError::Value {
            key,
            reason: format!("{url:?} is not an http(s) address"),
            remedy: "Give for example https://cache.example.com/purge.",
        }),
    }
}
