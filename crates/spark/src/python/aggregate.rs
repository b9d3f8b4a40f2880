//! Python functions of groups that give one value: `pandas_udf` and `arrow_udf` in an aggregation.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatchOptions;
use bytes::Bytes;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};

use super::PythonWorkers;
use super::function::{blocking, settings};
use super::worker::{Input, PythonCall, Task};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::types::{array, canonical, schema_to_json};

/// PySpark's numbers of the kinds: of pandas series, of Arrow arrays, and both over iterators.
const KINDS: [i32; 4] = [202, 217, 252, 254];

/// Whether a kind of function gives one value per group.
pub(crate) fn is_aggregate(eval_type: i32) -> bool {
    KINDS.contains(&eval_type)
}

/// A function that gives one value per group.
#[derive(Debug, Clone)]
pub(crate) struct PythonAggregate {
    pub(crate) name: String,
    pub(crate) eval_type: i32,
    pub(crate) command: Bytes,
    pub(crate) python_version: String,
    pub(crate) output: DataType,
    /// The names of arguments that are passed by name.
    pub(crate) arguments: Vec<Option<String>>,
    pub(crate) workers: Arc<PythonWorkers>,
    pub(crate) conf: SparkConf,
    signature: Signature,
}

impl PythonAggregate {
    /// The function of a client.
    pub(crate) fn new(
        name: &str,
        udf: &crate::connect::proto::PythonUdf,
        output: DataType,
        workers: Arc<PythonWorkers>,
        conf: SparkConf,
    ) -> Self {
        Self {
            name: name.to_owned(),
            eval_type: udf.eval_type,
            command: Bytes::copy_from_slice(&udf.command),
            python_version: udf.python_ver.clone(),
            output,
            arguments: Vec::new(),
            workers,
            conf,
            signature: Signature::one_of(
                vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
                Volatility::Volatile,
            ),
        }
    }

    /// One value per group of argument columns.
    fn evaluate(&self, groups: Vec<Vec<ArrayRef>>) -> Result<ArrayRef> {
        let Some(first) = groups.first() else { return Ok(arrow::array::new_empty_array(&self.output)) };
        let field = |(i, column): (usize, &ArrayRef)| Field::new(format!("_{i}"), canonical(column.data_type()), true);
        let schema = Arc::new(Schema::new(first.iter().enumerate().map(field).collect::<Vec<_>>()));
        let count = groups.len();
        let batch = |columns: Vec<ArrayRef>| -> Result<Vec<RecordBatch>> {
            let rows = columns.first().map_or(0, |column| column.len());
            let columns =
                columns.iter().zip(schema.fields()).map(|(column, field)| Ok(cast(column, field.data_type())?));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(vec![RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?])
        };
        let batches = groups.into_iter().map(batch).collect::<Result<Vec<_>>>()?;
        let task = Task {
            eval_type: self.eval_type,
            python_version: self.python_version.clone(),
            conf: settings(&self.conf),
            eval_conf: vec![("input_type".to_owned(), schema_to_json(&schema))],
            call: PythonCall::Function {
                command: self.command.clone(),
                arguments: (0..schema.fields().len())
                    .map(|i| (i as i32, self.arguments.get(i).cloned().flatten()))
                    .collect(),
            },
        };
        let results = blocking(|| self.workers.with_worker(|worker| worker.run(&task, &Input::Groups(&batches))))
            .map_err(|error| error.context(format!("in the Python function `{}`", self.name)))?;
        let columns: Vec<&ArrayRef> = results.iter().filter_map(|batch| batch.columns().first()).collect();
        let given: usize = columns.iter().map(|column| column.len()).sum();
        if given != count {
            return Err(Error::user(format!(
                "the Python function `{}` gave {given} values for {count} groups",
                self.name
            ))
            .with_condition("SCHEMA_MISMATCH_FOR_PANDAS_UDF"));
        }
        let whole = concat(&columns.iter().map(|column| column.as_ref()).collect::<Vec<_>>())?;
        Ok(cast(&whole, &self.output)?)
    }
}

impl PartialEq for PythonAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.eval_type == other.eval_type
            && self.command == other.command
            && self.output == other.output
            && self.arguments == other.arguments
    }
}

impl Eq for PythonAggregate {}

impl Hash for PythonAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.eval_type, &self.command, &self.arguments).hash(state);
    }
}

impl AggregateUDFImpl for PythonAggregate {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.output.clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        self.refuse_distinct(&args)?;
        Ok(Box::new(OneGroup(Groups::new(self, args.expr_fields))))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        self.refuse_distinct(&args)?;
        Ok(Box::new(Groups::new(self, args.expr_fields)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let state = |(i, field): (usize, &FieldRef)| {
            let name = format_state_name(args.name, &format!("values{i}"));
            Arc::new(Field::new(name, array(canonical(field.data_type())), true))
        };
        Ok(args.input_fields.iter().enumerate().map(state).collect())
    }
}

impl PythonAggregate {
    fn refuse_distinct(&self, args: &AccumulatorArgs) -> DataFusionResult<()> {
        if args.is_distinct {
            return Err(Error::unsupported(format!("the Python function `{}` with DISTINCT", self.name)).into());
        }
        Ok(())
    }
}

/// The values of every group so far.
#[derive(Debug)]
struct Groups {
    function: PythonAggregate,
    types: Vec<DataType>,
    /// Per batch: its argument columns, and the group of each row.
    batches: Vec<(Vec<ArrayRef>, Vec<usize>)>,
    count: usize,
}

impl Groups {
    fn new(function: &PythonAggregate, fields: &[FieldRef]) -> Self {
        let types = fields.iter().map(|field| canonical(field.data_type())).collect();
        Self { function: function.clone(), types, batches: Vec::new(), count: 0 }
    }

