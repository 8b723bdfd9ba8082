//! Rows of the inbox read again, and rows of the ledger to be.

use std::sync::Arc;

use crate::domain::alert::{Alert, BadAlert};
use crate::domain::intake::{Taken, take_bytes};
use crate::domain::time::Timestamp;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::gate::{Frames, Waiting};
use crate::store::LedgerRow;

/// A row that is not in memory: after a restart, or in a storm larger than is kept.
pub(super) async fn read_again(
    desk: &Desk,
    row: &Waiting,
    event_now: Timestamp,
    wall_now: Timestamp,
) -> Result<Frames, FlowError> {
    // What has no time of its own happened when it came in, on the clock of events.
    let received_at = event_now - wall_now.since(row.received_at);
    let frames = desk.store.frames(row.id).await?;
    let taken = frames.into_iter().map(|frame| {
        let taken = take_bytes(&frame, &desk.mappings, received_at)
            .unwrap_or_else(|bad| Taken { refused: vec![BadAlert::Unreadable(bad.to_string())], ..Taken::default() });
        (frame.into(), taken)
    });
    Ok(Arc::new(taken.collect()))
}

/// `subject` is whom correlation took the alert to be about.
pub(super) fn ledger_row(inbox: i64, alert: &Alert, subject: String) -> LedgerRow {
    LedgerRow {
        inbox_id: inbox,
        cluster: alert.cluster().into(),
        team: alert.team().unwrap_or("default").into(),
        fingerprint: alert.fingerprint.to_string(),
        name: alert.name().into(),
        subject,
        severity: alert.severity().as_str(),
        status: match alert.status {
            crate::domain::alert::Status::Firing => "firing",
            crate::domain::alert::Status::Resolved => "resolved",
        },
        starts_at: alert.starts_at,
        ends_at: alert.ends_at.or(alert.stands_until),
        value: alert.value,
        verdict: "admit",
        reason: String::new(),
        explanation: String::new(),
        incident: None,
        again: false,
        labels: None,
    }
}
