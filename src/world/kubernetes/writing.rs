//! Requests that change something: patches, updates, scale, eviction and deletion, for real or as a dry run.

use axum::http::Method;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use serde_json::{Value, json};

use super::api::{Answer, Failure, Place, Request, covers, fetch};
use super::build::quantity;
use super::kinds::{BUDGETS, PODS};
use super::{KubeState, Write, number, patch, set, strings, text};

/// Carries out a mutating request, and notes it in the journal unless it is a dry run.
pub(super) fn write(state: &mut KubeState, place: &Place<'_>, request: &Request) -> Result<Answer, Failure> {
    let body = parse(request);
    let result = body.as_ref().map_err(Clone::clone).map_err(|it| Failure::new(400, "BadRequest", it));
    let answer = result.and_then(|body| carry_out(state, place, request, body));
    if !is_dry(place, request, body.as_ref().ok()) {
        let verb = match request.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => "patch",
        };
        let kind = match place.sub {
            "scale" => "Scale",
            "eviction" => "Eviction",
            _ => place.resource.kind,
        };
        state.writes.push(Write {
            at: request.now,
            verb: verb.to_owned(),
            kind: kind.to_owned(),
            namespace: place.namespace.to_owned(),
            name: place.name.to_owned(),
            field_manager: request.query("fieldManager").to_owned(),
            user_agent: request.user_agent.clone(),
            body: body.unwrap_or_default(),
            status: match &answer {
                Ok(Answer::Json(code, _)) => *code,
                Ok(Answer::Text(_)) => 200,
                Err(failure) => failure.code,
            },
        });
    }
    answer
}

/// Deletion and eviction may ask for a dry run in their body as well.
fn is_dry(place: &Place<'_>, request: &Request, body: Option<&Value>) -> bool {
    let options = request.method == Method::DELETE || place.sub == "eviction";
    let said = |pointer: &str| body.is_some_and(|it| text(it, pointer) == "All");
    request.query("dryRun") == "All" || (options && (said("/dryRun/0") || said("/deleteOptions/dryRun/0")))
}

fn parse(request: &Request) -> Result<Value, String> {
    if request.body.is_empty() {
        return Ok(Value::Null);
    }
    if request.content_type.contains("yaml") {
        return serde_yaml_ng::from_slice(&request.body).map_err(|error| format!("error decoding YAML: {error}"));
    }
    serde_json::from_slice(&request.body).map_err(|error| format!("error decoding JSON: {error}"))
}

fn carry_out(state: &mut KubeState, place: &Place<'_>, request: &Request, body: &Value) -> Result<Answer, Failure> {
    let dry = match request.query("dryRun") {
        "" | "All" => is_dry(place, request, Some(body)),
        other => {
            let message = format!("Invalid value: \"{other}\": dryRun must be All");
            return Err(Failure::new(422, "Invalid", message));
        }
    };
    let workload = matches!(place.resource.kind, "Deployment" | "StatefulSet");
    let pod = place.resource == PODS;
    match (&request.method, place.sub) {
        (&Method::PATCH | &Method::PUT, "") if workload && !place.name.is_empty() => {
            let old = fetch(state, place)?;
            let new = changed(&old, request, body)?;
            store(state, place, &old, new, request.now, dry).map(|it| Answer::Json(200, it))
        }
        (&Method::PATCH | &Method::PUT, "scale") if workload => scale(state, place, request, body, dry),
        (&Method::DELETE, "") if pod && !place.name.is_empty() => {
            let found = fetch(state, place)?;
            let wanted = text(body, "/preconditions/uid");
            if !wanted.is_empty() && wanted != text(&found, "/metadata/uid") {
                let actual = text(&found, "/metadata/uid");
                let message = format!(
                    "Operation cannot be fulfilled on pods \"{}\": Precondition failed: UID in precondition: {wanted}, \
                     UID in object meta: {actual}",
                    place.name
                );
                return Err(Failure::new(409, "Conflict", message).about(PODS, place.name));
            }
            delete_pod(state, place, request.now, dry).map(|it| Answer::Json(200, it))
        }
        (&Method::POST, "eviction") if pod => {
            let found = fetch(state, place)?;
            if !may_evict(state, &found) {
                let message = "Cannot evict pod as it would violate the pod's disruption budget.";
                return Err(Failure::new(429, "TooManyRequests", message));
            }
            delete_pod(state, place, request.now, dry)?;
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            Ok(Answer::Json(201, status))
        }
        _ => {
            let message = "the server does not allow this method on the requested resource";
            Err(Failure::new(405, "MethodNotAllowed", message).about(place.resource, place.name))
        }
    }
}

