//! A simulated Kubernetes: an API server over HTTP, the controllers of workloads, a scheduler
//! and a kubelet. Time is handed in as event-time milliseconds; nothing here reads a clock.

mod access;
mod api;
mod build;
mod controller;
mod daemon;
mod deployment_status;
mod events;
mod kinds;
mod kubelet;
mod owner;
mod patch;
mod select;
mod stateful;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use access::Granted;
pub use api::router;
use kinds::Resource;
use kubelet::PodRun;

/// Yields a pod's log: namespace, pod, whether the previous container is meant, and how many last lines.
pub type LogSource = Arc<dyn Fn(&str, &str, bool, usize) -> String + Send + Sync>;

/// Which controller keeps the pods of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkloadKind {
    #[default]
    Deployment,
    StatefulSet,
}

/// A workload as the simulation's owner describes it; a Service of the same name comes with it.
#[derive(Debug, Clone, Default)]
pub struct DeploymentSpec {
    pub namespace: String,
    pub name: String,
    /// `app=name` is always added.
    pub labels: BTreeMap<String, String>,
    pub replicas: i64,
    pub image: String,
    pub env: Vec<(String, String)>,
    pub config_map: Option<(String, BTreeMap<String, String>)>,
    pub cpu_limit: String,
    pub mem_limit: String,
    pub kind: WorkloadKind,
    /// The size of the volume, such as `20Gi`.
    pub pvc: Option<String>,
    pub change_cause: String,
}

/// What a new revision changes; everything left `None` stays.
#[derive(Debug, Clone, Default)]
pub struct TemplateChange {
    pub image: Option<String>,
    /// Variables to set; others stay.
    pub env: Option<Vec<(String, String)>>,
    /// The new ConfigMap's own name and its data; the old one stays for the way back.
    pub config_map: Option<(String, BTreeMap<String, String>)>,
    pub cpu_limit: Option<String>,
    pub mem_limit: Option<String>,
    pub cause: String,
}

/// How the container of a pod fares, answered at every step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodHealth {
    Ready,
    /// The readiness probe fails, with its message.
    NotReady(String),
    /// The container ends now; `OOMKilled` also shows at the node.
    Crash {
        reason: String,
        exit: i64,
    },
    /// The image cannot be pulled; matters only before the container runs.
    ImagePull,
}

/// A pod as the rest of the simulation sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    pub name: String,
    pub namespace: String,
    pub service: String,
    /// Empty while unscheduled.
    pub node: String,
    pub revision: i64,
    pub template_hash: String,
    /// When the running container started, else when the pod was created.
    pub started_at: i64,
    pub ready: bool,
    pub restarts: i64,
    /// `Pending`, `Running` or `Terminating`.
    pub phase: String,
    /// What a person reads in the STATUS column beyond the phase, such as `CrashLoopBackOff`.
    pub reason: Option<String>,
    pub env: BTreeMap<String, String>,
    /// The data of the ConfigMap as the container read it at its start.
    pub config: BTreeMap<String, String>,
    pub image: String,
    pub cpu_limit: String,
    pub mem_limit: String,
}

/// A workload as the rest of the simulation sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentView {
    pub namespace: String,
    pub name: String,
    pub kind: WorkloadKind,
    pub replicas: i64,
    pub updated: i64,
    pub ready: i64,
    pub available: i64,
    pub revision: i64,
    pub generation: i64,
    pub observed_generation: i64,
    pub image: String,
    pub change_cause: String,
    /// Every wanted pod runs the newest template and is available, and no older one is left.
    pub complete: bool,
}

/// One mutating request that was meant, as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub at: i64,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The object's kind; `Scale` and `Eviction` for those subresources.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub field_manager: String,
    pub user_agent: String,
    pub body: Value,
    /// The HTTP status it was answered with.
    pub status: u16,
}

/// No workload of that name exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no workload {namespace}/{name}")]
pub struct NoSuchWorkload {
    pub namespace: String,
    pub name: String,
}

type Name = (String, String);

/// Everything the simulated cluster holds.
pub struct KubeState {
    seed: u64,
    version: u64,
    sequence: u64,
    objects: BTreeMap<&'static str, BTreeMap<Name, Value>>,
    runs: BTreeMap<Name, PodRun>,
    nodes_down: BTreeMap<String, i64>,
    /// Pods that a namespace may have; without an entry as many as it likes.
    quotas: BTreeMap<String, i64>,
    writes: Vec<Write>,
    logs: Option<LogSource>,
    last_step: Option<i64>,
    /// What a token may do; one that is not named may do everything.
    grants: BTreeMap<String, Vec<Granted>>,
    /// Of the pods that are ready, only these are asked how they fare; `None`: all.
    disturbed: Option<std::collections::BTreeSet<String>>,
}

