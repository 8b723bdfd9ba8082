use std::time::Duration;

use super::super::super::alert::Labels;
use super::*;

const FILE: &str = r#"
global:
  resolve_timeout: 5m
  slack_api_url: https://hooks.example/secret
templates: ['/etc/alertmanager/*.tmpl']
tracing: {endpoint: localhost:4317}
route:
  receiver: default
  group_by: [cluster, alertname]
  group_wait: 10s
  routes:
  - receiver: db
    matchers: ['service=~"mysql|cassandra"']
    group_by: ['...']
    repeat_interval: 1d12h
    mute_time_intervals: [nights]
    routes:
    - match: {team: dba, tier: 1}
      group_by: []
      active_time_intervals: [workdays]
  - match_re: {team: 'front.*'}
    receiver: front
    continue: true
    webhook: x
  - matchers: [team="frontend"]
    receiver: mirror
    group_by: [product]
receivers:
- name: default
- name: db
  pagerduty_configs: [{service_key: secret}]
- name: front
  slack_configs: [{channel: '#front'}]
  email_configs: []
- name: mirror
inhibit_rules:
- source_match: {severity: critical}
  target_match: {severity: warning}
  equal: [alertname]
- name: named
  source_matchers: [a=b]
  target_matchers: [c=d]
  comment: why
mute_time_intervals:
- name: nights
  time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}]}]
time_intervals:
- name: workdays
  time_intervals: [{weekdays: ['monday:friday']}]
"#;

fn route(file: &Alertmanager, labels: &str) -> Vec<String> {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let labels: Labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    file.route(&labels).destinations.iter().map(|to| format!("{} {}", to.path, to.receiver)).collect()
}

#[test]
fn alerts_take_the_routes_that_alertmanager_would_take() {
    let file = Alertmanager::read(FILE).unwrap();
    assert_eq!(route(&file, "service=web"), ["route default"]);
    assert_eq!(route(&file, "service=mysql"), ["route.routes[0] db"]);
    assert_eq!(route(&file, "service=mysql,team=dba,tier=1"), ["route.routes[0].routes[0] db"]);
    assert_eq!(route(&file, "team=frontend"), ["route.routes[1] front", "route.routes[2] mirror"]);
    assert_eq!(route(&file, "team=front-office"), ["route.routes[1] front"]);
}

#[test]
fn settings_pass_from_parent_to_child_but_intervals_do_not() {
    let file = Alertmanager::read(FILE).unwrap();
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let dba: Labels = labels(&[("service", "mysql"), ("team", "dba"), ("tier", "1")]);
    let routed = file.route(&dba);
    let to = routed.destinations[0];
    assert_eq!((&to.group_by, routed.group_by()), (&GroupBy::All, Some(&GroupBy::All)));
    assert_eq!(to.group_wait, Duration::from_secs(10));
    assert_eq!(to.group_interval, Duration::from_secs(300));
    assert_eq!(to.repeat_interval, Duration::from_secs(36 * 3600));
    assert_eq!((routed.mute_intervals(), routed.active_intervals()), (vec![], vec!["workdays"]));
    assert_eq!(routed.owner(), Some("dba"));
    let mysql: Labels = labels(&[("service", "mysql")]);
    assert_eq!(file.route(&mysql).mute_intervals(), ["nights"]);
    assert_eq!(file.route(&mysql).owner(), Some("db"));
    let frontend: Labels = labels(&[("team", "frontend")]);
    assert_eq!(file.route(&frontend).receivers(), ["front", "mirror"]);
    let by: Vec<String> = ["cluster", "alertname"].map(String::from).into();
    assert_eq!(file.route(&frontend).group_by(), Some(&GroupBy::Labels(by)));
    assert_eq!(file.route(&frontend).owner(), Some("frontend"));
    assert_eq!(file.route(&labels(&[("a", "b")])).owner(), None);
}

#[test]
fn rules_and_intervals_are_given_with_names() {
    let file = Alertmanager::read(FILE).unwrap();
    let rules: Vec<String> = file.inhibit_rules.iter().map(InhibitRule::name).collect();
    assert_eq!(rules, ["inhibit_rules[0]", "named"]);
    assert!(file.interval("nights").is_some() && file.interval("workdays").is_some());
    assert!(file.interval("other").is_none());
    assert!(file.routes_by_time());
}

