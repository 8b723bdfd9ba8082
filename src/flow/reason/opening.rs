//! What an investigation begins with: the brief, the tools and the limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::super::reach;
use super::setting;
use crate::config::ModelMode;
use crate::domain::incident::Incident;
use crate::domain::investigation::team::{Common, Kit, Team};
use crate::domain::investigation::{Known, Limits, Mode, reply_tokens};
use crate::domain::root_cause::{Candidate, Picture};
use crate::domain::speciality::Speciality;
use crate::domain::topology::NodeKind;
use crate::flow::approve::said;
use crate::flow::command::story;
use crate::flow::desk::{Desk, FlowError};
use crate::memory::{Kind, Query, Tenant};
use crate::prompt::{
    BriefView, CandidateView, EvidenceView, SpecialistView, SystemView, TextReactView, ToolView, TriageView, Untrusted,
};
use crate::store::Batch;
use crate::tools::{Measure, Recall, RecallKind, Recalled, ToolContext};

/// Characters of a list (alerts, changes) in the brief; the whole is evidence and can be read in pages.
const SHOWN_OF_A_LIST: usize = 1_800;
/// A runbook's beginning says whether it is worth a search for more.
const SHOWN_OF_A_RUNBOOK: usize = 320;
const SHOWN_RUNBOOKS: usize = 3;

/// Whole lines, as many as fit, and how many are left out.
fn first_lines(text: &str, characters: usize) -> String {
    let mut kept = String::new();
    for (at, line) in text.lines().enumerate() {
        if at > 0 && kept.chars().count() + line.chars().count() > characters {
            return format!("{kept}[{} more lines]", text.lines().count() - at);
        }
        kept.extend(line.chars().take(characters));
        kept.push('\n');
    }
    kept.trim_end().to_owned()
}

