//! A variant as JSON text, as Spark writes it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use parquet_variant::Variant;

use crate::cast::format::{java_double, java_float, write_date, write_timestamp};
use crate::json::quote;

/// Days from the epoch.
pub(super) fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days()
}

/// Microseconds from the epoch to the instant.
pub(super) fn instant(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// Microseconds from the epoch, as a clock on the wall counts them.
pub(super) fn wall_clock(time: NaiveDateTime) -> i64 {
    time.and_utc().timestamp_micros()
}

/// An unscaled value and its scale, without zeros at the end of the fraction.
pub(super) fn stripped(mut unscaled: i128, mut scale: u8) -> (i128, u8) {
    while scale > 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    (unscaled, scale)
}

/// The decimal in plain digits.
fn write_decimal(out: &mut String, unscaled: i128, scale: u8) {
    let (unscaled, scale) = stripped(unscaled, scale);
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    let _ = write!(out, "{sign}{whole}{point}{fraction}");
}

/// Appends the JSON text of `variant`; instants in the zone `tz`.
pub(super) fn write(variant: &Variant<'_, '_>, tz: Tz, out: &mut String) {
    match variant {
        Variant::Null => out.push_str("null"),
        Variant::BooleanTrue => out.push_str("true"),
        Variant::BooleanFalse => out.push_str("false"),
        Variant::Int8(value) => integer(i64::from(*value), out),
        Variant::Int16(value) => integer(i64::from(*value), out),
        Variant::Int32(value) => integer(i64::from(*value), out),
        Variant::Int64(value) => integer(*value, out),
        Variant::Float(value) => {
            let mut text = String::new();
            let _ = java_float(&mut text, *value);
            number(&text, value.is_finite(), out);
        }
        Variant::Double(value) => {
            let mut text = String::new();
            let _ = java_double(&mut text, *value);
            number(&text, value.is_finite(), out);
        }
        Variant::Decimal4(value) => write_decimal(out, value.integer().into(), value.scale()),
        Variant::Decimal8(value) => write_decimal(out, value.integer().into(), value.scale()),
        Variant::Decimal16(value) => write_decimal(out, value.integer(), value.scale()),
        Variant::Date(date) => quoted(out, |out| write_date(out, days(*date))),
        Variant::TimestampMicros(time) | Variant::TimestampNanos(time) => quoted(out, |out| {
            let local = tz.from_utc_datetime(&time.naive_utc());
            write_timestamp(out, wall_clock(local.naive_local()))?;
            write!(out, "{}", local.format("%:z"))
        }),
        Variant::TimestampNtzMicros(time) | Variant::TimestampNtzNanos(time) => {
            quoted(out, |out| write_timestamp(out, wall_clock(*time)));
        }
        Variant::Time(time) => quoted(out, |out| write!(out, "{}", time.format("%H:%M:%S%.f"))),
        Variant::Binary(bytes) => quote(&BASE64_STANDARD.encode(bytes), out),
        Variant::String(text) => quote(text, out),
        Variant::ShortString(text) => quote(text.as_str(), out),
        Variant::Uuid(uuid) => quoted(out, |out| write!(out, "{uuid}")),
        Variant::Object(object) => {
            out.push('{');
            for (at, (name, value)) in object.iter().enumerate() {
                separate(at, out);
                quote(name, out);
                out.push(':');
                write(&value, tz, out);
            }
            out.push('}');
        }
        Variant::List(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                separate(at, out);
                write(&value, tz, out);
            }
            out.push(']');
        }
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

fn integer(value: i64, out: &mut String) {
    let _ = write!(out, "{value}");
}

/// NaN and the infinities are text.
fn number(text: &str, finite: bool, out: &mut String) {
    if finite { out.push_str(text) } else { quote(text, out) }
}

/// Writing into a string cannot fail.
fn quoted(out: &mut String, write: impl FnOnce(&mut String) -> std::fmt::Result) {
    out.push('"');
    let _ = write(out);
    out.push('"');
}
