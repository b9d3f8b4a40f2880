//! `sum`: DataFusion's, but where a sum may have too many digits. Those of decimals are NULL then, or an error in ANSI
//! mode, in which those of integers are an error too; DataFusion's wrap around.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, i256};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::sum::sum_udaf as plain_sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use super::sliding::FloatsInFrame;
use crate::coercion::overflow;

/// The aggregate.
pub(super) fn sum_udaf(ansi: bool) -> Arc<AggregateUDF> {
    fn sum(ansi: bool) -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::new_from_impl(Sum { ansi, other: plain_sum() }))
    }
    static ANSI: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| sum(true));
    static LENIENT: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| sum(false));
    Arc::clone(if ansi { &ANSI } else { &LENIENT })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    ansi: bool,
    other: Arc<AggregateUDF>,
}

impl Sum {
    /// The limits of sums of that type; `None` if DataFusion's are as good.
    fn limits(&self, result: &DataType, distinct: bool) -> Option<Limits> {
        let least = match result {
            _ if distinct => return None,
            DataType::Int64 if self.ansi => i128::from(i64::MIN),
            DataType::Decimal128(precision, _) => -(10_i128.pow(u32::from(*precision)) - 1),
            _ => return None,
        };
        let most = if result == &DataType::Int64 { i128::from(i64::MAX) } else { -least };
        Some(Limits { ansi: self.ansi, least, most })
    }

    fn of(&self, args: &AccumulatorArgs<'_>, groups: usize) -> Option<Sums> {
        let result = args.return_field.data_type();
        let limits = self.limits(result, args.is_distinct)?;
        Some(Sums { limits, result: result.clone(), sums: vec![Total::NOTHING; groups] })
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.other.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.other.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.other.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match self.limits(args.return_field.data_type(), args.is_distinct) {
            Some(_) => {
                let name = format_state_name(args.name, "sum");
                Ok(vec![Arc::new(Field::new(name, args.return_field.data_type().clone(), true))])
            }
            None => self.other.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.of(&args, 1) {
            Some(sums) => Ok(Box::new(sums)),
            None => self.other.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.of(&args, 0).is_some() || self.other.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.of(&args, 0) {
            Some(sums) => Ok(Box::new(sums)),
            None => self.other.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.of(&args, 1) {
            Some(sums) => Ok(Box::new(Sliding { limits: sums.limits, result: sums.result, sum: i256::ZERO, rows: 0 })),
            None if args.return_field.data_type() == &DataType::Float64 && !args.is_distinct => {
                Ok(Box::new(FloatsInFrame::new(false)))
            }
            None => self.other.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.other.inner().set_monotonicity(data_type)
    }
}

/// Between what a sum must lie, and whether it is an error if it does not.
#[derive(Debug, Clone, Copy)]
struct Limits {
    ansi: bool,
    least: i128,
    most: i128,
}

impl Limits {
    fn check(self, sum: Option<i128>) -> Result<Total> {
        match sum {
            Some(sum) if (self.least..=self.most).contains(&sum) => Ok(Total(sum)),
            _ if self.ansi => Err(overflow("a sum").into()),
            _ => Ok(Total::TOO_MUCH),
        }
    }
}

/// A sum so far, in the space of a number: those that are none are beyond all limits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total(i128);

impl Total {
    /// Of no values.
    const NOTHING: Self = Self(i128::MIN);
    /// Written as it is in a state.
    const TOO_MUCH: Self = Self(i128::MAX);

    fn state(self) -> Option<i128> {
        (self != Self::NOTHING).then_some(self.0)
    }

    fn value(self) -> Option<i128> {
        self.state().filter(|_| self != Self::TOO_MUCH)
    }

    #[inline]
    fn plus(self, other: Self, limits: Limits) -> Result<Self> {
        if self == Self::NOTHING {
            return Ok(other);
        }
        if self == Self::TOO_MUCH || other == Self::TOO_MUCH {
            return Ok(Self::TOO_MUCH);
        }
        limits.check(self.0.checked_add(other.0))
    }
}

/// The sum of each group.
#[derive(Debug)]
struct Sums {
    limits: Limits,
    result: DataType,
    sums: Vec<Total>,
}

impl Sums {
    #[inline]
    fn add(&mut self, group: usize, value: i128) -> Result<()> {
        self.sums[group] = self.sums[group].plus(Total(value), self.limits)?;
        Ok(())
    }

    fn emitted(&mut self, emit: EmitTo) -> Vec<Total> {
        emit.take_needed(&mut self.sums)
    }
}

/// Visits the values of the first column that are not NULL, as 128 bits, with their rows.
fn visit(values: &[ArrayRef], visit: impl FnMut(usize, i128) -> Result<()>) -> Result<()> {
    let unexpected = || DataFusionError::Internal("a sum of neither integers nor decimals".to_owned());
    let array = values.first().ok_or_else(unexpected)?;
    match array.data_type() {
        DataType::Int64 => visit_numbers(array.as_primitive::<Int64Type>(), visit),
        DataType::Decimal128(..) => visit_numbers(array.as_primitive::<Decimal128Type>(), visit),
        _ => Err(unexpected()),
    }
}

fn visit_numbers<T: ArrowPrimitiveType<Native: Into<i128>>>(
    array: &PrimitiveArray<T>,
    mut visit: impl FnMut(usize, i128) -> Result<()>,
) -> Result<()> {
    let values = array.values();
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => values.iter().enumerate().try_for_each(|(row, value)| visit(row, (*value).into())),
        Some(nulls) => nulls.valid_indices().try_for_each(|row| visit(row, values[row].into())),
    }
}

/// Whether an aggregate's filter lets a row in.
pub(super) fn counts(filter: &BooleanArray, row: usize) -> bool {
    filter.is_valid(row) && filter.value(row)
}

fn column(values: impl ExactSizeIterator<Item = Option<i128>> + Clone, data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Decimal128(precision, scale) => {
            let decimals = match values.clone().all(|value| value.is_some()) {
                true => Decimal128Array::from_iter_values(values.flatten()),
                false => values.collect(),
            };
            Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
        }
        // Checked against the limits of a long before.
        _ => Arc::new(values.map(|v| v.map(|v| v as i64)).collect::<Int64Array>()),
    })
}

fn scalar(value: Option<i128>, data_type: &DataType) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&column(std::iter::once(value), data_type)?, 0)
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        visit(values, |_, value| self.add(0, value))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        visit(states, |_, value| self.add(0, value))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        scalar(self.sums[0].value(), &self.result)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![scalar(self.sums[0].state(), &self.result)?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<Total>()
    }
}

