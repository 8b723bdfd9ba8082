//! Alert -> verdict and incident: identity, noise and correlation in one pass, without I/O.
//!
//! The intake drives it against the store, `eval triage` and `replay` against files; both see the
//! same decisions.

use std::sync::Arc;

use super::alert::{Alert, Fingerprint, Severity};
use super::correlate::{self, Correlator, Merge, Placement, Why};
use super::id::IncidentId;
use super::prefilter::{self, Prefilter, Suppression, Verdict};
use super::time::{Timestamp, spoken};
use super::topology::Topology;

#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub prefilter: prefilter::Rules,
    pub correlation: correlate::Rules,
}

/// What became of one alert.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// Told to nobody; `incident` is what its fingerprint is part of.
    Suppressed {
        reason: Suppression,
        incident: Option<IncidentId>,
    },
    /// A firing has ended.
    Resolved {
        incident: Option<IncidentId>,
    },
    Joined {
        incident: IncidentId,
        why: Why,
        because: String,
        again: bool,
    },
    Opened {
        incident: IncidentId,
        because: String,
        gathers: Vec<Gathered>,
    },
    Waits {
        because: String,
    },
}

/// A warning that waited and now belongs to an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    pub fingerprint: Fingerprint,
    pub name: String,
    pub subject: String,
    pub starts_at: Timestamp,
}

/// A warning that did not go away by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Persisting {
    pub incident: IncidentId,
    pub cluster: String,
    pub alert: Gathered,
    pub because: String,
}

pub struct Triage {
    pub prefilter: Prefilter,
    pub correlator: Correlator,
    next_number: i64,
}

impl Triage {
    /// `next_number` is the number of the next incident that it opens.
    pub fn new(rules: Rules, next_number: i64) -> Self {
        Self { prefilter: Prefilter::new(rules.prefilter), correlator: Correlator::new(rules.correlation), next_number }
    }

    pub fn judge(&mut self, alert: &Alert, event_now: Timestamp, topology: &Arc<Topology>) -> Judged {
        match self.prefilter.judge(alert, event_now) {
            Verdict::Suppress { reason } => {
                Judged::Suppressed { reason, incident: self.correlator.incident_of(alert.fingerprint).cloned() }
            }
            Verdict::Resolve => {
                self.correlator.ended(alert.fingerprint);
                Judged::Resolved { incident: self.correlator.incident_of(alert.fingerprint).cloned() }
            }
            Verdict::Admit { because, .. } => self.place(alert, because, topology),
        }
    }

    fn place(&mut self, alert: &Alert, because: String, topology: &Arc<Topology>) -> Judged {
        let again = self.correlator.incident_of(alert.fingerprint).is_some();
        match self.correlator.place(alert, topology) {
            Placement::Wait { because: why } => Judged::Waits { because: format!("{because}; {why}") },
            Placement::Join { incident, why } => Judged::Joined { incident, why, because, again },
            Placement::Open { because: why, gathers } => {
                let incident = IncidentId::numbered(self.next_number);
                self.next_number += 1;
                let subject = alert.subject().unwrap_or("unknown");
                self.correlator.opened(&incident, alert.starts_at);
                self.correlator.joined(
                    &incident,
                    alert.fingerprint,
                    alert.cluster(),
                    subject,
                    alert.starts_at,
                    alert.severity() == Severity::Critical,
                    topology,
                );
                let gathers = gathers.into_iter().filter_map(|fingerprint| {
                    let (name, subject, at) = self.correlator.waiting(fingerprint)?;
                    self.correlator.joined(&incident, fingerprint, alert.cluster(), &subject, at, false, topology);
                    Some(Gathered { fingerprint, name: name.to_string(), subject: subject.to_string(), starts_at: at })
                });
                let gathers = gathers.collect();
                Judged::Opened { incident, because: why, gathers }
            }
        }
    }

    /// Whether `overdue` has something to say.
    pub fn is_overdue(&self, event_now: Timestamp) -> bool {
        self.correlator.is_overdue(event_now)
    }

    /// Warnings that fire on and on without company, each an incident of its own by now.
    pub fn overdue(&mut self, event_now: Timestamp, topology: &Arc<Topology>) -> Vec<Persisting> {
        let mut opened = vec![];
        for fingerprint in self.correlator.overdue(event_now) {
            let known = self.correlator.waiting(fingerprint).zip(self.correlator.cluster_of_waiting(fingerprint));
            let Some(((name, subject, starts_at), cluster)) = known else { continue };
            if !self.prefilter.is_firing(fingerprint) {
                self.correlator.ended(fingerprint);
                continue;
            }
            let incident = IncidentId::numbered(self.next_number);
            self.next_number += 1;
            self.correlator.opened(&incident, starts_at);
            self.correlator.joined(&incident, fingerprint, &cluster, &subject, starts_at, false, topology);
            let because =
                format!("a warning about {subject} has been firing for {}", spoken(event_now.since(starts_at)));
            let alert = Gathered { fingerprint, name: name.to_string(), subject: subject.to_string(), starts_at };
            opened.push(Persisting { incident, cluster: cluster.to_string(), alert, because });
        }
        opened
    }

    /// Incidents that have become one since the last call.
    pub fn merges(&mut self) -> Vec<Merge> {
        self.correlator.merges()
    }
}
