//! Event time of the simulated estate: runs at a chosen speed and can be moved forward.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::time::Timestamp;
use crate::ports::Clock;

/// A clock whose event time is `origin + (wall elapsed) * speed`. Clones share one time.
#[derive(Clone)]
pub struct SimClock {
    inner: Arc<Inner>,
}

struct Inner {
    pace: Mutex<Pace>,
    moved: watch::Sender<u64>,
}

/// Event time at one wall instant and how fast it goes on from there.
struct Pace {
    event: Timestamp,
    since: Instant,
    speed: f64,
}

impl SimClock {
    /// Starts at `origin`, `speed` event seconds per wall second.
    pub fn starting_at(origin: Timestamp, speed: f64) -> Self {
        Self {
            inner: Arc::new(Inner {
                pace: Mutex::new(Pace { event: origin, since: Instant::now(), speed: sane(speed) }),
                moved: watch::Sender::new(0),
            }),
        }
    }

    /// Event time now.
    pub fn event_now(&self) -> Timestamp {
        self.pace().now()
    }

    /// Event seconds per wall second from now on; zero stops event time.
    pub fn set_speed(&self, speed: f64) {
        let mut pace = self.pace();
        pace.event = pace.now();
        pace.since = Instant::now();
        pace.speed = sane(speed);
        drop(pace);
        self.inner.moved.send_modify(|version| *version += 1);
    }

    /// Event seconds per wall second.
    pub fn speed(&self) -> f64 {
        self.pace().speed
    }

    /// Moves event time forward to `instant`; an instant that has passed changes nothing.
    pub fn jump_to(&self, instant: Timestamp) {
        let mut pace = self.pace();
        pace.event = pace.now().max(instant);
        pace.since = Instant::now();
        drop(pace);
        self.inner.moved.send_modify(|version| *version += 1);
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.inner.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn now(&self) -> Timestamp {
        let millis = self.since.elapsed().as_secs_f64() * 1000.0 * self.speed;
        Timestamp::from_millis(self.event.millis().saturating_add(millis as i64))
    }
}

fn sane(speed: f64) -> f64 {
    if speed.is_finite() { speed.max(0.0) } else { 1.0 }
}

#[async_trait]
impl Clock for SimClock {
    fn event_now(&self) -> Timestamp {
        SimClock::event_now(self)
    }

    fn steady_now(&self) -> Timestamp {
        SimClock::event_now(self)
    }

    fn wall_now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(elapsed.as_millis() as i64)
    }

    async fn sleep_event(&self, span: Duration) {
        let mut moved = self.inner.moved.subscribe();
        let until = SimClock::event_now(self) + span;
        loop {
            moved.mark_unchanged();
            let left = until.since(SimClock::event_now(self)).as_secs_f64();
            if left <= 0.0 {
                return;
            }
            let speed = self.speed();
            // A stopped clock wakes by a change only; the hour is a safety net.
            let wall = if speed > 0.0 { (left / speed).min(3600.0) } else { 3600.0 };
            let nap = Duration::from_secs_f64(wall.max(0.0005));
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                _ = moved.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_jump_ends_a_long_sleep() {
        let clock = SimClock::starting_at(Timestamp::from_secs(1000), 1.0);
        let sleeper = clock.clone();
        let task = tokio::spawn(async move { sleeper.sleep_event(Duration::from_secs(900)).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        clock.jump_to(Timestamp::from_secs(1900) + Duration::from_secs(5));
        tokio::time::timeout(Duration::from_secs(2), task).await.expect("woken by the jump").expect("no panic");
        clock.jump_to(Timestamp::from_secs(5));
        assert!(clock.event_now() >= Timestamp::from_secs(1905));
    }

    #[tokio::test]
    async fn speed_multiplies_event_time() {
        let clock = SimClock::starting_at(Timestamp::from_secs(0), 0.0);
        let started = Instant::now();
        clock.set_speed(10_000.0);
        clock.sleep_event(Duration::from_secs(100)).await;
        assert!(clock.event_now() >= Timestamp::from_secs(100));
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
