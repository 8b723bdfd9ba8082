//! CloudWatch alarms, as SNS delivers them (enveloped or raw) and as EventBridge does.
//!
//! The alarm's ARN names account, region and alarm in both, so that an alarm has one identity by either
//! road. SNS names the region for people ("US East (N. Virginia)").

use serde_json::Value;

use crate::domain::alert::{BadAlert, Labels, MAX_LABELS, Severity, Status};

use super::draft::{Draft, Identity, severity_of, shown};
use super::read::{Object, brief, first, number, object, text};
use super::times::instant;
use super::{BadPayload, Door, Format, Remark, SnsHost, Taken};

const STATES: &str = "\"ALARM\", \"OK\" or \"INSUFFICIENT_DATA\"";

/// The envelope: a notification is opened and its message read as a payload of its own; a request to
/// confirm is told. Signatures are not checked here, which needs a fetched certificate.
/// <https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.prepare.html>
pub fn open_sns(payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let envelope = object(Some(payload), "payload")?;
    let topic = text(envelope, "TopicArn").unwrap_or_default().chars().take(300).collect::<String>();
    match text(envelope, "Type").unwrap_or_default() {
        "Notification" => {
            let message =
                text(envelope, "Message").ok_or(BadAlert::Missing("Message", "the JSON of an alarm as text"))?;
            let inner: Value = serde_json::from_str(message).map_err(|_| {
                BadAlert::BadField("Message", brief(&Value::from(message)), "the JSON of an alarm as text")
            })?;
            door.deeper(Some(Format::Sns))?.open(&inner, taken)
        }
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
            let url = text(envelope, "SubscribeURL").ok_or(BadAlert::Missing("SubscribeURL", "an https URL"))?;
            let url: String = url.chars().take(2_048).collect();
            let host = host_of(&url);
            taken.remarks.push(Remark::ConfirmSubscription { topic, subscribe_url: url, host });
            Ok(())
        }
        other => {
            const TYPES: &str = "\"Notification\" or \"SubscriptionConfirmation\"";
            Err(BadAlert::BadField("Type", brief(&Value::from(other)), TYPES).into())
        }
    }
}

fn host_of(url: &str) -> SnsHost {
    let region = url.strip_prefix("https://sns.").and_then(|rest| {
        let host = rest.split(['/', '?', '#']).next()?;
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    });
    // One label: `sns.x.s3.amazonaws.com` is a bucket that anybody may own.
    let is_region = region.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    });
    // What readers of URLs disagree about is not Amazon's.
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_region && is_plain { SnsHost::Amazon } else { SnsHost::Foreign }
}

pub fn take(format: Format, payload: &Value, door: &Door<'_>, taken: &mut Taken) -> Result<(), BadPayload> {
    let payload = object(Some(payload), "payload")?;
    let draft = match format {
        Format::EventBridge => event(payload, taken)?,
        _ => message(payload, taken)?,
    };
    if let Some(draft) = draft {
        taken.alerts.push(draft.finish(format, door)?);
    }
    Ok(())
}

/// `{"AlarmName", "NewStateValue", "StateChangeTime", "Trigger": {"Dimensions": [{"name", "value"}]}}`
fn message(alarm: &Object, taken: &mut Taken) -> Result<Option<Draft>, BadAlert> {
    let name = first(alarm, &["AlarmName"]).ok_or(BadAlert::Missing("AlarmName", "the name of the alarm"))?;
    let Some(status) = status(text(alarm, "NewStateValue"), "NewStateValue", &name, taken)? else { return Ok(None) };
    let arn = first(alarm, &["AlarmArn"]);
    let account = first(alarm, &["AWSAccountId"]);
    let mut draft = draft(status, &name, arn.as_deref(), account, first(alarm, &["Region"]));
    let description = first(alarm, &["AlarmDescription"]);
    draft.severity(severity(&name, description.as_deref()));
    draft.annotation("description", description);
    draft.annotation("summary", first(alarm, &["NewStateReason"]));
    draft.annotation("old_state", first(alarm, &["OldStateValue"]));
    let trigger = alarm.get("Trigger").and_then(Value::as_object);
    if let Some(trigger) = trigger {
        measured(&mut draft, trigger);
        draft.annotation("threshold", first(trigger, &["Threshold"]));
        draft.annotation("comparison", first(trigger, &["ComparisonOperator"]));
        // An alarm on an expression names what it is about in the metrics of the expression.
        let mut metrics = trigger.get("Metrics").and_then(Value::as_array).into_iter().flatten();
        if let Some(stat) = metrics.find_map(|metric| metric.pointer("/MetricStat/Metric")?.as_object()) {
            measured(&mut draft, stat);
        }
    }
    contributor(&mut draft, first(alarm, &["AlarmContributorId"]), alarm.get("AlarmContributorAttributes"));
    draft.value = text(alarm, "NewStateReason").and_then(datapoint);
    let at = instant(alarm.get("StateChangeTime"), "StateChangeTime")?;
    match status {
        Status::Firing => draft.starts_at = at,
        Status::Resolved => draft.ends_at = at,
    }
    Ok(Some(draft))
}

