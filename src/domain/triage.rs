//! Alert -> verdict and incident: identity, noise and correlation in one pass, without I/O.
//!
//! The intake drives it against the store, `eval triage` and `replay` against files; both see the
//! same decisions.

mod held;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::alert::{Alert, Fingerprint, Reading, Severity, Status};
use super::correlate::{self, Correlator, Heard, Link, Merge, Patient, Placement, Why};
use super::id::IncidentId;
use super::intake::{Knowledge, Known};
use super::intent::Intent;
use super::prefilter::{self, Because, Mute, Prefilter, Suppression, Verdict};
use super::severity::Said;
use super::time::{Timestamp, spoken};
use super::topology::Topology;
use held::Held;

#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub prefilter: prefilter::Rules,
    pub correlation: correlate::Rules,
    pub intent: Intent,
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
        because: Because,
        again: bool,
    },
    Opened {
        incident: IncidentId,
        because: correlate::Because,
        gathers: Vec<Gathered>,
    },
    Waits {
        because: Because,
        why: correlate::Because,
    },
}

/// A warning that waited and now belongs to an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    pub fingerprint: Fingerprint,
    pub name: String,
    pub subject: String,
    pub severity: Severity,
    pub starts_at: Timestamp,
    pub said: Said,
    pub namespaces: BTreeSet<String>,
}

/// A warning that did not go away by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Persisting {
    pub incident: IncidentId,
    /// A new incident; otherwise it joins one near it.
    pub opened: bool,
    pub cluster: String,
    pub team: Option<String>,
    pub alert: Gathered,
    pub because: String,
    /// It was part of that incident before.
    pub again: bool,
}

/// Why nobody was told of a firing that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldAs {
    Muted,
    /// It flaps, or is at the edge of a value.
    Unsteady,
    /// By its score.
    Usual,
}

pub struct Triage {
    pub prefilter: Prefilter,
    pub correlator: Correlator,
    pub intent: Intent,
    /// What the senders said of alerts, until when.
    elsewhere: FxHashMap<Fingerprint, (Mute, Option<Timestamp>)>,
    held: Held,
    /// Since when, and when last, ends of long ago were heard: as long as such ends come, what is doubted or
    /// warns alone may be followed by its own.
    history: Option<(Timestamp, Timestamp)>,
    /// The warnings that wait for company, as far as they are few: what is silenced meanwhile stays muted.
    patients: FxHashMap<Fingerprint, Alert>,
    /// After this time a firing that was suppressed as a flapping one lasts.
    persists: Duration,
    next_number: i64,
}

/// A firing that lasts so many times as long as others of its series is not a usual one. Their
/// durations spread by about a factor of two (the mean is one of logarithms).
const USUAL_TIMES: u32 = 4;

/// A history that is read once more is read faster than that.
const DOUBTED_FOR: Duration = Duration::from_secs(60);
/// Ends that are older than this are told by a history that is read once more: Prometheus repeats one for a
/// quarter of an hour, and no group waits for longer.
const HISTORY: Duration = Duration::from_secs(30 * 60);

/// No backlog is read for longer: a sender whose clock is behind tells of nothing but old ends, and what
/// others warn of must not wait for it.
const HISTORY_LASTS: Duration = Duration::from_secs(10 * 60);

/// Under a storm the others wait without their labels, and are told.
const MAX_PATIENTS: usize = 2_000;

/// Alertmanager does not say when an inhibition ends; it repeats it at each flush of the group, every
/// five minutes by default. After three flushes of silence it is over.
const INHIBITED_FOR: Duration = Duration::from_secs(15 * 60);
/// Facts of senders that are kept at once; beyond that all are forgotten and told again by the next events.
const MAX_ELSEWHERE: usize = 100_000;

