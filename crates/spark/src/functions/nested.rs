//! Building arrays and reading them: `array`, `concat`, `size`, `element_at`, `sequence`, `reverse`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::logical_expr::{Expr, Operator, lit, when};

use super::conditional::exactly;
use super::form::{Env, Form, form};
use super::lists::{Arg, Lists, element_type, meet};
use super::map::MAP_VALUE;
use super::udf::{ANY, Call, Function, INT, Returns, function};
use crate::cast::calendar::{self, DAY};
use crate::cast::cast_array;
use crate::coercion::binary_op;
use crate::error::{Error, Result};
use crate::types::{array, canonical, sql_type_name, timestamp};

pub(super) const FORMS: &[Form] = &[
    form(&["array"], (0, ANY), |args, env| match args.is_empty() {
        true => Ok(EMPTY.call(args)),
        false => Ok(datafusion::functions_nested::expr_fn::make_array(env.common(args)?)),
    }),
    form(&["concat"], (0, ANY), concat),
    form(&["element_at"], (2, 2), |args, env| element_at(args, env, ELEMENT_AT)),
    form(&["try_element_at"], (2, 2), |args, env| element_at(args, env, TRY_ELEMENT_AT)),
    form(&["reverse"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        match env.type_of(&value)? {
            DataType::List(_) => Ok(REVERSE.call(vec![value])),
            DataType::Binary => Ok(super::binary::REVERSE.call(vec![value])),
            _ => Ok(datafusion::functions::unicode::expr_fn::reverse(env.cast(value, &DataType::Utf8)?)),
        }
    }),
    form(&["arrays_zip"], (0, ANY), |args, _| {
        let name = |(i, arg): (usize, &Expr)| match arg {
            Expr::Column(column) => column.name.clone(),
            Expr::Alias(alias) => alias.name.clone(),
            _ => i.to_string(),
        };
        let names = args.iter().enumerate().map(name).collect();
        Ok(super::zip::zip(names, args))
    }),
    form(&["get"], (2, 2), |args, env| {
        let [list, index] = exactly(args)?;
        let index = env.cast(index, &DataType::Int64)?;
        let element = datafusion::functions_nested::expr_fn::array_element(list, index.clone() + lit(1_i64));
        Ok(when(index.gt_eq(lit(0_i64)), element).end()?)
    }),
];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["size", "cardinality"], (1, 1), INT, |c| size(c, true)),
    function(&["array_size"], (1, 1), INT, |c| size(c, false)),
    function(&["sequence"], (2, 3), Returns::Types(sequence_type), sequence),
];

const EMPTY: Function = function(&["array"], (0, 0), Returns::Type(|| array(DataType::Null)), |c| {
    let values = arrow::array::new_empty_array(&DataType::Null);
    let offsets = OffsetBuffer::from_lengths(vec![0; c.rows()]);
    let DataType::List(field) = c.result() else { return Err(Error::internal("an array that is none")) };
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, None)?))
});

const REVERSE: Function =
    function(&["reverse"], (1, 1), Returns::Types(|t| Ok(array(meet(t, &[Arg::List(0)])?))), |c| {
        let lists = Lists::new(c, &[Arg::List(0)])?;
        lists.rebuild(c, |row| Some(lists.at(0, row)?.rev().map(Some).collect()))
    });

/// Text is joined, NULL if any is; arrays likewise.
fn concat(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let types = args.iter().map(|arg| env.type_of(arg)).collect::<Result<Vec<_>>>()?;
    if types.iter().any(|t| matches!(t, DataType::List(_))) {
        return Ok(CONCAT_ARRAYS.call(env.common(args)?));
    }
    if !types.is_empty() && types.iter().all(|t| *t == DataType::Binary) {
        return Ok(super::binary::CONCAT.call(args));
    }
    let mut joined: Option<Expr> = None;
    for arg in args {
        let text = env.cast(arg, &DataType::Utf8)?;
        joined = Some(match joined {
            None => text,
            Some(left) => binary_op(left, Operator::StringConcat, text, env.schema, env.conf)?,
        });
    }
    Ok(joined.unwrap_or_else(|| datafusion::logical_expr::lit("")))
}

