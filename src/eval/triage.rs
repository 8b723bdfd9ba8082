//! Alerts with known incidents through the watch's own triage.
//!
//! Event time drives every timer: an alert arrives at its start, or at its end when it tells of one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::telling::{Digest, Symptoms, Telling};
use super::{EvalError, agreement, read};
use crate::domain::alert::{Alert, Fingerprint, Status, read_payload};
use crate::domain::id::IncidentId;
use crate::domain::incident::Sev;
use crate::domain::severity::Symptom;
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, NodeKind, Topology};
use crate::domain::triage::{Judged, Rules, Triage};

/// One alert of a file with what it truly belongs to.
#[derive(Debug, Clone)]
pub struct Case {
    pub alert: Alert,
    pub truth: Option<String>,
    /// How bad what it belongs to truly is, `SEV1` to `SEV4`, where the file says so.
    pub severity_truth: Option<String>,
    /// When it arrives.
    pub at: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub alerts: usize,
    pub incidents: usize,
    pub notifications: usize,
    /// 1 - notifications / alerts
    pub reduction: f64,
    pub truth_recall: f64,
    pub truth_recall_strict: f64,
    /// Share of the alerts of incidents that belong to the truth which owns most of their incident.
    pub purity: f64,
    /// Over the alerts that have a truth; one that is in no incident is a group of its own.
    pub ari: f64,
    /// Share of the true incidents whose largest incident was given their true severity; absent where
    /// the file says nothing of severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity_agreement: Option<f64>,
    pub alerts_per_s: f64,
    /// Notifications that Alertmanager's grouping rules give for the same alerts, grouped as in its
    /// shipped example (`alertname`, `cluster`, `service`); see `alertmanager`.
    pub alertmanager_notifications: usize,
    /// The same with the coarsest grouping that people use: by `alertname` alone.
    pub alertmanager_coarse_notifications: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Rated>,
}

/// What an incident was rated at its end, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Rated {
    pub incident: String,
    pub severity: &'static str,
    pub reason: String,
    pub notified: bool,
}

impl Report {
    /// Adds where each alert went and how each incident was rated, with the reasons.
    pub fn explain(&mut self, run: Run) {
        let rated = run.severities.into_iter().map(|(incident, (severity, reason))| Rated {
            notified: run.notified.contains(&incident),
            incident: incident.to_string(),
            severity: severity.as_str(),
            reason,
        });
        self.severities = rated.collect();
        self.verdicts = run.verdicts;
    }
}

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

/// An incident whose alerts have ended is over after this time. In the running watch its state says
/// when it is over (handed over or resolved); a file of alerts has no such states.
const QUIET: Duration = Duration::from_secs(300);

pub fn load(path: &Path) -> Result<Vec<Case>, EvalError> {
    let file = std::fs::File::open(path).map_err(|failure| EvalError::file(path, failure))?;
    let mut cases = vec![];
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|source| EvalError::line(path, number as u64 + 1, source))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(&line).map_err(|failure| EvalError::line(path, number as u64 + 1, failure))?;
        let truth = match value.get("truth") {
            None | Some(Value::Null) => None,
            Some(Value::String(truth)) => Some(truth.clone()),
            Some(other) => Some(other.to_string()),
        };
        let severity_truth = value.get("severity_truth").and_then(Value::as_str).map(str::to_owned);
        let value = with_name(value);
        let alerts = read_payload(&value).map_err(|bad| EvalError::line(path, number as u64 + 1, bad))?;
        for alert in alerts {
            let mut alert = alert.map_err(|bad| EvalError::line(path, number as u64 + 1, bad))?;
            // Without a status a line tells of a whole firing: it arrives at its start and is over
            // at its end, without a line of its own.
            if value.get("status").is_none() && alert.status == Status::Resolved {
                alert.status = Status::Firing;
            }
            let at = match alert.status {
                Status::Firing => alert.starts_at,
                Status::Resolved => alert.ends_at.unwrap_or(alert.starts_at),
            };
            // Repeats arrive later than they started; the order of the file is the order of arrival.
            let at = cases.last().map_or(at, |last: &Case| last.at.max(at));
            cases.push(Case { alert, truth: truth.clone(), severity_truth: severity_truth.clone(), at });
        }
    }
    Ok(cases)
}

