//! A drawn night's plan, and the cluster that an estate runs in.

use std::collections::BTreeMap;

use super::super::estate::{Estate, Role};
use super::super::fault::{APPROVED, Carrier, Fault, Kind};
use super::super::kubernetes::{DeploymentSpec, KubeState, TemplateChange, WorkloadKind};
use super::super::random::Random;
use super::{DAY, MINUTE, Rollout, Script};

pub(super) fn drawn_script(seed: u64, night: i64, estate: &Estate, mut fault: Fault, random: &mut Random) -> Script {
    let aged = fault.carrier.is_none() && matches!(fault.kind, Kind::Leak { .. });
    let onset = match (seed, aged) {
        (1, _) => night + 3 * MINUTE,
        // What grows slowly begins earlier, so that nights are of like length.
        (_, true) => night - 12 * MINUTE,
        _ => night + (random.between(2.0, 12.0) * MINUTE as f64) as i64,
    };
    fault.onset = onset;
    let mut innocents: Vec<Rollout> = vec![];
    if seed == 1 {
        let node = estate.find("recommendations").unwrap_or(0);
        innocents.push(innocent(estate, innocents.len(), night + 10 * MINUTE, node, true));
        let search = estate.find("search").unwrap_or(0);
        innocents.push(innocent(estate, innocents.len(), night - 100 * MINUTE, search, false));
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
            if innocents.iter().any(|one| one.node == node) || (own && fault.carrier.is_some()) {
                continue;
            }
            let at = onset + (minutes * MINUTE as f64) as i64;
            innocents.push(innocent(estate, innocents.len(), at, node, random.chance(0.6)));
        }
    }
    Script { faults: vec![fault], innocents, ..Script::default() }
}

/// A release or a configuration rollout that breaks nothing.
fn innocent(estate: &Estate, number: usize, at: i64, node: usize, image: bool) -> Rollout {
    let name = &estate.nodes[node].name;
    let change = if image {
        Carrier {
            image: Some(format!("registry.example/{name}:2.{}.0", 40 + number)),
            cause: format!("release {name} 2.{}.0 ({APPROVED})", 40 + number),
            ..Carrier::default()
        }
    } else {
        Carrier {
            env: BTreeMap::from([("FEATURE_BANNER".into(), format!("v{}", number + 2))]),
            cause: format!("{name} configuration rollout ({APPROVED})"),
            ..Carrier::default()
        }
    };
    Rollout { at, node, change }
}

/// What every service is configured with, before anybody changes it.
pub(in super::super) fn base_config(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("cache.entry_ttl".to_owned(), "15m".to_owned()),
        ("db.pool.max".to_owned(), "40".to_owned()),
        ("upstream.host".to_owned(), "svc.internal".to_owned()),
        ("service.name".to_owned(), name.to_owned()),
    ])
}

/// The cluster, and how many processors each of its hosts has.
pub(super) fn build_cluster(seed: u64, night: i64, estate: &Estate) -> (KubeState, f64) {
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
            Role::NameServer => "name-server",
            Role::External => "external",
        };
        let created = start - (20 + at as i64) * DAY;
        kube.add_deployment(
            &DeploymentSpec {
                namespace: node.namespace.clone(),
                name: node.name.clone(),
                labels: labels(node.role, component),
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
    (kube, f64::from(cpus))
}

fn labels(role: Role, component: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([("app.kubernetes.io/component".to_owned(), component.to_owned())]);
    if role == Role::NameServer {
        // As every distribution marks it, whatever it runs.
        labels.insert("k8s-app".into(), "kube-dns".into());
    }
    labels
}
