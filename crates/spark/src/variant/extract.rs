//! Variants as values of one type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, FieldRef, Fields};
use chrono_tz::Tz;
use parquet_variant::Variant;

use super::json::{days, instant, wall_clock};
use super::{Encoded, VariantColumn, json_text};
use crate::cast::format::{java_double, java_float};
use crate::cast::{CastMode, can_cast, cast_array};
use crate::error::{Error, Result};
use crate::types::{is_variant, sql_type_name, timestamp};

/// Whether variants can be asked for as values of a type.
pub(crate) fn can_extract(to: &DataType) -> bool {
    match to {
        _ if is_variant(to) => true,
        DataType::List(item) => can_extract(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| can_extract(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair[0].data_type() == &DataType::Utf8 && can_extract(pair[1].data_type()),
            _ => false,
        },
        DataType::Timestamp(..) | DataType::Date32 | DataType::Utf8 | DataType::Binary | DataType::Boolean => true,
        other => other.is_numeric(),
    }
}

/// Every variant as a value of type `to`. One that is `null` is NULL; one that has no such value is NULL if `lenient`.
///
/// # Errors
/// `INVALID_VARIANT_CAST` (`Data`) for one that has no such value.
pub(crate) fn to_array(variants: &[Option<Variant<'_, '_>>], to: &DataType, lenient: bool, tz: Tz) -> Result<ArrayRef> {
    Extraction { to, lenient, tz }.run(variants)
}

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The type a value has by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Long,
    Float,
    Double,
    Decimal(u8),
    Date,
    Timestamp,
    TimestampNtz,
    Text,
    Binary,
}

#[derive(Clone, Copy)]
struct Extraction<'a> {
    to: &'a DataType,
    lenient: bool,
    tz: Tz,
}

