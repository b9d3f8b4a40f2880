//! Structs as lines of separated values, and back: `from_csv`, `to_csv`, `schema_of_csv`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimestampMicrosecondType};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, lit};

use super::form::{Env, Form, form};
use super::options::{self, Options, is_on};
use super::pattern::{Pattern, ZoneNames};
use super::udf::{Call, Function, Returns, TEXT, function};
use crate::cast::calendar::{self, DAY};
use crate::cast::{CastMode, cast_array, parse};
use crate::error::{Error, Result};
use crate::types::{holds_variant, sql_type_name, timestamp};

pub(super) const FORMS: &[Form] = &[form(&["schema_of_csv"], (1, 2), schema_of_csv)];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["from_csv"], (2, 3), Returns::Values(struct_type), from_csv),
    function(&["to_csv"], (1, 2), TEXT, to_csv),
];

/// How values are separated, quoted and written.
struct Format {
    separator: u8,
    quote: u8,
    escape: u8,
    null: String,
    trim_start: bool,
    trim_end: bool,
    date: Option<Pattern>,
    timestamp: Option<Pattern>,
}

impl Format {
    /// The format of options; `trims` is whether values lose the blanks around them unless told otherwise.
    fn new(options: &Options, trims: bool) -> Result<Self> {
        let byte = |names: [&str; 2], otherwise: u8| {
            let Some(text) = names.iter().find_map(|name| options.get(*name)) else { return Ok(otherwise) };
            match text.replace("\\t", "\t").as_bytes() {
                [byte] => Ok(*byte),
                _ => Err(Error::unsupported(format!("the CSV option `{}` of more than one byte", names[0]))),
            }
        };
        let pattern = |name: &str| options.get(name).map(|text| Pattern::new(text)).transpose();
        Ok(Self {
            separator: byte(["sep", "delimiter"], b',')?,
            quote: byte(["quote", "quote"], b'"')?,
            escape: byte(["escape", "escape"], b'\\')?,
            null: options.get("nullvalue").cloned().unwrap_or_default(),
            trim_start: is_on(options, "ignoreleadingwhitespace", trims),
            trim_end: is_on(options, "ignoretrailingwhitespace", trims),
            date: pattern("dateformat")?,
            timestamp: pattern("timestampformat")?,
        })
    }

    fn trim<'t>(&self, text: &'t str) -> &'t str {
        let text = if self.trim_start { text.trim_start() } else { text };
        if self.trim_end { text.trim_end() } else { text }
    }

    /// The values of one line; NULL where it says so.
    fn split(&self, line: &str) -> Vec<Option<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.separator)
            .quote(self.quote)
            .escape(Some(self.escape))
            .from_reader(line.as_bytes());
        let mut record = csv::StringRecord::new();
        if !reader.read_record(&mut record).unwrap_or(false) {
            return vec![None];
        }
        record
            .iter()
            .map(|value| self.trim(value))
            .map(|value| (value != self.null).then(|| value.to_owned()))
            .collect()
    }

    fn write(&self, value: &str, line: &mut String) {
        let value = self.trim(value);
        let special = [self.separator, self.quote, b'\n', b'\r'];
        let quote = char::from(self.quote);
        if !value.is_empty() && !value.bytes().any(|byte| special.contains(&byte)) {
            line.push_str(value);
            return;
        }
        // An empty text is told from NULL by its quotes.
        line.push(quote);
        for c in value.chars() {
            if c == quote || c == char::from(self.escape) {
                line.push(char::from(self.escape));
            }
            line.push(c);
        }
        line.push(quote);
    }
}

