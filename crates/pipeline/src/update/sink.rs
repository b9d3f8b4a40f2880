//! Brings the table of a sink into being before its flows run. That of a Delta sink is not the pipeline's: others write it,
//! too, and no update clears it. Of any other sink it has no rows, and counts the batches that were delivered.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use deltaworks_lake::{Commit, Lake, Table, TableDefinition, WrittenFiles};
use deltaworks_spark::{Error, Result};

use super::checkpoint::{Checkpoint, current_generation, generation_app_id};
use super::selection::Refresh;
use super::target::{KIND, check_empty};
use crate::graph::{Environment, ResolvedOutput};

/// The table of the sink, created unless it is `stored`. A full refresh makes its flows begin anew; the rows that they
/// have added before stay.
///
/// # Errors
/// `User` if the table is a dataset of a pipeline, or its columns are not those of the flows and must not change.
pub async fn prepare(
    lake: &Lake,
    stored: Option<Table>,
    output: &ResolvedOutput,
    refresh: Refresh,
    pipeline_id: &str,
) -> Result<Table> {
    let location = output.location.as_ref().ok_or_else(|| Error::internal("a sink without a table"))?;
    let Some(mut table) = stored else {
        check_empty(output, location)?;
        return lake.create(location, &TableDefinition::new(Arc::clone(&output.schema))).await;
    };
    let name = &output.output.name.name;
    if table.definition()?.properties.contains_key(KIND) {
        return Err(Error::user(format!(
            "the table of sink `{name}`, `{}`, is a dataset of a pipeline, which alone writes it",
            location.path()
        ))
        .with_condition("TABLE_ALREADY_MANAGED_BY_OTHER_PIPELINE")
        .with_help("Choose another table."));
    }
    let merged = deltaworks_lake::schema::merge(table.schema(), &output.schema)
        .map_err(|error| error.context(format!("in sink `{name}`")).with_help("Cast the column to the stored type."))?;
    if let Some(schema) = merged {
        if !output.output.sink.as_ref().is_some_and(|sink| sink.merges_schema()) {
            return Err(differs(name, &table, output));
        }
        Commit::append(WrittenFiles::default()).schema(schema).commit(&mut table).await?;
    }
    begin_anew(&mut table, refresh, pipeline_id).await?;
    Ok(table)
}

/// The table that counts the batches of a sink that is no table, created unless it is `stored`. After a full refresh they
/// count from 0 again.
///
/// # Errors
/// `Unavailable` if the storage does not answer.
pub async fn prepare_deliveries(
    environment: &Environment,
    stored: Option<Table>,
    output: &ResolvedOutput,
    refresh: Refresh,
) -> Result<Table> {
    let pipeline_id = &environment.pipeline_id;
    let location = output.location.as_ref().ok_or_else(|| Error::internal("a sink without a table"))?;
    let Some(mut table) = stored else {
        // No row ever comes; readers of Delta tables want a column.
        let columns = Schema::new(vec![Field::new("batch", DataType::Int64, true)]);
        return environment.lake.create(location, &TableDefinition::new(Arc::new(columns))).await;
    };
    if refresh == Refresh::Full {
        // Nobody delivers them any more.
        for flow in &output.flows {
            let folder = environment.storage.checkpoint(flow, &output.output.name)?;
            Checkpoint::open(&folder, pipeline_id, flow, &table).await?.forget_pending().await?;
        }
    }
    begin_anew(&mut table, refresh, pipeline_id).await?;
    Ok(table)
}

/// Starts a new generation of checkpoints if the sink is refreshed in full.
async fn begin_anew(table: &mut Table, refresh: Refresh, pipeline_id: &str) -> Result<()> {
    if refresh != Refresh::Full {
        return Ok(());
    }
    let generation = current_generation(table, pipeline_id).await? + 1;
    let commit = Commit::append(WrittenFiles::default());
    commit.transaction(generation_app_id(pipeline_id), generation).commit(table).await?;
    Ok(())
}

fn differs(name: &str, table: &Table, output: &ResolvedOutput) -> Error {
    let known = |column: &str| table.schema().fields().iter().any(|field| field.name().eq_ignore_ascii_case(column));
    let new = output.schema.fields().iter().map(|field| field.name().as_str()).filter(|column| !known(column));
    let new: Vec<String> = new.map(|column| format!("`{column}`")).collect();
    let what = match new.as_slice() {
        [] => "has narrower types than the rows of its flows".to_owned(),
        new => format!("has no column {}", new.join(", ")),
    };
    Error::user(format!("the table of sink `{name}` {what}"))
        .with_condition("DELTA_METADATA_MISMATCH")
        .with_help("Leave the columns out, or set the option `mergeSchema` of the sink to true.")
}
