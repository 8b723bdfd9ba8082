//! Remembers what ConfigMaps held, because Kubernetes keeps no history of them: those that a workload
//! refers to, so that an edit in place is known as a change; those that are named in the configuration
//! whole, so that their data can be put back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::desk::{Desk, FlowError};
use crate::domain::change::announced::Announced;
use crate::domain::change::config::compare_config;
use crate::domain::change::{Change, ChangeKind, Touched};
use crate::domain::id::Digest;
use crate::domain::redact::redact;
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, ClusterError, ConfigMapState, Workload};
use crate::store::{AuditEntry, Batch};

const LOOK_EVERY: f64 = 30.0;
const VERSIONS: usize = 8;
/// What is larger is no flag file: its values are not remembered, only that they changed.
const MAX_BYTES: usize = 64 * 1024;
/// Written so soon after it was made, it came with a rollout, which is a change already.
const MADE: Duration = Duration::from_secs(60);
/// What was edited before midwatch ever looked is told for as long as it can explain anything.
const TOLD_LATE: Duration = Duration::from_secs(24 * 3600);
/// Our own writes are not changes to blame.
const OURSELVES: &str = "midwatch";

type Data = BTreeMap<String, String>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Version {
    /// Wall time at which it was first seen.
    seen_at: Timestamp,
    data: Data,
}

/// What is kept of a ConfigMap that nobody named: values without secrets, and a digest of each, which
/// tells that a hidden one changed. It is cut short, so that it proves no guess of a password.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    shown: Data,
    digests: BTreeMap<String, String>,
    /// Its values are not kept.
    #[serde(default)]
    large: bool,
}

impl Seen {
    fn of(data: &Data) -> Self {
        let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
        // Key and value together: what a value is, its key tells.
        let shown = |key: &String, value: &String| {
            let line = redact(&format!("{key}: {value}"));
            line.strip_prefix(&format!("{key}: ")).map_or(line.clone(), str::to_owned)
        };
        Self {
            large: bytes > MAX_BYTES,
            // Of a large one only that it changed: its lines are no settings that anybody reads.
            shown: match bytes > MAX_BYTES {
                true => data.keys().map(|key| (key.clone(), String::new())).collect(),
                false => data.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect(),
            },
            digests: data
                .iter()
                .map(|(key, value)| (key.clone(), Digest::of_json(value).short().chars().take(6).collect()))
                .collect(),
        }
    }

    fn without_values(&self) -> Data {
        self.shown.keys().map(|key| (key.clone(), String::new())).collect()
    }

    fn touched_since(&self, before: &Self) -> Vec<Touched> {
        let mut touched = match self.large == before.large {
            true => compare_config(&before.shown, &self.shown),
            // Of one of them no value is known.
            false => compare_config(&before.without_values(), &self.without_values()),
        };
        let hidden = self.digests.iter().filter(|(key, digest)| {
            let same_shown = self.large != before.large || before.shown.get(*key) == self.shown.get(*key);
            before.digests.get(*key).is_some_and(|old| old != *digest) && same_shown
        });
        touched.extend(hidden.map(|(key, _)| configuration(format!("{key}: a value that is not shown changed"))));
        touched
    }
}

fn configuration(detail: String) -> Touched {
    Touched { what: ChangeKind::Configuration, detail }
}

fn setting(name: &str) -> String {
    format!("config_map/{name}")
}

fn seen_setting(name: &str) -> String {
    format!("config_map_seen/{name}")
}

async fn versions(desk: &Desk, name: &str) -> Result<Vec<Version>, FlowError> {
    let Some(text) = desk.store.setting(&setting(name)).await? else { return Ok(vec![]) };
    // What could be put back must not be forgotten because it cannot be read.
    serde_json::from_str(&text)
        .map_err(|error| FlowError::Outside(format!("the earlier data of ConfigMap {name} cannot be read: {error}")))
}

