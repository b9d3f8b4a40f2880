//! Schemas of tables: what Delta can store, and how a schema may grow.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::types::{is_variant, variant};

/// The schema a query's result has once it is stored: only types that Delta knows.
///
/// # Errors
/// `Unsupported` for a type that Delta has no counterpart for.
pub fn to_delta(schema: &Schema) -> Result<SchemaRef> {
    let fields = schema.fields().iter().map(delta_field).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

/// The table's schema after rows of `incoming` have been added, or `None` if it need not change.
///
/// Columns are matched by name, in any case. New columns go to the end and are nullable. A column
/// of the table may become wider where existing files stay readable (`BYTE` to `SHORT` to `INT`).
///
/// # Errors
/// `DELTA_FAILED_TO_MERGE_FIELDS` (`User`) if a column has types that do not go together.
pub fn merge(table: &Schema, incoming: &Schema) -> Result<Option<SchemaRef>> {
    let incoming = to_delta(incoming)?;
    let merged = merge_fields(table.fields(), incoming.fields(), "")?;
    if &merged == table.fields() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Schema::new_with_metadata(merged, table.metadata().clone()))))
}

/// Whether every value of `from` is a value of `to`, so that writing needs no check.
pub(crate) fn is_widening(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Null, Timestamp};
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Int8 | Int16 | Int32, Float64) | (Int8 | Int16, Float32) | (Float32, Float64) => true,
        (Int8 | Int16 | Int32 | Int64, Decimal128(precision, scale)) => {
            integer_digits(from) <= i16::from(*precision) - i16::from(*scale)
        }
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        (Date32, Timestamp(TimeUnit::Microsecond, None)) => true,
        _ => false,
    }
}

/// The error of two types of one column that do not go together.
pub(crate) fn not_mergeable(column: &str, table: &DataType, incoming: &DataType) -> Error {
    Error::user(format!(
        "column `{column}` has type {} in the table and type {} in the new rows",
        type_name(table),
        type_name(incoming)
    ))
    .with_condition("DELTA_FAILED_TO_MERGE_FIELDS")
    .with_help("Cast the column in the query, or refresh the table fully if its type has changed.")
}

/// Spark's name of a type.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Null => "VOID".to_owned(),
        DataType::List(element) => format!("ARRAY<{}>", type_name(element.data_type())),
        _ if is_variant(data_type) => "VARIANT".to_owned(),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// The index of a column by its name: exact first, then in any case.
pub(crate) fn index_of(fields: &Fields, name: &str) -> Option<usize> {
    fields
        .iter()
        .position(|field| field.name() == name)
        .or_else(|| fields.iter().position(|field| field.name().to_lowercase() == name.to_lowercase()))
}

/// The type that stores values of `data_type`.
pub(crate) fn delta_type(column: &str, data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, values) => delta_type(column, values)?,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal128(precision, scale) if *scale >= 0 => DataType::Decimal128(*precision, *scale),
        DataType::Decimal256(precision, scale) if *precision <= DECIMAL128_MAX_PRECISION && *scale >= 0 => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(Arc::new(
            Field::new("element", delta_type(column, element.data_type())?, element.is_nullable())
                .with_metadata(element.metadata().clone()),
        )),
        _ if is_variant(data_type) => variant(),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(delta_field).collect::<Result<Vec<_>>>()?;
            DataType::Struct(fields.into())
        }
        DataType::Map(entries, _) => delta_map(column, entries)?,
        DataType::Null => {
            return Err(Error::user(format!("column `{column}` has no type (VOID)"))
                .with_condition("DELTA_NULL_SCHEMA_IN_STREAMING_WRITE")
                .with_help("Cast the column, as in `CAST(NULL AS STRING)`."));
        }
        other => return Err(Error::unsupported(format!("type {other} of column `{column}` in a Delta table"))),
    })
}

fn delta_field(field: &FieldRef) -> Result<FieldRef> {
    let data_type = delta_type(field.name(), field.data_type())?;
    Ok(Arc::new(field.as_ref().clone().with_data_type(data_type)))
}

fn delta_map(column: &str, entries: &FieldRef) -> Result<DataType> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal(format!("map column `{column}` has no entries")));
    };
    let [key, value] = fields.as_ref() else {
        return Err(Error::internal(format!("map column `{column}` has {} entry fields", fields.len())));
    };
    let entries = DataType::Struct(Fields::from(vec![
        Field::new("key", delta_type(column, key.data_type())?, false),
        Field::new("value", delta_type(column, value.data_type())?, value.is_nullable()),
    ]));
    Ok(DataType::Map(Arc::new(Field::new("key_value", entries, false)), false))
}

