//! The ranges of a time interval and how they are written.

use std::fmt;
use std::marker::PhantomData;

use chrono::Weekday;
use chrono_tz::Tz;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::number_of;

/// Minutes of the day, the end not included; 24:00 is 1440.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TimeText", into = "TimeText")]
pub struct TimeRange {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeText {
    start_time: String,
    end_time: String,
}

impl TimeRange {
    /// Minutes after midnight, the start before the end and the end at most 1440.
    pub fn new(start: u32, end: u32) -> Result<Self, BadRange> {
        if start < end && end <= 1440 {
            Ok(Self { start, end })
        } else {
            Err(BadRange(
                format!("the times {}-{}", clock(start), clock(end)),
                "let the start be before the end, at most 24:00; split a range over midnight into two",
            ))
        }
    }

    pub(super) fn contains(&self, minute: u32) -> bool {
        (self.start..self.end).contains(&minute)
    }
}

impl TryFrom<TimeText> for TimeRange {
    type Error = BadRange;

    fn try_from(text: TimeText) -> Result<Self, BadRange> {
        Self::new(parse_clock(&text.start_time)?, parse_clock(&text.end_time)?)
    }
}

impl From<TimeRange> for TimeText {
    fn from(range: TimeRange) -> Self {
        Self { start_time: clock(range.start), end_time: clock(range.end) }
    }
}

/// Reads `HH:MM` up to `24:00` as minutes after midnight.
pub fn parse_clock(text: &str) -> Result<u32, BadRange> {
    let digits = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(u32::from);
    text.split_once(':')
        .and_then(|(hours, minutes)| Some((digits(hours)?, digits(minutes)?)))
        .filter(|(hours, minutes)| (*hours < 24 && *minutes < 60) || (*hours == 24 && *minutes == 0))
        .map(|(hours, minutes)| hours * 60 + minutes)
        .ok_or_else(|| BadRange(format!("the time {text:?}"), "write HH:MM between 00:00 and 24:00"))
}

fn clock(minute: u32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// From the earlier to the later day of a week that begins on Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekdayRange {
    begin: u32,
    end: u32,
}

/// Days of a month, from 1 or, negative, from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayOfMonth {
    begin: i32,
    end: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    begin: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Year {
    begin: i32,
    end: i32,
}

impl WeekdayRange {
    pub fn single(day: Weekday) -> Self {
        Self { begin: number_of(day), end: number_of(day) }
    }

    pub(super) fn contains(&self, day: Weekday) -> bool {
        (self.begin..=self.end).contains(&number_of(day))
    }
}

impl DayOfMonth {
    pub(super) fn contains(&self, day: i32, length: i32) -> bool {
        let from_start = |bound: i32| if bound < 0 { length + bound + 1 } else { bound };
        // A begin after the month's last day holds no day of this month.
        (from_start(self.begin)..=from_start(self.end)).contains(&day)
    }
}

impl Month {
    pub(super) fn contains(&self, month: u32) -> bool {
        (self.begin..=self.end).contains(&month)
    }
}

impl Year {
    pub(super) fn contains(&self, year: i32) -> bool {
        (self.begin..=self.end).contains(&year)
    }
}

/// A range that is written as `begin:end`, or as one member.
pub trait Written: Sized {
    /// From lower-case members.
    fn read(begin: &str, end: &str) -> Result<Self, BadRange>;
    fn write(&self) -> (String, String);
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl Written for WeekdayRange {
    fn read(begin: &str, end: &str) -> Result<Self, BadRange> {
        let day = |text: &str| {
            (0..)
                .zip(WEEKDAYS)
                .find(|(_, name)| *name == text)
                .map(|(number, _)| number)
                .ok_or_else(|| BadRange(format!("the weekday {text:?}"), "give a full English name such as monday"))
        };
        let range = Self { begin: day(begin)?, end: day(end)? };
        ordered(range, range.begin <= range.end, begin, end, "the week begins on sunday; split the range at its end")
    }

    fn write(&self) -> (String, String) {
        (WEEKDAYS[self.begin as usize].into(), WEEKDAYS[self.end as usize].into())
    }
}

impl Written for DayOfMonth {
    fn read(begin: &str, end: &str) -> Result<Self, BadRange> {
        const REMEDY: &str = "give days from 1 to 31, or from -31 to -1 to count from the end";
        let day = |text: &str| {
            text.parse::<i32>()
                .ok()
                .filter(|day| (-31..=31).contains(day) && *day != 0)
                .ok_or_else(|| BadRange(format!("the day of the month {text:?}"), REMEDY))
        };
        let range = Self { begin: day(begin)?, end: day(end)? };
        // In the shortest month a range that is always empty shows; others depend on the month.
        let in_february = |day: i32| if day < 0 { 28 + day } else { day };
        let mixed = range.begin < 0 && range.end > 0;
        let holds = !mixed && in_february(range.begin) <= in_february(range.end);
        ordered(range, holds, begin, end, "the end is always before the start; swap them")
    }

