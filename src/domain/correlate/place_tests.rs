//! Clusters and regions, and machines.

use super::tests::{alert, chart, take};
use super::*;

fn about(labels: &[(&str, &str)], name: &str, severity: &str, second: i64) -> Alert {
    let mut alert = alert("", name, severity, second);
    alert.labels.remove("service");
    alert.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    alert.fingerprint = Fingerprint::of(&alert.labels);
    alert
}

fn pay(cluster: &str, second: i64) -> Alert {
    about(&[("service", "pay"), ("cluster", cluster)], "HighErrorRate", "critical", second)
}

#[test]
fn what_is_deployed_once_fails_in_all_clusters() {
    let topology = chart(&[("door", "pay"), ("pay", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let eu = take(&mut correlator, &pay("eu", 0), &topology);
    assert_eq!(take(&mut correlator, &pay("us", 60), &topology), eu);
    let door = about(&[("service", "door"), ("cluster", "us")], "HighErrorRate", "critical", 90);
    assert_eq!(take(&mut correlator, &door, &topology), eu);
    // Nobody deploys for ten minutes, and staging fails for its own reasons.
    assert_ne!(take(&mut correlator, &pay("asia", 700), &topology), eu);
    let staging = about(&[("service", "pay"), ("cluster", "us"), ("env", "staging")], "HighErrorRate", "critical", 80);
    assert_ne!(take(&mut correlator, &staging, &topology), eu);
}

#[test]
fn what_has_its_reason_in_one_cluster_says_nothing_of_another() {
    let topology = chart(&[("pay", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let db = about(&[("service", "db"), ("cluster", "eu")], "ReplicationLag", "critical", 0);
    let eu = take(&mut correlator, &db, &topology);
    assert_eq!(take(&mut correlator, &pay("eu", 20), &topology), eu);
    assert_ne!(take(&mut correlator, &pay("us", 40), &topology), eu);
}

#[test]
fn two_incidents_of_one_service_become_one() {
    let topology = chart(&[("door", "pay")]);
    let mut correlator = Correlator::new(Rules::default());
    let door = |cluster, second| about(&[("service", "door"), ("cluster", cluster)], "Slow", "critical", second);
    let eu = take(&mut correlator, &pay("eu", 0), &topology);
    let us = take(&mut correlator, &door("us", 10), &topology);
    assert_ne!(eu, us);
    // It takes the place of the door that needs it, and is the same service as in the other cluster.
    take(&mut correlator, &pay("us", 30), &topology);
    let merges = correlator.merges();
    let [merge] = &*merges else { panic!("{merges:?}") };
    assert_eq!((Some(merge.into.to_string()), Some(merge.from.to_string())), (eu, us));
    assert_eq!(merge.because, "pay is ill in eu and in us");
}

#[test]
fn a_region_stands_for_the_cluster_that_an_alert_does_not_name() {
    let topology = chart(&[("door-web", "pay")]);
    let mut correlator = Correlator::new(Rules::default());
    let labels = [("service", "pay"), ("cluster", "asia-1"), ("region", "asia")];
    let first = take(&mut correlator, &about(&labels, "HighErrorRate", "critical", 0), &topology);
    let db = about(&[("service", "db"), ("cluster", "eu-1"), ("region", "europe")], "Slow", "warning", 10);
    take(&mut correlator, &db, &topology);
    let site = ("instance", "https://door.example.com/healthz");
    let probe = about(&[site, ("region", "asia"), ("job", "blackbox")], "ProbeFailed", "critical", 30);
    assert_eq!(take(&mut correlator, &probe, &topology), first);
    assert_eq!((correlator.about(&probe), correlator.cluster(&probe)), ("door-web".into(), "asia-1".into()));
}

#[test]
fn a_machine_that_works_hard_explains_nothing_by_that() {
    let topology = chart(&[("pay", "worker-3"), ("door", "pay")]);
    let machine = |name, second| about(&[("node", "worker-3")], name, "critical", second);
    let mut correlator = Correlator::new(Rules::default());
    let busy = take(&mut correlator, &machine("NodeHighLoad", 0), &topology);
    assert_ne!(take(&mut correlator, &pay("default", 30), &topology), busy);
    let mut correlator = Correlator::new(Rules::default());
    let gone = take(&mut correlator, &machine("NodeNotReady", 0), &topology);
    // What else is said of it afterwards brings it back no more than anything does.
    take(&mut correlator, &machine("NodeFilesystemFull", 10), &topology);
    assert_eq!(take(&mut correlator, &pay("default", 30), &topology), gone);
    // Heard of second, it takes nobody in either.
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &pay("default", 0), &topology);
    assert_ne!(take(&mut correlator, &machine("NodeHighLoad", 30), &topology), first);
    assert_eq!(take(&mut correlator, &machine("InstanceDown", 60), &topology), first, "but what is gone does");
}

#[test]
fn equal_names_of_machines_in_two_clusters_say_nothing() {
    let topology = chart(&[]);
    let mut correlator = Correlator::new(Rules::default());
    let machine =
        |cluster, name, second| about(&[("node", "worker-1"), ("cluster", cluster)], name, "critical", second);
    let eu = take(&mut correlator, &machine("eu", "NodeDiskFull", 0), &topology);
    assert_ne!(take(&mut correlator, &machine("us", "NodeMemoryHigh", 60), &topology), eu);
    // Nor does what names nothing but itself.
    let watchdog = |cluster, second| about(&[("cluster", cluster)], "SomethingFailed", "critical", second);
    let eu = take(&mut correlator, &watchdog("eu", 100), &topology);
    assert_ne!(take(&mut correlator, &watchdog("us", 110), &topology), eu);
}

#[test]
fn what_a_merged_incident_gathered_goes_where_it_went() {
    let topology = chart(&[("door", "pay")]);
    let mut correlator = Correlator::new(Rules::default());
    let heard = |alert: &Alert, name: &'static str| Heard {
        fingerprint: alert.fingerprint,
        cluster: "default",
        subject: "door",
        name,
        at: alert.starts_at,
        critical: false,
    };
    // Warnings only, so that nothing critical takes pay in.
    let opener = alert("door", "QueueLong", "warning", 20);
    let first = IncidentId::numbered(1);
    correlator.opened(&first, opener.starts_at);
    correlator.joined(&first, heard(&opener, "QueueLong"), &topology);
    let first = Some(first.to_string());
    let waits = alert("pay", "Slow", "warning", 60);
    assert_eq!(take(&mut correlator, &waits, &topology), None);
    take(&mut correlator, &alert("pay", "Crashed", "critical", 90), &topology);
    assert_eq!(correlator.merges().len(), 1);
    assert_eq!(correlator.incident_of(waits.fingerprint).map(ToString::to_string), first);
    assert_eq!(correlator.load(), (1, 0), "nothing waits any more");
    let name = correlator.incident_of(waits.fingerprint).cloned().unwrap();
    correlator.closed(&name);
    assert!(correlator.keys.is_empty() && correlator.redirect.is_empty() && correlator.member.is_empty());
}
