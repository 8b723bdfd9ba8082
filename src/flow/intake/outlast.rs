//! What fires on after its incident has ended: its end is told of that incident, and what lasts for too
//! long is news again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::super::desk::{Desk, FlowError};
use super::rows::ledger_row;
use super::{MAX_QUIET, Touched, Watchkeeper};
use crate::domain::alert::{Alert, Fingerprint, Reading, Severity};
use crate::domain::id::IncidentId;
use crate::domain::incident::State;
use crate::domain::time::{Timestamp, spoken};
use crate::domain::topology::Topology;
use crate::domain::triage::Judged;
use crate::store::{Batch, StoreError};

/// What ended longer ago is not asked about after a restart.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

impl Watchkeeper {
    /// What still fires of it may end later, which is told of it all the same.
    pub(super) fn closed(&mut self, incident: &IncidentId, ended_at: Timestamp) {
        if self.over_firing.len() >= MAX_QUIET {
            self.over_firing.clear();
            self.ended.clear();
        }
        let still: Vec<Fingerprint> = self.triage.correlator.closed(incident);
        self.outlive(still, incident, ended_at);
    }

    /// Looks for it in the ledger, after a restart.
    pub(super) async fn outlived(&mut self, desk: &Desk) -> Result<(), FlowError> {
        let mut members: BTreeMap<IncidentId, Vec<Fingerprint>> = BTreeMap::new();
        for member in desk.store.outlasting(desk.clock.wall_now() - REMEMBERED).await? {
            let Some(fingerprint) = Fingerprint::parse(&member.fingerprint) else { continue };
            members.entry(IncidentId::new(member.incident)).or_default().push(fingerprint);
            self.firing.entry(fingerprint).or_insert((member.name, member.subject));
        }
        let mut ended = vec![];
        for (incident, members) in members {
            // By the clock of events, too: another life of a store that was put away says nothing of now.
            let at = resolved_at(desk, &incident).await?;
            if let Some(at) = at.filter(|at| desk.clock.event_now().since(*at) < REMEMBERED) {
                ended.push((at, incident, members));
            }
        }
        ended.sort_by_key(|(at, ..)| *at);
        for (at, incident, members) in ended {
            self.outlive(members, &incident, at);
        }
        Ok(())
    }

    fn outlive(&mut self, members: Vec<Fingerprint>, of: &IncidentId, ended_at: Timestamp) {
        let still: Vec<Fingerprint> =
            members.into_iter().filter(|fingerprint| self.firing.contains_key(fingerprint)).collect();
        still.iter().for_each(|fingerprint| self.triage.prefilter.over(*fingerprint));
        let before = self.over_firing.len();
        self.over_firing.extend(still.into_iter().map(|fingerprint| (fingerprint, of.clone())));
        if self.over_firing.len() > before {
            self.ended.push_back((ended_at, of.clone()));
        }
    }

    /// Whether there is something to do without an alert.
    pub(super) fn is_overdue(&self, desk: &Desk) -> bool {
        let event_now = desk.clock.event_now();
        self.triage.is_overdue(event_now)
            || self.stands.is_due(event_now)
            || self.is_outlasted(desk, event_now)
            || desk.store.over_revision() != self.over
    }

    fn is_outlasted(&self, desk: &Desk, event_now: Timestamp) -> bool {
        let after = desk.config.remediation.outlast_seconds;
        let front = self.ended.front();
        after > 0 && front.is_some_and(|(at, _)| event_now.since(*at) >= Duration::from_secs(after))
    }

    /// Whoever said that an incident is over was wrong about what is critical and fires on: it is judged as if
    /// it had just begun, so that somebody looks at it again.
    pub(super) async fn outlasting(
        &mut self,
        desk: &Desk,
        event_now: Timestamp,
        topology: &Arc<Topology>,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        while self.is_outlasted(desk, event_now) {
            let Some((ended_at, ended)) = self.ended.pop_front() else { break };
            let still: BTreeSet<Fingerprint> =
                self.over_firing.iter().filter(|(_, of)| **of == ended).map(|(fingerprint, _)| *fingerprint).collect();
            // What became part of another incident is looked after there.
            if still.is_empty() || resolved_at(desk, &ended).await?.is_none() {
                continue;
            }
            let lead = format!("still fires {} after {ended} was resolved: ", spoken(event_now.since(ended_at)));
            for member in desk.store.admitted_to(&ended).await? {
                let Some(alert) = member.alert() else { continue };
                let is_critical = Reading::of(&alert).severity() == Severity::Critical;
                if is_critical && still.contains(&alert.fingerprint) {
                    self.outlasts(desk, member.inbox_id, &alert, &lead, event_now, topology, batch, touched)?;
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the list
    fn outlasts(
        &mut self,
        desk: &Desk,
        inbox: i64,
        alert: &Alert,
        lead: &str,
        event_now: Timestamp,
        topology: &Arc<Topology>,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        let judged = self.triage.outlasts(alert, event_now, topology);
        // People or windows mute it: they know.
        if let Judged::Suppressed { .. } = judged {
            return Ok(());
        }
        warn!(
            alert = alert.name(),
            subject = self.triage.correlator.about(alert),
            lead,
            "an alert outlasts its incident"
        );
        let mut ledger = ledger_row(inbox, alert, self.triage.correlator.about(alert));
        ledger.again = true;
        self.enter(desk, judged, alert, lead, &mut ledger, batch, touched)?;
        batch.ledger.push(ledger);
        Ok(())
    }
}

/// `None`: it lives on in another one, or cannot be read, which is told elsewhere.
async fn resolved_at(desk: &Desk, id: &IncidentId) -> Result<Option<Timestamp>, FlowError> {
    match desk.store.incident(id).await {
        Ok(incident) => {
            Ok(incident.filter(|one| matches!(one.state, State::Resolved { .. })).and_then(|one| one.resolved_at))
        }
        Err(StoreError::Corrupt { .. }) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}
