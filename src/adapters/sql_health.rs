//! What a PostgreSQL says of itself, by statements that are fixed here.
//!
//! Invariants: the model chooses a name, never SQL; every look is a read-only transaction with a
//! statement timeout and a lock timeout; at most two connections a database.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::database_health::{Asked, Kind, Look, away, is_unanswered};
use crate::config::DatabaseConfig;
use crate::domain::evidence::Taint;
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

const LOOKS: [Look; 9] = [
    Look {
        name: "connections",
        shows: "connections against the limit, by database, user and application",
        sql: "SELECT current_setting('max_connections')::int AS max, \
              current_setting('superuser_reserved_connections')::int AS reserved, \
              (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, \
              coalesce(datname, '-') AS database, coalesce(usename, '-') AS role, \
              coalesce(nullif(application_name, ''), '-') AS application, count(*) AS connections, \
              count(*) FILTER (WHERE state = 'active') AS active, \
              count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction \
              FROM pg_stat_activity WHERE backend_type = 'client backend' \
              GROUP BY 4, 5, 6 ORDER BY 7 DESC LIMIT 30",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "activity",
        shows: "sessions by state and by what they wait for",
        sql: "SELECT coalesce(state, 'background') AS state, coalesce(wait_event_type, '-') AS waits_for, \
              coalesce(wait_event, '-') AS wait_event, count(*) AS sessions, \
              round(max(extract(epoch FROM clock_timestamp() - state_change))::numeric, 1) AS longest_seconds \
              FROM pg_stat_activity WHERE pid <> pg_backend_pid() GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 40",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "transactions",
        shows: "the ten longest open transactions",
        sql: "SELECT pid, coalesce(usename, '-') AS role, coalesce(application_name, '-') AS application, state, \
              round(extract(epoch FROM clock_timestamp() - xact_start)::numeric, 1) AS open_seconds, \
              coalesce(wait_event_type || ':' || wait_event, '-') AS waits_for, left(query, 200) AS query \
              FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() \
              ORDER BY xact_start LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "locks",
        shows: "who waits for a lock, who holds it, for how long",
        sql: "SELECT waiting.pid, pg_blocking_pids(waiting.pid) AS blocked_by, \
              round(extract(epoch FROM clock_timestamp() - waiting.state_change)::numeric, 1) AS waiting_seconds, \
              left(waiting.query, 150) AS query, holder.state AS holder_state, \
              round(extract(epoch FROM clock_timestamp() - holder.xact_start)::numeric, 1) AS holder_open_seconds, \
              left(holder.query, 150) AS holder_query \
              FROM pg_stat_activity waiting LEFT JOIN pg_stat_activity holder \
              ON holder.pid = (pg_blocking_pids(waiting.pid))[1] \
              WHERE cardinality(pg_blocking_pids(waiting.pid)) > 0 ORDER BY 3 DESC LIMIT 20",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "replication",
        shows: "standbys and their lag, replication slots and what they hold back, own lag of a standby",
        sql: "SELECT 'standby' AS kind, coalesce(nullif(application_name, ''), client_addr::text, '-') AS name, \
              state, sync_state AS detail, pg_wal_lsn_diff(sent_lsn, replay_lsn)::bigint AS lag_bytes, \
              round(extract(epoch FROM replay_lag)::numeric, 1) AS lag_seconds FROM pg_stat_replication \
              UNION ALL SELECT 'slot', slot_name, CASE WHEN active THEN 'active' ELSE 'INACTIVE' END, wal_status, \
              pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
              ELSE pg_current_wal_lsn() END, restart_lsn)::bigint, NULL FROM pg_replication_slots \
              UNION ALL SELECT 'this server', CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END, \
              '-', '-', CASE WHEN pg_is_in_recovery() \
              THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint END, \
              CASE WHEN pg_is_in_recovery() THEN \
              round(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::numeric, 1) END",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "tables",
        shows: "the ten tables with the most dead rows, their size and when they were vacuumed",
        sql: "SELECT schemaname || '.' || relname AS table, n_live_tup AS live_rows, n_dead_tup AS dead_rows, \
              round(n_dead_tup::numeric / greatest(n_live_tup + n_dead_tup, 1), 3) AS dead_share, \
              pg_total_relation_size(relid) AS bytes, seq_scan, idx_scan, \
              date_trunc('second', last_autovacuum) AS last_autovacuum, \
              date_trunc('second', last_autoanalyze) AS last_autoanalyze \
              FROM pg_stat_user_tables ORDER BY n_dead_tup DESC, pg_total_relation_size(relid) DESC LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "statements",
        shows: "the ten statements that take the most time (needs pg_stat_statements)",
        sql: "SELECT calls, round(total_exec_time::numeric, 0) AS total_ms, round(mean_exec_time::numeric, 2) AS mean_ms, \
              round(max_exec_time::numeric, 0) AS max_ms, rows, shared_blks_read, temp_blks_written, \
              left(regexp_replace(query, '\\s+', ' ', 'g'), 200) AS query \
              FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
              ORDER BY total_exec_time DESC LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "databases",
        shows: "commits, rollbacks, deadlocks, temporary files, cache hits, size and transaction age of each database",
        sql: "SELECT stat.datname AS database, numbackends AS connections, xact_commit AS commits, \
              xact_rollback AS rollbacks, deadlocks, conflicts, temp_files, temp_bytes, \
              round(blks_hit::numeric / greatest(blks_hit + blks_read, 1), 3) AS cache_hit_share, \
              CASE WHEN has_database_privilege(stat.datid, 'CONNECT') THEN pg_database_size(stat.datid) END AS bytes, \
              age(base.datfrozenxid) AS transaction_age \
              FROM pg_stat_database stat JOIN pg_database base ON base.oid = stat.datid \
              WHERE NOT base.datistemplate ORDER BY numbackends DESC LIMIT 20",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "vacuum",
        shows: "running vacuums, and the age of the oldest transaction that holds them back",
        sql: "SELECT 'running' AS kind, coalesce(relid::regclass::text, '-') AS name, phase AS detail, \
              heap_blks_scanned::text || ' of ' || heap_blks_total::text || ' blocks' AS progress \
              FROM pg_stat_progress_vacuum \
              UNION ALL SELECT 'oldest transaction', coalesce(application_name, '-'), coalesce(state, '-'), \
              age(backend_xmin)::text || ' transactions behind' FROM (SELECT * FROM pg_stat_activity \
              WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() ORDER BY age(backend_xmin) DESC LIMIT 3) held",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
];

