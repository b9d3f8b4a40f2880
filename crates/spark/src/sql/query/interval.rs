//! Constant intervals as lengths of time.

use arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};
use datafusion::common::ScalarValue;

/// The length of an interval without months, in microseconds.
pub(super) fn microseconds(value: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 86_400_000_000;
    match value {
        ScalarValue::DurationMicrosecond(length) => *length,
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days, nanoseconds })) => {
            Some(i64::from(*days) * DAY + nanoseconds / 1000)
        }
        ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds })) => {
            Some(i64::from(*days) * DAY + i64::from(*milliseconds) * 1000)
        }
        _ => None,
    }
}
