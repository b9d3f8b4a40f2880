//! One value as text, as Spark's `show` writes it.

use arrow::array::{Array, AsArray as _};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use deltaworks_spark::Result;
use deltaworks_spark::types::is_variant;
use deltaworks_spark::variant::json_texts;

/// How the standard formatter writes what needs no care of ours.
pub(super) fn options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"))
}

/// Row `row` of `array`; `NULL` for none.
pub(super) fn shown(array: &dyn Array, row: usize) -> Result<String> {
    if array.is_null(row) {
        return Ok("NULL".to_owned());
    }
    Ok(match array.data_type() {
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            java_number(&value.to_string(), &format!("{value:e}"), f64::from(value))
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            java_number(&value.to_string(), &format!("{value:e}"), value)
        }
        DataType::Timestamp(..) => trimmed_fraction(formatted(array, row)?),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex(array.as_binary_view().value(row)),
        DataType::List(_) => items(array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => items(array.as_list::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => items(array.as_fixed_size_list().value(row).as_ref())?,
        data_type if is_variant(data_type) => variant_text(array, row)?,
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(|field| shown(field.as_ref(), row));
            format!("{{{}}}", fields.collect::<Result<Vec<_>>>()?.join(", "))
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pairs = (0..entries.len()).map(|at| {
                Ok(format!("{} -> {}", shown(entries.column(0).as_ref(), at)?, shown(entries.column(1).as_ref(), at)?))
            });
            format!("{{{}}}", pairs.collect::<Result<Vec<_>>>()?.join(", "))
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys().get(row).copied().unwrap_or_default();
            shown(dictionary.values().as_ref(), key)?
        }
        _ => formatted(array, row)?,
    })
}

/// The JSON text of a variant.
pub(super) fn variant_text(array: &dyn Array, row: usize) -> Result<String> {
    Ok(json_texts(&array.slice(row, 1))?.value(0).to_owned())
}

fn formatted(array: &dyn Array, row: usize) -> Result<String> {
    Ok(ArrayFormatter::try_new(array, &options())?.value(row).to_string())
}

fn items(list: &dyn Array) -> Result<String> {
    let items = (0..list.len()).map(|at| shown(list, at)).collect::<Result<Vec<_>>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("[{}]", digits.join(" "))
}

/// `12:00:00.120000` → `12:00:00.12`, `12:00:00.000000` → `12:00:00`.
fn trimmed_fraction(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number as Java writes it: always with a fraction, with an exponent below 10⁻³ and from 10⁷.
///
/// `plain` and `scientific` are its shortest forms in its own width.
fn java_number(plain: &str, scientific: &str, value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        match scientific.split_once('e') {
            Some((digits, exponent)) => format!("{}E{exponent}", with_fraction(digits)),
            None => scientific.to_owned(),
        }
    } else {
        with_fraction(plain)
    }
}

/// `1` → `1.0`
fn with_fraction(digits: &str) -> String {
    if digits.contains('.') { digits.to_owned() } else { format!("{digits}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        let double = |value: f64| java_number(&value.to_string(), &format!("{value:e}"), value);
        let shown = [1.0, 0.001, 0.000_1, 1e7, 1.5e-10, 9_999_999.5, f64::NEG_INFINITY, 0.0].map(double);
        assert_eq!(shown, ["1.0", "0.001", "1.0E-4", "1.0E7", "1.5E-10", "9999999.5", "-Infinity", "0.0"]);
    }
}
