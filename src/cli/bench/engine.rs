//! The triage engine alone, from alerts that are parsed already, on one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::alert::{Alert, Fingerprint, Labels, Status};
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, Topology};
use crate::domain::triage::{Rules, Triage};

const START: i64 = 1_795_140_000_000;
const SERVICES: usize = 2_000;
const INSTANCES: usize = 10;
const FRESH: usize = 9;

fn service(number: usize) -> String {
    format!("svc-{number}")
}

/// Each service calls two others of its own small neighbourhood.
fn chart() -> Arc<Topology> {
    let mut topology = Topology::default();
    for number in 0..SERVICES {
        for step in [1, 2] {
            if number % 10 + step < 10 {
                topology.add_edge(&service(number), &service(number + step), EdgeKind::Calls);
            }
        }
    }
    Arc::new(topology)
}

fn alert(number: usize, cluster: usize, at: i64) -> Alert {
    let labels = Labels::from([
        ("alertname".into(), "HighErrorRate".into()),
        ("cluster".into(), format!("cluster-{cluster}")),
        ("instance".into(), format!("10.0.{}.{}:8080", number / 250, number % 250)),
        ("namespace".into(), "shop".into()),
        ("service".into(), service(number / INSTANCES)),
        ("severity".into(), "critical".into()),
    ]);
    Alert {
        fingerprint: Fingerprint::of(&labels),
        status: Status::Firing,
        labels,
        annotations: Labels::new(),
        starts_at: Timestamp::from_millis(at),
        ends_at: None,
        stands_until: None,
        value: Some(0.5),
    }
}

use super::Row;

pub fn measure() -> Vec<Row> {
    let topology = chart();
    let count = SERVICES * INSTANCES;
    let alerts: Vec<Alert> = (0..count).map(|number| alert(number, 0, START + number as i64)).collect();
    let mut triage = Triage::new(Rules::default(), 1);
    let rate = |triage: &mut Triage, rounds: std::ops::Range<usize>| {
        let began = Instant::now();
        for round in rounds.clone() {
            let event_now = Timestamp::from_millis(START) + Duration::from_secs(60 * round as u64);
            for alert in &alerts {
                triage.judge(alert, event_now, &topology);
            }
        }
        (rounds.len() * alerts.len()) as f64 / began.elapsed().as_secs_f64()
    };
    let cold = rate(&mut triage, 0..1);
    // The process has the memory by now; to each of these engines all is new.
    let mut firsts: Vec<f64> = (0..FRESH).map(|_| rate(&mut Triage::new(Rules::default(), 1), 0..1)).collect();
    firsts.sort_by(f64::total_cmp);
    let first = firsts[FRESH / 2];
    let million = rate(&mut triage, 1..50);
    let more = rate(&mut triage, 50..500);
    let mut storm = Triage::new(Rules::default(), 1);
    let as_it_comes = rate(&mut storm, 0..15);
    let mut crowded = Triage::new(Rules::default(), 1);
    // Ten thousand clusters, each with one alert, neighbours about other services: as many open incidents.
    for cluster in 0..10_000 {
        crowded.judge(&alert(10 * cluster % 20_000, cluster + 1, START), Timestamp::from_millis(START), &topology);
    }
    let open = crowded.correlator.load().0 as f64;
    let among_many = rate(&mut crowded, 0..1);
    vec![
        ("engine: 20,000 series, each for the first time, in a process just begun", cold, "alerts/s", None),
        ("engine: the same in a new engine, median of 9", first, "alerts/s", None),
        ("engine: a storm, 20,000 series sent 15 times each, the first times included", as_it_comes, "alerts/s", None),
        ("engine: alerts 20 thousand to 1 million (repeats)", million, "alerts/s", None),
        ("engine: alerts 1 to 10 million (repeats)", more, "alerts/s", None),
        ("engine: open incidents beforehand", open, "", None),
        ("engine: 20,000 series for the first time, among those", among_many, "alerts/s", None),
    ]
}
