//! Structures as Protobuf messages, one in each row: `from_protobuf`, `to_protobuf`.
//!
//! Messages are described by a set of file descriptors, as bytes or in a file that is read when a call is planned. The type of
//! the result depends on it and on options, so all of them are constants, and the calls that are run carry them.

mod decode;
mod descriptor;
mod encode;
mod types;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::{DataType, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

use super::form::{Env, Form, form};
use super::options::{self, Options};
use super::udf::{BINARY, Call, Function, Returns, function};
use crate::error::{Error, Result};
use crate::types::{canonical, sql_type_name};
use crate::values::{Value, build};
use descriptor::Pool;
use types::Settings;

pub(super) const FORMS: &[Form] =
    &[form(&["from_protobuf"], (2, 4), from_protobuf), form(&["to_protobuf"], (2, 4), to_protobuf)];

/// Bytes, the name of a message, a set of descriptors, and options as JSON.
const READ: Function = function(
    &["from_protobuf"],
    (4, 4),
    Returns::Values(|_, values| {
        let value = |i: usize| values.get(i).copied().flatten();
        let text = |i: usize| value(i).and_then(|value| value.try_as_str().flatten());
        let (Some(name), Some(ScalarValue::Binary(Some(set))), Some(given)) = (text(1), value(2), text(3)) else {
            return Err(Error::internal("a descriptor of Protobuf is not constant"));
        };
        let settings = Settings::new("from_protobuf", &options::from_text(given)?)?;
        let pool = Pool::parse(set)?;
        settings.data_type(&pool, pool.find(name)?)
    }),
    read,
);

/// A structure, the name of a message, and a set of descriptors.
const WRITE: Function = function(&["to_protobuf"], (3, 3), BINARY, write);

/// The constants of a call.
struct Given {
    message: String,
    set: Vec<u8>,
    options: Options,
}

impl Given {
    fn new(function: &str, args: &[Expr], env: Env<'_>) -> Result<Self> {
        let message = args.get(1).and_then(options::text).ok_or_else(|| {
            Error::user(format!("the name of the message of `{function}` must be a constant text"))
                .with_condition("DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT")
        })?;
        let set = match args.get(2) {
            Some(Expr::Literal(ScalarValue::Binary(Some(set)), _)) => set.clone(),
            Some(Expr::Literal(ScalarValue::LargeBinary(Some(set)) | ScalarValue::BinaryView(Some(set)), _)) => {
                set.clone()
            }
            Some(other) => match options::text(other) {
                Some(path) if !options::is_text(path) => file(path)?,
                _ => return Err(no_descriptor(function, message)),
            },
            None => return Err(no_descriptor(function, message)),
        };
        let options = match args.get(3) {
            Some(Expr::Literal(null, _)) if null.is_null() => Options::new(),
            Some(map) => options::constant(map, env)?,
            None => Options::new(),
        };
        Ok(Self { message: message.to_owned(), set, options })
    }
}

fn no_descriptor(function: &str, message: &str) -> Error {
    Error::unsupported(format!("`{function}` with the Java class `{message}`, or a registry of schemas"))
        .with_condition("CANNOT_LOAD_PROTOBUF_CLASS")
        .with_help("Give a set of descriptors as the third argument: the path of a file, or its bytes.")
}

fn file(path: &str) -> Result<Vec<u8>> {
    let local = path.strip_prefix("file://").or(path.strip_prefix("file:")).unwrap_or(path);
    std::fs::read(local).map_err(|error| {
        Error::user(format!("the Protobuf descriptor `{path}` cannot be read: {error}"))
            .with_condition("PROTOBUF_DESCRIPTOR_FILE_NOT_FOUND")
    })
}

fn from_protobuf(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let given = Given::new("from_protobuf", &args, env)?;
    let Some(data) = args.first() else { return Err(Error::internal("`from_protobuf` without a value")) };
    let found = env.type_of(data)?;
    if !matches!(found, DataType::Binary | DataType::Null) {
        return Err(Error::user(format!("`from_protobuf` takes BINARY, not {}", sql_type_name(&found)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
    }
    let pool = Pool::parse(&given.set)?;
    Settings::new("from_protobuf", &given.options)?.data_type(&pool, pool.find(&given.message)?)?;
    let set = ScalarValue::Binary(Some(given.set));
    Ok(READ.call(vec![data.clone(), lit(given.message), lit(set), lit(options::to_text(&given.options))]))
}

fn read(call: &Call<'_>) -> Result<ArrayRef> {
    let (pool, place) = constants(call)?;
    let given = call.constant_text(3).flatten().ok_or_else(|| Error::internal("options are not constant"))?;
    let settings = Settings::new("from_protobuf", &options::from_text(&given)?)?;
    let DataType::Struct(fields) = call.result() else { return Err(Error::internal("a message is a struct")) };
    let bytes = call.cast(0, &DataType::Binary)?;
    let value = |bytes: Option<&[u8]>| {
        let Some(bytes) = bytes else { return Ok(Value::Null) };
        match decode::decode(&pool, place, &settings, bytes, fields) {
            Ok(value) => Ok(value),
            Err(why) if settings.fail_fast => {
                Err(Error::data(format!("a value is not a Protobuf message of the type: {why}"))
                    .with_condition("MALFORMED_PROTOBUF_MESSAGE")
                    .with_help("With the option `mode` PERMISSIVE the fields of such a message are NULL."))
            }
            Err(_) => Ok(Value::empty_struct(fields)),
        }
    };
    build(bytes.as_binary::<i32>().iter().map(value).collect::<Result<_>>()?, call.result())
}

/// The descriptors of a call that is run, and the place of its message.
fn constants(call: &Call<'_>) -> Result<(Pool, usize)> {
    let (Some(Some(name)), Some(ScalarValue::Binary(Some(set)))) = (call.constant_text(1), call.constant(2)) else {
        return Err(Error::internal("a descriptor of Protobuf is not constant"));
    };
    let pool = Pool::parse(set)?;
    let place = pool.find(&name)?;
    Ok((pool, place))
}

fn structure<'t>(function: &str, found: &'t DataType) -> Result<&'t Fields> {
    crate::types::struct_fields(found).ok_or_else(|| {
        Error::user(format!("`{function}` takes a STRUCT, not {}", sql_type_name(found)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
    })
}

fn to_protobuf(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    if env.typing {
        return Ok(lit(ScalarValue::Binary(None)));
    }
    let given = Given::new("to_protobuf", &args, env)?;
    let Some(value) = args.first() else { return Err(Error::internal("`to_protobuf` without a value")) };
    let pool = Pool::parse(&given.set)?;
    let found = env.type_of(value)?;
    encode::check(&pool, pool.find(&given.message)?, structure("to_protobuf", &found)?)?;
    Ok(WRITE.call(vec![value.clone(), lit(given.message), lit(ScalarValue::Binary(Some(given.set)))]))
}

fn write(call: &Call<'_>) -> Result<ArrayRef> {
    let (pool, place) = constants(call)?;
    let values = call.array(0)?;
    let values = call.cast(0, &canonical(values.data_type()))?;
    let fields = structure("to_protobuf", values.data_type())?;
    let mut column = BinaryBuilder::new();
    for row in 0..values.len() {
        match Value::of(&values, row)? {
            Value::Struct(parts) => column.append_value(encode::encode(&pool, place, &parts, fields)?),
            _ => column.append_null(),
        }
    }
    Ok(Arc::new(column.finish()))
}

#[cfg(test)]
mod tests;
