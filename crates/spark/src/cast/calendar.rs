//! Days, fields and time zones: the proleptic Gregorian calendar in plain integers.

use chrono::{NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{OffsetName, Tz};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Days since 1970-01-01 of a date; the date must exist.
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month, day of a day number.
pub(crate) fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// How many days a month has.
pub(crate) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Day number of a date, if it exists.
pub(crate) fn date(year: i64, month: u32, day: u32) -> Option<i64> {
    let exists = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    exists.then(|| days_from_civil(year, month, day))
}

/// A day number moved by whole months, its day cut to the length of the month.
pub(crate) fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(days_in_month(year, month)))
}

/// Day of the week from 0 (Monday) to 6.
pub(crate) fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// Day of the year from 1.
pub(crate) fn day_of_year(days: i64) -> i64 {
    days - days_from_civil(civil_from_days(days).0, 1, 1) + 1
}

/// ISO week-based year and week.
pub(crate) fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - weekday(days) + 3;
    (civil_from_days(thursday).0, (day_of_year(thursday) - 1) / 7 + 1)
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc())
}

/// By how much to move a time into the years whose clock changes the database knows; those of the years after them
/// follow the last rule. A year has the changes of another that begins on the same day of the week and is as long.
fn beyond_known(micros: i64) -> i64 {
    const LAST_KNOWN: i64 = 2099;
    // From 2100-01-01 on.
    if micros < 4_102_444_800 * SECOND {
        return 0;
    }
    let (year, ..) = civil_from_days(micros.div_euclid(DAY));
    let kind = |year: i64| (weekday(days_from_civil(year, 1, 1)), days_in_month(year, 2));
    let alike = (LAST_KNOWN - 28..LAST_KNOWN).find(|known| kind(*known) == kind(year)).unwrap_or(LAST_KNOWN);
    (days_from_civil(alike, 1, 1) - days_from_civil(year, 1, 1)) * DAY
}

/// What the zone is called at an instant: `PST`, `CEST`.
pub(crate) fn abbreviation(micros: i64, tz: Tz) -> String {
    let name = |micros: i64| {
        let at = naive(micros.saturating_add(beyond_known(micros)))?;
        tz.offset_from_utc_datetime(&at).abbreviation().map(str::to_owned)
    };
    // Java calls the time of the sun, which was before there were zones, as the zone is called now.
    let name = match name(micros) {
        Some(local) if local == "LMT" => name(0),
        name => name,
    };
    name.unwrap_or_else(|| tz.name().to_owned())
}

/// What a clock in `tz` shows at an instant, in microseconds as if it were UTC.
pub(crate) fn to_local(micros: i64, tz: Tz) -> i64 {
    if tz == Tz::UTC {
        return micros;
    }
    match naive(micros.saturating_add(beyond_known(micros))) {
        Some(utc) => micros + i64::from(tz.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * SECOND,
        None => micros,
    }
}

/// The instant at which a clock in `tz` shows `local`: the earlier of two, and past a gap by its length, as Java does.
pub(crate) fn from_local(local: i64, tz: Tz) -> i64 {
    if tz == Tz::UTC {
        return local;
    }
    let moved = beyond_known(local);
    let Some(time) = naive(local.saturating_add(moved)) else { return local };
    if let Some(found) = tz.from_local_datetime(&time).earliest() {
        return found.timestamp_micros() - moved;
    }
    let before = time - TimeDelta::days(1);
    match tz.from_local_datetime(&before).earliest() {
        Some(found) => local - i64::from(found.offset().fix().local_minus_utc()) * SECOND,
        None => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for days in (-1_000_000..1_000_000).step_by(37) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(weekday(0), 3);
        assert_eq!(iso_week(days_from_civil(2021, 1, 3)), (2020, 53));
    }

    #[test]
    fn clock_changes_are_as_in_java() {
        let berlin = Tz::Europe__Berlin;
        let at = |d, h: i64, m: i64| days_from_civil(2024, 3, d) * DAY + h * HOUR + m * MINUTE;
        assert_eq!(from_local(at(31, 2, 30), berlin), at(31, 1, 30));
        assert_eq!(to_local(at(31, 1, 30), berlin), at(31, 3, 30));
        let far = |month| days_from_civil(9999, month, 1) * DAY;
        assert_eq!(far(10) - from_local(far(10), berlin), 2 * HOUR);
        assert_eq!(far(12) - from_local(far(12), berlin), HOUR);
        assert_eq!(to_local(far(7), berlin), far(7) + 2 * HOUR);
        assert_eq!(
            (abbreviation(far(7), berlin), abbreviation(-3_000_000_000 * SECOND, berlin)),
            ("CEST".to_owned(), "CET".to_owned())
        );
    }
}
