//! Everything that can be wrong with an installed app, one finding a line, for `midwatch check`.

use serde_json::Value;

use crate::ports::ChatError;

use super::SlackChat;
use super::chat::Effect;
use super::scopes::{Need, SCOPES, missing};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Good(String),
    /// Something is left out; the rest works.
    Note(String),
    /// Says what to do.
    Bad(String),
}

const REINSTALL: &str = "add it under OAuth & Permissions, then reinstall the app";

impl SlackChat {
    /// Asks Slack about token, scopes, channel and transport. Posts nothing.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![];
        let (identity, body, scopes) = match self.identify().await {
            Ok(known) => known,
            Err(error) => return vec![Finding::Bad(format!("{error} (key: slack.bot_token)"))],
        };
        let named = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
        findings.push(Finding::Good(format!("@{} in {} ({})", named("user"), named("team"), identity.team)));
        if let Some(expected) = self.config().team_id.as_deref().filter(|expected| *expected != identity.team) {
            let found = &identity.team;
            findings.push(Finding::Bad(format!("slack.team_id is {expected}, the bot token is of {found}")));
        }
        match scopes {
            None => findings.push(Finding::Note("scopes unknown: the server lists none".into())),
            Some(granted) => {
                let lacking = missing(&granted, Need::Always);
                if lacking.is_empty() {
                    let needed = SCOPES.iter().filter(|scope| scope.need == Need::Always).count();
                    findings.push(Finding::Good(format!("all {needed} needed scopes")));
                }
                findings.extend(lacking.iter().map(|scope| {
                    Finding::Bad(format!("scope {} is missing ({}): {REINSTALL}", scope.name, scope.purpose))
                }));
                findings.extend(missing(&granted, Need::ForMore).iter().map(|scope| {
                    Finding::Note(format!("scope {} is not given: nothing {}", scope.name, scope.purpose))
                }));
            }
        }
        findings.push(self.examine_channel().await);
        findings.push(self.examine_transport().await);
        findings
    }

    async fn examine_channel(&self) -> Finding {
        let name = &self.config().default_channel;
        let about = async {
            let id = self.channel_id(name).await?;
            self.read("conversations.info", &[("channel", id)]).await
        };
        match about.await {
            Ok((body, _)) if body["channel"]["is_archived"] == true => {
                Finding::Bad(format!("{name} is archived: configure another one (key: slack.channel)"))
            }
            Ok((body, _)) if body["channel"]["is_member"] == false => {
                Finding::Bad(format!("the app is not in {name}: write /invite @midwatch there"))
            }
            Ok((body, _)) => Finding::Good(format!("channel #{}", body["channel"]["name"].as_str().unwrap_or(name))),
            Err(error) => Finding::Bad(format!("{name}: {error} (key: slack.channel)")),
        }
    }

    async fn examine_transport(&self) -> Finding {
        let secrets = self.config().signing_secrets.len();
        let Some(token) = &self.config().app_token else {
            return match secrets {
                0 => Finding::Bad("neither slack.app_token nor slack.signing_secrets is given: nobody is heard".into()),
                count => Finding::Good(format!("signed HTTP, {count} signing secrets")),
            };
        };
        // Asks for an address and connects to none.
        let method = "apps.connections.open";
        let request = self.http.post(self.url(method)).bearer_auth(token);
        let opened: Result<(Value, _), ChatError> = self.answer(method, request, Effect::Idempotent).await;
        match opened {
            Ok(_) => Finding::Good(format!("Socket Mode, {} sockets", self.config().sockets.max(2))),
            Err(error) => Finding::Bad(format!(
                "Socket Mode: {error}; the app-level token needs connections:write, and Socket Mode must be on \
                 (key: slack.app_token)"
            )),
        }
    }
}
