//! Relations that users' Python makes of the groups of a stream, with state: `applyInPandasWithState`.

use std::sync::Arc;

use arrow::datatypes::Schema;

use super::context::Planner;
use super::proto::{self, Expression};
use super::scope::{Output, Scope};
use super::types;
use crate::error::{Error, Result};
use crate::python::{GroupsWithState, PythonInput, StatefulFunction, Timeout};
use crate::streaming::is_streaming;
use crate::types::schema_from_json;

const NAME: &str = "GroupedData.applyInPandasWithState";

impl Planner<'_> {
    /// `applyInPandasWithState`
    pub(super) async fn apply_in_pandas_with_state(&self, apply: &proto::ApplyInPandasWithState) -> Result<Scope> {
        let scope = self.input(&apply.input).await?;
        if !is_streaming(&scope.plan) {
            return Err(Error::unsupported(format!("`{NAME}` in a batch query"))
                .with_help("Use applyInPandas instead, or read the input as a stream (spark.readStream)."));
        }
        match apply.output_mode.to_lowercase().as_str() {
            "append" => {}
            "update" => {
                return Err(Error::unsupported(format!(
                    "`{NAME}` in update mode: a flow adds rows to its table, and"
                ))
                .with_condition("UNSUPPORTED_STREAMING_OPERATOR")
                .with_help(
                    "Use the output mode `append`. To keep the latest row per key, feed the table to create_auto_cdc_flow.",
                ));
            }
            other => {
                return Err(Error::user(format!("`{other}` is no output mode of `{NAME}`")).with_help("Use `append`."));
            }
        }
        let timeout = Timeout::read(&apply.timeout_conf)?;
        let state = state_schema(&apply.state_schema)?;
        let (function, output) = self.function_of(apply.func.as_ref())?;
        let fields = Self::row_fields(&function, &output)?;
        let (schema, names) = self.output_schema(&fields)?;
        let input = self.keyed_input(scope, &apply.grouping_expressions)?;
        let function =
            StatefulFunction::new(function, input.names.clone(), &state, timeout, Arc::new(schema.as_arrow().clone()))?;
        let plan = GroupsWithState::new(input, function, Arc::new(schema)).into_plan();
        Ok(Self::named_scope(plan, names))
    }

    /// The visible columns, then the keys, by names that their state can be known by from one update to the next.
    fn keyed_input(&self, scope: Scope, keys: &[Expression]) -> Result<PythonInput> {
        let names = scope.visible().map(|column| column.name.clone()).collect();
        let mut outputs: Vec<_> = scope
            .visible()
            .map(|column| (Output::computed(column.expr(), self.names.unique(&column.name)), false))
            .collect();
        for key in super::expression::Expressions::new(self, &scope).outputs(keys)? {
            let name = self.names.unique(&key.name);
            outputs.push((Output::computed(key.expr, name), false));
        }
        Ok(PythonInput { plan: scope.project_exactly(outputs, &self.names)?.plan, names })
    }
}

/// The columns of the state: in Spark's JSON form, or as text.
fn state_schema(text: &str) -> Result<Schema> {
    let schema = match text.trim_start().starts_with('{') {
        true => schema_from_json(text),
        false => types::parse_schema(text),
    };
    schema.map_err(|error| error.context(format!("in the state's schema of `{NAME}`")))
}
