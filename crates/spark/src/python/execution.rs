//! Runs Python functions of relations: a partition's rows to a worker, and its rows back.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StructArray, UInt32Array, new_null_array};
use arrow::compute::{SortOptions, cast, concat, concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{TryStreamExt, stream};

use super::function::{blocking, settings};
use super::relation::{PythonRelation, Shape, TablePartitions};
use super::worker::{Input, Task};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::session::conf_ref;
use crate::types::{canonical, schema_to_json};

/// Plans [`PythonRelation`] nodes.
#[derive(Debug, Default)]
pub(crate) struct PythonPlanner;

#[async_trait]
impl ExtensionPlanner for PythonPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<PythonRelation>() else { return Ok(None) };
        Ok(Some(Arc::new(PythonExec::new(Arc::new(node.clone()), physical_inputs.to_vec()))))
    }
}

/// A Python function over the partitions of its inputs.
#[derive(Debug)]
struct PythonExec {
    node: Arc<PythonRelation>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl PythonExec {
    fn new(node: Arc<PythonRelation>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let schema = Arc::new(node.schema.as_arrow().clone());
        let partitions = inputs.first().map_or(1, |input| input.output_partitioning().partition_count());
        let boundedness = inputs.first().map_or(Boundedness::Bounded, |input| input.boundedness());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            boundedness,
        );
        Self { node, inputs, schema, properties: Arc::new(properties) }
    }

    /// The columns of an input that rows must have in common to come to one partition.
    fn keys(&self, i: usize) -> Vec<Arc<dyn PhysicalExpr>> {
        let (Some(input), Some(plan)) = (self.node.inputs.get(i), self.inputs.get(i)) else { return Vec::new() };
        let schema = plan.schema();
        let count = self.node.partitions.as_ref().map_or(usize::MAX, |partitions| partitions.keys);
        input
            .keys()
            .take(count)
            .map(|at| Arc::new(Column::new(schema.field(at).name(), at)) as Arc<dyn PhysicalExpr>)
            .collect()
    }
}

impl DisplayAs for PythonExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PythonExec: {}, {:?}", self.node.function.name, self.node.shape)
    }
}

impl ExecutionPlan for PythonExec {
    fn name(&self) -> &str {
        "PythonExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    /// The rows of a group come to one partition; so do those that the user of a table function has partitioned.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        let together = self.node.shape == Shape::Groups || self.node.partitions.is_some();
        let of_input = |i: usize| match self.keys(i) {
            _ if !together => Distribution::UnspecifiedDistribution,
            keys if keys.is_empty() => Distribution::SinglePartition,
            keys => Distribution::KeyPartitioned(keys),
        };
        (0..self.inputs.len()).map(of_input).collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.node), inputs)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let inputs = self.inputs.iter().map(|input| input.execute(partition, Arc::clone(&context)));
        let inputs = inputs.collect::<DataFusionResult<Vec<_>>>()?;
        let conf = conf_ref(context.session_config().options()).cloned().unwrap_or_else(SparkConf::pipeline_defaults);
        let run = Run { node: Arc::clone(&self.node), schema: Arc::clone(&self.schema), conf };
        let batches = async move {
            let mut rows = Vec::with_capacity(inputs.len());
            for input in inputs {
                let schema = input.schema();
                rows.push((schema, input.try_collect::<Vec<_>>().await?));
            }
            let batches = blocking(|| run.run(rows)).map_err(DataFusionError::from)?;
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        };
        let batches = stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

/// One partition of a function's work.
struct Run {
    node: Arc<PythonRelation>,
    schema: SchemaRef,
    conf: SparkConf,
}

impl Run {
    /// The rows that the function gives for the rows of each input.
    fn run(&self, inputs: Vec<(SchemaRef, Vec<RecordBatch>)>) -> Result<Vec<RecordBatch>> {
        let inputs = inputs.into_iter().enumerate().map(|(i, (schema, batches))| self.named(i, &schema, batches));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let Some((schema, batches)) = inputs.first() else {
            return Err(Error::internal("a Python function of relations without an input"));
        };
        if let Some(partitions) = &self.node.partitions {
            return self.run_partitions(schema, batches, partitions);
        }
        if let Some((carried, outer)) = self.node.carried {
            return self.run_joined(schema, batches, carried, outer);
        }
        let task = self.task(schema);
        let results = match self.node.shape {
            Shape::Groups => {
                let groups = groups(&inputs, &self.node)?;
                if groups.is_empty() {
                    return Ok(Vec::new());
                }
                let groups =
                    groups.into_iter().map(|group| group.into_iter().map(|batch| self.shaped(batch)).collect());
                let groups = groups.collect::<Result<Vec<Vec<_>>>>()?;
                self.work(&task, &Input::Groups(&groups))?
            }
            Shape::Rows | Shape::Calls => {
                let batches = match batches.is_empty() {
                    true => vec![RecordBatch::new_empty(Arc::clone(schema))],
                    false => batches.clone(),
                };
                let batches = batches.into_iter().map(|batch| self.shaped(batch)).collect::<Result<Vec<_>>>()?;
                self.work(&task, &Input::Batches(&batches))?
            }
        };
        results.iter().map(|batch| self.output(batch)).collect()
    }

