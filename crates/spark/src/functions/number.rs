//! Functions of doubles and of bits, and text of numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, DurationMicrosecondType, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalUnit, IntervalYearMonthType,
};
use datafusion::functions::math::expr_fn as df;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, lit};
use datafusion_spark::function::{bitwise, math};

use super::conditional::exactly;
use super::exponential;
use super::form::{Env, Form, Want, form, wraps};
use super::udf::{Call, DOUBLE, Function, LONG, Returns, TEXT, function};
use crate::cast::format::java_double;
use crate::coercion::{Arithmetic, binary_op, call as call_of, overflow, resolve};
use crate::error::{Error, Result};
use crate::types::sql_type_name;

pub(super) const FORMS: &[Form] = &[
    form(&["mod"], (2, 2), |args, env| {
        let [left, right] = exactly(args)?;
        binary_op(left, Operator::Modulo, right, env.schema, env.conf)
    }),
    form(&["div"], (2, 2), |args, env| {
        let [left, right] = exactly(args)?;
        binary_op(left, Operator::IntegerDivide, right, env.schema, env.conf)
    }),
    form(&["pmod"], (2, 2), pmod),
    form(&["not"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        resolve(Expr::Not(Box::new(value)), env.schema, env.conf)
    }),
    form(&["negative"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        resolve(Expr::Negative(Box::new(value)), env.schema, env.conf)
    }),
    form(&["positive"], (1, 1), |args, env| exactly(args).and_then(|[value]| number(value, env))),
    form(&["abs"], (1, 1), abs),
    form(&["try_add"], (2, 2), |args, env| attempt(args, Operator::Plus, env)),
    form(&["try_subtract"], (2, 2), |args, env| attempt(args, Operator::Minus, env)),
    form(&["try_multiply"], (2, 2), |args, env| attempt(args, Operator::Multiply, env)),
    form(&["try_divide"], (2, 2), |args, env| attempt(args, Operator::Divide, env)),
    form(&["try_mod"], (2, 2), |args, env| attempt(args, Operator::Modulo, env)),
    form(&["isnan"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        let nan = df::isnan(env.cast(value, &DataType::Float64)?);
        Ok(datafusion::functions::core::expr_fn::coalesce(vec![nan, lit(false)]))
    }),
    wraps(&["nanvl"], datafusion::functions::math::nanvl, &[Want::Double], None),
    wraps(&["factorial"], math::factorial, &[Want::Int], None),
    wraps(&["bin"], math::bin, &[Want::Long], None),
    wraps(&["bit_count"], bitwise::bit_count, &[Want::Any], None),
];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["ln"], (1, 1), DOUBLE, |c| partial(c, |x| (x > 0.0 || x.is_nan()).then(|| exponential::log(x)))),
    function(&["log10"], (1, 1), DOUBLE, |c| partial(c, |x| (x > 0.0 || x.is_nan()).then(|| x.log10()))),
    function(&["log2"], (1, 1), DOUBLE, |c| {
        partial(c, |x| (x > 0.0 || x.is_nan()).then(|| exponential::log(x) / std::f64::consts::LN_2))
    }),
    function(&["log1p"], (1, 1), DOUBLE, |c| partial(c, |x| (x > -1.0 || x.is_nan()).then(|| x.ln_1p()))),
    function(&["log"], (1, 2), DOUBLE, log),
    function(&["exp"], (1, 1), DOUBLE, |c| total(c, exponential::exp)),
    function(&["expm1"], (1, 1), DOUBLE, |c| total(c, f64::exp_m1)),
    function(&["sqrt"], (1, 1), DOUBLE, |c| total(c, f64::sqrt)),
    function(&["cbrt"], (1, 1), DOUBLE, |c| total(c, f64::cbrt)),
    function(&["sign", "signum"], (1, 1), DOUBLE, |c| {
        total(c, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() })
    }),
    function(&["rint"], (1, 1), DOUBLE, |c| total(c, f64::round_ties_even)),
    function(&["sin"], (1, 1), DOUBLE, |c| total(c, f64::sin)),
    function(&["cos"], (1, 1), DOUBLE, |c| total(c, f64::cos)),
    function(&["tan"], (1, 1), DOUBLE, |c| total(c, f64::tan)),
    function(&["cot"], (1, 1), DOUBLE, |c| total(c, |x| 1.0 / x.tan())),
    function(&["sec"], (1, 1), DOUBLE, |c| total(c, |x| 1.0 / x.cos())),
    function(&["csc"], (1, 1), DOUBLE, |c| total(c, |x| 1.0 / x.sin())),
    function(&["asin"], (1, 1), DOUBLE, |c| total(c, f64::asin)),
    function(&["acos"], (1, 1), DOUBLE, |c| total(c, f64::acos)),
    function(&["atan"], (1, 1), DOUBLE, |c| total(c, f64::atan)),
    function(&["sinh"], (1, 1), DOUBLE, |c| total(c, f64::sinh)),
    function(&["cosh"], (1, 1), DOUBLE, |c| total(c, exponential::cosh)),
    function(&["tanh"], (1, 1), DOUBLE, |c| total(c, f64::tanh)),
    function(&["asinh"], (1, 1), DOUBLE, |c| total(c, f64::asinh)),
    function(&["acosh"], (1, 1), DOUBLE, |c| total(c, f64::acosh)),
    function(&["atanh"], (1, 1), DOUBLE, |c| total(c, f64::atanh)),
    function(&["degrees"], (1, 1), DOUBLE, |c| total(c, f64::to_degrees)),
    function(&["radians"], (1, 1), DOUBLE, |c| total(c, f64::to_radians)),
    function(&["pow", "power"], (2, 2), DOUBLE, |c| two(c, f64::powf)),
    function(&["atan2"], (2, 2), DOUBLE, |c| two(c, f64::atan2)),
    function(&["hypot"], (2, 2), DOUBLE, |c| two(c, f64::hypot)),
    function(&["pi"], (0, 0), DOUBLE, |c| constant(c, std::f64::consts::PI)),
    function(&["e"], (0, 0), DOUBLE, |c| constant(c, std::f64::consts::E)),
    function(&["format_number"], (2, 2), TEXT, format_number),
    function(&["conv"], (3, 3), TEXT, conv),
    function(&["width_bucket"], (4, 4), LONG, width_bucket),
];

