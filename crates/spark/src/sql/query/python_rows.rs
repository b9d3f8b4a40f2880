//! Calls of table functions in Python in `FROM`: with constants, with a table, and for each row before them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, TableFactor, Value};

use super::plan::{Ctes, Planner};
use super::rewrite::{self, Names};
use super::scope::{Scope, ScopeColumn, Visibility, ident};
use super::user_function::{arguments_of_factor, parts_of};
use crate::error::{Error, Result};
use crate::python::{Argument, Carried, TableArgument, TableCall, TableFunction};
use crate::sql::table_arguments::{ORDER_BY, PARTITION_BY, SINGLE_PARTITION, TABLE_ARGUMENT};
use crate::sql::tokens::Source;

/// What a call says of its table, as text.
#[derive(Default)]
struct Said {
    keys: Vec<Expr>,
    order: Vec<(Expr, bool, Option<bool>)>,
    single_partition: bool,
}

impl Planner<'_> {
    /// The table function in Python that a call in `FROM` means.
    pub(super) fn python_function(&self, factor: &TableFactor) -> Option<Arc<TableFunction>> {
        let name = match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => parts_of(name),
            _ => return None,
        };
        match name.0.as_slice() {
            [one] => self.table_functions.get(one).cloned(),
            _ => None,
        }
    }

    /// A call that sees no columns: its rows.
    pub(super) fn rows_of_python(
        &self,
        function: &TableFunction,
        factor: &TableFactor,
        ctes: &Ctes,
    ) -> Result<LogicalPlan> {
        let (mut arguments, mut table) = (Vec::new(), None);
        for (name, argument) in arguments_of_factor(factor)? {
            let Some((query, said)) = table_of(&argument)? else {
                arguments.push((name, Err(argument)));
                continue;
            };
            let plan = self.plan_query(query, ctes, &[])?;
            if table.replace((plan, said)).is_some() {
                let name = &function.function.name;
                return Err(Error::user(format!("`{name}` is called with two tables"))
                    .with_condition("TABLE_VALUED_FUNCTION_TOO_MANY_TABLE_ARGUMENTS"));
            }
            arguments.push((name, Ok(())));
        }
        let (input, said) = match table {
            Some((plan, said)) => (plan, Some(said)),
            None => (LogicalPlanBuilder::empty(true).build()?, None),
        };
        let arguments = arguments.into_iter().map(|(name, argument)| match argument {
            Ok(()) => Ok((name, Argument::Table)),
            Err(value) => Ok((name, Argument::Value(self.exact(value, &Scope::default(), &input, ctes)?))),
        });
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let expression = |text: &str| {
            let location = crate::diagnostic::SourceLocation::new("<analyze>", 1, 1);
            let source = Source::new(text, &location);
            let expr = source.parser()?.parse_expr().map_err(|error| source.error(&error))?;
            self.plain_expression(expr, &input)
        };
        let table = said.map(|said| self.table_argument(said, &input, &expression)).transpose()?;
        let carried = Carried::default();
        let call = TableCall { function, input: input.clone(), arguments, table, carried };
        let (node, names) = call.plan(self.provider.state())?;
        super::plan::renamed(node.into_plan(), &names)
    }

    fn table_argument<'e>(
        &self,
        said: Said,
        input: &LogicalPlan,
        expression: &'e dyn Fn(&str) -> Result<PlanExpr>,
    ) -> Result<TableArgument<'e>> {
        let columns = input.schema().columns().into_iter();
        let keys = said.keys.into_iter().map(|key| self.plain_expression(key, input)).collect::<Result<_>>()?;
        let sort = |(expr, ascending, nulls_first): (Expr, bool, Option<bool>)| -> Result<Sort> {
            Ok(self.plain_expression(expr, input)?.sort(ascending, nulls_first.unwrap_or(ascending)))
        };
        Ok(TableArgument {
            columns: columns.map(|column| (column.name.clone(), PlanExpr::Column(column))).collect(),
            keys,
            order: said.order.into_iter().map(sort).collect::<Result<_>>()?,
            single_partition: said.single_partition,
            expression,
        })
    }

    /// A call for each row of `left`: the rows of both, and the columns of the function.
    pub(super) fn python_rows_for(
        &self,
        function: &TableFunction,
        factor: &TableFactor,
        left: &LogicalPlan,
        scope: &Scope,
        outer: bool,
        ctes: &Ctes,
    ) -> Result<(LogicalPlan, Vec<String>)> {
        let mut arguments = Vec::new();
        for (name, argument) in arguments_of_factor(factor)? {
            if table_of(&argument)?.is_some() {
                return Err(Error::unsupported(format!(
                    "`LATERAL {}` with a table as an argument",
                    function.function.name
                )));
            }
            arguments.push((name, Argument::Value(self.exact(argument, scope, left, ctes)?)));
        }
        let columns = left.schema().columns().into_iter().map(PlanExpr::Column).collect();
        let carried = Carried { columns, outer };
        let call = TableCall { function, input: left.clone(), arguments, table: None, carried };
        let (node, names) = call.plan(self.provider.state())?;
        Ok((node.into_plan(), names))
    }

    /// An argument over the columns of `input`, which are named as in `scope`.
    fn exact(&self, mut expr: Expr, scope: &Scope, input: &LogicalPlan, ctes: &Ctes) -> Result<PlanExpr> {
        let aliases = HashMap::new();
        rewrite::expression(self, &mut expr, Names { scopes: &[scope], aliases: &aliases, ctes })?;
        self.plain(expr, input.schema())
    }
}

