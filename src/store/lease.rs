//! Who leads: one row, taken over by whoever sees it untouched for long enough.
//!
//! Invariants: the epoch grows with every change of holder; a fenced handle writes nothing once the
//! epoch is another one, for the check stands in the transaction of the write; no clock is compared
//! with another's, neither that of a machine nor the store's, so that no jump of one gives a lease away.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::FromRow;
use tokio::sync::watch;

use super::{Db, Store, StoreError, bounded, on};

/// The row as it was read.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Lease {
    /// Empty when it was given back.
    pub holder: String,
    pub epoch: i64,
    /// Grows while the holder lives.
    pub beat: i64,
}

/// What a handle of the store is bound to: it writes while nobody has taken over.
#[derive(Debug, Clone)]
pub struct Fence {
    epoch: i64,
    lost: Arc<watch::Sender<bool>>,
}

impl Fence {
    pub fn new(epoch: i64) -> Self {
        Self { epoch, lost: Arc::new(watch::channel(false).0) }
    }

    /// Turns true when a write has found that somebody else leads.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    pub(super) fn check(&self, now: i64) -> Result<(), StoreError> {
        if now == self.epoch {
            return Ok(());
        }
        self.lost.send_replace(true);
        Err(StoreError::Fenced { ours: self.epoch, now })
    }
}

/// The check of the fence within a transaction. PostgreSQL's lock on the key lets the holder renew, and
/// makes whoever takes over wait for the writes that are under way.
pub(super) const EPOCH: &str = "SELECT epoch FROM lease WHERE name='watch'";
pub(super) const EPOCH_HELD: &str = "SELECT epoch FROM lease WHERE name='watch' FOR KEY SHARE";

/// Nothing is read when the handle is not bound.
macro_rules! within_fence {
    ($store:expr, $tx:ident, $sql:expr) => {
        if let Some(fence) = &$store.fence {
            fence.check(sqlx::query_scalar($sql).fetch_one(&mut *$tx).await?)?;
        }
    };
}
pub(super) use within_fence;

/// One statement in a transaction of its own, within the fence.
macro_rules! write_one {
    ($store:expr, $tx:ident => $body:expr) => {{
        use $crate::store::lease::{EPOCH, EPOCH_HELD, within_fence};
        let _writer = $store.core.writer.lock().await;
        match &$store.core.db {
            $crate::store::Db::Sqlite(pool) => {
                let mut $tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                within_fence!($store, $tx, EPOCH);
                let done = $body.await?;
                $tx.commit().await?;
                done.rows_affected()
            }
            $crate::store::Db::Postgres(pool) => {
                let written = async {
                    let mut $tx = pool.begin().await?;
                    within_fence!($store, $tx, EPOCH_HELD);
                    let done = $body.await?;
                    $tx.commit().await?;
                    Ok::<_, $crate::store::StoreError>(done.rows_affected())
                };
                $crate::store::bounded(Box::pin(written)).await?
            }
        }
    }};
}
pub(super) use write_one;

/// As `on!`, with the connection that nobody else waits for.
macro_rules! on_its_own {
    ($store:expr, $pool:ident => $body:expr) => {
        match (&$store.core.db, &$store.core.lease) {
            (Db::Sqlite($pool), _) => $body,
            (Db::Postgres(_), Some($pool)) | (Db::Postgres($pool), None) => {
                $crate::store::bounded(Box::pin(async { $body })).await
            }
        }
    };
}

const TAKE: &str = "UPDATE lease SET holder=$1, epoch=epoch+1, beat=beat+1 WHERE name='watch' AND epoch=$2 AND beat=$3";

impl Store {
    /// The same store, for whoever leads at this epoch.
    pub fn fenced(&self, fence: Fence) -> Self {
        Self { core: self.core.clone(), fence: Some(fence) }
    }

    pub async fn lease(&self) -> Result<Lease, StoreError> {
        Ok(on_its_own!(self, pool => {
            sqlx::query_as("SELECT holder, epoch, beat FROM lease WHERE name='watch'").fetch_one(pool).await
        })?)
    }

