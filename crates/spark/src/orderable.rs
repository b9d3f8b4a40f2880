//! Variants and maps have no order, and no two of them are equal: whatever compares them is refused, as in Spark.
//!
//! Maps can be grouped by, and nothing else.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, NullEquality, Result as DataFusionResult};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, merge_schema};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Operator};

use crate::error::{Error, Result};
use crate::operators::Deduplicate;
use crate::types::{holds_variant, is_variant, sql_type_name};

/// Functions that compare the values of their arguments, or those in them.
const COMPARING: [&str; 19] = [
    "array_contains",
    "array_distinct",
    "array_except",
    "array_intersect",
    "array_max",
    "array_min",
    "array_position",
    "array_remove",
    "array_sort",
    "array_union",
    "arrays_overlap",
    "greatest",
    "least",
    "max",
    "min",
    "nullif",
    "percentile_disc",
    "sort_array",
    "array_has",
];

/// The plan, if nothing in it compares variants or maps.
///
/// # Errors
/// `DATATYPE_MISMATCH.INVALID_ORDERING_TYPE`, `GROUP_EXPRESSION_TYPE_IS_NOT_ORDERABLE` or
/// `UNSUPPORTED_FEATURE.SET_OPERATION_ON_VARIANT_TYPE` (`User`) if something does.
pub(crate) fn checked(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.apply_with_subqueries(|node| check(node).map(|()| TreeNodeRecursion::Continue))?;
    Ok(plan)
}

fn check(node: &LogicalPlan) -> DataFusionResult<()> {
    let schema = merge_schema(&node.inputs());
    match node {
        LogicalPlan::Sort(sort) => {
            sort.expr.iter().try_for_each(|item| ordered(&item.expr, &schema, "sortorder"))?;
        }
        LogicalPlan::Aggregate(aggregate) => {
            for expr in grouping_set_to_exprlist(&aggregate.group_expr)? {
                if let Some(found) = type_if(expr, &schema, holds_variant) {
                    return Err(not_groupable(expr, &found).into());
                }
            }
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            if let Some(field) = input.schema().fields().iter().find(|field| has_no_order(field.data_type())) {
                return Err(not_distinct(field.name(), field.data_type()).into());
            }
        }
        LogicalPlan::Extension(extension) => {
            if let Some(deduplicate) = extension.node.as_any().downcast_ref::<Deduplicate>() {
                for key in &deduplicate.keys {
                    let data_type = schema.field_from_column(key)?.data_type();
                    if has_no_order(data_type) {
                        return Err(not_distinct(&key.name, data_type).into());
                    }
                }
            }
        }
        LogicalPlan::Join(join) => {
            // The joins that set operations become find a NULL equal to a NULL.
            let is_set_operation = join.null_equality == NullEquality::NullEqualsNull;
            for key in join.on.iter().flat_map(|(left, right)| [left, right]) {
                match type_if(key, &schema, has_no_order) {
                    Some(found) if is_set_operation => {
                        return Err(not_distinct(&key.schema_name().to_string(), &found).into());
                    }
                    _ => ordered(key, &schema, "=")?,
                }
            }
        }
        _ => {}
    }
    node.apply_expressions(|expr| expr.apply(|part| compared(part, &schema).map(|()| TreeNodeRecursion::Continue)))?;
    Ok(())
}

/// Whether an operator needs an order, or equality.
pub(crate) fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// What an expression compares has an order.
fn compared(expr: &Expr, schema: &DFSchema) -> DataFusionResult<()> {
    match expr {
        Expr::BinaryExpr(binary) if compares(binary.op) => {
            let operator = match binary.op {
                Operator::IsNotDistinctFrom => "<=>".to_owned(),
                other => other.to_string(),
            };
            ordered(&binary.left, schema, &operator)?;
            ordered(&binary.right, schema, &operator)
        }
        Expr::InList(list) => ordered(&list.expr, schema, "in"),
        Expr::ScalarFunction(call) if COMPARING.contains(&call.name()) => {
            call.args.iter().try_for_each(|arg| ordered(arg, schema, call.name()))
        }
        Expr::AggregateFunction(call) => match (call.func.name(), call.params.args.as_slice()) {
            (name @ ("max_by" | "min_by"), [_, by]) => ordered(by, schema, name),
            ("collect_set", [set]) => no_map(set, schema),
            (name, args) if COMPARING.contains(&name) => args.iter().try_for_each(|arg| ordered(arg, schema, name)),
            _ => Ok(()),
        },
        Expr::WindowFunction(window) => {
            let WindowFunctionParams { partition_by, order_by, .. } = &window.params;
            if let Some((key, found)) =
                partition_by.iter().find_map(|key| Some((key, type_if(key, schema, has_no_order)?)))
            {
                return Err(not_groupable(key, &found).with_condition("EXPRESSION_TYPE_IS_NOT_ORDERABLE").into());
            }
            order_by.iter().try_for_each(|item| ordered(&item.expr, schema, "sortorder"))
        }
        _ => Ok(()),
    }
}

fn ordered(expr: &Expr, schema: &DFSchema, operation: &str) -> DataFusionResult<()> {
    match type_if(expr, schema, has_no_order) {
        Some(found) => {
            Err(Error::user(format!("`{operation}` does not support ordering on type {}", sql_type_name(&found)))
                .with_condition("DATATYPE_MISMATCH.INVALID_ORDERING_TYPE")
                .with_help("Take a value that has an order out of it first, such as `v:name::STRING` or `m['key']`.")
                .into())
        }
        None => Ok(()),
    }
}

/// A set of variants is one of their bytes, a set of maps none at all.
fn no_map(expr: &Expr, schema: &DFSchema) -> DataFusionResult<()> {
    match type_if(expr, schema, |data_type| has_no_order(data_type) && !holds_variant(data_type)) {
        Some(found) => Err(Error::user(format!("`collect_set` cannot take {}", sql_type_name(&found)))
            .with_condition("DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE")
            .with_help("Use `collect_list`.")
            .into()),
        None => Ok(()),
    }
}

/// The type of an expression if it is `refused`. One whose type is not known yet is looked at where it is.
fn type_if(expr: &Expr, schema: &DFSchema, refused: fn(&DataType) -> bool) -> Option<DataType> {
    expr.get_type(schema).ok().filter(refused)
}

/// Whether a type, or one within it, is that of maps or variants.
pub(crate) fn has_no_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        _ if is_variant(data_type) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_no_order(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_no_order(field.data_type())),
        _ => false,
    }
}

fn not_groupable(expr: &Expr, data_type: &DataType) -> Error {
    let shown = expr.schema_name();
    Error::user(format!("`{shown}` cannot be grouped by: its type {} has no order", sql_type_name(data_type)))
        .with_condition("GROUP_EXPRESSION_TYPE_IS_NOT_ORDERABLE")
        .with_help("Take a value that has an order out of it first, such as `v:name::STRING` or `m['key']`.")
}

fn not_distinct(column: &str, data_type: &DataType) -> Error {
    let condition = match holds_variant(data_type) {
        true => "UNSUPPORTED_FEATURE.SET_OPERATION_ON_VARIANT_TYPE",
        false => "UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE",
    };
    let data_type = sql_type_name(data_type);
    Error::user(format!("DISTINCT and set operations cannot compare column `{column}` of type {data_type}"))
        .with_condition(condition)
        .with_help("Leave the column out, or take values that have an order out of it first.")
}
