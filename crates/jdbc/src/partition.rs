//! How a read is cut into parts that are read side by side: by Spark's strides, or by the user's conditions.

use arrow::datatypes::{DataType, TimeUnit};
use chrono_tz::Tz;
use deltaworks_spark::types::sql_type_name;
use deltaworks_spark::{Error, Result};

use crate::column::Column;
use crate::dialect::Dialect;
use crate::options::Stride;
use crate::time;

/// Digits behind the point in the arithmetic of strides.
const PRECISION: i128 = 1_000_000_000_000_000_000;

/// The conditions of the parts; one part without a condition if there is nothing to cut.
///
/// The first part has the rows below the lower bound and those whose column is NULL, the last one those above the upper
/// bound.
///
/// # Errors
/// `User` if the column does not exist or cannot be cut, or a bound is no value of it.
pub(crate) fn conditions(
    stride: Option<&Stride>,
    predicates: &[String],
    columns: &[Column],
    dialect: Dialect,
    zone: Tz,
) -> Result<Vec<Option<String>>> {
    let Some(stride) = stride else {
        return Ok(match predicates {
            [] => vec![None],
            predicates => predicates.iter().cloned().map(Some).collect(),
        });
    };
    let column = find(columns, &stride.column)?;
    let kind = Kind::of(column)?;
    let (lower, upper) =
        (kind.parse(&stride.lower, "lowerBound", zone)?, kind.parse(&stride.upper, "upperBound", zone)?);
    if lower > upper {
        return Err(Error::user(format!(
            "option `lowerBound` is larger than `upperBound`: {} and {}",
            stride.lower, stride.upper
        ))
        .with_condition("INVALID_PARAMETER_VALUE"));
    }
    let name = dialect.quote(&column.name);
    let bounds = bounds(lower, upper, stride.partitions);
    let text = |bound: i64| kind.literal(bound, zone);
    Ok(ranges(&bounds)
        .map(|range| match range {
            (None, None) => None,
            (None, Some(upper)) => Some(format!("{name} < {} OR {name} IS NULL", text(upper))),
            (Some(lower), Some(upper)) => Some(format!("{name} >= {} AND {name} < {}", text(lower), text(upper))),
            (Some(lower), None) => Some(format!("{name} >= {}", text(lower))),
        })
        .collect())
}

fn find<'a>(columns: &'a [Column], name: &str) -> Result<&'a Column> {
    let bare = name.trim_matches(['"', '`']);
    let exact = columns.iter().find(|column| column.name == bare);
    exact.or_else(|| columns.iter().find(|column| column.name.eq_ignore_ascii_case(bare))).ok_or_else(|| {
        let names = columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ");
        Error::user(format!("option `partitionColumn` names `{name}`, which is no column"))
            .with_condition("INVALID_PARAMETER_VALUE")
            .with_help(format!("The columns are {names}."))
    })
}

/// The values between parts, ascending: one fewer than there are parts.
fn bounds(lower: i64, upper: i64, partitions: u64) -> Vec<i64> {
    let span = i128::from(upper) - i128::from(lower);
    let partitions = i128::from(partitions).min(span);
    if partitions <= 1 {
        return Vec::new();
    }
    // Each bound is divided by itself, as Spark does; the sum of what rounding loses decides where the first part ends.
    let share = |bound: i64| half_even(i128::from(bound) * PRECISION, partitions);
    let precise = share(upper) - share(lower);
    let stride = precise / PRECISION;
    let lost = (precise - stride * PRECISION) * partitions / 2;
    let shift = (lost + PRECISION / 2).div_euclid(PRECISION);
    let first = i128::from(lower) + shift + stride;
    (0..partitions - 1).filter_map(|i| i64::try_from(first + i * stride).ok()).collect()
}

/// A quotient, rounded to the nearest, ties to the even one.
fn half_even(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.div_euclid(divisor);
    let twice = dividend.rem_euclid(divisor) * 2;
    match twice.cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

/// From where to where each part goes.
fn ranges(bounds: &[i64]) -> impl Iterator<Item = (Option<i64>, Option<i64>)> {
    let starts = std::iter::once(None).chain(bounds.iter().copied().map(Some));
    let ends = bounds.iter().copied().map(Some).chain(std::iter::once(None));
    starts.zip(ends)
}

/// What can be cut.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Date,
    Timestamp { absolute: bool },
}

impl Kind {
    fn of(column: &Column) -> Result<Self> {
        match &column.natural {
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(..) => Ok(Self::Number),
            DataType::Date32 => Ok(Self::Date),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => Ok(Self::Timestamp { absolute: zone.is_some() }),
            other => Err(Error::user(format!(
                "option `partitionColumn` names `{}` of type {}, which cannot be cut into ranges",
                column.name,
                sql_type_name(other)
            ))
            .with_condition("INVALID_PARAMETER_VALUE")
            .with_help("Name a column of numbers, dates or timestamps.")),
        }
    }

    fn parse(self, text: &str, option: &str, zone: Tz) -> Result<i64> {
        let text = text.trim();
        let (value, expected) = match self {
            Self::Number => (text.parse().ok(), "a whole number"),
            Self::Date => (time::parse_moment(text).map(|(micros, _)| i64::from(time::day_of(micros))), "a date"),
            Self::Timestamp { absolute } => {
                let value = time::parse_moment(text).and_then(|(micros, is_absolute)| match absolute && !is_absolute {
                    true => time::instant(micros, zone),
                    false => Some(micros),
                });
                (value, "a timestamp")
            }
        };
        value.ok_or_else(|| {
            Error::user(format!("option `{option}` has value `{text}`, expected {expected}"))
                .with_condition("INVALID_PARAMETER_VALUE")
        })
    }