    /// Takes over what was last seen so. `None`: the holder has moved, or somebody else was faster.
    pub async fn take_lease(&self, seen: &Lease, holder: &str) -> Result<Option<Lease>, StoreError> {
        let take = || sqlx::query(TAKE).bind(holder).bind(seen.epoch).bind(seen.beat);
        let taken = match &self.core.db {
            Db::Sqlite(pool) => {
                let _writer = self.core.writer.lock().await;
                let take = sqlx::query(TAKE).bind(holder).bind(seen.epoch).bind(seen.beat);
                take.execute(pool).await?.rows_affected()
            }
            Db::Postgres(pool) => {
                let taking = async {
                    let mut tx = self.core.lease.as_ref().unwrap_or(pool).begin().await?;
                    // Waits for the writes that the holder has under way, and keeps new ones out.
                    sqlx::query("SELECT epoch FROM lease WHERE name='watch' FOR UPDATE").execute(&mut *tx).await?;
                    let taken = take().execute(&mut *tx).await?.rows_affected();
                    tx.commit().await?;
                    Ok::<_, sqlx::Error>(taken)
                };
                bounded(Box::pin(taking)).await?
            }
        };
        let lease = Lease { holder: holder.to_owned(), epoch: seen.epoch + 1, beat: seen.beat + 1 };
        Ok((taken == 1).then_some(lease))
    }

