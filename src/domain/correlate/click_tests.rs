//! Clicks and blame: what people teach, and what alerts say of others.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::tests::{alert, chart, take};
use super::*;

fn id(text: &Option<String>) -> IncidentId {
    IncidentId::new(text.clone().expect("placed"))
}

fn with_text(mut alert: Alert, text: &str) -> Alert {
    alert.annotations.insert("summary".into(), text.into());
    alert
}

fn check_reason(correlator: &mut Correlator, alert: &Alert, topology: &Arc<Topology>, expected: Expect) {
    match correlator.place(&Reading::of(alert), topology) {
        Placement::Join { why, .. } => expected.assert_eq(&why.to_string()),
        Placement::Open { because, .. } | Placement::Wait { because } => expected.assert_eq(&because.to_string()),
    }
}

#[test]
fn without_a_topology_an_alert_joins_whom_it_blames() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    take(&mut correlator, &alert("ledger", "Down", "critical", 0), &topology);
    let other = take(&mut correlator, &alert("mail", "Down", "critical", 10), &topology);
    let blames = with_text(alert("cart", "Errors", "critical", 40), "cart: errors calling ledger: connection refused");
    check_reason(
        &mut correlator,
        &blames,
        &topology,
        expect![
            "cart needs ledger, which is part of the incident; 40 s apart (time 1.00, topology 0.97, pattern 0.00, order 0.00: together 0.97)"
        ],
    );
    assert_ne!(correlator.incident_of(blames.fingerprint).map(ToString::to_string), other);
}

#[test]
fn two_that_blame_the_same_silent_one_are_one_story() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    let first = with_text(alert("cart", "Errors", "critical", 0), "cart: errors calling ledger-db: timeout");
    let first = take(&mut correlator, &first, &topology);
    let second = with_text(alert("mail", "Errors", "critical", 30), "mail: errors calling ledger-db: timeout");
    assert_eq!(take(&mut correlator, &second, &topology), first);
}

#[test]
fn of_two_callees_the_one_that_just_fell_explains() {
    let topology = chart(&[("cart", "a"), ("cart", "b")]);
    let mut correlator = Correlator::new(Rules::default());
    take(&mut correlator, &alert("a", "Down", "critical", 0), &topology);
    let near = take(&mut correlator, &alert("b", "Down", "critical", 260), &topology);
    assert_eq!(take(&mut correlator, &alert("cart", "Errors", "critical", 300), &topology), near);
}

