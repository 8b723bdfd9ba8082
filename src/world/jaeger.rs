//! Jaeger's query API over traces that follow from the estate's state.
//!
//! A trace is not stored: the same tick and number give the same one again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::estate::Role;
use super::prometheus::Clock;
use super::random::noise;
use super::sim::{Glimpse, MINUTE, Sim};

/// Of each tick so many requests are sampled, over all gateways and workers.
const SAMPLED: u64 = 6;
const LIMIT: usize = 20;
const MOST: usize = 1_500;
/// A request goes so deep at most; the estate has no circles, this bounds wide ones.
const SPANS: usize = 120;

#[derive(Clone)]
struct Jaeger {
    sim: Arc<Mutex<Sim>>,
    now: Clock,
}

pub fn router(sim: Arc<Mutex<Sim>>, now: Clock) -> Router {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(operations))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/dependencies", get(dependencies))
        .with_state(Jaeger { sim, now })
}

fn answer(data: Vec<Value>) -> Response {
    let total = data.len();
    Json(json!({"data": data, "total": total, "limit": 0, "offset": 0, "errors": null})).into_response()
}

fn refuse(status: StatusCode, why: &str) -> Response {
    let errors = json!([{"code": status.as_u16(), "msg": why}]);
    (status, Json(json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors}))).into_response()
}

/// Who writes spans: what is ours and serves.
fn writes(role: Role) -> bool {
    matches!(role, Role::Gateway | Role::Service | Role::Worker)
}

async fn services(State(jaeger): State<Jaeger>) -> Response {
    let sim = jaeger.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let names = sim.estate.nodes.iter().filter(|node| writes(node.role)).map(|node| json!(node.name));
    answer(names.collect())
}

async fn operations(State(jaeger): State<Jaeger>, Path(service): Path<String>) -> Response {
    let sim = jaeger.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let found = sim.estate.find(&service).map(|at| sim.estate.nodes[at].endpoints.clone()).unwrap_or_default();
    answer(found.into_iter().map(Value::from).collect())
}

type Asked = BTreeMap<String, String>;

/// `service` is needed; `start` and `end` are microseconds, `minDuration` and `maxDuration` such as
/// `1.2s` or `80ms`, `tags` a JSON object, `operation` a name, `limit` a count (newest first).
async fn traces(State(jaeger): State<Jaeger>, Query(asked): Query<Asked>) -> Response {
    let Some(service) = asked.get("service").filter(|name| !name.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "parameter 'service' is required");
    };
    let number = |key: &str| asked.get(key).and_then(|text| text.parse::<i64>().ok());
    let now = (jaeger.now)();
    let end = number("end").map_or(now, |micros| micros / 1000).min(now);
    let start = number("start").map_or(end - 60 * MINUTE, |micros| micros / 1000);
    let limit = number("limit").map_or(LIMIT, |limit| limit.max(0) as usize).min(MOST);
    let tags: BTreeMap<String, String> = match asked.get("tags").map(|text| serde_json::from_str(text)).transpose() {
        Ok(tags) => tags.unwrap_or_default(),
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "malformed 'tags' parameter, expecting a JSON object"),
    };
    let (mut least, mut most) = (None, None);
    for (key, bound) in [("minDuration", &mut least), ("maxDuration", &mut most)] {
        if let Some(text) = asked.get(key).filter(|text| !text.is_empty()) {
            match micros(text) {
                Some(micros) => *bound = Some(micros),
                None => return refuse(StatusCode::BAD_REQUEST, &format!("cannot parse {key}")),
            }
        }
    }
    let fits = |span: &Span, name: &str| {
        name == service
            && asked.get("operation").is_none_or(|operation| operation.is_empty() || span.operation == *operation)
            && least.is_none_or(|least| span.micros >= least)
            && most.is_none_or(|most| span.micros <= most)
            && tags.iter().all(|(key, value)| span.tag(key).as_deref() == Some(value))
    };
    let sim = jaeger.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = vec![];
    for tick in sim.glimpses.range(start..=end).rev().map(|(at, _)| *at) {
        for number in 0..SAMPLED {
            let spans = drawn(&sim, tick, number);
            if spans.iter().any(|span| fits(span, &sim.estate.nodes[span.node].name)) {
                found.push(written(&sim, tick, number, &spans));
            }
            if found.len() >= limit {
                return answer(found);
            }
        }
    }
    answer(found)
}

