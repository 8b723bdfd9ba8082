//! The HTTP side: paths, lists, selectors, logs and the answers' shapes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::kinds::{ALL, BUDGETS, PODS, Resource, verbs};
use super::kubelet::container;
use super::select::{Fields, Labels};
use super::{KubeState, text};

/// Says what time it is in the simulation.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// An error as the API server words it.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Failure {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    pub fn caused_by(mut self, reason: &str, message: &str) -> Self {
        self.details = json!({"causes": [{"reason": reason, "message": message}]});
        self
    }

    pub fn about(mut self, resource: Resource, name: &str) -> Self {
        self.details = json!({"name": name, "group": resource.group, "kind": resource.plural});
        self
    }

    pub fn not_found(resource: Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", resource.qualified())).about(resource, name)
    }

    fn no_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    fn status(&self) -> Value {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                "message": self.message, "reason": self.reason, "code": self.code});
        if !self.details.is_null() {
            super::set(&mut status, &["details"], self.details.clone());
        }
        status
    }
}

/// What an answer carries.
pub(super) enum Answer {
    Json(u16, Value),
    Text(String),
}

/// A request, taken apart.
pub(super) struct Request {
    pub method: Method,
    pub query: BTreeMap<String, String>,
    pub content_type: String,
    pub user_agent: String,
    /// Of the `Authorization` header; empty: nobody in particular.
    pub token: String,
    pub body: Bytes,
    pub now: i64,
}

impl Request {
    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// Where in the API a path leads.
pub(super) struct Place<'a> {
    pub resource: Resource,
    pub namespace: &'a str,
    pub name: &'a str,
    pub sub: &'a str,
}

/// The API server.
pub fn router(state: Arc<Mutex<KubeState>>, now: Now) -> Router {
    Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let (state, now) = (Arc::clone(&state), now());
        async move {
            let header = |name: header::HeaderName| {
                headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
            };
            let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
            let request = Request {
                method,
                query,
                content_type: header(header::CONTENT_TYPE),
                user_agent: header(header::USER_AGENT),
                token: header(header::AUTHORIZATION).trim_start_matches("Bearer ").to_owned(),
                body,
                now,
            };
            respond(answer(&state, uri.path(), &request))
        }
    })
}

pub(super) fn lock(state: &Mutex<KubeState>) -> MutexGuard<'_, KubeState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn respond(answer: Result<Answer, Failure>) -> Response {
    let (code, body) = match answer {
        Ok(Answer::Text(text)) => {
            return (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain")], text).into_response();
        }
        Ok(Answer::Json(code, body)) => (code, body),
        Err(failure) => (failure.code, failure.status()),
    };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn answer(state: &Mutex<KubeState>, path: &str, request: &Request) -> Result<Answer, Failure> {
    let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    match parts.as_slice() {
        ["readyz" | "healthz" | "livez"] => Ok(Answer::Text("ok".into())),
        ["version"] => Ok(Answer::Json(200, version())),
        ["api"] => Ok(Answer::Json(
            200,
            json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]}),
        )),
        ["apis"] => Ok(Answer::Json(200, groups())),
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] if request.method == Method::POST => {
            super::access::review(&lock(state), request)
        }
        ["api", version, rest @ ..] => resource(state, "", version, rest, request),
        ["apis", group, version, rest @ ..] => resource(state, group, version, rest, request),
        _ => Err(Failure::no_path()),
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.1", "gitCommit": "", "gitTreeState": "clean",
           "buildDate": "2025-09-09T19:43:15Z", "goVersion": "go1.24.6", "compiler": "gc", "platform": "linux/amd64"})
}

fn groups() -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for resource in ALL.iter().filter(|it| !it.group.is_empty()) {
        let version = json!({"groupVersion": resource.api_version(), "version": resource.version});
        if !groups.iter().any(|it| text(it, "/name") == resource.group) {
            groups.push(json!({"name": resource.group, "versions": [version], "preferredVersion": version}));
        }
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(group: &str, version: &str) -> Result<Value, Failure> {
    let mut list = Vec::new();
    for it in ALL.iter().filter(|it| it.group == group && it.version == version) {
        let mut add = |name: String, kind: &str, verbs: &[&str]| {
            list.push(json!({"name": name, "singularName": it.kind.to_lowercase(), "namespaced": it.namespaced,
                             "kind": kind, "verbs": verbs}));
        };
        let workload = matches!(it.kind, "Deployment" | "StatefulSet");
        add(it.plural.to_owned(), it.kind, verbs(it.kind));
        if workload {
            add(format!("{}/scale", it.plural), "Scale", &["get", "patch", "update"]);
        }
        if it.kind == "Pod" {
            add("pods/log".into(), "Pod", &["get"]);
            add("pods/eviction".into(), "Eviction", &["create"]);
        }
    }
    if list.is_empty() {
        return Err(Failure::no_path());
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list}))
}

