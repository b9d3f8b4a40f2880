//! AUTO CDC as declared: what is changed by what, from SQL and Python alike.

use deltaworks_spark::connect::extension::{AutoCdcExtension, Condition, SnapshotCdc};
use deltaworks_spark::connect::proto;
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::relation::ObjectName;
use deltaworks_spark::sql::statement::{AutoCdcClause, ColumnSelection, SqlText, StoredAs};
use deltaworks_spark::sql::{self, SqlQuery};
use deltaworks_spark::{Error, Result};
use proto::expression::ExprType;
use proto::pipeline_command::define_flow::{AutoCdcFlowDetails, ScdType as ProtoScdType};
use serde::Deserialize as _;

use super::snapshots::{SnapshotAnswer, SnapshotFunction, SnapshotVersion, VersionedSnapshot};

/// A flow that applies changes.
#[derive(Debug, Clone)]
pub struct AutoCdc {
    /// As the user spells it, for messages: `AUTO CDC INTO`, `apply_changes`.
    pub construct: String,
    /// Where the changes come from.
    pub source: ChangeSource,
    /// The columns that identify a row.
    pub keys: Vec<String>,
    /// What orders the changes of a key.
    pub sequence_by: Option<ChangeExpression>,
    /// Which changes are deletes.
    pub deletes: Option<ChangeExpression>,
    /// Which changes empty the table.
    pub truncates: Option<ChangeExpression>,
    /// The columns of an update in which NULL means: as before.
    pub ignore_null_updates: Option<ColumnSelection>,
    /// The column that lists the columns which an update sets.
    pub columns_to_update: Option<String>,
    /// The columns of the source that the table gets.
    pub columns: ColumnSelection,
    /// How history is kept.
    pub scd_type: ScdType,
    /// SCD type 2: the columns whose change makes a new version.
    pub track_history: ColumnSelection,
}

/// Where changes come from.
#[derive(Debug, Clone)]
pub enum ChangeSource {
    /// A query, streaming unless the flow runs once.
    Query(Box<SqlQuery>),
    /// A dataset, read as a stream unless the flow runs once.
    Dataset(ObjectName),
    /// A dataset whose rows are all there is: what changed is found by comparing.
    Snapshot(ObjectName),
    /// A function that gives snapshots with their versions.
    Function(Box<SnapshotFunction>),
}

/// An expression over the columns of the source.
#[derive(Debug, Clone)]
pub enum ChangeExpression {
    /// SQL text.
    Sql(SqlText),
    /// A PySpark Column.
    Column(Box<proto::Expression>),
}

/// How history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScdType {
    /// The latest state.
    One,
    /// Every version.
    Two,
}

impl ScdType {
    /// `1` or `2`.
    pub fn number(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }
}

impl AutoCdc {
    /// What SQL says.
    ///
    /// # Errors
    /// `Unsupported` for clauses that cannot be run.
    pub fn from_sql(construct: &str, clause: AutoCdcClause) -> Result<Self> {
        let refused = [
            ("WHERE", clause.condition.is_some(), "Filter in the view that the changes come from."),
            ("SYSTEM SEQUENCE BY", clause.system_sequence_by.is_some(), BITEMPORAL_HELP),
        ];
        for (name, given, help) in refused {
            if given {
                return Err(Error::unsupported(format!("`{name}` of `{construct}`")).with_help(help));
            }
        }
        let scd_type = match clause.stored_as {
            StoredAs::ScdType1 => ScdType::One,
            StoredAs::ScdType2 => ScdType::Two,
            StoredAs::Bitemporal => return Err(bitemporal()),
        };
        Ok(Self {
            construct: construct.to_owned(),
            source: ChangeSource::Query(Box::new(clause.source)),
            keys: clause.keys,
            sequence_by: Some(ChangeExpression::Sql(clause.sequence_by)),
            deletes: clause.apply_as_delete.map(ChangeExpression::Sql),
            truncates: clause.apply_as_truncate.map(ChangeExpression::Sql),
            ignore_null_updates: clause.ignore_null_updates,
            columns_to_update: clause.columns_to_update,
            columns: clause.columns.unwrap_or(ColumnSelection::All),
            scd_type,
            track_history: clause.track_history.unwrap_or(ColumnSelection::All),
        })
    }