/// `width_bucket(value, first, last, count)`: bounds may descend; values outside are in the buckets 0 and `count + 1`.
fn width_bucket(call: &Call<'_>) -> Result<ArrayRef> {
    let double = |i: usize| -> Result<PrimitiveArray<Float64Type>> {
        Ok(call.cast(i, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    };
    let (values, firsts, lasts) = (double(0)?, double(1)?, double(2)?);
    let counts = call.cast(3, &DataType::Int64)?;
    let counts = counts.as_primitive::<Int64Type>();
    let bucket = |row: usize| -> Option<i64> {
        let valid = values.is_valid(row) && firsts.is_valid(row) && lasts.is_valid(row) && counts.is_valid(row);
        let (value, first, last, count) = (values.value(row), firsts.value(row), lasts.value(row), counts.value(row));
        if !valid || count <= 0 || count == i64::MAX || value.is_nan() {
            return None;
        }
        if first == last || !first.is_finite() || !last.is_finite() {
            return None;
        }
        let (before, after) =
            if first < last { (value < first, value >= last) } else { (value > first, value <= last) };
        Some(match (before, after) {
            (true, _) => 0,
            (_, true) => count + 1,
            _ => (count as f64 * (value - first) / (last - first)) as i64 + 1,
        })
    };
    Ok(Arc::new((0..call.rows()).map(bucket).collect::<PrimitiveArray<Int64Type>>()))
}

fn partial(call: &Call<'_>, f: impl Fn(f64) -> Option<f64>) -> Result<ArrayRef> {
    let x = call.cast(0, &DataType::Float64)?;
    let values: PrimitiveArray<Float64Type> = x.as_primitive::<Float64Type>().unary_opt(f);
    Ok(Arc::new(values))
}

fn total(call: &Call<'_>, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let x = call.cast(0, &DataType::Float64)?;
    let values: PrimitiveArray<Float64Type> = x.as_primitive::<Float64Type>().unary(f);
    Ok(Arc::new(values))
}

fn two(call: &Call<'_>, f: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (a, b) = (call.cast(0, &DataType::Float64)?, call.cast(1, &DataType::Float64)?);
    let values: PrimitiveArray<Float64Type> =
        arrow::compute::binary(a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>(), f)?;
    Ok(Arc::new(values))
}

fn constant(call: &Call<'_>, value: f64) -> Result<ArrayRef> {
    Ok(Arc::new(PrimitiveArray::<Float64Type>::from_value(value, call.rows())))
}

/// `log(x)`, or `log(base, x)`.
fn log(call: &Call<'_>) -> Result<ArrayRef> {
    if call.len() == 1 {
        return partial(call, |x| (x > 0.0 || x.is_nan()).then(|| exponential::log(x)));
    }
    let (base, x) = (call.cast(0, &DataType::Float64)?, call.cast(1, &DataType::Float64)?);
    let pairs = base.as_primitive::<Float64Type>().iter().zip(x.as_primitive::<Float64Type>());
    let log = |(base, x): (Option<f64>, Option<f64>)| {
        let (base, x) = (base?, x?);
        let positive = |x: f64| x > 0.0 || x.is_nan();
        (positive(base) && positive(x)).then(|| exponential::log(x) / exponential::log(base))
    };
    Ok(Arc::new(pairs.map(log).collect::<PrimitiveArray<Float64Type>>()))
}

/// A number as it is; text as a double.
fn number(value: Expr, env: Env<'_>) -> Result<Expr> {
    match env.type_of(&value)? {
        DataType::Utf8 | DataType::Null => env.cast(value, &DataType::Float64),
        _ => Ok(value),
    }
}

/// The size of a number or an interval; the least integer has none of its type.
fn abs(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let [value] = exactly(args)?;
    let value = number(value, env)?;
    match env.type_of(&value)? {
        integer if integer.is_integer() => Ok(ABS.call(vec![value])),
        DataType::Duration(_) | DataType::Interval(_) => Ok(ABS.call(vec![value])),
        float if float.is_numeric() => Ok(df::abs(value)),
        other => Err(Error::user(format!("`abs` needs a number or an interval, but got {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    }
}

const SAME: Returns = Returns::Types(|types| types.first().cloned().ok_or_else(|| Error::internal("`abs` of nothing")));
const ABS: Function = function(&["abs"], (1, 1), SAME, |call| {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef, ansi: bool) -> Result<ArrayRef>
    where
        T::Native: ArrowNativeTypeOp,
    {
        let size = |v: T::Native| match v.is_lt(T::Native::ZERO) {
            true if ansi => v.neg_checked().map_err(|_| overflow("the size of the least number")),
            true => Ok(v.neg_wrapping()),
            false => Ok(v),
        };
        let values = array.as_primitive::<T>().iter().map(|v| v.map(size).transpose());
        Ok(Arc::new(values.collect::<Result<PrimitiveArray<T>>>()?))
    }
    let (array, ansi) = (call.array(0)?, call.ansi());
    match array.data_type() {
        DataType::Int8 => of::<Int8Type>(&array, ansi),
        DataType::Int16 => of::<Int16Type>(&array, ansi),
        DataType::Int32 => of::<Int32Type>(&array, ansi),
        DataType::Int64 => of::<Int64Type>(&array, ansi),
        DataType::Duration(_) => of::<DurationMicrosecondType>(&array, true),
        DataType::Interval(IntervalUnit::YearMonth) => of::<IntervalYearMonthType>(&array, true),
        other => Err(Error::unsupported(format!("`abs` of {}", sql_type_name(other)))),
    }
});

/// The remainder with the sign of the divisor.
fn pmod(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let [left, right] = exactly(args)?;
    let op = |a, op, b| binary_op(a, op, b, env.schema, env.conf);
    let rest = op(left, Operator::Modulo, right.clone())?;
    let to = rest.get_type(env.schema)?;
    let right = env.cast(right, &to)?;
    let negative = op(rest.clone(), Operator::Lt, lit(0_i32))?;
    let turned = op(op(rest.clone(), Operator::Plus, right.clone())?, Operator::Modulo, right)?;
    let turned = env.cast(turned, &to)?;
    Ok(datafusion::logical_expr::when(negative, turned).otherwise(rest)?)
}

/// An operator that gives NULL where it would fail.
fn attempt(args: Vec<Expr>, op: Operator, env: Env<'_>) -> Result<Expr> {
    let [left, right] = exactly(args)?;
    if op == Operator::Divide && matches!(env.type_of(&left)?, DataType::Duration(_) | DataType::Interval(_)) {
        let by_zero = binary_op(right.clone(), Operator::Eq, lit(0_i32), env.schema, env.conf)?;
        let quotient = binary_op(left, op, right, env.schema, env.conf)?;
        return Ok(datafusion::logical_expr::when(Expr::Not(Box::new(by_zero)), quotient).end()?);
    }
    let lenient = crate::conf::SparkConf { ansi: false, ..env.conf.clone() };
    let planned = binary_op(left, op, right, env.schema, &lenient)?;
    match planned {
        Expr::BinaryExpr(binary) => {
            let result = binary.left.get_type(env.schema)?;
            if !result.is_integer() {
                return Ok(Expr::BinaryExpr(binary));
            }
            Ok(call_of(Arithmetic { op, ansi: false, attempt: true, result }, vec![*binary.left, *binary.right]))
        }
        other => Ok(other),
    }
}

/// Digits in groups of three with so many decimals, rounded to even.
fn format_number(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.array(0)?;
    if !matches!(call.array(1)?.data_type(), t if t.is_integer() || t == &DataType::Null) {
        return Err(Error::unsupported("`format_number` with a pattern")
            .with_help("Give the number of decimals, or cast the pattern's result yourself."));
    }
    let digits = call.cast(1, &DataType::Int32)?;
    let digits = digits.as_primitive::<Int32Type>();
    let exact = match array.data_type() {
        DataType::Decimal128(..) => Arc::clone(&array),
        integer if integer.is_integer() => call.cast(0, &DataType::Decimal128(20, 0))?,
        other if other.is_floating() => call.cast(0, &DataType::Float64)?,
        DataType::Utf8 | DataType::Null => call.cast(0, &DataType::Float64)?,
        other => {
            return Err(Error::user(format!("`format_number` cannot write {}", sql_type_name(other)))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    let formatted = |row: usize| {
        if exact.is_null(row) || digits.is_null(row) || digits.value(row) < 0 {
            return None;
        }
        let digits = digits.value(row) as usize;
        let plain = match exact.data_type() {
            DataType::Decimal128(_, scale) => {
                decimal_text(exact.as_primitive::<Decimal128Type>().value(row), *scale, digits)
            }
            _ => match exact.as_primitive::<Float64Type>().value(row) {
                // Digits beyond those that tell the number from its neighbours are zeros.
                value if value.is_finite() && value.abs() >= 1e17 => {
                    let point = if digits > 0 { "." } else { "" };
                    format!("{value}{point}{}", "0".repeat(digits))
                }
                value if value.is_finite() => format!("{value:.digits$}"),
                value => {
                    let mut text = String::new();
                    let _ = java_double(&mut text, value);
                    return Some(text.replace("Infinity", "∞"));
                }
            },
        };
        Some(grouped(&plain))
    };
    Ok(Arc::new((0..call.rows()).map(formatted).collect::<StringArray>()))
}

fn decimal_text(value: i128, scale: i8, digits: usize) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let size = if digits < scale {
        let unit = 10_u128.pow((scale - digits) as u32);
        let (quotient, rest) = (size / unit, size % unit);
        let up = rest > unit / 2 || (rest == unit / 2 && quotient % 2 == 1);
        format!("{}", quotient + u128::from(up))
    } else {
        format!("{size}{}", "0".repeat(digits - scale))
    };
    let padded = format!("{size:0>width$}", width = digits + 1);
    let (whole, fraction) = padded.split_at(padded.len() - digits);
    if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn grouped(plain: &str) -> String {
    let (sign, plain) = plain.strip_prefix('-').map_or(("", plain), |rest| ("-", rest));
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// A number from one base to another; of what follows the last digit nothing counts.
fn conv(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let base = |i: usize| -> Result<PrimitiveArray<Int64Type>> {
        Ok(call.cast(i, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    let (from, to) = (base(1)?, base(2)?);
    let convert = |row: usize| {
        if text.is_null(row) || from.is_null(row) || to.is_null(row) {
            return None;
        }
        let (from, to) = (from.value(row), to.value(row));
        if !(2..=36).contains(&from) || !(2..=36).contains(&to.abs()) {
            return None;
        }
        let trimmed = text.value(row).trim();
        let (negative, digits) = trimmed.strip_prefix('-').map_or((false, trimmed), |rest| (true, rest));
        let digits = digits.chars().map_while(|c| c.to_digit(from as u32));
        let value = digits.fold(0_u64, |value, digit| {
            value.checked_mul(from as u64).and_then(|v| v.checked_add(digit.into())).unwrap_or(u64::MAX)
        });
        let value = if negative { value.wrapping_neg() } else { value };
        if trimmed.is_empty() {
            return None;
        }
        Some(if to < 0 && (value as i64) < 0 {
            format!("-{}", in_base((value as i64).unsigned_abs(), to.unsigned_abs()))
        } else {
            in_base(value, to.unsigned_abs())
        })
    };
    Ok(Arc::new((0..call.rows()).map(convert).collect::<StringArray>()))
}

fn in_base(mut value: u64, base: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((value % base) as u32, base as u32));
        value /= base;
        if value == 0 {
            return digits.iter().rev().collect::<String>().to_uppercase();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("log(CAST(0 AS DOUBLE))", "NULL"),
            ("log(2, 8)", "3.0"),
            ("log10(100)", "2.0"),
            ("log2(8)", "3.0"),
            ("ln(1)", "0.0"),
            ("ln(-1)", "NULL"),
            ("exp(0)", "1.0"),
            ("sqrt(4)", "2.0"),
            ("sqrt(-1)", "NaN"),
            ("cbrt(27)", "3.0"),
            ("sign(-2)", "-1.0"),
            ("signum(0)", "0.0"),
            ("abs(-1)", "1"),
            ("abs(-1.5)", "1.5"),
            ("abs('-1')", "1.0"),
            ("pow(2, 3)", "8.0"),
            ("power(2, 0.5)", "1.4142135623730951"),
            ("pmod(-7, 3)", "2"),
            ("pmod(7, 3)", "1"),
            ("mod(-7, 3)", "-1"),
            ("div(7, 2)", "3"),
            ("isnan(CAST('NaN' AS DOUBLE))", "true"),
            ("isnan(NULL)", "false"),
            ("nanvl(CAST('NaN' AS DOUBLE), 123)", "123.0"),
            ("factorial(5)", "120"),
            ("bin(13)", "1101"),
            ("bit_count(7)", "3"),
            ("hypot(3, 4)", "5.0"),
            ("rint(2.5)", "2.0"),
            ("format_number(12332.123456, 4)", "12,332.1235"),
            ("format_number(CAST(12332.123456 AS DOUBLE), 2)", "12,332.12"),
            ("format_number(-1234567, 0)", "-1,234,567"),
            ("conv('100', 2, 10)", "4"),
            ("conv('-10', 16, -10)", "-16"),
            ("try_divide(3, 2)", "1.5"),
            ("try_divide(1, 0)", "NULL"),
            ("try_add(1, 2)", "3"),
            ("try_add(9223372036854775807, 1)", "NULL"),
            ("try_subtract(1, 2)", "-1"),
            ("try_multiply(9223372036854775807, 2)", "NULL"),
            ("try_mod(1, 0)", "NULL"),
        ])
        .await;
    }

    #[tokio::test]
    async fn division_by_zero() {
        check("pmod(1, 0)", Ok("NULL"), Err("REMAINDER_BY_ZERO")).await;
        check("abs(CAST(-2147483648 AS INT))", Ok("-2147483648"), Err("ARITHMETIC_OVERFLOW")).await;
    }
}
