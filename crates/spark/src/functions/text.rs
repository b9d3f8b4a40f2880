//! Text by position, padding, joining, and regular expressions that find several matches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::functions::{string as df, unicode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion_spark::function::string as spark;

use super::form::{Env, Form, Want, form, wraps};
use super::string::{positions, regex};
use super::udf::{ANY, BOOLEAN, Call, Function, INT, Returns, TEXT, function};
use crate::error::{Error, Result};
use crate::types::{array, canonical};

const T: Want = Want::Text;

pub(super) const FORMS: &[Form] = &[
    wraps(&["btrim"], df::btrim, &[T], None),
    form(&["trim"], (1, 2), |args, env| trimmed(df::btrim(), args, env)),
    form(&["ltrim"], (1, 2), |args, env| trimmed(df::ltrim(), args, env)),
    form(&["rtrim"], (1, 2), |args, env| trimmed(df::rtrim(), args, env)),
    wraps(&["translate"], unicode::translate, &[T], None),
    wraps(&["octet_length"], df::octet_length, &[T], Some(|| DataType::Int32)),
    wraps(&["bit_length"], df::bit_length, &[T], Some(|| DataType::Int32)),
    wraps(&["ascii"], df::ascii, &[T], Some(|| DataType::Int32)),
    wraps(&["find_in_set"], unicode::find_in_set, &[T], Some(|| DataType::Int32)),
    wraps(&["startswith"], df::starts_with, &[T], None),
    wraps(&["endswith"], df::ends_with, &[T], None),
    wraps(&["contains"], df::contains, &[T], None),
    wraps(&["soundex"], spark::soundex, &[T], None),
    wraps(&["space"], spark::space, &[Want::Int], None),
    wraps(&["luhn_check"], spark::luhn_check, &[T], None),
];

/// `trim(text)`, `trim(characters, text)`: what is cut off comes first, unlike in `btrim`.
fn trimmed(function: Arc<ScalarUDF>, args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let args = args.into_iter().rev().map(|arg| env.cast(arg, &DataType::Utf8)).collect::<Result<_>>()?;
    env.cast(Expr::ScalarFunction(ScalarFunction::new_udf(function, args)), &DataType::Utf8)
}

/// `substring(text or bytes, start[, length])`
pub(super) const SUBSTRING: Function =
    function(&["substring", "substr"], (2, 3), Returns::Types(text_or_bytes), substring);

