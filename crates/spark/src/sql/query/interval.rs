//! Constant intervals: as they are written, and as lengths of time.

use std::sync::Arc;

use arrow::array::{ArrayRef, DurationMicrosecondArray, IntervalYearMonthArray};
use arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr as PlanExpr;
use sqlparser::ast::{DataType, DateTimeField, Expr, Interval, UnaryOperator, Value, WindowFrame, WindowFrameBound};

use crate::cast::calendar::{DAY, HOUR, MINUTE, SECOND};
use crate::cast::format::intervals_to_text;
use crate::cast::parse;
use crate::types::IntervalUnits;

/// The length of a constant interval in microseconds. A month has 31 days, as in Spark's watermarks.
pub(super) fn microseconds(value: &ScalarValue) -> Option<i64> {
    let of_months = |months: i32| i64::from(months) * 31 * DAY;
    match value {
        ScalarValue::DurationMicrosecond(length) => *length,
        ScalarValue::IntervalYearMonth(months) => months.map(of_months),
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds })) => {
            Some(of_months(*months) + i64::from(*days) * DAY + nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => {
            Some(i64::from(*days) * DAY + i64::from(*milliseconds) * 1000)
        }
        _ => None,
    }
}

/// The kinds of [`AnsiInterval`] in the rewritten query.
const MONTHS: &str = "MONTHS";
const MICROS: &str = "MICROS";

/// The kind and the units of a type of ANSI intervals.
pub(super) fn units_of(data_type: &DataType) -> Option<(&'static str, IntervalUnits)> {
    let DataType::Interval { fields: Some(fields), .. } = data_type else { return None };
    let text = fields.to_string();
    let (first, last) = text.split_once(" TO ").unwrap_or((&text, &text));
    let units = |first, last| IntervalUnits { first, last };
    Some(match (Unit::read(first)?, Unit::read(last)?) {
        (Unit::Months(_, first), Unit::Months(_, last)) => (MONTHS, units(first, last)),
        (Unit::Micros(_, first), Unit::Micros(_, last)) => (MICROS, units(first, last)),
        _ => return None,
    })
}

/// An ANSI interval: of years and months, or of days and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum AnsiInterval {
    /// So many months.
    Months(i32, IntervalUnits),
    /// So many microseconds.
    Micros(i64, IntervalUnits),
}

impl AnsiInterval {
    /// The interval that is written; `None` if it is none of the two kinds (units of both, or no constant).
    pub(super) fn read(interval: &Interval) -> Option<Self> {
        let (negative, text) = constant(&interval.value)?;
        let (negated, text) = match text.trim().strip_prefix('-') {
            Some(rest) if interval.leading_field.is_some() => (!negative, rest.trim().to_owned()),
            _ => (negative, text.trim().trim_start_matches('+').to_owned()),
        };
        let length = match (&interval.leading_field, &interval.last_field) {
            (Some(unit), None) => Length::default().with(&text, Unit::read(&unit.to_string())?)?,
            (Some(first), Some(last)) => range(&text, first, last)?,
            (None, _) => units(&text)?,
        };
        length.interval(if negated { -1 } else { 1 })
    }

    /// `3 0,1`: the number and the units, to be read by [`planned`].
    pub(super) fn text(self) -> (&'static str, String) {
        match self {
            Self::Months(months, units) => (MONTHS, format!("{months} {} {}", units.first, units.last)),
            Self::Micros(micros, units) => (MICROS, format!("{micros} {} {}", units.first, units.last)),
        }
    }

    /// As Spark prints it: `INTERVAL '1 02' DAY TO HOUR`.
    pub(super) fn literal(self) -> String {
        let (array, units): (ArrayRef, _) = match self {
            Self::Months(months, units) => (Arc::new(IntervalYearMonthArray::from(vec![months])), units),
            Self::Micros(micros, units) => (Arc::new(DurationMicrosecondArray::from(vec![micros])), units),
        };
        intervals_to_text(&array, units).value(0).to_owned()
    }

    /// As [`Self::read`], with the other sign.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Months(months, units) => Self::Months(-months, units),
            Self::Micros(micros, units) => Self::Micros(-micros, units),
        }
    }
}

/// The literal that [`AnsiInterval::text`] stands for.
pub(super) fn planned(kind: &str, text: &str) -> Option<PlanExpr> {
    let [value, first, last] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let units = IntervalUnits { first: first.parse().ok()?, last: last.parse().ok()? };
    let value = match value {
        "NULL" => None,
        digits => Some(digits.parse::<i64>().ok()?),
    };
    let value = match kind {
        MONTHS => ScalarValue::IntervalYearMonth(value.map(i32::try_from).transpose().ok()?),
        _ => ScalarValue::DurationMicrosecond(value),
    };
    Some(PlanExpr::Literal(value, Some(units.metadata())))
}

