//! Instants in milliseconds since the Unix epoch, UTC.
//!
//! Which clock an instant was read from (event, wall or monotonic) is said by the name of the
//! variable that carries it; the type is the same so that recorded instants compare.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1000)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Reads RFC 3339, the form in which Alertmanager, Kubernetes and Loki write instants.
    pub fn parse(text: &str) -> Result<Self, NotAnInstant> {
        DateTime::parse_from_rfc3339(text)
            .map(|instant| Self(instant.timestamp_millis()))
            .map_err(|_| NotAnInstant(text.chars().take(64).collect()))
    }

    pub fn to_datetime(self) -> DateTime<Utc> {
        // Out of chrono's range (year 262142) only by hostile input; clamp instead of panicking.
        Utc.timestamp_millis_opt(self.0).single().unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The beginning of its day in UTC.
    pub fn midnight(self) -> Self {
        const DAY: i64 = 86_400_000;
        Self::from_millis(self.millis().div_euclid(DAY) * DAY)
    }

    /// `02:17:05`, for lines that people scan.
    pub fn clock_time(self) -> String {
        self.to_datetime().format("%H:%M:%S").to_string()
    }

    /// `2026-11-25 02:17:05Z`, for what may be days old.
    pub fn dated(self) -> String {
        self.to_datetime().format("%Y-%m-%d %H:%M:%SZ").to_string()
    }

    /// As `clock_time` within an hour of `now`, else with its date: what is of yesterday must not read as minutes old.
    pub fn clock_near(self, now: Self) -> String {
        const NEAR: Duration = Duration::from_secs(3600);
        if self.abs_diff(now) <= NEAR { self.clock_time() } else { self.dated() }
    }

    /// `02:17`
    pub fn hour_minute(self) -> String {
        self.to_datetime().format("%H:%M").to_string()
    }

    /// Time since `earlier`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    pub fn abs_diff(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_millis().min(i64::MAX as u128) as i64))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_millis().min(i64::MAX as u128) as i64))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 instant such as 2026-11-21T02:17:00Z")]
pub struct NotAnInstant(String);

/// Reads `90m`, `2h` or `1d`; zero is no span.
pub fn parse_span(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit())?);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let seconds = match unit.trim() {
        "s" => Some(number),
        "m" | "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    seconds.filter(|seconds| *seconds <= u64::from(u32::MAX)).map(Duration::from_secs)
}

/// `4 min 30 s`, the way people say a duration.
pub fn spoken(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{} ms", span.as_millis()),
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_this_hour_has_its_date() {
        let now = Timestamp::parse("2026-11-28T02:17:05Z").unwrap();
        assert_eq!((now - Duration::from_secs(3600)).clock_near(now), "01:17:05");
        assert_eq!((now - Duration::from_secs(3601)).clock_near(now), "2026-11-28 01:17:04Z");
        assert_eq!((now - Duration::from_secs(3 * 86_400)).clock_near(now), "2026-11-25 02:17:05Z");
        assert_eq!((now + Duration::from_secs(7200)).clock_near(now), "2026-11-28 04:17:05Z");
    }
}
