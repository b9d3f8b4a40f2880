//! Runs a processor over the groups of a partition: a worker for the rows, and a thread beside it that answers what it
//! asks of their state.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimestampMicrosecondType};

use super::StatefulProcessor;
use super::entries::GroupState;
use super::handle::{Handle, Partition};
use super::server::Server;
use super::variables::Variables;
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::python::Moment;
use crate::python::function::{blocking, settings};
use crate::python::with_state::without_upper_case;
use crate::python::worker::{Input, PythonCall, Task};
use crate::types::canonical;

const ROWS_OF_BATCH: &str = "spark.sql.execution.arrow.maxRecordsPerBatch";
const DEFAULT_ROWS_OF_BATCH: usize = 10_000;
const ROWS_OF_ANSWER: &str = "spark.sql.execution.arrow.transformWithStateInPySpark.maxStateRecordsPerBatch";
const DEFAULT_ROWS_OF_ANSWER: usize = 10_000;

/// A group that has rows.
#[derive(Debug, Clone, Default)]
pub struct ProcessorCall {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its rows of the initial state.
    pub initial: Range<usize>,
}

/// The groups of a partition.
#[derive(Debug)]
pub struct ProcessorGroups<'a> {
    /// Rows, group by group: values, then keys.
    pub rows: &'a RecordBatch,
    /// The same of the initial state, in the first batch.
    pub initial: Option<&'a RecordBatch>,
    /// The groups that have rows.
    pub calls: &'a [ProcessorCall],
    /// Their states, then those of groups that have timers alone.
    pub states: &'a mut [GroupState],
    /// The keys of all of them.
    pub keys: &'a [ArrayRef],
    /// What has been declared so far.
    pub variables: &'a Variables,
    /// The number of the batch.
    pub batch: i64,
    /// The times that it works with.
    pub moment: Moment,
    /// The watermark of the batch before: rows that are given out must not be older.
    pub late_us: Option<i64>,
}

impl StatefulProcessor {
    /// Has the processor handle the rows and the expired timers of groups, whose states change by that.
    ///
    /// # Errors
    /// `PYTHON_EXCEPTION` (`User`) with the traceback of the user's code; `User` for what a handle cannot do.
    pub fn call(&self, groups: ProcessorGroups<'_>, conf: &SparkConf) -> Result<Vec<RecordBatch>> {
        blocking(|| self.run(groups, conf)).map_err(|error| error.context("in a stateful processor"))
    }