impl Triage {
    /// `next_number` is the number of the next incident that it opens.
    pub fn new(rules: Rules, next_number: i64) -> Self {
        Self {
            held: Held::default(),
            history: None,
            patients: FxHashMap::default(),
            persists: rules.correlation.persists,
            prefilter: Prefilter::new(rules.prefilter),
            correlator: Correlator::new(rules.correlation),
            intent: rules.intent,
            elsewhere: FxHashMap::default(),
            next_number,
        }
    }

    pub fn judge(&mut self, alert: &Alert, event_now: Timestamp, topology: &Arc<Topology>) -> Judged {
        let alert = &Reading::of(alert);
        let verdict = self.prefilter.judge(alert, event_now);
        if alert.ends_at.is_some_and(|end| event_now.since(end) >= HISTORY) {
            let goes_on = self.history.filter(|(_, last)| event_now.since(*last) < DOUBTED_FOR);
            self.history = Some((goes_on.map_or(event_now, |(since, _)| since), event_now));
        }
        // Late news of a firing that has ended inhibits nothing.
        if !matches!(verdict, Verdict::Suppress { reason: Suppression::Stale { .. } }) {
            self.intent.observe(alert, event_now);
        }
        match verdict {
            Verdict::Suppress { reason } => {
                if matches!(reason, Suppression::Flapping { .. } | Suppression::AtTheEdge { .. }) {
                    self.lasts(alert, event_now);
                }
                if let Suppression::NotAnomalous { .. } = reason {
                    self.outstays(alert, event_now);
                }
                if let Suppression::Stale { .. } = reason {
                    self.doubt(alert, event_now);
                }
                Judged::Suppressed { reason, incident: self.correlator.incident_of(alert.fingerprint).cloned() }
            }
            Verdict::Resolve => {
                self.correlator.ended_at(alert.fingerprint, alert.ends_at.unwrap_or(event_now));
                self.elsewhere.remove(&alert.fingerprint);
                self.held.remove(alert.fingerprint);
                if !self.patients.is_empty() {
                    self.patients.remove(&alert.fingerprint);
                }
                Judged::Resolved { incident: self.correlator.incident_of(alert.fingerprint).cloned() }
            }
            Verdict::Admit { because, .. } => match self.muted(alert, event_now) {
                Some(by) => {
                    self.hold(alert, event_now);
                    let incident = self.correlator.incident_of(alert.fingerprint).cloned();
                    Judged::Suppressed { reason: Suppression::Muted { by }, incident }
                }
                None => {
                    self.held.remove(alert.fingerprint);
                    let placed = self.place(alert, because, event_now, topology);
                    if let Judged::Waits { .. } = placed {
                        self.remember(alert);
                    }
                    placed
                }
            },
        }
    }

    /// Alerts that came together: what inhibits counts for those that stand before it, too.
    pub fn foresee(&mut self, alerts: &[Alert], event_now: Timestamp) {
        if self.intent.inhibitions().rules().is_empty() {
            return;
        }
        for alert in alerts.iter().filter(|alert| alert.status == Status::Firing) {
            if !self.prefilter.is_late(alert, event_now) {
                self.intent.observe(alert, event_now);
            }
        }
    }

    /// A firing that nobody is told of while it is muted: the end of that is looked for.
    pub fn hold(&mut self, alert: &Alert, event_now: Timestamp) {
        self.prefilter.hold(alert.fingerprint);
        self.held.keep(alert, Because::StillFires, event_now, event_now);
    }

    /// After a restart: it was held back, and may fire on.
    pub fn held_again(&mut self, alert: &Alert, held_as: HeldAs, event_now: Timestamp) {
        match held_as {
            HeldAs::Muted => self.hold(alert, event_now),
            HeldAs::Unsteady => self.lasts(alert, event_now),
            HeldAs::Usual => self.outstays(alert, event_now),
        }
    }

    /// After a restart: it was told later on.
    pub fn told(&mut self, fingerprint: Fingerprint) {
        self.held.remove(fingerprint);
    }

