//! Looks at the estate around an incident and writes down what it saw as evidence.
//!
//! Every answer is stored whole with its digest; readings and signs point to it.

mod changes;
mod cluster;
mod logs;
mod sign;
mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use futures::{FutureExt, StreamExt};
use tracing::warn;

use super::desk::Desk;
use super::live::say;
use super::reach;
use crate::config::Signals as SignalsConfig;
use crate::domain::alert::is_measurer;
use crate::domain::change::Unread;
use crate::domain::evidence::{Evidence, EvidenceKind, Series, Taint};
use crate::domain::id::{Digest, EvidenceId, IncidentId};
use crate::domain::incident::Incident;
use crate::domain::redact::redact;
use crate::domain::root_cause::{EdgeReading, Gauge, Picture, Reading, Worse, amount, read};
use crate::domain::signal_scope::{NotScoped, SignalScope};
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, Topology};
use crate::ports::{SignalError, Signals, Warned, Window};
pub use changes::recent_changes;
use changes::{COUNT_FOR, Known};
use cluster::{Looked, cluster_signs};
use logs::{heard_before, log_signs};
use sign::note_name_server;
use traced::Traced;

/// Evidence in the making, numbered behind what the incident has.
pub struct Dossier {
    incident: IncidentId,
    next: usize,
    pub evidence: Vec<Evidence>,
    /// What was asked for and not answered: kind, source and the reason.
    unread: Vec<(EvidenceKind, &'static str, String)>,
}

pub struct Exhibit<'a> {
    pub kind: EvidenceKind,
    pub source: &'a str,
    pub query: &'a str,
    pub summary: String,
    pub body: String,
    pub series: Vec<Series>,
    pub taint: Taint,
}

impl Dossier {
    pub fn new(incident: &Incident) -> Self {
        Self { incident: incident.id.clone(), next: incident.evidence.len() + 1, evidence: vec![], unread: vec![] }
    }

    /// Where evidence belongs to no incident.
    pub fn behind(id: &IncidentId, already: usize) -> Self {
        Self { incident: id.clone(), next: already + 1, evidence: vec![], unread: vec![] }
    }

    /// What a tool has seen.
    pub fn add_seen(&mut self, seen: crate::tools::Draft, event_at: Timestamp) -> EvidenceId {
        let exhibit = Exhibit {
            kind: seen.kind,
            source: seen.source,
            query: &seen.query,
            summary: seen.summary,
            body: seen.body,
            series: seen.series,
            taint: seen.taint,
        };
        match seen.found {
            true => self.add(exhibit, event_at),
            false => self.add_empty(exhibit, event_at),
        }
    }

    /// What was asked for and answered with nothing.
    fn add_empty(&mut self, exhibit: Exhibit<'_>, event_at: Timestamp) -> EvidenceId {
        let id = self.add(exhibit, event_at);
        self.evidence.iter_mut().filter(|one| one.id == id).for_each(|one| one.found = false);
        id
    }

    /// Somebody did not answer. What was not seen is neither well nor ill.
    fn unread(&mut self, kind: EvidenceKind, source: &'static str, what: &str, error: &impl std::fmt::Display) {
        warn!(incident = %self.incident, source, what, %error, "the estate could not be read");
        self.unread.push((kind, source, format!("{what} could not be read: {error}")));
    }

    /// Says so as evidence, one for each source, for whoever asks why something was not considered.
    fn note_unread(&mut self, event_at: Timestamp) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_by_key(|(_, source, _)| *source);
        for same in unread.chunk_by(|one, other| one.1 == other.1) {
            let body: Vec<&str> = same.iter().map(|(.., text)| text.as_str()).collect();
            let exhibit = Exhibit {
                kind: same[0].0,
                source: same[0].1,
                query: "what was asked for and not answered",
                summary: body[0].to_owned(),
                body: body.join("\n"),
                series: vec![],
                // Whoever refuses chooses the words.
                taint: Taint::UserWritable,
            };
            self.add_empty(exhibit, event_at);
        }
    }

    pub fn add(&mut self, exhibit: Exhibit<'_>, event_at: Timestamp) -> EvidenceId {
        let id = self.incident.evidence(self.next);
        self.next += 1;
        let body = redact(&exhibit.body);
        self.evidence.push(Evidence {
            id: id.clone(),
            incident: self.incident.clone(),
            kind: exhibit.kind,
            source: exhibit.source.to_owned(),
            query: exhibit.query.to_owned(),
            summary: redact(&exhibit.summary),
            digest: Digest::of(body.as_bytes()),
            body,
            series: exhibit.series,
            observed_at: event_at,
            taint: exhibit.taint,
            found: true,
        });
        id
    }
}

