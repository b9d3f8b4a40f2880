//! What the options of the XML functions say.

use chrono_tz::Tz;

use super::super::options::{Options as Given, is_on};
use super::super::pattern::Pattern;
use crate::error::{Error, Result};

/// How XML is read and written.
pub(super) struct Options {
    pub(super) attribute_prefix: String,
    pub(super) value_tag: String,
    pub(super) null_value: Option<String>,
    pub(super) fail_fast: bool,
    drops: bool,
    pub(super) corrupt_column: String,
    pub(super) tz: Tz,
    pub(super) date: Option<Pattern>,
    pub(super) timestamp: Option<Pattern>,
    pub(super) timestamp_ntz: Option<Pattern>,
    pub(super) trims: bool,
    pub(super) exclude_attributes: bool,
    pub(super) ignore_namespace: bool,
    pub(super) infer_types: bool,
    pub(super) prefer_date: bool,
    /// The field for elements that no other field is for.
    pub(super) wildcard: String,
    pub(super) row_tag: String,
    pub(super) array_element: String,
    pub(super) indent: String,
    pub(super) validate_names: bool,
}

/// Options that change what is read or written, which these functions do not have.
const REFUSED: [&str; 4] = ["rowvalidationxsdpath", "singlevariantcolumn", "locale", "prefersdecimal"];

impl Options {
    /// # Errors
    /// If a pattern or a time zone is invalid; `Unsupported` for options that are not known here.
    pub(super) fn new(given: &Given, tz: Tz) -> Result<Self> {
        if let Some(name) = REFUSED.iter().find(|name| given.contains_key(**name)) {
            return Err(Error::unsupported(format!("the option `{name}` of the XML functions")));
        }
        let text = |name: &str, otherwise: &str| given.get(name).map_or(otherwise, String::as_str).to_owned();
        let pattern = |name: &str| given.get(name).map(|text| Pattern::new(text)).transpose();
        let tz = match given.get("timezone") {
            Some(name) => name
                .parse()
                .map_err(|_| Error::user(format!("`{name}` is not a time zone")).with_condition("INVALID_TIMEZONE"))?,
            None => tz,
        };
        let mode = text("mode", "PERMISSIVE");
        let options = Self {
            attribute_prefix: text("attributeprefix", "_"),
            value_tag: text("valuetag", "_VALUE"),
            null_value: given.get("nullvalue").cloned(),
            fail_fast: mode.eq_ignore_ascii_case("FAILFAST"),
            drops: mode.eq_ignore_ascii_case("DROPMALFORMED"),
            corrupt_column: text("columnnameofcorruptrecord", "_corrupt_record"),
            tz,
            date: pattern("dateformat")?,
            timestamp: pattern("timestampformat")?,
            timestamp_ntz: pattern("timestampntzformat")?,
            trims: is_on(given, "ignoresurroundingspaces", true),
            exclude_attributes: is_on(given, "excludeattribute", false),
            ignore_namespace: is_on(given, "ignorenamespace", false),
            infer_types: is_on(given, "inferschema", true),
            prefer_date: is_on(given, "preferdate", true),
            wildcard: text("wildcardcolname", "xs_any"),
            row_tag: text("rowtag", "ROW"),
            array_element: text("arrayelementname", "item"),
            indent: text("indent", "    "),
            validate_names: is_on(given, "validatename", true),
        };
        for (name, tag) in [("rowTag", &options.row_tag), ("valueTag", &options.value_tag)] {
            if tag.is_empty() || tag.starts_with('<') || tag.ends_with('>') {
                return Err(Error::user(format!("the option `{name}` is not the name of an element: `{tag}`")));
            }
        }
        if options.value_tag == options.attribute_prefix {
            return Err(Error::user("the options `valueTag` and `attributePrefix` must not be the same"));
        }
        Ok(options)
    }

    /// # Errors
    /// `PARSE_MODE_UNSUPPORTED`: a function has a value for every row, so none can be dropped.
    pub(super) fn refuse_other_modes(&self, function: &str) -> Result<()> {
        if !self.drops {
            return Ok(());
        }
        Err(Error::user(format!("`{function}` has no mode `DROPMALFORMED`"))
            .with_condition("PARSE_MODE_UNSUPPORTED")
            .with_help("Use PERMISSIVE or FAILFAST."))
    }

    /// A text as it is compared and converted.
    pub(super) fn trimmed<'t>(&self, text: &'t str) -> &'t str {
        if self.trims { text.trim() } else { text }
    }

    /// The name of a field for an element of this name.
    pub(super) fn field_name<'n>(&self, name: &'n str) -> &'n str {
        match name.split_once(':') {
            Some((_, local)) if self.ignore_namespace => local,
            _ => name,
        }
    }

    /// Whether a field is an attribute when it is written.
    pub(super) fn is_attribute(&self, name: &str) -> bool {
        name.starts_with(&self.attribute_prefix) && name != self.value_tag
    }
}
