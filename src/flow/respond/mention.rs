//! What is said to the watch in words rather than by a command.
//!
//! Invariants: words decide nothing on plans; what is a whole command is carried out under that command's
//! checks; only people with authority make a model work or an investigation begin (S3); direct messages
//! change nothing.

use std::sync::Arc;

use super::answers::{fixed_set, names, reply, unmeasured};
use crate::domain::card::{Card, Tone};
use crate::domain::command::{Command, Verb, closes_this, parse, plain, takes_this};
use crate::domain::conversation::{Question, read};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, State};
use crate::domain::narrative::note;
use crate::flow::command;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::reason::converse;
use crate::ports::{Person, Place};

/// How an answer comes about.
pub(super) enum Answer {
    Now(Card),
    /// A model is asked, which takes a while; `instead` stands when it gets nowhere.
    Asked {
        incident: Option<Box<Incident>>,
        instead: Card,
    },
}

/// Talks about the incident of the thread or channel, or about the estate.
pub(super) async fn mention(
    desk: &Arc<Desk>,
    chat: &str,
    place: &Place,
    by: &Person,
    text: &str,
) -> Result<Answer, FlowError> {
    // Slack's direct messages.
    let read_only = chat == "slack" && place.channel.starts_with('D');
    let text = plain(text);
    let incident = incident_of(desk, place).await?;
    let here = incident.as_ref().and_then(|incident| order_here(&incident.id, &text));
    let text = here.unwrap_or(text);
    let text = text.as_str();
    let known = names(desk, incident.as_ref()).await;
    let question = read(text, &known);
    let parsed = parse(text);
    let is_marked = text.trim_start().starts_with("/ops");
    if let Ok(command) = &parsed
        && (incident.is_none() || is_marked || is_order(command) || (question.is_none() && is_looked_up(command)))
    {
        // To diagnose opens an incident where there is none.
        if read_only && (command.verb().instructs() || command.verb() == Verb::Diagnose) {
            return Err(only_ask());
        }
        return Ok(Answer::Now(command::run(desk, by, text).await?.1));
    }
    // It may be about an incident as a whole, or wrong: then it is told what is right.
    let is_meant = is_marked || is_silence(text);
    if parsed.is_err() && (is_close(text) || (is_meant && matches!(question, None | Some(Question::Act)))) {
        if read_only {
            return Err(only_ask());
        }
        return Ok(Answer::Now(command::run(desk, by, text).await?.1));
    }
    match &question {
        Some(Question::LookAgain | Question::Investigate { .. }) if read_only => {
            return Err(only_ask());
        }
        Some(Question::LookAgain) => return look_again(desk, by, incident).await.map(Answer::Now),
        Some(Question::Investigate { service }) => {
            return Ok(Answer::Now(command::run(desk, by, &format!("diagnose {service}")).await?.1));
        }
        Some(question) => {
            if let Some(card) = reply(desk, incident.as_ref(), question).await? {
                return Ok(Answer::Now(card));
            }
            if incident.is_none() {
                let same = match question {
                    Question::Status => Some("status"),
                    Question::Alerts => Some("incidents"),
                    _ => None,
                };
                if let Some(command) = same {
                    return Ok(Answer::Now(command::run(desk, by, command).await?.1));
                }
            }
        }
        None => {}
    }
    let Some(_) = &desk.model else {
        if let Some(card) = unmeasured(desk, text, known) {
            return Ok(Answer::Now(card));
        }
        return Ok(Answer::Now(fixed_set("No model is configured, so this is beyond me.")));
    };
    if let Err(because) = desk.authority_of(&by.id).await {
        return Ok(Answer::Now(fixed_set(&format!("Free questions are for people who may instruct me ({because})."))));
    }
    Ok(Answer::Asked { incident: incident.map(Box::new), instead: fixed_set("I got nowhere with that.") })
}

/// What is carried out in an incident's thread without its mark, too: Slack has no slash commands there.
fn is_order(command: &Command) -> bool {
    match command {
        // Of plans only what is marked as a command decides.
        Command::Approve { .. } | Command::Reject { .. } | Command::Ask { .. } | Command::Act { .. } => false,
        other => other.verb().instructs(),
    }
}

