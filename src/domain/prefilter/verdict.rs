//! What the prefilter says of an alert, and why.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::alert::Severity;
use crate::domain::intent::Muted;
use crate::domain::series::Reason;
use crate::domain::time::{Timestamp, spoken};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Admit {
        because: Because,
        /// scikit-learn's scale; absent while the forest knows too little.
        score: Option<f64>,
    },
    Suppress {
        reason: Suppression,
    },
    /// The end of a firing; never suppressed, so that incidents can close.
    Resolve,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Suppression {
    /// The same firing was sent again.
    Duplicate {
        first_at: Timestamp,
        times: u64,
        #[serde(default)]
        content: Content,
    },
    /// Older than what is known of this fingerprint: a late or re-ordered delivery.
    Stale {
        newest: Timestamp,
    },
    BelowFloor {
        severity: Severity,
        floor: Severity,
    },
    Flapping {
        transitions: usize,
    },
    /// It must fire on for longer before anybody is told.
    TooBrief {
        until: Timestamp,
        wanted_seconds: u64,
    },
    /// It must fire more often before anybody is told.
    TooFew {
        times: usize,
        wanted: usize,
        within_seconds: u64,
    },
    /// It fires again with a value that is no further from its threshold than it was before.
    AtTheEdge {
        value: f64,
        before: f64,
        band: f64,
    },
    /// People, or the system that sent it, said that it needs nobody now.
    Muted {
        by: Mute,
    },
    /// The forest finds it like the alerts of quiet days.
    NotAnomalous {
        score: f64,
        threshold: f64,
        #[serde(default)]
        origin: Origin,
        because: Because,
    },
}

/// What a repeat says beside what is known already; the newest content is what counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Content {
    /// Word for word.
    #[default]
    Same,
    /// Other annotations or another value.
    Changed { value: Option<f64>, was: Option<f64> },
}

/// Who muted an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mute", rename_all = "snake_case")]
pub enum Mute {
    Here(Muted),
    /// The sender has already decided; in its own words.
    AtTheSource {
        name: String,
        said: String,
    },
}

impl Mute {
    fn name(&self) -> &'static str {
        match self {
            Self::Here(muted) => muted.name(),
            Self::AtTheSource { .. } => "muted_at_source",
        }
    }

    fn explain(&self) -> String {
        match self {
            Self::Here(muted) => muted.explain(),
            Self::AtTheSource { name, said } => format!("{name} at the source: {said}"),
        }
    }
}

impl Suppression {
    /// The counter's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Duplicate { .. } => "duplicate",
            Self::Stale { .. } => "stale",
            Self::BelowFloor { .. } => "below_severity_floor",
            Self::Flapping { .. } => "flapping",
            Self::TooBrief { .. } => "too_brief",
            Self::TooFew { .. } => "too_few",
            Self::AtTheEdge { .. } => "at_the_edge",
            Self::Muted { by } => by.name(),
            Self::NotAnomalous { .. } => "not_anomalous",
        }
    }

    /// Whether people may be asked if it was right: a firing that the watch itself kept from them.
    pub fn is_audited(&self) -> bool {
        match self {
            Self::NotAnomalous { .. } | Self::Flapping { .. } | Self::TooFew { .. } | Self::AtTheEdge { .. } => true,
            // Repeats and late news were told before; the rest is what people said, or comes later.
            Self::Duplicate { .. }
            | Self::Stale { .. }
            | Self::BelowFloor { .. }
            | Self::TooBrief { .. }
            | Self::Muted { .. } => false,
        }
    }

    pub fn explain(&self) -> String {
        match self {
            Self::Duplicate { first_at, times, content } => {
                format!("the same firing was first seen at {}, this is repeat {times}{content}", first_at.clock_time())
            }
            Self::Stale { newest } => {
                format!("sent late: {} is already known of this alert", newest.clock_time())
            }
            Self::BelowFloor { severity, floor } => {
                format!("severity {} is below the floor {}", severity.as_str(), floor.as_str())
            }
            Self::Flapping { transitions } => format!("changed state {transitions} times within an hour"),
            Self::TooBrief { until, wanted_seconds } => {
                format!("must fire for {wanted_seconds} s before anybody is told, that is until {}", until.clock_time())
            }
            Self::TooFew { times, wanted, within_seconds } => {
                format!("fired {times} times within {within_seconds} s, {wanted} are wanted")
            }
            Self::AtTheEdge { value, before, band } => {
                format!("fires again at {value}, within {} % of the {before} at which it fired before", percent(*band))
            }
            Self::Muted { by } => by.explain(),
            Self::NotAnomalous { score, threshold, origin, because } => {
                format!("looks like a quiet day (score {score:.2} above {threshold:.2}, {origin}): {because}")
            }
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => Ok(()),
            Self::Changed { value: Some(value), was: Some(was) } if value != was => {
                write!(f, ", with newer content that counts from now on (value {value}, was {was})")
            }
            Self::Changed { .. } => f.write_str(", with newer content that counts from now on"),
        }
    }
}

/// Where the threshold comes from that suppressed an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The configuration.
    #[default]
    Fixed,
    /// Labels: so many real incidents, of which at most the share `missed` is lost at `confidence`.
    Calibrated { real: usize, missed: f64, confidence: f64 },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("a fixed threshold"),
            Self::Calibrated { real, missed, confidence } => write!(
                f,
                "calibrated on {real} labelled incidents: at most {} % missed at {} % confidence",
                percent(*missed),
                percent(*confidence)
            ),
        }
    }
}

/// Two digits after the point are more than anybody sets.
pub(super) fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 1e2
}

/// Why an alert was admitted or found usual. Put into words only when somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Because {
    Critical,
    /// Its name is on the list of those that are never suppressed.
    Listed,
    StillFires,
    ColdStart {
        seen: usize,
        wanted: usize,
    },
    /// The labels do not carry a threshold yet.
    Shadow {
        missing: usize,
        facts: Facts,
    },
    Facts(Facts),
    /// Read back from where it was written.
    Said(String),
}

/// What is known of an alert's own past.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub seen_before: u32,
    /// Its value against its baselines, when they are known.
    pub value: Option<Reason>,
    /// Alerts of any kind within the rate window.
    pub near: f64,
    pub window: std::time::Duration,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Critical => f.write_str("critical alerts are always admitted"),
            Self::Listed => f.write_str("its name is never suppressed"),
            Self::StillFires => f.write_str("it still fires and was muted before"),
            Self::ColdStart { seen, wanted } => {
                write!(f, "cold start: {seen} of {wanted} alerts seen before the forest may speak")
            }
            Self::Shadow { missing, facts } => {
                write!(f, "shadow: {missing} labelled incidents are missing until it may suppress; {facts}")
            }
            Self::Facts(facts) => facts.fmt(f),
            Self::Said(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seen {} times before", self.seen_before)?;
        match &self.value {
            Some(reason) => write!(f, ", {reason}")?,
            None => f.write_str(", too few values to compare with")?,
        }
        write!(f, ", about {:.0} alerts in {}", self.near, spoken(self.window))
    }
}

impl Serialize for Because {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Because {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Said)
    }
}
