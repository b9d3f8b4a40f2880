//! Dates, time stamps and intervals from and to each other and numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, new_null_array};
use arrow::compute::{try_unary, unary};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use chrono_tz::Tz;

use super::calendar::{self, DAY, SECOND};
use super::{CastMode, arrow_cast, cannot_cast, numeric};
use crate::error::{Error, Result};

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Whether [`convert`] has a conversion between the types.
pub(super) fn can_convert(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Date32 | T::Timestamp(..), T::Date32 | T::Timestamp(..)) => true,
        (T::Timestamp(_, Some(_)), _) => to.is_numeric() || to == &T::Boolean,
        (_, T::Timestamp(_, Some(_))) => from.is_numeric() || from == &T::Boolean,
        (T::Date32, _) => to.is_numeric() || to == &T::Boolean,
        (T::Interval(_) | T::Duration(_), T::Interval(IntervalUnit::MonthDayNano)) => true,
        (T::Interval(IntervalUnit::MonthDayNano), T::Duration(_) | T::Interval(IntervalUnit::YearMonth)) => true,
        (T::Interval(IntervalUnit::YearMonth) | T::Duration(_), _) => to.is_integer(),
        (_, T::Interval(IntervalUnit::YearMonth) | T::Duration(_)) => from.is_integer(),
        _ => false,
    }
}

/// Converts where at least one side is a date, a time stamp or an interval.
pub(super) fn convert(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    use DataType as T;
    let from = array.data_type();
    if !can_convert(from, to) {
        return Err(cannot_cast(from, to));
    }
    match (from, to) {
        (T::Date32, T::Timestamp(_, zone)) => {
            let tz = if zone.is_some() { tz } else { Tz::UTC };
            let micros = unary(array.as_primitive::<Date32Type>(), |d| calendar::from_local(i64::from(d) * DAY, tz));
            Ok(stamped(micros, zone.as_ref()))
        }
        (T::Timestamp(_, zone), T::Date32) => {
            let tz = if zone.is_some() { tz } else { Tz::UTC };
            let values = array.as_primitive::<TimestampMicrosecondType>();
            let days = unary(values, |t| calendar::to_local(t, tz).div_euclid(DAY) as i32);
            Ok(Arc::new(days as PrimitiveArray<Date32Type>))
        }
        (T::Timestamp(_, Some(_)), T::Timestamp(_, None)) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            Ok(stamped(unary(values, |t| calendar::to_local(t, tz)), None))
        }
        (T::Timestamp(_, None), T::Timestamp(_, zone)) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            Ok(stamped(unary(values, |t| calendar::from_local(t, tz)), zone.as_ref()))
        }
        (T::Date32, _) if mode == CastMode::Ansi => Err(cannot_cast(from, to)),
        (T::Date32, _) => Ok(new_null_array(to, array.len())),
        (T::Timestamp(..), _) => timestamp_to_number(array, to, mode, tz),
        (_, T::Timestamp(_, zone)) => number_to_timestamp(array, zone.as_ref(), mode),
        _ => interval(array, to, mode, tz),
    }
}

fn stamped(micros: PrimitiveArray<TimestampMicrosecondType>, zone: Option<&Arc<str>>) -> ArrayRef {
    Arc::new(micros.with_timezone_opt(zone.cloned()))
}

fn timestamp_to_number(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let micros = array.as_primitive::<TimestampMicrosecondType>();
    match to {
        DataType::Float32 | DataType::Float64 => {
            let seconds: PrimitiveArray<Float64Type> = unary(micros, |t| t as f64 / SECOND as f64);
            arrow_cast(&(Arc::new(seconds) as ArrayRef), to)
        }
        DataType::Decimal128(..) => {
            let exact: PrimitiveArray<Decimal128Type> = unary(micros, i128::from);
            let exact: ArrayRef = Arc::new(exact.with_precision_and_scale(38, 6)?);
            numeric::convert(&exact, to, mode, tz)
        }
        _ => {
            let seconds: PrimitiveArray<Int64Type> = unary(micros, |t| t.div_euclid(SECOND));
            numeric::convert(&(Arc::new(seconds) as ArrayRef), to, mode, tz)
        }
    }
}

