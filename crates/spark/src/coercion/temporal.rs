//! Dates and time stamps plus and minus days and intervals, and minus each other.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, DurationMicrosecondArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit, TimestampMicrosecondType,
};
use chrono_tz::Tz;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::cast::calendar::{self, DAY};
use crate::cast::{CastMode, cast_array};
use crate::error::{Error, Result};
use crate::types::{IntervalUnits, timestamp, timestamp_ntz};

/// `left ± right` where the left is a date or a time stamp (the planner has put an interval to the right).
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemporalArithmetic {
    pub(crate) minus: bool,
    pub(crate) result: DataType,
    pub(crate) tz: Tz,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(2, Volatility::Immutable));

/// The result of `left ± right`, or `None` if there is no such calculation.
pub(super) fn result_type(left: &DataType, minus: bool, right: &DataType, value: &Expr) -> Option<DataType> {
    use DataType as T;
    let duration = T::Duration(TimeUnit::Microsecond);
    Some(match (left, right) {
        (T::Date32, T::Int8 | T::Int16 | T::Int32) => T::Date32,
        (T::Date32, T::Date32) if minus => duration,
        (T::Date32 | T::Timestamp(..), T::Date32 | T::Timestamp(..)) if minus => duration,
        (T::Date32, T::Duration(_) | T::Interval(_)) if has_time(value) => timestamp(),
        (T::Date32, T::Duration(_) | T::Interval(_)) => T::Date32,
        (T::Timestamp(..), T::Duration(_) | T::Interval(_)) => left.clone(),
        (T::Duration(_), T::Duration(_)) => duration,
        (T::Interval(a), T::Interval(b)) if a == b => left.clone(),
        (T::Interval(_) | T::Duration(_), T::Interval(_) | T::Duration(_)) => T::Interval(IntervalUnit::MonthDayNano),
        _ => return None,
    })
}

/// Whether an interval is known to have hours or less.
fn has_time(value: &Expr) -> bool {
    match value {
        // An interval that counts hours or less has them, even if there are none.
        Expr::Literal(ScalarValue::DurationMicrosecond(Some(v)), Some(metadata)) => {
            let units = IntervalUnits::of_literal(&DataType::Duration(TimeUnit::Microsecond), Some(metadata));
            units.is_some_and(|units| units.last > 0) || v % DAY != 0
        }
        Expr::Literal(ScalarValue::DurationMicrosecond(Some(v)), None) => v % DAY != 0,
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(v)), _) => v.nanoseconds != 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(v)), _) => v.milliseconds != 0,
        _ => false,
    }
}

