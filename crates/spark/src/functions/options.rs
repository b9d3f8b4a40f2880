//! The options of `from_json`, `to_csv` and their kin: a map of constants.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::form::Env;
use super::udf::Call;
use crate::error::{Error, Result};
use crate::types::{data_type_from_json, parse_data_type, parse_schema};

/// Options by their names in lower case.
pub(super) type Options = BTreeMap<String, String>;

fn not_a_map() -> Error {
    Error::user("options must be a `map` of constants").with_condition("INVALID_OPTIONS.NON_MAP_FUNCTION")
}

/// The options in argument `i` of a call; none if there is no such argument.
pub(super) fn of_call(call: &Call<'_>, i: usize) -> Result<Options> {
    let mut found = Options::new();
    if call.len() <= i || call.rows() == 0 {
        return Ok(found);
    }
    let given = call.array(i)?;
    if let DataType::Map(entries, _) = given.data_type() {
        let plain = |found: &DataType| found.is_string() || found.is_null();
        let texts = crate::types::struct_fields(entries.data_type());
        if !texts.is_some_and(|fields| fields.iter().all(|field| plain(field.data_type()))) {
            return Err(Error::user("the names and the values of options must be texts")
                .with_condition("INVALID_OPTIONS.NON_STRING_TYPE"));
        }
    } else if !given.data_type().is_null() {
        return Err(not_a_map());
    }
    let given = call.cast(i, &crate::types::map(DataType::Utf8, DataType::Utf8))?;
    if given.is_null(0) {
        return Ok(found);
    }
    let pairs = given.as_map().value(0);
    let (names, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_string::<i32>());
    for (name, value) in names.iter().zip(values) {
        if let (Some(name), Some(value)) = (name, value) {
            found.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    Ok(found)
}

/// The options that an expression `map('k', 'v', …)` stands for, before anything is run; none if only a type is
/// asked for.
pub(super) fn of_expr(expr: &Expr, env: Env<'_>) -> Result<Options> {
    if env.typing {
        return Ok(Options::new());
    }
    let not_constant = not_a_map;
    let Expr::ScalarFunction(map) = expr else { return Err(not_constant()) };
    let texts =
        |args: &[Expr]| -> Option<Vec<String>> { args.iter().map(|arg| text(arg).map(str::to_owned)).collect() };
    let pairs: Vec<(String, String)> = match map.args.as_slice() {
        // DataFusion's own form: the keys and the values as two arrays.
        [Expr::ScalarFunction(keys), Expr::ScalarFunction(values)] if map.func.name() != "map_value" => {
            let (keys, values) = (texts(&keys.args), texts(&values.args));
            keys.ok_or_else(not_constant)?.into_iter().zip(values.ok_or_else(not_constant)?).collect()
        }
        args => {
            let (pairs, _) = args.as_chunks::<2>();
            let pair = |[key, value]: &[Expr; 2]| Some((text(key)?.to_owned(), text(value)?.to_owned()));
            pairs.iter().map(pair).collect::<Option<_>>().ok_or_else(not_constant)?
        }
    };
    Ok(pairs.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect())
}

/// The options that an argument stands for: a map, or the JSON text that a planner has made of one.
pub(super) fn constant(expr: &Expr, env: Env<'_>) -> Result<Options> {
    match text(expr) {
        Some(json) if is_text(json) => from_text(json),
        _ => of_expr(expr, env),
    }
}

/// Options as JSON text, for functions whose type depends on them: a constant is known where calls are given their types.
pub(super) fn to_text(options: &Options) -> String {
    serde_json::json!(options).to_string()
}

/// Options from the text that [`to_text`] makes of them.
pub(super) fn from_text(text: &str) -> Result<Options> {
    let given: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
        Error::user(format!("options must be a `map` of texts: {error}"))
            .with_condition("INVALID_OPTIONS.NON_STRING_TYPE")
    })?;
    Ok(given.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
}

/// Whether a text is one that [`to_text`] makes.
pub(super) fn is_text(text: &str) -> bool {
    text.starts_with('{')
}

/// The text of a constant.
pub(super) fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Alias(alias) => text(&alias.expr),
        _ => None,
    }
}

/// Whether an option is on.
pub(super) fn is_on(options: &Options, name: &str, otherwise: bool) -> bool {
    options.get(name).map_or(otherwise, |value| value.eq_ignore_ascii_case("true"))
}

/// The schema argument of `from_json`, `from_csv` and `from_xml`: DDL text, a type, or Spark's JSON form.
pub(super) fn schema(function: &str, values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let text = values.get(1).copied().flatten().and_then(|value| value.try_as_str().flatten());
    let Some(text) = text else {
        return Err(Error::user(format!("the schema of `{function}` must be a constant"))
            .with_condition("INVALID_SCHEMA.NON_STRING_LITERAL")
            .with_help("Write the schema as DDL text, such as 'a INT, b STRING'."));
    };
    if text.trim_start().starts_with(['{', '"']) {
        let value = serde_json::from_str(text)
            .map_err(|error| Error::user(error.to_string()).with_condition("INVALID_JSON_SCHEMA"))?;
        return data_type_from_json(&value);
    }
    parse_data_type(text).or_else(|_| Ok(DataType::Struct(parse_schema(text)?.fields().clone())))
}