impl KubeState {
    /// An empty cluster; the same seed and calls give the same names and uids.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            version: 1000,
            sequence: 0,
            objects: BTreeMap::new(),
            runs: BTreeMap::new(),
            nodes_down: BTreeMap::new(),
            quotas: BTreeMap::new(),
            writes: Vec::new(),
            logs: None,
            last_step: None,
            grants: BTreeMap::new(),
            disturbed: None,
        }
    }

    /// Names the only ready pods whose health may differ from ready in the next step.
    pub fn disturb(&mut self, names: impl IntoIterator<Item = String>) {
        self.disturbed = Some(names.into_iter().collect());
    }

    /// Says where pod logs come from. The source is called without the state's lock.
    pub fn set_logs(&mut self, logs: LogSource) {
        self.logs = Some(logs);
    }

    /// The journal of mutating requests that were not dry runs, oldest first, refused ones included.
    pub fn writes(&self) -> Vec<Write> {
        self.writes.clone()
    }

    /// An object as it is; nothing where there is none, or no such kind.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = kinds::ALL.into_iter().find(|resource| resource.kind == kind)?;
        self.get(resource, namespace, name).cloned()
    }

    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(resource.plural)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn list(&self, resource: Resource) -> impl Iterator<Item = &Value> {
        self.objects.get(resource.plural).into_iter().flat_map(BTreeMap::values)
    }

    fn remove(&mut self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.version += 1;
        self.objects.get_mut(resource.plural)?.remove(&(namespace.to_owned(), name.to_owned()))
    }

    /// What storing this object would make of it: identity kept, generation and resourceVersion moved on if it differs.
    fn stored(&self, resource: Resource, mut object: Value, at: i64) -> Value {
        let (namespace, name) =
            (text(&object, "/metadata/namespace").to_owned(), text(&object, "/metadata/name").to_owned());
        set(&mut object, &["apiVersion"], json!(resource.api_version()));
        set(&mut object, &["kind"], json!(resource.kind));
        let old = self.get(resource, &namespace, &name);
        let generation = match old {
            None => 1,
            Some(old) => {
                let moved = old.get("spec") != object.get("spec");
                number(old, "/metadata/generation") + i64::from(moved)
            }
        };
        if resource.generation {
            set(&mut object, &["metadata", "generation"], json!(generation));
        }
        match old {
            None => {
                let uid = self.uid(&format!("{}/{namespace}/{name}/{at}", resource.plural));
                set(&mut object, &["metadata", "uid"], json!(uid));
                set(&mut object, &["metadata", "creationTimestamp"], json!(stamp(at)));
            }
            Some(old) => {
                for field in ["uid", "creationTimestamp", "resourceVersion"] {
                    let value = old.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
                    set(&mut object, &["metadata", field], value);
                }
                if *old == object {
                    return object;
                }
            }
        }
        set(&mut object, &["metadata", "resourceVersion"], json!((self.version + 1).to_string()));
        object
    }

    fn put(&mut self, resource: Resource, object: Value, at: i64) -> Value {
        let object = self.stored(resource, object, at);
        if text(&object, "/metadata/resourceVersion") == (self.version + 1).to_string() {
            self.version += 1;
            let key = (text(&object, "/metadata/namespace").to_owned(), text(&object, "/metadata/name").to_owned());
            self.objects.entry(resource.plural).or_default().insert(key, object.clone());
        }
        object
    }

    fn digest(&self, text: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(text.as_bytes()).finalize().into()
    }

    fn uid(&self, text: &str) -> String {
        let mut hex: String = self.digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        for (at, dash) in [(8, "-"), (13, "-"), (18, "-"), (23, "-")] {
            hex.insert_str(at, dash);
        }
        hex.replace_range(14..15, "4");
        hex.replace_range(19..20, "a");
        hex
    }

    /// A suffix in the alphabet Kubernetes uses, which spells no words.
    fn suffix(&self, text: &str, length: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let letter = |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).map_or('b', |it| char::from(*it));
        self.digest(text).iter().take(length).map(letter).collect()
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    let found = object.pointer("/metadata/annotations").and_then(|it| it.get(name));
    found.and_then(Value::as_str).unwrap_or_default()
}

/// Sets a value deep in an object, making the objects on the way.
fn set(object: &mut Value, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(fields) = object {
        set(fields.entry(*first).or_insert(Value::Null), rest, value);
    }
}

/// Takes a field away from the object at the pointer.
fn unset(object: &mut Value, pointer: &str, field: &str) -> Option<Value> {
    object.pointer_mut(pointer)?.as_object_mut()?.shift_remove(field)
}

fn strings(object: Option<&Value>) -> BTreeMap<String, String> {
    let fields = object.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Kubernetes writes times to the second.
fn stamp(millis: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn unstamp(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).map_or(0, |time| time.timestamp_millis())
}
