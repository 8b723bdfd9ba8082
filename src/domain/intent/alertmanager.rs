//! Reads what an existing `alertmanager.yml` says of intent: inhibition, times and routes.
//!
//! Invariants: what Alertmanager refuses in these sections is refused here; what it would do and
//! this program does not is listed, by key only, because values of such keys may be secrets.

use std::collections::HashSet;

use serde::Deserialize;
use serde_yaml_ng::Value;

use super::super::alert::Labels;
use super::inhibit::{BadRule, InhibitRule, Written};
use super::interval::NamedInterval;
pub use route::{Destination, GroupBy, Routed};
use route::{Route, WrittenRoute};

mod route;
#[cfg(test)]
mod tests;
mod unsupported;

/// Bytes of a file; Alertmanager files of large companies have some hundred kB.
pub const MAX_FILE: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone, Default)]
pub struct Alertmanager {
    pub inhibit_rules: Vec<InhibitRule>,
    pub time_intervals: Vec<NamedInterval>,
    /// Paths of keys that are present and not honoured, in the order of the file.
    pub unsupported: Vec<String>,
    root: Option<Route>,
}

impl Alertmanager {
    /// Sections may be missing: a file with nothing but `inhibit_rules` is welcome.
    pub fn read(text: &str) -> Result<Self, BadFile> {
        if text.len() > MAX_FILE {
            return Err(BadFile::TooLong(text.len()));
        }
        let tree: Value = serde_yaml_ng::from_str(text)?;
        if tree.is_null() {
            return Ok(Self::default());
        }
        let unsupported = unsupported::keys(&tree);
        let file = written(text, tree)?;
        let mut inhibit_rules = vec![];
        for (at, rule) in file.inhibit_rules.into_iter().flatten().enumerate() {
            let rule = InhibitRule::try_from(rule).map_err(|cause| BadFile::Rule(at, cause))?;
            inhibit_rules.push(rule.or_named(|| format!("inhibit_rules[{at}]")));
        }
        let mut time_intervals = vec![];
        let mut names = HashSet::new();
        for interval in file.mute_time_intervals.into_iter().chain(file.time_intervals).flatten() {
            if interval.name.is_empty() {
                return Err(BadFile::Nameless("time_intervals"));
            }
            if !names.insert(interval.name.clone()) {
                return Err(BadFile::Twice("time interval", interval.name));
            }
            time_intervals.push(interval);
        }
        let receivers = receivers(file.receivers)?;
        let root = file.route.map(|route| Route::root(route, receivers.as_ref(), &names)).transpose()?;
        Ok(Self { inhibit_rules, time_intervals, unsupported, root })
    }

    /// Where Alertmanager would send an alert with these labels; nowhere when the file has no route.
    pub fn route(&self, labels: &Labels) -> Routed<'_> {
        let mut destinations = vec![];
        if let Some(root) = &self.root {
            root.collect(labels, &mut destinations);
        }
        Routed { destinations }
    }

    /// What its routes say of grouping and repetition, which correlation does here.
    pub fn groups_and_waits(&self) -> Option<String> {
        let all = self.root.as_ref()?.all();
        let names = self.root.as_ref()?.receivers();
        Some(format!(
            "{all} routes to {} receivers ({}) say whose an alert is, and when it is muted; how they group, wait and \
             repeat is not used, since alerts are joined into incidents by their cause; where incidents are told is \
             said in [routing]",
            names.len(),
            names.into_iter().collect::<Vec<_>>().join(", "),
        ))
    }

    pub fn interval(&self, name: &str) -> Option<&NamedInterval> {
        self.time_intervals.iter().find(|interval| interval.name == name)
    }

    /// Whether any route is muted or active by time.
    pub fn routes_by_time(&self) -> bool {
        self.root.as_ref().is_some_and(Route::has_times)
    }
}

#[derive(Deserialize)]
struct File {
    route: Option<WrittenRoute>,
    /// As written: a fault inside is told with the rule's place, which serde would not know.
    inhibit_rules: Option<Vec<Written>>,
    /// `None` leaves receivers of routes unchecked: a partial file.
    receivers: Option<Vec<Receiver>>,
    time_intervals: Option<Vec<NamedInterval>>,
    /// The deprecated name of `time_intervals`.
    mute_time_intervals: Option<Vec<NamedInterval>>,
}

#[derive(Deserialize)]
struct Receiver {
    name: String,
}

/// From the text where that is possible, because only then errors know their line.
fn written(text: &str, mut tree: Value) -> Result<File, BadFile> {
    if !merges(&tree) {
        return Ok(serde_yaml_ng::from_str(text)?);
    }
    tree.apply_merge()?;
    // Through text once more: a number given for a label is its digits only when read from text.
    Ok(serde_yaml_ng::from_str(&serde_yaml_ng::to_string(&tree)?)?)
}

/// Whether YAML's `<<` merges one mapping into another.
fn merges(tree: &Value) -> bool {
    match tree {
        Value::Mapping(map) => map.iter().any(|(key, value)| key == "<<" || merges(value)),
        Value::Sequence(items) => items.iter().any(merges),
        Value::Tagged(tagged) => merges(&tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn receivers(written: Option<Vec<Receiver>>) -> Result<Option<HashSet<String>>, BadFile> {
    let Some(written) = written else { return Ok(None) };
    let mut names = HashSet::new();
    for receiver in written {
        if receiver.name.is_empty() {
            return Err(BadFile::Nameless("receivers"));
        }
        if !names.insert(receiver.name.clone()) {
            return Err(BadFile::Twice("receiver", receiver.name));
        }
    }
    Ok(Some(names))
}

/// Why a file is not an Alertmanager configuration; its author can mend it.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// Names the path and line where the reader stopped.
    #[error("{0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    #[error("the file has {0} bytes, the limit is {MAX_FILE}")]
    TooLong(usize),
    #[error("`{0}`: an entry has no name; give each a `name`")]
    Nameless(&'static str),
    #[error("`inhibit_rules[{0}]`: {1}")]
    Rule(usize, #[source] BadRule),
    #[error("two {0}s are called {1:?}; give each its own name")]
    Twice(&'static str, String),
    /// A path such as `route.routes[2]`, what is wrong, and what to do.
    #[error("`{path}`: {problem}; {remedy}")]
    Route { path: String, problem: String, remedy: &'static str },
}
