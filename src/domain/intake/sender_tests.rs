//! What senders really send, and must not cost an alert.

use serde_json::{Value, json};

use super::tests::{fixture, read, received_at};
use super::*;
use crate::domain::alert::{MAX_LABEL_VALUE, Severity, Status};

fn one(payload: &Value) -> Alert {
    let mut taken = read(payload).expect("a payload");
    assert_eq!((taken.alerts.len(), taken.refused.len()), (1, 0), "{taken:?}");
    taken.alerts.remove(0)
}

/// By the bytes, as it comes in.
fn by_bytes(payload: &Value) -> Taken {
    let bytes = serde_json::to_vec(payload).expect("JSON");
    let taken = take_bytes(&bytes, &Mappings::default(), received_at()).expect("a payload");
    assert_eq!(taken, read(payload).expect("a payload"));
    taken
}

#[test]
fn a_nul_is_replaced_wherever_it_would_be_stored() {
    let taken = by_bytes(&json!([{
        "labels": {"alertname": "A\0", "na\0me": "x"}, "annotations": {"\0": "s\0", "summary": "\0"},
    }]));
    let alert = &taken.alerts[0];
    assert_eq!((alert.name(), alert.label("na\u{fffd}me")), ("A\u{fffd}", Some("x")));
    assert!(alert.annotations.iter().all(|(name, text)| !name.contains('\0') && !text.contains('\0')));

    let mut silenced = fixture("alertmanager_event_silenced");
    let event = &mut silenced["data"]["silenceMutedAlert"];
    event["silence"]["comment"] = json!("deploy\0");
    event["mutedAlert"]["labels"] = json!({"alertname": "A\0", "na\0me": "x"});
    let fact = read(&silenced).expect("a payload").knowledge.remove(0);
    assert_eq!((fact.about, fact.name.as_str()), (alert.fingerprint, "A\u{fffd}"));
    assert!(!format!("{:?}", fact.known).contains("\\0"), "{:?}", fact.known);

    let keyed = one(&json!({"event_action": "trigger", "dedup_key": "k\0", "payload": {"summary": "s\0"}}));
    assert_eq!((keyed.name(), keyed.annotations["dedup_key"].as_str()), ("s\u{fffd}", "k\u{fffd}"));
}

#[test]
fn the_words_for_weight_are_the_same_for_all_senders() {
    let critical =
        ["P0", "p1", "sev0", "SEV-1", "sev_2", "S1", "s-0", " Severe ", "urgent", "blocker", "alert", "emerg"];
    let warning = ["p2", "P-3", "sev3", "S3", "minor", " Major "];
    let info = ["p4", "P5", "sev-4", "s5", "notice"];
    for (words, severity) in
        [(&critical[..], Severity::Critical), (&warning[..], Severity::Warning), (&info[..], Severity::Info)]
    {
        for word in words {
            assert_eq!(Severity::parse(word), Some(severity), "{word}");
            assert_eq!(one(&json!({"labels": {"alertname": "A", "severity": word}})).severity(), severity, "{word}");
        }
    }
    // These say nothing, and leave it to the next label.
    for word in ["p", "s", "sev", "p6", "s10", "sev11", "p-", "ss1", "1", "normal", "unknown"] {
        assert_eq!(Severity::parse(word), None, "{word}");
    }
}

