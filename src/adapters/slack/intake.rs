//! What people did, read from Slack's payloads and handed to the inbox: one reading for Socket
//! Mode and HTTP.
//!
//! Invariant: `Ok` means that the act is durable, or that it is none of ours; only then may Slack
//! be told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use slack_morphism::prelude::*;

use crate::domain::card::ButtonAction;
use crate::domain::id::PersonId;
use crate::ports::{ChatError, FromPeople, Inbox, InboxFull, MessageRef, Person, Place};

use super::SlackChat;
use super::dialog::{self, Remembered};
use super::text::unescape;

/// Dialogs opened lately, so that a second delivery of a click opens none.
const REMEMBERED_TRIGGERS: usize = 256;

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    chat: SlackChat,
    inbox: Arc<dyn Inbox>,
    opened: Arc<Mutex<VecDeque<String>>>,
}

/// An act that is not taken up, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("team {0} is not the one that midwatch serves")]
    ForeignTeam(String),
    #[error("no person is named in the payload")]
    Nobody,
    #[error("{0} is not an action of midwatch")]
    ForeignAction(String),
    #[error("{0}")]
    NotForUs(&'static str),
}

/// An act and the name of its delivery.
#[derive(Debug, Clone, PartialEq)]
struct Delivery {
    dedupe: String,
    act: FromPeople,
}

/// A click, before it is known whether it needs words.
#[derive(Debug, Clone, PartialEq)]
enum Click {
    Complete(Delivery),
    AsksForReason { delivery: Delivery, trigger: SlackTriggerId, action: ButtonAction, remembered: Remembered },
}

impl Intake {
    pub fn new(chat: SlackChat, inbox: Arc<dyn Inbox>) -> Self {
        Self { chat, inbox, opened: Arc::default() }
    }

    /// Mentions, direct messages, and who opened the app's home.
    pub async fn push(&self, event: SlackPushEventCallback) -> Result<(), InboxFull> {
        if let SlackEventCallbackBody::AppHomeOpened(opened) = &event.event {
            let kept = opened_home(&event, opened, self.team());
            return match kept {
                Ok(delivery) => self.keep(delivery).await,
                Err(refusal) => {
                    tracing::debug!(%refusal, "slack home left alone");
                    Ok(())
                }
            };
        }
        let us = self.chat.identity().map(|identity| identity.user.clone());
        match said(event, us.as_deref(), self.team()) {
            Ok(delivery) => self.keep(delivery).await,
            Err(refusal) => {
                tracing::debug!(%refusal, "slack event left alone");
                Ok(())
            }
        }
    }

    pub async fn interaction(&self, event: SlackInteractionEvent) -> Result<(), InboxFull> {
        let clicks = match event {
            SlackInteractionEvent::BlockActions(event) => clicked(event, self.team()),
            SlackInteractionEvent::ViewSubmission(event) => vec![submitted(event, self.team()).map(Click::Complete)],
            SlackInteractionEvent::BlockSuggestion(_)
            | SlackInteractionEvent::DialogSubmission(_)
            | SlackInteractionEvent::MessageAction(_)
            | SlackInteractionEvent::Shortcut(_)
            | SlackInteractionEvent::ViewClosed(_) => vec![],
        };
        for click in clicks {
            match click {
                Ok(Click::Complete(delivery)) => self.keep(delivery).await?,
                Ok(Click::AsksForReason { delivery, trigger, action, remembered }) => {
                    self.ask(delivery, trigger, action, remembered)
                }
                Err(refusal) => tracing::warn!(%refusal, "slack click left alone"),
            }
        }
        Ok(())
    }

    pub async fn command(&self, event: SlackCommandEvent) -> Result<(), InboxFull> {
        let (command, way_back) = (event.trigger_id.0.clone(), event.response_url.0.clone());
        match commanded(event, self.team()) {
            Ok(delivery) => {
                self.chat.remember_command(&command, way_back);
                self.keep(delivery).await
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "slack command left alone");
                Ok(())
            }
        }
    }

    /// Asks in the background: Slack hears from us at once (P9), and its `trigger` lives long enough
    /// for one call. A dialog that cannot be opened must not lose the click: a rejection without a
    /// reason is still a rejection, and none of these actions changes anything in the cluster.
    fn ask(&self, delivery: Delivery, trigger: SlackTriggerId, action: ButtonAction, remembered: Remembered) {
        if !self.first_time(&delivery.dedupe) {
            return;
        }
        let way_in = self.clone();
        tokio::spawn(async move {
            let opened = match dialog::view(action, &remembered) {
                Some(view) => way_in.chat.open_view(&trigger, view).await,
                None => Err(ChatError::Refused("Slack would not take the dialog".into())),
            };
            let Err(error) = opened else { return };
            tracing::warn!(%error, action = action.as_str(), "no dialog; the click is kept without a reason");
            if let Err(full) = way_in.keep(delivery).await {
                tracing::error!(error = %full, action = action.as_str(), "a click is lost; its person sees no dialog");
            }
        });
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn first_time(&self, click: &str) -> bool {
        let mut opened = self.opened();
        if opened.iter().any(|known| known == click) {
            return false;
        }
        if opened.len() == REMEMBERED_TRIGGERS {
            opened.pop_front();
        }
        opened.push_back(click.to_string());
        true
    }

    async fn keep(&self, delivery: Delivery) -> Result<(), InboxFull> {
        self.inbox.accept(&delivery.dedupe, delivery.act).await
    }

    fn team(&self) -> Option<&str> {
        self.chat.config().team_id.as_deref()
    }
}

