//! Rows into data files: checked, laid out by partition, with statistics, not yet part of the table.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SessionState;
use deltalake::kernel::{Add, AddCDCFile};
use deltalake::operations::get_num_idx_cols_and_stats_columns;
use deltalake::operations::write::writer::{DeltaWriter, WriterConfig};
use deltaworks_spark::error::{Error, Result};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::align::Alignment;
use crate::blank::text_partitions;
use crate::check::Checks;
pub use crate::check::ParseExpression;
use crate::dictionary::columns_without;
use crate::error::from_delta;
use crate::feed::CHANGE_TYPE;
use crate::table::Table;

/// Size at which a file is closed and the next one begun, unless the table says otherwise.
const DEFAULT_TARGET_FILE_SIZE_BYTES: u64 = 128 * 1024 * 1024;
/// The folder of files that say which rows a commit changes.
const CHANGE_FOLDER: &str = "_change_data";
/// Size at which a row group goes to the file. Until then it is held in memory, once for every writer, and what is written bit
/// by bit is on its way to the disk while the next rows are computed.
const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Rows between two looks at the size of the open file.
const ROWS_PER_SIZE_CHECK: usize = 64 * 1024;

/// How files are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileCompression {
    /// Fast to write; what Delta writers use by default.
    #[default]
    Snappy,
    /// Smaller files for a little more time.
    Zstd,
}

/// What a [`Writer`] writes.
#[derive(Clone)]
pub struct WriterOptions {
    /// The table's schema once the files are committed.
    pub schema: SchemaRef,
    /// The table's partition columns once the files are committed.
    pub partition_columns: Vec<String>,
    /// The table's properties once the files are committed: constraints, statistics, file size.
    pub properties: BTreeMap<String, String>,
    /// Size at which a file is closed; the table's property or a default if `None`.
    pub target_file_size_bytes: Option<u64>,
    /// How files are compressed.
    pub compression: FileCompression,
    /// Columns of random bytes, which neither a dictionary nor compression makes smaller.
    pub random_columns: Vec<String>,
    /// The session in which generated columns and constraints are evaluated.
    pub session: Option<Arc<SessionState>>,
    /// Reads their SQL text; the session does if `None`.
    pub parse: Option<ParseExpression>,
}

impl WriterOptions {
    /// Writes for `table` as it is.
    pub fn for_table(table: &Table) -> Result<Self> {
        let definition = table.definition()?;
        Ok(Self {
            schema: definition.schema,
            partition_columns: definition.partition_columns,
            properties: definition.properties,
            target_file_size_bytes: None,
            compression: FileCompression::default(),
            random_columns: Vec::new(),
            session: None,
            parse: None,
        })
    }

    /// The size of files that the table's property `delta.targetFileSize` states.
    ///
    /// # Errors
    /// `User` if it is no size.
    pub fn stated_file_size(&self) -> Result<Option<u64>> {
        self.properties.get("delta.targetFileSize").map(|text| parse_size(text)).transpose()
    }

    fn target_file_size(&self) -> Result<NonZeroU64> {
        let bytes = match self.target_file_size_bytes {
            Some(bytes) => Some(bytes),
            None => self.stated_file_size()?,
        };
        NonZeroU64::new(bytes.unwrap_or(DEFAULT_TARGET_FILE_SIZE_BYTES)).ok_or_else(|| {
            Error::user("the target file size is 0").with_condition("DELTA_VIOLATE_TABLE_PROPERTY_VALIDATION_FAILED")
        })
    }
}