const RECENT: Duration = Duration::from_secs(75 * 60);
const STEP: Duration = Duration::from_secs(30);
/// Points of a series around an incident: half a day at the finest step.
const POINTS: u64 = 1_440;
const BASELINE_STEP: Duration = Duration::from_secs(15 * 60);
/// The hour before the window stays out of the baseline: it may already be the beginning.
const GAP: Duration = Duration::from_secs(3600);

/// Everything that the ranking needs, and the evidence for it.
pub async fn picture(desk: &Desk, incident: &Incident, dossier: &mut Dossier) -> Picture {
    let event_now = desk.clock.event_now();
    let topology = desk.topology().await;
    let mut picture = Picture {
        topology: (*topology).clone(),
        since: incident.since,
        alerts: first_alerts(incident),
        ..Picture::default()
    };
    picture.alerts_evidence = Some(alerts_evidence(incident, dossier, event_now));
    say("Reading signals and traces, and looking at the cluster and its changes.");
    let alerts = picture.alerts.clone();
    let unseen = reach::out_of_sight(desk, incident);
    let scope = reach::scope(desk, incident);
    let cluster = desk.cluster.as_ref().filter(|_| unseen.is_none());
    // All answer at their own pace; what was seen is noted in one order, so that evidence is numbered
    // alike in every run.
    let (_, looked, changes, traced) = futures::join!(
        async {
            if let (Some(signals), Some(config)) = (&desk.signals, &desk.config.signals) {
                let config = Scoped { config, scope: &scope };
                measure(signals.as_ref(), config, incident, event_now, dossier, &mut picture).await;
            }
        },
        OptionFuture::from(cluster.map(|cluster| Looked::at(cluster.as_ref()))),
        Known::of(desk, cluster.map(AsRef::as_ref), event_now - COUNT_FOR),
        OptionFuture::from(desk.traces.as_ref().map(|traces| Traced::by(
            traces.as_ref(),
            incident,
            &alerts,
            &topology,
            event_now
        ))),
    );
    if let Some(looked) = looked {
        cluster_signs(looked, incident, event_now, dossier, &mut picture);
    }
    if let Some(why) = &unseen {
        let what = format!("the cluster {}", incident.cluster);
        dossier.unread(EvidenceKind::Kubernetes, "kubernetes", &what, why);
        picture.unread_changes.push(Unread::of_all(&format!("what was rolled out in {what}"), why));
    }
    changes.note(event_now, dossier, &mut picture);
    topology_evidence(event_now, dossier, &mut picture);
    if let (Some(signals), Some(config)) = (&desk.signals, &desk.config.signals) {
        say("Reading logs.");
        let config = Scoped { config, scope: &scope };
        log_signs(signals.as_ref(), config, incident, event_now, dossier, &mut picture).await;
        heard_before(desk, incident, &scope, event_now, dossier, &mut picture);
    }
    match traced {
        Some(Ok(traced)) => traced.note(event_now, dossier, &mut picture),
        Some(Err((source, error))) => dossier.unread(EvidenceKind::Trace, source, "the traces", &error),
        None => {}
    }
    if let Some(cluster) = cluster {
        note_name_server(cluster.as_ref(), dossier, &mut picture).await;
    }
    dossier.note_unread(event_now);
    picture
}

fn first_alerts(incident: &Incident) -> BTreeMap<String, (Timestamp, usize)> {
    let mut first: BTreeMap<String, (Timestamp, usize)> = BTreeMap::new();
    for group in incident.alerts.values() {
        let entry = first.entry(group.subject.clone()).or_insert((group.first_at, 0));
        entry.0 = entry.0.min(group.first_at);
        entry.1 += group.count;
    }
    first
}

fn alerts_evidence(incident: &Incident, dossier: &mut Dossier, event_now: Timestamp) -> EvidenceId {
    let mut groups: Vec<_> = incident.alerts.values().collect();
    groups.sort_by_key(|group| (group.first_at, group.name.clone()));
    let body = groups
        .iter()
        .map(|group| {
            format!("{} {} {} x{} {}", group.first_at, group.severity.as_str(), group.name, group.count, group.subject)
        })
        .collect::<Vec<_>>()
        .join("\n");
    let summary = format!(
        "{} alerts about {} subjects, the first at {}",
        incident.alert_count(),
        incident.subjects().len(),
        incident.since.clock_time()
    );
    let exhibit = Exhibit {
        kind: EvidenceKind::Alert,
        source: "ledger",
        query: incident.id.as_str(),
        summary,
        body,
        series: vec![],
        taint: Taint::UserWritable,
    };
    dossier.add(exhibit, event_now)
}

/// What is asked, and of which clusters.
#[derive(Clone, Copy)]
struct Scoped<'a> {
    config: &'a SignalsConfig,
    scope: &'a SignalScope,
}

