//! Alerts as they came in, before anything else happens to them (P1): the payloads of one group
//! commit, packed into one row.

use serde::Serialize;
use sqlx::FromRow;

use super::{Store, StoreError, on};
use crate::domain::time::Timestamp;

/// Payloads that become durable together.
#[derive(Debug)]
pub struct Packed {
    pub source: String,
    /// Names the delivery, so that a second one is kept once.
    pub dedupe: Option<String>,
    pub received_at: Timestamp,
    pub frames: usize,
    pub bytes: Vec<u8>,
}

/// A row that has not been judged yet.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct OpenRow {
    pub id: i64,
    pub source: String,
    pub received_at: i64,
    pub frames: i64,
}

/// Fast enough to keep up with the door, and alerts repeat themselves: a tenth is usual.
const LEVEL: i32 = 1;

/// Each frame with its length before it, compressed.
pub fn pack<T: AsRef<[u8]>>(frames: &[T]) -> std::io::Result<Vec<u8>> {
    let whole: usize = frames.iter().map(|frame| frame.as_ref().len() + 4).sum();
    let mut plain = Vec::with_capacity(whole);
    for frame in frames {
        let frame = frame.as_ref();
        let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(frame);
    }
    zstd::bulk::compress(&plain, LEVEL)
}

pub fn unpack(packed: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
    let plain = zstd::stream::decode_all(packed)?;
    let mut rest = plain.as_slice();
    let mut frames = vec![];
    while !rest.is_empty() {
        let cut = || std::io::Error::new(std::io::ErrorKind::InvalidData, "a frame is cut off");
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (frame, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        frames.push(frame.to_vec());
        rest = behind;
    }
    Ok(frames)
}

impl Store {
    /// Keeps all rows in one transaction; their numbers, and `None` for what was known already.
    pub async fn take_in_alerts(&self, rows: &[Packed]) -> Result<Vec<Option<i64>>, StoreError> {
        let _writer = self.core.writer.lock().await;
        on!(self, pool => {
            let mut tx = pool.begin().await?;
            let mut ids = Vec::with_capacity(rows.len());
            for row in rows {
                let id: Option<i64> = sqlx::query_scalar(
                    "INSERT INTO inbox(source,kind,dedupe,body,received_at,packed,frames) \
                     VALUES($1,'alerts',$2,'',$3,$4,$5) ON CONFLICT(dedupe) DO NOTHING RETURNING id",
                )
                .bind(&row.source)
                .bind(&row.dedupe)
                .bind(row.received_at.millis())
                .bind(&row.bytes)
                .bind(row.frames as i64)
                .fetch_optional(&mut *tx)
                .await?;
                ids.push(id);
            }
            tx.commit().await?;
            Ok(ids)
        })
    }

    /// What was taken in and not judged, in order.
    pub async fn open_alert_rows(&self) -> Result<Vec<OpenRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT id,source,received_at,frames FROM inbox WHERE done_at IS NULL AND kind='alerts' ORDER BY id",
            )
            .fetch_all(pool)
            .await
        })?)
    }

    /// The payloads of one row.
    pub async fn frames(&self, id: i64) -> Result<Vec<Vec<u8>>, StoreError> {
        let (body, packed): (String, Option<Vec<u8>>) = on!(self, pool => {
            sqlx::query_as("SELECT body, packed FROM inbox WHERE id=$1").bind(id).fetch_one(pool).await
        })?;
        match packed {
            None => Ok(vec![body.into_bytes()]),
            Some(packed) => unpack(&packed).map_err(|failure| StoreError::Corrupt {
                table: "inbox",
                row: id.to_string(),
                reason: failure.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)
        ) {
            let packed = pack(&frames).expect("it fits");
            prop_assert_eq!(unpack(&packed).expect("it is whole"), frames);
        }

        #[test]
        fn damage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }

    #[test]
    fn a_cut_frame_is_named() {
        let plain = [&9u32.to_be_bytes()[..], b"short"].concat();
        let failure = unpack(&zstd::bulk::compress(&plain, 1).expect("small")).expect_err("cut");
        assert_eq!(failure.to_string(), "a frame is cut off");
    }
}
