//! Lengths of time as options and windows name them.

use crate::error::{Error, Result};

fn invalid(text: &str) -> Error {
    Error::user(format!("`{text}` is not an interval")).with_condition("CANNOT_PARSE_INTERVAL")
}

/// The microseconds of an interval such as `10 minutes` or `1 hour 30 seconds`; a month counts 31 days.
///
/// # Errors
/// `CANNOT_PARSE_INTERVAL` (`User`) if it is none, or is negative.
pub fn delay_us(text: &str) -> Result<i64> {
    match interval_us(text)? {
        negative if negative < 0 => Err(invalid(text)),
        length => Ok(length),
    }
}

/// As [`delay_us`]; `-15 minutes` is allowed too.
pub(crate) fn interval_us(text: &str) -> Result<i64> {
    let invalid = || invalid(text);
    let mut words = text.split_whitespace().peekable();
    words.next_if(|word| word.eq_ignore_ascii_case("interval"));
    let mut total = 0_i64;
    let mut any = false;
    while let Some(number) = words.next() {
        let number: f64 = number.trim_matches('\'').parse().map_err(|_| invalid())?;
        let unit = words.next().ok_or_else(invalid)?.trim_matches('\'').to_ascii_lowercase();
        let unit_us: i64 = match unit.strip_suffix('s').unwrap_or(&unit) {
            "microsecond" => 1,
            "millisecond" | "m" if unit != "m" => 1_000,
            "second" => 1_000_000,
            "minute" => 60_000_000,
            "hour" => 3_600_000_000,
            "day" => 86_400_000_000,
            "week" => 7 * 86_400_000_000,
            "month" => 31 * 86_400_000_000,
            "year" => 12 * 31 * 86_400_000_000,
            _ => return Err(invalid()),
        };
        total = total.saturating_add((number * unit_us as f64).round() as i64);
        any = true;
    }
    if any { Ok(total) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{delay_us, interval_us};

    #[test]
    fn delays_are_read() {
        assert_eq!(delay_us("10 minutes").unwrap(), 600_000_000);
        assert_eq!(delay_us("interval 1 hour 30 seconds").unwrap(), 3_630_000_000);
        assert_eq!(delay_us("0 seconds").unwrap(), 0);
        assert_eq!(interval_us("-15 minutes").unwrap(), -900_000_000);
        assert!(delay_us("-15 minutes").is_err());
        assert!(delay_us("soon").is_err());
        assert!(delay_us("").is_err());
    }
}
