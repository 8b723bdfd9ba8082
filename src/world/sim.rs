//! The physics: requests flow down the graph, latency and errors flow back up.
//!
//! Every tick: traffic to rates (callers first), capacity and resources to latency and errors
//! (callees first), all of it to metric samples. A fault changes resources of one node; everything
//! else follows from the same equations on every night.

mod metrics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::estate::{Estate, Role};
use super::fault::Fault;
use super::kubernetes::{DeploymentSpec, KubeState, PodHealth, PodView, TemplateChange, WorkloadKind};
use super::promql::SeriesStore;
use super::random::{Random, noise};

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
}

/// The plan of a night: when what happens.
#[derive(Debug, Clone)]
pub struct Script {
    pub fault: Fault,
    pub onset: i64,
    pub innocents: Vec<Innocent>,
}

#[derive(Debug, Clone)]
pub struct Innocent {
    pub at: i64,
    pub node: usize,
    pub image: bool,
}

pub struct Sim {
    pub seed: u64,
    /// 02:00 of the night that is told.
    pub night: i64,
    pub estate: Estate,
    pub script: Script,
    pub kube: Arc<Mutex<KubeState>>,
    pub conditions: Vec<Condition>,
    pub troubles: BTreeMap<(i64, usize), Vec<Trouble>>,
    pub now: i64,
    pub change_id: Option<String>,
    applied: Vec<bool>,
    fault_begun: bool,
    /// Pods that carry what the fault did to them (wedged, leaking of age).
    marked: Vec<String>,
    memory: BTreeMap<String, f64>,
    leaked: BTreeMap<String, f64>,
    /// Connections of pods that are gone, with the instant at which the server drops them.
    orphaned: Vec<(usize, f64, i64)>,
    /// Pods whose container is about to be killed, with the restarts they had then.
    crash: BTreeMap<String, i64>,
    recorder: Recorder,
    /// The slowest that each node was on the quiet days: what its alerts are set by.
    pub usual_seconds: Vec<f64>,
    mean_rates: Vec<f64>,
}

