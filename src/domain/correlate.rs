//! Admitted alert + open incidents + topology -> join, open or wait, with the reason.
//!
//! Invariant (P2): a fingerprint is in at most one open incident.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Fingerprint, Severity};
use super::id::IncidentId;
use super::time::{Timestamp, spoken};
use super::topology::Topology;

#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Alerts further apart in event time than this are not the same story.
    pub window: Duration,
    /// Steps in the dependency graph that still count as near.
    pub reach: usize,
    /// Warnings about this many subjects within the window open an incident without a critical one.
    pub warnings_open: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { window: Duration::from_secs(15 * 60), reach: 2, warnings_open: 4 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "placement", rename_all = "snake_case")]
pub enum Placement {
    Join {
        incident: IncidentId,
        because: String,
    },
    /// A new incident; `gathers` are waiting alerts that belong to it.
    Open {
        because: String,
        gathers: Vec<Fingerprint>,
    },
    /// Kept for the case that an incident opens near it.
    Wait {
        because: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub from: IncidentId,
    pub into: IncidentId,
    pub because: String,
}

/// What correlation needs to know of an open incident.
#[derive(Debug, Clone)]
struct Open {
    opened_at: Timestamp,
    cluster: String,
    /// subject -> newest alert about it
    subjects: BTreeMap<String, Timestamp>,
    last_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Waiting {
    fingerprint: Fingerprint,
    cluster: String,
    subject: String,
    at: Timestamp,
}

#[derive(Default)]
pub struct Correlator {
    rules: Rules,
    open: BTreeMap<IncidentId, Open>,
    member: HashMap<Fingerprint, IncidentId>,
    waiting: VecDeque<Waiting>,
}

const MAX_WAITING: usize = 10_000;

impl Correlator {
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Where the alert belongs. The caller names a new incident with `opened`.
    pub fn place(&mut self, alert: &Alert, topology: &Topology) -> Placement {
        if let Some(incident) = self.member.get(&alert.fingerprint) {
            return Placement::Join {
                incident: incident.clone(),
                because: "the same alert is already part of this incident".into(),
            };
        }
        let subject = alert.subject().unwrap_or("unknown").to_owned();
        let near = self.nearest(alert, &subject, topology);
        if let Some((incident, because)) = near {
            self.joined(&incident, alert.fingerprint, &subject, alert.starts_at);
            return Placement::Join { incident, because };
        }
        let gathers = self.waiting_near(alert, &subject, topology);
        if alert.severity() == Severity::Critical {
            let because = format!("a critical alert about {subject}, with no open incident near it");
            return Placement::Open { because, gathers };
        }
        let mut subjects: Vec<&str> = self
            .waiting
            .iter()
            .filter(|waiting| gathers.contains(&waiting.fingerprint))
            .map(|waiting| waiting.subject.as_str())
            .collect();
        subjects.push(&subject);
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.len() >= self.rules.warnings_open {
            let because = format!("warnings about {} neighbours within {}", subjects.len(), spoken(self.rules.window));
            return Placement::Open { because, gathers };
        }
        self.waiting.push_back(Waiting {
            fingerprint: alert.fingerprint,
            cluster: alert.cluster().to_owned(),
            subject: subject.clone(),
            at: alert.starts_at,
        });
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
        }
        Placement::Wait { because: format!("a single warning about {subject}: waits for company") }
    }

    pub fn opened(&mut self, incident: &IncidentId, cluster: &str, at: Timestamp) {
        self.open.entry(incident.clone()).or_insert_with(|| Open {
            opened_at: at,
            cluster: cluster.to_owned(),
            subjects: BTreeMap::new(),
            last_at: at,
        });
    }

    pub fn joined(&mut self, incident: &IncidentId, fingerprint: Fingerprint, subject: &str, at: Timestamp) {
        self.waiting.retain(|waiting| waiting.fingerprint != fingerprint);
        self.member.insert(fingerprint, incident.clone());
        if let Some(open) = self.open.get_mut(incident) {
            let newest = open.subjects.entry(subject.to_owned()).or_insert(at);
            *newest = (*newest).max(at);
            open.last_at = open.last_at.max(at);
        }
    }

    /// The subject of a waiting alert, which the caller needs when it gathers it.
    pub fn waiting_subject(&self, fingerprint: Fingerprint) -> Option<(String, Timestamp)> {
        self.waiting
            .iter()
            .find(|waiting| waiting.fingerprint == fingerprint)
            .map(|waiting| (waiting.subject.clone(), waiting.at))
    }

