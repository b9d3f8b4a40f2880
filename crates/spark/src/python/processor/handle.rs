//! What a processor asks of its handle while a worker runs it over a partition, and what that does to the states of the
//! partition's groups.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use prost::Message as _;

use super::TimeMode;
use super::entries::{Content, GroupState, Place, TIMERS};
use super::message::{
    ABSENT, Answer, Cursor, Declaration, KeyCall, Method, NumberAnswer, OK, OfKey, OfNow, OfProcessor, OfTime, OfTimer,
    OfUtils, Phase, ProcessorCall, Request, TextAnswer, TimeCall, Timer, TimerCall, TimersAnswer,
};
use super::text;
use super::variables::{Variable, VariableKind, Variables};
use crate::error::{Error, Result};
use crate::python::Moment;
use crate::python::pickle::{Pickled, read, row_of_type};
use crate::python::with_state::values::{check_types, to_columns, to_values};
use crate::types::{canonical, parse_schema, schema_from_json, schema_to_json, type_name};

/// For a time that there is none of.
const NO_TIME: i64 = -1;

/// The rows of a variable, or the keys of a map.
#[derive(Debug, Clone)]
pub(super) struct RowType {
    pub fields: Fields,
    json: String,
}

impl RowType {
    pub(super) fn new(schema: &Schema) -> Result<Self> {
        let DataType::Struct(fields) = canonical(&DataType::Struct(schema.fields().clone())) else {
            return Err(Error::internal("state that is no row"));
        };
        let fields: Fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        check_types(&fields)?;
        let json = schema_to_json(&Schema::new(fields.clone()));
        Ok(Self { fields, json })
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// Its types: columns may get other names.
    fn types(&self) -> String {
        self.fields.iter().map(|field| type_name(field.data_type())).collect::<Vec<_>>().join(", ")
    }

    /// The pickle of a stored row.
    pub(super) fn pickle(&self, text: &str) -> Result<Vec<u8>> {
        Ok(row_of_type(&self.json, &text::to_row(text, &self.fields)?))
    }

    /// The pickle of a row of columns of these types.
    fn pickle_row(&self, columns: &[ArrayRef], row: usize) -> Result<Vec<u8>> {
        Ok(row_of_type(&self.json, &to_values(columns, row)?))
    }

    /// The row in a pickle, as it is stored.
    pub(super) fn store(&self, pickle: &[u8], variable: &str) -> Result<Arc<str>> {
        let values = match read(pickle)? {
            Pickled::Tuple(values) | Pickled::List(values) => values,
            _ => return Err(unknown()),
        };
        let columns = to_columns(&[Some(values)], &self.fields, variable)?;
        Ok(Arc::from(text::of_row(&to_values(&columns, 0)?)))
    }
}

/// A variable that this worker has declared.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub kind: VariableKind,
    pub key: Option<RowType>,
    pub value: RowType,
    pub ttl_ms: Option<i64>,
}

/// The next entries of an iterator, and whether there are more.
pub(super) type Fetched = (Vec<(Place, Content)>, bool);

/// What the handles of a partition share.
pub(super) struct Partition<'a> {
    pub mode: TimeMode,
    pub moment: Moment,
    pub batch: i64,
    pub variables: &'a Variables,
    /// The groups that have rows, in the order that the worker is sent them, then those that have timers alone.
    pub states: &'a mut [GroupState],
    /// So many first groups have rows.
    pub called: usize,
    /// The keys of all groups.
    pub keys: &'a [ArrayRef],
    pub key_type: RowType,
    /// How many rows go into one answer.
    pub rows_of_answer: usize,
}

/// The handle of a processor, over one partition.
pub(super) struct Handle<'a> {
    pub(super) partition: Partition<'a>,
    phase: Phase,
    open: HashMap<String, Open>,
    /// What iterators of the group have not fetched yet.
    cursors: HashMap<String, VecDeque<(Place, Content)>>,
    group: Option<usize>,
    last_key: Option<Vec<u8>>,
    /// How many groups with rows have been reached.
    reached: usize,
    /// The timers that have expired, by time.
    fired: Option<Vec<(usize, i64)>>,
    /// How many of them the worker has been told of, and how many it has come to.
    told: usize,
    handled: usize,
}