const CONCAT_ARRAYS: Function = function(
    &["concat"],
    (1, ANY),
    Returns::Types(|types| types.first().cloned().ok_or_else(|| Error::internal("`concat` of nothing"))),
    |c| {
        let args: Vec<_> = (0..c.len()).map(Arg::List).collect();
        let lists = Lists::new(c, &args)?;
        lists.rebuild(c, |row| {
            let mut all = Vec::new();
            for arg in 0..args.len() {
                all.extend(lists.at(arg, row)?.map(Some));
            }
            Some(all)
        })
    },
);

fn element_at(args: Vec<Expr>, env: Env<'_>, of_array: Function) -> Result<Expr> {
    let [collection, key] = exactly(args)?;
    match env.type_of(&collection)? {
        DataType::Map(..) => Ok(MAP_VALUE.call(vec![collection, key])),
        DataType::List(_) | DataType::Null => Ok(of_array.call(vec![collection, key])),
        other => Err(Error::user(format!("`element_at` needs an ARRAY or a MAP, but got {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    }
}

const OF_LIST: Returns = Returns::Types(|types| meet(types, &[Arg::List(0)]));
const ELEMENT_AT: Function = function(&["element_at"], (2, 2), OF_LIST, |c| element(c, c.ansi()));
const TRY_ELEMENT_AT: Function = function(&["try_element_at"], (2, 2), OF_LIST, |c| element(c, false));

/// Positions count from 1, or from the end if negative.
fn element(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let lists = Lists::new(call, &[Arg::List(0)])?;
    let positions = call.cast(1, &DataType::Int32)?;
    let positions = positions.as_primitive::<Int32Type>();
    let mut outside = None;
    let mut picked = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let (Some(list), true) = (lists.at(0, row), positions.is_valid(row)) else {
            picked.push(None);
            continue;
        };
        let (position, size) = (i64::from(positions.value(row)), list.len() as i64);
        if position == 0 {
            return Err(
                Error::data("the position is 0, but positions count from 1").with_condition("INVALID_INDEX_OF_ZERO")
            );
        }
        let at = if position > 0 { position - 1 } else { size + position };
        let inside = (0..size).contains(&at);
        if !inside {
            outside = Some((position, size));
        }
        picked.push(inside.then(|| list.start + at as usize));
    }
    if let (Some((position, size)), true) = (outside, strict) {
        return Err(Error::data(format!("the position {position} is outside of an array of {size} elements"))
            .with_condition("INVALID_ARRAY_INDEX_IN_ELEMENT_AT")
            .with_help("Use `try_element_at` to get NULL instead, or set spark.sql.ansi.enabled to false."));
    }
    lists.pick(call, |row| picked[row])
}

/// `list[position]`: positions count from 0.
pub(crate) const ARRAY_ITEM: Function = function(&["array_item"], (2, 2), OF_LIST, |call| {
    let lists = Lists::new(call, &[Arg::List(0)])?;
    let positions = call.cast(1, &DataType::Int64)?;
    let positions = positions.as_primitive::<Int64Type>();
    let mut picked = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let (Some(list), true) = (lists.at(0, row), positions.is_valid(row)) else {
            picked.push(None);
            continue;
        };
        let at = usize::try_from(positions.value(row)).ok().filter(|at| *at < list.len());
        if at.is_none() && call.ansi() {
            let (position, size) = (positions.value(row), list.len());
            return Err(Error::data(format!("the position {position} is outside of an array of {size} elements"))
                .with_condition("INVALID_ARRAY_INDEX")
                .with_help("Use `get` to get NULL instead, or set spark.sql.ansi.enabled to false."));
        }
        picked.push(at.map(|at| list.start + at));
    }
    lists.pick(call, |row| picked[row])
});

/// How many elements; of NULL -1 without ANSI mode, as `spark.sql.legacy.sizeOfNull` has it.
fn size(call: &Call<'_>, legacy: bool) -> Result<ArrayRef> {
    let collection = call.array(0)?;
    let collection = cast_array(&collection, &canonical(collection.data_type()), call.mode(), call.tz())?;
    let offsets = match collection.data_type() {
        DataType::List(_) => collection.as_list::<i32>().offsets().clone(),
        DataType::Map(..) => collection.as_map().offsets().clone(),
        DataType::Null => OffsetBuffer::from_lengths(vec![0; call.rows()]),
        other => {
            return Err(Error::user(format!("`size` needs an ARRAY or a MAP, but got {}", sql_type_name(other)))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    let of_null = (legacy && !call.ansi()).then_some(-1);
    let null = |row| collection.data_type() == &DataType::Null || collection.is_null(row);
    let sizes = offsets.windows(2).enumerate().map(|(row, b)| if null(row) { of_null } else { Some(b[1] - b[0]) });
    Ok(Arc::new(sizes.collect::<Int32Array>()))
}

fn sequence_type(types: &[DataType]) -> Result<DataType> {
    let met = meet(&types[..types.len().min(2)], &[Arg::Item(0), Arg::Item(1)])?;
    match met {
        DataType::Null => Ok(array(DataType::Int32)),
        integer if integer.is_integer() => Ok(array(integer)),
        DataType::Date32 | DataType::Timestamp(..) => Ok(array(met)),
        other => Err(Error::user(format!("`sequence` cannot count {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.SEQUENCE_WRONG_INPUT_TYPES")),
    }
}

/// `sequence(start, stop[, step])`, both ends included.
fn sequence(call: &Call<'_>) -> Result<ArrayRef> {
    let element = element_type(call.result())?;
    let counted = if element.is_integer() { DataType::Int64 } else { timestamp() };
    let bound =
        |i: usize| -> Result<ArrayRef> { Ok(arrow::compute::cast(&call.cast(i, &counted)?, &DataType::Int64)?) };
    let (starts, stops) = (bound(0)?, bound(1)?);
    let (starts, stops) = (starts.as_primitive::<Int64Type>(), stops.as_primitive::<Int64Type>());
    let steps = steps(call, &element)?;
    let mut numbers: Vec<i64> = Vec::new();
    let (mut lengths, mut valid) = (Vec::new(), Vec::new());
    for row in 0..call.rows() {
        let before = numbers.len();
        let complete = starts.is_valid(row) && stops.is_valid(row) && steps.as_ref().is_none_or(|s| s[row].is_some());
        if complete {
            let (start, stop) = (starts.value(row), stops.value(row));
            let one = if element.is_integer() { Step::By(1) } else { Step::Calendar(0, 1, 0) };
            let step = match steps.as_ref().and_then(|steps| steps[row]) {
                Some(step) => step,
                None if start > stop => one.backwards(),
                None => one,
            };
            fill(start, stop, step, call, &mut numbers)?;
        }
        lengths.push(numbers.len() - before);
        valid.push(complete);
    }
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(numbers));
    let values = cast_array(&arrow::compute::cast(&numbers, &counted)?, &element, call.mode(), call.tz())?;
    let DataType::List(field) = call.result() else {
        return Err(Error::internal("a sequence that is no array"));
    };
    let nulls = Some(NullBuffer::from(valid));
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

#[derive(Clone, Copy)]
enum Step {
    By(i64),
    /// Months, days, microseconds.
    Calendar(i32, i32, i64),
}

impl Step {
    fn backwards(self) -> Self {
        match self {
            Self::By(by) => Self::By(-by),
            Self::Calendar(months, days, micros) => Self::Calendar(-months, -days, -micros),
        }
    }

    /// The value after `n` steps.
    fn after(self, start: i64, n: i64, tz: chrono_tz::Tz) -> Option<i64> {
        match self {
            Self::By(by) => start.checked_add(by.checked_mul(n)?),
            Self::Calendar(months, days, micros) => {
                let local = calendar::to_local(start, tz);
                let day = calendar::add_months(local.div_euclid(DAY), i64::from(months) * n) + i64::from(days) * n;
                Some(calendar::from_local(day * DAY + local.rem_euclid(DAY), tz) + micros.checked_mul(n)?)
            }
        }
    }
}

/// The step of every row, if one was given.
fn steps(call: &Call<'_>, element: &DataType) -> Result<Option<Vec<Option<Step>>>> {
    if call.len() < 3 {
        return Ok(None);
    }
    if element.is_integer() {
        let steps = call.cast(2, &DataType::Int64)?;
        return Ok(Some(steps.as_primitive::<Int64Type>().iter().map(|by| by.map(Step::By)).collect()));
    }
    let steps = call.array(2)?;
    let steps = arrow_interval(&steps, call)?;
    let step = |v: arrow::datatypes::IntervalMonthDayNano| Step::Calendar(v.months, v.days, v.nanoseconds / 1000);
    Ok(Some(steps.as_primitive::<IntervalMonthDayNanoType>().iter().map(|v| v.map(step)).collect()))
}

fn arrow_interval(steps: &ArrayRef, call: &Call<'_>) -> Result<ArrayRef> {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    match steps.data_type() {
        DataType::Interval(IntervalUnit::DayTime) => Ok(arrow::compute::cast(steps, &interval)?),
        DataType::Null => Ok(new_null_array(&interval, call.rows())),
        _ => cast_array(steps, &interval, call.mode(), call.tz()),
    }
}

fn fill(start: i64, stop: i64, step: Step, call: &Call<'_>, numbers: &mut Vec<i64>) -> Result<()> {
    let illegal = || {
        Error::data("`sequence` cannot reach its end: the step leads away from it")
            .with_condition("INVALID_PARAMETER_VALUE.SEQUENCE")
    };
    let overflow = || Error::data("`sequence` leaves the range of its type").with_condition("ARITHMETIC_OVERFLOW");
    let tz = call.tz();
    let second = step.after(start, 1, tz).ok_or_else(overflow)?;
    if start != stop && (second == start || (second > start) != (stop > start)) {
        return Err(illegal());
    }
    let mut n = 0;
    loop {
        let Some(value) = step.after(start, n, tz) else { return Ok(()) };
        if (second >= start && value > stop) || (second < start && value < stop) {
            return Ok(());
        }
        numbers.push(value);
        if start == stop {
            return Ok(());
        }
        n += 1;
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("array(1, 2, NULL)", "[1, 2, null]"),
            ("array(1, 2.5)", "[1.0, 2.5]"),
            ("array()", "[]"),
            ("concat('a', 1, 'b')", "a1b"),
            ("concat('a', NULL)", "NULL"),
            ("concat(array(1, 2), array(3))", "[1, 2, 3]"),
            ("concat(array(1), CAST(NULL AS ARRAY<INT>))", "NULL"),
            ("element_at(array(1, 2, 3), 2)", "2"),
            ("element_at(array(1, 2, 3), -1)", "3"),
            ("try_element_at(array(1), 5)", "NULL"),
            ("reverse(array(1, 2))", "[2, 1]"),
            ("reverse('abc')", "cba"),
            ("size(array(1, 2))", "2"),
            ("cardinality(map('a', 1))", "1"),
            ("array_size(NULL)", "NULL"),
            ("sequence(1, 5)", "[1, 2, 3, 4, 5]"),
            ("sequence(5, 1, -2)", "[5, 3, 1]"),
            ("sequence(3, 1)", "[3, 2, 1]"),
            (
                "sequence(DATE '2024-01-31', DATE '2024-03-31', INTERVAL '1' MONTH)",
                "[2024-01-31, 2024-02-29, 2024-03-31]",
            ),
            ("sequence(DATE '2024-01-01', DATE '2024-01-02')", "[2024-01-01, 2024-01-02]"),
            ("named_struct('a', 1, 'b', 'x')", "{1, x}"),
        ])
        .await;
    }

    #[tokio::test]
    async fn modes_differ() {
        check("size(NULL)", Ok("-1"), Ok("NULL")).await;
        check("element_at(array(1), 5)", Ok("NULL"), Err("INVALID_ARRAY_INDEX_IN_ELEMENT_AT")).await;
        check("array(1, 'x')", Ok("[1, x]"), Err("CAST_INVALID_INPUT")).await;
    }
}
