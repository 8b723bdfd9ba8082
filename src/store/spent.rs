//! Rows that nobody reads any more: they go without a cold file.
//!
//! Invariants: nothing of an incident that is not over goes, nor what a click or an edit may still look for
//! after a year: first messages, diagnoses and plans, channels, questions about muted alerts. Evidence stays:
//! its digests stand in the audit chain, and an auditor compares them with what was seen.

use super::lease::write_one;
use super::{Store, StoreError, on};
use crate::domain::time::Timestamp;

/// Removed at once: the watch writes between two of these.
const PAGE: i64 = 2_000;

/// Rows that an earlier version gave up carry no end, but the time of their last try.
const OUTBOX: &str = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox \
     WHERE state IN ('done', 'failed') AND coalesce(done_at, not_before)<$1 LIMIT $2)";

/// How far a model has come with an incident: only whoever goes on with it reads that.
const INVESTIGATIONS: &str = "DELETE FROM setting WHERE name IN (SELECT s.name FROM setting AS s \
     JOIN incident AS i ON s.name='investigation/' || i.id WHERE i.is_over AND s.at<=$1 LIMIT $2)";

/// Notes are posted once and never edited. One that another chat still waits for would be posted again. The
/// newest event of an incident has the number of its version.
const NOTES: &str = "DELETE FROM posted WHERE key IN (SELECT p.key FROM posted AS p \
     WHERE p.at<$1 AND (p.key LIKE '%/note/%' OR p.key LIKE '%/note@%') \
     AND EXISTS (SELECT 1 FROM incident AS i JOIN incident_event AS e ON e.incident=i.id AND e.seq=i.version \
       WHERE i.id=p.incident AND i.is_over AND e.at<$1) \
     AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.state='due' AND o.incident=p.incident) LIMIT $2)";

const MESSAGES: &str = "DELETE FROM message WHERE (channel, ts) IN \
     (SELECT channel, ts FROM message WHERE ts<$1 AND changed<$2 LIMIT $3)";

/// The console reads no more than its newest at a start, and holds no more.
const SHOWN_MESSAGES: i64 = 20_000;
/// The numbers of the newest writes stay: the next one is counted from them, and other consoles look for them.
const NEWEST_WRITES: i64 = 1_000;

impl Store {
    /// Forgets what was done with before then, and how far models had come with what is over now.
    pub(super) async fn forget_spent(&self, before: Timestamp, wall_now: Timestamp) -> Result<u64, StoreError> {
        let deliveries = self.sweep(OUTBOX, before).await?;
        let investigations = self.sweep(INVESTIGATIONS, wall_now).await?;
        let notes = self.sweep(NOTES, before).await?;
        Ok(deliveries + investigations + notes + self.forget_messages(before, SHOWN_MESSAGES).await?)
    }

