//! Hashes, and bytes as text.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int32Array, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::functions::crypto;
use datafusion_spark::function::{hash, string};

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;

use super::form::{Form, Want, form, wraps};
use super::udf::{ANY, BINARY, Call, Function, INT, TEXT, function};
use crate::cast::cast_array;
use crate::error::{Error, Result};
use crate::types::{canonical, holds_variant, sql_type_name};

pub(super) const FORMS: &[Form] = &[
    wraps(&["md5"], crypto::md5, &[Want::Binary], None),
    wraps(&["sha1", "sha"], hash::sha1, &[Want::Binary], None),
    wraps(&["sha2"], hash::sha2, &[Want::Binary, Want::Int], None),
    wraps(&["crc32"], hash::crc32, &[Want::Binary], None),
    form(&["xxhash64"], (1, ANY), |args, env| {
        // Decimals that are too wide for a long are hashed as the bytes of the number.
        let hashed = |arg: Expr| match env.type_of(&arg)? {
            DataType::Decimal128(19.., _) => Ok(UNSCALED.call(vec![arg])),
            data_type if has_no_hash(&data_type) => Err(no_hash("xxhash64", &data_type)),
            _ => Ok(arg),
        };
        let args = args.into_iter().map(hashed).collect::<Result<Vec<_>>>()?;
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(hash::xxhash64(), args)))
    }),
    wraps(&["base64"], string::base64, &[Want::Binary], None),
    wraps(&["unbase64"], string::unbase64, &[Want::Text], None),
];

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["hash"], (1, ANY), INT, murmur),
    function(&["hex"], (1, 1), TEXT, hex),
    function(&["unhex"], (1, 1), BINARY, unhex),
    function(&["encode"], (2, 2), BINARY, encode),
];

/// The digits of a decimal as bytes.
const UNSCALED: Function = function(&["unscaled_bytes"], (1, 1), BINARY, |call| {
    let array = call.array(0)?;
    let bytes = array.as_primitive::<Decimal128Type>().iter().map(|value| value.map(shortest_bytes));
    Ok(Arc::new(bytes.collect::<arrow::array::BinaryArray>()))
});

fn has_no_hash(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Map(..)) || holds_variant(data_type)
}

fn no_hash(function: &str, data_type: &DataType) -> Error {
    let condition = match holds_variant(data_type) {
        true => "DATATYPE_MISMATCH.HASH_VARIANT_TYPE",
        false => "DATATYPE_MISMATCH.HASH_MAP_TYPE",
    };
    Error::user(format!("`{function}` of {} is not allowed", sql_type_name(data_type))).with_condition(condition)
}

/// `decode(bytes, charset)`
pub(super) const DECODE: Function = function(&["decode"], (2, 2), TEXT, decode);

/// Murmur3 over all arguments, each with the hash so far as its seed; NULLs are passed over.
fn murmur(call: &Call<'_>) -> Result<ArrayRef> {
    let mut hashes = vec![42_u32; call.rows()];
    for i in 0..call.len() {
        let array = call.array(i)?;
        let array = cast_array(&array, &canonical(array.data_type()), call.mode(), call.tz())?;
        if has_no_hash(array.data_type()) {
            return Err(no_hash("hash", array.data_type()));
        }
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = murmur_value(&array, row, *hash)?;
        }
    }
    Ok(Arc::new(hashes.into_iter().map(|hash| hash as i32).collect::<Int32Array>()))
}

