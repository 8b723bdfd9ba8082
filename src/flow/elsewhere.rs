//! Outbox -> other systems: pagers, trackers, other chats, webhooks.
//!
//! Invariants: what is told is decided in the transaction of what happened; in order for each system and
//! incident; one system that is away holds up no other, nor the chat, and one notice that cannot be delivered
//! holds up no other incident's; people learn what did not arrive.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::deliver::Effect;
use super::desk::{Decision, Desk, FlowError};
use super::escalate;
use crate::domain::card::{Block, Card, Span};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::notice::{Notice, Phase, phase_of};
use crate::domain::time::Timestamp;
use crate::ports::{Attempt, Outlet, OutletError, Person, Queue};
use crate::store::{Batch, Draft, ELSEWHERE, NewEffect, OutboxRow};

/// Tried for so long; later nobody would want it.
const KEPT: Duration = Duration::from_secs(3 * 86_400);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const AT_ONCE: i64 = 64;
/// Tries after which people learn that it has not arrived: some seconds.
const SAID_AFTER: i64 = 4;

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
                "{}{}/{:08}-{}",
                beginning(outlet.as_ref(), outlet.queue(notice)),
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
    let outlets = desk.outlets.iter();
    let queues = outlets.flat_map(|outlet| outlet.queues().iter().map(move |which| (outlet.as_ref(), *which)));
    let queues = queues.map(|(outlet, which)| queue(&desk, outlet, which));
    futures::future::try_join_all(queues).await.map(drop)
}

fn beginning(outlet: &dyn Outlet, queue: Queue) -> String {
    match queue {
        Queue::Main => format!("{ELSEWHERE}{}/", outlet.name()),
        Queue::Notes => format!("{ELSEWHERE}{}~notes/", outlet.name()),
    }
}

/// How one queue of a system was answered lately.
#[derive(Default)]
struct Lately {
    /// The incident whose notice failed last, since something was taken.
    failed: Option<String>,
    rests: i64,
    rests_until: Option<Instant>,
}

impl Lately {
    fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    fn taken(&mut self) {
        *self = Self::default();
    }

    /// One notice may be at fault by itself; where that of another incident fails next, it is the system.
    fn failed(&mut self, incident: &str, failure: &OutletError, now: Instant) {
        let another = self.failed.as_deref().is_some_and(|last| last != incident);
        self.failed = Some(incident.to_owned());
        self.rests_until = match failure {
            OutletError::Later(pause) => Some(now + *pause),
            _ if another => Some(now + backoff(self.rests)),
            OutletError::Unavailable(_) | OutletError::Unknown(_) | OutletError::Refused(_) => None,
        };
        self.rests += i64::from(another);
    }
}

fn backoff(times: i64) -> Duration {
    Duration::from_millis(500 << times.clamp(0, 9)).min(LONGEST_PAUSE)
}

async fn queue(desk: &Desk, outlet: &dyn Outlet, which: Queue) -> Result<(), FlowError> {
    let mut lately = Lately::default();
    while !desk.stopping() {
        if !round(desk, outlet, which, &mut lately).await? {
            desk.wait(&desk.bells.elsewhere, Duration::from_millis(250)).await;
        }
    }
    Ok(())
}

