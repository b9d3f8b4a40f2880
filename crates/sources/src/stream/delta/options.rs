//! Options of streaming reads of Delta tables.

use chrono_tz::Tz;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use regex::Regex;

use crate::errors::invalid_option;
use crate::options::Options;
use crate::stream::limit::Limit;

/// Files in a slice, unless an option says otherwise.
const MAX_FILES: u64 = 1000;

/// Where the first batch of a checkpoint starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With all rows that are there, then with what is committed.
    Snapshot,
    /// With the commit of this version.
    Version(u64),
    /// With the first commit at or after this time, in microseconds since the epoch.
    Timestamp(i64),
    /// With the first commit to come.
    Latest,
}

/// What to do about commits that remove or change rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangePolicy {
    /// Pass over commits that remove or change rows, including the rows they add.
    pub(crate) skip_changes: bool,
    /// Pass over commits that only remove rows.
    pub(crate) ignore_deletes: bool,
    /// Read the rows of rewritten files again.
    pub(crate) ignore_changes: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct DeltaOptions {
    pub(crate) beginning: Beginning,
    pub(crate) policy: ChangePolicy,
    pub(crate) limit: Limit,
    pub(crate) exclude: Option<Regex>,
    /// Read what commits change instead of the rows they add.
    pub(crate) changes: bool,
}

impl DeltaOptions {
    pub(crate) fn parse(given: &ReadOptions, zone: Tz) -> Result<Self> {
        let options = Options::new(given, false);
        refuse_unsupported(&options)?;
        let exclude = options.get("excludeRegex").map(|pattern| {
            Regex::new(pattern)
                .map_err(|error| invalid_option("excludeRegex", pattern, "a regular expression").with_source(error))
        });
        Ok(Self {
            beginning: beginning(&options, zone)?,
            policy: ChangePolicy {
                skip_changes: options.flag("skipChangeCommits", false)?,
                ignore_deletes: options.flag("ignoreDeletes", false)?,
                ignore_changes: options.flag("ignoreChanges", false)?,
            },
            limit: Limit::new(
                options.positive("maxFilesPerTrigger")?,
                options.bytes("maxBytesPerTrigger")?,
                Some(MAX_FILES),
            ),
            exclude: exclude.transpose()?,
            changes: asks_for_changes(&options)?,
        })
    }
}

/// Whether the change data feed is to be read; `readChangeData` is its older name.
pub(crate) fn asks_for_changes(options: &Options<'_>) -> Result<bool> {
    Ok(options.flag("readChangeFeed", false)? || options.flag("readChangeData", false)?)
}

fn refuse_unsupported(options: &Options<'_>) -> Result<()> {
    if options.flag("withEventTimeOrder", false)? {
        return Err(Error::unsupported("option `withEventTimeOrder`"));
    }
    if !options.flag("failOnDataLoss", true)? {
        return Err(Error::unsupported("option `failOnDataLoss` with value `false`"));
    }
    for key in ["versionAsOf", "timestampAsOf"] {
        if options.get(key).is_some() {
            return Err(Error::user(format!("a stream cannot be read with option `{key}`"))
                .with_condition("DELTA_UNSUPPORTED_TIME_TRAVEL_VIEWS")
                .with_help("Use `startingVersion` or `startingTimestamp`, or read without STREAM."));
        }
    }
    options.refuse(&[
        "schemaTrackingLocation",
        "streamingSourceTrackingId",
        "allowSourceColumnDrop",
        "allowSourceColumnRename",
        "allowSourceColumnTypeChange",
    ])
}

fn beginning(options: &Options<'_>, zone: Tz) -> Result<Beginning> {
    let version = options.get("startingVersion");
    match (version, options.timestamp("startingTimestamp", zone)?) {
        (Some(_), Some(_)) => Err(Error::user("only one of `startingVersion` and `startingTimestamp` can be given")
            .with_condition("DELTA_STARTING_VERSION_AND_TIMESTAMP_BOTH_SET")),
        (Some(value), None) if value.trim().eq_ignore_ascii_case("latest") => Ok(Beginning::Latest),
        (Some(value), None) => value
            .trim()
            .parse()
            .map(Beginning::Version)
            .map_err(|_| invalid_option("startingVersion", value, "a version of the table, or `latest`")),
        (None, Some(at_us)) => Ok(Beginning::Timestamp(at_us)),
        (None, None) => Ok(Beginning::Snapshot),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use deltaworks_spark::Kind;

    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<DeltaOptions> {
        DeltaOptions::parse(&options.iter().copied().collect(), Tz::UTC)
    }

    #[test]
    fn defaults_read_the_snapshot_in_slices_of_1000_files() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.beginning, Beginning::Snapshot);
        assert_eq!(options.policy, ChangePolicy::default());
        assert_eq!(options.limit, Limit::new(None, None, Some(1000)));
    }

    #[test]
    fn start_is_a_version_the_latest_one_or_a_time() {
        assert_eq!(parse(&[("startingVersion", "3")]).unwrap().beginning, Beginning::Version(3));
        assert_eq!(parse(&[("STARTINGVERSION", "Latest")]).unwrap().beginning, Beginning::Latest);
        let at = parse(&[("startingTimestamp", "1970-01-01")]).unwrap().beginning;
        assert_eq!(at, Beginning::Timestamp(0));
        let both = parse(&[("startingVersion", "3"), ("startingTimestamp", "1970-01-01")]).unwrap_err();
        assert_eq!(both.condition(), Some("DELTA_STARTING_VERSION_AND_TIMESTAMP_BOTH_SET"));
        assert_eq!(parse(&[("startingVersion", "-1")]).unwrap_err().condition(), Some("INVALID_PARAMETER_VALUE"));
    }

    #[test]
    fn changes_have_two_names() {
        assert!(!parse(&[]).unwrap().changes);
        assert!(parse(&[("readChangeFeed", "true")]).unwrap().changes);
        assert!(parse(&[("readchangedata", "TRUE")]).unwrap().changes);
    }

    #[test]
    fn what_is_not_implemented_is_refused_unless_switched_off() {
        for (key, on, off) in [("withEventTimeOrder", "true", "false"), ("failOnDataLoss", "false", "true")] {
            assert_eq!(parse(&[(key, on)]).unwrap_err().kind(), Kind::Unsupported, "{key}");
            assert!(parse(&[(key, off)]).is_ok(), "{key}");
        }
        assert_eq!(parse(&[("schemaTrackingLocation", "/x")]).unwrap_err().kind(), Kind::Unsupported);
        assert_eq!(parse(&[("versionAsOf", "1")]).unwrap_err().kind(), Kind::User);
    }
}
