//! The audit chain and its verifier.
//!
//! Invariant: the verifier holds names and digests, never what was written in the rows.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use serde::Serialize;

use super::{Store, StoreError, on, on_unbounded};
use crate::domain::id::Digest;

/// The link of an incident event: everything that the row says, behind the link before it.
pub fn event_link(previous: &Digest, incident: &str, seq: i64, kind: &str, at: i64, body: &str) -> Digest {
    Digest::chained(previous, format!("{incident}\u{1f}{seq}\u{1f}{kind}\u{1f}{at}\u{1f}{body}").as_bytes())
}

pub fn audit_link(previous: &Digest, seq: i64, at: i64, kind: &str, subject: &str, body: &str) -> Digest {
    Digest::chained(previous, format!("{seq}\u{1f}{at}\u{1f}{kind}\u{1f}{subject}\u{1f}{body}").as_bytes())
}

#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct AuditRow {
    pub seq: i64,
    pub at: i64,
    pub kind: String,
    pub subject: String,
    pub body: String,
    pub prev: String,
    pub hash: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    pub rows: i64,
    pub incidents: i64,
    pub events: i64,
    pub head: String,
    pub fault: Option<Fault>,
}

/// The first row that does not fit.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    pub row: String,
    pub what: String,
}

const EVENTS: &str = "SELECT incident,seq,kind,at,body,prev,hash FROM incident_event ORDER BY incident,seq";

type EventLink = (String, i64, String, i64, String, String, String);

/// Rows of the chain that are worth a reader of their own.
const SHARE: i64 = 10_000;

const READERS: i64 = 3;

/// A stretch of the audit chain, sound in itself.
struct Stretch {
    /// The row before the first, and what the first says that it follows.
    follows: Option<String>,
    last: Digest,
    /// The number that would come next.
    next: i64,
    /// Name and digest of the incident events that it records.
    anchored: Vec<(String, String)>,
}

impl Store {
    /// Recomputes both chains from the first row and compares them with each other, as they stand at one
    /// moment: the watch goes on writing meanwhile. Every core reads a stretch; rows are only ever added,
    /// so that stretches below the head of that moment do not change. One run at a time: each reads all that
    /// ever was.
    pub async fn verify_audit(&self) -> Result<AuditReport, StoreError> {
        let _turn = self.core.audited.lock().await;
        let is_postgres = self.kind() == "postgres";
        let ((count, first, newest), (head_seq, head), events, incidents) = on!(self, pool => {
            async {
                let mut tx = pool.begin().await?;
                if is_postgres {
                    // SQLite's transactions read one moment by themselves.
                    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
                }
                let count: (i64, Option<i64>, Option<i64>) =
                    sqlx::query_as("SELECT count(*), min(seq), max(seq) FROM audit").fetch_one(&mut *tx).await?;
                let head: (i64, String) =
                    sqlx::query_as("SELECT seq, hash FROM audit_head WHERE one=1").fetch_one(&mut *tx).await?;
                let mut events = Events::default();
                let mut rows = sqlx::query_as::<_, EventLink>(EVENTS).fetch(&mut *tx);
                while let Some(row) = rows.try_next().await? {
                    events.read(row);
                }
                drop(rows);
                let incidents: Vec<(String, i64)> =
                    sqlx::query_as("SELECT id, version FROM incident").fetch_all(&mut *tx).await?;
                tx.rollback().await?;
                Ok::<_, sqlx::Error>((count, head, events, incidents))
            }
            .await
        })?;
        let counted = (incidents.len() as i64, events.count);
        // A head that claims more than a stretch too many is a fault all the same.
        let upto = count.max(head_seq.min(count.saturating_add(SHARE)));
        let fault = match self.chain(upto, count).await? {
            Ok(_) if count > 0 && (first, newest) != (Some(1), Some(count)) => Some(Fault {
                row: "audit rows".into(),
                what: format!("{count} are there, numbered {first:?} to {newest:?}: not one after the other"),
            }),
            Ok((last, _)) if head_seq != count || head != last.as_str() => Some(Fault {
                row: format!("audit row {}", count + 1),
                what: format!("the head says {head_seq} rows, {count} are there: rows were removed at the end"),
            }),
            Ok((_, anchored)) => events.fault(&anchored, &incidents),
            Err(fault) => Some(fault),
        };
        Ok(AuditReport { rows: count, incidents: counted.0, events: counted.1, head, fault })
    }

