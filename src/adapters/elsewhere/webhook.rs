//! A signed webhook, as the Standard Webhooks specification has it: HMAC-SHA256 over id, time and body.
//!
//! https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::Sha256;

use super::{client, find_host, send, wants};
use crate::config::{Secret, Wanted, WebhookConfig};
use crate::domain::id::Digest;
use crate::domain::notice::Notice;
use crate::ports::{Attempt, Outlet, OutletError};

/// How the specification writes secrets; the rest is base64.
const PREFIX: &str = "whsec_";

pub struct Webhook {
    name: String,
    url: String,
    keys: Vec<Vec<u8>>,
    wants: Wanted,
    http: reqwest::Client,
}

impl Webhook {
    pub fn new(config: &WebhookConfig) -> Result<Self, String> {
        let key = |secret: &str| match secret.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| format!("elsewhere.webhook {}: a secret after {PREFIX} is not base64", config.name)),
            None => Ok(secret.as_bytes().to_vec()),
        };
        Ok(Self {
            name: config.name.clone(),
            url: config.url.clone(),
            keys: config.secrets.iter().filter_map(Secret::reveal).map(key).collect::<Result<_, _>>()?,
            wants: config.wants.clone(),
            http: client()?,
        })
    }
}

/// One signature for each key, with blanks between: a receiver accepts any.
fn signatures(keys: &[Vec<u8>], id: &str, seconds: u64, body: &[u8]) -> String {
    let one = |key: &Vec<u8>| {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    keys.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[async_trait]
impl Outlet for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, notice: &Notice) -> bool {
        wants(&self.wants, notice)
    }

    async fn send(&self, key: &str, notice: &Notice, _: Attempt) -> Result<Option<String>, OutletError> {
        // The same at every try, so that the receiver knows a second one.
        let id = format!("msg_{}", Digest::of(format!("{} {key}", notice.dedup_key).as_bytes()).short());
        let body = json!({
            "type": format!("incident.{}", notice.phase.as_str()),
            "timestamp": notice.at,
            "data": {
                "incident": notice.incident, "dedup_key": notice.dedup_key, "version": notice.version,
                "severity": notice.severity, "title": notice.title, "state": notice.state, "cluster": notice.cluster,
                "team": notice.team, "services": notice.services, "since": notice.since, "alerts": notice.alerts,
                "firing": notice.firing, "cause": notice.cause, "text": notice.text, "by": notice.by,
                "post_mortem": notice.body, "url": notice.url,
            },
        })
        .to_string();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signatures(&self.keys, &id, seconds, body.as_bytes()))
            .body(body);
        send(request).await.map(|_| None)
    }

    async fn check(&self) -> Result<String, OutletError> {
        Ok(format!("{} is found; {} secrets sign", find_host(&self.url).await?, self.keys.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signs_as_the_specification_does() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signatures(&[key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
