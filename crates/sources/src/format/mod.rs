//! What a file format must be able to do, and what all formats share.
//!
//! A format turns files into data columns. What is around them (partition columns, `_metadata`, projection,
//! evolution of the schema) belongs to [`crate::scan`].

pub(crate) mod avro;
pub(crate) mod binary;
pub(crate) mod blocks;
pub(crate) mod columnar;
pub(crate) mod parquet;
pub(crate) mod records;
pub(crate) mod rescue;
pub(crate) mod split;
pub(crate) mod text;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Fields, Schema};
use async_trait::async_trait;
use deltaworks_spark::{Error, Kind, Result};
use futures::stream::BoxStream;

use crate::bad_records::BadRecord;
use crate::csv::CsvFormat;
use crate::errors::invalid_option;
use crate::json::JsonFormat;
use crate::listing::FileEntry;
use crate::options::Options;
use crate::text::TextParser;

/// A file, or a byte range of it.
#[derive(Clone, Debug)]
pub(crate) struct FileTask {
    pub(crate) file: Arc<FileEntry>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What to do with malformed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseMode {
    Permissive,
    DropMalformed,
    FailFast,
    /// Dropped, and given to the scan to write: `badRecordsPath`, beside which there is no `mode`.
    SetAside,
}

impl ParseMode {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Self> {
        match options.get("mode") {
            None if options.get("badRecordsPath").is_some() => Ok(Self::SetAside),
            None => Ok(Self::Permissive),
            Some(value) => match value.to_ascii_uppercase().as_str() {
                "PERMISSIVE" => Ok(Self::Permissive),
                "DROPMALFORMED" => Ok(Self::DropMalformed),
                "FAILFAST" => Ok(Self::FailFast),
                _ => Err(invalid_option("mode", value, "PERMISSIVE, DROPMALFORMED or FAILFAST")),
            },
        }
    }
}

/// What a scan wants of a file.
#[derive(Clone, Debug)]
pub(crate) struct ReadRequest {
    /// All data columns.
    pub(crate) fields: Fields,
    /// Which of them.
    pub(crate) wanted: Vec<bool>,
    /// Whether the text of what does not fit is wanted.
    pub(crate) rescue: bool,
    /// Whether the source has a rescued data column, wanted or not.
    pub(crate) has_rescue: bool,
    /// Whether the text of malformed records is wanted.
    pub(crate) corrupt: bool,
    /// Whether the source has a column for malformed records, wanted or not.
    pub(crate) has_corrupt: bool,
    /// Whether fields that are not in `fields` end the scan.
    pub(crate) report_unknown: bool,
    /// Whether fields that the structures of `fields` lack end the scan.
    pub(crate) report_nested: bool,
    /// Whether values that need a wider type end the scan.
    pub(crate) report_wider: bool,
    /// Whether a column of a file whose type does not fit is NULL where nothing rescues it, rather than an error.
    pub(crate) null_mismatches: bool,
    /// Names that files may hold although they are not in `fields`: partition columns.
    pub(crate) ignored: Vec<String>,
    pub(crate) case_sensitive: bool,
    pub(crate) batch_rows: usize,
}

impl ReadRequest {
    /// The data column a field of a file belongs to.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name() == name).or_else(|| {
            if self.case_sensitive {
                return None;
            }
            self.fields.iter().position(|field| field.name().eq_ignore_ascii_case(name))
        })
    }

    /// Whether a field that belongs to no data column is to be passed over in silence.
    pub(crate) fn is_ignored(&self, name: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored.eq_ignore_ascii_case(name))
    }

    /// Whether a field is news: not just another spelling of a known one.
    pub(crate) fn is_new(&self, name: &str) -> bool {
        !self.fields.iter().any(|field| field.name().eq_ignore_ascii_case(name))
    }
}

/// Rows of a file.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) rows: usize,
    /// The data columns in order, `None` where not wanted.
    pub(crate) columns: Vec<Option<ArrayRef>>,
    /// If asked for: per row a JSON object of what did not fit, with the file's path.
    pub(crate) rescued: Option<ArrayRef>,
    /// If asked for: per row the text of a malformed record.
    pub(crate) corrupt: Option<ArrayRef>,
    /// What was dropped, to be written.
    pub(crate) bad: Vec<BadRecord>,
}

