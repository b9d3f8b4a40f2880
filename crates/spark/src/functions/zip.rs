//! `arrays_zip`: the n-th elements of several arrays as one struct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

use super::lists::element_type;
use super::udf::{ANY, Function, Returns, function};
use crate::error::{Error, Result};
use crate::types::array;

/// The arrays zipped, the fields of the structs named so.
pub(crate) fn zip(names: Vec<String>, arrays: Vec<Expr>) -> Expr {
    ZIP.call(names.into_iter().zip(arrays).flat_map(|(name, array)| [lit(name), array]).collect())
}

/// Names and arrays in turn; shorter arrays are filled up with NULL, a NULL among them gives NULL.
const ZIP: Function = function(&["arrays_zip"], (0, ANY), Returns::Values(zipped_type), |call| {
    let DataType::List(element) = call.result() else { return Err(Error::internal("zipped arrays are an array")) };
    let DataType::Struct(fields) = element.data_type() else {
        return Err(Error::internal("zipped elements are structs"));
    };
    let lists = fields.iter().enumerate().map(|(i, field)| call.cast(2 * i + 1, &array(field.data_type().clone())));
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let lists: Vec<&ListArray> = lists.iter().map(|list| list.as_list::<i32>()).collect();
    let mut picked: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
    let mut lengths = Vec::with_capacity(call.rows());
    let mut valid = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        valid.push(lists.iter().all(|list| list.is_valid(row)));
        let length = match valid[row] {
            true => lists.iter().map(|list| list.value_length(row) as usize).max().unwrap_or(0),
            false => 0,
        };
        for (list, picked) in lists.iter().zip(&mut picked) {
            let start = list.value_offsets()[row] as u32;
            let own = list.value_length(row) as usize;
            picked.extend((0..length).map(|at| (at < own).then_some(start + at as u32)));
        }
        lengths.push(length);
    }
    let columns = lists.iter().zip(picked).map(|(list, rows)| Ok(take(list.values(), &UInt32Array::from(rows), None)?));
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let count = lengths.iter().sum();
    let structs = StructArray::try_new_with_length(fields.clone(), columns, None, count)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, Arc::new(structs), Some(nulls))?))
});

fn zipped_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let (pairs, _) = types.as_chunks::<2>();
    let field = |(i, [_, list]): (usize, &[DataType; 2])| {
        let name = values.get(2 * i).copied().flatten().and_then(|name| name.try_as_str().flatten());
        Ok(Field::new(name.unwrap_or_default(), element_type(list)?, true))
    };
    let fields = pairs.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
    Ok(array(DataType::Struct(Fields::from(fields))))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("arrays_zip(array(1, 2, 3), array('a', 'b'))", "[{1, a}, {2, b}, {3, null}]"),
            ("typeof(arrays_zip(array('b'), array('a')))", "array<struct<`0`:string,`1`:string>>"),
            ("arrays_zip(array(1), NULL)", "NULL"),
            (
                "(SELECT typeof(arrays_zip(a, b)) FROM (VALUES (array(1), array(2))) t(a, b))",
                "array<struct<a:bigint,b:bigint>>",
            ),
        ])
        .await;
    }
}
