//! Functions in Python that come with the request.

use std::sync::Arc;

use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF};

use super::artifacts::Artifacts;
use super::expression::{Expressions, required};
use super::proto::common_inline_user_defined_function::Function;
use super::proto::expression::ExprType;
use super::proto::{CommonInlineUserDefinedFunction, Expression};
use super::{faces, types};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::python::{PythonAggregate, PythonFunction, is_aggregate};

/// The function that a message defines.
///
/// # Errors
/// `Unsupported` for functions of the JVM, for aggregates, and in sessions that run no Python.
pub(super) fn of(message: &CommonInlineUserDefinedFunction, artifacts: &Artifacts) -> Result<PythonFunction> {
    let name = &message.function_name;
    let python = match &message.function {
        Some(Function::PythonUdf(python)) => python,
        Some(Function::ScalarScalaUdf(_) | Function::JavaUdf(_)) | None => {
            return Err(Error::unsupported(format!("the function `{name}`, which is not in Python,")));
        }
    };
    let workers = artifacts
        .python()
        .ok_or_else(|| Error::unsupported(format!("the Python function `{name}`: running user-defined functions")))?;
    let output = types::to_arrow(required(python.output_type.as_ref())?)?;
    PythonFunction::new(name, python, faces::canonical(&output), message.deterministic, workers.clone())
}

/// The function of a message that gives one value per group; `None` if it gives one per row.
///
/// # Errors
/// `Unsupported` in sessions that run no Python.
pub(super) fn aggregate_of(
    message: &CommonInlineUserDefinedFunction,
    artifacts: &Artifacts,
    conf: &SparkConf,
) -> Result<Option<PythonAggregate>> {
    let Some(Function::PythonUdf(python)) = &message.function else { return Ok(None) };
    if !is_aggregate(python.eval_type) {
        return Ok(None);
    }
    let name = &message.function_name;
    let workers = artifacts
        .python()
        .ok_or_else(|| Error::unsupported(format!("the Python function `{name}`: running user-defined functions")))?;
    let output = faces::canonical(&types::to_arrow(required(python.output_type.as_ref())?)?);
    Ok(Some(PythonAggregate::new(name, python, output, Arc::clone(workers), conf.clone())))
}

impl Expressions<'_> {
    /// A call of a function in Python.
    pub(super) fn user_function(&self, message: &CommonInlineUserDefinedFunction) -> Result<Expr> {
        let (arguments, names) = self.python_arguments(&message.arguments)?;
        if let Some(aggregate) = self.user_aggregate(message, &names)? {
            let call = AggregateFunction::new_udf(aggregate, arguments, message.is_distinct, None, Vec::new(), None);
            return Ok(Expr::AggregateFunction(call));
        }
        let function = of(message, self.planner.artifacts)?.with_arguments(names);
        let function = Arc::new(ScalarUDF::new_from_impl(function));
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments)))
    }

    /// The arguments, and the names of those that are passed by name.
    fn python_arguments(&self, arguments: &[Expression]) -> Result<(Vec<Expr>, Vec<Option<String>>)> {
        let name = |argument: &Expression| match &argument.expr_type {
            Some(ExprType::NamedArgumentExpression(named)) => Some(named.key.clone()),
            _ => None,
        };
        let planned = arguments.iter().map(|argument| Ok(self.plan(argument)?.unalias())).collect::<Result<_>>()?;
        Ok((planned, arguments.iter().map(name).collect()))
    }

    /// The function of a message that gives one value per group; `None` if it gives one per row.
    fn user_aggregate(
        &self,
        message: &CommonInlineUserDefinedFunction,
        names: &[Option<String>],
    ) -> Result<Option<Arc<AggregateUDF>>> {
        let Some(mut aggregate) = aggregate_of(message, self.planner.artifacts, &self.planner.conf)? else {
            return Ok(None);
        };
        aggregate.arguments = names.to_vec();
        Ok(Some(Arc::new(AggregateUDF::new_from_impl(aggregate))))
    }

    /// A call over a window: the aggregate and its arguments, if it is a Python function of groups.
    pub(super) fn user_window(&self, call: &Expression) -> Result<Option<(Arc<AggregateUDF>, Vec<Expr>)>> {
        let Some(ExprType::CommonInlineUserDefinedFunction(message)) = &call.expr_type else { return Ok(None) };
        let (arguments, names) = self.python_arguments(&message.arguments)?;
        Ok(self.user_aggregate(message, &names)?.map(|aggregate| (aggregate, arguments)))
    }
}
