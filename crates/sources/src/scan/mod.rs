//! Files as a table: which column comes from where, how work is split, the physical scan.

mod exec;
mod footers;
mod metadata;
mod plain_parquet;
mod table;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use deltaworks_spark::Error;

pub(crate) use table::FileTable;

use crate::format::{Format, PassedOver};
use crate::text::TextParser;

/// The name of the hidden column that tells of the file.
pub const METADATA_COLUMN: &str = "_metadata";
/// Field metadata, `"true"` on columns that `*` does not stand for.
pub const HIDDEN_KEY: &str = "deltaworks.hidden";

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The file: a data column by number.
    Data(usize),
    /// The folders: a partition column by number.
    Partition(usize),
    /// What did not fit.
    Rescued,
    /// Malformed records.
    Corrupt,
    /// What is known of the file.
    Metadata,
}

/// The columns of a source of files.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// All, the hidden one last.
    pub(crate) schema: SchemaRef,
    pub(crate) roles: Vec<Role>,
    pub(crate) data: Fields,
    pub(crate) partition: Fields,
}

impl Columns {
    /// Data columns, partition columns, the rescued data column, `_metadata`.
    ///
    /// Data columns that have the name of a partition column are that; one that has the name of `corrupt` or
    /// `rescued` takes its role where it stands.
    pub(crate) fn new(data: &Fields, partition: &[Field], rescued: Option<&str>, corrupt: Option<&str>) -> Self {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let mut columns: Vec<(Arc<Field>, Role)> = Vec::new();
        let mut own = Vec::new();
        for field in data {
            let text = field.data_type() == &DataType::Utf8;
            if partition.iter().any(|other| same(other.name(), field.name())) {
                continue;
            }
            let role = if text && rescued.is_some_and(|name| same(name, field.name())) {
                Role::Rescued
            } else if text && corrupt.is_some_and(|name| same(name, field.name())) {
                Role::Corrupt
            } else {
                own.push(Arc::clone(field));
                Role::Data(own.len() - 1)
            };
            columns.push((Arc::clone(field), role));
        }
        let mut partitions = Vec::new();
        for (index, field) in partition.iter().enumerate() {
            let declared = data.iter().find(|other| same(other.name(), field.name()));
            let field = Arc::new(declared.map_or_else(|| field.clone(), |other| other.as_ref().clone()));
            partitions.push(Arc::clone(&field));
            columns.push((field, Role::Partition(index)));
        }
        if let Some(name) = rescued
            && !columns.iter().any(|(_, role)| *role == Role::Rescued)
        {
            columns.push((Arc::new(Field::new(name, DataType::Utf8, true)), Role::Rescued));
        }
        if !columns.iter().any(|(field, _)| same(field.name(), METADATA_COLUMN)) {
            columns.push((Arc::new(metadata::field()), Role::Metadata));
        }
        let (fields, roles): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        Self { schema: Arc::new(Schema::new(fields)), roles, data: own.into(), partition: partitions.into() }
    }
}

/// What a failed scan can do about fields the schema has not.
#[async_trait]
pub(crate) trait Evolution: std::fmt::Debug + Send + Sync {
    /// Whether a new field of a structure is news, too.
    fn reports_nested(&self) -> bool;

    /// Whether a wider type is news, too.
    fn widens(&self) -> bool;

    /// Takes up the new fields of `error`; gives the error to fail with.
    async fn evolve(&self, error: Error) -> Error;
}

/// How files are read: the same for all files of a source.
#[derive(Clone, Debug)]
pub(crate) struct ScanSpec {
    pub(crate) format: Arc<dyn Format>,
    pub(crate) columns: Columns,
    pub(crate) case_sensitive: bool,
    pub(crate) passed_over: PassedOver,
    /// Auto Loader's rule for columns of other types that nothing rescues; Spark's own readers fail.
    pub(crate) null_mismatches: bool,
    pub(crate) parser: TextParser,
}
