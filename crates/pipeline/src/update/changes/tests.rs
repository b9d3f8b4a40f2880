//! Merging against a plain model: any split of any events into batches gives the table that the model gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, SchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltaworks_incremental::cdc::{END_AT, Operation, START_AT, event_schema, sets_field};
use deltaworks_lake::{Commit, Lake, Table, TableDefinition};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{ChangeCounts, MergeInto};
use crate::definitions::cdc::ScdType;
use crate::graph::{Changes, SetColumns};
use crate::name::DatasetName;
use crate::storage::directory_url;
use crate::update::target::writer_options;

mod counts;
mod layout;

/// An event: key, sequence, what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    key: i32,
    sequence: i32,
    operation: Operation,
}

/// A row that readers see: key, tracked and untracked value, and of versions start and end; the start is the stored sequence
/// where there are no versions.
type Row = (i32, Option<String>, Option<String>, Option<i32>, Option<i32>);

/// What is tried.
#[derive(Debug, Clone)]
struct Case {
    scd_type: ScdType,
    /// The sequence is a structure of two numbers.
    nested: bool,
    /// The table has a column that the sequence is, for most events.
    stored: bool,
    /// Only `name` makes versions.
    tracks_name: bool,
    /// What events leave as it was.
    leaves: Leaves,
    /// Batches of events, each with whether a first attempt at it dies before its commit.
    batches: Vec<(Vec<Event>, bool)>,
}

/// In which columns an upsert keeps the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Nothing,
    /// Those in which it has NULL.
    Nulls,
    /// Those that it does not name.
    Others,
}

impl Event {
    /// The columns that it names; all of them if it names none.
    fn names(&self) -> Option<&'static [&'static str]> {
        match (self.sequence * 5 + self.key) % 6 {
            0 | 1 => Some(&["NAME"]),
            2 => Some(&["id", "city"]),
            3 => Some(&[]),
            4 => Some(&["name", "city"]),
            _ => None,
        }
    }

    /// Whether it sets name and city.
    fn sets(&self, leaves: Leaves) -> [bool; 2] {
        match leaves {
            Leaves::Nothing => [true, true],
            Leaves::Nulls => [self.name().is_some(), self.city().is_some()],
            Leaves::Others => ["name", "city"].map(|column| {
                self.names().is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(column)))
            }),
        }
    }

    /// Equal for neighbours, so that versions go on; now and then NULL. The same event has the same values.
    fn name(&self) -> Option<String> {
        let group = (self.sequence / 3 + self.key) % 4;
        (group != 3).then(|| format!("n{group}"))
    }

    /// The sequence for most events, as if flows differed in it.
    fn at(&self) -> Option<i32> {
        match (self.sequence * 5 + self.key) % 7 {
            0 => None,
            1 => Some(self.sequence + 2),
            _ => Some(self.sequence),
        }
    }

    fn city(&self) -> Option<String> {
        let city = (self.sequence * 7 + self.key) % 5;
        (city != 0).then(|| format!("c{city}"))
    }
}

