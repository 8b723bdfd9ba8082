//! Pictures into a thread: an address is asked for, the bytes go there, and the thread gets the file
//! (https://docs.slack.dev/messaging/working-with-files#uploading_files).
//!
//! Invariant: only the last step shows anything, so what fails before it can be done again.

use serde_json::json;
use url::Url;

use crate::adapters::egress::why;
use crate::ports::{ChatError, MessageRef, Picture};

use super::SlackChat;
use super::chat::Effect;
use super::text::{clean, cut};

/// What `alt_txt` takes.
const MOST_ALT: usize = 1000;
const MOST_TITLE: usize = 255;

impl SlackChat {
    pub(super) async fn upload(&self, thread: &MessageRef, picture: &Picture) -> Result<(), ChatError> {
        let form = [
            ("filename", picture.name.clone()),
            ("length", picture.png.len().to_string()),
            ("alt_txt", cut(&clean(&picture.alt), MOST_ALT)),
        ];
        let method = "files.getUploadURLExternal";
        let (ticket, _) = self.read(method, &form).await?;
        let text = |name: &str| ticket[name].as_str().map(str::to_owned);
        let (Some(address), Some(file)) = (text("upload_url"), text("file_id")) else {
            return Err(ChatError::Unavailable(format!("{method} named no address")));
        };
        let address = self.trusted(&address)?;
        let sent = self.http.post(address).header("content-type", "image/png").body(picture.png.clone()).send().await;
        let sent = sent.map_err(|error| ChatError::Unavailable(format!("upload: {}", why(error))))?;
        if !sent.status().is_success() {
            return Err(ChatError::Unavailable(format!("the upload was answered {}", sent.status())));
        }
        let body = json!({
            "files": [{"id": file, "title": cut(&clean(&picture.title), MOST_TITLE)}],
            "channel_id": thread.channel, "thread_ts": thread.ts,
        });
        self.write("files.completeUploadExternal", &body, Effect::Creates).await.map(drop)
    }

    /// Slack's own hosts, or the one that the API is configured to be at.
    fn trusted(&self, address: &str) -> Result<Url, ChatError> {
        let refused = || ChatError::Refused("the address for the upload is not one of Slack's".into());
        let url = Url::parse(address).map_err(|_| refused())?;
        let api = Url::parse(self.config().api_base()).map_err(|_| refused())?;
        let host = url.host_str().unwrap_or_default();
        let slack = url.scheme() == "https" && (host == "slack.com" || host.ends_with(".slack.com"));
        if slack || (url.scheme(), url.host_str()) == (api.scheme(), api.host_str()) { Ok(url) } else { Err(refused()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::slack::SlackConfig;

    #[test]
    fn bytes_go_to_slack_only() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = SlackConfig::new("xoxb", "C1");
        let trusted =
            |config: &SlackConfig, address: &str| SlackChat::new(config.clone()).unwrap().trusted(address).is_ok();
        assert!(trusted(&config, "https://files.slack.com/upload/v1/abc"));
        for evil in ["http://files.slack.com/x", "https://slack.com.evil.test/x", "https://evilslack.com/x", "nonsense"]
        {
            assert!(!trusted(&config, evil), "{evil}");
        }
        config.api_base = Some("http://127.0.0.1:4320/api/".into());
        assert!(trusted(&config, "http://127.0.0.1:4321/upload"));
    }
}
