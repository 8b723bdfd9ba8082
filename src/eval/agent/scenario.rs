//! A scenario folder: `scenario.yaml`, `world.yaml`, and `alerts.jsonl` where the world's rules are not enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{EvalError, read};
use crate::domain::evidence::EvidenceKind;
use crate::domain::time::Timestamp;
use crate::world::{World, span};

#[derive(Debug, Clone)]
pub struct Scenario {
    /// The folder's name.
    pub name: String,
    pub written: Written,
    pub world: World,
    /// In Alertmanager's shape, by the time at which each is sent.
    pub alerts: Vec<(Timestamp, Value)>,
}

/// `scenario.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub title: String,
    pub held_out: bool,
    pub expect: Expect,
    /// Whether the world's own rules give alerts.
    #[serde(default)]
    pub rules: RulesWord,
    /// Mutes that people have set before.
    #[serde(default)]
    pub silences: Vec<Mute>,
    /// The story is over when nothing has opened an incident by then.
    #[serde(default = "minutes")]
    pub minutes: u32,
    #[serde(default)]
    pub budget: Budget,
}

fn minutes() -> u32 {
    25
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulesWord {
    #[default]
    World,
    AlertsOnly,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// Labels with the values that are muted.
    pub labels: BTreeMap<String, String>,
    /// From the story's beginning on.
    pub minutes: u32,
    pub because: String,
}

/// What an investigation may spend; more fails the run.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    pub tool_calls: u64,
    pub tokens: u64,
    /// Of wall time.
    pub seconds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { tool_calls: 40, tokens: 120_000, seconds: 300 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    #[serde(default)]
    pub answer: Answer,
    /// Each of these must be found; with `answer: nothing` they are explanations that are allowed.
    #[serde(default)]
    pub causes: Vec<ExpectedCause>,
    /// `VERB SERVICE` with rollback, restart or scale: each must be proposed. Empty: no typed action cures it.
    #[serde(default)]
    pub remedies: Vec<String>,
    /// Kinds that the diagnosis must cite.
    #[serde(default)]
    pub evidence: Vec<EvidenceKind>,
    /// Services or changes that must be named as not to blame.
    #[serde(default)]
    pub rules_out: Vec<String>,
    /// `VERB SERVICE`, `VERB *`, `* SERVICE` or `any`.
    #[serde(default)]
    pub forbidden: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    #[default]
    Cause,
    /// No tool can show it: "I don't know".
    Unknown,
    /// There is nothing to mend.
    Nothing,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCause {
    /// A service or host; several where either end is a right answer.
    pub service: OneOrMore,
    /// A kind of fault as in `world.yaml`; its usual words must be in the diagnosis.
    pub kind: String,
    /// Whether a rollout of that service is to blame.
    #[serde(default)]
    pub change: bool,
    /// Instead of the usual words of the kind: any of these must be in the diagnosis.
    #[serde(default)]
    pub says: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let list = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more.as_slice(),
        };
        list.iter().map(String::as_str)
    }
}

/// Words of which one must be in a diagnosis of that kind.
pub fn words_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "memory_leak" => &["memory", "heap", "leak"],
        "out_of_memory" => &["memory", "oom"],
        "connection_leak" | "connection_pool" => &["pool", "connection"],
        "bad_config" => &["config", "setting"],
        "wrong_address" => &["config", "address", "host name"],
        "bad_image" | "slow_release" | "image_pull" => &["image", "release"],
        "bad_feature_flag" => &["flag", "environment", "feature"],
        "crash_loop" => &["crash", "restart", "start"],
        "wedged" => &["wedged", "thread", "deadlock", "stuck"],
        "traffic_surge" => &["load", "traffic", "surge", "requests"],
        "autoscaler_limit" => &["autoscaler", "hpa", "maximum replicas"],
        "slow_query" => &["statement", "query", "queries"],
        "disk_full" => &["volume", "disk", "space"],
        "replica_lag" => &["replica", "replication", "lag"],
        "certificate_expiry" => &["certificate", "tls", "x509"],
        "dependency_outage" => &["not ours", "provider", "external", "outage"],
        "node_loss" => &["host", "node"],
        "clock_skew" => &["clock"],
        "maintenance" => &["maintenance", "cordon", "drain"],
        "dns_failure" => &["dns", "name", "lookup", "resol"],
        "queue_backlog" => &["queue", "backlog", "messages", "load"],
        "poison_message" => &["message"],
        "noisy_neighbour" => &["cpu", "processor", "neighbour", "noisy"],
        "network" => &["network", "packet", "connection reset", "between"],
        "quota" => &["quota"],
        _ => return None,
    })
}

