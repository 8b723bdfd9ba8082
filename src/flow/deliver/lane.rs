//! What one chat may be told now: in order per incident, at its pace, and after an unknown result
//! only with a look at what is there.
//!
//! Pure but for `Instant`s that arrive as arguments.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Call, Pace};
use crate::ports::{MessageRef, Rates};
use crate::store::OutboxRow;

/// Between two edits of one message; the latest state wins.
const EDIT_EVERY: Duration = Duration::from_secs(3);
/// Calls of one chat under way at once: one slow answer must not keep every incident waiting.
const MOST_FLYING: usize = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MOST_DOUBLINGS: u32 = 7;
/// An outage may last hours; what is late is still wanted.
const MOST_TRIES: u32 = 5_000;
/// After a post that may have been the second, when one looks whether it was (P4: within 60 s).
const LOOKS: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(15), Duration::from_secs(45)];

pub(super) struct Lane {
    pub pace: Pace,
    /// Incidents, or messages without one, of which something is under way.
    flying: HashSet<String>,
    tries: HashMap<i64, Try>,
    /// The revision of each row that this chat knows.
    told: HashMap<i64, i64>,
    edited: HashMap<String, Instant>,
    /// Whether the message of a key is there, as far as this lane has looked.
    posted: HashMap<String, bool>,
    suspects: Vec<Suspect>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    count: u32,
    not_before: Instant,
    /// The last post may have happened.
    unknown: bool,
}

/// A message that may be there twice.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    pub key: String,
    /// The one that stays.
    pub kept: MessageRef,
    pub thread: Option<MessageRef>,
    since: Instant,
    looks: usize,
}

/// A row and what telling it would be.
pub(super) struct Wanted<'a> {
    pub row: &'a OutboxRow,
    /// `key@chat`
    pub key: String,
    pub call: Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now; with a look at what is there first.
    Go { look_first: bool },
    /// Not before; `holds` keeps later messages of the incident waiting.
    Wait { until: Instant, holds: bool },
}

impl Lane {
    pub fn new(rates: Option<Rates>) -> Self {
        Self {
            pace: Pace::new(rates),
            flying: HashSet::new(),
            tries: HashMap::new(),
            told: HashMap::new(),
            edited: HashMap::new(),
            posted: HashMap::new(),
            suspects: vec![],
        }
    }

    pub fn is_told(&self, row: &OutboxRow) -> bool {
        self.told.get(&row.id) == Some(&row.revision)
    }

    pub fn is_full(&self) -> bool {
        self.flying.len() >= MOST_FLYING
    }

    pub fn is_flying(&self, group: &str) -> bool {
        self.flying.contains(group)
    }

    /// `None`: not known, look into the store.
    pub fn is_posted(&self, key: &str) -> Option<bool> {
        self.posted.get(key).copied()
    }

    pub fn note_posted(&mut self, key: &str, is_there: bool) {
        self.posted.insert(key.to_owned(), is_there);
    }

    /// Nothing of the incident is known to be there any more.
    pub fn forget_posted(&mut self, incident: &str) {
        let beginning = format!("{incident}/");
        self.posted.retain(|key, _| !key.starts_with(&beginning));
    }

    pub fn turn(&self, wanted: &Wanted<'_>, now: Instant) -> Turn {
        let known = self.tries.get(&wanted.row.id);
        let mut until = self.pace.ready_at(&wanted.call, now);
        until = until.max(known.map_or(now, |known| known.not_before));
        let is_edit = wanted.call == Call::Edit;
        if is_edit && let Some(at) = self.edited.get(&wanted.key) {
            until = until.max(*at + EDIT_EVERY);
        }
        if until > now {
            return Turn::Wait { until, holds: !is_edit };
        }
        // Without a memory of our own a try that the store knows of was cut short by a crash.
        Turn::Go { look_first: known.map_or(wanted.row.attempts > 0, |known| known.unknown) }
    }

    pub fn depart(&mut self, group: &str, call: &Call, now: Instant) {
        self.flying.insert(group.to_owned());
        self.pace.count(call, now);
    }

    pub fn arrive(&mut self, group: &str) {
        self.flying.remove(group);
    }

    pub fn tell(&mut self, row: &OutboxRow, key: &str, now: Instant) {
        self.told.insert(row.id, row.revision);
        self.tries.remove(&row.id);
        self.edited.insert(key.to_owned(), now);
    }

    pub fn give_up(&mut self, row: &OutboxRow) {
        self.told.insert(row.id, row.revision);
        self.tries.remove(&row.id);
    }