    /// The rows that a table function gives for the rows of its table, which are sorted for it.
    fn run_partitions(
        &self,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        partitions: &TablePartitions,
    ) -> Result<Vec<RecordBatch>> {
        let whole = concat_batches(schema, batches)?;
        // No rows are no partition, but all rows are one even if there are none.
        if whole.num_rows() == 0 && partitions.keys > 0 {
            return Ok(Vec::new());
        }
        let width = self.node.arguments.len();
        let rows = whole.project(&(0..width).collect::<Vec<_>>())?;
        let rows = match partitions.order.as_slice() {
            [] => rows,
            order => take_record_batch(&rows, &sorted_rows(&whole.columns()[width..], order)?)?,
        };
        let task = self.task(&rows.schema());
        self.work(&task, &Input::Batches(&[rows]))?.iter().map(|batch| self.output(batch)).collect()
    }

    /// The rows that a table function gives for each row, joined with it. A worker answers a row with a batch; what it gives at
    /// the end belongs to the last row.
    fn run_joined(
        &self,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        carried: usize,
        outer: bool,
    ) -> Result<Vec<RecordBatch>> {
        let whole = concat_batches(schema, batches)?;
        let (rows, width) = (whole.num_rows(), whole.num_columns() - carried);
        if rows == 0 {
            return Ok(Vec::new());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let arguments = Schema::new(whole.schema().fields()[..width].to_vec());
        let columns = whole.columns()[..width].to_vec();
        let arguments = RecordBatch::try_new_with_options(Arc::new(arguments), columns, &options)?;
        let given = Arc::new(self.node.given());
        let results = self.work(&self.task(&arguments.schema()), &Input::Batches(&[arguments]))?;
        if results.len() < rows {
            return Err(Error::internal(format!("Python answered {} of {rows} rows", results.len())));
        }
        let mut counts = vec![0_usize; rows];
        let mut parts = Vec::with_capacity(results.len());
        for (i, result) in results.iter().enumerate() {
            let (row, part) = (i.min(rows - 1), self.output_as(result, &given)?);
            // The last row's own batch is followed by those of the end: it is empty only if they are.
            counts[row] += part.num_rows();
            parts.push(part);
            let is_last = i + 1 == results.len() || row + 1 < rows;
            if outer && is_last && counts[row] == 0 {
                let nulls = given.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
                let nullable = given.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
                parts.push(RecordBatch::try_new(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), nulls)?);
                counts[row] = 1;
            }
        }
        let rows = counts.iter().enumerate().flat_map(|(row, count)| std::iter::repeat_n(row as u32, *count));
        let rows = UInt32Array::from_iter_values(rows);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in &whole.columns()[width..] {
            columns.push(take(column, &rows, None)?);
        }
        for at in 0..given.fields().len() {
            let all: Vec<&dyn arrow::array::Array> = parts.iter().map(|part| part.column(at).as_ref()).collect();
            columns.push(concat(&all)?);
        }
        let columns = columns.iter().zip(self.schema.fields());
        let columns =
            columns.map(|(column, field)| Ok(cast(column, field.data_type())?)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(vec![RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?])
    }

    fn work(&self, task: &Task, input: &Input<'_>) -> Result<Vec<RecordBatch>> {
        let function = &self.node.function;
        function
            .workers
            .with_worker(|worker| worker.run(task, input))
            .map_err(|error| error.context(format!("in the Python function `{}`", function.name)))
    }

    fn task(&self, schema: &Schema) -> Task {
        Task {
            eval_type: self.node.function.run_type(),
            python_version: self.node.function.python_version.clone(),
            conf: settings(&self.conf),
            eval_conf: vec![("input_type".to_owned(), schema_to_json(schema))],
            call: self.node.call(),
        }
    }

    /// The batches with plain types and the names that the function knows.
    fn named(&self, i: usize, schema: &Schema, batches: Vec<RecordBatch>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let names = self.node.inputs.get(i).map_or(&[][..], |input| &input.names);
        let field = |(at, field): (usize, &Arc<Field>)| {
            let name = names.get(at).cloned().unwrap_or_else(|| format!("key{at}"));
            Field::new(name, canonical(field.data_type()), field.is_nullable())
        };
        let schema = Arc::new(Schema::new(schema.fields().iter().enumerate().map(field).collect::<Fields>()));
        let plain = |batch: RecordBatch| -> Result<RecordBatch> {
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?));
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        };
        let batches = batches.into_iter().map(plain).collect::<Result<Vec<_>>>()?;
        Ok((schema, batches))
    }

    /// The columns as the fields of one struct, where the worker expects that.
    fn shaped(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if !self.node.function.takes_struct() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let fields = batch.schema().fields().clone();
        let columns = batch.columns().to_vec();
        let whole = StructArray::try_new_with_length(fields.clone(), columns, None, rows)?;
        let schema = Schema::new(vec![Field::new("_0", DataType::Struct(fields), true)]);
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(whole)])?)
    }

    /// Rows as the function gave them, in the columns of the declared schema.
    fn output(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.output_as(batch, &self.schema)
    }

    fn output_as(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = match batch.columns() {
            [only] => only.as_struct_opt().map_or_else(|| vec![Arc::clone(only)], |whole| whole.columns().to_vec()),
            columns => columns.to_vec(),
        };
        if columns.len() != schema.fields().len() {
            return Err(Error::user(format!(
                "the Python function `{}` gave {} columns, but {} are declared",
                self.node.function.name,
                columns.len(),
                schema.fields().len()
            ))
            .with_condition("SCHEMA_MISMATCH_FOR_PANDAS_UDF"));
        }
        let columns = columns.iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| Ok(cast(column, field.data_type())?)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}