/// Numbers are seconds since the epoch.
fn number_to_timestamp(array: &ArrayRef, zone: Option<&Arc<str>>, mode: CastMode) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let seconds = arrow_cast(array, &DataType::Float64)?;
            // Doubles have no greatest BIGINT; the next one is too large.
            let fits = |micros: f64| mode == CastMode::Lenient || (-TWO_TO_63..TWO_TO_63).contains(&micros);
            let micros: PrimitiveArray<TimestampMicrosecondType> =
                seconds.as_primitive::<Float64Type>().unary_opt(|s| {
                    let micros = s * SECOND as f64;
                    (s.is_finite() && fits(micros)).then_some(micros as i64)
                });
            if mode == CastMode::Ansi && micros.null_count() > array.null_count() {
                return Err(super::invalid_input("that is not finite or too large", array.data_type(), &MICROS));
            }
            Ok(stamped(micros, zone))
        }
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let micros: PrimitiveArray<TimestampMicrosecondType> =
                unary(array.as_primitive::<Decimal128Type>(), |v| (v.saturating_mul(SECOND.into()) / unit) as i64);
            Ok(stamped(micros, zone))
        }
        _ => {
            let seconds = arrow_cast(array, &DataType::Int64)?;
            let micros: PrimitiveArray<TimestampMicrosecondType> =
                unary(seconds.as_primitive::<Int64Type>(), |s| s.saturating_mul(SECOND));
            Ok(stamped(micros, zone))
        }
    }
}

fn interval(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    use DataType as T;
    match (array.data_type(), to) {
        (T::Interval(IntervalUnit::YearMonth), T::Interval(_)) => {
            let months = array.as_primitive::<IntervalYearMonthType>();
            let calendar: PrimitiveArray<IntervalMonthDayNanoType> =
                unary(months, |m| IntervalMonthDayNano::new(m, 0, 0));
            Ok(Arc::new(calendar))
        }
        (T::Duration(_), T::Interval(_)) => {
            let micros = array.as_primitive::<DurationMicrosecondType>();
            let calendar: PrimitiveArray<IntervalMonthDayNanoType> =
                unary(micros, |t| IntervalMonthDayNano::new(0, (t / DAY) as i32, t % DAY * 1000));
            Ok(Arc::new(calendar))
        }
        (T::Interval(IntervalUnit::MonthDayNano), T::Duration(_)) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            let micros: PrimitiveArray<DurationMicrosecondType> = try_unary(values, |v| match v.months {
                0 => Ok(i64::from(v.days) * DAY + v.nanoseconds / 1000),
                _ => Err(ArrowError::CastError("an interval of months has no length in days".to_owned())),
            })?;
            Ok(Arc::new(micros))
        }
        (T::Interval(IntervalUnit::MonthDayNano), T::Interval(_)) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            let months: PrimitiveArray<IntervalYearMonthType> = unary(values, |v| v.months);
            Ok(Arc::new(months))
        }
        // Numbers count the end unit of the type; we do not keep it and take years and days.
        (T::Interval(_), _) => {
            let years: PrimitiveArray<Int64Type> =
                unary(array.as_primitive::<IntervalYearMonthType>(), |m| i64::from(m) / 12);
            numeric::convert(&(Arc::new(years) as ArrayRef), to, mode, tz)
        }
        (T::Duration(_), _) => {
            let days: PrimitiveArray<Int64Type> = unary(array.as_primitive::<DurationMicrosecondType>(), |t| t / DAY);
            numeric::convert(&(Arc::new(days) as ArrayRef), to, mode, tz)
        }
        (_, T::Interval(_)) => {
            let years = arrow_cast(array, &T::Int64)?;
            let months: PrimitiveArray<IntervalYearMonthType> =
                unary(years.as_primitive::<Int64Type>(), |y| (y.saturating_mul(12)) as i32);
            Ok(Arc::new(months))
        }
        (_, T::Duration(_)) => {
            let days = arrow_cast(array, &T::Int64)?;
            let micros: PrimitiveArray<DurationMicrosecondType> =
                unary(days.as_primitive::<Int64Type>(), |d| d.saturating_mul(DAY));
            Ok(Arc::new(micros))
        }
        (from, to) => Err(Error::internal(format!("no conversion from {from} to {to}"))),
    }
}
