//! What leaves the store: audit export, backup and restore, retention.
//!
//! Invariants: nothing of the audit chain or of an incident that is not over is ever removed; what
//! retention removes was written to a compressed file before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::cold::{ColdFile, io};
use super::lease::write_one;
use super::{AuditRow, Db, Store, StoreError, on};
use crate::domain::time::Timestamp;

const PAGE: i64 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub audit_rows: usize,
    pub events: usize,
    pub evidence: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Judged alerts and their payloads stay in the store so long.
    pub hot: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Retired {
    pub alerts: u64,
    pub payloads: u64,
    pub file: Option<PathBuf>,
}

impl Store {
    /// Everything that an auditor needs to rebuild every incident, one JSON document a line: the audit
    /// chain, the incidents' own chains, and the evidence that they name.
    pub async fn export_audit(&self, mut out: impl Write) -> Result<Exported, StoreError> {
        let (head_seq, head) = self.audit_head().await?;
        let mut line = |value: Value| writeln!(out, "{value}").map_err(io);
        line(json!({"type": "head", "rows": head_seq, "hash": head}))?;
        let mut exported = Exported { audit_rows: 0, events: 0, evidence: 0 };
        let mut last = 0;
        loop {
            let rows: Vec<AuditRow> = on!(self, pool => {
                sqlx::query_as("SELECT * FROM audit WHERE seq>$1 AND seq<=$2 ORDER BY seq LIMIT $3")
                    .bind(last)
                    .bind(head_seq)
                    .bind(PAGE)
                    .fetch_all(pool)
                    .await
            })?;
            let Some(newest) = rows.last() else { break };
            last = newest.seq;
            for row in &rows {
                exported.audit_rows += 1;
                let mut value = serde_json::to_value(row).unwrap_or_default();
                value["type"] = json!("audit");
                value["time"] = json!(Timestamp::from_millis(row.at));
                line(value)?;
            }
        }
        type EventRow = (String, i64, String, i64, String, String, String);
        let (mut incident, mut seq) = (String::new(), 0);
        loop {
            let rows: Vec<EventRow> = on!(self, pool => {
                sqlx::query_as(
                    "SELECT incident,seq,kind,at,body,prev,hash FROM incident_event \
                     WHERE incident>$1 OR (incident=$1 AND seq>$2) ORDER BY incident,seq LIMIT $3",
                )
                .bind(&incident)
                .bind(seq)
                .bind(PAGE)
                .fetch_all(pool)
                .await
            })?;
            let Some(newest) = rows.last() else { break };
            (incident, seq) = (newest.0.clone(), newest.1);
            for (incident, seq, kind, at, body, prev, hash) in &rows {
                exported.events += 1;
                line(json!({
                    "type": "event", "incident": incident, "seq": seq, "kind": kind, "at": at,
                    "time": Timestamp::from_millis(*at), "body": body, "prev": prev, "hash": hash,
                }))?;
            }
        }
        let mut id = String::new();
        loop {
            let rows: Vec<(String, String, String, i64, String)> = on!(self, pool => {
                sqlx::query_as("SELECT id,incident,digest,at,body FROM evidence WHERE id>$1 ORDER BY id LIMIT $2")
                    .bind(&id)
                    .bind(PAGE)
                    .fetch_all(pool)
                    .await
            })?;
            let Some(newest) = rows.last() else { break };
            id.clone_from(&newest.0);
            for (id, incident, digest, at, body) in &rows {
                exported.evidence += 1;
                line(
                    json!({"type": "evidence", "id": id, "incident": incident, "digest": digest, "at": at, "body": body}),
                )?;
            }
        }
        out.flush().map_err(io)?;
        Ok(exported)
    }

    /// A whole copy of the embedded store, consistent while the watch runs (`VACUUM INTO`).
    pub async fn backup(&self, into: &Path) -> Result<u64, StoreError> {
        let Db::Sqlite(pool) = &self.core.db else {
            return Err(StoreError::Busy("this store is a PostgreSQL: back it up with pg_dump or its operator".into()));
        };
        if into.exists() {
            return Err(StoreError::Busy(format!("{} exists already", into.display())));
        }
        // An address of a file is no parameter of this statement; quotes within are doubled.
        let name = into.display().to_string().replace('\'', "''");
        sqlx::query(sqlx::AssertSqlSafe(format!("VACUUM INTO '{name}'"))).execute(pool).await?;
        Ok(std::fs::metadata(into).map_err(io)?.len())
    }

