//! Functions of arrays: what they hold, their order, arrays as sets.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int32Type};

use super::lists::{Arg, Lists, element_type, meet};
use super::udf::{BOOLEAN, Call, Function, LONG, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::types::array;

const ONE: &[Arg] = &[Arg::List(0)];
const BOTH: &[Arg] = &[Arg::List(0), Arg::List(1)];
const WITH_ITEM: &[Arg] = &[Arg::List(0), Arg::Item(1)];

const SAME: Returns = Returns::Types(|types| Ok(array(meet(types, ONE)?)));
const OF_BOTH: Returns = Returns::Types(|types| Ok(array(meet(types, BOTH)?)));
const OF_ITEM: Returns = Returns::Types(|types| Ok(array(meet(types, WITH_ITEM)?)));
const ELEMENT: Returns = Returns::Types(|types| meet(types, ONE));

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["array_contains"], (2, 2), BOOLEAN, array_contains),
    function(&["array_position"], (2, 2), LONG, array_position),
    function(&["array_distinct"], (1, 1), SAME, |c| {
        let lists = Lists::new(c, ONE)?;
        lists.rebuild(c, |row| Some(distinct(&lists, lists.at(0, row)?)))
    }),
    function(&["array_compact"], (1, 1), SAME, |c| {
        let lists = Lists::new(c, ONE)?;
        lists.rebuild(c, |row| Some(lists.at(0, row)?.filter(|at| !lists.is_null(*at)).map(Some).collect()))
    }),
    function(&["array_remove"], (2, 2), OF_ITEM, |c| {
        let lists = Lists::new(c, WITH_ITEM)?;
        lists.rebuild(c, |row| {
            let (list, item) = (lists.at(0, row)?, lists.at(1, row)?.start);
            let keeps = |at: &usize| lists.is_null(*at) || lists.row(*at) != lists.row(item);
            (!lists.is_null(item)).then(|| list.filter(keeps).map(Some).collect())
        })
    }),
    function(&["array_append"], (2, 2), OF_ITEM, |c| {
        let lists = Lists::new(c, WITH_ITEM)?;
        lists.rebuild(c, |row| Some(lists.at(0, row)?.chain(lists.at(1, row)?).map(Some).collect()))
    }),
    function(&["array_prepend"], (2, 2), OF_ITEM, |c| {
        let lists = Lists::new(c, WITH_ITEM)?;
        lists.rebuild(c, |row| Some(lists.at(1, row)?.chain(lists.at(0, row)?).map(Some).collect()))
    }),
    function(&["array_union"], (2, 2), OF_BOTH, |c| {
        let lists = Lists::new(c, BOTH)?;
        lists.rebuild(c, |row| Some(distinct(&lists, lists.at(0, row)?.chain(lists.at(1, row)?))))
    }),
    function(&["array_intersect"], (2, 2), OF_BOTH, |c| by_membership(c, true)),
    function(&["array_except"], (2, 2), OF_BOTH, |c| by_membership(c, false)),
    function(&["arrays_overlap"], (2, 2), BOOLEAN, arrays_overlap),
    function(&["array_max"], (1, 1), ELEMENT, |c| {
        let lists = Lists::new(c, ONE)?;
        lists.pick(c, |row| lists.at(0, row)?.filter(|at| !lists.is_null(*at)).max_by_key(|at| lists.row(*at)))
    }),
    function(&["array_min"], (1, 1), ELEMENT, |c| {
        let lists = Lists::new(c, ONE)?;
        lists.pick(c, |row| lists.at(0, row)?.filter(|at| !lists.is_null(*at)).min_by_key(|at| lists.row(*at)))
    }),
    function(&["sort_array"], (1, 2), SAME, |c| {
        let ascending = match c.len() {
            2 => c.cast(1, &DataType::Boolean)?.as_boolean().clone(),
            _ => BooleanArray::from(vec![true; c.rows()]),
        };
        sorted(c, |row| ascending.is_valid(row).then(|| (ascending.value(row), false)))
    }),
    function(&["array_sort"], (1, 1), SAME, |c| sorted(c, |_| Some((true, true)))),
    function(&["slice"], (3, 3), SAME, slice),
    function(&["flatten"], (1, 1), Returns::Types(|types| Ok(array(inner_element(types)?))), flatten),
    function(&["array_repeat"], (2, 2), Returns::Types(|types| Ok(array(meet(types, &[Arg::Item(0)])?))), repeat),
    function(&["array_insert"], (3, 3), Returns::Types(|types| Ok(array(meet(types, INSERTED)?))), insert),
    function(&["array_join"], (2, 3), TEXT, join),
];

