//! Calls of functions written in SQL: the body takes the place of the call.
//!
//! A body is rewritten like any other text, but for its parameters: a name that is no column of the body's own
//! tables is looked up among them, and stands for the argument cast to the parameter's type. Arguments are exact when
//! they are put there, so no name in them can be taken for one of the body's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::logical_expr::planner::ContextProvider as _;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, TableAlias,
    TableFactor, Value, visit_expressions,
};

use super::plan::{Ctes, Planner};
use super::provider::CAST;
use super::rewrite::{self, Names};
use super::scope::{Scope, ScopeColumn, Visibility, unresolved};
use super::subqueries::holds_one;
use crate::cast::{CastMode, spark_cast};
use crate::error::{Error, Result};
use crate::functions::is_spark_builtin;
use crate::relation::ObjectName;
use crate::session::conf_of;
use crate::sql::tokens::Source;
use crate::sql_function::{FunctionResult, ResultColumn, SqlFunction, SqlFunctions};
use crate::types::parse_data_type;

/// How many calls deep bodies may stand in bodies: each takes its part of the stack.
const MAX_DEPTH: usize = 16;

/// A call whose body is being read.
pub(super) struct Frame {
    pub(super) function: Arc<SqlFunction>,
    parameters: Scope,
    /// How often each parameter has been named.
    named: RefCell<Vec<usize>>,
    /// How many queries deep a parameter that is a column may be named: below that, queries are planned without what
    /// is around them.
    reach: usize,
}

/// The body of a function.
pub(super) enum Body {
    Value(Box<Expr>),
    Rows(Box<Query>),
}

/// Reads the body of a function.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`); `SQL_TABLE_UDF_BODY_MUST_BE_A_QUERY` for rows without a query.
pub(super) fn body_of(function: &SqlFunction) -> Result<Body> {
    let location = function.location();
    let source = Source::new(&function.body, &location);
    let mut parser = source.parser()?;
    let starts_query = |text: &str| {
        let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        ["select", "with", "values", "from", "table"].contains(&word.to_ascii_lowercase().as_str())
    };
    let is_query =
        starts_query(&function.body) || starts_query(function.body.trim_start_matches(['(', ' ', '\n', '\t']));
    let body = match function.is_table_function() {
        true if !is_query => {
            return Err(Error::user(format!("the body of table function `{}` is no query", function.name))
                .with_condition("USER_DEFINED_FUNCTIONS.SQL_TABLE_UDF_BODY_MUST_BE_A_QUERY"));
        }
        true => parser.parse_query().map(Body::Rows),
        // `(SELECT …) + 1` is an expression, `SELECT …` stands for its value.
        false if starts_query(&function.body) => {
            parser.parse_query().map(|query| Body::Value(Box::new(Expr::Subquery(query))))
        }
        false => parser.parse_expr().map(|expr| Body::Value(Box::new(expr))),
    };
    let body = body.map_err(|error| source.error(&error))?;
    let next = parser.peek_token_ref();
    if next.token != sqlparser::tokenizer::Token::EOF {
        let place = source.place(next.span.start);
        return Err(source.syntax_error(format!("expected the end of the body, found `{}`", next.token), place));
    }
    Ok(body)
}

/// The parts of a name.
pub(super) fn parts_of(name: &ast::ObjectName) -> ObjectName {
    ObjectName(name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.clone()).collect())
}

/// The function that a call means, if it is one in SQL.
pub(super) fn called<'f>(
    functions: &'f SqlFunctions,
    name: &ObjectName,
    within: Option<&SqlFunction>,
) -> Option<&'f Arc<SqlFunction>> {
    if matches!(name.0.as_slice(), [one] if is_spark_builtin(one)) {
        return None;
    }
    functions.get(&functions.meant_by(name, within))
}

