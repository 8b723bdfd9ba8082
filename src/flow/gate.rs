//! The gate of the alert inbox: what arrives together becomes durable together.
//!
//! One transaction and one flush to disk serve everybody who waited for the last one (group commit);
//! each is answered only afterwards (P1). What is durable is handed on as it was read at the door, so
//! that nothing is read twice; after a restart it is read from the inbox again.
//!
//! Invariants: what waits to become durable and what is kept in memory are both bounded (P11); a row
//! leaves only when its judgement is stored. Where another process judges, rows are only counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::error;

use super::desk::{Desk, FlowError};
use crate::domain::intake::Taken;
use crate::domain::time::Timestamp;
use crate::ports::crash;
use crate::store::{Packed, StoreError, pack};

/// What one sender brought.
pub struct Arrival {
    pub source: &'static str,
    /// Names the delivery, so that a second one is kept once.
    pub dedupe: Option<String>,
    pub frames: Frames,
}

/// Payloads, and what was read from each at the door; never copied on the way to the judge.
pub type Frames = Arc<Vec<(Bytes, Taken)>>;

/// A durable row that is not judged yet.
#[derive(Clone)]
pub struct Waiting {
    pub id: i64,
    pub source: String,
    pub received_at: Timestamp,
    /// As it was read at the door; `None`: to be read from the inbox.
    pub taken: Option<Vec<Frames>>,
    frames: i64,
    alerts: usize,
}

struct Queued {
    arrival: Arrival,
    done: oneshot::Sender<Result<(), StoreError>>,
    _room: OwnedSemaphorePermit,
}

pub struct Gate {
    sender: mpsc::Sender<Queued>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Queued>>,
    /// Bytes that may wait to become durable.
    room: Arc<Semaphore>,
    rows: Mutex<Rows>,
    /// Held while rows become durable and known, so that nobody sees one without the other.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Rows {
    /// Whether this process judges; otherwise rows are left to whoever does.
    kept: bool,
    waiting: BTreeMap<i64, Waiting>,
    frames: i64,
    alerts: usize,
}

const QUEUE: usize = 4_096;
const ROOM: usize = 64 << 20;
/// Of one transaction: a flush serves many, and nobody waits long for the write itself.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_ARRIVALS: usize = 1_024;
/// Alerts that are kept as they were read; what comes beyond is read from the inbox.
const KEPT_ALERTS: usize = 100_000;

impl Default for Gate {
    fn default() -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        Self {
            sender,
            queue: tokio::sync::Mutex::new(queue),
            room: Arc::new(Semaphore::new(ROOM)),
            rows: Mutex::default(),
            counting: tokio::sync::Mutex::new(()),
        }
    }
}

impl Gate {
    /// Returns when the arrival is durable.
    pub async fn enter(&self, arrival: Arrival) -> Result<(), FlowError> {
        let closed = |_| FlowError::Refused("the watch is ending".into());
        let bytes: usize = arrival.frames.iter().map(|(bytes, _)| bytes.len()).sum();
        let permits = bytes.clamp(1, ROOM) as u32;
        let room = self.room.clone().acquire_many_owned(permits).await;
        let room = room.map_err(|_| FlowError::Refused("the watch is ending".into()))?;
        let (done, answer) = oneshot::channel();
        let sent = self.sender.send(Queued { arrival, done, _room: room }).await;
        sent.map_err(|_| FlowError::Refused("the watch is ending".into()))?;
        Ok(answer.await.map_err(closed)??)
    }

    /// Payloads that wait to be judged.
    pub fn depth(&self) -> i64 {
        self.rows().frames
    }

    /// The oldest rows, up to so many alerts (one row at least).
    pub fn oldest(&self, most_alerts: usize) -> Vec<Waiting> {
        let rows = self.rows();
        let mut alerts = 0;
        let few = rows.waiting.values().take_while(|row| {
            let fits = alerts == 0 || alerts + row.alerts <= most_alerts;
            alerts += row.alerts.max(1);
            fits
        });
        few.cloned().collect()
    }

    /// Their judgement is stored.
    pub fn judged(&self, ids: &[i64]) {
        let mut rows = self.rows();
        for id in ids {
            if let Some(row) = rows.waiting.remove(id) {
                rows.frames -= row.frames;
                rows.alerts -= row.taken.as_ref().map_or(0, |_| row.alerts);
            }
        }
    }

    /// This process judges from now on: what it does not know, the store does.
    pub async fn begin(&self, desk: &Desk) -> Result<(), FlowError> {
        {
            let _counting = self.counting.lock().await;
            *self.rows() = Rows { kept: true, ..Rows::default() };
        }
        self.recall(desk).await
    }

    /// Another process judges from now on.
    pub fn rest(&self) {
        *self.rows() = Rows::default();
    }

    /// How many payloads wait for whoever judges, as the store says.
    pub fn note_depth(&self, frames: i64) {
        let mut rows = self.rows();
        if !rows.kept {
            rows.frames = frames;
        }
    }

