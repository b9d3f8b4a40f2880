//! What commands do to stored tables and views, in one session: names completed, existence checked.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::Session;
use crate::catalog::{Catalog, NewTable, Replaced, SaveMode, TableEntry, TableName};
use crate::connect::faces;
use crate::error::{Error, Result};
use crate::relation::ObjectName;

/// The schema that temporary views shared by all sessions are read from.
pub(super) const GLOBAL_TEMP: &str = "global_temp";

/// The error for a name that nothing has.
pub(super) fn not_found(name: &ObjectName) -> Error {
    Error::user(format!("The table or view `{name}` cannot be found"))
        .with_condition("TABLE_OR_VIEW_NOT_FOUND")
        .with_parameter("relationName", name.to_string())
}

/// Which columns the rows of a write go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matching {
    ByPosition,
    ByName,
}

impl Session {
    /// The stored tables.
    ///
    /// # Errors
    /// `Unsupported` if the host keeps none.
    pub(super) fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        self.host.catalog().ok_or_else(|| {
            Error::unsupported("a command on tables")
                .with_condition("UNSUPPORTED_PIPELINE_SPARK_SQL_COMMAND")
                .with_help("Declare a dataset: what a pipeline writes is what its datasets return.")
        })
    }

    /// A complete name.
    pub(super) fn complete(&self, name: &ObjectName) -> Result<TableName> {
        let (catalog, schema) = self.catalog()?.current();
        TableName::complete(name, &catalog, &schema).ok_or_else(|| {
            Error::user(format!("name `{name}` must have one to three parts"))
                .with_condition("REQUIRES_SINGLE_PART_NAMESPACE")
        })
    }

    /// What is stored under a name.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_NOT_FOUND` (`User`)
    pub(super) async fn stored(&self, name: &ObjectName) -> Result<TableEntry> {
        self.catalog()?.table(&self.complete(name)?).await?.ok_or_else(|| not_found(name))
    }

    /// Whether a temporary view, a table or a view has that name.
    pub(super) async fn exists(&self, name: &ObjectName) -> Result<bool> {
        if self.temporary_view(name).is_some() {
            return Ok(true);
        }
        Ok(self.catalog()?.table(&self.complete(name)?).await?.is_some())
    }

    /// The schema a name of one or two parts means.
    pub(super) fn complete_schema(&self, name: &ObjectName) -> Result<(String, String)> {
        match name.0.as_slice() {
            [schema] => Ok((self.catalog()?.current().0, schema.clone())),
            [catalog, schema] => Ok((catalog.clone(), schema.clone())),
            _ => Err(Error::user(format!("schema name `{name}` must have one or two parts"))
                .with_condition("REQUIRES_SINGLE_PART_NAMESPACE")),
        }
    }

    pub(super) async fn schema_exists(&self, catalog: &str, schema: &str) -> Result<bool> {
        Ok(self.catalog()?.schemas(catalog).await?.iter().any(|known| known.eq_ignore_ascii_case(schema)))
    }

    pub(super) async fn create_schema(&self, name: &ObjectName, if_not_exists: bool) -> Result<()> {
        let (catalog, schema) = self.complete_schema(name)?;
        match self.schema_exists(&catalog, &schema).await? {
            false => self.catalog()?.create_schema(&catalog, &schema).await,
            true if if_not_exists => Ok(()),
            true => Err(Error::user(format!("schema `{schema}` already exists"))
                .with_condition("SCHEMA_ALREADY_EXISTS")
                .with_parameter("schemaName", format!("`{schema}`"))),
        }
    }

    pub(super) async fn drop_schema(&self, name: &ObjectName, if_exists: bool, cascade: bool) -> Result<()> {
        let (catalog, schema) = self.complete_schema(name)?;
        if !self.schema_exists(&catalog, &schema).await? {
            return if if_exists { Ok(()) } else { Err(schema_not_found(&catalog, &schema)) };
        }
        if !cascade && !self.catalog()?.tables(&catalog, &schema).await?.is_empty() {
            return Err(Error::user(format!("schema `{schema}` is not empty"))
                .with_condition("SCHEMA_NOT_EMPTY")
                .with_help("Drop its tables first, or use CASCADE."));
        }
        self.catalog()?.drop_schema(&catalog, &schema).await
    }

    pub(super) async fn use_schema(&self, catalog: &str, schema: &str) -> Result<()> {
        if !self.schema_exists(catalog, schema).await? {
            return Err(schema_not_found(catalog, schema));
        }
        self.catalog()?.set_current(catalog, schema).await
    }

    pub(super) async fn use_catalog(&self, catalog: &str) -> Result<()> {
        let known = self.catalog()?.catalogs().await?;
        match known.iter().find(|known| known.eq_ignore_ascii_case(catalog)) {
            Some(known) => self.catalog()?.set_current(known, "default").await,
            None => Err(Error::user(format!("catalog `{catalog}` does not exist")).with_condition("CATALOG_NOT_FOUND")),
        }
    }

    /// Drops a temporary view, a view or a table; which of the last two it may be is said by `view`.
    pub(super) async fn drop_relation(&self, name: &ObjectName, view: bool, if_exists: bool) -> Result<()> {
        if self.drop_temporary_view(name) {
            return Ok(());
        }
        let complete = self.complete(name)?;
        match self.catalog()?.table(&complete).await? {
            Some(entry) if entry.is_view != view => {
                let (is, other) = if view { ("a table", "TABLE") } else { ("a view", "VIEW") };
                Err(Error::user(format!("`{name}` is {is}"))
                    .with_condition("WRONG_COMMAND_FOR_OBJECT_TYPE")
                    .with_help(format!("Use DROP {other}.")))
            }
            Some(_) => self.catalog()?.drop_table(&complete).await,
            None if if_exists => Ok(()),
            None => Err(not_found(name)),
        }
    }

    /// Makes a table; gives whether there was none, or it was replaced.
    pub(super) async fn create_table(&self, table: NewTable, provider: Option<&str>, mode: SaveMode) -> Result<bool> {
        check_provider(provider)?;
        let catalog = self.catalog()?;
        if !self.schema_exists(&table.name.catalog, &table.name.schema).await? {
            return Err(schema_not_found(&table.name.catalog, &table.name.schema));
        }
        if catalog.table(&table.name).await?.is_some() {
            match mode {
                SaveMode::Ignore => return Ok(false),
                SaveMode::Overwrite => catalog.drop_table(&table.name).await?,
                SaveMode::Append | SaveMode::ErrorIfExists => {
                    return Err(Error::user(format!("table {} already exists", table.name))
                        .with_condition("TABLE_OR_VIEW_ALREADY_EXISTS")
                        .with_parameter("relationName", table.name.to_string()));
                }
            }
        }
        catalog.create_table(&table).await?;
        Ok(true)
    }

    /// Waits until a table that was made for some rows has them. Without them it goes again, also if nobody waits any more.
    pub(super) async fn filled(&self, name: &TableName, rows: impl Future<Output = Result<()>>) -> Result<()> {
        let catalog = self.catalog()?;
        let mut unfinished = Unfinished { catalog: Arc::clone(&catalog), name: Some(name.clone()) };
        let filled = rows.await;
        unfinished.name = None;
        if filled.is_err() {
            drop_unfinished(catalog.as_ref(), name).await;
        }
        filled
    }

    /// Puts the rows of `plan` into a table that exists, its columns matched to the table's and cast to their types.
    pub(super) async fn insert(
        &self,
        entry: &TableEntry,
        plan: LogicalPlan,
        matching: Matching,
        replaced: Replaced,
    ) -> Result<()> {
        let schema = entry.schema.clone().ok_or_else(|| {
            Error::user(format!("view {} cannot be written", entry.name))
                .with_condition("UNSUPPORTED_INSERT.NOT_ALLOWED")
        })?;
        let plan = self.aligned(plan, &schema, matching, &entry.name)?;
        self.catalog()?.write_table(&self.context(), &entry.name, plan, replaced).await
    }

    /// The columns of a table out of the columns of a plan.
    pub(super) fn aligned(
        &self,
        plan: LogicalPlan,
        table: &SchemaRef,
        matching: Matching,
        name: &TableName,
    ) -> Result<LogicalPlan> {
        let columns = plan.schema().columns();
        if matching == Matching::ByPosition && columns.len() != table.fields().len() {
            let (condition, what) = if columns.len() > table.fields().len() {
                ("INSERT_COLUMN_ARITY_MISMATCH.TOO_MANY_DATA_COLUMNS", "more columns than")
            } else {
                ("INSERT_COLUMN_ARITY_MISMATCH.NOT_ENOUGH_DATA_COLUMNS", "fewer columns than")
            };
            return Err(Error::user(format!("the rows have {what} table {name}")).with_condition(condition));
        }
        if let Some(unknown) = columns.iter().find(|column| {
            matching == Matching::ByName
                && !table.fields().iter().any(|field| field.name().eq_ignore_ascii_case(&column.name))
        }) {
            return Err(Error::user(format!("table {name} has no column `{}`", unknown.name))
                .with_condition("INCOMPATIBLE_DATA_FOR_TABLE.EXTRA_COLUMNS"));
        }
        let conf = self.host.conf();
        let mut exprs = Vec::with_capacity(table.fields().len());
        for (i, field) in table.fields().iter().enumerate() {
            let column = match matching {
                Matching::ByPosition => columns.get(i),
                Matching::ByName => columns.iter().find(|column| column.name.eq_ignore_ascii_case(field.name())),
            };
            let value = match column {
                Some(column) => Expr::Column(column.clone()),
                None => lit(datafusion::common::ScalarValue::Null),
            };
            let cast = faces::cast(value, field.data_type(), faces::CastMode::Ansi, plan.schema(), &conf)?;
            exprs.push(cast.alias(field.name()));
        }
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }
}