fn murmur_value(array: &ArrayRef, row: usize, seed: u32) -> Result<u32> {
    use DataType as T;
    if array.is_null(row) {
        return Ok(seed);
    }
    let int = |value: i32| finish(mix(seed, value as u32), 4);
    let long = |value: i64| finish(mix(mix(seed, value as u32), (value >> 32) as u32), 8);
    Ok(match array.data_type() {
        T::Null => seed,
        T::Boolean => int(array.as_boolean().value(row).into()),
        T::Int8 => int(array.as_primitive::<Int8Type>().value(row).into()),
        T::Int16 => int(array.as_primitive::<Int16Type>().value(row).into()),
        T::Int32 => int(array.as_primitive::<Int32Type>().value(row)),
        T::Date32 => int(array.as_primitive::<Date32Type>().value(row)),
        T::Int64 => long(array.as_primitive::<Int64Type>().value(row)),
        T::Timestamp(..) => long(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        // Adding zero makes -0.0 and 0.0 one.
        T::Float32 => int((array.as_primitive::<Float32Type>().value(row) + 0.0).to_bits() as i32),
        T::Float64 => long((array.as_primitive::<Float64Type>().value(row) + 0.0).to_bits() as i64),
        T::Decimal128(precision, _) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            if *precision <= 18 { long(value as i64) } else { murmur_bytes(&shortest_bytes(value), seed) }
        }
        T::Utf8 => murmur_bytes(array.as_string::<i32>().value(row).as_bytes(), seed),
        T::Binary => murmur_bytes(array.as_binary::<i32>().value(row), seed),
        T::List(_) => {
            let list = array.as_list::<i32>().value(row);
            (0..list.len()).try_fold(seed, |seed, at| murmur_value(&list, at, seed))?
        }
        T::Struct(_) => {
            let columns = array.as_struct().columns();
            columns.iter().try_fold(seed, |seed, column| murmur_value(column, row, seed))?
        }
        other => {
            return Err(no_hash("hash", other));
        }
    })
}

/// The big-endian two's complement in as few bytes as it needs.
fn shortest_bytes(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let mut start = 0;
    while start < 15 && bytes[start] == sign && (bytes[start + 1] & 0x80) == (sign & 0x80) {
        start += 1;
    }
    bytes[start..].to_vec()
}

/// Words of four bytes, then the rest byte by byte as Spark does (not as in the original algorithm).
fn murmur_bytes(bytes: &[u8], seed: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(seed, |hash, word| mix(hash, u32::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| mix(hash, *byte as i8 as u32));
    finish(hash, bytes.len() as u32)
}

pub(super) fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

pub(super) fn finish(hash: u32, length: u32) -> u32 {
    let hash = hash ^ length;
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type == &DataType::Boolean
}

fn hex(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let mut builder = StringBuilder::new();
    if is_number(array.data_type()) {
        let longs = call.cast(0, &DataType::Int64)?;
        for value in longs.as_primitive::<Int64Type>() {
            builder.append_option(value.map(|value| format!("{value:X}")));
        }
        return Ok(Arc::new(builder.finish()));
    }
    let bytes = call.cast(0, &DataType::Binary)?;
    for value in bytes.as_binary::<i32>() {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        for byte in value {
            let _ = write!(builder, "{byte:02X}");
        }
        builder.append_value("");
    }
    Ok(Arc::new(builder.finish()))
}

fn unhex(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::new();
    for text in &call.text(0)? {
        let bytes = text.and_then(|text| {
            let odd = if text.len().is_multiple_of(2) { "" } else { "0" };
            let digits = format!("{odd}{text}").into_bytes();
            let (pairs, _) = digits.as_chunks::<2>();
            let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
            pairs.iter().map(|[high, low]| Some(digit(*high)? * 16 + digit(*low)?)).collect::<Option<Vec<u8>>>()
        });
        builder.append_option(bytes);
    }
    Ok(Arc::new(builder.finish()))
}

fn unknown_charset(charset: &str) -> Error {
    Error::user(format!("the character set `{charset}` is unknown"))
        .with_condition("INVALID_PARAMETER_VALUE.CHARSET")
        .with_help("Use US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE or UTF-16.")
}

fn malformed(charset: &str) -> Error {
    Error::data(format!("the bytes are no text in the character set `{charset}`"))
        .with_condition("MALFORMED_CHARACTER_CODING")
        .with_help("Use `try_validate_utf8` or `make_valid_utf8` on the bytes.")
}

fn encode(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, charsets) = (call.text(0)?, call.text(1)?);
    let mut builder = BinaryBuilder::new();
    for (text, charset) in text.iter().zip(&charsets) {
        let (Some(text), Some(charset)) = (text, charset) else {
            builder.append_null();
            continue;
        };
        let units = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        builder.append_value(match charset.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => text.as_bytes().to_vec(),
            "US-ASCII" => text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect(),
            "ISO-8859-1" => text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect(),
            "UTF-16BE" => units(u16::to_be_bytes),
            "UTF-16LE" => units(u16::to_le_bytes),
            "UTF-16" if text.is_empty() => Vec::new(),
            "UTF-16" => [vec![0xfe, 0xff], units(u16::to_be_bytes)].concat(),
            _ => return Err(unknown_charset(charset)),
        });
    }
    Ok(Arc::new(builder.finish()))
}

