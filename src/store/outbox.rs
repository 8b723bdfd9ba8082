//! What is to be told, in order, and what has been told where.

use super::lease::write_one;
use super::{Store, StoreError, on};
use crate::domain::id::IncidentId;
use crate::domain::time::Timestamp;
use crate::ports::MessageRef;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OutboxRow {
    pub id: i64,
    pub key: String,
    pub incident: Option<String>,
    pub body: String,
    /// How often a post was begun whose end is not known to the store.
    pub attempts: i64,
    /// Another number than before: it was asked for again.
    pub revision: i64,
    pub created_at: i64,
    pub not_before: i64,
}

impl Store {
    /// What is to be told to the chats: answers to people, then the grave, each oldest first.
    pub async fn outbox_due(&self, wall_now: Timestamp, limit: i64) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                // As the chats are served, so that what is grave is not behind thousands of others (P3):
                // a severity of 2 is SEV2.
                "SELECT o.id,o.key,o.incident,o.body,o.attempts,o.revision,o.created_at,o.not_before \
                 FROM outbox o LEFT JOIN incident i ON i.id=o.incident \
                 WHERE o.state='due' AND o.not_before<=$1 AND o.key NOT LIKE 'elsewhere/%' \
                 ORDER BY CASE WHEN o.incident IS NULL THEN 0 WHEN i.severity>=2 THEN 1 ELSE 2 END, o.id LIMIT $2",
            )
            .bind(wall_now.millis())
            .bind(limit)
            .fetch_all(pool)
            .await
        })?)
    }

    /// Of each incident the oldest that is open in the queue whose keys begin so, where it is due and nothing
    /// older of `behind` is open; the least tried first, so that what fails again and again stands before
    /// nothing else.
    pub async fn outbox_heads(
        &self,
        queue: &str,
        behind: &str,
        wall_now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT id,key,incident,body,attempts,revision,created_at,not_before FROM outbox \
                 WHERE id IN (SELECT min(id) FROM outbox WHERE state='due' \
                 AND (substr(key, 1, $1)=$2 OR substr(key, 1, $3)=$4) GROUP BY incident) \
                 AND substr(key, 1, $1)=$2 AND not_before<=$5 ORDER BY attempts, id LIMIT $6",
            )
            .bind(queue.chars().count() as i32)
            .bind(queue)
            .bind(behind.chars().count() as i32)
            .bind(behind)
            .bind(wall_now.millis())
            .bind(limit)
            .fetch_all(pool)
            .await
        })?)
    }

    /// Not before then, and not for a failure: quiet hours, a digest. What was asked for again meanwhile
    /// is due: the incident may have become grave.
    pub async fn outbox_hold(&self, row: &OutboxRow, not_before: Timestamp) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query("UPDATE outbox SET not_before=$1 WHERE id=$2 AND revision=$3")
                .bind(not_before.millis())
                .bind(row.id)
                .bind(row.revision)
                .execute(&mut *tx)
        });
        Ok(())
    }

    /// The incident is told now: what was held for it is due.
    pub async fn outbox_release(&self, incident: &IncidentId) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query("UPDATE outbox SET not_before=0 WHERE incident=$1 AND state='due' AND attempts=0")
                .bind(incident.as_str())
                .execute(&mut *tx)
        });
        Ok(())
    }

    pub async fn outbox_depth(&self) -> Result<i64, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE state='due'").fetch_one(pool).await
        })?)
    }

    /// Ends a delivery, unless it was asked for again meanwhile: then it stays due. `failure` says
    /// why it will not be delivered.
    pub async fn outbox_ended(
        &self,
        row: &OutboxRow,
        failure: Option<&str>,
        wall_at: Timestamp,
    ) -> Result<(), StoreError> {
        let state = if failure.is_some() { "failed" } else { "done" };
        write_one!(self, tx => {
            sqlx::query("UPDATE outbox SET state=$1, done_at=$2, error=$3, attempts=0 WHERE id=$4 AND revision=$5")
                .bind(state)
                .bind(wall_at.millis())
                .bind(failure)
                .bind(row.id)
                .bind(row.revision)
                .execute(&mut *tx)
        });
        Ok(())
    }

    /// Tries again, not before then; `state` is `failed` for what will never work and ends then.
    pub async fn outbox_retry(
        &self,
        id: i64,
        not_before: Timestamp,
        error: &str,
        state: &str,
    ) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query(
                "UPDATE outbox SET attempts=attempts+1, not_before=$1, error=$2, state=$4, \
                 done_at=CASE WHEN $4='failed' THEN $1 ELSE done_at END WHERE id=$3",
            )
            .bind(not_before.millis())
            .bind(error)
            .bind(id)
            .bind(state)
            .execute(&mut *tx)
        });
        Ok(())
    }

    /// The intent, written before a post whose reply may get lost: whoever finds it after a crash
    /// reads back before posting.
    pub async fn outbox_begun(&self, row: &OutboxRow) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query("UPDATE outbox SET attempts=attempts+1 WHERE id=$1").bind(row.id).execute(&mut *tx)
        });
        Ok(())
    }

    pub async fn posted(&self, key: &str) -> Result<Option<MessageRef>, StoreError> {
        let row: Option<(String, String)> = on!(self, pool => {
            sqlx::query_as("SELECT channel, ts FROM posted WHERE key=$1").bind(key).fetch_optional(pool).await
        })?;
        Ok(row.map(|(channel, ts)| MessageRef { channel, ts }))
    }

    /// The message is not there any more: what is told under its key is posted anew.
    pub async fn forget_message(&self, key: &str) -> Result<(), StoreError> {
        write_one!(self, tx => sqlx::query("DELETE FROM posted WHERE key=$1").bind(key).execute(&mut *tx));
        Ok(())
    }

    /// The same of an incident's root and of all that hangs below it.
    pub async fn forget_thread(&self, root_key: &str, root: &MessageRef) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query("DELETE FROM posted WHERE key=$1 OR (channel=$2 AND thread=$3)")
                .bind(root_key)
                .bind(&root.channel)
                .bind(&root.ts)
                .execute(&mut *tx)
        });
        Ok(())
    }

    /// What was given up since then: how much, and the newest with the reason.
    pub async fn outbox_failed(&self, since: Timestamp) -> Result<(i64, Vec<(String, String)>), StoreError> {
        let count = on!(self, pool => {
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE state='failed' AND done_at>=$1")
                .bind(since.millis())
                .fetch_one(pool)
                .await
        })?;
        let newest = on!(self, pool => {
            sqlx::query_as(
                "SELECT key, coalesce(error, '') FROM outbox WHERE state='failed' AND done_at>=$1 \
                 ORDER BY done_at DESC, id DESC LIMIT 3",
            )
            .bind(since.millis())
            .fetch_all(pool)
            .await
        })?;
        Ok((count, newest))
    }

    /// The incident whose message this is.
    pub async fn incident_of_message(&self, message: &MessageRef) -> Result<Option<IncidentId>, StoreError> {
        let id: Option<Option<String>> = on!(self, pool => {
            sqlx::query_scalar("SELECT incident FROM posted WHERE channel=$1 AND ts=$2")
                .bind(&message.channel)
                .bind(&message.ts)
                .fetch_optional(pool)
                .await
        })?;
        Ok(id.flatten().map(IncidentId::new))
    }

    /// The incident that has this channel for itself.
    pub async fn incident_of_channel(&self, channel: &str) -> Result<Option<IncidentId>, StoreError> {
        let id: Option<Option<String>> = on!(self, pool => {
            sqlx::query_scalar("SELECT incident FROM posted WHERE channel=$1 AND key LIKE '%/channel@%' ORDER BY at DESC LIMIT 1")
                .bind(channel)
                .fetch_optional(pool)
                .await
        })?;
        Ok(id.flatten().map(IncidentId::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Db;

    #[tokio::test]
    async fn the_grave_stand_before_thousands_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        // Every incident but the last is a SEV3, as 1 is stored.
        for sql in [
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) \
             INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body,severity) \
             SELECT 'INC-'||i, i, 'c', 't', 'open', FALSE, 1, 0, '{}', CASE i WHEN 3000 THEN 2 ELSE 1 END FROM n",
            "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) \
             SELECT id||'/root', id, '{}', 'due', 0, 0, 0 FROM incident ORDER BY number",
            "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) \
             VALUES('answer', NULL, '{}', 'due', 0, 0, 0), ('later', NULL, '{}', 'due', 0, 9, 0)",
        ] {
            sqlx::query(sql).execute(pool).await.unwrap();
        }
        let due = store.outbox_due(Timestamp::from_millis(8), 4).await.unwrap();
        let keys: Vec<&str> = due.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["answer", "INC-3000/root", "INC-1/root", "INC-2/root"]);
    }

    #[tokio::test]
    async fn what_fails_again_and_again_stands_before_no_other_incident() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        let rows = "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) VALUES \
             ('e/p/INC-1/1','INC-1','{}','due',7,0,0), ('e/p/INC-1/2','INC-1','{}','due',0,0,0), \
             ('e/p/INC-2/1','INC-2','{}','due',0,0,0), ('e/p/INC-3/1','INC-3','{}','due',0,99,0), \
             ('e/p/INC-3/2','INC-3','{}','due',0,0,0), ('e/p~notes/INC-2/2','INC-2','{}','due',0,0,0), \
             ('e/p~notes/INC-4/1','INC-4','{}','due',0,0,0), ('e/p/INC-4/2','INC-4','{}','due',0,0,0)";
        sqlx::query(rows).execute(pool).await.unwrap();
        let heads = async |queue: &str| {
            let rows = store.outbox_heads(queue, "e/p/", Timestamp::from_millis(9), 9).await.unwrap();
            rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
        };
        assert_eq!(heads("e/p/").await, ["e/p/INC-2/1", "e/p/INC-4/2", "e/p/INC-1/1"], "in order within an incident");
        assert_eq!(heads("e/p~notes/").await, ["e/p~notes/INC-4/1"], "a note waits for what it is about");
    }

    #[tokio::test]
    async fn what_is_given_up_has_an_end_and_what_is_tried_again_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let Db::Sqlite(pool) = &store.core.db else { panic!("the embedded store") };
        let two = "INSERT INTO outbox(id,key,body,state,attempts,not_before,created_at) \
             VALUES(1,'a','{}','due',0,0,0), (2,'b','{}','due',0,0,0)";
        sqlx::query(two).execute(pool).await.unwrap();
        store.outbox_retry(1, Timestamp::from_millis(7), "away", "due").await.unwrap();
        store.outbox_retry(2, Timestamp::from_millis(7), "refused", "failed").await.unwrap();
        let ends: Vec<Option<i64>> =
            sqlx::query_scalar("SELECT done_at FROM outbox ORDER BY id").fetch_all(pool).await.unwrap();
        assert_eq!(ends, [None, Some(7)]);
        let (count, newest) = store.outbox_failed(Timestamp::from_millis(7)).await.unwrap();
        assert_eq!((count, newest), (1, vec![("b".to_owned(), "refused".to_owned())]));
        assert_eq!(store.outbox_failed(Timestamp::from_millis(8)).await.unwrap().0, 0);
    }
}
