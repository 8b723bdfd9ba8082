//! An alert in the making: what all formats have in common is bounded and checked here, once.

use serde_json::Value;

use crate::domain::alert::{
    Alert, BadAlert, Fingerprint, Labels, MAX_ANNOTATION, MAX_LABEL_VALUE, MAX_LABELS, Severity, Status, truncate,
};
use crate::domain::time::Timestamp;

use super::times::plausible;
use super::{BadPayload, Door, Format};

/// Which format and envelopes an alert came in. An annotation: the same alert by two roads is one.
pub const NOTE_SOURCE: &str = "midwatch_source";
/// Says that `starts_at` or `ends_at` is not what was sent, and what was.
pub const NOTE_TIME: &str = "midwatch_time_note";

/// Says that the sender speaks again of what fires already, so that its instant is no start.
pub const NOTE_REPEAT: &str = "midwatch_repeat";

/// Says that the sender names no start: `starts_at` is when it was heard.
pub const NOTE_UNTIMED: &str = "midwatch_untimed";

/// More than these are dropped, from the end of the alphabet, the summary last.
const MAX_ANNOTATIONS: usize = 128;
const KEPT: [&str; 3] = ["summary", "message", "description"];

#[derive(Debug)]
pub struct Draft {
    pub labels: Labels,
    pub annotations: Labels,
    pub identity: Identity,
    pub status: Status,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    /// Of a firing whose sender repeats it until it is over.
    pub stands_until: Option<Timestamp>,
    pub value: Option<f64>,
}

/// What makes two messages speak of the same alert.
#[derive(Debug)]
pub enum Identity {
    /// All labels, as in Prometheus.
    Labels,
    /// The vendor's own key: its end may be sent with fewer labels than its beginning.
    Key(Labels),
}

impl Draft {
    pub fn keyed(status: Status, key: Labels) -> Self {
        let identity = Identity::Key(key);
        let (labels, annotations) = (Labels::new(), Labels::new());
        Self { labels, annotations, identity, status, starts_at: None, ends_at: None, stands_until: None, value: None }
    }

    /// Sets a label; nothing for an absent or empty value.
    pub fn label(&mut self, name: &str, value: Option<impl Into<String>>) {
        put(&mut self.labels, name, value);
    }

    /// Sets a label unless a better source has set it before.
    pub fn label_if_absent(&mut self, name: &str, value: Option<impl Into<String>>) {
        if !self.labels.contains_key(name) {
            put(&mut self.labels, name, value);
        }
    }

    pub fn annotation(&mut self, name: &str, value: Option<impl Into<String>>) {
        put(&mut self.annotations, name, value);
    }

    /// The vendor's word for weight as the label that [`Alert::severity`] reads. Only for keyed drafts:
    /// the word changes when a warning becomes critical, and the alert stays the same.
    pub fn severity(&mut self, severity: Option<Severity>) {
        self.label_if_absent("severity", severity.map(Severity::as_str));
    }

    pub fn finish(mut self, format: Format, door: &Door<'_>) -> Result<Alert, BadAlert> {
        if !door.road.is_empty() {
            let road: Vec<&str> = door.road.iter().map(|format| format.name()).chain([format.name()]).collect();
            self.annotations.insert(NOTE_SOURCE.to_owned(), road.join("+"));
            return self.finish_marked(door.received_at);
        }
        self.annotations.insert(NOTE_SOURCE.to_owned(), format.name().to_owned());
        self.finish_marked(door.received_at)
    }

    /// For those who have said the source themselves.
    pub fn finish_marked(mut self, received_at: Timestamp) -> Result<Alert, BadAlert> {
        replace_nul(&mut self.labels);
        replace_nul(&mut self.annotations);
        self.labels.retain(|_, text| !text.is_empty());
        if matches!(self.identity, Identity::Key(_)) {
            self.cut_labels();
        }
        check_labels(&self.labels)?;
        self.bound_annotations();
        let fingerprint = match &self.identity {
            Identity::Labels => Fingerprint::of(&self.labels),
            Identity::Key(key) => Fingerprint::of(key),
        };
        let ends_at = match self.status {
            Status::Resolved => Some(self.order(self.ends_at.unwrap_or(received_at), received_at, "endsAt")),
            // An end to come is the sender's guess, or until when it stands for it.
            Status::Firing => None,
        };
        let stands_until = self.stands_until.filter(|until| self.status == Status::Firing && *until > received_at);
        let starts_at = match self.starts_at {
            Some(at) => self.order(at, received_at, "startsAt"),
            None => ends_at.unwrap_or_else(|| {
                self.annotations.insert(NOTE_UNTIMED.to_owned(), "its sender names no start".to_owned());
                received_at
            }),
        };
        let Self { labels, annotations, status, value, .. } = self;
        let value = value.filter(|value| value.is_finite());
        Ok(Alert { fingerprint, status, labels, annotations, starts_at, ends_at, stands_until, value })
    }

