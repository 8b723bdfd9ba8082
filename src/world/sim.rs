//! The physics: requests flow down the graph, latency and errors flow back up.
//!
//! Every tick: traffic to rates (callers first), capacity and resources to latency and errors
//! (callees first), all of it to metric samples. A fault changes resources of one place; everything
//! else follows from the same equations on every night.

mod build;
mod metrics;
mod physics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::estate::{Estate, Role};
use super::fault::{Carrier, Fault, Kind, Short};
use super::kubernetes::{KubeState, PodHealth, PodView, TemplateChange};
use super::promql::SeriesStore;
use super::random::{Random, noise};
use build::{base_config, build_cluster, drawn_script};

pub use metrics::Recorder;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// What one node is like in one tick.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub rate: f64,
    pub errors: f64,
    pub seconds: f64,
    pub cpu: f64,
    pub threads: f64,
    /// Of its pool to a database, and which.
    pub pool: f64,
    pub pool_to: Option<usize>,
    /// Of a database.
    pub connections: f64,
    pub statement_seconds: f64,
    pub volume_free: f64,
    pub backlog: f64,
    pub probe_ok: bool,
    pub ready: usize,
    pub pods: usize,
    pub pod_memory: BTreeMap<String, f64>,
    pub out_of_memory: bool,
    /// Of a database that follows another: seconds behind.
    pub behind: f64,
    /// Why pods wait that do not run, such as `CrashLoopBackOff`.
    pub waiting: Option<String>,
    /// Pods that are wanted by its autoscaler and the most that it may have.
    pub autoscaler: Option<(i64, i64)>,
}

/// What a host is like in one tick.
#[derive(Debug, Clone, Default)]
pub struct HostCondition {
    /// Of its processors, 0 to 1.
    pub busy: f64,
    /// Seconds by which its clock is off.
    pub clock_offset: f64,
}

/// What a service writes into its log beyond the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    CalleeFails(usize),
    CalleeSlow(usize),
    PoolTimeout(usize),
    OutOfMemory,
    Exception,
    NoSuchHost,
    ConnectionSlots,
    SlowStatement,
    NoSpace,
    TlsCaller(usize),
    TlsServer,
    ThreadsBusy,
    QueueFull,
    /// A configured value that the code cannot use.
    BadValue,
    FlaggedCode,
    CannotStart,
    NameLookup(usize),
    NameServerBusy,
    /// On the way to that node.
    ConnectionReset(usize),
    Poison,
    TokenFromFuture,
    ReplicaBehind,
}

/// The plan of a night: when what happens.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub faults: Vec<Fault>,
    /// Rollouts that break nothing.
    pub innocents: Vec<Rollout>,
    pub lines: Vec<ScriptedLine>,
    pub gauges: Vec<ScriptedGauge>,
}

#[derive(Debug, Clone)]
pub struct Rollout {
    pub at: i64,
    pub node: usize,
    pub change: Carrier,
}

/// A line that a service writes whatever else it does.
#[derive(Debug, Clone)]
pub struct ScriptedLine {
    pub node: usize,
    pub from: i64,
    pub until: i64,
    /// Milliseconds between two of them.
    pub every: i64,
    pub level: &'static str,
    pub text: String,
}

/// A series of the estate's own: a level that moves to others.
#[derive(Debug, Clone)]
pub struct ScriptedGauge {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub level: f64,
    /// From that instant on, reached after so many milliseconds.
    pub steps: Vec<(i64, i64, f64)>,
}

impl ScriptedGauge {
    pub fn value(&self, at: i64) -> f64 {
        self.steps.iter().fold(self.level, |level, (from, over, to)| {
            let share = ((at - from) as f64 / (*over).max(1) as f64).clamp(0.0, 1.0);
            level + (to - level) * share
        })
    }
}

impl Script {
    /// When the certificate of a node ends, if this night sees it.
    pub fn certificate_ends(&self, node: usize) -> Option<i64> {
        self.faults.iter().find(|it| it.at == node && it.kind == Kind::CertificateExpired).map(|it| it.onset)
    }

