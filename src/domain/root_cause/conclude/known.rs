//! Mechanisms that give themselves away: one sign or one signal says how the thing broke.

use super::super::say::say_edge;
use super::super::{ANOMALOUS, Picture, Reading, Sign, SignKind, SignalClass, say};
use super::Mechanism;
use crate::domain::diagnosis::{Claim, Remedy};
use crate::domain::topology::NodeKind;

pub(super) fn of_host(picture: &Picture, host: &str) -> Mechanism {
    let bad = |signal: &str| picture.signal(host, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    let down = picture.signs.iter().find(|sign| sign.node == host && sign.kind == SignKind::HostDown);
    if down.is_some() || bad("not_ready").is_some() {
        // Who cordons a host means to take it down.
        return match down.is_some_and(|sign| sign.text.contains("cordoned")) {
            true => Mechanism::handed_over(
                format!("host {host} was cordoned and is down: maintenance by people"),
                "whoever works on the host gives it back; nothing is to be mended here",
            ),
            false => Mechanism::handed_over(
                format!("host {host} is lost"),
                "a lost host needs its owner: repair, replace or drain it",
            ),
        };
    }
    if let Some(clock) = bad("clock") {
        let claims = (picture.signs.iter())
            .filter(|sign| sign.kind == SignKind::ClockOff)
            .map(|sign| claim(sign, format!("{}: {}", sign.node, sign.text)))
            .take(2)
            .collect();
        return Mechanism {
            claims,
            ..Mechanism::handed_over(
                format!("the clock of host {host} is off: {}", say(clock)),
                "its time synchronisation must be mended; no typed action does that",
            )
        };
    }
    if let Some(busy) = bad("host_cpu") {
        let greedy = greedy_on(picture, host);
        let by = greedy.map_or_else(String::new, |service| format!(", taken by {service}"));
        return Mechanism::handed_over(
            format!("the processors of host {host} are used up{by}: {}", say(busy)),
            "move or limit what takes the processors; no typed action does that",
        );
    }
    Mechanism::handed_over(
        format!("host {host} is not as usual"),
        "a host needs its owner: repair, replace or drain it",
    )
}

/// What runs on the host and uses all that it may.
fn greedy_on<'a>(picture: &'a Picture, host: &str) -> Option<&'a str> {
    let at_its_limit = |service: &&str| {
        picture.signal(service, "cpu").is_some_and(|cpu| cpu.deviation >= ANOMALOUS && cpu.worst >= 0.95)
    };
    picture
        .topology
        .nodes()
        .map(|(name, _)| name)
        .filter(at_its_limit)
        .find(|service| picture.topology.dependencies(service).any(|below| below == host))
}

/// Mechanisms that one sign or one signal gives away; people must act.
pub(super) fn by_itself(picture: &Picture, node: &str) -> Option<Mechanism> {
    let sign = |of: &str, kind: SignKind| picture.signs.iter().find(|sign| sign.node == of && sign.kind == kind);
    let told = |sign: &Sign, text: String, why: &str| {
        let claims = vec![claim(sign, format!("{}: {}", sign.node, sign.text))];
        Some(Mechanism { claims, ..Mechanism::handed_over(text, why) })
    };
    if let Some(sign) = sign(node, SignKind::QuotaExceeded) {
        let text = format!("the quota of its namespace has no room for the pods of {node}");
        return told(sign, text, "the quota or what uses it up must change; more pods would be refused as well");
    }
    if let Some(sign) = sign(node, SignKind::NamesUnanswered) {
        let text = format!("lookups of names through {node} fail (DNS)");
        return told(sign, text, "the name server and what it asks must be looked at by its owner");
    }
    if let Some(lag) = picture.signal(node, "replica_lag").filter(|lag| lag.deviation >= ANOMALOUS) {
        return Some(Mechanism::handed_over(
            format!("the replica {node} is behind its primary: {}", say(lag)),
            "replication needs a database person; no typed action touches a database",
        ));
    }
    if let Some(sign) = sign(node, SignKind::PoisonMessage) {
        let text = format!("one message that {node} cannot process comes back again and again");
        return told(sign, text, "the message must be taken out of the queue; no typed action does that");
    }
    if picture.topology.kind(node) == Some(NodeKind::Queue)
        && let Some(sign) = picture.topology.dependents(node).find_map(|client| sign(client, SignKind::PoisonMessage))
    {
        let text = format!("one message of {node} that {} cannot process comes back again and again", sign.node);
        return told(sign, text, "the message must be taken out of the queue; no typed action does that");
    }
    let busy_host = picture.topology.dependencies(node).find(|host| {
        picture.signal(host, "host_cpu").is_some_and(|busy| busy.deviation >= ANOMALOUS && busy.worst >= 0.9)
    });
    let host = busy_host.filter(|host| greedy_on(picture, host) == Some(node))?;
    Some(Mechanism::handed_over(
        format!("{node} takes the processors of {host}, and its neighbours there get slow (noisy neighbour)"),
        "give it limits or a place of its own; no typed action does that",
    ))
}

fn claim(sign: &Sign, text: String) -> Claim {
    Claim { text, evidence: sign.evidence.iter().cloned().collect() }
}

/// Of a queue that grows: who takes its messages is asked for more than ever, and is as busy as it can be.
pub(super) fn overrun_consumer(picture: &Picture, queue: &str) -> Option<Mechanism> {
    if picture.topology.kind(queue) != Some(NodeKind::Queue) {
        return None;
    }
    let anomalous =
        |node: &str, signal: &str| picture.signal(node, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    let (consumer, load) = picture.topology.nodes().map(|(name, _)| name).find_map(|client| {
        let calls = picture.topology.callees(client).any(|callee| callee == queue);
        let busy = anomalous(client, "cpu").is_some();
        (calls && busy).then(|| anomalous(client, "requests")).flatten().map(|load| (client, load))
    })?;
    let text = format!("messages come into {queue} faster than {consumer} takes them, which is as busy as it can be");
    let claims = vec![Claim { text: say(load), evidence: load.evidence.iter().cloned().collect() }];
    Some(Mechanism { claims, ..Mechanism::mended_by(Remedy::ScaleUp { service: consumer.to_owned() }, text) })
}

/// Calls to a node fail or are slow for one of its callers, and the node shows nothing itself.
pub(super) fn broken_way(picture: &Picture, node: &str) -> Option<Mechanism> {
    let complaint =
        |client: &str| picture.signs.iter().find(|sign| sign.node == client && sign.kind == SignKind::ConnectionsBreak);
    let (edge, sign) = (picture.edges.iter())
        .filter(|edge| edge.deviation >= ANOMALOUS && (edge.client == node || edge.server == node))
        .filter(|edge| {
            let healthy = |reading: &Reading| reading.deviation < ANOMALOUS || reading.class == SignalClass::Load;
            picture.of_node(&edge.server).all(healthy)
        })
        .filter_map(|edge| complaint(&edge.client).map(|sign| (edge, sign)))
        .max_by(|(one, _), (other, _)| one.deviation.total_cmp(&other.deviation))?;
    let text = format!(
        "the network between {} and {} loses or delays requests: {}; {} itself answers as usual",
        edge.client,
        edge.server,
        say_edge(edge),
        edge.server
    );
    let seen = Claim { text: say_edge(edge), evidence: edge.evidence.iter().cloned().collect() };
    let claims = vec![seen, claim(sign, format!("{}: {}", sign.node, sign.text))];
    Some(Mechanism { claims, ..Mechanism::handed_over(text, "the network needs its owner; no typed action mends it") })
}
