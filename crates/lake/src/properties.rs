//! Delta's table properties: which values exist, and which a table here can have.
//!
//! A property that switches on a feature of the Delta protocol is a promise to every other reader and writer. Where the
//! writer here cannot keep it, the table must not make it: such properties are left out, or refused where leaving them
//! out would change what the table is.

use std::collections::BTreeMap;

use deltaworks_spark::error::{Error, Result};

/// What can be said of the properties somebody gave a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supported {
    /// Those the table gets; Delta's own in Delta's spelling.
    pub kept: BTreeMap<String, String>,
    /// The names of those that need a feature of the protocol which the writer here has not.
    pub ignored: Vec<String>,
}

/// What a property of Delta may be.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// `true` or `false`.
    Boolean,
    /// `true` or `false`; if true, a feature that is not supported.
    Feature,
    /// One of these; any but the first is a feature that is not supported.
    FeatureUnless(&'static [&'static str]),
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
    /// A whole number of at least this.
    AtLeast(i64),
    /// Tells what other writers need; here the features of a table decide.
    Protocol,
}

/// Whether files name columns otherwise than the table.
pub(crate) const COLUMN_MAPPING: &str = "delta.columnMapping.mode";

const RULES: &[(&str, Rule)] = &[
    ("delta.appendOnly", Rule::Boolean),
    ("delta.enableChangeDataFeed", Rule::Boolean),
    ("delta.enableExpiredLogCleanup", Rule::Boolean),
    ("delta.randomizeFilePrefixes", Rule::Boolean),
    ("delta.checkpoint.writeStatsAsJson", Rule::Boolean),
    ("delta.checkpoint.writeStatsAsStruct", Rule::Boolean),
    ("delta.autoOptimize.optimizeWrite", Rule::Boolean),
    ("delta.autoOptimize.autoCompact", Rule::OneOf(&["true", "false", "auto", "legacy"])),
    ("delta.tuneFileSizesForRewrites", Rule::Boolean),
    ("delta.isolationLevel", Rule::OneOf(&["Serializable", "WriteSerializable", "SnapshotIsolation"])),
    ("delta.checkpointInterval", Rule::AtLeast(1)),
    ("delta.dataSkippingNumIndexedCols", Rule::AtLeast(-1)),
    ("delta.enableDeletionVectors", Rule::Feature),
    ("delta.enableRowTracking", Rule::Feature),
    ("delta.enableTypeWidening", Rule::Feature),
    ("delta.enableInCommitTimestamps", Rule::Feature),
    ("delta.enableIcebergCompatV1", Rule::Feature),
    ("delta.enableIcebergCompatV2", Rule::Feature),
    ("delta.enableIcebergCompatV3", Rule::Feature),
    ("delta.enableVariantShredding", Rule::Feature),
    ("delta.checkpointPolicy", Rule::FeatureUnless(&["classic", "v2"])),
    ("delta.universalFormat.enabledFormats", Rule::Protocol),
    ("delta.minReaderVersion", Rule::Protocol),
    ("delta.minWriterVersion", Rule::Protocol),
    ("delta.columnMapping.maxColumnId", Rule::Protocol),
    ("delta.rowTracking.materializedRowIdColumnName", Rule::Protocol),
    ("delta.rowTracking.materializedRowCommitVersionColumnName", Rule::Protocol),
    ("delta.inCommitTimestampEnablementVersion", Rule::Protocol),
    ("delta.inCommitTimestampEnablementTimestamp", Rule::Protocol),
];

/// Sorts out the properties of a table.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` (`User`) for a value that Delta's property cannot have.
pub fn supported(properties: &BTreeMap<String, String>) -> Result<Supported> {
    let mut result = Supported::default();
    for (key, value) in properties {
        if key.eq_ignore_ascii_case(COLUMN_MAPPING) {
            if maps_columns(key, value)? {
                result.ignored.push(key.clone());
            }
            continue;
        }
        match RULES.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            Some((name, rule)) if rule.keeps(key, value)? => {
                result.kept.insert((*name).to_owned(), value.clone());
            }
            None if !names_feature(key) => {
                result.kept.insert(key.clone(), value.clone());
            }
            _ => result.ignored.push(key.clone()),
        }
    }
    Ok(result)
}

/// `delta.feature.deletionVectors = supported` adds a feature by its name.
fn names_feature(key: &str) -> bool {
    key.get(..14).is_some_and(|prefix| prefix.eq_ignore_ascii_case("delta.feature."))
}

