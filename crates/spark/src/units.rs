//! Sizes and times as Spark's settings write them: `4g`, `512m`, `5min`, `300s`.

use std::time::Duration;

/// A size in bytes; a number alone is of mebibytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit.as_str() {
        "b" => 0,
        "k" | "kb" => 10,
        "" | "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// A time; a number alone is of milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit.as_str() {
        "us" => return Some(Duration::from_micros(number)),
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

/// The number and the unit, in lower case.
fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("2g", 2 << 30), ("4096", 4 << 30), ("512MB", 512 << 20), (" 8192 b ", 8192), ("64k", 65_536), ("0", 0)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["lots", "", "-1", "1.5g", "3x", "99999999999t"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_of_milliseconds_without_a_unit() {
        for (text, milliseconds) in
            [("5m", 300_000), ("300s", 300_000), ("1min", 60_000), ("250", 250), ("2h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse_duration("500us"), Some(Duration::from_micros(500)));
        for text in ["soon", "", "-5s", "3 weeks"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
