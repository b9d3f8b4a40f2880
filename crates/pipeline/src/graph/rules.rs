//! What a Delta table asks of its columns and of the expressions that come with it, checked before anything runs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{EmptyRelation, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_lake::definition::{CONSTRAINT_PREFIX, GENERATION_KEY};
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result, sql};

use super::guard::beyond_its_row;
use super::suggest::nearest;
use crate::definitions::Output;
use crate::update::complete::is_deterministic;

/// Checks the table that `output` is going to have.
///
/// # Errors
/// `User`, one for the first rule that is broken: a type that Delta does not store, columns of the layout and of
/// keys that do not fit, expressions that cannot be computed from a row.
pub fn check_table(output: &Output, schema: &SchemaRef, ctx: &SessionContext) -> Result<()> {
    let at = |column: &str, error: Error| match output.column_location(column) {
        Some(location) => error.at(location.clone()),
        None => error,
    };
    for field in schema.fields() {
        check_type(field, &output.name.name).map_err(|error| at(field.name(), error))?;
    }
    check_layout(output, schema)?;
    check_keys(output, schema)?;
    for field in schema.fields() {
        if let Some(text) = field.metadata().get(GENERATION_KEY) {
            check_generated(field, text, schema, ctx).map_err(|error| {
                let error = error.context(format!("in GENERATED ALWAYS AS ({text}) of column `{}`", field.name()));
                error.at_origin(output.column_location(field.name()).unwrap_or(&output.location))
            })?;
        }
    }
    for (key, text) in &output.properties {
        if let Some(name) = key.strip_prefix(CONSTRAINT_PREFIX) {
            check_constraint(name, text, schema, ctx).map_err(|error| {
                error.context(format!("in CHECK constraint `{name}` ({text})")).at_origin(&output.location)
            })?;
        }
    }
    Ok(())
}

fn check_type(field: &Field, dataset: &str) -> Result<()> {
    let stored = deltaworks_lake::schema::to_delta(&arrow::datatypes::Schema::new(vec![field.clone()]));
    match stored {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == deltaworks_spark::Kind::Unsupported => Err(Error::user(format!(
            "column `{}` of `{dataset}` has type {}, which a Delta table cannot hold",
            field.name(),
            type_name(field.data_type()).to_uppercase()
        ))
        .with_condition("DELTA_UNSUPPORTED_DATA_TYPES")
        .with_help(format!("Store it as text, CAST({0} AS STRING), or as a number.", field.name()))),
        Err(error) => Err(error),
    }
}

