//! Rows that come one by one, collected into batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use deltaworks_spark::types::sql_type_name;
use deltaworks_spark::{Error, Result};

use crate::column::{Column, schema};

/// A batch ends after so many bytes of text and binary, whatever its rows.
const BATCH_BYTES: usize = 8 << 20;

/// A value, in the form that its column's natural type demands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Without the point, at the scale of the column.
    Decimal(i128),
    Text(&'a str),
    Owned(String),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Micros(i64),
    List(Vec<Cell<'a>>),
}

/// Collects values of one type.
enum Values {
    Bool(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    List { data_type: DataType, elements: Box<Values>, ends: Vec<i32>, nulls: NullBufferBuilder },
}

impl Values {
    fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(..) => Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone())),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Micros(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::List(element) => Self::List {
                data_type: data_type.clone(),
                elements: Box::new(Self::new(element.data_type())?),
                ends: vec![0],
                nulls: NullBufferBuilder::new(0),
            },
            other => return Err(Error::internal(format!("columns of type {} are not read", sql_type_name(other)))),
        })
    }

    /// Adds a value; `None` if it is none of this type.
    fn push(&mut self, cell: Cell<'_>) -> Option<()> {
        macro_rules! null {
            ($builder:expr) => {{
                $builder.append_null();
                return Some(());
            }};
        }
        match (self, cell) {
            (Self::Bool(b), Cell::Null) => null!(b),
            (Self::Bool(b), Cell::Bool(value)) => b.append_value(value),
            (Self::Int8(b), Cell::Null) => null!(b),
            (Self::Int8(b), Cell::Int(value)) => b.append_value(value.try_into().ok()?),
            (Self::Int16(b), Cell::Null) => null!(b),
            (Self::Int16(b), Cell::Int(value)) => b.append_value(value.try_into().ok()?),
            (Self::Int32(b), Cell::Null) => null!(b),
            (Self::Int32(b), Cell::Int(value)) => b.append_value(value.try_into().ok()?),
            (Self::Int64(b), Cell::Null) => null!(b),
            (Self::Int64(b), Cell::Int(value)) => b.append_value(value),
            (Self::Float32(b), Cell::Null) => null!(b),
            (Self::Float32(b), Cell::Float(value)) => b.append_value(value as f32),
            (Self::Float64(b), Cell::Null) => null!(b),
            (Self::Float64(b), Cell::Float(value)) => b.append_value(value),
            (Self::Decimal(b), Cell::Null) => null!(b),
            (Self::Decimal(b), Cell::Decimal(value)) => b.append_value(value),
            (Self::Text(b), Cell::Null) => null!(b),
            (Self::Text(b), Cell::Text(value)) => b.append_value(value),
            (Self::Text(b), Cell::Owned(value)) => b.append_value(value),
            (Self::Bytes(b), Cell::Null) => null!(b),
            (Self::Bytes(b), Cell::Bytes(value)) => b.append_value(value),
            (Self::Bytes(b), Cell::Text(value)) => b.append_value(value),
            (Self::Date(b), Cell::Null) => null!(b),
            (Self::Date(b), Cell::Date(value)) => b.append_value(value),
            (Self::Micros(b), Cell::Null) => null!(b),
            (Self::Micros(b), Cell::Micros(value)) => b.append_value(value),
            (Self::List { elements, ends, nulls, .. }, cell) => {
                let last = *ends.last()?;
                match cell {
                    Cell::Null => {
                        nulls.append_null();
                        ends.push(last);
                    }
                    Cell::List(cells) => {
                        ends.push(last.checked_add(cells.len().try_into().ok()?)?);
                        nulls.append_non_null();
                        for cell in cells {
                            elements.push(cell)?;
                        }
                    }
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Int8(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Decimal(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Micros(b) => Arc::new(b.finish()),
            Self::List { data_type, elements, ends, nulls } => {
                let DataType::List(field) = data_type else { return Err(Error::internal("a list without elements")) };
                let ends = std::mem::replace(ends, vec![0]);
                let offsets = OffsetBuffer::new(ends.into());
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, elements.finish()?, nulls.finish())?)
            }
        })
    }
}