async fn trace(State(jaeger): State<Jaeger>, Path(id): Path<String>) -> Response {
    let sim = jaeger.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let parts = id.split_at_checked(16);
    let read = |text: &str| u64::from_str_radix(text, 16).ok();
    let known = parts.and_then(|(tick, number)| Some((read(tick)? as i64, read(number)?)));
    match known.filter(|(tick, number)| sim.glimpses.contains_key(tick) && *number < SAMPLED) {
        Some((tick, number)) => answer(vec![written(&sim, tick, number, &drawn(&sim, tick, number))]),
        None => refuse(StatusCode::NOT_FOUND, "trace not found"),
    }
}

/// `endTs` and `lookback` are milliseconds.
async fn dependencies(State(jaeger): State<Jaeger>, Query(asked): Query<Asked>) -> Response {
    let number = |key: &str| asked.get(key).and_then(|text| text.parse::<i64>().ok());
    let end = number("endTs").unwrap_or_else(|| (jaeger.now)());
    let start = end - number("lookback").unwrap_or(60 * MINUTE);
    let sim = jaeger.sim.lock().unwrap_or_else(PoisonError::into_inner);
    let mut data = vec![];
    for (index, node) in sim.estate.nodes.iter().enumerate() {
        for call in &node.calls {
            let ticks = sim.glimpses.range(start..=end);
            let calls: f64 = ticks.map(|(_, all)| all[index].rate * call.share * 15.0).sum();
            if calls >= 1.0 {
                let child = &sim.estate.nodes[call.to].name;
                data.push(json!({"parent": node.name, "child": child, "callCount": calls as u64}));
            }
        }
    }
    answer(data)
}

/// A span of Go's notation, such as `1.5s`, `200ms` or `80us`.
fn micros(text: &str) -> Option<u64> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic() || letter == 'µ')?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" | "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor) as u64)
}

struct Span {
    node: usize,
    parent: Option<usize>,
    operation: String,
    /// From the beginning of the trace.
    begins: u64,
    micros: u64,
    kind: &'static str,
    failed: bool,
    peer: Option<String>,
}

impl Span {
    fn tag(&self, key: &str) -> Option<String> {
        match key {
            "span.kind" => Some(self.kind.to_owned()),
            "error" => self.failed.then(|| "true".to_owned()),
            "http.status_code" => Some(if self.failed { "503" } else { "200" }.to_owned()),
            "peer.service" => self.peer.clone(),
            _ => None,
        }
    }
}

/// One sampled request, drawn from how everything was in that tick.
struct Drawing<'a> {
    sim: &'a Sim,
    tick: i64,
    glimpses: &'a [Glimpse],
    salt: u64,
    spans: Vec<Span>,
}

fn drawn(sim: &Sim, tick: i64, number: u64) -> Vec<Span> {
    let Some(glimpses) = sim.glimpses.get(&tick) else { return vec![] };
    let doors: Vec<usize> = (0..sim.estate.nodes.len())
        .filter(|at| matches!(sim.estate.nodes[*at].role, Role::Gateway | Role::Worker))
        .collect();
    let mut drawing = Drawing { sim, tick, glimpses, salt: number * 1_000, spans: vec![] };
    let chosen = (drawing.dice() * doors.len() as f64) as usize;
    if let Some(door) = doors.get(chosen.min(doors.len().saturating_sub(1))) {
        drawing.serve(*door, None, 0);
    }
    drawing.spans
}

