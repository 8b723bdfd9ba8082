//! The scheduler and the kubelets: where pods run, and how their containers start, fail, back off and end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::build::quantity;
use super::events::Happening;
use super::kinds::{CONFIG_MAPS, NODES, PODS};
use super::{KubeState, Name, PodHealth, PodView, set, stamp, strings, text};

const CREATE_MILLIS: i64 = 2_000;
const END_MILLIS: i64 = 5_000;
const EVICT_MILLIS: i64 = 300_000;
const PROBE_MILLIS: i64 = 10_000;
const STABLE_MILLIS: i64 = 600_000;

/// Where a pod's container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Unscheduled,
    Creating { since: i64 },
    PullFailing { since: i64 },
    Running { since: i64 },
    Backoff { until: i64 },
}

/// What the cluster knows of a pod beyond its object.
#[derive(Debug, Clone)]
pub(super) struct PodRun {
    pub owner: String,
    pub owner_kind: &'static str,
    pub node: String,
    pub created: i64,
    pub stage: Stage,
    pub restarts: i64,
    pub crashes: u32,
    /// Reason, exit code, start and end of the container before this one.
    pub last: Option<(String, i64, i64, i64)>,
    pub ready: bool,
    /// Since when `ready` is as it is.
    pub ready_since: i64,
    pub deleting: Option<i64>,
    /// When the last repeating event was written.
    pub told: i64,
    pub warmup: i64,
    pub config: BTreeMap<String, String>,
}

impl PodRun {
    fn set_ready(&mut self, ready: bool, now: i64) {
        if self.ready != ready {
            (self.ready, self.ready_since) = (ready, now);
        }
    }

    /// Runs, has been ready long enough to count as available, and is wanted.
    pub fn is_settled(&self, now: i64) -> bool {
        self.deleting.is_none()
            && self.ready
            && matches!(self.stage, Stage::Running { .. })
            && now - self.ready_since > 25_000
    }

    /// The reason the container waits, if it does.
    pub fn waiting(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Creating { .. } => Some("ContainerCreating"),
            Stage::PullFailing { since } if self.told <= since => Some("ErrImagePull"),
            Stage::PullFailing { .. } => Some("ImagePullBackOff"),
            Stage::Backoff { .. } => Some("CrashLoopBackOff"),
            Stage::Unscheduled | Stage::Running { .. } => None,
        }
    }
}

impl KubeState {
    pub(super) fn run_pods(&mut self, now: i64, readiness: &mut dyn FnMut(&PodView) -> PodHealth) {
        let keys: Vec<Name> = self.runs.keys().cloned().collect();
        for key in keys {
            let steady =
                self.runs.get(&key).is_some_and(|run| run.is_settled(now) && !self.nodes_down.contains_key(&run.node));
            // Building a view costs far more than asking; most pods run undisturbed.
            if steady && self.disturbed.as_ref().is_some_and(|names| !names.contains(&key.1)) {
                continue;
            }
            let Some(view) = self.view(&key) else { continue };
            if steady && readiness(&view) == PodHealth::Ready {
                continue;
            }
            let Some(mut run) = self.runs.remove(&key) else { continue };
            let Some(pod) = self.get(PODS, &key.0, &key.1).cloned() else { continue };
            let down = self.nodes_down.get(&run.node).copied();
            if let Some(since) = run.deleting {
                // A kubelet that does not answer cannot confirm the end of a pod.
                if down.is_none() && now - since >= END_MILLIS {
                    self.remove(PODS, &key.0, &key.1);
                } else {
                    self.runs.insert(key, run);
                }
                continue;
            }
            if let Some(since) = down {
                run.set_ready(false, now);
                let evict = now - since >= EVICT_MILLIS;
                self.keep(&key, pod, run, now);
                if evict {
                    self.end_pod(&key, "TaintManagerEviction", now);
                }
                continue;
            }
            self.advance(&pod, &mut run, &view, now, readiness);
            self.keep(&key, pod, run, now);
        }
    }

    /// Stores the pod's object as its run now has it.
    pub(super) fn keep(&mut self, key: &Name, mut pod: Value, run: PodRun, now: i64) {
        render(&mut pod, &run, self.nodes_down.contains_key(&run.node));
        self.put(PODS, pod, now);
        self.runs.insert(key.clone(), run);
    }