fn said(event: SlackPushEventCallback, us: Option<&str>, team: Option<&str>) -> Result<Delivery, Refusal> {
    let bot = us.map(str::to_string).or_else(|| {
        let authorizations = event.authorizations.iter().flatten();
        authorizations.filter(|auth| auth.is_bot == Some(true)).map(|auth| auth.user_id.0.clone()).next()
    });
    let dedupe = format!("slack:event:{}", event.event_id.0);
    let team_id = event.team_id.0;
    let (user, channel, origin, content, strip) = match event.event {
        SlackEventCallbackBody::AppMention(mention) => {
            if mention.edited.is_some() {
                return Err(Refusal::NotForUs("an edited mention"));
            }
            (mention.user, mention.channel, mention.origin, Some(mention.content), true)
        }
        SlackEventCallbackBody::Message(message) => {
            if message.subtype.is_some() || message.hidden == Some(true) || message.message.is_some() {
                return Err(Refusal::NotForUs("an edit, a join or another kind of message"));
            }
            if message.sender.bot_id.is_some() {
                return Err(Refusal::NotForUs("a message of a bot"));
            }
            if message.origin.channel_type.as_ref().map(|kind| kind.0.as_str()) != Some("im") {
                return Err(Refusal::NotForUs("a channel message that does not mention us"));
            }
            let user = message.sender.user.ok_or(Refusal::Nobody)?;
            let channel = message.origin.channel.clone().ok_or(Refusal::NotForUs("a message without a channel"))?;
            (user, channel, message.origin, message.content, false)
        }
        _ => return Err(Refusal::NotForUs("an event that midwatch does not read")),
    };
    if bot.as_deref() == Some(user.0.as_str()) {
        return Err(Refusal::NotForUs("our own message"));
    }
    let by = person(&team_id, &user.0, None, team)?;
    let raw = content.and_then(|content| content.text).unwrap_or_default();
    let text = if strip { without_mention(&raw, bot.as_deref()) } else { raw };
    let place = place(&channel.0, Some(&origin.ts.0), origin.thread_ts.as_ref().map(|ts| ts.0.as_str()));
    Ok(Delivery { dedupe, act: FromPeople::Mention { place, by, text: unescape(text.trim()) } })
}

fn opened_home(
    event: &SlackPushEventCallback,
    opened: &SlackAppHomeOpenedEvent,
    team: Option<&str>,
) -> Result<Delivery, Refusal> {
    if opened.tab.as_deref().is_some_and(|tab| tab != "home") {
        return Err(Refusal::NotForUs("the messages tab"));
    }
    let by = person(&event.team_id.0, &opened.user.0, None, team)?;
    let place = place(&opened.channel.0, None, None);
    let dedupe = format!("slack:event:{}", event.event_id.0);
    Ok(Delivery { dedupe, act: FromPeople::Home { place, by } })
}

