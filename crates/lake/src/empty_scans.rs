//! Scans of no files, which have no partitions: a sort above one of them cannot be planned, as it wants a single one.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// `plan` with a partition without rows for each scan that has none.
pub(crate) fn with_a_partition(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let has_none = plan.children().is_empty() && plan.output_partitioning().partition_count() == 0;
        Ok(match has_none {
            true => Transformed::yes(Arc::new(EmptyExec::new(plan.schema())) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(plan),
        })
    })
    .data()
}