    /// What the way from one node to another does to a request: the share that is lost, seconds on top.
    pub fn way(&self, at: i64, from: usize, to: usize) -> (f64, f64) {
        let mut way = (0.0, 0.0);
        for fault in self.faults.iter().filter(|fault| fault.is_active(at)) {
            match &fault.kind {
                Kind::Link { to: end, loss, seconds } if fault.at == from && *end == to => {
                    way = (way.0 + loss * (1.0 - way.0), way.1 + seconds);
                }
                // The name server needs no name server.
                Kind::NamesFail { share } if fault.at != from => {
                    way = (way.0 + share * (1.0 - way.0), way.1 + 0.9 * share);
                }
                _ => {}
            }
        }
        way
    }
}

/// What a trace needs to know of a node in one tick.
#[derive(Debug, Clone, Copy)]
pub struct Glimpse {
    pub rate: f64,
    pub errors: f64,
    pub seconds: f64,
}

pub struct Sim {
    pub seed: u64,
    /// 02:00 of the night that is told.
    pub night: i64,
    pub estate: Estate,
    pub script: Script,
    pub kube: Arc<Mutex<KubeState>>,
    pub conditions: Vec<Condition>,
    pub hosts: Vec<HostCondition>,
    pub troubles: BTreeMap<(i64, usize), Vec<Trouble>>,
    /// Of the last hours, by tick: one for each node.
    pub glimpses: BTreeMap<i64, Vec<Glimpse>>,
    pub now: i64,
    pub change_id: Option<String>,
    applied: Vec<bool>,
    begun: Vec<bool>,
    /// By fault: pods that carry what it did to them (wedged, leaking of age).
    marked: Vec<Vec<String>>,
    memory: BTreeMap<String, f64>,
    /// Connections that a pod does not give back, and of which node it is.
    leaked: BTreeMap<String, (usize, f64)>,
    /// Connections of pods that are gone, with the instant at which the server drops them.
    orphaned: Vec<(usize, f64, i64)>,
    /// Pods whose container is about to be killed, with the restarts they had then.
    crash: BTreeMap<String, i64>,
    recorder: Recorder,
    /// The slowest that each node was on the quiet days: what its alerts are set by.
    pub usual_seconds: Vec<f64>,
    mean_rates: Vec<f64>,
    /// Processors of a host.
    cores: f64,
}

/// The first night that can be told; every later one is whole weeks after it.
pub const NIGHT: i64 = 1_795_140_000_000; // 2026-11-20T02:00:00Z

impl Sim {
    /// `attempt` draws another fault for the same estate: see `rules::draw`.
    pub fn new(seed: u64, attempt: u32, night: i64) -> Self {
        let mut random = Random::new(seed);
        let estate = Estate::draw(seed, &mut random);
        for _ in 0..attempt {
            random.unit();
        }
        let fault = Fault::draw(seed, &estate, &mut random);
        let script = drawn_script(seed, night, &estate, fault, &mut random);
        Self::of(seed, night, estate, script)
    }

    /// An estate and what shall happen to it.
    pub fn of(seed: u64, night: i64, estate: Estate, script: Script) -> Self {
        let (kube, cores) = build_cluster(seed, night, &estate);
        let count = estate.nodes.len();
        Self {
            seed,
            night,
            recorder: Recorder::new(night),
            usual_seconds: vec![0.0; count],
            mean_rates: estate.mean_rates(),
            conditions: vec![Condition::default(); count],
            hosts: vec![HostCondition::default(); estate.hosts.len()],
            applied: vec![false; script.innocents.len()],
            begun: vec![false; script.faults.len()],
            marked: vec![vec![]; script.faults.len()],
            estate,
            script,
            kube: Arc::new(Mutex::new(kube)),
            troubles: BTreeMap::new(),
            glimpses: BTreeMap::new(),
            now: 0,
            change_id: None,
            memory: BTreeMap::new(),
            leaked: BTreeMap::new(),
            orphaned: vec![],
            crash: BTreeMap::new(),
            cores,
        }
    }

    pub fn kube(&self) -> MutexGuard<'_, KubeState> {
        self.kube.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Quiet days: nothing is rolled out that matters, pods stay as they are.
    pub fn quiet(&mut self, days: u32, step: i64, store: &mut SeriesStore) {
        let start = self.night - i64::from(days) * DAY;
        self.kube().step(start - HOUR, &mut |_| PodHealth::Ready);
        let mut at = start - HOUR;
        while at < start - HOUR + 4 * MINUTE {
            at += 15_000;
            self.kube().step(at, &mut |_| PodHealth::Ready);
        }
        let pods = self.kube().all_pods();
        let mut at = start;
        while at < self.night - 3 * HOUR {
            self.tick(at, step, &pods, store);
            for (usual, condition) in self.usual_seconds.iter_mut().zip(&self.conditions) {
                *usual = usual.max(condition.seconds);
            }
            at += step;
        }
        self.now = at - step;
    }