pub(super) const FUNCTIONS: &[Function] = &[
    SUBSTRING,
    function(&["left"], (2, 2), TEXT, |c| by_length(c, |text, n| text.chars().take(n).collect())),
    function(&["right"], (2, 2), TEXT, |c| {
        by_length(c, |text, n| {
            let skip = text.chars().count().saturating_sub(n);
            text.chars().skip(skip).collect()
        })
    }),
    function(&["length", "len", "char_length", "character_length"], (1, 1), INT, length),
    function(&["lpad"], (2, 3), Returns::Types(text_or_bytes), |c| pad(c, true)),
    function(&["rpad"], (2, 3), Returns::Types(text_or_bytes), |c| pad(c, false)),
    function(&["repeat"], (2, 2), TEXT, |c| by_length(c, |text, n| text.repeat(n))),
    function(&["replace"], (2, 3), TEXT, replace),
    function(&["concat_ws"], (1, ANY), TEXT, concat_ws),
    function(&["substring_index"], (3, 3), TEXT, substring_index),
    function(&["split_part"], (3, 3), TEXT, split_part),
    function(&["locate", "position"], (2, 3), INT, |c| match c.len() {
        3 => located(c),
        _ => positions(&c.text(1)?, &c.text(0)?),
    }),
    function(&["charindex"], (2, 3), INT, |c| match c.len() {
        3 => located(c),
        _ => positions(&c.text(1)?, &c.text(0)?),
    }),
    function(&["levenshtein"], (2, 3), INT, |c| {
        let (a, b) = (c.text(0)?, c.text(1)?);
        let most = if c.len() == 3 { Some(c.cast(2, &DataType::Int32)?) } else { None };
        let distance = |row: usize| -> Option<i32> {
            let given = a.is_valid(row) && b.is_valid(row) && most.as_ref().is_none_or(|most| most.is_valid(row));
            let distance = given.then(|| strsim::levenshtein(a.value(row), b.value(row)) as i32)?;
            let most = most.as_ref().map_or(i32::MAX, |most| most.as_primitive::<Int32Type>().value(row));
            // A distance above the threshold is not told.
            Some(if distance > most { -1 } else { distance })
        };
        Ok(Arc::new((0..c.rows()).map(distance).collect::<Int32Array>()))
    }),
    function(&["char", "chr"], (1, 1), TEXT, character),
    function(&["elt"], (2, ANY), TEXT, elt),
    function(&["overlay"], (3, 4), TEXT, overlay),
    function(&["regexp_extract_all"], (2, 3), Returns::Type(|| array(DataType::Utf8)), extract_all).compiles(1),
    function(&["regexp_count"], (2, 2), INT, |c| {
        let Some(regex) = regex(c)? else { return Ok(nulls(c)) };
        let count = |text: Option<&str>| text.map(|text| regex.find_iter(text).count() as i32);
        Ok(Arc::new(c.text(0)?.iter().map(count).collect::<Int32Array>()))
    })
    .compiles(1),
    function(&["regexp_instr"], (2, 3), INT, |c| {
        let Some(regex) = regex(c)? else { return Ok(nulls(c)) };
        let at = |text: Option<&str>| {
            let text = text?;
            Some(regex.find(text).map_or(0, |found| text[..found.start()].chars().count() as i32 + 1))
        };
        Ok(Arc::new(c.text(0)?.iter().map(at).collect::<Int32Array>()))
    })
    .compiles(1),
    function(&["regexp_substr"], (2, 2), TEXT, |c| {
        let Some(regex) = regex(c)? else { return Ok(nulls(c)) };
        let found = |text: Option<&str>| regex.find(text?).map(|found| found.as_str().to_owned());
        Ok(Arc::new(c.text(0)?.iter().map(found).collect::<StringArray>()))
    })
    .compiles(1),
    function(&["is_valid_utf8"], (1, 1), BOOLEAN, |c| {
        let bytes = c.cast(0, &DataType::Binary)?;
        let valid = |bytes: Option<&[u8]>| bytes.map(|bytes| std::str::from_utf8(bytes).is_ok());
        Ok(Arc::new(bytes.as_binary::<i32>().iter().map(valid).collect::<arrow::array::BooleanArray>()))
    }),
];

fn nulls(call: &Call<'_>) -> ArrayRef {
    arrow::array::new_null_array(call.result(), call.rows())
}

