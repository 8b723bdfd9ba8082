//! What the console's pages show, derived from the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use async_trait::async_trait;

use crate::adapters::paint;
use crate::console::view::{
    AlertRow, Candidate, ChangeMark, Confidence, Edge, EvidenceItem, Fact, Funnel, FunnelStage, IncidentPage,
    IncidentRow, LeftOut, Node, NodeState, PlanView, Reasoned, Reasoning, RootCause, Series, StatusView, TimelineItem,
    Topology, TranscriptStep,
};
use crate::console::{ConsoleStore, Metric, Pages, StoredMessage, funnel_svg, metric_svg, topology_svg};
use crate::domain::action::Undo;
use crate::domain::card::Span;
use crate::domain::command::Hint;
use crate::domain::diagnosis::{Claim, Diagnosis, Proof};
use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::funnel as domain;
use crate::domain::id::IncidentId;
use crate::domain::incident::{AlertGroup, Incident, IncidentEvent, Outcome, State};
use crate::domain::narrative;
use crate::domain::time::Timestamp;
use crate::domain::topology::{EdgeKind, NodeKind};
use crate::flow::report::{self, Report};
use crate::flow::timeline::tell_event;
use crate::flow::{Desk, label};
use crate::ports::{Artist, Drawing, MessageRef, Picture};
use crate::store::{Ended, LedgerView, ListedIncident, Store};

/// What the diagnosis rests on, claim by claim, and what was set aside.
fn reasoning(diagnosis: &Diagnosis) -> Reasoning {
    let marks = |claim: &Claim| claim.evidence.iter().map(|id| id.mark().to_owned()).collect::<Vec<_>>().join(", ");
    let places = |at: usize, claim: &Claim| {
        let place = |proof: &Proof| match (proof.from_line, proof.to_line) {
            (from, to) if from == to => format!("{} line {from}", proof.evidence.mark()),
            (from, to) => format!("{} lines {from}-{to}", proof.evidence.mark()),
        };
        let found: Vec<String> = diagnosis.proofs.iter().filter(|proof| proof.claim == at).map(place).collect();
        if found.is_empty() { marks(claim) } else { found.join(", ") }
    };
    let said = |text: &str, note: String| Reasoned { text: text.to_owned(), note };
    Reasoning {
        reasoner: diagnosis.reasoner.clone(),
        claims: diagnosis.claims.iter().enumerate().map(|(at, one)| said(&one.text, places(at, one))).collect(),
        ruled_out: diagnosis.ruled_out.iter().map(|one| said(&one.text, marks(one))).collect(),
        dropped: diagnosis.dropped.iter().map(|one| said(&one.text, one.why.clone())).collect(),
        needs: diagnosis.needs.clone(),
    }
}

/// The console's messages in the SQL store.
pub struct ConsoleMessages {
    pub store: Arc<Store>,
}

#[async_trait]
impl ConsoleStore for ConsoleMessages {
    async fn save_message(&self, message: &StoredMessage) -> anyhow::Result<()> {
        let body = serde_json::to_string(message)?;
        Ok(self.store.save_message(&message.channel, &message.ts, &body).await?)
    }

    async fn newest_messages(&self, most: usize) -> anyhow::Result<(Vec<StoredMessage>, i64)> {
        // First: what is written in between is read again, not missed.
        let written = self.store.last_message_write().await?;
        let newest = self.store.newest_messages(i64::try_from(most)?).await?;
        let messages = newest.iter().map(|body| Ok(serde_json::from_str(body)?)).collect::<anyhow::Result<_>>()?;
        Ok((messages, written))
    }

    async fn messages_from(&self, written: i64) -> anyhow::Result<Vec<(StoredMessage, i64)>> {
        let bodies = self.store.messages_from(written).await?;
        let messages = bodies.into_iter().map(|(body, written)| Ok((serde_json::from_str(&body)?, written)));
        messages.collect()
    }
}

