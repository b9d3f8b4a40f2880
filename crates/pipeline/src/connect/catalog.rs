//! The tables and views in a pipeline's storage, as commands of a session see and change them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Table, TableDefinition, maintenance};
use deltaworks_spark::catalog::{
    Catalog, ExternalWrite, FileWrite, NewTable, Replaced, TableCommit, TableEntry, TableName,
};
use deltaworks_spark::edit::{EditScope, Optimized, TableEdit, VacuumOptions};
use deltaworks_spark::session::conf_of;
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::edit::StoredEdit;
use super::{files, upkeep};
use crate::functions;
use crate::graph::Environment;
use crate::name::{DatasetName, Namespace};
use crate::update::changes;
use crate::update::target::{PIPELINE_ID, is_private, is_streaming_table, writer_options};
use crate::update::write::write_plan;
use crate::views;

/// The catalog of one session.
pub(crate) struct StoredCatalog {
    /// With the session's current namespace.
    environment: Mutex<Arc<Environment>>,
}

impl StoredCatalog {
    /// The storage of `environment`; its namespace is the current one at first.
    pub(crate) fn new(environment: Arc<Environment>) -> Self {
        Self { environment: Mutex::new(environment) }
    }

    /// What names mean now.
    pub(crate) fn environment(&self) -> Arc<Environment> {
        Arc::clone(&self.environment.lock())
    }

    async fn stored_table(&self, name: &TableName) -> Result<Table> {
        let environment = self.environment();
        let location = environment.storage.find_table(&dataset(name))?;
        environment.lake.open(&location, None).await?.ok_or_else(|| {
            Error::user(format!("The table or view {name} cannot be found")).with_condition("TABLE_OR_VIEW_NOT_FOUND")
        })
    }

    /// A table that a client may change.
    async fn own_table(&self, name: &TableName) -> Result<Table> {
        let table = self.stored_table(name).await?;
        refuse_datasets(name, &table)?;
        Ok(table)
    }

    async fn entry(&self, name: &TableName) -> Result<Option<TableEntry>> {
        let environment = self.environment();
        let dataset = dataset(name);
        if let Some(view) = views::read(&environment.storage, &dataset)? {
            return Ok(Some(TableEntry {
                name: TableName { table: view.name, ..name.clone() },
                is_view: true,
                query: Some(view.query),
                comment: view.comment,
                schema: None,
                partition_columns: Vec::new(),
                clustering_columns: Vec::new(),
                properties: Default::default(),
                location: String::new(),
            }));
        }
        let location = environment.storage.find_table(&dataset)?;
        let Some(table) = environment.lake.open(&location, None).await? else { return Ok(None) };
        let definition = table.definition()?;
        match is_private(&definition) {
            true => Ok(None),
            false => Ok(Some(table_entry(name, &table, definition))),
        }
    }
}

fn table_entry(name: &TableName, table: &Table, definition: TableDefinition) -> TableEntry {
    TableEntry {
        name: TableName { table: definition.name.unwrap_or_else(|| name.table.clone()), ..name.clone() },
        is_view: false,
        query: None,
        comment: definition.comment,
        schema: Some(Arc::clone(table.schema())),
        partition_columns: definition.partition_columns,
        clustering_columns: definition.clustering_columns,
        properties: definition.properties,
        location: table.location().to_string(),
    }
}

/// What a table does not allow: its pipeline counts on rows that it wrote, or its owner wants them to stay.
fn refuse_edits(name: &TableName, properties: &BTreeMap<String, String>, scope: EditScope) -> Result<()> {
    let refused = |why: &str, help: &str| {
        Err(Error::user(format!("table {name} {why}"))
            .with_condition("OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET")
            .with_help(help))
    };
    if properties.contains_key(PIPELINE_ID) {
        if !is_streaming_table(properties) {
            return refused(
                "is a materialized view of the pipeline: its rows are those of its query",
                "Change the query, or the rows that it reads.",
            );
        }
        if changes::drift::is_kept(properties) {
            return refused(
                "is kept by AUTO CDC, which remembers of each key what it has applied",
                "Send the change as an event to the source of its flow.",
            );
        }
        if scope.inserts_rows || scope.adds_columns {
            return refused(
                "is a streaming table of the pipeline: only its flows add rows and columns",
                "Add the rows to a source of its flows, or use DELETE, UPDATE, or MERGE without INSERT.",
            );
        }
    }
    if scope.removes_rows && properties.get("delta.appendOnly").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(Error::user(format!("table {name} only takes appends: its rows cannot be changed or removed"))
            .with_condition("DELTA_CANNOT_MODIFY_APPEND_ONLY")
            .with_help("The property `delta.appendOnly` of the table says so."));
    }
    Ok(())
}

