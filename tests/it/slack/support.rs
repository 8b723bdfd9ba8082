//! An inbox in memory and the cards that the oracle judges.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use midwatch::domain::card::{Block, Button, ButtonAction, ButtonStyle, Card, Field, Span, Tone};
use midwatch::domain::time::Timestamp;
use midwatch::ports::{FromPeople, Inbox, InboxFull};

/// Keeps each delivery once, as the store does, and counts how often one was handed in.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    acts: Vec<(String, FromPeople)>,
    deliveries: usize,
    full: bool,
}

impl Kept {
    pub fn shared(&self) -> Arc<dyn Inbox> {
        Arc::new(self.clone())
    }
    pub fn acts(&self) -> Vec<FromPeople> {
        self.0.lock().unwrap().acts.iter().map(|(_, act)| act.clone()).collect()
    }
    pub fn deliveries(&self) -> usize {
        self.0.lock().unwrap().deliveries
    }
    pub fn refuse(&self) {
        self.0.lock().unwrap().full = true;
    }
}

#[async_trait]
impl Inbox for Kept {
    async fn accept(&self, dedupe: &str, act: FromPeople) -> Result<(), InboxFull> {
        let mut state = self.0.lock().unwrap();
        if state.full {
            return Err(InboxFull("test".into()));
        }
        state.deliveries += 1;
        if !state.acts.iter().any(|(known, _)| known == dedupe) {
            state.acts.push((dedupe.into(), act));
        }
        Ok(())
    }
}

pub const HOSTILE: &str =
    "<!channel> <!here> <@U0EVIL> @everyone `rm -rf` <https://evil.test|click> https://evil.test & \u{202e}\u{0007}";

pub fn button(action: ButtonAction, label: &str, style: ButtonStyle) -> Button {
    let confirm = (style == ButtonStyle::Primary).then(|| "Roll checkout back to revision 41?".to_string());
    Button { action, label: label.into(), value: "INC-214.P1.9f86d081884c".into(), style, confirm }
}

pub fn root_card(state: &str) -> Card {
    let field = |label: &str, value: Span| Field { label: label.into(), value: vec![value] };
    Card {
        fallback: format!("[SEV2] payments 5xx: {state}"),
        blocks: vec![
            Block::Header { text: format!("[SEV2] payments 5xx: {state}"), tone: Tone::Alarm },
            Block::Fields {
                fields: vec![
                    field("Service", Span::code("payments")),
                    field("Since", Span::Date { at: Timestamp::from_secs(1_795_000_000) }),
                    field("Owner", Span::Person { id: "T01WATCH/U01ANN".into() }),
                    field("State", Span::plain(state)),
                ],
            },
            Block::Text {
                spans: vec![
                    Span::bold("Likely: "),
                    Span::plain("revision 42 fails "),
                    Span::Evidence { id: "INC-214.E1".into() },
                ],
            },
            Block::Actions {
                buttons: vec![
                    button(ButtonAction::Acknowledge, "Acknowledge", ButtonStyle::Default),
                    button(ButtonAction::Silence, "Silence...", ButtonStyle::Default),
                ],
            },
            Block::Context { spans: vec![Span::plain("INC-214, v7")] },
        ],
    }
}

pub fn approval_card() -> Card {
    Card {
        fallback: "Approve: roll payments back to revision 41?".into(),
        blocks: vec![
            Block::Header { text: "Roll payments back to revision 41?".into(), tone: Tone::Working },
            Block::Code { text: "- image: payments:42\n+ image: payments:41".into() },
            Block::Actions {
                buttons: vec![
                    button(ButtonAction::Approve, "Approve", ButtonStyle::Primary),
                    button(ButtonAction::Reject, "Reject...", ButtonStyle::Danger),
                    button(ButtonAction::AskMore, "Ask more", ButtonStyle::Default),
                ],
            },
        ],
    }
}

pub fn thumbs_card() -> Card {
    Card {
        fallback: "Was this diagnosis right?".into(),
        blocks: vec![
            Block::Text { spans: vec![Span::plain("Was this diagnosis right?")] },
            Block::Actions {
                buttons: vec![
                    button(ButtonAction::ThumbsUp, "👍", ButtonStyle::Default),
                    button(ButtonAction::ThumbsDown, "👎", ButtonStyle::Default),
                ],
            },
        ],
    }
}

pub fn golden_cards() -> Vec<(&'static str, Card)> {
    let card = |blocks| Card { fallback: HOSTILE.repeat(90), blocks };
    let spans = |text: &str| {
        vec![
            Span::plain(text),
            Span::bold(text),
            Span::code(text),
            Span::quoted(text),
            Span::Evidence { id: text.into() },
            Span::Link { text: text.into(), path: text.into() },
            Span::Date { at: Timestamp::from_millis(i64::MAX) },
            Span::Person { id: text.into() },
            Span::Person { id: "T1/U7".into() },
        ]
    };
    let every_block = |text: &str| {
        vec![
            Block::Header { text: text.into(), tone: Tone::Good },
            Block::Fields { fields: (0..13).map(|_| Field { label: text.into(), value: spans(text) }).collect() },
            Block::Text { spans: spans(text) },
            Block::Text { spans: vec![Span::quoted(text)] },
            Block::List { items: vec![spans(text), vec![], spans(text)] },
            Block::Code { text: text.into() },
            Block::Picture { title: text.into(), alt: text.into(), path: text.into() },
            Block::Actions {
                buttons: ButtonAction::ALL
                    .into_iter()
                    .chain(ButtonAction::ALL)
                    .map(|action| Button {
                        action,
                        label: text.into(),
                        value: text.chars().take(400).collect(),
                        style: ButtonStyle::Danger,
                        confirm: Some(text.into()),
                    })
                    .collect(),
            },
            Block::Context { spans: spans(text).into_iter().cycle().take(40).collect() },
            Block::Divider,
        ]
    };
    vec![
        ("root", root_card("Investigating")),
        ("approval", approval_card()),
        ("thumbs", thumbs_card()),
        ("hostile", card(every_block(HOSTILE))),
        ("empty", card(every_block(""))),
        ("blank", card(every_block(" \n "))),
        ("huge", card(every_block(&HOSTILE.repeat(200)))),
        ("wide", card(every_block(&"😀é\u{0301}漢".repeat(3000)))),
        ("many", card((0..30).flat_map(|_| every_block(HOSTILE)).collect())),
    ]
}