    /// A bound as Spark writes it: moments as the session's clocks show them.
    fn literal(self, bound: i64, zone: Tz) -> String {
        let text = match self {
            Self::Number => return bound.to_string(),
            Self::Date => i32::try_from(bound).ok().and_then(time::day).map(time::day_text),
            Self::Timestamp { absolute } => {
                let shown = if absolute { time::local(bound, zone) } else { Some(bound) };
                shown.and_then(time::clock).map(|moment| time::moment_text(moment, ""))
            }
        };
        format!("'{}'", text.unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stride(lower: &str, upper: &str, partitions: u64) -> Stride {
        Stride { column: "ID".to_owned(), lower: lower.to_owned(), upper: upper.to_owned(), partitions }
    }

    fn check(data_type: DataType, stride: &Stride, expected: &[&str]) {
        let columns = [Column::plain("id", data_type)];
        let found = conditions(Some(stride), &[], &columns, Dialect::Postgres, Tz::Europe__Berlin).unwrap();
        let found: Vec<_> = found.iter().map(|part| part.as_deref().unwrap_or("")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_dates_and_timestamps() {
        let three = [r#""id" < 3 OR "id" IS NULL"#, r#""id" >= 3 AND "id" < 6"#, r#""id" >= 6"#];
        check(DataType::Int32, &stride("0", "10", 3), &three);
        check(DataType::Int32, &stride("5", "5", 3), &[""]);
        check(DataType::Int32, &stride("0", "10", 1), &[""]);
        // No more parts than there are values.
        check(DataType::Int32, &stride("0", "2", 8), &[r#""id" < 1 OR "id" IS NULL"#, r#""id" >= 1"#]);
        check(
            DataType::Date32,
            &stride("2024-01-01", "2024-01-31", 2),
            &[r#""id" < '2024-01-16' OR "id" IS NULL"#, r#""id" >= '2024-01-16'"#],
        );
        check(
            deltaworks_spark::types::timestamp(),
            &stride("2024-01-01 00:00:00", "2024-01-01 10:00:00", 2),
            &[r#""id" < '2024-01-01 05:00:00.000000' OR "id" IS NULL"#, r#""id" >= '2024-01-01 05:00:00.000000'"#],
        );
    }

    /// What strides lose to rounding is shared between the first and the last part.
    #[test]
    fn lost_strides_are_shared_out() {
        assert_eq!(bounds(0, 1_000_000, 7).first(), Some(&142_857));
        assert_eq!(bounds(0, 19, 10), [6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(bounds(i64::MIN, i64::MAX, 2), [0]);
        assert_eq!(bounds(-10, 10, 4), [-5, 0, 5]);
    }

    #[test]
    fn wrong_columns_and_bounds_are_named() {
        let columns = [Column::plain("name", DataType::Utf8)];
        let failure = |stride: &Stride, columns: &[Column]| {
            let failed = conditions(Some(stride), &[], columns, Dialect::Postgres, Tz::UTC);
            failed.unwrap_err().message().to_owned()
        };
        let none = "option `partitionColumn` names `ID`, which is no column";
        assert_eq!(failure(&stride("0", "1", 2), &columns), none);
        let text = Stride { column: "name".to_owned(), ..stride("0", "1", 2) };
        assert!(failure(&text, &columns).ends_with("of type STRING, which cannot be cut into ranges"));
        let numbers = [Column::plain("id", DataType::Int64)];
        assert_eq!(
            failure(&stride("a", "1", 2), &numbers),
            "option `lowerBound` has value `a`, expected a whole number"
        );
        let turned = "option `lowerBound` is larger than `upperBound`: 9 and 1";
        assert_eq!(failure(&stride("9", "1", 2), &numbers), turned);
    }

    #[test]
    fn conditions_of_the_user_are_the_parts() {
        let predicates = ["a < 1".to_owned(), "a >= 1".to_owned()];
        let found = conditions(None, &predicates, &[], Dialect::MySql, Tz::UTC).unwrap();
        assert_eq!(found, [Some("a < 1".to_owned()), Some("a >= 1".to_owned())]);
        assert_eq!(conditions(None, &[], &[], Dialect::MySql, Tz::UTC).unwrap(), [None]);
    }

    proptest! {
        /// Whatever the bounds: every value is in exactly one part, and there are as many parts as can be.
        #[test]
        fn every_value_is_in_exactly_one_part(
            a in any::<i64>(), b in any::<i64>(), partitions in 1_u64..200, values in prop::collection::vec(any::<i64>(), 20),
        ) {
            let (lower, upper) = (a.min(b), a.max(b));
            let bounds = bounds(lower, upper, partitions);
            prop_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
            let wanted = i128::from(partitions).min(i128::from(upper) - i128::from(lower)).max(1);
            prop_assert_eq!(bounds.len() as i128, wanted - 1);
            for value in values.into_iter().chain([lower, upper]).chain(bounds.iter().copied()) {
                let parts = ranges(&bounds).filter(|(from, to)| {
                    from.is_none_or(|from| value >= from) && to.is_none_or(|to| value < to)
                });
                prop_assert_eq!(parts.count(), 1);
            }
        }
    }
}
