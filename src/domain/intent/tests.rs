use std::time::Duration;

use proptest::prelude::*;

use super::super::alert::Labels;
use super::matcher::{Matcher, Matchers, Op};
use super::silence::{Consent, Reach, Silence};
use super::window::{Kind, Schedule, Window};
use super::*;

/// Seconds after an arbitrary Saturday noon.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(Timestamp::parse("2026-11-21T12:00:00Z").unwrap().millis() + seconds * 1000)
}

pub(super) fn instant(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A firing alert with the labels of `a=1,b=2`.
pub(super) fn alert(labels: &str) -> Alert {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    alert_of(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

pub(super) fn alert_of(labels: Labels) -> Alert {
    Alert::firing(labels, at(0))
}

pub(super) fn set(text: &str) -> Matchers {
    Matchers::parse(text).unwrap()
}

/// Few names and values, so that random sets meet random labels often.
pub(super) fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[abc]", prop::sample::select(vec!["", "x", "y", "xy", "z"]), 0..4)
        .prop_map(|map| map.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

pub(super) fn matchers() -> impl Strategy<Value = Matchers> {
    let literal =
        ("[abc]", prop::sample::select(vec![Op::Equal, Op::NotEqual]), prop::sample::select(vec!["", "x", "y", "xy"]));
    let regex = (
        "[abc]",
        prop::sample::select(vec![Op::Regex, Op::NotRegex]),
        prop::sample::select(vec!["x|y", "x.*", ".+", ".*", "", "x|", "(x|xy)", "x.?", "y?", "xy?", "[xz]", "x|x"]),
    );
    prop::collection::vec(prop_oneof![literal, regex], 0..4).prop_map(|all| {
        let all = all.into_iter().map(|(name, op, value)| Matcher::new(&name, op, value).unwrap());
        Matchers::new(all.collect()).unwrap()
    })
}

const FILE: &str = r#"
route:
  receiver: all
  routes:
  - receiver: batch
    matchers: [job="batch"]
    mute_time_intervals: [weekend]
  - receiver: office
    matchers: [job="office"]
    active_time_intervals: [workdays]
  - receiver: one
    matchers: [job="both"]
    mute_time_intervals: [weekend]
    continue: true
  - receiver: two
    matchers: [job="both"]
receivers: [{name: all}, {name: batch}, {name: office}, {name: one}, {name: two}]
time_intervals:
- name: weekend
  time_intervals: [{weekdays: [saturday, sunday]}]
- name: workdays
  time_intervals: [{weekdays: ['monday:friday']}]
inhibit_rules:
- name: node explains pods
  source_matchers: [alertname="NodeDown"]
  target_matchers: [severity="warning"]
  equal: [node]
"#;

fn intent() -> Intent {
    let window = Window {
        name: "pay upgrade".into(),
        matchers: set("service=pay"),
        schedule: Schedule::Once { start: at(0), end: at(3600) },
        kind: Kind::Maintenance,
    };
    let mut silences = Silences::default();
    let silence = Silence {
        id: SilenceId::new("s1"),
        matchers: set("service=~\"cart|pay\", severity=critical"),
        starts_at: at(0),
        ends_at: at(600),
        created_by: "ann".into(),
        comment: "known".into(),
        updated_at: at(0),
    };
    silences.create(silence, Reach { firing: &[], max_share: 0.5 }, Consent::Ask, at(0)).unwrap();
    let file = Alertmanager::read(FILE).unwrap();
    Intent::new(silences, Windows::new(vec![window]).unwrap(), file, Limits::default())
}

fn check(intent: &Intent, labels: &str, seconds: i64, expected: &str) {
    let verdict = intent.judge(&alert(labels), at(seconds));
    let found = verdict.map_or("heard".into(), |muted| format!("{}: {}", muted.name(), muted.explain()));
    assert_eq!(found, expected, "of {labels} after {seconds} s");
}

#[test]
fn each_reason_is_named_and_ends() {
    let mut intent = intent();
    let silenced = "silenced: silenced by ann until 2026-11-21T12:10:00.000Z: known (silence s1)";
    check(&intent, "alertname=A,service=pay,severity=critical", 599, silenced);
    let window = "window: inside the window pay upgrade until 2026-11-21T13:00:00.000Z";
    check(&intent, "alertname=A,service=pay,severity=critical", 600, window);
    check(&intent, "alertname=A,service=pay,severity=critical", 3600, "heard");

    check(&intent, "alertname=PodDown,node=n1,severity=warning", 0, "heard");
    let source = alert("alertname=NodeDown,node=n1,severity=critical,service=pay");
    assert_eq!(intent.judge(&source, at(0)).map(|muted| muted.name()), Some("silenced"));
    intent.observe(&source, at(0));
    let inhibited = format!(
        "inhibited: inhibited: NodeDown ({}) fires with the same node (rule node explains pods)",
        source.fingerprint
    );
    check(&intent, "alertname=PodDown,node=n1,severity=warning", 1, &inhibited);
    check(&intent, "alertname=PodDown,node=n2,severity=warning", 1, "heard");

    let weekend = "window: inside the window weekend until 2026-11-23T00:00:00.000Z";
    check(&intent, "alertname=A,job=batch", 0, weekend);
    check(&intent, "alertname=A,job=batch", 36 * 3600, "heard");
    check(&intent, "alertname=A,job=office", 0, "inactive: outside the active time workdays of its route");
    check(&intent, "alertname=A,job=office", 36 * 3600, "heard");
    // One of its two routes listens.
    check(&intent, "alertname=A,job=both", 0, "heard");
}

#[test]
fn a_verdict_is_stored_and_read_back() {
    let muted = Muted::Window { name: "w".into(), until: None };
    let text = serde_json::to_string(&muted).unwrap();
    assert_eq!(text, r#"{"muted":"window","name":"w","until":null}"#);
    assert_eq!(serde_json::from_str::<Muted>(&text).unwrap(), muted);
}

#[test]
fn a_source_that_is_not_sent_again_is_taken_for_resolved() {
    let mut intent = intent();
    intent.observe(&alert("alertname=NodeDown,node=n1"), at(0));
    let target = alert("alertname=PodDown,node=n1,severity=warning");
    let stale = Limits::default().stale_after;
    assert!(intent.judge(&target, at(0) + stale - Duration::from_millis(1)).is_some());
    assert!(intent.judge(&target, at(0) + stale).is_none());
}
