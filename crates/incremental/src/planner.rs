//! Runs the logical operators of this workspace that DataFusion does not know.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Column;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use deltaworks_spark::operators::{Deduplicate, EventTimeWatermark};
use deltaworks_spark::python::TransformWithState;

use crate::aggregate::{self, StatefulAggregate};
use crate::collect::CollectKeys;
use crate::dedup::DedupExec;
use crate::grouping_sets::Expand;
use crate::join::AllRows;
use crate::processor::{self, BoundProcessor};
use crate::user_state::BoundGroups;
use crate::watermark::{InTime, Observe};

/// Plans [`Deduplicate`], [`EventTimeWatermark`], which has no effect on a table, and what stateful operators become.
#[derive(Debug, Clone, Copy, Default)]
pub struct IncrementalPlanner;

#[async_trait]
impl ExtensionPlanner for IncrementalPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let any = node.as_any();
        if let Some(deduplicate) = any.downcast_ref::<Deduplicate>() {
            let (logical, physical) = single(logical_inputs, physical_inputs)?;
            let keys = indices(&deduplicate.keys, logical.schema())?;
            return Ok(Some(Arc::new(DedupExec::new(physical, keys))));
        }
        if let Some(collect) = any.downcast_ref::<CollectKeys>() {
            return Ok(Some(collect.plan(single(logical_inputs, physical_inputs)?.1)?));
        }
        if let Some(aggregate) = any.downcast_ref::<StatefulAggregate>() {
            return Ok(Some(aggregate::plan(aggregate, logical_inputs, physical_inputs, session, context)?));
        }
        if let Some(groups) = any.downcast_ref::<BoundGroups>() {
            return Ok(Some(groups.plan(physical_inputs)?));
        }
        if let Some(processor) = any.downcast_ref::<BoundProcessor>() {
            return Ok(Some(processor.plan(physical_inputs)?));
        }
        if let Some(node) = any.downcast_ref::<TransformWithState>() {
            let now = session.execution_props().query_execution_start_time;
            let now_ms = now.map_or(0, |now| now.timestamp_millis());
            return Ok(Some(processor::over_tables(node, physical_inputs, now_ms)?));
        }
        if let Some(rows) = any.downcast_ref::<AllRows>() {
            return Ok(Some(rows.plan(physical_inputs)?));
        }
        if let Some(expand) = any.downcast_ref::<Expand>() {
            return Ok(Some(expand.plan(single(logical_inputs, physical_inputs)?.1)?));
        }
        if let Some(observe) = any.downcast_ref::<Observe>() {
            return Ok(Some(observe.plan(single(logical_inputs, physical_inputs)?.1)?));
        }
        if let Some(in_time) = any.downcast_ref::<InTime>() {
            return Ok(Some(in_time.plan(single(logical_inputs, physical_inputs)?.1)?));
        }
        if any.is::<EventTimeWatermark>() {
            return Ok(Some(single(logical_inputs, physical_inputs)?.1));
        }
        Ok(None)
    }
}

/// A query planner that knows [`IncrementalPlanner`]'s operators and nothing else besides DataFusion's.
#[derive(Debug, Clone, Copy, Default)]
pub struct IncrementalQueryPlanner;

#[async_trait]
impl QueryPlanner for IncrementalQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(IncrementalPlanner)])
            .create_physical_plan(plan, session)
            .await
    }
}

fn single<'a>(
    logical: &[&'a LogicalPlan],
    physical: &[Arc<dyn ExecutionPlan>],
) -> Result<(&'a LogicalPlan, Arc<dyn ExecutionPlan>)> {
    match (logical, physical) {
        ([logical], [physical]) => Ok((logical, Arc::clone(physical))),
        _ => Err(DataFusionError::Internal(format!("expected one input, got {}", physical.len()))),
    }
}

fn indices(keys: &[Column], schema: &DFSchema) -> Result<Vec<usize>> {
    keys.iter().map(|key| schema.index_of_column(key)).collect()
}
