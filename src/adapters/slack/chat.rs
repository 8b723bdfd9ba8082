//! `ports::Chat` over Slack's Web API.
//!
//! Invariant: a call whose effect may have happened is `Unknown`, never an error that invites a
//! second post. Retry-After is handed up; pacing is the outbox's work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;

use crate::adapters::egress::why;
use crate::domain::card::Card;
use crate::domain::id::PersonId;
use crate::ports::{Chat, ChatError, MessageRef, Picture, Place, Rates};

use super::SlackConfig;
use super::blocks::{Rendered, Renderer, block_mark, blocks, home_blocks};
use super::commands::WaysBack;
use super::scopes::{Need, SCOPES, missing};
use super::stream::Unable;

pub(super) const EVENT_TYPE: &str = "midwatch";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// When a 429 names no time. Slack's own windows are one minute; most waits are shorter.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
const PAGE: usize = 200;
/// Read-back happens seconds after the post: 1,000 messages back is far enough.
const PAGES: usize = 5;
/// https://docs.slack.dev/apis/web-api/rate-limits: a post a second into one channel, with short
/// bursts; `chat.update` is tier 3, fifty calls a minute.
const RATES: Rates = Rates {
    post_every: Duration::from_secs(1),
    post_burst: 5,
    edit_every: Duration::from_millis(1200),
    edit_burst: 20,
};

/// One workspace's Web API. Cheap to clone.
#[derive(Clone)]
pub struct SlackChat {
    pub(super) client: Arc<SlackHyperClient>,
    token: SlackApiToken,
    pub(super) http: reqwest::Client,
    config: Arc<SlackConfig>,
    identity: Arc<OnceLock<Identity>>,
    pub(super) unable: Arc<Unable>,
    pub(super) ways_back: Arc<WaysBack>,
    /// `#incidents` to `C0...`: Slack posts to names, but reads ids only.
    channel_ids: Arc<Mutex<HashMap<String, String>>>,
}

/// Who we are, as `auth.test` told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub team: String,
    pub user: String,
    pub bot: Option<String>,
}

/// Whether doing a call twice does it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Creates,
    Idempotent,
}