fn struct_type(_: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    match options::schema("from_csv", values)? {
        DataType::Struct(fields) => {
            if let Some(nested) = fields.iter().find(|field| field.data_type().is_nested()) {
                return Err(Error::user(format!(
                    "`from_csv` cannot read the field `{}` of type {}",
                    nested.name(),
                    sql_type_name(nested.data_type())
                ))
                .with_condition("UNSUPPORTED_DATATYPE"));
            }
            Ok(DataType::Struct(fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect()))
        }
        other => Err(Error::user(format!("the schema of `from_csv` must be a struct, not {}", sql_type_name(&other)))
            .with_condition("INVALID_SCHEMA.NON_STRUCT_TYPE")),
    }
}

/// What becomes of a line with values that do not fit.
#[derive(PartialEq)]
enum Mode {
    /// They are NULL, and the line is in the column for corrupt records.
    Permissive,
    FailFast,
}

fn from_csv(call: &Call<'_>) -> Result<ArrayRef> {
    let given = options::of_call(call, 2)?;
    let format = Format::new(&given, false)?;
    let mode = match given.get("mode").map_or("PERMISSIVE", String::as_str).to_ascii_uppercase().as_str() {
        "PERMISSIVE" => Mode::Permissive,
        "FAILFAST" => Mode::FailFast,
        other => {
            return Err(Error::user(format!("`from_csv` has no mode `{other}`"))
                .with_condition("PARSE_MODE_UNSUPPORTED")
                .with_help("Use PERMISSIVE or FAILFAST."));
        }
    };
    let corrupt = given.get("columnnameofcorruptrecord").map_or("_corrupt_record", String::as_str);
    let DataType::Struct(fields) = call.result() else { return Err(Error::internal("`from_csv` gives a struct")) };
    let lines = call.text(0)?;
    let read: Vec<usize> = (0..fields.len()).filter(|i| fields[*i].name() != corrupt).collect();
    let mut malformed = vec![false; lines.len()];
    let mut values: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(lines.len()); read.len()];
    for (row, line) in lines.iter().enumerate() {
        let mut split = line.map_or_else(Vec::new, |line| format.split(line)).into_iter();
        for column in &mut values {
            match split.next() {
                Some(value) => column.push(value),
                None => {
                    malformed[row] |= line.is_some();
                    column.push(None);
                }
            }
        }
        malformed[row] |= split.next().is_some();
    }
    let mut columns: Vec<ArrayRef> =
        fields.iter().map(|f| arrow::array::new_null_array(f.data_type(), lines.len())).collect();
    for (at, texts) in read.into_iter().zip(values) {
        let texts = StringArray::from(texts);
        let column = values_of(&texts, fields[at].data_type(), &format, call.tz())?;
        for (row, malformed) in malformed.iter_mut().enumerate() {
            *malformed |= texts.is_valid(row) && column.is_null(row);
        }
        columns[at] = column;
    }
    if mode == Mode::FailFast
        && let Some(row) = malformed.iter().position(|malformed| *malformed)
    {
        return Err(Error::data(format!("`{}` does not fit the schema of `from_csv`", lines.value(row)))
            .with_condition("MALFORMED_RECORD_IN_PARSING"));
    }
    if let Some((at, field)) = fields.find(corrupt)
        && field.data_type() == &DataType::Utf8
    {
        let line = |row: usize| malformed[row].then(|| lines.value(row));
        columns[at] = Arc::new((0..lines.len()).map(line).collect::<StringArray>());
    }
    let nulls: NullBuffer = (0..lines.len()).map(|row| lines.is_valid(row)).collect();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), lines.len())?))
}

