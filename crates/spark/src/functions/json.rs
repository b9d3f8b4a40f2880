//! Functions over JSON text.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::logical_expr::lit;
use serde_json::Value;

use super::form::{Form, form};
use super::options::{self, Options, is_on};
use super::udf::{Call, Function, INT, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::json::{Decoder, DecoderOptions, InferOptions, MAX_DEPTH, Relaxed, Writer, compact, infer, is_shallow};
use crate::types::{array, sql_type_name, struct_fields};

pub(super) const FORMS: &[Form] = &[form(&["schema_of_json"], (1, 2), |args, env| {
    let sample = args.first().and_then(options::text).ok_or_else(not_constant)?;
    let given = args.get(1).map(|map| options::of_expr(map, env)).transpose()?.unwrap_or_default();
    if env.typing {
        return Ok(lit(""));
    }
    Ok(lit(schema_of(&relaxed(&given).strict(sample))?))
})];

pub(super) const FUNCTIONS: &[Function] = &[
    GET_JSON_OBJECT,
    function(&["from_json"], (2, 3), Returns::Values(|_, values| options::schema("from_json", values)), from_json),
    function(&["to_json"], (1, 2), TEXT, to_json),
    function(&["json_array_length"], (1, 1), INT, |c| {
        let length = |text: Option<&str>| match serde_json::from_str(text?) {
            Ok(Value::Array(values)) => Some(values.len() as i32),
            _ => None,
        };
        Ok(Arc::new(c.text(0)?.iter().map(length).collect::<Int32Array>()))
    }),
    function(&["json_object_keys"], (1, 1), Returns::Type(|| array(DataType::Utf8)), object_keys),
];

pub(super) const GET_JSON_OBJECT: Function = function(&["get_json_object"], (2, 2), TEXT, get_json_object);

fn not_constant() -> Error {
    Error::user("the argument of `schema_of_json` must be a constant text")
        .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")
}

/// What `schema_of_json` gives for a sample.
pub(super) fn schema_of(text: &str) -> Result<String> {
    // The schema of a column of such values is that of any value.
    let wrapped = format!("{{\"value\": {text}}}");
    serde_json::from_str::<Value>(&wrapped).map_err(|error| {
        Error::data(format!("`{text}` is not JSON: {error}")).with_condition("MALFORMED_RECORD_IN_PARSING")
    })?;
    let schema = infer([wrapped.as_bytes()], InferOptions::default());
    Ok(sql_type_name(schema.field(0).data_type()))
}

/// What `from_json` is told by its options.
struct Reading {
    decoder: DecoderOptions,
    relaxed: Relaxed,
    fail_fast: bool,
    corrupt_column: String,
}

/// What the options allow beyond strict JSON.
fn relaxed(options: &Options) -> Relaxed {
    let otherwise = Relaxed::default();
    Relaxed {
        single_quotes: is_on(options, "allowsinglequotes", otherwise.single_quotes),
        unquoted_names: is_on(options, "allowunquotedfieldnames", otherwise.unquoted_names),
        comments: is_on(options, "allowcomments", otherwise.comments),
        leading_zeros: is_on(options, "allownumericleadingzeros", otherwise.leading_zeros),
        any_escape: is_on(options, "allowbackslashescapinganycharacter", otherwise.any_escape),
        non_numeric: is_on(options, "allownonnumericnumbers", otherwise.non_numeric),
    }
}

fn reading(call: &Call<'_>) -> Result<Reading> {
    let options = options::of_call(call, 2)?;
    let mut reading = Reading {
        relaxed: relaxed(&options),
        decoder: DecoderOptions { time_zone: call.tz(), date_format: None, timestamp_format: None },
        fail_fast: false,
        corrupt_column: "_corrupt_record".to_owned(),
    };
    for (name, value) in options {
        match name.as_str() {
            "mode" => {
                reading.fail_fast = match value.to_ascii_uppercase().as_str() {
                    "FAILFAST" => true,
                    "PERMISSIVE" => false,
                    _ => {
                        return Err(Error::user(format!("`from_json` has no mode `{value}`"))
                            .with_condition("PARSE_MODE_UNSUPPORTED")
                            .with_help("Use PERMISSIVE or FAILFAST."));
                    }
                }
            }
            "dateformat" => reading.decoder.date_format = Some(value),
            "timestampformat" => reading.decoder.timestamp_format = Some(value),
            "timezone" => {
                reading.decoder.time_zone = value.parse().map_err(|_| {
                    Error::user(format!("`{value}` is not a time zone")).with_condition("INVALID_TIMEZONE")
                })?;
            }
            "columnnameofcorruptrecord" => reading.corrupt_column = value,
            "rescuedatacolumn" | "primitivesasstring" if value.eq_ignore_ascii_case("true") => {
                return Err(Error::unsupported(format!("the option `{name}` of `from_json`")));
            }
            _ => {}
        }
    }
    Ok(reading)
}

/// PERMISSIVE: what cannot be read is NULL; of a row of fields all of them, and the row is there.
fn from_json(call: &Call<'_>) -> Result<ArrayRef> {
    let reading = reading(call)?;
    let text = call.text(0)?;
    let nullable = match struct_fields(call.result()) {
        Some(fields) => DataType::Struct(fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect()),
        None => call.result().clone(),
    };
    let mut decoder = Decoder::new(&nullable, &reading.decoder)?;
    let mut corrupt = Vec::new();
    for (at, row) in text.iter().enumerate() {
        // An empty text is NULL in Spark, not an object without fields.
        let Some(row) = row.filter(|row| !row.trim().is_empty()) else {
            decoder.push_null();
            continue;
        };
        let strict = reading.relaxed.strict(row.trim());
        if !decoder.push(&as_given(&strict, &nullable)) {
            if reading.fail_fast {
                return Err(Error::data(format!("`{row}` is not JSON of the schema"))
                    .with_condition("MALFORMED_RECORD_IN_PARSING"));
            }
            corrupt.push(at);
        }
    }
    let values = decoder.finish()?;
    let Some(fields) = struct_fields(call.result()) else { return Ok(values) };
    let mut columns = values.as_struct().columns().to_vec();
    if let Some((at, field)) = fields.find(&reading.corrupt_column)
        && field.data_type() == &DataType::Utf8
    {
        let record = |row: usize| corrupt.binary_search(&row).is_ok().then(|| text.value(row));
        columns[at] = Arc::new((0..text.len()).map(record).collect::<StringArray>());
    }
    let valid = |row: usize| text.is_valid(row) && !text.value(row).trim().is_empty();
    let nulls = NullBuffer::from((0..text.len()).map(valid).collect::<Vec<_>>());
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), text.len())?))
}

