//! Maps with their entries in one order: those that are equal look the same then, and can be grouped by.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};

use super::udf::{Function, Returns, function};
use crate::error::{Error, Result};

/// The value with the entries of all maps in it sorted by their keys.
pub(crate) const IN_ORDER: Function =
    function(&["map_sort"], (1, 1), Returns::Types(|types| Ok(types[0].clone())), |call| in_order(&call.array(0)?));

/// Whether there are maps in values of a type.
pub(crate) fn holds_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::List(item) => holds_map(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_map(field.data_type())),
        _ => false,
    }
}

fn in_order(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        data_type if !holds_map(data_type) => Ok(Arc::clone(array)),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = in_order(list.values())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(in_order).collect::<Result<Vec<_>>>()?;
            let nulls = array.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?))
        }
        DataType::Map(entries, _) => {
            let map = array.as_map();
            let keys = RowConverter::new(vec![SortField::new(map.keys().data_type().clone())])?
                .convert_columns(&[Arc::clone(map.keys())])?;
            let mut order: Vec<u32> = (0..u32::try_from(keys.num_rows()).map_err(|_| too_many())?).collect();
            for row in map.value_offsets().windows(2) {
                order[row[0] as usize..row[1] as usize].sort_by_key(|at| keys.row(*at as usize));
            }
            let order = UInt32Array::from(order);
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Error::internal("the entries of a map are not a struct"));
            };
            let columns = vec![take(map.keys(), &order, None)?, in_order(&take(map.values(), &order, None)?)?];
            let sorted = StructArray::try_new(fields.clone(), columns, None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, sorted, nulls, false)?))
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn too_many() -> Error {
    Error::data("the maps of a batch have more than four billion entries")
}