/// Texts as values of a type; NULL where they are none.
fn values_of(texts: &StringArray, to: &DataType, format: &Format, tz: Tz) -> Result<ArrayRef> {
    let pattern = match to {
        DataType::Date32 => &format.date,
        DataType::Timestamp(..) => &format.timestamp,
        _ => &None,
    };
    if let Some(pattern) = pattern {
        let local_zone = if to == &timestamp() { tz } else { Tz::UTC };
        let read = |text: Option<&str>| match pattern.parse(text?)? {
            (local, Some(zone)) if to == &timestamp() => Some(zone.to_utc(local)),
            (local, _) => Some(calendar::from_local(local, local_zone)),
        };
        let micros: arrow::array::PrimitiveArray<TimestampMicrosecondType> = texts.iter().map(read).collect();
        let times: ArrayRef = if to == &timestamp() { Arc::new(micros.with_timezone("UTC")) } else { Arc::new(micros) };
        return cast_array(&times, to, CastMode::Try, tz);
    }
    let plain = |text: &&str| match to {
        // A cast would cut what follows the point.
        integer if integer.is_integer() => parse::integer(text, false).is_some(),
        DataType::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
        _ => true,
    };
    let texts: ArrayRef = Arc::new(texts.iter().map(|text| text.filter(plain)).collect::<StringArray>());
    cast_array(&texts, to, CastMode::Try, tz)
}

fn to_csv(call: &Call<'_>) -> Result<ArrayRef> {
    let given = options::of_call(call, 1)?;
    let format = Format::new(&given, true)?;
    let values = call.array(0)?;
    let Some(values) = values.as_struct_opt() else {
        return Err(Error::user(format!("`to_csv` cannot write {}", sql_type_name(values.data_type())))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help("Give it a STRUCT."));
    };
    if holds_variant(values.data_type()) {
        return Err(Error::user(format!("`to_csv` cannot write {}", sql_type_name(values.data_type())))
            .with_condition("DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE")
            .with_help("Take values of one type out of the VARIANT first, or write it by `to_json`."));
    }
    let columns = values.columns().iter().map(|column| texts_of(column, &format, call.tz()));
    let columns = columns.collect::<Result<Vec<StringArray>>>()?;
    let line = |row: usize| {
        if values.is_null(row) {
            return None;
        }
        let mut line = String::new();
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                line.push(char::from(format.separator));
            }
            if column.is_valid(row) {
                format.write(column.value(row), &mut line);
            } else {
                line.push_str(&format.null);
            }
        }
        Some(line)
    };
    Ok(Arc::new((0..call.rows()).map(line).collect::<StringArray>()))
}

fn texts_of(column: &ArrayRef, format: &Format, tz: Tz) -> Result<StringArray> {
    let standard;
    let (pattern, zoned) = match column.data_type() {
        DataType::Date32 => (format.date.as_ref(), false),
        DataType::Timestamp(_, zone) => {
            let zoned = zone.is_some();
            standard = Pattern::new(if zoned { "yyyy-MM-dd'T'HH:mm:ss.SSSXXX" } else { "yyyy-MM-dd'T'HH:mm:ss.SSS" })?;
            (Some(format.timestamp.as_ref().unwrap_or(&standard)), zoned)
        }
        _ => (None, false),
    };
    let Some(pattern) = pattern else {
        let text = cast_array(column, &DataType::Utf8, CastMode::Lenient, tz)?;
        return Ok(text.as_string::<i32>().clone());
    };
    let micros: Vec<Option<i64>> = match column.data_type() {
        DataType::Date32 => column
            .as_primitive::<arrow::datatypes::Date32Type>()
            .iter()
            .map(|d| d.map(|d| i64::from(d) * DAY))
            .collect(),
        _ => column.as_primitive::<TimestampMicrosecondType>().iter().collect(),
    };
    let write = |micros: i64| {
        let local = if zoned { calendar::to_local(micros, tz) } else { micros };
        let mut text = String::new();
        pattern.format(local, local - micros, ZoneNames { tz, micros }, &mut text);
        text
    };
    Ok(micros.into_iter().map(|micros| micros.map(write)).collect())
}

/// The schema of one line, its columns named `_c0`, `_c1`, ….
fn schema_of_csv(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let not_constant = || {
        Error::user("the argument of `schema_of_csv` must be a constant text")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")
    };
    let line = args.first().and_then(options::text).ok_or_else(not_constant)?;
    let given = args.get(1).map(|map| options::of_expr(map, env)).transpose()?.unwrap_or_default();
    Ok(lit(schema_of(line, &given, env.conf.time_zone)?))
}

