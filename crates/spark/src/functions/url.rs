//! URLs: their parts, and their escapes.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion_spark::function::url;

use super::form::{Env, Form, Want, form, wraps};
use super::udf::{Call, Function, TEXT, function};
use crate::error::{Error, Result};

pub(super) const FORMS: &[Form] = &[
    wraps(&["url_encode"], url::url_encode, &[Want::Text], None),
    wraps(&["url_decode"], url::url_decode, &[Want::Text], None),
    form(&["parse_url"], (2, 3), |args, env| parsed_url(args, env, env.conf.ansi)),
    form(&["try_parse_url"], (2, 3), |args, env| parsed_url(args, env, false)),
];

/// `parse_url(url, part[, key])`: what is no URL is an error or NULL.
fn parsed_url(args: Vec<Expr>, env: Env<'_>, strict: bool) -> Result<Expr> {
    let mut args = args.into_iter().map(|arg| env.cast(arg, &DataType::Utf8)).collect::<Result<Vec<_>>>()?;
    let valid = if strict { VALID_URL } else { TRY_VALID_URL };
    args[0] = valid.call(vec![args[0].clone()]);
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(url::try_parse_url(), args)))
}

const VALID_URL: Function = function(&["valid_url"], (1, 1), TEXT, |c| valid_urls(c, true));
const TRY_VALID_URL: Function = function(&["try_valid_url"], (1, 1), TEXT, |c| valid_urls(c, false));

/// The texts that have only the characters a URI may have (RFC 2396, and letters of any script as in Java).
fn valid_urls(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let valid = |url: &str| {
        let escaped = |at: usize| url.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()));
        url.char_indices().all(|(at, c)| match c {
            '%' => escaped(at),
            c if c.is_ascii() => !c.is_ascii_control() && !r#" "<>\^`{|}"#.contains(c),
            c => !c.is_control() && !c.is_whitespace(),
        })
    };
    let checked = |url: Option<&str>| match url {
        Some(url) if !valid(url) && strict => Err(Error::data(format!("`{url}` is not a URL"))
            .with_condition("INVALID_URL")
            .with_help("Use `try_parse_url` to get NULL instead.")),
        url => Ok(url.filter(|url| valid(url)).map(str::to_owned)),
    };
    Ok(Arc::new(call.text(0)?.iter().map(checked).collect::<Result<StringArray>>()?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("url_encode('https://x y')", "https%3A%2F%2Fx+y"),
            ("parse_url('https://host.com:80/p?x=1&y=a%20b', 'HOST')", "host.com"),
            ("parse_url('https://host.com:80/p?x=1&y=a%20b', 'QUERY', 'y')", "a%20b"),
            ("try_parse_url('not a url', 'HOST')", "NULL"),
        ])
        .await;
        check("parse_url('not a url', 'PATH')", Ok("NULL"), Err("INVALID_URL")).await;
        check("parse_url('http://h/100%', 'PATH')", Ok("NULL"), Err("INVALID_URL")).await;
    }
}
