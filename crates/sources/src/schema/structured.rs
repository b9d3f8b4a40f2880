//! Structures among columns that are taken as text: hints may reach into them, and what they hold may grow.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use deltaworks_spark::{Error, Result, types};

use crate::format::{Format, Inference};
use crate::listing::FileEntry;

/// The schema of `files`. Where all columns are taken as text, those that `is_structured` names are structures
/// with text for leaves, if their values are structures.
pub(crate) async fn infer_structured(
    format: &dyn Format,
    files: &[FileEntry],
    inference: Inference,
    is_structured: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Schema> {
    let (schema, readable) = infer_readable(format, files, inference).await?;
    if inference.typed || !schema.fields.iter().any(|field| is_structured(field.name())) {
        return Ok(schema);
    }
    let typed = format.infer(&readable, Inference { typed: true, ..inference }).await?;
    let structured = |field: &Arc<Field>| match typed.field_with_name(field.name()) {
        Ok(typed) if is_structured(field.name()) && typed.data_type().is_nested() => {
            Arc::new(Field::new(field.name(), with_text_leaves(typed.data_type()), true))
        }
        _ => Arc::clone(field),
    };
    Ok(Schema::new(schema.fields.iter().map(structured).collect::<Vec<_>>()))
}

/// The schema of `files` without those that are to be passed over, and the files that are left. Only if there are such
/// is each file looked at on its own.
async fn infer_readable<'a>(
    format: &dyn Format,
    files: &'a [FileEntry],
    inference: Inference,
) -> Result<(Schema, Cow<'a, [FileEntry]>)> {
    let is_passed_over = |error: &Error| inference.passed_over.covers(error);
    match format.infer(files, inference).await {
        Err(error) if is_passed_over(&error) => {}
        inferred => return Ok((inferred?, Cow::Borrowed(files))),
    }
    let mut readable = Vec::with_capacity(files.len());
    for file in files {
        match format.infer(std::slice::from_ref(file), inference).await {
            Err(error) if is_passed_over(&error) => tracing::warn!(%error, "file passed over by schema inference"),
            Err(error) => return Err(error),
            Ok(_) => readable.push(file.clone()),
        }
    }
    Ok((format.infer(&readable, inference).await?, Cow::Owned(readable)))
}

fn with_text_leaves(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Arc::new(Field::new(field.name(), with_text_leaves(field.data_type()), true)))
                .collect(),
        ),
        DataType::List(item) => types::array(with_text_leaves(item.data_type())),
        _ => DataType::Utf8,
    }
}
