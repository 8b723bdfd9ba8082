//! Alerts with known incidents through the watch's own triage.
//!
//! Event time drives every timer: an alert arrives at its start, or at its end when it tells of one.

mod grouped;
mod play;
mod read;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::agreement;
use crate::domain::id::IncidentId;
use grouped::alertmanager;
pub use play::{Run, Verdict, run};
pub use read::{Case, Shapes, load, load_topology};

#[derive(Debug, Serialize)]
pub struct Report {
    pub alerts: usize,
    pub incidents: usize,
    pub notifications: usize,
    /// 1 - notifications / alerts
    pub reduction: f64,
    /// None, as the three that follow, where the file knows of no true incident: nothing could be missed, and
    /// nothing found.
    pub truth_recall: Option<f64>,
    pub truth_recall_strict: Option<f64>,
    /// Share of the alerts of incidents that belong to the truth which owns most of their incident; none
    /// without incidents, too.
    pub purity: Option<f64>,
    /// Over the alerts that have a truth; one that is in no incident is a group of its own.
    pub ari: Option<f64>,
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
    let share = |count: usize, of: usize| (of > 0).then(|| count as f64 / of as f64);
    Report {
        alerts: cases.len(),
        incidents: shares.len(),
        notifications: run.notifications,
        reduction: share(run.notifications, cases.len()).map_or(0.0, |told| 1.0 - told),
        truth_recall: share(seen.len(), names.len()),
        truth_recall_strict: share(owned.len(), names.len()),
        purity: share(right, all).filter(|_| !names.is_empty()),
        ari: (!pairs.is_empty()).then(|| agreement::adjusted_rand(&pairs)),
        severity_agreement: severity_agreement(cases, run, &shares),
        alerts_per_s: (cases.len() as f64 / run.seconds.max(1e-9)).round(),
        alertmanager_notifications: alertmanager(cases, &run.timeline, &["alertname", "cluster", "service"]),
        alertmanager_coarse_notifications: alertmanager(cases, &run.timeline, &["alertname"]),
        verdicts: vec![],
        severities: vec![],
    }
}

#[cfg(test)]
mod tests;