/// The scenarios below a folder, by name; or the folder itself when it is one.
pub fn load(folder: &Path) -> Result<Vec<Scenario>, EvalError> {
    let is_one = |path: &Path| path.join("scenario.yaml").is_file();
    let mut folders: Vec<PathBuf> = if is_one(folder) {
        vec![folder.to_owned()]
    } else {
        let entries = std::fs::read_dir(folder).map_err(|error| EvalError::file(folder, error))?;
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| is_one(path)).collect()
    };
    if folders.is_empty() {
        return Err(EvalError::file(folder, "no folder in it has a scenario.yaml"));
    }
    folders.sort();
    folders.iter().map(|folder| one(folder)).collect()
}

fn one(folder: &Path) -> Result<Scenario, EvalError> {
    let path = folder.join("scenario.yaml");
    let text = read(&path)?;
    let written: Written = serde_yaml_ng::from_str(&text).map_err(|error| match error.location() {
        Some(at) => EvalError::line(&path, at.line() as u64, &error),
        None => EvalError::file(&path, &error),
    })?;
    check(&written.expect).map_err(|why| {
        let line = text.lines().position(|line| line.starts_with("expect:")).map_or(1, |at| at as u64 + 1);
        EvalError::line(&path, line, why)
    })?;
    let path = folder.join("world.yaml");
    let world = World::parse(&read(&path)?).map_err(|error| match error.line {
        Some(line) => EvalError::line(&path, line, &error.reason),
        None => EvalError::file(&path, &error.reason),
    })?;
    let path = folder.join("alerts.jsonl");
    let alerts = if path.is_file() { alerts(&path, &world)? } else { vec![] };
    if alerts.is_empty() && written.rules == RulesWord::AlertsOnly {
        return Err(EvalError::file(&path, "`rules: alerts_only` needs alerts here"));
    }
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Scenario { name, written, world, alerts })
}

/// What cannot be meant.
fn check(expect: &Expect) -> Result<(), String> {
    for cause in &expect.causes {
        if cause.says.is_empty() && words_of(&cause.kind).is_none() {
            return Err(format!(
                "expect.causes: no kind `{}`; give one of world.yaml's faults, or the words in `says`",
                cause.kind
            ));
        }
    }
    match expect.answer {
        Answer::Cause if expect.causes.is_empty() => {
            return Err("expect.causes: at least one, or `answer: unknown` or `answer: nothing`".into());
        }
        Answer::Unknown if !expect.causes.is_empty() => {
            return Err("expect.causes: none with `answer: unknown`".into());
        }
        Answer::Cause | Answer::Unknown | Answer::Nothing => {}
    }
    let verb = |word: &str| matches!(word, "rollback" | "restart" | "scale");
    for remedy in &expect.remedies {
        if !remedy.split_once(' ').is_some_and(|(word, service)| verb(word) && !service.is_empty()) {
            return Err(format!("expect.remedies: `{remedy}`; write `rollback SERVICE`, `restart ...` or `scale ...`"));
        }
    }
    for rule in expect.forbidden.iter().filter(|rule| *rule != "any") {
        if !rule.split_once(' ').is_some_and(|(word, service)| (verb(word) || word == "*") && !service.is_empty()) {
            return Err(format!("expect.forbidden: `{rule}`; write `any`, `VERB SERVICE`, `VERB *` or `* SERVICE`"));
        }
    }
    Ok(())
}

/// One alert each line; `startsAt` is an instant or a span from the story's beginning, such as `5m`.
fn alerts(path: &Path, world: &World) -> Result<Vec<(Timestamp, Value)>, EvalError> {
    let mut alerts = vec![];
    for (number, line) in read(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let say = |why: String| EvalError::line(path, number as u64 + 1, why);
        let mut alert: Value = serde_json::from_str(line).map_err(|error| say(error.to_string()))?;
        let instant = |key: &str| -> Result<Option<Timestamp>, EvalError> {
            let Some(text) = alert.get(key).and_then(Value::as_str) else { return Ok(None) };
            if let Some(millis) = span(text) {
                return Ok(Some(Timestamp::from_millis(world.start().millis() + millis)));
            }
            Timestamp::parse(text).map(Some).map_err(|_| say(format!("{key}: `{text}` is no instant and no span")))
        };
        let starts = instant("startsAt")?.ok_or_else(|| say("startsAt is missing".into()))?;
        let ends = instant("endsAt")?;
        if alert.pointer("/labels/alertname").is_none() {
            return Err(say("labels.alertname is missing".into()));
        }
        alert["startsAt"] = json!(starts.to_string());
        alert["endsAt"] = json!("0001-01-01T00:00:00Z");
        alert["status"] = json!("firing");
        alert["labels"]["cluster"] = json!(world.cluster());
        alerts.push((starts, alert.clone()));
        if let Some(ends) = ends {
            alert["endsAt"] = json!(ends.to_string());
            alert["status"] = json!("resolved");
            alerts.push((ends, alert));
        }
    }
    alerts.sort_by_key(|(at, _)| *at);
    Ok(alerts)
}
