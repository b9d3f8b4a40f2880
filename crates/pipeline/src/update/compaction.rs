//! Small files of a table put together: when somebody asks for it, and behind the back of flows that append.
//!
//! A flow that commits every second leaves a file each time. Readers open each of them, and whoever follows the table holds what the
//! log says of each. So every now and then the files of one size are put together, as Delta's auto compaction does after a write:
//! when there are [`LEAST_FILES`] of them. What comes of it is of a larger size, so each row is written again a few times only,
//! however long the flow runs. The flow goes on meanwhile; no row changes, and nobody who streams from the table reads one again.

use std::collections::BTreeMap;

use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_lake::definition::CONSTRAINT_PREFIX;
use deltaworks_lake::maintenance::bins;
use deltaworks_lake::{Commit, DataFile, FILE_COLUMN, Table, TableDefinition, WrittenFiles};
use deltaworks_spark::{Error, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use super::target::writer_options;
use super::write::write_one_by_one;

/// As many files of one size are put together.
const LEAST_FILES: usize = 50;
/// Sizes are told apart by this factor.
const SIZE_FACTOR: u64 = 8;
/// Files of this size stay as they are, unless the table states a smaller one.
const MOST_BYTES: u64 = 128 << 20;
/// How many batches a flow commits until its table is looked at again.
const BATCHES_BETWEEN: u32 = 16;
/// The properties that switch it off.
const SWITCHES: [&str; 2] = ["delta.autoOptimize.autoCompact", "pipelines.autoOptimize.managed"];

/// Files that were put together.
pub struct Compacted {
    /// What came of it.
    pub written: WrittenFiles,
    /// The files whose rows it has.
    pub replaced: Vec<DataFile>,
    clustering: Vec<String>,
}

impl Compacted {
    /// Writes the rows of each bin to files of `target_bytes`; no reader sees them yet.
    ///
    /// # Errors
    /// Whatever reading and writing meet.
    pub async fn write(
        ctx: &SessionContext,
        table: &Table,
        files: Vec<Vec<DataFile>>,
        target_bytes: u64,
    ) -> Result<Self> {
        let mut definition = table.definition()?;
        // The rows have been checked when they came.
        definition.properties.retain(|key, _| !key.starts_with(CONSTRAINT_PREFIX));
        let clustering = std::mem::take(&mut definition.clustering_columns);
        let mut options = writer_options(TableDefinition { clustering_columns: Vec::new(), ..definition }, ctx);
        options.target_file_size_bytes = Some(target_bytes);
        let mut done = Self { written: WrittenFiles::default(), replaced: Vec::new(), clustering };
        for bin in files {
            let provider = table.provider_with_file_column(&bin)?;
            let rows = LogicalPlanBuilder::scan("target", provider_as_source(provider), None)?;
            let columns = rows.schema().columns().into_iter().filter(|column| column.name != FILE_COLUMN);
            let columns: Vec<Expr> = columns.map(Expr::Column).collect();
            let rows = rows.project(columns)?;
            let rows = match done.clustering.is_empty() {
                true => rows,
                false => rows.sort(
                    done.clustering.iter().map(|name| Expr::Column(Column::new_unqualified(name)).sort(true, true)),
                )?,
            };
            done.written.extend(write_one_by_one(ctx, rows.build()?, table, &options).await?);
            done.replaced.extend(bin);
        }
        Ok(done)
    }

    /// Commits the files in the place of the others.
    ///
    /// # Errors
    /// `DELTA_CONCURRENT_DELETE_READ` (`Conflict`) if somebody else has changed rows of the files.
    pub async fn commit(self, table: &mut Table, predicate: Vec<String>, auto: bool) -> Result<u64> {
        let parameters = [
            ("predicate", Value::from(predicate).to_string()),
            ("zOrderBy", "[]".to_owned()),
            ("clusterBy", Value::from(self.clustering).to_string()),
            ("auto", auto.to_string()),
        ];
        let metrics = [
            ("numAddedFiles", self.written.adds.len() as u64),
            ("numRemovedFiles", self.replaced.len() as u64),
            ("numAddedBytes", self.written.bytes),
            ("numRemovedBytes", self.replaced.iter().map(|file| file.size_bytes).sum()),
        ];
        let metrics = metrics.into_iter().map(|(key, number)| (key.to_owned(), Value::from(number.to_string())));
        Commit::compact(table, self.written, &self.replaced)?
            .operation_name("OPTIMIZE", parameters.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            .operation_metrics(metrics.collect())
            .commit(table)
            .await
    }
}

/// Puts small files of a flow's target together as they pile up.
#[derive(Default)]
pub struct AutoCompaction {
    /// Batches since the table was looked at.
    batches: u32,
    /// At most one. It ends with this.
    running: JoinSet<Result<()>>,
}

impl AutoCompaction {
    /// Looks after `table` once in a while, in the background; a batch has just been committed to it.
    pub fn batch_committed(&mut self, ctx: &SessionContext, table: &Table) {
        self.batches += 1;
        while let Some(ended) = self.running.try_join_next() {
            tell(table, ended.unwrap_or_else(|died| Err(Error::internal(format!("it died: {died}")))));
        }
        if self.batches >= BATCHES_BETWEEN && self.running.is_empty() {
            self.batches = 0;
            self.running.spawn(compact_if_due(ctx.clone(), table.clone()));
        }
    }

    /// Looks after `table` once the flow has nothing left to do, if there were batches.
    pub async fn finish(&mut self, ctx: &SessionContext, table: &Table) {
        while let Some(ended) = self.running.join_next().await {
            tell(table, ended.unwrap_or_else(|died| Err(Error::internal(format!("it died: {died}")))));
        }
        if std::mem::take(&mut self.batches) > 0 {
            tell(table, compact_if_due(ctx.clone(), table.clone()).await);
        }
    }
}

/// The flow is as well without it.
fn tell(table: &Table, ended: Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(table = %table.location(), %error, "small files of the table were not put together");
    }
}

async fn compact_if_due(ctx: SessionContext, mut table: Table) -> Result<()> {
    let definition = table.definition()?;
    let is_off = |key: &&str| {
        let value = definition.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        value.is_some_and(|(_, value)| value.eq_ignore_ascii_case("false"))
    };
    if SWITCHES.iter().any(is_off) {
        return Ok(());
    }
    let stated = writer_options(definition, &ctx).stated_file_size()?;
    let target_bytes = stated.unwrap_or(MOST_BYTES).min(MOST_BYTES);
    let files: Vec<_> =
        table.files_by_partition()?.into_iter().flat_map(|files| piled_up(files, target_bytes)).collect();
    if files.is_empty() {
        return Ok(());
    }
    Compacted::write(&ctx, &table, files, target_bytes).await?.commit(&mut table, Vec::new(), true).await?;
    Ok(())
}

/// The files of sizes of which there are many, as they go together.
fn piled_up(files: Vec<DataFile>, target_bytes: u64) -> Vec<Vec<DataFile>> {
    let mut by_size: BTreeMap<u32, Vec<DataFile>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.size_bytes < target_bytes / 2) {
        by_size.entry(file.size_bytes.max(1).ilog(SIZE_FACTOR)).or_default().push(file);
    }
    let many = by_size.into_values().filter(|files| files.len() >= LEAST_FILES);
    many.flat_map(|files| bins(files, target_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: impl IntoIterator<Item = u64>) -> Vec<DataFile> {
        let file = |size_bytes| DataFile {
            path: String::new(),
            size_bytes,
            rows: None,
            modified_ms: 0,
            data_change: true,
            version: 0,
        };
        sizes.into_iter().map(file).collect()
    }

    fn sizes(bins: &[Vec<DataFile>]) -> Vec<(usize, u64)> {
        bins.iter().map(|bin| (bin.len(), bin.iter().map(|file| file.size_bytes).sum())).collect()
    }

    #[test]
    fn files_of_one_size_go_together_once_there_are_many() {
        assert_eq!(sizes(&piled_up(files([1000; 49]), MOST_BYTES)), []);
        assert_eq!(sizes(&piled_up(files([1000; 50]), MOST_BYTES)), [(50, 50_000)]);
        let mixed = [1000; 49].into_iter().chain([50_000; 50]);
        assert_eq!(sizes(&piled_up(files(mixed), MOST_BYTES)), [(50, 2_500_000)]);
    }

    #[test]
    fn files_do_not_grow_beyond_the_size_that_is_aimed_at() {
        assert_eq!(sizes(&piled_up(files([400; 60]), 10_000)), [(25, 10_000), (25, 10_000), (10, 4000)]);
        assert_eq!(sizes(&piled_up(files([5000; 60]), 10_000)), []);
    }

    #[test]
    fn rows_are_written_again_a_few_times_only() {
        let (mut there, mut written) = (Vec::new(), 0);
        for _ in 0..20_000 {
            there.extend(files([4096]));
            for bin in piled_up(there.clone(), MOST_BYTES) {
                let bytes: u64 = bin.iter().map(|file| file.size_bytes).sum();
                there.retain(|file| !bin.contains(file));
                there.extend(files([bytes]));
                written += bytes;
            }
            assert!(there.len() <= 200, "{} files", there.len());
        }
        assert!(written <= 3 * 20_000 * 4096, "{written}");
    }
}