    /// A copy of the past is followed by its end; what is not fires in spite of the end that was told.
    fn doubt(&mut self, alert: &Alert, event_now: Timestamp) {
        if self.prefilter.is_doubted(alert.fingerprint) {
            let because = Because::Said("it was said to fire long after its end, and no end followed".into());
            self.held.keep(alert, because, event_now + DOUBTED_FOR, event_now);
        } else if !self.prefilter.is_firing(alert.fingerprint) {
            // A copy of an earlier end says nothing of a firing that is muted now.
            self.held.remove(alert.fingerprint);
        }
    }

    /// What goes on without a break neither flaps nor is at the edge any more.
    fn lasts(&mut self, alert: &Alert, event_now: Timestamp) {
        let because = Because::Said(format!("it has fired without a break for {}", spoken(self.persists)));
        self.held.keep(alert, because, alert.starts_at.min(event_now) + self.persists, event_now);
    }

    /// What is suppressed as a usual one is none when it lasts far longer than those do.
    fn outstays(&mut self, alert: &Alert, event_now: Timestamp) {
        let usual = self.prefilter.usual_length(alert.fingerprint).unwrap_or(self.persists);
        let span = (usual * USUAL_TIMES).max(self.persists);
        let because = format!("it has fired for {}, and those like it last about {}", spoken(span), spoken(usual));
        let from = alert.starts_at.min(event_now) + span;
        self.held.keep(alert, Because::Said(because), from, event_now);
    }

    /// People have silenced, or ended a silence.
    pub fn mutes_changed(&mut self) {
        self.held.look_now();
    }

    fn remember(&mut self, alert: &Alert) {
        if self.patients.len() >= MAX_PATIENTS {
            let correlator = &self.correlator;
            self.patients.retain(|fingerprint, _| correlator.waiting(*fingerprint).is_some());
        }
        if self.patients.len() < MAX_PATIENTS {
            self.patients.insert(alert.fingerprint, alert.clone());
        }
    }

    /// Whether a warning that waited was muted meanwhile; then it waits for the end of that.
    fn muted_meanwhile(&mut self, fingerprint: Fingerprint, event_now: Timestamp) -> bool {
        let Some(alert) = self.patients.remove(&fingerprint) else { return false };
        let is_muted = self.muted(&alert, event_now).is_some();
        if is_muted {
            self.correlator.ended(fingerprint);
            self.hold(&alert, event_now);
        }
        is_muted
    }

    /// A critical alert that fires on although its incident was said to be over, as if it began now.
    pub fn outlasts(&mut self, alert: &Alert, event_now: Timestamp, topology: &Arc<Topology>) -> Judged {
        if let Some(by) = self.muted(alert, event_now) {
            self.hold(alert, event_now);
            return Judged::Suppressed { reason: Suppression::Muted { by }, incident: None };
        }
        let news = Alert { starts_at: event_now, ..alert.clone() };
        self.place(&Reading::of(&news), Because::Critical, event_now, topology)
    }

    fn muted(&self, alert: &Alert, event_now: Timestamp) -> Option<Mute> {
        if let Some(muted) = self.intent.judge(alert, event_now) {
            return Some(Mute::Here(muted));
        }
        let (mute, until) = self.elsewhere.get(&alert.fingerprint)?;
        until.is_none_or(|until| event_now < until).then(|| mute.clone())
    }

    /// A sender's own decision about an alert of its own.
    pub fn know(&mut self, fact: &Knowledge) {
        let said = |ids: &[String]| ids.join(", ");
        let (mute, until) = match &fact.known {
            Known::Silenced { by, until, comment } => {
                let said = format!("{comment} (silence {})", said(by));
                (Mute::AtTheSource { name: "silenced".into(), said }, *until)
            }
            Known::Inhibited { by, rules } => {
                let said = format!("by {} {}", said(by), said(rules)).trim().to_owned();
                (Mute::AtTheSource { name: "inhibited".into(), said }, Some(fact.at + INHIBITED_FOR))
            }
            // It is about to be told of: whatever muted it there has ended.
            Known::Grouped { .. } => {
                self.elsewhere.remove(&fact.about);
                return;
            }
            Known::Acknowledged => return,
        };
        if self.elsewhere.len() >= MAX_ELSEWHERE {
            self.elsewhere.clear();
        }
        self.elsewhere.insert(fact.about, (mute, until));
    }

