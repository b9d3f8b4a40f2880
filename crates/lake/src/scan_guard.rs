//! Keeps above a scan what it would apply wrongly.
//!
//! - Filters on floating-point columns: NaN is greater than all other numbers, but the statistics of files and row groups
//!   leave it out. A scan that skips what lies below 5 would skip a NaN that is greater than 5.
//! - Limits, where no column but partition columns is needed: such a scan is answered from the log, by a plan that says
//!   that limits may be pushed below it and then has no one to give them to. `SELECT 1 FROM t LIMIT 1` would have a row
//!   per row.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Whether values of the type hold floating-point numbers.
pub(crate) fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => holds_floats(item.data_type()),
        other => other.is_floating(),
    }
}

/// `plan`, with what keeps filters and limits above it if it would apply them wrongly.
pub(crate) fn guarded(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let loses_limits =
        plan.children().is_empty() && plan.supports_limit_pushdown() && plan.with_fetch(Some(1)).is_none();
    let has_floats = plan.schema().fields().iter().any(|field| holds_floats(field.data_type()));
    if loses_limits || has_floats { Arc::new(ScanGuardExec { input: plan, loses_limits }) } else { plan }
}

/// Passes all rows through, and what the scan can be told.
#[derive(Debug)]
struct ScanGuardExec {
    input: Arc<dyn ExecutionPlan>,
    loses_limits: bool,
}

impl DisplayAs for ScanGuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanGuardExec")
    }
}

impl ExecutionPlan for ScanGuardExec {
    fn name(&self) -> &'static str {
        "ScanGuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
            Ok([input]) => Ok(Arc::new(Self { input, loses_limits: self.loses_limits })),
            Err(inputs) => Err(DataFusionError::Internal(format!("ScanGuardExec has {} inputs", inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let columns = schema.fields().iter().enumerate();
        let allowed = columns.filter(|(_, field)| !holds_floats(field.data_type())).map(|(index, _)| index).collect();
        let child = ChildFilterDescription::from_child_with_allowed_indices(&filters, allowed, &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn supports_limit_pushdown(&self) -> bool {
        !self.loses_limits
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let [input] = inputs else {
            return Err(DataFusionError::Internal(format!("ScanGuardExec has {} inputs", inputs.len())));
        };
        // MIN and MAX must not be answered by bounds that leave NaN out.
        let mut statistics = input.as_ref().clone();
        for (field, column) in self.schema().fields().iter().zip(&mut statistics.column_statistics) {
            if holds_floats(field.data_type()) {
                (column.min_value, column.max_value) = Default::default();
            }
        }
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
