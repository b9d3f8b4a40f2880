//! Logical operators of Spark that DataFusion has no node for.
//!
//! They stand in plans as extension nodes. Who runs them (once over a table, or batch by batch with
//! state) is decided by the extension planner of the session.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

/// `dropDuplicates`: keeps the first row of each key, in input order.
///
/// On a stream the keys of earlier batches count too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deduplicate {
    /// The rows.
    pub input: Arc<LogicalPlan>,
    /// The key columns, all of the input; NULLs are equal to each other, as in Spark.
    pub keys: Vec<Column>,
    /// `dropDuplicatesWithinWatermark`: a key is remembered only for the watermark's delay.
    pub within_watermark: bool,
}

impl Deduplicate {
    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialOrd for Deduplicate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.keys.partial_cmp(&other.keys) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for Deduplicate {
    fn name(&self) -> &str {
        "Deduplicate"
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
        write!(f, "Deduplicate: keys=[{}]", keys.join(", "))?;
        if self.within_watermark {
            write!(f, " within watermark")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let keys = exprs
            .into_iter()
            .map(|expr| match expr {
                Expr::Column(column) => Ok(column),
                other => Err(DataFusionError::Internal(format!("deduplication key is not a column: {other}"))),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { input: Arc::new(single(inputs)?), keys, within_watermark: self.within_watermark })
    }

    /// The rows are passed through: the input needs what the output needs, and the keys.
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

/// `withWatermark`: declares the event-time column of a stream and how late rows may come.
///
/// Passes all rows; on batch input it has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventTimeWatermark {
    /// The rows.
    pub input: Arc<LogicalPlan>,
    /// The event-time column of the input.
    pub event_time: Column,
    /// How much later than the latest event time seen a row may come, in microseconds.
    pub delay_us: i64,
}

impl EventTimeWatermark {
    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl PartialOrd for EventTimeWatermark {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (&self.event_time, self.delay_us).partial_cmp(&(&other.event_time, other.delay_us)) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for EventTimeWatermark {
    fn name(&self) -> &str {
        "EventTimeWatermark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.event_time.clone())]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "EventTimeWatermark: {} delay {} us", self.event_time.flat_name(), self.delay_us)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match exprs.as_slice() {
            [Expr::Column(column)] => {
                Ok(Self { input: Arc::new(single(inputs)?), event_time: column.clone(), delay_us: self.delay_us })
            }
            _ => Err(DataFusionError::Internal("the watermark's event time is not a column".to_owned())),
        }
    }
}

fn single(inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    <[LogicalPlan; 1]>::try_from(inputs)
        .map(|[input]| input)
        .map_err(|inputs| DataFusionError::Internal(format!("expected one input, got {}", inputs.len())))
}
