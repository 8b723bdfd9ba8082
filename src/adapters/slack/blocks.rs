//! Card to Block Kit, within Slack's limits. Never fails: what is too much is split, or cut with a
//! visible mark.
//!
//! Built as JSON because the library's date element needs a time type that is not ours.

use serde_json::{Value, json};
use url::Url;

use crate::domain::card::{Block, Button, ButtonStyle, Card, Field, Span, Tone, plain};
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

use super::text::{clean, cut, escape, escape_within, units};

// https://docs.slack.dev/reference/block-kit/blocks
const BLOCKS: usize = 50;
const HOME_BLOCKS: usize = 100;
const HEADER: usize = 150;
const FIELDS: usize = 10;
const FIELD: usize = 2000;
const BUTTONS: usize = 25;
const LABEL: usize = 75;
const VALUE: usize = 2000;
const CONTEXT: usize = 10;
const CONFIRM: usize = 300;
const RICH_TEXT: usize = 3000;
const FALLBACK: usize = 3000;
/// Slack refuses messages whose blocks carry much more text than this (`msg_blocks_too_long`).
const MESSAGE: usize = 12_000;
/// Actions that stay when a card has more blocks than Slack shows.
const KEPT_ACTIONS: usize = 10;

/// A card as Slack takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub text: String,
    pub blocks: Vec<Value>,
}

/// What a rendering depends on besides the card.
#[derive(Debug, Clone, Default)]
pub struct Renderer {
    console: Option<Url>,
    team: Option<String>,
}

/// Renders with `renderer`; `key` names the post, so that read-back can recognise its blocks.
pub fn blocks(renderer: &Renderer, card: &Card, key: &str) -> Rendered {
    Rendered { text: escape_within(&card.fallback, FALLBACK), blocks: renderer.message(card, key) }
}

/// The card as the app's home: the same blocks, twice as many of them, and no fallback.
pub fn home_blocks(renderer: &Renderer, card: &Card) -> Vec<Value> {
    renderer.surface(card, "home", HOME_BLOCKS)
}

/// The start of every block id of a post under `key`.
pub(super) fn block_mark(key: &str) -> String {
    format!("mw-{}-", Digest::of(key.as_bytes()).short())
}

