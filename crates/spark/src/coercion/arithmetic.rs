//! Arithmetic that Arrow does otherwise: division by zero, overflow, wide decimals.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::numeric as kernel;
use arrow::datatypes::{
    ArrowNativeTypeOp, DECIMAL128_MAX_PRECISION, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, i256,
};
use arrow::error::ArrowError;
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::cast::parse::fits;
use crate::error::{Error, Result};

/// One operator over two operands of one type (or two decimals), with its result type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arithmetic {
    pub(crate) op: Operator,
    pub(crate) ansi: bool,
    /// Whether integers that overflow become NULL (`try_add`).
    pub(crate) attempt: bool,
    pub(crate) result: DataType,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(2, Volatility::Immutable));

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "spark_add",
            Operator::Minus => "spark_subtract",
            Operator::Multiply => "spark_multiply",
            Operator::Divide => "spark_divide",
            Operator::IntegerDivide => "spark_div",
            _ => "spark_remainder",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        let op = if self.op == Operator::IntegerDivide { "div".to_owned() } else { self.op.to_string() };
        Ok(args.join(&format!(" {op} ")))
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result.clone())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("arithmetic takes two operands".to_owned()));
        };
        let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
        let result = self.evaluate(&left, &right)?;
        if scalars {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Arithmetic {
    fn evaluate(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
        match (left.data_type(), self.op) {
            (DataType::Decimal128(..), _) => self.decimals(left.as_primitive(), right.as_primitive()),
            (_, Operator::IntegerDivide) => {
                let quotients = self.by::<Int64Type>(left, right, |a, b| a.wrapping_div(b))?;
                self.check_quotients(left.as_primitive(), right.as_primitive())?;
                Ok(quotients)
            }
            (DataType::Float64, Operator::Divide) => self.by::<Float64Type>(left, right, |a, b| a / b),
            (DataType::Float32, Operator::Modulo) => self.by::<Float32Type>(left, right, |a, b| a % b),
            (DataType::Float64, Operator::Modulo) => self.by::<Float64Type>(left, right, |a, b| a % b),
            (DataType::Int8, Operator::Modulo) => self.by::<Int8Type>(left, right, i8::wrapping_rem),
            (DataType::Int16, Operator::Modulo) => self.by::<Int16Type>(left, right, i16::wrapping_rem),
            (DataType::Int32, Operator::Modulo) => self.by::<Int32Type>(left, right, i32::wrapping_rem),
            (DataType::Int64, Operator::Modulo) => self.by::<Int64Type>(left, right, i64::wrapping_rem),
            _ if self.attempt => self.attempted(left, right),
            (_, Operator::Plus) => checked(kernel::add(left, right)),
            (_, Operator::Minus) => checked(kernel::sub(left, right)),
            (_, Operator::Multiply) => checked(kernel::mul(left, right)),
            (other, op) => Err(Error::internal(format!("no arithmetic for {op} on {other}"))),
        }
    }

    /// Integers by way of 128 bits; what does not fit is NULL.
    fn attempted(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
        let long = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Int64);
        let (left, right) = (long(left)?, long(right)?);
        let pairs = left.as_primitive::<Int64Type>().iter().zip(right.as_primitive::<Int64Type>());
        let value = |(a, b): (Option<i64>, Option<i64>)| {
            let (a, b) = (i128::from(a?), i128::from(b?));
            let value = match self.op {
                Operator::Plus => a + b,
                Operator::Minus => a - b,
                _ => a * b,
            };
            i64::try_from(value).ok()
        };
        let longs: ArrayRef = Arc::new(pairs.map(value).collect::<Int64Array>());
        crate::cast::arrow_cast(&longs, &self.result)
    }

    /// A division: NULL or an error where the divisor is zero.
    fn by<T: ArrowPrimitiveType>(
        &self,
        left: &ArrayRef,
        right: &ArrayRef,
        op: impl Fn(T::Native, T::Native) -> T::Native,
    ) -> Result<ArrayRef> {
        let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
        let mut by_zero = false;
        let divided: PrimitiveArray<T> = left
            .iter()
            .zip(right)
            .map(|(a, b)| {
                let (a, b) = (a?, b?);
                if b.is_zero() {
                    by_zero = true;
                    return None;
                }
                Some(op(a, b))
            })
            .collect();
        if by_zero && self.ansi { Err(self.by_zero()) } else { Ok(Arc::new(divided)) }
    }

    fn by_zero(&self) -> Error {
        if self.op != Operator::Modulo {
            return division_by_zero();
        }
        Error::data("remainder by zero")
            .with_condition("REMAINDER_BY_ZERO")
            .with_help("Use `try_mod` to get NULL instead, or set spark.sql.ansi.enabled to false.")
    }

    fn check_quotients(&self, left: &Int64Array, right: &Int64Array) -> Result<()> {
        let overflows = |(a, b)| a == Some(i64::MIN) && b == Some(-1);
        if self.ansi && left.iter().zip(right).any(overflows) { Err(overflow("long overflow")) } else { Ok(()) }
    }

    fn decimals(&self, left: &Decimal128Array, right: &Decimal128Array) -> Result<ArrayRef> {
        let scales = (left.scale(), right.scale());
        if self.op == Operator::IntegerDivide {
            let whole = |a, b| divide(a, b, scales, 0, true).and_then(|v| i64::try_from(v).ok());
            let result = self.combine::<i64>(left, right, whole)?;
            return Ok(Arc::new(Int64Array::from(result)));
        }
        let DataType::Decimal128(precision, scale) = self.result else {
            return Err(Error::internal("a decimal calculation with a result that is not a decimal"));
        };
        if let Some(exact) = exact(self.op, left, right, precision, scale) {
            return Ok(Arc::new(exact.with_precision_and_scale(precision, scale)?));
        }
        let op = |a, b| -> Option<i128> {
            let value = match self.op {
                Operator::Plus => sum(a, b, scales, scale),
                Operator::Minus => sum(a, b.checked_neg()?, scales, scale),
                Operator::Multiply => product(a, b, scales, scale),
                Operator::Divide => divide(a, b, scales, scale, false),
                _ => remainder(a, b, scales, scale),
            }?;
            fits(value, precision).then_some(value)
        };
        let result = Decimal128Array::from(self.combine(left, right, op)?);
        Ok(Arc::new(result.with_precision_and_scale(precision, scale)?))
    }

    fn combine<T>(
        &self,
        left: &Decimal128Array,
        right: &Decimal128Array,
        op: impl Fn(i128, i128) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let divides = matches!(self.op, Operator::Divide | Operator::Modulo | Operator::IntegerDivide);
        let both = left.iter().zip(right);
        both.map(|(a, b)| match (a, b) {
            (Some(_), Some(0)) if divides => {
                if self.ansi {
                    Err(self.by_zero())
                } else {
                    Ok(None)
                }
            }
            (Some(a), Some(b)) => match op(a, b) {
                None if self.ansi => Err(out_of_range(&self.result)),
                value => Ok(value),
            },
            _ => Ok(None),
        })
        .collect()
    }
}