    /// What a command of the protocol says, with what the Python package adds to it.
    ///
    /// # Errors
    /// `AUTOCDC_*` (`User`) for what is missing or contradicts itself; `Unsupported` for what cannot be run.
    pub fn from_command(
        details: &AutoCdcFlowDetails,
        additions: Option<&AutoCdcExtension>,
        location: &SourceLocation,
    ) -> Result<Self> {
        const CONSTRUCT: &str = "create_auto_cdc_flow";
        let additions = additions.cloned().unwrap_or_default();
        let refused = [
            ("where", additions.condition.is_some(), "Filter in the view that the changes come from."),
            ("system_sequence_by", additions.system_sequence_by.is_some(), BITEMPORAL_HELP),
        ];
        for (name, given, help) in refused {
            if given {
                return Err(Error::unsupported(format!("`{name}` of `{CONSTRUCT}`")).with_help(help));
            }
        }
        let scd_type = match (additions.stored_as_scd_type.as_deref(), details.stored_as_scd_type()) {
            (Some("2"), _) | (None, ProtoScdType::ScdType2) => ScdType::Two,
            (None | Some("1"), _) => ScdType::One,
            _ => return Err(bitemporal()),
        };
        let missing = |what: &str, condition: &str| {
            Error::user(format!("`{CONSTRUCT}` has no `{what}`")).with_condition(condition).at(location.clone())
        };
        let source = details.source.as_deref().ok_or_else(|| missing("source", "AUTOCDC_MISSING_SOURCE"))?;
        let sequence_by =
            details.sequence_by.clone().ok_or_else(|| missing("sequence_by", "AUTOCDC_MISSING_SEQUENCE_BY"))?;
        let expression = |given: &Option<proto::Expression>| {
            given.clone().map(|expression| ChangeExpression::Column(Box::new(expression)))
        };
        let columns = Columns { location };
        let all = |known: &[proto::Expression], added: &[Condition]| -> Result<Vec<proto::Expression>> {
            known.iter().cloned().map(Ok).chain(added.iter().map(Condition::to_expression)).collect()
        };
        let (some, all_but) = (
            columns.names(&details.ignore_null_updates_column_list)?,
            columns.names(&details.ignore_null_updates_except_column_list)?,
        );
        let ignore_null_updates = match (additions.ignore_null_updates, some.is_empty(), all_but.is_empty()) {
            (_, false, _) => Some(ColumnSelection::Only(some)),
            (_, _, false) => Some(ColumnSelection::Except(all_but)),
            (true, _, _) => Some(ColumnSelection::All),
            _ => None,
        };
        let columns_to_update = match &additions.columns_to_update {
            Some(column) => Some(columns.name(&column.to_expression()?)?),
            None => None,
        };
        if columns_to_update.is_some() && ignore_null_updates.is_some() {
            let message = format!("`columns_to_update` and `ignore_null_updates` of `{CONSTRUCT}` exclude each other");
            return Err(Error::user(message)
                .with_condition("AUTOCDC_COLUMNS_TO_UPDATE_AND_IGNORE_NULL_UPDATES")
                .with_help("A column that is listed is set, also to NULL; leave `ignore_null_updates` out.")
                .at(location.clone()));
        }
        Ok(Self {
            construct: CONSTRUCT.to_owned(),
            source: ChangeSource::Dataset(sql::parse_name(source)?),
            keys: columns.names(&details.keys)?,
            sequence_by: Some(ChangeExpression::Column(Box::new(sequence_by))),
            deletes: expression(&details.apply_as_deletes),
            truncates: expression(&details.apply_as_truncates),
            ignore_null_updates,
            columns_to_update,
            columns: columns.selection(
                &details.column_list,
                &details.except_column_list,
                "AUTOCDC_BOTH_COLUMN_LIST_AND_EXCEPT_COLUMN_LIST",
            )?,
            scd_type,
            track_history: columns.selection(
                &all(&details.track_history_column_list, &additions.track_history_column_list)?,
                &all(&details.track_history_except_column_list, &additions.track_history_except_column_list)?,
                "AUTOCDC_BOTH_TRACK_HISTORY_COLUMN_LIST_AND_EXCEPT_COLUMN_LIST",
            )?,
        })
    }

