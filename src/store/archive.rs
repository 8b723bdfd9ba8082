//! What leaves the store: audit export, backup and restore, retention.
//!
//! Invariants: nothing of the audit chain or of an incident that is not over is ever removed; alerts and
//! payloads that retention removes were written to a compressed file before. What nobody reads any more goes
//! without one: see `spent`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::QueryBuilder;

use super::cold::{ColdFile, io};
use super::lease::write_one;
use super::{AuditRow, Db, Store, StoreError, on};
use crate::domain::time::Timestamp;

const PAGE: i64 = 2_000;

/// Rows of one DELETE; SQLite allows 32,766 variables.
const CHUNK: usize = 400;

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
    /// Rows that nobody reads any more.
    pub spent: u64,
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
            if rows.is_empty() {
                break;
            }
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
            let written: Vec<i64> = rows.iter().map(|row| row.0).collect();
            retired.alerts += self.forget_alerts(before, &written).await?;
        }
        retired.file = file.finish()?;
        retired.payloads = self.retire_payloads(before, folder, wall_now).await?;
        write_one!(self, tx => {
            sqlx::query("DELETE FROM alert_repeat WHERE judged_at<$1").bind(before.millis()).execute(&mut *tx)
        });
        retired.spent = self.forget_spent(before, wall_now).await?;
        Ok(retired)
    }

    /// Those alone that were written: an incident that ended since makes others old enough. What was moved to
    /// an incident that is not over since stays.
    async fn forget_alerts(&self, before: Timestamp, written: &[i64]) -> Result<u64, StoreError> {
        let mut gone = 0;
        for chunk in written.chunks(CHUNK) {
            gone += write_one!(self, tx => async {
                let mut delete = QueryBuilder::new("DELETE FROM alert WHERE judged_at<");
                delete.push_bind(before.millis());
                delete.push(" AND (incident IS NULL OR incident IN (SELECT id FROM incident WHERE is_over))");
                delete.push(" AND id IN (");
                let mut ids = delete.separated(",");
                for id in chunk {
                    ids.push_bind(*id);
                }
                ids.push_unseparated(")");
                delete.build().execute(&mut *tx).await
            });
        }
        Ok(gone)
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

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Timestamp = Timestamp::from_millis(500);

    /// Alerts that were judged long ago, each with its incident: `INC-1` is over, `INC-2` is not.
    async fn store(folder: &tempfile::TempDir, alerts: &[(i64, Option<&str>)]) -> Store {
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        let incidents = "INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body) VALUES \
             ('INC-1',1,'c','t','resolved',TRUE,1,0,'{}'),('INC-2',2,'c','t','open',FALSE,1,0,'{}')";
        sqlx::query(incidents).execute(pool).await.unwrap();
        for (id, incident) in alerts {
            sqlx::query(
                "INSERT INTO alert(id,inbox_id,cluster,team,fingerprint,name,subject,severity,status,starts_at,\
                 verdict,reason,explanation,incident,judged_at) \
                 VALUES($1,1,'c','t','f','n','s','w','firing',1,'admit','r','e',$2,9)",
            )
            .bind(*id)
            .bind(*incident)
            .execute(pool)
            .await
            .unwrap();
        }
        store
    }

    async fn left(store: &Store) -> Vec<i64> {
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        sqlx::query_scalar("SELECT id FROM alert ORDER BY id").fetch_all(pool).await.unwrap()
    }

    #[tokio::test]
    async fn what_became_old_enough_after_it_was_read_stays_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, &[(1, None), (2, Some("INC-1")), (3, Some("INC-1")), (4, Some("INC-2"))]).await;
        // The second was of an open incident when the page was read; the fourth has been moved to one since.
        assert_eq!(store.forget_alerts(BEFORE, &[1, 3, 4]).await.unwrap(), 2);
        assert_eq!(left(&store).await, [2, 4]);
        let cold = folder.path().join("cold");
        let keep = Retention { hot: Duration::from_millis(500) };
        let retired = store.retire(keep, &cold, Timestamp::from_millis(1_000)).await.unwrap();
        assert_eq!((retired.alerts, left(&store).await), (1, vec![4]));
        let file = zstd::stream::decode_all(std::fs::File::open(retired.file.unwrap()).unwrap()).unwrap();
        let line: Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(line["id"], 2);
    }

    #[tokio::test]
    async fn more_than_one_statement_takes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<i64> = (1..=CHUNK as i64 + 1).collect();
        let alerts: Vec<(i64, Option<&str>)> = ids.iter().map(|id| (*id, None)).collect();
        let store = store(&folder, &alerts).await;
        assert_eq!(store.forget_alerts(BEFORE, &ids).await.unwrap(), ids.len() as u64);
        assert!(left(&store).await.is_empty());
    }
}