/// The newest remembered data that is not the present one, which may be younger than the last look.
pub(super) async fn earlier(desk: &Desk, namespace: &str, name: &str) -> Result<Option<Data>, FlowError> {
    let Some(cluster) = &desk.cluster else { return Ok(None) };
    let versions = versions(desk, &format!("{namespace}/{name}")).await?;
    let present = cluster.config_data(namespace, name).await.map_err(|error| FlowError::Outside(error.to_string()))?;
    Ok(versions.into_iter().rev().map(|version| version.data).find(|data| *data != present))
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let Some(cluster) = desk.cluster.clone() else {
        // Nothing to remember, and nothing to start again either.
        while !desk.stopping() {
            desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(3600)).await;
        }
        return Ok(());
    };
    let configured = desk.config.kubernetes.as_ref().and_then(|kubernetes| kubernetes.config_map_seconds);
    let every = Duration::from_secs_f64(configured.unwrap_or(LOOK_EVERY));
    let mut watch = Watch::default();
    while !desk.stopping() {
        for name in &desk.config.remediation.config_maps {
            match look(&desk, name).await {
                Err(FlowError::Outside(why)) => warn!(config_map = name, why, "nothing new is remembered of it"),
                looked => looked?,
            }
        }
        watch.look(&desk, cluster.as_ref()).await?;
        desk.wait(&tokio::sync::Notify::new(), every).await;
    }
    Ok(())
}

/// The ConfigMaps of the estate, as they were at the last look.
#[derive(Default)]
struct Watch {
    /// By full name: the resource version.
    versions: BTreeMap<String, String>,
    /// Said once, until it is well again.
    blind: bool,
}

impl Watch {
    async fn look(&mut self, desk: &Desk, cluster: &dyn Cluster) -> Result<(), FlowError> {
        let read = async { Ok::<_, ClusterError>((cluster.config_maps().await?, cluster.workloads().await?)) };
        let (states, workloads) = match read.await {
            Ok(read) => read,
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    warn!(%error, "edits of ConfigMaps are not seen");
                }
                return Ok(());
            }
        };
        self.blind = false;
        let mut users: BTreeMap<String, Vec<&Workload>> = BTreeMap::new();
        for workload in &workloads {
            for name in &workload.config_maps {
                users.entry(format!("{}/{name}", workload.namespace)).or_default().push(workload);
            }
        }
        let states: BTreeMap<String, &ConfigMapState> =
            states.iter().map(|state| (format!("{}/{}", state.namespace, state.name), state)).collect();
        for (name, workloads) in &users {
            match states.get(name) {
                Some(state) if self.versions.get(name) == Some(&state.resource_version) => {}
                Some(state) => {
                    match cluster.config_data(&state.namespace, &state.name).await {
                        Ok(data) => self::compare(desk, state, &data, workloads).await?,
                        // Gone since it was listed: the next look tells.
                        Err(ClusterError::NotFound(_)) => continue,
                        Err(error) => {
                            warn!(config_map = name, %error, "cannot be read");
                            continue;
                        }
                    }
                    self.versions.insert(name.clone(), state.resource_version.clone());
                }
                None => {
                    self.versions.remove(name);
                    // Also when it went while nobody looked.
                    if desk.store.setting(&seen_setting(name)).await?.is_some_and(|text| !text.is_empty()) {
                        deleted(desk, name, workloads).await?;
                    }
                }
            }
        }
        self.versions.retain(|name, _| users.contains_key(name));
        Ok(())
    }
}

