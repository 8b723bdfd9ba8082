//! Lets a model, or a small team of them, confirm, refute and explain; code keeps what it can prove.
//!
//! Invariants: every reply and every answer is stored before the next step, so that a crash costs one
//! step; what a budget forbids is not asked; no call outlasts its patience or the deadline that it is made
//! for; whatever the model says, the deterministic diagnosis stands until evidence carries another one that is at
//! least as strong (P8).

mod breaker;
pub mod converse;
mod opening;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use breaker::Breaker;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, field, info, info_span, warn};

use super::desk::{Counters, Desk, FlowError};
use super::investigate::keep;
use super::live::say;
use super::observe::Dossier;
use crate::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use crate::domain::evidence::Evidence;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, ReasoningStep};
use crate::domain::investigation::team::{Due, Member, Team};
use crate::domain::investigation::{Conclusion, Next, ToolCall, ToolResult};
use crate::domain::judge::{judge, weigh};
use crate::domain::redact::redact;
use crate::domain::root_cause::{Candidate, Picture};
use crate::domain::time::{Timestamp, spoken};
use crate::ports::{Model, ModelError, ModelReply, ModelRequest};
use crate::tools::{ToolContext, ToolOutput};

/// What a model needs at least to answer, behind a wait that its endpoint asks for.
const TO_ANSWER: Duration = Duration::from_secs(15);
/// An endpoint that asks for a second each time is not coming back.
const MAX_WAITS: u32 = 3;

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
    if let Some(why) = budget_of_the_day(desk).await? {
        warn!(incident = %incident.id, why, "the model is not asked");
        return Ok(without(baseline, why, "none (the budget of the day is spent)"));
    }
    if let Some(why) = desk.breaker.refusal(Instant::now()) {
        warn!(incident = %incident.id, why, "the model is not asked");
        let why = format!("{} was {why}", model.name());
        return Ok(without(baseline, why, "none (the model does not answer)"));
    }
    let context = opening::context(desk, incident, picture).await;
    let mut team = match resumed(desk, incident).await {
        Some(team) => team,
        None => opening::open(desk, incident, picture, ranking, runbooks).await?,
    };
    let conclusion = loop {
        if let Some(conclusion) = team.conclusion(desk.clock.wall_now()) {
            break conclusion;
        }
        let due = team.due(desk.clock.wall_now());
        if due.is_empty() {
            // Time has ended the specialists.
            team = team.settled(desk.clock.wall_now());
            continue;
        }
        let done = futures::future::join_all(due.into_iter().map(|due| act(desk, model, &context, due))).await;
        team = learn(desk, model, incident, team, done).await?;
    };
    settle(desk, model.name(), incident, picture, conclusion, baseline).await
}

/// What one member has got.
enum Got {
    Reply { reply: Result<ModelReply, ModelError>, by: String },
    Answers { calls: Vec<ToolCall>, answers: Vec<ToolOutput> },
}

struct Done {
    member: Member,
    got: Got,
    ms: u64,
}

async fn act(desk: &Desk, model: &Arc<dyn Model>, context: &ToolContext, due: Due) -> Option<Done> {
    let began = Instant::now();
    let got = match due.next {
        Next::Conclude(_) => return None,
        Next::AskModel(request) => {
            let small = desk.small_model.as_ref().filter(|_| due.member == Member::Triage);
            let model = small.unwrap_or(model);
            let reply = ask(desk, model, due.member, due.deadline, request).await;
            Got::Reply { reply, by: model.name().to_owned() }
        }
        Next::RunTools(calls) => {
            let names: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
            say(format!("Asking {}.", names.into_iter().collect::<Vec<_>>().join(", ")));
            let left = due.deadline.since(desk.clock.wall_now());
            let run = async |call: &ToolCall| {
                // Names as in OpenTelemetry's semantic conventions for generative AI.
                let span = info_span!(
                    "execute_tool",
                    otel.name = format!("execute_tool {}", call.name),
                    gen_ai.operation.name = "execute_tool",
                    gen_ai.tool.name = call.name,
                    gen_ai.tool.call.id = call.id,
                    gen_ai.agent.name = due.member.name(),
                );
                // Each has its own patience, and waits for its turn before that.
                timeout(left, desk.tools.run(call, context)).instrument(span).await.unwrap_or_else(|_| ToolOutput {
                    text: format!("no answer: not within the {} that were left of the time", spoken(left)),
                    evidence: None,
                })
            };
            let answers = futures::future::join_all(calls.iter().map(run)).await;
            Got::Answers { calls, answers }
        }
    };
    Some(Done { member: due.member, got, ms: began.elapsed().as_millis() as u64 })
}

