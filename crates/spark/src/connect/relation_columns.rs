//! Relations that change the columns: `select`, `withColumn`, renames, `drop`, `to`, `unpivot`.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::logical_expr::{ExprSchemable, lit};

use super::context::Planner;
use super::expression::{Expressions, Item, required};
use super::proto::expression::ExprType;
use super::proto::{self, Expression};
use super::scope::{Output, Scope, split_identifier};
use super::{faces, generator, types};
use crate::error::{Error, Result};

impl Planner<'_> {
    pub(super) async fn project(&self, project: &proto::Project) -> Result<Scope> {
        let scope = match &project.input {
            Some(input) => self.scope(input).await?,
            None => Scope::new(datafusion::logical_expr::LogicalPlanBuilder::empty(true).build()?, &[]),
        };
        let (planner, scope) = self.with_correlated(scope, &project.expressions).await?;
        let items = Expressions::new(&planner, &scope).items(&project.expressions)?;
        let exprs = items.iter().filter_map(|item| match item {
            Item::Column(output) => Some(&output.expr),
            Item::Generator(_) => None,
        });
        if find_aggregate_exprs(exprs).is_empty() {
            return self.project_items(scope, items);
        }
        let outputs = Expressions::new(&planner, &scope).outputs(&project.expressions)?;
        self.aggregated(scope, Vec::new(), None, outputs)
    }

    pub(super) async fn with_columns(&self, with: &proto::WithColumns) -> Result<Scope> {
        let scope = self.input(&with.input).await?;
        let exprs: Vec<Expression> = with
            .aliases
            .iter()
            .map(|alias| Expression { common: None, expr_type: Some(ExprType::Alias(Box::new(alias.clone()))) })
            .collect();
        let items = Expressions::new(self, &scope).items(&exprs)?;
        let names: Vec<String> = with.aliases.iter().map(|alias| alias.name.join(".")).collect();
        for (i, name) in names.iter().enumerate() {
            if names[..i].iter().any(|earlier| self.same(earlier, name)) {
                return Err(
                    Error::user(format!("column `{name}` is given twice")).with_condition("COLUMN_ALREADY_EXISTS")
                );
            }
        }
        let mut new: Vec<(String, Option<Item>)> = names.into_iter().zip(items.into_iter().map(Some)).collect();
        let mut all = Vec::new();
        for column in scope.visible() {
            match new.iter_mut().find(|(name, _)| self.same(name, &column.name)) {
                Some((_, item)) => all.extend(item.take()),
                None => all.push(Item::Column(Output::passed(column))),
            }
        }
        all.extend(new.into_iter().filter_map(|(_, item)| item));
        self.project_items(scope, all)
    }

    pub(super) async fn with_columns_renamed(&self, renamed: &proto::WithColumnsRenamed) -> Result<Scope> {
        let scope = self.input(&renamed.input).await?;
        #[allow(deprecated, reason = "clients before 4.0 send a map")]
        let old = renamed.rename_columns_map.iter().map(|(from, to)| (from.as_str(), to.as_str()));
        let renames: Vec<(&str, &str)> = renamed
            .renames
            .iter()
            .map(|rename| (rename.col_name.as_str(), rename.new_col_name.as_str()))
            .chain(old)
            .collect();
        let outputs = scope
            .visible()
            .map(|column| match renames.iter().find(|(from, _)| self.same(from, &column.name)) {
                Some((_, to)) => Output::renamed(column, *to),
                None => Output::passed(column),
            })
            .collect();
        self.projected(scope, outputs)
    }

    pub(super) async fn to_df(&self, to_df: &proto::ToDf) -> Result<Scope> {
        let scope = self.input(&to_df.input).await?;
        let count = scope.visible().count();
        if count != to_df.column_names.len() {
            return Err(Error::user(format!("`toDF` got {} names for {count} columns", to_df.column_names.len()))
                .with_condition("ASSIGNMENT_ARITY_MISMATCH"));
        }
        let outputs =
            scope.visible().zip(&to_df.column_names).map(|(column, name)| Output::renamed(column, name)).collect();
        self.projected(scope, outputs)
    }

    /// `drop`: columns that do not exist are ignored, as in Spark.
    pub(super) async fn drop_columns(&self, drop: &proto::Drop) -> Result<Scope> {
        let scope = self.input(&drop.input).await?;
        let mut dropped = Vec::new();
        for expr in &drop.columns {
            let Some(ExprType::UnresolvedAttribute(attribute)) = &expr.expr_type else {
                return Err(Error::user("`drop` takes columns, not expressions"));
            };
            let parts = split_identifier(&attribute.unparsed_identifier)?;
            match scope.resolve(&parts, attribute.plan_id, self.conf.case_sensitive) {
                Ok((column, [])) => dropped.push(column.column.clone()),
                Ok(_) => {}
                Err(error) if error.condition() == Some("AMBIGUOUS_REFERENCE") => return Err(error),
                Err(_) => {}
            }
        }
        let outputs = scope
            .visible()
            .filter(|column| !dropped.contains(&column.column))
            .filter(|column| !drop.column_names.iter().any(|name| self.same(name, &column.name)))
            .map(Output::passed)
            .collect();
        self.projected(scope, outputs)
    }

    /// `df.to(schema)`: columns by name, in the schema's order, cast to its types.
    pub(super) async fn to_schema(&self, to_schema: &proto::ToSchema) -> Result<Scope> {
        let scope = self.input(&to_schema.input).await?;
        let schema = types::to_arrow_schema(required(to_schema.schema.as_ref())?)?;
        let mut outputs = Vec::new();
        for field in schema.fields() {
            let output = match scope.visible().find(|column| self.same(&column.name, field.name())) {
                Some(column) if scope.data_type(column)? == *field.data_type() && field.metadata().is_empty() => {
                    Output { name: field.name().clone(), ..Output::passed(column) }
                }
                Some(column) => Output::computed(self.to_field(column.expr(), field, &scope)?, field.name()),
                None if field.is_nullable() => {
                    Output::computed(lit(ScalarValue::try_from(field.data_type())?), field.name())
                }
                None => {
                    return Err(Error::user(format!("column `{}` does not exist and cannot be NULL", field.name()))
                        .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION"));
                }
            };
            outputs.push(output);
        }
        scope.project(outputs, &self.names)
    }

    /// `unpivot` (`melt`): one row per value column.
    pub(super) async fn unpivot(&self, unpivot: &proto::Unpivot) -> Result<Scope> {
        let scope = self.input(&unpivot.input).await?;
        let expressions = Expressions::new(self, &scope);
        let ids = expressions.outputs(&unpivot.ids)?;
        let values = match &unpivot.values {
            Some(values) => expressions.outputs(&values.values)?,
            None => scope
                .visible()
                .filter(|column| !ids.iter().any(|id| id.expr == column.expr()))
                .map(Output::passed)
                .collect(),
        };
        if values.is_empty() {
            return Err(Error::user("`unpivot` needs at least one value column")
                .with_condition("UNPIVOT_REQUIRES_VALUE_COLUMNS"));
        }
        let mut data_type = DataType::Null;
        for value in &values {
            data_type = faces::common_type(&data_type, &value.expr.get_type(scope.schema())?)
                .map_err(|error| error.with_condition("UNPIVOT_VALUE_DATA_TYPE_MISMATCH"))?;
        }
        let rows = values
            .into_iter()
            .map(|value| {
                let cast = faces::cast(value.expr, &data_type, faces::CastMode::Legacy, scope.schema(), &self.conf)?;
                faces::scalar_function(self, "named_struct", vec![lit("variable"), lit(value.name), lit("value"), cast])
            })
            .collect::<Result<Vec<_>>>()?;
        let list = faces::scalar_function(self, "make_array", rows)?;
        let names = [unpivot.variable_column_name.clone(), unpivot.value_column_name.clone()];
        let generator = generator::inline(&expressions, list, &names)?;
        let items = ids.into_iter().map(Item::Column).chain([Item::Generator(generator)]).collect();
        self.project_items(scope, items)
    }

    /// Whether two names are the same column.
    pub(super) fn same(&self, a: &str, b: &str) -> bool {
        if self.conf.case_sensitive {
            a == b
        } else {
            a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
        }
    }
}