/// Data files that were written, and wait for a commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WrittenFiles {
    /// The files, as the log will name them.
    pub adds: Vec<Add>,
    /// Files that say which rows the commit changes.
    pub changes: Vec<AddCDCFile>,
    /// Rows in all of them.
    pub rows: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl WrittenFiles {
    /// Adds what another writer wrote for the same commit.
    pub fn extend(&mut self, other: Self) {
        self.adds.extend(other.adds);
        self.changes.extend(other.changes);
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl FromIterator<WrittenFiles> for WrittenFiles {
    fn from_iter<T: IntoIterator<Item = WrittenFiles>>(iter: T) -> Self {
        iter.into_iter().fold(Self::default(), |mut all, files| {
            all.extend(files);
            all
        })
    }
}

/// Writes rows into new data files of one table.
///
/// Several writers may run at once for one commit. Encoding happens in the task that calls
/// [`Writer::write`]. A writer that is dropped leaves files that no reader sees.
pub struct Writer {
    schema: SchemaRef,
    file_schema: SchemaRef,
    checks: Checks,
    /// The partition columns that hold text.
    text_partitions: Vec<usize>,
    alignment: Option<(Alignment, Vec<usize>)>,
    files: Files,
    rows: u64,
}

/// The files of a writer, which are begun with the first rows: these say how to encode them.
enum Files {
    None { folder: Arc<dyn ObjectStore>, options: WriterOptions, target_size: NonZeroU64 },
    Some(Box<DeltaWriter>),
}

impl Files {
    /// Begins them as `first`, rows in the schema of the files, asks for.
    fn begin(&mut self, first: &RecordBatch) -> Result<&mut DeltaWriter> {
        if let Self::None { folder, options, target_size } = self {
            let (indexed_columns, stats_columns) = get_num_idx_cols_and_stats_columns(
                None,
                options.properties.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect(),
            );
            let config = WriterConfig::new(
                first.schema(),
                std::mem::take(&mut options.partition_columns),
                Some(file_properties(options.compression, &options.random_columns, &columns_without(first)?)),
                Some(*target_size),
                Some(ROWS_PER_SIZE_CHECK),
                indexed_columns,
                stats_columns,
            );
            *self = Self::Some(Box::new(DeltaWriter::new(Arc::clone(folder), config)));
        }
        match self {
            Self::Some(files) => Ok(files),
            Self::None { .. } => Err(Error::internal("the files were not begun")),
        }
    }

    async fn close(self) -> Result<Vec<Add>> {
        match self {
            Self::None { .. } => Ok(Vec::new()),
            Self::Some(files) => files.close().await.map_err(from_delta),
        }
    }

    async fn abort(self) -> Result<()> {
        match self {
            Self::None { .. } => Ok(()),
            Self::Some(files) => files.abort().await.map_err(from_delta),
        }
    }
}

impl Writer {
    /// A writer of files below the folder of `table`.
    ///
    /// # Errors
    /// `User` if an expression or property of the table is not valid.
    pub fn new(table: &Table, options: WriterOptions) -> Result<Self> {
        Self::below(table.inner().object_store(), options)
    }

    /// A writer of files that say which rows a commit changes: rows of the table, with [`CHANGE_TYPE`]. They are closed with
    /// [`Writer::close_changes`].
    ///
    /// # Errors
    /// `User` if a property of the table is not valid.
    pub fn of_changes(table: &Table, options: WriterOptions) -> Result<Self> {
        // What the rows must be like has been seen to where they became rows of the table.
        let mut fields = without_metadata(&options.schema).fields().to_vec();
        fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
        let folder = PrefixStore::new(table.inner().object_store(), CHANGE_FOLDER);
        let options = WriterOptions { schema: Arc::new(Schema::new(fields)), properties: BTreeMap::new(), ..options };
        Self::below(Arc::new(folder), options)
    }

    fn below(folder: Arc<dyn ObjectStore>, options: WriterOptions) -> Result<Self> {
        let schema = crate::schema::to_delta(&options.schema)?;
        let checks = Checks::new(&schema, &options.properties, options.session.as_deref(), options.parse.as_ref())?;
        let file_schema = without_metadata(&schema);
        let text_partitions = text_partitions(&schema, &options.partition_columns);
        let files = Files::None { folder, target_size: options.target_file_size()?, options };
        Ok(Self { schema, file_schema, checks, text_partitions, alignment: None, files, rows: 0 })
    }

    /// Writes the rows of `batch`, whose columns are matched by name in any case.
    ///
    /// Columns the batch does not have are generated or NULL.
    ///
    /// # Errors
    /// `DELTA_FAILED_TO_MERGE_FIELDS` or `DELTA_METADATA_MISMATCH` (`User`) if columns do not fit;
    /// `DELTA_NOT_NULL_CONSTRAINT_VIOLATED`, `DELTA_VIOLATE_CONSTRAINT_WITH_VALUES` (`Data`) if rows break a rule.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.prepare(&batch)?;
        self.files.begin(&batch)?.write(&batch).await.map_err(from_delta)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Closes the last files.
    pub async fn close(self) -> Result<WrittenFiles> {
        let adds = self.files.close().await?;
        let bytes = adds.iter().map(|add| add.size.unsigned_abs()).sum();
        fail::fail_point!("lake.files_written", |_| Err(Error::new(
            deltaworks_spark::error::Kind::Unavailable,
            "failpoint `lake.files_written`"
        )));
        Ok(WrittenFiles { adds, changes: Vec::new(), rows: self.rows, bytes })
    }

    /// Closes the last files of a writer of changes.
    pub async fn close_changes(self) -> Result<Vec<AddCDCFile>> {
        let adds = self.files.close().await?;
        let change = |add: Add| AddCDCFile {
            path: format!("{CHANGE_FOLDER}/{}", add.path),
            size: add.size,
            partition_values: add.partition_values,
            data_change: false,
            tags: None,
        };
        Ok(adds.into_iter().map(change).collect())
    }

    /// Gives up; uploads in progress are ended.
    pub async fn abort(self) -> Result<()> {
        self.files.abort().await
    }

    /// The batch in the schema of the files, after all checks.
    fn prepare(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        if !self.alignment.as_ref().is_some_and(|(alignment, _)| alignment.is_for(&schema)) {
            let alignment = Alignment::new(&schema, &self.schema)?;
            let missing: Vec<_> = alignment.missing().collect();
            self.check_missing(&missing)?;
            self.alignment = Some((alignment, missing));
        }
        let Some((alignment, missing)) = &self.alignment else {
            return Err(Error::internal("the writer has no alignment"));
        };
        let mut columns = alignment.apply(batch)?;
        for index in &self.text_partitions {
            columns[*index] = crate::blank::as_null(&columns[*index])?;
        }
        let columns = self.checks.complete(columns, batch.num_rows(), missing)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.file_schema), columns, &options)?)
    }

    fn check_missing(&self, missing: &[usize]) -> Result<()> {
        let absent =
            missing.iter().find(|index| !self.schema.field(**index).is_nullable() && !self.checks.generates(**index));
        match absent {
            None => Ok(()),
            Some(index) => Err(Error::user(format!(
                "the new rows have no column `{}`, which must not be NULL",
                self.schema.field(*index).name()
            ))
            .with_condition("DELTA_NOT_NULL_COLUMN_NOT_FOUND_IN_STRUCT")),
        }
    }
}