fn numbers(call: &Call<'_>, i: usize) -> Result<Int32Array> {
    Ok(call.cast(i, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

fn text_or_bytes(types: &[DataType]) -> Result<DataType> {
    Ok(match types.first().map(canonical) {
        Some(DataType::Binary) => DataType::Binary,
        _ => DataType::Utf8,
    })
}

/// Which part of `size` characters a start (from 1, or from the end if negative) and a length mean.
fn window(size: usize, start: i32, length: Option<i32>) -> std::ops::Range<usize> {
    let size = size as i64;
    let first = match start {
        1.. => i64::from(start) - 1,
        0 => 0,
        _ => size + i64::from(start),
    };
    let last = length.map_or(size, |length| first + i64::from(length));
    let clamp = |at: i64| at.clamp(0, size) as usize;
    clamp(first)..clamp(last).max(clamp(first))
}

fn substring(call: &Call<'_>) -> Result<ArrayRef> {
    let starts = numbers(call, 1)?;
    let lengths = if call.len() == 3 { Some(numbers(call, 2)?) } else { None };
    let bounds = |row: usize, size: usize| {
        let length = match &lengths {
            Some(lengths) if lengths.is_null(row) => return None,
            Some(lengths) => Some(lengths.value(row)),
            None => None,
        };
        starts.is_valid(row).then(|| window(size, starts.value(row), length))
    };
    if call.result() == &DataType::Binary {
        let bytes = call.cast(0, &DataType::Binary)?;
        let bytes = bytes.as_binary::<i32>();
        let cut = |row| {
            let value = bytes.is_valid(row).then(|| bytes.value(row))?;
            bounds(row, value.len()).map(|within| &value[within])
        };
        return Ok(Arc::new((0..call.rows()).map(cut).collect::<arrow::array::BinaryArray>()));
    }
    let text = call.text(0)?;
    let cut = |row| {
        let value = text.is_valid(row).then(|| text.value(row))?;
        if value.is_ascii() {
            return bounds(row, value.len()).map(|within| value[within].to_owned());
        }
        let within = bounds(row, value.chars().count())?;
        Some(value.chars().skip(within.start).take(within.len()).collect())
    };
    Ok(Arc::new((0..call.rows()).map(cut).collect::<StringArray>()))
}

/// A text from a text and a number; a negative number counts as 0.
fn by_length(call: &Call<'_>, f: impl Fn(&str, usize) -> String) -> Result<ArrayRef> {
    let (text, lengths) = (call.text(0)?, numbers(call, 1)?);
    let pairs = text.iter().zip(&lengths);
    let of = |(text, n): (Option<&str>, Option<i32>)| Some(f(text?, usize::try_from(n?).unwrap_or(0)));
    Ok(Arc::new(pairs.map(of).collect::<StringArray>()))
}

/// Characters of text, bytes of binary.
fn length(call: &Call<'_>) -> Result<ArrayRef> {
    if canonical(call.array(0)?.data_type()) == DataType::Binary {
        let bytes = call.cast(0, &DataType::Binary)?;
        let size = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.len() as i32);
        return Ok(Arc::new(bytes.as_binary::<i32>().iter().map(size).collect::<Int32Array>()));
    }
    let size =
        |text: Option<&str>| text.map(|text| if text.is_ascii() { text.len() } else { text.chars().count() } as i32);
    Ok(Arc::new(call.text(0)?.iter().map(size).collect::<Int32Array>()))
}

/// Text, or bytes, that are too long are cut; an empty padding changes nothing else.
fn pad(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
    if call.result() == &DataType::Binary {
        return pad_bytes(call, left);
    }
    let (text, lengths) = (call.text(0)?, numbers(call, 1)?);
    let paddings = if call.len() == 3 { Some(call.text(2)?) } else { None };
    let padded = |row: usize| {
        if text.is_null(row) || lengths.is_null(row) || paddings.as_ref().is_some_and(|p| p.is_null(row)) {
            return None;
        }
        let (value, length) = (text.value(row), usize::try_from(lengths.value(row)).unwrap_or(0));
        let padding = paddings.as_ref().map_or(" ", |paddings| paddings.value(row));
        let size = value.chars().count();
        if size >= length {
            return Some(value.chars().take(length).collect());
        }
        let padding: String = padding.chars().cycle().take(length - size).collect();
        Some(if left { padding + value } else { value.to_owned() + &padding })
    };
    Ok(Arc::new((0..call.rows()).map(padded).collect::<StringArray>()))
}

/// As [`pad`], with zeros if nothing else is given.
fn pad_bytes(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let (bytes, lengths) = (call.cast(0, &DataType::Binary)?, numbers(call, 1)?);
    let bytes = bytes.as_binary::<i32>();
    let paddings = if call.len() == 3 { Some(call.cast(2, &DataType::Binary)?) } else { None };
    let paddings = paddings.as_ref().map(|paddings| paddings.as_binary::<i32>());
    let padded = |row: usize| {
        if bytes.is_null(row) || lengths.is_null(row) || paddings.is_some_and(|p| p.is_null(row)) {
            return None;
        }
        let (value, length) = (bytes.value(row), usize::try_from(lengths.value(row)).unwrap_or(0));
        let padding = paddings.map_or(&[0_u8][..], |paddings| paddings.value(row));
        let missing = length.saturating_sub(value.len());
        let padding = padding.iter().cycle().take(missing).copied();
        let value = value.iter().take(length).copied();
        Some(if left { padding.chain(value).collect::<Vec<u8>>() } else { value.chain(padding).collect() })
    };
    Ok(Arc::new((0..call.rows()).map(padded).collect::<arrow::array::BinaryArray>()))
}

fn replace(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, search) = (call.text(0)?, call.text(1)?);
    let with = if call.len() == 3 { Some(call.text(2)?) } else { None };
    let replaced = |row: usize| {
        if text.is_null(row) || search.is_null(row) || with.as_ref().is_some_and(|with| with.is_null(row)) {
            return None;
        }
        let (text, search) = (text.value(row), search.value(row));
        let with = with.as_ref().map_or("", |with| with.value(row));
        Some(if search.is_empty() { text.to_owned() } else { text.replace(search, with) })
    };
    Ok(Arc::new((0..call.rows()).map(replaced).collect::<StringArray>()))
}

/// Texts and arrays of text with a separator between them; NULLs are passed over.
fn concat_ws(call: &Call<'_>) -> Result<ArrayRef> {
    let separators = call.text(0)?;
    let mut lists = Vec::new();
    for i in 1..call.len() {
        let argument = call.array(i)?;
        lists.push(match canonical(argument.data_type()) {
            DataType::List(_) => (call.cast(i, &array(DataType::Utf8))?, true),
            _ => (call.cast(i, &DataType::Utf8)?, false),
        });
    }
    let mut builder = StringBuilder::new();
    for row in 0..call.rows() {
        if separators.is_null(row) {
            builder.append_null();
            continue;
        }
        let mut parts: Vec<&str> = Vec::new();
        for (argument, is_list) in &lists {
            if argument.is_null(row) {
                continue;
            }
            if *is_list {
                let list = argument.as_list::<i32>();
                let values = list.values().as_string::<i32>();
                let within = list.offsets()[row] as usize..list.offsets()[row + 1] as usize;
                parts.extend(within.filter(|at| values.is_valid(*at)).map(|at| values.value(at)));
            } else {
                parts.push(argument.as_string::<i32>().value(row));
            }
        }
        builder.append_value(parts.join(separators.value(row)));
    }
    Ok(Arc::new(builder.finish()))
}

/// What stands before the n-th delimiter, or after the n-th from the end.
fn substring_index(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, delimiters, counts) = (call.text(0)?, call.text(1)?, numbers(call, 2)?);
    let cut = |row: usize| {
        if text.is_null(row) || delimiters.is_null(row) || counts.is_null(row) {
            return None;
        }
        let (text, delimiter, count) = (text.value(row), delimiters.value(row), counts.value(row));
        if delimiter.is_empty() || count == 0 {
            return Some("");
        }
        let nth = count.unsigned_abs() as usize - 1;
        Some(match count {
            1.. => text.match_indices(delimiter).nth(nth).map_or(text, |(at, _)| &text[..at]),
            _ => text.rmatch_indices(delimiter).nth(nth).map_or(text, |(at, _)| &text[at + delimiter.len()..]),
        })
    };
    Ok(Arc::new((0..call.rows()).map(cut).collect::<StringArray>()))
}

