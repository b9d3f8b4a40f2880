//! Merging against a plain model: any split of any events into batches gives the table that the model gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, SchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltaworks_incremental::cdc::{END_AT, Operation, START_AT, event_schema};
use deltaworks_lake::{Commit, Lake, Table, TableDefinition};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::MergeInto;
use crate::definitions::cdc::ScdType;
use crate::graph::Changes;
use crate::name::DatasetName;
use crate::storage::directory_url;
use crate::update::target::writer_options;

/// An event: key, sequence, what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    key: i32,
    sequence: i32,
    operation: Operation,
}

/// A row that readers see: key, tracked and untracked value, and of versions start and end.
type Row = (i32, Option<String>, Option<String>, Option<i32>, Option<i32>);

/// What is tried.
#[derive(Debug, Clone)]
struct Case {
    scd_type: ScdType,
    /// The sequence is a structure of two numbers.
    nested: bool,
    /// Only `name` makes versions.
    tracks_name: bool,
    /// Batches of events, each with whether a first attempt at it dies before its commit.
    batches: Vec<(Vec<Event>, bool)>,
}

impl Event {
    /// Equal for neighbours, so that versions go on; now and then NULL. The same event has the same values.
    fn name(&self) -> Option<String> {
        let group = (self.sequence / 3 + self.key) % 4;
        (group != 3).then(|| format!("n{group}"))
    }

    fn city(&self) -> Option<String> {
        let city = (self.sequence * 7 + self.key) % 5;
        (city != 0).then(|| format!("c{city}"))
    }
}

fn columns() -> Fields {
    Fields::from(vec![
        Field::new("id", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
    ])
}

fn sequence_type(nested: bool) -> DataType {
    match nested {
        false => DataType::Int32,
        true => DataType::Struct(parts()),
    }
}

fn parts() -> Fields {
    Fields::from(vec![Field::new("high", DataType::Int32, true), Field::new("low", DataType::Int32, true)])
}

fn sequences(values: impl Iterator<Item = i32> + Clone, nested: bool) -> ArrayRef {
    match nested {
        false => Arc::new(Int32Array::from_iter_values(values)),
        true => {
            let high: Int32Array = values.clone().map(|value| Some(value / 4)).collect();
            let low: Int32Array = values.map(|value| Some(value % 4)).collect();
            Arc::new(StructArray::new(parts(), vec![Arc::new(high), Arc::new(low)], None))
        }
    }
}

fn events(events: &[Event], nested: bool) -> RecordBatch {
    let upsert = |event: &&Event| event.operation == Operation::Upsert;
    let ids: Int32Array =
        events.iter().map(|event| (event.operation != Operation::Truncate).then_some(event.key)).collect();
    let names: StringArray = events.iter().map(|event| Some(event).filter(upsert).and_then(Event::name)).collect();
    let cities: StringArray = events.iter().map(|event| Some(event).filter(upsert).and_then(Event::city)).collect();
    let operations: Int32Array = events.iter().map(|event| Some(event.operation.code())).collect();
    RecordBatch::try_new(
        event_schema(&Schema::new(columns()), &sequence_type(nested)),
        vec![
            Arc::new(ids),
            Arc::new(names),
            Arc::new(cities),
            sequences(events.iter().map(|event| event.sequence), nested),
            Arc::new(operations),
        ],
    )
    .unwrap()
}

/// A table and its ledger.
struct Target {
    ctx: SessionContext,
    folder: tempfile::TempDir,
    table: Table,
    nested: bool,
    scd_type: ScdType,
    tracked: Vec<String>,
    batch: i64,
}

impl Target {
    async fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = directory_url(&folder.path().join("table")).unwrap();
        let mut fields: Vec<Field> = columns().iter().map(|field| field.as_ref().clone()).collect();
        if case.scd_type == ScdType::Two {
            fields.extend([START_AT, END_AT].map(|name| Field::new(name, sequence_type(case.nested), true)));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let table = Lake::default().create(&location, &TableDefinition::new(schema)).await.unwrap();
        let tracked = if case.tracks_name { vec!["name"] } else { vec!["name", "city"] };
        Self {
            ctx: SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2)),
            folder,
            table,
            nested: case.nested,
            scd_type: case.scd_type,
            tracked: tracked.into_iter().map(str::to_owned).collect(),
            batch: 0,
        }
    }

    fn merge(&self) -> MergeInto {
        MergeInto {
            lake: Lake::default(),
            ledgers: self.folder.path().join("ledger"),
            pipeline_id: "p".to_owned(),
            target: DatasetName { catalog: "c".into(), schema: "s".into(), name: "t".into() },
            changes: Changes {
                construct: "AUTO CDC INTO".to_owned(),
                scd_type: self.scd_type,
                keys: vec!["id".to_owned()],
                partial: Vec::new(),
                tracked: self.tracked.clone(),
                tracked_as: "*".to_owned(),
                sequence_type: sequence_type(self.nested),
                sequence_columns: Vec::new(),
                snapshot: false,
            },
            partial: Vec::new(),
            merging: Arc::default(),
        }
    }

    /// Merges a batch as [`crate::update::batch`] does; an attempt that dies leaves its files and its ledger behind.
    async fn apply(&mut self, batch: &[Event], dies: bool) {
        let rows = events(batch, self.nested);
        let input = Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap());
        let plan = LogicalPlanBuilder::scan("events", provider_as_source(input), None).unwrap().build().unwrap();
        let options = writer_options(self.table.definition().unwrap(), &self.ctx);
        let merged =
            self.merge().merge(&self.ctx, plan, &self.table, &options, &CancellationToken::new()).await.unwrap();
        let ledger = match merged.ledger {
            Some(ledger) => Some(ledger.commit("p/f/0", self.batch).await.unwrap()),
            None => None,
        };
        if dies {
            return;
        }
        let mut commit = Commit::merge(&self.table, merged.written.files, &merged.replaced)
            .unwrap()
            .transaction("p/f/0", self.batch);
        if let Some((app_id, version)) = ledger {
            commit = commit.transaction(app_id, version);
        }
        commit.commit(&mut self.table).await.unwrap();
        self.batch += 1;
    }

    async fn rows(&self) -> Vec<Row> {
        let batches = self.ctx.read_table(self.table.provider().unwrap()).unwrap().collect().await.unwrap();
        let mut rows = Vec::new();
        for batch in &batches {
            let ids = batch.column(0).as_primitive::<Int32Type>();
            let text = |column: usize, row: usize| {
                let column = batch.column(column);
                column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
            };
            let number = |column: usize, row: usize| {
                let column = batch.columns().get(column).filter(|column| column.is_valid(row))?;
                Some(match self.nested {
                    false => column.as_primitive::<Int32Type>().value(row),
                    true => {
                        let parts = column.as_struct();
                        let part = |index: usize| parts.column(index).as_primitive::<Int32Type>().value(row);
                        part(0) * 4 + part(1)
                    }
                })
            };
            for row in 0..batch.num_rows() {
                rows.push((ids.value(row), text(1, row), text(2, row), number(3, row), number(4, row)));
            }
        }
        rows.sort();
        rows
    }
}

