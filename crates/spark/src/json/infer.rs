//! The schema of rows of JSON text, as Spark infers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use sonic_rs::{to_array_iter, to_object_iter};

use super::decode::MAX_DEPTH;
use super::nesting::is_shallow;
use crate::types::array;

/// How a schema is inferred.
#[derive(Debug, Clone, Copy, Default)]
pub struct InferOptions {
    /// Every column is STRING (Auto Loader without `cloudFiles.inferColumnTypes`).
    pub all_strings: bool,
    /// Numbers and truth values are STRING (`primitivesAsString`).
    pub primitives_as_string: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Null,
    Boolean,
    Long,
    Double,
    Text,
    List(Box<Kind>),
    Object(BTreeMap<String, Kind>),
}

/// The schema that holds all rows; columns in alphabetical order. Rows that are not objects, or nested too deep, are passed
/// over.
pub fn infer<'a>(rows: impl IntoIterator<Item = &'a [u8]>, options: InferOptions) -> Schema {
    let mut merged = BTreeMap::new();
    for row in rows {
        let text = std::str::from_utf8(row).map_or("", str::trim);
        if text.starts_with('{')
            && is_shallow(text, MAX_DEPTH)
            && let Some(Kind::Object(fields)) = kind_of(text, options, 0)
        {
            merge_fields(&mut merged, fields);
        }
    }
    let fields: Vec<_> = merged.into_iter().map(|(name, kind)| Field::new(name, data_type(kind), true)).collect();
    Schema::new(fields)
}

fn kind_of(raw: &str, options: InferOptions, depth: usize) -> Option<Kind> {
    let plain = |kind| if options.primitives_as_string { Kind::Text } else { kind };
    Some(match raw.as_bytes().first()? {
        b'n' => Kind::Null,
        _ if options.all_strings && depth > 0 => Kind::Text,
        b'"' => Kind::Text,
        b't' | b'f' => plain(Kind::Boolean),
        b'{' => {
            let mut fields = BTreeMap::new();
            for entry in to_object_iter(raw) {
                let (key, value) = entry.ok()?;
                let kind = kind_of(value.as_raw_str(), options, depth + 1)?;
                merge_fields(&mut fields, BTreeMap::from([(key.to_string(), kind)]));
            }
            Kind::Object(fields)
        }
        b'[' => {
            let mut element = Kind::Null;
            for value in to_array_iter(raw) {
                element = merge(element, kind_of(value.ok()?.as_raw_str(), options, depth + 1)?);
            }
            Kind::List(Box::new(element))
        }
        _ if raw.parse::<i64>().is_ok() => plain(Kind::Long),
        _ => plain(Kind::Double),
    })
}

fn merge_fields(into: &mut BTreeMap<String, Kind>, fields: BTreeMap<String, Kind>) {
    for (name, kind) in fields {
        let merged = match into.remove(&name) {
            Some(so_far) => merge(so_far, kind),
            None => kind,
        };
        into.insert(name, merged);
    }
}

fn merge(a: Kind, b: Kind) -> Kind {
    match (a, b) {
        (a, b) if a == b => a,
        (Kind::Null, other) | (other, Kind::Null) => other,
        (Kind::Long, Kind::Double) | (Kind::Double, Kind::Long) => Kind::Double,
        (Kind::List(a), Kind::List(b)) => Kind::List(Box::new(merge(*a, *b))),
        (Kind::Object(mut a), Kind::Object(b)) => {
            merge_fields(&mut a, b);
            Kind::Object(a)
        }
        _ => Kind::Text,
    }
}

/// A column that is always NULL is STRING.
fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Null | Kind::Text => DataType::Utf8,
        Kind::Boolean => DataType::Boolean,
        Kind::Long => DataType::Int64,
        Kind::Double => DataType::Float64,
        Kind::List(element) => array(data_type(*element)),
        Kind::Object(fields) => DataType::Struct(
            fields.into_iter().map(|(name, kind)| Arc::new(Field::new(name, data_type(kind), true))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ddl;

    #[test]
    fn types_meet() {
        let too_deep = r#"{"a":"#.repeat(100_000);
        let rows: [&[u8]; 4] = [
            br#"{"b": 1, "a": "x", "n": {"y": 1}}"#,
            br#"{"b": 1.5, "l": [1, null], "n": {"x": true}}"#,
            br#"{"a": 2}"#,
            too_deep.as_bytes(),
        ];
        let typed = ddl(&infer(rows, InferOptions::default()));
        assert_eq!(typed, "a STRING,b DOUBLE,l ARRAY<BIGINT>,n STRUCT<x: BOOLEAN, y: BIGINT>");
        let text = ddl(&infer(rows, InferOptions { all_strings: true, ..Default::default() }));
        assert_eq!(text, "a STRING,b STRING,l STRING,n STRING");
    }
}