/// Every change of the night was approved in the same words: the guilty one must not read like it.
const APPROVED: &str = "approved 15:42 by release board, run by pipeline";
/// Between the tags of the harmless releases; the physics know it, a reader cannot.
const FAULTY_TAG: &str = "2.41.7";

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
        let script = script(seed, night, &estate, fault, &mut random);
        let kube = build_cluster(seed, night, &estate);
        let count = estate.nodes.len();
        Self {
            seed,
            night,
            recorder: Recorder::new(night),
            usual_seconds: vec![0.0; count],
            mean_rates: estate.mean_rates(),
            conditions: vec![Condition::default(); count],
            applied: vec![false; script.innocents.len()],
            estate,
            script,
            kube: Arc::new(Mutex::new(kube)),
            troubles: BTreeMap::new(),
            now: 0,
            change_id: None,
            fault_begun: false,
            marked: vec![],
            memory: BTreeMap::new(),
            leaked: BTreeMap::new(),
            orphaned: vec![],
            crash: BTreeMap::new(),
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
            self.kube().disturb(crash.keys().cloned());
            self.kube().step(at, &mut |pod| match crash.get(&pod.name) {
                // Killed once: the container that comes after it starts afresh.
                Some(restarts) if *restarts == pod.restarts => {
                    PodHealth::Crash { reason: "OOMKilled".into(), exit: 137 }
                }
                _ => PodHealth::Ready,
            });
            let pods = self.kube().all_pods();
            self.tick(at, step, &pods, store);
            self.now = at;
            each(self);
        }
    }

    /// Rollouts and outages whose time has come.
    fn happen(&mut self, at: i64) {
        for index in 0..self.script.innocents.len() {
            let innocent = self.script.innocents[index].clone();
            if self.applied[index] || innocent.at > at {
                continue;
            }
            self.applied[index] = true;
            let node = self.estate.nodes[innocent.node].clone();
            let change = if innocent.image {
                TemplateChange {
                    image: Some(format!("registry.example/{}:2.{}.0", node.name, 40 + index)),
                    cause: format!("release {} 2.{}.0 ({APPROVED})", node.name, 40 + index),
                    ..TemplateChange::default()
                }
            } else {
                TemplateChange {
                    env: Some(vec![
                        ("LOG_LEVEL".into(), "info".into()),
                        ("FEATURE_BANNER".into(), format!("v{}", index + 2)),
                    ]),
                    cause: format!("{} configuration rollout ({APPROVED})", node.name),
                    ..TemplateChange::default()
                }
            };
            // A workload that is not there cannot be rolled out; the draw only names ones that are.
            let _ = self.kube().roll_out(&node.namespace, &node.name, &change, innocent.at);
        }
        if self.fault_begun || self.script.onset > at {
            return;
        }
        self.fault_begun = true;
        let onset = self.script.onset;
        if let Some(index) = self.script.fault.changed() {
            let node = self.estate.nodes[index].clone();
            let change = self.faulty_change(index);
            let rolled_out = self.kube().roll_out(&node.namespace, &node.name, &change, onset);
            if let Ok(revision) = rolled_out {
                self.change_id = Some(format!("{} revision {revision}", node.name));
            }
            return;
        }
        match self.script.fault {
            Fault::Wedged { at } | Fault::AgedLeak { at } => {
                let pods = self.kube().pods(&self.estate.nodes[at].name);
                self.marked = pods.into_iter().map(|pod| pod.name).collect();
            }
            Fault::HostLost { host } => {
                let name = self.estate.hosts[host].clone();
                self.kube().set_node_ready(&name, false, "NodeStatusUnknown", onset);
            }
            _ => {}
        }
    }

    fn faulty_change(&self, index: usize) -> TemplateChange {
        let node = &self.estate.nodes[index];
        let name = &node.name;
        let config = |key: &str, value: &str| {
            let mut data = base_config(name);
            data.insert(key.to_owned(), value.to_owned());
            Some((format!("{name}-config-9d2b"), data))
        };
        match &self.script.fault {
            Fault::ConfigLeak { .. } => TemplateChange {
                config_map: config("cache.entry_ttl", "never"),
                cause: format!("{name} configuration rollout ({APPROVED})"),
                ..TemplateChange::default()
            },
            Fault::PoolTooSmall { .. } => TemplateChange {
                config_map: config("db.pool.max", "2"),
                cause: format!("{name}: tidy connection settings ({APPROVED})"),
                ..TemplateChange::default()
            },
            Fault::WrongHost { .. } => TemplateChange {
                config_map: config("upstream.host", "svc.internal.old"),
                cause: format!("{name}: endpoints clean-up ({APPROVED})"),
                ..TemplateChange::default()
            },
            Fault::MemoryLimitLowered { .. } => TemplateChange {
                mem_limit: Some(format!("{}Mi", node.memory_mib * 35 / 100)),
                cause: format!("{name}: right-sizing ({APPROVED})"),
                ..TemplateChange::default()
            },
            _ => TemplateChange {
                image: Some(format!("registry.example/{name}:{FAULTY_TAG}")),
                cause: format!("release {name} {FAULTY_TAG} ({APPROVED})"),
                ..TemplateChange::default()
            },
        }
    }

    /// Whether this pod runs what the fault's change brought.
    fn is_faulty(&self, pod: &PodView) -> bool {
        let Some(index) = self.script.fault.changed() else {
            return self.marked.contains(&pod.name);
        };
        let node = &self.estate.nodes[index];
        if pod.service != node.name {
            return false;
        }
        match &self.script.fault {
            Fault::ConfigLeak { .. } => pod.config.get("cache.entry_ttl").is_some_and(|value| value == "never"),
            Fault::PoolTooSmall { .. } => pod.config.get("db.pool.max").is_some_and(|value| value == "2"),
            Fault::WrongHost { .. } => pod.config.get("upstream.host").is_some_and(|value| value.ends_with(".old")),
            Fault::MemoryLimitLowered { .. } => pod.mem_limit != format!("{}Mi", node.memory_mib),
            _ => pod.image.ends_with(FAULTY_TAG),
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
        let surge = match &self.script.fault {
            Fault::TrafficPool { factor, .. } | Fault::TrafficCpu { factor, .. } if at >= self.script.onset => {
                let ramp = ((at - self.script.onset) as f64 / (8.0 * MINUTE as f64)).min(1.0);
                // People are many now; the night's low does not count.
                1.0 + (factor / (swing * weekend) * 1.25 - 1.0) * ramp
            }
            _ => 1.0,
        };
        self.estate.traffic * swing * weekend * ripple * surge
    }

    /// How much one replica bears, given what the night did to its service.
    fn capacity(&self, index: usize, faulty_share: f64) -> f64 {
        let node = &self.estate.nodes[index];
        match &self.script.fault {
            Fault::SlowImage { at } if *at == index => node.capacity * (1.0 - 0.9 * faulty_share),
            Fault::TrafficCpu { at, .. } if *at == index => node.capacity * 0.62,
            // The others were planned for such a day.
            Fault::TrafficCpu { .. } | Fault::TrafficPool { .. } => node.capacity * 2.6,
            _ => node.capacity,
        }
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
            conditions[index] =
                self.condition(at, index, rates[index], &by_service[index], &conditions, &before, &mut troubles[index]);
        }
        for (index, list) in troubles.into_iter().enumerate() {
            if !list.is_empty() && at > self.night - 3 * HOUR {
                self.troubles.insert((at, index), list);
            }
        }
        self.conditions = conditions;
        let faulty_certificate = match self.script.fault {
            Fault::CertificateExpired { at } => Some(at),
            _ => None,
        };
        let certificate = (faulty_certificate, self.script.onset);
        let kube = self.kube.lock().unwrap_or_else(PoisonError::into_inner);
        self.recorder.record(at, step, &self.estate, &self.conditions, pods, &kube, certificate, store);
    }

    fn rates(&self, at: i64) -> Vec<f64> {
        let gateways = self.estate.nodes.iter().filter(|node| node.role == Role::Gateway).count().max(1) as f64;
        let traffic = self.traffic(at);
        let mut rates = vec![0.0; self.estate.nodes.len()];
        for index in 0..rates.len() {
            let node = &self.estate.nodes[index];
            match node.role {
                Role::Gateway => rates[index] += traffic / gateways,
                // Batches at a steady pace, a little more at three in the morning.
                Role::Worker => {
                    let hour = at.rem_euclid(DAY) / HOUR;
                    rates[index] += self.estate.traffic * if hour == 3 { 0.42 } else { 0.3 };
                }
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

    fn remember_memory(&mut self, at: i64, step: i64, by_service: &[Vec<&PodView>]) {
        let minutes = step as f64 / MINUTE as f64;
        let mut alive: Vec<String> = vec![];
        for (index, pods) in by_service.iter().enumerate() {
            let node = self.estate.nodes[index].clone();
            for (number, pod) in pods.iter().enumerate() {
                alive.push(pod.name.clone());
                let faulty = self.is_faulty(pod);
                let busy = 0.03 * noise(self.seed ^ index as u64, number as u64, (at / MINUTE) as u64);
                let age = (at - pod.started_at).max(0) as f64 / MINUTE as f64;
                let warm = (age / 3.0).min(1.0);
                let mut fraction = node.memory_base * (0.55 + 0.45 * warm) + busy;
                let leak = self.memory.entry(pod.name.clone()).or_insert(0.0);
                if age < 0.3 {
                    *leak = 0.0;
                }
                match &self.script.fault {
                    Fault::ConfigLeak { .. } if faulty => {
                        *leak += 0.036 * minutes * (0.9 + 0.2 * noise(self.seed, 77, number as u64));
                        let held = self.leaked.entry(pod.name.clone()).or_insert(0.0);
                        *held = (*held + node.pool * 0.075 * minutes).min(node.pool);
                    }
                    Fault::AgedLeak { .. } if faulty => *leak += 0.022 * minutes,
                    Fault::MemoryLimitLowered { .. } if faulty => fraction *= 100.0 / 35.0,
                    _ => {}
                }
                fraction += *leak;
                let killed = fraction >= 1.0 && pod.ready;
                if killed {
                    *leak = 0.0;
                }
                if killed && age > 0.5 {
                    self.crash.insert(pod.name.clone(), pod.restarts);
                } else {
                    self.crash.remove(&pod.name);
                }
                self.memory
                    .entry(format!("{}/fraction", pod.name))
                    .and_modify(|it| *it = fraction.min(1.0))
                    .or_insert(fraction.min(1.0));
            }
        }
        // A pod that is gone leaves its connections to the server's timeout.
        let gone: Vec<String> = self.leaked.keys().filter(|name| !alive.contains(name)).cloned().collect();
        for name in gone {
            let held = self.leaked.remove(&name).unwrap_or(0.0);
            if let Fault::ConfigLeak { at: index } = self.script.fault
                && let Some(db) = self.database_of(index)
            {
                self.orphaned.push((db, held, at + 45_000));
            }
        }
    }

    fn database_of(&self, index: usize) -> Option<usize> {
        self.estate.nodes[index]
            .calls
            .iter()
            .map(|call| call.to)
            .find(|to| self.estate.nodes[*to].role == Role::Database)
    }

    #[allow(clippy::too_many_arguments)] // the physics of one node in one place
    fn condition(
        &self,
        at: i64,
        index: usize,
        rate: f64,
        pods: &[&PodView],
        done: &[Condition],
        before: &[Condition],
        troubles: &mut Vec<Trouble>,
    ) -> Condition {
        let node = &self.estate.nodes[index];
        let jitter = 0.95 + 0.1 * noise(self.seed, 1000 + index as u64, (at / 15_000) as u64);
        if node.role == Role::External {
            return self.external(at, index, rate, jitter);
        }
        let live: Vec<&&PodView> = pods.iter().filter(|pod| pod.phase != "Terminating").collect();
        let ready: Vec<&&&PodView> = live.iter().filter(|pod| pod.ready).collect();
        let serving = (ready.len() as f64).max(0.25);
        let faulty_share = ready.iter().filter(|pod| self.is_faulty(pod)).count() as f64 / serving.max(1.0);
        let started = at >= self.script.onset;
        let load = rate / (serving * self.capacity(index, faulty_share));
        let mut seconds = node.own_seconds * jitter * (1.0 + 2.2 * (load - 0.65).max(0.0));
        let mut errors: f64 = 0.0004 * jitter;
        if load > 1.0 {
            errors += (1.0 - 1.0 / load) * 0.85;
            seconds += (load - 1.0).min(2.0) * 1.2;
            troubles.push(Trouble::QueueFull);
        }
        let lost = live.iter().filter(|pod| !pod.ready && self.on_lost_host(pod)).count();
        if lost > 0 {
            // Requests still routed to what no longer answers.
            let share = lost as f64 / live.len().max(1) as f64;
            errors += share * 0.5;
            seconds += share * 1.5;
        }
        let mut condition =
            Condition { rate, ready: ready.len(), pods: live.len(), probe_ok: true, ..Condition::default() };
        for pod in pods {
            let fraction = self.memory.get(&format!("{}/fraction", pod.name)).copied().unwrap_or(node.memory_base);
            condition.pod_memory.insert(pod.name.clone(), fraction);
            // Close to its limit a process mostly collects garbage.
            if fraction > 0.88 && pod.ready {
                errors += 0.25 * (fraction - 0.88) / 0.12 / serving;
                seconds += 1.2 * (fraction - 0.88) / 0.12 / serving;
            }
            if self.crash.contains_key(&pod.name) {
                condition.out_of_memory = true;
                troubles.push(Trouble::OutOfMemory);
            }
        }
        let mut wait = 0.0;
        for call in &node.calls {
            let callee = &done[call.to];
            wait += self.call(
                at,
                index,
                call.to,
                call.share,
                serving,
                callee,
                faulty_share,
                &mut errors,
                &mut condition,
                troubles,
            );
        }
        seconds += wait;
        match &self.script.fault {
            Fault::BadImage { at: bad } if *bad == index && faulty_share > 0.0 => {
                errors += 0.42 * faulty_share;
                troubles.push(Trouble::Exception);
            }
            Fault::Wedged { at: bad } if *bad == index && started && faulty_share > 0.0 => {
                let minutes = (at - self.script.onset) as f64 / MINUTE as f64;
                let stuck = (minutes / 9.0).min(0.97) * faulty_share;
                condition.threads += stuck;
                if stuck > 0.7 {
                    errors += (stuck - 0.7) * 2.0;
                    seconds += (stuck - 0.7) * 6.0;
                    troubles.push(Trouble::ThreadsBusy);
                }
            }
            _ => {}
        }
        if node.role == Role::Database {
            self.database(at, index, rate, jitter, before, &mut condition, &mut seconds, &mut errors, troubles);
        }
        if node.role == Role::Queue {
            let stuck =
                self.estate.callers(index).filter(|(caller, _)| self.estate.nodes[*caller].role == Role::Worker);
            let failing = stuck.map(|(caller, _)| before.get(caller).map_or(0.0, |it| it.errors)).fold(0.0, f64::max);
            let held = before.get(index).map_or(20.0, |it| it.backlog);
            condition.backlog =
                (held + rate * 15.0 * (failing - 0.05).max(0.0)).min(80_000.0) * if failing < 0.05 { 0.7 } else { 1.0 };
            condition.backlog = condition.backlog.max(10.0 + 25.0 * jitter);
        }
        if matches!(self.script.fault, Fault::CertificateExpired { at: bad } if bad == index) && started {
            condition.probe_ok = false;
            troubles.push(Trouble::TlsServer);
        }
        if ready.is_empty() && !pods.is_empty() {
            errors = 0.99;
            condition.probe_ok = false;
        }
        condition.errors = errors.clamp(0.0, 0.99);
        condition.seconds = seconds.clamp(0.001, 12.0);
        // Little's law, against what the pods have.
        condition.threads = (condition.threads + rate * condition.seconds / (serving * node.threads)).min(1.0);
        let regressed = matches!(self.script.fault, Fault::SlowImage { at: bad } if bad == index);
        let work = if regressed {
            load
        } else {
            rate / (serving * node.capacity) * (node.capacity / self.capacity(index, 0.0))
        };
        condition.cpu = (0.06 + 0.62 * work + 0.02 * jitter).min(1.0);
        condition
    }

    fn external(&self, at: i64, index: usize, rate: f64, jitter: f64) -> Condition {
        let node = &self.estate.nodes[index];
        let broken =
            matches!(self.script.fault, Fault::ExternalBroken { at: bad } if bad == index) && at >= self.script.onset;
        let (errors, seconds) = if broken { (0.62, node.own_seconds * 12.0 + 1.4) } else { (0.002, node.own_seconds) };
        Condition {
            rate,
            errors: errors * jitter,
            seconds: seconds * jitter,
            probe_ok: true,
            ready: 1,
            pods: 1,
            ..Condition::default()
        }
    }

    fn on_lost_host(&self, pod: &PodView) -> bool {
        matches!(self.script.fault, Fault::HostLost { host } if self.estate.hosts[host] == pod.node)
    }

    /// Adds what a call costs its caller; the answer is the time it adds to each request.
    #[allow(clippy::too_many_arguments)]
    fn call(
        &self,
        at: i64,
        index: usize,
        to: usize,
        share: f64,
        serving: f64,
        callee: &Condition,
        faulty_share: f64,
        errors: &mut f64,
        condition: &mut Condition,
        troubles: &mut Vec<Trouble>,
    ) -> f64 {
        const TIMEOUT: f64 = 2.5;
        let node = &self.estate.nodes[index];
        let mut failing = callee.errors;
        let mut took = callee.seconds.min(TIMEOUT);
        if callee.seconds > TIMEOUT {
            failing = failing.max((callee.seconds - TIMEOUT) / 3.0).min(0.95);
        }
        if matches!(self.script.fault, Fault::CertificateExpired { at: bad } if bad == to) && at >= self.script.onset {
            failing = 0.96;
            took = 0.02;
            troubles.push(Trouble::TlsCaller(to));
        }
        if matches!(self.script.fault, Fault::WrongHost { at: bad, callee } if bad == index && callee == to)
            && faulty_share > 0.0
        {
            *errors += 0.9 * faulty_share * share.min(1.0);
            troubles.push(Trouble::NoSuchHost);
            return 0.01;
        }
        if self.estate.nodes[to].role == Role::Database {
            let leaked: f64 = self
                .leaked
                .iter()
                .filter(|(name, _)| condition.pod_memory.contains_key(*name))
                .map(|(_, held)| held)
                .sum::<f64>()
                / serving;
            let size = match self.script.fault {
                Fault::PoolTooSmall { at: bad } if bad == index => {
                    node.pool * (1.0 - faulty_share) + 2.0 * faulty_share
                }
                // Enough for the busiest usual hour, and half as much again.
                Fault::TrafficPool { at: bad, .. } if bad == index => {
                    let mean = self.mean_rates[index] * share / node.replicas.max(1) as f64;
                    mean * (self.estate.nodes[to].own_seconds + 0.004) * 2.1 * 4.5 + 0.02
                }
                _ => node.pool,
            };
            let busy = condition.rate * share / serving * (callee.seconds + 0.004);
            let demand = match self.script.fault {
                // Pools are sized by the night's own measure: connections are held for a whole request.
                Fault::TrafficPool { at: bad, .. } | Fault::PoolTooSmall { at: bad } if bad == index => {
                    busy * 4.5 + 0.6
                }
                _ => busy * 1.2 + 0.08 * node.pool,
            };
            let used = (demand + leaked) / size;
            condition.pool = used.min(1.0);
            condition.pool_to = Some(to);
            if used > 1.0 {
                let waiting = (used - 1.0).min(1.0);
                failing = (failing + 0.25 + 0.5 * waiting).min(0.95);
                took += 0.8 + 1.6 * waiting;
                troubles.push(Trouble::PoolTimeout(to));
            }
        }
        if failing > 0.05 {
            troubles.push(Trouble::CalleeFails(to));
        } else if took > 1.0 {
            troubles.push(Trouble::CalleeSlow(to));
        }
        *errors += failing * share.min(1.0) * 0.85;
        took * share.min(1.5)
    }

    #[allow(clippy::too_many_arguments)]
    fn database(
        &self,
        at: i64,
        index: usize,
        rate: f64,
        jitter: f64,
        before: &[Condition],
        condition: &mut Condition,
        seconds: &mut f64,
        errors: &mut f64,
        troubles: &mut Vec<Trouble>,
    ) {
        let node = &self.estate.nodes[index];
        let started = at >= self.script.onset;
        let minutes = ((at - self.script.onset) as f64 / MINUTE as f64).max(0.0);
        let mut statement = node.own_seconds * 0.7 * jitter;
        if matches!(self.script.fault, Fault::SlowQuery { at: bad } if bad == index) && started {
            statement *= 1.0 + 60.0 * (minutes / 5.0).min(1.0);
            troubles.push(Trouble::SlowStatement);
        }
        condition.statement_seconds = statement;
        *seconds += statement - node.own_seconds * 0.7 * jitter;
        condition.volume_free = 0.42 - 0.03 * noise(self.seed, 55, (at / HOUR) as u64);
        if matches!(self.script.fault, Fault::VolumeFull { at: bad } if bad == index) && started {
            condition.volume_free = (condition.volume_free - 0.42 * minutes / 14.0).max(0.0);
            if condition.volume_free <= 0.005 {
                *errors += 0.6;
                troubles.push(Trouble::NoSpace);
            }
        }
        // What clients hold: their pools, what they leaked, what the dead left behind.
        let mut held: f64 = self.orphaned.iter().filter(|(db, _, _)| *db == index).map(|(_, held, _)| held).sum();
        for (client, _) in self.estate.callers(index) {
            let theirs = before.get(client).filter(|it| it.pool_to == Some(index));
            let pods = theirs.map_or(0.0, |it| it.pods as f64);
            held += theirs.map_or(0.0, |it| it.pool) * self.estate.nodes[client].pool * pods * 0.55;
        }
        if let Fault::ConfigLeak { at: bad } = self.script.fault
            && self.database_of(bad) == Some(index)
        {
            // A leaked connection is open at the server whatever the pool says.
            held += self.leaked.values().sum::<f64>() * 3.2;
        }
        held += 6.0 + rate * statement;
        condition.connections = (held / node.max_connections).min(1.0);
        if condition.connections > 0.93 {
            let refused = ((condition.connections - 0.93) / 0.07).min(1.0);
            *errors += 0.55 * refused;
            *seconds += 2.2 * refused;
            troubles.push(Trouble::ConnectionSlots);
        }
    }

    /// The physics of the fault have ended: nothing runs any more what causes it.
    pub fn is_cured(&self) -> bool {
        if !self.fault_begun {
            return false;
        }
        let pods = self.kube().all_pods();
        match &self.script.fault {
            Fault::TrafficPool { at, .. } => self.conditions[*at].pool < 0.95,
            Fault::TrafficCpu { at, .. } => self.conditions[*at].cpu < 0.95,
            Fault::SlowQuery { .. }
            | Fault::VolumeFull { .. }
            | Fault::CertificateExpired { .. }
            | Fault::HostLost { .. }
            | Fault::ExternalBroken { .. } => false,
            Fault::ConfigLeak { .. }
            | Fault::PoolTooSmall { .. }
            | Fault::WrongHost { .. }
            | Fault::BadImage { .. }
            | Fault::SlowImage { .. }
            | Fault::MemoryLimitLowered { .. }
            | Fault::Wedged { .. }
            | Fault::AgedLeak { .. } => !pods.iter().any(|pod| pod.phase != "Terminating" && self.is_faulty(pod)),
        }
    }
}

fn script(seed: u64, night: i64, estate: &Estate, fault: Fault, random: &mut Random) -> Script {
    let onset = match (seed, &fault) {
        (1, _) => night + 3 * MINUTE,
        // What grows slowly begins earlier, so that nights are of like length.
        (_, Fault::AgedLeak { .. }) => night - 12 * MINUTE,
        _ => night + (random.between(2.0, 12.0) * MINUTE as f64) as i64,
    };
    let mut innocents = vec![];
    if seed == 1 {
        let node = estate.find("recommendations").unwrap_or(0);
        innocents.push(Innocent { at: night + 10 * MINUTE, node, image: true });
        let search = estate.find("search").unwrap_or(0);
        innocents.push(Innocent { at: night - 100 * MINUTE, node: search, image: false });
    } else {
        let services: Vec<usize> =
            (0..estate.nodes.len()).filter(|at| estate.nodes[*at].role == Role::Service).collect();
        let culprit = estate.find(&fault.culprit(estate));
        for number in 0..1 + random.below(4) {
            let node = *random.pick(&services);
            let own = Some(node) == culprit;
            // Minutes before, minutes after, or hours before; on the culprit itself only hours before.
            let minutes = match (own, (number + random.below(3)) % 3) {
                (true, _) => -random.between(95.0, 160.0),
                (false, 0) => -random.between(2.0, 15.0),
                (false, 1) => random.between(1.0, 8.0),
                (false, _) => -random.between(60.0, 160.0),
            };
            if innocents.iter().any(|one: &Innocent| one.node == node) || (own && fault.changed().is_some()) {
                continue;
            }
            let at = onset + (minutes * MINUTE as f64) as i64;
            innocents.push(Innocent { at, node, image: random.chance(0.6) });
        }
    }
    Script { fault, onset, innocents }
}

fn base_config(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("cache.entry_ttl".to_owned(), "15m".to_owned()),
        ("db.pool.max".to_owned(), "40".to_owned()),
        ("upstream.host".to_owned(), "svc.internal".to_owned()),
        ("service.name".to_owned(), name.to_owned()),
    ])
}

