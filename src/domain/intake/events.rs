//! Alertmanager's event recorder (file, webhook, Kafka): JSON of `events.v2.Event`, and of the schema
//! before it, whose label sets are lists of pairs.
//!
//! `{"@timestamp": ..., "instance": ..., "data": {"alertCreated": {"alert": {...}}}}`, protobuf's JSON
//! form: lowerCamelCase names, 64-bit integers as text.
//! <https://github.com/prometheus/alertmanager/blob/main/proto/eventrecorder/events/v2/events.proto>,
//! <https://github.com/prometheus/alertmanager/pull/5246> (Kafka), pull/5409 (schema v2).
//!
//! A muted alert carries its labels, so that our fingerprint is computed; only the alerts that inhibit
//! it are named by Alertmanager's own fingerprint.

use serde_json::Value;

use crate::domain::alert::{BadAlert, Fingerprint, Labels, Status};
use crate::domain::time::Timestamp;

use super::draft::{Draft, Identity, replace_nul};
use super::read::{Object, brief, notes, object, scalar, text, text_map};
use super::times::instant;
use super::{BadPayload, Door, Format, Knowledge, Known, Remark, Taken};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Created,
    Grouped,
    Resolved,
    Silenced,
    Inhibited,
    /// A delivery: what fires in it is not muted.
    Notified,
    /// Nothing about one alert: start, stop, silences themselves.
    Other(&'static str),
}

/// The kind of the event and what it holds.
pub fn kind_of(data: &Value) -> Option<(Kind, &Value)> {
    const KINDS: [(&str, &str, Kind); 10] = [
        ("alertCreated", "alert_created", Kind::Created),
        ("alertGrouped", "alert_grouped", Kind::Grouped),
        ("alertResolved", "alert_resolved", Kind::Resolved),
        ("silenceMutedAlert", "silence_muted_alert", Kind::Silenced),
        ("inhibitionMutedAlert", "inhibition_muted_alert", Kind::Inhibited),
        ("notification", "notification", Kind::Notified),
        ("silenceCreated", "silence_created", Kind::Other("a silence was created")),
        ("silenceUpdated", "silence_updated", Kind::Other("a silence was changed")),
        ("alertmanagerStartupEvent", "alertmanager_startup_event", Kind::Other("an Alertmanager has started")),
        ("alertmanagerShutdownEvent", "alertmanager_shutdown_event", Kind::Other("an Alertmanager has stopped")),
    ];
    let data = data.as_object()?;
    KINDS
        .iter()
        .find_map(|(camel, snake, kind)| data.get(*camel).or_else(|| data.get(*snake)).map(|body| (*kind, body)))
}

pub fn take(payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let envelope = object(Some(payload), "event")?;
    let Some((kind, body)) = payload.get("data").and_then(kind_of) else {
        return Err(BadAlert::Missing("data", "an event such as alertCreated").into());
    };
    let stamp = envelope.get("@timestamp").or_else(|| envelope.get("timestamp"));
    let at = instant(stamp, "@timestamp")?.unwrap_or(door.received_at);
    match kind {
        Kind::Created | Kind::Resolved => alert(kind, body, at, door, taken)?,
        Kind::Grouped => {
            taken.knowledge.push(knowledge(details(body), grouped(body), at)?);
        }
        Kind::Notified => {
            let firing = either(body, "firingAlerts", "firing_alerts").and_then(Value::as_array);
            let about = firing.into_iter().flatten().map(|alert| alert.get("details").unwrap_or(alert));
            // One that cannot be read loses this fact alone.
            taken.knowledge.extend(about.filter_map(|alert| knowledge(Some(alert), grouped(body), at).ok()));
            taken.remarks.push(Remark::PassedOver("a notification was delivered".to_owned()));
        }
        Kind::Silenced => {
            let silence = object(body.get("silence"), "silence")?;
            let known = Known::Silenced {
                by: text(silence, "id").map(str::to_owned).into_iter().collect(),
                until: instant(silence.get("endsAt").or_else(|| silence.get("ends_at")), "silence.endsAt")?,
                comment: text(silence, "comment").unwrap_or_default().chars().take(400).collect(),
            };
            taken.knowledge.push(knowledge(muted(body), known, at)?);
        }
        Kind::Inhibited => {
            let by = either(body, "inhibitingFingerprints", "inhibiting_fingerprints").and_then(Value::as_array);
            let rules = either(body, "inhibitRules", "inhibit_rules").and_then(Value::as_array);
            let known = Known::Inhibited {
                by: by.into_iter().flatten().filter_map(foreign).take(32).collect(),
                rules: rules
                    .into_iter()
                    .flatten()
                    .filter_map(|rule| rule.get("name").and_then(scalar))
                    .take(32)
                    .collect(),
            };
            taken.knowledge.push(knowledge(muted(body), known, at)?);
        }
        Kind::Other(what) => taken.remarks.push(Remark::PassedOver(what.to_owned())),
    }
    Ok(())
}

