use super::*;
use crate::domain::alert::Labels;
use crate::domain::anomaly::{Labelled, Seen as SeenLabel, SplitMix};
use crate::domain::intent::matcher::Matchers;

/// A Wednesday, at midnight.
const DAY_ONE: i64 = 1_795_564_800;

fn alert(name: &str, severity: &str, pod: usize, at: i64) -> Alert {
    let labels = Labels::from([
        ("alertname".into(), name.into()),
        ("service".into(), "pay".into()),
        ("severity".into(), severity.into()),
        ("pod".into(), format!("pay-{pod}")),
    ]);
    Alert::firing(labels, Timestamp::from_secs(at))
}

fn firing(at: i64) -> Alert {
    alert("Slow", "warning", 1, at)
}

fn resolved(starts: i64, ends: i64) -> Alert {
    Alert { status: Status::Resolved, ends_at: Some(Timestamp::from_secs(ends)), ..firing(starts) }
}

/// Each alert with the second at which it arrives; what the prefilter says of each.
fn check(rules: Rules, alerts: Vec<(i64, Alert)>, expected: &[&str]) -> Prefilter {
    let mut prefilter = Prefilter::new(rules);
    let said: Vec<String> = alerts
        .into_iter()
        .map(|(now, alert)| match prefilter.judge(&Reading::of(&alert), Timestamp::from_secs(now)) {
            Verdict::Admit { because, .. } => format!("admit: {because}"),
            Verdict::Suppress { reason } => format!("{}: {}", reason.name(), reason.explain()),
            Verdict::Resolve => "resolve".into(),
        })
        .collect();
    assert_eq!(said.len(), expected.len());
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n does not start with\n{expected}");
    }
    prefilter
}

#[test]
fn repeats_resolves_and_fires_again() {
    check(
        Rules::default(),
        vec![
            (0, firing(0)),
            (0, firing(0)),
            (60, firing(0)),
            (120, resolved(0, 120)),
            (121, resolved(0, 120)),
            (122, firing(0)),
            (180, firing(180)),
        ],
        &[
            "admit: cold start: 1 of 200",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 1",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 2",
            "resolve",
            "stale",
            "stale: sent late",
            "admit",
        ],
    );
}

#[test]
fn the_newest_content_counts_and_the_reason_says_so() {
    let with = |value: f64| Alert { value: Some(value), ..firing(0) };
    let mut noted = with(0.9);
    noted.annotations.insert("summary".into(), "worse".into());
    check(
        Rules::default(),
        vec![(0, with(0.5)), (0, with(0.5)), (0, with(0.9)), (60, noted.clone()), (61, noted)],
        &[
            "admit",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 1",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 2, with newer content that counts \
             from now on (value 0.9, was 0.5)",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 3, with newer content that counts",
            "duplicate: the same firing was first seen at 00:00:00, this is repeat 4",
        ],
    );
    let (same, changed) = (Content::Same.to_string(), Content::Changed { value: None, was: None }.to_string());
    assert!(same.is_empty() && !changed.is_empty());
}

#[test]
fn an_end_before_its_beginning_is_remembered() {
    check(
        Rules::default(),
        vec![(100, resolved(0, 90)), (101, firing(0)), (200, firing(190))],
        &["resolve", "stale", "admit"],
    );
}

#[test]
fn a_clock_that_runs_ahead_does_not_make_what_follows_late() {
    let hour = 3_600;
    check(
        Rules::default(),
        vec![
            (0, firing(5 * hour)),
            (4 * hour, firing(5 * hour)),
            (4 * hour + 60, resolved(5 * hour, 9 * hour)),
            (4 * hour + 120, firing(4 * hour + 120)),
        ],
        &["admit", "duplicate", "resolve", "admit"],
    );
}

#[test]
fn flapping_is_more_changes_than_allowed_within_an_hour() {
    let mut alerts = vec![];
    for round in 0..5 {
        alerts.push((round * 120, firing(round * 120)));
        alerts.push((round * 120 + 60, resolved(round * 120, round * 120 + 60)));
    }
    // Two hours later it is news again.
    alerts.push((9_000, firing(9_000)));
    let expected = ["admit", "resolve", "admit", "resolve", "admit", "resolve", "flapping: changed state 7", "resolve"];
    check(Rules::default(), alerts, &[&expected[..], &["flapping: changed state 9", "resolve", "admit"]].concat());
}

fn debounced(entry: Debounce) -> Rules {
    Rules { debounce: vec![entry], ..Rules::default() }
}

fn entry() -> Debounce {
    Debounce {
        matchers: Matchers::parse("alertname=\"Slow\"").expect("matchers"),
        fires_for: Duration::ZERO,
        at_least: 0,
        within: Duration::from_secs(600),
        hysteresis: 0.0,
    }
}

