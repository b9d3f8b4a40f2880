//! `DataFrame.mergeInto`.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};

use super::statement::{all_by_name, assign, merge_parameters, new_row, scope_of};
use super::target::OpenTarget;
use super::{Named, until_it_lands};
use crate::connect::context::Planner;
use crate::connect::expression::{Expressions, required};
use crate::connect::host::{AnalysisContext, Purpose};
use crate::connect::name;
use crate::connect::proto::expression::ExprType;
use crate::connect::proto::merge_action::ActionType;
use crate::connect::proto::{self, Expression, MergeAction, MergeIntoTableCommand};
use crate::connect::scope::{Scope, split_identifier};
use crate::connect::service::Session;
use crate::connect::service::execute::refuse_streams;
use crate::dml::{Action, Assigned, Change, Clause, Source};
use crate::edit::{FILE, RowCounts};
use crate::error::{Error, Result};
use crate::kept::{Kept, KeptRows};
use crate::relation::ObjectName;
use crate::sql::parse_name;
use crate::sql::statement::dml::MergeRows;

/// The clauses of one kind.
type Clauses<'a> = (MergeRows, &'a [Expression]);

impl Session {
    pub(in super::super) async fn merge_into(
        &self,
        command: &MergeIntoTableCommand,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        // The same rows in every attempt.
        let kept = Arc::new(KeptRows::default());
        until_it_lands(|| self.merge_into_once(command, analysis, &kept)).await.map(drop)
    }

    async fn merge_into_once(
        &self,
        command: &MergeIntoTableCommand,
        analysis: Option<&AnalysisContext>,
        kept: &Arc<KeptRows>,
    ) -> Result<RowCounts> {
        let kinds: [Clauses<'_>; 3] = [
            (MergeRows::Matched, &command.match_actions),
            (MergeRows::NotMatched, &command.not_matched_actions),
            (MergeRows::NotMatchedBySource, &command.not_matched_by_source_actions),
        ];
        if kinds.iter().all(|(_, clauses)| clauses.is_empty()) {
            return Err(Error::user("a merge needs at least one clause")
                .with_condition("NO_MERGE_ACTION_SPECIFIED")
                .with_help("Call whenMatched, whenNotMatched or whenNotMatchedBySource."));
        }
        let rows = kinds.iter().filter(|(_, clauses)| !clauses.is_empty()).map(|(rows, _)| *rows);
        let scope = scope_of(rows, command.with_schema_evolution || self.auto_merges());
        let name = ObjectName(split_identifier(&command.target_table_name)?);
        let mut target = self.target(&name, None, scope).await?;
        let context = self.context();
        let resolver = self.host.resolver(Purpose::Execute, analysis);
        let planner = Planner::new(&context, resolver.as_ref(), &self.artifacts);
        let source = self.with_views(required(command.source_table_plan.as_ref())?.clone());
        let source = planner.scope(&source).await?.renamed_apart(&planner.names)?;
        refuse_streams(&source.plan)?;
        let plan = Kept::plan(source.plan.clone(), Arc::clone(kept));
        let source = source.with_plan(plan);
        let offered: Vec<(String, Expr)> =
            source.visible().map(|column| (column.name.clone(), column.expr())).collect();
        if target.evolves {
            target.evolve(&offered, source.schema(), |_| true)?;
        }
        let scopes = Scopes::new(&target, source)?;
        let on = Expressions::new(&planner, &scopes.both).condition(required(command.merge_condition.as_ref())?)?;
        let mut change = Change {
            schema: Arc::clone(&target.schema),
            source: Some(Source { plan: scopes.source.plan.clone(), on }),
            matched: Vec::new(),
            not_matched: Vec::new(),
            by_source: Vec::new(),
            keeps_old: target.edit.records_changes()?,
        };
        for (rows, actions) in kinds {
            let (scope, clauses) = match rows {
                MergeRows::Matched => (&scopes.both, &mut change.matched),
                MergeRows::NotMatched => (&scopes.source, &mut change.not_matched),
                MergeRows::NotMatchedBySource => (&scopes.target, &mut change.by_source),
            };
            let expressions = Expressions::new(&planner, scope);
            for action in actions {
                let action = merge_action(action)?;
                let condition = action.condition.as_ref().map(|condition| expressions.condition(condition));
                let action = self.planned(&target, &expressions, rows, action, &offered)?;
                clauses.push(Clause { condition: condition.transpose()?, action });
            }
            check_last(clauses)?;
        }
        self.change_rows(target, &change, named(command)?).await
    }

