//! Flows that apply changes: from the clauses of AUTO CDC to a plan of events.
//!
//! The plan of such a flow has the columns that the table gets from the source, then those of an event
//! ([`SEQUENCE`], [`OPERATION`], possibly [`SETS`]). A flow that compares snapshots has the columns only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::prelude::SessionContext;
use deltaworks_incremental::cdc::{self, END_AT, OPERATION, Operation, SEQUENCE, SETS, START_AT};
use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::relation::{ObjectName, ReadOptions, RelationRequest, RelationResolver, UnresolvedRelation};
use deltaworks_spark::sql::statement::ColumnSelection;
use deltaworks_spark::types::type_name;
use deltaworks_spark::{Error, Result, connect, sql};

use super::guard::{self, NoRelations};
use super::set_columns::SetColumns;
use super::suggest::nearest;
use super::{ResolvedFlow, schema};
use crate::definitions::cdc::{ChangeExpression, ChangeSource, ScdType};
use crate::definitions::{AutoCdc, Output};
use crate::name::DatasetName;

/// How a flow changes its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// As the user spells it, for messages.
    pub construct: String,
    /// How history is kept.
    pub scd_type: ScdType,
    /// The columns that identify a row.
    pub keys: Vec<String>,
    /// The columns of an update in which NULL means: as before.
    pub partial: Vec<String>,
    /// How an update names the columns that it sets.
    pub sets: Option<SetColumns>,
    /// The columns whose change makes a new version.
    pub tracked: Vec<String>,
    /// Those as they were declared: `*`, `a, b`, `* EXCEPT a`.
    pub tracked_as: String,
    /// The type of the sequence.
    pub sequence_type: DataType,
    /// The columns that the sequence is computed from.
    pub sequence_columns: Vec<String>,
    /// The stored column that the sequence is.
    pub sequence_stored: Option<String>,
    /// The source is a snapshot, to be compared with what is stored.
    pub snapshot: bool,
}

/// What a snapshot is numbered by unless the table declares another type for `__START_AT`: the time of its update.
fn snapshot_version_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Plans the events of a flow, from the rows of its source; snapshots may have versions of their own, of type `version`.
///
/// # Errors
/// `AUTOCDC_*` (`User`) for columns that are not there, reserved or cannot be ordered.
pub(super) fn plan(
    ctx: &SessionContext,
    cdc: &AutoCdc,
    source: LogicalPlan,
    version: Option<DataType>,
) -> Result<(LogicalPlan, Changes)> {
    let fields = source.schema();
    check_reserved(cdc, fields)?;
    let names = |list: &[String]| list.iter().map(|name| column(fields, name, cdc)).collect::<Result<Vec<_>>>();
    let selected = select(fields, &cdc.columns, cdc)?;
    let keys = names(&cdc.keys)?;
    if let Some(key) = keys.iter().find(|key| !selected.contains(key)) {
        return Err(Error::user(format!("key `{key}` of `{}` is not among the selected columns", cdc.construct))
            .with_condition("AUTOCDC_KEY_NOT_IN_SELECTED_SCHEMA")
            .with_help("Keys are stored: keep them in COLUMNS (column_list)."));
    }
    let others = |selection: &ColumnSelection| -> Result<Vec<String>> {
        let columns = select(fields, selection, cdc)?;
        Ok(columns.into_iter().filter(|column| selected.contains(column) && !keys.contains(column)).collect())
    };
    let partial = cdc.ignore_null_updates.as_ref().map(&others).transpose()?.unwrap_or_default();
    let sets = match &cdc.columns_to_update {
        Some(name) => Some(SetColumns::new(column(fields, name, cdc)?, fields, &cdc.construct)?),
        None => None,
    };
    let mut changes = Changes {
        construct: cdc.construct.clone(),
        scd_type: cdc.scd_type,
        partial,
        sets,
        tracked: others(&cdc.track_history)?,
        tracked_as: shown(&cdc.track_history),
        keys,
        sequence_type: version.unwrap_or_else(snapshot_version_type),
        sequence_columns: Vec::new(),
        sequence_stored: None,
        snapshot: matches!(cdc.source, ChangeSource::Snapshot(_) | ChangeSource::Function(_)),
    };
    let mut projection: Vec<Expr> = Vec::with_capacity(selected.len() + 2);
    for (qualifier, field) in fields.iter() {
        if selected.contains(field.name()) {
            projection.push(Expr::Column(Column::from((qualifier, field))).alias(field.name()));
        }
    }
    if let Some(sequence_by) = &cdc.sequence_by {
        let sequence = expression(ctx, sequence_by, &source)?;
        changes.sequence_type = sequence.get_type(fields)?;
        check_orderable(&changes.sequence_type, cdc)?;
        changes.sequence_columns = sequence.column_refs().into_iter().map(|column| column.name.clone()).collect();
        changes.sequence_stored = match &sequence {
            Expr::Column(column) if selected.contains(&column.name) && !changes.sequence_type.is_nested() => {
                Some(column.name.clone())
            }
            _ => None,
        };
        projection.push(sequence.alias(SEQUENCE));
        projection.push(operation(ctx, cdc, &source)?.alias(OPERATION));
    }
    if let Some(sets) = &changes.sets {
        let found = fields.iter().find(|(_, field)| *field.name() == sets.column);
        projection.extend(found.map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field))).alias(SETS)));
    }
    Ok((LogicalPlanBuilder::from(source).project(projection)?.build()?, changes))
}

