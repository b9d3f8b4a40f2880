//! Lambdas over the entries of maps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, interleave, take};

use super::list::kept_lengths;
use super::{Call, Elements};
use crate::error::Result;
use crate::functions::map::assembled;

/// The entries of the first argument with what the lambda gives for each.
fn over_map(call: &Call<'_>) -> Result<(MapArray, Elements, [ArrayRef; 2], ArrayRef)> {
    let map = call.value(0)?.as_map().clone();
    let elements = Elements::of(map.offsets(), map.nulls());
    let entries = [take(map.keys(), &elements.at, None)?, take(map.values(), &elements.at, None)?];
    let results = call.evaluate(0, &entries, &elements.rows)?;
    Ok((map, elements, entries, results))
}

pub(super) fn map_filter(call: &Call<'_>) -> Result<ArrayRef> {
    let (map, elements, [keys, values], results) = over_map(call)?;
    let kept = results.as_boolean();
    let (keys, values) = (filter(&keys, kept)?, filter(&values, kept)?);
    assembled(call.result, (keys, values), kept_lengths(&elements, kept), map.nulls().cloned(), false)
}

pub(super) fn map_of_lambda(
    call: &Call<'_>,
    pair: fn((ArrayRef, ArrayRef), ArrayRef) -> (ArrayRef, ArrayRef),
) -> Result<ArrayRef> {
    let (map, elements, [keys, values], results) = over_map(call)?;
    let pair = pair((keys, values), results);
    assembled(call.result, pair, elements.lengths, map.nulls().cloned(), call.last_key_wins)
}

/// The keys of both maps, those of the first one first; a value that is not there is NULL.
pub(super) fn map_zip_with(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.value(0)?.as_map(), call.value(1)?.as_map());
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let converter = arrow::row::RowConverter::new(vec![arrow::row::SortField::new(left.keys().data_type().clone())])?;
    let left_keys = converter.convert_columns(std::slice::from_ref(left.keys()))?;
    let right_keys = converter.convert_columns(std::slice::from_ref(right.keys()))?;
    let (mut rows, mut lengths, mut from_left, mut from_right) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..left.len() {
        let before = rows.len();
        if !nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            let range = |map: &MapArray| map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            for l in range(left) {
                let same = range(right).find(|r| right_keys.row(*r) == left_keys.row(l));
                from_left.push(Some(l as u32));
                from_right.push(same.map(|r| r as u32));
                rows.push(row as u32);
            }
            for r in range(right) {
                if !range(left).any(|l| left_keys.row(l) == right_keys.row(r)) {
                    from_left.push(None);
                    from_right.push(Some(r as u32));
                    rows.push(row as u32);
                }
            }
        }
        lengths.push(rows.len() - before);
    }
    let (at_left, at_right) = (UInt32Array::from(from_left.clone()), UInt32Array::from(from_right.clone()));
    let pick: Vec<(usize, usize)> = from_left
        .iter()
        .zip(&from_right)
        .map(|pair| match pair {
            (Some(l), _) => (0, *l as usize),
            (None, Some(r)) => (1, *r as usize),
            (None, None) => (0, 0),
        })
        .collect();
    let keys = interleave(&[left.keys().as_ref(), right.keys().as_ref()], &pick)?;
    let arguments = [Arc::clone(&keys), take(left.values(), &at_left, None)?, take(right.values(), &at_right, None)?];
    let results = call.evaluate(0, &arguments, &UInt32Array::from(rows))?;
    assembled(call.result, (keys, results), lengths, nulls, false)
}
