//! Silences: a person says that alerts of a kind need nobody until a time.
//!
//! Invariants: a silence that would hide everything is refused unless confirmed; a lookup touches
//! only silences whose labels the alert carries; what has expired never mutes.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::alert::{Alert, Labels, truncate};
use super::super::time::Timestamp;
use super::index::Index;
use super::matcher::Matchers;

#[cfg(test)]
mod tests;

/// Silences kept at once, the expired ones that are not yet forgotten included; bounds memory.
pub const MAX_SILENCES: usize = 10_000;
/// Bytes of a comment; what is longer is cut.
pub const MAX_COMMENT: usize = 2_048;
/// With fewer firing alerts a share says nothing: one silenced alert of one is all of them.
pub const MIN_FIRING_FOR_SHARE: usize = 10;

/// Chosen by the caller, unique among silences.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SilenceId(String);

impl SilenceId {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stored and sent in the shape of Alertmanager's API v2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    pub id: SilenceId,
    pub matchers: Matchers,
    pub starts_at: Timestamp,
    /// The first instant that is not silenced any more.
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
    /// When it was last created or expired.
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Active,
    Expired,
}

impl Silence {
    pub fn state(&self, at: Timestamp) -> State {
        if at >= self.ends_at {
            State::Expired
        } else if at < self.starts_at {
            State::Pending
        } else {
            State::Active
        }
    }

    fn mutes(&self, labels: &Labels, at: Timestamp) -> bool {
        self.state(at) == State::Active && self.matchers.matches(labels)
    }
}

/// Against what a new silence is measured before it is taken.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Labels of the alerts that fire now.
    pub firing: &'a [Labels],
    /// From 0 to 1: a silence over more than this share of them needs confirmation.
    pub max_share: f64,
}

/// Whether the person has seen how far the silence reaches and wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Ask,
    Confirmed,
}

#[derive(Debug, Clone, Default)]
pub struct Silences {
    all: Vec<Silence>,
    /// Positions in `all`.
    by_id: HashMap<SilenceId, usize>,
    index: Index,
}

impl Silences {
    /// Takes stored silences back as they are: they were accepted once. Of two with one id the
    /// later updated stays.
    pub fn restore(stored: impl IntoIterator<Item = Silence>) -> Self {
        let mut silences = Self::default();
        for silence in stored {
            match silences.by_id.get(&silence.id).copied() {
                Some(slot) if silences.all[slot].updated_at >= silence.updated_at => {}
                Some(slot) => silences.all[slot] = silence,
                None => {
                    silences.by_id.insert(silence.id.clone(), silences.all.len());
                    silences.all.push(silence);
                }
            }
        }
        silences.reindex();
        silences
    }

    pub fn create(
        &mut self,
        mut silence: Silence,
        reach: Reach<'_>,
        consent: Consent,
        at: Timestamp,
    ) -> Result<&Silence, Refused> {
        self.check(&silence, at)?;
        match consent {
            Consent::Ask => measure(&silence.matchers, reach)?,
            Consent::Confirmed => {}
        }
        truncate(&mut silence.comment, MAX_COMMENT);
        silence.updated_at = at;
        let slot = self.all.len();
        self.index.insert(slot as u32, &silence.matchers);
        self.by_id.insert(silence.id.clone(), slot);
        self.all.push(silence);
        Ok(&self.all[slot])
    }

    /// Ends an active silence now; a pending one never starts.
    pub fn expire(&mut self, id: &SilenceId, at: Timestamp) -> Result<&Silence, CannotExpire> {
        let slot = *self.by_id.get(id).ok_or_else(|| CannotExpire::Unknown(id.clone()))?;
        let silence = &mut self.all[slot];
        match silence.state(at) {
            State::Expired => return Err(CannotExpire::AlreadyExpired(id.clone(), silence.ends_at)),
            State::Pending => silence.starts_at = at,
            State::Active => {}
        }
        silence.ends_at = at;
        silence.updated_at = at;
        Ok(silence)
    }

    /// Drops what expired before the instant; gives how many.
    pub fn forget_expired(&mut self, before: Timestamp) -> usize {
        let known = self.all.len();
        self.all.retain(|silence| silence.ends_at >= before);
        let forgotten = known - self.all.len();
        if forgotten > 0 {
            self.by_id = (0..).zip(&self.all).map(|(slot, silence)| (silence.id.clone(), slot)).collect();
            self.reindex();
        }
        forgotten
    }

    pub fn get(&self, id: &SilenceId) -> Option<&Silence> {
        self.by_id.get(id).map(|slot| &self.all[*slot])
    }

