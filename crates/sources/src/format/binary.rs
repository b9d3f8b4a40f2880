//! Files as rows: path, time, length and, if asked for, content.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use deltaworks_spark::Result;
use futures::stream::{BoxStream, StreamExt};

use super::blocks::read_file;
use super::{Decoded, FileTask, Format, Inference, ReadRequest};
use crate::listing::FileEntry;
use deltaworks_spark::types;

/// `binaryFile`.
#[derive(Clone, Debug)]
pub(crate) struct BinaryFormat;

async fn row(task: FileTask, request: Arc<ReadRequest>) -> Result<Decoded> {
    let file = &task.file;
    let mut columns: Vec<Option<ArrayRef>> = Vec::new();
    for (field, wanted) in request.fields.iter().zip(&request.wanted) {
        if !wanted {
            columns.push(None);
            continue;
        }
        columns.push(Some(match field.name().as_str() {
            "path" => Arc::new(StringArray::from(vec![file.url.as_str()])),
            "modificationTime" => {
                Arc::new(TimestampMicrosecondArray::from(vec![file.modified_us]).with_timezone("UTC"))
            }
            "length" => Arc::new(Int64Array::from(vec![file.size as i64])),
            "content" => Arc::new(BinaryArray::from(vec![&read_file(file).await?[..]])),
            _ => arrow::array::new_null_array(field.data_type(), 1),
        }));
    }
    let null = || arrow::array::new_null_array(&DataType::Utf8, 1);
    Ok(Decoded {
        rows: 1,
        columns,
        rescued: request.rescue.then(null),
        corrupt: request.corrupt.then(null),
        bad: Vec::new(),
    })
}

#[async_trait]
impl Format for BinaryFormat {
    fn splittable(&self, _file: &FileEntry) -> bool {
        false
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        futures::stream::once(row(task, request)).boxed()
    }

    async fn infer(&self, _files: &[FileEntry], _inference: Inference) -> Result<Schema> {
        Ok(binary_schema())
    }

    fn fixed_schema(&self) -> Option<Schema> {
        Some(binary_schema())
    }
}

fn binary_schema() -> Schema {
    Schema::new(vec![
        Field::new("path", DataType::Utf8, true),
        Field::new("modificationTime", types::timestamp(), true),
        Field::new("length", DataType::Int64, true),
        Field::new("content", DataType::Binary, true),
    ])
}
