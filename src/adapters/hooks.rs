//! Declared addresses as actions: called once, with an idempotency key, never redirected.
//!
//! Invariant: the address stands in the configuration as a whole; nothing that a model or an alert
//! says becomes a part of it. What may be reached is judged as for the tools (S11).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::Serialize;
use url::Url;

use super::egress::{self, Egress};
use crate::config::{DumpConfig, HookConfig, RemediationConfig, Secret, networks};
use crate::domain::id::Digest;
use crate::ports::{ClusterError, DeclaredHook, Hooks};

/// Of an answer; the rest is left unread.
const MAX_ANSWER: usize = 16 * 1024;
/// A heap dump is large; what is kept of it as evidence is not.
const MAX_DUMP: usize = 4 << 20;

pub struct DeclaredHooks {
    hooks: Vec<HookConfig>,
    dumps: Vec<DumpConfig>,
}

impl DeclaredHooks {
    /// `None` when nothing is declared.
    pub fn of(config: &RemediationConfig) -> Option<Self> {
        let is_empty = config.hook.is_empty() && config.dump.is_empty();
        (!is_empty).then(|| Self { hooks: config.hook.clone(), dumps: config.dump.clone() })
    }

    fn find(&self, name: &str) -> Result<&HookConfig, ClusterError> {
        let found = self.hooks.iter().find(|hook| hook.name == name);
        found.ok_or_else(|| ClusterError::NotFound(format!("a declared hook {name}")))
    }
}

fn digest(hook: &HookConfig) -> Digest {
    #[derive(Serialize)]
    struct Declared<'a> {
        name: &'a str,
        method: &'a str,
        url: &'a str,
        body: &'a str,
        headers: BTreeMap<&'a str, &'a str>,
        undo: &'a Option<String>,
    }
    let headers = hook.headers.iter().map(|(name, value)| (name.as_str(), value.reveal().unwrap_or_default()));
    Digest::of_json(&Declared {
        name: &hook.name,
        method: hook.method.as_str(),
        url: &hook.url,
        body: &hook.body,
        headers: headers.collect(),
        undo: &hook.undo,
    })
}

#[async_trait]
impl Hooks for DeclaredHooks {
    fn declared(&self) -> Vec<DeclaredHook> {
        let declared = self.hooks.iter().map(|hook| DeclaredHook {
            name: hook.name.clone(),
            description: hook.description.clone(),
            service: hook.service.clone(),
            tier: hook.tier,
            digest: digest(hook).as_str().to_owned(),
            undo: hook.undo.clone(),
            sends: format!("{} {} {}", hook.method.as_str(), hook.url, hook.body).trim().to_owned(),
            success: hook.success.as_ref().map(|success| success.check(&hook.service)),
        });
        declared.collect()
    }

    async fn rehearse(&self, name: &str) -> Result<String, ClusterError> {
        let hook = self.find(name)?;
        let Some(check) = &hook.check_url else { return Ok("it declares no check".to_owned()) };
        let call = Call { hook, what: "the check of", method: Method::GET, url: check, body: "", mark: None };
        match call.send().await {
            Ok(answer) => Ok(answer),
            // A GET that got lost changed nothing.
            Err(ClusterError::Unknown(why)) => Err(ClusterError::Unavailable(why)),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, name: &str, mark: &str) -> Result<String, ClusterError> {
        let hook = self.find(name)?;
        let method = Method::from_bytes(hook.method.as_str().as_bytes())
            .map_err(|_| ClusterError::Refused(format!("{name} has no method")))?;
        Call { hook, what: "hook", method, url: &hook.url, body: &hook.body, mark: Some(mark) }.send().await
    }

    async fn dump(&self, service: &str) -> Option<Result<String, ClusterError>> {
        let dump = self.dumps.iter().find(|dump| dump.service == service)?;
        Some(fetch(dump).await.map_err(ClusterError::Unavailable))
    }
}

struct Call<'a> {
    hook: &'a HookConfig,
    what: &'a str,
    method: Method,
    url: &'a str,
    body: &'a str,
    mark: Option<&'a str>,
}

