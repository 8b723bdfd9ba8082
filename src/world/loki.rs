//! Loki's query API over lines that follow from the estate's state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use regex::Regex;
use serde_json::{Value, json};

use super::prometheus::Clock;
use super::random::noise;
use super::sim::{MINUTE, Sim, Trouble};

#[derive(Clone)]
struct Loki {
    sim: Arc<Mutex<Sim>>,
    now: Clock,
}

pub fn router(sim: Arc<Mutex<Sim>>, now: Clock) -> Router {
    Router::new()
        .route("/ready", get(|| async { "ready" }))
        .route("/loki/api/v1/query_range", get(query_range).post(query_range))
        .route("/loki/api/v1/query", get(query_range))
        .route(
            "/loki/api/v1/labels",
            get(|| async { Json(json!({"status": "success", "data": ["app", "namespace", "pod", "level"]})) }),
        )
        .route("/loki/api/v1/label/{name}/values", get(values))
        .with_state(Loki { sim, now })
}

async fn values(State(loki): State<Loki>, axum::extract::Path(name): axum::extract::Path<String>) -> Json<Value> {
    let sim = loki.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<String> = match name.as_str() {
        "app" => sim.estate.nodes.iter().map(|node| node.name.clone()).collect(),
        "namespace" => sim.estate.nodes.iter().map(|node| node.namespace.clone()).collect(),
        "level" => vec!["error".into(), "info".into(), "warn".into()],
        _ => vec![],
    };
    found.sort();
    found.dedup();
    Json(json!({"status": "success", "data": found}))
}

type Asked = BTreeMap<String, String>;

async fn query_range(State(loki): State<Loki>, Query(asked): Query<Asked>, body: String) -> Response {
    let mut asked = asked;
    if !body.is_empty() {
        asked.extend(url::form_urlencoded::parse(body.as_bytes()).into_owned());
    }
    let refuse = |why: String| (StatusCode::BAD_REQUEST, why).into_response();
    let Some(text) = asked.get("query") else { return refuse("query parameter is required".into()) };
    let parsed = match LogQuery::parse(text) {
        Ok(parsed) => parsed,
        Err(why) => return refuse(format!("parse error : {why}")),
    };
    let now = (loki.now)();
    let end = instant(asked.get("end")).unwrap_or(now).min(now);
    let start = instant(asked.get("start")).unwrap_or(end - 60 * MINUTE);
    let limit: usize = asked.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100).min(5000);
    let forward = asked.get("direction").is_some_and(|direction| direction.eq_ignore_ascii_case("forward"));
    let sim = loki.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let mut streams: BTreeMap<BTreeMap<String, String>, Vec<(i64, String)>> = BTreeMap::new();
    let mut lines = parsed.lines(&sim, start, end);
    drop(sim);
    lines.sort_by_key(|line| line.0);
    if !forward {
        lines.reverse();
    }
    for (at, labels, line) in lines.into_iter().take(limit) {
        streams.entry(labels).or_default().push((at, line));
    }
    let result: Vec<Value> = streams
        .into_iter()
        .map(|(labels, lines)| {
            let values: Vec<Value> = lines.into_iter().map(|(at, line)| json!([format!("{at}000000"), line])).collect();
            json!({"stream": labels, "values": values})
        })
        .collect();
    Json(json!({"status": "success", "data": {"resultType": "streams", "result": result, "stats": {}}})).into_response()
}

/// Nanoseconds, seconds with a fraction, or RFC 3339.
fn instant(text: Option<&String>) -> Option<i64> {
    let text = text?;
    if let Ok(number) = text.parse::<f64>() {
        return Some(if number > 1e14 { (number / 1e6) as i64 } else { (number * 1000.0) as i64 });
    }
    crate::domain::time::Timestamp::parse(text).ok().map(|at| at.millis())
}

