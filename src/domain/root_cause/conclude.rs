//! From a ranking to a diagnosis and the remedy that fits its mechanism.

use super::{ANOMALOUS, Candidate, Picture, Reading, SignKind, SignalClass, amount, say};
use crate::domain::change::Change;
use crate::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use crate::domain::topology::NodeKind;

/// Below this the first candidate does not stand out enough to be named as the cause.
const NAMED: f64 = 0.35;

/// What the ranking supports: a cause with its remedy, or the honest absence of one.
pub fn conclude(picture: &Picture, ranking: &[Candidate]) -> Diagnosis {
    let Some(first) = ranking.first() else {
        return unknown("nothing deviates from its baseline; the alerts stand alone", vec![]);
    };
    let confidence = confidence(picture, ranking);
    let mechanism = mechanism(picture, first);
    let change = mechanism.blames_change.then(|| first.change.clone()).flatten();
    let verdict = verdict(first, confidence);
    if verdict == Verdict::Inconclusive {
        let mut diagnosis =
            unknown(&format!("no candidate stands out; the strongest lead is {}", first.node), first.supports.clone());
        diagnosis.confidence = confidence;
        diagnosis.service = Some(first.node.clone());
        diagnosis.change = change;
        return diagnosis;
    }
    let ruled_out = ranking
        .iter()
        .skip(1)
        .take(4)
        .filter(|other| !other.contradicts.is_empty())
        .map(|other| Claim {
            text: format!("{}: {}", other.node, other.contradicts[0].text),
            evidence: other.contradicts[0].evidence.clone(),
        })
        .chain(innocent_changes(picture, &first.node, change.as_deref()))
        .collect();
    Diagnosis {
        service: Some(first.node.clone()),
        change,
        mechanism: mechanism.text,
        verdict,
        confidence,
        claims: first.supports.clone(),
        ruled_out,
        remedy: mechanism.remedy,
        reasoner: "none".into(),
    }
}

fn unknown(why: &str, claims: Vec<Claim>) -> Diagnosis {
    Diagnosis {
        service: None,
        change: None,
        mechanism: why.to_owned(),
        verdict: Verdict::Inconclusive,
        confidence: 0.0,
        claims,
        ruled_out: vec![],
        remedy: Remedy::HandOver { why: "the cause is not known".into() },
        reasoner: "none".into(),
    }
}

/// From the margin to the next candidate that is no consequence of the first, and the strength of
/// the first. A victim that scores high does not make its cause less certain.
fn confidence(picture: &Picture, ranking: &[Candidate]) -> f64 {
    let (first, score) = (&ranking[0], ranking[0].score);
    if score <= 0.0 {
        return 0.0;
    }
    let consequences = picture.explains(&first.node);
    let earlier = |node: &str| match (picture.onset(node), picture.onset(&first.node)) {
        (Some(theirs), Some(ours)) => theirs + std::time::Duration::from_secs(30) < ours,
        _ => false,
    };
    let rival = ranking
        .iter()
        .skip(1)
        .find(|other| !consequences.contains(&other.node) || earlier(&other.node))
        .map_or(0.0, |other| other.score.max(0.0));
    let margin = (score - rival) / score;
    let strength = 1.0 - (-score / 2.0).exp();
    (0.4 + 0.6 * (margin * 2.0).clamp(0.0, 1.0)) * strength
}

fn verdict(first: &Candidate, confidence: f64) -> Verdict {
    let cited = first.supports.iter().filter(|claim| !claim.evidence.is_empty()).count();
    if confidence >= 0.7 && cited >= 3 {
        Verdict::Confirmed
    } else if confidence >= NAMED && cited >= 1 {
        Verdict::Likely
    } else {
        Verdict::Inconclusive
    }
}

struct Mechanism {
    text: String,
    blames_change: bool,
    remedy: Remedy,
}

