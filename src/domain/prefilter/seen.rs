//! What is remembered of one fingerprint: whether a notification is news, a repeat or late.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use rustc_hash::FxHasher;

use super::Scored;
use super::past::{Place, Row};
use super::verdict::{Content, Suppression};
use crate::domain::alert::{Alert, Reading, Severity};
use crate::domain::intake::{NOTE_REPEAT, NOTE_UNTIMED};
use crate::domain::time::Timestamp;

const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// Alertmanager's default of the same name: who says nothing for so long has ended.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(300);
/// Who names no start and speaks again within this time has not begun anew: such senders repeat at
/// steps of minutes, and each would look like another firing whose end was lost.
const UNTIMED_TIMEOUT: Duration = Duration::from_secs(3600);
/// Two paths of one sender, or its tries, are not further apart: what comes later is not late, but true.
const LATE: Duration = Duration::from_secs(120);
/// A sender whose clock runs ahead by more than this is not believed: an instant that lies further
/// in the future counts as now. Otherwise all that follows would look late.
const MAX_AHEAD: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) firing_since: Option<Timestamp>,
    newest_start: Timestamp,
    /// The newest start in the sender's own words.
    said_start: Timestamp,
    newest_end: Option<Timestamp>,
    /// When its newest end was heard of.
    ended_at: Timestamp,
    repeats: u64,
    /// The last change of state, and those before it within the flap window.
    changed_at: Option<Timestamp>,
    changes: Vec<Timestamp>,
    pub(super) last_at: Timestamp,
    /// Annotations and value of the newest notification, hashed.
    content: u64,
    value: Option<f64>,
    /// The gravest of this firing.
    severity: Severity,
    /// Somebody muted this firing; it is judged again when it speaks again.
    pub(super) held: bool,
    /// Its incident is over: whoever has it hears of it no more.
    pub(super) over: bool,
    /// It was said to fire long after its end was heard of: the start that was said.
    pub(super) doubted: Option<Timestamp>,
    /// The same, of one that was believed: its end may be as old.
    believed: Option<Timestamp>,
    /// When a firing that is still too brief is told.
    pub(super) due: Option<Timestamp>,
    pub(super) scored: Option<Scored>,
    /// Of a firing that was suppressed by its score: the row that it was judged by.
    pub(super) quiet: Option<Box<Row>>,
}

/// What a firing notification is, against what is known.
pub(super) enum Heard {
    /// A firing begins, at the instant.
    News(Timestamp),
    /// The firing was muted, or too brief, and goes on.
    Again,
    /// It goes on and is graver than before.
    Graver,
    Repeat(Suppression),
}

impl Seen {
    /// Of the first notification of a fingerprint.
    pub(super) fn new(alert: &Reading<'_>, place: Place, event_now: Timestamp) -> Self {
        Self {
            place,
            firing_since: None,
            newest_start: believed(alert.starts_at, event_now),
            said_start: alert.starts_at,
            newest_end: None,
            ended_at: event_now,
            repeats: 0,
            changed_at: None,
            changes: vec![],
            last_at: event_now,
            content: content(alert),
            value: alert.value,
            severity: alert.severity(),
            held: false,
            over: false,
            doubted: None,
            believed: None,
            due: None,
            scored: None,
            quiet: None,
        }
    }

    pub(super) fn newest_start(&self) -> Timestamp {
        self.newest_start
    }

    pub(super) fn hear(&mut self, alert: &Alert, event_now: Timestamp) -> Heard {
        let starts_at = believed(alert.starts_at, event_now);
        let silent = event_now.since(self.last_at);
        self.last_at = event_now;
        if let Some(first_at) = self.firing_since {
            if std::mem::take(&mut self.held) || self.due.is_some_and(|due| event_now >= due) {
                self.due = None;
                self.quiet = None;
                self.newer(alert);
                return Heard::Again;
            }
            // Of a sender who names its alerts itself, the severity is no part of the identity.
            if alert.severity() > self.severity {
                self.severity = alert.severity();
                self.quiet = None;
                self.newer(alert);
                return Heard::Graver;
            }
            // A later start is a new firing whose end before was lost, unless the sender has no
            // memory of starts and simply speaks again.
            let same = alert.annotations.contains_key(NOTE_REPEAT)
                || alert.starts_at == self.said_start
                || starts_at <= self.newest_start;
            let untimed = alert.annotations.contains_key(NOTE_UNTIMED);
            if same || silent <= if untimed && !self.over { UNTIMED_TIMEOUT } else { RESOLVE_TIMEOUT } {
                self.repeats += 1;
                let content = if starts_at < self.newest_start { Content::Same } else { self.newer(alert) };
                return Heard::Repeat(Suppression::Duplicate { first_at, times: self.repeats, content });
            }
            self.change(starts_at);
        }
        if self.firing_since.is_none() && self.is_of_the_past(starts_at) {
            // Alertmanager ends what Prometheus has not sent for a while, and sends it with its old start when
            // Prometheus is back. A copy of what is over is followed by a copy of its end.
            self.doubted = (event_now.since(self.ended_at) >= LATE).then_some(alert.starts_at);
            return Heard::Repeat(Suppression::Stale { newest: self.newest_start });
        }
        Heard::News(starts_at)
    }

