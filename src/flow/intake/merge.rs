//! Incidents that have become one.

use std::collections::BTreeMap;

use tracing::info;

use super::super::desk::{Desk, FlowError};
use super::super::regroup::{heir, tell_heir};
use super::write::stored;
use super::{Touched, Watchkeeper};
use crate::domain::correlate::Merge;
use crate::domain::id::IncidentId;
use crate::domain::incident::{IncidentEvent, MACHINE};
use crate::domain::time::Timestamp;
use crate::store::{Batch, Draft, NewEffect, StoreError};

impl Watchkeeper {
    /// What was told of an incident that has become part of another belongs to that other.
    pub(super) async fn merge(
        &mut self,
        desk: &Desk,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        for merge in self.triage.correlator.merges() {
            let cluster = match touched.drafts.get(&merge.from) {
                Some(draft) => draft.incident.cluster.clone(),
                None => stored(desk, &merge.from).await?.cluster,
            };
            let joined = touched.joined.remove(&merge.from).unwrap_or_default().into_iter().map(|mut alert| {
                alert.elsewhere.insert(cluster.clone());
                alert
            });
            touched.joined.entry(merge.into.clone()).or_default().extend(joined);
            if let Some(resolved) = touched.resolved.remove(&merge.from) {
                touched.resolved.entry(merge.into.clone()).or_default().extend(resolved);
            }
            batch.moved.push((merge.from.clone(), merge.into.clone()));
            for row in batch.ledger.iter_mut().filter(|row| row.incident.as_deref() == Some(merge.from.as_str())) {
                row.incident = Some(merge.into.to_string());
            }
            touched.merges.push(merge);
        }
        Ok(())
    }
}

/// Writes into both that the one is part of the other now; gives what is to be told of it.
pub(super) fn absorb(
    drafts: &mut BTreeMap<IncidentId, Draft>,
    merge: &Merge,
    wall_now: Timestamp,
) -> Result<Vec<NewEffect>, FlowError> {
    let Merge { from, into, because } = merge;
    let (Some(mut gone), Some(stays)) = (drafts.remove(from), drafts.get_mut(into)) else {
        return Err(FlowError::NoIncident(from.clone()));
    };
    // What people decide about or what acts by now is not pulled from under them, and what is over takes
    // nothing in. The correlator has joined them already: it must be built again.
    if !gone.incident.state.is_movable() || stays.incident.state.is_over() {
        return Err(StoreError::Stale(from.to_string()).into());
    }
    let groups = gone.incident.carried();
    let handing = heir(&gone.incident, &stays.incident, MACHINE);
    gone.record(IncidentEvent::Merged { into: into.clone(), because: because.clone() }, wall_now)?;
    stays.record(IncidentEvent::Absorbed { from: from.clone(), because: because.clone(), groups }, wall_now)?;
    let mut told = vec![];
    if let Some(handing) = handing {
        stays.record(handing, wall_now)?;
        told.extend(tell_heir(&stays.incident, from));
    }
    info!(incident = %into, from = %from, because, "incidents merged");
    drafts.insert(from.clone(), gone);
    Ok(told)
}
