use std::time::Duration;

use super::super::{EdgeReading, Sign, rank};
use super::*;
use crate::domain::anomaly::Baseline;
use crate::domain::change::Unread;
use crate::domain::id::IncidentId;
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, Topology};

const START: i64 = 1_000_000;

/// A small estate: a door that calls three services, a queue with its worker, a name server, a host.
fn estate() -> Picture {
    let mut topology = Topology::default();
    for name in ["cart", "search", "mail"] {
        topology.add_edge("door", name, EdgeKind::Calls);
    }
    topology.add_edge("worker", "queue", EdgeKind::Calls);
    topology.add_edge("cart", "queue", EdgeKind::Calls);
    topology.add_node("queue", NodeKind::Queue);
    topology.add_edge("mail", "rack", EdgeKind::RunsOn);
    topology.add_node("rack", NodeKind::Host);
    Picture { topology, since: Timestamp::from_secs(START), ..Picture::default() }
}

fn measured(node: &str, signal: &str, class: SignalClass, unit: &str, worst: f64) -> Reading {
    Reading {
        node: node.into(),
        signal: signal.into(),
        class,
        unit: unit.into(),
        baseline: Baseline::of((0..60).map(|at| f64::from(at % 3) * 0.01)).expect("enough values"),
        worst,
        deviation: 12.0,
        onset: Some(Timestamp::from_secs(START)),
        evidence: Some(IncidentId::numbered(1).evidence(1)),
        alike: None,
    }
}

fn sign(node: &str, kind: SignKind) -> Sign {
    let at = Some(Timestamp::from_secs(START));
    Sign { node: node.into(), kind, text: "said so".into(), at, evidence: Some(IncidentId::numbered(1).evidence(2)) }
}

#[track_caller]
fn check(picture: &Picture, service: &str, verdict: Verdict, says: &str) -> Diagnosis {
    let diagnosis = conclude(picture, &focus(picture, rank(picture)));
    assert_eq!((diagnosis.service.as_deref(), diagnosis.verdict), (Some(service), verdict), "{}", diagnosis.mechanism);
    assert!(diagnosis.mechanism.contains(says), "{}", diagnosis.mechanism);
    diagnosis
}

#[test]
fn several_places_at_once_without_a_reason_are_not_known() {
    let mut picture = estate();
    for node in ["cart", "search", "mail"] {
        picture.readings.push(measured(node, "latency_p99", SignalClass::Symptom, "s", 2.0));
    }
    let diagnosis = conclude(&picture, &focus(&picture, rank(&picture)));
    assert_eq!(diagnosis.verdict, Verdict::Inconclusive);
    assert!(diagnosis.mechanism.contains("got worse in the same minute"), "{}", diagnosis.mechanism);
    // One that runs out of something of its own is a cause whatever else happens.
    picture.readings.push(measured("cart", "memory", SignalClass::Resource, "of limit", 0.97));
    let diagnosis = conclude(&picture, &rank(&picture));
    assert_eq!(diagnosis.service.as_deref(), Some("cart"));
    assert!(!diagnosis.mechanism.contains("same minute"), "{}", diagnosis.mechanism);
}

#[test]
fn where_is_not_yet_why() {
    let mut picture = estate();
    picture.readings.push(measured("cart", "errors", SignalClass::Symptom, "ratio", 0.4));
    check(&picture, "cart", Verdict::Inconclusive, "neither a change nor a resource");
}

#[test]
fn what_was_perhaps_changed_is_not_restarted() {
    let of = |services: Option<&[&str]>| Unread {
        what: "the rollout histories of shop".into(),
        why: "forbidden".into(),
        services: services.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    };
    let mut picture = estate();
    picture.readings.push(measured("cart", "memory", SignalClass::Resource, "of limit", 0.97));
    let restarts = |picture: &Picture| {
        let says = match picture.may_have_changed("cart") {
            true => "without more load, and whether it was changed could not be read",
            false => "without a change",
        };
        matches!(check(picture, "cart", Verdict::Likely, says).remedy, Remedy::Restart { .. })
    };
    assert!(restarts(&picture));
    picture.unread_changes = vec![of(Some(&["mail"]))];
    assert!(restarts(&picture), "what it needs to know it has read");
    for unread in [of(Some(&["mail", "cart"])), of(None)] {
        picture.unread_changes = vec![unread];
        assert!(!restarts(&picture));
    }
}

