//! Nobody speaks again, and people hear of it all the same.

use super::*;
use crate::domain::alert::{Labels, Status};
use crate::domain::intent::alertmanager::Alertmanager;
use crate::domain::intent::inhibit::Limits;
use crate::domain::intent::matcher::Matchers;
use crate::domain::intent::silence::{Silence, SilenceId, Silences};
use crate::domain::intent::window::Windows;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_795_140_000 + seconds)
}

fn alert(name: &str, service: &str, severity: &str, since: i64) -> Alert {
    let labels = [("alertname", name), ("service", service), ("severity", severity)];
    let labels: Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Alert::firing(labels, at(since))
}

fn ended(alert: &Alert, after: i64) -> Alert {
    Alert { status: Status::Resolved, ends_at: Some(at(after)), ..alert.clone() }
}

fn watch(file: &str) -> Triage {
    let alertmanager = if file.is_empty() { Alertmanager::default() } else { Alertmanager::read(file).unwrap() };
    let windows = Windows::new(vec![]).unwrap();
    let intent = Intent::new(Silences::default(), windows, alertmanager, Limits::default());
    Triage::new(Rules { intent, ..Rules::default() }, 1)
}

const DOWN_EXPLAINS_SLOW: &str = "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules:\n\
    - source_matchers: ['alertname=\"Down\"']\n  target_matchers: ['alertname=\"Slow\"']\n";

fn silence(watch: &mut Triage, service: &str, until: i64) {
    watch.intent.silences = Silences::restore(vec![Silence {
        id: SilenceId::new("S1"),
        matchers: Matchers::parse(&format!("service=\"{service}\"")).unwrap(),
        starts_at: at(0),
        ends_at: at(until),
        created_by: "ann".into(),
        comment: "drill".into(),
        updated_at: at(0),
    }]);
    watch.mutes_changed();
}

/// What is told by itself until then, looked for every ten seconds as the watch does.
fn told(watch: &mut Triage, from: i64, until: i64) -> Vec<(i64, String)> {
    let chart = Arc::new(Topology::default());
    let mut told = vec![];
    for now in (from..=until).step_by(10) {
        if watch.is_overdue(at(now)) {
            told.extend(watch.overdue(at(now), &chart).into_iter().map(|one| (now, one.alert.name)));
        }
    }
    told
}

fn judge(watch: &mut Triage, alert: &Alert, now: i64) -> Judged {
    watch.judge(alert, at(now), &Arc::new(Topology::default()))
}

#[test]
fn the_end_of_a_silence_is_noticed_without_another_word() {
    let mut watch = watch("");
    silence(&mut watch, "pay", 600);
    let fired = alert("Down", "pay", "critical", 5);
    assert!(matches!(judge(&mut watch, &fired, 10), Judged::Suppressed { .. }));
    assert_eq!(told(&mut watch, 10, 590), []);
    assert_eq!(told(&mut watch, 600, 700), [(600, "Down".to_owned())]);
    // Sent again it is what is known.
    assert!(matches!(judge(&mut watch, &fired, 710), Judged::Suppressed { .. }));
    assert_eq!(told(&mut watch, 720, 900), []);
}

#[test]
fn who_ends_a_silence_hears_at_once_and_what_has_ended_is_not_told() {
    let mut watch = watch("");
    silence(&mut watch, "pay", 6_000);
    let (fired, over) = (alert("Down", "pay", "critical", 5), alert("Slow", "pay", "critical", 5));
    judge(&mut watch, &fired, 10);
    judge(&mut watch, &over, 10);
    judge(&mut watch, &ended(&over, 20), 20);
    silence(&mut watch, "pay", 30);
    assert_eq!(told(&mut watch, 31, 31), [(31, "Down".to_owned())]);
}

#[test]
fn what_is_inhibited_is_told_when_its_source_ends_and_stands_behind_it_in_one_message() {
    let mut watch = watch(DOWN_EXPLAINS_SLOW);
    let (slow, down) = (alert("Slow", "web", "critical", 1), alert("Down", "db", "critical", 1));
    watch.foresee(&[slow.clone(), down.clone()], at(2));
    assert!(matches!(judge(&mut watch, &slow, 2), Judged::Suppressed { .. }));
    assert!(matches!(judge(&mut watch, &down, 2), Judged::Opened { .. }));
    judge(&mut watch, &ended(&down, 60), 60);
    assert_eq!(told(&mut watch, 60, 100).len(), 1);
    // Late news of the source that has ended explains nothing.
    judge(&mut watch, &down, 101);
    let other = alert("Slow", "shop", "critical", 100);
    assert!(!matches!(judge(&mut watch, &other, 102), Judged::Suppressed { .. }));
}

#[test]
fn a_warning_that_waits_and_is_silenced_meanwhile_stays_muted() {
    let mut watch = watch("");
    let warns = alert("Lag", "pay", "warning", 0);
    assert!(matches!(judge(&mut watch, &warns, 1), Judged::Waits { .. }));
    silence(&mut watch, "pay", 3_000);
    let Judged::Opened { gathers, .. } = judge(&mut watch, &alert("Down", "pay2", "critical", 20), 20) else {
        panic!()
    };
    assert_eq!(gathers, []);
    assert_eq!(told(&mut watch, 20, 2_990), []);
    // It still fires: it waits for company as if it began now, and lasts.
    assert_eq!(told(&mut watch, 3_000, 4_000), [(3_600, "Lag".to_owned())]);
}

