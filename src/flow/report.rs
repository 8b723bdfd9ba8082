//! How much noise was kept from people, and what that rests on: for chat, API, page and metrics alike.

use serde::Serialize;

use super::desk::{Desk, FlowError};
use super::label;
use crate::domain::anomaly::AuditEstimate;
use crate::domain::funnel::{Count, Funnel};
use crate::domain::time::Timestamp;
use crate::store::HOUR;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The hour from which on alerts are counted; all that was ever judged without it.
    pub since: Option<Timestamp>,
    #[serde(flatten)]
    pub funnel: Funnel,
    pub prefilter: Prefilter,
    /// How often suppressing was wrong, as people say who were shown a sample.
    pub audit: AuditEstimate,
}

/// What may be suppressed by score, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Prefilter {
    pub mode: String,
    pub threshold: Option<f64>,
    /// Real incidents that count.
    pub labelled: usize,
    /// Real incidents that are missing until a threshold can be given.
    pub missing: usize,
}

/// The watch's own counts since the hour of the instant, or all of them.
pub async fn funnel(desk: &Desk, wall_since: Option<Timestamp>) -> Result<Funnel, FlowError> {
    let since = wall_since.map_or(Timestamp::from_millis(0), hour_of);
    let counts = desk.store.funnel_since(since).await?;
    let (incidents, notified) = desk.store.told_since(since).await?;
    let counts = counts.into_iter().map(|count| Count {
        verdict: count.verdict,
        reason: count.reason,
        count: u64::try_from(count.count).unwrap_or(0),
    });
    Ok(Funnel::of(counts, incidents, notified))
}

pub async fn report(desk: &Desk, wall_since: Option<Timestamp>) -> Result<Report, FlowError> {
    let rules = desk.config.prefilter.rules();
    let setting = label::setting(desk, &rules).await?;
    Ok(Report {
        since: wall_since.map(hour_of),
        funnel: funnel(desk, wall_since).await?,
        prefilter: Prefilter {
            mode: rules.mode_in_words(&setting),
            threshold: rules.threshold(&setting).map(|(threshold, _)| threshold),
            labelled: setting.real,
            missing: setting.missing,
        },
        audit: label::estimate(desk, &rules).await?,
    })
}

/// Alerts are counted by the hour; so is the rest then.
fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.millis().div_euclid(HOUR) * HOUR)
}