/// Senders other than Prometheus name their rules in other labels; an alert without any name is called
/// by what it says.
fn with_name(mut value: Value) -> Value {
    const NAMES: [&str; 15] = [
        "monitor",
        "rule",
        "rule_name",
        "alert",
        "check",
        "name",
        "title",
        "event",
        "alert_name",
        "alarm",
        "alarm_name",
        "trigger",
        "trigger_name",
        "problem",
        "event_name",
    ];
    let named = value["labels"]["alertname"].as_str().is_some_and(|name| !name.is_empty());
    if named || !value["labels"].is_object() || value.get("alerts").is_some() {
        return value;
    }
    let label = NAMES.iter().find_map(|name| value["labels"][*name].as_str());
    let texts = ["summary", "message", "title", "description", "text"];
    let said = || texts.iter().find_map(|name| value["annotations"][*name].as_str());
    if let Some(name) = label.or_else(said).map(str::to_owned) {
        value["labels"]["alertname"] = Value::from(name);
    }
    value
}

#[derive(Debug, Deserialize)]
struct ChartFile {
    #[serde(default)]
    nodes: Vec<Value>,
    #[serde(default)]
    edges: Vec<ChartEdge>,
}

#[derive(Debug, Deserialize)]
struct ChartEdge {
    from: String,
    to: String,
}

pub fn load_topology(path: &Path) -> Result<Topology, EvalError> {
    let file: ChartFile = serde_json::from_str(&read(path)?).map_err(|failure| EvalError::file(path, failure))?;
    let mut topology = Topology::default();
    for node in &file.nodes {
        let name = node.as_str().or_else(|| node["id"].as_str()).or_else(|| node["name"].as_str());
        let name = name.ok_or_else(|| {
            EvalError::file(path, format!("node {node} is neither a name nor an object with `id` or `name`"))
        })?;
        let kind = match node["kind"].as_str().unwrap_or_default() {
            "host" | "node" => NodeKind::Host,
            "database" => NodeKind::Database,
            "queue" => NodeKind::Queue,
            "external" => NodeKind::External,
            _ => NodeKind::Service,
        };
        topology.add_node(name, kind);
    }
    for edge in &file.edges {
        let host = topology.kind(&edge.to) == Some(NodeKind::Host);
        topology.add_edge(&edge.from, &edge.to, if host { EdgeKind::RunsOn } else { EdgeKind::Calls });
    }
    Ok(topology)
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
    pub seconds: f64,
}

