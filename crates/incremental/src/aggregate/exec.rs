//! Runs an aggregation with state: `partial(rows)`, kept, beside what was kept; `final` over what is given out.

use std::sync::Arc;

use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::union::UnionExec;

use super::merge::{Aggregation, GroupState};
use super::sessions::MergeSessionsExec;
use super::storage::{from_stored, to_stored};
use super::{Emission, GroupShape, StatefulAggregate};
use crate::map_exec::MapExec;
use crate::watermark::{over_at, times_of};

/// The plan of `node` over its planned inputs: the rows, and what was kept of earlier batches.
pub(crate) fn plan(
    node: &StatefulAggregate,
    logical: &[&LogicalPlan],
    physical: &[Arc<dyn ExecutionPlan>],
    session: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (Some(logical), Some(rows)) = (logical.first(), physical.first()) else {
        return Err(DataFusionError::Internal("an aggregation has an input".to_owned()));
    };
    let (input_schema, properties) = (rows.schema(), session.execution_props());
    let mut groups = Vec::with_capacity(node.group_expr.len());
    for expr in &node.group_expr {
        let physical = create_physical_expr(expr, logical.schema(), properties, context)?;
        groups.push((physical, datafusion::logical_expr::expr::physical_name(expr)?));
    }
    let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
    for expr in &node.aggr_expr {
        let lowered =
            LoweredAggregateBuilder::new(expr, logical.schema(), &input_schema, properties, context).build()?;
        aggregates.push(lowered.aggregate);
        filters.push(lowered.filter);
    }
    let groups = PhysicalGroupBy::new_single(groups);
    let partial = AggregateExec::try_new(
        AggregateMode::Partial,
        groups.clone(),
        aggregates,
        filters.clone(),
        Arc::clone(rows),
        Arc::clone(&input_schema),
    )?;
    let aggregation = Aggregation {
        keys: groups.as_final(),
        aggregates: partial.aggr_expr().to_vec(),
        input_schema: Arc::clone(&input_schema),
        partial_schema: partial.schema(),
        emission: node.emission.clone(),
    };
    let kept = physical.get(1).map(|stored| restored(stored, &aggregation.partial_schema));
    let partial: Arc<dyn ExecutionPlan> = Arc::new(partial);
    let given_out = match &node.emission {
        Emission::WhenFinal { place, shape: GroupShape::Session } => {
            let all = together(partial, kept)?;
            let merged = aggregation.merged(Arc::new(MergeSessionsExec::new(all, aggregation.key_count(), *place)?))?;
            keep(merged, node, &aggregation)
        }
        _ => together(keep(partial, node, &aggregation), kept)?,
    };
    let mode = match groups.is_empty() || session.config().target_partitions() == 1 {
        true => AggregateMode::Final,
        false => AggregateMode::FinalPartitioned,
    };
    let whole = AggregateExec::try_new(
        mode,
        aggregation.keys.clone(),
        aggregation.aggregates.clone(),
        filters,
        given_out,
        input_schema,
    )?;
    node.state.planned(aggregation);
    Ok(Arc::new(whole))
}

pub(super) fn restored(stored: &Arc<dyn ExecutionPlan>, partial: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    let schema = Arc::clone(partial);
    let rows = Arc::clone(stored);
    Arc::new(MapExec::new("KeptGroupsExec", rows, Arc::clone(partial), move |batch, _| from_stored(&batch, &schema)))
}

fn together(new: Arc<dyn ExecutionPlan>, kept: Option<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    match kept {
        Some(kept) => UnionExec::try_new(vec![new, kept]),
        None => Ok(new),
    }
}

/// Hands groups to the state, and passes on what this batch gives out.
fn keep(groups: Arc<dyn ExecutionPlan>, node: &StatefulAggregate, aggregation: &Aggregation) -> Arc<dyn ExecutionPlan> {
    let (state, final_us) = (node.state.clone(), node.watermarks.final_us);
    let (stored, emission) = (aggregation.stored_schema(), aggregation.emission.clone());
    let schema = groups.schema();
    let keep = MapExec::new("KeepGroupsExec", groups, schema, move |batch, context| {
        let place = match &emission {
            Emission::Complete => {
                state.keep(to_stored(&batch, None, &stored)?, context)?;
                return Ok(batch);
            }
            Emission::WhenFinal { place, .. } => *place,
        };
        let expires = times_of(batch.column(place))?;
        let over = over_at(&expires, final_us);
        let stays = not(&over)?;
        let open = to_stored(&batch, Some(&expires), &stored)?;
        GroupState::keep(&state, filter_record_batch(&open, &stays)?, context)?;
        Ok(filter_record_batch(&batch, &over)?)
    });
    Arc::new(keep.reading_to_the_end(node.state.completion()))
}