    /// Moves on to `until` in steps of 15 s.
    pub fn advance(&mut self, until: i64, store: &mut SeriesStore, each: &mut dyn FnMut(&Self)) {
        // Far from the night the step is a minute, as in the quiet days.
        while self.now < until {
            let step = if self.now < self.night - 10 * MINUTE { MINUTE } else { 15_000 };
            let at = self.now + step;
            if at > until {
                break;
            }
            self.happen(at);
            let crash = std::mem::take(&mut self.crash);
            let ailing = self.ailing(at);
            self.kube().disturb(crash.keys().cloned().chain(ailing));
            self.kube().step(at, &mut |pod| match crash.get(&pod.name) {
                // Killed once: the container that comes after it starts afresh.
                Some(restarts) if *restarts == pod.restarts => {
                    PodHealth::Crash { reason: "OOMKilled".into(), exit: 137 }
                }
                _ => self.health(at, pod),
            });
            let pods = self.kube().all_pods();
            self.tick(at, step, &pods, store);
            self.now = at;
            each(self);
        }
    }

    /// Pods that run now and may not be well any more.
    fn ailing(&self, at: i64) -> BTreeSet<String> {
        let active = |fault: &&Fault| fault.is_active(at) && fault.carrier.is_none() && fault.kind == Kind::CrashLoop;
        let nodes: Vec<&str> =
            self.script.faults.iter().filter(active).map(|it| self.estate.nodes[it.at].name.as_str()).collect();
        if nodes.is_empty() {
            return BTreeSet::new();
        }
        self.kube()
            .all_pods()
            .into_iter()
            .filter(|pod| nodes.contains(&pod.service.as_str()))
            .map(|it| it.name)
            .collect()
    }

    fn health(&self, at: i64, pod: &PodView) -> PodHealth {
        for (number, fault) in self.script.faults.iter().enumerate() {
            let concerned = matches!(fault.kind, Kind::CrashLoop | Kind::ImagePull) && fault.is_active(at);
            if concerned && self.is_faulty(number, pod) {
                return match fault.kind {
                    Kind::ImagePull => PodHealth::ImagePull,
                    _ => PodHealth::Crash { reason: "Error".into(), exit: 1 },
                };
            }
        }
        PodHealth::Ready
    }

    /// Rollouts and outages whose time has come.
    fn happen(&mut self, at: i64) {
        for index in 0..self.script.innocents.len() {
            let innocent = self.script.innocents[index].clone();
            if self.applied[index] || innocent.at > at {
                continue;
            }
            self.applied[index] = true;
            self.roll_out(innocent.node, &innocent.change, innocent.at);
        }
        for number in 0..self.script.faults.len() {
            let fault = self.script.faults[number].clone();
            if fault.kind == Kind::Maintenance && fault.is_active(at) {
                self.drain(fault.at, at);
            }
            if fault.until.is_some_and(|until| at >= until) && self.begun[number] && fault.kind.is_of_host() {
                let name = self.estate.hosts[fault.at].clone();
                let down = !self.kube().is_node_ready(&name);
                if down {
                    self.kube().set_node_ready(&name, true, "KubeletReady", at);
                }
            }
            if self.begun[number] || fault.onset > at {
                continue;
            }
            self.begun[number] = true;
            self.begin(number, &fault);
        }
    }

    fn roll_out(&mut self, index: usize, change: &Carrier, at: i64) -> Option<String> {
        let node = self.estate.nodes[index].clone();
        let config_map = (!change.config.is_empty()).then(|| {
            let mut data = base_config(&node.name);
            data.extend(change.config.clone());
            (format!("{}-config-{}", node.name, change.suffix), data)
        });
        let template = TemplateChange {
            image: change.image.clone(),
            env: (!change.env.is_empty()).then(|| change.env.clone().into_iter().collect()),
            config_map,
            mem_limit: change.memory.map(|memory| format!("{memory}Mi")),
            cpu_limit: None,
            cause: change.cause.clone(),
        };
        // A workload that is not there cannot be rolled out; plans only name ones that are.
        let revision = self.kube().roll_out(&node.namespace, &node.name, &template, at).ok()?;
        Some(format!("{} revision {revision}", node.name))
    }