impl<'a> Handle<'a> {
    pub(super) fn new(partition: Partition<'a>) -> Self {
        Self {
            partition,
            phase: Phase::Created,
            open: HashMap::new(),
            cursors: HashMap::new(),
            group: None,
            last_key: None,
            reached: 0,
            fired: None,
            told: 0,
            handled: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The answer to a request, as it is sent.
    pub(super) fn answer(&mut self, request: Request) -> Result<Vec<u8>> {
        match request.method.ok_or_else(unknown)? {
            Method::Processor(call) => self.of_processor(call),
            Method::Variable(call) => self.of_variable(call),
            Method::Key(call) => self.of_key(call),
            Method::Time(call) => self.of_time(call),
            Method::Utils(call) => match call.method.ok_or_else(unknown)? {
                OfUtils::ParseSchema(schema) => {
                    Ok(TextAnswer { value: schema_to_json(&parse_schema(&schema.text)?) }.encode_to_vec())
                }
            },
        }
    }

    fn of_processor(&mut self, call: ProcessorCall) -> Result<Vec<u8>> {
        match call.method.ok_or_else(unknown)? {
            OfProcessor::Phase(set) => {
                self.phase = set.phase();
                if self.phase == Phase::DataProcessed && self.reached != self.partition.called {
                    return Err(self.keys_look_alike());
                }
            }
            OfProcessor::GetValue(declaration) => self.declare(VariableKind::Value, &declaration)?,
            OfProcessor::GetList(declaration) => self.declare(VariableKind::List, &declaration)?,
            OfProcessor::GetMap(declaration) => self.declare(VariableKind::Map, &declaration)?,
            OfProcessor::Timer(call) => return self.of_timer(call),
            OfProcessor::DeleteIfExists(declaration) => {
                self.in_init("delete_if_exists")?;
                self.partition.variables.delete(&declaration.name, self.partition.batch);
                self.partition.states.iter_mut().for_each(|state| state.forget(&declaration.name));
                self.open.remove(&declaration.name);
            }
        }
        Ok(done())
    }

    fn declare(&mut self, kind: VariableKind, declaration: &Declaration) -> Result<()> {
        let (operation, name) = (
            match kind {
                VariableKind::Value => "get_value_state",
                VariableKind::List => "get_list_state",
                VariableKind::Map => "get_map_state",
            },
            &declaration.name,
        );
        self.in_init(operation)?;
        if self.open.contains_key(name) {
            return Err(Error::user(format!("the state variable `{name}` is declared twice"))
                .with_condition("STATEFUL_PROCESSOR_DUPLICATE_STATE_VARIABLE_DEFINED"));
        }
        if name.trim().is_empty() || name.starts_with(['_', '$']) {
            return Err(Error::user(format!("`{name}` cannot be the name of a state variable"))
                .with_condition("STATE_STORE_CANNOT_CREATE_COLUMN_FAMILY_WITH_RESERVED_CHARS")
                .with_help("Give it a name that begins with a letter or a digit."));
        }
        let ttl_ms = declaration.ttl.map(|ttl| ttl.duration_ms).filter(|ttl_ms| *ttl_ms != 0);
        if ttl_ms.is_some() && self.partition.mode != TimeMode::ProcessingTime {
            return Err(Error::user(format!(
                "the state variable `{name}` has a time to live, which there is not in the time mode {}",
                self.partition.mode.name()
            ))
            .with_condition("STATEFUL_PROCESSOR_INCORRECT_TIME_MODE_TO_ASSIGN_TTL")
            .with_help("Use the time mode ProcessingTime."));
        }
        if ttl_ms.is_some_and(|ttl_ms| ttl_ms < 0) {
            return Err(Error::user(format!("the time to live of the state variable `{name}` is negative"))
                .with_condition("STATEFUL_PROCESSOR_TTL_DURATION_MUST_BE_POSITIVE"));
        }
        let row = |json: &str| {
            schema_from_json(json)
                .and_then(|schema| RowType::new(&schema))
                .map_err(|error| error.context(format!("in the state variable `{name}`")))
        };
        let (key, value) = match kind {
            VariableKind::Map => (Some(row(&declaration.schema)?), row(&declaration.map_value_schema)?),
            VariableKind::Value | VariableKind::List => (None, row(&declaration.schema)?),
        };
        let types = key.as_ref().map(RowType::types);
        let variable = Variable { kind, key: types, value: value.types(), since: self.partition.batch };
        self.partition.variables.declare(name, variable)?;
        self.open.insert(name.clone(), Open { kind, key, value, ttl_ms });
        Ok(())
    }

    /// Variables come and go in `init` alone.
    fn in_init(&self, operation: &str) -> Result<()> {
        match self.phase {
            Phase::Created => Ok(()),
            _ => Err(self.wrong_phase(operation).with_help("Declare the processor's variables in its `init`.")),
        }
    }

    fn of_timer(&mut self, call: TimerCall) -> Result<Vec<u8>> {
        let method = call.method.ok_or_else(unknown)?;
        let operation = match &method {
            OfTimer::Register(_) => "register_timer",
            OfTimer::Delete(_) => "delete_timer",
            OfTimer::List(_) => "list_timers",
        };
        if self.partition.mode == TimeMode::None {
            return Err(Error::user(format!("`{operation}` is called, but there are no timers in the time mode None"))
                .with_condition("STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_TIME_MODE")
                .with_help("Use the time mode EventTime or ProcessingTime."));
        }
        if self.phase < Phase::Initialized || self.phase >= Phase::TimerProcessed {
            return Err(self.wrong_phase(operation).with_help("Set timers while rows or timers are handled."));
        }
        match method {
            OfTimer::Register(timer) => {
                let content = Content { value: None, expires_ms: None };
                self.state()?.set(TIMERS, Place::At(timer.at_ms), content);
            }
            OfTimer::Delete(timer) => self.state()?.remove(TIMERS, &Place::At(timer.at_ms)),
            OfTimer::List(cursor) => {
                let Some((timers, more)) = self.fetch(&cursor, TIMERS)? else { return Ok(absent()) };
                let timer = |(place, _)| match place {
                    Place::At(at_ms) => Some(Timer { key: None, at_ms }),
                    Place::Whole | Place::Key(_) => None,
                };
                return Ok(
                    TimersAnswer { timers: timers.into_iter().filter_map(timer).collect(), more }.encode_to_vec()
                );
            }
        }
        Ok(done())
    }

    /// Groups come in the order that the worker is sent them, and timers in the order that it is told them.
    fn of_key(&mut self, call: KeyCall) -> Result<Vec<u8>> {
        self.cursors.clear();
        self.group = match call.method.ok_or_else(unknown)? {
            OfKey::Remove(_) => None,
            OfKey::Set(_) if self.phase == Phase::DataProcessed => {
                let fired = self.fired.as_ref().and_then(|fired| fired.get(self.handled));
                self.handled += 1;
                Some(fired.ok_or_else(unknown)?.0)
            }
            OfKey::Set(key) if self.last_key.as_ref() == Some(&key.value) => self.group,
            OfKey::Set(key) => {
                if self.reached == self.partition.called {
                    return Err(self.keys_look_alike());
                }
                self.last_key = Some(key.value);
                self.reached += 1;
                Some(self.reached - 1)
            }
        };
        Ok(done())
    }

    fn of_time(&mut self, call: TimeCall) -> Result<Vec<u8>> {
        let moment = self.partition.moment;
        match call.method.ok_or_else(unknown)? {
            OfTime::Now(now) => {
                let value = match now.method.ok_or_else(unknown)? {
                    OfNow::ProcessingTime(_) => moment.processing_ms,
                    OfNow::Watermark(_) => moment.watermark_ms.unwrap_or(NO_TIME),
                };
                Ok(NumberAnswer { value }.encode_to_vec())
            }
            OfTime::Expired(expired) => {
                if self.fired.is_none() {
                    self.fired = Some(self.expired(expired.until_ms));
                }
                let fired = self.fired.as_deref().unwrap_or_default();
                let part = fired.iter().skip(self.told).take(self.partition.rows_of_answer);
                let timer = |(group, at_ms): &(usize, i64)| {
                    let key = self.partition.key_type.pickle_row(self.partition.keys, *group)?;
                    Ok(Timer { key: Some(key), at_ms: *at_ms })
                };
                let timers = part.map(timer).collect::<Result<Vec<_>>>()?;
                if timers.is_empty() {
                    return Ok(absent());
                }
                self.told += timers.len();
                Ok(TimersAnswer { timers, more: self.told < fired.len() }.encode_to_vec())
            }
        }
    }

    /// The timers until a time, of all groups. Those that are set meanwhile wait for the next batch.
    fn expired(&self, until_ms: i64) -> Vec<(usize, i64)> {
        let groups = self.partition.states.iter().enumerate();
        let mut fired: Vec<(usize, i64)> =
            groups.flat_map(|(group, state)| state.timers_until(until_ms).map(move |at_ms| (group, at_ms))).collect();
        fired.sort_by_key(|(group, at_ms)| (*at_ms, *group));
        fired
    }

    /// The state of the group that the worker has come to.
    pub(super) fn state(&mut self) -> Result<&mut GroupState> {
        let group = self.group.and_then(|group| self.partition.states.get_mut(group));
        group.ok_or_else(|| {
            Error::user("a processor uses state outside of a group")
                .with_help("Read and write state in `handleInputRows`, `handleExpiredTimer` or `handleInitialState`.")
        })
    }

    /// The variable of this name and kind.
    pub(super) fn variable(&self, name: &str, kind: VariableKind) -> Result<Open> {
        let open = self.open.get(name).filter(|open| open.kind == kind);
        open.cloned().ok_or_else(|| {
            Error::user(format!("the state variable `{name}` is not declared, or has been deleted"))
                .with_help("Declare it in `init`.")
        })
    }

    /// What is written to a variable now.
    pub(super) fn content(&self, variable: &Open, value: Arc<str>) -> Content {
        let expires_ms = variable.ttl_ms.map(|ttl_ms| self.partition.moment.processing_ms.saturating_add(ttl_ms));
        Content { value: Some(value), expires_ms }
    }

    /// The next entries of a variable, and whether there are more; `None` if there is none.
    pub(super) fn fetch(&mut self, cursor: &Cursor, variable: &str) -> Result<Option<Fetched>> {
        if !self.cursors.contains_key(&cursor.id) {
            let entry = |(place, content): (&Place, &Content)| (place.clone(), content.clone());
            let entries = self.state()?.entries(variable).map(entry).collect();
            self.cursors.insert(cursor.id.clone(), entries);
        }
        let rest = self.cursors.entry(cursor.id.clone()).or_default();
        let part: Vec<_> = rest.drain(..rest.len().min(self.partition.rows_of_answer)).collect();
        let more = !rest.is_empty();
        if !more {
            self.cursors.remove(&cursor.id);
        }
        Ok((!part.is_empty()).then_some((part, more)))
    }

    fn wrong_phase(&self, operation: &str) -> Error {
        Error::user(format!("a processor calls `{operation}` in the state {}", self.phase.name()))
            .with_condition("STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_HANDLE_STATE")
    }

    /// Python takes some keys for one that are two, or the other way round.
    fn keys_look_alike(&self) -> Error {
        Error::user("keys of groups are not told apart in Python as they are here").with_help(
            "Group by a key that is the same in pandas: no NULL beside NaN, no large integers beside NULL, or use \
             transformWithState.",
        )
    }
}

/// A key's columns, as a row.
pub(super) fn key_type(names: &[String], types: impl Iterator<Item = DataType>) -> Result<RowType> {
    let field = |(name, data_type): (&String, DataType)| Field::new(name, data_type, true);
    RowType::new(&Schema::new(names.iter().zip(types).map(field).collect::<Vec<_>>()))
}

pub(super) fn done() -> Vec<u8> {
    Answer { status: OK, ..Answer::default() }.encode_to_vec()
}

pub(super) fn absent() -> Vec<u8> {
    Answer { status: ABSENT, error: "there is no such value".to_owned(), ..Answer::default() }.encode_to_vec()
}

pub(super) fn unknown() -> Error {
    Error::internal("a Python worker asks something of its state that is not known")
        .with_help("Use pyspark-client 4.2 in the pipeline's Python environment.")
}
