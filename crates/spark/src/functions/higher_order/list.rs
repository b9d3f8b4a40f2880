//! Lambdas over the elements of arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, filter, interleave, take};
use arrow::datatypes::{DataType, Int32Type};

use super::{Call, Elements, list_of};
use crate::error::{Error, Result};

/// The elements of the first argument with what the lambda gives for each.
fn over_list(call: &Call<'_>) -> Result<(ListArray, Elements, ArrayRef, ArrayRef)> {
    let list = call.value(0)?.as_list::<i32>().clone();
    let elements = Elements::of(list.offsets(), list.nulls());
    let values = take(list.values(), &elements.at, None)?;
    let positions: ArrayRef = Arc::new(elements.positions.clone());
    let results = call.evaluate(0, &[Arc::clone(&values), positions], &elements.rows)?;
    Ok((list, elements, values, results))
}

pub(super) fn transform(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, _, results) = over_list(call)?;
    list_of(results, elements.offsets(), list.nulls().cloned())
}

/// The lengths of the rows once only the elements that `kept` marks are left.
pub(super) fn kept_lengths(elements: &Elements, kept: &BooleanArray) -> Vec<usize> {
    let mut lengths = vec![0; elements.lengths.len()];
    for (row, keep) in elements.rows.values().iter().zip(kept) {
        lengths[*row as usize] += usize::from(keep == Some(true));
    }
    lengths
}

pub(super) fn filtered(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, values, results) = over_list(call)?;
    let kept = results.as_boolean();
    let offsets = OffsetBuffer::from_lengths(kept_lengths(&elements, kept));
    list_of(filter(&values, kept)?, offsets, list.nulls().cloned())
}

/// False if the condition is false for one element, else NULL if it is NULL for one, else true.
pub(super) fn forall(call: &Call<'_>) -> Result<ArrayRef> {
    let (list, elements, _, results) = over_list(call)?;
    let mut all: Vec<Option<bool>> = (0..list.len()).map(|row| list.is_valid(row).then_some(true)).collect();
    for (row, holds) in elements.rows.values().iter().zip(results.as_boolean()) {
        let so_far = &mut all[*row as usize];
        *so_far = match (*so_far, holds) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, _) | (_, None) => None,
            _ => Some(true),
        };
    }
    Ok(Arc::new(BooleanArray::from(all)))
}

/// The shorter array is filled up with NULL.
pub(super) fn zip_with(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.value(0)?.as_list::<i32>(), call.value(1)?.as_list::<i32>());
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let (mut rows, mut lengths, mut from_left, mut from_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..left.len() {
        let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let (l, r) = (left.value_length(row) as usize, right.value_length(row) as usize);
        let length = if null { 0 } else { l.max(r) };
        lengths.push(length);
        for position in 0..length {
            let at = |list: &ListArray, own: usize| {
                (position < own).then(|| (list.value_offsets()[row] as usize + position) as u32)
            };
            rows.push(row as u32);
            from_left.push(at(left, l));
            from_right.push(at(right, r));
        }
    }
    let arguments = [
        take(left.values(), &UInt32Array::from(from_left), None)?,
        take(right.values(), &UInt32Array::from(from_right), None)?,
    ];
    let results = call.evaluate(0, &arguments, &UInt32Array::from(rows))?;
    list_of(results, OffsetBuffer::from_lengths(lengths), nulls)
}

/// The elements are taken in one after the other, the first of all rows side by side, then the second, ...
pub(super) fn aggregate(call: &Call<'_>) -> Result<ArrayRef> {
    let list = call.value(0)?.as_list::<i32>();
    let mut state = Arc::clone(call.value(1)?);
    let length = |row: usize| if list.is_null(row) { 0 } else { list.value_length(row) as usize };
    let longest = (0..list.len()).map(length).max().unwrap_or(0);
    for position in 0..longest {
        let rows: Vec<u32> = (0..list.len()).filter(|row| position < length(*row)).map(|row| row as u32).collect();
        let at: UInt32Array =
            rows.iter().map(|row| list.value_offsets()[*row as usize] as u32 + position as u32).collect();
        let rows = UInt32Array::from(rows);
        let arguments = [take(&state, &rows, None)?, take(list.values(), &at, None)?];
        let merged = call.evaluate(0, &arguments, &rows)?;
        let merged = if merged.data_type() == state.data_type() {
            merged
        } else {
            arrow::compute::cast(&merged, state.data_type())?
        };
        let mut pick: Vec<(usize, usize)> = (0..list.len()).map(|row| (0, row)).collect();
        for (i, row) in rows.values().iter().enumerate() {
            pick[*row as usize] = (1, i);
        }
        state = interleave(&[state.as_ref(), merged.as_ref()], &pick)?;
    }
    let all: UInt32Array = (0..list.len() as u32).collect();
    let finished = if call.lambdas.len() > 1 { call.evaluate(1, &[state], &all)? } else { state };
    // Without an array there is no result.
    let valid: UInt32Array = (0..list.len()).map(|row| list.is_valid(row).then_some(row as u32)).collect();
    Ok(take(&finished, &valid, None)?)
}

/// Every pair of elements of a row is compared first; the order is then read off the answers.
pub(super) fn array_sort(call: &Call<'_>) -> Result<ArrayRef> {
    let list = call.value(0)?.as_list::<i32>();
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(list.len());
    let mut lengths = Vec::with_capacity(list.len());
    for row in 0..list.len() {
        let values = if list.is_null(row) { list.values().slice(0, 0) } else { list.value(row) };
        let n = values.len();
        lengths.push(n);
        let pairs = (0..n * n).map(|i| i as u32);
        let first: UInt32Array = pairs.clone().map(|i| i / n as u32).collect();
        let second: UInt32Array = pairs.map(|i| i % n as u32).collect();
        let rows = UInt32Array::from(vec![row as u32; n * n]);
        let arguments = [take(&values, &first, None)?, take(&values, &second, None)?];
        let answers = arrow::compute::cast(&call.evaluate(0, &arguments, &rows)?, &DataType::Int32)?;
        let answers = answers.as_primitive::<Int32Type>();
        if answers.null_count() > 0 {
            return Err(Error::data("the comparison of `array_sort` gave NULL")
                .with_condition("COMPARATOR_RETURNS_NULL")
                .with_help("Give -1, 0 or 1 for NULL elements too."));
        }
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|a, b| answers.value(*a as usize * n + *b as usize).cmp(&0));
        parts.push(take(&values, &UInt32Array::from(order), None)?);
    }
    let values = match parts.is_empty() {
        true => list.values().slice(0, 0),
        false => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
    };
    list_of(values, OffsetBuffer::from_lengths(lengths), list.nulls().cloned())
}
