//! The SQL configuration of a session: what changes how a query is read or evaluated.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::units::{parse_duration, parse_size};

/// Spark SQL configuration: the settings we act on, and all others as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparkConf {
    /// `spark.sql.ansi.enabled`: errors instead of NULL or wrap-around for invalid casts, overflow, division by zero.
    pub ansi: bool,
    /// `spark.sql.session.timeZone`
    pub time_zone: Tz,
    /// `spark.sql.caseSensitive`
    pub case_sensitive: bool,
    /// Every setting as given, these included.
    pub all: BTreeMap<String, String>,
}

impl SparkConf {
    /// The defaults of a pipeline run: as in classic Delta Live Tables, without ANSI mode.
    pub fn pipeline_defaults() -> Self {
        Self { ansi: false, time_zone: Tz::UTC, case_sensitive: false, all: BTreeMap::new() }
    }

    /// Sets one key.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) if a setting we act on has a value it cannot have.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "spark.sql.ansi.enabled" => self.ansi = boolean(key, value)?,
            "spark.sql.caseSensitive" => self.case_sensitive = boolean(key, value)?,
            "spark.sql.session.timeZone" => {
                self.time_zone = value.parse().map_err(|_| {
                    Error::user(format!("setting `{key}` has value `{value}`, which is not a time zone"))
                        .with_condition("INVALID_CONF_VALUE.TIME_ZONE")
                        .with_help("Use a region id such as `Europe/Berlin` or `UTC`.")
                })?;
            }
            _ => {}
        }
        self.all.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// `spark.sql.mapKeyDedupPolicy`: whether of equal keys of a map the last one counts; an error otherwise.
    pub fn last_map_key_wins(&self) -> bool {
        self.all.get("spark.sql.mapKeyDedupPolicy").is_some_and(|policy| policy.eq_ignore_ascii_case("LAST_WIN"))
    }

    /// A setting that is on or off.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) if it is neither.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.all.get(key).map_or(Ok(default), |value| boolean(key, value))
    }

    /// A setting that is a size, in bytes.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) if it is none.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, parse_size, "a size like `4g` or `512m`")
    }

    /// A setting that is a time.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) if it is none.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.parsed(key, parse_duration, "a time like `5m` or `300s`")
    }

    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>, expected: &str) -> Result<Option<T>> {
        let Some(value) = self.all.get(key) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| {
            Error::user(format!("setting `{key}` has value `{value}`, expected {expected}"))
                .with_condition("INVALID_CONF_VALUE.TYPE_MISMATCH")
        })
    }

    /// Puts one key back to what it is in `defaults`.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn reset(&mut self, key: &str, defaults: &Self) -> Result<()> {
        match defaults.get(key) {
            Some(value) => self.set(key, &value)?,
            None => {
                self.all.remove(key);
            }
        }
        if !defaults.all.contains_key(key) {
            self.all.remove(key);
        }
        Ok(())
    }

    /// The value of `key` as given, or the default of the settings we act on.
    pub fn get(&self, key: &str) -> Option<String> {
        self.all.get(key).cloned().or_else(|| match key {
            "spark.sql.ansi.enabled" => Some(self.ansi.to_string()),
            "spark.sql.caseSensitive" => Some(self.case_sensitive.to_string()),
            "spark.sql.session.timeZone" => Some(self.time_zone.name().to_owned()),
            _ => None,
        })
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::user(format!("setting `{key}` has value `{value}`, expected true or false"))
            .with_condition("INVALID_CONF_VALUE.TYPE_MISMATCH")),
    }
}
