//! Who is on call, as PagerDuty or Opsgenie know it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::egress::why;
use crate::config::{Config, RotaConfig};
use crate::ports::{OnCall, Rota, RotaError};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The schedules that the configuration names.
pub fn rotas(config: &Config) -> Result<Vec<std::sync::Arc<dyn Rota>>, String> {
    let mut rotas: Vec<std::sync::Arc<dyn Rota>> = vec![];
    if let Some(pagerduty) = &config.oncall.pagerduty {
        rotas.push(std::sync::Arc::new(PagerDutyRota(Asked::new(pagerduty, "https://api.pagerduty.com")?)));
    }
    if let Some(opsgenie) = &config.oncall.opsgenie {
        rotas.push(std::sync::Arc::new(OpsgenieRota(Asked::new(opsgenie, "https://api.opsgenie.com")?)));
    }
    Ok(rotas)
}

struct Asked {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Asked {
    fn new(config: &RotaConfig, usual: &str) -> Result<Self, String> {
        Ok(Self {
            url: config.url.as_deref().unwrap_or(usual).trim_end_matches('/').to_owned(),
            token: config.token.reveal().ok_or("the token of a section in [oncall] is empty")?.to_owned(),
            http: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|error| format!("no HTTP client: {error}"))?,
        })
    }

    async fn get(&self, path: &str, authorization: String, query: &[(&str, &str)]) -> Result<Value, RotaError> {
        let failed = |error| RotaError(why(error));
        // A name in the path may hold anything.
        let mut url: url::Url = self.url.parse().map_err(|error| RotaError(format!("{error}")))?;
        url.path_segments_mut()
            .map_err(|()| RotaError("the address has no path".into()))?
            .pop_if_empty()
            .extend(path.split('\u{1f}'));
        let request = self.http.get(url).query(query).header("authorization", authorization);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(RotaError(format!("it answered {status}")));
        }
        response.json().await.map_err(failed)
    }
}

/// https://developer.pagerduty.com/api-reference/ (List all of the on-calls)
struct PagerDutyRota(Asked);

#[async_trait]
impl Rota for PagerDutyRota {
    fn name(&self) -> &str {
        "pagerduty"
    }

    async fn now(&self, schedule: &str) -> Result<Vec<OnCall>, RotaError> {
        let query = [("schedule_ids[]", schedule), ("include[]", "users"), ("earliest", "true")];
        let body = self.0.get("oncalls", format!("Token token={}", self.0.token), &query).await?;
        let rows = body["oncalls"].as_array().ok_or_else(|| RotaError("no list of on-calls came".into()))?;
        let mut levels: Vec<(i64, OnCall)> = rows
            .iter()
            .filter_map(|row| {
                let user = &row["user"];
                let name = user["name"].as_str().or(user["summary"].as_str())?;
                let email = user["email"].as_str().map(str::to_owned);
                Some((row["escalation_level"].as_i64().unwrap_or(i64::MAX), OnCall { name: name.to_owned(), email }))
            })
            .collect();
        levels.sort_by_key(|(level, _)| *level);
        let mut people: Vec<OnCall> = vec![];
        for (_, one) in levels {
            if !people.contains(&one) {
                people.push(one);
            }
        }
        Ok(people)
    }

    async fn check(&self) -> Result<String, RotaError> {
        self.0.get("abilities", format!("Token token={}", self.0.token), &[]).await?;
        Ok(format!("{} answers", self.0.url))
    }
}

/// https://docs.opsgenie.com/docs/who-is-on-call-api
struct OpsgenieRota(Asked);

#[async_trait]
impl Rota for OpsgenieRota {
    fn name(&self) -> &str {
        "opsgenie"
    }

    async fn now(&self, schedule: &str) -> Result<Vec<OnCall>, RotaError> {
        let path = ["v2", "schedules", schedule, "on-calls"].join("\u{1f}");
        let query = [("scheduleIdentifierType", "name"), ("flat", "true")];
        let body = self.0.get(&path, format!("GenieKey {}", self.0.token), &query).await?;
        let people = body["data"]["onCallRecipients"].as_array();
        let people = people.ok_or_else(|| RotaError("no list of recipients came".into()))?;
        let of = |one: &Value| {
            let email = one.as_str()?;
            Some(OnCall { name: email.to_owned(), email: Some(email.to_owned()) })
        };
        Ok(people.iter().filter_map(of).collect())
    }

    async fn check(&self) -> Result<String, RotaError> {
        let path = ["v2", "schedules"].join("\u{1f}");
        self.0.get(&path, format!("GenieKey {}", self.0.token), &[]).await?;
        Ok(format!("{} answers", self.0.url))
    }
}
