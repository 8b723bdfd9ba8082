//! The drivers of the leader, and how one that fails is started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::error;

use crate::flow::desk::FlowError;
use crate::flow::{self, Desk};
use crate::store::StoreError;

/// Everything that only the leader does.
pub(super) fn drivers(desk: Arc<Desk>) -> JoinSet<()> {
    let mut running = JoinSet::new();
    macro_rules! drive {
        ($($name:literal: $run:path),* $(,)?) => {
            $(running.spawn(keep_driving($name, desk.clone(), $run));)*
        };
    }
    drive! {
        "intake": flow::intake::run,
        "investigate": flow::investigate::run,
        "outgrown": flow::outgrown::run,
        "execute": flow::execute::run,
        "earn": flow::earn::run,
        "keep": flow::keep::run,
        "retain": flow::retain::run,
        "anchor": flow::anchor::run,
        "deliver": flow::deliver::run,
        "respond": flow::respond::run,
        "approvals": flow::approve::run_expiry,
        "escalate": flow::escalate::run,
        "digest": flow::route::run_digest,
        "elsewhere": flow::elsewhere::run,
        "remember": flow::remember::run,
        "listen": flow::listen::run,
        "neighbours": flow::neighbours::run,
    }
    running
}

/// A driver that fails is started again: the store knows where it was.
pub(super) async fn keep_driving<F>(name: &'static str, desk: Arc<Desk>, run: impl Fn(Arc<Desk>) -> F)
where
    F: Future<Output = Result<(), FlowError>>,
{
    let mut rest = Rest::default();
    while !desk.stopping() {
        let began = Instant::now();
        match run(desk.clone()).await {
            Ok(()) => {}
            // Whoever leads now goes on; `lead` ends this one.
            Err(FlowError::Store(StoreError::Fenced { .. })) => return,
            Err(failure) => {
                let rest = rest.after(began.elapsed());
                error!(driver = name, error = %failure, rest_ms = rest.as_millis() as u64, "started again");
                desk.wait(&Notify::new(), rest).await;
            }
        }
    }
}

/// How long a driver that has failed rests: at first hardly at all, in an outage so long that fifteen of them do
/// not drown the log, and still short enough that nobody waits for them after it.
struct Rest(Duration);

impl Rest {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(15);
    /// Whoever ran for so long has not failed of what it failed of before.
    const WELL: Duration = Duration::from_secs(60);

    fn after(&mut self, ran: Duration) -> Duration {
        let rest = if ran >= Self::WELL { Self::FIRST } else { self.0 };
        self.0 = (rest * 2).min(Self::LONGEST);
        rest
    }
}

impl Default for Rest {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_rests_longer_each_time_until_it_ran_well() {
        let mut rest = Rest::default();
        let rests: Vec<u128> = (0..7).map(|_| rest.after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(rests, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!(rest.after(Duration::from_secs(59)), Rest::LONGEST);
        assert_eq!(rest.after(Duration::from_secs(60)), Rest::FIRST);
        assert_eq!(rest.after(Duration::ZERO), Rest::FIRST * 2);
    }
}
