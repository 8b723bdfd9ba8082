//! Lists keys that Alertmanager would act on and this program does not.

use serde_yaml_ng::{Mapping, Value};

use super::super::inhibit;
use super::route;

/// Paths such as `receivers[1] (pager).slack_configs`; never a value, which may be a secret.
pub(super) fn keys(tree: &Value) -> Vec<String> {
    let mut found = vec![];
    for (key, value) in entries(tree) {
        match key {
            "route" => walk_route(value, "route", &mut found),
            "inhibit_rules" => {
                for (at, rule) in items(value) {
                    unknown(rule, &format!("inhibit_rules[{at}]"), inhibit::KEYS, &mut found);
                }
            }
            "receivers" => {
                for (at, receiver) in items(value) {
                    let name = receiver.get("name").and_then(Value::as_str).unwrap_or("unnamed");
                    unknown(receiver, &format!("receivers[{at}] ({name})"), &["name"], &mut found);
                }
            }
            "global" => unknown(value, "global", &[], &mut found),
            // Their unknown keys are refused where they are read.
            "time_intervals" | "mute_time_intervals" => {}
            other if !is_empty(value) => found.push(other.to_owned()),
            _ => {}
        }
    }
    found
}

fn walk_route(route: &Value, path: &str, found: &mut Vec<String>) {
    unknown(route, path, route::KEYS, found);
    for (at, child) in route.get("routes").into_iter().flat_map(items) {
        walk_route(child, &format!("{path}.routes[{at}]"), found);
    }
}

fn unknown(value: &Value, path: &str, known: &[&str], found: &mut Vec<String>) {
    for (key, value) in entries(value) {
        if !known.contains(&key) && key != "<<" && !is_empty(value) {
            found.push(format!("{path}.{key}"));
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let map: Option<&Mapping> = value.as_mapping();
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?, value)))
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_sequence().into_iter().flatten().enumerate()
}

/// `templates: []` asks for nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => false,
    }
}