/// `{"detail-type": "CloudWatch Alarm State Change", "detail": {"alarmName", "state", "previousState",
/// "configuration": {"metrics": [{"metricStat": {"metric": {...}}}]}}}`
fn event(event: &Object, taken: &mut Taken) -> Result<Option<Draft>, BadAlert> {
    let kind = text(event, "detail-type").unwrap_or_default();
    if kind == "CloudWatch Alarm Configuration Change" {
        taken.remarks.push(Remark::PassedOver("the configuration of a CloudWatch alarm was changed".to_owned()));
        return Ok(None);
    }
    if !kind.starts_with("CloudWatch Alarm") {
        let wanted = "\"CloudWatch Alarm State Change\"; write a mapping for other events";
        return Err(BadAlert::BadField("detail-type", brief(&Value::from(kind)), wanted));
    }
    let detail = object(event.get("detail"), "detail")?;
    let state = object(detail.get("state"), "detail.state")?;
    let name = first(detail, &["alarmName"]).ok_or(BadAlert::Missing("detail.alarmName", "the name of the alarm"))?;
    let Some(status) = status(text(state, "value"), "detail.state.value", &name, taken)? else { return Ok(None) };
    let arns = event.get("resources").and_then(Value::as_array);
    let arn = arns.into_iter().flatten().filter_map(Value::as_str).find(|arn| arn.contains(":alarm:"));
    let mut draft = draft(status, &name, arn, first(event, &["account"]), first(event, &["region"]));
    let part = detail.get("alarmContributor").and_then(Value::as_object);
    contributor(&mut draft, part.and_then(|part| first(part, &["id"])), part.and_then(|part| part.get("attributes")));
    draft.annotation("summary", first(state, &["reason"]));
    let previous = detail.get("previousState").and_then(Value::as_object);
    draft.annotation("old_state", previous.and_then(|previous| first(previous, &["value"])));
    if let Some(configuration) = detail.get("configuration").and_then(Value::as_object) {
        let description = first(configuration, &["description"]);
        draft.severity(severity(&name, description.as_deref()));
        draft.annotation("description", description);
        let metrics = configuration.get("metrics").and_then(Value::as_array);
        let stat = metrics.into_iter().flatten().find_map(|metric| metric.pointer("/metricStat/metric")?.as_object());
        if let Some(stat) = stat {
            metric(&mut draft, first(stat, &["name"]), first(stat, &["namespace"]));
            for (name, value) in stat.get("dimensions").and_then(Value::as_object).into_iter().flatten() {
                dimension(&mut draft, name, shown(value));
            }
        }
    }
    draft.value = text(state, "reason").and_then(datapoint);
    let at = instant(state.get("timestamp").or_else(|| event.get("time")), "detail.state.timestamp")?;
    match status {
        Status::Firing => draft.starts_at = at,
        Status::Resolved => {
            draft.ends_at = at;
            // When it went into the state that it has left now.
            let was_firing = previous.filter(|previous| text(previous, "value") == Some("ALARM"));
            draft.starts_at = instant(was_firing.and_then(|p| p.get("timestamp")), "detail.previousState.timestamp")?;
        }
    }
    Ok(Some(draft))
}

fn status(state: Option<&str>, field: &'static str, name: &str, taken: &mut Taken) -> Result<Option<Status>, BadAlert> {
    match state {
        Some("ALARM") => Ok(Some(Status::Firing)),
        Some("OK") => Ok(Some(Status::Resolved)),
        // It says nothing of the metric: what fires goes on firing, what does not does not begin.
        Some("INSUFFICIENT_DATA") => {
            let name: String = name.chars().take(120).collect();
            taken.remarks.push(Remark::PassedOver(format!("CloudWatch has too little data for {name}")));
            Ok(None)
        }
        Some(other) => Err(BadAlert::BadField(field, brief(&Value::from(other)), STATES)),
        None => Err(BadAlert::Missing(field, STATES)),
    }
}

fn draft(status: Status, name: &str, arn: Option<&str>, account: Option<String>, region: Option<String>) -> Draft {
    // arn:aws:cloudwatch:us-east-1:123456789012:alarm:Name
    let mut parts = arn.into_iter().flat_map(|arn| arn.split(':')).skip(3);
    let region = parts.next().filter(|part| !part.is_empty()).map(str::to_owned).or(region);
    let account = parts.next().filter(|part| !part.is_empty()).map(str::to_owned).or(account);
    let key = Labels::from([
        ("alertname".to_owned(), name.to_owned()),
        ("aws_account".to_owned(), account.clone().unwrap_or_default()),
        ("region".to_owned(), region.clone().unwrap_or_default()),
    ]);
    let mut draft = Draft::keyed(status, key);
    draft.label("alertname", Some(name));
    draft.label("aws_account", account);
    draft.label("region", region);
    draft.annotation("alarm_arn", arn);
    draft
}