/// Incidents that are over in the page's list, the newest.
const MOST_OVER: i64 = 200;
/// Rows of the ledger that are looked through for the verdicts of an incident's alerts, the newest.
const MOST_VERDICTS: i64 = 2_000;

/// The newest word of the ledger on each name and subject of an incident.
struct Verdicts<'a>(HashMap<(&'a str, &'a str), &'a LedgerView>);

impl<'a> Verdicts<'a> {
    /// `rows`: newest first.
    fn of(id: &IncidentId, rows: &'a [LedgerView]) -> Self {
        let mut newest = HashMap::new();
        for row in rows.iter().filter(|row| row.incident.as_deref() == Some(id.as_str())) {
            newest.entry((row.name.as_str(), row.subject.as_str())).or_insert(row);
        }
        Self(newest)
    }

    fn get(&self, group: &AlertGroup) -> Option<&LedgerView> {
        self.0.get(&(group.name.as_str(), group.subject.as_str())).copied()
    }

    fn word(&self, group: &AlertGroup) -> String {
        let Some(row) = self.get(group) else { return "joined".into() };
        match (row.verdict.as_str(), row.reason.as_str()) {
            ("suppress", _) => "muted".into(),
            ("resolve", _) => "resolved".into(),
            ("admit", "opened") => "opened".into(),
            // It waited, and was joined when it had company.
            ("admit", _) => "joined".into(),
            (other, _) => other.into(),
        }
    }

    fn reason(&self, group: &AlertGroup, is_over: bool) -> String {
        // What ends after its incident is no news of it.
        let firing = match (group.count.saturating_sub(group.resolved), is_over) {
            (firing, false) => format!("{firing} still firing"),
            (0, true) => "ended".to_owned(),
            (firing, true) => format!("{firing} fired when it was over"),
        };
        match self.get(group).map(|row| row.explanation.as_str()) {
            Some(why) if !why.is_empty() => format!("{why}; {firing}"),
            Some(_) | None => firing,
        }
    }
}

pub struct DeskPages {
    pub desk: Arc<Desk>,
}

#[async_trait]
impl Pages for DeskPages {
    async fn hints(&self, text: &str) -> Vec<Hint> {
        crate::flow::command::hints(&self.desk, text).await.unwrap_or_else(|failure| {
            tracing::warn!(error = %failure, "commands are typed without hints");
            vec![]
        })
    }

    async fn incidents(&self) -> anyhow::Result<Vec<IncidentRow>> {
        let listed = self.desk.store.listed_incidents(Ended::NotMerged, MOST_OVER).await?;
        Ok(listed.iter().map(listed_row).collect())
    }