/// What a pipeline computes is changed by the pipeline only.
fn refuse_datasets(name: &TableName, table: &Table) -> Result<()> {
    if table.definition()?.properties.contains_key(PIPELINE_ID) {
        return Err(Error::user(format!("table {name} is a dataset of the pipeline: only its flows write it"))
            .with_condition("OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET")
            .with_help("Change the dataset's definition, or write to a table of another name."));
    }
    Ok(())
}

/// So is what it publishes.
fn refuse_published(name: &TableName, environment: &Environment) -> Result<()> {
    match views::read(&environment.storage, &dataset(name))? {
        Some(view) if view.pipeline_id.is_some() => {
            Err(Error::user(format!("view {name} is published by the pipeline: only its definition changes it"))
                .with_condition("OPERATION_NOT_SUPPORTED_ON_PIPELINE_DATASET")
                .with_help("Change the definition, or create a view of another name."))
        }
        _ => Ok(()),
    }
}

fn dataset(name: &TableName) -> DatasetName {
    DatasetName { catalog: name.catalog.clone(), schema: name.schema.clone(), name: name.table.clone() }
}

/// The names of the folders in a folder, none if it does not exist.
fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn remove_folder(path: PathBuf) -> Result<()> {
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(error).context(format!("while removing `{}`", path.display())))
        }
        _ => Ok(()),
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    names
}

#[async_trait]
impl Catalog for StoredCatalog {
    fn current(&self) -> (String, String) {
        let environment = self.environment.lock();
        (environment.namespace.catalog.clone(), environment.namespace.schema.clone())
    }

    async fn set_current(&self, catalog: &str, schema: &str) -> Result<()> {
        let mut environment = self.environment.lock();
        let namespace = Namespace { catalog: catalog.to_owned(), schema: schema.to_owned() };
        *environment = Arc::new(Environment { namespace, ..environment.as_ref().clone() });
        Ok(())
    }

    async fn catalogs(&self) -> Result<Vec<String>> {
        let environment = self.environment();
        let mut names = folders(&environment.storage.catalogs())?;
        names.extend([environment.storage.namespace().catalog.clone(), Namespace::DEFAULT_CATALOG.to_owned()]);
        Ok(sorted(names))
    }

    async fn schemas(&self, catalog: &str) -> Result<Vec<String>> {
        let storage = &self.environment().storage;
        let mut names = folders(&storage.catalog(catalog)?)?;
        names.push(Namespace::DEFAULT_SCHEMA.to_owned());
        if storage.namespace().catalog.eq_ignore_ascii_case(catalog) {
            names.push(storage.namespace().schema.clone());
        }
        Ok(sorted(names))
    }

    async fn create_schema(&self, catalog: &str, schema: &str) -> Result<()> {
        Ok(std::fs::create_dir_all(self.environment().storage.schema(catalog, schema)?)?)
    }

    async fn drop_schema(&self, catalog: &str, schema: &str) -> Result<()> {
        let storage = &self.environment().storage;
        let own = storage.namespace();
        let is_own = own.catalog.eq_ignore_ascii_case(catalog) && own.schema.eq_ignore_ascii_case(schema);
        if is_own || schema.eq_ignore_ascii_case(Namespace::DEFAULT_SCHEMA) {
            return Err(Error::user(format!("schema `{schema}` cannot be dropped"))
                .with_condition("UNSUPPORTED_FEATURE.DROP_DATABASE"));
        }
        for table in folders(&storage.schema(catalog, schema)?)? {
            let name = TableName { catalog: catalog.to_owned(), schema: schema.to_owned(), table };
            let location = storage.find_table(&dataset(&name))?;
            if let Some(table) = self.environment().lake.open(&location, None).await? {
                refuse_datasets(&name, &table)?;
            }
        }
        remove_folder(storage.views(catalog, schema)?)?;
        remove_folder(storage.functions(catalog, schema)?)?;
        remove_folder(storage.schema(catalog, schema)?)
    }

    async fn tables(&self, catalog: &str, schema: &str) -> Result<Vec<TableEntry>> {
        let storage = &self.environment().storage;
        let mut names = folders(&storage.schema(catalog, schema)?)?;
        names.extend(views::names(&storage.views(catalog, schema)?)?);
        let mut entries = Vec::new();
        for table in sorted(names) {
            let name = TableName { catalog: catalog.to_owned(), schema: schema.to_owned(), table };
            entries.extend(self.entry(&name).await?);
        }
        Ok(entries)
    }

    async fn table(&self, name: &TableName) -> Result<Option<TableEntry>> {
        self.entry(name).await
    }

