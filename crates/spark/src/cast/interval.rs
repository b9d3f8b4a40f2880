//! Casts of ANSI intervals by the units they count: numbers and text are of the smallest unit, what is smaller is cut off.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, DurationMicrosecondType, Int64Type, IntervalUnit, IntervalYearMonthType};
use chrono_tz::Tz;

use super::calendar::{DAY, HOUR, MINUTE, SECOND};
use super::format::intervals_to_text;
use super::{CastMode, arrow_cast, numeric, overflow, parse};
use crate::error::{Error, Result};
use crate::types::IntervalUnits;

/// The cast, where the units of what is cast (`from`) or of the type (`units`) matter; `None` where they do not.
pub(super) fn by_units(
    array: &ArrayRef,
    from: Option<IntervalUnits>,
    to: &DataType,
    units: Option<IntervalUnits>,
    mode: CastMode,
    tz: Tz,
) -> Option<Result<ArrayRef>> {
    match (from, units) {
        (Some(from), None) if to == &DataType::Utf8 => Some(Ok(Arc::new(intervals_to_text(array, from)))),
        (Some(from), None) if to.is_integer() => {
            let counts = counts_of(array).map(|counts| whole(&counts, from.smallest(array.data_type())));
            Some(counts.and_then(|counts| numeric::convert(&counts, to, mode, tz)))
        }
        (Some(_), Some(units)) if same_kind(array.data_type(), to) => Some(cut(array, to, units)),
        (None, Some(units)) if array.data_type().is_integer() => Some(of_numbers(array, to, units, mode)),
        (None, Some(units)) if array.data_type() == &DataType::Utf8 => Some(of_text(array, to, units, mode)),
        _ => None,
    }
}

fn same_kind(a: &DataType, b: &DataType) -> bool {
    matches!(
        (a, b),
        (DataType::Duration(_), DataType::Duration(_))
            | (DataType::Interval(IntervalUnit::YearMonth), DataType::Interval(IntervalUnit::YearMonth))
    )
}

/// Intervals as numbers of months, or of microseconds.
fn counts_of(array: &ArrayRef) -> Result<Int64Array> {
    Ok(match array.data_type() {
        DataType::Interval(_) => {
            array.as_primitive::<IntervalYearMonthType>().iter().map(|months| months.map(i64::from)).collect()
        }
        _ => arrow_cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
    })
}

fn whole(counts: &Int64Array, unit: i64) -> ArrayRef {
    Arc::new(counts.unary::<_, Int64Type>(|count| count / unit))
}

/// The intervals whose months or microseconds these are; `None` where one is too long.
fn intervals(counts: impl Iterator<Item = Option<i64>>, to: &DataType) -> Option<ArrayRef> {
    Some(match to {
        DataType::Interval(_) => {
            let months = counts.map(|count| count.map(i32::try_from).transpose()).collect::<Result<_, _>>();
            let months: PrimitiveArray<IntervalYearMonthType> = months.ok()?;
            Arc::new(months)
        }
        _ => Arc::new(counts.collect::<PrimitiveArray<DurationMicrosecondType>>()),
    })
}

fn cut(array: &ArrayRef, to: &DataType, units: IntervalUnits) -> Result<ArrayRef> {
    let unit = units.smallest(to);
    // Of seconds there are fractions.
    let unit = if matches!(to, DataType::Duration(_)) && units.last == 3 { 1 } else { unit };
    let counts = counts_of(array)?;
    let cut = counts.iter().map(|count| count.map(|count| count - count % unit));
    intervals(cut, to).ok_or_else(|| overflow("of an interval", array.data_type(), to))
}

fn of_numbers(array: &ArrayRef, to: &DataType, units: IntervalUnits, mode: CastMode) -> Result<ArrayRef> {
    let numbers = arrow_cast(array, &DataType::Int64)?;
    let most = if matches!(to, DataType::Interval(_)) { i64::from(i32::MAX) } else { i64::MAX };
    let unit = units.smallest(to);
    let counts = numbers.as_primitive::<Int64Type>().iter().map(|number| match number {
        None => Ok(None),
        Some(number) => match number.checked_mul(unit).filter(|count| (-most - 1..=most).contains(count)) {
            None if mode != CastMode::Try => Err(overflow(&number.to_string(), array.data_type(), to)),
            count => Ok(count),
        },
    });
    let counts = counts.collect::<Result<Vec<_>>>()?;
    intervals(counts.into_iter(), to).ok_or_else(|| overflow("of a number", array.data_type(), to))
}

fn of_text(array: &ArrayRef, to: &DataType, units: IntervalUnits, mode: CastMode) -> Result<ArrayRef> {
    let is_months = matches!(to, DataType::Interval(_));
    let counts = array.as_string::<i32>().iter().map(|text| match text {
        None => Ok(None),
        Some(text) => match read(text, to, units).filter(|count| !is_months || i32::try_from(*count).is_ok()) {
            // Whatever the mode is, but for TRY_CAST.
            None if mode != CastMode::Try => Err(malformed(text, to, units)),
            count => Ok(count),
        },
    });
    let counts = counts.collect::<Result<Vec<_>>>()?;
    intervals(counts.into_iter(), to).ok_or_else(|| overflow("of a text", array.data_type(), to))
}

