//! The alerts of an incident, by name and subject.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::domain::alert::Severity;
use crate::domain::prefilter::Scored;
use crate::domain::severity::Said;
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertGroup {
    pub name: String,
    pub subject: String,
    pub severity: Severity,
    pub count: usize,
    pub resolved: usize,
    /// The gravest that the labels of its alerts said.
    #[serde(default)]
    pub said: Said,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// The lowest, most unusual, of its alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Scored>,
    /// Clusters other than the incident's that its alerts came from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub elsewhere: BTreeSet<String>,
    /// That the labels of its alerts name; empty also in what was stored before they were kept.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub namespaces: BTreeSet<String>,
}

impl AlertGroup {
    /// Of that name and subject, before its first alert is counted.
    pub fn new(name: &str, subject: &str, severity: Severity, at: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            subject: subject.to_owned(),
            severity,
            count: 0,
            resolved: 0,
            said: Said::default(),
            first_at: at,
            last_at: at,
            score: None,
            elsewhere: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        }
    }
}

pub(super) fn group_key(name: &str, subject: &str) -> String {
    format!("{name} {subject}")
}

fn namespaces<'a>(groups: impl Iterator<Item = &'a AlertGroup>) -> BTreeSet<&'a str> {
    groups.flat_map(|group| &group.namespaces).map(String::as_str).collect()
}

impl Incident {
    /// Services and hosts that have an alert in this incident.
    pub fn subjects(&self) -> BTreeSet<&str> {
        self.alerts.values().map(|group| group.subject.as_str()).collect()
    }

    /// The clusters that its alerts came from, its own first.
    pub fn clusters(&self) -> Vec<&str> {
        let elsewhere: BTreeSet<&str> =
            self.alerts.values().flat_map(|group| &group.elsewhere).map(String::as_str).collect();
        std::iter::once(self.cluster.as_str()).chain(elsewhere).collect()
    }

    /// Where the service is, as its own alerts say, else as all of them say. Empty: they do not.
    pub fn namespaces_of(&self, service: &str) -> BTreeSet<&str> {
        let own = namespaces(self.alerts.values().filter(|group| group.subject == service));
        if own.is_empty() { namespaces(self.alerts.values()) } else { own }
    }

    /// Its alerts, for another incident to take in.
    pub fn carried(&self) -> Vec<AlertGroup> {
        let carried = |group: &AlertGroup| {
            let mut group = group.clone();
            group.elsewhere.insert(self.cluster.clone());
            group
        };
        self.alerts.values().map(carried).collect()
    }

    pub fn alert_count(&self) -> usize {
        self.alerts.values().map(|group| group.count).sum()
    }

    pub fn firing(&self) -> usize {
        self.alerts.values().map(|group| group.count - group.resolved).sum()
    }

    /// How unusual its most unusual alert was.
    pub fn score(&self) -> Option<Scored> {
        self.alerts.values().fold(None, |lowest, group| Scored::lower(lowest, group.score))
    }
}
