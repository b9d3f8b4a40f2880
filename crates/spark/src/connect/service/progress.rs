//! How far an execution is, and what its plans have counted, in the form of the protocol.
//!
//! What Spark calls a stage is a part of a plan whose partitions run without waiting for those of another: it ends where rows
//! are exchanged between partitions. Its tasks are its partitions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::connect::proto::execute_plan_response::execution_progress::StageInfo;
use crate::connect::proto::execute_plan_response::metrics::{MetricObject, MetricValue as MetricMessage};
use crate::connect::proto::execute_plan_response::{ExecutionProgress, Metrics};

/// The bytes that a scan has read, as DataFusion names them.
const BYTES_READ: &str = "bytes_scanned";

/// How far `plans` are; all of them are done if `ended`.
pub(super) fn progress(plans: &[Arc<dyn ExecutionPlan>], ended: bool) -> ExecutionProgress {
    let mut stages = Vec::new();
    plans.iter().for_each(|plan| collect(plan, &mut stages));
    // Those that others wait for come first.
    stages.reverse();
    let num_inflight_tasks = if ended { 0 } else { stages.iter().map(Stage::running).sum() };
    let message = |(id, stage): (usize, &Stage)| {
        let num_completed_tasks = if ended { stage.tasks } else { stage.ended() };
        StageInfo {
            stage_id: id as i64,
            num_tasks: stage.tasks as i64,
            num_completed_tasks: num_completed_tasks as i64,
            input_bytes_read: stage.bytes_read as i64,
            done: num_completed_tasks == stage.tasks,
        }
    };
    ExecutionProgress { stages: stages.iter().enumerate().map(message).collect(), num_inflight_tasks }
}

/// Partitions that run together.
struct Stage {
    tasks: usize,
    /// Of the uppermost operator that counts: the partitions that were started, and those that have ended.
    counted: Option<(BTreeSet<usize>, BTreeSet<usize>)>,
    bytes_read: usize,
}

impl Stage {
    fn ended(&self) -> usize {
        self.counted.as_ref().map_or(0, |(_, ended)| ended.len().min(self.tasks))
    }

    fn running(&self) -> i64 {
        self.counted.as_ref().map_or(0, |(started, ended)| started.difference(ended).count() as i64)
    }
}

fn collect(plan: &Arc<dyn ExecutionPlan>, stages: &mut Vec<Stage>) {
    let tasks = plan.output_partitioning().partition_count();
    let mut stage = Stage { tasks, counted: None, bytes_read: 0 };
    let mut below = Vec::new();
    fill(plan, &mut stage, &mut below);
    stages.push(stage);
    below.iter().for_each(|plan| collect(plan, stages));
}

/// Counts what belongs to the stage of `plan`; gives what does not.
fn fill(plan: &Arc<dyn ExecutionPlan>, stage: &mut Stage, below: &mut Vec<Arc<dyn ExecutionPlan>>) {
    if let Some(metrics) = plan.metrics() {
        stage.bytes_read += metrics.sum_by_name(BYTES_READ).map_or(0, |bytes| bytes.as_usize());
        if stage.counted.is_none() {
            stage.counted = partitions(&metrics);
        }
    }
    let exchanges = plan.downcast_ref::<RepartitionExec>().is_some()
        || plan.downcast_ref::<CoalescePartitionsExec>().is_some()
        || plan.downcast_ref::<SortPreservingMergeExec>().is_some();
    for input in plan.children() {
        match exchanges {
            true => below.push(Arc::clone(input)),
            false => fill(input, stage, below),
        }
    }
}

/// The partitions that were started, and those that have ended; `None` if the operator does not say.
fn partitions(metrics: &MetricsSet) -> Option<(BTreeSet<usize>, BTreeSet<usize>)> {
    let (mut started, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for metric in metrics.iter() {
        let Some(partition) = metric.partition() else { continue };
        match metric.value() {
            MetricValue::StartTimestamp(time) if time.value().is_some() => started.insert(partition),
            MetricValue::EndTimestamp(time) if time.value().is_some() => ended.insert(partition),
            _ => false,
        };
    }
    (!started.is_empty()).then_some((started, ended))
}

/// What the operators of `plan` have counted. They are numbered from the uppermost on, which is its own parent.
pub(super) fn metrics(plan: &Arc<dyn ExecutionPlan>) -> Metrics {
    let mut metrics = Vec::new();
    describe(plan, 0, &mut metrics);
    Metrics { metrics }
}

fn describe(plan: &Arc<dyn ExecutionPlan>, parent: i64, all: &mut Vec<MetricObject>) {
    let plan_id = all.len() as i64;
    let counted = plan.metrics().map(|metrics| metrics.aggregate_by_name()).unwrap_or_default();
    let execution_metrics: HashMap<_, _> = counted
        .iter()
        .filter_map(|metric| {
            let (name, value) = (metric.value().name().to_owned(), metric.value());
            let metric_type = kind(value)?.to_owned();
            let value = i64::try_from(value.as_usize()).unwrap_or(i64::MAX);
            Some((name.clone(), MetricMessage { name, value, metric_type }))
        })
        .collect();
    all.push(MetricObject { name: plan.name().to_owned(), plan_id, parent, execution_metrics });
    for input in plan.children() {
        describe(input, plan_id, all);
    }
}

/// Spark's word for a kind of metric; `None` for what is no number.
fn kind(value: &MetricValue) -> Option<&'static str> {
    match value {
        MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) => None,
        MetricValue::ElapsedCompute(_) | MetricValue::Time { .. } => Some("nsTiming"),
        MetricValue::CurrentMemoryUsage(_) | MetricValue::SpilledBytes(_) | MetricValue::OutputBytes(_) => Some("size"),
        other if other.name() == BYTES_READ => Some("size"),
        _ => Some("sum"),
    }
}