impl SlackChat {
    /// Needs an installed rustls crypto provider. Makes no call.
    pub fn new(config: SlackConfig) -> Result<Self, ChatError> {
        let refused = |error: &dyn std::fmt::Display| ChatError::Refused(format!("cannot set up TLS: {error}"));
        // The stock connector is https-only, and an emulator or a proxy speaks http.
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| refused(&error))?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .build();
        // Without rate control: a 429 comes up at once instead of being slept on in here.
        let connector = SlackClientHyperConnector::from(https).with_slack_api_url(config.api_base());
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| refused(&error))?;
        Ok(Self {
            client: Arc::new(SlackClient::new(connector)),
            token: SlackApiToken::new(config.bot_token.clone().into()),
            http,
            config: Arc::new(config),
            identity: Arc::new(OnceLock::new()),
            unable: Arc::default(),
            ways_back: Arc::default(),
            channel_ids: Arc::default(),
        })
    }

    pub fn config(&self) -> &SlackConfig {
        &self.config
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Without the team nobody is mentioned: where the configuration leaves it out, Slack is asked before the
    /// first message. A server that does not know the call is told all the same.
    async fn know_team(&self) -> Result<(), ChatError> {
        if self.config.team_id.is_some() || self.identity().is_some() {
            return Ok(());
        }
        match self.identify().await {
            Ok(_) | Err(ChatError::Refused(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Opens a dialog; `trigger` lives about three seconds, so a slow call is given up early.
    pub(super) async fn open_view(&self, trigger: &SlackTriggerId, view: SlackView) -> Result<(), ChatError> {
        let request = SlackApiViewsOpenRequest::new(trigger.clone(), view);
        let session = self.client.open_session(&self.token);
        let call = session.views_open(&request);
        within(Duration::from_millis(2500), Effect::Creates, call).await.map(|_| ())
    }

    pub(super) fn renderer(&self) -> Renderer {
        let team = self.config.team_id.as_deref().or_else(|| self.identity().map(|identity| identity.team.as_str()));
        Renderer::new(self.config.console_base.as_deref(), team)
    }

    fn render(&self, card: &Card, key: &str) -> Result<(Rendered, Vec<SlackBlock>), ChatError> {
        let rendered = blocks(&self.renderer(), card, key);
        let typed = serde_json::from_value(Value::Array(rendered.blocks.clone()))
            .map_err(|error| ChatError::Refused(format!("a card does not fit Slack's block model: {error}")))?;
        Ok((rendered, typed))
    }

    fn content(&self, card: &Card, key: &str) -> Result<SlackMessageContent, ChatError> {
        let (rendered, typed) = self.render(card, key)?;
        Ok(SlackMessageContent::new().with_text(rendered.text).with_blocks(typed))
    }

    /// Plain HTTP for what the library cannot do: `conversations.replies` lacks
    /// `include_all_metadata` there, its typed history fails on any message of a shape it does not
    /// model, and `auth.test` hides the header that lists our scopes.
    pub(super) async fn read(
        &self,
        method: &str,
        query: &[(&str, String)],
    ) -> Result<(Value, reqwest::header::HeaderMap), ChatError> {
        let request = self.http.get(self.url(method)).bearer_auth(&self.config.bot_token).query(query);
        self.answer(method, request, Effect::Idempotent).await
    }

    /// A method that writes, for those that the library does not model as we need them.
    pub(super) async fn write(&self, method: &str, body: &Value, effect: Effect) -> Result<Value, ChatError> {
        let request = self.http.post(self.url(method)).bearer_auth(&self.config.bot_token).json(body);
        self.answer(method, request, effect).await.map(|(body, _)| body)
    }

    pub(super) fn url(&self, method: &str) -> String {
        format!("{}/{method}", self.config.api_base())
    }

    pub(super) async fn answer(
        &self,
        method: &str,
        request: reqwest::RequestBuilder,
        effect: Effect,
    ) -> Result<(Value, reqwest::header::HeaderMap), ChatError> {
        let response = request.send().await.map_err(|error| {
            let refused = error.is_connect();
            let words = format!("{method}: {}", why(error));
            if refused { ChatError::Unavailable(words) } else { ambiguous(words, effect) }
        })?;
        let headers = response.headers().clone();
        let status = response.status();
        if status.as_u16() == 429 {
            return Err(ChatError::RateLimited(retry_after(&headers)));
        }
        if status.is_client_error() {
            // Slack itself says no in a body of its own; a proxy on the way, or its gate, does without.
            let body: Option<Value> = response.json().await.ok();
            return Err(match body.as_ref().and_then(|body| body["error"].as_str()) {
                Some(code) => refusal(code, body.as_ref().and_then(|body| body["needed"].as_str()), effect),
                None => ChatError::Unavailable(format!("Slack answered {status} to {method}")),
            });
        }
        if !status.is_success() {
            return Err(ambiguous(format!("{method} answered {status}"), effect));
        }
        let body: Value =
            response.json().await.map_err(|error| ambiguous(format!("{method}: {}", why(error)), effect))?;
        if body["ok"] == true {
            return Ok((body, headers));
        }
        let code = body["error"].as_str().unwrap_or("no reason given");
        Err(refusal(code, body["needed"].as_str(), effect))
    }

    /// `auth.test`; remembers who we are.
    pub(super) async fn identify(&self) -> Result<(Identity, Value, Option<Vec<String>>), ChatError> {
        let (body, headers) = self.read("auth.test", &[]).await?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
        let identity =
            Identity { team: text("team_id"), user: text("user_id"), bot: body["bot_id"].as_str().map(str::to_string) };
        let identity = self.identity.get_or_init(|| identity).clone();
        let scopes = headers
            .get("x-oauth-scopes")
            .and_then(|value| value.to_str().ok())
            .map(|list| list.split(',').map(|scope| scope.trim().to_string()).collect());
        Ok((identity, body, scopes))
    }

    /// The id of `#name`; needs the scope `channels:read` when nothing was posted there yet.
    pub(super) async fn channel_id(&self, channel: &str) -> Result<String, ChatError> {
        let Some(name) = channel.strip_prefix('#') else {
            return Ok(channel.to_string());
        };
        let known = self.channel_ids.lock().unwrap_or_else(PoisonError::into_inner).get(channel).cloned();
        if let Some(id) = known {
            return Ok(id);
        }
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let query = [("limit", "1000".to_string()), ("exclude_archived", "true".into()), ("cursor", cursor)];
            let (body, _) = self.read("conversations.list", &query).await?;
            let channels = body["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = channels.iter().find(|other| other["name"] == name).and_then(|other| other["id"].as_str());
            if let Some(id) = found {
                self.remember_channel(channel, id);
                return Ok(id.to_string());
            }
            cursor = body["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_string();
            if cursor.is_empty() {
                break;
            }
        }
        let why = format!("channel_not_found: {channel} is not listed; configure its id (C0...) instead");
        Err(ChatError::NoChannel(why))
    }

    fn remember_channel(&self, channel: &str, id: &str) {
        if channel.starts_with('#') {
            let mut known = self.channel_ids.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(channel.to_string(), id.to_string());
        }
    }

    /// Other apps can write our event type too; only our own messages count.
    fn is_ours(&self, message: &Value) -> bool {
        match self.identity() {
            None => message["bot_id"].is_string(),
            Some(us) => {
                message["user"] == us.user.as_str() || us.bot.as_deref().is_some_and(|bot| message["bot_id"] == bot)
            }
        }
    }
}

#[async_trait]
impl Chat for SlackChat {
    fn name(&self) -> &str {
        "slack"
    }

    fn rates(&self) -> Option<Rates> {
        let faster = self.config.posts_per_second.max(1);
        Some(Rates {
            post_every: RATES.post_every / faster,
            post_burst: RATES.post_burst * faster,
            edit_every: RATES.edit_every / faster,
            edit_burst: RATES.edit_burst * faster,
        })
    }

    async fn post(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        card: &Card,
    ) -> Result<MessageRef, ChatError> {
        self.know_team().await?;
        let payload = [("key".to_string(), key.to_string())].into();
        let metadata = SlackMessageMetadata::new(EVENT_TYPE.into()).with_event_payload(payload);
        let content = self.content(card, key)?.with_metadata(metadata);
        let request = SlackApiChatPostMessageRequest::new(channel.into(), content)
            .opt_thread_ts(thread.map(|root| root.ts.as_str().into()))
            .with_link_names(false)
            .with_parse("none".into())
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        let session = self.client.open_session(&self.token);
        let posted = within(CALL_TIMEOUT, Effect::Creates, session.chat_post_message(&request)).await?;
        self.remember_channel(channel, &posted.channel.0);
        Ok(MessageRef { channel: posted.channel.0, ts: posted.ts.0 })
    }

    /// The metadata, and with it the key, stays as it was posted.
    async fn edit(&self, message: &MessageRef, card: &Card) -> Result<(), ChatError> {
        self.know_team().await?;
        let content = self.content(card, &format!("{}/{}", message.channel, message.ts))?;
        let request =
            SlackApiChatUpdateRequest::new(message.channel.as_str().into(), content, message.ts.as_str().into())
                .with_link_names(false)
                .with_parse("none".into());
        let session = self.client.open_session(&self.token);
        within(CALL_TIMEOUT, Effect::Idempotent, session.chat_update(&request)).await.map(|_| ())
    }

    /// By metadata; by the mark in the block ids where a server keeps no metadata.
    async fn find(&self, channel: &str, thread: Option<&MessageRef>, key: &str) -> Result<Vec<MessageRef>, ChatError> {
        if self.identity().is_none() {
            self.identify().await?;
        }
        let channel = self.channel_id(thread.map_or(channel, |root| root.channel.as_str())).await?;
        let mut query = vec![
            ("channel", channel.clone()),
            ("limit", PAGE.to_string()),
            ("include_all_metadata", "true".to_string()),
        ];
        let method = match thread {
            Some(root) => {
                query.push(("ts", root.ts.clone()));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let mark = block_mark(key);
        let mut cursor = String::new();
        let mut found = vec![];
        for _ in 0..PAGES {
            let mut page = query.clone();
            if !cursor.is_empty() {
                page.push(("cursor", cursor.clone()));
            }
            let (body, _) = self.read(method, &page).await?;
            let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ours = messages.iter().filter(|message| self.is_ours(message) && carries(message, key, &mark));
            found.extend(ours.filter_map(|message| message["ts"].as_str()).map(str::to_owned));
            cursor = body["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_string();
            if cursor.is_empty() {
                break;
            }
        }
        if thread.is_some() && !cursor.is_empty() && found.is_empty() {
            // Oldest first: a thread longer than that was not read to its end.
            return Err(ChatError::Unavailable(format!("the thread has more than {} replies", PAGE * PAGES)));
        }
        found.sort();
        found.dedup();
        Ok(found.into_iter().map(|ts| MessageRef { channel: channel.clone(), ts }).collect())
    }

    async fn remove(&self, message: &MessageRef) -> Result<(), ChatError> {
        let body = json!({"channel": message.channel, "ts": message.ts});
        match self.write("chat.delete", &body, Effect::Idempotent).await {
            Err(ChatError::NoMessage(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn home(&self, to: &PersonId, card: &Card) -> Result<(), ChatError> {
        let user = to.as_str().rsplit('/').next().unwrap_or(to.as_str());
        let view = json!({"type": "home", "blocks": home_blocks(&self.renderer(), card)});
        let body = json!({"user_id": user, "view": view});
        self.write("views.publish", &body, Effect::Idempotent).await.map(drop)
    }

    async fn picture(&self, thread: &MessageRef, picture: &Picture) -> Result<(), ChatError> {
        self.upload(thread, picture).await
    }

    async fn working(&self, place: &Place, words: &str) -> Result<(), ChatError> {
        self.set_status(place, words).await
    }

    async fn begin(&self, thread: &MessageRef, to: &PersonId, words: &str) -> Result<Option<MessageRef>, ChatError> {
        self.start_stream(thread, to, words).await
    }

    async fn grow(&self, message: &MessageRef, words: &str) -> Result<(), ChatError> {
        self.append_stream(message, words).await
    }

    async fn end(&self, message: &MessageRef) -> Result<(), ChatError> {
        self.stop_stream(message).await
    }

    async fn whisper(&self, place: &Place, to: &PersonId, card: &Card) -> Result<(), ChatError> {
        let user = to.as_str().rsplit('/').next().unwrap_or(to.as_str());
        let content = self.content(card, "whisper")?;
        let request = SlackApiChatPostEphemeralRequest::new(place.channel.as_str().into(), user.into(), content)
            .opt_thread_ts(place.thread.as_ref().map(|root| root.ts.as_str().into()))
            .with_link_names(false)
            .with_parse("none".into());
        let session = self.client.open_session(&self.token);
        // The answer of postEphemeral is not kept, so an emulator's shape of it does not matter.
        within(CALL_TIMEOUT, Effect::Creates, session.chat_post_ephemeral(&request)).await.map(|_| ())
    }

    async fn answer_privately(&self, place: &Place, card: &Card) -> Result<(), ChatError> {
        self.answer_command(place, card).await
    }

    async fn check(&self) -> Result<String, ChatError> {
        let (identity, body, scopes) = self.identify().await?;
        if let Some(expected) = self.config.team_id.as_deref().filter(|expected| *expected != identity.team) {
            let found = &identity.team;
            return Err(ChatError::Refused(format!(
                "the bot token is of team {found}, the configuration says {expected}"
            )));
        }
        let user = body["user"].as_str().unwrap_or(&identity.user);
        let team = body["team"].as_str().unwrap_or(&identity.team);
        let Some(scopes) = scopes else {
            return Ok(format!("@{user} in {team} ({}); scopes unknown, the server lists none", identity.team));
        };
        let missing: Vec<&str> = missing(&scopes, Need::Always).iter().map(|scope| scope.name).collect();
        match missing.is_empty() {
            true => {
                let needed = SCOPES.iter().filter(|scope| scope.need == Need::Always).count();
                Ok(format!("@{user} in {team} ({}); all {needed} scopes", identity.team))
            }
            false => Err(ChatError::Refused(format!(
                "the app lacks {}: add them under OAuth & Permissions, then reinstall the app",
                missing.join(", ")
            ))),
        }
    }
}

fn carries(message: &Value, key: &str, mark: &str) -> bool {
    let metadata = &message["metadata"];
    if metadata["event_type"] == EVENT_TYPE {
        return metadata["event_payload"]["key"] == key;
    }
    let blocks = message["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().any(|block| block["block_id"].as_str().is_some_and(|id| id.starts_with(mark)))
}

async fn within<T>(
    limit: Duration,
    effect: Effect,
    call: impl Future<Output = Result<T, SlackClientError>>,
) -> Result<T, ChatError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(|error| translate(error, effect)),
        Err(_) => Err(ambiguous(format!("no answer within {limit:?}"), effect)),
    }
}

/// Perhaps done: a caller may repeat what is idempotent and must read back the rest.
fn ambiguous(what: String, effect: Effect) -> ChatError {
    match effect {
        Effect::Creates => ChatError::Unknown(what),
        Effect::Idempotent => ChatError::Unavailable(what),
    }
}

fn translate(error: SlackClientError, effect: Effect) -> ChatError {
    match error {
        SlackClientError::RateLimitError(limit) => {
            ChatError::RateLimited(limit.retry_after.unwrap_or(DEFAULT_RETRY_AFTER))
        }
        SlackClientError::ApiError(api) => {
            let body: Option<Value> =
                api.http_response_body.as_deref().and_then(|body| serde_json::from_str(body).ok());
            refusal(&api.code, body.as_ref().and_then(|body| body["needed"].as_str()), effect)
        }
        // Slack says no with a 200: this is a proxy on the way, or a gate that opens again.
        SlackClientError::HttpError(http) if http.status_code.is_client_error() => {
            ChatError::Unavailable(format!("Slack answered {}", http.status_code))
        }
        SlackClientError::HttpError(http) => ambiguous(format!("Slack answered {}", http.status_code), effect),
        SlackClientError::HttpProtocolError(http) => {
            let cause = http.cause.as_deref();
            let connecting = cause
                .and_then(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>())
                .is_some_and(hyper_util::client::legacy::Error::is_connect);
            let words = cause.map_or_else(|| "connection failed".to_string(), ToString::to_string);
            if connecting { ChatError::Unavailable(words) } else { ambiguous(words, effect) }
        }
        SlackClientError::EndOfStream(_) => ambiguous("the connection was cut".into(), effect),
        // The call went through and only its answer could not be read. The body is not quoted.
        SlackClientError::ProtocolError(error) => ambiguous(format!("unreadable answer: {}", error.json_error), effect),
        SlackClientError::SystemError(error) => ambiguous(error.to_string(), effect),
        SlackClientError::SocketModeProtocolError(error) => ChatError::Refused(error.to_string()),
    }
}

/// An `ok: false`, with what to do about it. What a person mends outside is worth trying again.
fn refusal(code: &str, needed: Option<&str>, effect: Effect) -> ChatError {
    let kind: fn(String) -> ChatError = match code {
        "ratelimited" | "rate_limited" => return ChatError::RateLimited(DEFAULT_RETRY_AFTER),
        "internal_error" | "fatal_error" | "request_timeout" => {
            return ambiguous(format!("Slack says {code}"), effect);
        }
        "service_unavailable" | "team_added_to_org" => return ChatError::Unavailable(format!("Slack says {code}")),
        "missing_scope" | "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" => ChatError::Unavailable,
        "account_inactive" | "access_denied" | "no_permission" | "ekm_access_denied" => ChatError::Unavailable,
        "not_in_channel" | "channel_not_found" | "is_archived" => ChatError::NoChannel,
        code if code.starts_with("restricted_action") => ChatError::NoChannel,
        "message_not_found" | "cant_update_message" | "thread_not_found" => ChatError::NoMessage,
        _ => ChatError::Refused,
    };
    kind(format!("{code}: {}", remedy(code, needed)))
}

fn remedy(code: &str, needed: Option<&str>) -> String {
    let remedy = match code {
        "missing_scope" => {
            let scope = needed.unwrap_or("a scope that Slack does not name");
            return format!("add {scope} under OAuth & Permissions, then reinstall the app");
        }
        "not_in_channel" => "invite the bot to the channel",
        "channel_not_found" => "the channel does not exist, or it is private and the bot was not invited",
        "is_archived" => "the channel is archived: configure another one",
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            "the token is not valid any more: put a fresh bot token into the configuration"
        }
        "no_permission" | "access_denied" | "ekm_access_denied" => "a workspace administrator forbids this",
        code if code.starts_with("restricted_action") => "a workspace administrator forbids this",
        "message_not_found" | "cant_update_message" | "thread_not_found" => "the message is gone or is not ours",
        "edit_window_closed" => "this workspace no longer lets the message be edited: post a new one",
        "invalid_blocks" | "invalid_blocks_format" | "msg_too_long" | "msg_blocks_too_long" => {
            "the card was rendered beyond Slack's limits, which is a defect of midwatch"
        }
        "expired_trigger_id" | "invalid_trigger_id" | "trigger_exchanged" => "the click is too old for a dialog",
        _ => "see https://docs.slack.dev for this error",
    };
    remedy.to_owned()
}

pub(super) fn retry_after(headers: &reqwest::header::HeaderMap) -> Duration {
    headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map_or(DEFAULT_RETRY_AFTER, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_tried_again_and_what_is_gone_is_known_as_gone() {
        let of = |code: &str| refusal(code, None, Effect::Creates);
        for code in ["invalid_auth", "token_revoked", "missing_scope", "account_inactive", "no_permission"] {
            assert!(matches!(of(code), ChatError::Unavailable(_)), "{code}");
        }
        for code in ["is_archived", "not_in_channel", "channel_not_found", "restricted_action_read_only_channel"] {
            assert!(matches!(of(code), ChatError::NoChannel(_)), "{code}");
        }
        assert!(matches!(of("message_not_found"), ChatError::NoMessage(_)));
        assert!(matches!(of("invalid_blocks"), ChatError::Refused(_)));
        assert!(matches!(of("fatal_error"), ChatError::Unknown(_)));
    }
}
