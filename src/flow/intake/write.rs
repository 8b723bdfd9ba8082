//! Writes a batch that was judged: the incidents that it touches are read, changed and stored together.

use std::collections::{BTreeMap, BTreeSet};

use super::super::assess::{close_when_quiet, graver, reassess};
use super::super::deliver::Effect;
use super::super::desk::{Desk, FlowError};
use super::super::elsewhere;
use super::merge::absorb;
use super::{Touched, Watchkeeper};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::store::{Batch, Draft, NewEffect, StoreError};

impl Watchkeeper {
    pub(super) async fn write(
        &mut self,
        desk: &Desk,
        mut batch: Batch,
        touched: Touched,
        topology: &Topology,
        wall_now: Timestamp,
        event_now: Timestamp,
    ) -> Result<(), FlowError> {
        let merged = touched.merges.iter().flat_map(|merge| [&merge.from, &merge.into]);
        let known = touched.joined.keys().chain(touched.resolved.keys()).chain(touched.drafts.keys());
        let ids: BTreeSet<IncidentId> = known.chain(merged).cloned().collect();
        let past = desk.past().await?;
        // The rest is made anew when somebody else was faster.
        let questions = batch.effects.len();
        for _ in 0..8 {
            batch.drafts.clear();
            batch.effects.truncate(questions);
            batch.taught.rescored.clear();
            let mut drafts: BTreeMap<IncidentId, Draft> = BTreeMap::new();
            for id in &ids {
                let draft = match touched.drafts.get(id) {
                    Some(draft) => draft.clone(),
                    None => Draft::of(stored(desk, id).await?),
                };
                drafts.insert(id.clone(), draft);
            }
            let scores: BTreeMap<IncidentId, f64> =
                drafts.iter().filter_map(|(id, draft)| Some((id.clone(), draft.incident.score()?.score))).collect();
            for merge in &touched.merges {
                batch.effects.extend(absorb(&mut drafts, merge, wall_now)?);
            }
            for (id, mut draft) in drafts {
                let absorbs = touched.merges.iter().any(|merge| merge.into == id);
                let joined = touched.joined.get(&id).filter(|joined| !joined.is_empty());
                if let Some(alerts) = joined {
                    // It ended while this was judged: nobody is told of it any more, so judge once more.
                    if draft.incident.state.is_over() {
                        return Err(StoreError::Stale(id.to_string()).into());
                    }
                    draft.record(IncidentEvent::AlertsJoined { alerts: alerts.clone() }, wall_now)?;
                }
                let before = (!draft.is_new()).then_some(draft.incident.severity);
                if joined.is_some() || absorbs && !draft.incident.state.is_over() {
                    reassess(&mut draft, topology, &past, wall_now)?;
                    let after = draft.incident.score().map(|scored| scored.score);
                    if let Some(score) = after.filter(|score| scores.get(&id).is_none_or(|before| score < before)) {
                        batch.taught.rescored.push((id.clone(), score));
                    }
                }
                if let Some(alerts) = touched.resolved.get(&id).filter(|alerts| !alerts.is_empty()) {
                    let event = IncidentEvent::AlertsResolved { alerts: alerts.clone(), event_at: event_now };
                    draft.record(event, wall_now)?;
                    let lapsed = touched.lapsed.get(&id).map(String::as_str);
                    close_when_quiet(&mut draft, lapsed, wall_now, event_now)?;
                }
                if absorbs {
                    close_when_quiet(&mut draft, None, wall_now, event_now)?;
                }
                if draft.incident.state.is_over() {
                    self.closed(&id, event_now);
                }
                batch.effects.push(NewEffect {
                    key: format!("{id}/root"),
                    incident: Some(id.to_string()),
                    body: serde_json::to_string(&Effect::Root).unwrap_or_default(),
                });
                batch.effects.extend(before.and_then(|before| graver(&draft.incident, before)));
                batch.drafts.push(draft);
            }
            elsewhere::announce(desk, &mut batch, wall_now);
            match desk.store.commit_in_place(&mut batch, wall_now).await {
                Ok(()) => {
                    if !ids.is_empty() {
                        desk.bells.elsewhere.notify_one();
                        desk.bells.outbox.notify_one();
                        desk.bells.incidents.notify_one();
                    }
                    return Ok(());
                }
                // Another driver appended to one of them: they are read again.
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(FlowError::Store(StoreError::Stale("intake batch".into())))
    }
}

pub(super) async fn stored(desk: &Desk, id: &IncidentId) -> Result<Incident, FlowError> {
    desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))
}
