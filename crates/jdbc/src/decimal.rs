//! Numbers with a fixed scale, out of what databases send: text, and PostgreSQL's digits in base 10,000.

use deltaworks_spark::types::sql_type_name;
use deltaworks_spark::{Error, Result};

use arrow::datatypes::DataType;

/// The largest precision there is, and the scale of numbers that declare none: Spark's defaults.
pub(crate) const MAX_PRECISION: u8 = 38;
const DEFAULT_SCALE: i8 = 18;

/// The type of numbers that declare no precision.
pub(crate) const UNBOUNDED: DataType = DataType::Decimal128(MAX_PRECISION, DEFAULT_SCALE);

/// The type of numbers that a database declares, cut off at what there is.
pub(crate) fn bounded(precision: i64, scale: i64) -> DataType {
    // PostgreSQL's negative scales are digits in front of the point that are all zero.
    let precision = precision + (-scale).max(0);
    let scale = scale.clamp(0, i64::from(MAX_PRECISION));
    let precision = precision.max(scale).clamp(1, i64::from(MAX_PRECISION));
    DataType::Decimal128(precision as u8, scale as i8)
}

/// `text` times ten to the power of `scale`, rounded half up; `None` if it is no number or too large.
pub(crate) fn parse(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let text = text.trim();
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
    // Digits that count, from the first one on.
    let wanted = (whole.len() as i64) + i64::from(exponent) + i64::from(scale);
    let mut value: i128 = 0;
    let mut round_up = false;
    for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        match (at as i64).cmp(&wanted) {
            std::cmp::Ordering::Less => value = value.checked_mul(10)?.checked_add(i128::from(digit))?,
            std::cmp::Ordering::Equal => round_up = digit >= 5,
            std::cmp::Ordering::Greater => {}
        }
    }
    let given = (whole.len() + fraction.len()) as i64;
    if wanted > given && value != 0 {
        value = value.checked_mul(10_i128.checked_pow(u32::try_from(wanted - given).ok()?)?)?;
    }
    within(value + i128::from(round_up), precision).map(|value| if negative { -value } else { value })
}

/// PostgreSQL's binary form of `numeric`.
pub(crate) fn from_postgres(bytes: &[u8], precision: u8, scale: i8) -> Option<i128> {
    const NEGATIVE: u16 = 0x4000;
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(2 * at..2 * at + 2)?.try_into().ok()?));
    let (count, weight, sign) = (usize::from(word(0)?), i32::from(word(1)? as i16), word(2)?);
    if sign != 0 && sign != NEGATIVE {
        // NaN and the infinities.
        return None;
    }
    let mut value: i128 = 0;
    let mut round_up = false;
    let mut missing = 0_u32;
    for i in 0..count {
        let group = i128::from(word(4 + i)?);
        // The power of ten that this group's last digit stands for, in units of the scale.
        let power = 4 * (weight - i as i32) + i32::from(scale);
        if power >= 0 {
            value = value.checked_mul(10_000)?.checked_add(group)?;
            missing = power as u32;
            continue;
        }
        missing = 0;
        if power > -4 {
            let cut = 10_i128.pow(power.unsigned_abs());
            value = value.checked_mul(10_000 / cut)?.checked_add(group / cut)?;
            round_up = (group % cut) * 2 >= cut;
        } else {
            round_up = power == -4 && group >= 5_000;
        }
        break;
    }
    if value != 0 {
        value = value.checked_mul(10_i128.checked_pow(missing)?)?;
    }
    within(value + i128::from(round_up), precision).map(|value| if sign == NEGATIVE { -value } else { value })
}

fn within(value: i128, precision: u8) -> Option<i128> {
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(value)
}

/// A number that does not fit into its column, or is none.
pub(crate) fn does_not_fit(column: &str, value: &str, data_type: &DataType) -> Error {
    Error::data(format!("column `{column}` has the value {value}, which is no {}", sql_type_name(data_type)))
        .with_condition("NUMERIC_VALUE_OUT_OF_RANGE.WITHOUT_SUGGESTION")
        .with_help("Cast the column in option `query`, for example to text.")
}

/// The text of a number with a scale.
pub(crate) fn text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let scale = usize::try_from(scale).unwrap_or(0);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A number that must be one.
pub(crate) fn parse_for(column: &str, text: &str, data_type: &DataType) -> Result<i128> {
    let DataType::Decimal128(precision, scale) = data_type else {
        return Err(Error::internal(format!("column `{column}` is no decimal")));
    };
    parse(text, *precision, *scale).ok_or_else(|| does_not_fit(column, text, data_type))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// PostgreSQL's form of the digits of `text`, which has a point.
    fn postgres(text: &str) -> Vec<u8> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
        let fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
        let groups: Vec<u16> = format!("{whole}{fraction}")
            .as_bytes()
            .chunks(4)
            .map(|group| std::str::from_utf8(group).unwrap().parse().unwrap())
            .collect();
        let weight = (whole.len() / 4) as i16 - 1;
        let head = [groups.len() as u16, weight as u16, if negative { 0x4000 } else { 0 }, 0];
        head.iter().chain(&groups).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_are_rounded_half_up_and_refused_if_too_large() {
        let check = |text: &str, expected: Option<i128>| {
            assert_eq!(parse(text, 5, 2), expected, "{text}");
            assert_eq!(from_postgres(&postgres(text), 5, 2), expected, "{text} in binary");
        };
        check("1.005", Some(101));
        check("-1.005", Some(-101));
        check("1.0049999999999999999999999999999999999999999999999", Some(100));
        check("999.99", Some(99_999));
        check("999.995", None);
        check("123456", None);
        check("0", Some(0));
        check("12", Some(1200));
        check("0.00000000000005", Some(0));
        assert_eq!(parse("1.5e2", 5, 2), Some(15_000));
        assert_eq!(parse("15e-1", 5, 2), Some(150));
        assert_eq!(parse("abc", 5, 2), None);
        assert_eq!(parse("1e400", 5, 2), None);
        assert_eq!(from_postgres(&[0, 0, 0, 0, 0xC0, 0, 0, 0], 5, 2), None);
        assert_eq!(parse("9".repeat(38).as_str(), 38, 0), Some(10_i128.pow(38) - 1));
    }

    #[test]
    fn declared_types_are_cut_off() {
        assert_eq!(bounded(10, 2), DataType::Decimal128(10, 2));
        assert_eq!(bounded(65, 30), DataType::Decimal128(38, 30));
        assert_eq!(bounded(3, 5), DataType::Decimal128(5, 5));
        assert_eq!(bounded(3, -2), DataType::Decimal128(5, 0));
    }

    proptest! {
        #[test]
        fn text_and_binary_agree(value in -(10_i128.pow(30))..10_i128.pow(30), from in 0_i8..18, to in 0_i8..18) {
            let written = text(value, from);
            let parsed = parse(&written, 38, to);
            prop_assert_eq!(from_postgres(&postgres(&written), 38, to), parsed);
            if from == to {
                prop_assert_eq!(parsed, Some(value));
            }
        }
    }
}
