//! Payloads that have grown cold: out to compressed files as they came in, and back again for a replay.
//!
//! Invariant: what leaves the store is on the disk before.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::QueryBuilder;

use super::lease::write_one;
use super::{Store, StoreError, on};
use crate::domain::id::Digest;
use crate::domain::time::Timestamp;

/// Rows of the inbox that are read at once; each may hold a whole group commit.
const PAGE: i64 = 50;
const LEVEL: i32 = 6;
const BEGINNING: &str = "payloads-";
const ENDING: &str = ".jsonl.zst";

/// One message of a cold file, in the order of arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct ColdMessage {
    pub received_at: Timestamp,
    pub payload: Vec<u8>,
}

/// What a replay gets out of cold files.
#[derive(Debug, Default)]
pub struct Thawed {
    pub messages: Vec<ColdMessage>,
    /// Judged alerts that were kept without their labels: they cannot be judged again.
    pub bare: usize,
    /// Files that end in the middle: the process ended then, or something happened to them since.
    pub cut: Vec<PathBuf>,
}

pub(super) fn io(reason: std::io::Error) -> StoreError {
    StoreError::Busy(format!("the file cannot be written: {reason}"))
}

/// A compressed file of JSON lines that begins with its first line.
pub(super) struct ColdFile<'a> {
    folder: &'a Path,
    name: String,
    out: Option<zstd::stream::write::Encoder<'static, File>>,
}

impl<'a> ColdFile<'a> {
    pub fn new(folder: &'a Path, beginning: &str, wall_now: Timestamp) -> Self {
        let name = format!("{beginning}{}{ENDING}", wall_now.to_datetime().format("%Y%m%dT%H%M%SZ"));
        Self { folder, name, out: None }
    }

    pub fn line(&mut self, value: &Value) -> Result<(), StoreError> {
        if self.out.is_none() {
            std::fs::create_dir_all(self.folder).map_err(io)?;
            let raw = File::options().create_new(true).write(true).open(self.folder.join(&self.name)).map_err(io)?;
            // Its name must be on the disk as well as what is in it.
            File::open(self.folder).and_then(|folder| folder.sync_all()).map_err(io)?;
            self.out = Some(zstd::stream::write::Encoder::new(raw, LEVEL).map_err(io)?);
        }
        self.out.as_mut().map_or(Ok(()), |out| writeln!(out, "{value}")).map_err(io)
    }

    /// Returns when all lines are on the disk: now they may leave the store.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.flush().and_then(|()| out.get_ref().sync_data()).map_err(io)
    }

    /// The file, when there was anything to write.
    pub fn finish(self) -> Result<Option<PathBuf>, StoreError> {
        let Some(out) = self.out else { return Ok(None) };
        out.finish().and_then(|file| file.sync_all()).map_err(io)?;
        Ok(Some(self.folder.join(self.name)))
    }
}

impl Store {
    /// Writes judged payloads that are older to a compressed file, one JSON document a line, and removes
    /// them; gives how many rows went.
    pub(super) async fn retire_payloads(
        &self,
        before: Timestamp,
        folder: &Path,
        wall_now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut file = ColdFile::new(folder, BEGINNING, wall_now);
        let mut gone = 0;
        loop {
            let rows: Vec<(i64, String, i64)> = on!(self, pool => {
                sqlx::query_as(
                    "SELECT id, source, received_at FROM inbox WHERE done_at<$1 AND kind='alerts' ORDER BY id LIMIT $2",
                )
                .bind(before.millis())
                .bind(PAGE)
                .fetch_all(pool)
                .await
            })?;
            if rows.is_empty() {
                break;
            }
            for (id, source, received_at) in &rows {
                let received_at = Timestamp::from_millis(*received_at);
                for (number, frame) in self.frames(*id).await?.into_iter().enumerate() {
                    let payload: Value = serde_json::from_slice(&frame)
                        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&frame).into_owned()));
                    file.line(&json!({
                        "id": format!("{id}.{number}"), "receivedAt": received_at, "source": source, "payload": payload,
                    }))?;
                }
            }
            file.settle()?;
            // Those that were written: a clock that was set back may make others old meanwhile.
            gone += write_one!(self, tx => async {
                let mut delete = QueryBuilder::new("DELETE FROM inbox WHERE id IN (");
                let mut ids = delete.separated(",");
                for (id, ..) in &rows {
                    ids.push_bind(*id);
                }
                ids.push_unseparated(")");
                delete.build().execute(&mut *tx).await
            });
        }
        file.finish()?;
        // What people did stands in the audit trail.
        gone += write_one!(self, tx => {
            sqlx::query("DELETE FROM inbox WHERE done_at<$1 AND kind<>'alerts'").bind(before.millis()).execute(&mut *tx)
        });
        Ok(gone)
    }
}

