//! `/ops ...`, from Slack, the console, the command line and the API alike: understood by the domain's
//! grammar, carried out here.
//!
//! Invariants: who only looks needs no authority; who instructs does, except that anybody may pause;
//! every refusal of an instruction is in the audit trail.

mod close;
mod diagnose;
mod hints;
mod look;
mod notes;
mod owner;
pub mod pause;
mod risk;

use std::sync::Arc;

use super::desk::{Desk, FlowError};
use super::{act, approve, earn, label, regroup, silence};
use crate::domain::card::{Card, Span, Tone};
use crate::domain::change::Change;
use crate::domain::command::{Command, Verb, Wrong, parse, plain};
use crate::domain::id::IncidentId;
use crate::domain::incident::Decision;
use crate::domain::narrative::{answer, note};
use crate::domain::time::{Timestamp, spoken};
use crate::ports::Person;

pub(super) use diagnose::look_again;
pub use hints::hints;
pub(super) use look::{runbook_for, story};
pub(super) use owner::{opened_key, take, was_handed};

/// Whether the words were a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Understood {
    Yes,
    No,
}

/// What was changed how long ago, and by what.
fn tell_change(change: &Change, event_now: Timestamp) -> Vec<Span> {
    vec![
        Span::plain(format!("{} ago: ", spoken(event_now.since(change.at)))),
        Span::code(change.id.clone()),
        Span::plain(" "),
        Span::quoted(change.cause.clone().unwrap_or_default()),
    ]
}

pub async fn run(desk: &Arc<Desk>, by: &Person, text: &str) -> Result<(Understood, Card), FlowError> {
    let Some(commands) = silence_of_incident(desk, text).await? else { return run_one(desk, by, text).await };
    run_all(desk, by, &commands).await
}

/// One after another, answered together; what is refused does not keep the others from being done.
pub async fn run_all(desk: &Arc<Desk>, by: &Person, commands: &[String]) -> Result<(Understood, Card), FlowError> {
    let mut answers: Option<(Understood, Card)> = None;
    for command in commands {
        let (understood, card) = run_one(desk, by, command).await?;
        answers = Some(match answers {
            None => (understood, card),
            Some((before, so_far)) => (if before == Understood::No { before } else { understood }, so_far.and(card)),
        });
    }
    Ok(answers.unwrap_or_else(|| (Understood::No, note("There is nothing to do.", Tone::Neutral))))
}

async fn run_one(desk: &Arc<Desk>, by: &Person, text: &str) -> Result<(Understood, Card), FlowError> {
    match parse(text) {
        Ok(command) => Ok((Understood::Yes, carry_out(desk, by, command).await?)),
        Err(wrong) => Ok((Understood::No, say_what_is_right(&wrong))),
    }
}

/// `silence INC-3 1h ...`, as its button writes it: about all that the incident is about.
async fn silence_of_incident(desk: &Desk, text: &str) -> Result<Option<Vec<String>>, FlowError> {
    let text = plain(text);
    let text = text.trim().trim_start_matches("/ops").trim_start();
    let mut words = text.splitn(3, char::is_whitespace);
    let (Some(verb), Some(id), Some(rest)) = (words.next(), words.next(), words.next()) else { return Ok(None) };
    let is_silence = Verb::named(verb) == Some(Verb::Silence) && !id.contains('=');
    // A number alone, or behind another name (`db1`), is no incident here: all of it would be muted.
    let Some(id) = IncidentId::with_prefix(id).filter(|_| is_silence) else { return Ok(None) };
    let rest = rest.trim();
    let span = if rest.starts_with("for ") { rest.to_owned() } else { format!("for {rest}") };
    let silences = silence::of_incident(desk, &id, span).await?;
    Ok(Some(silences.iter().map(|words| format!("{verb} {words}")).collect()))
}

pub fn say_what_is_right(wrong: &Wrong) -> Card {
    let mut lines = vec![];
    let why = match &wrong.did_you_mean {
        Some(better) => {
            lines.push(vec![Span::plain("Did you mean: "), Span::code(format!("/ops {better}"))]);
            format!("{}; did you mean {better}?", wrong.why)
        }
        None => format!("{}.", wrong.why),
    };
    lines.push(vec![Span::plain("Example: "), Span::code(format!("/ops {}", wrong.example))]);
    answer(&why, lines)
}

