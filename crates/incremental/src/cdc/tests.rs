//! Decisions between events of one key, by value. Whole tables are tried against a model where they are merged.

use arrow::array::{Int64Array, StringArray};
use arrow::util::pretty::pretty_format_batches;

use super::*;

const UPSERT: i32 = 0;
const DELETE: i32 = 1;

/// Events of key 1: name, city, sequence, operation.
type Given<'a> = &'a [(Option<&'a str>, Option<&'a str>, i64, i32)];

fn columns() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
    ])
}

fn events(given: Given<'_>) -> RecordBatch {
    let ids: Int64Array = given.iter().map(|_| Some(1)).collect();
    let names: StringArray = given.iter().map(|event| event.0).collect();
    let cities: StringArray = given.iter().map(|event| event.1).collect();
    let sequences: Int64Array = given.iter().map(|event| Some(event.2)).collect();
    let operations: Int32Array = given.iter().map(|event| Some(event.3)).collect();
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(ids), Arc::new(names), Arc::new(cities), Arc::new(sequences), Arc::new(operations)];
    RecordBatch::try_new(event_schema(&columns(), &DataType::Int64), arrays).unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let table = pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|")).collect()
}

/// Keys of rows that do not tell their sequence.
fn untold(rows: &RecordBatch) -> RecordBatch {
    let sequence = arrow::array::new_null_array(&DataType::Int64, rows.num_rows());
    RecordBatch::try_from_iter([("id", Arc::clone(rows.column(0))), (SEQUENCE, sequence)]).unwrap()
}

