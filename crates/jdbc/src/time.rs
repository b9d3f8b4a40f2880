//! Days and moments: as text in every database's form, and between local and absolute time.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The day that is this many days after 1970-01-01.
pub(crate) fn day(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(719_163)?)
}

/// The days between 1970-01-01 and this one.
pub(crate) fn days(day: NaiveDate) -> i32 {
    day.num_days_from_ce() - 719_163
}

/// Microseconds since 1970 on a clock without a zone.
pub(crate) fn micros(moment: NaiveDateTime) -> i64 {
    moment.and_utc().timestamp_micros()
}

/// What a clock without a zone shows.
pub(crate) fn clock(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|moment| moment.naive_utc())
}

/// The moment at which clocks in `zone` show `local`: the first of two, and if there is none, as if the clock had not been
/// put forward yet. So does Java.
pub(crate) fn instant(local: i64, zone: Tz) -> Option<i64> {
    if zone == Tz::UTC {
        return Some(local);
    }
    let shown = clock(local)?;
    if let Some(moment) = zone.from_local_datetime(&shown).earliest() {
        return Some(moment.timestamp_micros());
    }
    let before = zone.from_local_datetime(&(shown - TimeDelta::hours(3))).earliest()?;
    Some(before.timestamp_micros() + 3 * 3600 * MICROS_PER_SECOND)
}

/// What clocks in `zone` show at a moment.
pub(crate) fn local(instant: i64, zone: Tz) -> Option<i64> {
    let moment = DateTime::from_timestamp_micros(instant)?;
    Some(micros(moment.with_timezone(&zone).naive_local()))
}

/// `2024-01-31`, or `0044-03-15 BC`.
pub(crate) fn day_text(day: NaiveDate) -> String {
    match day.year() {
        year @ 1.. => format!("{year:04}-{:02}-{:02}", day.month(), day.day()),
        year => format!("{:04}-{:02}-{:02} BC", 1 - year, day.month(), day.day()),
    }
}

/// `2024-01-31 12:30:00.000001`, with `suffix` for a zone.
pub(crate) fn moment_text(moment: NaiveDateTime, suffix: &str) -> String {
    let day = day_text(moment.date());
    let (day, era) = day.split_once(' ').map_or((day.as_str(), ""), |(day, _)| (day, " BC"));
    let time = moment.time();
    let micros = time.nanosecond() / 1000;
    format!("{day} {:02}:{:02}:{:02}.{micros:06}{suffix}{era}", time.hour(), time.minute(), time.second())
}

/// Reads `2024-01-31`, `2024-01-31 12:30`, `2024-01-31T12:30:00.5+01:00`: microseconds, and whether they are absolute.
pub(crate) fn parse_moment(text: &str) -> Option<(i64, bool)> {
    let text = text.trim();
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some((micros(day.and_time(NaiveTime::MIN)), false));
    }
    let text = text.replacen('T', " ", 1);
    let text = text.strip_suffix('Z').map_or_else(|| text.clone(), |moment| format!("{}+00:00", moment.trim_end()));
    if let Ok(moment) = DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f%:z") {
        return Some((moment.timestamp_micros(), true));
    }
    let moment = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok())?;
    Some((micros(moment), false))
}

/// The day of a clock's time.
pub(crate) fn day_of(micros: i64) -> i32 {
    micros.div_euclid(MICROS_PER_DAY) as i32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        parse_moment(text).unwrap().0
    }

    #[test]
    fn clocks_that_are_put_forward_and_back() {
        let zone = Tz::Europe__Berlin;
        assert_eq!(instant(at("2024-01-31 12:00:00"), zone), Some(at("2024-01-31 11:00:00")));
        assert_eq!(instant(at("2024-03-31 02:30:00"), zone), Some(at("2024-03-31 01:30:00")));
        assert_eq!(instant(at("2024-10-27 02:30:00"), zone), Some(at("2024-10-27 00:30:00")));
        assert_eq!(local(at("2024-03-31 01:30:00"), zone), Some(at("2024-03-31 03:30:00")));
    }

    #[test]
    fn texts_of_days_and_moments() {
        let text = |text: &str| moment_text(clock(at(text)).unwrap(), "+00");
        assert_eq!(text("2024-01-31T12:30:00.5"), "2024-01-31 12:30:00.500000+00");
        assert_eq!(day_text(NaiveDate::from_ymd_opt(-43, 3, 15).unwrap()), "0044-03-15 BC");
        assert_eq!(parse_moment("2024-01-31T12:30:00.5+01:00"), Some((at("2024-01-31 11:30:00.5"), true)));
        assert_eq!(parse_moment("2024-01-31 12:30:00Z"), Some((at("2024-01-31 12:30"), true)));
        assert_eq!(parse_moment("yesterday"), None);
        assert_eq!(day_of(-1), -1);
        assert_eq!(day(days(NaiveDate::from_ymd_opt(1, 1, 1).unwrap())).unwrap().year(), 1);
    }
}