#[test]
fn what_flapped_and_then_stays_is_told() {
    let mut watch = watch("");
    let of = |since| alert("Disk", "web", "warning", since);
    for round in 0..4 {
        judge(&mut watch, &of(round * 60), round * 60);
        judge(&mut watch, &ended(&of(round * 60), round * 60 + 20), round * 60 + 20);
    }
    let Judged::Suppressed { reason, .. } = judge(&mut watch, &of(240), 240) else { panic!() };
    assert_eq!(reason.name(), "flapping");
    let told = told(&mut watch, 250, 2_500);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].0 >= 840, "{told:?}");
}

#[test]
fn what_gets_graver_under_one_name_is_no_repeat() {
    let mut watch = watch("");
    let of = |severity: &str| Alert {
        fingerprint: Fingerprint::parse("00000000000000aa").unwrap(),
        ..alert("x", "pay", severity, 1)
    };
    for (severity, now, told) in [("info", 1, false), ("info", 2, false), ("critical", 3, true), ("critical", 4, false)]
    {
        let judged = judge(&mut watch, &of(severity), now);
        assert_eq!(matches!(judged, Judged::Opened { .. }), told, "{severity} at {now}: {judged:?}");
    }
}

#[test]
fn what_was_quiet_for_hours_is_news_though_its_incident_is_still_open() {
    let mut watch = watch("");
    let (down, lost) = (alert("Down", "pay", "critical", 0), alert("Full", "pay", "critical", 0));
    let Judged::Opened { incident, .. } = judge(&mut watch, &down, 0) else { panic!() };
    // Its end is never heard: the incident stays open.
    assert!(matches!(judge(&mut watch, &lost, 1), Judged::Joined { .. }));
    judge(&mut watch, &ended(&down, 300), 300);
    let soon = alert("Down", "pay", "critical", 6_000);
    let Judged::Joined { incident: same, again: true, .. } = judge(&mut watch, &soon, 6_000) else { panic!() };
    assert_eq!(same, incident);
    judge(&mut watch, &ended(&soon, 6_300), 6_300);
    let later = alert("Down", "pay", "critical", 86_400);
    let Judged::Opened { incident: other, .. } = judge(&mut watch, &later, 86_400) else { panic!() };
    assert_ne!(other, incident);
    assert!(matches!(judge(&mut watch, &ended(&later, 86_700), 86_700),
        Judged::Resolved { incident: Some(of) } if of == other));
}

#[test]
fn a_false_end_is_taken_back() {
    let mut watch = watch("");
    let fired = alert("Down", "pay", "critical", 0);
    judge(&mut watch, &fired, 1);
    judge(&mut watch, &ended(&fired, 300), 300);
    // The other Alertmanager of the pair may be late.
    assert!(matches!(judge(&mut watch, &fired, 310), Judged::Suppressed { .. }));
    // Prometheus is back and says that it fires, since when it did.
    assert!(matches!(judge(&mut watch, &fired, 600), Judged::Suppressed { .. }));
    assert_eq!(told(&mut watch, 600, 700), [(660, "Down".to_owned())]);
    judge(&mut watch, &ended(&fired, 800), 800);
    assert!(matches!(
        judge(&mut watch, &alert("Down", "pay", "critical", 900), 900),
        Judged::Joined { .. } | Judged::Opened { .. }
    ));
}

#[test]
fn a_history_that_is_read_once_more_is_told_to_nobody() {
    let mut watch = watch("");
    let fired = alert("Down", "pay", "critical", 0);
    for now in [300, 900] {
        judge(&mut watch, &fired, now);
        judge(&mut watch, &ended(&fired, 300), now);
    }
    assert_eq!(told(&mut watch, 900, 2_000), []);
}

