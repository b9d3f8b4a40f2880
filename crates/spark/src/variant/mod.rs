//! VARIANT: values of any type, each with its own, in Parquet's binary form.
//!
//! A column is a struct of two byte columns: the value, and the dictionary of the names in it (`types::variant`). Spark's
//! clients and Delta tables have the same.

mod build;
mod extract;
mod json;
mod nesting;
mod parse;
mod path;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, NullBufferBuilder, StringArray, StructArray};
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use parquet_variant::{Variant, VariantBuilder, VariantMetadata};

pub(crate) use build::{can_build, from_array};
pub(crate) use extract::{can_extract, to_array};
pub(crate) use parse::{Malformed, parse};
pub(crate) use path::Path;
pub(crate) use shape::Shape;

use crate::cast::{CastMode, cast_array};
use crate::error::{Error, Result};
use crate::types::variant;

/// A variant as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) metadata: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Encoded {
    /// What `build` appends.
    ///
    /// A name without characters is only taken for valid where all names are in order, so they are put in order then.
    fn built<E>(build: impl Fn(&mut VariantBuilder) -> Result<(), E>) -> Result<Self, E> {
        let mut builder = VariantBuilder::new();
        build(&mut builder)?;
        let (metadata, value) = builder.finish();
        if VariantMetadata::try_new(&metadata).is_ok() {
            return Ok(Self { metadata, value });
        }
        let names: BTreeSet<&str> = VariantMetadata::new(&metadata).iter().collect();
        let mut builder = VariantBuilder::new().with_field_names(names);
        build(&mut builder)?;
        let (metadata, value) = builder.finish();
        Ok(Self { metadata, value })
    }

    /// The variant with no more names than it needs.
    pub(crate) fn of(variant: &Variant<'_, '_>) -> Result<Self> {
        Self::built(|builder| Ok(builder.try_append_value(variant.clone())?))
    }
}

/// A column of variants under construction.
#[derive(Debug, Default)]
pub struct VariantColumn {
    metadata: BinaryBuilder,
    value: BinaryBuilder,
    nulls: Option<NullBufferBuilder>,
}

impl VariantColumn {
    /// Appends the first JSON value of `text`. False: there is none that a variant can hold, and NULL was appended.
    pub fn push_json(&mut self, text: &str) -> bool {
        let parsed = parse(text).ok();
        self.push(parsed.as_ref());
        parsed.is_some()
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        self.push(None);
    }

    pub(crate) fn push(&mut self, variant: Option<&Encoded>) {
        self.metadata.append_value(variant.map_or(&[][..], |variant| &variant.metadata));
        self.value.append_value(variant.map_or(&[][..], |variant| &variant.value));
        self.nulls.get_or_insert_with(|| NullBufferBuilder::new(64)).append(variant.is_some());
    }

    /// The variants so far; the column starts anew.
    pub fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.take().and_then(|mut nulls| nulls.finish());
        let columns: Vec<ArrayRef> = vec![Arc::new(self.value.finish()), Arc::new(self.metadata.finish())];
        let DataType::Struct(fields) = variant() else { unreachable!("a variant is a struct") };
        Arc::new(StructArray::new(fields, columns, nulls))
    }
}

impl FromIterator<Option<Encoded>> for VariantColumn {
    fn from_iter<T: IntoIterator<Item = Option<Encoded>>>(rows: T) -> Self {
        let mut column = Self::default();
        rows.into_iter().for_each(|row| column.push(row.as_ref()));
        column
    }
}

/// The values of a column of variants.
///
/// # Errors
/// `MALFORMED_VARIANT` (`Data`) if the bytes are none.
pub(crate) fn values(array: &ArrayRef) -> Result<Vec<Option<Variant<'_, '_>>>> {
    let column = array.as_struct();
    let (value, metadata) = (column.column(0).as_binary::<i32>(), column.column(1).as_binary::<i32>());
    let read = |row: usize| match column.is_valid(row) {
        true if !nesting::is_shallow(value.value(row)) => {
            Err(malformed(format!("a variant is nested deeper than {} levels", nesting::MAX_DEPTH)))
        }
        true => match Variant::try_new(metadata.value(row), value.value(row)) {
            Ok(variant) => Ok(Some(variant)),
            Err(error) => {
                Err(malformed("the bytes of a variant are not in Parquet's binary form".to_owned()).with_source(error))
            }
        },
        false => Ok(None),
    };
    (0..column.len()).map(read).collect()
}

fn malformed(why: String) -> Error {
    Error::data(why).with_condition("MALFORMED_VARIANT")
}

/// Every variant of a column as JSON text, instants in UTC.
///
/// # Errors
/// `MALFORMED_VARIANT` (`Data`) if the bytes are none.
pub fn json_texts(array: &ArrayRef) -> Result<StringArray> {
    to_json(&cast_array(array, &variant(), CastMode::Lenient, Tz::UTC)?, Tz::UTC)
}

/// Every variant as JSON text.
///
/// # Errors
/// As [`values`].
pub(crate) fn to_json(array: &ArrayRef, tz: Tz) -> Result<StringArray> {
    let text = |variant: &Variant<'_, '_>| json_text(variant, tz);
    Ok(values(array)?.iter().map(|variant| variant.as_ref().map(text)).collect())
}

/// The JSON text of one variant.
pub(crate) fn json_text(variant: &Variant<'_, '_>, tz: Tz) -> String {
    let mut text = String::new();
    json::write(variant, tz, &mut text);
    text
}