    async fn incident(&self, id: &str) -> anyhow::Result<Option<IncidentPage>> {
        let Some(id) = IncidentId::parse(id) else { return Ok(None) };
        let Some(incident) = self.desk.store.incident(&id).await? else { return Ok(None) };
        let evidence = self.desk.store.evidence_of(&id).await?;
        let events = self.desk.store.events(&id).await?;
        let mut timeline = vec![];
        let mut transcript = vec![];
        for row in &events {
            let Ok(event) = serde_json::from_str::<IncidentEvent>(&row.body) else { continue };
            let at = Timestamp::from_millis(row.at);
            if let IncidentEvent::Reasoned { step } = &event {
                transcript.push(TranscriptStep {
                    step: step.number,
                    who: step.who.clone().unwrap_or_default(),
                    cost: step.cost,
                    thought: step.thought.clone(),
                    tool: step.tool.clone().unwrap_or_default(),
                    arguments: step.arguments.clone().unwrap_or_default(),
                    evidence: step.evidence.as_ref().map(ToString::to_string),
                    ms: step.ms,
                    tokens: step.tokens,
                    ..TranscriptStep::default()
                });
            }
            if let Some(text) = tell_event(&event) {
                let cited = match &event {
                    IncidentEvent::EvidenceStored { evidence, .. } => vec![evidence.to_string()],
                    IncidentEvent::Diagnosed { diagnosis } => diagnosis
                        .claims
                        .iter()
                        .flat_map(|claim| claim.evidence.iter().map(ToString::to_string))
                        .collect(),
                    _ => vec![],
                };
                timeline.push(TimelineItem {
                    at,
                    kind: row.kind.clone(),
                    text,
                    evidence: cited,
                    ..TimelineItem::default()
                });
            }
        }
        let diagnosis = incident.diagnosis.as_ref();
        let marks = marks(&incident);
        let ledger = self.desk.store.ledger_of(id.as_str(), MOST_VERDICTS).await?;
        let verdicts = Verdicts::of(&id, &ledger);
        let root = self.desk.store.posted(&format!("{id}/root@console")).await?;
        Ok(Some(IncidentPage {
            row: row(&incident, root),
            owner: incident.owner.as_ref().map(|owner| match incident.handed {
                None => owner.clone(),
                Some(_) => format!("{owner}, who has not accepted it yet"),
            }),
            confidence: diagnosis
                .map(|diagnosis| Confidence { word: diagnosis.verdict.word().into(), number: diagnosis.confidence }),
            root_cause: diagnosis.and_then(|diagnosis| {
                Some(RootCause { service: diagnosis.service.clone()?, change: diagnosis.change.clone() })
            }),
            summary: summary(&incident),
            reasoning: diagnosis.map(reasoning),
            timeline,
            candidates: incident
                .candidates
                .iter()
                .enumerate()
                .map(|(at, candidate)| Candidate {
                    rank: at + 1,
                    node: candidate.node.clone(),
                    score: candidate.score,
                    supports: candidate.supports.iter().map(|claim| claim.text.clone()).collect(),
                    against: candidate.contradicts.iter().map(|claim| claim.text.clone()).collect(),
                })
                .collect(),
            evidence: evidence.iter().map(|one| item(one, &marks)).collect(),
            alerts: incident
                .alerts
                .values()
                .map(|group| AlertRow {
                    name: group.name.clone(),
                    subject: group.subject.clone(),
                    severity: group.severity.as_str().into(),
                    count: group.count,
                    first_at: group.first_at,
                    last_at: group.last_at,
                    verdict: verdicts.word(group),
                    reason: verdicts.reason(group, incident.state.is_over()),
                })
                .collect(),
            plan: incident.plans.last().map(plan_view),
            topology: self.graph(&incident).await,
            transcript,
            post_mortem: incident.post_mortem.clone(),
            funnel: None,
        }))
    }

    async fn evidence(&self, id: &str) -> anyhow::Result<Option<EvidenceItem>> {
        let Some(evidence) = self.desk.store.evidence(id).await? else { return Ok(None) };
        let incident = self.desk.store.incident(&evidence.incident).await?;
        Ok(incident.map(|incident| item(&evidence, &marks(&incident))))
    }

    /// `INC-1/signals.svg`, `INC-1/topology.svg`, `funnel.svg`
    async fn picture(&self, path: &str) -> anyhow::Result<Option<String>> {
        if path == "funnel.svg" {
            return Ok(Some(funnel_svg(&self.status().await?.funnel)));
        }
        let Some((id, which)) = path.split_once('/') else { return Ok(None) };
        let Some(id) = IncidentId::parse(id) else { return Ok(None) };
        let Some(incident) = self.desk.store.incident(&id).await? else { return Ok(None) };
        match which {
            "topology.svg" => {
                let graph = self.graph(&incident).await;
                Ok(Some(topology_svg(&graph.nodes, &graph.edges)))
            }
            "signals.svg" => self.signals_picture(&incident).await,
            _ => Ok(None),
        }
    }