fn malformed(text: &str, to: &DataType, units: IntervalUnits) -> Error {
    let notice = if matches!(to, DataType::Interval(_)) { "" } else { "_WITH_NOTICE" };
    Error::data(format!("`{text}` is no INTERVAL {}", units.name(to).to_ascii_uppercase()))
        .with_condition(format!("INVALID_INTERVAL_FORMAT.UNMATCHED_FORMAT_STRING{notice}"))
        .with_help("Use `try_cast` to get NULL instead.")
}

/// The months or microseconds of `3`, `1-2`, `1 02:03:04.5`, which must have just these units; also within
/// `INTERVAL '…' UNITS`.
fn read(text: &str, to: &DataType, units: IntervalUnits) -> Option<i64> {
    let text = parse::trim(text);
    let (outer, body) = match text.get(..8).filter(|word| word.eq_ignore_ascii_case("interval")) {
        None => (1, text),
        Some(_) => {
            let (sign, rest) = signed(text.get(8..)?.trim_start());
            let (body, named) = rest.strip_prefix('\'')?.split_once('\'')?;
            let named = named.split_whitespace().collect::<Vec<_>>().join(" ");
            (sign, named.eq_ignore_ascii_case(&units.name(to)).then_some(body)?)
        }
    };
    let (sign, digits) = signed(body);
    let count = match to {
        DataType::Interval(_) => months(digits, units),
        _ => microseconds(digits, units),
    }?;
    Some(sign * outer * count)
}

fn signed(text: &str) -> (i64, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn months(text: &str, units: IntervalUnits) -> Option<i64> {
    if units.first == units.last {
        return number(text)?.checked_mul(if units.first == 0 { 12 } else { 1 });
    }
    let (years, months) = text.split_once('-')?;
    number(years)?.checked_mul(12)?.checked_add(number(months).filter(|months| *months < 12)?)
}

fn microseconds(text: &str, units: IntervalUnits) -> Option<i64> {
    let (mut rest, mut sum) = (text, 0_i64);
    for (unit, size, limit) in [(0, DAY, i64::MAX), (1, HOUR, 24), (2, MINUTE, 60), (3, SECOND, 60)] {
        if !(units.first..=units.last).contains(&unit) {
            continue;
        }
        let part = match unit == units.last {
            true => std::mem::take(&mut rest),
            false => {
                let (part, after) = rest.split_once(if unit == 0 { ' ' } else { ':' })?;
                rest = after;
                part
            }
        };
        let (digits, fraction) = match unit {
            3 => part.split_once('.').unwrap_or((part, "0")),
            _ => (part, "0"),
        };
        let value = number(digits).filter(|value| unit == units.first || *value < limit)?;
        sum = sum.checked_add(value.checked_mul(size)?)?.checked_add(micros(fraction)?)?;
    }
    Some(sum)
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The microseconds of up to nine digits behind the point.
fn micros(digits: &str) -> Option<i64> {
    let number = number(digits).filter(|_| digits.len() <= 9)?;
    Some(number * 10_i64.pow(9 - digits.len() as u32) / 1000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_data_type;

    fn read_as(text: &str, name: &str) -> Option<i64> {
        read(text, &parse_data_type(name).unwrap(), IntervalUnits::of_name(name).unwrap())
    }

    #[test]
    fn text_must_have_the_units_of_the_type() {
        for (text, name, expected) in [
            ("3", "interval day", Some(3 * DAY)),
            ("-4", "interval minute", Some(-4 * MINUTE)),
            ("3.5", "interval second", Some(3_500_000)),
            ("3:04", "interval hour to minute", Some(3 * HOUR + 4 * MINUTE)),
            ("1 02:03:04.123456", "interval day to second", Some(DAY + 2 * HOUR + 3 * MINUTE + 4_123_456)),
            ("INTERVAL '3' DAY", "interval day", Some(3 * DAY)),
            ("interval -'-1-2' year to month", "interval year to month", Some(14)),
            ("15", "interval month", Some(15)),
            ("3", "interval day to second", None),
            ("1", "interval year to month", None),
            ("1-12", "interval year to month", None),
            ("1 25", "interval day to hour", None),
            ("3 days", "interval day", None),
            ("INTERVAL '3' HOUR", "interval day", None),
            ("", "interval day", None),
        ] {
            assert_eq!(read_as(text, name), expected, "{text} {name}");
        }
    }

    #[test]
    fn numbers_count_the_smallest_unit() {
        let minutes = IntervalUnits::of_name("interval hour to minute").unwrap();
        let to = parse_data_type("interval hour to minute").unwrap();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(90), None]));
        let spans = by_units(&numbers, None, &to, Some(minutes), CastMode::Ansi, Tz::UTC).unwrap().unwrap();
        let back = by_units(&spans, Some(minutes), &DataType::Int64, None, CastMode::Ansi, Tz::UTC).unwrap().unwrap();
        assert_eq!(counts_of(&spans).unwrap(), Int64Array::from(vec![Some(90 * MINUTE), None]));
        assert_eq!(back.as_primitive::<Int64Type>(), numbers.as_primitive::<Int64Type>());
        let hours = IntervalUnits::of_name("interval hour").unwrap();
        let cut = by_units(&spans, Some(minutes), &to, Some(hours), CastMode::Ansi, Tz::UTC).unwrap().unwrap();
        assert_eq!(counts_of(&cut).unwrap(), Int64Array::from(vec![Some(HOUR), None]));
    }
}
