//! Aggregation of a stream: the groups' accumulators are kept between batches.
//!
//! What is kept is what partial aggregation gives: per group the state of each accumulator. A batch adds the groups
//! of its own rows beside those of earlier batches; groups are merged when they are read. So a batch writes what it
//! touches and no more, and the rows of one group may lie in several files until these are merged.
//!
//! - *Append*: groups have an event time. A group is final once the watermark has passed its end: the batch that
//!   works with such a watermark gives it out, and never again. What is final is read by nobody any more.
//! - *Complete*: every batch gives out all groups as they are now.
//! - *Sessions* are append groups that grow and meet: the open ones of a key are merged in each batch.

mod exec;
mod merge;
mod sessions;
mod storage;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchemaRef, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable as _, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, col,
    lit,
};
use deltaworks_spark::error::Result;

pub(crate) use exec::plan;
pub use merge::GroupState;
pub use storage::EXPIRES;
pub(crate) use storage::{convert, expires_type, stored_type};

use crate::event_time::{EventTime, Shape, event_time};
use crate::fingerprint;
use crate::grouping_sets::keys;
use crate::state::OperatorState;
use crate::watermark::{InTime, Watermarks};

/// When groups are given out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Emission {
    /// All of them by every batch.
    Complete,
    /// Each once, when the watermark has passed the event time at this place among the group keys.
    WhenFinal { place: usize, shape: GroupShape },
}

/// What the event time of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GroupShape {
    /// A time or a window, the same for all rows of the group.
    Fixed,
    /// A session.
    Session,
}

/// How a streaming aggregation gives out its groups; `None` if a watermark is declared, but no key has it.
pub(crate) fn emission(aggregate: &Aggregate) -> Option<Emission> {
    match event_time_of_groups(aggregate) {
        Some((place, time)) => {
            let shape = match time.shape {
                Shape::Session(_) => GroupShape::Session,
                Shape::Instant | Shape::Window(_) => GroupShape::Fixed,
            };
            Some(Emission::WhenFinal { place, shape })
        }
        None => crate::event_time::event_time_column(&aggregate.input).is_none().then_some(Emission::Complete),
    }
}

fn event_time_of_groups(aggregate: &Aggregate) -> Option<(usize, EventTime)> {
    let mut keys = keys(aggregate).into_iter().enumerate();
    keys.find_map(|(place, key)| Some((place, event_time(key, &aggregate.input)?)))
}

/// What must stay the same for the state of `aggregate` to stay valid.
pub(crate) fn fingerprint(aggregate: &Aggregate) -> Result<String> {
    let schema = aggregate.input.schema();
    let typed = |expr: &Expr| -> DataFusionResult<String> {
        let data_type = storage::stored_type(&expr.get_type(schema)?);
        Ok(format!("{} {data_type}", fingerprint::of_expr(expr, schema)))
    };
    let keys = aggregate.group_expr.iter().map(|key| match event_time(key, &aggregate.input).map(|time| time.shape) {
        Some(Shape::Window(lengths)) => Ok(format!("window({lengths})")),
        Some(Shape::Session(gap)) => Ok(format!("session_window({gap})")),
        Some(Shape::Instant) | None => typed(key),
    });
    let keys: Vec<String> = keys.collect::<DataFusionResult<_>>()?;
    let aggregates: Vec<String> = aggregate.aggr_expr.iter().map(typed).collect::<DataFusionResult<_>>()?;
    let mode = match event_time_of_groups(aggregate) {
        Some(_) => "aggregate",
        None => "complete aggregate",
    };
    Ok(format!("{mode}({}) by ({})", aggregates.join(", "), keys.join(", ")))
}

/// An aggregation with the state of earlier batches.
#[derive(Debug, Clone)]
pub(crate) struct StatefulAggregate {
    pub input: Arc<LogicalPlan>,
    /// The groups of earlier batches that this one needs, as stored.
    pub prior: Option<Arc<LogicalPlan>>,
    pub group_expr: Vec<Expr>,
    pub aggr_expr: Vec<Expr>,
    pub emission: Emission,
    pub watermarks: Watermarks,
    pub state: GroupState,
    schema: DFSchemaRef,
}

