//! Spark's data types as Arrow types: names, DDL text and JSON, in both directions.
//!
//! | Spark | Arrow |
//! |---|---|
//! | `timestamp` | `Timestamp(us, "UTC")` |
//! | `timestamp_ntz` | `Timestamp(us)` |
//! | `interval day to second` | `Duration(us)` |
//! | `interval year to month` | `Interval(YearMonth)` |
//! | `interval` (calendar) | `Interval(MonthDayNano)` |
//! | `time(6)` | `Time64(ns)` |
//! | `array<t>` | `List("item")` |
//! | `map<k, v>` | `Map("entries": {"key", "value"})` |
//! | `variant` | `Struct({"value": Binary, "metadata": Binary})`, see [`variant`] |

mod ddl;
mod interval;
mod json;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};

pub use ddl::{parse_data_type, parse_schema};
pub use interval::{INTERVAL_KEY, IntervalUnits};
pub use json::{data_type_from_json, data_type_to_json, schema_from_json, schema_to_json};

/// The key of a field's comment in its metadata.
pub const COMMENT_KEY: &str = "comment";
/// The key of a generated column's expression in its metadata, as Delta names it.
pub const GENERATION_EXPRESSION_KEY: &str = "delta.generationExpression";
/// The key of a column default in its metadata, as Delta names it.
pub const DEFAULT_KEY: &str = "CURRENT_DEFAULT";

/// The key of `varchar(5)` or `char(5)` in the metadata of a text column, as Spark names it.
pub const CHAR_TYPE_KEY: &str = "__CHAR_VARCHAR_TYPE_STRING";
/// The key of what marks the names of a variant as such, as Spark names it.
const VARIANT_KEY: &str = "variant";
/// The key of an identity column's first value in its metadata, as Delta names it.
pub const IDENTITY_START_KEY: &str = "delta.identity.start";
/// The key of the distance between an identity column's values in its metadata, as Delta names it.
pub const IDENTITY_STEP_KEY: &str = "delta.identity.step";
/// The key of whether rows may bring their own values of an identity column (`BY DEFAULT`), as Delta names it.
pub const IDENTITY_EXPLICIT_KEY: &str = "delta.identity.allowExplicitInsert";

/// The Arrow type of Spark's `timestamp`.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of Spark's `timestamp_ntz`.
pub fn timestamp_ntz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The Arrow type of Spark's `time`.
pub fn time() -> DataType {
    DataType::Time64(TimeUnit::Nanosecond)
}

/// Spark's name of a field's type, the units of an interval included.
pub fn field_type_name(field: &Field) -> String {
    match IntervalUnits::of_field(field) {
        Some(units) => format!("interval {}", units.name(field.data_type())),
        None => type_name(field.data_type()),
    }
}

/// The Arrow type of `array<element>`.
pub fn array(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// The Arrow type of `map<key, value>`.
pub fn map(key: DataType, value: DataType) -> DataType {
    map_of(Field::new("key", key, false), Field::new("value", value, true))
}

/// The Arrow type of `variant`: a value in Parquet's binary form and the names in it, marked as Spark marks it for its
/// clients.
pub fn variant() -> DataType {
    let mark = [(VARIANT_KEY.to_owned(), "true".to_owned())].into();
    DataType::Struct(Fields::from(vec![
        Field::new("value", DataType::Binary, false),
        Field::new("metadata", DataType::Binary, false).with_metadata(mark),
    ]))
}

/// Whether a type is that of [`variant`], in whatever form of bytes.
pub fn is_variant(data_type: &DataType) -> bool {
    let DataType::Struct(fields) = data_type else { return false };
    let is_marked = |field: &Arc<Field>| {
        field.name() == "metadata" && field.metadata().get(VARIANT_KEY).is_some_and(|mark| mark == "true")
    };
    fields.len() == 2 && fields.iter().any(is_marked) && fields.iter().any(|field| field.name() == "value")
}

/// The fields of a STRUCT; `None` for all else, VARIANT included.
pub(crate) fn struct_fields(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::Struct(fields) if !is_variant(data_type) => Some(fields),
        _ => None,
    }
}

