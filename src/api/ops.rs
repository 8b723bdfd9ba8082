//! The commands of chat, for scripts and the command line. Who orders is told by the token.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{admit, is_json, problem, same};
use crate::domain::command::Verb;
use crate::domain::id::PersonId;
use crate::flow::command::{Understood, hints, run};
use crate::flow::{Desk, FlowError};
use crate::ports::Person;

/// Whoever has the webhook's token, or nobody's; to instruct, the policy must name it.
const NOBODY: &str = "local/api";
const MOST_WORDS: usize = 4_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    text: String,
}

/// `POST /api/v1/ops`: `{"text": "diagnose checkout"}`
pub(super) async fn order(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let by = match who(&desk, &headers) {
        Ok(by) => by,
        Err(refused) => return refused,
    };
    let shape = "send for example {\"text\": \"help\"}, with content-type: application/json";
    if !is_json(&headers) {
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not said to be JSON", shape);
    }
    let body = match body {
        Ok(body) => body,
        Err(refused) => return problem(refused.status(), &refused.to_string(), shape),
    };
    let Said { text } = match serde_json::from_slice(&body) {
        Ok(said) => said,
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &format!("this is no command: {bad}"), shape),
    };
    if text.chars().count() > MOST_WORDS {
        return problem(StatusCode::BAD_REQUEST, &format!("a command has at most {MOST_WORDS} characters"), shape);
    }
    match run(&desk, &by, &text).await.map(|(understood, card)| (understood, card.shown())) {
        Ok((Understood::Yes, card)) => {
            Json(json!({"text": card.plain_text(), "card": card, "by": by.id})).into_response()
        }
        Ok((Understood::No, card)) => {
            let body = json!({"error": card.fallback, "remedy": card.plain_text(), "card": card});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(FlowError::Refused(why)) => problem(StatusCode::FORBIDDEN, &why, "see `help`, or ask somebody who may"),
        Err(failure @ FlowError::NoIncident(_)) => {
            problem(StatusCode::NOT_FOUND, &failure.to_string(), "`incidents` lists the open ones")
        }
        Err(failure @ (FlowError::Store(_) | FlowError::Outside(_))) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string(), "try again")
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Typed {
    #[serde(default)]
    text: String,
}

/// `GET /api/v1/ops?text=diag`: how it can go on, and all commands.
pub(super) async fn help(State(desk): State<Arc<Desk>>, Query(Typed { text }): Query<Typed>) -> Response {
    let found = match hints(&desk, &text).await {
        Ok(found) => found,
        Err(failure) => return problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string(), "try again"),
    };
    let commands: Vec<_> = Verb::ALL
        .into_iter()
        .map(|verb| {
            let spec = verb.spec();
            json!({
                "name": verb.name(), "form": spec.form, "about": spec.about, "examples": spec.examples,
                "instructs": verb.instructs(),
            })
        })
        .collect();
    Json(json!({"hints": found, "commands": commands})).into_response()
}

/// The person whose token is shown. A token that is nobody's is refused, also where none is asked for.
#[allow(clippy::result_large_err)] // an answer that its caller passes on as it is
fn who(desk: &Desk, headers: &HeaderMap) -> Result<Person, Response> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|given| given.strip_prefix("Bearer "));
    let mut found = None;
    // All are compared, so that the time tells nothing.
    for person in &desk.config.people {
        if let (Some(own), Some(token)) = (person.token.reveal(), token)
            && same(own.as_bytes(), token.as_bytes())
        {
            found = Some(Person { id: PersonId::new(person.id.clone()), name: person.name.clone() });
        }
    }
    if let Some(person) = found {
        return Ok(person);
    }
    if given.is_some() && desk.config.server.webhook_token.reveal().is_none() {
        return Err(problem(StatusCode::UNAUTHORIZED, "this token is nobody's", "give one of [[people]], or none"));
    }
    admit(desk, headers)?;
    Ok(Person { id: PersonId::new(NOBODY), name: "the API".into() })
}
