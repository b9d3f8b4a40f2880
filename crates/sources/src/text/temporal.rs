//! Dates and times in Spark's default formats.

use chrono::{NaiveDate, TimeZone};
use chrono_tz::Tz;

/// Microseconds of a day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// `2024`, `2024-1`, `2024-01-31`, also followed by `T` or a blank and anything.
pub(super) fn date(text: &str) -> Option<i32> {
    let (days, rest) = leading_date(text.as_bytes())?;
    matches!(rest.first(), None | Some(b'T' | b' ')).then(|| i32::try_from(days).ok())?
}

/// A local time: a date, then optionally `T` or a blank and `10:00[:00[.123456]]`. No zone.
pub(super) fn local_timestamp(text: &str) -> Option<i64> {
    let (local, zone) = split(text)?;
    zone.is_empty().then_some(local)
}

/// An instant; without a zone of its own the text is in `zone`.
pub(super) fn timestamp(text: &str, zone: Tz) -> Option<i64> {
    let (local, suffix) = split(text)?;
    if suffix.is_empty() { to_instant(local, zone) } else { Some(in_zone(local, suffix)?) }
}

/// A local time as an instant; in a gap the time after it, in an overlap the earlier of the two.
pub(super) fn to_instant(local: i64, zone: Tz) -> Option<i64> {
    if zone == Tz::UTC {
        return Some(local);
    }
    let naive = chrono::DateTime::from_timestamp_micros(local)?.naive_utc();
    let found = zone.from_local_datetime(&naive).earliest();
    let hour = chrono::TimeDelta::hours(1);
    let found = found.or_else(|| Some(zone.from_local_datetime(&(naive - hour)).earliest()? + hour))?;
    Some(found.timestamp_micros())
}

/// A local time with a zone as text: `Z`, `+01:00`, `+0100`, `UTC`, `Europe/Berlin`.
pub(super) fn in_zone(local: i64, zone: &str) -> Option<i64> {
    let zone = zone.trim();
    match offset_seconds(zone) {
        Some(seconds) => Some(local - i64::from(seconds) * 1_000_000),
        None => to_instant(local, zone.parse().ok()?),
    }
}

/// The distance from UTC in seconds.
pub(super) fn offset_seconds(zone: &str) -> Option<i32> {
    if matches!(zone, "Z" | "z" | "UTC" | "GMT" | "UT") {
        return Some(0);
    }
    let body = ["UTC", "GMT", "UT"].iter().find_map(|prefix| zone.strip_prefix(prefix)).unwrap_or(zone);
    let (sign, body) = match body.as_bytes().first()? {
        b'+' => (1, &body[1..]),
        b'-' => (-1, &body[1..]),
        _ => return None,
    };
    let digits: String = body.chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |text| text.parse::<i32>().ok());
    let (hours, minutes, seconds) = match digits.len() {
        1 => (part(0, 1)?, 0, 0),
        2 => (part(0, 2)?, 0, 0),
        4 => (part(0, 2)?, part(2, 4)?, 0),
        6 => (part(0, 2)?, part(2, 4)?, part(4, 6)?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Local microseconds, and what follows the time.
fn split(text: &str) -> Option<(i64, &str)> {
    let (days, rest) = leading_date(text.as_bytes())?;
    let midnight = days.checked_mul(DAY_US)?;
    let Some((b'T' | b' ', time)) = rest.split_first() else {
        return rest.is_empty().then_some((midnight, ""));
    };
    let (hour, rest) = digits(time, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    let (second, rest) = match rest.strip_prefix(b":") {
        Some(rest) => digits(rest, 1, 2)?,
        None => (0, rest),
    };
    let (micros, rest) = match rest.strip_prefix(b".") {
        Some(rest) => fraction(rest),
        None => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let suffix = std::str::from_utf8(rest).ok()?.trim();
    Some((midnight + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, suffix))
}

fn leading_date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = digits(text, 4, 6)?;
    let Some(rest) = rest.strip_prefix(b"-") else { return Some((days(year, 1, 1)?, rest)) };
    let (month, rest) = digits(rest, 1, 2)?;
    let Some(rest) = rest.strip_prefix(b"-") else { return Some((days(year, month, 1)?, rest)) };
    let (day, rest) = digits(rest, 1, 2)?;
    Some((days(year, month, day)?, rest))
}

/// Days since the epoch of a calendar date.
pub(super) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let date =
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    Some(i64::from(date.to_epoch_days()))
}

/// A number of `least` to `most` digits at the start.
pub(super) fn digits(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let length = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    if length < least {
        return None;
    }
    let value = text[..length].iter().fold(0, |value, byte| value * 10 + i64::from(byte - b'0'));
    Some((value, &text[length..]))
}

/// Digits after a point as microseconds; more than six are cut.
pub(super) fn fraction(text: &[u8]) -> (i64, &[u8]) {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let micros =
        (0..6).fold(0, |value, index| value * 10 + text[..length].get(index).map_or(0, |byte| i64::from(byte - b'0')));
    (micros, &text[length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_formats() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("1970-01-02T99"), Some(1));
        assert_eq!(date("1970-02-30"), None);
        assert_eq!(timestamp("1970-01-01T00:00:01.5Z", Tz::UTC), Some(1_500_000));
        assert_eq!(timestamp("1970-01-01 01:00:00+01:00", Tz::UTC), Some(0));
        assert_eq!(timestamp("1970-01-01 01:00:00", Tz::Europe__Berlin), Some(0));
        assert_eq!(timestamp("1970-01-01 01:00 Europe/Berlin", Tz::UTC), Some(0));
        assert_eq!(timestamp("yesterday", Tz::UTC), None);
    }
}
