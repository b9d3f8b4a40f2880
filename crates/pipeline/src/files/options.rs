//! The options of writers that have a meaning here.

use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};

const COMPRESSION: [&str; 2] = ["compression", "codec"];

/// The options of one format besides [`COMPRESSION`].
fn known(format: &str) -> &'static [&'static str] {
    match format {
        "csv" => &[
            "dateFormat",
            "delimiter",
            "emptyValue",
            "encoding",
            "charset",
            "escape",
            "escapeQuotes",
            "header",
            "ignoreLeadingWhiteSpace",
            "ignoreTrailingWhiteSpace",
            "lineSep",
            "nullValue",
            "quote",
            "quoteAll",
            "sep",
            "timestampFormat",
            "timestampNTZFormat",
        ],
        "json" => &["dateFormat", "encoding", "charset", "ignoreNullFields", "lineSep", "timestampFormat"],
        "text" => &["encoding", "charset", "lineSep"],
        _ => &[],
    }
}

/// Refuses options that a writer of `format` does not know; `others` are known to who asks.
///
/// # Errors
/// `Unsupported`.
pub(crate) fn check(format: &str, options: &ReadOptions, others: &[&str]) -> Result<()> {
    let all = || known(format).iter().chain(&COMPRESSION);
    let is_known = |key: &str| all().chain(others).any(|known| known.eq_ignore_ascii_case(key));
    match options.iter().map(|(key, _)| key).find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => {
            let names = all().copied().filter(|name| *name != "codec" && *name != "charset").collect::<Vec<_>>();
            Err(Error::unsupported(format!("option `{key}` of format `{format}`"))
                .with_help(format!("The format takes: {}.", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_option_is_known_to_its_format() {
        let options = ReadOptions::from_iter([("PATH", "/x"), ("Header", "true"), ("codec", "gzip")]);
        assert!(check("csv", &options, &["path"]).is_ok());
        let error = check("json", &options, &["path"]).unwrap_err();
        assert!(error.to_string().contains("option `Header` of format `json`"), "{error}");
        assert!(error.help().unwrap().contains("ignoreNullFields"));
    }
}