fn merge_fields(table: &Fields, incoming: &Fields, prefix: &str) -> Result<Fields> {
    let mut merged: Vec<FieldRef> = table.iter().cloned().collect();
    for field in incoming {
        let path = format!("{prefix}{}", field.name());
        match index_of(table, field.name()) {
            Some(index) => {
                let current = &table[index];
                let data_type = merge_type(current.data_type(), field.data_type(), &path)?;
                if &data_type != current.data_type() {
                    merged[index] = Arc::new(current.as_ref().clone().with_data_type(data_type));
                }
            }
            None => merged.push(Arc::new(field.as_ref().clone().with_nullable(true))),
        }
    }
    Ok(merged.into())
}

fn merge_type(table: &DataType, incoming: &DataType, path: &str) -> Result<DataType> {
    match (table, incoming) {
        _ if is_variant(table) != is_variant(incoming) => Err(not_mergeable(path, table, incoming)),
        (DataType::Struct(current), DataType::Struct(new)) => {
            Ok(DataType::Struct(merge_fields(current, new, &format!("{path}."))?))
        }
        (DataType::List(current), DataType::List(new)) => {
            let element = merge_type(current.data_type(), new.data_type(), &format!("{path}.element"))?;
            Ok(DataType::List(Arc::new(current.as_ref().clone().with_data_type(element))))
        }
        (DataType::Map(current, sorted), DataType::Map(new, _)) => {
            let entries = merge_type(current.data_type(), new.data_type(), path)?;
            Ok(DataType::Map(Arc::new(current.as_ref().clone().with_data_type(entries)), *sorted))
        }
        _ if is_widening(incoming, table) => Ok(table.clone()),
        // Parquet stores all three as INT32, so files written before stay readable for everybody.
        (DataType::Int8, DataType::Int16 | DataType::Int32) | (DataType::Int16, DataType::Int32) => {
            Ok(incoming.clone())
        }
        _ => Err(not_mergeable(path, table, incoming)),
    }
}

fn integer_digits(data_type: &DataType) -> i16 {
    match data_type {
        DataType::Int8 => 3,
        DataType::Int16 => 5,
        DataType::Int32 => 10,
        _ => 20,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn new_columns_go_to_the_end_and_are_nullable() {
        let table = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
        let incoming = Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("+01:00".into())), false),
            Field::new("ID", DataType::Int32, true),
        ]);
        let merged = merge(&table, &incoming).unwrap().unwrap();
        let names: Vec<_> = merged.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "name", "at"]);
        assert_eq!(merged.field(0).data_type(), &DataType::Int64);
        assert_eq!(merged.field(2).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert!(merged.field(2).is_nullable());
    }

    #[test]
    fn same_columns_need_no_change() {
        let table = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
        let incoming = schema(&[("name", DataType::Utf8View), ("id", DataType::Int16)]);
        assert_eq!(merge(&table, &incoming).unwrap(), None);
    }

    #[test]
    fn nested_field_is_added() {
        let table = schema(&[("s", DataType::Struct(vec![Field::new("a", DataType::Int8, true)].into()))]);
        let incoming = schema(&[(
            "s",
            DataType::Struct(
                vec![Field::new("b", DataType::Utf8, true), Field::new("a", DataType::Int32, true)].into(),
            ),
        )]);
        let merged = merge(&table, &incoming).unwrap().unwrap();
        assert_eq!(type_name(merged.field(0).data_type()), "STRUCT<a: INT, b: STRING>");
    }

    #[test]
    fn other_type_is_refused_with_both_types() {
        let table = schema(&[("s", DataType::Struct(vec![Field::new("a", DataType::Int64, true)].into()))]);
        let incoming = schema(&[("s", DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into()))]);
        let error = merge(&table, &incoming).unwrap_err();
        assert_eq!(error.condition(), Some("DELTA_FAILED_TO_MERGE_FIELDS"));
        assert_eq!(error.message(), "column `s.a` has type BIGINT in the table and type STRING in the new rows");
    }

    #[test]
    fn decimals_widen_only_without_losing_digits() {
        let decimal = |precision, scale| DataType::Decimal128(precision, scale);
        assert!(is_widening(&decimal(10, 2), &decimal(12, 4)));
        assert!(!is_widening(&decimal(10, 2), &decimal(10, 4)));
        assert!(is_widening(&DataType::Int32, &decimal(10, 0)));
        assert!(!is_widening(&DataType::Int64, &decimal(18, 0)));
    }
}
