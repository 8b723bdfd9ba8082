//! What lists show: all that is open, the newest of the rest, and each row for itself.
//!
//! Invariant: what a list reads is bounded by what it shows, not by how long the watch has stood.

use super::read::parse;
use super::{Store, StoreError, on};
use crate::domain::incident::Incident;
use crate::domain::time::Timestamp;
use crate::ports::MessageRef;

/// An incident in a list. What stands in its body is only read by whoever asks for it, so that one that
/// cannot be read does not hide the others.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ListedIncident {
    pub id: String,
    pub number: i64,
    /// As `State::word` names it.
    pub state: String,
    pub is_over: bool,
    opened_at: i64,
    body: String,
    channel: Option<String>,
    ts: Option<String>,
}

impl ListedIncident {
    pub fn incident(&self) -> Result<Incident, StoreError> {
        parse("incident", &self.id, &self.body)
    }

    pub fn opened_at(&self) -> Timestamp {
        Timestamp::from_millis(self.opened_at)
    }

    /// Its first message in the local console.
    pub fn root(&self) -> Option<MessageRef> {
        Some(MessageRef { channel: self.channel.clone()?, ts: self.ts.clone()? })
    }
}

/// Which of those that are over a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    All,
    /// Not those that went into another one.
    NotMerged,
}

impl Store {
    /// All incidents that are not over, and the newest `most_over` of the others; open ones first, each group
    /// newest first.
    pub async fn listed_incidents(&self, ended: Ended, most_over: i64) -> Result<Vec<ListedIncident>, StoreError> {
        // `is_over` alone, without a comparison, leaves SQLite the index of numbers, which gives the order.
        const SQL: &str = "SELECT i.id, i.number, i.state, i.is_over, i.opened_at, i.body, p.channel, p.ts FROM incident AS i \
             LEFT JOIN posted AS p ON p.key = i.id || '/root@console' \
             WHERE i.is_over = FALSE OR i.number IN (SELECT number FROM incident \
               WHERE is_over AND (state <> 'merged' OR $1) ORDER BY number DESC LIMIT $2) \
             ORDER BY i.is_over, i.number DESC";
        Ok(on!(self, pool => {
            sqlx::query_as(SQL).bind(ended == Ended::All).bind(most_over).fetch_all(pool).await
        })?)
    }

    /// The newest messages of the local console by their time, oldest first.
    pub async fn newest_messages(&self, most: i64) -> Result<Vec<String>, StoreError> {
        // First which, by the key alone; then what stands in those.
        Ok(on!(self, pool => {
            sqlx::query_scalar(
                "SELECT m.body FROM message AS m \
                 JOIN (SELECT channel, ts FROM message ORDER BY ts DESC LIMIT $1) AS newest \
                   ON newest.channel = m.channel AND newest.ts = m.ts ORDER BY m.ts",
            )
            .bind(most)
            .fetch_all(pool)
            .await
        })?)
    }

    /// The number of the newest write of a message.
    pub async fn last_message_write(&self) -> Result<i64, StoreError> {
        let last: Option<i64> = on!(self, pool => {
            sqlx::query_scalar("SELECT CAST(max(changed) AS BIGINT) FROM message").fetch_one(pool).await
        })?;
        Ok(last.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::trial::{run, store};

    #[tokio::test]
    async fn open_ones_come_first_however_old_and_an_unreadable_one_is_one_row() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        run(
            &store,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<30) \
             INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body) \
             SELECT 'INC-'||i, i, 'c', 't', CASE WHEN i IN (2,5) THEN 'open' WHEN i=29 THEN 'merged' ELSE 'resolved' END, \
             i NOT IN (2,5), 1, i*1000, '{' FROM n",
        )
        .await;
        run(
            &store,
            "INSERT INTO posted(key,chat,channel,ts,incident,at,card) \
             VALUES('INC-5/root@console','console','ops','1.5','INC-5',0,'{}'),('INC-5/root@slack','slack','C1','9.9','INC-5',0,'{}')",
        )
        .await;
        let ids = async |ended, most| -> Vec<String> {
            store.listed_incidents(ended, most).await.unwrap().into_iter().map(|row| row.id).collect()
        };
        assert_eq!(ids(Ended::All, 3).await, ["INC-5", "INC-2", "INC-30", "INC-29", "INC-28"]);
        assert_eq!(ids(Ended::NotMerged, 3).await, ["INC-5", "INC-2", "INC-30", "INC-28", "INC-27"]);
        assert_eq!(ids(Ended::All, 0).await, ["INC-5", "INC-2"]);
        let rows = store.listed_incidents(Ended::All, 1).await.unwrap();
        assert_eq!(rows[0].root(), Some(MessageRef { channel: "ops".into(), ts: "1.5".into() }));
        assert_eq!((rows[1].root(), rows[1].opened_at()), (None, Timestamp::from_millis(2000)));
        assert!(rows[0].incident().unwrap_err().to_string().contains("INC-5"));
    }

    #[tokio::test]
    async fn the_newest_messages_are_read_and_the_last_write_of_all_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        assert_eq!(store.last_message_write().await.unwrap(), 0);
        for (channel, ts, body) in
            [("ops", "3.0", "c"), ("ops", "1.0", "a"), ("estate", "2.0", "b"), ("ops", "1.0", "a2")]
        {
            store.save_message(channel, ts, body).await.unwrap();
        }
        let newest = store.newest_messages(2).await.unwrap();
        assert_eq!(newest, ["b", "c"]);
        assert_eq!(store.last_message_write().await.unwrap(), 4);
    }
}
