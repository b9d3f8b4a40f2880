//! Which files of which commits a stream reads, and which commits it cannot read.

use arrow::datatypes::{DataType, Field, Fields};
use deltaworks_lake::{CommitChanges, DataFile};
use deltaworks_spark::{Error, Result};

use super::options::ChangePolicy;

/// The files a stream reads of a commit, in the order of the log.
///
/// # Errors
/// `DELTA_SOURCE_IGNORE_DELETE` or `DELTA_SOURCE_TABLE_IGNORE_CHANGES` (`User`) if the commit removes or
/// changes rows and `policy` does not say what to do then.
pub(crate) fn readable(commit: CommitChanges, policy: ChangePolicy, table: &str) -> Result<Vec<DataFile>> {
    if commit.removes_rows() {
        let only_removes = commit.new_rows().next().is_none();
        let ignored = policy.skip_changes || (only_removes && (policy.ignore_deletes || policy.ignore_changes));
        if ignored {
            return Ok(Vec::new());
        }
        if !policy.ignore_changes {
            return Err(refusal(&commit, only_removes, table));
        }
    }
    Ok(commit.added.into_iter().filter(|file| file.data_change).collect())
}

fn refusal(commit: &CommitChanges, only_removes: bool, table: &str) -> Error {
    let operation = commit.operation.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let example =
        commit.removed.iter().find(|file| file.data_change).map(|file| file.path.as_str()).unwrap_or_default();
    let (what, condition) = match only_removes {
        true => ("deleted rows were", "DELTA_SOURCE_IGNORE_DELETE"),
        false => ("a data update was", "DELTA_SOURCE_TABLE_IGNORE_CHANGES"),
    };
    Error::user(format!(
        "{what} detected in the source table `{table}` at version {}{operation}, for example in file `{example}`; \
         streaming tables may only use append-only streaming sources",
        commit.version
    ))
    .with_condition(condition)
    .with_help(
        "Run a full refresh of the reading table to read everything again, or set option `skipChangeCommits` to \
         `true` to pass over such commits.",
    )
}

/// Fails if rows written with the columns `before` cannot be read with the columns `now` without losing values.
///
/// # Errors
/// `DELTA_SCHEMA_CHANGED_WITH_VERSION` (`User`).
pub(crate) fn check_columns(before: &Fields, now: &Fields, version: u64, table: &str) -> Result<()> {
    let Some(lost) = lost_column(before, now) else { return Ok(()) };
    Err(Error::user(format!(
        "column `{lost}` of the source table `{table}` was dropped, renamed or changed its type after version \
         {version}, whose rows have not been read yet"
    ))
    .with_condition("DELTA_SCHEMA_CHANGED_WITH_VERSION")
    .with_help("Run a full refresh of the reading table."))
}

/// A column of `before` that `now` does not have, or not with a type that holds all its values.
fn lost_column(before: &Fields, now: &Fields) -> Option<String> {
    before.iter().find_map(|field| {
        let same = now.iter().find(|other| other.name().eq_ignore_ascii_case(field.name()));
        match same {
            None => Some(field.name().clone()),
            Some(other) => lost_in(field, other).map(|path| match path.is_empty() {
                true => field.name().clone(),
                false => format!("{}.{path}", field.name()),
            }),
        }
    })
}

/// The path of what is lost within a column, empty for the column itself.
fn lost_in(before: &Field, now: &Field) -> Option<String> {
    match (before.data_type(), now.data_type()) {
        (DataType::Struct(before), DataType::Struct(now)) => lost_column(before, now),
        (DataType::List(before), DataType::List(now)) | (DataType::Map(before, _), DataType::Map(now, _)) => {
            lost_in(before, now)
        }
        (before, now) if before == now || is_wider(before, now) => None,
        _ => Some(String::new()),
    }
}

