//! The physical operator that evaluates expectations.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::kernels::boolean::and;
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, apply_expression_roots};
use deltaworks_incremental::cdc::{OPERATION, SEQUENCE, SETS};
use deltaworks_spark::{Error, Kind};
use futures::StreamExt;

use super::{ExpectationMetrics, Expectations};
use crate::definitions::ExpectationAction;

/// Evaluates all predicates of a dataset on its rows, in one pass.
#[derive(Debug)]
pub struct ExpectationExec {
    input: Arc<dyn ExecutionPlan>,
    checks: Arc<Checks>,
    properties: Arc<PlanProperties>,
}

#[derive(Debug)]
struct Checks {
    dataset: String,
    checks: Vec<Check>,
    metrics: Arc<ExpectationMetrics>,
}

#[derive(Debug)]
struct Check {
    name: String,
    action: ExpectationAction,
    predicate: Arc<dyn PhysicalExpr>,
}

impl ExpectationExec {
    /// The operator for `node`, whose predicates have been planned.
    pub fn new(input: Arc<dyn ExecutionPlan>, node: &Expectations, predicates: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        let checks = node
            .expectations
            .iter()
            .zip(predicates)
            .map(|(expectation, predicate)| Check {
                name: expectation.name.clone(),
                action: expectation.action,
                predicate,
            })
            .collect();
        let checks = Checks { dataset: node.dataset.clone(), checks, metrics: Arc::clone(&node.metrics) };
        Self::with_checks(input, Arc::new(checks))
    }

    fn with_checks(input: Arc<dyn ExecutionPlan>, checks: Arc<Checks>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, checks, properties }
    }
}

impl DisplayAs for ExpectationExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.checks.checks.iter().map(|check| check.name.as_str()).collect();
        write!(f, "ExpectationExec: {} [{}]", self.checks.dataset, names.join(", "))
    }
}

impl ExecutionPlan for ExpectationExec {
    fn name(&self) -> &str {
        "ExpectationExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.checks.checks.iter().map(|check| &check.predicate), f)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| DataFusionError::Internal("expectations have one input".into()))?;
        Ok(Arc::new(Self::with_checks(input, Arc::clone(&self.checks))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let checks = Arc::clone(&self.checks);
        let checked = input.map(move |batch| batch.and_then(|batch| checks.apply(batch)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, checked)))
    }
}

impl Checks {
    /// Counts, then fails or drops; every predicate sees every row.
    fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(batch);
        }
        let outcomes = self.checks.iter().map(|check| check.evaluate(&batch)).collect::<Result<Vec<_>>>()?;
        self.fail_if_violated(&batch, &outcomes)?;
        let mut keep: Option<BooleanArray> = None;
        for (index, (check, outcome)) in self.checks.iter().zip(&outcomes).enumerate() {
            let passed = outcome.true_count();
            self.metrics.add(index, passed as u64, (rows - passed) as u64);
            if check.action == ExpectationAction::Drop && passed < rows {
                keep = Some(match keep {
                    Some(earlier) => and(&earlier, outcome)?,
                    None => outcome.clone(),
                });
            }
        }
        let Some(keep) = keep else { return Ok(batch) };
        let kept = filter_record_batch(&batch, &keep)?;
        self.metrics.add_dropped((rows - kept.num_rows()) as u64);
        Ok(kept)
    }

    fn fail_if_violated(&self, batch: &RecordBatch, outcomes: &[BooleanArray]) -> Result<()> {
        let first = self
            .checks
            .iter()
            .zip(outcomes)
            .filter(|(check, _)| check.action == ExpectationAction::Fail)
            .filter_map(|(_, outcome)| outcome.values().iter().position(|passed| !passed))
            .min();
        let Some(row) = first else { return Ok(()) };
        let violated: Vec<_> = self
            .checks
            .iter()
            .zip(outcomes)
            .filter(|(check, outcome)| check.action == ExpectationAction::Fail && !outcome.value(row))
            .map(|(check, _)| check.name.as_str())
            .collect();
        Err(violation(&self.dataset, &violated, &batch.slice(row, 1)).into())
    }
}

impl Check {
    /// One value per row, never NULL: TRUE if and only if the predicate is TRUE.
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let value: ArrayRef = self.predicate.evaluate(batch)?.into_array(batch.num_rows())?;
        let outcome = value
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| DataFusionError::Internal(format!("expectation `{}` is not boolean", self.name)))?;
        Ok(if outcome.null_count() == 0 { outcome.clone() } else { prep_null_mask_filter(outcome) })
    }
}

fn violation(dataset: &str, violated: &[&str], record: &RecordBatch) -> Error {
    Error::new(
        Kind::Data,
        format!(
            "Flow '{dataset}' failed to meet the expectation. Violated expectations: '{}'. Output record: '{}'.",
            violated.join(", "),
            record_as_json(record)
        ),
    )
    .with_condition("EXPECTATION_VIOLATION.VERBOSITY_OUTPUT")
    .with_help("The table is as it was before. Fix the data, or use ON VIOLATION DROP ROW (expect_or_drop).")
}

/// One row as a JSON object, NULLs included; a row that cannot be shown is described.
fn record_as_json(record: &RecordBatch) -> String {
    // Of an event of AUTO CDC the user's columns.
    let own = |name: &str| ![SEQUENCE, OPERATION, SETS].contains(&name);
    let columns: Vec<usize> =
        (0..record.num_columns()).filter(|column| own(record.schema_ref().field(*column).name())).collect();
    let mut writer = arrow::json::writer::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    let written = record.project(&columns).and_then(|record| writer.write(&record)).and_then(|()| writer.finish());
    match written {
        Ok(()) => String::from_utf8_lossy(&writer.into_inner()).trim_end().to_owned(),
        Err(error) => format!("<not shown: {error}>"),
    }
}