    fn planned(
        &self,
        target: &OpenTarget,
        expressions: &Expressions<'_>,
        rows: MergeRows,
        action: &MergeAction,
        offered: &[(String, Expr)],
    ) -> Result<Action> {
        let assigned = match action.action_type() {
            ActionType::Delete => return Ok(Action::Delete),
            ActionType::InsertStar => all_by_name(target, offered)?,
            ActionType::UpdateStar if rows == MergeRows::Matched => all_by_name(target, offered)?,
            ActionType::UpdateStar => {
                return Err(Error::user("rows that no row of the source matches cannot be updated to its values")
                    .with_condition("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION")
                    .with_help("Use update({...}) with values made of the table's columns."));
            }
            ActionType::Insert | ActionType::Update => action
                .assignments
                .iter()
                .map(|one| {
                    let value = Some(expressions.plan(required(one.value.as_ref())?)?.unalias());
                    Ok(Assigned { path: target.path(&key(required(one.key.as_ref())?)?), value, location: None })
                })
                .collect::<Result<_>>()?,
            ActionType::Invalid => return Err(Error::internal("a merge action without a type")),
        };
        let input: &DFSchema = expressions.scope.schema();
        let values = assign(self, target, input, assigned)?;
        match rows {
            MergeRows::NotMatched => new_row(self, target, input, values),
            MergeRows::Matched | MergeRows::NotMatchedBySource => Ok(Action::Set(values)),
        }
    }
}

/// What the expressions of each kind of clause see.
struct Scopes {
    target: Scope,
    source: Scope,
    both: Scope,
}

impl Scopes {
    fn new(target: &OpenTarget, source: Scope) -> Result<Self> {
        let rows = target.plan(None)?;
        let qualifier = target.reference.to_vec();
        let mut of_target = Scope::new(rows.clone(), &qualifier);
        of_target.columns.retain(|column| column.column.name != FILE);
        let mut columns = of_target.columns.clone();
        columns.extend(source.columns.iter().cloned());
        let plan = LogicalPlanBuilder::from(rows).cross_join(source.plan.clone())?.build()?;
        Ok(Self { target: of_target, source, both: Scope { plan, columns } })
    }
}

fn merge_action(expression: &Expression) -> Result<&MergeAction> {
    match &expression.expr_type {
        Some(ExprType::MergeAction(action)) => Ok(action),
        _ => Err(Error::internal("a clause of a merge that is no action")),
    }
}

/// The column that an assignment is to.
fn key(expression: &Expression) -> Result<Vec<String>> {
    match &expression.expr_type {
        Some(ExprType::UnresolvedAttribute(attribute)) => split_identifier(&attribute.unparsed_identifier),
        Some(ExprType::ExpressionString(text)) => Ok(parse_name(&text.expression)?.0),
        _ => Err(Error::user(format!("`{}` is no column: a value cannot be assigned to it", name::of(expression)))
            .with_condition("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION")),
    }
}

/// What follows a clause without a condition would never be done.
fn check_last(clauses: &[Clause]) -> Result<()> {
    match clauses.iter().rev().skip(1).any(|clause| clause.condition.is_none()) {
        true => Err(Error::user("only the last clause of a kind may have no condition")
            .with_condition("NON_LAST_MATCHED_CLAUSE_OMIT_CONDITION")),
        false => Ok(()),
    }
}

fn named(command: &MergeIntoTableCommand) -> Result<Named> {
    let clauses = |actions: &[proto::Expression]| {
        let shown = actions.iter().map(|action| {
            let action = merge_action(action)?;
            let kind = match action.action_type() {
                ActionType::Update | ActionType::UpdateStar => "update",
                ActionType::Insert | ActionType::InsertStar => "insert",
                _ => "delete",
            };
            Ok((action.condition.as_ref().map(|condition| name::of(condition).to_string()), kind))
        });
        shown.collect::<Result<Vec<_>>>()
    };
    Ok(merge_parameters(
        &command.merge_condition.as_ref().map(|on| name::of(on).to_string()).unwrap_or_default(),
        &clauses(&command.match_actions)?,
        &clauses(&command.not_matched_actions)?,
        &clauses(&command.not_matched_by_source_actions)?,
    ))
}