/// Numbers and stores what came back, and lets the team go on with it.
async fn learn(
    desk: &Desk,
    model: &Arc<dyn Model>,
    incident: &Incident,
    mut team: Team,
    done: Vec<Option<Done>>,
) -> Result<Team, FlowError> {
    let newest = desk.store.incident(&incident.id).await?.ok_or_else(|| FlowError::NoIncident(incident.id.clone()))?;
    let mut dossier = Dossier::new(&newest);
    let mut steps = vec![];
    for Done { member, got, ms } in done.into_iter().flatten() {
        let of_member =
            |team: &Team| team.members().into_iter().find(|(one, _)| *one == member).map(|(_, one)| one.spent);
        match got {
            Got::Reply { reply, by } => {
                let (thought, tokens, cost) = bill(desk, &reply, &by);
                team = team.on_model(member, reply, desk.clock.wall_now());
                let number = of_member(&team).map_or(0, |spent| spent.steps as usize);
                let who = (by != model.name()).then(|| format!("{} ({by})", member.name()));
                steps.push(ReasoningStep {
                    number,
                    who: Some(who.unwrap_or_else(|| member.name().to_owned())),
                    thought: redact(&thought),
                    ms,
                    tokens,
                    cost,
                    ..ReasoningStep::default()
                });
            }
            Got::Answers { calls, answers } => {
                let number = of_member(&team).map_or(0, |spent| spent.steps as usize);
                let mut results = vec![];
                for (call, answer) in calls.iter().zip(answers) {
                    let evidence = answer.evidence.map(|draft| dossier.add_seen(draft, desk.clock.event_now()));
                    steps.push(ReasoningStep {
                        number,
                        who: Some(member.name().to_owned()),
                        tool: Some(call.name.clone()),
                        arguments: Some(redact(&call.arguments.to_string())),
                        evidence: evidence.clone(),
                        ms,
                        ..ReasoningStep::default()
                    });
                    results.push(ToolResult { call_id: call.id.clone(), text: answer.text, evidence });
                }
                team = team.on_tools(member, results, desk.clock.wall_now());
            }
        }
    }
    record(desk, incident, &team, steps, &dossier.evidence).await?;
    Ok(team)
}

/// What it said, or why it said nothing, and what that cost in tokens and money.
fn bill(desk: &Desk, reply: &Result<ModelReply, ModelError>, by: &str) -> (String, u64, f64) {
    let (said, (tokens_in, tokens_out)) = match reply {
        Ok(reply) => (reply.text.clone(), (reply.tokens_in, reply.tokens_out)),
        Err(error) => (error.to_string(), error.tokens()),
    };
    (said, tokens_in + tokens_out, desk.config.prices_of(by).of(tokens_in, tokens_out))
}

/// One reply, within `model.reply_seconds` and before the deadline of whoever asks.
async fn ask(
    desk: &Desk,
    model: &Arc<dyn Model>,
    member: Member,
    deadline: Timestamp,
    request: ModelRequest,
) -> Result<ModelReply, ModelError> {
    let left = deadline.since(desk.clock.wall_now());
    if left.is_zero() {
        return Err(ModelError::TimedOut("no time was left to ask it".to_owned()));
    }
    desk.breaker.admit(Instant::now()).map_err(ModelError::Unavailable)?;
    Counters::add(&desk.counters.model_calls, 1);
    // Names as in OpenTelemetry's semantic conventions for generative AI.
    let span = info_span!(
        "chat",
        otel.name = format!("chat {}", model.name()),
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "openai",
        gen_ai.request.model = model.name(),
        gen_ai.agent.name = member.name(),
        gen_ai.usage.input_tokens = field::Empty,
        gen_ai.usage.output_tokens = field::Empty,
        error.r#type = field::Empty,
    );
    let reply = patiently(desk, model, deadline, request).instrument(span.clone()).await;
    if let Some(reply) = &reply {
        desk.breaker.heard(reply, Instant::now());
    }
    // Less than it may take: nothing is known about the model, which others may ask.
    let cut = || Err(ModelError::Unavailable(format!("no reply within the {} that were left", spoken(left))));
    let reply = reply.unwrap_or_else(cut);
    let (tokens_in, tokens_out) =
        reply.as_ref().map_or_else(ModelError::tokens, |reply| (reply.tokens_in, reply.tokens_out));
    if tokens_in + tokens_out > 0 {
        span.record("gen_ai.usage.input_tokens", tokens_in);
        span.record("gen_ai.usage.output_tokens", tokens_out);
        Counters::add(&desk.counters.model_tokens, tokens_in + tokens_out);
    }
    if let Err(error) = &reply {
        span.record("error.type", error.kind());
        warn!(%error, member = member.name(), "the model did not answer");
    }
    reply
}