    fn begin(&mut self, number: usize, fault: &Fault) {
        if let Some(change) = &fault.carrier {
            let made = self.roll_out(fault.at, change, fault.onset);
            self.change_id = self.change_id.take().or(made);
            return;
        }
        if fault.kind.is_in_processes() {
            let pods = self.kube().pods(&self.estate.nodes[fault.at].name);
            self.marked[number] = pods.into_iter().map(|pod| pod.name).collect();
        }
        match fault.kind {
            Kind::HostLost => {
                let name = self.estate.hosts[fault.at].clone();
                self.kube().set_node_ready(&name, false, "NodeStatusUnknown", fault.onset);
            }
            Kind::Quota { lost } => {
                let node = &self.estate.nodes[fault.at];
                self.kube().lose_to_quota(&node.namespace, &node.name, lost, fault.onset);
            }
            _ => {}
        }
    }

    /// Cordons a host, moves its pods away one by one, and takes it down when it is empty.
    fn drain(&mut self, host: usize, at: i64) {
        let name = self.estate.hosts[host].clone();
        let mut kube = self.kube();
        kube.cordon(&name, at);
        if !kube.drain_one(&name, at) && kube.is_node_ready(&name) {
            kube.set_node_ready(&name, false, "NodeStatusUnknown", at);
        }
    }

    /// Whether this pod carries what the fault did or what its change brought.
    fn is_faulty(&self, number: usize, pod: &PodView) -> bool {
        let fault = &self.script.faults[number];
        if fault.kind.is_of_host() {
            return false;
        }
        let own = || pod.service == self.estate.nodes[fault.at].name;
        match &fault.carrier {
            Some(carrier) => own() && carrier.is_in(pod),
            None if fault.kind.is_in_processes() => self.marked[number].contains(&pod.name),
            None => own(),
        }
    }

    /// Requests a second at the door: daily swing, quieter weekends, ripple; and a surge if the
    /// night brings one.
    fn traffic(&self, at: i64) -> f64 {
        let hour = (at.rem_euclid(DAY)) as f64 / HOUR as f64;
        let weekday = (at.div_euclid(DAY) + 3).rem_euclid(7);
        let swing = 1.0 + 0.45 * ((hour - 15.0) / 24.0 * std::f64::consts::TAU).cos();
        let weekend = if weekday >= 5 { 0.82 } else { 1.0 };
        let ripple = 0.96 + 0.08 * noise(self.seed, 1, (at / MINUTE) as u64);
        let mut surge = 1.0;
        for fault in self.script.faults.iter().filter(|fault| fault.is_active(at)) {
            if let Kind::Surge { factor, .. } = fault.kind {
                let ramp = ((at - fault.onset) as f64 / (8.0 * MINUTE as f64)).min(1.0);
                // People are many now; the night's low does not count.
                surge *= 1.0 + (factor / (swing * weekend) * 1.25 - 1.0) * ramp;
            }
        }
        self.estate.traffic * swing * weekend * ripple * surge
    }

    /// How much one replica bears, given what the night did to its service; `share` of the
    /// replicas carry the fault of that number.
    fn capacity(&self, index: usize, share: &dyn Fn(usize) -> f64) -> f64 {
        let mut capacity = self.estate.nodes[index].capacity;
        let surges = || self.script.faults.iter().filter(|it| matches!(it.kind, Kind::Surge { .. }));
        let short = surges().any(|it| it.at == index && matches!(it.kind, Kind::Surge { short: Short::Cpu, .. }));
        let planned = surges().next().is_some();
        if short {
            capacity *= 0.62;
        } else if planned {
            // The others were planned for such a day.
            capacity *= 2.6;
        }
        for (number, fault) in self.script.faults.iter().enumerate() {
            if let Kind::Slow { capacity: left } = fault.kind
                && fault.at == index
            {
                capacity *= 1.0 - (1.0 - left) * share(number);
            }
        }
        capacity
    }

