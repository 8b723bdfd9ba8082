//! Which format a payload has, by the fields that only this format has.

use std::fmt;

use serde_json::{Map, Value};

use super::BadPayload;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Webhook v4. <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>
    AlertmanagerGroup,
    /// The answer of `GET /api/v1/alerts` of Prometheus or of an old Alertmanager.
    /// <https://prometheus.io/docs/prometheus/latest/querying/api/#alerts>
    AlertmanagerApi,
    /// One alert as Prometheus posts it or API v2 lists it.
    /// <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>
    AlertmanagerAlert,
    /// The event recorder. <https://github.com/prometheus/alertmanager/pull/5072>
    AlertmanagerEvent,
    /// <https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/>
    Grafana,
    /// Before Grafana 9. <https://grafana.com/docs/grafana/v8.0/alerting/old-alerting/notifications/#webhook>
    GrafanaLegacy,
    /// Events API v2. <https://developer.pagerduty.com/docs/send-alert-event>
    PagerDuty,
    /// <https://docs.datadoghq.com/integrations/webhooks/>
    Datadog,
    /// The envelope. <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
    Sns,
    /// The alarm inside an SNS message.
    CloudWatch,
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>
    EventBridge,
    /// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>
    CloudEvents,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::AlertmanagerGroup | Self::AlertmanagerApi | Self::AlertmanagerAlert => "alertmanager",
            Self::AlertmanagerEvent => "alertmanager-events",
            Self::Grafana => "grafana",
            Self::GrafanaLegacy => "grafana-legacy",
            Self::PagerDuty => "pagerduty",
            Self::Datadog => "datadog",
            Self::Sns => "sns",
            Self::CloudWatch => "cloudwatch",
            Self::EventBridge => "eventbridge",
            Self::CloudEvents => "cloudevents",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::AlertmanagerGroup => "Alertmanager webhook (v4)",
            Self::AlertmanagerApi => "Prometheus or Alertmanager API answer",
            Self::AlertmanagerAlert => "a single alert",
            Self::AlertmanagerEvent => "Alertmanager event",
            Self::Grafana => "Grafana webhook",
            Self::GrafanaLegacy => "Grafana legacy webhook",
            Self::PagerDuty => "PagerDuty Events v2",
            Self::Datadog => "Datadog webhook",
            Self::Sns => "Amazon SNS",
            Self::CloudWatch => "CloudWatch alarm",
            Self::EventBridge => "EventBridge event",
            Self::CloudEvents => "CloudEvents 1.0",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A format that the payload might have had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub format: Format,
    pub looked_for: Vec<&'static str>,
    pub missing: Vec<&'static str>,
}

/// The format of one payload; `None` for arrays, whose items have each their own, and for the unknown.
pub fn detect(payload: &Value) -> Option<Format> {
    let object = payload.as_object()?;
    // What comes most is asked first; a group or an envelope may have labels of its own.
    if object.get("labels").is_some_and(Value::is_object) && !any(object, &["specversion", "alerts"]) {
        return Some(Format::AlertmanagerAlert);
    }
    SIGNATURES.iter().find(|sign| sign.needs.iter().all(|need| (need.met)(object))).map(|sign| sign.format)
}

pub(super) fn recognise(payload: &Value) -> Result<Format, BadPayload> {
    if let Some(format) = detect(payload) {
        return Ok(format);
    }
    let object = payload.as_object().ok_or_else(|| BadPayload::NotAnObject(kind(payload)))?;
    let mut tried: Vec<Tried> = SIGNATURES
        .iter()
        .map(|sign| Tried {
            format: sign.format,
            looked_for: sign.needs.iter().map(|need| need.shown).collect(),
            missing: sign.needs.iter().filter(|need| !(need.met)(object)).map(|need| need.shown).collect(),
        })
        .collect();
    tried.sort_by_key(|tried| tried.missing.len());
    Err(BadPayload::Unknown { found: keys(object), tried })
}

