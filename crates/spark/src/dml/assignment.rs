//! `SET column = value`: the values of all columns of a row, cast as Spark casts what it stores.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, lit, when};

use crate::cast::{CastMode, assign_expr, spark_cast};
use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::types::{is_variant, struct_fields};

/// The field metadata key of a generated column's expression, as Delta has it.
const GENERATED: &str = "delta.generationExpression";
/// The field metadata key of a column's default, as Spark has it.
const DEFAULT: &str = "CURRENT_DEFAULT";

/// The values of the columns of a table, in order; `None`: not assigned.
pub(crate) type Assignments = Vec<Option<Expr>>;

/// A value for a column, or for a field of a column that is a struct.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    /// The column, and the fields within.
    pub path: Vec<String>,
    /// The value; `None` for the default.
    pub value: Option<Expr>,
    /// Where the assignment stands, if that is known.
    pub location: Option<SourceLocation>,
}

/// What values are assigned to.
pub(crate) struct Target<'a> {
    /// The columns of the table.
    pub schema: &'a SchemaRef,
    /// The columns as expressions, in the same order.
    pub current: &'a [Expr],
    /// The columns that values are made of.
    pub input: &'a DFSchema,
    pub ctx: &'a SessionContext,
    pub conf: &'a SparkConf,
}

/// The position of a column, in any case.
pub(crate) fn column_of(schema: &SchemaRef, name: &str) -> Option<usize> {
    schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))
}

/// Whether the values of a column follow from those of others.
pub(super) fn generation(field: &Field) -> Option<&str> {
    field.metadata().get(GENERATED).map(String::as_str)
}

