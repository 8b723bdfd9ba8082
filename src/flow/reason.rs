//! Lets a model confirm, refute and explain, step by step; code keeps what it can prove.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tracing::{info, warn};

use super::desk::{Counters, Desk, FlowError};
use super::investigate::keep;
use super::observe::{Dossier, Exhibit};
use crate::config::ModelMode;
use crate::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use crate::domain::incident::{Incident, IncidentEvent, ReasoningStep};
use crate::domain::investigation::{Brief, Conclusion, Investigation, Known, Limits, Mode, Next, ToolResult};
use crate::domain::judge::judge;
use crate::domain::root_cause::{Candidate, Picture};
use crate::domain::topology::NodeKind;
use crate::memory::{Kind, Query, Tenant};
use crate::ports::{Model, ModelRequest};
use crate::prompt::{BriefView, CandidateView, EvidenceView, SystemView, TextReactView, ToolView, Untrusted};
use crate::store::Batch;
use crate::tools::{Measure, Recall, RecallKind, Recalled, ToolBox, ToolContext};

/// Runs the investigation of `incident` to its end and judges it. `baseline` is what the
/// deterministic reasoner says; it stands whenever the model does not get anywhere (P8).
pub async fn with_model(
    desk: &Desk,
    model: &Arc<dyn Model>,
    incident: &Incident,
    picture: &Picture,
    ranking: &[Candidate],
    runbooks: &[crate::memory::Recalled],
    baseline: Diagnosis,
) -> Result<Diagnosis, FlowError> {
    let toolbox = ToolBox::default();
    let context = context(desk, incident, picture).await;
    let mut machine = match resumed(desk, incident).await {
        Some(machine) => machine,
        None => open(desk, incident, picture, ranking, runbooks, &toolbox).await?,
    };
    let conclusion = loop {
        let wall_now = desk.clock.wall_now();
        match machine.next(wall_now) {
            Next::Conclude(conclusion) => break conclusion,
            Next::AskModel(request) => {
                let asked = Instant::now();
                let reply = ask(desk, model, request).await;
                let (thought, tokens) = match &reply {
                    Ok(reply) => (reply.text.clone(), reply.tokens_in + reply.tokens_out),
                    Err(error) => (error.to_string(), 0),
                };
                machine = machine.on_model(reply, desk.clock.wall_now());
                let step = ReasoningStep {
                    number: machine.spent.steps as usize,
                    thought: crate::domain::redact::redact(&thought),
                    tool: None,
                    arguments: None,
                    evidence: None,
                    ms: asked.elapsed().as_millis() as u64,
                    tokens,
                };
                record(desk, incident, &machine, vec![step], &[]).await?;
            }
            Next::RunTools(calls) => {
                let newest = desk
                    .store
                    .incident(&incident.id)
                    .await?
                    .ok_or_else(|| FlowError::NoIncident(incident.id.clone()))?;
                let mut dossier = Dossier::new(&newest);
                let asked = Instant::now();
                let answers = futures::future::join_all(calls.iter().map(|call| toolbox.run(call, &context))).await;
                let ms = asked.elapsed().as_millis() as u64;
                let mut results = vec![];
                let mut steps = vec![];
                for (call, answer) in calls.iter().zip(answers) {
                    let evidence = answer.evidence.map(|draft| {
                        let exhibit = Exhibit {
                            kind: draft.kind,
                            source: draft.source,
                            query: &draft.query,
                            summary: draft.summary.clone(),
                            body: draft.body.clone(),
                            series: draft.series.clone(),
                            taint: draft.taint,
                        };
                        dossier.add(exhibit, desk.clock.event_now())
                    });
                    steps.push(ReasoningStep {
                        number: machine.spent.steps as usize,
                        thought: String::new(),
                        tool: Some(call.name.clone()),
                        arguments: Some(call.arguments.to_string()),
                        evidence: evidence.clone(),
                        ms,
                        tokens: 0,
                    });
                    results.push(ToolResult { call_id: call.id.clone(), text: answer.text, evidence });
                }
                machine = machine.on_tools(results, desk.clock.wall_now());
                record(desk, incident, &machine, steps, &dossier.evidence).await?;
            }
        }
    };
    settle(desk, model.name(), incident, picture, conclusion, baseline).await
}

async fn ask(
    desk: &Desk,
    model: &Arc<dyn Model>,
    request: ModelRequest,
) -> Result<crate::ports::ModelReply, crate::ports::ModelError> {
    Counters::add(&desk.counters.model_calls, 1);
    let reply = model.complete(request).await;
    match &reply {
        Ok(reply) => Counters::add(&desk.counters.model_tokens, reply.tokens_in + reply.tokens_out),
        Err(error) => warn!(%error, "the model did not answer"),
    }
    reply
}