impl Extraction<'_> {
    fn run(&self, variants: &[Option<Variant<'_, '_>>]) -> Result<ArrayRef> {
        match self.to {
            to if is_variant(to) => {
                let encoded = variants.iter().map(|variant| variant.as_ref().map(Encoded::of).transpose());
                Ok(encoded.collect::<Result<VariantColumn>>()?.finish())
            }
            DataType::Utf8 => Ok(Arc::new(self.texts(variants))),
            DataType::List(item) => self.lists(variants, item),
            DataType::Struct(fields) => self.structs(variants, fields),
            DataType::Map(entries, _) => self.maps(variants, entries),
            _ => self.scalars(variants),
        }
    }

    fn within<'b>(&'b self, to: &'b DataType) -> Extraction<'b> {
        Extraction { to, ..*self }
    }

    /// What becomes of a variant that has no such value: NULL, or an error.
    fn misfit(&self, variant: &Variant<'_, '_>) -> Result<()> {
        if self.lenient || matches!(variant, Variant::Null) {
            return Ok(());
        }
        let shown = json_text(variant, self.tz);
        Err(Error::data(format!("the variant value `{shown}` cannot be cast into {}", sql_type_name(self.to)))
            .with_condition("INVALID_VARIANT_CAST")
            .with_help("Use `try_variant_get` or `try_cast` to get NULL instead."))
    }

    /// As JSON, but for what stands in quotes there.
    fn texts(&self, variants: &[Option<Variant<'_, '_>>]) -> StringArray {
        let text = |variant: &Variant<'_, '_>| match variant {
            Variant::Null => None,
            Variant::String(text) => Some((*text).to_owned()),
            Variant::ShortString(text) => Some(text.as_str().to_owned()),
            Variant::Uuid(uuid) => Some(uuid.to_string()),
            Variant::Time(time) => Some(time.to_string()),
            Variant::Float(value) => Some(java_text(|text| java_float(text, *value))),
            Variant::Double(value) => Some(java_text(|text| java_double(text, *value))),
            scalar @ (Variant::Date(_)
            | Variant::TimestampMicros(_)
            | Variant::TimestampNanos(_)
            | Variant::TimestampNtzMicros(_)
            | Variant::TimestampNtzNanos(_)
            | Variant::Binary(_)) => {
                let one = of_kind(kind(scalar)?, &[scalar]);
                let text = cast_array(&one, &DataType::Utf8, CastMode::Try, self.tz).ok()?;
                let text = text.as_string::<i32>();
                text.is_valid(0).then(|| text.value(0).to_owned())
            }
            other => Some(json_text(other, self.tz)),
        };
        variants.iter().map(|variant| text(variant.as_ref()?)).collect()
    }

    /// Values of one kind are cast together.
    fn scalars(&self, variants: &[Option<Variant<'_, '_>>]) -> Result<ArrayRef> {
        let mut kinds: Vec<(Kind, Vec<&Variant<'_, '_>>)> = Vec::new();
        // The first array has the NULL of all rows without a value.
        let mut places = vec![(0, 0); variants.len()];
        for (variant, place) in variants.iter().zip(&mut places) {
            let Some(variant) = variant else { continue };
            let Some(kind) = kind(variant) else {
                self.misfit(variant)?;
                continue;
            };
            let at = kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
                kinds.push((kind, Vec::new()));
                kinds.len() - 1
            });
            *place = (at + 1, kinds[at].1.len());
            kinds[at].1.push(variant);
        }
        let mut arrays = vec![new_null_array(self.to, 1)];
        for (kind, values) in kinds {
            let found = match (kind, self.to) {
                (Kind::Long | Kind::Decimal(_), DataType::Timestamp(_, Some(_))) => instants(&values),
                _ => of_kind(kind, &values),
            };
            let cast = match has_cast(found.data_type(), self.to) {
                true => cast_array(&found, self.to, CastMode::Try, self.tz)?,
                false => new_null_array(self.to, values.len()),
            };
            for (variant, _) in values.iter().zip(0..).filter(|(_, row)| cast.is_null(*row)) {
                self.misfit(variant)?;
            }
            arrays.push(cast);
        }
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&arrays, &places)?)
    }

    fn lists(&self, variants: &[Option<Variant<'_, '_>>], item: &FieldRef) -> Result<ArrayRef> {
        let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for variant in variants {
            let before = items.len();
            let is_list = match variant {
                Some(Variant::List(list)) => {
                    items.extend(list.iter().map(Some));
                    true
                }
                Some(other) => {
                    self.misfit(other)?;
                    false
                }
                None => false,
            };
            lengths.push(items.len() - before);
            valid.push(is_list);
        }
        let items = self.within(item.data_type()).run(&items)?;
        let item = Arc::new(item.as_ref().clone().with_nullable(true));
        let nulls = Some(NullBuffer::from(valid));
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items, nulls)?))
    }

    fn structs(&self, variants: &[Option<Variant<'_, '_>>], fields: &Fields) -> Result<ArrayRef> {
        let mut valid = Vec::with_capacity(variants.len());
        for variant in variants {
            valid.push(match variant {
                Some(Variant::Object(_)) => true,
                Some(other) => {
                    self.misfit(other)?;
                    false
                }
                None => false,
            });
        }
        let column = |field: &FieldRef| {
            let values = variants.iter().map(|variant| match variant {
                Some(Variant::Object(object)) => object.get(field.name()),
                _ => None,
            });
            self.within(field.data_type()).run(&values.collect::<Vec<_>>())
        };
        let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
        let fields: Fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let nulls = Some(NullBuffer::from(valid));
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, variants.len())?))
    }

    fn maps(&self, variants: &[Option<Variant<'_, '_>>], entries: &FieldRef) -> Result<ArrayRef> {
        let DataType::Struct(pair) = entries.data_type() else {
            return Err(Error::internal("the entries of a map are not a struct"));
        };
        let (mut keys, mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for variant in variants {
            let before = keys.len();
            let is_object = match variant {
                Some(Variant::Object(object)) => {
                    for (name, value) in object.iter() {
                        keys.push(name.to_owned());
                        items.push(Some(value));
                    }
                    true
                }
                Some(other) => {
                    self.misfit(other)?;
                    false
                }
                None => false,
            };
            lengths.push(keys.len() - before);
            valid.push(is_object);
        }
        let items = self.within(pair[1].data_type()).run(&items)?;
        let keys: ArrayRef = Arc::new(StringArray::from(keys));
        let pairs = StructArray::try_new(pair.clone(), vec![keys, items], None)?;
        let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), Some(NullBuffer::from(valid)));
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?))
    }
}

/// Writing into a string cannot fail.
fn java_text(write: impl Fn(&mut String) -> std::fmt::Result) -> String {
    let mut text = String::new();
    let _ = write(&mut text);
    text
}

/// Whether a value of its own type can become one of another: what ANSI allows, in either mode.
fn has_cast(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let refused = match (from, to) {
        (from, T::Binary) => !matches!(from, T::Utf8 | T::Binary),
        (T::Boolean, T::Date32 | T::Timestamp(..)) | (T::Date32 | T::Timestamp(..), T::Boolean) => true,
        (T::Date32, to) | (to, T::Date32) => to.is_numeric(),
        (T::Timestamp(_, None), to) | (to, T::Timestamp(_, None)) => to.is_numeric(),
        _ => false,
    };
    !refused && can_cast(from, to)
}

