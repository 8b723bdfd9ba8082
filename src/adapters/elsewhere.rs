//! Other systems that hear of incidents: a pager, a tracker, another chat, whoever takes a webhook.
//!
//! Invariants: a request ends within its time; redirects are not followed; what an answer means for the
//! next try is read in one place; secrets stand in headers or bodies and never in an error.

mod jira;
mod pagerduty;
mod teams;
#[cfg(test)]
mod tests;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};

use super::egress::why;
use crate::config::{Config, Wanted};
use crate::domain::notice::Notice;
use crate::ports::{Outlet, OutletError};

pub use jira::Jira;
pub use pagerduty::PagerDuty;
pub use teams::Teams;
pub use webhook::Webhook;

const TIMEOUT: Duration = Duration::from_secs(10);
/// When somebody asks to wait and does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Everything that the configuration names.
pub fn outlets(config: &Config) -> Result<Vec<Arc<dyn Outlet>>, String> {
    let mut outlets: Vec<Arc<dyn Outlet>> = vec![];
    for pagerduty in &config.elsewhere.pagerduty {
        outlets.push(Arc::new(PagerDuty::new(pagerduty)?));
    }
    if let Some(jira) = &config.elsewhere.jira {
        outlets.push(Arc::new(Jira::new(jira)?));
    }
    for teams in &config.elsewhere.teams {
        outlets.push(Arc::new(Teams::new(teams, &config.console_url())?));
    }
    for webhook in &config.elsewhere.webhook {
        outlets.push(Arc::new(Webhook::new(webhook)?));
    }
    Ok(outlets)
}

fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

/// Sends, and says what a bad end means: never arrived, perhaps arrived, never will.
async fn send(request: RequestBuilder) -> Result<Response, OutletError> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Err(OutletError::Unavailable(why(error))),
        Err(error) if error.is_builder() => return Err(OutletError::Refused(why(error))),
        Err(error) => return Err(OutletError::Unknown(why(error))),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = retry_after(&response);
    let text: String = response.text().await.unwrap_or_default().chars().take(300).collect();
    let said = if text.trim().is_empty() { status.to_string() } else { format!("{status}: {}", text.trim()) };
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => OutletError::Later(wait.unwrap_or(DEFAULT_WAIT)),
        StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => OutletError::Later(wait.unwrap_or(DEFAULT_WAIT)),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => OutletError::Unavailable(said),
        status if status.is_server_error() => OutletError::Unavailable(said),
        _ => OutletError::Refused(said),
    })
}

/// Seconds, or a date (RFC 9110).
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            let now = response.headers().get(reqwest::header::DATE)?.to_str().ok()?;
            let now = chrono::DateTime::parse_from_rfc2822(now).ok()?;
            (until - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The host of an address whose receiver can only be tried by telling it something.
async fn find_host(url: &str) -> Result<String, OutletError> {
    let url = url.parse::<url::Url>().map_err(|error| OutletError::Refused(error.to_string()))?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host, port)).await;
    drop(found.map_err(|error| OutletError::Unavailable(format!("{host} cannot be found: {error}")))?);
    Ok(host.to_owned())
}

fn wants(wanted: &Wanted, notice: &Notice) -> bool {
    notice.severity >= wanted.from && (wanted.teams.is_empty() || wanted.teams.contains(&notice.team))
}