fn alert(kind: Kind, body: &Value, at: Timestamp, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadAlert> {
    let details = object(details(body), "alert")?;
    let ends_at = instant(details.get("endsAt").or_else(|| details.get("ends_at")), "endsAt")?;
    let resolved = kind == Kind::Resolved || details.get("resolved") == Some(&Value::Bool(true));
    let draft = Draft {
        labels: label_set(details.get("labels"), "labels")?,
        annotations: note_set(details.get("annotations")),
        identity: Identity::Labels,
        status: if resolved { Status::Resolved } else { Status::Firing },
        starts_at: instant(details.get("startsAt").or_else(|| details.get("starts_at")), "startsAt")?,
        ends_at: ends_at.or(Some(at)),
        // An event is told once.
        stands_until: None,
        value: None,
    };
    taken.alerts.push(draft.finish(Format::AlertmanagerEvent, door)?);
    Ok(())
}

fn grouped(body: &Value) -> Known {
    let group = either(body, "groupInfo", "group_info");
    let word = |camel, snake| group.and_then(|group| either(group, camel, snake)).and_then(scalar).unwrap_or_default();
    Known::Grouped { receiver: word("receiverName", "receiver_name"), group_key: word("groupKey", "group_key") }
}

fn knowledge(about: Option<&Value>, known: Known, at: Timestamp) -> Result<Knowledge, BadAlert> {
    let about = object(about, "alert")?;
    let mut labels = label_set(about.get("labels"), "labels")?;
    // As the labels of the alert itself, or the fact would be about another one.
    replace_nul(&mut labels);
    labels.retain(|_, text| !text.is_empty());
    let name = labels.get("alertname").cloned();
    let name = name.ok_or(BadAlert::Missing("labels.alertname", "the name of the alerting rule"))?;
    Ok(Knowledge { about: Fingerprint::of(&labels), name, known, at })
}

/// The first schema wraps the alert beside its hash.
fn details(body: &Value) -> Option<&Value> {
    let alert = body.get("alert")?;
    alert.get("details").or(Some(alert))
}

fn muted(body: &Value) -> Option<&Value> {
    either(body, "mutedAlert", "muted_alert")
}

fn either<'v>(body: &'v Value, camel: &str, snake: &str) -> Option<&'v Value> {
    body.get(camel).or_else(|| body.get(snake))
}

/// `{"a": "b"}` (v2) or `{"labels": [{"key": "a", "value": "b"}]}` (v1).
fn label_set(value: Option<&Value>, field: &'static str) -> Result<Labels, BadAlert> {
    const WANTED: &str = "pairs of `key` and `value`";
    let Some(Value::Array(pairs)) = value.and_then(|set| set.get("labels")) else {
        return text_map(value, field);
    };
    let pair = |pair: &Object| {
        Some((pair.get("key")?.as_str()?.to_owned(), pair.get("value").and_then(scalar).unwrap_or_default()))
    };
    pairs
        .iter()
        .map(|item| item.as_object().and_then(pair).ok_or_else(|| BadAlert::BadField(field, brief(item), WANTED)))
        .collect()
}

fn note_set(value: Option<&Value>) -> Labels {
    label_set(value, "annotations").unwrap_or_else(|_| notes(value))
}

/// A 64-bit integer, as text in protobuf's JSON.
fn foreign(value: &Value) -> Option<String> {
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
    Some(format!("{number:016x}"))
}

/// The fingerprint that Prometheus and Alertmanager give these labels, to find ours by theirs: FNV-1a
/// with 64 bits over sorted names and values, each closed by 0xff.
/// <https://github.com/prometheus/common/blob/main/model/fnv.go>, `labelSetToFingerprint` beside it.
pub fn alertmanager_fingerprint(labels: &Labels) -> String {
    const PRIME: u64 = 1_099_511_628_211;
    let mut sum: u64 = 14_695_981_039_346_656_037;
    let mut add = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME);
    for (name, value) in labels {
        name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]).for_each(&mut add);
    }
    format!("{sum:016x}")
}
