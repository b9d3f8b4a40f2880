//! For which columns of text a dictionary is not worth its while.
//!
//! Where most texts differ, looking each of them up costs more than writing it, and the dictionary is as large as the texts. As in
//! parquet-mr the first rows decide, here for all files of a writer: a dictionary has to be smaller, together with the numbers that
//! point into it, than the texts alone. Numbers are looked up fast enough, and keep theirs.

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
        _ => return Ok(true),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int64Array, StringArray, StringViewArray};

    use super::*;

    fn without(rows: usize, value: impl Fn(usize) -> usize) -> Vec<String> {
        let texts = || (0..rows).map(|row| format!("value {}", value(row)));
        let columns: [(&str, ArrayRef); 4] = [
            ("text", Arc::new(StringArray::from_iter_values(texts()))),
            ("view", Arc::new(StringViewArray::from_iter_values(texts()))),
            ("number", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| value(row) as i64)))),
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

    #[test]
    fn few_rows_say_nothing() {
        assert_eq!(without(500, |row| row), [""; 0]);
    }

    #[test]
    fn only_the_first_rows_are_looked_at() {
        assert_eq!(without(SAMPLE_ROWS * 3, |row| row % SAMPLE_ROWS), ["text", "view"]);
    }
}
