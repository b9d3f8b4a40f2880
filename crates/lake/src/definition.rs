//! What a table is, apart from its rows: schema, layout, properties.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

/// The field metadata key of a column's comment.
pub const COMMENT_KEY: &str = "comment";
/// The field metadata key of a generated column's expression.
pub const GENERATION_KEY: &str = "delta.generationExpression";
/// The field metadata key of a column's invariant, as older tables have it.
pub(crate) const INVARIANTS_KEY: &str = "delta.invariants";
/// The field metadata key of a text column's `varchar(n)` or `char(n)`, as Spark has it.
pub(crate) const CHAR_TYPE_KEY: &str = deltaworks_spark::types::CHAR_TYPE_KEY;
/// The prefix of properties that hold CHECK constraints.
pub const CONSTRAINT_PREFIX: &str = "delta.constraints.";
/// The property that keeps clustering columns.
///
/// Delta's own clustering feature would lock out the writer this crate builds on.
pub(crate) const CLUSTERING_PROPERTY: &str = "deltaworks.clusteringColumns";

/// Everything a table is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// Columns. Field metadata holds comments ([`COMMENT_KEY`]) and generation expressions ([`GENERATION_KEY`]).
    pub schema: SchemaRef,
    /// Columns by which files are laid out in folders.
    pub partition_columns: Vec<String>,
    /// Columns by which rows should lie close to each other.
    pub clustering_columns: Vec<String>,
    /// Table properties, CHECK constraints (`delta.constraints.*`) among them.
    pub properties: BTreeMap<String, String>,
    /// The table's comment.
    pub comment: Option<String>,
    /// The table's name, for people; a table is identified by its location.
    pub name: Option<String>,
}

impl TableDefinition {
    /// A table with these columns and nothing else said.
    pub fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            partition_columns: Vec::new(),
            clustering_columns: Vec::new(),
            properties: BTreeMap::new(),
            comment: None,
            name: None,
        }
    }

    /// The properties as they are stored, clustering columns included.
    pub(crate) fn stored_properties(&self) -> BTreeMap<String, String> {
        let mut properties = self.properties.clone();
        if !self.clustering_columns.is_empty() {
            let columns = serde_json::Value::from(self.clustering_columns.clone());
            properties.insert(CLUSTERING_PROPERTY.to_owned(), columns.to_string());
        }
        properties
    }
}