    /// What the store holds from before, and what other processes have taken in. To be called between two
    /// judgements, so that nothing is judged twice.
    pub async fn recall(&self, desk: &Desk) -> Result<(), FlowError> {
        let _counting = self.counting.lock().await;
        for open in desk.store.open_alert_rows().await? {
            // How many alerts a row of old holds is not known before it is read: a payload has a few.
            let alerts = open.frames.max(1) as usize * 16;
            self.rows().add(Waiting {
                id: open.id,
                source: open.source,
                received_at: Timestamp::from_millis(open.received_at),
                taken: None,
                frames: open.frames,
                alerts,
            });
        }
        Ok(())
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle(&self, desk: &Desk, group: Vec<Queued>) {
        let received_at = desk.clock.wall_now();
        let mut parcels: Vec<Parcel> = vec![];
        for Queued { arrival, done, _room } in group {
            let Arrival { source, dedupe, frames } = arrival;
            // A named delivery is a row of its own; the others of one source share theirs.
            let open = parcels
                .iter_mut()
                .find(|parcel| dedupe.is_none() && parcel.dedupe.is_none() && parcel.source == source);
            match open {
                Some(parcel) => {
                    parcel.frames.push(frames);
                    parcel.answers.push(done);
                    parcel.rooms.push(_room);
                }
                None => parcels.push(Parcel {
                    source,
                    dedupe,
                    frames: vec![frames],
                    answers: vec![done],
                    rooms: vec![_room],
                }),
            }
        }
        let rows: Result<Vec<Packed>, std::io::Error> = parcels
            .iter()
            .map(|parcel| {
                let bytes: Vec<&Bytes> = parcel.payloads().map(|(bytes, _)| bytes).collect();
                Ok(Packed {
                    source: parcel.source.to_owned(),
                    dedupe: parcel.dedupe.clone(),
                    received_at,
                    frames: bytes.len(),
                    bytes: pack(&bytes)?,
                })
            })
            .collect();
        let counting = self.counting.lock().await;
        crash::point("gate.before_store");
        let kept = match rows {
            Ok(rows) => desk.store.take_in_alerts(&rows).await,
            Err(failure) => Err(StoreError::Busy(format!("the payloads cannot be packed: {failure}"))),
        };
        match kept {
            Ok(ids) => {
                crash::point("gate.stored");
                for (parcel, id) in parcels.into_iter().zip(ids) {
                    if let Some(id) = id {
                        self.keep(id, received_at, &parcel);
                    }
                    for done in parcel.answers {
                        // Who no longer waits for the answer has it durable all the same.
                        let _ = done.send(Ok(()));
                    }
                }
                crash::point("gate.answered");
                drop(counting);
                desk.bells.alerts.notify_one();
            }
            Err(failure) => {
                let said = failure.to_string();
                error!(error = said, "alerts could not be stored; their senders are told to come again");
                for done in parcels.into_iter().flat_map(|parcel| parcel.answers) {
                    let _ = done.send(Err(StoreError::Busy(said.clone())));
                }
            }
        }
    }

    fn keep(&self, id: i64, received_at: Timestamp, parcel: &Parcel) {
        let mut rows = self.rows();
        if !rows.kept {
            rows.frames += parcel.payloads().count() as i64;
            return;
        }
        let alerts = parcel.payloads().map(|(_, taken)| taken.alerts.len()).sum();
        let frames = parcel.payloads().count() as i64;
        let taken = (rows.alerts + alerts <= KEPT_ALERTS).then(|| parcel.frames.clone());
        rows.add(Waiting { id, source: parcel.source.to_owned(), received_at, taken, frames, alerts });
    }
}

impl Rows {
    fn add(&mut self, row: Waiting) {
        if self.waiting.contains_key(&row.id) {
            return;
        }
        self.frames += row.frames;
        self.alerts += row.taken.as_ref().map_or(0, |_| row.alerts);
        self.waiting.insert(row.id, row);
    }
}

/// What becomes one row.
struct Parcel {
    source: &'static str,
    dedupe: Option<String>,
    frames: Vec<Frames>,
    answers: Vec<oneshot::Sender<Result<(), StoreError>>>,
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Parcel {
    fn payloads(&self) -> impl Iterator<Item = &(Bytes, Taken)> {
        self.frames.iter().flat_map(|frames| frames.iter())
    }
}

/// Makes durable what comes, until the end.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let mut queue = desk.gate.queue.lock().await;
    let mut stop = desk.stop.clone();
    loop {
        let first = tokio::select! {
            first = queue.recv() => first,
            () = ended(&mut stop) => {
                // Who was let in before the doors closed is still served.
                match tokio::time::timeout(LAST_CALL, queue.recv()).await {
                    Ok(last) => last,
                    Err(_) => {
                        queue.close();
                        queue.recv().await
                    }
                }
            }
        };
        let Some(first) = first else { return Ok(()) };
        let mut bytes = size(&first);
        let mut group = vec![first];
        while bytes < GROUP_BYTES && group.len() < GROUP_ARRIVALS {
            let Ok(next) = queue.try_recv() else { break };
            bytes += size(&next);
            group.push(next);
        }
        desk.gate.settle(&desk, group).await;
    }
}

const LAST_CALL: Duration = Duration::from_millis(300);

async fn ended(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // The other side lives as long as the app; without it there is nothing to wait for either.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

fn size(queued: &Queued) -> usize {
    queued.arrival.frames.iter().map(|(bytes, _)| bytes.len()).sum()
}
