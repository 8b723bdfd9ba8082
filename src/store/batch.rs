//! One transaction: what was decided, and what is to be told and done because of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;
use sqlx::QueryBuilder;

use super::lease::{EPOCH, EPOCH_HELD, within_fence};
use super::ledger::{HOUR, Repeats, pack_repeats};
use super::people::{Taught, write_taught};
use super::{Db, Store, StoreError, audit, bounded};
use crate::domain::alert::Labels;
use crate::domain::evidence::Evidence;
use crate::domain::id::{Digest, IncidentId};
use crate::domain::incident::{IllegalTransition, Incident, IncidentEvent};
use crate::domain::severity::Ending;
use crate::domain::time::Timestamp;
use crate::ports::crash;

/// Everything that becomes true together, or not at all.
#[derive(Default)]
pub struct Batch {
    pub ledger: Vec<LedgerRow>,
    pub repeats: Repeats,
    pub drafts: Vec<Draft>,
    pub effects: Vec<NewEffect>,
    pub evidence: Vec<Evidence>,
    pub audit: Vec<AuditEntry>,
    pub inbox_done: Vec<i64>,
    pub settings: Vec<(String, String)>,
    /// Settings that were read for this: when one has another value by now, nothing is written. Goes with
    /// an audit entry, whose lock puts such batches one behind the other.
    pub unless_changed: Vec<(String, Option<String>)>,
    pub votes: Vec<(String, String, String)>,
    pub executions: Vec<ExecutionRow>,
    pub posted: Vec<PostedRow>,
    /// Moves ledger rows of a merged incident.
    pub moved: Vec<(IncidentId, IncidentId)>,
    pub told_late: Vec<ToldLate>,
    pub taught: Taught,
}

/// A firing that waited, or was held back, belongs to an incident now: its newest row says so.
#[derive(Debug, Clone)]
pub struct ToldLate {
    pub fingerprint: String,
    pub incident: IncidentId,
    pub subject: String,
}

#[derive(Debug, Clone)]
pub struct LedgerRow {
    pub inbox_id: i64,
    pub cluster: String,
    pub team: String,
    pub fingerprint: String,
    pub name: String,
    pub subject: String,
    pub severity: &'static str,
    pub status: &'static str,
    pub starts_at: Timestamp,
    /// Of a firing: until when its sender stands for it.
    pub ends_at: Option<Timestamp>,
    pub value: Option<f64>,
    /// `admit`, `suppress` or `resolve`
    pub verdict: &'static str,
    /// The counter's label.
    pub reason: String,
    pub explanation: String,
    pub incident: Option<String>,
    /// It was judged, and counted, before.
    pub again: bool,
    /// Kept for the first of a fingerprint; repeats have the same.
    pub labels: Option<Labels>,
}

/// An incident with events that are applied but not yet written.
#[derive(Debug, Clone)]
pub struct Draft {
    pub incident: Incident,
    base_version: i64,
    events: Vec<(IncidentEvent, Timestamp)>,
}

impl Draft {
    pub fn of(incident: Incident) -> Self {
        Self { base_version: incident.version, incident, events: vec![] }
    }

    /// A word of whoever it was handed to accepts it: that is written before what they have said.
    pub fn record(&mut self, event: IncidentEvent, wall_at: Timestamp) -> Result<(), IllegalTransition> {
        if let Some(by) = self.incident.accepted_by(&event) {
            self.write(IncidentEvent::Accepted { by }, wall_at)?;
        }
        self.write(event, wall_at)
    }

    fn write(&mut self, event: IncidentEvent, wall_at: Timestamp) -> Result<(), IllegalTransition> {
        self.incident.apply(&event, wall_at)?;
        self.events.push((event, wall_at));
        Ok(())
    }

    /// Whether the incident is not in the store yet.
    pub fn is_new(&self) -> bool {
        self.base_version == 0
    }

    pub fn is_changed(&self) -> bool {
        !self.events.is_empty()
    }

    pub fn events(&self) -> impl Iterator<Item = &IncidentEvent> {
        self.events.iter().map(|(event, _)| event)
    }
}

/// Something to tell; the card is rendered from the incident when it is delivered, so that the
/// latest state wins and edits coalesce under one key.
#[derive(Debug, Clone)]
pub struct NewEffect {
    pub key: String,
    pub incident: Option<String>,
    /// `flow::deliver::Effect` as JSON.
    pub body: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    pub kind: String,
    pub subject: String,
    pub body: serde_json::Value,
}

