//! State tables through crashes.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::test_support::{Folder, people, people_schema, rows};
use crate::{Lake, StateTable};

async fn append(state: &mut StateTable, base: Option<u64>, keys: &[(i64, &str)], batch: i64) -> u64 {
    let batches = if keys.is_empty() { Vec::new() } else { vec![people(keys)] };
    state.append_from(base, &people_schema(), batches, "flow", batch).await.unwrap()
}

#[tokio::test]
async fn state_grows_batch_by_batch() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    assert_eq!(state.latest_version(), None);
    let first = append(&mut state, None, &[(1, "a")], 0).await;
    let second = append(&mut state, Some(first), &[(2, "b")], 1).await;
    assert_eq!(append(&mut state, Some(second), &[], 2).await, second);
    assert_eq!(rows(state.provider_at(first).await.unwrap()).await, ["1|a"]);
    assert_eq!(rows(state.provider_at(second).await.unwrap()).await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn rows_of_an_attempt_that_died_leave_with_the_next_one() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let base = append(&mut state, None, &[(1, "a")], 0).await;
    append(&mut state, Some(base), &[(2, "dead")], 1).await;

    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let retried = append(&mut state, Some(base), &[(3, "c")], 1).await;
    assert_eq!(rows(state.provider_at(retried).await.unwrap()).await, ["1|a", "3|c"]);
    let emptied = append(&mut state, Some(base), &[], 1).await;
    assert_eq!(rows(state.provider_at(emptied).await.unwrap()).await, ["1|a"]);
    let reset = append(&mut state, None, &[(9, "z")], 0).await;
    assert_eq!(rows(state.provider_at(reset).await.unwrap()).await, ["9|z"]);
}

#[tokio::test]
async fn many_rows_go_to_several_files_at_once() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let batches = (0..6).map(|part| people(&(0..100_000).map(|id| (part * 100_000 + id, "x")).collect::<Vec<_>>()));
    let version = state.append_from(None, &people_schema(), batches.collect(), "flow", 0).await.unwrap();
    let mut found = rows(state.provider_at(version).await.unwrap()).await;
    found.sort_by_key(|row| row.split('|').next().unwrap().parse::<i64>().unwrap());
    assert!(found.iter().map(String::as_str).eq((0..600_000).map(|id| format!("{id}|x")).collect::<Vec<_>>().iter()));
    let threads = std::thread::available_parallelism().unwrap().get();
    assert_eq!(state.open_at(version).await.unwrap().size().unwrap().0, threads.min(2) as u64);
}

#[tokio::test]
async fn small_files_are_merged_and_a_dead_merge_is_undone() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let mut version = None;
    for id in 0..8 {
        version = Some(append(&mut state, version, &[(id, "x")], id).await);
    }
    let merged = append(&mut state, version, &[(8, "x")], 8).await;
    let table = crate::Lake::default().open(&folder.url("state"), None).await.unwrap().unwrap();
    assert_eq!(table.size().unwrap().0, 1);
    assert_eq!(rows(state.provider_at(merged).await.unwrap()).await.len(), 9);
    // The merge never became true: the batch runs again from the version before it.
    let again = append(&mut state, version, &[(80, "y")], 8).await;
    let found = rows(state.provider_at(again).await.unwrap()).await;
    assert_eq!(found, ["0|x", "1|x", "2|x", "3|x", "4|x", "5|x", "6|x", "7|x", "80|y"]);
}

#[tokio::test]
async fn files_that_are_over_are_known_by_their_statistics() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![Field::new("expires", data_type, true)]));
    let mut version = None;
    for (batch, expires) in
        [vec![Some(1_000), Some(5_000)], vec![Some(9_500)], vec![Some(2_000), None]].iter().enumerate()
    {
        let times = TimestampMicrosecondArray::from(expires.clone()).with_timezone("UTC");
        let rows = vec![RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times)]).unwrap()];
        version = Some(state.append_from(version, &schema, rows, "flow", batch as i64).await.unwrap());
    }
    let table = state.open_at(version.unwrap()).await.unwrap();
    let over = |until_us: i64| table.files_until("expires", until_us).unwrap().len();
    // Statistics have milliseconds: what they cut off may be as much as 999.
    assert_eq!([over(4_999), over(5_000), over(5_999), over(9_999), over(10_000)], [0, 0, 1, 2, 2]);
    assert_eq!(table.files_until("missing", 1).unwrap(), []);
}
