//! Random changes of random tables, against a model that goes through the rows one by one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::*;
use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::edit::{CHANGE, FILE, RowChange};
use crate::session::{SessionOptions, session_context};

/// A row of the target: key, value, file.
type Row = (Option<i32>, Option<i32>, usize);
/// A row of the source: key, value.
type New = (Option<i32>, Option<i32>);

/// A condition in SQL, and as the model has it: of a value of the target and one of the source.
type Condition = (&'static str, fn(Option<i32>, Option<i32>) -> Option<bool>);

const ON: [Condition; 3] = [
    ("t.k = s.k", |_, _| Some(true)),
    ("t.k = s.k AND s.v > 1", |_, new| new.map(|new| new > 1)),
    ("t.k = s.k AND (t.v IS NULL OR t.v <> s.v)", |old, new| match old {
        None => Some(true),
        Some(old) => new.map(|new| old != new),
    }),
];
const OF_BOTH: [Condition; 3] = [
    ("t.v < s.v", |old, new| Some(old? < new?)),
    ("s.v IS NULL", |_, new| Some(new.is_none())),
    ("t.v > 2", |old, _| Some(old? > 2)),
];
const OF_SOURCE: [Condition; 2] = [("s.v > 1", |_, new| Some(new? > 1)), ("s.v IS NULL", |_, new| Some(new.is_none()))];
const OF_TARGET: [Condition; 2] = [("t.v < 3", |old, _| Some(old? < 3)), ("t.v IS NULL", |old, _| Some(old.is_none()))];

/// What a clause does in the model: `None` removes the row.
type Effect = fn(Option<i32>, Option<i32>) -> Option<i32>;

/// A clause: its condition by position, and whether it deletes.
type Drawn = (Option<usize>, bool);

fn context() -> SessionContext {
    let options = SessionOptions {
        conf: SparkConf::pipeline_defaults(),
        target_partitions: 2,
        runtime: Arc::default(),
        extension_planners: Vec::new(),
    };
    session_context(options).unwrap()
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int32, true), Field::new("v", DataType::Int32, true)]))
}

fn plan(fields: Vec<Field>, columns: Vec<ArrayRef>, alias: &str) -> LogicalPlan {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
    let scan = LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(table)), None).unwrap();
    scan.alias(alias).unwrap().build().unwrap()
}

fn target(rows: &[Row]) -> LogicalPlan {
    let mut fields: Vec<Field> = columns().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(FILE, DataType::Utf8, false));
    let files: StringArray = rows.iter().map(|row| Some(row.2.to_string())).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
        Arc::new(files),
    ];
    plan(fields, columns, "t")
}

fn source(rows: &[New]) -> LogicalPlan {
    let fields = columns().fields().iter().map(|field| field.as_ref().clone()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
    ];
    plan(fields, columns, "s")
}

fn expression(ctx: &SessionContext, text: &str, schema: &DFSchema) -> Expr {
    crate::sql::plan_expression(ctx, text, schema, &SourceLocation::new("<sql>", 1, 1)).unwrap()
}

fn clauses(
    ctx: &SessionContext,
    drawn: &[Drawn],
    conditions: &[Condition],
    set: &str,
    schema: &DFSchema,
) -> Vec<Clause> {
    let of_one = |(condition, deletes): &Drawn| Clause {
        condition: condition.map(|index| expression(ctx, conditions[index].0, schema)),
        action: match deletes {
            true => Action::Delete,
            false if set.starts_with("s.k") => {
                Action::Set(vec![Some(expression(ctx, "s.k", schema)), Some(expression(ctx, "s.v", schema))])
            }
            false => Action::Set(vec![None, Some(expression(ctx, set, schema))]),
        },
    };
    drawn.iter().map(of_one).collect()
}

/// Clauses of which only the last has no condition.
fn drawn(conditions: usize, deletes: bool) -> impl Strategy<Value = Vec<Drawn>> {
    let one = (0..conditions, any::<bool>()).prop_map(move |(index, is)| (Some(index), is && deletes));
    (proptest::collection::vec(one, 0..2), proptest::option::of(any::<bool>())).prop_map(move |(mut all, last)| {
        all.extend(last.map(|is| (None, is && deletes)));
        all
    })
}

#[derive(Debug, Clone)]
struct Case {
    target: Vec<Row>,
    source: Vec<New>,
    on: usize,
    matched: Vec<Drawn>,
    not_matched: Vec<Drawn>,
    by_source: Vec<Drawn>,
    keeps_old: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let key = || proptest::option::weighted(0.9, 0..6_i32);
    let value = || proptest::option::weighted(0.8, 0..5_i32);
    let rows = (
        proptest::collection::vec((key(), value(), 0..3_usize), 0..12),
        proptest::collection::vec((key(), value()), 0..6),
    );
    let kinds = (drawn(OF_BOTH.len(), true), drawn(OF_SOURCE.len(), false), drawn(OF_TARGET.len(), true));
    (rows, 0..ON.len(), kinds, any::<bool>()).prop_map(|((target, source), on, kinds, keeps_old)| {
        let (matched, not_matched, by_source) = kinds;
        Case { target, source, on, matched, not_matched, by_source, keeps_old }
    })
}

