//! What a MySQL or MariaDB says of itself, by statements that are fixed here.
//!
//! Invariants: the model chooses a name, never SQL; every session is read-only with a time limit for
//! statements and for locks; at most two connections a database.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, Executor as _, MySqlPool, Row as _, ValueRef as _};

use super::database_health::{Asked, Kind, Look, away, is_unanswered};
use crate::config::DatabaseConfig;
use crate::domain::evidence::Taint;
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

const LOOKS: [Look; 8] = [
    Look {
        name: "connections",
        shows: "connections against the limit, by user, database and host",
        sql: "SELECT @@max_connections AS max, (SELECT count(*) FROM information_schema.processlist) AS used, \
              coalesce(user, '-') AS role, coalesce(db, '-') AS db, substring_index(host, ':', 1) AS client, \
              count(*) AS connections, sum(command = 'Sleep') AS sleeping \
              FROM information_schema.processlist GROUP BY 3, 4, 5 ORDER BY 6 DESC LIMIT 30",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "activity",
        shows: "sessions by command and by what they do or wait for",
        sql: "SELECT command, coalesce(nullif(state, ''), '-') AS state, count(*) AS sessions, \
              max(time) AS longest_seconds FROM information_schema.processlist WHERE id <> connection_id() \
              GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 40",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "transactions",
        shows: "the ten longest open transactions of InnoDB",
        sql: "SELECT trx_mysql_thread_id AS thread, trx_state AS state, \
              timestampdiff(SECOND, trx_started, now()) AS open_seconds, trx_rows_locked AS rows_locked, \
              trx_rows_modified AS rows_modified, coalesce(left(trx_query, 200), '-') AS query \
              FROM information_schema.innodb_trx ORDER BY trx_started LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "locks",
        shows: "who waits for a lock of InnoDB and who holds it",
        sql: "SELECT waiting.trx_mysql_thread_id AS thread, holder.trx_mysql_thread_id AS blocked_by, \
              timestampdiff(SECOND, waiting.trx_wait_started, now()) AS waiting_seconds, \
              coalesce(left(waiting.trx_query, 150), '-') AS query, \
              timestampdiff(SECOND, holder.trx_started, now()) AS holder_open_seconds, \
              coalesce(left(holder.trx_query, 150), '-') AS holder_query \
              FROM performance_schema.data_lock_waits wait \
              JOIN information_schema.innodb_trx waiting ON waiting.trx_id = wait.requesting_engine_transaction_id \
              JOIN information_schema.innodb_trx holder ON holder.trx_id = wait.blocking_engine_transaction_id \
              ORDER BY 3 DESC LIMIT 20",
        or: Some(
            "SELECT waiting.trx_mysql_thread_id AS thread, holder.trx_mysql_thread_id AS blocked_by, \
             timestampdiff(SECOND, waiting.trx_wait_started, now()) AS waiting_seconds, \
             coalesce(left(waiting.trx_query, 150), '-') AS query, \
             timestampdiff(SECOND, holder.trx_started, now()) AS holder_open_seconds, \
             coalesce(left(holder.trx_query, 150), '-') AS holder_query \
             FROM information_schema.innodb_lock_waits wait \
             JOIN information_schema.innodb_trx waiting ON waiting.trx_id = wait.requesting_trx_id \
             JOIN information_schema.innodb_trx holder ON holder.trx_id = wait.blocking_trx_id \
             ORDER BY 3 DESC LIMIT 20",
        ),
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "replication",
        shows: "of a replica: whether it receives and applies, how far it is behind, its last errors",
        sql: "SHOW REPLICA STATUS",
        or: Some("SHOW SLAVE STATUS"),
        columns: &[
            "Channel_Name",
            "Replica_IO_Running",
            "Replica_SQL_Running",
            "Seconds_Behind_Source",
            "Slave_IO_Running",
            "Slave_SQL_Running",
            "Seconds_Behind_Master",
            "Last_IO_Error",
            "Last_SQL_Error",
        ],
        taint: Taint::UserWritable,
    },
    Look {
        name: "tables",
        shows: "the ten largest tables: rows (estimated), bytes of data and indexes, free bytes inside",
        sql: "SELECT concat(table_schema, '.', table_name) AS name, engine, table_rows, data_length, index_length, \
              data_free FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
              AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
              ORDER BY data_length + index_length DESC LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
    Look {
        name: "statements",
        shows: "the ten kinds of statements that take the most time (needs performance_schema)",
        sql: "SELECT coalesce(schema_name, '-') AS db, count_star AS calls, round(sum_timer_wait / 1e9) AS total_ms, \
              round(avg_timer_wait / 1e9, 2) AS mean_ms, round(max_timer_wait / 1e9) AS max_ms, \
              sum_rows_examined AS rows_examined, sum_no_index_used AS without_index, left(digest_text, 200) AS query \
              FROM performance_schema.events_statements_summary_by_digest ORDER BY sum_timer_wait DESC LIMIT 10",
        or: None,
        columns: &[],
        taint: Taint::UserWritable,
    },
    Look {
        name: "counters",
        shows: "threads, refused and aborted connections, slow queries, lock waits, deadlocks, buffer pool, since the start",
        sql: "SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', 'Threads_running', 'Threads_connected', \
              'Max_used_connections', 'Connection_errors_max_connections', 'Aborted_connects', 'Aborted_clients', \
              'Questions', 'Slow_queries', 'Innodb_row_lock_current_waits', 'Innodb_row_lock_waits', \
              'Innodb_row_lock_time_avg', 'Innodb_deadlocks', 'Innodb_buffer_pool_reads', \
              'Innodb_buffer_pool_read_requests', 'Innodb_buffer_pool_wait_free', 'Created_tmp_disk_tables', \
              'Table_locks_waited', 'Opened_tables')",
        or: None,
        columns: &[],
        taint: Taint::Observed,
    },
];

pub struct MysqlHealth {
    databases: Vec<Asked<MySqlPool>>,
}

const KIND: Kind = Kind {
    tool: "mysql_health",
    server: "MySQL or MariaDB",
    source: "mysql",
    looks: &LOOKS,
    lacking: &["42S02", "42S22", "42000"],
    // Access denied (to the server, to the database, by the plugin), an unknown database, a host that may not.
    is_ours: |error| {
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        number.is_some_and(|number| [1044, 1045, 1049, 1130, 1698].contains(&number))
    },
};

impl MysqlHealth {
    /// Connects when it is first asked.
    pub fn new(databases: &[DatabaseConfig]) -> Result<Self, String> {
        let open = |config: &DatabaseConfig| {
            let url = config.url.reveal().unwrap_or_default();
            let options: MySqlConnectOptions =
                url.parse().map_err(|_| format!("{}: `url` is not an address of MySQL", config.name))?;
            let seconds = config.statement_seconds;
            let pool = MySqlPoolOptions::new()
                .max_connections(2)
                .min_connections(0)
                .idle_timeout(Duration::from_secs(60))
                .acquire_timeout(Duration::from_secs(5))
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        // Each server knows one of the two limits: MariaDB in seconds, MySQL in milliseconds.
                        let limits = [
                            format!("SET SESSION max_statement_time = {seconds}"),
                            format!("SET SESSION max_execution_time = {}", seconds * 1_000),
                        ];
                        let mut limited = false;
                        let mut last = None;
                        for limit in limits {
                            match connection.execute(AssertSqlSafe(limit)).await {
                                Ok(_) => limited = true,
                                Err(unknown) => last = Some(unknown),
                            }
                        }
                        if let (false, Some(error)) = (limited, last) {
                            return Err(error);
                        }
                        connection.execute("SET SESSION innodb_lock_wait_timeout = 1").await?;
                        connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
                        Ok(())
                    })
                })
                .connect_lazy_with(options);
            Ok((config.clone(), pool))
        };
        Ok(Self { databases: databases.iter().map(open).collect::<Result<_, String>>()? })
    }

    async fn rows(pool: &MySqlPool, look: &Look) -> Result<Vec<String>, sqlx::Error> {
        let mut rows = pool.fetch_all(sqlx::raw_sql(AssertSqlSafe(look.sql))).await;
        if let (Err(sqlx::Error::Database(_)), Some(or)) = (&rows, look.or)
            && let Ok(others) = pool.fetch_all(sqlx::raw_sql(AssertSqlSafe(or))).await
        {
            // When neither works the first one's error is told, of the statement for newer servers.
            rows = Ok(others);
        }
        rows?.iter().map(|row| line(row, look.columns)).collect()
    }
}

