//! A question of a person, answered by a model with the same tools, budgets and proofs as an investigation.
//!
//! Invariants: what is shown as fact cites stored evidence in which its numbers and names stand; what the model
//! only says is shown as its words; the day's budget counts conversations, too; neither the model nor a tool
//! outlasts the time that an answer may take; nothing here can change anything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::{ask, bill, budget_of_the_day, opening};
use crate::config::ModelMode;
use crate::domain::card::{Block, Card, Span};
use crate::domain::evidence::Evidence;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, ReasoningStep};
use crate::domain::investigation::team::Member;
use crate::domain::investigation::{
    Brief, Conclusion, Finding, Investigation, Known, Limits, Mode, Next, ToolCall, ToolResult, reply_tokens,
};
use crate::domain::judge::{rests_on_nothing, sift};
use crate::domain::narrative::state_words;
use crate::domain::redact::redact;
use crate::domain::root_cause::Picture;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::investigate::keep;
use crate::flow::live::say;
use crate::flow::observe::{Dossier, recent_changes};
use crate::ports::{Model, Person};
use crate::prompt::{CandidateView, ConverseView, EvidenceView, SystemView, TextReactView, ToolView, Untrusted};
use crate::store::{AuditEntry, Batch, Scope};

/// Somebody waits for the answer: less than an investigation may take.
const STEPS: u32 = 6;
const TOOL_CALLS: u32 = 10;
const SECONDS: u64 = 90;
const SHOWN_SERVICES: usize = 150;
const SHOWN_INCIDENTS: usize = 12;
const CHANGES_FOR: Duration = Duration::from_secs(6 * 3600);

/// What a conversation stands on.
struct Talk<'a> {
    desk: &'a Desk,
    model: &'a Arc<dyn Model>,
    by: &'a Person,
    /// The incident that it is about; else a blank one under the talk's own name.
    incident: Incident,
    /// What is seen has numbers of its own: the incident's are an investigation's that may be running.
    name: IncidentId,
    /// How much evidence the incident had when the talk began. What is seen is numbered behind it, so that
    /// a mark means one thing to the model and to the judge.
    before: usize,
    about_incident: bool,
    known: BTreeSet<String>,
}

/// `number` names the question where it is about no incident. `Err` in the answer: why no model was asked.
pub async fn answer(
    desk: &Desk,
    model: &Arc<dyn Model>,
    by: &Person,
    text: &str,
    incident: Option<Incident>,
    number: i64,
) -> Result<Result<Card, String>, FlowError> {
    if let Some(why) = budget_of_the_day(desk).await? {
        return Ok(Err(why));
    }
    if let Some(why) = desk.breaker.refusal(Instant::now()) {
        return Ok(Err(format!("{} was {why}", model.name())));
    }
    let about_incident = incident.is_some();
    let name = IncidentId::new(format!("TALK-{number}"));
    let incident = incident.unwrap_or_else(|| {
        let mut blank = Incident::blank(name.clone());
        blank.since = desk.clock.event_now();
        blank
    });
    let topology = desk.topology().await;
    let known = topology
        .nodes()
        .map(|(name, _)| name.to_owned())
        .chain(incident.subjects().into_iter().map(str::to_owned))
        .collect();
    let event_now = desk.clock.event_now();
    let changes = recent_changes(desk, event_now - CHANGES_FOR).await.unwrap_or_default();
    let picture = Picture { topology: (*topology).clone(), changes, since: incident.since, ..Picture::default() };
    let before = incident.evidence.len();
    let mut context = opening::context(desk, &incident, &picture).await;
    context.talk = Some((name.clone(), before));
    let mut talk = Talk { desk, model, by, incident, name, before, about_incident, known };
    let opened = talk.open(text, &picture).await?;
    let began = Instant::now();
    let (conclusion, evidence) = talk.run(opened, context).await?;
    let mut all = match talk.about_incident {
        true => talk.shown_evidence().await?,
        false => vec![],
    };
    all.extend(evidence);
    info!(incident = %talk.incident.id, ms = began.elapsed().as_millis() as u64, "a question was answered");
    Ok(match conclusion {
        Conclusion::Found(finding) => Ok(said(model.name(), &finding, &all, &talk.known)),
        Conclusion::Partial { why, .. } => Err(format!("{} did not get to an answer: {why}", model.name())),
    })
}

