//! LogQL, answered as templates with their counts: thousands of lines say a dozen things.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, confined, schema, window};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::log_event::events;
use crate::domain::log_stream::{candidates, matchers_of, none_of, quoted};
use crate::domain::log_template::template_of;
use crate::domain::signal_scope::SignalScope;
use crate::domain::time::{Timestamp, spoken};
use crate::ports::{LogLine, SignalError, Signals, ToolSchema};

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
        let (query, service) = match (query, service) {
            (Some(query), None) if contains.is_none() => (query, None),
            (None, Some(service)) => {
                (selector(&context.scope, &context.log_label, &service, contains.as_deref()), Some(service))
            }
            _ => return Err(TellModel("give either `service` (and `contains`), or `query`".to_owned())),
        };
        judge_logql(&query)?;
        let query = context.scope.logql(&query)?;
        let (start, end) = window(minutes, until, context)?;
        let limit = limit.unwrap_or(200).clamp(1, MAX_LINES);
        let signals = context.signals.as_ref().ok_or_else(|| TellModel("no log backend is configured".to_owned()))?;
        let mut asked = Asked { query, lines: vec![], unsure: "" };
        asked.lines = signals.logs(&asked.query, start, end, limit).await?;
        if asked.lines.is_empty() {
            asked = asked.again(signals.as_ref(), context, (service, contains), (start, end), limit).await?;
        }
        let Asked { query, lines, unsure } = asked;
        let templates = count(&lines);
        let covered = covered(&lines, limit, start, end);
        let of = confined(context.scope.of_logs(), &query);
        let summary = match templates.first() {
            None => format!("{of}no line matches, {covered}{unsure}"),
            Some((template, count)) => {
                let most = if lines.len() == limit { " newest" } else { "" };
                format!(
                    "{of}{}{most} lines, {covered}, in {} templates; {count} x {template}",
                    lines.len(),
                    templates.len()
                )
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

struct Asked {
    query: String,
    lines: Vec<LogLine>,
    /// What is not known of an empty answer.
    unsure: &'static str,
}

impl Asked {
    /// Nothing matched: because all is calm, or because no stream is called so? Only the first is an observation.
    async fn again(
        mut self,
        signals: &dyn Signals,
        context: &ToolContext,
        (service, contains): (Option<String>, Option<String>),
        (start, end): (Timestamp, Timestamp),
        limit: usize,
    ) -> Result<Self, TellModel> {
        let said_nothing = |what: String| {
            let span = format!("{} to {}", start.hour_minute(), end.hour_minute());
            Err(TellModel(format!("{what}; {span}. It tells nothing of how the service is: use other evidence.")))
        };
        let Some(service) = service else {
            let selector = stream_selector(&self.query);
            match signals.streams(selector, start, end).await {
                Ok(0) => return said_nothing(format!("there is no stream of logs {selector}")),
                Ok(_) => {}
                Err(_) => self.unsure = UNSURE,
            }
            return Ok(self);
        };
        match label_of(signals, &context.scope, &context.log_label, &service, (start, end)).await {
            Ok(None) => {
                let of = context.scope.of_logs().map(|of| format!(" where {of}")).unwrap_or_default();
                return said_nothing(format!("{}{of}", none_of(&context.log_label, &service)));
            }
            Ok(Some(label)) if label != context.log_label => {
                self.query = selector(&context.scope, label, &service, contains.as_deref());
                self.lines = signals.logs(&self.query, start, end, limit).await?;
            }
            Ok(Some(_)) => {}
            Err(_) => self.unsure = UNSURE,
        }
        Ok(self)
    }
}

/// The first label under which there are streams of the service; `None`: there are none.
pub async fn label_of<'a>(
    signals: &dyn Signals,
    scope: &SignalScope,
    configured: &'a str,
    service: &str,
    (start, end): (Timestamp, Timestamp),
) -> Result<Option<&'a str>, SignalError> {
    for label in candidates(configured) {
        if signals.streams(&scope.streams(label, service), start, end).await? > 0 {
            return Ok(Some(label));
        }
    }
    Ok(None)
}

const UNSURE: &str = "; whether there is such a stream of logs at all could not be asked";

