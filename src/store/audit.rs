//! The audit chain and its verifier.

use serde::Serialize;

use super::{Store, StoreError, on};
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

type EventLink = (String, i64, String, i64, String, String, String);

impl Store {
    /// Recomputes both chains from the first row and compares them with each other, as they stand at one
    /// moment: the watch goes on writing meanwhile.
    pub async fn verify_audit(&self) -> Result<AuditReport, StoreError> {
        let is_postgres = self.kind() == "postgres";
        let (rows, (head_seq, head), events, incidents) = on!(self, pool => {
            async {
                let mut tx = pool.begin().await?;
                if is_postgres {
                    // SQLite's transactions read one moment by themselves.
                    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
                }
                let rows: Vec<AuditRow> =
                    sqlx::query_as("SELECT * FROM audit ORDER BY seq").fetch_all(&mut *tx).await?;
                let head: (i64, String) =
                    sqlx::query_as("SELECT seq, hash FROM audit_head WHERE one=1").fetch_one(&mut *tx).await?;
                let events: Vec<EventLink> = sqlx::query_as(
                    "SELECT incident,seq,kind,at,body,prev,hash FROM incident_event ORDER BY incident,seq",
                )
                .fetch_all(&mut *tx)
                .await?;
                let incidents: Vec<(String, i64)> =
                    sqlx::query_as("SELECT id, version FROM incident").fetch_all(&mut *tx).await?;
                tx.rollback().await?;
                Ok::<_, sqlx::Error>((rows, head, events, incidents))
            }
            .await
        })?;
        let fault = chain_fault(&rows, head_seq, &head).or_else(|| event_fault(&rows, &events, &incidents));
        Ok(AuditReport {
            rows: rows.len() as i64,
            incidents: incidents.len() as i64,
            events: events.len() as i64,
            head,
            fault,
        })
    }

    pub async fn audit_head(&self) -> Result<(i64, String), StoreError> {
        Ok(on!(self, pool => sqlx::query_as("SELECT seq, hash FROM audit_head WHERE one=1").fetch_one(pool).await)?)
    }
}

fn chain_fault(rows: &[AuditRow], head_seq: i64, head: &str) -> Option<Fault> {
    let mut previous = Digest::genesis();
    for (at, row) in rows.iter().enumerate() {
        let expected = at as i64 + 1;
        let fault = |what: String| Some(Fault { row: format!("audit row {}", row.seq), what });
        if row.seq != expected {
            return Some(Fault {
                row: format!("audit row {expected}"),
                what: format!("is missing; the next one found is {}", row.seq),
            });
        }
        if row.prev != previous.as_str() {
            return fault("does not follow the row before it".into());
        }
        let link = audit_link(&previous, row.seq, row.at, &row.kind, &row.subject, &row.body);
        if link.as_str() != row.hash {
            return fault(format!("was altered ({} {})", row.kind, row.subject));
        }
        previous = link;
    }
    (head_seq != rows.len() as i64 || head != previous.as_str()).then(|| Fault {
        row: format!("audit row {}", rows.len() + 1),
        what: format!("the head says {head_seq} rows, {} are there: rows were removed at the end", rows.len()),
    })
}

fn event_fault(rows: &[AuditRow], events: &[EventLink], incidents: &[(String, i64)]) -> Option<Fault> {
    let mut anchored: std::collections::HashMap<&str, &str> = rows
        .iter()
        .filter(|row| row.kind.starts_with("incident."))
        .map(|row| (row.subject.as_str(), row.body.as_str()))
        .collect();
    let mut previous: (String, i64, Digest) = (String::new(), 0, Digest::genesis());
    let mut last: std::collections::HashMap<&str, i64> = std::collections::HashMap::new();
    for (incident, seq, kind, at, body, prev, hash) in events {
        if *incident != previous.0 {
            previous = (incident.clone(), 0, Digest::genesis());
        }
        let name = format!("{incident}#{seq}");
        let fault = |what: &str| Some(Fault { row: format!("incident event {name}"), what: what.into() });
        if *seq != previous.1 + 1 {
            return fault("follows a gap: an event before it was removed");
        }
        if prev != previous.2.as_str() {
            return fault("does not follow the event before it");
        }
        let link = event_link(&previous.2, incident, *seq, kind, *at, body);
        if link.as_str() != hash {
            return fault("was altered");
        }
        match anchored.remove(name.as_str()) {
            Some(recorded) if recorded == hash => {}
            Some(_) => return fault("is not the one that the audit chain recorded"),
            None => return fault("is not recorded in the audit chain"),
        }
        last.insert(incident, *seq);
        previous = (incident.clone(), *seq, link);
    }
    if let Some(name) = anchored.keys().min() {
        return Some(Fault { row: format!("incident event {name}"), what: "was removed".into() });
    }
    incidents.iter().find(|(id, version)| last.get(id.as_str()) != Some(version)).map(|(id, version)| Fault {
        row: format!("incident {id}"),
        what: format!("is at version {version}, its events say {:?}", last.get(id.as_str())),
    })
}