#[async_trait]
impl Instrument for MysqlHealth {
    fn schema(&self) -> ToolSchema {
        KIND.schema(&self.databases)
    }

    fn handling(&self) -> Handling {
        KIND.handling(&self.databases)
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let (look, config, pool) = KIND.chosen(arguments, &self.databases)?;
        let lines = Self::rows(pool, look).await;
        if let Err(error) = &lines
            && is_unanswered(error)
        {
            return KIND.unanswered(config, error, &*pool.connect_options()).await;
        }
        KIND.told(look, config, lines)
    }

    async fn check(&self) -> Result<String, InstrumentError> {
        let asked = Look {
            name: "check",
            shows: "",
            sql: "SELECT version() AS version, @@performance_schema AS statements",
            or: None,
            columns: &[],
            taint: Taint::Observed,
        };
        let mut told = vec![];
        for (config, pool) in &self.databases {
            let lines = Self::rows(pool, &asked).await.map_err(|error| away(config, &error))?;
            let said = lines.first().map(String::as_str).unwrap_or_default();
            let version = said.split(' ').next().unwrap_or_default().trim_start_matches("version=");
            let without = if said.ends_with("statements=0") { ", without performance_schema" } else { "" };
            told.push(format!("{} is MySQL or MariaDB {version}{without}", config.name));
        }
        Ok(told.join("; "))
    }
}

