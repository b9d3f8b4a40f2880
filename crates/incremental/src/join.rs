//! Joins of two streams: the rows of both sides are kept, and each batch joins what is new with all there is. Here are
//! the sides of all joins and inner joins; the others are in [`crate::outer_join`].
//!
//! Each side is an operator of its own that keeps all rows that pass it, and gives those of earlier batches again,
//! marked as old. The join leaves out pairs of which both sides are old: an earlier batch has given them out.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::streaming::is_streaming;

use crate::aggregate::{EXPIRES, convert, expires_type, stored_type};
use crate::fingerprint;
use crate::map_exec::MapExec;
use crate::outer_join::{self, old_name};
use crate::state::{NewRows, OperatorKind, OperatorState, StatefulOperator};
use crate::watermark::{Times, times_of};

/// Whether both sides of `join` are streams.
pub(crate) fn is_of_streams(join: &Join) -> bool {
    is_streaming(&join.left) && is_streaming(&join.right)
}

/// The operators that the sides of `join` are.
///
/// # Errors
/// `Internal` for rows that would be kept for ever, which [`crate::unsupported_streaming`] refuses.
pub(crate) fn describe(index: usize, join: &Join) -> Result<Vec<StatefulOperator>> {
    let expire = match sides(join)? {
        Some([left, right]) => [left.kept.is_some(), right.kept.is_some()],
        None => [false, false],
    };
    let (left, right) = (join.left.schema(), join.right.schema());
    let equal =
        join.on.iter().map(|(l, r)| format!("{} = {}", fingerprint::of_expr(l, left), fingerprint::of_expr(r, right)));
    let both = join.filter.iter().map(|filter| fingerprint::of_expr(filter, &join.schema));
    let condition = equal.chain(both).collect::<Vec<_>>().join(" AND ");
    let operators =
        [("left", &join.left), ("right", &join.right)].into_iter().enumerate().map(|(place, (side, input))| {
            StatefulOperator::new(
                index + place,
                OperatorKind::JoinSide,
                format!(
                    "{side} side of {} join on {condition}{}",
                    join.join_type.to_string().to_lowercase(),
                    if expire[place] { " until watermark" } else { "" }
                ),
                expire[place],
                stored_schema(input.schema(), expire[place]),
            )
        });
    Ok(operators.collect())
}

/// What becomes of the rows of both sides; `None` if all of them are kept: an inner join needs no watermark.
fn sides(join: &Join) -> Result<Option<[outer_join::Side; 2]>> {
    if join.join_type == JoinType::Inner {
        return Ok(None);
    }
    let sides = outer_join::sides(join);
    sides.map(Some).ok_or_else(|| Error::internal(format!("a {} join whose rows wait for ever", join.join_type)))
}

/// `join` with the rows of earlier batches on each side.
pub(crate) fn bind(index: usize, join: &Join, states: [&OperatorState; 2]) -> Result<LogicalPlan> {
    if let Some(sides) = sides(join)? {
        return outer_join::bind(index, join, &sides, states);
    }
    let old = |place: usize| old_name(index + place);
    let side = |place: usize, input: &Arc<LogicalPlan>| -> Result<LogicalPlan> {
        let state = states[place];
        let prior = match &state.prior {
            Some(prior) => {
                let name = format!("__rows_{}", index + place);
                let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::clone(prior)), None)?;
                Some(Arc::new(scan.build()?))
            }
            None => None,
        };
        let node = AllRows::new(Arc::clone(input), prior, old(place), state.new_rows.clone(), None)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    };
    let (left, right) = (side(0, &join.left)?, side(1, &join.right)?);
    let is_new = |place: usize| Expr::Column(Column::from_name(old(place))).is_false();
    let either_is_new = is_new(0).or(is_new(1));
    let filter = match &join.filter {
        Some(filter) => filter.clone().and(either_is_new),
        None => either_is_new,
    };
    let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        Some(filter),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok(LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns)?.build()?)
}

/// The columns of a side as they are stored: by the user's names, numbered where a name comes twice; then when the rows
/// expire if they do.
fn stored_schema(input: &DFSchema, expire: bool) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::with_capacity(input.fields().len() + 1);
    for field in input.fields() {
        let base = fingerprint::of_name(field.name());
        let is_taken = |name: &str| {
            let is_own = expire && name.eq_ignore_ascii_case(EXPIRES);
            is_own || fields.iter().any(|field| field.name().eq_ignore_ascii_case(name))
        };
        let mut name = base.to_owned();
        let mut number = 1;
        while is_taken(&name) {
            number += 1;
            name = format!("{base}#{number}");
        }
        fields.push(Field::new(name, stored_type(field.data_type()), true));
    }
    if expire {
        fields.push(Field::new(EXPIRES, expires_type(), true));
    }
    Arc::new(Schema::new(fields))
}

/// The rows of its input, which it keeps, and those it has kept; a last column says which is which.
#[derive(Debug, Clone)]
pub(crate) struct AllRows {
    pub input: Arc<LogicalPlan>,
    prior: Option<Arc<LogicalPlan>>,
    old: String,
    new_rows: NewRows,
    /// If its rows expire: the last column of the input is a time, and they are kept for so much longer. It is not passed on.
    pub expiry_us: Option<i64>,
    schema: DFSchemaRef,
}