    /// Tries again after `pause`, or after a time that doubles. False once it was tried too often.
    pub fn again(
        &mut self,
        row: &OutboxRow,
        pause: Option<Duration>,
        result: Result<(), Unknown>,
        now: Instant,
    ) -> bool {
        let known = self.tries.entry(row.id).or_insert(Try { count: 0, not_before: now, unknown: row.attempts > 0 });
        let backoff = FIRST_BACKOFF * (1 << known.count.min(MOST_DOUBLINGS));
        known.count += 1;
        known.not_before = now + pause.unwrap_or(backoff);
        known.unknown |= result.is_err();
        known.count < MOST_TRIES
    }

    /// The post followed one whose result nobody knows.
    pub fn suspect(&mut self, key: String, kept: MessageRef, thread: Option<MessageRef>, now: Instant) {
        self.suspects.push(Suspect { key, kept, thread, since: now, looks: 0 });
    }

    /// Those that are to be looked at now; each comes back until its last look.
    pub fn due_suspects(&mut self, now: Instant) -> Vec<Suspect> {
        let mut due = vec![];
        for suspect in &mut self.suspects {
            if LOOKS.get(suspect.looks).is_some_and(|after| now >= suspect.since + *after) {
                suspect.looks += 1;
                due.push(suspect.clone());
            }
        }
        self.suspects.retain(|suspect| suspect.looks < LOOKS.len());
        due
    }

    pub fn next_look(&self) -> Option<Instant> {
        self.suspects.iter().filter_map(|suspect| Some(suspect.since + *LOOKS.get(suspect.looks)?)).min()
    }

    /// What is no longer due needs no memory.
    pub fn forget(&mut self, due: &HashSet<i64>, now: Instant) {
        self.told.retain(|id, _| due.contains(id));
        self.tries.retain(|id, _| due.contains(id));
        self.edited.retain(|_, at| *at + EDIT_EVERY > now);
        // It is read from the store again when it is needed.
        const MOST_KEYS: usize = 20_000;
        if self.posted.len() > MOST_KEYS {
            self.posted.clear();
        }
    }
}

/// The chat may have done it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, attempts: i64, revision: i64) -> OutboxRow {
        let body = String::new();
        OutboxRow {
            id,
            key: format!("INC-1/{id}"),
            incident: None,
            body,
            attempts,
            revision,
            created_at: 0,
            not_before: 0,
        }
    }

    fn check(lane: &Lane, row: &OutboxRow, call: Call, now: Instant, expected: Turn) {
        let wanted = Wanted { row, key: format!("{}@chat", row.key), call };
        assert_eq!(lane.turn(&wanted, now), expected);
    }

    #[test]
    fn an_edit_waits_three_seconds_and_holds_nothing() {
        let (mut lane, now) = (Lane::new(None), Instant::now());
        let first = row(1, 0, 0);
        check(&lane, &first, Call::Edit, now, Turn::Go { look_first: false });
        lane.tell(&first, "INC-1/1@chat", now);
        assert!(lane.is_told(&first) && !lane.is_told(&row(1, 0, 1)), "asked for again is not told");
        let until = now + EDIT_EVERY;
        check(&lane, &row(1, 0, 1), Call::Edit, now, Turn::Wait { until, holds: false });
        check(&lane, &row(1, 0, 1), Call::Edit, until, Turn::Go { look_first: false });
    }

    #[test]
    fn after_an_unknown_result_one_looks_first() {
        let (mut lane, now) = (Lane::new(None), Instant::now());
        let (post, one) = (Call::Post("C".into()), row(1, 0, 0));
        lane.again(&one, None, Err(Unknown), now);
        let until = now + FIRST_BACKOFF;
        check(&lane, &one, post.clone(), now, Turn::Wait { until, holds: true });
        check(&lane, &one, post.clone(), until, Turn::Go { look_first: true });
        lane.again(&one, Some(Duration::from_secs(7)), Ok(()), until);
        let later = until + Duration::from_secs(7);
        check(&lane, &one, post.clone(), later, Turn::Go { look_first: true });
        check(&lane, &row(2, 1, 0), post.clone(), now, Turn::Go { look_first: true });
        let limited = row(3, 0, 0);
        lane.again(&limited, Some(Duration::from_secs(1)), Ok(()), now);
        check(&lane, &row(3, 1, 0), post, now + Duration::from_secs(1), Turn::Go { look_first: false });
    }

    #[test]
    fn a_suspect_is_looked_at_until_a_minute_has_passed() {
        let (mut lane, now) = (Lane::new(None), Instant::now());
        let kept = MessageRef { channel: "C".into(), ts: "1.1".into() };
        lane.suspect("k".into(), kept, None, now);
        assert!(lane.due_suspects(now).is_empty());
        for after in LOOKS {
            assert_eq!(lane.next_look(), Some(now + after));
            assert_eq!(lane.due_suspects(now + after).len(), 1);
        }
        assert_eq!(lane.next_look(), None);
        assert!(LOOKS.iter().all(|after| *after < Duration::from_secs(60)));
    }
}