    /// The last link up to that row, and what is anchored in the rows; or the first that does not fit.
    async fn chain(&self, upto: i64, count: i64) -> Result<Result<(Digest, Vec<(String, String)>), Fault>, StoreError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as i64;
        // The watch needs connections meanwhile.
        let cores = cores.min(READERS);
        let share = (upto / cores + 1).max(SHARE);
        let readers: Vec<_> = (0..upto.max(1))
            .step_by(share as usize)
            .map(|from| {
                let store = Self { core: self.core.clone(), fence: None };
                tokio::spawn(async move { store.stretch(from, (from + share).min(upto)).await })
            })
            .collect();
        let (mut last, mut all, mut row) = (Digest::genesis(), vec![], 0);
        for reader in readers {
            let stretch = match reader.await.map_err(|error| StoreError::Busy(format!("a reader ended: {error}")))?? {
                Ok(stretch) => stretch,
                Err(fault) => return Ok(Err(fault)),
            };
            if stretch.follows.as_ref().is_some_and(|follows| follows != last.as_str()) {
                let row = format!("audit row {}", row + 1);
                return Ok(Err(Fault { row, what: "does not follow the row before it".into() }));
            }
            row += share;
            if row <= count && stretch.next != row + 1 {
                let row = format!("audit row {}", stretch.next);
                return Ok(Err(Fault { row, what: "is missing at the end of what was read at once".into() }));
            }
            if stretch.follows.is_some() {
                last = stretch.last;
            }
            all.extend(stretch.anchored);
        }
        Ok(Ok((last, all)))
    }

    /// Rows after `from` up to `to`. Fewer at the very end are none of its business.
    async fn stretch(&self, from: i64, to: i64) -> Result<Result<Stretch, Fault>, StoreError> {
        const ROWS: &str = "SELECT seq,at,kind,subject,body,prev,hash FROM audit WHERE seq>$1 AND seq<=$2 ORDER BY seq";
        let mut links = Links { expected: from + 1, stretch: None };
        on_unbounded!(self, pool => {
            let mut rows = sqlx::query_as::<_, AuditLink>(ROWS).bind(from).bind(to).fetch(pool);
            while let Some(row) = rows.try_next().await? {
                if let Err(fault) = links.read(row) {
                    return Ok(Err(fault));
                }
            }
        });
        let nothing = Stretch { follows: None, last: Digest::genesis(), next: from + 1, anchored: vec![] };
        Ok(Ok(links.stretch.unwrap_or(nothing)))
    }

    pub async fn audit_hash(&self, row: i64) -> Result<Option<String>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_scalar("SELECT hash FROM audit WHERE seq=$1").bind(row).fetch_optional(pool).await
        })?)
    }

    pub async fn audit_head(&self) -> Result<(i64, String), StoreError> {
        Ok(on!(self, pool => sqlx::query_as("SELECT seq, hash FROM audit_head WHERE one=1").fetch_one(pool).await)?)
    }
}

type AuditLink = (i64, i64, String, String, String, String, String);

struct Links {
    expected: i64,
    stretch: Option<Stretch>,
}

impl Links {
    fn read(&mut self, (seq, at, kind, subject, body, prev, hash): AuditLink) -> Result<(), Fault> {
        let fault = |what: String| Err(Fault { row: format!("audit row {seq}"), what });
        if seq != self.expected {
            return Err(Fault {
                row: format!("audit row {}", self.expected),
                what: format!("is missing; the next one found is {seq}"),
            });
        }
        let stretch = self.stretch.get_or_insert_with(|| Stretch {
            follows: Some(prev.clone()),
            last: Digest::from_hex(prev.clone()),
            next: seq,
            anchored: vec![],
        });
        if prev != stretch.last.as_str() {
            return fault("does not follow the row before it".into());
        }
        let link = audit_link(&stretch.last, seq, at, &kind, &subject, &body);
        if link.as_str() != hash {
            return fault(format!("was altered ({kind} {subject})"));
        }
        stretch.last = link;
        self.expected += 1;
        stretch.next = self.expected;
        if kind.starts_with("incident.") {
            stretch.anchored.push((subject, body));
        }
        Ok(())
    }
}

