//! Requests that change something: patches, updates, scale, eviction and deletion, for real or as a dry run.

use axum::http::Method;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use serde_json::{Value, json};

use super::api::{Answer, Failure, Place, Request, covers, fetch};
use super::build::quantity;
use super::kinds::{BUDGETS, CRON_JOBS, JOBS, PODS, is_custom, verbs};
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
    let patched = verbs(place.resource.kind).contains(&"patch");
    match (&request.method, place.sub) {
        (&Method::PATCH | &Method::PUT, "") if patched && !place.name.is_empty() => {
            let old = fetch(state, place)?;
            let strategic = request.content_type.starts_with("application/strategic-merge-patch+json");
            if is_custom(place.resource) && strategic {
                let message = "the body of the request was in an unknown format - accepted media types include: \
                               application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                return Err(Failure::new(415, "UnsupportedMediaType", message));
            }
            let new = changed(&old, request, body)?;
            let manager = request.query("fieldManager");
            store(state, place, &old, new, request.now, (dry, manager)).map(|it| Answer::Json(200, it))
        }
        (&Method::PATCH | &Method::PUT, "scale") if workload => scale(state, place, request, body, dry),
        (&Method::DELETE, "") if pod && !place.name.is_empty() => {
            let found = fetch(state, place)?;
            check_preconditions(place, &found, body, "/preconditions")?;
            delete_pod(state, place, request.now, dry).map(|it| Answer::Json(200, it))
        }
        (&Method::POST, "") if place.resource == JOBS && place.name.is_empty() => {
            create_job(state, place, request, body, dry)
        }
        (&Method::DELETE, "") if place.resource == JOBS && !place.name.is_empty() => {
            let found = fetch(state, place)?;
            check_preconditions(place, &found, body, "/preconditions")?;
            let policy = text(body, "/propagationPolicy");
            if !policy.is_empty() && !["Background", "Foreground", "Orphan"].contains(&policy) {
                let message = format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{policy}\""
                );
                return Err(Failure::new(422, "Invalid", message));
            }
            if !dry {
                state.remove(JOBS, place.namespace, place.name);
            }
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                                "details": {"name": place.name, "group": "batch", "kind": "jobs",
                                            "uid": text(&found, "/metadata/uid")}});
            Ok(Answer::Json(200, status))
        }
        (&Method::POST, "eviction") if pod => {
            let found = fetch(state, place)?;
            // What is left out is what the endpoint expects; what is said must fit.
            let said = |field: &str| Some(text(body, field)).filter(|said| !said.is_empty());
            if said("/kind").is_some_and(|kind| kind != "Eviction")
                || said("/apiVersion").is_some_and(|version| version != "policy/v1")
            {
                let message = "the API version in the data does not match the expected API version (policy/v1)";
                return Err(Failure::new(400, "BadRequest", message));
            }
            if said("/metadata/name").is_some_and(|name| name != place.name) {
                let message = "name in URL does not match name in Eviction object";
                return Err(Failure::new(400, "BadRequest", message));
            }
            let asked = text(body, "/deleteOptions/dryRun/0");
            if !asked.is_empty() && !request.query("dryRun").is_empty() && asked != request.query("dryRun") {
                return Err(Failure::new(400, "BadRequest", "Non-matching dry-run options in request and content"));
            }
            check_preconditions(place, &found, body, "/deleteOptions/preconditions")?;
            let over: Vec<&Value> = state.list(BUDGETS).filter(|budget| covers(budget, &found)).collect();
            if over.len() > 1 {
                let message =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Failure::new(500, "InternalError", message));
            }
            if !may_evict(state, &found) {
                let name = over.first().map_or("", |budget| text(budget, "/metadata/name"));
                let message = "Cannot evict pod as it would violate the pod's disruption budget.";
                let cause = format!("The disruption budget {name} needs more healthy pods than would be left");
                return Err(Failure::new(429, "TooManyRequests", message).caused_by("DisruptionBudget", &cause));
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

/// Of a deletion or an eviction: uid and resourceVersion.
fn check_preconditions(place: &Place<'_>, found: &Value, body: &Value, under: &str) -> Result<(), Failure> {
    for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = text(body, &format!("{under}/{field}"));
        let actual = text(found, &format!("/metadata/{field}"));
        if !wanted.is_empty() && wanted != actual {
            let message = format!(
                "Operation cannot be fulfilled on {} \"{}\": Precondition failed: {word} in precondition: {wanted}, \
                 {word} in object meta: {actual}",
                place.resource.qualified(),
                place.name
            );
            return Err(Failure::new(409, "Conflict", message).about(place.resource, place.name));
        }
    }
    Ok(())
}