pub struct SqlHealth {
    databases: Vec<Asked<PgPool>>,
}

const KIND: Kind = Kind {
    tool: "sql_health",
    server: "PostgreSQL",
    source: "postgres",
    looks: &LOOKS,
    lacking: &["42P01", "42703", "42501"],
    // Invalid authorisation, an unknown database, no right to connect to it.
    is_ours: |error| error.code().is_some_and(|code| code.starts_with("28") || code == "3D000" || code == "42501"),
};

impl SqlHealth {
    /// Connects when it is first asked.
    pub fn new(databases: &[DatabaseConfig]) -> Result<Self, String> {
        let open = |config: &DatabaseConfig| {
            let url = config.url.reveal().unwrap_or_default();
            let options: PgConnectOptions =
                url.parse().map_err(|_| format!("{}: `url` is not an address of PostgreSQL", config.name))?;
            let pool = PgPoolOptions::new()
                .max_connections(2)
                .min_connections(0)
                .idle_timeout(Duration::from_secs(60))
                .acquire_timeout(Duration::from_secs(5))
                .connect_lazy_with(options.application_name("midwatch"));
            Ok((config.clone(), pool))
        };
        Ok(Self { databases: databases.iter().map(open).collect::<Result<_, String>>()? })
    }

    /// Each row as JSON, in the order of the columns.
    async fn rows(config: &DatabaseConfig, pool: &PgPool, sql: &str) -> Result<Vec<String>, sqlx::Error> {
        let mut transaction = pool.begin().await?;
        sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *transaction).await?;
        let limit = config.statement_seconds * 1_000;
        for setting in [format!("SET LOCAL statement_timeout = {limit}"), "SET LOCAL lock_timeout = 1000".to_owned()] {
            sqlx::query(sqlx::AssertSqlSafe(setting)).execute(&mut *transaction).await?;
        }
        let asked = format!("SELECT row_to_json(answer)::text FROM ({sql}) answer");
        let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(asked)).fetch_all(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(rows)
    }
}

