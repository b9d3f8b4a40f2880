//! The parts of this crate that planning leans on: types, casts, coercion, functions, SQL text.
//!
//! Everything that decides Spark's semantics is behind these few functions, so that the same rules
//! hold for SQL and for Connect.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue, TableReference};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Case, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, lit, when};

use super::context::Planner;
use super::expression::{Expressions, Item};
use super::proto::Expression;
use super::proto::expression::{ExprType, ExpressionString, UnresolvedFunction};
use super::scope::Output;
use super::types::HIDDEN;
use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::functions::FunctionCall;
use crate::functions::element_field::ELEMENT_FIELD;
use crate::sql::query::{Parameters, parse_query};

/// What a cast does with values that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CastMode {
    Legacy,
    Ansi,
    Try,
}

/// The settings of a session.
pub(super) fn conf_of(ctx: &SessionContext) -> SparkConf {
    crate::session::conf_of(&ctx.state())
}

pub(super) fn parse_type(text: &str) -> Result<DataType> {
    crate::types::parse_data_type(text)
}

pub(super) fn parse_schema(text: &str) -> Result<Schema> {
    crate::types::parse_schema(text)
}

pub(super) fn type_name(data_type: &DataType) -> String {
    crate::types::type_name(data_type)
}

pub(super) fn canonical(data_type: &DataType) -> DataType {
    crate::types::canonical(data_type)
}

/// A cast with Spark's semantics.
pub(super) fn cast(expr: Expr, to: &DataType, mode: CastMode, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    let from = expr.get_type(schema)?;
    let mode = match mode {
        CastMode::Legacy => crate::cast::CastMode::Lenient,
        CastMode::Ansi => crate::cast::CastMode::Ansi,
        CastMode::Try => crate::cast::CastMode::Try,
    };
    crate::cast::spark_cast(expr, &from, to, mode, conf)
}

/// A cast between types on which Arrow and Spark agree.
pub(super) fn plain_cast(expr: Expr, to: &DataType) -> Expr {
    crate::cast::cast_expr(expr, to.clone())
}

/// An operator with Spark's coercion of its operands.
pub(super) fn binary_op(
    left: Expr,
    operator: Operator,
    right: Expr,
    schema: &DFSchema,
    conf: &SparkConf,
) -> Result<Expr> {
    crate::coercion::binary_op(left, operator, right, schema, conf)
}

/// The type two columns of a set operation, or two branches of a case, have in common.
pub(super) fn common_type(left: &DataType, right: &DataType) -> Result<DataType> {
    let null = |data_type: &DataType| Ok::<_, Error>(lit(ScalarValue::try_from(data_type)?));
    let (left, right) = (null(left)?, null(right)?);
    crate::coercion::common_type(&[&left, &right], DFSchema::empty_ref(), &SparkConf::pipeline_defaults())
}

/// A node whose operands are planned, with Spark's implicit casts.
pub(super) fn resolve(expr: Expr, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    crate::coercion::resolve(expr, schema, conf)
}

pub(super) fn in_list(value: Expr, list: Vec<Expr>, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    resolve(value.in_list(list, false), schema, conf)
}

pub(super) fn case(case: Case, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    resolve(Expr::Case(case), schema, conf)
}

/// A call of one of Spark's functions.
pub(super) fn call(
    planner: &Planner<'_>,
    name: &str,
    args: Vec<Expr>,
    distinct: bool,
    schema: &DFSchema,
) -> Result<Expr> {
    let call = FunctionCall { name: name.to_owned(), args, distinct, ..FunctionCall::default() };
    crate::functions::call(call, schema, &planner.conf, planner.state.as_ref())
}

/// A call of a scalar function that every session has.
pub(super) fn scalar_function(planner: &Planner<'_>, name: &str, args: Vec<Expr>) -> Result<Expr> {
    let function = planner.state.udf(name)?;
    Ok(Expr::ScalarFunction(ScalarFunction { func: function, args }))
}

/// The field of a struct, by its exact name.
pub(super) fn get_field(planner: &Planner<'_>, child: Expr, field: &str) -> Result<Expr> {
    scalar_function(planner, "get_field", vec![child, lit(field)])
}

/// `array[index]`: from 0; NULL outside the array.
pub(super) fn element(planner: &Planner<'_>, child: Expr, index: Expr, schema: &DFSchema) -> Result<Expr> {
    let index = if index.get_type(schema)? == DataType::Int64 { index } else { plain_cast(index, &DataType::Int64) };
    let element = scalar_function(planner, "array_element", vec![child, index.clone() + lit(1_i64)])?;
    Ok(when(index.gt_eq(lit(0_i64)), element).end()?)
}

/// `map[key]`: NULL if the key is not there.
pub(super) fn map_value(planner: &Planner<'_>, child: Expr, key: Expr, schema: &DFSchema) -> Result<Expr> {
    let key = match child.get_type(schema)? {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => cast(key, fields[0].data_type(), CastMode::Legacy, schema, &planner.conf)?,
            _ => key,
        },
        _ => key,
    };
    let found = scalar_function(planner, "map_extract", vec![child, key])?;
    scalar_function(planner, "array_element", vec![found, lit(1_i64)])
}

/// `structs.field` for an array of structs: the field of every element, by its exact name.
pub(super) fn field_of_elements(child: Expr, field: &str) -> Expr {
    ELEMENT_FIELD.call(vec![child, lit(field)])
}

