//! Functions of maps.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StringArray, StringBuilder, StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::{RowConverter, Rows, SortField};

use regex::Regex;

use super::lists::element_type;
use super::string::java_regex;
use super::udf::{ANY, BOOLEAN, Call, Function, Returns, function};
use crate::coercion::types::{wider, widest};
use crate::error::{Error, Result};
use crate::types::{array, canonical, map, sql_type_name};

/// `map(key, value, …)`
pub(super) const MAP: Function = function(&["map"], (0, ANY), Returns::Types(map_type), build);

pub(super) const FUNCTIONS: &[Function] = &[
    MAP,
    function(&["map_from_arrays"], (2, 2), Returns::Types(of_arrays), from_arrays),
    function(&["map_from_entries"], (1, 1), Returns::Types(of_entries), from_entries),
    function(&["map_concat"], (1, ANY), Returns::Types(of_maps), map_concat),
    function(&["map_keys"], (1, 1), Returns::Types(|t| Ok(array(key_value(t, 0)?.0))), |c| part(c, 0)),
    function(&["map_values"], (1, 1), Returns::Types(|t| Ok(array(key_value(t, 0)?.1))), |c| part(c, 1)),
    function(&["map_entries"], (1, 1), Returns::Types(entries_type), entries),
    function(&["map_contains_key"], (2, 2), BOOLEAN, contains_key),
    function(&["str_to_map"], (1, 3), Returns::Type(|| map(DataType::Utf8, DataType::Utf8)), of_text),
];

/// `str_to_map(text[, between pairs[, between key and value]])`; the delimiters are regular expressions.
fn of_text(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let delimiter = |i: usize, default: &'static str| match call.len() > i {
        true => call.text(i),
        false => Ok(StringArray::from_iter_values(std::iter::repeat_n(default, call.rows()))),
    };
    let (pairs, inner) = (delimiter(1, ",")?, delimiter(2, ":")?);
    let mut compiled: HashMap<&str, Regex> = HashMap::new();
    for pattern in pairs.iter().chain(&inner).flatten() {
        if !compiled.contains_key(pattern) {
            compiled.insert(pattern, java_regex(pattern)?);
        }
    }
    let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
    let (mut lengths, mut valid) = (Vec::with_capacity(call.rows()), Vec::with_capacity(call.rows()));
    for row in 0..call.rows() {
        let given = text.is_valid(row) && pairs.is_valid(row) && inner.is_valid(row);
        valid.push(given);
        let split = if given { compiled.get(pairs.value(row)).zip(compiled.get(inner.value(row))) } else { None };
        let mut length = 0;
        if let Some((between_pairs, between)) = split {
            for pair in between_pairs.split(text.value(row)) {
                let mut parts = between.splitn(pair, 2);
                keys.append_value(parts.next().unwrap_or_default());
                values.append_option(parts.next());
                length += 1;
            }
        }
        lengths.push(length);
    }
    assemble(call, Arc::new(keys.finish()), Arc::new(values.finish()), lengths, Some(NullBuffer::from(valid)))
}

/// The value of a key; NULL if the map has none.
pub(super) const MAP_VALUE: Function =
    function(&["map_value"], (2, 2), Returns::Types(|t| Ok(key_value(t, 0)?.1)), |call| {
        let (map, found) = lookup(call)?;
        Ok(take(map.values(), &found, None)?)
    });

