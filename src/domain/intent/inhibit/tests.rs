use proptest::prelude::*;

use super::super::tests::{alert, alert_of, at, labels, matchers, set};
use super::*;

fn rule(name: &str, source: &str, target: &str, equal: &[&str]) -> InhibitRule {
    let equal = equal.iter().map(|name| (*name).to_owned()).collect();
    InhibitRule::new(name, set(source), set(target), equal).unwrap()
}

fn one(rule: InhibitRule) -> Inhibitions {
    Inhibitions::new(vec![rule], Limits::default())
}

/// The names of the source and the rule that inhibit the alert.
fn check(inhibitions: &Inhibitions, target: &str, seconds: i64, expected: Option<(&str, &str)>) {
    let target = alert(target);
    let found = inhibitions.inhibited_by(&target, at(seconds));
    let found = found.map(|found| (found.by_name.to_owned(), found.rule.name()));
    let expected = expected.map(|(source, rule)| (source.to_owned(), rule.to_owned()));
    assert_eq!(found, expected, "{:?}", target.labels);
}

fn resolved(labels: &str, seconds: i64) -> Alert {
    Alert { status: Status::Resolved, ends_at: Some(at(seconds)), ..alert(labels) }
}

#[test]
fn a_source_inhibits_targets_that_agree_with_it() {
    let mut inhibitions = one(rule("r", "kind=source", "kind=target", &["node", "zone"]));
    inhibitions.observe(&alert("alertname=S,kind=source,node=n1,zone="), at(0));
    check(&inhibitions, "kind=target,node=n1", 1, Some(("S", "r")));
    check(&inhibitions, "kind=target,node=n2", 1, None);
    check(&inhibitions, "kind=target,node=n1,zone=z", 1, None);
    check(&inhibitions, "kind=other,node=n1", 1, None);
    let target = alert("kind=target,node=n1");
    let reason = inhibitions.inhibited_by(&target, at(1)).unwrap().reason();
    assert!(reason.starts_with("S (") && reason.ends_with(") fires with the same node, zone"), "{reason}");
}

#[test]
fn labels_missing_on_both_sides_are_equal() {
    let mut inhibitions = one(rule("r", "kind=source", "kind=target", &["node"]));
    inhibitions.observe(&alert("alertname=S,kind=source"), at(0));
    check(&inhibitions, "kind=target", 1, Some(("S", "r")));
    check(&inhibitions, "kind=target,node=n1", 1, None);
}

#[test]
fn an_alert_of_both_sides_is_inhibited_only_by_one_of_the_source_side_alone() {
    let mut inhibitions = one(rule("r", "a=1", "b=1", &[]));
    inhibitions.observe(&alert("alertname=Both,a=1,b=1"), at(0));
    check(&inhibitions, "alertname=Both,a=1,b=1", 1, None);
    check(&inhibitions, "alertname=Other,a=1,b=1", 1, None);
    check(&inhibitions, "alertname=Target,b=1", 1, Some(("Both", "r")));
    inhibitions.observe(&alert("alertname=Source,a=1"), at(0));
    check(&inhibitions, "alertname=Both,a=1,b=1", 1, Some(("Source", "r")));
}

#[test]
fn a_source_ends_by_its_resolve_its_end_or_staleness() {
    let limits = Limits { stale_after: Duration::from_secs(60), max_sources: 10 };
    let mut inhibitions = Inhibitions::new(vec![rule("r", "a=1", "b=1", &[])], limits);
    inhibitions.observe(&alert("alertname=S,a=1"), at(0));
    check(&inhibitions, "b=1", 59, Some(("S", "r")));
    check(&inhibitions, "b=1", 60, None);
    inhibitions.observe(&alert("alertname=S,a=1"), at(50));
    check(&inhibitions, "b=1", 109, Some(("S", "r")));
    inhibitions.observe(&resolved("alertname=S,a=1", 70), at(70));
    check(&inhibitions, "b=1", 71, None);
    assert_eq!(inhibitions.sources(), 0);
    // Prometheus itself says until when it is sure.
    let sure = Alert { ends_at: Some(at(90)), ..alert("alertname=S,a=1") };
    inhibitions.observe(&sure, at(80));
    check(&inhibitions, "b=1", 89, Some(("S", "r")));
    check(&inhibitions, "b=1", 90, None);
    inhibitions.observe(&alert("alertname=nobody"), at(91));
    assert_eq!(inhibitions.sources(), 0);
}

#[test]
fn a_late_resolve_of_an_earlier_firing_changes_nothing() {
    let mut inhibitions = one(rule("r", "a=1", "b=1", &[]));
    inhibitions.observe(&Alert { starts_at: at(100), ..alert("alertname=S,a=1") }, at(101));
    inhibitions.observe(&resolved("alertname=S,a=1", 50), at(102));
    check(&inhibitions, "b=1", 103, Some(("S", "r")));
}

