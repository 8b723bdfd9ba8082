//! Firings that nobody was told of and that go on: whatever held them back may end without another word of
//! their sender.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::alert::{Alert, Fingerprint};
use super::super::prefilter::Because;
use super::super::time::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Held {
    known: FxHashMap<Fingerprint, Box<Kept>>,
    /// When they are looked at again.
    next: Option<Timestamp>,
}

#[derive(Debug)]
struct Kept {
    alert: Alert,
    because: Because,
    /// Not before; a mute says for itself when it has ended.
    from: Timestamp,
}

/// Beyond it the others are told when their sender speaks again.
const MAX_HELD: usize = 50_000;
/// So many are looked at often.
const FEW: usize = 1_000;
const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

impl Held {
    pub fn keep(&mut self, alert: &Alert, because: Because, from: Timestamp, event_now: Timestamp) {
        if self.known.len() >= MAX_HELD && !self.known.contains_key(&alert.fingerprint) {
            return;
        }
        self.known.insert(alert.fingerprint, Box::new(Kept { alert: alert.clone(), because, from }));
        self.next.get_or_insert(event_now + SOON);
    }

    pub fn remove(&mut self, fingerprint: Fingerprint) {
        if !self.known.is_empty() {
            self.known.remove(&fingerprint);
        }
    }

    /// What people say about mutes has changed.
    pub fn look_now(&mut self) {
        if !self.known.is_empty() {
            self.next = Some(Timestamp::from_millis(0));
        }
    }

    pub fn is_due(&self, event_now: Timestamp) -> bool {
        self.next.is_some_and(|next| next <= event_now)
    }

    /// Those whose time has come and whom nothing holds back any more, in the order in which they began.
    pub fn free(&mut self, event_now: Timestamp, is_held: impl Fn(&Alert) -> bool) -> Vec<(Alert, Because)> {
        if !self.is_due(event_now) {
            return vec![];
        }
        let mut free: Vec<(Timestamp, Fingerprint)> = self
            .known
            .iter()
            .filter(|(_, kept)| kept.from <= event_now && !is_held(&kept.alert))
            .map(|(fingerprint, kept)| (kept.alert.starts_at, *fingerprint))
            .collect();
        free.sort_unstable();
        let free = free.into_iter().filter_map(|(_, fingerprint)| self.known.remove(&fingerprint));
        let free = free.map(|kept| (kept.alert, kept.because)).collect();
        let again = if self.known.len() <= FEW { SOON } else { LATER };
        self.next = (!self.known.is_empty()).then_some(event_now + again);
        free
    }
}
