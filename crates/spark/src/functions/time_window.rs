//! Windows of time: the one a time lies in, all that overlap there, the session that an event opens.
//!
//! `window` and `session_window` are of the rows around them, not of one row alone. What that means for a query
//! (rows without a time are in no window, a row is in several windows that overlap, sessions merge) is in
//! [`crate::windowing`].

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::udf::{Call, Function, Returns, function};
use crate::cast::{delay_us, interval_us};
use crate::error::{Error, Result};
use crate::types::{array, canonical, timestamp};

type Times = PrimitiveArray<TimestampMicrosecondType>;

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["window"], (2, 4), Returns::Types(window_type), window),
    function(&["session_window"], (2, 2), Returns::Types(window_type), session_window),
    function(
        &["window_time"],
        (1, 1),
        Returns::Types(|types| types.first().map_or_else(|| Ok(timestamp()), time_of)),
        |c| Ok(Arc::new(last_instants(&c.array(0)?)?.with_data_type(c.result().clone()))),
    ),
];

/// `windows(time, length, slide, start)`: every window that a time lies in, the latest first.
pub(crate) const WINDOWS: Function =
    function(&["windows"], (2, 4), Returns::Types(|types| Ok(array(window_type(types)?))), windows);

/// `window`, of which it is known that it is not NULL: rows in no window have left.
pub(crate) fn known(window: Expr) -> Expr {
    static KNOWN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Known)));
    KNOWN.call(vec![window])
}

/// The window in a call of [`known`].
pub(crate) fn as_known(call: &ScalarFunction) -> Option<&Expr> {
    call.func.inner().is::<Known>().then(|| call.args.first()).flatten()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Known;

impl ScalarUDFImpl for Known {
    fn name(&self) -> &'static str {
        "known_window"
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(1, Volatility::Immutable));
        &SIGNATURE
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Internal("no window".to_owned()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, false)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        args.args.pop().ok_or_else(|| DataFusionError::Internal("no window".to_owned()))
    }
}

/// The constant lengths of a `window`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowLengths {
    length: i64,
    slide: i64,
    start: i64,
}

impl WindowLengths {
    /// Reads the arguments of `window` after the time.
    ///
    /// # Errors
    /// `User` if one is no constant interval, or they do not fit each other.
    pub(crate) fn of(arguments: &[Option<&ScalarValue>]) -> Result<Self> {
        let at = |i: usize| arguments.get(i).map(|value| value.ok_or_else(not_constant).and_then(interval)).transpose();
        let length = at(0)?.ok_or_else(not_constant)?;
        let slide = at(1)?.unwrap_or(length);
        let start = at(2)?.unwrap_or(0);
        let out_of_range = |what: &str| Err(Error::user(what).with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE"));
        match () {
            () if length <= 0 || slide <= 0 => out_of_range("the length of a `window` must be positive"),
            () if slide > length => out_of_range("a `window` cannot slide by more than its length"),
            () if start.abs() >= slide => out_of_range("a `window` must start less than it slides after midnight"),
            () => Ok(Self { length, slide, start }),
        }
    }

    fn of_call(call: &Call<'_>) -> Result<Self> {
        Self::of(&(1..call.len()).map(|i| call.constant(i)).collect::<Vec<_>>())
    }

    /// Whether a time lies in more than one window.
    pub(crate) fn overlap(self) -> bool {
        self.slide < self.length
    }

    /// Where the latest window that `time` lies in starts.
    fn latest_start(self, time: i64) -> i64 {
        time - (time - self.start).rem_euclid(self.slide)
    }
}

fn not_constant() -> Error {
    Error::user("the lengths of `window` must be constants such as '10 minutes'")
        .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")
}

/// The microseconds of a constant length: text or an interval of days and time.
fn interval(value: &ScalarValue) -> Result<i64> {
    match value {
        ScalarValue::DurationMicrosecond(Some(length)) => Ok(*length),
        value => value.try_as_str().flatten().ok_or_else(not_constant).and_then(interval_us),
    }
}

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

fn window_type(types: &[DataType]) -> Result<DataType> {
    let time = match types.first().map(canonical) {
        Some(time @ DataType::Timestamp(_, None)) => time,
        Some(window @ DataType::Struct(_)) => time_of(&window)?,
        _ => timestamp(),
    };
    let field = |name| Field::new(name, time.clone(), true);
    Ok(DataType::Struct(Fields::from(vec![field("start"), field("end")])))
}

/// The last microsecond of each window.
fn last_instants(windows: &ArrayRef) -> Result<Times> {
    let windows = windows.as_struct_opt().ok_or_else(not_a_window)?;
    let end = windows.column_by_name("end").ok_or_else(not_a_window)?;
    let last = end.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(not_a_window)?.unary(|end| end - 1);
    Ok(PrimitiveArray::new(Times::values(&last).clone(), NullBuffer::union(last.nulls(), windows.nulls())))
}

/// The times of the first argument; of a window, its last instant.
fn times(call: &Call<'_>, fields: &Fields) -> Result<Times> {
    let values = call.array(0)?;
    if matches!(values.data_type(), DataType::Struct(_)) {
        return last_instants(&values);
    }
    Ok(call.cast(0, fields[0].data_type())?.as_primitive::<TimestampMicrosecondType>().clone())
}

fn structs(fields: &Fields, start: Times, end: Times, nulls: Option<NullBuffer>) -> Result<StructArray> {
    let column = |times: Times, i: usize| -> ArrayRef { Arc::new(times.with_data_type(fields[i].data_type().clone())) };
    Ok(StructArray::try_new(fields.clone(), vec![column(start, 0), column(end, 1)], nulls)?)
}

fn fields_of(window: &DataType) -> Result<&Fields> {
    match window {
        DataType::Struct(fields) => Ok(fields),
        other => Err(Error::internal(format!("a window of type {other}"))),
    }
}

/// `window(time, length[, slide[, start]])`: the window that a time lies in; NULL has none.
fn window(call: &Call<'_>) -> Result<ArrayRef> {
    let lengths = WindowLengths::of_call(call)?;
    if lengths.overlap() {
        return Err(Error::unsupported(
            "a `window` that slides by less than its length, outside of a select list or GROUP BY,",
        )
        .with_help("Give it a name in an inner query, and use that."));
    }
    let fields = fields_of(call.result())?;
    let times = times(call, fields)?;
    let first: Times = times.unary(|time| lengths.latest_start(time));
    let end: Times = first.unary(|start| start + lengths.length);
    Ok(Arc::new(structs(fields, first, end, times.nulls().cloned())?))
}

fn windows(call: &Call<'_>) -> Result<ArrayRef> {
    let lengths = WindowLengths::of_call(call)?;
    let DataType::List(item) = call.result() else { return Err(Error::internal("windows are no list")) };
    let fields = fields_of(item.data_type())?;
    let times = times(call, fields)?;
    let mut starts = Vec::new();
    let mut counts = Vec::with_capacity(times.len());
    for time in &times {
        let before = starts.len();
        if let Some(time) = time {
            let mut start = lengths.latest_start(time);
            while start + lengths.length > time {
                starts.push(start);
                start -= lengths.slide;
            }
        }
        counts.push(starts.len() - before);
    }
    let start: Times = PrimitiveArray::new(starts.into(), None);
    let end: Times = start.unary(|start| start + lengths.length);
    let windows = structs(fields, start, end, None)?;
    let offsets = OffsetBuffer::from_lengths(counts);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(windows), times.nulls().cloned())?))
}

