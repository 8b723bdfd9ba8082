use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::tests::fixture;
use super::*;
use crate::domain::alert::{MAX_ANNOTATION, MAX_LABEL_VALUE, MAX_LABELS};

const NAMES: [&str; 22] = [
    "alertmanager.fire",
    "alertmanager.resolve",
    "prometheus.fire",
    "prometheus_api.fire",
    "alertmanager_api_v2.fire",
    "grafana.fire",
    "grafana_legacy.fire",
    "pagerduty.fire",
    "pagerduty.resolve",
    "datadog.fire",
    "datadog_default.fire",
    "sns.fire",
    "sns.subscribe",
    "cloudwatch.fire",
    "eventbridge.resolve",
    "cloudevents.fire",
    "cloudevents_wrapped.fire",
    "alertmanager_event_created.fire",
    "alertmanager_event_silenced",
    "alertmanager_event_inhibited",
    "alertmanager_event_v1_resolved.resolve",
    "mapping_zabbix.fire",
];

fn received_at() -> Timestamp {
    Timestamp::parse("2026-11-21T03:00:00Z").expect("an instant")
}

fn mappings() -> Mappings {
    let mapping = json!({"name": "m", "when": {"/source": {"equals": "zabbix"}}, "items": "/events", "status": "/state",
        "firing_values": ["PROBLEM"], "labels": {"alertname": "{/trigger}!", "é": "/host/name"}, "value": "/at"});
    Mappings::compile(vec![serde_json::from_value(mapping).expect("a mapping")]).expect("good mappings")
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("labels".to_owned()),
        Just("alerts".to_owned()),
        Just("alertname".to_owned()),
        Just("status".to_owned()),
        Just("startsAt".to_owned()),
        Just("data".to_owned()),
        Just("specversion".to_owned()),
        Just("payload".to_owned()),
        Just("Message".to_owned()),
        Just("2026-11-21T02:17:40.985+0000".to_owned()),
        Just("firing".to_owned()),
        "\\PC{0,24}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Replaces, or removes, what lies at the `at`-th place of the tree.
fn mutate(value: &mut Value, at: &mut usize, with: &Option<Value>) -> bool {
    if *at == 0 {
        if let Some(with) = with {
            *value = with.clone();
        }
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| mutate(item, at, with)),
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            keys.iter().any(|key| {
                if *at == 0 && with.is_none() {
                    map.remove(key);
                    return true;
                }
                map.get_mut(key).is_some_and(|inner| mutate(inner, at, with))
            })
        }
        _ => false,
    }
}

fn sound(taken: &Taken) {
    for alert in &taken.alerts {
        assert!(alert.labels.len() <= MAX_LABELS && alert.labels.contains_key("alertname"));
        assert!(alert.labels.values().all(|text| !text.is_empty() && text.len() <= MAX_LABEL_VALUE));
        assert!(alert.annotations.values().all(|text| text.len() <= MAX_ANNOTATION + '…'.len_utf8()));
        assert!(alert.starts_at <= received_at() + MAX_AHEAD);
        assert!(alert.value.is_none_or(f64::is_finite));
    }
}

/// Nothing panics, what comes out is bounded, and both roads have one result.
fn survive(payload: &Value) {
    let bytes = serde_json::to_vec(payload).expect("JSON");
    let by_bytes = take_bytes(&bytes, &Mappings::default(), received_at());
    let again: Value = serde_json::from_slice(&bytes).expect("JSON");
    let by_tree = take(&again, &Mappings::default(), received_at());
    assert_eq!(by_bytes, by_tree);
    by_tree.iter().for_each(sound);
    take(payload, &mappings(), received_at()).iter().for_each(sound);
    if let Err(bad) = by_tree {
        assert!(bad.to_string().len() < 4_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_survived(payload in any_json()) {
        survive(&payload);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = take_bytes(&bytes, &Mappings::default(), received_at());
    }

    #[test]
    fn mutated_samples_are_survived(name in 0..NAMES.len(), at in 0_usize..60, with in prop::option::of(any_json()), more in 0_usize..60) {
        let mut payload = fixture(NAMES[name]);
        mutate(&mut payload, &mut at.clone(), &with);
        survive(&payload);
        mutate(&mut payload, &mut more.clone(), &None);
        survive(&payload);
        for alone in [payload.get(0), payload.pointer("/alerts/0")].into_iter().flatten() {
            survive(alone);
        }
        survive(&json!([payload.clone(), fixture("prometheus.fire")[0]]));
        survive(&json!({"alerts": [fixture("prometheus.fire")[0], payload]}));
    }

    #[test]
    fn any_text_for_a_time_is_survived(text in "[-+0-9TZ:. é]{0,30}") {
        let _ = times::instant(Some(&Value::from(text)), "t");
    }
}

fn refused(payload: &Value) -> String {
    let taken = take(payload, &Mappings::default(), received_at()).expect("a payload");
    survive(payload);
    assert!(taken.alerts.is_empty());
    taken.refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_too_much_is_refused_with_the_reason() {
    let many: Map<String, Value> =
        (0..10_000).map(|n| (format!("l{n}"), json!("x"))).chain([("alertname".into(), json!("A"))]).collect();
    assert_eq!(refused(&json!([{"labels": many}])), "10001 labels; the limit is 128");
    let long = "x".repeat(5 << 20);
    let reason = "has 5242880 bytes; the limit is 2048; move long text to an annotation";
    assert_eq!(refused(&json!([{"labels": {"alertname": "A", "b": long}}])), format!("label `b` {reason}"));
    let name = refused(&json!([{"labels": {"alertname": "A", long.as_str(): "b"}}]));
    assert_eq!(name, format!("label `{}` {reason}", "x".repeat(80)));
    let annotated = json!({"labels": {"alertname": "A"}, "annotations": {"summary": long}});
    survive(&annotated);
}

#[test]
fn unicode_names_are_names() {
    let payload = json!([{"labels": {"alertname": "Überlast", "größe": "大", "🛳": "⚓"}}]);
    survive(&payload);
    let taken = take(&payload, &Mappings::default(), received_at()).expect("a payload");
    assert_eq!(taken.alerts[0].label("🛳"), Some("⚓"));
}

#[test]
fn envelopes_in_envelopes_have_an_end() {
    let mut payload = fixture("prometheus.fire");
    for _ in 0..40 {
        payload = json!({"specversion": "1.0", "type": "t", "source": "s", "data": payload});
    }
    assert_eq!(take(&payload, &Mappings::default(), received_at()), Err(BadPayload::TooDeep));
    let mut nested = json!([]);
    for _ in 0..100 {
        nested = json!([nested]);
    }
    survive(&nested);
}