    pub fn incident_of(&self, fingerprint: Fingerprint) -> Option<&IncidentId> {
        self.member.get(&fingerprint)
    }

    /// The alert has ended: its next firing is judged anew once the incident is closed.
    pub fn closed(&mut self, incident: &IncidentId) {
        self.open.remove(incident);
        self.member.retain(|_, member| member != incident);
    }

    /// Pairs of open incidents that have grown together: a subject of one is a subject or a direct
    /// neighbour of the other, within the window. The younger goes into the older.
    pub fn merges(&mut self, topology: &Topology) -> Vec<Merge> {
        let ids: Vec<IncidentId> = self.open.keys().cloned().collect();
        let mut merges: Vec<Merge> = vec![];
        for (at, one) in ids.iter().enumerate() {
            for other in &ids[at + 1..] {
                let gone = |id: &IncidentId| merges.iter().any(|merge| &merge.from == id);
                if gone(one) || gone(other) {
                    continue;
                }
                let (Some(first), Some(second)) = (self.open.get(one), self.open.get(other)) else { continue };
                if first.cluster != second.cluster || first.last_at.abs_diff(second.last_at) > self.rules.window {
                    continue;
                }
                let touching = first.subjects.keys().find_map(|a| {
                    second
                        .subjects
                        .keys()
                        .find(|b| topology.distance(a, b).is_some_and(|steps| steps <= 1))
                        .map(|b| (a, b))
                });
                if let Some((a, b)) = touching {
                    let older_first = (first.opened_at, one) <= (second.opened_at, other);
                    let (from, into) = if older_first { (other, one) } else { (one, other) };
                    let because = format!("{a} and {b} are neighbours and both have alerts within the window");
                    merges.push(Merge { from: from.clone(), into: into.clone(), because });
                }
            }
        }
        for merge in &merges {
            self.merge(merge);
        }
        merges
    }

    fn merge(&mut self, merge: &Merge) {
        let Some(gone) = self.open.remove(&merge.from) else { return };
        if let Some(into) = self.open.get_mut(&merge.into) {
            for (subject, at) in gone.subjects {
                let newest = into.subjects.entry(subject).or_insert(at);
                *newest = (*newest).max(at);
            }
            into.last_at = into.last_at.max(gone.last_at);
        }
        self.member
            .values_mut()
            .filter(|member| **member == merge.from)
            .for_each(|member| *member = merge.into.clone());
    }

    fn nearest(&self, alert: &Alert, subject: &str, topology: &Topology) -> Option<(IncidentId, String)> {
        self.open
            .iter()
            .filter(|(_, open)| open.cluster == alert.cluster())
            .filter_map(|(incident, open)| {
                let apart = alert.starts_at.abs_diff(open.last_at);
                if apart > self.rules.window {
                    return None;
                }
                let (steps, by) = match open.subjects.get_key_value(subject) {
                    // The common case of a storm, kept free of graph walks.
                    Some((same, _)) => (0, same),
                    None => open
                        .subjects
                        .keys()
                        .filter_map(|other| topology.distance(subject, other).map(|steps| (steps, other)))
                        .min()?,
                };
                if steps > self.rules.reach {
                    return None;
                }
                let because = match steps {
                    0 => format!(
                        "about {subject}, which is part of the incident, {} after its last alert",
                        spoken(apart)
                    ),
                    1 => format!("{subject} is a direct neighbour of {by}; {} apart", spoken(apart)),
                    _ => format!("{subject} is {steps} steps from {by}; {} apart", spoken(apart)),
                };
                Some((steps, apart, incident.clone(), because))
            })
            .min_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)))
            .map(|(_, _, incident, because)| (incident, because))
    }

    fn waiting_near(&mut self, alert: &Alert, subject: &str, topology: &Topology) -> Vec<Fingerprint> {
        let window = self.rules.window;
        while self.waiting.front().is_some_and(|waiting| alert.starts_at.since(waiting.at) > window) {
            self.waiting.pop_front();
        }
        self.waiting
            .iter()
            .filter(|waiting| waiting.cluster == alert.cluster() && alert.starts_at.abs_diff(waiting.at) <= window)
            .filter(|waiting| {
                topology.distance(subject, &waiting.subject).is_some_and(|steps| steps <= self.rules.reach)
            })
            .map(|waiting| waiting.fingerprint)
            .collect()
    }
}