/// Whether there are variants in values of a type, or it is that of variants.
pub fn holds_variant(data_type: &DataType) -> bool {
    match data_type {
        _ if is_variant(data_type) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_variant(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_variant(field.data_type())),
        _ => false,
    }
}

pub(crate) fn map_of(key: Field, value: Field) -> DataType {
    let entries = Fields::from(vec![key, value]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// Spark's name of a type in lower case: `bigint`, `decimal(10,2)`, `struct<a:int>`.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "int".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::UInt64 => "decimal(20,0)".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("decimal({p},{s})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(_, None) => "timestamp_ntz".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time(6)".to_owned(),
        DataType::Duration(_) => "interval day to second".to_owned(),
        DataType::Interval(IntervalUnit::YearMonth) => "interval year to month".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "interval day to second".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval".to_owned(),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _) => format!("array<{}>", type_name(f.data_type())),
        _ if is_variant(data_type) => "variant".to_owned(),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{}:{}", quote(f.name()), type_name(f.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("map<{},{}>", type_name(kv[0].data_type()), type_name(kv[1].data_type()))
            }
            _ => "map<void,void>".to_owned(),
        },
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
        other => other.to_string().to_ascii_lowercase(),
    }
}

/// The type as it is written in SQL and in generated column names: `BIGINT`, `DECIMAL(10,2)`, `STRUCT<a: INT>`.
pub fn sql_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(f) | DataType::LargeList(f) => format!("ARRAY<{}>", sql_type_name(f.data_type())),
        _ if is_variant(data_type) => "VARIANT".to_owned(),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(field_ddl_in_struct).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("MAP<{}, {}>", sql_type_name(kv[0].data_type()), sql_type_name(kv[1].data_type()))
            }
            _ => "MAP<VOID, VOID>".to_owned(),
        },
        other => type_name(other).to_ascii_uppercase(),
    }
}

fn field_ddl_in_struct(field: &Arc<Field>) -> String {
    let null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("{}: {}{null}{}", quote(field.name()), sql_type_name(field.data_type()), comment_ddl(field))
}

fn comment_ddl(field: &Field) -> String {
    match field.metadata().get(COMMENT_KEY) {
        Some(comment) => format!(" COMMENT '{}'", comment.replace('\\', "\\\\").replace('\'', "\\'")),
        None => String::new(),
    }
}

/// A schema as DDL text: `` a INT NOT NULL COMMENT 'x',`b c` STRING ``.
pub fn ddl(schema: &Schema) -> String {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| {
            let null = if f.is_nullable() { "" } else { " NOT NULL" };
            format!("{} {}{null}{}", quote(f.name()), sql_type_name(f.data_type()), comment_ddl(f))
        })
        .collect();
    fields.join(",")
}

/// An identifier, in backquotes where it needs them.
pub fn quote(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}

/// The type with every physical variant of text, bytes, lists and time stamps replaced by the one Spark has.
pub fn canonical(data_type: &DataType) -> DataType {
    let field = |f: &Arc<Field>| Arc::new(f.as_ref().clone().with_data_type(canonical(f.data_type())));
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, Some(_)) => timestamp(),
        DataType::Timestamp(_, None) => timestamp_ntz(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => time(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::Dictionary(_, value) => canonical(value),
        DataType::RunEndEncoded(_, values) => canonical(values.data_type()),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _) => DataType::List(field(f)),
        _ if is_variant(data_type) => variant(),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "void",
            "boolean",
            "tinyint",
            "smallint",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(10,2)",
            "string",
            "binary",
            "date",
            "timestamp",
            "timestamp_ntz",
            "time(6)",
            "interval",
            "interval day to second",
            "interval year to month",
            "variant",
            "array<variant>",
            "array<map<string,int>>",
            "struct<a:int,`b c`:array<struct<x:date>>>",
        ] {
            assert_eq!(type_name(&parse_data_type(name).unwrap()), name);
        }
    }

    #[test]
    fn ddl_reads_back() {
        let text = "a INT NOT NULL COMMENT 'it\\'s',`b c` STRUCT<x: DATE, y: ARRAY<BIGINT>>";
        assert_eq!(ddl(&parse_schema(text).unwrap()), text);
    }
}
