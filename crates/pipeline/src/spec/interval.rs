//! `pipelines.trigger.interval`: how often the flows of a continuous pipeline look for something new.

use std::time::Duration;

use deltaworks_spark::{Error, Result};

/// The setting, in the configuration, the settings of a flow and the properties of a table.
pub const TRIGGER_INTERVAL: &str = "pipelines.trigger.interval";

/// Singular, plural, abbreviations, and how many milliseconds it has.
const UNITS: [(&[&str], u64); 5] = [
    (&["millisecond", "milliseconds", "ms"], 1),
    (&["second", "seconds", "sec", "s"], 1_000),
    (&["minute", "minutes", "min", "m"], 60_000),
    (&["hour", "hours", "h"], 3_600_000),
    (&["day", "days", "d"], 86_400_000),
];

/// Reads an interval: `10 seconds`, `1 minute`, `5s`.
///
/// # Errors
/// `INVALID_CONF_VALUE.TRIGGER_INTERVAL` (`User`) if it is none, or takes no time.
pub fn parse_interval(text: &str) -> Result<Duration> {
    let invalid = || {
        Error::user(format!("`{TRIGGER_INTERVAL}` must be a time like `10 seconds` or `1 minute`, but is `{text}`"))
            .with_condition("INVALID_CONF_VALUE.TRIGGER_INTERVAL")
            .with_help("Write a whole number above 0 and a unit: second, minute, hour or day, in singular or plural.")
    };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str())).map(|(_, factor)| *factor);
    let millis = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    millis.filter(|millis| *millis > 0).map(Duration::from_millis).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn intervals_have_a_number_and_a_unit() {
        let seconds = |text: &str| parse_interval(text).unwrap().as_secs_f64();
        assert_eq!(seconds("10 seconds"), 10.0);
        assert_eq!(seconds("1 second"), 1.0);
        assert_eq!(seconds(" 5s "), 5.0);
        assert_eq!(seconds("1 Minute"), 60.0);
        assert_eq!(seconds("2   hours"), 7200.0);
        assert_eq!(seconds("1 day"), 86_400.0);
        assert_eq!(seconds("250 ms"), 0.25);
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in ["", "10", "seconds", "0 seconds", "-1 second", "1.5 minutes", "1 fortnight", "1 hour 5 minutes"] {
            let error = parse_interval(text).unwrap_err();
            assert_eq!(error.condition(), Some("INVALID_CONF_VALUE.TRIGGER_INTERVAL"), "{text}");
            assert!(error.message().ends_with(&format!("but is `{text}`")), "{text}");
        }
        assert!(parse_interval("99999999999999999999 days").is_err());
        assert!(parse_interval("9999999999999999999 days").is_err());
    }
}