/// What of the model's word holds; without it the deterministic diagnosis stands, labelled.
async fn settle(
    desk: &Desk,
    model: &str,
    incident: &Incident,
    picture: &Picture,
    conclusion: Conclusion,
    baseline: Diagnosis,
) -> Result<Diagnosis, FlowError> {
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let known: BTreeSet<String> = picture.topology.nodes().map(|(name, _)| name.to_owned()).collect();
    let judged = judge(&conclusion, &known, &picture.changes, &evidence, model);
    if judged.verdict != Verdict::Inconclusive {
        info!(model, verdict = judged.verdict.word(), "the model's conclusion holds");
        return Ok(judged);
    }
    let said = match &conclusion {
        Conclusion::Partial { why, .. } => format!("{model} ended without a conclusion: {why}"),
        Conclusion::Found(finding) => match &finding.service {
            // The model says that it does not know; the ranking may still be shown as a lead.
            None => format!("{model} says that it does not know: {}", finding.mechanism),
            Some(service) => match &judged.remedy {
                Remedy::HandOver { why } => format!("{model} named {service}: {why}"),
                _ => format!("{model} named {service} without evidence that holds"),
            },
        },
    };
    warn!(incident = %incident.id, said, "the deterministic diagnosis stands");
    let honest_unknown = matches!(&conclusion, Conclusion::Found(finding) if finding.service.is_none());
    let mut diagnosis = baseline;
    diagnosis.ruled_out.push(Claim { text: said, evidence: vec![] });
    diagnosis.reasoner = format!("none ({model} did not conclude)");
    if honest_unknown && diagnosis.verdict == Verdict::Confirmed {
        diagnosis.verdict = Verdict::Likely;
    }
    Ok(diagnosis)
}

fn setting(incident: &Incident) -> String {
    format!("investigation/{}", incident.id)
}

/// An investigation that a crash interrupted goes on where it was.
async fn resumed(desk: &Desk, incident: &Incident) -> Option<Investigation> {
    let kept = desk.store.setting(&setting(incident)).await.ok()??;
    let machine: Investigation = serde_json::from_str(&kept).ok()?;
    let over = matches!(machine.next(desk.clock.wall_now()), Next::Conclude(_));
    (!over).then(|| {
        info!(incident = %incident.id, steps = machine.spent.steps, "the investigation is resumed");
        machine
    })
}

async fn record(
    desk: &Desk,
    incident: &Incident,
    machine: &Investigation,
    steps: Vec<ReasoningStep>,
    evidence: &[crate::domain::evidence::Evidence],
) -> Result<(), FlowError> {
    desk.change(&incident.id, |change| {
        keep(change, evidence)?;
        for step in &steps {
            change.record(IncidentEvent::Reasoned { step: step.clone() })?;
        }
        change.batch.settings.push((setting(incident), serde_json::to_string(machine).unwrap_or_default()));
        Ok(())
    })
    .await?;
    Ok(())
}

