//! Hands out the key columns of passing rows, to be remembered for later batches.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;

use crate::state::NewRows;

/// Passes all rows and collects their key columns.
#[derive(Debug, Clone)]
pub(crate) struct CollectKeys {
    pub input: Arc<LogicalPlan>,
    pub keys: Vec<Column>,
    pub new_rows: NewRows,
}

impl PartialEq for CollectKeys {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.keys == other.keys && self.new_rows.is(&other.new_rows)
    }
}

impl Eq for CollectKeys {}

impl Hash for CollectKeys {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.keys.hash(state);
    }
}

impl PartialOrd for CollectKeys {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        match self.keys.partial_cmp(&other.keys) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for CollectKeys {
    fn name(&self) -> &str {
        "CollectKeys"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(Column::flat_name).collect();
        write!(f, "CollectKeys: [{}]", keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = exprs
            .into_iter()
            .map(|expr| match expr {
                Expr::Column(column) => Ok(column),
                other => Err(DataFusionError::Internal(format!("collected key is not a column: {other}"))),
            })
            .collect::<Result<_>>()?;
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input: Arc::new(input), keys, new_rows: self.new_rows.clone() }),
            Err(inputs) => Err(DataFusionError::Internal(format!("CollectKeys has {} inputs", inputs.len()))),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        for key in &self.keys {
            needed.push(self.input.schema().maybe_index_of_column(key)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Runs [`CollectKeys`].
#[derive(Debug)]
pub(crate) struct CollectKeysExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Vec<usize>,
    new_rows: NewRows,
    properties: Arc<PlanProperties>,
}

impl CollectKeysExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<usize>, new_rows: NewRows) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, keys, new_rows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for CollectKeysExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CollectKeysExec")
    }
}

impl ExecutionPlan for CollectKeysExec {
    fn name(&self) -> &'static str {
        "CollectKeysExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, self.keys.clone(), self.new_rows.clone()))),
            Err(inputs) => Err(DataFusionError::Internal(format!("CollectKeysExec has {} inputs", inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (keys, new_rows) = (self.keys.clone(), self.new_rows.clone());
        let rows = input.map(move |batch| {
            let batch = batch?;
            new_rows.push(batch.columns(), &keys)?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