    fn order(&mut self, at: Timestamp, received_at: Timestamp, field: &'static str) -> Timestamp {
        let (at, note) = plausible(at, received_at, field);
        if let Some(note) = note {
            let notes = self.annotations.entry(NOTE_TIME.to_owned()).or_default();
            if !notes.is_empty() {
                notes.push_str("; ");
            }
            notes.push_str(&note);
        }
        at
    }

    /// Of a keyed draft, whose labels we make of what was sent: its identity does not hang on them, and a
    /// sender can do nothing about their length.
    fn cut_labels(&mut self) {
        if self.labels.keys().any(|name| name.len() > MAX_LABEL_VALUE) {
            self.labels.retain(|name, _| name.len() <= MAX_LABEL_VALUE);
        }
        for text in self.labels.values_mut().filter(|text| text.len() > MAX_LABEL_VALUE) {
            truncate(text, MAX_LABEL_VALUE - '…'.len_utf8());
        }
    }

    fn bound_annotations(&mut self) {
        while self.annotations.len() > MAX_ANNOTATIONS {
            let last = self.annotations.keys().rev().find(|name| !is_kept(name)).cloned();
            match last {
                Some(name) => self.annotations.remove(&name),
                None => break,
            };
        }
        if self.annotations.keys().any(|name| name.len() > MAX_LABEL_VALUE) {
            self.annotations.retain(|name, _| name.len() <= MAX_LABEL_VALUE);
        }
        self.annotations.values_mut().for_each(|text| truncate(text, MAX_ANNOTATION));
    }
}

fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || name == NOTE_SOURCE
}

fn put(map: &mut Labels, name: &str, value: Option<impl Into<String>>) {
    if let Some(text) = value.map(Into::into).filter(|text: &String| !text.trim().is_empty()) {
        map.insert(name.to_owned(), text);
    }
}

/// PostgreSQL's text cannot hold U+0000: one of them would stop what is stored together with it.
pub fn replace_nul(map: &mut Labels) {
    if map.iter().any(|(name, text)| name.contains('\0') || text.contains('\0')) {
        *map = std::mem::take(map).into_iter().map(|(name, text)| (storable(&name), storable(&text))).collect();
    }
}

pub fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn check_labels(labels: &Labels) -> Result<(), BadAlert> {
    if labels.is_empty() {
        return Err(BadAlert::Missing("labels", "an object of strings with at least `alertname`"));
    }
    if !labels.contains_key("alertname") {
        return Err(BadAlert::Missing("labels.alertname", "the name of the alerting rule"));
    }
    if labels.len() > MAX_LABELS {
        return Err(BadAlert::TooManyLabels(labels.len()));
    }
    // A name can be as long as a value, and is stored as often.
    match labels.iter().find(|(name, text)| name.len().max(text.len()) > MAX_LABEL_VALUE) {
        Some((name, text)) => Err(BadAlert::LabelTooLong(name.chars().take(80).collect(), name.len().max(text.len()))),
        None => Ok(()),
    }
}

/// Severity words that vendors add to those of [`Severity::parse`]. In a label of the author's they would
/// say as little as none, and hide the next label that says it.
pub fn severity_of(word: &str) -> Option<Severity> {
    let word = word.trim().to_ascii_lowercase();
    // Of the vendors that have it, it is what people are called for.
    if word == "major" {
        return Some(Severity::Critical);
    }
    let warns = ["moderate", "average", "no data", "no_data", "normal"].contains(&word.as_str());
    Severity::parse(&word).or(warns.then_some(Severity::Warning))
}

/// The failure of one item of a batch, beside the good ones.
pub fn as_alert(failure: &BadPayload) -> BadAlert {
    match failure {
        BadPayload::Bad(bad) => bad.clone(),
        other => BadAlert::Unreadable(other.to_string()),
    }
}

/// The text of a JSON value for an annotation: as it is when it is text.
pub fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
