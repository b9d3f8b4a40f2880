//! The parameters of `spark.sql`, as a client sends them: expressions of constants.

use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlanBuilder;

use super::context::Planner;
use super::expression::{Expressions, required};
use super::literal;
use super::proto::expression::ExprType;
use super::proto::{self, Expression};
use super::scope::Scope;
use crate::error::{Error, Result};
use crate::sql::query::Parameters;

/// The functions that a parameter may call, as in Spark.
const CONSTRUCTORS: [&str; 6] = ["array", "map", "map_from_arrays", "map_from_entries", "named_struct", "struct"];

impl Planner<'_> {
    /// The parameters of a query: by name (`:x`) or by position (`?`).
    pub(super) async fn sql_arguments(&self, sql: &proto::Sql) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        for (name, value) in &sql.named_arguments {
            parameters.named.insert(name.clone(), self.sql_argument(name, value).await?);
        }
        for (i, value) in sql.pos_arguments.iter().enumerate() {
            parameters.positional.push(self.sql_argument(&format!("_{}", i + 1), value).await?);
        }
        #[allow(deprecated, reason = "clients before 4.0 send literals")]
        {
            for (name, value) in &sql.args {
                parameters.named.insert(name.clone(), literal::scalar(value)?);
            }
            for value in &sql.pos_args {
                parameters.positional.push(literal::scalar(value)?);
            }
        }
        Ok(parameters)
    }

    async fn sql_argument(&self, name: &str, value: &Expression) -> Result<ScalarValue> {
        if let Some(ExprType::Literal(value)) = &value.expr_type {
            return literal::scalar(value);
        }
        if !is_collection(value)? {
            return Err(Error::user(format!("the argument `{name}` of `spark.sql` is not a constant"))
                .with_condition("INVALID_SQL_ARG")
                .with_parameter("name", name)
                .with_help("Give a literal, or a collection of literals: map(), array() or struct()."));
        }
        let one_row = LogicalPlanBuilder::empty(true).build()?;
        let nothing = Scope::new(one_row.clone(), &[]);
        let value = Expressions::new(self, &nothing).plan(value)?.unalias();
        let plan = LogicalPlanBuilder::from(one_row).project(vec![value.alias("value")])?.build()?;
        let batches = DataFrame::new(self.state.as_ref().clone(), plan).collect().await?;
        let batch = batches.first().ok_or_else(|| Error::internal("a constant without a row"))?;
        Ok(ScalarValue::try_from_array(batch.column(0), 0)?)
    }
}

/// Whether an expression makes a collection of literals.
fn is_collection(expr: &Expression) -> Result<bool> {
    let (name, arguments) = match &expr.expr_type {
        Some(ExprType::Literal(_)) => return Ok(true),
        Some(ExprType::Alias(alias)) => return is_collection(required(alias.expr.as_deref())?),
        Some(ExprType::UnresolvedFunction(call)) => (&call.function_name, &call.arguments),
        Some(ExprType::CallFunction(call)) => (&call.function_name, &call.arguments),
        _ => return Ok(false),
    };
    if !CONSTRUCTORS.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(false);
    }
    arguments.iter().try_fold(true, |all, argument| Ok(all && is_collection(argument)?))
}
