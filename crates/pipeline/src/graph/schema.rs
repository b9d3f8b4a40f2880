//! The columns of an output: declared, or taken from its flows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::types::{DEFAULT_KEY, type_name};
use deltaworks_spark::{Error, Result};

use super::suggest::nearest;
use crate::definitions::{Output, OutputKind};
use crate::identity::{self, Identity};

/// The field metadata key that marks columns which exist only when named (`_metadata`).
const HIDDEN: &str = "deltaworks.hidden";
/// The field metadata key under which Delta keeps a column's comment.
const COMMENT: &str = "comment";
/// The field metadata key under which Delta keeps a generation expression.
pub const GENERATION_EXPRESSION: &str = "delta.generationExpression";

/// Whether a column exists only when named.
fn is_hidden(field: &Field) -> bool {
    field.metadata().get(HIDDEN).is_some_and(|value| value == "true")
}

/// Drops the hidden columns of a relation that is read as a whole.
pub fn visible(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !plan.schema().fields().iter().any(|field| is_hidden(field)) {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .filter(|(_, field)| !is_hidden(field))
        .map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The result of a query. A hidden column is there because the query names it: to its readers it is like any other.
pub fn selected(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !plan.schema().fields().iter().any(|field| is_hidden(field)) {
        return Ok(plan);
    }
    let shown = FieldMetadata::from(BTreeMap::from([(HIDDEN.to_owned(), "false".to_owned())]));
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        if is_hidden(field) { column.alias_with_metadata(field.name(), Some(shown.clone())) } else { column }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The columns of a stored output whose flows, which stand at `places`, give `queries`.
///
/// # Errors
/// `USER_SPECIFIED_AND_INFERRED_SCHEMA_NOT_COMPATIBLE` if a query has a column that is not declared;
/// `COLUMN_ALREADY_EXISTS` for columns of the same name; a column without a type.
pub fn of_output(output: &Output, queries: &[SchemaRef], places: &[&SourceLocation]) -> Result<SchemaRef> {
    let located = || queries.iter().zip(places.iter().copied());
    for (query, place) in located() {
        check_columns(output, query).map_err(|error| error.at(place.clone()))?;
    }
    let schema = match &output.schema {
        Some(declared) => {
            for (query, place) in located() {
                check_declared(output, declared, query).map_err(|error| error.at(place.clone()))?;
            }
            Arc::clone(declared)
        }
        None => union(output, located())?,
    };
    Ok(with_comments(schema, &output.column_comments))
}

/// Refuses what the columns of `output` declare but cannot have.
///
/// # Errors
/// `User` for defaults of a materialized view.
pub fn check_defaults(output: &Output, kind: OutputKind) -> Result<()> {
    for field in output.schema.iter().flat_map(|schema| schema.fields()) {
        if field.metadata().contains_key(DEFAULT_KEY) && kind != OutputKind::StreamingTable {
            return Err(Error::user(format!(
                "column `{}` of {} `{}` has a DEFAULT, which only columns of streaming tables can have",
                field.name(),
                kind.noun(),
                output.name.name
            ))
            .with_condition("UNSUPPORTED_FEATURE.TABLE_OPERATION")
            .with_help("Compute the value in the query: COALESCE(…), or a constant with an alias."));
        }
    }
    Ok(())
}

/// The query of `output` with the names of its column list, if that gives no types: views are labelled by position.
/// A list of names that the query has may also be there for comments only.
///
/// # Errors
/// `User` if there are more or fewer names than columns.
pub fn labelled(plan: LogicalPlan, output: &Output) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let known = |label: &String| columns.iter().any(|column| column.name.eq_ignore_ascii_case(label));
    let by_name = output.kind == OutputKind::StreamingTable || columns.len() != output.labels.len();
    if output.labels.is_empty() || (by_name && output.labels.iter().all(known)) {
        return Ok(plan);
    }
    renamed(plan, &output.labels, &output.name.name)
}

/// The columns of a query under the names of a list, in its order; those of the query if the list is empty.
///
/// # Errors
/// `CREATE_VIEW_COLUMN_ARITY_MISMATCH` (`User`) if there are more or fewer names than columns.
pub fn renamed(plan: LogicalPlan, names: &[String], dataset: &str) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if names.is_empty() {
        return Ok(plan);
    }
    if columns.len() != names.len() {
        return Err(Error::user(format!(
            "`{dataset}` names {} columns, but its query has {}",
            names.len(),
            columns.len()
        ))
        .with_condition("CREATE_VIEW_COLUMN_ARITY_MISMATCH")
        .with_help("Name every column of the query, in its order."));
    }
    let named = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    Ok(LogicalPlanBuilder::from(plan).project(named)?.build()?)
}

fn check_columns(output: &Output, query: &SchemaRef) -> Result<()> {
    let mut seen = BTreeMap::new();
    for field in query.fields() {
        if seen.insert(field.name().to_lowercase(), ()).is_some() {
            return Err(Error::user(format!("column `{}` of `{}` appears twice", field.name(), output.name.name))
                .with_condition("COLUMN_ALREADY_EXISTS")
                .with_help("Give one of them another name with AS (alias)."));
        }
        if field.data_type() == &DataType::Null {
            return Err(Error::user(format!(
                "column `{}` of `{}` has no type: it is always NULL",
                field.name(),
                output.name.name
            ))
            .with_help(format!("Cast it: CAST(NULL AS STRING) AS {} (lit(None).cast(\"string\")).", field.name())));
        }
    }
    Ok(())
}

fn check_declared(output: &Output, declared: &SchemaRef, query: &SchemaRef) -> Result<()> {
    for field in query.fields() {
        if find(declared, field.name()).is_none() {
            let mut error = Error::user(format!(
                "column `{}` of the query is not among the declared columns of `{}`",
                field.name(),
                output.name.name
            ))
            .with_condition("USER_SPECIFIED_AND_INFERRED_SCHEMA_NOT_COMPATIBLE");
            let names = declared.fields().iter().map(|field| field.name().as_str());
            error = match nearest(field.name(), names) {
                Some(near) => error.with_help(format!("Declare it, or did you mean `{near}`?")),
                None => error.with_help("Declare the column, or leave it out of the query."),
            };
            return Err(error);
        }
    }
    Ok(())
}

/// The columns of all flows: those of the first, then what later ones add.
fn union<'a>(output: &Output, queries: impl Iterator<Item = (&'a SchemaRef, &'a SourceLocation)>) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::new();
    for (query, place) in queries {
        for field in query.fields() {
            match fields.iter().find(|known| known.name().eq_ignore_ascii_case(field.name())) {
                None => {
                    fields.push(Field::new(field.name(), field.data_type().clone(), true).with_metadata(kept(field)))
                }
                Some(known) if known.data_type() == field.data_type() => {}
                Some(known) => {
                    return Err(Error::user(format!(
                        "flows into `{}` disagree on column `{}`: {} and {}",
                        output.name.name,
                        known.name(),
                        type_name(known.data_type()),
                        type_name(field.data_type())
                    ))
                    .with_condition("DELTA_FAILED_TO_MERGE_FIELDS")
                    .with_help("Cast the column to one type in every flow.")
                    .at(place.clone()));
                }
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Of a query's field metadata only the comment belongs to the table.
fn kept(field: &Field) -> std::collections::HashMap<String, String> {
    field.metadata().iter().filter(|(key, _)| *key == COMMENT).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn with_comments(schema: SchemaRef, comments: &BTreeMap<String, String>) -> SchemaRef {
    if comments.is_empty() {
        return schema;
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut field = field.as_ref().clone();
            if let Some((_, comment)) = comments.iter().find(|(name, _)| name.eq_ignore_ascii_case(field.name())) {
                field.metadata_mut().insert(COMMENT.to_owned(), comment.clone());
            }
            field
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Brings a query into the columns of its target, by name: casts where types differ, the default, the next number of an
/// identity column or NULL where a column is missing. Generated columns that the query lacks are left out; the writer computes them.
pub fn conform(plan: LogicalPlan, target: &SchemaRef, ctx: &SessionContext) -> Result<LogicalPlan> {
    let mut columns = Vec::with_capacity(target.fields().len());
    for field in target.fields() {
        let found = plan.schema().iter().find(|(_, column)| column.name().eq_ignore_ascii_case(field.name()));
        let identity = Identity::of(field);
        match found {
            Some(_) if identity.as_ref().is_some_and(|identity| identity.always) => {
                return Err(Error::user(format!("the query gives values for identity column `{}`", field.name()))
                    .with_condition("DELTA_IDENTITY_COLUMNS_EXPLICIT_INSERT_NOT_SUPPORTED")
                    .with_help("Leave the column out of the query, or declare it GENERATED BY DEFAULT AS IDENTITY."));
            }
            Some((qualifier, column)) => {
                let expr = Expr::Column(Column::from((qualifier, column)));
                let expr = deltaworks_spark::cast::assign_expr(expr, column.data_type(), field.data_type())
                    .map_err(|error| error.context(format!("in column `{}`", field.name())))?;
                columns.push(expr.alias(field.name()));
            }
            None if field.metadata().contains_key(GENERATION_EXPRESSION) => {}
            None if let Some(identity) = identity => columns.push(identity::numbers(identity).alias(field.name())),
            None if let Some(text) = field.metadata().get(DEFAULT_KEY) => {
                columns.push(default(text, field, ctx)?.alias(field.name()));
            }
            None => columns.push(lit(ScalarValue::try_from(field.data_type())?).alias(field.name())),
        }
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The value of a column that a query does not have.
fn default(text: &str, field: &Field, ctx: &SessionContext) -> Result<Expr> {
    let place = SourceLocation::new("<default>", 1, 1);
    deltaworks_spark::sql::plan_expression(ctx, text, &DFSchema::empty(), &place)
        .map(|value| deltaworks_spark::cast::cast_expr(value, field.data_type().clone()))
        .map_err(|error| {
            Error::user(error.message().to_owned())
                .with_condition("INVALID_DEFAULT_VALUE.UNRESOLVED_EXPRESSION")
                .with_help("A default is an expression without columns, such as `0` or `current_timestamp()`.")
                .context(format!("in the DEFAULT `{text}` of column `{}`", field.name()))
        })
}

/// The columns as they are stored. Defaults and identity columns are the pipeline's business: as table features they would
/// lock out writers that do not know them.
pub fn stored(schema: &SchemaRef) -> SchemaRef {
    let is_ours = |key: &str| key == DEFAULT_KEY || key.starts_with("delta.identity.");
    if !schema.fields().iter().any(|field| field.metadata().keys().any(|key| is_ours(key))) {
        return Arc::clone(schema);
    }
    let without = |field: &Arc<Field>| {
        let mut field = field.as_ref().clone();
        field.metadata_mut().retain(|key, _| !is_ours(key));
        field
    };
    Arc::new(Schema::new(schema.fields().iter().map(without).collect::<Vec<_>>()))
}

fn find<'a>(schema: &'a Schema, name: &str) -> Option<&'a Field> {
    schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name)).map(AsRef::as_ref)
}