/// The incidents' own chains, read row by row.
#[derive(Default)]
struct Events {
    count: i64,
    /// Name and digest of those before the first that does not fit.
    sound: Vec<(String, Digest)>,
    broken: Option<Fault>,
    /// The incident that is read, and its last event so far.
    incident: String,
    seq: i64,
    last: Option<Digest>,
    /// The last event of each.
    newest: HashMap<String, i64>,
}

impl Events {
    fn read(&mut self, row: EventLink) {
        self.count += 1;
        if self.broken.is_none()
            && let Err(fault) = self.follow(row)
        {
            self.broken = Some(fault);
        }
    }

    fn follow(&mut self, (incident, seq, kind, at, body, prev, hash): EventLink) -> Result<(), Fault> {
        if incident != self.incident {
            (self.incident, self.seq, self.last) = (incident, 0, None);
        }
        let name = format!("{}#{seq}", self.incident);
        let last = self.last.take().unwrap_or_else(Digest::genesis);
        let fault = |what: &str| Err(Fault { row: format!("incident event {name}"), what: what.into() });
        if seq != self.seq + 1 {
            return fault("follows a gap: an event before it was removed");
        }
        if prev != last.as_str() {
            return fault("does not follow the event before it");
        }
        let link = event_link(&last, &self.incident, seq, &kind, at, &body);
        if link.as_str() != hash {
            return fault("was altered");
        }
        self.newest.insert(self.incident.clone(), seq);
        self.sound.push((name, link.clone()));
        (self.seq, self.last) = (seq, Some(link));
        Ok(())
    }

