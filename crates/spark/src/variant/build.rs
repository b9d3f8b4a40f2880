//! Values of any type as variants.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use chrono::DateTime;
use parquet_variant::{ObjectFieldBuilder, Variant, VariantBuilderExt};

use super::parse::{decimal, narrowest};
use super::{Encoded, VariantColumn, values};
use crate::cast::cannot_cast;
use crate::error::{Error, Result};
use crate::types::{is_variant, variant};

/// Whether values of a type have a form as variants; `objects` if structs and maps are to become objects.
pub(crate) fn can_build(from: &DataType, objects: bool) -> bool {
    match from {
        _ if is_variant(from) => true,
        DataType::List(item) => can_build(item.data_type(), objects),
        DataType::Struct(fields) => objects && fields.iter().all(|field| can_build(field.data_type(), objects)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => {
                objects && pair[0].data_type() == &DataType::Utf8 && can_build(pair[1].data_type(), objects)
            }
            _ => false,
        },
        DataType::Timestamp(..) | DataType::Date32 | DataType::Utf8 | DataType::Binary | DataType::Boolean => true,
        other => other.is_numeric(),
    }
}

/// Every value as a variant; NULL stays NULL.
///
/// # Errors
/// `DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION` (`User`) for a type without such a form.
pub(crate) fn from_array(array: &ArrayRef) -> Result<ArrayRef> {
    let mut column = VariantColumn::default();
    for row in 0..array.len() {
        if array.is_null(row) {
            column.push(None);
            continue;
        }
        column.push(Some(&Encoded::built(|builder| append(array, row, builder))?));
    }
    Ok(column.finish())
}

fn append(array: &ArrayRef, row: usize, builder: &mut impl VariantBuilderExt) -> Result<()> {
    use DataType as T;
    if array.is_null(row) {
        builder.append_value(Variant::Null);
        return Ok(());
    }
    match array.data_type() {
        T::Boolean => builder.append_value(array.as_boolean().value(row)),
        T::Int8 => builder.append_value(narrowest(array.as_primitive::<Int8Type>().value(row).into())),
        T::Int16 => builder.append_value(narrowest(array.as_primitive::<Int16Type>().value(row).into())),
        T::Int32 => builder.append_value(narrowest(array.as_primitive::<Int32Type>().value(row).into())),
        T::Int64 => builder.append_value(narrowest(array.as_primitive::<Int64Type>().value(row))),
        T::Float32 => builder.append_value(array.as_primitive::<Float32Type>().value(row)),
        T::Float64 => builder.append_value(array.as_primitive::<Float64Type>().value(row)),
        T::Decimal128(_, scale) => {
            let value = decimal(array.as_primitive::<Decimal128Type>().value(row), scale.unsigned_abs());
            builder.append_value(value.ok_or_else(|| Error::internal("a decimal has more than 38 digits"))?);
        }
        T::Utf8 => builder.append_value(array.as_string::<i32>().value(row)),
        T::Binary => builder.append_value(array.as_binary::<i32>().value(row)),
        T::Date32 => {
            let date = array.as_primitive::<Date32Type>().value_as_date(row);
            builder.append_value(date.ok_or_else(|| out_of_range("DATE"))?);
        }
        T::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = DateTime::from_timestamp_micros(micros).ok_or_else(|| out_of_range("TIMESTAMP"))?;
            builder.append_value(match zone {
                Some(_) => Variant::TimestampMicros(time),
                None => Variant::TimestampNtzMicros(time.naive_utc()),
            });
        }
        _ if is_variant(array.data_type()) => {
            let row = array.slice(row, 1);
            builder.append_value(values(&row)?.remove(0).unwrap_or(Variant::Null));
        }
        T::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let mut list = builder.try_new_list()?;
            for item in 0..items.len() {
                append(&items, item, &mut list)?;
            }
            list.finish();
        }
        T::Struct(fields) => {
            let mut object = builder.try_new_object()?;
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                append(column, row, &mut ObjectFieldBuilder::new(field.name(), &mut object))?;
            }
            object.finish();
        }
        T::Map(..) => {
            let pairs = array.as_map().value(row);
            let mut object = builder.try_new_object()?;
            for (at, key) in pairs.column(0).as_string::<i32>().iter().enumerate() {
                append(pairs.column(1), at, &mut ObjectFieldBuilder::new(key.unwrap_or_default(), &mut object))?;
            }
            object.finish();
        }
        other => return Err(cannot_cast(other, &variant())),
    }
    Ok(())
}

fn out_of_range(what: &str) -> Error {
    Error::data(format!("a {what} is out of the range that VARIANT has")).with_condition("DATETIME_OVERFLOW")
}
