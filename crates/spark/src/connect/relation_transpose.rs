//! `transpose`: rows become columns. The columns of the result are values of the input, so that it is read when
//! the plan is made.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};

use super::context::Planner;
use super::expression::Expressions;
use super::proto;
use super::scope::{Output, Scope};
use super::{faces, generator};
use crate::error::{Error, Result};
use crate::streaming::is_streaming;

/// The most rows that can become columns, as in Spark (`spark.sql.transposeMaxValues`).
const MAX_ROWS: usize = 500;

impl Planner<'_> {
    /// One row per column but the index, one column per value of the index.
    pub(super) async fn transpose(&self, transpose: &proto::Transpose) -> Result<Scope> {
        let scope = self.input(&transpose.input).await?;
        if is_streaming(&scope.plan) {
            return Err(Error::unsupported("`transpose` of a stream"));
        }
        let index = match transpose.index_columns.as_slice() {
            [] => scope.visible().next().map(|column| column.expr()),
            [column] => Some(Expressions::new(self, &scope).plan(column)?.unalias()),
            _ => return Err(Error::user("`transpose` takes one index column")),
        };
        let index = index.ok_or_else(|| Error::user("`transpose` needs a column"))?;
        let others: Vec<_> = scope.visible().filter(|column| column.expr() != index).cloned().collect();
        let mut data_type = DataType::Null;
        for column in &others {
            data_type = faces::common_type(&data_type, &scope.data_type(column)?)
                .map_err(|error| error.with_condition("TRANSPOSE_NO_LEAST_COMMON_TYPE"))?;
        }
        let rows = self.index_and_values(&scope, index, &others, &data_type).await?;
        let names = std::iter::once("key".to_owned()).chain(rows.iter().map(|(name, _)| name.clone())).collect();
        let mut structs = Vec::new();
        for (i, column) in others.iter().enumerate() {
            let mut parts = vec![lit("key"), lit(column.name.as_str())];
            for (position, (_, values)) in rows.iter().enumerate() {
                parts.extend([lit(format!("c{position}")), lit(values[i].clone())]);
            }
            structs.push(faces::scalar_function(self, "named_struct", parts)?);
        }
        self.rows_of(structs, names)
    }

    /// The name and the values that each row becomes a column of, in the order of the index; rows without an
    /// index value are left out.
    async fn index_and_values(
        &self,
        scope: &Scope,
        index: Expr,
        others: &[super::scope::ScopeColumn],
        data_type: &DataType,
    ) -> Result<Vec<(String, Vec<ScalarValue>)>> {
        let cast =
            |expr: Expr, to: &DataType| faces::cast(expr, to, faces::CastMode::Legacy, scope.schema(), &self.conf);
        let mut exprs = vec![cast(index.clone(), &DataType::Utf8)?.alias("index")];
        for (i, column) in others.iter().enumerate() {
            exprs.push(cast(column.expr(), data_type)?.alias(format!("value{i}")));
        }
        let plan = LogicalPlanBuilder::from(scope.plan.clone())
            .filter(index.clone().is_not_null())?
            .sort(vec![index.sort(true, true)])?
            .project(exprs)?
            .limit(0, Some(MAX_ROWS + 1))?
            .build()?;
        let mut rows = Vec::new();
        for batch in DataFrame::new(self.state.as_ref().clone(), plan).collect().await? {
            for row in 0..batch.num_rows() {
                let name = ScalarValue::try_from_array(batch.column(0), row)?;
                let name = name.try_as_str().flatten().unwrap_or_default().to_owned();
                let values = batch.columns()[1..]
                    .iter()
                    .map(|column| ScalarValue::try_from_array(column, row))
                    .collect::<Result<_, _>>()?;
                rows.push((name, values));
            }
        }
        if rows.len() > MAX_ROWS {
            return Err(Error::user(format!("`transpose` of more than {MAX_ROWS} rows"))
                .with_condition("TRANSPOSE_EXCEED_ROW_LIMIT"));
        }
        Ok(rows)
    }

    /// A relation of literal structs.
    fn rows_of(&self, structs: Vec<Expr>, names: Vec<String>) -> Result<Scope> {
        let nothing = Scope::new(LogicalPlanBuilder::empty(true).build()?, &[]);
        if structs.is_empty() {
            let outputs = names.into_iter().map(|name| Output::computed(lit(""), name)).collect();
            let empty = nothing.project(outputs, &self.names)?;
            let plan = LogicalPlanBuilder::from(empty.plan.clone()).limit(0, Some(0))?.build()?;
            return Ok(empty.with_plan(plan));
        }
        let list = faces::scalar_function(self, "make_array", structs)?;
        let expressions = Expressions::new(self, &nothing);
        let generator = generator::inline(&expressions, list, &names)?;
        self.project_items(nothing.clone(), vec![super::expression::Item::Generator(generator)])
    }
}
