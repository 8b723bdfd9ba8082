//! Reading back, and the two small writes that stand alone: taking in and leasing out.

use serde::Serialize;
use tracing::error;

use super::lease::write_one;
use super::{Store, StoreError, on};
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

#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct EventRow {
    pub seq: i64,
    pub kind: String,
    pub at: i64,
    pub body: String,
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