/// How it broke decides what mends it. The order is from what names itself to what must be inferred.
fn mechanism(picture: &Picture, candidate: &Candidate) -> Mechanism {
    let node = candidate.node.as_str();
    let has = |kind: SignKind| picture.signs.iter().any(|sign| sign.node == node && sign.kind == kind);
    let bad = |signal: &str| picture.signal(node, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    let hand_over = |text: String, why: &str| Mechanism {
        text,
        blames_change: false,
        remedy: Remedy::HandOver { why: why.to_owned() },
    };
    match picture.topology.kind(node) {
        Some(NodeKind::Host) => return of_host(picture, node),
        Some(NodeKind::External) => {
            return hand_over(
                format!("{node}, which is not ours, does not answer as usual"),
                "the provider must mend it; watch its status page, consider a fallback",
            );
        }
        Some(NodeKind::Database | NodeKind::Queue | NodeKind::Service) | None => {}
    }
    if has(SignKind::CertificateExpired) || bad("certificate").is_some() {
        return hand_over(
            format!("the certificate of {node} has expired"),
            "renew the certificate; no typed action does that",
        );
    }
    if has(SignKind::DiskFull) || bad("volume").is_some_and(|reading| reading.worst >= 0.9) {
        return hand_over(
            format!("the volume of {node} is full"),
            "free or grow the volume; data is at stake, so people decide",
        );
    }
    if let Some((text, why)) = names_itself(picture, node) {
        return hand_over(text, why);
    }
    if let Some(change) =
        candidate.change.as_deref().and_then(|id| picture.changes.iter().find(|change| change.id == id))
    {
        return by_change(picture, node, change);
    }
    if picture.topology.kind(node) == Some(NodeKind::Database) {
        let what = bad("db_statement").map_or_else(|| "it is overloaded".to_owned(), say);
        return hand_over(
            format!("database {node}: {what}, and nothing was changed"),
            "statements, plans and locks need a database person; no typed action touches a database",
        );
    }
    without_change(picture, node)
}

fn of_host(picture: &Picture, host: &str) -> Mechanism {
    let hand_over = |text: String, why: &str| Mechanism {
        text,
        blames_change: false,
        remedy: Remedy::HandOver { why: why.to_owned() },
    };
    let bad = |signal: &str| picture.signal(host, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    let down = picture.signs.iter().find(|sign| sign.node == host && sign.kind == SignKind::HostDown);
    if down.is_some() || bad("not_ready").is_some() {
        // Who cordons a host means to take it down.
        return match down.is_some_and(|sign| sign.text.contains("cordoned")) {
            true => hand_over(
                format!("host {host} was cordoned and is down: maintenance by people"),
                "whoever works on the host gives it back; nothing is to be mended here",
            ),
            false => {
                hand_over(format!("host {host} is lost"), "a lost host needs its owner: repair, replace or drain it")
            }
        };
    }
    if let Some(clock) = bad("clock") {
        return hand_over(
            format!("the clock of host {host} is off: {}", say(clock)),
            "its time synchronisation must be mended; no typed action does that",
        );
    }
    if let Some(busy) = bad("host_cpu") {
        let greedy = greedy_on(picture, host);
        let by = greedy.map_or_else(String::new, |service| format!(", taken by {service}"));
        return hand_over(
            format!("the processors of host {host} are used up{by}: {}", say(busy)),
            "move or limit what takes the processors; no typed action does that",
        );
    }
    hand_over(format!("host {host} is not as usual"), "a host needs its owner: repair, replace or drain it")
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

/// Mechanisms that one sign or one signal gives away, with why people must act.
fn names_itself(picture: &Picture, node: &str) -> Option<(String, &'static str)> {
    let has = |kind: SignKind| picture.signs.iter().any(|sign| sign.node == node && sign.kind == kind);
    let bad = |signal: &str| picture.signal(node, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    if has(SignKind::QuotaExceeded) {
        let text = format!("the quota of its namespace has no room for the pods of {node}");
        return Some((text, "the quota or what uses it up must change; more pods would be refused as well"));
    }
    if has(SignKind::NamesUnanswered) {
        let text = format!("lookups of names through {node} fail (DNS)");
        return Some((text, "the name server and what it asks must be looked at by its owner"));
    }
    if let Some(lag) = bad("replica_lag") {
        return Some((
            format!("the replica {node} is behind its primary: {}", say(lag)),
            "replication needs a database person; no typed action touches a database",
        ));
    }
    if has(SignKind::PoisonMessage) {
        let text = format!("one message that {node} cannot process comes back again and again");
        return Some((text, "the message must be taken out of the queue; no typed action does that"));
    }
    if picture.topology.kind(node) == Some(NodeKind::Queue) {
        let poisoned = |consumer: &&str| {
            picture.signs.iter().any(|sign| sign.node == **consumer && sign.kind == SignKind::PoisonMessage)
        };
        if let Some(consumer) = picture.topology.dependents(node).find(poisoned) {
            let text = format!("one message of {node} that {consumer} cannot process comes back again and again");
            return Some((text, "the message must be taken out of the queue; no typed action does that"));
        }
    }
    let busy_host = picture.topology.dependencies(node).find(|host| {
        picture.signal(host, "host_cpu").is_some_and(|busy| busy.deviation >= ANOMALOUS && busy.worst >= 0.9)
    });
    if let Some(host) = busy_host
        && greedy_on(picture, host) == Some(node)
    {
        let text =
            format!("{node} takes the processors of {host}, and its neighbours there get slow (noisy neighbour)");
        return Some((text, "give it limits or a place of its own; no typed action does that"));
    }
    None
}

fn by_change(picture: &Picture, node: &str, change: &Change) -> Mechanism {
    let what: Vec<&str> = change.touched.iter().map(|touched| touched.what.as_str()).collect();
    let effect = picture
        .of_node(node)
        .filter(|reading| reading.deviation >= ANOMALOUS && reading.class != SignalClass::Load)
        .max_by(|one, other| one.deviation.total_cmp(&other.deviation))
        .map_or_else(|| "it fails".to_owned(), say);
    let remedy = match change.from_revision {
        Some(_) => Remedy::RollBack { service: node.to_owned() },
        None => Remedy::HandOver { why: format!("{} has no earlier revision to go back to", change.id) },
    };
    Mechanism { text: format!("{} ({}): {effect}", change.id, super::list(&what)), blames_change: true, remedy }
}

fn without_change(picture: &Picture, node: &str) -> Mechanism {
    if let Some(consumer) = overrun_consumer(picture, node) {
        return Mechanism {
            text: format!("messages come into {node} faster than {consumer} takes them, which is as busy as it can be"),
            blames_change: false,
            remedy: Remedy::ScaleUp { service: consumer.to_owned() },
        };
    }
    if let Some(text) = broken_way(picture, node) {
        return Mechanism {
            text,
            blames_change: false,
            remedy: Remedy::HandOver { why: "the network needs its owner; no typed action mends it".into() },
        };
    }
    let saturated: Vec<&Reading> = picture
        .of_node(node)
        .filter(|reading| reading.class == SignalClass::Resource && reading.deviation >= ANOMALOUS)
        .filter(|reading| reading.unit.starts_with("of "))
        .collect();
    let load = picture.signal(node, "requests").filter(|reading| reading.deviation >= ANOMALOUS);
    if let (Some(load), Some(_)) = (load, saturated.first())
        && picture.signal(node, "autoscaler").is_some_and(|scaler| scaler.worst >= 1.0)
    {
        return Mechanism {
            text: format!(
                "{node} is saturated by load and its autoscaler (HPA) is at its limit: {} against a usual {}",
                amount(load.worst, &load.unit),
                amount(load.baseline.median, &load.unit)
            ),
            blames_change: false,
            remedy: Remedy::HandOver { why: "the autoscaler would take back a scaling; raise its maximum".into() },
        };
    }
    if let (Some(load), Some(resource)) = (load, saturated.first()) {
        return Mechanism {
            text: format!(
                "{node} is saturated by load: {} against a usual {}, {}",
                amount(load.worst, &load.unit),
                amount(load.baseline.median, &load.unit),
                say(resource)
            ),
            blames_change: false,
            remedy: Remedy::ScaleUp { service: node.to_owned() },
        };
    }
    if let Some(resource) = saturated.first() {
        return Mechanism {
            text: format!("{node} is wedged or leaking without a change and without more load: {}", say(resource)),
            blames_change: false,
            remedy: Remedy::Restart { service: node.to_owned() },
        };
    }
    Mechanism {
        text: format!("{node} fails, but neither a change nor a resource of its own explains it"),
        blames_change: false,
        remedy: Remedy::HandOver { why: "the mechanism is not known, so no action is proposed".into() },
    }
}

/// Of a queue that grows: who takes its messages, and is asked for more than ever.
fn overrun_consumer<'a>(picture: &'a Picture, queue: &str) -> Option<&'a str> {
    if picture.topology.kind(queue) != Some(NodeKind::Queue) {
        return None;
    }
    let anomalous =
        |node: &str, signal: &str| picture.signal(node, signal).is_some_and(|reading| reading.deviation >= ANOMALOUS);
    picture.topology.nodes().map(|(name, _)| name).find(|client| {
        picture.topology.callees(client).any(|callee| callee == queue)
            && anomalous(client, "requests")
            && anomalous(client, "cpu")
    })
}

/// Calls to a node fail or are slow for one of its callers, and the node shows nothing itself.
fn broken_way(picture: &Picture, node: &str) -> Option<String> {
    let complains =
        |client: &str| picture.signs.iter().any(|sign| sign.node == client && sign.kind == SignKind::ConnectionsBreak);
    let edge = (picture.edges.iter())
        .filter(|edge| edge.client == node || edge.server == node)
        .filter(|edge| edge.deviation >= ANOMALOUS && complains(&edge.client))
        .filter(|edge| {
            let healthy = |reading: &Reading| reading.deviation < ANOMALOUS || reading.class == SignalClass::Load;
            picture.of_node(&edge.server).all(healthy)
        })
        .max_by(|one, other| one.deviation.total_cmp(&other.deviation))?;
    Some(format!(
        "the network between {} and {} loses or delays requests: {}; {} itself answers as usual",
        edge.client,
        edge.server,
        super::say_edge(edge),
        edge.server
    ))
}

/// Recent changes that are not blamed, and why not.
fn innocent_changes<'a>(
    picture: &'a Picture,
    node: &'a str,
    blamed: Option<&'a str>,
) -> impl Iterator<Item = Claim> + 'a {
    picture
        .changes
        .iter()
        .filter(move |change| Some(change.id.as_str()) != blamed)
        .filter(|change| picture.since.abs_diff(change.at) <= std::time::Duration::from_secs(6 * 3600))
        .take(4)
        .map(move |change| {
            let why = match picture.onset(&change.service) {
                _ if change.service == node => "came too early or too late to fit the onset".to_owned(),
                None => format!("{} shows nothing unusual", change.service),
                Some(onset) if onset < change.at => {
                    format!("{} was in trouble before it, since {}", change.service, onset.clock_time())
                }
                Some(_) => format!("what {} shows is explained by {node}", change.service),
            };
            Claim {
                text: format!("{} at {}: {why}", change.id, change.at.hour_minute()),
                evidence: picture.changes_evidence.iter().cloned().collect(),
            }
        })
}