impl Renderer {
    /// `console` that is no http(s) address means: no links.
    pub fn new(console: Option<&str>, team: Option<&str>) -> Self {
        let console = console
            .and_then(|text| Url::parse(text).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
        Self { console, team: team.map(str::to_string) }
    }

    fn message(&self, card: &Card, key: &str) -> Vec<Value> {
        self.surface(card, key, BLOCKS)
    }

    fn surface(&self, card: &Card, key: &str, most: usize) -> Vec<Value> {
        let mut budget = MESSAGE;
        let mut blocks: Vec<Value> = vec![];
        for block in &card.blocks {
            blocks.extend(self.block(block, &mut budget));
        }
        let mut blocks = within_block_limit(blocks, most);
        let mark = block_mark(key);
        for (position, block) in blocks.iter_mut().enumerate() {
            block["block_id"] = json!(format!("{mark}{position}"));
        }
        blocks
    }

    fn block(&self, block: &Block, budget: &mut usize) -> Vec<Value> {
        match block {
            Block::Header { text, tone } => vec![header(text, *tone)],
            Block::Fields { fields } => self.fields(fields, budget),
            Block::Text { spans } => self.text(spans, budget),
            Block::List { items } => self.list(items, budget),
            Block::Code { text } => code(text, budget),
            Block::Picture { title, alt, path } => vec![self.picture(title, alt, path)],
            Block::Actions { buttons } => actions(buttons),
            Block::Context { spans } => self.context(spans),
            Block::Divider => vec![json!({"type": "divider"})],
        }
    }

    /// Rich text is not allowed in fields; see `text::escape` for what mrkdwn then gets.
    fn fields(&self, fields: &[Field], budget: &mut usize) -> Vec<Value> {
        let shown: Vec<Value> = fields
            .iter()
            .map(|field| {
                let label = escape_within(field.label.trim(), 200);
                let room = (FIELD - units(&label) - 3).min((*budget).max(200));
                let value = self.mrkdwn(&field.value, room);
                *budget = budget.saturating_sub(units(&value) + units(&label));
                json!({"type": "mrkdwn", "verbatim": true, "text": format!("*{label}*\n{value}")})
            })
            .collect();
        shown.chunks(FIELDS).map(|fields| json!({"type": "section", "fields": fields})).collect()
    }

    /// Spans as mrkdwn of at most `limit` units; a span is shown whole, or cut, or not at all.
    fn mrkdwn(&self, spans: &[Span], limit: usize) -> String {
        let mut line = String::new();
        for span in spans {
            let piece = self.mrkdwn_span(span);
            if units(&line) + units(&piece) <= limit {
                line.push_str(&piece);
                continue;
            }
            let room = limit.saturating_sub(units(&line));
            line.push_str(&escape_within(&plain(std::slice::from_ref(span)), room.max(units(super::text::CUT))));
            return cut(&line, limit.max(units(super::text::CUT)));
        }
        // Slack refuses an empty text.
        if line.trim().is_empty() { "–".into() } else { line }
    }

    fn mrkdwn_span(&self, span: &Span) -> String {
        match span {
            Span::Plain { text } | Span::Quoted { text } => escape(text),
            Span::Bold { text } if text.trim().is_empty() || text.contains('\n') => escape(text),
            Span::Bold { text } => format!("*{}*", escape(text.trim())),
            Span::Code { text } if text.trim().is_empty() => String::new(),
            Span::Code { text } => format!("`{}`", escape(&text.replace('\n', " "))),
            Span::Evidence { id } => self.mrkdwn_link(&evidence_mark(id), &evidence_path(id)),
            Span::Link { text, path } => self.mrkdwn_link(text, path),
            Span::Date { at } => match seconds(*at) {
                Some(seconds) => {
                    format!("<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{}>", escape(&at.to_string()))
                }
                None => escape(&at.to_string()),
            },
            Span::Person { id } => match self.member(id) {
                Some(user) => format!("<@{user}>"),
                None => escape(&plain(std::slice::from_ref(span))),
            },
        }
    }

    fn mrkdwn_link(&self, text: &str, path: &str) -> String {
        match self.mint(path) {
            Some(url) => format!("<{}|{}>", url.replace('|', "%7C"), escape(text).replace('|', "¦")),
            None => escape(text),
        }
    }

    fn text(&self, spans: &[Span], budget: &mut usize) -> Vec<Value> {
        let kind = match spans {
            [Span::Quoted { .. }] => "rich_text_quote",
            _ => "rich_text_section",
        };
        let elements = self.inline(spans, budget);
        if elements.is_empty() {
            return vec![];
        }
        vec![json!({"type": "rich_text", "elements": [{"type": kind, "elements": elements}]})]
    }

    fn list(&self, items: &[Vec<Span>], budget: &mut usize) -> Vec<Value> {
        let sections: Vec<Value> = items
            .iter()
            .map(|item| self.inline(item, budget))
            .filter(|elements| !elements.is_empty())
            .map(|elements| json!({"type": "rich_text_section", "elements": elements}))
            .collect();
        if sections.is_empty() {
            return vec![];
        }
        vec![
            json!({"type": "rich_text", "elements": [{"type": "rich_text_list", "style": "bullet", "elements": sections}]}),
        ]
    }

    fn inline(&self, spans: &[Span], budget: &mut usize) -> Vec<Value> {
        let mut room = RICH_TEXT.min(*budget);
        let mut elements = vec![];
        for span in spans {
            let shown = clean(&plain(std::slice::from_ref(span)));
            if shown.is_empty() {
                continue;
            }
            if room == 0 {
                break;
            }
            let kept = cut(&shown, room.max(units(super::text::CUT)));
            let used = units(&kept).min(room);
            room -= used;
            *budget -= used;
            elements.push(if kept == shown { self.rich_span(span, &shown) } else { rich_text(&kept, json!(null)) });
        }
        if elements.is_empty() && !spans.is_empty() && *budget == 0 {
            elements.push(rich_text(super::text::CUT, json!(null)));
        }
        elements
    }

    fn rich_span(&self, span: &Span, shown: &str) -> Value {
        match span {
            Span::Plain { .. } => rich_text(shown, json!(null)),
            Span::Bold { .. } => rich_text(shown, json!({"bold": true})),
            Span::Code { .. } => rich_text(shown, json!({"code": true})),
            Span::Quoted { .. } => rich_text(shown, json!({"italic": true})),
            Span::Evidence { id } => self.rich_link(shown, &evidence_path(id)),
            Span::Link { path, .. } => self.rich_link(shown, path),
            Span::Date { at } => match seconds(*at) {
                Some(seconds) => json!({
                    "type": "date", "timestamp": seconds,
                    "format": "{date_short_pretty} {time_secs}", "fallback": at.to_string(),
                }),
                None => rich_text(shown, json!(null)),
            },
            Span::Person { id } => match self.member(id) {
                Some(user) => json!({"type": "user", "user_id": user}),
                None => rich_text(shown, json!(null)),
            },
        }
    }

    fn rich_link(&self, text: &str, path: &str) -> Value {
        match self.mint(path) {
            Some(url) => json!({"type": "link", "url": url, "text": text}),
            None => rich_text(text, json!({"bold": true})),
        }
    }

    /// A link to where the console draws it; the uploaded one follows in the thread.
    fn picture(&self, title: &str, alt: &str, path: &str) -> Value {
        let title = match self.mint(path) {
            Some(_) => self.mrkdwn_link(&format!("🖼 {}", cut(title, 200)), path),
            None => escape_within(&format!("🖼 {title}"), 220),
        };
        let mut elements = vec![json!({"type": "mrkdwn", "verbatim": true, "text": title})];
        if !clean(alt).trim().is_empty() {
            elements.push(plain_text(&cut(&clean(alt), FIELD)));
        }
        json!({"type": "context", "elements": elements})
    }

    /// Our own words are mrkdwn, somebody else's are plain_text elements of their own.
    fn context(&self, spans: &[Span]) -> Vec<Value> {
        let mut runs: Vec<&[Span]> = spans.chunk_by(|a, b| is_untrusted(a) == is_untrusted(b)).collect();
        runs.retain(|run| !clean(&plain(run)).trim().is_empty());
        let overflow = runs.len() > CONTEXT;
        let mut elements: Vec<Value> = runs
            .iter()
            .take(if overflow { CONTEXT - 1 } else { CONTEXT })
            .map(|run| match run.first().is_some_and(is_untrusted) {
                true => plain_text(&cut(&clean(&plain(run)), FIELD)),
                false => json!({"type": "mrkdwn", "verbatim": true, "text": self.mrkdwn(run, FIELD)}),
            })
            .collect();
        if overflow {
            let rest: String = runs.iter().skip(CONTEXT - 1).map(|run| clean(&plain(run))).collect();
            elements.push(plain_text(&cut(&rest, FIELD)));
        }
        if elements.is_empty() {
            return vec![];
        }
        vec![json!({"type": "context", "elements": elements})]
    }

    /// An address below the console's, whatever `path` says.
    fn mint(&self, path: &str) -> Option<String> {
        let base = self.console.as_ref()?.as_str().trim_end_matches('/').to_string();
        let minted = Url::parse(&format!("{base}/{}", clean(path).trim_start_matches('/'))).ok()?;
        let same = self.console.as_ref().map(Url::origin) == Some(minted.origin());
        (same && minted.as_str().len() <= VALUE && minted.as_str().starts_with(&base)).then(|| minted.to_string())
    }

    /// The user id, when the person belongs to this workspace and the id looks like one.
    fn member<'a>(&self, id: &'a str) -> Option<&'a str> {
        let (team, user) = id.split_once('/')?;
        let well_formed = matches!(user.chars().next(), Some('U' | 'W'))
            && user.len() <= 32
            && user.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        (well_formed && self.team.as_deref() == Some(team)).then_some(user)
    }
}

