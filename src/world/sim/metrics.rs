//! Conditions to samples, under the names that real exporters use.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::estate::{Estate, Role};
use super::super::kubernetes::{DeploymentView, KubeState, PodView};
use super::super::promql::{SeriesId, SeriesStore};
use super::{Condition, HostCondition, MINUTE, Script};

/// What there is to be scraped in one tick.
pub struct Scene<'a> {
    pub estate: &'a Estate,
    pub script: &'a Script,
    pub conditions: &'a [Condition],
    pub hosts: &'a [HostCondition],
    /// Processors of a host.
    pub cores: f64,
}

/// Counters live here; the store keeps what was scraped.
pub struct Recorder {
    /// By a hash of metric, object and variant: millions of samples are written, and names are long.
    series: HashMap<u64, (SeriesId, f64), BuildHasherDefault<Identity>>,
    edges: HashMap<(usize, usize, &'static str), (SeriesId, f64)>,
    deployments: Vec<DeploymentView>,
    night: i64,
    seen_at: i64,
}

/// The keys are hashes already.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv(self.0, bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What hardly changes is scraped into the quiet days at this pace, well inside the lookback.
const SLOW: i64 = 4 * MINUTE;

impl Recorder {
    pub fn new(night: i64) -> Self {
        Self { series: HashMap::default(), edges: HashMap::new(), deployments: vec![], night, seen_at: 0 }
    }

    /// One scrape of everything.
    pub fn record(
        &mut self,
        at: i64,
        step: i64,
        scene: &Scene<'_>,
        pods: &[PodView],
        kube: &KubeState,
        store: &mut SeriesStore,
    ) {
        let seconds = step as f64 / 1000.0;
        let slow = step < MINUTE || at.rem_euclid(SLOW) == 0;
        let Scene { estate, conditions, .. } = scene;
        for pod in pods {
            let Some(index) = estate.find(&pod.service) else { continue };
            self.pod(at, seconds, slow, estate, index, &conditions[index], pod, store);
        }
        for index in 0..estate.nodes.len() {
            self.service(at, slow, scene, index, store);
        }
        self.graph(at, seconds, scene, store);
        self.hosts(at, seconds, scene, store);
        for gauge in &scene.script.gauges {
            let labels: Vec<(&str, &str)> =
                gauge.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let id = store.series(&gauge.name, &labels);
            store.push(id, at, gauge.value(at));
        }
        if slow {
            self.cluster(at, estate, kube, store);
        }
    }

