//! Rows as one JSON object each. NULLs are written, so that every row has every column.

use arrow::array::ArrayRef;
use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Fields};
use arrow::util::display::ArrayFormatter;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use deltaworks_spark::types::is_variant;
use deltaworks_spark::{Error, Result};
use itertools::Itertools as _;

use super::value::{options, shown, variant_text};

pub(super) fn render(batches: &[RecordBatch]) -> Result<String> {
    let mut out = String::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            out.push_str(&object(batch.schema_ref().fields(), batch.columns(), row)?);
            out.push('\n');
        }
    }
    Ok(out)
}

fn object(fields: &Fields, columns: &[ArrayRef], row: usize) -> Result<String> {
    let members = fields
        .iter()
        .zip(columns)
        .map(|(field, column)| Ok(format!("{}:{}", quoted(field.name())?, value(column.as_ref(), row)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(format!("{{{}}}", members.join(",")))
}

fn value(array: &dyn Array, row: usize) -> Result<String> {
    if array.is_null(row) {
        return Ok("null".to_owned());
    }
    let data_type = array.data_type();
    match data_type {
        DataType::Boolean => shown(array, row),
        DataType::Binary => quoted(&BASE64_STANDARD.encode(array.as_binary::<i32>().value(row))),
        DataType::LargeBinary => quoted(&BASE64_STANDARD.encode(array.as_binary::<i64>().value(row))),
        DataType::BinaryView => quoted(&BASE64_STANDARD.encode(array.as_binary_view().value(row))),
        _ if data_type.is_numeric() => shown(array, row).map(finite),
        DataType::Timestamp(_, zone) => {
            let format = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.3f" };
            let options = options().with_timestamp_format(Some(format)).with_timestamp_tz_format(Some(format));
            quoted(&ArrayFormatter::try_new(array, &options)?.value(row).to_string())
        }
        DataType::List(_) => items(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row)),
        _ if is_variant(data_type) => variant_text(array, row),
        DataType::Struct(fields) => object(fields, array.as_struct().columns(), row),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pairs = (0..entries.len())
                .map(|at| {
                    let key = shown(entries.column(0).as_ref(), at)?;
                    Ok(format!("{}:{}", quoted(&key)?, value(entries.column(1).as_ref(), at)?))
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(format!("{{{}}}", pairs.join(",")))
        }
        _ => quoted(&shown(array, row)?),
    }
}

/// JSON has no words for what is no number.
fn finite(number: String) -> String {
    if number.contains(['N', 'I']) { format!("\"{number}\"") } else { number }
}

fn items(list: &ArrayRef) -> Result<String> {
    let items: Vec<String> = (0..list.len()).map(|at| value(list.as_ref(), at)).try_collect()?;
    Ok(format!("[{}]", items.join(",")))
}

fn quoted(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|error| Error::internal("text cannot be written as JSON").with_source(error))
}
