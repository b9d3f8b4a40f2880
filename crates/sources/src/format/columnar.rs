//! Record batches of self-describing files, brought to the columns of the source.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::json::writer::{EncoderOptions, make_encoder};
use deltaworks_spark::{Error, Result};

use super::rescue::RowNotes;
use super::{Decoded, ParseMode, ReadRequest};
use crate::errors::schema_evolved;
use crate::schema::evolution::{Widen, evolve, storable_widening, widened};
use deltaworks_spark::null_structs::with_null_fields;
use deltaworks_spark::types::{self, sql_type_name};

/// The type a column of a file has in Spark.
pub(crate) fn spark_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(_, Some(_)) => types::timestamp(),
        DataType::Timestamp(_, None) => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        DataType::Dictionary(_, value) => spark_type(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => types::array(spark_type(item.data_type())),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(spark_field).collect()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                types::map(spark_type(pair[0].data_type()), spark_type(pair[1].data_type()))
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

fn spark_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), spark_type(field.data_type()), true))
}

/// The schema of a file in Spark's types.
pub(crate) fn spark_schema(schema: &Schema) -> Schema {
    Schema::new(schema.fields.iter().map(spark_field).collect::<Vec<_>>())
}

/// Fails if the file has columns or types that the source is to evolve to.
pub(crate) fn check_evolution(schema: &SchemaRef, request: &ReadRequest, file: &str) -> Result<()> {
    if !request.report_unknown {
        return Ok(());
    }
    let known = Schema::new(request.fields.clone());
    let ignored = |name: &str| request.is_ignored(name);
    let widen = request.report_wider.then_some(storable_widening as Widen);
    let grown = evolve(&known, &spark_schema(schema), widen, &ignored);
    let changed: Vec<String> = grown
        .fields
        .iter()
        .filter(|field| match known.field_with_name(field.name()) {
            Ok(old) => request.report_nested && old.data_type() != field.data_type(),
            Err(_) => true,
        })
        .map(|field| field.name().clone())
        .collect();
    if changed.is_empty() { Ok(()) } else { Err(schema_evolved(&changed, file)) }
}

/// The rows of a batch as the request wants them.
///
/// # Errors
/// `FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH` (`Data`) if a column has a type that its values cannot
/// be taken from and nothing rescues them, unless such values are to be NULL.
pub(crate) fn adapt_batch(batch: RecordBatch, request: &ReadRequest, file: &str) -> Result<Decoded> {
    let batch = with_null_fields(batch)?;
    let mut columns: Vec<Option<ArrayRef>> = vec![None; request.fields.len()];
    let mut rescued: Vec<(FieldRef, ArrayRef)> = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(slot) = request.column(field.name()) else {
            if !request.is_ignored(field.name()) {
                rescued.push((Arc::clone(field), Arc::clone(array)));
            }
            continue;
        };
        let target = &request.fields[slot];
        match adapted(array, target.data_type())? {
            Some(array) => columns[slot] = Some(array),
            None if request.has_rescue || request.null_mismatches => {
                rescued.push((Arc::clone(field), Arc::clone(array)))
            }
            None => return Err(type_mismatch(field, target, file)),
        }
    }
    for (slot, column) in columns.iter_mut().enumerate() {
        if !request.wanted[slot] {
            *column = None;
        } else if column.is_none() {
            *column = Some(new_null_array(request.fields[slot].data_type(), batch.num_rows()));
        }
    }
    if !request.rescue && !request.corrupt {
        return Ok(Decoded { rows: batch.num_rows(), columns, rescued: None, corrupt: None, bad: Vec::new() });
    }
    let mut notes = RowNotes::new(file, ParseMode::Permissive, request);
    rescue_columns(&rescued, batch.num_rows(), &mut notes)?;
    let (rescued, corrupt) = notes.finish();
    Ok(Decoded { rows: batch.num_rows(), columns, rescued, corrupt, bad: Vec::new() })
}

fn type_mismatch(field: &Field, target: &Field, file: &str) -> Error {
    Error::data(format!(
        "column `{}` of file `{file}` has type {}, expected {}",
        field.name(),
        sql_type_name(&spark_type(field.data_type())),
        sql_type_name(target.data_type())
    ))
    .with_condition("FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH")
}

fn rescue_columns(rescued: &[(FieldRef, ArrayRef)], rows: usize, notes: &mut RowNotes) -> Result<()> {
    let options = EncoderOptions::default();
    let mut encoders = Vec::new();
    if notes.rescues() {
        for (field, array) in rescued {
            encoders.push((field.name(), make_encoder(field, array.as_ref(), &options)?));
        }
    }
    let mut json = Vec::new();
    for row in 0..rows {
        for (name, encoder) in &mut encoders {
            if !encoder.is_null(row) {
                json.clear();
                encoder.encode(row, &mut json);
                notes.rescue_json(&[name], &String::from_utf8_lossy(&json));
            }
        }
        notes.end_row("")?;
    }
    Ok(())
}

/// The array in the target type, where no value changes its meaning; `None` where it would.
fn adapted(array: &ArrayRef, target: &DataType) -> Result<Option<ArrayRef>> {
    if array.data_type() == target {
        return Ok(Some(Arc::clone(array)));
    }
    match (array.data_type(), target) {
        (DataType::Null, _) => Ok(Some(new_null_array(target, array.len()))),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let source = array.as_struct();
            let mut children = Vec::new();
            for field in fields {
                children.push(match source.column_by_name(field.name()) {
                    None => new_null_array(field.data_type(), array.len()),
                    Some(child) => match adapted(child, field.data_type())? {
                        Some(child) => child,
                        None => return Ok(None),
                    },
                });
            }
            let nulls = source.nulls().cloned();
            Ok(Some(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, array.len())?)))
        }
        (DataType::List(_), DataType::List(item)) => {
            let source: &ListArray = array.as_list();
            let Some(values) = adapted(source.values(), item.data_type())? else { return Ok(None) };
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Some(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)))
        }
        (source, target) => {
            let plain = spark_type(source);
            let lossless = &plain == target || widened(&plain, target).as_ref() == Some(target);
            if lossless { Ok(Some(cast(array, target)?)) } else { Ok(None) }
        }
    }
}
