//! `format_string`: DataFusion formats as C does; Java prints numbers as text as Spark casts them, and rounds halves up.

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, lit};
use datafusion_spark::function::string as spark;

use super::form::{Env, Form, form};
use super::math::ROUND;
use super::options;
use super::udf::ANY;
use crate::error::{Error, Result};

pub(super) const FORMS: &[Form] = &[form(&["format_string", "printf"], (1, ANY), format_string)];

/// The digits after the point of a conversion `f` that does not say how many.
const DIGITS: i32 = 6;

/// `%[argument$][flags][width][.precision]conversion`
#[derive(Debug, PartialEq, Eq)]
struct Conversion {
    /// From 0.
    argument: usize,
    precision: Option<i32>,
    letter: char,
}

fn format_string(mut args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let conversions = args.first().and_then(options::text).map(conversions);
    for (i, arg) in args.iter_mut().enumerate().skip(1) {
        let data_type = env.type_of(arg)?;
        let is_decimal = matches!(data_type, DataType::Decimal128(..));
        let Some(conversions) = &conversions else {
            if is_decimal {
                return Err(Error::unsupported("a DECIMAL argument of `format_string` if the format is no constant")
                    .with_help("Cast it to STRING or DOUBLE."));
            }
            continue;
        };
        let mut of_arg = conversions.iter().filter(|conversion| conversion.argument + 1 == i);
        let (Some(conversion), None) = (of_arg.next(), of_arg.next()) else { continue };
        let value = std::mem::replace(arg, lit(true));
        *arg = match conversion.letter.to_ascii_lowercase() {
            's' if is_decimal || data_type.is_floating() => env.cast(value, &DataType::Utf8)?,
            'f' if is_decimal || data_type.is_floating() => {
                let digits = conversion.precision.unwrap_or(DIGITS);
                env.cast(ROUND.call(vec![value, lit(digits)]), &DataType::Float64)?
            }
            _ => value,
        };
    }
    if let Some(format) = args.first_mut() {
        let text = std::mem::replace(format, lit(true));
        *format = env.cast(text, &DataType::Utf8)?;
    }
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(spark::format_string(), args)))
}

/// What a format converts; `%%` and `%n` take no argument.
fn conversions(format: &str) -> Vec<Conversion> {
    let mut found = Vec::new();
    let mut next = 0;
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        let Some(end) = after.find(|c: char| c.is_ascii_alphabetic() || c == '%') else { break };
        let (spec, letter) = after.split_at(end);
        let letter = letter.chars().next().unwrap_or('%');
        rest = &after[end + 1..];
        if matches!(letter, '%' | 'n') {
            continue;
        }
        let (position, spec) = spec.split_once('$').map_or((None, spec), |(at, spec)| (at.parse::<usize>().ok(), spec));
        let argument = position.map_or(next, |at| at.saturating_sub(1));
        if position.is_none() {
            next += 1;
        }
        let precision = spec.rsplit_once('.').and_then(|(_, digits)| digits.parse().ok());
        found.push(Conversion { argument, precision, letter });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::check_all;

    #[test]
    fn formats_are_taken_apart() {
        let conversion = |argument, precision, letter| Conversion { argument, precision, letter };
        assert_eq!(
            conversions("100%% %s|%-8.2f|%2$05d|%n%,.1f"),
            [
                conversion(0, None, 's'),
                conversion(1, Some(2), 'f'),
                conversion(1, None, 'd'),
                conversion(2, Some(1), 'f'),
            ]
        );
    }

    #[tokio::test]
    async fn numbers_are_javas() {
        check_all(&[
            ("format_string('%s EUR', CAST(1.50 AS DECIMAL(5, 2)))", "1.50 EUR"),
            ("printf('%s', CAST(2 AS DOUBLE))", "2.0"),
            ("printf('%.2f', CAST(1.005 AS DOUBLE))", "1.01"),
            ("printf('%.1f', CAST(0.25 AS DOUBLE))", "0.3"),
            ("printf('%.0f', CAST(2.5 AS DOUBLE))", "3"),
            ("printf('%.2f', CAST(1.255 AS DECIMAL(5, 3)))", "1.26"),
            ("printf('%f', CAST(NULL AS DOUBLE))", "null"),
            ("format_string('%5d|%s', 7, 'x')", "    7|x"),
        ])
        .await;
    }
}