    /// All that are kept, in the order of creation.
    pub fn list(&self) -> impl Iterator<Item = &Silence> {
        self.all.iter()
    }

    /// The silence that mutes the alert; of several, the one that ends last, because that is when
    /// the alert can be heard again.
    pub fn mutes(&self, alert: &Alert, at: Timestamp) -> Option<&Silence> {
        let mut longest: Option<&Silence> = None;
        self.index.candidates(&alert.labels, |slot| {
            let silence = &self.all[slot as usize];
            if silence.mutes(&alert.labels, at) && longest.is_none_or(|known| rank(silence) > rank(known)) {
                longest = Some(silence);
            }
        });
        longest
    }

    fn check(&self, silence: &Silence, at: Timestamp) -> Result<(), Refused> {
        if silence.id.as_str().is_empty() {
            return Err(Refused::Missing("id"));
        }
        if silence.created_by.trim().is_empty() {
            return Err(Refused::Missing("createdBy"));
        }
        if silence.comment.trim().is_empty() {
            return Err(Refused::Missing("comment"));
        }
        if silence.starts_at >= silence.ends_at {
            return Err(Refused::EndsBeforeItStarts { starts_at: silence.starts_at, ends_at: silence.ends_at });
        }
        if silence.ends_at <= at {
            return Err(Refused::EndsInThePast(silence.ends_at));
        }
        if self.by_id.contains_key(&silence.id) {
            return Err(Refused::Known(silence.id.clone()));
        }
        if self.all.len() >= MAX_SILENCES {
            return Err(Refused::TooMany);
        }
        Ok(())
    }

    fn reindex(&mut self) {
        self.index = Index::of(self.all.iter().map(|silence| &silence.matchers));
    }
}

/// Greater is preferred; the id breaks ties so that the same alert always gets the same answer.
fn rank(silence: &Silence) -> (Timestamp, std::cmp::Reverse<&SilenceId>) {
    (silence.ends_at, std::cmp::Reverse(&silence.id))
}

fn measure(matchers: &Matchers, reach: Reach<'_>) -> Result<(), Refused> {
    if matchers.match_the_empty() {
        return Err(Refused::MatchesEverything { matchers: matchers.to_string() });
    }
    reach.allows(std::slice::from_ref(matchers))
}

impl Reach<'_> {
    /// Whether these together leave enough alone.
    pub fn allows(&self, all: &[Matchers]) -> Result<(), Refused> {
        let firing = self.firing.len();
        let is_meant = |labels: &&Labels| all.iter().any(|matchers| matchers.matches(labels));
        let matched = self.firing.iter().filter(is_meant).count();
        if firing >= MIN_FIRING_FOR_SHARE && matched as f64 > self.max_share * firing as f64 {
            return Err(Refused::TooBroad { matched, firing, max_share: self.max_share });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error(
        "every matcher of {matchers} accepts a missing label, so nearly every alert would be silenced; \
         add a matcher such as service=\"pay\", or confirm"
    )]
    MatchesEverything { matchers: String },
    #[error(
        "it would silence {matched} of the {firing} alerts that fire now, more than {:.0} %; \
         narrow the matchers, or confirm",
        max_share * 100.0
    )]
    TooBroad { matched: usize, firing: usize, max_share: f64 },
    #[error("`{0}` is empty; a silence says who asked for it and why")]
    Missing(&'static str),
    #[error("it starts at {starts_at} and ends at {ends_at}; let it end after its start")]
    EndsBeforeItStarts { starts_at: Timestamp, ends_at: Timestamp },
    #[error("it ends at {0}, which is past; give a later end")]
    EndsInThePast(Timestamp),
    #[error("silence {0} exists; choose another id, or expire that one first")]
    Known(SilenceId),
    #[error("{MAX_SILENCES} silences are kept; forget expired ones first")]
    TooMany,
}

impl Refused {
    /// Whether the same silence is taken once the person confirms it.
    pub fn can_be_confirmed(&self) -> bool {
        match self {
            Self::MatchesEverything { .. } | Self::TooBroad { .. } => true,
            Self::Missing(_)
            | Self::EndsBeforeItStarts { .. }
            | Self::EndsInThePast(_)
            | Self::Known(_)
            | Self::TooMany => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotExpire {
    #[error("no silence {0}; list the silences to see their ids")]
    Unknown(SilenceId),
    #[error("silence {0} has ended at {1} already")]
    AlreadyExpired(SilenceId, Timestamp),
}
