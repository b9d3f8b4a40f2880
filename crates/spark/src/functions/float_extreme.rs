//! `max` and `min` of floating-point numbers in groups: NaN is the greatest number there is, wherever it stands.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

/// What takes the place of `max` or `min` for values of `data_type`, if they are floating-point numbers.
pub(super) fn extreme(aggregate: &Arc<AggregateUDF>, data_type: &DataType) -> Option<Arc<AggregateUDF>> {
    if !data_type.is_floating() || aggregate.inner().is::<FloatExtreme>() {
        return None;
    }
    let greatest = match aggregate.name() {
        "max" => true,
        "min" => false,
        _ => return None,
    };
    Some(Arc::new(AggregateUDF::new_from_impl(FloatExtreme { greatest, other: Arc::clone(aggregate) })))
}

/// DataFusion's aggregate, which is right but for its groups: there it keeps what comes after NaN.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FloatExtreme {
    greatest: bool,
    other: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for FloatExtreme {
    fn name(&self) -> &str {
        self.other.name()
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
        self.other.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.other.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.other.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        Ok(Box::new(Extremes { greatest: self.greatest, result, values: Vec::new() }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.other.inner().set_monotonicity(data_type)
    }
}

/// The value of each group so far.
struct Extremes {
    greatest: bool,
    result: DataType,
    values: Vec<Option<f64>>,
}

impl Extremes {
    fn add(&mut self, group: usize, value: f64) {
        let is_better = |known: f64| if self.greatest { is_above(value, known) } else { is_above(known, value) };
        if self.values[group].is_none_or(is_better) {
            self.values[group] = Some(value);
        }
    }

    fn emitted(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let values: Float64Array = emit.take_needed(&mut self.values).into_iter().collect();
        Ok(cast(&values, &self.result)?)
    }
}

fn is_above(a: f64, b: f64) -> bool {
    a > b || (a.is_nan() && !b.is_nan())
}

impl GroupsAccumulator for Extremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.values.resize(total, None);
        let values = cast(&values[0], &DataType::Float64)?;
        for (row, (group, value)) in groups.iter().zip(values.as_primitive::<Float64Type>()).enumerate() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (true, Some(value)) = (counts, value) {
                self.add(*group, value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(states, groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.emitted(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emitted(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(vec![Arc::clone(&values[0])]) };
        let passed_over: BooleanArray = filter.iter().map(|counts| Some(counts != Some(true))).collect();
        Ok(vec![nullif(&values[0], &passed_over)?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<Option<f64>>()
    }
}
