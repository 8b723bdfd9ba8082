//! Storms with several faults at once, drawn from a seed, for measuring correlation.
//!
//! The generator knows physics (who calls whom, how failure travels, how people set alerts) and
//! nothing of how the watch correlates. Development uses even seeds; odd seeds are for reporting.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::domain::time::Timestamp;

pub struct Storm {
    /// In the order of arrival.
    pub alerts: Vec<Value>,
    pub topology: Value,
    pub faults: usize,
}

struct Node {
    name: String,
    namespace: String,
    calls: Vec<usize>,
    callers: Vec<usize>,
    host: String,
    store: bool,
    instances: usize,
}

struct Draft {
    at: i64,
    labels: BTreeMap<String, String>,
    summary: String,
    since: i64,
    ends: Option<i64>,
    truth: Option<String>,
    severity_truth: Option<&'static str>,
    resolved: bool,
}

const MINUTE: i64 = 60_000;
const START: i64 = 1_795_140_000_000;

pub fn draw(seed: u64) -> Storm {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5701_2a55);
    let nodes = estate(&mut random);
    let cluster = ["prod-eu", "prod-us", "main"].choose(&mut random).copied().unwrap_or("main");
    let mut drafts = vec![];
    let faults = faults(&nodes, cluster, &mut random, &mut drafts);
    noise(&nodes, cluster, &mut random, &mut drafts);
    repeats(&mut random, &mut drafts);
    drafts.sort_by_key(|draft| draft.at);
    let alerts = drafts.iter().map(written).collect();
    let topology = json!({
        "nodes": nodes.iter().map(|node| json!({"id": node.name, "kind": if node.store { "database" } else { "service" }})).collect::<Vec<_>>(),
        "edges": nodes.iter().flat_map(|node| node.calls.iter().map(|to| json!({"from": node.name, "to": nodes[*to].name}))).collect::<Vec<_>>(),
    });
    Storm { alerts, topology, faults }
}

/// Layers: doors, services, stores. A call goes down a layer or sideways to a later service.
fn estate(random: &mut StdRng) -> Vec<Node> {
    let (doors, services, stores) =
        (random.random_range(2..5), random.random_range(14..40), random.random_range(5..12));
    let count = doors + services + stores;
    let hosts = random.random_range(4..10);
    let mut nodes: Vec<Node> = (0..count)
        .map(|at| {
            let (name, store) = match at {
                at if at < doors => (format!("door-{at}"), false),
                at if at < doors + services => (format!("svc-{at}"), false),
                at => (format!("db-{at}"), true),
            };
            Node {
                name,
                namespace: format!("team-{}", random.random_range(0..5)),
                calls: vec![],
                callers: vec![],
                host: format!("host-{}", random.random_range(0..hosts)),
                store,
                instances: if store { 1 } else { random.random_range(1..12) },
            }
        })
        .collect();
    for at in 0..doors + services {
        let wanted = if at < doors { random.random_range(3..7) } else { random.random_range(1..4) };
        for _ in 0..wanted {
            let to = random.random_range((at + 1).max(doors)..count);
            if !nodes[at].calls.contains(&to) {
                nodes[at].calls.push(to);
                nodes[to].callers.push(at);
            }
        }
    }
    nodes
}

fn faults(nodes: &[Node], cluster: &str, random: &mut StdRng, drafts: &mut Vec<Draft>) -> usize {
    let count = random.random_range(2..6);
    let mut taken: Vec<usize> = vec![];
    let mut reached_before: BTreeMap<usize, String> = BTreeMap::new();
    let mut number = 0;
    for _ in 0..40 {
        if number == count {
            break;
        }
        let at = random.random_range(0..nodes.len());
        // Two faults on one line of calls are one story to anybody who looks from outside.
        let related = |one: usize, other: usize| {
            one == other || below(nodes, one).contains(&other) || below(nodes, other).contains(&one)
        };
        if nodes[at].callers.is_empty() || taken.iter().any(|other| related(at, *other)) {
            continue;
        }
        taken.push(at);
        number += 1;
    }
    let mut onsets: Vec<(i64, usize)> =
        taken.into_iter().map(|at| (START + random.random_range(0..14 * MINUTE), at)).collect();
    onsets.sort_unstable();
    for (order, (onset, at)) in onsets.into_iter().enumerate() {
        let truth = format!("fault-{}", order + 1);
        let lasts = random.random_range(15..50) * MINUTE;
        spread(nodes, at, onset, lasts, &truth, cluster, random, drafts, &mut reached_before);
    }
    number
}

