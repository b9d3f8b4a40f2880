//! Python functions of whole relations: `mapInPandas`, `applyInPandas`, `cogroup`, table functions.
//!
//! In a plan they are [`PythonRelation`] nodes; [`PythonPlanner`] runs them, a worker for each partition.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use bytes::Bytes;
use datafusion::common::{DFSchemaRef, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::PythonWorkers;
use super::worker::PythonCall;
use crate::error::{Error, Result};

/// PySpark's numbers of the kinds of functions of relations.
mod kind {
    pub(super) const MAP_PANDAS: i32 = 205;
    pub(super) const MAP_ARROW: i32 = 207;
    pub(super) const GROUPED_PANDAS: i32 = 201;
    pub(super) const GROUPED_ARROW: i32 = 209;
    pub(super) const GROUPED_ARROW_ITERATOR: i32 = 215;
    pub(super) const GROUPED_PANDAS_ITERATOR: i32 = 216;
    pub(super) const COGROUPED_PANDAS: i32 = 206;
    pub(super) const COGROUPED_ARROW: i32 = 210;
    pub(super) const TABLE: i32 = 300;
    pub(super) const ARROW_TABLE: i32 = 301;
}

/// What a function is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// All rows of a partition, batch by batch.
    Rows,
    /// The rows of one group after the other, of one input or of two.
    Groups,
    /// One row of arguments after the other.
    Calls,
}

/// A function of relations as a client sends it.
#[derive(Debug, Clone)]
pub(crate) struct RelationFunction {
    /// Its name, for messages.
    pub(crate) name: String,
    /// PySpark's number of its kind.
    pub(crate) eval_type: i32,
    /// The pickled code.
    pub(crate) command: Bytes,
    /// The Python it was pickled by.
    pub(crate) python_version: String,
    /// Who runs it.
    pub(crate) workers: Arc<PythonWorkers>,
}

impl RelationFunction {
    /// What the function is given.
    ///
    /// # Errors
    /// `Unsupported` for kinds that keep state, and others that are no functions of relations.
    pub(crate) fn shape(&self) -> Result<Shape> {
        match self.eval_type {
            kind::MAP_PANDAS | kind::MAP_ARROW => Ok(Shape::Rows),
            kind::GROUPED_PANDAS
            | kind::GROUPED_ARROW
            | kind::GROUPED_ARROW_ITERATOR
            | kind::GROUPED_PANDAS_ITERATOR
            | kind::COGROUPED_PANDAS
            | kind::COGROUPED_ARROW => Ok(Shape::Groups),
            kind::TABLE | kind::ARROW_TABLE => Ok(Shape::Calls),
            other => Err(Error::unsupported(format!("the Python function `{}` of kind {other}", self.name))),
        }
    }

    /// The kind that is run: rows of table functions always travel as Arrow batches.
    pub(super) fn run_type(&self) -> i32 {
        if self.eval_type == kind::TABLE { kind::ARROW_TABLE } else { self.eval_type }
    }

    /// Whether the worker expects the columns of a batch as the fields of one struct.
    pub(super) fn takes_struct(&self) -> bool {
        matches!(
            self.eval_type,
            kind::MAP_PANDAS | kind::MAP_ARROW | kind::GROUPED_ARROW | kind::GROUPED_ARROW_ITERATOR
        )
    }
}

/// One input: its first columns are values, the others keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PythonInput {
    /// The rows.
    pub(crate) plan: LogicalPlan,
    /// What the function is to call the values, in order.
    pub(crate) names: Vec<String>,
}

impl PythonInput {
    /// The positions of the keys.
    pub(super) fn keys(&self) -> std::ops::Range<usize> {
        self.names.len()..self.plan.schema().fields().len()
    }
}

/// How a table function is given the rows of its table: by partition, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TablePartitions {
    /// So many columns behind the arguments tell which partition a row is of; without any all rows are of one.
    pub(crate) keys: usize,
    /// How rows are sorted by all columns behind the arguments: the keys, and those that the user orders by.
    pub(crate) order: Vec<SortOptions>,
    /// Where the worker finds the keys in the row of the table, from which it takes them away.
    pub(crate) positions: Vec<i32>,
}

/// A Python function over one relation or two.
#[derive(Debug, Clone)]
pub(crate) struct PythonRelation {
    pub(crate) function: RelationFunction,
    pub(crate) shape: Shape,
    pub(crate) inputs: Vec<PythonInput>,
    /// How the arguments of a table function are passed: by position, or by name.
    pub(crate) arguments: Vec<Option<String>>,
    /// What the user says of the rows that a table function is given.
    pub(crate) partitions: Option<TablePartitions>,
    /// What `analyze` has answered, pickled.
    pub(crate) analysis: Option<Bytes>,
    /// So many last columns of the input are those of a row that what the function gives for it is joined with, and whether
    /// a row stays that it gives nothing for.
    pub(crate) carried: Option<(usize, bool)>,
    pub(crate) schema: DFSchemaRef,
}

impl PythonRelation {
    /// The node as a plan.
    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The columns that the function gives.
    pub(super) fn given(&self) -> Schema {
        let carried = self.carried.map_or(0, |(carried, _)| carried);
        Schema::new(self.schema.fields().iter().skip(carried).cloned().collect::<Vec<_>>())
    }

    /// The call that a worker is sent.
    pub(super) fn call(&self) -> PythonCall {
        let command = self.function.command.clone();
        match self.shape {
            Shape::Rows => PythonCall::Function { command, arguments: vec![(0, None)] },
            Shape::Groups => {
                // Per input: how many numbers follow, how many keys, the keys, the values.
                let mut columns = Vec::new();
                for input in &self.inputs {
                    let (values, keys) = (input.names.len(), input.keys());
                    columns.extend([1 + keys.len() + values, keys.len()]);
                    columns.extend(keys.chain(0..values));
                }
                let arguments = columns.into_iter().map(|column| (column as i32, None)).collect();
                PythonCall::Function { command, arguments }
            }
            Shape::Calls => PythonCall::TableFunction {
                command,
                arguments: self.arguments.iter().enumerate().map(|(i, name)| (i as i32, name.clone())).collect(),
                partition_columns: self.partitions.as_ref().map_or_else(Vec::new, |by| by.positions.clone()),
                analysis: self.analysis.clone(),
                row_type: crate::types::schema_to_json(&self.given()),
                name: self.function.name.clone(),
            },
        }
    }
}

impl PartialEq for PythonRelation {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && self.function.eval_type == other.function.eval_type
            && self.function.command == other.function.command
            && self.inputs == other.inputs
            && self.arguments == other.arguments
            && self.partitions == other.partitions
            && self.analysis == other.analysis
            && self.carried == other.carried
            && self.schema == other.schema
    }
}

impl Eq for PythonRelation {}

impl Hash for PythonRelation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.function.name, self.function.eval_type, &self.function.command, &self.inputs).hash(state);
    }
}

impl PartialOrd for PythonRelation {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for PythonRelation {
    fn name(&self) -> &str {
        "PythonRelation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().map(|input| &input.plan).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PythonRelation: {}, {:?}", self.function.name, self.shape)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        if inputs.len() != self.inputs.len() {
            return Err(DataFusionError::Internal("a Python function lost an input".to_owned()));
        }
        let input = |(old, plan): (&PythonInput, LogicalPlan)| PythonInput { plan, names: old.names.clone() };
        Ok(Self { inputs: self.inputs.iter().zip(inputs).map(input).collect(), ..self.clone() })
    }
}
