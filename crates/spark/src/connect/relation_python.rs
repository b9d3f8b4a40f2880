//! Relations that users' Python makes of others: `mapInPandas`, `applyInPandas`, `cogroup`, table functions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::artifacts::Artifacts;
use super::context::Planner;
use super::expression::{Expressions, required};
use super::proto::common_inline_user_defined_function::Function;
use super::proto::common_inline_user_defined_table_function as table_function;
use super::proto::expression::ExprType;
use super::proto::subquery_expression::{SubqueryType, TableArgOptions};
use super::proto::{self, CommonInlineUserDefinedFunction, Expression};
use super::scope::{Output, Scope};
use super::types;
use crate::error::{Error, Result};
use crate::python::{
    Argument, Carried, PythonInput, PythonRelation, PythonWorkers, RelationFunction, Shape, TableArgument, TableCall,
    TableFunction,
};
use crate::streaming::is_streaming;
use crate::types::canonical;

impl Planner<'_> {
    /// `mapInPandas`, `mapInArrow`
    pub(super) async fn map_partitions(&self, map: &proto::MapPartitions) -> Result<Scope> {
        // A barrier only says when the tasks of a stage start, which here is together anyway.
        let scope = self.input(&map.input).await?;
        let (function, output) = self.function_of(map.func.as_ref())?;
        let input = self.python_input(scope, &[])?;
        Ok(Self::python_scope(self.python_node(function, vec![input], output)?))
    }

    /// `applyInPandas`, `applyInArrow`
    pub(super) async fn group_map(&self, map: &proto::GroupMap) -> Result<Scope> {
        if map.transform_with_state_info.is_some() {
            return self.transform_with_state(map).await;
        }
        if map.is_map_groups_with_state() || map.initial_input.is_some() {
            return Err(Error::unsupported("`mapGroupsWithState` and `flatMapGroupsWithState` of Scala")
                .with_help("Use transformWithState or applyInPandasWithState in Python."));
        }
        let scope = self.input(&map.input).await?;
        let scope = self.sorted_before(scope, &map.sorting_expressions)?;
        let (function, output) = self.function_of(map.func.as_ref())?;
        let input = self.python_input(scope, &map.grouping_expressions)?;
        Ok(Self::python_scope(self.python_node(function, vec![input], output)?))
    }

    /// `cogroup(…).applyInPandas`
    pub(super) async fn co_group_map(&self, map: &proto::CoGroupMap) -> Result<Scope> {
        let left = self.input(&map.input).await?;
        let left = self.sorted_before(left, &map.input_sorting_expressions)?;
        let right = self.input(&map.other).await?;
        let right = self.sorted_before(right, &map.other_sorting_expressions)?;
        if map.input_grouping_expressions.len() != map.other_grouping_expressions.len() {
            return Err(Error::user("the sides of `cogroup` are grouped by different numbers of columns"));
        }
        let (function, output) = self.function_of(map.func.as_ref())?;
        let left = self.python_input(left, &map.input_grouping_expressions)?;
        let right = self.python_input(right, &map.other_grouping_expressions)?;
        Ok(Self::python_scope(self.python_node(function, vec![left, right], output)?))
    }

    /// A table function that is called with constants, or with the rows of a table.
    pub(super) async fn python_table_function(
        &self,
        call: &proto::CommonInlineUserDefinedTableFunction,
    ) -> Result<Scope> {
        let function = self.table_function_of(call)?;
        let (scope, options) = self.table_of(call)?;
        let expressions = Expressions::new(self, &scope);
        let mut arguments = Vec::new();
        let mut has_table = false;
        for argument in &call.arguments {
            let (key, value) = match &argument.expr_type {
                Some(ExprType::NamedArgumentExpression(named)) => {
                    (Some(named.key.clone()), required(named.value.as_deref())?)
                }
                _ => (None, argument),
            };
            let is_table = table_argument(argument).is_some();
            has_table |= is_table;
            arguments.push((
                key,
                match is_table {
                    true => Argument::Table,
                    false => Argument::Value(expressions.plan(value)?.unalias()),
                },
            ));
        }
        let keys = expressions.plan_all(&options.partition_spec)?.into_iter().map(Expr::unalias).collect();
        let order = options.order_spec.iter().map(|order| expressions.sort(order)).collect::<Result<Vec<_>>>()?;
        let expression = |text: &str| {
            let string = proto::expression::ExpressionString { expression: text.to_owned() };
            let message = Expression { common: None, expr_type: Some(ExprType::ExpressionString(string)) };
            Ok(expressions.plan(&message)?.unalias())
        };
        let table = has_table.then(|| TableArgument {
            columns: scope.visible().map(|column| (column.name.clone(), column.expr())).collect(),
            keys,
            order,
            single_partition: options.with_single_partition(),
            expression: &expression,
        });
        let (input, carried) = (scope.plan.clone(), Carried::default());
        let made = TableCall { function: &function, input, arguments, table, carried }.plan(&self.state)?;
        Ok(Self::python_scope(made))
    }

    /// The function that a call brings along.
    pub(super) fn table_function_of(
        &self,
        call: &proto::CommonInlineUserDefinedTableFunction,
    ) -> Result<TableFunction> {
        table_function(call, self.artifacts)
    }

    /// The table that a table function is called with, and what is said of its rows; one row without columns if it has
    /// constants alone.
    fn table_of(&self, call: &proto::CommonInlineUserDefinedTableFunction) -> Result<(Scope, TableArgOptions)> {
        let mut table = None;
        for (plan_id, options) in call.arguments.iter().filter_map(table_argument) {
            let plan = self.subqueries.get(&plan_id).cloned().ok_or_else(|| {
                Error::internal(format!("a table argument refers to plan {plan_id}, which was not sent"))
            })?;
            if table.replace((Scope::new(plan, &[]), options)).is_some() {
                return Err(Error::unsupported(format!("`{}` with two tables as arguments", call.function_name)));
            }
        }
        match table {
            Some(table) => Ok(table),
            None => {
                let plan = LogicalPlanBuilder::empty(true).build()?;
                Ok((Scope { plan, columns: Vec::new() }, TableArgOptions::default()))
            }
        }
    }

    fn workers(&self, name: &str) -> Result<Arc<PythonWorkers>> {
        workers(name, self.artifacts)
    }

    pub(super) fn function_of(
        &self,
        message: Option<&CommonInlineUserDefinedFunction>,
    ) -> Result<(RelationFunction, DataType)> {
        let message = required(message)?;
        let name = &message.function_name;
        let Some(Function::PythonUdf(python)) = &message.function else {
            return Err(Error::unsupported(format!("the function `{name}`, which is not in Python,")));
        };
        let function = RelationFunction {
            name: name.clone(),
            eval_type: python.eval_type,
            command: bytes::Bytes::copy_from_slice(&python.command),
            python_version: python.python_ver.clone(),
            workers: self.workers(name)?,
        };
        Ok((function, types::to_arrow(required(python.output_type.as_ref())?)?))
    }

    /// The visible columns, then the keys.
    fn python_input(&self, scope: Scope, keys: &[Expression]) -> Result<PythonInput> {
        let names = scope.visible().map(|column| column.name.clone()).collect();
        let mut outputs: Vec<_> = scope
            .visible()
            .map(|column| (Output::computed(column.expr(), self.names.unique(&column.name)), false))
            .collect();
        for key in Expressions::new(self, &scope).outputs(keys)? {
            outputs.push((Output::computed(key.expr, self.names.unique("key")), false));
        }
        Ok(PythonInput { plan: scope.project_exactly(outputs, &self.names)?.plan, names })
    }

    /// The rows of a group are given in this order.
    fn sorted_before(&self, scope: Scope, order: &[Expression]) -> Result<Scope> {
        if order.is_empty() {
            return Ok(scope);
        }
        Err(Error::unsupported("rows sorted within groups").with_help("Sort them in the function."))
    }

    fn python_node(
        &self,
        function: RelationFunction,
        inputs: Vec<PythonInput>,
        output: DataType,
    ) -> Result<(PythonRelation, Vec<String>)> {
        let fields = Self::row_fields(&function, &output)?;
        let shape = function.shape()?;
        if shape == Shape::Groups && inputs.iter().any(|input| is_streaming(&input.plan)) {
            // A group would be whatever rows of it a batch happens to hold.
            return Err(Error::unsupported(format!("the Python function `{}` of groups of a stream", function.name))
                .with_help("Read the table as a whole (spark.read), in a materialized view."));
        }
        let (schema, names) = self.output_schema(&fields)?;
        let schema = Arc::new(schema);
        let (arguments, partitions, analysis, carried) = (Vec::new(), None, None, None);
        let node = PythonRelation { function, shape, inputs, arguments, partitions, analysis, carried, schema };
        Ok((node, names))
    }

    /// The columns that a function declares.
    pub(super) fn row_fields(function: &RelationFunction, output: &DataType) -> Result<Fields> {
        match canonical(output) {
            DataType::Struct(fields) => Ok(fields),
            _ => Err(Error::user(format!("the Python function `{}` must return rows", function.name))
                .with_condition("UDTF_RETURN_SCHEMA_NOT_STRUCT")),
        }
    }

    /// The columns of a node under the names they are declared by.
    fn python_scope((node, names): (PythonRelation, Vec<String>)) -> Scope {
        Self::named_scope(node.into_plan(), names)
    }

    /// The columns of a plan under other names.
    pub(super) fn named_scope(plan: LogicalPlan, names: Vec<String>) -> Scope {
        let mut scope = Scope::new(plan, &[]);
        for (column, name) in scope.columns.iter_mut().zip(names) {
            column.name = name;
        }
        scope
    }

    /// The declared columns under names that a plan can have, and the names they are declared by.
    pub(super) fn output_schema(&self, fields: &Fields) -> Result<(DFSchema, Vec<String>)> {
        let mut taken = HashMap::new();
        let unique = |field: &Arc<Field>| {
            let again = taken.insert(field.name().clone(), ()).is_some();
            let name = if again { self.names.unique(field.name()) } else { field.name().clone() };
            field.as_ref().clone().with_name(name)
        };
        let unique: Vec<Field> = fields.iter().map(unique).collect();
        let names = fields.iter().map(|field| field.name().clone()).collect();
        Ok((DFSchema::try_from(Schema::new(unique))?, names))
    }
}