    /// It has ended, and this firing began before its end.
    pub(super) fn is_late(&self, alert: &Alert, event_now: Timestamp) -> bool {
        let starts_at = believed(alert.starts_at, event_now);
        self.firing_since.is_none() && self.is_of_the_past(starts_at) && event_now.since(self.ended_at) < LATE
    }

    fn is_of_the_past(&self, starts_at: Timestamp) -> bool {
        self.newest_end.is_some_and(|end| starts_at < end) && starts_at <= self.newest_start
    }

    /// No end came behind what was said of it long after the first: it fires.
    pub(super) fn believe(&mut self, event_now: Timestamp) {
        self.believed = self.doubted.take();
        self.firing_since = Some(event_now);
        self.newest_start = self.newest_start.max(event_now);
        self.change(event_now);
    }

    /// A firing begins; returns the changes of state within the flap window, this one included.
    pub(super) fn fire(&mut self, alert: &Reading<'_>, starts_at: Timestamp) -> usize {
        self.firing_since = Some(starts_at);
        self.newest_start = self.newest_start.max(starts_at);
        self.said_start = alert.starts_at;
        self.severity = alert.severity();
        self.repeats = 0;
        self.due = None;
        self.quiet = None;
        self.over = false;
        (self.doubted, self.believed) = (None, None);
        self.newer(alert);
        self.change(starts_at);
        self.changes.retain(|at| starts_at.since(*at) <= FLAP_WINDOW);
        self.changes.len() + 1
    }

    /// The end of a firing, and how long it was; late news of an end that is known is suppressed.
    #[allow(clippy::result_large_err)] // a verdict that its caller passes on as it is
    pub(super) fn resolve(&mut self, alert: &Alert, event_now: Timestamp) -> Result<Option<Duration>, Suppression> {
        let is_of_believed = self.firing_since.is_some() && self.believed == Some(alert.starts_at);
        let end = if is_of_believed { event_now } else { believed(alert.ends_at.unwrap_or(event_now), event_now) };
        if self.newest_end.is_some_and(|newest| newest >= end) || self.newest_start > end {
            self.doubted = None;
            return Err(Suppression::Stale { newest: self.newest_start });
        }
        self.newest_end = Some(end);
        self.ended_at = event_now;
        self.last_at = event_now;
        self.held = false;
        self.due = None;
        self.quiet = None;
        let since = self.firing_since.take();
        if since.is_some() {
            self.change(end);
        }
        Ok(since.map(|since| end.since(since)))
    }

    /// The end came before the beginning: what begins before it is late.
    pub(super) fn resolved_unseen(&mut self, alert: &Alert, event_now: Timestamp) {
        let end = believed(alert.ends_at.unwrap_or(event_now), event_now);
        self.newest_end = Some(end.max(self.newest_start));
    }

    fn change(&mut self, at: Timestamp) {
        if let Some(before) = self.changed_at.replace(at) {
            self.changes.push(before);
        }
    }

    /// Takes the newest content over.
    fn newer(&mut self, alert: &Alert) -> Content {
        let (content, value) = (content(alert), alert.value);
        let was = std::mem::replace(&mut self.value, value);
        if std::mem::replace(&mut self.content, content) == content {
            Content::Same
        } else {
            Content::Changed { value, was }
        }
    }
}

/// Instants of a clock that runs far ahead are not believed.
fn believed(at: Timestamp, event_now: Timestamp) -> Timestamp {
    if at > event_now + MAX_AHEAD { event_now } else { at }
}

fn content(alert: &Alert) -> u64 {
    let mut hasher = FxHasher::default();
    alert.annotations.hash(&mut hasher);
    alert.value.map(f64::to_bits).hash(&mut hasher);
    hasher.finish()
}