/// The columns of `scope` as columns of a plan that has them in order, under the names that `name` gives.
pub(super) fn renamed_scope(scope: &Scope, name: impl Fn(usize) -> Expr) -> Scope {
    let columns = scope.columns.iter().enumerate();
    Scope { columns: columns.map(|(i, column)| ScopeColumn { expr: name(i), ..column.clone() }).collect() }
}

/// A column that a function gives.
pub(super) fn given_column(
    qualifier: &[String],
    name: &str,
    field: &arrow::datatypes::Field,
    alias: &str,
) -> ScopeColumn {
    ScopeColumn {
        qualifier: qualifier.to_vec(),
        name: name.to_owned(),
        data_type: field.data_type().clone(),
        expr: Expr::CompoundIdentifier(vec![ident(alias), ident(field.name())]),
        visibility: Visibility::Full,
    }
}

/// The table that an argument is, and what is said of its rows.
fn table_of(argument: &Expr) -> Result<Option<(ast::Query, Said)>> {
    let Expr::Function(call) = argument else { return Ok(None) };
    if call.name.to_string() != TABLE_ARGUMENT {
        return Ok(None);
    }
    let mut said = Said::default();
    let mut query = None;
    for argument in plain_arguments(call) {
        match argument {
            Expr::Subquery(inner) => query = Some(inner.as_ref().clone()),
            Expr::Function(clause) => {
                let mut arguments = plain_arguments(clause).into_iter().cloned();
                match clause.name.to_string().as_str() {
                    PARTITION_BY => said.keys = arguments.collect(),
                    SINGLE_PARTITION => said.single_partition = true,
                    ORDER_BY => {
                        if let (Some(expr), Some(way), Some(nulls)) =
                            (arguments.next(), arguments.next(), arguments.next())
                        {
                            let nulls_first = text(&nulls).filter(|text| !text.is_empty()).map(|text| text == "first");
                            said.order.push((expr, text(&way).as_deref() != Some("desc"), nulls_first));
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if said.single_partition && !said.keys.is_empty() {
        return Err(
            Error::user("a table has WITH SINGLE PARTITION, and PARTITION BY").with_condition("PARSE_SYNTAX_ERROR")
        );
    }
    query.map(|query| (query, said)).map(Some).ok_or_else(|| Error::internal("a table argument without a query"))
}

fn plain_arguments(call: &ast::Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &call.args else { return Vec::new() };
    let value = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(value).collect()
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}
