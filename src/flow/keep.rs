//! Remembers what the named ConfigMaps held, so that the data before a change can be put back:
//! Kubernetes itself keeps no history of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::desk::{Desk, FlowError};
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;
use crate::store::{AuditEntry, Batch};

const LOOK_EVERY: Duration = Duration::from_secs(30);
const VERSIONS: usize = 8;
/// What is larger is no flag file; it is not remembered.
const MAX_BYTES: usize = 64 * 1024;

type Data = BTreeMap<String, String>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Version {
    /// Wall time at which it was first seen.
    seen_at: Timestamp,
    data: Data,
}

fn setting(name: &str) -> String {
    format!("config_map/{name}")
}

async fn versions(desk: &Desk, name: &str) -> Result<Vec<Version>, FlowError> {
    let text = desk.store.setting(&setting(name)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// The newest data before the present one.
pub(super) async fn earlier(desk: &Desk, namespace: &str, name: &str) -> Result<Option<Data>, FlowError> {
    let versions = versions(desk, &format!("{namespace}/{name}")).await?;
    Ok(versions.iter().rev().nth(1).map(|version| version.data.clone()))
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    if desk.config.remediation.config_maps.is_empty() || desk.cluster.is_none() {
        // Nothing to remember, and nothing to start again either.
        while !desk.stopping() {
            desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(3600)).await;
        }
        return Ok(());
    }
    while !desk.stopping() {
        for name in &desk.config.remediation.config_maps {
            look(&desk, name).await?;
        }
        desk.wait(&tokio::sync::Notify::new(), LOOK_EVERY).await;
    }
    Ok(())
}

async fn look(desk: &Desk, full_name: &str) -> Result<(), FlowError> {
    let (Some(cluster), Some((namespace, name))) = (&desk.cluster, full_name.split_once('/')) else { return Ok(()) };
    let data = match cluster.config_data(namespace, name).await {
        Ok(data) => data,
        Err(error) => {
            warn!(config_map = full_name, %error, "cannot be remembered");
            return Ok(());
        }
    };
    let mut versions = versions(desk, full_name).await?;
    let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_BYTES || versions.last().is_some_and(|last| last.data == data) {
        return Ok(());
    }
    let digest = Digest::of_json(&data);
    versions.push(Version { seen_at: desk.clock.wall_now(), data });
    let surplus = versions.len().saturating_sub(VERSIONS);
    versions.drain(..surplus);
    let batch = Batch {
        settings: vec![(setting(full_name), serde_json::to_string(&versions).unwrap_or_default())],
        audit: vec![AuditEntry {
            kind: "config_map.seen".into(),
            subject: full_name.to_owned(),
            body: serde_json::json!({"digest": digest.short()}),
        }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    info!(config_map = full_name, digest = digest.short(), "its data is remembered");
    Ok(())
}
