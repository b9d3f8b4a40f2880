//! `OPTIMIZE` and `VACUUM`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::{DFSchema, DFSchemaRef};

use super::Session;
use super::tables::not_found;
use crate::catalog::TableEntry;
use crate::edit::VacuumOptions;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::statement::{Optimize, Vacuum};

/// The setting that lets a vacuum delete files that queries may still read.
const CHECK_RETENTION: &str = "spark.databricks.delta.retentionDurationCheck.enabled";

impl Session {
    /// Puts small files together; gives how many.
    pub(super) async fn optimize(&self, optimize: &Optimize) -> Result<RecordBatch> {
        let entry = self.stored_table(&optimize.table, "OPTIMIZE").await?;
        let context = self.context();
        let condition = match &optimize.condition {
            Some(text) => {
                let schema = partition_columns(&entry)?;
                let planned = crate::sql::plan_expression(&context, &text.text, &schema, &text.location)?;
                Some(planned.unalias())
            }
            None => None,
        };
        let done = self.catalog()?.optimize(&context, &entry.name, condition.as_ref()).await?;
        let metrics = [
            ("numFilesAdded", done.added_files),
            ("numFilesRemoved", done.removed_files),
            ("bytesAdded", done.added_bytes),
            ("bytesRemoved", done.removed_bytes),
        ];
        let fields: Fields = metrics.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true)).collect();
        let values: Vec<ArrayRef> = metrics
            .iter()
            .map(|(_, value)| Arc::new(Int64Array::from(vec![i64::try_from(*value).unwrap_or(i64::MAX)])) as ArrayRef)
            .collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![entry.location])),
            Arc::new(StructArray::try_new(fields.clone(), values, None)?),
        ];
        let schema = Schema::new(vec![
            Field::new("path", DataType::Utf8, true),
            Field::new("metrics", DataType::Struct(fields), true),
        ]);
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    /// Deletes files that left the table; gives the table's path, or the files if they stay.
    pub(super) async fn vacuum(&self, vacuum: &Vacuum) -> Result<RecordBatch> {
        let entry = self.stored_table(&vacuum.table, "VACUUM").await?;
        let check = self.setting(CHECK_RETENTION).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
        let options =
            VacuumOptions { retain_hours: vacuum.retain_hours, check_retention: check, dry_run: vacuum.dry_run };
        let files = self.catalog()?.vacuum(&entry.name, options).await?;
        let paths = if vacuum.dry_run { files } else { vec![entry.location] };
        let schema = Schema::new(vec![Field::new("path", DataType::Utf8, true)]);
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(paths))])?)
    }

    async fn stored_table(&self, name: &ObjectName, statement: &str) -> Result<TableEntry> {
        let entry = self.catalog()?.table(&self.complete(name)?).await?.ok_or_else(|| not_found(name))?;
        match entry.is_view || self.temporary_view(name).is_some() {
            true => Err(Error::user(format!("`{name}` is a view: `{statement}` is for tables"))
                .with_condition("EXPECT_TABLE_NOT_VIEW.NO_ALTERNATIVE")),
            false => Ok(entry),
        }
    }
}

/// What the condition of `OPTIMIZE` may be about.
fn partition_columns(entry: &TableEntry) -> Result<DFSchemaRef> {
    if entry.partition_columns.is_empty() {
        return Err(Error::user(format!("table {} has no partitions that a condition could choose", entry.name))
            .with_condition("DELTA_NON_PARTITION_COLUMN_REFERENCE")
            .with_help("Leave `WHERE` out."));
    }
    let is_partition = |name: &str| entry.partition_columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    let fields = entry.schema.iter().flat_map(|schema| schema.fields()).filter(|field| is_partition(field.name()));
    let schema = Schema::new(fields.cloned().collect::<Vec<_>>());
    Ok(Arc::new(DFSchema::try_from(schema)?))
}
