//! `DataFrame.write.save`: rows as files in a folder, laid out as Spark does.
//!
//! Files are written into a folder of their own first and moved into place when all are complete, so that a
//! write that fails leaves the target as it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ExprSchema;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use deltaworks_lake::{Commit, Lake, TableDefinition};
use deltaworks_spark::cast::{CastMode, spark_cast};
use deltaworks_spark::catalog::{FileWrite, SaveMode};
use deltaworks_spark::session::conf_of;
use deltaworks_spark::{Error, Result};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::files::{RowFile, RowFormat};
use crate::update::target::writer_options;
use crate::update::write::write_plan;

/// The folder of rows whose partition column is NULL.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Runs `plan` and writes its rows.
///
/// # Errors
/// `PATH_ALREADY_EXISTS` (`User`) by the mode; `Unsupported` for formats that cannot be written.
pub(super) async fn write(ctx: &SessionContext, lake: &Lake, plan: LogicalPlan, write: &FileWrite) -> Result<()> {
    let target = local(&write.path)?;
    let exists = target.exists() && std::fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_some());
    match write.mode {
        SaveMode::Ignore if exists => return Ok(()),
        SaveMode::ErrorIfExists if exists => {
            return Err(Error::user(format!("path `{}` already exists", write.path))
                .with_condition("PATH_ALREADY_EXISTS")
                .with_parameter("outputPath", write.path.clone())
                .with_help("Use mode(\"overwrite\") or mode(\"append\")."));
        }
        _ => {}
    }
    if write.format == "delta" {
        return write_delta(ctx, lake, plan, &target, write).await;
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let staged = tempfile::Builder::new().prefix(".staged-").tempdir_in(folder)?;
    write_staged(ctx, plan, staged.path(), write).await?;
    if write.mode == SaveMode::Overwrite {
        clear(&target)?;
    }
    move_into(staged.path(), &target)?;
    File::create(target.join("_SUCCESS"))?;
    Ok(())
}

/// A local path out of a path or `file:` URL.
fn local(path: &str) -> Result<PathBuf> {
    match path.strip_prefix("file:") {
        Some(rest) => Ok(PathBuf::from(format!("/{}", rest.trim_start_matches('/')))),
        None if path.contains("://") => Err(Error::unsupported(format!("writing files to `{path}`"))
            .with_help("Write to a local folder, or map the prefix with `path_mappings`.")),
        None => Ok(std::path::absolute(path)?),
    }
}

fn clear(target: &Path) -> Result<()> {
    match std::fs::remove_dir_all(target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(error).context(format!("while replacing `{}`", target.display())))
        }
        _ => Ok(()),
    }
}

/// Moves the files of a folder into another one, which may have files of its own.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            move_into(&entry.path(), &target)?;
        } else {
            std::fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn write_delta(
    ctx: &SessionContext,
    lake: &Lake,
    plan: LogicalPlan,
    target: &Path,
    write: &FileWrite,
) -> Result<()> {
    let location = deltaworks_lake::location::from_path(target)?;
    let transaction = transaction(write)?;
    let mut table = match lake.open(&location, None).await? {
        Some(table) => table,
        None => {
            let schema: Vec<_> =
                plan.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            let mut definition = TableDefinition::new(Arc::new(Schema::new(schema)));
            definition.partition_columns.clone_from(&write.partition_columns);
            lake.create(&location, &definition).await?
        }
    };
    if let Some((app_id, version)) = &transaction
        && table.transaction_version(app_id).await?.is_some_and(|done| done >= *version)
    {
        return Ok(());
    }
    let options = writer_options(table.definition()?, ctx);
    let written = write_plan(ctx, plan, &table, &options, &CancellationToken::new()).await?;
    let commit = match write.mode {
        SaveMode::Overwrite => Commit::overwrite(written.files),
        _ => Commit::append(written.files),
    };
    let commit = match transaction {
        Some((app_id, version)) => commit.transaction(app_id, version),
        None => commit,
    };
    commit.commit(&mut table).await.map(drop)
}

/// Who writes and which of its writes this is: Delta takes each once.
fn transaction(write: &FileWrite) -> Result<Option<(String, i64)>> {
    let (app_id, version) = (write.options.get("txnAppId"), write.options.get("txnVersion"));
    let wrong = |what: &str| {
        Err(Error::user(format!("options `txnAppId` and `txnVersion` make a write idempotent: {what}"))
            .with_condition("DELTA_INVALID_IDEMPOTENT_WRITES_OPTIONS"))
    };
    match (app_id, version) {
        (None, None) => Ok(None),
        (Some(app_id), Some(text)) => match text.trim().parse() {
            Ok(version) => Ok(Some((app_id.to_owned(), version))),
            Err(_) => wrong(&format!("`{text}` is no version")),
        },
        _ => wrong("both must be given"),
    }
}

/// Writes the files of `plan` below `folder`.
async fn write_staged(ctx: &SessionContext, plan: LogicalPlan, folder: &Path, write: &FileWrite) -> Result<()> {
    let (plan, partitions) = with_partitions_first(ctx, plan, &write.partition_columns)?;
    let data = Schema::new(plan.schema().fields()[partitions..].to_vec());
    let format = RowFormat::new(&write.format, &write.options, &conf_of(&ctx.state()), &data)?;
    let plan = format.prepare(ctx, plan, partitions)?;
    let data = Schema::new(plan.schema().fields()[partitions..].to_vec());
    let mut files = Files { folder: folder.to_owned(), format, data, open: BTreeMap::new() };
    let mut batches = DataFrame::new(ctx.state(), plan).execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        tokio::task::block_in_place(|| files.add(&batch, partitions))?;
    }
    files.close(partitions == 0)
}

