//! What many have in common that no topology says: name resolution, and trouble of one kind at once; and
//! warnings that add up.

use super::tests::{alert, chart, take};
use super::*;

fn warns(service: &str, name: &str, second: i64) -> Alert {
    alert(service, name, "warning", second)
}

fn fails(service: &str, name: &str, second: i64) -> Alert {
    alert(service, name, "critical", second)
}

fn placed(correlator: &mut Correlator, alert: &Alert, topology: &Arc<Topology>) -> String {
    match correlator.place(&Reading::of(alert), topology) {
        Placement::Join { why, .. } => why.to_string(),
        Placement::Open { because, .. } | Placement::Wait { because } => because.to_string(),
    }
}

#[test]
fn warnings_of_several_kinds_explain_who_needs_it() {
    let topology = chart(&[("door", "pay"), ("pay", "tax")]);
    let mut correlator = Correlator::new(Rules::default());
    take(&mut correlator, &warns("tax", "Slow", 0), &topology);
    take(&mut correlator, &warns("tax", "Errors", 10), &topology);
    // Two may be about nothing.
    assert!(placed(&mut correlator, &warns("pay", "Slow", 15), &topology).contains("waits for company"));
    let tax = take(&mut correlator, &warns("tax", "Timeouts", 20), &topology);
    assert!(tax.is_some());
    assert_eq!(take(&mut correlator, &warns("pay", "Errors", 40), &topology), tax);
    // It passes through pay.
    assert_eq!(take(&mut correlator, &warns("door", "Slow", 60), &topology), tax);
    // One kind about many instances is one kind.
    let mut correlator = Correlator::new(Rules::default());
    let one = |instance: &str, second| {
        let mut alert = warns("tax", "Slow", second);
        alert.labels.insert("instance".into(), instance.into());
        alert.fingerprint = Fingerprint::of(&alert.labels);
        alert
    };
    for (number, instance) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
        take(&mut correlator, &one(instance, number as i64), &topology);
    }
    assert_eq!(take(&mut correlator, &warns("pay", "Errors", 40), &topology), None);
}

