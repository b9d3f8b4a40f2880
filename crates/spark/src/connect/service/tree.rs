//! `printSchema`: a schema as an indented tree.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, Field, Fields, Schema};

use crate::connect::types::is_hidden;
use crate::types::is_variant;

/// The tree of a schema, down to `level` if given.
pub(super) fn text(schema: &Schema, level: Option<i32>) -> String {
    let mut text = "root\n".to_owned();
    let depth = level.filter(|level| *level > 0).unwrap_or(i32::MAX);
    let visible: Vec<_> = schema.fields().iter().filter(|field| !is_hidden(field)).cloned().collect();
    fields(&mut text, &Fields::from(visible), " |", depth);
    text
}

fn fields(text: &mut String, fields: &Fields, prefix: &str, depth: i32) {
    if depth == 0 {
        return;
    }
    for field in fields {
        let _ = writeln!(
            text,
            "{prefix}-- {}: {} (nullable = {})",
            field.name(),
            name(field.data_type()),
            field.is_nullable()
        );
        inner(text, field.data_type(), &format!("{prefix}    |"), depth - 1);
    }
}

fn inner(text: &mut String, data_type: &DataType, prefix: &str, depth: i32) {
    if depth == 0 {
        return;
    }
    match data_type {
        variant if is_variant(variant) => {}
        DataType::Struct(nested) => fields(text, nested, prefix, depth),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let _ = writeln!(
                text,
                "{prefix}-- element: {} (containsNull = {})",
                name(item.data_type()),
                item.is_nullable()
            );
            inner(text, item.data_type(), &format!("{prefix}    |"), depth - 1);
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type()
                && let [key, value] = pair.iter().map(AsRef::as_ref).collect::<Vec<&Field>>().as_slice()
            {
                let _ = writeln!(text, "{prefix}-- key: {}", name(key.data_type()));
                inner(text, key.data_type(), &format!("{prefix}    |"), depth - 1);
                let _ = writeln!(
                    text,
                    "{prefix}-- value: {} (valueContainsNull = {})",
                    name(value.data_type()),
                    value.is_nullable()
                );
                inner(text, value.data_type(), &format!("{prefix}    |"), depth - 1);
            }
        }
        _ => {}
    }
}

/// The name of a type without its parts.
fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "byte".to_owned(),
        DataType::Int16 | DataType::UInt8 => "short".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "long".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("decimal({precision},{scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(_, None) => "timestamp_ntz".to_owned(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "array".to_owned(),
        _ if is_variant(data_type) => "variant".to_owned(),
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Map(..) => "map".to_owned(),
        DataType::Dictionary(_, value) => name(value),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_are_indented() {
        let item = Field::new("item", DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into()), true);
        let schema = Schema::new(vec![
            Field::new("a", DataType::Utf8, false),
            Field::new("b", DataType::List(item.into()), true),
        ]);
        assert_eq!(
            text(&schema, None),
            "root\n |-- a: string (nullable = false)\n |-- b: array (nullable = true)\n |    |-- element: struct (containsNull = true)\n |    |    |-- x: long (nullable = true)\n"
        );
    }
}