impl ScalarUDFImpl for TemporalArithmetic {
    fn name(&self) -> &str {
        if self.minus { "spark_time_subtract" } else { "spark_time_add" }
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(args.join(if self.minus { " - " } else { " + " }))
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result.clone())
    }

    /// A sum of intervals counts the units of both.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let field = Field::new(self.name(), self.result.clone(), args.arg_fields.iter().any(|f| f.is_nullable()));
        let dates = args.arg_fields.iter().all(|operand| operand.data_type() == &DataType::Date32);
        if dates {
            return Ok(Arc::new(IntervalUnits { first: 0, last: 0 }.on(field)));
        }
        let units: Vec<_> = args
            .arg_fields
            .iter()
            .filter(|operand| operand.data_type() == &self.result)
            .filter_map(|operand| IntervalUnits::of_field(operand))
            .collect();
        Ok(Arc::new(match units.as_slice() {
            [left, right] => left.with(*right).on(field),
            _ => field,
        }))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("a sum of times takes two operands".to_owned()));
        };
        let result = self.evaluate(&left.to_array(rows)?, &right.to_array(rows)?)?;
        Ok(if scalars {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

impl TemporalArithmetic {
    fn evaluate(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
        let sign = if self.minus { -1 } else { 1 };
        match (left.data_type(), right.data_type()) {
            (DataType::Date32, kind) if kind.is_integer() => {
                let days = cast_array(right, &DataType::Int32, CastMode::Ansi, self.tz)?;
                let sums: Date32Array =
                    zip(left.as_primitive::<Date32Type>(), days.as_primitive::<Int32Type>(), |a, b| {
                        a.wrapping_add(b.wrapping_mul(sign))
                    });
                Ok(Arc::new(sums))
            }
            // What lies between the clocks, which is not what has passed if they changed meanwhile.
            (DataType::Date32 | DataType::Timestamp(..), DataType::Date32 | DataType::Timestamp(..)) => {
                let left = cast_array(left, &timestamp_ntz(), CastMode::Ansi, self.tz)?;
                let right = cast_array(right, &timestamp_ntz(), CastMode::Ansi, self.tz)?;
                let (a, b) = (left.as_primitive::<TimestampMicrosecondType>(), right.as_primitive());
                let spans: DurationMicrosecondArray =
                    zip::<_, TimestampMicrosecondType, _>(a, b, |a, b| a.wrapping_sub(b));
                Ok(Arc::new(spans))
            }
            (DataType::Date32 | DataType::Timestamp(..), _) => self.add_interval(left, right, sign),
            _ => {
                let calendar = DataType::Interval(IntervalUnit::MonthDayNano);
                let left = cast_array(left, &calendar, CastMode::Ansi, self.tz)?;
                let right = cast_array(right, &calendar, CastMode::Ansi, self.tz)?;
                let (a, b) = (left.as_primitive::<IntervalMonthDayNanoType>(), right.as_primitive());
                let sums: PrimitiveArray<IntervalMonthDayNanoType> =
                    zip::<_, IntervalMonthDayNanoType, _>(a, b, |a, b| {
                        IntervalMonthDayNano::new(
                            a.months + sign * b.months,
                            a.days + sign * b.days,
                            a.nanoseconds + i64::from(sign) * b.nanoseconds,
                        )
                    });
                cast_array(&(Arc::new(sums) as ArrayRef), &self.result, CastMode::Ansi, self.tz)
            }
        }
    }

    fn add_interval(&self, left: &ArrayRef, right: &ArrayRef, sign: i32) -> Result<ArrayRef> {
        let calendar = DataType::Interval(IntervalUnit::MonthDayNano);
        let intervals = cast_array(right, &calendar, CastMode::Ansi, self.tz)?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        if self.result == DataType::Date32 {
            let sums: Date32Array = zip(left.as_primitive::<Date32Type>(), intervals, |days, v| {
                let time = v.nanoseconds / 1000 / DAY;
                let moved = calendar::add_months(i64::from(days), i64::from(sign * v.months));
                (moved + i64::from(sign) * (i64::from(v.days) + time)) as i32
            });
            return Ok(Arc::new(sums));
        }
        let DataType::Timestamp(_, zone) = &self.result else {
            return Err(Error::internal("a time plus an interval is neither a date nor a time stamp"));
        };
        let tz = if zone.is_some() { self.tz } else { Tz::UTC };
        let left = cast_array(left, &self.result, CastMode::Ansi, tz)?;
        let sums: PrimitiveArray<TimestampMicrosecondType> =
            zip(left.as_primitive::<TimestampMicrosecondType>(), intervals, |micros, v| {
                let sign = i64::from(sign);
                let mut moved = micros;
                if v.months != 0 || v.days != 0 {
                    let local = calendar::to_local(micros, tz);
                    let days = calendar::add_months(local.div_euclid(DAY), sign * i64::from(v.months));
                    let days = days + sign * i64::from(v.days);
                    moved = calendar::from_local(days * DAY + local.rem_euclid(DAY), tz);
                }
                moved + sign * (v.nanoseconds / 1000)
            });
        Ok(Arc::new(sums.with_timezone_opt(zone.clone())))
    }
}

fn zip<A, B, O>(
    left: &PrimitiveArray<A>,
    right: &PrimitiveArray<B>,
    op: impl Fn(A::Native, B::Native) -> O::Native,
) -> PrimitiveArray<O>
where
    A: arrow::datatypes::ArrowPrimitiveType,
    B: arrow::datatypes::ArrowPrimitiveType,
    O: arrow::datatypes::ArrowPrimitiveType,
{
    left.iter().zip(right).map(|(a, b)| Some(op(a?, b?))).collect()
}

fn interval_by_zero() -> Error {
    Error::data("an interval divided by zero")
        .with_condition("INTERVAL_DIVIDED_BY_ZERO")
        .with_help("Use `try_divide` to get NULL instead.")
}

/// An interval times or divided by a number.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct IntervalMultiple {
    pub(crate) divide: bool,
    pub(crate) result: DataType,
}

impl ScalarUDFImpl for IntervalMultiple {
    fn name(&self) -> &str {
        if self.divide { "spark_interval_divide" } else { "spark_interval_multiply" }
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(args.join(if self.divide { " / " } else { " * " }))
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [span, factor] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("a multiple of an interval takes two operands".to_owned()));
        };
        let calendar = DataType::Interval(IntervalUnit::MonthDayNano);
        let span = cast_array(&span.to_array(args.number_rows)?, &calendar, CastMode::Ansi, Tz::UTC)?;
        let factor = factor.to_array(args.number_rows)?;
        let multiples: PrimitiveArray<IntervalMonthDayNanoType> = span
            .as_primitive::<IntervalMonthDayNanoType>()
            .iter()
            .zip(factor.as_primitive::<arrow::datatypes::Float64Type>())
            .map(|(span, factor)| {
                let (Some(span), Some(factor)) = (span, factor) else { return Ok(None) };
                if self.divide && factor == 0.0 {
                    return Err(interval_by_zero());
                }
                let times = |value: f64| if self.divide { value / factor } else { value * factor };
                let micros = times(f64::from(span.days) * DAY as f64 + (span.nanoseconds / 1000) as f64).round() as i64;
                let months = times(f64::from(span.months)).round() as i32;
                Ok(Some(IntervalMonthDayNano::new(months, (micros / DAY) as i32, micros % DAY * 1000)))
            })
            .collect::<Result<_>>()?;
        let result = cast_array(&(Arc::new(multiples) as ArrayRef), &self.result, CastMode::Ansi, Tz::UTC)?;
        Ok(ColumnarValue::Array(result))
    }
}