impl Drawing<'_> {
    fn dice(&mut self) -> f64 {
        self.salt += 1;
        noise(self.sim.seed ^ 0x7ace, self.tick as u64, self.salt)
    }

    /// The server's span and what it calls; how long it took, and whether it failed.
    fn serve(&mut self, node: usize, parent: Option<usize>, begins: u64) -> (u64, bool) {
        let estate = &self.sim.estate;
        let here = &estate.nodes[node];
        let which = (self.dice() * here.endpoints.len() as f64) as usize;
        let operation = here.endpoints.get(which).cloned().unwrap_or_default();
        let own = self.spans.len();
        let kind = if here.role == Role::Worker { "consumer" } else { "server" };
        self.spans.push(Span { node, parent, operation, begins, micros: 0, kind, failed: false, peer: None });
        let mut at = begins + 200 + (here.own_seconds * 0.3e6) as u64;
        let mut failed = false;
        for call in &here.calls {
            if self.dice() < call.share.min(1.0) && self.spans.len() < SPANS {
                let (took, lost) = self.call(node, call.to, own, at);
                at += took;
                failed |= lost && self.dice() < 0.85;
            }
        }
        // What it took beyond its calls, as the tick had it on average.
        let glimpse = self.glimpses[node];
        let rest = (glimpse.seconds * 1e6 - (at - begins) as f64).max(here.own_seconds * 0.6e6);
        let micros = at - begins + (rest * (0.5 + self.dice())) as u64;
        failed |= !failed && self.dice() < glimpse.errors * if here.calls.is_empty() { 1.0 } else { 0.4 };
        self.spans[own].micros = micros;
        self.spans[own].failed = failed;
        (micros, failed)
    }

    fn call(&mut self, from: usize, to: usize, parent: usize, begins: u64) -> (u64, bool) {
        let estate = &self.sim.estate;
        let callee = &estate.nodes[to];
        let own = self.spans.len();
        let operation = match callee.role {
            Role::Database => "SELECT".to_owned(),
            Role::Queue => "publish".to_owned(),
            _ => "GET".to_owned(),
        };
        let peer = Some(callee.name.clone());
        self.spans.push(Span {
            node: from,
            parent: Some(parent),
            operation,
            begins,
            micros: 0,
            kind: "client",
            failed: false,
            peer,
        });
        let (lost, more) = self.sim.script.way(self.tick, from, to);
        let more = (more * 1e6) as u64;
        let (took, failed) = if self.dice() < lost {
            (1_000_000 + more, true)
        } else if writes(callee.role) {
            let (took, failed) = self.serve(to, Some(own), begins + more / 2 + 100);
            (took + more + 200, failed)
        } else {
            let glimpse = self.glimpses[to];
            ((glimpse.seconds * 1e6 * (0.6 + 0.8 * self.dice())) as u64 + more, self.dice() < glimpse.errors)
        };
        self.spans[own].micros = took;
        self.spans[own].failed = failed;
        (took, failed)
    }
}

