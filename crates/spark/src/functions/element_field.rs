//! `structs.field` of an array of structs: the field of every element, as an array.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::compute::kernels::boolean::is_null;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;

use super::udf::{Call, Function, Returns, function};
use crate::error::{Error, Result};
use crate::types::array;

/// The array, and the name of the field as the structs spell it. NULL elements stay NULL.
pub(crate) const ELEMENT_FIELD: Function =
    function(&["element_field"], (2, 2), Returns::Values(fields_type), fields_of_elements);

fn fields_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let name = constants.get(1).copied().flatten().and_then(|name| name.try_as_str().flatten());
    match (types.first(), name) {
        (Some(DataType::List(element)), Some(name)) => Ok(array(field_of(element, name)?.1.data_type().clone())),
        _ => Err(not_structs()),
    }
}

fn field_of<'a>(element: &'a Field, name: &str) -> Result<(usize, &'a Field)> {
    match element.data_type() {
        DataType::Struct(fields) => fields.find(name).map(|(at, field)| (at, field.as_ref())).ok_or_else(not_structs),
        _ => Err(not_structs()),
    }
}

fn not_structs() -> Error {
    Error::internal("the field of what are no structs")
}

fn fields_of_elements(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = call.array(0)?;
    let (Some(lists), Some(Some(name))) = (lists.as_list_opt::<i32>(), call.constant_text(1)) else {
        return Err(not_structs());
    };
    let (DataType::List(element), DataType::List(field)) = (lists.data_type(), call.result()) else {
        return Err(not_structs());
    };
    let (at, _) = field_of(element, &name)?;
    Ok(Arc::new(picked(lists, at, field)?))
}

/// The field at `at` of the structs in `lists`, as arrays of `element`.
fn picked(lists: &ListArray, at: usize, element: &FieldRef) -> Result<ListArray> {
    let structs = lists.values().as_struct();
    // A struct that is NULL may have anything below it.
    let values = nullif(structs.column(at), &is_null(structs)?)?;
    Ok(ListArray::try_new(Arc::clone(element), lists.offsets().clone(), values, lists.nulls().cloned())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int32Array, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Fields, Int32Type};

    use super::*;

    #[test]
    fn null_elements_and_arrays_stay_null() {
        let fields = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let structs = StructArray::new(fields.clone(), vec![values], Some(NullBuffer::from(vec![true, false, true])));
        let lists = ListArray::new(
            Arc::new(Field::new("element", DataType::Struct(fields), true)),
            OffsetBuffer::from_lengths([2, 0, 1]),
            Arc::new(structs),
            Some(NullBuffer::from(vec![true, false, true])),
        );
        let element = Arc::new(Field::new_list_field(DataType::Int32, true));
        let expected =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![Some(3)])]);
        assert_eq!(picked(&lists, 0, &element).unwrap(), expected);
    }
}