/// Whether `now` holds every value of `before`: the type widenings Delta allows.
fn is_wider(before: &DataType, now: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    let digits = |data_type: &DataType| match data_type {
        Int8 => 3,
        Int16 => 5,
        Int32 => 10,
        _ => 20,
    };
    match (before, now) {
        (Int8, Int16 | Int32 | Int64 | Float64) | (Int16, Int32 | Int64 | Float64) | (Int32, Int64 | Float64) => true,
        (Float32, Float64) | (Date32, Timestamp(_, None)) => true,
        (Int8 | Int16 | Int32 | Int64, Decimal128(precision, scale)) => {
            i16::from(*precision) - i16::from(*scale) >= digits(before)
        }
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use deltaworks_lake::changes::RemovedFile;

    use super::*;

    fn commit(added: &[(&str, bool)], removed: &[(&str, bool)]) -> CommitChanges {
        let file = |(path, data_change): &(&str, bool)| DataFile {
            path: (*path).to_owned(),
            size_bytes: 1,
            rows: Some(1),
            modified_ms: 0,
            data_change: *data_change,
            version: 7,
        };
        let gone =
            |(path, data_change): &(&str, bool)| RemovedFile { path: (*path).to_owned(), data_change: *data_change };
        CommitChanges {
            version: 7,
            timestamp_ms: None,
            operation: Some("WRITE".to_owned()),
            added: added.iter().map(file).collect(),
            removed: removed.iter().map(gone).collect(),
            metadata_changed: false,
            has_change_data: false,
        }
    }

    fn read(commit: CommitChanges, policy: ChangePolicy) -> Result<Vec<String>> {
        Ok(readable(commit, policy, "t")?.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn appended_files_are_read_and_compacted_ones_are_not() {
        let none = ChangePolicy::default();
        assert_eq!(read(commit(&[("a", true), ("b", false)], &[]), none).unwrap(), ["a"]);
        assert_eq!(read(commit(&[("b", false)], &[("a", false)]), none).unwrap(), [""; 0]);
    }

    #[test]
    fn commits_that_change_rows_go_by_the_policy() {
        let deletion = || commit(&[], &[("a", true)]);
        let change = || commit(&[("b", true)], &[("a", true)]);
        let none = ChangePolicy::default();
        let error = read(deletion(), none).unwrap_err();
        assert_eq!(error.condition(), Some("DELTA_SOURCE_IGNORE_DELETE"));
        let error = read(change(), none).unwrap_err();
        assert_eq!(error.condition(), Some("DELTA_SOURCE_TABLE_IGNORE_CHANGES"));
        assert!(error.message().contains("`t` at version 7 (WRITE), for example in file `a`"), "{error}");
        let deletes = ChangePolicy { ignore_deletes: true, ..none };
        assert_eq!(read(deletion(), deletes).unwrap(), [""; 0]);
        assert_eq!(read(change(), deletes).unwrap_err().condition(), Some("DELTA_SOURCE_TABLE_IGNORE_CHANGES"));
        let skip = ChangePolicy { skip_changes: true, ..none };
        assert_eq!(read(deletion(), skip).unwrap(), [""; 0]);
        assert_eq!(read(change(), skip).unwrap(), [""; 0]);
        let again = ChangePolicy { ignore_changes: true, ..none };
        assert_eq!(read(deletion(), again).unwrap(), [""; 0]);
        assert_eq!(read(change(), again).unwrap(), ["b"]);
    }

    #[test]
    fn columns_may_come_and_widen_but_not_go() {
        let columns = |fields: &[(&str, DataType)]| -> Fields {
            fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
        };
        let inner = |name: &str| DataType::Struct(columns(&[(name, DataType::Int32)]));
        let check =
            |before: &Fields, now: &Fields| check_columns(before, now, 3, "t").map_err(|e| e.message().to_owned());
        let before = columns(&[("a", DataType::Int32), ("s", inner("x"))]);
        let wider = columns(&[("s", inner("x")), ("a", DataType::Int64), ("b", DataType::Utf8)]);
        assert_eq!(check(&before, &wider), Ok(()));
        assert!(check(&wider, &before).unwrap_err().starts_with("column `a` of the source table `t`"));
        let renamed = columns(&[("a", DataType::Int32), ("s", inner("y"))]);
        assert!(check(&before, &renamed).unwrap_err().starts_with("column `s.x` "));
    }
}