    fn add(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.count = self.count.max(count);
        let columns = values.iter().zip(&self.types).map(|(column, to)| Ok(cast(column, to)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let kept: Vec<u32> = match filter {
            None => (0..groups.len() as u32).collect(),
            Some(filter) => {
                let keeps = |row: &u32| filter.is_valid(*row as usize) && filter.value(*row as usize);
                (0..groups.len() as u32).filter(keeps).collect()
            }
        };
        let groups = kept.iter().map(|row| groups[*row as usize]).collect();
        let rows = UInt32Array::from(kept);
        let columns = columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        self.batches.push((columns, groups));
        Ok(())
    }

    /// The columns of the first groups, which are forgotten, or of all.
    fn emit(&mut self, emit_to: EmitTo) -> Result<Vec<Vec<ArrayRef>>> {
        let emitted = match emit_to {
            EmitTo::All => self.count,
            EmitTo::First(count) => count.min(self.count),
        };
        let batches = std::mem::take(&mut self.batches);
        let mut whole: Vec<ArrayRef> = Vec::with_capacity(self.types.len());
        for (i, data_type) in self.types.iter().enumerate() {
            let parts: Vec<&dyn Array> = batches.iter().map(|(columns, _)| columns[i].as_ref()).collect();
            whole.push(if parts.is_empty() { arrow::array::new_empty_array(data_type) } else { concat(&parts)? });
        }
        let groups: Vec<usize> = batches.into_iter().flat_map(|(_, groups)| groups).collect();
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); emitted];
        let mut rest = (Vec::new(), Vec::new());
        for (row, group) in groups.into_iter().enumerate() {
            match rows.get_mut(group) {
                Some(rows) => rows.push(row as u32),
                None => {
                    rest.0.push(row as u32);
                    rest.1.push(group - emitted);
                }
            }
        }
        let taken = |rows: Vec<u32>| -> Result<Vec<ArrayRef>> {
            let rows = UInt32Array::from(rows);
            whole.iter().map(|column| Ok(take(column, &rows, None)?)).collect()
        };
        let first = rows.into_iter().map(&taken).collect::<Result<Vec<_>>>()?;
        if !rest.1.is_empty() {
            self.batches.push((taken(rest.0)?, rest.1));
        }
        self.count -= emitted;
        Ok(first)
    }

    fn states(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.emit(emit_to)?;
        let of_argument = |i: usize| -> Result<ArrayRef> {
            let lists = groups
                .iter()
                .map(|columns| SingleRowListArrayBuilder::new(Arc::clone(&columns[i])).build_list_scalar());
            let lists: Vec<ScalarValue> = lists.collect();
            match lists.is_empty() {
                true => Ok(arrow::array::new_empty_array(&array(self.types[i].clone()))),
                false => Ok(ScalarValue::iter_to_array(lists)?),
            }
        };
        (0..self.types.len()).map(of_argument).collect()
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.count = self.count.max(count);
        for (row, group) in groups.iter().enumerate() {
            let columns: Vec<ArrayRef> = states.iter().map(|state| state.as_list::<i32>().value(row)).collect();
            let rows = columns.first().map_or(0, |column| column.len());
            self.add(&columns, &vec![*group; rows], None, count)?;
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let columns = self.batches.iter().flat_map(|(columns, _)| columns);
        columns.map(|column| column.get_array_memory_size()).sum::<usize>() + size_of_val(self)
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        Ok(self.add(values, group_indices, opt_filter, total_num_groups)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DataFusionResult<ArrayRef> {
        let groups = self.emit(emit_to)?;
        self.function.evaluate(groups).map_err(DataFusionError::from)
    }

    fn state(&mut self, emit_to: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        Ok(self.states(emit_to)?)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        Ok(self.merge(values, group_indices, total_num_groups)?)
    }

    /// Never asked for, because `supports_convert_to_state` says no.
    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> DataFusionResult<Vec<ArrayRef>> {
        Err(DataFusionError::Internal(format!("rows of `{}` are no state", self.function.name)))
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// All rows as one group.
#[derive(Debug)]
struct OneGroup(Groups);

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = values.first().map_or(0, |column| column.len());
        Ok(self.0.add(values, &vec![0; rows], None, 1)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = states.first().map_or(0, |column| column.len());
        Ok(self.0.merge(states, &vec![0; rows], 1)?)
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        self.0.count = 1;
        let states = self.0.states(EmitTo::All)?;
        states.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    /// The values stay: over a window they are asked for row by row.
    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        self.0.count = 1;
        let groups = self.0.emit(EmitTo::All)?;
        if let Some(columns) = groups.first() {
            let rows = columns.first().map_or(0, |column| column.len());
            self.0.batches.push((columns.clone(), vec![0; rows]));
        }
        let value = self.0.function.evaluate(groups)?;
        ScalarValue::try_from_array(&value, 0)
    }

    fn size(&self) -> usize {
        self.0.bytes()
    }
}
