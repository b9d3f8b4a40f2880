//! Structures as XML text, and back: `from_xml`, `to_xml`, `schema_of_xml`.

mod document;
mod infer;
mod options;
mod read;
mod write;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

use super::form::{Env, Form, form};
use super::udf::{Call, Function, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::types::{array, holds_variant, is_variant, sql_type_name};
use crate::values::{Value, build};
pub(super) use document::{Document, Kind, NodeId};
use options::Options;

pub(super) const FORMS: &[Form] = &[form(&["schema_of_xml"], (1, 2), schema_of_xml)];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["from_xml"], (2, 3), Returns::Values(struct_type), from_xml),
    function(&["to_xml"], (1, 2), TEXT, to_xml),
];

fn not_text(function: &str, found: &DataType) -> Error {
    Error::user(format!("`{function}` takes XML text, not {}", sql_type_name(found)))
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

/// The type with fields that may be NULL, at any depth.
fn nullable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| {
                field.as_ref().clone().with_data_type(nullable(field.data_type())).with_nullable(true)
            };
            DataType::Struct(fields.iter().map(field).collect::<Fields>())
        }
        DataType::List(item) => array(nullable(item.data_type())),
        other => other.clone(),
    }
}

fn struct_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    if let Some(found) = types.first().filter(|found| !found.is_string() && !found.is_null()) {
        return Err(not_text("from_xml", found));
    }
    let schema = super::options::schema("from_xml", values)?;
    if holds_variant(&schema) {
        return Err(Error::unsupported("reading a VARIANT from XML")
            .with_help("Give the fields of the elements in the schema."));
    }
    match schema {
        DataType::Struct(_) => Ok(nullable(&schema)),
        other => Err(Error::user(format!("the schema of `from_xml` must be a struct, not {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.INVALID_XML_SCHEMA")),
    }
}

/// PERMISSIVE: a row that does not fit is there, but the fields from the one that does not are NULL.
fn from_xml(call: &Call<'_>) -> Result<ArrayRef> {
    let options = Options::new(&super::options::of_call(call, 2)?, call.tz())?;
    options.refuse_other_modes("from_xml")?;
    let DataType::Struct(fields) = call.result() else { return Err(Error::internal("`from_xml` gives a struct")) };
    let texts = call.text(0)?;
    let corrupt = fields.find(&options.corrupt_column).filter(|(_, field)| field.data_type() == &DataType::Utf8);
    let row = |text: Option<&str>| {
        let Some(text) = text else { return Ok(Value::Null) };
        let found = Document::parse_first(text).ok().map(|document| read::row(&document, fields, &options));
        let mut values = match found {
            Some(Ok(values)) => return Ok(Value::Struct(values)),
            _ if options.fail_fast => {
                return Err(Error::data(format!("`{text}` is not XML of the schema"))
                    .with_condition("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION")
                    .with_help("In the mode PERMISSIVE the fields of such a row are NULL."));
            }
            Some(Err(before)) => before,
            None => vec![Value::Null; fields.len()],
        };
        if let Some((at, _)) = corrupt {
            values[at] = Value::Text(text.to_owned());
        }
        Ok(Value::Struct(values))
    };
    build(texts.iter().map(row).collect::<Result<_>>()?, call.result())
}

fn to_xml(call: &Call<'_>) -> Result<ArrayRef> {
    let values = call.array(0)?;
    if !matches!(values.data_type(), DataType::Struct(_) | DataType::Null) || is_variant(values.data_type()) {
        return Err(Error::user(format!("`to_xml` cannot write {}", sql_type_name(values.data_type())))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help("Give it a STRUCT."));
    }
    let options = Options::new(&super::options::of_call(call, 1)?, call.tz())?;
    let text = |row: usize| match values.is_null(row) || values.data_type() == &DataType::Null {
        true => Ok(None),
        false => write::row(&values, row, &options).map(Some),
    };
    Ok(Arc::new((0..call.rows()).map(text).collect::<Result<StringArray>>()?))
}

fn schema_of_xml(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let Some(sample) = args.first() else { return Err(Error::internal("`schema_of_xml` without a sample")) };
    let Some(text) = super::options::text(sample) else {
        let found = env.type_of(sample)?;
        return Err(match sample {
            Expr::Literal(value, _) if value.is_null() => {
                Error::user("the sample of `schema_of_xml` is NULL").with_condition("DATATYPE_MISMATCH.UNEXPECTED_NULL")
            }
            _ if !found.is_string() => not_text("schema_of_xml", &found),
            _ => Error::user("the argument of `schema_of_xml` must be a constant text")
                .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"),
        });
    };
    let given = args.get(1).map(|map| super::options::of_expr(map, env)).transpose()?.unwrap_or_default();
    if env.typing {
        return Ok(lit(""));
    }
    Ok(lit(schema_of(text, &given, env.conf.time_zone)?))
}

/// What `schema_of_xml` gives for a sample.
pub(super) fn schema_of(sample: &str, given: &super::options::Options, tz: chrono_tz::Tz) -> Result<String> {
    let options = Options::new(given, tz)?;
    options.refuse_other_modes("schema_of_xml")?;
    match Document::parse_first(sample) {
        Ok(document) => Ok(sql_type_name(&infer::schema(&document, &options))),
        Err(error) if options.fail_fast => Err(Error::data(format!("`{sample}` is not XML: {}", error.message()))
            .with_condition("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION")),
        Err(_) => Ok(format!("STRUCT<{}: STRING>", crate::types::quote(&options.corrupt_column))),
    }
}

#[cfg(test)]
mod tests;
