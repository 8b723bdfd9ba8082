//! A rollout, configuration or flag change: what people did to the estate.

pub mod announced;
pub mod config;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// `session revision 7`
    pub id: String,
    pub namespace: String,
    pub service: String,
    pub workload: String,
    pub at: Timestamp,
    pub from_revision: Option<i64>,
    pub to_revision: i64,
    pub touched: Vec<Touched>,
    /// Written by people and pipelines: untrusted.
    pub cause: Option<String>,
    /// The change is what runs now (nobody has rolled it back or forward since).
    pub current: bool,
    /// An earlier template runs again: a remedy, whose undoing would bring back what it was to mend.
    #[serde(default)]
    pub put_back: bool,
}

/// Changes that could not be read. Nobody may say of such a service that it was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// `the rollout histories of shop`
    pub what: String,
    pub why: String,
    /// `None`: of every service.
    pub services: Option<BTreeSet<String>>,
}

impl Unread {
    pub fn of_all(what: &str, why: &impl std::fmt::Display) -> Self {
        Self { what: what.to_owned(), why: why.to_string(), services: None }
    }

    pub fn is_of(&self, service: &str) -> bool {
        self.services.as_ref().is_none_or(|services| services.contains(service))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    pub what: ChangeKind,
    /// `DB_POOL_MAX: 20 -> 200`, untrusted values.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Image,
    Environment,
    Configuration,
    Resources,
    Other,
    /// A new version, as another system announced it.
    Deployment,
    /// A feature flag.
    Flag,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Environment => "environment",
            Self::Configuration => "configuration",
            Self::Resources => "resources",
            Self::Other => "template",
            Self::Deployment => "deployment",
            Self::Flag => "flag",
        }
    }
}

/// What differs between two pod templates, as (kind, `path: before -> after`).
pub fn compare_templates(before: &Value, after: &Value) -> Vec<Touched> {
    let mut touched = vec![];
    differences("", before, after, &mut touched);
    touched
}

fn differences(path: &str, before: &Value, after: &Value, touched: &mut Vec<Touched>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let absent = Value::Null;
                let (old, new) = (one.get(key).unwrap_or(&absent), other.get(key).unwrap_or(&absent));
                if old != new {
                    differences(&format!("{path}/{key}"), old, new, touched);
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (key, old, new) in pair_up(one, other) {
                if old != new {
                    differences(&format!("{path}/{key}"), &old, &new, touched);
                }
            }
        }
        (old, new) if old != new => {
            let name = path.rsplit("/template/spec/").next().unwrap_or(path).trim_start_matches('/');
            touched.push(Touched { what: kind_of(path), detail: format!("{name}: {} -> {}", brief(old), brief(new)) });
        }
        _ => {}
    }
}

/// Containers and variables are matched by name, so that an inserted one is one difference.
fn pair_up(one: &[Value], other: &[Value]) -> Vec<(String, Value, Value)> {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let named = one.iter().chain(other).all(|value| name(value).is_some());
    if named {
        let names: BTreeSet<_> = one.iter().chain(other).filter_map(name).collect();
        let find = |list: &[Value], wanted: &str| {
            list.iter().find(|value| name(value).as_deref() == Some(wanted)).cloned().unwrap_or(Value::Null)
        };
        return names.into_iter().map(|key| (key.clone(), find(one, &key), find(other, &key))).collect();
    }
    (0..one.len().max(other.len()))
        .map(|at| {
            let get = |list: &[Value]| list.get(at).cloned().unwrap_or(Value::Null);
            (at.to_string(), get(one), get(other))
        })
        .collect()
}

fn kind_of(path: &str) -> ChangeKind {
    let lower = path.to_ascii_lowercase();
    if lower.ends_with("/image") {
        ChangeKind::Image
    } else if lower.contains("/resources") {
        ChangeKind::Resources
    } else if lower.contains("config") {
        ChangeKind::Configuration
    } else if lower.contains("/env/") || lower.ends_with("/env") || lower.contains("/envfrom") {
        ChangeKind::Environment
    } else {
        ChangeKind::Other
    }
}

fn brief(value: &Value) -> String {
    let text = match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(map) if map.contains_key("value") => map["value"].as_str().unwrap_or("?").to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}
