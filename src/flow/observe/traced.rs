//! What requests that went through the estate say: where they fail, where they take longer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Dossier, Exhibit};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::incident::Incident;
use crate::domain::root_cause::{Picture, Witness};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::trace::{Blame, Trace, blames};
use crate::ports::{Outcomes, SignalError, TraceQuery, Traces};

/// Services that are asked about, those first that others depend on least: through them goes what people
/// ask for, and their traces reach down to the rest.
const ASKED: usize = 3;
/// Requests of one answer.
const READ: usize = 40;
/// Requests from a little before the first alert count as of the incident: alerts come late.
const BEFORE: Duration = Duration::from_secs(180);
/// What is usual is read from so long before, with a gap.
const USUAL: Duration = Duration::from_secs(3600);
const GAP: Duration = Duration::from_secs(900);
/// Blames that are worth a line.
const TOLD: usize = 10;

/// What was found about the subjects of an incident.
pub(super) struct Traced {
    source: &'static str,
    asked: Vec<String>,
    start: Timestamp,
    now: Vec<Trace>,
    usual: Vec<Trace>,
}

impl Traced {
    pub(super) async fn by(
        traces: &dyn Traces,
        incident: &Incident,
        alerts: &BTreeMap<String, (Timestamp, usize)>,
        topology: &Topology,
        event_now: Timestamp,
    ) -> Result<Self, (&'static str, SignalError)> {
        let mut subjects: Vec<(usize, &String)> = (alerts.keys())
            .filter(|node| topology.contains(node))
            .map(|node| (topology.blast_radius(node).len(), node))
            .collect();
        subjects.sort();
        let start = incident.since - BEFORE;
        let mut traced = Self { source: traces.name(), asked: vec![], start, now: vec![], usual: vec![] };
        for (_, service) in subjects.into_iter().take(ASKED) {
            match of(traces, service, start, event_now).await {
                Ok((found, before)) => {
                    traced.asked.push(service.clone());
                    add(&mut traced.now, found);
                    add(&mut traced.usual, before);
                }
                Err(error) => return Err((traced.source, error)),
            }
        }
        Ok(traced)
    }

    pub(super) fn note(self, event_now: Timestamp, dossier: &mut Dossier, picture: &mut Picture) {
        let Self { source, asked, start, now, usual } = self;
        let blames: Vec<Blame> =
            blames(&now, &usual).into_iter().filter(|one| one.share() > 0.0 || one.passed() > 0.0).collect();
        let Some(first) = blames.first() else { return };
        let query = format!("traces of {}, {} to {}", asked.join(", "), start.hour_minute(), event_now.hour_minute());
        let summary = format!("{} requests, {} usual ones before: {}", now.len(), usual.len(), line(first));
        let body: Vec<String> = blames.iter().take(TOLD).map(line).collect();
        let exhibit = Exhibit {
            kind: EvidenceKind::Trace,
            source,
            query: &query,
            summary,
            body: body.join("\n"),
            series: vec![],
            // Applications write spans, names and messages.
            taint: Taint::UserWritable,
        };
        let evidence = dossier.add(exhibit, event_now);
        picture.witnesses =
            blames.into_iter().map(|blame| Witness { blame, evidence: Some(evidence.clone()) }).collect();
    }
}

/// One request may have passed through several services that were asked about.
fn add(all: &mut Vec<Trace>, found: Vec<Trace>) {
    for one in found {
        if !all.iter().any(|other| other.id == one.id) {
            all.push(one);
        }
    }
}

/// Failing and other requests since `start`, and usual ones.
async fn of(
    traces: &dyn Traces,
    service: &str,
    start: Timestamp,
    end: Timestamp,
) -> Result<(Vec<Trace>, Vec<Trace>), SignalError> {
    let any = TraceQuery {
        service: service.to_owned(),
        operation: None,
        outcomes: Outcomes::Any,
        longer_than: None,
        start,
        end,
        limit: READ,
    };
    let failing = TraceQuery { outcomes: Outcomes::Failing, ..any.clone() };
    let before = TraceQuery { start: start - GAP - USUAL, end: start - GAP, ..any.clone() };
    let (any, failing, before) = futures::join!(traces.search(&any), traces.search(&failing), traces.search(&before));
    let mut now = any?;
    for trace in failing? {
        if !now.iter().any(|other| other.id == trace.id) {
            now.push(trace);
        }
    }
    Ok((now, before.unwrap_or_default()))
}

fn line(blame: &Blame) -> String {
    let Blame { node, begins, passes, failing, added_us, added_in_all_us } = blame;
    let mut parts = vec![];
    if *failing > 0 {
        parts.push(format!("{begins} of {failing} failing requests begin to fail there, {passes} only pass through"));
    }
    if *added_us > 0 {
        parts.push(format!("{} of {} ms a request were added there", added_us / 1000, added_in_all_us / 1000));
    }
    format!("{node}: {}", parts.join("; "))
}
