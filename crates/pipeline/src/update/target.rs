//! Brings the tables of an update into being before its flows run: created, evolved, or cleared.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Table, TableDefinition, WriterOptions, WrittenFiles};
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::{Error, Result};
use url::Url;

use super::checkpoint::{current_generation, flow_app_id, generation_app_id};
use super::nullability;
use super::selection::Refresh;
use crate::definitions::OutputKind;
use crate::graph::{Environment, ResolvedOutput};

/// The table property that says what a table is to its pipeline.
pub(super) const KIND: &str = "deltaworks.datasetType";
/// The value of [`KIND`] of a streaming table.
const STREAMING_TABLE: &str = "STREAMING_TABLE";
/// The table property that says which pipeline owns a table.
pub(crate) const PIPELINE_ID: &str = "pipelines.pipelineId";
/// The table property of tables that only their pipeline reads.
const PRIVATE: &str = "deltaworks.private";

/// Whether only the pipeline that defines the table may read it.
pub(crate) fn is_private(definition: &TableDefinition) -> bool {
    definition.properties.get(PRIVATE).is_some_and(|value| value == "true")
}

/// Whether a table with these properties is a streaming table of a pipeline.
pub(crate) fn is_streaming_table(properties: &BTreeMap<String, String>) -> bool {
    properties.get(KIND).is_some_and(|kind| kind == STREAMING_TABLE)
}

/// The table of `output`, created or, if it is `stored`, brought up to date with its definition.
///
/// # Errors
/// If the stored table cannot become what the definition says: another kind of dataset, other partition
/// columns, columns of incompatible types.
pub async fn prepare(
    environment: &Environment,
    stored: Option<Table>,
    output: &ResolvedOutput,
    refresh: Refresh,
) -> Result<Table> {
    let (lake, pipeline_id) = (&environment.lake, environment.pipeline_id.as_str());
    let location = output.location.as_ref().ok_or_else(|| Error::internal("a view has no table"))?;
    let wanted = definition(output, pipeline_id);
    let external = output.output.path.is_some();
    let Some(mut table) = stored else {
        if external {
            check_empty(output, location)?;
        }
        return lake.create(location, &wanted).await;
    };
    if external {
        check_owner(output, &table, pipeline_id)?;
    }
    check_same_kind(output, &table)?;
    match (output.kind, refresh) {
        (OutputKind::StreamingTable, Refresh::Full) => clear(&mut table, &wanted, pipeline_id).await?,
        (OutputKind::StreamingTable, _) if is_untouched(&table, output, pipeline_id).await? => {
            redefine(&mut table, &wanted).await?;
        }
        (OutputKind::StreamingTable, _) => evolve(environment, &mut table, &wanted, output).await?,
        // A materialized view takes its new columns in the commit that takes its new rows.
        _ => {}
    }
    Ok(table)
}

/// The table that a definition describes.
pub fn definition(output: &ResolvedOutput, pipeline_id: &str) -> TableDefinition {
    let mut definition = TableDefinition::new(Arc::clone(&output.schema));
    definition.name = Some(output.output.name.name.clone());
    definition.comment = output.output.comment.clone();
    definition.partition_columns = output.output.partition_columns.clone();
    definition.clustering_columns = output.output.clustering_columns.clone();
    definition.properties = properties(output, pipeline_id);
    definition
}

fn properties(output: &ResolvedOutput, pipeline_id: &str) -> BTreeMap<String, String> {
    let mut properties = output.output.properties.clone();
    properties.insert(KIND.to_owned(), kind(output).to_owned());
    properties.insert(PIPELINE_ID.to_owned(), pipeline_id.to_owned());
    if output.output.private {
        properties.insert(PRIVATE.to_owned(), "true".to_owned());
    }
    if let Some(changes) = &output.changes {
        properties.extend(super::changes::drift::properties(changes));
    }
    properties
}

fn kind(output: &ResolvedOutput) -> &'static str {
    match output.kind {
        OutputKind::MaterializedView => "MATERIALIZED_VIEW",
        _ => STREAMING_TABLE,
    }
}

