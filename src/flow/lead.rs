//! One process leads: it folds, investigates, executes and delivers. The others take in alerts and
//! what people do, and take over when it ends or falls silent.
//!
//! Invariants:
//! - A lease ends by silence alone: whoever sees it unchanged for `LEASE` by its own monotonic clock takes
//!   over. The holder counts from before it asked for the renewal, so that its time is over first.
//! - What was overtaken writes nothing more: into the store by the fence, to the outside by `Term::sure`.
//! - Leading begins anew from the store: nothing that was in memory before is trusted.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::desk::Desk;
use crate::store::{Fence, Lease, StoreError, WITHOUT_SIGN};

/// How long a silent holder is waited for.
const LEASE: Duration = Duration::from_secs(8);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often the others look.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A write to the outside begins only with so much of the lease left.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a write waits for a renewal that is late; the store does not answer then either.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what is told of leading may be out of step with what is sure of it.
const SHOWN_EVERY: Duration = Duration::from_millis(250);
/// A store that is away is told of that often, not at every look.
const TOLD_EVERY: Duration = Duration::from_secs(15);
/// For drivers to end what they are at, within the time of an orderly end.
const LAST_CALL: Duration = Duration::from_secs(7);

/// The time of one leader. Without it nothing is written to the outside.
#[derive(Clone, Default)]
pub struct Term(Option<Arc<Held>>);

struct Held {
    sure: Mutex<Sure>,
    over: AtomicBool,
}

/// Until when nobody else can have taken over.
#[derive(Clone, Copy)]
struct Sure {
    until: Instant,
    /// A machine that slept has a monotonic clock that did, too; its wall clock tells.
    wall_until: SystemTime,
}

impl Sure {
    /// For a renewal that was asked for then.
    fn since(asked: Instant, wall_asked: SystemTime) -> Self {
        Self { until: asked + LEASE, wall_until: wall_asked + LEASE }
    }

    fn left(self, now: Instant, wall_now: SystemTime) -> Duration {
        let wall = self.wall_until.duration_since(wall_now).unwrap_or_default();
        self.until.saturating_duration_since(now).min(wall)
    }
}

/// Somebody else may lead by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSure {
    #[error("this process does not lead: nothing was written")]
    Before,
    #[error("the lease ran out while it was written")]
    Meanwhile,
}

impl Term {
    fn new(sure: Sure) -> Self {
        Self(Some(Arc::new(Held { sure: Mutex::new(sure), over: AtomicBool::new(false) })))
    }

    #[cfg(test)]
    pub fn endless() -> Self {
        let year = Duration::from_secs(365 * 86_400);
        Self::new(Sure { until: Instant::now() + year, wall_until: SystemTime::now() + year })
    }