/// Column mapping is asked for because of columns like `my id`, which tables here can have without it.
fn maps_columns(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "none" => Ok(false),
        "name" | "id" => Ok(true),
        _ => Err(invalid(key, value, "none, name or id")),
    }
}

impl Rule {
    /// Whether a table can have `value`. False: it needs what is not supported.
    fn keeps(self, key: &str, value: &str) -> Result<bool> {
        let value = value.trim();
        let is = |known: &str| known.eq_ignore_ascii_case(value);
        match self {
            Self::Boolean | Self::Feature if !is("true") && !is("false") => Err(invalid(key, value, "true or false")),
            Self::Boolean => Ok(true),
            Self::Feature => Ok(is("false")),
            Self::OneOf(values) | Self::FeatureUnless(values) if !values.iter().any(|known| is(known)) => {
                Err(invalid(key, value, &values.join(", ")))
            }
            Self::OneOf(_) => Ok(true),
            Self::FeatureUnless(values) => Ok(values.first().is_some_and(|plain| is(plain))),
            Self::AtLeast(least) => match value.parse::<i64>() {
                Ok(number) if number >= least => Ok(true),
                _ => Err(invalid(key, value, &format!("a whole number of at least {least}"))),
            },
            Self::Protocol => Ok(false),
        }
    }
}

fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::user(format!("table property `{key}` has value `{value}`, expected {expected}"))
        .with_condition("INVALID_PARAMETER_VALUE")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(key: &str, value: &str) -> std::result::Result<Supported, String> {
        let given = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        supported(&given).map_err(|error| error.message().to_owned())
    }

    fn kept(key: &str, value: &str) -> std::result::Result<Supported, String> {
        let kept = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Ok(Supported { kept, ignored: Vec::new() })
    }

    fn ignored(key: &str) -> std::result::Result<Supported, String> {
        Ok(Supported { kept: BTreeMap::new(), ignored: vec![key.to_owned()] })
    }

    #[test]
    fn properties_without_a_feature_are_kept_in_their_spelling() {
        assert_eq!(check("quality", "gold"), kept("quality", "gold"));
        assert_eq!(check("delta.APPENDONLY", "TRUE"), kept("delta.appendOnly", "TRUE"));
        assert_eq!(check("delta.constraints.c", "id > 0"), kept("delta.constraints.c", "id > 0"));
        assert_eq!(check("delta.enableDeletionVectors", "false"), kept("delta.enableDeletionVectors", "false"));
        assert_eq!(check("delta.checkpointPolicy", "classic"), kept("delta.checkpointPolicy", "classic"));
        assert_eq!(check("delta.dataSkippingNumIndexedCols", "-1"), kept("delta.dataSkippingNumIndexedCols", "-1"));
    }

    #[test]
    fn properties_that_need_a_feature_are_ignored_by_name() {
        for (key, value) in [
            ("delta.enableRowTracking", "true"),
            ("delta.enabledeletionvectors", "True"),
            ("delta.feature.allowColumnDefaults", "supported"),
            ("delta.checkpointPolicy", "v2"),
            ("delta.minReaderVersion", "3"),
        ] {
            assert_eq!(check(key, value), ignored(key));
        }
    }

    #[test]
    fn values_that_do_not_exist_are_refused() {
        let message = |key: &str, value: &str| check(key, value).unwrap_err();
        assert_eq!(
            message("delta.appendOnly", "maybe"),
            "table property `delta.appendOnly` has value `maybe`, expected true or false"
        );
        assert_eq!(
            message("delta.isolationLevel", "bogus"),
            "table property `delta.isolationLevel` has value `bogus`, expected Serializable, WriteSerializable, SnapshotIsolation"
        );
        assert_eq!(
            message("delta.checkpointInterval", "0"),
            "table property `delta.checkpointInterval` has value `0`, expected a whole number of at least 1"
        );
    }

    #[test]
    fn column_mapping_is_not_needed() {
        assert_eq!(check("delta.columnMapping.mode", "none"), Ok(Supported::default()));
        for mode in ["name", "id"] {
            assert_eq!(check("delta.columnMapping.mode", mode), ignored("delta.columnMapping.mode"));
        }
        assert_eq!(
            check("delta.columnMapping.mode", "maybe").unwrap_err(),
            "table property `delta.columnMapping.mode` has value `maybe`, expected none, name or id"
        );
    }
}