fn workers(name: &str, artifacts: &Artifacts) -> Result<Arc<PythonWorkers>> {
    let unsupported = || Error::unsupported(format!("the Python function `{name}`: running user-defined functions"));
    artifacts.python().cloned().ok_or_else(unsupported)
}

/// The table function in Python that a message defines.
///
/// # Errors
/// `Unsupported` for functions of the JVM, and in sessions that run no Python.
pub(super) fn table_function(
    message: &proto::CommonInlineUserDefinedTableFunction,
    artifacts: &Artifacts,
) -> Result<TableFunction> {
    let name = &message.function_name;
    let Some(table_function::Function::PythonUdtf(udtf)) = &message.function else {
        return Err(Error::unsupported(format!("the table function `{name}`, which is not in Python,")));
    };
    let function = RelationFunction {
        name: name.clone(),
        eval_type: udtf.eval_type,
        command: bytes::Bytes::copy_from_slice(&udtf.command),
        python_version: udtf.python_ver.clone(),
        workers: workers(name, artifacts)?,
    };
    function.shape()?;
    Ok(TableFunction { function, returns: udtf.return_type.as_ref().map(row_type).transpose()? })
}

/// The type of the rows of a table function, which may be written as columns: `a INT, b STRING`.
fn row_type(data_type: &proto::DataType) -> Result<DataType> {
    match &data_type.kind {
        Some(proto::data_type::Kind::Unparsed(text)) => {
            Ok(DataType::Struct(types::parse_schema(&text.data_type_string)?.fields().clone()))
        }
        _ => types::to_arrow(data_type),
    }
}

/// The plan id of a table argument, and what is said of its rows.
fn table_argument(argument: &Expression) -> Option<(i64, TableArgOptions)> {
    match &argument.expr_type {
        Some(ExprType::SubqueryExpression(subquery)) if subquery.subquery_type() == SubqueryType::TableArg => {
            Some((subquery.plan_id, subquery.table_arg_options.clone().unwrap_or_default()))
        }
        Some(ExprType::NamedArgumentExpression(named)) => named.value.as_deref().and_then(table_argument),
        _ => None,
    }
}
