//! The estate's alerting: generic rules over its own conditions, and how notifications are sent.
//!
//! Rules know nothing of faults. A storm is what the rules give for the distinct pods, endpoints
//! and instances, sent and re-sent until the asked number of notifications has gone out.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::estate::Role;
use super::promql::SeriesStore;
use super::random::{Random, noise};
use super::sim::{HOUR, MINUTE, Sim};
use crate::domain::alert::{Fingerprint, Labels};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Series {
    rule: &'static str,
    severity: &'static str,
    subject: String,
    pod: Option<String>,
    host: bool,
}

struct Active {
    since: i64,
    value: f64,
    summary: String,
    namespace: String,
    team: String,
    endpoints: Vec<String>,
}

/// Which rules there are, and how much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A drawn night: repeated for each pod, endpoint and instance until so many have gone out.
    Storm(usize),
    /// Each alert once, as a well kept Alertmanager would; more rules, no noise.
    Plain,
    /// Nobody has written rules.
    Silent,
}

pub struct Alerting {
    manner: Manner,
    storm: usize,
    pending: HashMap<Series, i64>,
    active: BTreeMap<Series, Active>,
    /// What has been told and not taken back, by labels.
    told: BTreeMap<Series, Vec<(Labels, i64)>>,
    queue: Vec<Value>,
    sent: usize,
    storm_began: Option<i64>,
    random: Random,
    variant: usize,
    flapping: HashMap<usize, Option<(Labels, i64)>>,
}

/// Most of a storm arrives within this time.
pub const STORM: i64 = 3 * MINUTE;

impl Alerting {
    pub fn new(seed: u64, manner: Manner) -> Self {
        let storm = match manner {
            Manner::Storm(storm) => storm,
            Manner::Plain => usize::MAX,
            Manner::Silent => 0,
        };
        Self {
            manner,
            storm,
            pending: HashMap::new(),
            active: BTreeMap::new(),
            told: BTreeMap::new(),
            queue: vec![],
            sent: 0,
            storm_began: None,
            random: Random::new(seed ^ 0xa1e7),
            variant: 0,
            flapping: HashMap::new(),
        }
    }

    pub fn storm_began(&self) -> Option<i64> {
        self.storm_began
    }

    /// All firing notifications of the night have gone out.
    pub fn storm_is_over(&self) -> bool {
        self.sent >= self.storm
    }

    pub fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.queue)
    }

    /// Evaluates the rules after a tick.
    pub fn evaluate(&mut self, sim: &Sim) {
        let at = sim.now;
        if at < sim.night {
            return;
        }
        let firing = match self.manner {
            Manner::Storm(_) => {
                self.background(sim);
                rules(sim)
            }
            Manner::Plain => {
                let mut firing = rules(sim);
                firing.extend(further_rules(sim));
                firing
            }
            Manner::Silent => return,
        };
        self.pending.retain(|series, _| firing.contains_key(series));
        let gone: Vec<Series> = self.active.keys().filter(|series| !firing.contains_key(*series)).cloned().collect();
        for series in gone {
            self.active.remove(&series);
            for (labels, since) in self.told.remove(&series).unwrap_or_default() {
                self.queue.push(notification(&labels, since, Some(at), 0.0, "resolved"));
            }
        }
        for (series, found) in firing {
            if let Some(active) = self.active.get_mut(&series) {
                active.value = found.value;
                continue;
            }
            let since = *self.pending.entry(series.clone()).or_insert(at);
            // A condition must hold for a minute.
            if at - since < MINUTE {
                continue;
            }
            if series.severity == "critical" && self.storm_began.is_none() {
                self.storm_began = Some(at);
            }
            let labels = labels(sim, &series, &found, None);
            self.active.insert(series.clone(), Active { since: at, ..found });
            self.send(&series, labels);
        }
        self.fill(sim);
    }

    /// Sends and re-sends what is active, so that the storm grows evenly to its size.
    fn fill(&mut self, sim: &Sim) {
        let Some(began) = self.storm_began.filter(|_| matches!(self.manner, Manner::Storm(_))) else { return };
        let share = ((sim.now - began + 15_000) as f64 / STORM as f64).min(1.0);
        let wanted = (self.storm as f64 * share).ceil() as usize;
        let series: Vec<Series> = self.active.keys().cloned().collect();
        if series.is_empty() {
            return;
        }
        let variety = self.storm / 2;
        while self.sent < wanted.min(self.storm) {
            let chosen = series[self.random.below(series.len())].clone();
            let known = self.told.get(&chosen).map_or(0, Vec::len);
            let again = known > 0 && (self.variant >= variety || self.random.chance(0.4));
            if again {
                let at = self.random.below(known);
                let (labels, since) = self.told[&chosen][at].clone();
                let (value, summary) = self
                    .active
                    .get(&chosen)
                    .map_or((0.0, String::new()), |active| (active.value, active.summary.clone()));
                self.queue.push(notification(&labels, since, None, value, &summary));
                self.sent += 1;
                continue;
            }
            let Some(active) = self.active.get(&chosen) else { return };
            let endpoint = &active.endpoints[self.variant % active.endpoints.len().max(1)];
            let instance =
                format!("10.{}.{}.{}:8080", 20 + self.variant / 62_500, self.variant / 250 % 250, self.variant % 250);
            self.variant += 1;
            let labels = labels(sim, &chosen, active, Some((endpoint, &instance)));
            self.send(&chosen, labels);
        }
    }

    fn send(&mut self, series: &Series, labels: Labels) {
        if self.sent >= self.storm {
            return;
        }
        let Some(active) = self.active.get(series) else { return };
        self.queue.push(notification(&labels, active.since, None, active.value, &active.summary));
        self.told.entry(series.clone()).or_default().push((labels, active.since));
        self.sent += 1;
    }

    /// The usual noise: warnings of healthy services that go away by themselves.
    fn background(&mut self, sim: &Sim) {
        for index in 0..sim.estate.nodes.len() {
            let dice = noise(sim.seed ^ 0xbac6, index as u64, (sim.now / 15_000) as u64);
            let firing = self.flapping.get(&index).is_some_and(Option::is_some);
            if !firing && dice < 0.0006 && self.sent < self.storm {
                let labels = noise_labels(sim, index, dice);
                self.queue.push(notification(&labels, sim.now, None, 0.72 + dice * 100.0, "above its warning line"));
                self.sent += 1;
                self.flapping.insert(index, Some((labels, sim.now)));
            } else if firing
                && dice < 0.12
                && let Some(Some((labels, since))) = self.flapping.insert(index, None)
            {
                self.queue.push(notification(&labels, since, Some(sim.now), 0.4, "back to normal"));
            }
        }
    }
}