/// `aggregate` with its state.
pub(crate) fn bind(
    index: usize,
    aggregate: &Aggregate,
    emission: Emission,
    state: &OperatorState,
) -> Result<LogicalPlan> {
    // Keys become columns, which are computed once.
    let name = |place: usize| format!("__key_{index}_{place}");
    let mut columns: Vec<Expr> = aggregate.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut keys = Vec::with_capacity(aggregate.group_expr.len());
    for (place, key) in aggregate.group_expr.iter().enumerate() {
        columns.push(key.clone().unalias().alias(name(place)));
        let (qualifier, field) = aggregate.schema.qualified_field(place);
        keys.push(col(name(place)).alias_qualified(qualifier.cloned(), field.name()));
    }
    let rows = LogicalPlanBuilder::new_from_arc(Arc::clone(&aggregate.input)).project(columns)?.build()?;
    let rows = match &emission {
        Emission::WhenFinal { place, .. } => {
            InTime::over(rows, &Column::from_name(name(*place)), state.watermarks, &state.late_rows)
        }
        Emission::Complete => rows,
    };
    let prior = match &state.prior {
        Some(prior) => needed(index, prior, &emission, state.watermarks)?.map(Arc::new),
        None => None,
    };
    let node = StatefulAggregate::new(
        rows,
        prior,
        keys,
        aggregate.aggr_expr.clone(),
        emission,
        state.watermarks,
        state.groups.clone(),
    )?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The stored groups that a batch reads: those that become final by it.
fn needed(
    index: usize,
    prior: &Arc<dyn TableProvider>,
    emission: &Emission,
    watermarks: Watermarks,
) -> Result<Option<LogicalPlan>> {
    let name = format!("__groups_{index}");
    let scan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(Arc::clone(prior)), None)?;
    let expires = || Expr::Column(Column::new(Some(name.as_str()), EXPIRES));
    let at = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
    Ok(match (emission, watermarks.final_us) {
        (Emission::Complete | Emission::WhenFinal { shape: GroupShape::Session, .. }, _) => Some(scan.build()?),
        (Emission::WhenFinal { .. }, None) => None,
        (Emission::WhenFinal { .. }, Some(_)) if watermarks.late_us == watermarks.final_us => None,
        (Emission::WhenFinal { .. }, Some(final_us)) => {
            let over = expires().lt_eq(at(final_us));
            let condition = match watermarks.late_us {
                Some(late_us) => over.and(expires().gt(at(late_us))),
                None => over,
            };
            Some(scan.filter(condition)?.build()?)
        }
    })
}

impl StatefulAggregate {
    fn new(
        input: LogicalPlan,
        prior: Option<Arc<LogicalPlan>>,
        group_expr: Vec<Expr>,
        aggr_expr: Vec<Expr>,
        emission: Emission,
        watermarks: Watermarks,
        state: GroupState,
    ) -> DataFusionResult<Self> {
        let input = Arc::new(input);
        let schema = Aggregate::try_new(Arc::clone(&input), group_expr.clone(), aggr_expr.clone())?.schema;
        Ok(Self { input, prior, group_expr, aggr_expr, emission, watermarks, state, schema })
    }
}

impl PartialEq for StatefulAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.prior == other.prior
            && self.group_expr == other.group_expr
            && self.aggr_expr == other.aggr_expr
            && self.emission == other.emission
            && self.state.is(&other.state)
    }
}

impl Eq for StatefulAggregate {}

impl Hash for StatefulAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.group_expr.hash(state);
        self.aggr_expr.hash(state);
    }
}

impl PartialOrd for StatefulAggregate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        match (&self.group_expr, &self.aggr_expr).partial_cmp(&(&other.group_expr, &other.aggr_expr)) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for StatefulAggregate {
    fn name(&self) -> &str {
        "StatefulAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(self.input.as_ref()).chain(self.prior.as_deref()).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.group_expr.iter().chain(&self.aggr_expr).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "StatefulAggregate: groupBy=[{}], aggr=[{}]", names(&self.group_expr), names(&self.aggr_expr))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DataFusionResult<Self> {
        let mut inputs = inputs.into_iter();
        let (Some(input), prior) = (inputs.next(), inputs.next()) else {
            return Err(DataFusionError::Internal("an aggregation has an input".to_owned()));
        };
        let aggr_expr = exprs.split_off(self.group_expr.len());
        let prior = prior.map(Arc::new);
        Self::new(input, prior, exprs, aggr_expr, self.emission.clone(), self.watermarks, self.state.clone())
    }

    /// Of the rows what the expressions name, of the state everything.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = Vec::new();
        for expr in self.group_expr.iter().chain(&self.aggr_expr) {
            for column in expr.column_refs() {
                needed.push(self.input.schema().maybe_index_of_column(column)?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        let prior = self.prior.iter().map(|prior| (0..prior.schema().fields().len()).collect());
        Some(std::iter::once(needed).chain(prior).collect())
    }
}