    fn advance(
        &mut self,
        pod: &Value,
        run: &mut PodRun,
        view: &PodView,
        now: i64,
        readiness: &mut dyn FnMut(&PodView) -> PodHealth,
    ) {
        match run.stage {
            Stage::Unscheduled => self.schedule(pod, run, now),
            Stage::Creating { since } if now - since < CREATE_MILLIS => {}
            Stage::Creating { .. } | Stage::PullFailing { .. } => {
                if readiness(view) == PodHealth::ImagePull {
                    self.fail_pull(pod, run, now);
                } else {
                    self.start(pod, run, now);
                }
            }
            Stage::Backoff { until } if now >= until => {
                run.restarts += 1;
                self.start(pod, run, now);
            }
            Stage::Backoff { .. } => {
                if now - run.told >= PROBE_MILLIS {
                    run.told = now;
                    let message =
                        format!("Back-off restarting failed container {} in pod {}", container(pod), view.name);
                    self.pod_event(pod, run, true, "BackOff", message, now);
                }
            }
            Stage::Running { since } => match readiness(view) {
                PodHealth::Ready | PodHealth::ImagePull => run.set_ready(now - since >= run.warmup, now),
                PodHealth::NotReady(reason) => {
                    run.set_ready(false, now);
                    if now - since >= PROBE_MILLIS && now - run.told >= PROBE_MILLIS {
                        run.told = now;
                        self.pod_event(pod, run, true, "Unhealthy", format!("Readiness probe failed: {reason}"), now);
                    }
                }
                PodHealth::Crash { reason, exit } if now > since => self.crash(pod, run, (reason, exit, since, now)),
                PodHealth::Crash { .. } => run.set_ready(false, now),
            },
        }
    }

    pub(super) fn schedule(&mut self, pod: &Value, run: &mut PodRun, now: i64) {
        let asks =
            |pod: &Value, what: &str| quantity(text(pod, &format!("/spec/containers/0/resources/requests/{what}")));
        let mut best: Option<(usize, String)> = None;
        let (mut nodes, mut unready, mut cpu_short, mut memory_short) = (0, 0, 0, 0);
        for node in self.list(NODES) {
            nodes += 1;
            let name = text(node, "/metadata/name");
            let cordoned = node.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
            if self.nodes_down.contains_key(name) || cordoned {
                unready += 1;
                continue;
            }
            let here: Vec<&Value> = self.list(PODS).filter(|it| text(it, "/spec/nodeName") == name).collect();
            let free = |what: &str| {
                let used: f64 = here.iter().map(|it| asks(it, what)).sum();
                quantity(text(node, &format!("/status/allocatable/{what}"))) - used
            };
            if asks(pod, "cpu") > free("cpu") {
                cpu_short += 1;
            } else if asks(pod, "memory") > free("memory") {
                memory_short += 1;
            } else if best.as_ref().is_none_or(|(count, _)| here.len() < *count) {
                best = Some((here.len(), name.to_owned()));
            }
        }
        if let Some((_, node)) = best {
            run.node = node;
            run.stage = Stage::Creating { since: now };
            let message = format!(
                "Successfully assigned {}/{} to {}",
                text(pod, "/metadata/namespace"),
                text(pod, "/metadata/name"),
                run.node
            );
            let (reason, component) = ("Scheduled", "default-scheduler");
            self.event(Happening { object: pod, warning: false, reason, message, component, host: "" }, now);
        } else if now - run.told >= 60_000 || run.told == 0 {
            run.told = now;
            let mut message = format!("0/{nodes} nodes are available:");
            for (count, what) in [
                (unready, "node(s) had untolerated taint {node.kubernetes.io/unreachable: }"),
                (cpu_short, "Insufficient cpu"),
                (memory_short, "Insufficient memory"),
            ] {
                if count > 0 {
                    message.push_str(&format!(" {count} {what},"));
                }
            }
            let message = format!("{}.", message.trim_end_matches([',', ':']));
            let (reason, component) = ("FailedScheduling", "default-scheduler");
            self.event(Happening { object: pod, warning: true, reason, message, component, host: "" }, now);
        }
    }

