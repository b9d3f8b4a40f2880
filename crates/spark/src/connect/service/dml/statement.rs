//! `DELETE`, `UPDATE` and `MERGE` in SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};

use super::target::OpenTarget;
use super::{Named, merge_counts, numbers, until_it_lands};
use crate::conf::SparkConf;
use crate::connect::faces;
use crate::connect::host::Purpose;
use crate::connect::service::Session;
use crate::connect::service::execute::refuse_streams;
use crate::dml::{self, Action, Assigned, Assignments, Change, Clause, Source};
use crate::edit::{EditScope, Operation, RowCounts};
use crate::error::{Error, Result};
use crate::kept::{Kept, KeptRows};
use crate::relation::{RelationRequest, RelationResolver, UnresolvedRelation};
use crate::sql::query::{plan_expression_with, plan_query};
use crate::sql::statement::SqlText;
use crate::sql::statement::dml::{Assignment, Delete, Merge, MergeAction, MergeClause, MergeRows, Update};

/// The setting by which every `MERGE` is one with schema evolution.
const AUTO_MERGE: &str = "spark.databricks.delta.schema.autoMerge.enabled";

impl Session {
    pub(in super::super) async fn delete_rows(&self, delete: &Delete) -> Result<RecordBatch> {
        let counts = until_it_lands(|| self.delete_once(delete)).await?;
        numbers(&[("num_affected_rows", counts.affected())])
    }

    pub(in super::super) async fn update_rows(&self, update: &Update) -> Result<RecordBatch> {
        let counts = until_it_lands(|| self.update_once(update)).await?;
        numbers(&[("num_affected_rows", counts.affected())])
    }

    pub(in super::super) async fn merge_rows(&self, merge: &Merge) -> Result<RecordBatch> {
        // The same rows in every attempt.
        let kept = Arc::new(KeptRows::default());
        merge_counts(&until_it_lands(|| self.merge_once(merge, &kept)).await?)
    }

    async fn delete_once(&self, delete: &Delete) -> Result<RowCounts> {
        let scope = EditScope { removes_rows: true, ..EditScope::default() };
        let target = self.open(&delete.target, scope).await?;
        let relations = self.readable();
        let planning = Planning::new(self, &relations, target.visible()?);
        let condition = planning.optional_condition(delete.condition.as_ref()).await?;
        let change = without_source(&target, Clause { condition, action: Action::Delete })?;
        self.change_rows(target, &change, named(Operation::Delete, delete.condition.as_ref())).await
    }

    async fn update_once(&self, update: &Update) -> Result<RowCounts> {
        let scope = EditScope { removes_rows: true, ..EditScope::default() };
        let target = self.open(&update.target, scope).await?;
        let relations = self.readable();
        let planning = Planning::new(self, &relations, target.visible()?);
        let condition = planning.optional_condition(update.condition.as_ref()).await?;
        let values = planning.assignments(&target, &update.assignments).await?;
        let change = without_source(&target, Clause { condition, action: Action::Set(values) })?;
        self.change_rows(target, &change, named(Operation::Update, update.condition.as_ref())).await
    }