impl GroupsAccumulator for Sums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, Total::NOTHING);
        visit(values, |row, value| match filter {
            Some(filter) if !counts(filter, row) => Ok(()),
            _ => self.add(groups[row], value),
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.sums.resize(total, Total::NOTHING);
        visit(states, |row, value| self.add(groups[row], value))
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        column(self.emitted(emit).iter().map(|total| total.value()), &self.result)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![column(self.emitted(emit).iter().map(|total| total.state()), &self.result)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut states = vec![None; rows];
        visit(values, |row, value| {
            states[row] = filter.is_none_or(|filter| counts(filter, row)).then_some(value);
            Ok(())
        })?;
        Ok(vec![column(states.into_iter(), &self.result)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Total>()
    }
}

/// The sum of the rows of a moving window, wide enough for those on their way out.
#[derive(Debug)]
struct Sliding {
    limits: Limits,
    result: DataType,
    sum: i256,
    rows: u64,
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        visit(values, |_, value| {
            self.sum = self.sum.wrapping_add(i256::from_i128(value));
            self.rows += 1;
            Ok(())
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        visit(values, |_, value| {
            self.sum = self.sum.wrapping_sub(i256::from_i128(value));
            self.rows -= 1;
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("windows are not merged".to_owned()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = if self.rows == 0 { Total::NOTHING } else { self.limits.check(self.sum.to_i128())? };
        scalar(total.value(), &self.result)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a window has no state".to_owned()))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check;

    #[tokio::test]
    async fn sums_of_integers_fail_in_ansi_mode() {
        let failed = Err("ARITHMETIC_OVERFLOW");
        let rows = "(VALUES (1, 9223372036854775807), (1, 1)) t(g, x)";
        check(&format!("(SELECT sum(x) FROM {rows})"), Ok("-9223372036854775808"), failed).await;
        let grouped = format!("(SELECT max(s) FROM (SELECT sum(x) AS s FROM {rows} GROUP BY g) u)");
        check(&grouped, Ok("-9223372036854775808"), failed).await;
        let window = "sum(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
        check(
            &format!("(SELECT min(s) FROM (SELECT {window} AS s FROM {rows}) u)"),
            Ok("-9223372036854775808"),
            failed,
        )
        .await;
        let moving = "(VALUES (1, -9223372036854775807), (1, 9223372036854775807), (1, 0)) t(g, x)";
        check(
            &format!("(SELECT min(s) FROM (SELECT {window} AS s FROM {moving}) u)"),
            Ok("-9223372036854775807"),
            Ok("-9223372036854775807"),
        )
        .await;
        check("(SELECT sum(x) FROM (VALUES (CAST(NULL AS BIGINT))) t(x))", Ok("NULL"), Ok("NULL")).await;
    }

    #[tokio::test]
    async fn sums_of_decimals_are_null_or_fail() {
        let failed = Err("ARITHMETIC_OVERFLOW");
        let nines = "9".repeat(38);
        let rows =
            |last: i64| format!("(VALUES (CAST('{nines}' AS DECIMAL(38,0))), (CAST({last} AS DECIMAL(38,0)))) t(x)");
        check(&format!("(SELECT sum(x) FROM {})", rows(1)), Ok("NULL"), failed).await;
        let fits = format!("{}8", "9".repeat(37));
        check(&format!("(SELECT sum(x) FROM {})", rows(-1)), Ok(&fits), Ok(&fits)).await;
    }
}
