//! Who has it: hand over, who is on call, a channel for one incident, tasks for later.

use std::collections::BTreeSet;

use super::look::story;
use crate::domain::card::{Card, Span, Tone};
use crate::domain::command::ChannelAct;
use crate::domain::escalation::Step;
use crate::domain::id::{IncidentId, PersonId};
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::narrative::{answer, note, state_words};
use crate::flow::deliver::{ChannelWork, Effect};
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{elsewhere, escalate, label};
use crate::ports::{Person, Standing};

/// Reads `@name`, `<@U1>` and `TEAM/USER`. Names are those of the configuration; whoever is only known
/// to the chat is written as the chat writes people. Whom nobody knows is refused: nobody would be called
/// any more.
pub(super) async fn whom(desk: &Desk, by: &Person, written: &str) -> Result<PersonId, FlowError> {
    let text = written.trim();
    if ["me", "myself"].iter().any(|me| text.eq_ignore_ascii_case(me)) {
        return Ok(by.id.clone());
    }
    if let Some(id) = text.strip_prefix("<@").and_then(|rest| rest.strip_suffix('>')) {
        let id = id.split('|').next().unwrap_or_default();
        // Over the API the chat's own way to write people means the chat's people.
        let chats = desk.config.slack.as_ref().and_then(|slack| slack.team_id.as_deref());
        let own = by.id.as_str().split('/').next().unwrap_or_default();
        let team = if own == "local" { chats.unwrap_or(own) } else { own };
        return known(desk, by, PersonId::new(format!("{team}/{id}")), written).await;
    }
    let name = text.trim_start_matches('@');
    if name.split('/').filter(|part| !part.is_empty()).count() == 2 {
        return known(desk, by, PersonId::new(name), written).await;
    }
    let people = desk.config.people.iter().filter(|person| {
        person.name.eq_ignore_ascii_case(name) || person.id.rsplit('/').next().is_some_and(|user| user == name)
    });
    let listed = desk.policy.approvers.iter().filter(|id| id.rsplit('/').next().is_some_and(|user| user == name));
    let mut found: Vec<&str> = people.map(|person| person.id.as_str()).chain(listed.map(String::as_str)).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(PersonId::new(*one)),
        [] => Err(nobody(desk, written)),
        more => Err(FlowError::Refused(format!("{written} is one of {}; write which", more.join(", ")))),
    }
}

/// The person, when the configuration or the chat knows one of that id.
async fn known(desk: &Desk, by: &Person, id: PersonId, written: &str) -> Result<PersonId, FlowError> {
    if id == by.id || named(desk).contains(id.as_str()) {
        return Ok(id);
    }
    if !is_of_slack(desk, &id) {
        return Err(nobody(desk, written));
    }
    let Some(directory) = desk.authority.directory() else { return Ok(id) };
    match directory.standing(&id).await {
        Ok(Standing::Member) => Ok(id),
        Ok(other) => Err(FlowError::Refused(format!("{written} is {} in the chat", other.word()))),
        Err(failure) => {
            Err(FlowError::Refused(format!("whether there is a {written} cannot be looked up now: {failure}")))
        }
    }
}

/// Everybody whom the configuration names.
fn named(desk: &Desk) -> BTreeSet<&str> {
    let steps = desk.config.escalation.iter().flat_map(|path| &path.steps);
    let called = steps.filter_map(|step| match step {
        Step::Person(id) => Some(id.as_str()),
        Step::PagerDuty(_) | Step::Opsgenie(_) => None,
    });
    let people = desk.config.people.iter().map(|person| person.id.as_str());
    people.chain(desk.policy.approvers.iter().map(String::as_str)).chain(called).collect()
}

/// Whether Slack may know somebody of that id: `T024BE7LD/U012AB3CD`.
fn is_of_slack(desk: &Desk, id: &PersonId) -> bool {
    let Some(slack) = &desk.config.slack else { return false };
    let Some((team, user)) = id.as_str().split_once('/') else { return false };
    slack.team_id.as_deref().is_none_or(|ours| ours == team) && is_slack_id(user)
}