/// `state=Sleep sessions=3`; what is null is left out. Over the text protocol every value is text.
fn line(row: &MySqlRow, columns: &[&str]) -> Result<String, sqlx::Error> {
    let mut parts = vec![];
    for (at, column) in row.columns().iter().enumerate() {
        let name = column.name();
        let told = columns.is_empty() || columns.contains(&name);
        if !told || row.try_get_raw(at)?.is_null() {
            continue;
        }
        let bytes: Vec<u8> = row.try_get_unchecked(at)?;
        let text = String::from_utf8_lossy(&bytes).replace('\n', " ");
        if !text.is_empty() {
            parts.push(format!("{name}={text}"));
        }
    }
    Ok(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statements_only_read() {
        for sql in LOOKS.iter().flat_map(|look| [Some(look.sql), look.or]).flatten() {
            assert!((sql.starts_with("SELECT ") || sql.starts_with("SHOW ")) && !sql.contains(';'), "{sql}");
        }
    }

    /// Every statement against a real server, where there is one.
    #[tokio::test]
    async fn a_real_server_answers_every_look_and_lets_nothing_be_written() {
        let Some(url) = std::env::var("MIDWATCH_TEST_MYSQL").ok().filter(|url| !url.is_empty()) else {
            eprintln!("skipped: MIDWATCH_TEST_MYSQL not set");
            return;
        };
        let config: DatabaseConfig = toml::from_str(&format!("name = \"db\"\nurl = \"{url}\"")).unwrap();
        let health = MysqlHealth::new(std::slice::from_ref(&config)).unwrap();
        assert!(health.check().await.unwrap().starts_with("db is MySQL or MariaDB 1"), "{:?}", health.check().await);
        for look in &LOOKS {
            let seen = health.ask(json!({"look": look.name})).await;
            assert!(seen.as_ref().is_ok_and(|seen| seen.query == format!("{} of db", look.name)), "{seen:?}");
        }
        let used = health.ask(json!({"look": "connections"})).await.unwrap();
        assert!(used.summary.contains("max=") && used.body.contains("connections="), "{}", used.body);
        let counters = health.ask(json!({"look": "counters"})).await.unwrap();
        assert!(counters.body.contains("Variable_name=Threads_connected Value="), "{}", counters.body);
        let (_, pool) = &health.databases[0];
        let write = pool.execute("CREATE DATABASE midwatch_wrote").await.unwrap_err().to_string();
        assert!(write.to_lowercase().contains("read only") || write.contains("READ ONLY"), "{write}");
        let unknown = health.ask(json!({"look": "SELECT 1"})).await.unwrap_err().to_string();
        assert!(unknown.contains("there are connections, activity"), "{unknown}");
    }
}
