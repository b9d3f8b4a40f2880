//! Correlated scalar subqueries: a value is looked up for each row.

use std::sync::LazyLock;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Column, DFSchema, Result as DataFusionResult};
use datafusion::functions_aggregate::expr_fn::{count, first_value};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, FetchType, JoinType, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarFunctionArgs, ScalarUDFImpl, Signature, Subquery, Volatility, binary_expr, lit,
};

use super::correlation::refers_to;
use super::existence::{Candidates, Matches, Wanted, candidates};
use super::{Resolver, Rows};
use crate::coercion::call;
use crate::error::{Error, Result};

/// Whether a subquery in an expression over rows of the schema needs one of our joins, or, unless it is a projection
/// that evaluates the expression, one of DataFusion's.
pub(super) fn needs_join(part: &Expr, rows: &DFSchema, projects: bool) -> Result<bool> {
    match part {
        Expr::ScalarSubquery(subquery) => {
            Ok(refers_to(&subquery.subquery, rows)? && !(projects && is_left_alone(subquery, rows)?))
        }
        _ => Ok(true),
    }
}

/// Whether DataFusion joins for it where it stands in a projection or a filter: an aggregate without keys of rows that are
/// filtered by columns equal to what the outer row has.
pub(super) fn is_left_alone(subquery: &Subquery, rows: &DFSchema) -> Result<bool> {
    let mut plan = subquery.subquery.as_ref();
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::contains_outer) => {
                &projection.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Aggregate(aggregate)
                if aggregate.group_expr.is_empty() && !aggregate.aggr_expr.iter().any(Expr::contains_outer) =>
            {
                plan = &aggregate.input;
                break;
            }
            _ => return Ok(false),
        };
    }
    let Some(Candidates { conditions, values, .. }) = candidates(plan, rows, Wanted::All)? else { return Ok(false) };
    let is_equality = |condition: &&Expr| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let sides = [(left, right), (right, left)];
            sides.iter().any(|(inner, outer)| matches!(inner.as_ref(), Expr::Column(_)) && !outer.any_column_refs())
        }
        _ => false,
    };
    Ok(!values.iter().any(Expr::contains_outer)
        && conditions.iter().filter(|condition| condition.contains_outer()).all(|condition| is_equality(&condition)))
}

/// Whether a subquery has a row at most, whatever its tables hold.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Distinct(_) => plan.inputs().into_iter().all(has_one_row),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0..=1)))),
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

impl Resolver<'_> {
    /// A column of `rows` that a projection finds with DataFusion's join.
    pub(super) fn looked_up(&self, subquery: Subquery, rows: &mut Rows) -> Result<Expr> {
        let name = self.name("value");
        let columns = rows.plan.schema().columns().into_iter().map(Expr::Column);
        let columns = columns.chain([Expr::ScalarSubquery(subquery).alias(&name)]).collect::<Vec<_>>();
        rows.plan = LogicalPlanBuilder::from(rows.plan.clone()).project(columns)?.build()?;
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    /// The value of a subquery for each row; NULL where it has no row.
    pub(super) fn scalar(&self, subquery: &Subquery, rows: &mut Rows) -> Result<Expr> {
        let Matches { right, condition, values } = self.matches(&subquery.subquery, rows, Wanted::All)?;
        let [value] = values.as_slice() else {
            return Err(Error::user(format!("a scalar subquery must have one column, not {}", values.len()))
                .with_condition("INVALID_SUBQUERY_EXPRESSION.SCALAR_SUBQUERY_RETURN_MORE_THAN_ONE_OUTPUT_COLUMN"));
        };
        if has_one_row(&subquery.subquery) {
            let plan = LogicalPlanBuilder::from(rows.plan.clone());
            let condition = Some(condition.unwrap_or_else(|| lit(true)));
            rows.plan = plan.join_on(right, JoinType::Left, condition)?.build()?;
            return Ok(value.clone());
        }
        self.grouped(right, condition, value, rows)
    }

    /// The rows by what tells them to belong to an outer row, so that each outer row has one group.
    fn grouped(&self, right: LogicalPlan, condition: Option<Expr>, value: &Expr, rows: &mut Rows) -> Result<Expr> {
        let name = self.name("subquery");
        let (mut keys, mut conditions) = (Vec::new(), Vec::new());
        let inside = |expr: &Expr| expr.column_refs().iter().all(|column| right.schema().has_column(column));
        for part in condition.iter().flat_map(split_conjunction) {
            let Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::Eq | Operator::IsNotDistinctFrom),
                right: other,
            }) = part
            else {
                return Err(several());
            };
            let (inner, outer) = match (inside(left), inside(other)) {
                (true, false) => (left, other),
                (false, true) => (other, left),
                _ => return Err(several()),
            };
            let key = format!("key{}", keys.len());
            keys.push(inner.as_ref().clone().alias(&key));
            conditions.push(binary_expr(outer.as_ref().clone(), *op, Expr::Column(Column::new(Some(&name), key))));
        }
        if !inside(value) {
            return Err(several());
        }
        let aggregates = [count(lit(1_i64)).alias("rows"), first_value(value.clone(), Vec::new()).alias("value")];
        let right = LogicalPlanBuilder::from(right).aggregate(keys, aggregates)?.alias(&name)?.build()?;
        let condition = Some(conjunction(conditions).unwrap_or_else(|| lit(true)));
        rows.plan = LogicalPlanBuilder::from(rows.plan.clone()).join_on(right, JoinType::Left, condition)?.build()?;
        let column = |part: &str| Expr::Column(Column::new(Some(&name), part));
        Ok(call(OneRow, vec![column("rows"), column("value")]))
    }
}

fn several() -> Error {
    Error::unsupported("a correlated scalar subquery that may have several rows, unless its condition is equality")
        .with_help("Aggregate in the subquery: max(…), first(…).")
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(2, Volatility::Immutable));

/// The second argument, a value from as many rows as the first says.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneRow;

impl ScalarUDFImpl for OneRow {
    fn name(&self) -> &str {
        "spark_one_row"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(types.get(1).cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let rows = args.args[0].to_array(args.number_rows)?;
        if rows.as_primitive::<Int64Type>().iter().flatten().any(|rows| rows > 1) {
            return Err(Error::data("a subquery used as an expression has more than one row")
                .with_condition("SCALAR_SUBQUERY_TOO_MANY_ROWS")
                .with_help("Aggregate in the subquery, or add LIMIT 1.")
                .into());
        }
        Ok(args.args[1].clone())
    }
}
