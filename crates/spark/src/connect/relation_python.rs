//! Relations that users' Python makes of others: `mapInPandas`, `applyInPandas`, `cogroup`, table functions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};

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
use crate::python::{PythonInput, PythonRelation, RelationFunction, Shape, TablePartitions};
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
        if map.is_map_groups_with_state() || map.transform_with_state_info.is_some() || map.initial_input.is_some() {
            return Err(Error::unsupported("`GroupedData.applyInPandasWithState` and `transformWithState`")
                .with_help("Aggregate, or keep the newest row per key with `create_auto_cdc_flow`."));
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
        let name = &call.function_name;
        let Some(table_function::Function::PythonUdtf(udtf)) = &call.function else {
            return Err(Error::unsupported(format!("the table function `{name}`, which is not in Python,")));
        };
        let Some(returns) = &udtf.return_type else {
            return Err(Error::unsupported(format!("the table function `{name}` without a return type"))
                .with_help("Give `returnType` to udtf(…) instead of an `analyze` method."));
        };
        let function = RelationFunction {
            name: name.clone(),
            eval_type: udtf.eval_type,
            command: bytes::Bytes::copy_from_slice(&udtf.command),
            python_version: udtf.python_ver.clone(),
            workers: self.workers(name)?,
        };
        let (scope, options) = self.table_of(call)?;
        let expressions = Expressions::new(self, &scope);
        let keys: Vec<Expr> = expressions.plan_all(&options.partition_spec)?.into_iter().map(Expr::unalias).collect();
        let mut names = Vec::new();
        let mut outputs = Vec::new();
        for argument in &call.arguments {
            let (key, value) = match &argument.expr_type {
                Some(ExprType::NamedArgumentExpression(named)) => {
                    (Some(named.key.clone()), required(named.value.as_deref())?)
                }
                _ => (None, argument),
            };
            let expr = match table_argument(argument) {
                Some(_) => self.whole_row(&scope, &keys)?,
                None => expressions.plan(value)?.unalias(),
            };
            outputs.push((Output::computed(expr, self.names.unique("argument")), false));
            names.push(key);
        }
        let partitioned = !keys.is_empty() || !options.order_spec.is_empty() || options.with_single_partition();
        let mut partitions = TablePartitions { keys: keys.len(), order: Vec::new(), positions: Vec::new() };
        let ascending = keys.into_iter().map(|key| key.sort(true, true));
        let order = options.order_spec.iter().map(|order| expressions.sort(order)).collect::<Result<Vec<_>>>()?;
        for (i, sort) in ascending.chain(order).enumerate() {
            if i < partitions.keys {
                partitions.positions.push((scope.visible().count() + i) as i32);
            }
            partitions.order.push(SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
            outputs.push((Output::computed(sort.expr, self.names.unique("key")), false));
        }
        let input = scope.project_exactly(outputs, &self.names)?;
        let columns = (0..names.len()).map(|i| format!("_{i}")).collect();
        let input = PythonInput { plan: input.plan, names: columns };
        let (node, declared) = self.python_node(function, vec![input], row_type(returns)?)?;
        let node = PythonRelation { arguments: names, partitions: partitioned.then_some(partitions), ..node };
        Ok(Self::python_scope((node, declared)))
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

    /// All visible columns as a struct, and behind them what the rows are partitioned by.
    fn whole_row(&self, scope: &Scope, keys: &[Expr]) -> Result<Expr> {
        let mut parts = Vec::new();
        for column in scope.visible() {
            parts.extend([lit(column.name.as_str()), column.expr()]);
        }
        for (i, key) in keys.iter().enumerate() {
            parts.extend([lit(format!("partition_by_{i}")), key.clone()]);
        }
        super::faces::scalar_function(self, "named_struct", parts)
    }

    fn workers(&self, name: &str) -> Result<Arc<crate::python::PythonWorkers>> {
        let workers = self.artifacts.python();
        workers
            .cloned()
            .ok_or_else(|| Error::unsupported(format!("the Python function `{name}`: running user-defined functions")))
    }

    fn function_of(&self, message: Option<&CommonInlineUserDefinedFunction>) -> Result<(RelationFunction, DataType)> {
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
        let DataType::Struct(fields) = canonical(&output) else {
            return Err(Error::user(format!("the Python function `{}` must return rows", function.name))
                .with_condition("UDTF_RETURN_SCHEMA_NOT_STRUCT"));
        };
        let shape = function.shape()?;
        if shape == Shape::Groups && inputs.iter().any(|input| is_streaming(&input.plan)) {
            // A group would be whatever rows of it a batch happens to hold.
            return Err(Error::unsupported(format!("the Python function `{}` of groups of a stream", function.name))
                .with_help("Read the table as a whole (spark.read), in a materialized view."));
        }
        let (schema, names) = self.output_schema(&fields)?;
        let schema = Arc::new(schema);
        let node = PythonRelation { function, shape, inputs, arguments: Vec::new(), partitions: None, schema };
        Ok((node, names))
    }

    /// The columns of a node under the names they are declared by.
    fn python_scope((node, names): (PythonRelation, Vec<String>)) -> Scope {
        let mut scope = Scope::new(node.into_plan(), &[]);
        for (column, name) in scope.columns.iter_mut().zip(names) {
            column.name = name;
        }
        scope
    }

    /// The declared columns under names that a plan can have, and the names they are declared by.
    fn output_schema(&self, fields: &Fields) -> Result<(DFSchema, Vec<String>)> {
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
