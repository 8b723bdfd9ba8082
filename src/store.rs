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
mod open;
mod outbox;
mod people;
mod read;
mod spent;
mod standing;
#[cfg(test)]
mod trial;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{PgPool, SqlitePool};
use tokio::sync::Mutex;

pub use archive::{Exported, Retention, Retired, restore};
pub use audit::{AuditReport, AuditRow, Fault, audit_link, event_link};
pub use batch::{AuditEntry, Batch, Claim, Draft, ExecutionRow, LedgerRow, NewEffect, PostedRow, ToldLate};
pub use cold::{ColdMessage, Thawed, is_cold, thaw};
pub use inbox::{OpenRow, Packed, pack};
pub use lease::{Fence, Lease, Sign, WITHOUT_SIGN};
pub use ledger::{FunnelCount, HOUR, LedgerView, Repeats, SentAgain};
pub use lists::{Ended, ListedIncident};
pub use outbox::OutboxRow;
pub use people::{AskedRow, LabelKind, LabelRow, LessonRow, MovedSubjects, NewLabel, Taught};
pub use read::{EventRow, InboxRow, Scope};
pub use standing::{Heard, Member, Standing};

/// What a conversation about no incident is called in the audit trail.
pub const CONVERSED: &str = "conversation.reasoned";

/// How the keys of outbox rows begin that are for other systems than chats.
pub const ELSEWHERE: &str = "elsewhere/";

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
    /// Whoever verifies the audit trail reads all of it: the next one waits.
    audited: Mutex<()>,
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
            $crate::store::Db::Postgres($pool) => $crate::store::bounded(Box::pin(async { $body })).await,
        }
    };
}
pub(crate) use on;

/// What takes as long as it takes.
macro_rules! on_unbounded {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.core.db {
            $crate::store::Db::Sqlite($pool) => $body,
            $crate::store::Db::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on_unbounded;

/// No question to a server takes longer, but for one that is gone without a word: its sockets stay as they are,
/// and whoever waits for an answer would wait for ever.
const LONGEST: Duration = Duration::from_secs(45);

/// What was asked of a server may have been done all the same, as when its connection breaks.
pub(crate) async fn bounded<T, E: From<sqlx::Error>>(
    asked: std::pin::Pin<Box<impl std::future::Future<Output = Result<T, E>>>>,
) -> Result<T, E> {
    let silent = || {
        let why = format!("the server has not answered for {} s", LONGEST.as_secs());
        E::from(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)))
    };
    tokio::time::timeout(LONGEST, asked).await.unwrap_or_else(|_| Err(silent()))
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the incident in between: read again and decide again.
    #[error("{0} was changed by someone else meanwhile")]
    Stale(String),
    #[error("{0}")]
    Illegal(#[from] crate::domain::incident::IllegalTransition),
    #[error("the store cannot be opened at {address}: {reason}. {remedy}")]
    Open { address: String, reason: String, remedy: &'static str },
    /// As `Open`, of a server that may answer later without anybody's doing.
    #[error("the store cannot be opened at {address}: {reason}. {remedy}")]
    Away { address: String, reason: String, remedy: &'static str },
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
            audited: Mutex::new(()),
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
        on_unbounded!(self, pool => pool.num_idle() < pool.size() as usize)
    }

    /// Whether the store takes a write now, whoever leads. Who has to wait behind others knows that they
    /// write, and asks no more than whether the store answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PATIENCE, self.try_to_write()).await {
            Ok(Err(refused)) if !self.is_locked(&refused) => return Err(refused.into()),
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) | Err(_) => {}
        }
        on!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    /// Committed, since what is rolled back never asks the disk. Its row means nothing to anybody, so that no
    /// fence stands before it.
    async fn try_to_write(&self) -> Result<(), sqlx::Error> {
        const PROBE: &str = "INSERT INTO setting(name,value,at) VALUES('store_probe','',0) \
             ON CONFLICT(name) DO UPDATE SET at=setting.at+1";
        let _writer = match &self.core.db {
            Db::Sqlite(_) => Some(self.core.writer.lock().await),
            Db::Postgres(_) => None,
        };
        on!(self, pool => sqlx::query(PROBE).execute(pool).await.map(|_| ()))
    }

    /// Whether another process writes to the embedded store: SQLite's code for that, or one of its kinds.
    fn is_locked(&self, refused: &sqlx::Error) -> bool {
        const BUSY: u32 = 5;
        let code = match &self.core.db {
            Db::Sqlite(_) => refused.as_database_error().and_then(|error| error.code()),
            Db::Postgres(_) => None,
        };
        code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == BUSY)
    }

    pub async fn close(&self) {
        on_unbounded!(self, pool => pool.close().await);
        if let Some(lease) = &self.core.lease {
            lease.close().await;
        }
    }
}

/// How long the probe of readiness waits for its turn: those who ask wait a second.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::trial::store;

    #[tokio::test]
    async fn a_store_that_can_be_read_only_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        for _ in 0..2 {
            store.ping().await.unwrap();
        }
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        let full = "CREATE TRIGGER full BEFORE INSERT ON setting BEGIN SELECT RAISE(FAIL, 'disk is full'); END";
        sqlx::query(full).execute(pool).await.unwrap();
        let refused = store.ping().await.unwrap_err().to_string();
        assert!(refused.contains("disk is full"), "{refused}");
    }

    #[tokio::test]
    async fn who_does_not_lead_and_who_waits_for_the_writer_are_ready() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        store.fenced(Fence::new(7)).ping().await.unwrap();
        let writer = store.core.writer.lock().await;
        store.ping().await.unwrap();
        drop(writer);
        // Another process that writes.
        let other = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let Db::Sqlite(pool) = &other.core.db else { panic!("the embedded store") };
        let held = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        store.ping().await.unwrap();
        held.rollback().await.unwrap();
    }
}
