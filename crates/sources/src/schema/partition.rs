//! Partition columns from `key=value` folders.

use arrow::datatypes::{DataType, Field};
use indexmap::IndexMap;

use crate::listing::FileEntry;
use crate::schema::evolution::widest;
use crate::text::TextParser;

/// The partition columns of these files, in order of appearance.
///
/// With `typed`, each has the narrowest of INT, BIGINT, DOUBLE, DATE, TIMESTAMP that fits all its values,
/// else STRING. `only` restricts them to the names given.
pub(crate) fn partition_columns(
    files: &[FileEntry],
    only: Option<&[String]>,
    typed: bool,
    parser: &TextParser,
) -> Vec<Field> {
    let mut types: IndexMap<&str, DataType> = IndexMap::new();
    for (key, value) in files.iter().flat_map(|file| &file.partition) {
        if only.is_some_and(|names| !names.iter().any(|name| name.eq_ignore_ascii_case(key))) {
            continue;
        }
        let seen = match value {
            Some(value) if typed => parser.infer(value, true),
            Some(_) => DataType::Utf8,
            None => DataType::Null,
        };
        let known = types.entry(key).or_insert(DataType::Null);
        *known = widest(known, &seen);
    }
    types
        .into_iter()
        .map(|(name, data_type)| match data_type {
            DataType::Null | DataType::Boolean => Field::new(name, DataType::Utf8, true),
            other => Field::new(name, other, true),
        })
        .collect()
}
