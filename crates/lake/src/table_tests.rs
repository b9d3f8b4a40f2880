//! Tables as their users see them: write, commit, read, travel, refuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    AsArray, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::stats::Precision;
use datafusion::prelude::SessionContext;
use deltaworks_spark::error::Kind;
use deltaworks_spark::relation::TimeTravel;
use deltaworks_spark::types::variant;
use deltaworks_spark::variant::{VariantColumn, json_texts};

use crate::test_support::{Folder, people, people_schema, people_table, rows, write};
use crate::{
    Commit, Lake, Table, TableDefinition, Writer, WriterOptions, WrittenFiles, are_columns_changed, latest_of, schema,
};

#[tokio::test]
async fn missing_table_is_none() {
    let folder = Folder::new();
    assert!(Lake::default().open(&folder.url("nothing/here"), None).await.unwrap().is_none());
}

#[tokio::test]
async fn appended_rows_are_read_back_at_every_version() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let files = write(&table, people(&[(1, "a"), (2, "b")])).await;
    assert_eq!((files.rows, files.adds.len()), (2, 1));
    assert_eq!(Commit::append(files).commit(&mut table).await.unwrap(), 1);
    let files = write(&table, people(&[(3, "c")])).await;
    assert_eq!(Commit::append(files).commit(&mut table).await.unwrap(), 2);

    assert_eq!(rows(table.provider().unwrap()).await, ["1|a", "2|b", "3|c"]);
    assert_eq!(table.row_count_from_stats().unwrap(), Some(3));
    let old = table.at(Some(TimeTravel::Version(1))).await.unwrap().unwrap();
    assert_eq!(rows(old.provider().unwrap()).await, ["1|a", "2|b"]);
    let future = table.at(Some(TimeTravel::Version(9))).await.unwrap_err();
    assert_eq!(future.condition(), Some("DELTA_VERSION_NOT_FOUND"));
}

#[tokio::test]
async fn what_versions_pile_up_is_given_back() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let mut follower = table.at(None).await.unwrap().unwrap();
    let mut most = 0;
    for id in 1..=150 {
        let files = write(&table, people(&[(id, "a")])).await;
        Commit::append(files).commit(&mut table).await.unwrap();
        follower.refresh().await.unwrap();
        assert_eq!((table.version(), follower.version()), (id as u64, id as u64));
        most = most.max(table.added()).max(follower.added());
    }
    assert_eq!(most, 63);
    assert_eq!(rows(table.provider().unwrap()).await.len(), 150);
    assert_eq!(rows(follower.provider().unwrap()).await.len(), 150);
}