    /// Says that its holder lives. False: somebody else leads.
    pub async fn renew_lease(&self, held: &Lease) -> Result<bool, StoreError> {
        let _writer = match &self.core.db {
            Db::Sqlite(_) => Some(self.core.writer.lock().await),
            Db::Postgres(_) => None,
        };
        let renewed = on_its_own!(self, pool => {
            sqlx::query("UPDATE lease SET beat=beat+1 WHERE name='watch' AND epoch=$1")
                .bind(held.epoch)
                .execute(pool)
                .await
                .map(|done| done.rows_affected())
        })?;
        Ok(renewed == 1)
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release_lease(&self, held: &Lease) -> Result<(), StoreError> {
        let _writer = self.core.writer.lock().await;
        on_its_own!(self, pool => {
            sqlx::query("UPDATE lease SET holder='', beat=beat+1 WHERE name='watch' AND epoch=$1")
                .bind(held.epoch)
                .execute(pool)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Looks whether other processes have changed what is kept in memory here.
    pub async fn refresh_revisions(&self) -> Result<(), StoreError> {
        let rows: Vec<(String, i64)> =
            on!(self, pool => sqlx::query_as("SELECT name, value FROM revision").fetch_all(pool).await)?;
        for (name, value) in rows {
            let (seen, ours) = match name.as_str() {
                "labels" => (&self.core.labels_seen, &self.core.labels),
                "endings" => (&self.core.endings_seen, &self.core.endings),
                _ => continue,
            };
            if seen.swap(value, Ordering::AcqRel) != value {
                ours.fetch_add(1, Ordering::Release);
                // Whoever correlates lets go of what somebody has closed at another door.
                if name == "endings" {
                    self.core.over.fetch_add(1, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    /// Shows others on the same file that this process lives, for as long as the sign is kept. `None`
    /// where there is no such file: then only the beat tells.
    pub fn show_life(&self, holder: &str) -> Option<Sign> {
        let path = sign_of(self.core.file.as_deref()?, holder);
        let file = File::options().create(true).append(true).open(&path).ok()?;
        file.try_lock().ok()?;
        Some(Sign { _file: file, path })
    }

    /// Whether the holder has certainly ended: the system gives its lock back with its life, however
    /// that ended, so nobody need wait for a beat that cannot come.
    pub fn has_died(&self, holder: &str) -> bool {
        let Some(store) = self.core.file.as_deref().filter(|_| !holder.starts_with(WITHOUT_SIGN)) else { return false };
        let path = sign_of(store, holder);
        match File::options().append(true).open(&path) {
            Ok(file) if file.try_lock().is_ok() => {
                // Left lying about it would only be litter.
                let _ = std::fs::remove_file(&path);
                true
            }
            // Without a sign nothing is certain: it may be kept where this process does not look.
            Ok(_) | Err(_) => false,
        }
    }
}

/// How holders are called that could show no sign: where files cannot be locked, only silence tells.
pub const WITHOUT_SIGN: &str = "silent-";

/// The sign of life of one process beside the embedded store.
pub struct Sign {
    _file: File,
    path: PathBuf,
}

impl Sign {
    /// For whoever has given back what it held. Otherwise the file stays, without its lock, and says that
    /// its holder has died.
    pub fn take_down(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn sign_of(store: &Path, holder: &str) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{holder}.alive"));
    store.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::store::trial::{run, store};
    use crate::store::{AuditEntry, Batch};

    const NOW: Timestamp = Timestamp::from_secs(1_763_776_800);

    fn said(word: &str) -> Batch {
        let entry = AuditEntry { kind: word.into(), subject: "test".into(), body: serde_json::json!({}) };
        Batch { audit: vec![entry], ..Batch::default() }
    }

    #[tokio::test]
    async fn whoever_was_overtaken_writes_nothing_more_and_learns_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let free = store.lease().await.unwrap();
        let one = store.take_lease(&free, "one").await.unwrap().unwrap();
        assert_eq!(store.take_lease(&free, "two").await.unwrap(), None, "seen too long ago");
        let fence = Fence::new(one.epoch);
        let led = store.fenced(fence.clone());
        led.commit(said("first"), NOW).await.unwrap();
        assert!(store.renew_lease(&one).await.unwrap());
        let seen = store.lease().await.unwrap();
        assert_eq!((seen.epoch, seen.beat), (one.epoch, one.beat + 1));
        let two = store.take_lease(&seen, "two").await.unwrap().unwrap();
        assert!(!store.renew_lease(&one).await.unwrap() && two.epoch == one.epoch + 1);
        assert!(!*fence.lost().borrow());
        let refused = led.commit(said("second"), NOW).await.unwrap_err();
        assert!(matches!(refused, StoreError::Fenced { ours: 1, now: 2 }), "{refused}");
        assert!(*fence.lost().borrow());
        let refused = led.outbox_retry(1, NOW, "x", "due").await.unwrap_err();
        assert!(matches!(refused, StoreError::Fenced { .. }), "{refused}");
        // People's acts at the door are not bound.
        store.commit(said("third"), NOW).await.unwrap();
        assert_eq!(store.audit_head().await.unwrap().0, 2);
        store.release_lease(&one).await.unwrap();
        assert_eq!(store.lease().await.unwrap().holder, "two", "what is not held is not given back");
        store.release_lease(&two).await.unwrap();
        assert_eq!(store.lease().await.unwrap().holder, "");
    }

    #[tokio::test]
    async fn a_sign_of_life_ends_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let sign = store.show_life("one").unwrap();
        assert!(!store.has_died("one"));
        assert!(!store.has_died("never-seen") && !store.has_died("silent-never-seen"), "not certain");
        // As the system leaves it after `kill -9`: the file without its lock.
        drop(sign);
        assert!(store.has_died("one") && !store.has_died("one"), "said once, then it is gone");
        store.show_life("two").unwrap().take_down();
        assert!(!store.has_died("two"), "gone in order: its lease was given back, so nobody asks");
    }

    #[tokio::test]
    async fn what_another_process_has_ended_is_let_go_here_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let revisions = async || {
            store.refresh_revisions().await.unwrap();
            [store.endings_revision(), store.over_revision(), store.labels_revision()]
        };
        let [endings, over, labels] = revisions().await;
        run(&store, "INSERT INTO revision(name,value) VALUES('endings',7) ON CONFLICT(name) DO UPDATE SET value=7")
            .await;
        assert_eq!(revisions().await, [endings + 1, over + 1, labels]);
        assert_eq!(revisions().await, [endings + 1, over + 1, labels]);
    }

    #[tokio::test]
    async fn a_sign_is_found_whichever_way_the_file_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let (real, linked) = (folder.path().join("real"), folder.path().join("linked"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &linked).unwrap();
        let [one, two] = [real.join("m.db"), linked.join("m.db")].map(|path| path.display().to_string());
        let (one, two) = (Store::open(&one).await.unwrap(), Store::open(&two).await.unwrap());
        let _sign = one.show_life("one").unwrap();
        drop(one.show_life("gone").unwrap());
        assert!(!two.has_died("one") && two.has_died("gone"));
    }
}