    fn run(&self, groups: ProcessorGroups<'_>, conf: &SparkConf) -> Result<Vec<RecordBatch>> {
        let number = |setting: &str, default: usize| match conf.get(setting).and_then(|text| text.parse().ok()) {
            Some(0) => usize::MAX,
            number => number.unwrap_or(default),
        };
        let batches = self.batches(&groups, number(ROWS_OF_BATCH, DEFAULT_ROWS_OF_BATCH))?;
        let keys = groups.keys.iter().zip(&self.key_type.fields);
        let keys = keys.map(|(key, field)| Ok(cast(key, field.data_type())?)).collect::<Result<Vec<_>>>()?;
        let mut handle = Handle::new(Partition {
            mode: self.mode,
            moment: groups.moment,
            batch: groups.batch,
            variables: groups.variables,
            states: groups.states,
            called: groups.calls.len(),
            keys: &keys,
            key_type: self.key_type.clone(),
            rows_of_answer: number(ROWS_OF_ANSWER, DEFAULT_ROWS_OF_ANSWER),
        });
        let server = Server::open()?;
        let task = self.task(server.port(), conf);
        let (given, served) = std::thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(&mut handle));
            let given = self.function.workers.with_worker(|worker| worker.run(&task, &Input::Batches(&batches)));
            server.close();
            let served =
                serving.join().unwrap_or_else(|_| Err(Error::internal("serving a processor's state panicked")));
            (given, served)
        });
        let given = match (given, served) {
            (Ok(given), Ok(())) if handle.is_closed() => given,
            (Ok(_), Ok(())) => return Err(Error::internal("a Python worker ended before its processor")),
            // What the worker raises then comes of what it has been answered, or of what it has not.
            (Err(raised), Err(error)) => {
                return Err(match raised.traceback() {
                    Some(traceback) => error.with_traceback(traceback.to_owned()),
                    None => raised,
                });
            }
            (Ok(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        given.iter().map(|batch| self.output(batch, groups.late_us)).collect()
    }

    fn task(&self, port: u16, conf: &SparkConf) -> Task {
        let mut arguments = self.rows.arguments();
        arguments.extend(self.initial.iter().flat_map(|layout| layout.arguments()));
        Task {
            eval_type: self.function.eval_type,
            python_version: self.function.python_version.clone(),
            conf: settings(conf),
            eval_conf: vec![
                ("grouping_key_schema".to_owned(), without_upper_case(self.key_type.json())),
                ("state_server_socket_port".to_owned(), port.to_string()),
            ],
            call: PythonCall::Function {
                command: self.function.command.clone(),
                arguments: arguments.into_iter().map(|number| (number as i32, None)).collect(),
            },
        }
    }

    /// What the worker reads: rows, at most `limit` at once; or, where there may be initial state, rows or initial state,
    /// of a group initial state first.
    fn batches(&self, groups: &ProcessorGroups<'_>, limit: usize) -> Result<Vec<RecordBatch>> {
        let rows = self.rows.of_worker(groups.rows)?;
        let Some(initial) = &self.initial else {
            return Ok(match rows.num_rows() {
                0 => vec![rows],
                count => (0..count).step_by(limit).map(|at| rows.slice(at, limit.min(count - at))).collect(),
            });
        };
        let initial = match groups.initial {
            Some(batch) => initial.of_worker(batch)?,
            None => RecordBatch::new_empty(initial.schema()),
        };
        let mut pieces: Vec<(bool, Range<usize>)> = Vec::new();
        let parts = groups.calls.iter().flat_map(|call| [(true, call.initial.clone()), (false, call.rows.clone())]);
        for (is_initial, mut range) in parts {
            while !range.is_empty() {
                let room = match pieces.last_mut() {
                    Some((kind, last)) if *kind == is_initial && last.end == range.start => {
                        let taken = range.len().min(limit - last.len().min(limit));
                        last.end += taken;
                        taken
                    }
                    _ => 0,
                };
                range.start += room;
                if !range.is_empty() {
                    let taken = range.len().min(limit);
                    pieces.push((is_initial, range.start..range.start + taken));
                    range.start += taken;
                }
            }
        }
        if pieces.is_empty() {
            pieces.push((false, 0..0));
        }
        let piece = |(is_initial, range): (bool, Range<usize>)| match is_initial {
            true => beside(None, Some(initial.slice(range.start, range.len())), &rows, &initial),
            false => beside(Some(rows.slice(range.start, range.len())), None, &rows, &initial),
        };
        pieces.into_iter().map(piece).collect()
    }

    /// Rows as the processor gave them, in the columns of the declared schema.
    fn output(&self, batch: &RecordBatch, late_us: Option<i64>) -> Result<RecordBatch> {
        let columns = match batch.columns() {
            [only] => only.as_struct_opt().map_or_else(|| vec![Arc::clone(only)], |whole| whole.columns().to_vec()),
            columns => columns.to_vec(),
        };
        let fields = self.output.fields();
        if columns.len() != fields.len() {
            let (given, declared) = (columns.len(), fields.len());
            return Err(Error::user(format!("it gave {given} columns, but {declared} are declared"))
                .with_condition("SCHEMA_MISMATCH_FOR_PANDAS_UDF"));
        }
        let columns = columns.iter().zip(fields).map(|(column, field)| Ok(cast(column, field.data_type())?));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        if let (Some(column), Some(late_us)) = (self.event_time, late_us) {
            check_in_time(&columns[column], fields[column].name(), late_us)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}

fn check_in_time(column: &ArrayRef, name: &str, late_us: i64) -> Result<()> {
    let times = column.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or_else(|| Error::internal(format!("`{name}` is no event time")))?;
    match times.iter().flatten().find(|time| *time < late_us) {
        Some(time) => Err(Error::user(format!(
            "it gave a row whose event time in `{name}` is {time} microseconds, before the watermark of {late_us}"
        ))
        .with_condition("EMITTING_ROWS_OLDER_THAN_WATERMARK_NOT_ALLOWED")
        .with_help("Give out rows that are not older than the watermark.")),
        None => Ok(()),
    }
}

/// A batch of rows or of initial state: each is a struct, of which the other one is NULL.
fn beside(
    rows: Option<RecordBatch>,
    initial: Option<RecordBatch>,
    all_rows: &RecordBatch,
    all_initial: &RecordBatch,
) -> Result<RecordBatch> {
    let count = rows.as_ref().or(initial.as_ref()).map_or(0, RecordBatch::num_rows);
    let column = |batch: Option<RecordBatch>, like: &RecordBatch| -> Result<ArrayRef> {
        let fields: Fields = like.schema().fields().clone();
        Ok(match batch {
            Some(batch) => Arc::new(StructArray::try_new_with_length(fields, batch.columns().to_vec(), None, count)?),
            None => new_null_array(&DataType::Struct(fields), count),
        })
    };
    let columns = vec![column(rows, all_rows)?, column(initial, all_initial)?];
    let fields: Vec<Field> = ["inputData", "initState"]
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// How the columns of an input, which are values and then keys, are laid out for a worker: keys that are no values first,
/// then the values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The names of the values.
    names: Vec<String>,
    /// The keys: which of the values they are, or a name of their own.
    keys: Vec<Key>,
    types: Vec<DataType>,
}

/// A column that rows are grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// One of the values.
    Value(usize),
    /// Another one, of this name.
    Own(String),
}

impl Layout {
    /// `types` are those of the input's columns.
    pub(crate) fn new(names: Vec<String>, keys: Vec<Key>, types: Vec<DataType>) -> Self {
        let types = types.iter().map(canonical).collect();
        Self { names, keys, types }
    }

    /// How many first columns of the input are values.
    pub(super) fn values(&self) -> usize {
        self.names.len()
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        let name = |key: &Key| match key {
            Key::Value(at) => self.names[*at].clone(),
            Key::Own(name) => name.clone(),
        };
        self.keys.iter().map(name).collect()
    }

    pub(super) fn key_types(&self) -> impl Iterator<Item = DataType> {
        self.types[self.values()..].iter().cloned()
    }

    /// The columns of the input in the worker's order, by name.
    fn columns(&self) -> Vec<(usize, &str)> {
        let own = self.keys.iter().enumerate().filter_map(|(place, key)| match key {
            Key::Own(name) => Some((self.values() + place, name.as_str())),
            Key::Value(_) => None,
        });
        own.chain(self.names.iter().map(String::as_str).enumerate()).collect()
    }

    fn schema(&self) -> Arc<Schema> {
        let field = |(at, name): (usize, &str)| Field::new(name, self.types[at].clone(), true);
        Arc::new(Schema::new(self.columns().into_iter().map(field).collect::<Vec<_>>()))
    }

    fn of_worker(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = self.schema();
        let columns = self.columns().into_iter().zip(schema.fields());
        let columns = columns.map(|((at, _), field)| Ok(cast(batch.column(at), field.data_type())?));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect::<Result<_>>()?, &options)?)
    }

    /// How many numbers follow, how many keys, the keys, the values.
    fn arguments(&self) -> Vec<usize> {
        let own = self.keys.iter().filter(|key| matches!(key, Key::Own(_))).count();
        let mut next = 0;
        let keys: Vec<usize> = self
            .keys
            .iter()
            .map(|key| match key {
                Key::Value(at) => own + at,
                Key::Own(_) => {
                    next += 1;
                    next - 1
                }
            })
            .collect();
        let mut numbers = vec![1 + keys.len() + self.values(), keys.len()];
        numbers.extend(keys);
        numbers.extend(own..own + self.values());
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_values_are_not_there_twice() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let types = vec![DataType::Int32, DataType::Utf8, DataType::Utf8, DataType::Utf8];
        let layout = Layout::new(names, vec![Key::Own("u".to_owned()), Key::Value(1)], types);
        assert_eq!(layout.columns(), [(2, "u"), (0, "a"), (1, "b")]);
        assert_eq!(layout.arguments(), [5, 2, 0, 2, 1, 2]);
        assert_eq!(layout.key_names(), ["u", "b"]);
    }
}
