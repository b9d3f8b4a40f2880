//! JSON text as a variant.

use std::borrow::Cow;
use std::collections::HashSet;

use parquet_variant::{
    ObjectFieldBuilder, Variant, VariantBuilderExt, VariantDecimal4, VariantDecimal8, VariantDecimal16,
};
use sonic_rs::{LazyValue, to_array_iter, to_object_iter};

use super::Encoded;
use super::nesting::MAX_DEPTH;
use crate::json::is_shallow;

/// The most digits a decimal has, and the most of them behind the point.
const MAX_DIGITS: usize = 38;
/// The most bytes of a variant's value, as in Spark.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// Why a text is no variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is not JSON.
    Syntax,
    /// An object has this name twice.
    DuplicateKey(String),
    /// The value has too many bytes.
    TooLarge,
}

/// The first JSON value of `text`; what follows it is not looked at, as in Spark.
///
/// Numbers without exponent stay exact: integers in as few bytes as they need, up to 38 digits as decimals with the scale
/// they are written with. All others are doubles.
pub(crate) fn parse(text: &str) -> Result<Encoded, Malformed> {
    let raw = first_value(text).filter(|raw| is_shallow(raw, MAX_DEPTH)).ok_or(Malformed::Syntax)?;
    let encoded = Encoded::built(|builder| append(raw, builder))?;
    if encoded.value.len().max(encoded.metadata.len()) > MAX_BYTES {
        return Err(Malformed::TooLarge);
    }
    Ok(encoded)
}

/// The text of the first value: an object or an array begins it, anything else is a word of its own.
fn first_value(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
    if text.starts_with(['{', '[']) {
        return Some(text);
    }
    if text.starts_with('"') {
        let value = sonic_rs::Deserializer::from_str(text).into_stream::<LazyValue<'_>>().next()?.ok()?;
        let length = value.as_raw_str().len();
        return text.get(..length);
    }
    text.split([' ', '\t', '\n', '\r']).next()
}

fn append(raw: &str, builder: &mut impl VariantBuilderExt) -> Result<(), Malformed> {
    match raw.as_bytes().first() {
        Some(b'{') => {
            let mut object = builder.try_new_object().map_err(|_| Malformed::TooLarge)?;
            let mut names: HashSet<Cow<'_, str>> = HashSet::new();
            for entry in to_object_iter(raw) {
                let (name, value) = entry.map_err(|_| Malformed::Syntax)?;
                append(value.as_raw_str(), &mut ObjectFieldBuilder::new(&name, &mut object))?;
                if let Some(name) = names.replace(name) {
                    return Err(Malformed::DuplicateKey(name.into_owned()));
                }
            }
            object.finish();
        }
        Some(b'[') => {
            let mut list = builder.try_new_list().map_err(|_| Malformed::TooLarge)?;
            for value in to_array_iter(raw) {
                append(value.map_err(|_| Malformed::Syntax)?.as_raw_str(), &mut list)?;
            }
            list.finish();
        }
        Some(b'"') => {
            let text: String = sonic_rs::from_str(raw).map_err(|_| Malformed::Syntax)?;
            builder.append_value(text.as_str());
        }
        _ => builder.append_value(match raw {
            "null" => Variant::Null,
            "true" => Variant::BooleanTrue,
            "false" => Variant::BooleanFalse,
            _ => number(raw).ok_or(Malformed::Syntax)?,
        }),
    }
    Ok(())
}

fn number(raw: &str) -> Option<Variant<'static, 'static>> {
    if !is_number(raw) {
        return None;
    }
    if let Ok(integer) = raw.parse::<i64>() {
        return Some(narrowest(integer));
    }
    let as_double = || Some(Variant::Double(raw.parse().ok()?));
    if raw.contains(['e', 'E']) {
        return as_double();
    }
    let (whole, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let digits: String = [whole, fraction].concat();
    let significant = digits.trim_start_matches('-').trim_start_matches('0').len();
    if significant > MAX_DIGITS || fraction.len() > MAX_DIGITS {
        return as_double();
    }
    decimal(digits.parse().ok()?, u8::try_from(fraction.len()).ok()?)
}

/// The grammar of JSON, which the parsers of Rust's numbers are more generous than.
fn is_number(raw: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let raw = raw.strip_prefix('-').unwrap_or(raw);
    let (mantissa, exponent) = match raw.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (raw, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

/// The integer in as few bytes as it needs.
pub(super) fn narrowest(integer: i64) -> Variant<'static, 'static> {
    if let Ok(value) = i8::try_from(integer) {
        Variant::Int8(value)
    } else if let Ok(value) = i16::try_from(integer) {
        Variant::Int16(value)
    } else if let Ok(value) = i32::try_from(integer) {
        Variant::Int32(value)
    } else {
        Variant::Int64(integer)
    }
}

/// The decimal in as few bytes as it needs; `None` if it has more than 38 digits.
pub(super) fn decimal(unscaled: i128, scale: u8) -> Option<Variant<'static, 'static>> {
    let small = i32::try_from(unscaled).ok().and_then(|unscaled| VariantDecimal4::try_new(unscaled, scale).ok());
    if let Some(decimal) = small {
        return Some(decimal.into());
    }
    let medium = i64::try_from(unscaled).ok().and_then(|unscaled| VariantDecimal8::try_new(unscaled, scale).ok());
    match medium {
        Some(decimal) => Some(decimal.into()),
        None => Some(VariantDecimal16::try_new(unscaled, scale).ok()?.into()),
    }
}
