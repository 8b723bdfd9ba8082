use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

pub(super) fn received_at() -> Timestamp {
    Timestamp::parse("2026-11-21T03:00:00Z").expect("an instant")
}

pub(super) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/intake/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).expect("JSON")
}

pub(super) fn tell(result: &Result<Taken, BadPayload>) -> String {
    let mut text = String::new();
    let taken = match result {
        Err(bad) => return format!("refused: {bad}\n"),
        Ok(taken) => taken,
    };
    for alert in &taken.alerts {
        let status = format!("{:?}", alert.status).to_lowercase();
        let ends = alert.ends_at.map(|at| format!(" .. {at}")).unwrap_or_default();
        let value = alert.value.map(|value| format!(" = {value}")).unwrap_or_default();
        let _ =
            writeln!(text, "{} {status} {:?} {}{ends}{value}", alert.fingerprint, alert.severity(), alert.starts_at);
        let _ = writeln!(text, "  {}", pairs(&alert.labels));
        let _ = writeln!(text, "  # {}", pairs(&alert.annotations));
    }
    for fact in &taken.knowledge {
        let _ = writeln!(text, "knows {} {} {} {:?}", fact.about, fact.name, fact.at, fact.known);
    }
    for bad in &taken.refused {
        let _ = writeln!(text, "refused: {bad}");
    }
    for remark in &taken.remarks {
        let _ = writeln!(text, "remark: {remark}");
    }
    text
}

fn pairs(map: &crate::domain::alert::Labels) -> String {
    let short = |text: &str| text.chars().take(60).collect::<String>().replace('\n', " ");
    map.iter().map(|(name, text)| format!("{name}={}", short(text))).collect::<Vec<_>>().join(" | ")
}

pub(super) fn read(payload: &Value) -> Result<Taken, BadPayload> {
    take(payload, &Mappings::default(), received_at())
}

/// What one or more samples become, one after the other.
fn check(names: &[&str], expected: Expect) {
    let text: String = names.iter().map(|name| tell(&read(&fixture(name)))).collect();
    expected.assert_eq(&text);
}

pub(super) fn check_value(payload: Value, expected: Expect) {
    expected.assert_eq(&tell(&read(&payload)));
}