    /// The first that the audit chain or the incidents themselves know otherwise.
    fn fault(self, recorded: &[(String, String)], incidents: &[(String, i64)]) -> Option<Fault> {
        let mut anchored: HashMap<&str, &str> =
            recorded.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        for (name, digest) in &self.sound {
            let what = match anchored.remove(name.as_str()) {
                Some(recorded) if recorded == digest.as_str() => continue,
                Some(_) => "is not the one that the audit chain recorded",
                None => "is not recorded in the audit chain",
            };
            return Some(Fault { row: format!("incident event {name}"), what: what.into() });
        }
        if self.broken.is_some() {
            return self.broken;
        }
        if let Some(name) = anchored.keys().min() {
            return Some(Fault { row: format!("incident event {name}"), what: "was removed".into() });
        }
        let newest = &self.newest;
        incidents.iter().find(|(id, version)| newest.get(id) != Some(version)).map(|(id, version)| Fault {
            row: format!("incident {id}"),
            what: format!("is at version {version}, its events say {:?}", newest.get(id)),
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;
    use crate::domain::time::Timestamp;
    use crate::store::{AuditEntry, Batch};

    /// A whole stretch written anew, sound in itself and with its head: only that it does not follow the
    /// one before gives it away.
    #[tokio::test]
    async fn stretches_must_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.db").display().to_string();
        let store = Store::open(&path).await.unwrap();
        let rows = SHARE + SHARE / 4;
        let entry = |number: i64| AuditEntry {
            kind: "test".into(),
            subject: format!("entry {number}"),
            body: serde_json::json!({"number": number}),
        };
        for from in (0..rows).step_by(5_000) {
            let audit = (from..rows.min(from + 5_000)).map(entry).collect();
            store.commit(Batch { audit, ..Batch::default() }, Timestamp::from_secs(1_763_776_800)).await.unwrap();
        }
        let report = store.verify_audit().await.unwrap();
        assert!(report.fault.is_none() && report.rows == rows, "{report:?}");

        let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap();
        let mut tx = raw.begin().await.unwrap();
        let forged: Vec<AuditRow> = sqlx::query_as("SELECT * FROM audit WHERE seq>$1 ORDER BY seq")
            .bind(SHARE)
            .fetch_all(&mut *tx)
            .await
            .unwrap();
        let mut last = Digest::of(b"another history");
        for row in &forged {
            let link = audit_link(&last, row.seq, row.at, &row.kind, &row.subject, &row.body);
            let update = sqlx::query("UPDATE audit SET prev=$1, hash=$2 WHERE seq=$3");
            update.bind(last.as_str()).bind(link.as_str()).bind(row.seq).execute(&mut *tx).await.unwrap();
            last = link;
        }
        sqlx::query("UPDATE audit_head SET hash=$1").bind(last.as_str()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let fault = store.verify_audit().await.unwrap().fault.unwrap();
        assert_eq!((fault.row, fault.what.as_str()), ("audit row 10001".into(), "does not follow the row before it"));
    }

    #[tokio::test]
    async fn the_next_who_verifies_waits_for_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("m.db").display().to_string()).await.unwrap();
        let turn = store.core.audited.lock().await;
        let waits = tokio::time::timeout(std::time::Duration::from_millis(100), store.verify_audit()).await;
        assert!(waits.is_err(), "{waits:?}");
        drop(turn);
        assert!(store.verify_audit().await.unwrap().fault.is_none());
    }

    /// Two incidents with two events each, as sound rows.
    fn chains() -> Vec<EventLink> {
        let mut rows = vec![];
        for incident in ["INC-1", "INC-2"] {
            let mut head = Digest::genesis();
            for seq in 1..=2 {
                let link = event_link(&head, incident, seq, "noted", 7, "{}");
                let (prev, hash) = (head.to_string(), link.to_string());
                rows.push((incident.to_owned(), seq, "noted".to_owned(), 7, "{}".to_owned(), prev, hash));
                head = link;
            }
        }
        rows
    }

    fn check(told: &str, alter: impl FnOnce(&mut Vec<EventLink>, &mut Vec<(String, String)>), expected: &str) {
        let mut rows = chains();
        let mut recorded = rows.iter().map(|row| (format!("{}#{}", row.0, row.1), row.6.clone())).collect();
        alter(&mut rows, &mut recorded);
        let (mut events, count) = (Events::default(), rows.len() as i64);
        rows.into_iter().for_each(|row| events.read(row));
        assert_eq!(events.count, count, "{told}");
        let fault = events.fault(&recorded, &[("INC-1".into(), 2), ("INC-2".into(), 2)]);
        assert_eq!(fault.map_or("sound".into(), |fault| format!("{}: {}", fault.row, fault.what)), expected, "{told}");
    }

    #[test]
    fn the_first_event_that_does_not_fit_is_told() {
        check("as written", |_, _| {}, "sound");
        check(
            "one is missing",
            |rows, _| drop(rows.remove(2)),
            "incident event INC-2#2: follows a gap: an event before it was removed",
        );
        check("the last is missing", |rows, _| drop(rows.pop()), "incident event INC-2#2: was removed");
        check("altered", |rows, _| rows[1].4 = "{1}".into(), "incident event INC-1#2: was altered");
        check(
            "another chain",
            |rows, _| rows[1].5 = Digest::of(b"x").to_string(),
            "incident event INC-1#2: does not follow the event before it",
        );
        check(
            "recorded otherwise, and a later one altered",
            |rows, recorded| {
                recorded[1].1 = Digest::of(b"x").to_string();
                rows[3].4 = "{1}".into();
            },
            "incident event INC-1#2: is not the one that the audit chain recorded",
        );
        check(
            "altered, and a later one not recorded",
            |rows, recorded| {
                rows[1].4 = "{1}".into();
                recorded.pop();
            },
            "incident event INC-1#2: was altered",
        );
        check(
            "an incident is not there at all",
            |rows, recorded| {
                rows.truncate(2);
                recorded.truncate(2);
            },
            "incident INC-2: is at version 2, its events say None",
        );
    }
}
