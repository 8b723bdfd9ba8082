//! CloudEvents 1.0: `{"specversion": "1.0", "id", "source", "type", "subject", "time", "data"}`.
//!
//! The data is a payload of its own. When it has no known format, the event itself is the alert; its
//! `id` is of this one message and is never part of the identity.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::alert::{BadAlert, Labels, Status};

use super::draft::{Draft, severity_of, shown};
use super::read::{Object, first, number, object, scalar, text};
use super::times::instant;
use super::{BadPayload, Door, Format, Taken, format};

/// Words at the end of a type or in a status that say that it is over.
const OVER: [&str; 9] = ["resolved", "recovered", "closed", "cleared", "ok", "ended", "resolve", "normal", "inactive"];
const BEGUN: [&str; 12] = [
    "firing",
    "fired",
    "triggered",
    "opened",
    "open",
    "raised",
    "active",
    "started",
    "alerting",
    "trigger",
    "failing",
    "problem",
];

/// Binary mode brought into structured mode: header `ce-subject` is the attribute `subject`.
pub fn structured(headers: &BTreeMap<String, String>, body: &Value) -> Value {
    let mut event = Map::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("ce-").or_else(|| name.strip_prefix("ce_")) {
            Some("data" | "data_base64") | None => {}
            Some(attribute) => {
                event.insert(attribute.to_owned(), Value::from(value.as_str()));
            }
        }
    }
    if event.is_empty() {
        return body.clone();
    }
    event.insert("data".to_owned(), body.clone());
    Value::Object(event)
}

pub fn open(payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let event = object(Some(payload), "payload")?;
    // Data that is JSON in a text is JSON all the same.
    let parsed = match event.get("data") {
        Some(Value::String(text)) if text.trim_start().starts_with(['{', '[']) => serde_json::from_str(text).ok(),
        _ => None,
    };
    let data = parsed.as_ref().or_else(|| event.get("data"));
    if let Some(data) = data {
        let inner = door.deeper(Some(Format::CloudEvents))?;
        if inner.knows(data) {
            return inner.open(data, taken);
        }
    }
    taken.alerts.push(draft(event, data)?.finish(Format::CloudEvents, door)?);
    Ok(())
}

impl Door<'_> {
    fn knows(&self, payload: &Value) -> bool {
        match payload {
            Value::Array(items) => items.first().is_some_and(|item| item.is_object() && self.knows(item)),
            Value::Object(_) => self.mappings.find(payload).is_some() || format::detect(payload).is_some(),
            _ => false,
        }
    }
}

fn draft(event: &Object, data: Option<&Value>) -> Result<Draft, BadAlert> {
    let kind = text(event, "type").ok_or(BadAlert::Missing("type", "the type of the event"))?;
    let source = text(event, "source").ok_or(BadAlert::Missing("source", "the source of the event"))?;
    let data_object = data.and_then(Value::as_object);
    let within = |names: &[&str]| first(event, names).or_else(|| data_object.and_then(|data| first(data, names)));
    let (name, said) = split(kind);
    let said = within(&["status", "state"]).as_deref().and_then(status_of).or(said);
    let status = said.unwrap_or(Status::Firing);
    let subject = text(event, "subject");
    let key = Labels::from([
        ("alertname".to_owned(), name.to_owned()),
        ("source".to_owned(), source.to_owned()),
        ("subject".to_owned(), subject.unwrap_or_default().to_owned()),
    ]);
    let mut draft = Draft::keyed(status, key);
    draft.label("alertname", Some(name));
    draft.label("event_source", Some(source));
    draft.label("subject", subject);
    for known in ["service", "namespace", "cluster", "team", "environment", "deployment", "node"] {
        draft.label(known, within(&[known]));
    }
    draft.severity(within(&["severity"]).as_deref().and_then(severity_of));
    draft.annotation("event_id", text(event, "id"));
    draft.annotation("event_type", Some(kind));
    draft.annotation("summary", within(&["summary", "message", "title", "description"]));
    draft.annotation("data", data.and_then(shown));
    draft.value = data_object.and_then(|data| data.get("value")).and_then(number);
    let at = instant(event.get("time").filter(|time| scalar(time).is_some()), "time")?;
    match status {
        Status::Firing => draft.starts_at = at,
        Status::Resolved => draft.ends_at = at,
    }
    Ok(draft)
}

/// `com.example.disk.full.resolved` is the end of `com.example.disk.full`.
fn split(kind: &str) -> (&str, Option<Status>) {
    match kind.rsplit_once(['.', '/', ':']) {
        Some((name, word)) if !name.is_empty() => match status_of(word) {
            Some(status) => (name, Some(status)),
            None => (kind, None),
        },
        _ => (kind, None),
    }
}

fn status_of(word: &str) -> Option<Status> {
    let word = word.to_ascii_lowercase();
    if OVER.contains(&word.as_str()) {
        Some(Status::Resolved)
    } else if BEGUN.contains(&word.as_str()) {
        Some(Status::Firing)
    } else {
        None
    }
}