/// A constant as text, and whether a minus stands before it.
fn constant(value: &Expr) -> Option<(bool, String)> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => Some((false, text.clone())),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => constant(expr).map(|(negative, text)| (!negative, text)),
        Expr::Nested(inner) => constant(inner),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    /// So many months, and Spark's number of the unit.
    Months(i64, u8),
    /// So many microseconds, and Spark's number of the unit.
    Micros(i64, u8),
}

impl Unit {
    fn read(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Some(match name.strip_suffix('s').unwrap_or(&name) {
            "year" => Self::Months(12, 0),
            "month" => Self::Months(1, 1),
            "week" => Self::Micros(7 * DAY, 0),
            "day" => Self::Micros(DAY, 0),
            "hour" => Self::Micros(HOUR, 1),
            "minute" => Self::Micros(MINUTE, 2),
            "second" => Self::Micros(SECOND, 3),
            "millisecond" => Self::Micros(1000, 3),
            "microsecond" => Self::Micros(1, 3),
            _ => return None,
        })
    }
}

/// A sum of units.
#[derive(Debug, Default, Clone, Copy)]
struct Length {
    months: Option<i64>,
    micros: Option<i64>,
    first: Option<u8>,
    last: u8,
}

impl Length {
    fn with(mut self, text: &str, unit: Unit) -> Option<Self> {
        let number = match unit {
            Unit::Months(months, number) => {
                let added = text.trim().parse::<i64>().ok()?.checked_mul(months)?;
                self.months = Some(self.months.unwrap_or(0).checked_add(added)?);
                number
            }
            Unit::Micros(micros, number) => {
                let added = match number {
                    // Only seconds have a fraction.
                    3 => i64::try_from(parse::decimal(text.trim(), 38, 6)?.checked_mul(micros.into())? / 1_000_000)
                        .ok()?,
                    _ => text.trim().parse::<i64>().ok()?.checked_mul(micros)?,
                };
                self.micros = Some(self.micros.unwrap_or(0).checked_add(added)?);
                number
            }
        };
        self.first = Some(self.first.map_or(number, |first| first.min(number)));
        self.last = self.last.max(number);
        Some(self)
    }

    fn interval(self, sign: i64) -> Option<AnsiInterval> {
        let units = IntervalUnits { first: self.first?, last: self.last };
        match (self.months, self.micros) {
            (Some(months), None) => Some(AnsiInterval::Months(i32::try_from(months * sign).ok()?, units)),
            (None, Some(micros)) => Some(AnsiInterval::Micros(micros.checked_mul(sign)?, units)),
            _ => None,
        }
    }
}

/// `'1-2' YEAR TO MONTH`, `'1 10:20:30.5' DAY TO SECOND`: all units from the first to the last.
fn range(text: &str, first: &DateTimeField, last: &DateTimeField) -> Option<Length> {
    let (from, to) = (Unit::read(&first.to_string())?, Unit::read(&last.to_string())?);
    let units: Vec<Unit> = match (from, to) {
        (Unit::Months(..), Unit::Months(..)) => vec![Unit::Months(12, 0), Unit::Months(1, 1)],
        (Unit::Micros(_, from), Unit::Micros(_, to)) if from < to => {
            let all = [(DAY, 0), (HOUR, 1), (MINUTE, 2), (SECOND, 3)];
            all.into_iter().filter(|(_, n)| (from..=to).contains(n)).map(|(size, n)| Unit::Micros(size, n)).collect()
        }
        _ => return None,
    };
    let parts: Vec<&str> = text.split(['-', ' ', ':']).filter(|part| !part.is_empty()).collect();
    if parts.len() != units.len() {
        return None;
    }
    parts.into_iter().zip(units).try_fold(Length::default(), |length, (part, unit)| length.with(part, unit))
}

/// `1 year -2 months`
fn units(text: &str) -> Option<Length> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return None;
    }
    pairs.iter().try_fold(Length::default(), |length, [number, unit]| length.with(number, Unit::read(unit)?))
}
/// A frame whose bounds of `INTERVAL 2 HOURS` are written `INTERVAL '2' HOURS`, which is how DataFusion reads them.
pub(super) fn with_texts(mut frame: WindowFrame) -> WindowFrame {
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let WindowFrameBound::Preceding(Some(distance)) | WindowFrameBound::Following(Some(distance)) = bound
            && let Expr::Interval(interval) = distance.as_mut()
            && let Expr::Value(value) = interval.value.as_mut()
            && let Value::Number(digits, _) = &value.value
        {
            value.value = Value::SingleQuotedString(digits.clone());
        }
    }
    frame
}