/// `session_window(time, gap)`: the session that an event opens on its own, from its time until the gap is over.
/// There is none without a time or a positive gap.
fn session_window(call: &Call<'_>) -> Result<ArrayRef> {
    let fields = fields_of(call.result())?;
    let times = times(call, fields)?;
    let gaps = gaps(call)?;
    let end = |(time, gap): (Option<i64>, Option<i64>)| time?.checked_add(gap.filter(|gap| *gap > 0)?);
    let end: Times = times.iter().zip(gaps).map(end).collect();
    let nulls = end.nulls().cloned();
    Ok(Arc::new(structs(fields, times, end, nulls)?))
}

/// The gap of each row, in microseconds.
fn gaps(call: &Call<'_>) -> Result<Vec<Option<i64>>> {
    match call.constant(1) {
        Some(ScalarValue::DurationMicrosecond(Some(gap))) => Ok(vec![positive(*gap)?; call.rows()]),
        Some(value) if value.is_null() => Ok(vec![None; call.rows()]),
        Some(value) => {
            let text = value.try_as_str().flatten().ok_or_else(not_a_gap)?;
            Ok(vec![positive(delay_us(text)?)?; call.rows()])
        }
        None => gaps_of_rows(call),
    }
}

fn positive(gap: i64) -> Result<Option<i64>> {
    match gap {
        1.. => Ok(Some(gap)),
        _ => Err(Error::user("the gap of a `session_window` must be positive")
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE")),
    }
}

fn not_a_gap() -> Error {
    Error::user("the gap of a `session_window` must be an interval, or text such as '5 minutes'")
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

fn gaps_of_rows(call: &Call<'_>) -> Result<Vec<Option<i64>>> {
    let values = call.array(1)?;
    if matches!(values.data_type(), DataType::Duration(_)) {
        let gaps = call.cast(1, &DataType::Duration(TimeUnit::Microsecond))?;
        return Ok(gaps.as_primitive::<DurationMicrosecondType>().iter().collect());
    }
    if !matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null) {
        return Err(not_a_gap());
    }
    let texts = call.text(1)?;
    let mut known: HashMap<&str, i64> = HashMap::new();
    texts
        .iter()
        .map(|text| {
            let Some(text) = text else { return Ok(None) };
            if let Some(gap) = known.get(text) {
                return Ok(Some(*gap));
            }
            let gap = interval_us(text)?;
            known.insert(text, gap);
            Ok(Some(gap))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all, check_spark};

    #[tokio::test]
    async fn windows_of_times() {
        check_all(&[
            ("window(TIMESTAMP '2016-03-11 09:00:07', '5 seconds')", "{2016-03-11 09:00:05, 2016-03-11 09:00:10}"),
            (
                "get_field(window(TIMESTAMP '2016-03-11 09:00:07', '1 hour', '1 hour', '15 minutes'), 'start')",
                "2016-03-11 08:15:00",
            ),
            ("window_time(window(TIMESTAMP '2016-03-11 09:00:07', '5 seconds'))", "2016-03-11 09:00:09.999999"),
            (
                "session_window(TIMESTAMP '2016-03-11 09:00:07', '5 seconds')",
                "{2016-03-11 09:00:07, 2016-03-11 09:00:12}",
            ),
        ])
        .await;
        check_spark(&[("window(TIMESTAMP '2016-03-11 09:00:07', INTERVAL 1 HOUR).start", "2016-03-11 09:00:00")]).await;
    }

    #[tokio::test]
    async fn lengths_must_fit() {
        let range = Err("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE");
        check("window(TIMESTAMP '2024-01-01', '0 seconds')", range, range).await;
        check("window(TIMESTAMP '2024-01-01', '1 minute', '2 minutes')", range, range).await;
        check("window(TIMESTAMP '2024-01-01', '1 minute', '1 minute', '2 minutes')", range, range).await;
        check("session_window(TIMESTAMP '2024-01-01', '0 seconds')", range, range).await;
    }
}
