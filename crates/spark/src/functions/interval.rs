//! Lengths of time as values, and times in windows of one length.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StructArray};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Field, Fields, Int32Type, Int64Type, IntervalUnit,
    IntervalYearMonthType, TimeUnit, TimestampMicrosecondType,
};

use super::udf::{Call, Function, Returns, function};
use crate::cast::calendar::{DAY, HOUR, MINUTE};
use crate::cast::delay_us;
use crate::error::{Error, Result};
use crate::types::{canonical, timestamp};

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["window"], (2, 4), Returns::Types(window_type), window),
    function(
        &["window_time"],
        (1, 1),
        Returns::Types(|types| types.first().map_or_else(|| Ok(timestamp()), time_of)),
        |c| {
            let window = c.array(0)?;
            let window = window.as_struct_opt().ok_or_else(not_a_window)?;
            let end = window.column_by_name("end").ok_or_else(not_a_window)?;
            let last: PrimitiveArray<TimestampMicrosecondType> =
                end.as_primitive::<TimestampMicrosecondType>().unary(|end| end - 1);
            Ok(Arc::new(last.with_data_type(c.result().clone())))
        },
    ),
    function(&["make_ym_interval"], (0, 2), Returns::Type(|| DataType::Interval(IntervalUnit::YearMonth)), year_month),
    function(&["make_dt_interval"], (0, 4), Returns::Type(|| DataType::Duration(TimeUnit::Microsecond)), day_time),
];

fn not_a_window() -> Error {
    Error::user("`window_time` takes what `window` gives").with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

/// The type of the times of a window.
fn time_of(window: &DataType) -> Result<DataType> {
    match window {
        DataType::Struct(fields) => match fields.iter().find(|field| field.name() == "end") {
            Some(end) if matches!(end.data_type(), DataType::Timestamp(..)) => Ok(end.data_type().clone()),
            _ => Err(not_a_window()),
        },
        _ => Err(not_a_window()),
    }
}

fn fields(time: &DataType) -> Fields {
    Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time.clone(), true)])
}

fn window_type(types: &[DataType]) -> Result<DataType> {
    let time = match types.first().map(canonical) {
        Some(time @ DataType::Timestamp(_, None)) => time,
        _ => timestamp(),
    };
    Ok(DataType::Struct(fields(&time)))
}

/// `window(time, length[, slide[, start]])`: the window that a time lies in; NULL has none.
fn window(call: &Call<'_>) -> Result<ArrayRef> {
    let constant = |i: usize| match call.constant_text(i) {
        Some(Some(text)) => delay_us(&text),
        _ => Err(Error::user("the lengths of `window` must be constant texts such as '10 minutes'")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")),
    };
    let length = constant(1)?;
    let slide = if call.len() > 2 { constant(2)? } else { length };
    let start = if call.len() > 3 { constant(3)? } else { 0 };
    if length <= 0 || slide <= 0 {
        return Err(Error::user("the length of a `window` must be positive")
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE"));
    }
    if slide != length {
        return Err(Error::unsupported("a `window` that slides by less than its length")
            .with_help("Use windows that do not overlap."));
    }
    let DataType::Struct(fields) = call.result() else { return Err(Error::internal("a window is no struct")) };
    let times = call.cast(0, fields[0].data_type())?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let first: PrimitiveArray<TimestampMicrosecondType> = times.unary(|time| time - (time - start).rem_euclid(length));
    let end: PrimitiveArray<TimestampMicrosecondType> = first.unary(|start| start + length);
    let zoned = |array: PrimitiveArray<TimestampMicrosecondType>| -> ArrayRef {
        Arc::new(array.with_data_type(fields[0].data_type().clone()))
    };
    let columns = vec![zoned(first), zoned(end)];
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, times.nulls().cloned())?))
}

fn overflow() -> Error {
    Error::data("the interval is too long").with_condition("ARITHMETIC_OVERFLOW")
}

/// `make_ym_interval([years[, months]])`
fn year_month(call: &Call<'_>) -> Result<ArrayRef> {
    let parts = (0..call.len()).map(|i| call.cast(i, &DataType::Int32)).collect::<Result<Vec<_>>>()?;
    let value = |row: usize| -> Result<Option<i32>> {
        if parts.iter().any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let part = |i: usize| parts.get(i).map_or(0, |part| part.as_primitive::<Int32Type>().value(row));
        part(0).checked_mul(12).and_then(|months| months.checked_add(part(1))).map(Some).ok_or_else(overflow)
    };
    Ok(Arc::new((0..call.rows()).map(value).collect::<Result<PrimitiveArray<IntervalYearMonthType>>>()?))
}

/// `make_dt_interval([days[, hours[, minutes[, seconds]]]])`; seconds have six decimals.
fn day_time(call: &Call<'_>) -> Result<ArrayRef> {
    let whole = (0..call.len().min(3)).map(|i| call.cast(i, &DataType::Int64)).collect::<Result<Vec<_>>>()?;
    let seconds = if call.len() > 3 { Some(call.cast(3, &DataType::Decimal128(18, 6))?) } else { None };
    let value = |row: usize| -> Result<Option<i64>> {
        if whole.iter().chain(&seconds).any(|part| part.is_null(row)) {
            return Ok(None);
        }
        let mut micros = 0_i64;
        for (part, unit) in whole.iter().zip([DAY, HOUR, MINUTE]) {
            let part = part.as_primitive::<Int64Type>().value(row);
            micros = part.checked_mul(unit).and_then(|part| micros.checked_add(part)).ok_or_else(overflow)?;
        }
        if let Some(seconds) = &seconds {
            let part = i64::try_from(seconds.as_primitive::<Decimal128Type>().value(row)).map_err(|_| overflow())?;
            micros = micros.checked_add(part).ok_or_else(overflow)?;
        }
        Ok(Some(micros))
    };
    Ok(Arc::new((0..call.rows()).map(value).collect::<Result<PrimitiveArray<DurationMicrosecondType>>>()?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("make_ym_interval(2014, 12)", "INTERVAL '2015-0' YEAR TO MONTH"),
            ("make_dt_interval(1, 12, 30, 1.001001)", "INTERVAL '1 12:30:01.001001' DAY TO SECOND"),
            ("make_dt_interval()", "INTERVAL '0 00:00:00' DAY TO SECOND"),
            ("window(TIMESTAMP '2016-03-11 09:00:07', '5 seconds')", "{2016-03-11 09:00:05, 2016-03-11 09:00:10}"),
            (
                "get_field(window(TIMESTAMP '2016-03-11 09:00:07', '1 hour', '1 hour', '15 minutes'), 'start')",
                "2016-03-11 08:15:00",
            ),
            ("window_time(window(TIMESTAMP '2016-03-11 09:00:07', '5 seconds'))", "2016-03-11 09:00:09.999999"),
            ("window(CAST(NULL AS TIMESTAMP), '1 hour')", "NULL"),
        ])
        .await;
    }
}