    async fn status(&self) -> anyhow::Result<StatusView> {
        let open = self.desk.store.listed_incidents(Ended::NotMerged, 0).await?;
        let report = report::report(&self.desk, None).await?;
        let (head_seq, head) = self.desk.store.audit_head().await?;
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            model: self
                .desk
                .model
                .as_ref()
                .map_or_else(|| "no model configured".into(), |model| model.name().to_owned()),
            paused: self.desk.paused().await,
            open_incidents: open.len(),
            pending_approvals: open.iter().filter(|incident| incident.state == "awaiting_approval").count(),
            facts: facts(self.desk.store.kind(), head_seq, &head, &report),
            funnel: stages(&report.funnel),
        })
    }
}

fn facts(store: &str, head_seq: i64, head: &str, report: &Report) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact { name: name.into(), value };
    let mut facts = vec![
        fact("store", store.into()),
        fact("audit", format!("{head_seq} rows, head {}", head.get(..12).unwrap_or_default())),
    ];
    if let Some(rate) = report.funnel.convergence {
        facts.push(fact("convergence", format!("{:.2} % fewer messages than alerts", rate * 100.0)));
    }
    facts.push(fact("prefilter", report.prefilter.mode.clone()));
    facts.push(fact("muted", label::in_words(&report.audit)));
    facts
}

fn stages(funnel: &domain::Funnel) -> Funnel {
    let stage = |name: &str, count: u64, left_out| FunnelStage { name: name.into(), count, left_out };
    let left = |reason: &str, count: u64| match count {
        0 => vec![],
        count => vec![LeftOut { reason: reason.into(), count }],
    };
    let muted =
        funnel.left_out().map(|count| LeftOut { reason: count.reason.replace('_', " "), count: count.count }).collect();
    // What a stage had more than the next one, for the reason that stands between them.
    let fewer = |more: u64, less: u64| more.saturating_sub(less);
    Funnel {
        stages: vec![
            stage("raw", funnel.raw, vec![]),
            stage("unique", funnel.unique, left("repeats", fewer(funnel.raw, funnel.unique))),
            stage("admitted", funnel.admitted, muted),
            stage("incidents", funnel.incidents, left("joined", fewer(funnel.admitted, funnel.incidents))),
            stage(
                "notified",
                funnel.notified,
                left("merged, or told together", fewer(funnel.incidents, funnel.notified)),
            ),
        ],
    }
}

/// One that cannot be read is shown as such, with what is known beside its body.
fn listed_row(listed: &ListedIncident) -> IncidentRow {
    match listed.incident() {
        Ok(incident) => row(&incident, listed.root()),
        Err(why) => {
            let root = listed.root();
            IncidentRow {
                id: listed.id.clone(),
                title: format!("cannot be read: {why}"),
                state: listed.state.replace('_', " "),
                opened_at: listed.opened_at(),
                closed_at: listed.is_over.then(|| listed.opened_at()),
                needs_you: !listed.is_over,
                channel: root.as_ref().map(|message| message.channel.clone()),
                ts: root.map(|message| message.ts),
                ..IncidentRow::default()
            }
        }
    }
}

fn row(incident: &Incident, root: Option<MessageRef>) -> IncidentRow {
    IncidentRow {
        id: incident.id.to_string(),
        title: incident.title.clone(),
        severity: incident.severity.as_str().into(),
        state: narrative::state_words(&incident.state).into(),
        service: incident
            .diagnosis
            .as_ref()
            .and_then(|diagnosis| diagnosis.service.clone())
            .or_else(|| incident.candidates.first().map(|candidate| candidate.node.clone()))
            .unwrap_or_default(),
        opened_at: incident.opened_at,
        closed_at: incident.state.is_over().then_some(incident.updated_at),
        alerts: incident.alert_count(),
        needs_you: matches!(incident.state, State::Awaiting { .. } | State::HandedOver { .. }),
        channel: root.as_ref().map(|message| message.channel.clone()),
        ts: root.map(|message| message.ts),
    }
}

