//! Socket Mode. The library reads each socket serially and acknowledges when the callback returns,
//! so a callback does one `Inbox::accept` (or opens one dialog) and nothing else.

use std::sync::Arc;

use slack_morphism::prelude::*;

use crate::ports::ChatError;

use super::{Intake, SlackChat};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Seconds between the starts of two sockets, and before a failed one tries again.
const STAGGER_SECONDS: u64 = 3;

/// Sockets that are being held. Dropping it without `shutdown` cuts them.
pub struct SlackSockets {
    listener: SlackClientSocketModeListener<SlackClientHyperHttpsConnector>,
}

/// Opens the sockets, at least two, a few seconds apart, and keeps them open.
pub async fn connect(chat: &SlackChat, intake: Intake) -> Result<SlackSockets, ChatError> {
    let config = chat.config();
    let token = config.app_token.clone().ok_or_else(|| {
        ChatError::Refused("Socket Mode needs an app token (xapp-..., scope connections:write)".into())
    })?;
    let environment = SlackClientEventsListenerEnvironment::new(chat.client.clone())
        .with_error_handler(on_error)
        .with_user_state(intake);
    let callbacks = SlackSocketModeListenerCallbacks::new()
        .with_push_events(on_push)
        .with_interaction_events(on_interaction)
        .with_command_events(on_command);
    let sockets = u32::try_from(config.sockets.clamp(2, 10)).unwrap_or(2);
    let settings = SlackClientSocketModeConfig::new()
        .with_max_connections_count(sockets)
        .with_initial_backoff_in_seconds(STAGGER_SECONDS);
    let listener = SlackClientSocketModeListener::new(&settings, Arc::new(environment), callbacks);
    listener
        .listen_for(&SlackApiToken::new(token.into()))
        .await
        .map_err(|error| ChatError::Unavailable(error.to_string()))?;
    listener.start().await;
    Ok(SlackSockets { listener })
}

impl SlackSockets {
    pub async fn shutdown(self) {
        self.listener.shutdown().await;
    }
}

async fn on_push(
    event: SlackPushEventCallback,
    _client: Arc<SlackHyperClient>,
    state: SlackClientEventsUserState,
) -> UserCallbackResult<()> {
    Ok(intake(&state).await?.push(event).await?)
}

async fn on_interaction(
    event: SlackInteractionEvent,
    _client: Arc<SlackHyperClient>,
    state: SlackClientEventsUserState,
) -> UserCallbackResult<SlackInteractionResponse> {
    intake(&state).await?.interaction(event).await?;
    Ok(SlackInteractionResponse::Empty)
}

async fn on_command(
    event: SlackCommandEvent,
    _client: Arc<SlackHyperClient>,
    state: SlackClientEventsUserState,
) -> UserCallbackResult<SlackCommandEventResponse> {
    intake(&state).await?.command(event).await?;
    // The answer proper is posted by the flow; this only tells the person that we have it.
    let received = SlackMessageContent::new().with_text("Got it.".into());
    Ok(SlackCommandEventResponse::new(received).with_response_type(SlackMessageResponseType::Ephemeral))
}

async fn intake(state: &SlackClientEventsUserState) -> Result<Intake, Failure> {
    let state = state.read().await;
    state.get_user_state::<Intake>().cloned().ok_or_else(|| "the socket has no way in".into())
}

/// Not a success: Slack gets no acknowledgement and delivers again.
fn on_error(error: Failure, _client: Arc<SlackHyperClient>, _state: SlackClientEventsUserState) -> http::StatusCode {
    tracing::error!(%error, "slack delivery not acknowledged");
    http::StatusCode::SERVICE_UNAVAILABLE
}
