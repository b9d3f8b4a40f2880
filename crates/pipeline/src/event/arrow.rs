//! Events as rows: the columns of Databricks' event log.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;
use deltaworks_spark::{Error, Result};
use serde::de::DeserializeOwned;

use super::error_details::{ErrorDetails, Exception, StackFrame};
use super::model::{Event, Level, MaturityLevel};
use super::origin::Origin;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("sequence", DataType::Utf8, true),
        Field::new("origin", DataType::Struct(Origin::arrow_fields()), true),
        Field::new("timestamp", timestamp_type(), true),
        Field::new("message", DataType::Utf8, true),
        Field::new("level", DataType::Utf8, true),
        Field::new("maturity_level", DataType::Utf8, true),
        Field::new("error", DataType::Struct(error_fields()), true),
        Field::new("details", DataType::Utf8, true),
        Field::new("event_type", DataType::Utf8, true),
    ]))
});

/// The columns of the event log, all nullable.
///
/// `sequence` and `details` are JSON text, `timestamp` is in microseconds, UTC.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn frame_fields() -> Fields {
    Fields::from(vec![
        Field::new("declaring_class", DataType::Utf8, true),
        Field::new("method_name", DataType::Utf8, true),
        Field::new("file_name", DataType::Utf8, true),
        Field::new("line_number", DataType::Int64, true),
    ])
}

fn frame_item() -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(frame_fields()), true))
}

fn exception_fields() -> Fields {
    Fields::from(vec![
        Field::new("class_name", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, true),
        Field::new("stack", DataType::List(frame_item()), true),
    ])
}

fn exception_item() -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(exception_fields()), true))
}

fn error_fields() -> Fields {
    Fields::from(vec![
        Field::new("fatal", DataType::Boolean, true),
        Field::new("exceptions", DataType::List(exception_item()), true),
    ])
}

