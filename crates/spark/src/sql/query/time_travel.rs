//! `t TIMESTAMP AS OF current_timestamp() - INTERVAL 1 DAY`: the time is computed before anything is read.

use std::ops::ControlFlow;

use arrow::array::AsArray as _;
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, SecondsFormat};
use datafusion::common::DFSchema;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{DataFrame, SessionContext};
use sqlparser::ast::{
    CastKind, DataType, Expr, Query, SelectItem, Spanned as _, TableFactor, TableVersion, TimezoneInfo, Value,
    VisitMut as _, VisitorMut,
};

use super::plan::Planner;
use super::provider::Provider;
use super::relation::{first_read, is_constant};
use super::repeated;
use crate::error::{Error, Result};
use crate::sql::tokens::Source;
use crate::sql_function::SqlFunctions;

/// `query` with a constant in the place of every time of `TIMESTAMP AS OF` that is an expression.
///
/// # Errors
/// `UNRESOLVED_COLUMN` if the expression names a column, `INVALID_TIME_TRAVEL_TIMESTAMP_EXPR.INPUT` if it is no time;
/// `Unsupported` if it reads a table.
pub(super) async fn with_fixed_times(ctx: &SessionContext, query: &Query, source: &Source<'_>) -> Result<Query> {
    let mut query = query.clone();
    let mut found = Times::default();
    let _ = query.visit(&mut found);
    if found.times.is_empty() {
        return Ok(query);
    }
    let mut fixed = Vec::with_capacity(found.times.len());
    for time in found.times {
        let place = source.place(time.span().start);
        fixed.push(text(ctx, time, source).await.map_err(|error| error.at(place))?);
    }
    let _ = query.visit(&mut Fixed(fixed.into_iter()));
    Ok(query)
}

/// The time that `expr` is, such that it reads the same in any time zone.
async fn text(ctx: &SessionContext, expr: Expr, source: &Source<'_>) -> Result<String> {
    let written = expr.to_string();
    let item = SelectItem::UnnamedExpr(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::Timestamp(None, TimezoneInfo::None),
        array: false,
        format: None,
    });
    if let Some(table) = first_read(std::slice::from_ref(&item), source) {
        return Err(Error::unsupported(format!("a subquery that reads a table (`{table}`) in `TIMESTAMP AS OF`"))
            .with_help("Write the time, or an expression over `current_timestamp()`."));
    }
    let state = ctx.state();
    let exprs = {
        let planner = Planner::new(Provider::new(&state), source.clone(), Vec::new(), SqlFunctions::of(&state));
        planner.plan_items(vec![item], &DFSchema::empty(), false)?
    };
    let plan = repeated::restored(LogicalPlanBuilder::empty(true).project(exprs)?.build()?)?;
    let rows = DataFrame::new(state, plan).collect().await?;
    let value = rows.iter().find(|batch| batch.num_rows() > 0).and_then(|batch| {
        let values = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>()?;
        values.iter().next().flatten()
    });
    let at = value.and_then(DateTime::from_timestamp_micros).ok_or_else(|| {
        Error::user(format!("`{written}` is not a timestamp"))
            .with_condition("INVALID_TIME_TRAVEL_TIMESTAMP_EXPR.INPUT")
    })?;
    Ok(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The expression of a time that has to be computed.
fn time_of(factor: &mut TableFactor) -> Option<&mut Expr> {
    let TableFactor::Table { version: Some(version), .. } = factor else { return None };
    match version {
        TableVersion::TimestampAsOf(expr) | TableVersion::ForSystemTimeAsOf(expr) if !is_constant(expr) => Some(expr),
        _ => None,
    }
}

/// Collects times, in the order of visits.
#[derive(Default)]
struct Times {
    times: Vec<Expr>,
}

impl VisitorMut for Times {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.times.extend(time_of(factor).cloned());
        ControlFlow::Continue(())
    }
}

/// Puts constants in the places of times, in the same order.
struct Fixed(std::vec::IntoIter<String>);

impl VisitorMut for Fixed {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(expr) = time_of(factor)
            && let Some(text) = self.0.next()
        {
            *expr = Expr::Value(Value::SingleQuotedString(text).with_span(expr.span()));
        }
        ControlFlow::Continue(())
    }
}
