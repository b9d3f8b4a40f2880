//! The table that a statement changes, at the version it is planned on.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::catalog::TableName;
use crate::connect::faces;
use crate::connect::service::Session;
use crate::connect::service::tables::not_found;
use crate::dml::column_of;
use crate::edit::{EditScope, FILE, TableEdit};
use crate::error::{Error, Result};
use crate::relation::ObjectName;

/// A table, and what it is called in the statement.
pub(super) struct OpenTarget {
    pub edit: Box<dyn TableEdit>,
    /// The columns that the table has afterwards.
    pub schema: SchemaRef,
    /// What its columns may be qualified with.
    pub reference: TableReference,
    /// Whether columns of a source may become columns of the table.
    pub evolves: bool,
}

impl Session {
    /// Opens the table that `name` means, called `alias` in the statement.
    pub(super) async fn target(&self, name: &ObjectName, alias: Option<&str>, scope: EditScope) -> Result<OpenTarget> {
        if matches!(name.0.as_slice(), [format, path] if format.eq_ignore_ascii_case("delta") && path.contains('/')) {
            return Err(Error::unsupported(format!("changing rows of a table by its path (`{name}`)"))
                .with_help("Change tables of the catalog, by their names."));
        }
        if self.temporary_view(name).is_some() {
            return Err(no_table(name));
        }
        let complete = self.complete(name)?;
        if self.catalog()?.table(&complete).await?.is_some_and(|entry| entry.is_view) {
            return Err(no_table(name));
        }
        let edit = self.catalog()?.edit(&complete, scope).await?.ok_or_else(|| not_found(name))?;
        let schema = edit.entry().schema.clone().ok_or_else(|| no_table(name))?;
        let TableName { catalog, schema: namespace, table } = complete;
        let reference = match alias {
            Some(alias) => TableReference::bare(alias),
            None => TableReference::full(catalog, namespace, table),
        };
        Ok(OpenTarget { edit, schema, reference, evolves: scope.adds_columns })
    }
}

impl OpenTarget {
    /// The rows of some files, or of all, in the columns of the table, qualified, and with [`FILE`].
    pub fn plan(&self, files: Option<&[String]>) -> Result<LogicalPlan> {
        let rows = LogicalPlanBuilder::from(self.edit.rows(files)?);
        let mut columns: Vec<Expr> = Vec::with_capacity(self.schema.fields().len() + 1);
        for field in self.schema.fields() {
            let stored = rows.schema().iter().find(|(_, stored)| stored.name() == field.name());
            columns.push(match stored {
                Some(stored) => Expr::Column(Column::from(stored)),
                None => lit(ScalarValue::try_from(field.data_type())?).alias(field.name()),
            });
        }
        let file = rows.schema().iter().find(|(_, stored)| stored.name() == FILE);
        columns.push(Expr::Column(Column::from(file.ok_or_else(|| Error::internal("rows without their file"))?)));
        Ok(rows.project(columns)?.alias(self.reference.clone())?.build()?)
    }

    /// The columns of the table, as expressions see them.
    pub fn visible(&self) -> Result<DFSchema> {
        Ok(DFSchema::try_from_qualified_schema(self.reference.clone(), &self.schema)?)
    }

    /// The columns as expressions.
    pub fn columns(&self) -> Vec<Expr> {
        let column = |field: &Arc<Field>| Expr::Column(Column::new(Some(self.reference.clone()), field.name()));
        self.schema.fields().iter().map(column).collect()
    }

    /// The path to a column of the table, without what qualifies it.
    pub fn path(&self, parts: &[String]) -> Vec<String> {
        let own = self.reference.to_vec();
        let is_own = |qualifier: &[String]| {
            qualifier.len() <= own.len()
                && qualifier.iter().rev().zip(own.iter().rev()).all(|(a, b)| a.eq_ignore_ascii_case(b))
        };
        (1..parts.len())
            .rev()
            .map(|qualified| parts.split_at(qualified))
            .find(|(qualifier, path)| is_own(qualifier) && column_of(&self.schema, &path[0]).is_some())
            .map_or_else(|| parts.to_vec(), |(_, path)| path.to_vec())
    }

    /// Takes the columns that a source has beyond the table's into the table.
    pub fn evolve(&mut self, source: &[(String, Expr)], input: &DFSchema, wanted: impl Fn(&str) -> bool) -> Result<()> {
        use datafusion::logical_expr::ExprSchemable;
        let mut fields = self.schema.fields().to_vec();
        for (name, column) in source {
            if column_of(&self.schema, name).is_none() && wanted(name) {
                let data_type = faces::canonical(&column.get_type(input)?);
                fields.push(Arc::new(Field::new(name, data_type, true)));
            }
        }
        if fields.len() > self.schema.fields().len() {
            self.schema = Arc::new(Schema::new_with_metadata(fields, self.schema.metadata().clone()));
        }
        Ok(())
    }

    /// The columns of the table from now on, if there are new ones.
    pub fn new_columns(&self) -> Option<SchemaRef> {
        let stored = self.edit.entry().schema.as_ref()?;
        (stored.fields().len() < self.schema.fields().len()).then(|| Arc::clone(&self.schema))
    }
}

fn no_table(name: &ObjectName) -> Error {
    Error::user(format!("`{name}` is a view: rows of tables only can be changed"))
        .with_condition("EXPECT_TABLE_NOT_VIEW.NO_ALTERNATIVE")
}