    async fn merge_once(&self, merge: &Merge, kept: &Arc<KeptRows>) -> Result<RowCounts> {
        let scope = scope_of(merge.clauses.iter().map(|clause| clause.rows), merge.evolves || self.auto_merges());
        let mut target = self.open(&merge.target, scope).await?;
        let relations = self.readable();
        let reference = reference_of(&merge.source_name);
        if reference.resolved_eq(&target.reference) {
            return Err(Error::user(format!(
                "target and source of the `MERGE` are both called `{}`",
                reference.table()
            ))
            .with_condition("AMBIGUOUS_REFERENCE")
            .with_help("Give them aliases.")
            .at(merge.source.location.clone()));
        }
        let source = plan_query(&self.context(), &merge.source, &relations).await?;
        refuse_streams(&source)?;
        let source = LogicalPlanBuilder::from(Kept::plan(source, Arc::clone(kept)))
            .alias(reference)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| Error::from(error).at(merge.source.location.clone()))?;
        let offered = offered(&source);
        if target.evolves {
            let wanted = |name: &str| is_wanted(&merge.clauses, &target, name);
            let wanted: Vec<String> =
                offered.iter().map(|(name, _)| name.clone()).filter(|name| wanted(name)).collect();
            target.evolve(&offered, source.schema(), |name| wanted.iter().any(|known| known == name))?;
        }
        let planning = Planning::new(self, &relations, target.visible()?.join(source.schema())?);
        let on = planning.condition(&merge.on).await?;
        let mut change = Change {
            schema: Arc::clone(&target.schema),
            source: Some(Source { plan: source.clone(), on }),
            matched: Vec::new(),
            not_matched: Vec::new(),
            by_source: Vec::new(),
            keeps_old: target.edit.records_changes()?,
        };
        let of_source = Planning::new(self, &relations, source.schema().as_ref().clone());
        let of_target = Planning::new(self, &relations, target.visible()?);
        for clause in &merge.clauses {
            let (planning, clauses) = match clause.rows {
                MergeRows::Matched => (&planning, &mut change.matched),
                MergeRows::NotMatched => (&of_source, &mut change.not_matched),
                MergeRows::NotMatchedBySource => (&of_target, &mut change.by_source),
            };
            let condition = planning.optional_condition(clause.condition.as_ref()).await?;
            let action = planning.action(&target, clause, &offered).await.map_err(|e| e.at(clause.location.clone()))?;
            clauses.push(Clause { condition, action });
        }
        self.change_rows(target, &change, merge_named(merge)).await
    }

    async fn open(&self, target: &crate::sql::statement::dml::Target, scope: EditScope) -> Result<OpenTarget> {
        let opened = self.target(&target.table, target.alias.as_deref(), scope).await;
        opened.map_err(|error| error.at(target.location.clone()))
    }

    /// Whether `MERGE` takes new columns of its source into the table without being told.
    pub(super) fn auto_merges(&self) -> bool {
        self.setting(AUTO_MERGE).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// What statements of the session can read, temporary views among it.
    pub(super) fn readable(&self) -> SessionRelations<'_> {
        SessionRelations { session: self, stored: self.host.resolver(Purpose::Execute, None) }
    }
}

/// A change of the rows that the clause is for, whatever else there is.
fn without_source(target: &OpenTarget, clause: Clause) -> Result<Change> {
    Ok(Change {
        schema: Arc::clone(&target.schema),
        source: None,
        matched: Vec::new(),
        not_matched: Vec::new(),
        by_source: vec![clause],
        keeps_old: target.edit.records_changes()?,
    })
}

/// What the clauses of a `MERGE` may do.
pub(super) fn scope_of(clauses: impl Iterator<Item = MergeRows>, adds_columns: bool) -> EditScope {
    let mut scope = EditScope { adds_columns, ..EditScope::default() };
    for rows in clauses {
        match rows {
            MergeRows::NotMatched => scope.inserts_rows = true,
            MergeRows::Matched | MergeRows::NotMatchedBySource => scope.removes_rows = true,
        }
    }
    scope
}

/// The columns of a source, by their names.
fn offered(source: &LogicalPlan) -> Vec<(String, Expr)> {
    let column = |(qualifier, field): (Option<&TableReference>, &Arc<arrow::datatypes::Field>)| {
        (field.name().clone(), Expr::Column(Column::from((qualifier, field))))
    };
    source.schema().iter().map(column).collect()
}

/// Whether a clause gives a value to a column of that name.
fn is_wanted(clauses: &[MergeClause], target: &OpenTarget, name: &str) -> bool {
    let assigns = |assignments: &[Assignment]| {
        assignments.iter().any(|one| {
            matches!(one.column.as_slice(), [column] if column.eq_ignore_ascii_case(name))
                || matches!(one.column.as_slice(), [.., table, column]
                    if table.eq_ignore_ascii_case(target.reference.table()) && column.eq_ignore_ascii_case(name))
        })
    };
    clauses.iter().any(|clause| match &clause.action {
        MergeAction::UpdateAll | MergeAction::InsertAll => true,
        MergeAction::Update(assignments) | MergeAction::Insert(assignments) => assigns(assignments),
        MergeAction::Delete => false,
    })
}

