//! Small files of a stored table put together.

use std::collections::{BTreeMap, HashSet};

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_lake::definition::CONSTRAINT_PREFIX;
use deltaworks_lake::maintenance::bins;
use deltaworks_lake::{Commit, DataFile, FILE_COLUMN, Table, TableDefinition, WrittenFiles};
use deltaworks_spark::edit::{FILE, Optimized};
use deltaworks_spark::{Error, Result};
use serde_json::Value;

use super::edit::rows_of;
use crate::update::target::writer_options;
use crate::update::write::write_one_by_one;

/// Up to this size files go together, unless the table says otherwise.
const TARGET_BYTES: u64 = 1 << 30;

/// Puts small files together, in one commit; `condition` chooses partitions.
pub(super) async fn optimize(ctx: &SessionContext, table: &mut Table, condition: Option<&Expr>) -> Result<Optimized> {
    let chosen = match condition {
        Some(condition) => Some(files_that_meet(ctx, table, condition).await?),
        None => None,
    };
    let mut definition = table.definition()?;
    // The rows have been checked when they came.
    definition.properties.retain(|key, _| !key.starts_with(CONSTRAINT_PREFIX));
    let clustering = std::mem::take(&mut definition.clustering_columns);
    let mut options = writer_options(TableDefinition { clustering_columns: Vec::new(), ..definition }, ctx);
    let target_bytes = options.stated_file_size()?.unwrap_or(TARGET_BYTES);
    options.target_file_size_bytes = Some(target_bytes);
    let (mut written, mut removed) = (WrittenFiles::default(), Vec::new());
    for partition in table.files_by_partition()? {
        let files =
            partition.into_iter().filter(|file| chosen.as_ref().is_none_or(|chosen| chosen.contains(&file.path)));
        for bin in bins(files.collect(), target_bytes) {
            let rows = LogicalPlanBuilder::from(rows_of(table, &bin)?);
            let columns: Vec<Expr> =
                rows.schema().columns().into_iter().filter(|column| column.name != FILE).map(Expr::Column).collect();
            let rows = rows.project(columns)?;
            let rows = match clustering.is_empty() {
                true => rows,
                false => rows
                    .sort(clustering.iter().map(|name| Expr::Column(Column::new_unqualified(name)).sort(true, true)))?,
            };
            written.extend(write_one_by_one(ctx, rows.build()?, table, &options).await?);
            removed.extend(bin);
        }
    }
    let done = Optimized {
        added_files: written.adds.len() as u64,
        removed_files: removed.len() as u64,
        added_bytes: written.bytes,
        removed_bytes: removed.iter().map(|file: &DataFile| file.size_bytes).sum(),
    };
    if removed.is_empty() {
        return Ok(done);
    }
    let predicate = condition.iter().map(|condition| condition.to_string()).collect::<Vec<_>>();
    let parameters = [
        ("predicate", Value::from(predicate).to_string()),
        ("zOrderBy", "[]".to_owned()),
        ("clusterBy", Value::from(clustering).to_string()),
        ("auto", "false".to_owned()),
    ];
    let parameters: BTreeMap<String, String> =
        parameters.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let commit = Commit::compact(table, written, &removed)?;
    commit.operation_name("OPTIMIZE", parameters).operation_metrics(metrics(&done)).commit(table).await?;
    Ok(done)
}

fn metrics(done: &Optimized) -> BTreeMap<String, Value> {
    [
        ("numAddedFiles", done.added_files),
        ("numRemovedFiles", done.removed_files),
        ("numAddedBytes", done.added_bytes),
        ("numRemovedBytes", done.removed_bytes),
    ]
    .into_iter()
    .map(|(key, number)| (key.to_owned(), Value::from(number.to_string())))
    .collect()
}

/// The paths of the files with rows that meet a condition on partition columns: no column of theirs is read for that.
async fn files_that_meet(ctx: &SessionContext, table: &Table, condition: &Expr) -> Result<HashSet<String>> {
    let files = table.files()?;
    let index = table.file_index(&files);
    let rows = LogicalPlanBuilder::from(rows_of(table, &files)?).filter(condition.clone())?;
    let plan = rows.project([Expr::Column(Column::new_unqualified(FILE))])?.distinct()?.build()?;
    let mut found = HashSet::new();
    for batch in ctx.execute_logical_plan(plan).await?.collect().await? {
        let names = cast(batch.column(0), &DataType::Utf8)?;
        for name in names.as_string::<i32>().iter().flatten() {
            let position = index.position(name);
            let position = position.ok_or_else(|| Error::internal(format!("`{name}` ({FILE_COLUMN}) is no file")))?;
            found.insert(files[position].path.clone());
        }
    }
    Ok(found)
}