/// The types of keys and values of an argument.
fn key_value(types: &[DataType], i: usize) -> Result<(DataType, DataType)> {
    match types.get(i).map(canonical) {
        Some(DataType::Map(entries, _)) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => Ok((kv[0].data_type().clone(), kv[1].data_type().clone())),
            other => Err(Error::internal(format!("the entries of a map are {other}"))),
        },
        Some(DataType::Null) | None => Ok((DataType::Null, DataType::Null)),
        Some(other) => Err(Error::user(format!("expected a MAP, but got {}", sql_type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    }
}

fn map_type(types: &[DataType]) -> Result<DataType> {
    if !types.len().is_multiple_of(2) {
        return Err(Error::user("`map` takes keys and values in turn, but got an odd number of arguments")
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
    }
    let met = |first: usize, what: &str| {
        let types: Vec<_> = types.iter().skip(first).step_by(2).cloned().collect();
        if types.is_empty() {
            return Ok(DataType::Null);
        }
        widest(&types, false).ok_or_else(|| {
            Error::user(format!("the {what} of `map` should all be of one type"))
                .with_condition("DATATYPE_MISMATCH.CREATE_MAP_VALUE_DIFF_TYPES")
                .with_help("Cast them to one type.")
        })
    };
    Ok(map(met(0, "keys")?, met(1, "values")?))
}

fn fields(data_type: &DataType) -> Result<(Arc<Field>, Fields)> {
    if let DataType::Map(entries, _) = data_type
        && let DataType::Struct(kv) = entries.data_type()
    {
        return Ok((Arc::clone(entries), kv.clone()));
    }
    Err(Error::internal(format!("a map was to become {data_type}")))
}

/// A map of keys and values whose keys are checked.
fn assemble(
    call: &Call<'_>,
    keys: ArrayRef,
    values: ArrayRef,
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    assembled(call.result(), (keys, values), lengths, nulls, call.last_key_wins())
}

/// As [`assemble`], for a result of that type. Of equal keys the last one's value stands at the first one's place,
/// or they are an error.
pub(super) fn assembled(
    result: &DataType,
    (keys, values): (ArrayRef, ArrayRef),
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
    last_wins: bool,
) -> Result<ArrayRef> {
    let (entries, kv) = fields(result)?;
    if keys.null_count() > 0 {
        return Err(Error::data("a key of a map is NULL").with_condition("NULL_MAP_KEY"));
    }
    let rows = rows_of(&keys)?;
    let (mut start, mut twice) = (0, false);
    let (mut kept_keys, mut kept_values, mut kept_lengths) = (Vec::new(), Vec::new(), Vec::new());
    for length in &lengths {
        let mut seen: HashMap<_, usize> = HashMap::with_capacity(*length);
        let first = kept_keys.len();
        for at in start..start + length {
            match seen.entry(rows.row(at)) {
                Entry::Occupied(place) => {
                    twice = true;
                    kept_values[*place.get()] = at as u32;
                }
                Entry::Vacant(place) => {
                    place.insert(kept_keys.len());
                    kept_keys.push(at as u32);
                    kept_values.push(at as u32);
                }
            }
        }
        kept_lengths.push(kept_keys.len() - first);
        start += length;
    }
    if twice && !last_wins {
        return Err(Error::data("a key is twice in one map")
            .with_condition("DUPLICATED_MAP_KEY")
            .with_help("To keep the value that comes last, set spark.sql.mapKeyDedupPolicy to LAST_WIN."));
    }
    let (keys, values, lengths) = match twice {
        true => (
            take(&keys, &UInt32Array::from(kept_keys), None)?,
            take(&values, &UInt32Array::from(kept_values), None)?,
            kept_lengths,
        ),
        false => (keys, values, lengths),
    };
    let pairs = StructArray::try_new(kv, vec![keys, values], None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, nulls, false)?))
}

fn rows_of(keys: &ArrayRef) -> Result<Rows> {
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    Ok(converter.convert_columns(std::slice::from_ref(keys))?)
}

/// `map(key, value, …)`
fn build(call: &Call<'_>) -> Result<ArrayRef> {
    let (_, kv) = fields(call.result())?;
    let pairs = call.len() / 2;
    let column = |first: usize| -> Result<ArrayRef> {
        let to = kv[first].data_type();
        if pairs == 0 {
            return Ok(arrow::array::new_empty_array(to));
        }
        let columns = (0..pairs).map(|i| call.cast(2 * i + first, to)).collect::<Result<Vec<_>>>()?;
        let columns: Vec<_> = columns.iter().map(AsRef::as_ref).collect();
        let order: Vec<_> = (0..call.rows()).flat_map(|row| (0..pairs).map(move |i| (i, row))).collect();
        Ok(interleave(&columns, &order)?)
    };
    assemble(call, column(0)?, column(1)?, vec![pairs; call.rows()], None)
}

fn of_arrays(types: &[DataType]) -> Result<DataType> {
    let element = |i: usize| types.get(i).map_or(Ok(DataType::Null), element_type);
    Ok(map(element(0)?, element(1)?))
}

/// The elements of a list's valid rows, one after the other.
fn elements(list: &ListArray, keep: &NullBuffer) -> Result<(ArrayRef, Vec<usize>)> {
    let bounds = list.offsets().windows(2).enumerate();
    let ranges: Vec<_> =
        bounds.map(|(row, b)| if keep.is_valid(row) { b[0] as u32..b[1] as u32 } else { 0..0 }).collect();
    let lengths = ranges.iter().map(|range| range.len()).collect();
    let indices: UInt32Array = ranges.into_iter().flatten().collect::<Vec<_>>().into();
    Ok((take(list.values(), &indices, None)?, lengths))
}

fn from_arrays(call: &Call<'_>) -> Result<ArrayRef> {
    let (_, kv) = fields(call.result())?;
    let list = |i: usize| call.cast(i, &array(kv[i].data_type().clone()));
    let (keys, values) = (list(0)?, list(1)?);
    let (keys, values) = (keys.as_list::<i32>(), values.as_list::<i32>());
    let valid: Vec<bool> = (0..call.rows()).map(|row| keys.is_valid(row) && values.is_valid(row)).collect();
    let valid = NullBuffer::from(valid);
    let (keys, lengths) = elements(keys, &valid)?;
    let (values, others) = elements(values, &valid)?;
    if lengths != others {
        return Err(
            Error::data("`map_from_arrays` needs as many values as keys").with_condition("_LEGACY_ERROR_TEMP_2128")
        );
    }
    assemble(call, keys, values, lengths, Some(valid))
}

fn of_entries(types: &[DataType]) -> Result<DataType> {
    match types.first().map_or(Ok(DataType::Null), element_type)? {
        DataType::Struct(kv) if kv.len() == 2 => Ok(map(kv[0].data_type().clone(), kv[1].data_type().clone())),
        other => {
            Err(Error::user(format!("`map_from_entries` needs an array of pairs, but got {}", sql_type_name(&other)))
                .with_condition("DATATYPE_MISMATCH.MAP_FROM_ENTRIES_WRONG_TYPE"))
        }
    }
}

fn from_entries(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = call.array(0)?;
    let lists = crate::cast::cast_array(&lists, &canonical(lists.data_type()), call.mode(), call.tz())?;
    let lists = lists.as_list::<i32>();
    let pairs = lists.values().as_struct();
    let valid: Vec<bool> = (0..call.rows())
        .map(|row| {
            let within = lists.offsets()[row] as usize..lists.offsets()[row + 1] as usize;
            lists.is_valid(row) && within.into_iter().all(|at| pairs.is_valid(at))
        })
        .collect();
    let valid = NullBuffer::from(valid);
    let (entries, lengths) = elements(lists, &valid)?;
    let entries = entries.as_struct();
    assemble(call, Arc::clone(entries.column(0)), Arc::clone(entries.column(1)), lengths, Some(valid))
}

fn of_maps(types: &[DataType]) -> Result<DataType> {
    let mut met = (DataType::Null, DataType::Null);
    for i in 0..types.len() {
        let (key, value) = key_value(types, i)?;
        let (Some(key), Some(value)) = (wider(&met.0, &key, false), wider(&met.1, &value, false)) else {
            return Err(Error::user("the maps of `map_concat` should all be of one type")
                .with_condition("DATATYPE_MISMATCH.MAP_CONCAT_DIFF_TYPES"));
        };
        met = (key, value);
    }
    Ok(map(met.0, met.1))
}

fn map_concat(call: &Call<'_>) -> Result<ArrayRef> {
    let maps = (0..call.len()).map(|i| call.cast(i, call.result())).collect::<Result<Vec<_>>>()?;
    let maps: Vec<&MapArray> = maps.iter().map(|map| map.as_map()).collect();
    let valid: Vec<bool> = (0..call.rows()).map(|row| maps.iter().all(|map| map.is_valid(row))).collect();
    let mut indices: Vec<u32> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows());
    for (row, complete) in valid.iter().enumerate() {
        let (mut base, before) = (0, indices.len());
        for map in &maps {
            if *complete {
                indices.extend(base + map.offsets()[row] as u32..base + map.offsets()[row + 1] as u32);
            }
            base += map.entries().len() as u32;
        }
        lengths.push(indices.len() - before);
    }
    let indices = UInt32Array::from(indices);
    let column = |f: fn(&MapArray) -> &ArrayRef| -> Result<ArrayRef> {
        let all: Vec<_> = maps.iter().map(|map| f(map).as_ref()).collect();
        Ok(take(&concat(&all)?, &indices, None)?)
    };
    assemble(call, column(MapArray::keys)?, column(MapArray::values)?, lengths, Some(valid.into()))
}