impl Planner<'_> {
    /// The function that a call means, if it is one in SQL.
    pub(super) fn user_function(&self, name: &ast::ObjectName) -> Option<Arc<SqlFunction>> {
        let frames = self.frames.borrow();
        called(&self.functions, &parts_of(name), frames.last().map(|frame| frame.function.as_ref())).cloned()
    }

    /// The value of the parameter that `parts` name in the body being read.
    ///
    /// # Errors
    /// `Unsupported` where the value is a column that cannot be seen.
    pub(super) fn parameter(&self, parts: &[Ident]) -> Result<Option<Expr>> {
        let frames = self.frames.borrow();
        let Some(frame) = frames.last() else { return Ok(None) };
        let Some(value) = frame.parameters.resolve(parts)? else { return Ok(None) };
        let names = parts.iter().map(|part| part.value.as_str());
        let at = names.rev().find_map(|name| {
            frame.function.parameters.iter().position(|parameter| parameter.name.eq_ignore_ascii_case(name))
        });
        if let Some(count) = at.and_then(|at| frame.named.borrow().get(at).map(|count| count + 1))
            && let Some(at) = at
        {
            frame.named.borrow_mut()[at] = count;
        }
        if self.queries.get() > frame.reach && names_column(&value) {
            return Err(Error::unsupported(format!(
                "parameter `{}` of function `{}` within a subquery in FROM, where the argument is a column,",
                parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("."),
                frame.function.name
            ))
            .with_help("Name the parameter outside of the subquery, or call the function with a constant."));
        }
        Ok(Some(value))
    }

    /// The error that `parts` name neither a column of `scopes` nor a parameter.
    pub(super) fn unresolved(&self, parts: &[Ident], scopes: &[&Scope]) -> Error {
        let frames = self.frames.borrow();
        let known: Vec<&Scope> = scopes.iter().copied().chain(frames.last().map(|frame| &frame.parameters)).collect();
        unresolved(parts, &known)
    }

    /// Reads a body, with `arguments` for its parameters.
    fn in_body<T>(
        &self,
        function: &Arc<SqlFunction>,
        arguments: Vec<(Option<String>, Expr)>,
        reach: usize,
        read: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        function.check_settings(&conf_of(self.provider.state()))?;
        if self.frames.borrow().iter().any(|frame| frame.function == *function) {
            return Err(Error::user(format!("function `{}` calls itself", function.title()))
                .with_condition("CYCLIC_FUNCTION_REFERENCE"));
        }
        if self.frames.borrow().len() >= MAX_DEPTH {
            return Err(Error::unsupported(format!(
                "function `{}`, called from more than {MAX_DEPTH} bodies of functions that call each other,",
                function.title()
            )));
        }
        let arguments = self.complete_arguments(function, arguments)?;
        let volatile: Vec<bool> = arguments.iter().map(|argument| self.is_volatile(argument)).collect();
        let mut qualifier: Vec<String> = function.stored_in.iter().flat_map(|(c, s)| [c.clone(), s.clone()]).collect();
        qualifier.push(function.name.clone());
        let mut columns = Vec::with_capacity(arguments.len());
        for (parameter, argument) in function.parameters.iter().zip(arguments) {
            columns.push(ScopeColumn {
                qualifier: qualifier.clone(),
                name: parameter.name.clone(),
                data_type: parse_data_type(&parameter.data_type)?,
                expr: cast_to(argument, &parameter.data_type),
                visibility: Visibility::Full,
            });
        }
        let (named, parameters) = (RefCell::new(vec![0; columns.len()]), Scope { columns });
        self.frames.borrow_mut().push(Frame { function: Arc::clone(function), parameters, named, reach });
        let read = read();
        let frame = self.frames.borrow_mut().pop();
        let read = read.map_err(|error| error.context(format!("in function `{}`", function.title())))?;
        let named = frame.map(|frame| frame.named.into_inner()).unwrap_or_default();
        if let Some(at) = (0..named.len()).find(|at| volatile[*at] && named[*at] > 1) {
            // Each place would have a value of its own.
            return Err(Error::unsupported(format!(
                "function `{}` with an argument for `{}` that differs each time it is evaluated",
                function.title(),
                function.parameters[at].name
            ))
            .with_help("Compute the argument in a subquery first."));
        }
        Ok(read)
    }

    /// One argument per parameter, with defaults where none is given.
    fn complete_arguments(&self, function: &SqlFunction, arguments: Vec<(Option<String>, Expr)>) -> Result<Vec<Expr>> {
        let location = function.location();
        let (aliases, ctes) = (HashMap::new(), Ctes::new());
        let complete = |(argument, default): (Option<Expr>, &Option<String>)| match (argument, default) {
            (Some(argument), _) => Ok(argument),
            (None, Some(text)) => {
                let mut value = default_of(text, &location)?;
                rewrite::expression(self, &mut value, Names { scopes: &[], aliases: &aliases, ctes: &ctes })?;
                Ok(value)
            }
            (None, None) => Err(Error::internal("an argument that was not bound")),
        };
        let defaults = function.parameters.iter().map(|parameter| &parameter.default);
        function.bind(arguments)?.into_iter().zip(defaults).map(complete).collect()
    }

    /// The body of a scalar function in the place of a call whose arguments are exact.
    pub(super) fn value_of_call(&self, function: &Arc<SqlFunction>, call: &Function) -> Result<Expr> {
        let FunctionResult::Value(returns) = &function.returns else {
            return Err(Error::user(format!("`{}` gives rows, not a value", function.name))
                .with_condition("NOT_A_SCALAR_FUNCTION")
                .with_help("Call it in FROM."));
        };
        refuse_clauses(&function.name, call)?;
        let Body::Value(mut body) = body_of(function)? else { return Err(Error::internal("a value that is a query")) };
        let arguments = arguments_of(call)?;
        refuse_capture(function, &body, &arguments)?;
        if holds_one(&body) && arguments.iter().any(|(_, argument)| self.holds_aggregate(argument)) {
            return Err(Error::unsupported(format!(
                "function `{}`, whose body has a subquery, with an aggregate as an argument",
                function.title()
            ))
            .with_help("Aggregate in a subquery first."));
        }
        let body = self.in_body(function, arguments, self.queries.get(), || {
            let (aliases, ctes) = (HashMap::new(), Ctes::new());
            rewrite::expression(self, &mut body, Names { scopes: &[], aliases: &aliases, ctes: &ctes })?;
            Ok(Expr::Nested(body))
        })?;
        Ok(match returns {
            Some(data_type) => cast_to(body, data_type),
            None => body,
        })
    }

    fn holds_aggregate(&self, expr: &Expr) -> bool {
        let found = visit_expressions(expr, |part| match part {
            Expr::Function(call)
                if call.over.is_none() && self.provider.get_aggregate_meta(&call.name.to_string()).is_some() =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    }

    /// A call in `FROM` that sees no columns: its rows in the place of `factor`.
    pub(super) fn rows_of_call(
        &self,
        function: &Arc<SqlFunction>,
        factor: &TableFactor,
        ctes: &Ctes,
        outer: &[&Scope],
    ) -> Result<LogicalPlan> {
        let columns = columns_of(function)?;
        let arguments = self.exact_arguments(factor, &[], ctes).map_err(|error| {
            match outer.is_empty() || self.exact_arguments(factor, outer, ctes).is_err() {
                true => error,
                false => Error::unsupported(format!(
                    "table function `{}` with a column of the query around its own",
                    function.name
                ))
                .with_help("Join the table with LATERAL."),
            }
        })?;
        let Body::Rows(query) = body_of(function)? else { return Err(Error::internal("rows without a query")) };
        let plan = self.in_body(function, arguments, usize::MAX, || self.plan_query(*query, &Ctes::new(), &[]))?;
        match columns {
            Some(columns) => self.with_declared(plan, function, columns),
            None => Ok(plan),
        }
    }

    /// A call in `FROM` that sees the columns of `scopes`: a subquery with exact names, and the columns it is declared with.
    pub(super) fn lateral_rows_of_call<'f>(
        &self,
        function: &'f Arc<SqlFunction>,
        factor: &TableFactor,
        scopes: &[&Scope],
        ctes: &Ctes,
    ) -> Result<(Query, Option<&'f [ResultColumn]>)> {
        let columns = columns_of(function)?;
        let arguments = self.exact_arguments(factor, scopes, ctes)?;
        let Body::Rows(mut query) = body_of(function)? else { return Err(Error::internal("rows without a query")) };
        self.in_body(function, arguments, self.queries.get(), || {
            self.rewrite_query(&mut query, &Ctes::new(), &[]).map(drop)
        })?;
        Ok((*query, columns))
    }

    fn exact_arguments(
        &self,
        factor: &TableFactor,
        scopes: &[&Scope],
        ctes: &Ctes,
    ) -> Result<Vec<(Option<String>, Expr)>> {
        let aliases = HashMap::new();
        let mut arguments = arguments_of_factor(factor)?;
        for (_, value) in &mut arguments {
            rewrite::expression(self, value, Names { scopes, aliases: &aliases, ctes })?;
        }
        Ok(arguments)
    }

    /// The rows with the names and types that a function declares.
    fn with_declared(
        &self,
        plan: LogicalPlan,
        function: &SqlFunction,
        columns: &[ResultColumn],
    ) -> Result<LogicalPlan> {
        let conf = conf_of(self.provider.state());
        let given = plan.schema().columns();
        check_width(function, columns, given.len())?;
        let mut exprs = Vec::with_capacity(columns.len());
        for (column, declared) in given.into_iter().map(PlanExpr::Column).zip(columns) {
            let (from, to) = (column.get_type(plan.schema())?, parse_data_type(&declared.data_type)?);
            exprs.push(spark_cast(column, &from, &to, CastMode::of(conf.ansi), &conf)?.alias(&declared.name));
        }
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    /// The call as Spark names a column after it: arguments that are passed by name stand in their places, with the
    /// defaults between them, and a stored function has its complete name.
    pub(super) fn shown_calls(&self, expr: &mut Expr) -> Result<()> {
        super::outside::outside_subqueries(expr, |part| {
            let Expr::Function(call) = part else { return Ok(()) };
            let Some(function) = self.user_function(&call.name) else { return Ok(()) };
            call.name = ast::ObjectName::from(vec![Ident::new(function.title())]);
            let arguments = arguments_of(call)?;
            if arguments.iter().all(|(name, _)| name.is_none()) {
                return Ok(());
            }
            let location = function.location();
            let mut shown = Vec::new();
            for (argument, parameter) in function.bind(arguments)?.into_iter().zip(&function.parameters) {
                let value = match (argument, &parameter.default) {
                    (Some(value), _) => value,
                    (None, Some(text)) => default_of(text, &location)?,
                    (None, None) => continue,
                };
                shown.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
            }
            if let FunctionArguments::List(list) = &mut call.args {
                list.args = shown;
            }
            Ok(())
        })
    }
}

/// The columns that a table function declares.
///
/// # Errors
/// `NOT_A_TABLE_FUNCTION` (`User`)
fn columns_of(function: &SqlFunction) -> Result<Option<&[ResultColumn]>> {
    match &function.returns {
        FunctionResult::Rows(columns) => Ok(columns.as_deref()),
        FunctionResult::Value(_) => Err(Error::user(format!("`{}` gives a value, not rows", function.name))
            .with_condition("NOT_A_TABLE_FUNCTION")
            .with_help("Call it in an expression.")),
    }
}

/// Refuses a body that has other columns than are declared.
pub(super) fn check_width(function: &SqlFunction, declared: &[ResultColumn], given: usize) -> Result<()> {
    if declared.len() == given {
        return Ok(());
    }
    Err(Error::user(format!(
        "the body of function `{}` gives {given} columns, {} are declared",
        function.name,
        declared.len()
    ))
    .with_condition("USER_DEFINED_FUNCTIONS.RETURN_COLUMN_COUNT_MISMATCH"))
}

fn default_of(text: &str, location: &crate::diagnostic::SourceLocation) -> Result<Expr> {
    let source = Source::new(text, location);
    source.parser()?.parse_expr().map_err(|error| source.error(&error))
}

pub(super) fn cast_to(expr: Expr, data_type: &str) -> Expr {
    let op = BinaryOperator::Custom(format!("{CAST}{data_type}"));
    Expr::BinaryOp { left: Box::new(expr), op, right: Box::new(Expr::value(Value::Null)) }
}

/// The arguments of a call and the names they are passed by.
fn arguments_of(call: &Function) -> Result<Vec<(Option<String>, Expr)>> {
    match &call.args {
        FunctionArguments::List(list) => list.args.iter().map(argument).collect(),
        FunctionArguments::None => Ok(Vec::new()),
        FunctionArguments::Subquery(query) => Ok(vec![(None, Expr::Subquery(query.clone()))]),
    }
}

/// The arguments of a call in `FROM`, and the names they are passed by.
pub(super) fn arguments_of_factor(factor: &TableFactor) -> Result<Vec<(Option<String>, Expr)>> {
    match factor {
        TableFactor::Table { args: Some(args), .. } => args.args.iter().map(argument).collect(),
        TableFactor::Function { args, .. } => args.iter().map(argument).collect(),
        _ => Ok(Vec::new()),
    }
}

fn argument(arg: &FunctionArg) -> Result<(Option<String>, Expr)> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Ok((None, value.clone())),
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
            Ok((Some(name.value.clone()), value.clone()))
        }
        FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
            Ok((Some(name.value.clone()), value.clone()))
        }
        other => Err(Error::unsupported(format!("argument `{other}`"))),
    }
}