#[test]
fn who_turns_critical_late_stays_with_what_it_suffers_from() {
    let topology = chart(&[("pay", "tax"), ("pay", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let tax = take(&mut correlator, &fails("tax", "Errors", 0), &topology);
    assert_eq!(take(&mut correlator, &warns("pay", "Slow", 30), &topology), tax);
    // Too long after the beginning for tax alone, and nothing else has happened.
    assert_eq!(take(&mut correlator, &fails("pay", "BudgetBurn", 560), &topology), tax);
    // Where something newer explains it, that counts.
    let mut correlator = Correlator::new(Rules::default());
    let tax = take(&mut correlator, &fails("tax", "Errors", 0), &topology);
    assert_eq!(take(&mut correlator, &warns("pay", "Slow", 30), &topology), tax);
    let db = take(&mut correlator, &fails("db", "Down", 530), &topology);
    assert_ne!(db, tax);
    assert_eq!(take(&mut correlator, &fails("pay", "BudgetBurn", 560), &topology), db);
    // Nor does what is broken in itself suffer.
    let mut correlator = Correlator::new(Rules::default());
    let tax = take(&mut correlator, &fails("tax", "Errors", 0), &topology);
    take(&mut correlator, &warns("pay", "Slow", 30), &topology);
    assert_ne!(take(&mut correlator, &fails("pay", "OomKilled", 560), &topology), tax);
}

#[test]
fn four_that_crash_within_a_minute_crash_together() {
    let topology = chart(&[("a1", "b1"), ("a2", "b2"), ("a3", "b3"), ("a4", "b4"), ("a5", "b5")]);
    let mut correlator = Correlator::new(Rules::default());
    let first: Vec<_> = ["a1", "a2", "a3"]
        .iter()
        .enumerate()
        .map(|(number, service)| take(&mut correlator, &fails(service, "CrashLooping", number as i64), &topology))
        .collect();
    assert_ne!(first[0], first[1]);
    let fourth = fails("a4", "CrashLooping", 5);
    let why = placed(&mut correlator, &fourth, &topology);
    assert!(why.starts_with("the same alert is about a4, a1 and others of the cluster within a minute"), "{why}");
    assert_eq!(correlator.incident_of(fourth.fingerprint).map(ToString::to_string), first[0]);
    // Other trouble, another environment and another minute are something else.
    let mut other = fails("a5", "CrashLooping", 6);
    other.labels.insert("env".into(), "staging".into());
    other.fingerprint = Fingerprint::of(&other.labels);
    for alone in [fails("a5", "DiskFull", 6), other, fails("a5", "CrashLooping", 70)] {
        assert!(placed(&mut correlator, &alone, &topology).contains("nothing that it needs"), "{alone:?}");
        correlator.member.remove(&alone.fingerprint);
    }
}

#[test]
fn what_may_suffer_from_several_takes_twice_as_many() {
    let edges: Vec<(String, String)> = (0..9).map(|number| (format!("a{number}"), format!("b{number}"))).collect();
    let edges: Vec<(&str, &str)> = edges.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let topology = chart(&edges);
    let mut correlator = Correlator::new(Rules::default());
    let mut at = |number: usize| take(&mut correlator, &fails(edges[number].0, "ErrorRate", number as i64), &topology);
    let seven: std::collections::BTreeSet<_> = (0..7).map(&mut at).collect();
    assert_eq!(seven.len(), 7);
    assert!(seven.contains(&at(7)));
}

#[test]
fn what_cannot_resolve_names_is_one_story() {
    let topology = chart(&[("shop", "cart"), ("bank", "ledger")]);
    let mut correlator = Correlator::new(Rules::default());
    // It was noticed before the resolver was.
    let cart = take(&mut correlator, &fails("cart", "Errors", 0), &topology);
    let dns = take(&mut correlator, &fails("coredns", "CoreDNSErrorsHigh", 20), &topology);
    let merges = correlator.merges();
    let [merge] = &*merges else { panic!("{merges:?}") };
    assert_eq!((Some(merge.into.to_string()), Some(merge.from.to_string())), (cart.clone(), dns));
    assert_eq!(
        merge.because,
        "alerts about coredns say that names are not resolved in the cluster, and all of it needs that"
    );
    let ledger = fails("ledger", "Errors", 60);
    let why = placed(&mut correlator, &ledger, &topology);
    assert!(
        why.starts_with("alerts about coredns say that names are not resolved in the cluster, and ledger needs that"),
        "{why}"
    );
    assert_eq!(take(&mut correlator, &fails("bank", "Slow", 80), &topology), cart);
    // A full disk has another reason; so has what comes later, and what is elsewhere.
    assert_ne!(take(&mut correlator, &fails("store", "DiskFull", 90), &topology), cart);
    assert_ne!(take(&mut correlator, &fails("late", "Errors", 400), &topology), cart);
    let mut staging = fails("ledger", "Errors", 70);
    staging.labels.insert("env".into(), "staging".into());
    staging.fingerprint = Fingerprint::of(&staging.labels);
    assert_ne!(take(&mut correlator, &staging, &topology), cart);
}

#[test]
fn an_incident_that_began_before_or_has_a_cause_of_its_own_is_not_taken_over_by_the_resolver() {
    let topology = chart(&[("shop", "cart")]);
    for (began, name) in [(0, "Errors"), (100, "DiskFull")] {
        let mut correlator = Correlator::new(Rules::default());
        let cart = take(&mut correlator, &fails("cart", name, began), &topology);
        assert_ne!(take(&mut correlator, &fails("coredns", "CoreDNSErrorsHigh", 110), &topology), cart);
        assert_eq!(correlator.merges(), [], "{name}");
    }
}

#[test]
fn many_that_complain_about_names_say_so_together() {
    let topology = chart(&[("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]);
    let mut correlator = Correlator::new(Rules::default());
    for (number, service) in ["a", "c", "e"].iter().enumerate() {
        assert_eq!(take(&mut correlator, &warns(service, "DNSLookupFailures", 40 * number as i64), &topology), None);
    }
    let fourth = warns("g", "NameResolutionErrors", 150);
    let Placement::Open { because, gathers } = correlator.place(&Reading::of(&fourth), &topology) else {
        panic!("nothing opened")
    };
    assert_eq!(because.to_string(), "4 subjects of the cluster cannot resolve names within 5 min");
    assert_eq!(gathers.len(), 3);
    // Three, or such that write names for others, are none of it.
    let mut correlator = Correlator::new(Rules::default());
    for service in ["a", "c", "e", "external-dns"] {
        let name = if service == "external-dns" { "SyncFailing" } else { "DNSLookupFailures" };
        assert_eq!(take(&mut correlator, &warns(service, name, 0), &topology), None);
    }
}

#[test]
fn that_names_were_not_resolved_yesterday_explains_nothing_today() {
    let topology = chart(&[("a", "b"), ("c", "d"), ("e", "f"), ("pay", "h")]);
    let mut correlator = Correlator::new(Rules::default());
    for service in ["a", "c", "e"] {
        take(&mut correlator, &warns(service, "DNSLookupFailures", 0), &topology);
    }
    let monday = take(&mut correlator, &warns("pay", "DNSLookupFailures", 10), &topology).expect("an incident");
    // Who complains while it lasts is part of it.
    let late = warns("late", "DNSLookupFailures", 500);
    assert_eq!(take(&mut correlator, &late, &topology), Some(monday.clone()));
    correlator.closed(&IncidentId::new(monday));
    let day = 86_400;
    let search = take(&mut correlator, &fails("search", "Errors", day), &topology);
    let pay = take(&mut correlator, &fails("pay", "Errors", day + 60), &topology);
    let ledger = take(&mut correlator, &fails("ledger", "Slow", day + 120), &topology);
    assert!(search != pay && pay != ledger && correlator.merges().is_empty());
}

#[test]
fn people_who_split_a_service_from_the_resolver_are_heard() {
    let topology = chart(&[("shop", "cart")]);
    for (cart, dns) in [(0, 20), (20, 0)] {
        let mut correlator = Correlator::new(Rules::default());
        let of = |subject: &str| Kind { cluster: "default".into(), subject: subject.into(), name: "Errors".into() };
        correlator.taught(&Lesson::Apart { a: of("cart"), b: of("coredns") });
        let mut placed = [("cart", "Errors", cart), ("coredns", "CoreDNSErrorsHigh", dns)];
        placed.sort_by_key(|one| one.2);
        let [first, second] =
            placed.map(|(service, name, at)| take(&mut correlator, &fails(service, name, at), &topology));
        assert_ne!(first, second);
        assert_eq!(correlator.merges(), []);
    }
}

#[test]
fn what_was_ill_long_ago_is_no_reason() {
    let topology = chart(&[("pay", "tax"), ("shop", "tax"), ("till", "tax")]);
    let mut correlator = Correlator::new(Rules::default());
    let tax = take(&mut correlator, &fails("tax", "Errors", 0), &topology);
    assert_eq!(take(&mut correlator, &warns("pay", "Slow", 30), &topology), tax);
    for (number, name) in ["Slow", "Errors", "Timeouts", "Retries"].iter().enumerate() {
        let at = 60 + 400 * number as i64;
        take(&mut correlator, &warns("shop", name, at), &topology);
    }
    assert_ne!(take(&mut correlator, &fails("pay", "ErrorRate", 1500), &topology), tax);
}

#[test]
fn who_suffers_from_something_known_makes_no_crowd() {
    let names: Vec<String> = (0..9).map(|number| format!("s{number}")).collect();
    let edges: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "db")).chain([("x", "b1"), ("y", "b2")]).collect();
    let topology = chart(&edges);
    let mut correlator = Correlator::new(Rules::default());
    let db = take(&mut correlator, &fails("db", "Down", 0), &topology);
    for name in &names {
        assert_eq!(take(&mut correlator, &fails(name, "HighErrorRate", 5), &topology), db);
    }
    let x = take(&mut correlator, &fails("x", "HighErrorRate", 12), &topology);
    let y = take(&mut correlator, &fails("y", "HighErrorRate", 13), &topology);
    assert!(x != y && x != db && y != db);
}

#[test]
fn a_complaint_that_waited_goes_home_to_the_resolver() {
    let mut correlator = Correlator::new(Rules::default());
    let topology = chart(&[("a", "b")]);
    let complaint = warns("a", "DNSLookupFailures", 0);
    assert_eq!(take(&mut correlator, &complaint, &topology), None);
    let other = warns("c", "Slow", 0);
    assert_eq!(take(&mut correlator, &other, &topology), None);
    let dns = take(&mut correlator, &fails("coredns", "CoreDNSErrorsHigh", 120), &topology);
    let home = |alert: &Alert| correlator.home(alert.fingerprint).map(|(incident, _)| incident.to_string());
    assert_eq!(home(&complaint), dns);
    assert_eq!(home(&other), None);
}

#[test]
fn what_has_gone_over_to_another_incident_is_not_taken_along_by_a_merge() {
    let topology = chart(&[("pay", "tax"), ("pay", "db"), ("tax", "ldap")]);
    let mut correlator = Correlator::new(Rules::default());
    let tax = take(&mut correlator, &fails("tax", "Errors", 0), &topology);
    assert_eq!(take(&mut correlator, &warns("pay", "Slow", 20), &topology), tax);
    // It proves to be ill because of the database.
    let db = take(&mut correlator, &fails("db", "DiskFull", 140), &topology);
    assert_eq!(take(&mut correlator, &fails("pay", "Errors", 150), &topology), db);
    let ldap = alert("ldap", "Down", "critical", 200);
    let ldap = take(&mut correlator, &ldap, &topology);
    assert_eq!(ldap, tax);
    correlator.opened(&IncidentId::new("INC-older".to_owned()), Timestamp::from_secs(1));
    let (tax, older) = (tax.expect("placed"), *correlator.keys.get(&IncidentId::new("INC-older".to_owned())).unwrap());
    let from = *correlator.keys.get(&IncidentId::new(tax)).unwrap();
    correlator.merge(from, older, String::new());
    assert_eq!(take(&mut correlator, &warns("pay", "Timeouts", 210), &topology), db);
}

#[test]
fn two_that_need_each_other_elsewhere_are_none_of_the_resolvers() {
    let topology = chart(&[("a", "b"), ("b", "a")]);
    let mut correlator = Correlator::new(Rules::default());
    let staged = |service: &str, second| {
        let mut alert = fails(service, "Errors", second);
        alert.labels.insert("env".into(), "staging".into());
        alert.fingerprint = Fingerprint::of(&alert.labels);
        alert
    };
    let staging = take(&mut correlator, &staged("a", 0), &topology);
    assert_eq!(take(&mut correlator, &staged("b", 10), &topology), staging);
    assert_ne!(take(&mut correlator, &fails("coredns", "CoreDNSErrorsHigh", 200), &topology), staging);
    assert_eq!(correlator.merges(), []);
}