fn below(nodes: &[Node], from: usize) -> Vec<usize> {
    let mut seen = vec![];
    let mut open = nodes[from].calls.clone();
    while let Some(at) = open.pop() {
        if !seen.contains(&at) {
            seen.push(at);
            open.extend(&nodes[at].calls);
        }
    }
    seen
}

#[allow(clippy::too_many_arguments)] // the generator's own state in one place
fn spread(
    nodes: &[Node],
    root: usize,
    onset: i64,
    lasts: i64,
    truth: &str,
    cluster: &str,
    random: &mut StdRng,
    drafts: &mut Vec<Draft>,
    reached_before: &mut BTreeMap<usize, String>,
) {
    let own: &[&str] = if nodes[root].store {
        &["DatabaseConnectionsExhausted", "SlowStatements", "VolumeAlmostFull", "ReplicationLag"]
    } else {
        &["ContainerMemoryHigh", "PodCrashLooping", "HighCPU", "ConnectionPoolSaturated", "HighErrorRate"]
    };
    // One in sixteen roots says nothing itself.
    let silent = random.random_bool(0.0625);
    let mut open = vec![(root, onset + random.random_range(20_000..120_000), 0_u32)];
    let mut seen = vec![root];
    let (first, mut broken) = (drafts.len(), vec![]);
    while let Some((at, when, depth)) = open.pop() {
        // Who fails already does not fail twice: the earlier fault owns its alerts.
        let owner = reached_before.entry(at).or_insert_with(|| truth.to_owned()).clone();
        if owner == truth {
            broken.push(at);
        }
        if !(depth == 0 && silent) && owner == truth {
            let names: Vec<&str> = if depth == 0 {
                let wanted = random.random_range(1..4);
                own.choose_multiple(random, wanted).copied().collect()
            } else {
                let effects = ["HighErrorRate", "HighLatencyP99", "ProbeFailed", "SLOBurnRateHigh"];
                let wanted = random.random_range(1..3);
                effects.choose_multiple(random, wanted).copied().collect()
            };
            for name in names {
                let per_instance = random.random_bool(0.4);
                let copies = if per_instance { nodes[at].instances } else { 1 };
                let warns_first = random.random_bool(0.3);
                for copy in 0..copies {
                    let since = when + random.random_range(0..40_000);
                    let severity =
                        if warns_first && copy == 0 || random.random_bool(0.25) { "warning" } else { "critical" };
                    let ends = onset + lasts + random.random_range(0..4 * MINUTE);
                    let labels = labels(nodes, at, cluster, name, severity, per_instance.then_some(copy));
                    drafts.push(draft(labels, since, Some(ends), Some(owner.clone()), name, &nodes[at].name));
                }
            }
        }
        for caller in &nodes[at].callers {
            let chance = 0.85_f64.powi(depth as i32 + 1);
            if !seen.contains(caller) && random.random_bool(chance) {
                seen.push(*caller);
                open.push((*caller, when + random.random_range(10_000..90_000), depth + 1));
            }
        }
    }
    let severity = severity(nodes, &broken, lasts);
    drafts[first..].iter_mut().for_each(|draft| draft.severity_truth = Some(severity));
}

/// By what users lose: doors have equal traffic, and a request to a broken door fails.
fn severity(nodes: &[Node], broken: &[usize], lasts: i64) -> &'static str {
    let is_door = |at: &usize| nodes[*at].callers.is_empty() && !nodes[*at].store;
    let doors = (0..nodes.len()).filter(is_door).count();
    let lost = broken.iter().filter(|at| is_door(at)).count() as f64 / doors.max(1) as f64;
    match lost {
        lost if lost >= 0.5 && lasts >= 15 * MINUTE => "SEV1",
        lost if lost > 0.0 => "SEV2",
        _ if broken.len() > 1 || lasts >= 15 * MINUTE => "SEV3",
        _ => "SEV4",
    }
}