/// What the team is opened with, stored before anybody is asked.
pub(super) async fn open(
    desk: &Desk,
    incident: &Incident,
    picture: &Picture,
    ranking: &[Candidate],
    runbooks: &[crate::memory::Recalled],
) -> Result<Team, FlowError> {
    let config = &desk.config.investigation;
    let mode = match desk.config.model.as_ref().map(|model| model.mode).unwrap_or_default() {
        ModelMode::Native => Mode::Native,
        ModelMode::Text => Mode::Text,
    };
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let body_of = |kind| evidence.iter().find(|one| one.kind == kind).map(|one| (one.source.clone(), one.body.clone()));
    let untrusted = |(source, body): (String, String)| Untrusted::new(&source, &first_lines(&body, SHOWN_OF_A_LIST));
    use crate::domain::evidence::EvidenceKind;
    let event_now = desk.clock.event_now();
    let view = BriefView {
        incident: incident.id.to_string(),
        title: incident.title.clone(),
        severity: format!("{}: {}", incident.severity.as_str(), incident.severity_because),
        cluster: incident.cluster.clone(),
        since: incident.since.to_string(),
        now: event_now.to_string(),
        alerts: untrusted(body_of(EvidenceKind::Alert).unwrap_or_default()),
        candidates: ranking
            .iter()
            .take(if config.brief_has_ranking { 4 } else { 0 })
            .enumerate()
            .map(|(at, candidate)| CandidateView::of(at + 1, candidate))
            .collect(),
        changes: body_of(EvidenceKind::Change).map(untrusted),
        topology: excerpt(picture, incident),
        evidence: evidence.iter().map(|one| EvidenceView::of(one, event_now)).collect(),
        runbooks: runbooks
            .iter()
            .take(SHOWN_RUNBOOKS)
            .map(|one| {
                let text = format!("{}\n{}", one.chunk.heading, first_lines(&one.chunk.text, SHOWN_OF_A_RUNBOOK));
                Untrusted::new(&format!("runbook {}", one.chunk.title), &text)
            })
            .collect(),
        past: incident
            .recalled
            .iter()
            .map(|past| Untrusted::new(&past.incident, &format!("{} ({})", past.title, past.because)))
            .collect(),
        said: said(&story(desk, &incident.id).await?)
            .into_iter()
            .map(|(by, text)| Untrusted::new(&by, &first_lines(&text, SHOWN_OF_A_LIST)))
            .collect(),
        memory: desk.memory.is_some(),
        steps: config.max_steps as u32,
        tool_calls: config.max_tool_calls as u32,
        minutes: config.max_seconds / 60,
    };
    let outside = |error: crate::prompt::PromptError| FlowError::Outside(error.to_string());
    let brief = desk.prompts.brief(&view).map_err(outside)?;
    let started = desk.clock.wall_now();
    let limits = Limits {
        steps: config.max_steps as u32,
        tool_calls: config.max_tool_calls as u32,
        tokens: config.max_tokens,
        cost: config.max_cost,
        prices: desk.model.as_ref().map(|model| desk.config.prices_of(model.name())).unwrap_or_default(),
        reply_tokens: desk.config.model.as_ref().map_or_else(reply_tokens, |model| model.reply_tokens),
        deadline: started + Duration::from_secs(config.max_seconds),
    };
    let known = Known {
        services: picture.topology.nodes().map(|(name, _)| name.to_owned()).collect(),
        changes: picture.changes.iter().map(|change| change.id.clone()).collect(),
    };
    let recap = desk.prompts.recap(&view).map_err(outside)?;
    let common = Common { incident: incident.id.clone(), mode, brief, recap, known, limits, started };
    let lead = kit(desk, mode, None)?;
    let team = match config.team {
        false => Team::solo(common, lead),
        true => {
            let kits: BTreeMap<Speciality, Kit> = Speciality::ALL
                .into_iter()
                .map(|field| Ok((field, kit(desk, mode, Some(field))?)))
                .collect::<Result<_, FlowError>>()?;
            let triage = desk.prompts.triage(&TriageView { text_mode: mode == Mode::Text }).map_err(outside)?;
            Team::assemble(common, triage, kits, lead)
        }
    };
    let batch = Batch {
        settings: vec![(setting(&incident.id), serde_json::to_string(&team).unwrap_or_default())],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(team)
}

/// Method and tools of the lead, or of one specialist.
fn kit(desk: &Desk, mode: Mode, field: Option<Speciality>) -> Result<Kit, FlowError> {
    let outside = |error: crate::prompt::PromptError| FlowError::Outside(error.to_string());
    let tools = match field {
        Some(field) => desk.tools.of(field).schemas(),
        None => desk.tools.schemas(),
    };
    let mut system = desk.prompts.system(&SystemView { text_mode: mode == Mode::Text }).map_err(outside)?;
    if let Some(field) = field {
        system = format!("{system}\n{}", desk.prompts.specialist(&SpecialistView::of(field)).map_err(outside)?);
    }
    if mode == Mode::Text {
        let tools = tools.iter().map(ToolView::of).collect();
        system = format!("{system}\n{}", desk.prompts.text_react(&TextReactView { tools }).map_err(outside)?);
    }
    Ok(Kit { system, tools })
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

/// What the tools may ask.
pub(super) async fn context(desk: &Desk, incident: &Incident, picture: &Picture) -> ToolContext {
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
                let kinds = match asked.kind {
                    // What people noted stands beside what they curated, and says whose it is.
                    RecallKind::Runbook => vec![Kind::Runbook, Kind::Note],
                    RecallKind::PastIncident => vec![Kind::PostMortem],
                };
                let query = Query { text: asked.text, kinds, tenant, limit: asked.limit, ..Query::default() };
                let found = memory.recall(query).await.map_err(|error| error.to_string())?;
                Ok(found
                    .into_iter()
                    .map(|one| Recalled {
                        doc: one.chunk.doc,
                        title: one.chunk.title,
                        heading: match one.chunk.kind {
                            Kind::Note => format!("note of {}, {}", one.chunk.author, one.chunk.trust.as_str()),
                            Kind::Runbook | Kind::PostMortem => one.chunk.heading,
                        },
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
        cluster: desk.cluster.clone().filter(|_| reach::out_of_sight(desk, incident).is_none()),
        traces: desk.traces.clone(),
        store: desk.store.clone(),
        topology: Arc::new(picture.topology.clone()),
        changes: Arc::new(picture.changes.clone()),
        measures: Arc::new(measures.collect()),
        log_label: desk
            .config
            .signals
            .as_ref()
            .map_or_else(|| "app".into(), |signals| signals.log_service_label.clone()),
        scope: reach::scope(desk, incident),
        recall,
        event_now: desk.clock.event_now(),
        incident: incident.id.clone(),
        talk: None,
    }
}
