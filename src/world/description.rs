//! An estate and what happens to it, as a person writes it down: `world.yaml`.
//!
//! Everything but the names has a default. What a fault does is physics like on any other night;
//! the file only says what, where and when. The format is documented in evals/scenarios/README.md.

mod fault;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::estate::{Call, Estate, Node, Role, node};
use super::fault::{APPROVED, Carrier};
use super::random::Random;
use super::sim::{MINUTE, Rollout, Script, ScriptedGauge, ScriptedLine};
use crate::domain::time::Timestamp;

/// A world that can be lived in.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) seed: u64,
    /// Milliseconds of event time at which the story begins; `at` counts from here.
    pub(super) start: i64,
    pub(super) estate: Estate,
    pub(super) script: Script,
}

/// What is wrong with the file, for the person who writes it.
#[derive(Debug, PartialEq, Eq)]
pub struct DescriptionError {
    /// Counted from 1, where one line is to blame.
    pub line: Option<u64>,
    pub reason: String,
}

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for DescriptionError {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "cluster")]
    cluster: String,
    /// RFC 3339.
    start: Option<String>,
    #[serde(default = "seed")]
    seed: u64,
    #[serde(default = "traffic")]
    traffic: f64,
    #[serde(default)]
    hosts: Hosts,
    services: BTreeMap<String, Option<ServiceEntry>>,
    #[serde(default)]
    changes: Vec<ChangeEntry>,
    #[serde(default)]
    faults: Vec<fault::FaultEntry>,
    #[serde(default)]
    logs: Vec<LineEntry>,
    #[serde(default)]
    metrics: Vec<GaugeEntry>,
}

fn cluster() -> String {
    "prod".into()
}

fn seed() -> u64 {
    7
}