#[tokio::test]
async fn variants_are_a_type_of_their_own() {
    let folder = Folder::new();
    let item = Field::new("element", variant(), true);
    let fields = vec![Field::new("v", variant(), true), Field::new("l", DataType::List(Arc::new(item)), true)];
    let definition = TableDefinition::new(Arc::new(Schema::new(fields.clone())));
    let mut table = Lake::default().create(&folder.url("t"), &definition).await.unwrap();
    let protocol = std::fs::read_to_string(folder.path("t/_delta_log/00000000000000000000.json")).unwrap();
    assert!(protocol.contains(r#""readerFeatures":["variantType"]"#), "{protocol}");

    let mut column = VariantColumn::default();
    assert!(column.push_json(r#"{"a": [1, "x"]}"#));
    column.push_null();
    let v = column.finish();
    let DataType::List(item) = fields[1].data_type().clone() else { unreachable!() };
    let l = ListArray::new(item, OffsetBuffer::from_lengths([0, 2]), Arc::clone(&v), None);
    let batch = RecordBatch::try_new(Arc::clone(&definition.schema), vec![v, Arc::new(l)]).unwrap();
    let files = write(&table, batch).await;
    Commit::append(files).commit(&mut table).await.unwrap();

    let table = Lake::default().open(&folder.url("t"), None).await.unwrap().unwrap();
    let types: Vec<_> = table.schema().fields().iter().map(|field| schema::type_name(field.data_type())).collect();
    assert_eq!(types, ["VARIANT", "ARRAY<VARIANT>"]);
    let whole = table.provider().unwrap();
    let some = table.provider_for_files(&table.files().unwrap()).await.unwrap();
    for provider in [whole, some] {
        let read = SessionContext::new().read_table(provider).unwrap().collect().await.unwrap();
        assert_eq!(read[0].schema().field(0).data_type(), &variant());
        let texts = json_texts(read[0].column(0)).unwrap();
        assert_eq!(texts.iter().collect::<Vec<_>>(), [Some(r#"{"a":[1,"x"]}"#), None]);
        let items = json_texts(&read[0].column(1).as_list::<i32>().value(1)).unwrap();
        assert_eq!(items, texts);
    }
    let text = Schema::new(vec![Field::new("v", DataType::Utf8, true)]);
    let parts = DataType::Struct(vec![Field::new("value", DataType::Binary, false)].into());
    for other in [text, Schema::new(vec![Field::new("v", parts, true)])] {
        let error = schema::merge(table.schema(), &other).unwrap_err();
        assert_eq!(error.condition(), Some("DELTA_FAILED_TO_MERGE_FIELDS"));
    }
}

#[tokio::test]
async fn overwrite_replaces_rows_and_schema_in_one_version() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let files = write(&table, people(&[(1, "a")])).await;
    Commit::append(files).commit(&mut table).await.unwrap();

    let new_schema = Arc::new(Schema::new(vec![Field::new("total", DataType::Int32, true)]));
    let mut options = WriterOptions::for_table(&table).unwrap();
    options.schema = Arc::clone(&new_schema);
    let mut writer = Writer::new(&table, options).unwrap();
    let batch = RecordBatch::try_new(Arc::clone(&new_schema), vec![Arc::new(Int32Array::from(vec![7]))]).unwrap();
    writer.write(batch).await.unwrap();
    let files = writer.close().await.unwrap();
    let version = Commit::overwrite(files).schema(new_schema).commit(&mut table).await.unwrap();
    assert_eq!(version, 2);
    assert_eq!(rows(table.provider().unwrap()).await, ["7"]);
    assert!(table.changes(2, 2).await.unwrap()[0].removes_rows());
}

#[tokio::test]
async fn definition_survives_reopening() {
    let folder = Folder::new();
    let field = |name: &str, key: &str, value: &str| {
        Field::new(name, DataType::Utf8, true).with_metadata([(key.to_owned(), value.to_owned())].into())
    };
    let mut definition = TableDefinition::new(Arc::new(Schema::new(vec![
        field("region", "comment", "where"),
        Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None), true),
        field("upper_region", "delta.generationExpression", "upper(region)"),
    ])));
    definition.partition_columns = vec!["region".to_owned()];
    definition.clustering_columns = vec!["at".to_owned()];
    definition.properties = BTreeMap::from([("quality".to_owned(), "gold".to_owned())]);
    definition.comment = Some("all orders".to_owned());
    definition.name = Some("orders".to_owned());
    Lake::default().create(&folder.url("t"), &definition).await.unwrap();

    let table = Lake::default().open(&folder.url("t"), None).await.unwrap().unwrap();
    definition.schema = schema::to_delta(&definition.schema).unwrap();
    assert_eq!(table.definition().unwrap(), definition);
    let again = Lake::default().create(&folder.url("t"), &definition).await.unwrap_err();
    assert_eq!((again.kind(), again.condition()), (Kind::User, Some("DELTA_PATH_EXISTS")));
}

#[tokio::test]
async fn columns_are_matched_by_name_and_widened() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let schema = Arc::new(Schema::new(vec![
        Field::new("NAME", DataType::Utf8View, true),
        Field::new("Id", DataType::Int16, true),
    ]));
    let names = StringViewArray::from(vec!["a"]);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(names), Arc::new(Int16Array::from(vec![5]))]).unwrap();
    let files = write(&table, batch).await;
    Commit::append(files).commit(&mut table).await.unwrap();
    assert_eq!(rows(table.provider().unwrap()).await, ["5|a"]);
}

#[tokio::test]
async fn rows_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    let table = people_table(&folder).await;
    let fails = async |schema: Schema, columns: Vec<arrow::array::ArrayRef>| {
        let mut writer = Writer::new(&table, WriterOptions::for_table(&table).unwrap()).unwrap();
        writer.write(RecordBatch::try_new(Arc::new(schema), columns).unwrap()).await.unwrap_err()
    };
    let text =
        fails(Schema::new(vec![Field::new("id", DataType::Utf8, true)]), vec![Arc::new(StringArray::from(vec!["1"]))])
            .await;
    assert_eq!(text.condition(), Some("DELTA_FAILED_TO_MERGE_FIELDS"));
    assert_eq!(text.message(), "column `id` has type BIGINT in the table and type STRING in the new rows");
    let null = fails(
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]),
        vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["a", "b"]))],
    )
    .await;
    assert_eq!(null.condition(), Some("DELTA_NOT_NULL_CONSTRAINT_VIOLATED"));
    assert_eq!(null.message(), "NOT NULL constraint violated for column `id`; first such row: id=NULL, name=b");
    let extra = fails(
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Int64, true)]),
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![1]))],
    )
    .await;
    assert_eq!(extra.condition(), Some("DELTA_METADATA_MISMATCH"));
}

