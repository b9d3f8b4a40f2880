//! Reader options as typed values: looked up with or without `cloudFiles.`, errors name the option.

use chrono::{NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};

use crate::errors::invalid_option;
use crate::relation::Reader;
use crate::stream::age::max_file_age;
use crate::stream::clean::CleanSource;
use crate::stream::limit::Limit;

/// Looks options up in any case; Auto Loader's with or without their prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    given: &'a ReadOptions,
    auto_loader: bool,
}

impl<'a> Options<'a> {
    pub(crate) fn new(given: &'a ReadOptions, auto_loader: bool) -> Self {
        Self { given, auto_loader }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        if self.auto_loader
            && let Some(value) = self.given.get(&format!("cloudFiles.{key}"))
        {
            return Some(value);
        }
        self.given.get(key)
    }

    /// The first of several spellings of one option.
    pub(crate) fn any(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().find_map(|key| self.get(key))
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key)
            .map(|value| match value.trim().to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(invalid_option(key, value, "true or false")),
            })
            .transpose()
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.bool(key)?.unwrap_or(default))
    }

    pub(crate) fn count(&self, key: &str) -> Result<Option<u64>> {
        self.get(key)
            .map(|value| value.trim().parse().map_err(|_| invalid_option(key, value, "a whole number")))
            .transpose()
    }

    pub(crate) fn positive(&self, key: &str) -> Result<Option<u64>> {
        match self.count(key)? {
            Some(0) => Err(invalid_option(key, "0", "a whole number of at least 1")),
            other => Ok(other),
        }
    }

    /// A number of bytes: `1000`, `10g`, `10 MB`.
    pub(crate) fn bytes(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        byte_count(value).map(Some).ok_or_else(|| invalid_option(key, value, "a number of bytes such as `10g`"))
    }

    pub(crate) fn char(&self, key: &str) -> Result<Option<u8>> {
        match self.get(key) {
            None => Ok(None),
            Some("" | "\0") => Ok(Some(0)),
            Some(value) => match value.as_bytes() {
                [one] if one.is_ascii() => Ok(Some(*one)),
                [b'\\', b't'] => Ok(Some(b'\t')),
                [b'\\', b'\\'] => Ok(Some(b'\\')),
                [b'\\', b'0'] => Ok(Some(0)),
                _ => Err(invalid_option(key, value, "one ASCII character")),
            },
        }
    }

    pub(crate) fn timestamp(&self, key: &str, zone: Tz) -> Result<Option<i64>> {
        self.get(key)
            .map(|value| {
                parse_instant(value, zone)
                    .ok_or_else(|| invalid_option(key, value, "a time such as `2024-01-31T00:00:00`"))
            })
            .transpose()
    }

    /// Fails with `Unsupported` if an option without an implementation is given.
    pub(crate) fn refuse(&self, keys: &[&str]) -> Result<()> {
        match keys.iter().find(|key| self.get(key).is_some()) {
            Some(key) => Err(Error::unsupported(format!("option `{key}`")).with_help(instead_of(key))),
            None => Ok(()),
        }
    }
}

/// What to do without an option that is not supported.
fn instead_of(key: &str) -> &'static str {
    match key {
        "singleVariantColumn" => "Only JSON is read as VARIANT. Build it from columns: `to_variant_object(struct(*))`.",
        "avroSchema" | "avroSchemaUrl" => {
            "Leave it out: files are read with their own schema. Give types by `schemaHints`."
        }
        "pathRewrites" => "Use `path_mappings` of the settings.",
        _ => "Remove it.",
    }
}