fn clicked(event: SlackInteractionBlockActionsEvent, team: Option<&str>) -> Vec<Result<Click, Refusal>> {
    let user = match &event.user {
        Some(user) => user.clone(),
        None => return vec![Err(Refusal::Nobody)],
    };
    let by = match signed_person(&event.team, &user, team) {
        Ok(by) => by,
        Err(refusal) => return vec![Err(refusal)],
    };
    let (container_ts, container_channel) = match &event.container {
        SlackInteractionActionContainer::Message(of) => (Some(of.message_ts.0.clone()), of.channel_id.clone()),
        SlackInteractionActionContainer::MessageAttachment(of) => {
            (Some(of.message_ts.0.clone()), of.channel_id.clone())
        }
        SlackInteractionActionContainer::View(_) => (None, None),
    };
    let channel = event.channel.as_ref().map(|channel| channel.id.0.clone()).or(container_channel.map(|id| id.0));
    let channel = channel.unwrap_or_default();
    let thread = event.message.as_ref().and_then(|message| message.origin.thread_ts.as_ref()).map(|ts| ts.0.clone());
    let trigger = event.trigger_id;
    let read = |info: SlackInteractionActionInfo| {
        let action = ButtonAction::parse(&info.action_id.0).ok_or(Refusal::ForeignAction(info.action_id.0.clone()))?;
        let value = info.value.unwrap_or_default();
        let nth = info.action_ts.as_ref().map_or(trigger.0.as_str(), |ts| ts.0.as_str());
        let dedupe = format!("slack:click:{nth}:{}:{}", by.id, info.action_id.0);
        let place = place(&channel, container_ts.as_deref(), thread.as_deref());
        let act = FromPeople::Click { place, by: by.clone(), action, value: value.clone(), reason: None };
        let delivery = Delivery { dedupe, act };
        if !action.asks_for_reason() {
            return Ok(Click::Complete(delivery));
        }
        let remembered =
            Remembered { value, channel: channel.clone(), message: container_ts.clone(), thread: thread.clone() };
        Ok(Click::AsksForReason { delivery, trigger: trigger.clone(), action, remembered })
    };
    event.actions.unwrap_or_default().into_iter().map(read).collect()
}

fn submitted(event: SlackInteractionViewSubmissionEvent, team: Option<&str>) -> Result<Delivery, Refusal> {
    let by = signed_person(&event.team, &event.user, team)?;
    let SlackView::Modal(modal) = event.view.view else {
        return Err(Refusal::NotForUs("a submission that is no dialog"));
    };
    let callback = modal.callback_id.map(|id| id.0).unwrap_or_default();
    let action = dialog::action(&callback).ok_or(Refusal::ForeignAction(callback))?;
    let remembered: Remembered = modal
        .private_metadata
        .and_then(|memory| serde_json::from_str(&memory).ok())
        .ok_or(Refusal::NotForUs("a dialog without its memory"))?;
    let state = event.view.state_params;
    let reason = dialog::words(action, state.state.as_ref());
    let place =
        Place { thread: remembered.thread(), message: remembered.message(), ..place(&remembered.channel, None, None) };
    let act = FromPeople::Click { place, by, action, value: remembered.value, reason };
    // A dialog can be sent once.
    Ok(Delivery { dedupe: format!("slack:view:{}", state.id.0), act })
}

fn commanded(event: SlackCommandEvent, team: Option<&str>) -> Result<Delivery, Refusal> {
    let by = person(&event.team_id.0, &event.user_id.0, None, team)?;
    let text = unescape(event.text.unwrap_or_default().trim());
    let place = Place { command: Some(event.trigger_id.0.clone()), ..place(&event.channel_id.0, None, None) };
    let act = FromPeople::Command { place, by, text };
    Ok(Delivery { dedupe: format!("slack:command:{}", event.trigger_id.0), act })
}

/// In a shared channel a person's own team differs from the one that the app was installed in.
fn signed_person(
    workspace: &SlackBasicTeamInfo,
    user: &SlackBasicUserInfo,
    team: Option<&str>,
) -> Result<Person, Refusal> {
    let home = user.team_id.as_ref().unwrap_or(&workspace.id);
    let name = user.name.as_deref().or(user.username.as_deref());
    if let Some(expected) = team.filter(|expected| *expected != workspace.id.0) {
        tracing::debug!(expected, "payload of another workspace");
        return Err(Refusal::ForeignTeam(workspace.id.0.clone()));
    }
    person(&home.0, &user.id.0, name, team)
}

fn person(team_id: &str, user: &str, name: Option<&str>, team: Option<&str>) -> Result<Person, Refusal> {
    if team.is_some_and(|expected| expected != team_id) {
        return Err(Refusal::ForeignTeam(team_id.to_string()));
    }
    // A slash inside would let one person pose as another.
    let sound = |id: &str| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
    if !sound(team_id) || !sound(user) {
        return Err(Refusal::Nobody);
    }
    Ok(Person { id: PersonId::new(format!("{team_id}/{user}")), name: name.unwrap_or(user).to_string() })
}

fn place(channel: &str, message: Option<&str>, thread: Option<&str>) -> Place {
    let reference = |ts: &str| MessageRef { channel: channel.to_string(), ts: ts.to_string() };
    Place {
        channel: channel.to_string(),
        thread: thread.map(reference),
        message: message.map(reference),
        command: None,
    }
}

/// Without the bot's mention; with an unknown bot the first mention is taken for it.
fn without_mention(text: &str, bot: Option<&str>) -> String {
    let Some(start) = text.find(&bot.map_or("<@".to_string(), |bot| format!("<@{bot}"))) else {
        return text.to_string();
    };
    let Some(length) = text[start..].find('>') else {
        return text.to_string();
    };
    format!("{}{}", &text[..start], text[start + length + 1..].trim_start())
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