impl Call<'_> {
    async fn send(self) -> Result<String, ClusterError> {
        let name = format!("{} {}", self.what, self.hook.name);
        let refused = |why: String| ClusterError::Refused(format!("{name}: {why}"));
        let url: Url = self.url.parse().map_err(|why| refused(format!("{why}")))?;
        let egress = Egress::new(networks(&self.hook.networks).map_err(refused)?);
        let pinned = egress.pin(url).await.map_err(refused)?;
        let client = pinned.client(Duration::from_secs(self.hook.timeout_seconds.max(1))).map_err(refused)?;
        let mut request = client.request(self.method, pinned.url.clone());
        request = with_headers(request, &self.hook.headers);
        if let Some(mark) = self.mark {
            request = request.header("Idempotency-Key", mark);
        }
        if !self.body.is_empty() {
            request = request.body(self.body.to_owned());
        }
        let answer = request.send().await.map_err(|error| {
            // Only where no connection came about is it certain that nothing was sent.
            let is_unsent = error.is_connect();
            let said = format!("{name}: {}", egress::why(error));
            match is_unsent {
                true => ClusterError::Unavailable(said),
                false => ClusterError::Unknown(said),
            }
        })?;
        let status = answer.status();
        let (body, _) = egress::read(answer, MAX_ANSWER).await.unwrap_or_default();
        let text: String = String::from_utf8_lossy(&body).chars().take(400).collect();
        match status.as_u16() {
            200..=299 => Ok(format!("{name} answered {status}: {text}")),
            401 | 403 => Err(ClusterError::Forbidden(format!("{name} answered {status}: {text}"))),
            409 => Err(ClusterError::Conflict(format!("{name} answered {status}: {text}"))),
            // It may have begun before it failed.
            500..=599 => Err(ClusterError::Unknown(format!("{name} answered {status}: {text}"))),
            _ => Err(ClusterError::Refused(format!("{name} answered {status}: {text}"))),
        }
    }
}

fn with_headers(mut request: reqwest::RequestBuilder, headers: &BTreeMap<String, Secret>) -> reqwest::RequestBuilder {
    for (name, value) in headers {
        request = request.header(name, value.reveal().unwrap_or_default());
    }
    request
}

async fn fetch(dump: &DumpConfig) -> Result<String, String> {
    let url: Url = dump.url.parse().map_err(|why| format!("{why}"))?;
    let pinned = Egress::new(networks(&dump.networks)?).pin(url).await?;
    let client = pinned.client(Duration::from_secs(dump.timeout_seconds.max(1)))?;
    let request = with_headers(client.get(pinned.url.clone()), &dump.headers);
    let answer = request.send().await.map_err(egress::why)?;
    let status = answer.status();
    let (body, more) = egress::read(answer, MAX_DUMP).await.map_err(egress::why)?;
    if !status.is_success() {
        return Err(format!("the dump of {} answered {status}", dump.service));
    }
    let cut = if more { "\n(cut off)" } else { "" };
    Ok(format!("{}{cut}", String::from_utf8_lossy(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(url: &str) -> DeclaredHooks {
        let text =
            format!("[[hook]]\nname = \"purge\"\ndescription = \"d\"\nurl = \"{url}\"\nnetworks = [\"127.0.0.0/8\"]\n");
        DeclaredHooks::of(&toml::from_str(&text).unwrap()).unwrap()
    }

    /// What was never sent may be tried again; what may have been heard is for people.
    #[tokio::test]
    async fn a_refused_connection_is_no_unknown_result() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/purge", listener.local_addr().unwrap());
        let heard = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
        });
        let unknown = declared(&url).call("purge", "INC-1.P1").await;
        assert!(matches!(unknown, Err(ClusterError::Unknown(_))), "{unknown:?}");
        heard.await.unwrap();
        // The listener is gone with its task.
        let unsent = declared(&url).call("purge", "INC-1.P1").await;
        assert!(matches!(&unsent, Err(ClusterError::Unavailable(why)) if why.contains("refused")), "{unsent:?}");
    }
}