#[test]
fn staging_is_another_estate() {
    let topology = chart(&[("cart", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let first = take(&mut correlator, &alert("db", "Down", "critical", 0), &topology);
    let mut staged = alert("cart", "Errors", "critical", 30);
    staged.labels.insert("env".into(), "staging".into());
    staged.fingerprint = Fingerprint::of(&staged.labels);
    assert!(matches!(correlator.place(&Reading::of(&staged), &topology), Placement::Open { .. }));
    assert_eq!(take(&mut correlator, &alert("cart", "Errors", "critical", 40), &topology), first);
}

#[test]
fn a_merge_by_click_is_done_again_without_one() {
    let topology = Arc::new(Topology::default());
    let mut correlator = Correlator::new(Rules::default());
    let day = |correlator: &mut Correlator, at: i64| {
        let first = take(correlator, &alert("mains", "PowerLoss", "critical", at), &topology);
        let second = take(correlator, &alert("cooling", "TooWarm", "critical", at + 60), &topology);
        (first, second)
    };
    let (first, second) = day(&mut correlator, 0);
    assert_ne!(first, second);
    let lessons = correlator.merge_by_person(&id(&second), &id(&first)).expect("both are open");
    assert!(matches!(lessons.as_slice(), [Lesson::Together { .. }]), "{lessons:?}");
    assert!(correlator.merge_by_person(&id(&second), &id(&first)).is_none());
    correlator.closed(&id(&first));
    let (first, second) = day(&mut correlator, 86_400);
    assert_eq!(first, second);

    // The lesson alone, told after a restart, does the same.
    let mut fresh = Correlator::new(Rules::default());
    lessons.iter().for_each(|lesson| fresh.taught(lesson));
    let (first, second) = day(&mut fresh, 2 * 86_400);
    assert_eq!(first, second);
}

#[test]
fn a_split_by_click_holds_and_is_learned() {
    let topology = chart(&[("cart", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let (db, cart) = (alert("db", "Slow", "critical", 0), alert("cart", "Errors", "critical", 30));
    let first = take(&mut correlator, &db, &topology);
    assert_eq!(take(&mut correlator, &cart, &topology), first);
    let new = IncidentId::numbered(900);
    let lessons = correlator.split_by_person(&id(&first), &[cart.fingerprint], &new).expect("something moves");
    assert!(matches!(lessons.as_slice(), [Lesson::Apart { .. }]), "{lessons:?}");
    assert_eq!(correlator.incident_of(cart.fingerprint), Some(&new));
    assert_eq!(correlator.incident_of(db.fingerprint), Some(&id(&first)));
    let more = alert("cart", "Latency", "critical", 60);
    assert_eq!(take(&mut correlator, &more, &topology).as_deref(), Some("INC-900"));
    take(&mut correlator, &alert("db", "Down", "critical", 70), &topology);
    assert!(correlator.merges().is_empty());
    correlator.closed(&new);
    correlator.closed(&id(&first));
    let first = take(&mut correlator, &alert("db", "Slow", "critical", 86_400), &topology);
    assert_ne!(take(&mut correlator, &alert("cart", "Errors", "critical", 86_430), &topology), first);
}

#[test]
fn nothing_is_split_from_what_it_is_not_part_of() {
    let topology = chart(&[("cart", "db")]);
    let mut correlator = Correlator::new(Rules::default());
    let db = alert("db", "Slow", "critical", 0);
    let first = take(&mut correlator, &db, &topology);
    let new = IncidentId::numbered(900);
    let stranger = alert("mail", "Down", "critical", 0).fingerprint;
    assert!(correlator.split_by_person(&id(&first), &[stranger], &new).is_none());
    assert!(correlator.split_by_person(&id(&first), &[db.fingerprint], &new).is_none());
    assert_eq!(correlator.load().0, 1);
}

#[derive(Debug, Clone)]
enum Step {
    Alert { service: u8, name: u8, critical: bool, at: i64 },
    Merge(u8, u8),
    Split(u8, u8),
    Close(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8_u8, 0..3_u8, any::<bool>(), 0..2_000_i64)
            .prop_map(|(service, name, critical, at)| Step::Alert { service, name, critical, at }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Merge(a, b)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Step::Split(a, b)),
        1 => any::<u8>().prop_map(Step::Close),
    ]
}

/// Runs the steps; says where each fingerprint is at the end, and checks P2 after each step.
fn live(steps: &[Step]) -> BTreeMap<Fingerprint, String> {
    let topology = chart(&[("s0", "s1"), ("s1", "s2"), ("s3", "s2"), ("s4", "s5"), ("s0", "s4"), ("s6", "s5")]);
    let mut correlator = Correlator::new(Rules::default());
    let mut seen: Vec<Fingerprint> = vec![];
    for (number, step) in steps.iter().enumerate() {
        let mut open: Vec<IncidentId> = correlator.open.values().map(|open| open.id.clone()).collect();
        open.sort();
        let some = |at: u8| open.get(usize::from(at) % open.len().max(1)).cloned();
        match step {
            Step::Alert { service, name, critical, at } => {
                let severity = if *critical { "critical" } else { "warning" };
                let alert = alert(&format!("s{service}"), &format!("n{name}"), severity, *at);
                seen.push(alert.fingerprint);
                take(&mut correlator, &alert, &topology);
            }
            Step::Merge(a, b) => {
                if let (Some(a), Some(b)) = (some(*a), some(*b)) {
                    correlator.merge_by_person(&a, &b);
                }
            }
            Step::Split(a, mask) => {
                if let Some(a) = some(*a) {
                    let some = seen.iter().enumerate().filter(|(at, _)| mask >> (at % 8) & 1 == 1);
                    let moves: Vec<Fingerprint> = some.map(|(_, one)| *one).collect();
                    correlator.split_by_person(&a, &moves, &IncidentId::numbered(10_000 + number as i64));
                }
            }
            Step::Close(a) => {
                if let Some(a) = some(*a) {
                    correlator.closed(&a);
                }
            }
        }
        let mut members: Vec<Fingerprint> = vec![];
        for (key, open) in &correlator.open {
            for member in &open.members {
                assert_eq!(correlator.member.get(member).map(|place| correlator.resolve(place.key)), Some(*key));
            }
            members.extend(&open.members);
        }
        let count = members.len();
        members.sort_unstable();
        members.dedup();
        assert_eq!(members.len(), count, "a fingerprint is in two open incidents");
    }
    seen.iter().filter_map(|one| Some((*one, correlator.incident_of(*one)?.to_string()))).collect()
}

proptest! {
    #[test]
    fn one_fingerprint_is_in_one_open_incident_whatever_people_click(steps in prop::collection::vec(step(), 0..60)) {
        prop_assert_eq!(live(&steps), live(&steps));
    }
}

/// Draws that failed once: who waited elsewhere was in two incidents, and was company for itself.
#[test]
fn who_waits_is_in_one_place_and_no_company_for_itself() {
    let alert = |service, name, critical, at| Step::Alert { service, name, critical, at };
    live(&[alert(5, 1, false, 1456), alert(5, 0, true, 0), alert(5, 1, false, 0), alert(4, 0, true, 1156)]);
    live(&[alert(1, 2, false, 1525), alert(1, 1, false, 1084), alert(1, 0, false, 1084), alert(1, 0, false, 1225)]);
}