/// A random number from 0 up to 1 for every row.
pub(super) fn random(planner: &Planner<'_>, seed: Option<i64>) -> Result<Expr> {
    match (seed, planner.state.udf("rand")) {
        (Some(seed), Ok(function)) => {
            Ok(Expr::ScalarFunction(ScalarFunction { func: function, args: vec![lit(seed)] }))
        }
        _ => scalar_function(planner, "random", Vec::new()),
    }
}

/// The numbers from `start` up to, not including, `end`, in a column of the given name.
pub(super) fn range_plan(planner: &Planner<'_>, start: i64, end: i64, step: i64, name: &str) -> Result<LogicalPlan> {
    let state = planner.ctx.state();
    let function = planner.ctx.table_function("range")?;
    let arguments = [lit(start), lit(end), lit(step)];
    let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&arguments, &state))?;
    let source = datafusion::datasource::provider_as_source(provider);
    let plan = LogicalPlanBuilder::scan("range", source, None)?;
    let column =
        plan.schema().columns().into_iter().next().ok_or_else(|| Error::internal("a range without a column"))?;
    Ok(plan.project(vec![Expr::Column(column).alias(name)])?.build()?)
}

/// A query in SQL text.
pub(super) async fn plan_query(planner: &Planner<'_>, text: &str, parameters: Parameters) -> Result<LogicalPlan> {
    let mut query = parse_query(text, &SourceLocation::new("<sql>", 1, 1))?;
    parameters.bind(&mut query)?;
    crate::sql::query::plan_query(planner.ctx, &query, planner.resolver).await
}

/// An expression in SQL text over the columns of a scope.
pub(super) fn plan_expression(expressions: &Expressions<'_>, text: &str) -> Result<Expr> {
    let (schema, columns) = shown_schema(expressions)?;
    let planned = crate::sql::query::plan_expression(
        expressions.planner.ctx,
        text,
        &schema,
        &SourceLocation::new("<expr>", 1, 1),
    )?;
    to_plan_columns(planned, &columns)
}

/// One item of a SQL select list.
pub(super) fn plan_select_item(expressions: &Expressions<'_>, text: &str) -> Result<Vec<Item>> {
    let (schema, columns) = shown_schema(expressions)?;
    let location = SourceLocation::new("<expr>", 1, 1);
    crate::sql::query::plan_expressions(expressions.planner.ctx, text, &schema, &location)?
        .into_iter()
        .map(|planned| {
            let name = match &planned {
                Expr::Alias(alias) => alias.name.clone(),
                Expr::Column(column) => column.name.clone(),
                other => crate::naming::column_name(other),
            };
            let expr = to_plan_columns(planned, &columns)?.unalias();
            Ok(Item::Column(Output::computed(expr, name)))
        })
        .collect()
}

/// A generator in SQL text as the call that a client sends of it, and the names of its columns.
pub(super) fn generator_call(text: &str) -> Result<Option<(Expression, Vec<String>)>> {
    let call = crate::sql::query::generator_call(text, &SourceLocation::new("<expr>", 1, 1))?;
    Ok(call.map(|call| {
        let argument = |expression| Expression {
            common: None,
            expr_type: Some(ExprType::ExpressionString(ExpressionString { expression })),
        };
        let arguments = call.arguments.into_iter().map(argument).collect();
        let function = UnresolvedFunction { function_name: call.function, arguments, ..Default::default() };
        let expr = Expression { common: None, expr_type: Some(ExprType::UnresolvedFunction(function)) };
        (expr, call.names)
    }))
}

/// The columns under the names the user sees, and the plan's columns they stand for.
fn shown_schema(expressions: &Expressions<'_>) -> Result<(DFSchema, HashMap<Column, Column>)> {
    let scope = expressions.scope;
    let mut fields: Vec<(Option<TableReference>, FieldRef)> = Vec::new();
    let mut columns = HashMap::new();
    for (i, column) in scope.columns.iter().enumerate() {
        let field = scope.schema().field_from_column(&column.column)?;
        let mut field = field.as_ref().clone().with_name(&column.name);
        if column.hidden {
            field.metadata_mut().insert(HIDDEN.to_owned(), "true".to_owned());
        }
        let field = Arc::new(field);
        let table = column.qualifier.last().map(|name| TableReference::bare(name.as_str()));
        // Of columns that share a name each needs a table: with one that has none the schema would be ambiguous, even
        // if nobody asks for the name.
        let taken = match &table {
            Some(table) => fields.iter().any(|(other, f)| f.name() == &column.name && other.as_ref() == Some(table)),
            None => scope.columns.iter().filter(|other| other.name == column.name).count() > 1,
        };
        let table = if taken { Some(TableReference::bare(format!("duplicate_{i}"))) } else { table };
        columns.insert(Column::new(table.clone(), &column.name), column.column.clone());
        fields.push((table, field));
    }
    Ok((DFSchema::new_with_metadata(fields, Default::default())?, columns))
}

fn to_plan_columns(expr: Expr, columns: &HashMap<Column, Column>) -> Result<Expr> {
    let rewritten = expr.transform_down(|node| match &node {
        Expr::Column(column) => match columns.get(column) {
            Some(actual) => Ok(Transformed::yes(Expr::Column(actual.clone()))),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(rewritten.data)
}

/// The DDL text of a schema.
pub(super) fn ddl(schema: &Schema) -> String {
    crate::types::ddl(schema)
}
