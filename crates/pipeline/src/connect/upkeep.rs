//! Small files of a stored table put together.

use std::collections::HashSet;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_lake::maintenance::bins;
use deltaworks_lake::{FILE_COLUMN, Table};
use deltaworks_spark::edit::{FILE, Optimized};
use deltaworks_spark::{Error, Result};

use super::edit::rows_of;
use crate::update::compaction::Compacted;
use crate::update::target::writer_options;

/// Up to this size files go together, unless the table says otherwise.
const TARGET_BYTES: u64 = 1 << 30;

/// Puts small files together, in one commit; `condition` chooses partitions.
pub(super) async fn optimize(ctx: &SessionContext, table: &mut Table, condition: Option<&Expr>) -> Result<Optimized> {
    let chosen = match condition {
        Some(condition) => Some(files_that_meet(ctx, table, condition).await?),
        None => None,
    };
    let options = writer_options(table.definition()?, ctx);
    let target_bytes = options.stated_file_size()?.unwrap_or(TARGET_BYTES);
    let mut files = Vec::new();
    for mut partition in table.files_by_partition()? {
        partition.retain(|file| chosen.as_ref().is_none_or(|chosen| chosen.contains(&file.path)));
        files.extend(bins(partition, target_bytes));
    }
    let compacted = Compacted::write(ctx, table, files, target_bytes).await?;
    let done = Optimized {
        added_files: compacted.written.adds.len() as u64,
        removed_files: compacted.replaced.len() as u64,
        added_bytes: compacted.written.bytes,
        removed_bytes: compacted.replaced.iter().map(|file| file.size_bytes).sum(),
    };
    if !compacted.replaced.is_empty() {
        let predicate = condition.iter().map(|condition| condition.to_string()).collect();
        compacted.commit(table, predicate, false).await?;
    }
    Ok(done)
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