    /// Writes judged alerts that are older than the hot time to a compressed file in `folder`, and the
    /// payloads that they came in to another, and removes them. Alerts of incidents that are not over stay.
    pub async fn retire(&self, keep: Retention, folder: &Path, wall_now: Timestamp) -> Result<Retired, StoreError> {
        let before = wall_now - keep.hot;
        let mut file = ColdFile::new(folder, "alerts-", wall_now);
        type Row = (
            i64,
            i64,
            String,
            String,
            String,
            String,
            String,
            i64,
            Option<i64>,
            String,
            String,
            Option<String>,
            Option<String>,
            i64,
        );
        let mut retired = Retired::default();
        loop {
            let rows: Vec<Row> = on!(self, pool => {
                sqlx::query_as(
                    "SELECT id,inbox_id,cluster,team,fingerprint,name,status,starts_at,ends_at,verdict,reason,incident,labels,judged_at \
                     FROM alert WHERE judged_at<$1 AND (incident IS NULL OR incident IN (SELECT id FROM incident WHERE is_over)) \
                     ORDER BY id LIMIT $2",
                )
                .bind(before.millis())
                .bind(PAGE)
                .fetch_all(pool)
                .await
            })?;
            let Some(last) = rows.last().map(|row| row.0) else { break };
            for (
                id,
                inbox,
                cluster,
                team,
                fingerprint,
                name,
                status,
                starts,
                ends,
                verdict,
                reason,
                incident,
                labels,
                judged,
            ) in &rows
            {
                let labels: Value =
                    labels.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                file.line(&json!({
                    "id": id, "inbox": inbox, "cluster": cluster, "team": team, "fingerprint": fingerprint,
                    "name": name, "status": status, "startsAt": Timestamp::from_millis(*starts),
                    "endsAt": ends.map(Timestamp::from_millis), "verdict": verdict, "reason": reason,
                    "incident": incident, "labels": labels, "judgedAt": Timestamp::from_millis(*judged),
                }))?;
            }
            file.settle()?;
            retired.alerts += self.forget_alerts(before, last).await?;
        }
        retired.file = file.finish()?;
        retired.payloads = self.retire_payloads(before, folder, wall_now).await?;
        write_one!(self, tx => {
            sqlx::query("DELETE FROM alert_repeat WHERE judged_at<$1").bind(before.millis()).execute(&mut *tx)
        });
        write_one!(self, tx => {
            sqlx::query("DELETE FROM outbox WHERE state='done' AND done_at<$1").bind(before.millis()).execute(&mut *tx)
        });
        Ok(retired)
    }

    async fn forget_alerts(&self, before: Timestamp, last: i64) -> Result<u64, StoreError> {
        Ok(write_one!(self, tx => {
            sqlx::query(
                "DELETE FROM alert WHERE id<=$1 AND judged_at<$2 \
                 AND (incident IS NULL OR incident IN (SELECT id FROM incident WHERE is_over))",
            )
            .bind(last)
            .bind(before.millis())
            .execute(&mut *tx)
        }))
    }
}

/// Puts a backup in the place of the store; refuses while one is there. The copy is opened, migrated
/// and verified before it gets its name.
pub async fn restore(from: &Path, data_dir: &Path) -> Result<super::AuditReport, StoreError> {
    let target = data_dir.join("midwatch.db");
    // What a killed watch has left beside its store belongs to it: it would be played into the copy.
    let there: Vec<String> = ["midwatch.db", "midwatch.db-wal", "midwatch.db-shm"]
        .into_iter()
        .filter(|name| data_dir.join(name).exists())
        .map(str::to_owned)
        .collect();
    if !there.is_empty() {
        return Err(StoreError::Busy(format!(
            "{} still holds {}; stop the watch and move all of them to another folder together first",
            data_dir.display(),
            there.join(", ")
        )));
    }
    std::fs::create_dir_all(data_dir).map_err(io)?;
    let scratch = data_dir.join("midwatch.db.restoring");
    clear(&scratch)?;
    std::fs::copy(from, &scratch).map_err(io)?;
    let opened = async {
        let store = Store::open(&scratch.display().to_string()).await?;
        let report = store.verify_audit().await;
        store.close().await;
        report
    };
    let report = match opened.await {
        Ok(report) => report,
        Err(failure) => {
            clear(&scratch)?;
            let reason = format!("{} is no backup that can be used: {failure}", from.display());
            return Err(StoreError::Corrupt { table: "backup", row: from.display().to_string(), reason });
        }
    };
    if let Some(fault) = &report.fault {
        // The scratch file is not the user's: nothing is lost with it.
        clear(&scratch)?;
        return Err(StoreError::Corrupt { table: "audit", row: fault.row.clone(), reason: fault.what.clone() });
    }
    for suffix in ["-wal", "-shm"] {
        remove(&beside(&scratch, suffix))?;
    }
    std::fs::rename(&scratch, &target).map_err(io)?;
    Ok(report)
}

fn beside(database: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The scratch file and what stands beside it; nothing of the user's is lost with them.
fn clear(scratch: &Path) -> Result<(), StoreError> {
    ["", "-wal", "-shm"].into_iter().try_for_each(|suffix| remove(&beside(scratch, suffix)))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => Err(io(failure)),
        Ok(()) | Err(_) => Ok(()),
    }
}