#[test]
fn what_must_last_is_told_when_it_did() {
    let rules = debounced(Debounce { fires_for: Duration::from_secs(120), ..entry() });
    let other = alert("Other", "warning", 1, 0);
    let mut prefilter = check(
        rules.clone(),
        vec![(0, firing(0)), (30, firing(0)), (30, other)],
        &["too_brief: must fire for 120 s before anybody is told, that is until 00:02:00", "duplicate", "admit"],
    );
    assert!(!prefilter.is_due(Timestamp::from_secs(119)));
    assert_eq!(prefilter.next_due(Timestamp::from_secs(119)), None);
    assert!(prefilter.is_due(Timestamp::from_secs(120)));
    let (due, because) = prefilter.next_due(Timestamp::from_secs(120)).expect("due");
    assert_eq!((due, because), (firing(0), Because::ColdStart { seen: 1, wanted: 200 }));
    assert_eq!(prefilter.next_due(Timestamp::from_secs(999)), None);

    // Its own repeat may be the first to say that it lasted; and what ends in time is never told.
    let mut prefilter = check(
        rules.clone(),
        vec![(0, firing(0)), (130, firing(0)), (140, firing(0))],
        &["too_brief", "admit: cold start", "duplicate"],
    );
    assert_eq!(prefilter.next_due(Timestamp::from_secs(999)), None);
    let mut prefilter = check(rules.clone(), vec![(0, firing(0)), (60, resolved(0, 60))], &["too_brief", "resolve"]);
    assert_eq!(prefilter.next_due(Timestamp::from_secs(999)), None);
    // It began long ago.
    check(rules, vec![(500, firing(0))], &["admit"]);
}

#[test]
fn what_must_return_is_told_at_the_wanted_firing() {
    let rules = debounced(Debounce { at_least: 3, ..entry() });
    let mut alerts = vec![];
    for at in [0, 200, 400, 1_500] {
        alerts.push((at, firing(at)));
        alerts.push((at + 50, resolved(at, at + 50)));
    }
    check(
        Rules { flap_transitions: 99, ..rules },
        alerts,
        &[
            "too_few: fired 1 times within 600 s, 3 are wanted",
            "resolve",
            "too_few: fired 2",
            "resolve",
            "admit",
            "resolve",
            "too_few: fired 1",
            "resolve",
        ],
    );
}

#[test]
fn a_value_at_the_edge_of_its_threshold_is_told_once() {
    let rules = debounced(Debounce { hysteresis: 0.1, ..entry() });
    let mut alerts = vec![];
    for (at, value) in [(0, 0.80), (100, 0.82), (200, 0.95), (300, 0.96), (2_000, 0.96)] {
        alerts.push((at, Alert { value: Some(value), ..firing(at) }));
        alerts.push((at + 50, resolved(at, at + 50)));
    }
    let edge = "at_the_edge: fires again at 0.82, within 10 % of the 0.8 at which it fired before";
    let again = "at_the_edge: fires again at 0.96, within 10 % of the 0.95";
    let expected = ["admit", "resolve", edge, "resolve", "admit", "resolve", again, "resolve", "admit", "resolve"];
    check(Rules { flap_transitions: 99, ..rules }, alerts, &expected);
}

