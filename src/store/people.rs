//! What people teach: lessons, labels, orders to merge or split, and the alerts they are asked about.

use std::collections::BTreeSet;

use sqlx::FromRow;

use super::read::parse;
use super::{Store, StoreError, on};
use crate::domain::id::IncidentId;
use crate::domain::incident::Incident;
use crate::domain::time::Timestamp;

/// One pair of a merge or split, kept as training data. `a` and `b` are JSON: subject and name of an alert.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LessonRow {
    /// `together` or `apart`
    pub kind: String,
    pub cluster: String,
    pub a: String,
    pub b: String,
    pub person: String,
    pub because: String,
}

/// What a label is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    Incident,
    /// A suppressed alert that people were asked about.
    Alert,
}

impl LabelKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::Alert => "alert",
        }
    }
}

/// Somebody's word on an incident or an alert; a later one of the same key replaces it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLabel {
    pub key: String,
    pub kind: LabelKind,
    /// Absent when the forest could not score yet.
    pub score: Option<f64>,
    /// `openly`, `admitted`, `audited` or, for what no threshold can change, `elsewhere`.
    pub seen: &'static str,
    /// Of an audited alert: the share of the suppressed that is shown.
    pub share: Option<f64>,
    pub real: bool,
    pub person: String,
    pub because: String,
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct LabelRow {
    pub key: String,
    pub kind: String,
    pub score: Option<f64>,
    pub seen: String,
    pub share: Option<f64>,
    pub real: bool,
    pub person: String,
}

/// A suppressed alert that people are asked about.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct AskedRow {
    pub key: String,
    pub fingerprint: String,
    pub name: String,
    pub subject: String,
    pub reason: String,
    pub explanation: String,
    pub score: Option<f64>,
    pub share: f64,
    pub starts_at: i64,
}

/// Alerts of these subjects go from one incident to the other.
#[derive(Debug, Clone)]
pub struct MovedSubjects {
    pub from: IncidentId,
    pub into: IncidentId,
    pub subjects: Vec<String>,
}

/// The part of a batch that people's acts fill.
#[derive(Debug, Clone, Default)]
pub struct Taught {
    pub lessons: Vec<LessonRow>,
    pub labels: Vec<NewLabel>,
    /// An incident's score has become lower after it was labelled.
    pub rescored: Vec<(IncidentId, f64)>,
    pub asked: Vec<AskedRow>,
    pub moved_subjects: Vec<MovedSubjects>,
    /// Orders that were carried out or refused, with what the person is told.
    pub regrouped: Vec<(i64, String)>,
}

macro_rules! write_taught {
    ($tx:ident, $taught:expr, $at:ident) => {{
        for moved in &$taught.moved_subjects {
            for subject in &moved.subjects {
                sqlx::query("UPDATE alert SET incident=$1 WHERE incident=$2 AND subject=$3")
                    .bind(moved.into.as_str())
                    .bind(moved.from.as_str())
                    .bind(subject)
                    .execute(&mut *$tx)
                    .await?;
            }
        }
        for row in &$taught.lessons {
            sqlx::query("INSERT INTO lesson(kind,cluster,a,b,person,because,at) VALUES($1,$2,$3,$4,$5,$6,$7)")
                .bind(&row.kind)
                .bind(&row.cluster)
                .bind(&row.a)
                .bind(&row.b)
                .bind(&row.person)
                .bind(&row.because)
                .bind($at.millis())
                .execute(&mut *$tx)
                .await?;
        }
        for row in &$taught.labels {
            sqlx::query(
                "INSERT INTO label(key,kind,score,seen,share,real,person,because,at) \
                 VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9) ON CONFLICT(key) DO UPDATE SET score=excluded.score, \
                 seen=excluded.seen, share=excluded.share, real=excluded.real, person=excluded.person, \
                 because=excluded.because, at=excluded.at",
            )
            .bind(&row.key)
            .bind(row.kind.as_str())
            .bind(row.score)
            .bind(row.seen)
            .bind(row.share)
            .bind(row.real)
            .bind(&row.person)
            .bind(&row.because)
            .bind($at.millis())
            .execute(&mut *$tx)
            .await?;
        }
        for (incident, score) in &$taught.rescored {
            sqlx::query("UPDATE label SET score=$1 WHERE key=$2 AND (score IS NULL OR score>$1)")
                .bind(*score)
                .bind(incident.as_str())
                .execute(&mut *$tx)
                .await?;
        }
        for row in &$taught.asked {
            sqlx::query(
                "INSERT INTO asked(key,fingerprint,name,subject,reason,explanation,score,share,starts_at,at) \
                 VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) ON CONFLICT(key) DO NOTHING",
            )
            .bind(&row.key)
            .bind(&row.fingerprint)
            .bind(&row.name)
            .bind(&row.subject)
            .bind(&row.reason)
            .bind(&row.explanation)
            .bind(row.score)
            .bind(row.share)
            .bind(row.starts_at)
            .bind($at.millis())
            .execute(&mut *$tx)
            .await?;
        }
        for (id, outcome) in &$taught.regrouped {
            sqlx::query("UPDATE regroup SET done_at=$1, outcome=$2 WHERE id=$3 AND done_at IS NULL")
                .bind($at.millis())
                .bind(outcome)
                .bind(*id)
                .execute(&mut *$tx)
                .await?;
        }
    }};
}
pub(super) use write_taught;

