//! The names of reader options, for telling slips from options.
//!
//! Options that have no effect here, because they concern Databricks' infrastructure, are known all the same.

use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};

use crate::options::Options;
use crate::{is_delta, is_jdbc, reader_of};

/// Options of Auto Loader, which may have the prefix `cloudFiles.`.
const AUTO_LOADER: &[&str] = &[
    "allowOverwrites",
    "awsAccessKey",
    "awsSecretKey",
    "backfillInterval",
    "cleanSource",
    "cleanSource.moveDestination",
    "cleanSource.retentionDuration",
    "client",
    "clientEmail",
    "clientId",
    "clientSecret",
    "connectionString",
    "databricks.serviceCredential",
    "fetchParallelism",
    "format",
    "includeExistingFiles",
    "inferColumnTypes",
    "inferSchema",
    "maxBytesPerTrigger",
    "maxFileAge",
    "maxFilesPerTrigger",
    "mergeSchema",
    "partitionColumns",
    "pathRewrites",
    "privateKey",
    "privateKeyId",
    "projectId",
    "queueName",
    "queueUrl",
    "region",
    "rescuedDataColumn",
    "resourceGroup",
    "restrictNotificationSetupToSameAWSAccountId",
    "roleArn",
    "roleExternalId",
    "roleSessionName",
    "schemaEvolutionMode",
    "schemaHints",
    "schemaLocation",
    "stsEndpoint",
    "subscription",
    "subscriptionId",
    "tenantId",
    "useIncrementalListing",
    "useManagedFileEvents",
    "useNotifications",
    "useStrictGlobber",
    "validateOptions",
];

/// Options of formats and of Spark's own readers.
const OTHERS: &[&str] = &[
    "advanceMillisPerBatch",
    "allowBackslashEscapingAnyCharacter",
    "allowComments",
    "allowNonNumericNumbers",
    "allowNumericLeadingZeros",
    "allowSingleQuotes",
    "allowUnquotedControlChars",
    "allowUnquotedFieldNames",
    "attributePrefix",
    "avroSchema",
    "avroSchemaUrl",
    "badRecordsPath",
    "basePath",
    "charToEscapeQuoteEscaping",
    "charset",
    "codec",
    "columnNameOfCorruptRecord",
    "comment",
    "compression",
    "dateFormat",
    "datetimeRebaseMode",
    "delimiter",
    "dropFieldIfAllNull",
    "emptyValue",
    "encoding",
    "endingTimestamp",
    "endingVersion",
    "enforceSchema",
    "escape",
    "excludeAttribute",
    "excludeRegex",
    "failOnDataLoss",
    "fileNameOnly",
    "fileNamePattern",
    "header",
    "ignoreChanges",
    "ignoreCorruptFiles",
    "ignoreDeletes",
    "ignoreLeadingWhiteSpace",
    "ignoreMissingFiles",
    "ignoreNamespace",
    "ignoreSurroundingSpaces",
    "ignoreTrailingWhiteSpace",
    "inferTimestamp",
    "int96RebaseMode",
    "latestFirst",
    "lineSep",
    "locale",
    "localeDateFormat",
    "maxCachedFiles",
    "maxCharsPerColumn",
    "maxColumns",
    "mode",
    "modifiedAfter",
    "modifiedBefore",
    "multiLine",
    "nanValue",
    "negativeInf",
    "nullValue",
    "numPartitions",
    "path",
    "pathGlobFilter",
    "positiveInf",
    "preferDate",
    "prefersDecimal",
    "primitivesAsString",
    "quote",
    "rampUpTime",
    "readChangeData",
    "readChangeFeed",
    "readerCaseSensitive",
    "recursiveFileLookup",
    "rowTag",
    "rowValidationXSDPath",
    "rowsPerBatch",
    "rowsPerSecond",
    "samplingRatio",
    "schema",
    "schemaTrackingLocation",
    "sep",
    "singleVariantColumn",
    "skipChangeCommits",
    "skipRows",
    "sourceArchiveDir",
    "startTimestamp",
    "startingTimestamp",
    "startingVersion",
    "timeZone",
    "timestampAsOf",
    "timestampFormat",
    "timestampNTZFormat",
    "timestampZone",
    "unescapedQuoteHandling",
    "valueTag",
    "versionAsOf",
    "wholeText",
    "withEventTimeOrder",
];