fn given(call: &Call<'_>) -> Result<ArrayRef> {
    let map = call.array(0)?;
    crate::cast::cast_array(&map, &canonical(map.data_type()), call.mode(), call.tz())
}

/// The keys (0) or the values (1).
fn part(call: &Call<'_>, column: usize) -> Result<ArrayRef> {
    let map = given(call)?;
    let DataType::List(field) = call.result() else {
        return Err(Error::internal("the keys of a map are not an array"));
    };
    if map.data_type() == &DataType::Null {
        return Ok(arrow::array::new_null_array(call.result(), call.rows()));
    }
    let map = map.as_map();
    let values = Arc::clone(map.entries().column(column));
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), map.offsets().clone(), values, map.nulls().cloned())?))
}

fn entries_type(types: &[DataType]) -> Result<DataType> {
    let (key, value) = key_value(types, 0)?;
    let kv = vec![Field::new("key", key, false), Field::new("value", value, true)];
    Ok(array(DataType::Struct(kv.into())))
}

fn entries(call: &Call<'_>) -> Result<ArrayRef> {
    let map = given(call)?;
    let map = map.as_map();
    let DataType::List(field) = call.result() else {
        return Err(Error::internal("the entries of a map are not an array"));
    };
    let DataType::Struct(kv) = field.data_type() else {
        return Err(Error::internal("the entries of a map are not structs"));
    };
    let pairs = StructArray::try_new(kv.clone(), map.entries().columns().to_vec(), None)?;
    let offsets = map.offsets().clone();
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, Arc::new(pairs), map.nulls().cloned())?))
}