struct LogQuery {
    matchers: Vec<(String, String, Regex)>,
    filters: Vec<(&'static str, String, Option<Regex>)>,
}

impl LogQuery {
    /// A stream selector and line filters; what else LogQL knows is refused by name.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.strip_prefix('{').ok_or("a query begins with a stream selector such as {app=\"x\"}")?;
        let close = end_of_selector(inner).ok_or("the stream selector has no closing brace")?;
        let mut matchers = vec![];
        for part in split_outside_quotes(&inner[..close]) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let operator = ["=~", "!~", "!=", "="]
                .into_iter()
                .filter_map(|operator| part.find(operator).map(|at| (at, operator)))
                .min_by_key(|(at, operator)| (*at, 2 - operator.len()))
                .ok_or_else(|| format!("no operator in the matcher {part}"))?;
            let name = part[..operator.0].trim().to_owned();
            let value = unquote(part[operator.0 + operator.1.len()..].trim())?;
            let pattern = if operator.1.ends_with('~') {
                format!("^(?:{value})$")
            } else {
                format!("^{}$", regex::escape(&value))
            };
            let regex = Regex::new(&pattern).map_err(|error| error.to_string())?;
            matchers.push((name, operator.1.to_owned(), regex));
        }
        if matchers.is_empty() {
            return Err(
                "queries require at least one regexp or equality matcher that does not have an empty-compatible value"
                    .into(),
            );
        }
        let mut rest = inner[close + 1..].trim();
        let mut filters = vec![];
        while !rest.is_empty() {
            let operator =
                ["|=", "|~", "!=", "!~"].into_iter().find(|operator| rest.starts_with(operator)).ok_or_else(|| {
                    format!(
                        "unexpected {:?}; only line filters are supported",
                        rest.chars().take(20).collect::<String>()
                    )
                })?;
            rest = rest[operator.len()..].trim_start();
            let (value, after) = take_quoted(rest)?;
            let regex =
                operator.ends_with('~').then(|| Regex::new(&value)).transpose().map_err(|error| error.to_string())?;
            filters.push((operator, value, regex));
            rest = after.trim_start();
        }
        Ok(Self { matchers, filters })
    }

    fn accepts(&self, line: &str) -> bool {
        self.filters.iter().all(|(operator, value, regex)| {
            let hit = regex.as_ref().map_or_else(|| line.contains(value.as_str()), |regex| regex.is_match(line));
            if operator.starts_with('!') { !hit } else { hit }
        })
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers.iter().all(|(name, operator, regex)| {
            let hit = regex.is_match(labels.get(name).map_or("", String::as_str));
            if operator.starts_with('!') { !hit } else { hit }
        })
    }

    fn lines(&self, sim: &Sim, start: i64, end: i64) -> Vec<(i64, BTreeMap<String, String>, String)> {
        let mut found = vec![];
        // A day back is what such a store keeps at hand for one query.
        let start = start.max(end - 24 * 60 * MINUTE);
        for (index, node) in sim.estate.nodes.iter().enumerate() {
            if node.replicas == 0 {
                continue;
            }
            let mut labels = BTreeMap::from([
                ("app".to_owned(), node.name.clone()),
                ("namespace".to_owned(), node.namespace.clone()),
                ("pod".to_owned(), format!("{}-0", node.name)),
            ]);
            let mut at = start - start.rem_euclid(15_000);
            while at < end {
                for (offset, level, line) in written(sim, index, at) {
                    let when = at + offset;
                    if when < start || when >= end || !self.accepts(&line) {
                        continue;
                    }
                    labels.insert("level".to_owned(), level.to_owned());
                    if self.selects(&labels) {
                        found.push((when, labels.clone(), line));
                    }
                }
                at += 15_000;
            }
        }
        found
    }
}

fn end_of_selector(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = vec![];
    let (mut from, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn take_quoted(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '`')).ok_or("a line filter needs a quoted text")?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Ok((unquote(&text[..=at])?, &text[at + 1..])),
            _ => {}
        }
    }
    Err("a quoted text is not closed".into())
}

fn unquote(text: &str) -> Result<String, String> {
    if let Some(raw) = text.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
        return Ok(raw.to_owned());
    }
    serde_json::from_str(text).map_err(|_| format!("{text} is not a quoted text"))
}

