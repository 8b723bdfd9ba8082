//! Who may do what: RBAC by bearer token, as far as a client can see it.

use axum::http::Method;
use serde_json::{Value, json};

use super::api::{Answer, Failure, Place, Request};
use super::{KubeState, text};

/// One rule of a role. Empty namespace: in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub group: String,
    /// With its subresource, e.g. `pods/eviction`.
    pub resource: String,
    pub verb: String,
    pub namespace: String,
}

impl KubeState {
    /// From now on the token may do this and nothing else.
    pub fn grant(&mut self, token: &str, rules: Vec<Granted>) {
        self.grants.insert(token.to_owned(), rules);
    }

    fn allows(&self, token: &str, group: &str, resource: &str, verb: &str, namespace: &str) -> bool {
        let Some(rules) = self.grants.get(token) else { return true };
        rules.iter().any(|rule| {
            rule.group == group
                && rule.resource == resource
                && rule.verb == verb
                && (rule.namespace.is_empty() || rule.namespace == namespace)
        })
    }
}

/// 403 in the API server's words, which name the missing verb.
pub(super) fn check(state: &KubeState, place: &Place<'_>, request: &Request) -> Result<(), Failure> {
    let verb = match request.method {
        Method::GET if place.name.is_empty() => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return Ok(()),
    };
    let resource = match place.sub {
        "" => place.resource.plural.to_owned(),
        sub => format!("{}/{sub}", place.resource.plural),
    };
    if state.allows(&request.token, place.resource.group, &resource, verb, place.namespace) {
        return Ok(());
    }
    let name = if place.name.is_empty() { String::new() } else { format!(" \"{}\"", place.name) };
    let scope = match place.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{}{name} is forbidden: User \"system:serviceaccount:midwatch:{}\" cannot {verb} resource \"{resource}\" in API \
         group \"{}\" {scope}",
        place.resource.qualified(),
        request.token,
        place.resource.group
    );
    Err(Failure::new(403, "Forbidden", message).about(place.resource, place.name))
}

/// `SelfSubjectAccessReview`: everybody may ask about themselves.
pub(super) fn review(state: &KubeState, request: &Request) -> Result<Answer, Failure> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Failure::new(400, "BadRequest", format!("error decoding JSON: {error}")))?;
    let at = |field: &str| text(&body, &format!("/spec/resourceAttributes/{field}"));
    if body.pointer("/spec/resourceAttributes").is_none() {
        return Err(Failure::new(
            422,
            "Invalid",
            "spec.resourceAttributes: Invalid value: null: exactly one is required",
        ));
    }
    let resource = match at("subresource") {
        "" => at("resource").to_owned(),
        sub => format!("{}/{sub}", at("resource")),
    };
    let allowed = state.allows(&request.token, at("group"), &resource, at("verb"), at("namespace"));
    Ok(Answer::Json(
        201,
        json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
               "spec": body.get("spec"), "status": {"allowed": allowed}}),
    ))
}