fn byte_count(value: &str) -> Option<u64> {
    let value = value.trim().to_ascii_lowercase();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn parse_instant(value: &str, zone: Tz) -> Option<i64> {
    let value = value.trim();
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(value) {
        return Some(instant.timestamp_micros());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(value, format).ok())
        .or_else(|| NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(zone.from_local_datetime(&local).earliest()?.timestamp_micros())
}

/// What happens when files have fields the schema has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvolutionMode {
    AddNewColumns,
    AddNewColumnsWithTypeWidening,
    Rescue,
    FailOnNewColumns,
    None,
}

/// Which files are read, how many at a time, and how their schema is found.
#[derive(Clone, Debug)]
pub(crate) struct FileOptions {
    pub(crate) limit: Limit,
    pub(crate) name_pattern: Option<GlobMatcher>,
    pub(crate) recursive: bool,
    pub(crate) strict_glob: bool,
    pub(crate) include_existing: bool,
    pub(crate) allow_overwrites: bool,
    pub(crate) latest_first: bool,
    pub(crate) modified_after: Option<i64>,
    pub(crate) modified_before: Option<i64>,
    pub(crate) ignore_corrupt: bool,
    pub(crate) ignore_missing: bool,
    /// The folder for what cannot be read, the user's path.
    pub(crate) bad_records: Option<String>,
    pub(crate) partition_columns: Option<Vec<String>>,
    pub(crate) schema_location: Option<String>,
    pub(crate) hints: Option<String>,
    pub(crate) evolution: Option<EvolutionMode>,
    pub(crate) rescued_column: Option<String>,
    pub(crate) case_sensitive: bool,
    pub(crate) clean_source: Option<CleanSource>,
    pub(crate) max_age_us: Option<i64>,
}

impl FileOptions {
    /// Reads the options with the defaults of `reader`.
    pub(crate) fn parse(options: &Options<'_>, reader: Reader, zone: Tz) -> Result<Self> {
        let auto_loader = reader != Reader::Plain;
        options.refuse(&["pathRewrites"])?;
        let name_pattern = options.any(&["pathGlobFilter", "fileNamePattern"]);
        Ok(Self {
            limit: Limit::new(
                options.positive("maxFilesPerTrigger")?,
                options.bytes("maxBytesPerTrigger")?,
                auto_loader.then_some(1000),
            ),
            name_pattern: name_pattern.map(|pattern| glob("pathGlobFilter", pattern, true)).transpose()?,
            recursive: options.flag("recursiveFileLookup", false)?,
            strict_glob: options.flag("useStrictGlobber", reader != Reader::CloudFiles)?,
            include_existing: options.flag("includeExistingFiles", true)?,
            allow_overwrites: options.flag("allowOverwrites", false)?,
            latest_first: options.flag("latestFirst", false)?,
            modified_after: options.timestamp("modifiedAfter", zone)?,
            modified_before: options.timestamp("modifiedBefore", zone)?,
            ignore_corrupt: options.flag("ignoreCorruptFiles", false)?,
            ignore_missing: options.flag("ignoreMissingFiles", false)?,
            bad_records: bad_records_path(options)?,
            partition_columns: options.get("partitionColumns").map(|list| {
                list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
            }),
            schema_location: options.get("schemaLocation").map(str::to_owned),
            hints: options.get("schemaHints").map(str::to_owned),
            evolution: options.get("schemaEvolutionMode").map(evolution_mode).transpose()?,
            rescued_column: options.get("rescuedDataColumn").map(str::to_owned),
            case_sensitive: options.flag("readerCaseSensitive", true)?,
            clean_source: CleanSource::parse(options, reader)?,
            max_age_us: max_file_age(options, reader)?,
        })
    }
}

fn bad_records_path(options: &Options<'_>) -> Result<Option<String>> {
    let key = "badRecordsPath";
    let Some(path) = options.get(key) else { return Ok(None) };
    if path.trim().is_empty() {
        return Err(invalid_option(key, path, "the path of a folder"));
    }
    match options.get("mode") {
        Some(mode) => Err(Error::user(format!("option `mode` is `{mode}`, but `{key}` is itself a mode"))
            .with_condition("INVALID_PARAMETER_VALUE")
            .with_help(format!("Remove one of them: with `{key}`, what cannot be read is dropped and written there."))),
        None => Ok(Some(path.to_owned())),
    }
}

fn evolution_mode(value: &str) -> Result<EvolutionMode> {
    match value.trim().to_ascii_lowercase().as_str() {
        "addnewcolumns" => Ok(EvolutionMode::AddNewColumns),
        "addnewcolumnswithtypewidening" => Ok(EvolutionMode::AddNewColumnsWithTypeWidening),
        "rescue" => Ok(EvolutionMode::Rescue),
        "failonnewcolumns" => Ok(EvolutionMode::FailOnNewColumns),
        "none" => Ok(EvolutionMode::None),
        _ => Err(invalid_option(
            "schemaEvolutionMode",
            value,
            "addNewColumns, addNewColumnsWithTypeWidening, rescue, failOnNewColumns or none",
        )),
    }
}

/// A glob with `*`, `?`, `[..]`, `{a,b}`; with `strict`, `*` and `?` do not match `/`.
pub(crate) fn glob(option: &str, pattern: &str, strict: bool) -> Result<GlobMatcher> {
    GlobBuilder::new(pattern)
        .literal_separator(strict)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| invalid_option(option, pattern, "a glob pattern").with_source(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_any_case_and_with_prefix() {
        let given: ReadOptions =
            [("CLOUDFILES.maxFilesPerTrigger", "5"), ("maxbytespertrigger", "10 MB")].into_iter().collect();
        let parsed = FileOptions::parse(&Options::new(&given, true), Reader::CloudFiles, Tz::UTC).unwrap();
        assert_eq!(parsed.limit, Limit::new(Some(5), Some(10 << 20), Some(1000)));
        let plain = FileOptions::parse(&Options::new(&given, false), Reader::Plain, Tz::UTC).unwrap();
        assert_eq!(plain.limit, Limit::new(None, Some(10 << 20), None));
    }

    #[test]
    fn wrong_values_name_the_option() {
        let given: ReadOptions = [("cloudFiles.includeExistingFiles", "yes")].into_iter().collect();
        let error = FileOptions::parse(&Options::new(&given, true), Reader::CloudFiles, Tz::UTC).unwrap_err();
        assert_eq!(error.message(), "option `includeExistingFiles` has value `yes`, expected true or false");
    }
}
