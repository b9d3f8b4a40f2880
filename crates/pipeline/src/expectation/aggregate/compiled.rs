//! Conditions on aggregates in the form that runs: accumulators over rows, then one row of their values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Accumulator, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregate, LoweredAggregateBuilder};
use datafusion::scalar::ScalarValue;
use deltaworks_spark::naming::column_name;

use super::{AggregateExpectations, calls_of};
use crate::definitions::ExpectationAction;

/// The conditions of one dataset, planned.
#[derive(Debug)]
pub struct Conditions {
    /// The dataset that declares them, as people see its name.
    pub dataset: String,
    calls: Vec<Call>,
    conditions: Vec<Condition>,
    /// One column per call.
    values: SchemaRef,
}

/// One aggregate, used by one or more conditions.
#[derive(Debug)]
struct Call {
    aggregate: Arc<AggregateFunctionExpr>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// As Spark names it: `count(DISTINCT id)`.
    text: String,
}

/// One condition over the values of the aggregates.
#[derive(Debug)]
struct Condition {
    name: String,
    action: ExpectationAction,
    predicate: Arc<dyn PhysicalExpr>,
    /// The calls it is made of, by position.
    calls: Vec<usize>,
}

/// How one condition came out.
#[derive(Debug, Clone)]
pub struct ConditionOutcome {
    /// Its name.
    pub name: String,
    /// What happens if it does not hold.
    pub action: ExpectationAction,
    /// Whether it is TRUE.
    pub holds: bool,
    /// The values of its aggregates, as `count(1) = 3`.
    pub values: Vec<String>,
}

/// The partial states of all aggregates over some of the rows.
#[derive(Debug)]
pub struct PartialState {
    /// Per call, the values of its state.
    values: Vec<Vec<ScalarValue>>,
    /// Memory held by them, given back when they go.
    _reservation: MemoryReservation,
}

impl Conditions {
    /// Plans the conditions of `node` over rows of the physical `schema`.
    pub fn new(node: &AggregateExpectations, schema: &Schema, session: &dyn Session) -> Result<Self> {
        let mut calls: Vec<Expr> = Vec::new();
        for expectation in &node.expectations {
            for call in calls_of(&expectation.predicate)? {
                if !calls.contains(&call) {
                    calls.push(call);
                }
            }
        }
        let input = node.input.schema();
        let planned = calls.iter().map(|call| Call::new(call, input, schema, session)).collect::<Result<Vec<_>>>()?;
        let field =
            |(index, call): (usize, &Call)| call.aggregate.field().as_ref().clone().with_name(value_name(index));
        let values: SchemaRef = Arc::new(Schema::new(planned.iter().enumerate().map(field).collect::<Vec<Field>>()));
        let row = DFSchema::try_from(Arc::clone(&values))?;
        let conditions = node
            .expectations
            .iter()
            .map(|expectation| {
                let (predicate, used) = over_values(&expectation.predicate, &calls)?;
                let predicate = session.create_physical_expr(predicate, &row)?;
                Ok(Condition { name: expectation.name.clone(), action: expectation.action, predicate, calls: used })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { dataset: node.dataset.clone(), calls: planned, conditions, values })
    }

    /// Accumulators that have seen no row.
    pub fn accumulate(self: &Arc<Self>, reservation: MemoryReservation) -> Result<Accumulation> {
        Ok(Accumulation { conditions: Arc::clone(self), accumulators: self.accumulators()?, reservation })
    }

    /// Their names, in the order of declaration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().map(|condition| condition.name.as_str())
    }

    /// The expressions that are evaluated on rows.
    pub fn arguments(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.calls.iter().flat_map(|call| call.aggregate.expressions().into_iter().chain(call.filter.clone())).collect()
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn Accumulator>>> {
        self.calls.iter().map(|call| call.aggregate.create_accumulator()).collect()
    }

    /// Evaluates the conditions over the rows that `states` stand for.
    pub fn evaluate<'a>(
        &self,
        states: impl Iterator<Item = &'a PartialState> + Clone,
    ) -> Result<Vec<ConditionOutcome>> {
        let mut values: Vec<ArrayRef> = Vec::with_capacity(self.calls.len());
        for (index, mut accumulator) in self.accumulators()?.into_iter().enumerate() {
            merge(accumulator.as_mut(), states.clone().filter_map(|state| state.values.get(index)))?;
            values.push(accumulator.evaluate()?.to_array()?);
        }
        let texts = self.texts(&values)?;
        let row = RecordBatch::try_new(Arc::clone(&self.values), values)?;
        self.conditions
            .iter()
            .map(|condition| {
                let outcome = condition.predicate.evaluate(&row)?.into_array(1)?;
                let outcome = outcome.as_boolean_opt().ok_or_else(|| {
                    DataFusionError::Internal(format!("expectation `{}` is not boolean", condition.name))
                })?;
                Ok(ConditionOutcome {
                    name: condition.name.clone(),
                    action: condition.action,
                    holds: outcome.is_valid(0) && outcome.value(0),
                    values: condition.calls.iter().filter_map(|call| texts.get(*call).cloned()).collect(),
                })
            })
            .collect()
    }

