//! Java's date-time patterns (`yyyy-MM-dd HH:mm:ss`), compiled once and used for every row.

use std::fmt::Write;

use chrono_tz::Tz;

use crate::cast::calendar::{self, DAY, HOUR, MINUTE, SECOND};
use crate::cast::parse::{Zone, zone};
use crate::error::{Error, Result};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// A letter and how often it stands.
    Field(char, usize),
    Text(String),
    Optional(Vec<Part>),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `INVALID_DATETIME_PATTERN` (`User`) for letters Spark does not know.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let invalid = |what: String| {
            Error::user(format!("the date-time pattern `{pattern}` is invalid: {what}"))
                .with_condition("INVALID_DATETIME_PATTERN")
        };
        let mut stack = vec![Vec::new()];
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let part = match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => Part::Text("'".to_owned()),
                '\'' => {
                    let mut text = String::new();
                    loop {
                        match chars.next() {
                            None => return Err(invalid("a quotation does not end".to_owned())),
                            Some('\'') if chars.next_if_eq(&'\'').is_some() => text.push('\''),
                            Some('\'') => break,
                            Some(other) => text.push(other),
                        }
                    }
                    Part::Text(text)
                }
                '[' => {
                    stack.push(Vec::new());
                    continue;
                }
                ']' => match (stack.pop(), stack.is_empty()) {
                    (Some(parts), false) => Part::Optional(parts),
                    _ => return Err(invalid("`]` without `[`".to_owned())),
                },
                c if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    if !"GyuMLdDEFaHhKkmsSVzOXxZQq".contains(c) {
                        return Err(invalid(format!("`{c}` has no meaning")));
                    }
                    Part::Field(c, count)
                }
                other => Part::Text(other.to_string()),
            };
            if let Some(parts) = stack.last_mut() {
                parts.push(part);
            }
        }
        match (stack.pop(), stack.is_empty()) {
            (Some(parts), true) => Ok(Self(parts)),
            _ => Err(invalid("`[` without `]`".to_owned())),
        }
    }

    /// A local time in microseconds, and the zone if the text has one.
    pub(crate) fn parse(&self, text: &str) -> Option<(i64, Option<Zone>)> {
        let mut found = Found::default();
        let rest = found.parts(&self.0, text)?;
        if rest.is_empty() { found.finish() } else { None }
    }

    /// Writes a local time; `offset` is the zone's distance from UTC in microseconds.
    pub(crate) fn format(&self, local: i64, offset: i64, zone: ZoneNames, out: &mut String) {
        write_parts(&self.0, local, offset, zone, out);
    }
}

/// What a zone is called at an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZoneNames {
    pub(crate) tz: Tz,
    /// Microseconds since the epoch.
    pub(crate) micros: i64,
}

impl ZoneNames {
    /// `PST`, `CEST`.
    fn short(self) -> String {
        calendar::abbreviation(self.micros, self.tz)
    }
}

#[derive(Default, Clone)]
struct Found {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    zone: Option<Zone>,
}