    fn place(
        &mut self,
        alert: &Reading<'_>,
        because: Because,
        event_now: Timestamp,
        topology: &Arc<Topology>,
    ) -> Judged {
        match self.correlator.place(alert, topology) {
            Placement::Wait { because: why } => Judged::Waits { because, why },
            Placement::Join { incident, why } => {
                let again = why.link == Link::Again;
                Judged::Joined { incident, why, because, again }
            }
            Placement::Open { because: why, gathers } => {
                let incident = self.next_incident();
                let (scope, subject) = self.correlator.whereabouts(alert, topology);
                self.correlator.opened(&incident, alert.starts_at);
                let heard = Heard {
                    fingerprint: alert.fingerprint,
                    cluster: &scope,
                    subject: &subject,
                    name: alert.name(),
                    at: alert.starts_at,
                    critical: alert.severity() == Severity::Critical,
                };
                self.correlator.joined(&incident, heard, topology);
                if heard.critical {
                    self.correlator.fell(alert.fingerprint, alert.starts_at);
                }
                let gathers: Vec<Fingerprint> =
                    gathers.into_iter().filter(|one| !self.muted_meanwhile(*one, event_now)).collect();
                let gathers = gathers.into_iter().filter_map(|fingerprint| {
                    let Patient { name, subject, at, said, namespaces } = self.correlator.waiting(fingerprint)?;
                    let cluster = self.correlator.cluster_of_waiting(fingerprint)?;
                    let heard =
                        Heard { fingerprint, cluster: &cluster, subject: &subject, name: &name, at, critical: false };
                    self.correlator.joined(&incident, heard, topology);
                    let (name, subject) = (name.to_string(), subject.to_string());
                    let severity = Severity::Warning;
                    Some(Gathered { fingerprint, name, subject, severity, starts_at: at, said, namespaces })
                });
                let gathers = gathers.collect();
                Judged::Opened { incident, because: why, gathers }
            }
        }
    }

    /// The name of an incident that people open.
    pub fn next_incident(&mut self) -> IncidentId {
        let incident = IncidentId::numbered(self.next_number);
        self.next_number += 1;
        incident
    }

    /// Whether `overdue` has something to say.
    pub fn is_overdue(&self, event_now: Timestamp) -> bool {
        let warns = self.correlator.is_overdue(event_now) && !self.reads_history(event_now);
        warns || self.prefilter.is_due(event_now) || self.held.is_due(event_now)
    }

    /// A backlog comes in more than one batch: the end of what warned days ago may be in the next one.
    fn reads_history(&self, event_now: Timestamp) -> bool {
        self.history
            .is_some_and(|(since, last)| event_now.since(last) < DOUBTED_FOR && event_now.since(since) < HISTORY_LASTS)
    }