fn file_properties(
    compression: FileCompression,
    random_columns: &[String],
    without_dictionary: &[String],
) -> WriterProperties {
    let compression = match compression {
        FileCompression::Snappy => Compression::SNAPPY,
        FileCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    let properties = WriterProperties::builder()
        .set_created_by(concat!("deltaworks version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    let as_it_is = |properties: WriterPropertiesBuilder, column: &String| {
        let column = ColumnPath::from(column.as_str());
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(column, EnabledStatistics::None)
    };
    let plainly = |properties: WriterPropertiesBuilder, column: &String| {
        properties.set_column_dictionary_enabled(ColumnPath::from(column.as_str()), false)
    };
    let properties = without_dictionary.iter().fold(properties, plainly);
    random_columns.iter().fold(properties, as_it_is).build()
}

/// Comments and expressions belong to the log, not to every file.
fn without_metadata(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| field.as_ref().clone().with_metadata(Default::default());
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// A size as in table properties: `104857600`, `100mb`.
fn parse_size(text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit: u64 = match lower[digits.len()..].trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => 0,
    };
    digits.parse::<u64>().ok().filter(|_| unit > 0).and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        Error::user(format!("property `delta.targetFileSize` has value `{text}`, which is not a size"))
            .with_condition("DELTA_VIOLATE_TABLE_PROPERTY_VALIDATION_FAILED")
            .with_help("Use a number of bytes, or one with a unit as in `128mb`.")
    })
}