/// How a schema is inferred.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inference {
    /// Types of values, not STRING for all.
    pub(crate) typed: bool,
    /// All files, not the first that tells.
    pub(crate) all_files: bool,
    /// Sampling stops after so many bytes.
    pub(crate) max_bytes: u64,
    /// Which files are passed over.
    pub(crate) passed_over: PassedOver,
}

/// Which files that cannot be read are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    pub(crate) corrupt: bool,
    pub(crate) missing: bool,
}

impl PassedOver {
    /// Whether a file that fails like this is one of them.
    pub(crate) fn covers(self, error: &Error) -> bool {
        match error.condition() {
            Some("FAILED_READ_FILE.FILE_NOT_EXIST") => self.missing,
            Some("FAILED_READ_FILE.NO_HINT") => self.corrupt && error.kind() == Kind::Data,
            _ => false,
        }
    }
}

/// A file format with its options.
#[async_trait]
pub(crate) trait Format: Debug + Send + Sync {
    /// Whether byte ranges of this file can be read on their own.
    fn splittable(&self, file: &FileEntry) -> bool;

    /// The rows of records that start in the task's range, in order.
    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>>;

    /// The schema of the data columns in these files.
    async fn infer(&self, files: &[FileEntry], inference: Inference) -> Result<Schema>;

    /// The schema, if it is the same for all files.
    fn fixed_schema(&self) -> Option<Schema> {
        None
    }

    /// Whether files are Parquet files.
    fn is_parquet(&self) -> bool {
        false
    }

    /// Fails if a column of this type cannot be read.
    fn check_schema(&self, _fields: &Fields) -> Result<()> {
        Ok(())
    }

    /// The column for the text of malformed records, where the format has such.
    fn corrupt_column(&self) -> Option<&str> {
        None
    }
}

/// The formats of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Json,
    Csv,
    Parquet,
    Text,
    BinaryFile,
    Avro,
}

impl FileFormat {
    /// The format of this name; `None` if it is not one of files.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            "text" => Some(Self::Text),
            "binaryfile" => Some(Self::BinaryFile),
            "avro" => Some(Self::Avro),
            _ => None,
        }
    }

    /// Spark's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Text => "text",
            Self::BinaryFile => "binaryFile",
            Self::Avro => "avro",
        }
    }

    /// Reads the format's options. `by_name`: CSV columns are found by header, and a header is assumed if
    /// `inferred` and none is said.
    pub(crate) fn build(
        self,
        options: &Options<'_>,
        parser: TextParser,
        by_name: bool,
        inferred: bool,
    ) -> Result<Arc<dyn Format>> {
        if self != Self::Json {
            options.refuse(&["singleVariantColumn"])?;
        }
        Ok(match self {
            Self::Json => Arc::new(JsonFormat::parse(options, parser)?),
            Self::Csv => Arc::new(CsvFormat::parse(options, parser, by_name, by_name && inferred)?),
            Self::Parquet => Arc::new(parquet::ParquetFormat::parse(options)?),
            Self::Text => Arc::new(text::TextFormat::parse(options)?),
            Self::BinaryFile => Arc::new(binary::BinaryFormat),
            Self::Avro => Arc::new(avro::AvroFormat::parse(options)?),
        })
    }

    /// The format of a file by its name.
    pub(crate) fn detect(name: &str) -> Option<Self> {
        let mut parts = name.rsplit('.');
        let mut extension = parts.next()?;
        if matches!(extension, "gz" | "gzip" | "bz2" | "zst" | "xz") {
            extension = parts.next()?;
        }
        match extension.to_ascii_lowercase().as_str() {
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "csv" | "tsv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            "txt" | "text" => Some(Self::Text),
            "avro" => Some(Self::Avro),
            _ => None,
        }
    }
}

/// A format known in Spark that is not implemented, or not a format at all.
pub(crate) fn unknown_format(name: &str) -> Error {
    match name.to_ascii_lowercase().as_str() {
        "delta" | "kinesis" | "pubsub" | "pulsar" | "xml" | "orc" | "jdbc" | "socket" | "eventhubs" | "excel" => {
            Error::unsupported(format!("source format `{name}`"))
                .with_help("Bring the data into files first: json, csv, parquet, avro, text or binaryFile.")
        }
        _ => Error::user(format!("unknown source format `{name}`"))
            .with_condition("DATA_SOURCE_NOT_FOUND")
            .with_help("Formats are cloudFiles, json, csv, parquet, text, binaryFile, avro, delta, kafka and rate."),
    }
}
