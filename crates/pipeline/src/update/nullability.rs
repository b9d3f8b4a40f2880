//! `NOT NULL` in the declaration of a table that is stored already.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use deltaworks_lake::Table;
use deltaworks_spark::{Error, Result};

use crate::graph::ResolvedOutput;

/// `columns`, those that the table is to have, with NULL allowed where the column list of `output` allows it.
///
/// A table without a column list keeps what it has: what a query says of NULL may change with every update.
///
/// # Errors
/// `DELTA_NEW_NOT_NULL_VIOLATION` (`User`) if the table has a NULL in a column that must not have one from now on.
pub async fn as_declared(
    ctx: &SessionContext,
    table: &Table,
    columns: SchemaRef,
    output: &ResolvedOutput,
) -> Result<SchemaRef> {
    let Some(declared) = &output.output.schema else { return Ok(columns) };
    let mut fields: Vec<Field> = Vec::with_capacity(columns.fields().len());
    for field in columns.fields() {
        let wanted = declared.fields().iter().find(|wanted| wanted.name().eq_ignore_ascii_case(field.name()));
        let nullable = wanted.map_or(field.is_nullable(), |wanted| wanted.is_nullable());
        if field.is_nullable() && !nullable && has_null(ctx, table, field).await? {
            return Err(Error::user(format!(
                "column `{}` of `{}` is NOT NULL now, but the stored table has rows in which it is NULL",
                field.name(),
                output.output.name.name
            ))
            .with_condition("DELTA_NEW_NOT_NULL_VIOLATION")
            .with_help(
                "Leave NOT NULL out and expect the column (`CONSTRAINT … EXPECT`), or run a full refresh of the table.",
            ));
        }
        fields.push(field.as_ref().clone().with_nullable(nullable));
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, columns.metadata().clone())))
}

/// Whether a stored row has no value for `field`; all have none if the column is new.
async fn has_null(ctx: &SessionContext, table: &Table, field: &Field) -> Result<bool> {
    let mut rows = ctx.read_table(table.provider()?)?;
    if table.schema().field_with_name(field.name()).is_ok() {
        rows = rows.filter(Expr::Column(Column::from_name(field.name())).is_null())?;
    }
    let first = rows.limit(0, Some(1))?.collect().await?;
    Ok(first.iter().any(|batch| batch.num_rows() > 0))
}
