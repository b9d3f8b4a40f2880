//! Names of datasets: how one- to three-part names are qualified and compared.
//!
//! Names compare without regard to case, as on Databricks, and keep the spelling of their definition.

use std::fmt;
use std::hash::{Hash, Hasher};

use deltaworks_spark::relation::ObjectName;
use deltaworks_spark::{Error, Result};

/// The catalog and schema that unqualified names belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The current catalog.
    pub catalog: String,
    /// The current schema.
    pub schema: String,
}

impl Namespace {
    /// The names Spark uses where a pipeline names none.
    pub const DEFAULT_CATALOG: &'static str = "spark_catalog";
    /// The schema of that catalog.
    pub const DEFAULT_SCHEMA: &'static str = "default";
}

impl Default for Namespace {
    fn default() -> Self {
        Self { catalog: Self::DEFAULT_CATALOG.to_owned(), schema: Self::DEFAULT_SCHEMA.to_owned() }
    }
}

/// A fully qualified name of a dataset or flow.
#[derive(Debug, Clone, Eq, serde::Serialize)]
pub struct DatasetName {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
    /// The last part.
    pub name: String,
}

impl DatasetName {
    /// Qualifies `name` in `namespace`; the virtual schema `LIVE` stands for the namespace itself.
    ///
    /// # Errors
    /// `User` if the name has no part, or more than three.
    pub fn resolve(name: &ObjectName, namespace: &Namespace) -> Result<Self> {
        let own = |name: &str| Self {
            catalog: namespace.catalog.clone(),
            schema: namespace.schema.clone(),
            name: name.to_owned(),
        };
        match name.0.as_slice() {
            [table] => Ok(own(table)),
            [live, table] if live.eq_ignore_ascii_case("live") => Ok(own(table)),
            [schema, table] => Ok(Self { schema: schema.clone(), ..own(table) }),
            [catalog, schema, table] => {
                Ok(Self { catalog: catalog.clone(), schema: schema.clone(), name: table.clone() })
            }
            _ => Err(Error::user(format!("name `{name}` must have one to three parts"))
                .with_condition("REQUIRES_SINGLE_PART_NAMESPACE")),
        }
    }

    /// Whether the name lies in `namespace`.
    pub fn is_in(&self, namespace: &Namespace) -> bool {
        self.catalog.eq_ignore_ascii_case(&namespace.catalog) && self.schema.eq_ignore_ascii_case(&namespace.schema)
    }

    /// As people see it: the last part alone inside the pipeline's own namespace, else all three.
    pub fn display_in(&self, namespace: &Namespace) -> String {
        if self.is_in(namespace) { self.name.clone() } else { self.to_string() }
    }

    fn key(&self) -> impl Iterator<Item = char> + '_ {
        [&self.catalog, &self.schema, &self.name]
            .into_iter()
            .flat_map(|part| part.chars().flat_map(char::to_lowercase).chain(std::iter::once('\0')))
    }
}

impl PartialEq for DatasetName {
    fn eq(&self, other: &Self) -> bool {
        self.key().eq(other.key())
    }
}

impl Hash for DatasetName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().for_each(|c| c.hash(state));
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(parts: &[&str]) -> DatasetName {
        let namespace = Namespace { catalog: "main".into(), schema: "sales".into() };
        DatasetName::resolve(&ObjectName(parts.iter().map(|&p| p.to_owned()).collect()), &namespace).unwrap()
    }

    #[test]
    fn unqualified_and_live_names_are_in_the_namespace() {
        assert_eq!(resolve(&["orders"]).to_string(), "main.sales.orders");
        assert_eq!(resolve(&["LIVE", "orders"]), resolve(&["ORDERS"]));
        assert_eq!(resolve(&["main", "Sales", "orders"]), resolve(&["orders"]));
        assert_ne!(resolve(&["other", "orders"]), resolve(&["orders"]));
    }

    #[test]
    fn four_parts_are_refused() {
        let name = ObjectName(vec!["a".into(), "b".into(), "c".into(), "d".into()]);
        assert!(DatasetName::resolve(&name, &Namespace::default()).is_err());
    }
}