fn is_untrusted(span: &Span) -> bool {
    match span {
        Span::Quoted { .. } | Span::Code { .. } => true,
        Span::Plain { .. } | Span::Bold { .. } | Span::Evidence { .. } => false,
        Span::Link { .. } | Span::Date { .. } | Span::Person { .. } => false,
    }
}

fn header(text: &str, tone: Tone) -> Value {
    let mark = match tone {
        Tone::Alarm => "🔴 ",
        Tone::Working => "🟡 ",
        Tone::Good => "🟢 ",
        Tone::Neutral => "",
    };
    let line = clean(text).replace(['\n', '\t'], " ");
    let line = if line.trim().is_empty() { "–".to_string() } else { line };
    json!({"type": "header", "text": plain_text(&cut(&format!("{mark}{line}"), HEADER))})
}

/// Split, so that a long diff stays readable; the message's budget decides where it is cut.
fn code(text: &str, budget: &mut usize) -> Vec<Value> {
    let cleaned = clean(text);
    let kept = cut(&cleaned, (*budget).max(units(super::text::CUT)));
    *budget = budget.saturating_sub(units(&kept));
    pieces(&kept, RICH_TEXT)
        .into_iter()
        .map(|piece| {
            let element = json!({"type": "rich_text_preformatted", "elements": [rich_text(&piece, json!(null))]});
            json!({"type": "rich_text", "elements": [element]})
        })
        .collect()
}

