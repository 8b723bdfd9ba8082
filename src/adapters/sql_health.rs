//! What a PostgreSQL says of itself, by statements that are fixed here.
//!
//! Invariants: the model chooses a name, never SQL; every look is a read-only transaction with a
//! statement timeout and a lock timeout; at most two connections a database.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::config::DatabaseConfig;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::speciality::Speciality;
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

/// One look: a row of its answer is one line.
struct Look {
    name: &'static str,
    shows: &'static str,
    sql: &'static str,
    /// Whether applications can write what it shows, such as the text of a query.
    taint: Taint,
}

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
        taint: Taint::UserWritable,
    },
    Look {
        name: "activity",
        shows: "sessions by state and by what they wait for",
        sql: "SELECT coalesce(state, 'background') AS state, coalesce(wait_event_type, '-') AS waits_for, \
              coalesce(wait_event, '-') AS wait_event, count(*) AS sessions, \
              round(max(extract(epoch FROM clock_timestamp() - state_change))::numeric, 1) AS longest_seconds \
              FROM pg_stat_activity WHERE pid <> pg_backend_pid() GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 40",
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
        taint: Taint::UserWritable,
    },
];

pub struct SqlHealth {
    databases: Vec<(DatabaseConfig, PgPool)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    database: Option<String>,
    look: String,
}

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

    fn names(&self) -> Vec<&str> {
        self.databases.iter().map(|(config, _)| config.name.as_str()).collect()
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
        let looks: Vec<String> = LOOKS.iter().map(|look| format!("{}: {}", look.name, look.shows)).collect();
        ToolSchema {
            name: "sql_health".to_owned(),
            description: format!("What a PostgreSQL says of itself. Looks: {}.", looks.join("; ")),
            parameters: json!({
                "type": "object",
                "properties": {
                    "database": {"type": "string", "enum": self.names()},
                    "look": {"type": "string", "enum": LOOKS.iter().map(|look| look.name).collect::<Vec<_>>()},
                },
                "required": if self.databases.len() > 1 { json!(["database", "look"]) } else { json!(["look"]) },
                "additionalProperties": false,
            }),
        }
    }

    fn handling(&self) -> Handling {
        let statement = self.databases.iter().map(|(config, _)| config.statement_seconds).max().unwrap_or_default();
        Handling {
            source: "postgres",
            kind: EvidenceKind::Database,
            timeout: Duration::from_secs(statement + 7),
            shown: 4_000,
            specialities: vec![Speciality::Database],
        }
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let refused = InstrumentError::Refused;
        let Arguments { database, look } =
            serde_json::from_value(arguments).map_err(|why| refused(format!("the arguments do not fit: {why}")))?;
        let look = LOOKS.iter().find(|one| one.name == look).ok_or_else(|| {
            let names: Vec<_> = LOOKS.iter().map(|look| look.name).collect();
            refused(format!("there is no look {look:?}; there are {}", names.join(", ")))
        })?;
        let found = match &database {
            Some(name) => self.databases.iter().find(|(config, _)| config.name == *name),
            None => self.databases.first().filter(|_| self.databases.len() == 1),
        };
        let (config, pool) =
            found.ok_or_else(|| refused(format!("`database` must be one of {}", self.names().join(", "))))?;
        let rows = match Self::rows(config, pool, look.sql).await {
            Ok(rows) => rows,
            // No such relation or column, no right to read it: an extension or a newer server is missing.
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| matches!(&*code, "42P01" | "42703" | "42501")) =>
            {
                return Err(refused(format!("{} does not have what `{}` needs: {error}", config.name, look.name)));
            }
            Err(error) => return Err(InstrumentError::Unavailable(format!("{}: {error}", config.name))),
        };
        let lines: Vec<String> = rows.iter().map(|row| line(row)).collect();
        let first = lines.first().map(|line| format!("; {line}")).unwrap_or_default();
        let summary = format!("{} of {}: {} rows{first}", look.name, config.name, lines.len());
        let body = if lines.is_empty() { "no rows".to_owned() } else { lines.join("\n") };
        Ok(Observation { query: format!("{} of {}", look.name, config.name), summary, body, taint: look.taint })
    }

    async fn check(&self) -> Result<String, InstrumentError> {
        let mut told = vec![];
        for (config, pool) in &self.databases {
            let asked = "SELECT current_setting('server_version') AS version, \
                         pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS monitor, \
                         EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') AS statements";
            let rows = Self::rows(config, pool, asked)
                .await
                .map_err(|error| InstrumentError::Unavailable(format!("{}: {error}", config.name)))?;
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
