//! Functions over JSON text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use sonic_rs::{JsonValueTrait, PointerNode};

use super::udf::{Call, Function, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::json::{Decoder, DecoderOptions};
use crate::types::{data_type_from_json, parse_data_type, parse_schema};

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["get_json_object"], (2, 2), TEXT, get_json_object),
    function(&["from_json"], (2, 2), Returns::Values(schema_of_call), from_json),
];

/// The schema argument of `from_json`: DDL text, a type, or Spark's JSON form.
fn schema_of_call(_: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let text = values.get(1).copied().flatten().and_then(|value| value.try_as_str().flatten());
    let Some(text) = text else {
        return Err(Error::user("the schema of `from_json` must be a constant")
            .with_condition("INVALID_SCHEMA.NON_STRING_LITERAL"));
    };
    if text.trim_start().starts_with(['{', '"']) {
        let value = serde_json::from_str(text)
            .map_err(|error| Error::user(error.to_string()).with_condition("INVALID_JSON_SCHEMA"))?;
        return data_type_from_json(&value);
    }
    parse_data_type(text).or_else(|_| Ok(DataType::Struct(parse_schema(text)?.fields().clone())))
}

/// PERMISSIVE: what cannot be read is NULL.
fn from_json(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = call.result() else {
        return Err(Error::unsupported(format!("`from_json` into {}", call.result())));
    };
    let text = call.text(0)?;
    let nullable = fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let options = DecoderOptions { time_zone: call.tz(), ..Default::default() };
    let mut decoder = Decoder::new(Arc::new(Schema::new(nullable)), &options)?;
    for row in &text {
        decoder.push(row.unwrap_or("{}").as_bytes());
    }
    let decoded = decoder.finish()?;
    let nulls = NullBuffer::from((0..text.len()).map(|row| text.is_valid(row)).collect::<Vec<_>>());
    let columns = decoded.batch.columns().to_vec();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), text.len())?))
}

/// `$.a.b[0]['c']` as steps.
fn steps(path: &str) -> Option<Vec<PointerNode>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            steps.push(PointerNode::Key(after[..end].to_owned().into()));
            rest = &after[end..];
        } else {
            let (inner, after) = rest.strip_prefix('[')?.split_once(']')?;
            let key = inner.trim_matches(|c| c == '\'' || c == '"');
            steps.push(match inner.parse() {
                Ok(index) => PointerNode::Index(index),
                Err(_) => PointerNode::Key(key.to_owned().into()),
            });
            rest = after;
        }
    }
    Some(steps)
}

fn get_json_object(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, paths) = (call.text(0)?, call.text(1)?);
    if paths.iter().flatten().any(|path| path.contains('*')) {
        return Err(Error::unsupported("a wildcard in the path of `get_json_object`"));
    }
    let find = |(text, path): (Option<&str>, Option<&str>)| -> Option<String> {
        let steps = steps(path?)?;
        let value = sonic_rs::get(text?, steps.iter()).ok()?;
        if value.is_null() {
            return None;
        }
        Some(value.as_str().map_or_else(|| value.as_raw_str().to_owned(), str::to_owned))
    };
    Ok(Arc::new(text.iter().zip(&paths).map(find).collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            (r#"get_json_object('{"a": {"b": [1, "x"]}}', '$.a.b[1]')"#, "x"),
            (r#"get_json_object('{"a": {"b": [1, 2]}}', '$.a')"#, r#"{"b": [1, 2]}"#),
            (r#"get_json_object('{"a": 1}', '$.z')"#, "NULL"),
            (r#"from_json('{"a": 1, "b": "x"}', 'a INT, b STRING')"#, "{1, x}"),
            (r#"from_json('{"a": "y"}', 'struct<a: int>')"#, "{null}"),
            ("from_json(NULL, 'a INT')", "NULL"),
        ])
        .await;
    }
}