fn is_slack_id(user: &str) -> bool {
    user.len() > 1
        && user.starts_with(['U', 'W'])
        && user.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn nobody(desk: &Desk, written: &str) -> FlowError {
    const MOST: usize = 12;
    let name_of = |id: &str| {
        let person = desk.config.people.iter().find(|person| person.id == id);
        person.map_or_else(|| id.to_owned(), |person| format!("@{} ({id})", person.name))
    };
    let known: Vec<String> = named(desk).into_iter().take(MOST).map(name_of).collect();
    let known = if known.is_empty() { "nobody by name".to_owned() } else { known.join(", ") };
    FlowError::Refused(format!("I don't know {written}; I know {known}; in Slack mention the person"))
}

/// Ends the calls and teaches the prefilter: the caller has asked for authority.
pub(in crate::flow) async fn take(desk: &Desk, by: &Person, id: &IncidentId) -> Result<(), FlowError> {
    desk.change(id, |change| {
        if change.incident().state.is_over() {
            let state = state_words(&change.incident().state).to_lowercase();
            return Err(FlowError::Refused(format!("{id} is {state}; there is nothing to acknowledge")));
        }
        let person = by.id.to_string();
        change.record(IncidentEvent::Acknowledged { by: person.clone() })?;
        label::real(change, &person, "acknowledged it");
        change.tell("root", &Effect::Root);
        Ok(())
    })
    .await?;
    Ok(())
}

/// Whether somebody who may has handed it to them, and they have not accepted it yet.
pub async fn was_handed(desk: &Desk, by: &Person, id: &IncidentId) -> Result<bool, FlowError> {
    let incident = desk.store.incident(id).await?;
    Ok(incident.is_some_and(|one| one.handed.is_some() && one.owner.as_deref() == Some(by.id.as_str())))
}

pub(super) async fn hand_over(
    desk: &Desk,
    by: &Person,
    id: &IncidentId,
    to: &str,
    because: Option<String>,
) -> Result<Card, FlowError> {
    let to = whom(desk, by, to).await?;
    let (incident, ()) = desk
        .change(id, |change| {
            if change.incident().state.is_over() {
                return Err(FlowError::Refused(format!("{id} is over; there is nothing to hand over")));
            }
            let to_accept = change.incident().must_accept(to.as_str(), by.id.as_str());
            change.record(IncidentEvent::HandedTo {
                to: to.to_string(),
                by: by.id.to_string(),
                because: because.clone(),
                to_accept,
            })?;
            change.tell("root", &Effect::Root);
            let card = handed(change.incident(), &to, &by.id, because.as_deref());
            change.tell(&format!("note/handed/{}", change.incident().version), &Effect::Note { card });
            Ok(())
        })
        .await?;
    let text = match (incident.is_taken(), escalate::unless_accepted(desk, &incident).await) {
        (true, _) => format!("{id} is {to}'s now; nobody else is called."),
        (false, Some(otherwise)) => {
            format!("{id} is {to}'s once they accept it (Acknowledge, or /ops take {id}); {otherwise}.")
        }
        (false, None) => {
            format!("{id} is {to}'s, who has not accepted it yet; nobody else is called, so make sure that they know.")
        }
    };
    Ok(note(&text, Tone::Good))
}

/// For the thread, and above all for whoever has it from now on.
fn handed(incident: &Incident, to: &PersonId, by: &PersonId, because: Option<&str>) -> Card {
    let id = &incident.id;
    let person = |id: &PersonId| Span::Person { id: id.to_string() };
    let (mut spans, fallback) = match incident.is_taken() {
        true => (
            vec![person(to), Span::plain(" has it from now on, says "), person(by)],
            format!("{to} has {id} from now on"),
        ),
        false => (
            vec![person(to), Span::plain(" "), person(by), Span::plain(" hands it to you")],
            format!("{by} hands {id} to {to}, who has not accepted it yet"),
        ),
    };
    if let Some(because) = because {
        spans.extend([Span::plain(": "), Span::quoted(because)]);
    }
    if !incident.is_taken() {
        spans.push(Span::plain(format!(
            ". To accept it, press Acknowledge or write /ops take {id}; it is not accepted yet."
        )));
    }
    Card { fallback, ..answer_line(spans) }
}

fn answer_line(spans: Vec<Span>) -> Card {
    Card { fallback: String::new(), blocks: vec![crate::domain::card::Block::Text { spans }] }
}

/// Who is called for a service (or for anything), step by step.
pub(super) async fn on_call(desk: &Desk, service: Option<&str>) -> Result<Card, FlowError> {
    if desk.config.escalation.is_empty() {
        return Ok(note("No escalation path is configured ([[escalation]]).", Tone::Neutral));
    }
    if let Some(service) = service {
        let topology = desk.topology().await;
        if !topology.is_empty() && !topology.contains(service) {
            return Err(FlowError::Refused(format!("I don't know a service {service:?}")));
        }
    }
    let lines = escalate::told(desk, service).await;
    let of = service.map_or_else(String::new, |service| format!(" for {service}"));
    Ok(match lines.is_empty() {
        true => note(&format!("No escalation path fits{of}; /ops oncall lists all paths."), Tone::Neutral),
        false => answer(&format!("Called{of}, one after the other:"), lines),
    })
}

/// Asks for the channel's work; the outbox does it, in order, and tells in the thread.
pub(super) async fn channel(desk: &Desk, by: &Person, id: &IncidentId, act: ChannelAct) -> Result<Card, FlowError> {
    let mut people = vec![];
    if let ChannelAct::Invite { people: wanted } = &act {
        for one in wanted {
            people.push(whom(desk, by, one).await?);
        }
    }
    if !desk.chats.iter().any(|seat| seat.channels.is_some()) {
        return Err(FlowError::Refused("no chat with channels of its own is configured".into()));
    }
    let opened = desk.store.setting(&opened_key(id)).await?.is_some_and(|value| value == "open");
    let (work, told, now_open) = match act {
        ChannelAct::Open if opened => return Ok(note(&format!("{id} has its channel already."), Tone::Neutral)),
        ChannelAct::Open => {
            // Who asks wants to be in it.
            (
                ChannelWork::Open { invite: vec![by.id.clone()] },
                format!("The channel of {id} is being opened; its thread says when it is there."),
                true,
            )
        }
        ChannelAct::Invite { .. } if !opened => {
            return Err(FlowError::Refused(format!("{id} has no channel; /ops channel {id} opens one")));
        }
        ChannelAct::Invite { .. } => (ChannelWork::Invite { people }, format!("Invited to the channel of {id}."), true),
        ChannelAct::Archive if !opened => {
            return Err(FlowError::Refused(format!("{id} has no channel to archive")));
        }
        ChannelAct::Archive => (ChannelWork::Archive, format!("The channel of {id} is archived."), false),
    };
    desk.change(id, |change| {
        let version = change.incident().version;
        change.record(IncidentEvent::Noted { by: by.id.to_string(), text: told.clone() })?;
        change.tell(&format!("channel/{version}"), &Effect::Channel { work: work.clone() });
        let state = if now_open { "open" } else { "archived" };
        change.batch.settings.push((opened_key(id), state.to_owned()));
        Ok(())
    })
    .await?;
    Ok(note(&told, Tone::Good))
}

pub fn opened_key(id: &IncidentId) -> String {
    format!("channel/{id}")
}

/// A task for later: in the log, and in the tracker where one is configured.
pub(super) async fn follow_up(desk: &Desk, by: &Person, id: &IncidentId, text: &str) -> Result<Card, FlowError> {
    let trackers = elsewhere::trackers(desk);
    let (incident, ()) = desk
        .change(id, |change| {
            let said = format!("follow-up: {text}");
            change.record(IncidentEvent::Noted { by: by.id.to_string(), text: said.clone() })?;
            elsewhere::follow_up(desk, change, by, text);
            let version = change.incident().version;
            let spans = vec![
                Span::plain("Follow-up by "),
                Span::Person { id: by.id.to_string() },
                Span::plain(": "),
                Span::quoted(text),
            ];
            let card = Card { fallback: said, ..answer_line(spans) };
            change.tell(&format!("note/follow-up/{version}"), &Effect::Note { card });
            Ok(())
        })
        .await?;
    desk.bells.elsewhere.notify_one();
    let count = story(desk, &incident.id)
        .await?
        .iter()
        .filter(|(_, event)| matches!(event, IncidentEvent::Noted { text, .. } if text.starts_with("follow-up: ")))
        .count();
    let place = match trackers.as_slice() {
        [] => "it is kept with the incident; no tracker is configured".to_owned(),
        names => format!("it goes to {}", names.join(", ")),
    };
    Ok(note(&format!("Follow-up {count} of {id}: {place}."), Tone::Good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_slack_is_told_from_any_other_word() {
        for id in ["U012AB3CD", "W012AB3CD", "U1"] {
            assert!(is_slack_id(id), "{id}");
        }
        for id in ["bar", "U", "", "u012ab3cd", "U01 2", "Ulla", "C012AB3CD"] {
            assert!(!is_slack_id(id), "{id}");
        }
    }
}