fn create_job(
    state: &mut KubeState,
    place: &Place<'_>,
    request: &Request,
    body: &Value,
    dry: bool,
) -> Result<Answer, Failure> {
    let name = text(body, "/metadata/name").to_owned();
    let typed = serde_json::from_value::<k8s_openapi::api::batch::v1::Job>(body.clone());
    if let Err(error) = typed {
        let message = format!("Job in version \"v1\" cannot be handled as a Job: {error}");
        return Err(Failure::new(400, "BadRequest", message));
    }
    let invalid = |why: String| {
        Err(Failure::new(422, "Invalid", format!("Job.batch \"{name}\" is invalid: {why}")).about(JOBS, &name))
    };
    // RFC 1123: the name becomes a label of its pods.
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) || name.starts_with('-') || name.ends_with('-') {
        return invalid(format!("metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 label"));
    }
    if !["Never", "OnFailure"].contains(&text(body, "/spec/template/spec/restartPolicy")) {
        return invalid(
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"".into(),
        );
    }
    if state.get(JOBS, place.namespace, &name).is_some() {
        let message = format!("jobs.batch \"{name}\" already exists");
        return Err(Failure::new(409, "AlreadyExists", message).about(JOBS, &name));
    }
    for owner in body.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten() {
        let known = state.get(CRON_JOBS, place.namespace, text(owner, "/name"));
        if known.is_none_or(|known| text(known, "/metadata/uid") != text(owner, "/uid")) {
            // The garbage collector would delete it at once.
            return invalid("metadata.ownerReferences: the owner does not exist".into());
        }
    }
    let mut job = body.clone();
    set(&mut job, &["metadata", "namespace"], json!(place.namespace));
    set(&mut job, &["status"], json!({"active": 1}));
    let job = if dry { state.stored(JOBS, job, request.now) } else { state.put(JOBS, job, request.now) };
    Ok(Answer::Json(201, job))
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
    (dry, manager): (bool, &str),
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
    if place.resource.kind == "ConfigMap" {
        let mut kept = old.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
        if old.get("data") != new.get("data") {
            kept.retain(|entry| text(entry, "/manager") != manager);
            let at = super::stamp(now);
            kept.push(json!({"manager": if manager.is_empty() { "unknown" } else { manager }, "operation": "Update",
                             "apiVersion": "v1", "time": at, "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}));
        }
        if !kept.is_empty() {
            set(&mut new, &["metadata", "managedFields"], json!(kept));
        }
    }
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
        "DaemonSet" => serde_json::from_value::<DaemonSet>(new.clone()).map(|_| ()),
        "Deployment" => serde_json::from_value::<Deployment>(new.clone()).map(|_| ()),
        "Node" => serde_json::from_value::<k8s_openapi::api::core::v1::Node>(new.clone()).map(|_| ()),
        "ConfigMap" => serde_json::from_value::<k8s_openapi::api::core::v1::ConfigMap>(new.clone()).map(|_| ()),
        "CronJob" => serde_json::from_value::<k8s_openapi::api::batch::v1::CronJob>(new.clone()).map(|_| ()),
        "HorizontalPodAutoscaler" => {
            serde_json::from_value::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(new.clone())
                .map(|_| ())
        }
        _ => Ok(()),
    };
    typed.map_err(|error| {
        let (kind, version) = (place.resource.kind, place.resource.version);
        Failure::new(400, "BadRequest", format!("{kind} in version \"{version}\" cannot be handled: {error}"))
    })?;
    let invalid = |why: String| {
        let message = format!("{}.{} \"{}\" is invalid: {why}", place.resource.kind, place.resource.group, place.name);
        Err(Failure::new(422, "Invalid", message).about(place.resource, place.name))
    };
    if place.resource.kind == "ConfigMap" {
        let frozen = old.get("immutable").and_then(Value::as_bool).unwrap_or(false);
        if frozen && (old.get("data") != new.get("data") || new.get("immutable") != old.get("immutable")) {
            return invalid("data: Forbidden: field is immutable when `immutable` is set".into());
        }
    }
    if place.resource.kind == "HorizontalPodAutoscaler" {
        let (min, max) =
            (new.pointer("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1), number(new, "/spec/maxReplicas"));
        if max < 1 {
            return invalid(format!("spec.maxReplicas: Invalid value: {max}: must be greater than 0"));
        }
        if min < 1 {
            return invalid(format!("spec.minReplicas: Invalid value: {min}: must be greater than or equal to 1"));
        }
        if max < min {
            return invalid(format!(
                "spec.maxReplicas: Invalid value: {max}: must be greater than or equal to `minReplicas`"
            ));
        }
    }
    if !matches!(place.resource.kind, "Deployment" | "StatefulSet" | "DaemonSet") {
        return Ok(());
    }
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
    store(state, place, &old, object, request.now, (dry, request.query("fieldManager")))
        .map(|it| Answer::Json(200, scale_of(&it)))
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
    let key = (text(pod, "/metadata/namespace").to_owned(), text(pod, "/metadata/name").to_owned());
    let ready = state.runs.get(&key).is_some_and(|run| run.ready);
    !ready || state.list(BUDGETS).filter(|budget| covers(budget, pod)).all(|budget| room(state, budget).3 >= 1)
}

/// Expected, healthy and desired pods of a budget, and how many may go.
fn room(state: &KubeState, budget: &Value) -> (i64, i64, i64, i64) {
    let namespace = text(budget, "/metadata/namespace");
    let mine: Vec<&Value> = state.list(PODS).filter(|it| covers(budget, it)).collect();
    let ready = |pod: &&&Value| {
        let key = (namespace.to_owned(), text(pod, "/metadata/name").to_owned());
        state.runs.get(&key).is_some_and(|run| run.ready)
    };
    let healthy = mine.iter().filter(ready).count() as i64;
    let total = mine.iter().filter(|it| it.pointer("/metadata/deletionTimestamp").is_none()).count() as i64;
    let amount = |field: &str| {
        let value = budget.pointer(&format!("/spec/{field}"))?;
        let percent = value.as_str().and_then(|it| it.trim_end_matches('%').parse::<f64>().ok());
        // The disruption controller rounds shares up.
        percent.map(|it| (total as f64 * it / 100.0).ceil() as i64).or_else(|| value.as_i64())
    };
    let desired = amount("minAvailable").or_else(|| Some(total - amount("maxUnavailable")?)).unwrap_or(0).max(0);
    (total, healthy, desired, (healthy - desired).max(0))
}

/// A budget with the status that its controller would have written by now.
pub(super) fn with_room(state: &KubeState, mut budget: Value) -> Value {
    let (expected, healthy, desired, allowed) = room(state, &budget);
    let generation = number(&budget, "/metadata/generation");
    let status = json!({"expectedPods": expected, "currentHealthy": healthy, "desiredHealthy": desired,
                        "disruptionsAllowed": allowed, "observedGeneration": generation});
    set(&mut budget, &["status"], status);
    budget
}