impl Talk<'_> {
    async fn open(&self, text: &str, picture: &Picture) -> Result<Investigation, FlowError> {
        let desk = self.desk;
        let mode = match desk.config.model.as_ref().map(|model| model.mode).unwrap_or_default() {
            ModelMode::Native => Mode::Native,
            ModelMode::Text => Mode::Text,
        };
        let outside = |error: crate::prompt::PromptError| FlowError::Outside(error.to_string());
        let tools = desk.tools.schemas();
        let mut system =
            desk.prompts.converse_system(&SystemView { text_mode: mode == Mode::Text }).map_err(outside)?;
        if mode == Mode::Text {
            let tools = tools.iter().map(ToolView::of).collect();
            system = format!("{system}\n{}", desk.prompts.text_react(&TextReactView { tools }).map_err(outside)?);
        }
        let user = desk.prompts.converse_brief(&self.view(text).await?).map_err(outside)?;
        let config = &desk.config.investigation;
        let limits = Limits {
            steps: STEPS.min(config.max_steps as u32),
            tool_calls: TOOL_CALLS.min(config.max_tool_calls as u32),
            tokens: config.max_tokens,
            cost: config.max_cost,
            prices: desk.config.prices_of(self.model.name()),
            reply_tokens: desk.config.model.as_ref().map_or_else(reply_tokens, |model| model.reply_tokens),
            deadline: desk.clock.wall_now() + Duration::from_secs(SECONDS.min(config.max_seconds)),
        };
        let known = Known {
            services: self.known.clone(),
            changes: picture.changes.iter().map(|change| change.id.clone()).collect(),
        };
        let brief = Brief { system, user, recap: String::new() };
        Ok(Investigation::open(self.incident.id.clone(), mode, brief, tools, limits).knowing(known))
    }

    /// What the brief shows; what an investigation finds meanwhile is not part of the talk.
    async fn shown_evidence(&self) -> Result<Vec<Evidence>, FlowError> {
        let mut evidence = self.desk.store.evidence_of(&self.incident.id).await?;
        let number = |one: &Evidence| one.id.mark().trim_start_matches('E').parse::<usize>().unwrap_or(usize::MAX);
        evidence.retain(|one| number(one) <= self.before);
        Ok(evidence)
    }

    async fn view(&self, text: &str) -> Result<ConverseView, FlowError> {
        let (desk, incident) = (self.desk, &self.incident);
        let evidence = match self.about_incident {
            true => self.shown_evidence().await?,
            false => vec![],
        };
        let open = desk.store.incidents(Scope::NotOver).await?;
        let line = |one: &Incident| {
            format!("{} {} {} ({})", one.id, one.severity.as_str(), one.title, state_words(&one.state))
        };
        let event_now = desk.clock.event_now();
        let services: Vec<&str> = self.known.iter().map(String::as_str).take(SHOWN_SERVICES).collect();
        Ok(ConverseView {
            by: self.by.name.clone(),
            question: Untrusted::new(&self.by.name, text),
            now: event_now.to_string(),
            incident: self.about_incident.then(|| incident.id.to_string()),
            title: incident.title.clone(),
            severity: incident.severity.as_str().into(),
            state: state_words(&incident.state).to_lowercase(),
            since: incident.since.to_string(),
            diagnosis: incident.diagnosis.as_ref().map(|one| format!("{}: {}", one.verdict.word(), one.mechanism)),
            plans: incident
                .plans
                .iter()
                .map(|record| {
                    let by = record.approved_by.join(", ");
                    let by = if by.is_empty() { String::new() } else { format!(", approved by {by}") };
                    let word = record.outcome.word().replace('_', " ");
                    format!("{}: {} ({} risk), {word}{by}", record.plan.id, record.plan.action, record.plan.tier)
                })
                .collect(),
            candidates: incident
                .candidates
                .iter()
                .take(4)
                .enumerate()
                .map(|(at, candidate)| CandidateView::of(at + 1, candidate))
                .collect(),
            evidence: evidence.iter().map(|one| EvidenceView::of(one, event_now)).collect(),
            open: open.iter().rev().take(SHOWN_INCIDENTS).map(line).collect(),
            services: if services.is_empty() { "not known".into() } else { services.join(", ") },
            steps: STEPS,
            tool_calls: TOOL_CALLS,
            seconds: SECONDS,
        })
    }

    async fn run(
        &mut self,
        mut talk: Investigation,
        context: crate::tools::ToolContext,
    ) -> Result<(Conclusion, Vec<Evidence>), FlowError> {
        let mut seen = vec![];
        loop {
            match talk.next(self.desk.clock.wall_now()) {
                Next::Conclude(conclusion) => return Ok((conclusion, seen)),
                Next::AskModel(request) => {
                    let began = Instant::now();
                    let reply = ask(self.desk, self.model, Member::Lead, talk.limits.deadline, request).await;
                    let (thought, tokens, cost) = bill(self.desk, &reply, self.model.name());
                    talk = talk.on_model(reply, self.desk.clock.wall_now());
                    let step = ReasoningStep {
                        number: talk.spent.steps as usize,
                        who: Some(format!("conversation with {}", self.by.name)),
                        thought: redact(&thought),
                        ms: began.elapsed().as_millis() as u64,
                        tokens,
                        cost,
                        ..ReasoningStep::default()
                    };
                    self.record(step, &[]).await?;
                }
                Next::RunTools(calls) => {
                    let left = talk.limits.deadline.since(self.desk.clock.wall_now());
                    let (results, evidence) = self.look(&calls, &context, seen.len(), left).await?;
                    seen.extend(evidence);
                    talk = talk.on_tools(results, self.desk.clock.wall_now());
                }
            }
        }
    }

    async fn look(
        &mut self,
        calls: &[ToolCall],
        context: &crate::tools::ToolContext,
        before: usize,
        left: Duration,
    ) -> Result<(Vec<ToolResult>, Vec<Evidence>), FlowError> {
        let began = Instant::now();
        let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        say(format!("Asking {}.", names.join(", ")));
        let all = join_all(calls.iter().map(|call| self.desk.tools.run(call, context)));
        // Of those that take longer it is said that they gave no answer.
        let answers = timeout(left, all).await.unwrap_or_default();
        let mut dossier = Dossier::behind(&self.name, self.before + before);
        let mut results = vec![];
        for (call, answer) in calls.iter().zip(answers) {
            let evidence = answer.evidence.map(|draft| dossier.add_seen(draft, self.desk.clock.event_now()));
            results.push(ToolResult { call_id: call.id.clone(), text: answer.text, evidence });
        }
        let step = ReasoningStep {
            who: Some(format!("conversation with {}", self.by.name)),
            tool: Some(names.join(", ")),
            ms: began.elapsed().as_millis() as u64,
            ..ReasoningStep::default()
        };
        self.record(step, &dossier.evidence).await?;
        Ok((results, dossier.evidence))
    }

    /// With the incident; or, about the estate, as evidence and a line of the audit trail.
    async fn record(&self, step: ReasoningStep, evidence: &[Evidence]) -> Result<(), FlowError> {
        if self.about_incident {
            self.desk
                .change(&self.incident.id, |change| {
                    keep(change, evidence)?;
                    change.record(IncidentEvent::Reasoned { step: step.clone() })
                })
                .await?;
            return Ok(());
        }
        let batch = Batch {
            evidence: evidence.to_vec(),
            audit: vec![AuditEntry {
                kind: crate::store::CONVERSED.into(),
                subject: self.incident.id.to_string(),
                body: serde_json::json!({"by": self.by.id, "step": step}),
            }],
            ..Batch::default()
        };
        self.desk.store.commit(batch, self.desk.clock.wall_now()).await?;
        Ok(())
    }
}

