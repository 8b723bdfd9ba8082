//! Windows: planned work, during which alerts of the services that are worked on need nobody.
//!
//! Invariant: a window names what it covers; to cover everything it must say so, as in
//! `alertname=~".+"`.

use serde::{Deserialize, Serialize};

use super::super::alert::{Alert, Severity};
use super::super::time::Timestamp;
use super::index::Index;
use super::interval::{self, TimeInterval};
use super::matcher::Matchers;
pub use weekly::Weekly;

#[cfg(test)]
mod tests;
mod weekly;

/// Windows in one configuration.
pub const MAX_WINDOWS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub name: String,
    pub matchers: Matchers,
    pub schedule: Schedule,
    pub kind: Kind,
}

/// What the people do in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The service is expected to be down or degraded: all that is named is muted.
    Maintenance,
    /// Something is being rolled out; the service should stay up: what is critical wakes people all the same.
    Change,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Change => "change",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// From the start, inclusive, to the end, exclusive.
    Once {
        start: Timestamp,
        end: Timestamp,
    },
    Recurring(Vec<TimeInterval>),
    Weekly(Weekly),
}

impl Schedule {
    pub fn contains(&self, at: Timestamp) -> bool {
        match self {
            Self::Once { start, end } => (*start..*end).contains(&at),
            Self::Recurring(intervals) => interval::contains(intervals, at),
            Self::Weekly(weekly) => interval::contains(weekly.intervals(), at),
        }
    }

    /// The first instant outside, when `at` is inside and there is one within eight days.
    pub fn until(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { end, .. } => Some(*end),
            Self::Recurring(intervals) => interval::until(intervals, at),
            Self::Weekly(weekly) => interval::until(weekly.intervals(), at),
        }
    }
}

/// The windows of one configuration.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    all: Vec<Window>,
    index: Index,
}

impl Windows {
    pub fn new(all: Vec<Window>) -> Result<Self, BadWindow> {
        if all.len() > MAX_WINDOWS {
            return Err(BadWindow::TooMany(all.len()));
        }
        for (at, window) in all.iter().enumerate() {
            let name = || window.name.clone();
            if window.name.trim().is_empty() {
                return Err(BadWindow::Nameless(at + 1));
            }
            if all[..at].iter().any(|earlier| earlier.name == window.name) {
                return Err(BadWindow::Twice(name()));
            }
            if window.matchers.match_the_empty() {
                return Err(BadWindow::CoversEverything(name()));
            }
            match &window.schedule {
                Schedule::Once { start, end } if start >= end => {
                    return Err(BadWindow::EndsBeforeItStarts(name(), *start, *end));
                }
                Schedule::Recurring(intervals) if intervals.is_empty() => return Err(BadWindow::Never(name())),
                Schedule::Once { .. } | Schedule::Recurring(_) | Schedule::Weekly(_) => {}
            }
        }
        let index = Index::of(all.iter().map(|window| &window.matchers));
        Ok(Self { all, index })
    }

    pub fn list(&self) -> &[Window] {
        &self.all
    }

    /// The first window, in the order of the configuration, that covers the alert now.
    pub fn mutes(&self, alert: &Alert, at: Timestamp) -> Option<&Window> {
        let mut first = u32::MAX;
        self.index.candidates(&alert.labels, |slot| {
            let window = &self.all[slot as usize];
            let mutes = window.kind == Kind::Maintenance || alert.severity() < Severity::Critical;
            if slot < first && mutes && window.matchers.matches(&alert.labels) && window.schedule.contains(at) {
                first = slot;
            }
        });
        self.all.get(first as usize)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    #[error("window {0} has no name; name it after the work")]
    Nameless(usize),
    #[error("two windows are called {0:?}; give each its own name")]
    Twice(String),
    #[error(
        "window {0:?}: every matcher accepts a missing label, so it covers every alert; \
         add one such as service=\"pay\", or alertname=~\".+\" if that is meant"
    )]
    CoversEverything(String),
    #[error("window {0:?} starts at {1} and ends at {2}; let it end after its start")]
    EndsBeforeItStarts(String, Timestamp, Timestamp),
    #[error("window {0:?} recurs at no time; give at least one interval")]
    Never(String),
    #[error("{0} windows, the limit is {MAX_WINDOWS}; remove past ones")]
    TooMany(usize),
}
