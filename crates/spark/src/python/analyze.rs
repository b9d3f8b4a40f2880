//! The static method `analyze` of a table function in Python: which columns a call gives, and how it wants its table.
//!
//! It runs in a process of PySpark's own for it (`pyspark.sql.worker.analyze_udtf`), once per call that is planned.

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use datafusion::common::ScalarValue;

use super::function::{blocking, settings};
use super::relation::RelationFunction;
use super::worker::{Worker, bytes, int, pairs};
use crate::cast::{CastMode, cast_array};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::types::{data_type_to_json, schema_from_json};

const EXCEPTION: i32 = -2;
const END_OF_STREAM: i32 = -4;

/// An argument as `analyze` sees it.
#[derive(Debug, Clone)]
pub(crate) struct AnalyzedArgument {
    /// The name it is passed by.
    pub(crate) name: Option<String>,
    /// Its type: of a table the type of its rows.
    pub(crate) data_type: DataType,
    /// Its value, if it is a constant.
    pub(crate) value: Option<ScalarValue>,
    /// Whether it is a table.
    pub(crate) is_table: bool,
}

/// What `analyze` answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Analysis {
    /// The columns of the rows.
    pub(crate) schema: Schema,
    /// The whole answer, pickled: the constructor of the class may ask for it.
    pub(crate) pickled: Bytes,
    /// Whether all rows of the table are to come together.
    pub(crate) single_partition: bool,
    /// The expressions by which the table is to be partitioned.
    pub(crate) partition_by: Vec<String>,
    /// The expressions by which it is to be sorted: whether ascending, and whether NULLs come first if that is said.
    pub(crate) order_by: Vec<(String, bool, Option<bool>)>,
    /// The columns of the table that are wanted, with the names they are to have; all if there are none.
    pub(crate) select: Vec<(String, String)>,
}

/// Asks `analyze` about a call.
///
/// # Errors
/// `TABLE_VALUED_FUNCTION_FAILED_TO_ANALYZE_IN_PYTHON` (`User`) with the traceback, if it raises or the class has none.
pub(crate) fn analyze(
    function: &RelationFunction,
    arguments: &[AnalyzedArgument],
    conf: &SparkConf,
) -> Result<Analysis> {
    let mut out = Vec::with_capacity(4096);
    bytes(&mut out, function.python_version.as_bytes());
    // No shipped files, no broadcasts.
    bytes(&mut out, b"");
    int(&mut out, 0);
    out.push(0);
    int(&mut out, 0);
    pairs(&mut out, &settings(conf));
    bytes(&mut out, function.name.as_bytes());
    bytes(&mut out, &function.command);
    int(&mut out, arguments.len() as i32);
    for argument in arguments {
        bytes(&mut out, data_type_to_json(&argument.data_type).to_string().as_bytes());
        out.push(u8::from(argument.value.is_some()));
        if let Some(value) = &argument.value {
            let mut pickle = Vec::new();
            pickled(value, &mut pickle)?;
            pickle.push(b'.');
            bytes(&mut out, &pickle);
        }
        out.push(u8::from(argument.is_table));
        out.push(u8::from(argument.name.is_some()));
        if let Some(name) = &argument.name {
            bytes(&mut out, name.as_bytes());
        }
    }
    // The worker passes on what it has written only once it has read this.
    int(&mut out, END_OF_STREAM);
    blocking(|| function.workers.with_analyzer(|worker| worker.send_all(&out).and_then(|()| answer(worker))))
        .map_err(|error| error.context(format!("in `analyze` of the table function `{}`", function.name)))
}