/// Alarms have none; people write it into the description (`severity: critical`) or, as a word, into the
/// name (`prod-db-cpu-critical`, `[P1] checkout 5xx`). Words that are also said of a metric do not count there.
fn severity(name: &str, description: Option<&str>) -> Option<Severity> {
    const IN_NAMES: [&str; 4] = ["critical", "crit", "warning", "warn"];
    let description = description.unwrap_or_default().to_ascii_lowercase();
    let stated = description.split_once("severity").and_then(|(_, behind)| {
        let word = behind.trim_start().strip_prefix([':', '='])?.trim_start();
        severity_of(word.split(|letter: char| !letter.is_ascii_alphanumeric()).next()?)
    });
    let words = || name.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    let is_level = |word: &str| {
        let digit = word.strip_prefix("sev").or_else(|| word.strip_prefix('p'));
        digit.is_some_and(|digit| matches!(digit.as_bytes(), [b'0'..=b'5']))
    };
    let named = || words().find(|word| IN_NAMES.contains(&word.as_str()) || is_level(word));
    stated.or_else(|| severity_of(&named()?))
}

/// One of the time series that an alarm watches: each begins and ends by itself.
/// `{"alarmContributor": {"id": "6d442278dba546f6", "attributes": {"TableName": "orders"}}}`
fn contributor(draft: &mut Draft, id: Option<String>, attributes: Option<&Value>) {
    let attributes = attributes.and_then(Value::as_object).filter(|attributes| !attributes.is_empty());
    let known = id.clone().or_else(|| attributes.map(|attributes| Value::Object(attributes.clone()).to_string()));
    if let (Identity::Key(key), Some(known)) = (&mut draft.identity, known) {
        key.insert("contributor".to_owned(), known);
    }
    draft.label("contributor", id);
    for (name, value) in attributes.into_iter().flatten() {
        dimension(draft, name, shown(value));
    }
}

/// A metric as SNS writes it.
fn measured(draft: &mut Draft, stat: &Object) {
    metric(draft, first(stat, &["MetricName"]), first(stat, &["Namespace"]));
    for item in stat.get("Dimensions").and_then(Value::as_array).into_iter().flatten() {
        let Some(item) = item.as_object() else { continue };
        if let Some(name) = first(item, &["name", "Name"]) {
            dimension(draft, &name, first(item, &["value", "Value"]));
        }
    }
}

/// CloudWatch's namespace ("AWS/EC2") is no namespace of Kubernetes.
fn metric(draft: &mut Draft, name: Option<String>, namespace: Option<String>) {
    draft.label("metric", name);
    draft.label("cloudwatch_namespace", namespace);
}

fn dimension(draft: &mut Draft, name: &str, value: Option<String>) {
    // A contributor may have more attributes than an alert has labels; this may make two.
    if draft.labels.len() + 2 > MAX_LABELS {
        return;
    }
    // What the rest of the watch calls these things.
    let known = match name {
        "InstanceId" => Some("node"),
        "ServiceName" | "FunctionName" | "DBInstanceIdentifier" | "LoadBalancer" | "QueueName" | "Service" => {
            Some("service")
        }
        "ClusterName" => Some("cluster"),
        "Namespace" => Some("namespace"),
        "PodName" => Some("pod"),
        _ => None,
    };
    if let Some(known) = known {
        draft.label_if_absent(known, value.clone());
    }
    draft.label_if_absent(name, value);
}

/// The newest in `... datapoints [99.5 (02/10/19 16:59:00), 98.1 (...)] was greater than ...`.
fn datapoint(reason: &str) -> Option<f64> {
    let inside = reason.split_once(" [")?.1;
    number(&Value::from(inside.split([' ', ',', ']']).next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_an_alarm_is_where_people_write_it() {
        let said = |name, description| severity(name, description).map(Severity::as_str);
        assert_eq!(said("prod-db-cpu-critical", None), Some("critical"));
        assert_eq!(said("[P1] checkout 5xx", None), Some("critical"));
        assert_eq!(said("WARN: disk of web", None), Some("warning"));
        assert_eq!(said("cpu-critical", Some("Severity = warning, see the wiki")), Some("warning"));
        assert_eq!(said("queue age", Some("Pages people. severity: sev1")), Some("critical"));
        for name in ["HighErrorRate", "api p95 latency", "low-disk", "alarm of web", "p95-high"] {
            assert_eq!(said(name, Some("the severity of this is unknown")), None, "{name}");
        }
    }
}
