//! The units of ANSI intervals.
//!
//! Arrow has one type for all intervals of years and months, and one for all of days and time; which units an
//! interval counts is in the metadata of its field or literal, under [`INTERVAL_KEY`].

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::metadata::FieldMetadata;

/// The key of an interval's first and last unit in a field's metadata, such as `0,3`.
pub const INTERVAL_KEY: &str = "deltaworks.interval";

const YEAR_MONTH: [&str; 2] = ["year", "month"];
const DAY_TIME: [&str; 4] = ["day", "hour", "minute", "second"];

/// The first and the last unit of an interval, counted as Spark does: year 0, month 1; day 0 to second 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntervalUnits {
    /// The largest unit.
    pub first: u8,
    /// The smallest unit.
    pub last: u8,
}

impl IntervalUnits {
    /// The units a field says, or all.
    pub fn of_field(field: &Field) -> Option<Self> {
        Self::of(field.data_type(), field.metadata().get(INTERVAL_KEY).map(String::as_str))
    }

    /// The units a literal says, or all.
    pub(crate) fn of_literal(data_type: &DataType, metadata: Option<&FieldMetadata>) -> Option<Self> {
        Self::of(data_type, metadata.and_then(|metadata| metadata.inner().get(INTERVAL_KEY)).map(String::as_str))
    }

    fn of(data_type: &DataType, text: Option<&str>) -> Option<Self> {
        let most = match data_type {
            DataType::Interval(IntervalUnit::YearMonth) => 1,
            DataType::Duration(_) => 3,
            _ => return None,
        };
        let said = text.and_then(|text| text.split_once(',')).and_then(|(first, last)| {
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last && last <= most).then_some(Self { first, last })
        });
        Some(said.unwrap_or(Self { first: 0, last: most }))
    }

    /// The units that a type's name says: `interval day to second`; `None` if it is no ANSI interval.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let units = name.strip_prefix("interval ")?;
        let (first, last) = units.split_once(" to ").unwrap_or((units, units));
        [&YEAR_MONTH as &[&str], &DAY_TIME].into_iter().find_map(|known| {
            let at = |unit: &str| known.iter().position(|known| *known == unit).map(|at| at as u8);
            Some(Self { first: at(first)?, last: at(last)? })
        })
    }

    /// How many months, or microseconds, the smallest unit has.
    pub(crate) fn smallest(self, data_type: &DataType) -> i64 {
        match (data_type, self.last) {
            (DataType::Duration(_), 0) => 86_400_000_000,
            (DataType::Duration(_), 1) => 3_600_000_000,
            (DataType::Duration(_), 2) => 60_000_000,
            (DataType::Duration(_), _) => 1_000_000,
            (_, 0) => 12,
            _ => 1,
        }
    }

    /// The units as metadata of a literal.
    pub(crate) fn metadata(self) -> FieldMetadata {
        FieldMetadata::from(BTreeMap::from([(INTERVAL_KEY.to_owned(), self.text())]))
    }

    /// The field with the units in its metadata.
    pub(crate) fn on(self, field: Field) -> Field {
        field.with_metadata(HashMap::from([(INTERVAL_KEY.to_owned(), self.text())]))
    }

    /// The units of a sum: all from the largest to the smallest.
    pub(crate) fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    fn text(self) -> String {
        format!("{},{}", self.first, self.last)
    }

    /// `day to second`, `year`.
    pub(crate) fn name(self, data_type: &DataType) -> String {
        let units: &[&str] = if matches!(data_type, DataType::Duration(_)) { &DAY_TIME } else { &YEAR_MONTH };
        let unit = |at: u8| units.get(usize::from(at)).copied().unwrap_or_default();
        match self.first == self.last {
            true => unit(self.first).to_owned(),
            false => format!("{} to {}", unit(self.first), unit(self.last)),
        }
    }
}