impl Found {
    fn parts<'a>(&mut self, parts: &[Part], mut text: &'a str) -> Option<&'a str> {
        for (i, part) in parts.iter().enumerate() {
            text = match part {
                Part::Text(expected) => text.strip_prefix(expected.as_str())?,
                Part::Optional(inner) => {
                    let mut attempt = self.clone();
                    match attempt.parts(inner, text) {
                        Some(rest) => {
                            *self = attempt;
                            rest
                        }
                        None => text,
                    }
                }
                Part::Field(letter, count) => {
                    let number =
                        |part: Option<&Part>| matches!(part, Some(Part::Field(next, n)) if is_number(*next, *n));
                    let before = i.checked_sub(1).and_then(|before| parts.get(before));
                    let fixed = number(parts.get(i + 1)) || (*letter == 'S' && number(before));
                    self.field(*letter, *count, fixed, text)?
                }
            };
        }
        Some(text)
    }

    /// Takes a field off the text; if `fixed`, a number of exactly `count` digits, as others stand beside it.
    fn field<'a>(&mut self, letter: char, count: usize, fixed: bool, text: &'a str) -> Option<&'a str> {
        match letter {
            'M' | 'L' if count >= 3 => {
                let (i, rest) = name(text, &MONTHS, count)?;
                self.month = Some(i as u32 + 1);
                return Some(rest);
            }
            'E' => return name(text, &DAYS, count).map(|(_, rest)| rest),
            'G' => return text.strip_prefix("AD"),
            'a' => {
                let afternoon = text.get(..2)?.eq_ignore_ascii_case("pm");
                if !afternoon && !text.get(..2)?.eq_ignore_ascii_case("am") {
                    return None;
                }
                self.afternoon = Some(afternoon);
                return text.get(2..);
            }
            'V' | 'z' | 'O' | 'X' | 'x' | 'Z' => {
                let end =
                    text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-:/_".contains(c))).unwrap_or(text.len());
                self.zone = Some(zone(&text[..end])?);
                return text.get(end..);
            }
            _ => {}
        }
        let widest = match letter {
            _ if fixed => count,
            'y' | 'u' if count == 2 => 2,
            'y' | 'u' => 10,
            'S' => count,
            _ if count == 1 => 19,
            _ => count,
        };
        let digits = text.bytes().take(widest).take_while(u8::is_ascii_digit).count();
        // Of a fraction zeros at the end may be missing.
        if digits < if letter == 'S' && !fixed { 1 } else { count } {
            return None;
        }
        let value: i64 = text[..digits].parse().ok()?;
        match letter {
            'y' | 'u' => self.year = Some(if count == 2 { 2000 + value } else { value }),
            'M' | 'L' => self.month = Some(value.try_into().ok()?),
            'd' => self.day = Some(value.try_into().ok()?),
            'D' => self.day_of_year = Some(value),
            'H' => self.hour = Some(value).filter(|v| *v < 24),
            'k' => self.hour = Some(value % 24),
            'h' => self.half_hour = Some(value % 12),
            'K' => self.half_hour = Some(value),
            'm' => self.minute = Some(value).filter(|v| *v < 60)?,
            's' => self.second = Some(value).filter(|v| *v < 60)?,
            'S' => self.micros = format!("{:0<6}", &text[..digits]).get(..6)?.parse().ok()?,
            _ => {}
        }
        if letter == 'H' && self.hour.is_none() {
            return None;
        }
        text.get(digits..)
    }

    fn finish(self) -> Option<(i64, Option<Zone>)> {
        let year = self.year.unwrap_or(1970);
        let days = match self.day_of_year {
            Some(day) => calendar::date(year, 1, 1)? + day - 1,
            None => calendar::date(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(half)) => half + if self.afternoon == Some(true) { 12 } else { 0 },
            (None, None) => 0,
        };
        let time = hour * HOUR + self.minute * MINUTE + self.second * SECOND + self.micros;
        Some((days.checked_mul(DAY)?.checked_add(time)?, self.zone))
    }
}

fn is_number(letter: char, count: usize) -> bool {
    "yudDHhKkmsS".contains(letter) || (matches!(letter, 'M' | 'L') && count < 3)
}

/// The name `text` begins with: whole for four letters and more, three letters otherwise.
fn name<'a>(text: &'a str, names: &[&str], count: usize) -> Option<(usize, &'a str)> {
    names.iter().enumerate().find_map(|(i, name)| {
        let name = if count >= 4 { *name } else { &name[..3] };
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (i, &text[name.len()..]))
    })
}

fn write_parts(parts: &[Part], local: i64, offset: i64, zone: ZoneNames, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Optional(inner) => write_parts(inner, local, offset, zone, out),
            Part::Field(letter, count) => write_field(*letter, *count, local, offset, zone, out),
        }
    }
}

