//! Datadog's webhook. Its body is a template of the user's; these are the names that its documentation,
//! its default body and most integrations use for the variables.
//!
//! Identity is monitor and scope (`$ALERT_ID`, `$ALERT_SCOPE`), else `$AGGREG_KEY`, else title, host and
//! tags; the last two with the scope that the title names, which in the default body is all that tells the
//! groups of a multi-alert monitor apart. `id` is the id of the *event* there, and so of one message alone.
//! `$ALERT_CYCLE_KEY` is new with each firing: it would hide that an alert flaps.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::alert::{BadAlert, Labels, MAX_LABELS, Severity, Status};

use super::draft::{Draft, NOTE_REPEAT, severity_of};
use super::read::{Object, brief, first, number, object, scalar};
use super::times::instant;
use super::{BadPayload, Door, Format, Taken};

pub const TITLE: &[&str] = &["title", "alert_title", "event_title", "alertTitle", "ALERT_TITLE", "EVENT_TITLE"];
pub const SIGNS: &[&str] = &[
    "alert_transition",
    "alertTransition",
    "transition",
    "ALERT_TRANSITION",
    "alert_type",
    "alertType",
    "ALERT_TYPE",
    "event_type",
    "EVENT_TYPE",
];

const TRANSITION: &[&str] = &["alert_transition", "alertTransition", "transition", "ALERT_TRANSITION"];
const TYPE: &[&str] = &["alert_type", "alertType", "ALERT_TYPE"];
const MONITOR: &[&str] = &["alert_id", "alertId", "monitor_id", "ALERT_ID"];
const SCOPE: &[&str] = &["alert_scope", "scope", "alertScope", "ALERT_SCOPE"];
const AGGREGATE: &[&str] = &["aggreg_key", "aggregKey", "aggregation_key", "AGGREG_KEY"];
const HOST: &[&str] = &["host", "hostname", "HOSTNAME"];
const TAGS: &[&str] = &["tags", "TAGS"];
const PRIORITY: &[&str] = &["alert_priority", "priority", "ALERT_PRIORITY", "PRIORITY"];
const DATE: &[&str] = &["last_updated", "date", "LAST_UPDATED", "DATE", "timestamp"];
const METRIC: &[&str] = &["alert_metric", "metric", "ALERT_METRIC"];

/// Kubernetes names as Datadog's agent gives them, and as everybody else does.
/// <https://docs.datadoghq.com/containers/kubernetes/tag/>
const ALIASES: [(&str, &str); 9] = [
    ("kube_cluster_name", "cluster"),
    ("cluster_name", "cluster"),
    ("kube_namespace", "namespace"),
    ("kube_deployment", "deployment"),
    ("kube_stateful_set", "statefulset"),
    ("kube_container_name", "container"),
    ("kube_service", "service"),
    ("pod_name", "pod"),
    ("host", "node"),
];

pub fn take(event: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let event = object(Some(event), "event")?;
    taken.alerts.push(draft(event)?.finish(Format::Datadog, door)?);
    Ok(())
}

fn draft(event: &Object) -> Result<Draft, BadAlert> {
    let title = first(event, TITLE).ok_or(BadAlert::Missing("title", "the monitor's name, $ALERT_TITLE"))?;
    let (name, marks) = untitled(&title);
    let (status, weight) = transition(event, &marks)?;
    let (mut tags, plain) = tags(event);
    let scope = scope_of(&marks);
    // More exact than the tags, which hold those of all that the monitor looks at.
    for (tag, value) in scope.iter().filter_map(|part| part.split_once(':')) {
        if !tag.is_empty() && !value.is_empty() {
            tags.insert(tag.to_owned(), value.to_owned());
        }
    }
    let host = first(event, HOST).or_else(|| tags.get("host").cloned());
    let mut draft = Draft::keyed(status, identity(event, &name, host.as_deref(), &tags, &scope));
    draft.label("alertname", Some(name.as_str()));
    draft.label("node", host);
    draft.label("metric", first(event, METRIC));
    for (tag, name) in ALIASES {
        draft.label_if_absent(name, tags.get(tag).map(String::as_str));
    }
    let stated = tags.get("severity").map(String::as_str).and_then(severity_of);
    draft.severity(stated.or_else(|| first(event, PRIORITY).as_deref().and_then(Severity::parse)).or(weight));
    // A host may have more tags than an alert has labels; those over it stay in the annotation.
    for (tag, value) in tags.iter().filter(|(tag, _)| *tag != "severity") {
        if draft.labels.len() < MAX_LABELS {
            draft.label_if_absent(tag, Some(value.as_str()));
        }
    }
    if status == Status::Firing && is_repeat(event, &marks) {
        draft.annotation(NOTE_REPEAT, Some("Datadog speaks again of what it has told before"));
    }
    draft.annotation("tags", Some(plain));
    draft.annotation("title", Some(title));
    draft.annotation("description", first(event, &["body", "event_msg", "EVENT_MSG", "text_only_msg", "message"]));
    draft.annotation("query", first(event, &["alert_query", "query", "ALERT_QUERY"]));
    draft.annotation("link", first(event, &["link", "url", "LINK"]));
    draft.annotation("snapshot", first(event, &["snapshot", "SNAPSHOT"]));
    draft.annotation("datadog_event_id", first(event, &["id", "event_id", "ID"]));
    draft.annotation("datadog_cycle_key", first(event, &["alert_cycle_key", "ALERT_CYCLE_KEY"]));
    draft.value = ["value", "alert_value", "VALUE"].iter().find_map(|name| event.get(*name).and_then(number));
    let stamp = DATE
        .iter()
        .find_map(|name| event.get(*name))
        .filter(|stamp| scalar(stamp).is_some_and(|t| !t.starts_with('$')));
    let at = instant(stamp, "date")?;
    match status {
        Status::Firing => draft.starts_at = at,
        Status::Resolved => draft.ends_at = at,
    }
    Ok(draft)
}