#[test]
fn an_entry_that_cannot_work_says_why() {
    for (entry, expected) in [
        (entry(), "asks for nothing"),
        (Debounce { hysteresis: 1.5, ..entry() }, "the hysteresis 1.5 for"),
        (Debounce { at_least: 100_000, ..entry() }, "are more than 1000"),
        (Debounce { matchers: Matchers::default(), at_least: 2, ..entry() }, "match alerts without any label"),
    ] {
        let said = entry.check().expect_err("refused");
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(Debounce { at_least: 2, ..entry() }.check(), Ok(()));
}

#[test]
fn what_is_never_suppressed_is_not_debounced() {
    let rules = debounced(Debounce { fires_for: Duration::from_secs(120), ..entry() });
    let rules = Rules { never_suppress: vec!["Slow".into()], ..rules };
    check(rules, vec![(0, firing(0)), (1, firing(0))], &["admit: its name is never suppressed", "duplicate"]);
}

/// Two weeks of the same warning, every day at the same hours, with small values.
fn quiet_past(prefilter: &mut Prefilter) {
    let mut random = SplitMix::new(9);
    for day in 0..14 {
        for slot in 0..24 {
            let at = DAY_ONE + day * 86_400 + slot * 3_600 + random.below(600) as i64;
            let begins = Alert { value: Some(0.1 + 0.01 * random.unit()), ..alert("Slow", "warning", 1, at) };
            prefilter.judge(&Reading::of(&begins), Timestamp::from_secs(at));
            let ends = Alert { status: Status::Resolved, ends_at: Some(Timestamp::from_secs(at + 300)), ..begins };
            prefilter.judge(&Reading::of(&ends), Timestamp::from_secs(at + 300));
        }
    }
}

/// The verdict on a warning like all others, and on one with a wild value in a burst.
fn after_the_past(rules: Rules, setting: Option<Setting>) -> (Verdict, Verdict) {
    let mut prefilter = Prefilter::new(rules);
    quiet_past(&mut prefilter);
    if let Some(setting) = setting {
        prefilter.calibrate(setting);
    }
    let at = DAY_ONE + 14 * 86_400 + 300;
    let usual = Alert { value: Some(0.105), ..alert("Slow", "warning", 1, at) };
    let usual = prefilter.judge(&Reading::of(&usual), Timestamp::from_secs(at));
    for pod in 2..12 {
        prefilter.judge(&Reading::of(&alert("Slow", "warning", pod, at + 600)), Timestamp::from_secs(at + 600));
    }
    let wild = Alert { value: Some(9.0), ..alert("Slow", "warning", 99, at + 601) };
    (usual, prefilter.judge(&Reading::of(&wild), Timestamp::from_secs(at + 601)))
}

fn setting(score: f64) -> Setting {
    let mut calibration = Calibration::new(Bound::default());
    for key in 0..299 {
        let key = format!("INC-{key}");
        calibration.learn(Labelled { key, score, real: true, seen: SeenLabel::Openly });
    }
    calibration.setting()
}

#[test]
fn fixed_suppresses_what_is_usual_and_admits_what_is_not() {
    let (usual, wild) = after_the_past(Rules { anomaly_mode: AnomalyMode::Fixed, ..Rules::default() }, None);
    let Verdict::Suppress { reason } = usual else { panic!("{usual:?}") };
    assert_eq!(reason.name(), "not_anomalous");
    assert!(reason.is_audited() && reason.explain().contains("above -0.50, a fixed threshold): seen 336 times before"));
    assert!(matches!(wild, Verdict::Admit { score: Some(score), .. } if score < -0.5), "{wild:?}");
}

#[test]
fn calibrated_is_shadow_until_labels_carry_it() {
    let (usual, _) = after_the_past(Rules::default(), None);
    let Verdict::Admit { because, score: Some(_) } = usual else { panic!("{usual:?}") };
    assert!(because.to_string().starts_with("shadow: 299 labelled incidents are missing until it may suppress"));

    // Real incidents scored no higher than -0.55: all above -0.5 may go.
    let (usual, wild) = after_the_past(Rules::default(), Some(setting(-0.55)));
    let Verdict::Suppress { reason } = &usual else { panic!("{usual:?}") };
    assert!(
        reason.explain().contains("calibrated on 299 labelled incidents: at most 1 % missed at 95 % confidence"),
        "{}",
        reason.explain()
    );
    assert!(matches!(wild, Verdict::Admit { .. }));

    // One of them looked as usual as anything: nothing may go.
    let (usual, _) = after_the_past(Rules::default(), Some(setting(-0.1)));
    assert!(matches!(usual, Verdict::Admit { .. }), "{usual:?}");
}

#[test]
fn scores_are_kept_for_the_label_with_how_they_came_about() {
    let mut prefilter = Prefilter::new(Rules::default());
    quiet_past(&mut prefilter);
    let at = DAY_ONE + 15 * 86_400;
    let critical = alert("Slow", "critical", 1, at);
    assert_eq!(prefilter.scored(critical.fingerprint), None);
    let verdict = prefilter.judge(&Reading::of(&critical), Timestamp::from_secs(at));
    let Verdict::Admit { because: Because::Critical, score: Some(score) } = verdict else { panic!("{verdict:?}") };
    assert_eq!(prefilter.scored(critical.fingerprint), Some(Scored { score, openly: true }));
}

#[test]
fn a_storm_teaches_little() {
    let mut prefilter = Prefilter::new(Rules::default());
    quiet_past(&mut prefilter);
    let before = prefilter.learned();
    let at = DAY_ONE + 15 * 86_400;
    for pod in 0..5_000 {
        prefilter
            .judge(&Reading::of(&alert("Slow", "critical", pod, at + pod as i64 / 100)), Timestamp::from_secs(at + 50));
    }
    assert!(prefilter.learned() - before <= 32, "{}", prefilter.learned() - before);
}

#[test]
fn a_suppression_keeps_its_written_form() {
    let old = serde_json::json!({
        "reason": "not_anomalous", "score": -0.4, "threshold": -0.5, "because": "seen 3 times before"
    });
    let read: Suppression = serde_json::from_value(old).expect("the form of before");
    assert!(read.explain().contains("a fixed threshold): seen 3 times before"));
    let duplicate = serde_json::json!({"reason": "duplicate", "first_at": "2026-11-21T02:17:00Z", "times": 2});
    assert!(serde_json::from_value::<Suppression>(duplicate).is_ok());
    let written = serde_json::to_value(&read).expect("written");
    assert_eq!((&written["reason"], &written["because"]), (&"not_anomalous".into(), &"seen 3 times before".into()));
}

#[test]
fn triage_tells_of_what_lasted_as_heavy_as_it_is() {
    use crate::domain::topology::Topology;
    use crate::domain::triage::{self, Judged, Triage};

    let topology = std::sync::Arc::new(Topology::default());
    let prefilter = debounced(Debounce { fires_for: Duration::from_secs(120), ..entry() });
    let mut triage = Triage::new(triage::Rules { prefilter, ..triage::Rules::default() }, 1);
    let begins = alert("Slow", "critical", 1, 0);
    let verdict = triage.judge(&begins, Timestamp::from_secs(0), &topology);
    assert!(matches!(&verdict, Judged::Suppressed { reason, incident: None } if reason.name() == "too_brief"));
    let brief = alert("Slow", "critical", 2, 0);
    triage.judge(&brief, Timestamp::from_secs(0), &topology);
    let over = Alert { status: Status::Resolved, ends_at: Some(Timestamp::from_secs(60)), ..brief };
    triage.judge(&over, Timestamp::from_secs(60), &topology);

    assert!(!triage.is_overdue(Timestamp::from_secs(119)));
    assert!(triage.overdue(Timestamp::from_secs(119), &topology).is_empty());
    assert!(triage.is_overdue(Timestamp::from_secs(120)));
    let told = triage.overdue(Timestamp::from_secs(120), &topology);
    let [one] = told.as_slice() else { panic!("{told:?}") };
    assert!(one.opened && one.because.starts_with("still fires after 2 min"), "{one:?}");
    assert_eq!((one.alert.severity, one.alert.fingerprint), (Severity::Critical, begins.fingerprint));
    assert!(triage.overdue(Timestamp::from_secs(121), &topology).is_empty());
}

#[test]
fn a_value_that_was_muted_is_no_edge_to_compare_with() {
    let mut prefilter =
        Prefilter::new(debounced(Debounce { hysteresis: 0.1, within: Duration::from_secs(3_600), ..entry() }));
    let at = |starts: i64, value: f64| Alert { value: Some(value), ..alert("Slow", "warning", 1, starts) };
    let judge = |prefilter: &mut Prefilter, alert: &Alert, now: i64| {
        prefilter.judge(&Reading::of(alert), Timestamp::from_secs(now))
    };
    let first = at(0, 1.0);
    assert!(matches!(judge(&mut prefilter, &first, 0), Verdict::Admit { .. }));
    prefilter.hold(first.fingerprint);
    let over = Alert { status: Status::Resolved, ends_at: Some(Timestamp::from_secs(60)), ..first };
    judge(&mut prefilter, &over, 60);
    // Nobody was told of the first.
    assert!(matches!(judge(&mut prefilter, &at(120, 1.01), 120), Verdict::Admit { .. }));
    let over = Alert { status: Status::Resolved, ends_at: Some(Timestamp::from_secs(180)), ..at(120, 1.01) };
    judge(&mut prefilter, &over, 180);
    let third = judge(&mut prefilter, &at(240, 1.02), 240);
    assert!(matches!(&third, Verdict::Suppress { reason } if reason.name() == "at_the_edge"), "{third:?}");
}

#[test]
fn who_names_no_start_repeats_at_any_step_and_does_not_flap() {
    use crate::domain::intake::NOTE_UNTIMED;
    let mut prefilter = Prefilter::new(Rules::default());
    let heard = |prefilter: &mut Prefilter, now: i64| {
        let mut heard = alert("Slow", "warning", 1, now);
        heard.annotations.insert(NOTE_UNTIMED.into(), "its sender names no start".into());
        match prefilter.judge(&Reading::of(&heard), Timestamp::from_secs(now)) {
            Verdict::Suppress { reason } => reason.name(),
            Verdict::Admit { .. } => "admit",
            Verdict::Resolve => "resolve",
        }
    };
    assert_eq!(heard(&mut prefilter, 0), "admit");
    for step in 1..=12 {
        assert_eq!(heard(&mut prefilter, step * 360), "duplicate");
    }
    // Its end was lost: nobody repeats that seldom.
    assert_eq!(heard(&mut prefilter, 12 * 360 + 3_700), "admit");
}
