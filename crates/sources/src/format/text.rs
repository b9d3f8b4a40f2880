//! Lines of text, or whole files (`wholeText`), as column `value`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use deltaworks_spark::Result;
use futures::stream::BoxStream;

use super::blocks::{TextLayout, next_line};
use super::records::{RecordDecoder, decode_stream};
use super::{Decoded, FileTask, Format, Inference, ReadRequest};
use crate::listing::FileEntry;
use crate::options::Options;

/// Text with its options.
#[derive(Clone, Debug)]
pub(crate) struct TextFormat {
    layout: TextLayout,
    whole: bool,
}

impl TextFormat {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Self> {
        let whole = options.flag("wholeText", false)?;
        Ok(Self { layout: TextLayout::parse(options, whole)?, whole })
    }
}

struct TextDecoder {
    format: TextFormat,
    request: Arc<ReadRequest>,
}

impl RecordDecoder for TextDecoder {
    fn start(&mut self, _first: bool) {}

    fn decode(&mut self, block: &str, at: &mut usize) -> Result<Decoded> {
        let mut builder = StringBuilder::new();
        let mut rows = 0;
        let wanted = self.request.wanted.first() == Some(&true);
        let mut line = |text: &str| {
            rows += 1;
            if wanted {
                builder.append_value(text);
            }
        };
        if self.format.whole {
            *at = block.len();
            line(block);
        } else {
            for _ in 0..self.request.batch_rows {
                match next_line(block, at, self.format.layout.separator.as_deref()) {
                    Some(text) => line(text),
                    None => break,
                }
            }
        }
        let null = |wanted: bool| wanted.then(|| new_null_array(&DataType::Utf8, rows));
        let mut columns: Vec<Option<ArrayRef>> = self
            .request
            .fields
            .iter()
            .zip(&self.request.wanted)
            .map(|(field, wanted)| wanted.then(|| new_null_array(field.data_type(), rows)))
            .collect();
        if let Some(Some(value)) = columns.first_mut() {
            *value = Arc::new(builder.finish());
        }
        Ok(Decoded {
            rows,
            columns,
            rescued: null(self.request.rescue),
            corrupt: null(self.request.corrupt),
            bad: Vec::new(),
        })
    }
}

#[async_trait]
impl Format for TextFormat {
    fn splittable(&self, file: &FileEntry) -> bool {
        self.layout.splittable(file)
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        decode_stream(task, &self.layout, TextDecoder { format: self.clone(), request })
    }

    async fn infer(&self, _files: &[FileEntry], _inference: Inference) -> Result<Schema> {
        Ok(text_schema())
    }

    fn fixed_schema(&self) -> Option<Schema> {
        Some(text_schema())
    }

    fn check_schema(&self, fields: &arrow::datatypes::Fields) -> Result<()> {
        match fields.first() {
            Some(field) if fields.len() == 1 && field.data_type() == &DataType::Utf8 => Ok(()),
            _ => Err(deltaworks_spark::Error::user("text files have exactly one column of type STRING")),
        }
    }
}

fn text_schema() -> Schema {
    Schema::new(vec![Field::new("value", DataType::Utf8, true)])
}