pub fn run(cases: &[Case], topology: &Arc<Topology>, rules: Rules, digest: Option<Digest>) -> Run {
    let mut triage = Triage::new(rules, 1);
    let mut telling = Telling::new(digest, topology);
    let mut run = Run {
        verdicts: Vec::with_capacity(cases.len()),
        incident_of: vec![None; cases.len()],
        notified: BTreeSet::new(),
        notifications: 0,
        severities: BTreeMap::new(),
        seconds: 0.0,
    };
    let mut merged: HashMap<IncidentId, IncidentId> = HashMap::new();
    let mut waiting: HashMap<Fingerprint, Vec<usize>> = HashMap::new();
    // incident -> fingerprints that fire; when the last of them ended
    let mut firing: BTreeMap<IncidentId, HashSet<Fingerprint>> = BTreeMap::new();
    let mut quiet: BTreeMap<IncidentId, Timestamp> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    let began = Instant::now();
    for (number, case) in cases.iter().enumerate() {
        while let Some(Reverse((end, earlier))) = ends.peek().copied().filter(|next| next.0.0 <= case.at) {
            ends.pop();
            let mut over = cases[earlier].alert.clone();
            (over.status, over.ends_at) = (Status::Resolved, Some(end));
            if let Judged::Resolved { incident: Some(id) } = triage.judge(&over, end, topology)
                && let Some(still) = firing.get_mut(&id)
            {
                still.remove(&over.fingerprint);
                if still.is_empty() {
                    quiet.insert(id, end);
                }
            }
        }
        telling.look(case.at);
        let mut heard: BTreeSet<IncidentId> = BTreeSet::new();
        for persisting in triage.overdue(case.at, topology) {
            if persisting.opened {
                telling.opened(&persisting.incident);
            }
            telling.gathered(&persisting.incident, &persisting.alert);
            heard.insert(persisting.incident.clone());
            let fingerprint = persisting.alert.fingerprint;
            firing.entry(persisting.incident.clone()).or_default().insert(fingerprint);
            for earlier in waiting.remove(&fingerprint).unwrap_or_default() {
                run.incident_of[earlier] = Some(persisting.incident.clone());
            }
        }
        if let (Status::Firing, Some(end)) = (case.alert.status, case.alert.ends_at) {
            ends.push(Reverse((end, number)));
        }
        let over: Vec<IncidentId> =
            quiet.iter().filter(|(_, since)| case.at.since(**since) > QUIET).map(|(id, _)| id.clone()).collect();
        for id in over {
            quiet.remove(&id);
            firing.remove(&id);
            triage.correlator.closed(&id);
        }
        let fingerprint = case.alert.fingerprint;
        let (verdict, reason, incident) = match triage.judge(&case.alert, case.at, topology) {
            Judged::Suppressed { reason, incident } => {
                if incident.is_none() {
                    waiting.entry(fingerprint).or_default().push(number);
                }
                ("suppress", format!("{}: {}", reason.name(), reason.explain()), incident)
            }
            Judged::Resolved { incident } => {
                if let Some(id) = &incident
                    && let Some(still) = firing.get_mut(id)
                {
                    still.remove(&fingerprint);
                    if still.is_empty() {
                        quiet.insert(id.clone(), case.at);
                    }
                }
                ("resolve", "the firing has ended".to_owned(), incident)
            }
            Judged::Joined { incident, why, because, .. } => {
                firing.entry(incident.clone()).or_default().insert(fingerprint);
                quiet.remove(&incident);
                telling.heard(&incident, &case.alert, &triage.correlator.about(&case.alert));
                heard.insert(incident.clone());
                ("join", format!("{because}; {why}"), Some(incident))
            }
            Judged::Opened { incident, because, gathers } => {
                telling.opened(&incident);
                telling.heard(&incident, &case.alert, &triage.correlator.about(&case.alert));
                gathers.iter().for_each(|gathered| telling.gathered(&incident, gathered));
                heard.insert(incident.clone());
                let fires = firing.entry(incident.clone()).or_default();
                fires.insert(fingerprint);
                for gathered in gathers {
                    fires.insert(gathered.fingerprint);
                    for earlier in waiting.remove(&gathered.fingerprint).unwrap_or_default() {
                        run.incident_of[earlier] = Some(incident.clone());
                    }
                }
                ("open", because.to_string(), Some(incident))
            }
            Judged::Waits { because, why } => {
                waiting.entry(fingerprint).or_default().push(number);
                ("wait", format!("{because}; {why}"), None)
            }
        };
        for merge in triage.merges() {
            telling.merged(&merge.from, &merge.into);
            if let Some(gone) = firing.remove(&merge.from) {
                firing.entry(merge.into.clone()).or_default().extend(gone);
            }
            quiet.remove(&merge.from);
            quiet.remove(&merge.into);
            merged.insert(merge.from, merge.into);
        }
        heard.iter().for_each(|id| telling.weigh(id));
        run.incident_of[number] = incident;
        run.verdicts.push(Verdict {
            line: number + 1,
            alertname: case.alert.name().to_owned(),
            subject: triage.correlator.about(&case.alert),
            at: case.at,
            verdict,
            reason,
            incident: None,
            truth: case.truth.clone(),
        });
    }
    telling.end();
    (run.notified, run.notifications) = (telling.told, telling.messages);
    run.seconds = began.elapsed().as_secs_f64();
    for incident in run.incident_of.iter_mut().flatten() {
        while let Some(into) = merged.get(incident) {
            *incident = into.clone();
        }
    }
    for (verdict, incident) in run.verdicts.iter_mut().zip(&run.incident_of) {
        verdict.incident = incident.as_ref().map(ToString::to_string);
    }
    run.severities = severities(cases, &run, topology);
    run
}

fn severities(cases: &[Case], run: &Run, topology: &Topology) -> BTreeMap<IncidentId, (Sev, String)> {
    let mut symptoms: BTreeMap<&IncidentId, Symptoms> = BTreeMap::new();
    for ((case, incident), verdict) in cases.iter().zip(&run.incident_of).zip(&run.verdicts) {
        if let Some(incident) = incident {
            let symptom = Symptom::about(&case.alert, &verdict.subject);
            symptoms.entry(incident).or_default().add(case.alert.fingerprint, symptom);
        }
    }
    symptoms.into_iter().map(|(incident, known)| (incident.clone(), known.assess(topology))).collect()
}

/// Over the true incidents that own most of some incident: whether the largest of those got their severity.
fn severity_agreement(
    cases: &[Case],
    run: &Run,
    shares: &BTreeMap<&IncidentId, BTreeMap<Option<&str>, usize>>,
) -> Option<f64> {
    let mut truths: BTreeMap<&str, &str> = BTreeMap::new();
    for case in cases {
        if let (Some(truth), Some(severity)) = (&case.truth, &case.severity_truth) {
            truths.insert(truth, severity);
        }
    }
    let mut largest: BTreeMap<&str, (usize, &IncidentId)> = BTreeMap::new();
    for (incident, owners) in shares {
        let total: usize = owners.values().sum();
        for (truth, count) in owners {
            let Some(truth) = truth.filter(|truth| count * 2 > total && truths.contains_key(truth)) else { continue };
            let most = largest.entry(truth).or_insert((*count, incident));
            if *count > most.0 {
                *most = (*count, incident);
            }
        }
    }
    let right = |(truth, (_, incident)): &(&&str, &(usize, &IncidentId))| {
        run.severities.get(incident).is_some_and(|(sev, _)| sev.as_str() == truths[**truth])
    };
    let agree = largest.iter().filter(right).count();
    (!largest.is_empty()).then(|| agree as f64 / largest.len() as f64)
}

