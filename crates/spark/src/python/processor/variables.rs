//! The state variables that a processor has declared: what they hold, and since when.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a state variable is for each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableKind {
    /// One row.
    Value,
    /// Rows in their order.
    List,
    /// Rows by key.
    Map,
}

impl fmt::Display for VariableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "ValueState",
            Self::List => "ListState",
            Self::Map => "MapState",
        })
    }
}

/// A declared state variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// What it is for each group.
    pub kind: VariableKind,
    /// The types of the columns of a map's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The types of the columns of its rows.
    pub value: String,
    /// The batch that declared it first. What is older belongs to a variable of the same name that has been deleted.
    pub since: i64,
}

/// The variables of a processor by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Variables(Arc<Mutex<BTreeMap<String, Variable>>>);

impl Variables {
    /// Those that earlier batches have declared.
    pub fn new(declared: BTreeMap<String, Variable>) -> Self {
        Self(Arc::new(Mutex::new(declared)))
    }

    /// All that are declared now.
    pub fn all(&self) -> BTreeMap<String, Variable> {
        self.0.lock().clone()
    }

    /// Declares `variable`, or finds that it is what it was.
    ///
    /// # Errors
    /// `STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE`, `STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE` or
    /// `STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE` (`User`) if it is another now.
    pub(super) fn declare(&self, name: &str, variable: Variable) -> Result<()> {
        let mut declared = self.0.lock();
        let Some(before) = declared.get(name) else {
            declared.insert(name.to_owned(), variable);
            return Ok(());
        };
        let (condition, was, is) = if before.kind != variable.kind {
            ("STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE", before.kind.to_string(), variable.kind.to_string())
        } else if before.key != variable.key {
            let text = |key: &Option<String>| format!("a map by ({})", key.as_deref().unwrap_or_default());
            ("STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE", text(&before.key), text(&variable.key))
        } else if before.value != variable.value {
            (
                "STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE",
                format!("of ({})", before.value),
                format!("of ({})", variable.value),
            )
        } else {
            return Ok(());
        };
        Err(Error::user(format!("the state variable `{name}` was {was} when its state was written, and is {is} now"))
            .with_condition(condition)
            .with_help(
                "Run a full refresh of the table, change the variable back, or give the new one another name and call \
                 `deleteIfExists` for the old one.",
            ))
    }

    /// Forgets a variable of earlier batches than `batch`.
    pub(super) fn delete(&self, name: &str, batch: i64) {
        let mut declared = self.0.lock();
        if declared.get(name).is_some_and(|variable| variable.since < batch) {
            declared.remove(name);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn value(of: &str, since: i64) -> Variable {
        Variable { kind: VariableKind::Value, key: None, value: of.to_owned(), since }
    }

    #[test]
    fn a_variable_stays_what_it_was_until_it_is_deleted() {
        let variables = Variables::default();
        variables.declare("n", value("int", 0)).unwrap();
        variables.declare("n", value("int", 3)).unwrap();
        assert_eq!(variables.all()["n"].since, 0);
        let error = variables.declare("n", value("bigint", 3)).unwrap_err();
        assert_eq!(error.condition(), Some("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE"));
        let list = Variable { kind: VariableKind::List, ..value("int", 3) };
        let error = variables.declare("n", list.clone()).unwrap_err();
        assert_eq!(error.condition(), Some("STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE"));
        variables.delete("n", 3);
        variables.declare("n", list.clone()).unwrap();
        variables.delete("n", 3);
        assert_eq!(variables.all()["n"], list, "another worker of the same batch deletes what was before");
    }
}
