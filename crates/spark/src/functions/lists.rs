//! The elements of arrays as one column of rows that can be compared, and arrays put together again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use arrow::row::{Row, RowConverter, Rows, SortField};

use super::udf::Call;
use crate::coercion::types::wider;
use crate::error::{Error, Result};
use crate::types::{array, canonical, sql_type_name};

/// How an argument takes part.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Arg {
    /// An array: its elements.
    List(usize),
    /// One element per row.
    Item(usize),
}

/// The type of an array's elements.
pub(super) fn element_type(data_type: &DataType) -> Result<DataType> {
    match canonical(data_type) {
        DataType::List(field) => Ok(field.data_type().clone()),
        DataType::Null => Ok(DataType::Null),
        other => Err(Error::user(format!("expected an ARRAY, but got {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    }
}

/// The type the elements of all arguments meet at.
pub(super) fn meet(types: &[DataType], args: &[Arg]) -> Result<DataType> {
    let mut met = DataType::Null;
    for arg in args {
        let (Arg::List(i) | Arg::Item(i)) = *arg;
        let Some(given) = types.get(i) else { continue };
        let next = if let Arg::List(_) = arg { element_type(given)? } else { canonical(given) };
        met = wider(&met, &next, false).ok_or_else(|| {
            Error::user(format!("{} and {} have no common type", sql_type_name(&met), sql_type_name(&next)))
                .with_condition("DATATYPE_MISMATCH.ARRAY_FUNCTION_DIFF_TYPES")
        })?;
    }
    Ok(met)
}

/// Where the elements of one row of one argument are.
pub(super) type Bounds = std::ops::Range<usize>;

/// The elements of all arguments, one after the other.
pub(super) struct Lists {
    pub(super) values: ArrayRef,
    rows: Rows,
    bounds: Vec<Vec<Option<Bounds>>>,
}

impl Lists {
    /// The arguments of a call, their elements cast to the type they meet at.
    pub(super) fn new(call: &Call<'_>, args: &[Arg]) -> Result<Self> {
        let types = (0..call.len()).map(|i| Ok(call.array(i)?.data_type().clone())).collect::<Result<Vec<_>>>()?;
        let element = meet(&types, args)?;
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut bounds = Vec::new();
        let mut base = 0;
        for arg in args {
            let part = match *arg {
                Arg::Item(i) => {
                    let items = call.cast(i, &element)?;
                    bounds.push((0..items.len()).map(|row| Some(base + row..base + row + 1)).collect());
                    items
                }
                Arg::List(i) => {
                    let lists = call.cast(i, &array(element.clone()))?;
                    let lists = lists.as_list::<i32>();
                    let of_row = |(row, pair): (usize, &[i32])| {
                        lists.is_valid(row).then(|| base + pair[0] as usize..base + pair[1] as usize)
                    };
                    bounds.push(lists.offsets().windows(2).enumerate().map(of_row).collect());
                    Arc::clone(lists.values())
                }
            };
            base += part.len();
            parts.push(part);
        }
        let values = concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        let converter = RowConverter::new(vec![SortField::new(element)])?;
        let rows = converter.convert_columns(std::slice::from_ref(&values))?;
        Ok(Self { values, rows, bounds })
    }

    /// Where the elements of an argument's row are; `None` if it is NULL.
    pub(super) fn at(&self, arg: usize, row: usize) -> Option<Bounds> {
        self.bounds[arg][row].clone()
    }

    /// An element that can be compared; NULL is the least and equal to itself.
    pub(super) fn row(&self, at: usize) -> Row<'_> {
        self.rows.row(at)
    }

    /// Whether an element is NULL.
    pub(super) fn is_null(&self, at: usize) -> bool {
        self.values.is_null(at)
    }

    /// One element per row.
    pub(super) fn pick(&self, call: &Call<'_>, f: impl Fn(usize) -> Option<usize>) -> Result<ArrayRef> {
        let indices: UInt32Array = (0..call.rows()).map(|row| f(row).map(|at| at as u32)).collect();
        Ok(take(&self.values, &indices, None)?)
    }

    /// An array per row of elements by position (`None` is a NULL element); `None` makes the array NULL.
    pub(super) fn rebuild(&self, call: &Call<'_>, f: impl Fn(usize) -> Option<Vec<Option<usize>>>) -> Result<ArrayRef> {
        let mut indices: Vec<Option<u32>> = Vec::with_capacity(self.values.len());
        let mut lengths = Vec::with_capacity(call.rows());
        let mut valid = Vec::with_capacity(call.rows());
        for row in 0..call.rows() {
            let list = f(row);
            valid.push(list.is_some());
            let list = list.unwrap_or_default();
            lengths.push(list.len());
            indices.extend(list.into_iter().map(|at| at.map(|at| at as u32)));
        }
        let values = take(&self.values, &UInt32Array::from(indices), None)?;
        let DataType::List(field) = call.result() else {
            return Err(Error::internal(format!("an array was to become {}", call.result())));
        };
        let values = crate::cast::cast_array(&values, field.data_type(), call.mode(), call.tz())?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, Some(NullBuffer::from(valid)))?))
    }
}
