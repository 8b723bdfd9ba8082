//! A format that its user describes in the configuration.
//!
//! ```yaml
//! - name: zabbix
//!   when: { /source: { equals: zabbix }, /event: { exists: true } }
//!   items: /events            # absent: the payload is one alert
//!   status: /state
//!   firing_values: [PROBLEM]
//!   resolved_values: [OK]
//!   starts_at: /at
//!   labels: { alertname: /trigger, service: "{/host/group}-{/host/name}", severity: /severity }
//!   annotations: { summary: /text }
//! ```
//!
//! Pointers are JSON pointers (<https://www.rfc-editor.org/rfc/rfc6901>). They are looked up in the item,
//! then in the whole payload. A text with `{/pointer}` is a template (`{{` is a brace), any other text
//! that does not begin with `/` stands for itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::domain::alert::{BadAlert, Labels, Severity, Status};

use super::draft::{Draft, Identity, NOTE_SOURCE, severity_of};
use super::read::{brief, number, scalar};
use super::times::instant;
use super::{Door, Taken};

/// As it is written; [`Mappings::compile`] makes it usable.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub name: String,
    /// All must hold.
    pub when: BTreeMap<String, Condition>,
    /// Where the array of alerts is; absent when the payload is one alert.
    #[serde(default)]
    pub items: Option<String>,
    /// Absent: everything fires.
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub firing_values: Vec<Value>,
    #[serde(default)]
    pub resolved_values: Vec<Value>,
    #[serde(default)]
    pub starts_at: Option<String>,
    #[serde(default)]
    pub ends_at: Option<String>,
    #[serde(default)]
    pub value: Option<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The labels that make two messages one alert; all but `severity` when empty.
    #[serde(default)]
    pub identity: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Equals(Value),
    Exists(bool),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mapping `{mapping}`, `{field}`: {problem}")]
pub struct BadMapping {
    pub mapping: String,
    pub field: String,
    pub problem: String,
}

/// Mappings that were checked, in the order of asking.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mappings(Vec<Compiled>);

#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    mapping: Mapping,
    firing: BTreeSet<String>,
    resolved: BTreeSet<String>,
    labels: Vec<(String, Template)>,
    annotations: Vec<(String, Template)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Pointer(String),
}

impl Mappings {
    /// All faults of all mappings, so that they are mended at once.
    pub fn compile(mappings: Vec<Mapping>) -> Result<Self, Vec<BadMapping>> {
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        let mut compiled = Vec::new();
        for mapping in mappings {
            if !names.insert(mapping.name.clone()) {
                faults.push(fault(&mapping, "name", "another mapping has this name"));
            }
            compiled.push(Compiled::of(mapping, &mut faults));
        }
        if faults.is_empty() { Ok(Self(compiled)) } else { Err(faults) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, payload: &Value) -> Option<&Compiled> {
        self.0.iter().find(|compiled| {
            compiled.mapping.when.iter().all(|(pointer, condition)| match (payload.pointer(pointer), condition) {
                (found, Condition::Exists(wanted)) => found.is_some_and(|value| !value.is_null()) == *wanted,
                (Some(found), Condition::Equals(wanted)) => found == wanted,
                (None, Condition::Equals(_)) => false,
            })
        })
    }
}

impl Compiled {
    fn of(mapping: Mapping, faults: &mut Vec<BadMapping>) -> Self {
        let mut say = |field: &str, problem: &str| faults.push(fault(&mapping, field, problem));
        if mapping.name.trim().is_empty() {
            say("name", "give it a name; alerts are marked with it");
        }
        if mapping.when.is_empty() {
            say("when", "give at least one condition, or it would take every payload");
        }
        let named = [("items", &mapping.items), ("status", &mapping.status), ("starts_at", &mapping.starts_at)];
        let more = [("ends_at", &mapping.ends_at), ("value", &mapping.value)];
        let pointers = named.into_iter().chain(more).filter_map(|(field, pointer)| Some((field, pointer.as_ref()?)));
        for (field, pointer) in pointers.chain(mapping.when.keys().map(|pointer| ("when", pointer))) {
            if let Err(problem) = check_pointer(pointer) {
                say(field, &problem);
            }
        }
        let firing = words(&mapping.firing_values, "firing_values", &mut say);
        let resolved = words(&mapping.resolved_values, "resolved_values", &mut say);
        if let Some(both) = firing.intersection(&resolved).next() {
            say("resolved_values", &format!("{both:?} is also in firing_values"));
        }
        match &mapping.status {
            Some(_) if firing.is_empty() && resolved.is_empty() => {
                say("status", "say what its values mean with firing_values and resolved_values");
            }
            None if !firing.is_empty() || !resolved.is_empty() => say("status", "say where the status is"),
            _ => {}
        }
        if !mapping.labels.contains_key("alertname") {
            say("labels", "`alertname` is missing; without it nobody can name the alert");
        }
        for name in mapping.identity.iter().filter(|name| !mapping.labels.contains_key(*name)) {
            say("identity", &format!("`{name}` is no label of this mapping"));
        }
        let labels = templates(&mapping.labels, "labels", &mut say);
        let annotations = templates(&mapping.annotations, "annotations", &mut say);
        Self { mapping, firing, resolved, labels, annotations }
    }