/// What a service writes in the 15 seconds from `at` on.
pub fn written(sim: &Sim, index: usize, at: i64) -> Vec<(i64, &'static str, String)> {
    let node = &sim.estate.nodes[index];
    let dice = |salt: u64| noise(sim.seed ^ 0x106, index as u64 * 97 + salt, (at / 15_000) as u64);
    let id = |salt: u64| format!("{:016x}", (dice(salt) * 1.8e19) as u64);
    let endpoint = &node.endpoints[(dice(3) * node.endpoints.len() as f64) as usize % node.endpoints.len().max(1)];
    let mut lines = vec![(
        (dice(1) * 15_000.0) as i64,
        "info",
        format!(
            "level=info msg=\"request served\" path={endpoint} status=200 duration={:.1}ms trace={}",
            dice(4) * 40.0,
            id(5)
        ),
    )];
    // Every service has a few errors on the best of days.
    if dice(6) < 0.02 {
        lines.push((
            (dice(7) * 15_000.0) as i64,
            "warn",
            format!(
                "level=warn msg=\"client closed the connection before the answer: timeout\" path={endpoint} trace={}",
                id(8)
            ),
        ));
    }
    for scripted in sim.script.lines.iter().filter(|it| it.node == index) {
        let first = at.max(scripted.from);
        let mut when = first + (scripted.from - first).rem_euclid(scripted.every);
        while when < (at + 15_000).min(scripted.until) {
            lines.push((when - at, scripted.level, scripted.text.clone()));
            when += scripted.every;
        }
    }
    let troubles = sim.troubles.range((at, index)..=(at + 14_999, index)).find(|((_, of), _)| *of == index);
    let Some((_, troubles)) = troubles else { return lines };
    let name = |at: usize| sim.estate.nodes[at].name.as_str();
    let mut salt = 20;
    for trouble in troubles {
        for _ in 0..3 {
            salt += 2;
            let trace = id(salt);
            let line = match trouble {
                Trouble::CalleeFails(to) => format!("level=error msg=\"call to {} failed: 503 Service Unavailable\" path={endpoint} trace={trace}", name(*to)),
                Trouble::CalleeSlow(to) => format!("level=warn msg=\"slow answer from {}: {}ms\" trace={trace}", name(*to), 1000 + (dice(salt) * 1500.0) as i64),
                Trouble::PoolTimeout(to) => format!(
                    "level=error msg=\"could not acquire a connection from the pool of {} within 2000ms: pool exhausted\" trace={trace}",
                    name(*to)
                ),
                Trouble::OutOfMemory => format!("java.lang.OutOfMemoryError: Java heap space thread=worker-{}", (dice(salt) * 90.0) as i64),
                Trouble::Exception => format!(
                    "level=error msg=\"unhandled exception\" error=\"java.lang.NullPointerException: Cannot invoke method on null at com.example.Handler.apply(Handler.java:{})\" trace={trace}",
                    80 + (dice(salt) * 4.0) as i64
                ),
                Trouble::NoSuchHost => format!("level=error msg=\"dial tcp: lookup svc.internal.old: no such host: invalid configuration?\" trace={trace}"),
                Trouble::ConnectionSlots => {
                    format!("FATAL: remaining connection slots are reserved for non-replication superuser connections pid={}", (dice(salt) * 30_000.0) as i64)
                }
                Trouble::SlowStatement => format!(
                    "LOG: slow statement: duration: {:.3} ms statement: SELECT * FROM items WHERE owner = $1 ORDER BY created_at",
                    200.0 + dice(salt) * 400.0
                ),
                Trouble::NoSpace => "ERROR: could not extend file \"base/16384/24601\": No space left on device HINT: Check free disk space.".to_owned(),
                Trouble::TlsCaller(to) => format!(
                    "level=error msg=\"Get https://{}/: x509: certificate has expired or is not yet valid\" trace={trace}",
                    name(*to)
                ),
                Trouble::TlsServer => format!(
                    "http: TLS handshake error from 10.4.{}.{}:51{}: remote error: tls: expired certificate",
                    (dice(salt) * 250.0) as i64,
                    (dice(salt + 1) * 250.0) as i64,
                    (dice(salt + 1) * 899.0) as i64 + 100
                ),
                Trouble::ThreadsBusy => format!("level=warn msg=\"all worker threads busy, request refused: possible deadlock\" queue={}", (dice(salt) * 400.0) as i64),
                Trouble::BadValue => format!(
                    "level=error msg=\"invalid configuration value\" error=\"cannot parse setting: unexpected token at offset {}\" path={endpoint} trace={trace}",
                    (dice(salt) * 60.0) as i64
                ),
                Trouble::FlaggedCode => format!(
                    "level=error msg=\"unhandled exception in experiment branch\" error=\"KeyError: price_list\" path={endpoint} trace={trace}"
                ),
                Trouble::CannotStart => {
                    "level=fatal msg=\"fatal: cannot start\" error=\"required setting is missing or unreadable\" exit=1".to_owned()
                }
                Trouble::NameLookup(to) => format!(
                    "level=error msg=\"dial tcp: lookup {} on 10.96.0.10:53: server misbehaving: i/o timeout\" trace={trace}",
                    name(*to)
                ),
                Trouble::NameServerBusy => format!(
                    "[ERROR] plugin/errors: 2 upstream.internal. A: read udp 10.244.3.{}:53: i/o timeout",
                    (dice(salt) * 250.0) as i64
                ),
                Trouble::ConnectionReset(to) => format!(
                    "level=error msg=\"read tcp to {}: connection reset by peer\" took_ms={} trace={trace}",
                    name(*to),
                    200 + (dice(salt) * 800.0) as i64
                ),
                Trouble::Poison => format!(
                    "level=error msg=\"failed to process message\" message_id=7c1f-{:04} redelivered=true attempt={} error=\"SerializationException: unexpected end of payload\"",
                    4211,
                    3 + (dice(salt) * 400.0) as i64
                ),
                Trouble::TokenFromFuture => format!(
                    "level=error msg=\"unauthorized\" error=\"token used before issued\" path={endpoint} trace={trace}"
                ),
                Trouble::ReplicaBehind => format!(
                    "ERROR: canceling statement due to conflict with recovery; waited {} s",
                    (sim.conditions[index].behind as i64).min(30)
                ),
                Trouble::QueueFull => format!("level=warn msg=\"request queue is full, unavailable\" queued={}", 500 + (dice(salt) * 300.0) as i64),
            };
            let level = if line.contains("level=warn") { "warn" } else { "error" };
            lines.push(((dice(salt) * 15_000.0) as i64, level, line));
        }
    }
    lines
}