/// Collects rows into batches of bounded size.
pub(crate) struct Rows {
    columns: Vec<Column>,
    schema: SchemaRef,
    values: Vec<Values>,
    rows: usize,
    bytes: usize,
    most_rows: usize,
}

impl Rows {
    /// Batches of these columns, of at most so many rows.
    pub(crate) fn new(columns: &[Column], most_rows: usize) -> Result<Self> {
        let values = columns.iter().map(|column| Values::new(&column.natural)).collect::<Result<_>>()?;
        let most_rows = most_rows.max(1);
        Ok(Self { columns: columns.to_vec(), schema: schema(columns), values, rows: 0, bytes: 0, most_rows })
    }

    /// The columns, in the order of their cells.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Adds the value of a column of the row that is under way.
    ///
    /// # Errors
    /// `Data` if the value is none of the column's type.
    pub(crate) fn push(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        self.bytes += match &cell {
            Cell::Text(value) => value.len(),
            Cell::Owned(value) => value.len(),
            Cell::Bytes(value) => value.len(),
            _ => 0,
        };
        let shown = if matches!(cell, Cell::Int(_) | Cell::Float(_)) { format!("{cell:?}") } else { String::new() };
        self.values[at].push(cell).ok_or_else(|| {
            let column = &self.columns[at];
            let data_type = sql_type_name(&column.natural);
            Error::data(format!("column `{}` has a value {shown} that is no {data_type}", column.name))
                .with_help("Cast it in option `query`, or give the column another type by option `customSchema`.")
        })
    }

    /// Ends a row; the batch, if it is full.
    ///
    /// # Errors
    /// Those of [`Rows::finish`].
    pub(crate) fn end_row(&mut self) -> Result<Option<RecordBatch>> {
        self.rows += 1;
        match self.rows >= self.most_rows || self.bytes >= BATCH_BYTES {
            true => self.finish(),
            false => Ok(None),
        }
    }

    /// The rows that are no batch yet.
    ///
    /// # Errors
    /// `Data` if a value cannot have the type of `customSchema`.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let mut arrays = Vec::with_capacity(self.values.len());
        for (values, column) in self.values.iter_mut().zip(&self.columns) {
            let array = values.finish()?;
            arrays.push(match column.natural == column.target {
                true => array,
                false => cast_with_options(&array, &column.target, &options).map_err(|error| {
                    let wanted = sql_type_name(&column.target);
                    Error::data(format!("column `{}` has a value that cannot be {wanted}: {error}", column.name))
                        .with_condition("CAST_INVALID_INPUT")
                        .with_help("Correct option `customSchema`.")
                })?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    #[test]
    fn batches_end_by_rows_and_have_lists_and_nulls() {
        let list = deltaworks_spark::types::array(DataType::Int32);
        let mut number = Column::plain("n", DataType::Int16);
        number.target = DataType::Utf8;
        let mut rows = Rows::new(&[Column::plain("l", list), number], 2).unwrap();
        rows.push(0, Cell::List(vec![Cell::Int(1), Cell::Null])).unwrap();
        rows.push(1, Cell::Int(7)).unwrap();
        assert!(rows.end_row().unwrap().is_none());
        rows.push(0, Cell::Null).unwrap();
        rows.push(1, Cell::Null).unwrap();
        let batch = rows.end_row().unwrap().unwrap();
        let shown = pretty_format_batches(&[batch]).unwrap().to_string();
        assert_eq!(shown, "+-------+---+\n| l     | n |\n+-------+---+\n| [1, ] | 7 |\n|       |   |\n+-------+---+");
        assert!(rows.finish().unwrap().is_none());
        let error = rows.push(1, Cell::Int(70_000)).unwrap_err();
        assert_eq!(error.message(), "column `n` has a value Int(70000) that is no SMALLINT");
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut rows = Rows::new(&[], 10).unwrap();
        rows.end_row().unwrap();
        assert_eq!(rows.finish().unwrap().unwrap().num_rows(), 1);
    }

    #[test]
    fn long_texts_end_a_batch() {
        let mut rows = Rows::new(&[Column::plain("t", DataType::Utf8)], 1000).unwrap();
        rows.push(0, Cell::Owned("x".repeat(BATCH_BYTES))).unwrap();
        assert!(rows.end_row().unwrap().is_some());
    }
}