#[test]
fn alertmanager_groups() {
    check(
        &["alertmanager.fire", "alertmanager.resolve"],
        expect![[r#"
        bf2be0f7284d4013 firing Critical 2026-11-21T02:17:00.000Z = 0.12
          alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=checkout | severity=page
          # midwatch_source=alertmanager | summary=5xx ratio of checkout is 12 % | value=0.12
        dc40238d150da66a firing Warning 2026-11-21T02:18:30.000Z
          alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=payments | severity=warning
          # midwatch_source=alertmanager | summary=5xx ratio of payments is 3 %
        bf2be0f7284d4013 resolved Critical 2026-11-21T02:17:00.000Z .. 2026-11-21T02:40:00.000Z = 0.12
          alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=checkout | severity=page
          # midwatch_source=alertmanager | summary=5xx ratio of checkout is 12 % | value=0.12
        dc40238d150da66a resolved Warning 2026-11-21T02:18:30.000Z .. 2026-11-21T02:40:00.000Z
          alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=payments | severity=warning
          # midwatch_source=alertmanager | summary=5xx ratio of payments is 3 %
    "#]],
    );
}

#[test]
fn prometheus_posts_and_lists() {
    check(
        &["prometheus.fire", "prometheus.resolve", "prometheus_api.fire", "alertmanager_api_v2.fire"],
        expect![[r#"
            70200d1e57f226cd firing Critical 2026-11-21T02:20:00.000Z
              alertname=TargetDown | instance=10.0.0.7:9100 | job=node | severity=critical
              # midwatch_source=alertmanager | summary=node exporter is down
            70200d1e57f226cd resolved Critical 2026-11-21T02:20:00.000Z .. 2026-11-21T02:50:00.000Z
              alertname=TargetDown | instance=10.0.0.7:9100 | job=node | severity=critical
              # midwatch_source=alertmanager | summary=node exporter is down
            573c8f6d1ad33236 firing Warning 2026-11-21T02:11:00.500Z = 1.37
              alertname=HighLatency | service=search | severity=warning
              # midwatch_source=alertmanager | summary=p99 above 1 s
            remark: an alert is pending: its rule's `for` has not passed
            2656da02f87a7f9c firing Warning 2026-11-21T01:00:00.000Z
              alertname=DiskNearlyFull | node=worker-3 | severity=warning
              # midwatch_source=alertmanager | summary=disk is nearly full
            knows 2656da02f87a7f9c DiskNearlyFull 2026-11-21T03:00:00.000Z Silenced { by: ["3c9a1c2e-6f0e-4c7f-9f0d-0c4a5d5e7a11"], until: None, comment: "" }
            knows 2656da02f87a7f9c DiskNearlyFull 2026-11-21T03:00:00.000Z Inhibited { by: ["0f1e2d3c4b5a6978"], rules: [] }
        "#]],
    );
}

#[test]
fn grafana_unified_and_legacy() {
    check(
        &["grafana.fire", "grafana.resolve", "grafana_legacy.fire", "grafana_legacy.resolve"],
        expect![[r#"
            755ac4fe257434b0 firing Critical 2026-11-21T01:51:03.157Z = 44.23943737541908
              alertname=High memory usage | grafana_folder=Nodes | severity=critical | team=blue | zone=us-1
              # dashboard_url=https://grafana.example/d/abc | description=The system has high memory usage | generator_url=https://grafana.example/alerting/1afz29v7z/edit | grafana_org=1 | midwatch_source=grafana | silence_url=https://grafana.example/alerting/silence/new?alertmanager=gr | summary=Memory of zone us-1 | value_string=[ var='B' labels={zone=us-1} value=44.23943737541908 ], [ va | values={"B":44.23943737541908,"C":1}
            755ac4fe257434b0 resolved Critical 2026-11-21T01:51:03.157Z .. 2026-11-21T02:31:03.157Z
              alertname=High memory usage | grafana_folder=Nodes | severity=critical | team=blue | zone=us-1
              # dashboard_url=https://grafana.example/d/abc | description=The system has high memory usage | generator_url=https://grafana.example/alerting/1afz29v7z/edit | grafana_org=1 | midwatch_source=grafana | silence_url=https://grafana.example/alerting/silence/new?alertmanager=gr | summary=Memory of zone us-1
            ad412fd4ca60fb86 firing Critical 2026-11-21T03:00:00.000Z = 100
              alertname=CPU of the web tier | service=web | severity=high
              # description=Notification Message | eval_matches=[{"value":100,"metric":"High value","tags":{"host":"a"}},{"v | grafana_org=1 | grafana_rule_id=17 | grafana_state=alerting | image_url=https://grafana.example/assets/alert.png | midwatch_source=grafana-legacy | midwatch_untimed=its sender names no start | rule_url=https://grafana.example/d/hZ7BuVbWz/x | summary=[Alerting] CPU of the web tier
            ad412fd4ca60fb86 resolved Critical 2026-11-21T03:00:00.000Z .. 2026-11-21T03:00:00.000Z
              alertname=CPU of the web tier | service=web | severity=high
              # description=Notification Message | grafana_org=1 | grafana_rule_id=17 | grafana_state=ok | image_url=https://grafana.example/assets/alert.png | midwatch_source=grafana-legacy | rule_url=https://grafana.example/d/hZ7BuVbWz/x | summary=[OK] CPU of the web tier
        "#]],
    );
}

#[test]
fn pagerduty_events() {
    check(
        &["pagerduty.fire", "pagerduty.acknowledge", "pagerduty.resolve"],
        expect![[r#"
        ac61309e30d54bbd firing Critical 2026-11-21T02:17:06.000Z = 340
          alertname=replication lag | class=replication lag | component=mysql | group=prod-datapipe | namespace=data | node=srv01.example | service=mysql | severity=critical
          # client=Monitoring Service | client_url=https://monitoring.example | dedup_key=srv01/mysql/replication | lag_seconds=340 | link=https://monitoring.example/1 | midwatch_source=pagerduty | summary=Replication lag on srv01 is 340 s | value=340
        knows ac61309e30d54bbd srv01/mysql/replication 2026-11-21T03:00:00.000Z Acknowledged
        ac61309e30d54bbd resolved Warning 2026-11-21T03:00:00.000Z .. 2026-11-21T03:00:00.000Z
          alertname=srv01/mysql/replication
          # dedup_key=srv01/mysql/replication | midwatch_source=pagerduty
    "#]],
    );
}

#[test]
fn datadog_webhooks() {
    check(
        &["datadog.fire", "datadog.resolve", "datadog_default.fire", "datadog_default.resolve"],
        expect![[r#"
        b3fd27b2d258ddb9 firing Critical 2026-11-21T02:17:01.000Z
          alertname=CPU of the web tier is high | env=prod | host=web-7 | kube_namespace=shop | metric=system.cpu.user | namespace=shop | node=web-7 | service=web | severity=critical
          # datadog_cycle_key=1234567890 | datadog_event_id=5274618312345678901 | description=%%% @webhook-midwatch CPU is above 90 %%% | link=https://app.datadoghq.com/monitors/123456 | midwatch_source=datadog | query=avg(last_5m):avg:system.cpu.user{*} by {host} > 90 | tags=env:prod,service:web,kube_namespace:shop,monitor,host:web-7 | title=[P1] [Triggered on {host:web-7}] CPU of the web tier is high
        b3fd27b2d258ddb9 resolved Critical 2026-11-21T02:50:21.000Z .. 2026-11-21T02:50:21.000Z
          alertname=CPU of the web tier is high | env=prod | host=web-7 | kube_namespace=shop | metric=system.cpu.user | namespace=shop | node=web-7 | service=web | severity=critical
          # datadog_cycle_key=1234567890 | datadog_event_id=5274618399999999999 | description=%%% @webhook-midwatch CPU is above 90 %%% | link=https://app.datadoghq.com/monitors/123456 | midwatch_source=datadog | query=avg(last_5m):avg:system.cpu.user{*} by {host} > 90 | tags=env:prod,service:web,kube_namespace:shop,monitor,host:web-7 | title=[P1] [Recovered on {host:web-7}] CPU of the web tier is high
        2a8f858c3180fe48 firing Warning 2026-11-21T02:17:01.000Z
          alertname=Queue consumers report nothing | severity=warning
          # datadog_event_id=52746183 | description=no replies | midwatch_source=datadog | title=[No Data] Queue consumers report nothing
        2a8f858c3180fe48 resolved Warning 2026-11-21T02:50:21.000Z .. 2026-11-21T02:50:21.000Z
          alertname=Queue consumers report nothing
          # datadog_event_id=52746999 | description=no replies | midwatch_source=datadog | title=[Recovered] Queue consumers report nothing
    "#]],
    );
}

#[test]
fn cloudwatch_by_sns_raw_and_eventbridge() {
    check(
        &["sns.fire", "sns.resolve", "cloudwatch.fire", "eventbridge.fire", "eventbridge.resolve", "sns.subscribe"],
        expect![[r#"
            ea910eac6942cb72 firing Warning 2026-11-21T02:17:40.985Z = 99.5
              LoadBalancer=app/checkout/50dc6c495c0c9188 | alertname=checkout-5xx | aws_account=123456789012 | cloudwatch_namespace=AWS/ApplicationELB | metric=HTTPCode_ELB_5XX_Count | region=us-east-1 | service=app/checkout/50dc6c495c0c9188
              # alarm_arn=arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx | comparison=GreaterThanThreshold | description=5xx of the load balancer | midwatch_source=sns+cloudwatch | old_state=OK | summary=Threshold Crossed: 1 out of the last 1 datapoints [99.5 (21/ | threshold=50.0
            ea910eac6942cb72 resolved Warning 2026-11-21T02:40:40.985Z .. 2026-11-21T02:40:40.985Z = 2
              LoadBalancer=app/checkout/50dc6c495c0c9188 | alertname=checkout-5xx | aws_account=123456789012 | cloudwatch_namespace=AWS/ApplicationELB | metric=HTTPCode_ELB_5XX_Count | region=us-east-1 | service=app/checkout/50dc6c495c0c9188
              # alarm_arn=arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx | comparison=GreaterThanThreshold | description=5xx of the load balancer | midwatch_source=sns+cloudwatch | old_state=ALARM | summary=Threshold Crossed: 1 out of the last 1 datapoints [2.0 (21/1 | threshold=50.0
            ea910eac6942cb72 firing Warning 2026-11-21T02:17:40.985Z = 99.5
              LoadBalancer=app/checkout/50dc6c495c0c9188 | alertname=checkout-5xx | aws_account=123456789012 | cloudwatch_namespace=AWS/ApplicationELB | metric=HTTPCode_ELB_5XX_Count | region=us-east-1 | service=app/checkout/50dc6c495c0c9188
              # alarm_arn=arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx | comparison=GreaterThanThreshold | description=5xx of the load balancer | midwatch_source=cloudwatch | old_state=OK | summary=Threshold Crossed: 1 out of the last 1 datapoints [99.5 (21/ | threshold=50.0
            ea910eac6942cb72 firing Warning 2026-11-21T02:17:40.985Z = 99.5
              LoadBalancer=app/checkout/50dc6c495c0c9188 | alertname=checkout-5xx | aws_account=123456789012 | cloudwatch_namespace=AWS/ApplicationELB | metric=HTTPCode_ELB_5XX_Count | region=us-east-1 | service=app/checkout/50dc6c495c0c9188
              # alarm_arn=arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx | description=5xx of the load balancer | midwatch_source=eventbridge | old_state=OK | summary=Threshold Crossed: 1 out of the last 1 datapoints [99.5 (21/
            ea910eac6942cb72 resolved Warning 2026-11-21T02:17:40.985Z .. 2026-11-21T02:40:40.985Z = 2
              LoadBalancer=app/checkout/50dc6c495c0c9188 | alertname=checkout-5xx | aws_account=123456789012 | cloudwatch_namespace=AWS/ApplicationELB | metric=HTTPCode_ELB_5XX_Count | region=us-east-1 | service=app/checkout/50dc6c495c0c9188
              # alarm_arn=arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx | description=5xx of the load balancer | midwatch_source=eventbridge | old_state=ALARM | summary=Threshold Crossed: 1 out of the last 1 datapoints [2.0 (21/1
            remark: SNS topic arn:aws:sns:us-east-1:123456789012:alarms asks for confirmation: open https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:123456789012:alarms&Token=2336412f37 (it is not followed automatically)
        "#]],
    );
}

#[test]
fn cloud_events() {
    check(
        &["cloudevents.fire", "cloudevents.resolve", "cloudevents_wrapped.fire"],
        expect![[r#"
            0f20ba655eaa1c24 firing Critical 2026-11-21T02:17:31.000Z = 3
              alertname=com.example.robot.stuck | event_source=/warehouse/robots | service=picking | severity=critical | subject=robot-12
              # data={"message":"robot 12 does not move","service":"picking","val | event_id=A234-1234-1234 | event_type=com.example.robot.stuck.raised | midwatch_source=cloudevents | summary=robot 12 does not move
            0f20ba655eaa1c24 resolved Critical 2026-11-21T02:47:31.000Z .. 2026-11-21T02:47:31.000Z
              alertname=com.example.robot.stuck | event_source=/warehouse/robots | service=picking | severity=critical | subject=robot-12
              # data={"message":"robot 12 moves","service":"picking"} | event_id=A234-1234-9999 | event_type=com.example.robot.stuck.cleared | midwatch_source=cloudevents | summary=robot 12 moves
            bf2be0f7284d4013 firing Critical 2026-11-21T02:17:00.000Z = 0.12
              alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=checkout | severity=page
              # midwatch_source=cloudevents+alertmanager | summary=5xx ratio of checkout is 12 % | value=0.12
            dc40238d150da66a firing Warning 2026-11-21T02:18:30.000Z
              alertname=HighErrorRate | cluster=eu-1 | namespace=shop | service=payments | severity=warning
              # midwatch_source=cloudevents+alertmanager | summary=5xx ratio of payments is 3 %
            518c8b0d7b7109cd firing Critical 2026-11-21T03:00:00.000Z
              alertname=s | node=h | severity=critical
              # dedup_key=k | midwatch_source=cloudevents+pagerduty | midwatch_untimed=its sender names no start | summary=s
        "#]],
    );
}

#[test]
fn a_binary_cloud_event_is_the_structured_one() {
    let event = fixture("cloudevents.fire");
    let attributes = event.as_object().expect("an object").iter().filter(|(name, _)| *name != "data");
    let headers: BTreeMap<String, String> =
        attributes.map(|(name, value)| (format!("Ce-{name}"), value.as_str().expect("text").to_owned())).collect();
    let binary = take_event(&headers, &event["data"], &Mappings::default(), received_at());
    assert_eq!(binary, read(&event));
    let plain = take_event(&BTreeMap::new(), &fixture("prometheus.fire"), &Mappings::default(), received_at());
    assert_eq!(plain, read(&fixture("prometheus.fire")));
}

#[test]
fn alertmanager_events() {
    check(
        &[
            "alertmanager_event_created.fire",
            "alertmanager_event_grouped.fire",
            "alertmanager_event_silenced",
            "alertmanager_event_inhibited",
            "alertmanager_event_resolved.resolve",
            "alertmanager_event_v1_resolved.resolve",
            "alertmanager_event_startup",
        ],
        expect![[r#"
            87576b5fc9bbbbfa firing Critical 2026-11-21T02:17:00.000Z
              alertname=HighErrorRate | service=checkout | severity=page
              # midwatch_source=alertmanager-events | summary=5xx
            knows 87576b5fc9bbbbfa HighErrorRate 2026-11-21T02:17:05.123Z Grouped { receiver: "ops", group_key: "{}:{alertname=\"HighErrorRate\"}" }
            knows 87576b5fc9bbbbfa HighErrorRate 2026-11-21T02:17:05.123Z Silenced { by: ["3c9a1c2e-6f0e"], until: Some(2026-11-21T06:00:00.000Z), comment: "deploy of the year" }
            knows 87576b5fc9bbbbfa HighErrorRate 2026-11-21T02:17:05.123Z Inhibited { by: ["0f0f0f0f0f0f0f0f", "00000000000000ff"], rules: ["cluster-down"] }
            87576b5fc9bbbbfa resolved Critical 2026-11-21T02:17:00.000Z .. 2026-11-21T02:40:00.000Z
              alertname=HighErrorRate | service=checkout | severity=page
              # midwatch_source=alertmanager-events | summary=5xx
            87576b5fc9bbbbfa resolved Critical 2026-11-21T02:17:00.000Z .. 2026-11-21T02:40:00.000Z
              alertname=HighErrorRate | service=checkout | severity=page
              # midwatch_source=alertmanager-events | summary=5xx
            remark: an Alertmanager has started
        "#]],
    );
}

#[test]
fn an_end_has_the_fingerprint_of_its_beginning() {
    let names = [
        "alertmanager",
        "prometheus",
        "grafana",
        "grafana_legacy",
        "pagerduty",
        "datadog",
        "datadog_default",
        "sns",
        "cloudwatch",
        "eventbridge",
        "cloudevents",
    ];
    for name in names {
        let of = |step: &str| -> Vec<Fingerprint> {
            let taken = read(&fixture(&format!("{name}.{step}"))).expect("a payload");
            taken.alerts.iter().map(|alert| alert.fingerprint).collect()
        };
        assert!(!of("fire").is_empty(), "{name}");
        assert_eq!(of("fire"), of("resolve"), "{name}");
    }
}

#[test]
fn the_road_does_not_change_the_alert() {
    let one = |name: &str| read(&fixture(name)).expect("a payload").alerts[0].fingerprint;
    assert_eq!(one("sns.fire"), one("eventbridge.fire"));
    assert_eq!(one("sns.fire"), one("cloudwatch.fire"));
    assert_eq!(one("cloudevents_wrapped.fire"), one("alertmanager.fire"));
}

#[test]
fn a_routing_key_is_in_no_alert() {
    for name in ["pagerduty.fire", "pagerduty.acknowledge", "pagerduty.resolve"] {
        assert!(!format!("{:?}", read(&fixture(name))).contains("R0UT1NGKEY"), "{name}");
    }
    let mut other = fixture("pagerduty.fire");
    other["routing_key"] = json!("another service");
    let alerts = |payload: &Value| read(payload).expect("a payload").alerts[0].fingerprint;
    assert_ne!(alerts(&other), alerts(&fixture("pagerduty.fire")));
}
