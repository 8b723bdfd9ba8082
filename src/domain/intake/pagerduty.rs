//! PagerDuty's Events API v2: `{"routing_key", "event_action", "dedup_key", "payload": {...}}`.
//!
//! An acknowledgement and an end may come with nothing but `dedup_key`, so that key alone is the
//! identity; a trigger without one gets a key of what it says, which its sender is answered. `routing_key` is
//! a secret. It goes into the hash of the identity, where two services may use the same `dedup_key`, and
//! nowhere else.

use serde_json::{Map, Value};

use crate::domain::alert::{BadAlert, Fingerprint, Labels, Status};

use super::draft::{Draft, severity_of, shown};
use super::read::{Object, brief, first, number, object, scalar, text};
use super::times::instant;
use super::{BadPayload, Door, Format, Knowledge, Known, Taken};

const ACTIONS: &str = "\"trigger\", \"acknowledge\" or \"resolve\"";

/// Details that name things; the rest of `custom_details` (counts, readings) changes from event to event.
const NAMING: [&str; 12] = [
    "service",
    "app",
    "namespace",
    "deployment",
    "statefulset",
    "container",
    "pod",
    "cluster",
    "team",
    "environment",
    "env",
    "region",
];

/// Some senders repeat the key in the details.
const SECRET: [&str; 3] = ["routing_key", "integration_key", "service_key"];

pub fn take(event: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let event = object(Some(event), "event")?;
    let action = text(event, "event_action").ok_or(BadAlert::Missing("event_action", ACTIONS))?;
    let nothing = Map::new();
    let payload = match event.get("payload") {
        None | Some(Value::Null) => &nothing,
        given => object(given, "payload")?,
    };
    let mut key = Labels::from([("dedup_key".to_owned(), dedup_key(event, payload)?)]);
    key.extend(first(event, &["routing_key"]).map(|secret| ("routing_key".to_owned(), secret)));
    let status = match action {
        "trigger" => Status::Firing,
        "resolve" => Status::Resolved,
        "acknowledge" => {
            let at = instant(payload.get("timestamp"), "payload.timestamp")?.unwrap_or(door.received_at);
            let name = name(event, payload).unwrap_or_else(|| "unnamed".to_owned());
            taken.knowledge.push(Knowledge { about: Fingerprint::of(&key), name, known: Known::Acknowledged, at });
            return Ok(());
        }
        other => return Err(BadAlert::BadField("event_action", brief(&Value::from(other)), ACTIONS).into()),
    };
    taken.alerts.push(draft(status, key, event, payload)?.finish(Format::PagerDuty, door)?);
    Ok(())
}

fn draft(status: Status, key: Labels, event: &Object, payload: &Object) -> Result<Draft, BadAlert> {
    let dedup = key.get("dedup_key").cloned();
    let mut draft = Draft::keyed(status, key);
    let details = payload.get("custom_details").and_then(Value::as_object);
    draft.label("alertname", name(event, payload));
    for name in NAMING {
        draft.label(name, details.and_then(|details| first(details, &[name])));
    }
    draft.label("component", first(payload, &["component"]));
    draft.label("group", first(payload, &["group"]));
    draft.label("class", first(payload, &["class"]));
    draft.label("node", first(payload, &["source"]));
    draft.label_if_absent("service", first(payload, &["component"]));
    draft.severity(text(payload, "severity").and_then(severity_of));
    draft.annotation("summary", first(payload, &["summary"]));
    draft.annotation("client", first(event, &["client"]));
    draft.annotation("client_url", first(event, &["client_url"]));
    for (name, value) in details.into_iter().flatten() {
        if !NAMING.contains(&name.as_str()) && !SECRET.contains(&name.to_ascii_lowercase().as_str()) {
            draft.annotation(name, shown(value));
        }
    }
    // After the details, which may name one of their own.
    draft.annotation("dedup_key", dedup);
    if details.is_none() {
        draft.annotation("custom_details", payload.get("custom_details").and_then(scalar));
    }
    for link in event.get("links").and_then(Value::as_array).into_iter().flatten().take(1) {
        draft.annotation("link", link.get("href").and_then(scalar));
    }
    draft.value = details.and_then(|details| details.get("value")).and_then(number);
    let at = instant(payload.get("timestamp"), "payload.timestamp")?;
    match status {
        Status::Firing => draft.starts_at = at,
        Status::Resolved => draft.ends_at = at,
    }
    Ok(draft)
}

/// The class of the problem, else its sentence, else the key by which it is known.
fn name(event: &Object, payload: &Object) -> Option<String> {
    let details = payload.get("custom_details").and_then(Value::as_object);
    details
        .and_then(|details| first(details, &["alertname"]))
        .or_else(|| first(payload, &["class", "summary"]))
        .or_else(|| first(event, &["dedup_key"]))
}

/// The sender's key, else one of all that tells this problem from others: another sentence is another one.
fn dedup_key(event: &Object, payload: &Object) -> Result<String, BadAlert> {
    const WANTED: &str = "the key of the alert, or a payload with `summary` and `source`";
    if let Some(key) = first(event, &["dedup_key"]) {
        return Ok(key);
    }
    let names = ["source", "component", "group", "class", "summary"];
    let said: Labels = names.iter().filter_map(|name| Some(((*name).to_owned(), first(payload, &[name])?))).collect();
    if said.is_empty() {
        return Err(BadAlert::Missing("dedup_key", WANTED));
    }
    Ok(Fingerprint::of(&said).to_string())
}