/// The object as the request wants it.
fn changed(old: &Value, request: &Request, body: &Value) -> Result<Value, Failure> {
    if request.method == Method::PUT {
        return Ok(body.clone());
    }
    let mut new = old.clone();
    let kind = request.content_type.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/json-patch+json" => patch::json_patch(&mut new, body).map_err(|failure| match failure {
            patch::Failure::Malformed(message) => Failure::new(400, "BadRequest", message),
            patch::Failure::Unfit(why) => {
                let message = format!("the server rejected our request due to an error in our request: {why}");
                Failure::new(422, "Invalid", message)
            }
        })?,
        _ if !body.is_object() => return Err(Failure::new(400, "BadRequest", "the patch is not an object")),
        "application/merge-patch+json" => patch::merge(&mut new, body),
        "application/strategic-merge-patch+json" => patch::strategic(&mut new, body),
        "application/apply-patch+yaml" => {
            if request.query("fieldManager").is_empty() {
                let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
                               apply patch";
                return Err(Failure::new(422, "Invalid", message));
            }
            patch::strategic(&mut new, body);
        }
        other => {
            let message = format!("the body of the request was in an unknown format: {other}");
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    }
    Ok(new)
}

fn check_version(place: &Place<'_>, old: &Value, new: &Value) -> Result<(), Failure> {
    let qualified = place.resource.qualified();
    for field in ["uid", "resourceVersion"] {
        let pointer = format!("/metadata/{field}");
        let given = text(new, &pointer);
        if !given.is_empty() && given != text(old, &pointer) {
            let message = format!(
                "Operation cannot be fulfilled on {qualified} \"{}\": the object has been modified; please apply your \
                 changes to the latest version and try again",
                place.name
            );
            return Err(Failure::new(409, "Conflict", message).about(place.resource, place.name));
        }
    }
    Ok(())
}

fn store(
    state: &mut KubeState,
    place: &Place<'_>,
    old: &Value,
    mut new: Value,
    now: i64,
    dry: bool,
) -> Result<Value, Failure> {
    check_version(place, old, &new)?;
    for field in ["name", "namespace"] {
        let given = text(&new, &format!("/metadata/{field}"));
        if !given.is_empty() && given != text(old, &format!("/metadata/{field}")) {
            let message = format!("the {field} of the object ({given}) does not match the {field} on the request");
            return Err(Failure::new(400, "BadRequest", message));
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"] {
        set(&mut new, &["metadata", field], old.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default());
    }
    super::unset(&mut new, "/metadata", "managedFields");
    set(&mut new, &["status"], old.get("status").cloned().unwrap_or_default());
    validate(place, old, &new)?;
    if dry {
        return Ok(state.stored(place.resource, new, now));
    }
    let stored = state.put(place.resource, new, now);
    state.reconcile(now);
    Ok(stored)
}

fn validate(place: &Place<'_>, old: &Value, new: &Value) -> Result<(), Failure> {
    let typed = match place.resource.kind {
        "StatefulSet" => serde_json::from_value::<StatefulSet>(new.clone()).map(|_| ()),
        _ => serde_json::from_value::<Deployment>(new.clone()).map(|_| ()),
    };
    typed.map_err(|error| {
        let (kind, version) = (place.resource.kind, place.resource.version);
        Failure::new(400, "BadRequest", format!("{kind} in version \"{version}\" cannot be handled: {error}"))
    })?;
    let invalid = |why: String| {
        let message = format!("{}.{} \"{}\" is invalid: {why}", place.resource.kind, place.resource.group, place.name);
        Err(Failure::new(422, "Invalid", message).about(place.resource, place.name))
    };
    let replicas = number(new, "/spec/replicas");
    if replicas < 0 {
        return invalid(format!("spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"));
    }
    if old.pointer("/spec/selector") != new.pointer("/spec/selector") {
        return invalid("spec.selector: Invalid value: field is immutable".into());
    }
    let labels = strings(new.pointer("/spec/template/metadata/labels"));
    let selector = strings(new.pointer("/spec/selector/matchLabels"));
    if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return invalid(
            "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`".into(),
        );
    }
    let containers = new.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let Some(containers) = containers.filter(|it| !it.is_empty()) else {
        return invalid("spec.template.spec.containers: Required value".into());
    };
    for (index, container) in containers.iter().enumerate() {
        let field = format!("spec.template.spec.containers[{index}]");
        for required in ["name", "image"] {
            if text(container, &format!("/{required}")).is_empty() {
                return invalid(format!("{field}.{required}: Required value"));
            }
        }
        for what in ["cpu", "memory"] {
            let asked = text(container, &format!("/resources/requests/{what}"));
            let limit = text(container, &format!("/resources/limits/{what}"));
            if !limit.is_empty() && quantity(asked) > quantity(limit) {
                let why = format!("must be less than or equal to {what} limit of {limit}");
                return invalid(format!("{field}.resources.requests: Invalid value: \"{asked}\": {why}"));
            }
        }
    }
    Ok(())
}