impl Target<'_> {
    /// The value of each column that `assigned` names.
    ///
    /// # Errors
    /// `UNRESOLVED_COLUMN.WITH_SUGGESTION` for a column that the table lacks; `DELTA_CONFLICT_SET_COLUMN` for one that is
    /// set twice; `DATATYPE_MISMATCH` for values of a type that the column's cannot be made of (all `User`).
    pub fn assignments(&self, assigned: Vec<Assigned>) -> Result<Assignments> {
        let mut values: Assignments = vec![None; self.schema.fields().len()];
        let mut paths: Vec<Vec<String>> = Vec::with_capacity(assigned.len());
        for one in assigned {
            let place = one.location.clone();
            self.assign(one, &mut values, &mut paths).map_err(|error| match place {
                Some(place) => error.at(place),
                None => error,
            })?;
        }
        Ok(values)
    }

    fn assign(&self, one: Assigned, values: &mut Assignments, paths: &mut Vec<Vec<String>>) -> Result<()> {
        let (name, fields) = one.path.split_first().ok_or_else(|| Error::internal("an assignment to nothing"))?;
        let index = column_of(self.schema, name).ok_or_else(|| self.unresolved(&one.path))?;
        let path: Vec<String> = one.path.iter().map(|part| part.to_lowercase()).collect();
        if paths.iter().any(|known| known.starts_with(&path) || path.starts_with(known)) {
            return Err(Error::user(format!("column `{}` is set more than once", one.path.join("`.`")))
                .with_condition("DELTA_CONFLICT_SET_COLUMN"));
        }
        paths.push(path);
        let field = self.schema.field(index);
        let value = match one.value {
            Some(value) => value,
            None => self.default(field)?,
        };
        let current = values[index].take().unwrap_or_else(|| self.current[index].clone());
        values[index] = Some(self.with_field(current, field.data_type(), fields, value, &one.path)?);
        Ok(())
    }

    /// `current` with the field at `path` replaced by `value`; `value` itself if the path has ended.
    fn with_field(
        &self,
        current: Expr,
        data_type: &DataType,
        path: &[String],
        value: Expr,
        whole: &[String],
    ) -> Result<Expr> {
        let Some((name, rest)) = path.split_first() else { return self.cast(value, data_type, whole) };
        let fields = match struct_fields(data_type) {
            Some(fields) if !is_variant(data_type) => fields,
            _ => {
                return Err(Error::user(format!("`{}` is no field: only structs have fields", whole.join("`.`")))
                    .with_condition("DELTA_UNSUPPORTED_NESTED_FIELD_IN_OPERATION")
                    .with_help("Set the whole column."));
            }
        };
        if !fields.iter().any(|field| field.name().eq_ignore_ascii_case(name)) {
            return Err(self.unresolved(whole));
        }
        let state = self.ctx.state();
        let functions = state.scalar_functions();
        let function = |name: &str, args: Vec<Expr>| -> Result<Expr> {
            let func = functions.get(name).ok_or_else(|| Error::internal(format!("there is no function `{name}`")))?;
            Ok(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(func), args }))
        };
        let mut arguments = Vec::with_capacity(fields.len() * 2);
        for field in fields {
            let old = function("get_field", vec![current.clone(), lit(field.name().as_str())])?;
            let new = match field.name().eq_ignore_ascii_case(name) {
                true => self.with_field(old, field.data_type(), rest, value.clone(), whole)?,
                false => old,
            };
            arguments.extend([lit(field.name().as_str()), new]);
        }
        let built = function("named_struct", arguments)?;
        self.cast(built, data_type, whole)
    }

    /// `value` as the column stores it: what does not fit is an error, structs go by name.
    fn cast(&self, value: Expr, to: &DataType, path: &[String]) -> Result<Expr> {
        let from = value.get_type(self.input)?;
        let cast = match (&from, to) {
            _ if &from == to => Ok(value),
            (DataType::Struct(_) | DataType::List(_) | DataType::Map(..), _)
                if !is_variant(&from) && from.is_nested() && to.is_nested() =>
            {
                assign_expr(value, &from, to)
            }
            _ => spark_cast(value, &from, to, CastMode::Ansi, self.conf),
        };
        cast.map_err(|error| error.context(format!("in the value of column `{}`", path.join("`.`"))))
    }

    /// What a column is if nothing is said.
    pub fn default(&self, field: &Field) -> Result<Expr> {
        match field.metadata().get(DEFAULT) {
            Some(text) => {
                let location = SourceLocation::new("<default>", 1, 1);
                crate::sql::plan_expression(self.ctx, text, &DFSchema::empty(), &location)
            }
            None => Ok(lit(ScalarValue::try_from(field.data_type())?)),
        }
    }

    /// The values of a row that is new: columns that are not assigned have their default.
    ///
    /// # Errors
    /// Those of the defaults.
    pub fn completed(&self, mut values: Assignments) -> Result<Assignments> {
        for (value, field) in values.iter_mut().zip(self.schema.fields()) {
            if value.is_none() && generation(field).is_none() {
                let default = self.default(field)?;
                *value = Some(self.cast(default, field.data_type(), std::slice::from_ref(field.name()))?);
            }
        }
        Ok(values)
    }

    fn unresolved(&self, path: &[String]) -> Error {
        let wanted = path.join(".").to_lowercase();
        let mut names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.sort_by_key(|name| strsim::damerau_levenshtein(&wanted, &name.to_lowercase()));
        let nearest: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
        Error::user(format!("column `{}` cannot be resolved", path.join("`.`")))
            .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
            .with_help(format!("Did you mean one of {}?", nearest.join(", ")))
    }
}

/// The generated columns, computed anew in the rows for which `anew` says so, by position.
///
/// # Errors
/// Those of planning the expressions.
pub(super) fn regenerated(
    ctx: &SessionContext,
    schema: &SchemaRef,
    row: &DFSchema,
    conf: &SparkConf,
    anew: impl Fn(usize) -> Option<Expr>,
) -> Result<Vec<(usize, Expr)>> {
    let mut generated = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let (Some(text), Some(condition)) = (generation(field), anew(index)) else { continue };
        let location = SourceLocation::new("<table property>", 1, 1);
        let value = crate::sql::plan_expression(ctx, text, row, &location)?.unalias();
        let from = value.get_type(row)?;
        let value = spark_cast(value, &from, field.data_type(), CastMode::Ansi, conf)?;
        generated.push((index, when(condition, value).otherwise(own(field))?));
    }
    Ok(generated)
}

/// The column of that name in rows of the table.
pub(super) fn own(field: &FieldRef) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(field.name()))
}
