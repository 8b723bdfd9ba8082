//! Alerts of senders that name neither cluster nor service, and those that blame somebody.

use super::tests::{chart, take};
use super::*;
use crate::domain::alert::Labels;

const NOW: i64 = 1_795_000_000;

fn said(labels: &[(&str, &str)], summary: &str, second: i64) -> Alert {
    let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let labels: Labels = labels.iter().map(text).collect();
    let mut alert = Alert::firing(labels, Timestamp::from_secs(NOW + second));
    alert.annotations.insert("summary".into(), summary.into());
    alert
}

fn down(cluster: Option<&str>, service: &str, second: i64) -> Alert {
    let named = [("alertname", "Down"), ("service", service), ("severity", "critical")];
    let labels: Vec<_> = named.into_iter().chain(cluster.map(|name| ("cluster", name))).collect();
    said(&labels, "", second)
}

#[test]
fn who_names_no_cluster_speaks_of_the_only_one() {
    let topology = chart(&[("door", "pay"), ("pay", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &down(None, "db", 0), &topology);
    assert_eq!(take(&mut correlator, &down(Some("eu"), "pay", 20), &topology), first);
    assert_eq!(take(&mut correlator, &down(None, "door", 40), &topology), first);
    assert_eq!(correlator.cluster(&down(None, "door", 40)), "eu");
    // Another cluster is another estate.
    let other = take(&mut correlator, &down(Some("us"), "pay", 50), &topology);
    assert_ne!(other, first);
    let staging =
        said(&[("alertname", "Down"), ("service", "pay"), ("severity", "critical"), ("env", "staging")], "", 60);
    assert_ne!(take(&mut correlator, &staging, &topology), first);
}

#[test]
fn among_several_clusters_the_one_counts_where_the_subject_is_known() {
    let topology = chart(&[("pay", "db"), ("door", "cart")]);
    let mut correlator = Correlator::new(Rules::default());
    let eu = take(&mut correlator, &down(Some("eu"), "db", 0), &topology);
    let us = take(&mut correlator, &down(Some("us"), "cart", 5), &topology);
    assert_ne!(eu, us);
    let burns = |service| said(&[("alertname", "Burns"), ("service", service), ("severity", "critical")], "", 20);
    assert_eq!(take(&mut correlator, &burns("cart"), &topology), us);
    assert_eq!(take(&mut correlator, &burns("db"), &topology), eu);
}

#[test]
fn a_service_is_recognised_in_other_labels_machines_and_words() {
    let topology = chart(&[("door", "pay-api"), ("pay-api", "orders_db"), ("door", "SmsService")]);
    for (labels, summary) in [
        (vec![("project", "pay-api"), ("level", "critical")], ""),
        (vec![("TargetGroup", "targetgroup/pay-api/4624258e54"), ("severity", "critical")], ""),
        (vec![("host", "pay-api-02.example.com"), ("severity", "critical")], ""),
        (vec![("pod", "pay-api-40f3e49e-b494"), ("severity", "critical")], ""),
        (vec![("CacheClusterId", "prod-pay-api-0"), ("severity", "critical")], ""),
        (vec![("severity", "critical")], "pay-api: budget burns at 35x"),
        (vec![("instance", "10.8.2.7:9090"), ("severity", "critical")], "pay-api: budget burns at 35x"),
    ] {
        let mut correlator = Correlator::new(Rules::default());
        let named: Vec<_> = labels.iter().copied().chain([("alertname", "Odd")]).collect();
        let odd = said(&named, summary, 10);
        let (_, subject) = correlator.whereabouts(&Reading::of(&odd), &topology);
        assert_eq!(&*subject, "pay-api", "{labels:?} {summary}");
        let first = take(&mut correlator, &down(None, "pay-api", 0), &topology);
        assert_eq!(take(&mut correlator, &odd, &topology), first, "{labels:?} {summary}");
    }
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &down(None, "orders-db", 0), &topology);
    assert_eq!(take(&mut correlator, &down(None, "pay-api", 10), &topology), first);
    let kebab = said(&[("alertname", "Odd"), ("pod", "sms-service-0"), ("severity", "critical")], "", 20);
    let sms = take(&mut correlator, &kebab, &topology);
    assert_eq!(take(&mut correlator, &down(None, "SmsService", 30), &topology), sms);
    assert_ne!(sms, first);
}

#[test]
fn an_equal_name_of_another_environment_or_of_a_caller_is_not_taken_for_the_service() {
    let topology = chart(&[("door", "pay-api")]);
    for (labels, summary) in [
        (vec![("CacheClusterId", "staging-pay-api-0")], ""),
        (vec![("alertname", "staging-pay-api-UnHealthyHostCount")], ""),
        (vec![("host", "pay-api-dev-02.example.com")], ""),
        (vec![("client", "pay-api")], ""),
        (vec![("caller", "pay-api")], ""),
        (vec![], "pay-api in staging: budget burns"),
    ] {
        let mut correlator = Correlator::new(Rules::default());
        take(&mut correlator, &down(None, "pay-api", 0), &topology);
        let odd = [("alertname", "Odd"), ("severity", "critical")].into_iter().chain(labels.iter().copied());
        let odd = said(&odd.collect::<Vec<_>>(), summary, 10);
        let (_, subject) = correlator.whereabouts(&Reading::of(&odd), &topology);
        assert_ne!(&*subject, "pay-api", "{labels:?} {summary}");
    }
}

#[test]
fn an_address_is_the_service_that_was_heard_of_there() {
    let topology = chart(&[("door", "pay")]);
    let mut correlator = Correlator::new(Rules::default());
    let known = [("alertname", "Down"), ("service", "pay"), ("instance", "10.8.2.7:8080"), ("severity", "critical")];
    let first = take(&mut correlator, &said(&known, "", 0), &topology);
    let bare = said(&[("alertname", "Slow"), ("instance", "10.8.2.7:9090"), ("severity", "critical")], "", 10);
    assert_eq!(take(&mut correlator, &bare, &topology), first);
    assert_eq!(correlator.about(&bare), "pay");
}

#[test]
fn whom_an_alert_blames_counts_more_than_where_its_subject_is() {
    let topology = chart(&[("door", "pay"), ("door", "cart")]);
    let mut correlator = Correlator::new(Rules::default());
    let pay = take(&mut correlator, &down(None, "pay", 0), &topology);
    assert_eq!(take(&mut correlator, &down(None, "door", 20), &topology), pay);
    let cart = take(&mut correlator, &down(None, "cart", 30), &topology);
    assert_ne!(cart, pay);
    let labels = [("alertname", "Timeouts"), ("service", "door"), ("upstream", "cart"), ("severity", "warning")];
    let blames = said(&labels, "", 40);
    assert_eq!(take(&mut correlator, &blames, &topology), cart);
    // The subject itself stays where it was.
    let more = said(&[("alertname", "Slow"), ("service", "door"), ("severity", "critical")], "", 50);
    assert_eq!(take(&mut correlator, &more, &topology), pay);
}

#[test]
fn what_keeps_coming_back_keeps_an_incident_open_to_nothing_new() {
    let topology = chart(&[("door", "pay")]);
    let flaps = |second| said(&[("alertname", "Flaps"), ("service", "pay"), ("severity", "critical")], "", second);
    for (later, same) in [(400, true), (700, false)] {
        let mut correlator = Correlator::new(Rules::default());
        let first = take(&mut correlator, &flaps(0), &topology);
        for second in (100..later).step_by(100) {
            assert_eq!(take(&mut correlator, &flaps(second), &topology), first);
        }
        let new = take(&mut correlator, &down(None, "pay", later), &topology);
        assert_eq!(new == first, same, "{later} s later");
    }
}

#[test]
fn fresh_trouble_after_a_quiet_time_belongs_with_what_is_fresh() {
    let topology = chart(&[("door", "pay"), ("door", "cart")]);
    let slow = |second| said(&[("alertname", "Slow"), ("service", "door"), ("severity", "critical")], "", second);
    for (quiet, fresh) in [(20, false), (400, true)] {
        let mut correlator = Correlator::new(Rules::default());
        let pay = take(&mut correlator, &down(None, "pay", 0), &topology);
        assert_eq!(take(&mut correlator, &down(None, "door", 10), &topology), pay);
        let cart = take(&mut correlator, &down(None, "cart", 10 + quiet), &topology);
        assert_ne!(cart, pay);
        let now = take(&mut correlator, &slow(20 + quiet), &topology);
        assert_eq!(now, if fresh { cart } else { pay }, "after {quiet} quiet seconds");
    }
}

#[test]
fn what_is_gone_at_once_in_many_places_is_one_story() {
    let topology = chart(&[("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i", "j")]);
    let mut correlator = Correlator::new(Rules::default());
    for (number, service) in ["a", "c", "e", "g"].into_iter().enumerate() {
        take(&mut correlator, &down(None, service, number as i64), &topology);
    }
    assert!(correlator.merges().is_empty());
    let fifth = said(&[("alertname", "TargetMissing"), ("service", "i"), ("severity", "critical")], "", 8);
    take(&mut correlator, &fifth, &topology);
    assert_eq!((correlator.merges().len(), correlator.load().0), (4, 1));
}

#[test]
fn who_suffers_works_hard_without_a_fault_of_its_own() {
    let topology = chart(&[("pay", "db")]);
    let critical = |name, service| said(&[("alertname", name), ("service", service), ("severity", "critical")], "", 0);
    let warns = |name| said(&[("alertname", name), ("service", "pay"), ("severity", "warning")], "", 60);
    for (name, same) in [("HighCPU", true), ("ContainerRestarting", false)] {
        let mut correlator = Correlator::new(Rules::default());
        let first = take(&mut correlator, &critical("DiskFull", "db"), &topology);
        assert_eq!(take(&mut correlator, &critical("HighErrorRate", "pay"), &topology), first);
        assert_eq!(take(&mut correlator, &warns(name), &topology) == first, same, "{name}");
    }
}

#[test]
fn a_short_window_forgets_no_warning_before_it_may_speak_for_itself() {
    let topology = chart(&[("door", "pay")]);
    let rules = Rules { window: Duration::from_secs(60), ..Rules::default() };
    let mut correlator = Correlator::new(rules);
    let warns = said(&[("alertname", "Odd"), ("service", "pay"), ("severity", "warning")], "", 0);
    assert_eq!(take(&mut correlator, &warns, &topology), None);
    let other = said(&[("alertname", "Odd"), ("service", "far"), ("severity", "warning")], "", 605);
    assert_eq!(take(&mut correlator, &other, &topology), None);
    assert_eq!(correlator.overdue(Timestamp::from_secs(NOW + 605)), vec![warns.fingerprint]);
}

#[test]
fn chores_of_one_kind_are_one_message() {
    let topology = chart(&[("door", "pay"), ("shop", "cart")]);
    let mut correlator = Correlator::new(Rules::default());
    let warns =
        |name, service, second| said(&[("alertname", name), ("service", service), ("severity", "warning")], "", second);
    let all = [
        warns("CertificateExpiringSoon", "pay", 0),
        warns("CertificateExpiringSoon", "cart", 900),
        warns("CertificateExpiringSoon", "far", 5000),
        warns("SlowResponses", "near", 950),
    ];
    assert_eq!(take(&mut correlator, &all[0], &topology), None);
    let id = IncidentId::numbered(1);
    correlator.opened(&id, all[0].starts_at);
    let (fingerprint, name, at) = (all[0].fingerprint, all[0].name(), all[0].starts_at);
    let heard = Heard { fingerprint, cluster: "default", subject: "pay", name, at, critical: false };
    correlator.joined(&id, heard, &topology);
    correlator.lasts(&id, fingerprint);
    // Of the same kind; no chore; of the same kind, but long after.
    for (one, home) in [(&all[1], Some(id)), (&all[3], None), (&all[2], None)] {
        assert_eq!(take(&mut correlator, one, &topology), None);
        assert_eq!(correlator.home(one.fingerprint).map(|(id, _)| id), home, "{:?}", one.labels);
    }
}

#[test]
fn where_no_calls_are_known_many_that_are_gone_at_once_are_many() {
    let topology = chart(&[]);
    let mut correlator = Correlator::new(Rules::default());
    for (number, service) in ["alpha", "bravo", "carol", "delta", "foxtrot", "golf"].into_iter().enumerate() {
        take(&mut correlator, &down(None, service, number as i64), &topology);
    }
    assert_eq!((correlator.merges().len(), correlator.load().0), (0, 6));
}

#[test]
fn senders_whose_clocks_differ_speak_of_one_incident() {
    let topology = chart(&[("door", "pay")]);
    for (earlier, same) in [(660, true), (1_000, false)] {
        let mut correlator = Correlator::new(Rules::default());
        let first = take(&mut correlator, &down(None, "pay", 2_000), &topology);
        let slow = [("alertname", "Slow"), ("service", "pay"), ("severity", "critical")];
        let other = take(&mut correlator, &said(&slow, "", 2_000 - earlier), &topology);
        assert_eq!(other == first, same, "{earlier} s earlier");
    }
}

#[test]
fn who_turns_critical_after_warning_for_long_falls_ill_then() {
    let topology = chart(&[("pay", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let warns = said(&[("alertname", "Slow"), ("service", "pay"), ("severity", "warning")], "", 0);
    let id = IncidentId::numbered(1);
    correlator.opened(&id, warns.starts_at);
    let (fingerprint, at) = (warns.fingerprint, warns.starts_at);
    let heard = Heard { fingerprint, cluster: "default", subject: "pay", name: "Slow", at, critical: false };
    correlator.joined(&id, heard, &topology);
    assert_eq!(take(&mut correlator, &down(None, "pay", 400), &topology), Some(id.to_string()));
    // What it needs falls ill with it, not minutes after it.
    assert_eq!(take(&mut correlator, &down(None, "db", 500), &topology), Some(id.to_string()));
}
