use std::fmt::Write as _;

use expect_test::expect;
use serde_json::{Value, json};

use super::tests::{check_value, fixture, read};
use super::*;

#[test]
fn words_of_transition_and_weight() {
    let mut text = String::new();
    for (transition, kind) in [
        ("Triggered", "error"),
        ("Re-Triggered", "error"),
        ("Warn", "warning"),
        ("No Data", "error"),
        ("Renotify", "info"),
        ("Recovered", "success"),
        ("Exploded", "error"),
    ] {
        let taken = read(
            &json!({"title": "t", "alert_id": 7, "alert_scope": "a", "alert_transition": transition, "alert_type": kind}),
        );
        let told = match taken {
            Ok(taken) => format!("{:?} {:?}", taken.alerts[0].status, taken.alerts[0].severity()),
            Err(bad) => bad.to_string(),
        };
        let _ = writeln!(text, "{transition}: {told}");
    }
    expect![[r#"
        Triggered: Firing Critical
        Re-Triggered: Firing Critical
        Warn: Firing Warning
        No Data: Firing Warning
        Renotify: Firing Info
        Recovered: Resolved Warning
        Exploded: `alert_transition` is "Exploded"; give $ALERT_TRANSITION: Triggered, Warn, No Data, Renotify or Recovered
    "#]].assert_eq(&text);
}

#[test]
fn an_unknown_payload_says_what_was_looked_for() {
    check_value(
        json!({"event_action": "trigger", "title": "x"}),
        expect![[r#"
        refused: no known format: found event_action, title; PagerDuty Events v2 (looked for event_action, payload or dedup_key) lacks payload or dedup_key; Alertmanager webhook (v4) lacks alerts; a single alert lacks labels; Datadog webhook (looked for title or alert_title, alert_transition, alert_type or event_type) lacks alert_transition, alert_type or event_type; EventBridge event lacks detail-type, detail; CloudWatch alarm lacks AlarmName, NewStateValue; Alertmanager event lacks @timestamp or instance, data.alertCreated (or another event); Grafana webhook lacks alerts, orgId or alerts[0].valueString; Prometheus or Alertmanager API answer lacks status, data.alerts; Grafana legacy webhook lacks ruleName or ruleId, state; CloudEvents 1.0 lacks specversion, type, source; Amazon SNS lacks Type, TopicArn, Message
    "#]],
    );
    check_value(
        json!("text"),
        expect![[r#"
        refused: the payload is a string; send a JSON object, or an array of objects
    "#]],
    );
}

#[test]
fn one_bad_item_does_not_lose_the_others() {
    check_value(
        json!([
            {"labels": {"alertname": "A"}, "startsAt": "2026-11-21T02:17:00Z"},
            {"labels": {"alertname": "B"}, "startsAt": "yesterday"},
            {"labels": {"alertname": ""}},
            "text",
            {"labels": {"alertname": {"is": "an object"}}},
            [{"labels": {"alertname": "C"}}],
        ]),
        expect![[r#"
            fec7ded29d30d732 firing Warning 2026-11-21T02:17:00.000Z
              alertname=A
              # midwatch_source=alertmanager
            0d834f944ff1d699 firing Warning 2026-11-21T03:00:00.000Z
              alertname=C
              # midwatch_source=alertmanager | midwatch_untimed=its sender names no start
            refused: `startsAt` is "yesterday"; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
            refused: `labels` is missing; give an object of strings with at least `alertname`
            refused: the payload is a string; send a JSON object, or an array of objects
            refused: `labels` is alertname: {"is":"an object"}; give values that are strings
        "#]],
    );
    check_value(
        json!({"alerts": "none"}),
        expect![[r#"
        refused: `alerts` is "none"; give an array of alerts
    "#]],
    );
}

#[test]
fn instants_of_all_vendors() {
    let at = |value: Value| match times::instant(Some(&value), "t") {
        Ok(Some(at)) => at.to_string(),
        Ok(None) => "not set".to_owned(),
        Err(bad) => bad.to_string(),
    };
    let values = [
        json!("2026-11-21T02:17:00Z"),
        json!("2026-11-21T02:17:00.5+02:00"),
        json!("2026-11-21T02:17:40.985+0000"),
        json!("2026-11-21 02:17:00 UTC"),
        json!("2026-11-21T02:17:00"),
        json!("0001-01-01T00:00:00Z"),
        json!(""),
        json!(0),
        json!(1_795_227_420),
        json!(1_795_227_420_123_i64),
        json!("1795227420123456"),
        json!(1_795_227_420_123_456_789_i64),
        json!("1795227420.25"),
        json!(-5),
        json!(1e300),
        json!("soon"),
        json!("2026-11-21T02:17:00+é"),
        json!([]),
    ];
    let text: String = values.iter().map(|value| format!("{value} -> {}\n", at(value.clone()))).collect();
    expect![[r#"
        "2026-11-21T02:17:00Z" -> 2026-11-21T02:17:00.000Z
        "2026-11-21T02:17:00.5+02:00" -> 2026-11-21T00:17:00.500Z
        "2026-11-21T02:17:40.985+0000" -> 2026-11-21T02:17:40.985Z
        "2026-11-21 02:17:00 UTC" -> 2026-11-21T02:17:00.000Z
        "2026-11-21T02:17:00" -> 2026-11-21T02:17:00.000Z
        "0001-01-01T00:00:00Z" -> not set
        "" -> not set
        0 -> not set
        1795227420 -> 2026-11-21T02:17:00.000Z
        1795227420123 -> 2026-11-21T02:17:00.123Z
        "1795227420123456" -> 2026-11-21T02:17:00.123Z
        1795227420123456789 -> 2026-11-21T02:17:00.123Z
        "1795227420.25" -> 2026-11-21T02:17:00.250Z
        -5 -> `t` is -5; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
        1e+300 -> `t` is 1e+300; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
        "soon" -> `t` is "soon"; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
        "2026-11-21T02:17:00+é" -> `t` is "2026-11-21T02:17:00+é"; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
        [] -> `t` is []; give an RFC 3339 instant such as 2026-11-21T02:17:00Z
    "#]]
    .assert_eq(&text);
}

#[test]
fn times_that_cannot_be_are_ordered_by_the_receipt_and_noted() {
    let alert = |starts: &str| json!({"labels": {"alertname": "A"}, "startsAt": starts});
    check_value(
        json!([alert("2036-01-01T00:00:00Z"), alert("1970-01-21T00:00:00Z"), alert("2026-11-21T03:40:00Z")]),
        expect![[r#"
        fec7ded29d30d732 firing Warning 2026-11-21T03:00:00.000Z
          alertname=A
          # midwatch_source=alertmanager | midwatch_time_note=startsAt says 2036-01-01T00:00:00.000Z, 79869 h after its re
        fec7ded29d30d732 firing Warning 2025-10-17T00:00:00.000Z
          alertname=A
          # midwatch_source=alertmanager | midwatch_time_note=startsAt says 1970-01-21T00:00:00.000Z, which is too long ag
        fec7ded29d30d732 firing Warning 2026-11-21T03:40:00.000Z
          alertname=A
          # midwatch_source=alertmanager
    "#]],
    );
    // An end before the beginning, by a clock that was set, is an end all the same.
    check_value(
        json!({"labels": {"alertname": "A"}, "status": "resolved", "startsAt": "2026-11-21T02:30:00Z", "endsAt": "2026-11-21T02:00:00Z"}),
        expect![[r#"
            fec7ded29d30d732 resolved Warning 2026-11-21T02:30:00.000Z .. 2026-11-21T02:00:00.000Z
              alertname=A
              # midwatch_source=alertmanager
        "#]],
    );
}

#[test]
fn a_confirmation_from_elsewhere_is_suspect() {
    for url in [
        "https://sns.amazonaws.com.evil.example/x",
        "http://sns.us-east-1.amazonaws.com/",
        "https://x@evil/.amazonaws.com",
        "https://sns.bucket.s3.amazonaws.com/",
        "https://sns.us-east-1.amazonaws.com@evil.example/",
        "https://sns.us-east-1.amazonaws.com/\\@evil.example/",
        "https://sns.us-east-1.amazonaws.com/ x",
    ] {
        let mut ask = fixture("sns.subscribe");
        ask["SubscribeURL"] = json!(url);
        let remark = &read(&ask).expect("a payload").remarks[0];
        assert!(matches!(remark, Remark::ConfirmSubscription { host: SnsHost::Foreign, .. }), "{url}: {remark}");
        for told in [Some(remark.to_string()), remark.for_the_log()] {
            assert!(told.is_some_and(|told| told.contains("not Amazon's") && !told.contains("http")), "{url}");
        }
    }
}

#[test]
fn a_confirmation_is_told_whole_to_the_audit_and_without_its_token_to_the_log() {
    let mut ask = fixture("sns.subscribe");
    for host in ["sns.us-east-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"] {
        let url = format!("https://{host}/?Action=ConfirmSubscription&Token=2336412f37");
        ask["SubscribeURL"] = json!(url);
        let remark = &read(&ask).expect("a payload").remarks[0];
        assert!(remark.to_string().contains(&url), "{remark}");
        let logged = remark.for_the_log().expect("something to do");
        assert!(logged.contains(&format!("https://{host}/;")) && !logged.contains("2336412f37"), "{logged}");
    }
}

#[test]
fn the_old_door_and_this_one_agree() {
    for name in ["alertmanager.fire", "alertmanager.resolve"] {
        let mut payload = fixture(name);
        // Empty labels are dropped now, which the old door did not do; it also had no source.
        payload["alerts"][0]["labels"].as_object_mut().expect("labels").remove("empty");
        let old = crate::domain::alert::read_payload(&payload).expect("a payload");
        let mut new = read(&payload).expect("a payload").alerts;
        new.iter_mut().for_each(|alert| drop(alert.annotations.remove(NOTE_SOURCE)));
        assert_eq!(old.into_iter().map(|alert| alert.expect("an alert")).collect::<Vec<_>>(), new);
    }
}

#[test]
fn the_fingerprint_of_alertmanager_is_its_own() {
    // FNV-1a of nothing is its offset basis; of labels as `model.LabelSet.Fingerprint` walks them.
    assert_eq!(alertmanager_fingerprint(&Default::default()), "cbf29ce484222325");
    let labels = [("a".to_owned(), "b".to_owned())].into();
    assert_ne!(alertmanager_fingerprint(&labels), Fingerprint::of(&labels).to_string());
}

/// Datadog's default body has no scope but in the title: each group of the monitor is an alert.
#[test]
fn the_groups_of_a_datadog_monitor_are_alerts_of_their_own() {
    let alert = |mark: &str| {
        let title = format!("[P1] [{mark}] CPU is high");
        let event = json!({"id": "1", "title": title, "body": "b", "event_type": "query_alert_monitor"});
        read(&event).expect("a payload").alerts.remove(0)
    };
    let payments = alert("Triggered on {host:db-9,service:payments}");
    let labels = ["alertname", "host", "node", "service"].map(|name| payments.label(name));
    assert_eq!(labels, [Some("CPU is high"), Some("db-9"), Some("db-9"), Some("payments")]);
    for same in [
        "Recovered on {service:payments,host:db-9}",
        "Warn on {host:db-9,service:payments}",
        "No Data on {host:db-9, service:payments}",
        "Re-Triggered on {host:db-9,service:payments}",
    ] {
        assert_eq!(alert(same).fingerprint, payments.fingerprint, "{same}");
    }
    for other in ["Triggered on {host:db-9,service:cart}", "Triggered on {host:db-8,service:payments}", "Triggered"] {
        assert_ne!(alert(other).fingerprint, payments.fingerprint, "{other}");
    }
    // What is no tag tells groups apart all the same; everything is no scope.
    assert_ne!(alert("Triggered on {web}").fingerprint, alert("Triggered on {db}").fingerprint);
    assert_eq!(alert("Triggered on {*}").fingerprint, alert("Recovered").fingerprint);
    let keyed = |host: &str| {
        let title = format!("[Triggered on {{host:{host}}}] CPU is high");
        read(&json!({"title": title, "aggreg_key": "k", "alert_type": "error"})).expect("a payload").alerts.remove(0)
    };
    assert_ne!(keyed("a").fingerprint, keyed("b").fingerprint);
}
