//! The dialog that asks what a click needs in words: `domain::card::Form` as Slack's modal. It
//! carries what the click was about, because the submission that follows names neither the message
//! nor the button.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slack_morphism::prelude::{SlackModalView, SlackView, SlackViewState};

use crate::domain::card::{ButtonAction, Form, Input, InputKind, REASON};
use crate::ports::MessageRef;

const PREFIX: &str = "midwatch.";
/// https://docs.slack.dev/reference/block-kit/block-elements/plain-text-input-element
const MOST_LETTERS: usize = 2000;
const MOST_MEMORY: usize = 3000;

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

/// What was written into the dialog, as one line of words.
pub(super) fn words(action: ButtonAction, state: Option<&SlackViewState>) -> Option<String> {
    let given = |id: &str| {
        let (_, inputs) = state?.values.iter().find(|(block, _)| block.0 == id)?;
        let (_, input) = inputs.iter().find(|(input, _)| input.0 == id)?;
        input.value.clone().or_else(|| input.selected_option.as_ref().map(|option| option.value.clone()))
    };
    action.form()?.words(given)
}

/// Blocks of the dialog, which the Block Kit oracle judges too.
pub fn form_blocks(form: &Form) -> Vec<Value> {
    form.inputs.iter().map(input).collect()
}

fn input(input: &Input) -> Value {
    let element = match input.kind {
        InputKind::Words | InputKind::Line => json!({
            "type": "plain_text_input", "action_id": input.id, "multiline": input.kind == InputKind::Words,
            "max_length": MOST_LETTERS, "focus_on_load": input.id == REASON,
        }),
        InputKind::Choice { options } => {
            let options: Vec<Value> = options
                .iter()
                .map(|(value, label)| json!({"text": {"type": "plain_text", "text": label}, "value": value}))
                .collect();
            json!({
                "type": "static_select", "action_id": input.id,
                "initial_option": options.first(), "options": options,
            })
        }
    };
    let mut block = json!({
        "type": "input", "block_id": input.id, "optional": input.optional,
        "label": {"type": "plain_text", "text": input.label}, "element": element,
    });
    if !input.hint.is_empty() {
        block["hint"] = json!({"type": "plain_text", "text": input.hint});
    }
    block
}

/// `None` when the click asks for nothing, or Slack would not take the dialog.
pub(super) fn view(action: ButtonAction, remembered: &Remembered) -> Option<SlackView> {
    let form = action.form()?;
    let memory = serde_json::to_string(remembered).ok().filter(|memory| memory.len() <= MOST_MEMORY)?;
    let view = json!({
        "title": {"type": "plain_text", "text": form.title},
        "submit": {"type": "plain_text", "text": form.send},
        "close": {"type": "plain_text", "text": "Cancel"},
        "callback_id": format!("{PREFIX}{}", action.as_str()),
        "private_metadata": memory,
        "blocks": form_blocks(form),
    });
    serde_json::from_value::<SlackModalView>(view).ok().map(SlackView::Modal)
}
