//! What its sender does not repeat any more has ended, though nobody says so.

use std::sync::Arc;

use super::rows::ledger_row;
use super::{Touched, Watchkeeper};
use crate::domain::stands::Lapsed;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::Judged;
use crate::store::Batch;

/// The row of the inbox that tells of it: there is none.
const NOBODYS: i64 = 0;

impl Watchkeeper {
    pub(super) fn lapse(
        &mut self,
        event_now: Timestamp,
        topology: &Arc<Topology>,
        batch: &mut Batch,
        touched: &mut Touched,
    ) {
        for Lapsed { end, because } in self.stands.lapsed(event_now) {
            // An end that is known already is no news.
            let Judged::Resolved { incident } = self.triage.judge(&end, event_now, topology) else { continue };
            let mut ledger = ledger_row(NOBODYS, &end, self.triage.correlator.about(&end));
            if let Some(incident) = &incident {
                touched.lapsed.insert(incident.clone(), because.clone());
            }
            self.end(&end, incident, &because, &mut ledger, touched);
            batch.ledger.push(ledger);
        }
    }
}
