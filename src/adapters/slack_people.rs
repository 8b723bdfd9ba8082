//! Slack's directory and its channels: user groups for authority, accounts, channels for one incident.
//!
//! Invariant: whatever is not clearly a full member of this workspace is not one (S5).

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::egress::why;
use crate::domain::id::PersonId;
use crate::ports::{Channels, ChatError, Directory, DirectoryError, Standing};

const TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const PAGES: usize = 20;
/// Of one call.
const INVITED: usize = 100;

pub struct SlackPeople {
    api: String,
    token: String,
    /// The workspace that is served, when the configuration names it.
    team: Option<String>,
    http: reqwest::Client,
    /// Channels that were made, by name.
    made: Mutex<HashMap<String, String>>,
}

enum Failed {
    Later(Duration),
    Unavailable(String),
    Refused(String),
}

impl Failed {
    fn text(self) -> String {
        match self {
            Self::Later(wait) => format!("rate limited, retry after {wait:?}"),
            Self::Unavailable(text) | Self::Refused(text) => text,
        }
    }

    /// Every call here finds what an earlier one has done, so trying again is safe.
    fn of_chat(self) -> ChatError {
        match self {
            Self::Later(wait) => ChatError::RateLimited(wait),
            Self::Unavailable(text) => ChatError::Unavailable(text),
            Self::Refused(text) => ChatError::Refused(text),
        }
    }
}

impl SlackPeople {
    pub fn new(api_base: &str, token: &str, team: Option<String>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let api = api_base.trim_end_matches('/').to_owned();
        Ok(Self { api, token: token.to_owned(), team, http, made: Mutex::default() })
    }

    async fn get(&self, method: &str, query: &[(&str, &str)]) -> Result<Value, Failed> {
        self.call(method, self.http.get(format!("{}/{method}", self.api)).query(query)).await
    }

    async fn post(&self, method: &str, body: Value) -> Result<Value, Failed> {
        self.call(method, self.http.post(format!("{}/{method}", self.api)).json(&body)).await
    }

