//! Slack: cards out, what people did in.
//!
//! Invariants:
//! - Text that midwatch did not write never becomes markup, a mention or a link (`text`, `blocks`).
//! - An act is acknowledged to Slack only after the inbox has kept it (`intake`).
//! - Who acted is read from the signed request or the socket, never from a message's text.
//! - Socket Mode and HTTP share one reading of every payload (`intake`), so that both behave alike.

mod blocks;
mod chat;
mod commands;
mod dialog;
pub mod events;
mod examine;
mod files;
mod intake;
mod scopes;
mod socket;
mod stream;
mod text;

use std::fmt;

pub use blocks::{Rendered, Renderer, blocks, home_blocks};
pub use chat::SlackChat;
pub use dialog::form_blocks;
pub use examine::Finding;
pub use intake::{Intake, Refusal};
pub use scopes::{Need, SCOPES, Scope, missing};
pub use socket::{SlackSockets, connect};

/// How to reach one Slack workspace.
#[derive(Clone)]
pub struct SlackConfig {
    /// `xoxb-...`
    pub bot_token: String,
    /// `xapp-...` with `connections:write`; needed for Socket Mode only.
    pub app_token: Option<String>,
    /// One, or two during a rotation. Needed for HTTP events only.
    pub signing_secrets: Vec<String>,
    /// Default `https://slack.com/api`; an emulator's address in tests.
    pub api_base: Option<String>,
    /// When set, people of other workspaces are refused at the door.
    pub team_id: Option<String>,
    pub default_channel: String,
    /// `TEAM/USER` or `@group`; read by the approval room, not here.
    pub approvers: Vec<String>,
    /// How many sockets Socket Mode holds; at least two, so that one may reconnect.
    pub sockets: usize,
    /// Every link in a card is minted below this address; without it cards carry no links.
    pub console_base: Option<String>,
    /// Into one channel, in the long run; Slack takes one.
    pub posts_per_second: u32,
}

impl SlackConfig {
    pub const DEFAULT_API_BASE: &str = "https://slack.com/api";
    pub const DEFAULT_SOCKETS: usize = 2;

    /// A configuration with defaults for all but the token and the channel.
    pub fn new(bot_token: impl Into<String>, default_channel: impl Into<String>) -> Self {
        Self {
            bot_token: bot_token.into(),
            app_token: None,
            signing_secrets: vec![],
            api_base: None,
            team_id: None,
            default_channel: default_channel.into(),
            approvers: vec![],
            sockets: Self::DEFAULT_SOCKETS,
            console_base: None,
            posts_per_second: 1,
        }
    }

    /// Without a trailing slash: the library and we both append `/method`.
    pub fn api_base(&self) -> &str {
        self.api_base.as_deref().unwrap_or(Self::DEFAULT_API_BASE).trim_end_matches('/')
    }
}

impl fmt::Debug for SlackConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlackConfig")
            .field("bot_token", &"[redacted]")
            .field("app_token", &self.app_token.as_ref().map(|_| "[redacted]"))
            .field("signing_secrets", &format_args!("[{} redacted]", self.signing_secrets.len()))
            .field("api_base", &self.api_base)
            .field("team_id", &self.team_id)
            .field("default_channel", &self.default_channel)
            .field("approvers", &self.approvers)
            .field("sockets", &self.sockets)
            .field("console_base", &self.console_base)
            .field("posts_per_second", &self.posts_per_second)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_redacts_every_token() {
        let mut config = SlackConfig::new("xoxb-secret", "#incidents");
        config.app_token = Some("xapp-secret".into());
        config.signing_secrets = vec!["sign-secret".into()];
        assert!(!format!("{config:?}").contains("secret\""), "{config:?}");
        assert!(!format!("{config:?}").contains("-secret"), "{config:?}");
    }
}
