//! Which files a batch writes again, and which rows are in a file together.

use super::*;

pub(super) fn plain(scd_type: ScdType) -> Case {
    Case { scd_type, nested: false, stored: false, tracks_name: false, leaves: Leaves::Nothing, batches: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_files_that_hold_a_changed_row_are_written_again() {
    let case = plain(ScdType::One);
    let mut target = Target::new(&case).await;
    let upsert = |key, sequence| Event { key, sequence, operation: Operation::Upsert };
    target.apply(&[upsert(1, 1), upsert(2, 1)], false).await;
    target.apply(&[upsert(3, 1), upsert(5, 1)], false).await;
    let before: Vec<String> = target.table.files().unwrap().into_iter().map(|file| file.path).collect();
    // Within the bounds of the second file, but not in it; and in the first.
    target.apply(&[upsert(4, 1), upsert(2, 2)], false).await;
    let after: Vec<String> = target.table.files().unwrap().into_iter().map(|file| file.path).collect();
    assert!(!after.contains(&before[0]), "the file with key 2 stays");
    assert!(after.contains(&before[1]), "the file without key 4 is written again");
    // Late for every key: nothing is written.
    let version = target.table.files().unwrap();
    target.apply(&[upsert(1, 0), upsert(2, 0), upsert(4, 0)], false).await;
    let paths = |files: Vec<deltaworks_lake::DataFile>| files.into_iter().map(|file| file.path).collect::<Vec<_>>();
    assert_eq!(paths(target.table.files().unwrap()), paths(version));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_ended_are_not_written_again() {
    let case = plain(ScdType::Two);
    let mut target = Target::new(&case).await;
    let upsert = |key, sequence| Event { key, sequence, operation: Operation::Upsert };
    let paths = |target: &Target| -> BTreeSet<String> {
        target.table.files().unwrap().into_iter().map(|file| file.path).collect()
    };
    target.apply(&[upsert(1, 1), upsert(1, 10), upsert(2, 1), upsert(2, 10), upsert(3, 1)], false).await;
    let first = paths(&target);
    assert_eq!(first.len(), 2, "versions in force are in a file of their own");
    target.apply(&[upsert(1, 20), upsert(2, 20)], false).await;
    let second = paths(&target);
    assert_eq!(first.intersection(&second).count(), 1, "versions that ended stay in their file");
    // Late: between two versions that ended.
    target.apply(&[upsert(1, 4)], false).await;
    assert_eq!(first.intersection(&paths(&target)).count(), 0);
    let mut ends: Vec<_> = target.rows().await.into_iter().map(|row| (row.0, row.3, row.4)).collect();
    ends.sort_unstable();
    let expected = [
        (1, 1, Some(4)),
        (1, 4, Some(10)),
        (1, 10, Some(20)),
        (1, 20, None),
        (2, 1, Some(10)),
        (2, 10, Some(20)),
        (2, 20, None),
        (3, 1, None),
    ];
    assert_eq!(ends, expected.map(|(key, start, end)| (key, Some(start), end)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_late_events_versions_in_force_and_ended_are_still_in_files_of_their_own() {
    let mut target = Target::new(&plain(ScdType::Two)).await;
    // Neighbouring sequences have the same values, and would be one version.
    let upserts = |keys: std::ops::Range<i32>, sequence| {
        keys.map(|key| Event { key, sequence, operation: Operation::Upsert }).collect::<Vec<_>>()
    };
    target.apply(&upserts(0..20, 0), false).await;
    target.apply(&upserts(0..20, 20), false).await;
    for (late, next) in [(8, 40), (28, 60), (48, 80)] {
        // Ends a version anew that others have left their file with, and leaves most of that file as it is.
        let events: Vec<_> = upserts(0..2, late).into_iter().chain(upserts(0..10, next)).collect();
        target.apply(&events, false).await;
        let files = target.table.files().unwrap();
        let nulls = target.table.null_counts(END_AT, &files).unwrap();
        assert!(nulls.contains(&Some(0)), "{nulls:?}");
        for (file, nulls) in files.iter().zip(nulls) {
            assert!(nulls == Some(0) || nulls == file.rows, "{nulls:?} of {:?} rows are in force", file.rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_has_rows_only_of_keys_whose_row_does_not_tell_the_sequence() {
    let case = Case { stored: true, ..plain(ScdType::One) };
    let mut target = Target::new(&case).await;
    let event = |key, sequence, operation| Event { key, sequence, operation };
    let recorded = async |target: &Target| {
        let ledger = super::super::Ledger::open(&target.merge(), &target.table).await.unwrap();
        let rows = target.ctx.read_table(ledger.table.unwrap().provider().unwrap()).unwrap().collect().await.unwrap();
        let keys = rows.iter().flat_map(|rows| rows.column(0).as_primitive::<Int32Type>().values().to_vec());
        keys.collect::<BTreeSet<i32>>()
    };
    // The rows of keys 1 and 2 tell it, that of key 3 has NULL.
    let upserts = [event(1, 3, Operation::Upsert), event(2, 3, Operation::Upsert), event(3, 5, Operation::Upsert)];
    assert_eq!(upserts.map(|event| event.at()), [Some(3), Some(3), None]);
    target.apply(&upserts, false).await;
    assert_eq!(recorded(&target).await, BTreeSet::from([3]));
    target.apply(&[event(1, 6, Operation::Delete), event(3, 6, Operation::Upsert)], false).await;
    assert_eq!(recorded(&target).await, BTreeSet::from([1]), "key 1 is gone, the row of key 3 tells its sequence now");
    // Late, and at last not: what is known of keys is found wherever it is.
    target.apply(&[event(1, 5, Operation::Upsert), event(2, 2, Operation::Upsert)], false).await;
    assert_eq!(target.rows().await.iter().map(|row| (row.0, row.3)).collect::<Vec<_>>(), [(2, Some(3)), (3, Some(6))]);
    target.apply(&[event(1, 8, Operation::Upsert), event(2, 4, Operation::Delete)], false).await;
    assert_eq!(recorded(&target).await, BTreeSet::from([2]));
    assert_eq!(target.rows().await.iter().map(|row| (row.0, row.3)).collect::<Vec<_>>(), [(1, Some(8)), (3, Some(6))]);
}
