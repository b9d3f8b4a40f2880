//! Date and time patterns as in Java's `DateTimeFormatter`, for reading: `dd/MM/yyyy HH:mm[:ss][XXX]`.

use chrono_tz::Tz;
use deltaworks_spark::Result;

use super::temporal::{DAY_US, days, digits, fraction, in_zone, offset_seconds, to_instant};
use crate::errors::invalid_option;

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Item>);

#[derive(Clone, Debug)]
enum Item {
    Literal(String),
    Field(char, usize),
    Optional(Vec<Item>),
}

/// What a text says.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    pub(super) days: i64,
    time_us: i64,
    zone: Option<String>,
}

impl Moment {
    pub(super) fn local(&self) -> i64 {
        self.days * DAY_US + self.time_us
    }

    pub(super) fn instant(&self, default: Tz) -> Option<i64> {
        match &self.zone {
            Some(zone) => in_zone(self.local(), zone),
            None => to_instant(self.local(), default),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    hour12: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    zone: Option<String>,
}

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
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Pattern {
    /// Parses the value of an option.
    pub(super) fn parse(option: &str, text: &str) -> Result<Self> {
        let mut chars = text.chars().peekable();
        let items = items(&mut chars, false)
            .ok_or_else(|| invalid_option(option, text, "a pattern such as `yyyy-MM-dd HH:mm:ss`"))?;
        Ok(Self(items))
    }

    /// Reads a whole text.
    pub(super) fn read(&self, text: &str) -> Option<Moment> {
        let mut parts = Parts::default();
        let rest = read_items(&self.0, text, &mut parts)?;
        if rest.is_empty() { parts.moment() } else { None }
    }
}

fn items(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, nested: bool) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '\'' => items.push(Item::Literal(quoted(chars)?)),
            '[' => items.push(Item::Optional(self::items(chars, true)?)),
            ']' if nested => return Some(items),
            ']' => return None,
            'a'..='z' | 'A'..='Z' => {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if !"yuMLdDHhKkmsSaEzZXxVO".contains(c) {
                    return None;
                }
                items.push(Item::Field(c, count));
            }
            other => items.push(Item::Literal(other.to_string())),
        }
    }
    (!nested).then_some(items)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
            '\'' => break,
            other => text.push(other),
        }
    }
    Some(if text.is_empty() { "'".to_owned() } else { text })
}

fn read_items<'a>(items: &[Item], mut text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    for (index, item) in items.iter().enumerate() {
        text = match item {
            Item::Literal(literal) => text.strip_prefix(literal.as_str())?,
            Item::Optional(inner) => {
                let mut attempt = parts.clone();
                match read_items(inner, text, &mut attempt) {
                    Some(rest) => {
                        *parts = attempt;
                        rest
                    }
                    None => text,
                }
            }
            Item::Field(letter, count) => {
                let adjacent = matches!(items.get(index + 1), Some(Item::Field(next, _)) if next.is_ascii_alphabetic());
                read_field(*letter, *count, adjacent, text, parts)?
            }
        };
    }
    Some(text)
}

fn read_field<'a>(letter: char, count: usize, adjacent: bool, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    let number = |least: usize, most: usize| -> Option<(i64, &'a str)> {
        let (value, rest) = digits(text.as_bytes(), least, most)?;
        Some((value, &text[text.len() - rest.len()..]))
    };
    let exact = |most: usize| if count == 1 { number(1, most) } else { number(count, count) };
    let (slot, (value, rest)) = match letter {
        'y' | 'u' if count == 2 => {
            let (value, rest) = number(2, 2)?;
            (&mut parts.year, (2000 + value, rest))
        }
        'y' | 'u' => (&mut parts.year, number(count.min(4), if adjacent { count } else { 6 })?),
        'M' | 'L' if count >= 3 => (&mut parts.month, named(&MONTHS, count == 3, text)?),
        'M' | 'L' => (&mut parts.month, exact(2)?),
        'd' => (&mut parts.day, exact(2)?),
        'D' => (&mut parts.day_of_year, number(count, 3)?),
        'h' | 'K' => (&mut parts.hour12, exact(2)?),
        'E' => return Some(named(&DAYS, count <= 3, text)?.1),
        'a' => {
            let marker = text.get(..2)?;
            parts.afternoon = Some(match marker.to_ascii_lowercase().as_str() {
                "am" => false,
                "pm" => true,
                _ => return None,
            });
            return Some(&text[2..]);
        }
        'S' => {
            let (_, after) = number(1, 9)?;
            parts.micros = fraction(&text.as_bytes()[..text.len() - after.len()]).0;
            return Some(after);
        }
        'H' | 'k' | 'm' | 's' => {
            let (value, rest) = exact(2)?;
            match letter {
                'm' => parts.minute = value,
                's' => parts.second = value,
                'k' => parts.hour = value % 24,
                _ => parts.hour = value,
            }
            return Some(rest);
        }
        _ => return read_zone(letter, text, parts),
    };
    *slot = Some(value);
    Some(rest)
}

fn read_zone<'a>(letter: char, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    let allowed = |c: char| match letter {
        'X' | 'x' | 'Z' => c.is_ascii_digit() || "+-:Z".contains(c),
        _ => c.is_alphanumeric() || "+-:/_".contains(c),
    };
    let length = text.find(|c: char| !allowed(c)).unwrap_or(text.len());
    let zone = &text[..length];
    if offset_seconds(zone).is_none() && zone.parse::<Tz>().is_err() {
        return None;
    }
    parts.zone = Some(zone.to_owned());
    Some(&text[length..])
}

/// The number, from 1, of the name the text starts with.
fn named<'a>(names: &[&str], short: bool, text: &'a str) -> Option<(i64, &'a str)> {
    names.iter().zip(1..).find_map(|(name, number)| {
        let name = if short { &name[..3] } else { name };
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (number, &text[name.len()..]))
    })
}

impl Parts {
    fn moment(self) -> Option<Moment> {
        let hour = match (self.hour12, self.afternoon) {
            (Some(hour), afternoon) => hour % 12 + if afternoon == Some(true) { 12 } else { 0 },
            (None, _) => self.hour,
        };
        if hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let year = self.year.unwrap_or(1970);
        let days = match self.day_of_year {
            Some(day) => days(year, 1, 1)? + day - 1,
            None => days(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let time_us = ((hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micros;
        Some(Moment { days, time_us, zone: self.zone })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_texts() {
        let check = |pattern: &str, text: &str, expected: Option<&str>| {
            let read = Pattern::parse("timestampFormat", pattern).unwrap().read(text);
            let shown = read.and_then(|moment| moment.instant(Tz::UTC)).map(|us| {
                chrono::DateTime::from_timestamp_micros(us)
                    .unwrap()
                    .to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
            });
            assert_eq!(shown.as_deref(), expected, "{pattern} {text}");
        };
        check("dd/MM/yyyy", "31/12/2023", Some("2023-12-31T00:00:00Z"));
        check("dd/MM/yyyy", "31/13/2023", None);
        check("M/d/yy h:mm a", "1/2/24 3:04 PM", Some("2024-01-02T15:04:00Z"));
        check("yyyyMMddHHmmss", "20240102030405", Some("2024-01-02T03:04:05Z"));
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-01-02T03:04:05.120+01:00", Some("2024-01-02T02:04:05.120Z"));
        check("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2024-01-02T03:04:05", Some("2024-01-02T03:04:05Z"));
        check("EEE, d MMM yyyy", "Tue, 2 Jan 2024", Some("2024-01-02T00:00:00Z"));
        assert!(Pattern::parse("dateFormat", "yyyy-bb").is_err());
    }
}
