//! `sat,sun 02:00-06:00 Europe/Berlin`: the weekly window as people say it.

use std::fmt;
use std::str::FromStr;

use chrono::Weekday;
use serde::{Deserialize, Serialize};

use super::super::interval::{BadRange, TimeInterval, TimeRange, WeekdayRange, parse_clock, parse_zone};

/// Keeps its text, so that it is stored and shown as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Weekly {
    text: String,
    intervals: Vec<TimeInterval>,
}

impl Weekly {
    pub fn intervals(&self) -> &[TimeInterval] {
        &self.intervals
    }
}

const SHAPE: &str =
    "write days, times and a zone, as in `sat,sun 02:00-06:00 Europe/Berlin` or `mon-fri 22:00-04:00 UTC`";

impl FromStr for Weekly {
    type Err = BadRange;

    /// Days are English names or their first three letters, joined by commas and ranges (`mon-fri`,
    /// also over the week's end: `fri-mon`). Times that end before they start run into the next
    /// day. The zone may be left out for UTC.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        let fault = || BadRange(format!("the weekly window {text:?}"), SHAPE);
        let mut words = text.split_whitespace();
        let (days, times) = words.next().zip(words.next()).ok_or_else(fault)?;
        let zone = parse_zone(words.next().unwrap_or("UTC"))?;
        if words.next().is_some() {
            return Err(fault());
        }
        let days = days_of(days).ok_or_else(fault)?;
        let (start, end) = times.split_once('-').ok_or_else(fault)?;
        let (start, end) = (parse_clock(start)?, parse_clock(end)?);
        let on = |days: &[Weekday]| days.iter().copied().map(WeekdayRange::single).collect::<Vec<_>>();
        let intervals = if start < end {
            vec![TimeInterval::weekly(on(&days), TimeRange::new(start, end)?, zone)]
        } else {
            let next: Vec<Weekday> = days.iter().map(Weekday::succ).collect();
            let evening = TimeInterval::weekly(on(&days), TimeRange::new(start, 1440)?, zone);
            if end == 0 {
                vec![evening]
            } else {
                vec![evening, TimeInterval::weekly(on(&next), TimeRange::new(0, end)?, zone)]
            }
        };
        Ok(Self { text: text.into(), intervals })
    }
}

fn days_of(text: &str) -> Option<Vec<Weekday>> {
    let day = |name: &str| name.parse::<Weekday>().ok();
    let mut days = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once(['-', ':']).unwrap_or((part, part));
        let (mut current, last) = (day(first)?, day(last)?);
        days.push(current);
        while current != last {
            current = current.succ();
            days.push(current);
        }
    }
    Some(days)
}

impl TryFrom<String> for Weekly {
    type Error = BadRange;

    fn try_from(text: String) -> Result<Self, BadRange> {
        text.parse()
    }
}

impl From<Weekly> for String {
    fn from(weekly: Weekly) -> Self {
        weekly.text
    }
}

impl fmt::Display for Weekly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
