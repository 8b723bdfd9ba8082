//! Where incidents are changed: read, decide, write; and again when somebody else was faster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, RwLock, watch};

use crate::config::Config;
use crate::domain::id::IncidentId;
use crate::domain::incident::Incident;
use crate::domain::intake::Mappings;
use crate::domain::policy::Policy;
use crate::domain::route::Routing;
use crate::domain::severity::Past;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage;
use crate::memory::Memory;
use crate::ports::{Artist, Channels, Chat, Clock, Cluster, Hooks, Model, Outlet, Rota, Signals, Traces};
use crate::prompt::Prompts;
use crate::store::{AuditEntry, Batch, Draft, NewEffect, Store, StoreError};
use crate::tools::ToolBox;

use super::authority::Authority;
use super::command::pause;
use super::deliver::Effect;
use super::elsewhere;
use super::gate::Gate;
use super::lead::Term;
use super::listen::Ear;
use super::neighbours::Neighbours;
use super::reason::Breaker;

/// What every driver works with. Ports may be absent: the watch goes on with what there is.
///
/// The desk of the doors takes in and lets people decide; the one of the drivers (`leading`) is bound to
/// the time of a leader: what it writes is fenced, and ends with it.
pub struct Desk {
    pub store: Arc<Store>,
    pub clock: Arc<dyn Clock>,
    /// Wall time. What was to be told before it may have been told: the chat is read back first.
    pub started_at: Timestamp,
    pub config: Arc<Config>,
    pub policy: Arc<Policy>,
    pub authority: Arc<Authority>,
    pub signals: Option<Arc<dyn Signals>>,
    pub cluster: Option<Arc<dyn Cluster>>,
    /// Addresses that may be called as actions.
    pub hooks: Option<Arc<dyn Hooks>>,
    pub traces: Option<Arc<dyn Traces>>,
    /// What a model may look at.
    pub tools: Arc<ToolBox>,
    pub model: Option<Arc<dyn Model>>,
    /// Sorts incidents for the team; `None`: the model does that, too.
    pub small_model: Option<Arc<dyn Model>>,
    /// Whether the endpoint of both is asked.
    pub breaker: Arc<Breaker>,
    pub memory: Option<Arc<Memory>>,
    /// Whether memory is in line with the folder of runbooks, which is read behind the open doors.
    pub shelved: watch::Receiver<bool>,
    pub prompts: Arc<Prompts>,
    pub chats: Arc<Vec<ChatSeat>>,
    /// Set once the pages that it draws from are there.
    pub artist: Arc<OnceLock<Arc<dyn Artist>>>,
    pub routing: Routing,
    /// Other systems that hear of incidents.
    pub outlets: Vec<Arc<dyn Outlet>>,
    /// Schedules of people on call.
    pub rotas: Vec<Arc<dyn Rota>>,
    pub topology: Arc<RwLock<Arc<Topology>>>,
    pub bells: Arc<Bells>,
    pub gate: Arc<Gate>,
    pub counters: Arc<Counters>,
    pub neighbours: Arc<Neighbours>,
    pub stop: watch::Receiver<bool>,
    /// Whether this process leads.
    pub leads: Arc<AtomicBool>,
    /// While it lasts, the outside may be written to; of the doors' desk: never.
    pub term: Term,
    /// Silences are read, changed and written as one value.
    pub silencing: Arc<tokio::sync::Mutex<()>>,
    /// So are notes.
    pub noting: Arc<tokio::sync::Mutex<()>>,
    /// How incidents have ended, as of a revision of the store.
    pub past: tokio::sync::Mutex<Option<(u64, Arc<Past>)>>,
    pub ear: Arc<Ear>,
    /// Formats of the user's own, checked at the start.
    pub mappings: Mappings,
    /// Read at the start: a file of theirs that somebody is writing just now stops no watch.
    pub rules: triage::Rules,
}

/// A chat and the channel that incidents go to.
pub struct ChatSeat {
    pub chat: Arc<dyn Chat>,
    pub channel: String,
    /// `None`: it cannot make any.
    pub channels: Option<Arc<dyn Channels>>,
}

