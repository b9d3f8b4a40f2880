//! Calls of table functions in Python, from SQL and from DataFrames: what a worker is given, and which columns come back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::{FunctionRegistry as _, SessionState};
use datafusion::logical_expr::expr::{ScalarFunction, Sort};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::SessionContext;

use super::analyze::{AnalyzedArgument, analyze};
use super::relation::{PythonInput, PythonRelation, RelationFunction, TablePartitions};
use crate::coercion::analyzed_expr;
use crate::error::{Error, Result};
use crate::session::conf_of;
use crate::types::canonical;

/// A table function in Python, and the type of its rows; `None` if its static method `analyze` tells it for each call.
#[derive(Debug, Clone)]
pub(crate) struct TableFunction {
    pub(crate) function: RelationFunction,
    pub(crate) returns: Option<DataType>,
}

/// The table functions in Python that SQL knows by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableFunctions(HashMap<String, Arc<TableFunction>>);

impl TableFunctions {
    /// Those of a session.
    pub(crate) fn of(session: &SessionState) -> Arc<Self> {
        session.config().get_extension::<Self>().unwrap_or_default()
    }

    /// A session that knows these functions, and is like `ctx` otherwise.
    pub(crate) fn in_session(&self, ctx: &SessionContext) -> SessionContext {
        if self.0.is_empty() {
            return ctx.clone();
        }
        let mut state = ctx.state();
        state.config_mut().set_extension(Arc::new(self.clone()));
        SessionContext::new_with_state(state)
    }

    pub(crate) fn insert(&mut self, name: &str, function: TableFunction) {
        self.0.insert(name.to_lowercase(), Arc::new(function));
    }

    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(&name.to_lowercase()).is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<TableFunction>> {
        self.0.get(&name.to_lowercase())
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.keys().cloned().collect();
        names.sort();
        names
    }
}

/// An argument of a call.
#[derive(Debug, Clone)]
pub(crate) enum Argument {
    /// A value.
    Value(Expr),
    /// The rows of the call's table.
    Table,
}

/// The table that a call is given.
pub(crate) struct TableArgument<'a> {
    /// Its columns.
    pub(crate) columns: Vec<(String, Expr)>,
    /// `PARTITION BY`
    pub(crate) keys: Vec<Expr>,
    /// `ORDER BY`
    pub(crate) order: Vec<Sort>,
    /// `WITH SINGLE PARTITION`
    pub(crate) single_partition: bool,
    /// Plans the text of an expression over its columns.
    pub(crate) expression: &'a dyn Fn(&str) -> Result<Expr>,
}

/// What each row before a lateral call is joined with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carried {
    /// The columns of the row.
    pub(crate) columns: Vec<Expr>,
    /// Whether a row stays that the function gives nothing for.
    pub(crate) outer: bool,
}

/// A call.
pub(crate) struct TableCall<'a> {
    pub(crate) function: &'a TableFunction,
    /// The rows that arguments are computed from: those of the table, those before a lateral call, or one without columns.
    pub(crate) input: LogicalPlan,
    pub(crate) arguments: Vec<(Option<String>, Argument)>,
    pub(crate) table: Option<TableArgument<'a>>,
    pub(crate) carried: Carried,
}

