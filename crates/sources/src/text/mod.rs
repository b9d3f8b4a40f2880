//! Text in files to values: what CSV and JSON have in common.
//!
//! This is parsing as Spark's file readers do it, which is not `CAST`: no trimming, formats from options.

mod column;
mod pattern;
mod temporal;

use arrow::datatypes::DataType;
use chrono_tz::Tz;

pub(crate) use column::{TextColumn, supports};
use pattern::Pattern;

use crate::options::Options;
use deltaworks_spark::{Error, Result, types};

/// How scalar values are written.
#[derive(Clone, Debug)]
pub(crate) struct TextParser {
    zone: Tz,
    date: Option<Pattern>,
    timestamp: Option<Pattern>,
    timestamp_ntz: Option<Pattern>,
    nan: String,
    positive_infinity: String,
    negative_infinity: String,
    prefers_date: bool,
}

impl TextParser {
    /// A parser with Spark's default formats.
    #[cfg(test)]
    pub(crate) fn new(zone: Tz) -> Self {
        Self {
            zone,
            date: None,
            timestamp: None,
            timestamp_ntz: None,
            nan: "NaN".to_owned(),
            positive_infinity: "Inf".to_owned(),
            negative_infinity: "-Inf".to_owned(),
            prefers_date: true,
        }
    }

    /// A parser with the formats of the options.
    pub(crate) fn from_options(options: &Options<'_>, session_zone: Tz) -> Result<Self> {
        options.refuse(&["localeDateFormat"])?;
        if let Some(locale) = options.get("locale")
            && !locale.get(..2).is_some_and(|language| language.eq_ignore_ascii_case("en"))
        {
            return Err(Error::unsupported(format!("option `locale` with value `{locale}`"))
                .with_help("Read the columns as STRING, and convert them: CAST(replace(x, ',', '.') AS DOUBLE)."));
        }
        let pattern = |key: &str| options.get(key).map(|text| Pattern::parse(key, text)).transpose();
        let zone = match options.any(&["timeZone", "timestampZone"]) {
            Some(name) => name
                .parse()
                .map_err(|_| crate::errors::invalid_option("timeZone", name, "a region such as `Europe/Berlin`"))?,
            None => session_zone,
        };
        let text = |key: &str, default: &str| options.get(key).unwrap_or(default).to_owned();
        Ok(Self {
            zone,
            date: pattern("dateFormat")?,
            timestamp: pattern("timestampFormat")?,
            timestamp_ntz: pattern("timestampNTZFormat")?,
            nan: text("nanValue", "NaN"),
            positive_infinity: text("positiveInf", "Inf"),
            negative_infinity: text("negativeInf", "-Inf"),
            prefers_date: options.flag("preferDate", true)?,
        })
    }

    /// Days since the epoch.
    pub(crate) fn date(&self, text: &str) -> Option<i32> {
        match &self.date {
            Some(pattern) => i32::try_from(pattern.read(text)?.days).ok(),
            None => temporal::date(text),
        }
    }

    /// Microseconds since the epoch, UTC.
    pub(crate) fn timestamp(&self, text: &str) -> Option<i64> {
        match &self.timestamp {
            Some(pattern) => pattern.read(text)?.instant(self.zone),
            None => temporal::timestamp(text, self.zone),
        }
    }

    /// Microseconds of a local date and time.
    pub(crate) fn timestamp_ntz(&self, text: &str) -> Option<i64> {
        match &self.timestamp_ntz {
            Some(pattern) => Some(pattern.read(text)?.local()),
            None => temporal::local_timestamp(text),
        }
    }

    /// A floating-point number; as for Java there may be blanks around it.
    pub(crate) fn double(&self, text: &str) -> Option<f64> {
        let text = text.trim_matches(|c| c <= ' ');
        match text.as_bytes().first()? {
            b'0'..=b'9' | b'.' => text.parse().ok(),
            _ if text == self.nan => Some(f64::NAN),
            _ if text == self.positive_infinity => Some(f64::INFINITY),
            _ if text == self.negative_infinity => Some(f64::NEG_INFINITY),
            b'-' | b'+' => match text {
                "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
                "+Infinity" | "+INF" => Some(f64::INFINITY),
                _ => {
                    text.get(1..2)?.starts_with(|c: char| c.is_ascii_digit() || c == '.').then(|| text.parse().ok())?
                }
            },
            _ => match text {
                "NaN" => Some(f64::NAN),
                "Infinity" | "INF" => Some(f64::INFINITY),
                _ => None,
            },
        }
    }

    /// The narrowest type of a value as CSV inference and partition folders see it.
    pub(crate) fn infer(&self, text: &str, temporal: bool) -> DataType {
        if text.is_empty() {
            return DataType::Null;
        }
        if let Some(number) = integer(text) {
            return if i32::try_from(number).is_ok() { DataType::Int32 } else { DataType::Int64 };
        }
        if self.double(text).is_some() {
            return DataType::Float64;
        }
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            return DataType::Boolean;
        }
        if temporal && text.len() >= 8 {
            if self.prefers_date && self.is_date(text) {
                return DataType::Date32;
            }
            if self.timestamp(text).is_some() {
                return types::timestamp();
            }
        }
        DataType::Utf8
    }

    fn is_date(&self, text: &str) -> bool {
        match &self.date {
            Some(pattern) => pattern.read(text).is_some(),
            None => text.len() == 10 && temporal::date(text).is_some(),
        }
    }
}

/// A decimal integer with an optional sign, nothing else.
pub(crate) fn integer(text: &str) -> Option<i64> {
    match text.as_bytes().first()? {
        b'-' | b'+' | b'0'..=b'9' => text.parse().ok(),
        _ => None,
    }
}

/// A decimal number scaled by `10^scale`, rounded half up; `None` if it does not fit `precision`.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let shift = i32::from(scale) + exponent - i32::try_from(fraction.len()).ok()?;
    let value = match u32::try_from(shift) {
        Ok(up) => value.checked_mul(10_i128.checked_pow(up)?)?,
        Err(_) => match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => (value + divisor / 2) / divisor,
            None => 0,
        },
    };
    (value < 10_i128.checked_pow(u32::from(precision))?).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_up_and_check_precision() {
        assert_eq!(decimal("1.005", 10, 2), Some(101));
        assert_eq!(decimal("-12.3", 10, 2), Some(-1230));
        assert_eq!(decimal("1.2e3", 10, 0), Some(1200));
        assert_eq!(decimal("1000", 3, 0), None);
        assert_eq!(decimal("x", 3, 0), None);
    }

    #[test]
    fn inference_takes_the_narrowest_type() {
        let parser = TextParser::new(Tz::UTC);
        let seen: Vec<_> =
            ["1", "3000000000", "1.5", " 7 ", "true", "2024-01-31", "2024-01-31T10:00:00Z", "x", "", "-", " "]
                .iter()
                .map(|text| parser.infer(text, true))
                .collect();
        use DataType::*;
        assert_eq!(seen, [Int32, Int64, Float64, Float64, Boolean, Date32, types::timestamp(), Utf8, Null, Utf8, Utf8]);
    }
}