/// The Scale of a workload.
pub(super) fn scale_of(object: &Value) -> Value {
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
    let labels = strings(object.pointer("/spec/selector/matchLabels"));
    let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata("name"), "namespace": metadata("namespace"), "uid": metadata("uid"),
            "resourceVersion": metadata("resourceVersion"), "creationTimestamp": metadata("creationTimestamp")},
        "spec": {"replicas": number(object, "/spec/replicas")},
        "status": {"replicas": number(object, "/status/replicas"), "selector": selector.join(",")}})
}

fn scale(
    state: &mut KubeState,
    place: &Place<'_>,
    request: &Request,
    body: &Value,
    dry: bool,
) -> Result<Answer, Failure> {
    let old = fetch(state, place)?;
    let new = changed(&scale_of(&old), request, body)?;
    check_version(place, &old, &new)?;
    let replicas = match new.pointer("/spec/replicas") {
        None => 0,
        Some(value) => {
            value.as_i64().ok_or_else(|| Failure::new(400, "BadRequest", "spec.replicas is not a number"))?
        }
    };
    let mut object = old.clone();
    set(&mut object, &["spec", "replicas"], json!(replicas));
    store(state, place, &old, object, request.now, dry).map(|it| Answer::Json(200, scale_of(&it)))
}

fn delete_pod(state: &mut KubeState, place: &Place<'_>, now: i64, dry: bool) -> Result<Value, Failure> {
    if dry {
        return fetch(state, place);
    }
    let key = (place.namespace.to_owned(), place.name.to_owned());
    let pod = state.end_pod(&key, "Killing", now).ok_or_else(|| Failure::not_found(PODS, place.name))?;
    state.reconcile(now);
    Ok(pod)
}

/// Whether every budget over the pod still allows losing it.
fn may_evict(state: &KubeState, pod: &Value) -> bool {
    let ready = |name: &str| {
        let key = (text(pod, "/metadata/namespace").to_owned(), name.to_owned());
        state.runs.get(&key).is_some_and(|run| run.ready)
    };
    state.list(BUDGETS).filter(|budget| covers(budget, pod)).all(|budget| {
        let mine: Vec<&Value> = state.list(PODS).filter(|it| covers(budget, it)).collect();
        let healthy = mine.iter().filter(|it| ready(text(it, "/metadata/name"))).count() as f64;
        let total = mine.iter().filter(|it| it.pointer("/metadata/deletionTimestamp").is_none()).count() as f64;
        let amount = |field: &str| {
            let value = budget.pointer(&format!("/spec/{field}"))?;
            let percent = value.as_str().and_then(|it| it.trim_end_matches('%').parse::<f64>().ok());
            percent.map(|it| (total * it / 100.0).ceil()).or_else(|| value.as_f64())
        };
        let floor = amount("minAvailable").or_else(|| Some(total - amount("maxUnavailable")?)).unwrap_or(0.0);
        !ready(text(pod, "/metadata/name")) || healthy - 1.0 >= floor
    })
}