fn written(sim: &Sim, tick: i64, number: u64, spans: &[Span]) -> Value {
    let id = format!("{tick:016x}{number:016x}");
    let span_id = |at: usize| format!("{:016x}", (noise(tick as u64, number, at as u64) * 1.8e19) as u64 | 1);
    let offset = (noise(sim.seed ^ 0x7ace, tick as u64, number) * 15e6) as u64;
    let begins = (tick as u64).saturating_sub(15_000) * 1_000 + offset;
    let mut processes = serde_json::Map::new();
    let list: Vec<Value> = (spans.iter().enumerate())
        .map(|(at, span)| {
            let node = &sim.estate.nodes[span.node];
            let process = format!("p{}", span.node + 1);
            processes.entry(process.clone()).or_insert_with(|| {
                let tag = json!({"key": "k8s.namespace.name", "type": "string", "value": node.namespace});
                json!({"serviceName": node.name, "tags": [tag]})
            });
            let references: Vec<Value> = (span.parent.iter())
                .map(|parent| json!({"refType": "CHILD_OF", "traceID": id, "spanID": span_id(*parent)}))
                .collect();
            let mut tags = vec![json!({"key": "span.kind", "type": "string", "value": span.kind})];
            if let Some(peer) = &span.peer {
                tags.push(json!({"key": "peer.service", "type": "string", "value": peer}));
            }
            if span.failed {
                tags.push(json!({"key": "error", "type": "bool", "value": true}));
            }
            if span.kind == "server" || span.kind == "client" {
                let status = if span.failed { 503 } else { 200 };
                tags.push(json!({"key": "http.status_code", "type": "int64", "value": status}));
            }
            json!({"traceID": id, "spanID": span_id(at), "operationName": span.operation, "references": references,
                "startTime": begins + span.begins, "duration": span.micros.max(1), "tags": tags, "logs": [],
                "processID": process, "warnings": null})
        })
        .collect();
    json!({"traceID": id, "spans": list, "processes": processes, "warnings": null})
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::world::description::World;
    use crate::world::promql::SeriesStore;

    const SHOP: &str = "\
services:
  door: {role: gateway, calls: {cart: 0.8, search: 0.5}}
  cart: {calls: {cart-db: 1.0}}
  search:
  cart-db: {role: database}
faults:
  - {kind: network, service: door, to: cart, at: 2m, loss: 0.5}
";

    async fn get(router: &Router, path: &str) -> Value {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    fn shop() -> Router {
        let world = World::parse(SHOP).expect("a world");
        let mut sim = Sim::of(world.seed, world.start, world.estate, world.script);
        sim.quiet(1, MINUTE, &mut SeriesStore::new());
        let end = world.start + 6 * MINUTE;
        sim.advance(end, &mut SeriesStore::new(), &mut |_| {});
        router(Arc::new(Mutex::new(sim)), Arc::new(move || end))
    }

    #[tokio::test]
    async fn a_failing_way_shows_in_the_callers_spans() {
        let router = shop();
        let path = "/api/traces?service=door&limit=200&tags=%7B%22error%22%3A%22true%22%7D";
        let failed = get(&router, path).await;
        let spans: Vec<&Value> = failed["data"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|trace| trace["spans"].as_array())
            .flatten()
            .collect();
        let broken = |span: &&&Value, tag: &str, value: &str| {
            let tags = span["tags"].as_array().into_iter().flatten();
            tags.clone().any(|tag| tag["key"] == "error")
                && tags.into_iter().any(|it| it["key"] == tag && it["value"] == value)
        };
        let to = |peer: &str| spans.iter().filter(|span| broken(span, "peer.service", peer)).count();
        assert!(to("cart") > 5 && to("search") == 0, "{} {}", to("cart"), to("search"));
        let one = failed["data"][0]["traceID"].as_str().expect("an id").to_owned();
        assert_eq!(get(&router, &format!("/api/traces/{one}")).await["data"][0], failed["data"][0]);
    }

    #[tokio::test]
    async fn services_and_dependencies_are_those_of_the_estate() {
        let router = shop();
        assert_eq!(get(&router, "/api/services").await["data"], json!(["door", "cart", "search"]));
        let edges = get(&router, "/api/dependencies?lookback=600000").await;
        let pairs: Vec<String> = (edges["data"].as_array().into_iter().flatten())
            .map(|edge| format!("{}>{}", edge["parent"], edge["child"]).replace('"', ""))
            .collect();
        assert_eq!(pairs, ["door>cart", "door>search", "cart>cart-db"]);
        let slow = get(&router, "/api/traces?service=cart&minDuration=9s").await;
        assert_eq!((&slow["total"], &slow["errors"]), (&json!(0), &Value::Null));
        assert_eq!(get(&router, "/api/traces").await["errors"][0]["code"], 400);
    }
}
