//! Expressions of the protocol as DataFusion expressions over the columns of a [`Scope`].

use arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Exists, InSubquery, LambdaVariable};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, Operator, SortExpr, Subquery, lit};

use super::column_pattern::ColumnPattern;
use super::context::Planner;
use super::proto::Expression;
use super::proto::expression::{self, ExprType, SortOrder, cast, sort_order};
use super::scope::{Output, Scope, ScopeColumn, split_identifier};
use super::{faces, generator, literal, name, types};
use crate::error::{Error, Result};
use crate::types::{is_variant, struct_fields};

/// What one expression of a `select` gives.
#[derive(Debug)]
pub(super) enum Item {
    /// An output column.
    Column(Output),
    /// Rows made out of one row: `explode` and its family.
    Generator(generator::Generator),
}

/// Plans expressions over one relation.
pub(super) struct Expressions<'a> {
    pub planner: &'a Planner<'a>,
    pub scope: &'a Scope,
    /// The variables of the lambda functions around, innermost last.
    pub variables: Vec<(String, LambdaVariable)>,
}

impl<'a> Expressions<'a> {
    /// Expressions over `scope`.
    pub fn new(planner: &'a Planner<'a>, scope: &'a Scope) -> Self {
        Self { planner, scope, variables: Vec::new() }
    }

