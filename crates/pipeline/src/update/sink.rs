//! Brings the table of a Delta sink into being before flows add to it. It is not the pipeline's: others write it, too, and no
//! update clears it.

use std::sync::Arc;

use deltaworks_lake::{Commit, Lake, Table, TableDefinition, WrittenFiles};
use deltaworks_spark::{Error, Result};

use super::checkpoint::{current_generation, generation_app_id};
use super::selection::Refresh;
use super::target::{KIND, check_empty};
use crate::graph::ResolvedOutput;

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
    if refresh == Refresh::Full {
        let generation = current_generation(&table, pipeline_id).await? + 1;
        Commit::append(WrittenFiles::default())
            .transaction(generation_app_id(pipeline_id), generation)
            .commit(&mut table)
            .await?;
    }
    Ok(table)
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