pub fn report(cases: &[Case], run: &Run) -> Report {
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for case in cases {
        let next = names.len() as u64 + 1;
        if let Some(truth) = &case.truth {
            names.entry(truth).or_insert(next);
        }
    }
    // incident -> truth (or none) -> alerts
    let mut shares: BTreeMap<&IncidentId, BTreeMap<Option<&str>, usize>> = BTreeMap::new();
    let mut pairs = vec![];
    let mut alone = 1_u64 << 40;
    let mut numbers: BTreeMap<&IncidentId, u64> = BTreeMap::new();
    for (case, incident) in cases.iter().zip(&run.incident_of) {
        if let Some(incident) = incident {
            *shares.entry(incident).or_default().entry(case.truth.as_deref()).or_default() += 1;
        }
        if let Some(truth) = &case.truth {
            let group = match incident {
                Some(incident) => {
                    let next = numbers.len() as u64;
                    *numbers.entry(incident).or_insert(next)
                }
                None => {
                    alone += 1;
                    alone
                }
            };
            pairs.push((names[truth.as_str()], group));
        }
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut owned: BTreeSet<&str> = BTreeSet::new();
    let (mut right, mut all) = (0, 0);
    for (incident, owners) in &shares {
        let total: usize = owners.values().sum();
        let most = owners.values().max().copied().unwrap_or(0);
        right += most;
        all += total;
        for (truth, count) in owners {
            if let Some(truth) = truth.filter(|_| run.notified.contains(*incident)) {
                seen.insert(truth);
                if count * 2 > total {
                    owned.insert(truth);
                }
            }
        }
    }
    let share = |count: usize, of: usize| if of == 0 { 1.0 } else { count as f64 / of as f64 };
    Report {
        alerts: cases.len(),
        incidents: shares.len(),
        notifications: run.notifications,
        reduction: 1.0 - share(run.notifications, cases.len()),
        truth_recall: share(seen.len(), names.len()),
        truth_recall_strict: share(owned.len(), names.len()),
        purity: share(right, all),
        ari: agreement::adjusted_rand(&pairs),
        severity_agreement: severity_agreement(cases, run, &shares),
        alerts_per_s: (cases.len() as f64 / run.seconds.max(1e-9)).round(),
        alertmanager_notifications: alertmanager(cases, &["alertname", "cluster", "service"]),
        alertmanager_coarse_notifications: alertmanager(cases, &["alertname"]),
        verdicts: vec![],
        severities: vec![],
    }
}

/// What a stock Alertmanager would send, by its documented rules in event time: one group for each
/// combination of `group_by`, `group_wait` 30 s, `group_interval` 5 min, `repeat_interval` 3 h;
/// resolved notifications are not counted.
///
/// A model of it, not a run of it.
pub fn alertmanager(cases: &[Case], group_by: &[&str]) -> usize {
    #[derive(Default)]
    struct Group {
        firing: HashSet<Fingerprint>,
        fresh: bool,
        due: Option<Timestamp>,
        told: Option<Timestamp>,
        sent: usize,
    }
    let (wait, interval, repeat) = (Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(3 * 3600));
    let mut groups: HashMap<Vec<String>, Group> = HashMap::new();
    let flush = |group: &mut Group, now: Timestamp| {
        while let Some(due) = group.due.filter(|due| *due <= now) {
            let again = group.told.is_none_or(|told| due.since(told) >= repeat);
            if !group.firing.is_empty() && (group.fresh || again) {
                group.sent += 1;
                group.told = Some(due);
            }
            group.fresh = false;
            group.due = (!group.firing.is_empty()).then_some(due + interval);
        }
    };
    for case in cases {
        let key = group_by.iter().map(|name| case.alert.label(name).unwrap_or_default().to_owned()).collect();
        let group: &mut Group = groups.entry(key).or_default();
        flush(group, case.at);
        match case.alert.status {
            Status::Firing => {
                group.fresh |= group.firing.insert(case.alert.fingerprint);
                group.due.get_or_insert(case.at + wait);
            }
            Status::Resolved => {
                group.firing.remove(&case.alert.fingerprint);
            }
        }
    }
    let end = cases.last().map_or(Timestamp::default(), |case| case.at) + wait;
    groups
        .values_mut()
        .map(|group| {
            flush(group, end);
            group.sent
        })
        .sum()
}