#[test]
fn what_names_itself_is_cited() {
    let mut picture = estate();
    picture.readings.push(measured("worker", "errors", SignalClass::Symptom, "ratio", 0.4));
    picture.signs.push(sign("worker", SignKind::PoisonMessage));
    let found = check(&picture, "worker", Verdict::Likely, "comes back again and again");
    let cited = IncidentId::numbered(1).evidence(2);
    assert!(found.claims.iter().any(|claim| claim.evidence.contains(&cited)), "{:?}", found.claims);
    assert!(matches!(found.remedy, Remedy::HandOver { .. }));
}

#[test]
fn a_broken_way_is_neither_ends_fault() {
    let mut picture = estate();
    picture.readings.push(measured("door", "errors", SignalClass::Symptom, "ratio", 0.2));
    picture.readings.push(Reading { deviation: 0.0, ..measured("cart", "errors", SignalClass::Symptom, "ratio", 0.0) });
    picture.edges.push(EdgeReading {
        client: "door".into(),
        server: "cart".into(),
        signal: "call_errors".into(),
        worst: 0.4,
        usual: 0.0,
        deviation: 12.0,
        onset: Some(Timestamp::from_secs(START)),
        evidence: Some(IncidentId::numbered(1).evidence(3)),
    });
    picture.signs.push(sign("door", SignKind::ConnectionsBreak));
    picture.topology_evidence = Some(IncidentId::numbered(1).evidence(4));
    check(&picture, "cart", Verdict::Likely, "the network between door and cart");
}

#[test]
fn who_cordons_a_host_means_to_take_it_down() {
    for (troubles, says) in [("host not ready: cordoned", "maintenance"), ("host not ready", "is lost")] {
        let mut picture = estate();
        picture.readings.push(measured("rack", "not_ready", SignalClass::Health, "not ready", 1.0));
        picture.signs.push(Sign { text: troubles.into(), ..sign("rack", SignKind::HostDown) });
        check(&picture, "rack", Verdict::Likely, says);
    }
}

#[test]
fn an_incident_has_the_cause_that_explains_its_own_alerts() {
    let mut picture = estate();
    for node in ["cart", "search"] {
        picture.readings.push(measured(node, "errors", SignalClass::Symptom, "ratio", 0.4));
        picture.readings.push(measured(node, "memory", SignalClass::Resource, "of limit", 0.97));
    }
    picture.signs.push(sign("cart", SignKind::OutOfMemory));
    let later = picture.since + Duration::from_secs(30);
    picture.alerts = [("search", 1), ("mail", 1)].into_iter().map(|(name, n)| (name.to_owned(), (later, n))).collect();
    let first = |ranking: Vec<Candidate>| ranking.first().map(|candidate| candidate.node.clone());
    assert_eq!(first(rank(&picture)).as_deref(), Some("cart"));
    assert_eq!(first(focus(&picture, rank(&picture))).as_deref(), Some("search"));
}

#[test]
fn what_nobody_measures_is_not_called_usual() {
    let said = |picture: &Picture| conclude(picture, &rank(picture)).mechanism;
    let mut picture = estate();
    assert!(said(&picture).starts_with("nothing is measured here: [signals] is not configured"), "{}", said(&picture));
    assert!(said(&picture).ends_with("I only have the alerts"), "{}", said(&picture));
    picture.readings.push(Reading { deviation: 0.0, ..measured("cart", "errors", SignalClass::Symptom, "ratio", 0.0) });
    assert_eq!(said(&picture), "nothing that is measured deviates from its baseline; the alerts stand alone");
}