fn build_cluster(seed: u64, night: i64, estate: &Estate) -> KubeState {
    let mut kube = KubeState::new(seed);
    let start = night - 8 * DAY;
    // Room for a rollout's surge and for the loss of one host.
    let asked: i64 = estate.nodes.iter().map(|node| node.replicas * node.cpu_millis / 2).sum();
    let wanted = asked as f64 * 1.4 / 1000.0 / (estate.hosts.len() as f64 - 1.0).max(1.0);
    let cpus = [8, 16, 32, 64].into_iter().find(|cpus| f64::from(*cpus) >= wanted).unwrap_or(96);
    for host in &estate.hosts {
        kube.add_node(host, cpus, start - 60 * DAY);
    }
    for (at, node) in estate.nodes.iter().enumerate() {
        if node.role == Role::External {
            continue;
        }
        let data = matches!(node.role, Role::Database | Role::Queue);
        let component = match node.role {
            Role::Gateway => "gateway",
            Role::Service => "service",
            Role::Worker => "worker",
            Role::Database => "database",
            Role::Queue => "queue",
            Role::External => "external",
        };
        let created = start - (20 + at as i64) * DAY;
        kube.add_deployment(
            &DeploymentSpec {
                namespace: node.namespace.clone(),
                name: node.name.clone(),
                labels: BTreeMap::from([("app.kubernetes.io/component".to_owned(), component.to_owned())]),
                replicas: node.replicas,
                image: if data {
                    "registry.example/postgres:15.6".into()
                } else {
                    format!("registry.example/{}:2.38.0", node.name)
                },
                env: vec![("LOG_LEVEL".into(), "info".into())],
                config_map: (!data).then(|| (format!("{}-config-5f7c", node.name), base_config(&node.name))),
                cpu_limit: format!("{}m", node.cpu_millis),
                mem_limit: format!("{}Mi", node.memory_mib),
                kind: if data { WorkloadKind::StatefulSet } else { WorkloadKind::Deployment },
                pvc: data.then(|| "100Gi".into()),
                change_cause: "first release".into(),
            },
            created,
        );
        if !data {
            let change = TemplateChange {
                image: Some(format!("registry.example/{}:2.39.0", node.name)),
                cause: format!("release {} 2.39.0", node.name),
                ..TemplateChange::default()
            };
            // Weeks old: a history to look at, and revisions to go back to.
            let _ = kube.roll_out(&node.namespace, &node.name, &change, start - (3 + at as i64 % 9) * DAY);
        }
    }
    kube
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