/// The estate of a seed with a fault that wakes somebody.
///
/// A small pool hurts nobody while few people are awake: a fault that no critical rule sees within
/// the hour is drawn again.
pub fn draw(seed: u64, night: i64) -> Sim {
    const ATTEMPTS: u32 = 32;
    let attempt = (0..ATTEMPTS).find(|attempt| {
        let mut dry = Sim::new(seed, *attempt, night);
        let mut discarded = SeriesStore::new();
        let mut alerting = Alerting::new(seed, Manner::Storm(1));
        dry.quiet(1, 10 * MINUTE, &mut discarded);
        (0..=40).any(|minute| {
            dry.advance(night + minute * MINUTE, &mut discarded, &mut |sim| alerting.evaluate(sim));
            alerting.storm_began().is_some()
        })
    });
    Sim::new(seed, attempt.unwrap_or(0), night)
}

/// Alerts of the quiet days: daily peaks, nightly batches, flapping edges. Each goes away by itself.
pub fn quiet_history(sim: &Sim, days: u32) -> Vec<Value> {
    let mut history = vec![];
    let start = sim.night - i64::from(days) * 24 * HOUR;
    let services: Vec<usize> = (0..sim.estate.nodes.len())
        .filter(|at| matches!(sim.estate.nodes[*at].role, Role::Service | Role::Gateway | Role::Worker))
        .collect();
    let mut random = Random::new(sim.seed ^ 0x9417);
    for day in 0..days {
        for slot in 0..34 {
            let index = services[random.below(services.len())];
            // More at the daily peak, some at the nightly batches.
            let hour = if slot % 6 == 0 { random.between(2.0, 4.0) } else { random.between(8.0, 22.0) };
            let at = start + i64::from(day) * 24 * HOUR + (hour * HOUR as f64) as i64;
            let lasts = (random.between(1.5, 6.0) * MINUTE as f64) as i64;
            let labels = noise_labels(sim, index, random.unit());
            let value = random.between(0.71, 0.8);
            history.push((at, notification(&labels, at, None, value, "above its warning line")));
            history.push((at + lasts, notification(&labels, at, Some(at + lasts), 0.5, "back to normal")));
        }
    }
    history.sort_by_key(|(at, _)| *at);
    history.into_iter().map(|(_, value)| value).collect()
}

fn noise_labels(sim: &Sim, index: usize, dice: f64) -> Labels {
    let node = &sim.estate.nodes[index];
    let kinds = [
        ("HighCPU", "warning"),
        ("HighLatencyP99", "warning"),
        ("PodCpuThrottled", "warning"),
        ("BatchJobRunning", "info"),
    ];
    let (name, severity) = kinds[(dice * 1e6) as usize % kinds.len()];
    Labels::from([
        ("alertname".into(), name.into()),
        ("severity".into(), severity.into()),
        ("service".into(), node.name.clone()),
        ("namespace".into(), node.namespace.clone()),
        ("cluster".into(), sim.estate.cluster.clone()),
        ("team".into(), node.team.clone()),
        ("environment".into(), "production".into()),
    ])
}

