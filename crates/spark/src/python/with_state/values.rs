//! Values of state between Python and columns.
//!
//! A value that its declared type cannot hold is an error: Spark would make NULL of it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::array_value_to_string;

use crate::error::{Error, Result};
use crate::python::pickle::Pickled;
use crate::types::{is_variant, type_name};

/// Fails for types that state cannot have.
///
/// # Errors
/// `Unsupported`, with the column.
pub(in crate::python) fn check_types(fields: &Fields) -> Result<()> {
    fields.iter().try_for_each(|field| check_type(field.name(), field.data_type()))
}

fn check_type(name: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::Binary | DataType::Date32 | DataType::Decimal128(..) => Ok(()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(()),
        DataType::Float32 | DataType::Float64 | DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(()),
        DataType::List(item) => check_type(name, item.data_type()),
        DataType::Map(entries, _) => check_type(name, entries.data_type()),
        DataType::Struct(fields) if !is_variant(data_type) => {
            fields.iter().try_for_each(|field| check_type(name, field.data_type()))
        }
        other => Err(Error::unsupported(format!("state of type {} (`{name}`)", type_name(other)))
            .with_help("Keep it as a number or a text.")),
    }
}

/// The columns of `fields` from rows of values; a row without values is NULL in all of them.
pub(in crate::python) fn to_columns(
    rows: &[Option<Vec<Pickled>>],
    fields: &Fields,
    function: &str,
) -> Result<Vec<ArrayRef>> {
    for row in rows.iter().flatten() {
        if row.len() != fields.len() {
            return Err(Error::user(format!(
                "the state of `{function}` was updated with {} values, but its schema has {}",
                row.len(),
                fields.len()
            ))
            .with_help("Give `state.update` a tuple with one value per column of the state's schema."));
        }
    }
    let of_field = |(place, field): (usize, &Arc<Field>)| {
        let values: Vec<&Pickled> =
            rows.iter().map(|row| row.as_ref().map_or(&Pickled::None, |row| &row[place])).collect();
        array(&values, field.data_type()).map_err(|unfit| unfit.error(field, function))
    };
    fields.iter().enumerate().map(of_field).collect()
}

/// The values of a row of `columns`, as Spark keeps them.
pub(in crate::python) fn to_values(columns: &[ArrayRef], row: usize) -> Result<Vec<Pickled>> {
    columns.iter().map(|column| value(column, row)).collect()
}

/// A value that is of no use for a type, or whatever else went wrong.
enum Unfit {
    Value(&'static str),
    Other(Error),
}

impl Unfit {
    fn error(self, field: &Field, function: &str) -> Error {
        match self {
            Self::Value(found) => Error::user(format!(
                "the state of `{function}` has a Python {found} in `{}` that {} cannot hold",
                field.name(),
                type_name(field.data_type())
            ))
            .with_help("Convert the value in the function, or declare another type in the state's schema."),
            Self::Other(error) => error,
        }
    }
}

impl From<arrow::error::ArrowError> for Unfit {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Other(error.into())
    }
}

fn unfit(value: &Pickled) -> Unfit {
    Unfit::Value(value.type_name())
}

