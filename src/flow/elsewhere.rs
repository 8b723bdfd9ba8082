//! Outbox -> other systems: pagers, trackers, other chats, webhooks.
//!
//! Invariants: what is told is decided in the transaction of what happened; in order for each system and
//! incident; one system that is away holds up no other, nor the chat.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, warn};

use super::deliver::Effect;
use super::desk::{Decision, Desk, FlowError};
use crate::domain::card::{Block, Card, Span};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::notice::{Notice, Phase, phase_of};
use crate::domain::time::Timestamp;
use crate::ports::{Attempt, Outlet, OutletError, Person};
use crate::store::{Batch, Draft, ELSEWHERE, NewEffect, OutboxRow};

/// Tried for so long; later nobody would want it.
const KEPT: Duration = Duration::from_secs(3 * 86_400);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const AT_ONCE: i64 = 64;

/// What others hear of the drafts in the batch. Called before they are written.
pub fn announce(desk: &Desk, batch: &mut Batch, wall_now: Timestamp) {
    if desk.outlets.is_empty() {
        return;
    }
    let effects: Vec<NewEffect> = batch.drafts.iter().flat_map(|draft| of_draft(desk, draft, wall_now)).collect();
    batch.effects.extend(effects);
}

fn of_draft(desk: &Desk, draft: &Draft, wall_now: Timestamp) -> Vec<NewEffect> {
    let mut effects = vec![];
    let first = draft.incident.version - draft.events().count() as i64 + 1;
    for (number, event) in draft.events().enumerate() {
        // A new incident is told with the severity that it turned out to have.
        let twice = draft.is_new() && matches!(event, IncidentEvent::SeverityChanged { .. });
        if let Some(told) = phase_of(event).filter(|_| !twice) {
            let notice = notice(desk, &draft.incident, told, first + number as i64, wall_now);
            effects.extend(for_all(desk, &notice));
        }
    }
    effects
}

fn notice(
    desk: &Desk,
    incident: &Incident,
    told: (Phase, String, Option<String>),
    version: i64,
    wall_now: Timestamp,
) -> Notice {
    let source = &desk.config.elsewhere.source;
    Notice { version, ..Notice::of(incident, told, wall_now, source, &desk.config.console_url()) }
}

fn for_all(desk: &Desk, notice: &Notice) -> Vec<NewEffect> {
    let wants = desk.outlets.iter().filter(|outlet| outlet.wants(notice));
    wants
        .map(|outlet| NewEffect {
            key: format!(
                "{ELSEWHERE}{}/{}/{:08}-{}",
                outlet.name(),
                notice.incident,
                notice.version,
                notice.phase.as_str()
            ),
            incident: Some(notice.incident.clone()),
            body: serde_json::to_string(notice).unwrap_or_default(),
        })
        .collect()
}

/// Names of the systems that take tasks for later.
pub fn trackers(desk: &Desk) -> Vec<String> {
    desk.outlets.iter().filter(|outlet| outlet.tracks()).map(|outlet| outlet.name().to_owned()).collect()
}

/// A task for later, for the systems that take them.
pub fn follow_up(desk: &Desk, change: &mut Decision<'_>, by: &Person, text: &str) {
    let told = (Phase::FollowUp, text.to_owned(), Some(format!("{} ({})", by.name, by.id)));
    let notice = notice(desk, change.incident(), told, change.incident().version, change.wall_now);
    let effects = for_all(desk, &notice);
    change.batch.effects.extend(effects);
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    if desk.outlets.is_empty() {
        while !desk.stopping() {
            desk.wait(&desk.bells.elsewhere, Duration::from_secs(3600)).await;
        }
        return Ok(());
    }
    // Each at its own pace: one that hangs holds up no other.
    let queues = desk.outlets.iter().map(|outlet| queue(&desk, outlet.as_ref()));
    futures::future::try_join_all(queues).await.map(drop)
}

async fn queue(desk: &Desk, outlet: &dyn Outlet) -> Result<(), FlowError> {
    let resting: Mutex<HashMap<String, Instant>> = Mutex::default();
    while !desk.stopping() {
        if !round(desk, outlet, &resting).await? {
            desk.wait(&desk.bells.elsewhere, Duration::from_millis(250)).await;
        }
    }
    Ok(())
}

