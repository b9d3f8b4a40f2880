//! Rows as files of Spark's formats: what `DataFrame.write` and file sinks have in common.
//!
//! A [`RowFormat`] is a format with its options. It says what is to be computed of the rows ([`RowFormat::prepare`]) and
//! makes files of that ([`RowFile`]). Where files lie and when they count is up to others.

mod codec;
mod lines;
mod options;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use self::codec::{Codec, Encoder, parquet_compression};
use self::lines::Lines;
pub(crate) use self::options::check as check_options;

/// How rows become files.
#[derive(Debug, Clone)]
pub(crate) struct RowFormat {
    kind: Kind,
    extension: String,
}

#[derive(Debug, Clone)]
enum Kind {
    Parquet(Compression),
    Lines(Arc<Lines>, Codec),
}

impl RowFormat {
    /// The formats that there are.
    pub(crate) const NAMES: [&'static str; 4] = ["parquet", "csv", "json", "text"];

    /// The files of a format with rows of `data`.
    ///
    /// # Errors
    /// `User` if the format cannot hold the columns, or an option has no such value; `Unsupported` for other formats, and for
    /// options that would change what is written and have no effect here.
    pub(crate) fn new(format: &str, options: &ReadOptions, conf: &SparkConf, data: &Schema) -> Result<Self> {
        match format {
            "parquet" => {
                let (compression, name) = parquet_compression(options, conf)?;
                let dot = if name.is_empty() { "" } else { "." };
                Ok(Self { kind: Kind::Parquet(compression), extension: format!("{name}{dot}parquet") })
            }
            "csv" | "json" | "text" => {
                let (lines, codec) = (Lines::new(format, options, data)?, Codec::new(options)?);
                let extension = format!("{}{}", lines.extension(), codec.extension());
                Ok(Self { kind: Kind::Lines(Arc::new(lines), codec), extension })
            }
            other => Err(Error::unsupported(format!("writing files of format `{other}`"))
                .with_help("Use parquet, csv, json, text or delta.")),
        }
    }

    /// The plan that computes what is written of the columns after the first `partitions`, which stay.
    pub(crate) fn prepare(&self, ctx: &SessionContext, plan: LogicalPlan, partitions: usize) -> Result<LogicalPlan> {
        match &self.kind {
            Kind::Parquet(_) => Ok(plan),
            Kind::Lines(lines, _) => lines.prepare(ctx, plan, partitions),
        }
    }

    /// How names of files end, after the dot.
    pub(crate) fn extension(&self) -> &str {
        &self.extension
    }

    /// A new file for rows of `schema`, which [`Self::prepare`] has made.
    ///
    /// # Errors
    /// Those of the disk; `Unsupported` for types that the format has no place for.
    pub(crate) fn create(&self, path: &Path, schema: &Schema) -> Result<RowFile> {
        let file =
            File::create(path).map_err(|error| Error::from(error).context(format!("in `{}`", path.display())))?;
        match &self.kind {
            Kind::Parquet(compression) => {
                let properties = WriterProperties::builder().set_compression(*compression).build();
                let schema = nullable(schema);
                let writer =
                    ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(parquet_error)?;
                Ok(RowFile { kind: FileKind::Parquet(Box::new(writer), schema) })
            }
            Kind::Lines(lines, codec) => {
                let mut out = codec.encoder(file)?;
                lines.start(&mut out)?;
                Ok(RowFile { kind: FileKind::Lines(Box::new(out), Arc::clone(lines)) })
            }
        }
    }
}

/// A file that is being written.
pub(crate) struct RowFile {
    kind: FileKind,
}

enum FileKind {
    Parquet(Box<ArrowWriter<File>>, SchemaRef),
    Lines(Box<Encoder>, Arc<Lines>),
}

impl RowFile {
    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.kind {
            FileKind::Parquet(writer, schema) => {
                let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?;
                writer.write(&batch).map_err(parquet_error)
            }
            FileKind::Lines(out, lines) => lines.write(batch, out),
        }
    }

    /// Completes the file.
    pub(crate) fn finish(self) -> Result<File> {
        match self.kind {
            FileKind::Parquet(writer, _) => writer.into_inner().map_err(parquet_error),
            FileKind::Lines(out, _) => Ok(out.finish()?),
        }
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    DataFusionError::from(error).into()
}

fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}