/// The saga log of one plan; its primary key makes "at most once" a constraint of the database.
#[derive(Debug, Clone)]
pub struct ExecutionRow {
    pub plan: String,
    pub incident: String,
    pub stage: String,
    pub digest: String,
    pub before: String,
    pub result: Option<String>,
    pub deadline: Timestamp,
    /// Claims the plan: fails when it was ever claimed before.
    pub claim: Claim,
    /// Settings of which none may hold when it is claimed: the kill switch and its narrower kin.
    pub pauses: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    First,
    Progress,
}

#[derive(Debug, Clone)]
pub struct PostedRow {
    pub key: String,
    pub chat: String,
    pub channel: String,
    pub ts: String,
    pub thread: Option<String>,
    pub incident: Option<String>,
    pub card: String,
}

/// Rows of one INSERT; SQLite allows 32,766 variables.
const LEDGER_CHUNK: usize = 400;

macro_rules! write_batch {
    ($tx:ident, $batch:ident, $at:ident, $labels:ident, $ended:ident, $lock:expr) => {{
        let mut links: Vec<(String, String, String)> = vec![];
        for chunk in $batch.ledger.chunks(LEDGER_CHUNK) {
            let mut insert = QueryBuilder::new(
                "INSERT INTO alert(inbox_id,cluster,team,fingerprint,name,subject,severity,status,starts_at,ends_at,\
                 value,verdict,reason,explanation,incident,labels,judged_at) ",
            );
            insert.push_values(chunk, |mut row, alert| {
                row.push_bind(alert.inbox_id)
                    .push_bind(&alert.cluster)
                    .push_bind(&alert.team)
                    .push_bind(&alert.fingerprint)
                    .push_bind(&alert.name)
                    .push_bind(&alert.subject)
                    .push_bind(alert.severity)
                    .push_bind(alert.status)
                    .push_bind(alert.starts_at.millis())
                    .push_bind(alert.ends_at.map(|at| at.millis()))
                    .push_bind(alert.value)
                    .push_bind(alert.verdict)
                    .push_bind(&alert.reason)
                    .push_bind(&alert.explanation)
                    .push_bind(&alert.incident)
                    .push_bind(alert.labels.as_ref().and_then(|labels| serde_json::to_string(labels).ok()))
                    .push_bind($at.millis());
            });
            insert.build().execute(&mut *$tx).await?;
        }
        for (reason, times) in &$batch.repeats.by_reason {
            sqlx::query(
                "INSERT INTO alert_repeat(first_inbox,last_inbox,reason,alerts,judged_at,packed) VALUES($1,$2,$3,$4,$5,$6)",
            )
            .bind($batch.repeats.first_inbox)
            .bind($batch.repeats.last_inbox)
            .bind(*reason)
            .bind(Repeats::count(times))
            .bind($at.millis())
            .bind(pack_repeats(times))
            .execute(&mut *$tx)
            .await?;
        }
        for ((verdict, reason), count) in $batch.counts() {
            sqlx::query(
                "INSERT INTO funnel(hour,verdict,reason,count) VALUES($1,$2,$3,$4) \
                 ON CONFLICT(hour,verdict,reason) DO UPDATE SET count = funnel.count + excluded.count",
            )
            .bind($at.millis().div_euclid(HOUR))
            .bind(verdict)
            .bind(reason)
            .bind(count)
            .execute(&mut *$tx)
            .await?;
        }
        for late in &$batch.told_late {
            sqlx::query(
                "UPDATE alert SET incident=$1, verdict='admit', subject=$2 WHERE incident IS NULL AND id=\
                 (SELECT max(id) FROM alert WHERE fingerprint=$3 AND status='firing' AND labels IS NOT NULL)",
            )
            .bind(late.incident.as_str())
            .bind(&late.subject)
            .bind(&late.fingerprint)
            .execute(&mut *$tx)
            .await?;
        }
        for (from, into) in &$batch.moved {
            sqlx::query("UPDATE alert SET incident=$1 WHERE incident=$2")
                .bind(into.as_str())
                .bind(from.as_str())
                .execute(&mut *$tx)
                .await?;
        }
        write_taught!($tx, $batch.taught, $at);
        crash::point("tx.before_events");
        for draft in &mut $batch.drafts {
            let id = draft.incident.id.as_str().to_owned();
            // The events are numbered behind the version that was read: if somebody else appended
            // meanwhile, the primary key or the version says so and nothing of this batch happens.
            let mut head = draft.incident.head.clone();
            for (offset, (event, event_wall_at)) in draft.events.iter().enumerate() {
                let seq = draft.base_version + 1 + offset as i64;
                let body = serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                let kind = event.kind();
                let hash = audit::event_link(&head, &id, seq, &kind, event_wall_at.millis(), &body);
                let inserted = sqlx::query(
                    "INSERT INTO incident_event(incident,seq,kind,at,body,prev,hash) VALUES($1,$2,$3,$4,$5,$6,$7) \
                     ON CONFLICT(incident,seq) DO NOTHING",
                )
                .bind(&id)
                .bind(seq)
                .bind(&kind)
                .bind(event_wall_at.millis())
                .bind(&body)
                .bind(head.as_str())
                .bind(hash.as_str())
                .execute(&mut *$tx)
                .await?
                .rows_affected();
                if inserted == 0 {
                    return Err(StoreError::Stale(id));
                }
                links.push((format!("incident.{kind}"), format!("{id}#{seq}"), hash.as_str().to_owned()));
                head = hash;
            }
            draft.incident.head = head;
            let body =
                serde_json::to_string(&draft.incident).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            let changed = if draft.base_version == 0 {
                sqlx::query(
                    "INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body,severity,remembered) \
                     VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11) ON CONFLICT(id) DO NOTHING",
                )
                .bind(&id)
                .bind(id.trim_start_matches("INC-").parse::<i64>().unwrap_or_default())
                .bind(&draft.incident.cluster)
                .bind(&draft.incident.team)
                .bind(draft.incident.state.word())
                .bind(draft.incident.state.is_over())
                .bind(draft.incident.version)
                .bind(draft.incident.opened_at.millis())
                .bind(&body)
                .bind(draft.incident.severity as i64)
                .bind(draft.incident.post_mortem.is_some())
                .execute(&mut *$tx)
                .await?
                .rows_affected()
            } else {
                sqlx::query(
                    "UPDATE incident SET state=$1,is_over=$2,version=$3,body=$4,team=$7,severity=$8,remembered=$9 \
                     WHERE id=$5 AND version=$6",
                )
                    .bind(draft.incident.state.word())
                    .bind(draft.incident.state.is_over())
                    .bind(draft.incident.version)
                    .bind(&body)
                    .bind(&id)
                    .bind(draft.base_version)
                    .bind(&draft.incident.team)
                    .bind(draft.incident.severity as i64)
                    .bind(draft.incident.post_mortem.is_some())
                    .execute(&mut *$tx)
                    .await?
                    .rows_affected()
            };
            if changed != 1 {
                return Err(StoreError::Stale(id));
            }
            if let Some(ending) = Ending::of(&draft.incident) {
                sqlx::query(
                    "INSERT INTO ending(incident,cluster,name,subject,by_itself,at) VALUES($1,$2,$3,$4,$5,$6) \
                     ON CONFLICT(incident) DO NOTHING",
                )
                .bind(&id)
                .bind(&ending.cluster)
                .bind(&ending.name)
                .bind(&ending.subject)
                .bind(ending.by_itself)
                .bind($at.millis())
                .execute(&mut *$tx)
                .await?;
            }
            draft.base_version = draft.incident.version;
            draft.events.clear();
        }
        crash::point("tx.before_evidence");
        for evidence in &$batch.evidence {
            let body = serde_json::to_string(evidence).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            let added = sqlx::query(
                "INSERT INTO evidence(id,incident,digest,at,body) VALUES($1,$2,$3,$4,$5) ON CONFLICT(id) DO NOTHING",
            )
            .bind(evidence.id.as_str())
            .bind(evidence.incident.as_str())
            .bind(evidence.digest.as_str())
            .bind($at.millis())
            .bind(&body)
            .execute(&mut *$tx)
            .await?;
            // The same again is a repetition; something else under its number must not be lost in silence.
            if added.rows_affected() == 0 {
                let there: Option<String> = sqlx::query_scalar("SELECT digest FROM evidence WHERE id=$1")
                    .bind(evidence.id.as_str())
                    .fetch_optional(&mut *$tx)
                    .await?;
                if there.as_deref() != Some(evidence.digest.as_str()) {
                    return Err(StoreError::Stale(evidence.id.to_string()));
                }
            }
        }
        for (plan, person, decision) in &$batch.votes {
            let added = sqlx::query("INSERT INTO vote(plan,person,decision,at) VALUES($1,$2,$3,$4) ON CONFLICT DO NOTHING")
                .bind(plan)
                .bind(person)
                .bind(decision)
                .bind($at.millis())
                .execute(&mut *$tx)
                .await?
                .rows_affected();
            if added == 0 {
                return Err(StoreError::Stale(plan.clone()));
            }
        }
        crash::point("tx.before_executions");
        for row in &$batch.executions {
            let changed = match row.claim {
                Claim::First => {
                    sqlx::query(
                        "INSERT INTO execution(plan,incident,stage,digest,before,result,started_at,updated_at,deadline) \
                         VALUES($1,$2,$3,$4,$5,$6,$7,$7,$8) ON CONFLICT(plan) DO NOTHING",
                    )
                    .bind(&row.plan)
                    .bind(&row.incident)
                    .bind(&row.stage)
                    .bind(&row.digest)
                    .bind(&row.before)
                    .bind(&row.result)
                    .bind($at.millis())
                    .bind(row.deadline.millis())
                    .execute(&mut *$tx)
                    .await?
                    .rows_affected()
                }
                Claim::Progress => {
                    sqlx::query("UPDATE execution SET stage=$1,result=$2,updated_at=$3,deadline=$5 WHERE plan=$4")
                        .bind(&row.stage)
                        .bind(&row.result)
                        .bind($at.millis())
                        .bind(&row.plan)
                        .bind(row.deadline.millis())
                        .execute(&mut *$tx)
                        .await?
                        .rows_affected()
                }
            };
            if changed != 1 {
                return Err(StoreError::Stale(row.plan.clone()));
            }
            if row.claim == Claim::First {
                // S13: the kill switch is read in the transaction that claims the execution.
                for name in &row.pauses {
                    let paused: Option<String> = sqlx::query_scalar("SELECT value FROM setting WHERE name=$1")
                        .bind(name)
                        .fetch_optional(&mut *$tx)
                        .await?;
                    if paused.is_some_and(|value| value != "null") {
                        return Err(StoreError::Stale(format!("{} (paused)", row.plan)));
                    }
                }
            }
        }
        crash::point("tx.before_effects");
        for effect in &$batch.effects {
            sqlx::query(
                "INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) VALUES($1,$2,$3,'due',0,0,$4) \
                 ON CONFLICT(key) DO UPDATE SET state='due', body=excluded.body, revision=outbox.revision+1, not_before=0",
            )
            .bind(&effect.key)
            .bind(&effect.incident)
            .bind(&effect.body)
            .bind($at.millis())
            .execute(&mut *$tx)
            .await?;
        }
        crash::point("tx.before_posted");
        for row in &$batch.posted {
            sqlx::query(
                "INSERT INTO posted(key,chat,channel,ts,thread,incident,at,card) VALUES($1,$2,$3,$4,$5,$6,$7,$8) \
                 ON CONFLICT(key) DO UPDATE SET channel=excluded.channel, ts=excluded.ts, card=excluded.card, at=excluded.at",
            )
            .bind(&row.key)
            .bind(&row.chat)
            .bind(&row.channel)
            .bind(&row.ts)
            .bind(&row.thread)
            .bind(&row.incident)
            .bind($at.millis())
            .bind(&row.card)
            .execute(&mut *$tx)
            .await?;
        }
        for id in &$batch.inbox_done {
            sqlx::query("UPDATE inbox SET done_at=$1 WHERE id=$2").bind($at.millis()).bind(id).execute(&mut *$tx).await?;
        }
        for entry in &$batch.audit {
            links.push((entry.kind.clone(), entry.subject.clone(), entry.body.to_string()));
        }
        crash::point("tx.before_audit");
        if !links.is_empty() {
            let (mut seq, head): (i64, String) = sqlx::query_as($lock).fetch_one(&mut *$tx).await?;
            let mut head = Digest::from_hex(head);
            for (kind, subject, body) in &links {
                seq += 1;
                let hash = audit::audit_link(&head, seq, $at.millis(), kind, subject, body);
                sqlx::query("INSERT INTO audit(seq,at,kind,subject,body,prev,hash) VALUES($1,$2,$3,$4,$5,$6,$7)")
                    .bind(seq)
                    .bind($at.millis())
                    .bind(kind)
                    .bind(subject)
                    .bind(body)
                    .bind(head.as_str())
                    .bind(hash.as_str())
                    .execute(&mut *$tx)
                    .await?;
                head = hash;
            }
            sqlx::query("UPDATE audit_head SET seq=$1, hash=$2 WHERE one=1")
                .bind(seq)
                .bind(head.as_str())
                .execute(&mut *$tx)
                .await?;
        }
        // Behind the lock of the audit chain: what another process has written meanwhile is seen.
        for (name, expected) in &$batch.unless_changed {
            let value: Option<String> = sqlx::query_scalar("SELECT value FROM setting WHERE name=$1")
                .bind(name)
                .fetch_optional(&mut *$tx)
                .await?;
            if value != *expected {
                return Err(StoreError::Stale(format!("the setting {name}")));
            }
        }
        for (name, value) in &$batch.settings {
            sqlx::query(
                "INSERT INTO setting(name,value,at) VALUES($1,$2,$3) \
                 ON CONFLICT(name) DO UPDATE SET value=excluded.value, at=excluded.at",
            )
            .bind(name)
            .bind(value)
            .bind($at.millis())
            .execute(&mut *$tx)
            .await?;
        }
        for (name, changed) in [("labels", $labels), ("endings", $ended)] {
            if changed {
                sqlx::query("UPDATE revision SET value=value+1 WHERE name=$1").bind(name).execute(&mut *$tx).await?;
            }
        }
    }};
}