fn array(values: &[&Pickled], data_type: &DataType) -> Result<ArrayRef, Unfit> {
    Ok(match data_type {
        DataType::Boolean => Arc::new(
            each(values, |value| match value {
                Pickled::Bool(value) => Some(*value),
                _ => None,
            })?
            .into_iter()
            .collect::<BooleanArray>(),
        ),
        DataType::Int8 => integers::<Int8Type>(values)?,
        DataType::Int16 => integers::<Int16Type>(values)?,
        DataType::Int32 => integers::<Int32Type>(values)?,
        DataType::Int64 => integers::<Int64Type>(values)?,
        DataType::Date32 => integers::<Date32Type>(values)?,
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = integers::<TimestampMicrosecondType>(values)?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>().clone();
            Arc::new(micros.with_timezone_opt(zone.clone()))
        }
        DataType::Float32 => Arc::new(
            floats(values)?
                .into_iter()
                .map(|value| value.map(|value| value as f32))
                .collect::<PrimitiveArray<Float32Type>>(),
        ),
        DataType::Float64 => Arc::new(floats(values)?.into_iter().collect::<PrimitiveArray<Float64Type>>()),
        DataType::Decimal128(precision, scale) => {
            let decimals = each(values, |value| match value {
                Pickled::Decimal(text) => decimal(text, *precision, *scale),
                Pickled::Int(whole) => decimal(&whole.to_string(), *precision, *scale),
                _ => None,
            })?;
            Arc::new(decimals.into_iter().collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Utf8 => Arc::new(
            each(values, |value| match value {
                Pickled::Text(text) => Some(text.as_str()),
                _ => None,
            })?
            .into_iter()
            .collect::<StringArray>(),
        ),
        DataType::Binary => Arc::new(
            each(values, |value| match value {
                Pickled::Bytes(bytes) => Some(bytes.as_slice()),
                Pickled::Text(text) => Some(text.as_bytes()),
                _ => None,
            })?
            .into_iter()
            .collect::<BinaryArray>(),
        ),
        DataType::List(item) => {
            let lists = each(values, items)?;
            let all: Vec<&Pickled> = lists.iter().flatten().flat_map(|items| items.iter()).collect();
            let (offsets, nulls) = layout(lists.iter().map(|items| items.map(<[Pickled]>::len)));
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, array(&all, item.data_type())?, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Unfit::Other(Error::internal("a map without entries")));
            };
            let maps = each(values, |value| match value {
                Pickled::Dict(entries) => Some(entries.as_slice()),
                _ => None,
            })?;
            let keys: Vec<&Pickled> = maps.iter().flatten().flat_map(|map| map.iter().map(|(key, _)| key)).collect();
            let held: Vec<&Pickled> = maps.iter().flatten().flat_map(|map| map.iter().map(|(_, held)| held)).collect();
            let (offsets, nulls) = layout(maps.iter().map(|map| map.map(<[_]>::len)));
            let columns = fields.iter().zip([keys, held]).map(|(field, values)| array(&values, field.data_type()));
            let pairs = StructArray::try_new(fields.clone(), columns.collect::<Result<_, Unfit>>()?, None)?;
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
        }
        DataType::Struct(fields) => {
            let rows = each(values, |value| items(value).filter(|items| items.len() == fields.len()))?;
            let column = |(place, field): (usize, &Arc<Field>)| {
                let values: Vec<&Pickled> =
                    rows.iter().map(|row| row.map_or(&Pickled::None, |row| &row[place])).collect();
                array(&values, field.data_type())
            };
            let columns = fields.iter().enumerate().map(column).collect::<Result<Vec<_>, Unfit>>()?;
            let nulls = rows.iter().map(Option::is_some).collect::<NullBuffer>();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), rows.len())?)
        }
        other => return Err(Unfit::Other(Error::internal(format!("state of type {other}")))),
    })
}

/// `None` stays; whatever else `of` has nothing for is unfit.
fn each<'a, T>(values: &[&'a Pickled], of: impl Fn(&'a Pickled) -> Option<T>) -> Result<Vec<Option<T>>, Unfit> {
    let one = |value: &&'a Pickled| match value {
        Pickled::None => Ok(None),
        value => of(value).map(Some).ok_or_else(|| unfit(value)),
    };
    values.iter().map(one).collect()
}

fn items(value: &Pickled) -> Option<&[Pickled]> {
    match value {
        Pickled::List(items) | Pickled::Tuple(items) => Some(items),
        _ => None,
    }
}

fn integers<T: ArrowPrimitiveType>(values: &[&Pickled]) -> Result<ArrayRef, Unfit>
where
    T::Native: TryFrom<i128>,
{
    let numbers = each(values, |value| match value {
        Pickled::Int(number) => T::Native::try_from(*number).ok(),
        _ => None,
    })?;
    Ok(Arc::new(numbers.into_iter().collect::<PrimitiveArray<T>>()))
}

fn floats(values: &[&Pickled]) -> Result<Vec<Option<f64>>, Unfit> {
    each(values, |value| match value {
        Pickled::Float(number) => Some(*number),
        Pickled::Int(number) => Some(*number as f64),
        _ => None,
    })
}