    fn texts(&self, values: &[ArrayRef]) -> Result<Vec<String>> {
        self.calls
            .iter()
            .zip(values)
            .map(|(call, value)| Ok(format!("{} = {}", call.text, ScalarValue::try_from_array(value, 0)?)))
            .collect()
    }
}

impl Call {
    fn new(call: &Expr, logical: &DFSchema, physical: &Schema, session: &dyn Session) -> Result<Self> {
        let context = PhysicalPlanningContext::default();
        let LoweredAggregate { aggregate, filter, .. } =
            LoweredAggregateBuilder::new(call, logical, physical, session.execution_props(), &context).build()?;
        Ok(Self { aggregate, filter, text: column_name(call) })
    }

    /// The arguments for the rows of `batch` that its FILTER lets through.
    fn arguments(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let filtered = match &self.filter {
            Some(filter) => {
                let kept = filter.evaluate(batch)?.into_array(batch.num_rows())?;
                let kept: &BooleanArray = kept
                    .as_boolean_opt()
                    .ok_or_else(|| DataFusionError::Internal("a FILTER is not boolean".to_owned()))?;
                &filter_record_batch(batch, kept)?
            }
            None => batch,
        };
        let rows = filtered.num_rows();
        self.aggregate.expressions().iter().map(|argument| argument.evaluate(filtered)?.into_array(rows)).collect()
    }
}

/// The aggregates of a dataset while rows flow through one partition.
pub struct Accumulation {
    conditions: Arc<Conditions>,
    accumulators: Vec<Box<dyn Accumulator>>,
    reservation: MemoryReservation,
}

impl Accumulation {
    /// Takes the rows of `batch` in.
    ///
    /// # Errors
    /// Out of memory, if a state such as that of a distinct count grows beyond the limit.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        for (accumulator, call) in self.accumulators.iter_mut().zip(&self.conditions.calls) {
            accumulator.update_batch(&call.arguments(batch)?)?;
        }
        self.reservation.try_resize(self.accumulators.iter().map(|accumulator| accumulator.size()).sum())
    }

    /// What the rows come to.
    pub fn finish(mut self) -> Result<PartialState> {
        let values = self.accumulators.iter_mut().map(|accumulator| accumulator.state()).collect::<Result<_>>()?;
        Ok(PartialState { values, _reservation: self.reservation })
    }
}

/// Merges partial states of one aggregate.
fn merge<'a>(
    accumulator: &mut dyn Accumulator,
    states: impl Iterator<Item = &'a Vec<ScalarValue>> + Clone,
) -> Result<()> {
    let Some(width) = states.clone().map(Vec::len).max() else { return Ok(()) };
    let columns = (0..width)
        .map(|column| ScalarValue::iter_to_array(states.clone().filter_map(|state| state.get(column).cloned())))
        .collect::<Result<Vec<_>>>()?;
    accumulator.merge_batch(&columns)
}

/// The condition over the columns that the values of `calls` stand in, and which of them it uses.
fn over_values(predicate: &Expr, calls: &[Expr]) -> Result<(Expr, Vec<usize>)> {
    let mut used = Vec::new();
    let rewritten = predicate.clone().transform_down(|expr| {
        Ok(match calls.iter().position(|call| *call == expr) {
            Some(index) => {
                used.push(index);
                let value = Expr::Column(Column::from_name(value_name(index)));
                Transformed::new(value, true, TreeNodeRecursion::Jump)
            }
            None => Transformed::no(expr),
        })
    })?;
    Ok((rewritten.data, used))
}

fn value_name(call: usize) -> String {
    format!("value{call}")
}