    async fn history(&self, name: &TableName, limit: Option<usize>) -> Result<Option<Vec<TableCommit>>> {
        let environment = self.environment();
        let location = environment.storage.find_table(&dataset(name))?;
        match environment.lake.open(&location, None).await? {
            Some(table) if !is_private(&table.definition()?) => table.history(limit).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn create_table(&self, table: &NewTable) -> Result<()> {
        let definition = TableDefinition {
            schema: Arc::clone(&table.schema),
            partition_columns: table.partition_columns.clone(),
            clustering_columns: table.clustering_columns.clone(),
            properties: table.properties.clone(),
            comment: table.comment.clone(),
            name: Some(table.name.table.clone()),
        };
        let environment = self.environment();
        let location = environment.storage.find_table(&dataset(&table.name))?;
        environment.lake.create(&location, &definition).await.map(drop)
    }

    async fn write_table(
        &self,
        ctx: &SessionContext,
        name: &TableName,
        plan: LogicalPlan,
        replaced: Replaced,
    ) -> Result<()> {
        let mut table = self.own_table(name).await?;
        let options = writer_options(table.definition()?, ctx);
        // Cancelling the operation drops this future, and with it the tasks that write.
        let written = write_plan(ctx, plan, &table, &options, &CancellationToken::new()).await?;
        let commit = match replaced {
            Replaced::Nothing => Commit::append(written.files),
            Replaced::Rows | Replaced::Table => Commit::overwrite(written.files),
        };
        commit.commit(&mut table).await.map(drop)
    }

    async fn edit(&self, name: &TableName, scope: EditScope) -> Result<Option<Box<dyn TableEdit>>> {
        let environment = self.environment();
        let location = environment.storage.find_table(&dataset(name))?;
        let Some(table) = environment.lake.open(&location, None).await? else { return Ok(None) };
        let definition = table.definition()?;
        if is_private(&definition) {
            return Ok(None);
        }
        refuse_edits(name, &definition.properties, scope)?;
        table.check_writable()?;
        let entry = table_entry(name, &table, definition);
        Ok(Some(Box::new(StoredEdit::new(table, entry)?)))
    }

    async fn optimize(&self, ctx: &SessionContext, name: &TableName, condition: Option<&Expr>) -> Result<Optimized> {
        upkeep::optimize(ctx, &mut self.stored_table(name).await?, condition).await
    }

    async fn vacuum(&self, name: &TableName, options: VacuumOptions) -> Result<Vec<String>> {
        let retention = options.retain_hours.map(|hours| Duration::try_from_secs_f64(hours * 3600.0)).transpose();
        let retention = retention
            .map_err(|error| Error::user("the time that `VACUUM` retains files is too long").with_source(error))?;
        let options =
            maintenance::VacuumOptions { retention, may_be_short: !options.check_retention, dry_run: options.dry_run };
        maintenance::vacuum(&mut self.stored_table(name).await?, options).await
    }

    async fn create_view(&self, name: &TableName, query: &str, comment: Option<&str>) -> Result<()> {
        let environment = self.environment();
        refuse_published(name, &environment)?;
        let view = views::StoredView::new(&name.table, query, comment, &environment.namespace);
        views::write(&environment.storage, &dataset(name), &view)
    }

    async fn drop_table(&self, name: &TableName) -> Result<()> {
        let environment = self.environment();
        refuse_published(name, &environment)?;
        if views::remove(&environment.storage, &dataset(name))? {
            return Ok(());
        }
        let table = self.own_table(name).await?;
        match deltaworks_lake::location::to_path(table.location()) {
            Some(path) => remove_folder(path),
            None => Err(Error::unsupported(format!("dropping a table at `{}`", table.location()))),
        }
    }

    fn now_ms(&self) -> i64 {
        self.environment().clock.now().timestamp_millis()
    }

    async fn functions(&self, catalog: &str, schema: &str) -> Result<Vec<SqlFunction>> {
        functions::all(&self.environment().storage, catalog, schema)
    }

    async fn function(&self, name: &TableName) -> Result<Option<Arc<SqlFunction>>> {
        Ok(functions::read(&self.environment().storage, &dataset(name))?.map(Arc::new))
    }

    async fn create_function(&self, name: &TableName, function: &SqlFunction) -> Result<()> {
        functions::write(&self.environment().storage, &dataset(name), function)
    }

    async fn drop_function(&self, name: &TableName) -> Result<bool> {
        functions::remove(&self.environment().storage, &dataset(name))
    }

    async fn write_files(&self, ctx: &SessionContext, plan: LogicalPlan, write: &FileWrite) -> Result<()> {
        let environment = self.environment();
        let path = environment.path_mappings.map(&write.path)?;
        files::write(ctx, &environment.lake, plan, &FileWrite { path, ..write.clone() }).await
    }

    async fn write_external(&self, ctx: &SessionContext, plan: LogicalPlan, write: &ExternalWrite) -> Result<()> {
        if write.format != deltaworks_jdbc::JDBC {
            return Err(Error::unsupported(format!("writing to `{}`", write.format)));
        }
        let paths = self.environment().source_context(None).path_mapper;
        let (frame, conf) = (DataFrame::new(ctx.state(), plan), conf_of(&ctx.state()));
        deltaworks_jdbc::write(frame, &write.options, write.mode, &conf, &paths).await
    }
}