impl Batch {
    /// How many alerts of this batch had which verdict and reason.
    fn counts(&self) -> BTreeMap<(&'static str, String), i64> {
        let mut counts: BTreeMap<(&'static str, String), i64> = BTreeMap::new();
        for row in self.ledger.iter().filter(|row| !row.again) {
            *counts.entry((row.verdict, row.reason.clone())).or_default() += 1;
        }
        for (reason, times) in &self.repeats.by_reason {
            *counts.entry(("suppress", (*reason).to_owned())).or_default() += Repeats::count(times);
        }
        counts
    }
}

impl Store {
    /// Writes the batch in one transaction. `Stale` means that nothing was written.
    pub async fn commit(&self, mut batch: Batch, wall_at: Timestamp) -> Result<Vec<Incident>, StoreError> {
        self.commit_in_place(&mut batch, wall_at).await?;
        Ok(batch.drafts.into_iter().map(|draft| draft.incident).collect())
    }

    /// As `commit`, for a batch that is large and may have to be tried again: its drafts are to be
    /// made anew after a failure.
    pub async fn commit_in_place(&self, batch: &mut Batch, wall_at: Timestamp) -> Result<(), StoreError> {
        let ended = batch.drafts.iter().any(|draft| Ending::of(&draft.incident).is_some());
        let over = batch.drafts.iter().any(|draft| draft.incident.state.is_over());
        // Named after what would become true, on either side of it.
        let told: Vec<String> = match crash::is_armed() {
            true => batch.drafts.iter().flat_map(|draft| draft.events().map(IncidentEvent::kind)).collect(),
            false => vec![],
        };
        told.iter().for_each(|kind| crash::point(&format!("before.{kind}")));
        let labels = !batch.taught.labels.is_empty() || !batch.taught.rescored.is_empty();
        match &self.core.db {
            Db::Sqlite(pool) => {
                let _writer = self.core.writer.lock().await;
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                within_fence!(self, tx, EPOCH);
                write_batch!(tx, batch, wall_at, labels, ended, "SELECT seq, hash FROM audit_head WHERE one=1");
                crash::point("tx.before_commit");
                tx.commit().await?;
            }
            Db::Postgres(pool) => {
                let written = async {
                    let mut tx = pool.begin().await?;
                    within_fence!(self, tx, EPOCH_HELD);
                    write_batch!(
                        tx,
                        batch,
                        wall_at,
                        labels,
                        ended,
                        "SELECT seq, hash FROM audit_head WHERE one=1 FOR UPDATE"
                    );
                    tx.commit().await?;
                    Ok::<_, StoreError>(())
                };
                bounded(Box::pin(written)).await?;
            }
        }
        told.iter().for_each(|kind| crash::point(&format!("after.{kind}")));
        if labels {
            self.core.labels.fetch_add(1, Ordering::Release);
        }
        if over {
            self.core.over.fetch_add(1, Ordering::Release);
        }
        if ended {
            self.core.endings.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}