async fn open(
    desk: &Desk,
    incident: &Incident,
    picture: &Picture,
    ranking: &[Candidate],
    runbooks: &[crate::memory::Recalled],
    toolbox: &ToolBox,
) -> Result<Investigation, FlowError> {
    let config = &desk.config.investigation;
    let mode = match desk.config.model.as_ref().map(|model| model.mode).unwrap_or_default() {
        ModelMode::Native => Mode::Native,
        ModelMode::Text => Mode::Text,
    };
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let body_of = |kind| evidence.iter().find(|one| one.kind == kind).map(|one| (one.source.clone(), one.body.clone()));
    let untrusted =
        |(source, body): (String, String)| Untrusted::new(&source, &body.chars().take(4_000).collect::<String>());
    use crate::domain::evidence::EvidenceKind;
    let view = BriefView {
        incident: incident.id.to_string(),
        title: incident.title.clone(),
        severity: format!("{}: {}", incident.severity.as_str(), incident.severity_because),
        cluster: incident.cluster.clone(),
        since: incident.since.to_string(),
        now: desk.clock.event_now().to_string(),
        alerts: untrusted(body_of(EvidenceKind::Alert).unwrap_or_default()),
        candidates: ranking
            .iter()
            .take(if config.brief_has_ranking { 5 } else { 0 })
            .enumerate()
            .map(|(at, candidate)| CandidateView::of(at + 1, candidate))
            .collect(),
        changes: body_of(EvidenceKind::Change).map(untrusted),
        topology: excerpt(picture, incident),
        evidence: evidence.iter().map(EvidenceView::of).collect(),
        runbooks: runbooks
            .iter()
            .map(|one| {
                Untrusted::new(
                    &format!("runbook {}", one.chunk.title),
                    &format!("{}\n{}", one.chunk.heading, one.chunk.text),
                )
            })
            .collect(),
        past: incident
            .recalled
            .iter()
            .map(|past| Untrusted::new(&past.incident, &format!("{} ({})", past.title, past.because)))
            .collect(),
        memory: desk.memory.is_some(),
        steps: config.max_steps as u32,
        tool_calls: config.max_tool_calls as u32,
        minutes: config.max_seconds / 60,
    };
    let outside = |error: crate::prompt::PromptError| FlowError::Outside(error.to_string());
    let mut system = desk.prompts.system(&SystemView { text_mode: mode == Mode::Text }).map_err(outside)?;
    if mode == Mode::Text {
        let tools = toolbox.schemas().iter().map(ToolView::of).collect();
        system = format!("{system}\n{}", desk.prompts.text_react(&TextReactView { tools }).map_err(outside)?);
    }
    let brief = Brief { system, user: desk.prompts.brief(&view).map_err(outside)? };
    let limits = Limits {
        steps: config.max_steps as u32,
        tool_calls: config.max_tool_calls as u32,
        tokens: config.max_tokens,
        deadline: desk.clock.wall_now() + Duration::from_secs(config.max_seconds),
    };
    let known = Known {
        services: picture.topology.nodes().map(|(name, _)| name.to_owned()).collect(),
        changes: picture.changes.iter().map(|change| change.id.clone()).collect(),
    };
    let machine = Investigation::open(incident.id.clone(), mode, brief, toolbox.schemas(), limits).knowing(known);
    let batch = Batch {
        settings: vec![(setting(incident), serde_json::to_string(&machine).unwrap_or_default())],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(machine)
}

/// The part of the graph that is affected, and its direct neighbours.
fn excerpt(picture: &Picture, incident: &Incident) -> Vec<String> {
    let subjects = incident.subjects();
    picture
        .topology
        .nodes()
        .filter(|(name, kind)| {
            *kind != NodeKind::Host
                && (subjects.contains(name) || picture.topology.callees(name).any(|callee| subjects.contains(callee)))
        })
        .map(|(name, _)| {
            let needs: Vec<&str> = picture.topology.callees(name).collect();
            let needed: Vec<&str> = picture.topology.dependents(name).collect();
            let list = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            format!("{name} needs {}; is needed by {}", list(&needs), list(&needed))
        })
        .take(40)
        .collect()
}

async fn context(desk: &Desk, incident: &Incident, picture: &Picture) -> ToolContext {
    let measures = desk.config.signals.iter().flat_map(|signals| &signals.query).map(|query| Measure {
        name: query.name.clone(),
        promql: query.promql.clone(),
        label: query.label.clone(),
        unit: query.unit.clone(),
    });
    let tenant = Tenant::new(incident.cluster.clone(), incident.team.clone());
    let recall = desk.memory.clone().map(|memory| -> Recall {
        Arc::new(move |asked| {
            let (memory, tenant) = (memory.clone(), tenant.clone());
            async move {
                let kind = match asked.kind {
                    RecallKind::Runbook => Kind::Runbook,
                    RecallKind::PastIncident => Kind::PostMortem,
                };
                let query =
                    Query { text: asked.text, kinds: vec![kind], tenant, limit: asked.limit, ..Query::default() };
                let found = memory.recall(query).await.map_err(|error| error.to_string())?;
                Ok(found
                    .into_iter()
                    .map(|one| Recalled {
                        doc: one.chunk.doc,
                        title: one.chunk.title,
                        heading: one.chunk.heading,
                        text: one.chunk.text,
                        score: f64::from(one.relevance),
                    })
                    .collect())
            }
            .boxed()
        })
    });
    ToolContext {
        signals: desk.signals.clone(),
        cluster: desk.cluster.clone(),
        topology: Arc::new(picture.topology.clone()),
        changes: Arc::new(picture.changes.clone()),
        measures: Arc::new(measures.collect()),
        log_label: desk
            .config
            .signals
            .as_ref()
            .map_or_else(|| "app".into(), |signals| signals.log_service_label.clone()),
        recall,
        event_now: desk.clock.event_now(),
        incident: incident.id.clone(),
    }
}
