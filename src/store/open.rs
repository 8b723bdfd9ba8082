//! How the store is opened: its connections, its schema, and what is said when it cannot be.
//!
//! Invariants: a connection goes back to its pool outside of any transaction, or not at all; a server that may
//! answer later by itself is told apart from what a person has to mend.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgConnection, Postgres, Sqlite, SqliteConnection};
use tokio::time::timeout;

use super::{Db, Store, StoreError};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// How long a connection to the server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an end in order may take.
const CLOSE: Duration = Duration::from_secs(1);
/// How long a connection that is taken from the pool, or given back, has for a sign of life.
const ANSWER: Duration = Duration::from_secs(3);
const CHECK_FOLDER: &str = "Check that the folder exists, is writable and has space (key: store.url or --data-dir).";
const CHECK_SERVER: &str = "Check host, port, user, password and database (key: store.url).";
const OTHER_VERSION: &str = "Run that version, or restore a backup (`midwatch restore`; pg_restore for PostgreSQL).";
/// The highest number in sqlx's table of what was applied.
const NEWEST: &str = "SELECT max(version) FROM _sqlx_migrations";

impl Store {
    /// Opens `postgres://...` or a SQLite file; creates and migrates it.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            return Self::open_postgres(address).await;
        }
        Self::open_sqlite(Path::new(address.strip_prefix("sqlite://").unwrap_or(address))).await
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let address = path.display().to_string();
        let failed = |reason: String| StoreError::Open { address: address.clone(), reason, remedy: CHECK_FOLDER };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let options = SqliteConnectOptions::from_str(&format!("sqlite://{address}"))
            .map_err(|error| failed(error.to_string()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // P1: what was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = sqlite_pool().connect_with(options).await.map_err(|error| failed(error.to_string()))?;
        if let Err(failure) = SQLITE_MIGRATIONS.run(&pool).await {
            let newest: Option<i64> = sqlx::query_scalar(NEWEST).fetch_one(&pool).await.unwrap_or_default();
            let (reason, remedy) = unfit(&failure, newest, &SQLITE_MIGRATIONS, CHECK_FOLDER);
            pool.close().await;
            return Err(StoreError::Open { address, reason, remedy });
        }
        // Other processes find the same signs of life beside it, whichever way they came to the file.
        let file = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        Ok(Self::on(Db::Sqlite(pool), None, Some(file)))
    }

    async fn open_postgres(address: &str) -> Result<Self, StoreError> {
        let failed = |failure: &sqlx::Error| {
            let (address, reason, remedy) = (without_password(address), failure.to_string(), CHECK_SERVER);
            match may_come_back(failure) {
                true => StoreError::Away { address, reason, remedy },
                false => StoreError::Open { address, reason, remedy },
            }
        };
        let options = PgConnectOptions::from_str(address).map_err(|error| failed(&error))?;
        // One connection by itself first: a pool says no more than that it has waited for one.
        let mut first = match timeout(CONNECT, PgConnection::connect_with(&options)).await {
            Ok(connected) => connected.map_err(|error| failed(&error))?,
            Err(_) => return Err(failed(&sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
        };
        takes_writes(&mut first).await.map_err(|error| failed(&error))?;
        if let Err(failure) = POSTGRES_MIGRATIONS.run(&mut first).await {
            let newest: Option<i64> = sqlx::query_scalar(NEWEST).fetch_one(&mut first).await.unwrap_or_default();
            let (reason, remedy) = unfit(&failure, newest, &POSTGRES_MIGRATIONS, CHECK_SERVER);
            return Err(StoreError::Open { address: without_password(address), reason, remedy });
        }
        // It has done what it was for; a server that does not take leave is not waited for.
        let _ = timeout(CLOSE, first.close()).await;
        let pool = postgres_pool(8).connect_with(options.clone()).await.map_err(|error| failed(&error))?;
        let lease = postgres_pool(1).connect_with(options).await.map_err(|error| failed(&error))?;
        Ok(Self::on(Db::Postgres(pool), Some(lease), None))
    }
}

fn sqlite_pool() -> PoolOptions<Sqlite> {
    SqlitePoolOptions::new()
        .max_connections(6)
        .after_release(|connection, _| Box::pin(async move { is_at_rest(connection).await }))
}

/// Whether a connection that comes back may be used again. When the disk is full or fails, SQLite ends the
/// transaction by itself (https://www.sqlite.org/lang_transaction.html, 3.1); the ROLLBACK that follows has nothing
/// to end and fails, and sqlx counts one transaction too many from then on. On such a connection `BEGIN IMMEDIATE`
/// is refused and `BEGIN` becomes a savepoint, which after the next failure stays open: it keeps the file locked,
/// and what is "committed" within it is not.
async fn is_at_rest(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // The ROLLBACK of whoever gave up may still be on its way; the connection's thread answers after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// PostgreSQL ends no transaction by itself without the connection, and takes a ROLLBACK too many: its count is right.
fn postgres_pool(connections: u32) -> PoolOptions<Postgres> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Whoever is stopped within a transaction must not keep its locks from the others.
                let limit = "SET idle_in_transaction_session_timeout = '4s'";
                sqlx::query(limit).execute(&mut *connection).await?;
                takes_writes(connection).await
            })
        })
        // As the library's own test of a connection, which asks for a sign of life only.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { takes_writes(connection).await.map(|()| true) }))
        // Of a server that is gone without a word the library would wait for one, and the place in the pool
        // would be lost.
        .after_release(|connection, _| Box::pin(async move { in_time(connection.ping()).await.map(|()| true) }))
}