    /// What `create_auto_cdc_from_snapshot_flow` says of the flow that its client calls `flow`; with the `relation` of a
    /// snapshot if its function has been called.
    ///
    /// # Errors
    /// `Unsupported` for bitemporal history; `Internal` for a snapshot without a version.
    pub fn from_snapshot(snapshot: &SnapshotCdc, flow: &str, relation: Option<&proto::Relation>) -> Result<Self> {
        const CONSTRUCT: &str = "create_auto_cdc_from_snapshot_flow";
        let source = match &snapshot.source {
            Some(name) => ChangeSource::Snapshot(sql::parse_name(name)?),
            None => ChangeSource::Function(Box::new(SnapshotFunction {
                flow: flow.to_owned(),
                answer: relation.map(|relation| answer(relation, snapshot.version.as_ref())).transpose()?,
                waits_for: None,
            })),
        };
        let scd_type = match snapshot.stored_as_scd_type.as_str() {
            "1" => ScdType::One,
            "2" => ScdType::Two,
            _ => return Err(bitemporal()),
        };
        let track_history = match (&snapshot.track_history_column_list, &snapshot.track_history_except_column_list) {
            (Some(columns), _) => ColumnSelection::Only(columns.clone()),
            (None, Some(columns)) => ColumnSelection::Except(columns.clone()),
            (None, None) => ColumnSelection::All,
        };
        Ok(Self {
            construct: CONSTRUCT.to_owned(),
            source,
            keys: snapshot.keys.clone(),
            sequence_by: None,
            deletes: None,
            truncates: None,
            ignore_null_updates: None,
            columns_to_update: None,
            columns: ColumnSelection::All,
            scd_type,
            track_history,
        })
    }
}

/// What a function has given; what it was called with is not known here.
fn answer(relation: &proto::Relation, version: Option<&serde_json::Value>) -> Result<SnapshotAnswer> {
    let version = version.ok_or_else(|| Error::internal("a snapshot has no version"))?;
    let version = SnapshotVersion::deserialize(version)
        .map_err(|error| Error::internal(format!("the version of a snapshot is malformed: {error}")))?;
    let next = VersionedSnapshot { relation: Box::new(relation.clone()), version };
    Ok(SnapshotAnswer { after: None, next: Some(next) })
}

const BITEMPORAL_HELP: &str = "Keep one time in SCD type 2 and the other one as a column.";

fn bitemporal() -> Error {
    Error::unsupported("`STORED AS BITEMPORAL`").with_help(BITEMPORAL_HELP)
}

/// Reads column lists, whose members are expressions in the protocol.
struct Columns<'a> {
    location: &'a SourceLocation,
}

impl Columns<'_> {
    fn names(&self, columns: &[proto::Expression]) -> Result<Vec<String>> {
        columns.iter().map(|column| self.name(column)).collect()
    }

    fn selection(
        &self,
        only: &[proto::Expression],
        except: &[proto::Expression],
        both: &str,
    ) -> Result<ColumnSelection> {
        match (only.is_empty(), except.is_empty()) {
            (false, false) => Err(Error::user("a column list and an except column list exclude each other")
                .with_condition(both)
                .at(self.location.clone())),
            (false, true) => Ok(ColumnSelection::Only(self.names(only)?)),
            (true, false) => Ok(ColumnSelection::Except(self.names(except)?)),
            (true, true) => Ok(ColumnSelection::All),
        }
    }

    fn name(&self, column: &proto::Expression) -> Result<String> {
        let written = match &column.expr_type {
            Some(ExprType::UnresolvedAttribute(attribute)) => &attribute.unparsed_identifier,
            Some(ExprType::ExpressionString(text)) => &text.expression,
            _ => {
                return Err(Error::user("the columns of AUTO CDC are names or plain columns")
                    .with_condition("AUTOCDC_NON_COLUMN_IDENTIFIER")
                    .with_help("Compute the value in a view, and name its column here.")
                    .at(self.location.clone()));
            }
        };
        let name = sql::parse_name(written).map_err(|error| error.at(self.location.clone()))?;
        match <[String; 1]>::try_from(name.0) {
            Ok([name]) => Ok(name),
            Err(_) => Err(Error::user(format!("`{written}` is qualified; AUTO CDC takes plain column names"))
                .with_condition("AUTOCDC_MULTIPART_COLUMN_IDENTIFIER")
                .at(self.location.clone())),
        }
    }
}
