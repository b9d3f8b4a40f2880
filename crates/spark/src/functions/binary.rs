//! Bytes: from text in one of several notations, joined, reversed, checked.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StringBuilder};
use arrow::datatypes::DataType;
use base64::alphabet;
use base64::engine::{Engine, GeneralPurpose, GeneralPurposeConfig};

use super::udf::{ANY, BINARY, Call, Function, TEXT, function};
use crate::error::{Error, Result};

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["to_binary"], (1, 2), BINARY, |c| to_binary(c, true)).compiles(1),
    function(&["try_to_binary"], (1, 2), BINARY, |c| to_binary(c, false)).compiles(1),
    function(&["validate_utf8"], (1, 1), TEXT, |c| validated(c, true)),
    function(&["try_validate_utf8"], (1, 1), TEXT, |c| validated(c, false)),
];

/// `concat` of bytes.
pub(super) const CONCAT: Function = function(&["concat"], (1, ANY), BINARY, concat);

/// `reverse` of bytes.
pub(super) const REVERSE: Function = function(&["reverse"], (1, 1), BINARY, |call| {
    let bytes = call.cast(0, &DataType::Binary)?;
    let mut builder = BinaryBuilder::new();
    for value in bytes.as_binary::<i32>() {
        builder.append_option(value.map(|bytes| bytes.iter().rev().copied().collect::<Vec<_>>()));
    }
    Ok(Arc::new(builder.finish()))
});

fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    let parts = (0..call.len()).map(|i| call.cast(i, &DataType::Binary)).collect::<Result<Vec<_>>>()?;
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows() {
        if parts.iter().any(|part| part.is_null(row)) {
            builder.append_null();
        } else {
            let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_binary::<i32>().value(row)).collect();
            builder.append_value(bytes.concat());
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Text in hexadecimal digits (unless a notation is named), base 64 or UTF-8; what is not is an error or NULL.
fn to_binary(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let notation = match call.len() {
        2 => call.constant_text(1).flatten(),
        _ => Some("hex".to_owned()),
    };
    let text = call.text(0)?;
    let Some(notation) = notation else {
        return Ok(arrow::array::new_null_array(&DataType::Binary, text.len()));
    };
    let read: fn(&str) -> Option<Vec<u8>> = match notation.to_ascii_lowercase().as_str() {
        "hex" => from_hex,
        "base64" => from_base64,
        "utf-8" | "utf8" => |text| Some(text.as_bytes().to_vec()),
        _ => return Err(unknown_notation(&notation)),
    };
    let mut builder = BinaryBuilder::new();
    for value in &text {
        match value.map(|value| read(value).ok_or(value)) {
            None => builder.append_null(),
            Some(Ok(bytes)) => builder.append_value(bytes),
            Some(Err(_)) if !strict => builder.append_null(),
            Some(Err(value)) => {
                return Err(Error::data(format!(
                    "'{value}' cannot be converted to BINARY by the notation `{notation}`"
                ))
                .with_condition("CONVERSION_INVALID_INPUT")
                .with_help("Use `try_to_binary` to get NULL instead."));
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Digits in pairs; of an odd number the first stands alone.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<Vec<_>>>()?;
    let (alone, pairs) = digits.split_at(digits.len() % 2);
    Some(alone.iter().copied().chain(pairs.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low)).collect())
}

/// Line breaks and blanks are passed over, as in MIME.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    MIME.decode(text).ok()
}

/// Padding is needed; bits of the last digit that belong to no byte do not matter.
const MIME: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// `to_char(bytes, notation)`
pub(super) const TO_TEXT: Function = function(&["to_char"], (2, 2), TEXT, |call| {
    let Some(notation) = call.constant_text(1) else {
        return Err(Error::user("the notation of `to_char` must be a constant")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
    };
    let Some(notation) = notation else {
        return Ok(arrow::array::new_null_array(&DataType::Utf8, call.rows()));
    };
    let write: fn(&[u8]) -> String = match notation.to_ascii_lowercase().as_str() {
        "hex" => |bytes| bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
        "base64" => |bytes| MIME.encode(bytes),
        "utf-8" | "utf8" => |bytes| String::from_utf8_lossy(bytes).into_owned(),
        _ => return Err(unknown_notation(&notation)),
    };
    let bytes = call.cast(0, &DataType::Binary)?;
    let mut builder = StringBuilder::new();
    for value in bytes.as_binary::<i32>() {
        builder.append_option(value.map(write));
    }
    Ok(Arc::new(builder.finish()))
});

fn unknown_notation(notation: &str) -> Error {
    Error::user(format!("`{notation}` is no notation of bytes"))
        .with_condition("INVALID_PARAMETER_VALUE.BINARY_FORMAT")
        .with_help("Use 'hex', 'base64' or 'utf-8'.")
}

/// Text that is known to be text already, or bytes that must be.
fn validated(call: &Call<'_>, strict: bool) -> Result<ArrayRef> {
    let bytes = call.cast(0, &DataType::Binary)?;
    let mut builder = StringBuilder::new();
    for value in bytes.as_binary::<i32>() {
        match value.map(std::str::from_utf8) {
            None => builder.append_null(),
            Some(Ok(text)) => builder.append_value(text),
            Some(Err(_)) if !strict => builder.append_null(),
            Some(Err(_)) => {
                return Err(Error::data("the value is not valid UTF-8")
                    .with_condition("INVALID_UTF8_STRING")
                    .with_help("Use `try_validate_utf8` to get NULL, or `make_valid_utf8`."));
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("hex(to_binary('abc'))", "0ABC"),
            ("hex(to_binary('616263', 'hex'))", "616263"),
            ("hex(to_binary('YWI=', 'base64'))", "6162"),
            ("hex(to_binary('ab', 'utf-8'))", "6162"),
            ("try_to_binary('xyz')", "NULL"),
            ("hex(concat(X'01', X'02'))", "0102"),
            ("hex(reverse(X'CAFE'))", "FECA"),
            ("validate_utf8('ab')", "ab"),
            ("try_validate_utf8(X'80')", "NULL"),
        ])
        .await;
        check("to_binary('xyz')", Err("CONVERSION_INVALID_INPUT"), Err("CONVERSION_INVALID_INPUT")).await;
        check("validate_utf8(X'80')", Err("INVALID_UTF8_STRING"), Err("INVALID_UTF8_STRING")).await;
    }
}
