use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::tests::{fixture, tell};
use super::*;

fn zabbix() -> Value {
    json!({
        "name": "zabbix",
        "when": {"/source": {"equals": "zabbix"}, "/events": {"exists": true}},
        "items": "/events",
        "status": "/state",
        "firing_values": ["PROBLEM"],
        "resolved_values": ["OK"],
        "starts_at": "/at",
        "labels": {"alertname": "/trigger", "node": "/host/name", "place": "{/host/group}-{/host/name}", "severity": "/severity",
                   "from": "/source", "origin": "zabbix {{1}}", "rack": "/host/rack"},
        "annotations": {"summary": "{/text} on {/host/name}"},
    })
}

fn compile(mappings: Vec<Value>) -> Result<Mappings, String> {
    let mappings = mappings.into_iter().map(|mapping| serde_json::from_value(mapping).expect("a mapping")).collect();
    Mappings::compile(mappings)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n")
}

fn read(mapping: Value, payload: &Value) -> Result<Taken, BadPayload> {
    let received_at = Timestamp::parse("2026-11-21T03:00:00Z").expect("an instant");
    take(payload, &compile(vec![mapping]).expect("good mappings"), received_at)
}

fn check_faults(mappings: Vec<Value>, expected: Expect) {
    expected.assert_eq(&compile(mappings).map(|_| "no faults\n".to_owned()).unwrap_or_else(|faults| faults));
}

#[test]
fn a_mapping_reads_items() {
    let text: String =
        ["mapping_zabbix.fire", "mapping_zabbix.resolve"].map(|name| tell(&read(zabbix(), &fixture(name)))).concat();
    expect![[r#"
        8cdee23c00199314 firing Warning 2026-11-21T02:17:00.000Z
          alertname=Free disk space is less than 10 % | from=zabbix | node=db-1 | origin=zabbix {1} | place=Databases-db-1 | severity=warning
          # midwatch_source=mapping:zabbix | summary=8 % free on db-1
        8cdee23c00199314 resolved Warning 2026-11-21T02:50:20.000Z .. 2026-11-21T03:00:00.000Z
          alertname=Free disk space is less than 10 % | from=zabbix | node=db-1 | origin=zabbix {1} | place=Databases-db-1 | severity=Not classified
          # midwatch_source=mapping:zabbix | summary=30 % free on db-1
    "#]].assert_eq(&text);
}

#[test]
fn a_mapping_that_matches_comes_before_the_built_in_formats() {
    let mapping = json!({"name": "mine", "when": {"/version": {"equals": "4"}}, "labels": {"alertname": "/receiver"}});
    let taken = read(mapping.clone(), &fixture("alertmanager.fire")).expect("a payload");
    assert_eq!(taken.alerts.iter().map(|alert| alert.name()).collect::<Vec<_>>(), ["midwatch"]);
    let taken = read(mapping, &fixture("prometheus.fire")).expect("a payload");
    assert_eq!(taken.alerts[0].name(), "TargetDown");
}

#[test]
fn a_status_that_was_not_foreseen_is_refused() {
    let mut payload = fixture("mapping_zabbix.fire");
    payload["events"][0]["state"] = json!("MAYBE");
    expect![[r#"
        refused: mapping `zabbix`: `/state` is "MAYBE"; give one of firing_values or resolved_values
    "#]]
    .assert_eq(&tell(&read(zabbix(), &payload)));
    payload["events"] = json!("none");
    expect![[r#"
        refused: mapping `zabbix`: `/events` is "none"; give an array of alerts
    "#]]
    .assert_eq(&tell(&read(zabbix(), &payload)));
}

#[test]
fn identity_may_be_named() {
    let mut mapping = zabbix();
    mapping["identity"] = json!(["alertname", "node"]);
    let mut other = fixture("mapping_zabbix.fire");
    other["events"][0]["host"]["group"] = json!("Moved");
    let one = |payload: &Value| read(mapping.clone(), payload).expect("a payload").alerts[0].fingerprint;
    assert_eq!(one(&other), one(&fixture("mapping_zabbix.fire")));
}

#[test]
fn faults_are_told_all_at_once() {
    check_faults(
        vec![zabbix()],
        expect![[r#"
        no faults
    "#]],
    );
    check_faults(
        vec![
            json!({"name": "a", "when": {}, "labels": {"service": "{/x"}}),
            json!({"name": "a", "when": {"x": {"exists": true}}, "status": "/s~2", "labels": {"alertname": "/a}", "b": "c}"},
                   "identity": ["team"]}),
            json!({"name": " ", "when": {"/x": {"exists": false}}, "firing_values": [1, []], "resolved_values": ["1"],
                   "labels": {"alertname": "x"}}),
        ],
        expect![[r#"
            mapping `a`, `when`: give at least one condition, or it would take every payload
            mapping `a`, `labels`: `alertname` is missing; without it nobody can name the alert
            mapping `a`, `labels.service`: "{/x" has an open `{`
            mapping `a`, `name`: another mapping has this name
            mapping `a`, `status`: "/s~2" has a lone `~`; write `~0` for it and `~1` for `/`
            mapping `a`, `when`: "x" is no JSON pointer; begin it with `/`
            mapping `a`, `status`: say what its values mean with firing_values and resolved_values
            mapping `a`, `identity`: `team` is no label of this mapping
            mapping `a`, `labels.b`: "c}" has a `}` without `{`
            mapping ` `, `name`: give it a name; alerts are marked with it
            mapping ` `, `firing_values`: [] is no text, number or boolean
            mapping ` `, `resolved_values`: "1" is also in firing_values
            mapping ` `, `status`: say where the status is
        "#]],
    );
}