fn decode(call: &Call<'_>) -> Result<ArrayRef> {
    let (bytes, charsets) = (call.cast(0, &DataType::Binary)?, call.text(1)?);
    let decoded = |(bytes, charset): (Option<&[u8]>, Option<&str>)| -> Result<Option<String>> {
        let (Some(bytes), Some(charset)) = (bytes, charset) else { return Ok(None) };
        let units = |bytes: &[u8], order: fn([u8; 2]) -> u16| {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| order(*pair)).collect();
            if rest.is_empty() { String::from_utf16(&units).ok() } else { None }
        };
        let text = match charset.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => std::str::from_utf8(bytes).ok().map(str::to_owned),
            "US-ASCII" => std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).map(str::to_owned),
            "ISO-8859-1" => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            "UTF-16BE" => units(bytes, u16::from_be_bytes),
            "UTF-16LE" => units(bytes, u16::from_le_bytes),
            "UTF-16" => match bytes {
                [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
                [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
                _ => units(bytes, u16::from_be_bytes),
            },
            _ => return Err(unknown_charset(charset)),
        };
        text.map(Some).ok_or_else(|| malformed(charset))
    };
    let pairs = bytes.as_binary::<i32>().iter().zip(&charsets);
    Ok(Arc::new(pairs.map(decoded).collect::<Result<StringArray>>()?))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("hash('Spark', array(CAST(123 AS INT)), CAST(2 AS INT))", "-1321691492"),
            ("hash(CAST(NULL AS INT))", "42"),
            ("xxhash64('Spark', array(CAST(123 AS INT)), CAST(2 AS INT))", "5602566077635097486"),
            ("xxhash64(CAST(1 AS DECIMAL(38,10)))", "-2853959725596059730"),
            ("md5('Spark')", "8cde774d6f7333752ed72cacddb05126"),
            ("sha1('Spark')", "85f5955f4b27a9a4c2aab6ffe5d7189fc298b92c"),
            ("sha('Spark')", "85f5955f4b27a9a4c2aab6ffe5d7189fc298b92c"),
            ("sha2('Spark', 256)", "529bc3b07127ecb7e53a4dcf1991d9152c24537d919178022b2c42657f79a26b"),
            ("sha2('Spark', 0)", "529bc3b07127ecb7e53a4dcf1991d9152c24537d919178022b2c42657f79a26b"),
            ("sha2('Spark', 7)", "NULL"),
            ("crc32('Spark')", "1557323817"),
            ("base64('Spark SQL')", "U3BhcmsgU1FM"),
            ("base64('a')", "YQ=="),
            ("decode(unbase64('U3BhcmsgU1FM'), 'UTF-8')", "Spark SQL"),
            ("hex(17)", "11"),
            ("hex('Spark SQL')", "537061726B2053514C"),
            ("hex(-1)", "FFFFFFFFFFFFFFFF"),
            ("decode(unhex('537061726B'), 'UTF-8')", "Spark"),
            ("unhex('zz')", "NULL"),
            ("hex(encode('ä', 'ISO-8859-1'))", "E4"),
        ])
        .await;
    }
}