fn split_part(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, delimiters, numbers) = (call.text(0)?, call.text(1)?, numbers(call, 2)?);
    if numbers.iter().flatten().any(|number| number == 0) {
        return Err(
            Error::data("`split_part`: the part is 0, but parts count from 1").with_condition("INVALID_INDEX_OF_ZERO")
        );
    }
    let part = |row: usize| {
        if text.is_null(row) || delimiters.is_null(row) || numbers.is_null(row) {
            return None;
        }
        let (text, delimiter, number) = (text.value(row), delimiters.value(row), numbers.value(row));
        let nth = number.unsigned_abs() as usize - 1;
        if delimiter.is_empty() {
            return Some(if nth == 0 { text } else { "" });
        }
        let found = if number > 0 { text.split(delimiter).nth(nth) } else { text.rsplit(delimiter).nth(nth) };
        Some(found.unwrap_or(""))
    };
    Ok(Arc::new((0..call.rows()).map(part).collect::<StringArray>()))
}

/// `locate(wanted, text, start)`
fn located(call: &Call<'_>) -> Result<ArrayRef> {
    let (wanted, text, starts) = (call.text(0)?, call.text(1)?, numbers(call, 2)?);
    let at = |row: usize| {
        if starts.is_null(row) {
            return Some(0);
        }
        if wanted.is_null(row) || text.is_null(row) {
            return None;
        }
        let Ok(skip @ 1..) = usize::try_from(starts.value(row)) else { return Some(0) };
        let text = text.value(row);
        if wanted.value(row).is_empty() {
            return Some(1);
        }
        let Some((from, _)) = text.char_indices().chain([(text.len(), ' ')]).nth(skip - 1) else { return Some(0) };
        let found = text[from..].find(wanted.value(row));
        Some(found.map_or(0, |found| text[..from + found].chars().count() as i32 + 1))
    };
    Ok(Arc::new((0..call.rows()).map(at).collect::<Int32Array>()))
}

