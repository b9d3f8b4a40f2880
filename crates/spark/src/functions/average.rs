//! `avg`: DataFusion's, but for decimals, whose averages Spark rounds half up where DataFusion cuts them off.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, i256};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};

use super::sliding::FloatsInFrame;
use super::sum::counts;

/// The aggregate.
pub(super) fn average_udaf() -> Arc<AggregateUDF> {
    static AVERAGE: LazyLock<Arc<AggregateUDF>> =
        LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(Average { other: avg_udaf() })));
    Arc::clone(&AVERAGE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    other: Arc<AggregateUDF>,
}

/// How sums of decimals become averages.
#[derive(Debug, Clone, Copy)]
struct Division {
    sum_precision: u8,
    /// One more than the greatest sum.
    sum_limit: u128,
    scale: i8,
    precision: u8,
    /// One more than the greatest average.
    limit: u128,
    /// By what a sum is multiplied before it is divided: the scales' difference.
    factor: i128,
}

impl Division {
    /// `None` for other types than decimals.
    fn of(input: &DataType, output: &DataType) -> Option<Self> {
        let (DataType::Decimal128(p, s), DataType::Decimal128(precision, scale)) = (input, output) else { return None };
        let digits = u32::try_from(i16::from(*scale) - i16::from(*s)).ok()?;
        let factor = 10_i128.checked_pow(digits)?;
        let sum_precision = (p + 10).min(38);
        let limit = |digits: u8| 10_u128.pow(u32::from(digits));
        Some(Self {
            sum_precision,
            sum_limit: limit(sum_precision),
            scale: *scale,
            precision: *precision,
            limit: limit(*precision),
            factor,
        })
    }

    /// The average, rounded half up; `None` if it has too many digits.
    fn divide(self, sum: i128, count: i64) -> Option<i128> {
        let rounded = match sum.checked_mul(self.factor) {
            // Wider divisions take many times as long.
            Some(scaled) => match i64::try_from(scaled) {
                Ok(scaled) => {
                    let away = scaled.signum() * i64::from(rounds_away((scaled % count).unsigned_abs(), count));
                    i128::from(scaled / count) + i128::from(away)
                }
                Err(_) => {
                    let (rest, count) = (scaled % i128::from(count), i128::from(count));
                    scaled / count + scaled.signum() * i128::from(rest.unsigned_abs() * 2 >= count.unsigned_abs())
                }
            },
            None => self.divide_wide(sum, count)?,
        };
        below(rounded, self.limit)
    }

    /// The same where a sum with the digits of an average has more than 128 bits.
    fn divide_wide(self, sum: i128, count: i64) -> Option<i128> {
        let count = i256::from_i128(i128::from(count));
        let scaled = i256::from_i128(sum).checked_mul(i256::from_i128(self.factor))?;
        let (quotient, rest) = (scaled.checked_div(count)?, scaled.checked_rem(count)?);
        let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
        let away = if scaled.is_negative() { i256::MINUS_ONE } else { i256::ONE };
        let rounded = if twice >= count { quotient.wrapping_add(away) } else { quotient };
        rounded.to_i128()
    }
}

/// Whether what is left of a division is half of the divisor, or more.
fn rounds_away(rest: u64, divisor: i64) -> bool {
    // The rest is less than the divisor, so twice as much fits.
    rest * 2 >= divisor.unsigned_abs()
}