/// The row of the key after each batch.
fn latest(partial: [bool; 3], batches: &[Given<'_>]) -> Vec<String> {
    let scd = Scd1 { keys: vec![0], partial: partial.to_vec(), sequence: None };
    let mut stored = RecordBatch::new_empty(Arc::new(columns()));
    let mut ledger = RecordBatch::new_empty(scd.ledger_schema(&columns(), &DataType::Int64));
    batches
        .iter()
        .map(|batch| {
            let batch = events(batch);
            let applied = scd.apply(&batch, &ledger, &untold(&stored)).unwrap();
            if !applied.is_empty() {
                stored = scd.rows(&applied, &batch, &stored).unwrap();
                let rows = scd.ledger_rows(&applied, &batch).unwrap();
                if rows.num_rows() > 0 {
                    ledger = rows;
                }
            }
            lines(&stored).join(" ")
        })
        .collect()
}

#[test]
fn of_equal_sequence_an_upsert_wins_over_a_delete() {
    let upsert = (Some("a"), None, 1, UPSERT);
    let delete = (None, None, 1, DELETE);
    assert_eq!(latest([false; 3], &[&[upsert, delete]]), ["1|a|"]);
    assert_eq!(latest([false; 3], &[&[upsert], &[delete]]), ["1|a|", "1|a|"]);
    assert_eq!(latest([false; 3], &[&[delete], &[upsert]]), ["", "1|a|"]);
}

#[test]
fn of_two_upserts_of_equal_sequence_the_greater_wins_in_a_batch_and_the_later_between_batches() {
    let (a, b) = ((Some("a"), None, 1, UPSERT), (Some("b"), None, 1, UPSERT));
    assert_eq!(latest([false; 3], &[&[b, a]]), ["1|b|"]);
    assert_eq!(latest([false; 3], &[&[b], &[a]]), ["1|b|", "1|a|"]);
}

#[test]
fn null_keeps_what_is_there_since_the_last_delete() {
    let first = (Some("Ada"), Some("Rome"), 1, UPSERT);
    let city = (None, Some("Paris"), 2, UPSERT);
    let nothing = (None, None, 3, UPSERT);
    let partial = [false, true, true];
    assert_eq!(latest(partial, &[&[nothing, city, first]]), ["1|Ada|Paris"]);
    assert_eq!(latest(partial, &[&[first], &[nothing, city]]), ["1|Ada|Rome", "1|Ada|Paris"]);
    assert_eq!(latest([false, true, false], &[&[first], &[nothing]]), ["1|Ada|Rome", "1|Ada|"]);
    // Late events are ignored as a whole.
    assert_eq!(latest(partial, &[&[city], &[first]]), ["1||Paris", "1||Paris"]);
    // A delete forgets.
    let delete = (None, None, 2, DELETE);
    assert_eq!(latest(partial, &[&[first], &[delete, nothing]]), ["1|Ada|Rome", "1||"]);
    assert_eq!(latest(partial, &[&[first], &[delete], &[nothing]]), ["1|Ada|Rome", "", "1||"]);
}

/// Versions and ledger of the key after the last batch.
fn history(partial: [bool; 3], tracked: &[usize], batches: &[Given<'_>]) -> (Vec<String>, Vec<String>) {
    let scd = Scd2 { keys: vec![0], partial: partial.to_vec(), tracked: tracked.to_vec() };
    let mut fields: Vec<Field> = columns().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend([START_AT, END_AT].map(|name| Field::new(name, DataType::Int64, true)));
    let mut versions = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
    let mut ledger = RecordBatch::new_empty(scd.ledger_schema(&columns(), &DataType::Int64));
    for batch in batches {
        let history = scd.apply(&events(batch), &versions, &ledger).unwrap();
        (versions, ledger) = (history.versions, history.ledger);
    }
    (lines(&versions), lines(&ledger))
}

#[test]
fn of_equal_sequence_a_delete_ends_the_version_before_whichever_comes_first() {
    let (a, b) = ((Some("a"), None, 1, UPSERT), (Some("b"), None, 5, UPSERT));
    let delete = (None, None, 5, DELETE);
    let all: [&[Given<'_>]; 4] =
        [&[&[a, b, delete]], &[&[a], &[b], &[delete]], &[&[a], &[delete], &[b]], &[&[delete], &[b], &[a]]];
    for batches in all {
        assert_eq!(history([false; 3], &[1, 2], batches).0, ["1|a||1|5"], "{batches:?}");
    }
}

#[test]
fn an_upsert_that_is_there_wins_over_one_of_equal_sequence() {
    let (a, b) = ((Some("a"), None, 1, UPSERT), (Some("b"), None, 1, UPSERT));
    assert_eq!(history([false; 3], &[1, 2], &[&[b], &[a]]).0, ["1|b||1|"]);
}

#[test]
fn the_ledger_holds_what_versions_do_not_show() {
    let a = |sequence| (Some("a"), None, sequence, UPSERT);
    let delete = |sequence| (None, None, sequence, DELETE);
    // A version of one event ended by a delete needs no ledger.
    assert_eq!(history([false; 3], &[1, 2], &[&[a(1), delete(2)]]).1, Vec::<String>::new());
    assert_eq!(history([false; 3], &[1, 2], &[&[a(1), a(2)]]).1, ["1|a||1|0|", "1|a||2|0|"]);
    assert_eq!(history([false; 3], &[1, 2], &[&[a(1), delete(2), delete(3)]]).1, ["1|||3|1|"]);
    // A delete that comes to end something leaves the ledger.
    assert_eq!(history([false; 3], &[1, 2], &[&[delete(3)], &[a(1)]]), (vec!["1|a||1|3".to_owned()], Vec::new()));
}

#[test]
fn null_in_a_version_keeps_the_value_of_the_one_before() {
    let first = (Some("a"), Some("x"), 1, UPSERT);
    let second = (None, Some("y"), 2, UPSERT);
    let third = (None, None, 3, UPSERT);
    let partial = [false, true, true];
    let expected = ["1|a|x|1|2", "1|a|y|2|"];
    assert_eq!(history(partial, &[1, 2], &[&[third, second, first]]).0, expected);
    assert_eq!(history(partial, &[1, 2], &[&[first], &[second], &[third]]).0, expected);
    // With only the name tracked there is one version, of the latest city.
    assert_eq!(history(partial, &[1], &[&[first], &[second], &[third]]).0, ["1|a|y|1|"]);
    let delete = (None, None, 2, DELETE);
    assert_eq!(history(partial, &[1, 2], &[&[first, delete, third]]).0, ["1|a|x|1|2", "1|||3|"]);
    // Whatever comes first: what an event left open is remembered.
    for batches in [[third, second, first], [second, first, third], [third, first, second]] {
        let [one, two, three] = batches.map(|event| [event]);
        assert_eq!(history(partial, &[1, 2], &[&one, &two, &three]).0, expected, "{batches:?}");
    }
    assert_eq!(history(partial, &[1, 2], &[&[second]]).1, [r#"1||y|2|0|["name"]"#]);
}

#[test]
fn rows_that_stay_are_told_from_those_that_come_and_go() {
    let before = events(&[(Some("a"), None, 1, 0), (Some("b"), None, 1, 0), (Some("b"), None, 1, 0)]);
    let after = events(&[(Some("b"), None, 1, 0), (Some("c"), None, 1, 0)]);
    let difference = difference(&before, &after).unwrap();
    assert_eq!(difference.removed, [0, 1]);
    assert_eq!(difference.added, [1]);
    assert_eq!(difference.kept, [(2, 0)]);
}

#[test]
fn rows_that_differ_are_paired_by_their_key() {
    let before = events(&[(Some("a"), Some("x"), 1, 0), (Some("b"), Some("x"), 1, 0), (Some("c"), Some("x"), 1, 0)]);
    let after = events(&[(Some("d"), Some("y"), 1, 0), (Some("c"), Some("x"), 1, 0), (Some("a"), Some("y"), 1, 0)]);
    let by_name = difference(&before, &after).unwrap().by_key(&before, &after, &[1]).unwrap();
    assert_eq!(by_name, RowChanges { inserted: vec![0], deleted: vec![1], updated: vec![(0, 2)] });
}
