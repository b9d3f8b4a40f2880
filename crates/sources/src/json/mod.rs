//! JSON files: lines of objects, or one value per file (`multiLine`).

mod build;
mod decoder;
mod infer;
mod scan;

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema};
use async_trait::async_trait;
use deltaworks_spark::types::{is_variant, variant};
use deltaworks_spark::{Error, Result};
use futures::stream::BoxStream;

use crate::format::blocks::TextLayout;
use crate::format::records::decode_stream;
use crate::format::{Decoded, FileTask, Format, Inference, ParseMode, ReadRequest};
use crate::listing::FileEntry;
use crate::options::Options;
use crate::text::TextParser;
use decoder::JsonDecoder;
use scan::Dialect;

/// JSON with its options.
#[derive(Clone, Debug)]
pub(crate) struct JsonFormat {
    layout: TextLayout,
    multi_line: bool,
    mode: ParseMode,
    corrupt: String,
    dialect: Dialect,
    parser: TextParser,
    primitives_as_string: bool,
    prefers_decimal: bool,
    infer_timestamp: bool,
    drop_null_fields: bool,
    /// The column that takes each record as a whole, whatever value it is.
    single_variant: Option<String>,
}

impl JsonFormat {
    pub(crate) fn parse(options: &Options<'_>, parser: TextParser) -> Result<Self> {
        let multi_line = options.flag("multiLine", false)?;
        Ok(Self {
            layout: TextLayout::parse(options, multi_line)?,
            multi_line,
            mode: ParseMode::parse(options)?,
            corrupt: options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record").to_owned(),
            dialect: Dialect::parse(options)?,
            parser,
            primitives_as_string: options.flag("primitivesAsString", false)?,
            prefers_decimal: options.flag("prefersDecimal", false)?,
            infer_timestamp: options.flag("inferTimestamp", false)?,
            drop_null_fields: options.flag("dropFieldIfAllNull", false)?,
            single_variant: options.get("singleVariantColumn").map(str::to_owned),
        })
    }
}

#[async_trait]
impl Format for JsonFormat {
    fn splittable(&self, file: &FileEntry) -> bool {
        self.layout.splittable(file)
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        match JsonDecoder::new(self, &task.file.url, request) {
            Ok(decoder) => decode_stream(task, &self.layout, decoder),
            Err(error) => Box::pin(futures::stream::once(async move { Err(error) })),
        }
    }

    async fn infer(&self, files: &[FileEntry], inference: Inference) -> Result<Schema> {
        infer::infer(self, files, inference).await
    }

    fn fixed_schema(&self) -> Option<Schema> {
        let name = self.single_variant.as_ref()?;
        Some(Schema::new(vec![Field::new(name, variant(), true)]))
    }

    fn check_schema(&self, fields: &Fields) -> Result<()> {
        if self.single_variant.is_some() && (fields.len() != 1 || !is_variant(fields[0].data_type())) {
            return Err(Error::user("with `singleVariantColumn`, a schema has one column of type VARIANT")
                .with_condition("INVALID_SINGLE_VARIANT_COLUMN")
                .with_help("Leave the schema out. A column for corrupt records may stand beside the VARIANT."));
        }
        fields.iter().try_for_each(|field| build::Node::new(field.data_type()).map(drop))
    }

    fn corrupt_column(&self) -> Option<&str> {
        Some(&self.corrupt)
    }
}