/// The numbers of the rows in the order of some columns.
fn sorted_rows(columns: &[ArrayRef], order: &[SortOptions]) -> Result<UInt32Array> {
    let field =
        |(column, order): (&ArrayRef, &SortOptions)| SortField::new_with_options(column.data_type().clone(), *order);
    let converter = RowConverter::new(columns.iter().zip(order).map(field).collect())?;
    let rows = converter.convert_columns(columns)?;
    let mut numbers: Vec<u32> = (0..rows.num_rows() as u32).collect();
    numbers.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    Ok(numbers.into())
}

/// Per key, ascending, the rows of every input; an input without rows of a key has an empty batch.
fn groups(inputs: &[(SchemaRef, Vec<RecordBatch>)], node: &PythonRelation) -> Result<Vec<Vec<RecordBatch>>> {
    let mut all: std::collections::BTreeMap<OwnedRow, Vec<Vec<u32>>> = Default::default();
    let mut whole = Vec::with_capacity(inputs.len());
    let key_types = |i: usize| -> Vec<DataType> {
        let keys = node.inputs.get(i).map_or(0..0, |input| input.keys());
        keys.map(|at| inputs[i].0.field(at).data_type().clone()).collect()
    };
    let types = key_types(0);
    let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
    for (i, (schema, batches)) in inputs.iter().enumerate() {
        let batch = concat_batches(schema, batches)?;
        let keys = node.inputs.get(i).map_or(0..0, |input| input.keys());
        let columns = batch.columns()[keys].iter().zip(&types).map(|(column, to)| Ok(cast(column, to)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = match columns.is_empty() {
            true => None,
            false => Some(converter.convert_columns(&columns)?),
        };
        for row in 0..batch.num_rows() {
            let key = match &rows {
                Some(rows) => rows.row(row).owned(),
                // Without keys all rows are one group.
                None => converter.parser().parse(&[]).owned(),
            };
            all.entry(key).or_insert_with(|| vec![Vec::new(); inputs.len()])[i].push(row as u32);
        }
        whole.push(batch);
    }
    let group = |rows: Vec<Vec<u32>>| {
        let parts = whole.iter().zip(rows).map(|(batch, rows)| Ok(take_record_batch(batch, &UInt32Array::from(rows))?));
        parts.collect::<Result<Vec<_>>>()
    };
    all.into_values().map(group).collect()
}