const INSERTED: &[Arg] = &[Arg::List(0), Arg::Item(2)];

fn distinct(lists: &Lists, elements: impl Iterator<Item = usize>) -> Vec<Option<usize>> {
    let mut seen = HashSet::new();
    elements.filter(|at| seen.insert(lists.row(*at))).map(Some).collect()
}

fn array_contains(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = Lists::new(call, WITH_ITEM)?;
    let contains = |row| {
        let (list, item) = (lists.at(0, row)?, lists.at(1, row)?.start);
        if lists.is_null(item) {
            return None;
        }
        if list.clone().any(|at| lists.row(at) == lists.row(item)) {
            return Some(true);
        }
        // A NULL in the array could be the value.
        (!list.into_iter().any(|at| lists.is_null(at))).then_some(false)
    };
    Ok(Arc::new((0..call.rows()).map(contains).collect::<BooleanArray>()))
}

fn array_position(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = Lists::new(call, WITH_ITEM)?;
    let position = |row| {
        let (mut list, item) = (lists.at(0, row)?, lists.at(1, row)?.start);
        if lists.is_null(item) {
            return None;
        }
        Some(list.position(|at| lists.row(at) == lists.row(item)).map_or(0, |at| at as i64 + 1))
    };
    Ok(Arc::new((0..call.rows()).map(position).collect::<Int64Array>()))
}

/// The distinct elements of the first array that the second has, or has not.
fn by_membership(call: &Call<'_>, wanted: bool) -> Result<ArrayRef> {
    let lists = Lists::new(call, BOTH)?;
    lists.rebuild(call, |row| {
        let (left, right) = (lists.at(0, row)?, lists.at(1, row)?);
        let other: HashSet<_> = right.map(|at| lists.row(at)).collect();
        Some(distinct(&lists, left.filter(|at| other.contains(&lists.row(*at)) == wanted)))
    })
}

fn arrays_overlap(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = Lists::new(call, BOTH)?;
    let overlap = |row| {
        let (left, right) = (lists.at(0, row)?, lists.at(1, row)?);
        let some = |at: &usize| !lists.is_null(*at);
        let known: HashSet<_> = right.clone().filter(some).map(|at| lists.row(at)).collect();
        if left.clone().filter(some).any(|at| known.contains(&lists.row(at))) {
            return Some(true);
        }
        let unknown = left.clone().chain(right.clone()).any(|at| lists.is_null(at));
        (!unknown || left.is_empty() || right.is_empty()).then_some(false)
    };
    Ok(Arc::new((0..call.rows()).map(overlap).collect::<BooleanArray>()))
}

/// Sorts; `order` gives for a row whether upwards, and whether NULLs come last then.
fn sorted(call: &Call<'_>, order: impl Fn(usize) -> Option<(bool, bool)>) -> Result<ArrayRef> {
    let lists = Lists::new(call, ONE)?;
    lists.rebuild(call, |row| {
        let (ascending, nulls_last) = order(row)?;
        let (nulls, mut rest): (Vec<usize>, Vec<usize>) = lists.at(0, row)?.partition(|at| lists.is_null(*at));
        rest.sort_by(|a, b| lists.row(*a).cmp(&lists.row(*b)));
        if !ascending {
            rest.reverse();
        }
        let (first, then) = if ascending && !nulls_last { (nulls, rest) } else { (rest, nulls) };
        Some(first.into_iter().chain(then).map(Some).collect())
    })
}

