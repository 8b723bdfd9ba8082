//! What is durable: inbox, alert ledger, incident events, audit chain, outbox.
//!
//! Invariants: state and outgoing effects are written in one transaction (`Batch`); an incident
//! event is unique by (incident, seq) and chained; every event and every decision outside incidents
//! has a link in the one audit chain.

mod announced;
mod archive;
mod audit;
mod batch;
mod cold;
mod inbox;
mod lease;
mod ledger;
mod lists;
mod outbox;
mod people;
mod read;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Mutex;

pub use archive::{Exported, Retention, Retired, restore};
pub use audit::{AuditReport, AuditRow, Fault, audit_link, event_link};
pub use batch::{AuditEntry, Batch, Claim, Draft, ExecutionRow, LedgerRow, NewEffect, PostedRow, ToldLate};
pub use cold::{ColdMessage, Thawed, is_cold, thaw};
pub use inbox::{OpenRow, Packed, pack};
pub use lease::{Fence, Lease, Sign, WITHOUT_SIGN};
/// What a conversation about no incident is called in the audit trail.
pub const CONVERSED: &str = "conversation.reasoned";

/// How the keys of outbox rows begin that are for other systems than chats.
pub const ELSEWHERE: &str = "elsewhere/";

pub use ledger::{FunnelCount, HOUR, LedgerView, Repeats, SentAgain};
pub use lists::{Ended, ListedIncident};
pub use outbox::OutboxRow;
pub use people::{AskedRow, LabelKind, LabelRow, LessonRow, MovedSubjects, NewLabel, Taught};
pub use read::{EventRow, Heard, InboxRow, Member, Scope, Standing};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// One set of SQL texts on two databases; the embedded one is also the test double. A handle may be
/// bound to the epoch of a lease (`fenced`): then it writes only while nobody has taken over.
pub struct Store {
    core: Arc<Core>,
    fence: Option<Fence>,
}

struct Core {
    db: Db,
    /// Of the lease alone: whoever waits for a connection behind a storm at the doors must not lose it.
    lease: Option<PgPool>,
    /// Of the embedded store.
    file: Option<PathBuf>,
    /// SQLite has one writer; waiting here is cheaper and fairer than in its busy handler.
    writer: Mutex<()>,
    /// Grows whenever a label is written: who works with labels reads them again.
    labels: AtomicU64,
    labels_seen: AtomicI64,
    /// Grows whenever an incident ends.
    endings: AtomicU64,
    endings_seen: AtomicI64,
    /// Grows whenever this process writes of an incident that is over, however it came to be.
    over: AtomicU64,
    /// Incidents that this version cannot read, each told once.
    unreadable: std::sync::Mutex<BTreeSet<String>>,
}

pub(crate) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the same expression on whichever pool is open.
macro_rules! on {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.core.db {
            $crate::store::Db::Sqlite($pool) => $body,
            $crate::store::Db::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the incident in between: read again and decide again.
    #[error("{0} was changed by someone else meanwhile")]
    Stale(String),
    #[error("{0}")]
    Illegal(#[from] crate::domain::incident::IllegalTransition),
    #[error("the store cannot be opened at {address}: {reason}. {remedy}")]
    Open { address: String, reason: String, remedy: &'static str },
    /// Another process leads by now: whoever reads this stands down.
    #[error("another process leads (epoch {now}, ours was {ours}); nothing was written")]
    Fenced { ours: i64, now: i64 },
    /// What several waited for together has failed; each is told.
    #[error("{0}")]
    Busy(String),
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    #[error("store holds something unreadable in {table} {row}: {reason}")]
    Corrupt { table: &'static str, row: String, reason: String },
}

impl Store {
    /// Opens `postgres://...` or a SQLite file; creates and migrates it.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            return Self::open_postgres(address).await;
        }
        Self::open_sqlite(Path::new(address.strip_prefix("sqlite://").unwrap_or(address))).await
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Open {
            address: path.display().to_string(),
            reason,
            remedy: "Check that the folder exists, is writable and has space (key: store.url or --data-dir).",
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let options = SqliteConnectOptions::from_str(&format!("sqlite://{}", path.display()))
            .map_err(|error| failed(error.to_string()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // P1: what was acknowledged survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(6)
            .connect_with(options)
            .await
            .map_err(|error| failed(error.to_string()))?;
        SQLITE_MIGRATIONS.run(&pool).await.map_err(|error| failed(error.to_string()))?;
        // Other processes find the same signs of life beside it, whichever way they came to the file.
        let file = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        Ok(Self::on(Db::Sqlite(pool), None, Some(file)))
    }

    async fn open_postgres(address: &str) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Open {
            address: without_password(address),
            reason,
            remedy: "Check host, port, user, password and database (key: store.url).",
        };
        let options = |connections| {
            PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(5)).after_connect(
                |connection, _| {
                    Box::pin(async move {
                        // Whoever is stopped within a transaction must not keep its locks from the others.
                        let limit = "SET idle_in_transaction_session_timeout = '4s'";
                        sqlx::query(limit).execute(connection).await.map(|_| ())
                    })
                },
            )
        };
        let pool = options(8).connect(address).await.map_err(|error| failed(error.to_string()))?;
        let lease = options(1).connect(address).await.map_err(|error| failed(error.to_string()))?;
        POSTGRES_MIGRATIONS.run(&pool).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self::on(Db::Postgres(pool), Some(lease), None))
    }

    fn on(db: Db, lease: Option<PgPool>, file: Option<PathBuf>) -> Self {
        let core = Core {
            db,
            lease,
            file,
            writer: Mutex::new(()),
            labels: AtomicU64::new(0),
            labels_seen: AtomicI64::new(0),
            endings: AtomicU64::new(0),
            endings_seen: AtomicI64::new(0),
            over: AtomicU64::new(0),
            unreadable: std::sync::Mutex::default(),
        };
        Self { core: Arc::new(core), fence: None }
    }

    pub fn kind(&self) -> &'static str {
        match &self.core.db {
            Db::Sqlite(_) => "sqlite",
            Db::Postgres(_) => "postgres",
        }
    }

    /// Another number than before means that labels have changed.
    pub fn labels_revision(&self) -> u64 {
        self.core.labels.load(Ordering::Acquire)
    }

    /// Another number than before means that incidents have ended.
    pub fn endings_revision(&self) -> u64 {
        self.core.endings.load(Ordering::Acquire)
    }

    /// Another number than before means that an incident may be over that was not.
    pub fn over_revision(&self) -> u64 {
        self.core.over.load(Ordering::Acquire)
    }

    /// Whether anybody reads or writes at this moment.
    pub fn is_busy(&self) -> bool {
        on!(self, pool => pool.num_idle() < pool.size() as usize)
    }

    /// Whether a write would succeed now.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    pub async fn close(&self) {
        on!(self, pool => pool.close().await);
        if let Some(lease) = &self.core.lease {
            lease.close().await;
        }
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
