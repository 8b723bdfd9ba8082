use super::*;
use crate::domain::alert::Labels;
use crate::domain::topology::EdgeKind;

const NOW: i64 = 1_795_000_000;

pub(super) fn alert(service: &str, name: &str, severity: &str, second: i64) -> Alert {
    let labels = Labels::from([
        ("alertname".into(), name.into()),
        ("service".into(), service.into()),
        ("severity".into(), severity.into()),
    ]);
    Alert::firing(labels, Timestamp::from_secs(NOW + second))
}

pub(super) fn chart(edges: &[(&str, &str)]) -> Arc<Topology> {
    let mut topology = Topology::default();
    for (from, to) in edges {
        topology.add_edge(from, to, EdgeKind::Calls);
    }
    Arc::new(topology)
}

/// Places the alert and names the incident that it opens.
pub(super) fn take(correlator: &mut Correlator, alert: &Alert, topology: &Arc<Topology>) -> Option<String> {
    match correlator.place(&Reading::of(alert), topology) {
        Placement::Join { incident, .. } => Some(incident.to_string()),
        Placement::Wait { .. } => None,
        Placement::Open { gathers, .. } => {
            let id = IncidentId::numbered(i64::from(correlator.next_key) + 1);
            correlator.opened(&id, alert.starts_at);
            let (cluster, subject) = correlator.whereabouts(&Reading::of(alert), topology);
            let (cluster, subject, at): (&str, &str, _) = (&cluster, &subject, alert.starts_at);
            let (fingerprint, name) = (alert.fingerprint, alert.name());
            let critical = alert.severity() == Severity::Critical;
            let heard = Heard { fingerprint, cluster, subject, name, at, critical };
            correlator.joined(&id, heard, topology);
            correlator.fell(fingerprint, at);
            for fingerprint in gathers {
                let Patient { name, subject, at, .. } = correlator.waiting(fingerprint).unwrap();
                let heard = Heard { fingerprint, cluster, subject: &subject, name: &name, at, critical: false };
                correlator.joined(&id, heard, topology);
            }
            Some(id.to_string())
        }
    }
}

