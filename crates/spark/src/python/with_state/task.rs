//! What a worker is sent of groups with state: batches of rows with a column beside them that says which are whose.
//!
//! A group lies in one batch or in several that follow each other, so that a large one need not be in the worker's memory as a
//! whole. The column beside the rows has an entry per group of the batch, from the first row on: where its rows are, its
//! state, and properties as JSON.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Int32Array, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields, Schema};
use serde_json::json;

use super::run::{GroupCall, Moment};
use super::{StatefulFunction, Timeout};
use crate::conf::SparkConf;
use crate::error::Result;
use crate::python::function::settings;
use crate::python::pickle::{Pickled, row_of_type};
use crate::python::worker::{PythonCall, Task};
use crate::types::schema_to_json;

/// The name of the column that no column of the user's has.
const STATE_COLUMN: &str = "!__state__!";
const ROWS_OF_BATCH: &str = "spark.sql.execution.arrow.maxRecordsPerBatch";
const DEFAULT_ROWS_OF_BATCH: usize = 10_000;
/// For a time that there is none of.
const NO_TIME: i64 = -1;

/// Groups on their way to a worker.
pub(super) struct Sending<'a> {
    pub function: &'a StatefulFunction,
    pub rows: &'a RecordBatch,
    /// The state of each group.
    pub states: Vec<Option<Vec<Pickled>>>,
    pub calls: &'a [GroupCall],
    pub timed_out: bool,
    pub moment: Moment,
}

/// A part of a group in a batch.
struct Chunk {
    group: usize,
    /// The first row, in the batch.
    start: usize,
    rows: usize,
    is_last: bool,
}

impl Sending<'_> {
    pub(super) fn task(&self, conf: &SparkConf) -> Task {
        let function = &self.function.function;
        let (values, columns) = (self.function.values(), self.rows.num_columns());
        // How many numbers follow, how many keys, the keys, the values.
        let numbers = [1 + columns, columns - values].into_iter().chain(values..columns).chain(0..values);
        Task {
            eval_type: function.eval_type,
            python_version: function.python_version.clone(),
            conf: settings(conf),
            eval_conf: vec![("state_value_schema".to_owned(), without_upper_case(&self.state_type()))],
            call: PythonCall::Function {
                command: function.command.clone(),
                arguments: numbers.map(|number| (number as i32, None)).collect(),
            },
        }
    }

    /// The batches, of as many rows as the session's settings have for one.
    pub(super) fn batches(&self, conf: &SparkConf) -> Result<Vec<RecordBatch>> {
        let limit = conf.get(ROWS_OF_BATCH).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_ROWS_OF_BATCH);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut batches, mut chunks) = (Vec::new(), Vec::new());
        let (mut start, mut end) = (self.calls.first().map_or(0, |call| call.rows.start), 0);
        for (group, call) in self.calls.iter().enumerate() {
            let mut at = call.rows.start;
            while at < call.rows.end {
                end = call.rows.end.min(start.saturating_add(limit));
                let is_last = end == call.rows.end;
                chunks.push(Chunk { group, start: at - start, rows: end - at, is_last });
                if end - start >= limit {
                    batches.push(self.batch(start, end, &chunks)?);
                    chunks.clear();
                    start = end;
                }
                at = end;
            }
        }
        if !chunks.is_empty() {
            batches.push(self.batch(start, end, &chunks)?);
        }
        Ok(batches)
    }

    fn batch(&self, start: usize, end: usize, chunks: &[Chunk]) -> Result<RecordBatch> {
        let rows = self.rows.slice(start, end - start);
        let mut columns = rows.columns().to_vec();
        columns.push(self.state_column(chunks, rows.num_rows())?);
        let mut fields = rows.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(STATE_COLUMN, columns[columns.len() - 1].data_type().clone(), true)));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// An entry per chunk, and NULLs for as many rows as the batch has beyond.
    fn state_column(&self, chunks: &[Chunk], rows: usize) -> Result<ArrayRef> {
        let padding = rows - chunks.len();
        fn padded<T>(values: impl Iterator<Item = T>, padding: usize) -> impl Iterator<Item = Option<T>> {
            values.map(Some).chain(std::iter::repeat_with(|| None).take(padding))
        }
        let number = |number: usize| number as i32;
        let properties = chunks.iter().map(|chunk| self.properties(self.states[chunk.group].is_some()));
        let keys = chunks.iter().map(|chunk| (chunk.group as u64).to_le_bytes());
        let state_type = self.state_type();
        let objects =
            chunks.iter().map(|chunk| self.states[chunk.group].as_ref().map(|values| row_of_type(&state_type, values)));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("properties", Arc::new(padded(properties, padding).collect::<StringArray>())),
            ("keyRowAsUnsafe", Arc::new(padded(keys, padding).collect::<BinaryArray>())),
            ("object", Arc::new(padded(objects, padding).map(Option::flatten).collect::<BinaryArray>())),
            (
                "startOffset",
                Arc::new(padded(chunks.iter().map(|chunk| number(chunk.start)), padding).collect::<Int32Array>()),
            ),
            (
                "numRows",
                Arc::new(padded(chunks.iter().map(|chunk| number(chunk.rows)), padding).collect::<Int32Array>()),
            ),
            (
                "isLastChunk",
                Arc::new(padded(chunks.iter().map(|chunk| chunk.is_last), padding).collect::<BooleanArray>()),
            ),
        ];
        let fields: Fields =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let nulls: NullBuffer = (0..rows).map(|row| row < chunks.len()).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        Ok(Arc::new(StructArray::try_new(fields, columns, Some(nulls))?))
    }

    /// What `GroupState` is made from in Python.
    fn properties(&self, is_defined: bool) -> String {
        let timeout: Timeout = self.function.timeout;
        json!({
            "batchProcessingTimeMs": self.moment.processing_ms,
            "eventTimeWatermarkMs": self.moment.watermark_ms.unwrap_or(NO_TIME),
            "timeoutConf": timeout.name(),
            "hasTimedOut": self.timed_out,
            "watermarkPresent": self.moment.watermark_ms.is_some(),
            "defined": is_defined,
            "updated": false,
            "removed": false,
            "timeoutTimestamp": NO_TIME,
        })
        .to_string()
    }

    fn state_type(&self) -> String {
        schema_to_json(&Schema::new(self.function.state.clone()))
    }
}

