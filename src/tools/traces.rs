//! Requests as they went through the services: which step made them slow, and where they failed.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::digest::clip;
use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, schema, window};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;
use crate::domain::trace::{Place, Profile, Trace};
use crate::ports::{Outcomes, ToolSchema, TraceQuery, Traces};

/// Read in one question; the slowest of them are what is shown.
const READ: usize = 60;
const SHOWN: usize = 15;
const PLACES: usize = 8;
const WATERFALLS: usize = 3;
const MAX_SPANS: usize = 60;
/// As far before the window as it is long, and at most so much, is taken for what is usual.
const USUAL: Duration = Duration::from_secs(3600);

pub struct FindTraces;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    service: Option<String>,
    which: Option<Which>,
    operation: Option<String>,
    min_ms: Option<u64>,
    minutes: Option<u64>,
    until: Option<Timestamp>,
    trace_id: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Which {
    Slow,
    Failing,
}

#[async_trait]
impl Tool for FindTraces {
    fn schema(&self) -> ToolSchema {
        schema(
            "traces",
            "Slow or failing requests through a service: which step adds the time (own time on the critical path, \
             against before), where errors begin, and single requests step by step. With trace_id: that one.",
            json!({
                "service": {"type": "string"},
                "which": {"type": "string", "enum": ["slow", "failing"]},
                "operation": {"type": "string"},
                "min_ms": {"type": "integer"},
                "minutes": {"type": "integer", "description": "default 60"},
                "until": {"type": "string", "description": "RFC 3339; default now"},
                "trace_id": {"type": "string"},
            }),
            &[],
        )
    }

    fn terms(&self) -> Terms {
        let specialities = [Speciality::Application, Speciality::Network, Speciality::Database];
        Terms { timeout: Duration::from_secs(20), ..Terms::of(Backend::Traces, &specialities) }
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let asked: Arguments = arguments(value)?;
        let traces = context.traces.as_deref().ok_or_else(|| TellModel("no trace backend is configured".to_owned()))?;
        match (asked.trace_id.clone(), asked.service.clone()) {
            (Some(id), None) => one(traces, &id).await,
            (None, Some(service)) => several(traces, service, asked, context).await,
            _ => Err(TellModel("give either `service` or `trace_id`".to_owned())),
        }
    }
}

async fn one(traces: &dyn Traces, id: &str) -> Result<Draft, TellModel> {
    if id.is_empty() || id.len() > 64 || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(TellModel("`trace_id` must be the id of a trace, 1 to 64 letters and digits".to_owned()));
    }
    let trace = traces.trace(id).await?.ok_or_else(|| TellModel(format!("there is no trace {id}")))?;
    let profile = Profile::of(std::slice::from_ref(&trace));
    let summary = format!("trace {id}: {}", told(&trace, &profile));
    Ok(draft(traces, format!("trace {id}"), summary, waterfall(&trace, usize::MAX), None))
}

async fn several(
    traces: &dyn Traces,
    service: String,
    asked: Arguments,
    context: &ToolContext,
) -> Result<Draft, TellModel> {
    let (start, end) = window(asked.minutes, asked.until, context)?;
    let which = asked.which.unwrap_or(Which::Slow);
    let query = TraceQuery {
        service: service.clone(),
        operation: asked.operation,
        outcomes: match which {
            Which::Slow => Outcomes::Any,
            Which::Failing => Outcomes::Failing,
        },
        longer_than: asked.min_ms.map(Duration::from_millis),
        start,
        end,
        limit: READ,
    };
    let before = TraceQuery {
        outcomes: Outcomes::Any,
        longer_than: None,
        start: start - USUAL.min(Duration::from_millis(end.since(start).as_millis() as u64)),
        end: start,
        ..query.clone()
    };
    let (found, usual) = futures::join!(traces.search(&query), traces.search(&before));
    let mut found = found?;
    found.sort_by_key(|trace| std::cmp::Reverse(trace.duration_us()));
    let (all, usual) = (Profile::of(&found), Profile::of(&usual.unwrap_or_default()));
    // The slower half shows what the slow ones have in common; failing ones are alike in failing.
    let half = if which == Which::Slow { found.len().div_ceil(2) } else { found.len() };
    let slow = Profile::of(&found[..half]);
    let query = format!(
        "{} traces of {service}, {} to {}",
        if which == Which::Slow { "slow" } else { "failing" },
        start.hour_minute(),
        end.hour_minute()
    );
    if found.is_empty() {
        let summary = format!("no {query}");
        return Ok(Draft { found: false, ..draft(traces, query, summary.clone(), summary, None) });
    }
    let summary = summary_of(&service, &all, &slow, &usual);
    let mut body = places(&slow, &usual);
    let listed: Vec<_> = found.iter().map(row).collect();
    let shown = format!("{body}requests, slowest first:\n{}", listed[..listed.len().min(SHOWN)].join("\n"));
    body.push_str(&format!("requests, slowest first:\n{}\n", listed.join("\n")));
    for trace in found.iter().take(WATERFALLS) {
        body.push_str(&format!("\nstep by step {}:\n{}", trace.id, waterfall(trace, MAX_SPANS)));
    }
    let first = found.first().map(|slowest| waterfall(slowest, 20)).unwrap_or_default();
    Ok(draft(traces, query, summary, body, Some(format!("{shown}\nthe slowest, step by step:\n{first}"))))
}