#[async_trait]
impl Instrument for SqlHealth {
    fn schema(&self) -> ToolSchema {
        KIND.schema(&self.databases)
    }

    fn handling(&self) -> Handling {
        KIND.handling(&self.databases)
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let (look, config, pool) = KIND.chosen(arguments, &self.databases)?;
        let rows = Self::rows(config, pool, look.sql).await;
        if let Err(error) = &rows
            && is_unanswered(error)
        {
            return KIND.unanswered(config, error, &*pool.connect_options()).await;
        }
        let lines = rows.map(|rows| rows.iter().map(|row| line(row)).collect());
        KIND.told(look, config, lines)
    }

    async fn check(&self) -> Result<String, InstrumentError> {
        let mut told = vec![];
        for (config, pool) in &self.databases {
            let asked = "SELECT current_setting('server_version') AS version, \
                         pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS monitor, \
                         EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') AS statements";
            let rows = Self::rows(config, pool, asked).await.map_err(|error| away(config, &error))?;
            let row: Value = rows.first().and_then(|row| serde_json::from_str(row).ok()).unwrap_or_default();
            let mut line = format!("{} is PostgreSQL {}", config.name, row["version"].as_str().unwrap_or("?"));
            if row["monitor"] == false {
                line.push_str(", its role lacks pg_monitor and sees its own sessions only");
            }
            if row["statements"] == false {
                line.push_str(", without pg_stat_statements");
            }
            told.push(line);
        }
        Ok(told.join("; "))
    }
}

/// `state=active sessions=3`; what is null is left out.
fn line(row: &str) -> String {
    let Ok(Value::Object(row)) = serde_json::from_str(row) else { return row.to_owned() };
    let pairs = row.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::String(text) => format!("{name}={}", text.replace('\n', " ")),
        other => format!("{name}={other}"),
    });
    pairs.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statements_only_read() {
        for look in &LOOKS {
            assert!(look.sql.starts_with("SELECT ") && !look.sql.contains(';'), "{}", look.name);
        }
    }

    #[test]
    fn a_row_is_a_line() {
        assert_eq!(line(r#"{"state":"active","pid":3,"query":"a\nb","none":null}"#), "state=active pid=3 query=a b");
    }

    /// Every statement against a real server, where there is one.
    #[tokio::test]
    async fn a_real_server_answers_every_look_and_lets_nothing_be_written() {
        let Some(url) = std::env::var("MIDWATCH_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) else {
            eprintln!("skipped: MIDWATCH_TEST_POSTGRES not set");
            return;
        };
        let config: DatabaseConfig = toml::from_str(&format!("name = \"db\"\nurl = \"{url}\"")).unwrap();
        let health = SqlHealth::new(std::slice::from_ref(&config)).unwrap();
        assert!(health.check().await.unwrap().starts_with("db is PostgreSQL "));
        for look in LOOKS.iter().filter(|look| look.name != "statements") {
            let seen = health.ask(json!({"look": look.name})).await;
            assert!(seen.as_ref().is_ok_and(|seen| seen.query == format!("{} of db", look.name)), "{seen:?}");
        }
        let used = health.ask(json!({"look": "connections"})).await.unwrap();
        assert!(used.summary.contains("max=") && used.body.contains("application=midwatch"), "{}", used.body);
        let (_, pool) = &health.databases[0];
        let write =
            SqlHealth::rows(&config, pool, "SELECT oid FROM pg_database FOR UPDATE").await.unwrap_err().to_string();
        assert!(write.contains("read-only transaction"), "{write}");
        let unknown = health.ask(json!({"look": "SELECT 1"})).await.unwrap_err().to_string();
        assert!(unknown.contains("there are connections, activity"), "{unknown}");
    }
}
