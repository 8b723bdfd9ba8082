//! Grafana's webhooks: unified alerting, whose alerts are Alertmanager's with values and links, and the
//! notification of one rule before it (`ruleName`, `state`, `evalMatches`).

use serde_json::Value;

use crate::domain::alert::{BadAlert, Labels, Severity, Status};

use super::alertmanager::{array, draft as core, left_out};
use super::draft::{Draft, shown};
use super::read::{Object, brief, first, number, object, text, text_map};
use super::{BadPayload, Door, Format, Remark, Taken};

/// Fields that Alertmanager's alerts do not have.
const MARKS: [&str; 5] = ["values", "valueString", "silenceURL", "dashboardURL", "panelURL"];

const LINKS: [(&str, &str); 5] = [
    ("generatorURL", "generator_url"),
    ("silenceURL", "silence_url"),
    ("dashboardURL", "dashboard_url"),
    ("panelURL", "panel_url"),
    ("imageURL", "image_url"),
];

/// Whether the first alert of a group is Grafana's.
pub fn marks_first(group: &Object) -> bool {
    let alert = group.get("alerts").and_then(|alerts| alerts.get(0)).and_then(Value::as_object);
    alert.is_some_and(|alert| MARKS.iter().any(|mark| alert.get(*mark).is_some_and(|value| !value.is_null())))
}

pub fn take(format: Format, payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    if format == Format::GrafanaLegacy {
        return Ok(legacy(object(Some(payload), "payload")?, door, taken)?);
    }
    let org = payload.get("orgId").and_then(super::read::scalar);
    taken.remarks.extend(left_out(payload.get("truncatedAlerts")));
    for alert in array(payload.get("alerts"))? {
        match unified(alert, org.as_deref(), door) {
            Ok(draft) => match draft.finish(format, door) {
                Ok(alert) => taken.alerts.push(alert),
                Err(bad) => taken.refuse(|| bad),
            },
            Err(bad) => taken.refuse(|| bad),
        }
    }
    Ok(())
}

fn unified(alert: &Value, org: Option<&str>, door: &Door<'_>) -> Result<Draft, BadAlert> {
    let mut draft = core(alert, door.received_at)?;
    draft.annotation("grafana_org", org);
    for (field, name) in LINKS {
        draft.annotation(name, alert.get(field).and_then(Value::as_str));
    }
    let values = alert.get("values").filter(|values| !values.is_null());
    draft.annotation("values", values.and_then(shown));
    let sentence = alert.get("valueString").and_then(Value::as_str);
    draft.annotation("value_string", sentence);
    draft.value = draft.value.or_else(|| measured(values)).or_else(|| sentence.and_then(from_sentence));
    Ok(draft)
}

/// Of the values by query id the one that was measured: a condition gives only 0 or 1, so the first
/// other number; else the first.
fn measured(values: Option<&Value>) -> Option<f64> {
    let numbers: Vec<f64> = values?.as_object()?.values().filter_map(number).collect();
    numbers.iter().find(|number| **number != 0.0 && **number != 1.0).or(numbers.first()).copied()
}

/// `[ var='B' labels={...} value=44.2 ], [ var='C' ... value=1 ]`
fn from_sentence(sentence: &str) -> Option<f64> {
    let numbers: Vec<f64> = sentence
        .split(" value=")
        .skip(1)
        .filter_map(|rest| rest.split([' ', ']', ',']).next()?.parse().ok())
        .filter(|number: &f64| number.is_finite())
        .collect();
    numbers.iter().find(|number| **number != 0.0 && **number != 1.0).or(numbers.first()).copied()
}

/// A rule is the alert: which series matched changes while it fires.
fn legacy(rule: &Object, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadAlert> {
    let state = text(rule, "state").ok_or(BadAlert::Missing("state", "\"alerting\", \"ok\" or \"no_data\""))?;
    let (status, severity) = match state.to_ascii_lowercase().as_str() {
        "alerting" => (Status::Firing, None),
        "no_data" => (Status::Firing, Some(Severity::Warning)),
        "ok" => (Status::Resolved, None),
        "paused" | "pending" | "unknown" => {
            taken.remarks.push(Remark::PassedOver(format!("a Grafana rule is {state}")));
            return Ok(());
        }
        _ => {
            let found = brief(&Value::from(state));
            return Err(BadAlert::BadField("state", found, "\"alerting\", \"ok\" or \"no_data\""));
        }
    };
    let name = first(rule, &["ruleName", "title", "ruleId"]);
    let id = first(rule, &["ruleId", "ruleName"]);
    let org = first(rule, &["orgId"]).unwrap_or_default();
    let key = Labels::from([
        ("grafana_rule".to_owned(), id.clone().unwrap_or_default()),
        ("grafana_org".to_owned(), org.clone()),
    ]);
    let mut draft = Draft::keyed(status, key);
    draft.labels = text_map(rule.get("tags"), "tags")?;
    draft.label("alertname", name);
    draft.severity(severity);
    draft.annotation("grafana_rule_id", id);
    draft.annotation("grafana_org", Some(org));
    draft.annotation("grafana_state", Some(state));
    draft.annotation("summary", first(rule, &["title"]));
    draft.annotation("description", first(rule, &["message"]));
    draft.annotation("rule_url", first(rule, &["ruleUrl"]));
    draft.annotation("image_url", first(rule, &["imageUrl"]));
    let matches = rule.get("evalMatches").and_then(Value::as_array);
    draft.annotation(
        "eval_matches",
        rule.get("evalMatches").filter(|_| matches.is_some_and(|m| !m.is_empty())).and_then(shown),
    );
    draft.value = matches.and_then(|matches| matches.iter().find_map(|series| series.get("value").and_then(number)));
    taken.alerts.push(draft.finish(Format::GrafanaLegacy, door)?);
    Ok(())
}