impl AllRows {
    pub(crate) fn new(
        input: Arc<LogicalPlan>,
        prior: Option<Arc<LogicalPlan>>,
        old: String,
        new_rows: NewRows,
        expiry_us: Option<i64>,
    ) -> DataFusionResult<Self> {
        // A column that the query gets later is NULL in the rows kept before.
        let nullable = |field: &Field| Arc::new(field.clone().with_nullable(true));
        let width = width(input.schema().fields().len(), expiry_us);
        let columns = input.schema().iter().take(width);
        let mut fields: Vec<_> = columns.map(|(qualifier, field)| (qualifier.cloned(), nullable(field))).collect();
        fields.push((None, Arc::new(Field::new(&old, DataType::Boolean, false))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, prior, old, new_rows, expiry_us, schema })
    }

    pub(crate) fn plan(&self, physical: &[Arc<dyn ExecutionPlan>]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Some(rows) = physical.first() else {
            return Err(DataFusionError::Internal("a side of a join has an input".to_owned()));
        };
        let (expiry_us, width) = (self.expiry_us, width(rows.schema().fields().len(), self.expiry_us));
        let columns = rows.schema();
        let columns = columns.fields().iter().take(width);
        let mut fields: Vec<_> = columns.map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
        fields.push(Arc::new(Field::new(&self.old, DataType::Boolean, false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (new_rows, marked) = (self.new_rows.clone(), Arc::clone(&schema));
        let all: Vec<usize> = (0..width).collect();
        let new = MapExec::new("KeepRowsExec", Arc::clone(rows), Arc::clone(&schema), move |batch, context| {
            match expiry_us {
                Some(plus_us) => keep(&batch, &all, plus_us, &new_rows, context)?,
                None => new_rows.push(batch.columns(), &all, None, context)?,
            }
            mark(batch.columns()[..width].to_vec(), batch.num_rows(), false, &marked)
        });
        let new: Arc<dyn ExecutionPlan> = Arc::new(new.reading_to_the_end(self.new_rows.completion()));
        let Some(prior) = physical.get(1) else { return Ok(new) };
        let (stored, marked) = (self.new_rows.schema(), Arc::clone(&schema));
        let kept = MapExec::new("KeptRowsExec", Arc::clone(prior), Arc::clone(&schema), move |batch, _| {
            let columns = stored.fields().iter().zip(marked.fields()).take(width).map(|(name, field)| {
                match batch.column_by_name(name.name()) {
                    Some(column) => restore(column, name.name(), field.data_type()),
                    // The query has got the column since.
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                }
            });
            mark(columns.collect::<DataFusionResult<_>>()?, batch.num_rows(), true, &marked)
        });
        let all = UnionExec::try_new(vec![new, Arc::new(kept)])?;
        // Filters must stay above: a union would find their columns by name, and two of a join may have the same.
        Ok(Arc::new(MapExec::new("AllRowsExec", all, schema, |batch, _| Ok(batch))))
    }
}

/// How many columns are rows' own.
fn width(columns: usize, expiry_us: Option<i64>) -> usize {
    columns - usize::from(expiry_us.is_some())
}

/// Keeps the rows of `batch` until `plus_us` after the time in its last column. What has no time has no partner either.
fn keep(
    batch: &RecordBatch,
    columns: &[usize],
    plus_us: i64,
    new_rows: &NewRows,
    context: &TaskContext,
) -> DataFusionResult<()> {
    let has_time = is_not_null(&times_of(batch.column(columns.len()))?)?;
    let batch = filter_record_batch(batch, &has_time)?;
    let expires: Times = times_of(batch.column(columns.len()))?.unary(|time: i64| time.saturating_add(plus_us));
    new_rows.push(batch.columns(), columns, Some(&expires), context)
}

fn restore(column: &ArrayRef, name: &str, to: &DataType) -> DataFusionResult<ArrayRef> {
    let stored = stored_type(column.data_type());
    if stored != stored_type(to) {
        let error =
            Error::user(format!("column `{name}` of a join of streams had another type when its rows were kept"))
                .with_condition("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA")
                .with_help("Refresh the table fully, or cast the column to its former type.");
        return Err(error.into());
    }
    convert(&convert(column, &stored)?, to)
}

fn mark(mut columns: Vec<ArrayRef>, rows: usize, old: bool, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    columns.push(Arc::new(BooleanArray::from(vec![old; rows])));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

impl PartialEq for AllRows {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.prior == other.prior
            && self.old == other.old
            && self.expiry_us == other.expiry_us
            && self.new_rows.is(&other.new_rows)
    }
}

impl Eq for AllRows {}

impl Hash for AllRows {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.old.hash(state);
    }
}

impl PartialOrd for AllRows {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        match self.old.partial_cmp(&other.old) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for AllRows {
    fn name(&self) -> &str {
        "AllRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(self.input.as_ref()).chain(self.prior.as_deref()).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "AllRows: {}", self.old)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let mut inputs = inputs.into_iter();
        let (Some(input), prior) = (inputs.next(), inputs.next()) else {
            return Err(DataFusionError::Internal("a side of a join has an input".to_owned()));
        };
        let prior = prior.map(Arc::new);
        Self::new(Arc::new(input), prior, self.old.clone(), self.new_rows.clone(), self.expiry_us)
    }
}