#[test]
fn a_clock_that_runs_ahead_holds_up_nobody_elses_warning() {
    let mut watch = watch("");
    for (service, since) in [("ahead", 3_000), ("old", -2_400), ("pay", -400)] {
        judge(&mut watch, &alert("Lag", service, "warning", since), 1);
    }
    let told = told(&mut watch, 10, 300);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn a_late_end_does_not_forget_a_later_firing_that_is_muted() {
    let mut watch = watch("");
    let first = alert("Down", "pay", "critical", 0);
    let end = ended(&first, 60);
    judge(&mut watch, &first, 1);
    judge(&mut watch, &end, 60);
    silence(&mut watch, "pay", 600);
    assert!(matches!(judge(&mut watch, &alert("Down", "pay", "critical", 100), 100), Judged::Suppressed { .. }));
    judge(&mut watch, &end, 120);
    assert_eq!(told(&mut watch, 120, 700), [(600, "Down".to_owned())]);
}

/// Two weeks of the same warning, for five minutes at each hour, with small values.
fn used_to(watch: &mut Triage) {
    for hour in 0..14 * 24_i64 {
        let at = (hour - 15 * 24) * 3_600 + 37 * (hour % 7);
        let begins = Alert { value: Some(0.1 + 0.01 * (hour % 5) as f64), ..alert("Slow", "pay", "warning", at) };
        judge(watch, &begins, at);
        judge(watch, &ended(&begins, at + 300), at + 300);
        told(watch, at + 300, at + 310);
    }
}

fn fixed() -> Triage {
    let prefilter = prefilter::Rules { anomaly_mode: prefilter::AnomalyMode::Fixed, ..prefilter::Rules::default() };
    let mut watch = Triage::new(Rules { prefilter, ..Rules::default() }, 1);
    used_to(&mut watch);
    watch
}

#[test]
fn what_is_usual_is_told_when_its_value_rises_and_not_before() {
    let mut watch = fixed();
    let usual = Alert { value: Some(0.12), ..alert("Slow", "pay", "warning", 0) };
    let Judged::Suppressed { reason, .. } = judge(&mut watch, &usual, 0) else { panic!() };
    assert_eq!(reason.name(), "not_anomalous");
    let repeated = |watch: &mut Triage, value, now| judge(watch, &Alert { value: Some(value), ..usual.clone() }, now);
    assert!(matches!(repeated(&mut watch, 0.11, 60), Judged::Suppressed { .. }));
    let risen = repeated(&mut watch, 9.0, 120);
    let Judged::Waits { because, .. } = risen else { panic!("{risen:?}") };
    assert!(because.to_string().contains("is not any more: seen 336 times before, value 9 is"), "{because}");
    assert!(matches!(repeated(&mut watch, 9.5, 180), Judged::Suppressed { .. }));
}

#[test]
fn what_is_usual_is_told_when_it_lasts_far_longer_than_usual() {
    let mut watch = fixed();
    let usual = Alert { value: Some(0.12), ..alert("Slow", "pay", "warning", 0) };
    assert!(matches!(judge(&mut watch, &usual, 0), Judged::Suppressed { .. }));
    // Four times five minutes, and then as long as a lone warning waits for company.
    assert_eq!(told(&mut watch, 0, 1_190), []);
    assert_eq!(told(&mut watch, 1_200, 2_400), [(1_800, "Slow".to_owned())]);
    // One that ends in time is not.
    let brief = alert("Slow", "pay", "warning", 7_200);
    judge(&mut watch, &ended(&usual, 7_000), 7_000);
    judge(&mut watch, &Alert { value: Some(0.12), ..brief.clone() }, 7_200);
    judge(&mut watch, &ended(&brief, 7_500), 7_500);
    assert_eq!(told(&mut watch, 7_500, 12_000), []);
}

#[test]
fn a_long_history_is_told_to_nobody_and_what_was_believed_too_early_ends() {
    let mut watch = watch("");
    let fired: Vec<Alert> = (0..20).map(|number| alert("Down", &format!("pay{number}"), "critical", number)).collect();
    for one in &fired {
        judge(&mut watch, one, 30);
        judge(&mut watch, &ended(one, 300), 300);
    }
    // Read once more, slowly: all that fired, then all the ends.
    for one in &fired {
        judge(&mut watch, one, 10_000);
    }
    for (number, one) in fired.iter().enumerate() {
        let now = 10_040 + 20 * number as i64;
        assert_eq!(told(&mut watch, now - 20, now), [], "at {now}");
        judge(&mut watch, &ended(one, 300), now);
    }
    assert_eq!(told(&mut watch, 10_420, 11_000), []);
    // One whose end comes when nobody waits for it any more.
    judge(&mut watch, &fired[0], 20_000);
    assert_eq!(told(&mut watch, 20_000, 20_100), [(20_060, "Down".to_owned())]);
    assert!(matches!(judge(&mut watch, &ended(&fired[0], 300), 20_200), Judged::Resolved { .. }));
}

#[test]
fn a_backlog_in_two_batches_tells_of_no_warning_that_has_ended() {
    let mut watch = watch("");
    let (earlier, lone) = (alert("Slow", "search", "warning", -90_000), alert("Slow", "pay", "warning", -80_000));
    judge(&mut watch, &earlier, 0);
    judge(&mut watch, &ended(&earlier, -89_000), 0);
    judge(&mut watch, &lone, 0);
    assert_eq!(told(&mut watch, 0, 20), []);
    judge(&mut watch, &ended(&lone, -79_000), 20);
    assert_eq!(told(&mut watch, 20, 2_000), []);
}

#[test]
fn a_sender_whose_clock_is_behind_holds_up_nobodys_warning_for_long() {
    let mut watch = watch("");
    judge(&mut watch, &alert("Lag", "pay", "warning", -500), 0);
    let told = (0..200).find_map(|number| {
        let now = 10 * number;
        let other = alert("Slow", &format!("other{number}"), "warning", now - 3_700);
        judge(&mut watch, &other, now);
        judge(&mut watch, &ended(&other, now - 3_600), now);
        told(&mut watch, now, now).first().cloned()
    });
    assert_eq!(told, Some((600, "Lag".to_owned())));
}