/// Where the endpoint says when to come back, that is waited for as long as an answer can still come in time: a
/// minute of quota must not end an investigation of four. `None`: the time ran out, which says nothing of the model.
async fn patiently(
    desk: &Desk,
    model: &Arc<dyn Model>,
    deadline: Timestamp,
    request: ModelRequest,
) -> Option<Result<ModelReply, ModelError>> {
    let left = || deadline.since(desk.clock.wall_now());
    let patience =
        desk.config.model.as_ref().map_or_else(left, |model| Duration::from_secs(model.reply_seconds.max(1)));
    let mut waits = 0;
    loop {
        let left_now = left();
        let (why, after) = match timeout(patience.min(left_now), model.complete(request.clone())).await {
            Ok(Err(ModelError::Later { why, after })) => (why, after),
            Ok(reply) => return Some(reply),
            Err(_) if patience <= left_now => {
                return Some(Err(ModelError::TimedOut(format!("no reply within {}", spoken(patience)))));
            }
            Err(_) => return None,
        };
        waits += 1;
        if desk.stopping() || waits > MAX_WAITS || after + TO_ANSWER > left() {
            return Some(Err(ModelError::RateLimited(format!("{why} (again in {})", spoken(after)))));
        }
        info!(%why, after = after.as_secs(), "the model is asked again when it says");
        let mut stop = desk.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(after) => {}
            _ = stop.changed() => return Some(Err(ModelError::RateLimited(why))),
        }
    }
}

/// Why no model may be asked any more today, if that is so.
async fn budget_of_the_day(desk: &Desk) -> Result<Option<String>, FlowError> {
    let config = &desk.config.investigation;
    if config.max_tokens_a_day == 0 && config.max_cost_a_day <= 0.0 {
        return Ok(None);
    }
    let (tokens, cost) = desk.store.reasoned_since(desk.clock.wall_now().midnight()).await?;
    let over = |spent: f64, limit: f64| limit > 0.0 && spent >= limit;
    if over(tokens as f64, config.max_tokens_a_day as f64) {
        return Ok(Some(format!("{tokens} tokens were spent today, of {}", config.max_tokens_a_day)));
    }
    Ok(over(cost, config.max_cost_a_day).then(|| format!("{cost:.2} was spent today, of {:.2}", config.max_cost_a_day)))
}

/// The deterministic diagnosis, with the reason why it stands.
fn without(baseline: Diagnosis, why: String, reasoner: &str) -> Diagnosis {
    let mut diagnosis = baseline;
    diagnosis.ruled_out.push(Claim { text: why, evidence: vec![] });
    diagnosis.reasoner = reasoner.to_owned();
    diagnosis
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
        let weighed = weigh(judged, baseline, &evidence);
        let differs = weighed.otherwise.as_deref().unwrap_or("nobody");
        info!(model, verdict = weighed.verdict.word(), reasoner = weighed.reasoner, differs, "concluded");
        return Ok(weighed);
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
    let mut diagnosis = without(baseline, said, &format!("none ({model} did not conclude)"));
    // What the model could not prove, and what it lacked, is worth knowing all the same.
    (diagnosis.dropped, diagnosis.needs) = (judged.dropped, judged.needs);
    if honest_unknown && diagnosis.verdict == Verdict::Confirmed {
        diagnosis.verdict = Verdict::Likely;
    }
    Ok(diagnosis)
}

fn setting(incident: &IncidentId) -> String {
    format!("investigation/{incident}")
}

/// What is diagnosed, or given up, is not gone on with: the next round asks anew.
pub fn spent(incident: &IncidentId) -> (String, String) {
    (setting(incident), String::new())
}

/// An investigation that a crash interrupted goes on where it was; one that had come to its conclusion, and was
/// not diagnosed yet, is not paid for twice.
async fn resumed(desk: &Desk, incident: &Incident) -> Option<Team> {
    let kept = desk.store.setting(&setting(&incident.id)).await.ok()??;
    if kept.is_empty() {
        return None;
    }
    let read = serde_json::from_str::<Team>(&kept);
    let unreadable = |error: &serde_json::Error| {
        warn!(incident = %incident.id, %error, "what was kept of an investigation cannot be read: it begins again");
    };
    let team = read.inspect_err(unreadable).ok()?;
    let is_of_use = match team.conclusion(desk.clock.wall_now()) {
        None | Some(Conclusion::Found(_)) => true,
        // Its time may have passed while nobody was there.
        Some(Conclusion::Partial { .. }) => false,
    };
    is_of_use.then(|| {
        info!(incident = %incident.id, "the investigation is resumed");
        team
    })
}

async fn record(
    desk: &Desk,
    incident: &Incident,
    team: &Team,
    steps: Vec<ReasoningStep>,
    evidence: &[Evidence],
) -> Result<(), FlowError> {
    desk.change(&incident.id, |change| {
        keep(change, evidence)?;
        for step in &steps {
            change.record(IncidentEvent::Reasoned { step: step.clone() })?;
        }
        change.batch.settings.push((setting(&incident.id), serde_json::to_string(team).unwrap_or_default()));
        Ok(())
    })
    .await?;
    Ok(())
}