async fn compare(desk: &Desk, state: &ConfigMapState, data: &Data, users: &[&Workload]) -> Result<(), FlowError> {
    let name = format!("{}/{}", state.namespace, state.name);
    let seen = Seen::of(data);
    let before = desk.store.setting(&seen_setting(&name)).await?;
    let was_deleted = before.as_ref().is_some_and(String::is_empty);
    let before: Option<Seen> = before.and_then(|text| serde_json::from_str(&text).ok());
    if before.as_ref() == Some(&seen) {
        return Ok(());
    }
    let event_now = desk.clock.event_now();
    let touched = match (&before, &state.written) {
        (Some(before), _) => seen.touched_since(before),
        (None, _) if was_deleted => vec![configuration("it was made again after it had been deleted".into())],
        // A file that midwatch meets for the first time may have been edited a minute ago.
        (None, Some((at, _))) if at.since(state.created_at) > MADE && event_now.since(*at) < TOLD_LATE => {
            vec![configuration("its data was written; what it held before was not seen".into())]
        }
        (None, _) => vec![],
    };
    let by = state.written.as_ref().map(|(_, by)| by.as_str());
    if !touched.is_empty() && by != Some(OURSELVES) {
        let at = state.written.as_ref().map_or(event_now, |(at, _)| (*at).min(event_now));
        announce(desk, &name, at, by, &touched, users).await?;
    }
    remember(desk, &name, Some(&seen)).await
}

async fn deleted(desk: &Desk, name: &str, users: &[&Workload]) -> Result<(), FlowError> {
    let touched = [configuration("it was deleted; pods that need it do not start any more".into())];
    announce(desk, name, desk.clock.event_now(), None, &touched, users).await?;
    remember(desk, name, None).await
}

/// One change for each service that reads it.
async fn announce(
    desk: &Desk,
    name: &str,
    at: Timestamp,
    by: Option<&str>,
    touched: &[Touched],
    users: &[&Workload],
) -> Result<(), FlowError> {
    let changes: Vec<Announced> = users
        .iter()
        .map(|workload| Announced {
            key: format!("config_map/{name}/{}/{}", at.millis(), workload.name),
            change: Change {
                id: format!("ConfigMap {name} at {}", at.hour_minute()),
                namespace: workload.namespace.clone(),
                service: workload.service.clone(),
                workload: workload.name.clone(),
                at,
                from_revision: None,
                to_revision: 0,
                touched: touched.to_vec(),
                cause: by.filter(|by| !by.is_empty()).map(|by| format!("edited in place, by {by}")),
                current: true,
                put_back: false,
            },
        })
        .collect();
    desk.store.announce(&changes, desk.clock.event_now()).await?;
    info!(config_map = name, services = users.len(), "it was edited in place");
    Ok(())
}

async fn remember(desk: &Desk, name: &str, seen: Option<&Seen>) -> Result<(), FlowError> {
    let text = seen.map(serde_json::to_string).transpose().unwrap_or_default().unwrap_or_default();
    let batch = Batch { settings: vec![(seen_setting(name), text)], ..Batch::default() };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(rows: &[(&str, &str)]) -> Data {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_hidden_value_is_never_kept_and_its_change_is_told() {
        let before = Seen::of(&data(&[("DB_PASSWORD", "first-hidden"), ("pool", "20")]));
        let after = Seen::of(&data(&[("DB_PASSWORD", "other-hidden"), ("pool", "2")]));
        let kept = serde_json::to_string(&(&before, &after)).unwrap();
        assert!(!kept.contains("-hidden"), "{kept}");
        let told: Vec<String> = after.touched_since(&before).into_iter().map(|one| one.detail).collect();
        assert_eq!(told, ["pool: 20 -> 2", "DB_PASSWORD: a value that is not shown changed"]);
    }

    #[test]
    fn a_large_file_is_not_kept_and_its_change_is_told() {
        let large = |last: &str| data(&[("rules", &("x\n".repeat(MAX_BYTES) + last)), ("size", "large")]);
        let (before, after) = (Seen::of(&large("a")), Seen::of(&large("b")));
        assert!(serde_json::to_string(&before).unwrap().len() < 200);
        let told: Vec<String> = after.touched_since(&before).into_iter().map(|one| one.detail).collect();
        assert_eq!(told, ["rules: a value that is not shown changed"]);
        let small = Seen::of(&data(&[("rules", "x"), ("size", "large")]));
        for (before, after) in [(&small, &after), (&after, &small)] {
            let told: Vec<String> = after.touched_since(before).into_iter().map(|one| one.detail).collect();
            assert_eq!(told, ["rules: a value that is not shown changed"], "what is not known is not told");
        }
    }
}