    fn start(&mut self, pod: &Value, run: &mut PodRun, now: i64) {
        run.stage = Stage::Running { since: now };
        run.told = 0;
        let config = text(pod, "/spec/containers/0/envFrom/0/configMapRef/name");
        let config = self.get(CONFIG_MAPS, text(pod, "/metadata/namespace"), config);
        run.config = strings(config.and_then(|it| it.get("data")));
        let image = text(pod, "/spec/containers/0/image");
        let pulled = format!("Container image \"{image}\" already present on machine");
        self.pod_event(pod, run, false, "Pulled", pulled, now);
        self.pod_event(pod, run, false, "Created", format!("Created container: {}", container(pod)), now);
        self.pod_event(pod, run, false, "Started", format!("Started container {}", container(pod)), now);
    }

    fn fail_pull(&mut self, pod: &Value, run: &mut PodRun, now: i64) {
        let image = text(pod, "/spec/containers/0/image").to_owned();
        if let Stage::PullFailing { .. } = run.stage {
            if now - run.told >= PROBE_MILLIS {
                run.told = now;
                self.pod_event(pod, run, false, "BackOff", format!("Back-off pulling image \"{image}\""), now);
                self.pod_event(pod, run, true, "Failed", "Error: ImagePullBackOff".into(), now);
            }
            return;
        }
        run.stage = Stage::PullFailing { since: now };
        run.told = now;
        self.pod_event(pod, run, false, "Pulling", format!("Pulling image \"{image}\""), now);
        let message = format!(
            "Failed to pull image \"{image}\": rpc error: code = NotFound desc = failed to pull and unpack image \
             \"{image}\": failed to resolve reference \"{image}\": not found"
        );
        self.pod_event(pod, run, true, "Failed", message, now);
        self.pod_event(pod, run, true, "Failed", "Error: ErrImagePull".into(), now);
    }

    fn crash(&mut self, pod: &Value, run: &mut PodRun, end: (String, i64, i64, i64)) {
        let (reason, _, since, now) = (end.0.clone(), end.1, end.2, end.3);
        run.set_ready(false, now);
        run.last = Some(end);
        if reason == "OOMKilled"
            && let Some(node) = self.get(NODES, "", &run.node).cloned()
        {
            let process = 10_000 + self.next() % 20_000;
            let message = format!(
                "Memory cgroup out of memory: Killed process {process} ({}) in pod {}/{}",
                container(pod),
                text(pod, "/metadata/namespace"),
                text(pod, "/metadata/name")
            );
            let (reason, component) = ("OOMKilling", "kernel-monitor");
            self.event(Happening { object: &node, warning: true, reason, message, component, host: &run.node }, now);
        }
        run.crashes = if now - since >= STABLE_MILLIS { 1 } else { run.crashes + 1 };
        if run.crashes == 1 {
            run.restarts += 1;
            self.start(pod, run, now);
            return;
        }
        // 10 s, doubled at each crash, at most five minutes.
        let delay = 10_000_i64.saturating_mul(1 << (run.crashes - 2).min(5)).min(300_000);
        run.stage = Stage::Backoff { until: now + delay };
        run.told = now;
        let message =
            format!("Back-off restarting failed container {} in pod {}", container(pod), text(pod, "/metadata/name"));
        self.pod_event(pod, run, true, "BackOff", message, now);
    }

    fn pod_event(&mut self, pod: &Value, run: &PodRun, warning: bool, reason: &str, message: String, now: i64) {
        self.event(Happening { object: pod, warning, reason, message, component: "kubelet", host: &run.node }, now);
    }

    /// Begins a pod's graceful end.
    pub(super) fn end_pod(&mut self, key: &Name, reason: &str, now: i64) -> Option<Value> {
        let mut run = self.runs.get(key)?.clone();
        let mut pod = self.get(PODS, &key.0, &key.1)?.clone();
        if run.deleting.is_some() {
            return Some(pod);
        }
        run.deleting = Some(now);
        run.set_ready(false, now);
        let down = self.nodes_down.contains_key(&run.node);
        if reason == "TaintManagerEviction" {
            let message = format!("Marking for deletion Pod {}/{}", key.0, key.1);
            let component = "taint-eviction-controller";
            self.event(Happening { object: &pod, warning: false, reason, message, component, host: "" }, now);
        } else if !down && matches!(run.stage, Stage::Running { .. }) {
            self.pod_event(&pod, &run, false, "Killing", format!("Stopping container {}", container(&pod)), now);
        }
        set(&mut pod, &["metadata", "deletionTimestamp"], json!(stamp(now + 30_000)));
        set(&mut pod, &["metadata", "deletionGracePeriodSeconds"], json!(30));
        render(&mut pod, &run, down);
        let pod = self.put(PODS, pod, now);
        self.runs.insert(key.clone(), run);
        Some(pod)
    }
}

