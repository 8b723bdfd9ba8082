//! A file's alerts through the watch's own triage, as fast as it goes.
//!
//! Event time drives every timer: one goes off at the instant when it is due, not when the next alert comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::telling::{Digest, Symptoms, Telling};
use super::Case;
use super::timeline::{Happening, timeline};
use crate::domain::alert::{Fingerprint, Status};
use crate::domain::id::IncidentId;
use crate::domain::incident::Sev;
use crate::domain::severity::Symptom;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::{Judged, Rules, Triage};

/// An incident whose alerts have ended is over after this time. In the running watch its state says
/// when it is over (handed over or resolved); a file of alerts has no such states.
const QUIET: Duration = Duration::from_secs(300);
/// What waits after the last alert is waited for, at most so long.
const RUN_ON: Duration = Duration::from_secs(2 * 3600);
/// The watch looks at what is due as often as this.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The finest that event time is told apart.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub line: usize,
    pub alertname: String,
    pub subject: String,
    pub at: Timestamp,
    pub verdict: &'static str,
    pub reason: String,
    /// What it is part of at the end, when merges are over and what waited has been gathered.
    pub incident: Option<String>,
    pub truth: Option<String>,
}

/// Where each alert went.
pub struct Run {
    pub verdicts: Vec<Verdict>,
    /// Per case, after all merges.
    pub incident_of: Vec<Option<IncidentId>>,
    /// Incidents that people were told of, by themselves or in a digest.
    pub notified: BTreeSet<IncidentId>,
    /// Messages in a channel: one for each incident that is grave enough, one for each digest.
    pub notifications: usize,
    /// What each incident was rated at its end, and why.
    pub severities: BTreeMap<IncidentId, (Sev, String)>,
    /// What happened, in the order of event time.
    pub(super) timeline: Vec<(Timestamp, Happening)>,
    pub seconds: f64,
}

pub fn run(cases: &[Case], topology: &Arc<Topology>, rules: Rules, digest: Option<Digest>) -> Run {
    let began = Instant::now();
    let timeline = timeline(cases);
    let mut play = Play::new(cases, topology, rules, digest);
    let until = cases.last().map_or(Timestamp::default(), |last| last.at) + RUN_ON;
    for (at, happening) in timeline.iter().take_while(|(at, _)| *at <= until) {
        match happening {
            Happening::Arrives(number) => play.arrives(*number),
            Happening::Ends(number) => play.ends(*number, *at),
        }
    }
    play.wind(until);
    play.over(timeline, began)
}

struct Play<'a> {
    cases: &'a [Case],
    topology: &'a Arc<Topology>,
    triage: Triage,
    telling: Telling<'a>,
    /// Up to it, and with it, everything that was due has happened.
    now: Timestamp,
    verdicts: Vec<Verdict>,
    incident_of: Vec<Option<IncidentId>>,
    merged: HashMap<IncidentId, IncidentId>,
    /// Cases that may become part of an incident later.
    waiting: HashMap<Fingerprint, Vec<usize>>,
    /// What fires of an incident.
    firing: BTreeMap<IncidentId, HashSet<Fingerprint>>,
    /// When the last alert of an incident ended.
    quiet: BTreeMap<IncidentId, Timestamp>,
}

impl<'a> Play<'a> {
    fn new(cases: &'a [Case], topology: &'a Arc<Topology>, rules: Rules, digest: Option<Digest>) -> Self {
        Self {
            cases,
            topology,
            triage: Triage::new(rules, 1),
            telling: Telling::new(digest, topology),
            now: cases.first().map_or(Timestamp::default(), |first| first.at),
            verdicts: Vec::with_capacity(cases.len()),
            incident_of: vec![None; cases.len()],
            merged: HashMap::new(),
            waiting: HashMap::new(),
            firing: BTreeMap::new(),
            quiet: BTreeMap::new(),
        }
    }

    fn arrives(&mut self, number: usize) {
        let cases = self.cases;
        let case = &cases[number];
        match case.alert.status {
            Status::Firing => self.wind(case.at),
            // What ends at the instant when it would be due has ended.
            Status::Resolved => self.wind(case.at - TICK),
        }
        self.telling.look(case.at);
        self.close_quiet(case.at);
        let mut heard = BTreeSet::new();
        let judged = self.triage.judge(&case.alert, case.at, self.topology);
        let (verdict, reason) = self.enter(number, judged, &mut heard);
        self.tell(&heard);
        self.verdicts.push(Verdict {
            line: case.line,
            alertname: case.alert.name().to_owned(),
            subject: self.triage.correlator.about(&case.alert),
            at: case.at,
            verdict,
            reason,
            incident: None,
            truth: case.truth.clone(),
        });
    }

    /// The end of a firing that no line tells of.
    fn ends(&mut self, number: usize, at: Timestamp) {
        self.wind(at - TICK);
        let mut over = self.cases[number].alert.clone();
        over.status = Status::Resolved;
        if let Judged::Resolved { incident: Some(id) } = self.triage.judge(&over, at, self.topology) {
            self.falls_silent(&id, over.fingerprint, at);
        }
    }

    /// Lets happen what is due up to this instant, each at its own.
    fn wind(&mut self, until: Timestamp) {
        while self.now < until && self.triage.is_overdue(until) {
            self.now = self.next_due(until);
            self.telling.look(self.now);
            self.close_quiet(self.now);
            self.look();
        }
        self.now = self.now.max(until);
    }

