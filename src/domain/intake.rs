//! Normalisation at the door: what people run sends in its own shape becomes [`Alert`]s.
//!
//! Invariants:
//! - Nothing panics on any JSON, and one bad alert in a group does not lose the others.
//! - A firing and its end have the same fingerprint: what changes between them is never part of the
//!   identity, and neither is the road (webhook, SNS, CloudEvents) by which it came.
//! - No secret (a routing key, a subscription token) becomes a label or an annotation.
//! - Nothing is fetched: what a sender asks for (an SNS confirmation) is told to a person.

mod alertmanager;
mod aws;
mod cloudevents;
mod datadog;
mod draft;
mod events;
mod format;
mod grafana;
mod mapping;
mod pagerduty;
mod read;
mod times;
mod typed;

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mapping_tests;
#[cfg(test)]
mod sender_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::alert::{Alert, BadAlert, Fingerprint};
use super::time::Timestamp;

pub use draft::{NOTE_REPEAT, NOTE_SOURCE, NOTE_TIME, NOTE_UNTIMED};
pub use events::alertmanager_fingerprint;
pub use format::{Format, Tried, detect};
pub use mapping::{BadMapping, Condition, Mapping, Mappings};
pub use times::{MAX_AGE, MAX_AHEAD};

/// Refusals of one payload that are told: each is logged and audited, and two bytes are enough for one.
pub const MAX_REFUSED: usize = 100;

/// How deep envelopes may lie in one another (a CloudEvent in an SNS message in a batch ...).
const MAX_DEPTH: usize = 6;

/// What a payload held.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taken {
    pub alerts: Vec<Alert>,
    /// What others already decided about alerts (silences, inhibitions, acknowledgements).
    pub knowledge: Vec<Knowledge>,
    pub refused: Vec<BadAlert>,
    /// Beyond [`MAX_REFUSED`]; the last of `refused` says how many.
    pub refused_beyond: usize,
    /// What was understood and is neither an alert nor a fact about one.
    pub remarks: Vec<Remark>,
}

impl Taken {
    fn refuse(&mut self, bad: impl FnOnce() -> BadAlert) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.push(bad());
        } else {
            self.refused_beyond += 1;
        }
    }

    /// When all is read.
    fn finished(mut self) -> Self {
        if self.refused_beyond > 0 {
            let more = self.refused_beyond;
            let told = format!("{more} more alerts of this payload are refused; see the {MAX_REFUSED} before for why");
            self.refused.push(BadAlert::Unreadable(told));
        }
        self.knowledge.iter_mut().for_each(Knowledge::make_storable);
        self
    }

    /// By which the sender of a PagerDuty event, the only alert here, can end it; its answer has to say so.
    pub fn dedup_key(&self) -> Option<&str> {
        let [Alert { annotations, .. }] = &self.alerts[..] else { return None };
        let source = annotations.get(NOTE_SOURCE)?;
        annotations.get("dedup_key").map(String::as_str).filter(|_| source == Format::PagerDuty.name())
    }
}

/// A fact about the alert with this fingerprint, as its source stated it.
#[derive(Debug, Clone, PartialEq)]
pub struct Knowledge {
    pub about: Fingerprint,
    /// The alert's name, for lines that people read.
    pub name: String,
    pub known: Known,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// `by` holds ids of silences; `until` is their end when it was sent.
    Silenced { by: Vec<String>, until: Option<Timestamp>, comment: String },
    /// `by` holds Alertmanager's fingerprints (16 hex digits, see [`alertmanager_fingerprint`]), which
    /// are not ours; `rules` the names of the inhibition rules, when they have any.
    Inhibited { by: Vec<String>, rules: Vec<String> },
    /// A person has taken it.
    Acknowledged,
    /// Alertmanager put it into a group for this receiver, told the receiver, or lists it as active: whatever
    /// muted it there has ended. The key of the group is empty when it was not sent.
    Grouped { receiver: String, group_key: String },
}

impl Knowledge {
    /// Its words are stored with the verdict about the alert.
    fn make_storable(&mut self) {
        let said: Vec<&mut String> = match &mut self.known {
            Known::Silenced { by, comment, until: _ } => by.iter_mut().chain([comment]).collect(),
            Known::Inhibited { by, rules } => by.iter_mut().chain(rules).collect(),
            Known::Acknowledged => vec![],
            Known::Grouped { receiver, group_key } => vec![receiver, group_key],
        };
        for text in said.into_iter().chain([&mut self.name]).filter(|text| text.contains('\0')) {
            *text = draft::storable(text);
        }
    }
}