/// Events as rows of [`schema`], in the order given.
///
/// # Errors
/// `Internal` if an event cannot be written as JSON.
pub fn to_record_batch(events: &[Arc<Event>]) -> Result<RecordBatch> {
    let sequences = events.iter().map(|event| json(&event.sequence)).collect::<Result<Vec<_>>>()?;
    let details = events.iter().map(|event| json(&event.details)).collect::<Result<Vec<_>>>()?;
    let origins: Vec<&Origin> = events.iter().map(|event| &event.origin).collect();
    let timestamps = events.iter().map(|event| event.timestamp.timestamp_micros());
    let maturity = events.iter().map(|event| event.maturity_level.map(MaturityLevel::as_str));
    let columns: Vec<ArrayRef> = vec![
        texts(events.iter().map(|event| Some(event.id.as_str()))),
        texts(sequences.iter().map(|text| Some(text.as_str()))),
        Arc::new(StructArray::try_new(Origin::arrow_fields(), Origin::columns(&origins), None)?),
        Arc::new(TimestampMicrosecondArray::from_iter_values(timestamps).with_timezone("UTC")),
        texts(events.iter().map(|event| Some(event.message.as_str()))),
        texts(events.iter().map(|event| Some(event.level.as_str()))),
        texts(maturity),
        error_column(events)?,
        texts(details.iter().map(|text| Some(text.as_str()))),
        texts(events.iter().map(|event| Some(event.event_type()))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal("part of an event cannot be written as JSON").with_source(error))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn error_column(events: &[Arc<Event>]) -> Result<ArrayRef> {
    let errors: Vec<Option<&ErrorDetails>> = events.iter().map(|event| event.error.as_ref()).collect();
    let lists: Vec<&[Exception]> = errors.iter().map(|error| error.map_or(&[][..], |e| &e.exceptions)).collect();
    let exceptions = lists.concat();
    let stacks: Vec<&[StackFrame]> = exceptions.iter().map(|exception| exception.stack.as_slice()).collect();
    let exception_columns = vec![
        texts(exceptions.iter().map(|exception| Some(exception.class_name.as_str()))),
        texts(exceptions.iter().map(|exception| Some(exception.message.as_str()))),
        list(frame_item(), &stacks, frame_columns(&stacks.concat())?)?,
    ];
    let exception_rows = Arc::new(StructArray::try_new(exception_fields(), exception_columns, None)?);
    let columns = vec![
        Arc::new(errors.iter().map(|error| error.map(|e| e.fatal)).collect::<BooleanArray>()) as ArrayRef,
        list(exception_item(), &lists, exception_rows)?,
    ];
    let nulls: NullBuffer = errors.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    Ok(Arc::new(StructArray::try_new(error_fields(), columns, Some(nulls))?))
}

fn frame_columns(frames: &[StackFrame]) -> Result<ArrayRef> {
    let columns = vec![
        texts(frames.iter().map(|frame| frame.declaring_class.as_deref())),
        texts(frames.iter().map(|frame| frame.method_name.as_deref())),
        texts(frames.iter().map(|frame| frame.file_name.as_deref())),
        Arc::new(frames.iter().map(|frame| frame.line_number).collect::<Int64Array>()) as ArrayRef,
    ];
    Ok(Arc::new(StructArray::try_new(frame_fields(), columns, None)?))
}

fn list<T>(item: FieldRef, lists: &[&[T]], values: ArrayRef) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
    Ok(Arc::new(ListArray::try_new(item, offsets, values, None)?))
}

/// The events of rows of an event log, in order. Columns that are missing read as NULL.
///
/// # Errors
/// `Data` if a row has no id, timestamp or level, or holds JSON that is none.
pub fn from_record_batch(batch: &RecordBatch) -> Result<Vec<Event>> {
    let rows = batch.num_rows();
    let column = |name: &str, to: &DataType| match batch.column_by_name(name) {
        Some(array) => Ok(cast(array, to)?),
        None => Ok::<_, Error>(new_null_array(to, rows)),
    };
    let text = |name: &str| Ok::<_, Error>(Texts(column(name, &DataType::Utf8)?));
    let (id, sequence, message, level) = (text("id")?, text("sequence")?, text("message")?, text("level")?);
    let (maturity, details) = (text("maturity_level")?, text("details")?);
    let timestamp = column("timestamp", &timestamp_type())?;
    let origins = children(batch, "origin", &Origin::arrow_fields())?;
    let errors = batch.column_by_name("error").and_then(|array| array.as_any().downcast_ref::<StructArray>());
    (0..rows)
        .map(|row| {
            let level = level.get(row).ok_or_else(|| malformed(row, "level"))?;
            Ok(Event {
                id: id.get(row).ok_or_else(|| malformed(row, "id"))?.to_owned(),
                sequence: sequence.parse(row)?.unwrap_or_default(),
                origin: Origin::from_columns(|name| origins.get(name), row),
                timestamp: moment(&timestamp, row).ok_or_else(|| malformed(row, "timestamp"))?,
                message: message.get(row).unwrap_or_default().to_owned(),
                level: Level::from_word(level).ok_or_else(|| malformed(row, "level"))?,
                maturity_level: maturity.get(row).and_then(MaturityLevel::from_word),
                error: errors.map(|errors| error_at(errors, row)).transpose()?.flatten(),
                details: details.parse(row)?.ok_or_else(|| malformed(row, "details"))?,
            })
        })
        .collect()
}

fn malformed(row: usize, column: &str) -> Error {
    Error::data(format!("row {row} of the event log has no valid `{column}`"))
}

/// A text column.
struct Texts(ArrayRef);

impl Texts {
    fn get(&self, row: usize) -> Option<&str> {
        let array = self.0.as_any().downcast_ref::<StringArray>()?;
        array.is_valid(row).then(|| array.value(row))
    }

    fn parse<T: DeserializeOwned>(&self, row: usize) -> Result<Option<T>> {
        let parse = |text| {
            serde_json::from_str(text).map_err(|error| {
                Error::data(format!("row {row} of the event log holds invalid JSON")).with_source(error)
            })
        };
        self.get(row).map(parse).transpose()
    }
}

fn moment(timestamps: &ArrayRef, row: usize) -> Option<DateTime<chrono::Utc>> {
    let array = timestamps.as_any().downcast_ref::<TimestampMicrosecondArray>()?;
    array.is_valid(row).then(|| DateTime::from_timestamp_micros(array.value(row)))?
}

/// The fields of a struct column by name, in the types wanted.
struct Children(Vec<(String, ArrayRef)>);

impl Children {
    fn get(&self, name: &str) -> Option<ArrayRef> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, array)| Arc::clone(array))
    }
}

