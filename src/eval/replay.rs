//! The same history under two configurations: what would differ, before anybody changes a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::telling::Digest;
use super::triage::{Case, Run, run};
use crate::domain::intake::{Mappings, take_bytes};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::Rules;

#[derive(Debug, Serialize)]
pub struct Report {
    pub alerts: usize,
    pub a: Totals,
    pub b: Totals,
    /// Verdicts that differ, as `what A did -> what B did`, with how many alerts and the first few.
    pub changed: Vec<Changed>,
    /// Incidents that A tells of and whose alerts B never tells of in any incident.
    pub only_a: Vec<Told>,
    pub only_b: Vec<Told>,
}

#[derive(Debug, Serialize)]
pub struct Totals {
    pub incidents: usize,
    pub notifications: usize,
    pub suppressed: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
pub struct Changed {
    pub from: String,
    pub to: String,
    pub alerts: usize,
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    pub line: usize,
    pub alertname: String,
    pub subject: String,
    pub a: String,
    pub b: String,
}

#[derive(Debug, Serialize)]
pub struct Told {
    pub incident: String,
    pub alerts: usize,
    pub subjects: BTreeSet<String>,
}

const EXAMPLES: usize = 3;

/// What a configuration decides by, and what it tells together.
pub type Setting = (Rules, Option<Digest>);

/// The alerts of messages in the order of their arrival, and how many messages held none.
pub fn from_messages<'a>(
    messages: impl Iterator<Item = (Timestamp, &'a [u8])>,
    mappings: &Mappings,
) -> (Vec<Case>, usize) {
    let (mut cases, mut unreadable): (Vec<Case>, usize) = (vec![], 0);
    for (arrived_at, payload) in messages {
        match take_bytes(payload, mappings, arrived_at) {
            Ok(taken) => {
                let at = cases.last().map_or(arrived_at, |last| last.at.max(arrived_at));
                for alert in taken.alerts {
                    let line = cases.len() + 1;
                    cases.push(Case { alert, truth: None, severity_truth: None, at, line });
                }
            }
            Err(_) => unreadable += 1,
        }
    }
    (cases, unreadable)
}

pub fn compare(cases: &[Case], topology: &Arc<Topology>, a: Setting, b: Setting) -> Report {
    let (a, b) = (run(cases, topology, a.0, a.1), run(cases, topology, b.0, b.1));
    let mut changed: BTreeMap<(String, String), (usize, Vec<Example>)> = BTreeMap::new();
    for (one, other) in a.verdicts.iter().zip(&b.verdicts) {
        let (from, to) = (kind(one.verdict, &one.reason), kind(other.verdict, &other.reason));
        if from == to {
            continue;
        }
        let entry = changed.entry((from, to)).or_default();
        entry.0 += 1;
        if entry.1.len() < EXAMPLES {
            entry.1.push(Example {
                line: one.line,
                alertname: one.alertname.clone(),
                subject: one.subject.clone(),
                a: one.reason.clone(),
                b: other.reason.clone(),
            });
        }
    }
    let mut changed: Vec<Changed> =
        changed.into_iter().map(|((from, to), (alerts, examples))| Changed { from, to, alerts, examples }).collect();
    changed.sort_by_key(|one| std::cmp::Reverse(one.alerts));
    Report {
        alerts: cases.len(),
        only_a: missing(&a, &b),
        only_b: missing(&b, &a),
        a: totals(&a),
        b: totals(&b),
        changed,
    }
}

/// `suppress duplicate`, `join`, ...: a join into another incident is no other kind.
fn kind(verdict: &str, reason: &str) -> String {
    match verdict {
        "suppress" => format!("suppress {}", reason.split(':').next().unwrap_or_default()),
        verdict => verdict.to_owned(),
    }
}

fn totals(run: &Run) -> Totals {
    let mut suppressed = BTreeMap::new();
    for verdict in run.verdicts.iter().filter(|verdict| verdict.verdict == "suppress") {
        *suppressed.entry(verdict.reason.split(':').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    let incidents: BTreeSet<_> = run.incident_of.iter().flatten().collect();
    Totals { incidents: incidents.len(), notifications: run.notifications, suppressed }
}

fn missing(of: &Run, other: &Run) -> Vec<Told> {
    let mut told: BTreeMap<String, (usize, BTreeSet<String>, bool)> = BTreeMap::new();
    for (number, incident) in of.incident_of.iter().enumerate() {
        let Some(incident) = incident else { continue };
        let entry = told.entry(incident.to_string()).or_default();
        entry.0 += 1;
        entry.1.insert(of.verdicts[number].subject.clone());
        entry.2 |= other.incident_of[number].is_some();
    }
    told.into_iter()
        .filter(|(_, (_, _, elsewhere))| !elsewhere)
        .map(|(incident, (alerts, subjects, _))| Told { incident, alerts, subjects })
        .collect()
}
