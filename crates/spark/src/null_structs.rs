//! A NULL struct has NULL fields.
//!
//! Arrow leaves open what is below a NULL, and PyArrow puts zeros and empty text there, while a field is taken out of a struct
//! without a look at the struct. So whatever comes from Python is put in order where it comes in.

use arrow::array::{ArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::error::Result;

/// The same rows with NULL for every field of a struct that is NULL.
///
/// # Errors
/// `Internal` if the arrays are not valid.
pub(crate) fn with_null_fields(batch: RecordBatch) -> Result<RecordBatch> {
    if !batch.schema().fields().iter().any(|field| holds_struct(field.data_type())) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|column| Ok(make_array(below(column.to_data(), None)?)));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn holds_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_struct(item.data_type()),
        _ => false,
    }
}

/// The array with NULLs where `parent` has them, too.
fn below(data: ArrayData, parent: Option<&NullBuffer>) -> Result<ArrayData> {
    let nulls = match data.data_type() {
        DataType::Null => None,
        _ => NullBuffer::union(data.nulls(), parent),
    };
    // The items of a list that is NULL are not among its rows.
    let of_fields = nulls.as_ref().filter(|_| matches!(data.data_type(), DataType::Struct(_)));
    let children = data.child_data().iter().map(|child| below(child.clone(), of_fields)).collect::<Result<Vec<_>>>()?;
    Ok(data.into_builder().nulls(nulls).child_data(children).build()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields, Int32Type, Schema};

    use super::*;

    /// Structs `{a: int, s: {b: string}}` as PyArrow makes them: the second is NULL, of the third `s`.
    fn structs() -> StructArray {
        let inner = Fields::from(vec![Field::new("b", DataType::Utf8, false)]);
        let names: ArrayRef = Arc::new(StringArray::from(vec!["x", "", "", "y"]));
        let s = StructArray::new(inner, vec![names], Some(vec![true, true, false, true].into()));
        let fields =
            Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("s", s.data_type().clone(), true)]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(0), None, Some(4)]));
        StructArray::new(fields, vec![a, Arc::new(s)], Some(vec![true, false, true, true].into()))
    }

    fn in_order(column: ArrayRef) -> ArrayRef {
        let field = Field::new("c", column.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
        Arc::clone(with_null_fields(batch).unwrap().column(0))
    }

    fn check(structs: &StructArray) {
        let a: Vec<_> = structs.column(0).as_primitive::<Int32Type>().iter().collect();
        assert_eq!(a, [Some(1), None, None, Some(4)]);
        let b: Vec<_> = structs.column(1).as_struct().column(0).as_string::<i32>().iter().collect();
        assert_eq!(b, [Some("x"), None, None, Some("y")]);
    }

    #[test]
    fn fields_of_null_structs_are_null() {
        check(in_order(Arc::new(structs())).as_struct());
        let sliced = in_order(Arc::new(structs().slice(1, 2)));
        let a: Vec<_> = sliced.as_struct().column(0).as_primitive::<Int32Type>().iter().collect();
        assert_eq!(a, [None, None]);
    }

    #[test]
    fn structs_in_lists_too() {
        let item = Arc::new(Field::new("item", structs().data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([3, 1, 0]);
        let lists = ListArray::new(item, offsets, Arc::new(structs()), Some(vec![true, false, true].into()));
        let lists = in_order(Arc::new(lists));
        check(lists.as_list::<i32>().values().as_struct());
        assert!(lists.is_null(1));
    }
}