fn reference_of(name: &[String]) -> TableReference {
    match name {
        [table] => TableReference::bare(table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [catalog, schema, table] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
        _ => TableReference::bare("__deltaworks_source"),
    }
}

fn named(operation: Operation, condition: Option<&SqlText>) -> Named {
    let predicates: Vec<&str> = condition.iter().map(|condition| condition.text.as_str()).collect();
    let predicate = serde_json::Value::from(predicates).to_string();
    Named { operation, parameters: [("predicate".to_owned(), predicate)].into() }
}

fn merge_named(merge: &Merge) -> Named {
    let clauses = |rows: MergeRows| {
        let of_kind = merge.clauses.iter().filter(|clause| clause.rows == rows);
        let shown: Vec<_> = of_kind
            .map(|clause| {
                let action = match &clause.action {
                    MergeAction::Delete => "delete",
                    MergeAction::Update(_) | MergeAction::UpdateAll => "update",
                    MergeAction::Insert(_) | MergeAction::InsertAll => "insert",
                };
                (clause.condition.as_ref().map(|condition| condition.text.clone()), action)
            })
            .collect();
        shown
    };
    merge_parameters(
        &merge.on.text,
        &clauses(MergeRows::Matched),
        &clauses(MergeRows::NotMatched),
        &clauses(MergeRows::NotMatchedBySource),
    )
}

/// The parts of a `MERGE` as Delta writes them to the history.
pub(super) fn merge_parameters(
    on: &str,
    matched: &[(Option<String>, &str)],
    not_matched: &[(Option<String>, &str)],
    by_source: &[(Option<String>, &str)],
) -> Named {
    let clauses = |clauses: &[(Option<String>, &str)]| {
        let shown = clauses.iter().map(|(condition, action)| match condition {
            Some(condition) => serde_json::json!({"predicate": condition, "actionType": action}),
            None => serde_json::json!({"actionType": action}),
        });
        serde_json::Value::from(shown.collect::<Vec<_>>()).to_string()
    };
    let parameters = [
        ("predicate".to_owned(), serde_json::Value::from(vec![on]).to_string()),
        ("matchedPredicates".to_owned(), clauses(matched)),
        ("notMatchedPredicates".to_owned(), clauses(not_matched)),
        ("notMatchedBySourcePredicates".to_owned(), clauses(by_source)),
    ];
    Named { operation: Operation::Merge, parameters: parameters.into() }
}

/// Plans the expressions of a statement over the columns of one schema.
pub(super) struct Planning<'a> {
    session: &'a Session,
    relations: &'a SessionRelations<'a>,
    pub input: DFSchema,
}

impl<'a> Planning<'a> {
    pub fn new(session: &'a Session, relations: &'a SessionRelations<'a>, input: DFSchema) -> Self {
        Self { session, relations, input }
    }

    async fn expression(&self, text: &SqlText) -> Result<Expr> {
        let context = self.session.context();
        let planned = plan_expression_with(&context, text, &self.input, self.relations).await?;
        let of_rows = |expr: &Expr| Ok(matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_)));
        match planned.exists(of_rows)? {
            true => Err(Error::user(format!("`{}` is about several rows, and this is for each row alone", text.text))
                .with_condition("UNSUPPORTED_EXPR_FOR_OPERATOR")
                .with_help("Compute it in a subquery.")
                .at(text.location.clone())),
            false => Ok(planned),
        }
    }

    pub async fn condition(&self, text: &SqlText) -> Result<Expr> {
        let planned = self.expression(text).await?;
        // It is looked at twice: for the files that hold such rows, and for the rows.
        if planned.is_volatile() {
            return Err(Error::user(format!(
                "the condition `{}` is not the same each time it is evaluated",
                text.text
            ))
            .with_condition("DELTA_NON_DETERMINISTIC_FUNCTION_NOT_SUPPORTED")
            .with_help("Write the keys of the rows into a table first, and name that.")
            .at(text.location.clone()));
        }
        match planned.get_type(&self.input)? {
            DataType::Boolean => Ok(planned),
            DataType::Null => Ok(lit(false)),
            other => Err(Error::user(format!(
                "the condition `{}` is of type `{}`, expected `boolean`",
                text.text,
                faces::type_name(&other)
            ))
            .with_condition("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN")
            .at(text.location.clone())),
        }
    }

    async fn optional_condition(&self, text: Option<&SqlText>) -> Result<Option<Expr>> {
        match text {
            Some(text) => self.condition(text).await.map(Some),
            None => Ok(None),
        }
    }

    async fn assigned(&self, target: &OpenTarget, assignments: &[Assignment]) -> Result<Vec<Assigned>> {
        let mut assigned = Vec::with_capacity(assignments.len());
        for one in assignments {
            let value = match &one.value {
                Some(text) => Some(self.expression(text).await?),
                None => None,
            };
            assigned.push(Assigned { path: target.path(&one.column), value, location: Some(one.location.clone()) });
        }
        Ok(assigned)
    }

    async fn assignments(&self, target: &OpenTarget, assignments: &[Assignment]) -> Result<Assignments> {
        let assigned = self.assigned(target, assignments).await?;
        assign(self.session, target, &self.input, assigned)
    }

    async fn action(&self, target: &OpenTarget, clause: &MergeClause, offered: &[(String, Expr)]) -> Result<Action> {
        let assigned = match &clause.action {
            MergeAction::Delete => return Ok(Action::Delete),
            MergeAction::Update(assignments) | MergeAction::Insert(assignments) => {
                self.assigned(target, assignments).await?
            }
            MergeAction::UpdateAll | MergeAction::InsertAll => all_by_name(target, offered)?,
        };
        let values = assign(self.session, target, &self.input, assigned)?;
        match clause.rows {
            MergeRows::NotMatched => new_row(self.session, target, &self.input, values),
            MergeRows::Matched | MergeRows::NotMatchedBySource => Ok(Action::Set(values)),
        }
    }
}

