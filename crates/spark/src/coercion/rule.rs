//! The analyzer rule: Spark's semantics for plans whose builder did not ask for them.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection, Union};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

use super::{resolve, types};
use crate::cast::{CastMode, spark_cast};
use crate::conf::SparkConf;
use crate::error::Error;
use crate::functions::{IN_ORDER, holds_map};
use crate::session::conf_of;
use crate::types::sql_type_name;

/// Gives the casts, operators and branches of a plan Spark's meaning. Runs before DataFusion's type coercion.
#[derive(Debug)]
pub struct SparkSemantics;

impl AnalyzerRule for SparkSemantics {
    fn name(&self) -> &str {
        "spark_semantics"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let conf = conf_of(config);
        Ok(analyze_with(&DFSchema::empty(), plan, &conf)?.data)
    }
}

/// `plan` as the rule leaves it.
pub(crate) fn analyzed(plan: LogicalPlan, conf: &SparkConf) -> DataFusionResult<LogicalPlan> {
    Ok(analyze_with(&DFSchema::empty(), plan, conf)?.data)
}

/// An expression over the columns of `schema` as the rule leaves it.
pub(crate) fn analyzed_expr(expr: Expr, schema: &DFSchema, conf: &SparkConf) -> DataFusionResult<Expr> {
    Ok(expr.transform_up(|expr| rewrite(expr, schema, conf))?.data)
}

/// `outer` is what a correlated subquery sees of the query around it.
fn analyze_with(outer: &DFSchema, plan: LogicalPlan, conf: &SparkConf) -> DataFusionResult<Transformed<LogicalPlan>> {
    plan.transform_up(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        schema.merge(outer);
        let names = NamePreserver::new(&plan);
        let changed = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let resolved = expr.transform_up(|expr| rewrite(expr, &schema, conf))?;
            Ok(resolved.update_data(|expr| name.restore(expr)))
        })?;
        let changed = changed.map_data(|plan| match plan {
            LogicalPlan::Union(union) => widen_union(union, conf).map(LogicalPlan::Union),
            LogicalPlan::Aggregate(aggregate) => group_by_maps(aggregate).map(LogicalPlan::Aggregate),
            other => Ok(other),
        })?;
        changed.map_data(|plan| plan.recompute_schema())
    })
}

/// Groups by maps whose entries are in one order: in which order they came does not matter to Spark.
fn group_by_maps(mut aggregate: Aggregate) -> DataFusionResult<Aggregate> {
    let schema = Arc::clone(aggregate.input.schema());
    for group in &mut aggregate.group_expr {
        if let Expr::GroupingSet(sets) = group {
            for expr in sets.distinct_expr() {
                if holds_map(&expr.get_type(schema.as_ref())?) {
                    let error = Error::unsupported(format!(
                        "`{}`, a map, in GROUPING SETS, ROLLUP or CUBE",
                        expr.schema_name()
                    ));
                    return Err(error.with_help("Group by it in queries of their own, joined by UNION ALL.").into());
                }
            }
            continue;
        }
        if is_in_order(group) || !holds_map(&group.get_type(schema.as_ref())?) {
            continue;
        }
        let (qualifier, name) = group.qualified_name();
        *group = IN_ORDER.call(vec![group.clone()]).alias_qualified(qualifier, name);
    }
    Ok(aggregate)
}

fn is_in_order(group: &Expr) -> bool {
    match group {
        Expr::Alias(alias) => is_in_order(&alias.expr),
        Expr::ScalarFunction(function) => IN_ORDER.names.contains(&function.name()),
        _ => false,
    }
}

fn rewrite(expr: Expr, schema: &DFSchema, conf: &SparkConf) -> DataFusionResult<Transformed<Expr>> {
    let inside = |subquery: datafusion::logical_expr::Subquery| -> DataFusionResult<_> {
        let plan = analyze_with(schema, Arc::unwrap_or_clone(Arc::clone(&subquery.subquery)), conf)?.data;
        Ok(subquery.with_plan(Arc::new(plan)))
    };
    let expr = match expr {
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(crate::subquery::may_be_null(inside(subquery)?)?),
        Expr::Exists(mut exists) => {
            exists.subquery = inside(exists.subquery)?;
            Expr::Exists(exists)
        }
        Expr::InSubquery(mut within) => {
            within.subquery = inside(within.subquery)?;
            Expr::InSubquery(within)
        }
        other => other,
    };
    Ok(Transformed::yes(resolve(expr, schema, conf).map_err(DataFusionError::from)?))
}

/// Casts the columns of each input of a UNION to the type they meet at.
pub(crate) fn widen_union(union: Union, conf: &SparkConf) -> DataFusionResult<Union> {
    let Some(first) = union.inputs.first() else { return Ok(union) };
    let width = first.schema().fields().len();
    let common = (0..width)
        .map(|i| {
            let of_input = |input: &Arc<LogicalPlan>| input.schema().fields().get(i).map(|f| f.data_type().clone());
            let column: Vec<_> = union.inputs.iter().filter_map(of_input).collect();
            let alike =
                || column.iter().all(|other| types::same_structure(&column[0], other)).then(|| column[0].clone());
            types::widest(&column, conf.ansi).or_else(alike).ok_or_else(|| {
                let names: Vec<_> = column.iter().map(sql_type_name).collect();
                Error::user(format!("UNION: column {} has the types {}", i + 1, names.join(", ")))
                    .with_condition("INCOMPATIBLE_COLUMN_TYPE")
                    .with_help("Cast the columns to one type.")
            })
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(DataFusionError::from)?;
    let inputs =
        union.inputs.into_iter().map(|input| widen_input(input, &common, conf)).collect::<DataFusionResult<_>>()?;
    Ok(Union { inputs, schema: union.schema })
}

fn widen_input(
    input: Arc<LogicalPlan>,
    common: &[arrow::datatypes::DataType],
    conf: &SparkConf,
) -> DataFusionResult<Arc<LogicalPlan>> {
    let columns: Vec<_> = input.schema().iter().collect();
    if columns.len() != common.len() || columns.iter().zip(common).all(|((_, f), t)| f.data_type() == t) {
        return Ok(input);
    }
    let exprs = columns
        .into_iter()
        .zip(common)
        .map(|((qualifier, field), to)| {
            let column = Expr::Column(datafusion::common::Column::new(qualifier.cloned(), field.name()));
            if field.data_type() == to {
                return Ok(column);
            }
            let cast = spark_cast(column, field.data_type(), to, CastMode::of(conf.ansi), conf)?;
            Ok(Expr::Alias(Alias::new(cast, qualifier.cloned(), field.name())))
        })
        .collect::<crate::error::Result<Vec<_>>>()
        .map_err(DataFusionError::from)?;
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
}
