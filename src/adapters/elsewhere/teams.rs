//! Microsoft Teams: the same cards, read only, as Adaptive Cards to a workflow's webhook.
//!
//! Text that midwatch did not write goes into `TextRun`s, which know no markup; what must be a
//! `TextBlock` is written by us. Workflows cannot read back what they have posted: after a lost answer a
//! message may stand there twice.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{client, find_host, send, wants};
use crate::config::{TeamsConfig, Wanted};
use crate::domain::card::{Block, Card, Field, Span, Tone};
use crate::domain::notice::{Notice, Phase};
use crate::ports::{Attempt, Outlet, OutletError};

/// Teams takes 28 KB; the envelope and what it adds need room.
const LARGEST: usize = 24_000;
const LONGEST_TEXT: usize = 3_000;

pub struct Teams {
    name: String,
    url: String,
    console: String,
    wants: Wanted,
    http: reqwest::Client,
}

impl Teams {
    pub fn new(config: &TeamsConfig, console: &str) -> Result<Self, String> {
        Ok(Self {
            name: config.name.clone(),
            url: config.url.reveal().ok_or("elsewhere.teams.url is empty")?.to_owned(),
            console: console.trim_end_matches('/').to_owned(),
            wants: config.wants.clone(),
            http: client()?,
        })
    }
}

#[async_trait]
impl Outlet for Teams {
    fn name(&self) -> &str {
        &self.name
    }

    /// There are no edits: only what is news is told.
    fn wants(&self, notice: &Notice) -> bool {
        let news = match notice.phase {
            Phase::Opened | Phase::Diagnosed | Phase::Planned | Phase::Resolved => true,
            Phase::Changed | Phase::Acknowledged | Phase::FollowUp | Phase::Reviewed => false,
        };
        news && wants(&self.wants, notice)
    }

    async fn send(&self, _key: &str, notice: &Notice, _: Attempt) -> Result<Option<String>, OutletError> {
        send(self.http.post(&self.url).json(&message(notice, &self.console))).await.map(|_| None)
    }

    async fn check(&self) -> Result<String, OutletError> {
        Ok(format!("{} is found", find_host(&self.url).await?))
    }
}

pub(super) fn message(notice: &Notice, console: &str) -> Value {
    let mut body =
        vec![runs(&[Span::plain(format!("{}: ", notice.incident)), Span::quoted(notice.text.clone())], console)];
    let mut size = body[0].to_string().len();
    for block in &notice.card.blocks {
        let Some(element) = element(block, console) else { continue };
        size += element.to_string().len();
        if size > LARGEST {
            body.push(runs(&[Span::plain("More is on the incident's page.")], console));
            break;
        }
        body.push(element);
    }
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "fallbackText": fallback(&notice.card), "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": "Open incident", "url": notice.url}],
    });
    json!({
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card},
        ],
    })
}

fn fallback(card: &Card) -> String {
    card.fallback.chars().take(300).collect()
}

/// Buttons are left out: nobody here is proved to be anybody.
fn element(block: &Block, console: &str) -> Option<Value> {
    Some(match block {
        Block::Header { text, tone } => {
            let color = match tone {
                Tone::Alarm => "Attention",
                Tone::Working => "Accent",
                Tone::Good => "Good",
                Tone::Neutral => "Default",
            };
            json!({"type": "RichTextBlock", "inlines": [
                {"type": "TextRun", "text": cut(text), "weight": "Bolder", "size": "Large", "color": color},
            ]})
        }
        Block::Fields { fields } => {
            let lines = fields.iter().map(|field| line(field, console)).collect::<Vec<_>>();
            json!({"type": "Container", "items": lines})
        }
        Block::Text { spans } => runs(spans, console),
        Block::Context { spans } => {
            let mut element = runs(spans, console);
            if let Some(runs) = element["inlines"].as_array_mut() {
                runs.iter_mut().for_each(|run| run["isSubtle"] = json!(true));
            }
            element
        }
        Block::List { items } => {
            let lines = items.iter().map(|item| {
                let spans: Vec<Span> = std::iter::once(Span::plain("• ")).chain(item.iter().cloned()).collect();
                runs(&spans, console)
            });
            json!({"type": "Container", "items": lines.collect::<Vec<_>>()})
        }
        Block::Code { text } => json!({"type": "RichTextBlock", "inlines": [
            {"type": "TextRun", "text": cut(text), "fontType": "Monospace"},
        ]}),
        Block::Picture { alt, .. } => runs(&[Span::plain(format!("Picture: {alt} (on the incident's page)"))], console),
        Block::Divider => json!({"type": "TextBlock", "text": " ", "separator": true}),
        Block::Actions { .. } => return None,
    })
}

fn line(field: &Field, console: &str) -> Value {
    let label = Span::bold(format!("{}: ", field.label));
    runs(&std::iter::once(label).chain(field.value.iter().cloned()).collect::<Vec<_>>(), console)
}

fn runs(spans: &[Span], console: &str) -> Value {
    let run = |span: &Span| match span {
        Span::Plain { text } | Span::Quoted { text } => json!({"type": "TextRun", "text": cut(text)}),
        Span::Bold { text } => json!({"type": "TextRun", "text": cut(text), "weight": "Bolder"}),
        Span::Code { text } => json!({"type": "TextRun", "text": cut(text), "fontType": "Monospace"}),
        Span::Evidence { id } => {
            json!({"type": "TextRun", "text": format!("[{}]", id.rsplit('.').next().unwrap_or(id))})
        }
        Span::Link { text, path } => json!({
            "type": "TextRun", "text": cut(text),
            "selectAction": {"type": "Action.OpenUrl", "url": format!("{console}{path}")},
        }),
        Span::Date { at } => json!({"type": "TextRun", "text": at.to_string()}),
        Span::Person { id } => {
            json!({"type": "TextRun", "text": format!("@{}", id.rsplit('/').next().unwrap_or(id))})
        }
    };
    let mut inlines: Vec<Value> = spans.iter().map(run).collect();
    // An empty list is refused.
    if inlines.is_empty() {
        inlines.push(json!({"type": "TextRun", "text": " "}));
    }
    json!({"type": "RichTextBlock", "inlines": inlines})
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}