    fn hosts(&mut self, at: i64, seconds: f64, scene: &Scene<'_>, store: &mut SeriesStore) {
        for (host, condition) in scene.estate.hosts.iter().zip(scene.hosts) {
            let share =
                [("idle", 1.0 - condition.busy), ("user", condition.busy * 0.8), ("system", condition.busy * 0.2)];
            for (mode, share) in share {
                let labels = [("node", host.as_str()), ("mode", mode)];
                let by = share * scene.cores * seconds;
                self.count(store, "node_cpu_seconds_total", host, mode, &labels, at, by);
            }
            let labels = [("node", host.as_str())];
            self.gauge(store, "node_timex_offset_seconds", host, "", &labels, at, condition.clock_offset);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn gauge(
        &mut self,
        store: &mut SeriesStore,
        name: &'static str,
        key: &str,
        extra: &'static str,
        labels: &[(&str, &str)],
        at: i64,
        value: f64,
    ) {
        let id = self.entry(store, name, key, extra, labels).0;
        store.push(id, at, value);
    }

    #[allow(clippy::too_many_arguments)]
    fn count(
        &mut self,
        store: &mut SeriesStore,
        name: &'static str,
        key: &str,
        extra: &'static str,
        labels: &[(&str, &str)],
        at: i64,
        by: f64,
    ) {
        let entry = self.entry(store, name, key, extra, labels);
        entry.1 += by.max(0.0);
        let (id, total) = *entry;
        store.push(id, at, total);
    }

    fn entry(
        &mut self,
        store: &mut SeriesStore,
        name: &'static str,
        key: &str,
        extra: &'static str,
        labels: &[(&str, &str)],
    ) -> &mut (SeriesId, f64) {
        let hash = fnv(fnv(fnv(0, name.as_bytes()), extra.as_bytes()), key.as_bytes());
        self.series.entry(hash).or_insert_with(|| (store.series(name, labels), 0.0))
    }

    #[allow(clippy::too_many_arguments)]
    fn pod(
        &mut self,
        at: i64,
        seconds: f64,
        slow: bool,
        estate: &Estate,
        index: usize,
        condition: &Condition,
        pod: &PodView,
        store: &mut SeriesStore,
    ) {
        let node = &estate.nodes[index];
        let (namespace, service, name) = (pod.namespace.as_str(), pod.service.as_str(), pod.name.as_str());
        let base = [("namespace", namespace), ("service", service), ("pod", name)];
        let container = [("namespace", namespace), ("service", service), ("pod", name), ("container", service)];
        let shared = condition.ready.max(1) as f64;
        let serving = pod.ready && pod.phase != "Terminating";
        let rate = if serving { condition.rate / shared } else { 0.0 };
        let http = matches!(node.role, Role::Gateway | Role::Service | Role::Worker);
        if http {
            for (code, share) in [("200", 1.0 - condition.errors), ("503", condition.errors)] {
                let labels = [base[0], base[1], base[2], ("code", code)];
                self.count(store, "http_requests_total", name, code, &labels, at, rate * share * seconds);
            }
            if serving {
                let fast = condition.seconds * 0.55;
                let p99 = condition.seconds * 2.1;
                let labels = [base[0], base[1], base[2], ("quantile", "0.99")];
                self.gauge(store, "http_request_duration_seconds", name, "0.99", &labels, at, p99);
                if slow {
                    let labels = [base[0], base[1], base[2], ("quantile", "0.5")];
                    self.gauge(store, "http_request_duration_seconds", name, "0.5", &labels, at, fast);
                }
                self.gauge(store, "process_threads_busy", name, "", &base, at, condition.threads * node.threads);
                if let Some(db) = condition.pool_to {
                    let labels = [base[0], base[1], base[2], ("pool", estate.nodes[db].name.as_str())];
                    // What the planner gave, unless somebody has configured another size.
                    let usual = super::build::base_config(&node.name).remove("db.pool.max");
                    let set = pod.config.get("db.pool.max").filter(|value| Some(*value) != usual.as_ref());
                    let max = set.and_then(|value| value.parse().ok()).unwrap_or(node.pool);
                    self.gauge(store, "db_client_connections_usage", name, "", &labels, at, condition.pool * max);
                    self.gauge(store, "db_client_connections_max", name, "", &labels, at, max);
                }
            }
        }
        let limit = millicores(&pod.cpu_limit);
        let cpu = if serving { condition.cpu * limit } else { 0.01 };
        self.count(store, "container_cpu_usage_seconds_total", name, "", &container, at, cpu * seconds);
        let memory_limit = mebibytes(&pod.mem_limit);
        if let Some(fraction) = condition.pod_memory.get(name)
            && pod.phase != "Pending"
        {
            self.gauge(store, "container_memory_working_set_bytes", name, "", &container, at, fraction * memory_limit);
        }
        if slow {
            if http {
                self.gauge(store, "process_threads_max", name, "", &base, at, node.threads);
            }
            let memory = [container[0], container[1], container[2], container[3], ("resource", "memory")];
            let cpus = [container[0], container[1], container[2], container[3], ("resource", "cpu")];
            self.gauge(store, "kube_pod_container_resource_limits", name, "memory", &memory, at, memory_limit);
            self.gauge(store, "kube_pod_container_resource_limits", name, "cpu", &cpus, at, limit);
            self.gauge(
                store,
                "kube_pod_container_status_restarts_total",
                name,
                "",
                &container,
                at,
                pod.restarts as f64,
            );
            if let Some(reason) = &pod.reason {
                let waits = [container[0], container[1], container[2], container[3], ("reason", reason.as_str())];
                let id = store.series("kube_pod_container_status_waiting_reason", &waits);
                store.push(id, at, 1.0);
            }
            let ready = [base[0], base[1], base[2], ("condition", "true")];
            self.gauge(store, "kube_pod_status_ready", name, "", &ready, at, f64::from(u8::from(pod.ready)));
        }
    }

    fn service(&mut self, at: i64, slow: bool, scene: &Scene<'_>, index: usize, store: &mut SeriesStore) {
        let (node, condition) = (&scene.estate.nodes[index], &scene.conditions[index]);
        let name = node.name.as_str();
        let base = [("namespace", node.namespace.as_str()), ("service", name)];
        if let Some((wanted, most)) = condition.autoscaler {
            let scaler = [base[0], base[1], ("horizontalpodautoscaler", name)];
            let (current, limit) = (
                "kube_horizontalpodautoscaler_status_current_replicas",
                "kube_horizontalpodautoscaler_spec_max_replicas",
            );
            self.gauge(store, current, name, "", &scaler, at, wanted as f64);
            self.gauge(store, limit, name, "", &scaler, at, most as f64);
        }
        if node.replica_of.is_some() {
            self.gauge(store, "pg_replication_lag_seconds", name, "", &base, at, condition.behind);
        }
        match node.role {
            Role::Database => {
                self.gauge(
                    store,
                    "pg_stat_activity_count",
                    name,
                    "",
                    &base,
                    at,
                    condition.connections * node.max_connections,
                );
                self.gauge(store, "pg_settings_max_connections", name, "", &base, at, node.max_connections);
                let statement = [base[0], base[1], ("queryid", "-4417023385131")];
                self.gauge(
                    store,
                    "pg_stat_statements_mean_exec_time_seconds",
                    name,
                    "",
                    &statement,
                    at,
                    condition.statement_seconds,
                );
                if slow {
                    let claim = format!("data-{name}-0");
                    let labels = [base[0], base[1], ("persistentvolumeclaim", claim.as_str())];
                    let size = 107_374_182_400.0;
                    self.gauge(store, "kubelet_volume_stats_capacity_bytes", name, "", &labels, at, size);
                    self.gauge(
                        store,
                        "kubelet_volume_stats_available_bytes",
                        name,
                        "",
                        &labels,
                        at,
                        size * condition.volume_free,
                    );
                }
            }
            Role::Queue => self.gauge(store, "queue_messages_ready", name, "", &base, at, condition.backlog),
            Role::Gateway | Role::Service | Role::Worker => {
                if slow {
                    self.gauge(store, "probe_success", name, "", &base, at, f64::from(u8::from(condition.probe_ok)));
                    let usual = self.night + (40 + index as i64) * 86_400_000;
                    let expires = scene.script.certificate_ends(index).unwrap_or(usual);
                    self.gauge(store, "probe_ssl_earliest_cert_expiry", name, "", &base, at, expires as f64 / 1000.0);
                }
            }
            Role::NameServer | Role::External => {}
        }
    }

    fn graph(&mut self, at: i64, seconds: f64, scene: &Scene<'_>, store: &mut SeriesStore) {
        let Scene { estate, conditions, .. } = scene;
        for (from, node) in estate.nodes.iter().enumerate() {
            for call in &node.calls {
                let callee = &conditions[call.to];
                let requests = conditions[from].rate * call.share * seconds;
                let tls = scene.script.certificate_ends(call.to).is_some_and(|end| at >= end);
                let timed_out = ((callee.seconds - 2.5) / 3.0).clamp(0.0, 0.95);
                let failing = if tls { 0.96 } else { callee.errors.max(timed_out) };
                let took = if tls { 0.02 } else { callee.seconds.min(2.5) };
                let (lost, more) = scene.script.way(at, from, call.to);
                let (failing, took) = (failing + lost * (1.0 - failing), (took + more).min(2.5));
                for (name, by) in [
                    ("traces_service_graph_request_total", requests),
                    ("traces_service_graph_request_failed_total", requests * failing),
                    ("traces_service_graph_request_server_seconds_sum", requests * took),
                    ("traces_service_graph_request_server_seconds_count", requests),
                ] {
                    let entry = self.edges.entry((from, call.to, name)).or_insert_with(|| {
                        let labels = [("client", node.name.as_str()), ("server", estate.nodes[call.to].name.as_str())];
                        (store.series(name, &labels), 0.0)
                    });
                    entry.1 += by;
                    store.push(entry.0, at, entry.1);
                }
            }
        }
    }

    fn cluster(&mut self, at: i64, estate: &Estate, kube: &KubeState, store: &mut SeriesStore) {
        // Nothing is rolled out on the quiet days; in the night every look counts.
        if at >= self.night - 10 * MINUTE || at - self.seen_at >= 240 * MINUTE {
            self.deployments = kube.deployments();
            self.seen_at = at;
        }
        for view in self.deployments.clone() {
            let labels = [
                ("namespace", view.namespace.as_str()),
                ("deployment", view.name.as_str()),
                ("service", view.name.as_str()),
            ];
            self.gauge(store, "kube_deployment_spec_replicas", &view.name, "", &labels, at, view.replicas as f64);
            self.gauge(
                store,
                "kube_deployment_status_replicas_available",
                &view.name,
                "",
                &labels,
                at,
                view.available as f64,
            );
        }
        for host in &estate.hosts {
            let ready = kube.is_node_ready(host);
            let labels = [("node", host.as_str()), ("condition", "Ready"), ("status", "true")];
            self.gauge(store, "kube_node_status_condition", host, "", &labels, at, f64::from(u8::from(ready)));
            let disk = [("node", host.as_str()), ("mountpoint", "/")];
            let size = 214_748_364_800.0;
            self.gauge(store, "node_filesystem_size_bytes", host, "", &disk, at, size);
            self.gauge(store, "node_filesystem_avail_bytes", host, "", &disk, at, size * 0.55);
        }
    }
}

fn millicores(text: &str) -> f64 {
    text.strip_suffix('m').map_or_else(|| text.parse().unwrap_or(1.0), |milli| milli.parse().unwrap_or(1000.0) / 1000.0)
}

fn mebibytes(text: &str) -> f64 {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    number("Mi")
        .map(|mi| mi * 1_048_576.0)
        .or_else(|| number("Gi").map(|gi| gi * 1_073_741_824.0))
        .unwrap_or(536_870_912.0)
}
