//! One labelled firing, and how it is read from the shapes that the world sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::time::Timestamp;

mod reading;
mod severity;

pub use reading::Reading;
pub use severity::Severity;

pub type Labels = BTreeMap<String, String>;

/// Bounds of one alert; what is longer is cut (annotations) or refused (labels), never stored whole.
pub const MAX_LABEL_VALUE: usize = 2_048;
pub const MAX_LABELS: usize = 128;
pub const MAX_ANNOTATION: usize = 8_192;

/// What an alert without a name is called, and where one comes from that names no cluster.
const UNNAMED: &str = "unnamed";
pub const DEFAULT_CLUSTER: &str = "default";

/// Labels that name what an alert is about, from the name people use to the name machines use.
const SUBJECTS: [&str; 57] = [
    "service",
    "service_name",
    "app",
    "app_kubernetes_io_name",
    "application",
    "svc",
    "app_name",
    "appname",
    "application_name",
    "microservice",
    "deployment",
    "statefulset",
    "daemonset",
    "workload",
    "destination_service",
    "destination_service_name",
    "destination_workload",
    "consumer_group",
    "consumergroup",
    "horizontalpodautoscaler",
    "cronjob",
    "pod",
    "container",
    "component",
    "dag_id",
    "dag",
    "pipeline",
    "pipeline_name",
    "workflow",
    "dataset",
    "function_name",
    "FunctionName",
    "topic",
    "queue",
    "queue_name",
    "QueueName",
    "database",
    "DBInstanceIdentifier",
    "dbinstance_identifier",
    "dimension_DBInstanceIdentifier",
    "job_name",
    "job",
    // A pod's alert says where it ran, too.
    "node",
    "persistentvolumeclaim",
    "host",
    "hostname",
    "instance",
    "nodename",
    "host_name",
    "server",
    "arn",
    "vm",
    "entity",
    "resource",
    "target",
    "journey",
    "check",
];
/// So many of them name what people run; the others name machines, parts and instances.
const NAMED: usize = 17;
/// Who forwards for others: such an alert is about the one behind it.
const PROXIES: [&str; 8] = ["haproxy", "nginx", "envoy", "traefik", "ingress", "varnish", "istio-proxy", "kong"];
const BEHIND: [&str; 5] = ["backend", "upstream", "upstream_service", "exported_service", "destination"];
/// Jobs of common scrapers.
const SCRAPERS: [&str; 10] = [
    "integrations/",
    "node",
    "kube-state-metrics",
    "blackbox",
    "cadvisor",
    "kubelet",
    "prometheus",
    "pushgateway",
    "kubernetes-",
    "synthetic",
];

/// Whether the label names a machine. A `match`, because every label of every alert is asked.
pub(in crate::domain) fn is_machine(label: &str) -> bool {
    matches!(label, "node" | "host" | "hostname" | "instance" | "nodename" | "kubernetes_node")
}

/// Whether it is a name of Kubernetes' own DNS, as `pay.shop.svc.cluster.local`. By bytes: each alert is asked.
pub(in crate::domain) fn is_in_cluster(name: &str) -> bool {
    name.as_bytes().windows(4).any(|four| four == b".svc")
}

/// Whether the service of that name measures machines and sites.
pub fn is_measurer(service: &str) -> bool {
    const MEASURERS: [&str; 9] = [
        "node-exporter",
        "node_exporter",
        "windows-exporter",
        "windows_exporter",
        "blackbox-exporter",
        "blackbox_exporter",
        "kube-state-metrics",
        "kubelet",
        "cadvisor",
    ];
    MEASURERS.iter().any(|measurer| service.ends_with(measurer))
}

/// The workload that a pod is one of: `pay-7c9f5d8b6d-x2x1q` and `pay-0` are pods of `pay`.
fn workload(pod: &str) -> &str {
    let generated = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let digits = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if last.bytes().all(|byte| byte.is_ascii_digit()) && last.len() <= 4 {
        return rest;
    }
    if last.len() != 5 || !generated(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if (6..=10).contains(&hash.len()) && generated(hash) && digits(hash) => name,
        _ if digits(last) => rest,
        _ => pod,
    }
}