/// Partition and clustering columns are columns of the table.
fn check_layout(output: &Output, schema: &SchemaRef) -> Result<()> {
    let (name, partitions) = (&output.name.name, &output.partition_columns);
    for column in partitions {
        let field = find(schema, column).ok_or_else(|| unknown("partition column", column, name, schema))?;
        if field.data_type().is_nested() || is_binary(field.data_type()) {
            return Err(Error::user(format!(
                "partition column `{column}` of `{name}` has type {}, by which a table cannot be partitioned",
                type_name(field.data_type()).to_uppercase()
            ))
            .with_condition("INVALID_PARTITION_COLUMN_DATA_TYPE")
            .with_help("Partition by a column of text, numbers, dates or timestamps that is computed from it."));
        }
    }
    if let Some((index, column)) = partitions
        .iter()
        .enumerate()
        .find(|(index, column)| partitions[..*index].iter().any(|earlier| earlier.eq_ignore_ascii_case(column)))
    {
        return Err(Error::user(format!(
            "partition column `{column}` of `{name}` is named twice, as number {}",
            index + 1
        ))
        .with_condition("COLUMN_ALREADY_EXISTS")
        .with_help("Name each column once."));
    }
    if !partitions.is_empty() && partitions.len() == schema.fields().len() {
        return Err(Error::user(format!(
            "`{name}` is partitioned by all of its columns, so that no column is left for its files"
        ))
        .with_condition("ALL_PARTITION_COLUMNS_NOT_ALLOWED")
        .with_help("Leave at least one column out of PARTITIONED BY."));
    }
    for column in &output.clustering_columns {
        // A clustering column may be a field of a structure.
        let top = column.split('.').next().unwrap_or(column);
        if find(schema, top).is_none() {
            return Err(unknown("clustering column", column, name, schema));
        }
    }
    Ok(())
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Keys are informational, but of columns that there are.
fn check_keys(output: &Output, schema: &SchemaRef) -> Result<()> {
    for column in &output.key_columns {
        if find(schema, column).is_none() {
            return Err(unknown("key column", column, &output.name.name, schema));
        }
    }
    Ok(())
}

fn unknown(role: &str, column: &str, dataset: &str, schema: &SchemaRef) -> Error {
    let error = Error::user(format!("{role} `{column}` is not a column of `{dataset}`"))
        .with_condition("DELTA_COLUMN_NOT_FOUND_IN_SCHEMA");
    let top = column.split('.').next().unwrap_or(column);
    match nearest(top, schema.fields().iter().map(|field| field.name().as_str())) {
        Some(near) => error.with_help(format!("Did you mean `{near}`?")),
        None => error.with_help("Select the column in the query, or name another one."),
    }
}

/// A generated column is a function of the columns that are not generated.
fn check_generated(field: &Field, text: &str, schema: &SchemaRef, ctx: &SessionContext) -> Result<()> {
    let expression = of_row(text, schema, ctx)?;
    for column in expression.column_refs() {
        if find(schema, &column.name).is_some_and(|read| read.metadata().contains_key(GENERATION_KEY)) {
            return Err(Error::user(format!("it reads column `{}`, which is generated itself", column.name))
                .with_condition("DELTA_INVALID_GENERATED_COLUMN_REFERENCES")
                .with_help("Repeat the expression of that column."));
        }
    }
    let input = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(DFSchema::try_from(schema.as_ref().clone())?),
    });
    let plan = LogicalPlanBuilder::from(input).project([expression.alias(field.name())])?.build()?;
    if !is_deterministic(&plan, ctx)? {
        return Err(Error::user("its value is not the same each time")
            .with_condition("DELTA_NON_DETERMINISTIC_EXPRESSION_IN_GENERATED_COLUMN")
            .with_help("Use functions of the row's columns only, or compute the value in the query."));
    }
    Ok(())
}

fn check_constraint(name: &str, text: &str, schema: &SchemaRef, ctx: &SessionContext) -> Result<()> {
    let condition = of_row(text, schema, ctx)?;
    let data_type = condition.get_type(&DFSchema::try_from(schema.as_ref().clone())?)?;
    if data_type == DataType::Boolean {
        return Ok(());
    }
    Err(Error::user(format!("`{name}` must be a condition, not a value of type {}", type_name(&data_type)))
        .with_condition("DELTA_NON_BOOLEAN_CHECK_CONSTRAINT")
        .with_help("Write a comparison, such as `amount > 0`."))
}

/// An expression that every writer of the table can compute from one row.
fn of_row(text: &str, schema: &SchemaRef, ctx: &SessionContext) -> Result<Expr> {
    let columns = DFSchema::try_from(schema.as_ref().clone())?;
    let expression = sql::plan_expression(ctx, text, &columns, &SourceLocation::new("<expression>", 1, 1))?;
    let mut refused = None;
    expression.apply(|part| {
        refused = match part {
            Expr::AggregateFunction(_) => Some("an aggregate"),
            other => beyond_its_row(other),
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match refused {
        None => Ok(expression),
        Some(construct) => Err(Error::user(format!("it contains {construct}"))
            .with_condition("DELTA_UNSUPPORTED_EXPRESSION")
            .with_help("It must follow from the columns of one row: compute it in the query.")),
    }
}

fn find<'a>(schema: &'a SchemaRef, name: &str) -> Option<&'a Field> {
    schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name)).map(AsRef::as_ref)
}