    async fn call(&self, method: &str, request: reqwest::RequestBuilder) -> Result<Value, Failed> {
        let unavailable = |error| Failed::Unavailable(format!("{method}: {}", why(error)));
        let response = request.bearer_auth(&self.token).send().await.map_err(unavailable)?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Failed::Later(wait.map_or(DEFAULT_WAIT, Duration::from_secs)));
        }
        if !response.status().is_success() {
            return Err(Failed::Unavailable(format!("{method} answered {}", response.status())));
        }
        let body: Value = response.json().await.map_err(unavailable)?;
        if body["ok"] == true {
            return Ok(body);
        }
        let code = body["error"].as_str().unwrap_or("no reason given");
        let needed = body["needed"].as_str().map_or_else(String::new, |scope| format!(": add the scope {scope}"));
        Err(match code {
            "ratelimited" => Failed::Later(DEFAULT_WAIT),
            "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
                Failed::Unavailable(format!("{method}: {code}"))
            }
            code => Failed::Refused(format!("{method}: {code}{needed}")),
        })
    }

    async fn channel_named(&self, name: &str) -> Result<Option<String>, Failed> {
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let query = [("limit", "1000"), ("exclude_archived", "true"), ("cursor", cursor.as_str())];
            let page = self.get("conversations.list", &query).await?;
            let found = page["channels"].as_array().into_iter().flatten().find(|channel| channel["name"] == name);
            if let Some(id) = found.and_then(|channel| channel["id"].as_str()) {
                return Ok(Some(id.to_owned()));
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}

fn team_and_name(id: &str) -> Result<(&str, &str), DirectoryError> {
    id.split_once('/').ok_or_else(|| DirectoryError(format!("{id:?} names no team")))
}

#[async_trait]
impl Directory for SlackPeople {
    async fn members(&self, group: &str) -> Result<Vec<PersonId>, DirectoryError> {
        let (team, group) = team_and_name(group)?;
        let query = [("usergroup", group), ("include_disabled", "false"), ("team_id", team)];
        let body = self.get("usergroups.users.list", &query).await.map_err(|failed| DirectoryError(failed.text()))?;
        let users = body["users"].as_array().ok_or_else(|| DirectoryError("no list of users came".into()))?;
        let of = |user: &Value| user.as_str().map(|user| PersonId::new(format!("{team}/{user}")));
        Ok(users.iter().filter_map(of).collect())
    }

    async fn standing(&self, person: &PersonId) -> Result<Standing, DirectoryError> {
        let (team, user) = team_and_name(person.as_str())?;
        let body = match self.get("users.info", &[("user", user)]).await {
            Ok(body) => body,
            Err(Failed::Refused(text)) if text.contains("user_not_found") => return Ok(Standing::Stranger),
            Err(failed) => return Err(DirectoryError(failed.text())),
        };
        Ok(standing(&body["user"], team, self.team.as_deref()))
    }

    async fn by_email(&self, email: &str) -> Result<Option<PersonId>, DirectoryError> {
        match self.get("users.lookupByEmail", &[("email", email)]).await {
            Ok(body) => {
                let user = &body["user"];
                let pair = user["team_id"].as_str().zip(user["id"].as_str());
                Ok(pair.map(|(team, id)| PersonId::new(format!("{team}/{id}"))))
            }
            Err(Failed::Refused(text)) if text.contains("users_not_found") => Ok(None),
            Err(failed) => Err(DirectoryError(failed.text())),
        }
    }
}

/// https://docs.slack.dev/reference/objects/user-object
fn standing(user: &Value, team: &str, served: Option<&str>) -> Standing {
    let is = |name: &str| user[name].as_bool().unwrap_or(false);
    if is("deleted") {
        return Standing::Deleted;
    }
    if is("is_bot") || is("is_workflow_bot") || is("is_app_user") || user["id"] == "USLACKBOT" {
        return Standing::Bot;
    }
    let elsewhere = user["team_id"].as_str() != Some(team) || served.is_some_and(|served| served != team);
    if elsewhere || is("is_stranger") {
        return Standing::Stranger;
    }
    // Guests of one channel and of several; and people who were invited and have not come.
    if is("is_restricted") || is("is_ultra_restricted") || is("is_invited_user") {
        return Standing::Guest;
    }
    Standing::Member
}

#[async_trait]
impl Channels for SlackPeople {
    async fn open(&self, name: &str) -> Result<String, ChatError> {
        let mut made = self.made.lock().await;
        if let Some(id) = made.get(name) {
            return Ok(id.clone());
        }
        let id = match self.post("conversations.create", json!({"name": name})).await {
            Ok(body) => body["channel"]["id"].as_str().map(str::to_owned),
            // Ours, from a try whose answer was lost.
            Err(Failed::Refused(text)) if text.contains("name_taken") => {
                self.channel_named(name).await.map_err(Failed::of_chat)?
            }
            Err(failed) => return Err(failed.of_chat()),
        };
        let id =
            id.ok_or_else(|| ChatError::Refused(format!("#{name} exists and is archived, or is not to be seen")))?;
        made.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    async fn invite(&self, channel: &str, people: &[PersonId]) -> Result<(), ChatError> {
        for some in people.chunks(INVITED) {
            let users: Vec<&str> = some.iter().filter_map(|person| person.as_str().rsplit('/').next()).collect();
            let body = json!({"channel": channel, "users": users.join(","), "force": true});
            match self.post("conversations.invite", body).await {
                Ok(_) => {}
                Err(Failed::Refused(text)) if text.contains("already_in_channel") => {}
                Err(failed) => return Err(failed.of_chat()),
            }
        }
        Ok(())
    }

    async fn archive(&self, channel: &str) -> Result<(), ChatError> {
        self.made.lock().await.retain(|_, id| id != channel);
        match self.post("conversations.archive", json!({"channel": channel})).await {
            Ok(_) => Ok(()),
            Err(Failed::Refused(text)) if text.contains("already_archived") => Ok(()),
            Err(failed) => Err(failed.of_chat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_kinds_of_users_and_who_of_them_is_a_member() {
        let user = |more: Value| {
            let mut user = json!({"id": "U1", "team_id": "T1", "deleted": false, "is_bot": false});
            for (key, value) in more.as_object().unwrap() {
                user[key] = value.clone();
            }
            user
        };
        let kinds = [
            (json!({}), Standing::Member),
            (json!({"is_admin": true}), Standing::Member),
            (json!({"is_owner": true, "is_primary_owner": true}), Standing::Member),
            (json!({"is_restricted": true}), Standing::Guest),
            (json!({"is_restricted": true, "is_ultra_restricted": true}), Standing::Guest),
            (json!({"is_invited_user": true}), Standing::Guest),
            (json!({"is_bot": true}), Standing::Bot),
            (json!({"id": "USLACKBOT"}), Standing::Bot),
            (json!({"is_workflow_bot": true}), Standing::Bot),
            (json!({"deleted": true}), Standing::Deleted),
            (json!({"deleted": true, "is_admin": true}), Standing::Deleted),
            (json!({"team_id": "T2"}), Standing::Stranger),
            (json!({"is_stranger": true}), Standing::Stranger),
        ];
        for (more, expected) in kinds {
            assert_eq!(standing(&user(more.clone()), "T1", None), expected, "{more}");
        }
        assert_eq!(standing(&user(json!({})), "T1", Some("T2")), Standing::Stranger);
        assert_eq!(standing(&Value::Null, "T1", None), Standing::Stranger);
    }
}