pub(super) fn container(pod: &Value) -> &str {
    text(pod, "/spec/containers/0/name")
}

/// Writes the pod's node and status from its run.
fn render(pod: &mut Value, run: &PodRun, node_down: bool) {
    if !run.node.is_empty() {
        set(pod, &["spec", "nodeName"], json!(run.node));
    }
    let scheduled = run.stage != Stage::Unscheduled;
    let condition = |kind: &str, holds: bool, since: i64, reason: &str, message: &str| {
        let mut it = json!({"type": kind, "status": if holds { "True" } else { "False" },
                            "lastProbeTime": null, "lastTransitionTime": stamp(since)});
        if !holds {
            set(&mut it, &["reason"], json!(reason));
            set(&mut it, &["message"], json!(message));
        }
        it
    };
    let mut conditions =
        vec![condition("PodScheduled", scheduled, run.created, "Unschedulable", "no node fits the pod")];
    let started = matches!(run.stage, Stage::Running { .. } | Stage::Backoff { .. });
    if scheduled {
        let name = container(pod).to_owned();
        let message = format!("containers with unready status: [{name}]");
        conditions.push(condition("Initialized", true, run.created, "", ""));
        let reason = if node_down { "NodeNotReady" } else { "ContainersNotReady" };
        conditions.push(condition("ContainersReady", run.ready, run.ready_since, reason, &message));
        conditions.push(condition("Ready", run.ready, run.ready_since, reason, &message));
        let state = match (run.stage, run.waiting()) {
            (Stage::Running { since }, _) => json!({"running": {"startedAt": stamp(since)}}),
            (_, reason) => {
                let reason = reason.unwrap_or("ContainerCreating");
                json!({"waiting": {"reason": reason, "message": waiting_message(pod, run, reason)}})
            }
        };
        let last = run.last.as_ref().map_or_else(
            || json!({}),
            |(reason, exit, from, to)| {
                json!({"terminated": {"reason": reason, "exitCode": exit, "startedAt": stamp(*from),
                                  "finishedAt": stamp(*to), "containerID": container_id(pod, run.restarts - 1)}})
            },
        );
        let mut status = json!({"name": name, "image": text(pod, "/spec/containers/0/image"), "imageID": "",
            "ready": run.ready, "started": matches!(run.stage, Stage::Running { .. }), "restartCount": run.restarts,
            "state": state, "lastState": last});
        if started {
            set(&mut status, &["containerID"], json!(container_id(pod, run.restarts)));
            set(&mut status, &["imageID"], json!(text(pod, "/spec/containers/0/image")));
        }
        set(pod, &["status", "containerStatuses"], json!([status]));
        set(pod, &["status", "startTime"], json!(stamp(run.created)));
    }
    set(pod, &["status", "conditions"], Value::Array(conditions));
    set(pod, &["status", "phase"], json!(if started { "Running" } else { "Pending" }));
    set(pod, &["status", "qosClass"], json!("Burstable"));
    if started {
        let digits: Vec<u32> = text(pod, "/metadata/uid").chars().filter_map(|it| it.to_digit(16)).collect();
        let octet = |from: usize| digits.iter().skip(from).take(2).fold(0, |sum, digit| sum * 16 + digit);
        set(pod, &["status", "podIP"], json!(format!("10.244.{}.{}", octet(0), octet(2))));
    }
}

fn waiting_message(pod: &Value, run: &PodRun, reason: &str) -> String {
    match (reason, run.stage) {
        ("CrashLoopBackOff", _) => {
            let delay = (10_i64 << i64::from(run.crashes.saturating_sub(2).min(5))).min(300);
            format!(
                "back-off {delay}s restarting failed container={} pod={}",
                container(pod),
                text(pod, "/metadata/name")
            )
        }
        ("ErrImagePull" | "ImagePullBackOff", _) => {
            format!("Back-off pulling image \"{}\"", text(pod, "/spec/containers/0/image"))
        }
        _ => String::new(),
    }
}

fn container_id(pod: &Value, run: i64) -> String {
    format!("containerd://{}{run:04x}", text(pod, "/metadata/uid").replace('-', ""))
}
