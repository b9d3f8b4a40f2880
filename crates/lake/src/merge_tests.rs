//! Finding the files of keys, replacing them, and the state tables beside them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;

use crate::test_support::{Folder, people, people_schema, people_table, rows, write};
use crate::{Commit, FILE_COLUMN, Lake, Replacement, Table, TableDefinition};

async fn table_of(folder: &Folder, files: &[&[(i64, &str)]]) -> Table {
    let mut table = people_table(folder).await;
    for file in files {
        let files = write(&table, people(file)).await;
        Commit::append(files).commit(&mut table).await.unwrap();
    }
    table
}

fn ids(values: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// The rows of the files that may hold `keys`.
async fn found(table: &Table, keys: &RecordBatch) -> Vec<String> {
    let files = table.files_with_keys(keys).unwrap();
    rows(table.provider_for_files(&files).await.unwrap()).await
}

#[tokio::test]
async fn files_out_of_the_bounds_of_all_keys_are_ruled_out() {
    let folder = Folder::new();
    let table = table_of(&folder, &[&[(1, "a"), (3, "c")], &[(5, "e"), (9, "i")]]).await;
    assert_eq!(found(&table, &ids(&[2])).await, ["1|a", "3|c"]);
    assert_eq!(found(&table, &ids(&[9, 10])).await, ["5|e", "9|i"]);
    assert_eq!(found(&table, &ids(&[3, 5])).await.len(), 4);
    assert!(table.files_with_keys(&ids(&[0, 4, 10])).unwrap().is_empty());
}

#[tokio::test]
async fn each_key_column_rules_out_files() {
    let folder = Folder::new();
    let long = "x".repeat(300);
    let table = table_of(&folder, &[&[(1, "a"), (9, "b")], &[(1, "m"), (9, long.as_str())]]).await;
    let keys = |id: i64, name: &str| {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![id])), Arc::new(StringArray::from(vec![name]))];
        RecordBatch::try_new(people_schema(), columns).unwrap()
    };
    let count = |keys: &RecordBatch| table.files_with_keys(keys).unwrap().len();
    assert_eq!(count(&keys(5, "a")), 1);
    assert_eq!(count(&keys(10, "a")), 0);
    // Statistics cut long texts off: what they leave is no smaller than the text.
    assert_eq!(count(&keys(9, &long)), 1);
    assert_eq!(count(&keys(5, "zz")), 0);
}

#[tokio::test]
async fn parts_of_milliseconds_that_statistics_leave_out_are_allowed_for() {
    let folder = Folder::new();
    let schema = Arc::new(Schema::new(vec![Field::new(
        "at",
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        true,
    )]));
    let mut table =
        Lake::default().create(&folder.url("times"), &TableDefinition::new(Arc::clone(&schema))).await.unwrap();
    let at = |us: i64| {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC"));
        RecordBatch::try_new(Arc::clone(&schema), vec![times]).unwrap()
    };
    let files = write(&table, at(1_000_777)).await;
    Commit::append(files).commit(&mut table).await.unwrap();
    assert_eq!(table.files_with_keys(&at(1_000_777)).unwrap().len(), 1);
    assert_eq!(table.files_with_keys(&at(2_000_000)).unwrap().len(), 0);
}

#[tokio::test]
async fn rows_know_their_file_and_files_are_replaced() {
    let folder = Folder::new();
    let mut table = table_of(&folder, &[&[(1, "a")], &[(2, "b")]]).await;
    let files = table.files().unwrap();
    let provider = table.provider_with_file_column(&files).unwrap();
    let ctx = SessionContext::new();
    let found = ctx.read_table(provider).unwrap().collect().await.unwrap();
    let mut named = Vec::new();
    for batch in &found {
        let names = arrow::compute::cast(batch.column_by_name(FILE_COLUMN).unwrap(), &DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let name = arrow::array::AsArray::as_string::<i32>(&names).value(row).to_owned();
            let id = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0)).value(row);
            named.push((id, table.file_of(&name, &files).unwrap().path.clone()));
        }
    }
    named.sort();
    let path = |id: i64| named.iter().find(|(known, _)| *known == id).unwrap().1.clone();
    assert_ne!(path(1), path(2));
    let replaced: Vec<_> = files.iter().filter(|file| file.path == path(1)).cloned().collect();
    let written = write(&table, people(&[(1, "A")])).await;
    let commit = Commit::merge(&table, written.clone(), &replaced).unwrap();
    commit.transaction("flow", 0).transaction("ledger", 7).commit(&mut table).await.unwrap();
    assert_eq!(rows(table.provider().unwrap()).await, ["1|A", "2|b"]);
    assert_eq!(table.transaction_version("ledger").await.unwrap(), Some(7));
    let history = table.changes(table.version(), table.version()).await.unwrap();
    assert_eq!(history[0].operation.as_deref(), Some("MERGE"));
    assert!(history[0].removes_rows());
    // The file is gone: a merge that was planned on it cannot land.
    assert!(Commit::merge(&table, written, &replaced).is_err());
}

#[tokio::test]
async fn rows_of_a_state_table_are_replaced_on_top_of_the_version_that_counts() {
    let folder = Folder::new();
    let mut state = Lake::default().state_table(&folder.url("state")).await.unwrap();
    let replacement = |replaced: Vec<crate::DataFile>, new: &[(i64, &str)]| {
        let batches: Vec<_> = if new.is_empty() { Vec::new() } else { vec![Ok(people(new))] };
        let rows = RecordBatchStreamAdapter::new(people_schema(), futures::stream::iter(batches));
        Replacement { replaced, rows: vec![Box::pin(rows)], schema: people_schema() }
    };
    let first = state.replace_from(None, replacement(Vec::new(), &[(1, "a")]), "flow", 0).await.unwrap();
    let files = state.open_at(first).await.unwrap().files().unwrap();
    // An attempt that died.
    state.replace_from(Some(first), replacement(files.clone(), &[(1, "dead")]), "flow", 1).await.unwrap();
    let second = state.replace_from(Some(first), replacement(files, &[(1, "b"), (2, "c")]), "flow", 1).await.unwrap();
    assert_eq!(rows(state.provider_at(second).await.unwrap()).await, ["1|b", "2|c"]);
    assert_eq!(rows(state.provider_at(first).await.unwrap()).await, ["1|a"]);
    // A table that began anew.
    let reset = state.replace_from(None, replacement(Vec::new(), &[(9, "z")]), "flow", 0).await.unwrap();
    assert_eq!(rows(state.provider_at(reset).await.unwrap()).await, ["9|z"]);
}
