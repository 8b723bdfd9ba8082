//! When a chat may be called again: its own rates, and what it said with a 429.
//!
//! Pure: instants arrive as arguments.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::Rates;

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// Into one channel.
    Post(String),
    /// Anywhere: the chat counts the method, not the channel.
    Edit,
    /// Not counted: answers to one person.
    Free,
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    rates: Option<Rates>,
    /// Theoretical arrival time of the next call at the long-run rate (generic cell rate algorithm,
    /// ITU-T I.371).
    arrival: HashMap<Call, Instant>,
    shut: HashMap<Call, Instant>,
}

impl Pace {
    pub fn new(rates: Option<Rates>) -> Self {
        Self { rates, ..Self::default() }
    }

    /// `now` or earlier: at once.
    pub fn ready_at(&self, call: &Call, now: Instant) -> Instant {
        let shut = self.shut.get(call).copied().unwrap_or(now);
        let Some((every, burst)) = self.rate(call) else { return shut };
        let tolerance = every * burst.saturating_sub(1);
        let paced = self.arrival.get(call).and_then(|at| at.checked_sub(tolerance)).unwrap_or(now);
        shut.max(paced)
    }

    pub fn count(&mut self, call: &Call, now: Instant) {
        if let Some((every, _)) = self.rate(call) {
            let from = self.arrival.get(call).copied().unwrap_or(now).max(now);
            self.arrival.insert(call.clone(), from + every);
        }
        // A full bucket is no different from an unknown one.
        self.arrival.retain(|_, at| *at > now);
        self.shut.retain(|_, until| *until > now);
    }

    /// The chat named a time before which it will not listen.
    pub fn shut(&mut self, call: &Call, until: Instant) {
        let known = self.shut.entry(call.clone()).or_insert(until);
        *known = (*known).max(until);
    }

    fn rate(&self, call: &Call) -> Option<(Duration, u32)> {
        let rates = self.rates?;
        match call {
            Call::Post(_) => Some((rates.post_every, rates.post_burst)),
            Call::Edit => Some((rates.edit_every, rates.edit_burst)),
            Call::Free => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `calls` posts into one channel leaves, in milliseconds, if all are wanted at once.
    fn check(calls: usize, shut_for: u64, expected: &[u128]) {
        let start = Instant::now();
        let rates = Rates {
            post_every: Duration::from_secs(1),
            post_burst: 3,
            edit_every: Duration::from_secs(1),
            edit_burst: 1,
        };
        let mut pace = Pace::new(Some(rates));
        let call = Call::Post("C1".into());
        let mut now = start;
        let mut left = vec![];
        for nth in 0..calls {
            now = now.max(pace.ready_at(&call, now));
            left.push((now - start).as_millis());
            pace.count(&call, now);
            if nth == 0 && shut_for > 0 {
                pace.shut(&call, now + Duration::from_millis(shut_for));
            }
        }
        assert_eq!(left, expected);
        assert_eq!(pace.ready_at(&Call::Post("C2".into()), start), start, "another channel has its own pace");
        assert_eq!(pace.ready_at(&Call::Free, start), start);
    }

    #[test]
    fn a_burst_and_then_the_long_run_rate() {
        check(5, 0, &[0, 0, 0, 1000, 2000]);
        check(4, 7000, &[0, 7000, 7000, 7000]);
    }

    #[test]
    fn a_chat_without_rates_is_only_shut_by_itself() {
        let now = Instant::now();
        let mut pace = Pace::new(None);
        (0..100).for_each(|_| pace.count(&Call::Edit, now));
        assert!(pace.ready_at(&Call::Edit, now) <= now);
        pace.shut(&Call::Edit, now + Duration::from_secs(9));
        pace.shut(&Call::Edit, now + Duration::from_secs(3));
        assert_eq!(pace.ready_at(&Call::Edit, now), now + Duration::from_secs(9), "the longer time counts");
    }
}