/// The latest state of each key, from all events ever seen.
fn latest(all: &BTreeSet<Event>) -> Vec<Row> {
    let truncated = all.iter().filter(|event| event.operation == Operation::Truncate).map(|event| event.sequence).max();
    let mut winners: BTreeMap<i32, &Event> = BTreeMap::new();
    let counts = |event: &&Event| {
        event.operation != Operation::Truncate && truncated.is_none_or(|truncated| event.sequence >= truncated)
    };
    for event in all.iter().filter(counts) {
        let winner = winners.entry(event.key).or_insert(event);
        let rank = |event: &Event| (event.sequence, event.operation == Operation::Upsert);
        if rank(event) > rank(winner) {
            *winner = event;
        }
    }
    let live = winners.values().filter(|event| event.operation == Operation::Upsert);
    live.map(|event| (event.key, event.name(), event.city(), None, None)).collect()
}

/// Every version of each key, from all events ever seen.
fn versions(all: &BTreeSet<Event>, tracks_name: bool) -> Vec<Row> {
    let mut by_key: BTreeMap<i32, BTreeMap<i32, &Event>> = BTreeMap::new();
    for event in all {
        // Of equal sequence deletes come last, and win.
        by_key.entry(event.key).or_default().insert(event.sequence, event);
    }
    let mut rows = Vec::new();
    for (key, events) in by_key {
        let mut open: Option<Row> = None;
        for (sequence, event) in events {
            let (name, city) = (event.name(), event.city());
            match (&mut open, event.operation == Operation::Upsert) {
                (Some(run), true) if run.1 == name && (tracks_name || run.2 == city) => run.2 = city,
                (_, is_upsert) => {
                    rows.extend(open.take().map(|run| (run.0, run.1, run.2, run.3, Some(sequence))));
                    open = is_upsert.then_some((key, name, city, Some(sequence), None));
                }
            }
        }
        rows.extend(open);
    }
    rows.sort();
    rows
}

fn expected(case: &Case, all: &BTreeSet<Event>) -> Vec<Row> {
    match case.scd_type {
        ScdType::One => latest(all),
        ScdType::Two => versions(all, case.tracks_name),
    }
}

fn case() -> impl Strategy<Value = Case> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_flat_map(|(history, nested, tracks_name)| {
        let scd_type = if history { ScdType::Two } else { ScdType::One };
        let operation = prop_oneof![
            12 => Just(Operation::Upsert),
            4 => Just(Operation::Delete),
            1 => Just(if history { Operation::Delete } else { Operation::Truncate }),
        ];
        let event = (0..5, 0..24, operation).prop_map(|(key, sequence, operation)| Event { key, sequence, operation });
        let batch = (prop::collection::vec(event, 0..9), prop::bool::weighted(0.2));
        prop::collection::vec(batch, 1..7).prop_map(move |mut batches| {
            // Some events arrive twice.
            let again: Vec<Event> = batches.iter().filter_map(|(events, _)| events.first().copied()).collect();
            batches.push((again, false));
            Case { scd_type, nested, tracks_name, batches }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_batches_give_what_the_model_gives(case in case()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut target = Target::new(&case).await;
            let mut all = BTreeSet::new();
            for (batch, dies) in &case.batches {
                if *dies {
                    target.apply(batch, true).await;
                }
                target.apply(batch, false).await;
                all.extend(batch.iter().map(|event| Event {
                    key: if event.operation == Operation::Truncate { 0 } else { event.key },
                    ..*event
                }));
                prop_assert_eq!(target.rows().await, expected(&case, &all));
            }
            // Everything once more writes no file.
            let files = target.table.files().unwrap().into_iter().map(|file| file.path).collect::<BTreeSet<_>>();
            for (batch, _) in &case.batches {
                target.apply(batch, false).await;
            }
            let now = target.table.files().unwrap().into_iter().map(|file| file.path).collect::<BTreeSet<_>>();
            prop_assert_eq!(files, now);
            Ok(())
        })?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_files_that_hold_a_changed_row_are_written_again() {
    let case = Case { scd_type: ScdType::One, nested: false, tracks_name: false, batches: Vec::new() };
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