/// The columns of a plan as a table keeps them: all may be NULL.
pub(super) fn stored_schema(plan: &LogicalPlan) -> SchemaRef {
    let fields: Vec<_> = plan
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let data_type = faces::canonical(field.data_type());
            field.as_ref().clone().with_data_type(data_type).with_nullable(true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn schema_not_found(catalog: &str, schema: &str) -> Error {
    Error::user(format!("The schema `{catalog}`.`{schema}` cannot be found"))
        .with_condition("SCHEMA_NOT_FOUND")
        .with_parameter("schemaName", format!("`{catalog}`.`{schema}`"))
}

/// Tables are Delta tables, whose files are Parquet files.
fn check_provider(provider: Option<&str>) -> Result<()> {
    match provider.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "delta" | "parquet") => Ok(()),
        Some(other) => Err(Error::unsupported(format!("a table in the format `{other}`"))
            .with_help("Leave USING out, or use DELTA: tables are Delta tables.")),
    }
}

/// A table whose rows have not come yet.
struct Unfinished {
    catalog: Arc<dyn Catalog>,
    name: Option<TableName>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let catalog = Arc::clone(&self.catalog);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop_unfinished(catalog.as_ref(), &name).await });
        }
    }
}

async fn drop_unfinished(catalog: &dyn Catalog, name: &TableName) {
    if let Err(error) = catalog.drop_table(name).await {
        tracing::warn!(%error, "the table {name} of a write that failed could not be dropped; it has no rows");
    }
}
