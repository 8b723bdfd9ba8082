//! Retention: once a day what is no longer hot leaves the store for a compressed file, and files that
//! are too old go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::desk::{Desk, FlowError};
use crate::domain::time::Timestamp;
use crate::store::Retention;

const A_DAY: Duration = Duration::from_secs(24 * 3600);
/// The start is busy enough.
const FIRST: Duration = Duration::from_secs(15 * 60);
const RETIRED_AT: &str = "retired_at";

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let never = tokio::sync::Notify::new();
    desk.wait(&never, FIRST).await;
    while !desk.stopping() {
        if let Err(failure) = retire_if_due(&desk).await {
            error!(error = %failure, "retention is tried again in an hour");
        }
        desk.wait(&never, Duration::from_secs(3600)).await;
    }
    Ok(())
}

async fn retire_if_due(desk: &Desk) -> Result<(), FlowError> {
    let wall_now = desk.clock.wall_now();
    let last = desk.store.setting(RETIRED_AT).await?.and_then(|text| text.parse::<i64>().ok());
    // What a clock wrote that was ahead says nothing.
    let last = last.map(Timestamp::from_millis).filter(|last| *last <= wall_now);
    if last.is_some_and(|last| wall_now.since(last) < A_DAY) {
        return Ok(());
    }
    let config = &desk.config.store;
    let folder = config.data_dir.join("cold");
    let keep = Retention { hot: A_DAY * u32::try_from(config.hot_days).unwrap_or(u32::MAX) };
    let retired = desk.store.retire(keep, &folder, wall_now).await?;
    let settings = vec![(RETIRED_AT.into(), wall_now.millis().to_string())];
    desk.store.commit(crate::store::Batch { settings, ..Default::default() }, wall_now).await?;
    info!(alerts = retired.alerts, payloads = retired.payloads, spent = retired.spent, "retention");
    let cold = A_DAY * u32::try_from(config.cold_days).unwrap_or(u32::MAX);
    tokio::task::spawn_blocking(move || remove_old(&folder, wall_now, cold))
        .await
        .map_err(|error| FlowError::Outside(error.to_string()))
}

/// By the time that our own file name carries: nothing else in the folder is touched.
fn remove_old(folder: &Path, wall_now: Timestamp, cold: Duration) {
    let Ok(files) = std::fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let kind = name.strip_prefix("alerts-").or(name.strip_prefix("payloads-"));
        let at = kind.and_then(|rest| rest.strip_suffix(".jsonl.zst"));
        let at = at.and_then(|at| chrono::NaiveDateTime::parse_from_str(at, "%Y%m%dT%H%M%SZ").ok());
        let Some(at) = at.map(|at| Timestamp::from_millis(at.and_utc().timestamp_millis())) else { continue };
        if wall_now.since(at) > cold
            && let Err(error) = std::fs::remove_file(file.path())
        {
            warn!(file = name, %error, "a cold file stays beyond its time");
        }
    }
}
