//! The change data feed: which rows each commit inserted, updated and deleted.
//!
//! A commit that only adds or only removes files says it by them. One that rewrites files says it in files of their own
//! (`_change_data`) if the table records changes: property `delta.enableChangeDataFeed`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{TableProvider, view::ViewTable};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use deltalake::delta_datafusion::DeltaCdfTableProvider;
use deltaworks_spark::error::{Error, Result};

use crate::changes::DataFile;
use crate::error::from_delta;
use crate::table::Table;
use crate::variant::Marked;

/// The column of the feed that says what became of the row, a [`ChangeType`].
pub const CHANGE_TYPE: &str = "_change_type";
/// The column of the feed with the version that the commit made.
pub const COMMIT_VERSION: &str = "_commit_version";
/// The column of the feed with the time of the commit.
pub const COMMIT_TIMESTAMP: &str = "_commit_timestamp";
/// The table property that has commits record changes.
pub const ENABLED: &str = "delta.enableChangeDataFeed";

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeType {
    /// It is new.
    Insert,
    /// This is how it was.
    UpdatePreimage,
    /// This is how it is.
    UpdatePostimage,
    /// It is gone.
    Delete,
}

impl ChangeType {
    /// As it stands in [`CHANGE_TYPE`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::UpdatePreimage => "update_preimage",
            Self::UpdatePostimage => "update_postimage",
            Self::Delete => "delete",
        }
    }
}

/// The columns of the feed of a table with these columns.
pub fn feed_schema(columns: &Schema) -> SchemaRef {
    let mut fields = columns.fields().to_vec();
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let own = [(CHANGE_TYPE, DataType::Utf8), (COMMIT_VERSION, DataType::Int64), (COMMIT_TIMESTAMP, timestamp)];
    fields.extend(own.map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))));
    Arc::new(Schema::new(fields))
}

impl Table {
    /// Whether commits record which rows they change, as of this version.
    ///
    /// # Errors
    /// `Data` if the table's metadata cannot be read.
    pub fn records_changes(&self) -> Result<bool> {
        let properties = self.definition()?.properties;
        Ok(properties.get(ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")))
    }

    /// The changes of the commits `from` to `to`, both included, in the columns of [`feed_schema`].
    ///
    /// # Errors
    /// `DELTA_MISSING_CHANGE_DATA` (`User`) if the table does not record changes; `Unsupported` if a partition's value cannot
    /// be part of a path as it is.
    pub async fn change_feed(&self, from: u64, to: u64) -> Result<Arc<dyn TableProvider>> {
        if !self.records_changes()? {
            return Err(not_recorded(self.location().as_str()));
        }
        self.check_paths(from, to).await?;
        let feed = self.inner().clone().scan_cdf().with_starting_version(from).with_ending_version(to);
        let feed = DeltaCdfTableProvider::try_new(feed.with_allow_out_of_range()).map_err(from_delta)?;
        let columns = feed_schema(self.schema());
        let columns = columns.fields().iter().map(|field| {
            cast(Expr::Column(Column::from_name(field.name())), field.data_type().clone()).alias(field.name())
        });
        let scan = LogicalPlanBuilder::scan(
            "feed",
            provider_as_source(Arc::new(Marked::new(Arc::new(feed), self.schema()))),
            None,
        )?;
        Ok(view(scan.project(columns.collect::<Vec<_>>())?.build()?))
    }

    /// The library that reads the feed escapes the paths of files once more, and finds none that was escaped.
    async fn check_paths(&self, from: u64, to: u64) -> Result<()> {
        if self.definition()?.partition_columns.is_empty() {
            return Ok(());
        }
        for commit in self.changes(from, to.min(self.version())).await? {
            let added = commit.added.iter().map(|file| &file.path);
            let mut paths = added.chain(commit.removed.iter().map(|file| &file.path));
            if let Some(path) = paths.find(|path| path.contains('%')) {
                return Err(Error::unsupported(format!(
                    "the change data feed of a partition whose value is escaped in paths (`{path}`)"
                ))
                .with_help("Partition the table by another column, by values without blanks and signs."));
            }
        }
        Ok(())
    }

    /// The rows of `files`, which the table has at this version, as if this version had inserted them.
    ///
    /// # Errors
    /// Those of [`Table::changes`] and [`Table::provider_for_files`].
    pub async fn rows_as_inserted(&self, files: &[DataFile]) -> Result<Arc<dyn TableProvider>> {
        let rows = self.provider_for_files(files).await?;
        let version = self.version();
        let at_ms = self.changes(version, version).await?.first().and_then(|commit| commit.timestamp_ms);
        let at = ScalarValue::TimestampMicrosecond(at_ms.map(|ms| ms * 1000), Some("UTC".into()));
        let version = i64::try_from(version).map_err(|_| Error::internal("the version is too great"))?;
        let schema = rows.schema();
        let columns = schema.fields().iter().map(|field| Expr::Column(Column::from_name(field.name()))).chain([
            lit(ChangeType::Insert.as_str()).alias(CHANGE_TYPE),
            lit(version).alias(COMMIT_VERSION),
            lit(at).alias(COMMIT_TIMESTAMP),
        ]);
        let columns: Vec<Expr> = columns.collect();
        Ok(view(LogicalPlanBuilder::scan("rows", provider_as_source(rows), None)?.project(columns)?.build()?))
    }
}

/// The feed of a table that does not have one is asked for.
pub fn not_recorded(table: &str) -> Error {
    Error::user(format!("the table `{table}` does not record which rows its commits change"))
        .with_condition("DELTA_MISSING_CHANGE_DATA")
        .with_help(format!("Set the property `{ENABLED}` of the table to `true`; changes are recorded from then on."))
}

fn view(plan: LogicalPlan) -> Arc<dyn TableProvider> {
    Arc::new(ViewTable::new(plan, None))
}