    pub(super) fn take(&self, payload: &Value, door: &Door<'_>, taken: &mut Taken) {
        let Some(items) = &self.mapping.items else {
            self.take_one(payload, payload, door, taken);
            return;
        };
        match payload.pointer(items) {
            Some(Value::Array(items)) => items.iter().for_each(|item| self.take_one(item, payload, door, taken)),
            found => taken.refuse(|| self.bad(items, found, "an array of alerts")),
        }
    }

    fn take_one(&self, item: &Value, payload: &Value, door: &Door<'_>, taken: &mut Taken) {
        match self.draft(item, payload).and_then(|draft| draft.finish_marked(door.received_at)) {
            Ok(alert) => taken.alerts.push(alert),
            Err(bad) => taken.refuse(|| bad),
        }
    }

    fn draft(&self, item: &Value, payload: &Value) -> Result<Draft, BadAlert> {
        let find = |pointer: &str| item.pointer(pointer).or_else(|| payload.pointer(pointer));
        let at = |pointer: &Option<String>| pointer.as_deref().and_then(find);
        let mut draft = Draft::keyed(self.status(at(&self.mapping.status))?, Labels::new());
        for (name, template) in &self.labels {
            draft.label(name, template.fill(&find));
        }
        for (name, template) in &self.annotations {
            draft.annotation(name, template.fill(&find));
        }
        if let Some(word) = draft.labels.get("severity").filter(|word| Severity::parse(word).is_none()) {
            let known = severity_of(word).map(Severity::as_str);
            draft.label("severity", known);
        }
        draft.annotation(NOTE_SOURCE, Some(format!("mapping:{}", self.mapping.name)));
        let mut key = draft.labels.clone();
        if self.mapping.identity.is_empty() {
            key.remove("severity");
        } else {
            key.retain(|name, _| self.mapping.identity.contains(name));
        }
        draft.identity = Identity::Key(key);
        draft.starts_at = instant(at(&self.mapping.starts_at), "starts_at")?;
        draft.ends_at = instant(at(&self.mapping.ends_at), "ends_at")?;
        draft.value = at(&self.mapping.value).and_then(number);
        Ok(draft)
    }

    fn status(&self, found: Option<&Value>) -> Result<Status, BadAlert> {
        let Some(pointer) = &self.mapping.status else { return Ok(Status::Firing) };
        let word = found.and_then(scalar).map(|word| word.to_lowercase());
        match word {
            Some(word) if self.resolved.contains(&word) => Ok(Status::Resolved),
            Some(word) if self.firing.contains(&word) => Ok(Status::Firing),
            // One list alone says the rest: what is not the end is a firing, and the reverse.
            Some(_) if self.firing.is_empty() => Ok(Status::Firing),
            Some(_) if self.resolved.is_empty() => Ok(Status::Resolved),
            _ => Err(self.bad(pointer, found, "one of firing_values or resolved_values")),
        }
    }

    fn bad(&self, pointer: &str, found: Option<&Value>, wanted: &str) -> BadAlert {
        let found = found.map_or_else(|| "missing".to_owned(), brief);
        BadAlert::Mapped(self.mapping.name.clone(), format!("`{pointer}` is {found}; give {wanted}"))
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return check_pointer(text).map(|()| Self(vec![Part::Pointer(text.to_owned())]));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let tail = &rest[at..];
            if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
                plain.push_str(&tail[..1]);
                rest = after;
                continue;
            }
            let inner = tail.strip_prefix('{').ok_or_else(|| format!("{text:?} has a `}}` without `{{`"))?;
            let (pointer, after) = inner.split_once('}').ok_or_else(|| format!("{text:?} has an open `{{`"))?;
            check_pointer(pointer)?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Pointer(pointer.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// `None` when something that it names is not there: half a name would be another alert's.
    fn fill<'v>(&self, find: &impl Fn(&str) -> Option<&'v Value>) -> Option<String> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Pointer(pointer) => find(pointer).and_then(scalar),
            })
            .collect()
    }
}

fn templates(
    from: &BTreeMap<String, String>,
    field: &str,
    say: &mut impl FnMut(&str, &str),
) -> Vec<(String, Template)> {
    let mut parsed = Vec::new();
    for (name, text) in from {
        if name.trim().is_empty() {
            say(field, "a name is empty");
        }
        match Template::parse(text) {
            Ok(template) => parsed.push((name.clone(), template)),
            Err(problem) => say(&format!("{field}.{name}"), &problem),
        }
    }
    parsed
}

fn words(values: &[Value], field: &str, say: &mut impl FnMut(&str, &str)) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for value in values {
        match scalar(value) {
            Some(word) => drop(words.insert(word.to_lowercase())),
            None => say(field, &format!("{} is no text, number or boolean", brief(value))),
        }
    }
    words
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("{pointer:?} is no JSON pointer; begin it with `/`"));
    }
    let wrong = pointer.split('~').skip(1).any(|after| !after.starts_with(['0', '1']));
    if wrong { Err(format!("{pointer:?} has a lone `~`; write `~0` for it and `~1` for `/`")) } else { Ok(()) }
}

fn fault(mapping: &Mapping, field: &str, problem: &str) -> BadMapping {
    BadMapping { mapping: mapping.name.clone(), field: field.to_owned(), problem: problem.to_owned() }
}