/// What `schema_of_csv` gives for a line.
pub(super) fn schema_of(line: &str, options: &Options, tz: Tz) -> Result<String> {
    let format = Format::new(options, false)?;
    let field = |(i, value): (usize, Option<String>)| {
        Field::new(format!("_c{i}"), inferred(value.as_deref(), &format, tz), true)
    };
    let fields: Fields = format.split(line).into_iter().enumerate().map(field).collect();
    Ok(sql_type_name(&DataType::Struct(fields)))
}

/// The narrowest type that reads a value, tried in Spark's order.
fn inferred(value: Option<&str>, format: &Format, tz: Tz) -> DataType {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return DataType::Utf8 };
    let reads = |to: &DataType| {
        let text = StringArray::from(vec![value]);
        values_of(&text, to, format, tz).is_ok_and(|values| values.is_valid(0))
    };
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let whole = value.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit());
    let candidates = [DataType::Int32, DataType::Int64];
    if let Some(found) = candidates.into_iter().find(reads) {
        return found;
    }
    if whole && (1..=38).contains(&digits) {
        return DataType::Decimal128(digits as u8, 0);
    }
    let others = [DataType::Float64, DataType::Date32, timestamp(), DataType::Boolean];
    others.into_iter().find(reads).unwrap_or(DataType::Utf8)
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn lines_are_read() {
        check_all(&[
            ("from_csv('1, 0.8', 'a INT, b DOUBLE')", "{1, 0.8}"),
            ("from_csv('1|x', 'a INT, b STRING', map('sep', '|'))", "{1, x}"),
            ("from_csv('\"a,b\",2', 'a STRING, b INT')", "{a,b, 2}"),
            ("from_csv('1', 'a INT, b INT')", "{1, null}"),
            ("from_csv('1.5,x', 'a INT, b STRING')", "{null, x}"),
            ("from_csv(NULL, 'a INT')", "NULL"),
            ("from_csv('26/08/2015', 'd DATE', map('dateFormat', 'dd/MM/yyyy'))", "{2015-08-26}"),
            ("from_csv('x', 'a INT, _corrupt_record STRING')", "{null, x}"),
            ("from_csv('true,,z', 'a BOOLEAN, b STRING, c STRING')", "{true, null, z}"),
        ])
        .await;
        let malformed = Err("MALFORMED_RECORD_IN_PARSING");
        check("from_csv('x', 'a INT', map('mode', 'FAILFAST'))", malformed, malformed).await;
    }

    #[tokio::test]
    async fn structs_are_written() {
        check_all(&[
            ("to_csv(named_struct('a', 1, 'b', 2))", "1,2"),
            ("to_csv(named_struct('a', 'x,y', 'b', NULL, 'c', ''))", "\"x,y\",,\"\""),
            ("to_csv(named_struct('a', 'say \"hi\"'))", "\"say \\\"hi\\\"\""),
            ("to_csv(named_struct('a', NULL), map('nullValue', 'none'))", "none"),
            ("to_csv(named_struct('t', DATE '2015-08-26'), map('dateFormat', 'dd/MM/yyyy'))", "26/08/2015"),
            ("to_csv(named_struct('t', to_timestamp('2015-08-26')))", "2015-08-26T00:00:00.000Z"),
        ])
        .await;
    }

    #[tokio::test]
    async fn types_are_inferred() {
        check_all(&[
            ("schema_of_csv('1,abc')", "STRUCT<_c0: INT, _c1: STRING>"),
            ("schema_of_csv('1|a|true', map('sep', '|'))", "STRUCT<_c0: INT, _c1: STRING, _c2: BOOLEAN>"),
            ("schema_of_csv('3000000000,1.5,2020-01-01')", "STRUCT<_c0: BIGINT, _c1: DOUBLE, _c2: DATE>"),
        ])
        .await;
    }
}