#[test]
fn what_decorates_does_not_cost_the_alert() {
    let plain = json!({"labels": {"alertname": "A", "service": "pay"}, "annotations": {"summary": "s"}});
    let mut odd = plain.clone();
    odd["labels"]["team"] = Value::Null;
    odd["annotations"] = json!({"summary": "s", "runbook_url": null, "links": {"a": [1]}, "n": 3});
    let alert = by_bytes(&json!({"alerts": [odd]})).alerts.remove(0);
    assert_eq!(alert.fingerprint, one(&plain).fingerprint);
    assert_eq!(alert.label("team"), None);
    let annotation = |name: &str| alert.annotations.get(name).map(String::as_str);
    let found = ["summary", "runbook_url", "links", "n"].map(annotation);
    assert_eq!(found, [Some("s"), None, Some(r#"{"a":[1]}"#), Some("3")]);

    for annotations in [json!([]), json!("a sentence"), json!(null), json!([{"a": 1}])] {
        let mut odd = plain.clone();
        odd["annotations"] = annotations;
        assert_eq!(one(&odd).fingerprint, one(&plain).fingerprint);
    }
    let mut event = fixture("alertmanager_event_created.fire");
    event["data"]["alertCreated"]["alert"]["annotations"] = json!({"summary": "5xx", "runbook": null, "more": []});
    assert_eq!(one(&event).fingerprint, one(&fixture("alertmanager_event_created.fire")).fingerprint);
}

#[test]
fn labels_of_our_own_making_are_cut() {
    let tags = |last: &str| (0..300).map(|n| format!("role:r{n:04}é")).collect::<Vec<_>>().join(",") + last;
    let event = |tags: String| json!({"title": "t", "alert_transition": "Triggered", "host": "h", "tags": tags});
    let long = one(&event(tags("")));
    assert!(long.labels["role"].len() <= MAX_LABEL_VALUE && long.labels["role"].ends_with('…'));
    // What was cut away still tells them apart.
    assert_ne!(long.fingerprint, one(&event(tags(",role:r9999"))).fingerprint);

    let summary = "磁".repeat(1_024);
    let event = |action: &str| json!({"event_action": action, "dedup_key": "k", "payload": {"summary": summary, "source": "db", "severity": "error"}});
    let (begun, ended) = (one(&event("trigger")), one(&event("resolve")));
    assert!(begun.name().len() <= MAX_LABEL_VALUE && begun.name().starts_with("磁磁"));
    assert_eq!(begun.annotations["summary"], summary);
    assert_eq!((begun.fingerprint, ended.status), (ended.fingerprint, Status::Resolved));
}

#[test]
fn a_pagerduty_trigger_without_a_key_is_known_by_all_it_says() {
    let event = |summary: &str| {
        json!({"event_action": "trigger", "routing_key": "R0UT1NGKEY",
            "payload": {"summary": summary, "source": "db-1", "class": "disk", "severity": "critical"}})
    };
    let (full, slow) = (one(&event("the disk is full")), one(&event("the disk is slow")));
    assert_eq!(full.fingerprint, one(&event("the disk is full")).fingerprint);
    assert_ne!(full.fingerprint, slow.fingerprint);
    // The key that is answered ends it.
    let taken = read(&event("the disk is full")).expect("a payload");
    let key = taken.dedup_key().expect("a key");
    let end = json!({"event_action": "resolve", "routing_key": "R0UT1NGKEY", "dedup_key": key});
    assert_eq!(one(&end).fingerprint, full.fingerprint);
    assert!(!format!("{taken:?}").contains("R0UT1NGKEY"));

    let mut named = event("the disk is full");
    named["dedup_key"] = json!("mine");
    named["payload"]["custom_details"] = json!({"dedup_key": "another"});
    assert_eq!(read(&named).expect("a payload").dedup_key(), Some("mine"));
    assert_eq!(read(&fixture("alertmanager.fire")).expect("a payload").dedup_key(), None);
    assert_eq!(read(&fixture("cloudevents_wrapped.fire")).expect("a payload").dedup_key(), None);
}

#[test]
fn alerts_that_the_sender_left_out_are_remarked() {
    for name in ["alertmanager.fire", "grafana.fire"] {
        let mut group = fixture(name);
        for (truncated, remarks) in [(json!(0), 0), (json!(7), 1), (json!("7"), 1), (json!(null), 0)] {
            group["truncatedAlerts"] = truncated;
            let taken = by_bytes(&group);
            assert_eq!(taken.remarks.len(), remarks, "{name}");
            assert!(taken.remarks.iter().all(|remark| remark.to_string().starts_with("7 alerts of a group")), "{name}");
        }
    }
}

fn headers(prefix: &str) -> BTreeMap<String, String> {
    let attributes = [("specversion", "1.0"), ("type", "com.example.disk.full"), ("source", "/db"), ("id", "1")];
    attributes.map(|(name, value)| (format!("{prefix}{name}"), value.to_owned())).into()
}

fn structured(headers: &BTreeMap<String, String>, body: &[u8]) -> Taken {
    let bytes = structured_event(headers, body).expect("an event");
    take_bytes(&bytes, &Mappings::default(), received_at()).expect("a payload")
}

#[test]
fn a_binary_cloud_event_may_have_any_body() {
    let group = serde_json::to_vec(&fixture("alertmanager.fire")).expect("JSON");
    for prefix in ["ce-", "ce_", "CE_"] {
        let within = structured(&headers(prefix), &group).alerts;
        assert_eq!(within.len(), 2, "{prefix}");
        for body in [&b""[..], b"the disk is full", b"[ERROR] full", b"\xff\xfe", b"42"] {
            let taken = structured(&headers(prefix), body);
            assert_eq!(taken.alerts[0].name(), "com.example.disk.full", "{prefix} {body:?}");
        }
    }
    assert_eq!(structured(&headers("ce-"), b"the disk is full").alerts[0].annotations["data"], "the disk is full");
    // Half a group is refused, as before.
    assert_eq!(structured_event(&headers("ce-"), b"{\"alerts\": ["), None);
    assert_eq!(structured_event(&BTreeMap::new(), &group), None);
}

#[test]
fn data_in_base64_is_data() {
    use base64::Engine as _;
    let event = |bytes: &[u8]| {
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        json!({"specversion": "1.0", "type": "com.example.group", "source": "/am", "data_base64": data})
    };
    let group = serde_json::to_vec(&fixture("alertmanager.resolve")).expect("JSON");
    let taken = read(&event(&group)).expect("a payload");
    assert_eq!(taken.alerts.iter().map(|alert| alert.status).collect::<Vec<_>>(), [Status::Resolved; 2]);
    assert_eq!(one(&event(b"plain text")).annotations["data"], "plain text");
    assert_eq!(one(&event(b"\xff")).name(), "com.example.group");
}

#[test]
fn data_with_labels_and_no_name_is_not_the_alert() {
    let event =
        |data: Value| json!({"specversion": "1.0", "type": "com.example.pod.killed", "source": "/k8s", "data": data});
    for labels in [json!({"app": "pay"}), json!({"alertname": null}), json!({"alertname": ""}), json!({})] {
        assert_eq!(one(&event(json!({"labels": labels, "message": "killed"}))).name(), "com.example.pod.killed");
    }
    assert_eq!(one(&event(json!({"labels": {"alertname": "A"}}))).name(), "A");
    let batch = json!([{"labels": {"app": "pay"}}, {"labels": {"alertname": "A"}}]);
    let taken = read(&event(batch)).expect("a payload");
    assert_eq!((taken.alerts[0].name(), taken.refused.len()), ("A", 1));
}

#[test]
fn the_contributors_of_a_cloudwatch_alarm_are_alerts_of_their_own() {
    let event = |table: &str, id: &str, state: &str| {
        let mut event = fixture("eventbridge.fire");
        event["detail-type"] = json!("CloudWatch Alarm Contributor State Change");
        event["detail"]["alarmContributor"] = json!({"id": id, "attributes": {"TableName": table}});
        event["detail"]["state"]["value"] = json!(state);
        event["detail"].as_object_mut().expect("an object").remove("previousState");
        one(&event)
    };
    let (orders, carts) = (event("orders", "6d44", "ALARM"), event("carts", "7e55", "ALARM"));
    assert_ne!(orders.fingerprint, carts.fingerprint);
    assert_ne!(orders.fingerprint, one(&fixture("eventbridge.fire")).fingerprint);
    assert_eq!((orders.label("TableName"), orders.label("contributor")), (Some("orders"), Some("6d44")));
    let end = event("orders", "6d44", "OK");
    assert_eq!((end.fingerprint, end.status), (orders.fingerprint, Status::Resolved));
    // By SNS it has the same identity.
    let mut message = fixture("cloudwatch.fire");
    message["AlarmContributorId"] = json!("6d44");
    message["AlarmContributorAttributes"] = json!({"TableName": "orders"});
    assert_eq!(one(&message).fingerprint, orders.fingerprint);
}

#[test]
fn an_alarm_on_an_expression_has_a_target() {
    let mut message = fixture("cloudwatch.fire");
    message["Trigger"] = json!({"Threshold": 5, "Metrics": [
        {"Id": "e1", "Expression": "m1*100", "ReturnData": true},
        {"Id": "m1", "ReturnData": false, "MetricStat": {"Stat": "Sum", "Metric": {"MetricName": "Errors",
            "Namespace": "AWS/Lambda", "Dimensions": [{"name": "FunctionName", "value": "checkout"}]}}},
    ]});
    let alert = one(&message);
    let labels = ["FunctionName", "service", "metric", "cloudwatch_namespace"].map(|name| alert.label(name));
    assert_eq!(labels, [Some("checkout"), Some("checkout"), Some("Errors"), Some("AWS/Lambda")]);
    assert_eq!(alert.fingerprint, one(&fixture("cloudwatch.fire")).fingerprint);
}

#[test]
fn what_is_told_there_is_not_muted_there() {
    let mut listed = fixture("alertmanager_api_v2.fire");
    let muted = read(&listed).expect("a payload").knowledge;
    for alert in listed.as_array_mut().expect("a list") {
        alert["status"] = json!({"state": "active", "silencedBy": [], "inhibitedBy": []});
        alert["receivers"] = json!([{"name": "ops"}]);
    }
    let lifted = read(&listed).expect("a payload").knowledge;
    assert_eq!(lifted.len(), listed.as_array().map_or(0, Vec::len));
    assert_eq!(lifted[0].about, muted[0].about);
    assert_eq!(lifted[0].known, Known::Grouped { receiver: "ops".into(), group_key: String::new() });
    // Not decided yet.
    listed[0]["status"]["state"] = json!("unprocessed");
    assert!(read(&listed).expect("a payload").knowledge.iter().all(|fact| fact.about != muted[0].about));

    let labels = json!({"alertname": "HighErrorRate", "service": "checkout", "severity": "page"});
    let told = json!({"@timestamp": "2026-11-21T02:17:05.123Z", "instance": "a", "data": {"notification": {
        "groupInfo": {"receiverName": "ops", "groupKey": "g"},
        "firingAlerts": [{"labels": labels}, {"hash": "1", "details": {"labels": labels}}, {"labels": {}}, 7],
        "resolvedAlerts": [{"labels": {"alertname": "Other"}}],
    }}});
    let taken = read(&told).expect("a payload");
    let silenced = read(&fixture("alertmanager_event_silenced")).expect("a payload").knowledge.remove(0);
    assert_eq!(taken.knowledge.iter().map(|fact| fact.about).collect::<Vec<_>>(), [silenced.about; 2]);
    assert_eq!(taken.knowledge[0].known, Known::Grouped { receiver: "ops".into(), group_key: "g".into() });
    assert_eq!(taken.remarks, [Remark::PassedOver("a notification was delivered".into())]);
}

#[test]
fn a_reminder_of_datadog_says_that_it_is_one() {
    let is_repeat = |event: Value| one(&event).annotations.contains_key(NOTE_REPEAT);
    let said = |transition: &str| json!({"title": "t", "alert_transition": transition, "date": 1_795_227_420});
    for (transition, repeat) in [("Triggered", false), ("Re-Triggered", true), ("Renotify", true), ("Re-No Data", true)]
    {
        assert_eq!(is_repeat(said(transition)), repeat, "{transition}");
    }
    assert!(is_repeat(json!({"title": "[P1] [Re-Triggered on {host:a}] CPU", "event_type": "query_alert_monitor"})));
    assert!(!is_repeat(json!({"title": "[P1] [Recovered on {host:a}] CPU", "event_type": "query_alert_monitor"})));
}

#[test]
fn refusals_of_one_payload_have_an_end() {
    let items: Vec<Value> =
        std::iter::once(json!({"labels": {"alertname": "A"}})).chain(std::iter::repeat_n(json!({}), 5_000)).collect();
    let taken = by_bytes(&Value::from(items));
    assert_eq!((taken.alerts.len(), taken.refused.len(), taken.refused_beyond), (1, MAX_REFUSED + 1, 4_900));
    assert!(taken.refused[MAX_REFUSED].to_string().starts_with("4900 more alerts"), "{}", taken.refused[MAX_REFUSED]);
    let nameless = by_bytes(&json!({"alerts": vec![json!({"labels": {"a": "b"}}); 101]}));
    assert_eq!((nameless.refused.len(), nameless.refused_beyond), (101, 1));
    let few = by_bytes(&json!({"alerts": vec![json!({"labels": {"a": "b"}}); 100]}));
    assert_eq!((few.refused.len(), few.refused_beyond), (100, 0));
}
