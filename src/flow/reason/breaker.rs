//! Whether the model is asked at all: one that hangs must not cost every incident its whole time.
//!
//! Invariants: after a call that was not answered in its time, or two in a row that were not answered at
//! all, nobody is asked for a while; then one call tries whether it is better. A reply that is of no use,
//! or a refusal, is an answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::time::spoken;
use crate::ports::{ModelError, ModelReply};

/// How long the model is left alone.
const PAUSE: Duration = Duration::from_secs(180);
/// Calls in a row that were not answered at all, such as to a server that is away.
const IN_A_ROW: u32 = 2;

#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed {
        unanswered: u32,
    },
    Open {
        since: Instant,
        why: String,
    },
    /// One call is under way; the others wait for how it ends, or until it must have been given up.
    Trying {
        since: Instant,
        why: String,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { unanswered: 0 }
    }
}

impl Breaker {
    /// Why nobody is asked now, in words; `None`: the model may be asked.
    pub(super) fn refusal(&self, now: Instant) -> Option<String> {
        self.lock().refusal(now)
    }

    /// Before each call. After the pause it lets one through.
    pub(super) fn admit(&self, now: Instant) -> Result<(), String> {
        let mut state = self.lock();
        if let Some(why) = state.refusal(now) {
            return Err(why);
        }
        if let State::Open { why, .. } | State::Trying { why, .. } = &*state {
            *state = State::Trying { since: now, why: why.clone() };
        }
        Ok(())
    }

    /// How a call that was let through has ended.
    pub(super) fn heard(&self, reply: &Result<ModelReply, ModelError>, now: Instant) {
        let mut state = self.lock();
        *state = match reply {
            Ok(_)
            | Err(
                ModelError::Garbage(_) | ModelError::Empty { .. } | ModelError::Refused(_) | ModelError::TooLong(_),
            ) => State::default(),
            Err(error @ ModelError::TimedOut(_)) => State::Open { since: now, why: error.to_string() },
            Err(error @ (ModelError::Unavailable(_) | ModelError::RateLimited(_) | ModelError::Later { .. })) => {
                match &*state {
                    State::Closed { unanswered } if unanswered + 1 < IN_A_ROW => {
                        State::Closed { unanswered: unanswered + 1 }
                    }
                    State::Closed { .. } | State::Open { .. } | State::Trying { .. } => {
                        State::Open { since: now, why: error.to_string() }
                    }
                }
            }
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self, now: Instant) -> Option<String> {
        let (since, why, then) = match self {
            Self::Closed { .. } => return None,
            Self::Open { since, why } => (since, why, "it is tried again in"),
            Self::Trying { since, why } => (since, why, "it is being tried now, and again in"),
        };
        let ago = now.saturating_duration_since(*since);
        let left = PAUSE.checked_sub(ago).filter(|left| !left.is_zero())?;
        Some(format!("not asked, because it did not answer lately ({why}); {then} {}", spoken(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Result<ModelReply, ModelError> {
        Err(ModelError::Unavailable("gone".into()))
    }

    fn late() -> Result<ModelReply, ModelError> {
        Err(ModelError::TimedOut("no reply within 30 s".into()))
    }

    fn said() -> Result<ModelReply, ModelError> {
        Ok(ModelReply { text: "yes".into(), tokens_in: 1, tokens_out: 1, ..ModelReply::default() })
    }

    #[test]
    fn one_call_that_hangs_is_enough_and_one_tries_again() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        breaker.admit(start).unwrap();
        breaker.heard(&late(), start);
        let soon = start + Duration::from_secs(60);
        let why = "not asked, because it did not answer lately (model did not answer in time: no reply within 30 s); \
                   it is tried again in 2 min";
        assert_eq!(breaker.refusal(soon).as_deref(), Some(why));
        assert_eq!(breaker.admit(soon), Err(why.to_owned()));
        let after = start + PAUSE;
        assert_eq!(breaker.refusal(after), None, "to look is not to try");
        breaker.admit(after).unwrap();
        assert!(breaker.admit(after).is_err(), "one at a time");
        breaker.heard(&late(), after);
        assert!(breaker.admit(after + Duration::from_secs(60)).is_err(), "it is no better");
        breaker.admit(after + PAUSE).unwrap();
        breaker.heard(&said(), after + PAUSE);
        assert_eq!(breaker.refusal(after + PAUSE), None);
    }

    #[test]
    fn two_in_a_row_that_nobody_answers_are_enough() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for reply in [gone(), said(), gone(), Err(ModelError::Refused("401".into())), gone()] {
            breaker.heard(&reply, now);
            assert_eq!(breaker.refusal(now), None);
        }
        breaker.heard(&Err(ModelError::RateLimited("slow down".into())), now);
        assert!(breaker.refusal(now).is_some_and(|why| why.contains("slow down")));
    }

    #[test]
    fn a_try_that_never_ends_is_not_waited_for() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.heard(&late(), now);
        breaker.admit(now + PAUSE).unwrap();
        assert!(breaker.refusal(now + PAUSE).is_some_and(|why| why.contains("being tried now")));
        breaker.admit(now + PAUSE * 2).unwrap();
    }
}