fn labels(
    nodes: &[Node],
    at: usize,
    cluster: &str,
    name: &str,
    severity: &str,
    instance: Option<usize>,
) -> BTreeMap<String, String> {
    let node = &nodes[at];
    let mut labels = BTreeMap::from([
        ("alertname".to_owned(), name.to_owned()),
        ("severity".to_owned(), severity.to_owned()),
        ("service".to_owned(), node.name.clone()),
        ("namespace".to_owned(), node.namespace.clone()),
        ("cluster".to_owned(), cluster.to_owned()),
    ]);
    if let Some(copy) = instance {
        labels.insert("pod".to_owned(), format!("{}-{copy}", node.name));
        labels.insert("instance".to_owned(), format!("{}:8080", node.host));
    }
    labels
}

fn draft(
    labels: BTreeMap<String, String>,
    since: i64,
    ends: Option<i64>,
    truth: Option<String>,
    name: &str,
    subject: &str,
) -> Draft {
    let summary = format!("{name} on {subject}");
    Draft { at: since, labels, summary, since, ends, truth, severity_truth: None, resolved: false }
}

/// What healthy services say anyway: warnings that pass, edges that flap, an alarm that was nothing.
fn noise(nodes: &[Node], cluster: &str, random: &mut StdRng, drafts: &mut Vec<Draft>) {
    let names = ["HighCPU", "PodCpuThrottled", "HighLatencyP99", "BatchJobSlow", "DiskWillFillIn4Days"];
    for _ in 0..random.random_range(5..40) {
        let at = random.random_range(0..nodes.len());
        let name = names.choose(random).copied().unwrap_or("HighCPU");
        let since = START + random.random_range(-10 * MINUTE..45 * MINUTE);
        let severity = if random.random_bool(0.2) { "info" } else { "warning" };
        let labels = labels(nodes, at, cluster, name, severity, None);
        let times = if random.random_bool(0.1) { random.random_range(4..12) } else { 1 };
        let mut since = since;
        for _ in 0..times {
            let ends = since + random.random_range(MINUTE..6 * MINUTE);
            drafts.push(draft(labels.clone(), since, Some(ends), None, name, &nodes[at].name));
            since = ends + random.random_range(20_000..3 * MINUTE);
        }
    }
}

/// Every alert is re-sent while it fires, and its end is told.
fn repeats(random: &mut StdRng, drafts: &mut Vec<Draft>) {
    let every = [MINUTE, 2 * MINUTE, 5 * MINUTE].choose(random).copied().unwrap_or(MINUTE);
    let mut more = vec![];
    for draft in drafts.iter() {
        let ends = draft.ends.unwrap_or(draft.since + 30 * MINUTE);
        let copy = |at: i64, resolved: bool| Draft {
            at,
            labels: draft.labels.clone(),
            summary: draft.summary.clone(),
            since: draft.since,
            ends: draft.ends,
            truth: draft.truth.clone(),
            severity_truth: draft.severity_truth,
            resolved,
        };
        let mut at = draft.since + every;
        while at < ends.min(draft.since + 20 * MINUTE) {
            more.push(copy(at, false));
            at += every;
        }
        more.push(copy(ends, true));
    }
    drafts.extend(more);
}

fn written(draft: &Draft) -> Value {
    let instant = |at: i64| Timestamp::from_millis(at).to_string();
    let mut alert = json!({
        "labels": draft.labels,
        "annotations": {"summary": draft.summary},
        "startsAt": instant(draft.since),
        "status": if draft.resolved { "resolved" } else { "firing" },
        "truth": draft.truth,
        "severity_truth": draft.severity_truth,
    });
    if draft.resolved {
        alert["endsAt"] = json!(draft.ends.map(instant));
    }
    alert
}