fn traffic() -> f64 {
    120.0
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Hosts {
    Count(usize),
    Names(Vec<String>),
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Count(4)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    #[serde(default)]
    role: Role,
    namespace: Option<String>,
    team: Option<String>,
    replicas: Option<i64>,
    #[serde(default)]
    calls: Calls,
    /// Milliseconds of its own work for one request.
    latency_ms: Option<f64>,
    /// Millicores and MiB that one pod may use.
    cpu: Option<i64>,
    memory: Option<i64>,
    /// Where its autoscaler stops.
    max_replicas: Option<i64>,
    replica_of: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Calls {
    Names(Vec<String>),
    Shares(BTreeMap<String, f64>),
}

impl Default for Calls {
    fn default() -> Self {
        Self::Names(vec![])
    }
}

impl Calls {
    fn pairs(&self) -> Vec<(&str, f64)> {
        match self {
            Self::Names(names) => names.iter().map(|name| (name.as_str(), 0.8)).collect(),
            Self::Shares(shares) => shares.iter().map(|(name, share)| (name.as_str(), *share)).collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeEntry {
    service: String,
    at: Span,
    #[serde(flatten)]
    what: What,
}

/// What a rollout changes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    /// A tag, such as `2.44.0`.
    image: Option<String>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// MiB.
    memory: Option<i64>,
    /// The words of whoever rolled it out.
    cause: Option<String>,
}

impl What {
    fn is_empty(&self) -> bool {
        self.image.is_none() && self.config.is_empty() && self.env.is_empty() && self.memory.is_none()
    }

    fn carrier(self, service: &str) -> Carrier {
        let said = match (&self.image, self.memory) {
            (Some(tag), _) => format!("release {service} {tag} ({APPROVED})"),
            (None, Some(_)) => format!("{service}: right-sizing ({APPROVED})"),
            (None, None) => format!("{service} configuration rollout ({APPROVED})"),
        };
        let sum = format!("{service}{:?}", self.config)
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Carrier {
            image: self.image.map(|tag| format!("registry.example/{service}:{tag}")),
            config: self.config,
            env: self.env,
            suffix: format!("{:04x}", sum & 0xffff),
            memory: self.memory,
            cause: self.cause.unwrap_or(said),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineEntry {
    service: String,
    text: String,
    #[serde(default)]
    at: Span,
    until: Option<Span>,
    #[serde(default = "every")]
    every: Span,
    #[serde(default)]
    level: Level,
}

fn every() -> Span {
    Span(30_000)
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    #[default]
    Info,
    Warn,
    Error,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GaugeEntry {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    value: f64,
    #[serde(default)]
    steps: Vec<StepEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepEntry {
    at: Span,
    value: f64,
    #[serde(default)]
    over: Span,
}

/// `90s`, `-20m`, `1h30m`, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub i64);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        span(&text).map(Self).ok_or_else(|| format!("`{text}` is no span of time; write 90s, 5m, -20m or 1h30m"))
    }
}

/// Milliseconds of `90s`, `-20m`, `1h30m`.
pub fn span(text: &str) -> Option<i64> {
    let (sign, rest) = match text.trim().strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim().trim_start_matches('+')),
    };
    let (mut total, mut digits) = (0, String::new());
    for letter in rest.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let factor = match letter {
            's' => 1_000,
            'm' => MINUTE,
            'h' => 60 * MINUTE,
            _ => return None,
        };
        total += digits.parse::<i64>().ok().filter(|number| *number < 1_000_000)? * factor;
        digits.clear();
    }
    (digits.is_empty() && !rest.is_empty()).then_some(sign * total)
}

/// Thursday afternoon: enough traffic for a shortage to show.
const START: i64 = 1_795_096_800_000; // 2026-11-19T14:00:00Z

impl World {
    /// Reads `world.yaml`.
    pub fn parse(text: &str) -> Result<Self, DescriptionError> {
        let written: Written = serde_yaml_ng::from_str(text).map_err(|error| DescriptionError {
            line: error.location().map(|location| location.line() as u64),
            reason: error.to_string(),
        })?;
        let source = Source(text);
        let start = match &written.start {
            None => START,
            Some(at) => Timestamp::parse(at)
                .map_err(|_| source.key("start", format!("start: `{at}` is no instant; write 2026-11-19T14:00:00Z")))?
                .millis(),
        };
        let estate = estate(&written, &source)?;
        let mut script = Script::default();
        for (number, entry) in written.changes.into_iter().enumerate() {
            let say = |why: String| source.item("changes", number, format!("changes[{number}]: {why}"));
            let at = find(&estate, &entry.service).map_err(&say)?;
            let role = estate.nodes[at].role;
            if !is_deployment(role) {
                return Err(say(format!("{} is {role:?}; only deployments are rolled out", entry.service)));
            }
            if entry.what.is_empty() {
                return Err(say("it changes nothing; give image, config, env or memory".into()));
            }
            let change = entry.what.carrier(&entry.service);
            script.innocents.push(Rollout { at: start + entry.at.0, node: at, change });
        }
        for (number, entry) in written.faults.into_iter().enumerate() {
            let say = |why: String| source.item("faults", number, format!("faults[{number}]: {why}"));
            script.faults.push(entry.fault(&estate, start).map_err(say)?);
        }
        for (number, entry) in written.logs.into_iter().enumerate() {
            let say = |why: String| source.item("logs", number, format!("logs[{number}]: {why}"));
            let node = find(&estate, &entry.service).map_err(&say)?;
            if entry.every.0 < 1_000 {
                return Err(say("every: at most one line each second".into()));
            }
            script.lines.push(ScriptedLine {
                node,
                from: start + entry.at.0,
                until: entry.until.map_or(i64::MAX, |until| start + until.0),
                every: entry.every.0,
                level: match entry.level {
                    Level::Info => "info",
                    Level::Warn => "warn",
                    Level::Error => "error",
                },
                text: entry.text,
            });
        }
        for entry in written.metrics {
            script.gauges.push(ScriptedGauge {
                name: entry.name,
                labels: entry.labels,
                level: entry.value,
                steps: entry.steps.iter().map(|step| (start + step.at.0, step.over.0, step.value)).collect(),
            });
        }
        Ok(Self { seed: written.seed, start, estate, script })
    }

    /// When the story begins.
    pub fn start(&self) -> Timestamp {
        Timestamp::from_millis(self.start)
    }

    pub fn cluster(&self) -> &str {
        &self.estate.cluster
    }
}

pub(super) fn is_deployment(role: Role) -> bool {
    matches!(role, Role::Gateway | Role::Service | Role::Worker | Role::NameServer)
}

pub(super) fn find(estate: &Estate, name: &str) -> Result<usize, String> {
    estate.find(name).ok_or_else(|| {
        let known: Vec<&str> = estate.nodes.iter().map(|node| node.name.as_str()).collect();
        format!("there is no service `{name}`; there are {}", known.join(", "))
    })
}

/// The text itself, to say where something is.
struct Source<'a>(&'a str);

impl Source<'_> {
    fn line_of(&self, what: impl Fn(&str) -> bool) -> Option<u64> {
        self.0.lines().position(what).map(|at| at as u64 + 1)
    }

    fn key(&self, key: &str, reason: String) -> DescriptionError {
        let line = self.line_of(|line| line.trim_start().strip_prefix(key).is_some_and(|it| it.starts_with(':')));
        DescriptionError { line, reason }
    }

    /// The item of that number in the list under a top-level key.
    fn item(&self, section: &str, number: usize, reason: String) -> DescriptionError {
        let begins = format!("{section}:");
        let mut inside = false;
        let mut indent = None;
        let mut seen = 0;
        for (at, line) in self.0.lines().enumerate() {
            if !inside {
                inside = line.starts_with(&begins);
                continue;
            }
            let spaces = line.len() - line.trim_start().len();
            let is_item = line.trim_start().starts_with("- ") && spaces == *indent.get_or_insert(spaces);
            if is_item && seen == number {
                return DescriptionError { line: Some(at as u64 + 1), reason };
            }
            seen += usize::from(is_item);
        }
        DescriptionError { line: self.line_of(|line| line.starts_with(&begins)), reason }
    }
}

fn estate(written: &Written, source: &Source<'_>) -> Result<Estate, DescriptionError> {
    let order = order(written, source)?;
    let none = ServiceEntry::default();
    let entry = |name: &str| written.services.get(name).and_then(Option::as_ref).unwrap_or(&none);
    let mut nodes: Vec<Node> = order.iter().map(|name| drawn(name, entry(name), written.seed)).collect();
    let place = |name: &str| order.iter().position(|other| *other == name);
    for (at, name) in order.iter().enumerate() {
        let entry = entry(name);
        for (callee, share) in entry.calls.pairs() {
            let say = |why: String| source.key(name, format!("services.{name}.calls: {why}"));
            let Some(to) = place(callee) else { continue };
            if matches!(nodes[to].role, Role::Worker | Role::NameServer) {
                return Err(say(format!("{callee} is a {:?}; nobody calls it", nodes[to].role)));
            }
            if !(0.0..=10.0).contains(&share) || share == 0.0 {
                return Err(say(format!("{callee}: {share} calls for each request; write 0.05 to 10")));
            }
            nodes[at].calls.push(Call { to, share });
        }
        if let Some(primary) = &entry.replica_of {
            let say = |why: String| source.key(name, format!("services.{name}.replica_of: {why}"));
            let found = place(primary).filter(|at| nodes[*at].role == Role::Database);
            nodes[at].replica_of = Some(found.ok_or_else(|| say(format!("`{primary}` is no database")))?);
        }
    }
    if !nodes.iter().any(|node| matches!(node.role, Role::Gateway | Role::Worker)) {
        let why = "services: nothing brings work in; give one the role gateway or worker".to_owned();
        return Err(source.key("services", why));
    }
    let hosts = match &written.hosts {
        Hosts::Names(names) => names.clone(),
        Hosts::Count(count) => (1..=*count).map(|at| format!("{}-node-{at}", written.cluster)).collect(),
    };
    if hosts.len() < 2 {
        return Err(source.key("hosts", "hosts: at least two, so that one may go".into()));
    }
    let mut estate = Estate { cluster: written.cluster.clone(), nodes, hosts, traffic: written.traffic.max(1.0) };
    estate.size();
    Ok(estate)
}

fn drawn(name: &str, entry: &ServiceEntry, seed: u64) -> Node {
    // Of each name its own chance, so that a service more does not change the others.
    let salt = name.bytes().fold(seed, |hash, byte| hash.wrapping_mul(131).wrapping_add(u64::from(byte)));
    let mut random = Random::new(salt);
    let role = entry.role;
    let usual = match role {
        Role::Database | Role::Queue => 1,
        Role::External => 0,
        Role::NameServer => 2,
        Role::Gateway | Role::Service | Role::Worker => 3,
    };
    let namespace = match role {
        Role::NameServer => "kube-system",
        _ => "shop",
    };
    let namespace = entry.namespace.as_deref().unwrap_or(namespace);
    let replicas = if role == Role::External { 0 } else { entry.replicas.unwrap_or(usual).max(1) };
    let mut node = node(name, role, replicas, namespace, entry.team.as_deref().unwrap_or("core"), &mut random);
    if let Some(latency) = entry.latency_ms {
        node.own_seconds = latency.max(0.1) / 1000.0;
    }
    node.cpu_millis = entry.cpu.unwrap_or(node.cpu_millis);
    node.memory_mib = entry.memory.unwrap_or(node.memory_mib);
    node.most_replicas = entry.max_replicas;
    node
}

/// Callers before callees.
fn order<'a>(written: &'a Written, source: &Source<'_>) -> Result<Vec<&'a str>, DescriptionError> {
    let mut waits: BTreeMap<&str, usize> = written.services.keys().map(|name| (name.as_str(), 0)).collect();
    let calls = |name: &str| written.services.get(name).and_then(Option::as_ref).map(|entry| entry.calls.pairs());
    for name in written.services.keys() {
        for (callee, _) in calls(name).unwrap_or_default() {
            let Some(callers) = waits.get_mut(callee) else {
                let known: Vec<&str> = written.services.keys().map(String::as_str).collect();
                let why = format!("services.{name}.calls: no service `{callee}`; there are {}", known.join(", "));
                return Err(source.key(name, why));
            };
            *callers += 1;
        }
    }
    let mut order = vec![];
    while let Some(name) = waits.iter().find(|(_, callers)| **callers == 0).map(|(name, _)| *name) {
        waits.remove(name);
        order.push(name);
        for (callee, _) in calls(name).unwrap_or_default() {
            if let Some(callers) = waits.get_mut(callee) {
                *callers -= 1;
            }
        }
    }
    match waits.keys().next() {
        None => Ok(order),
        Some(stuck) => {
            let circle: Vec<&str> = waits.keys().copied().collect();
            Err(source.key(stuck, format!("services: {} call each other in a circle", circle.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests;