#[tokio::test]
async fn generated_columns_are_filled_and_constraints_hold() {
    let folder = Folder::new();
    let generated = Field::new("double", DataType::Int64, true)
        .with_metadata([("delta.generationExpression".to_owned(), "id * 2".to_owned())].into());
    let mut definition =
        TableDefinition::new(Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), generated])));
    definition.properties.insert("delta.constraints.positive".to_owned(), "id > 0".to_owned());
    let mut table = Lake::default().create(&folder.url("t"), &definition).await.unwrap();
    let ids = |ids: Vec<i64>| {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids))]).unwrap()
    };
    let files = write(&table, ids(vec![3, 4])).await;
    Commit::append(files).commit(&mut table).await.unwrap();
    assert_eq!(rows(table.provider().unwrap()).await, ["3|6", "4|8"]);

    let mut writer = Writer::new(&table, WriterOptions::for_table(&table).unwrap()).unwrap();
    let error = writer.write(ids(vec![1, -1])).await.unwrap_err();
    assert_eq!(error.message(), "CHECK constraint `positive` (id > 0) violated; first such row: id=-1, double=-2");
    let wrong = RecordBatch::try_new(
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("double", DataType::Int64, true),
        ])),
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![3]))],
    )
    .unwrap();
    let error = writer.write(wrong).await.unwrap_err();
    assert_eq!(error.condition(), Some("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"));
}

#[tokio::test]
async fn partitioned_table_keeps_rows_and_prunes() {
    let folder = Folder::new();
    let mut definition = TableDefinition::new(people_schema());
    definition.partition_columns = vec!["name".to_owned()];
    let mut table = Lake::default().create(&folder.url("t"), &definition).await.unwrap();
    let files = write(&table, people(&[(1, "a/ü"), (2, "b c"), (3, "a/ü")])).await;
    assert_eq!(files.adds.len(), 2);
    Commit::append(files).commit(&mut table).await.unwrap();
    let table = table.at(None).await.unwrap().unwrap();
    assert_eq!(rows(table.provider().unwrap()).await, ["1|a/ü", "2|b c", "3|a/ü"]);
    assert_eq!(table.provider().unwrap().schema().field(1).data_type(), &DataType::Utf8);
    let files = table.files().unwrap();
    let one = table.provider_for_files(&files[..1]).await.unwrap();
    let expected = if files[0].rows == Some(1) { vec!["2|b c"] } else { vec!["1|a/ü", "3|a/ü"] };
    assert_eq!(rows(one).await, expected);
}

#[tokio::test]
async fn files_are_read_as_of_their_version_and_in_the_current_schema() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let files = write(&table, people(&[(1, "a")])).await;
    Commit::append(files).commit(&mut table).await.unwrap();
    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let wider = Arc::new(Schema::new(wider));
    Commit::append(write(&table, people(&[(2, "b")])).await).schema(wider).commit(&mut table).await.unwrap();
    let slice: Vec<_> = table.changes(1, 2).await.unwrap().iter().flat_map(|commit| commit.added.clone()).collect();
    assert_eq!(rows(table.provider_for_files(&slice).await.unwrap()).await, ["1|a|", "2|b|"]);
    Commit::overwrite(write(&table, people(&[(9, "z")])).await).commit(&mut table).await.unwrap();
    assert_eq!(rows(table.provider_for_files(&slice).await.unwrap()).await, ["1|a|", "2|b|"]);
    assert_eq!(rows(table.provider().unwrap()).await, ["9|z|"]);
    assert_eq!(rows(table.provider_for_files(&[]).await.unwrap()).await, Vec::<String>::new());
}