/// Whether a replay reads it so: a folder of cold files, or a compressed file.
pub fn is_cold(from: &Path) -> bool {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut head = [0; 4];
    let read = |head: &mut [u8]| File::open(from).and_then(|mut file| std::io::Read::read_exact(&mut file, head));
    from.is_dir() || (read(&mut head).is_ok() && head == MAGIC)
}

/// Reads one cold file, or all payloads of a folder of them.
pub fn thaw(from: &Path) -> std::io::Result<Thawed> {
    let mut files = vec![];
    if from.is_dir() {
        for entry in std::fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(BEGINNING) && name.ends_with(ENDING) {
                files.push(path.clone());
            }
        }
        // Their names are their times.
        files.sort();
    } else {
        files.push(from.to_owned());
    }
    let (mut thawed, mut known) = (Thawed::default(), BTreeSet::new());
    files.iter().try_for_each(|file| thaw_one(file, &mut thawed, &mut known))?;
    Ok(thawed)
}

/// `known`: digests of numbered lines. One that was written before a crash and not removed was written
/// again by the next retention.
fn thaw_one(path: &PathBuf, thawed: &mut Thawed, known: &mut BTreeSet<String>) -> std::io::Result<()> {
    let wrong = |line: usize, why: &str| {
        let what = format!("{} line {}: {why}", path.display(), line + 1);
        std::io::Error::new(ErrorKind::InvalidData, what)
    };
    let lines = BufReader::new(zstd::stream::read::Decoder::new(File::open(path)?)?).lines();
    for (number, line) in lines.enumerate() {
        let line = match line {
            Ok(line) => line,
            // The process ended before the file did: what is missing never left the store.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                thawed.cut.push(path.clone());
                break;
            }
            Err(error) => return Err(error),
        };
        let value: Value = serde_json::from_str(&line).map_err(|error| wrong(number, &error.to_string()))?;
        if value.get("id").is_some() && !known.insert(Digest::of(line.as_bytes()).to_string()) {
            continue;
        }
        let at = |name: &str| serde_json::from_value::<Timestamp>(value[name].clone());
        if let Some(payload) = value.get("payload") {
            let received_at = at("receivedAt").map_err(|error| wrong(number, &error.to_string()))?;
            let payload = match payload {
                Value::String(text) => text.clone().into_bytes(),
                other => other.to_string().into_bytes(),
            };
            thawed.messages.push(ColdMessage { received_at, payload });
        } else if value["labels"].is_object() {
            let received_at = at("judgedAt").map_err(|error| wrong(number, &error.to_string()))?;
            let mut alert = value.clone();
            if let Some(alert) = alert.as_object_mut() {
                alert.retain(|key, value| {
                    ["status", "labels", "startsAt", "endsAt"].contains(&key.as_str()) && !value.is_null()
                });
            }
            thawed.messages.push(ColdMessage { received_at, payload: alert.to_string().into_bytes() });
        } else if value.get("judgedAt").is_some() {
            thawed.bare += 1;
        } else {
            return Err(wrong(number, "this is no line of a cold file"));
        }
    }
    Ok(())
}
