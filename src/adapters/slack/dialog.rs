//! The dialog that asks for a reason. It carries what the click was about, because the submission
//! that follows names neither the message nor the button.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slack_morphism::prelude::{SlackModalView, SlackView};

use crate::domain::card::ButtonAction;
use crate::ports::MessageRef;

pub(super) const BLOCK: &str = "reason";
pub(super) const INPUT: &str = "reason";
const PREFIX: &str = "midwatch.";

/// What the dialog remembers of the click. Slack hands it back with the signed submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub value: String,
    pub channel: String,
    pub message: Option<String>,
    pub thread: Option<String>,
}

impl Remembered {
    pub fn message(&self) -> Option<MessageRef> {
        self.reference(self.message.as_ref())
    }

    pub fn thread(&self) -> Option<MessageRef> {
        self.reference(self.thread.as_ref())
    }

    fn reference(&self, ts: Option<&String>) -> Option<MessageRef> {
        ts.map(|ts| MessageRef { channel: self.channel.clone(), ts: ts.clone() })
    }
}

/// The action behind a dialog's callback id.
pub(super) fn action(callback: &str) -> Option<ButtonAction> {
    callback.strip_prefix(PREFIX).and_then(ButtonAction::parse).filter(|action| action.asks_for_reason())
}

/// Blocks of the dialog, which the Block Kit oracle judges too.
pub(super) fn view_blocks(action: ButtonAction) -> Value {
    let label = match action {
        ButtonAction::Reject => "Why not?",
        ButtonAction::ThumbsDown => "What was wrong?",
        ButtonAction::Approve | ButtonAction::AskMore | ButtonAction::Acknowledge | ButtonAction::Silence => "Why?",
        ButtonAction::Merge => "Into which incident, and why? For example: INC-1 because one database",
        ButtonAction::Split => "Which services or hosts leave, and why? For example: checkout because its own bug",
        ButtonAction::NotAnIncident => "Why is it noise?",
        ButtonAction::Runbook | ButtonAction::Dashboard | ButtonAction::ThumbsUp => "Why?",
        ButtonAction::RightlyMuted | ButtonAction::ShouldHaveWoken => "Why?",
    };
    json!([{
        "type": "input", "block_id": BLOCK, "label": {"type": "plain_text", "text": label},
        "element": {"type": "plain_text_input", "action_id": INPUT, "multiline": true, "max_length": 2000, "focus_on_load": true},
    }])
}

/// `None` when Slack would not take the dialog (3,000 characters of memory at most).
pub(super) fn view(action: ButtonAction, remembered: &Remembered) -> Option<SlackView> {
    let title = match action {
        ButtonAction::Reject => "Reject the plan",
        ButtonAction::ThumbsDown => "Improve the diagnosis",
        ButtonAction::Approve | ButtonAction::AskMore | ButtonAction::Acknowledge | ButtonAction::Silence => {
            return None;
        }
        ButtonAction::Merge => "Merge the incident",
        ButtonAction::Split => "Split the incident",
        ButtonAction::NotAnIncident => "Not an incident",
        ButtonAction::Runbook | ButtonAction::Dashboard | ButtonAction::ThumbsUp => return None,
        ButtonAction::RightlyMuted | ButtonAction::ShouldHaveWoken => return None,
    };
    let memory = serde_json::to_string(remembered).ok().filter(|memory| memory.len() <= 3000)?;
    let view = json!({
        "title": {"type": "plain_text", "text": title},
        "submit": {"type": "plain_text", "text": "Send"},
        "close": {"type": "plain_text", "text": "Cancel"},
        "callback_id": format!("{PREFIX}{}", action.as_str()),
        "private_metadata": memory,
        "blocks": view_blocks(action),
    });
    serde_json::from_value::<SlackModalView>(view).ok().map(SlackView::Modal)
}
