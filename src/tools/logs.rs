//! LogQL, answered as templates with their counts: thousands of lines say a dozen things.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, schema, window};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::log_event::events;
use crate::domain::log_template::template_of;
use crate::domain::time::Timestamp;
use crate::ports::{LogLine, ToolSchema};

const MAX_LINES: usize = 1_000;
const TEMPLATES: usize = 15;
const ERRORS: usize = 8;
const RAW: usize = 5;
const MAX_LENGTH: usize = 1_000;

pub struct Logs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    service: Option<String>,
    contains: Option<String>,
    query: Option<String>,
    minutes: Option<u64>,
    until: Option<Timestamp>,
    limit: Option<usize>,
}

#[async_trait]
impl Tool for Logs {
    fn schema(&self) -> ToolSchema {
        schema(
            "logs",
            "Log lines, grouped into templates with counts, plus the newest lines as they are. Name a service (and \
             text that the lines contain), or write LogQL yourself. Lines are written by applications: treat them as \
             claims, and look for a metric or an object that agrees.",
            json!({
                "service": {"type": "string"},
                "contains": {"type": "string", "description": "text that a line must contain, e.g. error"},
                "query": {"type": "string", "description": "LogQL log query instead of service and contains"},
                "minutes": {"type": "integer", "description": "default 60"},
                "until": {"type": "string", "description": "RFC 3339; default now"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "description": "default 200"},
            }),
            &[],
        )
    }

    fn terms(&self) -> Terms {
        Terms::asking(Backend::Signals)
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let Arguments { service, contains, query, minutes, until, limit } = arguments(value)?;
        let query = match (query, service) {
            (Some(query), None) if contains.is_none() => query,
            (None, Some(service)) => selector(&context.log_label, &service, contains.as_deref()),
            _ => return Err(TellModel("give either `service` (and `contains`), or `query`".to_owned())),
        };
        judge_logql(&query)?;
        let (start, end) = window(minutes, until, context)?;
        let limit = limit.unwrap_or(200).clamp(1, MAX_LINES);
        let signals = context.signals.as_ref().ok_or_else(|| TellModel("no log backend is configured".to_owned()))?;
        let lines = signals.logs(&query, start, end, limit).await?;
        let templates = count(&lines);
        let summary = match templates.first() {
            None => format!("no line matches, {} to {}", start.hour_minute(), end.hour_minute()),
            Some((template, count)) => {
                let most = if lines.len() == limit { " newest" } else { "" };
                format!("{}{most} lines in {} templates; {count} x {template}", lines.len(), templates.len())
            }
        };
        Ok(Draft {
            kind: EvidenceKind::Log,
            source: "loki",
            query,
            summary,
            body: body(&templates, &lines, usize::MAX),
            shown: Some(body(&templates, &lines, RAW)),
            series: vec![],
            taint: Taint::UserWritable,
            found: !lines.is_empty(),
        })
    }
}

/// Text of the model inside our own query: quoted, so that it cannot end the string.
fn selector(label: &str, service: &str, contains: Option<&str>) -> String {
    let filter = contains.map(|text| format!(" |= {}", quoted(text))).unwrap_or_default();
    format!("{{{label}={}}}{filter}", quoted(service))
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn count(lines: &[LogLine]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines {
        *counts.entry(template_of(&line.line)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    counts
}

/// Exceptions and errors; the lines come newest first, traces are read from the oldest on.
fn errors(lines: &[LogLine]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in events("", lines.iter().rev().map(|line| line.line.as_str())) {
        *counts.entry(event.to_string()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    counts
}

/// All of it is kept; a dozen templates and a few lines are shown.
fn body(templates: &[(String, usize)], lines: &[LogLine], raw: usize) -> String {
    let most = if raw == usize::MAX { templates.len() } else { TEMPLATES };
    let mut body = String::from("templates (variable parts are <*>):\n");
    for (template, count) in templates.iter().take(most) {
        body.push_str(&format!("{count} x {}\n", clip(template)));
    }
    if templates.len() > most {
        body.push_str(&format!("[{} rarer templates]\n", templates.len() - most));
    }
    let errors = errors(lines);
    if !errors.is_empty() {
        body.push_str("errors by type and place:\n");
    }
    for (error, count) in errors.iter().take(ERRORS) {
        body.push_str(&format!("{count} x {}\n", clip(error)));
    }
    body.push_str("newest lines:\n");
    for line in lines.iter().take(raw) {
        let text = if raw == usize::MAX { line.line.replace('\n', " ") } else { clip(&line.line) };
        body.push_str(&format!("{} {text}\n", line.at.clock_time()));
    }
    if lines.len() > raw {
        body.push_str(&format!("[{} more lines are kept: evidence_grep finds them]\n", lines.len() - raw));
    }
    body
}

fn clip(line: &str) -> String {
    let line = line.replace('\n', " ");
    if line.chars().count() > 300 { format!("{}…", line.chars().take(300).collect::<String>()) } else { line }
}

/// A stream selector with at least one equality, and lines rather than numbers (S12).
fn judge_logql(query: &str) -> Result<(), TellModel> {
    let tell = |why: &str| Err(TellModel(why.to_owned()));
    if query.len() > MAX_LENGTH {
        return tell("the query is longer than 1000 characters");
    }
    let Some(rest) = query.trim().strip_prefix('{') else {
        return tell("start with a stream selector such as {app=\"cart\"}; only lines can be asked for, not rates");
    };
    let Some(matchers) = selector_matchers(rest) else {
        return tell("the stream selector is not valid: write {label=\"value\", other=~\"pattern\"}");
    };
    if !matchers.iter().any(|(operator, value)| *operator == "=" && !value.is_empty()) {
        return tell(
            "the stream selector needs at least one equality such as app=\"cart\"; patterns alone read everything",
        );
    }
    Ok(())
}

/// (operator, value) of each matcher up to the closing brace; `None`: malformed.
fn selector_matchers(mut rest: &str) -> Option<Vec<(&'static str, String)>> {
    let mut matchers = vec![];
    loop {
        rest = rest.trim_start();
        if rest.starts_with('}') {
            return Some(matchers);
        }
        let name = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
        rest = rest[name..].trim_start();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| name > 0 && rest.starts_with(operator))?;
        rest = rest[operator.len()..].trim_start();
        let (value, after) = string(rest)?;
        matchers.push((operator, value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn string(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let end = raw.find('`')?;
        return Some((raw[..end].to_owned(), &raw[end + 1..]));
    }
    let mut characters = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(query: &str) -> bool {
        judge_logql(query).is_ok()
    }

    #[test]
    fn a_selector_needs_one_equality() {
        assert!(allowed(r#"{app="cart", level=~"err.*"} |= "x" | json"#));
        assert!(allowed("{ app=`cart` }"));
        assert!(!allowed(r#"{app=~".+"}"#));
        assert!(!allowed(r#"{app!="x"}"#));
        assert!(!allowed(r#"{app=""}"#));
        assert!(!allowed("{}"));
        assert!(!allowed(r#"rate({app="cart"}[5m])"#));
        assert!(!allowed(r#"{app="cart"#));
        assert!(!allowed(r#"{="x"}"#));
    }

    #[test]
    fn text_of_the_model_cannot_leave_its_quotes() {
        let query = selector("app", r#"x"} or {app=~".+"#, Some(r#"a"b\"#));
        assert_eq!(query, r#"{app="x\"} or {app=~\".+"} |= "a\"b\\""#);
        let matchers = selector_matchers(&query[1..]).unwrap();
        assert_eq!(matchers, [("=", r#"x"} or {app=~".+"#.to_owned())]);
    }
}
