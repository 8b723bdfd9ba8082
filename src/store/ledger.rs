//! The alert ledger: each alert with its verdict, and how many had which.
//!
//! The first of a firing is a row of its own. What is sent again with the same verdict is kept as
//! fingerprint and number, many to a row: it carries nothing that the first does not.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::FromRow;

use super::{Store, StoreError, on};
use crate::domain::alert::Fingerprint;
use crate::domain::time::Timestamp;

pub const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct FunnelCount {
    pub verdict: String,
    pub reason: String,
    pub count: i64,
}

#[derive(Debug, Clone, Serialize, FromRow)]
pub struct LedgerView {
    pub fingerprint: String,
    pub name: String,
    pub subject: String,
    pub severity: String,
    pub status: String,
    pub starts_at: i64,
    pub verdict: String,
    pub reason: String,
    pub explanation: String,
    pub incident: Option<String>,
    pub judged_at: i64,
}

/// Alerts that were sent again: suppressed for the same reason as before.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    pub first_inbox: i64,
    pub last_inbox: i64,
    pub by_reason: BTreeMap<&'static str, BTreeMap<Fingerprint, u32>>,
}

impl Repeats {
    pub fn add(&mut self, inbox: i64, fingerprint: Fingerprint, reason: &'static str) {
        if self.first_inbox == 0 {
            self.first_inbox = inbox;
        }
        self.last_inbox = inbox;
        *self.by_reason.entry(reason).or_default().entry(fingerprint).or_default() += 1;
    }

    pub fn count(times: &BTreeMap<Fingerprint, u32>) -> i64 {
        times.values().map(|times| i64::from(*times)).sum()
    }
}

/// Twelve bytes each: fingerprint, times.
pub(super) fn pack_repeats(times: &BTreeMap<Fingerprint, u32>) -> Vec<u8> {
    let mut packed = Vec::with_capacity(times.len() * 12);
    for (fingerprint, times) in times {
        packed.extend_from_slice(&fingerprint.bits().to_be_bytes());
        packed.extend_from_slice(&times.to_be_bytes());
    }
    packed
}

fn times_of(packed: &[u8], fingerprint: Fingerprint) -> u32 {
    let (entries, _) = packed.as_chunks::<12>();
    let key = fingerprint.bits().to_be_bytes();
    match entries.binary_search_by(|entry| entry[..8].cmp(&key)) {
        Ok(found) => u32::from_be_bytes([entries[found][8], entries[found][9], entries[found][10], entries[found][11]]),
        Err(_) => 0,
    }
}

/// How often an alert was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentAgain {
    pub times: i64,
    pub last_at: Option<Timestamp>,
}

/// Rows that are looked through for one alert: an hour under a heavy load, months otherwise.
const LOOKED_THROUGH: i64 = 20_000;

impl Store {
    /// All alerts that were ever judged, by verdict and reason.
    pub async fn funnel(&self) -> Result<Vec<FunnelCount>, StoreError> {
        self.funnel_since(Timestamp::from_millis(0)).await
    }

    /// Alerts judged in the hour of `wall_since` and later.
    pub async fn funnel_since(&self, wall_since: Timestamp) -> Result<Vec<FunnelCount>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT verdict, reason, CAST(sum(count) AS BIGINT) AS count FROM funnel WHERE hour >= $1 \
                 GROUP BY verdict, reason ORDER BY verdict, reason",
            )
            .bind(wall_since.millis().div_euclid(HOUR))
            .fetch_all(pool)
            .await
        })?)
    }

    /// What is known of one alert: by fingerprint or incident, else by its name; newest first.
    pub async fn ledger_of(&self, what: &str, limit: i64) -> Result<Vec<LedgerView>, StoreError> {
        const BY: [&str; 3] = [
            "SELECT fingerprint,name,subject,severity,status,starts_at,verdict,reason,explanation,incident,judged_at FROM alert \
             WHERE fingerprint=$1 ORDER BY id DESC LIMIT $2",
            "SELECT fingerprint,name,subject,severity,status,starts_at,verdict,reason,explanation,incident,judged_at FROM alert \
             WHERE incident=$1 ORDER BY id DESC LIMIT $2",
            "SELECT fingerprint,name,subject,severity,status,starts_at,verdict,reason,explanation,incident,judged_at FROM alert \
             WHERE name=$1 ORDER BY id DESC LIMIT $2",
        ];
        for sql in BY {
            let rows: Vec<LedgerView> =
                on!(self, pool => sqlx::query_as(sql).bind(what).bind(limit).fetch_all(pool).await)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        Ok(vec![])
    }

    /// How often this alert was sent again since then.
    pub async fn sent_again(&self, fingerprint: Fingerprint, wall_since: Timestamp) -> Result<SentAgain, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT judged_at, packed FROM alert_repeat WHERE judged_at >= $1 ORDER BY judged_at DESC LIMIT $2",
            )
            .bind(wall_since.millis())
            .bind(LOOKED_THROUGH)
            .fetch_all(pool)
            .await
        })?;
        let mut again = SentAgain::default();
        for (judged_at, packed) in rows {
            let times = times_of(&packed, fingerprint);
            if times > 0 {
                again.times += i64::from(times);
                again.last_at = again.last_at.max(Some(Timestamp::from_millis(judged_at)));
            }
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_found_again_by_fingerprint() {
        let fingerprint = |number: u64| Fingerprint::parse(&format!("{number:016x}")).expect("hex");
        let mut repeats = Repeats::default();
        for number in [7, 3, 7, u64::MAX] {
            repeats.add(5, fingerprint(number), "duplicate");
        }
        let packed = pack_repeats(&repeats.by_reason["duplicate"]);
        let times = |number| times_of(&packed, fingerprint(number));
        assert_eq!((times(3), times(7), times(u64::MAX), times(4)), (1, 2, 1, 0));
        assert_eq!(Repeats::count(&repeats.by_reason["duplicate"]), 4);
    }
}