#[test]
fn what_is_not_honoured_is_listed_by_key_and_never_by_value() {
    let file = Alertmanager::read(FILE).unwrap();
    assert_eq!(
        file.unsupported,
        [
            "global.resolve_timeout",
            "global.slack_api_url",
            "templates",
            "tracing",
            "route.routes[1].webhook",
            "receivers[1] (db).pagerduty_configs",
            "receivers[2] (front).slack_configs",
            "inhibit_rules[1].comment",
        ]
    );
}

#[test]
fn partial_files_and_yaml_merges_are_read() {
    assert_eq!(route(&Alertmanager::read("").unwrap(), "a=b"), [""; 0]);
    let nulls = "route: {receiver: x, group_by: , routes: , matchers: }\ninhibit_rules:\ntime_intervals:\n";
    assert_eq!(route(&Alertmanager::read(nulls).unwrap(), "a=b"), ["route x"]);
    let merged = r#"
inhibit_rules:
- &base
  source_match: {code: 5}
  target_match: {b: c}
- <<: *base
  equal: [node]
"#;
    let file = Alertmanager::read(merged).unwrap();
    assert_eq!(file.inhibit_rules[1].source().to_string(), r#"{code="5"}"#);
    assert_eq!(file.inhibit_rules[1].equal(), ["node"]);
    assert!(file.unsupported.is_empty());
}

#[test]
fn faults_name_the_key_and_the_line() {
    let fault = |yaml: &str, expected: &[&str]| {
        let found = Alertmanager::read(yaml).unwrap_err().to_string();
        assert!(expected.iter().all(|part| found.contains(part)), "{yaml}: {found}");
    };
    fault("route:\n  receiver: a\n  group_by: 5x: y", &["line 3"]);
    fault(
        "inhibit_rules:\n- equal: [a]\n- source_matchers: ['a~b']",
        &["`inhibit_rules[1]`", "source matchers: at character 2"],
    );
    fault(
        "time_intervals:\n- name: n\n  time_intervals:\n  - weekdays: [mon]",
        &["time_intervals[0].time_intervals[0].weekdays", "the weekday \"mon\"", "line 4"],
    );
    fault("time_intervals: [{name: n}]\nmute_time_intervals: [{name: n}]", &["two time intervals are called \"n\""]);
    fault("receivers: [{name: n}, {name: n}]", &["two receivers are called \"n\""]);
    fault("route: {}", &["`route`", "no `receiver`"]);
    fault("route: {receiver: a, matchers: [b=c]}", &["`route`", "matchers"]);
    fault("route: {receiver: a, continue: true}", &["`continue`"]);
    fault("route: {receiver: a, mute_time_intervals: [x]}", &["the root has time intervals"]);
    fault("route: {receiver: a}\nreceivers: [{name: b}]", &["receiver \"a\" is not defined"]);
    let child = |text: &str| format!("route: {{receiver: a, routes: [{{{text}}}]}}");
    fault(&child("active_time_intervals: [x]"), &["`route.routes[0]`", "time interval \"x\" is not defined"]);
    fault(&child("group_by: [a, a]"), &["`route.routes[0].group_by`", "repeated"]);
    fault(&child("group_by: [a, '...']"), &["stands beside labels"]);
    fault(&child("group_wait: 5 min"), &["`route.routes[0].group_wait`", "\"5 min\" is no duration", "5m or 1h30m"]);
    fault(&child("group_wait: 5s1m"), &["no duration"]);
    fault(&child("group_interval: 0s"), &["is zero"]);
    fault(&child("match_re: {a: '('}"), &["`route.routes[0]`", "does not parse"]);
    fault("inhibit_rules:\n- equal: [a]\n- equal: {a: b}", &["inhibit_rules[1].equal", "line 3"]);
    let deep = format!("route: {{receiver: a, {}{}}}", "routes: [{".repeat(40), "}]".repeat(40));
    fault(&deep, &["nested too deeply"]);
}