/// `value`, if it is nearer to zero than `limit`.
fn below(value: i128, limit: u128) -> Option<i128> {
    (value.unsigned_abs() < limit).then_some(value)
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
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
        match (args.input_fields.first().map(|field| field.data_type()), args.return_field.data_type()) {
            (Some(input @ DataType::Decimal128(_, scale)), output) if !args.is_distinct => {
                let precision = Division::of(input, output).map_or(38, |division| division.sum_precision);
                Ok(vec![
                    Arc::new(Field::new("count", DataType::Int64, true)),
                    Arc::new(Field::new("sum", DataType::Decimal128(precision, *scale), true)),
                ])
            }
            _ => self.other.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let input = args.expr_fields.first().map(|field| field.data_type().clone());
        match input.and_then(|input| Some((Division::of(&input, args.return_field.data_type())?, input))) {
            Some((division, input)) if !args.is_distinct => Ok(Box::new(Averages::new(division, &input, 1))),
            _ => self.other.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match args.return_field.data_type() {
            DataType::Decimal128(..) => !args.is_distinct,
            _ => self.other.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let input = args.expr_fields.first().map(|field| field.data_type().clone());
        match input.and_then(|input| Some((Division::of(&input, args.return_field.data_type())?, input))) {
            Some((division, input)) => Ok(Box::new(Averages::new(division, &input, 0))),
            None => self.other.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            DataType::Decimal128(..) => self.accumulator(args),
            DataType::Float64 if !args.is_distinct => Ok(Box::new(FloatsInFrame::new(true))),
            _ => self.other.create_sliding_accumulator(args),
        }
    }

    fn is_nullable(&self) -> bool {
        true
    }
}

/// Count and sum of a group, side by side: of many groups, each row asks for another one.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Beyond all limits if it has had too many digits.
    sum: i128,
    count: i64,
}

impl State {
    const NOTHING: Self = Self { sum: 0, count: 0 };
    const TOO_MUCH: i128 = i128::MAX;

    #[inline]
    fn add(&mut self, count: i64, sum: i128, limit: u128) {
        self.count += count;
        self.sum = match (self.sum, sum) {
            (Self::TOO_MUCH, _) | (_, Self::TOO_MUCH) => Self::TOO_MUCH,
            (a, b) => a.checked_add(b).and_then(|sum| below(sum, limit)).unwrap_or(Self::TOO_MUCH),
        };
    }

    /// The sum, if it has not had too many digits.
    fn sum(&self) -> Option<i128> {
        (self.sum != Self::TOO_MUCH).then_some(self.sum)
    }
}

/// Count and sum of each group.
#[derive(Debug)]
struct Averages {
    division: Division,
    input_scale: i8,
    groups: Vec<State>,
}

impl Averages {
    fn new(division: Division, input: &DataType, groups: usize) -> Self {
        let input_scale = if let DataType::Decimal128(_, scale) = input { *scale } else { 0 };
        Self { division, input_scale, groups: vec![State::NOTHING; groups] }
    }

    #[inline]
    fn add(&mut self, group: usize, count: i64, sum: i128) {
        self.groups[group].add(count, sum, self.division.sum_limit);
    }

    fn grow(&mut self, groups: usize) {
        self.groups.resize(groups, State::NOTHING);
    }

    fn averages(&self, groups: &[State]) -> Result<Decimal128Array> {
        let average = |group: &State| match (group.count, group.sum()) {
            (0, _) | (_, None) => None,
            (count, Some(sum)) => self.division.divide(sum, count),
        };
        let values: Decimal128Array = groups.iter().map(average).collect();
        Ok(values.with_precision_and_scale(self.division.precision, self.division.scale)?)
    }

    fn states(&self, groups: &[State]) -> Result<Vec<ArrayRef>> {
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| group.count));
        let sums: Decimal128Array = match groups.iter().all(|group| group.sum().is_some()) {
            true => Decimal128Array::from_iter_values(groups.iter().map(|group| group.sum)),
            false => groups.iter().map(State::sum).collect(),
        };
        let sums = sums.with_precision_and_scale(self.division.sum_precision, self.input_scale)?;
        Ok(vec![Arc::new(counts), Arc::new(sums)])
    }
}

fn decimals(values: &[ArrayRef]) -> Result<&PrimitiveArray<Decimal128Type>> {
    values
        .first()
        .and_then(|values| values.as_primitive_opt())
        .ok_or_else(|| DataFusionError::Internal("an average of decimals got something else".to_owned()))
}

fn counts_and_sums(states: &[ArrayRef]) -> Result<(&PrimitiveArray<Int64Type>, &PrimitiveArray<Decimal128Type>)> {
    let states = states
        .first()
        .and_then(|counts| counts.as_primitive_opt())
        .zip(states.get(1).and_then(|sums| sums.as_primitive_opt()));
    states.ok_or_else(|| DataFusionError::Internal("an average of decimals got another state".to_owned()))
}