fn character(call: &Call<'_>) -> Result<ArrayRef> {
    let codes = call.cast(0, &DataType::Int64)?;
    let character = |code: Option<i64>| {
        let code = code?;
        Some(if code < 0 { String::new() } else { char::from((code % 256) as u8).to_string() })
    };
    let codes = codes.as_primitive::<arrow::datatypes::Int64Type>();
    Ok(Arc::new(codes.iter().map(character).collect::<StringArray>()))
}

fn elt(call: &Call<'_>) -> Result<ArrayRef> {
    let chosen = numbers(call, 0)?;
    let texts = (1..call.len()).map(|i| call.text(i)).collect::<Result<Vec<_>>>()?;
    let pick =
        |row: usize| -> Result<Option<&str>> {
            if chosen.is_null(row) {
                return Ok(None);
            }
            let index = usize::try_from(chosen.value(row)).ok().filter(|at| (1..=texts.len()).contains(at));
            match index {
                Some(at) => Ok(texts[at - 1].is_valid(row).then(|| texts[at - 1].value(row))),
                None if call.ansi() => Err(Error::data(format!("`elt` has no value {}", chosen.value(row)))
                    .with_condition("INVALID_ARRAY_INDEX")),
                None => Ok(None),
            }
        };
    Ok(Arc::new((0..call.rows()).map(pick).collect::<Result<StringArray>>()?))
}

/// `overlay(text, with, position[, length])`
fn overlay(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, with, starts) = (call.text(0)?, call.text(1)?, numbers(call, 2)?);
    let lengths = if call.len() == 4 { Some(numbers(call, 3)?) } else { None };
    let laid = |row: usize| {
        if text.is_null(row) || with.is_null(row) || starts.is_null(row) {
            return None;
        }
        let (text, with, start) = (text.value(row), with.value(row), starts.value(row));
        let length = match &lengths {
            Some(lengths) if lengths.is_null(row) => return None,
            Some(lengths) if lengths.value(row) >= 0 => lengths.value(row),
            _ => with.chars().count() as i32,
        };
        // A start of zero or less counts as in `substring`.
        let size = text.chars().count();
        let cut = |within: std::ops::Range<usize>| text.chars().skip(within.start).take(within.len());
        let head: String = cut(window(size, 1, Some(start.saturating_sub(1)))).collect();
        let tail: String = cut(window(size, start.saturating_add(length), None)).collect();
        Some(head + with + &tail)
    };
    Ok(Arc::new((0..call.rows()).map(laid).collect::<StringArray>()))
}

