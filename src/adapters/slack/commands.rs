//! The way back to whoever gave a slash command: Slack's `response_url`, which works where the bot may not post.
//!
//! Invariant: such an address is a secret. It is kept in memory only and no longer than Slack takes it, it
//! goes to Slack's own host only, and it is in no log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use url::Url;

use crate::adapters::egress::why;
use crate::domain::card::Card;
use crate::ports::{ChatError, Place};

use super::SlackChat;
use super::blocks::blocks;
use super::chat::retry_after;

/// https://docs.slack.dev/interactivity/handling-user-interaction: five answers within thirty minutes.
const LIVES: Duration = Duration::from_secs(30 * 60);
const USES: u32 = 5;
/// Remembered at most; who comes beyond is answered in the channel or not at all, as before.
const MOST: usize = 1_000;
const HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

/// By the name of the command that it answers.
#[derive(Default)]
pub(super) struct WaysBack(Mutex<HashMap<String, Way>>);

struct Way {
    url: Url,
    since: Instant,
    used: u32,
}

impl WaysBack {
    fn keep(&self, command: &str, url: Url, now: Instant) {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|_, way| now.duration_since(way.since) < LIVES && way.used < USES);
        if ways.len() < MOST {
            ways.entry(command.to_owned()).or_insert(Way { url, since: now, used: 0 });
        }
    }

    /// The address, when it is still taken; asking counts as a use.
    fn turn(&self, command: &str, now: Instant) -> Option<Url> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let way = ways.get_mut(command)?;
        if now.duration_since(way.since) >= LIVES || way.used >= USES {
            ways.remove(command);
            return None;
        }
        way.used += 1;
        Some(way.url.clone())
    }
}

/// Whether it may be called: Slack's own host, or the one that the configuration names for Slack's API.
fn is_slacks(url: &Url, api_base: Option<&str>) -> bool {
    let is_host = url.host_str().is_some_and(|host| HOSTS.contains(&host));
    let is_configured =
        || api_base.and_then(|base| Url::parse(base).ok()).is_some_and(|base| base.origin() == url.origin());
    (url.scheme() == "https" && is_host && url.port_or_known_default() == Some(443)) || is_configured()
}

impl SlackChat {
    /// Keeps where a command can be answered; an address that is not Slack's is left out.
    pub(super) fn remember_command(&self, command: &str, url: Url) {
        if is_slacks(&url, self.config().api_base.as_deref()) {
            self.ways_back.keep(command, url, Instant::now());
        } else {
            tracing::warn!(host = url.host_str(), "a command's way back does not lead to Slack");
        }
    }

    pub(super) async fn answer_command(&self, place: &Place, card: &Card) -> Result<(), ChatError> {
        let url = place.command.as_deref().and_then(|command| self.ways_back.turn(command, Instant::now()));
        let url =
            url.ok_or_else(|| ChatError::Refused("the command's own way back is not known, or used up".into()))?;
        let rendered = blocks(&self.renderer(), card, "answer");
        let body = json!({
            "response_type": "ephemeral", "replace_original": false, "text": rendered.text, "blocks": rendered.blocks,
        });
        let sent = self.http.post(url.as_str()).json(&body).send().await;
        // `why` leaves the address out.
        let answer = sent.map_err(|error| ChatError::Unavailable(format!("response_url: {}", why(error))))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.as_u16() == 429 => Err(ChatError::RateLimited(retry_after(answer.headers()))),
            status if status.is_server_error() => {
                Err(ChatError::Unavailable(format!("response_url answered {status}")))
            }
            status => Err(ChatError::Refused(format!("response_url answered {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slacks_own_host_is_called() {
        let check = |url: &str, base: Option<&str>| is_slacks(&Url::parse(url).unwrap(), base);
        assert!(check("https://hooks.slack.com/commands/T1/1/abc", None));
        for url in [
            "http://hooks.slack.com/commands/T1/1/abc",
            "https://hooks.slack.com:8443/x",
            "https://hooks.slack.com.evil.test/x",
            "https://evil.test/hooks.slack.com",
            "http://127.0.0.1:4320/x",
            "file:///etc/passwd",
        ] {
            assert!(!check(url, None), "{url}");
        }
        let base = Some("http://127.0.0.1:4320/api");
        assert!(check("http://127.0.0.1:4320/answers/1", base) && !check("http://127.0.0.1:4321/answers/1", base));
    }

    #[test]
    fn a_way_back_ends_with_its_time_and_its_uses() {
        let (ways, now) = (WaysBack::default(), Instant::now());
        let url = || Url::parse("https://hooks.slack.com/x").unwrap();
        ways.keep("one", url(), now);
        ways.keep("one", Url::parse("https://hooks.slack.com/other").unwrap(), now);
        for _ in 0..USES {
            assert_eq!(ways.turn("one", now), Some(url()), "the first delivery counts");
        }
        assert_eq!(ways.turn("one", now), None);
        ways.keep("two", url(), now);
        assert_eq!(ways.turn("two", now + LIVES), None);
        assert_eq!(ways.turn("three", now), None);
    }
}