    /// The first instant after now with something due, given that something is at `until`.
    fn next_due(&self, until: Timestamp) -> Timestamp {
        // It came when its time was over already.
        if self.triage.is_overdue(self.now) {
            return until.min(self.now + LOOK_EVERY);
        }
        let (mut before, mut due) = (self.now.millis(), until.millis());
        while due - before > 1 {
            let middle = before + (due - before) / 2;
            match self.triage.is_overdue(Timestamp::from_millis(middle)) {
                true => due = middle,
                false => before = middle,
            }
        }
        Timestamp::from_millis(due)
    }

    /// What has fired on for so long that people hear of it.
    fn look(&mut self) {
        let mut heard = BTreeSet::new();
        for persisting in self.triage.overdue(self.now, self.topology) {
            if persisting.opened {
                self.telling.opened(&persisting.incident);
            }
            self.telling.gathered(&persisting.incident, &persisting.alert);
            self.gather(&persisting.incident, persisting.alert.fingerprint);
            heard.insert(persisting.incident);
        }
        self.tell(&heard);
    }

    fn close_quiet(&mut self, now: Timestamp) {
        let over = self.quiet.iter().filter(|(_, since)| now.since(**since) > QUIET);
        let over: Vec<IncidentId> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            self.quiet.remove(&id);
            self.firing.remove(&id);
            self.triage.correlator.closed(&id);
        }
    }

    /// The verdict and its reason.
    fn enter(&mut self, number: usize, judged: Judged, heard: &mut BTreeSet<IncidentId>) -> (&'static str, String) {
        let cases = self.cases;
        let Case { alert, at, .. } = &cases[number];
        let (verdict, reason, incident) = match judged {
            Judged::Suppressed { reason, incident } => {
                if incident.is_none() {
                    self.waiting.entry(alert.fingerprint).or_default().push(number);
                }
                ("suppress", format!("{}: {}", reason.name(), reason.explain()), incident)
            }
            Judged::Resolved { incident } => {
                if let Some(id) = &incident {
                    self.falls_silent(id, alert.fingerprint, *at);
                }
                ("resolve", "the firing has ended".to_owned(), incident)
            }
            Judged::Joined { incident, why, because, .. } => {
                self.firing.entry(incident.clone()).or_default().insert(alert.fingerprint);
                self.quiet.remove(&incident);
                self.telling.heard(&incident, alert, &self.triage.correlator.about(alert));
                heard.insert(incident.clone());
                ("join", format!("{because}; {why}"), Some(incident))
            }
            Judged::Opened { incident, because, gathers } => {
                self.telling.opened(&incident);
                self.telling.heard(&incident, alert, &self.triage.correlator.about(alert));
                self.firing.entry(incident.clone()).or_default().insert(alert.fingerprint);
                for gathered in gathers {
                    self.telling.gathered(&incident, &gathered);
                    self.gather(&incident, gathered.fingerprint);
                }
                heard.insert(incident.clone());
                ("open", because.to_string(), Some(incident))
            }
            Judged::Waits { because, why } => {
                self.waiting.entry(alert.fingerprint).or_default().push(number);
                ("wait", format!("{because}; {why}"), None)
            }
        };
        self.incident_of[number] = incident;
        (verdict, reason)
    }

    /// What waited fires in this incident from now on.
    fn gather(&mut self, incident: &IncidentId, fingerprint: Fingerprint) {
        self.firing.entry(incident.clone()).or_default().insert(fingerprint);
        for earlier in self.waiting.remove(&fingerprint).unwrap_or_default() {
            self.incident_of[earlier] = Some(incident.clone());
        }
    }

    fn falls_silent(&mut self, incident: &IncidentId, fingerprint: Fingerprint, at: Timestamp) {
        let Some(still) = self.firing.get_mut(incident) else { return };
        still.remove(&fingerprint);
        if still.is_empty() {
            self.quiet.insert(incident.clone(), at);
        }
    }

    /// Of what was heard, once incidents have become one.
    fn tell(&mut self, heard: &BTreeSet<IncidentId>) {
        for merge in self.triage.merges() {
            self.telling.merged(&merge.from, &merge.into);
            if let Some(gone) = self.firing.remove(&merge.from) {
                self.firing.entry(merge.into.clone()).or_default().extend(gone);
            }
            self.quiet.remove(&merge.from);
            self.quiet.remove(&merge.into);
            self.merged.insert(merge.from, merge.into);
        }
        heard.iter().for_each(|id| self.telling.weigh(id));
    }

    fn over(mut self, timeline: Vec<(Timestamp, Happening)>, began: Instant) -> Run {
        self.telling.end();
        let seconds = began.elapsed().as_secs_f64();
        for incident in self.incident_of.iter_mut().flatten() {
            while let Some(into) = self.merged.get(incident) {
                *incident = into.clone();
            }
        }
        for (verdict, incident) in self.verdicts.iter_mut().zip(&self.incident_of) {
            verdict.incident = incident.as_ref().map(ToString::to_string);
        }
        Run {
            severities: severities(self.cases, &self.verdicts, &self.incident_of, self.topology),
            verdicts: self.verdicts,
            incident_of: self.incident_of,
            notified: self.telling.told,
            notifications: self.telling.messages,
            timeline,
            seconds,
        }
    }
}

fn severities(
    cases: &[Case],
    verdicts: &[Verdict],
    incident_of: &[Option<IncidentId>],
    topology: &Topology,
) -> BTreeMap<IncidentId, (Sev, String)> {
    let mut symptoms: BTreeMap<&IncidentId, Symptoms> = BTreeMap::new();
    for ((case, incident), verdict) in cases.iter().zip(incident_of).zip(verdicts) {
        if let Some(incident) = incident {
            let symptom = Symptom::about(&case.alert, &verdict.subject);
            symptoms.entry(incident).or_default().add(case.alert.fingerprint, symptom);
        }
    }
    symptoms.into_iter().map(|(incident, known)| (incident.clone(), known.assess(topology))).collect()
}