impl ChatSeat {
    /// Under which the message of an incident in this chat is kept.
    pub fn root_key(&self, incident: &IncidentId) -> String {
        format!("{incident}/root@{}", self.chat.name())
    }

    /// As this chat names a channel of the configuration; the console's have no mark before their name.
    pub fn channel_named<'a>(&self, written: &'a str) -> &'a str {
        if self.chat.name() == "console" { written.trim_start_matches('#') } else { written }
    }
}

/// Wakes drivers; a missed ring is caught by their slow poll.
#[derive(Default)]
pub struct Bells {
    pub alerts: Notify,
    pub people: Notify,
    pub outbox: Notify,
    pub incidents: Notify,
    pub execution: Notify,
    pub elsewhere: Notify,
}

#[derive(Default)]
pub struct Counters {
    pub alerts_received: AtomicU64,
    /// When the newest was judged, in seconds of the epoch; 0: none since the start.
    pub last_alert_at: AtomicU64,
    pub alerts_rejected: AtomicU64,
    pub payloads_rejected: AtomicU64,
    pub incidents_opened: AtomicU64,
    pub posts: AtomicU64,
    pub edits: AtomicU64,
    pub post_errors: AtomicU64,
    pub model_calls: AtomicU64,
    pub model_tokens: AtomicU64,
    pub executions: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} does not exist")]
    NoIncident(IncidentId),
    /// The state does not allow it any more; the text is for the person who asked.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Outside(String),
}

impl From<crate::domain::incident::IllegalTransition> for FlowError {
    fn from(error: crate::domain::incident::IllegalTransition) -> Self {
        Self::Store(StoreError::Illegal(error))
    }
}

/// A decision in the making: events for one incident and what follows from them.
pub struct Decision<'a> {
    pub draft: &'a mut Draft,
    pub batch: &'a mut Batch,
    pub wall_now: Timestamp,
}

impl Decision<'_> {
    pub fn record(&mut self, event: crate::domain::incident::IncidentEvent) -> Result<(), FlowError> {
        let waited = self.incident().handed.is_some();
        self.draft.record(event, self.wall_now)?;
        // The card has said that it is not accepted yet.
        if waited && self.incident().handed.is_none() {
            self.tell("root", &Effect::Root);
        }
        Ok(())
    }

    pub fn incident(&self) -> &Incident {
        &self.draft.incident
    }

    /// Asks for a message; the same key later means an edit of it.
    pub fn tell(&mut self, key: &str, effect: &Effect) {
        let id = self.draft.incident.id.clone();
        self.batch.effects.push(NewEffect {
            key: format!("{id}/{key}"),
            incident: Some(id.to_string()),
            body: serde_json::to_string(effect).unwrap_or_default(),
        });
    }
}

const TRIES: usize = 12;

/// What ended longer ago says nothing of today: alerts that were harmless once are mended, or are not any more.
const PAST: Duration = Duration::from_secs(60 * 24 * 3600);

impl Desk {
    /// The desk of the drivers, for the time of one leader; `stop` ends with it.
    pub fn leading(&self, term: Term, store: Store, stop: watch::Receiver<bool>) -> Self {
        Self {
            store: Arc::new(store),
            clock: self.clock.clone(),
            started_at: self.clock.wall_now(),
            config: self.config.clone(),
            policy: self.policy.clone(),
            authority: self.authority.clone(),
            signals: self.signals.clone(),
            cluster: self.cluster.clone(),
            hooks: self.hooks.clone(),
            traces: self.traces.clone(),
            tools: self.tools.clone(),
            model: self.model.clone(),
            small_model: self.small_model.clone(),
            breaker: self.breaker.clone(),
            memory: self.memory.clone(),
            shelved: self.shelved.clone(),
            prompts: self.prompts.clone(),
            chats: self.chats.clone(),
            artist: self.artist.clone(),
            routing: self.routing.clone(),
            outlets: self.outlets.clone(),
            rotas: self.rotas.clone(),
            topology: self.topology.clone(),
            bells: self.bells.clone(),
            gate: self.gate.clone(),
            counters: self.counters.clone(),
            neighbours: self.neighbours.clone(),
            stop,
            leads: self.leads.clone(),
            term,
            silencing: self.silencing.clone(),
            noting: self.noting.clone(),
            past: tokio::sync::Mutex::default(),
            ear: self.ear.clone(),
            mappings: self.mappings.clone(),
            rules: self.rules.clone(),
        }
    }