/// The name of the monitor without the marks that Datadog puts before it, and those marks:
/// `[P2] [Triggered on {host:a}] CPU is high`.
fn untitled(title: &str) -> (String, Vec<String>) {
    let mut rest = title.trim();
    let mut marks = Vec::new();
    while let Some((mark, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        if !is_mark(mark) {
            break;
        }
        marks.push(mark.trim().to_owned());
        rest = after.trim_start();
    }
    // A title of marks alone is a name still.
    (if rest.is_empty() { title.trim().to_owned() } else { rest.to_owned() }, marks)
}

/// What the title says that it is about, sorted: `Triggered on {host:a,service:b}`. `*` is everything.
fn scope_of(marks: &[String]) -> Vec<&str> {
    let named = marks.iter().find_map(|mark| mark.split_once(" on ")?.1.trim().strip_prefix('{')?.strip_suffix('}'));
    let mut parts: Vec<&str> =
        named.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "*").collect();
    parts.sort_unstable();
    parts
}

fn is_mark(mark: &str) -> bool {
    let word = mark.split(" on ").next().unwrap_or(mark);
    let priority =
        word.len() == 2 && word.starts_with(['P', 'p']) && word.ends_with(|last: char| last.is_ascii_digit());
    priority || state_of(word).is_some()
}

/// Its reminders have the instant of the reminder; the start is not sent.
fn is_repeat(event: &Object, marks: &[String]) -> bool {
    let says_again = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        word.starts_with("re-") || word.starts_with("renotif")
    };
    match first(event, TRANSITION) {
        Some(word) => says_again(&word),
        None => marks.iter().any(|mark| says_again(mark)),
    }
}

/// Status and weight of a transition: Triggered, Warn, No Data, their `Re-` forms, Renotify, Recovered.
fn state_of(word: &str) -> Option<(Status, Option<Severity>)> {
    let word = word.trim().to_ascii_lowercase();
    let word = word.strip_prefix("re-").unwrap_or(&word);
    Some(match word {
        "triggered" | "alert" => (Status::Firing, Some(Severity::Critical)),
        "warn" | "warning" | "no data" | "no_data" => (Status::Firing, Some(Severity::Warning)),
        "renotify" | "renotified" => (Status::Firing, None),
        "recovered" | "ok" | "resolved" => (Status::Resolved, None),
        _ => return None,
    })
}

fn transition(event: &Object, marks: &[String]) -> Result<(Status, Option<Severity>), BadAlert> {
    const WANTED: &str = "$ALERT_TRANSITION: Triggered, Warn, No Data, Renotify or Recovered";
    let kind = first(event, TYPE);
    let by_type = kind.as_deref().and_then(|kind| match kind.to_ascii_lowercase().as_str() {
        "success" => Some((Status::Resolved, None)),
        word => severity_of(word).map(|severity| (Status::Firing, Some(severity))),
    });
    if let Some(word) = first(event, TRANSITION) {
        let (status, weight) =
            state_of(&word).ok_or_else(|| BadAlert::BadField("alert_transition", brief(&Value::from(word)), WANTED))?;
        return Ok((status, weight.or(by_type.and_then(|(_, severity)| severity))));
    }
    let by_title = marks.iter().find_map(|mark| state_of(mark.split(" on ").next().unwrap_or(mark)));
    by_title.or(by_type).ok_or(BadAlert::Missing("alert_transition", WANTED))
}

fn identity(
    event: &Object,
    name: &str,
    host: Option<&str>,
    tags: &BTreeMap<String, String>,
    titled: &[&str],
) -> Labels {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let monitor = first(event, MONITOR);
    if let (Some(monitor), Some(scope)) = (&monitor, first(event, SCOPE)) {
        // The order of a scope's tags is not promised.
        let mut parts: Vec<&str> = scope.split(',').map(str::trim).collect();
        parts.sort_unstable();
        return Labels::from([pair("monitor", monitor.clone()), pair("scope", parts.join(","))]);
    }
    let titled = (!titled.is_empty()).then(|| pair("scope", titled.join(",")));
    if let Some(key) = first(event, AGGREGATE) {
        return [pair("aggregate", key)].into_iter().chain(titled).collect();
    }
    let mut key = tags.clone();
    key.extend(titled);
    key.remove("severity");
    key.insert("host".to_owned(), host.unwrap_or_default().to_owned());
    key.insert("monitor".to_owned(), monitor.unwrap_or_else(|| name.to_owned()));
    key
}

/// Tags with a value by name (several values sorted and joined), and all of them as text.
fn tags(event: &Object) -> (BTreeMap<String, String>, String) {
    let all: Vec<String> = match TAGS.iter().find_map(|name| event.get(*name)) {
        Some(Value::String(text)) if !text.starts_with('$') => {
            text.split(',').map(|tag| tag.trim().to_owned()).collect()
        }
        Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
        _ => vec![],
    };
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in all.iter().filter_map(|tag| tag.split_once(':')) {
        if !name.is_empty() && !value.is_empty() {
            values.entry(name.to_owned()).or_default().push(value);
        }
    }
    let joined = values.into_iter().map(|(name, mut values)| {
        values.sort_unstable();
        values.dedup();
        (name, values.join(","))
    });
    (joined.collect(), all.iter().filter(|tag| !tag.is_empty()).map(String::as_str).collect::<Vec<_>>().join(","))
}