/// What is only looked up, and is no question about the incident.
fn is_looked_up(command: &Command) -> bool {
    match command {
        Command::Explain { what } => what.split('.').next().and_then(IncidentId::parse).is_some(),
        other => matches!(
            other.verb(),
            Verb::Help | Verb::Audit | Verb::Incidents | Verb::Silences | Verb::OnCall | Verb::Risk
        ),
    }
}

/// In the thread of an incident it needs no number.
fn order_here(id: &IncidentId, text: &str) -> Option<String> {
    if takes_this(text) {
        return Some(format!("take {id}"));
    }
    closes_this(text).map(|because| format!("close {id} because {because}"))
}

/// Names what is to be closed, and may lack the reason.
fn is_close(text: &str) -> bool {
    let mut words = text.trim_start().trim_start_matches("/ops").split_whitespace();
    let is_close = words.next().and_then(Verb::named) == Some(Verb::Close);
    is_close && words.next().and_then(IncidentId::parse).is_some()
}

fn is_silence(text: &str) -> bool {
    let words = text.trim_start().trim_start_matches("/ops");
    words.split_whitespace().next().and_then(Verb::named) == Some(Verb::Silence)
}

fn only_ask() -> FlowError {
    FlowError::Refused("direct messages only ask; order it in a channel, where others see it".into())
}

/// Asks the model and gives what it can prove; what else can be asked, where it gets nowhere.
pub(super) async fn converse(
    desk: &Desk,
    by: &Person,
    text: &str,
    incident: Option<Incident>,
    number: i64,
    instead: Card,
) -> Result<Card, FlowError> {
    let Some(model) = &desk.model else { return Ok(instead) };
    match converse::answer(desk, model, by, text, incident, number).await? {
        Ok(card) => Ok(card),
        Err(why) => {
            let mut card = instead;
            let why = note(&format!("{why}."), Tone::Neutral);
            card.blocks.splice(0..0, why.blocks);
            Ok(card)
        }
    }
}

async fn incident_of(desk: &Desk, place: &Place) -> Result<Option<Incident>, FlowError> {
    let id = match &place.thread {
        Some(thread) => desk.store.incident_of_message(thread).await?,
        None => None,
    };
    let id = match id {
        Some(id) => Some(id),
        None => desk.store.incident_of_channel(&place.channel).await?,
    };
    match id {
        Some(id) => Ok(desk.store.incident(&id).await?),
        None => Ok(None),
    }
}

async fn look_again(desk: &Desk, by: &Person, incident: Option<Incident>) -> Result<Card, FlowError> {
    let Some(incident) = incident else {
        return Err(FlowError::Refused("say it in an incident's thread, or /ops diagnose <service>".into()));
    };
    desk.must_have_authority(by, "send the investigation back").await?;
    if !matches!(incident.state, State::HandedOver { .. } | State::Diagnosed) {
        let state = crate::domain::narrative::state_words(&incident.state).to_lowercase();
        return Err(FlowError::Refused(format!(
            "{} is {state}; it can be looked at again when it is not",
            incident.id
        )));
    }
    command::look_again(desk, &incident.id, &format!("{} asked to look again", by.name)).await?;
    Ok(note("Looking again; the diagnosis follows here.", Tone::Working))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ordered: bool, looked_up: bool) {
        let command = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!((is_order(&command), is_looked_up(&command)), (ordered, looked_up), "{text}");
    }

    #[test]
    fn in_a_thread_orders_are_carried_out_and_plans_are_not_decided() {
        for text in
            ["pause everything", "stop", "take INC-1 please", "handover INC-1 to @bob", "close 1 because x", "resume"]
        {
            check(text, true, false);
        }
        let card = "INC-1.P1.0a1b2c3d4e5f";
        for text in
            [format!("approve {card}"), format!("reject {card} because no"), format!("ask {card} why"), "act".into()]
        {
            check(&text, false, false);
        }
        check("help", false, true);
        check("explain INC-1.P1", false, true);
        check("explain the plan", false, false);
        check("status", false, false);
        assert!(is_silence("/ops silence INC-1 1h drill") && !is_silence("why silence?"));
        assert!(is_close("close INC-1 because ") && is_close("/ops resolve INC-1") && !is_close("close to the limit?"));
        let here = |text: &str| order_here(&IncidentId::numbered(7), text);
        assert_eq!(here("close because it works").as_deref(), Some("close INC-7 because it works"));
        assert_eq!(here("mine").as_deref(), Some("take INC-7"));
        assert_eq!(here("why is it slow?"), None);
    }
}