/// What a flow reads its changes from.
///
/// # Errors
/// What `relations` returns.
pub(super) async fn source(
    ctx: &SessionContext,
    cdc: &AutoCdc,
    once: bool,
    relations: &dyn RelationResolver,
) -> Result<LogicalPlan> {
    let read = |name: &ObjectName, streaming| RelationRequest {
        relation: UnresolvedRelation::Table { name: name.clone(), options: ReadOptions::new(), time_travel: None },
        streaming,
        location: None,
    };
    match &cdc.source {
        ChangeSource::Query(query) => schema::selected(sql::plan_query(ctx, query, relations).await?),
        ChangeSource::Dataset(name) => schema::visible(relations.resolve(&read(name, !once)).await?),
        ChangeSource::Snapshot(name) => schema::visible(relations.resolve(&read(name, false)).await?),
        ChangeSource::Function(_) => Err(Error::internal("a function has no rows before it is called")),
    }
}

fn check_reserved(cdc: &AutoCdc, fields: &DFSchema) -> Result<()> {
    let reserved = |name: &str| {
        let versions = cdc.scd_type == ScdType::Two && [START_AT, END_AT].iter().any(|r| r.eq_ignore_ascii_case(name));
        versions || name.to_ascii_lowercase().starts_with("__deltaworks_")
    };
    match fields.fields().iter().find(|field| reserved(field.name())) {
        None => Ok(()),
        Some(field) => Err(Error::user(format!(
            "column `{}` of the source of `{}` has a name that is reserved",
            field.name(),
            cdc.construct
        ))
        .with_condition("AUTOCDC_RESERVED_COLUMN_NAME_CONFLICT")
        .with_help("Rename the column in a view, or leave it out with COLUMNS * EXCEPT (except_column_list).")),
    }
}

/// The name of a column as the source spells it.
fn column(fields: &DFSchema, name: &str, cdc: &AutoCdc) -> Result<String> {
    let names = || fields.fields().iter().map(|field| field.name().as_str());
    if let Some(found) = names().find(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(found.to_owned());
    }
    let error = Error::user(format!("column `{name}` of `{}` is not a column of its source", cdc.construct))
        .with_condition("AUTOCDC_COLUMNS_NOT_FOUND_IN_SCHEMA");
    Err(match nearest(name, names()) {
        Some(near) => error.with_help(format!("Did you mean `{near}`?")),
        None => error.with_help(format!("The source has the columns {}.", names().collect::<Vec<_>>().join(", "))),
    })
}

fn select(fields: &DFSchema, selection: &ColumnSelection, cdc: &AutoCdc) -> Result<Vec<String>> {
    let listed = |list: &[String]| list.iter().map(|name| column(fields, name, cdc)).collect::<Result<Vec<_>>>();
    let all = || fields.fields().iter().map(|field| field.name().clone());
    match selection {
        ColumnSelection::All => Ok(all().collect()),
        ColumnSelection::Only(list) => {
            let list = listed(list)?;
            Ok(all().filter(|name| list.contains(name)).collect())
        }
        ColumnSelection::Except(list) => {
            let list = listed(list)?;
            Ok(all().filter(|name| !list.contains(name)).collect())
        }
    }
}

fn shown(selection: &ColumnSelection) -> String {
    let sorted = |list: &[String]| {
        let mut list: Vec<String> = list.iter().map(|name| name.to_lowercase()).collect();
        list.sort();
        list.join(", ")
    };
    match selection {
        ColumnSelection::All => "*".to_owned(),
        ColumnSelection::Only(list) => sorted(list),
        ColumnSelection::Except(list) => format!("* EXCEPT {}", sorted(list)),
    }
}

