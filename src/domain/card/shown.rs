//! A card as it leaves the program: whatever way a text came into it, secrets and characters that lie to
//! the eye do not go out.

use super::{Block, Card, Field, Span};
use crate::domain::redact::redact;

impl Card {
    /// The same card without secrets. What a button carries stays as it is: that is ours.
    pub fn shown(&self) -> Self {
        Self { fallback: redact(&self.fallback), blocks: self.blocks.iter().map(block).collect() }
    }
}

fn block(block: &Block) -> Block {
    match block {
        Block::Header { text, tone } => Block::Header { text: redact(text), tone: *tone },
        Block::Fields { fields } => Block::Fields { fields: fields.iter().map(field).collect() },
        Block::Text { spans } => Block::Text { spans: spans.iter().map(span).collect() },
        Block::List { items } => {
            Block::List { items: items.iter().map(|item| item.iter().map(span).collect()).collect() }
        }
        Block::Code { text } => Block::Code { text: redact(text) },
        Block::Picture { title, alt, path } => {
            Block::Picture { title: redact(title), alt: redact(alt), path: path.clone() }
        }
        Block::Actions { buttons } => {
            let mut buttons = buttons.clone();
            for button in &mut buttons {
                button.label = redact(&button.label);
                button.confirm = button.confirm.as_deref().map(redact);
            }
            Block::Actions { buttons }
        }
        Block::Context { spans } => Block::Context { spans: spans.iter().map(span).collect() },
        Block::Divider => Block::Divider,
    }
}

fn field(field: &Field) -> Field {
    Field { label: redact(&field.label), value: field.value.iter().map(span).collect() }
}

fn span(span: &Span) -> Span {
    match span {
        Span::Plain { text } => Span::Plain { text: redact(text) },
        Span::Bold { text } => Span::Bold { text: redact(text) },
        Span::Code { text } => Span::Code { text: redact(text) },
        Span::Quoted { text } => Span::Quoted { text: redact(text) },
        Span::Link { text, path } => Span::Link { text: redact(text), path: path.clone() },
        Span::Evidence { .. } | Span::Date { .. } | Span::Person { .. } => span.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::card::{Button, ButtonAction, ButtonStyle, Tone};

    #[test]
    fn no_place_of_a_card_shows_a_secret() {
        let secret = "password=hunter22\u{e0041}";
        let spans = || {
            let mut all = [Span::plain(secret), Span::bold(secret), Span::code(secret), Span::quoted(secret)].to_vec();
            all.push(Span::Link { text: secret.into(), path: "/incident/INC-1".into() });
            all
        };
        let button = Button {
            action: ButtonAction::Approve,
            label: secret.into(),
            value: "INC-1.P1.0a1b2c3d4e5f".into(),
            style: ButtonStyle::Primary,
            confirm: Some(secret.into()),
        };
        let card = Card {
            fallback: secret.into(),
            blocks: vec![
                Block::Header { text: secret.into(), tone: Tone::Alarm },
                Block::Fields { fields: vec![Field { label: secret.into(), value: spans() }] },
                Block::Text { spans: spans() },
                Block::List { items: vec![spans(), spans()] },
                Block::Code { text: secret.into() },
                Block::Picture { title: secret.into(), alt: secret.into(), path: "/p.png".into() },
                Block::Actions { buttons: vec![button] },
                Block::Context { spans: spans() },
                Block::Divider,
            ],
        };
        let whole = serde_json::to_string(&card).unwrap();
        let shown = serde_json::to_string(&card.shown()).unwrap();
        assert!(!shown.contains("hunter") && !shown.contains('\u{e0041}'), "{shown}");
        assert_eq!(shown.matches("[secret redacted]").count(), whole.matches("hunter22").count());
        assert!(shown.contains("INC-1.P1.0a1b2c3d4e5f"));
        assert_eq!(card.shown().shown(), card.shown());
    }
}