const PREFIX: &str = "cloudFiles.";

/// The names of all options that readers of files and Delta tables know, without prefix.
fn file_options() -> impl Iterator<Item = &'static str> {
    AUTO_LOADER.iter().chain(OTHERS).copied()
}

/// The names of all options that the reader of a format knows, without prefix.
pub fn known_options(format: Option<&str>) -> Vec<&'static str> {
    if is_jdbc(format) { deltaworks_jdbc::known_options().collect() } else { file_options().collect() }
}

/// An option's name without Auto Loader's prefix.
pub fn bare_option(key: &str) -> &str {
    match key.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &key[PREFIX.len()..],
        _ => key,
    }
}

/// The options that the reader of a format does not know, as they were given; none for other formats than files, Delta
/// tables and databases.
pub fn unknown_options<'a>(format: Option<&str>, given: &'a ReadOptions) -> Vec<&'a str> {
    if is_jdbc(format) {
        return deltaworks_jdbc::unknown_options(given);
    }
    if !is_delta(format) && reader_of(format).is_err() {
        return Vec::new();
    }
    let is_known = |key: &str| is_tag(key) || file_options().any(|known| known.eq_ignore_ascii_case(key));
    given.iter().map(|(key, _)| key).filter(|key| !is_known(bare_option(key))).collect()
}

/// `cloudFiles.resourceTag.<any name>`
fn is_tag(bare: &str) -> bool {
    bare.get(..12).is_some_and(|prefix| prefix.eq_ignore_ascii_case("resourceTag."))
}

/// Fails if there is a `cloudFiles.` option that does not exist, unless `cloudFiles.validateOptions` is false.
pub(crate) fn validate_cloud_files(given: &ReadOptions) -> Result<()> {
    if !Options::new(given, true).flag("validateOptions", true)? {
        return Ok(());
    }
    let unknown = given.iter().map(|(key, _)| key).find(|key| {
        let bare = bare_option(key);
        bare.len() < key.len() && !is_tag(bare) && !AUTO_LOADER.iter().any(|known| known.eq_ignore_ascii_case(bare))
    });
    match unknown {
        Some(key) => Err(Error::user(format!("unknown option `{key}` of Auto Loader"))
            .with_condition("CF_UNKNOWN_OPTION_KEYS_ERROR")
            .with_help("Remove it, or set `cloudFiles.validateOptions` to false.")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unknown_auto_loader_options_are_refused_unless_told() {
        let mut given: ReadOptions = [("cloudFiles.formta", "json")].into_iter().collect();
        assert!(validate_cloud_files(&given).is_err());
        given.set("cloudFiles.validateOptions", "false");
        assert!(validate_cloud_files(&given).is_ok());
    }

    #[test]
    fn options_are_known_in_any_case_and_with_prefix() {
        let given: ReadOptions = [
            ("CLOUDFILES.schemahints", "a INT"),
            ("multiline", "true"),
            ("cloudFiles.resourceTag.team", "x"),
            ("schemaHint", "a INT"),
            ("cloudFiles.maxFilePerTrigger", "1"),
        ]
        .into_iter()
        .collect();
        let mut unknown = unknown_options(Some("cloudFiles"), &given);
        unknown.sort_by_key(|key| key.to_lowercase());
        assert_eq!(unknown, ["cloudFiles.maxFilePerTrigger", "schemaHint"]);
        assert!(unknown_options(Some("kafka"), &given).is_empty());
    }
}