#[test]
fn failure_travels_to_callers() {
    let topology = chart(&[("door", "a"), ("door", "b"), ("a", "db1"), ("b", "db2")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("db1", "Down", "critical", 0), &topology);
    assert_eq!(take(&mut correlator, &alert("a", "Errors", "critical", 40), &topology), first);
    assert_eq!(take(&mut correlator, &alert("door", "Errors", "warning", 80), &topology), first);
}

#[test]
fn within_one_application_failure_passes_through_what_is_silent() {
    let topology = chart(&[("auth-web", "auth-api"), ("auth-api", "auth-core"), ("shop", "auth-api")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("auth-core", "Errors", "critical", 0), &topology);
    assert_eq!(take(&mut correlator, &alert("auth-web", "Errors", "critical", 40), &topology), first);
    assert_ne!(take(&mut correlator, &alert("shop", "Errors", "critical", 60), &topology), first);
}

#[test]
fn a_common_caller_does_not_join_two_faults() {
    let topology = chart(&[("door", "a"), ("door", "b"), ("a", "db1"), ("b", "db2")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("a", "Errors", "critical", 0), &topology);
    assert_eq!(take(&mut correlator, &alert("door", "Errors", "critical", 30), &topology), first);
    let second = take(&mut correlator, &alert("b", "Errors", "critical", 60), &topology);
    assert!(second.is_some() && second != first);
    assert!(correlator.merges().is_empty());
}

#[test]
fn a_cause_that_speaks_last_makes_one_of_two() {
    let topology = chart(&[("a", "db"), ("b", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("a", "Errors", "critical", 0), &topology);
    let second = take(&mut correlator, &alert("b", "Errors", "critical", 20), &topology);
    assert_ne!(first, second);
    let third = take(&mut correlator, &alert("db", "Down", "critical", 45), &topology);
    assert_eq!(third, first);
    let merges = correlator.merges();
    assert_eq!(merges.len(), 1, "{merges:?}");
    assert_eq!(merges[0].into.to_string(), first.unwrap());
    let again = alert("b", "Errors", "critical", 20);
    assert_eq!(correlator.incident_of(again.fingerprint), Some(&merges[0].into));
}

#[test]
fn what_all_need_is_the_cause_even_when_it_is_silent() {
    let topology = chart(&[("a", "ext"), ("b", "ext"), ("c", "ext")]);
    let mut correlator = Correlator::new(Rules::default());
    for (at, service) in ["a", "b", "c"].iter().enumerate() {
        take(&mut correlator, &alert(service, "Errors", "critical", 10 * at as i64), &topology);
    }
    assert_eq!(correlator.load().0, 1);
}

#[test]
fn a_decision_is_not_pulled_from_under_people() {
    let topology = chart(&[("a", "db"), ("b", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("a", "Errors", "critical", 0), &topology).unwrap();
    let second = take(&mut correlator, &alert("b", "Errors", "critical", 20), &topology).unwrap();
    correlator.pin(&IncidentId::new(first));
    correlator.pin(&IncidentId::new(second));
    take(&mut correlator, &alert("db", "Down", "critical", 45), &topology);
    assert!(correlator.merges().is_empty());
}

#[test]
fn services_that_fall_at_once_with_a_machine_fell_with_it() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    let machine = |at| {
        let (name, node, severity) = ("KubeNodeNotReady", "worker-20", "critical");
        let labels = [("alertname", name), ("node", node), ("severity", severity)];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        Alert::firing(Labels::from(labels), Timestamp::from_secs(NOW + at))
    };
    let error = |service: &str, at| alert(service, "HTTPErrorRateHigh", "critical", at);
    take(&mut correlator, &error("search", 0), &topology);
    take(&mut correlator, &machine(20), &topology);
    take(&mut correlator, &error("ads", 30), &topology);
    assert!(correlator.merges().is_empty(), "two may fall by chance");
    // Broken in itself, and another that fell long after.
    take(&mut correlator, &alert("ledger", "DiskFull", "critical", 40), &topology);
    take(&mut correlator, &error("live", 45), &topology);
    let merges = correlator.merges();
    assert_eq!(merges.len(), 3, "{merges:?}");
    assert!(merges[0].because.ends_with("services fell at once with worker-20, and nothing else explains them"));
    assert_eq!(correlator.load().0, 2, "the disk is another story");
    take(&mut correlator, &error("mail", 20 + 200), &topology);
    assert_eq!(correlator.load().0, 3);
    assert!(correlator.merges().is_empty());
}

#[test]
fn neighbours_that_warn_as_long_are_one_story() {
    let topology = chart(&[("core", "rules"), ("door", "core"), ("late", "core")]);
    let mut correlator = Correlator::new(Rules::default());
    let warnings = [("core", 0), ("rules", 40), ("door", 90), ("other", 95), ("late", 500)];
    let warnings = warnings.map(|(service, at)| alert(service, "SlowResponses", "warning", at));
    for warning in &warnings[..4] {
        assert_eq!(take(&mut correlator, warning, &topology), None);
    }
    // The first is an incident of its own by now.
    let first = IncidentId::numbered(1);
    assert_eq!(correlator.home(warnings[0].fingerprint), None);
    correlator.opened(&first, warnings[0].starts_at);
    let (fingerprint, at) = (warnings[0].fingerprint, warnings[0].starts_at);
    let heard = Heard { fingerprint, cluster: "default", subject: "core", name: "SlowResponses", at, critical: false };
    correlator.joined(&first, heard, &topology);
    let home = |correlator: &Correlator, at: usize| correlator.home(warnings[at].fingerprint).map(|(id, _)| id);
    assert_eq!((home(&correlator, 1), home(&correlator, 2)), (Some(first.clone()), Some(first)));
    assert_eq!(home(&correlator, 3), None, "no neighbour");
    take(&mut correlator, &warnings[4], &topology);
    assert_eq!(home(&correlator, 4), None, "it began long after");
}

#[test]
fn a_warning_waits_and_is_gathered() {
    let topology = chart(&[("a", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let warning = alert("a", "Slow", "warning", 0);
    assert_eq!(take(&mut correlator, &warning, &topology), None);
    let opened = take(&mut correlator, &alert("db", "Down", "critical", 60), &topology);
    assert_eq!(correlator.incident_of(warning.fingerprint).map(ToString::to_string), opened);
}

#[test]
fn what_followed_before_follows_again() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    for day in 0..4 {
        let at = day * 86_400;
        let first = take(&mut correlator, &alert("mains", "PowerLoss", "critical", at), &topology).unwrap();
        let second = take(&mut correlator, &alert("cooling", "TooWarm", "critical", at + 60), &topology).unwrap();
        assert_eq!(first == second, day == 3, "day {day}");
        for id in [first, second] {
            correlator.closed(&IncidentId::new(id));
        }
    }
}

/// A store that only warns, and its caller that is critical 40 seconds later, as one incident or two.
fn store_and_caller(correlator: &mut Correlator, topology: &Arc<Topology>, pair: usize, second: i64) -> bool {
    let store = format!("store-{pair}");
    let mut warned = vec![];
    let mut opened = None;
    for instance in 0..6 {
        let mut warning = alert(&store, "Compaction", "warning", second);
        warning.labels.insert("instance".into(), format!("{store}-{instance}"));
        warning.fingerprint = Fingerprint::of(&warning.labels);
        warned.push(warning.fingerprint);
        if let Placement::Open { .. } = correlator.place(&Reading::of(&warning), topology) {
            let id = IncidentId::numbered(i64::from(correlator.next_key) + 1);
            correlator.opened(&id, warning.starts_at);
            for fingerprint in &warned {
                let (cluster, name, at) = (warning.cluster(), "Compaction", warning.starts_at);
                let heard = Heard { fingerprint: *fingerprint, cluster, subject: &store, name, at, critical: false };
                correlator.joined(&id, heard, topology);
            }
            opened = Some(id.to_string());
        }
    }
    let caller = take(correlator, &alert(&format!("api-{pair}"), "Stalls", "critical", second + 40), topology);
    assert!(opened.is_some());
    opened == caller
}

#[test]
fn which_kind_leads_which_is_learned_for_all_services() {
    let pairs: Vec<(String, String)> = (0..9).map(|pair| (format!("api-{pair}"), format!("store-{pair}"))).collect();
    let edges: Vec<(&str, &str)> = pairs.iter().map(|(api, store)| (api.as_str(), store.as_str())).collect();
    let topology = chart(&edges);
    let mut correlator = Correlator::new(Rules::default());
    assert!(!store_and_caller(&mut correlator, &topology, 0, 0), "a warning explains too little by itself");
    for pair in 1..8 {
        let at = pair as i64 * 86_400;
        // Here it is plain what belongs together.
        let store = take(&mut correlator, &alert(&pairs[pair].1, "Compaction", "critical", at), &topology);
        assert_eq!(take(&mut correlator, &alert(&pairs[pair].0, "Stalls", "critical", at + 30), &topology), store);
    }
    assert!(store_and_caller(&mut correlator, &topology, 8, 9 * 86_400));
}

#[test]
fn a_kind_that_comes_first_as_often_as_last_leads_nothing() {
    let mut order = order::Order::default();
    let (slow, down): (Arc<str>, Arc<str>) = ("Slow".into(), "Down".into());
    for day in 0..20 {
        let (first, second) = if day % 2 == 0 { (&slow, &down) } else { (&down, &slow) };
        let at = Timestamp::from_secs(NOW + day * 86_400);
        order.began(first, at, std::iter::empty());
        order.began(second, at + Duration::from_secs(30), std::iter::once((first, at)));
    }
    assert_eq!((order.leads("Slow", "Down"), order.leads("Down", "Slow")), (0.0, 0.0));
}

#[test]
fn what_is_broken_in_itself_is_a_fault_of_its_own() {
    let topology = chart(&[("door", "a"), ("a", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("db", "DiskFull", "critical", 0), &topology);
    let second = take(&mut correlator, &alert("a", "PodCrashLooping", "critical", 40), &topology);
    assert!(second.is_some() && second != first);
    assert!(correlator.merges().is_empty());
}

#[test]
fn instances_are_their_service_and_numbers_are_not_instances() {
    let topology = chart(&[("pay_api", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("pay-api-02.prod.example.com", "Down", "critical", 0), &topology);
    assert_eq!(take(&mut correlator, &alert("pay_api", "Errors", "critical", 20), &topology), first);
    let one = take(&mut correlator, &alert("host-1", "Down", "critical", 30), &topology);
    let other = take(&mut correlator, &alert("host-2", "Down", "critical", 40), &topology);
    assert_ne!(one, other);
}

#[test]
fn relatives_fall_together_where_no_calls_are_known() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("booking-mysql", "Down", "critical", 0), &topology);
    assert_eq!(take(&mut correlator, &alert("booking-api", "HighErrorRate", "critical", 90), &topology), first);
    let crash = take(&mut correlator, &alert("booking-worker", "PodCrashLooping", "critical", 100), &topology);
    assert_ne!(crash, first);
}