/// The same JSON without letters in upper case, of which workers of PySpark 4.2 make others: they read what they are told
/// of a task in lower case, where `elementType` is no type of elements.
pub(in crate::python) fn without_upper_case(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter.is_uppercase() {
            true => {
                let mut units = [0; 2];
                letter.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            false => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Array, AsArray, Int64Array};
    use arrow::datatypes::{DataType, Int32Type, Int64Type};
    use std::path::PathBuf;

    use super::*;
    use crate::python::relation::RelationFunction;
    use crate::python::{PythonOptions, PythonWorkers};
    use crate::types::parse_schema;

    fn function() -> StatefulFunction {
        let function = RelationFunction {
            name: "f".to_owned(),
            eval_type: 208,
            command: Default::default(),
            python_version: String::new(),
            workers: Arc::new(PythonWorkers::new(PythonOptions::new(PathBuf::from("python"), Vec::new()))),
        };
        let state = parse_schema("n INT").unwrap();
        let output = Arc::new(parse_schema("n INT").unwrap());
        StatefulFunction::new(function, vec!["n".to_owned()], &state, Timeout::Never, output).unwrap()
    }

    /// Of a chunk: its group, first row, rows, and whether it is the last.
    type ChunkOf = (u64, i32, i32, bool);

    /// Per batch: its rows, and its chunks.
    fn layout(groups: &[usize], limit: &str) -> Vec<(Vec<i64>, Vec<ChunkOf>)> {
        let mut conf = SparkConf::pipeline_defaults();
        conf.set(ROWS_OF_BATCH, limit).unwrap();
        let total: usize = groups.iter().sum();
        let numbers: Int64Array = (0..total as i64).collect();
        let fields = vec![Field::new("n", DataType::Int64, true)];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(numbers)]).unwrap();
        let mut start = 0;
        let mut calls = Vec::new();
        for rows in groups {
            calls.push(GroupCall { rows: start..start + rows, state: None });
            start += rows;
        }
        let function = function();
        let states = vec![None; calls.len()];
        let moment = Moment::default();
        let sending = Sending { function: &function, rows: &rows, states, calls: &calls, timed_out: false, moment };
        let layout = |batch: RecordBatch| {
            let chunks = batch.column(1).as_struct();
            let chunk = |row: usize| {
                let number = |name: &str| chunks.column_by_name(name).unwrap().as_primitive::<Int32Type>().value(row);
                let key = chunks.column_by_name("keyRowAsUnsafe").unwrap().as_binary::<i32>().value(row).to_vec();
                let is_last = chunks.column_by_name("isLastChunk").unwrap().as_boolean().value(row);
                (u64::from_le_bytes(key.try_into().unwrap()), number("startOffset"), number("numRows"), is_last)
            };
            let chunks: Vec<_> = (0..batch.num_rows()).filter(|row| chunks.is_valid(*row)).map(chunk).collect();
            (batch.column(0).as_primitive::<Int64Type>().values().to_vec(), chunks)
        };
        sending.batches(&conf).unwrap().into_iter().map(layout).collect()
    }

    #[test]
    fn json_survives_lower_case() {
        let json = r#"{"elementType":"ÄÖ","n":1}"#;
        let lower = without_upper_case(json).to_lowercase();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&lower), value(json));
    }

    #[test]
    fn groups_share_a_batch() {
        assert_eq!(layout(&[1, 2], "3"), [(vec![0, 1, 2], vec![(0, 0, 1, true), (1, 1, 2, true)])]);
    }

    #[test]
    fn a_large_group_goes_on_in_the_next_batch() {
        let expected = [
            (vec![0, 1], vec![(0, 0, 1, true), (1, 1, 1, false)]),
            (vec![2, 3], vec![(1, 0, 2, false)]),
            (vec![4, 5], vec![(1, 0, 1, true), (2, 1, 1, true)]),
        ];
        assert_eq!(layout(&[1, 4, 1], "2"), expected);
        assert_eq!(layout(&[1, 4, 1], "0").len(), 1);
    }
}
