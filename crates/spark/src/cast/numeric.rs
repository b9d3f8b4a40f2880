//! Numbers, truth values and bytes to each other.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray,
    PrimitiveBuilder,
};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use chrono_tz::Tz;

use super::{CastMode, arrow_cast, cannot_cast, format, overflow, parse};
use crate::error::Result;

/// Converts between plain types.
pub(super) fn convert(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let from = array.data_type();
    match (from, to) {
        (_, DataType::Boolean) if from.is_numeric() => to_boolean(array),
        (_, DataType::Binary) if from.is_integer() => Ok(to_bytes(array)),
        (DataType::Binary, _) | (_, DataType::Binary) => Err(cannot_cast(from, to)),
        (DataType::Boolean, DataType::Decimal128(..)) => {
            let ones = arrow_cast(array, &DataType::Int32)?;
            convert(&ones, to, mode, tz)
        }
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(p, s)) => {
            float_to_decimal(array, *p, *s, mode, tz)
        }
        (DataType::Decimal128(_, scale), DataType::Float64) => {
            let double = |value| decimal_to_double(value, *scale);
            Ok(Arc::new(array.as_primitive::<Decimal128Type>().unary::<_, Float64Type>(double)))
        }
        (DataType::Decimal256(..), _) if to.is_integer() => {
            let narrow = arrow_cast(array, &DataType::Decimal128(38, 0))?;
            convert(&narrow, to, mode, tz)
        }
        (_, DataType::Int8) => to_integer::<Int8Type>(array, to, mode, tz),
        (_, DataType::Int16) => to_integer::<Int16Type>(array, to, mode, tz),
        (_, DataType::Int32) => to_integer::<Int32Type>(array, to, mode, tz),
        (_, DataType::Int64) => to_integer::<Int64Type>(array, to, mode, tz),
        (_, DataType::Decimal128(..) | DataType::Decimal256(..)) => checked(array, to, mode, tz),
        _ => arrow_cast(array, to),
    }
}

/// The double next to `value` / 10^`scale`.
fn decimal_to_double(value: i128, scale: i8) -> f64 {
    /// What doubles represent exactly: whole numbers up to here, and powers of ten up to the 22nd.
    const EXACT: u128 = 1 << f64::MANTISSA_DIGITS;
    if value.unsigned_abs() <= EXACT && (0..=22).contains(&scale) {
        return value as f64 / 10_u128.pow(u32::from(scale.unsigned_abs())) as f64;
    }
    // Always a number.
    format!("{value}e{}", -i16::from(scale)).parse().unwrap_or(f64::NAN)
}

/// Arrow's conversion, with an error instead of a NULL in ANSI mode.
fn checked(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let result = arrow_cast(array, to)?;
    if mode == CastMode::Ansi && result.null_count() > array.null_count() {
        let row = (0..array.len()).find(|row| array.is_valid(*row) && result.is_null(*row)).unwrap_or(0);
        return Err(overflow(&format::display(array, row, tz), array.data_type(), to));
    }
    Ok(result)
}

fn to_boolean(array: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Decimal128(..) = array.data_type() {
        let values = array.as_primitive::<Decimal128Type>();
        return Ok(Arc::new(BooleanArray::from_unary(values, |v| v != 0)));
    }
    arrow_cast(array, &DataType::Boolean)
}

fn to_bytes(array: &ArrayRef) -> ArrayRef {
    fn bytes<T: ArrowPrimitiveType>(array: &ArrayRef, write: impl Fn(T::Native) -> Vec<u8>) -> ArrayRef {
        let values = array.as_primitive::<T>();
        Arc::new(values.iter().map(|v| v.map(&write)).collect::<BinaryArray>())
    }
    match array.data_type() {
        DataType::Int8 => bytes::<Int8Type>(array, |v| v.to_be_bytes().to_vec()),
        DataType::Int16 => bytes::<Int16Type>(array, |v| v.to_be_bytes().to_vec()),
        DataType::Int32 => bytes::<Int32Type>(array, |v| v.to_be_bytes().to_vec()),
        _ => bytes::<Int64Type>(array, |v| v.to_be_bytes().to_vec()),
    }
}

