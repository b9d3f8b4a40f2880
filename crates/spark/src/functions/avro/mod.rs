//! Values as Avro, one in each row, without a header: `from_avro`, `to_avro`, `schema_of_avro`.
//!
//! The type of the result depends on a schema and on options, so both are constants, and the calls that are run carry them as
//! text. Bytes that are no value of the schema are an error, whatever they are.

mod decode;
mod encode;
mod schema;
mod types;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

use super::form::{Env, Form, form};
use super::options::{self, Options};
use super::udf::{BINARY, Call, Function, Returns, function};
use crate::error::{Error, Result};
use crate::types::{canonical, map_of, sql_type_name};
use crate::values::{Value, build};
use decode::Decoder;
use schema::Schema;
use types::Shape;

pub(super) const FORMS: &[Form] = &[
    form(&["from_avro"], (2, 3), from_avro),
    form(&["to_avro"], (1, 2), to_avro),
    form(&["schema_of_avro"], (1, 2), |args, env| {
        let schema = constant("schema_of_avro", args.first())?;
        let given = args.get(1).map(|map| given("schema_of_avro", map, env)).transpose()?.unwrap_or_default();
        if env.typing {
            return Ok(lit(""));
        }
        Ok(lit(sql_type_name(&Settings::new("schema_of_avro", &given)?.data_type(schema)?)))
    }),
];

/// Bytes, the schema they were written by, and options as JSON.
const READ: Function = function(
    &["from_avro"],
    (3, 3),
    Returns::Values(|_, values| {
        let (schema, given) = (text_of(values, 1)?, options::from_text(text_of(values, 2)?)?);
        Settings::new("from_avro", &given)?.data_type(schema)
    }),
    read,
);

/// A value, and the schema it is written by.
const WRITE: Function = function(&["to_avro"], (2, 2), BINARY, write);

fn text_of<'v>(values: &[Option<&'v ScalarValue>], i: usize) -> Result<&'v str> {
    let value = values.get(i).copied().flatten().and_then(|value| value.try_as_str().flatten());
    value.ok_or_else(|| Error::internal("a schema of Avro is not constant"))
}

fn constant<'e>(function: &str, arg: Option<&'e Expr>) -> Result<&'e str> {
    arg.and_then(options::text).ok_or_else(|| {
        Error::user(format!("the schema of `{function}` must be a constant text"))
            .with_condition("DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT")
            .with_help("Write the JSON form of the Avro schema as a text.")
    })
}

/// The options of a call. Databricks takes the address of a registry of schemas in their place.
fn given(function: &str, arg: &Expr, env: Env<'_>) -> Result<Options> {
    match options::text(arg) {
        Some(address) if !options::is_text(address) => {
            Err(Error::unsupported(format!("`{function}` with a registry of schemas (`{address}`)"))
                .with_help("Give the schema itself as JSON. The registry's header of 5 bytes is not part of the value: substring(value, 6)."))
        }
        _ => options::constant(arg, env),
    }
}

/// How values are read.
struct Settings {
    fail_fast: bool,
    /// The schema that values are wanted by, if not the one they were written by.
    evolved: Option<String>,
    shape: Shape,
}

impl Settings {
    fn new(function: &str, given: &Options) -> Result<Self> {
        for name in given.keys() {
            if name == "avroschemaurl" || name.contains("schemaregistry") || name.starts_with("confluent.") {
                return Err(Error::unsupported(format!("the option `{name}` of `{function}`"))
                    .with_help("Give the schema itself as JSON."));
            }
        }
        if given.get("datetimerebasemode").is_some_and(|mode| mode.eq_ignore_ascii_case("LEGACY")) {
            return Err(Error::unsupported(format!("the calendar before 1582 (`datetimeRebaseMode`) in `{function}`")));
        }
        let mode = given.get("mode").map_or("FAILFAST", String::as_str);
        if mode.eq_ignore_ascii_case("DROPMALFORMED") {
            return Err(Error::user(format!("`{function}` has no mode `{mode}`"))
                .with_condition("PARSE_MODE_UNSUPPORTED")
                .with_help("Use PERMISSIVE or FAILFAST."));
        }
        let fail_fast = mode.eq_ignore_ascii_case("FAILFAST");
        let stable = options::is_on(given, "enablestableidentifiersforuniontype", false);
        let prefix = given.get("stableidentifierprefixforuniontype").map_or("member_", String::as_str);
        let levels =
            match given.get("recursivefieldmaxdepth") {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    Error::user(format!("the option `recursiveFieldMaxDepth` is a number, not `{text}`"))
                })?),
            };
        let shape = Shape { stable_prefix: stable.then(|| prefix.to_owned()), levels, nullable: !fail_fast };
        Ok(Self { fail_fast, evolved: given.get("avroschema").cloned(), shape })
    }

    fn data_type(&self, schema: &str) -> Result<DataType> {
        self.shape.data_type(&Schema::parse(self.evolved.as_deref().unwrap_or(schema))?)
    }
}

