//! People outside the chat, and who is called when.

use serde::Deserialize;

use super::{ConfigError, Secret};

/// Somebody who works with the API and the command line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonConfig {
    /// `TEAM/USER`; the same as in the chat where the person is there, too.
    pub id: String,
    pub name: String,
    /// Shown as `Authorization: Bearer ...`; empty: only named here.
    #[serde(default)]
    pub token: Secret,
    /// As schedules of people on call know them.
    #[serde(default)]
    pub email: Option<String>,
}

pub(super) fn validate(people: &[PersonConfig]) -> Result<(), ConfigError> {
    let wrong = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
    for (at, person) in people.iter().enumerate() {
        if !person.id.contains('/') {
            return wrong("people.id", format!("{:?} names no team", person.id), "Give TEAM/USER, e.g. local/ada.");
        }
        let same_token =
            |other: &PersonConfig| person.token.reveal().is_some_and(|own| other.token.reveal() == Some(own));
        if people[..at].iter().any(|other| other.id == person.id || same_token(other)) {
            let reason = format!("{} has the id or the token of somebody else", person.id);
            return wrong("people", reason, "Name each person once, each with another token.");
        }
    }
    Ok(())
}

/// Where schedules of people on call are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnCallConfig {
    pub pagerduty: Option<RotaConfig>,
    pub opsgenie: Option<RotaConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotaConfig {
    pub token: Secret,
    /// Left out: the public address.
    #[serde(default)]
    pub url: Option<String>,
}
