//! CloudEvents 1.0: `{"specversion": "1.0", "id", "source", "type", "subject", "time", "data"}`.
//!
//! The data is a payload of its own. When it has no known format, the event itself is the alert; its
//! `id` is of this one message and is never part of the identity.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    let mut event = attributes(headers);
    if event.is_empty() {
        return body.clone();
    }
    event.insert("data".to_owned(), body.clone());
    Value::Object(event)
}

/// As [`structured`]. Data may be absent, a text, or of a kind that only base64 can hold.
pub fn structured_bytes(headers: &BTreeMap<String, String>, body: &[u8]) -> Option<Vec<u8>> {
    let mut event = attributes(headers);
    if !event.contains_key("specversion") {
        return None;
    }
    if !body.trim_ascii().is_empty() {
        let (name, data) = match (serde_json::from_slice::<Value>(body), std::str::from_utf8(body)) {
            (Ok(json), _) => ("data", json),
            // Half a group of alerts is no text: its sender must hear of it.
            (Err(_), Ok(text)) if is_meant_as_json(text) => return None,
            (Err(_), Ok(text)) => ("data", Value::from(text)),
            (Err(_), Err(_)) => ("data_base64", Value::from(STANDARD.encode(body))),
        };
        event.insert(name.to_owned(), data);
    }
    Some(Value::Object(event).to_string().into_bytes())
}

fn is_meant_as_json(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('{') || text.starts_with("[{")
}

fn attributes(headers: &BTreeMap<String, String>) -> Object {
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
    event
}

pub fn open(payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let event = object(Some(payload), "payload")?;
    let unpacked = unpacked(event);
    let data = unpacked.as_ref().or_else(|| event.get("data"));
    if let Some(data) = data {
        let inner = door.deeper(Some(Format::CloudEvents))?;
        if inner.knows(data) {
            return inner.open(data, taken);
        }
    }
    taken.alerts.push(draft(event, data)?.finish(Format::CloudEvents, door)?);
    Ok(())
}

/// Data that lies in a text or in base64; JSON there is JSON all the same. What is no UTF-8 says nothing.
fn unpacked(event: &Object) -> Option<Value> {
    let text = match (event.get("data"), event.get("data_base64")) {
        (Some(Value::String(text)), _) => text.clone(),
        (None | Some(Value::Null), Some(Value::String(text))) => {
            String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?
        }
        _ => return None,
    };
    let json = text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(&text).ok()).flatten();
    json.or(Some(Value::String(text)))
}

impl Door<'_> {
    fn knows(&self, payload: &Value) -> bool {
        match payload {
            Value::Array(items) => items.iter().any(|item| item.is_object() && self.knows(item)),
            Value::Object(_) if self.mappings.find(payload).is_some() => true,
            Value::Object(_) => match format::detect(payload) {
                // Many things have labels; without a name among them, the event is the alert.
                Some(Format::AlertmanagerAlert) => payload.pointer("/labels/alertname").and_then(scalar).is_some(),
                Some(_) => true,
                None => false,
            },
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
