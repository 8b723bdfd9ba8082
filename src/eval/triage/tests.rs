use std::sync::Arc;

use serde_json::{Value, json};

use super::super::EvalError;
use super::*;
use crate::domain::intake::{Mapping, Mappings};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::Rules;

fn minute(minute: i64) -> String {
    (Timestamp::from_secs(1_793_491_200 + 60 * minute)).to_string()
}

/// A firing from one minute to another, told of beforehand.
fn fires(service: &str, severity: &str, from: i64, to: i64, truth: Option<&str>) -> Value {
    json!({
        "labels": {"alertname": "Slow", "service": service, "severity": severity},
        "startsAt": minute(from), "endsAt": minute(to), "truth": truth,
    })
}

/// The same with a line for its end.
fn told_twice(line: &Value) -> [Value; 2] {
    let (mut firing, mut resolved) = (line.clone(), line.clone());
    firing["status"] = json!("firing");
    firing["endsAt"] = Value::Null;
    resolved["status"] = json!("resolved");
    [firing, resolved]
}

fn read_as(text: &str, shapes: Shapes<'_>) -> Result<Vec<Case>, EvalError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alerts.jsonl");
    std::fs::write(&file, text).expect("written");
    load(&file, shapes)
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn played(lines: &[Value]) -> (Vec<Verdict>, Report) {
    let cases = read_as(&text(lines), Shapes::Alertmanager).expect("alerts");
    let run = run(&cases, &Arc::new(Topology::default()), Rules::default(), None);
    let report = report(&cases, &run);
    (run.verdicts, report)
}

/// Incidents, notifications and recall.
fn check(name: &str, lines: &[Value], expected: (usize, usize, Option<f64>)) {
    let (_, report) = played(lines);
    assert_eq!((report.incidents, report.notifications, report.truth_recall), expected, "{name}: {report:#?}");
}

#[test]
fn what_is_due_happens_when_it_is_due_and_not_with_the_next_alert() {
    let warning = fires("db", "warning", 0, 60, Some("a"));
    let critical = fires("web", "critical", 180, 190, Some("b"));
    let info = fires("far", "info", 50, 51, None);
    check("nothing between", &[warning.clone(), critical.clone()], (2, 2, Some(1.0)));
    check("something between", &[warning.clone(), info, critical], (2, 2, Some(1.0)));
    check("nothing after", &[fires("db", "warning", 0, 180, Some("a"))], (1, 1, Some(1.0)));
    check("an end that a line tells of", &told_twice(&warning), (1, 1, Some(1.0)));
    let begins = [told_twice(&warning)[0].clone()];
    check("no end at all", &begins, (1, 1, Some(1.0)));
}

#[test]
fn a_warning_that_passes_is_told_to_nobody() {
    let passes = fires("db", "warning", 0, 5, Some("a"));
    check("in two lines", &told_twice(&passes), (0, 0, Some(0.0)));
    check("it alone", &[passes], (0, 0, Some(0.0)));
    // What ends at the instant when it would be due has ended, whoever says so.
    let just = fires("db", "warning", 0, 10, Some("a"));
    check("just, in two lines", &told_twice(&just), (0, 0, Some(0.0)));
    check("just", &[just], (0, 0, Some(0.0)));
}

#[test]
fn a_digest_between_two_alerts_names_what_was_told_until_then() {
    use crate::domain::incident::Sev;
    use crate::eval::telling::Digest;
    let hour = std::time::Duration::from_secs(3600);
    let lines = [fires("db", "warning", 0, 20, None), fires("search", "warning", 200, 220, None)];
    let cases = read_as(&text(&lines), Shapes::Alertmanager).expect("alerts");
    let digest = Some(Digest { lightest: Sev::Two, every: hour });
    let run = run(&cases, &Arc::new(Topology::default()), Rules::default(), digest);
    assert_eq!((run.notified.len(), run.notifications), (2, 2));
}

#[test]
fn both_models_hear_of_the_same_ends() {
    let lines = [fires("db", "critical", 0, 5, Some("a")), fires("web", "critical", 600, 605, Some("b"))];
    let twice: Vec<Value> = lines.iter().flat_map(told_twice).collect();
    let (once, twice) = (played(&lines).1, played(&twice).1);
    // By name alone both are one group; it has ended hours before it could be repeated.
    assert_eq!((once.alertmanager_notifications, once.alertmanager_coarse_notifications), (2, 2));
    assert_eq!((twice.alertmanager_notifications, twice.alertmanager_coarse_notifications), (2, 2));
    assert_eq!((once.incidents, once.notifications), (twice.incidents, twice.notifications));
}

#[test]
fn a_group_in_one_line_says_itself_what_has_ended() {
    let mut over = fires("db", "critical", 0, 5, None);
    over["status"] = json!("resolved");
    let cases = read_as(&text(&[json!({"alerts": [over]})]), Shapes::Alertmanager).expect("alerts");
    assert_eq!(cases[0].at.to_string(), minute(5));
}

#[test]
fn without_a_truth_there_is_no_recall() {
    let (_, report) = played(&[fires("db", "critical", 0, 5, None)]);
    let json = serde_json::to_value(&report).expect("json");
    for name in ["truth_recall", "truth_recall_strict", "purity", "ari"] {
        assert_eq!(json.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(report.incidents, 1);
}

#[test]
fn lines_are_those_of_the_file() {
    let lines = text(&[fires("db", "critical", 0, 5, None), fires("web", "critical", 1, 5, None)]);
    let (first, second) = lines.split_once('\n').expect("two lines");
    let marked = format!("\u{feff}{first}\n\n\n{second}");
    let cases = read_as(&marked, Shapes::Alertmanager).expect("a byte-order mark and empty lines");
    assert_eq!(cases.iter().map(|case| case.line).collect::<Vec<_>>(), [1, 4]);
    let run = run(&cases, &Arc::new(Topology::default()), Rules::default(), None);
    assert_eq!(run.verdicts.iter().map(|verdict| verdict.line).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let refused = |text: &str, expected: &str| {
        let error = read_as(text, Shapes::Alertmanager).expect_err(expected).to_string();
        assert!(error.contains("alerts.jsonl: ") && error.contains(expected), "{error}");
    };
    refused("", "no alerts; write one a line");
    refused("\u{feff}\n \n", "no alerts; write one a line");
    refused("{\"labels\": {\"alertname\": \"a\"}, \"startsAt\": \"yesterday\"}\n", "line 1: ");
    let at = |minute: i64| fires(&format!("service-{minute}"), "critical", minute, minute + 5, None);
    refused(&text(&[at(30), at(20), at(10)]), "line 2: ");
    refused(&text(&[at(90), at(0)]), "line 2: ");
}

#[test]
fn late_lines_and_repeats_are_no_disorder() {
    let at = |minute: i64| fires(&format!("service-{minute}"), "critical", minute, minute + 50, None);
    for minutes in [&[1, 0][..], &[0, 30, 10, 40], &[0, 10, 0, 10, 0], &[0, 10, 20, 0, 30, 10]] {
        let lines: Vec<Value> = minutes.iter().map(|minute| at(*minute)).collect();
        let cases = read_as(&text(&lines), Shapes::Alertmanager).expect("in order");
        assert!(cases.windows(2).all(|two| two[0].at <= two[1].at), "{minutes:?}");
    }
}

#[test]
fn a_replay_reads_what_the_watch_takes_in() {
    let mapping: Mapping = serde_json::from_value(json!({
        "name": "probe", "when": {"/probe": {"exists": true}}, "starts_at": "/since",
        "labels": {"alertname": "Probe", "service": "{/probe}"},
    }))
    .expect("a mapping");
    let mappings = Mappings::compile(vec![mapping]).expect("compiled");
    let shapes = Shapes::Any { mappings: &mappings, read_at: Timestamp::from_secs(1_793_491_200 + 86_400) };
    let pager = json!({"event_action": "trigger", "dedup_key": "k", "payload": {
        "summary": "disk", "source": "db-1", "severity": "critical", "timestamp": minute(3),
    }});
    let lines = [
        fires("db", "critical", 0, 5, Some("a")),
        json!({"probe": "web", "since": minute(1)}),
        json!({"probe": "search"}),
        pager,
    ];
    let cases = read_as(&text(&lines), shapes).expect("all of them");
    let seen: Vec<_> = cases.iter().map(|case| (case.line, case.at.to_string())).collect();
    assert_eq!(seen, [(1, minute(0)), (2, minute(1)), (3, minute(1)), (4, minute(3))]);
    assert!(read_as(&text(&lines), Shapes::Alertmanager).is_err(), "the published format is stricter");
    let refused = |line: Value, expected: &str| {
        let error = read_as(&text(&[line]), shapes).expect_err(expected).to_string();
        assert!(error.contains("line 1: ") && error.contains(expected), "{error}");
    };
    refused(json!({"probe": "search"}), "says no instant");
    refused(json!({"probe": "search", "since": "2001-01-01T00:00:00Z"}), "too long ago");
    refused(json!({"nobody": "knows"}), "no known format");
}
