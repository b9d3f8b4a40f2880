//! Commits that meet other commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use deltaworks_spark::error::Kind;

use crate::test_support::{Folder, people, people_schema, people_table, rows, write};
use crate::{Commit, Table};

async fn reopened(table: &Table) -> Table {
    table.at(None).await.unwrap().unwrap()
}

#[tokio::test]
async fn appends_of_two_writers_both_land() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    let mut second = reopened(&first).await;
    let (a, b) = (write(&first, people(&[(1, "a")])).await, write(&second, people(&[(2, "b")])).await);
    assert_eq!(Commit::append(a).transaction("f", 0).commit(&mut first).await.unwrap(), 1);
    assert_eq!(Commit::append(b).transaction("g", 0).commit(&mut second).await.unwrap(), 2);
    assert_eq!(rows(second.provider().unwrap()).await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn append_on_a_given_version_does_not_land_on_another() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    let mut second = reopened(&first).await;
    let (a, b) = (write(&first, people(&[(1, "a")])).await, write(&second, people(&[(2, "b")])).await);
    Commit::append(a).commit(&mut first).await.unwrap();
    let commit = Commit::append(b).on_this_version();
    let error = commit.clone().commit(&mut second).await.unwrap_err();
    assert_eq!((error.kind(), error.condition()), (Kind::Conflict, Some("DELTA_CONCURRENT_WRITE")));
    second.refresh().await.unwrap();
    assert_eq!(commit.commit(&mut second).await.unwrap(), 2);
    assert_eq!(rows(second.provider().unwrap()).await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn same_batch_is_committed_only_once() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    let mut second = reopened(&first).await;
    let files = write(&first, people(&[(1, "a")])).await;
    Commit::append(files.clone()).transaction("f", 4).commit(&mut first).await.unwrap();
    let concurrent = Commit::append(files.clone()).transaction("f", 4).commit(&mut second).await.unwrap_err();
    assert_eq!((concurrent.kind(), concurrent.condition()), (Kind::Conflict, Some("DELTA_CONCURRENT_TRANSACTION")));
    let repeated = Commit::append(files).transaction("f", 4).commit(&mut first).await.unwrap_err();
    assert_eq!(repeated.kind(), Kind::Conflict);
    assert_eq!(rows(reopened(&first).await.provider().unwrap()).await, ["1|a"]);
}

#[tokio::test]
async fn append_after_a_schema_change_conflicts() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    let mut second = reopened(&first).await;
    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let files = write(&second, people(&[(2, "b")])).await;
    Commit::append(Default::default()).schema(Arc::new(Schema::new(wider))).commit(&mut first).await.unwrap();
    let error = Commit::append(files).commit(&mut second).await.unwrap_err();
    assert_eq!((error.kind(), error.condition()), (Kind::Conflict, Some("DELTA_METADATA_CHANGED")));
}

#[tokio::test]
async fn overwrite_removes_rows_appended_meanwhile() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    let mut second = reopened(&first).await;
    Commit::append(write(&first, people(&[(1, "a")])).await).commit(&mut first).await.unwrap();
    let files = write(&second, people(&[(2, "b")])).await;
    assert_eq!(Commit::overwrite(files).transaction("f", 1).commit(&mut second).await.unwrap(), 2);
    assert_eq!(rows(second.provider().unwrap()).await, ["2|b"]);
    assert_eq!(second.transaction_version("f").await.unwrap(), Some(1));
}

#[tokio::test]
async fn append_only_table_refuses_overwrites() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let properties = BTreeMap::from([("delta.appendOnly".to_owned(), "true".to_owned())]);
    Commit::append(write(&table, people(&[(1, "a")])).await).properties(properties).commit(&mut table).await.unwrap();
    let error = Commit::overwrite(Default::default()).commit(&mut table).await.unwrap_err();
    assert_eq!((error.kind(), error.condition()), (Kind::User, Some("DELTA_CANNOT_MODIFY_APPEND_ONLY")));
}