/// An integer type, and how Java narrows to it.
trait Integer: ArrowPrimitiveType {
    fn wrap(value: i64) -> Self::Native;
    fn exact(value: i64) -> Option<Self::Native>;
    /// A floating-point number: bytes and shorts by way of an int, as Java does.
    fn saturate(value: f64) -> Self::Native;
}

macro_rules! integer {
    ($arrow:ty, $native:ty, $by:ty) => {
        impl Integer for $arrow {
            fn wrap(value: i64) -> $native {
                value as $native
            }
            fn exact(value: i64) -> Option<$native> {
                value.try_into().ok()
            }
            fn saturate(value: f64) -> $native {
                value as $by as $native
            }
        }
    };
}
integer!(Int8Type, i8, i32);
integer!(Int16Type, i16, i32);
integer!(Int32Type, i32, i32);
integer!(Int64Type, i64, i64);

fn to_integer<T: Integer>(array: &ArrayRef, to: &DataType, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    let lenient = mode == CastMode::Lenient;
    let fail = |row: usize| overflow(&format::display(array, row, tz), array.data_type(), to);
    match array.data_type() {
        DataType::Boolean => arrow_cast(array, to),
        DataType::Float32 | DataType::Float64 => {
            let doubles = arrow_cast(array, &DataType::Float64)?;
            narrow::<Float64Type, T>(doubles.as_primitive(), mode, fail, |value| {
                if lenient {
                    return Some(T::saturate(value));
                }
                // Exactly 2^63 is already out of range; below it every double is exact.
                let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
                if fits { T::exact(value as i64) } else { None }
            })
        }
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            narrow::<Decimal128Type, T>(array.as_primitive(), mode, fail, |value| {
                let whole = value / unit;
                if lenient { Some(T::wrap(whole as i64)) } else { i64::try_from(whole).ok().and_then(T::exact) }
            })
        }
        _ => {
            let longs = arrow_cast(array, &DataType::Int64)?;
            narrow::<Int64Type, T>(longs.as_primitive(), mode, fail, |value| {
                if lenient { Some(T::wrap(value)) } else { T::exact(value) }
            })
        }
    }
}

fn narrow<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    values: &PrimitiveArray<F>,
    mode: CastMode,
    fail: impl Fn(usize) -> crate::Error,
    convert: impl Fn(F::Native) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        match value.map(&convert) {
            None => builder.append_null(),
            Some(Some(value)) => builder.append_value(value),
            Some(None) if mode == CastMode::Ansi => return Err(fail(row)),
            Some(None) => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn is_finite(array: &ArrayRef, row: usize) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).is_finite(),
        _ => array.as_primitive::<Float64Type>().value(row).is_finite(),
    }
}

/// By way of the shortest text, so that 1.005 is rounded as it is written and not as it is stored.
fn float_to_decimal(array: &ArrayRef, precision: u8, scale: i8, mode: CastMode, tz: Tz) -> Result<ArrayRef> {
    use std::fmt::Write;
    let mut text = String::new();
    let mut builder = Decimal128Array::builder(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        let _ = match array.data_type() {
            DataType::Float32 => write!(text, "{:e}", array.as_primitive::<Float32Type>().value(row)),
            _ => write!(text, "{:e}", array.as_primitive::<Float64Type>().value(row)),
        };
        match parse::decimal(&text, precision, scale) {
            Some(value) => builder.append_value(value),
            // What is no number is NULL in ANSI mode too.
            None if mode == CastMode::Ansi && is_finite(array, row) => {
                let to = DataType::Decimal128(precision, scale);
                return Err(overflow(&format::display(array, row, tz), array.data_type(), &to));
            }
            None => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish().with_precision_and_scale(precision, scale)?))
}