fn write_field(letter: char, count: usize, local: i64, offset: i64, zone: ZoneNames, out: &mut String) {
    let (days, time) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    let (year, month, day) = calendar::civil_from_days(days);
    let hour = time / HOUR;
    let number = match letter {
        'y' | 'u' if count == 2 => year % 100,
        'y' | 'u' => year,
        'M' | 'L' if count >= 3 => {
            let name = MONTHS[month as usize - 1];
            out.push_str(if count >= 4 { name } else { &name[..3] });
            return;
        }
        'M' | 'L' => i64::from(month),
        'd' => i64::from(day),
        'D' => calendar::day_of_year(days),
        'E' => {
            let name = DAYS[calendar::weekday(days) as usize];
            out.push_str(if count >= 4 { name } else { &name[..3] });
            return;
        }
        'F' => i64::from((day - 1) % 7 + 1),
        'Q' | 'q' => i64::from((month - 1) / 3 + 1),
        'a' => return out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'G' => return out.push_str("AD"),
        'H' => hour,
        'k' => (hour + 23) % 24 + 1,
        'h' => (hour + 11) % 12 + 1,
        'K' => hour % 12,
        'm' => time / MINUTE % 60,
        's' => time / SECOND % 60,
        'S' => {
            let digits = format!("{:06}000", time % SECOND);
            return out.push_str(digits.get(..count).unwrap_or(&digits));
        }
        'z' if count < 4 => return out.push_str(&zone.short()),
        'V' | 'z' => return out.push_str(zone.tz.name()),
        _ => return write_offset(letter, count, offset, out),
    };
    // Writing into a string cannot fail.
    let _ = write!(out, "{number:0count$}");
}

fn write_offset(letter: char, count: usize, offset: i64, out: &mut String) {
    if offset == 0 && letter == 'X' {
        return out.push('Z');
    }
    let minutes = offset.abs() / MINUTE;
    let sign = if offset < 0 { '-' } else { '+' };
    let colon = if count == 3 || (letter == 'Z' && count > 4) || letter == 'O' { ":" } else { "" };
    if letter == 'O' {
        out.push_str("GMT");
        if offset == 0 {
            return;
        }
    }
    let _ = match (letter, count) {
        ('O', 1) if minutes % 60 == 0 => write!(out, "{sign}{}", minutes / 60),
        ('O', 1) => write!(out, "{sign}{}:{:02}", minutes / 60, minutes % 60),
        ('X' | 'x', 1) if minutes % 60 == 0 => write!(out, "{sign}{:02}", minutes / 60),
        _ => write!(out, "{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reparse(pattern: &str, text: &str) -> Option<String> {
        let (local, _) = Pattern::new(pattern).unwrap().parse(text)?;
        let mut out = String::new();
        let utc = ZoneNames { tz: Tz::UTC, micros: local };
        Pattern::new("yyyy-MM-dd HH:mm:ss.SSS").unwrap().format(local, 0, utc, &mut out);
        Some(out)
    }

    #[test]
    fn the_patterns_of_real_pipelines() {
        for (pattern, text, expected) in [
            ("yyyy-MM-dd", "2024-02-29", Some("2024-02-29 00:00:00.000")),
            ("yyyy-MM-dd", "2024-2-29", None),
            ("dd-MM-yyyy", "01-12-2024", Some("2024-12-01 00:00:00.000")),
            ("yyyyMMdd", "20240102", Some("2024-01-02 00:00:00.000")),
            ("MM-dd-yyyy HH:mm:ss", "01-02-2024 03:04:05", Some("2024-01-02 03:04:05.000")),
            ("M/d/yyyy H:mm", "1/2/2024 3:04", Some("2024-01-02 03:04:00.000")),
            ("dd MMM yyyy hh:mm a", "01 Jan 2024 12:30 PM", Some("2024-01-01 12:30:00.000")),
            ("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-01-01T00:00:00.123Z", Some("2024-01-01 00:00:00.123")),
            ("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-01-01T00:00:00", Some("2024-01-01 00:00:00.000")),
            ("dd/MM/yy", "05/06/24", Some("2024-06-05 00:00:00.000")),
            ("yyyy-MM-dd HH", "2024-01-01 25", None),
        ] {
            assert_eq!(reparse(pattern, text).as_deref(), expected, "{pattern} {text}");
        }
        assert!(Pattern::new("YYYY").is_err());
    }
}
