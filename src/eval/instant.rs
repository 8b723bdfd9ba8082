//! Reading the instants that data sets use.

/// How an instant was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    Seconds,
    Millis,
    Calendar,
}

/// From here on a number counts milliseconds: as seconds it would be the year 5138.
pub(super) const MILLIS_FROM: f64 = 1e11;

/// Seconds since the Unix epoch from epoch seconds or milliseconds, RFC 3339, or the same with a
/// space and without a zone (then UTC).
pub(super) fn epoch(text: &str) -> Option<(i64, Epoch)> {
    if let Ok(number) = text.parse::<f64>() {
        return match number.abs() {
            size if size < MILLIS_FROM => Some((number.floor() as i64, Epoch::Seconds)),
            size if size < MILLIS_FROM * 1e3 => Some(((number / 1e3).floor() as i64, Epoch::Millis)),
            _ => None,
        };
    }
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (time, offset) = zone(time)?;
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    // Fractions of a second are dropped.
    let second = parts.next().map_or(Some(0), |part| number(part.split('.').next().unwrap_or("")))?;
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    (sound && parts.next().is_none() && year < 10_000)
        .then(|| (days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset, Epoch::Calendar))
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The time without its zone, and the zone's distance from UTC in seconds.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (hours, minutes) = time[at + 1..].split_once(':').unwrap_or_else(|| (&time[at + 1..], "00"));
    let offset = number(hours)? * 3_600 + number(minutes)? * 60;
    Some((&time[..at], if time[at..].starts_with('-') { -offset } else { offset }))
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_one_instant() {
        for text in [
            "1611187200",
            "1611187200.0",
            "1611187200000",
            "2021-01-21T00:00:00Z",
            "2021-01-21 00:00:00",
            "2021-01-21T02:00:00.25+02:00",
            "2021-01-20T19:00:00-05:00",
            "2021-01-21",
        ] {
            assert_eq!(epoch(text).map(|it| it.0), Some(1_611_187_200), "{text}");
        }
        assert_eq!(epoch("2024-02-29 12:30").map(|it| it.0), Some(1_709_209_800));
    }

    #[test]
    fn what_is_not_an_instant() {
        for text in
            ["", "yesterday", "2021-13-01", "2021-01-01T25:00:00", "nan", "1e99", "2021-01-01T00:00:00:00", "--"]
        {
            assert_eq!(epoch(text), None, "{text}");
        }
    }
}
