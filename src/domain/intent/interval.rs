//! Recurring time, in the shape and with the meaning of Alertmanager's `time_intervals`.
//!
//! Invariants: fields are tested in the interval's own zone (UTC when none is named); a time range
//! holds its first minute and not its last; all other ranges hold both ends.

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, Offset, Timelike, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::super::time::Timestamp;
pub use range::{BadRange, TimeRange, WeekdayRange, parse_clock, parse_zone};
use range::{DayOfMonth, Month, Ranges, Year};

mod range;
#[cfg(test)]
mod tests;

const MINUTES_PER_DAY: u32 = 1440;
const MINUTE: Duration = Duration::from_secs(60);
/// How far ahead an end is looked for: beyond it nobody waits for the end.
const HORIZON: Duration = Duration::from_secs(8 * 24 * 3600);

/// An instant is inside when each field that is given holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeInterval {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "range::some_times")]
    pub times: Option<Vec<TimeRange>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekdays: Option<Ranges<WeekdayRange>>,
    /// Negative days count from the end of the month: -1 is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_of_month: Option<Ranges<DayOfMonth>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<Ranges<Month>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub years: Option<Ranges<Year>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "range::location")]
    pub location: Option<Tz>,
}

impl TimeInterval {
    /// Times of some weekdays, as the weekly shorthand says.
    pub fn weekly(weekdays: Vec<WeekdayRange>, times: TimeRange, location: Tz) -> Self {
        Self { times: Some(vec![times]), weekdays: Some(Ranges(weekdays)), location: Some(location), ..Self::default() }
    }

    pub fn contains(&self, at: Timestamp) -> bool {
        let local = self.local(at);
        let minute = minute_of_day(&local);
        let day = local.day() as i32;
        self.times.as_ref().is_none_or(|times| times.iter().any(|range| range.contains(minute)))
            && self.days_of_month.as_ref().is_none_or(|days| {
                let length = days_in_month(&local) as i32;
                days.0.iter().any(|range| range.contains(day, length))
            })
            && self.months.as_ref().is_none_or(|months| months.0.iter().any(|range| range.contains(local.month())))
            && self.weekdays.as_ref().is_none_or(|days| days.0.iter().any(|range| range.contains(local.weekday())))
            && self.years.as_ref().is_none_or(|years| years.0.iter().any(|range| range.contains(local.year())))
    }

    /// The first instant after `at` at which `contains` may change from true: the end of a time
    /// range, midnight, or a shift of the zone's clock.
    fn next_boundary(&self, at: Timestamp) -> Timestamp {
        let local = self.local(at);
        let now = minute_of_day(&local);
        let ends = self.times.iter().flatten().map(|range| range.end);
        let end = ends.filter(|end| *end > now).min().unwrap_or(MINUTES_PER_DAY);
        let from = at - Duration::from_millis(at.millis().rem_euclid(60_000) as u64);
        let to = from + MINUTE * (end - now);
        self.shift(from, to).unwrap_or(to)
    }

    /// The first minute after `from`, at or before `to`, with another offset from UTC.
    fn shift(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let offset = |at: Timestamp| self.local(at).offset().fix();
        let before = offset(from);
        // A zone shifts at most once in a day, so halving finds it.
        if offset(to) == before {
            return None;
        }
        let (mut same, mut other) = (0, (to.since(from).as_secs() / 60) as u32);
        while other - same > 1 {
            let middle = (same + other) / 2;
            if offset(from + MINUTE * middle) == before { same = middle } else { other = middle }
        }
        Some(from + MINUTE * other)
    }

    fn local(&self, at: Timestamp) -> DateTime<Tz> {
        at.to_datetime().with_timezone(&self.location.unwrap_or(Tz::UTC))
    }
}

/// Intervals under one name; an instant is inside when one of them holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedInterval {
    pub name: String,
    /// None hold no instant.
    #[serde(default)]
    pub time_intervals: Vec<TimeInterval>,
}

impl NamedInterval {
    pub fn contains(&self, at: Timestamp) -> bool {
        contains(&self.time_intervals, at)
    }

    pub fn until(&self, at: Timestamp) -> Option<Timestamp> {
        until(&self.time_intervals, at)
    }
}

pub(super) fn contains(intervals: &[TimeInterval], at: Timestamp) -> bool {
    intervals.iter().any(|interval| interval.contains(at))
}

/// The first instant after `at` that is outside all of them; `None` when there is none within
/// eight days.
pub(super) fn until(intervals: &[TimeInterval], at: Timestamp) -> Option<Timestamp> {
    let mut edge = at;
    while contains(intervals, edge) {
        edge = intervals.iter().map(|interval| interval.next_boundary(edge)).min()?;
        if edge.since(at) > HORIZON {
            return None;
        }
    }
    Some(edge)
}

fn minute_of_day(local: &DateTime<Tz>) -> u32 {
    local.hour() * 60 + local.minute()
}

/// By the calendar. Alertmanager divides the month's hours by 24, which loses a day in a month
/// whose clocks go forward.
fn days_in_month(local: &DateTime<Tz>) -> u32 {
    let (year, month) = (local.year(), local.month());
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    NaiveDate::from_ymd_opt(next.0, next.1, 1).and_then(|first| first.pred_opt()).map_or(31, |last| last.day())
}

/// Sunday is 0, as in Alertmanager: its ranges do not wrap over the week's end.
fn number_of(weekday: Weekday) -> u32 {
    weekday.num_days_from_sunday()
}