/// The rows afterwards, each with what became of it; `None` if a row is matched twice.
fn modelled(case: &Case) -> Option<Vec<(RowChange, New)>> {
    let pairs = |row: &Row, new: &New| row.0.is_some() && row.0 == new.0 && ON[case.on].1(row.1, new.1) == Some(true);
    let first = |drawn: &[Drawn], conditions: &[Condition], old: Option<i32>, new: Option<i32>| {
        drawn
            .iter()
            .find(|(condition, _)| condition.is_none_or(|index| conditions[index].1(old, new) == Some(true)))
            .copied()
    };
    let only_deletes = matches!(case.matched.as_slice(), [(None, true)]);
    let mut rows = Vec::new();
    for row in &case.target {
        let partners: Vec<&New> = case.source.iter().filter(|new| pairs(row, new)).collect();
        let applied: Vec<(Drawn, &New)> =
            partners.iter().filter_map(|new| Some((first(&case.matched, &OF_BOTH, row.1, new.1)?, *new))).collect();
        let set: Effect = |old, new| Some(old? + new?);
        match (applied.as_slice(), partners.is_empty()) {
            ([], true) => match first(&case.by_source, &OF_TARGET, row.1, None) {
                None => rows.push((RowChange::Copied, (row.0, row.1))),
                Some((_, true)) => rows.push((RowChange::DeletedBySource, (row.0, row.1))),
                Some((_, false)) => rows.push((RowChange::UpdatedBySource, (row.0, Some(-1)))),
            },
            ([], false) => rows.push((RowChange::Copied, (row.0, row.1))),
            ([_, _, ..], _) if !only_deletes => return None,
            ([((_, true), _), ..], _) => rows.push((RowChange::Deleted, (row.0, row.1))),
            ([((_, false), new), ..], _) => rows.push((RowChange::Updated, (row.0, set(row.1, new.1)))),
        }
    }
    for new in &case.source {
        if !case.target.iter().any(|row| pairs(row, new)) && first(&case.not_matched, &OF_SOURCE, None, new.1).is_some()
        {
            rows.push((RowChange::Inserted, *new));
        }
    }
    Some(rows)
}

async fn collected(ctx: &SessionContext, plan: LogicalPlan) -> Vec<RecordBatch> {
    ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap()
}

/// The rows of an edit's plan, each with what becomes of it; where it says so, how they were.
async fn changed(ctx: &SessionContext, plan: LogicalPlan, keeps_old: bool) -> Vec<(RowChange, New)> {
    assert_eq!(plan.schema().fields().len(), if keeps_old { 5 } else { 3 });
    let mut rows = Vec::new();
    for batch in collected(ctx, plan).await {
        let number = |column: usize, row: usize| {
            let column = batch.column(column).as_primitive::<Int32Type>();
            arrow::array::Array::is_valid(column, row).then(|| column.value(row))
        };
        let last = batch.num_columns() - 1;
        assert_eq!(batch.schema().field(last).name(), CHANGE);
        for row in 0..batch.num_rows() {
            let change = RowChange::ALL[number(last, row).unwrap() as usize];
            let new = (number(0, row), number(1, row));
            if keeps_old && matches!(change, RowChange::Copied | RowChange::Deleted | RowChange::DeletedBySource) {
                assert_eq!((number(2, row), number(3, row)), new);
            }
            rows.push((change, new));
        }
    }
    rows
}

/// What the plans make of it, in the model's terms.
async fn planned(case: &Case) -> Option<Vec<(RowChange, New)>> {
    let (ctx, conf) = (context(), SparkConf::pipeline_defaults());
    let (target_rows, source_rows) = (target(&case.target), source(&case.source));
    let both = target_rows.schema().join(source_rows.schema()).unwrap();
    let change = Change {
        schema: columns(),
        source: Some(Source { plan: source_rows.clone(), on: expression(&ctx, ON[case.on].0, &both) }),
        matched: clauses(&ctx, &case.matched, &OF_BOTH, "t.v + s.v", &both),
        not_matched: clauses(&ctx, &case.not_matched, &OF_SOURCE, "s.k", source_rows.schema()),
        by_source: clauses(&ctx, &case.by_source, &OF_TARGET, "-1", target_rows.schema()),
        keeps_old: case.keeps_old,
    };
    let mut files = BTreeSet::new();
    if let Some(touched) = change.touched(&ctx, &target_rows).unwrap() {
        for batch in collected(&ctx, touched).await {
            let most = batch.column_by_name(MOST).unwrap().as_primitive::<Int64Type>().clone();
            if most.iter().any(|most| most > Some(1)) {
                return None;
            }
            let names = arrow::compute::cast(batch.column_by_name(FILE).unwrap(), &DataType::Utf8).unwrap();
            files.extend(names.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
    }
    let names = files.iter().map(|file| lit(file.as_str())).collect();
    let filter = col(format!("t.{FILE}")).in_list(names, false);
    let rewritten = LogicalPlanBuilder::from(target_rows.clone()).filter(filter).unwrap().build().unwrap();
    let rewritten = change.rewritten(&ctx, &conf, &rewritten).unwrap();
    let mut rows = changed(&ctx, rewritten, case.keeps_old).await;
    if let Some(inserted) = change.inserted(&ctx, &conf, &target_rows).unwrap() {
        rows.extend(changed(&ctx, inserted, case.keeps_old).await);
    }
    let untouched = case.target.iter().filter(|row| !files.contains(&row.2.to_string()));
    rows.extend(untouched.map(|row| (RowChange::Copied, (row.0, row.1))));
    Some(rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn changes_do_what_a_walk_through_the_rows_does(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut planned = runtime.block_on(planned(&case));
        let mut expected = modelled(&case);
        planned.iter_mut().chain(&mut expected).for_each(|rows| rows.sort());
        prop_assert_eq!(planned, expected);
    }
}
