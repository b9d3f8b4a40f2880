//! `explode` and its family: many rows out of one, as an unnest between two projections.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{NullHandling, UnnestOptions};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, lit};

use super::context::Planner;
use super::expression::{Expressions, Item};
use super::faces;
use super::proto::Expression;
use super::proto::expression::ExprType;
use super::scope::{Output, Scope};
use crate::error::{Error, Result};

/// What the elements of the list are turned into.
#[derive(Debug)]
enum Shape {
    /// One column `col`.
    Element,
    /// The columns `key` and `value` of a map's entries.
    Pair,
    /// One column per field of the element structs.
    Fields(Fields),
}

/// A planned generator.
#[derive(Debug)]
pub(super) struct Generator {
    /// The function, for messages.
    pub function: String,
    list: Expr,
    shape: Shape,
    with_position: bool,
    outer: bool,
    names: Vec<String>,
}

/// The generator that `expr` calls, if it calls one; `names` are the aliases given.
pub(super) fn of(expressions: &Expressions<'_>, expr: &Expression, names: &[String]) -> Result<Option<Generator>> {
    let (function, arguments) = match &expr.expr_type {
        Some(ExprType::UnresolvedFunction(function)) => (&function.function_name, &function.arguments),
        Some(ExprType::CallFunction(function)) => (&function.function_name, &function.arguments),
        _ => return Ok(None),
    };
    let name = function.to_ascii_lowercase();
    let (base, outer) = name.strip_suffix("_outer").map_or((name.as_str(), false), |base| (base, true));
    let generator = match (base, arguments.as_slice()) {
        ("explode" | "posexplode", [argument]) => {
            let list = expressions.plan(argument)?.unalias();
            exploded(expressions, function, list, base == "posexplode", outer, names)?
        }
        ("inline", [argument]) => {
            let list = expressions.plan(argument)?.unalias();
            inlined(expressions, function, list, outer, names)?
        }
        ("stack", [rows, values @ ..]) if !outer => stacked(expressions, rows, values, names)?,
        ("json_tuple", [_, _, ..]) if !outer => {
            let args = expressions.plan_all(arguments)?.into_iter().map(Expr::unalias).collect();
            let schema = expressions.scope.schema();
            let fields = faces::call(expressions.planner, "json_tuple", args, false, schema)?;
            let list = faces::scalar_function(expressions.planner, "make_array", vec![fields])?;
            inlined(expressions, function, list, false, names)?
        }
        ("variant_explode", [_]) => {
            let args = expressions.plan_all(arguments)?.into_iter().map(Expr::unalias).collect();
            let list = faces::call(expressions.planner, "variant_explode", args, false, expressions.scope.schema())?;
            inlined(expressions, function, list, outer, names)?
        }
        ("explode" | "posexplode" | "inline" | "stack" | "json_tuple" | "variant_explode", _) => {
            return Err(Error::user(format!("`{function}` got {} arguments", arguments.len()))
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
        }
        _ => return Ok(None),
    };
    Ok(Some(generator))
}

fn exploded(
    expressions: &Expressions<'_>,
    function: &str,
    list: Expr,
    with_position: bool,
    outer: bool,
    names: &[String],
) -> Result<Generator> {
    let (list, shape) = match list.get_type(expressions.scope.schema())? {
        DataType::Map(..) => (faces::scalar_function(expressions.planner, "map_entries", vec![list])?, Shape::Pair),
        DataType::List(_) | DataType::LargeList(_) => (list, Shape::Element),
        other => {
            return Err(Error::user(format!(
                "`{function}` needs an array or a map, got `{}`",
                faces::type_name(&other)
            ))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    Ok(Generator { function: function.to_owned(), list, shape, with_position, outer, names: names.to_vec() })
}

fn inlined(
    expressions: &Expressions<'_>,
    function: &str,
    list: Expr,
    outer: bool,
    names: &[String],
) -> Result<Generator> {
    let fields = match list.get_type(expressions.scope.schema())? {
        DataType::List(item) | DataType::LargeList(item) => match item.data_type() {
            DataType::Struct(fields) => Some(fields.clone()),
            _ => None,
        },
        _ => None,
    };
    let fields = fields.ok_or_else(|| {
        Error::user(format!("`{function}` needs an array of structs"))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
    })?;
    Ok(Generator {
        function: function.to_owned(),
        list,
        shape: Shape::Fields(fields),
        with_position: false,
        outer,
        names: names.to_vec(),
    })
}

/// `stack(n, v1, v2, ...)`: `n` rows of the values, as an array of structs.
fn stacked(
    expressions: &Expressions<'_>,
    rows: &Expression,
    values: &[Expression],
    names: &[String],
) -> Result<Generator> {
    let count = match expressions.plan(rows)?.unalias() {
        Expr::Literal(value, _) => match value.cast_to(&DataType::UInt64) {
            Ok(datafusion::common::ScalarValue::UInt64(Some(count))) if count > 0 => usize::try_from(count).ok(),
            _ => None,
        },
        _ => None,
    };
    let count = count.ok_or_else(|| Error::user("the first argument of `stack` must be a positive literal"))?;
    let values: Vec<Expr> = expressions.plan_all(values)?.into_iter().map(Expr::unalias).collect();
    let rows = rows_of(expressions, &values, count)?;
    let list = faces::scalar_function(expressions.planner, "make_array", rows)?;
    inlined(expressions, "stack", list, false, names)
}

/// The values as `count` structs of columns `col0`, `col1`, ..., each column of one type; what is missing is NULL.
fn rows_of(expressions: &Expressions<'_>, values: &[Expr], count: usize) -> Result<Vec<Expr>> {
    let width = values.len().div_ceil(count).max(1);
    let schema = expressions.scope.schema();
    let mut types = vec![DataType::Null; width];
    for (i, value) in values.iter().enumerate() {
        types[i % width] = faces::common_type(&types[i % width], &value.get_type(schema)?)?;
    }
    (0..count)
        .map(|row| {
            let row = values.get(row * width..).unwrap_or_default();
            let mut parts = Vec::with_capacity(width * 2);
            for (i, data_type) in types.iter().enumerate() {
                let value = row.get(i).cloned().unwrap_or_else(|| lit(datafusion::common::ScalarValue::Null));
                let value = faces::cast(value, data_type, faces::CastMode::Legacy, schema, &expressions.planner.conf)?;
                parts.extend([lit(format!("col{i}")), value]);
            }
            faces::scalar_function(expressions.planner, "named_struct", parts)
        })
        .collect()
}

/// A generator that turns the elements of `list`, an array of structs, into rows of these columns.
pub(super) fn inline(expressions: &Expressions<'_>, list: Expr, names: &[String]) -> Result<Generator> {
    inlined(expressions, "inline", list, false, names)
}

impl Planner<'_> {
    /// A projection whose list may hold one generator.
    pub(super) fn project_items(&self, scope: Scope, items: Vec<Item>) -> Result<Scope> {
        let generators = items.iter().filter(|item| matches!(item, Item::Generator(_))).count();
        if generators > 1 {
            return Err(Error::user("only one generator such as `explode` is allowed per `select`")
                .with_condition("UNSUPPORTED_GENERATOR.MULTI_GENERATOR"));
        }
        let mut before = Vec::new();
        let mut generator = None;
        for item in items {
            match item {
                Item::Column(output) => before.push(output),
                Item::Generator(found) => generator = Some((before.len(), found)),
            }
        }
        match generator {
            None => self.projected(scope, before),
            Some((position, generator)) => self.generate(scope, before, position, generator),
        }
    }

    fn generate(&self, scope: Scope, others: Vec<Output>, position: usize, generator: Generator) -> Result<Scope> {
        let mut lists = vec![Output::computed(generator.list.clone(), self.names.unique("element"))];
        if generator.with_position {
            lists.push(Output::computed(self.positions(&generator.list)?, self.names.unique("position")));
        }
        let added = lists.len();
        let width = others.len();
        let scope = scope.project(others.into_iter().chain(lists).collect(), &self.names)?;
        let lists: Vec<_> = scope.columns[width..width + added].iter().map(|column| column.column.clone()).collect();
        let handling = if generator.outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
        let options = UnnestOptions::new().with_null_handling(handling);
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).unnest_columns_with_options(lists, options)?.build()?;
        let scope = scope.with_plan(plan);
        let mut outputs: Vec<_> = scope.columns[..width].iter().map(Output::passed).collect();
        let made = self.generated(
            &generator,
            scope.columns[width].expr(),
            (added == 2).then(|| scope.columns[width + 1].expr()),
        )?;
        outputs.splice(position..position, made);
        scope.project(outputs, &self.names)
    }

    /// The positions of a list's elements, from 0.
    fn positions(&self, list: &Expr) -> Result<Expr> {
        let length = faces::scalar_function(self, "array_length", vec![list.clone()])?;
        let length = faces::plain_cast(length, &DataType::Int64);
        let positions = faces::scalar_function(self, "range", vec![lit(0_i64), length])?;
        Ok(positions)
    }

    fn generated(&self, generator: &Generator, element: Expr, position: Option<Expr>) -> Result<Vec<Output>> {
        let mut columns = Vec::new();
        if let Some(position) = position {
            columns.push((faces::plain_cast(position, &DataType::Int32), "pos".to_owned()));
        }
        match &generator.shape {
            Shape::Element => columns.push((element, "col".to_owned())),
            Shape::Pair => {
                for field in ["key", "value"] {
                    columns.push((faces::get_field(self, element.clone(), field)?, field.to_owned()));
                }
            }
            Shape::Fields(fields) => {
                for field in fields {
                    columns.push((faces::get_field(self, element.clone(), field.name())?, field.name().clone()));
                }
            }
        }
        if !generator.names.is_empty() && generator.names.len() != columns.len() {
            return Err(Error::user(format!(
                "`{}` makes {} columns, but {} names are given",
                generator.function,
                columns.len(),
                generator.names.len()
            ))
            .with_condition("UDTF_ALIAS_NUMBER_MISMATCH"));
        }
        let names = generator.names.iter().cloned().map(Some).chain(std::iter::repeat(None));
        Ok(columns
            .into_iter()
            .zip(names)
            .map(|((expr, name), alias)| Output::computed(expr, alias.unwrap_or(name)))
            .collect())
    }
}