impl DeskPages {
    async fn graph(&self, incident: &Incident) -> Topology {
        let topology = self.desk.topology().await;
        let cause = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.as_deref());
        let affected: BTreeSet<&str> = incident.subjects();
        let shown = |name: &str, kind: NodeKind| kind != NodeKind::Host || cause == Some(name);
        let nodes: Vec<Node> = topology
            .nodes()
            .filter(|(name, kind)| shown(name, *kind))
            .map(|(name, kind)| Node {
                id: name.to_owned(),
                kind: format!("{kind:?}").to_lowercase(),
                state: if cause == Some(name) {
                    NodeState::Cause
                } else if affected.contains(name) || incident.candidates.iter().any(|candidate| candidate.node == name)
                {
                    NodeState::Affected
                } else {
                    NodeState::Ok
                },
            })
            .collect();
        let known: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        let edges = topology
            .edges()
            .filter(|(from, to, kind)| {
                (*kind == EdgeKind::Calls || cause == Some(*to)) && known.contains(from) && known.contains(to)
            })
            .map(|(from, to, _)| Edge { from: from.to_owned(), to: to.to_owned() })
            .collect();
        Topology { nodes, edges }
    }

    /// The signal of the cause that left its band, else the first metric that was kept.
    async fn signals_picture(&self, incident: &Incident) -> anyhow::Result<Option<String>> {
        let evidence = self.desk.store.evidence_of(&incident.id).await?;
        let cause = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone());
        let cited: BTreeSet<_> = incident
            .diagnosis
            .iter()
            .flat_map(|diagnosis| diagnosis.claims.iter().flat_map(|claim| claim.evidence.iter().cloned()))
            .collect();
        let metrics = evidence.iter().filter(|one| one.kind == EvidenceKind::Metric && !one.series.is_empty());
        let chosen = metrics
            .clone()
            .find(|one| cited.contains(&one.id) && cause.as_deref().is_some_and(|cause| one.body.contains(cause)))
            .or_else(|| metrics.clone().next());
        let Some(chosen) = chosen else { return Ok(None) };
        let marks = marks(incident);
        let shown = item(chosen, &marks);
        let mut series = shown.series.unwrap_or_default();
        // The cause first, then what follows; more than six lines nobody reads.
        series.sort_by_key(|one| cause.as_deref().is_none_or(|cause| !one.name.contains(cause)));
        series.truncate(6);
        Ok(Some(metric_svg(&Metric {
            title: &chosen.summary,
            unit: &shown.unit,
            series: &series,
            onset: shown.onset,
            change: shown.change.as_ref(),
            band: None,
        })))
    }
}

/// The console's pictures for chats that take PNG only. Holds the desk weakly, because the desk
/// holds it.
pub struct DeskArtist(pub Weak<Desk>);

#[async_trait]
impl Artist for DeskArtist {
    async fn draw(&self, incident: &IncidentId, what: Drawing) -> Option<Picture> {
        let pages = DeskPages { desk: self.0.upgrade()? };
        let incident = pages.desk.store.incident(incident).await.ok()??;
        let (svg, name, title, alt) = match what {
            Drawing::Signals => {
                let svg = pages.signals_picture(&incident).await.ok().flatten()?;
                let alt = narrative::signals_alt(&incident);
                (svg, "signals", "What left its usual band", alt)
            }
            Drawing::Topology => {
                let graph = pages.graph(&incident).await;
                if graph.edges.is_empty() {
                    return None;
                }
                let affected = graph.nodes.iter().filter(|node| node.state == NodeState::Affected);
                let affected: Vec<&str> = affected.map(|node| node.id.as_str()).collect();
                let alt = narrative::topology_alt(&incident, &affected);
                (topology_svg(&graph.nodes, &graph.edges), "topology", "Blast radius", alt)
            }
        };
        let painted = tokio::task::spawn_blocking(move || paint::png(&svg)).await.ok()?;
        match painted {
            Ok(png) => Some(Picture { name: format!("{}-{name}.png", incident.id), title: title.into(), alt, png }),
            Err(error) => {
                tracing::warn!(incident = %incident.id, %error, "a picture could not be painted");
                None
            }
        }
    }
}