/// Facts with their marks; the model's own sentence is quoted, and called unproved where nothing carries it.
fn said(model: &str, finding: &Finding, evidence: &[Evidence], known: &BTreeSet<String>) -> Card {
    let cited: Vec<_> = finding.claims.iter().chain(&finding.ruled_out).cloned().collect();
    let (kept, dropped) = sift(&cited, evidence, known);
    let sentence: String = finding.mechanism.trim().chars().take(600).collect();
    let proved = kept.iter().any(|claim| !rests_on_nothing(claim, evidence));
    let lead = if proved { "" } else { "Not proved: " };
    let mut blocks = vec![Block::Text { spans: vec![Span::bold(lead), Span::quoted(sentence.clone())] }];
    if lead.is_empty() {
        blocks = vec![Block::Text { spans: vec![Span::quoted(sentence.clone())] }];
    }
    if !kept.is_empty() {
        let items = kept.iter().map(|claim| {
            let mut spans = vec![Span::quoted(claim.text.clone())];
            for id in &claim.evidence {
                spans.push(Span::plain(" "));
                spans.push(Span::Evidence { id: id.to_string() });
            }
            if rests_on_nothing(claim, evidence) {
                spans.push(Span::plain(" (nothing was found there, which proves nothing by itself)"));
            }
            spans
        });
        blocks.push(Block::List { items: items.collect() });
    }
    let mut context = vec![Span::plain(format!(
        "answered by {model}; of what has marks, numbers and names were checked against the evidence"
    ))];
    if !dropped.is_empty() {
        context.push(Span::plain(format!(
            "; {} claims were dropped, for the evidence does not carry them",
            dropped.len()
        )));
    }
    if let Some(needs) = finding.needs.as_deref().filter(|needs| !needs.trim().is_empty()) {
        context.push(Span::plain("; it lacks: "));
        context.push(Span::quoted(needs.trim().chars().take(300).collect::<String>()));
    }
    blocks.push(Block::Context { spans: context });
    Card { fallback: sentence.chars().take(200).collect(), blocks }
}
