//! The alerts of the ledger as they stand.

use super::read::parse;
use super::{Store, StoreError, on};
use crate::domain::alert::{Alert, Fingerprint, Labels, Status};
use crate::domain::id::IncidentId;
use crate::domain::time::Timestamp;

/// A firing as it stands in the ledger.
#[derive(Debug, Clone)]
pub struct Heard {
    pub alert: Alert,
    pub standing: Standing,
}

/// What is still to become of it; `over`: it has ended, or belongs to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Judged,
    /// A firing has ended, at the instant.
    Ended {
        at: Timestamp,
    },
    /// By people, or by what explains it.
    Muted {
        over: bool,
    },
    /// As one that flaps, or is at the edge of a value.
    Unsteady {
        over: bool,
    },
    /// By its score.
    Usual {
        over: bool,
    },
    /// For company.
    Waits {
        over: bool,
    },
    /// Until it has fired for longer.
    HeldBack {
        over: bool,
    },
}

/// An alert of an incident, as it was first admitted.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Member {
    pub incident: String,
    pub inbox_id: i64,
    pub fingerprint: String,
    pub subject: String,
    pub name: String,
    pub starts_at: i64,
    stands_until: Option<i64>,
    labels: Option<String>,
    newest: i64,
    /// The row of its fingerprint's newest end, and when that was judged.
    ended_by: Option<i64>,
    pub ended_at: Option<i64>,
}

impl Member {
    /// The newest row that admits it.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether it fires on.
    pub fn fires(&self) -> bool {
        self.ended_by.is_none_or(|end| end < self.newest)
    }

    /// `None` when the ledger holds something unreadable.
    pub fn alert(&self) -> Option<Alert> {
        Some(Alert {
            fingerprint: Fingerprint::parse(&self.fingerprint)?,
            status: Status::Firing,
            labels: serde_json::from_str(self.labels.as_deref()?).ok()?,
            annotations: Labels::new(),
            starts_at: Timestamp::from_millis(self.starts_at),
            ends_at: None,
            stands_until: self.stands_until.map(Timestamp::from_millis),
            value: None,
        })
    }
}

/// Alerts as they were first admitted to an incident.
macro_rules! members {
    ($join:literal, $which:literal) => {
        concat!(
            "SELECT a.incident, min(a.inbox_id) AS inbox_id, a.fingerprint, a.subject, a.name, \
             min(a.starts_at) AS starts_at, max(a.ends_at) AS stands_until, min(a.labels) AS labels, max(a.id) AS newest, \
             (SELECT max(r.id) FROM alert r WHERE r.fingerprint=a.fingerprint AND r.verdict='resolve') AS ended_by, \
             (SELECT max(r.judged_at) FROM alert r WHERE r.fingerprint=a.fingerprint AND r.verdict='resolve') AS ended_at \
             FROM alert a ",
            $join,
            " WHERE a.verdict='admit' AND ",
            $which,
            " GROUP BY a.incident,a.fingerprint,a.subject,a.name ORDER BY min(a.id)"
        )
    };
}

