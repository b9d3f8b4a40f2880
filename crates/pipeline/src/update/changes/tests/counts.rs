//! How many rows a batch says that it has changed.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_change_are_counted() {
    let event = |key, sequence, operation| Event { key, sequence, operation };
    for (scd_type, expected) in [
        // Inserted; one updated, one deleted, one inserted; nothing; two truncated.
        (ScdType::One, [(2, 0), (2, 1), (0, 0), (0, 2)]),
        // Versions begun; of an update two: one ends, one begins; of a delete the one that ends.
        (ScdType::Two, [(2, 0), (4, 1), (0, 0), (0, 0)]),
    ] {
        let case = layout::plain(scd_type);
        let mut target = Target::new(&case).await;
        let update = [event(1, 9, Operation::Upsert), event(2, 9, Operation::Delete), event(3, 9, Operation::Upsert)];
        let batches = [
            vec![event(1, 1, Operation::Upsert), event(2, 1, Operation::Upsert)],
            update.to_vec(),
            update.to_vec(),
            vec![event(0, 20, Operation::Truncate)],
        ];
        let batches = if scd_type == ScdType::Two { &batches[..3] } else { &batches[..] };
        for (batch, (upserted, deleted)) in batches.iter().zip(expected) {
            assert_eq!(target.apply(batch, false).await, ChangeCounts { upserted, deleted }, "{batch:?}");
        }
    }
}