fn labels(sim: &Sim, series: &Series, found: &Active, variant: Option<(&String, &String)>) -> Labels {
    let mut labels = Labels::from([
        ("alertname".to_owned(), series.rule.to_owned()),
        ("severity".to_owned(), series.severity.to_owned()),
        ("namespace".to_owned(), found.namespace.clone()),
        ("cluster".to_owned(), sim.estate.cluster.clone()),
        ("team".to_owned(), found.team.clone()),
        ("environment".to_owned(), "production".to_owned()),
    ]);
    labels.insert(if series.host { "node" } else { "service" }.to_owned(), series.subject.clone());
    if let Some(pod) = &series.pod {
        labels.insert("pod".to_owned(), pod.clone());
    }
    if let Some((endpoint, instance)) = variant {
        labels.insert("endpoint".to_owned(), endpoint.clone());
        labels.insert("instance".to_owned(), instance.clone());
    }
    labels
}

fn notification(labels: &Labels, since: i64, until: Option<i64>, value: f64, summary: &str) -> Value {
    let instant = |at: i64| crate::domain::time::Timestamp::from_millis(at).to_string();
    let name = labels.get("alertname").map_or("alert", String::as_str);
    let subject = labels.get("service").or_else(|| labels.get("node")).map_or("", String::as_str);
    json!({
        "status": if until.is_some() { "resolved" } else { "firing" },
        "labels": labels,
        "annotations": {"summary": format!("{name} on {subject}: {summary}"), "value": format!("{value:.4}")},
        "startsAt": instant(since),
        "endsAt": until.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), instant),
        "generatorURL": "http://prometheus/graph",
        "fingerprint": Fingerprint::of(labels).to_string(),
    })
}

/// Every condition that holds now.
fn rules(sim: &Sim) -> BTreeMap<Series, Active> {
    let mut firing = BTreeMap::new();
    for (index, node) in sim.estate.nodes.iter().enumerate() {
        let condition = &sim.conditions[index];
        let mut fire = |rule: &'static str, severity: &'static str, pod: Option<&str>, value: f64, summary: String| {
            let series =
                Series { rule, severity, subject: node.name.clone(), pod: pod.map(str::to_owned), host: false };
            let active = Active {
                since: sim.now,
                value,
                summary,
                namespace: node.namespace.clone(),
                team: node.team.clone(),
                endpoints: node.endpoints.clone(),
            };
            firing.insert(series, active);
        };
        let serves = matches!(node.role, Role::Gateway | Role::Service | Role::Worker);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        if serves && condition.rate > 0.05 {
            if condition.errors > 0.05 {
                fire(
                    "HighErrorRate",
                    "critical",
                    None,
                    condition.errors,
                    format!("{} of requests fail with 503", percent(condition.errors)),
                );
            } else if condition.errors > 0.015 {
                fire(
                    "ElevatedErrorRate",
                    "warning",
                    None,
                    condition.errors,
                    format!("{} of requests fail", percent(condition.errors)),
                );
            }
            // As teams set them: a multiple of what the service does on its slowest usual day.
            let (p99, usual) = (condition.seconds * 2.1, sim.usual_seconds[index] * 2.1);
            if p99 > usual * 3.0 + 0.25 {
                fire("HighLatencyP99", "critical", None, p99, format!("p99 is {p99:.2} s"));
            } else if p99 > usual * 2.0 + 0.1 {
                fire("ElevatedLatencyP99", "warning", None, p99, format!("p99 is {p99:.2} s"));
            }
            if condition.threads > 0.9 {
                fire(
                    "WorkerThreadsExhausted",
                    "critical",
                    None,
                    condition.threads,
                    format!("{} of worker threads busy", percent(condition.threads)),
                );
            }
            if condition.pool > 0.95 {
                fire(
                    "ConnectionPoolSaturated",
                    "critical",
                    None,
                    condition.pool,
                    format!("{} of the pool in use", percent(condition.pool)),
                );
            }
            if !condition.probe_ok {
                fire("ProbeFailed", "critical", None, 0.0, "the blackbox probe fails".into());
            }
        }
        if serves && condition.cpu > 0.88 {
            fire("HighCPU", "critical", None, condition.cpu, format!("CPU at {} of its limit", percent(condition.cpu)));
        }
        for (pod, fraction) in &condition.pod_memory {
            if *fraction > 0.85 {
                fire(
                    "ContainerMemoryHigh",
                    "critical",
                    Some(pod),
                    *fraction,
                    format!("working set at {} of the limit", percent(*fraction)),
                );
            } else if *fraction > 0.78 {
                fire(
                    "ContainerMemoryRising",
                    "warning",
                    Some(pod),
                    *fraction,
                    format!("working set at {} of the limit", percent(*fraction)),
                );
            }
        }
        if serves && condition.ready < condition.pods {
            fire(
                "DeploymentReplicasMismatch",
                "warning",
                None,
                condition.ready as f64,
                format!("{} of {} pods ready", condition.ready, condition.pods),
            );
        }
        if node.role == Role::Database {
            if condition.connections > 0.9 {
                fire(
                    "DatabaseConnectionsExhausted",
                    "critical",
                    None,
                    condition.connections,
                    format!("{} of max_connections", percent(condition.connections)),
                );
            }
            if condition.statement_seconds > 0.1 {
                fire(
                    "SlowStatements",
                    "critical",
                    None,
                    condition.statement_seconds,
                    format!("mean statement time {:.2} s", condition.statement_seconds),
                );
            }
            if condition.volume_free < 0.1 {
                fire(
                    "VolumeAlmostFull",
                    "critical",
                    None,
                    1.0 - condition.volume_free,
                    format!("{} of the volume left", percent(condition.volume_free)),
                );
            }
        }
        if node.role == Role::Queue && condition.backlog > 1500.0 {
            fire("QueueBacklog", "warning", None, condition.backlog, format!("{:.0} messages wait", condition.backlog));
        }
        if node.role == Role::External && condition.errors > 0.2 {
            fire(
                "ExternalDependencyErrors",
                "critical",
                None,
                condition.errors,
                format!("{} of calls fail", percent(condition.errors)),
            );
        }
    }
    for host in &sim.estate.hosts {
        if !sim.kube().is_node_ready(host) {
            let series =
                Series { rule: "NodeNotReady", severity: "critical", subject: host.clone(), pod: None, host: true };
            let active = Active {
                since: sim.now,
                value: 0.0,
                summary: "the kubelet stopped posting its status".into(),
                namespace: "kube-system".into(),
                team: "platform".into(),
                endpoints: vec!["kubelet".into()],
            };
            firing.insert(series, active);
        }
    }
    firing
}

