//! Outbox -> chats: in order per incident, rendered from the newest state, edited in place.
//!
//! Invariants:
//! - Each chat has its own lane: one that is slow or down keeps no other waiting.
//! - A message of an incident is posted only after all earlier ones are there; edits may wait.
//! - After an unknown result the chat is read back before anything is posted again (P4).

mod lane;
mod own_channel;
mod pace;
mod render;
mod send;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::desk::{ChatSeat, Counters, Desk, FlowError};
use crate::domain::card::Card;
use crate::domain::id::{IncidentId, PersonId, PlanId};
use crate::domain::incident::Sev;
use crate::domain::time::Timestamp;
use crate::ports::{ChatError, Drawing, Place, crash};
use crate::store::{OutboxRow, StoreError};
use lane::{Lane, Suspect, Turn, Unknown, Wanted};
use pace::Call;
use send::{Sent, remove_duplicates};

/// What is to be told. Cards of an incident are rendered when they are delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// The message in the channel.
    Root,
    /// The narrative in the thread.
    Diagnosis,
    Approval {
        plan: PlanId,
    },
    /// A line in the incident's thread.
    Note {
        card: Card,
    },
    /// A picture in the incident's thread, drawn when it is delivered.
    Picture {
        what: Drawing,
    },
    /// Light incidents together; an empty channel is each chat's own.
    Digest {
        channel: String,
        incidents: Vec<IncidentId>,
    },
    /// On the incident's own channel.
    Channel {
        work: ChannelWork,
    },
    /// The question about a suppressed alert, in the channel.
    Asked {
        key: String,
    },
    /// An answer where somebody asked.
    Reply {
        chat: String,
        place: Place,
        card: Card,
        #[serde(default)]
        stage: Stage,
    },
    /// To one person only; dropped when it fails.
    Whisper {
        chat: String,
        place: Place,
        to: PersonId,
        card: Card,
    },
    /// The watch's own page for one person; dropped when it fails, and drawn anew when it is opened again.
    Home {
        chat: String,
        to: PersonId,
    },
}

/// Whether an answer is all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    Final,
    /// A later word takes its place.
    Growing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum ChannelWork {
    Open { invite: Vec<PersonId> },
    Invite { people: Vec<PersonId> },
    Archive,
}

