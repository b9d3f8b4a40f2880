//! What is left of a log of entries, and which of its timers have expired.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use deltaworks_spark::python::{TIMERS, Variable, VariableKind};

use super::{OWN_COLUMNS, first_timer, latest_entries};
use crate::DIGEST_KEY;
use crate::state::{OperatorKind, OperatorState, StatefulOperator};
use crate::watermark::Watermarks;

/// A row of a log: the group, the batch, the variable, the place, whether it has been removed, the value, when it expires.
type Row = (u8, i64, &'static str, Option<i64>, bool, Option<&'static str>, Option<i64>);

const LOG: [Row; 11] = [
    (1, 0, "n", None, false, Some("old"), None),
    (1, 1, "n", None, false, Some("new"), None),
    (2, 1, "n", None, false, Some("expired"), Some(50)),
    (3, 1, "n", None, false, Some("lives"), Some(51)),
    (1, 0, "gone", None, false, Some("undeclared"), None),
    (1, 0, "again", None, false, Some("before"), None),
    (1, 2, "again", None, false, Some("again"), None),
    (1, 0, TIMERS, Some(100), false, None, None),
    (1, 2, TIMERS, Some(100), true, None, None),
    (1, 2, TIMERS, Some(200), false, None, None),
    (2, 0, TIMERS, Some(300), false, None, None),
];

fn log() -> Arc<dyn TableProvider> {
    let fields = OWN_COLUMNS.map(|(name, data_type)| Field::new(name, data_type, true));
    let key = Field::new("key_0", DataType::Int64, true);
    let schema = Arc::new(Schema::new(fields.into_iter().chain([key]).collect::<Vec<_>>()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(LOG.iter().map(|row| Some([row.0; 16])).collect::<BinaryArray>()),
        Arc::new(LOG.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
        Arc::new(LOG.iter().map(|row| Some(row.2)).collect::<StringArray>()),
        Arc::new(LOG.iter().map(|_| None::<&str>).collect::<StringArray>()),
        Arc::new(LOG.iter().map(|row| row.3).collect::<Int64Array>()),
        Arc::new(LOG.iter().map(|row| Some(row.4)).collect::<BooleanArray>()),
        Arc::new(LOG.iter().map(|row| row.5).collect::<StringArray>()),
        Arc::new(LOG.iter().map(|row| row.6).collect::<Int64Array>()),
        Arc::new(LOG.iter().map(|row| Some(i64::from(row.0))).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())
}

fn state() -> OperatorState {
    let operator = StatefulOperator::new(0, OperatorKind::Processor, String::new(), false, Arc::new(Schema::empty()));
    let variable = |since| Variable { kind: VariableKind::Value, key: None, value: "string".to_owned(), since };
    let declared = BTreeMap::from([("n".to_owned(), variable(0)), ("again".to_owned(), variable(2))]);
    operator.state(None, Watermarks::default(), DIGEST_KEY).at(2, 50).with_variables(declared)
}

async fn left(whole: bool) -> Vec<String> {
    let rows = SessionContext::new().read_table(log()).unwrap();
    let batches = latest_entries(rows, &state(), whole).unwrap().collect().await.unwrap();
    let mut all = Vec::new();
    for batch in &batches {
        let text = |column: usize, row| arrow::util::display::array_value_to_string(batch.column(column), row).unwrap();
        all.extend((0..batch.num_rows()).map(|row| format!("{} {} {}", text(2, row), text(4, row), text(6, row))));
    }
    all.sort_unstable();
    all
}

#[tokio::test]
async fn the_latest_entries_of_declared_variables_are_left() {
    assert_eq!(left(true).await, ["$timers 200 ", "$timers 300 ", "again  again", "n  lives", "n  new"]);
    let hiding = ["$timers 100 ", "$timers 200 ", "$timers 300 ", "again  again", "n  expired", "n  lives", "n  new"];
    assert_eq!(left(false).await, hiding, "what is gone still hides older rows elsewhere");
}

#[tokio::test]
async fn timers_expire_at_their_time_unless_they_have_been_removed() {
    let due = async |due_ms: i64| {
        let plan = super::due(0, &log(), due_ms).unwrap();
        let rows = SessionContext::new().execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        let keys = rows
            .iter()
            .flat_map(|batch| batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec());
        let mut keys: Vec<i64> = keys.collect();
        keys.sort_unstable();
        keys
    };
    assert!(due(199).await.is_empty());
    assert_eq!(due(200).await, [1]);
    assert_eq!(due(300).await, [1, 2]);
    let first = SessionContext::new().execute_logical_plan(first_timer(&log(), 300).unwrap()).await.unwrap();
    assert_eq!(first.count().await.unwrap(), 1);
}