/// The map of argument 0, and per row where the key of argument 1 is among its entries.
fn lookup(call: &Call<'_>) -> Result<(MapArray, UInt32Array)> {
    let map = given(call)?;
    let map = map.as_map();
    let wanted = call.cast(1, map.keys().data_type())?;
    let both = rows_of(&concat(&[map.keys().as_ref(), wanted.as_ref()])?)?;
    let first = map.keys().len();
    let found = |row: usize| {
        if map.is_null(row) || wanted.is_null(row) {
            return None;
        }
        let mut within = map.offsets()[row] as usize..map.offsets()[row + 1] as usize;
        within.find(|at| both.row(*at) == both.row(first + row)).map(|at| at as u32)
    };
    Ok((map.clone(), (0..call.rows()).map(found).collect()))
}

fn contains_key(call: &Call<'_>) -> Result<ArrayRef> {
    let (map, found) = lookup(call)?;
    let wanted = call.array(1)?;
    let contains = |row: usize| (map.is_valid(row) && wanted.is_valid(row)).then(|| found.is_valid(row));
    Ok(Arc::new((0..call.rows()).map(contains).collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("map('a', 1, 'b', 2)", "{a -> 1, b -> 2}"),
            ("map('a', 1, 'b', 2.5)", "{a -> 1.0, b -> 2.5}"),
            ("map_from_arrays(array('a', 'b'), array(1, 2))", "{a -> 1, b -> 2}"),
            ("map_from_entries(array(named_struct('k', 'a', 'v', 1)))", "{a -> 1}"),
            ("map_concat(map('a', 1), map('b', 2))", "{a -> 1, b -> 2}"),
            ("map_keys(map('a', 1, 'b', 2))", "[a, b]"),
            ("map_values(map('a', 1, 'b', 2))", "[1, 2]"),
            ("map_entries(map('a', 1))", "[{a, 1}]"),
            ("map_contains_key(map('a', 1), 'a')", "true"),
            ("map_contains_key(map('a', 1), 'b')", "false"),
            ("element_at(map('a', 1), 'a')", "1"),
            ("element_at(map('a', 1), 'b')", "NULL"),
            ("size(map('a', 1))", "1"),
        ])
        .await;
    }

    #[tokio::test]
    async fn keys_are_unique_and_not_null() {
        let twice = Err("DUPLICATED_MAP_KEY");
        check("map('a', 1, 'a', 2)", twice, twice).await;
        let null = Err("NULL_MAP_KEY");
        check("map(CAST(NULL AS STRING), 1)", null, null).await;
    }
}