    async fn sweep(&self, sql: &'static str, before: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let now = write_one!(self, tx => sqlx::query(sql).bind(before.millis()).bind(PAGE).execute(&mut *tx));
            gone += now;
            if now < PAGE as u64 {
                return Ok(gone);
            }
        }
    }

    /// Messages of the local console that are older, but for the newest.
    async fn forget_messages(&self, before: Timestamp, shown: i64) -> Result<u64, StoreError> {
        let oldest_shown: Option<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT ts FROM message ORDER BY ts DESC LIMIT 1 OFFSET $1")
                .bind(shown - 1)
                .fetch_optional(pool)
                .await
        })?;
        let Some(oldest_shown) = oldest_shown else { return Ok(0) };
        // As the console writes its times: seconds, then microseconds, each of one length.
        let before = format!("{:010}.{:03}000", before.millis() / 1_000, before.millis() % 1_000);
        let (before, changed) = (before.min(oldest_shown), self.last_message_write().await? - NEWEST_WRITES);
        let mut gone = 0;
        loop {
            let now = write_one!(self, tx => {
                sqlx::query(MESSAGES).bind(&before).bind(changed).bind(PAGE).execute(&mut *tx)
            });
            gone += now;
            if now < PAGE as u64 {
                return Ok(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::trial::{left, run, store};

    #[tokio::test]
    async fn what_nobody_reads_any_more_goes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        // INC-1 has been over for long, INC-2 is open, INC-3 was over just now.
        for sql in [
            "INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body) VALUES \
             ('INC-1',1,'c','t','resolved',TRUE,1,0,'{}'),('INC-2',2,'c','t','open',FALSE,1,0,'{}'),\
             ('INC-3',3,'c','t','resolved',TRUE,2,0,'{}')",
            "INSERT INTO incident_event(incident,seq,kind,at,body,prev,hash) VALUES \
             ('INC-1',1,'opened',10,'{}','','a'),('INC-2',1,'opened',10,'{}','','a'),\
             ('INC-3',1,'opened',10,'{}','','a'),('INC-3',2,'resolved',900,'{}','a','b')",
            "INSERT INTO setting(name,value,at) VALUES ('investigation/INC-1','{}',20),('investigation/INC-2','{}',20),\
             ('investigation/INC-3','{}',800),('pause/everything','null',20)",
            "INSERT INTO posted(key,chat,channel,ts,incident,at,card) \
             SELECT 'INC-'||n.i||k.key, 'slack', 'C1', n.i||k.key, 'INC-'||n.i, 20, '' \
             FROM (SELECT 1 AS i UNION SELECT 2 UNION SELECT 3) AS n, (SELECT '/root@slack' AS key UNION \
             SELECT '/note/called/1@slack' UNION SELECT '/plan/INC-1.P1@slack' \
             UNION SELECT '/channel/4/note@slack') AS k",
            "INSERT INTO posted(key,chat,channel,ts,incident,at,card) \
             VALUES ('anchor/2026@slack','slack','C1','9',NULL,20,'')",
            "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at,done_at) VALUES \
             ('done','INC-1','{}','done',1,0,0,20),('given up','INC-1','{}','failed',1,0,0,20),\
             ('given up once','INC-1','{}','failed',1,20,0,NULL),('given up now','INC-1','{}','failed',1,0,0,800),\
             ('due','INC-2','{}','due',1,0,0,NULL)",
        ] {
            run(&store, sql).await;
        }
        let (before, now) = (Timestamp::from_millis(500), Timestamp::from_millis(1_000));
        assert_eq!(store.forget_spent(before, now).await.unwrap(), 7);
        let settings = left(&store, "SELECT name FROM setting ORDER BY name").await;
        assert_eq!(settings, ["investigation/INC-2", "pause/everything"]);
        assert_eq!(left(&store, "SELECT key FROM outbox ORDER BY id").await, ["given up now", "due"]);
        let of_one = left(&store, "SELECT key FROM posted WHERE incident='INC-1' ORDER BY key").await;
        assert_eq!(of_one, ["INC-1/plan/INC-1.P1@slack", "INC-1/root@slack"]);
        assert_eq!(left(&store, "SELECT key FROM posted WHERE incident IS NULL OR incident<>'INC-1'").await.len(), 9);
        assert_eq!(store.forget_spent(before, now).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_note_that_another_chat_waits_for_is_not_posted_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        for sql in [
            "INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body) VALUES \
             ('INC-1',1,'c','t','resolved',TRUE,1,0,'{}')",
            "INSERT INTO incident_event(incident,seq,kind,at,body,prev,hash) \
             VALUES ('INC-1',1,'opened',10,'{}','','a')",
            "INSERT INTO posted(key,chat,channel,ts,incident,at,card) \
             VALUES ('INC-1/note/called/1@slack','slack','C1','1','INC-1',20,'')",
            "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) \
             VALUES ('INC-1/note/called/1','INC-1','{}','due',1,0,0)",
        ] {
            run(&store, sql).await;
        }
        let (before, now) = (Timestamp::from_millis(500), Timestamp::from_millis(1_000));
        assert_eq!(store.forget_spent(before, now).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn old_messages_go_when_the_console_shows_newer_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        run(
            &store,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) \
             INSERT INTO message(channel,ts,body,changed) SELECT 'ops', printf('%010d.000000', i), i, i FROM n",
        )
        .await;
        // Edited lately: other consoles look for it.
        store.save_message("ops", "0000000003.000000", "3").await.unwrap();
        let before = Timestamp::from_secs(5);
        assert_eq!(store.forget_messages(before, 2_001).await.unwrap(), 0, "all are shown");
        assert_eq!(store.forget_messages(before, 10).await.unwrap(), 3);
        assert_eq!(left(&store, "SELECT body FROM message ORDER BY ts LIMIT 3").await, ["3", "5", "6"]);
        let all_old = Timestamp::from_secs(9_000);
        assert_eq!(store.forget_messages(all_old, 1_990).await.unwrap(), 6, "the newest stay however old");
        assert_eq!(store.last_message_write().await.unwrap(), 2_001);
    }
}