    /// Warnings that fire on and on without company, each an incident of its own by now.
    pub fn overdue(&mut self, event_now: Timestamp, topology: &Arc<Topology>) -> Vec<Persisting> {
        let mut overdue = self.lasting(event_now, topology);
        if self.reads_history(event_now) {
            return overdue;
        }
        for fingerprint in self.correlator.overdue(event_now) {
            let known = self.correlator.waiting(fingerprint).zip(self.correlator.cluster_of_waiting(fingerprint));
            let Some((Patient { name, subject, at: starts_at, said, namespaces }, cluster)) = known else { continue };
            if !self.prefilter.is_firing(fingerprint) {
                self.correlator.ended(fingerprint);
                continue;
            }
            let team = self.patients.get(&fingerprint).and_then(|alert| self.intent.team_of(alert).map(str::to_owned));
            if self.muted_meanwhile(fingerprint, event_now) {
                continue;
            }
            let lasts = spoken(event_now.since(starts_at));
            let (incident, opened, because) = match self.correlator.home(fingerprint) {
                Some((incident, why)) => (incident, false, format!("{subject} still warns after {lasts}, {why}")),
                None => {
                    let incident = self.next_incident();
                    self.correlator.opened(&incident, starts_at);
                    (incident, true, format!("a warning about {subject} has been firing for {lasts}"))
                }
            };
            let (at, critical) = (starts_at, false);
            let heard = Heard { fingerprint, cluster: &cluster, subject: &subject, name: &name, at, critical };
            self.correlator.joined(&incident, heard, topology);
            if opened {
                self.correlator.lasts(&incident, fingerprint);
            }
            let (name, subject) = (name.to_string(), subject.to_string());
            let severity = Severity::Warning;
            let alert = Gathered { fingerprint, name, subject, severity, starts_at, said, namespaces };
            let cluster = correlate::cluster_of(&cluster).to_owned();
            overdue.push(Persisting { incident, opened, cluster, team, alert, because, again: false });
        }
        overdue
    }

    /// Alerts that had to fire for a while before anybody is told, and did; and what was held back and is free.
    fn lasting(&mut self, event_now: Timestamp, topology: &Arc<Topology>) -> Vec<Persisting> {
        let mut due = vec![];
        while let Some((alert, because)) = self.prefilter.next_due(event_now) {
            // After a restart what was told before waits once more.
            if self.correlator.incident_of(alert.fingerprint).is_none() {
                due.push((alert, because));
            }
        }
        let mut held = std::mem::take(&mut self.held);
        let is_history = self.reads_history(event_now);
        let free = held.free(event_now, |alert| {
            is_history && self.prefilter.is_doubted(alert.fingerprint) || self.muted(alert, event_now).is_some()
        });
        self.held = held;
        for (alert, because) in free {
            if self.prefilter.release(alert.fingerprint, event_now) {
                due.push((alert, because));
            }
        }
        let mut lasting = vec![];
        for (alert, because) in due {
            if self.muted(&alert, event_now).is_some() {
                self.hold(&alert, event_now);
                continue;
            }
            let lasts = spoken(event_now.since(alert.starts_at));
            let news = Alert { starts_at: event_now, ..alert.clone() };
            let placed = self.place(&Reading::of(&news), because, event_now, topology);
            if let Judged::Waits { .. } = placed {
                self.remember(&news);
            }
            let cluster = self.correlator.cluster(&alert);
            let team = self.intent.team_of(&alert).map(str::to_owned);
            let itself = Gathered {
                fingerprint: alert.fingerprint,
                name: alert.name().to_owned(),
                subject: self.correlator.about(&alert),
                severity: alert.severity(),
                starts_at: alert.starts_at,
                said: Said::by(&alert),
                namespaces: alert.namespaces(),
            };
            let persists = |incident, opened, again, alert, because| Persisting {
                again,
                incident,
                opened,
                cluster: cluster.clone(),
                team: team.clone(),
                alert,
                because,
            };
            match placed {
                // The correlator brings it up when it stays without company.
                Judged::Waits { .. } | Judged::Suppressed { .. } | Judged::Resolved { .. } => {}
                Judged::Joined { incident, why, because, again } => {
                    let because = format!("still fires after {lasts}: {because}; {why}");
                    lasting.push(persists(incident, false, again, itself, because));
                }
                Judged::Opened { incident, because, gathers } => {
                    let because = format!("still fires after {lasts}: {because}");
                    lasting.push(persists(incident.clone(), true, false, itself, because));
                    lasting.extend(gathers.into_iter().map(|gathered| {
                        persists(incident.clone(), false, false, gathered, "waited for company near it".into())
                    }));
                }
            }
        }
        lasting
    }

    /// Incidents that have become one since the last call.
    pub fn merges(&mut self) -> Vec<Merge> {
        self.correlator.merges()
    }
}
