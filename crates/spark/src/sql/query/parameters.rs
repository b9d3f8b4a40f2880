//! Parameters of a query: `:name` and `?` in the text, their values beside it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use sqlparser::ast::{Expr, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut};
use sqlparser::tokenizer::Location;

use super::SqlQuery;
use crate::cast::{CastMode, cast_array};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::sql::tokens::Source;
use crate::types::{quote, sql_type_name};

/// The values of parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Of `:name`.
    pub named: HashMap<String, ScalarValue>,
    /// Of the `?`, in the order of the text.
    pub positional: Vec<ScalarValue>,
}

impl Parameters {
    /// Puts the values into a query.
    ///
    /// # Errors
    /// `UNBOUND_SQL_PARAMETER` (`User`) for a parameter without a value.
    pub fn bind(&self, query: &mut SqlQuery) -> Result<()> {
        let mut found = Found::default();
        let _: ControlFlow<()> = Visit::visit(&query.query, &mut found);
        found.0.sort_unstable();
        let named = self.named.iter().map(|(name, value)| Ok((name.clone(), expression(value)?)));
        let mut binder = Binder {
            marks: found.0,
            named: named.collect::<Result<_>>()?,
            positional: self.positional.iter().map(expression).collect::<Result<_>>()?,
        };
        match VisitMut::visit(&mut query.query, &mut binder) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(name) => Err(Error::user(format!("parameter `{name}` has no value"))
                .with_condition("UNBOUND_SQL_PARAMETER")
                .with_parameter("name", name)
                .at(query.location.clone())),
        }
    }
}

fn placeholder(expr: &Expr) -> Option<(&str, Location)> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) => Some((name, span.start)),
        _ => None,
    }
}

/// Where the `?` are.
#[derive(Default)]
struct Found(Vec<(u64, u64)>);

impl Visitor for Found {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Some(("?", at)) = placeholder(expr) {
            self.0.push((at.line, at.column));
        }
        ControlFlow::Continue(())
    }
}

struct Binder {
    marks: Vec<(u64, u64)>,
    named: HashMap<String, Expr>,
    positional: Vec<Expr>,
}

impl VisitorMut for Binder {
    type Break = String;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        let Some((name, at)) = placeholder(expr) else { return ControlFlow::Continue(()) };
        let value = match name.strip_prefix(':') {
            Some(name) => self.named.get(name),
            None => {
                let position = self.marks.iter().position(|mark| *mark == (at.line, at.column));
                position.and_then(|position| self.positional.get(position))
            }
        };
        match value.cloned() {
            Some(value) => {
                *expr = value;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(name.trim_start_matches(':').to_owned()),
        }
    }
}

/// A value as an expression of the syntax tree.
fn expression(value: &ScalarValue) -> Result<Expr> {
    let location = SourceLocation::new("<parameter>", 1, 1);
    let text = literal(value)?;
    let source = Source::new(&text, &location);
    let expr = source.parser()?.parse_expr().map_err(|error| source.error(&error))?;
    Ok(Expr::Nested(Box::new(expr)))
}

/// A value as Spark SQL.
fn literal(value: &ScalarValue) -> Result<String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let elements = |array: &arrow::array::ArrayRef| -> Result<Vec<String>> {
        (0..array.len()).map(|i| literal(&ScalarValue::try_from_array(array, i)?)).collect()
    };
    Ok(match value {
        _ if value.is_null() => match value.data_type() {
            DataType::Null => "NULL".to_owned(),
            data_type => format!("CAST(NULL AS {})", sql_type_name(&data_type)),
        },
        ScalarValue::Utf8(Some(text)) => quoted(text),
        ScalarValue::Boolean(Some(value)) => value.to_string(),
        ScalarValue::Binary(Some(bytes)) => {
            format!("X'{}'", bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
        }
        ScalarValue::List(list) => {
            format!("CAST(array({}) AS {})", elements(&list.value(0))?.join(", "), sql_type_name(&value.data_type()))
        }
        ScalarValue::Map(map) => {
            let (keys, values) = (elements(map.keys())?, elements(map.values())?);
            let pairs: Vec<_> = keys.into_iter().zip(values).map(|(key, value)| format!("{key}, {value}")).collect();
            format!("map({})", pairs.join(", "))
        }
        ScalarValue::Struct(fields) => {
            let mut parts = Vec::new();
            for (field, column) in fields.fields().iter().zip(fields.columns()) {
                parts.push(format!(
                    "{} AS {}",
                    literal(&ScalarValue::try_from_array(column, 0)?)?,
                    quote(field.name())
                ));
            }
            format!("struct({})", parts.join(", "))
        }
        other => {
            let text = cast_array(&other.to_array()?, &DataType::Utf8, CastMode::Lenient, chrono_tz::UTC)?;
            let text = arrow::array::AsArray::as_string::<i32>(&text).value(0).to_owned();
            // An instant is written in UTC, whatever the session's time zone is.
            let zone = if matches!(other.data_type(), DataType::Timestamp(_, Some(_))) { "Z" } else { "" };
            format!("CAST('{text}{zone}' AS {})", sql_type_name(&other.data_type()))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sql::query::parse_query;

    fn bound(text: &str, parameters: &Parameters) -> Result<String> {
        let mut query = parse_query(text, &SourceLocation::new("<sql>", 1, 1))?;
        parameters.bind(&mut query)?;
        Ok(query.query.to_string())
    }

    #[test]
    fn values_take_the_place_of_parameters() {
        let named = HashMap::from([("x".to_owned(), ScalarValue::from("it's"))]);
        let parameters = Parameters { named, positional: vec![ScalarValue::from(1_i32), ScalarValue::from(2_i32)] };
        assert_eq!(bound("SELECT :x", &parameters).unwrap(), "SELECT ('it''s')");
        assert_eq!(
            bound("SELECT ? WHERE a > ?", &parameters).unwrap(),
            "SELECT (CAST('1' AS INT)) WHERE a > (CAST('2' AS INT))"
        );
    }

    #[test]
    fn a_parameter_without_a_value_is_named() {
        let error = bound("SELECT :y", &Parameters::default()).unwrap_err();
        assert_eq!(error.condition(), Some("UNBOUND_SQL_PARAMETER"));
        assert!(error.message().contains("`y`"));
    }
}