pub(super) fn tell(tried: &[Tried]) -> String {
    let lines: Vec<String> = tried
        .iter()
        .map(|tried| {
            let (looked, missing) = (tried.looked_for.join(", "), tried.missing.join(", "));
            if looked == missing {
                format!("{} lacks {missing}", tried.format.told())
            } else {
                format!("{} (looked for {looked}) lacks {missing}", tried.format.told())
            }
        })
        .collect();
    lines.join("; ")
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn keys(object: &Map<String, Value>) -> String {
    let shown: Vec<String> = object.keys().take(8).map(|key| key.chars().take(40).collect()).collect();
    if shown.is_empty() { "no fields".to_owned() } else { shown.join(", ") }
}

struct Signature {
    format: Format,
    needs: &'static [Need],
}

struct Need {
    shown: &'static str,
    met: fn(&Map<String, Value>) -> bool,
}

const fn need(shown: &'static str, met: fn(&Map<String, Value>) -> bool) -> Need {
    Need { shown, met }
}

fn has(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).is_some_and(|value| !value.is_null())
}

fn any(object: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().any(|name| has(object, name))
}

/// In the order of asking: envelopes before what may lie in them, the special before the general.
const SIGNATURES: &[Signature] = &[
    Signature {
        format: Format::CloudEvents,
        needs: &[
            need("specversion", |o| has(o, "specversion")),
            need("type", |o| has(o, "type")),
            need("source", |o| has(o, "source")),
        ],
    },
    Signature {
        format: Format::Sns,
        needs: &[
            need("Type", |o| has(o, "Type")),
            need("TopicArn", |o| has(o, "TopicArn")),
            need("Message", |o| has(o, "Message")),
        ],
    },
    Signature {
        format: Format::EventBridge,
        needs: &[need("detail-type", |o| has(o, "detail-type")), need("detail", |o| has(o, "detail"))],
    },
    Signature {
        format: Format::CloudWatch,
        needs: &[need("AlarmName", |o| has(o, "AlarmName")), need("NewStateValue", |o| has(o, "NewStateValue"))],
    },
    Signature {
        format: Format::AlertmanagerEvent,
        needs: &[
            need("@timestamp or instance", |o| any(o, &["@timestamp", "timestamp", "instance"])),
            need("data.alertCreated (or another event)", |o| {
                o.get("data").is_some_and(|data| super::events::kind_of(data).is_some())
            }),
        ],
    },
    Signature {
        format: Format::PagerDuty,
        needs: &[
            need("event_action", |o| has(o, "event_action")),
            need("payload or dedup_key", |o| any(o, &["payload", "dedup_key"])),
        ],
    },
    Signature {
        format: Format::Grafana,
        needs: &[
            need("alerts", |o| has(o, "alerts")),
            need("orgId or alerts[0].valueString", |o| has(o, "orgId") || super::grafana::marks_first(o)),
        ],
    },
    Signature { format: Format::AlertmanagerGroup, needs: &[need("alerts", |o| has(o, "alerts"))] },
    Signature {
        format: Format::AlertmanagerApi,
        needs: &[
            need("status", |o| o.get("status").and_then(Value::as_str) == Some("success")),
            need("data.alerts", |o| o.get("data").is_some_and(|data| data.is_array() || data.get("alerts").is_some())),
        ],
    },
    Signature { format: Format::AlertmanagerAlert, needs: &[need("labels", |o| has(o, "labels"))] },
    Signature {
        format: Format::GrafanaLegacy,
        needs: &[need("ruleName or ruleId", |o| any(o, &["ruleName", "ruleId"])), need("state", |o| has(o, "state"))],
    },
    Signature {
        format: Format::Datadog,
        needs: &[
            need("title or alert_title", |o| any(o, super::datadog::TITLE)),
            need("alert_transition, alert_type or event_type", |o| any(o, super::datadog::SIGNS)),
        ],
    },
];