/// A single object where an array of objects is asked for is an array of one.
fn as_given<'t>(row: &'t str, wanted: &DataType) -> Cow<'t, str> {
    let of_objects = matches!(wanted, DataType::List(field) if matches!(field.data_type(), DataType::Struct(_)));
    if of_objects && row.starts_with('{') { Cow::Owned(format!("[{row}]")) } else { Cow::Borrowed(row) }
}

fn to_json(call: &Call<'_>) -> Result<ArrayRef> {
    let mut writer = Writer::new(call.tz());
    for (name, value) in options::of_call(call, 1)? {
        match name.as_str() {
            "ignorenullfields" => writer = writer.ignore_null_fields(!value.eq_ignore_ascii_case("false")),
            "dateformat" => writer = writer.date_format(&value)?,
            "timestampformat" => writer = writer.timestamp_format(&value)?,
            _ => return Err(Error::unsupported(format!("the option `{name}` of `to_json`"))),
        }
    }
    let values = call.array(0)?;
    if !matches!(values.data_type(), t if t.is_nested() || t == &DataType::Null) {
        return Err(Error::user(format!("`to_json` cannot write {}", sql_type_name(values.data_type())))
            .with_condition("DATATYPE_MISMATCH.INVALID_JSON_SCHEMA")
            .with_help("Give it a STRUCT, an ARRAY or a MAP."));
    }
    Ok(Arc::new(writer.write(&values)?))
}

fn object_keys(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for text in &call.text(0)? {
        match text.map(serde_json::from_str::<Value>) {
            Some(Ok(Value::Object(object))) => {
                object.keys().for_each(|key| builder.values().append_value(key));
                builder.append(true);
            }
            _ => builder.append_null(),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// One step of a path: `$.a.b[0]['c'][*]`.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
    All,
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            steps.push(if name == "*" { Step::All } else { Step::Key(name.to_owned()) });
            rest = &after[end..];
        } else {
            let (inner, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(match inner.trim() {
                "*" => Step::All,
                index if index.starts_with(|c: char| c.is_ascii_digit()) => Step::Index(index.parse().ok()?),
                key => Step::Key(key.trim_matches(['\'', '"']).to_owned()),
            });
            rest = after;
        }
    }
    Some(steps)
}

/// The parts of `raw` the steps lead to, as they are written there. A field that is null leads nowhere, and nor does a text
/// that is not well-formed.
fn follow<'a>(raw: &'a str, steps: &[Step], found: &mut Vec<&'a str>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(raw);
        return;
    };
    match step {
        Step::Key(key) => {
            let mut value = None;
            for entry in sonic_rs::to_object_iter(raw) {
                let Ok((name, part)) = entry else { return };
                if value.is_none() && name == *key && part.as_raw_str() != "null" {
                    value = Some(part);
                }
            }
            if let Some(value) = value {
                follow_within(raw, value.as_raw_str(), rest, found);
            }
        }
        Step::Index(_) | Step::All => {
            let values = sonic_rs::to_array_iter(raw).collect::<std::result::Result<Vec<_>, _>>();
            let Ok(values) = values else { return };
            let wanted = match step {
                Step::Index(index) => values.get(*index..=*index).unwrap_or_default(),
                _ => values.as_slice(),
            };
            for value in wanted {
                follow_within(raw, value.as_raw_str(), rest, found);
            }
        }
    }
}