/// One look at one queue of one system; gives whether anything was delivered.
async fn round(desk: &Desk, outlet: &dyn Outlet, which: Queue, lately: &mut Lately) -> Result<bool, FlowError> {
    if lately.is_resting(Instant::now()) {
        return Ok(false);
    }
    // A note is told after what it is about.
    let (own, main) = (beginning(outlet, which), beginning(outlet, Queue::Main));
    let rows = desk.store.outbox_heads(&own, &main, desk.clock.wall_now(), AT_ONCE).await?;
    let mut progressed = false;
    for row in &rows {
        if desk.stopping() || lately.is_resting(Instant::now()) {
            break;
        }
        match deliver(desk, outlet, row).await {
            Ok(()) => {
                lately.taken();
                progressed = true;
            }
            Err(failure) => {
                if postpone(desk, outlet, row, &failure).await? == Fate::Kept {
                    lately.failed(row.incident.as_deref().unwrap_or_default(), &failure, Instant::now());
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
    done.map_err(|failure| OutletError::Unknown(failure.to_string()))?;
    if row.attempts >= SAID_AFTER {
        say(desk, outlet, &notice, "has it now", &format!("after {} tries", row.attempts + 1)).await;
    }
    Ok(())
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

/// What becomes of a row that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    /// It will never work.
    GivenUp,
}

async fn postpone(desk: &Desk, outlet: &dyn Outlet, row: &OutboxRow, failure: &OutletError) -> Result<Fate, FlowError> {
    let wall_now = desk.clock.wall_now();
    let old = wall_now.since(Timestamp::from_millis(row.created_at)) > KEPT;
    let pause = match failure {
        OutletError::Refused(_) => None,
        _ if old => None,
        OutletError::Later(pause) => Some(*pause),
        // A time-out tells as much about the next as a refusal to connect.
        OutletError::Unavailable(_) | OutletError::Unknown(_) => Some(backoff(row.attempts)),
    };
    let text = failure.to_string();
    let notice: Option<Notice> = serde_json::from_str(&row.body).ok();
    let Some(pause) = pause else {
        error!(outlet = outlet.name(), key = row.key, reason = text, "will not be delivered");
        let body = serde_json::json!({"reason": text, "attempts": row.attempts});
        desk.audit("delivery.failed", &row.key, body).await?;
        desk.store.outbox_retry(row.id, wall_now, &text, "failed").await?;
        if let Some(notice) = &notice {
            say(desk, outlet, notice, "could not be told, and it is not tried again", &text).await;
        }
        return Ok(Fate::GivenUp);
    };
    warn!(outlet = outlet.name(), key = row.key, reason = text, "tried again");
    desk.store.outbox_retry(row.id, wall_now + pause, &text, "due").await?;
    // Trackers count each try twice: before it, and here.
    let counted = row.attempts + 1 + i64::from(outlet.tracks());
    if let Some(notice) = notice.filter(|_| row.attempts < SAID_AFTER && counted >= SAID_AFTER) {
        say(desk, outlet, &notice, "could not be told yet, and it is tried again", &text).await;
    }
    Ok(Fate::Kept)
}

/// People in the chat may be all who can hear of it: they learn that another system does not.
async fn say(desk: &Desk, outlet: &dyn Outlet, notice: &Notice, what: &str, why: &str) {
    let id = IncidentId::new(notice.incident.clone());
    // It would have got somebody up.
    let is_page = matches!(notice.phase, Phase::Opened | Phase::Changed);
    let told = format!("{} {what}: {} ({})", outlet.name(), notice.text, notice.phase.as_str());
    let mut spans = vec![];
    if is_page && let Ok(Some(incident)) = desk.store.incident(&id).await {
        spans.extend(escalate::mentions(&escalate::who_is_asked(desk, &incident).await));
    }
    spans.push(Span::plain(format!("{} {what}: ", outlet.name())));
    spans.push(Span::quoted(format!("{} ({}): {why}", notice.text, notice.phase.as_str())));
    let card = Card { fallback: told, blocks: vec![Block::Text { spans }] };
    // Each page by itself; of all else the latest.
    let version = if is_page { format!("/{}", notice.version) } else { String::new() };
    let key = format!("note/{}/failed{version}", outlet.name());
    let noted = desk
        .change(&id, |change| {
            change.tell(&key, &Effect::Note { card: card.clone() });
            Ok(())
        })
        .await;
    if let Err(failure) = noted {
        warn!(incident = notice.incident, error = %failure, what, "the thread does not learn of it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_notice_that_fails_stops_no_other_and_two_incidents_tell_of_the_system() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        let away = OutletError::Unavailable("500".into());
        for _ in 0..20 {
            lately.failed("INC-1", &away, now);
            assert!(!lately.is_resting(now), "only one incident's notice fails");
        }
        lately.failed("INC-2", &away, now);
        assert!(lately.is_resting(now) && !lately.is_resting(now + backoff(0)), "a short rest at first");
        lately.failed("INC-1", &away, now);
        assert!(lately.is_resting(now + backoff(0)), "and a longer one");
        lately.taken();
        lately.failed("INC-1", &away, now);
        assert!(!lately.is_resting(now), "it has answered since");
        lately.failed("INC-1", &OutletError::Later(Duration::from_secs(7)), now);
        assert!(lately.is_resting(now + Duration::from_secs(6)), "it has asked for a rest");
    }
}
