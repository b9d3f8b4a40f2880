//! A NULL struct has NULL fields.
//!
//! Arrow leaves open what is below a NULL. PyArrow puts zeros and empty text there, and so do readers of Parquet and Avro where
//! the file says that the field is never NULL, while a field is taken out of a struct without a look at the struct. So whatever
//! comes from outside is put in order where it comes in.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::types::is_variant;

/// The same rows with NULL for every field of a struct that is NULL.
///
/// # Errors
/// `Internal` if the arrays are not valid.
pub fn with_null_fields(batch: RecordBatch) -> Result<RecordBatch> {
    if !batch.schema().fields().iter().any(|field| holds_struct(field.data_type())) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(in_order).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

/// The same for one column.
///
/// # Errors
/// `Internal` if the array is not valid.
pub fn in_order(column: &ArrayRef) -> Result<ArrayRef> {
    if !holds_struct(column.data_type()) {
        return Ok(Arc::clone(column));
    }
    Ok(below(&column.to_data(), None)?.map_or_else(|| Arc::clone(column), make_array))
}

fn holds_struct(data_type: &DataType) -> bool {
    match data_type {
        // Nobody takes a field out of a variant.
        DataType::Struct(_) => !is_variant(data_type),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_struct(item.data_type()),
        _ => false,
    }
}

/// The array with NULLs where `parent` has them, too; `None` if it has them already, as most do.
fn below(data: &ArrayData, parent: Option<&NullBuffer>) -> Result<Option<ArrayData>> {
    let missing = parent.filter(|parent| {
        let has_all = data.nulls().is_some_and(|own| own.contains(parent));
        parent.null_count() > 0 && !has_all && *data.data_type() != DataType::Null
    });
    if missing.is_none() && !holds_struct(data.data_type()) {
        return Ok(None);
    }
    let nulls = NullBuffer::union(data.nulls(), missing);
    // The items of a list that is NULL are not among its rows.
    let of_fields = nulls.as_ref().filter(|_| matches!(data.data_type(), DataType::Struct(_)));
    let children = data.child_data().iter().map(|child| below(child, of_fields)).collect::<Result<Vec<_>>>()?;
    if missing.is_none() && children.iter().all(Option::is_none) {
        return Ok(None);
    }
    let children = children.into_iter().zip(data.child_data()).map(|(new, old)| new.unwrap_or_else(|| old.clone()));
    Ok(Some(data.clone().into_builder().nulls(nulls).child_data(children.collect()).build()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{AsArray, Int32Array, ListArray, StringArray, StructArray};
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

    fn after(column: ArrayRef) -> ArrayRef {
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
        check(after(Arc::new(structs())).as_struct());
        let sliced = after(Arc::new(structs().slice(1, 2)));
        let a: Vec<_> = sliced.as_struct().column(0).as_primitive::<Int32Type>().iter().collect();
        assert_eq!(a, [None, None]);
    }

    #[test]
    fn structs_in_lists_too() {
        let item = Arc::new(Field::new("item", structs().data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([3, 1, 0]);
        let lists = ListArray::new(item, offsets, Arc::new(structs()), Some(vec![true, false, true].into()));
        let lists = after(Arc::new(lists));
        check(lists.as_list::<i32>().values().as_struct());
        assert!(lists.is_null(1));
    }
}
