//! What people and their tools ask of the watch: the funnel, one alert's verdicts, silences.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::metrics::write_one;
use super::{admit, admitted, is_json, problem};
use crate::domain::alert::Fingerprint;
use crate::domain::intent::matcher::Matchers;
use crate::domain::intent::silence::{CannotExpire, Consent};
use crate::domain::time::{Timestamp, parse_span};
use crate::flow::desk::FlowError;
use crate::flow::listen::LogNews;
use crate::flow::{Desk, report, silence};

/// Newest verdicts of one alert that are shown.
const VERDICTS: i64 = 50;
const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// Whom the audit trail names for what came with the token.
const BY_API: &str = "api";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<String>,
}

/// `GET /api/v1/funnel?since=24h`
pub(super) async fn funnel(State(desk): State<Arc<Desk>>, Query(Since { since }): Query<Since>) -> Response {
    let wall_since = match since.as_deref().map(|text| (text, parse_span(text))) {
        None => None,
        Some((_, Some(span))) => Some(desk.clock.wall_now() - span),
        Some((text, None)) => {
            let what = format!("since is {text:?}, which is no span of time");
            return problem(StatusCode::BAD_REQUEST, &what, "give for example since=30m, 24h or 7d");
        }
    };
    match report::report(&desk, wall_since).await {
        Ok(report) => Json(report).into_response(),
        Err(failure) => problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string(), "try again"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewsOf {
    service: Option<String>,
    since: Option<String>,
}

/// `GET /api/v1/log-news?service=pay&since=2h`: what the logs said anew, oldest first.
pub(super) async fn log_news(State(desk): State<Arc<Desk>>, Query(asked): Query<NewsOf>) -> Response {
    let Some(span) = asked.since.as_deref().map_or(Some(A_DAY), parse_span) else {
        let what = format!("since is {:?}, which is no span of time", asked.since.unwrap_or_default());
        return problem(StatusCode::BAD_REQUEST, &what, "give for example since=30m, 24h or 7d");
    };
    let of = |news: &LogNews| asked.service.as_deref().is_none_or(|wanted| wanted == news.service);
    Json(desk.ear.news(of, desk.clock.event_now() - span)).into_response()
}

/// `GET /api/v1/alerts/{fingerprint or name}`: what was decided about it, and why; newest first.
pub(super) async fn alert(State(desk): State<Arc<Desk>>, Path(what): Path<String>) -> Response {
    let unavailable =
        |failure: String| problem(StatusCode::SERVICE_UNAVAILABLE, &failure, "the store must answer first");
    let rows = match desk.store.ledger_of(&what, VERDICTS).await {
        Ok(rows) => rows,
        Err(failure) => return unavailable(failure.to_string()),
    };
    let Some(newest) = rows.first().and_then(|row| Fingerprint::parse(&row.fingerprint)) else {
        let remedy = "give the fingerprint or the name of an alert, or the id of an incident";
        return problem(StatusCode::NOT_FOUND, &format!("the ledger holds no alert {what:?}"), remedy);
    };
    let again = match desk.store.sent_again(newest, desk.clock.wall_now() - A_DAY).await {
        Ok(again) => again,
        Err(failure) => return unavailable(failure.to_string()),
    };
    let verdicts: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "fingerprint": row.fingerprint, "name": row.name, "subject": row.subject, "severity": row.severity,
                "status": row.status, "starts_at": Timestamp::from_millis(row.starts_at), "verdict": row.verdict,
                "reason": row.reason, "explanation": row.explanation, "incident": row.incident,
                "judged_at": Timestamp::from_millis(row.judged_at),
            })
        })
        .collect();
    let sent_again = json!({
        "fingerprint": newest.to_string(), "within": "24h", "times": again.times, "last_at": again.last_at,
    });
    Json(json!({"alert": what, "verdicts": verdicts, "sent_again": sent_again})).into_response()
}

/// A silence in the shape of Alertmanager's API v2, with `confirmed` for one that mutes nearly all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    matchers: Matchers,
    starts_at: Option<Timestamp>,
    ends_at: Timestamp,
    created_by: String,
    comment: String,
    #[serde(default)]
    confirmed: bool,
    /// Alertmanager changes the silence of that id; here an old one is ended and a new one posted.
    id: Option<String>,
}