/// Read at once. What lies beyond waits until these are told.
const MOST_ROWS: i64 = 2_000;
const SLOW_POLL: Duration = Duration::from_secs(1);
/// How long what was read of the outbox is worked on.
const FRESH_FOR: Duration = Duration::from_millis(250);
/// The shortest wait, so that a wrong guess about a chat's pace cannot spin.
const SHORT_POLL: Duration = Duration::from_millis(20);

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut office = Office::new(desk);
    while !office.desk.stopping() {
        match office.desk.store.outbox_due(office.desk.clock.wall_now(), MOST_ROWS).await {
            Ok(rows) => office.turn(rows).await?,
            Err(failure) => {
                error!(error = %failure, "the outbox cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    // What is under way ends by its own time-outs; what it did not finish is found at the next start.
    let ending = async { while office.flights.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(3), ending).await.is_err() {
        debug!("messages were still under way at the end");
    }
    Ok(())
}

/// All lanes, and what is under way in them.
struct Office {
    desk: Arc<Desk>,
    lanes: Vec<Lane>,
    /// Tasks of their own: they hold locks of the store that the office itself waits for.
    flights: JoinSet<Landed>,
    effects: HashMap<(i64, i64), Result<Arc<Effect>, String>>,
    severities: HashMap<String, Sev>,
    /// Why a row will not reach every chat.
    failed: HashMap<i64, String>,
    /// Ended in the store, at this revision.
    settled: HashMap<i64, i64>,
}

/// The end of a flight.
enum Landed {
    Told { seat: usize, row: OutboxRow, group: String, key: String, call: Call, outcome: Result<Sent, Failure> },
    Looked { seat: usize, suspect: Suspect, outcome: Result<usize, Failure> },
}

pub(super) enum Failure {
    Chat(ChatError),
    /// Try again, perhaps after a time of our own choosing.
    Later(String, Option<Duration>),
    /// Will never work.
    Give(String),
    /// What was posted of the incident is not there any more, and is forgotten: it is posted anew.
    Anew(String),
    /// Nothing is wrong: it is to be told then.
    Hold(Timestamp),
}

impl Failure {
    fn store(error: StoreError) -> Self {
        Self::Later(error.to_string(), None)
    }
}

impl Office {
    fn new(desk: Arc<Desk>) -> Self {
        let lanes = desk.chats.iter().map(|seat| Lane::new(seat.chat.rates())).collect();
        Self {
            desk,
            lanes,
            flights: JoinSet::new(),
            effects: HashMap::new(),
            severities: HashMap::new(),
            failed: HashMap::new(),
            settled: HashMap::new(),
        }
    }

    /// Works on what was read for a while: reading it again after every message would cost more than
    /// the messages.
    async fn turn(&mut self, rows: Vec<OutboxRow>) -> Result<(), FlowError> {
        let began = Instant::now();
        self.remember(&rows, began).await;
        let desk = self.desk.clone();
        while began.elapsed() < FRESH_FOR && !desk.stopping() {
            let now = Instant::now();
            let mut next = now + SLOW_POLL;
            for seat in 0..self.lanes.len() {
                next = next.min(self.start(seat, &rows, now).await?);
            }
            for row in &rows {
                self.settle(row).await?;
            }
            let wait = next.saturating_duration_since(Instant::now()).max(SHORT_POLL);
            tokio::select! {
                Some(landed) = self.flights.join_next() => self.land(landed).await?,
                () = desk.wait(&desk.bells.outbox, wait) => return Ok(()),
            }
            // Whatever else has ended meanwhile.
            while let Some(landed) = self.flights.try_join_next() {
                self.land(landed).await?;
            }
        }
        Ok(())
    }

    /// Reads what is new among the rows, and forgets what is over.
    async fn remember(&mut self, rows: &[OutboxRow], now: Instant) {
        let due: HashSet<i64> = rows.iter().map(|row| row.id).collect();
        self.lanes.iter_mut().for_each(|lane| lane.forget(&due, now));
        self.effects.retain(|(id, _), _| due.contains(id));
        self.failed.retain(|id, _| due.contains(id));
        // Still due: its end could not be written, or it was asked for again.
        self.settled.clear();
        let open: HashSet<&str> = rows.iter().filter_map(|row| row.incident.as_deref()).collect();
        self.severities.retain(|id, _| open.contains(id.as_str()));
        for row in rows {
            self.effects.entry((row.id, row.revision)).or_insert_with(|| {
                serde_json::from_str(&row.body).map(Arc::new).map_err(|error| format!("unreadable effect: {error}"))
            });
            let Some(id) = &row.incident else { continue };
            if !self.severities.contains_key(id)
                && let Ok(Some(incident)) = self.desk.store.incident(&IncidentId::new(id.clone())).await
            {
                self.severities.insert(id.clone(), incident.severity);
            }
        }
    }

    /// Answers to people first, then the incidents that somebody must get up for (P3); the order
    /// within an incident stays.
    fn rank(&self, row: &OutboxRow) -> u8 {
        match row.incident.as_ref().map(|id| self.severities.get(id)) {
            None => 0,
            Some(Some(Sev::One | Sev::Two)) => 1,
            Some(Some(Sev::Three | Sev::Four) | None) => 2,
        }
    }

    /// Starts what may start in this lane. Answers when something more can.
    async fn start(&mut self, seat: usize, rows: &[OutboxRow], now: Instant) -> Result<Instant, FlowError> {
        let mut next = now + SLOW_POLL;
        let mut held: HashSet<&str> = HashSet::new();
        let mut order: Vec<&OutboxRow> = rows.iter().collect();
        order.sort_by_key(|row| self.rank(row));
        for row in order {
            let group = group_of(row);
            if held.contains(group) || self.lanes[seat].is_told(row) {
                continue;
            }
            let Some(effect) = self.effect_for(seat, row).await? else { continue };
            if self.lanes[seat].is_full() || self.lanes[seat].is_flying(group) {
                held.insert(group);
                continue;
            }
            let key = format!("{}@{}", row.key, self.desk.chats[seat].chat.name());
            let call = self.call(seat, &effect, &key).await?;
            let wanted = Wanted { row, key, call };
            match self.lanes[seat].turn(&wanted, now) {
                Turn::Wait { until, holds } => {
                    next = next.min(until);
                    if holds {
                        held.insert(group);
                    }
                }
                Turn::Go { look_first } => {
                    held.insert(group);
                    self.lanes[seat].depart(group, &wanted.call, now);
                    self.fly(seat, wanted, effect, look_first);
                }
            }
        }
        for suspect in self.lanes[seat].due_suspects(now) {
            let desk = self.desk.clone();
            self.flights.spawn(async move {
                let outcome = remove_duplicates(&desk, &desk.chats[seat], &suspect).await;
                Landed::Looked { seat, suspect, outcome }
            });
        }
        Ok(self.lanes[seat].next_look().map_or(next, |look| next.min(look)))
    }

    /// `None`: this chat is not concerned, or the row cannot be read.
    async fn effect_for(&mut self, seat: usize, row: &OutboxRow) -> Result<Option<Arc<Effect>>, FlowError> {
        match self.effects.get(&(row.id, row.revision)).cloned() {
            Some(Ok(effect)) if concerns(&effect, &self.desk.chats[seat]) => Ok(Some(effect)),
            Some(Err(why)) => {
                self.give_up(seat, row, &why).await?;
                Ok(None)
            }
            Some(Ok(_)) | None => Ok(None),
        }
    }

    async fn call(&mut self, seat: usize, effect: &Effect, key: &str) -> Result<Call, FlowError> {
        let channel = match effect {
            Effect::Whisper { .. } | Effect::Home { .. } => return Ok(Call::Free),
            Effect::Reply { place, .. } => place.channel.clone(),
            Effect::Root | Effect::Diagnosis | Effect::Approval { .. } => self.desk.chats[seat].channel.clone(),
            Effect::Note { .. } | Effect::Picture { .. } | Effect::Asked { .. } | Effect::Channel { .. } => {
                self.desk.chats[seat].channel.clone()
            }
            Effect::Digest { channel, .. } if !channel.is_empty() => channel.clone(),
            Effect::Digest { .. } => self.desk.chats[seat].channel.clone(),
        };
        let known = match self.lanes[seat].is_posted(key) {
            Some(known) => known,
            None => {
                let found = self.desk.store.posted(key).await?.is_some();
                self.lanes[seat].note_posted(key, found);
                found
            }
        };
        Ok(if known { Call::Edit } else { Call::Post(channel) })
    }

    fn fly(&mut self, seat: usize, wanted: Wanted<'_>, effect: Arc<Effect>, look_first: bool) {
        let (desk, row) = (self.desk.clone(), wanted.row.clone());
        let (group, key, call) = (group_of(wanted.row).to_owned(), wanted.key, wanted.call);
        self.flights.spawn(async move {
            let outcome = render::tell(&desk, &desk.chats[seat], &row, &effect, look_first).await;
            Landed::Told { seat, row, group, key, call, outcome }
        });
    }

    async fn land(&mut self, landed: Result<Landed, tokio::task::JoinError>) -> Result<(), FlowError> {
        let now = Instant::now();
        // What ended without a word is found again by whoever starts anew.
        match landed.map_err(|error| FlowError::Outside(format!("a delivery ended unheard: {error}")))? {
            Landed::Looked { seat, suspect, outcome } => {
                let key = suspect.key;
                match outcome {
                    Ok(0) => {}
                    Ok(removed) => {
                        info!(key, removed, "a message was there twice; one is left");
                        self.desk.audit("delivery.duplicate", &key, serde_json::json!({"removed": removed})).await?;
                    }
                    Err(failure) => {
                        let chat = self.desk.chats[seat].chat.name();
                        warn!(key, chat, reason = failure.words(), "no look at what is there");
                    }
                }
            }
            Landed::Told { seat, row, group, key, call, outcome } => {
                self.lanes[seat].arrive(&group);
                self.hear(seat, &outcome);
                match outcome {
                    Ok(sent) => {
                        self.lanes[seat].tell(&row, &key, now);
                        if let Sent::Posted { message, thread, twice } = sent {
                            self.lanes[seat].note_posted(&key, true);
                            if twice {
                                self.lanes[seat].suspect(key, message, thread, now);
                            }
                        }
                    }
                    Err(failure) => self.postpone(seat, &row, &call, failure, now).await?,
                }
                self.settle(&row).await?;
            }
        }
        Ok(())
    }

    /// A chat that takes nothing is shown among those that do not answer.
    fn hear(&self, seat: usize, outcome: &Result<Sent, Failure>) {
        let answer = match outcome {
            Ok(Sent::Posted { .. } | Sent::Edited) => Ok(()),
            Err(Failure::Chat(ChatError::Unavailable(why))) => Err(why.clone()),
            Ok(Sent::Nothing) | Err(_) => return,
        };
        let name = self.desk.chats[seat].chat.name();
        self.desk.neighbours.heard_of_chat(name, answer, self.desk.clock.wall_now());
    }

    async fn postpone(
        &mut self,
        seat: usize,
        row: &OutboxRow,
        call: &Call,
        failure: Failure,
        now: Instant,
    ) -> Result<(), FlowError> {
        if let Failure::Hold(until) = &failure {
            self.desk.store.outbox_hold(row, *until).await?;
            // Only what was read before this still shows it.
            self.lanes[seat].again(row, Some(2 * FRESH_FOR), Ok(()), now);
            return Ok(());
        }
        Counters::add(&self.desk.counters.post_errors, 1);
        let (pause, result) = match &failure {
            Failure::Chat(ChatError::RateLimited(pause)) => {
                self.lanes[seat].pace.shut(call, now + *pause);
                (Some(*pause), Ok(()))
            }
            Failure::Chat(ChatError::Unknown(_)) => (None, Err(Unknown)),
            // Until somebody lets us in again, or configures another channel.
            Failure::Chat(ChatError::Unavailable(_) | ChatError::NoChannel(_)) => (None, Ok(())),
            Failure::Anew(_) => {
                self.lanes[seat].forget_posted(group_of(row));
                (None, Ok(()))
            }
            Failure::Later(_, pause) => (*pause, Ok(())),
            Failure::Hold(_) => return Ok(()),
            Failure::Chat(ChatError::Refused(why) | ChatError::NoMessage(why)) | Failure::Give(why) => {
                return self.give_up(seat, row, &why.clone()).await;
            }
        };
        let words = failure.words();
        if self.lanes[seat].again(row, pause, result, now) {
            warn!(key = row.key, reason = words, "delivery postponed");
            return Ok(());
        }
        self.give_up(seat, row, &words).await
    }

    async fn give_up(&mut self, seat: usize, row: &OutboxRow, why: &str) -> Result<(), FlowError> {
        self.lanes[seat].give_up(row);
        let chat = self.desk.chats[seat].chat.name();
        error!(key = row.key, chat, reason = why, "a message will not be delivered");
        self.failed.insert(row.id, format!("{chat}: {why}"));
        let body = serde_json::json!({"chat": chat, "reason": why});
        self.desk.audit("delivery.failed", &row.key, body).await
    }

    /// Ends the row once every chat that it concerns has been told.
    async fn settle(&mut self, row: &OutboxRow) -> Result<(), FlowError> {
        let concerned = |seat: usize| match self.effects.get(&(row.id, row.revision)) {
            Some(Ok(effect)) => concerns(effect, &self.desk.chats[seat]),
            Some(Err(_)) | None => true,
        };
        if self.settled.get(&row.id) == Some(&row.revision) {
            return Ok(());
        }
        if (0..self.lanes.len()).any(|seat| concerned(seat) && !self.lanes[seat].is_told(row)) {
            return Ok(());
        }
        self.settled.insert(row.id, row.revision);
        let failure = self.failed.remove(&row.id);
        crash::point("deliver.before_done");
        // A failure here leaves it due: it is told again, which is an edit.
        if let Err(error) = self.desk.store.outbox_ended(row, failure.as_deref(), self.desk.clock.wall_now()).await {
            warn!(key = row.key, %error, "a delivery could not be marked");
        }
        crash::point("deliver.done");
        Ok(())
    }
}

impl Failure {
    fn words(&self) -> String {
        match self {
            Self::Chat(error) => error.to_string(),
            Self::Later(why, _) | Self::Give(why) | Self::Anew(why) => why.clone(),
            Self::Hold(until) => format!("told at {until}"),
        }
    }
}

/// Rows of one incident are told in order; others have an order only with themselves.
fn group_of(row: &OutboxRow) -> &str {
    row.incident.as_deref().unwrap_or(&row.key)
}

fn concerns(effect: &Effect, seat: &ChatSeat) -> bool {
    match effect {
        Effect::Reply { chat, .. } | Effect::Whisper { chat, .. } | Effect::Home { chat, .. } => {
            seat.chat.name() == chat
        }
        Effect::Root | Effect::Diagnosis | Effect::Approval { .. } => true,
        Effect::Note { .. } | Effect::Picture { .. } | Effect::Asked { .. } => true,
        Effect::Digest { .. } | Effect::Channel { .. } => true,
    }
}