/// The partition columns as text, first, then all others; and how many they are.
fn with_partitions_first(ctx: &SessionContext, plan: LogicalPlan, names: &[String]) -> Result<(LogicalPlan, usize)> {
    let columns = plan.schema().columns();
    let conf = conf_of(&ctx.state());
    let mut exprs = Vec::with_capacity(columns.len());
    for name in names {
        let column = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::user(format!("partition column `{name}` does not exist")).with_condition("COLUMN_NOT_FOUND")
        })?;
        let from = plan.schema().field_from_column(column)?.data_type().clone();
        let text = spark_cast(Expr::Column(column.clone()), &from, &DataType::Utf8, CastMode::Lenient, &conf)?;
        exprs.push(text.alias(&column.name));
    }
    let others: Vec<_> = columns
        .into_iter()
        .filter(|column| !names.iter().any(|name| name.eq_ignore_ascii_case(&column.name)))
        .collect();
    if others.is_empty() {
        return Err(
            Error::user("all columns are partition columns").with_condition("ALL_PARTITION_COLUMNS_NOT_ALLOWED")
        );
    }
    exprs.extend(others.into_iter().map(Expr::Column));
    let count = names.len();
    Ok((LogicalPlanBuilder::from(plan).project(exprs)?.build()?, count))
}

/// The files being written, one per partition.
struct Files {
    folder: PathBuf,
    format: RowFormat,
    /// The columns that are written.
    data: Schema,
    open: BTreeMap<String, RowFile>,
}

impl Files {
    fn add(&mut self, batch: &RecordBatch, partitions: usize) -> Result<()> {
        let keys: Vec<&StringArray> = batch.columns()[..partitions].iter().map(|column| column.as_string()).collect();
        let schema = batch.schema();
        let rest: Vec<usize> = (partitions..batch.num_columns()).collect();
        let data = batch.project(&rest)?;
        if partitions == 0 {
            return self.write("", &data);
        }
        let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in 0..batch.num_rows() {
            let parts = keys.iter().zip(schema.fields()).map(|(values, field)| {
                let value = if values.is_null(row) || values.value(row).is_empty() {
                    NULL_PARTITION.to_owned()
                } else {
                    escaped(values.value(row))
                };
                format!("{}={value}", field.name())
            });
            rows.entry(parts.collect::<Vec<_>>().join("/")).or_default().push(row as u32);
        }
        for (folder, rows) in rows {
            self.write(&folder, &take_record_batch(&data, &UInt32Array::from(rows))?)?;
        }
        Ok(())
    }

    fn write(&mut self, folder: &str, batch: &RecordBatch) -> Result<()> {
        if let Some(file) = self.open.get_mut(folder) {
            return file.write(batch);
        }
        let mut file = self.create(folder)?;
        file.write(batch)?;
        self.open.insert(folder.to_owned(), file);
        Ok(())
    }

    fn create(&self, folder: &str) -> Result<RowFile> {
        let folder = self.folder.join(folder);
        std::fs::create_dir_all(&folder)?;
        let name = format!("part-00000-{}-c000.{}", Uuid::new_v4(), self.format.extension());
        self.format.create(&folder.join(name), &self.data)
    }

    /// Completes the files; without rows there is one file all the same, which keeps the columns.
    fn close(mut self, never_none: bool) -> Result<()> {
        if self.open.is_empty() && never_none {
            let file = self.create("")?;
            self.open.insert(String::new(), file);
        }
        self.open.into_values().try_for_each(|file| file.finish().map(drop))
    }
}

/// A value as part of a path, as Hive escapes it.
fn escaped(value: &str) -> String {
    let special = |c: char| c.is_control() || "\"#%'*/:=?\\{[]^".contains(c);
    value.chars().map(|c| if special(c) { format!("%{:02X}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn values_cannot_leave_their_folder() {
        assert_eq!(escaped("a/../b"), "a%2F..%2Fb");
        assert_eq!(escaped("2024-01-01 00:00:00"), "2024-01-01 00%3A00%3A00");
    }
}
