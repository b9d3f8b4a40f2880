//! For which columns a dictionary is not worth its while.
//!
//! Where most values differ, looking each of them up costs more than writing it, and the dictionary is as large as the values. As in
//! parquet-mr the first rows decide, here for all files of a writer. Of texts a dictionary has to be smaller, together with the numbers
//! that point into it, than the texts alone. Of values of one width it has to have room for all that there seem to be: if there are
//! many rows to each value, a dictionary pays off in the end, even where hardly a value comes twice within the first rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use deltaworks_spark::error::Result;

/// Rows that are looked at: those of parquet-mr's first page.
const SAMPLE_ROWS: usize = 20_000;
/// Of fewer rows nothing is concluded: within few rows most values are distinct.
const LEAST_ROWS: usize = 1_000;
/// Bytes in front of each text, which say how long it is.
const LENGTH_BYTES: usize = 4;
/// A dictionary that has grown larger than this is given up, as is the writer's default.
const DICTIONARY_BYTES: usize = 1 << 20;

/// Names of the top-level columns of `batch`, the first of a file, that are smaller without a dictionary.
pub(crate) fn columns_without(batch: &RecordBatch) -> Result<Vec<String>> {
    if batch.num_rows() < LEAST_ROWS {
        return Ok(Vec::new());
    }
    let sample = batch.slice(0, batch.num_rows().min(SAMPLE_ROWS));
    let mut without = Vec::new();
    for (field, column) in sample.schema_ref().fields().iter().zip(sample.columns()) {
        if !is_worthwhile(column)? {
            without.push(field.name().clone());
        }
    }
    Ok(without)
}

fn is_worthwhile(column: &ArrayRef) -> Result<bool> {
    let texts = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::LargeBinary | DataType::BinaryView => {
            cast(column, &DataType::Binary)?
        }
        DataType::Binary => Arc::clone(column),
        other => return Ok(other.primitive_width().is_none_or(|width| fits_in_dictionary(column, width))),
    };
    let (mut distinct, mut values, mut plain, mut dictionary) = (HashSet::new(), 0, 0, 0);
    for text in texts.as_binary::<i32>().iter().flatten() {
        let size = LENGTH_BYTES + text.len();
        values += 1;
        plain += size;
        if distinct.insert(text) {
            dictionary += size;
        }
    }
    let bits_per_value = usize::BITS - distinct.len().saturating_sub(1).leading_zeros();
    Ok(values == 0 || dictionary + values * bits_per_value as usize / 8 < plain)
}

/// Whether a dictionary has room for as many values of `width` bytes as one expects from how many come twice.
fn fits_in_dictionary(column: &ArrayRef, width: usize) -> bool {
    let data = column.to_data();
    let (Some(values), offset) = (data.buffers().first(), data.offset()) else { return true };
    let rows = (0..column.len()).filter(|row| column.is_valid(*row));
    let values = rows.map(|row| &values[(offset + row) * width..(offset + row + 1) * width]);
    let (mut count, mut distinct) = (0, HashSet::new());
    for value in values {
        count += 1;
        distinct.insert(value);
    }
    // Of D values that are equally frequent, about n²/2D of n have come before.
    let expected = match count - distinct.len() {
        0 => usize::MAX,
        repeated => count * count / (2 * repeated),
    };
    count < LEAST_ROWS || expected.saturating_mul(width) <= DICTIONARY_BYTES
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array, StringArray, StringViewArray};

    use super::*;

    fn without(rows: usize, value: impl Fn(usize) -> usize) -> Vec<String> {
        let texts = || (0..rows).map(|row| format!("value {}", value(row)));
        let columns: [(&str, ArrayRef); 4] = [
            ("text", Arc::new(StringArray::from_iter_values(texts()))),
            ("view", Arc::new(StringViewArray::from_iter_values(texts()))),
            ("flag", Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(value(row).is_multiple_of(2)))))),
            ("nothing", Arc::new(StringArray::new_null(rows))),
        ];
        columns_without(&RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    }

    #[test]
    fn distinct_texts_have_none() {
        assert_eq!(without(8192, |row| row), ["text", "view"]);
        // What two rows share saves less than the numbers of all rows take.
        assert_eq!(without(8192, |row| row.min(8000)), ["text", "view"]);
    }

    #[test]
    fn repeated_texts_have_one() {
        assert_eq!(without(8192, |row| row % 6000), [""; 0]);
        assert_eq!(without(8192, |_| 1), [""; 0]);
    }

    /// Whether numbers have a dictionary.
    fn numbers(rows: usize, value: impl Fn(usize) -> Option<i64>) -> bool {
        let wide: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(&value)));
        let sliced = Int64Array::from_iter(std::iter::once(None).chain((0..rows).map(value)));
        let both = [is_worthwhile(&wide).unwrap(), is_worthwhile(&(Arc::new(sliced.slice(1, rows)) as _)).unwrap()];
        assert_eq!(both[0], both[1]);
        both[0]
    }

    #[test]
    fn numbers_have_one_unless_there_are_too_many() {
        assert!(!numbers(8192, |row| Some(row as i64)));
        assert!(numbers(8192, |row| Some(row as i64 % 6000)));
        // As many that come twice as of a million values, and as of fifty thousand.
        assert!(!numbers(8192, |row| Some(row.max(32) as i64)));
        assert!(numbers(8192, |row| Some(row.max(670) as i64)));
        assert!(numbers(8192, |_| None));
        assert!(numbers(8192, |row| (row % 10 == 0).then_some(row as i64)));
    }

    #[test]
    fn few_rows_say_nothing() {
        assert_eq!(without(500, |row| row), [""; 0]);
    }

    #[test]
    fn only_the_first_rows_are_looked_at() {
        assert_eq!(without(SAMPLE_ROWS * 3, |row| row % SAMPLE_ROWS), ["text", "view"]);
    }
}