    /// The output columns of a `select` list: stars expanded, columns named as Spark names them.
    pub fn items(&self, exprs: &[Expression]) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(exprs.len());
        for expr in exprs {
            self.item(expr, &mut items)?;
        }
        Ok(items)
    }

    /// As [`Self::items`], where no generator may stand.
    pub fn outputs(&self, exprs: &[Expression]) -> Result<Vec<Output>> {
        self.items(exprs)?
            .into_iter()
            .map(|item| match item {
                Item::Column(output) => Ok(output),
                Item::Generator(generator) => {
                    Err(Error::user(format!("the generator `{}` is not allowed here", generator.function))
                        .with_condition("UNSUPPORTED_GENERATOR.OUTSIDE_SELECT"))
                }
            })
            .collect()
    }

    fn item(&self, expr: &Expression, items: &mut Vec<Item>) -> Result<()> {
        let expanded = self.without_stars(expr);
        let expr = expanded.as_ref().unwrap_or(expr);
        match kind(expr)? {
            ExprType::UnresolvedStar(star) => {
                items.extend(self.star(star)?.into_iter().map(Item::Column));
            }
            ExprType::UnresolvedRegex(regex) => {
                items.extend(self.regex(&regex.col_name)?.into_iter().map(Item::Column));
            }
            ExprType::Alias(alias) => {
                let inner = required(alias.expr.as_deref())?;
                if let Some(generator) = generator::of(self, inner, &alias.name)? {
                    items.push(Item::Generator(generator));
                    return Ok(());
                }
                let [name] = alias.name.as_slice() else {
                    return Err(Error::user("only a generator such as `explode` can have several names"));
                };
                let mut planned = self.plan(inner)?.unalias();
                if let Some(metadata) = alias.metadata.as_deref().filter(|text| *text != "{}") {
                    let metadata = types::metadata_from_json(metadata);
                    planned = planned.alias_with_metadata(
                        name,
                        Some(metadata.into_iter().collect::<std::collections::BTreeMap<_, _>>().into()),
                    );
                }
                items.push(Item::Column(Output::computed(planned, name)));
            }
            ExprType::UnresolvedAttribute(attribute) if self.variables.is_empty() => {
                let parts = split_identifier(&attribute.unparsed_identifier)?;
                let found = self.scope.resolve(&parts, attribute.plan_id, self.planner.conf.case_sensitive);
                if found.is_err()
                    && let Some(outer) = self.outer_attribute(&parts, attribute.plan_id)
                {
                    items.push(Item::Column(Output::computed(outer?, name::of_output(expr))));
                    return Ok(());
                }
                let (column, rest) = found?;
                if rest.is_empty() {
                    items.push(Item::Column(Output::passed(column)));
                } else {
                    let (expr, name) = self.nested(column, rest)?;
                    items.push(Item::Column(Output::computed(expr, name)));
                }
            }
            ExprType::ExpressionString(text) => self.sql_items(&text.expression, items)?,
            _ => match generator::of(self, expr, &[])? {
                Some(generator) => items.push(Item::Generator(generator)),
                None => items.push(Item::Column(Output::computed(self.plan(expr)?.unalias(), self.name_of(expr)?))),
            },
        }
        Ok(())
    }

    /// The name of an output column. A value of a map is named by its key, in brackets; a field by its name.
    fn name_of(&self, expr: &Expression) -> Result<String> {
        if let Some(ExprType::UnresolvedExtractValue(extract)) = &expr.expr_type {
            let child = required(extract.child.as_deref())?;
            if let DataType::Map(..) = self.plan(child)?.get_type(self.scope.schema())? {
                return Ok(format!(
                    "{}[{}]",
                    name::of(child),
                    extract.extraction.as_deref().map(name::of).unwrap_or_default()
                ));
            }
        }
        Ok(name::of_output(expr))
    }

    /// A call whose arguments hold a `*`, with all columns in its place; `count(*)` and `struct(*)` have their own
    /// meaning of it.
    fn without_stars(&self, expr: &Expression) -> Option<Expression> {
        let Some(ExprType::UnresolvedFunction(function)) = &expr.expr_type else { return None };
        let own = ["count", "struct"].iter().any(|name| function.function_name.eq_ignore_ascii_case(name));
        if own || !function.arguments.iter().any(name::is_star) {
            return None;
        }
        let mut arguments = Vec::new();
        for argument in &function.arguments {
            if !name::is_star(argument) {
                arguments.push(argument.clone());
                continue;
            }
            arguments.extend(self.scope.visible().map(|column| {
                let attribute = expression::UnresolvedAttribute {
                    unparsed_identifier: format!("`{}`", column.name.replace('`', "``")),
                    ..Default::default()
                };
                Expression { common: None, expr_type: Some(ExprType::UnresolvedAttribute(attribute)) }
            }));
        }
        let function = expression::UnresolvedFunction { arguments, ..function.clone() };
        Some(Expression { common: None, expr_type: Some(ExprType::UnresolvedFunction(function)) })
    }

    /// `selectExpr`: one item of a SQL select list.
    fn sql_items(&self, text: &str, items: &mut Vec<Item>) -> Result<()> {
        let star = text.trim();
        if star == "*" {
            items.extend(self.scope.visible().map(Output::passed).map(Item::Column));
            return Ok(());
        }
        if let Some(target) = star.strip_suffix(".*")
            && let Ok(parts) = split_identifier(target)
        {
            items.extend(self.qualified_star(&parts)?.into_iter().map(Item::Column));
            return Ok(());
        }
        if let Some((call, names)) = faces::generator_call(text)?
            && let Some(generator) = generator::of(self, &call, &names)?
        {
            items.push(Item::Generator(generator));
            return Ok(());
        }
        items.extend(faces::plan_select_item(self, text)?);
        Ok(())
    }

    fn star(&self, star: &expression::UnresolvedStar) -> Result<Vec<Output>> {
        if let Some(target) = &star.unparsed_target {
            return self.qualified_star(&split_identifier(target.strip_suffix(".*").unwrap_or(target))?);
        }
        let columns = self.scope.visible();
        Ok(match star.plan_id {
            Some(plan_id) => columns
                .filter(|column| column.origins.iter().any(|o| o.plan_id == plan_id))
                .map(Output::passed)
                .collect(),
            None => columns.map(Output::passed).collect(),
        })
    }

    /// `t.*` for a table or alias `t`, or the fields of a struct column `t`.
    fn qualified_star(&self, target: &[String]) -> Result<Vec<Output>> {
        let same = |a: &String, b: &String| a.eq_ignore_ascii_case(b);
        let of_table: Vec<_> = self
            .scope
            .visible()
            .filter(|column| {
                column.qualifier.len() >= target.len()
                    && column.qualifier[column.qualifier.len() - target.len()..]
                        .iter()
                        .zip(target)
                        .all(|(a, b)| same(a, b))
            })
            .map(Output::passed)
            .collect();
        if !of_table.is_empty() {
            return Ok(of_table);
        }
        let (column, rest) = self.scope.resolve(target, None, self.planner.conf.case_sensitive)?;
        let expr = if rest.is_empty() { column.expr() } else { self.nested(column, rest)?.0 };
        let data_type = expr.get_type(self.scope.schema())?;
        match struct_fields(&data_type) {
            Some(fields) => fields
                .iter()
                .map(|field| {
                    Ok(Output::computed(faces::get_field(self.planner, expr.clone(), field.name())?, field.name()))
                })
                .collect(),
            None => Err(Error::user(format!(
                "`{}` is of type `{}`: only a struct can be expanded with `.*`",
                target.join("."),
                faces::type_name(&data_type)
            ))
            .with_condition("INVALID_USAGE_OF_STAR_OR_REGEX")),
        }
    }

    fn regex(&self, pattern: &str) -> Result<Vec<Output>> {
        let inner = pattern.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let Some(inner) = inner else {
            let (column, _) =
                self.scope.resolve(&split_identifier(pattern)?, None, self.planner.conf.case_sensitive)?;
            return Ok(vec![Output::passed(column)]);
        };
        let pattern = ColumnPattern::new(inner, self.planner.conf.case_sensitive)?;
        Ok(self.scope.visible().filter(|column| pattern.matches(&column.name)).map(Output::passed).collect())
    }

    /// The expression of one message.
    ///
    /// # Errors
    /// `User` if names or types do not fit; `Unsupported` for expressions that cannot be run here.
    pub fn plan(&self, expr: &Expression) -> Result<Expr> {
        match kind(expr)? {
            ExprType::Literal(value) => Ok(lit(literal::scalar(value)?)),
            ExprType::UnresolvedAttribute(attribute) => {
                self.attribute(&attribute.unparsed_identifier, attribute.plan_id)
            }
            ExprType::UnresolvedFunction(function) => self.function(function),
            ExprType::CallFunction(call) => {
                let name = split_identifier(&call.function_name)?.pop().unwrap_or_default();
                self.call(&name, &call.arguments, false)
            }
            ExprType::ExpressionString(text) => faces::plan_expression(self, &text.expression),
            ExprType::Alias(alias) => {
                let [name] = alias.name.as_slice() else {
                    return Err(Error::user("only a generator such as `explode` can have several names"));
                };
                Ok(self.plan(required(alias.expr.as_deref())?)?.alias(name))
            }
            ExprType::Cast(cast) => self.cast(cast),
            ExprType::SortOrder(order) => self.plan(required(order.child.as_deref())?),
            ExprType::Window(window) => self.window(window),
            ExprType::UnresolvedExtractValue(extract) => {
                let child = self.plan(required(extract.child.as_deref())?)?.unalias();
                self.extract(child, self.plan(required(extract.extraction.as_deref())?)?)
            }
            ExprType::UpdateFields(update) => self.update_fields(update),
            ExprType::UnresolvedNamedLambdaVariable(variable) => self.attribute(&variable.name_parts.join("."), None),
            ExprType::NamedArgumentExpression(argument) => self.plan(required(argument.value.as_deref())?),
            ExprType::SubqueryExpression(subquery) => self.subquery(subquery),
            ExprType::UnresolvedStar(_) => {
                Err(Error::user("`*` is not allowed here").with_condition("INVALID_USAGE_OF_STAR_OR_REGEX"))
            }
            ExprType::UnresolvedRegex(regex) => match self.regex(&regex.col_name)?.as_slice() {
                [one] => Ok(one.expr.clone()),
                _ => Err(Error::user(format!("`{}` is not one column", regex.col_name))
                    .with_condition("INVALID_USAGE_OF_STAR_OR_REGEX")),
            },
            ExprType::CommonInlineUserDefinedFunction(function) => self.user_function(function),
            ExprType::LambdaFunction(_) => Err(Error::user("a lambda function can only be an argument of a function")),
            ExprType::MergeAction(_) => Err(Error::unsupported("`MERGE`")),
            ExprType::TypedAggregateExpression(_) => Err(Error::unsupported("a typed aggregate of the JVM")),
            ExprType::DirectShufflePartitionId(_) => Err(Error::unsupported("`partitionById`")),
            ExprType::Extension(any) => Err(Error::unsupported(format!("the expression extension `{}`", any.type_url))),
        }
    }

    /// As [`Self::plan`], for a list.
    pub fn plan_all(&self, exprs: &[Expression]) -> Result<Vec<Expr>> {
        exprs.iter().map(|expr| self.plan(expr)).collect()
    }

    /// A condition: a boolean, cast if it is of another type.
    pub fn condition(&self, expr: &Expression) -> Result<Expr> {
        let planned = self.plan(expr)?.unalias();
        match planned.get_type(self.scope.schema())? {
            DataType::Boolean => Ok(planned),
            DataType::Null => Ok(lit(ScalarValue::Boolean(None))),
            other => Err(Error::user(format!(
                "the condition `{}` is of type `{}`, expected `boolean`",
                name::of(expr),
                faces::type_name(&other)
            ))
            .with_condition("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN")),
        }
    }

    fn attribute(&self, identifier: &str, plan_id: Option<i64>) -> Result<Expr> {
        let parts = split_identifier(identifier)?;
        if let Some((_, variable)) = self.variables.iter().rev().find(|(name, _)| Some(name) == parts.first()) {
            let mut expr = Expr::LambdaVariable(variable.clone());
            for part in &parts[1..] {
                expr = faces::get_field(self.planner, expr, part)?;
            }
            return Ok(expr);
        }
        match self.scope.resolve(&parts, plan_id, self.planner.conf.case_sensitive) {
            Ok((column, [])) => Ok(column.expr()),
            Ok((column, rest)) => Ok(self.nested(column, rest)?.0),
            Err(error) => self.outer_attribute(&parts, plan_id).unwrap_or(Err(error)),
        }
    }

    /// A field inside a column, and its name.
    pub(super) fn nested(&self, column: &ScopeColumn, path: &[String]) -> Result<(Expr, String)> {
        let mut expr = column.expr();
        let mut name = column.name.clone();
        for part in path {
            expr = self.extract(expr, lit(part.as_str()))?;
            name.clone_from(part);
        }
        Ok((expr, name))
    }

    /// `child[key]`: a field of a struct, an element of an array (from 0), a value of a map.
    pub fn extract(&self, child: Expr, key: Expr) -> Result<Expr> {
        let schema = self.scope.schema();
        match (child.get_type(schema)?, &key) {
            (variant, _) if is_variant(&variant) => Err(not_extractable(&variant)),
            (DataType::Struct(fields), Expr::Literal(ScalarValue::Utf8(Some(wanted)), _)) => {
                faces::get_field(self.planner, child, self.field_of(&fields, wanted)?)
            }
            (DataType::Struct(_), _) => {
                Err(Error::user("the field of a struct must be named by a string")
                    .with_condition("INVALID_EXTRACT_FIELD"))
            }
            (DataType::List(element), Expr::Literal(ScalarValue::Utf8(Some(wanted)), _)) => match element.data_type() {
                DataType::Struct(fields) => Ok(faces::field_of_elements(child, self.field_of(fields, wanted)?)),
                other => Err(not_extractable(other)),
            },
            (DataType::List(_) | DataType::LargeList(_), _) => faces::element(self.planner, child, key, schema),
            (DataType::Map(..), _) => faces::map_value(self.planner, child, key, schema),
            (other, _) => Err(not_extractable(&other)),
        }
    }

    /// The field called `wanted`, as the struct spells it.
    fn field_of<'f>(&self, fields: &'f Fields, wanted: &str) -> Result<&'f str> {
        let same = |field: &&FieldRef| {
            field.name() == wanted || (!self.planner.conf.case_sensitive && field.name().eq_ignore_ascii_case(wanted))
        };
        fields.iter().find(same).map(|field| field.name().as_str()).ok_or_else(|| {
            let names: Vec<_> = fields.iter().map(|field| format!("`{}`", field.name())).collect();
            Error::user(format!("no such struct field `{wanted}` in {}", names.join(", ")))
                .with_condition("FIELD_NOT_FOUND")
        })
    }

    fn cast(&self, cast: &expression::Cast) -> Result<Expr> {
        let child = self.plan(required(cast.expr.as_deref())?)?.unalias();
        let to = match &cast.cast_to_type {
            Some(cast::CastToType::Type(data_type)) => types::to_arrow(data_type)?,
            Some(cast::CastToType::TypeStr(text)) => faces::parse_type(text)?,
            None => return Err(Error::internal("a cast without a type")),
        };
        let mode = match cast.eval_mode() {
            cast::EvalMode::Try => faces::CastMode::Try,
            cast::EvalMode::Ansi => faces::CastMode::Ansi,
            cast::EvalMode::Legacy => faces::CastMode::Legacy,
            cast::EvalMode::Unspecified if self.planner.conf.ansi => faces::CastMode::Ansi,
            cast::EvalMode::Unspecified => faces::CastMode::Legacy,
        };
        faces::cast(child, &to, mode, self.scope.schema(), &self.planner.conf)
    }

    /// `withField`, `dropFields`: the struct rebuilt with one field replaced, added or left out.
    fn update_fields(&self, update: &expression::UpdateFields) -> Result<Expr> {
        let base = self.plan(required(update.struct_expression.as_deref())?)?.unalias();
        let value = update.value_expression.as_deref().map(|value| self.plan(value)).transpose()?.map(Expr::unalias);
        let (first, rest) = {
            let mut parts = split_identifier(&update.field_name)?;
            let rest = parts.split_off(1);
            (parts.remove(0), rest)
        };
        self.with_field(base, &first, &rest, value)
    }

    fn with_field(&self, base: Expr, first: &str, rest: &[String], value: Option<Expr>) -> Result<Expr> {
        let DataType::Struct(fields) = base.get_type(self.scope.schema())? else {
            return Err(Error::user(format!("cannot change field `{first}` of something that is not a struct")));
        };
        let same =
            |name: &str| name == first || (!self.planner.conf.case_sensitive && name.eq_ignore_ascii_case(first));
        let mut arguments = Vec::with_capacity(fields.len() * 2);
        let mut found = false;
        for field in &fields {
            let old = faces::get_field(self.planner, base.clone(), field.name())?;
            let new = match (same(field.name()), rest.split_first()) {
                (false, _) => Some(old),
                (true, Some((next, deeper))) => Some(self.with_field(old, next, deeper, value.clone())?),
                (true, None) => value.clone(),
            };
            found |= same(field.name());
            if let Some(new) = new {
                arguments.extend([lit(field.name().as_str()), new]);
            }
        }
        if !found && let (Some(value), true) = (value, rest.is_empty()) {
            arguments.extend([lit(first), value]);
        }
        let rebuilt = faces::scalar_function(self.planner, "named_struct", arguments)?;
        Ok(datafusion::logical_expr::when(base.is_not_null(), rebuilt).end()?)
    }

    fn subquery(&self, message: &super::proto::SubqueryExpression) -> Result<Expr> {
        use super::proto::subquery_expression::SubqueryType;
        let plan = self.planner.subqueries.get(&message.plan_id).ok_or_else(|| {
            Error::internal(format!("the subquery refers to plan {}, which was not sent", message.plan_id))
        })?;
        let (values, columns) = (message.in_subquery_values.len(), plan.schema().fields().len());
        if message.subquery_type() == SubqueryType::In && values != columns {
            return Err(Error::user(format!("`IN` compares {values} values with {columns} columns of a subquery"))
                .with_condition("DATATYPE_MISMATCH.IN_SUBQUERY_LENGTH_MISMATCH")
                .with_help("Select as many columns as there are values."));
        }
        let plan = match (message.subquery_type(), plan.schema().columns().as_slice()) {
            // Under a name of its own, it cannot be taken for a column of the query around.
            (SubqueryType::In, [column]) => {
                let renamed = Expr::Column(column.clone()).alias(self.planner.names.unique("in"));
                LogicalPlanBuilder::from(plan.clone()).project([renamed])?.build()?
            }
            // Several are compared at once, as structures.
            (SubqueryType::In, columns) => {
                let structure = self.row(columns.iter().cloned().map(Expr::Column).collect())?;
                let structure = structure.alias(self.planner.names.unique("in"));
                LogicalPlanBuilder::from(plan.clone()).project([structure])?.build()?
            }
            _ => plan.clone(),
        };
        let subquery = Subquery {
            outer_ref_columns: plan.all_out_ref_exprs(),
            subquery: std::sync::Arc::new(plan),
            spans: Default::default(),
        };
        match message.subquery_type() {
            SubqueryType::Scalar => Ok(Expr::ScalarSubquery(subquery)),
            SubqueryType::Exists => Ok(Expr::Exists(Exists::new(subquery, false))),
            SubqueryType::In => match message.in_subquery_values.as_slice() {
                [value] => Ok(Expr::InSubquery(InSubquery::new(Box::new(self.plan(value)?), subquery, false))),
                values => {
                    let values = values.iter().map(|value| Ok(self.plan(value)?.unalias())).collect::<Result<_>>()?;
                    Ok(Expr::InSubquery(InSubquery::new(Box::new(self.row(values)?), subquery, false)))
                }
            },
            SubqueryType::TableArg | SubqueryType::Unknown => Err(Error::unsupported("a table argument")),
        }
    }

    /// The values under the names `col0`, `col1` ..
    fn row(&self, values: Vec<Expr>) -> Result<Expr> {
        let parts = values.into_iter().enumerate().flat_map(|(i, value)| [lit(format!("col{i}")), value]);
        faces::scalar_function(self.planner, "named_struct", parts.collect())
    }

    /// The order of a sort or a window; NULLs are lowest unless said otherwise.
    pub fn sort(&self, order: &SortOrder) -> Result<SortExpr> {
        let expr = self.plan(required(order.child.as_deref())?)?.unalias();
        let ascending = order.direction() != sort_order::SortDirection::Descending;
        let nulls_first = match order.null_ordering() {
            sort_order::NullOrdering::SortNullsFirst => true,
            sort_order::NullOrdering::SortNullsLast => false,
            sort_order::NullOrdering::SortNullsUnspecified => ascending,
        };
        Ok(expr.sort(ascending, nulls_first))
    }

    /// Two operands and an operator, with Spark's coercion.
    pub fn binary(&self, left: Expr, operator: Operator, right: Expr) -> Result<Expr> {
        faces::binary_op(left, operator, right, self.scope.schema(), &self.planner.conf)
    }
}

/// The kind of an expression.
pub(super) fn kind(expr: &Expression) -> Result<&ExprType> {
    expr.expr_type.as_ref().ok_or_else(|| Error::internal("an expression without a kind"))
}

/// A part that every well-formed message has.
pub(super) fn required<T>(part: Option<&T>) -> Result<&T> {
    part.ok_or_else(|| Error::internal("a required part of the message is missing"))
}

fn not_extractable(from: &DataType) -> Error {
    Error::user(format!("cannot extract a value from `{}`", faces::type_name(from)))
        .with_condition("INVALID_EXTRACT_BASE_FIELD_TYPE")
}