fn children(batch: &RecordBatch, name: &str, fields: &Fields) -> Result<Children> {
    let parent = batch.column_by_name(name).and_then(|array| array.as_any().downcast_ref::<StructArray>());
    let Some(parent) = parent else { return Ok(Children(Vec::new())) };
    let mut found = Vec::new();
    for field in fields {
        if let Some(array) = parent.column_by_name(field.name()) {
            found.push((field.name().clone(), cast(array, field.data_type())?));
        }
    }
    Ok(Children(found))
}

fn error_at(errors: &StructArray, row: usize) -> Result<Option<ErrorDetails>> {
    if errors.is_null(row) {
        return Ok(None);
    }
    let fatal = errors.column_by_name("fatal").and_then(|array| array.as_any().downcast_ref::<BooleanArray>());
    let fatal = fatal.is_some_and(|array| array.is_valid(row) && array.value(row));
    let Some(rows) = struct_items(errors, "exceptions", row) else {
        return Ok(Some(ErrorDetails { fatal, exceptions: Vec::new() }));
    };
    let class_name = Texts(text_child(&rows, "class_name")?);
    let message = Texts(text_child(&rows, "message")?);
    let exceptions = (0..rows.len())
        .map(|item| {
            Ok(Exception {
                class_name: class_name.get(item).unwrap_or_default().to_owned(),
                message: message.get(item).unwrap_or_default().to_owned(),
                stack: frames_at(&rows, item)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Some(ErrorDetails { fatal, exceptions }))
}

fn frames_at(exceptions: &StructArray, row: usize) -> Result<Vec<StackFrame>> {
    let Some(frames) = struct_items(exceptions, "stack", row) else { return Ok(Vec::new()) };
    let class = Texts(text_child(&frames, "declaring_class")?);
    let method = Texts(text_child(&frames, "method_name")?);
    let file = Texts(text_child(&frames, "file_name")?);
    let line = match frames.column_by_name("line_number") {
        Some(array) => cast(array, &DataType::Int64)?,
        None => new_null_array(&DataType::Int64, frames.len()),
    };
    let line = line.as_any().downcast_ref::<Int64Array>();
    Ok((0..frames.len())
        .map(|item| StackFrame {
            declaring_class: class.get(item).map(str::to_owned),
            method_name: method.get(item).map(str::to_owned),
            file_name: file.get(item).map(str::to_owned),
            line_number: line.filter(|array| array.is_valid(item)).map(|array| array.value(item)),
        })
        .collect())
}

fn text_child(parent: &StructArray, name: &str) -> Result<ArrayRef> {
    match parent.column_by_name(name) {
        Some(array) => Ok(cast(array, &DataType::Utf8)?),
        None => Ok(new_null_array(&DataType::Utf8, parent.len())),
    }
}

/// The structs of the list `name` in row `row`.
fn struct_items(parent: &StructArray, name: &str, row: usize) -> Option<StructArray> {
    let lists = parent.column_by_name(name)?.as_any().downcast_ref::<ListArray>()?;
    if lists.is_null(row) {
        return None;
    }
    lists.value(row).as_any().downcast_ref::<StructArray>().cloned()
}