fn resource(
    state: &Mutex<KubeState>,
    group: &str,
    version: &str,
    rest: &[&str],
    request: &Request,
) -> Result<Answer, Failure> {
    let find = |plural: &str| {
        let found = ALL.into_iter().find(|it| it.group == group && it.version == version && it.plural == plural);
        found.ok_or_else(Failure::no_path)
    };
    let (namespace, rest) = match rest {
        [] => return resources(group, version).map(|it| Answer::Json(200, it)),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, name, sub) = match rest {
        [plural] => (find(plural)?, "", ""),
        [plural, name] => (find(plural)?, *name, ""),
        [plural, name, sub] => (find(plural)?, *name, *sub),
        _ => return Err(Failure::no_path()),
    };
    if resource.namespaced == namespace.is_empty() && !(name.is_empty() && resource.namespaced) {
        return Err(Failure::no_path());
    }
    let place = Place { resource, namespace, name, sub };
    super::access::check(&lock(state), &place, request)?;
    if request.method != Method::GET {
        return super::writing::write(&mut lock(state), &place, request);
    }
    match (resource.kind, sub) {
        (_, "") if name.is_empty() => list(&lock(state), &place, request),
        (_, "") => fetch(&lock(state), &place).map(|it| Answer::Json(200, it)),
        ("Pod", "log") => log(state, &place, request),
        ("Deployment" | "StatefulSet", "scale") => {
            Ok(Answer::Json(200, super::writing::scale_of(&fetch(&lock(state), &place)?)))
        }
        (_, "status") => fetch(&lock(state), &place).map(|it| Answer::Json(200, it)),
        _ => Err(Failure::no_path()),
    }
}

/// As a reader sees it: the status of a budget moves with every pod.
fn shown(state: &KubeState, resource: Resource, object: &Value) -> Value {
    match resource == BUDGETS {
        true => super::writing::with_room(state, object.clone()),
        false => object.clone(),
    }
}

pub(super) fn fetch(state: &KubeState, place: &Place<'_>) -> Result<Value, Failure> {
    let found = state.get(place.resource, place.namespace, place.name).map(|it| shown(state, place.resource, it));
    found.ok_or_else(|| Failure::not_found(place.resource, place.name))
}

fn list(state: &KubeState, place: &Place<'_>, request: &Request) -> Result<Answer, Failure> {
    if matches!(request.query("watch"), "true" | "1") {
        return Err(Failure::new(405, "MethodNotAllowed", "watch is not supported on resources of this server"));
    }
    let bad = |message: String| Failure::new(400, "BadRequest", message);
    let labels = Labels::parse(request.query("labelSelector")).map_err(bad)?;
    let fields = Fields::parse(request.query("fieldSelector")).map_err(bad)?;
    let found: Vec<&Value> = (state.list(place.resource))
        .filter(|it| place.namespace.is_empty() || text(it, "/metadata/namespace") == place.namespace)
        .filter(|it| labels.matches(it) && fields.matches(it))
        .collect();
    let start = request.query("continue").parse::<usize>().unwrap_or(0).min(found.len());
    let limit = request.query("limit").parse::<usize>().ok().filter(|it| *it > 0).unwrap_or(found.len());
    let end = start.saturating_add(limit).min(found.len());
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if end < found.len() {
        super::set(&mut metadata, &["continue"], json!(end.to_string()));
        super::set(&mut metadata, &["remainingItemCount"], json!(found.len() - end));
    }
    let items = found.get(start..end).unwrap_or_default();
    let items: Vec<Value> = items.iter().map(|it| shown(state, place.resource, it)).collect();
    let kind = format!("{}List", place.resource.kind);
    let body = json!({"kind": kind, "apiVersion": place.resource.api_version(), "metadata": metadata, "items": items});
    Ok(Answer::Json(200, body))
}

fn log(state: &Mutex<KubeState>, place: &Place<'_>, request: &Request) -> Result<Answer, Failure> {
    let previous = matches!(request.query("previous"), "true" | "1");
    let tail = request.query("tailLines").parse::<usize>().unwrap_or(usize::MAX);
    let logs = {
        let state = lock(state);
        let pod = fetch(&state, place)?;
        let bad = |message: String| Failure::new(400, "BadRequest", message);
        let (name, wanted) = (container(&pod), request.query("container"));
        if !wanted.is_empty() && wanted != name {
            return Err(bad(format!("container {wanted} is not valid for pod {}", place.name)));
        }
        let status = pod.pointer("/status/containerStatuses/0").cloned().unwrap_or_default();
        let waiting = text(&status, "/state/waiting/reason");
        if previous && status.pointer("/lastState/terminated").is_none() {
            return Err(bad(format!("previous terminated container \"{name}\" in pod \"{}\" not found", place.name)));
        }
        if !previous && status.get("containerID").is_none() {
            let message = format!("container \"{name}\" in pod \"{}\" is waiting to start: {waiting}", place.name);
            return Err(bad(message));
        }
        state.logs.clone()
    };
    // The source may look at the state itself, so it is asked without the lock.
    let text = logs.map(|logs| logs(place.namespace, place.name, previous, tail)).unwrap_or_default();
    Ok(Answer::Text(text))
}

/// Whether a pod is of the budget's.
pub(super) fn covers(budget: &Value, pod: &Value) -> bool {
    let wanted = super::strings(budget.pointer("/spec/selector/matchLabels"));
    let same = text(budget, "/metadata/namespace") == text(pod, "/metadata/namespace");
    same && !wanted.is_empty()
        && wanted.iter().all(|(key, value)| {
            pod.pointer("/metadata/labels").and_then(|it| it.get(key)).and_then(Value::as_str) == Some(value)
        })
        && text(pod, "/kind") == PODS.kind
}