#[tokio::test]
async fn properties_that_need_a_feature_enable_it() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let properties = BTreeMap::from([("delta.constraints.c".to_owned(), "id > 0".to_owned())]);
    let ntz = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("at", ntz, true)));
    Commit::append(Default::default())
        .properties(properties.clone())
        .schema(Arc::new(Schema::new(wider)))
        .comment(Some("people".to_owned()))
        .commit(&mut table)
        .await
        .unwrap();
    let table = reopened(&table).await;
    let definition = table.definition().unwrap();
    assert_eq!((definition.properties, definition.comment.as_deref()), (properties, Some("people")));
    assert_eq!(table.state().unwrap().protocol().min_writer_version(), 7);
    assert_eq!(table.state().unwrap().protocol().min_reader_version(), 3);
}

#[tokio::test]
async fn history_tells_what_happened() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let files = write(&table, people(&[(1, "a"), (2, "b")])).await;
    Commit::append(files)
        .transaction("flow", 0)
        .operation_metrics([("numDropped".to_owned(), "3".into())].into())
        .user_metadata("update 7")
        .commit(&mut table)
        .await
        .unwrap();
    let changes = table.changes(0, 1).await.unwrap();
    assert!(changes[0].metadata_changed && !changes[1].metadata_changed);
    assert_eq!(changes[1].operation.as_deref(), Some("STREAMING UPDATE"));
    assert_eq!(changes[1].new_rows().map(|file| file.rows).collect::<Vec<_>>(), [Some(2)]);
    let log = crate::location::to_path(table.location()).unwrap().join("_delta_log/00000000000000000001.json");
    let text = std::fs::read_to_string(log).unwrap();
    for part in
        ["\"numDropped\":\"3\"", "\"numOutputRows\":\"2\"", "\"userMetadata\":\"update 7\"", "\"readVersion\":0"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let gone = table.changes(1, 5).await.unwrap_err();
    assert_eq!(gone.condition(), Some("DELTA_VERSIONS_NOT_CONTIGUOUS"));
}

#[tokio::test]
async fn compaction_goes_together_with_appends_but_not_with_changes_of_its_files() {
    let folder = Folder::new();
    let mut first = people_table(&folder).await;
    for row in [(1, "a"), (2, "b")] {
        let files = write(&first, people(&[row])).await;
        Commit::append(files).commit(&mut first).await.unwrap();
    }
    let mut second = reopened(&first).await;
    let small = first.files().unwrap();
    let compact = |table: &Table, files| Commit::compact(table, files, &small).unwrap();
    let both = write(&second, people(&[(1, "a"), (2, "b")])).await;
    let compaction = compact(&second, both.clone()).operation_name("OPTIMIZE", BTreeMap::new());
    Commit::append(write(&first, people(&[(3, "c")])).await).commit(&mut first).await.unwrap();
    assert_eq!(compaction.commit(&mut second).await.unwrap(), 4);
    assert_eq!(rows(second.provider().unwrap()).await, ["1|a", "2|b", "3|c"]);
    let done = second.changes(4, 4).await.unwrap();
    assert!(!done[0].removes_rows() && done[0].new_rows().next().is_none());
    assert_eq!(done[0].operation.as_deref(), Some("OPTIMIZE"));
    // Its files are gone for the other writer, who has not noticed.
    let late = compact(&first, both).commit(&mut first).await.unwrap_err();
    assert_eq!((late.kind(), late.condition()), (Kind::Conflict, Some("DELTA_CONCURRENT_DELETE_READ")));
}

#[tokio::test]
async fn history_shows_operations_by_their_names() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    Commit::append(write(&table, people(&[(1, "a")])).await).commit(&mut table).await.unwrap();
    let files = table.files().unwrap();
    let parameters = BTreeMap::from([("predicate".to_owned(), "[\"id = 1\"]".to_owned())]);
    Commit::merge(&table, Default::default(), &files)
        .unwrap()
        .operation_name("DELETE", parameters.clone())
        .operation_metrics([("numDeletedRows".to_owned(), "1".into())].into())
        .commit(&mut table)
        .await
        .unwrap();
    let last = table.history(Some(1)).await.unwrap().remove(0);
    assert_eq!((last.operation.as_deref(), last.parameters), (Some("DELETE"), parameters));
    assert_eq!(last.metrics, BTreeMap::from([("numDeletedRows".to_owned(), "1".to_owned())]));
    assert_eq!((last.read_version, last.is_blind_append), (Some(1), Some(false)));
    assert!(last.timestamp_us.is_some());
}