#[tokio::test]
async fn log_checkpoint_is_written_every_ten_commits() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    for id in 0..11 {
        let files = write(&table, people(&[(id, "x")])).await;
        Commit::append(files).transaction("app", id).commit(&mut table).await.unwrap();
    }
    let log = crate::location::to_path(table.location()).unwrap().join("_delta_log");
    assert!(log.join("00000000000000000010.checkpoint.parquet").exists());
    let table = table.at(None).await.unwrap().unwrap();
    assert_eq!(table.row_count_from_stats().unwrap(), Some(11));
    assert_eq!(table.transaction_version("app").await.unwrap(), Some(10));
}

#[tokio::test]
async fn a_provider_can_be_brought_up_to_date() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let provider = table.provider().unwrap();
    assert!(latest_of(provider.as_ref()).await.unwrap().is_none());
    let pinned = table.at(Some(TimeTravel::Version(0))).await.unwrap().unwrap().provider().unwrap();

    let files = write(&table, people(&[(1, "ann")])).await;
    Commit::append(files).commit(&mut table).await.unwrap();
    let latest = latest_of(provider.as_ref()).await.unwrap().unwrap();
    assert_eq!(rows(latest).await, ["1|ann"]);
    assert!(latest_of(pinned.as_ref()).await.unwrap().is_none());
    let some_files = table.provider_for_files(&table.files().unwrap()).await.unwrap();

    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let wider = Commit::append(WrittenFiles::default()).schema(Arc::new(Schema::new(wider)));
    wider.commit(&mut table).await.unwrap();
    let error = latest_of(provider.as_ref()).await.unwrap_err();
    assert!(are_columns_changed(&error), "{error}");
    assert!(latest_of(some_files.as_ref()).await.unwrap().is_none());
}

#[tokio::test]
async fn statistics_tell_which_columns_have_no_null() {
    let folder = Folder::new();
    let mut table = people_table(&folder).await;
    let full = |table: &Table| -> Vec<bool> {
        let statistics = table.provider().unwrap().statistics().unwrap();
        statistics.column_statistics.iter().map(|column| column.null_count == Precision::Exact(0)).collect()
    };
    Commit::append(write(&table, people(&[(1, "a")])).await).commit(&mut table).await.unwrap();
    assert_eq!(full(&table), [true, true]);
    let nameless = RecordBatch::try_new(
        people_schema(),
        vec![Arc::new(Int64Array::from(vec![2])), Arc::new(StringArray::new_null(1))],
    );
    Commit::append(write(&table, nameless.unwrap()).await).commit(&mut table).await.unwrap();
    assert_eq!(full(&table), [true, false]);
    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let wider = Commit::append(WrittenFiles::default()).schema(Arc::new(Schema::new(wider)));
    wider.commit(&mut table).await.unwrap();
    // No file knows of the new column, so no count says that it is NULL.
    assert_eq!(full(&table), [true, false, false]);
    assert!(table.provider_for_files(&table.files().unwrap()).await.unwrap().statistics().is_none());
}

#[tokio::test]
async fn nan_is_found_though_no_statistics_tell_of_it() {
    let folder = Folder::new();
    let schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)]));
    let mut table =
        Lake::default().create(&folder.url("numbers"), &TableDefinition::new(Arc::clone(&schema))).await.unwrap();
    for (ids, numbers) in [(vec![1], vec![10.0]), (vec![2, 3], vec![1.0, f64::NAN])] {
        let columns = vec![Arc::new(Int64Array::from(ids)) as _, Arc::new(Float64Array::from(numbers)) as _];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        Commit::append(write(&table, batch).await).commit(&mut table).await.unwrap();
    }
    let ctx = SessionContext::new();
    ctx.register_table("t", table.provider().unwrap()).unwrap();
    for (query, expected) in [
        ("SELECT id FROM t WHERE x > 5", vec![1, 3]),
        ("SELECT id FROM t WHERE x > 5 AND id < 3", vec![1]),
        ("SELECT id FROM (SELECT * FROM t ORDER BY x DESC LIMIT 1)", vec![3]),
        ("SELECT id FROM t JOIN (SELECT 'NaN'::double AS y) ON x = y", vec![3]),
        ("SELECT count(x) FROM t", vec![3]),
    ] {
        let batches = ctx.sql(query).await.unwrap().collect().await.unwrap();
        let ids = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{query}");
    }
}
