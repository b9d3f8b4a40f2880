//! Calls of functions written in SQL in expressions of DataFrames.
//!
//! The call is planned as text over columns that stand for its arguments, which then take their places.

use std::collections::HashMap;

use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::expression::{Expressions, required};
use super::proto::Expression;
use super::proto::expression::ExprType;
use super::scope::split_identifier;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::functions::is_spark_builtin;
use crate::relation::ObjectName;
use crate::sql_function::SqlFunctions;
use crate::types::quote;

impl Expressions<'_> {
    /// The value of a call, if `name` is a function in SQL.
    ///
    /// # Errors
    /// As of a call in SQL text; `Unsupported` if the body reads a table.
    pub(super) fn sql_function(&self, name: &str, arguments: &[Expression]) -> Result<Option<Expr>> {
        if is_spark_builtin(name) {
            return Ok(None);
        }
        let Ok(parts) = split_identifier(name).map(ObjectName) else { return Ok(None) };
        if SqlFunctions::of(&self.planner.state).get(&parts).is_none() {
            return Ok(None);
        }
        let (mut texts, mut fields, mut values) = (Vec::new(), Vec::new(), HashMap::new());
        for (i, argument) in arguments.iter().enumerate() {
            let (key, value) = match &argument.expr_type {
                Some(ExprType::NamedArgumentExpression(named)) => {
                    (format!("{} => ", quote(&named.key)), required(named.value.as_deref())?)
                }
                _ => (String::new(), argument),
            };
            let (value, column) = (self.plan(value)?.unalias(), format!("__argument_{i}"));
            texts.push(format!("{key}{column}"));
            fields.push(Field::new(&column, value.get_type(self.scope.schema())?, true));
            values.insert(column, (value, 0_usize));
        }
        let called = parts.0.iter().map(|part| quote(part)).collect::<Vec<_>>().join(".");
        let (text, schema) = (format!("{called}({})", texts.join(", ")), DFSchema::try_from(Schema::new(fields))?);
        let location = SourceLocation::new("<call>", 1, 1);
        let body = crate::sql::plan_expression(self.planner.ctx, &text, &schema, &location)?.unalias();
        let with_arguments = body.transform_up(|part| match &part {
            Expr::Column(column) if column.relation.is_none() => match values.get_mut(&column.name) {
                Some((value, uses)) => {
                    *uses += 1;
                    Ok(Transformed::yes(value.clone()))
                }
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        })?;
        if values.values().any(|(value, uses)| *uses > 1 && value.is_volatile()) {
            return Err(Error::unsupported(format!(
                "function `{parts}` with an argument that differs each time it is evaluated"
            ))
            .with_help("Compute the argument in a column first (withColumn)."));
        }
        Ok(Some(with_arguments.data))
    }
}