/// A name that is moved to another server while that one takes over leads to one that only reads, and its
/// connections would stay there.
async fn takes_writes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let reads_only = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";
    match in_time(sqlx::query_scalar(reads_only).fetch_one(connection)).await? {
        false => Ok(()),
        true => {
            let why = "the server takes no writes now: it is a replica, or read-only";
            Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, why)))
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(silent()))
}

/// Whether the server may answer later without anybody's doing: it is restarted or replaced.
fn may_come_back(failure: &sqlx::Error) -> bool {
    use std::io::ErrorKind;
    match failure {
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Io(error) => {
            let gone = matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::TimedOut
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
            );
            // EAI_AGAIN, which has no kind: the name server is away, whereas an unknown name is a wrong URL.
            gone || error.to_string().contains("Temporary failure in name resolution")
        }
        // Shut down by hand, after a crash, starting up, too many connections:
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["57P01", "57P02", "57P03", "53300"].contains(&code.as_ref()))
        }
        // The library may name more of them; none of those is known to pass by itself.
        _ => false,
    }
}

/// What is said of a schema that does not fit, and what to do about it.
fn unfit(
    failure: &MigrateError,
    newest: Option<i64>,
    migrations: &Migrator,
    otherwise: &'static str,
) -> (String, &'static str) {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    match failure {
        MigrateError::VersionMissing(missing) if *missing > known => {
            let newest = newest.unwrap_or(*missing);
            let reason = format!("the store was written by a newer midwatch (schema {newest}; this one knows {known})");
            (reason, OTHER_VERSION)
        }
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            let reason =
                format!("the store was written by another midwatch, whose schema {version} this one does not know");
            (reason, OTHER_VERSION)
        }
        MigrateError::Dirty(version) => {
            let reason = format!("the change of the store to schema {version} was begun and not finished");
            (reason, "Restore a backup from before it, then start the version that changes it again.")
        }
        // The library may name more of them.
        other => (other.to_string(), otherwise),
    }
}

