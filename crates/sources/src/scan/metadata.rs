//! The hidden column `_metadata`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields};
use deltaworks_spark::Result;

use super::{HIDDEN_KEY, METADATA_COLUMN};
use crate::format::FileTask;
use deltaworks_spark::types;

/// The column's field.
pub(super) fn field() -> Field {
    Field::new(METADATA_COLUMN, DataType::Struct(fields()), true)
        .with_metadata(HashMap::from([(HIDDEN_KEY.to_owned(), "true".to_owned())]))
}

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("file_path", DataType::Utf8, true),
        Field::new("file_name", DataType::Utf8, true),
        Field::new("file_size", DataType::Int64, true),
        Field::new("file_modification_time", types::timestamp(), true),
        Field::new("file_block_start", DataType::Int64, true),
        Field::new("file_block_length", DataType::Int64, true),
    ])
}

/// The column's values for rows of one task.
pub(super) fn array(task: &FileTask, rows: usize) -> Result<ArrayRef> {
    let file = &task.file;
    let text = |value: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))) as ArrayRef;
    let number = |value: u64| Arc::new(Int64Array::from_value(value as i64, rows)) as ArrayRef;
    let modified = TimestampMicrosecondArray::from_value(file.modified_us, rows).with_timezone("UTC");
    let arrays: Vec<ArrayRef> = vec![
        text(&file.url),
        text(file.name()),
        number(file.size),
        Arc::new(modified),
        number(task.start),
        number(task.end - task.start),
    ];
    Ok(Arc::new(StructArray::try_new_with_length(fields(), arrays, None, rows)?))
}