    fn write(&self) -> (String, String) {
        (self.begin.to_string(), self.end.to_string())
    }
}

impl Written for Month {
    fn read(begin: &str, end: &str) -> Result<Self, BadRange> {
        let month = |text: &str| {
            (1..)
                .zip(MONTHS)
                .find(|(_, name)| *name == text)
                .map(|(number, _)| number)
                .or_else(|| text.parse().ok().filter(|number| (1..=12).contains(number)))
                .ok_or_else(|| BadRange(format!("the month {text:?}"), "give a name such as march, or 1 to 12"))
        };
        let range = Self { begin: month(begin)?, end: month(end)? };
        ordered(range, range.begin <= range.end, begin, end, "split the range at the end of the year")
    }

    fn write(&self) -> (String, String) {
        (self.begin.to_string(), self.end.to_string())
    }
}

impl Written for Year {
    fn read(begin: &str, end: &str) -> Result<Self, BadRange> {
        let year = |text: &str| {
            text.parse::<i32>().map_err(|_| BadRange(format!("the year {text:?}"), "give a number such as 2027"))
        };
        let range = Self { begin: year(begin)?, end: year(end)? };
        ordered(range, range.begin <= range.end, begin, end, "the end is before the start; swap them")
    }

    fn write(&self) -> (String, String) {
        (self.begin.to_string(), self.end.to_string())
    }
}

fn ordered<T>(range: T, holds: bool, begin: &str, end: &str, remedy: &'static str) -> Result<T, BadRange> {
    if holds { Ok(range) } else { Err(BadRange(format!("the range \"{begin}:{end}\""), remedy)) }
}

pub fn read<T: Written>(text: &str) -> Result<T, BadRange> {
    let text = text.to_lowercase();
    let (begin, end) = text.split_once(':').unwrap_or((&text, &text));
    T::read(begin, end)
}

/// Ranges of one field, never none: whether an empty list holds all or nothing is left open by
/// Alertmanager, whose documentation and code differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges<T>(pub Vec<T>);

impl<T: Written> Serialize for Ranges<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|range| match range.write() {
            (begin, end) if begin == end => begin,
            (begin, end) => format!("{begin}:{end}"),
        }))
    }
}

impl<'de, T: Written> Deserialize<'de> for Ranges<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Written> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ranges such as ['1:5', '-1']")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut ranges = vec![];
                while let Some(Member(text)) = seq.next_element()? {
                    ranges.push(read(&text).map_err(A::Error::custom)?);
                }
                Ok(ranges)
            }
        }
        deserializer.deserialize_seq(List(PhantomData)).and_then(not_empty).map(Self)
    }
}

pub(super) fn some_times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<TimeRange>>, D::Error> {
    Option::deserialize(deserializer)?.map(not_empty).transpose()
}

fn not_empty<T, E: serde::de::Error>(list: Vec<T>) -> Result<Vec<T>, E> {
    if list.is_empty() { Err(E::custom("an empty list; name a range or remove the key")) } else { Ok(list) }
}

/// Text, or a number where people leave the quotes out.
struct Member(String);

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range such as '1:5'")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.into())
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
                Ok(number.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
                Ok(number.to_string())
            }
        }
        deserializer.deserialize_any(Scalar).map(Self)
    }
}

/// A zone by its name in the IANA database.
pub(super) mod location {
    use super::*;

    pub fn serialize<S: Serializer>(zone: &Option<Tz>, serializer: S) -> Result<S::Ok, S::Error> {
        zone.map(|zone| zone.name()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tz>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .filter(|name| !name.is_empty())
            .map(|name| parse_zone(&name).map_err(D::Error::custom))
            .transpose()
    }
}

pub fn parse_zone(name: &str) -> Result<Tz, BadRange> {
    name.parse().map_err(|_| {
        // `Local` too: the zone of whatever machine runs the program is nobody's intent.
        BadRange(format!("the location {name:?}"), "name a zone of the IANA database such as Europe/Berlin, or UTC")
    })
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be read; {1}")]
pub struct BadRange(pub String, pub &'static str);