/// Hash of the labels: the same labels are the same alert, however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub fn of(labels: &Labels) -> Self {
        let mut hasher = Sha256::new();
        for (name, value) in labels {
            hasher.update(name.as_bytes());
            hasher.update([0xff]);
            hasher.update(value.as_bytes());
            hasher.update([0xff]);
        }
        let digest = hasher.finalize();
        Self(u64::from_be_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ]))
    }

    /// As a number, for hashing and packing.
    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a fingerprint is 16 hex digits"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub fingerprint: Fingerprint,
    pub status: Status,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    /// Until when the sender of a firing stands for it: it says so again before that, or has dropped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_until: Option<Timestamp>,
    /// The value that crossed the threshold, when the payload carries it.
    pub value: Option<f64>,
}

#[cfg(test)]
impl Alert {
    /// As most tests want one: it fires, and has labels only.
    pub(in crate::domain) fn firing(labels: Labels, starts_at: Timestamp) -> Self {
        Self {
            fingerprint: Fingerprint::of(&labels),
            status: Status::Firing,
            labels,
            annotations: Labels::new(),
            starts_at,
            ends_at: None,
            stands_until: None,
            value: None,
        }
    }
}

impl Alert {
    pub fn name(&self) -> &str {
        self.label("alertname").unwrap_or(UNNAMED)
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The node of the topology that the alert is about: its service, else its workload, else its
    /// host. The order is from the name people use to the name machines use.
    pub fn subject(&self) -> Option<&str> {
        self.subject_by().map(|(subject, _)| subject)
    }

    /// The label that says the subject, its value, which may say more, and the subject.
    pub fn subject_label(&self) -> Option<(&str, &str, &str)> {
        let subject = self.subject()?;
        // As `subject_by` looks; a proxy's alert is about what another label says.
        let ranked = SUBJECTS.iter().chain(&BEHIND).filter_map(|name| Some((*name, self.label(name)?)));
        let any = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let (name, value) = ranked.chain(any).find(|(_, value)| value.contains(subject))?;
        Some((name, value, subject))
    }

    /// The subject, and whether the label that says it is one that people name services in.
    fn subject_by(&self) -> Option<(&str, bool)> {
        SUBJECTS.iter().enumerate().find_map(|(rank, name)| {
            let value = self.label(name)?;
            let value = match *name {
                // The job of a scraper says who measures, not what is measured.
                "job" => {
                    let job = value.rsplit('/').next().unwrap_or(value);
                    let scrapes = SCRAPERS.iter().any(|scraper| job.starts_with(scraper) || value.starts_with(scraper));
                    if scrapes || job.ends_with("exporter") {
                        return None;
                    }
                    job
                }
                // Operators of Prometheus write it into other labels, too.
                "service" | "service_name" | "app" | "app_kubernetes_io_name" | "application" | "container"
                    if is_measurer(value) && self.names_machine() =>
                {
                    return None;
                }
                "pod" if is_measurer(workload(value)) && self.names_machine() => return None,
                // A port does not make another host, and a probe's target is the site that it asks.
                "instance" | "host" => {
                    let site = value.split_once("://").map_or(value, |(_, site)| site);
                    site.split([':', '/']).next().unwrap_or(site)
                }
                "pod" => workload(value),
                "persistentvolumeclaim" => workload(value.strip_prefix("data-").unwrap_or(value)),
                "arn" => value.rsplit(['/', ':']).next().unwrap_or(value),
                _ => value,
            };
            let forwards =
                |proxy: &&str| value.get(..proxy.len()).is_some_and(|start| start.eq_ignore_ascii_case(proxy));
            let behind = || BEHIND.iter().find_map(|name| self.label(name));
            let value = if PROXIES.iter().any(forwards) { behind().unwrap_or(value) } else { value };
            // `pay.shop.svc.cluster.local` is the service `pay`.
            let short = if is_in_cluster(value) { value.split('.').next().unwrap_or(value) } else { value };
            (!short.is_empty()).then_some((short, rank < NAMED))
        })
    }

    fn names_machine(&self) -> bool {
        self.labels.iter().any(|(name, value)| is_machine(name) && !value.is_empty())
    }

    /// The subject; an alert without one is about what its name says.
    pub fn about(&self) -> &str {
        self.subject().unwrap_or_else(|| self.name())
    }

    pub fn cluster(&self) -> &str {
        self.label("cluster").unwrap_or(DEFAULT_CLUSTER)
    }

    pub fn namespace(&self) -> Option<&str> {
        self.label("namespace")
    }

    /// All that its labels name: where a scraper keeps the label of its own, what it scraped says it in another.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let named = ["namespace", "exported_namespace", "kubernetes_namespace"].iter();
        named.filter_map(|label| self.label(label)).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    pub fn team(&self) -> Option<&str> {
        self.label("team")
    }

    pub fn environment(&self) -> Option<&str> {
        self.label("environment").or_else(|| self.label("env"))
    }

    pub fn severity(&self) -> Severity {
        Severity::said(["severity", "priority", "level"].map(|name| self.label(name)))
    }

    pub fn summary(&self) -> &str {
        ["summary", "message", "description"]
            .iter()
            .find_map(|name| self.annotations.get(*name))
            .map_or_else(|| self.name(), String::as_str)
    }

    /// Reads one Alertmanager alert object (webhook v4 `alerts[]`, API v2, or our Kafka single).
    pub fn from_json(value: &Value, common: &Common) -> Result<Self, BadAlert> {
        let object = value.as_object().ok_or(BadAlert::NotAnObject)?;
        let mut labels = common.labels.clone();
        labels.extend(text_map(object.get("labels"), "labels")?);
        if labels.is_empty() {
            return Err(BadAlert::Missing("labels", "an object of strings with at least `alertname`"));
        }
        if !labels.contains_key("alertname") {
            return Err(BadAlert::Missing("labels.alertname", "the name of the alerting rule"));
        }
        if labels.len() > MAX_LABELS {
            return Err(BadAlert::TooManyLabels(labels.len()));
        }
        if let Some((name, text)) = labels.iter().find(|(_, text)| text.len() > MAX_LABEL_VALUE) {
            return Err(BadAlert::LabelTooLong(name.chars().take(80).collect(), text.len()));
        }
        let mut annotations = common.annotations.clone();
        annotations.extend(text_map(object.get("annotations"), "annotations")?);
        annotations.values_mut().for_each(|text| truncate(text, MAX_ANNOTATION));
        let status = match object.get("status").or(common.status.as_ref()) {
            None => Status::Firing,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("firing") => Status::Firing,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("resolved") => Status::Resolved,
            // Alertmanager's API v2 says {"state": "active"}.
            Some(Value::Object(_)) => Status::Firing,
            Some(other) => return Err(BadAlert::BadField("status", brief(other), "\"firing\" or \"resolved\"")),
        };
        let starts_at = instant(object.get("startsAt"), "startsAt")?
            .ok_or(BadAlert::Missing("startsAt", "an RFC 3339 instant such as 2026-11-21T02:17:00Z"))?;
        let ends_at = instant(object.get("endsAt"), "endsAt")?;
        let value = object
            .get("value")
            .and_then(number)
            .or_else(|| annotations.get("value").and_then(|text| text.trim().parse().ok()))
            .filter(|value: &f64| value.is_finite());
        Ok(Self {
            fingerprint: Fingerprint::of(&labels),
            status,
            labels,
            annotations,
            starts_at,
            ends_at,
            stands_until: None,
            value,
        })
    }
}

/// What a webhook group says once for all its alerts.
#[derive(Debug, Clone, Default)]
pub struct Common {
    pub labels: Labels,
    pub annotations: Labels,
    pub status: Option<Value>,
}

/// Reads a payload: an Alertmanager webhook v4 group, an array of alerts, or a single alert.
/// A bad alert in a group is reported beside the good ones, so that one of them cannot hide the rest.
pub fn read_payload(payload: &Value) -> Result<Vec<Result<Alert, BadAlert>>, BadAlert> {
    match payload {
        Value::Array(alerts) => Ok(alerts.iter().map(|alert| Alert::from_json(alert, &Common::default())).collect()),
        Value::Object(object) => match object.get("alerts") {
            Some(Value::Array(alerts)) => {
                // The group's common labels repeat what each alert carries; they only fill gaps.
                let common = Common { labels: Labels::new(), annotations: Labels::new(), status: None };
                Ok(alerts.iter().map(|alert| Alert::from_json(alert, &common)).collect())
            }
            Some(other) => Err(BadAlert::BadField("alerts", brief(other), "an array of alerts")),
            None if object.contains_key("labels") => Ok(vec![Alert::from_json(payload, &Common::default())]),
            None => Err(BadAlert::UnknownShape(object.keys().take(8).cloned().collect::<Vec<_>>().join(", "))),
        },
        _ => Err(BadAlert::NotAnObject),
    }
}

fn text_map(value: Option<&Value>, field: &'static str) -> Result<Labels, BadAlert> {
    match value {
        None | Some(Value::Null) => Ok(Labels::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                Value::Number(number) => Ok((name.clone(), number.to_string())),
                Value::Bool(flag) => Ok((name.clone(), flag.to_string())),
                other => Err(BadAlert::BadField(field, format!("{name}: {}", brief(other)), "values that are strings")),
            })
            .collect(),
        Some(other) => Err(BadAlert::BadField(field, brief(other), "an object of strings")),
    }
}

