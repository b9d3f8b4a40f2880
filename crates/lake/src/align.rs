//! Brings a batch into the table's schema: columns by name, types widened, missing columns NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::types::is_variant;

use crate::schema::{delta_type, index_of, is_widening, not_mergeable};

/// Where each column of the table comes from in batches of one schema.
#[derive(Debug)]
pub(crate) struct Alignment {
    input: SchemaRef,
    target: SchemaRef,
    /// By table column: the column of the batch, or `None` if it has none.
    sources: Vec<Option<usize>>,
    identical: bool,
}

impl Alignment {
    /// Checks names and types once, for all batches of `input`.
    pub(crate) fn new(input: &SchemaRef, target: &SchemaRef) -> Result<Self> {
        let sources: Vec<_> = target.fields().iter().map(|field| index_of(input.fields(), field.name())).collect();
        if let Some(extra) = (0..input.fields().len()).find(|index| !sources.contains(&Some(*index))) {
            return Err(extra_column(input.field(extra).name()));
        }
        for (field, source) in target.fields().iter().zip(&sources) {
            if let Some(source) = source {
                check_type(field.name(), input.field(*source).data_type(), field.data_type())?;
            }
        }
        let identical = sources.iter().enumerate().all(|(index, source)| *source == Some(index))
            && input.fields().iter().zip(target.fields()).all(|(a, b)| a.data_type() == b.data_type());
        Ok(Self { input: Arc::clone(input), target: Arc::clone(target), sources, identical })
    }

    /// Whether it was made for batches of this schema.
    pub(crate) fn is_for(&self, schema: &SchemaRef) -> bool {
        Arc::ptr_eq(&self.input, schema) || &self.input == schema
    }

    /// The columns of the table that batches do not have.
    pub(crate) fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.sources.iter().enumerate().filter(|(_, source)| source.is_none()).map(|(index, _)| index)
    }

    /// The batch's columns in the table's order and types.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if self.identical {
            return Ok(batch.columns().to_vec());
        }
        self.target
            .fields()
            .iter()
            .zip(&self.sources)
            .map(|(field, source)| match source {
                Some(source) => convert(batch.column(*source), field.data_type()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            })
            .collect()
    }
}

fn extra_column(name: &str) -> Error {
    Error::user(format!("the new rows have a column `{name}` that the table does not have"))
        .with_condition("DELTA_METADATA_MISMATCH")
        .with_help("Let the schema evolve, leave the column out of the query, or refresh the table fully.")
}

/// Fails where a value of the batch might not be a value of the table's type.
fn check_type(path: &str, from: &DataType, to: &DataType) -> Result<()> {
    match (from, to) {
        _ if is_variant(from) != is_variant(to) && from != &DataType::Null => Err(not_mergeable(path, to, from)),
        (DataType::Struct(from), DataType::Struct(to)) => check_fields(path, from, to),
        (DataType::Map(from, _), DataType::Map(to, _)) => match (from.data_type(), to.data_type()) {
            (DataType::Struct(from), DataType::Struct(to)) => from.iter().zip(to).try_for_each(|(from, to)| {
                check_type(&format!("{path}.{}", to.name()), from.data_type(), to.data_type())
            }),
            (from, to) => Err(not_mergeable(path, to, from)),
        },
        (_, DataType::List(to)) if let Some(from) = list_element(from) => {
            check_type(&format!("{path}.element"), from.data_type(), to.data_type())
        }
        (DataType::Null, _) => Ok(()),
        _ if is_widening(&delta_type(path, from)?, to) => Ok(()),
        _ => Err(not_mergeable(path, to, from)),
    }
}

fn check_fields(path: &str, from: &Fields, to: &Fields) -> Result<()> {
    for field in from {
        let name = format!("{path}.{}", field.name());
        let index = index_of(to, field.name()).ok_or_else(|| extra_column(&name))?;
        check_type(&name, field.data_type(), to[index].data_type())?;
    }
    Ok(())
}

fn list_element(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => Some(element),
        _ => None,
    }
}

fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => convert_struct(array.as_struct(), fields),
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = convert(list.values(), element.data_type())?;
            let list = ListArray::try_new(Arc::clone(element), list.offsets().clone(), values, list.nulls().cloned());
            Ok(Arc::new(list.map_err(nested_null)?))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => convert_map(array.as_map(), entries, *sorted),
        // Other list layouts become plain lists first, then their elements are converted.
        (from, DataType::List(_)) if let Some(element) = list_element(from) => {
            let list = cast(array, &DataType::List(Arc::clone(element)))?;
            convert(&list, to)
        }
        _ => cast(array, to),
    }
}

fn convert_struct(array: &StructArray, fields: &Fields) -> Result<ArrayRef> {
    let columns = fields
        .iter()
        .map(|field| match index_of(array.fields(), field.name()) {
            Some(index) => convert(array.column(index), field.data_type()),
            None => Ok(new_null_array(field.data_type(), array.len())),
        })
        .collect::<Result<Vec<_>>>()?;
    let array = StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len());
    Ok(Arc::new(array.map_err(nested_null)?))
}

fn convert_map(array: &MapArray, entries: &FieldRef, sorted: bool) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("a map's entries are not a struct"));
    };
    let columns = vec![convert(array.keys(), fields[0].data_type())?, convert(array.values(), fields[1].data_type())?];
    let values = StructArray::try_new(fields.clone(), columns, None).map_err(nested_null)?;
    let map = MapArray::try_new(Arc::clone(entries), array.offsets().clone(), values, array.nulls().cloned(), sorted);
    Ok(Arc::new(map.map_err(nested_null)?))
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|error| Error::data(error.to_string()).with_source(error))
}

/// Arrow refuses NULL in a nested field that must not have any.
fn nested_null(error: arrow::error::ArrowError) -> Error {
    Error::data(format!("NOT NULL constraint violated in a nested column: {error}"))
        .with_condition("DELTA_NOT_NULL_CONSTRAINT_VIOLATED")
        .with_source(error)
}
