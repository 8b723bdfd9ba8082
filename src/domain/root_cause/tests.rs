//! The ranking on small estates, through `survey` and `rank`.

use proptest::prelude::*;

use super::*;
use crate::domain::topology::{EdgeKind, NodeKind};

const METRICS: [&str; 4] = ["cpu_usage", "memory_bytes", "request_latency_p95", "client_latency_p95"];
const BASELINE: Span = Span { start: Timestamp::from_secs(0), end: Timestamp::from_secs(599) };
const WINDOW: Span = Span { start: Timestamp::from_secs(600), end: Timestamp::from_secs(899) };

/// What is multiplied by how much during the window.
type Fault = (&'static str, &'static str, f64);

/// shop calls cart and mail, cart calls store. Values wiggle by a few per cent, differently for each series.
fn tracks(faults: &[Fault]) -> Vec<Track> {
    let mut tracks = vec![];
    for (place, node) in ["shop", "cart", "mail", "store"].into_iter().enumerate() {
        for (kind, metric) in METRICS.into_iter().enumerate() {
            let usual = 10.0 * (place + 1) as f64;
            let points = (0..30_i64)
                .map(|at| {
                    let wiggle = 1.0 + 0.02 * ((at * 7 + (place * 3 + kind * 5) as i64) % 5 - 2) as f64;
                    let ill = faults.iter().find(|fault| at >= 20 && (fault.0, fault.1) == (node, metric));
                    (Timestamp::from_secs(at * 30), usual * wiggle * ill.map_or(1.0, |fault| fault.2))
                })
                .collect();
            tracks.push(Track { node: node.to_owned(), metric: metric.to_owned(), points });
        }
    }
    tracks
}

fn calls(edges: &[(&str, &str)]) -> Topology {
    let mut topology = Topology::default();
    for (from, to) in edges {
        topology.add_node(from, NodeKind::Service);
        topology.add_edge(from, to, EdgeKind::Calls);
    }
    topology
}

fn shop() -> Topology {
    calls(&[("shop", "cart"), ("shop", "mail"), ("cart", "store")])
}

fn picture(tracks: &[Track], topology: Topology) -> Picture {
    let complaint = Complaint { node: "shop".into(), signal: None };
    Picture {
        readings: survey(tracks, BASELINE, WINDOW, Some(&complaint)),
        topology,
        since: WINDOW.start,
        complaint: Some(complaint),
        ..Picture::default()
    }
}

fn order(picture: &Picture) -> Vec<String> {
    rank(picture).into_iter().map(|candidate| candidate.node).collect()
}

const SLOW_STORE: [Fault; 4] = [
    ("store", "cpu_usage", 3.0),
    ("store", "request_latency_p95", 6.0),
    ("cart", "request_latency_p95", 4.0),
    ("shop", "request_latency_p95", 2.0),
];

#[test]
fn a_cause_explains_what_depends_on_it() {
    let picture = picture(&tracks(&SLOW_STORE), shop());
    let ranking = rank(&picture);
    assert_eq!(ranking[0].node, "store");
    let cart = ranking.iter().find(|candidate| candidate.node == "cart").expect("ranked");
    assert!(cart.contradicts.iter().any(|claim| claim.text.ends_with("and so does what it calls")), "{cart:?}");
    assert!(confidence(&picture, &ranking) >= NAMED);
}

#[test]
fn without_a_topology_what_is_wrong_with_itself_decides() {
    assert_eq!(order(&picture(&tracks(&SLOW_STORE), Topology::default()))[0], "store");
}

#[test]
fn when_nothing_deviates_nothing_is_named() {
    let picture = picture(&tracks(&[]), shop());
    let ranking = rank(&picture);
    assert_eq!(ranking[0].node, "shop", "the place of the complaint, for want of anything better");
    assert!(confidence(&picture, &ranking) < NAMED);
}

#[test]
fn what_callers_wait_for_is_suspected_when_nothing_of_it_shows() {
    let slow_network = [("cart", "client_latency_p95", 5.0), ("cart", "request_latency_p95", 3.0)];
    let picture = picture(&tracks(&slow_network), shop());
    assert_eq!(order(&picture)[0], "store");
    assert!(confidence(&picture, &rank(&picture)) < 0.7, "nobody saw it");
}

#[test]
fn a_fault_that_cannot_reach_the_complaint_counts_less() {
    let two = [("mail", "cpu_usage", 3.0), ("store", "cpu_usage", 3.0)];
    let apart = calls(&[("shop", "cart"), ("cart", "store"), ("mail", "cart")]);
    let picture = picture(&tracks(&two), apart);
    assert_eq!(order(&picture)[0], "store");
    let ranking = rank(&picture);
    let mail = ranking.iter().find(|candidate| candidate.node == "mail").expect("ranked");
    assert!(mail.contradicts.iter().any(|claim| claim.text == "shop does not depend on mail"));
}