async fn measure(
    signals: &dyn Signals,
    Scoped { config, scope }: Scoped<'_>,
    incident: &Incident,
    event_now: Timestamp,
    dossier: &mut Dossier,
    picture: &mut Picture,
) {
    let start = (incident.since - RECENT).min(event_now - RECENT);
    // What began days ago is read more coarsely: Prometheus refuses more than 11,000 points a series.
    let span = event_now.since(start);
    let step = STEP * u32::try_from(span.as_secs() / (STEP.as_secs() * POINTS)).unwrap_or(u32::MAX).saturating_add(1);
    let recent = Window { start, end: event_now, step };
    let past = Window {
        start: start - Duration::from_secs(config.baseline_days * 86_400),
        end: start - GAP,
        step: BASELINE_STEP,
    };
    let queries: Vec<(&str, Result<String, NotScoped>)> = config
        .query
        .iter()
        .map(|query| (query.name.as_str(), &query.promql))
        .chain(config.edges.iter().map(|edge| (edge.name.as_str(), &edge.promql)))
        .map(|(name, promql)| (name, scope.promql(promql)))
        .collect();
    type Usual = Result<Vec<Series>, SignalError>;
    type Answer = (Result<Warned, SignalError>, Usual);
    let asked: Vec<BoxFuture<'_, Answer>> = queries
        .iter()
        .map(|(_, promql)| {
            async move {
                match promql {
                    Ok(promql) => futures::join!(signals.range_warned(promql, recent), signals.range(promql, past)),
                    Err(refused) => (Err(refused.clone().into()), Ok(vec![])),
                }
            }
            .boxed()
        })
        .collect();
    let answered: Vec<Answer> = futures::stream::iter(asked).buffered(4).collect().await;
    let mut answers: BTreeMap<usize, (String, Vec<Series>, Vec<Series>)> = BTreeMap::new();
    for (at, ((name, promql), (now, before))) in queries.into_iter().zip(answered).enumerate() {
        let mut unread = |what: &str, error| {
            dossier.unread(EvidenceKind::Metric, "prometheus", &format!("{what}{}", name.replace('_', " ")), &error);
        };
        let (Ok(promql), Ok(now)) = (promql, now.map_err(|error| unread("", error))) else { continue };
        let before = before.map_err(|error| unread("the usual ", error)).unwrap_or_default();
        if let Some(warning) = now.warnings.first() {
            unread("a part of ", SignalError::Unavailable(warning.clone()));
        }
        answers.insert(at, (promql, now.series, before));
    }
    for (at, query) in config.query.iter().enumerate() {
        let Some((promql, now, before)) = answers.remove(&at) else { continue };
        let gauge = Gauge { floor: query.floor, worse: query.worse, limit: query.limit };
        let readings = readings(&now, &before, gauge, |series| node_of(series, &query.label));
        let odd: Vec<_> = readings.iter().filter(|reading| reading.3 >= 1.0).collect();
        let evidence = (!odd.is_empty()).then(|| {
            let names: BTreeSet<&str> = odd.iter().map(|reading| reading.0.as_str()).collect();
            let kept: Vec<Series> =
                now.iter().filter(|one| one.label(&query.label).is_some_and(|n| names.contains(n))).cloned().collect();
            let lines: Vec<String> = odd
                .iter()
                .map(|(node, baseline, worst, deviation, onset)| {
                    format!(
                        "{node} {}: {} (usual {}), {deviation:.1} deviations, since {}",
                        query.name,
                        amount(*worst, &query.unit),
                        amount(baseline.median, &query.unit),
                        onset.map_or_else(|| "?".into(), Timestamp::clock_time)
                    )
                })
                .collect();
            dossier.add(
                Exhibit {
                    kind: EvidenceKind::Metric,
                    source: "prometheus",
                    query: &promql,
                    summary: format!(
                        "{}: {}",
                        query.name.replace('_', " "),
                        lines.first().cloned().unwrap_or_default()
                    ),
                    body: lines.join("\n"),
                    series: kept,
                    taint: Taint::Observed,
                },
                event_now,
            )
        });
        picture.readings.extend(readings.into_iter().map(|(node, baseline, worst, deviation, onset)| Reading {
            evidence: if deviation >= 1.0 { evidence.clone() } else { None },
            node,
            signal: query.name.clone(),
            class: query.class,
            unit: query.unit.clone(),
            baseline,
            worst,
            deviation,
            onset,
            alike: None,
        }));
    }
    for (offset, query) in config.edges.iter().enumerate() {
        let Some((promql, now, before)) = answers.remove(&(config.query.len() + offset)) else { continue };
        let gauge = Gauge { floor: query.floor, worse: Worse::Higher, limit: None };
        let name = |series: &Series| Some(format!("{}\u{1f}{}", series.label("client")?, series.label("server")?));
        let readings = readings(&now, &before, gauge, name);
        let odd: Vec<_> = readings.into_iter().filter(|reading| reading.3 >= 1.0).collect();
        if odd.is_empty() {
            continue;
        }
        let lines: Vec<String> = odd
            .iter()
            .map(|(edge, baseline, worst, deviation, onset)| {
                format!(
                    "{}: {} {} (usual {}), {deviation:.1} deviations, since {}",
                    edge.replace('\u{1f}', " to "),
                    query.name,
                    amount(*worst, &query.unit),
                    amount(baseline.median, &query.unit),
                    onset.map_or_else(|| "?".into(), Timestamp::clock_time)
                )
            })
            .collect();
        let keys: BTreeSet<&str> = odd.iter().map(|reading| reading.0.as_str()).collect();
        let kept = now.iter().filter(|one| name(one).is_some_and(|key| keys.contains(key.as_str()))).cloned().collect();
        let evidence = dossier.add(
            Exhibit {
                kind: EvidenceKind::Metric,
                source: "prometheus",
                query: &promql,
                summary: format!("{}: {} of the call edges deviate", query.name.replace('_', " "), odd.len()),
                body: lines.join("\n"),
                series: kept,
                taint: Taint::Observed,
            },
            event_now,
        );
        picture.edges.extend(odd.into_iter().filter_map(|(edge, baseline, worst, deviation, onset)| {
            let (client, server) = edge.split_once('\u{1f}')?;
            Some(EdgeReading {
                client: client.into(),
                server: server.into(),
                signal: query.name.clone(),
                worst,
                usual: baseline.median,
                deviation,
                onset,
                evidence: Some(evidence.clone()),
            })
        }));
    }
}