/// What the sender wants or said beside alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Amazon SNS asks to confirm a subscription. Whoever can send to the door can write this URL, so
    /// it is shown to a person and never followed by itself. It holds a token: the audit and its readers
    /// get it ([`Display`](fmt::Display)), logs do not ([`Remark::for_the_log`]).
    ConfirmSubscription { topic: String, subscribe_url: String, host: SnsHost },
    /// Understood, and nothing to do.
    PassedOver(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnsHost {
    /// `https://sns.<region>.amazonaws.com`, or `.com.cn` in China.
    Amazon,
    /// Another host; an attempt to make somebody open a link, until the opposite is shown.
    Foreign,
}

impl Remark {
    /// What a person has to do something about, without the token; `None`: nothing.
    pub fn for_the_log(&self) -> Option<String> {
        match self {
            Self::ConfirmSubscription { topic, subscribe_url, host: SnsHost::Amazon } => {
                let place = subscribe_url.split(['?', '#']).next().unwrap_or_default();
                Some(format!(
                    "SNS topic {topic} asks for confirmation at {place}; the whole URL is in the audit (intake.remark)"
                ))
            }
            Self::ConfirmSubscription { host: SnsHost::Foreign, .. } => Some(self.to_string()),
            Self::PassedOver(_) => None,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfirmSubscription { topic, subscribe_url, host: SnsHost::Amazon } => write!(
                f,
                "SNS topic {topic} asks for confirmation: open {subscribe_url} (it is not followed automatically)"
            ),
            // Without the link, so that nobody opens it.
            Self::ConfirmSubscription { topic, host: SnsHost::Foreign, .. } => write!(
                f,
                "a subscription to {topic} asks for confirmation at a URL that is not Amazon's; it is not shown"
            ),
            Self::PassedOver(what) => f.write_str(what),
        }
    }
}

/// Why a whole payload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    #[error("the payload is {0}; send a JSON object, or an array of objects")]
    NotAnObject(&'static str),
    /// `tried` has the format with the fewest missing fields first.
    #[error("no known format: found {found}; {}", format::tell(tried))]
    Unknown { found: String, tried: Vec<Tried> },
    #[error("envelopes lie deeper than {MAX_DEPTH} in one another")]
    TooDeep,
    #[error(transparent)]
    Bad(#[from] BadAlert),
}

/// Reads a payload: the first mapping whose `when` matches, else the format that is detected.
///
/// An array is a batch of payloads; each is read by itself.
pub fn take(payload: &Value, mappings: &Mappings, received_at: Timestamp) -> Result<Taken, BadPayload> {
    let mut taken = Taken::default();
    Door { mappings, received_at, depth: 0, road: Vec::new() }.open(payload, &mut taken)?;
    Ok(taken.finished())
}

/// As [`take`], for bytes: Alertmanager's shapes are read without a tree between. The result is the
/// same; with mappings the tree is needed, as they may match any payload.
pub fn take_bytes(payload: &[u8], mappings: &Mappings, received_at: Timestamp) -> Result<Taken, BadPayload> {
    if mappings.is_empty()
        && let Some(taken) = typed::take(payload, received_at)
    {
        return Ok(taken.finished());
    }
    let value = serde_json::from_slice(payload).map_err(|error| BadPayload::NotJson(error.to_string()))?;
    take(&value, mappings, received_at)
}

/// A CloudEvent in binary mode: its attributes are in `headers` (`ce-type`, `ce-source` ...; any case),
/// its data is the body. <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>
pub fn take_event(
    headers: &BTreeMap<String, String>,
    body: &Value,
    mappings: &Mappings,
    received_at: Timestamp,
) -> Result<Taken, BadPayload> {
    take(&cloudevents::structured(headers, body), mappings, received_at)
}

/// A CloudEvent in binary mode as one in structured mode, so that whoever keeps the bytes keeps all of it.
/// Header names begin with `ce-` (HTTP) or `ce_` (Kafka). `None`: it is no such event, or its data is JSON
/// that is broken; the body is all there is.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>
pub fn structured_event(headers: &BTreeMap<String, String>, body: &[u8]) -> Option<Vec<u8>> {
    cloudevents::structured_bytes(headers, body)
}

/// The way into one payload: what is the same for all that lies in it.
struct Door<'a> {
    mappings: &'a Mappings,
    received_at: Timestamp,
    /// Arrays and envelopes around what is read now.
    depth: usize,
    /// The envelopes alone, outermost first.
    road: Vec<Format>,
}

impl Door<'_> {
    fn open(&self, payload: &Value, taken: &mut Taken) -> Result<(), BadPayload> {
        if let Some(mapping) = self.mappings.find(payload) {
            mapping.take(payload, self, taken);
            return Ok(());
        }
        if let Value::Array(items) = payload {
            return self.open_batch(items, taken);
        }
        let format = format::recognise(payload)?;
        match format {
            Format::AlertmanagerGroup | Format::AlertmanagerApi | Format::AlertmanagerAlert => {
                alertmanager::take(format, payload, self, taken)
            }
            Format::AlertmanagerEvent => events::take(payload, self, taken),
            Format::Grafana | Format::GrafanaLegacy => grafana::take(format, payload, self, taken),
            Format::PagerDuty => pagerduty::take(payload, self, taken),
            Format::Datadog => datadog::take(payload, self, taken),
            Format::Sns => aws::open_sns(payload, self, taken),
            Format::CloudWatch | Format::EventBridge => aws::take(format, payload, self, taken),
            Format::CloudEvents => cloudevents::open(payload, self, taken),
        }
    }

    /// Each item by itself; the batch is refused only when not one item has a known format.
    fn open_batch(&self, items: &[Value], taken: &mut Taken) -> Result<(), BadPayload> {
        let inner = self.deeper(None)?;
        let mut first_failure = None;
        let mut understood = items.is_empty();
        for item in items {
            match inner.open(item, taken) {
                Ok(()) => understood = true,
                Err(failure) => {
                    taken.refuse(|| draft::as_alert(&failure));
                    first_failure.get_or_insert(failure);
                }
            }
        }
        match first_failure {
            Some(failure) if !understood => Err(failure),
            _ => Ok(()),
        }
    }

    /// The door to what lies in an envelope; without a format the envelope is a plain array.
    fn deeper(&self, envelope: Option<Format>) -> Result<Self, BadPayload> {
        if self.depth >= MAX_DEPTH {
            return Err(BadPayload::TooDeep);
        }
        let road = self.road.iter().copied().chain(envelope).collect();
        Ok(Self { mappings: self.mappings, received_at: self.received_at, depth: self.depth + 1, road })
    }
}
