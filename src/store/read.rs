//! Reading back, and the two small writes that stand alone: taking in and leasing out.

use serde::Serialize;
use tracing::error;

use super::lease::write_one;
use super::{Store, StoreError, on};
use crate::domain::alert::{Alert, Fingerprint, Labels, Status};
use crate::domain::diagnosis::Diagnosis;
use crate::domain::evidence::Evidence;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::severity::{Ending, Past};
use crate::domain::time::Timestamp;
use crate::ports::crash;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct InboxRow {
    pub id: i64,
    pub source: String,
    pub kind: String,
    pub body: String,
    pub received_at: i64,
}

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

#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct EventRow {
    pub seq: i64,
    pub kind: String,
    pub at: i64,
    pub body: String,
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
    /// Keeps what a person did before anything else happens to it. A second delivery under the same
    /// `dedupe` is kept once and counts as accepted. Alerts: see `take_in_alerts`.
    pub async fn take_in(
        &self,
        source: &str,
        kind: &str,
        dedupe: Option<&str>,
        body: &str,
        wall_at: Timestamp,
    ) -> Result<(), StoreError> {
        crash::point("people.before_store");
        let _writer = self.core.writer.lock().await;
        on!(self, pool => {
            sqlx::query(
                "INSERT INTO inbox(source,kind,dedupe,body,received_at) VALUES($1,$2,$3,$4,$5) \
                 ON CONFLICT(dedupe) DO NOTHING",
            )
            .bind(source)
            .bind(kind)
            .bind(dedupe)
            .bind(body)
            .bind(wall_at.millis())
            .execute(pool)
            .await
            .map(|_| ())
        })?;
        crash::point("people.stored");
        Ok(())
    }

    pub async fn inbox_open(&self, kind: &str, limit: i64) -> Result<Vec<InboxRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as(
                "SELECT id,source,kind,body,received_at FROM inbox WHERE done_at IS NULL AND kind=$1 ORDER BY id LIMIT $2",
            )
            .bind(kind)
            .bind(limit)
            .fetch_all(pool)
            .await
        })?)
    }

    pub async fn inbox_depth(&self) -> Result<i64, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_scalar("SELECT CAST(coalesce(sum(frames), 0) AS BIGINT) FROM inbox WHERE done_at IS NULL")
                .fetch_one(pool)
                .await
        })?)
    }

    pub async fn incident(&self, id: &IncidentId) -> Result<Option<Incident>, StoreError> {
        let body: Option<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT body FROM incident WHERE id=$1").bind(id.as_str()).fetch_optional(pool).await
        })?;
        body.map(|body| parse("incident", id.as_str(), &body)).transpose()
    }

    /// All incidents, or only those that are not over; oldest first. One that cannot be read, such as of a
    /// newer version that was taken back, does not take the watch from the others: it is left out and told.
    pub async fn incidents(&self, scope: Scope) -> Result<Vec<Incident>, StoreError> {
        let sql = match scope {
            Scope::All => "SELECT id, body FROM incident ORDER BY number",
            Scope::NotOver => "SELECT id, body FROM incident WHERE is_over=FALSE ORDER BY number",
        };
        let rows: Vec<(String, String)> = on!(self, pool => sqlx::query_as(sql).fetch_all(pool).await)?;
        Ok(rows.iter().filter_map(|(id, body)| self.readable(id, body)).collect())
    }

    /// Those that were acted on, and those that were opened since then; oldest first. All of a year are more
    /// than fits into memory.
    pub async fn tried_or_since(&self, wall_since: Timestamp) -> Result<Vec<Incident>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT id, body FROM incident WHERE opened_at>=$1 OR id IN (SELECT incident FROM execution) \
                 ORDER BY number",
            )
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.iter().filter_map(|(id, body)| self.readable(id, body)).collect())
    }

    fn readable(&self, id: &str, body: &str) -> Option<Incident> {
        match parse("incident", id, body) {
            Ok(incident) => Some(incident),
            Err(failure) => {
                let mut told = self.core.unreadable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if told.insert(id.to_owned()) {
                    error!(incident = id, error = %failure, "an incident is left out: was a newer version here?");
                }
                None
            }
        }
    }

    /// Incidents that were left out so far.
    pub fn unreadable(&self) -> Vec<String> {
        let told = self.core.unreadable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        told.iter().cloned().collect()
    }

    /// Incidents in one of two states, as `State::word` names them; oldest first.
    pub async fn incidents_in(&self, states: [&'static str; 2]) -> Result<Vec<Incident>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as("SELECT id, body FROM incident WHERE state IN ($1, $2) ORDER BY number")
                .bind(states[0])
                .bind(states[1])
                .fetch_all(pool)
                .await
        })?;
        rows.iter().map(|(id, body)| parse("incident", id, body)).collect()
    }

    /// Incidents that are to be looked at, the most severe first, with the word for their state.
    pub async fn to_investigate(&self, limit: i64) -> Result<Vec<(IncidentId, String)>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT id, state FROM incident WHERE state IN ('open', 'investigating', 'diagnosed') \
                 ORDER BY severity DESC, number LIMIT $1",
            )
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(|(id, state)| (IncidentId::new(id), state)).collect())
    }

    /// Those in people's hands, with their versions.
    pub async fn handed_over(&self) -> Result<Vec<(IncidentId, i64)>, StoreError> {
        let rows: Vec<(String, i64)> = on!(self, pool => {
            sqlx::query_as("SELECT id, version FROM incident WHERE state='handed_over'").fetch_all(pool).await
        })?;
        Ok(rows.into_iter().map(|(id, version)| (IncidentId::new(id), version)).collect())
    }

    /// Resolved incidents without a post-mortem.
    pub async fn to_remember(&self) -> Result<Vec<Incident>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as("SELECT id, body FROM incident WHERE state='resolved' AND NOT remembered ORDER BY number LIMIT 64")
                .fetch_all(pool)
                .await
        })?;
        Ok(rows.iter().filter_map(|(id, body)| self.readable(id, body)).collect())
    }

    /// Incidents of which an action was begun since then. One that cannot be read is an error: what may be done
    /// depends on what was done.
    pub async fn acted_on(&self, wall_since: Timestamp) -> Result<Vec<Incident>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT id, body FROM incident WHERE id IN (SELECT incident FROM execution WHERE started_at>=$1)",
            )
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?;
        rows.iter().map(|(id, body)| parse("incident", id, body)).collect()
    }

    /// How incidents have ended since then, by kind.
    pub async fn past(&self, wall_since: Timestamp) -> Result<Past, StoreError> {
        let rows: Vec<(String, String, String, bool, i64)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT cluster, name, subject, by_itself, count(*) FROM ending WHERE at >= $1 \
                 GROUP BY cluster, name, subject, by_itself",
            )
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?;
        let mut past = Past::default();
        for (cluster, name, subject, by_itself, times) in rows {
            past.count(Ending { cluster, name, subject, by_itself }, u32::try_from(times).unwrap_or(u32::MAX));
        }
        Ok(past)
    }

    /// Tokens and money that models have taken since then, over all incidents and conversations.
    pub async fn reasoned_since(&self, wall_since: Timestamp) -> Result<(u64, f64), StoreError> {
        let bodies: Vec<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT body FROM incident_event WHERE kind='reasoned' AND at>=$1")
                .bind(wall_since.millis())
                .fetch_all(pool)
                .await
        })?;
        let talked: Vec<String> = on!(self, pool => {
            // Its kind stands here, so that the index over these alone is used.
            sqlx::query_scalar("SELECT body FROM audit WHERE kind='conversation.reasoned' AND at>=$1")
                .bind(wall_since.millis())
                .fetch_all(pool)
                .await
        })?;
        let (mut tokens, mut cost) = (0, 0.0);
        for body in talked {
            let said: serde_json::Value = parse("audit", super::CONVERSED, &body)?;
            tokens += said["step"]["tokens"].as_u64().unwrap_or(0);
            cost += said["step"]["cost"].as_f64().unwrap_or(0.0);
        }
        for body in bodies {
            if let IncidentEvent::Reasoned { step } = parse("incident_event", "reasoned", &body)? {
                tokens += step.tokens;
                cost += step.cost;
            }
        }
        Ok((tokens, cost))
    }

    /// Incidents that were diagnosed since then, each with what was found, oldest first.
    pub async fn diagnosed_since(&self, wall_since: Timestamp) -> Result<Vec<(IncidentId, Diagnosis)>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT incident, body FROM incident_event WHERE kind='diagnosed' AND at>=$1 ORDER BY at, incident",
            )
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?;
        let mut found = vec![];
        for (incident, body) in rows {
            if let IncidentEvent::Diagnosed { diagnosis } = parse("incident_event", &incident, &body)? {
                found.push((IncidentId::new(incident), diagnosis));
            }
        }
        Ok(found)
    }

    pub async fn next_incident_number(&self) -> Result<i64, StoreError> {
        let highest: Option<i64> =
            on!(self, pool => sqlx::query_scalar("SELECT max(number) FROM incident").fetch_one(pool).await)?;
        Ok(highest.unwrap_or(0) + 1)
    }

    pub async fn events(&self, id: &IncidentId) -> Result<Vec<EventRow>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT seq,kind,at,body FROM incident_event WHERE incident=$1 ORDER BY seq")
                .bind(id.as_str())
                .fetch_all(pool)
                .await
        })?)
    }

    pub async fn evidence(&self, id: &str) -> Result<Option<Evidence>, StoreError> {
        let body: Option<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT body FROM evidence WHERE id=$1").bind(id).fetch_optional(pool).await
        })?;
        body.map(|body| parse("evidence", id, &body)).transpose()
    }

    pub async fn evidence_of(&self, incident: &IncidentId) -> Result<Vec<Evidence>, StoreError> {
        let rows: Vec<(String, String)> = on!(self, pool => {
            sqlx::query_as("SELECT id, body FROM evidence WHERE incident=$1").bind(incident.as_str()).fetch_all(pool).await
        })?;
        let mut evidence: Vec<Evidence> =
            rows.iter().map(|(id, body)| parse("evidence", id, body)).collect::<Result<_, _>>()?;
        evidence.sort_by_key(|one| one.id.mark().trim_start_matches('E').parse::<u32>().unwrap_or(0));
        Ok(evidence)
    }

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

    /// Incidents that people already decide about or that are acted on.
    pub async fn pinned_incidents(&self) -> Result<Vec<IncidentId>, StoreError> {
        let ids: Vec<String> = on!(self, pool => {
            sqlx::query_scalar(
                "SELECT id FROM incident WHERE is_over=FALSE AND state NOT IN ('open', 'investigating', 'diagnosed')",
            )
            .fetch_all(pool)
            .await
        })?;
        Ok(ids.into_iter().map(IncidentId::new).collect())
    }

    /// The names of all that are not over.
    pub async fn open_incidents(&self) -> Result<Vec<IncidentId>, StoreError> {
        let ids: Vec<String> = on!(self, pool => {
            sqlx::query_scalar("SELECT id FROM incident WHERE is_over=FALSE").fetch_all(pool).await
        })?;
        Ok(ids.into_iter().map(IncidentId::new).collect())
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

    pub async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_scalar("SELECT value FROM setting WHERE name=$1").bind(name).fetch_optional(pool).await
        })?)
    }

    /// Settings whose name begins so, by name.
    pub async fn settings_under(&self, beginning: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT name, value FROM setting WHERE substr(name, 1, $1)=$2 ORDER BY name")
                .bind(beginning.chars().count() as i32)
                .bind(beginning)
                .fetch_all(pool)
                .await
        })?)
    }

    pub async fn votes(&self, plan: &str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT person, decision FROM vote WHERE plan=$1 ORDER BY at").bind(plan).fetch_all(pool).await
        })?)
    }

    /// Plan, incident and beginning of what was begun since then; undos are not executions.
    pub async fn executions_since(
        &self,
        wall_since: Timestamp,
    ) -> Result<Vec<(String, String, Timestamp)>, StoreError> {
        let rows: Vec<(String, String, i64)> = on!(self, pool => {
            sqlx::query_as(
                "SELECT plan, incident, started_at FROM execution WHERE started_at>=$1 AND plan NOT LIKE '%-undo'",
            )
            .bind(wall_since.millis())
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(|(plan, incident, at)| (plan, incident, Timestamp::from_millis(at))).collect())
    }

    pub async fn execution(
        &self,
        plan: &str,
    ) -> Result<Option<(String, String, Option<String>, i64, String)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT stage, before, result, deadline, digest FROM execution WHERE plan=$1")
                .bind(plan)
                .fetch_optional(pool)
                .await
        })?)
    }

    /// Messages of the local console.
    pub async fn save_message(&self, channel: &str, ts: &str, body: &str) -> Result<(), StoreError> {
        write_one!(self, tx => {
            sqlx::query(
                "INSERT INTO message(channel,ts,body,changed) \
                 VALUES($1,$2,$3,(SELECT coalesce(max(changed),0)+1 FROM message)) ON CONFLICT(channel,ts) \
                 DO UPDATE SET body=excluded.body, changed=excluded.changed",
            )
            .bind(channel)
            .bind(ts)
            .bind(body)
            .execute(&mut *tx)
        });
        Ok(())
    }

    /// Messages that were written at this number or later, each with its own.
    pub async fn messages_from(&self, changed: i64) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(on!(self, pool => {
            sqlx::query_as("SELECT body, changed FROM message WHERE changed>=$1 ORDER BY changed, ts")
                .bind(changed)
                .fetch_all(pool)
                .await
        })?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    NotOver,
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    table: &'static str,
    row: &str,
    body: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt {
        table,
        row: row.into(),
        reason: error.to_string(),
    })
}