type Read = (String, crate::domain::anomaly::Baseline, f64, f64, Option<Timestamp>);

/// What a series is about. Where an operator has relabelled it with the Service of the exporter, it says who
/// has measured and not what: nobody is to blame by that name.
fn node_of(series: &Series, label: &str) -> Option<String> {
    series.label(label).filter(|node| !node.is_empty() && !is_measurer(node)).map(str::to_owned)
}

fn readings(now: &[Series], before: &[Series], gauge: Gauge, name: impl Fn(&Series) -> Option<String>) -> Vec<Read> {
    let mut past: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for series in before {
        if let Some(name) = name(series) {
            past.entry(name).or_default().extend(series.values());
        }
    }
    now.iter()
        .filter_map(|series| {
            let name = name(series)?;
            let before = past.get(&name).map_or(&[][..], Vec::as_slice);
            let (baseline, worst, deviation, onset) = read(before, &series.points, gauge)?;
            Some((name, baseline, worst, deviation, onset))
        })
        .collect()
}

fn topology_evidence(event_now: Timestamp, dossier: &mut Dossier, picture: &mut Picture) {
    if picture.topology.is_empty() {
        return;
    }
    let body: Vec<String> = picture
        .topology
        .edges()
        .filter(|(_, _, kind)| *kind == EdgeKind::Calls)
        .map(|(from, to, _)| format!("{from} calls {to}{}", seen(&picture.topology, from, to, event_now)))
        .collect();
    let exhibit = Exhibit {
        kind: EvidenceKind::Topology,
        source: "topology",
        query: "calls in the service graph and in traces",
        summary: format!("{} nodes, {} call edges", picture.topology.nodes().count(), body.len()),
        body: body.join("\n"),
        series: vec![],
        taint: Taint::Observed,
    };
    picture.topology_evidence = Some(dossier.add(exhibit, event_now));
}

/// Said of calls that were not seen lately.
fn seen(topology: &Topology, from: &str, to: &str, event_now: Timestamp) -> String {
    let stale = topology.last_seen(from, to).filter(|at| event_now.since(*at) > Duration::from_secs(600));
    stale.map(|at| format!(" (last seen {})", at.hour_minute())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_measures_is_not_taken_for_what_is_measured() {
        let rising = |service: &str| Series {
            labels: [("service".to_owned(), service.to_owned())].into_iter().collect(),
            points: (0..60).map(|at| (Timestamp::from_secs(at * 30), if at < 40 { 0.0 } else { 9.0 })).collect(),
        };
        // As kube-prometheus-stack labels what kube-state-metrics, cAdvisor and the node exporter say.
        let names =
            ["mon-kube-state-metrics", "mon-kube-prometheus-kubelet", "mon-prometheus-node-exporter", "", "cart"];
        let now: Vec<Series> = names.into_iter().map(rising).collect();
        let gauge = Gauge { floor: 1.0, worse: Worse::Higher, limit: None };
        let found = readings(&now, &[], gauge, |series| node_of(series, "service"));
        assert_eq!(found.iter().map(|reading| reading.0.as_str()).collect::<Vec<_>>(), ["cart"]);
    }
}