struct Marks {
    onset: Timestamp,
    change: Option<ChangeMark>,
}

fn marks(incident: &Incident) -> Marks {
    Marks { onset: incident.since, change: None }
}

fn item(evidence: &Evidence, marks: &Marks) -> EvidenceItem {
    let series: Vec<Series> = evidence
        .series
        .iter()
        .map(|series| {
            let names: Vec<&str> =
                series.labels.iter().filter(|(name, _)| *name != "__name__").map(|(_, value)| value.as_str()).collect();
            Series { name: names.join(" "), points: series.points.clone() }
        })
        .collect();
    EvidenceItem {
        id: evidence.id.to_string(),
        mark: evidence.id.mark().into(),
        kind: match evidence.kind {
            EvidenceKind::Metric => crate::console::view::EvidenceKind::Metric,
            EvidenceKind::Log => crate::console::view::EvidenceKind::Log,
            EvidenceKind::Kubernetes => crate::console::view::EvidenceKind::Kubernetes,
            EvidenceKind::Change => crate::console::view::EvidenceKind::Change,
            EvidenceKind::Topology => crate::console::view::EvidenceKind::Topology,
            EvidenceKind::Trace => crate::console::view::EvidenceKind::Trace,
            EvidenceKind::Database | EvidenceKind::Probe | EvidenceKind::Outside => {
                crate::console::view::EvidenceKind::Answer
            }
            EvidenceKind::Runbook => crate::console::view::EvidenceKind::Runbook,
            EvidenceKind::PastIncident | EvidenceKind::Alert => crate::console::view::EvidenceKind::Incident,
        },
        source: evidence.source.clone(),
        query: evidence.query.clone(),
        summary: evidence.summary.clone(),
        digest: evidence.digest.short().into(),
        at: evidence.observed_at,
        body: shown_body(&evidence.body),
        series: (!series.is_empty()).then_some(series),
        onset: Some(marks.onset),
        change: marks.change.clone(),
        ..EvidenceItem::default()
    }
}

/// A page shows as much as a person scrolls through; the store keeps all of it.
const SHOWN_BODY: usize = 60_000;

fn shown_body(body: &str) -> String {
    match body.char_indices().nth(SHOWN_BODY) {
        None => body.to_owned(),
        Some((end, _)) => format!("{}\n[the first {SHOWN_BODY} characters]", &body[..end]),
    }
}

fn summary(incident: &Incident) -> Vec<Span> {
    match &incident.diagnosis {
        Some(diagnosis) => vec![Span::quoted(diagnosis.mechanism.clone())],
        None => vec![Span::plain(incident.severity_because.clone())],
    }
}

fn plan_view(record: &crate::domain::incident::PlanRecord) -> PlanView {
    let plan = &record.plan;
    PlanView {
        id: plan.id.to_string(),
        action: plan.action.to_string(),
        target: plan.action.target().to_string(),
        uid: plan.action.target().uid.clone(),
        tier: plan.tier.to_string(),
        blast_radius: plan.blast.text.clone(),
        diff: plan.diff.clone(),
        undo: match &plan.undo {
            Undo::By(action) => action.to_string(),
            Undo::None(why) => format!("none: {why}"),
        },
        success_check: plan
            .checks
            .iter()
            .map(|check| format!("{} {}", check.service, check.signal.replace('_', " ")))
            .collect::<Vec<_>>()
            .join(", "),
        digest: plan.digest.short().into(),
        expires_at: (record.outcome == Outcome::Proposed).then_some(plan.expires_at),
        votes: record.approved_by.clone(),
        state: record.outcome.word().replace('_', " "),
    }
}