/// `POST /api/v1/silences`
pub(super) async fn silence(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match admitted(&desk, &headers, body, "send a silence as JSON") {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    if !is_json(&headers) {
        let remedy = "send a silence as JSON, with content-type: application/json";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not said to be JSON", remedy);
    }
    let shape = "send matchers, endsAt, createdBy and comment, as Alertmanager's API v2 has them";
    let posted: Posted = match serde_json::from_slice(&body) {
        Ok(posted) => posted,
        Err(bad) => return problem(StatusCode::BAD_REQUEST, &format!("this is no silence: {bad}"), shape),
    };
    if let Some(id) = posted.id.filter(|id| !id.is_empty()) {
        let what = format!("silence {id} cannot be changed");
        return problem(StatusCode::BAD_REQUEST, &what, "end it with DELETE and post another without `id`");
    }
    let starts_at = posted.starts_at.unwrap_or_else(|| desk.clock.event_now());
    if posted.ends_at.since(starts_at) > silence::LONGEST {
        let what = "a silence lasts 30 days at most";
        return problem(StatusCode::BAD_REQUEST, what, "plan a window in the configuration: [[intent.window]]");
    }
    let wanted = silence::Wanted {
        matchers: posted.matchers,
        starts_at,
        ends_at: posted.ends_at,
        created_by: posted.created_by,
        comment: posted.comment,
        consent: if posted.confirmed { Consent::Confirmed } else { Consent::Ask },
    };
    match silence::take(&desk, BY_API, wanted).await {
        Ok(Ok(taken)) => Json(json!({"silenceID": taken.id, "matched": taken.matched})).into_response(),
        Ok(Err(refused)) if refused.can_be_confirmed() => {
            let remedy = "narrow the matchers, or send it again with \"confirmed\": true";
            problem(StatusCode::CONFLICT, &format!("not silenced: {refused}"), remedy)
        }
        Ok(Err(refused)) => problem(StatusCode::BAD_REQUEST, &format!("not silenced: {refused}"), shape),
        Err(failure) => problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string(), "try again"),
    }
}

/// `DELETE /api/v1/silences/{id}`: it ends now, and stays in the list.
pub(super) async fn unsilence(State(desk): State<Arc<Desk>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if let Err(refused) = admit(&desk, &headers) {
        return refused;
    }
    let list = "GET /api/v1/silences lists them";
    match silence::end(&desk, BY_API, &id).await {
        Ok(Ok(id)) => Json(json!({"ended": id})).into_response(),
        Ok(Err(why @ CannotExpire::Unknown(_))) => problem(StatusCode::NOT_FOUND, &why.to_string(), list),
        Ok(Err(why @ CannotExpire::AlreadyExpired(..))) => problem(StatusCode::CONFLICT, &why.to_string(), list),
        Err(failure) => problem(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string(), "try again"),
    }
}

/// The funnel and what it rests on, in Prometheus' text format.
pub(super) async fn funnel_series(desk: &Desk) -> Result<String, FlowError> {
    let mut text = String::new();
    let report = report::report(desk, None).await?;
    let (funnel, audit) = (&report.funnel, &report.audit);
    for (name, help, count) in [
        ("midwatch_funnel_raw_total", "Notifications of firings that were judged", funnel.raw),
        ("midwatch_funnel_unique_total", "Those that do not only repeat what is known", funnel.unique),
        ("midwatch_funnel_admitted_total", "Those worth an incident", funnel.admitted),
        ("midwatch_funnel_incidents_total", "Incidents opened", funnel.incidents),
        (
            "midwatch_funnel_notified_total",
            "Messages that told of incidents: one each, and one for each digest",
            funnel.notified,
        ),
        ("midwatch_audit_shown_total", "Suppressed alerts that people were asked about", audit.shown as u64),
        ("midwatch_audit_answered_total", "Answers to that", audit.answered as u64),
        ("midwatch_audit_missed_total", "Answers that it should have woken people", audit.missed as u64),
    ] {
        write_one(&mut text, "counter", name, help, count);
    }
    let gauges = [
        ("midwatch_funnel_convergence_ratio", "1 - notified / raw", funnel.convergence),
        ("midwatch_audit_missed_ratio", "Share of the answers", (audit.answered > 0).then_some(audit.rate)),
        ("midwatch_audit_missed_upper_ratio", "Its upper limit", (audit.answered > 0).then_some(audit.upper)),
        ("midwatch_prefilter_threshold", "Score above which alerts are suppressed", report.prefilter.threshold),
        ("midwatch_prefilter_labelled", "Labelled real incidents", Some(report.prefilter.labelled as f64)),
        ("midwatch_prefilter_missing", "Labels missing for a threshold", Some(report.prefilter.missing as f64)),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            write_one(&mut text, "gauge", name, help, value);
        }
    }
    Ok(text)
}