fn expression(ctx: &SessionContext, expression: &ChangeExpression, source: &LogicalPlan) -> Result<Expr> {
    match expression {
        ChangeExpression::Sql(sql) => sql::plan_expression(ctx, &sql.text, source.schema(), &sql.location),
        ChangeExpression::Column(column) => connect::plan::plan_expression(ctx, column, source, &NoRelations),
    }
}

/// A truncation before a delete before an upsert; a condition that is NULL does not hold.
fn operation(ctx: &SessionContext, cdc: &AutoCdc, source: &LogicalPlan) -> Result<Expr> {
    let upsert = lit(Operation::Upsert.code());
    let deletes = condition(ctx, cdc.deletes.as_ref(), source, "APPLY AS DELETE WHEN (apply_as_deletes)")?;
    let truncates = condition(ctx, cdc.truncates.as_ref(), source, "APPLY AS TRUNCATE WHEN (apply_as_truncates)")?;
    if truncates.is_some() && cdc.scd_type == ScdType::Two {
        return Err(Error::user(format!("`{}` truncates a table of SCD type 2", cdc.construct))
            .with_condition("AUTOCDC_TRUNCATE_REQUIRES_SCD1")
            .with_help("Truncation is for SCD type 1; history is never removed."));
    }
    let deleted = match deletes {
        Some(deletes) => when(deletes, lit(Operation::Delete.code())).otherwise(upsert)?,
        None => upsert,
    };
    Ok(match truncates {
        Some(truncates) => when(truncates, lit(Operation::Truncate.code())).otherwise(deleted)?,
        None => deleted,
    })
}

fn condition(
    ctx: &SessionContext,
    given: Option<&ChangeExpression>,
    source: &LogicalPlan,
    clause: &str,
) -> Result<Option<Expr>> {
    let Some(given) = given else { return Ok(None) };
    let planned = expression(ctx, given, source).map_err(|error| error.context(format!("in {clause}")))?;
    match planned.get_type(source.schema())? {
        DataType::Boolean => Ok(Some(planned)),
        other => Err(Error::user(format!("{clause} must be a condition, not a value of type {}", type_name(&other)))
            .with_condition("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN")
            .with_help("Write a comparison, such as `op = 'DELETE'`.")),
    }
}

fn check_orderable(data_type: &DataType, cdc: &AutoCdc) -> Result<()> {
    fn orderable(data_type: &DataType) -> bool {
        match data_type {
            DataType::Map(..) | DataType::Null | DataType::Interval(_) => false,
            DataType::Struct(fields) => fields.iter().all(|field| orderable(field.data_type())),
            DataType::List(item) | DataType::LargeList(item) => orderable(item.data_type()),
            other => cdc::supports([other]),
        }
    }
    if let DataType::Struct(fields) = data_type {
        let twice = |(place, field): &(usize, &Arc<Field>)| {
            fields.iter().take(*place).any(|other| other.name().eq_ignore_ascii_case(field.name()))
        };
        if let Some((_, field)) = fields.iter().enumerate().find(twice) {
            let message =
                format!("the sequence of `{}` has two fields with the name `{}`", cdc.construct, field.name());
            return Err(Error::user(message)
                .with_condition("COLUMN_ALREADY_EXISTS")
                .with_help("Name the fields: `STRUCT(a.x AS first, b.x AS second)`."));
        }
    }
    if orderable(data_type) {
        return Ok(());
    }
    Err(Error::user(format!(
        "the sequence of `{}` has type {}, whose values have no order",
        cdc.construct,
        type_name(data_type)
    ))
    .with_condition("AUTOCDC_MICROBATCH_VALIDATION.NON_ORDERABLE_SEQUENCE")
    .with_help("Sequence by a number, a date, a timestamp, a text, or a STRUCT of those."))
}

