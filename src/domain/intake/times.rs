//! Instants as vendors write them, and what is done with those that cannot be.

use std::time::Duration;

use serde_json::Value;

use crate::domain::alert::BadAlert;
use crate::domain::time::{Timestamp, spoken};

use super::read::brief;

/// A sender's clock may be this far ahead of ours before its instant is not believed.
pub const MAX_AHEAD: Duration = Duration::from_secs(3_600);

/// Alerts may fire for months and are then sent again with their first instant; older than this is
/// rather a wrong unit or an unset clock.
pub const MAX_AGE: Duration = Duration::from_secs(400 * 86_400);

const DAY_MILLIS: i64 = 86_400_000;
const WANTED: &str = "an RFC 3339 instant such as 2026-11-21T02:17:00Z";

/// RFC 3339 (also `+0000` as AWS writes it, a blank for the `T`, no offset for UTC), or epoch seconds,
/// milliseconds, microseconds or nanoseconds, as number or text. `None` for what says "not set":
/// null, an empty text, Go's zero time, zero.
pub fn instant(value: Option<&Value>, field: &'static str) -> Result<Option<Timestamp>, BadAlert> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => instant_of(text, field),
        Some(Value::Number(number)) => number
            .as_f64()
            .and_then(epoch)
            .ok_or_else(|| BadAlert::BadField(field, brief(&Value::Number(number.clone())), WANTED)),
        Some(other) => Err(BadAlert::BadField(field, brief(other), WANTED)),
    }
}

pub fn instant_of(text: &str, field: &'static str) -> Result<Option<Timestamp>, BadAlert> {
    // The usual case first: it is asked for each alert.
    if let Ok(at) = Timestamp::parse(text) {
        return Ok(if text.starts_with("0001-01-01") { None } else { Some(at) });
    }
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-01-01") {
        return Ok(None);
    }
    let bad = || BadAlert::BadField(field, brief(&Value::from(text)), WANTED);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return text.parse().ok().and_then(epoch).ok_or_else(bad);
    }
    repaired(text).and_then(|text| Timestamp::parse(&text).ok()).map(Some).ok_or_else(bad)
}

/// The unit is read from the size: seconds have 10 digits until 2286, milliseconds 13, and so on.
fn epoch(number: f64) -> Option<Option<Timestamp>> {
    let millis = match number {
        0.0 => return Some(None),
        n if !n.is_finite() || n < 0.0 => return None,
        n if n < 1e11 => n * 1e3,
        n if n < 1e14 => n,
        n if n < 1e17 => n / 1e3,
        n if n < 1e20 => n / 1e6,
        _ => return None,
    };
    Some(Some(Timestamp::from_millis(millis as i64)))
}

/// RFC 3339 out of its near relatives.
fn repaired(text: &str) -> Option<String> {
    if !text.is_ascii() || text.len() > 40 || text.len() < 19 {
        return None;
    }
    let text = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")).unwrap_or(text);
    let (date, rest) = text.split_at_checked(10)?;
    let clock = rest.strip_prefix(['T', ' ', 't'])?;
    let (time, offset) = match clock.find(['+', '-', 'Z', 'z']) {
        Some(at) => clock.split_at(at),
        None => (clock, "Z"),
    };
    let digits = offset.trim_start_matches(['+', '-']);
    let offset = match digits.len() {
        4 if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{}{}:{}", &offset[..1], &digits[..2], &digits[2..])
        }
        2 if digits.bytes().all(|byte| byte.is_ascii_digit()) => format!("{offset}:00"),
        _ => offset.to_owned(),
    };
    Some(format!("{date}T{}{offset}", time.trim_end()))
}

/// The instant to order by, and a note when it is not the one that was sent.
///
/// What is ahead is put at its receipt. What is too old is put at the oldest day that is believed;
/// a whole day, so that a repeat within it has the same instant.
pub fn plausible(at: Timestamp, received_at: Timestamp, field: &'static str) -> (Timestamp, Option<String>) {
    let latest = received_at + MAX_AHEAD;
    let oldest = received_at - MAX_AGE;
    if at > latest {
        let ahead = spoken(at.since(received_at));
        return (received_at, Some(format!("{field} says {at}, {ahead} after its receipt; ordered by the receipt")));
    }
    if at < oldest {
        let day = Timestamp::from_millis(oldest.millis().div_euclid(DAY_MILLIS).saturating_mul(DAY_MILLIS));
        return (day, Some(format!("{field} says {at}, which is too long ago to be believed; ordered at {day}")));
    }
    (at, None)
}
