//! What must stay as it is between updates for changes to go on where they stopped.

use std::collections::BTreeMap;

use deltaworks_lake::{Table, TableDefinition};
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result};

use crate::graph::Changes;

const SCD_TYPE: &str = "pipelines.autocdc.scdType";
const KEYS: &str = "pipelines.autocdc.keyColumnNames";
const SEQUENCE_TYPE: &str = "pipelines.autocdc.sequenceType";
const TRACKED: &str = "pipelines.autocdc.trackHistory";

/// Whether a table with these properties is kept by AUTO CDC.
pub fn is_kept(properties: &BTreeMap<String, String>) -> bool {
    properties.contains_key(SCD_TYPE)
}

/// What a table remembers of how it is kept.
pub fn properties(changes: &Changes) -> BTreeMap<String, String> {
    let keys: Vec<String> = changes.keys.iter().map(|key| key.to_lowercase()).collect();
    BTreeMap::from([
        (SCD_TYPE.to_owned(), changes.scd_type.number().to_owned()),
        (KEYS.to_owned(), serde_json::Value::from(keys).to_string()),
        (SEQUENCE_TYPE.to_owned(), type_name(&changes.sequence_type)),
        (TRACKED.to_owned(), changes.tracked_as.clone()),
    ])
}

/// Refuses changes to a table that has been kept in another way.
///
/// # Errors
/// `AUTOCDC_INVALID_STATE.*` (`User`), naming what differs.
pub fn check(stored: &BTreeMap<String, String>, wanted: &TableDefinition, table: &Table, name: &str) -> Result<()> {
    let refuse = |message: String, condition: &str| {
        Err(Error::user(message)
            .with_condition(format!("AUTOCDC_INVALID_STATE.{condition}"))
            .with_help(format!("Run a full refresh of the table: `--full-refresh {name}`.")))
    };
    match (stored.get(SCD_TYPE), wanted.properties.get(SCD_TYPE)) {
        (None, None) => return Ok(()),
        (None, Some(_)) if table.size()?.0 == 0 => return Ok(()),
        (None, Some(_)) => {
            return refuse(
                format!("`{name}` has rows that were appended; now a flow applies changes to it"),
                "APPENDED_ROWS",
            );
        }
        (Some(_), None) => {
            return refuse(
                format!("`{name}` has been kept by AUTO CDC; now its flows append rows"),
                "NOT_CHANGED_ANY_MORE",
            );
        }
        (Some(_), Some(_)) => {}
    }
    for (property, what, condition) in [
        (SCD_TYPE, "SCD type", "SCD_TYPE_DRIFT"),
        (KEYS, "keys", "KEY_SCHEMA_DRIFT"),
        (SEQUENCE_TYPE, "type of the sequence", "SEQUENCING_TYPE_DRIFT"),
        (TRACKED, "tracked columns", "TRACK_HISTORY_DRIFT"),
    ] {
        let (before, now) = (stored.get(property), wanted.properties.get(property));
        if before != now {
            let shown = |value: Option<&String>| value.cloned().unwrap_or_default();
            return refuse(
                format!("the {what} of `{name}` changed from `{}` to `{}`", shown(before), shown(now)),
                condition,
            );
        }
    }
    Ok(())
}
