//! Text to values, one value at a time, in the forms Spark accepts.

use chrono_tz::Tz;

use super::calendar::{self, DAY, HOUR, MINUTE, SECOND};

/// Without the whitespace and control characters at both ends.
pub(crate) fn trim(text: &str) -> &str {
    let ignorable = |b: u8| b <= b' ' || b == 0x7f;
    let bytes = text.as_bytes();
    let start = bytes.iter().position(|b| !ignorable(*b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !ignorable(*b)).map_or(start, |at| at + 1);
    text.get(start..end).unwrap_or("")
}

/// An integer. With `fraction`, digits after a point are checked and ignored (`1.9` is 1).
pub(crate) fn integer(text: &str, fraction: bool) -> Option<i64> {
    let bytes = trim(text).as_bytes();
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for (i, b) in digits.iter().enumerate() {
        match b {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_sub(i64::from(b - b'0'))?,
            b'.' if fraction => {
                if digits[i + 1..].iter().all(u8::is_ascii_digit) {
                    break;
                }
                return None;
            }
            _ => return None,
        }
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// A floating-point number, with Java's suffixes and Spark's words for the special values.
pub(crate) fn double(text: &str) -> Option<f64> {
    let text = trim(text);
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let body = text.strip_suffix(['d', 'D', 'f', 'F'])?;
    if body.ends_with(|c: char| c.is_ascii_digit() || c == '.') { body.parse().ok() } else { None }
}

/// A decimal of the given scale, rounded half up.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let bytes = trim(text).as_bytes();
    let (negative, rest) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    let (mantissa, exponent) = match rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&rest[..at], std::str::from_utf8(&rest[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.');
    let whole = &mantissa[..point.unwrap_or(mantissa.len())];
    let part = point.map_or(&[][..], |at| &mantissa[at + 1..]);
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    // How many digits of the text, counted from the left, are kept; the next one decides the rounding.
    let keep = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let mut value = 0_i128;
    let mut round_up = false;
    let mut seen = 0_i64;
    for b in whole.iter().chain(part) {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        if seen < keep {
            value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
        } else if seen == keep {
            round_up = digit >= 5;
        }
        seen += 1;
    }
    if value != 0 {
        for _ in seen..keep {
            value = value.checked_mul(10)?;
        }
    }
    let value = if round_up { value + 1 } else { value };
    let value = if negative { -value } else { value };
    fits(value, precision).then_some(value)
}

/// Whether a value has at most `precision` digits.
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    10_i128.checked_pow(u32::from(precision)).is_none_or(|limit| value.unsigned_abs() < limit.unsigned_abs())
}

/// A truth value.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|word| trim(text).eq_ignore_ascii_case(word));
    if is(["t", "true", "y", "yes", "1"]) {
        Some(true)
    } else if is(["f", "false", "n", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// A number of `min` to `max` digits.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let length = self.0.iter().take(max + 1).take_while(|b| b.is_ascii_digit()).count();
        if length < min || length > max {
            return None;
        }
        let value = self.0[..length].iter().fold(0, |value, b| value * 10 + i64::from(b - b'0'));
        self.0 = &self.0[length..];
        Some(value)
    }

    fn take(&mut self, wanted: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// `[+-]yyyy[-m[m][-d[d]]]` as a day number.
    fn date(&mut self) -> Option<i64> {
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let year = self.number(4, 7)?;
        let year = if negative { -year } else { year };
        if !self.take(b'-') {
            return calendar::date(year, 1, 1);
        }
        let month = self.number(1, 2)?;
        let day = if self.take(b'-') { self.number(1, 2)? } else { 1 };
        calendar::date(year, month as u32, day as u32)
    }

    /// `h[h]:m[m][:s[s][.ffffff…]]` in microseconds.
    /// One or two digits and nothing after them.
    fn full_hour(&mut self) -> Option<i64> {
        if self.0.len() > 2 {
            return None;
        }
        self.number(1, 2).filter(|hour| *hour < 24 && self.0.is_empty()).map(|hour| hour * HOUR)
    }

    fn time(&mut self) -> Option<i64> {
        let hour = self.number(1, 2)?;
        if !self.take(b':') {
            return None;
        }
        let minute = self.number(1, 2)?;
        let (mut second, mut micros) = (0, 0);
        if self.take(b':') {
            second = self.number(1, 2)?;
            if self.take(b'.') {
                let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
                for place in 0..6 {
                    let digit = self.0.get(place).filter(|_| place < digits);
                    micros = micros * 10 + digit.map_or(0, |b| i64::from(b - b'0'));
                }
                self.0 = &self.0[digits..];
            }
        }
        let valid = hour < 24 && minute < 60 && second < 60;
        valid.then_some(hour * HOUR + minute * MINUTE + second * SECOND + micros)
    }
}

/// A date as a day number: `2024`, `2024-1`, `2024-01-02`, and that with anything after a blank or `T`.
pub(crate) fn date(text: &str) -> Option<i32> {
    let mut scanner = Scanner(trim(text).as_bytes());
    let dashes = scanner.0.iter().take(12).filter(|b| **b == b'-').count();
    let days = scanner.date()?;
    match scanner.0.first() {
        None => {}
        Some(b' ' | b'T') if dashes >= 2 => {}
        Some(_) => return None,
    }
    i32::try_from(days).ok()
}

/// A time of day in nanoseconds: `h[h]:m[m][:s[s][.ffffff…]]`.
pub(crate) fn time(text: &str) -> Option<i64> {
    let mut scanner = Scanner(trim(text).as_bytes());
    scanner.take(b'T');
    let micros = scanner.time()?;
    scanner.0.is_empty().then_some(micros * 1000)
}

/// A local date and time in microseconds, and the zone if the text names one.
pub(crate) fn local_timestamp(text: &str) -> Option<(i64, Option<Zone>)> {
    let mut scanner = Scanner(trim(text).as_bytes());
    let days = scanner.date()?;
    let midnight = days.checked_mul(DAY)?;
    if scanner.0.is_empty() {
        return Some((midnight, None));
    }
    if !scanner.take(b' ') && !scanner.take(b'T') {
        return None;
    }
    let time = match scanner.full_hour() {
        Some(time) => time,
        None => scanner.time()?,
    };
    let rest = trim(std::str::from_utf8(scanner.0).ok()?);
    let zone = if rest.is_empty() { None } else { Some(zone(rest)?) };
    Some((midnight.checked_add(time)?, zone))
}

/// A time without a date, which is of today: `T12`, `12:30`, `12:30:15.5Z`.
fn time_of_day(text: &str) -> Option<(i64, Option<Zone>)> {
    let mut scanner = Scanner(trim(text).as_bytes());
    let marked = scanner.take(b'T');
    // What begins with a year, or a sign, is a date.
    if !marked && !scanner.0.iter().take(3).any(|b| *b == b':') {
        return None;
    }
    let time = scanner.time()?;
    let rest = trim(std::str::from_utf8(scanner.0).ok()?);
    Some((time, if rest.is_empty() { None } else { Some(zone(rest)?) }))
}

/// A time stamp in microseconds UTC; without a zone of its own it is taken to be in `tz`.
pub(crate) fn timestamp(text: &str, tz: Tz) -> Option<i64> {
    let (local, zone) = match time_of_day(text) {
        Some((time, zone)) => {
            let now = chrono::Utc::now().timestamp_micros();
            let today = zone.unwrap_or(Zone::Region(tz)).to_local(now).div_euclid(DAY);
            (today * DAY + time, zone)
        }
        None => local_timestamp(text)?,
    };
    Some(zone.map_or_else(|| calendar::from_local(local, tz), |zone| zone.to_utc(local)))
}

/// A zone as text can name it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Zone {
    /// A fixed distance from UTC in microseconds.
    Offset(i64),
    /// A region.
    Region(Tz),
}

impl Zone {
    /// The instant at which a clock in this zone shows `local`.
    pub(crate) fn to_utc(self, local: i64) -> i64 {
        match self {
            Self::Offset(offset) => local - offset,
            Self::Region(tz) => calendar::from_local(local, tz),
        }
    }

    /// What a clock in this zone shows at an instant.
    pub(crate) fn to_local(self, micros: i64) -> i64 {
        match self {
            Self::Offset(offset) => micros + offset,
            Self::Region(tz) => calendar::to_local(micros, tz),
        }
    }
}

/// The region of one of Java's three-letter ids.
fn short_id(text: &str) -> Option<&'static str> {
    const IDS: [(&str, &str); 25] = [
        ("ACT", "Australia/Darwin"),
        ("AET", "Australia/Sydney"),
        ("AGT", "America/Argentina/Buenos_Aires"),
        ("ART", "Africa/Cairo"),
        ("AST", "America/Anchorage"),
        ("BET", "America/Sao_Paulo"),
        ("BST", "Asia/Dhaka"),
        ("CAT", "Africa/Harare"),
        ("CNT", "America/St_Johns"),
        ("CST", "America/Chicago"),
        ("CTT", "Asia/Shanghai"),
        ("EAT", "Africa/Addis_Ababa"),
        ("ECT", "Europe/Paris"),
        ("IET", "America/Indiana/Indianapolis"),
        ("IST", "Asia/Kolkata"),
        ("JST", "Asia/Tokyo"),
        ("MIT", "Pacific/Apia"),
        ("NET", "Asia/Yerevan"),
        ("NST", "Pacific/Auckland"),
        ("PLT", "Asia/Karachi"),
        ("PNT", "America/Phoenix"),
        ("PRT", "America/Puerto_Rico"),
        ("PST", "America/Los_Angeles"),
        ("SST", "Pacific/Guadalcanal"),
        ("VST", "Asia/Ho_Chi_Minh"),
    ];
    IDS.iter().find(|(id, _)| *id == text).map(|(_, region)| *region)
}

/// A zone: `Z`, `+1`, `+01:00`, `+0100`, `UTC+1`, `Europe/Berlin`.
pub(crate) fn zone(text: &str) -> Option<Zone> {
    if text.eq_ignore_ascii_case("z") {
        return Some(Zone::Offset(0));
    }
    let rest = ["UTC", "GMT", "UT"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if rest.is_empty() || rest == "0" {
        return Some(Zone::Offset(0));
    }
    let sign = match rest.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return short_id(text).unwrap_or(text).parse().ok().map(Zone::Region),
    };
    let body = &rest.as_bytes()[1..];
    let mut scanner = Scanner(body);
    let (hours, minutes, seconds) = if body.contains(&b':') {
        let hours = scanner.number(1, 2)?;
        scanner.take(b':');
        let minutes = scanner.number(1, 2)?;
        (hours, minutes, if scanner.take(b':') { scanner.number(1, 2)? } else { 0 })
    } else {
        match (body.len(), scanner.number(1, 6)?) {
            (1 | 2, hours) => (hours, 0, 0),
            (4, both) => (both / 100, both % 100, 0),
            (6, all) => (all / 10_000, all / 100 % 100, all % 100),
            _ => return None,
        }
    };
    let valid = scanner.0.is_empty() && hours <= 18 && minutes < 60 && seconds < 60;
    valid.then_some(Zone::Offset(sign * (hours * HOUR + minutes * MINUTE + seconds * SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, fraction, expected) in [
            (" 12 ", true, Some(12)),
            ("+7", true, Some(7)),
            ("1.9", true, Some(1)),
            ("1.9", false, None),
            ("-.5", true, Some(0)),
            ("1e3", true, None),
            ("", true, None),
            ("-", true, None),
            ("-9223372036854775808", false, Some(i64::MIN)),
            ("9223372036854775808", false, None),
        ] {
            assert_eq!(integer(text, fraction), expected, "{text}");
        }
    }

    #[test]
    fn decimals_round_half_up() {
        for (text, expected) in [
            ("1.005", Some(101)),
            ("-1.005", Some(-101)),
            ("1.004999", Some(100)),
            ("12e1", Some(12_000)),
            ("1.5E-2", Some(2)),
            (".5", Some(50)),
            ("0.004", Some(0)),
            ("12345678901", None),
            ("abc", None),
            (".", None),
        ] {
            assert_eq!(decimal(text, 10, 2), expected, "{text}");
        }
    }

    #[test]
    fn dates_and_timestamps() {
        assert_eq!(date("1970-1-2"), Some(1));
        assert_eq!(date("1970-01-02 anything"), Some(1));
        assert_eq!(date("1970"), Some(0));
        assert_eq!(date("02/01/1970"), None);
        assert_eq!(date("1970-02-30"), None);
        let utc = |text| timestamp(text, Tz::UTC);
        assert_eq!(utc("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(utc("1970-01-01 01:00:00+01:00"), Some(0));
        assert_eq!(utc("1970-01-01 01:00 Europe/Berlin"), Some(0));
        assert_eq!(timestamp("1970-01-01 01:00:00", Tz::Europe__Berlin), Some(0));
        assert_eq!(utc("1970-01-01 25:00:00"), None);
        assert_eq!(utc("1970-01-01 00:00:00.1234567"), Some(123_456));
    }
}