#[test]
fn a_change_counts_where_something_is_wrong() {
    let changed = |service: &str| Change {
        id: format!("{service} revision 2"),
        namespace: String::new(),
        service: service.to_owned(),
        workload: service.to_owned(),
        at: Timestamp::from_secs(540),
        from_revision: Some(1),
        to_revision: 2,
        touched: vec![],
        cause: None,
        current: true,
        put_back: false,
    };
    let both = [("mail", "cpu_usage", 2.0), ("store", "cpu_usage", 2.0)];
    let mut picture = picture(&tracks(&both), shop());
    picture.changes = vec![changed("mail"), changed("cart")];
    let ranking = rank(&picture);
    assert_eq!((ranking[0].node.as_str(), ranking[0].change.as_deref()), ("mail", Some("mail revision 2")));
    assert_eq!(ranking[1].node, "store", "cart was changed too, but nothing is wrong with it");
    // Who has just gone back is not told to go forth again.
    picture.changes[0].put_back = true;
    assert!(rank(&picture).iter().all(|candidate| candidate.change.as_deref() != Some("mail revision 2")));
}

#[test]
fn gaps_constants_and_short_pasts_are_no_anomalies() {
    let mut tracks = tracks(&[]);
    tracks[0].points.iter_mut().for_each(|(_, value)| *value = 7.0);
    tracks[1].points.iter_mut().for_each(|(_, value)| *value = f64::NAN);
    tracks[2].points.truncate(1);
    tracks[3].points.clear();
    let readings = survey(&tracks, BASELINE, WINDOW, None);
    let odd: Vec<_> = readings.iter().filter(|reading| reading.deviation >= ANOMALOUS).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn errors_that_were_never_counted_before_are_new() {
    let mut tracks = tracks(&[]);
    let points = (0..10).map(|at| (Timestamp::from_secs(600 + at * 30), 4.0)).collect();
    tracks.push(Track { node: "store".into(), metric: "errors_5xx".into(), points });
    let readings = survey(&tracks, BASELINE, WINDOW, None);
    let errors = readings.iter().find(|reading| reading.signal == "errors_5xx").expect("read");
    assert!(errors.deviation >= ANOMALOUS);
}

#[test]
fn a_counter_is_read_as_a_rate() {
    let growing = |fast: f64| {
        let points = (0..30)
            .scan(0.0, |total, at| {
                *total += if at >= 20 { fast } else { 5.0 + f64::from(at % 3) };
                Some((Timestamp::from_secs(i64::from(at) * 30), *total))
            })
            .collect();
        vec![Track { node: "store".into(), metric: "request_errors_total".into(), points }]
    };
    let deviation = |tracks: &[Track]| survey(tracks, BASELINE, WINDOW, None)[0].deviation;
    assert!(deviation(&growing(6.0)) < ANOMALOUS, "it grows as it did");
    assert!(deviation(&growing(60.0)) >= ANOMALOUS);
}

#[test]
fn a_node_that_falls_silent_is_odd() {
    let mut tracks = tracks(&[]);
    tracks.iter_mut().filter(|track| track.node == "store").for_each(|track| track.points.truncate(20));
    let picture = picture(&tracks, shop());
    assert_eq!(order(&picture)[0], "store");
    assert!(rank(&picture)[0].supports.iter().any(|claim| claim.text.contains("telemetry")));
}

#[test]
fn one_wild_metric_of_hundreds_does_not_decide() {
    let mut tracks = tracks(&SLOW_STORE);
    for number in 0..300 {
        let noise = |at: i64| f64::from((at * 37 + number * 11) as i32 % 17);
        let spike = if number == 5 { 1e6 } else { 0.0 };
        let points = (0..30)
            .map(|at| (Timestamp::from_secs(at * 30), 100.0 + noise(at) + if at >= 20 { spike } else { 0.0 }))
            .collect();
        tracks.push(Track { node: "mail".into(), metric: format!("cpu_core_{number}"), points });
    }
    assert_eq!(order(&picture(&tracks, shop()))[0], "store");
}

fn any_faults() -> impl Strategy<Value = Vec<Fault>> {
    let node = prop::sample::select(vec!["shop", "cart", "mail", "store"]);
    let fault = (node, prop::sample::select(METRICS.to_vec()), 0.2_f64..8.0);
    prop::collection::vec(fault, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_rows_and_series_does_not_matter(faults in any_faults(), turn in 0_usize..16) {
        let straight = tracks(&faults);
        let mut turned = straight.clone();
        turned.rotate_left(turn);
        for track in &mut turned {
            track.points.reverse();
        }
        prop_assert_eq!(order(&picture(&straight, shop())), order(&picture(&turned, shop())));
    }

    #[test]
    fn the_unit_of_a_metric_does_not_matter(faults in any_faults(), which in 0_usize..4, power in -20_i32..20) {
        let metres = tracks(&faults);
        let mut feet = metres.clone();
        for track in feet.iter_mut().filter(|track| track.metric == METRICS[which]) {
            for (_, value) in &mut track.points {
                // A power of two: exact, so that no rounding decides between equals.
                *value *= 2_f64.powi(power);
            }
        }
        prop_assert_eq!(order(&picture(&metres, shop())), order(&picture(&feet, shop())));
    }

    #[test]
    fn scores_are_numbers_and_confidence_is_a_share(
        faults in any_faults(),
        wild in prop::collection::vec(prop::num::f64::ANY, 30),
    ) {
        let mut tracks = tracks(&faults);
        for ((_, value), wild) in tracks[5].points.iter_mut().zip(wild) {
            *value = wild;
        }
        let picture = picture(&tracks, shop());
        let ranking = rank(&picture);
        prop_assert!(ranking.iter().all(|candidate| candidate.score.is_finite()));
        prop_assert!((0.0..=1.0).contains(&confidence(&picture, &ranking)));
    }
}