fn summary_of(service: &str, all: &Profile, slow: &Profile, usual: &Profile) -> String {
    let before = usual.median().map(|median| format!(" (before: {})", ms(median))).unwrap_or_default();
    let median = all.median().map(ms).unwrap_or_default();
    let mut summary =
        format!("{} traces of {service}, {} with errors; median {median}{before}", all.traces, all.failed);
    if let Some((place, now, then)) = slow.added_to(usual).into_iter().find(|(_, now, then)| now > then) {
        summary.push_str(&format!("; most time added by {place}: {} (before: {})", ms(now), ms(then)));
    }
    if let Some((place, count, _)) = all.errors_by_count().into_iter().next() {
        summary.push_str(&format!("; errors begin in {place} ({count})"));
    }
    summary
}

fn places(slow: &Profile, usual: &Profile) -> String {
    let before = match usual.traces {
        0 => "before: nothing to compare with".to_owned(),
        traces => format!("before: {traces} requests"),
    };
    let mut text = format!("own time on the critical path, a request ({before}):\n");
    for (place, now, then) in slow.added_to(usual).into_iter().take(PLACES) {
        text.push_str(&format!("{} (before {}) {}\n", ms(now), ms(then), named(&place)));
    }
    let errors = slow.errors_by_count();
    if !errors.is_empty() {
        text.push_str("errors begin in:\n");
    }
    for (place, count, message) in errors.into_iter().take(PLACES) {
        text.push_str(&format!("{count} x {} {}\n", named(place), clip(&message.replace('\n', " "), 160)));
    }
    text
}

fn row(trace: &Trace) -> String {
    let root = trace.root().map(|root| named(&root.place())).unwrap_or_default();
    let services: BTreeSet<&str> = trace.spans.iter().map(|span| span.service.as_str()).collect();
    let failed = if trace.failed() { " FAILED" } else { "" };
    format!(
        "{} {}{failed} {root}, {} steps in {} services",
        trace.id,
        ms(trace.duration_us()),
        trace.spans.len(),
        services.len()
    )
}

fn told(trace: &Trace, profile: &Profile) -> String {
    let mut text = format!("{} in {} steps", ms(trace.duration_us()), trace.spans.len());
    if let Some((place, own, _)) = profile.added_to(&Profile::default()).into_iter().next() {
        text.push_str(&format!("; most of it in {place}: {}", ms(own)));
    }
    if let Some((place, ..)) = profile.errors_by_count().into_iter().next() {
        text.push_str(&format!("; the error begins in {place}"));
    }
    text
}

/// One line a step: when it began, how long it took, and `*` with its own time on the critical path.
fn waterfall(trace: &Trace, limit: usize) -> String {
    let path = trace.critical_path();
    let begin = trace.spans.iter().map(|span| span.start_us).min().unwrap_or_default();
    let rows = trace.waterfall();
    let mut text = String::new();
    for (at, depth) in rows.iter().take(limit) {
        let span = &trace.spans[*at];
        let own = path.get(at).map(|own| format!(" *{}", ms(*own))).unwrap_or_default();
        let error = span
            .error
            .as_ref()
            .map(|why| format!(" FAILED {}", clip(&why.replace('\n', " "), 120)))
            .unwrap_or_default();
        text.push_str(&format!(
            "{}+{} {}{own} {}{error}\n",
            "  ".repeat((*depth).min(20)),
            ms(span.start_us - begin),
            ms(span.duration_us),
            named(&span.place())
        ));
    }
    if rows.len() > limit {
        text.push_str(&format!("[{} more steps; ask for this trace_id]\n", rows.len() - limit));
    }
    text
}

fn named(place: &Place) -> String {
    clip(&place.to_string().replace('\n', " "), 120)
}

fn ms(us: i64) -> String {
    match us {
        us if us.abs() >= 10_000_000 => format!("{:.1} s", us as f64 / 1e6),
        us if us.abs() >= 10_000 => format!("{} ms", us / 1_000),
        us => format!("{:.1} ms", us as f64 / 1e3),
    }
}

fn draft(traces: &dyn Traces, query: String, summary: String, body: String, shown: Option<String>) -> Draft {
    Draft {
        kind: EvidenceKind::Trace,
        source: traces.name(),
        query,
        summary,
        body,
        shown,
        series: vec![],
        // Applications write spans, names and messages.
        taint: Taint::UserWritable,
        found: true,
    }
}
