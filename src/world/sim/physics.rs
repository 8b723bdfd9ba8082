//! The equations of one node in one tick.

use super::super::estate::Role;
use super::super::fault::{Kind, Short, Words};
use super::super::kubernetes::PodView;
use super::super::random::noise;
use super::{Condition, HOUR, HostCondition, MINUTE, Sim, Trouble};

/// A caller gives up after that many seconds.
const TIMEOUT: f64 = 2.5;

/// What a node is made of while its condition is worked out.
struct Now<'a> {
    at: i64,
    index: usize,
    rate: f64,
    /// Pods that are not on their way out.
    live: Vec<&'a PodView>,
    ready: Vec<&'a PodView>,
    serving: f64,
    errors: f64,
    seconds: f64,
    condition: Condition,
    troubles: &'a mut Vec<Trouble>,
}

impl Sim {
    /// Messages a second that come in for a worker.
    ///
    /// Batches at a steady pace, a little more at three in the morning.
    fn arrivals(&self, at: i64, index: usize) -> f64 {
        let base = self.estate.traffic * if at.rem_euclid(super::DAY) / HOUR == 3 { 0.42 } else { 0.3 };
        let flood = self.flood_of(at, index).map_or(1.0, |(factor, onset)| {
            1.0 + (factor - 1.0) * ((at - onset) as f64 / (4.0 * MINUTE as f64)).min(1.0)
        });
        base * flood
    }

    fn flood_of(&self, at: i64, worker: usize) -> Option<(f64, i64)> {
        self.script.faults.iter().filter(|it| it.is_active(at)).find_map(|fault| match fault.kind {
            Kind::Flood { factor } if self.estate.consumer_of(fault.at) == Some(worker) => Some((factor, fault.onset)),
            _ => None,
        })
    }

    fn is_flooded(&self, queue: usize) -> bool {
        self.script.faults.iter().any(|it| it.at == queue && matches!(it.kind, Kind::Flood { .. }))
    }

    /// Messages a second that a worker takes: what comes in, and of a backlog what it can.
    pub(super) fn taken(&self, at: i64, index: usize) -> f64 {
        let arrivals = self.arrivals(at, index);
        let queue = self.estate.nodes[index].calls.iter().map(|call| call.to).find(|to| self.is_flooded(*to));
        let Some(queue) = queue else { return arrivals };
        let bears = self.conditions[index].ready.max(1) as f64 * self.estate.nodes[index].capacity;
        (arrivals + (self.conditions[queue].backlog - 60.0).max(0.0) / 60.0).min(bears)
    }

