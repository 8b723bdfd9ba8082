//! Alertmanager's webhook v4, its API's lists, and what Prometheus posts to it.
//!
//! Prometheus gives no status: an alert has ended when its `endsAt` is over; before that, `endsAt` says
//! until when Prometheus stands for it (some evaluation intervals ahead).
//! <https://prometheus.io/docs/alerting/latest/clients/>

use serde_json::Value;

use crate::domain::alert::{Alert, BadAlert, Status};
use crate::domain::time::Timestamp;

use super::draft::{Draft, Identity};
use super::read::{brief, notes, number, object, scalar, text, text_map};
use super::times::instant;
use super::{BadPayload, Door, Format, Knowledge, Known, Remark, Taken};

const STATUS_WANTED: &str = "\"firing\" or \"resolved\"";

pub fn take(format: Format, payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let alerts = match format {
        Format::AlertmanagerApi => match payload.get("data") {
            Some(Value::Array(alerts)) => alerts,
            data => array(data.and_then(|data| data.get("alerts")))?,
        },
        Format::AlertmanagerAlert => {
            one(payload, door, taken);
            return Ok(());
        }
        _ => {
            taken.remarks.extend(left_out(payload.get("truncatedAlerts")));
            array(payload.get("alerts"))?
        }
    };
    alerts.iter().for_each(|alert| one(alert, door, taken));
    Ok(())
}

/// Alertmanager's `max_alerts` cuts groups, and what it left out is sent nowhere else.
pub fn left_out(truncated: Option<&Value>) -> Option<Remark> {
    let alerts = truncated.and_then(number).filter(|alerts| *alerts >= 1.0)?;
    Some(Remark::PassedOver(format!(
        "{alerts:.0} alerts of a group were not sent (truncatedAlerts): raise max_alerts in the sender's webhook_configs"
    )))
}

pub fn array(value: Option<&Value>) -> Result<&Vec<Value>, BadAlert> {
    match value {
        Some(Value::Array(alerts)) => Ok(alerts),
        Some(other) => Err(BadAlert::BadField("alerts", brief(other), "an array of alerts")),
        None => Err(BadAlert::Missing("alerts", "an array of alerts")),
    }
}

fn one(value: &Value, door: &Door<'_>, taken: &mut Taken) {
    if is_pending(value) {
        taken.remarks.push(Remark::PassedOver("an alert is pending: its rule's `for` has not passed".to_owned()));
        return;
    }
    match draft(value, door.received_at).and_then(|draft| draft.finish(Format::AlertmanagerAlert, door)) {
        Ok(alert) => {
            learn(value, &alert, door.received_at, taken);
            taken.alerts.push(alert);
        }
        Err(bad) => taken.refuse(|| bad),
    }
}

/// `GET /api/v1/alerts` of Prometheus also lists what does not fire yet.
fn is_pending(value: &Value) -> bool {
    value.get("state").and_then(Value::as_str) == Some("pending")
}

/// One alert object, also Grafana's, whose core is the same.
pub fn draft(value: &Value, received_at: Timestamp) -> Result<Draft, BadAlert> {
    let object = value.as_object().ok_or(BadAlert::NotAnObject)?;
    let labels = text_map(object.get("labels"), "labels")?;
    let annotations = notes(object.get("annotations"));
    let starts_at = instant(object.get("startsAt").or_else(|| object.get("activeAt")), "startsAt")?;
    let ends_at = instant(object.get("endsAt"), "endsAt")?;
    // Who gives no status repeats what fires, and says with each until when that counts.
    let mut stands_until = None;
    let mut unsaid = || {
        stands_until = ends_at;
        unsaid(ends_at, received_at)
    };
    let status = match object.get("status").or_else(|| object.get("state")) {
        None | Some(Value::Null) => unsaid(),
        Some(Value::String(text)) => status_of(text)
            .ok_or_else(|| BadAlert::BadField("status", brief(&Value::from(text.as_str())), STATUS_WANTED))?,
        // API v2 lists what is there: {"state": "active" | "suppressed" | "unprocessed"}.
        Some(Value::Object(_)) => unsaid(),
        Some(other) => return Err(BadAlert::BadField("status", brief(other), STATUS_WANTED)),
    };
    let value = value_of(object.get("value"), &annotations);
    Ok(Draft { labels, annotations, identity: Identity::Labels, status, starts_at, ends_at, stands_until, value })
}

pub fn status_of(text: &str) -> Option<Status> {
    if text.eq_ignore_ascii_case("firing") {
        Some(Status::Firing)
    } else if text.eq_ignore_ascii_case("resolved") {
        Some(Status::Resolved)
    } else {
        None
    }
}

/// The status of an alert that has none.
pub fn unsaid(ends_at: Option<Timestamp>, received_at: Timestamp) -> Status {
    match ends_at {
        Some(end) if end <= received_at => Status::Resolved,
        _ => Status::Firing,
    }
}

pub fn value_of(value: Option<&Value>, annotations: &crate::domain::alert::Labels) -> Option<f64> {
    value
        .and_then(number)
        .or_else(|| annotations.get("value").and_then(|text| text.trim().parse().ok()))
        .filter(|value: &f64| value.is_finite())
}

/// API v2 says by whom an alert is muted, or that it is told; v1 does so at the same place.
fn learn(value: &Value, alert: &Alert, at: Timestamp, taken: &mut Taken) {
    let Ok(status) = object(value.get("status"), "status") else { return };
    let Some(state) = text(status, "state") else { return };
    let by = |name: &str| -> Vec<String> {
        let ids = status.get(name).and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).take(32).collect()
    };
    let mut know = |known| {
        taken.knowledge.push(Knowledge { about: alert.fingerprint, name: alert.name().to_owned(), known, at });
    };
    let (silenced, inhibited) = (by("silencedBy"), by("inhibitedBy"));
    if state == "active" && silenced.is_empty() && inhibited.is_empty() {
        let receiver = value.get("receivers").and_then(|all| all.get(0));
        let receiver = receiver.and_then(|one| one.get("name").or(Some(one))).and_then(scalar).unwrap_or_default();
        know(Known::Grouped { receiver, group_key: String::new() });
    }
    if !silenced.is_empty() {
        know(Known::Silenced { by: silenced, until: None, comment: String::new() });
    }
    if !inhibited.is_empty() {
        know(Known::Inhibited { by: inhibited, rules: vec![] });
    }
}