fn extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let Some(regex) = regex(call)? else { return Ok(nulls(call)) };
    let text = call.text(0)?;
    let groups = if call.len() == 3 { numbers(call, 2)? } else { Int32Array::from_value(1, call.rows()) };
    let mut builder = ListBuilder::new(StringBuilder::new());
    for (text, group) in text.iter().zip(&groups) {
        let (Some(text), Some(group)) = (text, group) else {
            builder.append_null();
            continue;
        };
        let group = usize::try_from(group).ok().filter(|group| *group < regex.captures_len()).ok_or_else(|| {
            Error::user(format!("the regular expression `{regex}` has no group {group}"))
                .with_condition("INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX")
        })?;
        for found in regex.captures_iter(text) {
            builder.values().append_value(found.get(group).map_or("", |part| part.as_str()));
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn parts() {
        check_all(&[
            ("substring('Spark SQL', 5)", "k SQL"),
            ("substring('Spark SQL', -3)", "SQL"),
            ("substring('Spark SQL', 0, 3)", "Spa"),
            ("substring('Spark', -7, 4)", "Sp"),
            ("substr(123456, 2, 3)", "234"),
            ("left('Spark SQL', 3)", "Spa"),
            ("left('Spark', -1)", ""),
            ("right('Spark SQL', 3)", "SQL"),
            ("trim('  x ')", "x"),
            ("trim(5)", "5"),
            ("ltrim('  x')", "x"),
            ("rtrim('x  ')", "x"),
            ("length('Spärk ')", "6"),
            ("length(123)", "3"),
            ("substring_index('www.apache.org', '.', 2)", "www.apache"),
            ("substring_index('www.apache.org', '.', -1)", "org"),
            ("split_part('11.12.13', '.', 3)", "13"),
            ("split_part('11.12.13', '.', -1)", "13"),
            ("split_part('11.12.13', '.', 5)", ""),
            ("locate('bar', 'foobarbar', 5)", "7"),
            ("locate('', 'abc')", "1"),
            ("charindex('bar', 'foobar')", "4"),
            ("elt(2, 'a', 'b')", "b"),
            ("regexp_extract_all('100-200, 300-400', '(\\d+)-(\\d+)', 1)", "[100, 300]"),
            ("regexp_extract_all('a1b2', '\\d', 0)", "[1, 2]"),
            ("regexp_count('abcb', 'b')", "2"),
            ("regexp_instr('abcb', 'b')", "2"),
            ("regexp_substr('abcb', 'b.')", "bc"),
            ("regexp_like('abc', 'b')", "true"),
        ])
        .await;
    }

    #[tokio::test]
    async fn changes() {
        check_all(&[
            ("lpad('hi', 5, '?!')", "?!?hi"),
            ("lpad('hi', 1, '?')", "h"),
            ("lpad('hi', 4)", "  hi"),
            ("rpad(1, 3, '0')", "100"),
            ("translate('AaBbCc', 'abc', '12')", "A1B2C"),
            ("concat_ws('/', 'foo', NULL, 'bar')", "foo/bar"),
            ("concat_ws(',', array('a', NULL, 'b'), 'c')", "a,b,c"),
            ("concat_ws('-', 1, 2)", "1-2"),
            ("concat_ws('-')", ""),
            ("concat_ws(NULL, 'a')", "NULL"),
            ("replace('ABCabc', 'abc', 'DEF')", "ABCDEF"),
            ("replace('ABCabc', 'abc')", "ABC"),
            ("repeat('12', 2)", "1212"),
            ("overlay('Spark SQL', '_', 6)", "Spark_SQL"),
            ("overlay('Spark SQL', 'CORE', 7)", "Spark CORE"),
            ("format_string('Hello %s %d', 'x', 100)", "Hello x 100"),
            ("chr(65)", "A"),
            ("ascii('A')", "65"),
            ("levenshtein('kitten', 'sitting')", "3"),
            ("find_in_set('ab', 'abc,b,ab,c,def')", "3"),
            ("startswith('Spark', 'Sp')", "true"),
            ("endswith('Spark', 'rk')", "true"),
            ("contains('Spark', 'ar')", "true"),
            ("soundex('Miller')", "M460"),
            ("space(2)", "  "),
        ])
        .await;
    }
}
