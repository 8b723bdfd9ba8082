//! Where incidents are told and when, and what other systems hear of them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{ConfigError, Secret};
use crate::domain::escalation::{Path, Step};
use crate::domain::incident::Sev;
use crate::domain::route::{Quiet, Route, Routing};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingConfig {
    /// The first that fits counts; without one: the chat's own channel.
    pub route: Vec<Route>,
    pub quiet: Vec<Quiet>,
    /// This severity and lighter ones are told in a digest; `off`: each by itself.
    #[serde(deserialize_with = "digest")]
    pub digest: Option<Sev>,
    pub digest_minutes: u64,
    /// How often the head of the audit is told in the chat; 0: never.
    pub anchor_seconds: u64,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self { route: vec![], quiet: vec![], digest: Some(Sev::Four), digest_minutes: 60, anchor_seconds: 3600 }
    }
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sev>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "off" => Ok(None),
        "SEV4" => Ok(Some(Sev::Four)),
        "SEV3" => Ok(Some(Sev::Three)),
        "SEV1" | "SEV2" => Err(D::Error::custom("SEV1 and SEV2 are told at once (P3); give SEV3, SEV4 or \"off\"")),
        other => Err(D::Error::custom(format!("{other:?} is no severity; give SEV3, SEV4 or \"off\""))),
    }
}

impl RoutingConfig {
    pub fn routing(&self) -> Routing {
        Routing { routes: self.route.clone(), quiet: self.quiet.clone(), digest: self.digest }
    }
}

/// Systems that hear of incidents; each has its own queue, so that none waits for another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElsewhereConfig {
    /// Tells this installation from others in the names that it gives.
    pub source: String,
    pub pagerduty: Vec<PagerDutyConfig>,
    pub jira: Option<JiraConfig>,
    pub teams: Vec<TeamsConfig>,
    pub webhook: Vec<WebhookConfig>,
}

impl Default for ElsewhereConfig {
    fn default() -> Self {
        Self { source: "midwatch".into(), pagerduty: vec![], jira: None, teams: vec![], webhook: vec![] }
    }
}

/// Which incidents one of them hears of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// As grave as this, or graver.
    #[serde(default = "sev_three")]
    pub from: Sev,
    /// Of these teams; empty: of all.
    #[serde(default)]
    pub teams: Vec<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { from: sev_three(), teams: vec![] }
    }
}

fn sev_three() -> Sev {
    Sev::Three
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyConfig {
    #[serde(default = "pagerduty")]
    pub name: String,
    /// Of an Events API v2 integration.
    pub routing_key: Secret,
    /// Of the REST API, for notes; empty: no notes.
    #[serde(default)]
    pub api_token: Secret,
    /// The address of a user there, whom notes are by.
    #[serde(default)]
    pub from_email: Option<String>,
    #[serde(default)]
    pub events_url: Option<String>,
    #[serde(default)]
    pub api_url: Option<String>,
    #[serde(default)]
    pub wants: Wanted,
}

fn pagerduty() -> String {
    "pagerduty".into()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JiraConfig {
    /// `https://example.atlassian.net`, or the address of a server.
    pub url: String,
    /// With it `token` is an API token of the cloud; without it a personal access token of a server.
    #[serde(default)]
    pub email: Option<String>,
    pub token: Secret,
    pub project: String,
    #[serde(default = "task")]
    pub issue_type: String,
    /// Incidents as grave as this get an issue with their post-mortem; left out: none does.
    #[serde(default)]
    pub post_mortems_from: Option<Sev>,
}

fn task() -> String {
    "Task".into()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamsConfig {
    #[serde(default = "teams")]
    pub name: String,
    /// Of a workflow that posts when a webhook request is received.
    pub url: Secret,
    #[serde(default)]
    pub wants: Wanted,
}

fn teams() -> String {
    "teams".into()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    pub url: String,
    /// One, or two while it is being changed: each signs.
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub wants: Wanted,
}

pub(super) fn validate(
    routing: &RoutingConfig,
    elsewhere: &ElsewhereConfig,
    escalation: &[Path],
    oncall: &super::OnCallConfig,
) -> Result<(), ConfigError> {
    let wrong = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
    if routing.digest_minutes == 0 {
        return wrong("routing.digest_minutes", "0 minutes are no time".into(), "Give for example 60.");
    }
    if routing.quiet.iter().any(|quiet| quiet.except > Sev::Two) {
        let reason = "SEV2 is told at any time".to_owned();
        return wrong("routing.quiet.except", reason, "Give SEV2, SEV3 or SEV4, or leave it out.");
    }
    for path in escalation {
        for step in &path.steps {
            let missing = match step {
                Step::Person(_) => None,
                Step::PagerDuty(_) => oncall.pagerduty.is_none().then_some("[oncall.pagerduty]"),
                Step::Opsgenie(_) => oncall.opsgenie.is_none().then_some("[oncall.opsgenie]"),
            };
            if let Some(missing) = missing {
                let reason = format!("{step} needs the section {missing}");
                return wrong("escalation.steps", reason, "Add it with its token.");
            }
        }
        if path.steps.is_empty() {
            return wrong("escalation.steps", "a path without steps calls nobody".into(), "Name whom it calls.");
        }
    }
    let names = elsewhere.pagerduty.iter().map(|one| one.name.as_str());
    let names = names.chain(elsewhere.teams.iter().map(|one| one.name.as_str()));
    let mut names: Vec<&str> = names.chain(elsewhere.webhook.iter().map(|one| one.name.as_str())).collect();
    names.extend(elsewhere.jira.iter().map(|_| "jira"));
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong("elsewhere", format!("two are called {:?}", pair[0]), "Give each a `name` of its own.");
    }
    if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains('/')) {
        return wrong("elsewhere", format!("{name:?} is no name"), "Use letters, digits and dashes.");
    }
    let urls = elsewhere.webhook.iter().map(|one| one.url.as_str());
    let urls = urls.chain(elsewhere.jira.iter().map(|jira| jira.url.as_str()));
    let urls = urls.chain(elsewhere.teams.iter().filter_map(|teams| teams.url.reveal()));
    for url in urls {
        if !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return wrong(
                "elsewhere",
                "an address is not http(s)".into(),
                "Give for example https://hooks.example.com/x.",
            );
        }
    }
    if let Some(hook) = elsewhere.webhook.iter().find(|hook| hook.secrets.iter().all(|one| one.reveal().is_none())) {
        let reason = format!("{} has no secret to sign with", hook.name);
        return wrong("elsewhere.webhook.secrets", reason, "Give one that the receiver knows, too.");
    }
    Ok(())
}
