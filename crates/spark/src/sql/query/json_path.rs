//! `value:path`, what Databricks and Spark have for JSON text and VARIANT.

use sqlparser::ast::{Expr, JsonPath, JsonPathElem, Value};

/// `:a.b[0]['c d']` as `$.a.b[0]['c d']`.
pub(super) fn text(path: &JsonPath) -> String {
    let mut text = "$".to_owned();
    for step in &path.path {
        match key(step) {
            Ok(name) if name.contains(['.', '[', '\'']) => {
                let quote = if name.contains('\'') { '"' } else { '\'' };
                text.extend(["[", &format!("{quote}{name}{quote}"), "]"]);
            }
            Ok(name) => text.extend([".", name]),
            Err(index) => text.extend(["[", &index.to_string(), "]"]),
        }
    }
    text
}

/// The name of the column that holds what the path leads to: the last name in it.
pub(super) fn name(path: &JsonPath) -> String {
    path.path.iter().rev().find_map(|step| key(step).ok()).unwrap_or_default().to_owned()
}

/// The name of a field, or the index that stands there instead.
fn key(step: &JsonPathElem) -> Result<&str, &Expr> {
    match step {
        JsonPathElem::Dot { key, .. } => Ok(key),
        JsonPathElem::Bracket { key } | JsonPathElem::ColonBracket { key } => match key {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(name) | Value::DoubleQuotedString(name) => Ok(name),
                _ => Err(key),
            },
            _ => Err(key),
        },
    }
}