/// `SET *`: every column of the table gets the value of the source's column of its name.
pub(super) fn all_by_name(target: &OpenTarget, offered: &[(String, Expr)]) -> Result<Vec<Assigned>> {
    let mut assigned = Vec::with_capacity(target.schema.fields().len());
    for field in target.schema.fields() {
        let mut of_name = offered.iter().filter(|(name, _)| name.eq_ignore_ascii_case(field.name()));
        match (of_name.next(), of_name.next()) {
            (Some((_, value)), None) => {
                let path = vec![field.name().clone()];
                assigned.push(Assigned { path, value: Some(value.clone()), location: None });
            }
            (None, _) if target.evolves => {}
            (None, _) => {
                let names: Vec<_> = offered.iter().take(5).map(|(name, _)| format!("`{name}`")).collect();
                return Err(Error::user(format!(
                    "the source has no column `{}`, which the table has and `*` stands for",
                    field.name()
                ))
                .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
                .with_help(format!("The source has {}; name the columns that get a value.", names.join(", "))));
            }
            (Some(_), Some(_)) => {
                return Err(Error::user(format!("the source has several columns `{}`", field.name()))
                    .with_condition("AMBIGUOUS_REFERENCE"));
            }
        }
    }
    Ok(assigned)
}

/// The values of columns, cast to their types.
pub(super) fn assign(
    session: &Session,
    target: &OpenTarget,
    input: &DFSchema,
    assigned: Vec<Assigned>,
) -> Result<Assignments> {
    let (context, current) = (session.context(), target.columns());
    let conf = faces::conf_of(&context);
    into(target, &current, input, (&context, &conf)).assignments(assigned)
}

/// A row that is new.
pub(super) fn new_row(session: &Session, target: &OpenTarget, input: &DFSchema, values: Assignments) -> Result<Action> {
    let (context, current) = (session.context(), target.columns());
    let conf = faces::conf_of(&context);
    into(target, &current, input, (&context, &conf)).completed(values).map(Action::Set)
}

fn into<'a>(
    target: &'a OpenTarget,
    current: &'a [Expr],
    input: &'a DFSchema,
    (ctx, conf): (&'a datafusion::prelude::SessionContext, &'a SparkConf),
) -> dml::Target<'a> {
    dml::Target { schema: &target.schema, current, input, ctx, conf }
}

/// What is stored, and the temporary views of a session.
pub(super) struct SessionRelations<'a> {
    session: &'a Session,
    stored: Arc<dyn RelationResolver>,
}

#[async_trait]
impl RelationResolver for SessionRelations<'_> {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        if let UnresolvedRelation::Table { name, time_travel: None, .. } = &request.relation
            && let Some(view) = self.session.temporary_view(name)
        {
            return self.session.plan(&view, Purpose::Execute, None).await;
        }
        self.stored.resolve(request).await
    }
}