impl Store {
    /// Alerts of open incidents, for rebuilding the correlator after a restart.
    pub async fn open_members(&self) -> Result<Vec<Member>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(members!("JOIN incident i ON i.id=a.incident", "NOT i.is_over")).fetch_all(pool).await
        })?)
    }

    /// Alerts of one incident, as each was first admitted.
    pub async fn admitted_to(&self, incident: &IncidentId) -> Result<Vec<Member>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(members!("", "a.incident=$1")).bind(incident.as_str()).fetch_all(pool).await
        })?)
    }

    /// Alerts of incidents that were resolved since then which have neither ended nor joined another.
    pub async fn outlasting(&self, wall_since: Timestamp) -> Result<Vec<Member>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(members!(
                "JOIN ending e ON e.incident=a.incident",
                "e.at >= $1 AND NOT EXISTS (SELECT 1 FROM alert AS later WHERE later.fingerprint=a.fingerprint \
                 AND later.id>a.id AND later.verdict IN ('resolve','admit') \
                 AND (later.verdict='resolve' OR later.incident<>a.incident))"
            ))
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?)
    }

    /// Firings that were judged, with their labels, and their ends, oldest first.
    pub async fn heard_lately(&self, limit: i64) -> Result<Vec<Heard>, StoreError> {
        type Row = (String, i64, Option<i64>, i64, Option<f64>, Option<String>, String, String, bool, bool);
        let rows: Vec<Row> = on!(self, pool => {
            sqlx::query_as(
                "SELECT fingerprint, starts_at, ends_at, judged_at, value, labels, verdict, reason, \
                   incident IS NOT NULL, EXISTS (SELECT 1 FROM alert AS later \
                     WHERE later.fingerprint=alert.fingerprint AND later.id>alert.id AND later.status='resolved') \
                 FROM alert WHERE (labels IS NOT NULL AND status='firing') OR verdict='resolve' \
                 ORDER BY id DESC LIMIT $1",
            )
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter()
            .rev()
            .map(|(fingerprint, starts_at, until, judged_at, value, labels, verdict, reason, told, ended)| {
                let has_ended = verdict == "resolve";
                let labels: Labels = match labels {
                    Some(labels) => parse("alert", &fingerprint, &labels)?,
                    // An end needs none: who ends is known by its firing.
                    None => Labels::new(),
                };
                let ends_at = Timestamp::from_millis(until.unwrap_or(judged_at));
                let alert = Alert {
                    // Not of the labels: some senders name their alerts themselves.
                    fingerprint: Fingerprint::parse(&fingerprint).unwrap_or_else(|| Fingerprint::of(&labels)),
                    status: if has_ended { Status::Resolved } else { Status::Firing },
                    labels,
                    annotations: Labels::new(),
                    starts_at: Timestamp::from_millis(starts_at),
                    ends_at: has_ended.then_some(ends_at),
                    stands_until: until.filter(|_| !has_ended).map(Timestamp::from_millis),
                    value,
                };
                let standing = match (verdict.as_str(), reason.as_str()) {
                    ("resolve", _) => Standing::Ended { at: ends_at },
                    ("admit", "waits") => Standing::Waits { over: told || ended },
                    ("suppress", "too_brief") => Standing::HeldBack { over: told || ended },
                    ("suppress", "flapping" | "at_the_edge") => Standing::Unsteady { over: ended },
                    ("suppress", "not_anomalous") => Standing::Usual { over: ended },
                    ("suppress", "below_severity_floor" | "too_few") => Standing::Judged,
                    ("suppress", _) => Standing::Muted { over: ended },
                    (_, _) => Standing::Judged,
                };
                Ok(Heard { alert, standing })
            })
            .collect()
    }

    /// Firings that have not ended as far as anybody knows, each once, the newest first.
    pub async fn firing_now(&self, limit: i64) -> Result<Vec<Labels>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT fingerprint, labels FROM alert WHERE labels IS NOT NULL AND status='firing' AND NOT EXISTS \
                   (SELECT 1 FROM alert AS later WHERE later.fingerprint=alert.fingerprint AND later.id>alert.id) \
                 ORDER BY id DESC LIMIT $1",
            )
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(|(fingerprint, labels)| parse("alert", &fingerprint, &labels)).collect()
    }

    /// The start of the newest alert that has been judged.
    pub async fn last_alert_start(&self) -> Result<Option<Timestamp>, StoreError> {
        let last: Option<i64> =
            on!(self, pool => sqlx::query_scalar("SELECT max(starts_at) FROM alert").fetch_one(pool).await)?;
        Ok(last.map(Timestamp::from_millis))
    }

    /// Labels of the first alerts of an incident.
    pub async fn labels_of(&self, incident: &IncidentId, limit: i64) -> Result<Vec<Labels>, StoreError> {
        let rows: Vec<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT labels FROM alert WHERE incident=$1 AND labels IS NOT NULL ORDER BY id LIMIT $2")
                .bind(incident.as_str())
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        rows.iter().map(|labels| parse("alert", incident.as_str(), labels)).collect()
    }
}