/// What only aggregates and window functions have.
fn refuse_clauses(name: &str, call: &Function) -> Result<()> {
    if call.over.is_some() {
        return Err(Error::user(format!("function `{name}` cannot be used over a window"))
            .with_condition("UNSUPPORTED_SQL_UDF_USAGE"));
    }
    let distinct = matches!(&call.args, FunctionArguments::List(list) if list.duplicate_treatment.is_some());
    let clause = match (distinct, call.filter.is_some()) {
        (true, _) => "DISTINCT",
        (_, true) => "FILTER",
        _ => return Ok(()),
    };
    Err(Error::user(format!("function `{name}` does not take `{clause}`"))
        .with_condition("INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX"))
}

/// Refuses a body whose lambda parameters would be taken for a column in an argument.
fn refuse_capture(function: &SqlFunction, body: &Expr, arguments: &[(Option<String>, Expr)]) -> Result<()> {
    let mut parameters = Vec::new();
    let _ = visit_expressions(body, |expr| {
        if let Expr::Lambda(lambda) = expr {
            parameters.extend(lambda.params.iter().map(|param| param.name.value.to_lowercase()));
        }
        ControlFlow::<()>::Continue(())
    });
    let captured = |expr: &Expr| match expr {
        Expr::Identifier(name) if parameters.contains(&name.value.to_lowercase()) => {
            ControlFlow::Break(name.value.clone())
        }
        _ => ControlFlow::Continue(()),
    };
    for (_, argument) in arguments {
        if let ControlFlow::Break(name) = visit_expressions(argument, captured) {
            return Err(Error::unsupported(format!(
                "function `{}` with column `{name}` as an argument: a lambda in its body has a parameter of that name, which",
                function.name
            ))
            .with_help("Give the parameter of the lambda another name."));
        }
    }
    Ok(())
}

fn names_column(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |part| match part {
        Expr::CompoundIdentifier(_) | Expr::Identifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The alias of a table function that is called in `FROM`.
pub(super) fn alias_of_call(factor: &mut TableFactor) -> Option<TableAlias> {
    match factor {
        TableFactor::Table { alias, .. } | TableFactor::Function { alias, .. } => alias.take(),
        _ => None,
    }
}
