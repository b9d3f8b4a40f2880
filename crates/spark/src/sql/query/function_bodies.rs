//! Which functions in SQL a query calls, those that bodies call included, and what all of them read.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::SessionContext;
use sqlparser::ast::{Expr, TableFactor, Visit, Visitor};

use super::SqlQuery;
use super::outside::outside_subqueries;
use super::relation::{Read, reads};
use super::user_function::{Body, body_of, called, parts_of};
use crate::error::{Error, Result};
use crate::functions::{is_generator, is_spark_builtin};
use crate::relation::{ObjectName, RelationResolver, UnresolvedRelation};
use crate::session::conf_of;
use crate::sql::tokens::Source;
use crate::sql_function::{SqlFunction, SqlFunctions};

/// The names that are called, as written: in expressions, and in `FROM`.
#[derive(Default)]
struct Calls(Vec<ObjectName>);

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.0.push(parts_of(&function.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            self.0.push(parts_of(name));
        }
        ControlFlow::Continue(())
    }
}

/// What `part` of a query calls.
pub(super) fn calls_of(part: &impl Visit) -> Vec<ObjectName> {
    let mut calls = Calls::default();
    let _ = part.visit(&mut calls);
    calls.0
}

/// What the body of a function calls.
///
/// # Errors
/// If it cannot be read.
pub(super) fn calls_of_body(function: &SqlFunction) -> Result<Vec<ObjectName>> {
    Ok(match body_of(function)? {
        Body::Value(expr) => calls_of(expr.as_ref()),
        Body::Rows(query) => calls_of(query.as_ref()),
    })
}

/// What the body of a function reads, with complete names.
///
/// # Errors
/// If it cannot be read; reads that are malformed.
pub(super) fn reads_of_body(function: &SqlFunction, functions: &SqlFunctions, zone: Tz) -> Result<Vec<Read>> {
    let location = function.location();
    let source = Source::new(&function.body, &location);
    let is_function = |name: &ObjectName| called(functions, name, Some(function)).is_some();
    let found = match body_of(function)? {
        Body::Value(expr) => reads(expr.as_ref(), &source, zone, &is_function),
        Body::Rows(query) => reads(query.as_ref(), &source, zone, &is_function),
    };
    let complete = |read: Read| Read { request: function.complete_read(read.request), ..read };
    found.into_iter().map(|read| read.map(complete)).collect()
}

/// Makes `functions` hold all that `calls` mean, asking the resolver for what it does not hold; gives those that are used.
///
/// # Errors
/// Those of the resolver, and of bodies that cannot be read.
pub(super) async fn used(
    calls: Vec<ObjectName>,
    functions: &mut SqlFunctions,
    resolver: &dyn RelationResolver,
) -> Result<Vec<Arc<SqlFunction>>> {
    let mut used: Vec<Arc<SqlFunction>> = Vec::new();
    let mut asked = HashSet::new();
    let mut waiting: Vec<(ObjectName, Option<Arc<SqlFunction>>)> = calls.into_iter().map(|call| (call, None)).collect();
    while let Some((call, within)) = waiting.pop() {
        if matches!(call.0.as_slice(), [one] if is_spark_builtin(one)) {
            continue;
        }
        let name = functions.meant_by(&call, within.as_deref());
        if !asked.insert(name.to_string().to_lowercase()) {
            continue;
        }
        let function = match functions.get(&name) {
            Some(function) => Arc::clone(function),
            None => match resolver.function(&name).await? {
                Some(function) => {
                    functions.insert(&name, Arc::clone(&function));
                    function
                }
                None => continue,
            },
        };
        for inner in calls_of_body(&function)? {
            waiting.push((inner, Some(Arc::clone(&function))));
        }
        used.push(function);
    }
    Ok(used)
}

/// The names in the body of a function, as written.
pub(crate) struct BodyNames {
    /// What it calls.
    pub(crate) calls: Vec<ObjectName>,
    /// The tables and views it reads.
    pub(crate) reads: Vec<ObjectName>,
    /// Whether it calls what differs each time it is evaluated.
    pub(crate) volatile: bool,
}

/// The names in the body of a function, as written.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn body_names(ctx: &SessionContext, function: &SqlFunction) -> Result<BodyNames> {
    let state = ctx.state();
    let calls = calls_of_body(function)?;
    let here = SqlFunction { namespace: None, ..function.clone() };
    let mut reads = Vec::new();
    for read in reads_of_body(&here, &SqlFunctions::default(), conf_of(&state).time_zone).unwrap_or_default() {
        if let UnresolvedRelation::Table { name, .. } = read.request.relation {
            reads.push(name);
        }
    }
    let volatile = |name: &ObjectName| match name.0.as_slice() {
        [one] => state
            .scalar_functions()
            .get(&one.to_lowercase())
            .is_some_and(|udf| udf.signature().volatility == Volatility::Volatile),
        _ => false,
    };
    let volatile = calls.iter().any(volatile);
    Ok(BodyNames { calls, reads, volatile })
}

/// Refuses the body of a scalar function that is no value of one row: aggregates, windows and generators outside of
/// its subqueries.
///
/// # Errors
/// `USER_DEFINED_FUNCTIONS.CANNOT_CONTAIN_COMPLEX_FUNCTIONS`, `UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS` (`User`).
pub(crate) fn refuse_complex_body(ctx: &SessionContext, function: &SqlFunction) -> Result<()> {
    let Body::Value(mut body) = body_of(function)? else { return Ok(()) };
    let state = ctx.state();
    outside_subqueries(&mut body, |part| {
        let Expr::Function(call) = part else { return Ok(()) };
        let name = call.name.to_string().to_lowercase();
        if is_generator(&name) {
            return Err(Error::user(format!(
                "`{name}` makes rows: it cannot stand in the body of `{}`",
                function.name
            ))
            .with_condition("UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS"));
        }
        let several_rows = call.over.is_some()
            || state.aggregate_functions().contains_key(&name)
            || state.window_functions().contains_key(&name);
        match several_rows {
            true => Err(Error::user(format!(
                "`{name}` looks at several rows: it cannot stand in the body of `{}`",
                function.name
            ))
            .with_condition("USER_DEFINED_FUNCTIONS.CANNOT_CONTAIN_COMPLEX_FUNCTIONS")
            .with_help("Put it into a subquery.")),
            false => Ok(()),
        }
    })
}

/// Reads the body of a function.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`), and a body that is no query where rows are promised.
pub fn check_body(function: &SqlFunction) -> Result<()> {
    body_of(function).map(drop)
}

/// The names that a query calls, as written.
pub fn calls(query: &SqlQuery) -> Vec<ObjectName> {
    calls_of(&query.query)
}