fn pieces(text: &str, limit: usize) -> Vec<String> {
    let mut pieces = vec![];
    let mut current = String::new();
    let mut used = 0;
    for letter in text.chars() {
        if used + letter.len_utf16() > limit {
            pieces.push(std::mem::take(&mut current));
            used = 0;
        }
        used += letter.len_utf16();
        current.push(letter);
    }
    if !current.is_empty() {
        pieces.push(current);
    }
    pieces
}

/// An action id may stand once in a block, so a second button of the same kind opens a new one.
fn actions(buttons: &[Button]) -> Vec<Value> {
    let mut rows: Vec<Vec<&Button>> = vec![];
    let mut unusable = vec![];
    for button in buttons {
        if button.value.len() > VALUE {
            unusable.push(button.label.as_str());
            continue;
        }
        let fits = |row: &Vec<&Button>| row.len() < BUTTONS && row.iter().all(|other| other.action != button.action);
        match rows.iter_mut().find(|row| fits(row)) {
            Some(row) => row.push(button),
            None => rows.push(vec![button]),
        }
    }
    let mut blocks: Vec<Value> = rows
        .iter()
        .map(|row| json!({"type": "actions", "elements": row.iter().map(|button| self::button(button)).collect::<Vec<_>>()}))
        .collect();
    if !unusable.is_empty() {
        // A cut value would name another approval; better no button.
        let note = format!("Not shown, because the value is too long for Slack: {}", unusable.join(", "));
        blocks.push(json!({"type": "context", "elements": [plain_text(&cut(&clean(&note), FIELD))]}));
    }
    blocks
}

fn button(button: &Button) -> Value {
    let label = clean(&button.label);
    let label = if label.trim().is_empty() { button.action.as_str().to_string() } else { label };
    let mut element = json!({
        "type": "button", "action_id": button.action.as_str(),
        "text": plain_text(&cut(&label, LABEL)), "value": button.value,
    });
    match button.style {
        ButtonStyle::Primary => element["style"] = json!("primary"),
        ButtonStyle::Danger => element["style"] = json!("danger"),
        ButtonStyle::Default => {}
    }
    if let Some(question) = &button.confirm {
        let question = if question.trim().is_empty() { "Are you sure?" } else { question.as_str() };
        element["confirm"] = json!({
            "title": plain_text("Sure?"), "text": plain_text(&cut(&clean(question), CONFIRM)),
            "confirm": plain_text(&cut(&label, 30)), "deny": plain_text("Not yet"),
        });
    }
    element
}

/// Buttons stay, because without them nobody can act; the tail of the telling goes.
fn within_block_limit(blocks: Vec<Value>, most: usize) -> Vec<Value> {
    if blocks.len() <= most {
        return blocks;
    }
    let is_actions = |block: &Value| block["type"] == "actions";
    let kept_actions = blocks.iter().filter(|block| is_actions(block)).count().min(KEPT_ACTIONS);
    let mut telling = most - 1 - kept_actions;
    let mut acting = kept_actions;
    let mut left_out = 0;
    let mut kept = vec![];
    for block in blocks {
        let room = if is_actions(&block) { &mut acting } else { &mut telling };
        if *room == 0 {
            left_out += 1;
            continue;
        }
        *room -= 1;
        kept.push(block);
    }
    let note = format!("… {left_out} more parts are left out here");
    kept.push(json!({"type": "context", "elements": [plain_text(&note)]}));
    kept
}

fn plain_text(text: &str) -> Value {
    // Without emoji, so that a label value such as `:fire:` is shown as it is.
    json!({"type": "plain_text", "text": text, "emoji": false})
}

fn rich_text(text: &str, style: Value) -> Value {
    let mut element = json!({"type": "text", "text": text});
    if !style.is_null() {
        element["style"] = style;
    }
    element
}

/// Seconds since 1970, within what date elements take (to the year 9999).
fn seconds(at: Timestamp) -> Option<i64> {
    let seconds = at.millis().div_euclid(1000);
    (0..253_402_300_800).contains(&seconds).then_some(seconds)
}

fn evidence_mark(id: &str) -> String {
    format!("[{}]", id.rsplit('.').next().unwrap_or(id))
}

fn evidence_path(id: &str) -> String {
    let safe: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
    format!("evidence/{safe}")
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