    pub(super) fn remember_memory(&mut self, at: i64, step: i64, by_service: &[Vec<&PodView>]) {
        let minutes = step as f64 / MINUTE as f64;
        let mut alive: Vec<String> = vec![];
        for (index, pods) in by_service.iter().enumerate() {
            let node = self.estate.nodes[index].clone();
            for (number, pod) in pods.iter().enumerate() {
                alive.push(pod.name.clone());
                let faulty: Vec<usize> = (0..self.script.faults.len()).filter(|it| self.is_faulty(*it, pod)).collect();
                let busy = 0.03 * noise(self.seed ^ index as u64, number as u64, (at / MINUTE) as u64);
                let age = (at - pod.started_at).max(0) as f64 / MINUTE as f64;
                let warm = (age / 3.0).min(1.0);
                let mut fraction = node.memory_base * (0.55 + 0.45 * warm) + busy;
                let leak = self.memory.entry(pod.name.clone()).or_insert(0.0);
                if age < 0.3 {
                    *leak = 0.0;
                }
                for fault in faulty.into_iter().map(|it| &self.script.faults[it]) {
                    match &fault.kind {
                        Kind::Leak { memory, connections } => {
                            let uneven = match fault.carrier {
                                Some(_) => 0.9 + 0.2 * noise(self.seed, 77, number as u64),
                                None => 1.0,
                            };
                            *leak += memory * minutes * uneven;
                            if *connections > 0.0 {
                                let held = self.leaked.entry(pod.name.clone()).or_insert((index, 0.0));
                                held.1 = (held.1 + node.pool * connections * minutes).min(node.pool);
                            }
                        }
                        Kind::MemoryLimit { percent } => fraction *= 100.0 / *percent as f64,
                        _ => {}
                    }
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
            if let Some((index, held)) = self.leaked.remove(&name)
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
    pub(super) fn condition(
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
        let live: Vec<&PodView> = pods.iter().copied().filter(|pod| pod.phase != "Terminating").collect();
        let ready: Vec<&PodView> = live.iter().copied().filter(|pod| pod.ready).collect();
        let serving = (ready.len() as f64).max(0.25);
        let mut now = Now {
            at,
            index,
            rate,
            serving,
            errors: 0.0004 * jitter,
            seconds: 0.0,
            condition: Condition {
                rate,
                ready: ready.len(),
                pods: live.len(),
                probe_ok: true,
                waiting: live.iter().find_map(|pod| pod.reason.clone()),
                autoscaler: node.most_replicas.map(|most| (live.len() as i64, most)),
                ..Condition::default()
            },
            live,
            ready,
            troubles,
        };
        let share = |number: usize| self.share(number, &now.ready);
        let load = rate / (serving * self.capacity(index, &share));
        now.seconds = node.own_seconds * jitter * (1.0 + 2.2 * (load - 0.65).max(0.0));
        if load > 1.0 {
            now.errors += (1.0 - 1.0 / load) * 0.85;
            now.seconds += (load - 1.0).min(2.0) * 1.2;
            now.troubles.push(Trouble::QueueFull);
        }
        let lost = now.live.iter().filter(|pod| !pod.ready && self.on_lost_host(pod)).count();
        if lost > 0 {
            // Requests still routed to what no longer answers.
            let share = lost as f64 / now.live.len().max(1) as f64;
            now.errors += share * 0.5;
            now.seconds += share * 1.5;
        }
        self.memory_pressure(&mut now, pods);
        let mut wait = 0.0;
        for call in &node.calls {
            wait += self.call(&mut now, call.to, call.share, &done[call.to]);
        }
        now.seconds += wait;
        self.own_faults(&mut now);
        if node.role == Role::Database {
            self.database(&mut now, jitter, before);
        }
        if node.role == Role::Queue {
            now.condition.backlog = self.backlog(at, index, rate, jitter, before);
        }
        if self.script.certificate_ends(index).is_some_and(|end| at >= end) {
            now.condition.probe_ok = false;
            now.troubles.push(Trouble::TlsServer);
        }
        if now.ready.is_empty() && !pods.is_empty() {
            now.errors = 0.99;
            now.condition.probe_ok = false;
        }
        let mut condition = now.condition;
        condition.errors = now.errors.clamp(0.0, 0.99);
        condition.seconds = now.seconds.clamp(0.001, 12.0);
        // Little's law, against what the pods have.
        condition.threads = (condition.threads + rate * condition.seconds / (serving * node.threads)).min(1.0);
        let regressed = self.script.faults.iter().any(|it| it.at == index && matches!(it.kind, Kind::Slow { .. }));
        let work = if regressed {
            load
        } else {
            rate / (serving * node.capacity) * (node.capacity / self.capacity(index, &|_| 0.0))
        };
        condition.cpu = (0.06 + 0.62 * work + 0.02 * jitter).min(1.0);
        if self.is_greedy(at, index) {
            condition.cpu = 1.0;
        }
        condition
    }

    /// The share of the serving pods that carry the fault of that number.
    fn share(&self, number: usize, ready: &[&PodView]) -> f64 {
        let faulty = ready.iter().filter(|pod| self.is_faulty(number, pod)).count() as f64;
        faulty / (ready.len() as f64).max(1.0)
    }

    fn memory_pressure(&self, now: &mut Now<'_>, pods: &[&PodView]) {
        let node = &self.estate.nodes[now.index];
        for pod in pods {
            let fraction = self.memory.get(&format!("{}/fraction", pod.name)).copied().unwrap_or(node.memory_base);
            now.condition.pod_memory.insert(pod.name.clone(), fraction);
            // Close to its limit a process mostly collects garbage.
            if fraction > 0.88 && pod.ready {
                now.errors += 0.25 * (fraction - 0.88) / 0.12 / now.serving;
                now.seconds += 1.2 * (fraction - 0.88) / 0.12 / now.serving;
            }
            if self.crash.contains_key(&pod.name) {
                now.condition.out_of_memory = true;
                now.troubles.push(Trouble::OutOfMemory);
            }
        }
    }

    /// What faults do to the node that they sit in, and to its neighbours on a host.
    fn own_faults(&self, now: &mut Now<'_>) {
        let busy_hosts = self.busy_hosts(now.at, now.index);
        for (number, fault) in self.script.faults.iter().enumerate() {
            let share = if fault.at == now.index { self.share(number, &now.ready) } else { 0.0 };
            let active = fault.is_active(now.at);
            match &fault.kind {
                Kind::Exceptions { share: failing, words } if share > 0.0 && active => {
                    now.errors += failing * share;
                    now.troubles.push(match words {
                        Words::Code => Trouble::Exception,
                        Words::Configuration => Trouble::BadValue,
                        Words::Flag => Trouble::FlaggedCode,
                    });
                }
                Kind::Wedged { minutes } if share > 0.0 && active => {
                    let age = (now.at - fault.onset) as f64 / MINUTE as f64;
                    let stuck = (age / minutes).min(0.97) * share;
                    now.condition.threads += stuck;
                    if stuck > 0.7 {
                        now.errors += (stuck - 0.7) * 2.0;
                        now.seconds += (stuck - 0.7) * 6.0;
                        now.troubles.push(Trouble::ThreadsBusy);
                    }
                }
                Kind::PoisonMessage { share: work } if fault.at == now.index && active => {
                    now.errors += work;
                    now.troubles.push(Trouble::Poison);
                }
                Kind::CrashLoop if fault.at == now.index && active && now.condition.waiting.is_some() => {
                    now.troubles.push(Trouble::CannotStart);
                }
                Kind::NamesFail { .. } if fault.at == now.index && active => {
                    now.troubles.push(Trouble::NameServerBusy);
                }
                Kind::UnseenErrors { share: failing } if fault.at == now.index && active => now.errors += failing,
                Kind::UnseenSlowdown { seconds } if active && self.serves(now.index) => now.seconds += seconds,
                Kind::NoisyNeighbour { slowdown } if active && fault.at != now.index => {
                    now.seconds *= 1.0 + slowdown * self.share_on(&busy_hosts, &now.ready);
                }
                Kind::ClockSkew { .. } if active && self.serves(now.index) => {
                    let off = self.share_on(&[self.estate.hosts[fault.at].clone()], &now.ready);
                    if off > 0.0 {
                        now.errors += 0.5 * off;
                        now.troubles.push(Trouble::TokenFromFuture);
                    }
                }
                _ => {}
            }
        }
    }

    fn serves(&self, index: usize) -> bool {
        matches!(self.estate.nodes[index].role, Role::Gateway | Role::Service | Role::Worker)
    }

    fn is_greedy(&self, at: i64, index: usize) -> bool {
        let greedy = |kind: &Kind| matches!(kind, Kind::NoisyNeighbour { .. } | Kind::NamesFail { .. });
        self.script.faults.iter().any(|it| it.at == index && it.is_active(at) && greedy(&it.kind))
    }

    /// Hosts whose processors a greedy workload takes, seen by another one.
    fn busy_hosts(&self, at: i64, index: usize) -> Vec<String> {
        let greedy: Vec<&str> = (self.script.faults.iter())
            .filter(|it| it.at != index && it.is_active(at) && matches!(it.kind, Kind::NoisyNeighbour { .. }))
            .map(|it| self.estate.nodes[it.at].name.as_str())
            .collect();
        if greedy.is_empty() {
            return vec![];
        }
        let pods = self.kube().all_pods();
        let on = pods.into_iter().filter(|pod| pod.ready && greedy.contains(&pod.service.as_str()));
        let mut hosts: Vec<String> = on.map(|pod| pod.node).collect();
        hosts.dedup();
        hosts
    }

    fn share_on(&self, hosts: &[String], ready: &[&PodView]) -> f64 {
        ready.iter().filter(|pod| hosts.contains(&pod.node)).count() as f64 / (ready.len() as f64).max(1.0)
    }

    fn backlog(&self, at: i64, index: usize, rate: f64, jitter: f64, before: &[Condition]) -> f64 {
        let held = before.get(index).map_or(20.0, |it| it.backlog);
        let floor = 10.0 + 25.0 * jitter;
        if self.is_flooded(index)
            && let Some(worker) = self.estate.consumer_of(index)
        {
            let more = self.arrivals(at, worker) - before.get(worker).map_or(0.0, |it| it.rate);
            return (held + more * 15.0).clamp(floor, 200_000.0);
        }
        let stuck = self.estate.callers(index).filter(|(caller, _)| self.estate.nodes[*caller].role == Role::Worker);
        let failing = stuck.map(|(caller, _)| before.get(caller).map_or(0.0, |it| it.errors)).fold(0.0, f64::max);
        let held =
            (held + rate * 15.0 * (failing - 0.05).max(0.0)).min(80_000.0) * if failing < 0.05 { 0.7 } else { 1.0 };
        held.max(floor)
    }

    fn external(&self, at: i64, index: usize, rate: f64, jitter: f64) -> Condition {
        let node = &self.estate.nodes[index];
        let broken = self.script.faults.iter().find_map(|fault| match fault.kind {
            Kind::Outage { errors, seconds } if fault.at == index && fault.is_active(at) => Some((errors, seconds)),
            _ => None,
        });
        let (errors, seconds) = match broken {
            Some((errors, seconds)) => (errors, node.own_seconds * 12.0 + seconds),
            None => (0.002, node.own_seconds),
        };
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
        self.script.faults.iter().any(|it| it.kind == Kind::HostLost && self.estate.hosts[it.at] == pod.node)
    }

    /// Adds what a call costs its caller; the answer is the time it adds to each request.
    fn call(&self, now: &mut Now<'_>, to: usize, share: f64, callee: &Condition) -> f64 {
        let (at, index) = (now.at, now.index);
        let mut failing = callee.errors;
        let mut took = callee.seconds.min(TIMEOUT);
        if callee.seconds > TIMEOUT {
            failing = failing.max((callee.seconds - TIMEOUT) / 3.0).min(0.95);
        }
        if self.script.certificate_ends(to).is_some_and(|end| at >= end) {
            failing = 0.96;
            took = 0.02;
            now.troubles.push(Trouble::TlsCaller(to));
        }
        for (number, fault) in self.script.faults.iter().enumerate() {
            let wrong = matches!(fault.kind, Kind::WrongHost { callee } if callee == to) && fault.at == index;
            let faulty = if wrong { self.share(number, &now.ready) } else { 0.0 };
            if faulty > 0.0 {
                now.errors += 0.9 * faulty * share.min(1.0);
                now.troubles.push(Trouble::NoSuchHost);
                return 0.01;
            }
        }
        let (lost, more) = self.script.way(at, index, to);
        if lost > 0.0 || more > 0.0 {
            failing += lost * (1.0 - failing);
            took = (took + more).min(TIMEOUT);
            now.troubles.push(match self.names_fail(at) {
                true => Trouble::NameLookup(to),
                false => Trouble::ConnectionReset(to),
            });
        }
        if self.estate.nodes[to].role == Role::Database {
            self.pool(now, to, share, callee, &mut failing, &mut took);
        }
        if failing > 0.05 {
            now.troubles.push(Trouble::CalleeFails(to));
        } else if took > 1.0 {
            now.troubles.push(Trouble::CalleeSlow(to));
        }
        now.errors += failing * share.min(1.0) * 0.85;
        took * share.min(1.5)
    }

    fn names_fail(&self, at: i64) -> bool {
        self.script.faults.iter().any(|it| it.is_active(at) && matches!(it.kind, Kind::NamesFail { .. }))
    }

    /// Connections of the caller's pool, and what it costs when there are none.
    fn pool(&self, now: &mut Now<'_>, to: usize, share: f64, callee: &Condition, failing: &mut f64, took: &mut f64) {
        let (index, serving) = (now.index, now.serving);
        let node = &self.estate.nodes[index];
        let leaked: f64 = self
            .leaked
            .iter()
            .filter(|(name, _)| now.condition.pod_memory.contains_key(*name))
            .map(|(_, (_, held))| held)
            .sum::<f64>()
            / serving;
        let busy = now.condition.rate * share / serving * (callee.seconds + 0.004);
        let mut size = node.pool;
        let mut demand = busy * 1.2 + 0.08 * node.pool;
        for (number, fault) in self.script.faults.iter().enumerate().filter(|(_, fault)| fault.at == index) {
            match fault.kind {
                Kind::SmallPool { size: left } => {
                    let faulty = self.share(number, &now.ready);
                    size = node.pool * (1.0 - faulty) + left * faulty;
                    // Pools are sized by the night's own measure: connections are held for a whole request.
                    demand = busy * 4.5 + 0.6;
                }
                // Enough for the busiest usual hour, and half as much again.
                Kind::Surge { short: Short::Pool, .. } => {
                    let mean = self.mean_rates[index] * share / node.replicas.max(1) as f64;
                    size = mean * (self.estate.nodes[to].own_seconds + 0.004) * 2.1 * 4.5 + 0.02;
                    demand = busy * 4.5 + 0.6;
                }
                _ => {}
            }
        }
        let used = (demand + leaked) / size;
        now.condition.pool = used.min(1.0);
        now.condition.pool_to = Some(to);
        if used > 1.0 {
            let waiting = (used - 1.0).min(1.0);
            *failing = (*failing + 0.25 + 0.5 * waiting).min(0.95);
            *took += 0.8 + 1.6 * waiting;
            now.troubles.push(Trouble::PoolTimeout(to));
        }
    }

    fn database(&self, now: &mut Now<'_>, jitter: f64, before: &[Condition]) {
        let (at, index) = (now.at, now.index);
        let node = &self.estate.nodes[index];
        let usual = node.own_seconds * 0.7 * jitter;
        let mut statement = usual;
        now.condition.volume_free = 0.42 - 0.03 * noise(self.seed, 55, (at / HOUR) as u64);
        for fault in self.script.faults.iter().filter(|fault| fault.at == index && fault.is_active(at)) {
            let minutes = ((at - fault.onset) as f64 / MINUTE as f64).max(0.0);
            match fault.kind {
                Kind::SlowStatement { factor } => {
                    statement *= 1.0 + factor * (minutes / 5.0).min(1.0);
                    now.troubles.push(Trouble::SlowStatement);
                }
                Kind::VolumeFills { minutes: whole } => {
                    now.condition.volume_free = (now.condition.volume_free - 0.42 * minutes / whole).max(0.0);
                    if now.condition.volume_free <= 0.005 {
                        now.errors += 0.6;
                        now.troubles.push(Trouble::NoSpace);
                    }
                }
                Kind::ReplicaLag { per_minute } => {
                    now.condition.behind = per_minute * minutes;
                    // Readers refuse what is older than they may use.
                    now.errors += 0.4 * (now.condition.behind / 120.0).min(1.0);
                    now.troubles.push(Trouble::ReplicaBehind);
                }
                _ => {}
            }
        }
        now.condition.statement_seconds = statement;
        now.seconds += statement - usual;
        // What clients hold: their pools, what they leaked, what the dead left behind.
        let mut held: f64 = self.orphaned.iter().filter(|(db, _, _)| *db == index).map(|(_, held, _)| held).sum();
        for (client, _) in self.estate.callers(index) {
            let theirs = before.get(client).filter(|it| it.pool_to == Some(index));
            let pods = theirs.map_or(0.0, |it| it.pods as f64);
            held += theirs.map_or(0.0, |it| it.pool) * self.estate.nodes[client].pool * pods * 0.55;
        }
        // A leaked connection is open at the server whatever the pool says.
        let leaked = self.leaked.values().filter(|(client, _)| self.database_of(*client) == Some(index));
        held += leaked.map(|(_, held)| held).sum::<f64>() * 3.2;
        held += 6.0 + now.rate * statement;
        now.condition.connections = (held / node.max_connections).min(1.0);
        if now.condition.connections > 0.93 {
            let refused = ((now.condition.connections - 0.93) / 0.07).min(1.0);
            now.errors += 0.55 * refused;
            now.seconds += 2.2 * refused;
            now.troubles.push(Trouble::ConnectionSlots);
        }
    }

    /// How busy each host is with what runs on it, and what its clock says.
    pub(super) fn host_conditions(&self, at: i64, pods: &[PodView]) -> Vec<HostCondition> {
        let mut hosts = vec![HostCondition { busy: 0.06, clock_offset: 0.0 }; self.estate.hosts.len()];
        for (host, condition) in hosts.iter_mut().enumerate() {
            condition.clock_offset = 0.002 * noise(self.seed, 300 + host as u64, (at / MINUTE) as u64);
        }
        for pod in pods.iter().filter(|pod| pod.ready) {
            let Some(host) = self.estate.hosts.iter().position(|name| *name == pod.node) else { continue };
            let Some(index) = self.estate.find(&pod.service) else { continue };
            let cpus = self.estate.nodes[index].cpu_millis as f64 / 1000.0;
            hosts[host].busy += self.conditions[index].cpu * cpus / self.cores;
            if self.is_noisy(at, index) {
                // It was given no limit that would hold it.
                hosts[host].busy = 0.97;
            }
        }
        for fault in self.script.faults.iter().filter(|fault| fault.is_active(at)) {
            if let Kind::ClockSkew { seconds } = fault.kind {
                hosts[fault.at].clock_offset += seconds;
            }
        }
        for host in &mut hosts {
            host.busy = host.busy.min(0.99);
        }
        hosts
    }

    fn is_noisy(&self, at: i64, index: usize) -> bool {
        let noisy = |kind: &Kind| matches!(kind, Kind::NoisyNeighbour { .. });
        self.script.faults.iter().any(|it| it.at == index && it.is_active(at) && noisy(&it.kind))
    }
}
