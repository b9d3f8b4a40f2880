//! ROLLUP, CUBE and GROUPING SETS over a stream: each row is given out once per set, with NULL in the keys that the set lacks,
//! and is grouped by all keys and the number of its set ([`Expand`]).
//!
//! A set without the event time that makes groups final would never be given out: its rows are not kept.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, GroupingSet, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, binary_expr,
    cast, lit,
};
use datafusion::logical_expr::{Operator, expr::AggregateFunction};
use datafusion::physical_plan::ExecutionPlan;
use deltaworks_spark::error::Result;

use crate::aggregate::{Emission, emission};
use crate::fingerprint;
use crate::map_exec::MapExec;

/// The keys of an aggregation, of all its grouping sets together.
pub(crate) fn keys(aggregate: &Aggregate) -> Vec<&Expr> {
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => sets.distinct_expr(),
        keys => keys.iter().collect(),
    }
}

/// An aggregation by grouping sets as one of expanded rows, and what its columns are made of; `None` for any other.
///
/// # Errors
/// `User` for `grouping` of what is no key.
pub(crate) fn expanded(aggregate: &Aggregate) -> Result<Option<(Aggregate, Vec<Expr>)>> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(None) };
    let keys = keys(aggregate);
    let sets = members(sets, &keys);
    let numbers = numbers(&sets);
    let mut sets: Vec<(Vec<bool>, i64)> = sets.into_iter().zip(numbers).collect();
    if let Some(Emission::WhenFinal { place, .. }) = emission(aggregate) {
        sets.retain(|(has, _)| has[place]);
    }
    let schema = aggregate.input.schema();
    // The names are part of what must stay the same for the state to stay valid.
    let names: Vec<String> = keys.iter().map(|key| format!("{} in sets", fingerprint::of_expr(key, schema))).collect();
    let of_keys = keys.iter().zip(&names).map(|(key, name)| (*key).clone().unalias().alias(name));
    let columns = schema.columns().into_iter().map(Expr::Column).chain(of_keys);
    let rows = LogicalPlanBuilder::new_from_arc(Arc::clone(&aggregate.input)).project(columns)?.build()?;
    let node = Expand::new(Arc::new(rows), names.into_iter().map(Column::from_name).collect(), sets)?;
    let set = Expr::Column(Column::from_name(node.number_name()));
    let grouped = node.keys.iter().cloned().map(Expr::Column).chain([set.clone()]).collect();
    let rows = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let aggr_expr: Vec<Expr> = aggregate.aggr_expr.iter().filter(|expr| grouping(expr).is_none()).cloned().collect();
    let of_rows = Aggregate::try_new(Arc::new(rows), grouped, aggr_expr)?;
    let mut given = of_rows.schema.columns().into_iter().map(Expr::Column);
    let mut outputs: Vec<Expr> = given.by_ref().take(keys.len() + 1).collect();
    for expr in &aggregate.aggr_expr {
        match grouping(expr) {
            Some(call) => outputs.push(bits(call, &keys, &set)?),
            None => outputs.extend(given.next()),
        }
    }
    let named = outputs.into_iter().zip(aggregate.schema.iter()).map(|(expr, (qualifier, field))| {
        cast(expr, field.data_type().clone()).alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(Some((of_rows, named.collect())))
}

/// For each set, which keys it has.
fn members(sets: &GroupingSet, keys: &[&Expr]) -> Vec<Vec<bool>> {
    let count = keys.len();
    match sets {
        GroupingSet::Rollup(_) => (0..=count).rev().map(|first| (0..count).map(|key| key < first).collect()).collect(),
        GroupingSet::Cube(_) => {
            (0..1_u64 << count).map(|set| (0..count).map(|key| set >> (count - 1 - key) & 1 == 0).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => {
            sets.iter().map(|set| keys.iter().map(|key| set.contains(key)).collect()).collect()
        }
    }
}

/// For each set its number: a bit for each key that it lacks, that of the last key being the least; above them, how many sets
/// of the same keys come before it.
fn numbers(sets: &[Vec<bool>]) -> Vec<i64> {
    let number = |(place, set): (usize, &Vec<bool>)| {
        let lacking = set.iter().fold(0, |bits, has| bits << 1 | i64::from(!has));
        let same_before = sets[..place].iter().filter(|other| *other == set).count() as i64;
        same_before << set.len() | lacking
    };
    sets.iter().enumerate().map(number).collect()
}

/// The call of `grouping` that an aggregate is.
fn grouping(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => grouping(&alias.expr),
        Expr::AggregateFunction(call) if call.func.name() == "grouping" => Some(call),
        _ => None,
    }
}

/// `grouping(a, b)` as a number: a bit for each key, set where the set lacks it.
fn bits(call: &AggregateFunction, keys: &[&Expr], set: &Expr) -> Result<Expr> {
    let mut all = lit(0_i64);
    for arg in &call.params.args {
        let place = keys.iter().position(|key| *key == arg || (*key).clone().unalias() == *arg).ok_or_else(|| {
            deltaworks_spark::error::Error::user(format!("`{arg}` in `grouping` is not one of the keys of the groups"))
                .with_condition("GROUPING_COLUMN_MISMATCH")
                .with_help("Name a key of GROUP BY.")
        })?;
        let shifted = binary_expr(set.clone(), Operator::BitwiseShiftRight, lit((keys.len() - 1 - place) as i64));
        let bit = binary_expr(shifted, Operator::BitwiseAnd, lit(1_i64));
        let before = binary_expr(all, Operator::BitwiseShiftLeft, lit(1_i64));
        all = binary_expr(before, Operator::BitwiseOr, bit);
    }
    Ok(all)
}

/// Gives each row once per set.
#[derive(Debug, Clone)]
pub(crate) struct Expand {
    pub input: Arc<LogicalPlan>,
    /// The columns of the keys, which are NULL in the sets that lack them.
    pub keys: Vec<Column>,
    /// Which keys the sets have, and their numbers.
    sets: Vec<(Vec<bool>, i64)>,
    schema: DFSchemaRef,
}

impl Expand {
    fn new(input: Arc<LogicalPlan>, keys: Vec<Column>, sets: Vec<(Vec<bool>, i64)>) -> DataFusionResult<Self> {
        let places =
            keys.iter().map(|key| input.schema().index_of_column(key)).collect::<DataFusionResult<Vec<_>>>()?;
        let columns = input.schema().iter().enumerate().map(|(place, (qualifier, field))| {
            let field = match places.contains(&place) {
                true => Arc::new(field.as_ref().clone().with_nullable(true)),
                false => Arc::clone(field),
            };
            (qualifier.cloned(), field)
        });
        let number = Arc::new(Field::new(number_name(&sets), DataType::Int64, false));
        let columns = columns.chain([(None, number)]).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(columns, input.schema().metadata().clone())?);
        Ok(Self { input, keys, sets, schema })
    }

    fn number_name(&self) -> String {
        number_name(&self.sets)
    }

    pub(crate) fn plan(&self, input: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let places: Vec<usize> =
            self.keys.iter().map(|key| self.input.schema().index_of_column(key)).collect::<DataFusionResult<_>>()?;
        let mut fields: Vec<Field> = input.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        for place in &places {
            fields[*place].set_nullable(true);
        }
        fields.push(Field::new(self.number_name(), DataType::Int64, false));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (sets, given) = (self.sets.clone(), Arc::clone(&schema));
        Ok(Arc::new(MapExec::new("ExpandExec", input, schema, move |batch, _| {
            let rows = batch.num_rows();
            let copies = sets.iter().map(|(has, number)| {
                let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
                for (place, _) in places.iter().zip(has).filter(|(_, has)| !**has) {
                    columns[*place] = new_null_array(columns[*place].data_type(), rows);
                }
                columns.push(Arc::new(Int64Array::from(vec![*number; rows])));
                Ok(RecordBatch::try_new(Arc::clone(&given), columns)?)
            });
            Ok(concat_batches(&given, &copies.collect::<DataFusionResult<Vec<_>>>()?)?)
        })))
    }
}

/// Says which sets there are, so that state of others does not fit.
fn number_name(sets: &[(Vec<bool>, i64)]) -> String {
    let numbers: Vec<String> = sets.iter().map(|(_, number)| number.to_string()).collect();
    format!("grouping sets {}", numbers.join(" "))
}

impl PartialEq for Expand {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.keys == other.keys && self.sets == other.sets
    }
}

impl Eq for Expand {}

impl Hash for Expand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.keys, &self.sets).hash(state);
    }
}

impl PartialOrd for Expand {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Expand {
    fn name(&self) -> &str {
        "Expand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Expand: {}", self.number_name())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let key = |expr| match expr {
            Expr::Column(column) => Ok(column),
            other => Err(DataFusionError::Internal(format!("a key of grouping sets is not a column: {other}"))),
        };
        let keys = exprs.into_iter().map(key).collect::<DataFusionResult<_>>()?;
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Self::new(Arc::new(input), keys, self.sets.clone()),
            Err(inputs) => Err(DataFusionError::Internal(format!("Expand has {} inputs", inputs.len()))),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|column| *column < width).collect();
        for key in &self.keys {
            needed.push(self.input.schema().maybe_index_of_column(key)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