impl TableCall<'_> {
    /// The node that runs the call, and the names of the columns that the function gives. In the plan they stand behind those
    /// that are carried, under names that are unique in it.
    ///
    /// # Errors
    /// Those of `analyze`; `UDTF_RETURN_SCHEMA_NOT_STRUCT`, `UDTF_RETURN_TYPE…` (`User`) for what are no rows.
    pub(crate) fn plan(mut self, session: &SessionState) -> Result<(PythonRelation, Vec<String>)> {
        let (returns, analysis) = match &self.function.returns {
            Some(returns) => (returns.clone(), None),
            None => {
                let analysis = self.analyzed(session)?;
                (DataType::Struct(analysis.0.fields().clone()), Some(analysis.1))
            }
        };
        let function = &self.function.function;
        let DataType::Struct(fields) = canonical(&returns) else {
            return Err(Error::user(format!("the Python function `{}` must return rows", function.name))
                .with_condition("UDTF_RETURN_SCHEMA_NOT_STRUCT"));
        };
        let (mut names, mut exprs, mut partitions) = (Vec::new(), Vec::new(), None);
        let row = self.table.as_ref().map(|table| whole_row(table, session)).transpose()?;
        for (i, (name, argument)) in self.arguments.iter().enumerate() {
            let value = match argument {
                Argument::Value(value) => value.clone(),
                Argument::Table => row.clone().ok_or_else(|| Error::internal("a table argument without a table"))?,
            };
            exprs.push(value.alias(format!("__argument_{i}")));
            names.push(name.clone());
        }
        if let Some(table) = &self.table
            && (!table.keys.is_empty() || !table.order.is_empty() || table.single_partition)
        {
            let keys = table.keys.iter().map(|key| key.clone().sort(true, true));
            let sorts: Vec<Sort> = keys.chain(table.order.iter().cloned()).collect();
            let first = table.columns.len();
            partitions = Some(TablePartitions {
                keys: table.keys.len(),
                order: sorts.iter().map(|s| SortOptions { descending: !s.asc, nulls_first: s.nulls_first }).collect(),
                positions: (first..first + table.keys.len()).map(|at| at as i32).collect(),
            });
            exprs.extend(sorts.into_iter().enumerate().map(|(i, sort)| sort.expr.alias(format!("__key_{i}"))));
        }
        let carried = self.carried.columns.len();
        exprs.extend(self.carried.columns.iter().enumerate().map(|(i, e)| e.clone().alias(format!("__carried_{i}"))));
        let plan = LogicalPlanBuilder::from(self.input.clone()).project(exprs)?.build()?;
        let shape = function.shape()?;
        let before = plan.schema().fields().iter().skip(plan.schema().fields().len() - carried);
        let before: Vec<Field> = before.map(|field| field.as_ref().clone()).collect();
        let (schema, given) = output_schema(before, &fields)?;
        let input = PythonInput { plan, names: (0..names.len()).map(|i| format!("_{i}")).collect() };
        let node = PythonRelation {
            function: function.clone(),
            shape,
            inputs: vec![input],
            arguments: names,
            partitions,
            analysis,
            carried: (carried > 0).then_some((carried, self.carried.outer)),
            schema: Arc::new(schema),
        };
        Ok((node, given))
    }

    /// What `analyze` says of the call: its columns, and the pickled answer. What it says of the table is done.
    fn analyzed(&mut self, session: &SessionState) -> Result<(Schema, Bytes)> {
        let schema = self.input.schema();
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (name, argument) in &self.arguments {
            let (data_type, value) = match (argument, &self.table) {
                (Argument::Value(value), _) => (value.get_type(schema.as_ref())?, constant(value, session)?),
                (Argument::Table, Some(table)) => {
                    let field = |(name, expr): &(String, Expr)| {
                        Ok(Field::new(name, canonical(&expr.get_type(schema.as_ref())?), true))
                    };
                    (DataType::Struct(table.columns.iter().map(field).collect::<Result<Fields>>()?), None)
                }
                (Argument::Table, None) => return Err(Error::internal("a table argument without a table")),
            };
            let data_type = canonical(&data_type);
            let is_table = matches!(argument, Argument::Table);
            arguments.push(AnalyzedArgument { name: name.clone(), data_type, value, is_table });
        }
        let analysis = analyze(&self.function.function, &arguments, &conf_of(session))?;
        let asks = analysis.single_partition || !analysis.partition_by.is_empty() || !analysis.order_by.is_empty();
        if let Some(table) = &mut self.table {
            let says = table.single_partition || !table.keys.is_empty() || !table.order.is_empty();
            if says && (analysis.single_partition || !analysis.partition_by.is_empty()) {
                return Err(Error::user(format!(
                    "the table function `{}` partitions its table itself",
                    self.function.function.name
                ))
                .with_condition("TABLE_VALUED_FUNCTION_REQUIRED_METADATA_INCOMPATIBLE_WITH_CALL")
                .with_help("Leave PARTITION BY, ORDER BY and WITH SINGLE PARTITION out of the call."));
            }
            if asks {
                let keys = analysis.partition_by.iter().map(|text| (table.expression)(text));
                table.keys = keys.collect::<Result<_>>()?;
                let sort = |(text, ascending, nulls_first): &(String, bool, Option<bool>)| {
                    Ok((table.expression)(text)?.sort(*ascending, nulls_first.unwrap_or(*ascending)))
                };
                table.order = analysis.order_by.iter().map(sort).collect::<Result<_>>()?;
                table.single_partition = analysis.single_partition;
            }
            if !analysis.select.is_empty() {
                let column = |(text, alias): &(String, String)| {
                    let name = if alias.is_empty() { text } else { alias };
                    Ok((name.clone(), (table.expression)(text)?))
                };
                table.columns = analysis.select.iter().map(column).collect::<Result<_>>()?;
            }
        }
        Ok((analysis.schema, analysis.pickled))
    }
}

/// The value of an expression that is the same whatever the row.
fn constant(expr: &Expr, session: &SessionState) -> Result<Option<ScalarValue>> {
    if let Expr::Literal(value, _) = expr {
        return Ok(Some(value.clone()));
    }
    if expr.is_volatile() || expr.any_column_refs() || refers_outside(expr)? {
        return Ok(None);
    }
    let analyzed = analyzed_expr(expr.clone(), &DFSchema::empty(), &conf_of(session))?;
    let evaluated = session.create_physical_expr(analyzed, &DFSchema::empty())?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    let value = evaluated.evaluate(&row)?.into_array(1)?;
    Ok(Some(ScalarValue::try_from_array(&value, 0)?))
}

/// Whether an expression holds a subquery, or refers to columns around it.
fn refers_outside(expr: &Expr) -> Result<bool> {
    let outside = |part: &Expr| {
        matches!(part, Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_))
    };
    Ok(expr.exists(|part| Ok(outside(part)))?)
}

/// All columns of the table as a struct, and behind them what its rows are partitioned by.
fn whole_row(table: &TableArgument<'_>, session: &SessionState) -> Result<Expr> {
    let mut parts = Vec::new();
    for (name, expr) in &table.columns {
        parts.extend([lit(name.as_str()), expr.clone()]);
    }
    for (i, key) in table.keys.iter().enumerate() {
        parts.extend([lit(format!("partition_by_{i}")), key.clone()]);
    }
    Ok(Expr::ScalarFunction(ScalarFunction { func: session.udf("named_struct")?, args: parts }))
}

/// The columns of the node, and the names that those of the function are declared by.
fn output_schema(before: Vec<Field>, fields: &Fields) -> Result<(DFSchema, Vec<String>)> {
    let mut all = before;
    for field in fields {
        let taken = |name: &str| all.iter().any(|known| known.name() == name);
        let again = (1..).map(|n| format!("{}_{n}", field.name()));
        let name = std::iter::once(field.name().clone()).chain(again).find(|name| !taken(name));
        let name = name.ok_or_else(|| Error::internal("no name is free"))?;
        all.push(field.as_ref().clone().with_name(name));
    }
    let names = fields.iter().map(|field| field.name().clone()).collect();
    Ok((DFSchema::try_from(Schema::new(all))?, names))
}