    /// Changes one incident. `decide` sees the newest state, may run again, and must not have
    /// effects of its own.
    pub async fn change<T>(
        &self,
        id: &IncidentId,
        mut decide: impl FnMut(&mut Decision<'_>) -> Result<T, FlowError> + Send,
    ) -> Result<(Incident, T), FlowError> {
        for attempt in 0..TRIES {
            let incident = self.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
            let wall_now = self.clock.wall_now();
            let mut draft = Draft::of(incident);
            let mut batch = Batch::default();
            let outcome = decide(&mut Decision { draft: &mut draft, batch: &mut batch, wall_now })?;
            if !draft.is_changed() && batch.effects.is_empty() && batch.evidence.is_empty() {
                return Ok((draft.incident, outcome));
            }
            batch.drafts.push(draft);
            elsewhere::announce(self, &mut batch, wall_now);
            match self.store.commit(batch, wall_now).await {
                Ok(mut incidents) => {
                    self.bells.outbox.notify_one();
                    self.bells.incidents.notify_one();
                    self.bells.execution.notify_one();
                    self.bells.elsewhere.notify_one();
                    let incident = incidents.remove(0);
                    return Ok((incident, outcome));
                }
                Err(StoreError::Stale(what)) if attempt + 1 < TRIES && !what.contains("paused") => {
                    tokio::time::sleep(std::time::Duration::from_millis(2 << attempt.min(6))).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(FlowError::Store(StoreError::Stale(id.to_string())))
    }

    /// A decision that belongs to no incident.
    pub async fn audit(&self, kind: &str, subject: &str, body: serde_json::Value) -> Result<(), FlowError> {
        let batch =
            Batch { audit: vec![AuditEntry { kind: kind.into(), subject: subject.into(), body }], ..Batch::default() };
        self.store.commit(batch, self.clock.wall_now()).await?;
        Ok(())
    }

    /// Why everything is paused, or `None`. An unreadable store means paused (S13).
    pub async fn paused(&self) -> Option<String> {
        self.paused_by(&[pause::EVERYTHING.to_owned()]).await
    }

    /// Why one of these pauses holds, or `None`. What cannot be read is a pause.
    pub async fn paused_by(&self, names: &[String]) -> Option<String> {
        self.pause_of(names).await.unwrap_or_else(|error| Some(format!("the pause state cannot be read: {error}")))
    }

    /// The same for whoever can wait: a store that does not answer is no verdict on a plan.
    pub async fn pause_of(&self, names: &[String]) -> Result<Option<String>, StoreError> {
        for name in names {
            let Some(why) = self.store.setting(name).await?.as_deref().and_then(pause::reason) else { continue };
            return Ok(Some(match name == pause::EVERYTHING {
                true => why,
                false => format!("{}: {why}", pause::shown(name)),
            }));
        }
        Ok(None)
    }

    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for the bell, the next poll, or the end.
    pub async fn wait(&self, bell: &Notify, at_most: std::time::Duration) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = bell.notified() => {}
            () = tokio::time::sleep(at_most) => {}
            _ = stop.changed() => {}
        }
    }

    pub async fn topology(&self) -> Arc<Topology> {
        self.topology.read().await.clone()
    }

    /// How incidents have ended lately, read again when one has ended.
    pub async fn past(&self) -> Result<Arc<Past>, StoreError> {
        // The number first: what ends meanwhile is read again.
        let revision = self.store.endings_revision();
        let mut known = self.past.lock().await;
        if known.as_ref().is_none_or(|(of, _)| *of != revision) {
            *known = Some((revision, Arc::new(self.store.past(self.clock.wall_now() - PAST).await?)));
        }
        Ok(known.as_ref().map_or_else(Arc::default, |(_, past)| past.clone()))
    }

    pub fn reasoner_name(&self) -> String {
        self.model.as_ref().map_or_else(|| "none".to_owned(), |model| model.name().to_owned())
    }
}
