//! Changes that other systems have announced, for as long as they can explain anything.

use super::{Store, StoreError, on};
use crate::domain::change::Change;
use crate::domain::change::announced::{Announced, KEPT};
use crate::domain::time::Timestamp;

/// More than this in a day is not read one by one by anybody.
const READ: i64 = 2_000;

impl Store {
    /// Of one key the earliest time counts, and the latest words.
    pub async fn announce(&self, announced: &[Announced], event_now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<(&str, &str, i64, String)> = announced
            .iter()
            .map(|one| {
                let body = serde_json::to_string(&one.change).unwrap_or_default();
                (one.key.as_str(), one.change.service.as_str(), one.change.at.millis(), body)
            })
            .collect();
        let oldest = (event_now - KEPT).millis();
        let _writer = self.core.writer.lock().await;
        on!(self, pool => {
            async {
                let mut tx = pool.begin().await?;
                for (key, service, at, body) in &rows {
                    sqlx::query(
                        "INSERT INTO announced(key,service,at,body) VALUES($1,$2,$3,$4) ON CONFLICT(key) DO UPDATE SET \
                         service=excluded.service, body=excluded.body, \
                         at=CASE WHEN excluded.at<announced.at THEN excluded.at ELSE announced.at END",
                    )
                    .bind(*key)
                    .bind(*service)
                    .bind(*at)
                    .bind(body)
                    .execute(&mut *tx)
                    .await?;
                }
                sqlx::query("DELETE FROM announced WHERE at<$1").bind(oldest).execute(&mut *tx).await?;
                tx.commit().await
            }
            .await
        })?;
        Ok(())
    }

    /// Oldest first; of very many the newest.
    pub async fn announced_since(&self, event_since: Timestamp) -> Result<Vec<Change>, StoreError> {
        let rows: Vec<(String, i64, String)> = on!(self, pool => {
            sqlx::query_as("SELECT key, at, body FROM announced WHERE at>=$1 ORDER BY at DESC, key LIMIT $2")
                .bind(event_since.millis())
                .bind(READ)
                .fetch_all(pool)
                .await
        })?;
        rows.into_iter()
            .rev()
            .map(|(key, at, body)| {
                let change: Change = serde_json::from_str(&body).map_err(|error| StoreError::Corrupt {
                    table: "announced",
                    row: key,
                    reason: error.to_string(),
                })?;
                Ok(Change { at: Timestamp::from_millis(at), ..change })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::domain::change::announced::read;

    #[tokio::test]
    async fn an_announcement_is_kept_once_with_its_first_time_and_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let now = Timestamp::from_secs(1_763_776_800);
        let deployed = |minutes: u64, to: &str| {
            let at = (now - Duration::from_secs(minutes * 60)).millis();
            read(&json!({"service": "cart", "id": "d1", "to": to, "at": at}), None, now).unwrap()
        };
        store.announce(&deployed(10, "running"), now).await.unwrap();
        store.announce(&deployed(5, "done"), now).await.unwrap();
        let kept = store.announced_since(now - Duration::from_secs(3600)).await.unwrap();
        assert_eq!((kept.len(), kept[0].at), (1, now - Duration::from_secs(600)));
        assert_eq!(kept[0].touched[0].detail, "done");
        assert!(store.announced_since(now - Duration::from_secs(60)).await.unwrap().is_empty());
        store.announce(&[], now + KEPT + Duration::from_secs(1)).await.unwrap();
        assert!(store.announced_since(Timestamp::from_secs(0)).await.unwrap().is_empty());
    }
}
