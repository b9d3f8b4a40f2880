//! Aggregates over frames that slide: as in Spark, each frame is computed anew.
//!
//! DataFusion takes the rows that leave a frame from its accumulators again. Most cannot do that, and those of floating-point
//! numbers keep something of what they saw: rounding of a large number, and NaN for good.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::gather;
use super::wrapped::face_of_inner;

/// `aggregate` as it is called over a frame whose start moves.
pub(super) fn over_sliding_frame(aggregate: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let takes_rows_back = matches!(aggregate.name(), "avg" | "count" | "max" | "min" | "sum");
    if takes_rows_back || gather::is_gathered(aggregate) || aggregate.inner().is::<Anew>() {
        return Arc::clone(aggregate);
    }
    Arc::new(AggregateUDF::new_from_impl(Anew(Arc::clone(aggregate))))
}

/// An aggregate that is computed anew for every frame.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Anew(Arc<AggregateUDF>);

impl AggregateUDFImpl for Anew {
    face_of_inner!();

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Frame { call: Call::new(&self.0, &args), rows: VecDeque::new() }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.0.reverse_udf() {
            ReversedUDAF::Reversed(other) => ReversedUDAF::Reversed(over_sliding_frame(&other)),
            same => same,
        }
    }
}

/// What accumulators of one call are made from.
#[derive(Debug)]
struct Call {
    aggregate: Arc<AggregateUDF>,
    return_field: FieldRef,
    schema: Schema,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    is_reversed: bool,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Call {
    fn new(aggregate: &Arc<AggregateUDF>, args: &AccumulatorArgs<'_>) -> Self {
        Self {
            aggregate: Arc::clone(aggregate),
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            is_reversed: args.is_reversed,
            name: args.name.to_owned(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        self.aggregate.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: self.is_reversed,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// The arguments of the rows in a frame, in the pieces in which they came.
#[derive(Debug)]
struct Frame {
    call: Call,
    rows: VecDeque<Vec<ArrayRef>>,
}

fn len(rows: &[ArrayRef]) -> usize {
    rows.first().map_or(0, |column| column.len())
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.push_back(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut gone = len(values);
        while let Some(first) = self.rows.front_mut() {
            let there = len(first);
            if gone < there {
                for column in first {
                    *column = column.slice(gone, there - gone);
                }
                break;
            }
            gone -= there;
            self.rows.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("windows are not merged".to_owned()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut accumulator = self.call.accumulator()?;
        for rows in &self.rows {
            accumulator.update_batch(rows)?;
        }
        accumulator.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a window has no state".to_owned()))
    }

    fn size(&self) -> usize {
        let arrays = self.rows.iter().flatten().map(|column| column.get_array_memory_size());
        size_of_val(self) + arrays.sum::<usize>()
    }
}

/// The sum, or the average, of the numbers in a frame that slides. As [`Frame`], for the two that are frequent.
#[derive(Debug)]
pub(super) struct FloatsInFrame {
    average: bool,
    values: VecDeque<f64>,
}

impl FloatsInFrame {
    /// Of no numbers.
    pub(super) fn new(average: bool) -> Self {
        Self { average, values: VecDeque::new() }
    }
}

fn floats(values: &[ArrayRef]) -> Result<Vec<f64>> {
    let values = cast(&values[0], &DataType::Float64)?;
    Ok(values.as_primitive::<Float64Type>().iter().flatten().collect())
}

impl Accumulator for FloatsInFrame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.extend(floats(values)?);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.drain(..floats(values)?.len());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(DataFusionError::Internal("windows are not merged".to_owned()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.values.is_empty() {
            return Ok(ScalarValue::Float64(None));
        }
        let sum: f64 = self.values.iter().sum();
        Ok(ScalarValue::Float64(Some(if self.average { sum / self.values.len() as f64 } else { sum })))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(DataFusionError::Internal("a window has no state".to_owned()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }
}