fn columns(stored: bool) -> Fields {
    let mut columns = vec![
        Field::new("id", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
    ];
    if stored {
        columns.push(Field::new("at", DataType::Int32, true));
    }
    columns.into()
}

fn list_of_names() -> Field {
    Field::new("names", DataType::new_list(DataType::Utf8, true), true)
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

/// With the names of the columns that they set.
fn naming_events(given: &[Event], nested: bool, stored: bool) -> RecordBatch {
    let all = events(given, nested, stored);
    let mut sets = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for event in given {
        sets.append_option(event.names().map(|names| names.iter().map(|name| Some(*name))));
    }
    let mut fields = all.schema().fields().to_vec();
    fields.push(Arc::new(sets_field()));
    let columns = all.columns().iter().cloned().chain([Arc::new(sets.finish()) as ArrayRef]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn events(events: &[Event], nested: bool, stored: bool) -> RecordBatch {
    let upsert = |event: &&Event| event.operation == Operation::Upsert;
    let ids: Int32Array =
        events.iter().map(|event| (event.operation != Operation::Truncate).then_some(event.key)).collect();
    let names: StringArray = events.iter().map(|event| Some(event).filter(upsert).and_then(Event::name)).collect();
    let cities: StringArray = events.iter().map(|event| Some(event).filter(upsert).and_then(Event::city)).collect();
    let operations: Int32Array = events.iter().map(|event| Some(event.operation.code())).collect();
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(names), Arc::new(cities)];
    if stored {
        arrays.push(Arc::new(events.iter().map(|event| Some(event).filter(upsert)?.at()).collect::<Int32Array>()));
    }
    arrays.push(sequences(events.iter().map(|event| event.sequence), nested));
    arrays.push(Arc::new(operations));
    RecordBatch::try_new(event_schema(&Schema::new(columns(stored)), &sequence_type(nested)), arrays).unwrap()
}

/// A table and its ledger.
struct Target {
    ctx: SessionContext,
    folder: tempfile::TempDir,
    table: Table,
    nested: bool,
    stored: bool,
    scd_type: ScdType,
    tracked: Vec<String>,
    leaves: Leaves,
    batch: i64,
}

impl Target {
    async fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = directory_url(&folder.path().join("table")).unwrap();
        let mut fields: Vec<Field> = columns(case.stored).iter().map(|field| field.as_ref().clone()).collect();
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
            stored: case.stored,
            scd_type: case.scd_type,
            tracked: tracked.into_iter().map(str::to_owned).collect(),
            leaves: case.leaves,
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
                sets: None,
                tracked: self.tracked.clone(),
                tracked_as: "*".to_owned(),
                sequence_type: sequence_type(self.nested),
                sequence_columns: Vec::new(),
                sequence_stored: self.stored.then(|| "at".to_owned()),
                snapshot: false,
            },
            partial: match self.leaves {
                Leaves::Nulls => vec!["name".to_owned(), "city".to_owned()],
                _ => Vec::new(),
            },
            sets: (self.leaves == Leaves::Others).then(|| {
                let fields = Schema::new([columns(self.stored)[..].to_vec(), vec![Arc::new(list_of_names())]].concat());
                SetColumns::new("names".to_owned(), &fields.try_into().unwrap(), "AUTO CDC INTO").unwrap()
            }),
            merging: Arc::default(),
        }
    }

    /// Merges a batch as [`crate::update::batch`] does; an attempt that dies leaves its files and its ledger behind.
    async fn apply(&mut self, batch: &[Event], dies: bool) -> ChangeCounts {
        let rows = match self.leaves {
            Leaves::Others => naming_events(batch, self.nested, self.stored),
            _ => events(batch, self.nested, self.stored),
        };
        self.apply_rows(rows, dies).await
    }

    /// The same for events that may lack columns of the table.
    async fn apply_rows(&mut self, rows: RecordBatch, dies: bool) -> ChangeCounts {
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
            return merged.counts;
        }
        let mut commit = Commit::merge(&self.table, merged.written.files, &merged.replaced)
            .unwrap()
            .transaction("p/f/0", self.batch);
        if let Some((app_id, version)) = ledger {
            commit = commit.transaction(app_id, version);
        }
        commit.commit(&mut self.table).await.unwrap();
        self.batch += 1;
        merged.counts
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
fn latest(all: &BTreeSet<Event>, stored: bool) -> Vec<Row> {
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
    live.map(|event| (event.key, event.name(), event.city(), event.at().filter(|_| stored), None)).collect()
}

/// Name and city.
type Values = (Option<String>, Option<String>);

/// By key and sequence: what holds after an upsert; `None` after a delete.
type Timeline = BTreeMap<i32, BTreeMap<i32, Option<Values>>>;

/// All events ever seen, as they count: what an upsert leaves is what holds just before it.
fn timeline(all: &BTreeSet<Event>, leaves: Leaves) -> Timeline {
    let mut counting: BTreeMap<i32, BTreeMap<i32, &Event>> = BTreeMap::new();
    for event in all {
        // Of equal sequence deletes come last, and win.
        counting.entry(event.key).or_default().insert(event.sequence, event);
    }
    let mut timeline = Timeline::new();
    for (key, events) in counting {
        let mut before: Option<Values> = None;
        for (sequence, event) in events {
            before = (event.operation == Operation::Upsert).then(|| after(event, before.as_ref(), leaves));
            timeline.entry(key).or_default().insert(sequence, before.clone());
        }
    }
    timeline
}

/// Every version of each key.
fn versions(timeline: &Timeline, tracks_name: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for (key, events) in timeline {
        let mut open: Option<Row> = None;
        for (sequence, values) in events {
            match (&mut open, values) {
                (Some(run), Some((name, city))) if run.1 == *name && (tracks_name || run.2 == *city) => {
                    run.2.clone_from(city);
                }
                (_, values) => {
                    rows.extend(open.take().map(|run| (run.0, run.1, run.2, run.3, Some(*sequence))));
                    open = values.clone().map(|(name, city)| (*key, name, city, Some(*sequence), None));
                }
            }
        }
        rows.extend(open);
    }
    rows.sort();
    rows
}

/// The latest state of each key if upserts leave values: that depends on which events were there already, batch by batch,
/// as late events are ignored as a whole.
#[derive(Default)]
struct Filled {
    latest: BTreeMap<i32, (i32, Option<Values>)>,
    /// The stored sequence of each key that ever had a row.
    at: BTreeMap<i32, Option<i32>>,
    truncated: Option<i32>,
}

/// What holds after an upsert.
fn after(event: &Event, before: Option<&Values>, leaves: Leaves) -> Values {
    let (name, city) = before.cloned().unwrap_or_default();
    let [sets_name, sets_city] = event.sets(leaves);
    (if sets_name { event.name() } else { name }, if sets_city { event.city() } else { city })
}

impl Filled {
    fn apply(&mut self, batch: &[Event], leaves: Leaves) {
        let truncations = batch.iter().filter(|event| event.operation == Operation::Truncate);
        self.truncated = truncations.map(|event| event.sequence).max().max(self.truncated);
        let truncated = self.truncated;
        let counts = |sequence: i32| truncated.is_none_or(|truncated| sequence >= truncated);
        self.latest.retain(|_, (sequence, _)| counts(*sequence));
        let mut sorted: Vec<&Event> =
            batch.iter().filter(|e| e.operation != Operation::Truncate && counts(e.sequence)).collect();
        sorted.sort_by_key(|event| (event.key, event.sequence, std::cmp::Reverse(event.operation)));
        for event in &sorted {
            let before = self.latest.get(&event.key).cloned();
            let (since, row) = before.map_or((None, None), |(since, row)| (Some(since), row));
            let now = match event.operation {
                Operation::Upsert if since.is_none_or(|since| event.sequence >= since) => {
                    let sets_at = leaves != Leaves::Others || event.names().is_none();
                    let at = match sets_at {
                        true => event.at(),
                        false => row.as_ref().and_then(|_| self.at.get(&event.key).copied().flatten()),
                    };
                    self.at.insert(event.key, at);
                    Some(after(event, row.as_ref(), leaves))
                }
                Operation::Delete if since.is_none_or(|since| event.sequence > since) => None,
                _ => continue,
            };
            self.latest.insert(event.key, (event.sequence, now));
        }
    }

    fn rows(&self, stored: bool) -> Vec<Row> {
        let live = self.latest.iter().filter_map(|(key, (_, row))| Some((*key, row.clone()?)));
        let at = |key| self.at.get(&key).copied().flatten().filter(|_| stored);
        live.map(|(key, (name, city))| (key, name, city, at(key), None)).collect()
    }
}

fn expected(case: &Case, all: &BTreeSet<Event>, filled: &Filled) -> Vec<Row> {
    match case.scd_type {
        ScdType::One if case.leaves == Leaves::Nothing => latest(all, case.stored),
        ScdType::One => filled.rows(case.stored),
        ScdType::Two => versions(&timeline(all, case.leaves), case.tracks_name),
    }
}

fn case() -> impl Strategy<Value = Case> {
    let leaves = prop_oneof![Just(Leaves::Nothing), Just(Leaves::Nulls), Just(Leaves::Others)];
    (any::<[bool; 5]>(), leaves).prop_flat_map(|([history, nested, told, tracks_name, in_order], leaves)| {
        let scd_type = if history { ScdType::Two } else { ScdType::One };
        let operation = prop_oneof![
            12 => Just(Operation::Upsert),
            4 => Just(Operation::Delete),
            1 => Just(if history { Operation::Delete } else { Operation::Truncate }),
        ];
        let event = (0..5, 0..24, operation).prop_map(|(key, sequence, operation)| Event { key, sequence, operation });
        let batch = (prop::collection::vec(event, 0..9), prop::bool::weighted(0.2));
        prop::collection::vec(batch, 1..7).prop_map(move |mut batches| {
            if in_order {
                // Each batch is later than those before it, as most are.
                let mut all: Vec<Event> = batches.iter().flat_map(|(events, _)| events).copied().collect();
                all.sort_by_key(|event| event.sequence);
                let mut all = all.into_iter();
                for (events, _) in &mut batches {
                    events.iter_mut().zip(all.by_ref()).for_each(|(place, event)| *place = event);
                }
            }
            // Some events arrive twice.
            let again: Vec<Event> = batches.iter().filter_map(|(events, _)| events.first().copied()).collect();
            batches.push((again, false));
            let stored = told && !history && !nested;
            Case { scd_type, nested, stored, tracks_name, leaves, batches }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn any_batches_give_what_the_model_gives(case in case()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut target = Target::new(&case).await;
            let mut all = BTreeSet::new();
            let mut filled = Filled::default();
            for (batch, dies) in &case.batches {
                if *dies {
                    target.apply(batch, true).await;
                }
                target.apply(batch, false).await;
                all.extend(batch.iter().map(|event| Event {
                    key: if event.operation == Operation::Truncate { 0 } else { event.key },
                    ..*event
                }));
                filled.apply(batch, case.leaves);
                prop_assert_eq!(target.rows().await, expected(&case, &all, &filled));
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
async fn columns_that_a_flow_does_not_have_stay_as_they_are() {
    for (scd_type, expected) in [
        (ScdType::One, vec![(1, "n2", "c3", None, None)]),
        (ScdType::Two, vec![(1, "n1", "c3", Some(1), Some(5)), (1, "n2", "c3", Some(5), None)]),
    ] {
        let case = layout::plain(scd_type);
        let mut target = Target::new(&case).await;
        let upsert = |sequence| events(&[Event { key: 1, sequence, operation: Operation::Upsert }], false, false);
        target.apply_rows(upsert(1), false).await;
        let without_city = upsert(5).project(&[0, 1, 3, 4]).unwrap();
        target.apply_rows(without_city, false).await;
        let text = |value: &str| Some(value.to_owned());
        let expected: Vec<Row> =
            expected.into_iter().map(|(id, name, city, start, end)| (id, text(name), text(city), start, end)).collect();
        assert_eq!(target.rows().await, expected, "{scd_type:?}");
    }
}