/// A table is not made among files of something else.
pub(super) fn check_empty(output: &ResolvedOutput, location: &Url) -> Result<()> {
    let folder = deltaworks_lake::location::to_path(location).and_then(|path| std::fs::read_dir(path).ok());
    if folder.is_none_or(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    Err(Error::user(format!(
        "the location of `{}`, `{}`, has files in it but is no Delta table",
        output.output.name.name,
        location.path()
    ))
    .with_condition("DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION")
    .with_help("Choose an empty folder."))
}

/// What somebody else wrote is not taken over: a materialized view would replace all of its rows.
fn check_owner(output: &ResolvedOutput, table: &Table, pipeline_id: &str) -> Result<()> {
    let owner = table.definition()?.properties.get(PIPELINE_ID).cloned();
    if owner.as_deref() == Some(pipeline_id) {
        return Ok(());
    }
    let whose = match owner {
        Some(owner) => format!("belongs to pipeline `{owner}`"),
        None => "was not made by a pipeline".to_owned(),
    };
    Err(Error::user(format!(
        "the table at the location of `{}`, `{}`, {whose}",
        output.output.name.name,
        table.location().path()
    ))
    .with_condition("TABLE_ALREADY_MANAGED_BY_OTHER_PIPELINE")
    .with_help(format!(
        "Choose another location, or hand the table over: set its property `{PIPELINE_ID}` to `{pipeline_id}`."
    )))
}

fn check_same_kind(output: &ResolvedOutput, table: &Table) -> Result<()> {
    let stored = table.definition()?.properties.get(KIND).cloned();
    match stored {
        Some(stored) if stored != kind(output) => Err(Error::user(format!(
            "`{}` is stored as a {}, but is defined as a {} now",
            output.output.name.name,
            stored.to_lowercase().replace('_', " "),
            output.kind.noun()
        ))
        .with_condition("CANNOT_CHANGE_DATASET_TYPE")
        .with_help(format!("Rename the dataset, or delete the stored table `{}`.", table.location()))),
        _ => Ok(()),
    }
}

/// Whether nothing has come into the table yet: an attempt created it and failed.
async fn is_untouched(table: &Table, output: &ResolvedOutput, pipeline_id: &str) -> Result<bool> {
    let (files, _) = table.size()?;
    let generation = current_generation(table, pipeline_id).await?;
    for flow in &output.flows {
        if table.transaction_version(&flow_app_id(pipeline_id, flow, generation)).await?.is_some() {
            return Ok(false);
        }
    }
    Ok(files == 0)
}

/// Makes a table without rows what `wanted` says, whatever it was, in a commit of its own if anything differs.
async fn redefine(table: &mut Table, wanted: &TableDefinition) -> Result<()> {
    let stored = table.definition()?;
    let columns = |schema: &Schema| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    let wanted_schema = deltaworks_lake::schema::to_delta(&wanted.schema)?;
    let same = columns(&stored.schema) == columns(&wanted_schema)
        && stored.partition_columns == wanted.partition_columns
        && stored.properties == wanted.properties
        && stored.comment == wanted.comment;
    if same {
        return Ok(());
    }
    if stored.partition_columns != wanted.partition_columns {
        replace(WrittenFiles::default(), wanted).commit(table).await?;
        return Ok(());
    }
    let redefined = Commit::append(WrittenFiles::default())
        .schema(Arc::clone(&wanted.schema))
        .properties(wanted.properties.clone())
        .comment(wanted.comment.clone());
    redefined.commit(table).await?;
    Ok(())
}

/// Adds new columns, properties and the comment, in a commit of its own if anything differs.
async fn evolve(
    environment: &Environment,
    table: &mut Table,
    wanted: &TableDefinition,
    output: &ResolvedOutput,
) -> Result<()> {
    let stored = table.definition()?;
    super::changes::drift::check(&stored.properties, wanted, table, &output.output.name.name)?;
    check_partitioning(&stored.partition_columns, wanted, output)?;
    let schema = deltaworks_lake::schema::merge(table.schema(), &wanted.schema).map_err(|error| {
        error
            .context(format!("in streaming table `{}`", output.output.name.name))
            .with_help("Cast the column to the stored type, or run a full refresh of the table.")
    })?;
    let columns = schema.unwrap_or_else(|| Arc::clone(table.schema()));
    let ctx = environment.sessions.context(&environment.conf)?;
    let columns = nullability::as_declared(&ctx, table, columns, output).await?;
    let schema = (columns != *table.schema()).then_some(columns);
    let mut properties = stored.properties.clone();
    properties.extend(wanted.properties.clone());
    if schema.is_none() && properties == stored.properties && wanted.comment == stored.comment {
        return Ok(());
    }
    let mut commit = Commit::append(WrittenFiles::default()).properties(properties).comment(wanted.comment.clone());
    if let Some(schema) = schema {
        commit = commit.schema(schema);
    }
    commit.commit(table).await?;
    Ok(())
}

fn check_partitioning(stored: &[String], wanted: &TableDefinition, output: &ResolvedOutput) -> Result<()> {
    if stored == wanted.partition_columns {
        return Ok(());
    }
    Err(Error::user(format!(
        "streaming table `{}` is stored with partition columns [{}], but is defined with [{}]",
        output.output.name.name,
        stored.join(", "),
        wanted.partition_columns.join(", ")
    ))
    .with_condition("CANNOT_UPDATE_PARTITION_COLUMNS")
    .with_help("Run a full refresh of the table."))
}

/// Empties the table and starts a new generation of checkpoints, in one commit.
async fn clear(table: &mut Table, wanted: &TableDefinition, pipeline_id: &str) -> Result<()> {
    let generation = current_generation(table, pipeline_id).await? + 1;
    replace(WrittenFiles::default(), wanted)
        .transaction(generation_app_id(pipeline_id), generation)
        .commit(table)
        .await?;
    Ok(())
}

/// A commit that makes a table what `definition` says, with the rows of `files` and no others.
pub fn replace(files: WrittenFiles, definition: &TableDefinition) -> Commit {
    Commit::overwrite(files)
        .schema(Arc::clone(&definition.schema))
        .partition_columns(definition.partition_columns.clone())
        .properties(definition.properties.clone())
        .comment(definition.comment.clone())
}

/// How files are written for a table as `definition` says it will be.
pub fn writer_options(definition: TableDefinition, ctx: &SessionContext) -> WriterOptions {
    WriterOptions {
        schema: definition.schema,
        partition_columns: definition.partition_columns,
        properties: definition.properties,
        target_file_size_bytes: None,
        compression: deltaworks_lake::writer::FileCompression::default(),
        random_columns: Vec::new(),
        session: Some(Arc::new(ctx.state())),
        parse: Some(parse_with(ctx.clone())),
    }
}

/// Generated columns and constraints are Spark SQL.
fn parse_with(ctx: SessionContext) -> deltaworks_lake::writer::ParseExpression {
    Arc::new(move |text, schema| {
        deltaworks_spark::sql::plan_expression(&ctx, text, schema, &SourceLocation::new("<table property>", 1, 1))
    })
}
