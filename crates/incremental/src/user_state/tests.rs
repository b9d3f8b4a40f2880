//! What is left of a log, and what of it has timed out.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use super::{BATCH, DIGEST, HAS_VALUE, REMOVED, TIMEOUT, first_due, newest};

/// A row of a log: the group, the batch, whether it has been forgotten, when it times out, its value.
type Row = (u8, i64, bool, Option<i64>, i64);

const LOG: [Row; 6] = [
    (1, 0, false, Some(100), 10),
    (2, 0, false, Some(100), 20),
    (3, 0, false, None, 30),
    (1, 1, false, Some(300), 11),
    (2, 2, true, None, 0),
    (4, 2, false, Some(200), 40),
];

fn log(rows: &[Row]) -> Arc<dyn TableProvider> {
    let schema = Arc::new(Schema::new(vec![
        Field::new(DIGEST, DataType::Binary, true),
        Field::new(BATCH, DataType::Int64, true),
        Field::new(REMOVED, DataType::Boolean, true),
        Field::new(HAS_VALUE, DataType::Boolean, true),
        Field::new(TIMEOUT, DataType::Int64, true),
        Field::new("value_0", DataType::Int64, true),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(rows.iter().map(|row| Some([row.0; 16])).collect::<BinaryArray>()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.2)).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| Some(!row.2)).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.4).collect::<Int64Array>()),
        ],
    );
    Arc::new(MemTable::try_new(schema, vec![vec![batch.unwrap()]]).unwrap())
}

async fn values(whole: bool) -> Vec<i64> {
    let rows = newest(SessionContext::new().read_table(log(&LOG)).unwrap(), whole).unwrap().collect().await.unwrap();
    let column = |batch: &RecordBatch| batch.column_by_name("value_0").unwrap().as_primitive::<Int64Type>().clone();
    let mut values: Vec<i64> = rows.iter().flat_map(|batch| column(batch).values().to_vec()).collect();
    values.sort_unstable();
    values
}

#[tokio::test]
async fn the_latest_row_of_each_group_is_left() {
    assert_eq!(values(false).await, [0, 11, 30, 40], "what was forgotten still hides older rows elsewhere");
    assert_eq!(values(true).await, [11, 30, 40]);
}

#[tokio::test]
async fn rows_that_were_overtaken_do_not_time_out() {
    let is_due = async |due_ms: i64| {
        let plan = first_due(&log(&LOG), due_ms).unwrap();
        let rows = SessionContext::new().execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        rows.iter().map(|batch| batch.column(0).len()).sum::<usize>() > 0
    };
    assert!(!is_due(200).await, "groups 1 and 2 have later rows, and 200 is not before 200");
    assert!(is_due(201).await);
}