/// The span that the lines stand for: at the limit it is shorter than what was asked for.
fn covered(lines: &[LogLine], limit: usize, start: Timestamp, end: Timestamp) -> String {
    let times = || lines.iter().map(|line| line.at);
    match (times().min(), times().max()) {
        (Some(oldest), Some(newest)) if lines.len() >= limit => format!(
            "{} to {} ({} of the {} asked for; older lines were not read)",
            oldest.clock_time(),
            newest.clock_time(),
            spoken(newest.since(oldest)),
            spoken(end.since(start))
        ),
        _ => format!("{} to {}", start.hour_minute(), end.hour_minute()),
    }
}

/// The query up to the closing brace of its selector, which `judge_logql` has found.
fn stream_selector(query: &str) -> &str {
    let query = query.trim();
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in query.char_indices() {
        match (quote, character) {
            _ if std::mem::take(&mut escaped) => {}
            (Some('"'), '\\') => escaped = true,
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '`') => quote = Some(character),
            (None, '}') => return &query[..=at],
            _ => {}
        }
    }
    query
}

/// Text of the model inside our own query.
fn selector(scope: &SignalScope, label: &str, service: &str, contains: Option<&str>) -> String {
    let filter = contains.map(|text| format!(" |= {}", quoted(text))).unwrap_or_default();
    format!("{}{filter}", scope.streams(label, service))
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
        body.push_str(&format!("{} {}{text}\n", line.at.clock_time(), origin(line)));
    }
    if lines.len() > raw {
        body.push_str(&format!("[{} more lines are kept: evidence_grep finds them]\n", lines.len() - raw));
    }
    body
}

/// `shop/cart-0 `: where it was written, as far as the stream's labels tell.
fn origin(line: &LogLine) -> String {
    let of = |names: [&str; 2]| names.iter().find_map(|name| line.labels.get(*name)).map(String::as_str);
    match (of(["namespace", "k8s_namespace_name"]), of(["pod", "k8s_pod_name"])) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod} "),
        (Some(one), None) | (None, Some(one)) => format!("{one} "),
        (None, None) => String::new(),
    }
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
    let Some(matchers) = matchers_of(rest) else {
        return tell("the stream selector is not valid: write {label=\"value\", other=~\"pattern\"}");
    };
    if !matchers.iter().any(|matcher| matcher.operator == "=" && !matcher.value.is_empty()) {
        return tell(
            "the stream selector needs at least one equality such as app=\"cart\"; patterns alone read everything",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::log_stream::StreamMatcher;

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
    fn the_span_of_what_was_read_is_told_and_whose_pod_wrote_it() {
        let at = |second: i64| Timestamp::from_secs(7_200 + second);
        let line = |second, pairs: &[(&str, &str)]| LogLine {
            at: at(second),
            labels: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            line: "x".into(),
        };
        let lines = [line(3_600, &[]), line(3_598, &[])];
        assert_eq!(covered(&lines, 200, at(0), at(3_600)), "02:00 to 03:00");
        assert_eq!(
            covered(&lines, 2, at(0), at(3_600)),
            format!(
                "02:59:58 to 03:00:00 ({} of the {} asked for; older lines were not read)",
                spoken(std::time::Duration::from_secs(2)),
                spoken(std::time::Duration::from_secs(3_600))
            )
        );
        assert_eq!(origin(&line(0, &[("namespace", "shop"), ("k8s_pod_name", "cart-0")])), "shop/cart-0 ");
        assert_eq!(origin(&lines[0]), "");
    }

    #[test]
    fn a_selector_ends_at_its_own_brace() {
        assert_eq!(stream_selector(r#" {app="a}\"b"} |= "x}""#), r#"{app="a}\"b"}"#);
        assert_eq!(stream_selector("{app=`a}`, b=\"c\"} | json"), "{app=`a}`, b=\"c\"}");
    }

    #[test]
    fn text_of_the_model_cannot_leave_its_quotes() {
        let query = selector(&SignalScope::default(), "app", r#"x"} or {app=~".+"#, Some(r#"a"b\"#));
        assert_eq!(query, r#"{app="x\"} or {app=~\".+"} |= "a\"b\\""#);
        let matchers = matchers_of(&query[1..]).unwrap();
        assert_eq!(matchers, [StreamMatcher { label: "app", operator: "=", value: r#"x"} or {app=~".+"#.into() }]);
    }
}