/// Goes on in `part`, which is a slice of `whole` with a shorter life.
fn follow_within<'a>(whole: &'a str, part: &str, rest: &[Step], found: &mut Vec<&'a str>) {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if let Some(part) = whole.get(start..start.wrapping_add(part.len())) {
        follow(part, rest, found);
    }
}

fn unquoted(raw: &str) -> Option<String> {
    if raw.starts_with('"') { serde_json::from_str(raw).ok() } else { compact(raw) }
}

fn get_json_object(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, paths) = (call.text(0)?, call.text(1)?);
    let constant = call.constant_text(1).flatten().map(|path| steps(&path));
    let find = |(text, path): (Option<&str>, Option<&str>)| -> Option<String> {
        let (text, path) = (Relaxed::default().strict(text?.trim()), path?);
        if !is_shallow(&text, MAX_DEPTH) {
            return None;
        }
        let steps = match &constant {
            Some(steps) => steps.clone()?,
            None => steps(path)?,
        };
        // Without a step nothing else has looked at the text.
        if steps.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
            return None;
        }
        let mut found = Vec::new();
        follow(&text, &steps, &mut found);
        // Without a wildcard there is at most one, a text without its quotes; with one all stay JSON, several as an array.
        match found.as_slice() {
            [] => None,
            [one] if steps.contains(&Step::All) => compact(one),
            [one] => unquoted(one),
            several => {
                let parts = several.iter().map(|part| compact(part)).collect::<Option<Vec<_>>>()?;
                Some(format!("[{}]", parts.join(",")))
            }
        }
    };
    Ok(Arc::new(text.iter().zip(&paths).map(find).collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn reading() {
        check_all(&[
            (r#"get_json_object('{"a": {"b": [1, "x"]}}', '$.a.b[1]')"#, "x"),
            (r#"get_json_object('{"a": {"b": [1, 2]}}', '$.a')"#, r#"{"b":[1,2]}"#),
            (r#"get_json_object('{"a": [1.50, null]}', '$.a[1]')"#, "null"),
            (r#"get_json_object('{"a": [1.50, null]}', '$.a[0]')"#, "1.5"),
            ("get_json_object('not json', '$')", "NULL"),
            (r#"from_json('{"a": {"b" : 1.50}}', 'a STRING')"#, r#"{{"b":1.5}}"#),
            (r#"get_json_object('{"a": 1}', '$.z')"#, "NULL"),
            (r#"get_json_object('{"a":[{"b":1},{"b":2}]}', '$.a[*].b')"#, "[1,2]"),
            (r#"get_json_object('{"a":[{"b":"x"}]}', '$.a[*].b')"#, r#""x""#),
            (r#"get_json_object('[{"b":1}]', '$[0].b')"#, "1"),
            (r#"get_json_object('{"a b": 1}', '$[''a b'']')"#, "1"),
            (r#"get_json_object('{"a": 1}', 'a')"#, "NULL"),
            (r#"from_json('{"a": 1, "b": "x"}', 'a INT, b STRING')"#, "{1, x}"),
            (r#"from_json('{"a": "y"}', 'struct<a: int>')"#, "{null}"),
            ("from_json(NULL, 'a INT')", "NULL"),
            ("from_json('[1, 2]', 'array<int>')", "[1, 2]"),
            (r#"from_json('{"k": 1}', 'map<string, int>')"#, "{k -> 1}"),
            (r#"from_json('[{"a": 1}, {"a": 2}]', 'array<struct<a: int>>')"#, "[{1}, {2}]"),
            (r#"from_json('{"a": 1}', 'array<struct<a: int>>')"#, "[{1}]"),
            (r#"from_json('{"d": "01/02/2024"}', 'd DATE', map('dateFormat', 'dd/MM/yyyy'))"#, "{2024-02-01}"),
            (r#"from_json('{"a": 1', 'a INT, _corrupt_record STRING')"#, r#"{null, {"a": 1}"#),
            (
                r#"from_json('{"a": 1, "b": "x"}', 'a INT, b INT, _corrupt_record STRING')"#,
                r#"{1, null, {"a": 1, "b": "x"}}"#,
            ),
            (r#"from_json('{"a": 1 "b": 2}', 'a INT, b INT')"#, "{null, null}"),
            (r#"from_json('{"a": 1, "a": 2} x', 'a INT')"#, "{2}"),
            (
                r#"from_json('{"t": 1704067200, "u": 1704067200.5}', 't TIMESTAMP, u TIMESTAMP')"#,
                "{2024-01-01 00:00:00, null}",
            ),
            (r#"from_json('{"n": 1704067200}', 'n TIMESTAMP_NTZ')"#, "{null}"),
            (
                r#"from_json('{"l": [1, "x"], "m": {"k": 1, "q": "x"}}', 'l ARRAY<INT>, m MAP<STRING, INT>')"#,
                "{null, null}",
            ),
            (r#"from_json('{"l": [{"x": 1}, {"x": "q"}]}', 'l ARRAY<STRUCT<x: INT>>')"#, "{[{1}, {null}]}"),
            (r#"from_json('{"l": [{"x": 1}, 7]}', 'l ARRAY<STRUCT<x: INT>>')"#, "{null}"),
            (r#"from_json('[1, 2', 'array<int>')"#, "NULL"),
            (r#"from_json('[1, 2] x', 'array<int>')"#, "[1, 2]"),
            (r#"from_json('5', 'a INT, _corrupt_record STRING')"#, "{null, 5}"),
            (
                r#"from_json('{"f": NaN, "g": -Infinity, "s": "NaN, Infinity"}', 'f DOUBLE, g DOUBLE, s STRING')"#,
                "{NaN, -Infinity, NaN, Infinity}",
            ),
            (r#"CAST(get_field(from_json('{"b": "YWJj"}', 'b BINARY'), 'b') AS STRING)"#, "abc"),
            (r#"get_json_object('{"a": 1', '$.a')"#, "NULL"),
            (r#"get_json_object('{"a": 1} x', '$.a')"#, "1"),
            ("from_json('{''a'': ''x''}', 'a STRING')", "{x}"),
            ("from_json('{a: 1}', 'a INT')", "{null}"),
            ("from_json('{a: 1}', 'a INT', map('allowUnquotedFieldNames', 'true'))", "{1}"),
            ("schema_of_json('{a: 1}', map('allowUnquotedFieldNames', 'true'))", "STRUCT<a: BIGINT>"),
            ("json_array_length('[1, 2]')", "2"),
            (r#"json_object_keys('{"b": 1, "a": 2}')"#, "[b, a]"),
            (r#"schema_of_json('{"a": 1, "b": [1.5]}')"#, "STRUCT<a: BIGINT, b: ARRAY<DOUBLE>>"),
            ("schema_of_json('[1]')", "ARRAY<BIGINT>"),
        ])
        .await;
    }

    #[tokio::test]
    async fn modes() {
        let malformed = Err("MALFORMED_RECORD_IN_PARSING");
        check(r#"from_json('{"a"', 'a INT', map('mode', 'FAILFAST'))"#, malformed, malformed).await;
    }

    #[tokio::test]
    async fn writing() {
        check_all(&[
            ("to_json(named_struct('a', 1, 'b', 'x\"y', 'c', NULL))", r#"{"a":1,"b":"x\"y"}"#),
            ("to_json(named_struct('c', NULL), map('ignoreNullFields', 'false'))", r#"{"c":null}"#),
            ("to_json(map('a', 1.50))", r#"{"a":1.50}"#),
            ("to_json(array(named_struct('a', 1), named_struct('a', 2)))", r#"[{"a":1},{"a":2}]"#),
            ("to_json(named_struct('t', to_timestamp('2024-01-02 03:04:05')))", r#"{"t":"2024-01-02T03:04:05.000Z"}"#),
            ("to_json(named_struct('d', DATE '2024-01-02'))", r#"{"d":"2024-01-02"}"#),
            ("to_json(named_struct('t', DATE '2024-01-02'), map('dateFormat', 'dd.MM.yyyy'))", r#"{"t":"02.01.2024"}"#),
            ("to_json(NULL)", "NULL"),
        ])
        .await;
    }
}
