//! `LATERAL` in `FROM`: subqueries and generators that see the columns of what stands before them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{
    Expr, Function, FunctionArgumentList, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator, Query, Select,
    SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableFunctionArgs, TableWithJoins, Value,
    WildcardAdditionalOptions,
};

use super::block::{named, select};
use super::from::constraint;
use super::generator::{Generator, generator_of};
use super::plan::{Ctes, Planner};
use super::python_rows::{given_column, renamed_scope};
use super::repeated::shown;
use super::scope::{Scope, ScopeColumn, Visibility, ident, text};
use super::user_function::{alias_of_call, cast_to, check_width};
use crate::error::{Error, Result};
use crate::python::TableFunction;
use crate::types::parse_data_type;

/// Whether a relation may see those before it, or makes rows by a generator.
pub(super) fn is_lateral(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. })
        || call_of(factor).is_some()
}

/// The generator that a relation calls.
fn call_of(factor: &TableFactor) -> Option<Expr> {
    let (name, args) = match factor {
        TableFactor::Function { name, args, .. } => (name, args),
        TableFactor::Table { name, args: Some(TableFunctionArgs { args, .. }), .. } => (name, args),
        _ => return None,
    };
    let call = Expr::Function(Function {
        name: name.clone(),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.clone(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    });
    generator_of(&call).is_some().then_some(call)
}

/// The columns of scopes as a schema that a plan within them may refer to.
pub(super) fn schema_of(scopes: &[&Scope]) -> Result<DFSchema> {
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = Vec::new();
    for column in scopes.iter().flat_map(|scope| &scope.columns) {
        let Expr::CompoundIdentifier(parts) = &column.expr else { continue };
        let [table, name] = parts.as_slice() else { continue };
        let field = Field::new(&name.value, column.data_type.clone(), true);
        let known = |(known, other): &(Option<TableReference>, Arc<Field>)| {
            other.name() == &name.value && known.as_ref().is_some_and(|known| known.table() == table.value)
        };
        if !fields.iter().any(known) {
            fields.push((Some(TableReference::bare(table.value.as_str())), Arc::new(field)));
        }
    }
    Ok(DFSchema::new_with_metadata(fields, HashMap::new())?)
}

fn internal(i: usize) -> String {
    format!("__column_{i}")
}

/// `SELECT items FROM from`
fn block(items: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Result<Select> {
    let nothing = TableFactor::TableFunction { expr: Expr::value(Value::Null), alias: None };
    match *select(items, nothing, None, Vec::new()).body {
        SetExpr::Select(select) => Ok(Select { from, ..*select }),
        other => Err(Error::internal(format!("`{other}` is no select"))),
    }
}

impl Planner<'_> {
    /// What stands before a lateral relation, joined with it: one relation in the place of `before`, and its columns.
    pub(super) fn lateral(
        &self,
        before: Vec<TableWithJoins>,
        scope: Scope,
        mut join: Join,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<(TableFactor, Scope)> {
        let place = self.place(join.relation.span().start);
        let left = self.joined_before(before, &scope)?;
        if let Some(call) = call_of(&join.relation) {
            let keeps = matches!(join.join_operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
            let condition = matches!(constraint(&mut join.join_operator), Some(JoinConstraint::On(_)));
            if !condition && (keeps || is_inner(&join.join_operator)) {
                // A left join without a condition keeps no rows without elements in Spark, other than one with `ON true`.
                let made = self.lateral_generator(left, scope, &call, &join.relation, false, ctes, outer);
                return made.map_err(|error| error.at(place));
            }
            // With a condition it is joined as a subquery.
            let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            let (factor, alias) = (join.relation.clone(), alias_of(&join.relation));
            let alias = alias.map(|alias| TableAlias { columns: Vec::new(), ..alias });
            join.relation = TableFactor::Derived {
                lateral: true,
                subquery: Box::new(select(all, factor, None, Vec::new())),
                alias,
                sample: None,
            };
        }
        if let Some(function) = self.python_function(&join.relation) {
            return self.lateral_python(&left, &scope, &function, join, ctes).map_err(|error| error.at(place));
        }
        self.lateral_subquery(left, scope, join, ctes, outer).map_err(|error| error.at(place))
    }

    /// A table function in Python that is called for each row before it.
    fn lateral_python(
        &self,
        left: &LogicalPlan,
        scope: &Scope,
        function: &TableFunction,
        mut join: Join,
        ctes: &Ctes,
    ) -> Result<(TableFactor, Scope)> {
        let keeps = matches!(join.join_operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
        let always = match constraint(&mut join.join_operator) {
            Some(JoinConstraint::On(Expr::Value(value))) => value.value == Value::Boolean(true),
            Some(JoinConstraint::None) | None => true,
            Some(_) => false,
        };
        if !always || !(keeps || is_inner(&join.join_operator)) {
            return Err(Error::unsupported(format!("a condition of the join with `{}`", function.function.name))
                .with_help("Write it into WHERE."));
        }
        let seen = renamed_scope(scope, |i| Expr::Identifier(ident(&internal(i))));
        let (plan, names) = self.python_rows_for(function, &join.relation, left, &seen, keeps, ctes)?;
        let given = alias_of(&join.relation);
        let columns: Vec<&Ident> = given.iter().flat_map(|given| &given.columns).map(|column| &column.name).collect();
        if !columns.is_empty() && columns.len() != names.len() {
            return Err(Error::user(format!("{} column aliases for {} columns", columns.len(), names.len()))
                .with_condition("ASSIGNMENT_ARITY_MISMATCH"));
        }
        let qualifier = vec![given.as_ref().map_or(&function.function.name, |given| &given.name.value).clone()];
        let alias = self.alias("__joined");
        let fields = plan.schema().fields().clone();
        let carried = fields.len() - names.len();
        let column = |i: usize| Expr::CompoundIdentifier(vec![ident(&alias), ident(fields[i].name())]);
        let mut scope = renamed_scope(scope, column);
        for (i, name) in names.iter().enumerate() {
            let name = columns.get(i).map_or(name.as_str(), |column| column.value.as_str());
            scope.columns.push(given_column(&qualifier, name, &fields[carried + i], &alias));
        }
        Ok((self.factor_of(plan, &alias), scope))
    }

    /// The relations before as one plan, with the columns of `scope` under internal names.
    fn joined_before(&self, before: Vec<TableWithJoins>, scope: &Scope) -> Result<LogicalPlan> {
        let columns = scope.columns.iter().enumerate();
        let mut items: Vec<SelectItem> =
            columns.map(|(i, column)| named(column.expr.clone(), ident(&internal(i)))).collect();
        if items.is_empty() {
            items.push(named(text(""), ident("__column")));
        }
        self.plan_block(block(items, before)?)
    }

    #[allow(clippy::too_many_arguments)]
    fn lateral_generator(
        &self,
        left: LogicalPlan,
        scope: Scope,
        call: &Expr,
        relation: &TableFactor,
        keeps: bool,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<(TableFactor, Scope)> {
        let alias = alias_of(relation);
        let aliases = alias.iter().flat_map(|alias| &alias.columns).map(|column| column.name.value.clone()).collect();
        let name = match (&alias, call) {
            (Some(alias), _) => alias.name.value.clone(),
            (None, Expr::Function(function)) => function.name.to_string(),
            (None, other) => other.to_string(),
        };
        let Some((generator, mut argument)) = Generator::of(call, keeps, aliases, vec![name])? else {
            return Err(Error::internal(format!("`{call}` is no generator")));
        };
        self.rewrite_in(&mut argument, &scope, ctes, outer)?;
        let mut made = block(Vec::new(), Vec::new())?;
        let (scope, _) = self.generate(&mut made, left, scope, argument, generator, outer)?;
        match made.from.pop() {
            Some(table) => Ok((table.relation, scope)),
            None => Err(Error::internal("a generator without rows")),
        }
    }

    fn lateral_subquery(
        &self,
        left: LogicalPlan,
        scope: Scope,
        mut join: Join,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<(TableFactor, Scope)> {
        let function = match &join.relation {
            TableFactor::Function { name, .. } => self.user_function(name),
            _ => None,
        };
        let mut declared = None;
        let (before, after) = (self.alias("__before"), self.alias("__lateral"));
        let column = |alias: &str, name: &str| Expr::CompoundIdentifier(vec![ident(alias), ident(name)]);
        let seen = scope.columns.into_iter().enumerate();
        let seen = seen.map(|(i, seen)| ScopeColumn { expr: column(&before, &internal(i)), ..seen }).collect();
        let mut scope = Scope { columns: seen };
        let mut scopes = vec![&scope];
        scopes.extend(outer);
        if let Some(function) = &function {
            let (rows, columns) = self.lateral_rows_of_call(function, &join.relation, &scopes, ctes)?;
            let name = TableAlias { explicit: false, name: ident(&function.name), columns: Vec::new(), at: None };
            let alias = alias_of_call(&mut join.relation).or(Some(name));
            join.relation = TableFactor::Derived { lateral: true, subquery: Box::new(rows), alias, sample: None };
            declared = columns.map(|columns| (function, columns));
        }
        let TableFactor::Derived { subquery, alias, .. } = &mut join.relation else {
            return Err(Error::unsupported(format!("`LATERAL {}`", join.relation)));
        };
        // As with the generator itself.
        if generates_only(subquery) && matches!(constraint(&mut join.join_operator), Some(JoinConstraint::None)) {
            join.join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
        }
        if function.is_none() {
            self.rewrite_query(subquery, ctes, &scopes)?;
        }
        let given = alias.replace(TableAlias { explicit: true, name: ident(&after), columns: Vec::new(), at: None });
        let relation = join.relation.clone();
        let with = |operator: JoinOperator, items: Vec<SelectItem>| -> Result<LogicalPlan> {
            let joins = vec![Join { relation: relation.clone(), global: false, join_operator: operator }];
            let table = TableWithJoins { relation: self.factor_of(left.clone(), &before), joins };
            self.with_final_types_of(self.plan_block(block(items, vec![table])?)?)
        };
        let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        let plan = with(JoinOperator::CrossJoin(JoinConstraint::None), all)?;
        let made: Vec<Field> = plan
            .schema()
            .fields()
            .iter()
            .skip(left.schema().fields().len())
            .map(|field| field.as_ref().clone())
            .collect();
        let names: Vec<&Ident> = given.iter().flat_map(|given| &given.columns).map(|column| &column.name).collect();
        if !names.is_empty() && names.len() != made.len() {
            return Err(Error::user(format!("{} column aliases for {} columns", names.len(), made.len()))
                .with_condition("ASSIGNMENT_ARITY_MISMATCH"));
        }
        let qualifier: Vec<String> = given.iter().map(|given| given.name.value.clone()).collect();
        if let Some((function, columns)) = declared {
            check_width(function, columns, made.len())?;
        }
        for (i, field) in made.iter().enumerate() {
            let mut seen = ScopeColumn {
                qualifier: qualifier.clone(),
                name: shown(field.name()).to_owned(),
                data_type: field.data_type().clone(),
                expr: column(&after, field.name()),
                visibility: Visibility::Full,
            };
            if let Some(declared) = declared.and_then(|(_, columns)| columns.get(i)) {
                seen.name.clone_from(&declared.name);
                seen.data_type = parse_data_type(&declared.data_type)?;
                seen.expr = cast_to(seen.expr, &declared.data_type);
            }
            if let Some(name) = names.get(i) {
                seen.name.clone_from(&name.value);
            }
            scope.columns.push(seen);
        }
        let operator = self.lateral_operator(join.join_operator, &scope, ctes, outer)?;
        let columns = scope.columns.iter().enumerate();
        let items = columns.map(|(i, column)| named(column.expr.clone(), ident(&internal(i)))).collect();
        let plan = with(operator, items)?;
        let alias = self.alias("__joined");
        for (i, seen) in scope.columns.iter_mut().enumerate() {
            seen.expr = column(&alias, &internal(i));
        }
        Ok((self.factor_of(plan, &alias), scope))
    }

    /// The operator with its condition made exact.
    fn lateral_operator(
        &self,
        mut operator: JoinOperator,
        scope: &Scope,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<JoinOperator> {
        let left = matches!(operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
        if !left && !is_inner(&operator) {
            return Err(Error::unsupported("`LATERAL` in a join that is not INNER, CROSS or LEFT")
                .with_condition("INVALID_LATERAL_JOIN_TYPE"));
        }
        let condition = match constraint(&mut operator) {
            Some(JoinConstraint::On(condition)) => {
                self.rewrite_in(condition, scope, ctes, outer)?;
                condition.clone()
            }
            Some(JoinConstraint::None) | None => Expr::value(Value::Boolean(true)),
            Some(_) => {
                return Err(Error::unsupported("`USING` and `NATURAL` of a lateral join")
                    .with_condition("UNSUPPORTED_FEATURE.LATERAL_JOIN_USING")
                    .with_help("Write ON."));
            }
        };
        let on = JoinConstraint::On(condition);
        Ok(if left { JoinOperator::Left(on) } else { JoinOperator::Inner(on) })
    }
}

/// Whether a subquery is a generator and nothing else.
fn generates_only(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let whole = query.with.is_none() && query.limit_clause.is_none() && query.order_by.is_none();
    let plain = select.selection.is_none() && select.distinct.is_none() && select.lateral_views.is_empty();
    let makes_rows = match select.from.as_slice() {
        [] => select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr)
            | SelectItem::ExprWithAlias { expr, .. }
            | SelectItem::ExprWithAliases { expr, .. } => generator_of(expr).is_some(),
            _ => false,
        }),
        [one] => one.joins.is_empty() && call_of(&one.relation).is_some(),
        _ => false,
    };
    whole && plain && makes_rows
}

fn is_inner(operator: &JoinOperator) -> bool {
    matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
}

fn alias_of(factor: &TableFactor) -> Option<TableAlias> {
    match factor {
        TableFactor::Function { alias, .. } | TableFactor::Table { alias, .. } => alias.clone(),
        _ => None,
    }
}