fn from_avro(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let schema = constant("from_avro", args.get(1))?;
    let given = args.get(2).map(|map| given("from_avro", map, env)).transpose()?.unwrap_or_default();
    let Some(data) = args.first() else { return Err(Error::internal("`from_avro` without a value")) };
    let found = env.type_of(data)?;
    if !matches!(found, DataType::Binary | DataType::Null) {
        return Err(Error::user(format!("`from_avro` takes BINARY, not {}", sql_type_name(&found)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
    }
    Settings::new("from_avro", &given)?.data_type(schema)?;
    Ok(READ.call(vec![data.clone(), lit(schema), lit(options::to_text(&given))]))
}

fn read(call: &Call<'_>) -> Result<ArrayRef> {
    let of = |i: usize| call.constant_text(i).flatten().ok_or_else(|| Error::internal("a schema is not constant"));
    let (written, given) = (of(1)?, options::from_text(&of(2)?)?);
    let settings = Settings::new("from_avro", &given)?;
    let writer = Schema::parse(&written)?;
    let evolved = settings.evolved.as_deref().map(Schema::parse).transpose()?;
    let decoder = Decoder { writer: &writer, reader: evolved.as_ref().unwrap_or(&writer), shape: &settings.shape };
    let bytes = call.cast(0, &DataType::Binary)?;
    let value = |bytes: Option<&[u8]>| {
        let Some(bytes) = bytes else { return Ok(Value::Null) };
        match (decoder.decode(bytes, call.result()), call.result()) {
            (Ok(value), _) => Ok(value),
            (Err(why), _) if settings.fail_fast => {
                Err(Error::data(format!("a value is not Avro of the schema: {why}"))
                    .with_condition("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION")
                    .with_help("With the option `mode` PERMISSIVE such values are NULL."))
            }
            (Err(_), DataType::Struct(fields)) => Ok(Value::empty_struct(fields)),
            (Err(_), _) => Ok(Value::Null),
        }
    };
    build(bytes.as_binary::<i32>().iter().map(value).collect::<Result<_>>()?, call.result())
}

fn to_avro(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let Some(value) = args.first() else { return Err(Error::internal("`to_avro` without a value")) };
    if env.typing {
        return Ok(lit(ScalarValue::Binary(None)));
    }
    let (data_type, nullable) = known_type(value, env)?;
    let schema = match args.get(1) {
        Some(Expr::Literal(null, _)) if null.is_null() => types::schema_of(&data_type, nullable)?.to_string(),
        Some(schema) => constant("to_avro", Some(schema))?.to_owned(),
        None => types::schema_of(&data_type, nullable)?.to_string(),
    };
    encode::check(&Schema::parse(&schema)?, &data_type)?;
    Ok(WRITE.call(vec![value.clone(), lit(schema)]))
}

/// The type of an expression and whether it may be NULL, as Spark has them: what is put together is not NULL.
fn known_type(expr: &Expr, env: Env<'_>) -> Result<(DataType, bool)> {
    match expr {
        Expr::Alias(alias) => known_type(&alias.expr, env),
        Expr::ScalarFunction(call) if call.func.name() == "named_struct" => {
            let (pairs, _) = call.args.as_chunks::<2>();
            let field = |[name, value]: &[Expr; 2]| {
                let (data_type, nullable) = known_type(value, env)?;
                Ok(Field::new(options::text(name).unwrap_or_default(), data_type, nullable))
            };
            Ok((DataType::Struct(pairs.iter().map(field).collect::<Result<_>>()?), false))
        }
        Expr::ScalarFunction(call) => {
            let parts = match (call.func.name(), call.args.as_slice()) {
                ("make_array" | "array", items) => items.to_vec(),
                // DataFusion's own form: the keys and the values as two arrays.
                ("map" | "make_map", [Expr::ScalarFunction(_), Expr::ScalarFunction(values)]) => values.args.clone(),
                ("map" | "make_map" | "map_value", pairs) => pairs.iter().skip(1).step_by(2).cloned().collect(),
                _ => Vec::new(),
            };
            let data_type = canonical(&expr.get_type(env.schema)?);
            if parts.is_empty() {
                return Ok((data_type, expr.nullable(env.schema)?));
            }
            let mut nullable = false;
            for part in &parts {
                nullable |= known_type(part, env)?.1;
            }
            Ok((with_items(data_type, nullable), false))
        }
        other => Ok((canonical(&other.get_type(env.schema)?), other.nullable(env.schema)?)),
    }
}

/// A list or a map whose items may be NULL, or not.
fn with_items(data_type: DataType, nullable: bool) -> DataType {
    match data_type {
        DataType::List(item) => DataType::List(Arc::new(item.as_ref().clone().with_nullable(nullable))),
        DataType::Map(ref entries, _) => match types::pair(entries).map(|(key, value)| (key.clone(), value.clone())) {
            Ok((key, value)) => map_of(key, value.with_nullable(nullable)),
            Err(_) => data_type,
        },
        other => other,
    }
}

/// A NULL is NULL, whatever the schema has for it.
fn write(call: &Call<'_>) -> Result<ArrayRef> {
    let schema = call.constant_text(1).flatten().ok_or_else(|| Error::internal("a schema is not constant"))?;
    let schema = Schema::parse(&schema)?;
    let values = call.array(0)?;
    let values = call.cast(0, &canonical(values.data_type()))?;
    let mut column = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            column.append_null();
            continue;
        }
        bytes.clear();
        encode::write(&schema, &Value::of(&values, row)?, values.data_type(), &mut bytes)?;
        column.append_value(&bytes);
    }
    Ok(Arc::new(column.finish()))
}

#[cfg(test)]
mod tests;