    fn tick(&mut self, at: i64, step: i64, pods: &[PodView], store: &mut SeriesStore) {
        let count = self.estate.nodes.len();
        let by_service: Vec<Vec<&PodView>> = (0..count)
            .map(|index| pods.iter().filter(|pod| pod.service == self.estate.nodes[index].name).collect())
            .collect();
        self.remember_memory(at, step, &by_service);
        let rates = self.rates(at);
        let before = std::mem::take(&mut self.conditions);
        let mut conditions = vec![Condition::default(); count];
        let mut troubles: Vec<Vec<Trouble>> = vec![vec![]; count];
        self.orphaned.retain(|(_, _, until)| *until > at);
        // Callees come later in the list, so going backwards meets them first.
        for index in (0..count).rev() {
            let pods = &by_service[index];
            conditions[index] =
                self.condition(at, index, rates[index], pods, &conditions, &before, &mut troubles[index]);
        }
        for (index, list) in troubles.into_iter().enumerate() {
            if !list.is_empty() && at > self.night - 3 * HOUR {
                self.troubles.insert((at, index), list);
            }
        }
        self.conditions = conditions;
        if at > self.night - 3 * HOUR {
            let glimpse = |it: &Condition| Glimpse { rate: it.rate, errors: it.errors, seconds: it.seconds };
            self.glimpses.insert(at, self.conditions.iter().map(glimpse).collect());
        }
        self.hosts = self.host_conditions(at, pods);
        let kube = self.kube.lock().unwrap_or_else(PoisonError::into_inner);
        let scene = metrics::Scene {
            estate: &self.estate,
            script: &self.script,
            conditions: &self.conditions,
            hosts: &self.hosts,
            cores: self.cores,
        };
        self.recorder.record(at, step, &scene, pods, &kube, store);
    }

    fn rates(&self, at: i64) -> Vec<f64> {
        let gateways = self.estate.nodes.iter().filter(|node| node.role == Role::Gateway).count().max(1) as f64;
        let traffic = self.traffic(at);
        let mut rates = vec![0.0; self.estate.nodes.len()];
        for index in 0..rates.len() {
            let node = &self.estate.nodes[index];
            match node.role {
                Role::Gateway => rates[index] += traffic / gateways,
                Role::Worker => rates[index] += self.taken(at, index),
                Role::NameServer => rates[index] += self.estate.traffic,
                Role::Service | Role::Database | Role::Queue | Role::External => {}
            }
            // Retries: callers that see failures ask again.
            let failing = self.conditions.get(index).map_or(0.0, |condition| condition.errors.min(0.9));
            let again = match node.role {
                Role::Worker => 1.0 + 1.6 * failing,
                _ => 1.0 + 0.15 * failing,
            };
            for call in &node.calls {
                rates[call.to] += rates[index] * call.share * again;
            }
        }
        rates
    }

    /// The physics of the faults have ended: nothing runs any more what causes them.
    pub fn is_cured(&self) -> bool {
        if self.begun.is_empty() || !self.begun.iter().all(|begun| *begun) {
            return false;
        }
        let pods = self.kube().all_pods();
        self.script.faults.iter().enumerate().all(|(number, fault)| match (&fault.carrier, &fault.kind) {
            (None, Kind::Surge { short: Short::Pool, .. }) => self.conditions[fault.at].pool < 0.95,
            (None, Kind::Surge { short: Short::Cpu, .. }) => self.conditions[fault.at].cpu < 0.95,
            (None, Kind::Flood { .. }) => self.conditions[fault.at].backlog < 1500.0,
            (None, kind) if !kind.is_in_processes() => fault.until.is_some_and(|until| self.now >= until),
            (Some(_), _) | (None, _) => {
                !pods.iter().any(|pod| pod.phase != "Terminating" && self.is_faulty(number, pod))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_lives_the_same_night_twice() {
        let mut nights = vec![];
        for _ in 0..2 {
            let t = std::time::Instant::now();
            let mut sim = Sim::new(1, 0, NIGHT);
            eprintln!("new {:?}", t.elapsed());
            let mut store = SeriesStore::new();
            let t = std::time::Instant::now();
            sim.quiet(1, MINUTE, &mut store);
            eprintln!("quiet {:?}", t.elapsed());
            let t = std::time::Instant::now();
            sim.advance(NIGHT + 20 * MINUTE, &mut store, &mut |_| {});
            eprintln!("night {:?}", t.elapsed());
            nights.push(
                sim.conditions.iter().map(|it| format!("{:.4} {:.4}", it.errors, it.seconds)).collect::<Vec<_>>(),
            );
        }
        assert_eq!(nights[0], nights[1]);
    }
}
