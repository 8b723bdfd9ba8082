//! PagerDuty: Events API v2 (trigger, acknowledge, resolve under one `dedup_key`), and notes over REST.
//!
//! https://developer.pagerduty.com/docs/send-alert-event

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{client, send, wants};
use crate::config::{PagerDutyConfig, Wanted};
use crate::domain::incident::Sev;
use crate::domain::notice::{Notice, Phase};
use crate::ports::{Attempt, Outlet, OutletError, Queue};

const EVENTS: &str = "https://events.pagerduty.com";
const API: &str = "https://api.pagerduty.com";
/// The API's limit for a summary.
const SUMMARY: usize = 1024;
const NOTE: usize = 20_000;

pub struct PagerDuty {
    name: String,
    routing_key: String,
    events: String,
    rest: Option<Rest>,
    wants: Wanted,
    http: reqwest::Client,
}

struct Rest {
    url: String,
    token: String,
    from: String,
}

impl PagerDuty {
    pub fn new(config: &PagerDutyConfig) -> Result<Self, String> {
        let base =
            |given: &Option<String>, usual: &str| given.as_deref().unwrap_or(usual).trim_end_matches('/').to_owned();
        let key = config.routing_key.reveal().ok_or("elsewhere.pagerduty.routing_key is empty")?;
        let rest = match (config.api_token.reveal(), &config.from_email) {
            (Some(token), Some(from)) => {
                Some(Rest { url: base(&config.api_url, API), token: token.to_owned(), from: from.clone() })
            }
            (Some(_), None) => return Err("elsewhere.pagerduty.from_email is missing: notes need an author".into()),
            (None, _) => None,
        };
        Ok(Self {
            name: config.name.clone(),
            routing_key: key.to_owned(),
            events: base(&config.events_url, EVENTS),
            rest,
            wants: config.wants.clone(),
            http: client()?,
        })
    }

    async fn event(&self, action: &str, notice: &Notice) -> Result<(), OutletError> {
        let mut body = json!({
            "routing_key": self.routing_key, "event_action": action, "dedup_key": notice.dedup_key,
        });
        if action == "trigger" {
            body["client"] = json!("midwatch");
            body["client_url"] = json!(notice.url);
            body["links"] = json!([{"href": notice.url, "text": format!("{} in midwatch", notice.incident)}]);
            body["payload"] = payload(notice);
        }
        send(self.http.post(format!("{}/v2/enqueue", self.events)).json(&body)).await.map(drop)
    }

    /// A note on the incident that the trigger has made; none when it has made none.
    async fn note(&self, rest: &Rest, notice: &Notice, attempt: Attempt) -> Result<(), OutletError> {
        let get = |path: String| {
            self.http
                .get(format!("{}{path}", rest.url))
                .header("authorization", format!("Token token={}", rest.token))
                .header("accept", "application/vnd.pagerduty+json;version=2")
        };
        let found = send(get("/incidents".into()).query(&[("incident_key", notice.dedup_key.as_str())])).await?;
        let found: Value = found.json().await.map_err(|error| OutletError::Unavailable(super::why(error)))?;
        let Some(id) = found["incidents"][0]["id"].as_str() else {
            // Events are taken in before incidents exist: a first look may be too early.
            return match attempt {
                Attempt::First => Err(OutletError::Unavailable("the incident is not there yet".into())),
                Attempt::Again => Ok(()),
            };
        };
        let text: String = format!("{}\n{}", notice.text, notice.url).chars().take(NOTE).collect();
        if attempt == Attempt::Again {
            let notes = send(get(format!("/incidents/{id}/notes"))).await?;
            let notes: Value = notes.json().await.map_err(|error| OutletError::Unavailable(super::why(error)))?;
            let same = |note: &Value| note["content"] == text.as_str();
            if notes["notes"].as_array().is_some_and(|notes| notes.iter().any(same)) {
                return Ok(());
            }
        }
        let request = self
            .http
            .post(format!("{}/incidents/{id}/notes", rest.url))
            .header("authorization", format!("Token token={}", rest.token))
            .header("accept", "application/vnd.pagerduty+json;version=2")
            .header("from", &rest.from)
            .json(&json!({"note": {"content": text}}));
        send(request).await.map(drop)
    }
}

#[async_trait]
impl Outlet for PagerDuty {
    fn name(&self) -> &str {
        &self.name
    }

    /// Notes go to the REST API: where only that is away, pages must not wait behind them.
    fn queues(&self) -> &'static [Queue] {
        &[Queue::Main, Queue::Notes]
    }

    fn queue(&self, notice: &Notice) -> Queue {
        match notice.phase {
            Phase::Diagnosed | Phase::Planned => Queue::Notes,
            Phase::Opened | Phase::Changed | Phase::Acknowledged | Phase::Resolved => Queue::Main,
            Phase::FollowUp | Phase::Reviewed => Queue::Main,
        }
    }

    fn wants(&self, notice: &Notice) -> bool {
        let phase = match notice.phase {
            Phase::Opened | Phase::Changed | Phase::Resolved => true,
            // It stops the calls there: only a person's word does that.
            Phase::Acknowledged => notice.by.is_some(),
            Phase::Diagnosed | Phase::Planned => self.rest.is_some(),
            Phase::FollowUp | Phase::Reviewed => false,
        };
        phase && wants(&self.wants, notice)
    }

    async fn send(&self, _key: &str, notice: &Notice, attempt: Attempt) -> Result<Option<String>, OutletError> {
        match (notice.phase, &self.rest) {
            // A second trigger under the key updates the first: an incident may have become grave later.
            (Phase::Opened | Phase::Changed, _) => self.event("trigger", notice).await?,
            (Phase::Acknowledged, _) => self.event("acknowledge", notice).await?,
            (Phase::Resolved, _) => self.event("resolve", notice).await?,
            (Phase::Diagnosed | Phase::Planned, Some(rest)) => self.note(rest, notice, attempt).await?,
            (Phase::Diagnosed | Phase::Planned | Phase::FollowUp | Phase::Reviewed, _) => {}
        }
        Ok(None)
    }

    async fn check(&self) -> Result<String, OutletError> {
        let Some(rest) = &self.rest else {
            return Ok(format!("{}: events only; nothing can be asked without a page", self.events));
        };
        let request = self
            .http
            .get(format!("{}/abilities", rest.url))
            .header("authorization", format!("Token token={}", rest.token))
            .header("accept", "application/vnd.pagerduty+json;version=2");
        send(request).await?;
        Ok(format!("{} answers", rest.url))
    }
}

fn payload(notice: &Notice) -> Value {
    let summary: String =
        format!("[{}] {}: {}", notice.severity.as_str(), notice.title, notice.text).chars().take(SUMMARY).collect();
    let mut payload = json!({
        "summary": summary,
        "source": if notice.cluster.is_empty() { "midwatch" } else { &notice.cluster },
        "severity": match notice.severity {
            Sev::One => "critical",
            Sev::Two => "error",
            Sev::Three => "warning",
            Sev::Four => "info",
        },
        "timestamp": notice.since.to_string(),
        "class": "incident",
        "custom_details": {
            "incident": notice.incident, "alerts": notice.alerts, "firing": notice.firing,
            "services": notice.services, "cause": notice.cause, "state": notice.state,
        },
    });
    if let Some(component) = notice.cause.as_ref().or(notice.services.first()) {
        payload["component"] = json!(component);
    }
    if !notice.team.is_empty() {
        payload["group"] = json!(notice.team);
    }
    payload
}
