//! Jira: an issue for each task that people keep for later, and for post-mortems of grave incidents.
//!
//! Creating has no key of the sender's, so every issue carries a label that names the delivery, and is
//! looked for by it before a second try.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{client, send};
use crate::config::JiraConfig;
use crate::domain::id::Digest;
use crate::domain::incident::Sev;
use crate::domain::notice::{Notice, Phase};
use crate::ports::{Attempt, Outlet, OutletError};

/// Jira's limit for a summary.
const SUMMARY: usize = 255;
const DESCRIPTION: usize = 30_000;

pub struct Jira {
    url: String,
    email: Option<String>,
    token: String,
    project: String,
    issue_type: String,
    post_mortems_from: Option<Sev>,
    http: reqwest::Client,
}

impl Jira {
    pub fn new(config: &JiraConfig) -> Result<Self, String> {
        Ok(Self {
            url: config.url.trim_end_matches('/').to_owned(),
            email: config.email.clone(),
            token: config.token.reveal().ok_or("elsewhere.jira.token is empty")?.to_owned(),
            project: config.project.clone(),
            issue_type: config.issue_type.clone(),
            post_mortems_from: config.post_mortems_from,
            http: client()?,
        })
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.email {
            Some(email) => request.basic_auth(email, Some(&self.token)),
            None => request.bearer_auth(&self.token),
        }
    }

    /// The issue that carries the label. The cloud has taken the old search away, servers lack the new.
    async fn find(&self, label: &str) -> Result<Option<String>, OutletError> {
        let path = if self.email.is_some() { "/rest/api/3/search/jql" } else { "/rest/api/2/search" };
        let jql = format!("project = \"{}\" AND labels = \"{label}\"", self.project.replace('"', ""));
        let query = [("jql", jql.as_str()), ("fields", "key"), ("maxResults", "1")];
        let found = send(self.signed(self.http.get(format!("{}{path}", self.url)).query(&query))).await?;
        let found: Value = found.json().await.map_err(|error| OutletError::Unavailable(super::why(error)))?;
        Ok(found["issues"][0]["key"].as_str().map(str::to_owned))
    }
}

#[async_trait]
impl Outlet for Jira {
    fn name(&self) -> &str {
        "jira"
    }

    fn wants(&self, notice: &Notice) -> bool {
        match notice.phase {
            Phase::FollowUp => true,
            Phase::Reviewed => self.post_mortems_from.is_some_and(|from| notice.severity >= from),
            Phase::Opened
            | Phase::Changed
            | Phase::Acknowledged
            | Phase::Diagnosed
            | Phase::Planned
            | Phase::Resolved => false,
        }
    }

    fn tracks(&self) -> bool {
        true
    }

    async fn send(&self, key: &str, notice: &Notice, attempt: Attempt) -> Result<Option<String>, OutletError> {
        let label = format!("midwatch-{}", Digest::of(format!("{} {key}", notice.dedup_key).as_bytes()).short());
        if attempt == Attempt::Again
            && let Some(known) = self.find(&label).await?
        {
            return Ok(Some(known));
        }
        let summary = match notice.phase {
            Phase::Reviewed => format!("Post-mortem of {}: {}", notice.incident, notice.title),
            _ => format!("{}: {}", notice.incident, notice.text),
        };
        let by = notice.by.as_ref().map_or_else(String::new, |by| format!("Asked for by {by}.\n"));
        let description = format!(
            "{}\n\n{by}Incident {} ({}), {}: {}\n{}",
            notice.body.as_deref().unwrap_or(&notice.text),
            notice.incident,
            notice.severity.as_str(),
            notice.state,
            notice.title,
            notice.url
        );
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let fields = json!({
            "project": {"key": self.project}, "issuetype": {"name": self.issue_type},
            // A summary is one line.
            "summary": cut(&summary.replace(['\n', '\r'], " "), SUMMARY),
            "description": cut(&description, DESCRIPTION),
            "labels": ["midwatch", label],
        });
        let request = self.http.post(format!("{}/rest/api/2/issue", self.url)).json(&json!({"fields": fields}));
        let made = send(self.signed(request)).await?;
        let made: Value = made.json().await.map_err(|error| OutletError::Unknown(super::why(error)))?;
        Ok(made["key"].as_str().map(str::to_owned))
    }

    async fn check(&self) -> Result<String, OutletError> {
        let path = format!("{}/rest/api/2/project/{}", self.url, self.project);
        send(self.signed(self.http.get(path))).await?;
        Ok(format!("{} has the project {}", self.url, self.project))
    }
}
