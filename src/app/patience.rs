//! A store that is away when the watch starts: a failover takes a minute or two, and whoever gives up at once is
//! started again ever later by what looks after it.
//!
//! Invariant: only what may pass by itself (`StoreError::Away`) is waited for; it ends with the same message.

use std::time::Duration;

use anyhow::Context as _;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::config::Config;
use crate::store::{Store, StoreError};

/// As long as a failover takes where it is slow.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long those who are being answered on the porch may take.
const LEAVE: Duration = Duration::from_secs(1);

pub(super) async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let address = config.store_address();
    let away = match Store::open(&address).await {
        Err(away @ StoreError::Away { .. }) => away,
        opened => return Ok(opened?),
    };
    let porch = Porch::open(&config.server.listen).await?;
    let opened = outlast(away, PATIENCE, || Store::open(&address)).await;
    porch.close().await;
    Ok(opened?)
}

/// Tries again, ever later, until it succeeds, fails of something else, or has taken too long.
async fn outlast<T, F>(mut away: StoreError, patience: Duration, open: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    while began.elapsed() + pause <= patience {
        warn!(error = %away, again_in_s = pause.as_secs(), "the store is away; trying again");
        sleep(pause).await;
        match open().await {
            Ok(opened) => {
                info!(after_s = began.elapsed().as_secs(), "the store answers");
                return Ok(opened);
            }
            Err(again @ StoreError::Away { .. }) => away = again,
            Err(other) => return Err(other),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(away)
}

/// Says meanwhile that this process lives, so that nobody ends it for its silence; takes nothing in.
struct Porch {
    close: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Porch {
    async fn open(listen: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("server.listen: cannot listen on {listen}; is another midwatch running? Choose another port")
        })?;
        let router = axum::Router::new().route("/healthz", get(|| async { "ok\n" })).fallback(|| async {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], "the store is away; nothing was taken in\n")
        });
        let (close, closed) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let ended = async move {
                // Closed in order or dropped: both end it.
                let _ = closed.await;
            };
            if let Err(failure) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
                warn!(error = %failure, "the server that waits for the store ended");
            }
        });
        Ok(Self { close, serving })
    }

    /// Returns when its port is free and nobody is connected to it any more.
    async fn close(mut self) {
        // It may have ended by itself.
        let _ = self.close.send(());
        if timeout(LEAVE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> StoreError {
        StoreError::Away { address: "postgres://db/watch".into(), reason: "refused".into(), remedy: "Check." }
    }

    /// Fails so often, then ends so; what it says at last, after how many tries and seconds.
    async fn check(fails: u32, then: fn() -> Result<(), StoreError>) -> (String, u32, u64) {
        let (tries, began) = (Cell::new(0), Instant::now());
        let open = || {
            tries.set(tries.get() + 1);
            let answer = if tries.get() <= fails { Err(away()) } else { then() };
            async move { answer }
        };
        let said = match outlast(away(), PATIENCE, open).await {
            Ok(()) => "opened".to_owned(),
            Err(failure) => failure.to_string(),
        };
        (said, tries.get(), began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_failover_is_outlasted_and_a_refusal_is_not() {
        assert_eq!(check(4, || Ok(())).await, ("opened".into(), 5, 25));
        let other = || Err(StoreError::Open { address: "a".into(), reason: "wrong password".into(), remedy: "Check." });
        let (said, tries, _) = check(1, other).await;
        assert!(said.contains("wrong password") && tries == 2, "{said}");
        let (said, tries, seconds) = check(u32::MAX, || Ok(())).await;
        assert_eq!((said, tries), (away().to_string(), 14));
        assert!((100..=120).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn meanwhile_it_says_that_it_lives_and_takes_nothing_in() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let porch = Porch::open(&free).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ask = async |path: &str| http.get(format!("http://{free}{path}")).send().await.unwrap().status().as_u16();
        assert_eq!((ask("/healthz").await, ask("/readyz").await, ask("/webhooks/any").await), (200, 503, 503));
        // Whoever keeps a connection does not keep the port.
        porch.close().await;
        TcpListener::bind(&free).await.unwrap();
    }
}
