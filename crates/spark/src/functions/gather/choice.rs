//! One or some of the values as they are: the most frequent, those with the greatest key, all joined.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::row::Rows;
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;

use super::{Gathered, Keep, of_any, rows};
use crate::error::{Error, Result};
use crate::types::{array, canonical};

/// As many values `max_by` gives at most.
const MOST_VALUES: i64 = 100_000;

/// The names of the aggregate that joins values.
pub(super) const LISTAGG: &[&str] = &["listagg", "string_agg"];

pub(super) const AGGREGATES: &[Gathered] = &[
    of_any(LISTAGG, (1, 2), |types| types.first().map_or(DataType::Utf8, joined_type), joined),
    of_any(&["mode"], (1, 2), |types| types.first().map_or(DataType::Null, canonical), mode),
    by_other(&["max_by"], |columns, constants| best(columns, constants, true)),
    by_other(&["min_by"], |columns, constants| best(columns, constants, false)),
];

/// All values but NULL; an empty array if there are none.
pub(super) const COLLECT_LIST: Gathered = of_any(
    &["collect_list"],
    (1, 1),
    |types| array(types.first().map_or(DataType::Null, canonical)),
    |columns, _, result| {
        let values = arrow::compute::filter(&columns[0], &arrow::compute::is_not_null(&columns[0])?)?;
        let DataType::List(field) = result else { return Err(Error::internal("`collect_list` gives an array")) };
        Ok(SingleRowListArrayBuilder::new(values).with_field(field).build_list_scalar())
    },
);

/// The value of the row whose other value is best, or an array of so many values, the best first.
const fn by_other(names: &'static [&'static str], keep: Keep) -> Gathered {
    Gathered {
        arity: (2, 3),
        columns: &[0, 1],
        keep: Some(keep),
        ..of_any(
            names,
            (2, 3),
            |types| {
                let one = types.first().map_or(DataType::Null, canonical);
                if types.len() > 2 { array(one) } else { one }
            },
            |columns, constants, result| match (columns[0].len(), constants.is_empty()) {
                (0, _) => Ok(ScalarValue::try_from(result)?),
                (_, true) => Ok(ScalarValue::try_from_array(&columns[0], 0)?),
                (_, false) => Ok(SingleRowListArrayBuilder::new(columns[0].clone()).build_list_scalar()),
            },
        )
    }
}

/// `max` and `min` of values that have values inside, of which NULL is the least: DataFusion's take it for unknown.
pub(super) const EXTREMES: [Gathered; 2] = [
    extreme(&["max"], |columns, _| most(columns, |keys, a, b| keys.row(a).cmp(&keys.row(b)))),
    extreme(&["min"], |columns, _| most(columns, |keys, a, b| keys.row(b).cmp(&keys.row(a)))),
];

const fn extreme(names: &'static [&'static str], keep: Keep) -> Gathered {
    Gathered {
        keep: Some(keep),
        ..of_any(
            names,
            (1, 1),
            |types| types.first().map_or(DataType::Null, canonical),
            |columns, _, result| match columns[0].len() {
                0 => Ok(ScalarValue::try_from(result)?),
                _ => Ok(ScalarValue::try_from_array(&columns[0], 0)?),
            },
        )
    }
}

/// The row of the first column that is greatest by `order`, but for those that are NULL as a whole.
fn most(columns: &[ArrayRef], order: fn(&Rows, usize, usize) -> Ordering) -> Result<Vec<usize>> {
    let keys = rows(&columns[0])?;
    let known = (0..columns[0].len()).filter(|row| columns[0].is_valid(*row));
    Ok(known.max_by(|a, b| order(&keys, *a, *b)).into_iter().collect())
}

fn joined_type(of: &DataType) -> DataType {
    if canonical(of) == DataType::Binary { DataType::Binary } else { DataType::Utf8 }
}

/// The values one after the other, with a separator between them; NULL if there are none.
fn joined(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    let bytes = arrow::compute::cast(&arrow::compute::cast(&columns[0], result)?, &DataType::Binary)?;
    let values: Vec<&[u8]> = bytes.as_binary::<i32>().iter().flatten().collect();
    if values.is_empty() {
        return Ok(ScalarValue::try_from(result)?);
    }
    let separator = match constants.first() {
        None => Vec::new(),
        Some(Some(ScalarValue::Binary(separator))) => separator.clone().unwrap_or_default(),
        Some(Some(separator)) if separator.is_null() => Vec::new(),
        Some(Some(separator)) => separator.try_as_str().flatten().unwrap_or_default().as_bytes().to_vec(),
        Some(None) => {
            return Err(Error::user("the separator of `listagg` must be a constant")
                .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
        }
    };
    let all = values.join(separator.as_slice());
    Ok(match result {
        DataType::Binary => ScalarValue::Binary(Some(all)),
        _ => ScalarValue::Utf8(Some(String::from_utf8_lossy(&all).into_owned())),
    })
}

/// The value that is there most often; of several the first, or the least if the second argument is true.
fn mode(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    let least = matches!(constants.first(), Some(Some(ScalarValue::Boolean(Some(true)))));
    let (column, keys) = (&columns[0], rows(&columns[0])?);
    let mut counts: HashMap<_, (usize, usize)> = HashMap::new();
    for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
        counts.entry(keys.row(row)).or_insert((0, row)).0 += 1;
    }
    let most = counts.into_values().max_by(|(a, first), (b, second)| {
        let order = if least { keys.row(*first).cmp(&keys.row(*second)) } else { first.cmp(second) };
        a.cmp(b).then(order.reverse())
    });
    match most {
        Some((_, row)) => Ok(ScalarValue::try_from_array(column, row)?),
        None => Ok(ScalarValue::try_from(result)?),
    }
}

/// How many values are asked for.
fn wanted(constants: &[Option<ScalarValue>]) -> Result<usize> {
    let Some(count) = constants.first() else { return Ok(1) };
    let count = match count.as_ref().map(|count| count.cast_to(&DataType::Int64)).transpose()? {
        Some(ScalarValue::Int64(Some(count @ 1..=MOST_VALUES))) => Some(count),
        _ => None,
    };
    count.and_then(|count| usize::try_from(count).ok()).ok_or_else(|| {
        Error::user(format!("the number of values must be a constant from 1 to {MOST_VALUES}"))
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE")
    })
}

/// The rows whose second value is the greatest or the least, the best first. If only one is wanted, it is the last of
/// several equal ones, as in Spark.
fn best(columns: &[ArrayRef], constants: &[Option<ScalarValue>], greatest: bool) -> Result<Vec<usize>> {
    let wanted = wanted(constants)?;
    let keys = rows(&columns[1])?;
    let mut order: Vec<usize> = (0..columns[1].len()).filter(|row| columns[1].is_valid(*row)).collect();
    if constants.is_empty() {
        order.reverse();
    }
    order.sort_by(|a, b| {
        let ascending = keys.row(*a).cmp(&keys.row(*b));
        if greatest { ascending.reverse() } else { ascending }
    });
    order.truncate(wanted);
    Ok(order)
}
