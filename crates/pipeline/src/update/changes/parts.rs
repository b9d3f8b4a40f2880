//! Work on the keys of a batch, part by part, all parts at once.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use deltaworks_incremental::cdc::{part, parts_of};
use deltaworks_spark::{Error, Result};

/// Puts rows into as many parts as asked for, all rows of a key into the same one.
///
/// # Errors
/// `Internal` if the batches do not have the columns of `schema`.
pub async fn partition_by_key(
    batches: Vec<RecordBatch>,
    schema: &SchemaRef,
    keys: &[usize],
    parts: usize,
) -> Result<Vec<RecordBatch>> {
    if parts == 1 {
        return Ok(vec![concat_batches(schema, &batches)?]);
    }
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(vec![RecordBatch::new_empty(Arc::clone(schema)); parts]);
    }
    let (batches, keys) = (Arc::new(batches), keys.to_vec());
    let pieces = pieces(batches.len(), parts);
    let all = Arc::clone(&batches);
    let found = in_parallel(pieces, move |piece: Range<usize>| {
        all[piece].iter().map(|batch| parts_of(batch, &keys, parts)).collect::<Result<Vec<_>>>()
    })
    .await?;
    let (found, schema) = (found.into_iter().flatten().collect::<Vec<_>>(), Arc::clone(schema));
    in_parallel((0_u32..).take(parts).collect(), move |number| part(&batches, &schema, &found, number)).await
}

/// So many ranges that cover `0..count`, about equally long.
fn pieces(count: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts).map(|part| count * part / parts..count * (part + 1) / parts).collect()
}

/// Runs `work` for each part at once, off the threads that wait for I/O.
pub async fn in_parallel<T, R, F>(parts: Vec<T>, work: F) -> Result<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> Result<R> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let tasks: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let work = Arc::clone(&work);
            tokio::task::spawn_blocking(move || work(part))
        })
        .collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.map_err(|error| Error::internal(format!("a merging task died: {error}")))??);
    }
    Ok(results)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(keys: impl IntoIterator<Item = i64>) -> RecordBatch {
        let keys = Int64Array::from_iter_values(keys);
        let texts = StringArray::from_iter_values(keys.values().iter().map(|key| format!("of {key}")));
        RecordBatch::try_from_iter([("key", Arc::new(keys) as _), ("text", Arc::new(texts) as _)]).unwrap()
    }

    #[tokio::test]
    async fn rows_of_a_key_are_together_and_in_their_order() {
        let batches: Vec<_> = (0..5).map(|start| batch((start..200 + start).map(|row| row % 37))).collect();
        for parts in [1, 2, 3, 7] {
            let divided = partition_by_key(batches.clone(), &batches[0].schema(), &[0], parts).await.unwrap();
            assert_eq!(divided.len(), parts);
            let keys_of = |part: &RecordBatch| part.column(0).as_primitive::<Int64Type>().values().to_vec();
            let sets: Vec<BTreeSet<i64>> = divided.iter().map(|part| keys_of(part).into_iter().collect()).collect();
            assert_eq!(sets.iter().map(BTreeSet::len).sum::<usize>(), 37, "a key is in two of {parts} parts");
            for (part, keys) in divided.iter().zip(&sets) {
                let expected: Vec<i64> = batches.iter().flat_map(keys_of).filter(|key| keys.contains(key)).collect();
                assert_eq!(keys_of(part), expected);
                assert_eq!(part, &batch(expected));
            }
        }
    }

    #[tokio::test]
    async fn no_rows_make_empty_parts() {
        let schema = batch([]).schema();
        let divided = partition_by_key(Vec::new(), &schema, &[0], 3).await.unwrap();
        assert_eq!(divided, vec![batch([]); 3]);
    }
}