    /// Ends at once, and is renewed after that time.
    #[cfg(test)]
    pub fn renewed_after(late: Duration) -> Self {
        let term = Self::new(Sure::since(Instant::now() - LEASE, SystemTime::now() - LEASE));
        let renewed = term.clone();
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            renewed.renewed(Sure::since(Instant::now(), SystemTime::now()));
        });
        term
    }

    fn left(&self) -> Duration {
        let Some(held) = &self.0 else { return Duration::ZERO };
        if held.over.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        held.sure.lock().unwrap_or_else(PoisonError::into_inner).left(Instant::now(), SystemTime::now())
    }

    fn renewed(&self, sure: Sure) {
        if let Some(held) = &self.0 {
            *held.sure.lock().unwrap_or_else(PoisonError::into_inner) = sure;
        }
    }

    fn end(&self) {
        if let Some(held) = &self.0 {
            held.over.store(true, Ordering::Release);
        }
    }

    fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.over.load(Ordering::Acquire))
    }

    /// Returns when nobody else can have taken over for a moment yet; waits a little for a late renewal.
    pub async fn sure(&self) -> Result<(), NotSure> {
        let began = Instant::now();
        while self.left() < MARGIN {
            if self.is_over() || began.elapsed() > PATIENCE {
                return Err(NotSure::Before);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Writes to the outside while nobody else can have taken over. The time is looked at before each step
    /// of it: a process that was stopped in between does not go on where it was.
    pub async fn write<T>(&self, writing: impl Future<Output = T>) -> Result<T, NotSure> {
        self.sure().await?;
        self.write_now(writing).await
    }

    /// Whether `sure` would return at once.
    pub fn is_sure(&self) -> bool {
        self.left() >= MARGIN
    }

    /// As `write`, without waiting for anything before it begins: what was asked directly before still holds.
    pub async fn write_now<T>(&self, writing: impl Future<Output = T>) -> Result<T, NotSure> {
        let mut writing = std::pin::pin!(writing);
        let mut timer = Box::pin(tokio::time::sleep(self.left()));
        poll_fn(|context| {
            loop {
                let left = self.left();
                if left.is_zero() {
                    return Poll::Ready(Err(NotSure::Meanwhile));
                }
                if timer.as_mut().poll(context).is_pending() {
                    break;
                }
                timer = Box::pin(tokio::time::sleep(left));
            }
            writing.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// What starts all that only the leader does.
pub type Drivers = fn(Arc<Desk>) -> JoinSet<()>;

/// Stands by, leads, stands down, until the end. `looked` hears when it is known for the first time
/// which of them.
pub async fn run(desk: Arc<Desk>, drivers: Drivers, looked: oneshot::Sender<()>) {
    let mut holder = format!("{:016x}", rand::random::<u64>());
    let sign = desk.store.show_life(&holder);
    if sign.is_none() {
        holder.insert_str(0, WITHOUT_SIGN);
    }
    let mut looked = Some(looked);
    while let Some((lease, sure)) = stand_by(&desk, &holder, &mut looked).await {
        lead(&desk, &lease, sure, drivers, &mut looked).await;
    }
    if let Some(sign) = sign {
        sign.take_down();
    }
}

fn tell(looked: &mut Option<oneshot::Sender<()>>) {
    if let Some(looked) = looked.take() {
        // Whoever asked has ended meanwhile.
        let _ = looked.send(());
    }
}

/// Returns once it leads, or `None` at the end.
async fn stand_by(desk: &Desk, holder: &str, looked: &mut Option<oneshot::Sender<()>>) -> Option<(Lease, Sure)> {
    let mut seen: Option<(Lease, Instant)> = None;
    let mut told: Option<Instant> = None;
    while !desk.stopping() {
        let answered = match look(desk, holder, &mut seen).await {
            Ok(Some(taken)) => return Some(taken),
            Ok(None) => true,
            Err(failure) => {
                if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    warn!(error = %failure, "who leads cannot be read");
                    told = Some(Instant::now());
                }
                false
            }
        };
        tell(looked);
        // A store that has just not answered is not asked more.
        if answered {
            told = None;
            catch_up(desk).await;
            match desk.store.inbox_depth().await {
                Ok(depth) => desk.gate.note_depth(depth),
                Err(failure) => warn!(error = %failure, "how much waits is not known"),
            }
        }
        desk.wait(&Notify::new(), LOOK_EVERY).await;
    }
    None
}

async fn look(
    desk: &Desk,
    holder: &str,
    seen: &mut Option<(Lease, Instant)>,
) -> Result<Option<(Lease, Sure)>, StoreError> {
    let now = desk.store.lease().await?;
    let silent = match seen {
        Some((before, since)) if *before == now => since.elapsed(),
        _ => {
            *seen = Some((now.clone(), Instant::now()));
            Duration::ZERO
        }
    };
    if !now.holder.is_empty() && silent < LEASE && !desk.store.has_died(&now.holder) {
        return Ok(None);
    }
    let sure = Sure::since(Instant::now(), SystemTime::now());
    Ok(desk.store.take_lease(&now, holder).await?.map(|lease| (lease, sure)))
}

/// What other processes have written and this one keeps in memory.
async fn catch_up(desk: &Desk) {
    if let Err(failure) = desk.store.refresh_revisions().await {
        warn!(error = %failure, "what others have changed is not known");
    }
    for seat in desk.chats.iter() {
        if let Err(failure) = seat.chat.catch_up().await {
            warn!(chat = seat.chat.name(), %failure, "what others have posted is not known");
        }
    }
}

/// How a term ends.
enum End {
    Lost,
    Stopping,
}

async fn lead(desk: &Desk, lease: &Lease, sure: Sure, drivers: Drivers, looked: &mut Option<oneshot::Sender<()>>) {
    let (term, fence) = (Term::new(sure), Fence::new(lease.epoch));
    let (stop, stopped) = watch::channel(false);
    catch_up(desk).await;
    let led = Arc::new(desk.leading(term.clone(), desk.store.fenced(fence.clone()), stopped));
    info!(epoch = lease.epoch, "leads");
    let mut running = drivers(led);
    desk.leads.store(term.is_sure(), Ordering::Release);
    tell(looked);
    let end = showing(&desk.leads, &term, hold(desk, lease, &term, &fence, desk.stop.clone())).await;
    // No receiver left means that the drivers have ended by themselves.
    let _ = stop.send(true);
    match end {
        End::Lost => {
            term.end();
            warn!(epoch = lease.epoch, "another process leads; standing down");
        }
        End::Stopping => {
            let (_open, never) = watch::channel(false);
            let ending = async { while running.join_next().await.is_some() {} };
            tokio::select! {
                ended = timeout(LAST_CALL, ending) => if ended.is_err() {
                    warn!("some drivers did not end in time; what they did not finish is done by whoever leads next");
                },
                _ = hold(desk, lease, &term, &fence, never) => {}
            }
            term.end();
        }
    }
    desk.leads.store(false, Ordering::Release);
    running.shutdown().await;
    desk.neighbours.forget();
    desk.gate.rest();
    if let Err(failure) = desk.store.release_lease(lease).await {
        warn!(error = %failure, "the lease was not given back; the next one waits for it");
    }
}

/// Keeps what is told of leading in step with what is sure of it, until something else has ended: whoever is
/// cut off from the store cannot know who leads, only that it may be somebody else.
async fn showing<T>(leads: &AtomicBool, term: &Term, awaited: impl Future<Output = T>) -> T {
    let mut awaited = std::pin::pin!(awaited);
    loop {
        leads.store(term.is_sure(), Ordering::Release);
        if let Ok(done) = timeout(SHOWN_EVERY, awaited.as_mut()).await {
            return done;
        }
    }
}

/// Renews until the lease is lost, or until the end.
async fn hold(desk: &Desk, lease: &Lease, term: &Term, fence: &Fence, mut stop: watch::Receiver<bool>) -> End {
    let mut lost = fence.lost();
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            // Each lives as long as its other end, which is ours.
            _ = lost.wait_for(|lost| *lost) => return End::Lost,
            _ = stop.wait_for(|stopped| *stopped) => return End::Stopping,
        }
        let sure = Sure::since(Instant::now(), SystemTime::now());
        match timeout(LEASE, desk.store.renew_lease(lease)).await {
            Ok(Ok(true)) => term.renewed(sure),
            Ok(Ok(false)) => return End::Lost,
            // Nobody else can take over either, or has: the next renewal tells. Meanwhile nothing is sure. A
            // store that has just not answered is not asked more.
            Ok(Err(failure)) => {
                warn!(error = %failure, "the lease could not be renewed");
                continue;
            }
            Err(_) => {
                warn!("the store does not answer; the lease could not be renewed");
                continue;
            }
        }
        // What a slow store keeps from being read must not keep the lease from being renewed.
        if timeout(RENEW_EVERY, catch_up(desk)).await.is_err() {
            warn!("what others have changed is not known yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(left: Duration) -> Term {
        let ago = LEASE - left;
        Term::new(Sure::since(Instant::now() - ago, SystemTime::now() - ago))
    }

    #[test]
    fn either_clock_ends_it() {
        let (now, wall_now) = (Instant::now(), SystemTime::now());
        let sure = Sure::since(now, wall_now);
        let hour = Duration::from_secs(3600);
        assert_eq!(sure.left(now, wall_now), LEASE);
        assert_eq!(sure.left(now + LEASE, wall_now), Duration::ZERO);
        assert_eq!(sure.left(now, wall_now + hour), Duration::ZERO, "asleep, or a jump: not sure until it is renewed");
        assert_eq!(sure.left(now + Duration::from_secs(3), wall_now - hour), LEASE - Duration::from_secs(3));
    }

    #[tokio::test]
    async fn nothing_is_written_without_a_lease_or_when_it_runs_out_on_the_way() {
        assert_eq!(Term::default().write(async { 1 }).await, Err(NotSure::Before));
        assert_eq!(term(LEASE).write(async { 1 }).await, Ok(1));
        let ended = term(LEASE);
        ended.end();
        assert_eq!(ended.write(async { 1 }).await, Err(NotSure::Before));
        let short = term(MARGIN + Duration::from_millis(200));
        let began = Instant::now();
        let slow = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            1
        };
        assert_eq!(short.write(slow).await, Err(NotSure::Meanwhile));
        assert!(began.elapsed() < Duration::from_secs(10));
        // A renewal on the way lets it go on.
        let renewed = term(MARGIN + Duration::from_millis(200));
        let later = renewed.clone();
        let slow = async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            later.renewed(Sure::since(Instant::now(), SystemTime::now()));
            tokio::time::sleep(Duration::from_millis(1500)).await;
            1
        };
        assert_eq!(renewed.write(slow).await, Ok(1));
    }

    #[tokio::test]
    async fn whoever_is_not_sure_does_not_say_that_it_leads() {
        let leads = AtomicBool::new(false);
        let told = || leads.load(Ordering::Acquire);
        let cut_off = term(MARGIN + Duration::from_millis(1500));
        let renewal = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let first = told();
            // What is awaited does not end, as a renewal by a store that hangs.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let late = told();
            cut_off.renewed(Sure::since(Instant::now(), SystemTime::now()));
            tokio::time::sleep(SHOWN_EVERY * 3).await;
            (first, late, told())
        };
        assert_eq!(showing(&leads, &cut_off, renewal).await, (true, false, true));
    }

    #[tokio::test]
    async fn a_process_that_was_stopped_does_not_go_on_where_it_was() {
        let stopped = term(MARGIN + Duration::from_millis(300));
        let steps = std::cell::Cell::new(0);
        let writing = async {
            // Blocks the thread as SIGSTOP would, then is ready at once.
            std::thread::sleep(MARGIN + Duration::from_millis(400));
            tokio::task::yield_now().await;
            steps.set(steps.get() + 1);
        };
        assert_eq!(stopped.write(writing).await, Err(NotSure::Meanwhile));
        assert_eq!(steps.get(), 0);
    }
}
