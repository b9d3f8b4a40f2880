//! Rows that stand in the query itself: what they are is all of their state.

use std::any::Any;
use std::io::Write as _;

use arrow::ipc::writer::StreamWriter;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::functions_table::generate_series::GenerateSeriesTable;

/// The rows of `provider` as a short text, if it holds local data or counts; `None` for every other table.
pub fn state_of(provider: &dyn TableProvider) -> Option<String> {
    let any: &dyn Any = provider;
    match any.downcast_ref::<GenerateSeriesTable>() {
        Some(series) => Some(format!("{series:?}")),
        None => digest(any.downcast_ref::<MemTable>()?),
    }
}

/// The schema and the rows in their order.
fn digest(table: &MemTable) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for partition in &table.batches {
        // Nothing writes to such a table while a plan with it exists; if something does, its state is not known.
        let batches = partition.try_read().ok()?;
        let mut writer = StreamWriter::try_new(&mut hasher, &TableProvider::schema(table)).ok()?;
        for batch in batches.iter() {
            writer.write(batch).ok()?;
        }
        writer.finish().ok()?;
    }
    hasher.flush().ok()?;
    Some(format!("rows {}", hasher.finalize().to_hex()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, RecordBatch};

    use super::*;

    #[test]
    fn rows_are_told_by_their_values() {
        let state = |name: &str, values: Vec<Option<i32>>| {
            let values: ArrayRef = Arc::new(Int32Array::from(values));
            let rows = RecordBatch::try_from_iter_with_nullable([(name, values, true)]).unwrap();
            state_of(&MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap()).unwrap()
        };
        let first = state("a", vec![Some(1), None]);
        assert_eq!(first, state("a", vec![Some(1), None]));
        for other in [state("b", vec![Some(1), None]), state("a", vec![None, Some(1)]), state("a", vec![Some(1)])] {
            assert_ne!(first, other);
        }
    }
}