/// `None` for what is no single value: `null`, objects, lists, and types that Spark has not.
fn kind(variant: &Variant<'_, '_>) -> Option<Kind> {
    Some(match variant {
        Variant::BooleanTrue | Variant::BooleanFalse => Kind::Boolean,
        Variant::Int8(_) | Variant::Int16(_) | Variant::Int32(_) | Variant::Int64(_) => Kind::Long,
        Variant::Float(_) => Kind::Float,
        Variant::Double(_) => Kind::Double,
        Variant::Decimal4(_) | Variant::Decimal8(_) | Variant::Decimal16(_) => Kind::Decimal(unscaled(variant)?.1),
        Variant::Date(_) => Kind::Date,
        Variant::TimestampMicros(_) | Variant::TimestampNanos(_) => Kind::Timestamp,
        Variant::TimestampNtzMicros(_) | Variant::TimestampNtzNanos(_) => Kind::TimestampNtz,
        Variant::String(_) | Variant::ShortString(_) => Kind::Text,
        Variant::Binary(_) => Kind::Binary,
        Variant::Null | Variant::Object(_) | Variant::List(_) | Variant::Time(_) | Variant::Uuid(_) => return None,
    })
}

fn unscaled(variant: &Variant<'_, '_>) -> Option<(i128, u8)> {
    match variant {
        Variant::Decimal4(value) => Some((value.integer().into(), value.scale())),
        Variant::Decimal8(value) => Some((value.integer().into(), value.scale())),
        Variant::Decimal16(value) => Some((value.integer(), value.scale())),
        _ => None,
    }
}

/// Exact numbers as seconds since the epoch; NULL beyond the range of time stamps.
fn instants(values: &[&Variant<'_, '_>]) -> ArrayRef {
    let micros = |value: &&Variant<'_, '_>| match unscaled(value) {
        Some((unscaled, scale)) => {
            let micros = unscaled.checked_mul(MICROS_PER_SECOND.into())? / 10_i128.pow(scale.into());
            i64::try_from(micros).ok()
        }
        None => value.as_int64()?.checked_mul(MICROS_PER_SECOND),
    };
    let times = values.iter().map(micros).collect::<TimestampMicrosecondArray>();
    Arc::new(times.with_data_type(timestamp()))
}

/// An array of values that are all of one kind.
fn of_kind(kind: Kind, values: &[&Variant<'_, '_>]) -> ArrayRef {
    match kind {
        Kind::Boolean => Arc::new(values.iter().map(|v| v.as_boolean()).collect::<BooleanArray>()),
        Kind::Long => Arc::new(values.iter().map(|v| v.as_int64()).collect::<Int64Array>()),
        Kind::Float => Arc::new(values.iter().map(|v| v.as_f32()).collect::<Float32Array>()),
        Kind::Double => Arc::new(values.iter().map(|v| v.as_f64()).collect::<Float64Array>()),
        Kind::Decimal(scale) => {
            let values = values.iter().map(|v| Some(unscaled(v)?.0)).collect::<Decimal128Array>();
            Arc::new(values.with_data_type(DataType::Decimal128(38, scale.cast_signed())))
        }
        Kind::Date => {
            let day = |v: &&Variant<'_, '_>| v.as_naive_date().and_then(|date| i32::try_from(days(date)).ok());
            Arc::new(values.iter().map(day).collect::<Date32Array>())
        }
        Kind::Timestamp => {
            let micros = |v: &&Variant<'_, '_>| match v {
                Variant::TimestampMicros(time) | Variant::TimestampNanos(time) => Some(instant(*time)),
                _ => None,
            };
            let times = values.iter().map(micros).collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_data_type(timestamp()))
        }
        Kind::TimestampNtz => {
            let micros = |v: &&Variant<'_, '_>| match v {
                Variant::TimestampNtzMicros(time) | Variant::TimestampNtzNanos(time) => Some(wall_clock(*time)),
                _ => None,
            };
            Arc::new(values.iter().map(micros).collect::<TimestampMicrosecondArray>())
        }
        Kind::Text => Arc::new(values.iter().map(|v| v.as_string()).collect::<StringArray>()),
        Kind::Binary => Arc::new(values.iter().map(|v| v.as_u8_slice()).collect::<BinaryArray>()),
    }
}