fn numbers(call: &Call<'_>, i: usize) -> Result<Int32Array> {
    Ok(call.cast(i, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

fn slice(call: &Call<'_>) -> Result<ArrayRef> {
    let (starts, lengths) = (numbers(call, 1)?, numbers(call, 2)?);
    let invalid = |what: &str, name: &str| {
        Err(Error::data(format!("`slice`: {what}")).with_condition(format!("INVALID_PARAMETER_VALUE.{name}")))
    };
    if starts.iter().flatten().any(|start| start == 0) {
        return invalid("the start is 0, but positions count from 1", "START");
    }
    if lengths.iter().flatten().any(|length| length < 0) {
        return invalid("the length is negative", "LENGTH");
    }
    let lists = Lists::new(call, ONE)?;
    lists.rebuild(call, |row| {
        let list = lists.at(0, row)?;
        if starts.is_null(row) || lengths.is_null(row) {
            return None;
        }
        let (start, size) = (i64::from(starts.value(row)), list.len() as i64);
        let skip = if start > 0 { start - 1 } else { size + start };
        match usize::try_from(skip) {
            Ok(skip) => Some(list.skip(skip).take(lengths.value(row) as usize).map(Some).collect()),
            Err(_) => Some(Vec::new()),
        }
    })
}

fn inner_element(types: &[DataType]) -> Result<DataType> {
    types.first().map_or(Ok(DataType::Null), |outer| element_type(&element_type(outer)?))
}

fn flatten(call: &Call<'_>) -> Result<ArrayRef> {
    let element = match call.result() {
        DataType::List(field) => field.data_type().clone(),
        other => return Err(Error::internal(format!("`flatten` into {other}"))),
    };
    let outer = call.cast(0, &array(array(element)))?;
    let outer = outer.as_list::<i32>();
    let inner = outer.values().as_list::<i32>();
    let DataType::List(field) = call.result() else {
        return Err(Error::internal("`flatten` into something else than an array"));
    };
    let mut indices: Vec<u32> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows());
    let mut valid = Vec::with_capacity(call.rows());
    for (row, pair) in outer.offsets().windows(2).enumerate() {
        let lists = pair[0] as usize..pair[1] as usize;
        let complete = outer.is_valid(row) && lists.clone().all(|list| inner.is_valid(list));
        let before = indices.len();
        if complete {
            let of_list = |list: usize| inner.offsets()[list] as u32..inner.offsets()[list + 1] as u32;
            indices.extend(lists.flat_map(of_list));
        }
        lengths.push(indices.len() - before);
        valid.push(complete);
    }
    let values = arrow::compute::take(inner.values(), &arrow::array::UInt32Array::from(indices), None)?;
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(arrow::array::ListArray::try_new(Arc::clone(field), offsets, values, Some(valid.into()))?))
}

fn repeat(call: &Call<'_>) -> Result<ArrayRef> {
    let counts = numbers(call, 1)?;
    let lists = Lists::new(call, &[Arg::Item(0)])?;
    lists.rebuild(call, |row| {
        let item = lists.at(0, row)?.start;
        counts.is_valid(row).then(|| vec![Some(item); usize::try_from(counts.value(row)).unwrap_or(0)])
    })
}

/// `array_insert(array, position, value)`: positions count from 1, or from the end if negative.
fn insert(call: &Call<'_>) -> Result<ArrayRef> {
    let positions = numbers(call, 1)?;
    if positions.iter().flatten().any(|position| position == 0) {
        return Err(Error::data("`array_insert`: the position is 0, but positions count from 1")
            .with_condition("INVALID_INDEX_OF_ZERO"));
    }
    let lists = Lists::new(call, INSERTED)?;
    lists.rebuild(call, |row| {
        let (list, item) = (lists.at(0, row)?, lists.at(1, row)?.start);
        if positions.is_null(row) {
            return None;
        }
        let (position, size) = (i64::from(positions.value(row)), list.len() as i64);
        let mut elements: Vec<Option<usize>> = list.map(Some).collect();
        match usize::try_from(if position > 0 { position - 1 } else { size + position + 1 }) {
            Ok(at) => {
                if at > elements.len() {
                    elements.resize(at, None);
                }
                elements.insert(at, Some(item));
            }
            Err(_) => {
                let missing = (-position - size - 1) as usize;
                elements.splice(0..0, std::iter::once(Some(item)).chain(vec![None; missing]));
            }
        }
        Some(elements)
    })
}

/// `array_join(array, delimiter[, instead of NULL])`
fn join(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = call.cast(0, &array(DataType::Utf8))?;
    let lists = lists.as_list::<i32>();
    let values = lists.values().as_string::<i32>();
    let delimiters = call.text(1)?;
    let instead = if call.len() == 3 { Some(call.text(2)?) } else { None };
    let joined = |row: usize| {
        if lists.is_null(row) || delimiters.is_null(row) || instead.as_ref().is_some_and(|text| text.is_null(row)) {
            return None;
        }
        let of_null = instead.as_ref().map(|text| text.value(row));
        let parts: Vec<&str> = (lists.offsets()[row] as usize..lists.offsets()[row + 1] as usize)
            .filter_map(|at| if values.is_null(at) { of_null } else { Some(values.value(at)) })
            .collect();
        Some(parts.join(delimiters.value(row)))
    };
    Ok(Arc::new((0..call.rows()).map(joined).collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("array_contains(array(1, 2), 2)", "true"),
            ("array_contains(array(1, NULL), 2)", "NULL"),
            ("array_contains(array(1), NULL)", "NULL"),
            ("array_position(array(1, 2, 3), 3)", "3"),
            ("array_position(array('a'), 'z')", "0"),
            ("array_distinct(array(2, 1, 2, NULL, NULL))", "[2, 1, null]"),
            ("array_compact(array(1, NULL, 2))", "[1, 2]"),
            ("array_remove(array(1, 2, 1, NULL), 1)", "[2, null]"),
            ("array_append(array(1), 2.5)", "[1.0, 2.5]"),
            ("array_prepend(array('b'), 'a')", "[a, b]"),
            ("array_union(array(1, 2), array(2, 3))", "[1, 2, 3]"),
            ("array_intersect(array(1, 2, 2), array(2, 3))", "[2]"),
            ("array_except(array(1, 2, 1), array(2))", "[1]"),
            ("arrays_overlap(array(1, 2), array(2, 3))", "true"),
            ("arrays_overlap(array(1, NULL), array(2))", "NULL"),
            ("array_max(array(1, 3, NULL))", "3"),
            ("array_min(array('b', 'a'))", "a"),
            ("sort_array(array(2, NULL, 1))", "[null, 1, 2]"),
            ("sort_array(array(2, NULL, 1), false)", "[2, 1, null]"),
            ("array_sort(array(2, NULL, 1))", "[1, 2, null]"),
            ("slice(array(1, 2, 3, 4), 2, 2)", "[2, 3]"),
            ("slice(array(1, 2, 3, 4), -2, 5)", "[3, 4]"),
            ("flatten(array(array(1, 2), array(3)))", "[1, 2, 3]"),
            ("array_repeat('a', 2)", "[a, a]"),
            ("array_insert(array(1, 2), 2, 9)", "[1, 9, 2]"),
            ("array_insert(array(1), 3, 9)", "[1, null, 9]"),
            ("array_insert(array(1, 2), -1, 9)", "[1, 2, 9]"),
            ("array_join(array('a', NULL, 'b'), ',')", "a,b"),
            ("array_join(array('a', NULL), ',', '-')", "a,-"),
            ("array_join(array(1, 2), '|')", "1|2"),
        ])
        .await;
    }

    #[tokio::test]
    async fn position_zero_is_an_error() {
        let error = Err("INVALID_PARAMETER_VALUE.START");
        check("slice(array(1), 0, 1)", error, error).await;
    }
}