/// The number in units of the scale; `None` if it does not fit.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    arrow::compute::kernels::cast_utils::parse_decimal::<Decimal128Type>(text, precision, scale).ok()
}

fn layout(lengths: impl Iterator<Item = Option<usize>>) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
    let lengths: Vec<Option<usize>> = lengths.collect();
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or_default()));
    (offsets, Some(lengths.iter().map(Option::is_some).collect()))
}

fn value(column: &ArrayRef, row: usize) -> Result<Pickled> {
    if column.is_null(row) {
        return Ok(Pickled::None);
    }
    let all = |items: &ArrayRef| (0..items.len()).map(|item| value(items, item)).collect::<Result<Vec<_>>>();
    Ok(match column.data_type() {
        DataType::Boolean => Pickled::Bool(column.as_boolean().value(row)),
        DataType::Int8 => Pickled::Int(column.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Pickled::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Pickled::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Pickled::Int(column.as_primitive::<Int64Type>().value(row).into()),
        DataType::Date32 => Pickled::Int(column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Pickled::Int(column.as_primitive::<TimestampMicrosecondType>().value(row).into())
        }
        DataType::Float32 => Pickled::Float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Pickled::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => Pickled::Decimal(array_value_to_string(column, row)?),
        DataType::Utf8 => Pickled::Text(column.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Pickled::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        DataType::List(_) => Pickled::List(all(&column.as_list::<i32>().value(row))?),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (all(entries.column(0))?, all(entries.column(1))?);
            Pickled::Dict(keys.into_iter().zip(values).collect())
        }
        DataType::Struct(_) => Pickled::Tuple(to_values(column.as_struct().columns(), row)?),
        other => return Err(Error::internal(format!("state of type {other}"))),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::parse_schema;

    fn text(text: &str) -> Pickled {
        Pickled::Text(text.to_owned())
    }

    #[test]
    fn values_of_all_types_come_back() {
        let schema = parse_schema(
            "b BOOLEAN, n BIGINT, s SMALLINT, d DATE, t TIMESTAMP, f FLOAT, x DOUBLE, p DECIMAL(10, 2), c STRING, \
             r BINARY, a ARRAY<STRING>, m MAP<STRING, INT>, z STRUCT<k: INT, v: ARRAY<INT>>",
        )
        .unwrap();
        check_types(schema.fields()).unwrap();
        let row = vec![
            Pickled::Bool(true),
            Pickled::Int(1 << 40),
            Pickled::Int(-3),
            Pickled::Int(19_000),
            Pickled::Int(1_700_000_000_000_001),
            Pickled::Float(0.5),
            Pickled::Float(0.1),
            Pickled::Decimal("-12.50".to_owned()),
            text("ä"),
            Pickled::Bytes(vec![0, 1]),
            Pickled::List(vec![text("x"), Pickled::None]),
            Pickled::Dict(vec![(text("k"), Pickled::Int(1)), (text("l"), Pickled::None)]),
            Pickled::Tuple(vec![Pickled::Int(1), Pickled::List(Vec::new())]),
        ];
        let nulls = vec![Pickled::None; row.len()];
        let columns = to_columns(&[Some(row.clone()), None, Some(nulls.clone())], schema.fields(), "f").unwrap();
        assert_eq!(to_values(&columns, 0).unwrap(), row);
        assert_eq!(to_values(&columns, 1).unwrap(), nulls);
        assert_eq!(to_values(&columns, 2).unwrap(), nulls);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let message = |schema: &str, values: Vec<Pickled>| {
            let schema = parse_schema(schema).unwrap();
            to_columns(&[Some(values)], schema.fields(), "f").unwrap_err().message().to_owned()
        };
        assert_eq!(
            message("n INT", vec![Pickled::Float(1.5)]),
            "the state of `f` has a Python float in `n` that int cannot hold"
        );
        assert_eq!(
            message("n INT", vec![Pickled::Int(1 << 40)]),
            "the state of `f` has a Python int in `n` that int cannot hold"
        );
        assert_eq!(
            message("n INT, m INT", vec![Pickled::Int(1)]),
            "the state of `f` was updated with 1 values, but its schema has 2"
        );
    }
}
