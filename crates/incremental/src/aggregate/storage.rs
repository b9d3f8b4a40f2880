//! How groups are stored: the types that a Delta table has for keys and for the states of accumulators.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use arrow::util::display::FormatOptions;
use datafusion::error::{DataFusionError, Result};
use deltaworks_spark::error::Error;

use crate::watermark::Times;

/// The column that says when a stored row is of no use any more: once the watermark has passed it.
pub const EXPIRES: &str = "expires";

pub(crate) fn expires_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type in which a Delta table keeps values of `data_type`.
pub(crate) fn stored_type(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(Field::new(field.name(), stored_type(field.data_type()), true));
    match data_type {
        DataType::Null => DataType::Boolean,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => stored_type(values),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => expires_type(),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) | DataType::Date64 => DataType::Int64,
        DataType::Interval(IntervalUnit::YearMonth) => DataType::Int32,
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(Arc::new(Field::new("element", stored_type(item.data_type()), true)))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The columns of stored groups: those of `partial`, keys first, then when they expire if they do.
pub(super) fn stored_schema(partial: &Schema, keys: usize, expire: bool) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::with_capacity(partial.fields().len() + 1);
    for (place, field) in partial.fields().iter().enumerate() {
        let name = match place.checked_sub(keys) {
            None => format!("key_{place}"),
            Some(state) => format!("state_{state}"),
        };
        fields.push(Field::new(name, stored_type(field.data_type()), true));
    }
    if expire {
        fields.push(Field::new(EXPIRES, expires_type(), true));
    }
    Arc::new(Schema::new(fields))
}

/// Rows of partial aggregation as they are stored.
pub(super) fn to_stored(batch: &RecordBatch, expires: Option<&Times>, stored: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = batch
        .columns()
        .iter()
        .zip(stored.fields())
        .map(|(column, field)| convert(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    if let Some(expires) = expires {
        columns.push(Arc::new(expires.clone().with_timezone("UTC")));
    }
    Ok(RecordBatch::try_new(Arc::clone(stored), columns)?)
}

/// Stored rows as partial aggregation gives them.
///
/// # Errors
/// If they are not rows of such an aggregation: an earlier version kept other states.
pub(super) fn from_stored(batch: &RecordBatch, partial: &SchemaRef) -> Result<RecordBatch> {
    let stored = batch.columns().iter().zip(batch.schema_ref().fields()).filter(|(_, field)| field.name() != EXPIRES);
    let stored: Vec<&ArrayRef> = stored.map(|(column, _)| column).collect();
    if stored.len() != partial.fields().len() {
        return Err(other_layout());
    }
    let columns = stored
        .into_iter()
        .zip(partial.fields())
        // Readers give views of text and bytes, which not everything can be made from.
        .map(|(column, field)| convert(&convert(column, &stored_type(column.data_type()))?, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(partial), columns)?)
}

fn other_layout() -> DataFusionError {
    DataFusionError::from(
        Error::user("the state of the aggregation was written by a version that keeps other state")
            .with_condition("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA")
            .with_help("Refresh the table fully."),
    )
}

/// The values in another type that holds them.
pub(crate) fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    if column.null_count() == column.len() && matches!(column.data_type(), DataType::Null | DataType::Boolean) {
        return Ok(new_null_array(to, column.len()));
    }
    // A value that does not fit must not become NULL.
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    Ok(cast_with_options(column, to, &options)?)
}