/// One look at the queue of one system; gives whether anything was delivered.
async fn round(desk: &Desk, outlet: &dyn Outlet, resting: &Mutex<HashMap<String, Instant>>) -> Result<bool, FlowError> {
    if resting.lock().await.get(outlet.name()).is_some_and(|until| *until > Instant::now()) {
        return Ok(false);
    }
    let queue = format!("{ELSEWHERE}{}/", outlet.name());
    let rows = desk.store.outbox_under(&queue, AT_ONCE).await?;
    let wall_now = desk.clock.wall_now();
    let mut progressed = false;
    let mut waiting: Vec<&str> = vec![];
    for row in &rows {
        let incident = row.incident.as_deref().unwrap_or_default();
        // The rows of one incident are sent in order: the first that waits holds up the rest.
        if waiting.contains(&incident) {
            continue;
        }
        if row.not_before > wall_now.millis() {
            waiting.push(incident);
            continue;
        }
        if desk.stopping() {
            break;
        }
        match deliver(desk, outlet, row).await {
            Ok(()) => progressed = true,
            Err(failure) => {
                let rest = postpone(desk, outlet, row, &failure).await?;
                waiting.push(incident);
                if let Some(rest) = rest {
                    resting.lock().await.insert(outlet.name().to_owned(), Instant::now() + rest);
                    break;
                }
            }
        }
    }
    Ok(progressed)
}

async fn deliver(desk: &Desk, outlet: &dyn Outlet, row: &OutboxRow) -> Result<(), OutletError> {
    let notice: Notice =
        serde_json::from_str(&row.body).map_err(|why| OutletError::Refused(format!("unreadable notice: {why}")))?;
    let attempt = if row.attempts == 0 { Attempt::First } else { Attempt::Again };
    if outlet.tracks() {
        // Written before: whoever finds it after a crash looks for what was made before making it again.
        let begun = desk.store.outbox_begun(row).await;
        begun.map_err(|failure| OutletError::Unavailable(failure.to_string()))?;
    }
    desk.term.sure().await.map_err(|lost| OutletError::Unavailable(lost.to_string()))?;
    let named = outlet.send(&row.key, &notice, attempt).await?;
    if let Some(named) = named {
        tell_name(desk, outlet, &notice, &named).await;
    }
    let done = desk.store.outbox_ended(row, None, desk.clock.wall_now()).await;
    done.map_err(|failure| OutletError::Unknown(failure.to_string()))
}

/// What it is called there, so that people find it.
async fn tell_name(desk: &Desk, outlet: &dyn Outlet, notice: &Notice, named: &str) {
    let text = format!("{} keeps it as {named}", outlet.name());
    let spans = vec![
        Span::plain(format!("{}: ", outlet.name())),
        Span::quoted(named),
        Span::plain(" "),
        Span::quoted(notice.text.clone()),
    ];
    let card = Card { fallback: text, blocks: vec![Block::Text { spans }] };
    let told = desk
        .change(&IncidentId::new(notice.incident.clone()), |change| {
            change.tell(&format!("note/{}/{}", outlet.name(), notice.version), &Effect::Note { card: card.clone() });
            Ok(())
        })
        .await;
    if let Err(failure) = told {
        warn!(incident = notice.incident, error = %failure, named, "the thread does not learn what it is called there");
    }
}

/// How long the whole system is left alone, if it is; a row that will never work leaves the queue.
async fn postpone(
    desk: &Desk,
    outlet: &dyn Outlet,
    row: &OutboxRow,
    failure: &OutletError,
) -> Result<Option<Duration>, FlowError> {
    let wall_now = desk.clock.wall_now();
    let backoff = Duration::from_millis(500 << row.attempts.clamp(0, 9)).min(LONGEST_PAUSE);
    let old = wall_now.since(Timestamp::from_millis(row.created_at)) > KEPT;
    let pause = match failure {
        OutletError::Refused(_) => None,
        _ if old => None,
        OutletError::Later(pause) => Some(*pause),
        // A time-out tells as much about the next as a refusal to connect.
        OutletError::Unavailable(_) | OutletError::Unknown(_) => Some(backoff),
    };
    let text = failure.to_string();
    match pause {
        Some(pause) => {
            warn!(outlet = outlet.name(), key = row.key, reason = text, "tried again");
            desk.store.outbox_retry(row.id, wall_now + pause, &text, "due").await?;
        }
        None => {
            error!(outlet = outlet.name(), key = row.key, reason = text, "will not be delivered");
            let body = serde_json::json!({"reason": text, "attempts": row.attempts});
            desk.audit("delivery.failed", &row.key, body).await?;
            desk.store.outbox_retry(row.id, wall_now, &text, "failed").await?;
        }
    }
    Ok(pause)
}