fn instant(value: Option<&Value>, field: &'static str) -> Result<Option<Timestamp>, BadAlert> {
    const WANTED: &str = "an RFC 3339 instant such as 2026-11-21T02:17:00Z";
    match value {
        None | Some(Value::Null) => Ok(None),
        // Go's zero time: "not ended".
        Some(Value::String(text)) if text.is_empty() || text.starts_with("0001-01-01") => Ok(None),
        Some(Value::String(text)) => Timestamp::parse(text)
            .map(Some)
            .map_err(|_| BadAlert::BadField(field, brief(&Value::from(text.as_str())), WANTED)),
        Some(Value::Number(number)) => number
            .as_f64()
            .filter(|secs| secs.is_finite() && *secs > 0.0)
            // Epoch seconds have 10 digits until 2286, epoch milliseconds 13.
            .map(|secs| Some(Timestamp::from_millis(if secs > 1e11 { secs as i64 } else { (secs * 1000.0) as i64 })))
            .ok_or_else(|| BadAlert::BadField(field, number.to_string(), WANTED)),
        Some(other) => Err(BadAlert::BadField(field, brief(other), WANTED)),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { format!("{}...", text.chars().take(60).collect::<String>()) } else { text }
}

/// Cuts at a character boundary at or below `max` bytes.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let cut = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAlert {
    #[error(
        "the payload is not a JSON object; send an Alertmanager webhook (v4) body, an array of alerts, or one alert"
    )]
    NotAnObject,
    #[error("looked for `alerts` (Alertmanager webhook v4) and `labels` (a single alert), found only: {0}")]
    UnknownShape(String),
    #[error("`{0}` is missing; give {1}")]
    Missing(StaticText, StaticText),
    #[error("`{0}` is {1}; give {2}")]
    BadField(StaticText, String, StaticText),
    #[error("label `{0}` has {1} bytes; the limit is {MAX_LABEL_VALUE}; move long text to an annotation")]
    LabelTooLong(String, usize),
    #[error("{0} labels; the limit is {MAX_LABELS}")]
    TooManyLabels(usize),
    /// One payload of a batch, with what its refusal said.
    #[error("{0}")]
    Unreadable(String),
    /// A mapping of the configuration, and what it did not find.
    #[error("mapping `{0}`: {1}")]
    Mapped(String, String),
}