fn answer(worker: &mut Worker) -> Result<Analysis> {
    let length = worker.read_int()?;
    if length == EXCEPTION {
        let traceback = worker.read_text()?;
        let last = traceback.trim_end().lines().last().unwrap_or("an exception").to_owned();
        return Err(Error::user(format!("`analyze` raised: {last}"))
            .with_condition("TABLE_VALUED_FUNCTION_FAILED_TO_ANALYZE_IN_PYTHON")
            .with_traceback(traceback));
    }
    let schema = String::from_utf8_lossy(&worker.read_bytes(length)?).into_owned();
    let length = worker.read_int()?;
    let pickled = Bytes::from(worker.read_bytes(length)?);
    let single_partition = worker.read_int()? == 1;
    let mut partition_by = Vec::new();
    for _ in 0..worker.read_int()? {
        partition_by.push(worker.read_text()?);
    }
    let mut order_by = Vec::new();
    for _ in 0..worker.read_int()? {
        let expression = worker.read_text()?;
        let ascending = worker.read_int()? == 1;
        let nulls_first = match worker.read_int()? {
            0 => None,
            first => Some(first == 1),
        };
        order_by.push((expression, ascending, nulls_first));
    }
    let mut select = Vec::new();
    for _ in 0..worker.read_int()? {
        select.push((worker.read_text()?, worker.read_text()?));
    }
    let schema = schema_from_json(&schema)?;
    Ok(Analysis { schema, pickled, single_partition, partition_by, order_by, select })
}

/// A constant in the oldest form of pickles, which is text: as PySpark keeps values of its type internally.
fn pickled(value: &ScalarValue, out: &mut Vec<u8>) -> Result<()> {
    if value.is_null() {
        out.push(b'N');
        return Ok(());
    }
    let text = match value {
        ScalarValue::Boolean(Some(value)) => format!("I0{}\n", u8::from(*value)),
        ScalarValue::Int8(_) | ScalarValue::Int16(_) | ScalarValue::Int32(_) | ScalarValue::Int64(_) => {
            format!("L{value}L\n")
        }
        ScalarValue::Date32(Some(days)) => format!("L{days}L\n"),
        ScalarValue::TimestampMicrosecond(Some(micros), _) | ScalarValue::DurationMicrosecond(Some(micros)) => {
            format!("L{micros}L\n")
        }
        ScalarValue::Float32(Some(value)) => format!("F{}\n", f64::from(*value)),
        ScalarValue::Float64(Some(value)) => format!("F{value}\n"),
        ScalarValue::Utf8(Some(value)) => unicode(value),
        ScalarValue::Binary(Some(value)) => {
            let latin: String = value.iter().copied().map(char::from).collect();
            format!("c_codecs\nencode\n({}{}tR", unicode(&latin), unicode("latin1"))
        }
        ScalarValue::Decimal128(..) => {
            let text = cast_array(&value.to_array()?, &DataType::Utf8, CastMode::Lenient, chrono_tz::UTC)?;
            let text = arrow::array::AsArray::as_string::<i32>(&text).value(0);
            format!("cdecimal\nDecimal\n({}tR", unicode(text))
        }
        ScalarValue::List(list) => {
            out.extend(b"(l");
            let elements = list.value(0);
            for i in 0..elements.len() {
                pickled(&ScalarValue::try_from_array(&elements, i)?, out)?;
                out.push(b'a');
            }
            return Ok(());
        }
        other => {
            let shown = crate::types::sql_type_name(&other.data_type());
            return Err(Error::unsupported(format!("a constant of type {shown} as an argument of `analyze`")));
        }
    };
    out.extend(text.as_bytes());
    Ok(())
}

/// A text as Python's raw Unicode escapes.
fn unicode(text: &str) -> String {
    let mut out = String::from("V");
    for c in text.chars() {
        match c as u32 {
            code @ (0 | 0x0a | 0x0d | 0x1a | 0x5c) => out.push_str(&format!("\\u{code:04x}")),
            code @ 0x20..=0x7e => out.extend(char::from_u32(code)),
            code @ 0..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(value: &ScalarValue) -> String {
        let mut out = Vec::new();
        pickled(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn constants_are_pickled_as_python_reads_them() {
        assert_eq!(text(&ScalarValue::Int32(None)), "N");
        assert_eq!(text(&ScalarValue::Boolean(Some(true))), "I01\n");
        assert_eq!(text(&ScalarValue::Int64(Some(-5))), "L-5L\n");
        assert_eq!(text(&ScalarValue::from("a\\b\né😀")), "Va\\u005cb\\u000a\\u00e9\\U0001f600\n");
        assert_eq!(text(&ScalarValue::Decimal128(Some(150), 5, 2)), "cdecimal\nDecimal\n(V1.50\ntR");
        assert_eq!(text(&ScalarValue::Binary(Some(vec![65, 255]))), "c_codecs\nencode\n(VA\\u00ff\nVlatin1\ntR");
    }
}