impl Store {
    /// All lessons, in the order in which they were taught.
    pub async fn lessons(&self) -> Result<Vec<LessonRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT kind,cluster,a,b,person,because FROM lesson ORDER BY id").fetch_all(pool).await
        })?)
    }

    /// Labels that count: what went into another incident is part of that one's.
    pub async fn labels(&self) -> Result<Vec<LabelRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT l.key,l.kind,l.score,l.seen,l.share,l.real,l.person FROM label l \
                 LEFT JOIN incident i ON i.id=l.key WHERE i.state IS NULL OR i.state<>'merged' ORDER BY l.key",
            )
            .fetch_all(pool)
            .await
        })?)
    }

    pub async fn label(&self, key: &str) -> Result<Option<LabelRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT key,kind,score,seen,share,real,person FROM label WHERE key=$1")
                .bind(key)
                .fetch_optional(pool)
                .await
        })?)
    }

    pub async fn asked(&self, key: &str) -> Result<Option<AskedRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT key,fingerprint,name,subject,reason,explanation,score,share,starts_at FROM asked WHERE key=$1",
            )
            .bind(key)
            .fetch_optional(pool)
            .await
        })?)
    }

    /// Suppressed alerts that people were asked about, answers, and answers that it was wrong.
    pub async fn audit_answers(&self) -> Result<(usize, usize, usize), StoreError> {
        let shown: i64 = on!(self, pool => sqlx::query_scalar("SELECT count(*) FROM asked").fetch_one(pool).await)?;
        let answers: Vec<bool> = on!(self, pool => {
            sqlx::query_scalar("SELECT real FROM label WHERE kind='alert'").fetch_all(pool).await
        })?;
        let missed = answers.iter().filter(|real| **real).count();
        Ok((usize::try_from(shown).unwrap_or(0), answers.len(), missed))
    }

    /// Keeps an order to merge or split until the intake has carried it out; gives its number.
    pub async fn order_regroup(&self, body: &str, wall_at: Timestamp) -> Result<i64, StoreError> {
        let _writer = self.core.writer.lock().await;
        Ok(on!(self, pool => {
            sqlx::query_scalar("INSERT INTO regroup(body,asked_at) VALUES($1,$2) RETURNING id")
                .bind(body)
                .bind(wall_at.millis())
                .fetch_one(pool)
                .await
        })?)
    }

    pub async fn open_regroups(&self) -> Result<Vec<(i64, String)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT id,body FROM regroup WHERE done_at IS NULL ORDER BY id").fetch_all(pool).await
        })?)
    }

    /// What became of an order; `None` while it waits.
    pub async fn regroup_outcome(&self, id: i64) -> Result<Option<String>, StoreError> {
        let outcome: Option<Option<String>> = on!(self, pool => {
            sqlx::query_scalar("SELECT outcome FROM regroup WHERE id=$1").bind(id).fetch_optional(pool).await
        })?;
        Ok(outcome.flatten())
    }

    /// Fingerprint and subject of the admitted alerts of an incident.
    pub async fn members_of(&self, incident: &IncidentId) -> Result<Vec<(String, String)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT DISTINCT fingerprint, subject FROM alert WHERE incident=$1 AND verdict='admit'")
                .bind(incident.as_str())
                .fetch_all(pool)
                .await
        })?)
    }

    /// Incidents opened after `since` and not after `until`, oldest first.
    pub async fn opened_between(
        &self,
        wall_since: Timestamp,
        wall_until: Timestamp,
    ) -> Result<Vec<Incident>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as("SELECT id, body FROM incident WHERE opened_at>$1 AND opened_at<=$2 ORDER BY number")
                .bind(wall_since.millis())
                .bind(wall_until.millis())
                .fetch_all(pool)
                .await
        })?;
        rows.iter().map(|(id, body)| parse("incident", id, body)).collect()
    }

    /// Incidents opened since then, and messages that told of any: one for each that was told by itself, and
    /// one for each digest, in however many chats.
    pub async fn told_since(&self, wall_since: Timestamp) -> Result<(u64, u64), StoreError> {
        let since = wall_since.millis();
        let opened: i64 = on!(self, pool => {
            sqlx::query_scalar("SELECT count(*) FROM incident WHERE opened_at>=$1").bind(since).fetch_one(pool).await
        })?;
        let told: i64 = on!(self, pool => {
            sqlx::query_scalar("SELECT count(DISTINCT incident) FROM posted WHERE key LIKE '%/root@%' AND at>=$1")
                .bind(since)
                .fetch_one(pool)
                .await
        })?;
        let digests: Vec<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT key FROM posted WHERE key LIKE 'digest/%' AND at>=$1")
                .bind(since)
                .fetch_all(pool)
                .await
        })?;
        let digests: BTreeSet<&str> = digests.iter().filter_map(|key| Some(key.rsplit_once('@')?.0)).collect();
        Ok((u64::try_from(opened).unwrap_or(0), u64::try_from(told).unwrap_or(0) + digests.len() as u64))
    }
}