#[test]
fn memory_is_bounded_and_the_soonest_to_end_goes_first() {
    let limits = Limits { stale_after: Duration::from_secs(1000), max_sources: 3 };
    let mut inhibitions = Inhibitions::new(vec![rule("r", "a=1", "b=1", &["n"])], limits);
    for number in 0..5 {
        inhibitions.observe(&alert(&format!("alertname=S,a=1,n={number}")), at(number));
    }
    assert_eq!(inhibitions.sources(), 3);
    check(&inhibitions, "b=1,n=1", 6, None);
    check(&inhibitions, "b=1,n=2", 6, Some(("S", "r")));
    assert_eq!(inhibitions.firing[0].len(), 3);
}

#[test]
fn rules_are_read_as_alertmanager_writes_them() {
    let yaml = r#"
source_match: {a: 1}
source_match_re: {b: 'x|y'}
source_matchers: ['c!="z"', 'd = e, f != g']
target_matchers: []
equal: [node, zone, node]
"#;
    let rule: InhibitRule = serde_yaml_ng::from_str(yaml).unwrap();
    assert_eq!(rule.source(), &set(r#"a="1",b=~"x|y",c!="z",d="e",f!="g""#));
    assert_eq!(rule.equal(), ["node", "zone"]);
    assert_eq!(rule.name(), r#"{a="1",b=~"x|y",c!="z",d="e",f!="g"} inhibits {}"#);
    let fault = serde_yaml_ng::from_str::<InhibitRule>("target_matchers: ['a~b']").unwrap_err().to_string();
    assert!(fault.contains("target matchers: at character 2"), "{fault}");
}

/// Alertmanager's rule as its documentation says it, over all sources that fire.
fn naive(
    rules: &[InhibitRule],
    firing: &[(Alert, Timestamp)],
    target: &Alert,
    at: Timestamp,
) -> Option<(usize, Fingerprint)> {
    let value = |labels: &Labels, name: &String| labels.get(name).cloned().unwrap_or_default();
    rules.iter().enumerate().find_map(|(slot, rule)| {
        if !rule.target().matches(&target.labels) {
            return None;
        }
        let both = rule.source().matches(&target.labels);
        let inhibits = |source: &&(Alert, Timestamp)| {
            let (source, live_until) = source;
            at < *live_until
                && rule.source().matches(&source.labels)
                && rule.equal().iter().all(|name| value(&source.labels, name) == value(&target.labels, name))
                && !(both && rule.target().matches(&source.labels))
        };
        let last = firing.iter().filter(inhibits).max_by_key(|(source, ends)| (*ends, Reverse(source.fingerprint)));
        last.map(|(source, _)| (slot, source.fingerprint))
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_the_documented_rule_finds(
        rules in prop::collection::vec((matchers(), matchers(), prop::collection::vec("[abc]", 0..3)), 1..5),
        events in prop::collection::vec((labels(), 0_u8..4, prop::option::of(1_i64..30)), 1..25),
        targets in prop::collection::vec(labels(), 1..10),
    ) {
        let rules: Vec<InhibitRule> = rules
            .into_iter()
            .map(|(source, target, equal)| InhibitRule::new("r", source, target, equal).unwrap())
            .collect();
        let limits = Limits { stale_after: Duration::from_secs(12), max_sources: 1000 };
        let mut inhibitions = Inhibitions::new(rules.clone(), limits);
        let mut firing: Vec<(Alert, Timestamp)> = vec![];
        let mut now = 0;
        for (labels, kind, lasts) in events {
            now += 1;
            let mut alert = alert_of(labels);
            firing.retain(|(known, _)| known.fingerprint != alert.fingerprint);
            if kind == 0 {
                alert.status = Status::Resolved;
            } else {
                alert.ends_at = lasts.map(|seconds| at(now + seconds));
                let stale_at = at(now + 12);
                firing.push((alert.clone(), alert.ends_at.map_or(stale_at, |end| end.min(stale_at))));
            }
            inhibitions.observe(&alert, at(now));
            for later in [0, 5, 11, 12] {
                for labels in &targets {
                    let target = alert_of(labels.clone());
                    let found = inhibitions.inhibited_by(&target, at(now + later));
                    let found = found.map(|found| {
                        let slot = inhibitions.rules.iter().position(|rule| std::ptr::eq(rule, found.rule));
                        (slot.unwrap(), found.by)
                    });
                    prop_assert_eq!(found, naive(&rules, &firing, &target, at(now + later)));
                }
            }
        }
        for source in inhibitions.known.keys().copied().collect::<Vec<_>>() {
            inhibitions.forget(source);
        }
        prop_assert!(inhibitions.firing.iter().all(HashMap::is_empty) && inhibitions.ends.is_empty());
    }
}
