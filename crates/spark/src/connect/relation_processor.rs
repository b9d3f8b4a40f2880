//! Relations that users' classes in Python make of groups, with state and timers: `transformWithState` and
//! `transformWithStateInPandas`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::logical_expr::LogicalPlan;

use super::context::Planner;
use super::expression::{Expressions, required};
use super::proto::{self, Expression};
use super::scope::{Output, Scope};
use crate::error::{Error, Result};
use crate::python::{Key, Layout, StatefulProcessor, TimeMode, TransformWithState};
use crate::streaming::is_streaming;
use crate::types::type_name;

const NAME: &str = "GroupedData.transformWithState";

impl Planner<'_> {
    /// `transformWithState`, `transformWithStateInPandas`
    pub(super) async fn transform_with_state(&self, map: &proto::GroupMap) -> Result<Scope> {
        let info = required(map.transform_with_state_info.as_ref())?;
        let mode = TimeMode::read(&info.time_mode)?;
        // All that a processor gives is added to what is there, whichever mode its user asks for.
        match map.output_mode().to_lowercase().as_str() {
            "append" | "update" | "complete" => {}
            other => {
                return Err(Error::user(format!("`{other}` is no output mode of `{NAME}`"))
                    .with_condition("STREAMING_OUTPUT_MODE.INVALID")
                    .with_help("Use `append`."));
            }
        }
        let (function, output) = self.function_of(map.func.as_ref())?;
        let fields = Self::row_fields(&function, &output)?;
        let (schema, names) = self.output_schema(&fields)?;
        let event_time = match info.event_time_column_name() {
            "" => None,
            name => Some(event_time(name, schema.as_arrow())?),
        };
        let scope = self.input(&map.input).await?;
        if event_time.is_some() && !is_streaming(&scope.plan) {
            return Err(Error::user("a batch query has no watermark, and no event time column")
                .with_condition("CANNOT_ASSIGN_EVENT_TIME_COLUMN_WITHOUT_WATERMARK")
                .with_help("Leave `eventTimeColumnName` out, or read the input as a stream (spark.readStream)."));
        }
        let (rows, layout) = self.laid_out(scope, &map.grouping_expressions)?;
        let (mut initial, mut initial_layout) = (None, None);
        if map.initial_input.is_some() {
            let scope = self.input(&map.initial_input).await?;
            if is_streaming(&scope.plan) {
                return Err(Error::user("the initial state of a stateful processor is a stream")
                    .with_help("Read it as a table: spark.read instead of spark.readStream."));
            }
            let (plan, layout) = self.laid_out(scope, &map.initial_grouping_expressions)?;
            (initial, initial_layout) = (Some(plan), Some(layout));
        }
        let output = Arc::new(schema.as_arrow().clone());
        let processor = StatefulProcessor::new(function, mode, layout, initial_layout, output, event_time)?;
        let plan = TransformWithState::new(rows, initial, processor, Arc::new(schema)).into_plan();
        Ok(Self::named_scope(plan, names))
    }

    /// The visible columns, then the keys, by names that state can be known by from one update to the next.
    fn laid_out(&self, scope: Scope, keys: &[Expression]) -> Result<(LogicalPlan, Layout)> {
        let values: Vec<_> = scope.visible().cloned().collect();
        let mut outputs: Vec<_> = values
            .iter()
            .map(|column| (Output::computed(column.expr(), self.names.unique(&column.name)), false))
            .collect();
        let mut places = Vec::new();
        for key in Expressions::new(self, &scope).outputs(keys)? {
            let value = values.iter().position(|column| column.expr() == key.expr);
            outputs.push((Output::computed(key.expr, self.names.unique(&key.name)), false));
            places.push(value.map_or(Key::Own(key.name), Key::Value));
        }
        let plan = scope.project_exactly(outputs, &self.names)?.plan;
        let types = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let names = values.into_iter().map(|column| column.name).collect();
        Ok((plan, Layout::new(names, places, types)))
    }
}

/// The column of the output that later operators take for the event time.
fn event_time(name: &str, output: &Schema) -> Result<usize> {
    let place = output.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
    let place = place.ok_or_else(|| {
        let columns: Vec<_> = output.fields().iter().map(|field| format!("`{}`", field.name())).collect();
        Error::user(format!("there is no column `{name}` in the output of the stateful processor to be its event time"))
            .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
            .with_help(format!("Its columns are {}.", columns.join(", ")))
    })?;
    match output.field(place).data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(place),
        other => Err(Error::user(format!("the event time `{name}` of a stateful processor is {}", type_name(other)))
            .with_condition("EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE")
            .with_help("Declare it as TIMESTAMP.")),
    }
}