/// How the flows of one table change it; `None` if they append.
///
/// # Errors
/// `User` if the flows contradict each other; `Unsupported` for what the table declares but cannot have.
pub(super) fn of_output(output: &Output, flows: &[ResolvedFlow]) -> Result<Option<Changes>> {
    let name = &output.name.name;
    let Some((first, changes)) = flows.iter().find_map(|flow| Some((flow, flow.changes.as_ref()?))) else {
        return Ok(None);
    };
    for flow in flows {
        let Some(other) = &flow.changes else {
            return Err(Error::user(format!(
                "`{name}` is written by `{}` with AUTO CDC and by `{}` without",
                first.flow.name.name, flow.flow.name.name
            ))
            .with_condition("AUTOCDC_AND_APPEND_FLOWS_INTO_ONE_TARGET")
            .with_help("Use AUTO CDC for all flows into the table (AUTO CDC ONCE for a backfill).")
            .at(flow.flow.location.clone()));
        };
        if let Some(what) = disagreement(changes, other) {
            return Err(Error::user(format!(
                "the flows `{}` and `{}` into `{name}` have different {what}",
                first.flow.name.name, flow.flow.name.name
            ))
            .with_condition("AUTOCDC_FLOWS_DISAGREE")
            .with_help("All flows into one table share keys, SCD type, tracked columns and the type of the sequence.")
            .at(flow.flow.location.clone()));
        }
    }
    if changes.snapshot && flows.len() > 1 {
        return Err(Error::user(format!("`{name}` is computed from snapshots and has other flows as well"))
            .with_condition("APPLY_CHANGES_FROM_SNAPSHOT_ERROR.MULTIPLE_QUERIES_FOR_TABLE")
            .with_help("A table that follows snapshots has one flow."));
    }
    if let Some(field) = output
        .schema
        .iter()
        .flat_map(|schema| schema.fields())
        .find(|field| field.metadata().contains_key(schema::GENERATION_EXPRESSION))
    {
        return Err(Error::unsupported(format!("the generated column `{}` in a target of AUTO CDC", field.name()))
            .with_help("Compute the column in the view that the changes come from."));
    }
    let mut changes = changes.clone();
    changes.sequence_type = flows
        .iter()
        .filter_map(|flow| flow.changes.as_ref())
        .map(|changes| changes.sequence_type.clone())
        .reduce(wider)
        .unwrap_or(changes.sequence_type);
    for other in flows.iter().filter_map(|flow| flow.changes.as_ref()) {
        changes.sequence_stored = changes.sequence_stored.or_else(|| other.sequence_stored.clone());
        // Each flow tracks what it sets.
        let known = |name: &String| changes.tracked.iter().any(|tracked| tracked.eq_ignore_ascii_case(name));
        let more: Vec<String> = other.tracked.iter().filter(|name| !known(name)).cloned().collect();
        changes.tracked.extend(more);
    }
    if let Some(declared) = &output.schema {
        // The table spells its columns as it declares them.
        for name in changes.keys.iter_mut().chain(&mut changes.tracked) {
            if let Some(field) = declared.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name)) {
                name.clone_from(field.name());
            }
        }
    }
    check_versions(output, &mut changes)?;
    Ok(Some(changes))
}

fn disagreement(one: &Changes, other: &Changes) -> Option<&'static str> {
    let same_names =
        |a: &[String], b: &[String]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.eq_ignore_ascii_case(b));
    let one_type = |a: &DataType, b: &DataType| a == b || (a.is_integer() && b.is_integer());
    if one.scd_type != other.scd_type {
        Some("SCD types")
    } else if !same_names(&one.keys, &other.keys) {
        Some("keys")
    } else if one.tracked_as != other.tracked_as {
        Some("tracked columns")
    } else if !one_type(&one.sequence_type, &other.sequence_type) {
        Some("types of sequence")
    } else {
        None
    }
}

/// Of integers, the type that holds both: a backfill is often sequenced by a literal.
fn wider(one: DataType, other: DataType) -> DataType {
    match one.primitive_width() >= other.primitive_width() {
        true => one,
        false => other,
    }
}

/// Declared columns of a table of SCD type 2 include those of its versions.
fn check_versions(output: &Output, changes: &mut Changes) -> Result<()> {
    let (Some(declared), ScdType::Two) = (&output.schema, changes.scd_type) else { return Ok(()) };
    let find = |name: &str| declared.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
    let (Some(start), Some(end)) = (find(START_AT), find(END_AT)) else {
        return Err(Error::user(format!(
            "`{}` declares its columns, but not `{START_AT}` and `{END_AT}`",
            output.name.name
        ))
        .with_condition("AUTOCDC_MISSING_SYSTEM_COLUMNS")
        .with_help(format!(
            "Add `{START_AT} {0}, {END_AT} {0}`, or leave the column list out.",
            type_name(&changes.sequence_type)
        )));
    };
    // Numbers of snapshots fit any integer; what else a version is, the function says.
    let is_numbered = changes.sequence_type == snapshot_version_type() || changes.sequence_type.is_integer();
    if changes.snapshot && is_numbered && start.data_type() == end.data_type() && start.data_type().is_integer() {
        changes.sequence_type = start.data_type().clone();
    }
    match [start, end].into_iter().find(|field| field.data_type() != &changes.sequence_type) {
        None => Ok(()),
        Some(field) => Err(Error::user(format!(
            "`{}` declares `{}` as {}, but the sequence has type {}",
            output.name.name,
            field.name(),
            type_name(field.data_type()),
            type_name(&changes.sequence_type)
        ))
        .with_condition("AUTOCDC_SYSTEM_COLUMN_TYPE_MISMATCH")
        .with_help("Declare both with the type of SEQUENCE BY.")),
    }
}