fn without_password(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(mut url) => {
            // Refused only for URLs without a host, which carry no password.
            let _ = url.set_password(url.password().map(|_| "***"));
            url.to_string()
        }
        Err(_) => "an address that is not a URL".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::store::trial::store;
    use crate::store::{AuditEntry, Batch, Packed};

    const NOW: Timestamp = Timestamp::from_secs(1_763_776_800);

    fn said(bytes: usize) -> Batch {
        let body = serde_json::json!({"said": "x".repeat(bytes)});
        Batch { audit: vec![AuditEntry { kind: "test".into(), subject: "test".into(), body }], ..Batch::default() }
    }

    fn arrived(bytes: usize) -> Packed {
        let bytes = vec![7; bytes];
        Packed { source: "test".into(), dedupe: None, received_at: NOW, frames: 1, bytes }
    }

    /// Every connection of the pool at once.
    async fn all(pool: &sqlx::SqlitePool) -> Vec<sqlx::pool::PoolConnection<Sqlite>> {
        let mut held = vec![];
        for _ in 0..6 {
            held.push(pool.acquire().await.unwrap());
        }
        held
    }

    /// As a disk does that has so few pages left, or none of that bound.
    async fn bound(pool: &sqlx::SqlitePool, left: Option<i64>) {
        for mut connection in all(pool).await {
            let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.unwrap();
            let most = left.map_or(i64::from(i32::MAX), |left| pages + left);
            let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count={most}"));
            sqlx::query(sql).execute(&mut *connection).await.unwrap();
        }
        // They go back one by one, and none shall be opened beside them.
        while pool.num_idle() < 6 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_disk_that_was_full_leaves_no_broken_connection() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        bound(pool, Some(4)).await;
        // Each of the six meets it once, on either way into a transaction.
        for round in 0..6 {
            let refused = match round % 2 {
                0 => store.commit(said(1 << 20), NOW).await.map(|_| ()),
                _ => store.take_in_alerts(&[arrived(1 << 20)]).await.map(|_| ()),
            };
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("full"), "round {round}: {refused}");
        }
        // There is space again.
        bound(pool, None).await;
        assert!(all(pool).await.iter().all(|connection| !connection.is_in_transaction()));
        for _ in 0..12 {
            store.commit(said(10), NOW).await.unwrap();
            store.take_in_alerts(&[arrived(10)]).await.unwrap();
            store.ping().await.unwrap();
        }
        assert_eq!(store.audit_head().await.unwrap().0, 12);
        // Committed, and not within a savepoint that only its own connection sees.
        let other = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        assert_eq!((other.audit_head().await.unwrap().0, other.open_alert_rows().await.unwrap().len()), (12, 12));
    }

    #[tokio::test]
    async fn a_connection_in_whose_transaction_the_disk_was_full_is_not_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.db").display().to_string();
        store(&folder).await.close().await;
        let options = SqliteConnectOptions::from_str(&format!("sqlite://{path}")).unwrap();
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut connection).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count={}", pages + 4));
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        // In order, and given up: both come back.
        connection.begin_with("BEGIN IMMEDIATE").await.unwrap().commit().await.unwrap();
        assert!(is_at_rest(&mut connection).await.unwrap());
        drop(connection.begin_with("BEGIN IMMEDIATE").await.unwrap());
        assert!(is_at_rest(&mut connection).await.unwrap());
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let large = "INSERT INTO setting(name,value,at) VALUES('large',$1,0)";
        let refused = sqlx::query(large).bind("x".repeat(1 << 20)).execute(&mut *tx).await.unwrap_err();
        assert!(refused.to_string().contains("full"), "{refused}");
        drop(tx);
        assert!(!is_at_rest(&mut connection).await.unwrap());
    }

    async fn refused(folder: &tempfile::TempDir) -> String {
        match Store::open(&folder.path().join("m.db").display().to_string()).await {
            Ok(_) => panic!("opened"),
            Err(refused) => refused.to_string(),
        }
    }

    #[tokio::test]
    async fn a_store_of_another_version_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let known = SQLITE_MIGRATIONS.iter().map(|migration| migration.version).max().unwrap();
        let opened = store(&folder).await;
        let Db::Sqlite(pool) = &opened.core.db else { panic!("the embedded store") };
        let applied = "INSERT INTO _sqlx_migrations(version,description,success,checksum,execution_time) \
                       VALUES($1,'later',$2,x'00',0)";
        for newer in [known + 1, known + 2] {
            sqlx::query(applied).bind(newer).bind(true).execute(pool).await.unwrap();
        }
        let told = refused(&folder).await;
        let wanted = format!(
            "the store was written by a newer midwatch (schema {}; this one knows {known}). Run that version, or \
             restore a backup",
            known + 2
        );
        assert!(told.contains(&wanted) && !told.contains("has space"), "{told}");
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version>$1").bind(known).execute(pool).await.unwrap();
        sqlx::query("UPDATE _sqlx_migrations SET checksum=x'00' WHERE version=$1")
            .bind(known)
            .execute(pool)
            .await
            .unwrap();
        let told = refused(&folder).await;
        assert!(told.contains(&format!("another midwatch, whose schema {known} this one does not know")), "{told}");
        sqlx::query("UPDATE _sqlx_migrations SET success=false WHERE version=$1")
            .bind(known)
            .execute(pool)
            .await
            .unwrap();
        let told = refused(&folder).await;
        assert!(told.contains(&format!("to schema {known} was begun and not finished. Restore a backup")), "{told}");
    }

    async fn refused_by(address: &str) -> StoreError {
        match Store::open(address).await {
            Ok(_) => panic!("opened"),
            Err(refused) => refused,
        }
    }

    /// A server that says no more than this to whoever comes.
    async fn saying(answer: Vec<u8>) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1024];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(&answer).await;
                // Read on, so that the answer is not lost in a reset.
                let _ = stream.shutdown().await;
                while matches!(stream.read(&mut asked).await, Ok(1..)) {}
            }
        });
        format!("postgres://midwatch:secret@127.0.0.1:{port}/watch?sslmode=disable")
    }

    /// An ErrorResponse of PostgreSQL's protocol.
    fn error(code: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0Msaid so\0\0");
        let length = (fields.len() + 4) as u32;
        [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat()
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told_from_one_that_refuses() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = refused_by(&format!("postgres://midwatch:secret@127.0.0.1:{free}/watch")).await;
        assert!(matches!(refused, StoreError::Away { .. }), "{refused}");
        let told = refused.to_string();
        assert!(told.contains("midwatch:***@") && !told.contains("secret") && told.contains(CHECK_SERVER), "{told}");
        for (answer, away) in [
            (vec![], true),
            (error("57P03"), true),
            (error("53300"), true),
            (error("28P01"), false),
            (error("3D000"), false),
        ] {
            let shown = String::from_utf8_lossy(&answer).into_owned();
            let refused = refused_by(&saying(answer).await).await;
            assert_eq!(matches!(refused, StoreError::Away { .. }), away, "{shown:?}: {refused}");
        }
        let refused = refused_by("postgres://midwatch@[nonsense/watch").await;
        assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
    }
}
