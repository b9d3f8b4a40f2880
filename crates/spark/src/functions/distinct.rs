//! `f(DISTINCT x)` for aggregates that do not look for equal values themselves.
//!
//! DataFusion tells an aggregate that its values are to be distinct, and most pay no attention. It only helps where all aggregates of
//! a query are over the same distinct column, by grouping twice.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl};

use super::gather;
use super::wrapped::face_of_inner;
use crate::types::array;

/// Those that give the right answer themselves, some because equal values do not matter to them.
const MINDFUL: [&str; 9] = ["avg", "bit_and", "bit_or", "bool_and", "bool_or", "count", "max", "min", "sum"];

/// `aggregate` of so many arguments as it is called with DISTINCT.
pub(super) fn over_distinct(aggregate: &Arc<AggregateUDF>, args: usize) -> Arc<AggregateUDF> {
    let is_mindful = MINDFUL.contains(&aggregate.name()) && args == 1 || gather::is_gathered(aggregate);
    if is_mindful || aggregate.inner().is::<Distinct>() {
        return Arc::clone(aggregate);
    }
    Arc::new(AggregateUDF::new_from_impl(Distinct(Arc::clone(aggregate))))
}

/// An aggregate that sees every row of arguments once.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Distinct(Arc<AggregateUDF>);

impl AggregateUDFImpl for Distinct {
    face_of_inner!();

    /// The distinct values of each argument, as many of each.
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let state = |(at, field): (usize, &FieldRef)| {
            let name = format_state_name(args.name, &format!("distinct{at}"));
            Arc::new(Field::new(name, array(field.data_type().clone()), true))
        };
        Ok(args.input_fields.iter().enumerate().map(state).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types = args.expr_fields.iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(types.collect())?;
        let inner = self.0.accumulator(AccumulatorArgs { is_distinct: false, ..args })?;
        Ok(Box::new(DistinctRows { inner, converter, seen: HashSet::new(), rows: Vec::new(), bytes: 0 }))
    }
}

#[derive(Debug)]
struct DistinctRows {
    inner: Box<dyn Accumulator>,
    converter: RowConverter,
    seen: HashSet<Arc<OwnedRow>>,
    /// What was seen, in the order in which it came.
    rows: Vec<Arc<OwnedRow>>,
    bytes: usize,
}

impl Accumulator for DistinctRows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values: Vec<ArrayRef> = values.iter().map(one_zero).collect();
        let rows = self.converter.convert_columns(&values)?;
        let mut is_new = Vec::with_capacity(rows.num_rows());
        for row in &rows {
            let row = Arc::new(row.owned());
            let new = self.seen.insert(Arc::clone(&row));
            if new {
                self.bytes += row.as_ref().as_ref().len();
                self.rows.push(row);
            }
            is_new.push(new);
        }
        let is_new = BooleanArray::from(is_new);
        let new = values.iter().map(|column| filter(column, &is_new)).collect::<Result<Vec<_>, _>>()?;
        self.inner.update_batch(&new)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = states.first().map_or(0, |state| state.len());
        for group in 0..groups {
            let values: Vec<ArrayRef> = states.iter().map(|state| state.as_list::<i32>().value(group)).collect();
            self.update_batch(&values)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.converter.convert_rows(self.rows.iter().map(|row| row.row()))?;
        Ok(columns.into_iter().map(|column| SingleRowListArrayBuilder::new(column).build_list_scalar()).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        let per_row = size_of::<OwnedRow>() + 3 * size_of::<usize>();
        size_of_val(self) + self.inner.size() + self.converter.size() + self.bytes + self.rows.capacity() * per_row
    }
}

/// The values with zeros of one sign, which are one value to Spark.
fn one_zero(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float32 => Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0)),
        DataType::Float64 => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0)),
        _ => Arc::clone(values),
    }
}