/// Sums, differences and products of which no digit is cut off, in 128 bits and without a look at each NULL; `None` if
/// one of them might not fit.
fn exact(
    op: Operator,
    left: &Decimal128Array,
    right: &Decimal128Array,
    precision: u8,
    scale: i8,
) -> Option<Decimal128Array> {
    let pairs = left.values().iter().zip(right.values());
    let most = 10_i128.checked_pow(u32::from(precision))? - 1;
    let mut within = true;
    let mut checked = |value: i128| {
        within &= (-most..=most).contains(&value);
        value
    };
    let values: Vec<i128> = match op {
        Operator::Plus | Operator::Minus => {
            let (unit, other) = (unit(left, scale)?, unit(right, scale)?);
            let other = if op == Operator::Minus { -other } else { other };
            pairs.map(|(a, b)| checked(times(*a, unit).wrapping_add(times(*b, other)))).collect()
        }
        Operator::Multiply if left.scale() + right.scale() == scale => pairs
            .map(|(a, b)| short_product(*a, *b).or_else(|| a.checked_mul(*b)).map(&mut checked))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    // What is below a NULL may be anything: then each value is looked at.
    within.then(|| Decimal128Array::new(values.into(), nulls))
}

/// What the values have to be multiplied with to have `scale` decimals; `None` if one, or the sum of two, may need more than 128 bits.
fn unit(decimals: &Decimal128Array, scale: i8) -> Option<i128> {
    let more = u32::try_from(scale - decimals.scale()).ok()?;
    (u32::from(decimals.precision()) + more < u32::from(DECIMAL128_MAX_PRECISION)).then(|| 10_i128.pow(more))
}

/// Most operands have the same scale.
fn times(value: i128, unit: i128) -> i128 {
    match unit {
        1 => value,
        -1 => value.wrapping_neg(),
        unit => value.wrapping_mul(unit),
    }
}

/// The product of factors of 64 bits: one instruction.
fn short_product(a: i128, b: i128) -> Option<i128> {
    let (a, b) = (i64::try_from(a).ok()?, i64::try_from(b).ok()?);
    Some(i128::from(a) * i128::from(b))
}

/// The sum, where the scales allow it without leaving 128 bits; otherwise by way of 256.
fn sum(a: i128, b: i128, (s1, s2): (i8, i8), scale: i8) -> Option<i128> {
    let common = s1.max(s2);
    let a = wide(a, common - s1)?;
    let b = wide(b, common - s2)?;
    rescale(a.checked_add(b)?, common, scale)
}

fn product(a: i128, b: i128, (s1, s2): (i8, i8), scale: i8) -> Option<i128> {
    if s1 + s2 == scale
        && let Some(value) = a.checked_mul(b)
    {
        return Some(value);
    }
    rescale(i256::from_i128(a).checked_mul(i256::from_i128(b))?, s1 + s2, scale)
}

fn divide(a: i128, b: i128, (s1, s2): (i8, i8), scale: i8, truncate: bool) -> Option<i128> {
    let shift = scale - s1 + s2;
    if let Ok(shift) = u32::try_from(shift)
        && let Some(a) = 10_i128.checked_pow(shift).and_then(|unit| a.checked_mul(unit))
    {
        let (quotient, rest) = (a.checked_div(b)?, a % b);
        let up = !truncate && rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
        return Some(if up { quotient + if (a < 0) == (b < 0) { 1 } else { -1 } } else { quotient });
    }
    let (a, b) =
        if shift >= 0 { (wide(a, shift)?, i256::from_i128(b)) } else { (i256::from_i128(a), wide(b, -shift)?) };
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let twice = rest.wrapping_abs().checked_add(rest.wrapping_abs())?;
    let up = !truncate && twice >= b.wrapping_abs();
    let step = if (a < i256::ZERO) == (b < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
    (if up { quotient.checked_add(step)? } else { quotient }).to_i128()
}

fn remainder(a: i128, b: i128, (s1, s2): (i8, i8), scale: i8) -> Option<i128> {
    let common = s1.max(s2);
    rescale(wide(a, common - s1)?.checked_rem(wide(b, common - s2)?)?, common, scale)
}

/// A value with more decimals.
fn wide(value: i128, by: i8) -> Option<i256> {
    i256::from_i128(value).checked_mul(i256::from_i128(10).checked_pow(u32::try_from(by).ok()?)?)
}

/// A value with other decimals, rounded half up.
fn rescale(value: i256, from: i8, to: i8) -> Option<i128> {
    if to >= from {
        let unit = i256::from_i128(10).checked_pow((to - from) as u32)?;
        return value.checked_mul(unit)?.to_i128();
    }
    let unit = i256::from_i128(10).checked_pow((from - to) as u32)?;
    let half = unit.checked_div(i256::from_i128(2))?;
    let half = if value < i256::ZERO { half.checked_neg()? } else { half };
    value.checked_add(half)?.checked_div(unit)?.to_i128()
}

fn checked(result: std::result::Result<ArrayRef, ArrowError>) -> Result<ArrayRef> {
    result.map_err(|error| match error {
        ArrowError::ArithmeticOverflow(message) => overflow(&message),
        other => other.into(),
    })
}

pub(crate) fn division_by_zero() -> Error {
    Error::data("division by zero")
        .with_condition("DIVIDE_BY_ZERO")
        .with_help("Use `try_divide` to get NULL instead, or set spark.sql.ansi.enabled to false.")
}

pub(crate) fn overflow(message: &str) -> Error {
    Error::data(format!("arithmetic overflow: {message}"))
        .with_condition("ARITHMETIC_OVERFLOW")
        .with_help("Cast to a wider type, use a `try_` function, or set spark.sql.ansi.enabled to false.")
}

fn out_of_range(result: &DataType) -> Error {
    Error::data(format!("the result does not fit in {}", crate::types::sql_type_name(result)))
        .with_condition("NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION")
        .with_help("Cast the operands to a smaller precision, or set spark.sql.ansi.enabled to false.")
}

/// Whether DataFusion's own operator gives the same result for every value.
pub(crate) fn native(op: Operator, operand: &DataType, ansi: bool) -> bool {
    let float = operand.is_floating();
    match op {
        Operator::Plus | Operator::Minus | Operator::Multiply => float || !ansi,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A decimal of a given type and value.
    fn decimals(values: Vec<Option<i128>>, precision: u8, scale: i8) -> Decimal128Array {
        Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_exact_is_what_256_bits_give(
            values in prop::collection::vec((any::<Option<i128>>(), any::<Option<i128>>()), 1..20),
            (p1, p2, precision) in (1_u8..=38, 1_u8..=38, 1_u8..=38),
            (s1, s2, more) in (0_i8..=18, 0_i8..=18, 0_i8..=3),
        ) {
            let within = |value: Option<i128>, precision: u8| value.map(|value| value % 10_i128.pow(u32::from(precision)));
            let a = decimals(values.iter().map(|(a, _)| within(*a, p1)).collect(), p1, s1.min(p1 as i8));
            let b = decimals(values.iter().map(|(_, b)| within(*b, p2)).collect(), p2, s2.min(p2 as i8));
            let scales = (a.scale(), b.scale());
            for (op, scale) in [
                (Operator::Plus, scales.0.max(scales.1) + more),
                (Operator::Minus, scales.0.max(scales.1) + more),
                (Operator::Multiply, scales.0 + scales.1),
                (Operator::Multiply, scales.0 + scales.1 - 1),
            ] {
                let Some(result) = exact(op, &a, &b, precision, scale) else { continue };
                for ((a, b), result) in a.iter().zip(&b).zip(&result) {
                    let expected = a.zip(b).map(|(a, b)| match op {
                        Operator::Plus => sum(a, b, scales, scale).unwrap(),
                        Operator::Minus => sum(a, -b, scales, scale).unwrap(),
                        _ => product(a, b, scales, scale).unwrap(),
                    });
                    prop_assert_eq!(result, expected);
                    prop_assert!(result.is_none_or(|value| fits(value, precision)));
                }
            }
        }
    }

    #[test]
    fn ordinary_decimals_are_exact() {
        let prices = decimals(vec![Some(1_050), None, Some(-99)], 15, 2);
        let rates = decimals(vec![Some(7), Some(5), Some(10)], 4, 3);
        let values = |result: Option<Decimal128Array>| result.map(|result| result.iter().collect::<Vec<_>>());
        assert_eq!(values(exact(Operator::Plus, &prices, &rates, 17, 3)), Some(vec![Some(10_507), None, Some(-980)]));
        assert_eq!(
            values(exact(Operator::Minus, &prices, &rates, 17, 3)),
            Some(vec![Some(10_493), None, Some(-1_000)])
        );
        assert_eq!(
            values(exact(Operator::Multiply, &prices, &rates, 20, 5)),
            Some(vec![Some(7_350), None, Some(-990)])
        );
        // Too many digits for the result, or for 128 bits.
        assert_eq!(values(exact(Operator::Multiply, &prices, &rates, 3, 5)), None);
        let long = decimals(vec![Some(10_i128.pow(37))], 38, 0);
        assert_eq!(values(exact(Operator::Plus, &long, &long, 38, 0)), None);
        assert_eq!(values(exact(Operator::Multiply, &long, &long, 38, 0)), None);
    }

    #[test]
    fn decimals_round_half_up() {
        assert_eq!(divide(10, 3, (0, 0), 6, false), Some(3_333_333));
        assert_eq!(divide(20, 3, (0, 0), 0, false), Some(7));
        assert_eq!(divide(-20, 3, (0, 0), 0, false), Some(-7));
        assert_eq!(divide(1, 2, (0, 0), 0, false), Some(1));
        assert_eq!(divide(20, 3, (0, 0), 0, true), Some(6));
        assert_eq!(product(15, 15, (1, 1), 1), Some(23));
        assert_eq!(sum(1, 25, (0, 2), 2), Some(125));
        assert_eq!(remainder(75, 2, (1, 0), 1), Some(15));
    }
}
