//! Looks once more at what is in people's hands because nobody knew its cause, when it has grown since: an
//! incident is often looked at when its first warnings come, and what explains them is measured minutes later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

use super::command::look_again;
use super::desk::{Desk, FlowError};
use crate::domain::id::IncidentId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;

const EVERY: Duration = Duration::from_secs(1);

/// An incident in people's hands, as it was read last.
struct Seen {
    version: i64,
    /// Why it is to be looked at, and since when that is so in the time of events.
    grown: Option<(String, Timestamp)>,
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut seen: HashMap<IncidentId, Seen> = HashMap::new();
    while !desk.stopping() {
        look(&desk, &mut seen).await?;
        desk.wait(&Notify::new(), EVERY).await;
    }
    Ok(())
}

async fn look(desk: &Desk, seen: &mut HashMap<IncidentId, Seen>) -> Result<(), FlowError> {
    let handed_over = desk.store.handed_over().await?;
    seen.retain(|id, _| handed_over.iter().any(|(one, _)| one == id));
    let event_now = desk.clock.event_now();
    let settle = Duration::from_secs(desk.config.investigation.settle_seconds);
    for (id, version) in handed_over {
        if seen.get(&id).is_none_or(|seen| seen.version != version) {
            let since = seen.remove(&id).and_then(|before| before.grown).map_or(event_now, |(_, since)| since);
            let Some(incident) = desk.store.incident(&id).await? else { continue };
            let grown = incident.outgrown().map(|because| (because, since));
            seen.insert(id.clone(), Seen { version, grown });
        }
        // As at the first time, the storm settles before it is looked at.
        let Some((because, since)) = seen.get(&id).and_then(|seen| seen.grown.as_ref()) else { continue };
        if event_now.since(*since) >= settle {
            info!(incident = %id, because, "it is looked at once more");
            match look_again(desk, &id, because).await {
                // It is over, or looked at again, since.
                Ok(_) | Err(FlowError::Store(StoreError::Illegal(_))) => {}
                Err(failure) => return Err(failure),
            }
            desk.bells.incidents.notify_one();
            seen.remove(&id);
        }
    }
    Ok(())
}