type StaticText = &'static str;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(payload: Value, expected: &str) {
        let text = match read_payload(&payload) {
            Err(error) => error.to_string(),
            Ok(alerts) => alerts
                .iter()
                .map(|alert| match alert {
                    Ok(alert) => format!("{} {:?} {:?}", alert.name(), alert.subject(), alert.severity()),
                    Err(error) => error.to_string(),
                })
                .collect::<Vec<_>>()
                .join(" | "),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn one_bad_alert_does_not_hide_the_good_ones() {
        check(
            json!({"version": "4", "alerts": [
                {"labels": {"alertname": "A", "service": "pay", "severity": "page"}, "startsAt": "2026-11-21T02:17:00Z"},
                {"labels": {"service": "pay"}, "startsAt": "2026-11-21T02:17:00Z"},
                {"labels": {"alertname": "B"}, "startsAt": "yesterday"},
            ]}),
            "A Some(\"pay\") Critical | `labels.alertname` is missing; give the name of the alerting rule | \
             `startsAt` is \"yesterday\"; give an RFC 3339 instant such as 2026-11-21T02:17:00Z",
        );
    }

    #[test]
    fn the_subject_is_what_people_call_it_before_what_machines_do() {
        let subject = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Alert::firing(labels, Timestamp::from_secs(0)).subject().map(str::to_owned)
        };
        assert_eq!(subject(&[("instance", "10.0.0.1:80"), ("svc", "pay")]).as_deref(), Some("pay"));
        assert_eq!(subject(&[("dag_id", "orders_mart"), ("worker", "spark-02")]).as_deref(), Some("orders_mart"));
        assert_eq!(subject(&[("dataset", "orders"), ("host", "db-7")]).as_deref(), Some("orders"));
        assert_eq!(subject(&[("target", "pay"), ("vm", "vm-3")]).as_deref(), Some("vm-3"));
        assert_eq!(subject(&[("level", "error"), ("owner", "ann")]), None);
        // Where it ran and who measured it are not whom it is about.
        assert_eq!(subject(&[("job", "shop/pay"), ("node", "worker-3")]).as_deref(), Some("pay"));
        let exporter = ("service", "node-exporter");
        assert_eq!(subject(&[exporter, ("instance", "worker-3:9100")]).as_deref(), Some("worker-3"));
        let pod = ("pod", "node-exporter-x2x1q");
        let node = ("node", "worker-3");
        assert_eq!(subject(&[pod, ("container", "node-exporter"), node]).as_deref(), Some("worker-3"));
        assert_eq!(subject(&[("job", "kube-system/kubelet"), node]).as_deref(), Some("worker-3"));
        assert_eq!(subject(&[("job", "integrations/unix"), ("instance", "worker-3")]).as_deref(), Some("worker-3"));
        assert_eq!(subject(&[("daemonset", "node-exporter"), node]).as_deref(), Some("node-exporter"));
        assert_eq!(subject(&[("service", "invoice-exporter"), node]).as_deref(), Some("invoice-exporter"));
        assert_eq!(subject(&[("job", "synthetics"), ("journey", "pay-by-card")]).as_deref(), Some("pay-by-card"));
        assert_eq!(subject(&[("queue_name", "orders"), ("job", "cloudwatch-exporter")]).as_deref(), Some("orders"));
    }

    #[test]
    fn an_unknown_shape_says_what_was_looked_for() {
        check(
            json!({"event": "x", "payload": {}}),
            "looked for `alerts` (Alertmanager webhook v4) and `labels` (a single alert), found only: event, payload",
        );
    }

    #[test]
    fn order_of_labels_does_not_matter_but_their_values_do() {
        let one = Labels::from([("a".into(), "b".into()), ("c".into(), "d".into())]);
        let other = Labels::from([("c".into(), "d".into()), ("a".into(), "b".into())]);
        assert_eq!(Fingerprint::of(&one), Fingerprint::of(&other));
        let shifted = Labels::from([("ab".into(), "".into()), ("c".into(), "d".into())]);
        assert_ne!(Fingerprint::of(&one), Fingerprint::of(&shifted));
    }
}