/// The columns that a flow gives its table: without those of an event, with those of a version.
pub(super) fn columns(plan: &LogicalPlan, changes: &Changes) -> SchemaRef {
    let schema = plan.schema().as_arrow();
    let mut fields: Vec<Field> = schema
        .fields()
        .iter()
        .filter(|field| ![SEQUENCE, OPERATION, SETS].contains(&field.name().as_str()))
        .map(|field| field.as_ref().clone())
        .collect();
    if changes.scd_type == ScdType::Two {
        fields.extend([START_AT, END_AT].map(|name| Field::new(name, changes.sequence_type.clone(), true)));
    }
    Arc::new(Schema::new(fields))
}

/// The events of a flow in the columns of its target, expectations on rows evaluated.
///
/// # Errors
/// `Unsupported` for expectations on all rows at once; as the guard and the columns' casts.
pub(super) fn events(
    flow: &ResolvedFlow,
    output: &Output,
    changes: &Changes,
    target: &SchemaRef,
    dataset: &str,
    ctx: &SessionContext,
) -> Result<LogicalPlan> {
    if let (true, Some(expectation)) = (changes.snapshot, output.expectations.first()) {
        return Err(Error::unsupported(format!(
            "expectation `{}` on a table that follows snapshots",
            expectation.name
        ))
        .with_help("Put the expectation on the dataset that holds the snapshot.")
        .at(expectation.location.clone()));
    }
    // What a delete carries besides its key is nobody's row.
    let exempt =
        (!changes.snapshot).then(|| Expr::Column(Column::from_name(OPERATION)).not_eq(lit(Operation::Upsert.code())));
    let (guarded, on_all_rows) = guard::guard_rows(flow.plan.clone(), output, dataset, ctx, exempt.as_ref())?;
    if let Some(expectation) = on_all_rows.first() {
        return Err(Error::unsupported(format!(
            "expectation `{}` on all rows of `{dataset}`, a target of AUTO CDC,",
            expectation.name
        ))
        .with_help("Check it in a materialized view that reads the table.")
        .at(expectation.location.clone()));
    }
    let mut fields: Vec<Arc<Field>> = target
        .fields()
        .iter()
        .filter(|field| changes.scd_type == ScdType::One || ![START_AT, END_AT].contains(&field.name().as_str()))
        .cloned()
        .collect();
    if !changes.snapshot {
        // What the flow has no column for stays as it is: an event says nothing of it.
        let has = |field: &Arc<Field>| {
            guarded.schema().fields().iter().any(|own| own.name().eq_ignore_ascii_case(field.name()))
        };
        fields.retain(has);
        fields.push(Arc::new(Field::new(SEQUENCE, changes.sequence_type.clone(), true)));
        fields.push(Arc::new(Field::new(OPERATION, DataType::Int32, true)));
    }
    if flow.changes.as_ref().is_some_and(|own| own.sets.is_some()) {
        fields.push(Arc::new(cdc::sets_field()));
    }
    schema::conform(guarded, &Arc::new(Schema::new(fields)), ctx)
}

/// A history that gets a version from every event, which is rarely meant.
pub(super) fn lint(flow: &ResolvedFlow) -> Option<Diagnostic> {
    let changes = flow.changes.as_ref().filter(|changes| changes.scd_type == ScdType::Two)?;
    let column = changes.sequence_columns.iter().find(|column| changes.tracked.contains(column))?;
    Some(
        Diagnostic::warning(format!(
            "column `{column}`, which orders the changes, is tracked: every event makes a new version in `{}`",
            flow.flow.target.name
        ))
        .at(flow.flow.location.clone())
        .with_help(format!(
            "Leave it out with COLUMNS * EXCEPT ({column}), or with TRACK HISTORY ON * EXCEPT ({column})."
        )),
    )
}

/// A stream from a table whose rows change, which ends with the first row that does.
pub(super) fn streamed(flow: &ResolvedFlow, read: &DatasetName) -> Diagnostic {
    Diagnostic::warning(format!(
        "`{}` reads `{}` as a stream, whose rows AUTO CDC rewrites: the flow fails at the first row that changes",
        flow.flow.name.name, read.name
    ))
    .at(flow.flow.location.clone())
    .with_help("Read it in a materialized view, or its changes (option `readChangeFeed`).")
}
