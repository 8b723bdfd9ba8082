//! A card: what is shown to people, before it becomes Slack blocks, console HTML or plain text.
//!
//! Invariant: text that midwatch did not write is `Span::Quoted`. A renderer puts it only where it
//! cannot become markup, a mention or a link.

mod form;
mod shown;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;
pub use form::{Form, Input, InputKind, REASON};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Stands alone: notification text, logs, and clients without blocks.
    pub fallback: String,
    pub blocks: Vec<Block>,
}

impl Card {
    /// Both, one below the other.
    pub fn and(mut self, other: Self) -> Self {
        self.fallback = format!("{}\n{}", self.fallback, other.fallback);
        self.blocks.extend(other.blocks);
        self
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "block", rename_all = "snake_case")]
pub enum Block {
    Header {
        text: String,
        tone: Tone,
    },
    Fields {
        fields: Vec<Field>,
    },
    Text {
        spans: Vec<Span>,
    },
    List {
        items: Vec<Vec<Span>>,
    },
    /// Preformatted, e.g. a dry-run diff. Always untrusted.
    Code {
        text: String,
    },
    /// A picture that the console serves and Slack gets as an upload: metric graph or topology.
    Picture {
        title: String,
        alt: String,
        path: String,
    },
    Actions {
        buttons: Vec<Button>,
    },
    Context {
        spans: Vec<Span>,
    },
    Divider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    Alarm,
    Working,
    Good,
    Neutral,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    pub label: String,
    pub value: Vec<Span>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "span", rename_all = "snake_case")]
pub enum Span {
    /// Written by midwatch.
    Plain {
        text: String,
    },
    Bold {
        text: String,
    },
    /// Names of things (services, revisions): shown as code, always escaped.
    Code {
        text: String,
    },
    /// Somebody else's words: a log line, a label value, a chat message.
    Quoted {
        text: String,
    },
    /// A mark such as E3 that opens the evidence.
    Evidence {
        id: String,
    },
    /// Minted by us; `path` is relative to the console's address.
    Link {
        text: String,
        path: String,
    },
    /// An instant, shown in the reader's own time zone.
    Date {
        at: Timestamp,
    },
    /// A person: shown by name, notified only when `notify`.
    Person {
        id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Button {
    pub action: ButtonAction,
    pub label: String,
    /// Opaque to the chat: `approval_id.digest` or an incident id. At most 2,000 bytes.
    pub value: String,
    pub style: ButtonStyle,
    /// Asked before the click counts.
    pub confirm: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonAction {
    Approve,
    /// Opens a dialog that asks for a reason.
    Reject,
    AskMore,
    Acknowledge,
    /// Opens a dialog that asks what to mute, for how long, and why.
    Silence,
    Runbook,
    Dashboard,
    ThumbsUp,
    /// Opens a dialog that asks what was wrong.
    ThumbsDown,
    /// Opens a dialog that asks into which incident, and why.
    Merge,
    /// Opens a dialog that asks which subjects leave, and why.
    Split,
    /// Opens a dialog that asks why it is noise.
    NotAnIncident,
    /// Of an alert that was suppressed and is shown to people all the same.
    RightlyMuted,
    ShouldHaveWoken,
}

impl ButtonAction {
    pub const ALL: [Self; 14] = [
        Self::Approve,
        Self::Reject,
        Self::AskMore,
        Self::Acknowledge,
        Self::Silence,
        Self::Runbook,
        Self::Dashboard,
        Self::ThumbsUp,
        Self::ThumbsDown,
        Self::Merge,
        Self::Split,
        Self::NotAnIncident,
        Self::RightlyMuted,
        Self::ShouldHaveWoken,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::AskMore => "ask_more",
            Self::Acknowledge => "acknowledge",
            Self::Silence => "silence",
            Self::Runbook => "runbook",
            Self::Dashboard => "dashboard",
            Self::ThumbsUp => "thumbs_up",
            Self::ThumbsDown => "thumbs_down",
            Self::Merge => "merge",
            Self::Split => "split",
            Self::NotAnIncident => "not_an_incident",
            Self::RightlyMuted => "rightly_muted",
            Self::ShouldHaveWoken => "should_have_woken",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    /// Whether the click needs words from the person before it is sent.
    pub fn asks_for_reason(self) -> bool {
        self.form().is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonStyle {
    Primary,
    Danger,
    Default,
}

impl Span {
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Plain { text: text.into() }
    }
    pub fn bold(text: impl Into<String>) -> Self {
        Self::Bold { text: text.into() }
    }
    pub fn code(text: impl Into<String>) -> Self {
        Self::Code { text: text.into() }
    }
    pub fn quoted(text: impl Into<String>) -> Self {
        Self::Quoted { text: text.into() }
    }
}

impl Card {
    /// The whole card as plain text, for logs and for transports without blocks.
    pub fn plain_text(&self) -> String {
        let mut lines = vec![];
        for block in &self.blocks {
            match block {
                Block::Header { text, .. } => lines.push(text.clone()),
                Block::Fields { fields } => {
                    lines.extend(fields.iter().map(|field| format!("{}: {}", field.label, plain(&field.value))))
                }
                Block::Text { spans } | Block::Context { spans } => lines.push(plain(spans)),
                Block::List { items } => lines.extend(items.iter().map(|item| format!("- {}", plain(item)))),
                Block::Code { text } => lines.push(text.clone()),
                Block::Picture { alt, .. } => lines.push(format!("[picture: {alt}]")),
                Block::Actions { buttons } => {
                    lines.push(buttons.iter().map(|button| format!("[{}]", button.label)).collect::<Vec<_>>().join(" "))
                }
                Block::Divider => lines.push("---".into()),
            }
        }
        lines.join("\n")
    }
}

pub fn plain(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match span {
            Span::Plain { text } | Span::Bold { text } | Span::Code { text } | Span::Quoted { text } => text.clone(),
            Span::Link { text, .. } => text.clone(),
            Span::Evidence { id } => format!("[{}]", id.rsplit('.').next().unwrap_or(id)),
            Span::Date { at } => at.to_string(),
            Span::Person { id } => format!("@{}", id.rsplit('/').next().unwrap_or(id)),
        })
        .collect()
}
