//! How we say who we are to a backend that is asked over HTTP.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Secret;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendAccess {
    /// Either a token, or a name and its password.
    pub bearer_token: Secret,
    pub user: Option<String>,
    pub password: Secret,
    /// Such as `X-Scope-OrgID`, which names the tenant of Mimir, Loki and Tempo.
    pub headers: BTreeMap<String, Secret>,
}
