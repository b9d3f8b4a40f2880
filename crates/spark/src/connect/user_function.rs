//! Functions in Python that come with the request.

use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ScalarUDF};

use super::artifacts::Artifacts;
use super::expression::{Expressions, required};
use super::proto::CommonInlineUserDefinedFunction;
use super::proto::common_inline_user_defined_function::Function;
use super::proto::expression::ExprType;
use super::{faces, types};
use crate::error::{Error, Result};
use crate::python::PythonFunction;

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

impl Expressions<'_> {
    /// A call of a function in Python.
    pub(super) fn user_function(&self, message: &CommonInlineUserDefinedFunction) -> Result<Expr> {
        let mut arguments = Vec::with_capacity(message.arguments.len());
        let mut names = Vec::with_capacity(message.arguments.len());
        for argument in &message.arguments {
            let name = match &argument.expr_type {
                Some(ExprType::NamedArgumentExpression(named)) => Some(named.key.clone()),
                _ => None,
            };
            names.push(name);
            arguments.push(self.plan(argument)?.unalias());
        }
        let function = of(message, self.planner.artifacts)?.with_arguments(names);
        let function = std::sync::Arc::new(ScalarUDF::new_from_impl(function));
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(function, arguments)))
    }
}