async fn carry_out(desk: &Arc<Desk>, by: &Person, command: Command) -> Result<Card, FlowError> {
    match needs(&command) {
        Needs::Nothing | Needs::ItsOwnCheck => {}
        Needs::Authority => desk.must_have_authority(by, &format!("{} here", command.verb().name())).await?,
    }
    match command {
        Command::Help { about } => Ok(help(about)),
        Command::Status => look::status(desk).await,
        Command::Incidents { which } => look::incidents(desk, by, which).await,
        Command::Diagnose { service, namespace, since } => {
            diagnose::diagnose(desk, by, &service, namespace.as_deref(), since).await
        }
        Command::Explain { what } => look::explain(desk, &what).await,
        Command::Runbook { words } => look::runbook_for(desk, &words).await,
        Command::Risk { service, image } => risk::risk(desk, &service, image.as_deref()).await,
        Command::OnCall { service } => owner::on_call(desk, service.as_deref()).await,
        Command::Audit { incident: None } => look::audit(desk).await,
        Command::Audit { incident: Some(id) } => look::audit_of(desk, &id).await,
        Command::Silences => silence::list(desk).await,
        Command::Silence { matchers, span, because, consent } => {
            silence::create(desk, by, matchers, span, because, consent).await
        }
        Command::Unsilence { id } => silence::expire(desk, by, &id).await,
        Command::Remember { text, service } => notes::remember(desk, by, &text, service).await,
        Command::Forget { id } => notes::forget(desk, by, &id).await,
        Command::Pause { scope, because } => pause::stop(desk, by, &scope, &because).await,
        Command::Resume { scope } => pause::set(desk, by, &scope, None).await,
        Command::Merge { from, into, because } => {
            regroup::order(desk, by, regroup::Wanted::Merge { from, into }, because).await
        }
        Command::Split { from, subjects, because } => {
            regroup::order(desk, by, regroup::Wanted::Split { from, subjects }, because).await
        }
        Command::Noise { incident, because } => label::noise(desk, by, &incident, &because).await,
        Command::Close { incident, because } => close::close(desk, by, &incident, &because).await,
        Command::Take { incident } => {
            if !was_handed(desk, by, &incident).await? {
                desk.must_have_authority(by, "take here").await?;
            }
            owner::take(desk, by, &incident).await?;
            Ok(note(&format!("{incident} is yours now."), Tone::Good))
        }
        Command::HandOver { incident, to, because } => owner::hand_over(desk, by, &incident, &to, because).await,
        Command::Channel { incident, act } => owner::channel(desk, by, &incident, act).await,
        Command::FollowUp { incident, text } => owner::follow_up(desk, by, &incident, &text).await,
        Command::Approve { card } => {
            let told = approve::vote(desk, &card, by, Decision::Approve, None).await?;
            Ok(note(&told, Tone::Good))
        }
        Command::Reject { card, because } => {
            let told = approve::vote(desk, &card, by, Decision::Reject, Some(because)).await?;
            Ok(note(&told, Tone::Neutral))
        }
        Command::Act { asked } if asked.is_empty() => Ok(act::list(desk)),
        Command::Act { asked } => act::request(desk, by, &asked).await,
        Command::Autonomy { asked } => match asked.split_once(' ') {
            Some(("promote", what)) => earn::promote(desk, by, what).await,
            Some(("demote", what)) => earn::take_back(desk, by, what).await,
            Some(_) | None => earn::show(desk).await,
        },
        Command::Ask { card, question } => {
            let told = approve::ask_more(desk, &card, by, Some(question)).await?;
            Ok(note(&told, Tone::Working))
        }
    }
}

enum Needs {
    Nothing,
    Authority,
    /// Where it is carried out, since buttons lead there, too.
    ItsOwnCheck,
}

fn needs(command: &Command) -> Needs {
    match command.verb() {
        // Whoever sees that it must stop may stop it.
        Verb::Pause => Needs::Nothing,
        Verb::Silence
        | Verb::Unsilence
        | Verb::Merge
        | Verb::Split
        | Verb::Approve
        | Verb::Reject
        | Verb::Ask
        | Verb::Act
        | Verb::Autonomy => Needs::ItsOwnCheck,
        // It looks for everybody, and investigates for those who may ask for it. Whoever was handed an incident
        // takes it by leave of who did that.
        Verb::Diagnose | Verb::Take => Needs::ItsOwnCheck,
        Verb::Remember
        | Verb::Forget
        | Verb::Resume
        | Verb::Noise
        | Verb::Close
        | Verb::HandOver
        | Verb::Channel
        | Verb::FollowUp => Needs::Authority,
        Verb::Explain
        | Verb::Silences
        | Verb::Audit
        | Verb::Incidents
        | Verb::Runbook
        | Verb::Status
        | Verb::Risk
        | Verb::OnCall
        | Verb::Help => Needs::Nothing,
    }
}

fn help(about: Option<Verb>) -> Card {
    match about {
        None => answer(
            "I stand the watch. Ask me:",
            Verb::ALL
                .into_iter()
                .map(|verb| {
                    let spec = verb.spec();
                    let form = format!("/ops {} {}", verb.name(), spec.form);
                    vec![Span::code(form.trim_end().to_owned()), Span::plain(format!(": {}", spec.about))]
                })
                .collect(),
        ),
        Some(verb) => {
            let spec = verb.spec();
            let form = format!("/ops {} {}", verb.name(), spec.form);
            let mut lines = vec![vec![Span::plain("Write: "), Span::code(form.trim_end().to_owned())]];
            lines.extend(
                spec.examples.iter().map(|one| vec![Span::plain("Example: "), Span::code(format!("/ops {one}"))]),
            );
            if let [_, others @ ..] = spec.names
                && !others.is_empty()
            {
                lines.push(vec![Span::plain(format!("Also called {}.", others.join(", ")))]);
            }
            if spec.verb.instructs() && verb != Verb::Pause {
                lines.push(vec![Span::plain("For people whom policy.approvers or policy.groups names.")]);
            }
            answer(&format!("{}: {}", verb.name(), spec.about), lines)
        }
    }
}