impl Accumulator for Averages {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        decimals(values)?.iter().flatten().for_each(|value| self.add(0, 1, value));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        decimals(values)?.iter().flatten().for_each(|value| self.add(0, -1, -value));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (counts, sums) = counts_and_sums(states)?;
        let sums = sums.iter().map(|sum| sum.unwrap_or(State::TOO_MUCH));
        counts.values().iter().zip(sums).for_each(|(count, sum)| self.add(0, *count, sum));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.averages(&self.groups)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.states(&self.groups)?.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

impl GroupsAccumulator for Averages {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let values = decimals(values)?;
        if filter.is_none() && values.null_count() == 0 {
            groups.iter().zip(values.values()).for_each(|(group, value)| self.add(*group, 1, *value));
            return Ok(());
        }
        for (row, group) in groups.iter().enumerate() {
            let is_in = filter.is_none_or(|filter| counts(filter, row));
            if is_in && values.is_valid(row) {
                self.add(*group, 1, values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let (counts, sums) = counts_and_sums(states)?;
        for ((count, sum), group) in counts.values().iter().zip(sums).zip(groups) {
            self.add(*group, *count, sum.unwrap_or(State::TOO_MUCH));
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = emit.take_needed(&mut self.groups);
        Ok(Arc::new(self.averages(&groups)?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit.take_needed(&mut self.groups);
        self.states(&groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = decimals(values)?;
        let state = |row: usize| {
            let is_in = filter.is_none_or(|filter| counts(filter, row));
            match is_in && values.is_valid(row) {
                true => State { sum: values.value(row), count: 1 },
                false => State::NOTHING,
            }
        };
        self.states(&(0..values.len()).map(state).collect::<Vec<_>>())
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<State>()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn averages() -> Averages {
        let input = DataType::Decimal128(2, 1);
        Averages::new(Division::of(&input, &DataType::Decimal128(6, 5)).unwrap(), &input, 1)
    }

    fn column(values: &[Option<i128>]) -> ArrayRef {
        let values: Decimal128Array = values.iter().copied().collect();
        Arc::new(values.with_precision_and_scale(2, 1).unwrap())
    }

    #[test]
    fn averages_are_rounded_half_up() {
        let of = |values: &[Option<i128>]| {
            let mut averages = averages();
            Accumulator::update_batch(&mut averages, &[column(values)]).unwrap();
            Accumulator::evaluate(&mut averages).unwrap().to_string()
        };
        assert_eq!(of(&[Some(10), Some(10), Some(0)]), "0.66667");
        assert_eq!(of(&[Some(-10), Some(-10), Some(0), None]), "-0.66667");
        assert_eq!(of(&[Some(1), Some(0), Some(0)]), "0.03333");
        assert_eq!(of(&[None]), "NULL");
    }

    #[test]
    fn divisions_of_all_widths_round_alike() {
        let division = |digits| Division::of(&DataType::Decimal128(18, 1), &DataType::Decimal128(38, digits)).unwrap();
        // In 64, in 128 and in 256 bits.
        for division in [division(2), division(22), division(38)] {
            for (sum, count) in [(7, 2), (-7, 2), (5, 10), (-5, 10), (1, 3), (-2, 3), (0, 9), (i128::from(i64::MAX), 7)]
            {
                let wide = division.divide_wide(sum, count).and_then(|average| below(average, division.limit));
                assert_eq!(division.divide(sum, count), wide, "{sum} / {count}, {division:?}");
            }
        }
        assert_eq!(division(2).divide(1, 20), Some(1));
        assert_eq!(division(2).divide(-1, 20), Some(-1));
        assert_eq!(division(2).divide(1, 21), Some(0));
    }

    #[test]
    fn rows_leave_a_window_and_states_are_merged() {
        let mut window = averages();
        Accumulator::update_batch(&mut window, &[column(&[Some(10), Some(20), None])]).unwrap();
        window.retract_batch(&[column(&[Some(10), None])]).unwrap();
        assert_eq!(Accumulator::evaluate(&mut window).unwrap().to_string(), "2.00000");
        let mut groups = Averages { groups: Vec::new(), ..averages() };
        let filter = BooleanArray::from(vec![true, true, false]);
        let states = groups.convert_to_state(&[column(&[Some(10), None, Some(5)])], Some(&filter)).unwrap();
        GroupsAccumulator::merge_batch(&mut groups, &states, &[0, 1, 0], 2).unwrap();
        let result = GroupsAccumulator::evaluate(&mut groups, EmitTo::All).unwrap();
        assert_eq!(
            format!("{:?}", result.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>()),
            "[Some(100000), None]"
        );
    }
}