/// Rules that a described world has beyond those of drawn nights, which were measured with theirs.
fn further_rules(sim: &Sim) -> BTreeMap<Series, Active> {
    let mut firing = BTreeMap::new();
    let mut fire = |rule: &'static str, severity: &'static str, subject: &str, value: f64, summary: String| {
        let node = sim.estate.find(subject).map(|at| &sim.estate.nodes[at]);
        let series = Series { rule, severity, subject: subject.to_owned(), pod: None, host: node.is_none() };
        let active = Active {
            since: sim.now,
            value,
            summary,
            namespace: node.map_or("kube-system", |node| &node.namespace).to_owned(),
            team: node.map_or("platform", |node| &node.team).to_owned(),
            endpoints: vec![],
        };
        firing.insert(series, active);
    };
    for (node, condition) in sim.estate.nodes.iter().zip(&sim.conditions) {
        match condition.waiting.as_deref() {
            Some(reason) if reason.contains("CrashLoopBackOff") => {
                fire("PodCrashLooping", "critical", &node.name, 1.0, "a container is restarted again and again".into());
            }
            Some(reason) if reason.contains("ImagePull") => {
                fire("RolloutStuck", "critical", &node.name, 1.0, "a new pod does not start".into());
            }
            _ => {}
        }
        if condition.behind > 60.0 {
            let summary = format!("{:.0} s behind its primary", condition.behind);
            fire("ReplicationLag", "critical", &node.name, condition.behind, summary);
        }
        if condition.backlog > 8_000.0 {
            let summary = format!("{:.0} messages wait", condition.backlog);
            fire("QueueNotDraining", "critical", &node.name, condition.backlog, summary);
        }
        if let Some((wanted, most)) = condition.autoscaler
            && wanted >= most
            && condition.cpu > 0.8
        {
            let summary = format!("{wanted} of at most {most} replicas");
            fire("AutoscalerMaxedOut", "warning", &node.name, wanted as f64, summary);
        }
    }
    for (host, condition) in sim.estate.hosts.iter().zip(&sim.hosts) {
        if condition.busy > 0.92 {
            let summary = format!("processors {:.0} % busy", condition.busy * 100.0);
            fire("HostHighCpu", "warning", host, condition.busy, summary);
        }
        if condition.clock_offset.abs() > 0.05 {
            let summary = format!("the clock is off by {:.1} s", condition.clock_offset);
            fire("NodeClockSkew", "warning", host, condition.clock_offset, summary);
        }
    }
    firing
}
